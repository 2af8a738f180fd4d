//! A store with layers of both forms. As root, on Linux 6.12 or later.

use std::os::unix::fs::FileExt;

use super::*;
use crate::image::archive::compression::tests::gzip;
use crate::image::archive::tar::tests::Builder;
use crate::image::load::tests::{Root, Sample, tar_of};

fn files(root: &Root) -> Vec<PathBuf> {
    let all = std::fs::read_dir(root.1.layers()).unwrap();
    let all = all.map(|e| e.unwrap().path());
    all.filter(|p| LayerForm::of(p) == LayerForm::Erofs)
        .collect()
}

/// An image of files, and one of directories and the first one's lower layer.
fn root(name: &str) -> (Root, Sample, Sample) {
    let root = Root::new(name);
    root.1.set_layer_form(LayerForm::Erofs).unwrap();
    let one = Sample::new("a");
    let more = Builder::default().file("z", &[b'z'; 9000]).end();
    let two = Sample::with("b", vec![one.layers[0].clone(), more]);
    root.load("i", &tar_of(&one.oci("a:1", gzip))).unwrap();
    root.1.set_layer_form(LayerForm::Dir).unwrap();
    root.load("i", &two.docker("b:1")).unwrap();
    (root, one, two)
}

#[test]
fn records_of_before_are_of_directories() {
    let id = Digest::of(b"x");
    let old =
        format!(r#"{{"version":1,"diffId":"{id}","bytes":1,"entries":1,"opaqueRoot":false}}"#);
    let record: LayerRecord = serde_json::from_str(&old).unwrap();
    assert_eq!(record.form(), LayerForm::Dir);
    assert_eq!(record.file(), id.hex()[..32]);
    assert!(!serde_json::to_string(&record).unwrap().contains("erofs"));
}

#[test]
fn images_of_both_forms() {
    let (root, one, two) = root("layer-forms");
    assert_eq!((files(&root).len(), root.layer_dirs()), (2, 1));
    let image = root.1.lookup(&"b:1".parse().unwrap()).unwrap().unwrap();
    let forms: Vec<LayerForm> = image.layers.iter().map(|l| LayerForm::of(l)).collect();
    assert_eq!(forms, [LayerForm::Erofs, LayerForm::Dir]);
    assert!(image.layers[0].is_file() && image.layers[1].is_dir());
    let report = root.1.check(true, &|_| false).unwrap();
    assert_eq!((report.faults, report.layers), (vec![], 3));
    let usage = root.1.usage(&|id| id == two.id()).unwrap();
    assert!(usage.layers > 0 && usage.unused > 0 && usage.unused < usage.layers + usage.blobs);
    // What images share stays for the other.
    root.1.remove("a:1", false, &|_| false).unwrap();
    assert_eq!(files(&root).len(), 1);
    root.1.remove("b:1", false, &|_| false).unwrap();
    assert_eq!(std::fs::read_dir(root.1.layers()).unwrap().count(), 0);
    root.load("i", &one.docker("a:1")).unwrap();
    assert_eq!((files(&root).len(), root.layer_dirs()), (0, 2));
}

#[test]
fn a_damaged_file_is_found_and_mended() {
    let (root, one, two) = root("layer-damage");
    let changed = root
        .1
        .layer_path(&crate::image::store::index::layer_name(&Digest::of(
            &one.layers[1],
        )));
    let file = File::options().write(true).open(&changed).unwrap();
    file.write_all_at(b"?", 1100).unwrap();
    let faults = |repair, used: &dyn Fn(&str) -> bool| root.1.check(repair, used).unwrap().faults;
    let found = faults(false, &|_| false);
    assert!(found[0].at.ends_with(".erofs"), "{found:?}");
    assert_eq!(found[0].problem, "is not what its blob makes");
    assert!(
        faults(true, &|id| id == one.id())
            .iter()
            .any(|f| !f.repaired)
    );
    assert!(changed.exists());
    assert!(faults(true, &|_| false).iter().all(|f| f.repaired));
    assert_eq!(faults(false, &|_| false), []);
    assert!(!changed.exists());
    let names = |i: crate::image::Image| i.id;
    let left: Vec<String> = root.1.list().unwrap().into_iter().map(names).collect();
    assert_eq!(left, [two.id()]);
    root.1.set_layer_form(LayerForm::Erofs).unwrap();
    root.load("i", &tar_of(&one.oci("a:1", gzip))).unwrap();
    assert_eq!(faults(false, &|_| false), []);
    assert!(changed.exists());
}

#[test]
fn what_a_load_has_finished_is_kept() {
    let root = Root::new("layer-kept");
    root.1.set_layer_form(LayerForm::Erofs).unwrap();
    let diff_id = Digest::of(b"layer");
    let transaction = crate::image::store::transaction::Transaction::begin(&root.1).unwrap();
    transaction.keep_if_killed().unwrap();
    let name = crate::image::store::index::layer_name(&diff_id);
    let form = root.1.layer_form().unwrap();
    let done =
        Budget::none(|b| form.make(io::empty(), transaction.path(), &name, &diff_id, b)).unwrap();
    // Begun, and without a record.
    Budget::none(|b| {
        form.make(
            io::empty(),
            transaction.path(),
            &"1".repeat(32),
            &diff_id,
            b,
        )
    })
    .unwrap();
    let record = LayerRecord {
        version: 1,
        diff_id: diff_id.clone(),
        blob: None,
        bytes: done.bytes,
        entries: done.entries,
        opaque_root: false,
        erofs: Some(erofs::LAYOUT),
    };
    crate::store::save(&transaction.path().join(format!("{name}.json")), &record).unwrap();
    transaction.keep_finished().unwrap();
    drop(transaction);
    assert_eq!(files(&root), [root.1.layer_path(&name)]);
    assert_eq!(
        root.1.layer(&diff_id).unwrap().unwrap().form(),
        LayerForm::Erofs
    );
    root.1.prune(false, &|_| false).unwrap();
    assert_eq!(std::fs::read_dir(root.1.layers()).unwrap().count(), 0);
}
