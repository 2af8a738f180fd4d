//! `carob-oci` on the real kernel, as root, each test with a private `--root` and a
//! bundle of its own. What a test leaves behind fails it.

#[path = "oci/accepted.rs"]
mod accepted;
#[path = "oci/bad_config.rs"]
mod bad_config;
#[path = "oci/bundle.rs"]
mod bundle;
#[path = "oci/caller.rs"]
mod caller;
#[path = "oci/debug_log.rs"]
mod debug_log;
#[path = "shared/denied.rs"]
mod denied;
#[path = "oci/frozen.rs"]
mod frozen;
#[path = "oci/full_config.rs"]
mod full_config;
#[path = "oci/hooks.rs"]
mod hooks;
#[path = "oci/kernels.rs"]
mod kernels;
#[path = "oci/own_cgroup.rs"]
mod own_cgroup;
#[path = "oci/verbs.rs"]
mod verbs;

use bundle::Bundle;
use serde_json::json;
use std::process::Command;

#[test]
fn a_life_verb_by_verb() {
    let b = Bundle::new();
    b.sh("sleep 60", |_| {});
    let pid_file = b.dir().join("pid");
    b.oci(&["create", "--pid-file", pid_file.to_str().unwrap(), "box"])
        .ok();
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    assert_eq!(b.state("box")["status"], "created");
    assert_eq!(b.state("box")["pid"].to_string(), pid);
    b.oci(&["create", "box"]).fails(1, "already exists");
    b.oci(&["start", "box"]).ok();
    assert_eq!(b.state("box")["status"], "running");
    b.oci(&["start", "box"]).fails(1, "already running");
    let out = b.oci(&["exec", "box", "sh", "-c", "id -u; exit 7"]);
    assert_eq!((out.code, out.stdout.trim()), (7, "0"));
    b.oci(&["exec", "box", "nope"])
        .fails(255, "executable file not found in $PATH");
    b.oci(&["pause", "box"]).ok();
    assert_eq!(b.state("box")["status"], "paused");
    b.oci(&["exec", "box", "true"]).fails(255, "paused");
    b.oci(&["resume", "box"]).ok();
    b.oci(&["update", "--pids-limit", "20", "box"]).ok();
    b.oci(&["delete", "box"]).fails(1, "not stopped: running");
    b.oci(&["kill", "box", "KILL"]).ok();
    b.becomes("box", "stopped");
    b.oci(&["kill", "box"]).fails(1, "container not running");
    b.oci(&["delete", "box"]).ok();
    b.oci(&["delete", "box"]).fails(1, "does not exist");
    b.oci(&["delete", "--force", "box"]).ok();
}

#[test]
fn exit_codes_pass_through() {
    let b = Bundle::new();
    b.sh("exit 42", |_| {});
    assert_eq!(b.oci(&["run", "box"]).code, 42);
    b.sh("kill -TERM $$", |_| {});
    let code = b.oci(&["run", "box"]).code;
    // Its first process of a pid namespace ignores what it does not handle.
    assert_eq!(code, 0);
}

/// On such a machine the test of what works there is still to be written.
#[test]
fn what_the_kernel_lacks_is_said_before_anything_is_made() {
    let b = Bundle::new();
    let there = |path: &str| std::path::Path::new(path).exists();
    for (field, value, path, text) in [
        (
            "intelRdt",
            json!({"schemata": ["L3:0=1"]}),
            "/sys/fs/resctrl/schemata",
            "linux.intelRdt: no resctrl is mounted at /sys/fs/resctrl",
        ),
        (
            "mountLabel",
            json!("system_u:object_r:box_t"),
            "/sys/fs/selinux/enforce",
            "linux.mountLabel: SELinux is not enabled",
        ),
    ] {
        assert!(!there(path), "{path}: this machine has what others lack");
        b.sh("true", |c| c["linux"][field] = value);
        b.oci(&["run", "box"]).fails(1, text);
        b.oci(&["state", "box"]).fails(1, "does not exist");
    }
    b.sh("sleep 60", |_| {});
    b.oci(&["run", "--detach", "box"]).ok();
    b.oci(&["update", "--l3-cache-schema", "L3:0=1", "box"])
        .fails(1, "--l3-cache-schema: no resctrl");
    b.oci(&["delete", "--force", "box"]).ok();
}

