//! Every field of a config.json, wrong in every way: `create` says which field it
//! is, or the container is made and goes; nothing else happens, and nothing stays.
//!
//! The configuration to spoil has what this machine can give: each of [`options`]
//! is tried alone first, and one that is refused by its name is left out. What the
//! parser refuses, it is asked for directly, which takes a thousandth of the time:
//! `create` asks it before it does anything.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use carob::inside::oci::{self, Config};
use serde_json::{Value, json};

use super::bundle::Bundle;
use super::full_config::{base, options, with_user_namespace};

/// Most of a container's making and end is waiting for the kernel.
const WORKERS: usize = 12;

fn put(c: &mut Value, pointer: &str, value: Value) {
    let mut at = c;
    for key in pointer.split('/').skip(1) {
        at = &mut at[key];
    }
    *at = value;
}

/// Every field below `at`. Of a list, one entry of each shape.
fn fields(at: &Value, pointer: &str, all: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    match at {
        Value::Object(map) => {
            for (key, value) in map {
                let below = format!("{pointer}/{key}");
                all.push(below.clone());
                fields(value, &below, all);
            }
        }
        Value::Array(list) => {
            for (i, value) in list.iter().enumerate() {
                let shape: Vec<&String> = match value {
                    Value::Object(map) => map.keys().collect(),
                    _ => Vec::new(),
                };
                if seen.insert(shape) {
                    let below = format!("{pointer}/{i}");
                    all.push(below.clone());
                    fields(value, &below, all);
                }
            }
        }
        _ => {}
    }
}

/// `None`: the field is missing. Those of its own type may mean something.
fn wrong_values(now: &Value, name: &str) -> Vec<Option<Value>> {
    let mut wrong = vec![
        None,
        Some(Value::Null),
        Some(json!(true)),
        Some(json!([])),
        Some(json!({})),
        Some(json!([null])),
        Some(json!(1.5)),
        Some(json!(0)),
        Some(json!(-1)),
        Some(json!(u64::MAX)),
        Some(json!("")),
        Some(json!(format!("{name} word"))),
    ];
    if now.is_number() {
        wrong.extend([i64::MIN, i64::from(u32::MAX), i64::MAX].map(|n| Some(json!(n))));
    }
    if now.is_string() {
        wrong.extend(
            [
                format!("{name}\0"),
                format!("{name}\n"),
                format!("/{name}/nowhere"),
                format!("{name}/../.."),
                "x".repeat(70_000),
            ]
            .map(|text| Some(json!(text))),
        );
    }
    wrong
}

/// As an error has it: `linux.namespaces[0].type`.
fn path_of(pointer: &str) -> String {
    let mut path = String::new();
    for key in pointer.split('/').skip(1) {
        match key.parse::<usize>() {
            Ok(n) => path.push_str(&format!("[{n}]")),
            Err(_) if path.is_empty() => path.push_str(key),
            Err(_) => path.push_str(&format!(".{key}")),
        }
    }
    path
}

/// Whether an error names the field: its path, in one piece or several, with or
/// without the index in a list, or what it is in and the wrong value itself. A mount
/// goes by its place, a program by its name.
fn names(error: &str, pointer: &str, c: &Value) -> bool {
    let keys: Vec<&str> = pointer.split('/').skip(1).collect();
    let value = c.pointer(pointer).filter(|v| v.is_string());
    let value = value.is_some_and(|v| error.contains(&format!("{:?}", v.as_str().unwrap())));
    let mount = || {
        let at = c.pointer(&format!("/mounts/{}/destination", keys.get(1)?))?;
        // A relative one is taken from /, and of a long one the middle is left out.
        let at = Path::new("/").join(at.as_str()?).display().to_string();
        let begin: String = at.chars().take(200).collect();
        Some(error.contains(&format!("mount at {begin}")))
    };
    in_pieces(error, &keys)
        || value && in_pieces(error, &keys[..keys.len() - 1])
        || keys[0] == "mounts" && mount() == Some(true)
        || pointer.starts_with("/process/args") && error.contains("exec \"")
        || pointer.starts_with("/linux/sysctl/") && error.contains(&keys[2].replace('.', "/"))
        // What it was there for is what is wrong without it.
        || pointer.starts_with("/linux/namespaces") && error.contains(" namespace")
}

