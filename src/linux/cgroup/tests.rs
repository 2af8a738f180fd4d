//! Plans as data; effects on this machine's kernel, as root.

use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollTimeout, poll};

use nix::unistd::Pid;

use super::measure::page_sizes;
use super::resources::HugepageLimit;
use super::*;

/// A cgroup of this test that goes away with its processes.
struct Scratch(Cgroup, String);

impl Scratch {
    fn new(name: &str, select: Select) -> Scratch {
        let h = Hierarchies::detect().unwrap();
        let top = format!("carob-test-{}-{name}", std::process::id());
        Scratch(
            Cgroup::create(&h, &format!("{top}/app"), select).unwrap(),
            top,
        )
    }

    /// A shell that is moved in before it runs `script`, through the same files
    /// that a container's child uses.
    fn shell(&self, script: &str) -> Child {
        let mut joins: Vec<String> = Vec::new();
        for h in self.0.joined() {
            let tasks = io::full(h, self.0.path(), "tasks");
            let procs = io::full(h, self.0.path(), "cgroup.procs");
            let file = if tasks.exists() { tasks } else { procs };
            joins.push(format!("echo 0 > {} || exit 99", file.display()));
        }
        Command::new("/bin/sh")
            .args(["-c", &format!("{}\n{script}", joins.join("\n"))])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.remove();
        let h = Hierarchies::detect().unwrap();
        let top = Cgroup::open(&h, &self.1, Select::All).unwrap();
        if let Some(top) = top
            && let Err(e) = top.remove()
            && !std::thread::panicking()
        {
            panic!("left behind: {e}");
        }
    }
}

fn line(child: &mut Child) -> String {
    let mut text = String::new();
    let out = child.stdout.as_mut().unwrap();
    BufReader::new(out).read_line(&mut text).unwrap();
    text.trim().to_owned()
}

fn limits() -> Resources {
    Resources {
        cpu_shares: Some(512),
        cpu_quota_us: Some(Limit::At(50_000)),
        cpu_period_us: Some(100_000),
        memory_max: Some(Limit::At(32 << 20)),
        memory_reservation: Some(Limit::At(16 << 20)),
        memory_swap_max: Some(Limit::At(0)),
        oom_group: Some(true),
        pids_max: Some(Limit::At(20)),
        devices: default_device_rules(),
        ..Resources::default()
    }
}

fn as_text(writes: &[resources::Write]) -> Vec<String> {
    writes
        .iter()
        .map(|w| format!("{}={}", w.file, w.value))
        .collect()
}

#[test]
fn the_plan_of_v2() {
    assert_eq!(
        as_text(&v2::plan(&limits())),
        [
            "cpu.weight=59",
            "cpu.max=50000 100000",
            "memory.low=16777216",
            "memory.max=33554432",
            "memory.swap.max=0",
            "memory.oom.group=1",
            "pids.max=20",
        ]
    );
    let lifted = Resources {
        cpu_quota_us: Some(Limit::from(-1)),
        memory_max: Some(Limit::Max),
        ..Resources::default()
    };
    assert_eq!(
        as_text(&v2::plan(&lifted)),
        ["cpu.max=max", "memory.max=max"]
    );
    assert!(v2::plan(&Resources::default()).is_empty());
}

#[test]
fn the_plan_of_v1() {
    assert_eq!(
        as_text(&v1::plan(&limits())),
        [
            "cpu.shares=512",
            "cpu.cfs_period_us=100000",
            "cpu.cfs_quota_us=50000",
            "memory.limit_in_bytes=33554432",
            "memory.soft_limit_in_bytes=16777216",
            "memory.memsw.limit_in_bytes=33554432",
            "pids.max=20",
        ]
    );
}

