//! What runc and crun accept, and engines and people therefore write.

use serde_json::{Value, json};

use super::bundle::{Bundle, Ran, until};

/// `exec --process` with this process in the container `box`.
fn exec(b: &Bundle, process: Value) -> Ran {
    let file = b.dir().join("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    b.oci(&["exec", "--process", file.to_str().unwrap(), "box"])
}

#[test]
fn scheduler_flags_by_the_names_of_the_spec() {
    let b = Bundle::new();
    let scheduler = json!({"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    // The policy is field 41 of proc_pid_stat(5): of the shell, and of what it forks.
    let script = "cut -d' ' -f41 /proc/$$/stat; cut -d' ' -f41 /proc/self/stat";
    b.sh(&format!("{script}; sleep 60"), |c| {
        c["process"]["scheduler"] = scheduler.clone();
    });
    b.oci(&["run", "--detach", "box"]).ok();
    let process = json!({"args": ["sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"],
                         "user": {"uid": 0, "gid": 0}, "scheduler": scheduler});
    // SCHED_BATCH is 3. Reset on fork does not change what is no real-time policy.
    assert_eq!(exec(&b, process).ok(), "3\n3\n");
    b.oci(&["delete", "--force", "box"]).ok();
}

#[test]
fn relative_destinations_of_mounts() {
    let b = Bundle::new();
    let script = "cat /proc/self/comm; test -c /dev/null && echo a device; \
                  stat -f -c %T /tmp/a/b; wc -c < /etc/names";
    b.sh(script, |c| {
        let mounts = c["mounts"].as_array_mut().unwrap();
        for m in mounts.iter_mut() {
            let at = m["destination"].as_str().unwrap();
            m["destination"] = match at {
                "/proc" => "proc".into(),
                "/dev" => "./dev/".into(),
                at => at.trim_start_matches('/').into(),
            };
        }
        mounts.push(json!({"destination": "tmp/a/b", "type": "tmpfs", "source": "tmpfs"}));
        mounts.push(
            json!({"destination": "etc/names", "type": "bind", "options": ["bind"],
                           "source": "/etc/hostname"}),
        );
        c["root"]["readonly"] = false.into();
    });
    let ran = b.oci(&["run", "box"]);
    let bytes = std::fs::metadata("/etc/hostname").unwrap().len();
    assert!(
        ran.stderr.contains("deprecates relative destinations"),
        "{ran:?}"
    );
    assert_eq!(ran.ok(), format!("cat\na device\ntmpfs\n{bytes}\n"));
}

/// Read-only once the devices, links and what else is mounted there are in it.
#[test]
fn a_read_only_dev() {
    let b = Bundle::new();
    for (option, terminal) in [("ro", false), ("ro", true), ("rro", false)] {
        let script = "grep ' /dev ' /proc/mounts | grep -c ' ro,'; touch /dev/new || echo refused; \
                      echo x > /dev/null; test -c /dev/more -a -L /dev/fd && echo made; \
                      test -d /dev/deep/er && echo mounted";
        b.sh(script, |c| {
            c["process"]["terminal"] = terminal.into();
            let device = json!({"path": "/dev/more", "type": "c", "major": 1, "minor": 3});
            c["linux"]["devices"] = json!([device]);
            let mounts = c["mounts"].as_array_mut().unwrap();
            let dev = mounts.iter_mut().find(|m| m["destination"] == "/dev");
            dev.unwrap()["options"]
                .as_array_mut()
                .unwrap()
                .push(option.into());
            mounts.push(json!({"destination": "/dev/deep/er", "type": "tmpfs"}));
        });
        let ran = b.oci(&["run", "box"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let said = ran.stdout.replace("\r\n", "\n");
        let lines: Vec<&str> = said.lines().filter(|l| !l.contains("touch")).collect();
        assert_eq!(
            lines,
            ["1", "refused", "made", "mounted"],
            "{option}: {ran:?}"
        );
    }
}

#[test]
fn a_process_without_a_user_is_root() {
    let b = Bundle::new();
    let without = |c: &mut Value| {
        c["process"].as_object_mut().unwrap().remove("user");
    };
    b.sh("id -u; id -g; umask", without);
    assert_eq!(b.oci(&["run", "box"]).ok(), "0\n0\n0022\n");
    b.sh("sleep 60", without);
    b.oci(&["run", "--detach", "box"]).ok();
    let process = json!({"args": ["/bin/id", "-u"], "cwd": "/"});
    assert_eq!(exec(&b, process).ok(), "0\n");
    b.oci(&["delete", "--force", "box"]).ok();
}

/// A file of root's with mode 0744, and a user who is not root.
#[test]
fn a_program_that_only_a_capability_lets_execute() {
    use std::os::unix::fs::PermissionsExt;
    let b = Bundle::new();
    let dir = b.dir().join("rootfs/closed");
    std::fs::create_dir(&dir).unwrap();
    std::fs::copy(b.dir().join("rootfs/bin/busybox"), dir.join("sh")).unwrap();
    for path in [dir.join("sh"), dir.clone()] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o744)).unwrap();
    }
    let with = |caps: Value, program: &str| {
        b.config(|c| {
            c["process"]["args"] = json!([program, "-c", "echo $UID; sleep 60"]);
            c["process"]["env"] = json!(["PATH=/closed", "UID=ran"]);
            c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            let sets = [
                "bounding",
                "effective",
                "inheritable",
                "permitted",
                "ambient",
            ];
            c["process"]["capabilities"] = sets.iter().map(|s| (*s, caps.clone())).collect();
        });
    };
    for program in ["/closed/sh", "sh"] {
        with(json!(["CAP_DAC_OVERRIDE"]), program);
        let created = b.oci(&["create", "box"]);
        assert_eq!(created.code, 0, "{program}: {created:?}");
        b.oci(&["start", "box"]).ok();
        assert_eq!(
            b.oci(&["exec", "box", program, "-c", "echo $UID"]).ok(),
            "ran\n"
        );
        b.oci(&["delete", "--force", "box"]).ok();
        // Without it, that is found out at `create`.
        with(json!([]), program);
        b.oci(&["create", "box"]).fails(1, "permission denied");
    }
}

/// By the host's path of the root filesystem, as it is once the mounts before are there.
#[test]
fn a_bind_source_that_an_earlier_mount_makes() {
    let b = Bundle::new();
    let path = |name: &str| b.dir().join(name).to_str().unwrap().to_owned();
    std::fs::create_dir_all(b.dir().join("data/in")).unwrap();
    std::fs::write(b.dir().join("data/in/file"), "found\n").unwrap();
    std::os::unix::fs::symlink("/etc", b.dir().join("data/out")).unwrap();
    std::fs::create_dir_all(b.dir().join("rootfs/there/in")).unwrap();
    std::fs::write(b.dir().join("rootfs/there/in/file"), "covered\n").unwrap();
    let bind = |from: &str, to: &str, how: &str| json!({"source": path(from), "destination": to, "type": "bind", "options": [how]});
    let user = json!([{"type": "user"}]);
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    for userns in [false, true] {
        b.sh("cat /a/file /b/file /c/in/file /d/file; ls /e/in", |c| {
            c["root"]["readonly"] = false.into();
            if userns {
                let kinds = c["linux"]["namespaces"].as_array_mut().unwrap();
                kinds.extend(user.as_array().unwrap().clone());
                c["linux"]["uidMappings"] = map.clone();
                c["linux"]["gidMappings"] = map.clone();
                c["root"]["path"] = "mapped".into();
            }
            let mounts = c["mounts"].as_array_mut().unwrap();
            let root = if userns { "mapped" } else { "rootfs" };
            let inside = |name: &str| format!("{root}/{name}");
            mounts.extend([
                bind("data", "/mnt", "bind"),
                bind(&inside("mnt/in"), "/a", "bind"),
                // What is there already is covered by then.
                bind("data", "/there", "bind"),
                bind(&inside("there/in"), "/b", "bind"),
                bind(&inside("mnt"), &path(&inside("c")), "rbind"),
                bind(&inside("a"), "/d", "rbind"),
                json!({"destination": "/tree/in", "type": "tmpfs", "source": "tmpfs"}),
                bind(&inside("tree"), "/e", "rbind"),
            ]);
        });
        if userns {
            let script = "cp -a rootfs mapped && chown -R 100000:100000 mapped data && chmod 755 .";
            let made = std::process::Command::new("sh")
                .args(["-c", script])
                .current_dir(b.dir())
                .status();
            assert!(made.unwrap().success());
        }
        let said = "found\n".repeat(4);
        assert_eq!(
            b.oci(&["run", "box"]).ok(),
            said,
            "user namespace: {userns}"
        );
    }
    // A link of a volume's does not lead to the host.
    b.sh("ls /f", |c| {
        let mounts = c["mounts"].as_array_mut().unwrap();
        mounts.extend([
            bind("data", "/tmp", "bind"),
            bind("rootfs/tmp/out", "/f", "bind"),
        ]);
        c["root"]["readonly"] = false.into();
    });
    std::fs::write(b.dir().join("rootfs/etc/ours"), "").unwrap();
    let ran = b.oci(&["run", "box"]);
    assert_eq!(ran.ok(), "ours\npasswd\n");
}

/// mount_setattr(2): the mount of a host's filesystem cannot be idmapped from within a user
/// namespace.
#[test]
fn an_idmapped_source_that_an_earlier_mount_makes() {
    let b = Bundle::new();
    let path = |name: &str| b.dir().join(name).to_str().unwrap().to_owned();
    std::fs::create_dir(b.dir().join("data")).unwrap();
    std::fs::write(b.dir().join("data/file"), "").unwrap();
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    let script = "cp -a rootfs mapped && chown -R 100000:100000 mapped && chmod 755 .";
    let made = std::process::Command::new("sh")
        .args(["-c", script])
        .current_dir(b.dir())
        .status();
    assert!(made.unwrap().success());
    // What is 0 on disk is 100000 on the host.
    let cases = [
        (None, "rootfs", "0:0\n100000:100000\n"),
        (Some("bind"), "mapped", "65534:65534\n0:0\n"),
        (Some("idmap"), "mapped", "65534:65534\n0:0\n"),
    ];
    for (userns, root, said) in cases {
        b.sh("stat -c %u:%g /mnt/file /a/file", |c| {
            c["root"] = json!({"path": root});
            let mut inside = json!({
                "source": path(&format!("{root}/mnt")), "destination": "/a", "type": "bind",
                "options": ["bind", userns.unwrap_or("bind")],
            });
            if userns.is_some() {
                let kinds = c["linux"]["namespaces"].as_array_mut().unwrap();
                kinds.push(json!({"type": "user"}));
                c["linux"]["uidMappings"] = map.clone();
                c["linux"]["gidMappings"] = map.clone();
            }
            if userns != Some("idmap") {
                inside["uidMappings"] = map.clone();
                inside["gidMappings"] = map.clone();
            }
            let data = path("data");
            let outside =
                json!({"source": data, "destination": "/mnt", "type": "bind", "options": ["bind"]});
            c["mounts"]
                .as_array_mut()
                .unwrap()
                .extend([outside, inside]);
        });
        assert_eq!(b.oci(&["run", "box"]).ok(), said, "{userns:?}");
    }
}

/// The kernel has one errno for all of these; realtime policies work where the kernel gives
/// new cgroups realtime time.
#[test]
fn a_scheduler_that_the_kernel_refuses_is_explained() {
    let b = Bundle::new();
    for (runtime, deadline, period) in [(0, 9, 9), (2048, 1024, 4096), (1024, 4096, 2048)] {
        b.sh("true", |c| {
            c["process"]["scheduler"] = json!({"policy": "SCHED_DEADLINE",
                "runtime": runtime, "deadline": deadline, "period": period});
        });
        b.oci(&["run", "box"]).fails(1, "not more than deadline");
    }
    b.sh("true", |c| {
        c["process"]["scheduler"] = json!({"policy": "SCHED_FIFO", "priority": 1});
    });
    let ran = b.oci(&["run", "box"]);
    match ran.code {
        0 => {}
        _ => drop(ran.fails(1, "linux.resources.cpu.realtimeRuntime")),
    }
}

/// kill(2): no signal is sent, and whether there is a process is told all the same.
#[test]
fn signal_0_asks_whether_it_is_there() {
    let b = Bundle::new();
    b.sh("sleep 60", |_| {});
    b.oci(&["create", "box"]).ok();
    b.oci(&["kill", "box", "0"]).ok();
    b.oci(&["start", "box"]).ok();
    b.oci(&["kill", "box", "0"]).ok();
    b.oci(&["kill", "--all", "box", "0"]).ok();
    b.oci(&["kill", "box", "KILL"]).ok();
    b.becomes("box", "stopped");
    b.oci(&["kill", "box", "0"])
        .fails(1, "container not running");
    // As with runc.
    b.oci(&["kill", "--all", "box", "0"]).ok();
    b.oci(&["kill", "--all", "box", "KILL"]).ok();
    b.oci(&["delete", "box"]).ok();
}

/// Forms of v1, where each controller may have a cgroup of its own.
#[test]
fn exec_into_a_cgroup_of_a_controller() {
    let b = Bundle::new();
    b.sh("sleep 60", |_| {});
    b.oci(&["run", "--detach", "box"]).ok();
    let exec =
        |flags: &[&str], command: &[&str]| b.oci(&[&["exec"], flags, &["box"], command].concat());
    exec(&["--cgroup", "whaaat:/"], &["true"]).fails(255, "unknown controller");
    exec(&["--cgroup", "a", "--cgroup", "b"], &["true"]).fails(255, "CONTROLLER:PATH");
    let pid = b.state("box")["pid"].to_string();
    let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let v1: Vec<(&str, &str)> = own
        .lines()
        .filter_map(|l| l.split_once(':')?.1.split_once(':'))
        .filter(|(list, _)| !list.is_empty() && !list.contains('='))
        .collect();
    // In the tests of pure v2 (tests/vm.rs) there is nothing more to ask.
    let dir = |list: &str, path: &str| format!("/sys/fs/cgroup/{list}{path}/sub");
    if let [(first, path), (second, _), ..] = v1[..] {
        exec(&["--cgroup", &format!("{first}:sub")], &["true"]).fails(255, "/sub");
        for list in [first, second] {
            std::fs::create_dir(dir(list, path)).unwrap();
        }
        let pid_file = b.dir().join("exec.pid");
        let flags = ["-d", "--pid-file", pid_file.to_str().unwrap()];
        let [one, two] = [first, second].map(|list| format!("--cgroup={list}:sub"));
        exec(&[&flags[..], &[&one, &two]].concat(), &["sleep", "60"]).ok();
        let pid = std::fs::read_to_string(&pid_file).unwrap();
        let now = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        for line in own.lines() {
            let list = line.split(':').nth(1).unwrap();
            let below = if [first, second].contains(&list) {
                "/sub"
            } else {
                ""
            };
            assert!(now.contains(&format!("{line}{below}\n")), "{list}: {now}");
        }
        exec(&["--cgroup", &format!("{first}:..")], &["true"]).fails(255, "relative");
    }
    b.oci(&["delete", "--force", "box"]).ok();
}

/// linux.personality and linux.memoryPolicy are the container's, and so is, where a
/// process file does not say it, what confines and schedules its first process.
#[test]
fn exec_takes_over_what_is_the_container_s() {
    let b = Bundle::new();
    let script = "uname -m; cut -d' ' -f2 /proc/self/numa_maps | sort -u; ulimit -n; \
                  grep CapEff /proc/self/status; cut -d' ' -f41 /proc/$$/stat";
    b.sh(&format!("{{ {script}; }} > /tmp/own; sleep 60"), |c| {
        c["root"]["readonly"] = false.into();
        c["linux"]["personality"] = json!({"domain": "LINUX32"});
        c["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "0"});
        let limit = json!({"type": "RLIMIT_NOFILE", "hard": 77, "soft": 77});
        c["process"]["rlimits"] = json!([limit]);
        c["process"]["scheduler"] = json!({"policy": "SCHED_BATCH"});
    });
    b.oci(&["run", "--detach", "box"]).ok();
    let process = json!({"args": ["/bin/sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"]});
    let own = || b.oci(&["exec", "box", "cat", "/tmp/own"]).ok();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while own().lines().count() < 5 {
        assert!(std::time::Instant::now() < deadline, "{}", own());
    }
    let own = own();
    assert!(
        own.starts_with("i686\n") && own.contains("bind:0\n77\n"),
        "{own}"
    );
    assert_eq!(exec(&b, process).ok(), own);
    assert_eq!(b.oci(&["exec", "box", "sh", "-c", script]).ok(), own);
    // What it says holds.
    let process = json!({"args": ["/bin/sh", "-c", "ulimit -n; grep CapEff /proc/self/status"],
                         "cwd": "/", "env": ["PATH=/bin"], "capabilities": {},
                         "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 66, "soft": 55}]});
    assert_eq!(exec(&b, process).ok(), "55\nCapEff:\t0000000000000000\n");
    b.oci(&["delete", "--force", "box"]).ok();
}

/// runtime-spec 1.3: 0 is a limit. Before, it was what podman wrote for none.
#[test]
fn a_pids_limit_of_0() {
    let b = Bundle::new();
    let max = "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max";
    for (version, limit) in [("1.3.0", "1"), ("1.0.2", "max")] {
        let config = |c: &mut Value, limit: i64| {
            c["ociVersion"] = version.into();
            c["linux"]["resources"]["pids"]["limit"] = limit.into();
        };
        // A shell that needs no further process.
        let script = "read a < /sys/fs/cgroup/pids/pids.max || read a < /sys/fs/cgroup/pids.max; \
                      echo $a";
        b.sh(script, |c| config(c, 0));
        assert_eq!(
            b.oci(&["run", "box"]).stdout,
            format!("{limit}\n"),
            "{version}"
        );
        b.sh("sleep 60", |c| config(c, 20));
        b.oci(&["run", "--detach", "box"]).ok();
        let pid = b.state("box")["pid"].to_string();
        let set = |args: &[&str]| {
            b.oci(&[&["update"], args, &["box"]].concat()).ok();
            let inside = std::process::Command::new("nsenter")
                .args(["-m", "-C", "-t", &pid, "sh", "-c", max])
                .output();
            String::from_utf8(inside.unwrap().stdout)
                .unwrap()
                .trim()
                .to_owned()
        };
        assert_eq!(set(&["--pids-limit", "9"]), "9");
        assert_eq!(set(&["--pids-limit", "0"]), limit, "{version}");
        assert_eq!(set(&["--pids-limit", "-1"]), "max");
        let file = b.dir().join("resources.json");
        for (json, limit) in [
            (r#"{"pids": {"limit": 5}}"#, "5"),
            (r#"{"pids": {"limit": 0}}"#, limit),
        ] {
            std::fs::write(&file, json).unwrap();
            assert_eq!(
                set(&["--resources", file.to_str().unwrap()]),
                limit,
                "{version} {json}"
            );
        }
        b.oci(&["delete", "--force", "box"]).ok();
    }
}

/// As long as the two say the same.
#[test]
fn a_domainname_and_its_sysctl() {
    let b = Bundle::new();
    for field in [Value::Null, json!("domain")] {
        b.sh("cat /proc/sys/kernel/domainname", |c| {
            c["linux"]["sysctl"] = json!({"kernel.domainname": "domain"});
            c["domainname"] = field;
        });
        assert_eq!(b.oci(&["run", "box"]).ok(), "domain\n");
    }
}

/// As runc has it: who reads a pipe wants lines. A terminal gets what a terminal needs.
#[test]
fn newlines_of_a_terminal_that_a_pipe_reads() {
    let b = Bundle::new();
    b.sh("echo one; echo two >&2; test -t 1", |c| {
        c["process"]["terminal"] = true.into();
    });
    assert_eq!(b.oci(&["run", "box"]).ok(), "one\ntwo\n");
    let run = format!(
        "{} --root {}/state run box",
        b.runtime().display(),
        b.dir().display()
    );
    let on_terminal = |command: &str| {
        let mut script = std::process::Command::new("script");
        script
            .args(["-qec", command, "/dev/null"])
            .current_dir(b.dir())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        let mut script = script.spawn().unwrap();
        // Open until the end: script(1) passes an end of input on, and the terminal may
        // echo that.
        let _stdin = script.stdin.take();
        let ran = script.wait_with_output().unwrap();
        String::from_utf8(ran.stdout).unwrap()
    };
    let said = on_terminal(&run);
    assert!(said.contains("one\r\ntwo\r\n"), "{said:?}");
    b.sh("sleep 60", |_| {});
    b.oci(&["run", "--detach", "box"]).ok();
    let exec = ["exec", "--tty", "box", "sh", "-c", "tty; echo one"];
    assert_eq!(b.oci(&exec).ok(), "/dev/pts/0\none\n");
    let said = on_terminal(&run.replace("run box", "exec -t box echo one"));
    assert!(said.contains("one\r\n"), "{said:?}");
    b.oci(&["delete", "--force", "box"]).ok();
}

/// One filesystem covers all directories that are masked, and each of them once.
#[test]
fn masked_directories_share_a_filesystem() {
    let b = Bundle::new();
    let script = "stat -c %d /a /b | uniq | wc -l; grep -c ' /a ' /proc/self/mountinfo; \
                  ls /a; touch /b/x; echo $?";
    b.sh(script, |c| {
        c["linux"]["maskedPaths"] = json!(["/a", "/b", "/a", "/nothing"]);
    });
    for dir in ["a", "b"] {
        std::fs::create_dir(b.dir().join("rootfs").join(dir)).unwrap();
        std::fs::write(b.dir().join("rootfs").join(dir).join("secret"), "s").unwrap();
    }
    let ran = b.oci(&["run", "box"]);
    assert!(ran.stderr.contains("Read-only file system"), "{ran:?}");
    assert_eq!(ran.ok(), "1\n1\n1\n");
}

/// Without a pid namespace the processes of a container outlive its first one.
#[test]
fn kill_reaches_what_a_first_process_has_left() {
    let b = Bundle::new();
    let script = "sleep 1000 & echo $! >/out/child; wait";
    let out = b.dir().join("out");
    std::fs::create_dir(&out).unwrap();
    b.sh(script, |c| {
        let namespaces = c["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|n| n["type"] != "pid");
        c["mounts"].as_array_mut().unwrap().push(
            json!({"destination": "/out", "type": "bind", "options": ["bind"], "source": out}),
        );
    });
    b.oci(&["run", "--detach", "box"]).ok();
    let state: Value = serde_json::from_str(&b.oci(&["state", "box"]).ok()).unwrap();
    let first = state["pid"].as_i64().unwrap() as i32;
    let lives = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.contains(") ") && !stat.contains(") Z ")
    };
    let child = || std::fs::read_to_string(out.join("child")).unwrap_or_default();
    until(30, "the script has said its child's pid", || {
        child().ends_with('\n')
    });
    let child: i32 = child().trim().parse().unwrap();
    let pid = nix::unistd::Pid::from_raw(first);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    until(30, "the first process has ended", || !lives(first));
    assert!(lives(child));
    b.oci(&["kill", "box", "KILL"]).ok();
    until(30, "its child has ended", || !lives(child));
    b.oci(&["kill", "box", "KILL"]).fails(1, "not running");
    b.oci(&["delete", "box"]).ok();
}

/// The container lives on: of what is killed in it, `events` tells at once.
#[test]
fn events_tell_that_a_process_was_killed_for_memory() {
    let b = Bundle::new();
    b.sh("sleep 1000", |c| {
        c["linux"]["resources"]["memory"] = json!({"limit": 32 << 20, "swap": 32 << 20});
    });
    b.oci(&["run", "--detach", "box"]).ok();
    let log = b.dir().join("events.log");
    let mut events = std::process::Command::new(env!("CARGO_BIN_EXE_carob-oci"))
        .arg("--root")
        .arg(b.dir().join("state"))
        .args(["events", "--interval", "1s", "box"])
        .stdout(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let wait_for = |text: &str, times: usize| {
        let said = || std::fs::read_to_string(&log).unwrap();
        let what = format!("{text} {times} times");
        until(60, &what, || said().matches(text).count() >= times);
    };
    wait_for("stats", 1);
    // runc's stats have no counts of memory.events, and a caller may look for the word.
    let stats = std::fs::read_to_string(&log).unwrap();
    assert!(!stats.contains("oom"), "{stats}");
    for times in 1..=8 {
        b.oci(&["exec", "box", "tail", "/dev/zero"]);
        wait_for(r#"{"type":"oom","id":"box"}"#, times);
    }
    b.oci(&["delete", "--force", "box"]).ok();
    assert!(events.wait().unwrap().success());
}

/// mount(8)'s X-mount.subdir, of a bind mount.
#[test]
fn a_directory_of_the_source_is_mounted() {
    let b = Bundle::new();
    let source = b.dir().join("source");
    std::fs::create_dir_all(source.join("there")).unwrap();
    std::fs::write(source.join("there/file"), "inside\n").unwrap();
    std::os::unix::fs::symlink("/etc", source.join("out")).unwrap();
    let mount = |c: &mut Value, subdir: &str| {
        let options = json!(["rbind", format!("X-mount.subdir={subdir}")]);
        c["mounts"].as_array_mut().unwrap().push(
            json!({"destination": "/part", "type": "bind", "source": source, "options": options}),
        );
    };
    b.sh("cat /part/file", |c| mount(c, "there"));
    assert_eq!(b.oci(&["run", "box"]).ok(), "inside\n");
    b.sh("ls /part; echo made >/part/file", |c| mount(c, "new/one"));
    assert_eq!(b.oci(&["run", "box"]).ok(), "");
    let made = std::fs::read_to_string(source.join("new/one/file"));
    assert_eq!(made.unwrap(), "made\n");
    b.sh("cat /part/passwd", |c| mount(c, "out"));
    b.oci(&["run", "box"]).fails(1, "leads out of it");
    for bad in ["", "..", "/there", "there/../..", "./there"] {
        b.sh("true", |c| mount(c, bad));
        b.oci(&["run", "box"]).fails(1, "X-mount.subdir=");
    }
    b.sh("true", |c| {
        let mounts = c["mounts"].as_array_mut().unwrap();
        mounts.push(json!({
            "destination": "/part", "type": "tmpfs", "source": "tmpfs",
            "options": ["X-mount.subdir=there"],
        }));
    });
    b.oci(&["run", "box"]).fails(1, "is for a bind mount");
}
