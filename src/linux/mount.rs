//! Mounts as values: a [`Mount`] is a detached mount, in nobody's namespace until
//! it is attached, gone with its last fd. See open_tree(2), fsopen(2),
//! mount_setattr(2), and mount_namespaces(7) for propagation.
//!
//! A copy of a shared mount is shared too, and systemd makes every mount of the host
//! shared: what is mounted below such a copy shows up on the host, and pivot_root(2)
//! refuses it. So a copy is private from the start, unless its propagation was asked
//! for ([`Mount::copy_as_peer`]).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, umount2};

use super::root::remove_tree;
use super::{module, mount_table};
use crate::sys::mount::{self as sys, Attributes, FsContext};
pub(crate) use crate::sys::mount::{
    ATIME_MASK, ATTR_NOATIME, ATTR_NODEV, ATTR_NODIRATIME, ATTR_NOEXEC, ATTR_NOSUID,
    ATTR_NOSYMFOLLOW, ATTR_RDONLY, ATTR_STRICTATIME,
};
use crate::{Call, Context, Error, Result};

pub(crate) const OWN_PROGRAM: &str = "/proc/self/exe";

/// A change of a mount's attributes: MOUNT_ATTR_* to set and to clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub set: u64,
    /// The kernel clears first.
    pub clear: u64,
}

impl Change {
    pub const READ_ONLY: Change = Change {
        set: ATTR_RDONLY,
        clear: 0,
    };

    /// This change and then another one, which wins.
    pub fn then(&mut self, set: u64, clear: u64) {
        self.set = self.set & !clear | set;
        self.clear |= clear;
    }

    pub fn is_none(self) -> bool {
        self.set == 0 && self.clear == 0
    }
}

/// A mount that is not attached yet.
#[derive(Debug)]
pub struct Mount(OwnedFd);

impl AsFd for Mount {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Mount> for OwnedFd {
    fn from(mount: Mount) -> OwnedFd {
        mount.0
    }
}

impl Mount {
    /// A new filesystem. An option is `name` or (`name`, value).
    pub fn new(fstype: &str, options: &[(&str, &str)], attributes: u64) -> Result<Self> {
        Mount::from(fstype, fstype, options, attributes)
    }

    /// This program's own file, read-only, to run a process from that is about to be
    /// a container's: what it has of this program is /proc/<pid>/exe, and whoever
    /// opens that could write to the host's file later on (runc CVE-2019-5736).
    pub fn of_this_program() -> Result<Self> {
        let program = Mount::copy(Path::new(OWN_PROGRAM), false)?;
        program.set(ATTR_RDONLY, false)?;
        Ok(program)
    }

    /// As [`Mount::new`], of `source`: a device, or what mount(8) shows in its first
    /// column.
    pub fn from(
        fstype: &str,
        source: &str,
        options: &[(&str, &str)],
        attributes: u64,
    ) -> Result<Self> {
        let context = FsContext::open(fstype)
            .call(|| format!("fsopen({fstype:?})"))
            .map_err(|e| match e.errno() {
                Some(Errno::ENODEV) => module::missing(e, fstype),
                _ => e,
            })?;
        context
            .set("source", source)
            .call(|| format!("fsconfig({fstype:?}, \"source\", {source:?})"))?;
        for (key, value) in options {
            let set = if value.is_empty() {
                context.flag(key)
            } else {
                context.set(key, value)
            };
            set.call(|| format!("fsconfig({fstype:?}, {key:?}, {:?})", shown(key, value)))
                .map_err(|e| match context.message() {
                    Some(text) if !text.is_empty() => e.hint(text),
                    _ => e,
                })?;
        }
        context
            .mount(attributes)
            .call(|| format!("fsmount({fstype:?}, {attributes:#x})"))
            .map(Mount)
    }

