//! Volumes as containers see them, and what must not be seen through them.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use serde_json::{Value, json};

use crate::root::{IMAGE, Root, sh};

/// A Pod of two sleeping containers, `main` and `other`, with these mounts and
/// these volumes.
fn pod(spec: &str, main: &str, other: &str, volumes: &str) -> String {
    let container = |name: &str, mounts: &str| {
        format!(
            "  - name: {name}\n    image: {IMAGE}\n    imagePullPolicy: Never\n    \
             command: [sleep, '1000']\n    volumeMounts: [{mounts}]\n"
        )
    };
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: vol}}\nspec:\n  terminationGracePeriodSeconds: 0\n{spec}  \
         containers:\n{}{}  volumes:\n{volumes}",
        container("main", main),
        container("other", other)
    )
}

fn other(root: &Root, script: &str) -> String {
    root.carob(&["exec", "vol", "-c", "other", "--", "sh", "-c", script])
        .ok()
}

#[test]
fn empty_dirs_are_shared() {
    let root = Root::new();
    let mounts = "{name: disk, mountPath: /a/b/disk}, {name: mem, mountPath: /mem}";
    let ro = "{name: disk, mountPath: /disk, readOnly: true}, {name: mem, mountPath: /mem}";
    root.apply(&pod(
        "",
        mounts,
        ro,
        "  - {name: disk, emptyDir: {}}\n  - {name: mem, emptyDir: {medium: Memory, sizeLimit: 1Mi}}\n",
    ))
    .ok();
    root.sh("vol", "echo one >/a/b/disk/f; echo two >/mem/f");
    assert_eq!(other(&root, "cat /disk/f /mem/f"), "one\ntwo\n");
    assert_eq!(root.sh("vol", "stat -c %a /a/b/disk /mem"), "777\n777\n");
    let said = other(&root, "(echo x >/disk/f) 2>&1; true");
    assert!(said.contains("Read-only file system"), "{said}");
    // One page of the 1 MiB is taken by f.
    root.sh(
        "vol",
        "head -c 2000000 /dev/zero >/mem/big 2>/dev/null; true",
    );
    assert_eq!(root.sh("vol", "stat -c %s /mem/big"), "1044480\n");
    assert_eq!(
        root.sh(
            "vol",
            "stat -f -c %T /mem; grep -c ' /mem tmpfs' /proc/mounts"
        ),
        "tmpfs\n1\n"
    );
}

#[test]
fn fs_group_and_supplementary_groups() {
    let root = Root::new();
    let spec = "  securityContext: {runAsUser: 1234, runAsGroup: 2345, fsGroup: 3456, supplementalGroups: [4567]}\n";
    let mounts = "{name: disk, mountPath: /disk}, {name: mem, mountPath: /mem}";
    root.apply(&pod(
        spec,
        mounts,
        mounts,
        "  - {name: disk, emptyDir: {}}\n  - {name: mem, emptyDir: {medium: Memory}}\n",
    ))
    .ok();
    let id = root.sh("vol", "id -u; id -g; id -G");
    let mut lines = id.lines();
    assert_eq!((lines.next(), lines.next()), (Some("1234"), Some("2345")));
    let mut groups: Vec<&str> = lines.next().unwrap().split(' ').collect();
    groups.sort_unstable();
    assert_eq!(groups, ["2345", "3456", "4567"]);
    assert_eq!(
        root.sh(
            "vol",
            "touch /disk/f /mem/f; stat -c '%u %g' /disk/f /mem/f; stat -c '%g %a' /disk /mem"
        ),
        "1234 3456\n1234 3456\n3456 2777\n3456 2777\n"
    );
}

/// An fsGroup may do all in it, whatever the mode.
#[test]
fn the_mode_of_an_empty_dir() {
    let root = Root::new();
    let volumes = "  - {name: disk, emptyDir: {mode: 0750}}\n  - {name: mem, emptyDir: {medium: Memory, mode: 01777}}\n";
    let mounts = "{name: disk, mountPath: /disk}, {name: mem, mountPath: /mem}";
    root.apply(&pod("", mounts, "", volumes)).ok();
    assert_eq!(root.sh("vol", "stat -c %a /disk /mem"), "750\n1777\n");
    root.carob(&["delete", "pod", "vol"]).ok();
    let spec = "  securityContext: {runAsUser: 1234, fsGroup: 3456}\n";
    root.apply(&pod(spec, mounts, "", volumes)).ok();
    let script = "stat -c '%g %a' /disk /mem; touch /disk/f";
    assert_eq!(root.sh("vol", script), "3456 2770\n3456 3777\n");
}

