//! PersistentVolumeClaims and `ephemeral` volumes: what outlives a Pod, and what does not.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::root::{Ran, Root, alive, kill_9, pod, sh, slack, until};

pub(crate) const IDLE: &str = "exec sleep 1000";

pub(crate) fn claim(name: &str, mode: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\n\
         spec: {{accessModes: [{mode}], resources: {{requests: {{storage: 1Gi}}}}}}\n---\n"
    )
}

pub(crate) fn with_volume(name: &str, source: Value, script: &str) -> String {
    let mut volume = source;
    volume["name"] = "v".into();
    let mount = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    pod(
        name,
        json!({"terminationGracePeriodSeconds": 1, "volumes": [volume],
            "containers": [sh("main", script, mount)]}),
    )
}

pub(crate) fn with_claim(name: &str, claim: &str) -> String {
    let source = json!({"persistentVolumeClaim": {"claimName": claim}});
    with_volume(name, source, IDLE)
}

/// The names of what is in a directory of the root's data.
pub(crate) fn entries(root: &Root, dir: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root.dir().join(dir))
        .into_iter()
        .flatten();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Waits until no claim has a directory, or a holder, any more.
#[track_caller]
pub(crate) fn no_claim_is_left(root: &Root) {
    until(|| match entries(root, "data/claims").as_slice() {
        [] => Ok(()),
        some => Err(some.to_vec()),
    })
    .unwrap();
}

/// Waits until `why` says this of a Pod.
#[track_caller]
pub(crate) fn why_says(root: &Root, pod: &str, text: &str) {
    until(|| {
        let why = root.carob(&["why", pod]).ok();
        if why.contains(text) { Ok(()) } else { Err(why) }
    })
    .unwrap();
}

#[test]
fn a_claim_outlives_its_pods_and_goes_when_it_is_deleted() {
    let root = Root::new();
    let manifest = format!(
        "{}{}",
        claim("data", "ReadWriteOnce"),
        with_claim("p", "data")
    );
    root.feed(&["apply", "-f", "-"], &manifest).ok();
    root.sh("p", "echo kept > /v/file");
    root.carob(&["delete", "pod", "p"]).ok();
    root.feed(&["apply", "-f", "-"], &with_claim("q", "data"))
        .ok();
    assert_eq!(root.sh("q", "cat /v/file").trim(), "kept");
    let rows = root.carob(&["get", "pvc"]).ok();
    assert!(
        rows.contains("data") && rows.contains("Bound") && rows.contains("RWO"),
        "{rows}"
    );
    // In use: it is to go, and stays as long as the Pod.
    root.carob(&["delete", "pvc", "data", "--wait=false"]).ok();
    let rows = root.carob(&["get", "pvc"]).ok();
    assert!(rows.contains("Terminating"), "{rows}");
    assert_eq!(root.sh("q", "cat /v/file").trim(), "kept");
    // A container of the Pod that has it is started again.
    root.carob(&["restart", "q"]).ok();
    assert_eq!(root.sh("q", "cat /v/file").trim(), "kept");
    // Another Pod does not get it any more.
    root.feed(
        &["apply", "--wait=false", "-f", "-"],
        &with_claim("r", "data"),
    )
    .ok();
    why_says(&root, "r", "is being deleted");
    root.carob(&["delete", "pod", "r", "q"]).ok();
    no_claim_is_left(&root);
    root.carob(&["get", "pvc", "data"]).fails(4, "not found");
}

/// What is refused has done nothing: the files do not go later, either.
#[test]
fn a_claim_in_use_is_not_made_anew() {
    let root = Root::new();
    root.apply(&claim("data", "ReadWriteOnce")).ok();
    root.apply(&with_claim("p", "data")).ok();
    root.sh("p", "echo kept > /v/file");
    let other = claim("data", "ReadWriteMany");
    for dry_run in ["none", "server"] {
        let dry_run = format!("--dry-run={dry_run}");
        for verb in ["apply", "replace"] {
            root.feed(&[verb, "--force", &dry_run, "-f", "-"], &other)
                .fails(5, "is used by pods: p");
        }
    }
    let rows = root.carob(&["get", "pvc"]).ok();
    assert!(rows.contains("Bound"), "{rows}");
    root.carob(&["delete", "pod", "p"]).ok();
    root.apply(&with_claim("q", "data")).ok();
    assert_eq!(root.sh("q", "cat /v/file").trim(), "kept");
}

