//! Loop devices: loop(4). Their numbers are of the whole machine, and other programs attach
//! and detach them too: which device has a file is asked of the kernel each time (the path in
//! /sys/block, then the inode), and a number that was free is taken or lost in one call.
//!
//! A process that may open a loop device may detach it, too (LOOP_CLR_FD asks for no
//! capability), and the next program that looks for a free one would give its file to this
//! process. So a device that containers have is kept ([`LoopDevice::keep`]): a second loop
//! device has the first one as its file, and so has it open. It is then detached with the
//! second one, which no container has, and not before, whatever processes end.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::module;
use crate::debug_log::Call;
use crate::sys::loop_device as sys;
use crate::{Context, Error, Result};

const CONTROL: &str = "/dev/loop-control";
/// Documentation/admin-guide/devices.txt.
const MAJOR: u32 = 7;

/// One that has a file, open for reading.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    number: u32,
    device: File,
}

/// A node of /dev.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub major: u32,
    pub minor: u32,
    /// Permissions and group that the machine gives it.
    pub mode: u32,
    pub gid: u32,
}

impl LoopDevice {
    /// Attaches a file to a free device. It is detached when nobody has it open any more: the
    /// caller keeps it, or mounts it.
    pub(crate) fn attach(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .with_context(|| format!("open({})", path.display()))?;
        let info = sys::Info::new(sys::DIRECT_IO | sys::AUTOCLEAR, "");
        let device = configure_free(file.as_fd(), info, true)
            .with_context(|| format!("attach {} to a loop device", path.display()))?;
        // Where the kernel has no CONFIG_BLK_DEV_WRITE_MOUNTED, what is open for writing is
        // not mounted, and what is mounted not opened for writing.
        let gone = || Error::failed(format!("{} is gone", device.path().display()));
        let reading = open(device.number, false)?.ok_or_else(gone)?;
        let device = LoopDevice {
            device: reading,
            ..device
        };
        log::debug!(
            "{} is attached to /dev/loop{}",
            path.display(),
            device.number
        );
        Ok(device)
    }

    /// The device that this file is attached to. Some part of its path has to be like no
    /// other file's: devices of others are not even opened, which could hold up their
    /// detachment.
    pub(crate) fn of_file(path: &Path) -> Result<Option<Self>> {
        let context = || format!("stat({})", path.display());
        let meta = std::fs::metadata(path).with_context(context)?;
        let mut names = path.iter().rev();
        let (name, dir) = (names.next(), names.next());
        for (number, backing) in attached()? {
            let mut parts = backing.iter().rev();
            if parts.next() != name || parts.next() != dir {
                continue;
            }
            let Some(device) = open(number, false)? else {
                continue;
            };
            let device = LoopDevice { number, device };
            let is = |i: sys::Info| (i.device, i.inode) == (meta.dev(), meta.ino());
            // Asked once it is open: from now on it stays what it is.
            if device.status()?.is_some_and(is) {
                return Ok(Some(device));
            }
        }
        Ok(None)
    }

    /// Where the machine has its node.
    pub(crate) fn path(&self) -> PathBuf {
        path_of(self.number)
    }

    pub(crate) fn node(&self) -> Result<Node> {
        let meta = self.device.metadata().context("fstat(<loop device>)")?;
        Ok(Node {
            major: MAJOR,
            minor: self.number,
            mode: meta.mode() & 0o7777,
            gid: meta.gid(),
        })
    }

    /// Its file has been enlarged.
    pub(crate) fn set_capacity(&self) -> Result<()> {
        let path = self.path();
        sys::set_capacity(self.device.as_fd())
            .call(|| format!("ioctl({}, LOOP_SET_CAPACITY)", path.display()))
    }

    /// Keeps it attached until the result of [`keepers`] is detached. `mark`: what tells
    /// keepers apart, at most 63 bytes.
    pub(crate) fn keep(&self, mark: &str) -> Result<()> {
        let node = self.path();
        for keeper in keepers()? {
            if keeper.mark == mark && keeper.of == self.number {
                return Ok(());
            }
        }
        let file = File::open(&node).with_context(|| format!("open({})", node.display()))?;
        let info = sys::Info::new(0, mark);
        configure_free(file.as_fd(), info, false)
            .with_context(|| format!("attach {} to a loop device", node.display()))
            .map(drop)
    }

    /// `None`: nothing is attached any more.
    fn status(&self) -> Result<Option<sys::Info>> {
        let path = self.path();
        match sys::status(self.device.as_fd()) {
            Ok(info) => Ok(Some(info)),
            Err(Errno::ENXIO) => Ok(None),
            Err(e) => Err(Error::sys(
                format!("ioctl({}, LOOP_GET_STATUS64)", path.display()),
                e,
            )),
        }
    }

    fn detach(&self) -> Result<()> {
        let call = || format!("ioctl({}, LOOP_CLR_FD)", self.path().display());
        match sys::clear(self.device.as_fd()).traced(call) {
            // ENXIO: another has done it. Where another program has the device open, udev say,
            // the kernel detaches it when that has closed it.
            Ok(()) | Err(Errno::ENXIO) => Ok(()),
            Err(e) => Err(Error::sys(call(), e)),
        }
    }
}

/// A device that keeps another one attached.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub mark: String,
    /// The number of the one that it keeps.
    of: u32,
    device: LoopDevice,
}

impl Keeper {
    /// The one that it kept is detached with it, once nobody has that open.
    pub(crate) fn detach(self) -> Result<()> {
        self.device.detach()
    }

