//! What is on disk in a directory, by the filesystem's own count: project quotas (ext4 with the
//! features `quota` and `project`, xfs, mounted with `prjquota`). Where there are none, nothing
//! here does anything.
//!
//! The project of a directory follows from its path, so that it is found and released after
//! any crash. What is in `/etc/projects` and `/etc/projid`, or has files or limits, is
//! another's (projects(5), projid(5)).
//!
//! A process may change the project of a file that it owns. So this count never stands alone:
//! docs/decisions/0027-project-quotas.md.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};

use crate::linux::root::{open_dir, reopen};
use crate::sys::quota::{self as sys, Quota};
use crate::{Error, Result};

/// How far from the limit writing ends: a volume that is beyond its limit is to be seen, and
/// its Pod to be evicted.
fn hard_limit_kib(limit: u64) -> u64 {
    const LEAST: u64 = 1 << 20;
    const MOST: u64 = 256 << 20;
    let slack = (limit / 8).clamp(LEAST, MOST);
    limit.saturating_add(slack).div_ceil(1024)
}

/// Begins to count what is in a new directory, and bounds it. Whether the filesystem does.
pub(crate) fn begin(dir: &Path, limit: u64) -> Result<bool> {
    let fd = open(dir)?;
    let ids = candidates(dir);
    if !has_quotas(fd.as_fd(), ids[0]) {
        return Ok(false);
    }
    let call = |name: &str, id: u32| format!("{name}({}, {id})", dir.display());
    let now = sys::project(fd.as_fd()).map_err(|e| Error::sys(call("FS_IOC_FSGETXATTR", 0), e))?;
    let id = match ids.contains(&now) {
        // Of an earlier try.
        true => now,
        false => {
            let others = others();
            let free = |id: &u32| !others.contains(id) && is_free(fd.as_fd(), *id);
            let Some(id) = ids.into_iter().find(free) else {
                return Ok(false);
            };
            sys::set_project(fd.as_fd(), id)
                .map_err(|e| Error::sys(call("FS_IOC_FSSETXATTR", id), e))?;
            id
        }
    };
    sys::set_limit(fd.as_fd(), id, hard_limit_kib(limit))
        .map_err(|e| Error::sys(call("quotactl_fd", id), e))?;
    Ok(true)
}

/// Bytes in the directory by the filesystem's count, files without a name too. `None`: it
/// does not count, or a container has changed the directory's project.
pub(crate) fn used(dir: &Path) -> Option<u64> {
    let (fd, id) = counted(dir)?;
    sys::quota(fd.as_fd(), id).ok().map(|q| q.bytes)
}

/// Takes the limit away, before the directory is removed.
pub(crate) fn release(dir: &Path) -> Result<()> {
    match counted(dir) {
        Some((fd, id)) => sys::set_limit(fd.as_fd(), id, 0)
            .map_err(|e| Error::sys(format!("quotactl_fd({}, {id}, 0)", dir.display()), e)),
        None => Ok(()),
    }
}

fn open(dir: &Path) -> Result<OwnedFd> {
    reopen(open_dir(dir)?.as_fd(), OFlag::O_RDONLY | OFlag::O_DIRECTORY)
}

fn counted(dir: &Path) -> Option<(OwnedFd, u32)> {
    let fd = open(dir).ok()?;
    // A container that owns the directory can have made it another's project.
    let id = sys::project(fd.as_fd()).ok()?;
    candidates(dir).contains(&id).then_some((fd, id))
}

/// Numbers that are not those of a kubelet (1048577 and the following ones), nor likely those
/// of an administrator, and which no other volume has but by chance.
fn candidates(dir: &Path) -> [u32; 8] {
    const FIRST: u32 = 1 << 30;
    let hash = Sha256::digest(dir.as_os_str().as_encoded_bytes());
    let mut ids = [0; 8];
    for (id, bytes) in ids.iter_mut().zip(hash.chunks_exact(4)) {
        let n = bytes.iter().fold(0, |n, b| n << 8 | u32::from(*b));
        *id = FIRST + n % FIRST;
    }
    ids
}

fn has_quotas(fd: BorrowedFd, id: u32) -> bool {
    // xfs: ENOENT, of a project that nothing is known of.
    matches!(sys::quota(fd, id), Ok(_) | Err(Errno::ENOENT))
}

fn is_free(fd: BorrowedFd, id: u32) -> bool {
    match sys::quota(fd, id) {
        Ok(found) => found == Quota::default(),
        Err(e) => e == Errno::ENOENT,
    }
}

/// What others have names or directories for.
fn others() -> Vec<u32> {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    numbers(&read("/etc/projects"), &read("/etc/projid"))
}

