//! The layout on a filesystem, and what a container may have put there.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use super::*;

struct Volume {
    dir: PathBuf,
    fd: OwnedFd,
}

impl Volume {
    fn new(name: &str) -> Self {
        let pid = std::process::id();
        let dir = std::env::temp_dir().join(format!("carob-projected-{name}-{pid}"));
        std::fs::create_dir_all(dir.join("v")).unwrap();
        let fd = crate::linux::root::open_dir(&dir.join("v")).unwrap();
        let fd = open(fd.as_fd(), Path::new(""), DIRECTORY).unwrap();
        Volume { dir, fd }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.join("v").join(path)
    }

    fn write(&self, files: &[(&str, &str)]) -> bool {
        write(self.fd.as_fd(), &content(files)).unwrap()
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.at(path)).unwrap()
    }

    /// Sets that there are.
    fn sets(&self) -> usize {
        let names = names_in(&self.fd, usize::MAX).unwrap();
        let sets = names.iter().filter(|n| n.as_bytes().starts_with(b"..20"));
        sets.count()
    }

    fn names(&self) -> Vec<String> {
        let names = names_in(&self.fd, usize::MAX).unwrap();
        let names = names.iter().map(|n| n.to_str().unwrap().to_owned());
        names.filter(|n| !n.starts_with("..20")).collect()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}

/// Owned by those who run the test: it need not be root.
fn content(files: &[(&str, &str)]) -> Content {
    let uid = nix::unistd::geteuid().as_raw();
    let files = files.iter().map(|(path, text)| File {
        path: path.into(),
        bytes: text.as_bytes().to_owned(),
        mode: 0o440,
        user: uid,
    });
    Content {
        volume: "v".into(),
        files: files.collect(),
        group: None,
    }
}

#[test]
fn sets_replace_each_other_whole() {
    let v = Volume::new("sets");
    assert!(v.write(&[("a", "1"), ("d/e/f", "2"), ("d/g", "3")]));
    assert_eq!(v.names(), ["..data", "a", "d"]);
    assert_eq!(
        (v.read("a"), v.read("d/e/f"), v.read("d/g")),
        ("1".into(), "2".into(), "3".into())
    );
    assert_eq!(
        std::fs::read_link(v.at("d")).unwrap(),
        Path::new("..data/d")
    );
    for (path, mode) in [
        ("", 0o40755),
        ("..data/", 0o40755),
        ("d/e", 0o40755),
        ("a", 0o100440),
    ] {
        let stat = std::fs::metadata(v.at(path)).unwrap();
        assert_eq!(stat.mode(), mode, "{path:?} {:o}", stat.mode());
    }
    // The same again is not written.
    let before = std::fs::read_link(v.at("..data")).unwrap();
    assert!(!v.write(&[("a", "1"), ("d/e/f", "2"), ("d/g", "3")]));
    assert_eq!(std::fs::read_link(v.at("..data")).unwrap(), before);
    // A reader that has the old set open does not see the new one through it.
    let old = open(v.fd.as_fd(), &before, DIRECTORY).unwrap();
    assert!(v.write(&[("a", "2"), ("h", "4")]));
    assert_eq!(names_in(&old, 9).unwrap().len(), 0);
    assert_eq!(v.names(), ["..data", "a", "h"]);
    assert_eq!((v.read("a"), v.sets()), ("2".into(), 1));
    assert!(v.write(&[]));
    assert_eq!((v.names(), v.sets()), (vec!["..data".into()], 1));
    assert!(!v.write(&[]));
}

#[test]
fn one_file_less_or_of_another_mode_is_another_set() {
    let v = Volume::new("less");
    assert!(v.write(&[("a", "1"), ("b", "2")]));
    assert!(v.write(&[("a", "1")]));
    assert_eq!(v.names(), ["..data", "a"]);
    let mut other = content(&[("a", "1")]);
    other.files[0].mode = 0o444;
    assert!(write(v.fd.as_fd(), &other).unwrap());
    assert_eq!(std::fs::metadata(v.at("a")).unwrap().mode(), 0o100444);
}

#[test]
fn what_a_killed_monitor_has_left_goes() {
    let v = Volume::new("killed");
    v.write(&[("a", "1")]);
    let half = "..2020_01_01_00_00_00.000000001";
    std::fs::create_dir_all(v.at(half).join("x/y")).unwrap();
    symlink(half, v.at("..data_tmp")).unwrap();
    symlink("..data/new", v.at("new")).unwrap();
    // The set in force is the old one: a reader has not seen anything of the half.
    assert_eq!(v.read("a"), "1");
    assert!(v.write(&[("a", "2")]));
    assert_eq!(
        (v.names(), v.sets()),
        (vec!["..data".into(), "a".into()], 1)
    );
}

