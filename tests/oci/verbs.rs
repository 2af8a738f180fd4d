//! Every verb and flag that callers rely on, by what it does.

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use serde_json::{Value, json};

use super::bundle::Bundle;

/// The command line of runc and crun, as podman, containerd and CRI-O use it.
const VERBS: [(&str, &str); 19] = [
    (
        "create",
        "bundle console-socket pidfd-socket pid-file no-pivot no-new-keyring preserve-fds",
    ),
    (
        "run",
        "bundle console-socket pidfd-socket pid-file no-pivot no-new-keyring preserve-fds \
         detach keep no-subreaper",
    ),
    ("start", ""),
    ("state", ""),
    ("kill", "all"),
    ("delete", "force"),
    (
        "exec",
        "console-socket pidfd-socket cwd env tty user additional-gids process detach pid-file \
         process-label apparmor no-new-privs cap preserve-fds cgroup ignore-paused",
    ),
    ("list", "format quiet"),
    ("ps", "format"),
    ("pause", ""),
    ("resume", ""),
    ("spec", "bundle rootless"),
    ("features", ""),
    ("events", "interval stats"),
    (
        "update",
        "resources blkio-weight cpu-period cpu-quota cpu-burst cpu-share cpu-rt-period \
         cpu-rt-runtime cpu-idle cpuset-cpus cpuset-mems memory memory-reservation memory-swap \
         pids-limit l3-cache-schema mem-bw-schema",
    ),
    (
        "checkpoint",
        "image-path work-path leave-running tcp-established ext-unix-sk shell-job file-locks \
         pre-dump parent-path manage-cgroups-mode empty-ns",
    ),
    (
        "restore",
        "image-path work-path bundle console-socket pid-file detach tcp-established \
         ext-unix-sk shell-job file-locks manage-cgroups-mode empty-ns",
    ),
    ("man", ""),
    ("help", ""),
];
const GLOBAL: &str =
    "root log log-format debug log-level systemd-cgroup cgroup-manager rootless version";

#[test]
fn every_verb_and_flag_is_there() {
    let b = Bundle::new();
    let has = |help: &str, flags: &str| {
        for flag in flags.split_whitespace() {
            let told = help.split_whitespace().any(|w| w == format!("--{flag}"));
            assert!(told, "no --{flag} in: {help}");
        }
    };
    let all = b.oci(&["--help"]).ok();
    has(&all, GLOBAL);
    assert!(all.contains("Usage: carob-oci [FLAGS] COMMAND "), "{all}");
    for (verb, flags) in VERBS {
        assert!(all.contains(&format!("\n  {verb} ")), "{verb}: {all}");
        let help = b.oci(&[verb, "--help"]).ok();
        assert!(help.starts_with("Usage: carob-oci "), "{help}");
        has(&help, flags);
    }
    let version = b.oci(&["--version"]).ok();
    assert!(version.starts_with("carob-oci version ") && version.contains("\nspec: 1.3.0\n"));
}

fn file(v1: &str, v2: &str) -> String {
    format!("cat /sys/fs/cgroup/{v1} 2>/dev/null || cat /sys/fs/cgroup/{v2}")
}

/// A container that sleeps.
fn sleeper(change: impl FnOnce(&mut Value)) -> Bundle {
    let b = Bundle::new();
    b.sh("while :; do sleep 60; done", change);
    b.oci(&["run", "--detach", "box"]).ok();
    b
}

