//! Kubernetes' `RuntimeDefault` profile.
//!
//! The content is that of the profile which moby maintains and containerd follows
//! (as of 2026, with the families of sockets it lists): what an ordinary program
//! needs is allowed; what reaches beyond a container, or has a record of kernel
//! bugs, is not, or only with the capability that it is for. It is arranged here
//! by subject, so that a reader sees what is in.
//!
//! Ours differ in one point: x32 is left out. Its calls get ENOSYS, as from a
//! kernel that was built without it, which Debian's and most are.

use caps::Capability;

use super::{Action, Arch, Arg, Flags, Op, Profile, Rule};
use crate::linux::capability::Set;

/// Always allowed, with any arguments. Names by subject, split at blanks.
const ALWAYS: &[&str] = &[
    // Files: opening, reading, writing.
    "open openat openat2 creat close close_range read write readv writev pread64 pwrite64 \
     preadv pwritev preadv2 pwritev2 lseek _llseek dup dup2 dup3 fcntl fcntl64 ioctl flock \
     fsync fdatasync sync syncfs sync_file_range readahead fadvise64 fadvise64_64 fallocate \
     truncate truncate64 ftruncate ftruncate64 copy_file_range sendfile sendfile64 splice \
     tee vmsplice pipe pipe2 cachestat name_to_handle_at",
    // Directories and names.
    "chdir fchdir getcwd getdents getdents64 mkdir mkdirat rmdir mknod mknodat link linkat \
     symlink symlinkat unlink unlinkat rename renameat renameat2 readlink readlinkat",
    // What is known of a file and of a filesystem.
    "access faccessat faccessat2 stat stat64 lstat lstat64 fstat fstat64 fstatat64 \
     newfstatat statx statfs statfs64 fstatfs fstatfs64 statmount listmount chmod fchmod \
     fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat lchown lchown32 umask utime \
     utimes utimensat utimensat_time64 futimesat getxattr lgetxattr fgetxattr getxattrat \
     setxattr lsetxattr fsetxattr setxattrat listxattr llistxattr flistxattr listxattrat \
     removexattr lremovexattr fremovexattr removexattrat inotify_init inotify_init1 \
     inotify_add_watch inotify_rm_watch fanotify_mark",
    // Memory.
    "brk mmap mmap2 munmap mremap mprotect madvise mincore msync mlock mlock2 mlockall \
     munlock munlockall mseal remap_file_pages memfd_create memfd_secret membarrier \
     pkey_alloc pkey_free pkey_mprotect map_shadow_stack process_mrelease",
    // Processes and threads. ptrace is in: since 4.8 the filter is asked again after
    // the tracer, so that it is no way around.
    "fork vfork execve execveat exit exit_group wait4 waitid waitpid getpid getppid gettid \
     getpgid setpgid getpgrp getsid setsid pidfd_open pidfd_send_signal set_tid_address \
     set_robust_list get_robust_list get_thread_area set_thread_area futex futex_time64 \
     futex_wait futex_wake futex_waitv futex_requeue rseq prctl seccomp \
     landlock_create_ruleset landlock_add_rule landlock_restrict_self ptrace \
     process_vm_readv process_vm_writev restart_syscall getcpu uname sysinfo getrusage \
     times getrlimit ugetrlimit setrlimit prlimit64 uretprobe riscv_hwprobe getrandom",
    // Signals.
    "kill tkill tgkill rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo \
     rt_tgsigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 \
     sigaltstack sigprocmask sigreturn signalfd signalfd4 pause alarm",
    // Time; adjusting the clock needs CAP_SYS_TIME anyway, reading its state does not.
    "time gettimeofday adjtimex clock_adjtime clock_adjtime64 clock_getres \
     clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep \
     clock_nanosleep_time64 nanosleep getitimer setitimer timer_create timer_delete \
     timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 \
     timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64",
    // Scheduling.
    "sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr \
     sched_getparam sched_setparam sched_getscheduler sched_setscheduler \
     sched_get_priority_max sched_get_priority_min sched_rr_get_interval \
     sched_rr_get_interval_time64 getpriority setpriority ioprio_get ioprio_set",
    // Waiting for events; asynchronous I/O, of the old kind: io_uring is left out.
    "poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 epoll_create \
     epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait \
     epoll_pwait2 eventfd eventfd2 io_setup io_destroy io_submit io_cancel io_getevents \
     io_pgetevents io_pgetevents_time64",
    // Sockets; see FAMILIES. A 32-bit program's socketcall cannot be looked into.
    "socketcall socketpair bind listen accept accept4 connect shutdown getsockname \
     getpeername getsockopt setsockopt send sendto sendmsg sendmmsg recv recvfrom recvmsg \
     recvmmsg recvmmsg_time64",
    // System V and POSIX IPC.
    "ipc msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat \
     shmctl shmdt shmget mq_open mq_unlink mq_notify mq_getsetattr mq_timedreceive \
     mq_timedreceive_time64 mq_timedsend mq_timedsend_time64",
    // Users, groups, capabilities.
    "getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getgroups \
     getgroups32 setgroups setgroups32 getresuid getresuid32 getresgid getresgid32 setuid \
     setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid setresuid32 \
     setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 capget capset",
];

