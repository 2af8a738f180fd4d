//! configMap, secret, downwardAPI and projected volumes as containers see them, while objects
//! change, while monitors die, and while a container fights.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::root::{Root, kill_9, pod, sh, slack, until};

const SLEEP: &str = "exec sleep 1000";

/// Where the record of an object is.
fn record(root: &Root, kind: &str, name: &str) -> PathBuf {
    root.dir()
        .join("data/objects")
        .join(kind)
        .join("default")
        .join(name)
}

/// Makes or changes an object as the core does: the record is replaced whole.
fn put(root: &Root, kind: &str, name: &str, data: &[(&str, &str)]) {
    static VERSION: AtomicU64 = AtomicU64::new(1);
    let entries = data.iter().map(|(key, text)| {
        let value = match kind {
            "Secret" => STANDARD.encode(text),
            _ => (*text).to_owned(),
        };
        ((*key).to_owned(), Value::from(value))
    });
    let object = json!({
        "version": 1,
        "kind": kind,
        "namespace": "default",
        "name": name,
        "uid": format!("uid-of-{name}"),
        "created": "2026-11-29T00:00:00Z",
        "resource_version": VERSION.fetch_add(1, Ordering::Relaxed),
        "manifest": {"data": entries.collect::<Map<_, _>>()},
    });
    let path = record(root, &format!("{}s", kind.to_lowercase()), name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let new = path.with_file_name(".new");
    std::fs::write(&new, object.to_string()).unwrap();
    std::fs::rename(new, path).unwrap();
}

fn mounts(list: Value) -> Value {
    json!({"volumeMounts": list})
}

fn mount(name: &str, path: &str) -> Value {
    json!({"name": name, "mountPath": path})
}

/// A Pod whose container `main` has each of these volumes at `/NAME`.
fn with(name: &str, spec: Value, volumes: Value) -> String {
    let list = volumes.as_array().unwrap().iter();
    let list: Vec<Value> = list
        .map(|v| {
            let name = v["name"].as_str().unwrap();
            mount(name, &format!("/{name}"))
        })
        .collect();
    let mut all = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [sh("main", SLEEP, mounts(list.into()))],
        "volumes": volumes,
    });
    if let Value::Object(spec) = spec {
        all.as_object_mut().unwrap().extend(spec);
    }
    pod(name, all)
}

/// Waits until the script says this; how long it took.
#[track_caller]
fn becomes(root: &Root, pod: &str, script: &str, want: &str) -> Duration {
    let begun = Instant::now();
    let is = until(|| {
        let is = root.carob(&["exec", pod, "--", "sh", "-c", script]).stdout;
        if is == want { Ok(()) } else { Err(is) }
    });
    is.unwrap_or_else(|is| panic!("{script} says {is:?}, not {want:?}"));
    begun.elapsed()
}

