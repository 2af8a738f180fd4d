//! loop(4): block devices whose content is a file; and the size of a mounted ext4(5).

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;

type Result<T> = std::result::Result<T, Errno>;

/// The backing file is read and written without the page cache, where it can be.
pub(crate) const DIRECT_IO: u32 = 16;
/// The device is detached when nobody has it open any more.
pub(crate) const AUTOCLEAR: u32 = 4;

const LOOP_CLR_FD: u32 = 0x4c01;
const LOOP_GET_STATUS64: u32 = 0x4c05;
const LOOP_SET_CAPACITY: u32 = 0x4c07;
const LOOP_CONFIGURE: u32 = 0x4c0a;
const LOOP_CTL_GET_FREE: u32 = 0x4c82;
/// _IOW('f', 16, u64)
const EXT4_IOC_RESIZE_FS: u32 = 0x4008_6610;

/// struct loop_info64 of <linux/loop.h>.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Info {
    /// The device and the inode of the backing file.
    pub device: u64,
    pub inode: u64,
    /// What the backing file is, if it is a device.
    pub rdevice: u64,
    pub offset: u64,
    pub size_limit: u64,
    pub number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    pub flags: u32,
    /// A text for people, which ends at its first NUL byte.
    pub name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl Info {
    pub(crate) fn new(flags: u32, name: &str) -> Self {
        let mut bytes = [0; 64];
        // The last one stays NUL.
        let most = name.len().min(bytes.len() - 1);
        bytes[..most].copy_from_slice(&name.as_bytes()[..most]);
        Info {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags,
            name: bytes,
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}

/// struct loop_config.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

fn ioctl(fd: BorrowedFd, request: u32, argument: libc::c_ulong) -> Result<i32> {
    // SAFETY: the callers pass requests without an argument, or a pointer to what the
    // request reads or writes, which outlives the call.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, argument) })
}

/// LOOP_CTL_GET_FREE: the number of a device that was free just now; it is made if there is
/// none. `control`: /dev/loop-control.
pub(crate) fn find_free(control: BorrowedFd) -> Result<i32> {
    ioctl(control, LOOP_CTL_GET_FREE, 0)
}

/// LOOP_CONFIGURE: attaches a file. EBUSY: the device has one.
pub(crate) fn configure(device: BorrowedFd, file: BorrowedFd, info: Info) -> Result<()> {
    let file: RawFd = file.as_raw_fd();
    let config = Config {
        fd: file as u32,
        block_size: 0,
        info,
        reserved: [0; 8],
    };
    ioctl(device, LOOP_CONFIGURE, (&raw const config) as libc::c_ulong).map(drop)
}

/// LOOP_GET_STATUS64. ENXIO: nothing is attached.
pub(crate) fn status(device: BorrowedFd) -> Result<Info> {
    let mut info = Info::new(0, "");
    ioctl(device, LOOP_GET_STATUS64, (&raw mut info) as libc::c_ulong).map(|_| info)
}

/// LOOP_SET_CAPACITY: the backing file has another size.
pub(crate) fn set_capacity(device: BorrowedFd) -> Result<()> {
    ioctl(device, LOOP_SET_CAPACITY, 0).map(drop)
}

/// LOOP_CLR_FD: detaches the file, at once or when nobody else has the device open.
pub(crate) fn clear(device: BorrowedFd) -> Result<()> {
    ioctl(device, LOOP_CLR_FD, 0).map(drop)
}

/// EXT4_IOC_RESIZE_FS: enlarges the mounted filesystem that `dir` is in. It takes
/// CAP_SYS_RESOURCE.
pub(crate) fn resize_ext4(dir: BorrowedFd, blocks: u64) -> Result<()> {
    ioctl(
        dir,
        EXT4_IOC_RESIZE_FS,
        (&raw const blocks) as libc::c_ulong,
    )
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_of_the_kernel() {
        assert_eq!(size_of::<Info>(), 232);
        assert_eq!(size_of::<Config>(), 304);
    }
}
