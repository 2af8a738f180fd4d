//! Copies a file or a directory into a running container, or out of it: where it goes, and
//! under which name, by the rules of `kubectl cp`. The copying itself: [`crate::pod::copy`].

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat, umask};

use crate::linux::root::{Links, is_dir, open_dir};
use crate::pod::client::View;
use crate::pod::copy::{ContainerRoot, Copied, End, Owner, Rules, copy, copy_contents, stream};
use crate::store::Layout;
use crate::{Context, Error, Kind, Result};

/// Of one container.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub container: &'a str,
    /// Of this machine.
    pub local: &'a Path,
    /// Of the container; from its working directory, if relative.
    pub remote: &'a Path,
}

/// Copies `local` to `remote`. With `preserve`, owners and modes are those of the source,
/// where the container runs as root, as tar(1) there would make them; else all belongs to
/// the container's user.
pub(crate) fn into(
    layout: &Layout,
    view: &View,
    request: &Request,
    preserve: bool,
) -> Result<Copied> {
    let (local, remote) = (request.local, request.remote);
    let (source, base) = open_local(local)?;
    let container = ContainerRoot::open(layout, view, request.container)?;
    let rules = Rules {
        inside: End::Destination,
        rights: &container.rights,
        owner: match preserve && container.rights.may_chown() {
            true => Owner::Source,
            false => Owner::Maker,
        },
        // As tar(1) with and without the option -p, in a container with the usual umask.
        mode: if preserve { 0o7777 } else { 0o755 },
        links: true,
    };
    let root = container.root();
    let full = container.cwd.join(remote);
    let there = |e: Error| e.push_context(format!("{}:{}", request.container, full.display()));
    let open = |path: &Path, flags| {
        let open = || root.open(path, flags | OFlag::O_PATH, Links::InRoot);
        container.rights.with(open)
    };
    // Modes are given as they are to be.
    umask(Mode::empty());
    let goes_on = || container.check();
    let copied = match open(&full, OFlag::empty()) {
        Ok(dir) if is_dir(dir.as_fd()) => match &base {
            Some(base) => copy(rules, &goes_on, source.as_fd(), dir.as_fd(), base),
            None => copy_contents(rules, &goes_on, source.as_fd(), dir.as_fd()),
        },
        Err(e) if e.errno() != Some(Errno::ENOENT) => Err(e),
        _ => {
            let (Some(parent), Some(name)) = (full.parent(), full.file_name()) else {
                return Err(there(Error::invalid("the path names no file")));
            };
            let dir = open(parent, OFlag::O_DIRECTORY).map_err(|e| match e.errno() {
                Some(Errno::ENOENT) => there(
                    Error::not_found(format!("the directory {} does not exist", parent.display()))
                        .hint("name a directory that exists, or make this one with carob exec"),
                ),
                _ => there(e),
            })?;
            copy(rules, &goes_on, source.as_fd(), dir.as_fd(), name)
        }
    };
    let copied = copied.map_err(there)?;
    container.check()?;
    Ok(copied)
}

/// The source, no link followed, and its own name; `None` for such as `.`, whose contents
/// are meant.
fn open_local(local: &Path) -> Result<(OwnedFd, Option<&OsStr>)> {
    // Path leaves a slash at the end out, as kubectl does, and the dot of `dir/.`.
    let dotted = local.as_os_str().as_encoded_bytes().ends_with(b"/.");
    let base = local.file_name().filter(|_| !dotted);
    let flags = match base {
        Some(_) => OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        None => OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
    };
    let plain: PathBuf = local.components().collect();
    let source = nix::fcntl::open(&plain, flags, Mode::empty()).map_err(|e| match e {
        Errno::ENOENT | Errno::ENOTDIR => Error::not_found(format!(
            "{} doesn't exist in local filesystem",
            local.display()
        )),
        e => Error::sys(format!("open({}, O_PATH)", local.display()), e),
    })?;
    let stat = fstat(&source).map_err(|e| Error::sys("fstat()", e))?;
    special(stat.st_mode).map_err(|e| e.push_context(local.display().to_string()))?;
    Ok((source, base))
}

/// # Errors
/// What is named itself cannot be copied.
fn special(mode: u32) -> Result<()> {
    let what = match SFlag::from_bits_truncate(mode) & SFlag::S_IFMT {
        SFlag::S_IFREG | SFlag::S_IFDIR | SFlag::S_IFLNK => return Ok(()),
        SFlag::S_IFIFO => "a FIFO",
        SFlag::S_IFSOCK => "a socket",
        _ => "a device",
    };
    Err(Error::invalid(format!(
        "it is {what}: only files, directories and links are copied"
    )))
}

