//! On a machine whose mounts are all shared, as systemd makes them.

use std::fs;

use nix::sched::CloneFlags;

use super::*;
use crate::linux::root::open_dir;

/// Runs in a mount namespace of its own, in which every mount is shared and a tmpfs lies
/// at the path that is handed over.
fn with_shared_mounts(name: &str, test: impl FnOnce(&Path) + Send) {
    let dir = std::env::temp_dir().join(format!("carob-mount-{name}-{}", std::process::id()));
    fs::create_dir(&dir).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(CloneFlags::CLONE_NEWNS).unwrap();
            set_tree_propagation(MsFlags::MS_PRIVATE).unwrap();
            let tmpfs = Mount::new("tmpfs", &[], 0).unwrap();
            tmpfs.attach(open_dir(&dir).unwrap().as_fd()).unwrap();
            set_tree_propagation(MsFlags::MS_SHARED).unwrap();
            test(&dir);
        });
        thread.join().unwrap();
    });
    fs::remove_dir(&dir).unwrap();
}

/// Whether the mount at `point` of the calling thread is in a peer group: proc(5).
fn is_shared(point: &Path) -> bool {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let point = format!(" {} ", point.display());
    let line = table.lines().rfind(|l| l.contains(&point));
    line.unwrap_or_else(|| panic!("nothing is mounted at{point}"))
        .contains(" shared:")
}

/// Attached where it stays what it is: on a mount that is private.
fn attach(mount: &Mount, dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    mount.attach(open_dir(dir).unwrap().as_fd()).unwrap();
}

#[test]
fn copies_are_private_and_peers_are_not() {
    with_shared_mounts("copies", |dir| {
        let private = dir.join("private");
        fs::create_dir(&private).unwrap();
        make_private(&private).unwrap();
        assert!(!is_shared(&private));
        // Once more: nothing is mounted on top.
        make_private(&private).unwrap();
        let point = format!(" {} ", private.display());
        let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        assert_eq!(table.lines().filter(|l| l.contains(&point)).count(), 1);

        fs::create_dir(dir.join("source")).unwrap();
        let source = dir.join("source");
        let fd = open_dir(&source).unwrap();
        for (name, copy, shared) in [
            ("copy", Mount::copy(&source, false), false),
            ("copy_fd", Mount::copy_fd(fd.as_fd(), true), false),
            ("peer", Mount::copy_as_peer(&source, true), true),
            ("peer_fd", Mount::copy_fd_as_peer(fd.as_fd(), false), true),
        ] {
            let at = private.join(name);
            attach(&copy.unwrap(), &at);
            assert_eq!(is_shared(&at), shared, "{name}");
        }
    });
}

/// Before Linux 6.8 overlays are made by mount(2) and copied.
#[test]
fn an_overlay_of_the_old_way_is_private() {
    with_shared_mounts("overlay", |dir| {
        for name in ["layers/one", "layers/two", "upper", "work", "private"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        let layers = dir.join("layers");
        let lowers = [layers.join("one"), layers.join("two")];
        let private = dir.join("private");
        make_private(&private).unwrap();
        let scratch = private.join("scratch");
        fs::create_dir(&scratch).unwrap();
        let (upper, work) = (dir.join("upper"), dir.join("work"));
        let overlay =
            overlay_by_options(&layers, &lowers, Some((&upper, &work)), &scratch, None).unwrap();
        let at = private.join("at");
        attach(&overlay, &at);
        assert!(!is_shared(&at));
        // The same on a scratch directory that is shared.
        let scratch = dir.join("scratch");
        fs::create_dir(&scratch).unwrap();
        for name in ["upper2", "work2"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        let (upper, work) = (dir.join("upper2"), dir.join("work2"));
        let overlay =
            overlay_by_options(&layers, &lowers, Some((&upper, &work)), &scratch, None).unwrap();
        let at = private.join("again");
        attach(&overlay, &at);
        assert!(!is_shared(&at));
    });
}