#[test]
fn a_pod_waits_for_its_claim() {
    let root = Root::new();
    let applied = root.feed(&["apply", "-f", "-"], &with_claim("p", "data"));
    assert_ne!(applied.code, 0);
    assert!(
        applied
            .stderr
            .contains("persistentvolumeclaim \"data\" not found"),
        "{applied:?}"
    );
    root.feed(
        &["apply", "-f", "-"],
        claim("data", "ReadWriteMany").trim_end_matches("---\n"),
    )
    .ok();
    root.becomes("p", ".status.conditions[?(@.type=='Ready')].status", "True");
}

#[test]
fn one_pod_alone_has_a_claim_of_read_write_once_pod() {
    let root = Root::new();
    let manifest = format!(
        "{}{}",
        claim("data", "ReadWriteOncePod"),
        with_claim("p", "data")
    );
    root.feed(&["apply", "-f", "-"], &manifest).ok();
    let second = root.feed(&["apply", "-f", "-"], &with_claim("q", "data"));
    assert_ne!(second.code, 0);
    assert!(second.stderr.contains("pod \"p\" has it"), "{second:?}");
    kill_9(root.monitor_pid("p"));
    root.carob(&["delete", "pod", "p"]).ok();
    root.becomes("q", ".status.conditions[?(@.type=='Ready')].status", "True");
}

/// It is woken, and does not look from time to time: by then its back-off has grown.
#[test]
fn a_pod_that_waits_for_another_ones_claim_is_woken() {
    const PAUSE: Duration = Duration::from_secs(8);
    let root = Root::new();
    let mode = "ReadWriteOncePod";
    let manifest = format!("{}{}", claim("data", mode), with_claim("p", "data"));
    root.feed(&["apply", "-f", "-"], &manifest).ok();
    let second = with_claim("q", "data");
    root.feed(&["apply", "-f", "-"], &second)
        .fails(7, "pod \"p\" has it");
    // After 1, 2 and 4 seconds comes one of 8.
    let tries = || {
        let events = root.carob(&["describe", "pod", "q"]).ok();
        let line = events.lines().rfind(|l| l.contains("FailedMount"));
        match line.is_some_and(|l| l.contains("(x4 ")) {
            true => Ok(()),
            false => Err(events),
        }
    };
    let is_ready = ".status.conditions[?(@.type=='Ready')].status";
    until(tries).unwrap();
    let begun = Instant::now();
    root.carob(&["delete", "pod", "p", "--now"]).ok();
    root.becomes("q", is_ready, "True");
    assert!(begun.elapsed() < slack(PAUSE / 2), "{:?}", begun.elapsed());
    // One that is over needs it no more, and stays.
    root.carob(&["delete", "pod", "q", "--now"]).ok();
    let source = json!({"persistentVolumeClaim": {"claimName": "data"}});
    let mut ends: Value = serde_json::from_str(&with_volume(
        "ends",
        source,
        "until [ -e /tmp/go ]; do sleep 0.1; done",
    ))
    .unwrap();
    ends["spec"]["restartPolicy"] = "Never".into();
    root.feed(&["apply", "-f", "-"], &ends.to_string()).ok();
    root.feed(&["apply", "-f", "-"], &second)
        .fails(7, "pod \"ends\" has it");
    until(tries).unwrap();
    let begun = Instant::now();
    root.sh("ends", "touch /tmp/go");
    root.becomes("q", is_ready, "True");
    assert!(begun.elapsed() < slack(PAUSE / 2), "{:?}", begun.elapsed());
    assert_eq!(root.field("ends", ".status.phase"), "Succeeded");
}

#[test]
fn a_claim_that_is_applied_again() {
    let root = Root::new();
    let text = claim("data", "ReadWriteOnce");
    let apply = || root.feed(&["apply", "-f", "-"], text.trim_end_matches("---\n"));
    let said = |ran: &Ran| ran.stderr.contains("its size is shown, and not bounded");
    // What has no effect is told of a new one.
    let first = apply();
    assert!(
        first.stdout.contains("created") && said(&first),
        "{first:?}"
    );
    let again = apply();
    assert!(
        again.stdout.contains("unchanged") && !said(&again),
        "{again:?}"
    );
    root.feed(&["apply", "-f", "-"], &with_claim("p", "data"))
        .ok();
    root.sh("p", "dd if=/dev/zero of=/v/file bs=1M count=2");
    let df = root.carob(&["system", "df", "-o", "json"]).ok();
    let df: Value = serde_json::from_str(&df).unwrap();
    assert_eq!(df["claims"]["total"], 1, "{df}");
    assert_eq!(df["claims"]["active"], 1, "{df}");
    assert!(df["claims"]["size"].as_u64().unwrap() >= 2 << 20, "{df}");
    // One that is to go goes, whatever is applied.
    root.carob(&["delete", "pvc", "data"]).ok();
    let ends = apply();
    let warning = "persistentvolumeclaim/data is being deleted, and stays so";
    assert!(ends.code == 0 && ends.stderr.contains(warning), "{ends:?}");
    assert!(root.carob(&["get", "pvc"]).ok().contains("Terminating"));
    root.carob(&["delete", "pod", "p", "--now"]).ok();
    no_claim_is_left(&root);
    assert!(apply().stdout.contains("created"));
}

