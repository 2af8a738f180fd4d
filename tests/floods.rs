//! What takes every CPU: floods of output, clients and processes. A program of its
//! own, since tests of one program run side by side and others have clocks; and one
//! flood at a time, since each bound is for a machine that has that flood alone.

#[path = "pods/root.rs"]
#[allow(dead_code)]
mod root;

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::root::{IMAGE, Root, pod_text, slack, until};

/// How long an answer may take beside a flood. A monitor that serves the flood first
/// never answers; one that takes turns needs some milliseconds and its share of the CPUs.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// Held for the length of a test.
fn alone() -> MutexGuard<'static, ()> {
    static FLOOD: Mutex<()> = Mutex::new(());
    FLOOD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks something of the Pod's monitor, and says how long the answer took.
fn asked(root: &Root, name: &str) -> Duration {
    let start = Instant::now();
    root.carob(&["exec", name, "-c", "calm", "--", "true"]).ok();
    start.elapsed()
}

/// Resident memory of the Pod's monitor, bytes.
fn resident(root: &Root, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", root.monitor_pid(name))).unwrap();
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("RssAnon:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// T10. Whatever a container prints, and however fast, its monitor answers, stays
/// small, and lets the Pod be deleted.
#[test]
fn output_without_end_does_not_take_the_monitor() {
    let _alone = alone();
    let root = Root::new();
    let floods = [
        ("lines", "while :; do yes; done", ""),
        ("noline", "cat /dev/zero", ""),
        ("terminal", "while :; do yes; done", "    tty: true\n"),
        ("both", "yes >&2 & yes", ""),
        ("own-reader", "yes & cat /proc/self/fd/1 > /dev/null", ""),
        (
            "closed",
            "exec <&- >&- 2>&-; while :; do sleep 1; done",
            "    stdin: true\n",
        ),
        (
            "termination",
            "head -c 50000000 /dev/zero | tr '\\0' x > /dev/termination-log; sleep 1000",
            "    resources: {limits: {memory: 64Mi}}\n",
        ),
    ];
    for (name, script, more) in floods {
        let rest = format!(
            "  containers:\n  - name: calm\n    image: {IMAGE}\n    command: [sleep, '1000']\n  - name: main\n{more}"
        );
        root.apply(&pod_text(name, IMAGE, &rest, script)).ok();
        if name == "closed" {
            let fds = format!("/proc/{}/fd", root.pid(name, "main"));
            let closed = || match Path::new(&fds).join("0").exists() {
                true => Err("its stdin is open"),
                false => Ok(()),
            };
            until(closed).unwrap();
        }
        let watched = Instant::now() + Duration::from_secs(2);
        let mut worst = Duration::ZERO;
        while Instant::now() < watched {
            worst = worst.max(asked(&root, name));
            if name == "closed" {
                let attached = root.carob(&["attach", "-i", name, "-c", "main"]);
                attached.fails(125, "has closed its stdin");
            }
            let size = resident(&root, name);
            assert!(size < 20 << 20, "{name}: the monitor has {size} bytes");
        }
        let start = Instant::now();
        root.carob(&["delete", "pod", name, "--grace-period=0", "--force"])
            .ok();
        let gone = until(|| {
            let left = root.carob(&["get", "pod", name]);
            if left.code == 4 { Ok(()) } else { Err(left) }
        });
        gone.unwrap();
        eprintln!(
            "{name}: answers in {worst:?}, gone in {:?}",
            start.elapsed()
        );
        assert!(worst < slack(ANSWERED_WITHIN), "{name}: {worst:?}");
    }
}

/// T10. Connections that say nothing, nonsense, or too many fds.
#[test]
fn a_flood_of_clients_does_not_take_the_monitor() {
    use carob::inside::linux::Packets;
    use std::os::fd::AsFd;
    let _alone = alone();
    let root = Root::new();
    let rest = "  containers:\n  - name: calm\n";
    root.apply(&pod_text("flood", IMAGE, rest, "exec sleep 1000"))
        .ok();
    let uid = root.field("flood", ".metadata.uid");
    let socket = root.dir().join("run/pods").join(uid).join("monitor.sock");
    let null = fs::File::open("/dev/null").unwrap();
    let fds = || {
        fs::read_dir(format!("/proc/{}/fd", root.monitor_pid("flood")))
            .unwrap()
            .count()
    };
    let before = fds();
    for i in 0..200 {
        let c = Packets::connect(&socket).unwrap();
        let many = vec![null.as_fd(); 100];
        let _ = match i % 4 {
            0 => c.send(b"{", &[]),
            1 => c.send(&[0xff; 150_000], &many[..3]),
            2 => c.send(b"\"State\"", &many),
            _ => c.send(
                br#"{"Exec":{"container":"","command":[],"tty":false,"size":null}}"#,
                &many[..3],
            ),
        };
    }
    let idle: Vec<Packets> = (0..1000)
        .map_while(|_| Packets::connect(&socket).ok())
        .collect();
    drop(idle);
    let settled = until(|| match fds() {
        n if n <= before => Ok(()),
        n => Err(format!("{n} fds, {before} before")),
    });
    settled.unwrap();
    let took = asked(&root, "flood");
    assert!(took < slack(ANSWERED_WITHIN), "{took:?}");
    assert!(resident(&root, "flood") < 20 << 20);
}

/// T10. A fork bomb meets the Pod's bound, and the Pod can still be deleted.
#[test]
fn a_fork_bomb_stays_in_its_pod() {
    let _alone = alone();
    let root = Root::new();
    let rest = format!(
        "  containers:\n  - name: calm\n    image: {IMAGE}\n    command: [sleep, '1000']\n  - name: main\n"
    );
    let bomb = "i=0; while [ $i -lt 300 ]; do (while :; do sleep 100; done) & i=$((i+1)); done; exec sleep 1000";
    root.apply(&pod_text("bomb", IMAGE, &rest, bomb)).ok();
    std::thread::sleep(Duration::from_secs(1));
    assert!(asked(&root, "bomb") < slack(ANSWERED_WITHIN));
    root.carob(&["delete", "pod", "bomb", "--grace-period=0"])
        .ok();
}
