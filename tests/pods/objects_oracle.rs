//! kubectl as an oracle: what `create configmap`, `secret` and `namespace` make of the same
//! words, and whether each takes what the other has printed.

use std::path::Path;
use std::process::Command;

use crate::root::{Ran, Root};

fn kubectl(dir: &Path, args: &[&str]) -> Ran {
    let ran = Command::new("kubectl")
        .args(args)
        .current_dir(dir)
        .env("KUBECONFIG", "/dev/null")
        .env("FROM_HERE", "there")
        .env_remove("FROM_NOWHERE")
        .output();
    Ran::from(ran.expect("kubectl must be installed (hack/setup test)"))
}

fn carob(root: &Root, dir: &Path, args: &[&str]) -> Ran {
    let mut command = root.command(args);
    command
        .current_dir(dir)
        .env("FROM_HERE", "there")
        .env_remove("FROM_NOWHERE");
    root.feed_to(command, "")
}

/// What newer kubectls leave out.
fn without_null(text: &str) -> String {
    let text = text.replace(r#","creationTimestamp":null"#, "");
    let lines = text
        .lines()
        .filter(|l| l.trim() != "creationTimestamp: null");
    lines.map(|l| format!("{l}\n")).collect()
}

/// Files that the cases name.
fn make_files(dir: &Path) {
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes).unwrap();
    std::fs::create_dir_all(dir.join("d/below")).unwrap();
    write("d/one", b"1\n");
    write("d/two.conf", b"a: b\n");
    write("d/below/none", b"x");
    std::os::unix::fs::symlink("one", dir.join("d/link")).unwrap();
    write(
        "text",
        b"first\n  second # no comment\n\ttab\nlast without an end",
    );
    write("blanks", b" leads\ntrails \n\n\n");
    write("binary", b"\xff\xfe\x00\x01");
    write("empty", b"");
    write("unicode", "gr\u{fc}n \u{2028} \u{1f600}\n".as_bytes());
    write(
        "e.env",
        b"\xef\xbb\xbfA=1\r\n# comment\n\n   B= two words \nFROM_HERE\nFROM_NOWHERE\nC=a=b\nD=\n",
    );
    write("f.env", b"E=\"quoted\"\nF='x'\n");
    let openssl = |args: &[&str]| {
        let ran = Command::new("openssl").args(args).current_dir(dir).output();
        let ran = ran.expect("openssl must be installed (hack/setup test)");
        assert!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
    };
    for name in ["web", "other"] {
        let subject = format!("/CN={name}");
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &subject,
            "-keyout",
            &format!("{name}.key"),
            "-out",
            &format!("{name}.crt"),
        ]);
    }
}

/// Both take them, and print the same.
const SAME: &[&str] = &[
    "configmap c",
    "cm c -n shop",
    "configmap c --from-literal=a=1",
    "configmap c --from-literal=a=1 --from-literal=b=true --from-literal=c=",
    "configmap c --from-literal=a=b=c --append-hash",
    "configmap c --from-literal=html=<a>&</a> --append-hash --save-config",
    "configmap c --from-file=text",
    "configmap c --from-file=blanks",
    "configmap c --from-file=key=text",
    "configmap c --from-file=text,blanks",
    "configmap c --from-file=d",
    "configmap c --from-file=d --from-literal=x=y --append-hash",
    "configmap c --from-file=binary",
    "configmap c --from-file=binary --from-file=text --append-hash --save-config",
    "configmap c --from-file=empty",
    "configmap c --from-file=unicode --append-hash",
    "configmap c --from-env-file=e.env",
    "configmap c --from-env-file=f.env --append-hash",
    "configmap c --append-hash",
    "configmap c --from-literal=a=1 --validate=false",
    "secret generic s",
    "secret generic s --from-literal=password=hunter2",
    "secret generic s --from-literal=password=hunter2 --type=example.com/own",
    "secret generic s --from-literal=username=u --from-literal=password=p --type=kubernetes.io/basic-auth --append-hash",
    "secret generic s --from-file=ssh-privatekey=text --type=kubernetes.io/ssh-auth",
    "secret generic s --from-file=d --from-file=binary -n shop",
    "secret generic s --from-file=empty --append-hash --save-config",
    "secret generic s --from-env-file=e.env --append-hash",
    "secret docker-registry r --docker-username=u --docker-password=p",
    "secret docker-registry r --docker-username=u --docker-password=<p>&\u{2028} --docker-email=e@x.org --docker-server=localhost:5000 --append-hash",
    "secret docker-registry r --docker-username=u --docker-password=p -n shop --save-config",
    "secret tls t --cert=web.crt --key=web.key",
    "secret tls t --cert=web.crt --key=web.key --append-hash",
    "namespace shop",
    "ns shop --save-config",
];

