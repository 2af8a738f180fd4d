//! The Pod of an init container, a reader and a renewer, from a registry on
//! localhost:5000, as its manifest fixes it. So each test has a network of its
//! own: its thread and the processes it starts are in a network namespace where
//! nobody else has that port.

use std::net::{IpAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

use crate::root::{Root, images, until};

const IMAGES: [(&str, &str); 3] = [
    ("kubernetes-vault-init", "0.5.0"),
    ("kubernetes-vault-renew", "0.5.0"),
    ("chatbot", "1.0.0"),
];

fn run(command: &mut Command) {
    let out = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        out.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

struct Registry {
    process: Child,
    dir: PathBuf,
}

impl Registry {
    /// On port 5000, with the three images. `auth` is a line of an htpasswd file, of
    /// a user named `user` whose password is `secret`.
    fn start(name: &str, auth: Option<&str>) -> Self {
        let dir = std::env::temp_dir().join(format!("carob-chatbot-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let config = dir.join("config.yml");
        let mut text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '127.0.0.1:5000'}}\n",
            dir.join("blobs").display()
        );
        let mut credentials: &[&str] = &[];
        if let Some(line) = auth {
            let passwords = dir.join("htpasswd");
            std::fs::write(&passwords, line).unwrap();
            let passwords = passwords.display();
            text += &format!("auth: {{htpasswd: {{realm: test, path: {passwords}}}}}\n");
            credentials = &["--dest-creds", "user:secret"];
        }
        std::fs::write(&config, text).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry must be installed (Debian's package docker-registry)");
        let registry = Registry { process, dir };
        until(|| TcpStream::connect(("127.0.0.1", 5000))).expect("docker-registry listens");
        for (image, tag) in IMAGES {
            let from = images().join(format!("{image}.tar"));
            run(Command::new("skopeo")
                .args(["copy", "-q", "--insecure-policy", "--dest-tls-verify=false"])
                .args(credentials)
                .arg(format!("oci-archive:{}", from.display()))
                .arg(format!("docker://localhost:5000/{image}:{tag}")));
        }
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn generation(root: &Root) -> u32 {
    let token = root
        .carob(&[
            "exec",
            "chatbot-pod",
            "-c",
            "chatbot",
            "--",
            "cat",
            "/var/run/secrets/boostport.com/vault-token",
        ])
        .ok();
    let rest = token.strip_prefix("generation=").expect("a token");
    assert!(
        rest.ends_with(" role=role-0001 name=chatbot.example.internal\n"),
        "{token}"
    );
    rest.split(' ').next().unwrap().parse().unwrap()
}

fn runs_as_it_stands(name: &str, manifest: &Path) {
    unshare(CloneFlags::CLONE_NEWNET).expect("unshare(CLONE_NEWNET)");
    run(Command::new("ip").args(["link", "set", "lo", "up"]));
    let _registry = Registry::start(name, None);
    let root = Root::empty();
    let file = manifest.to_str().unwrap();
    assert_eq!(
        root.carob(&["apply", "-f", file]).ok(),
        "pod/chatbot-pod created\n"
    );
    root.carob(&[
        "wait",
        "pod/chatbot-pod",
        "--for=condition=Ready",
        "--timeout=10s",
    ])
    .ok();
    let table = root.carob(&["get", "pods"]).ok();
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..4], ["chatbot-pod", "2/2", "Running", "0"]);

    let log = root.carob(&["logs", "chatbot-pod", "-c", "install"]).ok();
    assert!(log.contains("vault-token as uid 1999"), "{log}");
    let init = ".status.initContainerStatuses[0].state.terminated.reason";
    assert_eq!(root.field("chatbot-pod", init), "Completed");

    let first = generation(&root);
    until(|| match generation(&root) {
        later if later > first => Ok(()),
        same => Err(same),
    })
    .expect("the token is renewed");
    until(|| {
        let log = root.carob(&["logs", "chatbot-pod", "-c", "chatbot"]).ok();
        match log.contains(&format!("chatbot: generation={} ", first + 1)) {
            true => Ok(()),
            false => Err(log),
        }
    })
    .expect("the chatbot reads what is renewed");
    let ip: IpAddr = root.field("chatbot-pod", ".status.podIP").parse().unwrap();
    TcpStream::connect((ip, 8080)).expect("the chatbot serves");

    // Both end on TERM, so that the 30 s of grace are not waited for.
    let asked = Instant::now();
    root.carob(&["delete", "-f", file]).ok();
    assert!(
        asked.elapsed() < crate::root::slack(Duration::from_secs(3)),
        "{:?}",
        asked.elapsed()
    );
    root.carob(&["get", "pod", "chatbot-pod"])
        .fails(4, "not found");
    // The root's own things go with its last monitor, just after the Pod.
    let left = until(|| match root.left() {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    });
    assert_eq!(left, Ok(()));
    let links = Command::new("ip").args(["-o", "link"]).output().unwrap();
    let links = String::from_utf8(links.stdout).unwrap();
    assert!(!links.contains("cb"), "{links}");
}

const HTPASSWD: &str = "user:$2y$04$gRJ.84AtC.POapWXSHH0V.Q3JVyO/llZo/f1kIfx0XRsxmxE4Ya/m\n";

/// A v1 Secret as `kubectl create secret docker-registry` makes it.
fn pull_secret(password: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: regcred}}\n\
         type: kubernetes.io/dockerconfigjson\nstringData:\n  .dockerconfigjson: |\n    \
         {{\"auths\": {{\"localhost:5000\": {{\"username\": \"user\", \"password\": \"{password}\"}}}}}}\n"
    )
}

#[test]
fn a_pull_secret_beside_its_pod() {
    unshare(CloneFlags::CLONE_NEWNET).expect("unshare(CLONE_NEWNET)");
    run(Command::new("ip").args(["link", "set", "lo", "up"]));
    let _registry = Registry::start("secret", Some(HTPASSWD));
    let root = Root::empty();
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: private}\nspec:\n  \
               imagePullSecrets: [{name: regcred}]\n  containers:\n  - name: app\n    \
               image: localhost:5000/chatbot:1.0.0\n    command: [sleep, \"1000\"]\n";
    // Without it, and with a wrong one.
    let alone = root.apply(pod);
    assert!(alone.stderr.contains("401"), "{alone:?}");
    let events = root.carob(&["events", "--for", "pod/private"]).ok();
    assert!(
        events.contains("FailedToRetrieveImagePullSecret"),
        "{events}"
    );
    assert!(
        events.contains("called regcred in namespace default"),
        "{events}"
    );
    root.carob(&["delete", "pod", "private", "--now"]).ok();
    let wrong = root.apply(&(pull_secret("wrong") + pod));
    assert!(wrong.stderr.contains("401"), "{wrong:?}");

    // Another one is for the next try, after its 10 s, without a new Pod.
    let right = pull_secret("secret") + pod;
    let applied = root.apply(&right);
    let said = "secret/regcred configured\npod/private unchanged\n";
    assert_eq!(applied.stdout, said, "{applied:?}");
    let ready = [
        "wait",
        "pod/private",
        "--for=condition=Ready",
        "--timeout=40s",
    ];
    root.carob(&ready).ok();
    let said = "secret/regcred unchanged\npod/private unchanged\n";
    assert_eq!(root.apply(&right).ok(), said);

    let shown = root.carob(&["get", "pod", "private", "-o", "yaml"]).ok()
        + &root.carob(&["describe", "pod", "private"]).ok();
    assert!(shown.contains("regcred") && !shown.contains("dockerconfigjson"));
    root.carob(&["delete", "pod", "private", "--now"]).ok();
}

#[test]
fn our_own_manifest() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    runs_as_it_stands("own", &here.join("tests/pods/chatbot.yaml"));
}

/// The manifest that lies beside the checkout, where there is one.
#[test]
fn the_manifest_beside_the_repository() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/chatbot-pod.yaml");
    if beside.exists() {
        runs_as_it_stands("beside", &beside);
    }
}
