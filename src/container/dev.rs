//! A container's /dev and terminals: tmpfs(5), pts(4), ioctl_tty(2).
//!
//! Where nodes cannot be made (in a user namespace, or without CAP_MKNOD), the
//! host's nodes are bound over empty files.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, fstatat, makedev, mknodat, umask};
use nix::unistd::symlinkat;

use super::plan::namespace::USER;
use super::plan::{Device, Plan, Process, Source};
use crate::linux::mount::Mount;
use crate::linux::root::{Links, Root};
use crate::{Context, Error, Result};

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

const DIR_MODE: Mode = Mode::from_bits_truncate(0o755);

/// Made whole before it is attached anywhere: nothing in an image or a running
/// container has a say in it.
pub(crate) fn new_dev(options: &[(&str, &str)], attributes: u64, plan: &Plan) -> Result<Mount> {
    let dev = Mount::new("tmpfs", options, attributes)?;
    without_umask(|| {
        link(dev.as_fd(), false)?;
        for (name, mode) in [("pts", 0o755), ("shm", 0o1777), ("mqueue", 0o1777)] {
            nix::sys::stat::mkdirat(&dev, name, Mode::from_bits_truncate(mode))
                .map_err(|e| Error::sys(format!("mkdirat(<dev>, {name:?})"), e))?;
        }
        if makes_nodes(plan) {
            let root = Root::new(dev.as_fd());
            for d in standard().chain(below_dev(plan).cloned()) {
                make(&root, d.path.strip_prefix("/dev").unwrap_or(&d.path), &d)
                    .context("linux.devices")?;
            }
        }
        Ok(())
    })?;
    Ok(dev)
}

/// Everything that [`new_dev`] could not do: devices elsewhere, and in a /dev that
/// is no tmpfs of ours.
pub(super) fn finish(root: &Root, plan: &Plan) -> Result<()> {
    if !plan.standard_devices {
        return Ok(());
    }
    let has_tmpfs = plan
        .mounts
        .iter()
        .any(|m| matches!(m.source, Source::Dev(_)));
    without_umask(|| {
        if !has_tmpfs {
            let dev = root.make_dir(Path::new("/dev"), DIR_MODE, Links::Refuse)?;
            link(dev.as_fd(), true)?;
        }
        let made = has_tmpfs && makes_nodes(plan);
        let in_dev = standard().chain(below_dev(plan).cloned());
        for d in in_dev.filter(|_| !made) {
            make_or_bind(root, &d, plan)?;
        }
        for d in plan.devices.iter().filter(|d| !d.path.starts_with("/dev")) {
            make_or_bind(root, d, plan).context("linux.devices")?;
        }
        Ok(())
    })
}

pub(super) fn without_umask<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = umask(Mode::empty());
    let done = work();
    umask(before);
    done
}

fn makes_nodes(plan: &Plan) -> bool {
    !plan.namespaces.has(USER)
}

fn standard() -> impl Iterator<Item = Device> {
    DEVICES.into_iter().map(|(name, major, minor)| Device {
        path: Path::new("/dev").join(name),
        mode: libc::S_IFCHR | 0o666,
        major,
        minor,
        uid: 0,
        gid: 0,
    })
}

/// The devices that are bound where they cannot be made.
pub(crate) fn paths(plan: &Plan) -> Vec<std::path::PathBuf> {
    let all = standard().chain(plan.devices.iter().cloned());
    all.map(|d| d.path).collect()
}

/// Without /dev/ptmx: config-linux.md has it lead to the container's own devpts,
/// and whoever lists all of the host's devices (podman run --privileged) means no
/// other.
fn below_dev(plan: &Plan) -> impl Iterator<Item = &Device> {
    let in_dev = plan.devices.iter().filter(|d| d.path.starts_with("/dev"));
    in_dev.filter(|d| d.path != Path::new("/dev/ptmx"))
}

fn link(dev: BorrowedFd, may_be_there: bool) -> Result<()> {
    for (name, target) in LINKS {
        match symlinkat(target, dev, name) {
            Ok(()) => {}
            Err(Errno::EEXIST) if may_be_there => {}
            Err(e) => {
                return Err(Error::sys(
                    format!("symlinkat({target:?}, <dev>, {name:?})"),
                    e,
                ));
            }
        }
    }
    Ok(())
}

