//! Capabilities: sets of them, by Kubernetes' names and the kernel's, and putting them
//! in force. See capabilities(7).
//!
//! The order in a container's child, of which [`apply`] is the last step:
//! 1. Everything that needs privileges: mounts, sysctls, hostname.
//! 2. [`drop_bounding`], while CAP_SETPCAP is still there.
//! 3. If the user is not root and capabilities are to remain:
//!    `prctl(PR_SET_KEEPCAPS, 1)`, because the change of uid empties the permitted
//!    set otherwise (the effective one it empties always).
//! 4. setgroups, setgid, setuid.
//! 5. [`apply`]: capset, then ambient. Ambient last, since the kernel admits only
//!    what is both permitted and inheritable by then.
//! 6. A seccomp filter without `no_new_privs` between 4 and 5 if `apply` gives
//!    CAP_SYS_ADMIN up; else after it.
//!
//! Inheritable and ambient stay empty unless asked for: an inheritable set that
//! is not lets a file's inheritable bits give it back (CVE-2022-29162).

use std::fmt;
use std::ops::{BitAnd, BitOr, Sub};
use std::str::FromStr;
use std::sync::OnceLock;

use caps::{CapSet, Capability};

use crate::nearest::nearest;
use crate::{Context, Error, Kind, Result};

/// A set of capabilities, bit n for the capability of that number.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Set(u64);

impl Set {
    pub const EMPTY: Set = Set(0);

    /// What containerd and CRI-O's defaults for Docker-like images give a
    /// container that asks for nothing.
    pub fn container_default() -> Set {
        use Capability::*;
        Set::from_iter([
            CAP_CHOWN,
            CAP_DAC_OVERRIDE,
            CAP_FSETID,
            CAP_FOWNER,
            CAP_MKNOD,
            CAP_NET_RAW,
            CAP_SETGID,
            CAP_SETUID,
            CAP_SETFCAP,
            CAP_SETPCAP,
            CAP_NET_BIND_SERVICE,
            CAP_SYS_CHROOT,
            CAP_KILL,
            CAP_AUDIT_WRITE,
        ])
    }

    /// Every capability that the running kernel has: what `privileged` gets.
    pub fn supported() -> Set {
        Set(u64::MAX >> (63 - last_cap()))
    }

    pub fn has(self, cap: Capability) -> bool {
        self.0 & cap.bitmask() != 0
    }
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Capability> {
        let mut all: Vec<Capability> = caps::all().into_iter().filter(|c| self.has(*c)).collect();
        all.sort_unstable_by_key(Capability::index);
        all.into_iter()
    }

    /// Of one capability by its exact name: `CAP_CHOWN`, and no other spelling.
    pub fn from_exact_name(name: &str) -> Option<Set> {
        let cap = Capability::from_str(name).ok()?;
        Some(Set(cap.bitmask()))
    }

    /// From people's names, `CAP_CHOWN`, `chown` and so on.
    pub fn from_names<S: AsRef<str>>(names: &[S]) -> Result<Set> {
        names.iter().try_fold(Set::EMPTY, |set, name| {
            Ok(set | Set(parse(name.as_ref())?.bitmask()))
        })
    }

    /// What a container gets whose `securityContext.capabilities` adds and drops
    /// these, starting from `self`: as a kubelet with containerd has it. `ALL` in
    /// either list comes first (dropping wins), then the added names, then the
    /// dropped ones. Letters of either case, with or without `CAP_`.
    pub fn adjusted<S: AsRef<str>>(self, add: &[S], drop: &[S]) -> Result<Set> {
        let split = |names: &[S], field: &str| -> Result<(bool, Set)> {
            let (mut all, mut set) = (false, Set::EMPTY);
            for (i, name) in names.iter().map(AsRef::as_ref).enumerate() {
                match name.eq_ignore_ascii_case("ALL") {
                    true => all = true,
                    false => {
                        let cap =
                            parse(name).with_context(|| format!("capabilities.{field}[{i}]"))?;
                        set = set | Set(cap.bitmask());
                    }
                }
            }
            Ok((all, set))
        };
        let (add_all, add) = split(add, "add")?;
        let (drop_all, drop) = split(drop, "drop")?;
        let base = match (add_all, drop_all) {
            (_, true) => Set::EMPTY,
            (true, false) => Set::supported(),
            (false, false) => self,
        };
        Ok((base | add) - drop)
    }
}

