//! Certificates of registries, made by openssl: which are trusted, from which files, and
//! what is said of the others.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use carob::inside::image::{PullOptions, Store};

use super::{Registry, archive};

const EC: &[&str] = &[
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
];
const FOR_LOCALHOST: &[&str] = &[
    "-subj",
    "/CN=localhost",
    "-addext",
    "subjectAltName=DNS:localhost",
];

fn openssl(dir: &Path, parts: &[&[&str]]) {
    let out = Command::new("openssl")
        .args(parts.concat())
        .current_dir(dir)
        .output()
        .expect("openssl must be installed");
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{parts:?}: {text}");
}

/// NAME.pem and NAME-key.pem, of `openssl req -x509`.
fn make(dir: &Path, name: &str, parts: &[&[&str]]) {
    let (certificate, key) = (format!("{name}.pem"), format!("{name}-key.pem"));
    let files: &[&str] = &["-out", &certificate, "-keyout", &key];
    let head: &[&[&str]] = &[&["req", "-x509", "-days", "2"], EC, files];
    openssl(dir, &[head, parts].concat());
}

/// cert.pem, issued by the CA of ca.pem.
pub(crate) fn issued_by_a_ca(dir: &Path) {
    make(dir, "ca", &[&["-subj", "/CN=test CA"]]);
    let signed = ["-CA", "ca.pem", "-CAkey", "ca-key.pem"];
    let leaf = ["-addext", "basicConstraints=critical,CA:FALSE"];
    make(dir, "cert", &[&signed, FOR_LOCALHOST, &leaf]);
}

/// cert.pem as manuals have it: RSA, self-signed and, by openssl's default, a CA's.
fn self_signed(dir: &Path) -> bool {
    let rsa: &[&str] = &["-newkey", "rsa:2048", "-nodes", "-days", "2"];
    let files: &[&str] = &["-out", "cert.pem", "-keyout", "cert-key.pem"];
    openssl(dir, &[&["req", "-x509"], rsa, files, FOR_LOCALHOST]);
    true
}

/// cert.pem, self-signed, which expired in 2021.
fn expired(dir: &Path) {
    std::fs::create_dir(dir.join("issued")).unwrap();
    std::fs::write(dir.join("index"), "").unwrap();
    let settings = "[ca]\ndefault_ca = x\n[x]\ndatabase = index\nnew_certs_dir = issued\n\
         rand_serial = yes\ndefault_md = sha256\npolicy = p\nx509_extensions = e\n\
         [p]\ncommonName = supplied\n\
         [e]\nbasicConstraints = CA:TRUE\nsubjectAltName = DNS:localhost\n";
    std::fs::write(dir.join("ca.cnf"), settings).unwrap();
    let request: &[&str] = &["-out", "request.pem", "-keyout", "cert-key.pem"];
    openssl(dir, &[&["req", "-new"], EC, request, FOR_LOCALHOST]);
    let period = [
        "-startdate",
        "20200101000000Z",
        "-enddate",
        "20210101000000Z",
    ];
    let sign = "ca -batch -selfsign -config ca.cnf -keyfile cert-key.pem -in request.pem -notext \
                -out cert.pem";
    let sign: Vec<&str> = sign.split_whitespace().collect();
    openssl(dir, &[&sign, &period]);
}

/// Of a registry that is at localhost, with `etc` in place of /etc.
struct Client<'a> {
    registry: &'a Registry,
    etc: PathBuf,
}

impl<'a> Client<'a> {
    fn new(registry: &'a Registry, name: &str) -> Self {
        let etc = registry.dir.join(name);
        std::fs::create_dir_all(&etc).unwrap();
        Client { registry, etc }
    }

    /// Trusts what is in `pem`, by the file `at` below `etc`.
    fn trusting(self, at: &str, pem: &str) -> Self {
        let at = at.replace("HOST", &format!("localhost:{}", self.registry.port));
        let path = self.etc.join(at);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(self.registry.dir.join(pem), path).unwrap();
        self
    }

