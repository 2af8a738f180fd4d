//! `carob cp`: both ways, with kubectl's grammar, and with a container that fights it.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::root::{Root, alive, kill_9, pod, sh, until};

const IDLE: &str = "trap exit TERM; while :; do sleep 0.1; done";

/// A Pod `p` of one container, which runs a script.
fn root_with(script: &str, extra: Value, volumes: Value) -> Root {
    let root = Root::on_disk();
    root.load_image();
    let spec = json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": [sh("main", script, extra)],
        "volumes": volumes,
    });
    root.apply(&pod("p", spec)).ok();
    root
}

fn idle() -> Root {
    root_with(IDLE, json!({}), json!([]))
}

/// A directory of this machine for one test's files.
fn work(root: &Root) -> PathBuf {
    let work = root.dir().join("work");
    fs::create_dir_all(&work).unwrap();
    work
}

fn cp(root: &Root, from: impl AsRef<Path>, to: impl AsRef<Path>) -> crate::root::Ran {
    let (from, to) = (
        from.as_ref().to_str().unwrap(),
        to.as_ref().to_str().unwrap(),
    );
    root.carob(&["cp", from, to])
}

fn copied(root: &Root, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Value {
    let (from, to) = (
        from.as_ref().to_str().unwrap(),
        to.as_ref().to_str().unwrap(),
    );
    let text = root.carob(&["cp", from, to, "-o", "json"]).ok();
    serde_json::from_str(&text).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_directory_goes_in_and_comes_back() {
    let root = idle();
    let work = work(&root);
    let tree = work.join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::create_dir(tree.join("empty")).unwrap();
    fs::write(tree.join("one"), "1\n").unwrap();
    fs::write(tree.join("none"), "").unwrap();
    fs::write(tree.join("a/b/large"), vec![7; 3 << 20]).unwrap();
    fs::write(tree.join("tool"), "#!/bin/sh\necho ran\n").unwrap();
    fs::set_permissions(tree.join("tool"), Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(tree.join("a"), Permissions::from_mode(0o2770)).unwrap();
    nix::unistd::chown(&tree.join("one"), Some(12.into()), Some(34.into())).unwrap();
    symlink("../one", tree.join("a/link")).unwrap();
    fs::hard_link(tree.join("one"), tree.join("a/other-name")).unwrap();
    let odd = OsStr::from_bytes(b"new\nline \xff");
    fs::write(tree.join(odd), "odd").unwrap();

    assert_eq!(cp(&root, &tree, "p:/srv").code, 0);
    // /srv did not exist: it is the tree. Now it does.
    let said = cp(&root, format!("{}/", tree.display()), "p:/srv/");
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("", ""));
    assert_eq!(
        root.sh("p", "ls /srv/tree | wc -l; cat /srv/one /srv/tree/one"),
        "6\n1\n1\n"
    );
    let stat = |path: &str| root.sh("p", &format!("stat -c '%a %u %g %F' /srv/tree/{path}"));
    assert_eq!(stat("tool"), "4751 0 0 regular file\n");
    assert_eq!(stat("a"), "2770 0 0 directory\n");
    assert_eq!(stat("one"), "644 12 34 regular file\n");
    assert_eq!(stat("a/link"), "777 0 0 symbolic link\n");
    assert_eq!(
        root.sh("p", "/srv/tree/tool; readlink /srv/tree/a/link"),
        "ran\n../one\n"
    );
    assert_eq!(
        root.sh("p", "cd /srv/tree; [ one -ef a/other-name ] && echo one"),
        "one\n"
    );
    assert_eq!(root.sh("p", "ls -A / /srv | grep carob-cp | wc -l"), "0\n");

    // The source's group, not the directory's.
    root.sh("p", "mkdir /sg; chgrp 5 /sg; chmod 2775 /sg");
    cp(&root, tree.join("."), "p:/sg").ok();
    assert_eq!(
        root.sh("p", "stat -c %g /sg/none /sg/a/b/large /sg"),
        "0\n0\n5\n"
    );

    let back = work.join("new/back");
    let ran = cp(&root, "p:/srv/tree", &back);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stderr.contains("skipped a symbolic link: \"a/link\""),
        "{ran:?}"
    );
    assert_eq!(names(&back), names(&tree));
    assert_eq!(fs::read(back.join(odd)).unwrap(), b"odd");
    assert_eq!(fs::read(back.join("a/b/large")).unwrap(), vec![7; 3 << 20]);
    let meta = |path: &str| fs::symlink_metadata(back.join(path)).unwrap();
    // Ours, and without the rights of its owner.
    assert_eq!((meta("one").uid(), meta("one").gid()), (0, 0));
    assert_eq!(meta("tool").mode() & 0o7777, 0o751);
    assert_eq!(meta("one").ino(), meta("a/other-name").ino());
    assert!(!back.join("a/link").is_symlink());
    // Into a directory that is there: its contents, as with kubectl.
    fs::write(back.join("kept"), "").unwrap();
    let value = copied(&root, "p:/srv/tree", &back);
    assert_eq!(names(&back).len(), names(&tree).len() + 1);
    assert_eq!(value["files"], 6, "{value}");
    assert_eq!(
        (&value["directories"], &value["links"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(
        value["skipped"],
        json!([{"path": "a/link", "reason": "SymbolicLink"}])
    );
    assert_eq!(value["skippedCount"], 1);
    // `one` twice: its other name was taken.
    assert_eq!(value["bytes"], (3 << 20) + 2 + 2 + 19 + 3, "{value}");
    let plain = root.sh(
        "p",
        "mkdir /plain; cd /srv/tree; tar cf - . | tar xf - -C /plain; ls /plain | wc -l",
    );
    assert_eq!(plain, "6\n");
}

#[test]
fn files_take_the_names_that_they_are_given() {
    let root = idle();
    let work = work(&root);
    let file = work.join("file");
    fs::write(&file, "new").unwrap();
    root.sh(
        "p",
        "mkdir -p /d/sub /e; echo old > /e/there; ln -s /e/there /e/link; ln -s /e /elink",
    );
    cp(&root, &file, "p:/d").ok();
    cp(&root, &file, "p:/d/renamed").ok();
    cp(&root, &file, "default/p:/e/there").ok();
    cp(&root, &file, "p:/elink/through").ok();
    // The link itself is replaced, as by tar.
    cp(&root, &file, "p:/e/link").ok();
    assert_eq!(
        root.sh("p", "ls -F /d /e | xargs"),
        "/d: file renamed sub/ /e: link there through\n"
    );
    assert_eq!(
        root.sh("p", "cat /d/file /d/renamed /e/there /e/link"),
        "newnewnewnew"
    );
    // Contents alone.
    cp(&root, work.join("."), "p:/d/sub").ok();
    assert_eq!(root.sh("p", "ls /d/sub"), "file\n");
    cp(&root, &file, "p:/no/such").fails(4, "the directory /no does not exist");
    cp(&root, work.join("nope"), "p:/d").fails(4, "doesn't exist in local filesystem");
    cp(&root, &file, "p:/d/file/x").fails(1, "ENOTDIR");
    root.sh("p", "mkdir -p /f/file");
    cp(&root, &file, "p:/f").fails(5, "a directory is there where a file is to be");
    cp(&root, &work, "p:/e/there").fails(5, "is no directory");

    let out = work.join("out");
    cp(&root, "p:/d/file", &out).ok();
    assert_eq!(fs::read_to_string(&out).unwrap(), "new");
    let into = work.join("into");
    fs::create_dir(&into).unwrap();
    cp(&root, "p:/d/renamed", &into).ok();
    cp(&root, "p:/e/link", into.join("deep/down")).ok();
    assert_eq!(names(&into), ["deep", "renamed"]);
    // A link of the container is followed in there, one of this machine here.
    root.sh("p", "ln -s /e/there /tolink; echo 12 > /e/there");
    let link = work.join("link");
    symlink(&out, &link).unwrap();
    cp(&root, "p:/tolink", &link).ok();
    assert!(link.is_symlink());
    assert_eq!(fs::read_to_string(&out).unwrap(), "12\n");
    assert_eq!(cp(&root, "p:/e/there", "/dev/stdout").ok(), "12\n");
    cp(&root, "p:/nope", &out).fails(4, "no such file or directory");
    cp(&root, "p:/d", &out).fails(5, "is no directory");
    assert_eq!(names(&work), ["file", "into", "link", "out"]);
}

#[test]
fn the_grammar_is_kubectls() {
    let root = idle();
    let run = |args: &[&str]| root.carob(&[&["cp"], args].concat());
    run(&["a", "b"]).fails(2, "one of src or dest must be a remote file specification");
    run(&["p:/a", "q:/b"]).fails(2, "one of src or dest must be a local file specification");
    run(&["p:", "b"]).fails(2, "filepath can not be empty");
    run(&["a/b/p:/x", "b"]).fails(2, "filespec must match the canonical format");
    run(&["nope:/x", "b"]).fails(4, "pods \"nope\" not found");
    run(&["p:/x", "b", "-c", "nope"]).fails(4, "container \"nope\" not found");
    run(&["p:/x", "b", "-o", "json"]).fails(4, "\"reason\":\"NotFound\"");
    run(&["p:/etc/hosts", "/dev/null", "--retries=-1", "-c", "main"]).ok();
    // Relative paths begin at the working directory.
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [sh("init", "true", json!({}))],
        "containers": [sh("main", "mkdir -p /data; exec sleep 1000", json!({"workingDir": "/data"}))],
        "terminationGracePeriodSeconds": 0,
    });
    root.apply(&pod("q", spec)).ok();
    let file = work(&root).join("file");
    fs::write(&file, "x").unwrap();
    cp(&root, &file, "q:.").ok();
    assert_eq!(root.sh("q", "cat /data/file"), "x");
    run(&["q:/x", "b", "-c", "init"]).fails(5, "ended with 0 (Completed)");
}

#[test]
fn files_belong_to_the_containers_user() {
    let extra = json!({
        "securityContext": {"runAsUser": 1000, "runAsGroup": 2000},
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    });
    let root = root_with(IDLE, extra, json!([{"name": "v", "emptyDir": {}}]));
    let file = work(&root).join("file");
    fs::write(&file, "x").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    // As the container itself, which may not write there.
    cp(&root, &file, "p:/kept").fails(1, "EACCES");
    cp(&root, &file, "p:/v/kept").ok();
    let args = ["cp", file.to_str().unwrap(), "p:/v/own", "--no-preserve"];
    fs::set_permissions(&file, Permissions::from_mode(0o4777)).unwrap();
    root.carob(&args).ok();
    assert_eq!(
        root.sh("p", "stat -c '%a %u %g' /v/kept /v/own"),
        "640 1000 2000\n755 1000 2000\n"
    );
}

/// Also where files that root makes have another group than root's.
#[test]
fn root_keeps_the_owner_of_each_source() {
    let extra = json!({"securityContext": {"runAsUser": 0, "runAsGroup": 2000}});
    let root = root_with(IDLE, extra, json!([]));
    let tree = work(&root).join("tree");
    fs::create_dir_all(tree.join("below")).unwrap();
    for name in ["a", "below/b"] {
        fs::write(tree.join(name), "x").unwrap();
    }
    let other = Some(nix::unistd::Gid::from_raw(7));
    nix::unistd::chown(&tree.join("a"), None, other).unwrap();
    cp(&root, &tree, "p:/tree").ok();
    let stat = "stat -c '%u %g' /tree /tree/a /tree/below /tree/below/b";
    assert_eq!(root.sh("p", stat), "0 0\n0 7\n0 0\n0 0\n");
}

#[test]
fn volumes_are_seen_and_read_only_is_an_error() {
    let host = |root: &Root| root.dir().join("host");
    let root = Root::on_disk();
    root.load_image();
    fs::create_dir(host(&root)).unwrap();
    fs::write(host(&root).join("conf"), "old contents").unwrap();
    let mounts = json!({
        "securityContext": {"readOnlyRootFilesystem": true},
        "volumeMounts": [
            {"name": "memory", "mountPath": "/memory"},
            {"name": "host", "mountPath": "/host"},
            {"name": "host", "mountPath": "/ro", "readOnly": true},
            {"name": "host", "mountPath": "/etc/conf", "subPath": "conf"},
        ],
    });
    let spec = json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": [sh("main", IDLE, mounts)],
        "volumes": [
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
            {"name": "host", "hostPath": {"path": host(&root)}},
        ],
    });
    root.apply(&pod("p", spec)).ok();
    let file = work(&root).join("file");
    fs::write(&file, "new").unwrap();
    for dir in ["/ro", "/", "/etc"] {
        let ran = cp(&root, &file, format!("p:{dir}")).fails(1, "EROFS");
        assert!(ran.stderr.contains("read-only"), "{ran:?}");
    }
    cp(&root, &file, "p:/memory").ok();
    cp(&root, &file, "p:/host/made").ok();
    // A file that is a mount point keeps its mount.
    cp(&root, &file, "p:/etc/conf").ok();
    assert_eq!(
        root.sh("p", "cat /memory/file /host/made /etc/conf"),
        "newnewnew"
    );
    assert_eq!(names(&host(&root)), ["conf", "made"]);
    // Into the directory that is copied: it is not copied into itself.
    let value = copied(&root, "p:/host", host(&root).join("made-dir/inside"));
    let inside = host(&root).join("made-dir/inside");
    assert_eq!(names(&inside), ["conf", "made", "made-dir"], "{value}");
    assert_eq!(
        value["skipped"],
        json!([{"path": "made-dir/inside", "reason": "Destination"}])
    );
    cp(&root, "p:/host", host(&root)).fails(5, "are one directory");
    cp(&root, "p:/host/conf", host(&root).join("conf")).ok();
    assert_eq!(fs::read_to_string(host(&root).join("conf")).unwrap(), "new");
}

