//! The systemd driver: a container's cgroup as a transient scope.
//!
//! systemd makes the cgroup and keeps it (`Delegate=`): a container's processes are
//! a unit of the machine, in the slice that was asked for, and `systemctl` shows
//! and stops them. What systemd has no property for is written to the cgroup
//! itself, and what it has one for is written there too, exactly as asked: systemd
//! rounds. See docs/decisions/0008-systemd-driver.md and
//! systemd.resource-control(5), org.freedesktop.systemd1(5).
//!
//! A scope cannot be made empty, so the order differs from the other driver's: the
//! child is cloned first and waits; [`start`] makes the scope around it; then it
//! may make its cgroup namespace.
//!
//! Pods use none of this; what they have of systemd is [`service`] and
//! [`omit_from_oomd`].

mod bus;
mod properties;
pub(crate) mod service;

use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

pub(crate) use crate::linux::dbus::wire::{Property, Value};
use bus::{Bus, Refusal};
pub use properties::annotated;
use properties::plan;

use super::resources::Resources;
use super::{Cgroup, Controllers, Hierarchies, Place, Select, io, v2};
use crate::sys::xattr::fsetxattr;
use crate::{Context, Error, Ignored, Kind, Result};

/// A scope of systemd's, by name; for a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    slice: String,
    unit: String,
    /// Of the caller's own manager and not of the system's.
    #[serde(default)]
    user: bool,
}

impl Scope {
    /// From `slice:prefix:name`, as container engines write it for this driver; without any, a scope of the id in the manager's default slice.
    pub fn from_path(path: Option<&Path>, id: &str, user: bool) -> Result<Scope> {
        let path = path.map_or("", |p| p.to_str().unwrap_or("\0"));
        let invalid = |what: &str| Error::invalid(format!("{path:?}: {what}"));
        let (slice, prefix, name) = match path.split(':').collect::<Vec<_>>()[..] {
            [""] => ("", "carob", id),
            [slice, prefix, name] if !name.is_empty() => (slice, prefix, name),
            _ => {
                return Err(invalid(
                    "has to be slice:prefix:name, for the systemd driver",
                ));
            }
        };
        let slice = match slice {
            "" if user => "user.slice",
            "" => "system.slice",
            slice => slice,
        };
        let stem = slice.strip_suffix(".slice").unwrap_or_default();
        let dashes =
            stem != "-" && (stem.starts_with('-') || stem.ends_with('-') || stem.contains("--"));
        if stem.is_empty() || dashes || escape(slice) != slice {
            return Err(invalid("is not the name of a slice"));
        }
        if name.ends_with(".slice") {
            return Err(invalid("a container is a scope, not a slice"));
        }
        let unit = match prefix {
            "" => format!("{}.scope", escape(name)),
            prefix => format!("{}-{}.scope", escape(prefix), escape(name)),
        };
        if unit.len() > 255 || slice.len() > 255 {
            return Err(invalid("a unit's name has 255 bytes at most"));
        }
        Ok(Scope {
            slice: slice.to_owned(),
            unit,
            user,
        })
    }

    pub fn unit(&self) -> &str {
        &self.unit
    }
}

/// What a unit's name cannot have, as `systemd-escape` writes it.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'-' | b'_' | b'.' => {
                out.push(b.into());
            }
            b'\\' | b'@' => out.push(b.into()),
            _ => out.push_str(&format!("\\x{b:02x}")),
        }
    }
    out
}

/// Makes the scope with `pid` in it, in every hierarchy, and limits it. `pid` is a
/// child of ours, of one thread, that waits; if that fails half-way, it is killed.
/// `annotations` are further properties ([`annotated`]), which go before ours.
pub(crate) fn start(
    h: &Hierarchies,
    scope: &Scope,
    pid: Pid,
    r: &Resources,
    annotations: &[Property],
) -> Result<Cgroup> {
    started(h, scope, pid, r, annotations)
        .with_context(|| format!("make the systemd scope {}", scope.unit))
}