#[test]
fn a_claim_that_is_mounted_read_only() {
    let root = Root::new();
    let source = json!({"persistentVolumeClaim": {"claimName": "data", "readOnly": true}});
    let script = "echo x > /v/x && exit 7; exec sleep 1000";
    let manifest = format!(
        "{}{}",
        claim("data", "ReadWriteMany"),
        with_volume("p", source, script)
    );
    root.feed(&["apply", "-f", "-"], &manifest).ok();
    assert!(root.sh("p", "grep ' /v ' /proc/mounts").contains(" ro,"));
}

#[test]
fn an_ephemeral_claim_goes_with_its_pod() {
    let root = Root::new();
    let template = json!({"ephemeral": {"volumeClaimTemplate": {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}});
    root.feed(
        &["apply", "-f", "-"],
        &with_volume("p", template.clone(), IDLE),
    )
    .ok();
    root.sh("p", "echo x > /v/file");
    let json = root.carob(&["get", "pvc", "p-v", "-o", "json"]).ok();
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        value["metadata"]["ownerReferences"][0]["uid"],
        root.uid("p").as_str()
    );
    assert_eq!(value["metadata"]["labels"]["a"], "b");
    assert_eq!(value["status"]["phase"], "Bound");
    root.carob(&["delete", "pod", "p"]).ok();
    no_claim_is_left(&root);
    root.carob(&["get", "pvc", "p-v"]).fails(4, "not found");
    // A claim of the name that is another's is not taken.
    root.feed(
        &["apply", "-f", "-"],
        claim("p-v", "ReadWriteOnce").trim_end_matches("---\n"),
    )
    .ok();
    let other = root.feed(&["apply", "-f", "-"], &with_volume("p", template, IDLE));
    assert!(other.stderr.contains("pod is not owner"), "{other:?}");
}

#[test]
fn bad_claims() {
    let root = Root::new();
    for (spec, text) in [
        ("{}", "spec.accessModes: Required value"),
        (
            "{accessModes: [RWO], resources: {requests: {storage: 1}}}",
            "spec.accessModes: Unsupported value: \"RWO\"",
        ),
        (
            "{accessModes: [ReadWriteOnce]}",
            "spec.resources.requests.storage: Required value",
        ),
        (
            "{accessModes: [ReadWriteOncePod, ReadWriteOnce], resources: {requests: {storage: 1}}}",
            "may not use ReadWriteOncePod with other access modes",
        ),
        (
            "{accessModes: [ReadWriteOnce], volumeMode: Disk, resources: {requests: {storage: 1}}}",
            "spec.volumeMode: Unsupported value: \"Disk\"",
        ),
    ] {
        let manifest = format!(
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: c}}\nspec: {spec}\n"
        );
        let ran = root.feed(&["apply", "-f", "-"], &manifest);
        assert!(
            ran.code != 0 && ran.stderr.contains(text),
            "{spec}: {ran:?}"
        );
    }
    let good = claim("c", "ReadWriteOnce");
    let good = good.trim_end_matches("---\n");
    root.feed(&["apply", "-f", "-"], good).ok();
    let changed = good.replace("ReadWriteOnce", "ReadWriteMany");
    let ran = root.feed(&["apply", "-f", "-"], &changed);
    assert!(
        ran.stderr.contains("spec is immutable after creation"),
        "{ran:?}"
    );
    root.feed(&["apply", "-f", "-"], &good.replace("1Gi", "2Gi"))
        .ok();
    let ran = root.feed(&["apply", "-f", "-"], good);
    assert!(
        ran.stderr
            .contains("Forbidden: field can not be less than status.capacity"),
        "{ran:?}"
    );
    root.carob(&["delete", "pvc", "c"]).ok();
}