#[test]
fn holes_stay_holes_and_growing_files_end() {
    let grow = "mkdir /g; while :; do head -c 1000000 /dev/zero; done > /g/grows";
    let root = root_with(
        &format!(
            "echo data | dd of=/sparse bs=1M seek=4000000; truncate -s 8192G /sparse; \
                  timeout 20 sh -c '{grow}' & {IDLE}"
        ),
        json!({}),
        json!([]),
    );
    let work = work(&root);
    until(|| {
        let there = root
            .carob(&["exec", "p", "--", "test", "-s", "/g/grows"])
            .code;
        if there == 0 { Ok(()) } else { Err(()) }
    })
    .unwrap();
    let began = Instant::now();
    let sparse = work.join("sparse");
    let value = copied(&root, "p:/sparse", &sparse);
    let stat = fs::metadata(&sparse).unwrap();
    assert_eq!(stat.len(), 8 << 40);
    assert!(stat.blocks() * 512 < 1 << 20, "{}", stat.blocks());
    assert!(value["bytes"].as_u64().unwrap() < 1 << 20, "{value}");
    cp(&root, &sparse, "p:/again").ok();
    assert_eq!(
        root.sh(
            "p",
            "dd if=/again bs=1M skip=4000000 count=1 2>/dev/null | head -c 5; stat -c %s /again"
        ),
        "data\n8796093022208\n"
    );
    cp(&root, "p:/g/grows", work.join("grown")).ok();
    assert!(began.elapsed() < Duration::from_secs(60));
    fs::remove_file(sparse).unwrap();
}

