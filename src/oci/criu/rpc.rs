//! criu's RPC: protobuf messages, as its rpc.proto (the same since criu 3) defines
//! them. A message is fields, each a number and a value, which is an integer or
//! bytes; a message within a message is bytes. Pure data: sends and reads nothing.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// rpc.proto's numbers of what is said here.
pub(crate) mod field {
    // criu_req
    pub(crate) const TYPE: u32 = 1;
    pub(crate) const OPTS: u32 = 2;
    pub(crate) const NOTIFY_SUCCESS: u32 = 3;
    // criu_resp; its type is 1, too
    pub(crate) const SUCCESS: u32 = 2;
    pub(crate) const RESTORED: u32 = 4;
    pub(crate) const NOTIFY: u32 = 5;
    pub(crate) const MESSAGE: u32 = 9;
    // criu_restore_resp
    pub(crate) const RESTORED_PID: u32 = 1;
    // criu_notify
    pub(crate) const NOTIFY_NAME: u32 = 1;
    pub(crate) const NOTIFY_PID: u32 = 2;
    // criu_opts
    pub(crate) const IMAGES_DIR_FD: u32 = 1;
    pub(crate) const PID: u32 = 2;
    pub(crate) const LEAVE_RUNNING: u32 = 3;
    pub(crate) const EXT_UNIX_SK: u32 = 4;
    pub(crate) const TCP_ESTABLISHED: u32 = 5;
    pub(crate) const SHELL_JOB: u32 = 7;
    pub(crate) const FILE_LOCKS: u32 = 8;
    pub(crate) const LOG_LEVEL: u32 = 9;
    pub(crate) const LOG_FILE: u32 = 10;
    pub(crate) const NOTIFY_SCRIPTS: u32 = 12;
    pub(crate) const ROOT: u32 = 13;
    pub(crate) const PARENT_IMG: u32 = 14;
    pub(crate) const TRACK_MEM: u32 = 15;
    pub(crate) const AUTO_DEDUP: u32 = 16;
    pub(crate) const WORK_DIR_FD: u32 = 17;
    pub(crate) const EXT_MNT: u32 = 23;
    pub(crate) const CG_ROOT: u32 = 25;
    pub(crate) const RST_SIBLING: u32 = 26;
    pub(crate) const INHERIT_FD: u32 = 27;
    pub(crate) const EXT_MASTERS: u32 = 30;
    pub(crate) const MANAGE_CGROUPS_MODE: u32 = 34;
    pub(crate) const EXTERNAL: u32 = 37;
    pub(crate) const EMPTY_NS: u32 = 38;
    pub(crate) const JOIN_NS: u32 = 39;
    pub(crate) const FREEZE_CGROUP: u32 = 44;
    pub(crate) const ORPHAN_PTS_MASTER: u32 = 50;
    pub(crate) const LSM_PROFILE: u32 = 53;
    pub(crate) const LSM_MOUNT_CONTEXT: u32 = 63;
    pub(crate) const NETWORK_LOCK: u32 = 64;
    // ext_mount_map, inherit_fd, cgroup_root, join_namespace: what, and where it is
    pub(crate) const KEY: u32 = 1;
    pub(crate) const VALUE: u32 = 2;
}

/// criu_req_type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Dump = 1,
    Restore = 2,
    PreDump = 4,
}

pub(super) const NOTIFY: u64 = 6;

/// criu_network_lock_method, of criu 3.17 and later; iptables' is the default.
pub(crate) const LOCK_BY_NFTABLES: u64 = 2;

/// A protobuf message that is being written.
#[derive(Debug, Default)]
pub(crate) struct Message(pub(super) Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub(crate) fn number(&mut self, field: u32, value: u64) {
        self.varint(u64::from(field) << 3);
        self.varint(value);
    }

    /// Left out if false, which every default here is.
    pub(crate) fn flag(&mut self, field: u32, value: bool) {
        if value {
            self.number(field, 1);
        }
    }

    pub(crate) fn bytes(&mut self, field: u32, value: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }

    pub(crate) fn path(&mut self, field: u32, value: &Path) {
        self.bytes(field, value.as_os_str().as_bytes());
    }

    pub(crate) fn message(&mut self, field: u32, inner: &Message) {
        self.bytes(field, &inner.0);
    }

    /// One of the messages of two fields, both strings.
    pub(crate) fn pair(&mut self, field: u32, key: &[u8], value: &[u8]) {
        let mut pair = Message::default();
        pair.bytes(field::KEY, key);
        pair.bytes(field::VALUE, value);
        self.message(field, &pair);
    }

    /// An fd that restored processes get, by what it was in those dumped.
    pub(crate) fn inherit(&mut self, key: &str, fd: BorrowedFd) {
        let mut pair = Message::default();
        pair.bytes(field::KEY, key.as_bytes());
        pair.number(field::VALUE, fd.as_raw_fd() as u64);
        self.message(field::INHERIT_FD, &pair);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message. Ends where it is no message any more.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(usize::try_from(length).ok()?)?)
            }
            5 => Value::Bytes(self.take(4)?),
            _ => return None,
        };
        Some(((tag >> 3) as u32, value))
    }
}

/// criu_resp.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Response {
    pub kind: u64,
    pub success: bool,
    pub notice: String,
    /// Of a notice, or of the answer to a restore.
    pub pid: i32,
    pub message: String,
}

impl Response {
    pub(super) fn parse(bytes: &[u8]) -> Response {
        use field::*;
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let mut r = Response::default();
        for (number, value) in Fields(bytes) {
            match (number, value) {
                (TYPE, Value::Number(n)) => r.kind = n,
                (SUCCESS, Value::Number(n)) => r.success = n != 0,
                (MESSAGE, Value::Bytes(b)) => r.message = text(b),
                (NOTIFY, Value::Bytes(b)) => {
                    for inner in Fields(b) {
                        match inner {
                            (NOTIFY_NAME, Value::Bytes(b)) => r.notice = text(b),
                            (NOTIFY_PID, Value::Number(n)) => r.pid = n as i32,
                            _ => {}
                        }
                    }
                }
                (RESTORED, Value::Bytes(b)) => {
                    for inner in Fields(b) {
                        if let (RESTORED_PID, Value::Number(n)) = inner {
                            r.pid = n as i32;
                        }
                    }
                }
                _ => {}
            }
        }
        r
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_protobufs() {
        let mut m = Message::default();
        m.number(1, 300);
        m.flag(2, false);
        m.bytes(50, b"ab");
        assert_eq!(m.0, [0x08, 0xac, 0x02, 0x92, 0x03, 0x02, b'a', b'b']);
        let fields: Vec<_> = Fields(&m.0).collect();
        assert_eq!(fields, [(1, Value::Number(300)), (50, Value::Bytes(b"ab"))]);
        // Cut off anywhere, and of no known type.
        for n in 0..m.0.len() {
            let _ = Fields(&m.0[..n]).count();
        }
        assert_eq!(Fields(&[0x0b]).count(), 0);
        assert_eq!(Fields(&[0x80; 11]).count(), 0);
    }

    #[test]
    fn responses() {
        let mut pid = Message::default();
        pid.bytes(field::NOTIFY_NAME, b"post-restore");
        pid.number(field::NOTIFY_PID, 42);
        let mut m = Message::default();
        m.number(field::TYPE, NOTIFY);
        m.number(field::SUCCESS, 1);
        m.bytes(field::NOTIFY, &pid.0);
        let r = Response::parse(&m.0);
        assert_eq!((r.kind, r.success, r.pid), (NOTIFY, true, 42));
        assert_eq!(r.notice, "post-restore");
    }
}
