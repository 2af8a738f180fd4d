//! Compiled programs against the profile's meaning, by an interpreter of classic
//! BPF; and one program on this machine's kernel.

use super::*;
use crate::linux::capability::Set;

struct Data {
    nr: u32,
    arch: u32,
    args: [u64; 6],
}

/// What the kernel does with a program.
fn run(program: &[sock_filter], data: &Data) -> u32 {
    let mut words = vec![data.nr, data.arch, 0, 0];
    words.extend(
        data.args
            .iter()
            .flat_map(|a| [*a as u32, (*a >> 32) as u32]),
    );
    let (mut a, mut pc) = (0u32, 0usize);
    loop {
        let i = program[pc];
        pc += 1;
        let taken = match i.code {
            0x20 => {
                a = words[i.k as usize / 4];
                continue;
            }
            0x54 => {
                a &= i.k;
                continue;
            }
            0x05 => {
                pc += i.k as usize;
                continue;
            }
            0x06 => return i.k,
            0x15 => a == i.k,
            0x25 => a > i.k,
            0x35 => a >= i.k,
            c => panic!("opcode {c:#x}"),
        };
        pc += if taken { i.jt } else { i.jf } as usize;
    }
}

/// The module's head, word for word.
fn decide(p: &Profile, data: &Data) -> u32 {
    let listed = |a| a == Arch::NATIVE || p.architectures.contains(&a);
    let all = [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Arm];
    let Some(mut arch) = all
        .into_iter()
        .find(|a| a.audit() == data.arch && listed(*a))
    else {
        return Action::KillProcess.value();
    };
    if arch == Arch::X86_64 && data.nr >= table::X32_BIT {
        if !listed(Arch::X32) {
            return Action::Errno(38).value();
        }
        arch = Arch::X32;
    }
    let holds = |arg: &Arg| {
        let width = if arch.is_32_bit() {
            u32::MAX as u64
        } else {
            u64::MAX
        };
        let (a, v) = (data.args[arg.index as usize] & width, arg.value & width);
        match arg.op {
            Op::Ne => a != v,
            Op::Lt => a < v,
            Op::Le => a <= v,
            Op::Eq => a == v,
            Op::Ge => a >= v,
            Op::Gt => a > v,
            Op::MaskedEq => a & v == arg.value_two & width,
        }
    };
    let mut newest = 0;
    let mut plain = None;
    let mut matching = None;
    let mut named = false;
    for rule in &p.rules {
        for name in &rule.names {
            if let Some(nr) = table::number(arch, name) {
                if !(arch == Arch::Arm && nr >= table::ARM_PRIVATE) {
                    newest = newest.max(nr);
                }
                if nr == data.nr {
                    named = true;
                    if rule.action == p.default_action {
                    } else if rule.args.is_empty() {
                        plain = plain.or(Some(rule.action));
                    } else if rule.args.iter().all(holds) {
                        matching = matching.or(Some(rule.action));
                    }
                }
            }
            if let Some((nr, which)) = table::multiplexed(arch, name)
                && rule.args.is_empty()
            {
                newest = newest.max(nr);
                named |= nr == data.nr;
                let says = rule.action != p.default_action;
                if says && nr == data.nr && data.args[0] as u32 as u64 == which {
                    matching = matching.or(Some(rule.action));
                }
            }
        }
    }
    let lenient = matches!(
        p.default_action,
        Action::Allow | Action::Log | Action::Trace(_)
    );
    let unknown = match !named && data.nr > newest && newest > 0 && !lenient {
        true => Action::Errno(38),
        false => p.default_action,
    };
    plain.or(matching).unwrap_or(unknown).value()
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

const ARCHS: [Arch; 5] = [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm];

/// Every number that is a call somewhere, and beyond.
fn numbers() -> Vec<u32> {
    let mut all: Vec<u32> = (0..600).collect();
    all.extend((0..600).map(|n| n | table::X32_BIT));
    all.extend((0..10).map(|n| n + table::ARM_PRIVATE));
    all.extend([1000, u32::MAX, u32::MAX - 1, table::X32_BIT - 1]);
    all
}

fn compare(p: &Profile, random: &mut Random, values: &[u64], tries: usize) {
    let program = compile(p).unwrap();
    for arch in ARCHS {
        for nr in numbers() {
            for _ in 0..tries {
                let data = Data {
                    nr,
                    arch: arch.audit(),
                    args: std::array::from_fn(|_| random.pick(values)),
                };
                let (is, should) = (run(&program, &data), decide(p, &data));
                assert_eq!(is, should, "{arch:?} {nr} {:x?}\n{p:?}", data.args);
            }
        }
    }
    let foreign = Data {
        nr: 0,
        arch: 0x1234,
        args: [0; 6],
    };
    assert_eq!(run(&program, &foreign), Action::KillProcess.value());
}

#[test]
fn programs_mean_what_profiles_mean() {
    let mut random = Random(42);
    const NAMES: [&str; 14] = [
        "read",
        "write",
        "ioctl",
        "clone",
        "socket",
        "socketcall",
        "personality",
        "futex_time64",
        "set_tls",
        "openat2",
        "bpf",
        "semop",
        "execveat",
        "not_a_call",
    ];
    let values = [
        0,
        1,
        5,
        1 << 32,
        (1 << 32) + 5,
        0xffff_ffff,
        u64::MAX,
        7 << 40,
    ];
    let actions = [
        Action::Allow,
        Action::Errno(1),
        Action::Errno(13),
        Action::KillProcess,
        Action::KillThread,
        Action::Trap,
        Action::Trace(7),
        Action::Log,
        Action::Notify,
    ];
    let ops = [Op::Ne, Op::Lt, Op::Le, Op::Eq, Op::Ge, Op::Gt, Op::MaskedEq];
    for _ in 0..150 {
        let rules = (0..random.below(12))
            .map(|_| Rule {
                names: (0..1 + random.below(3))
                    .map(|_| random.pick(&NAMES).into())
                    .collect(),
                action: random.pick(&actions),
                args: (0..random.below(4))
                    .map(|_| Arg {
                        index: random.below(3) as u8,
                        value: random.pick(&values),
                        value_two: random.pick(&values),
                        op: random.pick(&ops),
                    })
                    .collect(),
            })
            .collect();
        let profile = Profile {
            default_action: random.pick(&actions),
            architectures: (0..random.below(5)).map(|_| random.pick(&ARCHS)).collect(),
            rules,
            flags: Flags::default(),
        };
        compare(&profile, &mut random, &values, 2);
    }
}

#[test]
fn the_default_profile() {
    let mut random = Random(7);
    let values = [
        0,
        1,
        8,
        12,
        38,
        40,
        45,
        46,
        0x7e02_0000,
        0x1_0000_0001,
        0xffff_ffff,
    ];
    let all = Set::supported();
    for caps in [Set::EMPTY, Set::container_default(), all] {
        let mut profile = profile::runtime_default(caps);
        compare(&profile, &mut random, &values, 3);
        // And as other runtimes have it, with x32.
        profile.architectures.push(Arch::X32);
        compare(&profile, &mut random, &values, 1);
    }
    let program = compile(&profile::runtime_default(Set::container_default())).unwrap();
    assert!(program.len() < 700, "{} instructions", program.len());

    let ask = |name: &str, arg: u64| {
        let data = Data {
            nr: table::number(Arch::NATIVE, name).unwrap(),
            arch: Arch::NATIVE.audit(),
            args: [arg, 0, 0, 0, 0, 0],
        };
        run(&program, &data)
    };
    let (yes, no, absent) = (Action::Allow.value(), 0x5_0001, 0x5_0026);
    assert_eq!(ask("read", 0), yes);
    assert_eq!(ask("chroot", 0), yes);
    assert_eq!(ask("mount", 0), no);
    assert_eq!(ask("io_uring_setup", 0), no);
    assert_eq!(ask("clone3", 0), absent);
    assert_eq!(ask("clone", 17), yes);
    assert_eq!(ask("clone", 0x1000_0000 | 17), no);
    assert_eq!(ask("socket", 2), yes);
    assert_eq!(ask("socket", 38), no);
    assert_eq!(ask("socket", 40), no);
    assert_eq!(
        ask("socket", (1 << 32) | 2),
        no,
        "the kernel would see family 2"
    );
}

/// A misspelt name would be skipped in silence.
#[test]
fn every_name_of_the_default_profile_exists_somewhere() {
    const NOWHERE_HERE: [&str; 4] = ["getsid", "riscv_hwprobe", "fstatat64", "newfstatat"];
    for rule in profile::runtime_default(Set::supported()).rules {
        for name in rule.names {
            let known = ARCHS.iter().any(|a| table::number(*a, &name).is_some());
            assert!(known || NOWHERE_HERE.contains(&&*name), "{name}");
        }
    }
}

#[test]
fn distant_targets_are_reached() {
    // Each call with tests of its own: far more than 255 instructions apart.
    let names: Vec<String> = (0..330)
        .filter_map(|n| syscalls::x86_64::Sysno::new(n).map(|s| s.name().to_owned()))
        .collect();
    let rules = names.iter().enumerate().map(|(i, name)| Rule {
        names: vec![name.clone().into()],
        action: Action::Errno((i % 4000) as u16 + 1),
        args: vec![Arg {
            index: (i % 6) as u8,
            value: i as u64 % 9,
            value_two: 0,
            op: Op::Eq,
        }],
    });
    let profile = Profile {
        default_action: Action::Allow,
        architectures: vec![Arch::X86_64],
        rules: rules.collect(),
        flags: Flags::default(),
    };
    compare(&profile, &mut Random(1), &[0, 1, 2, 3, 8], 4);
}

fn from_json(text: &str) -> Result<Profile> {
    crate::oci::seccomp::plan(&serde_json::from_str(text).unwrap())
}

#[test]
fn reads_oci() {
    let p = from_json(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
            "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_S390X"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"], "listenerPath": "/run/agent",
            "syscalls": [
              {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
              {"names": ["socket"], "action": "SCMP_ACT_NOTIFY", "args": [
                {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
                {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]},
              {"names": ["clone"], "action": "SCMP_ACT_TRACE", "errnoRet": 9, "args": [
                {"index": 0, "value": 3, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]}]}"#,
    )
    .unwrap();
    assert_eq!(p.default_action, Action::Errno(38));
    assert!(!p.architectures.iter().any(|a| !a.runs_here()));
    assert!(p.flags.log && !p.flags.spec_allow && p.notifies());
    assert_eq!(p.rules.len(), 4, "alternatives are rules of their own");
    assert_eq!(p.rules[3].action, Action::Trace(9));
    assert_eq!(p.rules[3].args[0].value_two, 1);
    let p = from_json(r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).unwrap();
    assert!(p.flags.spec_allow);
}

#[test]
fn errors_name_the_field() {
    for (text, field) in [
        (
            r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#,
            "linux.seccomp.defaultAction:",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 70000}"#,
            "linux.seccomp.defaultErrnoRet:",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": [], "action": "SCMP_ACT_ALLOW"}]}"#,
            "linux.seccomp.syscalls[0].names:",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1}]}"#,
            "linux.seccomp.syscalls[0].errnoRet:",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_KILL",
                 "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]}"#,
            "linux.seccomp.syscalls[0].args[0].index:",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]}"#,
            "linux.seccomp.listenerPath:",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": ""}"#,
            "linux.seccomp.listenerPath: is empty",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/a\u0000b"}"#,
            "linux.seccomp.listenerPath: a NUL byte",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}"#,
            "linux.seccomp.listenerMetadata:",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["write"], "action": "SCMP_ACT_NOTIFY"}]}"#,
            "linux.seccomp.syscalls[0].action:",
        ),
    ] {
        let e = from_json(text).unwrap_err();
        assert_eq!(e.kind(), Kind::Invalid);
        assert!(e.to_string().starts_with(field), "{e}");
    }
}