fn in_pieces(error: &str, keys: &[&str]) -> bool {
    (0..keys.len()).rev().any(|at| {
        let (first, rest) = keys.split_at(at);
        let is_index = rest[0].parse::<usize>().is_ok();
        let path = path_of(&format!("/{}", rest.join("/")));
        let there = error.contains(path.trim_start_matches('.')) || rest.len() == 1 && is_index;
        there && (first.is_empty() || in_pieces(error, first))
    })
}

fn parse(c: &Value) -> carob::Result<Config> {
    oci::parse(c.to_string().as_bytes())
}

struct Sweep<'a> {
    b: &'a Bundle,
    next: AtomicUsize,
}

impl Sweep<'_> {
    /// `create`, and `delete` if it was made. Returns the error there was.
    fn create(&self, c: &Value) -> Result<(), String> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        // Whatever is named after it, anywhere, is found.
        let id = format!("{}-{n}", self.b.name());
        let dir = self.b.dir().join(format!("bundle{n}"));
        std::fs::create_dir(&dir).unwrap();
        let mut c = c.clone();
        let own = c.pointer_mut("/linux/cgroupsPath");
        if let Some(own) = own.filter(|p| **p == format!("/{}", self.b.name())) {
            *own = format!("/{id}").into();
        }
        std::fs::write(dir.join("config.json"), c.to_string()).unwrap();
        let made = self.oci(&dir, &["create", &id]);
        let there = self.b.dir().join("state").join(&id).exists();
        assert_eq!(made.is_ok(), there, "the container's directory: {made:?}");
        if made.is_ok() {
            self.oci(&dir, &["delete", "--force", &id])?;
        }
        std::fs::remove_dir_all(&dir).unwrap();
        made
    }

    fn oci(&self, dir: &Path, args: &[&str]) -> Result<(), String> {
        let file = |name| std::fs::File::create(dir.join(name)).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_carob-oci"))
            .arg("--root")
            .arg(self.b.dir().join("state"))
            .args(args)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap();
        let mut waited = 0;
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if waited > 10_000 => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err("it hangs".into());
                }
                None => std::thread::sleep(Duration::from_millis(2)),
            }
            waited += 2;
        };
        let said = std::fs::read_to_string(dir.join("stderr")).unwrap();
        match status.code() {
            Some(0) => Ok(()),
            Some(1) => Err(said),
            _ => Err(format!("it ends with {status}: {said}")),
        }
    }
}

/// Whether that is an answer to a wrong `pointer`.
fn verdict(said: Result<(), String>, pointer: &str, c: &Value) -> Result<(), String> {
    const NEVER: [&str; 4] = ["it hangs", "it ends", "panicked", "left behind"];
    match said {
        Err(e) if !NEVER.iter().any(|n| e.contains(n)) && names(&e, pointer, c) => Ok(()),
        other => other,
    }
}

fn sweep(s: &Sweep, base: &Value, chosen: impl Fn(&str) -> bool) -> Vec<String> {
    let mut all = Vec::new();
    fields(base, "", &mut all);
    all.retain(|p| chosen(p));
    let (mut faults, mut cases) = (Vec::new(), Vec::new());
    for pointer in &all {
        let now = base.pointer(pointer).unwrap();
        // What reads the same is the same case.
        let mut read = vec![serde_json::to_value(parse(base).unwrap()).unwrap()];
        for wrong in wrong_values(now, s.b.name()) {
            let mut c = base.clone();
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            match (wrong.clone(), c.pointer_mut(parent).unwrap()) {
                (Some(value), at) => match name.parse::<usize>() {
                    Ok(n) if at.is_array() => at[n] = value,
                    _ => at[name] = value,
                },
                (None, Value::Object(map)) => drop(map.remove(name)),
                (None, Value::Array(list)) => drop(list.remove(name.parse().unwrap())),
                _ => unreachable!(),
            }
            let what = match &wrong {
                None => "missing".to_owned(),
                Some(v) => v.to_string().chars().take(60).collect(),
            };
            match parse(&c).map(|c| serde_json::to_value(c).unwrap()) {
                Err(e) if names(&e.to_string(), pointer, &c) => {}
                Err(e) => faults.push(format!("{pointer} = {what}: {e}")),
                Ok(same) if read.contains(&same) => {}
                Ok(new) => {
                    read.push(new);
                    cases.push((pointer.clone(), what, c));
                }
            }
        }
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut faults = Vec::new();
        while let Some((pointer, what, c)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(e) = verdict(s.create(c), pointer, c) {
                faults.push(format!("{pointer} = {what}: {e}"));
            }
        }
        faults
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        for w in workers {
            faults.extend(w.join().unwrap());
        }
    });
    println!(
        "{} fields, {} that reached `create`",
        all.len(),
        cases.len()
    );
    faults
}