#[test]
fn update_by_flags_and_by_resources() {
    let b = sleeper(|_| {});
    let cpus = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    let last = cpus.trim().rsplit(['-', ',']).next().unwrap();
    let read = |script: &str| b.oci(&["exec", "box", "sh", "-c", script]).said();
    let memory = file("memory/memory.limit_in_bytes", "memory.max");
    let pids = file("pids/pids.max", "pids.max");
    // With a unit, and both of two limits that depend on each other.
    b.oci(&["update", "--memory", "32m", "--memory-swap", "64MiB", "box"])
        .ok();
    assert_eq!(read(&memory), "33554432");
    b.oci(&["update", "--memory", "0.125g", "--memory-swap=-1", "box"])
        .ok();
    assert_eq!(read(&memory), "134217728");
    let cases = [
        (
            "--memory-reservation=1m",
            file("memory/memory.soft_limit_in_bytes", "memory.low"),
            "1048576",
        ),
        ("--pids-limit=19", pids.clone(), "19"),
        (
            "--cpuset-cpus",
            file("cpuset/cpuset.cpus", "cpuset.cpus"),
            last,
        ),
        (
            "--cpuset-mems=0",
            file("cpuset/cpuset.mems", "cpuset.mems"),
            "0",
        ),
        ("--cpu-share=512", file("cpu/cpu.shares", "cpu.weight"), ""),
        ("--cpu-idle=1", file("cpu/cpu.idle", "cpu.idle"), "1"),
    ];
    for (flag, script, said) in cases {
        let flag = match flag {
            "--cpuset-cpus" => format!("{flag}={last}"),
            _ => flag.to_owned(),
        };
        b.oci(&["update", &flag, "box"]).ok();
        let read = read(&script);
        match said {
            // A share of v1, and what it comes to on v2.
            "" => assert!(["512", "59"].contains(&&*read), "{flag}: {read}"),
            said => assert_eq!(read, said, "{flag}"),
        }
    }
    b.oci(&["update", "--cpu-idle=0", "box"]).ok();
    let quota = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us \
                 /sys/fs/cgroup/cpu/cpu.cfs_burst_us 2>/dev/null \
                 || cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu.max.burst";
    let flags = ["--cpu-quota=30000", "--cpu-period=60000", "--cpu-burst=500"];
    b.oci(&[["update"].as_slice(), &flags, &["box"]].concat())
        .ok();
    let said = read(quota);
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words, ["30000", "60000", "500"]);
    let resources = b.dir().join("resources.json");
    std::fs::write(&resources, r#"{"pids": {"limit": 23}}"#).unwrap();
    b.oci(&["update", "-r", resources.to_str().unwrap(), "box"])
        .ok();
    assert_eq!(read(&pids), "23");
    // What was not named stays.
    assert_eq!(read(&memory), "134217728");
    for (flag, text) in [
        ("--memory=much", "--memory: \"much\""),
        ("--pids-limit=1k", "--pids-limit: \"1k\""),
        ("--cpu-quota=x", "--cpu-quota: \"x\""),
    ] {
        b.oci(&["update", flag, "box"]).fails(1, text);
    }
    b.oci(&["delete", "-f", "box"]).ok();
}

#[test]
fn exec_by_every_flag() {
    let b = sleeper(|c| {
        c["process"]["noNewPrivileges"] = false.into();
        c["process"]["capabilities"]["inheritable"] = json!(["CAP_KILL"]);
        c["root"]["readonly"] = false.into();
    });
    std::fs::write(b.dir().join("rootfs/etc/group"), "staff:x:50:\n").unwrap();
    let exec = |flags: &[&str], script: &str| {
        let all = [&["exec"], flags, &["box", "sh", "-c", script]].concat();
        b.oci(&all)
    };
    let flags = ["-u", "7:staff", "-g", "8", "-g", "9", "-e", "A=b=c"];
    let said = exec(&flags, "id -u; id -g; id -G; echo $A").said();
    assert_eq!(said, "7\n50\n50 8 9\nb=c");
    assert_eq!(exec(&["--cwd", "/tmp"], "pwd").said(), "/tmp");
    let status = |field: &str| format!("grep {field} /proc/self/status | cut -f2");
    assert_eq!(exec(&[], &status("NoNewPrivs")).said(), "0");
    assert_eq!(exec(&["--no-new-privs"], &status("NoNewPrivs")).said(), "1");
    let bits =
        |flags: &[&str]| u64::from_str_radix(&exec(flags, &status("CapEff")).said(), 16).unwrap();
    // CAP_SYS_TIME is number 25.
    assert_eq!(bits(&["-c", "CAP_SYS_TIME"]) ^ bits(&[]), 1 << 25);

    let bits = |field: &str, flags: &[&str]| {
        u64::from_str_radix(&exec(flags, &status(field)).said(), 16).unwrap()
    };
    // Of an inheritable one, CAP_KILL, number 5, ambient too.
    let more = ["-c", "CAP_KILL", "-c", "CAP_SYS_TIME"];
    assert_eq!(bits("CapAmb", &more), 1 << 5);
    assert_eq!(bits("CapInh", &more), 1 << 5);

    let pid_file = b.dir().join("exec.pid");
    let detached = ["-d", "--pid-file", pid_file.to_str().unwrap()];
    exec(&detached, "exec sleep 60").ok();
    let pid: i32 = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    let pids: Vec<i32> = serde_json::from_str(&b.oci(&["ps", "-f", "json", "box"]).ok()).unwrap();
    assert!(pids.contains(&pid), "{pids:?}");
    let table = b.oci(&["ps", "box"]).ok();
    assert!(
        table.starts_with("UID ") && table.contains("sleep 60"),
        "{table}"
    );
    let own = b.oci(&["ps", "box", "-o", "pid,comm"]).ok();
    assert!(own.contains(&format!("{pid} sleep")), "{own}");

    let process = b.dir().join("process.json");
    let file = json!({"args": ["sh", "-c", "id -u; pwd"], "cwd": "/tmp", "user": {"uid": 3, "gid": 3},
                      "env": ["PATH=/bin"]});
    std::fs::write(&process, file.to_string()).unwrap();
    let ran = b.oci(&["exec", "--process", process.to_str().unwrap(), "box"]);
    assert_eq!(ran.said(), "3\n/tmp");

    exec(&["--cgroup", "nope"], "true").fails(255, "--cgroup");
    b.oci(&["pause", "box"]).ok();
    exec(&[], "true").fails(255, "paused");
    // As with runc, it is frozen with the rest, and done once they go on.
    let waiting = std::process::Command::new(b.runtime())
        .arg("--root")
        .arg(b.dir().join("state"))
        .args(["exec", "--ignore-paused", "box", "sh", "-c", "exit 9"])
        .spawn();
    let mut waiting = waiting.unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(waiting.try_wait().unwrap(), None);
    b.oci(&["resume", "box"]).ok();
    assert_eq!(waiting.wait().unwrap().code(), Some(9));
    b.oci(&["kill", "--all", "box", "KILL"]).ok();
    b.becomes("box", "stopped");
    b.oci(&["delete", "box"]).ok();
}

