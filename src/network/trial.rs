//! Whether the kernel can make what a Pod's network is made of: a bridge, a pair of links, a
//! table of nftables. Tried in the network namespace that the caller is in, which is one to
//! throw away: all of it goes with that. And, without a change, whether a firewall of the
//! host drops what is forwarded for Pods.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use super::subnet::Subnet;
use super::{Host, bridge, nft, open_own_netns, route};
use crate::linux::module;
use crate::linux::netlink::{Batch, Family, Socket};
use crate::store::Layout;
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

/// A base chain of another program that drops forwarded packets by default.
#[derive(Debug)]
pub(crate) struct Chain {
    /// Family, table and chain, as nft(8) wants them written.
    pub path: String,
    /// How Pods' packets fare there.
    pub passage: String,
    /// How to let them pass, where carob has not and will not.
    pub mend: Option<String>,
}

/// The nftables chains of the hook `forward` that drop by default, without firewalld's,
/// which is asked by D-Bus. Call in the host's network namespace. Changes nothing.
///
/// # Errors
/// What the kernel refuses.
pub(crate) fn firewall(layout: &Layout) -> Result<Vec<Chain>> {
    let host = Host::open(layout)?;
    let Some(socket) = &host.nft else {
        return Ok(Vec::new());
    };
    let dropping = match nft::forward::dropping(socket, &host.bridge) {
        Err(e) if nft::unavailable(&e) => return Ok(Vec::new()),
        other => other?,
    };
    if dropping.is_empty() {
        return Ok(Vec::new());
    }
    let name = &host.bridge;
    let used = bridge::has_ports(&host)?;
    let said = |chain: nft::forward::Dropping| {
        let (passage, lacking) = match (chain.opened, chain.owned, used) {
            (true, ..) => (format!("rules of carob let Pods of {name} pass"), false),
            (_, true, _) => (
                format!(
                    "packets of Pods of {name} too, and only the process that owns the table may \
                     change it"
                ),
                true,
            ),
            (.., true) => (format!("packets of Pods of {name} too"), true),
            _ => (
                format!("carob puts rules for {name} there when a Pod starts"),
                false,
            ),
        };
        Chain {
            passage,
            mend: lacking.then(|| chain.mend(name)),
            path: chain.path,
        }
    };
    Ok(dropping.into_iter().map(said).collect())
}
