//! Pulls from Debian's docker-registry on loopback, into which skopeo puts an
//! image. Needs root and the packages docker-registry and skopeo.

mod kept;
mod kill;
mod net;
mod proxy;
mod tls;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use carob::inside::image::{Credentials, Progress, PullOptions, Reference, Store};
use carob::inside::store::Layout;

struct Registry {
    dir: PathBuf,
    port: u16,
    process: Child,
}

impl Registry {
    /// `auth` is a line of an htpasswd file.
    fn start(name: &str, auth: Option<&str>, tls: bool) -> Self {
        Self::start_with(name, auth, |dir| {
            if tls {
                tls::issued_by_a_ca(dir);
            }
            tls
        })
    }

    /// `with_certificate` may put cert.pem and cert-key.pem into the directory, for TLS,
    /// and clients.pem, the CA of the certificates that clients have to have.
    fn start_with(
        name: &str,
        auth: Option<&str>,
        with_certificate: impl FnOnce(&Path) -> bool,
    ) -> Self {
        let dir =
            std::env::temp_dir().join(format!("carob-registry-{name}-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("blobs")).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .unwrap()
            .port();
        let mut config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            dir.join("blobs").display()
        );
        if with_certificate(&dir) {
            let d = dir.display();
            config.push_str(&format!(
                "  tls:\n    certificate: {d}/cert.pem\n    key: {d}/cert-key.pem\n"
            ));
            if dir.join("clients.pem").exists() {
                config.push_str(&format!("    clientcas: [{d}/clients.pem]\n"));
            }
        }
        if let Some(line) = auth {
            std::fs::write(dir.join("htpasswd"), line).unwrap();
            config.push_str(&format!(
                "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
                dir.join("htpasswd").display()
            ));
        }
        std::fs::write(dir.join("config.yml"), config).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry must be installed (Debian's package docker-registry)");
        let registry = Registry { dir, port, process };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !registry.answers() {
            assert!(Instant::now() < deadline, "docker-registry does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        registry
    }

    fn answers(&self) -> bool {
        let Ok(mut s) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return false;
        };
        let _ = s.write_all(b"GET /v2/ HTTP/1.0\r\n\r\n");
        let mut text = String::new();
        s.read_to_string(&mut text).is_ok() && text.starts_with("HTTP/1.")
    }

    fn push(&self, from: &str, to: &str, extra: &[&str]) {
        let out = Command::new("skopeo")
            .args(["copy", "--insecure-policy", "--dest-tls-verify=false", "-q"])
            .args(extra)
            .arg(from)
            .arg(format!("docker://localhost:{}/{to}", self.port))
            .output()
            .expect("skopeo must be installed (Debian's package skopeo)");
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
    }

    fn reference(&self, name: &str) -> Reference {
        format!("localhost:{}/{name}", self.port).parse().unwrap()
    }

    fn store(&self, name: &str) -> Store {
        Store::open(&Layout::new(Some(&self.dir.join(name))).unwrap()).unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A docker-archive of two layers, made with the system's tar and sha256sum.
fn archive(dir: &Path) -> String {
    let sh = |script: &str| {
        let out = Command::new("sh")
            .args(["-ec", script])
            .current_dir(dir)
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    sh(
        "mkdir -p one/etc two/srv; echo hello >one/etc/hello; head -c 3000000 /dev/urandom >two/srv/big",
    );
    sh("ln two/srv/big two/srv/same");
    let one = sh("tar -C one -cf 1.tar . && sha256sum 1.tar | cut -d' ' -f1");
    let two = sh("tar -C two --format=pax -cf 2.tar . && sha256sum 2.tar | cut -d' ' -f1");
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    std::fs::write(
        dir.join("config.json"),
        format!(
            r#"{{"architecture":"{arch}","os":"linux","config":{{"Cmd":["/bin/x"]}},
            "rootfs":{{"type":"layers","diff_ids":["sha256:{one}","sha256:{two}"]}}}}"#
        ),
    )
    .unwrap();
    std::fs::write(
        dir.join("manifest.json"),
        r#"[{"Config":"config.json","RepoTags":null,"Layers":["1.tar","2.tar"]}]"#,
    )
    .unwrap();
    sh("tar -cf image.tar config.json manifest.json 1.tar 2.tar");
    format!("docker-archive:{}", dir.join("image.tar").display())
}

#[test]
fn pulls_what_skopeo_pushed() {
    let registry = Registry::start("plain", None, false);
    let from = archive(&registry.dir);
    registry.push(&from, "team/app:1", &["--format", "oci"]);
    registry.push(&from, "team/app:docker", &["--format", "v2s2"]);
    let zstd = [
        "--format",
        "oci",
        "--dest-compress-format",
        "zstd",
        "--dest-force-compress-format",
    ];
    registry.push(
        &from,
        "team/zstd:1",
        if skopeo_forces() { &zstd } else { &zstd[..4] },
    );

    let store = registry.store("a");
    let options = PullOptions::default();
    let mut events = Vec::new();
    let name = registry.reference("team/app:1");
    let image = store
        .pull(&name, &options, &mut |p| events.push(p))
        .unwrap();
    assert_eq!(image.config.cmd, ["/bin/x"]);
    assert_eq!(
        std::fs::read(image.layers[0].join("etc/hello")).unwrap(),
        b"hello\n"
    );
    assert_eq!(
        std::fs::metadata(image.layers[1].join("srv/same"))
            .unwrap()
            .len(),
        3_000_000
    );
    assert_eq!(image.names, [name.to_string()]);
    assert!(
        events
            .iter()
            .any(|e| matches!(e, Progress::Layer { done, .. } if *done > 2_000_000))
    );
    let unpacked = events
        .iter()
        .filter(|e| matches!(e, Progress::Unpacked { .. }));
    assert_eq!(unpacked.count(), 2);

    // Again, by another tag and by digest: nothing is unpacked twice.
    let mut events = Vec::new();
    let docker = registry.reference("team/app:docker");
    let same = store
        .pull(&docker, &options, &mut |p| events.push(p))
        .unwrap();
    assert_eq!(same.layers, image.layers);
    assert!(
        !events
            .iter()
            .any(|e| matches!(e, Progress::Unpacked { .. }))
    );
    let at = format!("team/app@{}", image.digest.as_deref().unwrap());
    let by_digest = registry.reference(&at);
    let other = registry.store("b");
    assert_eq!(
        other.pull(&by_digest, &options, &mut |_| {}).unwrap().id,
        image.id
    );
    assert!(other.lookup(&by_digest).unwrap().is_some());
    assert!(store.lookup(&by_digest).unwrap().is_some());
    let zstd = registry
        .store("c")
        .pull(&registry.reference("team/zstd:1"), &options, &mut |_| {});
    assert_eq!(zstd.unwrap().size, image.size);

    let e = store
        .pull(&registry.reference("team/app:none"), &options, &mut |_| {})
        .unwrap_err();
    assert_eq!(e.kind(), carob::Kind::Image);
    assert!(
        e.to_string().contains("404") && e.to_string().contains("team/app:none"),
        "{e}"
    );
    let wrong = format!("team/app@sha256:{}", "0".repeat(64));
    store
        .pull(&registry.reference(&wrong), &options, &mut |_| {})
        .unwrap_err();
}

/// Debian 12's skopeo has no --dest-force-compress-format.
fn skopeo_forces() -> bool {
    let help = Command::new("skopeo")
        .args(["copy", "--help"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&help.stdout).contains("dest-force-compress-format")
}

#[test]
fn basic_credentials() {
    // bcrypt of "secret" at the lowest cost, as htpasswd -nbBC 4 writes it.
    let line = "user:$2y$04$gRJ.84AtC.POapWXSHH0V.Q3JVyO/llZo/f1kIfx0XRsxmxE4Ya/m\n";
    let registry = Registry::start("auth", Some(line), false);
    let from = archive(&registry.dir);
    registry.push(&from, "app:1", &["--dest-creds", "user:secret"]);
    let store = registry.store("a");
    let name = registry.reference("app:1");
    let ask = |credentials: Option<Credentials>| {
        let options = PullOptions {
            credentials,
            ..PullOptions::default()
        };
        store.pull(&name, &options, &mut |_| {})
    };
    let with = |password: &str| {
        ask(Some(Credentials {
            username: "user".into(),
            password: password.into(),
        }))
    };
    assert_eq!(with("secret").unwrap().config.cmd, ["/bin/x"]);
    for e in [with("wrong").unwrap_err(), ask(None).unwrap_err()] {
        assert!(e.to_string().contains("401"), "{e}");
        assert!(e.get_hint().is_some() && !e.to_string().contains("wrong"));
    }

    // The debug log has each request, and nothing of what it carries.
    let text = format!(
        r#"{{"auths":{{"{}":{{"username":"user","password":"secret"}}}}}}"#,
        name.registry()
    );
    std::fs::write(registry.dir.join("config.json"), text).unwrap();
    let mut pull = Command::new(env!("CARGO_BIN_EXE_carob"));
    pull.args(["--log-level", "trace", "pull", &name.to_string(), "--root"])
        .arg(registry.dir.join("root"))
        .env("DOCKER_CONFIG", &registry.dir);
    let out = pull.output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    let request = format!("GET http://{}/v2/app/manifests/1", name.registry());
    assert!(said.contains(&format!("{request}: 401")), "{said}");
    assert!(said.contains(&format!("{request}: 200")), "{said}");
    assert!(
        said.contains("image::layer::fetch: layer sha256:"),
        "{said}"
    );
    // base64 of user:secret
    for secret in ["secret", "dXNlcjpzZWNyZXQ", "uthorization"] {
        assert!(!said.contains(secret), "{secret}: {said}");
    }
}

#[test]
fn certificates_are_verified() {
    let registry = Registry::start("tls", None, true);
    registry.push(&archive(&registry.dir), "app:1", &[]);
    let store = registry.store("a");
    let name = registry.reference("app:1");
    let ask = |insecure| {
        let options = PullOptions {
            insecure,
            ..PullOptions::default()
        };
        store.pull(&name, &options, &mut |_| {})
    };
    // Loopback is asked in plain HTTP first, and then as strictly as any other.
    for insecure in [None, Some(false)] {
        let e = ask(insecure).unwrap_err();
        assert!(e.to_string().contains("certificate"), "{e}");
        assert!(e.get_hint().unwrap().contains("SSL_CERT_FILE"));
    }
    assert_eq!(ask(Some(true)).unwrap().config.cmd, ["/bin/x"]);
}

#[test]
fn nobody_there() {
    let dir = std::env::temp_dir().join(format!("carob-registry-none-{}", std::process::id()));
    let store = Store::open(&Layout::new(Some(&dir)).unwrap()).unwrap();
    let name: Reference = "localhost:1/app:1".parse().unwrap();
    let e = store
        .pull(&name, &PullOptions::default(), &mut |_| {})
        .unwrap_err();
    assert!(
        e.to_string().contains("localhost:1") && e.to_string().contains("refused"),
        "{e}"
    );
    assert!(!dir.exists(), "a pull that asked in vain leaves nothing");
}
