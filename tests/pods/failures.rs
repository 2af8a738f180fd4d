//! Failures that users meet, and what carob says of each.
//!
//! `failures/*.txt` is a table. A case begins with its name. The command follows, without
//! `carob --root DIR`, then what its standard input is, then the exit code, then parts of
//! what it prints:
//!
//! ```text
//! == a volume's name is misspelt
//! $ apply -f -
//! apiVersion: v1
//! ...
//! -- 3
//! Not found: "dta": did you mean "data"?
//! ```
//!
//! A line `% NAME` above the command names what the machine is for it: see [`PLACES`].
//!
//! `-- N` is the command's exit code. Each line below is a part of standard error or output: the cause,
//! the place, and, where there is one, the command or the words that mend it. A case without
//! such lines makes what later cases use.
//!
//! The cases of a file share a root and run in their order: one may use the Pods of those
//! before it. `DIR/` is the root's own directory, `BUSY` the number of a port of this machine
//! that this test listens on, `REGISTRY` that of a registry that knows no image,
//! `BUSYBOX` the archive of the image that is used.
//! `apply --timeout=1s` waits longer on a slow machine.
//!
//! Elsewhere are the failures of TLS (tests/registry/tls.rs), and of what is looked at or
//! deleted on a full disk or with read-only cgroups, which works (full.rs).

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::root::{Root, slack};

const FILES: &[(&str, &str)] = &[
    ("manifests", include_str!("failures/manifests.txt")),
    ("programs", include_str!("failures/programs.txt")),
    ("pods", include_str!("failures/pods.txt")),
    ("verbs", include_str!("failures/verbs.txt")),
    ("images", include_str!("failures/images.txt")),
    ("machines", include_str!("failures/machines.txt")),
];