/// Copies `remote` to `local`. All belongs to this process, with the modes of the source and
/// its own umask; links are skipped.
pub(crate) fn out_of(layout: &Layout, view: &View, request: &Request) -> Result<Copied> {
    let container = ContainerRoot::open(layout, view, request.container)?;
    let full = container.cwd.join(request.remote);
    let place = format!("{}:{}", request.container, full.display());
    let source = container
        .rights
        .with(|| container.root().open(&full, OFlag::O_PATH, Links::InRoot))
        .map_err(|e| match e.errno() {
            Some(Errno::ENOENT | Errno::ENOTDIR) => {
                Error::not_found(format!("{place}: no such file or directory"))
            }
            Some(Errno::ELOOP) => e.with_kind(Kind::Invalid).push_context(place.clone()),
            _ => e.push_context(place.clone()),
        })?;
    let stat = fstat(&source).map_err(|e| Error::sys("fstat()", e))?;
    special(stat.st_mode).map_err(|e| e.push_context(place.clone()))?;
    let rules = Rules {
        inside: End::Source,
        rights: &container.rights,
        owner: Owner::Maker,
        mode: 0o777,
        links: false,
    };
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let local = request.local;
    let here = |e: Error| e.push_context(format!("{place} to {}", local.display()));
    if is_dir(source.as_fd()) {
        let dir = made_dir(local).map_err(here)?;
        let goes_on = || container.check();
        return copy_contents(rules, &goes_on, source.as_fd(), dir.as_fd()).map_err(here);
    }
    if let Some(own) = own_output(local) {
        let own = own?;
        return stream(container, source, || Ok(own), size).map_err(here);
    }
    // A link that the user names is followed: it is one of this machine's.
    let local = match std::fs::canonicalize(local) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !local.is_symlink() => {
            local.to_owned()
        }
        other => other.with_context(|| local.display().to_string())?,
    };
    let (dir, name) = match std::fs::metadata(&local).map(|m| m.file_type()) {
        Ok(kind) if kind.is_dir() => (local.as_path(), full.file_name()),
        Ok(kind) if kind.is_char_device() || kind.is_fifo() => {
            let path = local.clone();
            // That of a FIFO waits for a reader.
            let open = move || {
                let to = OpenOptions::new().write(true).open(&path);
                to.with_context(|| format!("open({}, O_WRONLY)", path.display()))
            };
            return stream(container, source, open, size).map_err(here);
        }
        Ok(kind) if kind.is_block_device() || kind.is_socket() => {
            let e = Error::conflict("it is a block device or a socket");
            return Err(here(e.hint("name a file, or /dev/stdout")));
        }
        _ => (parent_of(&local), local.file_name()),
    };
    let Some(name) = name else {
        return Err(here(Error::invalid("the path names no file")));
    };
    let dir = made_dir(dir).map_err(here)?;
    let goes_on = || container.check();
    copy(rules, &goes_on, source.as_fd(), dir.as_fd(), name).map_err(here)
}

/// This process's own output, where the path leads to it, as /dev/stdout does: what is there
/// may be no path at all (a socket, a pipe), or a file that is to be gone on with.
fn own_output(path: &Path) -> Option<Result<File>> {
    const LINKS_MOST: usize = 40;
    let fds = PathBuf::from(format!("/proc/{}/fd", std::process::id()));
    let mut path = path.to_owned();
    for _ in 0..LINKS_MOST {
        let parent = std::fs::canonicalize(parent_of(&path)).ok()?;
        if parent == fds {
            let fd = match path.file_name()?.to_str()? {
                "1" => std::io::stdout().as_fd().try_clone_to_owned(),
                "2" => std::io::stderr().as_fd().try_clone_to_owned(),
                _ => {
                    let e = Error::invalid(format!("{} is no output", path.display()));
                    return Some(Err(e.hint("name a file, or /dev/stdout")));
                }
            };
            return Some(fd.map(File::from).context("fcntl(F_DUPFD_CLOEXEC)"));
        }
        path = parent.join(std::fs::read_link(&path).ok()?);
    }
    None
}

fn parent_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|p| *p != Path::new(""));
    parent.unwrap_or(Path::new("."))
}

/// With its parents, as kubectl makes them.
fn made_dir(path: &Path) -> Result<OwnedFd> {
    match std::fs::create_dir_all(path) {
        Ok(()) => open_dir(path),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Err(Error::conflict(format!(
            "{} is no directory",
            path.display()
        ))),
        Err(e) => Err(e).with_context(|| format!("mkdir({})", path.display())),
    }
}

/// One side of a command line: `[[NAMESPACE/]POD:]PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Side {
    /// Namespace and name.
    pub pod: Option<(Option<String>, String)>,
    pub path: PathBuf,
}

impl Side {
    /// As kubectl reads it, and what begins with `/` or `.` is a path of this machine,
    /// whatever colons it has.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (pod, path) = match text.split_once(':') {
            Some((pod, path)) if !text.starts_with(['/', '.']) => (Some(pod), path),
            _ => (None, text),
        };
        let pod = pod.map(|pod| match pod.split('/').collect::<Vec<_>>()[..] {
            [name] if !name.is_empty() => Ok((None, name.to_owned())),
            [namespace, name] if !namespace.is_empty() && !name.is_empty() => {
                Ok((Some(namespace.to_owned()), name.to_owned()))
            }
            _ => Err(Error::usage(format!(
                "{text:?}: filespec must match the canonical format: [[namespace/]pod:]file/path"
            ))),
        });
        if path.is_empty() {
            return Err(Error::usage("filepath can not be empty"));
        }
        Ok(Side {
            pod: pod.transpose()?,
            path: path.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_of_a_command_line() {
        let of = |namespace: Option<&str>, name: &str, path: &str| Side {
            pod: Some((namespace.map(str::to_owned), name.to_owned())),
            path: path.into(),
        };
        let local = |path: &str| Side {
            pod: None,
            path: path.into(),
        };
        for (text, side) in [
            ("web:/a", of(None, "web", "/a")),
            ("x/web:a:b", of(Some("x"), "web", "a:b")),
            ("a/b", local("a/b")),
            ("./a:b", local("./a:b")),
            ("/a:b", local("/a:b")),
            ("-", local("-")),
        ] {
            assert_eq!(Side::parse(text).unwrap(), side, "{text}");
        }
        for text in ["", ":/a", "web:", "a/b/web:/x", "/web:", "x/:a"] {
            let parsed = Side::parse(text);
            match text {
                "/web:" => assert_eq!(parsed.unwrap(), local("/web:")),
                _ => assert_eq!(parsed.unwrap_err().kind(), Kind::Usage, "{text}"),
            }
        }
    }
}