    fn store(&self) -> Store {
        let name = self.etc.file_name().unwrap().to_str().unwrap();
        self.registry.store(&format!("of-{name}"))
    }

    fn options(&self) -> PullOptions {
        PullOptions {
            etc: Some(self.etc.clone()),
            ..PullOptions::default()
        }
    }

    fn pull(&self) -> carob::Result<carob::inside::image::Image> {
        let name = self.registry.reference("app:1");
        self.store().pull(&name, &self.options(), &mut |_| {})
    }

    /// The text and the hint of the error that a pull ends with.
    fn refused(&self) -> (String, String) {
        let e = self.pull().unwrap_err();
        let text = e.to_string();
        let registry = format!("registry localhost:{}: https://", self.registry.port);
        assert!(text.contains(&registry), "{text}");
        assert!(!text.contains("Other("), "{text}");
        (text, e.get_hint().unwrap_or_default().to_owned())
    }
}

#[test]
fn certs_d_trusts_a_self_signed_ca_as_the_registry_itself() {
    let registry = Registry::start_with("self-signed", None, self_signed);
    registry.push(&archive(&registry.dir), "app:1", &[]);
    for (name, at) in [
        ("containers", "containers/certs.d/HOST/ca.crt"),
        ("docker", "docker/certs.d/HOST/any.crt"),
        ("containerd", "containerd/certs.d/HOST/ca.crt"),
    ] {
        let client = Client::new(&registry, name).trusting(at, "cert.pem");
        let image = client.pull().unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(image.config.cmd, ["/bin/x"]);
        let to = registry.reference(&format!("{name}:2"));
        client
            .store()
            .push(&image.names[0], &to, &client.options(), &mut |_| {})
            .unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    // containerd's file names it, for a mirror.
    let client = Client::new(&registry, "hosts").trusting("mine.pem", "cert.pem");
    let hosts = client.etc.join("containerd/certs.d/s.invalid/hosts.toml");
    std::fs::create_dir_all(hosts.parent().unwrap()).unwrap();
    let (port, ca) = (registry.port, client.etc.join("mine.pem"));
    let text = format!("[host.\"https://localhost:{port}\"]\nca = {ca:?}\n");
    std::fs::write(hosts, text).unwrap();
    let name = "s.invalid/app:1".parse().unwrap();
    client
        .store()
        .pull(&name, &client.options(), &mut |_| {})
        .unwrap();

    // By another name than it has, the same certificate is refused.
    let client = Client::new(&registry, "by-address").trusting(
        &format!("docker/certs.d/127.0.0.1:{port}/ca.crt"),
        "cert.pem",
    );
    let name = format!("127.0.0.1:{port}/app:1").parse().unwrap();
    let e = client
        .store()
        .pull(&name, &client.options(), &mut |_| {})
        .unwrap_err();
    let expected = "its certificate is for localhost, not for 127.0.0.1";
    assert!(e.to_string().contains(expected), "{e}");
    let hint = e.get_hint().unwrap();
    assert!(hint.contains("subjectAltName=IP:127.0.0.1"), "{hint}");
}

#[test]
fn ssl_cert_file_trusts_a_self_signed_ca_as_the_registry_itself() {
    let registry = Registry::start_with("ssl-cert-file", None, self_signed);
    registry.push(&archive(&registry.dir), "app:1", &[]);
    make(&registry.dir, "other", &[FOR_LOCALHOST]);
    let run = |file: &str, args: &[&str]| -> Output {
        Command::new(env!("CARGO_BIN_EXE_carob"))
            .arg("--root")
            .arg(registry.dir.join("root"))
            .args(args)
            .env("SSL_CERT_FILE", registry.dir.join(file))
            .output()
            .unwrap()
    };
    let text = |out: &Output| String::from_utf8_lossy(&out.stderr).into_owned();
    let image = registry.reference("app:1").to_string();

    let out = run("other.pem", &["pull", &image]);
    let said = text(&out);
    assert_eq!(out.status.code(), Some(8), "{said}");
    assert!(said.contains("self-signed"), "{said}");
    assert!(
        said.contains(&format!("{}/other.pem", registry.dir.display())),
        "{said}"
    );

    // A bundle of several.
    let both = ["other.pem", "cert.pem"].map(|f| std::fs::read_to_string(registry.dir.join(f)));
    let both = both.map(Result::unwrap).concat();
    std::fs::write(registry.dir.join("bundle.pem"), both).unwrap();
    let out = run("bundle.pem", &["pull", &image]);
    assert!(out.status.success(), "{}", text(&out));
    let to = registry.reference("app:2").to_string();
    let out = run("cert.pem", &["push", &image, &to]);
    assert!(out.status.success(), "{}", text(&out));
}

/// Each certificate is trusted as its case says, and refused nevertheless.
#[test]
fn other_certificates_are_refused_with_their_cause() {
    type Make = fn(&Path);
    let other_name: Make = |dir| {
        let san = [
            "-subj",
            "/CN=x",
            "-addext",
            "subjectAltName=DNS:a.invalid,DNS:b.invalid",
        ];
        make(dir, "cert", &[&san]);
    };
    let no_name: Make = |dir| make(dir, "cert", &[&["-subj", "/CN=localhost"]]);
    let client_only: Make = |dir| {
        let eku = ["-addext", "extendedKeyUsage=clientAuth"];
        make(dir, "cert", &[FOR_LOCALHOST, &eku]);
    };
    // The trusted one has the same subject, names and kind of key.
    let same_subject: Make = |dir| {
        make(dir, "cert", &[FOR_LOCALHOST]);
        make(dir, "trusted", &[FOR_LOCALHOST]);
    };
    let same_subject_no_ca: Make = |dir| {
        let leaf = ["-addext", "basicConstraints=critical,CA:FALSE"];
        make(dir, "cert", &[FOR_LOCALHOST, &leaf]);
        make(dir, "trusted", &[FOR_LOCALHOST, &leaf]);
    };
    // A CA that a trusted one has issued, in place of a server's certificate.
    let intermediate: Make = |dir| {
        make(dir, "trusted", &[&["-subj", "/CN=root"]]);
        let signed = ["-CA", "trusted.pem", "-CAkey", "trusted-key.pem"];
        make(dir, "cert", &[&signed, FOR_LOCALHOST]);
    };
    let unknown_ca: Make = |dir| {
        issued_by_a_ca(dir);
        make(dir, "trusted", &[&["-subj", "/CN=another CA"]]);
    };
    for (name, made, trusted, text, hint) in [
        (
            "other-name",
            other_name,
            "cert.pem",
            "its certificate is for a.invalid, b.invalid, not for localhost",
            "subjectAltName=DNS:localhost",
        ),
        (
            "no-name",
            no_name,
            "cert.pem",
            "has no subjectAltName",
            "subjectAltName=DNS:localhost",
        ),
        (
            "expired",
            expired,
            "cert.pem",
            "has expired on 2021-01-01T00:00:00Z",
            "clock says 20",
        ),
        (
            "client-only",
            client_only,
            "cert.pem",
            "is not for servers",
            "for servers",
        ),
        (
            "same-subject",
            same_subject,
            "trusted.pem",
            "is self-signed, and none of those",
            "docker/certs.d/",
        ),
        (
            "same-subject-no-ca",
            same_subject_no_ca,
            "trusted.pem",
            "is not signed with the key",
            "docker/certs.d/",
        ),
        (
            "intermediate",
            intermediate,
            "trusted.pem",
            "is a CA's (CA:TRUE)",
            "CA:FALSE",
        ),
        (
            "unknown-ca",
            unknown_ca,
            "trusted.pem",
            "issued by a CA that is not trusted here",
            "docker/certs.d/",
        ),
    ] {
        let registry = Registry::start_with(name, None, |dir| {
            made(dir);
            true
        });
        let client = Client::new(&registry, "etc").trusting("docker/certs.d/HOST/ca.crt", trusted);
        let (said, hinted) = client.refused();
        assert!(said.contains(text), "{name}: {said}");
        assert!(hinted.contains(hint), "{name}: {hinted}");
    }
}

#[test]
fn an_untrusted_self_signed_ca_is_refused_with_the_files_that_are_read() {
    let registry = Registry::start_with("untrusted", None, self_signed);
    let (text, hint) = Client::new(&registry, "etc").refused();
    assert!(text.contains("is self-signed, and none of those"), "{text}");
    let put = format!("/etc/containers/certs.d/localhost:{}/ca.crt", registry.port);
    assert!(hint.contains(&put), "{hint}");
    let save = format!("openssl s_client -connect localhost:{} ", registry.port);
    assert!(hint.contains(&save), "{hint}");
    assert!(hint.contains("trusted are those in: "), "{hint}");
}

/// On loopback plain HTTP is tried first, and OpenSSL closes the connection then.
#[test]
fn the_certificate_is_told_of_and_not_that_plain_http_failed() {
    let registry = Registry::start_with("closes", None, self_signed);
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .unwrap()
        .port();
    let mut server = Command::new("openssl")
        .args([
            "s_server",
            "-quiet",
            "-cert",
            "cert.pem",
            "-key",
            "cert-key.pem",
        ])
        .args(["-accept", &format!("127.0.0.1:{port}")])
        .current_dir(&registry.dir)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert_eq!(
            server.try_wait().unwrap(),
            None,
            "openssl s_server has ended"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let name = format!("localhost:{port}/app:1").parse().unwrap();
    let pulled = registry
        .store("of-closes")
        .pull(&name, &PullOptions::default(), &mut |_| {});
    server.kill().unwrap();
    server.wait().unwrap();
    let text = pulled.unwrap_err().to_string();
    assert!(text.contains("is self-signed, and none of those"), "{text}");
}

#[test]
fn client_certificates_are_shown_and_asked_for() {
    let registry = Registry::start_with("clients", None, |dir| {
        issued_by_a_ca(dir);
        make(dir, "clients", &[&["-subj", "/CN=CA of clients"]]);
        let signed = ["-CA", "clients.pem", "-CAkey", "clients-key.pem"];
        let leaf = [
            "-subj",
            "/CN=client",
            "-addext",
            "basicConstraints=CA:FALSE",
        ];
        make(dir, "client", &[&signed, &leaf]);
        make(dir, "stranger", &[&["-subj", "/CN=stranger"]]);
        true
    });
    let of = |name| Client::new(&registry, name).trusting("docker/certs.d/HOST/ca.crt", "ca.pem");
    let with = |name, certificate, key| {
        of(name)
            .trusting("docker/certs.d/HOST/me.cert", certificate)
            .trusting("docker/certs.d/HOST/me.key", key)
    };
    let (text, hint) = of("none").refused();
    assert!(text.contains("ends TLS with the alert"), "{text}");
    assert!(hint.contains("client.cert and client.key"), "{hint}");
    let (text, hint) = with("stranger", "stranger.pem", "stranger-key.pem").refused();
    assert!(text.contains("ends TLS with the alert"), "{text}");
    assert!(
        hint.contains("does not take") && hint.contains("me.cert"),
        "{hint}"
    );
    let e = with("mixed", "client.pem", "stranger-key.pem")
        .pull()
        .unwrap_err();
    assert!(e.to_string().contains("me.key: "), "{e}");

    // It lets the client in, and has no such image.
    let e = with("client", "client.pem", "client-key.pem")
        .pull()
        .unwrap_err();
    assert!(e.to_string().contains("404"), "{e}");
}