/// A filter is of its thread alone (without TSYNC) and ends with it: no other
/// process is needed.
fn in_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(work).join().unwrap()
}

#[test]
fn the_kernel_takes_it() {
    in_thread(|| {
        let profile = profile::runtime_default(Set::container_default());
        let filter = Filter::new(&profile).unwrap();
        assert!(filter.install().unwrap().is_none());
        let e = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUTS).unwrap_err();
        assert_eq!(e, Errno::EPERM);
        let vsock = nix::sys::socket::socket(
            nix::sys::socket::AddressFamily::Vsock,
            nix::sys::socket::SockType::Stream,
            nix::sys::socket::SockFlag::SOCK_CLOEXEC,
            None,
        );
        assert_eq!(vsock.unwrap_err(), Errno::EPERM);
        assert!(std::fs::read_to_string("/proc/self/comm").is_ok());
        let child = std::process::Command::new("/bin/true").status().unwrap();
        assert!(child.success());
    });
}

#[test]
fn a_listener_is_returned() {
    in_thread(|| {
        let profile = Profile {
            default_action: Action::Allow,
            architectures: vec![],
            rules: vec![Rule {
                names: vec!["acct".into()],
                action: Action::Notify,
                args: vec![],
            }],
            flags: Flags {
                wait_killable: true,
                ..Flags::default()
            },
        };
        let fd = Filter::new(&profile).unwrap().install().unwrap();
        use std::os::fd::AsRawFd;
        let fd = fd.expect("a listener");
        let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
        assert!(
            link.to_string_lossy().contains("seccomp notify"),
            "{link:?}"
        );
    });
}