#[test]
fn shares_keep_their_three_fixed_points() {
    assert_eq!(weight_from_shares(0), 1);
    assert_eq!(weight_from_shares(2), 1);
    assert_eq!(weight_from_shares(1024), 100);
    assert_eq!(weight_from_shares(262_144), 10_000);
    let all: Vec<u64> = (1..19).map(|p| weight_from_shares(1 << p)).collect();
    assert!(all.windows(2).all(|w| w[0] < w[1]), "{all:?}");
}

#[test]
fn paths_stay_below_the_hierarchy() {
    let h = Hierarchies::detect().unwrap();
    for bad in ["", "/a", "a//b", "../a", "a/..", "./a", "a\nb"] {
        let e = Cgroup::create(&h, bad, Select::Pod).unwrap_err();
        assert_eq!(e.kind(), Kind::Invalid, "{bad:?}");
    }
}

#[test]
fn limits_hold_and_nothing_is_left() {
    for select in [Select::Pod, Select::All] {
        let s = Scratch::new(&format!("limits-{}", select == Select::All), select);
        s.0.apply(&limits()).unwrap();
        // Again, lower, higher: an update in both directions.
        for mib in [32, 16, 64] {
            let mut r = limits();
            r.memory_max = Some(Limit::At(mib << 20));
            s.0.apply(&r).unwrap();
        }
        let mut child = s.shell("head -c9 /dev/null; echo $$; exec sleep 1000");
        let pid: i32 = line(&mut child).parse().unwrap();
        assert_eq!(s.0.procs().unwrap(), [Pid::from_raw(pid)]);
        let stat = s.0.stat().unwrap();
        assert_eq!(stat.pids_current, Some(1));
        assert!(stat.memory_current.is_some() && stat.memory_peak >= stat.memory_current);
        assert!(stat.cpu_usage_ns.unwrap() > 0);
        assert_eq!(stat.oom_kills, Some(0));
        let e = Cgroup::create(&Hierarchies::detect().unwrap(), s.0.path(), select);
        assert!(e.is_ok(), "create twice");

        s.0.kill().unwrap();
        let reaper = std::thread::spawn(move || child.wait().unwrap());
        let start = Instant::now();
        s.0.remove().unwrap();
        assert!(start.elapsed() < Duration::from_secs(1));
        reaper.join().unwrap();
        s.0.remove().unwrap();
        s.0.kill().unwrap();
        assert!(!s.0.exists());
        assert_eq!(s.0.stat().unwrap_err().kind(), Kind::NotFound);
        assert!(s.0.procs().unwrap().is_empty());
    }
}

#[test]
fn removal_says_who_is_in_the_way() {
    let s = Scratch::new("busy", Select::Pod);
    let mut child = s.shell("echo in; exec sleep 1000");
    line(&mut child);
    let start = Instant::now();
    let e = s.0.remove().unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(4), "{e}");
    assert!(e.to_string().contains("EBUSY"), "{e}");
    let pid = child.id().to_string();
    assert!(e.get_hint().unwrap().contains(&pid), "{:?}", e.get_hint());
    s.0.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn killing_without_cgroup_kill_and_below() {
    // No v2 controller: with one on for what is below, no process may be above.
    let select = Select::These(Controllers::FREEZER);
    let s = Scratch::new("each", select);
    let below = format!("{}/inner", s.0.path());
    let inner = Scratch(
        Cgroup::create(&Hierarchies::detect().unwrap(), &below, select).unwrap(),
        below,
    );
    let mut children = [
        s.shell("echo in; exec sleep 1000"),
        inner.shell("echo in; exec sleep 1000"),
    ];
    for c in &mut children {
        line(c);
    }
    s.0.freeze(true).unwrap();
    s.0.kill_each().unwrap();
    s.0.freeze(false).unwrap();
    for c in &mut children {
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(c.wait().unwrap().signal(), Some(9));
    }
    // The one below goes with it.
    s.0.remove().unwrap();
    assert!(!inner.0.exists());
}

