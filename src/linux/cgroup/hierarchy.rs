//! Which cgroup hierarchies this machine has, and where; and the set of the controllers
//! that are known, `Controllers`.
//!
//! A new controller: its bit and name here, `resolve` if Pods use it, `v2::SWITCHABLE`, a
//! field of `Resources` with what `v1` and `v2` write for it, `measure`; for Pods both
//! functions of `pod::limits`, that for containers and that for the Pod's own cgroup.
//!
//! Three layouts exist: *pure v2* (one hierarchy at /sys/fs/cgroup), *hybrid*
//! (v1 hierarchies with the controllers, and v2 at /sys/fs/cgroup/unified,
//! usually without any controller that matters) and *pure v1*. See cgroups(7),
//! proc(5) on `/proc/self/cgroup` and `/proc/self/mountinfo`.
//!
//! Never mounts anything: a machine without a hierarchy gets an error that says
//! how to mount one.

use std::ops::{BitAnd, BitOr, Sub};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, FsType, statfs};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::linux::mount_table::unescape;
use crate::{Context, Error, Result};

/// The hint where the mount at `point` refuses a change with EROFS.
pub(super) fn read_only_hint(point: &Path) -> String {
    format!(
        "the cgroup filesystem is mounted read-only: mount -o remount,rw {}; in a container, give \
         it its own cgroups, or run it with --privileged",
        point.display()
    )
}

/// A set of controllers, v1 and v2 under one name each (`blkio` is `io`). All 16 bits are in
/// use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controllers(u16);

impl Controllers {
    pub const NONE: Self = Self(0);
    pub const CPU: Self = Self(1);
    pub const CPUACCT: Self = Self(1 << 1);
    pub const MEMORY: Self = Self(1 << 2);
    pub const PIDS: Self = Self(1 << 3);
    pub const DEVICES: Self = Self(1 << 4);
    pub const IO: Self = Self(1 << 5);
    pub const CPUSET: Self = Self(1 << 6);
    pub const HUGETLB: Self = Self(1 << 7);
    pub const FREEZER: Self = Self(1 << 8);
    /// The v1 hierarchy `name=systemd`: no controller, only who belongs where.
    pub const SYSTEMD: Self = Self(1 << 9);
    /// Everything else: v1 hierarchies with other names, controllers to come.
    pub const OTHER: Self = Self(1 << 10);
    pub const NET_CLS: Self = Self(1 << 11);
    pub const NET_PRIO: Self = Self(1 << 12);
    pub const RDMA: Self = Self(1 << 13);
    pub const MISC: Self = Self(1 << 14);
    pub const PERF_EVENT: Self = Self(1 << 15);
    pub const ALL: Self = Self(u16::MAX);

    pub fn parse(name: &str) -> Self {
        match name {
            "cpu" => Self::CPU,
            "cpuacct" => Self::CPUACCT,
            "memory" => Self::MEMORY,
            "pids" => Self::PIDS,
            "devices" => Self::DEVICES,
            "blkio" | "io" => Self::IO,
            "cpuset" => Self::CPUSET,
            "hugetlb" => Self::HUGETLB,
            "freezer" => Self::FREEZER,
            "name=systemd" => Self::SYSTEMD,
            "net_cls" => Self::NET_CLS,
            "net_prio" => Self::NET_PRIO,
            "rdma" => Self::RDMA,
            "misc" => Self::MISC,
            "perf_event" => Self::PERF_EVENT,
            _ => Self::OTHER,
        }
    }

    pub fn parse_list(list: &str, separator: char) -> Self {
        let names = list.split(separator).map(str::trim);
        names
            .filter(|n| !n.is_empty())
            .fold(Self::NONE, |set, n| set | Self::parse(n))
    }

    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Controllers {
    type Output = Self;
    fn bitor(self, o: Self) -> Self {
        Self(self.0 | o.0)
    }
}
impl BitAnd for Controllers {
    type Output = Self;
    fn bitand(self, o: Self) -> Self {
        Self(self.0 & o.0)
    }
}
impl Sub for Controllers {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        Self(self.0 & !o.0)
    }
}

/// Which controllers a cgroup is made for. Each v1 hierarchy joined costs about
/// 0.1 ms of mkdir, attach and rmdir over a container's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// Every hierarchy there is, as other OCI runtimes do.
    All,
    /// What a Pod's container needs: limits and accounting of cpu, memory, huge pages
    /// and pids, the device rules, and `name=systemd`, so that systemd does not count
    /// the process to its caller's session. cpuacct and freezer only where no v2
    /// hierarchy gives cpu.stat and cgroup.kill.
    Pod,
    /// Exactly these (and the v2 hierarchy, wherever there is one).
    These(Controllers),
}

