//! System call filters: what a process may ask of the kernel.
//!
//! A [`Profile`] is data, as a container's configuration describes it or as
//! [`profile::runtime_default`] builds it; [`compile`] makes a classic BPF
//! program of it; [`Filter::install`] puts that in force. See seccomp(2) and
//! Documentation/userspace-api/seccomp_filter.rst.
//!
//! The meaning, which is libseccomp's where the two can be told apart:
//! - A rule with the default action is no rule, as in runc and crun, which do not
//!   hand it to libseccomp: it cannot take back what another allows.
//! - A rule without arguments beats every rule with some; the first one counts.
//! - A rule with arguments matches if all of them do; of several, the first that
//!   matches counts. If none does, the default action.
//! - A name that an architecture does not have, or that is unknown here, is
//!   skipped for it.
//! - On a 32-bit architecture, x32 among them, an argument is its low 32 bits.
//! - A call newer than the newest that the profile names gets ENOSYS, as in runc:
//!   the profile's author cannot have meant it, and EPERM would keep a C library
//!   from falling back.
//! - Another architecture than the profile's: the process is killed. x32 where
//!   not asked for: ENOSYS, what a kernel without it says.
//!
//! Order in a container's child: after everything that the profile may forbid,
//! right before exec; without `no_new_privs` before CAP_SYS_ADMIN is given up.
//!
//! Never serves notifications: the listener's fd is the caller's.

pub(crate) mod compile;
pub(crate) mod profile;
mod table;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::os::fd::OwnedFd;

use nix::errno::Errno;

pub(crate) use compile::compile;

use crate::sys::seccomp::{self, sock_filter};
use crate::{Error, Kind, Result};

/// The architectures whose system calls are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arch {
    X86_64,
    X86,
    /// Shares x86_64's audit number; its calls carry bit 30.
    X32,
    Aarch64,
    Arm,
}

impl Arch {
    /// The one this program was built for; always part of a filter.
    pub const NATIVE: Arch = if cfg!(target_arch = "aarch64") {
        Arch::Aarch64
    } else {
        Arch::X86_64
    };

    /// What `seccomp_data.arch` holds (`AUDIT_ARCH_*`).
    pub fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
        }
    }

    fn is_32_bit(self) -> bool {
        matches!(self, Arch::X86 | Arch::X32 | Arch::Arm)
    }

    /// Whether a machine of the native architecture can run it.
    pub fn runs_here(self) -> bool {
        match Arch::NATIVE {
            Arch::Aarch64 => matches!(self, Arch::Aarch64 | Arch::Arm),
            _ => matches!(self, Arch::X86_64 | Arch::X86 | Arch::X32),
        }
    }
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    KillProcess,
    KillThread,
    Trap,
    /// The call fails with this errno.
    Errno(u16),
    /// A listener decides.
    Notify,
    /// A tracer decides, and sees this number.
    Trace(u16),
    Log,
    Allow,
}

impl Action {
    /// The filter's return value.
    pub fn value(self) -> u32 {
        match self {
            Action::KillProcess => 0x8000_0000,
            Action::KillThread => 0,
            Action::Trap => 0x0003_0000,
            Action::Errno(n) => 0x0005_0000 | n as u32,
            Action::Notify => 0x7fc0_0000,
            Action::Trace(n) => 0x7ff0_0000 | n as u32,
            Action::Log => 0x7ffc_0000,
            Action::Allow => 0x7fff_0000,
        }
    }
}

/// Unsigned comparison of an argument (`a`) with [`Arg::value`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Ne,
    Lt,
    Le,
    Eq,
    Ge,
    Gt,
    /// `a & value == value_two`.
    MaskedEq,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arg {
    /// 0 to 5.
    pub index: u8,
    pub value: u64,
    /// Only of [`Op::MaskedEq`].
    pub value_two: u64,
    pub op: Op,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub names: Vec<Cow<'static, str>>,
    pub action: Action,
    /// All of them have to hold.
    pub args: Vec<Arg>,
}

/// `SECCOMP_FILTER_FLAG_*` that a profile may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub log: bool,
    pub tsync: bool,
    pub spec_allow: bool,
    pub wait_killable: bool,
}

/// See the module's head. A default errno is part of its action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub default_action: Action,
    /// [`Arch::NATIVE`] counts as being here.
    pub architectures: Vec<Arch>,
    pub rules: Vec<Rule>,
    pub flags: Flags,
}

impl Profile {
    /// Whether a listener has to be there.
    pub fn notifies(&self) -> bool {
        self.rules.iter().any(|r| r.action == Action::Notify)
    }
}

/// A program ready to be installed; plain data, may be made before the clone.
#[derive(Clone)]
pub struct Filter {
    program: Vec<sock_filter>,
    flags: libc::c_ulong,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Filter({} instructions, flags {:#x})",
            self.program.len(),
            self.flags
        )
    }
}

impl Filter {
    pub fn new(profile: &Profile) -> Result<Filter> {
        let mut flags = 0;
        for (on, flag) in [
            (profile.flags.log, libc::SECCOMP_FILTER_FLAG_LOG),
            (profile.flags.tsync, libc::SECCOMP_FILTER_FLAG_TSYNC),
            (
                profile.flags.spec_allow,
                libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            ),
            (profile.notifies(), libc::SECCOMP_FILTER_FLAG_NEW_LISTENER),
            // The kernel takes the two below only together with the one above.
            (
                profile.notifies() && profile.flags.wait_killable,
                libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
            ),
            (
                profile.notifies() && profile.flags.tsync,
                libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH,
            ),
        ] {
            if on {
                flags |= flag;
            }
        }
        Ok(Filter {
            program: compile(profile)?,
            flags,
        })
    }

    /// Puts the filter in force on the calling thread, for good. The fd is the
    /// notification listener, of a profile that notifies.
    pub fn install(&self) -> Result<Option<OwnedFd>> {
        seccomp::set_filter(&self.program, self.flags).map_err(|e| {
            let len = self.program.len();
            let call = format!(
                "seccomp(SECCOMP_SET_MODE_FILTER, {:#x}, {{len={len}}})",
                self.flags
            );
            let error = Error::sys(call, e);
            match e {
                Errno::EACCES => error
                    .with_kind(Kind::Permission)
                    .hint("a filter needs no_new_privs or CAP_SYS_ADMIN"),
                Errno::EINVAL => error
                    .with_kind(Kind::Unsupported)
                    .hint("the kernel does not know one of the flags or actions"),
                Errno::EBUSY => error.hint("a filter with a listener is in force already"),
                _ => error,
            }
        })
    }
}