/// Names of `%` lines, and the shell that goes before `"$@"`, which is the whole command. In
/// mount and network namespaces of its own, which end with it; `$DIR` is the root's directory.
const PLACES: &[(&str, &str)] = &[
    (
        "as user 1000",
        "exec setpriv --reuid=1000 --clear-groups \"$@\"",
    ),
    (
        "without CAP_SYS_ADMIN",
        "exec setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin \"$@\"",
    ),
    (
        "without CAP_NET_ADMIN",
        "exec setpriv --bounding-set=-net_admin --inh-caps=-net_admin \"$@\"",
    ),
    (
        "cgroups read-only",
        "exec unshare --mount sh -ec '
            mount --make-rprivate /
            for at in $(awk \"\\$3 ~ /^cgroup/ { print \\$2 }\" /proc/self/mounts); do
                mount -o remount,bind,ro \"$at\"
            done
            exec \"$@\"' sh \"$@\"",
    ),
    (
        "no cgroups",
        "exec unshare --mount sh -ec '
            mount --make-rprivate /
            for at in $(awk \"\\$3 ~ /^cgroup/ { print \\$2 }\" /proc/self/mounts); do
                umount -l \"$at\" || true
            done
            exec \"$@\"' sh \"$@\"",
    ),
    (
        "no name server",
        "exec unshare --mount --net sh -ec '
            mount --make-rprivate /
            ip link set lo up
            echo nameserver 127.0.0.1 >\"$DIR/resolv.conf\"
            mount --bind \"$DIR/resolv.conf\" \"$(readlink -f /etc/resolv.conf)\"
            exec \"$@\"' sh \"$@\"",
    ),
    (
        "disk full",
        "exec unshare --mount sh -ec '
            mount --make-rprivate /
            mount -t tmpfs -o size=64k none \"$DIR/data\"
            exec \"$@\"' sh \"$@\"",
    ),
];

struct Case {
    name: &'static str,
    place: Option<&'static str>,
    command: &'static str,
    input: &'static str,
    end: &'static str,
    parts: Vec<&'static str>,
}

fn cases(file: &str, text: &'static str) -> Vec<Case> {
    // What stands before the first case is the file's heading.
    let cases = text.split("\n== ").skip(1);
    cases
        .map(|case| {
            let (head, end) = case
                .split_once("\n-- ")
                .unwrap_or_else(|| panic!("failures/{file}.txt: {case}: there is no end"));
            let (name, mut head) = head.split_once('\n').unwrap_or((head, ""));
            let mut place = None;
            if let Some((first, rest)) = head.strip_prefix("% ").and_then(|h| h.split_once('\n')) {
                (place, head) = (Some(first), rest);
            }
            let mut head = head.splitn(2, '\n');
            let command = head.next().and_then(|line| line.strip_prefix("$ "));
            let mut end = end.lines().filter(|line| !line.is_empty());
            Case {
                name,
                place,
                command: command.unwrap_or_default(),
                input: head.next().unwrap_or_default(),
                end: end.next().unwrap_or_default(),
                parts: end.collect(),
            }
        })
        .collect()
}

/// Words of the table, and what stands for them.
type Words = Vec<(&'static str, String)>;

/// What came out otherwise than the case says.
fn differences(root: &Root, case: &Case, words: &Words) -> Vec<String> {
    let placed = |text: &str| {
        let text = text.replace("DIR/", &format!("{}/", root.dir().display()));
        words
            .iter()
            .fold(text, |text, (word, is)| text.replace(word, is))
    };
    let second = slack(Duration::from_secs(1)).as_secs();
    let slower = format!("apply --timeout={second}s");
    let command = placed(case.command).replace("apply --timeout=1s", &slower);
    let args: Vec<&str> = command.split_whitespace().collect();
    let ran = match case.place {
        None => root.feed(&args, &placed(case.input)),
        Some(name) => {
            let (_, shell) = PLACES.iter().find(|(place, _)| *place == name).unwrap();
            let carob = root.command(&args);
            let mut there = Command::new("sh");
            there.args(["-c", shell, "sh"]).arg(carob.get_program());
            there.args(carob.get_args()).env("DIR", root.dir());
            there.env_remove("CAROB_ROOT");
            root.feed_to(there, &placed(case.input))
        }
    };
    let mut wrong = Vec::new();
    if ran.code.to_string() != case.end {
        wrong.push(format!("exits with {}, not {}", ran.code, case.end));
    }
    let missing = case.parts.iter().filter(|part| {
        [&ran.stderr, &ran.stdout]
            .iter()
            .all(|said| !said.contains(&placed(part)))
    });
    wrong.extend(missing.map(|part| format!("does not say {part:?}")));
    if !wrong.is_empty() {
        wrong.push(format!("it says: {}", ran.stderr));
    }
    wrong
}

#[track_caller]
fn check(file: &str) {
    check_in(&Root::new(), file, &Words::new());
}

#[track_caller]
fn check_in(root: &Root, file: &str, words: &Words) {
    let (_, text) = FILES.iter().find(|(name, _)| *name == file).unwrap();
    let mut wrong = Vec::new();
    for case in cases(file, text) {
        let found = differences(root, &case, words).into_iter();
        wrong.extend(found.map(|difference| format!("{}: {difference}", case.name)));
    }
    assert!(
        wrong.is_empty(),
        "failures/{file}.txt:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn failures_of_manifests_have_their_text() {
    let root = Root::new();
    let dir = root.dir().join("inputs");
    std::fs::create_dir_all(dir.join("none")).unwrap();
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    for (name, content) in [
        ("pod.yaml", b"kind: Pod\n".to_vec()),
        ("pod.yaml.gz", b"\x1f\x8b\x08\0".to_vec()),
        ("image.tar", tar),
        ("big.yaml", vec![b'#'; 4 << 20]),
        (
            "latin1.yaml",
            b"kind: Pod\nmetadata: {name: caf\xe9}\n".to_vec(),
        ),
        ("program", elf(62, "/lib/none")),
        (
            "utf16.yaml",
            "kind: Pod\n"
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect(),
        ),
        ("empty.yaml", Vec::new()),
    ] {
        std::fs::write(dir.join(name), content).unwrap();
    }
    check_in(&root, "manifests", &Words::new());
}

/// The head of an ELF file (elf(5)) for x86-64 or another machine, whose one program header
/// names a loader.
fn elf(machine: u16, loader: &str) -> Vec<u8> {
    let mut file = vec![0_u8; 64 + 56];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let mut set = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    set(16, &2_u16.to_le_bytes()); // e_type: ET_EXEC
    set(18, &machine.to_le_bytes()); // e_machine
    set(20, &1_u32.to_le_bytes()); // e_version
    set(32, &64_u64.to_le_bytes()); // e_phoff
    set(52, &64_u16.to_le_bytes()); // e_ehsize
    set(54, &56_u16.to_le_bytes()); // e_phentsize
    set(56, &1_u16.to_le_bytes()); // e_phnum
    let length = loader.len() as u64 + 1;
    set(64, &3_u32.to_le_bytes()); // p_type: PT_INTERP
    set(72, &120_u64.to_le_bytes()); // p_offset
    set(96, &length.to_le_bytes()); // p_filesz
    set(104, &length.to_le_bytes()); // p_memsz
    file.extend(loader.as_bytes());
    file.push(0);
    file
}

#[test]
fn failures_of_programs_have_their_text() {
    use std::os::unix::fs::PermissionsExt;
    let root = Root::new();
    let dir = root.dir().join("programs");
    std::fs::create_dir_all(dir.join("closed")).unwrap();
    let (ours, other) = match std::env::consts::ARCH {
        "aarch64" => (183, 62),
        _ => (62, 183),
    };
    let program = |loader| elf(ours, loader);
    for (name, content, mode) in [
        ("script", b"#!/bin/sh -e\n".to_vec(), 0o644),
        ("plain", program("/lib/none"), 0o644),
        ("private", b"#!/bin/sh\n".to_vec(), 0o700),
        ("tool", b"#!/bin/sh\n".to_vec(), 0o700),
        ("team", b"#!/bin/sh\n".to_vec(), 0o750),
        ("closed/tool", b"#!/bin/sh\n".to_vec(), 0o755),
        ("server", b"#!/bin/sh\n".to_vec(), 0o755),
        ("other", elf(other, "/lib/none"), 0o755),
        ("cut", program("/lib/none")[..40].to_vec(), 0o755),
        ("empty", Vec::new(), 0o755),
        ("text", b"hello\n".to_vec(), 0o755),
        ("crlf", b"#!/bin/sh\r\necho hi\r\n".to_vec(), 0o755),
        ("python", b"#!/usr/bin/python9 -u\n".to_vec(), 0o755),
        ("awk", b"#!/usr/local/bin/awk -f\n".to_vec(), 0o755),
        ("glibc", program("/lib64/ld-linux-none.so.2"), 0o755),
        ("musl", program("/lib/ld-musl-none.so.1"), 0o755),
        ("indirect", b"#!/t/glibc\n".to_vec(), 0o755),
    ] {
        let file = dir.join(name);
        std::fs::write(&file, content).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let closed = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(dir.join("closed"), closed).unwrap();
    std::os::unix::fs::symlink("/opt/current/server", dir.join("link")).unwrap();
    check_in(&root, "programs", &Words::new());
}

#[test]
fn failures_of_pods_have_their_text() {
    check("pods");
}

#[test]
fn failures_of_verbs_have_their_text() {
    check("verbs");
}

/// A registry without images, one of which is told to need a login. It ends with the process.
fn registry() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that has gone needs no answer.
            let _ = stream.and_then(answer);
        }
    });
    port
}

/// One request, as docker-registry answers it.
fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines
        .next()
        .transpose()?
        .is_some_and(|line| !line.is_empty())
    {}
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (status, code, text) = match path {
        "/v2/" => ("200 OK", "", ""),
        p if p.starts_with("/v2/private/") => (
            "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"test\"",
            "UNAUTHORIZED",
            "authentication required",
        ),
        p if p.starts_with("/v2/app/") => ("404 Not Found", "MANIFEST_UNKNOWN", "manifest unknown"),
        _ => (
            "404 Not Found",
            "NAME_UNKNOWN",
            "repository name not known to registry",
        ),
    };
    let body = format!("{{\"errors\":[{{\"code\":\"{code}\",\"message\":\"{text}\"}}]}}");
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

/// Docker archives of one layer with /etc/passwd, each with its config: DIR/images/NAME.tar.
fn make_images(root: &Root, configs: &[(&str, &str)]) {
    let script = r#"
        mkdir -p "$1/etc"; cd "$1"
        echo nobody:x:65534:65534::/:/bin/false >etc/passwd
        tar -cf layer.tar etc
        id=$(sha256sum layer.tar | cut -d' ' -f1)
        printf '{"architecture":"%s","os":"linux","config":%s,"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
            "$4" "$3" "$id" >config.json
        printf '[{"Config":"config.json","RepoTags":["localhost/carob/%s:1"],"Layers":["layer.tar"]}]' \
            "$2" >manifest.json
        tar -cf "../$2.tar" manifest.json config.json layer.tar"#;
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    for (name, config) in configs {
        let dir = root.dir().join("images").join(name);
        let made = Command::new("sh")
            .args(["-euc", script, "sh"])
            .arg(dir)
            .args([name, config, architecture])
            .stdin(Stdio::null())
            .status();
        assert!(made.unwrap().success());
    }
}

#[test]
fn failures_of_images_have_their_text() {
    let root = Root::new();
    make_images(
        &root,
        &[
            ("empty", "{}"),
            ("named", r#"{"User":"nobody","Cmd":["x"]}"#),
        ],
    );
    let busybox = crate::root::images().join("busybox.tar");
    let words = vec![
        ("REGISTRY", registry().to_string()),
        ("BUSYBOX", busybox.display().to_string()),
    ];
    check_in(&root, "images", &words);
}

#[test]
fn failures_of_machines_have_their_text() {
    let root = Root::new();
    std::fs::write(root.dir().join("file"), "").unwrap();
    let busy = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = busy.local_addr().unwrap().port();
    // A second one for a Pod, free again when the Pod takes it.
    let free = TcpListener::bind("0.0.0.0:0").unwrap();
    let of_a_pod = free.local_addr().unwrap().port();
    drop(free);
    let words = vec![
        ("BUSY", port.to_string()),
        ("OFAPOD", of_a_pod.to_string()),
        ("MYPID", std::process::id().to_string()),
    ];
    check_in(&root, "machines", &words);
}

/// What a container waits for is told with command lines that can be typed as they stand.
#[test]
fn command_lines_in_a_message_have_the_root() {
    let root = Root::empty();
    let mut ran = root.command(&["run", "p", "--image=localhost/carob/nope:1"]);
    let ran = ran.arg("--image-pull-policy=Never").output().unwrap();
    let root_flag = format!("carob --root {} ", root.dir().display());
    let text = String::from_utf8_lossy(&ran.stderr).into_owned();
    for line in ["pull localhost/carob/nope:1", "load -i FILE", "images"] {
        assert!(text.contains(&format!("{root_flag}{line}")), "{text}");
    }
    // Those of a command line that is refused, too.
    let ran = root.command(&["ps"]).output().unwrap();
    let text = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(text.contains(&format!("{root_flag}get pods")), "{text}");
    let message = ".status.containerStatuses[0].state.waiting.message";
    let message = root.field("p", message);
    assert!(message.contains(&format!("{root_flag}load")), "{message}");
}

#[test]
fn each_case_has_a_name_of_its_own_and_something_to_look_for() {
    let mut names = std::collections::HashSet::new();
    for (file, text) in FILES {
        for case in cases(file, text) {
            assert!(names.insert(case.name), "{file}: {:?} twice", case.name);
            assert!(!case.command.is_empty(), "{file}: {:?}", case.name);
            let looks = !case.parts.is_empty() || case.end == "0";
            assert!(looks, "{file}: {:?}", case.name);
        }
    }
}