/// Allowed with a capability only.
const WITH: &[(Capability, &[&str])] = &[
    (Capability::CAP_DAC_READ_SEARCH, &["open_by_handle_at"]),
    (
        Capability::CAP_SYS_ADMIN,
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "lsm_get_self_attr",
            "lsm_list_modules",
            "lsm_set_self_attr",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    (Capability::CAP_SYS_BOOT, &["reboot"]),
    (Capability::CAP_SYS_CHROOT, &["chroot"]),
    (
        Capability::CAP_SYS_MODULE,
        &["delete_module", "finit_module", "init_module"],
    ),
    (Capability::CAP_SYS_PACCT, &["acct"]),
    (
        Capability::CAP_SYS_PTRACE,
        &["kcmp", "pidfd_getfd", "process_madvise"],
    ),
    (Capability::CAP_SYS_RAWIO, &["ioperm", "iopl"]),
    (
        Capability::CAP_SYS_TIME,
        &["clock_settime", "clock_settime64", "settimeofday", "stime"],
    ),
    (Capability::CAP_SYS_TTY_CONFIG, &["vhangup"]),
    (
        Capability::CAP_SYS_NICE,
        &[
            "get_mempolicy",
            "mbind",
            "set_mempolicy",
            "set_mempolicy_home_node",
        ],
    ),
    (Capability::CAP_SYSLOG, &["syslog"]),
    (Capability::CAP_BPF, &["bpf"]),
    (Capability::CAP_PERFMON, &["perf_event_open"]),
];

/// Socket families, those that most programs ask for first. Left out are those that no
/// container needs and whose code saw little care (DECnet, Econet, ATM SVC, IrDA, IUCV,
/// CAIF), ALG (the kernel's crypto, a source of exploits), and VSOCK, which is not in any
/// network namespace and so reaches the hypervisor. Nothing above 45: a new family is to be
/// looked at first. One by one, since a `config.json` has no range: there, two conditions
/// on one argument are alternatives.
const FAMILIES: [u64; 37] = [
    2, 10, 1, 16, 17, 0, 3, 4, 5, 6, 7, 8, 9, 11, 13, 14, 15, 18, 21, 22, 24, 26, 27, 28, 29, 30,
    31, 32, 33, 35, 36, 39, 41, 42, 43, 44, 45,
];

/// Execution domains: Linux, Linux with a 32-bit uname (8), UNAME26 (0x20000), both, and
/// the question for the current one.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The flags of clone(2) that make a namespace (all but time's, which shares its
/// bit with the exit signal).
const NEW_NAMESPACES: u64 = 0x7e02_0000;

fn allow(names: &[&'static str], args: Vec<Arg>) -> Rule {
    Rule {
        names: names.iter().map(|n| (*n).into()).collect(),
        action: Action::Allow,
        args,
    }
}

fn first(op: Op, value: u64) -> Arg {
    Arg {
        index: 0,
        value,
        value_two: 0,
        op,
    }
}

/// The profile for a process whose bounding set is `caps`.
pub(crate) fn runtime_default(caps: Set) -> Profile {
    let mut rules: Vec<Rule> = ALWAYS
        .iter()
        .map(|g| allow(&g.split_whitespace().collect::<Vec<_>>(), Vec::new()))
        .collect();
    for family in FAMILIES {
        rules.push(allow(&["socket"], vec![first(Op::Eq, family)]));
    }
    for domain in PERSONALITIES {
        rules.push(allow(&["personality"], vec![first(Op::Eq, domain)]));
    }
    match Arch::NATIVE {
        Arch::Aarch64 => rules.push(allow(
            &[
                "arm_fadvise64_64",
                "arm_sync_file_range",
                "breakpoint",
                "cacheflush",
                "set_tls",
                "sync_file_range2",
            ],
            Vec::new(),
        )),
        _ => rules.push(allow(&["arch_prctl", "modify_ldt"], Vec::new())),
    }
    for (cap, names) in WITH {
        if caps.has(*cap) {
            rules.push(allow(names, Vec::new()));
        }
    }
    if !caps.has(Capability::CAP_SYS_ADMIN) {
        rules.push(allow(&["clone"], vec![first(Op::MaskedEq, NEW_NAMESPACES)]));
        // Its flags are behind a pointer, where no filter can look: the C library
        // is sent back to clone.
        rules.push(Rule {
            names: vec!["clone3".into()],
            action: Action::Errno(libc::ENOSYS as u16),
            args: Vec::new(),
        });
    }
    Profile {
        default_action: Action::Errno(libc::EPERM as u16),
        architectures: match Arch::NATIVE {
            Arch::Aarch64 => vec![Arch::Aarch64, Arch::Arm],
            _ => vec![Arch::X86_64, Arch::X86],
        },
        rules,
        flags: Flags {
            spec_allow: true,
            ..Flags::default()
        },
    }
}
