//! A Pod container's bundle is what runs: carob-oci makes the same container of a copy.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::root::{IMAGE, Root, until};

/// What a container's first process and its cgroup look like from the host.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: BTreeMap<String, String>,
    limits: String,
    oom_score_adj: String,
    environment: Vec<String>,
    cwd: PathBuf,
    /// Without the root's own.
    mounts: Vec<String>,
    /// Those of the Pod by inode; of the others, whether they are the host's.
    namespaces: BTreeMap<String, String>,
    cgroups: BTreeMap<String, String>,
}

const STATUS: [&str; 12] = [
    "Umask",
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
];

const CGROUP_FILES: [&str; 12] = [
    "cpu.shares",
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "cpu.weight",
    "cpu.max",
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "memory.max",
    "memory.swap.max",
    "memory.oom.group",
    "pids.max",
    "devices.list",
];

fn seen(pid: i32) -> Seen {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let read = |name: &str| fs::read_to_string(proc.join(name)).unwrap();
    let status = read("status");
    let status = status.lines().filter_map(|l| l.split_once(':'));
    let status = status.filter(|(key, _)| STATUS.contains(key));
    let mut mounts: Vec<_> = read("mountinfo").lines().filter_map(mount).collect();
    mounts.sort();
    let mut environment: Vec<_> = read("environ").split('\0').map(str::to_owned).collect();
    environment.sort();
    let own = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
    let kinds = ["net", "uts", "ipc", "pid", "mnt", "cgroup", "user", "time"];
    let namespaces = kinds.map(|kind| {
        let link = fs::read_link(proc.join("ns").join(kind)).unwrap();
        let is = match kind {
            "net" | "uts" | "ipc" => link.to_str().unwrap().to_owned(),
            _ if link == own(kind) => "the host's".to_owned(),
            _ => "its own".to_owned(),
        };
        (kind.to_owned(), is)
    });
    Seen {
        status: status
            .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
            .collect(),
        limits: read("limits"),
        oom_score_adj: read("oom_score_adj"),
        environment,
        cwd: fs::read_link(proc.join("cwd")).unwrap(),
        mounts,
        namespaces: namespaces.into(),
        cgroups: cgroup_values(&read("cgroup")),
    }
}

/// Of a line of mountinfo, proc_pid_mountinfo(5), what does not differ from one making of
/// the same mount to the next.
fn mount(line: &str) -> Option<String> {
    let (before, after) = line.split_once(" - ").unwrap();
    let mut fields = before.split(' ').skip(3);
    let (mut root, point, options) = (fields.next()?, fields.next()?, fields.next()?);
    if point.starts_with("/sys/fs/cgroup/") {
        root = "its own";
    }
    let optional: Vec<_> = fields
        .map(|f| f.split(':').next().unwrap().to_owned())
        .collect();
    (point != "/").then(|| format!("{point} {root} {options} {optional:?} {after}"))
}

/// Where a mount is, of what [`mount`] made.
fn place(mount: &str) -> &str {
    mount.split(' ').next().unwrap()
}

fn cgroup_values(cgroups: &str) -> BTreeMap<String, String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut values = BTreeMap::new();
    for line in cgroups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (list, path) = (parts.next().unwrap(), parts.next().unwrap());
        let is_its = |mount: &&str| {
            let (_, after) = mount.split_once(" - ").unwrap();
            let mut words = after.split(' ');
            let (fstype, options) = (words.next().unwrap(), words.nth(1).unwrap());
            match list {
                "" => fstype == "cgroup2",
                _ => {
                    fstype == "cgroup"
                        && list.split(',').all(|c| options.split(',').any(|o| o == c))
                }
            }
        };
        let Some(mount) = mounts.lines().find(is_its) else {
            continue;
        };
        let dir = Path::new(mount.split(' ').nth(4).unwrap()).join(path.trim_start_matches('/'));
        for file in CGROUP_FILES {
            if let Ok(value) = fs::read_to_string(dir.join(file)) {
                values.insert(file.to_owned(), value);
            }
        }
    }
    values
}

/// A copy of the bundle that carob-oci runs. Its program waits, and its cgroup is
/// another: all else is as it was.
struct Twin {
    dir: PathBuf,
}

impl Twin {
    fn of(root: &Root, pod: &str, container: &str) -> (Twin, i32) {
        let pid = root.pid(pod, container);
        let bundles = root
            .dir()
            .join("run/pods")
            .join(root.uid(pod))
            .join("containers");
        let bundle = bundles.join(container).join("0");
        let twin = Twin {
            dir: root.dir().join("twins").join(format!("{pod}-{container}")),
        };
        fs::create_dir_all(&twin.dir).unwrap();
        let rootfs = twin.dir.join("rootfs");
        let copied = Command::new("cp")
            .args(["-a", "-x"])
            .arg(format!("/proc/{pid}/root/."))
            .arg(&rootfs)
            .status();
        assert!(copied.unwrap().success());
        let config = fs::read(bundle.join("config.json")).unwrap();
        let mut config: Value = serde_json::from_slice(&config).unwrap();
        config["process"]["args"] = json!(["/bin/busybox", "sleep", "1000"]);
        // Not below the Pod's, where nobody would remove what carob-oci makes above it.
        let tag = config["linux"]["cgroupsPath"].as_str().unwrap();
        let tag = tag.trim_start_matches('/').split('/').next().unwrap();
        let twins_cgroup = format!("/{tag}-{pod}-{container}");
        config["linux"]["cgroupsPath"] = json!(twins_cgroup);
        fs::write(twin.dir.join("config.json"), config.to_string()).unwrap();
        let ran = twin.oci(&[
            "run",
            "--detach",
            "--bundle",
            twin.dir.to_str().unwrap(),
            "twin",
        ]);
        assert!(ran.status.success(), "{ran:?}");
        let state = twin.oci(&["state", "twin"]);
        let state: Value = serde_json::from_slice(&state.stdout).unwrap();
        let pid = state["pid"].as_i64().unwrap();
        (twin, pid as i32)
    }