/// As a kubelet's reason and message. A hostile container moves directories about, links to
/// elsewhere and goes deep meanwhile.
#[test]
fn a_pod_that_exceeds_a_size_limit_is_evicted() {
    let root = Root::new();
    let limit = |size: &str| format!("  - {{name: v, emptyDir: {{sizeLimit: {size}}}}}\n");
    let mounts = "{name: v, mountPath: /v}";
    root.apply(&pod("", mounts, mounts, &limit("2Mi"))).ok();
    let hostile = "cd /v; mkdir -p a/b c; ln -s / root; ln -s .. up
        (while true; do mv a c/a; mv c/a a; done) >/dev/null 2>&1 &
        head -c 1048576 /dev/urandom >f; for i in 1 2 3 4; do ln f g$i; done
        truncate -s 1G sparse";
    root.sh("vol", hostile);
    let field = |path: &str| root.field("vol", path);
    // Where it takes its time the eviction ends it.
    let write = "head -c 3145728 /dev/urandom >/v/a-large-one";
    root.carob(&["exec", "vol", "--", "sh", "-c", write]);
    root.becomes("vol", ".status.phase", "Failed");
    assert_eq!(field(".status.reason"), "Evicted");
    let message = field(".status.message");
    assert_eq!(
        message.trim(),
        "Usage of EmptyDir volume \"v\" exceeds the limit \"2Mi\"."
    );
    let said = root.carob(&["events", "--for", "pod/vol"]).ok();
    assert!(said.contains("Evicted"), "{said}");
}

#[test]
fn mounts_with_options() {
    // Debian 13 mounts /tmp with nodev, which would be every mount's.
    let root = Root::on_disk();
    root.load_image();
    let volumes = "  - {name: v, emptyDir: {}}\n";
    let all = "{name: v, mountPath: /v, bindMountOptions: [noexec, nosuid, nodev]}";
    let none = "{name: v, mountPath: /v}";
    root.apply(&pod("", all, none, volumes)).ok();
    let copy = "cp /bin/busybox /v/id; chmod 4755 /v/id; mknod /v/null c 1 3; ";
    let said = root.sh("vol", &format!("{copy} /v/id 2>&1; cat /v/null 2>&1; true"));
    let denied: Vec<&str> = said.lines().collect();
    assert_eq!(denied.len(), 2, "{said}");
    assert!(
        denied.iter().all(|l| l.ends_with("Permission denied")),
        "{said}"
    );
    let options = "grep ' /v ' /proc/mounts | cut -d' ' -f4 | tr , '\\n' | grep -c '^no[esd][xue]'";
    assert_eq!(root.sh("vol", options), "3\n");
    assert_eq!(other(&root, "/v/id -u; cat /v/null"), "0\n");
}

#[test]
fn host_paths() {
    let root = Root::new();
    let host = root.dir().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), "from the host\n").unwrap();
    let h = host.display();
    root.apply(&pod(
        "",
        "{name: dir, mountPath: /host}, {name: file, mountPath: /etc/one}",
        "{name: new, mountPath: /new}, {name: made, mountPath: /made}",
        &format!(
            "  - {{name: dir, hostPath: {{path: {h}, type: Directory}}}}\n  \
             - {{name: file, hostPath: {{path: {h}/file, type: File}}}}\n  \
             - {{name: new, hostPath: {{path: {h}/new, type: DirectoryOrCreate}}}}\n  \
             - {{name: made, hostPath: {{path: {h}/made, type: FileOrCreate}}}}\n"
        ),
    ))
    .ok();
    assert_eq!(
        root.sh("vol", "cat /host/file /etc/one"),
        "from the host\nfrom the host\n"
    );
    root.sh("vol", "echo back >/host/back");
    assert_eq!(
        std::fs::read_to_string(host.join("back")).unwrap(),
        "back\n"
    );
    other(&root, "echo a >/new/a; echo b >/made");
    let made = std::fs::metadata(host.join("made")).unwrap();
    assert_eq!((made.permissions().mode() & 0o7777, made.uid()), (0o644, 0));
    let new = std::fs::metadata(host.join("new")).unwrap();
    assert_eq!(new.permissions().mode() & 0o7777, 0o755);
    root.carob(&["delete", "pod", "vol"]).ok();
    assert_eq!(
        std::fs::read_to_string(host.join("file")).unwrap(),
        "from the host\n",
        "a hostPath is not the Pod's to delete"
    );
    assert_eq!(std::fs::read_to_string(host.join("new/a")).unwrap(), "a\n");
}

