//! A container's /dev and terminals: tmpfs(5), pts(4), ioctl_tty(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, makedev, mknodat, umask};
use nix::unistd::symlinkat;

use super::plan::Device;
use crate::linux::mount::Mount;
use crate::linux::root::{Links, Root};
use crate::{Error, Result};

/// Name, major, minor: config-linux.md, "Default Devices".
const DEVICES: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// config-linux.md and config.md: "Dev symbolic links".
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];

/// Made whole before it is attached anywhere: nothing in an image or a running
/// container has a say in it.
pub fn new_dev(options: &[(&str, &str)], attributes: u64, more: &[Device]) -> Result<Mount> {
    let dev = Mount::new("tmpfs", options, attributes)?;
    let before = umask(Mode::empty());
    let made = fill(&dev).and_then(|()| add(&dev, more));
    umask(before);
    made.map(|()| dev)
}

fn fill(dev: &Mount) -> Result<()> {
    for (name, major, minor) in DEVICES {
        let mode = Mode::from_bits_truncate(0o666);
        mknodat(dev, name, SFlag::S_IFCHR, mode, makedev(major, minor))
            .map_err(|e| Error::sys(format!("mknodat(<dev>, {name:?}, c {major}:{minor})"), e))?;
    }
    for (name, target) in LINKS {
        symlinkat(target, dev, name)
            .map_err(|e| Error::sys(format!("symlinkat({target:?}, <dev>, {name:?})"), e))?;
    }
    for (name, mode) in [("pts", 0o755), ("shm", 0o1777), ("mqueue", 0o1777)] {
        nix::sys::stat::mkdirat(dev, name, Mode::from_bits_truncate(mode))
            .map_err(|e| Error::sys(format!("mkdirat(<dev>, {name:?})"), e))?;
    }
    Ok(())
}

fn add(dev: &Mount, devices: &[Device]) -> Result<()> {
    let root = Root::new(dev.as_fd());
    for d in devices {
        let inside = d.path.strip_prefix("/dev").unwrap_or(&d.path);
        let (Some(parent), Some(name)) = (inside.parent(), inside.file_name()) else {
            continue;
        };
        let parent = root.make_dir(parent, Mode::from_bits_truncate(0o755), Links::Refuse)?;
        let kind = SFlag::from_bits_truncate(d.mode) & SFlag::S_IFMT;
        let mode = Mode::from_bits_truncate(d.mode);
        match mknodat(&parent, name, kind, mode, makedev(d.major, d.minor)) {
            // A standard one.
            Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
            Err(e) => return Err(Error::sys(format!("mknodat({:?})", d.path), e)),
        }
        nix::unistd::fchownat(
            &parent,
            name,
            Some(d.uid.into()),
            Some(d.gid.into()),
            nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
        )
        .map_err(|e| Error::sys(format!("fchownat({:?})", d.path), e))?;
    }
    Ok(())
}

/// A new terminal of the devpts instance mounted at `pts`: master and slave. The
/// slave is got through the master (TIOCGPTPEER): no path is looked up.
pub fn new_terminal(pts: BorrowedFd, size: Option<(u16, u16)>) -> Result<(OwnedFd, OwnedFd)> {
    let master = Root::new(pts).open(
        Path::new("ptmx"),
        OFlag::O_RDWR | OFlag::O_NOCTTY,
        Links::Refuse,
    )?;
    crate::sys::pty::unlock(master.as_fd()).map_err(|e| Error::sys("ioctl(TIOCSPTLCK)", e))?;
    let slave =
        crate::sys::pty::peer(master.as_fd()).map_err(|e| Error::sys("ioctl(TIOCGPTPEER)", e))?;
    if let Some((columns, rows)) = size {
        crate::sys::tty::set_window_size(&master, (columns, rows))
            .map_err(|e| Error::sys("ioctl(TIOCSWINSZ)", e))?;
    }
    Ok((master, slave))
}