#[test]
fn what_cannot_be_run_is_said_at_create() {
    let b = Bundle::new();
    for (program, text) in [
        ("nope", "executable file not found in $PATH"),
        ("/nope", "no such file or directory"),
        ("/etc", "permission denied"),
    ] {
        b.config(|c| c["process"]["args"] = json!([program]));
        b.oci(&["create", "box"]).fails(1, text);
    }
}

#[test]
fn a_user_namespace_maps_root() {
    let b = Bundle::new();
    b.sh("id -u; cat /proc/self/uid_map; echo x > /dev/null", |c| {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        let kinds = c["linux"]["namespaces"].as_array_mut().unwrap();
        kinds.push(json!({"type": "user"}));
        c["linux"]["uidMappings"] = map.clone();
        c["linux"]["gidMappings"] = map;
    });
    let words = b.oci(&["run", "box"]).ok();
    let words: Vec<&str> = words.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "100000", "65536"]);
}

/// The user namespace that the mapping is taken from is made where pids are not
/// those that /proc shows.
#[test]
fn a_mount_is_idmapped_without_a_user_namespace() {
    let b = Bundle::new();
    let shared = b.dir().join("shared");
    std::fs::create_dir(&shared).unwrap();
    b.sh("stat -c %u:%g /tmp", |c| {
        let map = |to: u32| json!([{"containerID": 0, "hostID": to, "size": 1000}]);
        c["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/tmp", "type": "bind", "source": shared, "options": ["bind"],
            "uidMappings": map(5000), "gidMappings": map(7000),
        }));
    });
    assert_eq!(b.oci(&["run", "box"]).ok(), "5000:7000\n");
}

#[test]
fn a_time_namespace_has_its_offsets() {
    let b = Bundle::new();
    b.sh("cat /proc/self/timens_offsets", |c| {
        let kinds = c["linux"]["namespaces"].as_array_mut().unwrap();
        kinds.push(json!({"type": "time"}));
        c["linux"]["timeOffsets"] = json!({"boottime": {"secs": 5000}});
    });
    let text = b.oci(&["run", "box"]).ok();
    assert!(text.contains("5000"), "{text}");
}

#[test]
fn hooks_run_in_the_spec_s_order() {
    let b = Bundle::new();
    let log = b.dir().join("hooks");
    let hook = |kind: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("echo {kind} >> {}", log.display())]}]);
    b.sh("true", |c| {
        for kind in [
            "prestart",
            "createRuntime",
            "createContainer",
            "poststart",
            "poststop",
        ] {
            c["hooks"][kind] = hook(kind);
        }
    });
    b.oci(&["run", "box"]).ok();
    let ran = std::fs::read_to_string(&log).unwrap();
    let ran: Vec<&str> = ran.lines().collect();
    assert_eq!(
        ran,
        [
            "prestart",
            "createRuntime",
            "createContainer",
            "poststart",
            "poststop"
        ]
    );
    b.sh("true", |c| {
        c["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo no; exit 3"]}]});
    });
    b.oci(&["run", "box"]).fails(1, "hooks.createRuntime[0]");
}

/// runtime.md, "Lifecycle", step 13.
#[test]
fn a_poststop_hook_that_fails_is_warned_of() {
    let b = Bundle::new();
    let log = b.dir().join("hooks");
    let hook = |script: &str| json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    let ran = format!("echo ran >> {}", log.display());
    b.sh("true", |c| {
        c["hooks"]["poststop"] = json!([hook("echo no; exit 3"), hook(&ran)]);
    });
    let out = b.oci(&["run", "box"]);
    assert_eq!(out.code, 0, "{out:?}");
    assert!(out.stderr.contains("hooks.poststop[0]"), "{out:?}");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "ran\n");
}

#[test]
fn only_its_own_fds_are_open() {
    let b = Bundle::new();
    b.sh("ls /proc/self/fd", |_| {});
    // The fourth is the directory that `ls` reads.
    assert_eq!(b.oci(&["run", "box"]).ok(), "0\n1\n2\n3\n");
    b.sh("true", |_| {});
    b.oci(&["run", "--preserve-fds", "5", "box"])
        .fails(1, "is not open");
}

