//! A claim whose size holds: a file of that size, attached to a loop device, which is mounted
//! once for all Pods (an ext4 of the machine's mkfs), or which containers have as it is.
//!
//! ```text
//! claims/<uid>/image   the file; sparse
//! claims/<uid>/mnt     where the filesystem is mounted while a Pod has the claim: a private
//!                      mount of itself, and the filesystem on it
//! claims/<uid>/new     nobody has mounted the filesystem yet
//! ```
//!
//! What is attached and mounted is asked of the kernel and not remembered. The callers hold
//! the lock of all claims.
//!
//! No container writes to the file of a filesystem, and the file of a block device is never
//! mounted here: the kernel's ext4 reads no bytes that a container has made up. What a claim
//! is does not change (`volumeMode` is immutable).

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::linux::loop_device::{self, LoopDevice, Node};
use crate::linux::mount::{self, ATTR_NODEV, Mount};
use crate::linux::root::{open_dir, remove_tree, reopen};
use crate::linux::{capability, selinux};
use crate::store::{Layout, make_dir, tagged};
use crate::{Context, Error, Ignored, Result};

/// The data of one such claim.
#[derive(Debug)]
pub(crate) struct SizedClaim {
    dir: PathBuf,
    /// Of the loop device that keeps the claim's one attached.
    mark: String,
}

/// What an ext4 is made with. Its inode tables are zeros already, in a new file; nothing is
/// set aside for root.
const MKFS: [&str; 7] = [
    "-q",
    "-F",
    "-m",
    "0",
    "-E",
    "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0",
    "--",
];
/// `discard`: what is deleted is given back to the machine's filesystem.
const OPTIONS: [(&str, &str); 2] = [("errors", "remount-ro"), ("discard", "")];

/// The marks of a root's keepers begin with this.
pub(crate) fn mark_of_root(tag: &str) -> String {
    format!("{}/", tagged("carob", tag))
}

impl SizedClaim {
    pub(crate) fn of(layout: &Layout, uid: &str) -> Self {
        SizedClaim {
            dir: layout.claim(uid),
            mark: format!("{}{uid}", mark_of_root(layout.tag())),
        }
    }

    fn image(&self) -> PathBuf {
        self.dir.join("image")
    }

    /// Where the filesystem is mounted.
    pub(crate) fn mount_point(&self) -> PathBuf {
        self.dir.join("mnt")
    }

    /// Makes the file where it is not there yet. `new`: the directory that it is made in.
    pub(crate) fn make(&self, new: &Path, bytes: u64, filesystem: bool) -> Result<()> {
        if self.dir.exists() {
            return match self.image().exists() {
                true => Ok(()),
                false => Err(Error::failed(format!(
                    "{} has no file `image`: it is no claim of this kind, or damaged",
                    self.dir.display()
                ))),
            };
        }
        // What was cut short is begun anew.
        remove_tree(new)?;
        make_dir(new)?;
        let image = new.join("image");
        let make = || -> Result<()> {
            let file = File::create_new(&image)?;
            file.set_permissions(PermissionsExt::from_mode(0o600))?;
            file.set_len(whole_pages(bytes))
                .context(format!("ftruncate({bytes})"))
                .map_err(too_large)?;
            if filesystem {
                run("mkfs.ext4", &MKFS, &image, Stdio::null())?;
                File::create_new(new.join("new"))?;
                make_dir(&new.join("mnt"))?;
            }
            // Of a filesystem that is half there after a crash no container could be told.
            Ok(file.sync_all()?)
        };
        make().with_context(|| format!("make {}", image.display()))?;
        std::fs::rename(new, &self.dir).with_context(|| format!("rename({})", new.display()))
    }

    fn attached(&self) -> Result<LoopDevice> {
        match LoopDevice::of_file(&self.image())? {
            Some(device) => Ok(device),
            None => LoopDevice::attach(&self.image()),
        }
    }

    /// The block device, attached until [`SizedClaim::release`]; and whether it has at least
    /// `bytes`.
    pub(crate) fn device(&self, bytes: u64) -> Result<(Node, bool)> {
        let grown = self.grow_file(bytes);
        let is_whole = grown.is_ok();
        grown.ignored("the claim shows the size that it has");
        let device = self.attached()?;
        device.keep(&self.mark)?;
        Ok((device.node()?, is_whole))
    }

    /// As long as it is held no tool of e2fsprogs works on the file, also none of a carob that
    /// was killed: a tool has this as its standard input, and so holds it until it ends.
    fn lock_image(&self) -> Result<File> {
        let image = self.image();
        let file = File::open(&image).with_context(|| format!("open({})", image.display()))?;
        file.lock()
            .with_context(|| format!("flock({})", image.display()))?;
        Ok(file)
    }