    /// The EROFS image in a file, read-only, of no use to who might come by it.
    pub fn erofs(file: &Path) -> Result<Self> {
        let attributes = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;
        // At most 255 bytes are taken.
        let opened;
        let source = match file.to_str().filter(|p| p.len() < 256) {
            Some(path) => path.to_owned(),
            None => {
                opened = std::fs::File::open(file)
                    .with_context(|| format!("open({})", file.display()))?;
                format!("/proc/self/fd/{}", opened.as_raw_fd())
            }
        };
        Mount::from("erofs", &source, &[], attributes).map_err(|e| match e.errno() {
            // No such filesystem; from block devices alone; not of this kind.
            Some(Errno::ENODEV | Errno::ENOTBLK | Errno::EINVAL | Errno::EOPNOTSUPP) => e.hint(
                "erofs layers need Linux 6.12 or later with CONFIG_EROFS_FS_BACKED_BY_FILE, and a \
                 file on a disk, not on tmpfs; with `carob system layers dir` layers become \
                 directories again",
            ),
            _ => e,
        })
    }

    /// A private copy of the mount at `path` of the host, of everything below it too
    /// if `recursive`.
    pub fn copy(path: &Path, recursive: bool) -> Result<Self> {
        Mount::copy_as_peer(path, recursive)?.made_private(recursive)
    }

    /// As [`Mount::copy`], in the peer group of the original if that has one: events of
    /// mounting and unmounting pass between the two. For propagation that was asked for.
    pub fn copy_as_peer(path: &Path, recursive: bool) -> Result<Self> {
        sys::clone_tree(sys::cwd(), path, recursive)
            .call(|| format!("open_tree({path:?}, OPEN_TREE_CLONE)"))
            .map(Mount)
    }

    /// As [`Mount::copy`], of what an fd refers to.
    pub fn copy_fd(fd: BorrowedFd, recursive: bool) -> Result<Self> {
        Mount::copy_fd_as_peer(fd, recursive)?.made_private(recursive)
    }

    /// As [`Mount::copy_as_peer`], of what an fd refers to.
    pub fn copy_fd_as_peer(fd: BorrowedFd, recursive: bool) -> Result<Self> {
        sys::clone_tree(fd, Path::new(""), recursive)
            .call(|| "open_tree(<fd>, OPEN_TREE_CLONE)")
            .map(Mount)
    }

    /// What another process has made and sent.
    pub fn received(fd: OwnedFd) -> Self {
        Mount(fd)
    }

    fn made_private(self, recursive: bool) -> Result<Self> {
        self.set_propagation(MsFlags::MS_PRIVATE, recursive)?;
        Ok(self)
    }

    /// The host's null device, on a read-only mount: it swallows and gives what it
    /// always does, but a root that reaches it can change neither its mode, its
    /// owner nor its times, which are those of the whole machine's /dev/null.
    pub fn null_device() -> Result<Self> {
        let null = Mount::copy(Path::new("/dev/null"), false)?;
        null.set(ATTR_RDONLY | ATTR_NOSUID | ATTR_NOEXEC, false)?;
        Ok(null)
    }

    /// An overlay of `lowers` (the topmost first), writable through `upper`.
    ///
    /// `volatile`: its unmounting does not sync `upper` to disk, since nothing in
    /// it outlives a crash of the machine anyway.
    ///
    /// `label`: the SELinux label of everything in it.
    ///
    /// Kernels before 6.8 take all lower directories as one option of less than a
    /// page, so they are given relative to `base`, their common parent.
    pub fn overlay(
        base: &Path,
        lowers: &[PathBuf],
        upper: &Path,
        work: &Path,
        scratch: &Path,
        label: Option<&str>,
    ) -> Result<Self> {
        Mount::any_overlay(base, lowers, Some((upper, work)), scratch, label)
    }

    /// An overlay of `lowers`, at least two, into which nobody can write: as
    /// [`Mount::overlay`] but for that.
    pub(crate) fn overlay_to_read(
        base: &Path,
        lowers: &[PathBuf],
        scratch: &Path,
        label: Option<&str>,
    ) -> Result<Self> {
        Mount::any_overlay(base, lowers, None, scratch, label)
    }