fn started(
    h: &Hierarchies,
    scope: &Scope,
    pid: Pid,
    r: &Resources,
    annotations: &[Property],
) -> Result<Cgroup> {
    if h.v2().is_none() {
        // There systemd would reset the device rules whenever it looks at them, and
        // nothing else could hold them.
        return Err(
            Error::unsupported("the systemd driver needs a cgroup v2 hierarchy")
                .hint("boot with systemd.unified_cgroup_hierarchy=1"),
        );
    }
    let mut properties = unit_properties(scope, pid);
    properties.extend(plan(r, h.is_pure_v2()));
    for p in annotations {
        properties.retain(|(name, _)| *name != p.0);
        properties.push(p.clone());
    }
    let mut bus = connect(scope)?;
    loop {
        match bus.start_transient(&scope.unit, &properties) {
            Ok(()) => break,
            Err(e) if drop_newer(&e, &mut properties) => {}
            // One of the same name that failed is kept for people to look at.
            Err(e) if e.error.kind() == Kind::Conflict => {
                bus.reset_failed(&scope.unit).map_err(|_| e.error)?;
                bus.start_transient(&scope.unit, &properties)?;
                break;
            }
            Err(e) => return Err(e.into()),
        }
    }
    let made = (|| {
        let cgroup = Cgroup::create_at(h, &place_of(pid)?, Select::All)?;
        cgroup.refuse_frozen()?;
        cgroup.apply(r)?;
        if cgroup.v1_with(Controllers::DEVICES).is_some() {
            // systemd may write v1's rules anew; a program of ours it leaves alone.
            cgroup.apply_device_program(&r.devices)?;
        }
        cgroup.join_plan()?.put(pid)?;
        Ok(cgroup)
    })();
    if made.is_err() {
        // It may be the first of a pid namespace, which is deaf to systemd's SIGTERM.
        kill(pid, Signal::SIGKILL).ignored("the process may have ended already");
        let stopped: Result<()> = bus.stop(&scope.unit).map_err(Error::from);
        stopped.ignored("systemd removes a scope with its last process");
    }
    made
}

/// Tells systemd-oomd(8) not to choose this cgroup, which is not a unit: the same as
/// `ManagedOOMPreference=omit` for one.
pub(crate) fn omit_from_oomd(cgroup: &Cgroup) {
    let Some(v2) = cgroup.hierarchies.v2() else {
        return;
    };
    if let Ok(dir) = io::open_dir(v2, cgroup.path_in(v2), OFlag::O_RDONLY) {
        fsetxattr(dir, c"user.oomd_omit", b"1")
            .ignored("before Linux 5.7 cgroups have no user.* attributes");
    }
}

/// What a transient unit may take. A manager under load answers late; systemctl
/// waits 90 s for jobs.
const PATIENCE: Duration = Duration::from_secs(60);

fn connect(scope: &Scope) -> Result<Bus> {
    Bus::connect(scope.user, PATIENCE).map_err(|e| match e.kind() {
        Kind::Unsupported if e.get_hint().is_none() => {
            e.hint("the systemd cgroup driver needs a running systemd; the other is cgroupfs")
        }
        _ => e,
    })
}

/// Where systemd has put the process. Its own name for the place may differ from
/// what the slice suggests: a user's manager has its slices below its own cgroup.
fn place_of(pid: Pid) -> Result<Place> {
    let file = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let path = text.lines().find_map(|l| l.strip_prefix("0::/"));
    match path.filter(|p| p.ends_with(".scope")) {
        Some(path) => Place::new(path),
        None => Err(Error::failed(format!(
            "systemd has not moved process {pid}: {file} has {:?}",
            text.trim()
        ))),
    }
}

/// Properties that older systemds do not know are left out; the cgroup has the
/// limits all the same. True if there was one to leave out.
fn drop_newer(e: &Refusal, properties: &mut Vec<Property>) -> bool {
    // 242, 244
    const NEWER: [&str; 3] = ["CPUQuotaPeriodUSec", "AllowedCPUs", "AllowedMemoryNodes"];
    let before = properties.len();
    if e.name == "org.freedesktop.DBus.Error.PropertyReadOnly" {
        properties.retain(|(name, _)| !NEWER.contains(&name.as_str()));
    }
    properties.len() < before
}