#[test]
fn wrong_configurations_name_the_field() {
    let b = Bundle::new();
    let cases: [(&str, serde_json::Value, &str); 12] = [
        ("/process", json!(null), "process"),
        ("/process/cwd", json!("here"), "process.cwd"),
        ("/process/user/uid", json!("root"), "process.user.uid"),
        ("/process/args", json!([]), "process.args"),
        ("/process/env", json!(["A=b", "C"]), "process.env[1]"),
        ("/process/env", json!(["=b"]), "process.env[0]"),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": ""}),
            "linux.seccomp.listenerPath",
        ),
        ("/root/path", json!("nowhere"), "root.path"),
        (
            "/linux/namespaces/0/type",
            json!("nope"),
            "linux.namespaces[0].type",
        ),
        (
            "/linux/rootfsPropagation",
            json!("nope"),
            "linux.rootfsPropagation",
        ),
        ("/mounts/0/destination", json!(""), "mounts[0]: destination"),
        ("/ociVersion", json!("one"), "ociVersion"),
    ];
    for (pointer, value, field) in cases {
        b.config(|c| {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            c.pointer_mut(parent).unwrap()[name] = value.clone();
        });
        b.oci(&["create", "box"]).fails(1, field);
    }
}

/// A program takes the first of a name, who calls exec means the last.
#[test]
fn the_last_of_a_variable_counts() {
    let b = Bundle::new();
    let env = json!(["PATH=/nowhere", "A=1", "PATH=/bin", "A=2"]);
    b.config(|c| {
        c["process"]["args"] = json!(["env"]);
        c["process"]["env"] = env.clone();
    });
    assert_eq!(b.oci(&["run", "box"]).ok(), "PATH=/bin\nA=2\nHOME=/root\n");
    // An empty HOME is as good as none.
    b.config(|c| {
        c["process"]["args"] = json!(["env"]);
        c["process"]["env"] = json!(["HOME=/x", "PATH=/bin", "HOME="]);
    });
    assert_eq!(b.oci(&["run", "box"]).ok(), "PATH=/bin\nHOME=/root\n");
    b.sh("exec sleep 60", |c| c["process"]["env"] = env);
    b.oci(&["create", "box"]).ok();
    let ran = b.oci(&["exec", "--env", "A=3", "--env", "B=", "box", "env"]);
    assert_eq!(ran.ok(), "PATH=/bin\nA=3\nB=\nHOME=/root\n");
    b.oci(&["exec", "--env", "B", "box", "env"])
        .fails(255, "process.env[4]: no `=`");
    b.oci(&["delete", "--force", "box"]).ok();
}

/// Three fds and little memory are enough for a program, and not for what makes it.
#[test]
fn limits_bind_the_program_alone() {
    let b = Bundle::new();
    let limits = json!([
        {"type": "RLIMIT_NOFILE", "hard": 4, "soft": 3},
        {"type": "RLIMIT_FSIZE", "hard": 4096, "soft": 4096},
        {"type": "RLIMIT_AS", "hard": 4_194_304, "soft": 4_194_304},
    ]);
    let script = "ulimit -Sn; ulimit -Hn; ulimit -f; ulimit -v";
    b.sh(script, |c| c["process"]["rlimits"] = limits.clone());
    assert_eq!(b.oci(&["run", "box"]).ok(), "3\n4\n8\n4096\n");
    b.sh("sleep 60", |c| c["process"]["rlimits"] = limits);
    b.oci(&["create", "box"]).ok();
    let ran = b.oci(&["exec", "box", "sh", "-c", script]);
    assert_eq!(ran.ok(), "3\n4\n8\n4096\n");
    b.oci(&["delete", "--force", "box"]).ok();
}

/// What the runtime itself uses is charged too, from the clone to the exec.
#[test]
fn three_megabytes_of_memory_are_enough() {
    const LIMIT: u64 = 3 << 20;
    let b = Bundle::new();
    let limited = |c: &mut serde_json::Value| {
        c["linux"]["resources"]["memory"]["limit"] = LIMIT.into();
    };
    b.sh("echo alive", limited);
    for _ in 0..5 {
        assert_eq!(b.oci(&["run", "box"]).ok(), "alive\n");
    }
    b.sh("sleep 60", limited);
    b.oci(&["create", "box"]).ok();
    b.oci(&["start", "box"]).ok();
    for _ in 0..5 {
        assert_eq!(b.oci(&["exec", "box", "echo", "alive"]).ok(), "alive\n");
    }
    let events = b.oci(&["events", "--stats", "box"]).ok();
    let events: serde_json::Value = serde_json::from_str(&events).unwrap();
    let usage = &events["data"]["memory"]["usage"];
    assert_eq!(usage["limit"], LIMIT, "{usage}");
    assert_eq!(b.state("box")["status"], "running");
    b.oci(&["delete", "--force", "box"]).ok();
}