#[test]
fn out_of_memory_is_seen() {
    let s = Scratch::new("oom", Select::Pod);
    let mut r = limits();
    r.memory_max = Some(Limit::At(8 << 20));
    s.0.apply(&r).unwrap();
    let event = s.0.oom_events().unwrap().expect("memory is controlled");
    let mut child = s.shell("echo in; exec tail /dev/zero");
    line(&mut child);
    let mut fds = [PollFd::new(event.as_fd(), event.awaited())];
    assert_eq!(poll(&mut fds, PollTimeout::from(10_000u16)), Ok(1));
    child.wait().unwrap();
    assert!(s.0.oom_kills().unwrap() >= 1);
    // Once acknowledged it is quiet again, and what it takes is no inotify instance.
    // v2 tells of a change that soon follows another one up to 10 ms later
    // (cgroup_file_notify() of kernel/cgroup/cgroup.c), which is one more event.
    let quiet = (0..20).any(|_| {
        event.acknowledge().unwrap();
        let mut fds = [PollFd::new(event.as_fd(), event.awaited())];
        poll(&mut fds, PollTimeout::from(50_u16)) == Ok(0)
    });
    assert!(quiet, "each wait ends at once");
    let link = format!("/proc/self/fd/{}", event.as_fd().as_raw_fd());
    let kind = std::fs::read_link(link).unwrap();
    assert!(!kind.to_str().unwrap().contains("inotify"), "{kind:?}");
}