fn parse(name: &str) -> Result<Capability> {
    let canonical = caps::to_canonical(name);
    Capability::from_str(&canonical).map_err(|_| {
        let short = |name: &str| name.trim_start_matches("CAP_").to_owned();
        let known = caps::all().into_iter().map(|c| short(&c.to_string()));
        let known: Vec<String> = known.collect();
        let near = nearest(&short(&canonical), known.iter().map(String::as_str));
        let error = Error::invalid(format!("{name:?}: no such capability"));
        error.hint(match near {
            Some(near) => format!("did you mean {near}?"),
            None => "capabilities(7) lists them".to_owned(),
        })
    })
}

impl FromIterator<Capability> for Set {
    fn from_iter<I: IntoIterator<Item = Capability>>(caps: I) -> Set {
        Set(caps.into_iter().fold(0, |bits, c| bits | c.bitmask()))
    }
}
impl BitOr for Set {
    type Output = Set;
    fn bitor(self, o: Set) -> Set {
        Set(self.0 | o.0)
    }
}
impl BitAnd for Set {
    type Output = Set;
    fn bitand(self, o: Set) -> Set {
        Set(self.0 & o.0)
    }
}
impl Sub for Set {
    type Output = Set;
    fn sub(self, o: Set) -> Set {
        Set(self.0 & !o.0)
    }
}
impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The number of the kernel's last capability; read once.
pub(crate) fn last_cap() -> u32 {
    static LAST: OnceLock<u32> = OnceLock::new();
    *LAST.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap_or_default();
        // Without /proc: CAP_CHECKPOINT_RESTORE, the last since 5.9.
        text.trim().parse().unwrap_or(40).min(63)
    })
}

/// The five sets of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    pub bounding: Set,
    pub effective: Set,
    pub permitted: Set,
    pub inheritable: Set,
    pub ambient: Set,
}

impl Sets {
    /// The sets of a container whose process may have `set`: root has them all at
    /// once, another user gets none until a file gives some, within the bounds.
    pub fn of_container(set: Set, root: bool) -> Sets {
        let held = if root { set } else { Set::EMPTY };
        Sets {
            bounding: set,
            effective: held,
            permitted: held,
            ..Sets::default()
        }
    }
}

fn refused(call: String, e: impl fmt::Display) -> Error {
    // The crate's errors carry the errno as text only.
    Error::new(Kind::Failed, format!("{call}: {e}"))
}

/// Drops from the bounding set all that is not in `keep`. Before the change of
/// uid: it needs CAP_SETPCAP.
pub(crate) fn drop_bounding(keep: Set) -> Result<()> {
    for number in 0..=last_cap() {
        if keep.0 & 1 << number != 0 {
            continue;
        }
        crate::sys::capability::drop_bounding(number)
            .map_err(|e| Error::sys(format_args!("prctl(PR_CAPBSET_DROP, {number})"), e))?;
    }
    Ok(())
}

/// Sets effective, permitted, inheritable and ambient of the calling thread, and
/// nothing else; the order is in the module's head.
///
/// What the caller does not have cannot be given: that is an error of
/// [`Kind::Permission`].
pub(crate) fn apply(sets: &Sets) -> Result<()> {
    use crate::sys::capability as sys;
    sys::capset(sets.effective.0, sets.permitted.0, sets.inheritable.0).map_err(|e| {
        let call = format!(
            "capset({{effective={:#x}, permitted={:#x}, inheritable={:#x}}})",
            sets.effective.0, sets.permitted.0, sets.inheritable.0
        );
        let lacking = sets.permitted - permitted();
        Error::sys(call, e)
            .with_kind(Kind::Permission)
            .hint(match lacking.is_empty() {
                true => "effective has to be in permitted".to_owned(),
                false => format!("the caller does not have {lacking:?}"),
            })
    })?;
    caps::clear(None, CapSet::Ambient)
        .map_err(|e| refused("prctl(PR_CAP_AMBIENT_CLEAR_ALL)".into(), e))?;
    for cap in sets.ambient.iter() {
        caps::raise(None, CapSet::Ambient, cap).map_err(|e| {
            refused(format!("prctl(PR_CAP_AMBIENT_RAISE, {cap})"), e)
                .hint("an ambient capability has to be permitted and inheritable")
        })?;
    }
    Ok(())
}

/// Whether the caller has these, by the kernel's names: said by one error before anything is
/// made, instead of by the call that happens to need one first.
///
/// # Errors
/// [`Kind::Permission`].
pub(crate) fn require(names: &[&str]) -> Result<()> {
    let lacking = Set::from_names(names)? - permitted();
    if lacking.is_empty() {
        return Ok(());
    }
    let all: Vec<String> = lacking.iter().map(|c| c.to_string()).collect();
    let flags: Vec<String> = all
        .iter()
        .map(|c| format!("--cap-add {}", c.trim_start_matches("CAP_")))
        .collect();
    Err(Error::new(
        Kind::Permission,
        format!(
            "carob needs {}, which it does not have here",
            all.join(" and ")
        ),
    )
    .hint(format!(
        "in a container, run it with --privileged or {}; elsewhere see CapEff in \
         /proc/self/status",
        flags.join(" ")
    )))
}

