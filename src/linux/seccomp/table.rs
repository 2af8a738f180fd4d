//! Names of system calls to numbers, per architecture.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::OnceLock;

use super::Arch;

/// Set in the number of every x32 call.
pub const X32_BIT: u32 = 0x4000_0000;

/// From here on are calls private to 32-bit ARM; they say nothing about how new
/// a profile is.
pub const ARM_PRIVATE: u32 = 0x000f_0000;

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

/// FNV-1a: the keys are ours and short, and a container's start pays for a
/// thousand of them. Names from a profile cannot grow the table.
#[derive(Clone, Copy)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = (self.0 ^ *b as u64).wrapping_mul(0x100_0000_01b3);
        }
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

type Table = HashMap<&'static str, u32, BuildHasherDefault<Fnv>>;

fn build(arch: Arch) -> Table {
    let mut table = Table::with_capacity_and_hasher(512, BuildHasherDefault::default());
    // By number, not by the enumeration's own iterator: that one leaves out the
    // last call.
    macro_rules! fill {
        ($sysno:ty) => {
            for id in 0..=<$sysno>::last().id() as usize {
                if let Some(call) = <$sysno>::new(id) {
                    table.insert(call.name().trim_start_matches("r#"), id as u32);
                }
            }
        };
    }
    match arch {
        Arch::X86_64 | Arch::X32 => fill!(syscalls::x86_64::Sysno),
        Arch::X86 => fill!(syscalls::x86::Sysno),
        Arch::Aarch64 => fill!(syscalls::aarch64::Sysno),
        Arch::Arm => {
            fill!(syscalls::arm::Sysno);
            table.extend(ARM_CALLS);
        }
    }
    table
}

/// The number of a call, or `None` where the architecture lacks it.
pub fn number(arch: Arch, name: &str) -> Option<u32> {
    static TABLES: [OnceLock<Table>; 4] = [const { OnceLock::new() }; 4];
    let slot = match arch {
        Arch::X86_64 | Arch::X32 => 0,
        Arch::X86 => 1,
        Arch::Aarch64 => 2,
        Arch::Arm => 3,
    };
    let nr = *TABLES[slot].get_or_init(|| build(arch)).get(name)?;
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
pub fn multiplexed(arch: Arch, name: &str) -> Option<(u32, u64)> {
    if arch != Arch::X86 {
        return None;
    }
    let found = MULTIPLEXED.iter().find(|(n, _, _)| *n == name)?;
    Some((found.1, found.2))
}