#[test]
fn what_is_no_file_is_never_opened() {
    let root = root_with(
        &format!(
            "mkdir -p /odd/d; cd /odd; mkfifo fifo; mknod null c 1 3; mknod disk b 7 200; \
             ln -s /etc/passwd link; ln -s / d/up; echo x > file; (nc -lU socket &) ; cd /; echo made; {IDLE}"
        ),
        json!({}),
        json!([]),
    );
    root.says("p", "main", "made");
    let out = work(&root).join("out");
    let value = copied(&root, "p:/odd", &out);
    let mut skipped: Vec<String> = value["skipped"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| {
            format!(
                "{} {}",
                s["path"].as_str().unwrap(),
                s["reason"].as_str().unwrap()
            )
        })
        .filter(|s| !s.contains("Socket"))
        .collect();
    skipped.sort();
    let wanted = [
        "d/up SymbolicLink",
        "disk Device",
        "fifo Fifo",
        "link SymbolicLink",
        "null Device",
    ];
    assert_eq!(skipped, wanted);
    assert_eq!(names(&out), ["d", "file"]);
    cp(&root, "p:/odd/fifo", work(&root).join("x")).fails(3, "it is a FIFO");
    cp(&root, "p:/odd/null", work(&root).join("x")).fails(3, "it is a device");
    // The same of this machine's, which may stand in a tree.
    let tree = work(&root).join("tree");
    fs::create_dir(&tree).unwrap();
    nix::unistd::mkfifo(&tree.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let value = copied(&root, &tree, "p:/tree");
    assert_eq!(
        value["skipped"],
        json!([{"path": "fifo", "reason": "Fifo"}])
    );
}

/// A link of the container leads to no file that the container itself could not open.
#[test]
fn the_rights_are_the_containers() {
    let root = Root::on_disk();
    root.load_image();
    let host = root.dir().join("host");
    let closed = host.join("closed");
    fs::create_dir_all(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(host.join("seen")).unwrap();
    fs::write(closed.join("secret"), "x").unwrap();
    let container = |security: Value| {
        let mounts = json!([
            {"name": "v", "mountPath": "/v"}, {"name": "host", "mountPath": "/host"},
        ]);
        sh(
            "main",
            IDLE,
            json!({"securityContext": security, "volumeMounts": mounts}),
        )
    };
    let user = json!({"runAsUser": 1000, "capabilities": {"drop": ["ALL"]}});
    let bare = json!({"capabilities": {"drop": ["ALL"]}});
    for (name, security) in [("user", user), ("bare", bare)] {
        let spec = json!({
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"fsGroup": 3000},
            "containers": [container(security)],
            "volumes": [
                {"name": "v", "emptyDir": {}}, {"name": "host", "hostPath": {"path": host}},
            ],
        });
        root.apply(&pod(name, spec)).ok();
    }
    // Of somebody else: root without capabilities may not go in.
    nix::unistd::chown(&closed, Some(nix::unistd::Uid::from_raw(7)), None).unwrap();
    let file = work(&root).join("file");
    fs::write(&file, "x").unwrap();
    let out = work(&root).join("out");
    for name in ["user", "bare"] {
        root.sh(
            name,
            "ln -s /host/closed /v/closed; ln -s /host/seen /v/seen",
        );
        let place = |path: &str| format!("{name}:/v/{path}");
        cp(&root, place("closed/secret"), &out).fails(1, "EACCES");
        cp(&root, place("closed"), &out).fails(1, "EACCES");
        cp(&root, &file, place("closed/new")).fails(1, "EACCES");
    }
    assert_eq!(names(&closed), ["secret"]);
    cp(&root, &file, "user:/v/seen/new").fails(1, "EACCES");
    cp(&root, &file, "user:/host/seen/new").fails(1, "EACCES");
    assert!(names(&host.join("seen")).is_empty());
    // What it may do is done as it would do it.
    cp(&root, &file, "user:/v/own").ok();
    assert_eq!(root.sh("user", "stat -c '%u %g' /v/own"), "1000 3000\n");
}

#[test]
fn outputs_are_written_to_and_never_replaced() {
    let root = idle();
    root.sh("p", "echo data > /x");
    let work = work(&root);
    let log = work.join("log");
    fs::write(&log, "before\n").unwrap();
    let link = work.join("link");
    std::os::unix::fs::symlink("/proc/self/fd/1", &link).unwrap();
    for to in ["/dev/stdout", link.to_str().unwrap()] {
        let out = fs::OpenOptions::new().append(true).open(&log).unwrap();
        let mut command = root.command(&["cp", "p:/x", to]);
        assert!(command.stdout(out).status().unwrap().success());
    }
    assert_eq!(fs::read_to_string(&log).unwrap(), "before\ndata\ndata\n");
    assert!(link.is_symlink());
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut command = root.command(&["cp", "p:/x", link.to_str().unwrap()]);
    let theirs = std::os::fd::OwnedFd::from(theirs);
    assert!(command.stdout(theirs).status().unwrap().success());
    drop(command);
    let mut said = String::new();
    std::io::Read::read_to_string(&mut &ours, &mut said).unwrap();
    assert_eq!(said, "data\n");
    assert!(link.is_symlink());
    let socket = work.join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    cp(&root, "p:/x", &socket).fails(5, "a socket");
}

#[test]
fn a_whole_root_directory_comes_without_the_kernels_files() {
    let extra = json!({"securityContext": {"runAsUser": 1000}});
    let root = root_with(IDLE, extra, json!([]));
    let out = work(&root).join("out");
    let ran = root.carob(&["cp", "p:/", out.to_str().unwrap(), "-o", "json"]);
    let copied: Value = serde_json::from_str(&ran.stdout).unwrap();
    let reason = |path: &str| {
        let all = copied["skipped"].as_array().unwrap().iter();
        let mut of_it = all.filter(|s| s["path"] == path);
        of_it
            .next()
            .map(|s| s["reason"].as_str().unwrap().to_owned())
    };
    assert_eq!(reason("proc").as_deref(), Some("KernelFiles"));
    assert_eq!(reason("sys").as_deref(), Some("KernelFiles"));
    assert!(out.join("bin/busybox").exists());
    assert_eq!(ran.code, i32::from(copied["unreadable"] != 0));
}

/// Every link is resolved in the container, and none of its links on this machine.
#[test]
fn no_link_of_the_container_leads_out() {
    let root = idle();
    let work = work(&root);
    let secret = work.join("secret");
    fs::write(&secret, "of the host").unwrap();
    let outside = work.display();
    root.sh(
        "p",
        &format!(
            "ln -s {outside} /abs; ln -s ../../../../../../../../{outside} /rel; ln -s /proc/1/root /magic; \
             ln -s loop /loop; mkdir /t; ln -s {outside} /t/{}",
            "name"
        ),
    );
    let x = work.join("x");
    for path in ["/abs/secret", "/rel/secret", "/../../..{outside}/secret"] {
        cp(&root, format!("p:{path}"), &x).fails(4, "no such file");
    }
    for path in [
        "/magic/etc/passwd",
        "/proc/1/root/etc/passwd",
        "/proc/self/root/etc",
        "/proc/1/cwd",
    ] {
        let ran = cp(&root, format!("p:{path}"), &x);
        assert_ne!(ran.code, 0, "{path}: {ran:?}");
    }
    cp(&root, "p:/loop", &x).fails(3, "ELOOP");
    for path in ["/abs/made", "/rel/made"] {
        cp(&root, &secret, format!("p:{path}")).fails(4, "does not exist");
    }
    cp(&root, &secret, "p:/magic/made").fails(1, "ELOOP");
    assert_eq!(names(&work), ["secret"]);
    // Below the destination no link is followed, on either side.
    let tree = work.join("tree");
    fs::create_dir_all(tree.join("name")).unwrap();
    fs::write(tree.join("name/made"), "").unwrap();
    cp(&root, tree.join("."), "p:/t").fails(5, "links are not followed");
    root.sh(
        "p",
        "rm /t/name; mkdir -p /t/name; echo x > /t/name/f; echo y > /t/g",
    );
    let out = work.join("out");
    let elsewhere = work.join("elsewhere");
    fs::create_dir_all(&out).unwrap();
    fs::create_dir_all(&elsewhere).unwrap();
    symlink(&elsewhere, out.join("name")).unwrap();
    symlink(&secret, out.join("g")).unwrap();
    cp(&root, "p:/t", &out).fails(5, "links are not followed");
    assert!(names(&elsewhere).is_empty());
    fs::remove_file(out.join("name")).unwrap();
    cp(&root, "p:/t", &out).ok();
    // In the place of the link, not through it.
    assert_eq!(fs::read_to_string(&secret).unwrap(), "of the host");
    assert_eq!(fs::read_to_string(out.join("g")).unwrap(), "y\n");
    assert_eq!(names(&elsewhere), Vec::<String>::new());
}

#[test]
fn a_container_that_swaps_directories_and_links_gains_nothing() {
    // The link names a directory that only the host has.
    let root = Root::on_disk();
    root.load_image();
    let target = root.dir().join("target");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("secret"), "of the host").unwrap();
    let script = format!(
        "mkdir -p /t/a/b /t/c; for i in 1 2 3 4 5; do echo inside > /t/a/b/f$i; done; \
         ln -s /../../..{} /t/link; ln -s {} /t/c/link; mkfifo /t/fifo; \
         while :; do mv /t/a /t/x; mv /t/link /t/a; mv /t/a /t/link; mv /t/fifo /t/a; mv /t/a /t/fifo; \
         mv /t/c /t/a; mv /t/a /t/c; mv /t/x /t/a; \
         mv /t/a/b/f1 /t/y; mv /t/fifo /t/a/b/f1; mv /t/a/b/f1 /t/fifo; mv /t/y /t/a/b/f1; done",
        target.display(),
        target.display()
    );
    let spec = json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": [sh("main", &script, json!({}))],
    });
    root.apply(&pod("p", spec)).ok();
    let work = work(&root);
    let tree = work.join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::write(tree.join("a/b/made"), "made").unwrap();
    fs::write(tree.join("a/made"), "made").unwrap();
    for n in 0..60 {
        let out = work.join(format!("out{n}"));
        // Each of the two may fail, if a directory is another thing at that moment.
        cp(&root, "p:/t", &out);
        cp(&root, "p:/t/a/b", &out);
        cp(&root, tree.join("."), "p:/t");
        cp(&root, tree.join("a/made"), "p:/t/a/made");
        let text = std::process::Command::new("grep")
            .args(["-r", "of the host"])
            .arg(&work)
            .output()
            .unwrap();
        assert!(text.stdout.is_empty(), "{text:?}");
    }
    assert_eq!(names(&target), ["secret"]);
}

