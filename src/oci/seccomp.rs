//! `linux.seccomp` of a configuration as a [`Profile`], and the other way round
//! (runtime-spec, config-linux.md).

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use oci_spec::runtime::{
    Arch as OciArch, LinuxSeccomp, LinuxSeccompAction as OciAction, LinuxSeccompArg,
    LinuxSeccompArgBuilder, LinuxSeccompFilterFlag as OciFlag, LinuxSeccompOperator as OciOp,
    LinuxSyscall,
};

use crate::linux::capability::Set;
use crate::linux::seccomp::{Action, Arch, Arg, Filter, Flags, Op, Profile, Rule, profile};
use crate::sys::seccomp as sys;
use crate::{Context, Error, Result};

/// SECCOMP_RET_ACTION_FULL: an action without its number.
const ACTION_FULL: u32 = 0xffff_0000;

/// The kernel cuts a larger errno down to this.
const MAX_ERRNO: u32 = 4095;

fn invalid(field: &str, what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("linux.seccomp.{field}: {what}"))
}

fn action(field: &str, action: OciAction, number: Option<u32>) -> Result<Action> {
    let limited = |max: u32| match number.unwrap_or(libc::EPERM as u32) {
        n if n <= max => Ok(n as u16),
        n => Err(invalid(field, format!("{n} is more than {max}"))),
    };
    if number.is_some() && !matches!(action, OciAction::ScmpActErrno | OciAction::ScmpActTrace) {
        return Err(invalid(
            field,
            format!("the action {action} takes no number"),
        ));
    }
    Ok(match action {
        OciAction::ScmpActKill | OciAction::ScmpActKillThread => Action::KillThread,
        OciAction::ScmpActKillProcess => Action::KillProcess,
        OciAction::ScmpActTrap => Action::Trap,
        OciAction::ScmpActErrno => Action::Errno(limited(MAX_ERRNO)?),
        OciAction::ScmpActNotify => Action::Notify,
        OciAction::ScmpActTrace => Action::Trace(limited(u16::MAX as u32)?),
        OciAction::ScmpActLog => Action::Log,
        OciAction::ScmpActAllow => Action::Allow,
    })
}

/// `None` for what this machine cannot run: no call can come from there.
fn arch(arch: OciArch) -> Option<Arch> {
    let known = match arch {
        OciArch::ScmpArchNative => Arch::NATIVE,
        OciArch::ScmpArchX86 => Arch::X86,
        OciArch::ScmpArchX86_64 => Arch::X86_64,
        OciArch::ScmpArchX32 => Arch::X32,
        OciArch::ScmpArchArm => Arch::Arm,
        OciArch::ScmpArchAarch64 => Arch::Aarch64,
        _ => return None,
    };
    known.runs_here().then_some(known)
}

fn arg(field: &str, arg: &LinuxSeccompArg) -> Result<Arg> {
    let index = match u8::try_from(arg.index()) {
        Ok(index @ 0..=5) => index,
        _ => {
            let what = format!("{}: a call has the arguments 0 to 5", arg.index());
            return Err(invalid(&format!("{field}.index"), what));
        }
    };
    Ok(Arg {
        index,
        value: arg.value(),
        value_two: arg.value_two().unwrap_or(0),
        op: match arg.op() {
            OciOp::ScmpCmpNe => Op::Ne,
            OciOp::ScmpCmpLt => Op::Lt,
            OciOp::ScmpCmpLe => Op::Le,
            OciOp::ScmpCmpEq => Op::Eq,
            OciOp::ScmpCmpGe => Op::Ge,
            OciOp::ScmpCmpGt => Op::Gt,
            OciOp::ScmpCmpMaskedEq => Op::MaskedEq,
        },
    })
}