#[test]
fn files_have_their_bytes_modes_and_owners() {
    let root = Root::new();
    put(
        &root,
        "ConfigMap",
        "web",
        &[("a", "1"), ("b", "two\nlines")],
    );
    put(&root, "Secret", "keys", &[("k", "hidden"), ("l", "")]);
    let volumes = json!([
        {"name": "map", "configMap": {"name": "web"}},
        {"name": "some", "configMap": {"name": "web", "defaultUser": 33, "items": [
            {"key": "b", "path": "deep/er/b", "mode": 0o640},
            {"key": "a", "path": "a", "user": 44},
        ]}},
        {"name": "keys", "secret": {"secretName": "keys", "defaultMode": 0o400}},
        {"name": "info", "downwardAPI": {"items": [
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
            {"path": "memory", "resourceFieldRef": {
                "containerName": "main", "resource": "limits.memory", "divisor": "1Mi"}},
        ]}},
        {"name": "all", "projected": {"defaultMode": 0o444, "sources": [
            {"configMap": {"name": "web"}},
            {"secret": {"name": "keys", "items": [{"key": "k", "path": "a"}]}},
            {"configMap": {"name": "none", "optional": true}},
            {"downwardAPI": {"items": [
                {"path": "pod/name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        ]}},
    ]);
    let mut manifest: Value = serde_json::from_str(&with("p", json!({}), volumes)).unwrap();
    manifest["metadata"]["labels"] = json!({"app": "web", "tier": "1"});
    manifest["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "64Mi"}});
    root.apply(&manifest.to_string()).ok();
    for (script, want) in [
        ("cat /map/a /map/b", "1two\nlines"),
        (
            "ls -A /map | sed 's/^..20.*/SET/' | sort",
            "..data\nSET\na\nb\n",
        ),
        ("readlink /map/a", "..data/a\n"),
        (
            "stat -L -c '%a %u %g' /map/a /map /map/..data",
            "644 0 0\n755 0 0\n755 0 0\n",
        ),
        (
            "stat -L -c '%a %u %g' /some/deep/er/b /some/a /some/deep",
            "640 33 0\n644 44 0\n755 0 0\n",
        ),
        (
            "cat /some/deep/er/b; test -e /some/b || echo no",
            "two\nlinesno\n",
        ),
        (
            "stat -L -c '%a %s' /keys/k /keys/l; cat /keys/k",
            "400 6\n400 0\nhidden",
        ),
        (
            "cat /info/labels; echo; cat /info/memory",
            "app=\"web\"\ntier=\"1\"\n64",
        ),
        // The later source wins, and the directory is there.
        (
            "cat /all/a /all/pod/name; stat -L -c %a /all/a",
            "hiddenp444\n",
        ),
        // Memory, read-only, without devices and set-user-ID programs.
        (
            "grep -c '^tmpfs /\\(map\\|some\\|keys\\|info\\|all\\) tmpfs ro,nosuid,nodev' /proc/mounts",
            "5\n",
        ),
        (
            "echo x 2>&1 >/map/a; mkdir /map/x 2>&1; true",
            "sh: can't create /map/a: Read-only file system\nmkdir: can't create directory '/map/x': Read-only file system\n",
        ),
        // Nothing of another volume.
        ("ls /map/.. | grep -c info", "1\n"),
    ] {
        assert_eq!(root.sh("p", script), want, "{script}");
    }
    let described = root.carob(&["describe", "pod", "p"]).ok();
    assert!(!described.contains("hidden"), "{described}");
    for (name, kind) in [
        ("map", "ConfigMap (a volume populated by a ConfigMap)"),
        ("keys", "Secret (a volume populated by a Secret)"),
        (
            "info",
            "DownwardAPI (a volume populated by information about the pod)",
        ),
        (
            "all",
            "Projected (a volume that contains injected data from multiple sources)",
        ),
    ] {
        let volume = described.split(&format!("\n  {name}:\n")).nth(1).unwrap();
        let first = volume.lines().next().unwrap();
        assert!(
            first.trim().starts_with("Type:") && first.ends_with(kind),
            "{first}"
        );
    }
}

/// An object that does not change any more wakes nobody, and neither do others of its
/// namespace.
#[test]
fn immutable_objects_are_not_watched() {
    let root = Root::new();
    put(&root, "ConfigMap", "web", &[("a", "1")]);
    let path = record(&root, "configmaps", "web");
    let mut object: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    object["manifest"]["immutable"] = json!(true);
    std::fs::write(&path, object.to_string()).unwrap();
    let volumes = json!([{"name": "map", "configMap": {"name": "web"}}]);
    root.apply(&with("p", json!({}), volumes)).ok();
    let monitor = root.monitor_pid("p");
    let watched = || {
        let fds = std::fs::read_dir(format!("/proc/{monitor}/fd")).unwrap();
        let targets = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
        let dir = path.parent().unwrap();
        targets.filter(|at| at == dir).count()
    };
    assert_eq!(watched(), 0);
    assert_eq!(root.sh("p", "cat /map/a"), "1");
}

#[test]
fn the_group_of_the_pod_may_read() {
    let root = Root::new();
    put(&root, "Secret", "keys", &[("k", "hidden")]);
    let spec = json!({"securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 3000}});
    let volumes = json!([
        {"name": "keys", "secret": {"secretName": "keys", "defaultMode": 0o400, "items": [
            {"key": "k", "path": "d/k"}]}},
    ]);
    root.apply(&with("p", spec, volumes)).ok();
    let look = "cat /keys/d/k; echo; stat -L -c '%a %u %g' /keys/d/k /keys/d /keys";
    assert_eq!(
        root.sh("p", look),
        "hidden\n440 0 3000\n2755 0 3000\n2755 0 3000\n"
    );
    // As with a kubelet, of a mode that gives nothing to others, and without the group.
    let spec = json!({"securityContext": {"runAsUser": 1000}});
    let volumes = json!([{"name": "keys", "secret": {"secretName": "keys", "defaultMode": 0o400}},
        {"name": "own", "secret": {"secretName": "keys", "defaultMode": 0o400, "defaultUser": 1000}}]);
    root.apply(&with("q", spec, volumes)).ok();
    assert_eq!(
        root.sh("q", "cat /keys/k 2>/dev/null || cat /own/k"),
        "hidden"
    );
}

#[test]
fn changes_of_objects_are_seen_within_a_second() {
    let root = Root::new();
    put(&root, "ConfigMap", "web", &[("a", "1"), ("old", "x")]);
    let volumes = json!([
        {"name": "map", "configMap": {"name": "web"}},
        {"name": "later", "configMap": {"name": "later", "optional": true}},
    ]);
    root.apply(&with("p", json!({}), volumes)).ok();
    assert_eq!(root.sh("p", "cat /map/a; ls /later"), "1");
    for i in 2..7 {
        let now = i.to_string();
        put(&root, "ConfigMap", "web", &[("a", &now), ("new", "y")]);
        let took = becomes(&root, "p", "cat /map/a", &now);
        assert!(took < slack(Duration::from_secs(1)), "{took:?}");
    }
    assert_eq!(
        root.sh("p", "ls -A /map | sed 's/^..20.*/SET/' | sort"),
        "..data\nSET\na\nnew\n"
    );
    // Optional ones come and go.
    put(&root, "ConfigMap", "later", &[("f", "here")]);
    becomes(&root, "p", "cat /later/f", "here");
    std::fs::remove_file(record(&root, "configmaps", "later")).unwrap();
    becomes(&root, "p", "ls /later", "");
    // Others stay as they are, and the event says why.
    std::fs::remove_file(record(&root, "configmaps", "web")).unwrap();
    let gone = until(|| {
        let said = root.carob(&["describe", "pod", "p"]).ok();
        let is = said
            .contains("MountVolume.SetUp failed for volume \"map\" : configmap \"web\" not found")
            && said.contains("until it is there, the volume keeps the files that it has");
        if is { Ok(()) } else { Err(said) }
    });
    gone.unwrap();
    assert_eq!(root.sh("p", "cat /map/a"), "6");
    put(&root, "ConfigMap", "web", &[("a", "back")]);
    becomes(&root, "p", "cat /map/a", "back");
}

/// The usual file: its configuration beside the Pod. What is applied, edited and deleted with
/// the verbs is seen.
#[test]
fn a_file_of_objects_and_their_pod() {
    let root = Root::new();
    let volumes = json!([{"name": "all", "projected": {"sources": [
        {"configMap": {"name": "web"}},
        {"secret": {"name": "keys", "optional": true}},
    ]}}]);
    let web = |text: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: web}}\ndata: {{a: {text}}}\n---\n"
        )
    };
    let keys =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {k: hidden}\n---\n";
    let pod = with("p", json!({}), volumes);
    root.apply(&format!("{}{keys}{pod}", web("one"))).ok();
    assert_eq!(root.sh("p", "cat /all/a /all/k"), "onehidden");
    root.apply(&web("two")).ok();
    let took = becomes(&root, "p", "cat /all/a", "two");
    assert!(took < slack(Duration::from_secs(1)), "{took:?}");
    let patch = r#"{"data": {"b": "new"}}"#;
    root.carob(&["patch", "configmap", "web", "--type=merge", "-p", patch])
        .ok();
    becomes(&root, "p", "cat /all/a /all/b", "twonew");
    root.carob(&["delete", "secret", "keys"]).ok();
    becomes(&root, "p", "ls /all", "a\nb\n");
}

#[test]
fn changes_of_the_pod_are_seen() {
    let root = Root::new();
    let file = |path: &str, field: &str| json!({"path": path, "fieldRef": {"fieldPath": field}});
    let volumes = json!([{"name": "info", "downwardAPI": {"items": [
        file("labels", "metadata.labels"),
        file("note", "metadata.annotations['note']"),
        {"path": "cpu", "resourceFieldRef": {
            "containerName": "main", "resource": "limits.cpu", "divisor": "1m"}},
    ]}}]);
    let mut manifest: Value = serde_json::from_str(&with("p", json!({}), volumes)).unwrap();
    manifest["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "500m"}});
    root.apply(&manifest.to_string()).ok();
    assert_eq!(root.sh("p", "cat /info/labels /info/note /info/cpu"), "500");
    root.carob(&["label", "pod", "p", "a=b"]).ok();
    becomes(&root, "p", "cat /info/labels", "a=\"b\"");
    root.carob(&["annotate", "pod", "p", "note=one two"]).ok();
    becomes(&root, "p", "cat /info/note", "one two");
    manifest["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "250m"}});
    root.apply(&manifest.to_string()).ok();
    becomes(&root, "p", "cat /info/cpu", "250");
}

#[test]
fn a_pod_waits_for_its_object_and_starts_when_it_comes() {
    let root = Root::new();
    put(&root, "Secret", "keys", &[("other", "x")]);
    let volumes = json!([
        {"name": "map", "configMap": {"name": "web"}},
        {"name": "keys", "secret": {"secretName": "keys", "items": [{"key": "k", "path": "k"}]}},
    ]);
    let applied = root.apply(&with("p", json!({}), volumes));
    assert_ne!(applied.code, 0);
    let text = "MountVolume.SetUp failed for volume \"map\" : configmap \"web\" not found";
    assert!(applied.stderr.contains(text), "{applied:?}");
    let reason = ".status.containerStatuses[0].state.waiting.reason";
    assert_eq!(root.field("p", reason), "ContainerCreating");
    let why = root.carob(&["why", "p"]);
    assert!(why.stdout.contains(text), "{why:?}");
    assert!(why.stderr.contains("carob create configmap"), "{why:?}");
    put(&root, "ConfigMap", "web", &[("a", "1")]);
    let text = "volume \"keys\" : references non-existent secret key: k";
    let waits = until(|| {
        let said = root.carob(&["describe", "pod", "p"]).ok();
        if said.contains(text) {
            Ok(())
        } else {
            Err(said)
        }
    });
    waits.unwrap();
    put(&root, "Secret", "keys", &[("k", "now")]);
    root.becomes("p", ".status.phase", "Running");
    assert_eq!(root.sh("p", "cat /map/a /keys/k"), "1now");
}

#[test]
fn a_sub_path_keeps_what_it_has() {
    let root = Root::new();
    put(&root, "ConfigMap", "web", &[("a", "1")]);
    let list = mounts(json!([
        {"name": "map", "mountPath": "/map"},
        {"name": "map", "mountPath": "/etc/a.conf", "subPath": "a"},
    ]));
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [sh("main", SLEEP, list)],
        "volumes": [{"name": "map", "configMap": {"name": "web"}}],
    });
    root.apply(&pod("p", spec)).ok();
    assert_eq!(root.sh("p", "cat /etc/a.conf"), "1");
    put(&root, "ConfigMap", "web", &[("a", "2")]);
    becomes(&root, "p", "cat /map/a", "2");
    assert_eq!(
        root.sh(
            "p",
            "cat /etc/a.conf; echo x 2>/dev/null >/etc/a.conf || echo ro"
        ),
        "1ro\n"
    );
    // The next attempt has what there is now.
    root.carob(&["restart", "p"]).ok();
    becomes(&root, "p", "cat /etc/a.conf", "2");
}

/// Each reader opens a set once, and reads all files of it: they carry one number. A set that
/// goes meanwhile is one to be opened again.
#[test]
fn readers_see_whole_sets() {
    let root = Root::new();
    let keys: Vec<String> = (0..8).map(|i| format!("k{i}")).collect();
    let write = |number: u32| {
        let text = format!("{number}\n");
        let data: Vec<(&str, &str)> = keys.iter().map(|k| (k.as_str(), text.as_str())).collect();
        put(&root, "ConfigMap", "web", &data);
    };
    write(0);
    let script = "reader() {
  n=0
  while [ ! -e /out/stop ]; do
    cd -P /map/..data 2>/dev/null || continue
    all=
    for f in k0 k1 k2 k3 k4 k5 k6 k7; do
      x=; read x 2>/dev/null <$f || continue 2
      all=\"$all $x\"
    done
    case \"$all\" in
      \" $x $x $x $x $x $x $x $x\") n=$((n+1));;
      *) echo \"$all\" >>/out/half;;
    esac
  done
  echo $n >>/out/reads
}
i=0
while [ $i -lt 20 ]; do reader & i=$((i+1)); done
wait
exec sleep 1000";
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [sh("main", script, mounts(json!([mount("map", "/map"), mount("out", "/out")])))],
        "volumes": [{"name": "map", "configMap": {"name": "web"}}, {"name": "out", "emptyDir": {}}],
    });
    root.apply(&pod("p", spec)).ok();
    for number in 1..=200 {
        write(number);
        std::thread::sleep(Duration::from_millis(10));
    }
    becomes(&root, "p", "cat /map/k7", "200\n");
    root.sh("p", "touch /out/stop");
    becomes(&root, "p", "grep -c . /out/reads", "20\n");
    assert_eq!(root.sh("p", "cat /out/half 2>/dev/null; true"), "");
    let reads = root.sh("p", "cat /out/reads");
    let reads: u64 = reads.lines().map(|n| n.parse::<u64>().unwrap()).sum();
    // One for each update, also on an emulated processor.
    assert!(reads > 200, "{reads}");
    assert_eq!(root.sh("p", "ls -A /map | grep -c '^..20'"), "1\n");
}

/// A privileged container makes its mount writable and swaps all that it can while the monitor
/// writes: T2 and T8.
#[test]
fn a_container_that_swaps_links_changes_nothing_outside() {
    let root = Root::new();
    put(&root, "ConfigMap", "web", &[("a", "0"), ("d", "0")]);
    let canary = root.dir().join("canary");
    std::fs::create_dir(&canary).unwrap();
    for name in ["a", "d", "..data"] {
        std::fs::write(canary.join(name), "canary").unwrap();
    }
    let script = "mount -o remount,rw,bind /map
c=/host/canary
i=0
while [ ! -e /out/stop ]; do
  i=$((i+1))
  set -- /map/..20*
  case $((i % 8)) in
    0) rm -rf /map/..data; ln -s $CANARY /map/..data;;
    1) ln -s $CANARY /map/..data_tmp;;
    2) rm -rf /map/d; ln -s $CANARY/d /map/d;;
    3) rm -rf /map/a; mkdir /map/a; ln -s $CANARY /map/a/x;;
    4) [ -e \"$1\" ] && rm -rf \"$1\" && ln -s $CANARY \"$1\";;
    5) rm -f $1/a; ln -s $CANARY/a $1/a;;
    6) rm -rf /map/..data; mkdir -p /map/..data/x;;
    7) ln -s $CANARY /map/..2026_gone; rm -f $1/d; mkfifo $1/d;;
  esac 2>/dev/null
