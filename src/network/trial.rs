//! Whether the kernel can make what a Pod's network is made of: a bridge, a pair of links, a
//! table of nftables. Tried in the network namespace that the caller is in, which is one to
//! throw away: all of it goes with that.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use super::subnet::Subnet;
use super::{nft, open_own_netns, route};
use crate::linux::module;
use crate::linux::netlink::{Batch, Family, Socket};
use crate::{Error, Result};

const BRIDGE: &str = "carob-trial";

/// The links of a Pod.
///
/// # Errors
/// What the kernel refuses, with the module that it lacks.
pub(crate) fn links() -> Result<()> {
    let socket = Socket::open(Family::Route)?;
    let netns = open_own_netns()?;
    let address = Ipv4Addr::new(10, 0, 0, 1);
    let mut batch = Batch::default();
    route::put_bridge(&mut batch, BRIDGE, route::mac_of(address), 1500);
    socket
        .send_all(batch)
        .map_err(|e| route::no_such_kind(e, "bridge"))?;
    let bridge = route::link(&socket, BRIDGE)?
        .ok_or_else(|| Error::failed("the bridge vanished while it was made"))?;
    let pair = route::Pair {
        host: "carob-trial0",
        pod: "carob-trial1",
        pod_mac: route::mac_of(address),
        mtu: 1500,
        bridge: bridge.index,
    };
    let mut batch = Batch::default();
    route::put_pair(&mut batch, &pair, netns.as_fd());
    socket
        .send_all(batch)
        .map_err(|e| route::no_such_kind(e, "veth"))
}

/// The table with the rules of Pods.
///
/// # Errors
/// As [`links`].
pub(crate) fn rules() -> Result<()> {
    let table = nft::Table {
        name: BRIDGE,
        bridge: BRIDGE,
        subnet: Subnet::new(Ipv4Addr::new(10, 0, 0, 0), 24),
    };
    let made = Socket::open(Family::Netfilter).and_then(|s| nft::replace(&s, table, &[]));
    made.map_err(|e| match nft::unavailable(&e) {
        true => module::missing(e, "nf_tables"),
        false => e,
    })
}
