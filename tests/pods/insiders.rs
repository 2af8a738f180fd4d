//! What a container's own processes, with what they may have, can do to the host,
//! to the runtime and to other Pods.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::root::{Root, pod, script_pod, sh};

#[test]
fn the_files_of_a_pod_cannot_fill_the_hosts_disk() {
    let root = Root::new();
    root.apply(&script_pod("p", "Never", 0, "exec sleep 1000"))
        .ok();
    for file in [
        "/etc/hosts",
        "/etc/hostname",
        "/etc/resolv.conf",
        "/dev/termination-log",
    ] {
        // They are writable, as with a kubelet; but not for ever.
        let fill = format!(
            "before=$(cat {file}); dd if=/dev/zero of={file} bs=64k count=64 2>&1 | grep -o 'No space left'; \
             echo \"$before\" >{file}"
        );
        assert_eq!(root.sh("p", &fill), "No space left\n", "{file}");
    }
    let kinds = "for f in /etc/hosts /dev/termination-log /dev/shm; do \
                 stat -f -c %T $f; done; grep -c ' /etc/hosts tmpfs .*nosuid,nodev,noexec' /proc/mounts";
    assert_eq!(root.sh("p", kinds), "tmpfs\ntmpfs\ntmpfs\n1\n");

    // The message of the end is taken from the attempt's own file, and bounded,
    // even where it is a hole of a terabyte.
    let pod = script_pod(
        "sparse",
        "Never",
        0,
        "truncate -s 1T /dev/termination-log; exit 3",
    );
    root.apply(&pod);
    root.becomes("sparse", ".status.phase", "Failed");
    let message = root.field(
        "sparse",
        ".status.containerStatuses[0].state.terminated.message",
    );
    assert!(message.len() <= 4096, "{}", message.len());
}

#[test]
fn a_link_in_a_volume_leads_no_mount_into_proc_or_sys() {
    let root = Root::new();
    for (i, place) in ["/proc", "/proc/sys", "/sys/fs/cgroup", "/proc/self"]
        .iter()
        .enumerate()
    {
        let name = format!("p{i}");
        let link = format!("ln -s {place} /v/link");
        let mounts =
            json!([{"name": "v", "mountPath": "/v"}, {"name": "w", "mountPath": "/v/link"}]);
        let spec = json!({
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {}}],
            "initContainers": [sh("link", &link, json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}))],
            "containers": [sh("main", "sleep 1000", json!({"volumeMounts": mounts}))],
        });
        let ran = root.apply(&pod(&name, spec));
        ran.fails(7, "mount at /v/link");
    }
    // Who names one of LXCFS's files means it; others of /proc are nobody's to cover.
    let over = |place: &str| {
        json!({
            "terminationGracePeriodSeconds": 0,
            "volumes": [{"name": "f", "hostPath": {"path": "/etc/debian_version"}}],
            "containers": [sh("main", "exec sleep 1000", json!({"volumeMounts": [{"name": "f", "mountPath": place}]}))],
        })
    };
    root.apply(&pod("lxcfs", over("/proc/uptime"))).ok();
    let version = std::fs::read_to_string("/etc/debian_version").unwrap();
    assert_eq!(root.sh("lxcfs", "cat /proc/uptime"), version);
    root.apply(&pod("attr", over("/proc/version")))
        .fails(7, "nothing is mounted inside /proc");
}

#[test]
fn a_terminal_is_only_made_on_a_devpts() {
    let root = Root::new();
    // The default AppArmor profile denies mounts.
    let caps = json!({"securityContext": {
        "capabilities": {"add": ["SYS_ADMIN"]},
        "appArmorProfile": {"type": "Unconfined"},
    }});
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [sh("main", "exec sleep 1000", caps)],
    });
    root.apply(&pod("p", spec)).ok();
    root.sh("p", "mount -t tmpfs t /dev/pts && mkfifo /dev/pts/ptmx");
    // A FIFO without a writer would hold whoever opened it.
    let began = Instant::now();
    root.carob(&["exec", "-t", "p", "--", "true"])
        .fails(125, "/dev/pts of the container is no devpts");
    root.sh(
        "p",
        "umount /dev/pts && umount /dev/pts && mv /dev/pts /dev/was && ln -s was /dev/pts",
    );
    root.carob(&["exec", "-t", "p", "--", "true"])
        .fails(125, "ELOOP");
    assert!(began.elapsed() < crate::root::slack(Duration::from_secs(5)));
    assert_eq!(root.sh("p", "echo alive"), "alive\n");
}

/// exec's child is seen by the container between its entry and its exec: whoever
/// stops it there holds nobody else up.
#[test]
fn who_stops_the_children_of_the_monitor_does_not_stop_the_monitor() {
    let root = Root::new();
    let script = "while :; do for p in /proc/[0-9]*; do p=${p#/proc/}; \
                  [ $p = 1 ] || kill -STOP $p 2>/dev/null; done; done";
    root.apply(&script_pod("p", "Never", 0, script)).ok();
    let mut held: Vec<_> = (0..5)
        .map(|_| {
            let mut command = root.command(&["exec", "p", "--", "/nonexistent"]);
            command.stderr(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    let began = Instant::now();
    for _ in 0..20 {
        root.apply(&script_pod("q", "Never", 0, "exec sleep 1000"))
            .ok();
        assert_eq!(root.field("p", ".status.phase"), "Running");
    }
    root.carob(&["logs", "p"]).ok();
    root.carob(&["wait", "pod/p", "--for=condition=Ready", "--timeout=1s"])
        .ok();
    assert!(
        began.elapsed() < crate::root::slack(Duration::from_secs(10)),
        "{:?}",
        began.elapsed()
    );
    root.carob(&["delete", "pod", "p"]).ok();
    for child in &mut held {
        child.wait().unwrap();
    }
}

/// docs/decisions/0007: the host drops what does not come from the Pods' subnet;
/// who of the subnet it is, nobody checks.
#[test]
fn a_pod_cannot_pass_for_a_machine_outside_of_its_subnet() {
    let root = Root::new();
    let caps = json!({"securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}});
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [sh("main", "exec sleep 1000", caps)],
    });
    root.apply(&pod("p", spec)).ok();
    let gateway = root.sh(
        "p",
        "ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'",
    );
    let gateway = gateway.trim();
    let socket = std::net::UdpSocket::bind((gateway, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    // busybox's way to send a datagram to any port.
    let send = format!("timeout 1 tftp -g -r x -l /tmp/x {gateway} {port} 2>/dev/null || true");
    root.sh(
        "p",
        &format!(
            "set -e
             ip address add 203.0.113.5/32 dev eth0
             ip route add {gateway}/32 dev eth0 src 203.0.113.5
             {send}
             ip route del {gateway}/32
             {send}"
        ),
    );
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let (_, first) = socket.recv_from(&mut [0; 512]).unwrap();
    assert_eq!(first.ip().to_string(), root.field("p", ".status.podIP"));
}