#[test]
fn a_paused_pod_can_be_copied_from_and_to() {
    let root = idle();
    let file = work(&root).join("file");
    fs::write(&file, "x").unwrap();
    root.sh("p", "echo y > /y");
    root.carob(&["pause", "p"]).ok();
    cp(&root, &file, "p:/x").ok();
    assert_eq!(cp(&root, "p:/y", "/dev/stdout").ok(), "y\n");
    root.carob(&["resume", "p"]).ok();
    assert_eq!(root.sh("p", "cat /x"), "x");
}

/// A file whose copying takes a while.
fn large(dir: &Path) -> PathBuf {
    let path = dir.join("large");
    let file = fs::File::create(&path).unwrap();
    nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, 1 << 30).unwrap();
    let chunk = vec![1; 1 << 20];
    for _ in 0..400 {
        std::io::Write::write_all(&mut &file, &chunk).unwrap();
    }
    path
}

fn start(root: &Root, from: &str, to: &str) -> std::process::Child {
    let mut command = root.command(&["cp", from, to]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Waits until the process has written so many bytes.
fn works(child: &std::process::Child, bytes: u64) {
    until(|| {
        let io = fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap_or_default();
        let mut lines = io.lines().filter_map(|l| l.strip_prefix("wchar: "));
        match lines.next().and_then(|n| n.parse::<u64>().ok()) {
            Some(n) if n >= bytes => Ok(()),
            _ if !alive(child.id() as i32) => Ok(()),
            _ => Err(()),
        }
    })
    .unwrap();
}

#[test]
fn a_copy_that_is_killed_leaves_nothing() {
    let root = idle();
    let work = work(&root);
    let large = large(&work);
    root.sh("p", "mkdir /d");
    let out = work.join("out");
    fs::create_dir(&out).unwrap();
    let mut child = start(&root, large.to_str().unwrap(), "p:/d/large");
    works(&child, 1 << 20);
    child.kill().unwrap();
    child.wait().unwrap();
    let left = root.sh("p", "ls -A /d");
    // Linux 6.1 has no files without a name on overlayfs: there a kill leaves one.
    let pid = root.pid("p", "main");
    let probe = fs::OpenOptions::new()
        .write(true)
        .custom_flags(nix::libc::O_TMPFILE)
        .open(format!("/proc/{pid}/root/d"));
    match probe {
        Ok(_) => assert_eq!(left, ""),
        Err(_) => assert!(left.starts_with(".carob-cp-"), "{left}"),
    }
    cp(&root, &large, "p:/l").ok();
    let mut child = start(&root, "p:/l", out.to_str().unwrap());
    works(&child, 1 << 20);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(names(&out).is_empty());
}

#[test]
fn a_copy_goes_on_without_the_monitor() {
    let root = idle();
    let work = work(&root);
    let large = large(&work);
    let monitor = root.monitor_pid("p");
    let child = start(&root, large.to_str().unwrap(), "p:/l");
    works(&child, 1 << 20);
    kill_9(monitor);
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{done:?}");
    assert_eq!(root.sh("p", "stat -c %s /l"), "1073741824\n");
    assert_ne!(root.monitor_pid("p"), monitor);
}

#[test]
fn a_container_that_ends_ends_the_copy() {
    let root = idle();
    let work = work(&root);
    let large = large(&work);
    let pid = root.pid("p", "main");
    let child = start(&root, large.to_str().unwrap(), "p:/l");
    works(&child, 1 << 20);
    kill_9(pid);
    let done = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(5), "{text}");
    assert!(text.contains("has ended while files were copied"), "{text}");
    root.becomes("p", ".status.phase", "Failed");
    cp(&root, "p:/l", work.join("x")).fails(5, "is not running: ended with 137");
}

/// A reader that reads nothing keeps neither the container's mounts nor the command.
#[test]
fn a_container_that_ends_does_not_wait_for_a_slow_reader() {
    let volume = json!({"volumeMounts": [{"name": "mem", "mountPath": "/mem"}]});
    let volumes = json!([{"name": "mem", "emptyDir": {"medium": "Memory"}}]);
    let root = root_with(IDLE, volume, volumes);
    root.sh("p", "dd if=/dev/zero of=/mem/x bs=1M count=8 2>/dev/null");
    let fifo = work(&root).join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let children = ["/dev/stdout", fifo.to_str().unwrap()].map(|to| start(&root, "p:/mem/x", to));
    // Both have begun, and wait: what the reader leaves fills a pipe of 64 KiB.
    children.iter().for_each(|child| works(child, 64 << 10));
    root.carob(&["delete", "pod", "p"]).ok();
    for child in children {
        // `wait_with_output` would read.
        let mut child = child;
        let code = child.wait().unwrap().code();
        assert_eq!(code, Some(5));
        let done = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&done.stderr);
        assert!(text.contains("has ended while files were copied"), "{text}");
    }
}

