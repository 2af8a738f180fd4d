//! System calls taken away, as on a kernel without them: what a test starts inside is
//! refused them, and so is what that starts, monitors and containers among them.

use carob::inside::linux::{Action, Arch, Arg, Filter, Flags, Op, Profile, Rule};

/// One call, or the calls with such an argument, and the errno that they get.
pub(crate) struct Denial {
    pub call: &'static str,
    /// The argument's number, the bits of it that count, and their value.
    pub argument: Option<(u8, u64, u64)>,
    pub errno: i32,
}

impl Denial {
    pub(crate) fn of(call: &'static str) -> Denial {
        Denial {
            call,
            argument: None,
            errno: libc::ENOSYS,
        }
    }
}

/// What Linux 5.14 does not have, the oldest version that is supported.
pub(crate) fn newer_than_least() -> Vec<Denial> {
    const CALLS: [&str; 22] = [
        "process_mrelease",
        "futex_waitv",
        "set_mempolicy_home_node",
        "cachestat",
        "fchmodat2",
        "map_shadow_stack",
        "futex_wake",
        "futex_wait",
        "futex_requeue",
        "statmount",
        "listmount",
        "lsm_get_self_attr",
        "lsm_set_self_attr",
        "lsm_list_modules",
        "mseal",
        "setxattrat",
        "getxattrat",
        "listxattrat",
        "removexattrat",
        "open_tree_attr",
        "file_getattr",
        "file_setattr",
    ];
    let calls = CALLS.into_iter().map(Denial::of);
    calls.chain([no_pidfd_info()]).collect()
}

/// ioctl(PIDFD_GET_INFO) of any size: its type is 0xff, its number 11.
pub(crate) fn no_pidfd_info() -> Denial {
    Denial {
        call: "ioctl",
        argument: Some((1, 0xffff, 0xff0b)),
        errno: libc::ENOTTY,
    }
}

/// Runs `work` on a thread of its own, where these calls are denied.
pub(crate) fn without<T: Send>(denials: &[Denial], work: impl FnOnce() -> T + Send) -> T {
    let rules = denials.iter().map(|d| Rule {
        names: vec![d.call.into()],
        action: Action::Errno(d.errno as u16),
        args: d.argument.map(compare).into_iter().collect(),
    });
    let filter = Filter::new(&Profile {
        default_action: Action::Allow,
        architectures: vec![Arch::NATIVE],
        rules: rules.collect(),
        flags: Flags::default(),
    });
    let filter = filter.unwrap();
    std::thread::scope(|threads| {
        let thread = threads.spawn(|| {
            filter.install().unwrap();
            work()
        });
        match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn compare((index, bits, value): (u8, u64, u64)) -> Arg {
    Arg {
        index,
        value: bits,
        value_two: value,
        op: Op::MaskedEq,
    }
}
