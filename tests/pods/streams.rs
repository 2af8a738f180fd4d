//! exec, attach and run: what goes in, what comes out, and how it ends.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::root::{IMAGE, Root, pod, script_pod, sh, until};

const SLEEP: &str = "exec sleep 1000";

fn sleeper() -> Root {
    let root = Root::new();
    root.apply(&script_pod("p", "Never", 0, SLEEP)).ok();
    root
}

#[test]
fn exec_ends_as_the_process_does() {
    let root = sleeper();
    let exec = |args: &[&str]| root.carob(&[&["exec", "p", "--"], args].concat());
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
    ] {
        assert_eq!(exec(&["sh", "-c", script]).code, code, "{script}");
    }
    exec(&["nope"]).fails(127, "executable file not found in $PATH");
    exec(&["/etc/passwd"]).fails(126, "EACCES");
    root.carob(&["exec", "p", "-c", "none", "--", "true"])
        .fails(125, "none");
    let ran = exec(&["sh", "-c", "echo out; echo err >&2"]);
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.as_str()),
        ("out\n", "err\n")
    );
    // Without -i there is nothing to read.
    assert_eq!(root.feed(&["exec", "p", "--", "cat"], "").ok(), "");
}

#[test]
fn five_megabytes_go_both_ways() {
    let root = sleeper();
    let mut seed = 1_u32;
    let data: Vec<u8> = (0..5 << 20)
        .map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        })
        .collect();
    let mut child = root
        .command(&["exec", "-i", "p", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent = data.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
    let mut back = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut back).unwrap();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(back == data, "{} bytes of {}", back.len(), data.len());

    // Into a file, and out of one.
    let file = root.dir().join("sent");
    std::fs::write(&file, &data).unwrap();
    let out = root.dir().join("received");
    let status = root
        .command(&["exec", "-i", "p", "--", "cat"])
        .stdin(std::fs::File::open(&file).unwrap())
        .stdout(std::fs::File::create(&out).unwrap())
        .status()
        .unwrap();
    assert!(status.success());
    assert!(std::fs::read(&out).unwrap() == data);
}

