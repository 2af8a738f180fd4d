//! IPv4 subnets: arithmetic, and the choice of one. Pure.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A network address and its prefix length; host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    base: u32,
    prefix: u8,
}

/// Where subnets are looked for, each block cut into subnets of one size. The
/// first block is the rule; the others are for hosts on which a wide route, of
/// a VPN say, already covers it.
struct Block {
    base: [u8; 4],
    prefix: u8,
    cut: u8,
}

/// The system's own root: 10.89.0.0/16 if it can be had, and what follows it.
const SYSTEM: &[Block] = &[
    Block {
        base: [10, 89, 0, 0],
        prefix: 16,
        cut: 16,
    },
    Block {
        base: [10, 64, 0, 0],
        prefix: 10,
        cut: 16,
    },
    Block {
        base: [172, 16, 0, 0],
        prefix: 12,
        cut: 16,
    },
    Block {
        base: [192, 168, 0, 0],
        prefix: 16,
        cut: 24,
    },
];

/// Roots of their own: many may be live at once (each test has one), so /24s.
const PRIVATE: &[Block] = &[
    Block {
        base: [10, 128, 0, 0],
        prefix: 9,
        cut: 24,
    },
    Block {
        base: [172, 16, 0, 0],
        prefix: 12,
        cut: 24,
    },
    Block {
        base: [192, 168, 0, 0],
        prefix: 16,
        cut: 24,
    },
];

/// The subnet for the root of this tag that overlaps none of `taken`; `None` if
/// every block is full. A private root starts at a place given by its tag, so
/// that roots seldom meet and a root mostly gets the same subnet again.
pub fn choose(tag: &str, taken: &[Subnet]) -> Option<Subnet> {
    let (blocks, start) = match u32::from_str_radix(tag, 16) {
        Ok(hash) => (PRIVATE, hash),
        Err(_) => (SYSTEM, 0),
    };
    blocks.iter().find_map(|b| {
        let count = 1u32 << (b.cut - b.prefix);
        (0..count)
            .map(|i| (start % count + i) % count)
            .map(|i| {
                Subnet::new(
                    (u32::from_be_bytes(b.base) + (i << (32 - b.cut))).into(),
                    b.cut,
                )
            })
            .find(|s| !taken.iter().any(|t| t.overlaps(*s)))
    })
}

impl Subnet {
    /// The subnet that holds this address. `prefix` beyond 32 counts as 32.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(32);
        Subnet {
            base: u32::from(address) & mask(prefix),
            prefix,
        }
    }

    pub fn address(self) -> Ipv4Addr {
        self.base.into()
    }
    pub fn prefix(self) -> u8 {
        self.prefix
    }
    pub fn mask(self) -> Ipv4Addr {
        mask(self.prefix).into()
    }
    pub fn broadcast(self) -> Ipv4Addr {
        (self.base | !mask(self.prefix)).into()
    }
    /// The first address after the network's: the bridge's own.
    pub fn gateway(self) -> Ipv4Addr {
        self.base.saturating_add(1).into()
    }
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == self.base
    }
    pub fn overlaps(self, other: Subnet) -> bool {
        let shared = mask(self.prefix.min(other.prefix));
        self.base & shared == other.base & shared
    }

    /// The addresses that Pods may have, beginning after `last` and coming
    /// round to it at the end; from the start if `last` is not one of them.
    pub fn pod_addresses(self, last: Option<Ipv4Addr>) -> impl Iterator<Item = Ipv4Addr> {
        let first = u32::from(self.gateway()) + 1;
        let count = u32::from(self.broadcast()).saturating_sub(first);
        let start = last
            .map(u32::from)
            .filter(|l| (first..first + count).contains(l))
            .map_or(0, |l| l - first + 1);
        (0..count).map(move |i| (first + (start + i) % count).into())
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address(), self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let parsed = s.split_once('/').and_then(|(address, prefix)| {
            let prefix = prefix.parse().ok().filter(|p| *p <= 32)?;
            let address: Ipv4Addr = address.parse().ok()?;
            Some((Subnet::new(address, prefix), address))
        });
        match parsed {
            Some((subnet, address)) if subnet.address() == address => Ok(subnet),
            Some((subnet, _)) => Err(Error::invalid(format!(
                "subnet {s}: has host bits set, as in {subnet}"
            ))),
            None => Err(Error::invalid(format!(
                "subnet {s}: not of the form 10.89.0.0/16"
            ))),
        }
    }
}