    /// Mounts the filesystem, unless it is, and enlarges it to `bytes`. `label`: the SELinux
    /// label that its directory begins with.
    ///
    /// Whether it has that size: one that could not be enlarged is mounted all the same.
    pub(crate) fn mount(&self, bytes: u64, label: Option<&str>) -> Result<bool> {
        let at = self.mount_point();
        if self.is_mounted()? {
            return Ok(self.is_whole(bytes));
        }
        make_dir(&at)?;
        mount::make_private(&at)?;
        self.grow_file(bytes)
            .ignored("the claim shows the size that it has");
        let is_attached = LoopDevice::of_file(&self.image())?.is_some();
        let may_resize = capability::require(&["CAP_SYS_RESOURCE"]).is_ok();
        if !is_attached && !may_resize && !self.is_whole(bytes) {
            self.resize_unmounted(bytes)
                .ignored("the claim is mounted as it is, and shows the size that it has");
        }
        let lock = self.lock_image()?;
        let device = self.attached()?;
        drop(lock);
        let source = device.path();
        let mount = Mount::from("ext4", &source.to_string_lossy(), &OPTIONS, ATTR_NODEV)
            .with_context(|| format!("mount {}", self.image().display()))?;
        let new = self.dir.join("new");
        if new.exists() {
            let root = reopen(mount.as_fd(), OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
            File::from(root)
                .set_permissions(PermissionsExt::from_mode(0o777))
                .context("fchmod(<mount>, 777)")?;
        }
        mount
            .attach(open_dir(&at)?.as_fd())
            .with_context(|| format!("mount {} at {}", source.display(), at.display()))?;
        if new.exists() {
            if let Some(label) = label {
                selinux::label(&at, label)?;
            }
            std::fs::remove_file(&new).with_context(|| format!("unlink({})", new.display()))?;
        }
        log::debug!("{} is mounted at {}", source.display(), at.display());
        if self.is_whole(bytes) {
            return Ok(true);
        }
        // A last group that has no room for its own tables is left out: that is all of it.
        let resized = self.resize_mounted(bytes);
        let is_whole = resized.is_ok();
        resized.ignored("the claim shows the size that it has");
        Ok(is_whole)
    }

    fn is_mounted(&self) -> Result<bool> {
        let device = |path: &Path| match std::fs::metadata(path) {
            Ok(meta) => Ok(Some(meta.dev())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("stat({})", path.display())),
        };
        let at = device(&self.mount_point())?;
        Ok(at.is_some() && at != device(&self.dir)?)
    }

    /// Enlarges the file, and what is in it; there may be none yet.
    ///
    /// # Errors
    /// The filesystem cannot be enlarged now: when it is mounted next, it is tried again.
    pub(crate) fn grow(&self, bytes: u64, filesystem: bool) -> Result<()> {
        if !self.image().exists() {
            return Ok(());
        }
        self.grow_file(bytes)?;
        let is_attached = LoopDevice::of_file(&self.image())?.is_some();
        match filesystem && !self.is_whole(bytes) {
            false => Ok(()),
            true if self.is_mounted()? => self.resize_mounted(bytes),
            true if !is_attached => self.resize_unmounted(bytes),
            true => Err(Error::failed(format!(
                "{} is still in use by a container that ends",
                self.image().display()
            ))),
        }
    }

    /// The loop device that it is attached to knows the size then.
    fn grow_file(&self, bytes: u64) -> Result<()> {
        let image = self.image();
        let device = LoopDevice::of_file(&image)?;
        let context = || format!("enlarge {} to {bytes} bytes", image.display());
        let meta = std::fs::metadata(&image).with_context(context)?;
        if meta.len() < bytes {
            let file = File::options().write(true).open(&image);
            file.and_then(|file| file.set_len(whole_pages(bytes)))
                .with_context(context)
                .map_err(too_large)?;
            if let Some(device) = &device {
                device.set_capacity()?;
            }
        }
        Ok(())
    }

    /// Whether the filesystem in the file is as large as it is to be.
    fn is_whole(&self, bytes: u64) -> bool {
        let blocks = self.blocks();
        blocks.is_ok_and(|(number, size)| number >= bytes / size)
    }

    /// The number of its blocks, and their size: struct ext4_super_block
    /// (Documentation/filesystems/ext4).
    fn blocks(&self) -> Result<(u64, u64)> {
        const MAGIC: u16 = 0xef53;
        const INCOMPAT_64BIT: u32 = 0x80;
        let image = self.image();
        // While it is mounted, the newest is in the device's page cache.
        let place = match LoopDevice::of_file(&image)? {
            Some(device) => device.path(),
            None => image,
        };
        let mut block = [0; 1024];
        File::open(&place)
            .and_then(|file| file.read_exact_at(&mut block, 1024))
            .with_context(|| format!("read({})", place.display()))?;
        let u32_at = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| block[at + i]));
        if u16::from_le_bytes([block[0x38], block[0x39]]) != MAGIC {
            return Err(Error::failed(format!("{}: no ext4", place.display())));
        }
        let high = match u32_at(0x60) & INCOMPAT_64BIT {
            0 => 0,
            _ => u64::from(u32_at(0x150)),
        };
        let size = 1024_u64 << u32_at(0x18).min(6);
        Ok((high << 32 | u64::from(u32_at(4)), size))
    }

    fn resize_mounted(&self, bytes: u64) -> Result<()> {
        let (_, size) = self.blocks()?;
        let root = open_dir(&self.mount_point())?;
        let root = reopen(root.as_fd(), OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        loop_device::resize_ext4(root.as_fd(), bytes / size)
    }

    /// It is not attached, and so nobody has it mounted.
    fn resize_unmounted(&self, bytes: u64) -> Result<()> {
        let (_, size) = self.blocks()?;
        let image = self.image();
        // resize2fs wants it; 1: what it found it has mended.
        let lock = self.lock_image()?;
        run("e2fsck", &["-f", "-p", "--"], &image, lock.try_clone()?)?;
        let program = tool("resize2fs")?;
        let mut command = Command::new(&program);
        command
            .arg("--")
            .arg(&image)
            .arg((bytes / size).to_string());
        execute(command, &program, lock)
    }

    /// Unmounts and detaches what is: no Pod has it.
    pub(crate) fn release(&self) -> Result<()> {
        mount::unmount_all(&self.dir)?;
        for keeper in loop_device::keepers()? {
            if keeper.mark == self.mark {
                keeper.detach()?;
            }
        }
        Ok(())
    }
}

