//! `save`, `tag`, `inspect`, `image-prune` and `system`, as scripts see them.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::root::{IMAGE, Root, images, pod_text, script_pod};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn blobs(root: &Root) -> Vec<PathBuf> {
    let dir = root.dir().join("data/images/blobs/sha256");
    let mut all: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    // The layer, which is larger than the config.
    all.sort_by_key(|p| p.metadata().unwrap().len());
    all
}

#[test]
fn tag_and_inspect() {
    let root = Root::new();
    assert_eq!(root.carob(&["tag", IMAGE, "other:2"]).ok(), "");
    let tagged = json(
        &root
            .carob(&["tag", "other:2", "localhost:5000/x", "-o", "json"])
            .ok(),
    );
    let names = [
        "docker.io/library/other:2",
        "localhost/carob/busybox:1",
        "localhost:5000/x:latest",
    ];
    assert_eq!(tagged["names"], Value::from(names.to_vec()));
    let seen = json(
        &root
            .carob(&["inspect", "other:2", tagged["id"].as_str().unwrap()])
            .ok(),
    );
    assert_eq!(seen.as_array().unwrap().len(), 2);
    let image = &seen[0];
    assert_eq!(image, &seen[1]);
    assert_eq!(image["Id"], tagged["id"]);
    assert_eq!(image["RepoTags"][0], "other:2");
    assert_eq!(image["Os"], "linux");
    assert!(image["Config"]["Cmd"].is_array() || image["Config"]["Entrypoint"].is_array());
    assert_eq!(image["RootFS"]["Type"], "layers");
    let lower = image["GraphDriver"]["Data"]["LowerDir"].as_str().unwrap();
    assert!(
        lower.split(':').all(|l| PathBuf::from(l).is_dir()),
        "{lower}"
    );
    let path = "jsonpath={[0].RootFS.Type}";
    assert_eq!(
        root.carob(&["inspect", IMAGE, "-o", path]).ok().trim(),
        "layers"
    );

    root.carob(&["inspect", "nobody"])
        .fails(4, "is not here: looked for docker.io/library/nobody:latest");
    root.carob(&["tag", "nobody", "x"])
        .fails(4, "is not here: looked for docker.io/library/nobody:latest");
    let digest = format!("x@sha256:{}", "0".repeat(64));
    root.carob(&["tag", IMAGE, &digest])
        .fails(2, "has a digest");
    root.carob(&["tag", IMAGE, "no/NAME"]).fails(3, "NAME");
    // A name that moves on leaves the others.
    root.carob(&["rmi", IMAGE]).ok();
    root.carob(&["rmi", "other:2"]).ok();
    assert_eq!(
        json(&root.carob(&["images", "-o", "json"]).ok())[0]["names"],
        Value::from(vec![names[2]])
    );
}

#[test]
fn save_in_every_form() {
    let root = Root::new();
    let id = json(&root.carob(&["images", "-o", "json"]).ok())[0]["id"].clone();
    let at = |name: &str| root.dir().join(name).to_str().unwrap().to_owned();
    root.carob(&["save", IMAGE, "-o", &at("a.tar")]).ok();
    root.carob(&[
        "save",
        "--format",
        "docker-archive",
        IMAGE,
        "-o",
        &at("b.tar"),
    ])
    .ok();
    root.carob(&["save", "--format", "oci-dir", IMAGE, "-o", &at("c")])
        .ok();
    root.carob(&["save", "--format", "oci-dir", IMAGE, "-o", &at("c")])
        .fails(5, "not empty");
    root.carob(&["save", "--format", "oci-dir", IMAGE])
        .fails(2, "-o DIR");
    root.carob(&["save", "nobody", "-o", &at("d.tar")])
        .fails(4, "is not here: looked for docker.io/library/nobody:latest");
    assert!(!root.dir().join("d.tar").exists());
    // To stdout, and by ID, which takes no name along.
    let saved = root
        .command(&["save", id.as_str().unwrap()])
        .output()
        .unwrap();
    assert!(saved.status.success());
    fs::write(at("e.tar"), saved.stdout).unwrap();
    for (file, named) in [
        ("a.tar", true),
        ("b.tar", true),
        ("c", true),
        ("e.tar", false),
    ] {
        let other = Root::empty();
        other.carob(&["load", "-i", &at(file)]).ok();
        let all = json(&other.carob(&["images", "-o", "json"]).ok());
        assert_eq!(all[0]["id"], id, "{file}");
        assert_eq!(
            all[0]["names"].as_array().unwrap().len(),
            usize::from(named),
            "{file}"
        );
        other.carob(&["system", "check"]).ok();
    }
    // A full device is told.
    root.carob(&["save", IMAGE, "-o", "/dev/full"])
        .fails(1, "ENOSPC");
}

