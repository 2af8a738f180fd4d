//! Hostile manifests, indexes, configs and archives around honest layers.

use serde_json::json;

use crate::corpus::{Case, Content, Want};
use crate::image::{INDEX, MANIFEST, Oci, config_of, digest, docker, gzip};
use crate::place::Is::File;
use crate::tar::{Tar, tar};

fn oci(name: &'static str, oci: Oci, words: &'static str) -> Case {
    let (content, want) = (Content::Oci(oci), Want::Refused(words));
    Case {
        name,
        content,
        want,
    }
}

fn good(name: &'static str, oci: Oci) -> Case {
    let (content, want) = (Content::Oci(oci), is_honest());
    Case {
        name,
        content,
        want,
    }
}

fn archive(name: &'static str, tar: Tar, want: Want) -> Case {
    let content = Content::Archive(tar.end());
    Case {
        name,
        content,
        want,
    }
}

fn honest() -> Vec<u8> {
    tar().dir("d").file("d/f", "honest").end()
}

fn is_honest() -> Want {
    Want::Made(vec![(b"d/f".to_vec(), File("honest"))])
}

pub(crate) fn all(canary: &str) -> Vec<Case> {
    [contents(), documents(), streams(), archives(canary)].concat()
}

fn contents() -> Vec<Case> {
    let base = || Oci::new(&[honest()]);
    let other = gzip(&tar().file("evil", "").end());
    let size = |n: i64| {
        base().with_manifest(move |m| {
            let size = m["layers"][0]["size"].as_i64().unwrap() + n;
            m["layers"][0]["size"] = size.into();
        })
    };
    let swapped = Oci::packed(&[(gzip(&honest()), b"another tar")], json!({}));
    let both = [honest(), tar().file("second", "").end()];
    let [a, b] = [gzip(&both[0]), gzip(&both[1])];
    let crossed = Oci::packed(&[(a, &both[1]), (b, &both[0])], json!({}));
    vec![
        good("honest", base()),
        oci(
            "digest-of-a-layer",
            base().with_content("/layers/0", |l| *l.last_mut().unwrap() ^= 1),
            "layer sha256:",
        ),
        oci(
            "another-layer",
            base().with_content("/layers/0", |l| l.clone_from(&other)),
            "layer sha256:",
        ),
        oci(
            "layer-cut-short",
            base().with_content("/layers/0", |l| l.truncate(40)),
            "layer sha256:",
        ),
        oci("size-of-a-layer-too-small", size(-1), "layer sha256:"),
        oci("size-of-a-layer-too-large", size(1), "layer sha256:"),
        oci(
            "digest-of-a-config",
            base().with_content("/config", |c| c.push(b' ')),
            "",
        ),
        oci("diff-id", swapped, "but the config says sha256:"),
        oci("diff-ids-crossed", crossed, "but the config says sha256:"),
        oci(
            "diff-ids-too-few",
            base().with_config(config_of(&[], json!({})).to_string().as_bytes()),
            "1 layers, but the config 0 diffIDs",
        ),
        oci(
            "digest-that-is-a-path",
            base().with_manifest(|m| {
                m["layers"][0]["digest"] = "sha256:../../../../etc/passwd".into()
            }),
            "64 lower-case hexadecimal digits",
        ),
        oci(
            "digest-of-another-kind",
            base().with_manifest(|m| {
                m["layers"][0]["digest"] = format!("sha512:{}", "0".repeat(128)).into()
            }),
            "only sha256",
        ),
        oci(
            "digest-in-capitals",
            base().with_manifest(|m| {
                m["config"]["digest"] = format!("sha256:{}", "A".repeat(64)).into()
            }),
            "64 lower-case hexadecimal digits",
        ),
    ]
}

