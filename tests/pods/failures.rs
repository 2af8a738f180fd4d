//! Failures that users meet, and what carob says of each.
//!
//! `failures/*.txt` is a table. A case begins with its name. The command follows, without
//! `carob --root DIR`, then what its standard input is, then the exit code, then parts of
//! standard error:
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
//! `-- N` is the command's exit code. Each line below is a part of standard error: the cause,
//! the place, and, where there is one, the command or the words that mend it. A case without
//! such lines makes what later cases use.
//!
//! The cases of a file share a root and run in their order: one may use the Pods of those
//! before it. `DIR/` is the root's own directory. `apply --timeout=1s` waits longer on a slow
//! machine.

use std::time::Duration;

use crate::root::{Root, slack};

const FILES: &[(&str, &str)] = &[
    ("manifests", include_str!("failures/manifests.txt")),
    ("programs", include_str!("failures/programs.txt")),
    ("pods", include_str!("failures/pods.txt")),
    ("verbs", include_str!("failures/verbs.txt")),
];

struct Case {
    name: &'static str,
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
            let mut head = head.splitn(3, '\n');
            let name = head.next().unwrap_or_default();
            let command = head.next().and_then(|line| line.strip_prefix("$ "));
            let mut end = end.lines().filter(|line| !line.is_empty());
            Case {
                name,
                command: command.unwrap_or_default(),
                input: head.next().unwrap_or_default(),
                end: end.next().unwrap_or_default(),
                parts: end.collect(),
            }
        })
        .collect()
}

/// What came out otherwise than the case says.
fn differences(root: &Root, case: &Case) -> Vec<String> {
    let placed = |text: &str| text.replace("DIR/", &format!("{}/", root.dir().display()));
    let second = slack(Duration::from_secs(1)).as_secs();
    let slower = format!("apply --timeout={second}s");
    let command = placed(case.command).replace("apply --timeout=1s", &slower);
    let args: Vec<&str> = command.split_whitespace().collect();
    let ran = root.feed(&args, &placed(case.input));
    let mut wrong = Vec::new();
    if ran.code.to_string() != case.end {
        wrong.push(format!("exits with {}, not {}", ran.code, case.end));
    }
    let missing = case
        .parts
        .iter()
        .filter(|part| !ran.stderr.contains(&placed(part)));
    wrong.extend(missing.map(|part| format!("does not say {part:?}")));
    if !wrong.is_empty() {
        wrong.push(format!("it says: {}", ran.stderr));
    }
    wrong
}

#[track_caller]
fn check(file: &str) {
    check_in(&Root::new(), file);
}

#[track_caller]
fn check_in(root: &Root, file: &str) {
    let (_, text) = FILES.iter().find(|(name, _)| *name == file).unwrap();
    let mut wrong = Vec::new();
    for case in cases(file, text) {
        let found = differences(root, &case).into_iter();
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
        ("big.yaml", vec![b'#'; 3 << 20]),
        (
            "latin1.yaml",
            b"kind: Pod\nmetadata: {name: caf\xe9}\n".to_vec(),
        ),
        ("program", elf(62, "/lib/none")),
        ("empty.yaml", Vec::new()),
    ] {
        std::fs::write(dir.join(name), content).unwrap();
    }
    check_in(&root, "manifests");
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
    check_in(&root, "programs");
}

#[test]
fn failures_of_pods_have_their_text() {
    check("pods");
}

#[test]
fn failures_of_verbs_have_their_text() {
    check("verbs");
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
