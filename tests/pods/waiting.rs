//! What apply and run say while a Pod starts.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::root::{IMAGE, Root, pod, sh};

/// With this on its standard input, its stderr and stdout to be read.
fn started(mut command: Command, input: &str) -> Child {
    use std::io::Write;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    child
}

fn first_line(child: &mut Child) -> String {
    let stderr = child.stderr.as_mut().unwrap();
    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLIN)];
    let said = poll(&mut fds, PollTimeout::from(60_000_u16)).unwrap() > 0;
    let mut line = String::new();
    if said {
        BufReader::new(stderr).read_line(&mut line).unwrap();
    } else {
        child.kill().unwrap();
    }
    line
}

/// Its init container waits for a file.
fn held(name: &str) -> String {
    let data = || json!({"volumeMounts": [{"name": "d", "mountPath": "/d"}]});
    let hold = "until [ -e /d/go ]; do sleep 0.1; done";
    let spec = json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "initContainers": [sh("hold", hold, data())],
        "containers": [sh("main", "exec sleep 1000", json!({}))],
        "volumes": [{"name": "d", "emptyDir": {}}],
    });
    pod(name, spec)
}

#[test]
fn apply_says_which_init_container_it_waits_for() {
    let root = Root::new();
    let mut apply = started(root.command(&["apply", "-f", "-"]), &held("p"));
    let said = "pod/p: waiting for the end of init container hold\n";
    assert_eq!(first_line(&mut apply), said);
    // One that gives up says so too, and in JSON nothing else.
    let words = ["apply", "--timeout=1500ms", "-f", "-"];
    let late = "timed out waiting for the start of p: waiting for the end of init container hold";
    let ran = root.feed(&words, &held("p")).fails(6, late);
    assert!(ran.stderr.starts_with(said), "{}", ran.stderr);
    let ran = root.feed(&[&words[..], &["-o", "json"]].concat(), &held("p"));
    let error: Value = serde_json::from_str(&ran.fails(6, "").stderr).unwrap();
    assert_eq!(error["error"]["message"], late);
    let go = ["exec", "p", "-c", "hold", "--", "touch", "/d/go"];
    root.carob(&go).ok();
    let mut rest = String::new();
    apply
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut rest)
        .unwrap();
    assert_eq!((apply.wait().unwrap().code(), rest.as_str()), (Some(0), ""));
}

/// A registry that takes connections, and no more.
#[test]
fn a_pull_is_said_and_ctrl_c_ends_it() {
    let root = Root::new();
    let registry = TcpListener::bind("127.0.0.1:0").unwrap();
    let image = format!("localhost:{}/x:1", registry.local_addr().unwrap().port());
    let words = ["run", "p", "-i", "--rm", "--image", &image];
    let mut run = started(root.command(&words), "");
    assert_eq!(
        first_line(&mut run),
        format!("pod/p: pulling image {image}\n")
    );
    kill(Pid::from_raw(run.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130));
    assert_eq!(root.carob(&["get", "pods", "-o", "name"]).ok(), "");
}

#[test]
fn what_starts_at_once_is_no_news() {
    let root = Root::new();
    let spec = json!({"terminationGracePeriodSeconds": 0,
        "containers": [sh("main", "exec sleep 1000", json!({"image": IMAGE}))]});
    assert_eq!(root.apply(&pod("p", spec)).stderr, "");
}
