//! SELinux: whether a policy is loaded, what it allows, labels of files. See selinux(8),
//! and libselinux's security_check_context(3) and security_compute_av(3) for the files of
//! selinuxfs that are used here.
//!
//! A process gets its label from [`crate::container`], at its exec.

use std::ffi::CString;
use std::fmt;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

use crate::sys::xattr;
use crate::{Context as _, Error, Result};

const FS: &str = "/sys/fs/selinux";
const CONFIG: &str = "/etc/selinux";

/// A security context, `user:role:type[:level]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    pub user: String,
    pub role: String,
    pub kind: String,
    /// Of a policy with MLS or MCS. It may have colons itself.
    pub level: Option<String>,
}

impl Context {
    pub(crate) fn parse(text: &str) -> Option<Context> {
        let text = text.trim_end_matches(['\0', '\n']);
        let mut parts = text.splitn(4, ':').map(str::to_owned);
        let (user, role, kind) = (parts.next()?, parts.next()?, parts.next()?);
        let level = parts.next();
        let full = ![&user, &role, &kind].iter().any(|p| p.is_empty());
        full.then_some(Context {
            user,
            role,
            kind,
            level,
        })
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.user, self.role, self.kind)?;
        match &self.level {
            Some(level) => write!(f, ":{level}"),
            None => Ok(()),
        }
    }
}

/// Whether the kernel has SELinux and a policy.
pub(crate) fn is_enabled() -> bool {
    // Before a policy is loaded every process has the label `kernel`.
    Path::new(FS).join("enforce").exists() && own().is_ok()
}

/// Whether what the policy does not allow is denied, and not only logged.
pub(crate) fn is_enforcing() -> bool {
    std::fs::read(format!("{FS}/enforce")).is_ok_and(|text| text.starts_with(b"1"))
}

/// Whether the policy separates containers by categories: MLS or MCS.
pub(crate) fn has_levels() -> bool {
    std::fs::read(format!("{FS}/mls")).is_ok_and(|text| text.starts_with(b"1"))
}

/// The calling thread's own context.
pub(crate) fn own() -> Result<Context> {
    let path = "/proc/thread-self/attr/current";
    let text = std::fs::read_to_string(path).with_context(|| format!("read({path})"))?;
    Context::parse(&text).ok_or_else(|| Error::failed(format!("{path}: {text:?} is no context")))
}

/// Whether the loaded policy has such a context.
pub(crate) fn is_valid(context: &Context) -> bool {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(format!("{FS}/context"));
    file.is_ok_and(|mut f| f.write_all(format!("{context}\0").as_bytes()).is_ok())
}

/// Whether the policy lets `source` do this with an object of `class` and `target`.
pub(crate) fn allows(source: &str, target: &str, class: &str, permission: &str) -> Result<bool> {
    let number = |path: String| -> Result<u32> {
        let text = std::fs::read_to_string(&path).with_context(|| format!("read({path})"))?;
        text.trim()
            .parse()
            .map_err(|_| Error::failed(format!("{path}: {text:?} is no number")))
    };
    let class_dir = format!("{FS}/class/{class}");
    let index = number(format!("{class_dir}/index"))?;
    let bit = 1u32 << (number(format!("{class_dir}/perms/{permission}"))? - 1);
    let path = format!("{FS}/access");
    let ask = || -> std::io::Result<String> {
        // The answer to what was written is read from the same open file.
        let mut file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)?;
        file.write_all(format!("{source} {target} {index} {bit:x}").as_bytes())?;
        let mut answer = [0; 256];
        let n = file.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..n]).into_owned())
    };
    let answer = ask().with_context(|| format!("write({path}, {source} {target} {class})"))?;
    answer_allows(&answer, bit).ok_or_else(|| Error::failed(format!("{path}: {answer:?}")))
}

/// `allowed decided auditallow auditdeny seqno flags`, hexadecimal but for seqno. Flag 1:
/// the source's domain is permissive.
fn answer_allows(answer: &str, bit: u32) -> Option<bool> {
    let mut words = answer.split([' ', '\0', '\n']).filter(|w| !w.is_empty());
    let allowed = u32::from_str_radix(words.next()?, 16).ok()?;
    let flags = words.nth(4).and_then(|w| u32::from_str_radix(w, 16).ok());
    Some(allowed & bit != 0 || flags.unwrap_or(0) & 1 != 0)
}