/// New limits for a scope that runs. The cgroup has them first: what it refuses,
/// systemd is not told. And once more when systemd has written what it makes of
/// them.
pub(crate) fn update(scope: &Scope, cgroup: &Cgroup, r: &Resources) -> Result<()> {
    cgroup.apply(r)?;
    // systemd has one property for a quota and its period, for example.
    let whole = match (cgroup.hierarchies.v2(), cgroup.hierarchies.is_pure_v2()) {
        (Some(h), true) => v2::complete(h, cgroup.path_in(h), r, |_| true)?,
        _ => r.clone(),
    };
    let mut properties = plan(&whole, cgroup.hierarchies.is_pure_v2());
    if properties.is_empty() {
        return Ok(());
    }
    let told: Result<()> = (|| {
        let mut bus = connect(scope)?;
        match bus.set_properties(&scope.unit, &properties) {
            Err(e) if drop_newer(&e, &mut properties) => {
                bus.set_properties(&scope.unit, &properties)?;
            }
            other => other?,
        }
        bus.catch_up()
    })();
    told.with_context(|| format!("change the systemd scope {}", scope.unit))?;
    cgroup.apply(r)
}

/// Ends what is left of the scope; none left is no error. systemd removes its
/// cgroups; [`Cgroup::remove`] those of the v1 hierarchies that it does not know.
pub(crate) fn stop(scope: &Scope) -> Result<()> {
    let stopped: Result<()> = (|| {
        let mut bus = connect(scope)?;
        match bus.stop(&scope.unit) {
            Ok(()) => {}
            Err(e) if e.error.kind() == Kind::NotFound => {}
            Err(e) => return Err(e.into()),
        }
        // It failed, if its processes were killed for want of memory.
        let reset: Result<()> = bus.reset_failed(&scope.unit).map_err(Error::from);
        reset.ignored("a scope that has not failed is gone by now");
        Ok(())
    })();
    stopped.with_context(|| format!("stop the systemd scope {}", scope.unit))
}

fn unit_properties(scope: &Scope, pid: Pid) -> Vec<Property> {
    let on = || Value::Bool(true);
    let text = |s: &str| Value::Str(s.to_owned());
    let all = [
        ("Description", text(&format!("container {}", scope.unit))),
        ("Slice", text(&scope.slice)),
        ("PIDs", Value::U32s(vec![pid.as_raw() as u32])),
        ("Delegate", on()),
        ("CPUAccounting", on()),
        ("MemoryAccounting", on()),
        ("IOAccounting", on()),
        ("TasksAccounting", on()),
        // Without the ordering against shutdown.target, that a boot would wait for.
        ("DefaultDependencies", Value::Bool(false)),
    ];
    all.map(|(name, value)| (name.to_owned(), value)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(path: &str) -> Result<Scope> {
        Scope::from_path(Some(Path::new(path)), "box", false)
    }

    #[test]
    fn names() {
        let s = scope("machine.slice:libpod:abc").unwrap();
        assert_eq!(
            (s.slice.as_str(), s.unit()),
            ("machine.slice", "libpod-abc.scope")
        );
        let s = scope("").unwrap();
        assert_eq!(
            (s.slice.as_str(), s.unit()),
            ("system.slice", "carob-box.scope")
        );
        assert_eq!(scope(":p:a+b").unwrap().unit(), "p-a\\x2bb.scope");
        assert_eq!(scope("-.slice::x").unwrap().unit(), "x.scope");
        assert_eq!(
            Scope::from_path(None, "b", true).unwrap().slice,
            "user.slice"
        );
        for bad in [
            "/a/b",
            "a:b",
            "a.slice:b:",
            "a:b:c",
            "a--b.slice:x:y",
            "a/b.slice:x:y",
            ".slice:x:y",
            "a.slice:b:c.slice",
            "a.slice:b:c:d",
        ] {
            let e = scope(bad).unwrap_err();
            assert!(e.to_string().starts_with(&format!("{bad:?}: ")), "{e}");
        }
        assert!(scope(&format!("a.slice:b:{}", "c".repeat(300))).is_err());
    }
}
