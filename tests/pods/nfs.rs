//! nfs volumes: servers that are none, that say nothing and that say too little. What a true
//! one serves needs a kernel with a server.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::root::{Root, pod, sh, slack, until};

fn with(server: &str) -> String {
    let mount = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [sh("main", "exec sleep 1000", mount)],
        "volumes": [{"name": "v", "nfs": {"server": server, "path": "/export"}}],
    });
    pod("p", spec)
}

/// Of NFS' port, on an address of its own.
fn listen(address: &str) -> TcpListener {
    TcpListener::bind((address, 2049)).unwrap()
}

#[test]
fn a_server_that_never_answers_keeps_nobody_waiting() {
    let root = Root::new();
    let address = "127.77.1.1";
    let _listener = listen(address);
    let file = root.dir().join("p.json");
    std::fs::write(&file, with(address)).unwrap();
    let mut apply = root.command(&["apply", "-f", file.to_str().unwrap()]);
    let null = std::process::Stdio::null;
    let mut apply = apply.stdout(null()).stderr(null()).spawn().unwrap();
    let there = || match root.carob(&["get", "pod", "p"]).code {
        0 => Ok(()),
        code => Err(code),
    };
    assert_eq!(until(there), Ok(()));
    // The monitor answers, and ends the Pod, while its child waits for the server.
    let began = Instant::now();
    assert_eq!(root.field("p", ".status.phase"), "Pending");
    root.carob(&["delete", "pod", "p", "--now"]).ok();
    assert!(began.elapsed() < slack(Duration::from_secs(5)));
    apply.wait().unwrap();

    root.apply(&with(address))
        .fails(7, "NFS server 127.77.1.1: 127.77.1.1 port 2049: ");
    assert_eq!(root.field("p", ".status.reason"), "FailedMount");
    let message = root.field("p", ".status.message");
    assert!(
        message.starts_with("volume v: NFS server 127.77.1.1: "),
        "{message}"
    );
}

#[test]
fn what_is_no_nfs_server_is_told() {
    let root = Root::new();
    // Nobody listens there.
    root.apply(&with("127.77.1.2")).fails(7, "ECONNREFUSED");
    root.carob(&["delete", "pod", "p"]).ok();
    root.apply(&with("a b"))
        .fails(7, "neither a host's name nor an address");
    root.carob(&["delete", "pod", "p"]).ok();

    let listener = listen("127.77.1.3");
    let server = std::thread::spawn(move || {
        for stream in listener.incoming().take(1) {
            let mut stream = stream.unwrap();
            stream.read_exact(&mut [0; 44]).unwrap();
            stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .unwrap();
        }
    });
    root.apply(&with("127.77.1.3"))
        .fails(7, "not as an NFS server");
    server.join().unwrap();
    assert_eq!(root.field("p", ".status.reason"), "FailedMount");
}

/// Its RPC answers; then the kernel finds that it serves nothing, or has no client itself.
#[test]
fn the_kernel_is_asked_once_the_server_answers() {
    let root = Root::new();
    let listener = listen("127.77.1.4");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut call = [0; 44];
            if stream.read_exact(&mut call).is_ok() {
                let words = [1_u32 << 31 | 24, 0, 1, 0, 0, 0, 0];
                let mut reply: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
                reply[4..8].copy_from_slice(&call[4..8]);
                stream.write_all(&reply).ok();
            }
        }
    });
    let ran = root.apply(&with("127.77.1.4"));
    assert_ne!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stderr.contains("mount 127.77.1.4:/export"),
        "{}",
        ran.stderr
    );
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap();
    if !filesystems.contains("\tnfs") {
        assert!(
            ran.stderr.contains("`modprobe nfs` says why"),
            "{}",
            ran.stderr
        );
    }
    assert_eq!(root.field("p", ".status.reason"), "FailedMount");
}