/// T2 and T8: everything that a container can put in the place of ours.
#[test]
fn nothing_is_written_through_what_a_container_has_put_there() {
    let v = Volume::new("hostile");
    let outside = v.dir.join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("a"), "outside").unwrap();
    std::fs::set_permissions(outside.join("a"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let remove = |at: &Path| {
        let _ = std::fs::remove_dir_all(at);
        let _ = std::fs::remove_file(at);
    };
    let to_outside = |at: &Path| {
        remove(at);
        symlink(&outside, at).unwrap();
    };
    type Swap<'a> = Box<dyn Fn(&Path) + 'a>;
    let fifo = |at: &Path| nix::unistd::mkfifo(at, Mode::S_IRWXU).unwrap();
    let set = |at: &Path| at.join(std::fs::read_link(at.join("..data")).unwrap());
    let swaps: Vec<(&str, Swap)> = vec![
        (
            "..data leads out",
            Box::new(|at| {
                remove(&at.join("..data"));
                to_outside(&at.join("..data"));
            }),
        ),
        (
            "..data is a directory",
            Box::new(|at| {
                remove(&at.join("..data"));
                std::fs::create_dir_all(at.join("..data/x/y")).unwrap();
            }),
        ),
        (
            "..data is a FIFO",
            Box::new(|at| {
                remove(&at.join("..data"));
                fifo(&at.join("..data"));
            }),
        ),
        (
            "..data_tmp leads out",
            Box::new(|at| to_outside(&at.join("..data_tmp"))),
        ),
        (
            "..data_tmp is a directory",
            Box::new(|at| std::fs::create_dir_all(at.join("..data_tmp/a")).unwrap()),
        ),
        (
            "a key leads out",
            Box::new(|at| {
                remove(&at.join("a"));
                symlink(outside.join("a"), at.join("a")).unwrap();
            }),
        ),
        (
            "a key is a directory with a link out",
            Box::new(|at| {
                remove(&at.join("a"));
                std::fs::create_dir(at.join("a")).unwrap();
                to_outside(&at.join("a/x"));
            }),
        ),
        (
            "a set leads out",
            Box::new(|at| {
                let s = set(at);
                remove(&s);
                to_outside(&s);
            }),
        ),
        (
            "a directory of a set leads out",
            Box::new(|at| {
                let d = set(at).join("d");
                remove(&d);
                to_outside(&d);
            }),
        ),
        (
            "a file is a FIFO",
            Box::new(|at| {
                let f = set(at).join("a");
                remove(&f);
                fifo(&f);
            }),
        ),
        (
            "a file leads out",
            Box::new(|at| {
                let f = set(at).join("a");
                remove(&f);
                symlink(outside.join("a"), &f).unwrap();
            }),
        ),
        (
            "a file is a hard link",
            Box::new(|at| {
                let f = set(at).join("a");
                remove(&f);
                std::fs::hard_link(outside.join("a"), &f).unwrap();
            }),
        ),
        (
            "a set that leads out waits to be removed",
            Box::new(|at| to_outside(&at.join("..2020"))),
        ),
        (
            "nothing is left",
            Box::new(|at| {
                for e in std::fs::read_dir(at).unwrap() {
                    remove(&e.unwrap().path());
                }
            }),
        ),
    ];
    for (what, swap) in &swaps {
        for next in ["1", "2"] {
            v.write(&[("a", "1"), ("d/b", "1")]);
            swap(&v.at(""));
            v.write(&[("a", next), ("d/b", next)]);
            assert_eq!(
                (v.read("a"), v.read("d/b")),
                (next.into(), next.into()),
                "{what}"
            );
            let name = std::fs::read_link(v.at("..data")).unwrap();
            assert!(
                name.to_str().unwrap().starts_with("..2"),
                "{what}: {name:?}"
            );
            let is = std::fs::metadata(outside.join("a")).unwrap();
            let text = std::fs::read_to_string(outside.join("a")).unwrap();
            assert_eq!((text.as_str(), is.mode()), ("outside", 0o100600), "{what}");
            assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1, "{what}");
        }
        // Twice written at the most, so that nothing of it is left.
        v.write(&[("a", "3"), ("d/b", "3")]);
        assert_eq!(v.sets(), 1, "{what}");
    }
}

#[test]
fn a_tree_that_is_too_deep_is_left_and_the_set_is_written() {
    let v = Volume::new("deep");
    v.write(&[("a", "1")]);
    let mut at = v.fd.try_clone().unwrap();
    for i in 0..DEPTH_MOST + 10 {
        let name = if i == 0 { "..20deep" } else { "d" };
        mkdirat(&at, name, Mode::S_IRWXU).unwrap();
        at = open(at.as_fd(), Path::new(name), DIRECTORY).unwrap();
    }
    assert!(v.write(&[("a", "2")]));
    assert_eq!(v.read("a"), "2");
}
