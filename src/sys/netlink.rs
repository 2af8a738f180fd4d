//! setsockopt(2) for the options of netlink(7), which nix does not name.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

/// Turns on a switch of level SOL_NETLINK, such as `NETLINK_EXT_ACK`.
pub fn enable_option(socket: impl AsFd, option: libc::c_int) -> Result<(), Errno> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer and the length describe `on`, which outlives the call;
    // the kernel only reads it. The fd is borrowed, hence open.
    let r = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    Errno::result(r).map(drop)
}
