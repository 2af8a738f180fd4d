//! Commands of an engine, with a deadline, and on a terminal.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

#[path = "../shared/ran.rs"]
mod ran;
pub(crate) use ran::Ran;

pub(crate) const CAROB_OCI: &str = env!("CARGO_BIN_EXE_carob-oci");
pub(crate) const IMAGE: &str = "localhost/carob/busybox:1";

/// Runs the command to its end. Whoever still holds its output then fails the test:
/// engines wait for the end of file of the runtime's.
#[track_caller]
pub(crate) fn run(argv: &[String]) -> Ran {
    let mut child = Command::new("timeout")
        .args(["-k", "1", "30"])
        .args(argv)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = read_in_thread(child.stdout.take().unwrap());
    let stderr = read_in_thread(child.stderr.take().unwrap());
    let status = child.wait().unwrap();
    let held = |_| panic!("what {argv:?} left behind holds its output open");
    Ran {
        code: status.code().unwrap_or(-1),
        stdout: stdout
            .recv_timeout(Duration::from_secs(5))
            .unwrap_or_else(held),
        stderr: stderr
            .recv_timeout(Duration::from_secs(5))
            .unwrap_or_else(held),
    }
}

fn read_in_thread(mut from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        from.read_to_end(&mut text).unwrap();
        let _ = sender.send(String::from_utf8_lossy(&text).into_owned());
    });
    receiver
}

/// A terminal of 33 rows and 77 columns with a command on it.
pub(crate) struct Terminal {
    child: Child,
    seen: String,
}

impl Terminal {
    pub(crate) fn new(argv: &[String]) -> Self {
        let words: Vec<String> = argv.iter().map(|w| quoted(w)).collect();
        let script = format!(
            "stty rows 33 cols 77; timeout --foreground -k 1 30 {}; echo code=$?",
            words.join(" ")
        );
        let child = Command::new("script")
            .args(["-qec", &script, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script(1) must be installed (Debian's package bsdutils)");
        Terminal {
            child,
            seen: String::new(),
        }
    }

    pub(crate) fn types(&mut self, keys: &[u8]) {
        self.child.stdin.as_mut().unwrap().write_all(keys).unwrap();
    }

    /// Everything up to this text.
    #[track_caller]
    pub(crate) fn shows(&mut self, text: &str) -> &str {
        let mut byte = [0];
        while !self.seen.contains(text) {
            match self.child.stdout.as_mut().unwrap().read(&mut byte) {
                // ctr leaves the outer terminal's newlines on: one more \r.
                Ok(1) if byte == *b"\r" => {}
                Ok(1) => self.seen.push(byte[0].into()),
                _ => panic!("no {text:?} in {:?}", self.seen),
            }
        }
        &self.seen
    }

    #[track_caller]
    pub(crate) fn ends(mut self, code: i32) {
        self.shows(&format!("code={code}\n"));
        self.child.wait().unwrap();
    }
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Asks until the answer is yes.
#[track_caller]
pub(crate) fn until(what: &str, mut ask: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !ask() {
        assert!(Instant::now() < end, "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Programs and files that must be there, each with its Debian package.
pub(crate) fn need(wanted: &[(&str, &str)]) {
    for (name, package) in wanted {
        let there = if name.starts_with('/') {
            Path::new(name).exists()
        } else {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|d| d.join(name).is_file())
        };
        assert!(
            there,
            "no {name}: run `hack/setup test`, or install Debian's package {package}"
        );
    }
}