#[test]
fn a_capability_that_nobody_knows_is_a_warning() {
    let b = Bundle::new();
    let caps = json!(["CAP_KILL", "CAP_FLY", "chown"]);
    b.sh("sleep 60", |c| {
        c["process"]["capabilities"] = json!({"bounding": caps, "permitted": caps});
    });
    let warning = "process.capabilities: CAP_FLY, chown: no such capability";
    let bounding = |words: &str| words.contains("CapBnd:\t0000000000000020");
    let made = b.oci(&["create", "box"]);
    assert!(made.stderr.contains(warning), "{made:?}");
    made.ok();
    b.oci(&["start", "box"]).ok();
    let process = b.dir().join("process.json");
    let status = json!({
        "args": ["cat", "/proc/self/status"], "cwd": "/", "user": {"uid": 0, "gid": 0},
        "env": ["PATH=/bin"], "capabilities": {"bounding": caps, "permitted": caps},
    });
    std::fs::write(&process, status.to_string()).unwrap();
    let ran = b.oci(&["exec", "--process", process.to_str().unwrap(), "box"]);
    assert!(ran.stderr.contains(warning), "{ran:?}");
    assert!(bounding(&ran.stdout), "{ran:?}");
    b.oci(&["delete", "--force", "box"]).ok();
}

/// The mount namespace's own root is not the one that a chrooted runtime sees: an
/// exec, which enters the namespace, must not arrive there.
#[test]
fn a_runtime_in_a_chroot() {
    let b = Bundle::new();
    b.sh("sleep 60", |_| {});
    let outside = b.dir().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let script = format!(
        "mount --make-rprivate / && mount --rbind / {0} && exec chroot {0} sh -c '\
         cd {1} && oci=\"{2} --root {1}/state\" && $oci create box </dev/null >/dev/null 2>&1 && \
         $oci exec box ls -d /home /etc/debian_version /bin/busybox'",
        outside.display(),
        b.dir().display(),
        env!("CARGO_BIN_EXE_carob-oci"),
    );
    let ran = Command::new("timeout")
        .args(["20", "unshare", "--mount", "sh", "-c", &script])
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&ran.stdout), "/bin/busybox\n", "{}", text(&ran.stderr));
    b.oci(&["delete", "--force", "box"]).ok();
}
/// On a machine whose mounts are all shared, as systemd makes them: what a container
/// mounts reaches no other namespace, and nothing reaches the container.
#[test]
fn mounts_stay_inside_where_every_mount_is_shared() {
    let b = Bundle::new();
    std::fs::create_dir(b.dir().join("volume")).unwrap();
    b.sh("cat /proc/self/mountinfo; mount -t tmpfs inside /volume", |c| {
        for set in ["bounding", "permitted", "effective"] {
            let list = c["process"]["capabilities"][set].as_array_mut().unwrap();
            list.push("CAP_SYS_ADMIN".into());
        }
        let m = json!({"destination": "/volume", "type": "bind", "source": b.dir().join("volume"),
                       "options": ["rbind"]});
        c["mounts"].as_array_mut().unwrap().push(m);
        c["root"]["readonly"] = false.into();
    });
    let script = format!(
        "{} --root state run box >inside || exit 1; cat /proc/self/mountinfo",
        b.runtime().display()
    );
    let ran = Command::new("unshare")
        .args(["-m", "--propagation", "shared", "sh", "-c", &script])
        .current_dir(b.dir())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let inside = std::fs::read_to_string(b.dir().join("inside")).unwrap();
    assert!(inside.contains(" /volume "), "{inside}");
    for peers in ["shared:", "master:"] {
        assert!(!inside.contains(peers), "{inside}");
    }
    let host = String::from_utf8(ran.stdout).unwrap();
    assert!(!host.contains(b.name()), "{host}");
}