/// Enough for several threads.
#[test]
fn of_many_files_none_is_lost_and_an_error_ends_all() {
    let root = idle();
    let work = work(&root);
    let tree = work.join("tree");
    for d in 0..30 {
        let dir = tree.join(format!("d{}/deep{}", d % 5, d));
        fs::create_dir_all(&dir).unwrap();
        for n in 0..100 {
            fs::write(dir.join(format!("f{n}")), format!("{d} {n}")).unwrap();
        }
        // One of 30 names of one file.
        if d > 0 {
            fs::hard_link(tree.join("d0/deep0/f0"), dir.join("same")).unwrap();
        }
    }
    let value = copied(&root, &tree, "p:/tree");
    assert_eq!(
        (&value["files"], &value["directories"]),
        (&json!(3029), &json!(36))
    );
    let sum = "cd /tree; find . -type f | wc -l; find . -name same | xargs stat -c %i | sort -u | wc -l; \
               stat -c %h d0/deep0/f0";
    assert_eq!(root.sh("p", sum), "3029\n1\n30\n");
    let back = work.join("back");
    assert_eq!(copied(&root, "p:/tree", &back)["files"], 3029);
    let diff = std::process::Command::new("diff")
        .arg("-r")
        .args([&tree, &back])
        .output()
        .unwrap();
    assert!(diff.status.success(), "{diff:?}");
    root.sh("p", "rm -r /tree; mkdir -p /tree/d2/deep17/f55");
    cp(&root, tree.join("."), "p:/tree").fails(5, "\"d2/deep17/f55\": a directory is there");
    root.sh(
        "p",
        "rm -r /tree; mkdir -p /tree/d2; ln -s / /tree/d2/deep17",
    );
    cp(&root, tree.join("."), "p:/tree").fails(5, "\"d2/deep17\": what is there is no directory");
    assert_eq!(
        root.sh(
            "p",
            "ls -a /tree | grep carob | wc -l; ls / | grep -c f55 || true"
        ),
        "0\n0\n"
    );
}