/// One mounted hierarchy.
#[derive(Debug)]
pub struct Hierarchy {
    point: PathBuf,
    dir: OwnedFd,
    controllers: Controllers,
    list: String,
}

impl Hierarchy {
    fn open(point: &Path, list: &str, controllers: Controllers) -> Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = open(point, flags, Mode::empty())
            .map_err(|e| Error::sys(format_args!("open({point:?}, O_PATH)"), e))?;
        Ok(Hierarchy {
            point: point.to_owned(),
            dir,
            controllers,
            list: list.to_owned(),
        })
    }

    /// v2 tells its controllers in a file of its root.
    fn open_v2(point: &Path) -> Result<Self> {
        let file = point.join("cgroup.controllers");
        let list = std::fs::read_to_string(&file).with_context(|| format!("read {file:?}"))?;
        Self::open(point, "", Controllers::parse_list(&list, ' '))
    }

    /// Where it is mounted; paths of cgroups are relative to this.
    pub fn point(&self) -> &Path {
        &self.point
    }
    pub fn controllers(&self) -> Controllers {
        self.controllers
    }
    /// As /proc/self/cgroup and mount options name it: `cpu,cpuacct`,
    /// `name=systemd`; empty for v2.
    pub fn list(&self) -> &str {
        &self.list
    }
}

impl AsFd for Hierarchy {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// The machine's hierarchies; cheap to clone.
#[derive(Clone, Debug)]
pub struct Hierarchies(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    v2: Option<Hierarchy>,
    v1: Vec<Hierarchy>,
}

const ROOT: &str = "/sys/fs/cgroup";

fn is_fs(path: &str, magic: FsType) -> bool {
    statfs(path).is_ok_and(|s| s.filesystem_type() == magic)
}

impl Hierarchies {
    /// Looks once per process and remembers.
    pub fn detect() -> Result<Hierarchies> {
        static FOUND: OnceLock<Hierarchies> = OnceLock::new();
        if let Some(h) = FOUND.get() {
            return Ok(h.clone());
        }
        let inner = Self::probe().context("find the cgroup hierarchies")?;
        Ok(FOUND.get_or_init(|| Hierarchies(Arc::new(inner))).clone())
    }

    /// The customary places first: their statfs costs microseconds, whereas
    /// mountinfo grows with every mount of the machine.
    fn probe() -> Result<Inner> {
        if is_fs(ROOT, CGROUP2_SUPER_MAGIC) {
            return Ok(Inner {
                v2: Some(Hierarchy::open_v2(Path::new(ROOT))?),
                v1: Vec::new(),
            });
        }
        let own = std::fs::read_to_string("/proc/self/cgroup").context("read /proc/self/cgroup")?;
        let mut found = Inner::default();
        for list in own.lines().filter_map(|l| l.split(':').nth(1)) {
            if list.is_empty() {
                // systemd 232 had v2 in the place of name=systemd.
                let places = ["unified", "systemd"].map(|d| format!("{ROOT}/{d}"));
                if let Some(p) = places.iter().find(|p| is_fs(p, CGROUP2_SUPER_MAGIC)) {
                    found.v2 = Some(Hierarchy::open_v2(Path::new(p))?);
                }
                continue;
            }
            let place = format!("{ROOT}/{}", list.strip_prefix("name=").unwrap_or(list));
            if !is_fs(&place, CGROUP_SUPER_MAGIC) {
                return Self::from_mountinfo();
            }
            let controllers = Controllers::parse_list(list, ',');
            found
                .v1
                .push(Hierarchy::open(Path::new(&place), list, controllers)?);
        }
        if found.v1.is_empty() && found.v2.is_none() {
            return Self::from_mountinfo();
        }
        Ok(found)
    }

    fn from_mountinfo() -> Result<Inner> {
        let text =
            std::fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
        let mut found = Inner::default();
        for (point, list) in parse_mountinfo(&text) {
            match list {
                None if found.v2.is_none() => found.v2 = Some(Hierarchy::open_v2(&point)?),
                None => {}
                // A hierarchy mounted twice is one hierarchy.
                Some(list) if found.v1.iter().any(|h| h.list == list) => {}
                Some(list) => {
                    let controllers = Controllers::parse_list(&list, ',');
                    found.v1.push(Hierarchy::open(&point, &list, controllers)?);
                }
            }
        }
        if found.v1.is_empty() && found.v2.is_none() {
            return Err(Error::unsupported("no cgroup hierarchy is mounted")
                .hint("mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup"));
        }
        Ok(found)
    }