#[test]
fn without_a_mount_namespace_the_host_sees_no_mount_of_it() {
    let b = Bundle::new();
    b.sh("sleep 60", |c| {
        let kinds = c["linux"]["namespaces"].as_array_mut().unwrap();
        kinds.retain(|n| n["type"] != "mount");
        c["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/there", "type": "bind", "source": "/usr", "options": ["bind", "mode=755"]
        }));
    });
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours = |text: String| {
        let of_this = |l: &&str| l.contains(b.dir().to_str().unwrap());
        text.lines().filter(of_this).count()
    };
    let created = b.oci(&["create", "box"]);
    // mount(2) would take no notice of it.
    assert!(
        created.stderr.contains("\\\"mode=755\\\" has no effect"),
        "{created:?}"
    );
    created.ok();
    b.oci(&["start", "box"]).ok();
    // Its mount namespace's file, and the private mount in which that is bound.
    assert_eq!(ours(mounts()), 2, "{}", mounts());
    let pid = b.state("box")["pid"].to_string();
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    assert_eq!(namespace(&pid), namespace("self"));
    let script =
        "ls -d /home /there/bin /proc/self /dev/null; ls / | grep -c .; ls /proc/1/root/..";
    let seen = b.oci(&["exec", "box", "sh", "-c", script]).stdout;
    assert!(
        seen.starts_with("/dev/null\n/proc/self\n/there/bin\n"),
        "{seen}"
    );
    assert!(!seen.contains("home"), "{seen}");
    b.oci(&["delete", "--force", "box"]).ok();
    assert_eq!(ours(mounts()), 0, "{}", mounts());
}

/// The kernel refuses to bind a mount namespace's file where that would show up in other
/// mount namespaces, which is anywhere on a machine with systemd; and, since Linux 6.18,
/// depending on the CPUs where the two mount namespaces were made.
#[test]
fn without_a_mount_namespace_where_every_mount_is_shared() {
    let b = Bundle::new();
    b.sh("sleep 60", |c| {
        let kinds = c["linux"]["namespaces"].as_array_mut().unwrap();
        kinds.retain(|n| n["type"] != "mount");
    });
    let script = r#"
        oci="taskset -c $1 $2 --root state"
        count() { grep -c -F "$PWD" "/proc/$1/mountinfo"; }
        # Receives what is mounted here, as a service of systemd does.
        unshare -m --propagation slave sleep 60 & service=$!
        until [ "$(cat /proc/$service/comm)" = sleep ]; do :; done
        $oci create box </dev/null >/dev/null && $oci start box && $oci exec box ls -d /home /bin/sh
        count $$; count $service
        $oci delete --force box
        count $$; count $service
        kill $service"#;
    let last = std::thread::available_parallelism().unwrap().get() - 1;
    for (outside, inside) in [(0, last), (last, 0)] {
        let ran = Command::new("timeout")
            .args(["20", "taskset", "-c", &outside.to_string()])
            .args(["unshare", "-m", "--propagation", "shared"])
            .args(["sh", "-c", script, "sh", &inside.to_string()])
            .arg(b.runtime())
            .current_dir(b.dir())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&ran.stdout), text(&ran.stderr));
        // The private mount is seen outside, what is in it is not.
        assert_eq!(out, "/bin/sh\n2\n1\n0\n0\n", "{err}");
    }
}

