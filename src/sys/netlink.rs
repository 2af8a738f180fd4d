//! setsockopt(2) for the options of netlink(7), which nix does not name.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

/// Sets a number at level SOL_NETLINK: a switch such as `NETLINK_EXT_ACK` (1), or
/// the group of `NETLINK_ADD_MEMBERSHIP`.
pub fn set_option(socket: impl AsFd, option: libc::c_int, value: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the pointer and the length describe `value`, which outlives the
    // call; the kernel only reads it. The fd is borrowed, hence open.
    let r = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    Errno::result(r).map(drop)
}