/// One entry of `syscalls`, as one rule or several: where an index occurs twice,
/// every runtime takes the arguments as alternatives, not as conditions together.
fn rules(at: usize, call: &LinuxSyscall) -> Result<Vec<Rule>> {
    let field = format!("syscalls[{at}]");
    if call.names().is_empty() {
        return Err(invalid(
            &format!("{field}.names"),
            "has to name a system call",
        ));
    }
    let action = action(
        &format!("{field}.errnoRet"),
        call.action(),
        call.errno_ret(),
    )?;
    // The runtime itself has to write to the agent's socket with the filter on.
    if action == Action::Notify && call.names().iter().any(|n| n == "write") {
        let what = "SCMP_ACT_NOTIFY cannot be used for write";
        return Err(invalid(&format!("{field}.action"), what));
    }
    let mut args = Vec::new();
    for (i, a) in call.args().iter().flatten().enumerate() {
        args.push(arg(&format!("{field}.args[{i}]"), a)?);
    }
    let rule = |args| Rule {
        names: call.names().iter().map(|n| n.clone().into()).collect(),
        action,
        args,
    };
    Ok(match repeats_an_index(&args) {
        true => args.into_iter().map(|a| rule(vec![a])).collect(),
        false => vec![rule(args)],
    })
}

/// What of `linux.seccomp` is known here, in OCI's words: for `features`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    /// Those that the kernel has.
    pub actions: Vec<OciAction>,
    pub operators: Vec<&'static str>,
    /// Those that a filter here can tell apart. Any other may stand in a profile.
    pub archs: Vec<OciArch>,
    pub known_flags: Vec<&'static str>,
    /// Those of `known_flags` that the kernel has.
    pub supported_flags: Vec<&'static str>,
}

/// Asks the kernel; installs nothing.
pub(crate) fn features() -> Features {
    use OciAction as A;
    let actions = [
        A::ScmpActKill,
        A::ScmpActKillProcess,
        A::ScmpActKillThread,
        A::ScmpActTrap,
        A::ScmpActErrno,
        A::ScmpActTrace,
        A::ScmpActAllow,
        A::ScmpActLog,
        A::ScmpActNotify,
    ];
    let known = |a: &OciAction| {
        let value = action("", *a, None).map(Action::value).unwrap_or_default();
        sys::action_available(value & ACTION_FULL)
    };
    let all = [
        OciArch::ScmpArchX86,
        OciArch::ScmpArchX86_64,
        OciArch::ScmpArchX32,
        OciArch::ScmpArchArm,
        OciArch::ScmpArchAarch64,
    ];
    let flags = [
        ("SECCOMP_FILTER_FLAG_TSYNC", libc::SECCOMP_FILTER_FLAG_TSYNC),
        (
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        ),
        ("SECCOMP_FILTER_FLAG_LOG", libc::SECCOMP_FILTER_FLAG_LOG),
        (
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
            libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
        ),
    ];
    let supported = flags.iter().filter(|(_, bits)| sys::flags_known(*bits));
    Features {
        actions: actions.into_iter().filter(known).collect(),
        operators: vec![
            "SCMP_CMP_NE",
            "SCMP_CMP_LT",
            "SCMP_CMP_LE",
            "SCMP_CMP_EQ",
            "SCMP_CMP_GE",
            "SCMP_CMP_GT",
            "SCMP_CMP_MASKED_EQ",
        ],
        archs: all.into_iter().filter(|a| arch(*a).is_some()).collect(),
        known_flags: flags.iter().map(|(name, _)| *name).collect(),
        supported_flags: supported.map(|(name, _)| *name).collect(),
    }
}