/// What the administrator's policy says that containers have: the contexts of their
/// processes and of their files. `None`: the loaded policy has no such domain.
pub(crate) fn container_contexts() -> Option<(Context, Context)> {
    let text = std::fs::read_to_string(format!("{CONFIG}/config")).unwrap_or_default();
    let policy = text
        .lines()
        .find_map(|l| l.trim().strip_prefix("SELINUXTYPE="));
    let file = format!(
        "{CONFIG}/{}/contexts/lxc_contexts",
        policy.unwrap_or("default").trim()
    );
    let named = std::fs::read_to_string(file).unwrap_or_default();
    let (mut process, mut files) = parse_contexts(&named)?;
    // Of a policy without levels no context with one is valid.
    if !has_levels() {
        process.level = None;
        files.level = None;
    }
    (is_valid(&process) && is_valid(&files)).then_some((process, files))
}

/// lxc_contexts(5): `process = "..."`, `file = "..."`. Where it names none, the names that
/// the reference policy and container-selinux use.
fn parse_contexts(text: &str) -> Option<(Context, Context)> {
    let find = |key: &str, default: &'static str| {
        let value = text.lines().find_map(|l| {
            let (name, value) = l.split_once('=')?;
            (name.trim() == key).then(|| value.trim().trim_matches('"'))
        });
        Context::parse(value.unwrap_or(default))
    };
    Some((
        find("process", "system_u:system_r:container_t:s0")?,
        find("file", "system_u:object_r:container_file_t:s0")?,
    ))
}

/// Sets the label of a file, a symlink itself included.
pub(crate) fn label(path: &Path, context: &str) -> Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::invalid(format!("{path:?}: a NUL byte")))?;
    xattr::lsetxattr(&name, c"security.selinux", &value(context)).map_err(|e| {
        label_error(
            format!("lsetxattr({path:?}, \"security.selinux\", {context:?})"),
            e,
        )
    })
}

/// As [`label`], of an open file: a pipe too.
pub(crate) fn label_fd(fd: impl AsFd, context: &str) -> Result<()> {
    xattr::fsetxattr(fd, c"security.selinux", &value(context)).map_err(|e| {
        label_error(
            format!("fsetxattr(<fd>, \"security.selinux\", {context:?})"),
            e,
        )
    })
}

fn value(context: &str) -> Vec<u8> {
    [context.as_bytes(), b"\0"].concat()
}

fn label_error(call: String, e: Errno) -> Error {
    let error = Error::sys(call, e);
    match e {
        Errno::EINVAL => error.hint("the loaded policy has no such context"),
        Errno::EOPNOTSUPP => error.hint("its filesystem has no labels of its own"),
        _ => error,
    }
}

/// The label of what a path leads to.
pub(crate) fn label_of(path: &Path) -> Result<String> {
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::invalid(format!("{path:?}: a NUL byte")))?;
    let label = xattr::getxattr(&name, c"security.selinux")
        .map_err(|e| Error::sys(format!("getxattr({path:?}, \"security.selinux\")"), e))?;
    let text = String::from_utf8_lossy(&label);
    Ok(text.trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts() {
        let text = "system_u:system_r:container_t:s0:c1,c2\0";
        let context = Context::parse(text).unwrap();
        assert_eq!(context.kind, "container_t");
        assert_eq!(context.level.as_deref(), Some("s0:c1,c2"));
        assert_eq!(context.to_string(), text.trim_end_matches('\0'));
        let plain = Context::parse("a:b:c").unwrap();
        assert_eq!(
            (plain.level.clone(), plain.to_string()),
            (None, "a:b:c".into())
        );
        for wrong in ["", "kernel", "a:b", "a::c"] {
            assert_eq!(Context::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn contexts_of_containers() {
        let text =
            "process = \"u:r:box_t:s0\"\ncontent = \"u:r:x_t:s0\"\nfile=\"u:o:box_file_t:s0\"\n";
        let (process, file) = parse_contexts(text).unwrap();
        assert_eq!((&*process.kind, &*file.kind), ("box_t", "box_file_t"));
        let (process, file) = parse_contexts("").unwrap();
        assert_eq!(
            (&*process.kind, &*file.kind),
            ("container_t", "container_file_t")
        );
    }

    #[test]
    fn answers_of_the_policy() {
        for (answer, bit, want) in [
            ("3 ffffffff 0 ffffffff 4 0\0", 2, Some(true)),
            ("1 ffffffff 0 ffffffff 4 0", 2, Some(false)),
            ("1 ffffffff 0 ffffffff 4 1", 2, Some(true)),
            ("1 ffffffff 0 ffffffff 4", 1, Some(true)),
            ("", 1, None),
        ] {
            assert_eq!(answer_allows(answer, bit), want, "{answer:?}");
        }
    }
}