fn documents() -> Vec<Case> {
    let base = || Oci::new(&[honest()]);
    let mut nested = base();
    for _ in 0..6 {
        let mut entry = nested.top.clone();
        entry["platform"] = json!({"os": "linux", "architecture": crate::image::arch()});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
        nested.top = nested.put(INDEX, index.to_string().as_bytes());
    }
    let mut other = base();
    let entry = json!({"mediaType": MANIFEST, "digest": other.top["digest"], "size": other.top["size"],
        "platform": {"os": "plan9", "architecture": "mips"}});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    other.top = other.put(INDEX, index.to_string().as_bytes());
    let mut many = base();
    let list = vec![many.top.clone(); 4097];
    let index = json!({"schemaVersion": 2, "manifests": list});
    many.top = many.put(INDEX, index.to_string().as_bytes());
    let mut declared = base();
    declared.top["mediaType"] = INDEX.into();
    let deep = |n: usize| {
        let lists = "[".repeat(n) + &"]".repeat(n);
        let ids = [digest(&honest())];
        let config = config_of(&ids, json!({})).to_string();
        format!("{{\"history\":{lists},{}", &config[1..])
    };
    let strings = vec![""; 300_000];
    let layers: Vec<Vec<u8>> = vec![honest(); 257];
    vec![
        oci(
            "manifest-and-index",
            base().with_manifest(|m| m["manifests"] = json!([])),
            "and no manifests",
        ),
        oci("manifest-that-is-an-index", declared, "was declared"),
        oci(
            "manifest-of-another-type",
            base().with_manifest(|m| m["mediaType"] = INDEX.into()),
            "was declared",
        ),
        oci(
            "manifest-without-layers",
            base().with_manifest(|m| drop(m.as_object_mut().unwrap().remove("layers"))),
            "it must have a config and layers",
        ),
        oci(
            "schema-1",
            base().with_manifest(|m| m["schemaVersion"] = 1.into()),
            "schema 1 is not supported",
        ),
        oci(
            "layer-of-an-unknown-type",
            base()
                .with_manifest(|m| m["layers"][0]["mediaType"] = "application/x+encrypted".into()),
            "layers of type \"application/x+encrypted\"",
        ),
        oci(
            "config-of-an-unknown-type",
            base().with_manifest(|m| m["config"]["mediaType"] = "application/x.chart".into()),
            "not a container image but an artifact",
        ),
        oci("indexes-in-indexes", nested, "index"),
        oci("index-of-another-machine", other, "no manifest for linux/"),
        oci("index-without-end", many, "more than 4096 manifests"),
        oci(
            "layers-without-end",
            Oci::new(&layers),
            "the image has 257 layers, more than layers=256 allows",
        ),
        good("config-nested", base().with_config(deep(60).as_bytes())),
        oci(
            "config-nested-10000-deep",
            base().with_config(deep(10_000).as_bytes()),
            "the config is nested deeper than json-depth=64 allows",
        ),
        oci(
            "manifest-nested-10000-deep",
            base()
                .with_manifest(|m| m["x"] = serde_json::Value::String("deep".into()))
                .with_text(|t| t.replace("\"deep\"", &("[".repeat(10_000) + &"]".repeat(10_000)))),
            "the manifest is nested deeper than json-depth=64 allows",
        ),
        oci(
            "config-of-many-strings",
            base().with_config(
                config_of(&[digest(&honest())], json!({"Env": strings}))
                    .to_string()
                    .as_bytes(),
            ),
            "the config has more values than json-values=250000 allows",
        ),
        oci("config-no-json", base().with_config(b"{"), "image config"),
        oci(
            "config-size",
            base().with_manifest(|m| m["config"]["size"] = (9 << 20).into()),
            "the config has more bytes than config-size=8388608 allows",
        ),
        oci(
            "manifest-size",
            base().with_text(|t| t + &" ".repeat(5 << 20)),
            "manifest-size=4194304 allows",
        ),
    ]
}