/// As monitoring agents have `/` and `/run`: below is the mount namespace that the root
/// has pinned. What is mounted elsewhere below is there all the same.
#[test]
fn a_host_path_above_the_root_itself() {
    let root = Root::new();
    let h = root.dir().display();
    root.apply(&pod(
        "",
        "{name: dir, mountPath: /host, mountPropagation: HostToContainer}",
        "{name: dir, mountPath: /host, subPath: run, readOnly: true, recursiveReadOnly: Enabled}",
        &format!("  - {{name: dir, hostPath: {{path: {h}, type: Directory}}}}\n"),
    ))
    .ok();
    let uid = root.uid("vol");
    let script = format!("cat /host/run/pods/{uid}/shared/etc/hostname");
    assert_eq!(root.sh("vol", &script), "vol\n");
    let pinned = "grep -c 'nsfs.*mnt:\\|mnt:.*nsfs' /proc/self/mountinfo || true";
    assert_eq!(root.sh("vol", pinned), "0\n");
    other(
        &root,
        &format!("grep -q vol /host/pods/{uid}/shared/etc/hostname"),
    );
}

#[test]
fn sub_paths_stay_inside_their_volume() {
    let root = Root::new();
    let host = root.dir().join("host");
    std::fs::create_dir_all(host.join("in/deep")).unwrap();
    std::fs::write(host.join("in/deep/f"), "deep\n").unwrap();
    std::fs::write(root.dir().join("secret"), "secret\n").unwrap();
    symlink("in/deep", host.join("inner")).unwrap();
    let volume = format!("  - {{name: v, hostPath: {{path: {}}}}}\n", host.display());
    root.apply(&pod(
        "",
        "{name: v, mountPath: /deep, subPath: in/deep}, {name: v, mountPath: /file, subPath: in/deep/f}",
        "{name: v, mountPath: /inner, subPath: inner}, {name: v, mountPath: /new, subPath: made/by/it}",
        &volume,
    ))
    .ok();
    assert_eq!(root.sh("vol", "cat /deep/f /file"), "deep\ndeep\n");
    assert_eq!(other(&root, "cat /inner/f; touch /new/x"), "deep\n");
    assert!(host.join("made/by/it/x").exists());
    root.carob(&["delete", "pod", "vol"]).ok();

    // Ways out: a link to above by a relative and by an absolute path, a link to
    // a file. A path with dots is refused with the manifest.
    symlink("../secret", host.join("file-out")).unwrap();
    symlink("..", host.join("up")).unwrap();
    symlink(root.dir(), host.join("absolute")).unwrap();
    for sub in ["file-out", "up", "absolute", "absolute/run", "up/secret"] {
        let failed = root.apply(&pod(
            "",
            &format!("{{name: v, mountPath: /out, subPath: {sub}}}"),
            "",
            &volume,
        ));
        // The alternative to a refusal is a path inside: that made no harm.
        if failed.code == 0 {
            let seen = root.sh("vol", "ls -A /out; cat /out 2>/dev/null; true");
            panic!("subPath {sub} was mounted: {seen}");
        }
        failed.fails(7, "subPath");
        root.carob(&["delete", "pod", "vol"]).ok();
    }
    root.apply(&pod(
        "",
        "{name: v, mountPath: /out, subPath: ../secret}",
        "",
        &volume,
    ))
    .fails(3, "subPath");
}

#[test]
fn a_sub_path_expr_that_cannot_be_expanded_mounts_nothing() {
    let root = Root::new();
    let host = root.dir().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("secret"), "of another tenant\n").unwrap();
    let reason = ".status.containerStatuses[0].state.waiting.reason";
    for (env, expr, why) in [
        ("{name: T, value: ''}", "$(T)", "missing value for T"),
        ("{name: T, value: ''}", "$(T)$(U)", "missing value for T, U"),
        ("{name: T, value: x}", "a/$(NOPE)", "missing value for NOPE"),
        (
            "{name: T, valueFrom: {fieldRef: {fieldPath: \"metadata.annotations['t']\"}}}",
            "$(T)",
            "missing value for T",
        ),
        ("{name: T, value: .}", "$(T)", "names the whole volume"),
        ("{name: T, value: ./}", "$(T)/.", "names the whole volume"),
        ("{name: T, value: ..}", "$(T)", "without `..`"),
        ("{name: T, value: /etc}", "$(T)", "must be a relative path"),
    ] {
        let manifest = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: vol}}\nspec:\n  \
             terminationGracePeriodSeconds: 0\n  containers:\n  - name: main\n    image: {IMAGE}\n    \
             imagePullPolicy: Never\n    command: [sleep, '1000']\n    env: [{env}]\n    \
             volumeMounts: [{{name: v, mountPath: /x, subPathExpr: '{expr}'}}]\n  \
             volumes: [{{name: v, hostPath: {{path: {}}}}}]\n",
            host.display()
        );
        root.apply(&manifest).fails(7, why);
        assert_eq!(root.field("vol", reason), "CreateContainerConfigError");
        root.carob(&["delete", "pod", "vol"]).ok();
    }
    let made: Vec<_> = std::fs::read_dir(&host).unwrap().collect();
    assert_eq!(made.len(), 1, "nothing is made in the volume: {made:?}");
}

