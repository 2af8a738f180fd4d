//! Terminal sizes and the one signal disposition that a command-line program
//! needs: ioctl_tty(2) TIOCGWINSZ and TIOCSWINSZ, signal(2).

use std::os::fd::{AsFd, AsRawFd};

use crate::Ignored;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};

mod ioctl {
    nix::ioctl_read_bad!(get_size, nix::libc::TIOCGWINSZ, nix::libc::winsize);
    nix::ioctl_write_ptr_bad!(set_size, nix::libc::TIOCSWINSZ, nix::libc::winsize);
}

/// Columns and rows.
pub(crate) fn window_size(terminal: impl AsFd) -> Result<(u16, u16), Errno> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the fd is open for the borrow's time, and the kernel writes one
    // winsize, which `size` is.
    unsafe { ioctl::get_size(terminal.as_fd().as_raw_fd(), &mut size) }?;
    Ok((size.ws_col, size.ws_row))
}

/// Columns and rows; the kernel tells the terminal's foreground process group.
pub(crate) fn set_window_size(
    terminal: impl AsFd,
    (columns, rows): (u16, u16),
) -> Result<(), Errno> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the fd is open for the borrow's time, and the kernel reads one
    // winsize, which `size` is.
    unsafe { ioctl::set_size(terminal.as_fd().as_raw_fd(), &size) }?;
    Ok(())
}

/// Undoes what Rust's start-up code did: a write to a closed pipe ends the
/// program again.
pub(crate) fn default_sigpipe() {
    // SAFETY: SIG_DFL runs no code of ours.
    let set = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    set.ignored("signal(2) refuses only wrong numbers");
}