fn numbers(projects: &str, projid: &str) -> Vec<u32> {
    let first = projects.lines().filter_map(|l| l.split(':').next());
    let second = projid.lines().filter_map(|l| l.split(':').nth(1));
    let all = first.chain(second);
    all.filter_map(|text| text.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projects_of_others() {
        let projects = "# comment\n42:/srv/data\n1048577:/var/lib/kubelet/pods/x\n\n";
        assert_eq!(numbers(projects, "web: 7 \nbad:x\n"), [42, 1_048_577, 7]);
    }

    #[test]
    fn a_volume_has_the_same_numbers_always_and_no_other_has_them() {
        let [a, b] = ["/data/pods/1/volumes/v", "/data/pods/1/volumes/w"].map(Path::new);
        assert_eq!(candidates(a), candidates(a));
        assert!(candidates(a).iter().all(|id| !candidates(b).contains(id)));
        let all = candidates(a).into_iter().chain(candidates(b));
        assert!(all.into_iter().all(|id| id >> 30 == 1));
    }

    #[test]
    fn writing_ends_a_little_beyond_the_limit() {
        assert_eq!(hard_limit_kib(1), 1025);
        assert_eq!(hard_limit_kib(2 << 20), 3 << 10);
        assert_eq!(hard_limit_kib(80 << 20), 90 << 10);
        assert_eq!(hard_limit_kib(1 << 40), (1 << 30) + (256 << 10));
        assert_eq!(hard_limit_kib(u64::MAX), u64::MAX / 1024 + 1);
    }

    fn run(program: &str, args: &[&str]) -> bool {
        let output = std::process::Command::new(program).args(args).output();
        output.unwrap().status.success()
    }

    #[test]
    fn a_filesystem_without_quotas_is_left_alone() {
        let dir = std::env::temp_dir().join(format!("carob-no-quota-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let has = begin(&dir, 1 << 20).unwrap();
        let found = (has, used(&dir), release(&dir).is_ok());
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(found, (false, None, true));
    }

    /// Where the kernel has quotas on ext4 (CONFIG_QFMT_V2), as Debian's have.
    #[test]
    fn what_the_filesystem_counts() {
        let base = std::env::temp_dir().join(format!("carob-quota-{}", std::process::id()));
        let (at, image) = (base.join("m"), base.join("image"));
        std::fs::create_dir_all(&at).unwrap();
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(64 << 20).unwrap();
        let [m, i] = [&at, &image].map(|path| path.to_str().unwrap());
        assert!(run("mkfs.ext4", &["-q", "-F", "-O", "quota,project", i]));
        if !run("mount", &["-o", "loop,prjquota", i, m]) {
            std::fs::remove_dir_all(&base).unwrap();
            let has_format = run("modprobe", &["quota_v2"]);
            assert!(!has_format, "a kernel with quotas takes no prjquota");
            return;
        }
        let done = std::panic::catch_unwind(|| counts(&at));
        assert!(run("umount", &[m]));
        std::fs::remove_dir_all(&base).unwrap();
        done.unwrap();
    }

    fn counts(at: &Path) {
        use std::io::Write;
        let dir = at.join("v");
        std::fs::create_dir(&dir).unwrap();
        assert_eq!(used(&dir), None);
        assert!(begin(&dir, 8 << 20).unwrap());
        let first = candidates(&dir)[0];
        let of = |id: u32| sys::quota(open(&dir).unwrap().as_fd(), id).unwrap();
        assert_eq!(of(first).limit_kib, 9 << 10);
        let empty = used(&dir).unwrap();
        // A file counts for as long as it is open.
        let mut file = std::fs::File::create(dir.join("f")).unwrap();
        file.write_all(&vec![1; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        std::fs::remove_file(dir.join("f")).unwrap();
        assert!(used(&dir).unwrap() >= empty + (1 << 20));
        drop(file);
        assert_eq!(used(&dir), Some(empty));
        // Made again, it keeps its number; one that is in use is left alone.
        assert!(begin(&dir, 16 << 20).unwrap());
        assert_eq!(of(first).limit_kib, 18 << 10);
        sys::set_project(open(&dir).unwrap().as_fd(), 0).unwrap();
        assert_eq!(used(&dir), None);
        release(&dir).unwrap();
        assert_eq!(of(first).limit_kib, 18 << 10);
        assert!(begin(&dir, 8 << 20).unwrap());
        let second = candidates(&dir)[1];
        assert_eq!(
            (of(first).limit_kib, of(second).limit_kib),
            (18 << 10, 9 << 10)
        );
        release(&dir).unwrap();
        std::fs::remove_dir(&dir).unwrap();
        let gone = sys::quota(open(at).unwrap().as_fd(), second).unwrap();
        assert_eq!(gone, Quota::default());
    }
}
