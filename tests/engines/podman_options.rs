//! What `podman run` lets a user ask of the runtime: limits, namespaces, mounts,
//! devices, capabilities.

use crate::cage::apart;
use crate::podman::{POLITE, Podman};
use crate::run::{IMAGE, run};

/// The limit's file, on v1 and on v2.
fn limits(v1: &str, v2: &str) -> String {
    format!("cat /sys/fs/cgroup/{v1} 2>/dev/null || cat /sys/fs/cgroup/{v2}")
}

#[test]
fn limits_and_their_update() {
    apart(|| {
        let p = Podman::new();
        let memory = limits("memory/memory.limit_in_bytes", "memory.max");
        let pids = limits("pids/pids.max", "pids.max");
        p.start("box", &["--memory=32m", "--pids-limit=17"], POLITE);
        let read = |script: &str| p.podman(&["exec", "box", "sh", "-c", script]).said();
        assert_eq!(
            (read(&memory).as_str(), read(&pids).as_str()),
            ("33554432", "17")
        );
        p.podman(&["update", "--memory=48m", "--cpus=0.5", "box"])
            .said();
        assert_eq!(read(&memory), "50331648");
        let quota = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us 2>/dev/null \
             || tr ' ' '\\n' < /sys/fs/cgroup/cpu.max";
        assert_eq!(read(quota), "50000\n100000");
        assert_eq!(read(&pids), "17");

        // More than the limit is not to be had.
        let ran = p.run(
            &["--rm", "--memory=16m", "--memory-swap=16m"],
            &["sh", "-c", "tail /dev/zero"],
        );
        assert_eq!(ran.code, 137, "{ran:#?}");
        let forks = "i=0; while [ $i -lt 8 ]; do sleep 5 & i=$((i+1)); done";
        let ran = p.run(&["--rm", "--pids-limit=4"], &["sh", "-c", forks]);
        assert!(ran.stderr.contains("fork"), "{ran:#?}");
    });
}

#[test]
fn user_namespaces() {
    apart(|| {
        let mut p = Podman::new();
        for file in ["/etc/subuid", "/etc/subgid"] {
            p.cage.cover(file, "containers:200000:1000000\n");
        }
        let map = "id -u; cat /proc/self/uid_map; touch /own && stat -c %u /own; echo > /dev/null";
        let said = p.sh(&["--userns=auto:size=5000"], map);
        let words: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(words, ["0", "0", "200000", "5000", "0"]);
        let fixed = [
            "--uidmap=0:300000:2000",
            "--gidmap=0:400000:2000",
            "--user=user",
        ];
        let said = p.sh(
            &fixed,
            "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map",
        );
        let words: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(
            words,
            ["1999", "1999", "0", "300000", "2000", "0", "400000", "2000"]
        );
        // A volume with the owners that the container sees, whatever its ids.
        let volume = format!("{}:/v:idmap", p.cage.dir().display());
        assert_eq!(
            p.sh(&["--userns=auto", "-v", &volume], "stat -c %u /v"),
            "0"
        );
        // Two at a time have different ids, and exec enters the same ones.
        p.start("one", &["--userns=auto:size=1000"], POLITE);
        p.start("two", &["--userns=auto:size=1000"], POLITE);
        let base = |name| {
            p.podman(&["exec", name, "cat", "/proc/self/uid_map"])
                .said()
        };
        assert_ne!(base("one"), base("two"));
    });
}

#[test]
fn read_only() {
    apart(|| {
        let p = Podman::new();
        let script = "touch /own 2>/dev/null && echo written; touch /tmp/a /run/a /dev/shm/a && echo temporary";
        assert_eq!(p.sh(&["--read-only"], script), "temporary");
        assert_eq!(
            p.sh(
                &["--read-only", "--read-only-tmpfs=false"],
                "touch /tmp/a 2>&1 || echo no"
            )
            .lines()
            .last(),
            Some("no")
        );
    });
}

/// A device node that a container may make and, unless given the device, not open.
const KMSG: &str = "mknod /kmsg c 1 11 && (: >/kmsg) 2>/dev/null && echo open || echo refused";

