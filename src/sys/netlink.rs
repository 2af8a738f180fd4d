//! setsockopt(2) for the options of netlink(7), and for a filter on a socket, which nix
//! does not name.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

/// Sets a number at level SOL_NETLINK: a switch such as `NETLINK_EXT_ACK` (1), or
/// the group of `NETLINK_ADD_MEMBERSHIP`.
pub(crate) fn set_option(
    socket: impl AsFd,
    option: libc::c_int,
    value: libc::c_int,
) -> Result<(), Errno> {
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

/// Gives the socket a program of classic BPF that decides which datagrams it gets:
/// SO_ATTACH_FILTER of socket(7).
pub(crate) fn attach_filter(socket: impl AsFd, program: &[libc::sock_filter]) -> Result<(), Errno> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::E2BIG)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the pointer and the length describe `program`, and what that points to
    // is the slice, of the length that it names; both outlive the call, and the kernel
    // only reads them. The fd is borrowed, hence open.
    let r = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of_val(&program) as libc::socklen_t,
        )
    };
    Errno::result(r).map(drop)
}