fn streams() -> Vec<Case> {
    let plain = honest();
    let (first, second) = plain.split_at(700);
    let of = |bytes: Vec<u8>| Oci::packed(&[(bytes, &honest()[..])], json!({}));
    let zstd = |d: &[u8], log: u32| {
        let mut e = zstd::Encoder::new(Vec::new(), 3).unwrap();
        e.window_log(log).unwrap();
        std::io::Write::write_all(&mut e, d).unwrap();
        e.finish().unwrap()
    };
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
    vec![
        good("plain-under-another-name", of(plain.clone())),
        good("gzip-members", of([gzip(first), gzip(second)].concat())),
        good(
            "gzip-empty-members",
            of([gzip(b""), gzip(&plain), gzip(b"")].concat()),
        ),
        oci(
            "gzip-and-garbage",
            of([gzip(&plain), b"garbage".to_vec()].concat()),
            "layer sha256:",
        ),
        oci(
            "gzip-and-zeros",
            of([gzip(&plain), vec![0; 512]].concat()),
            "layer sha256:",
        ),
        oci(
            "gzip-and-another-tar",
            of([gzip(&plain), gzip(&tar().file("evil", "").end())].concat()),
            "but the config says",
        ),
        oci("gzip-cut", of(gzip(&plain)[..60].to_vec()), "layer sha256:"),
        oci(
            "gzip-wrong-sum",
            of({
                let mut z = gzip(&plain);
                let at = z.len() - 8;
                z[at] ^= 1;
                z
            }),
            "layer sha256:",
        ),
        good(
            "zstd-frames",
            of([zstd(first, 20), skippable.clone(), zstd(second, 20)].concat()),
        ),
        good(
            "zstd-skippable-first",
            of([skippable, zstd(&plain, 20)].concat()),
        ),
        good("zstd-window-32", of(zstd(&plain, 25))),
        oci(
            "zstd-window-128",
            of(zstd(&plain, 27)),
            "than zstd-window=33554432 allows",
        ),
        oci(
            "zstd-window-later",
            of([zstd(first, 20), zstd(second, 27)].concat()),
            "zstd: a window of more bytes",
        ),
        oci(
            "zstd-and-garbage",
            of([zstd(&plain, 20), b"garbage".to_vec()].concat()),
            "layer sha256:",
        ),
        oci(
            "zstd-cut",
            of(zstd(&plain, 20)[..30].to_vec()),
            "layer sha256:",
        ),
    ]
}

