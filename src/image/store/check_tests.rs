//! Stores that something has happened to.

use std::io::Write;
use std::path::Path;

use super::*;
use crate::image::archive::compression::tests::gzip;
use crate::image::archive::tar::tests::Builder;
use crate::image::load::tests::{Root, Sample, tar_of};

/// Two images, of an OCI archive and of a docker one.
fn root(name: &str) -> (Root, Sample, Sample) {
    let root = Root::new(name);
    let one = Sample::new("a");
    let two = Sample::with("b", vec![Builder::default().file("z", b"zz").end()]);
    root.load("i", &tar_of(&one.oci("a:1", gzip))).unwrap();
    root.load("i", &two.docker("b:1")).unwrap();
    (root, one, two)
}

fn faults(root: &Root, repair: bool) -> Vec<String> {
    let report = root.1.check(repair, &|_| false).unwrap();
    report
        .faults
        .iter()
        .map(|f| format!("{} {} {}", f.at, f.problem, f.repaired))
        .collect()
}

#[track_caller]
fn found_and_mended(root: &Root, text: &str) {
    let all = faults(root, false);
    assert!(all.iter().any(|f| f.contains(text)), "{all:?}");
    let mended = faults(root, true);
    assert!(mended.iter().all(|f| f.ends_with("true")), "{mended:?}");
    assert_eq!(faults(root, false), [""; 0]);
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_sound_store_has_no_fault() {
    let (root, ..) = root("check-sound");
    let report = root.1.check(true, &|_| false).unwrap();
    assert_eq!(report.faults, []);
    // Two layers and a manifest and a config; a layer and a config.
    assert_eq!((report.images, report.layers, report.blobs), (2, 3, 6));
    // What kills leave is no fault.
    std::fs::create_dir(root.images_dir().join("ingest/1-9")).unwrap();
    std::fs::write(root.images_dir().join("index.json.7.tmp"), b"{").unwrap();
    assert_eq!(faults(&root, false), [""; 0]);
    root.1.prune(false, &|_| false).unwrap();
    assert!(!root.images_dir().join("index.json.7.tmp").exists());
}

#[test]
fn damaged_blobs() {
    let (root, one, _) = root("check-blobs");
    let blobs = root.1.blobs();
    // A layer's: the image runs on, and a load brings it.
    let layer = blobs.join(Digest::of(&gzip(&one.layers[0])).hex());
    flip(&layer);
    found_and_mended(&root, "its content has another digest");
    assert!(root.1.lookup(&"a:1".parse().unwrap()).unwrap().is_some());
    assert!(!layer.exists());
    root.load("i", &tar_of(&one.oci("a:1", gzip))).unwrap();
    assert!(layer.exists());
    std::fs::remove_file(&layer).unwrap();
    found_and_mended(&root, "is missing");

    // The config: the image is not what it was.
    flip(&blobs.join(&one.id()[7..]));
    found_and_mended(&root, "is damaged");
    assert!(root.1.lookup(&"a:1".parse().unwrap()).unwrap().is_none());
    assert!(root.1.lookup(&"b:1".parse().unwrap()).unwrap().is_some());
}

#[test]
fn what_does_not_fit_together() {
    let (root, one, two) = root("check-fit");
    let images = root.images_dir();
    let layer = |sample: &Sample| {
        let name = layer_name(&Digest::of(&sample.layers[0]));
        images.join("layers").join(name)
    };
    // A layer without its record; another that is gone.
    std::fs::remove_file(layer(&one).with_extension("json")).unwrap();
    found_and_mended(&root, "layers/");
    assert!(root.1.lookup(&"a:1".parse().unwrap()).unwrap().is_none());
    root.load("i", &tar_of(&one.oci("a:1", gzip))).unwrap();
    std::fs::remove_dir_all(layer(&two)).unwrap();
    found_and_mended(&root, "is missing");
    root.load("i", &two.docker("b:1")).unwrap();

    // A name to nowhere, a record that is none, files of nobody.
    std::fs::remove_file(images.join(format!("records/{}.json", &one.id()[7..]))).unwrap();
    found_and_mended(&root, "docker.io/library/a:1 leads to");
    std::fs::write(images.join(format!("records/{}.json", &two.id()[7..])), "{").unwrap();
    found_and_mended(&root, "damaged");
    assert_eq!(root.1.list().unwrap().len(), 0);
    let mut stray = std::fs::File::create(images.join("blobs/sha256/stray")).unwrap();
    stray.write_all(b"x").unwrap();
    assert!(faults(&root, true)[0].contains("stray is no file of the store false"));
}

#[test]
fn what_is_in_use_stays() {
    let (root, one, _) = root("check-use");
    flip(&root.1.blobs().join(&one.id()[7..]));
    let report = root.1.check(true, &|id| id == one.id()).unwrap();
    assert!(report.faults.iter().any(|f| !f.repaired));
    assert!(root.1.lookup(&"a:1".parse().unwrap()).unwrap().is_some());
}

#[test]
fn prune_takes_what_has_no_name() {
    let (root, one, two) = root("prune");
    let in_use = |id: &str| id == two.id();
    assert_eq!(root.1.prune(false, &in_use).unwrap(), Default::default());
    root.1.tag("b:1", &"c:1".parse().unwrap()).unwrap();
    root.load("i", &Sample::with("n", vec![]).docker("a:1"))
        .unwrap();
    std::fs::write(root.1.partial().join("0".repeat(64)), b"12345").unwrap();
    let pruned = root.1.prune(false, &in_use).unwrap();
    assert_eq!(pruned.removed.deleted, [one.id()]);
    assert!(pruned.freed > 5);
    let pruned = root.1.prune(true, &in_use).unwrap();
    assert_eq!(pruned.removed.untagged, ["docker.io/library/a:1"]);
    let all = root.1.list().unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].names.len(), 2);
    assert_eq!(faults(&root, false), [""; 0]);
}
