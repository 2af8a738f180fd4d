//! The debug log of `carob-oci`: what engines read of it, and what a container has of it.

use serde_json::Value;

use crate::bundle::Bundle;

const SECRET: &str = "Tr0ub4dor";

/// Every line as JSON, with what runc's have.
fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines().map(|line| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        for key in ["level", "msg", "time"] {
            assert!(value[key].is_string(), "no {key}: {line}");
        }
        let time = value["time"].as_str().unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
        value
    });
    lines.collect()
}

/// Where each of these texts begins a message, in this order.
fn in_order(lines: &[Value], wanted: &[&str]) {
    let mut rest = lines.iter();
    for text in wanted {
        let found = rest.any(|line| line["msg"].as_str().unwrap().starts_with(text));
        assert!(found, "no {text:?} after those before it in: {lines:#?}");
    }
}

fn fds_of(pid: i64) -> Vec<String> {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = fds.map(|fd| std::fs::read_link(fd.unwrap().path()));
    links.map(|l| l.unwrap().display().to_string()).collect()
}

#[test]
fn each_step_of_a_container_is_logged_and_no_secret() {
    let b = Bundle::new();
    let log = b.dir().join("log.json");
    let said = || std::fs::read_to_string(&log).unwrap();
    let logged = |args: &[&str]| {
        let log = ["--log", log.to_str().unwrap(), "--log-format", "json"];
        b.oci(&[&log[..], &["--log-level", "trace"], args].concat())
    };
    b.sh("exec sleep 1000", |c| {
        let env = c["process"]["env"].as_array_mut().unwrap();
        env.push(format!("PASSWORD={SECRET}").into());
    });
    logged(&["create", "box"]).ok();
    let pid = b.state("box")["pid"].as_i64().unwrap();
    let is_log = |fd: &String| fd.contains("log.json");
    let created = fds_of(pid);
    assert!(!created.iter().any(is_log), "created: {created:?}");
    let steps = lines(&said());
    in_order(
        &steps,
        &[
            "carob-oci ",
            "join the cgroup",
            "attach the root filesystem",
            "mount at /proc",
            "hide and protect paths",
            "change to the container's root",
            "become user 0:0",
            "wait for `start`",
            "create: the first process is ",
            "create box: exit code 0",
        ],
    );
    // The child has no file of the log, and no pid of its own in the host's eyes.
    let child = steps.iter().filter(|line| line["pid"] == pid);
    assert!(child.count() > 10, "{steps:#?}");
    std::fs::write(&log, "").unwrap();
    logged(&["start", "box"]).ok();
    in_order(
        &lines(&said()),
        &["no seccomp filter; give up rights, and execute \"/bin/sh\""],
    );
    let running = fds_of(pid);
    assert!(!running.iter().any(is_log), "running: {running:?}");

    std::fs::write(&log, "").unwrap();
    let argument = format!("sleep 0; : {SECRET}");
    let variable = format!("KEY={SECRET}");
    let exec = ["exec", "-e", &variable, "box", "sh", "-c", &argument];
    logged(&exec).ok();
    logged(&["exec", "box", "nothing-of-this-name"]).fails(255, "executable file not found");
    in_order(
        &lines(&said()),
        &["carob-oci ", "exec: the process is ", "become user 0:0"],
    );
    logged(&["delete", "--force", "box"]).ok();
    assert!(!said().contains(SECRET), "{}", said());
}

#[test]
fn the_log_is_off_unless_it_is_asked_for() {
    let b = Bundle::new();
    let log = b.dir().join("log");
    let log = ["--log", log.to_str().unwrap()];
    b.sh("true", |_| {});
    let ran = b.oci(&[&log[..], &["run", "box"]].concat());
    assert_eq!((ran.code, &*ran.stderr), (0, ""));
    assert_eq!(std::fs::read_to_string(log[1]).unwrap(), "");

    // On stderr, in the form of text.
    let ran = b.oci(&["--debug", "run", "box"]);
    assert_eq!(ran.code, 0);
    for line in ran.stderr.lines() {
        let is_debug = line.starts_with("time=\"") && line.contains(" level=debug msg=\"");
        assert!(is_debug, "{line}");
    }
    assert!(ran.stderr.contains("mount at /dev"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("level=trace"), "{}", ran.stderr);
}

#[test]
fn a_wrong_level_is_refused_with_the_list() {
    let b = Bundle::new();
    let list = "error, warn, info, debug or trace";
    b.oci(&["--log-level", "loud", "features"]).fails(1, list);
    for level in ["error", "warn", "warning", "info", "DEBUG", "trace", ""] {
        b.oci(&["--log-level", level, "features"]).ok();
    }
}