#[test]
fn system_check_and_repair() {
    let _alone = crate::abandoned::alone();
    let root = Root::new();
    let said = root.carob(&["system", "check"]).ok();
    assert!(
        said.starts_with("1 images, ") && said.ends_with(": no fault\n"),
        "{said}"
    );
    let layer = blobs(&root).pop().unwrap();
    let mut bytes = fs::read(&layer).unwrap();
    bytes[1000] ^= 1;
    fs::write(&layer, bytes).unwrap();
    root.carob(&["system", "check"]).fails(1, "another digest");
    let ran = root.carob(&["system", "check", "-o", "json"]).fails(1, "");
    let report = json(&ran.stdout);
    assert_eq!(report["faults"][0]["repaired"], false);
    assert!(
        report["faults"][0]["at"]
            .as_str()
            .unwrap()
            .starts_with("blobs/sha256/")
    );
    assert_eq!(json(&ran.stderr)["error"]["reason"], "Failed");
    root.carob(&["system", "check", "--repair"]).ok();
    root.carob(&["system", "check"]).ok();
    // The image is there still; what is not kept is not saved, and a load brings it.
    let to = root.dir().join("a.tar");
    let save = ["save", IMAGE, "-o", to.to_str().unwrap()];
    root.carob(&save).fails(8, "load the image again");
    let image = images().join("busybox.tar");
    root.carob(&["load", "-i", image.to_str().unwrap()]).ok();
    root.carob(&save).ok();

    root.carob(&["system", "df", "--repair"])
        .fails(2, "--repair");
    root.carob(&["system", "check", "-a"]).fails(2, "-a");
    root.carob(&["system", "mend"]).fails(2, "mend");
    // Where nothing has ever been.
    let empty = Root::empty();
    empty.carob(&["system", "check"]).ok();
    empty.carob(&["system", "df"]).ok();
    empty.carob(&["system", "prune"]).ok();
}

#[test]
fn df_and_prune_know_what_pods_use() {
    let _alone = crate::abandoned::alone();
    let root = Root::new();
    root.apply(&pod_text(
        "web",
        IMAGE,
        "  containers:\n  - name: a\n",
        "sleep 1000",
    ))
    .ok();
    let df = || json(&root.carob(&["system", "df", "-o", "json"]).ok());
    let before = df();
    assert_eq!(
        (&before["images"]["total"], &before["images"]["active"]),
        (&1.into(), &1.into())
    );
    assert_eq!(before["images"]["reclaimable"], 0);
    assert!(before["images"]["size"].as_u64().unwrap() > 1_000_000);
    let table = root.carob(&["system", "df"]).ok();
    assert!(table.starts_with("TYPE "), "{table}");
    assert!(table.contains("\nImages "), "{table}");

    let kept = root.carob(&["image-prune", "-a", "-f"]).ok();
    assert_eq!(kept, "Total reclaimed space: 0B\n");
    root.carob(&["delete", "pod", "web"]).ok();
    assert!(df()["images"]["reclaimable"].as_u64().unwrap() > 1_000_000);
    root.carob(&["pin", IMAGE]).ok();
    let pruned = json(&root.carob(&["system", "prune", "-a", "-o", "json"]).ok());
    assert_eq!(pruned["deleted"], Value::Array(vec![]));
    root.carob(&["rmi", IMAGE]).fails(5, "is pinned");
    let listed = json(&root.carob(&["images", "-o", "json"]).ok());
    assert_eq!(listed[0]["pinned"], true);
    root.carob(&["unpin", IMAGE]).ok();
    // It has a name.
    let pruned = json(&root.carob(&["image-prune", "-o", "json"]).ok());
    assert_eq!(pruned["deleted"], Value::Array(vec![]));
    let pruned = json(&root.carob(&["system", "prune", "-a", "-o", "json"]).ok());
    assert_eq!(pruned["untagged"][0], IMAGE);
    assert_eq!(pruned["deleted"].as_array().unwrap().len(), 1);
    assert!(pruned["freed"].as_u64().unwrap() > 1_000_000);
    assert_eq!(df()["images"]["total"], 0);
    assert_eq!(blobs(&root).len(), 0);
}

/// An image's ID in a Pod, as in the status of another.
#[test]
fn an_image_that_is_not_here_is_named_with_what_brings_it() {
    let root = Root::new();
    let says = |ran: crate::root::Ran, code, error: &str, hint: &str| {
        assert!(ran.stderr.contains(hint), "{}", ran.stderr);
        ran.fails(code, error);
    };
    let here = "here is localhost/carob/busybox:1";
    says(
        root.carob(&["inspect", "busybox"]),
        4,
        "image busybox is not here: looked for docker.io/library/busybox:latest",
        here,
    );
    says(
        root.carob(&["rmi", "abcdef0"]),
        4,
        "looked for docker.io/library/abcdef0:latest and an ID that begins with abcdef0",
        "hint: carob pull abcdef0:latest brings it",
    );
    // Nothing answers at port 80 of the loopback.
    let pod = |name: &str, image: &str| {
        script_pod(name, "Never", 0, "exec sleep 1000").replace(IMAGE, image)
    };
    let wrong = "localhost/other/busybox:1";
    says(
        root.apply(&pod("p", wrong)),
        8,
        "image localhost/other/busybox:1 is not here: pull localhost/other/busybox:1: registry",
        here,
    );
    let absent = "localhost/other/app:1";
    says(
        root.apply(&pod("q", absent)),
        8,
        "image localhost/other/app:1 is not here: pull",
        "carob load -i FILE brings localhost/other/app:1 from an archive",
    );
    let never = pod("r", absent).replace("IfNotPresent", "Never");
    says(
        root.apply(&never),
        8,
        "is not present with pull policy of Never",
        "carob pull localhost/other/app:1 or carob load -i FILE brings it",
    );
}

#[test]
fn an_image_by_its_id() {
    let root = Root::new();
    let id = root.carob(&["images", "-q"]).ok();
    let id = id.trim();
    assert!(id.starts_with("sha256:"), "{id}");
    // Whatever the policy: no registry has IDs.
    let with = |image: &str| {
        script_pod("p", "Never", 0, "exec sleep 1000")
            .replace(IMAGE, image)
            .replace("IfNotPresent", "Always")
    };
    root.apply(&with(id)).ok();
    assert_eq!(root.field("p", ".status.containerStatuses[0].imageID"), id);
    let other = format!("sha256:{}", "0".repeat(64));
    root.apply(&with(&other).replace("name: p\n", "name: q\n"))
        .fails(8, "there is no image with the ID sha256:000");
}
