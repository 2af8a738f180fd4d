//! Bad networks, redirects, configuration in files, and pushes.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use carob::inside::image::{Blobs, Credentials, Digest, Keyring, Progress, PullOptions, Pushed};
use carob::inside::image::{Reference, Store, push};

use super::proxy::{Proxy, Vice};
use super::{Registry, archive};

/// bcrypt of "secret" at the lowest cost, as htpasswd -nbBC 4 writes it.
const HTPASSWD: &str = "user:$2y$04$gRJ.84AtC.POapWXSHH0V.Q3JVyO/llZo/f1kIfx0XRsxmxE4Ya/m\n";
/// user:secret
const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

/// With no file of this machine's, and no long waits.
fn options(dir: &Path) -> PullOptions {
    let mut o = PullOptions {
        etc: Some(dir.join("etc")),
        ..PullOptions::default()
    };
    o.patience.first_pause = Duration::from_millis(10);
    o.patience.silence = Duration::from_millis(500);
    o
}

fn pull(store: &Store, name: &str, o: &PullOptions) -> carob::Result<carob::inside::image::Image> {
    store.pull(&name.parse::<Reference>().unwrap(), o, &mut |_| {})
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn bad_networks() {
    let registry = Registry::start("bad", None, false);
    registry.push(&archive(&registry.dir), "app:1", &[]);
    let o = options(&registry.dir);
    for (name, vice) in [
        ("cuts", Vice::Cuts),
        ("lies", Vice::LiesInRanges),
        ("trickles", Vice::Trickles),
    ] {
        let proxy = Proxy::start(registry.port, vice);
        let store = registry.store(name);
        let image = pull(&store, &format!("{}/app:1", proxy.address), &o).unwrap();
        let big = image.layers[1].join("srv/big");
        assert_eq!(std::fs::metadata(big).unwrap().len(), 3_000_000, "{name}");
        assert!(proxy.seen("range: bytes=") > 0, "{name}");
    }
}

#[test]
fn redirects_take_no_credentials_along() {
    let registry = Registry::start("redirect", Some(HTPASSWD), false);
    let creds = ["--dest-creds", "user:secret"];
    registry.push(&archive(&registry.dir), "app:1", &creds);
    let storage = Proxy::start(registry.port, Vice::Vouches(BASIC));
    let front = Proxy::start(registry.port, Vice::Redirects(storage.address.clone()));
    let mut o = options(&registry.dir);
    o.credentials = Some(Credentials {
        username: "user".into(),
        password: "secret".into(),
    });
    let name = format!("{}/app:1", front.address);
    pull(&registry.store("a"), &name, &o).unwrap();
    assert!(front.seen("authorization: basic") >= 3);
    assert!(storage.seen("/blobs/") >= 3);
    assert_eq!(storage.seen("authorization"), 0);

    // The same from a Pod's secret, and nothing from one for another path.
    o.credentials = None;
    let secret = |key: &str| {
        let auths = format!(r#"{{"auths":{{"{key}":{{"username":"user","password":"secret"}}}}}}"#);
        Keyring::parse(auths.as_bytes()).unwrap()
    };
    o.secrets = vec![secret(&format!("{}/other", front.address))];
    let e = pull(&registry.store("b"), &name, &o).unwrap_err();
    assert!(e.to_string().contains("401"), "{e}");
    o.secrets.push(secret(&format!("{}/app", front.address)));
    pull(&registry.store("b"), &name, &o).unwrap();
}

#[test]
fn configured_mirrors_and_authorities() {
    let registry = Registry::start("mirror", None, true);
    registry.push(&archive(&registry.dir), "hub/team/app:1", &[]);
    let etc = registry.dir.join("etc");
    let o = options(&registry.dir);
    let at = format!("localhost:{}", registry.port);
    let name = format!("{at}/hub/team/app:1");
    let e = pull(&registry.store("a"), &name, &o).unwrap_err();
    assert!(e.to_string().contains("certificate"), "{e}");

    // Its own CA, where docker and podman look for it.
    let certificate = std::fs::read_to_string(registry.dir.join("ca.pem")).unwrap();
    write(
        &etc.join("docker/certs.d").join(&at).join("ca.crt"),
        &certificate,
    );
    pull(&registry.store("a"), &name, &o).unwrap();

    // A mirror in registries.conf that has it, after one that is not there.
    let conf = etc.join("containers/registries.conf");
    write(
        &conf,
        &format!(
            "[[registry]]\nprefix = \"r.invalid\"\nlocation = \"r.invalid\"\n\
             [[registry.mirror]]\nlocation = \"localhost:1/x\"\n\
             [[registry.mirror]]\nlocation = \"{at}/hub\"\n"
        ),
    );
    let image = pull(&registry.store("b"), "r.invalid/team/app:1", &o).unwrap();
    assert_eq!(image.names, ["r.invalid/team/app:1"]);
    write(
        &etc.join("containers/registries.conf.d/10.conf"),
        "[[registry]]\nprefix = \"r.invalid\"\nblocked = true\n",
    );
    let e = pull(&registry.store("c"), "r.invalid/team/app:1", &o).unwrap_err();
    assert!(e.to_string().contains("blocked"), "{e}");

    // containerd's form, with a path of its own and the CA beside the file.
    std::fs::remove_dir_all(etc.join("docker")).unwrap();
    let hosts = etc.join("containerd/certs.d/s.invalid");
    write(&hosts.join("mine.pem"), &certificate);
    write(
        &hosts.join("hosts.toml"),
        &format!(
            "[host.\"https://{at}/v2/hub\"]\ncapabilities = [\"pull\", \"resolve\"]\n\
             ca = \"mine.pem\"\noverride_path = true\n"
        ),
    );
    let image = pull(&registry.store("d"), "s.invalid/team/app:1", &o).unwrap();
    let digest = image.digest.unwrap();
    pull(
        &registry.store("e"),
        &format!("s.invalid/team/app@{digest}"),
        &o,
    )
    .unwrap();
}

#[test]
fn pushes_what_is_missing() {
    let registry = Registry::start("push", Some(HTPASSWD), false);
    let creds = ["--dest-creds", "user:secret", "--format", "oci"];
    registry.push(&archive(&registry.dir), "one/app:1", &creds);
    let mut o = options(&registry.dir);
    o.credentials = Some(Credentials {
        username: "user".into(),
        password: "secret".into(),
    });
    let at = format!("localhost:{}", registry.port);
    let store = registry.store("a");
    let from = format!("{at}/one/app:1");
    let image = pull(&store, &from, &o).unwrap();

    // To another repository, whose layers the registry has, and to a new tag.
    for (target, mounted) in [("two/app:1", true), ("two/app:2", false)] {
        let mut events = Vec::new();
        let to = format!("{at}/{target}").parse().unwrap();
        let digest = store
            .push(&from, &to, &o, &mut |p| events.push(format!("{p:?}")))
            .unwrap();
        assert_eq!(Some(digest.to_string()), image.digest);
        assert!(
            !events.iter().any(|e| e.starts_with("Layer")),
            "{mounted}: {events:?}"
        );
        assert_eq!(events.iter().filter(|e| e.starts_with("Exists")).count(), 3);
    }
    let again = format!("{at}/two/app@{}", image.digest.unwrap());
    assert_eq!(pull(&registry.store("b"), &again, &o).unwrap().id, image.id);

    let to = format!("{at}/two/app@sha256:{}", "0".repeat(64));
    let wrong = store.push(&from, &to.parse().unwrap(), &o, &mut |_| {});
    assert!(wrong.unwrap_err().to_string().contains("not the one"));
    let nobody = store.push("nobody", &from.parse().unwrap(), &o, &mut |_| {});
    assert_eq!(nobody.unwrap_err().kind(), carob::Kind::NotFound);
}

/// The blobs of an OCI layout.
struct Layout(std::path::PathBuf);

impl Blobs for Layout {
    fn open_blob(&self, digest: &Digest) -> carob::Result<Option<(Box<dyn Read + '_>, u64)>> {
        let file = std::fs::File::open(self.0.join("blobs/sha256").join(digest.hex()))?;
        let size = file.metadata()?.len();
        Ok(Some((Box::new(file), size)))
    }
}

#[test]
fn pushes_bytes_and_pulls_them_again() {
    let registry = Registry::start("bytes", Some(HTPASSWD), false);
    let layout = registry.dir.join("layout");
    let out = std::process::Command::new("skopeo")
        .args(["copy", "--insecure-policy", "-q", &archive(&registry.dir)])
        .arg(format!("oci:{}:1", layout.display()))
        .status();
    assert!(out.unwrap().success());
    let text = std::fs::read(layout.join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let hex = &index["manifests"][0]["digest"].as_str().unwrap()[7..];
    let blobs = layout.join("blobs/sha256");
    let manifest = std::fs::read(blobs.join(hex)).unwrap();

    let mut o = options(&registry.dir);
    o.credentials = Some(Credentials {
        username: "user".into(),
        password: "secret".into(),
    });
    let to: Reference = format!("localhost:{}/a/b:1", registry.port)
        .parse()
        .unwrap();
    let pushed = Pushed {
        manifest: &manifest,
        media_type: "",
        origin: None,
    };
    let send = || {
        let mut kinds = String::new();
        let done = push(&to, &pushed, &Layout(layout.clone()), &o, &mut |p| {
            kinds.push(match p {
                Progress::Pushed { .. } => 'p',
                Progress::Exists { .. } => 'e',
                _ => ' ',
            });
        });
        done.map(|digest| (digest, kinds.replace(' ', "")))
    };
    // A blob that has rotted is found out before its manifest is there.
    let parsed: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let big = blobs.join(&parsed["layers"][1]["digest"].as_str().unwrap()[7..]);
    let good = std::fs::read(&big).unwrap();
    let mut bad = good.clone();
    bad[1000] ^= 1;
    std::fs::write(&big, bad).unwrap();
    let e = send().unwrap_err().to_string();
    assert!(e.contains("another digest"), "{e}");
    std::fs::write(&big, good).unwrap();

    assert_eq!(send().unwrap().1, "epp");
    let (digest, again) = send().unwrap();
    assert_eq!((digest.hex(), again.as_str()), (hex, "eee"));
    let name = format!("{}@{digest}", to.name());
    let image = pull(&registry.store("a"), &name, &o).unwrap();
    assert_eq!(image.config.cmd, ["/bin/x"]);
}
