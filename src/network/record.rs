//! What is written down before the kernel is told: `bridge.json` and
//! `leases.json` in the root's network directory. Changed only under its lock.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{HostPort, Subnet};
use crate::store::{self, Versioned};
use crate::{Context, Error, Result};

const VERSION: u32 = 1;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Bridge {
    version: u32,
    pub name: String,
    pub subnet: Subnet,
    pub mtu: u32,
    /// Set when everything has been made; until then whatever of it exists is
    /// thrown away and made anew.
    pub complete: bool,
    /// What the host would not let us set; every Pod is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

impl Versioned for Bridge {
    const VERSION: u32 = VERSION;
    fn version(&self) -> u32 {
        self.version
    }
}

impl Bridge {
    pub(super) fn new(name: &str, subnet: Subnet, mtu: u32) -> Self {
        Bridge {
            version: VERSION,
            name: name.to_owned(),
            subnet,
            mtu,
            complete: false,
            warning: None,
        }
    }

    pub(super) fn path(network: &Path) -> PathBuf {
        network.join("bridge.json")
    }

    pub(super) fn load(network: &Path) -> Result<Option<Self>> {
        store::load_versioned(&Self::path(network))
    }

    pub(super) fn save(&self, network: &Path) -> Result<()> {
        store::save(&Self::path(network), self)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Leases {
    version: u32,
    /// The address given out last: the next search starts behind it, so that a
    /// freed address rests before a stranger gets it.
    last: Option<Ipv4Addr>,
    /// By Pod UID.
    pub pods: BTreeMap<String, Lease>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Lease {
    pub address: Ipv4Addr,
    /// namespace/name, for people.
    pub pod: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<HostPort>,
}

impl Versioned for Leases {
    const VERSION: u32 = VERSION;
    fn version(&self) -> u32 {
        self.version
    }
}

impl Default for Leases {
    fn default() -> Self {
        Leases {
            version: VERSION,
            last: None,
            pods: BTreeMap::new(),
        }
    }
}

impl Leases {
    pub(super) fn path(network: &Path) -> PathBuf {
        network.join("leases.json")
    }

    pub(super) fn load(network: &Path) -> Result<Self> {
        Ok(store::load_versioned(&Self::path(network))?.unwrap_or_default())
    }

    /// After one was added: only with the room set aside that their removal takes.
    pub(super) fn save(&self, network: &Path) -> Result<()> {
        let path = Self::path(network);
        let bytes = serde_json::to_vec(self)?.len() as u64;
        store::reserve(&path, bytes)?;
        store::save(&path, self)
    }

    /// After some were removed.
    pub(super) fn save_fewer(&self, network: &Path) -> Result<()> {
        store::save_reserved(&Self::path(network), self, None)
    }

    /// Gives the Pod an address: the one it has already, if it comes again after
    /// a crash, else the next that is free.
    pub(super) fn take(
        &mut self,
        subnet: Subnet,
        uid: &str,
        pod: &str,
        ports: &[HostPort],
    ) -> Result<Ipv4Addr> {
        let held = self
            .pods
            .get(uid)
            .map(|l| l.address)
            .filter(|a| subnet.contains(*a));
        let address = match held {
            Some(address) => address,
            None => {
                let used: std::collections::BTreeSet<Ipv4Addr> =
                    self.pods.values().map(|l| l.address).collect();
                subnet
                    .pod_addresses(self.last)
                    .find(|a| !used.contains(a))
                    .ok_or_else(|| full(subnet))?
            }
        };
        self.last = Some(address);
        let lease = Lease {
            address,
            pod: pod.to_owned(),
            ports: ports.to_vec(),
        };
        self.pods.insert(uid.to_owned(), lease);
        Ok(address)
    }
}

fn full(subnet: Subnet) -> Error {
    let all = subnet.pod_count();
    Error::failed(format!("subnet {subnet}: all {all} addresses are in use")).hint(
        "delete Pods that are not needed; the subnet is chosen when a root's first Pod is made, \
         as wide as the routes of the host allow, and again when the root has no Pod left",
    )
}

/// Takes a lock whose file its last user removes. The file locked may have been
/// unlinked while we waited, and another made under its name: then it is not
/// the lock that others take, and we try again.
pub(super) fn lock(path: &Path) -> Result<store::Lock> {
    use std::os::unix::fs::MetadataExt;
    if let Some(dir) = path.parent()
        && !dir.exists()
    {
        store::make_dir(dir)?;
    }
    loop {
        let lock = match store::Lock::acquire(path) {
            Ok(lock) => lock,
            Err(e) if e.errno() == Some(nix::errno::Errno::ENOENT) => {
                if let Some(dir) = path.parent() {
                    store::make_dir(dir)?;
                }
                continue;
            }
            Err(e) => return Err(e),
        };
        let held = nix::sys::stat::fstat(&lock)
            .map_err(|e| Error::sys(format!("fstat({})", path.display()), e))?;
        match std::fs::symlink_metadata(path) {
            Ok(named) if named.ino() == held.st_ino && named.dev() == held.st_dev => {
                return Ok(lock);
            }
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).context(format!("lstat({})", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of a /24 bridge, as roots of earlier versions have it, goes on as it
    /// is; a /22, as they get it now, has an address for each of 1021 Pods.
    #[test]
    fn each_pod_gets_an_address_of_its_own() {
        for (subnet, count) in [("10.128.7.0/24", 253), ("10.128.4.0/22", 1021)] {
            let subnet: Subnet = subnet.parse().unwrap();
            let mut leases = Leases::default();
            let mut take = |n| leases.take(subnet, &format!("uid-{n}"), "default/web", &[]);
            let given: std::collections::BTreeSet<_> =
                (0..count).map(|n| take(n).unwrap()).collect();
            assert_eq!(given.len(), count);
            assert!(given.iter().all(|a| subnet.contains(*a)));
            assert!(!given.contains(&subnet.gateway()) && !given.contains(&subnet.broadcast()));
            let e = take(count).unwrap_err().to_string();
            assert!(e.contains(&format!("all {count} addresses")), "{e}");
        }
    }

    #[test]
    fn addresses_rest_before_they_are_used_again() {
        let subnet: Subnet = "10.1.2.0/29".parse().unwrap();
        let mut leases = Leases::default();
        let take = |l: &mut Leases, uid: &str| {
            l.take(subnet, uid, "default/web", &[])
                .map(|a| a.octets()[3])
        };
        assert_eq!(take(&mut leases, "a").unwrap(), 2);
        assert_eq!(take(&mut leases, "b").unwrap(), 3);
        leases.pods.remove("a");
        assert_eq!(take(&mut leases, "c").unwrap(), 4);
        assert_eq!(
            take(&mut leases, "c").unwrap(),
            4,
            "the same Pod, the same address"
        );
        assert_eq!(take(&mut leases, "d").unwrap(), 5);
        assert_eq!(take(&mut leases, "e").unwrap(), 6);
        assert_eq!(take(&mut leases, "f").unwrap(), 2);
        assert!(
            take(&mut leases, "g")
                .unwrap_err()
                .to_string()
                .contains("all 5 addresses")
        );
        let text = serde_json::to_string(&leases).unwrap();
        assert_eq!(
            serde_json::from_str::<Leases>(&text).unwrap().pods,
            leases.pods
        );
    }
}