/// The order of volumes is not that of their mounts, and the Pod's own files lie above
/// them, as a kubelet's do.
#[test]
fn relative_places_are_below_the_root() {
    let root = Root::new();
    let volumes = "  - {name: v, emptyDir: {}}\n  - {name: tmp, emptyDir: {}}\n";
    let mounts = "{name: v, mountPath: data/x}, {name: tmp, mountPath: ./tmp/}";
    let manifest = pod("", mounts, "{name: v, mountPath: v}", volumes);
    let message = "    terminationMessagePath: tmp/m\n    volumeMounts";
    root.apply(&manifest.replacen("    volumeMounts", message, 1))
        .ok();
    let points = "cut -d ' ' -f 5 /proc/self/mountinfo | grep -E '^/(data|tmp)' | tr '\\n' ' '";
    assert_eq!(root.sh("vol", points), "/tmp /tmp/m /data/x ");
    the_last_words_are_its_message(&root);
}

/// With terminationMessagePath /tmp/m.
fn the_last_words_are_its_message(root: &Root) {
    let main = root.pid("vol", "main");
    root.sh("vol", "echo the last words >/tmp/m");
    crate::root::kill_9(main);
    root.becomes(
        "vol",
        ".status.containerStatuses[0].lastState.terminated.message",
        "the last words\n",
    );
}

#[test]
fn mounts_are_made_by_their_depth() {
    let root = Root::new();
    let mounts = "{name: deep, mountPath: /v/a/b}, {name: top, mountPath: /v}, {name: etc, mountPath: /etc}, \
                  {name: tmp, mountPath: /tmp}, {name: mid, mountPath: /v/a/}";
    let manifest = pod(
        "",
        mounts,
        "{name: etc, mountPath: //etc/./hosts, subPath: mine}",
        "  - {name: top, emptyDir: {}}\n  - {name: mid, emptyDir: {}}\n  - {name: deep, emptyDir: {}}\n  \
         - {name: etc, emptyDir: {}}\n  - {name: tmp, emptyDir: {}}\n",
    );
    let message = "    terminationMessagePath: /tmp/m\n    volumeMounts";
    root.apply(&manifest.replacen("    volumeMounts", message, 1))
        .ok();
    let points = "cut -d ' ' -f 5 /proc/self/mountinfo | grep -E '^/(v|etc|tmp)' | tr '\\n' ' '";
    assert_eq!(
        root.sh("vol", points),
        "/v /etc /tmp /etc/hosts /etc/hostname /etc/resolv.conf /tmp/m /v/a /v/a/b "
    );
    let seen = "ls -A /v /v/a /tmp | tr '\\n' ' '; grep -c vol /etc/hosts /etc/hostname";
    assert_eq!(
        root.sh("vol", seen),
        "/tmp: m  /v: a  /v/a: b /etc/hosts:1\n/etc/hostname:1\n"
    );
    // A volume at the very place of one of the Pod's files has it to itself.
    assert_eq!(
        other(&root, "ls -A /etc/hosts; stat -c %F /etc/hosts"),
        "directory\n"
    );
    the_last_words_are_its_message(&root);
}

/// As a kubelet sizes it: by the Pod's memory limit, and less where sizeLimit says so.
#[test]
fn a_memory_volume_is_no_larger_than_the_pods_memory() {
    let root = Root::new();
    let with = |name: &str, limits: Value, size: Value| {
        let mut volume = json!({"medium": "Memory"});
        volume["sizeLimit"] = size;
        let container = json!({
            "resources": {"limits": limits},
            "volumeMounts": [{"name": "m", "mountPath": "/m"}],
        });
        let spec = json!({
            "terminationGracePeriodSeconds": 0,
            "containers": [sh("main", "exec sleep 1000", container)],
            "volumes": [{"name": "m", "emptyDir": volume}],
        });
        crate::root::pod(name, spec)
    };
    for (name, limits, size, kilobytes) in [
        ("a", json!({"memory": "64Mi"}), Value::Null, Some("65536")),
        ("b", json!({"memory": "64Mi"}), json!("16Mi"), Some("16384")),
        ("c", json!({}), json!("16Mi"), Some("16384")),
    ] {
        root.apply(&with(name, limits, size)).ok();
        let row = root.sh(name, "df -k /m | tail -n 1");
        let size = row.split_whitespace().nth(1);
        assert_eq!(size, kilobytes, "{name}: {row}");
    }
}