#[test]
fn lists_and_the_machine() {
    let b = sleeper(|c| c["annotations"] = json!({"org.example": "yes"}));
    assert_eq!(b.oci(&["list", "-q"]).ok(), "box\n");
    let all: Value = serde_json::from_str(&b.oci(&["list", "-f", "json"]).ok()).unwrap();
    assert_eq!(all[0]["id"], "box");
    assert_eq!(all[0]["status"], "running");
    assert_eq!(all[0]["annotations"]["org.example"], "yes");
    let none = b.dir().join("none");
    let list = std::process::Command::new(env!("CARGO_BIN_EXE_carob-oci"))
        .args(["--root", none.to_str().unwrap(), "list"])
        .output()
        .unwrap();
    assert!(!list.status.success());
    assert!(String::from_utf8_lossy(&list.stderr).contains("no such directory"));
    let table = b.oci(&["list"]).ok();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows[0],
        ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    );
    let state = b.state("box");
    let text = |field: &str| state[field].as_str().unwrap();
    let pid = state["pid"].to_string();
    assert_eq!(
        rows[1],
        [
            "box",
            &pid,
            "running",
            text("bundle"),
            text("created"),
            "root"
        ]
    );
    b.oci(&["list", "-f", "yaml"]).fails(1, "--format");
    let features: Value = serde_json::from_str(&b.oci(&["features"]).ok()).unwrap();
    assert_eq!(features["ociVersionMax"], "1.3.0");
    let linux = &features["linux"];
    assert_eq!(linux["mountExtensions"]["idmap"]["enabled"], true);
    for part in [
        "netDevices",
        "memoryPolicy",
        "intelRdt",
        "seccomp",
        "cgroup",
    ] {
        assert!(linux[part].is_object(), "{part}: {linux}");
    }
    // Once a tenth of a second until the container ends.
    let events = std::process::Command::new(b.runtime())
        .arg("--root")
        .arg(b.dir().join("state"))
        .args(["events", "--interval", "100ms", "box"])
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut events = events.unwrap();
    let mut lines = std::io::BufReader::new(events.stdout.take().unwrap());
    for _ in 0..2 {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&event["type"], &event["id"]),
            (&json!("stats"), &json!("box"))
        );
        assert!(
            event["data"]["pids"]["current"].as_u64().unwrap() >= 1,
            "{event}"
        );
    }
    b.oci(&["events", "--interval", "0s", "box"])
        .fails(1, "--interval");
    b.oci(&["kill", "box", "KILL"]).ok();
    assert!(events.wait().unwrap().success());
    b.oci(&["delete", "-f", "box"]).ok();
}

/// The one fd that comes in a message.
fn received(socket: &UnixListener) -> OwnedFd {
    let (stream, _) = socket.accept().unwrap();
    let (_, _, mut fds) = carob::inside::sys::receive(stream.as_fd(), &mut [0; 64]).unwrap();
    assert_eq!(fds.len(), 1);
    fds.remove(0)
}