#[test]
fn every_field_wrong_in_every_way() {
    let b = Bundle::new();
    let s = Sweep {
        b: &b,
        next: AtomicUsize::new(0),
    };
    let bare = base(&b);
    s.create(&bare).unwrap();
    let mut full = bare.clone();
    let mut faults = Vec::new();
    for (pointer, value) in options() {
        let mut c = bare.clone();
        put(&mut c, pointer, value.clone());
        match s.create(&c) {
            Ok(()) => put(&mut full, pointer, value),
            Err(e) => match verdict(Err(e), pointer, &c) {
                Ok(()) => println!("this machine has no {pointer}"),
                Err(e) => faults.push(format!("{pointer} alone: {e}")),
            },
        }
    }
    s.create(&full).unwrap();
    faults.extend(sweep(&s, &full, |_| true));
    let mut mapped = bare;
    with_user_namespace(&mut mapped);
    s.create(&mapped).unwrap();
    faults.extend(sweep(&s, &mapped, |p| {
        p.contains("Mappings") || p.contains("timeOffsets") || p.contains("namespaces")
    }));
    // One case had its cgroup below another, which is not the runtime's to remove.
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _ = std::fs::remove_dir(hierarchy.path().join(b.name()));
    }
    let _ = std::fs::remove_dir(Path::new("/sys/fs/cgroup").join(b.name()));
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
    assert_eq!(processes(b.dir()), Vec::<PathBuf>::new());
}

type Change = fn(&mut Value);