    fn any_overlay(
        base: &Path,
        lowers: &[PathBuf],
        writable: Option<(&Path, &Path)>,
        scratch: &Path,
        label: Option<&str>,
    ) -> Result<Self> {
        match overlay_by_context(lowers, writable, label) {
            Ok(mount) => Ok(Mount(mount)),
            Err((_, Errno::EINVAL | Errno::E2BIG | Errno::ENOSYS)) => {
                overlay_by_options(base, lowers, writable, scratch, label)
            }
            Err((call, Errno::ENODEV)) => {
                Err(module::missing(Error::sys(call, Errno::ENODEV), "overlay"))
            }
            Err((call, e)) => Err(Error::sys(call, e)),
        }
    }

    pub fn set(&self, attributes: u64, recursive: bool) -> Result<()> {
        let change = Change {
            set: attributes,
            clear: 0,
        };
        self.change(change, recursive)
    }

    pub fn change(&self, change: Change, recursive: bool) -> Result<()> {
        self.set_attributes(
            Attributes {
                set: change.set,
                clear: change.clear,
                ..Attributes::default()
            },
            recursive,
        )
    }

    /// `propagation` is one of MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE.
    pub fn set_propagation(&self, propagation: MsFlags, recursive: bool) -> Result<()> {
        self.set_attributes(
            Attributes {
                propagation: propagation.bits(),
                ..Attributes::default()
            },
            recursive,
        )
    }

    /// Owners are shown as `user_namespace` maps them. Only while it is detached,
    /// and only for filesystems that can (FS_ALLOW_IDMAP).
    pub fn map_ids(&self, user_namespace: BorrowedFd, recursive: bool) -> Result<()> {
        let attributes = Attributes {
            set: sys::ATTR_IDMAP,
            user_namespace: Some(user_namespace),
            ..Attributes::default()
        };
        self.set_attributes(attributes, recursive)
            .map_err(|e| match e.errno() {
                Some(Errno::EINVAL) => e.hint("its filesystem cannot be idmapped on this kernel"),
                _ => e,
            })
    }

    fn set_attributes(&self, attributes: Attributes, recursive: bool) -> Result<()> {
        sys::set_attributes(self.as_fd(), attributes, recursive).call(|| {
            let Attributes { set, clear, .. } = attributes;
            let propagation = attributes.propagation;
            format!(
                "mount_setattr(<mount>, {{set={set:#x}, clear={clear:#x}, propagation={propagation:#x}}})"
            )
        })
    }

    /// On top of `target`, in the calling process's mount namespace. The value
    /// goes on being an fd of the mount's root.
    pub fn attach(&self, target: BorrowedFd) -> Result<()> {
        sys::move_mount(self.as_fd(), target)
            .call(|| "move_mount(<mount>, <target>)")
            .map_err(too_many)
            .map_err(|e| match e.errno() {
                Some(Errno::ELOOP) => e.hint(
                    "a mount namespace is pinned below the source (nsfs with mnt:[...] in \
                     /proc/self/mountinfo), and the kernel attaches no copy of that: mount a \
                     directory without it",
                ),
                _ => e,
            })
    }
}

/// An option's value, in the log and in errors: some of network filesystems are secret.
fn shown<'v>(key: &str, value: &'v str) -> &'v str {
    match key.contains("pass") || key.contains("secret") {
        true => "...",
        false => value,
    }
}

type CallError = (String, Errno);

/// `writable`: its upper directory and its working directory.
fn overlay_by_context(
    lowers: &[PathBuf],
    writable: Option<(&Path, &Path)>,
    label: Option<&str>,
) -> std::result::Result<OwnedFd, CallError> {
    let at = |call: String| move |e| (call, e);
    let context = FsContext::open("overlay").map_err(at("fsopen(\"overlay\")".into()))?;
    let set = |key: &str, value: &Path| {
        let text = value.to_str().filter(|t| t.len() < 256).ok_or(Errno::E2BIG);
        let call = || format!("fsconfig(\"overlay\", {key:?}, {value:?})");
        text.and_then(|t| context.set(key, t))
            .traced(call)
            .map_err(|e| (call(), e))
    };
    set("source", Path::new("overlay"))?;
    for lower in lowers {
        set("lowerdir+", lower)?;
    }
    if let Some((upper, work)) = writable {
        set("upperdir", upper)?;
        set("workdir", work)?;
        context
            .flag("volatile")
            .map_err(at("fsconfig(\"overlay\", \"volatile\")".into()))?;
    }
    if apart(lowers, writable) {
        set("xino", Path::new("on"))?;
    }
    if let Some(label) = label {
        set("context", Path::new(label))?;
    }
    context
        .mount(0)
        .traced(|| "fsmount(\"overlay\")")
        .map_err(at("fsmount(\"overlay\")".into()))
}

