//! Images as volumes: their files, read-only, one mount for all Pods.

use std::fs;

use serde_json::{Value, json};

use crate::hostile::evil_image;
use crate::root::{IMAGE, Root, pod, sh};

const SLEEPS: &str = "exec sleep 1000";

/// An image with one more layer, which a script makes, and which nobody may trust.
fn data_image(root: &Root) -> String {
    let script = "mkdir -p models/deep bin
        echo weights >models/deep/w
        echo 'echo run' >models/tool; chmod 755 models/tool
        cp /bin/true suid; chmod 4755 suid
        mknod null c 1 3; chmod 666 null
        ln -s /etc/shadow out; ln -s ../../../../../etc up; ln -s /models/deep inner";
    evil_image(root, "data", script, json!({}))
}

fn volume(reference: &str) -> Value {
    json!({"name": "data", "image": {"reference": reference, "pullPolicy": "Never"}})
}

fn with(name: &str, reference: &str, mount: Value) -> String {
    let mut all = json!({"name": "data", "mountPath": "/data"});
    for (key, value) in mount.as_object().unwrap() {
        all[key] = value.clone();
    }
    let extra = json!({"volumeMounts": [all], "securityContext": {"privileged": true}});
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [sh("main", SLEEPS, extra)],
        "volumes": [volume(reference)],
    });
    pod(name, spec)
}

/// Where the root has mounted images.
fn mounted(root: &Root) -> Vec<String> {
    let below = format!("{}/run/layers/image-", root.dir().display());
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let at = table.lines().filter_map(|l| l.split(' ').nth(4));
    at.filter(|at| at.starts_with(&below))
        .map(str::to_owned)
        .collect()
}

/// The containers are privileged: what they cannot do, no container can.
#[test]
fn the_files_of_an_image_are_there_and_cannot_be_changed() {
    let _alone = crate::abandoned::alone();
    let root = Root::new();
    let reference = data_image(&root);
    for name in ["one", "two"] {
        root.apply(&with(name, &reference, json!({}))).ok();
    }
    assert_eq!(mounted(&root).len(), 1, "once for both");
    assert_eq!(root.sh("one", "cat /data/models/deep/w"), "weights\n");
    // All layers, of which the first has this.
    root.sh("two", "test -x /data/bin/busybox && ls /data/etc/passwd");
    for change in [
        "touch /data/new",
        "rm /data/models/deep/w",
        "echo x >>/data/models/deep/w",
        "chmod 777 /data/models",
        "mount -o remount,rw /data; touch /data/new",
    ] {
        let said = root.sh("one", &format!("({change}) 2>&1; true"));
        assert!(said.contains("Read-only file system"), "{change}: {said}");
    }
    // Neither executed, nor a device, and setuid has no effect.
    for (use_, denied) in [
        ("/data/models/tool", "Permission denied"),
        ("/data/suid", "Permission denied"),
        ("cat /data/null", "Permission denied"),
    ] {
        let said = root.sh("one", &format!("({use_}) 2>&1; true"));
        assert!(said.contains(denied), "{use_}: {said}");
    }
    let options = root.sh("one", "grep ' /data ' /proc/mounts | cut -d' ' -f4");
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(
            options.split(',').any(|o| o == option),
            "{option}: {options}"
        );
    }
    // A link leads where it leads in the container.
    assert_eq!(root.sh("one", "readlink /data/out"), "/etc/shadow\n");

    root.carob(&["rmi", &reference]).fails(5, "in use");
    root.carob(&["system", "prune", "-a"]).ok();
    let said = root.carob(&["describe", "pod", "one"]).ok();
    assert!(
        said.contains("Image (a container image or OCI artifact)"),
        "{said}"
    );
    root.carob(&["delete", "pod", "one"]).ok();
    assert_eq!(root.sh("two", "cat /data/models/deep/w"), "weights\n");
    root.carob(&["delete", "pod", "two"]).ok();
    assert_eq!(mounted(&root), [""; 0]);
    assert!(!root.dir().join("run/layers").exists());
    root.carob(&["rmi", &reference]).ok();
}

#[test]
fn a_part_of_an_image_that_no_link_leads_out_of() {
    let root = Root::new();
    let reference = data_image(&root);
    for (name, part, seen) in [
        ("dir", "models/deep", "cat /data/w"),
        ("file", "models/deep/w", "cat /data"),
    ] {
        let manifest = with(name, &reference, json!({"subPath": part}));
        root.apply(&manifest).ok();
        assert_eq!(root.sh(name, seen), "weights\n");
        root.carob(&["delete", "pod", name]).ok();
    }
    for (part, why) in [
        ("models/none", "no such file or directory, and is read-only"),
        ("out", "leads out of it"),
        ("up", "leads out of it"),
    ] {
        root.apply(&with("p", &reference, json!({"subPath": part})))
            .fails(7, why);
        let reason = ".status.containerStatuses[0].state.waiting.reason";
        assert_eq!(root.field("p", reason), "CreateContainerConfigError");
        root.carob(&["delete", "pod", "p"]).ok();
    }
}

#[test]
fn a_pod_waits_for_the_image_of_its_volume() {
    let root = Root::new();
    let reason = ".status.containerStatuses[0].state.waiting.reason";
    let message = ".status.containerStatuses[0].state.waiting.message";
    root.apply(&with("p", "localhost/carob/later:1", json!({})))
        .fails(8, "ErrImageNeverPull");
    assert_eq!(root.field("p", reason), "ErrImageNeverPull");
    let said = root.field("p", message);
    assert!(said.starts_with("volume data: Image "), "{said}");
    assert_eq!(root.field("p", ".status.phase"), "Pending");
    // The next try finds it.
    root.carob(&["tag", IMAGE, "localhost/carob/later:1"]).ok();
    root.becomes("p", ".status.phase", "Running");
    root.sh("p", "test -e /data/bin/busybox");
    root.carob(&["delete", "pod", "p"]).ok();

    // Nobody listens on port 1.
    let manifest = with("pull", "localhost:1/data:1", json!({}));
    let manifest = manifest.replace("\"pullPolicy\":\"Never\"", "\"pullPolicy\":\"Always\"");
    root.apply(&manifest).fails(8, "localhost:1");
    assert_eq!(root.field("pull", reason), "ErrImagePull");
    let events = root.carob(&["events", "--for", "pod/pull"]).ok();
    for text in [
        "Pulling image \"localhost:1/data:1\"",
        "Failed to pull image \"localhost:1/data:1\": ",
    ] {
        assert!(events.contains(text), "{events}");
    }
}

/// Layers that are files are mounted first, and one is enough.
#[test]
fn an_image_whose_layers_are_files() {
    let root = Root::on_disk();
    let erofs = root.carob(&["system", "layers", "erofs"]).code == 0;
    root.load_image();
    root.apply(&with("p", IMAGE, json!({}))).ok();
    root.sh("p", "test -e /data/bin/busybox && ! touch /data/x");
    let pid = root.monitor_pid("p");
    crate::root::kill_9(pid);
    for at in mounted(&root) {
        nix::mount::umount2(at.as_str(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
    // The container keeps it, and the next one has it mounted again.
    root.sh("p", "test -e /data/bin/busybox");
    root.apply(&with("q", IMAGE, json!({}))).ok();
    root.sh("q", "test -e /data/bin/busybox");
    assert_eq!(mounted(&root).len(), 1, "erofs: {erofs}");
}