/// Readiness is passed on, and nothing else of what the container says.
#[test]
fn readiness_reaches_the_host() {
    let b = Bundle::new();
    let path = b.dir().join("host");
    let host = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    host.set_read_timeout(Some(std::time::Duration::from_secs(10)))
        .unwrap();
    let with_socket = |verb: &[&str]| {
        Command::new("timeout")
            .args(["20", env!("CARGO_BIN_EXE_carob-oci"), "--root"])
            .arg(b.dir().join("state"))
            .args(verb)
            .current_dir(b.dir())
            .env("NOTIFY_SOCKET", &path)
            .stdout(std::fs::File::create(b.dir().join("out")).unwrap())
            .spawn()
            .unwrap()
    };
    b.sh("echo $NOTIFY_SOCKET; sleep 60", |c| {
        c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    assert!(with_socket(&["create", "box"]).wait().unwrap().success());
    let mut start = with_socket(&["start", "box"]);
    b.becomes("box", "running");
    let pid = b.state("box")["pid"].to_string();
    let inside = format!("/proc/{pid}/root/run/notify/socket");
    let container = std::os::unix::net::UnixDatagram::unbound().unwrap();
    container
        .send_to(b"STATUS=nearly\nMAINPID=1", &inside)
        .unwrap();
    assert!(start.try_wait().unwrap().is_none(), "it waits");
    container
        .send_to(b"STATUS=there\nREADY=1\nMAINPID=1", &inside)
        .unwrap();
    let mut buffer = [0; 100];
    let n = host.recv(&mut buffer).unwrap();
    let word = String::from_utf8_lossy(&buffer[..n]).into_owned();
    assert_eq!(word, format!("MAINPID={pid}\nREADY=1"));
    // It stays until that is read: systemd looks at who it was.
    assert!(start.try_wait().unwrap().is_none(), "it waits");
    let n = host.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..n], b"BARRIER=1");
    assert!(start.wait().unwrap().success());
    b.oci(&["delete", "--force", "box"]).ok();

    // A second start, which fails, leaves the first one what it listens at.
    assert!(with_socket(&["create", "box"]).wait().unwrap().success());
    let mut first = with_socket(&["start", "box"]);
    b.becomes("box", "running");
    assert!(!with_socket(&["start", "box"]).wait().unwrap().success());
    let pid = b.state("box")["pid"].to_string();
    let inside = format!("/proc/{pid}/root/run/notify/socket");
    container.send_to(b"READY=1", &inside).unwrap();
    host.recv(&mut buffer).unwrap();
    host.recv(&mut buffer).unwrap();
    assert!(first.wait().unwrap().success());
    b.oci(&["delete", "--force", "box"]).ok();

    // One that ends without a word holds nobody up.
    b.sh("echo $NOTIFY_SOCKET", |_| {});
    assert!(with_socket(&["run", "-d", "box"]).wait().unwrap().success());
    b.becomes("box", "stopped");
    assert_eq!(
        std::fs::read_to_string(b.dir().join("out")).unwrap(),
        "/run/notify/socket\n"
    );
    b.oci(&["delete", "box"]).ok();
}

/// What works is shown on a kernel that Debian's criu knows: tests/vm.rs.
#[test]
fn a_checkpoint_that_fails_leaves_the_container_running() {
    let b = Bundle::new();
    b.sh("sleep 60", |_| {});
    b.oci(&["create", "box"]).ok();
    b.oci(&["checkpoint", "box"])
        .fails(1, "cannot be checkpointed in created state");
    b.oci(&["start", "box"]).ok();
    let images = b.dir().join("checkpoint");
    b.oci(&["--criu", "/nowhere/criu", "checkpoint", "box"])
        .fails(1, "/nowhere/criu: no such program (");
    b.oci(&["--criu", "nobodys-criu", "checkpoint", "box"])
        .fails(1, "install the package criu");
    // What ends without a word, and what is no program after all.
    b.oci(&["--criu", "false", "checkpoint", "box"])
        .fails(1, "checkpoint: criu gave no answer");
    let text = b.dir().join("text");
    std::fs::write(&text, "no program").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&text, executable).unwrap();
    b.oci(&["--criu", text.to_str().unwrap(), "checkpoint", "box"])
        .fails(1, "ENOEXEC");
    for flag in ["--lazy-pages", "--page-server=localhost:1", "--status-fd=5"] {
        b.oci(&["checkpoint", flag, "box"])
            .fails(1, "not supported");
    }
    b.oci(&["checkpoint", "--parent-path", "../none", "box"])
        .fails(1, "--parent-path ../none: is no directory");
    assert!(!images.exists());
    // criu follows links that it finds there, and restores what it finds there.
    let open = b.dir().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    let open = open.to_str().unwrap();
    for flag in ["--image-path", "--work-path"] {
        b.oci(&["checkpoint", flag, open, "box"])
            .fails(1, &format!("{flag}: {open}: is of uid 0 and mode 1777"));
    }
    b.oci(&["restore", "--image-path", open, "other"])
        .fails(1, "others may write there");
    assert_eq!(b.state("box")["status"], "running");
    assert_eq!(b.oci(&["exec", "box", "echo", "on"]).ok(), "on\n");

    b.oci(&["restore", "--image-path", "/nowhere", "other"])
        .fails(1, "--image-path: open(\"/nowhere\"");
    std::fs::create_dir(&images).unwrap();
    b.oci(&["restore", "box"]).fails(1, "already exists");
    b.oci(&["kill", "box", "KILL"]).ok();
    b.becomes("box", "stopped");
    b.oci(&["checkpoint", "box"])
        .fails(1, "container not running");
    b.oci(&["delete", "box"]).ok();
    b.oci(&["--criu", "false", "restore", "box"])
        .fails(1, "restore: criu gave no answer");
    b.oci(&["state", "box"]).fails(1, "does not exist");
}