impl TryFrom<String> for Subnet {
    type Error = Error;
    fn try_from(s: String) -> Result<Self> {
        s.parse()
    }
}

impl From<Subnet> for String {
    fn from(s: Subnet) -> String {
        s.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(s: &str) -> Subnet {
        s.parse().unwrap()
    }

    #[test]
    fn arithmetic() {
        let s = net("10.89.0.0/16");
        assert_eq!(s.gateway().to_string(), "10.89.0.1");
        assert_eq!(s.broadcast().to_string(), "10.89.255.255");
        assert_eq!(s.mask().to_string(), "255.255.0.0");
        assert!(s.overlaps(net("10.0.0.0/8")) && net("10.0.0.0/8").overlaps(s));
        assert!(s.overlaps(net("10.89.7.1/32")) && !s.overlaps(net("10.90.0.0/16")));
        assert!(s.overlaps(net("0.0.0.0/0")));
        assert!(s.contains([10, 89, 255, 1].into()) && !s.contains([10, 90, 0, 1].into()));
        assert!(
            "10.89.0.1/16".parse::<Subnet>().is_err() && "10.89.0.0/33".parse::<Subnet>().is_err()
        );
    }

    #[test]
    fn addresses_go_round() {
        let s = net("10.1.2.0/29");
        let all: Vec<String> = s.pod_addresses(None).map(|a| a.to_string()).collect();
        assert_eq!(
            all,
            ["10.1.2.2", "10.1.2.3", "10.1.2.4", "10.1.2.5", "10.1.2.6"]
        );
        let last = |l: &str| {
            s.pod_addresses(l.parse().ok())
                .map(|a| a.octets()[3])
                .collect::<Vec<_>>()
        };
        assert_eq!(last("10.1.2.4"), [5, 6, 2, 3, 4]);
        assert_eq!(last("10.1.2.6"), [2, 3, 4, 5, 6]);
        assert_eq!(last("10.9.9.9"), [2, 3, 4, 5, 6]);
        assert_eq!(net("10.1.2.4/30").pod_addresses(None).count(), 1);
        assert_eq!(net("10.1.2.4/32").pod_addresses(None).count(), 0);
    }

    #[test]
    fn the_system_root_prefers_its_own() {
        assert_eq!(choose("", &[]), Some(net("10.89.0.0/16")));
        assert_eq!(
            choose("", &[net("10.89.3.0/24")]),
            Some(net("10.64.0.0/16"))
        );
        assert_eq!(choose("", &[net("10.0.0.0/8")]), Some(net("172.16.0.0/16")));
        assert_eq!(choose("", &[net("0.0.0.0/0")]), None);
    }

    #[test]
    fn private_roots_probe_from_their_tag() {
        assert_eq!(choose("00000000", &[]), Some(net("10.128.0.0/24")));
        assert_eq!(choose("00000105", &[]), Some(net("10.129.5.0/24")));
        assert_eq!(
            choose("00000105", &[net("10.129.5.0/24"), net("10.129.6.9/32")]),
            Some(net("10.129.7.0/24"))
        );
        // From the last of the block round to its first.
        assert_eq!(
            choose("00007fff", &[net("10.255.255.0/24")]),
            Some(net("10.128.0.0/24"))
        );
        assert_eq!(
            choose("00000000", &[net("10.0.0.0/8"), net("172.16.0.0/12")]),
            Some(net("192.168.0.0/24"))
        );
    }
}