/// Small files of a new directory have their names from the start.
#[test]
fn what_has_no_room_leaves_no_half_file() {
    let root = root_with(
        IDLE,
        json!({"volumeMounts": [{"name": "memory", "mountPath": "/memory"}]}),
        json!([{"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]),
    );
    let tree = work(&root).join("tree");
    fs::create_dir(&tree).unwrap();
    for n in 0..30 {
        fs::write(tree.join(format!("f{n}")), vec![b'x'; 50_000]).unwrap();
    }
    let ran = cp(&root, &tree, "p:/memory").fails(1, "ENOSPC");
    assert!(ran.stderr.contains("there is no room"), "{ran:?}");
    let sizes = root.sh(
        "p",
        "cd /memory/tree; stat -c %s * .??* 2>&- | sort | uniq -c",
    );
    assert!(sizes.ends_with(" 50000\n"), "{sizes}");
    assert_eq!(sizes.lines().count(), 1, "{sizes}");
}

#[test]
fn directories_are_not_followed_without_end() {
    let root = idle();
    let out = work(&root).join("out");
    let deep =
        "mkdir /deep; cd /deep; n=0; while [ $n -lt 400 ]; do mkdir d; cd d; n=$((n+1)); done";
    root.sh("p", deep);
    cp(&root, "p:/deep", &out).fails(3, "nested deeper than 256");
}
