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

/// A range of addresses that is cut into subnets of one size.
struct Block {
    base: [u8; 4],
    prefix: u8,
    cut: u8,
}

const fn block(base: [u8; 4], prefix: u8, cut: u8) -> Block {
    Block { base, prefix, cut }
}

/// The blocks of the system's own root, in the order in which they are tried:
/// 10.89.0.0/16 if it is free, then others of RFC 1918 for hosts on which a route,
/// of a VPN say, covers the first.
const SYSTEM: &[Block] = &[
    block([10, 89, 0, 0], 16, 16),
    block([10, 64, 0, 0], 10, 16),
    block([172, 16, 0, 0], 12, 16),
    block([192, 168, 0, 0], 16, 22),
];

/// The blocks of private roots. Many of these roots may be in use at once (each
/// test has one), so their subnets are small: a /22 has 1021 addresses for Pods, and
/// a bridge has at most 1023 ports.
const PRIVATE: &[Block] = &[
    block([10, 128, 0, 0], 9, 22),
    block([172, 16, 0, 0], 12, 22),
    block([192, 168, 0, 0], 16, 22),
];

/// The last resort of every root, where routes leave no wider range.
const SMALL: &[Block] = &[
    block([10, 0, 0, 0], 8, 24),
    block([172, 16, 0, 0], 12, 24),
    block([192, 168, 0, 0], 16, 24),
];

/// The subnet for the root of this tag that overlaps none of `taken`; `None` if
/// every block is full. A private root's search starts at a subnet given by its
/// tag, so that roots seldom meet and a root mostly gets the same subnet again.
pub(super) fn choose(tag: &str, taken: &[Subnet]) -> Option<Subnet> {
    let (blocks, start) = match u32::from_str_radix(tag, 16) {
        Ok(hash) => (PRIVATE, hash),
        Err(_) => (SYSTEM, 0),
    };
    blocks
        .iter()
        .chain(SMALL)
        .find_map(|b| b.first_free(start, taken))
}

impl Block {
    /// From subnet number `start` on, and round to it.
    fn first_free(&self, start: u32, taken: &[Subnet]) -> Option<Subnet> {
        let base = u32::from_be_bytes(self.base);
        let count = 1u32 << (self.cut - self.prefix);
        (0..count)
            .map(|i| (start % count + i) % count)
            .map(|n| Subnet::new((base + (n << (32 - self.cut))).into(), self.cut))
            .find(|s| !taken.iter().any(|t| t.overlaps(*s)))
    }
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

    /// How many Pods have room in it: without the network's, the gateway's and the
    /// broadcast address.
    pub fn pod_count(self) -> u32 {
        u32::from(self.broadcast()).saturating_sub(u32::from(self.gateway()) + 1)
    }

    /// The addresses that Pods may have, beginning after `last` and coming
    /// round to it at the end; from the start if `last` is not one of them.
    pub fn pod_addresses(self, last: Option<Ipv4Addr>) -> impl Iterator<Item = Ipv4Addr> {
        let first = u32::from(self.gateway()) + 1;
        let count = self.pod_count();
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
        assert_eq!(
            choose("", &[net("10.0.0.0/8"), net("172.16.0.0/12")]),
            Some(net("192.168.0.0/22"))
        );
        assert_eq!(choose("", &[net("0.0.0.0/0")]), None);
    }

    #[test]
    fn private_roots_probe_from_their_tag() {
        assert_eq!(choose("00000000", &[]), Some(net("10.128.0.0/22")));
        assert_eq!(choose("00000105", &[]), Some(net("10.132.20.0/22")));
        assert_eq!(
            choose("00000105", &[net("10.132.20.0/24"), net("10.132.27.9/32")]),
            Some(net("10.132.28.0/22"))
        );
        // From the last of the block round to its first.
        assert_eq!(
            choose("00001fff", &[net("10.255.255.0/24")]),
            Some(net("10.128.0.0/22"))
        );
        assert_eq!(
            choose("00000000", &[net("10.0.0.0/8"), net("172.16.0.0/12")]),
            Some(net("192.168.0.0/22"))
        );
    }

    /// Every root has room for 500 Pods and more, unless the host's routes leave no
    /// /22 anywhere; then a /24 is better than nothing.
    #[test]
    fn a_subnet_is_as_wide_as_the_host_allows() {
        for tag in ["", "00000000", "ffffffff"] {
            assert!(choose(tag, &[]).unwrap().pod_count() >= 1000, "{tag:?}");
        }
        let mut taken = vec![net("10.0.0.0/8"), net("172.16.0.0/12")];
        // One address in every /22 of 192.168.0.0/16.
        taken.extend((0..64).map(|n| Subnet::new([192, 168, 4 * n, 9].into(), 32)));
        for tag in ["", "00000000"] {
            let small = choose(tag, &taken).unwrap();
            assert_eq!(small, net("192.168.1.0/24"));
            assert!(taken.iter().all(|t| !t.overlaps(small)));
        }
    }
}
