//! Images that are here go elsewhere without the registry that they came from.

use std::path::Path;
use std::process::Command;

use carob::inside::image::{Form, Image, PullOptions, Reference, Store};

use super::{Registry, archive};

fn skopeo(args: &[&str]) -> String {
    let out = Command::new("skopeo")
        .arg("--insecure-policy")
        .args(args)
        .output()
        .expect("skopeo must be installed (Debian's package skopeo)");
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{args:?}: {error}");
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

fn digest_of(at: &str) -> String {
    skopeo(&[
        "inspect",
        "--tls-verify=false",
        "--format",
        "{{.Digest}}",
        at,
    ])
}

/// Sends it, and takes it back by digest into a store of its own.
fn there_and_back(registry: &Registry, store: &Store, image: &str, name: &str) -> (String, Image) {
    let o = PullOptions::default();
    let to = registry.reference(&format!("{name}:1"));
    let digest = store.push(image, &to, &o, &mut |_| {}).unwrap();
    let by_digest: Reference = format!("{}@{digest}", to.name()).parse().unwrap();
    let back = registry.store(&format!("back-{name}"));
    let got = back.pull(&by_digest, &o, &mut |_| {}).unwrap();
    assert_eq!(back.check(false, &|_| false).unwrap().faults, []);
    (digest.to_string(), got)
}

#[test]
fn pushed_to_another_registry() {
    let first = Registry::start("kept-a", None, false);
    let from = archive(&first.dir);
    first.push(&from, "app:oci", &["--format", "oci"]);
    first.push(&from, "app:docker", &["--format", "v2s2"]);
    let second = Registry::start("kept-b", None, false);
    let store = second.store("a");
    let mut pulled = vec![];
    for tag in ["oci", "docker"] {
        let name = first.reference(&format!("app:{tag}"));
        let image = store.pull(&name, &PullOptions::default(), &mut |_| {});
        pulled.push((name.to_string(), image.unwrap()));
    }
    drop(first);
    for (i, (name, image)) in pulled.iter().enumerate() {
        let (digest, back) = there_and_back(&second, &store, name, &format!("team/app{i}"));
        assert_eq!(Some(&digest), image.digest.as_ref());
        assert_eq!(back.id, image.id);
    }
}

#[test]
fn loaded_and_pushed() {
    let registry = Registry::start("kept-load", None, false);
    let from = archive(&registry.dir);
    let layout = registry.dir.join("oci.tar");
    let oci = format!("oci-archive:{}:app", layout.display());
    skopeo(&["copy", "-q", &from, &oci]);
    let store = registry.store("a");
    let name: Reference = "app:oci".parse().unwrap();
    let image = store.load(&layout, Some(&name)).unwrap().remove(0);
    let (digest, back) = there_and_back(&registry, &store, "app:oci", "oci");
    assert_eq!(digest, digest_of(&oci));
    assert_eq!(
        (Some(&digest), &back.id),
        (image.digest.as_ref(), &image.id)
    );

    // A docker-archive has no manifest; the one that is made is always the same.
    let store = registry.store("b");
    let name: Reference = "app:docker".parse().unwrap();
    let path = registry.dir.join("image.tar");
    let image = store.load(&path, Some(&name)).unwrap().remove(0);
    let (digest, back) = there_and_back(&registry, &store, "app:docker", "docker");
    assert_eq!(back.id, image.id);
    let again = there_and_back(&registry, &store, &image.id, "again");
    assert_eq!((&again.0, &again.1.id), (&digest, &image.id));
    let at = format!("docker://localhost:{}/docker:1", registry.port);
    assert_eq!(digest_of(&at), digest);
}

/// The same image from two places that have packed it differently.
#[test]
fn each_name_keeps_its_manifest() {
    let registry = Registry::start("kept-two", None, false);
    let from = archive(&registry.dir);
    registry.push(&from, "app:gzip", &["--format", "oci"]);
    let layout = format!("oci:{}:app", registry.dir.join("layout").display());
    let zstd = ["--format", "oci", "--dest-compress-format", "zstd"];
    skopeo(
        &[
            &["copy", "-q"],
            &zstd[..],
            &["--dest-compress", &from, &layout],
        ]
        .concat(),
    );
    let store = registry.store("a");
    let gzip = registry.reference("app:gzip");
    let first = store.pull(&gzip, &PullOptions::default(), &mut |_| {});
    let first = first.unwrap();
    let zstd: Reference = "app:zstd".parse().unwrap();
    let second = store.load(&registry.dir.join("layout"), Some(&zstd));
    let second = second.unwrap().remove(0);
    assert_eq!(first.id, second.id);
    assert_ne!(first.digest, second.digest);
    assert_eq!(store.check(false, &|_| false).unwrap().faults, []);
    for (i, (name, image)) in [(&gzip, &first), (&zstd, &second)].into_iter().enumerate() {
        let name = name.to_string();
        let (digest, back) = there_and_back(&registry, &store, &name, &format!("b{i}"));
        assert_eq!(
            (Some(digest), back.id),
            (image.digest.clone(), image.id.clone())
        );
    }
    let all = store.prune(true, &|_| false).unwrap();
    assert_eq!(all.removed.untagged.len(), 2);
    assert_eq!(store.check(false, &|_| false).unwrap().blobs, 0);
}

/// The digest of what is at `from`, after skopeo has copied all of it, which it
/// verifies on the way.
fn read_by_skopeo(from: &str, dir: &Path) -> String {
    let to = format!("dir:{}", dir.display());
    skopeo(&["copy", "-q", from, &to]);
    std::fs::remove_dir_all(dir).unwrap();
    digest_of(from)
}

#[test]
fn skopeo_reads_what_save_wrote() {
    let registry = Registry::start("kept-save", None, false);
    let from = archive(&registry.dir);
    registry.push(&from, "app:oci", &["--format", "oci"]);
    registry.push(&from, "app:docker", &["--format", "v2s2"]);
    let store = registry.store("a");
    let to = registry.dir.join("copied");
    let saved = registry.dir.join("saved.tar");
    let path = saved.display();
    let save = |images: &[String], form| {
        let mut bytes = Vec::new();
        store.save(images, form, &mut bytes).unwrap();
        let mut again = Vec::new();
        store.save(images, form, &mut again).unwrap();
        assert!(bytes == again, "the same images are the same bytes");
        std::fs::write(&saved, bytes).unwrap();
    };
    let mut names = vec![];
    for tag in ["oci", "docker"] {
        let name = registry.reference(&format!("app:{tag}"));
        let image = store.pull(&name, &PullOptions::default(), &mut |_| {});
        let digest = image.unwrap().digest.unwrap();
        let name = name.to_string();
        let one = std::slice::from_ref(&name);
        save(one, Form::Both);
        assert_eq!(read_by_skopeo(&format!("oci-archive:{path}"), &to), digest);
        // By name it finds manifests of the OCI's type alone.
        if tag == "oci" {
            let named = format!("oci-archive:{path}:{name}");
            assert_eq!(read_by_skopeo(&named, &to), digest);
        }
        read_by_skopeo(&format!("docker-archive:{path}"), &to);
        read_by_skopeo(&format!("docker-archive:{path}:{name}"), &to);
        let dir = registry.dir.join(tag);
        std::fs::create_dir(&dir).unwrap();
        store.save_layout(one, &dir).unwrap();
        let at = format!("oci:{}", dir.display());
        assert_eq!(read_by_skopeo(&at, &to), digest);
        save(one, Form::Docker);
        read_by_skopeo(&format!("docker-archive:{path}"), &to);
        names.push(name);
    }
    // Several in one, back into a store: all that was there is there again.
    for (n, form) in [Form::Both, Form::Docker].into_iter().enumerate() {
        save(&names, form);
        let other = registry.store(&format!("again{n}"));
        other.load(&saved, None).unwrap();
        for name in &names {
            let name = name.parse().unwrap();
            let (old, new) = (store.lookup(&name).unwrap(), other.lookup(&name).unwrap());
            let (old, new) = (old.unwrap(), new.unwrap());
            assert_eq!(old.id, new.id);
            assert_eq!(new.digest, old.digest.filter(|_| form == Form::Both));
        }
        assert_eq!(other.check(false, &|_| false).unwrap().faults, []);
    }
    // Found out before it is anywhere.
    let image = store.lookup(&names[0].parse().unwrap()).unwrap().unwrap();
    let blob = registry
        .dir
        .join("a/data/images/blobs/sha256")
        .join(&image.id[7..]);
    let mut config = std::fs::read(&blob).unwrap();
    config[20] ^= 1;
    std::fs::write(&blob, config).unwrap();
    let e = store
        .save(&names[..1], Form::Both, &mut Vec::new())
        .unwrap_err();
    assert!(e.to_string().contains("another content"), "{e}");
}