/// A loop device has whole sectors, and direct I/O whole blocks of the machine's disk.
fn whole_pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(4096)
}

/// Where the machine's filesystem has no files so large.
fn too_large(e: Error) -> Error {
    match e.errno() {
        Some(Errno::EFBIG | Errno::ENOSPC) => {
            e.hint("the filesystem of the root's data has no such room: ask for less")
        }
        _ => e,
    }
}

/// A program of e2fsprogs.
fn tool(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A service's PATH, or a user's, may leave these out.
    let places = ["/usr/sbin", "/sbin"].map(PathBuf::from).into_iter();
    let mut places = places.chain(std::env::split_paths(&path));
    places
        .find_map(|dir| Some(dir.join(name)).filter(|p| p.is_file()))
        .ok_or_else(|| {
            Error::not_found(format!("there is no {name}"))
                .hint("install the package e2fsprogs: the Pod starts when it is there")
        })
}

/// Whether this machine can make such filesystems.
pub(crate) fn try_tools() -> Result<()> {
    ["mkfs.ext4", "e2fsck", "resize2fs"]
        .iter()
        .try_for_each(|name| tool(name).map(drop))
}

fn run(name: &str, arguments: &[&str], file: &Path, input: impl Into<Stdio>) -> Result<()> {
    let program = tool(name)?;
    let mut command = Command::new(&program);
    command.args(arguments).arg(file);
    execute(command, &program, input)
}

fn execute(mut command: Command, program: &Path, input: impl Into<Stdio>) -> Result<()> {
    log::debug!("run {command:?}");
    let out = command
        .env("LC_ALL", "C")
        .stdin(input)
        .output()
        .with_context(|| format!("execve({})", program.display()))?;
    let mended = program.ends_with("e2fsck") && out.status.code() == Some(1);
    if out.status.success() || mended {
        return Ok(());
    }
    let said = [out.stderr, out.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    let said: Vec<&str> = said.split_whitespace().collect();
    let text = format!("{}: {}: {}", program.display(), out.status, said.join(" "));
    Err(Error::failed(text).shortened(1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn a_program_that_is_missing_is_named_with_its_package() {
        let e = tool("mkfs.carob").unwrap_err();
        assert_eq!(e.kind(), Kind::NotFound);
        assert!(e.to_string().contains("mkfs.carob"), "{e}");
        assert!(e.get_hint().is_some_and(|h| h.contains("e2fsprogs")));
    }

    #[test]
    fn files_have_whole_pages() {
        for (bytes, file) in [(1, 4096), (4096, 4096), (4097, 8192), (1 << 30, 1 << 30)] {
            assert_eq!(whole_pages(bytes), file);
        }
    }
}