/// Whether the layers are on several filesystems. The files of an overlay then have
/// the device numbers of each, for which `tar --one-file-system` and the like leave
/// them out, and another inode number once they are written to; unless the kernel is
/// told to make numbers of its own (overlayfs.rst, "Inode properties").
fn apart(lowers: &[PathBuf], writable: Option<(&Path, &Path)>) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(path).map(|m| m.dev()).ok();
    let upper = writable.map(|(upper, _)| upper);
    let mut all = lowers.iter().map(PathBuf::as_path).chain(upper);
    let first = all.next().map(device);
    all.any(|l| Some(device(l)) != first)
}

/// mount(2) has no detached form: mount on `scratch`, copy, unmount. Other mount
/// namespaces see that unless `scratch` lies below a private mount ([`make_private`]).
fn overlay_by_options(
    base: &Path,
    lowers: &[PathBuf],
    writable: Option<(&Path, &Path)>,
    scratch: &Path,
    label: Option<&str>,
) -> Result<Mount> {
    let before = nix::unistd::getcwd()?;
    nix::unistd::chdir(base).map_err(|e| Error::sys(format!("chdir({base:?})"), e))?;
    let made = (|| {
        let relative: Vec<String> = lowers
            .iter()
            .map(|l| escape(l.strip_prefix(base).unwrap_or(l)))
            .collect();
        // Quoted, since a label has commas: s0:c1,c2.
        let label = label
            .map(|l| format!(",context=\"{l}\""))
            .unwrap_or_default();
        let writable_part = writable.map(|(upper, work)| {
            let (upper, work) = (escape(upper), escape(work));
            format!(",upperdir={upper},workdir={work},volatile")
        });
        let options = format!(
            "lowerdir={}{}{}{label}",
            relative.join(":"),
            writable_part.unwrap_or_default(),
            match apart(lowers, writable) {
                true => ",xino=on",
                false => "",
            },
        );
        nix::mount::mount(
            Some("overlay"),
            scratch,
            Some("overlay"),
            MsFlags::empty(),
            Some(&*options),
        )
        .call(|| format!("mount(\"overlay\", {scratch:?}, {options:?})"))?;
        let copy = Mount::copy(scratch, false);
        unmount(scratch)?;
        copy
    })();
    nix::unistd::chdir(&before).map_err(|e| Error::sys(format!("chdir({before:?})"), e))?;
    made
}

/// Overlay's options end at commas and its layers at colons.
fn escape(path: &Path) -> String {
    path.to_string_lossy()
        .chars()
        .fold(String::new(), |mut s, c| {
            if matches!(c, ',' | ':' | '\\') {
                s.push('\\');
            }
            s.push(c);
            s
        })
}

/// Sets the propagation of the calling process's whole mount tree.
pub(crate) fn set_tree_propagation(propagation: MsFlags) -> Result<()> {
    nix::mount::mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | propagation,
        None::<&str>,
    )
    .call(|| {
        let flags = crate::error::flags(propagation);
        format!("mount(NULL, \"/\", MS_REC|{flags})")
    })
    .map_err(|e| match e.errno() {
        Some(Errno::EINVAL) => e.hint(
            "the root directory of this process is no mount point, as in a plain chroot: \
             `mount --bind DIR DIR` before `chroot DIR`",
        ),
        _ => e,
    })
}