    fn oci(&self, args: &[&str]) -> std::process::Output {
        let log = self.dir.join("log");
        let run = Command::new(env!("CARGO_BIN_EXE_carob-oci"))
            .arg("--root")
            .arg(self.dir.join("run"))
            .arg("--log")
            .arg(&log)
            .args(args)
            .stdin(Stdio::null())
            // The container keeps what `run` is given.
            .stderr(Stdio::null())
            .stdout(match args[0] {
                "run" => Stdio::null(),
                _ => Stdio::piped(),
            })
            .output();
        let mut output = run.unwrap();
        output.stderr = fs::read(&log).unwrap_or_default();
        output
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        self.oci(&["delete", "--force", "twin"]);
    }
}

fn compare(root: &Root, pod: &str, container: &str) {
    let (_twin, pid) = Twin::of(root, pod, container);
    let (mut theirs, ours) = (seen(pid), seen(root.pid(pod, container)));
    // A Pod is in fewer hierarchies of cgroup v1 than other engines' containers.
    let places: Vec<_> = ours.mounts.iter().map(|m| place(m).to_owned()).collect();
    let known = |m: &String| {
        !place(m).starts_with("/sys/fs/cgroup/") || places.iter().any(|p| p == place(m))
    };
    theirs.mounts.retain(known);
    assert_eq!(theirs, ours, "{pod} {container}");
    assert!(!ours.cgroups.is_empty());
}

#[test]
fn carob_oci_makes_the_same_of_each_bundle_of_the_example() {
    let root = Root::new();
    let example =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/web.yaml"));
    // The init container stays until it has been compared.
    let said = "echo \"wrote the first page\"";
    let example = example.unwrap();
    assert!(example.contains(said));
    let waits = "until [ -e /www/go-on ]; do sleep 0.1; done";
    let waiting = example.replace(said, &format!("{said}; {waits}"));
    root.feed(&["apply", "--wait=false", "-f", "-"], &waiting)
        .ok();
    root.says("web", "first-page", "wrote the first page");
    compare(&root, "web", "first-page");
    root.carob(&[
        "exec",
        "web",
        "-c",
        "first-page",
        "--",
        "touch",
        "/www/go-on",
    ])
    .ok();
    root.becomes("web", ".status.phase", "Running");
    until(
        || match root.field("web", ".status.containerStatuses[*].ready") {
            ready if ready == "true true" => Ok(()),
            ready => Err(ready),
        },
    )
    .unwrap();
    compare(&root, "web", "server");
    compare(&root, "web", "refresh");
}

#[test]
fn carob_oci_makes_the_same_of_every_field() {
    let root = Root::new();
    let container = |name: &str, more: Value| {
        let mut c = json!({
            "name": name, "image": IMAGE, "imagePullPolicy": "Never",
            "command": ["sleep", "1000"],
        });
        c.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        c
    };
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "every"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"fsGroup": 2000, "supplementalGroups": [4000]},
            "volumes": [
                {"name": "disk", "emptyDir": {}},
                {"name": "memory", "emptyDir": {"medium": "Memory"}},
            ],
            "containers": [
                container("user", json!({
                    "securityContext": {
                        "runAsUser": 1000, "runAsGroup": 3000,
                        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
                    },
                    "resources": {
                        "requests": {"cpu": "50m"},
                        "limits": {"cpu": "250m", "memory": "64Mi"},
                    },
                    "volumeMounts": [
                        {"name": "disk", "mountPath": "/part", "subPath": "a/b"},
                        {"name": "memory", "mountPath": "/memory", "readOnly": true},
                    ],
                })),
                container("privileged", json!({"securityContext": {"privileged": true}})),
                container("unconfined", json!({
                    "securityContext": {"seccompProfile": {"type": "Unconfined"}},
                    "workingDir": "/made/for/it", "env": [{"name": "A", "value": "b c"}],
                    "volumeMounts": [{
                        "name": "disk", "mountPath": "/shared",
                        "mountPropagation": "HostToContainer",
                    }],
                })),
                container("added", json!({
                    "securityContext": {"capabilities": {"add": ["SYS_ADMIN"], "drop": ["CHOWN"]}},
                })),
            ],
        },
    });
    root.apply(&pod.to_string()).ok();
    for name in ["user", "privileged", "unconfined", "added"] {
        compare(&root, "every", name);
    }
    // With the host's namespaces.
    let host = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "host"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "hostNetwork": true, "hostPID": true, "hostIPC": true,
            "containers": [container("main", json!({}))],
        },
    });
    root.apply(&host.to_string()).ok();
    compare(&root, "host", "main");
}