/// The listener's path and metadata are not part of the filter: whoever
/// installs it and gets a listener's fd reads them from `spec`.
pub(crate) fn plan(spec: &LinuxSeccomp) -> Result<Profile> {
    let default = spec.default_action();
    let default_action = action("defaultErrnoRet", default, spec.default_errno_ret())?;
    if default_action == Action::Notify {
        return Err(invalid(
            "defaultAction",
            "SCMP_ACT_NOTIFY cannot be the default action",
        ));
    }
    let mut architectures = vec![Arch::NATIVE];
    for known in spec
        .architectures()
        .iter()
        .flatten()
        .filter_map(|a| arch(*a))
    {
        if !architectures.contains(&known) {
            architectures.push(known);
        }
    }
    let mut all = Vec::new();
    for (i, call) in spec.syscalls().iter().flatten().enumerate() {
        all.extend(rules(i, call)?);
    }
    // Unsaid means: without the mitigation that costs every process with a
    // filter its speculation, which is the kernel's own default since 5.16.
    let mut flags = Flags {
        spec_allow: spec.flags().is_none(),
        ..Flags::default()
    };
    for flag in spec.flags().iter().flatten() {
        match flag {
            OciFlag::SeccompFilterFlagLog => flags.log = true,
            OciFlag::SeccompFilterFlagTsync => flags.tsync = true,
            OciFlag::SeccompFilterFlagSpecAllow => flags.spec_allow = true,
            OciFlag::SeccompFilterFlagWaitKillableRecv => flags.wait_killable = true,
        }
    }
    let profile = Profile {
        default_action,
        architectures,
        rules: all,
        flags,
    };
    let path = spec.listener_path().as_deref().map(Path::as_os_str);
    match path.map(OsStrExt::as_bytes) {
        Some([]) => return Err(invalid("listenerPath", "is empty")),
        Some(bytes) if bytes.contains(&0) => {
            return Err(invalid("listenerPath", "a NUL byte"));
        }
        _ => {}
    }
    let listener = path.is_some();
    if profile.notifies() && !listener {
        return Err(invalid("listenerPath", "SCMP_ACT_NOTIFY needs one"));
    }
    if spec.listener_metadata().is_some() && !listener {
        return Err(invalid("listenerMetadata", "is for a listenerPath"));
    }
    Ok(profile)
}

/// The default profiles that have been described and compiled so far: most containers of a
/// Pod have the same one. To be dropped when they have started.
#[derive(Debug, Default)]
pub(crate) struct Filters(Vec<(Set, Rc<Known>)>);

/// A filter that several containers have.
#[derive(Debug)]
pub(crate) struct Known {
    /// As a configuration has it: JSON.
    pub json: String,
    pub filter: Rc<Filter>,
}

impl Filters {
    /// [`profile::runtime_default`] for a bounding set.
    pub(crate) fn default_for(&mut self, set: Set) -> Result<Rc<Known>> {
        if let Some((_, known)) = self.0.iter().find(|(s, _)| *s == set) {
            return Ok(Rc::clone(known));
        }
        let profile = profile::runtime_default(set);
        let known = Rc::new(Known {
            json: serde_json::to_string(&describe(&profile)?)?,
            // A test has it that the description means this very profile.
            filter: compile(&profile)?,
        });
        self.0.push((set, Rc::clone(&known)));
        Ok(known)
    }
}

/// The filter of a profile.
pub(crate) fn compile(profile: &Profile) -> Result<Rc<Filter>> {
    Filter::new(profile).map(Rc::new).context("linux.seccomp")
}

/// The configuration that [`plan`] reads as `profile`.
///
/// # Errors
/// What a configuration cannot say: two conditions of one rule on the same argument.
pub(crate) fn describe(profile: &Profile) -> Result<LinuxSeccomp> {
    let (default_action, default_errno) = oci_action(profile.default_action);
    let mut calls = Vec::with_capacity(profile.rules.len());
    for alternatives in profile.rules.chunk_by(are_alternatives) {
        let rule = &alternatives[0];
        if repeats_an_index(&rule.args) {
            return Err(Error::unsupported(format!(
                "seccomp rule for {}: two conditions on one argument",
                rule.names.join(", ")
            )));
        }
        let args = alternatives.iter().flat_map(|rule| &rule.args);
        let args = args.map(oci_arg).collect::<Result<Vec<_>>>()?;
        let (action, errno) = oci_action(rule.action);
        let mut call = LinuxSyscall::default();
        call.set_names(rule.names.iter().map(|n| n.clone().into_owned()).collect())
            .set_action(action)
            .set_errno_ret(errno)
            .set_args(Some(args).filter(|args| !args.is_empty()));
        calls.push(call);
    }
    let Flags {
        log,
        tsync,
        spec_allow,
        wait_killable,
    } = profile.flags;
    let flags = [
        (log, OciFlag::SeccompFilterFlagLog),
        (tsync, OciFlag::SeccompFilterFlagTsync),
        (spec_allow, OciFlag::SeccompFilterFlagSpecAllow),
        (wait_killable, OciFlag::SeccompFilterFlagWaitKillableRecv),
    ];
    let flags = flags
        .into_iter()
        .filter(|(on, _)| *on)
        .map(|(_, flag)| flag);
    let mut seccomp = LinuxSeccomp::default();
    seccomp
        .set_default_action(default_action)
        .set_default_errno_ret(default_errno)
        .set_architectures(Some(
            profile.architectures.iter().map(|a| oci_arch(*a)).collect(),
        ))
        .set_flags(Some(flags.collect()))
        .set_syscalls(Some(calls));
    Ok(seccomp)
}