/// Everything permitted in effect again: a change of uid away from 0 clears the
/// effective set even where PR_SET_KEEPCAPS keeps the permitted one.
pub(crate) fn make_permitted_effective() -> Result<()> {
    let set = permitted().0;
    crate::sys::capability::capset(set, set, 0)
        .map_err(|e| Error::sys(format!("capset({{effective={set:#x}}})"), e))
}

/// Does `work` with these capabilities in effect, as far as they are permitted, and no
/// others: what execve(2) will go by once [`apply`] has been called.
pub(crate) fn with_effective<T>(set: Set, work: impl FnOnce() -> T) -> Result<T> {
    let held = Held::now();
    held.take(set)?;
    let done = work();
    held.take(held.effective)?;
    Ok(done)
}

/// What a thread has, for changes of what is in effect and back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub effective: Set,
    permitted: Set,
}

impl Held {
    /// Of the calling thread.
    pub(crate) fn now() -> Self {
        Held {
            effective: caps::read(None, CapSet::Effective).map_or(Set::EMPTY, Set::from_iter),
            permitted: permitted(),
        }
    }

    /// Puts `set` in effect, as far as it is permitted.
    pub(crate) fn take(&self, set: Set) -> Result<()> {
        let bits = (set & self.permitted).0;
        crate::sys::capability::capset(bits, self.permitted.0, 0)
            .map_err(|e| Error::sys(format!("capset({{effective={bits:#x}}})"), e))
    }
}

/// What the calling thread may have at most from here on.
pub(crate) fn permitted() -> Set {
    caps::read(None, CapSet::Permitted).map_or(Set::EMPTY, Set::from_iter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Capability::*;

    #[test]
    fn kubernetes_add_and_drop() {
        let base = Set::container_default();
        let got = base
            .adjusted(&["net_admin", "CAP_SYS_TIME"], &["MKNOD"])
            .unwrap();
        assert!(got.has(CAP_NET_ADMIN) && got.has(CAP_SYS_TIME) && !got.has(CAP_MKNOD));
        assert_eq!(
            base.adjusted(&["NET_BIND_SERVICE"], &["ALL"]).unwrap(),
            Set::from_iter([CAP_NET_BIND_SERVICE])
        );
        let got = base.adjusted(&["ALL"], &["SYS_ADMIN"]).unwrap();
        assert_eq!(got, Set::supported() - Set::from_iter([CAP_SYS_ADMIN]));
        assert_eq!(base.adjusted::<&str>(&[], &[]).unwrap(), base);
        let e = base.adjusted(&["NET_ADMN"], &[]).unwrap_err();
        assert!(e.to_string().starts_with("capabilities.add[0]:"), "{e}");
        assert_eq!(e.get_hint(), Some("did you mean NET_ADMIN?"));
    }

    #[test]
    fn names_and_numbers() {
        let set = Set::from_names(&["CAP_CHOWN", "CAP_BPF"]).unwrap();
        assert_eq!(set.0, 1 | 1 << 39);
        assert_eq!(format!("{set:?}"), "{CAP_CHOWN, CAP_BPF}");
        assert_eq!(Set::container_default().0, 0xa804_25fb);
        assert_eq!(Set::supported().0.count_ones(), last_cap() + 1);
    }

    /// Capabilities are a thread's: this one is given up and ends.
    #[test]
    fn sets_are_put_in_force() {
        let one = Set::from_iter([CAP_CHOWN, CAP_NET_ADMIN]);
        let status = std::thread::spawn(move || {
            drop_bounding(one).unwrap();
            let sets = Sets {
                inheritable: Set::from_iter([CAP_CHOWN]),
                ambient: Set::from_iter([CAP_CHOWN]),
                ..Sets::of_container(one, true)
            };
            apply(&sets).unwrap();
            let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let more = Sets::of_container(Set::from_iter([CAP_SYS_ADMIN]), true);
            let e = apply(&more).unwrap_err();
            assert_eq!(e.kind(), Kind::Permission);
            assert!(e.get_hint().unwrap().contains("CAP_SYS_ADMIN"), "{e}");
            text
        })
        .join()
        .unwrap();
        let line = |key: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(key)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        assert_eq!(line("CapBnd:"), one.0);
        assert_eq!(line("CapEff:"), one.0);
        assert_eq!(line("CapPrm:"), one.0);
        assert_eq!((line("CapInh:"), line("CapAmb:")), (1, 1));
    }
}