    /// Asks for the mount of v2. clone3(2) into a cgroup asks the filesystem alone, so that
    /// behind a read-only mount a process could be born in a cgroup that it cannot remove.
    ///
    /// # Errors
    /// EROFS.
    pub fn require_writable(&self) -> Result<()> {
        let Some(h) = self.v2() else { return Ok(()) };
        let flags = fstatvfs(h).context("fstatvfs(<cgroup2>)")?.flags();
        match flags.contains(FsFlags::ST_RDONLY) {
            true => {
                let at = h.point.display();
                let e = Error::sys(format_args!("cgroup2 at {at}"), Errno::EROFS);
                Err(e.hint(read_only_hint(&h.point)))
            }
            false => Ok(()),
        }
    }

    pub fn v2(&self) -> Option<&Hierarchy> {
        self.0.v2.as_ref()
    }
    pub fn v1(&self) -> &[Hierarchy] {
        &self.0.v1
    }
    /// True where v2 is the only hierarchy.
    pub fn is_pure_v2(&self) -> bool {
        self.0.v1.is_empty()
    }
    /// The v1 hierarchy that has the controller.
    pub fn v1_with(&self, controller: Controllers) -> Option<&Hierarchy> {
        self.0.v1.iter().find(|h| h.controllers.meets(controller))
    }

    /// What `select` means on this machine.
    pub fn resolve(&self, select: Select) -> Controllers {
        use Controllers as C;
        match select {
            Select::All => C::ALL,
            Select::These(set) => set,
            Select::Pod => {
                let base = C::CPU | C::MEMORY | C::PIDS | C::DEVICES | C::HUGETLB | C::SYSTEMD;
                match self.v2() {
                    Some(_) => base,
                    None => base | C::CPUACCT | C::FREEZER,
                }
            }
        }
    }
}

/// The cgroup mounts of a mountinfo: the mount point, and the list of controllers
/// for a v1 hierarchy or `None` for v2.
fn parse_mountinfo(text: &str) -> Vec<(PathBuf, Option<String>)> {
    let mut mounts = Vec::new();
    for line in text.lines() {
        // "id parent dev root point options [optional...] - type source super"
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let (Some(point), mut right) = (left.split(' ').nth(4), right.split(' ')) else {
            continue;
        };
        match right.next() {
            Some("cgroup2") => mounts.push((unescape(point.as_bytes()), None)),
            Some("cgroup") => {
                let options = right.nth(1).unwrap_or_default();
                let plain = |o: &&str| {
                    !matches!(
                        *o,
                        "rw" | "ro" | "none" | "xattr" | "noprefix" | "clone_children"
                    ) && !o.starts_with("release_agent=")
                };
                let list: Vec<&str> = options.split(',').filter(plain).collect();
                mounts.push((unescape(point.as_bytes()), Some(list.join(","))));
            }
            _ => {}
        }
    }
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_layout_of_mountinfo() {
        let text = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /mnt/with\\040space rw,relatime - cgroup2 cgroup2 rw,nsdelegate
42 31 0:39 / /mnt/other - - ext4 /dev/x rw
";
        assert_eq!(
            parse_mountinfo(text),
            [
                (
                    PathBuf::from("/sys/fs/cgroup/cpu,cpuacct"),
                    Some("cpu,cpuacct".to_owned())
                ),
                (
                    PathBuf::from("/sys/fs/cgroup/systemd"),
                    Some("name=systemd".to_owned())
                ),
                (PathBuf::from("/mnt/with space"), None),
            ]
        );
    }

    #[test]
    fn the_two_ways_of_looking_agree() {
        let fast = Hierarchies::probe().unwrap();
        let slow = Hierarchies::from_mountinfo().unwrap();
        let key = |h: &Hierarchy| (h.point.clone(), h.list.clone(), h.controllers.0);
        assert_eq!(fast.v2.as_ref().map(key), slow.v2.as_ref().map(key));
        let sorted = |v: &[Hierarchy]| {
            let mut v: Vec<_> = v.iter().map(key).collect();
            v.sort();
            v
        };
        assert_eq!(sorted(&fast.v1), sorted(&slow.v1));
    }
}