fn make_or_bind(root: &Root, d: &Device, plan: &Plan) -> Result<()> {
    match makes_nodes(plan) {
        true => match make(root, &d.path, d) {
            Err(e) if e.errno() == Some(Errno::EPERM) => bind(root, d),
            other => other,
        },
        false => bind(root, d),
    }
}

fn make(root: &Root, path: &Path, d: &Device) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let links = if d.path.starts_with("/dev") {
        Links::Refuse
    } else {
        Links::InRoot
    };
    let parent = root.make_dir(parent, DIR_MODE, links)?;
    let kind = SFlag::from_bits_truncate(d.mode) & SFlag::S_IFMT;
    let mode = Mode::from_bits_truncate(d.mode);
    match mknodat(&parent, name, kind, mode, makedev(d.major, d.minor)) {
        Ok(()) => {}
        Err(Errno::EEXIST) => {
            let there = fstatat(&parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(|e| Error::sys(format!("fstatat({:?})", d.path), e))?;
            let same = SFlag::from_bits_truncate(there.st_mode) & SFlag::S_IFMT == kind
                && (kind == SFlag::S_IFIFO || there.st_rdev == makedev(d.major, d.minor));
            if !same {
                return Err(Error::sys(format!("mknodat({:?})", d.path), Errno::EEXIST)
                    .hint("something else is there"));
            }
        }
        Err(e) => return Err(Error::sys(format!("mknodat({:?})", d.path), e)),
    }
    if (d.uid, d.gid) == (0, 0) {
        return Ok(());
    }
    nix::unistd::fchownat(
        &parent,
        name,
        Some(d.uid.into()),
        Some(d.gid.into()),
        AtFlags::AT_SYMLINK_NOFOLLOW,
    )
    .map_err(|e| Error::sys(format!("fchownat({:?})", d.path), e))
}

/// The host's node of that path, if it is that device.
fn bind(root: &Root, d: &Device) -> Result<()> {
    let copy = Mount::copy(&d.path, false).with_context(|| {
        format!(
            "{} cannot be made here, and is to be bound",
            d.path.display()
        )
    })?;
    let stat = nix::sys::stat::fstat(&copy).map_err(|e| Error::sys("fstat(<device>)", e))?;
    let kind = SFlag::from_bits_truncate(d.mode) & SFlag::S_IFMT;
    let same = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind
        && (kind == SFlag::S_IFIFO || stat.st_rdev == makedev(d.major, d.minor));
    if !same {
        return Err(Error::failed(format!(
            "{}: the host's is another device",
            d.path.display()
        )));
    }
    let links = if d.path.starts_with("/dev") {
        Links::Refuse
    } else {
        Links::InRoot
    };
    let place = root.make_file(&d.path, links)?;
    copy.attach(place.as_fd())
}

/// No carriage return is put before the newlines that are written: ONLCR of termios(3).
fn keep_newlines(terminal: BorrowedFd) -> Result<()> {
    use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};
    let mut modes = tcgetattr(terminal).map_err(|e| Error::sys("tcgetattr(<terminal>)", e))?;
    modes.output_flags -= OutputFlags::ONLCR;
    tcsetattr(terminal, SetArg::TCSANOW, &modes)
        .map_err(|e| Error::sys("tcsetattr(<terminal>, TCSANOW)", e))
}

/// A new terminal of the devpts instance mounted at `pts`: master and slave. The
/// slave is got through the master (TIOCGPTPEER): no path is looked up.
pub(super) fn new_terminal(pts: BorrowedFd, p: &Process) -> Result<(OwnedFd, OwnedFd)> {
    let master = Root::new(pts).open(
        Path::new("ptmx"),
        OFlag::O_RDWR | OFlag::O_NOCTTY,
        Links::Refuse,
    )?;
    crate::sys::pty::unlock(master.as_fd()).map_err(|e| Error::sys("ioctl(TIOCSPTLCK)", e))?;
    let slave =
        crate::sys::pty::peer(master.as_fd()).map_err(|e| Error::sys("ioctl(TIOCGPTPEER)", e))?;
    if let Some((columns, rows)) = p.console_size {
        crate::sys::tty::set_window_size(&master, (columns, rows))
            .map_err(|e| Error::sys("ioctl(TIOCSWINSZ)", e))?;
    }
    if p.plain_newlines {
        keep_newlines(slave.as_fd())?;
    }
    Ok((master, slave))
}