/// On v1 through its files, and on v2 (with v1's hierarchy left out) through a
/// program: the same rules give the same answers.
#[test]
fn devices_are_denied() {
    let v2_only = Select::These(Controllers::PIDS);
    for (name, select) in [("dev-pod", Select::Pod), ("dev-bpf", v2_only)] {
        let s = Scratch::new(name, select);
        let dir = format!("/tmp/{}", s.1);
        std::fs::create_dir(&dir).unwrap();
        let apply = |devices| {
            let r = Resources {
                devices,
                ..Resources::default()
            };
            s.0.apply(&r).unwrap();
        };
        apply(default_device_rules());
        // 1:1 is mem: its node may be made, not opened.
        let script = format!(
            "mknod {dir}/mem c 1 1 && m=made; true < {dir}/mem && o=open; \
             true < /dev/null && n=null; head -c1 /dev/zero > /dev/null && z=zero; echo $m,$o,$n,$z"
        );
        let mut child = s.shell(&format!("exec 2> /dev/null; {script}"));
        assert_eq!(line(&mut child), "made,,null,zero", "{name}");
        child.wait().unwrap();

        // Replaced, not added to: everything is denied now, mknod too.
        apply(vec![DeviceRule::DENY_ALL]);
        let mut child = s.shell(&format!("exec 2>&1; mknod {dir}/two c 1 3 || echo denied"));
        let said = line(&mut child);
        assert!(
            said.contains("not permitted") || said == "denied",
            "{name}: {said}"
        );
        child.wait().unwrap();
        apply(vec![DeviceRule::ALLOW_ALL]);
        let mut child = s.shell(&format!("exec 2>&1; mknod {dir}/two c 1 3 && echo made"));
        assert_eq!(line(&mut child), "made", "{name}");
        child.wait().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn a_missing_controller_is_named() {
    let h = Hierarchies::detect().unwrap();
    let s = Scratch::new("missing", Select::These(Controllers::NONE));
    let r = Resources {
        memory_max: Some(Limit::At(1 << 20)),
        ..Resources::default()
    };
    let e = s.0.apply(&r).unwrap_err();
    assert_eq!(e.kind(), Kind::Unsupported);
    assert!(e.to_string().contains("memory"), "{e}");
    assert!(e.get_hint().is_some());
    if h.v2().is_some() {
        let r = Resources {
            unified: vec![("no.such".into(), "1".into())],
            ..Resources::default()
        };
        assert_eq!(s.0.apply(&r).unwrap_err().kind(), Kind::Unsupported);
    }
}

/// Limits that are judged by one another, in every direction.
#[test]
fn updates_go_up_and_down() {
    let s = Scratch::new("updates", Select::All);
    let mib = |n: u64| Some(Limit::At(n << 20));
    for (max, sum) in [(32, 64), (16, 16), (128, 256), (8, 200), (100, 100)] {
        let r = Resources {
            memory_max: mib(max),
            memory_and_swap_max: mib(sum),
            ..Resources::default()
        };
        s.0.apply(&r).unwrap();
        let memory = s.0.accounts().unwrap().memory;
        assert_eq!(memory.usage.limit, max << 20);
    }
    let lifted = Resources {
        memory_max: Some(Limit::Max),
        memory_and_swap_max: Some(Limit::Max),
        cpu_quota_us: Some(Limit::Max),
        ..Resources::default()
    };
    s.0.apply(&lifted).unwrap();
    for (quota, period, burst) in [
        (50_000, 100_000, 50_000),
        (5_000, 10_000, 0),
        (400_000, 200_000, 300_000),
        (20_000, 1_000_000, 20_000),
    ] {
        let r = Resources {
            cpu_quota_us: Some(Limit::At(quota)),
            cpu_period_us: Some(period),
            cpu_burst_us: Some(burst),
            ..Resources::default()
        };
        s.0.apply(&r).unwrap();
    }
    let e = s.0.apply(&Resources {
        cpu_burst_us: Some(20_001),
        ..Resources::default()
    });
    assert_eq!(e.unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn a_cgroup_of_somebody_else_is_refused() {
    let s = Scratch::new("taken", Select::All);
    let h = Hierarchies::detect().unwrap();
    let fresh = || Cgroup::create_fresh(&h, s.0.place(), Select::All);
    fresh().expect("there, but empty");
    let mut child = s.shell("echo in; exec sleep 1000");
    line(&mut child);
    let e = fresh().unwrap_err();
    assert_eq!(e.kind(), Kind::Conflict);
    assert!(e.to_string().contains("is not empty: 1 process"), "{e}");
    s.0.kill().unwrap();
    child.wait().unwrap();
    s.0.freeze(true).unwrap();
    let below = s.0.below("below").unwrap();
    for place in [s.0.place(), below.place()] {
        let e = Cgroup::create_fresh(&h, place, Select::All).unwrap_err();
        assert!(e.to_string().contains("is frozen"), "{e}");
    }
    assert!(!below.exists());
    s.0.resume().unwrap();
    fresh().unwrap();
}

#[test]
fn what_is_paused_stands_still() {
    // v1's freezer where there is one, and v2's.
    for (name, select) in [
        ("all", Select::All),
        ("v2", Select::These(Controllers::PIDS)),
    ] {
        let s = Scratch::new(&format!("pause-{name}"), select);
        let mut child = s.shell("echo in; while :; do :; done");
        line(&mut child);
        let state = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
            stat.rsplit(") ").next().unwrap().as_bytes()[0]
        };
        assert!(!s.0.is_frozen().unwrap());
        s.0.pause().unwrap();
        assert!(s.0.is_frozen().unwrap());
        let time = || s.0.stat().unwrap().cpu_usage_ns;
        let before = time();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(time(), before, "{name} {}", state());
        s.0.resume().unwrap();
        assert!(!s.0.is_frozen().unwrap());
        std::thread::sleep(Duration::from_millis(50));
        assert!(time() > before, "{name}");
        // What is paused dies all the same.
        s.0.pause().unwrap();
        s.0.kill().unwrap();
        child.wait().unwrap();
        s.0.remove().unwrap();
        assert!(!s.0.is_frozen().unwrap());
    }
}

#[test]
fn accounts_add_up() {
    let s = Scratch::new("accounts", Select::All);
    s.0.apply(&limits()).unwrap();
    let script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; echo in; exec sleep 1000";
    let mut child = s.shell(script);
    line(&mut child);
    let all = s.0.accounts().unwrap();
    assert!(all.cpu.usage.total > 0);
    assert_eq!(all.memory.usage.limit, 32 << 20);
    assert!(all.memory.usage.usage > 0 && !all.memory.raw.is_empty());
    assert_eq!((all.pids.limit, all.pids.current), (20, 1));
    assert!(!all.cpuset.cpus.is_empty());
    let json = serde_json::to_string(&all).unwrap();
    assert_eq!(serde_json::from_str::<Accounts>(&json).unwrap(), all);
    s.0.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn unified_is_v2s() {
    let h = Hierarchies::detect().unwrap();
    let s = Scratch::new("unified", Select::All);
    let apply = |file: &str, value: &str| {
        s.0.apply(&Resources {
            unified: vec![(file.into(), value.into())],
            ..Resources::default()
        })
    };
    if h.v2().is_none() {
        let e = apply("memory.max", "1").unwrap_err();
        assert!(e.to_string().contains("cgroup v1"), "{e}");
        return;
    }
    apply("cgroup.max.depth", "7").unwrap();
    let file = s.0.directory().unwrap().join("cgroup.max.depth");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "7\n");
    for (file, kind) in [
        ("../x.y", Kind::Invalid),
        ("memory", Kind::Invalid),
        ("nosuch.max", Kind::Unsupported),
        ("cgroup.nosuch", Kind::Unsupported),
    ] {
        let e = apply(file, "1").unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(file), "{e}");
    }
    // On hybrid the controller is v1's, whose files have other names.
    if !h.is_pure_v2() && h.v1_with(Controllers::MEMORY).is_some() {
        let e = apply("memory.max", "1").unwrap_err();
        assert!(e.get_hint().unwrap().contains("v1"), "{e}");
    }
    // A controller that only v2 has is switched on when it is needed.
    if let (Some(size), true) = (
        page_sizes().first(),
        h.v1_with(Controllers::HUGETLB).is_none(),
    ) {
        let r = Resources {
            hugepages: vec![HugepageLimit {
                page_size: size.clone(),
                limit: Limit::At(0),
            }],
            ..Resources::default()
        };
        s.0.apply(&r).unwrap();
        assert!(s.0.accounts().unwrap().hugetlb.contains_key(size));
    }
}

/// `cargo test --release -- --ignored --nocapture cgroup::tests::timing`
#[test]
#[ignore = "a measurement"]
fn timing() {
    let h = Hierarchies::detect().unwrap();
    let top = format!("carob-timing-{}", std::process::id());
    let pod = Cgroup::create(&h, &top, Select::Pod).unwrap();
    for (name, select) in [("pod", Select::Pod), ("all", Select::All)] {
        let mut rows: Vec<[Duration; 5]> = Vec::new();
        for i in 0..60 {
            std::thread::sleep(Duration::from_millis(30));
            let path = format!("{top}/app{i}");
            let t0 = Instant::now();
            let c = Cgroup::create(&h, &path, select).unwrap();
            let t1 = Instant::now();
            c.apply(&limits()).unwrap();
            let t2 = Instant::now();
            drop(c.join_plan().unwrap());
            let t3 = Instant::now();
            c.remove().unwrap();
            let t4 = Instant::now();
            rows.push([t1 - t0, t2 - t1, t3 - t2, t4 - t3, t4 - t0]);
        }
        let median = |i: usize| {
            let mut v: Vec<Duration> = rows.iter().map(|r| r[i]).collect();
            v.sort();
            v[v.len() / 2]
        };
        println!(
            "{name}: create {:?} apply {:?} join_plan {:?} remove {:?} total {:?}",
            median(0),
            median(1),
            median(2),
            median(3),
            median(4)
        );
    }
    if let Some(top) = Cgroup::open(&h, &top, Select::All).unwrap() {
        top.remove().unwrap();
    }
    pod.remove().unwrap();
}