done
exec sleep 1000";
    let mut main = sh(
        "main",
        script,
        mounts(json!([mount("map", "/map"), mount("out", "/out")])),
    );
    main["securityContext"] = json!({"privileged": true});
    main["env"] = json!([{"name": "CANARY", "value": canary.to_str().unwrap()}]);
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [main, sh("other", SLEEP, mounts(json!([mount("map", "/map")])))],
        "volumes": [{"name": "map", "configMap": {"name": "web"}}, {"name": "out", "emptyDir": {}}],
    });
    root.apply(&pod("p", spec)).ok();
    let uid = root.uid("p");
    let pods = root.dir().join("run/pods").join(&uid);
    let before = entries(&pods);
    for number in 1..=150 {
        put(
            &root,
            "ConfigMap",
            "web",
            &[("a", &number.to_string()), ("d", &number.to_string())],
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    root.sh(
        "p",
        "touch /out/stop; mount | grep -q ' /map .*rw' || exit 1",
    );
    put(&root, "ConfigMap", "web", &[("a", "end"), ("d", "end")]);
    let other = ["exec", "p", "-c", "other", "--", "cat", "/map/a", "/map/d"];
    let is = until(|| match root.carob(&other) {
        said if said.stdout == "endend" => Ok(()),
        said => Err(said),
    });
    is.unwrap();
    for name in ["a", "d", "..data"] {
        let text = std::fs::read_to_string(canary.join(name)).unwrap();
        assert_eq!(text, "canary", "{name}");
    }
    assert_eq!(entries(&canary), ["..data", "a", "d"]);
    assert_eq!(entries(&pods), before);
}

fn entries(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = names
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_monitor_that_is_killed_while_it_writes_leaves_whole_sets() {
    let root = Root::new();
    put(&root, "ConfigMap", "web", &[("a", "0"), ("b", "0")]);
    let volumes = json!([{"name": "map", "configMap": {"name": "web"}}]);
    root.apply(&with("p", json!({}), volumes)).ok();
    for number in 1..=25_u32 {
        let now = number.to_string();
        let monitor = root.monitor_pid("p");
        put(&root, "ConfigMap", "web", &[("a", &now), ("b", &now)]);
        std::thread::sleep(Duration::from_micros(u64::from(number) * 40));
        kill_9(monitor);
        // Whatever it was at: the old set or the new one. The command starts a monitor, which
        // compares.
        let said = root.sh("p", "cd -P /map/..data; cat a; echo; cat b");
        let (a, b) = said.split_once('\n').unwrap();
        assert!(
            a == b && (a == now || a == (number - 1).to_string()),
            "{said}"
        );
        becomes(&root, "p", "cat /map/a /map/b", &format!("{now}{now}"));
    }
    put(&root, "ConfigMap", "web", &[("a", "end")]);
    becomes(&root, "p", "cat /map/a", "end");
    assert_eq!(
        root.sh("p", "ls -A /map | sed 's/^..20.*/SET/' | sort"),
        "..data\nSET\na\n"
    );
}

/// The bytes of a Secret are in the store of objects and in memory, and nowhere else.
#[test]
fn a_secret_is_where_it_belongs() {
    const CLEAR: &str = "only-for-volumes-9f2c";
    let root = Root::new();
    put(&root, "Secret", "keys", &[("k", CLEAR)]);
    let volumes = json!([{"name": "keys", "secret": {"secretName": "keys"}}]);
    root.apply(&with("p", json!({}), volumes)).ok();
    assert_eq!(root.sh("p", "cat /keys/k"), CLEAR);
    let monitor = root.monitor_pid("p");
    let uid = root.uid("p");
    for bytes in [CLEAR.to_owned(), STANDARD.encode(CLEAR)] {
        let mut found = Vec::new();
        search(root.dir(), bytes.as_bytes(), &mut found);
        found.retain(|at| *at != record(&root, "secrets", "keys"));
        let volume = root.dir().join(format!("run/pods/{uid}/projected/keys"));
        found.retain(|at| !at.starts_with(&volume));
        assert!(found.is_empty(), "{bytes}: {found:?}");
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            for file in ["environ", "cmdline"] {
                let text = std::fs::read(entry.path().join(file)).unwrap_or_default();
                let has = text.windows(bytes.len()).any(|w| w == bytes.as_bytes());
                assert!(!has, "{} {file}, monitor {monitor}", entry.path().display());
            }
        }
    }
    for verb in [["describe", "pod", "p"], ["get", "pods", "-oyaml"]] {
        let said = root.carob(&verb).ok();
        assert!(
            !said.contains(CLEAR) && !said.contains(&STANDARD.encode(CLEAR)),
            "{said}"
        );
    }
}

/// Regular files below a directory that hold these bytes.
fn search(dir: &Path, bytes: &[u8], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            search(&entry.path(), bytes, found);
        } else if kind.is_file() {
            let text = std::fs::read(entry.path()).unwrap_or_default();
            if text.windows(bytes.len()).any(|w| w == bytes) {
                found.push(entry.path());
            }
        }
    }
}
