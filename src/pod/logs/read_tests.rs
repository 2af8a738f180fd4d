//! Real files, rotated under the reader.

use std::io::Write;

use super::*;
use crate::pod::logs::{Stream, attempts};

/// A directory of its own, gone when dropped.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let d = std::env::temp_dir().join(format!("carob-log-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&d).unwrap();
        Dir(d)
    }
    fn write(&self, name: &str, text: &str) {
        let mut f = File::options()
            .create(true)
            .append(true)
            .open(self.0.join(name))
            .unwrap();
        f.write_all(text.as_bytes()).unwrap();
    }
    fn rotate(&self, n: u32, stamp: &str) {
        let current = self.0.join(format!("{n}.log"));
        std::fs::rename(&current, self.0.join(format!("{n}.log.{stamp}"))).unwrap();
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn line(tag: &str, text: &str) -> String {
    format!("2026-01-02T03:04:05.123456789Z stdout {tag} {text}\n")
}

fn rest(r: &mut Reader) -> Vec<String> {
    let mut all = vec![];
    while let Some(l) = r.next_line().unwrap() {
        let record = Record::parse(l).unwrap();
        all.push(String::from_utf8(record.text.to_vec()).unwrap());
    }
    all
}

#[test]
fn records() {
    let r = Record::parse(b"2026-01-02T03:04:05.1Z stderr P:x a  b ").unwrap();
    assert_eq!(
        (r.stream, r.partial, r.text),
        (Stream::Stderr, true, &b"a  b "[..])
    );
    assert!(r.timestamp().is_some());
    let r = Record::parse(b"2026-01-02T03:04:05.1Z stdout F ").unwrap();
    assert_eq!(
        (r.stream, r.partial, r.text),
        (Stream::Stdout, false, &b""[..])
    );
    for bad in [
        &b""[..],
        b"x",
        b"t stdin F x",
        b"\xff stdout F x",
        b"t stdout",
    ] {
        assert_eq!(Record::parse(bad), None);
    }
}

#[test]
fn rotated_files_come_first() {
    let d = Dir::new("order");
    d.write("0.log.20260102-030405", &line("F", "a"));
    d.write("0.log.20260102-030406", &line("F", "b"));
    d.write("0.log", &line("F", "c"));
    d.write("0.log.20260102-030405.tmp", &line("F", "no"));
    d.write("10.log", &line("F", "other"));
    let mut r = Reader::open(&d.0, 0, None).unwrap();
    assert_eq!(rest(&mut r), ["a", "b", "c"]);
    assert_eq!(attempts(&d.0).unwrap(), [0, 10]);
    assert!(attempts(&d.0.join("none")).unwrap().is_empty());
    assert_eq!(
        Reader::open(&d.0, 5, None).err().unwrap().kind(),
        Kind::NotFound
    );
}

#[test]
fn following_survives_rotation() {
    let d = Dir::new("follow");
    d.write("0.log", &line("F", "1"));
    let mut r = Reader::open(&d.0, 0, None).unwrap();
    assert_eq!(rest(&mut r), ["1"]);
    // Written after the last look, then rotated twice.
    d.write("0.log", &line("F", "2"));
    d.rotate(0, "20260102-030405");
    assert_eq!(rest(&mut r), ["2"]);
    d.write("0.log", &line("F", "3"));
    d.rotate(0, "20260102-030406");
    d.write("0.log", &line("F", "4"));
    assert_eq!(rest(&mut r), ["3", "4"]);
    // Ours is removed, being the oldest.
    d.rotate(0, "20260102-030407");
    d.write("0.log", &line("F", "5"));
    for gone in ["20260102-030405", "20260102-030406", "20260102-030407"] {
        std::fs::remove_file(d.0.join(format!("0.log.{gone}"))).unwrap();
    }
    assert_eq!(rest(&mut r), ["5"]);
    // Half a line waits for its end.
    let text = line("F", "six");
    d.write("0.log", &text[..20]);
    assert!(rest(&mut r).is_empty());
    d.write("0.log", &text[20..]);
    assert_eq!(rest(&mut r), ["six"]);
}

#[test]
fn tails() {
    let d = Dir::new("tail");
    let mut expected = vec![];
    for i in 0..4000 {
        // Lines of very different lengths, so that blocks end anywhere.
        let text = format!("{i}{}", "x".repeat(i % 97));
        let name = match i {
            0..1000 => "0.log.20260102-030405",
            1000..2000 => "0.log.20260102-030406",
            _ => "0.log",
        };
        d.write(name, &line("F", &text));
        expected.push(text);
    }
    d.write("0.log", "2026-01-02T03:04:05.1Z stdout F not finish");
    for n in [
        0, 1, 2, 1999, 2000, 2001, 3000, 3500, 3999, 4000, 4001, 9999,
    ] {
        let mut r = Reader::open(&d.0, 0, Some(n)).unwrap();
        let from = expected.len().saturating_sub(n as usize);
        assert_eq!(rest(&mut r), expected[from..], "tail {n}");
    }
}

#[test]
fn a_line_in_pieces_counts_once() {
    let d = Dir::new("pieces");
    for (tag, text) in [
        ("F", "a"),
        ("P", "b1"),
        ("P", "b2"),
        ("F", "b3"),
        ("F", "c"),
        ("P", "d"),
    ] {
        d.write("0.log", &line(tag, text));
    }
    let tail = |n| rest(&mut Reader::open(&d.0, 0, Some(n)).unwrap());
    assert_eq!(tail(1), ["c", "d"]);
    assert_eq!(tail(2), ["b1", "b2", "b3", "c", "d"]);
    assert_eq!(tail(3).len(), 6);
}

#[test]
fn an_endless_line_takes_no_endless_memory() {
    let d = Dir::new("endless");
    d.write("0.log", &line("F", "a"));
    d.write("0.log", &"y".repeat(3 * MAX_LINE));
    d.write("0.log", "\n");
    d.write("0.log", &line("F", "b"));
    let mut r = Reader::open(&d.0, 0, None).unwrap();
    assert_eq!(rest(&mut r), ["a", "b"]);
    assert!(r.buffer.capacity() < 4 * MAX_LINE);
}

#[test]
fn an_empty_file_is_no_error() {
    let d = Dir::new("empty");
    d.write("0.log", "");
    for tail in [None, Some(0), Some(5)] {
        let mut r = Reader::open(&d.0, 0, tail).unwrap();
        assert!(rest(&mut r).is_empty());
    }
}
