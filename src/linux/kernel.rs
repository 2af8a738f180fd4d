//! What carob cannot do without, of what is newer than Linux 5.2. The kernel is asked
//! for the calls, not for its version: distributions carry newer calls to older kernels,
//! and a seccomp filter takes them from newer ones. docs/kernels.md lists what else is
//! used, and what takes its place on kernels without it.

use crate::sys::probe;
use crate::{Error, Result};

struct Feature {
    name: &'static str,
    since: (u32, u32),
    is_there: fn() -> bool,
}

const NEEDED: [Feature; 4] = [
    Feature {
        name: "mount_setattr(2)",
        since: (5, 12),
        is_there: probe::has_mount_setattr,
    },
    Feature {
        name: "close_range(2) with CLOSE_RANGE_CLOEXEC",
        since: (5, 11),
        is_there: probe::has_close_range_cloexec,
    },
    Feature {
        name: "clone3(2) with CLONE_INTO_CGROUP",
        since: (5, 7),
        is_there: probe::has_clone_into_cgroup,
    },
    Feature {
        name: "openat2(2)",
        since: (5, 6),
        is_there: probe::has_openat2,
    },
];

/// For each verb that makes something, before it does.
///
/// # Errors
/// [`crate::Kind::Unsupported`], with all that is missing.
pub(crate) fn check() -> Result<()> {
    let missing: Vec<&Feature> = NEEDED.iter().filter(|f| !(f.is_there)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let uname = nix::sys::utsname::uname()?;
    Err(refusal(&uname.release().to_string_lossy(), &missing))
}

fn refusal(release: &str, missing: &[&Feature]) -> Error {
    let list: Vec<String> = missing
        .iter()
        .map(|f| format!("{} (since Linux {}.{})", f.name, f.since.0, f.since.1))
        .collect();
    let error = Error::unsupported(format!(
        "the kernel, Linux {release}, does not have {}",
        list.join(", ")
    ));
    let newest = missing.iter().map(|f| f.since).max();
    match parse_release(release) >= newest {
        true => error.hint(
            "Linux of this version has it: a seccomp filter on this process may deny it, as \
             that of a container",
        ),
        false => error.hint("carob needs Linux 5.14 or later"),
    }
}

/// `5.14.0-503.el9.x86_64`: 5 and 14.
fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_what_is_needed() {
        check().unwrap();
    }

    #[test]
    fn an_old_kernel_is_told_from_a_filter() {
        let all: Vec<&Feature> = NEEDED.iter().collect();
        let old = refusal("5.10.0-30-amd64", &all[..2]);
        assert_eq!(
            old.to_string(),
            "the kernel, Linux 5.10.0-30-amd64, does not have mount_setattr(2) (since Linux \
             5.12), close_range(2) with CLOSE_RANGE_CLOEXEC (since Linux 5.11)"
        );
        assert_eq!(old.kind(), crate::Kind::Unsupported);
        assert_eq!(old.get_hint(), Some("carob needs Linux 5.14 or later"));
        for (release, text) in [
            ("6.18.44-fc", "seccomp"),
            ("5.12", "seccomp"),
            ("4.18.0-553.el8_10.x86_64", "5.14"),
            ("strange", "5.14"),
        ] {
            let hint = refusal(release, &all);
            let hint = hint.get_hint().unwrap();
            assert!(hint.contains(text), "{release}: {hint}");
        }
    }
}