/// Each action on the kernel: what a call meets that the profile names. Judged in a
/// process of its own, for some actions end it: this program again, with
/// [`judged`] as its only test and thread.
#[test]
fn actions_do_what_they_say() {
    use std::os::unix::process::ExitStatusExt;
    for (i, (action, expected)) in JUDGED.iter().enumerate() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--test-threads=1"])
            .arg("linux::seccomp::tests::judged")
            .env("CAROB_TEST_JUDGED", i.to_string())
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        let is = status.signal().map_or(status.code(), |n| Some(-n));
        assert_eq!(is, Some(*expected), "{action:?}");
    }
}

/// What the process ends with: the errno of the call, or the signal below zero.
const JUDGED: [(Action, i32); 9] = [
    (Action::KillProcess, -libc::SIGSYS),
    // The harness runs a test in a thread, and that alone dies.
    (Action::KillThread, OUTLIVED),
    (Action::Trap, -libc::SIGSYS),
    (Action::Errno(77), 77),
    (Action::Errno(0), 0),
    // Nobody traces it, and nobody holds the listener's fd.
    (Action::Trace(5), libc::ENOSYS),
    (Action::Notify, libc::ENOSYS),
    (Action::Log, 0),
    (Action::Allow, 0),
];

/// The thread that made the call is no more, the process is.
const OUTLIVED: i32 = 42;