#[test]
fn the_directory_of_a_claim_belongs_to_the_fs_group() {
    let root = Root::new();
    let manifest = format!("{}{}", claim("data", "ReadWriteOnce"), {
        let mut value: Value = serde_json::from_str(&with_claim("p", "data")).unwrap();
        value["spec"]["securityContext"] = json!({"fsGroup": 4242, "runAsUser": 1000});
        value.to_string()
    });
    root.feed(&["apply", "-f", "-"], &manifest).ok();
    assert_eq!(root.sh("p", "touch /v/x && stat -c %g /v/x").trim(), "4242");
    let dirs = entries(&root, "data/claims");
    let dir = std::fs::metadata(root.dir().join("data/claims").join(&dirs[0])).unwrap();
    assert_eq!(dir.gid(), 4242);
    assert_eq!(dir.mode() & 0o2070, 0o2070);
}

/// `kubectl get -o yaml` shows what owns a claim on a cluster. Here nothing goes with that.
#[test]
fn what_a_manifest_says_of_an_owner_removes_nothing() {
    let root = Root::new();
    let claim = claim("data", "ReadWriteOnce").replace(
        "{name: data}",
        "{name: data, ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: db, uid: x}]}",
    );
    let manifest = format!("{claim}{}", with_claim("p", "data"));
    root.feed(&["apply", "-f", "-"], &manifest).ok();
    root.sh("p", "echo kept > /v/file");
    root.carob(&["delete", "pod", "p"]).ok();
    root.feed(&["apply", "-f", "-"], &with_claim("p", "data"))
        .ok();
    assert_eq!(root.sh("p", "cat /v/file").trim(), "kept");
}

/// What a Pod uses whose record is damaged is not known: nothing is removed.
#[test]
fn a_claim_stays_while_a_pod_cannot_be_read() {
    let root = Root::new();
    let manifest = format!(
        "{}{}",
        claim("data", "ReadWriteOnce"),
        with_claim("p", "data")
    );
    root.feed(&["apply", "-f", "-"], &manifest).ok();
    root.sh("p", "echo kept > /v/file");
    let record = root
        .dir()
        .join(format!("run/pods/{}/pod.json", root.uid("p")));
    let whole = std::fs::read(&record).unwrap();
    std::fs::write(&record, "{").unwrap();
    let ran = root.carob(&["delete", "pvc", "data", "--wait=false"]);
    assert!(ran.code != 0, "{ran:?}");
    assert!(
        ran.stderr.contains("which claims it uses is not known"),
        "{ran:?}"
    );
    let dirs = entries(&root, "data/claims");
    let file = root.dir().join("data/claims").join(&dirs[0]).join("file");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept\n");
    std::fs::write(&record, whole).unwrap();
    root.carob(&["delete", "pod", "p"]).ok();
    no_claim_is_left(&root);
}

/// A Pod that waits for a claim keeps nobody from removing it.
#[test]
fn a_pod_that_waits_is_no_user() {
    let root = Root::new();
    let manifest = format!(
        "{}{}",
        claim("data", "ReadWriteOncePod"),
        with_claim("p", "data")
    );
    root.feed(&["apply", "-f", "-"], &manifest).ok();
    root.feed(
        &["apply", "--wait=false", "-f", "-"],
        &with_claim("q", "data"),
    )
    .ok();
    why_says(&root, "q", "pod \"p\" has it");
    root.carob(&["delete", "pvc", "data", "--wait=false"]).ok();
    root.carob(&["delete", "pod", "p"]).ok();
    no_claim_is_left(&root);
    root.feed(
        &["apply", "-f", "-"],
        claim("data", "ReadWriteOncePod").trim_end_matches("---\n"),
    )
    .ok();
    root.becomes("q", ".status.conditions[?(@.type=='Ready')].status", "True");
}

/// A Pod that has failed has its claims as long as a container of it runs.
#[test]
fn a_pod_that_has_failed_keeps_its_claims_until_its_containers_have_ended() {
    let root = Root::new();
    let mut first: Value = serde_json::from_str(&with_claim("p", "data")).unwrap();
    first["spec"]["activeDeadlineSeconds"] = 1.into();
    first["spec"]["terminationGracePeriodSeconds"] = 5.into();
    first["spec"]["containers"][0]["command"] =
        json!(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]);
    let manifest = format!("{}{first}", claim("data", "ReadWriteOncePod"));
    root.feed(&["apply", "-f", "-"], &manifest).ok();
    let pid = root.pid("p", "main");
    root.becomes("p", ".status.phase", "Failed");
    root.feed(
        &["apply", "--wait=false", "-f", "-"],
        &with_claim("q", "data"),
    )
    .ok();
    why_says(&root, "q", "pod \"p\" has it");
    assert!(alive(pid));
    root.becomes("q", ".status.conditions[?(@.type=='Ready')].status", "True");
    assert!(!alive(pid));
}