#[test]
fn sockets_for_the_terminal_and_the_pidfd() {
    let b = Bundle::new();
    b.sh("tty; read line", |c| c["process"]["terminal"] = true.into());
    let path = |name: &str| b.dir().join(name).to_str().unwrap().to_owned();
    let (console, pidfd) = (path("console"), path("pidfd"));
    let console_socket = UnixListener::bind(&console).unwrap();
    let pidfd_socket = UnixListener::bind(&pidfd).unwrap();
    b.oci(&["create", "box"]).fails(1, "tty");
    std::thread::scope(|scope| {
        let created = scope.spawn(|| {
            let flags = ["--console-socket", &console, "--pidfd-socket", &pidfd];
            b.oci(&[["create"].as_slice(), &flags, &["box"]].concat())
        });
        let terminal = received(&console_socket);
        let pidfd = received(&pidfd_socket);
        created.join().unwrap().ok();
        let pid = b.state("box")["pid"].to_string();
        let info = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
        let info = std::fs::read_to_string(info).unwrap();
        assert!(info.contains(&format!("\nPid:\t{pid}\n")), "{info}");
        b.oci(&["start", "box"]).ok();
        let mut said = [0; 12];
        std::fs::File::from(terminal).read_exact(&mut said).unwrap();
        assert_eq!(&said, b"/dev/pts/0\r\n");
    });
    // Its terminal has hung up.
    b.becomes("box", "stopped");
    b.oci(&["delete", "box"]).ok();
}

#[test]
fn logs_and_what_is_kept() {
    let b = Bundle::new();
    let log = b.dir().join("log.json");
    let logged = ["--log", log.to_str().unwrap(), "--log-format", "json"];
    b.oci(&[logged.as_slice(), &["state", "nobody"]].concat())
        .fails(1, "does not exist");
    let text = std::fs::read_to_string(&log).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["level"], "error");
    assert!(last["msg"].as_str().unwrap().contains("does not exist"));
    assert!(last["time"].is_string());

    // With --debug, what is done too; without, nothing more than warnings and errors.
    b.sh("exit 3", |_| {});
    let run = ["--debug", "run", "box"];
    assert_eq!(b.oci(&[&logged[..], &run].concat()).code, 3);
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(
        text.contains("run box: exit code 3") && text.contains("the first process is "),
        "{text}"
    );
    let ran = b.oci(&["--log-level", "debug", "state", "nobody"]);
    assert!(ran.stderr.contains("level=debug"), "{ran:?}");
    let ran = b.oci(&["--log-level", "info", "run", "box"]);
    assert_eq!((ran.code, &*ran.stderr), (3, ""));

    assert_eq!(b.oci(&["run", "--keep", "box"]).code, 3);
    assert_eq!(b.state("box")["status"], "stopped");
    b.oci(&["kill", "box"]).fails(1, "container not running");
    b.oci(&["exec", "box", "true"])
        .fails(255, "container not running");
    b.oci(&["delete", "box"]).ok();
    // A root filesystem that cannot be pivoted is none here, but both ways work.
    b.sh("echo here", |_| {});
    assert_eq!(b.oci(&["run", "--no-pivot", "box"]).ok(), "here\n");
    assert_eq!(b.oci(&["--no-pivot", "run", "box"]).ok(), "here\n");
    let disabled = ["--cgroup-manager", "disabled", "run", "box"];
    assert_eq!(b.oci(&disabled).ok(), "here\n");
    b.oci(&["--cgroup-manager", "mine", "run", "box"])
        .fails(1, "--cgroup-manager");

    let rootless = b.dir().join("rootless");
    std::fs::create_dir(&rootless).unwrap();
    b.oci(&["spec", "--rootless", "-b", rootless.to_str().unwrap()])
        .ok();
    let spec = std::fs::read(rootless.join("config.json")).unwrap();
    let spec: Value = serde_json::from_slice(&spec).unwrap();
    assert_eq!(spec["linux"]["uidMappings"][0]["size"], 1);
    // As runc has it, on pure cgroups v2 alone.
    let pure_v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let kinds = spec["linux"]["namespaces"].as_array().unwrap();
    let has_cgroup = kinds.iter().any(|n| n["type"] == "cgroup");
    assert_eq!(has_cgroup, pure_v2, "{kinds:?}");
    b.oci(&["spec", "-b", rootless.to_str().unwrap()])
        .fails(1, "config.json");
}