    pub(crate) fn number(&self) -> u32 {
        self.of
    }
}

/// The keepers that this program has made, of all roots.
pub(crate) fn keepers() -> Result<Vec<Keeper>> {
    let mut found = Vec::new();
    for (number, backing) in attached()? {
        let name = backing.file_name().and_then(|n| n.to_str());
        let of = name.and_then(|n| n.strip_prefix("loop")?.parse().ok());
        let (Some(of), true) = (of, backing.starts_with("/dev")) else {
            continue;
        };
        // One that this program may not open, it has not made.
        let device = match open(number, false) {
            Ok(Some(device)) => device,
            Ok(None) => continue,
            Err(e) => {
                log::debug!("loop device {number} is passed over: {e}");
                continue;
            }
        };
        let device = LoopDevice { number, device };
        let Some(info) = device.status()? else {
            continue;
        };
        let mark = info.name.split(|b| *b == 0).next().unwrap_or_default();
        let mark = String::from_utf8_lossy(mark).into_owned();
        if mark.starts_with("carob") && mark.contains('/') {
            found.push(Keeper { mark, of, device });
        }
    }
    Ok(found)
}

/// Whether this machine has loop devices.
pub(crate) fn try_control() -> Result<()> {
    open_control().map(drop)
}

fn path_of(number: u32) -> PathBuf {
    format!("/dev/loop{number}").into()
}

/// Numbers and backing files, as /sys/block has them.
fn attached() -> Result<Vec<(u32, PathBuf)>> {
    use std::os::unix::ffi::OsStringExt;
    const DIR: &str = "/sys/block";
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(DIR) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(e).context(format!("open({DIR})")),
    };
    for entry in entries {
        let entry = entry.context(format!("readdir({DIR})"))?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|n| n.strip_prefix("loop")?.parse().ok());
        let Some(number) = number else { continue };
        // It is not there while nothing is attached.
        if let Ok(mut path) = std::fs::read(entry.path().join("loop/backing_file")) {
            if path.last() == Some(&b'\n') {
                path.pop();
            }
            found.push((number, std::ffi::OsString::from_vec(path).into()));
        }
    }
    Ok(found)
}

fn open_control() -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(CONTROL)
        .with_context(|| format!("open({CONTROL})"))
        .map_err(|e| match e.errno() {
            Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) => module::missing(e, "loop"),
            Some(Errno::EPERM | Errno::EACCES) => e.hint(
                "the cgroup or the container that carob runs in has to allow the devices \
                 10:237 (loop-control) and 7:* (loop devices)",
            ),
            _ => e,
        })
}

/// `None`: there is no such device (any more).
fn open(number: u32, writable: bool) -> Result<Option<File>> {
    let path = path_of(number);
    let opened = OpenOptions::new().read(true).write(writable).open(&path);
    let file = match opened {
        Ok(file) => file,
        Err(e) if e.raw_os_error() == Some(libc::ENXIO) => return Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let error = Error::from(e).push_context(format!("open({})", path.display()));
            return Err(error.hint(format!(
                "/dev is no devtmpfs here: mknod {} b {MAJOR} {number}",
                path.display()
            )));
        }
        Err(e) => return Err(e).with_context(|| format!("open({})", path.display())),
    };
    let meta = file
        .metadata()
        .with_context(|| format!("fstat({})", path.display()))?;
    let rdev = nix::sys::stat::makedev(MAJOR.into(), number.into());
    match meta.file_type().is_block_device() && meta.rdev() == rdev {
        true => Ok(Some(file)),
        false => Err(Error::failed(format!(
            "{} is not the block device {MAJOR}:{number}",
            path.display()
        ))),
    }
}

fn configure_free(file: BorrowedFd, info: sys::Info, writable: bool) -> Result<LoopDevice> {
    /// How often another program may be faster.
    const TRIES: usize = 64;
    let control = open_control()?;
    for _ in 0..TRIES {
        let number = sys::find_free(control.as_fd())
            .call(|| format!("ioctl({CONTROL}, LOOP_CTL_GET_FREE)"))
            .map_err(|e| match e.errno() {
                Some(Errno::ENOSPC | Errno::ENODEV) => e.hint(
                    "the machine has no loop device left: `losetup` lists them, and \
                     `losetup -d` detaches one",
                ),
                _ => e,
            })?;
        let number = u32::try_from(number).unwrap_or_default();
        let Some(device) = open(number, writable)? else {
            continue;
        };
        let call = || format!("ioctl({}, LOOP_CONFIGURE)", path_of(number).display());
        match sys::configure(device.as_fd(), file, info).traced(call) {
            Ok(()) => return Ok(LoopDevice { number, device }),
            Err(Errno::EBUSY) => {}
            Err(e) => return Err(Error::sys(call(), e)),
        }
    }
    Err(Error::failed(format!(
        "each of {TRIES} free loop devices was taken by another program"
    )))
}

/// Enlarges a mounted ext4.
pub(crate) fn resize_ext4(dir: BorrowedFd, blocks: u64) -> Result<()> {
    sys::resize_ext4(dir, blocks)
        .call(|| format!("ioctl(<mount>, EXT4_IOC_RESIZE_FS, {blocks})"))
        .map_err(|e| match e.errno() {
            Some(Errno::EPERM) => e.hint(
                "a mounted filesystem is enlarged with CAP_SYS_RESOURCE alone: without it, \
                 carob enlarges it when no Pod has it mounted",
            ),
            _ => e,
        })
}