#[test]
fn options() {
    apart(|| {
        let p = Podman::new();
        let dir = p.cage.dir().join("volume");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("given"), "given\n").unwrap();
        let dir = dir.to_str().unwrap();
        let ro = format!("{dir}:/v:ro");
        let cases: [(&[&str], &str, &str); 14] = [
            (
                &["-v", &ro],
                "cat /v/given; touch /v/own 2>/dev/null || echo no",
                "given\nno",
            ),
            (
                &["--tmpfs=/t:size=1m,mode=700"],
                "stat -c %a /t; df -k /t | tail -1 | tr -s ' ' | cut -d' ' -f2",
                "700\n1024",
            ),
            (
                &["--cap-drop=all", "--cap-add=chown"],
                "grep CapEff /proc/self/status | cut -f2",
                "0000000000000001",
            ),
            (
                &["--security-opt=no-new-privileges"],
                "grep NoNewPrivs /proc/self/status | cut -f2",
                "1",
            ),
            (
                &["--sysctl=net.ipv4.ip_unprivileged_port_start=7"],
                "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
                "7",
            ),
            (
                &["--ulimit=nofile=77:88", "--ulimit=nproc=1024:1024"],
                "ulimit -Sn; ulimit -Hn",
                "77\n88",
            ),
            (
                &["--shm-size=2m"],
                "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2",
                "2048",
            ),
            (
                &["--device=/dev/zero:/dev/mine"],
                "head -c 4 /dev/mine | wc -c",
                "4",
            ),
            (&[], KMSG, "refused"),
            (&["--device=/dev/kmsg"], KMSG, "open"),
            (
                &["--init"],
                "tr '\\0' '\\n' </proc/1/cmdline | head -1 | grep -o init",
                "init",
            ),
            (
                &["--hostname=here", "--user=user:staff"],
                "hostname; id -u; id -g",
                "here\n1999\n50",
            ),
            (
                &["--pid=host", "--privileged"],
                "[ $$ != 1 ] && readlink /dev/ptmx",
                "pts/ptmx",
            ),
            (
                &["--oom-score-adj=77"],
                "cat /proc/self/oom_score_adj",
                "77",
            ),
        ];
        for (options, script, said) in cases {
            assert_eq!(p.sh(options, script), said, "{options:?}");
        }
        let fixed = format!("run --rm --network=none --cgroup-parent {}", p.parent);
        let script = format!(
            "{} {fixed} --preserve-fds 1 {IMAGE} sh -c 'cat <&3' 3<{dir}/given",
            p.base.join(" ")
        );
        assert_eq!(run(&["sh".into(), "-c".into(), script]).said(), "given");
    });
}

#[test]
fn namespaces_of_others() {
    apart(|| {
        let p = Podman::new();
        p.start("box", &["--ipc=shareable"], POLITE);
        let shared = [
            "--network=container:box",
            "--pid=container:box",
            "--ipc=container:box",
        ];
        let fixed = ["run", "--rm", "--cgroup-parent", &p.parent];
        let script = "for n in net pid ipc uts; do readlink /proc/self/ns/$n; done; kill -TERM 1";
        let there = "for n in net pid ipc uts; do readlink /proc/self/ns/$n; done";
        let there = p.podman(&["exec", "box", "sh", "-c", there]).said();
        let here = p
            .podman(&[&fixed, shared.as_slice(), &[IMAGE, "sh", "-c", script]].concat())
            .said();
        let same: Vec<bool> = there
            .lines()
            .zip(here.lines())
            .map(|(a, b)| a == b)
            .collect();
        assert_eq!(same, [true, true, true, false]);
        assert_eq!(p.podman(&["wait", "box"]).said(), "9");
        let root = p.sh(
            &["--cgroupns=private"],
            "cut -d: -f3 /proc/self/cgroup | sort -u",
        );
        assert_eq!(root, "/");
    });
}

/// Podman makes the network namespace, the runtime joins it by path.
#[test]
fn a_bridge() {
    apart(|| {
        let p = Podman::new();
        let fixed = ["run", "--rm", "--cgroup-parent", &p.parent, IMAGE];
        let script = "ip -o -4 address show dev eth0 | grep -o '10[.][0-9.]*/16'";
        let said = p.podman(&[&fixed, ["sh", "-c", script].as_slice()].concat());
        assert!(said.said().starts_with("10.88.0."));
    });
}
