//! The rights that the container's side of a copy is read and written with: those of the
//! container's own first process.
//!
//! With carob's rights, a link or directory of the container's making would lead to files
//! that the container cannot open itself, such as those of a hostPath: they would be read for
//! it, or become its own.

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, getegid, geteuid, setfsgid, setfsuid, setgroups};

use crate::linux::capability::{Held, Set};
use crate::pod::state::User;
use crate::{Error, Result};

/// A user and capabilities, for calls that resolve or open paths.
#[derive(Debug)]
pub(crate) struct Rights {
    uid: Uid,
    gid: Gid,
    capabilities: Set,
    own: Own,
}

/// What all threads of this process have else. Asked once: they change between both for
/// every batch of files.
#[derive(Debug)]
struct Own {
    uid: Uid,
    gid: Gid,
    held: Held,
}

impl Rights {
    /// This process takes the groups for good: it is to have one thread. They give it nothing
    /// that its own capabilities do not.
    pub(super) fn new(user: Option<&User>, capabilities: Set) -> Result<Self> {
        let groups = user.map_or(&[][..], |u| &u.supplemental_groups);
        let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
        setgroups(&groups).map_err(|e| Error::sys("setgroups()", e))?;
        Ok(Rights {
            uid: Uid::from_raw(user.map_or(0, |u| u.uid)),
            gid: Gid::from_raw(user.map_or(0, |u| u.gid)),
            capabilities,
            own: Own {
                uid: geteuid(),
                gid: getegid(),
                held: Held::now(),
            },
        })
    }

    /// Whether it may give files to other users.
    pub(crate) fn may_chown(&self) -> bool {
        self.uid.is_root() && self.capabilities.has(caps::Capability::CAP_CHOWN)
    }

    /// Whose the files are that are made with these rights.
    pub(super) fn maker(&self) -> (Uid, Gid) {
        (self.uid, self.gid)
    }

    /// Does `act` with these rights, in the calling thread alone. Opened fds keep what they
    /// were opened with.
    pub(crate) fn with<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let own = &self.own;
        self.change(self.uid, self.gid, self.capabilities)?;
        let done = act();
        self.change(own.uid, own.gid, own.held.effective)?;
        done.map_err(|e| match e.errno() {
            Some(Errno::EACCES | Errno::EPERM) => {
                e.hint("cp has the rights of the container's own user and capabilities there")
            }
            _ => e,
        })
    }

    fn change(&self, uid: Uid, gid: Gid, capabilities: Set) -> Result<()> {
        if self.gid != self.own.gid {
            setfsgid(gid);
        }
        if self.uid != self.own.uid {
            setfsuid(uid);
        }
        // After the user: a change from or to root takes the capabilities that concern files
        // away, or gives them back, capabilities(7).
        self.own.held.take(capabilities)
    }
}