/// Makes a directory of the host a private mount of itself: what is mounted below it
/// shows up in no other mount namespace, though every mount of the host is shared.
/// Once that is so, it does nothing. The caller holds a lock.
pub(crate) fn make_private(dir: &Path) -> Result<()> {
    if is_mount_point(dir)? {
        return Ok(());
    }
    let copy = Mount::copy(dir, false)?;
    copy.attach(super::root::open_dir(dir)?.as_fd())?;
    // Attached below a shared mount, it has become shared itself.
    copy.set_propagation(MsFlags::MS_PRIVATE, false)
}

fn is_mount_point(dir: &Path) -> Result<bool> {
    let id = |path: &Path| mount_table::id_of(super::root::open_dir(path)?.as_fd());
    Ok(id(dir)? != id(&dir.join(".."))?)
}

/// mount --bind `source` `target`.
pub fn bind(source: &Path, target: &Path) -> Result<()> {
    nix::mount::mount(
        Some(source),
        target,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .call(|| format!("mount({source:?}, {target:?}, MS_BIND)"))
    .map_err(too_many)
}

/// Names the limit on the mounts of a mount namespace, where it is reached.
fn too_many(e: Error) -> Error {
    match e.errno() {
        Some(Errno::ENOSPC) => {
            e.hint("a mount namespace holds as many mounts as fs.mount-max says")
        }
        _ => e,
    }
}

/// Detaches what is mounted at `path`; nothing mounted, or nothing there, is fine.
pub fn unmount(path: &Path) -> Result<()> {
    let call = || format!("umount2({path:?}, MNT_DETACH)");
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).traced(call) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(e) => Err(Error::sys(call(), e)),
    }
}

/// Removes a tree that containers have written to. What a container with Bidirectional
/// propagation has mounted in there may still be: it is unmounted, and its files, which are
/// others', stay.
pub(crate) fn remove_written_tree(dir: &Path) -> Result<()> {
    unmount_all(dir)?;
    remove_tree(dir)
}

/// Unmounts all that is mounted at a directory or below it, the last one first.
pub(crate) fn unmount_all(dir: &Path) -> Result<()> {
    // The table has no links in its paths.
    let dir = match dir.canonicalize() {
        Ok(dir) => dir,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).with_context(|| format!("realpath({})", dir.display())),
    };
    let below = || -> Result<Vec<PathBuf>> {
        let table = mount_table::of("self")?;
        let points = table.into_iter().map(|e| e.point);
        Ok(points.filter(|p| p.starts_with(&dir)).collect())
    };
    let found = below()?;
    if found.is_empty() {
        return Ok(());
    }
    // Mounts of one place lie one over the other, and are listed so.
    for point in found.iter().rev() {
        unmount(point)?;
    }
    match below()?.first() {
        None => Ok(()),
        Some(point) => Err(Error::failed(format!(
            "{} is still mounted, and its files are not to be removed",
            point.display()
        ))),
    }
}

/// Goes to the root of this process's own mount namespace, which is not the one it
/// sees if it was started in a chroot. Relative to a chroot, [`pivot_here`] would
/// leave the namespace's own root as it is: where setns(2) leads, so that a process
/// that enters the container would find itself outside, and where one that may
/// chroot(2) gets out to.
pub(crate) fn leave_chroot() -> Result<()> {
    let own = super::namespace::open_own("mnt")?;
    nix::sched::setns(own, nix::sched::CloneFlags::CLONE_NEWNS).call(|| "setns(<own>, CLONE_NEWNS)")
}

/// The current directory becomes the root; the old root is gone from this mount
/// namespace.
pub(crate) fn pivot_here() -> Result<()> {
    sys::pivot_root_here().call(|| "pivot_root(\".\", \".\")")?;
    umount2(".", MntFlags::MNT_DETACH)
        .call(|| "umount2(\".\", MNT_DETACH)")
        .context("leave the old root")?;
    nix::unistd::chdir("/").call(|| "chdir(\"/\")")
}

/// The directory becomes the root of this process, whatever namespace it is in.
pub(crate) fn change_root(dir: BorrowedFd) -> Result<()> {
    nix::unistd::fchdir(dir).call(|| "fchdir(<root>)")?;
    nix::unistd::chroot(".").call(|| "chroot(\".\")")
}

#[cfg(test)]
#[path = "mount_tests.rs"]
mod tests;