#[test]
#[ignore = "the other process of actions_do_what_they_say"]
fn judged() {
    let Some(i) = std::env::var("CAROB_TEST_JUDGED").ok() else {
        return;
    };
    let (action, _) = JUDGED[i.parse::<usize>().unwrap()];
    let profile = Profile {
        default_action: Action::Allow,
        architectures: vec![Arch::X86],
        rules: vec![Rule {
            names: vec!["getsid".into()],
            action,
            args: vec![],
        }],
        flags: Flags::default(),
    };
    // Without the filter, since it is older.
    std::thread::spawn(|| {
        std::thread::sleep(std::time::Duration::from_secs(2));
        std::process::exit(OUTLIVED);
    });
    drop(Filter::new(&profile).unwrap().install().unwrap());
    let said = nix::unistd::getsid(None);
    std::process::exit(said.err().map_or(0, |e| e as i32));
}

/// As runc and crun: a rule with the default action takes nothing back.
#[test]
fn the_default_action_is_no_rule() {
    let p = from_json(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["acct"], "action": "SCMP_ACT_ERRNO"},
            {"names": ["acct"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 5, "op": "SCMP_CMP_EQ"}]},
            {"names": ["sync"], "action": "SCMP_ACT_ERRNO", "errnoRet": 2}]}"#,
    )
    .unwrap();
    let program = compile(&p).unwrap();
    let ask = |name: &str, arg: u64| {
        let data = Data {
            nr: table::number(Arch::NATIVE, name).unwrap(),
            arch: Arch::NATIVE.audit(),
            args: [arg, 0, 0, 0, 0, 0],
        };
        run(&program, &data)
    };
    assert_eq!(ask("acct", 5), Action::Allow.value());
    assert_eq!(ask("acct", 4), Action::Errno(1).value());
    assert_eq!(ask("sync", 0), Action::Errno(2).value());
}

/// `cargo test --release -- --ignored --nocapture seccomp::tests::timing`
#[test]
#[ignore = "a measurement"]
fn timing() {
    use std::time::{Duration, Instant};
    let t = Instant::now();
    let profile = profile::runtime_default(Set::container_default());
    let made = t.elapsed();
    let t = Instant::now();
    let tree = compile(&profile).unwrap();
    println!(
        "profile {made:?}, first compile {:?}, {} instructions",
        t.elapsed(),
        tree.len()
    );
    let t = Instant::now();
    for _ in 0..100 {
        compile(&profile).unwrap();
    }
    println!("compile again {:?}", t.elapsed() / 100);
    // The same fates one after the other, as a filter without a tree has them.
    let mut linear = vec![sock_filter {
        code: 0x20,
        jt: 0,
        jf: 0,
        k: 0,
    }];
    for nr in 0..470 {
        let data = Data {
            nr,
            arch: Arch::NATIVE.audit(),
            args: [0; 6],
        };
        if decide(&profile, &data) == Action::Allow.value() {
            linear.push(sock_filter {
                code: 0x15,
                jt: 0,
                jf: 1,
                k: nr,
            });
            linear.push(sock_filter {
                code: 0x06,
                jt: 0,
                jf: 0,
                k: Action::Allow.value(),
            });
        }
    }
    linear.push(sock_filter {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: 0x5_0001,
    });
    let len = linear.len();
    let install = |program: Vec<sock_filter>| {
        let mut all: Vec<Duration> = (0..40)
            .map(|_| {
                let program = program.clone();
                std::thread::sleep(Duration::from_millis(20));
                in_thread(move || {
                    let filter = Filter { program, flags: 4 };
                    let t = Instant::now();
                    filter.install().unwrap();
                    t.elapsed()
                })
            })
            .collect();
        all.sort();
        all[20]
    };
    println!(
        "install tree {:?}, linear of {len} (native only) {:?}",
        install(tree),
        install(linear)
    );
}
