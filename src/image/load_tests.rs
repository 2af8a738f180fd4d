//! Archives built here, of all three forms, into a store of their own.

use serde_json::json;

use super::*;
use crate::image::archive::compression::tests::gzip;
use crate::image::archive::packed::tests::{bzip2, pack};
use crate::image::archive::tar::tests::Builder;
use crate::store::Layout;

pub(crate) struct Root(pub std::path::PathBuf, pub Store);

impl Root {
    pub(crate) fn new(name: &str) -> Self {
        let base = std::env::var_os("CAROB_TEST_DIR").map_or_else(std::env::temp_dir, Into::into);
        let dir: std::path::PathBuf =
            base.join(format!("carob-load-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let store = Store::open(&Layout::new(Some(&dir)).unwrap()).unwrap();
        Root(dir, store)
    }
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }
    pub(crate) fn images_dir(&self) -> std::path::PathBuf {
        self.0.join("data/images")
    }
    pub(crate) fn layer_dirs(&self) -> usize {
        std::fs::read_dir(self.images_dir().join("layers")).map_or(0, |d| {
            d.filter(|e| e.as_ref().unwrap().path().is_dir()).count()
        })
    }
    pub(crate) fn load(&self, name: &str, bytes: &[u8]) -> Result<Vec<Image>> {
        let images = self.1.load(&self.write(name, bytes), None);
        let ingest = std::fs::read_dir(self.images_dir().join("ingest")).unwrap();
        assert_eq!(ingest.count(), 0, "ingest must be empty afterwards");
        images
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Layers as plain tars, to be written in any form.
pub(crate) struct Sample {
    pub layers: Vec<Vec<u8>>,
    pub config: Vec<u8>,
}

impl Sample {
    pub(crate) fn new(cmd: &str) -> Self {
        let layers = vec![
            Builder::default().dir("etc/").file("etc/a", b"one").end(),
            Builder::default()
                .file("etc/.wh.a", b"")
                .file("b", b"second")
                .end(),
        ];
        Self::with(cmd, layers)
    }
    pub(crate) fn with(cmd: &str, layers: Vec<Vec<u8>>) -> Self {
        let diff_ids: Vec<_> = layers.iter().map(|l| Digest::of(l).to_string()).collect();
        let config = json!({
            "architecture": Platform::host().architecture, "os": "linux",
            "created": "2026-01-02T03:04:05Z",
            "config": {"Cmd": [cmd], "Env": ["A=b"], "User": "7:8", "WorkingDir": "/w"},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        Sample {
            layers,
            config: config.to_string().into_bytes(),
        }
    }
    pub(crate) fn id(&self) -> String {
        Digest::of(&self.config).into()
    }
    /// The files of an OCI layout, layers squeezed by `pack`.
    pub(crate) fn oci(
        &self,
        name: &str,
        pack: impl Fn(&[u8]) -> Vec<u8>,
    ) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        let mut put = |bytes: &[u8], media_type: &str| {
            let digest = Digest::of(bytes);
            files.push((format!("blobs/sha256/{}", digest.hex()), bytes.to_vec()));
            json!({"mediaType": media_type, "digest": digest.as_str(), "size": bytes.len()})
        };
        let layers: Vec<_> = self
            .layers
            .iter()
            .map(|l| put(&pack(l), "application/vnd.oci.image.layer.v1.tar+gzip"))
            .collect();
        let config = put(&self.config, "application/vnd.oci.image.config.v1+json");
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        let mut top = put(
            manifest.to_string().as_bytes(),
            "application/vnd.oci.image.manifest.v1+json",
        );
        top["annotations"] = json!({REF_NAME: name});
        let index = json!({"schemaVersion": 2, "manifests": [top]});
        files.push(("index.json".into(), index.to_string().into_bytes()));
        files.push((
            "oci-layout".into(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        ));
        files
    }
    pub(crate) fn docker(&self, tag: &str) -> Vec<u8> {
        let mut tar = Builder::default();
        let mut names = Vec::new();
        for (i, layer) in self.layers.iter().enumerate() {
            names.push(format!("{i}/layer.tar"));
            tar = tar.dir(&format!("{i}/")).file(&names[i], layer);
        }
        let manifest = json!([{"Config": "c.json", "RepoTags": [tag], "Layers": names}]);
        tar.file("c.json", &self.config)
            .file("manifest.json", manifest.to_string().as_bytes())
            .end()
    }
}

pub(crate) fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    files
        .iter()
        .fold(Builder::default(), |t, (name, bytes)| t.file(name, bytes))
        .end()
}

fn check(root: &Root, sample: &Sample, image: &Image, name: &str) {
    assert_eq!(image.id, sample.id());
    assert_eq!(image.names, [name]);
    assert_eq!(image.config.env, ["A=b"]);
    assert_eq!(image.config.user, "7:8");
    assert_eq!(image.size, 9);
    assert_eq!(image.layers.len(), 2);
    assert_eq!(
        std::fs::read(image.layers[0].join("etc/a")).unwrap(),
        b"one"
    );
    assert_eq!(std::fs::read(image.layers[1].join("b")).unwrap(), b"second");
    let again = root.1.lookup(&name.parse().unwrap()).unwrap().unwrap();
    assert_eq!((&again.id, &again.layers), (&image.id, &image.layers));
    assert_eq!(root.1.list().unwrap().len(), 1);
}

fn xz(data: &[u8]) -> Vec<u8> {
    pack("xz", &["-c"], data)
}

#[test]
fn every_form_gives_the_same_image() {
    let sample = Sample::new("a");
    let plain = |l: &[u8]| l.to_vec();
    let zstd = |l: &[u8]| zstd::encode_all(l, 1).unwrap();
    let name = "docker.io/library/app:1";
    for (form, bytes) in [
        ("oci-plain", tar_of(&sample.oci("app:1", plain))),
        ("oci-gzip", tar_of(&sample.oci("app:1", gzip))),
        ("oci-zstd", tar_of(&sample.oci("app:1", zstd))),
        ("oci-in-gzip", gzip(&tar_of(&sample.oci("app:1", gzip)))),
        ("docker", sample.docker("app:1")),
        ("docker-in-zstd", zstd(&sample.docker("app:1"))),
        ("oci-in-xz", xz(&tar_of(&sample.oci("app:1", gzip)))),
        ("docker-in-xz", xz(&sample.docker("app:1"))),
        ("oci-in-bzip2", bzip2(&tar_of(&sample.oci("app:1", gzip)))),
        ("docker-in-bzip2", bzip2(&sample.docker("app:1"))),
    ] {
        let root = Root::new(form);
        let images = root.load("image", &bytes).unwrap();
        check(&root, &sample, &images[0], name);
        assert_eq!(images[0].digest.is_some(), form.starts_with("oci"));
    }
    let root = Root::new("oci-dir");
    for (name, bytes) in sample.oci("app:1", gzip) {
        root.write(&format!("layout/{name}"), &bytes);
    }
    let images = root.1.load(&root.0.join("layout"), None).unwrap();
    check(&root, &sample, &images[0], name);
}

#[test]
fn names_ids_and_digests_lead_to_it() {
    let root = Root::new("lookup");
    let sample = Sample::new("a");
    let image = root
        .load("i", &tar_of(&sample.oci("app:1", gzip)))
        .unwrap()
        .remove(0);
    let digest = image.digest.clone().unwrap();
    let hex = image.id.strip_prefix("sha256:").unwrap();
    for s in [
        "app:1",
        &image.id,
        hex,
        &hex[..12],
        &hex[..6],
        &digest,
        &format!("app@{digest}"),
    ] {
        let found = root
            .1
            .lookup_any(s)
            .unwrap()
            .unwrap_or_else(|| panic!("{s}"));
        assert_eq!(found.id, image.id);
    }
    for s in [
        "app",
        "app:2",
        "other:1",
        &format!("other@{digest}"),
        &hex[..5],
    ] {
        assert!(root.1.lookup_any(s).unwrap().is_none(), "{s}");
    }
    assert!(root.1.lookup_any("no/NAME").is_err());
    // A new image of the name leaves the old one without.
    root.load("i", &Sample::new("b").docker("app:1")).unwrap();
    let all = root.1.list().unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(all[1].id, image.id);
    assert!(all[1].names.is_empty());
    assert_eq!(root.layer_dirs(), 2, "layers are shared");
}

#[test]
fn given_names() {
    let root = Root::new("given");
    let sample = Sample::new("a");
    let path = root.write("i", &tar_of(&sample.oci("latest", gzip)));
    assert!(root.1.load(&path, None).unwrap()[0].names.is_empty());
    let name = "localhost:5000/x:y".parse().unwrap();
    assert_eq!(
        root.1.load(&path, Some(&name)).unwrap()[0].names,
        ["localhost:5000/x:y"]
    );
}

#[test]
fn removal_takes_what_nothing_else_needs() {
    let root = Root::new("remove");
    let free = |_: &str| false;
    let shared = Sample::new("a");
    let mut layers = shared.layers.clone();
    layers.push(Builder::default().file("c", b"third").end());
    let other = Sample::with("b", layers);
    root.load("i", &shared.docker("a:1")).unwrap();
    root.load("i", &shared.docker("a:2")).unwrap();
    let b = root
        .load("i", &tar_of(&other.oci("b:1", gzip)))
        .unwrap()
        .remove(0);
    assert_eq!(root.layer_dirs(), 3);

    let e = root.1.remove(&shared.id(), false, &free).unwrap_err();
    assert_eq!(e.kind(), Kind::Conflict);
    let r = root.1.remove("a:1", false, &free).unwrap();
    assert_eq!((r.untagged.len(), r.deleted.len()), (1, 0));
    let e = root
        .1
        .remove("a:2", false, &|id| id == shared.id())
        .unwrap_err();
    assert_eq!(e.kind(), Kind::Conflict);
    let r = root.1.remove("a:2", false, &free).unwrap();
    assert_eq!(r.deleted, [shared.id()]);
    assert_eq!(root.layer_dirs(), 3, "b needs them all");
    let r = root.1.remove(&b.id[7..20], false, &free).unwrap();
    assert_eq!(
        (r.untagged, r.deleted),
        (vec!["docker.io/library/b:1".to_owned()], vec![b.id])
    );
    assert_eq!(root.layer_dirs(), 0);
    for dir in ["blobs/sha256", "records", "layers", "ingest", "partial"] {
        assert_eq!(
            std::fs::read_dir(root.images_dir().join(dir))
                .unwrap()
                .count(),
            0,
            "{dir}"
        );
    }
    assert_eq!(
        root.1.remove("b:1", false, &free).unwrap_err().kind(),
        Kind::NotFound
    );
}

#[test]
fn force_unnames_what_is_in_use() {
    let root = Root::new("force");
    let sample = Sample::new("a");
    root.load("i", &sample.docker("a:1")).unwrap();
    let r = root.1.remove("a:1", true, &|_| true).unwrap();
    assert_eq!((r.untagged.len(), r.deleted.len()), (1, 0));
    assert!(root.1.lookup_any(&sample.id()).unwrap().is_some());
    let e = root.1.remove(&sample.id(), true, &|_| true).unwrap_err();
    assert_eq!(e.kind(), Kind::Conflict);
    assert_eq!(
        root.1
            .remove(&sample.id(), true, &|_| false)
            .unwrap()
            .deleted
            .len(),
        1
    );
}

#[test]
fn equal_layers_and_no_layers() {
    let root = Root::new("stack");
    let one = Builder::default().file("a", b"1").end();
    let two = Builder::default().file("a", b"2").end();
    let image = root
        .load(
            "i",
            &Sample::with("x", vec![one.clone(), two.clone(), one.clone()]).docker("x:1"),
        )
        .unwrap()
        .remove(0);
    let top = |i: &Image| std::fs::read(i.layers.last().unwrap().join("a")).unwrap();
    assert_eq!((image.layers.len(), top(&image)), (2, b"1".to_vec()));
    let opaque = Builder::default()
        .file(".wh..wh..opq", b"")
        .file("b", b"")
        .end();
    let image = root
        .load(
            "i",
            &Sample::with("y", vec![one.clone(), opaque]).docker("y:1"),
        )
        .unwrap()
        .remove(0);
    assert_eq!(
        image.layers.len(),
        1,
        "overlayfs merges roots whatever they say"
    );
    let image = root
        .load("i", &Sample::with("z", vec![]).docker("z:1"))
        .unwrap()
        .remove(0);
    assert_eq!(image.layers.len(), 1);
    assert_eq!(std::fs::read_dir(&image.layers[0]).unwrap().count(), 0);
}

#[test]
fn lies_are_found_and_leave_nothing() {
    let root = Root::new("lies");
    let sample = Sample::new("a");
    let layers = [gzip(&sample.layers[0]), gzip(&sample.layers[1])];
    let refuse = |what: &str, bytes: &[u8], text: &str| {
        let e = root.load("i", bytes).expect_err(what);
        assert_eq!(e.kind(), Kind::Image, "{what}");
        assert!(e.to_string().contains(text), "{what}: {e}");
        assert!(root.1.list().unwrap().is_empty(), "{what}");
        assert_eq!(root.layer_dirs(), 0, "{what}");
    };
    let mut files = sample.oci("a:1", gzip);
    files[0].1 = layers[1].clone();
    refuse("another layer", &tar_of(&files), "layer sha256:");
    let mut files = sample.oci("a:1", gzip);
    let longer = [files[0].1.clone(), gzip(b"")].concat();
    files[0].1 = longer;
    refuse("a longer layer", &tar_of(&files), "larger than");
    let mut files = sample.oci("a:1", gzip);
    files[0].1.truncate(20);
    refuse("a cut layer", &tar_of(&files), "layer sha256:");
    let mut files = sample.oci("a:1", gzip);
    files[2].1.push(b' ');
    refuse("another config", &tar_of(&files), "another size or content");
    let mut other = Sample::new("a");
    other.layers.swap(0, 1);
    refuse(
        "diffIDs in another order",
        &other.docker("a:1"),
        "but the config says",
    );
    refuse(
        "a lost layer",
        &{
            let mut s = Sample::new("a");
            s.layers.pop();
            s.docker("a:1")
        },
        "1 layers, but the config 2 diffIDs",
    );
    refuse(
        "garbage behind",
        &[gzip(&sample.docker("a:1")), b"xx".to_vec()].concat(),
        "copy the archive",
    );
    refuse(
        "xz that is cut short",
        &xz(&sample.docker("a:1"))[..500],
        "xz: the archive is cut short",
    );
    let mut spoilt = bzip2(&sample.docker("a:1"));
    spoilt[200] ^= 1;
    refuse("damaged bzip2", &spoilt, "bzip2: the archive is damaged");
    refuse(
        "a layer in xz",
        &tar_of(&sample.oci("a:1", xz)),
        "it is compressed with xz, which only whole archives may be",
    );
    refuse(
        "a layer in bzip2",
        &tar_of(&sample.oci("a:1", bzip2)),
        "it is compressed with bzip2, which only whole archives may be",
    );
    refuse("no archive", &[b'x'; 2000], "not a tar archive");
    refuse(
        "no image",
        &Builder::default().file("a", b"").end(),
        "neither",
    );
    let escape = json!([{"Config": "../../etc/passwd", "Layers": []}]).to_string();
    refuse(
        "a name outside",
        &Builder::default()
            .file("manifest.json", escape.as_bytes())
            .end(),
        "is no name",
    );
    let evil = vec![Builder::default().file("../x", b"").end()];
    refuse(
        "an evil layer",
        &Sample::with("a", evil).docker("a:1"),
        "..",
    );
    let absent = root.1.load(&root.0.join("absent"), None).unwrap_err();
    assert_eq!(absent.kind(), Kind::NotFound);
}

#[test]
fn a_dead_ingest_is_cleared_and_a_living_one_is_not() {
    let root = Root::new("dead");
    let alive = Transaction::begin(&root.1).unwrap();
    let dead = root.images_dir().join("ingest/1-9");
    std::fs::create_dir_all(dead.join("half/a/layer")).unwrap();
    drop(Transaction::begin(&root.1).unwrap());
    assert!(!dead.exists());
    assert!(alive.path().exists());
}

/// A killed load, as the next finds it: `dead` is what its transaction held.
fn leave_dead(root: &Root, image: &Image, boot: &str) {
    let layers = root.images_dir().join("layers");
    let dead = root.images_dir().join("ingest/1-0");
    std::fs::create_dir_all(&dead).unwrap();
    let name = |i: usize| image.layers[i].file_name().unwrap().to_str().unwrap();
    // One finished, one whose record has not got its name yet.
    for file in [format!("{}.json", name(0)), name(0).into(), name(1).into()] {
        std::fs::rename(layers.join(&file), dead.join(&file)).unwrap();
    }
    let record = layers.join(format!("{}.json", name(1)));
    std::fs::rename(record, dead.join(format!("{}.json.77.tmp", name(1)))).unwrap();
    std::fs::write(dead.join("boot"), boot).unwrap();
}

#[test]
fn finished_layers_of_a_killed_load_are_adopted() {
    let this_boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    for (name, boot, adopted) in [("same", this_boot.as_str(), true), ("other", "x", false)] {
        let root = Root::new(&format!("adopt-{name}"));
        let sample = Sample::new("a");
        let image = root.load("i", &sample.docker("a:1")).unwrap().remove(0);
        // Seen from inside: a layer made anew holds no such file.
        let witnesses: Vec<_> = image.layers.iter().map(|l| l.join("witness")).collect();
        witnesses
            .iter()
            .for_each(|w| std::fs::write(w, b"").unwrap());
        leave_dead(&root, &image, boot);
        let again = root.load("i", &sample.docker("a:1")).unwrap().remove(0);
        check(&root, &sample, &again, "docker.io/library/a:1");
        assert_eq!(witnesses[0].exists(), adopted, "{name}");
        assert!(!witnesses[1].exists(), "without a record it is not whole");
        root.1.remove("a:1", false, &|_| false).unwrap();
        assert_eq!(root.layer_dirs(), 0);
    }
}

/// A Pod that names a digest is to get what has it, whatever an archive calls its own.
#[test]
fn names_with_digests_of_something_else() {
    let root = Root::new("pinned");
    let sample = Sample::new("pinned");
    let false_one = Digest::of(b"honest");
    for (name, left) in [
        (
            format!("app:1@{false_one}"),
            vec!["docker.io/library/app:1"],
        ),
        (format!("localhost/app@{false_one}"), vec![]),
    ] {
        let wanted: Reference = name.parse().unwrap();
        let docker = root.load("docker.tar", &sample.docker(&name)).unwrap();
        assert_eq!(docker[0].names, left, "{name}");
        let oci = tar_of(&sample.oci(&name, |l| l.to_vec()));
        let oci = root.load("oci.tar", &oci).unwrap();
        assert_eq!(oci[0].names, left, "{name}");
        assert!(root.1.lookup(&wanted).unwrap().is_none(), "{name}");
        root.1.remove(&oci[0].id, true, &|_| false).unwrap();
    }
    // One that is true stays, and one that the user gives has to be.
    let honest = oci_digest(&root, &sample);
    let name = format!("app:2@{honest}");
    let path = root.write("oci.tar", &tar_of(&sample.oci(&name, |l| l.to_vec())));
    let image = root.1.load(&path, None).unwrap();
    assert!(
        image[0]
            .names
            .contains(&format!("docker.io/library/{name}"))
    );
    let name = format!("app:3@{false_one}").parse().unwrap();
    let e = root.1.load(&path, Some(&name)).unwrap_err().to_string();
    assert!(e.contains("has another digest"), "{e}");
    let name = format!("app@{honest}").parse().unwrap();
    root.1.load(&path, Some(&name)).unwrap();
    assert!(root.1.lookup(&name).unwrap().is_some());
    root.1
        .tag("any:1", &format!("app:4@{honest}").parse().unwrap())
        .unwrap_err();
}

fn oci_digest(root: &Root, sample: &Sample) -> String {
    let oci = tar_of(&sample.oci("any:1", |l| l.to_vec()));
    root.load("any.tar", &oci).unwrap()[0]
        .digest
        .clone()
        .unwrap()
}

#[test]
fn names_are_counted() {
    let root = Root::new("counted");
    let docker = |n: usize| {
        let tags: Vec<String> = (0..n).map(|i| format!("app:{i}")).collect();
        let manifest = json!([{"Config": "c.json", "RepoTags": tags, "Layers": []}]);
        Builder::default()
            .file("c.json", br#"{"rootfs":{"diff_ids":[]}}"#)
            .file("manifest.json", manifest.to_string().as_bytes())
            .end()
    };
    let e = root.load("many.tar", &docker(MAX_NAMES + 1)).unwrap_err();
    assert!(e.to_string().contains("more than 10000 names"), "{e}");
    let images = root.load("many.tar", &docker(MAX_NAMES)).unwrap();
    assert_eq!(images[0].names.len(), MAX_NAMES);
}