/// Neither takes them.
const REFUSED: &[&str] = &[
    "configmap",
    "configmap a b",
    "configmap c --from-literal=a",
    "configmap c --from-literal==a",
    "configmap c --from-literal=a/b=c",
    "configmap c --from-literal=..=c",
    "configmap c --from-literal=a=1 --from-literal=a=2",
    "configmap c --from-file=text --from-literal=text=2",
    "configmap c --from-file=missing",
    "configmap c --from-file=key=d",
    "configmap c --from-file==text",
    "configmap c --from-file=key=",
    "configmap c --from-file=a=b=text",
    "configmap c --from-env-file=d",
    "configmap c --from-env-file=text",
    "configmap c --from-env-file=e.env --from-literal=a=b",
    "configmap c --from-env-file=e.env --from-file=text",
    "secret generic",
    "secret generic s --from-literal=a",
    "secret docker-registry r",
    "secret docker-registry r --docker-username=u",
    "secret tls t --cert=web.crt",
    "secret tls t --cert=web.crt --key=other.key",
    "secret tls t --cert=text --key=web.key",
    "secret tls t --cert=web.crt --key=text",
    "namespace",
];

fn words(line: &'static str) -> Vec<&'static str> {
    let words = ["create"].into_iter().chain(line.split(' '));
    words.chain(["--dry-run=client"]).collect()
}

#[test]
fn create_prints_what_kubectl_prints() {
    let root = Root::empty();
    let dir = root.dir().join("files");
    std::fs::create_dir(&dir).unwrap();
    make_files(&dir);
    let mut wrong = Vec::new();
    for &line in SAME {
        for output in [&["-o", "yaml"][..], &["-o", "name"], &[]] {
            let words = [&words(line)[..], output].concat();
            let theirs = without_null(&kubectl(&dir, &words).ok());
            let ours = carob(&root, &dir, &words);
            if ours.code != 0 || without_null(&ours.stdout) != theirs {
                let (out, err) = (ours.stdout, ours.stderr);
                wrong.push(format!("{words:?}:\n{err}{out}\nand kubectl:\n{theirs}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn create_refuses_what_kubectl_refuses() {
    let root = Root::empty();
    let dir = root.dir().join("files");
    std::fs::create_dir(&dir).unwrap();
    make_files(&dir);
    let mut wrong = Vec::new();
    for &line in REFUSED {
        let theirs = kubectl(&dir, &words(line));
        let ours = carob(&root, &dir, &words(line));
        if theirs.code == 0 || ours.code == 0 {
            wrong.push(format!(
                "{line}: kubectl {}, carob {}",
                theirs.code, ours.code
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// kubectl's own rules are asked without a server: it reads what it is given, and sets a
/// label in it.
#[test]
fn each_takes_what_the_other_prints() {
    let root = Root::empty();
    let dir = root.dir().join("files");
    std::fs::create_dir(&dir).unwrap();
    make_files(&dir);
    for &line in SAME {
        let words = [&words(line)[..], &["-o", "yaml"]].concat();
        let theirs = kubectl(&dir, &words).ok();
        let applied = root.apply(&theirs).ok();
        assert!(applied.ends_with(" created\n"), "{line}: {applied}");
        let name = applied.trim_end().trim_end_matches(" created");
        let (kind, name) = name.split_once('/').unwrap();
        let namespace = match line.contains("-n shop") {
            true => "shop",
            false => "default",
        };
        let kept = ["get", kind, name, "-n", namespace, "-o", "yaml"];
        std::fs::write(dir.join("kept.yaml"), root.carob(&kept).ok()).unwrap();
        let label = ["label", "--local", "-f", "kept.yaml", "x=y", "-o", "yaml"];
        let labelled = kubectl(&dir, &label).ok();
        assert_eq!(
            root.apply(&labelled).ok(),
            format!("{kind}/{name} configured\n"),
            "{line}"
        );
        root.carob(&["delete", kind, name, "-n", namespace]).ok();
    }
}