fn archives(canary: &str) -> Vec<Case> {
    let layer = honest();
    let of = |names: &[&str], tag: &str| docker(&layer, names, tag);
    let tag = |name: &str| format!("localhost/corpus/{name}:1");
    let passwd = std::fs::read("/etc/passwd").unwrap();
    let config = |c: &str| json!([{"Config": c, "RepoTags": null, "Layers": []}]).to_string();
    let refused = |name, tar: Tar, words| archive(name, tar, Want::Refused(words));
    let index = json!({"schemaVersion": 2, "manifests": [
        {"mediaType": MANIFEST, "digest": digest(&passwd), "size": passwd.len()}]});
    let escape = format!("../../../../../../..{canary}/file");
    vec![
        archive(
            "docker",
            of(&["l.tar"], &tag("docker")).file("l.tar", &layer),
            is_honest(),
        ),
        archive(
            "docker-gzip-layer",
            of(&["l.tar"], &tag("docker-gzip-layer")).file("l.tar", gzip(&layer)),
            is_honest(),
        ),
        archive(
            "docker-linked-layer",
            of(&["a/l.tar"], &tag("docker-linked-layer"))
                .symlink("a/l.tar", "../b/l.tar")
                .file("b/l.tar", &layer),
            is_honest(),
        ),
        refused(
            "layers-upwards",
            of(&["../../../../../../etc/passwd"], "x:1"),
            "is no name",
        ),
        refused(
            "layers-absolute",
            of(&["/etc/passwd"], "x:1"),
            "the archive lacks \"etc/passwd",
        ),
        refused("layers-canary", of(&[&escape], "x:1"), "is no name"),
        refused(
            "layers-a-symlink-outside",
            of(&["l.tar"], "x:1").symlink("l.tar", "/etc/passwd"),
            "the archive lacks",
        ),
        refused(
            "layers-a-symlink-upwards",
            of(&["l.tar"], "x:1").symlink("l.tar", "../../etc/passwd"),
            "the archive lacks",
        ),
        refused(
            "layers-in-a-circle",
            of(&["a"], "x:1").symlink("a", "b").symlink("b", "a"),
            "the archive lacks",
        ),
        refused(
            "layers-a-directory",
            of(&["d"], "x:1").dir("d"),
            "the archive lacks \"d",
        ),
        refused(
            "layers-not-there",
            of(&["gone.tar"], "x:1"),
            "the archive lacks \"gone.tar",
        ),
        refused(
            "layers-a-device",
            of(&["d"], "x:1").device("d", b'3', 1, 5),
            "the archive lacks \"d",
        ),
        refused(
            "config-upwards",
            tar().file("manifest.json", config("../../../etc/passwd")),
            "is no name",
        ),
        refused(
            "config-absolute",
            tar().file("manifest.json", config("/etc/passwd")),
            "the archive lacks",
        ),
        refused(
            "config-a-symlink",
            tar()
                .file("manifest.json", config("c"))
                .symlink("c", "/etc/passwd"),
            "the archive lacks",
        ),
        refused(
            "tag-that-is-none",
            of(&["l.tar"], "../../x").file("l.tar", &layer),
            "InvalidImageName",
        ),
        refused(
            "member-upwards",
            of(&["l.tar"], "x:1").file("../evil", ""),
            "a member of the name \"../evil\"",
        ),
        refused(
            "member-sparse",
            of(&["l.tar"], "x:1").sparse("l.tar", 4096, &[], b""),
            "is a sparse file",
        ),
        refused(
            "blob-that-is-a-file-of-the-host",
            tar().file("index.json", index.to_string()).symlink(
                digest(&passwd).replace("sha256:", "blobs/sha256/"),
                "/etc/passwd",
            ),
            "the archive lacks",
        ),
        refused("neither", tar().file("a", ""), "neither an OCI layout"),
        refused(
            "no-image",
            tar().file("manifest.json", "[]"),
            "it holds no image",
        ),
        refused(
            "manifest-json-nested",
            tar().file("manifest.json", "[".repeat(10_000)),
            "manifest.json is nested deeper than json-depth=64 allows",
        ),
        refused(
            "members-of-long-names",
            (0..2200).fold(tar(), |t, i| t.named(format!("{i}{}", "/n".repeat(2000)))),
            "bytes of their names",
        ),
        Case {
            name: "archive-and-garbage",
            content: Content::Archive(
                [
                    gzip(&of(&["l.tar"], "x:1").file("l.tar", &layer).end()),
                    b"xx".to_vec(),
                ]
                .concat(),
            ),
            want: Want::Refused("copy the archive"),
        },
    ]
}

/// A layout as a directory, whose blobs are links to files beside it.
pub(crate) fn directory_with_links(place: &crate::place::Place) -> String {
    let layout = place.dir.join("layout");
    std::fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    let oci = Oci::new(&[honest()]);
    let index = json!({"schemaVersion": 2, "manifests": [oci.top]});
    std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
    for (digest, bytes) in &oci.blobs {
        let name = digest.replace("sha256:", "");
        // The very bytes, beside the layout.
        std::fs::write(place.dir.join(&name), bytes).unwrap();
        let to = format!("../../../{name}");
        std::os::unix::fs::symlink(to, layout.join("blobs/sha256").join(&name)).unwrap();
    }
    layout.to_str().unwrap().to_owned()
}
