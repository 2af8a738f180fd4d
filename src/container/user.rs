//! Who a process runs as, from an image's USER, /etc/passwd and /etc/group:
//! passwd(5), group(5), and OCI image-spec config.md on `User`.
//!
//! Both files are the image's, so they are read bounded, and a line that does
//! not parse is passed over as getpwnam(3) does.

use std::path::Path;

use crate::linux::root::Root;
use crate::{Error, Kind, Result};

/// The most that is read of either file, bytes (containerd CVE-2026-53495: a group
/// file without end).
const LIMIT: u64 = 1 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub uid: u32,
    pub gid: u32,
    /// The groups that list the user in /etc/group, in the file's order.
    pub groups: Vec<u32>,
    pub home: Option<String>,
    pub name: Option<String>,
}

/// What /etc/passwd and /etc/group of a root filesystem say.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    pub(crate) fn read(root: &Root) -> Result<Self> {
        let text = |path: &str| -> Result<String> {
            let bytes = root.read(Path::new(path), LIMIT)?.unwrap_or_default();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(Accounts {
            passwd: text("etc/passwd")?,
            group: text("etc/group")?,
        })
    }

    /// `user` is empty (root), a name, a number, or either with `:group`.
    pub(crate) fn find(&self, user: &str) -> Result<User> {
        let (user, group) = match user.split_once(':') {
            Some((u, g)) => (u, Some(g)),
            None => (user, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let mut found = match number(user, "user")? {
            Some(uid) => self.by_uid(uid),
            None => self.by_name(user).ok_or_else(|| {
                Error::new(
                    Kind::StartFailed,
                    format!("user {user:?}: not in the image's /etc/passwd"),
                )
                .hint(
                    "set securityContext.runAsUser to the user's number, or use an image whose \
                     /etc/passwd has the user",
                )
            })?,
        };
        if let Some(group) = group.filter(|g| !g.is_empty()) {
            found.gid = match number(group, "group")? {
                Some(gid) => gid,
                None => self.group_id(group).ok_or_else(|| {
                    Error::new(
                        Kind::StartFailed,
                        format!("group {group:?}: not in the image's /etc/group"),
                    )
                    .hint(
                        "set securityContext.runAsUser and runAsGroup to numbers, or use an image \
                         whose /etc/group has the group",
                    )
                })?,
            };
        }
        Ok(found)
    }

    /// The account of a uid; one that is nowhere has gid 0 and no groups.
    pub(crate) fn by_uid(&self, uid: u32) -> User {
        self.passwd_entries()
            .find(|u| u.uid == uid)
            .map(|u| self.with_groups(u))
            .unwrap_or(User {
                uid,
                ..User::default()
            })
    }

    fn by_name(&self, name: &str) -> Option<User> {
        self.passwd_entries()
            .find(|u| u.name.as_deref() == Some(name))
            .map(|u| self.with_groups(u))
    }

    fn passwd_entries(&self) -> impl Iterator<Item = User> + '_ {
        self.passwd.lines().filter_map(|line| {
            let f: Vec<&str> = line.split(':').collect();
            let [name, _, uid, gid, rest @ ..] = f.as_slice() else {
                return None;
            };
            Some(User {
                uid: id(uid)?,
                gid: id(gid)?,
                groups: Vec::new(),
                home: rest
                    .get(1)
                    .filter(|h| h.starts_with('/'))
                    .map(|h| (*h).to_owned()),
                name: Some((*name).to_owned()),
            })
        })
    }

    fn with_groups(&self, mut user: User) -> User {
        let name = user.name.clone().unwrap_or_default();
        for (_, gid, members) in self.groups() {
            if !user.groups.contains(&gid) && members.split(',').any(|m| m.trim() == name) {
                user.groups.push(gid);
            }
        }
        user
    }

    fn group_id(&self, name: &str) -> Option<u32> {
        self.groups()
            .find(|(n, ..)| *n == name)
            .map(|(_, gid, _)| gid)
    }

    fn groups(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        self.group.lines().filter_map(|line| {
            let mut f = line.split(':');
            let (name, _, gid) = (f.next()?, f.next()?, f.next()?);
            Some((name, id(gid)?, f.next().unwrap_or("")))
        })
    }
}

/// An id of a file's line. 4294967295 means "leave it" to setresuid(2), which
/// would leave a user root.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|n| *n <= i32::MAX as u32)
}

/// A number, if all digits. Out of range is an error, never a name or a smaller
/// number (containerd CVE-2024-40635; crun CVE-2026-30892).
fn number(text: &str, what: &str) -> Result<Option<u32>> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(n) if n <= i32::MAX as u32 => Ok(Some(n)),
        _ => Err(Error::invalid(format!(
            "{what} {text}: ids go from 0 to {}",
            i32::MAX
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\nbroken\nminus:x:4294967295:0:::\napp:x:1999:1999::/home/app:\n".into(),
            group: "root:x:0:\napp:x:1999:app\nwheel:x:10:root,app\nbad:x:y:app\n".into(),
        }
    }

    #[test]
    fn finds_users_by_name_and_number() {
        let a = accounts();
        let app = a.find("app").unwrap();
        assert_eq!(
            (app.uid, app.gid, &app.groups[..]),
            (1999, 1999, &[1999, 10][..])
        );
        assert_eq!(app.home.as_deref(), Some("/home/app"));
        assert_eq!(a.find("1999").unwrap(), app);
        assert_eq!(a.find("").unwrap().uid, 0);
        assert_eq!(a.find("app:wheel").unwrap().gid, 10);
        assert_eq!(
            a.find("7:8").unwrap(),
            User {
                uid: 7,
                gid: 8,
                ..User::default()
            }
        );
    }

    #[test]
    fn refuses_what_is_no_id() {
        let a = accounts();
        for bad in [
            "nobody",
            "minus",
            "4294967296",
            "2147483648",
            "99999999999999999999",
            "0:x",
            "-1",
        ] {
            assert!(a.find(bad).is_err(), "{bad}");
        }
    }
}