/// What is well formed and cannot be all together, and what the error begins with.
const CONTRADICTIONS: [(&str, Change); 39] = [
    ("process.terminal: ", |c| {
        c["process"]["terminal"] = json!(true)
    }),
    ("hostname: ", |c| {
        without(c, "uts");
        c["hostname"] = json!("host");
    }),
    ("domainname: ", |c| {
        without(c, "uts");
        c["domainname"] = json!("domain");
    }),
    ("linux.uidMappings: ", |c| {
        c["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
    }),
    ("linux.gidMappings: ", |c| {
        c["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
    }),
    ("linux.uidMappings: ", |c| with(c, json!({"type": "user"}))),
    ("linux.gidMappings: ", |c| {
        with(c, json!({"type": "user"}));
        c["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
    }),
    ("linux.uidMappings: ", |c| {
        with_user_namespace(c);
        let line = json!({"containerID": 5, "hostID": 5, "size": 9});
        c["linux"]["uidMappings"].as_array_mut().unwrap().push(line);
    }),
    ("linux.namespaces[6]: type: ", |c| {
        with(c, json!({"type": "pid"}))
    }),
    ("linux.namespaces[5]: type: ", |c| {
        without(c, "network");
        with(c, json!({"type": "pid", "path": "/proc/self/ns/pid"}));
    }),
    ("linux.namespaces[5]: path: ", |c| {
        without(c, "network");
        with(c, json!({"type": "network", "path": "proc/self/ns/net"}));
    }),
    ("linux.namespaces: /proc/self/ns/ipc: ", |c| {
        without(c, "network");
        with(c, json!({"type": "network", "path": "/proc/self/ns/ipc"}));
    }),
    ("linux.namespaces: /proc/self/exe: ", |c| {
        without(c, "network");
        with(c, json!({"type": "network", "path": "/proc/self/exe"}));
    }),
    ("linux.timeOffsets: ", |c| {
        c["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1}});
    }),
    ("linux.sysctl: net.ipv4.ip_forward: ", |c| {
        without(c, "network");
        c["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    }),
    ("linux.sysctl: kernel.shmmni: ", |c| {
        without(c, "ipc");
        c["linux"]["sysctl"] = json!({"kernel.shmmni": "1"});
    }),
    ("linux.sysctl: kernel.hostname: ", |c| {
        c["linux"]["sysctl"] = json!({"kernel.hostname": "host"});
    }),
    ("linux.sysctl: kernel.domainname: ", |c| {
        c["domainname"] = json!("one");
        c["linux"]["sysctl"] = json!({"kernel.domainname": "another"});
    }),
    ("linux.sysctl: kernel.domainname: ", |c| {
        without(c, "uts");
        c["linux"]["sysctl"] = json!({"kernel.domainname": "domain"});
    }),
    ("linux.sysctl: vm.swappiness: ", |c| {
        c["linux"]["sysctl"] = json!({"vm.swappiness": "1"});
    }),
    ("linux.netDevices: ", |c| {
        without(c, "network");
        c["linux"]["netDevices"] = json!({"lo": {}});
    }),
    ("process.rlimits[1].type: ", |c| {
        let limit = json!({"type": "RLIMIT_CORE", "hard": 1, "soft": 1});
        c["process"]["rlimits"] = json!([limit, limit]);
    }),
    ("process.rlimits[0].soft: ", |c| {
        c["process"]["rlimits"] = json!([{"type": "RLIMIT_CORE", "hard": 1, "soft": 2}]);
    }),
    ("process.scheduler.priority: ", |c| {
        c["process"]["scheduler"] = json!({"policy": "SCHED_FIFO"});
    }),
    ("process.scheduler.priority: ", |c| {
        c["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", "priority": 1});
    }),
    ("process.scheduler.runtime: ", |c| {
        c["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", "runtime": 1});
    }),
    ("process.scheduler: ", |c| {
        c["process"]["scheduler"] =
            json!({"policy": "SCHED_DEADLINE", "runtime": 9, "deadline": 1});
    }),
    ("linux.resources.memory.swap: ", |c| {
        c["linux"]["resources"]["memory"] = json!({"limit": 99_999_999, "swap": 9_999_999});
    }),
    ("linux.resources.cpu.burst: ", |c| {
        c["linux"]["resources"]["cpu"] = json!({"quota": 10_000, "burst": 20_000});
    }),
    ("linux.memoryPolicy: nodes: ", |c| {
        c["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND"});
    }),
    ("linux.seccomp.listenerPath: ", |c| {
        c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
            [{"names": ["acct"], "action": "SCMP_ACT_NOTIFY"}]});
    }),
    ("linux.seccomp.syscalls[0].errnoRet: ", |c| {
        c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
            [{"names": ["acct"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1}]});
    }),
    ("mounts[5]: gidMappings: ", |c| {
        c["mounts"][5]["uidMappings"] = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
    }),
    ("mounts[5]: options: idmap ", |c| {
        c["mounts"][5]["options"] = json!(["bind", "idmap"])
    }),
    ("mounts[5]: options: \"src-nofollow\": not known", |c| {
        c["mounts"][5]["options"] = json!(["bind", "src-nofollow"])
    }),
    ("mounts[5]: options: \"idmap=uids=0-1-9\": not known", |c| {
        c["mounts"][5]["options"] = json!(["rbind", "ro", "idmap=uids=0-1-9"])
    }),
    ("mounts[4]: options: \"copy-symlink\": not known", |c| {
        c["mounts"][4]["options"] = json!(["ro", "copy-symlink"])
    }),
    ("mounts[0]: options: tmpcopyup ", |c| {
        c["mounts"][0]["options"] = json!(["tmpcopyup"])
    }),
    ("vm: ", |c| {
        c.as_object_mut().unwrap().remove("linux");
        c["vm"] = json!({"kernel": {"path": "/vmlinuz"}});
    }),
];

fn with(c: &mut Value, namespace: Value) {
    let kinds = c["linux"]["namespaces"].as_array_mut().unwrap();
    kinds.push(namespace);
}

fn without(c: &mut Value, kind: &str) {
    let kinds = c["linux"]["namespaces"].as_array_mut().unwrap();
    kinds.retain(|n| n["type"] != kind);
}

#[test]
fn what_contradicts_itself() {
    let b = Bundle::new();
    let s = Sweep {
        b: &b,
        next: AtomicUsize::new(0),
    };
    let mut faults = Vec::new();
    for (begins, change) in CONTRADICTIONS {
        let mut c = base(&b);
        change(&mut c);
        match s.create(&c) {
            Err(e) if e.starts_with(&format!("carob-oci: {begins}")) => {}
            other => faults.push(format!("{begins}: {other:?}")),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What still runs with this directory in its command line: a container's first
/// process has its maker's until its program runs.
fn processes(dir: &Path) -> Vec<PathBuf> {
    let dir = dir.to_str().unwrap();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.map(|e| e.path())
        .filter(|p| {
            std::fs::read(p.join("cmdline"))
                .is_ok_and(|c| String::from_utf8_lossy(&c).contains(dir))
        })
        .collect()
}
