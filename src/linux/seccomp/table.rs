//! Names of system calls to numbers, per architecture.

use super::Arch;

/// Set in the number of every x32 call.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// From here on are calls private to 32-bit ARM; they say nothing about how new
/// a profile is.
pub(super) const ARM_PRIVATE: u32 = 0x000f_0000;

const ARM_CALLS: [(&str, u32); 6] = [
    ("breakpoint", ARM_PRIVATE + 1),
    ("cacheflush", ARM_PRIVATE + 2),
    ("usr26", ARM_PRIVATE + 3),
    ("usr32", ARM_PRIVATE + 4),
    ("set_tls", ARM_PRIVATE + 5),
    ("get_tls", ARM_PRIVATE + 6),
];

/// The calls for which x32 has entries of its own, from number 512 on, because
/// their structures hold pointers (arch/x86/entry/syscalls/syscall_64.tbl).
const X32_OWN: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// The calls that x86_64 has and x32 never had ("64" in the same table).
const NOT_X32: [&str; 12] = [
    "uselib",
    "_sysctl",
    "create_module",
    "get_kernel_syms",
    "query_module",
    "nfsservctl",
    "set_thread_area",
    "get_thread_area",
    "epoll_ctl_old",
    "epoll_wait_old",
    "vserver",
    "uretprobe",
];

/// 32-bit x86's two old calls that stand for many: number, and the value of the
/// first argument for each.
const SOCKETCALL: u32 = 102;
const IPC: u32 = 117;
const MULTIPLEXED: [(&str, u32, u64); 32] = [
    ("socket", SOCKETCALL, 1),
    ("bind", SOCKETCALL, 2),
    ("connect", SOCKETCALL, 3),
    ("listen", SOCKETCALL, 4),
    ("accept", SOCKETCALL, 5),
    ("getsockname", SOCKETCALL, 6),
    ("getpeername", SOCKETCALL, 7),
    ("socketpair", SOCKETCALL, 8),
    ("send", SOCKETCALL, 9),
    ("recv", SOCKETCALL, 10),
    ("sendto", SOCKETCALL, 11),
    ("recvfrom", SOCKETCALL, 12),
    ("shutdown", SOCKETCALL, 13),
    ("setsockopt", SOCKETCALL, 14),
    ("getsockopt", SOCKETCALL, 15),
    ("sendmsg", SOCKETCALL, 16),
    ("recvmsg", SOCKETCALL, 17),
    ("accept4", SOCKETCALL, 18),
    ("recvmmsg", SOCKETCALL, 19),
    ("sendmmsg", SOCKETCALL, 20),
    ("semop", IPC, 1),
    ("semget", IPC, 2),
    ("semctl", IPC, 3),
    ("semtimedop", IPC, 4),
    ("msgsnd", IPC, 11),
    ("msgrcv", IPC, 12),
    ("msgget", IPC, 13),
    ("msgctl", IPC, 14),
    ("shmat", IPC, 21),
    ("shmdt", IPC, 22),
    ("shmget", IPC, 23),
    ("shmctl", IPC, 24),
];

/// FNV-1a.
const fn hash(name: &[u8]) -> usize {
    let mut h: u64 = 0xcbf2_9ce4_8422_2325;
    let mut i = 0;
    while i < name.len() {
        h = (h ^ name[i] as u64).wrapping_mul(0x100_0000_01b3);
        i += 1;
    }
    (h ^ (h >> 32)) as usize
}

/// Twice as many as the calls of any architecture, or more.
const SLOTS: usize = 1024;
const NONE: u16 = u16::MAX;

/// Numbers, each at its name's hash or behind it. Made by the compiler: a container's
/// start would pay for a thousand names. Without the names, which are pointers, and
/// for which every start of this program would pay.
type Slots = [u16; SLOTS];

/// A name that Rust has another use for is written as `r#name`.
const fn plain(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

macro_rules! slots {
    ($sysno:ty) => {{
        const MADE: Slots = {
            let mut slots = [NONE; SLOTS];
            let mut id = 0;
            // By number, not by the enumeration's own iterator: that one leaves out
            // the last call.
            while id <= <$sysno>::last().id() as usize {
                if let Some(call) = <$sysno>::new(id) {
                    let mut at = hash(plain(call.name()).as_bytes()) % SLOTS;
                    while slots[at] != NONE {
                        at = (at + 1) % SLOTS;
                    }
                    slots[at] = id as u16;
                }
                id += 1;
            }
            slots
        };
        static SLOTS_OF_IT: Slots = MADE;
        let name_of = |id: u16| <$sysno>::new(id as usize).map(|call| plain(call.name()));
        (&SLOTS_OF_IT, name_of as fn(u16) -> Option<&'static str>)
    }};
}

/// The number of a call, or `None` where the architecture lacks it.
pub(super) fn number(arch: Arch, name: &str) -> Option<u32> {
    let (slots, name_of) = match arch {
        Arch::X86_64 | Arch::X32 => slots!(syscalls::x86_64::Sysno),
        Arch::X86 => slots!(syscalls::x86::Sysno),
        Arch::Aarch64 => slots!(syscalls::aarch64::Sysno),
        Arch::Arm => slots!(syscalls::arm::Sysno),
    };
    if arch == Arch::Arm
        && let Some((_, nr)) = ARM_CALLS.iter().find(|(n, _)| *n == name)
    {
        return Some(*nr);
    }
    let start = hash(name.as_bytes()) % SLOTS;
    let mut found = (0..SLOTS).map(|i| slots[(start + i) % SLOTS]);
    let nr = loop {
        match found.next() {
            None | Some(NONE) => return None,
            Some(id) if name_of(id) == Some(name) => break id as u32,
            Some(_) => {}
        }
    };
    if arch != Arch::X32 {
        return Some(nr);
    }
    if NOT_X32.contains(&name) {
        return None;
    }
    let own = X32_OWN.iter().position(|n| *n == name);
    Some(X32_BIT | own.map_or(nr, |i| 512 + i as u32))
}

/// The other way to make the call: an old multiplexing call's number and the
/// first argument that stands for this one.
pub(super) fn multiplexed(arch: Arch, name: &str) -> Option<(u32, u64)> {
    if arch != Arch::X86 {
        return None;
    }
    let found = MULTIPLEXED.iter().find(|(n, _, _)| *n == name)?;
    Some((found.1, found.2))
}