#[test]
fn exec_does_not_wait_for_who_holds_its_pipe() {
    let root = sleeper();
    // What the caller gave as stdout is the process' own, and so the child's it
    // left behind: the pipe stays open, but carob has ended.
    let began = Instant::now();
    let mut child = root
        .command(&["exec", "p", "--", "sh", "-c", "sleep 30 & echo done"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert!(
        began.elapsed() < crate::root::slack(Duration::from_secs(5)),
        "{:?}",
        began.elapsed()
    );
    let mut said = [0; 5];
    child.stdout.take().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"done\n");
}

/// carob on a terminal of 77 columns and 33 rows; afterwards the terminal's own
/// settings are shown.
fn on_a_terminal(root: &Root, line: &str) -> Child {
    let carob = env!("CARGO_BIN_EXE_carob");
    let script = format!(
        "stty rows 33 cols 77; before=$(stty -g); {carob} --root {} {line}; echo code=$?; \
         [ \"$before\" = \"$(stty -g)\" ] && echo restored",
        root.dir().display()
    );
    Command::new("script")
        .args(["-qec", &script, "/dev/null"])
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script(1) must be installed (Debian's package bsdutils)")
}

fn read_until(child: &mut Child, text: &str) -> String {
    let mut seen = Vec::new();
    let mut byte = [0];
    let out = child.stdout.as_mut().unwrap();
    while !String::from_utf8_lossy(&seen).contains(text) {
        match out.read(&mut byte) {
            Ok(1) => seen.push(byte[0]),
            _ => panic!("no {text:?} in {:?}", String::from_utf8_lossy(&seen)),
        }
    }
    String::from_utf8_lossy(&seen).into_owned()
}

#[test]
fn a_terminal() {
    let root = sleeper();
    let mut child = on_a_terminal(&root, "exec -it p -- sh -c 'stty size; tty; exit 4'");
    let seen = read_until(&mut child, "restored");
    assert!(seen.contains("33 77\r\n"), "{seen:?}");
    assert!(seen.contains("/dev/pts/0\r\n"), "{seen:?}");
    assert!(seen.contains("code=4"), "{seen:?}");
    child.wait().unwrap();

    // Ctrl-C goes to the process there, and not to carob.
    let mut child = on_a_terminal(
        &root,
        "exec -it p -- sh -c 'trap \"echo heard; exit 9\" INT; echo ready; while :; do sleep 0.1; done'",
    );
    read_until(&mut child, "ready");
    child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    let seen = read_until(&mut child, "restored");
    assert!(
        seen.contains("heard") && seen.contains("code=9"),
        "{seen:?}"
    );
    child.wait().unwrap();
}

#[test]
fn attach_gives_stdin_once() {
    let root = Root::new();
    let pod = script_pod("p", "Never", 0, "cat\necho end").replace(
        "    command:",
        "    stdin: true\n    stdinOnce: true\n    command:",
    );
    root.apply(&pod).ok();
    let out = root.feed(&["attach", "-i", "p"], "one\ntwo\n").ok();
    assert!(out.contains("one\ntwo\nend\n"), "{out}");
    root.carob(&[
        "wait",
        "pod/p",
        "--for=jsonpath={.status.phase}=Succeeded",
        "--timeout=5s",
    ])
    .ok();
    assert_eq!(root.carob(&["logs", "p"]).ok(), "one\ntwo\nend\n");
}

#[test]
fn run_with_input_and_exit_code() {
    let root = Root::new();
    let run = |flags: &[&str], command: &[&str], input: &str| {
        let image = ["--image", IMAGE, "--restart=Never", "--"];
        root.feed(&[&["run", "r"], flags, &image, command].concat(), input)
    };
    let ran = run(&["--rm", "-i"], &["sh", "-c", "cat; exit 6"], "through\n");
    assert_eq!(ran.code, 6, "{ran:?}");
    assert!(ran.stdout.contains("through\n"), "{ran:?}");
    root.carob(&["get", "pod", "r"]).fails(4, "not found");
    let ran = run(
        &["--attach"],
        &["sh", "-c", "echo out; echo err >&2; exit 3"],
        "",
    );
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(
        ran.stdout.contains("out\n") && ran.stderr.contains("err\n"),
        "{ran:?}"
    );
    assert_eq!(root.field("r", ".status.phase"), "Failed");
}

/// restartPolicy is Always: what was left by `exit` begins anew, and ignores TERM.
#[test]
fn run_rm_does_not_wait_for_a_shell_that_was_left() {
    let root = Root::new();
    let begun = Instant::now();
    let args = ["run", "r", "--rm", "-i", "--image", IMAGE, "--", "sh"];
    let ran = root.feed(&args, "echo here; exit 4\n");
    assert!(ran.stdout.contains("here\n"), "{ran:?}");
    assert_eq!(ran.code, 4, "{ran:?}");
    // The grace period of the Pod is 30 s.
    assert!(
        begun.elapsed() < crate::root::slack(Duration::from_secs(15)),
        "{:?}",
        begun.elapsed()
    );
    root.carob(&["get", "pod", "r"]).fails(4, "not found");
}

/// The first signal ends the session, and the second the wait for the deletion.
#[test]
fn run_rm_can_be_interrupted_while_it_deletes() {
    let root = Root::new();
    let script = "trap 'echo asked' TERM; echo begun; while :; do sleep 1; done";
    let mut run = root
        .command(&[
            "run", "r", "--rm", "--attach", "--image", IMAGE, "--", "sh", "-c", script,
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = run.id().to_string();
    // Not INT, which a background process of a shell ignores.
    let interrupt = || {
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        )
    };
    let said = |text: &str| {
        until(|| {
            let log = root.carob(&["logs", "r"]);
            if log.stdout.contains(text) {
                Ok(())
            } else {
                Err(log)
            }
        })
        .unwrap_or_else(|log| panic!("{text}: {log:?}"));
    };
    said("begun");
    interrupt();
    said("asked");
    let begun = Instant::now();
    interrupt();
    run.wait().unwrap();
    assert!(
        begun.elapsed() < crate::root::slack(Duration::from_secs(10)),
        "{:?}",
        begun.elapsed()
    );
    // The deletion goes on by itself.
    assert!(!root.field("r", ".metadata.deletionTimestamp").is_empty());
}

#[test]
fn a_command_gets_variables_of_its_own() {
    let root = Root::new();
    let env = json!({"env": [{"name": "A", "value": "container"}, {"name": "B", "value": "b"}]});
    let containers = json!([sh("main", "exec sleep 1000", env)]);
    root.apply(&pod(
        "p",
        json!({"terminationGracePeriodSeconds": 0, "containers": containers}),
    ))
    .ok();
    let exec = |args: &[&str]| root.carob(&[&["exec", "p"], args, &["--", "env"]].concat());
    let said = exec(&["--env", "A=first", "-e", "A=own = x", "--env=C="]).ok();
    let mut of: Vec<&str> = said
        .lines()
        .filter(|l| ["A=", "B=", "C="].iter().any(|name| l.starts_with(name)))
        .collect();
    of.sort_unstable();
    assert_eq!(of, ["A=own = x", "B=b", "C="]);
    // Those of the container are as they were.
    assert!(exec(&[]).ok().contains("A=container\n"));
    exec(&["--env", "A"]).fails(2, "\"A\" is no variable");
}