/// Whether two rules can be one entry: several conditions on one argument are alternatives
/// there.
fn are_alternatives(one: &Rule, next: &Rule) -> bool {
    let same = one.names == next.names && one.action == next.action;
    match (one.args.as_slice(), next.args.as_slice()) {
        ([one], [next]) => same && one.index == next.index,
        _ => false,
    }
}

fn repeats_an_index(args: &[Arg]) -> bool {
    let mut indexes: Vec<u8> = args.iter().map(|a| a.index).collect();
    indexes.sort_unstable();
    indexes.windows(2).any(|w| w[0] == w[1])
}

fn oci_action(action: Action) -> (OciAction, Option<u32>) {
    match action {
        Action::KillProcess => (OciAction::ScmpActKillProcess, None),
        Action::KillThread => (OciAction::ScmpActKillThread, None),
        Action::Trap => (OciAction::ScmpActTrap, None),
        Action::Errno(n) => (OciAction::ScmpActErrno, Some(n.into())),
        Action::Notify => (OciAction::ScmpActNotify, None),
        Action::Trace(n) => (OciAction::ScmpActTrace, Some(n.into())),
        Action::Log => (OciAction::ScmpActLog, None),
        Action::Allow => (OciAction::ScmpActAllow, None),
    }
}

fn oci_arch(arch: Arch) -> OciArch {
    match arch {
        Arch::X86 => OciArch::ScmpArchX86,
        Arch::X86_64 => OciArch::ScmpArchX86_64,
        Arch::X32 => OciArch::ScmpArchX32,
        Arch::Arm => OciArch::ScmpArchArm,
        Arch::Aarch64 => OciArch::ScmpArchAarch64,
    }
}

fn oci_arg(arg: &Arg) -> Result<LinuxSeccompArg> {
    let op = match arg.op {
        Op::Ne => OciOp::ScmpCmpNe,
        Op::Lt => OciOp::ScmpCmpLt,
        Op::Le => OciOp::ScmpCmpLe,
        Op::Eq => OciOp::ScmpCmpEq,
        Op::Ge => OciOp::ScmpCmpGe,
        Op::Gt => OciOp::ScmpCmpGt,
        Op::MaskedEq => OciOp::ScmpCmpMaskedEq,
    };
    let oci = LinuxSeccompArgBuilder::default()
        .index(usize::from(arg.index))
        .value(arg.value)
        .op(op);
    let oci = match arg.op {
        Op::MaskedEq => oci.value_two(arg.value_two),
        _ => oci,
    };
    oci.build()
        .map_err(|e| Error::failed(format!("a seccomp rule's argument: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::seccomp::profile::runtime_default;

    #[test]
    fn a_profile_is_the_same_after_the_way_through_a_configuration() {
        for set in [Set::EMPTY, Set::container_default(), Set::supported()] {
            let profile = runtime_default(set);
            let written = serde_json::to_vec(&describe(&profile).unwrap()).unwrap();
            let read = plan(&serde_json::from_slice(&written).unwrap()).unwrap();
            assert_eq!(read, profile);
        }
        let twice = Arg {
            index: 1,
            value: 7,
            value_two: 0,
            op: Op::Ge,
        };
        let profile = Profile {
            default_action: Action::Trace(3),
            architectures: vec![Arch::NATIVE],
            rules: vec![Rule {
                names: vec!["read".into()],
                action: Action::Errno(7),
                args: vec![twice, twice],
            }],
            flags: Flags::default(),
        };
        assert!(describe(&profile).is_err());
    }

    #[test]
    fn features_are_asked_of_the_kernel() {
        let f = features();
        assert_eq!(f.actions.len(), 9, "{f:?}");
        assert_eq!(f.known_flags, f.supported_flags);
        assert!(!sys::flags_known(1 << 30));
        assert!(!sys::action_available(0x1234_0000));
        assert_eq!(
            f.archs.len(),
            if cfg!(target_arch = "x86_64") { 3 } else { 2 }
        );
    }
}
