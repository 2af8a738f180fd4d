//! A file of the container into what may take it slowly or never, such as a pipe.
//!
//! A thread of its own writes, and gets the content through a pipe. This side never waits for
//! the reader alone: when the container ends, it returns, so that the container's mounts, with
//! the memory and the disk space that they keep, do not stay for a reader that reads nothing.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::Builder;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{pipe2, write};

use super::{ContainerRoot, Copied};
use crate::linux::root::reopen;
use crate::{Context, Error, Result};

/// Bytes that are read at once.
const PART: usize = 256 << 10;

/// Copies the first `size` bytes. `open` opens the destination, which may wait, too.
///
/// # Errors
/// The container has ended: then the thread may still wait, until this process ends.
pub(crate) fn stream(
    container: ContainerRoot,
    source: OwnedFd,
    open: impl FnOnce() -> Result<File> + Send + 'static,
    size: u64,
) -> Result<Copied> {
    let from = reopen_to_read(&container, source)?;
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|e| Error::sys("pipe2()", e));
    let (content, ours) = pipe()?;
    // Closed when the thread has ended.
    let (ended, ends) = pipe()?;
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(|e| Error::sys("fcntl(F_SETFL, O_NONBLOCK)", e))?;
    // Should the thread fail, this side's write(2) must not end in SIGPIPE.
    let kept = content.try_clone().context("fcntl(F_DUPFD_CLOEXEC)")?;
    let writes = move || {
        let _ends = ends;
        let mut to = open()?;
        std::io::copy(&mut File::from(content), &mut to).context("write")
    };
    let thread = Builder::new().spawn(writes).context("start a thread")?;
    feed(&container, from, &ours, &ended, size)?;
    // All has been read: the rest is between the pipe and the reader.
    drop((container, ours, kept));
    let bytes = match thread.join() {
        Ok(written) => written?,
        Err(_) => return Err(Error::failed("the thread that writes has panicked")),
    };
    Ok(Copied {
        files: 1,
        bytes,
        ..Copied::default()
    })
}

fn reopen_to_read(container: &ContainerRoot, source: OwnedFd) -> Result<File> {
    let open = || reopen(source.as_fd(), OFlag::O_RDONLY | OFlag::O_NONBLOCK);
    container.rights.with(open).map(File::from)
}

/// Returns when all is in the pipe, or the thread has ended.
fn feed(
    container: &ContainerRoot,
    from: File,
    pipe: &OwnedFd,
    ended: &OwnedFd,
    size: u64,
) -> Result<()> {
    let mut from = from.take(size);
    let mut buffer = vec![0; PART];
    let mut part = 0..0;
    loop {
        if part.is_empty() {
            part = 0..from.read(&mut buffer).context("read")?;
            if part.is_empty() {
                return Ok(());
            }
        }
        let mut fds = [
            PollFd::new(pipe.as_fd(), PollFlags::POLLOUT),
            PollFd::new(ended.as_fd(), PollFlags::POLLIN),
            PollFd::new(container.end(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::sys("poll()", e)),
        }
        let is_ready = |fd: &PollFd| fd.any() == Some(true);
        let thread_ended = is_ready(&fds[1]);
        container.check()?;
        if thread_ended {
            return Ok(());
        }
        match write(pipe, &buffer[part.clone()]) {
            Ok(n) => part.start += n,
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(e) => return Err(Error::sys("write(<pipe>)", e)),
        }
    }
}
