//! Links, addresses and routes: rtnetlink(7).
//!
//! Functions named `put_` add one message to a batch, so that a Pod's whole end
//! goes to the kernel in one call; the others ask or act at once.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::Subnet;
use crate::linux::netlink::{
    Batch, Events, IFINFOMSG, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, Reply, Socket,
    number, text,
};
use crate::{Error, Result};

const RTMSG: usize = 12;
const NDMSG: usize = 12;
const IFADDRMSG: usize = 8;
const UP: u32 = libc::IFF_UP as u32;
const AF_INET: u8 = libc::AF_INET as u8;

const IFLA_BR_FORWARD_DELAY: u16 = 1;
const IFLA_BR_STP_STATE: u16 = 5;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_MODE: u16 = 4;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const RTNLGRP_LINK: i32 = 1;
const IF_OPER_UNKNOWN: u8 = 0;
const IF_OPER_UP: u8 = 6;
/// Spares the kernel from filling in counters that nobody reads.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub name: String,
    pub index: u32,
    /// Administratively: IFF_UP.
    pub up: bool,
    /// Frames pass: RFC 2863's operational state.
    pub operating: bool,
    pub mtu: u32,
    pub master: Option<u32>,
}

/// The Ethernet address that goes with an IPv4 address. Derived, not random: when
/// an address passes to another Pod, neighbours' ARP entries stay right. 02 means
/// locally administered.
pub(super) fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0xcb, a, b, c, d]
}

/// As the answer to RTM_NEWLINK: "unknown device type" is a module that is not there.
pub(super) fn no_such_kind(e: Error, module: &str) -> Error {
    match e.errno() {
        Some(Errno::EOPNOTSUPP) => crate::linux::module::missing(e, module),
        _ => e,
    }
}

pub(super) fn link(socket: &Socket, name: &str) -> Result<Option<Link>> {
    let mut batch = Batch::default();
    put_get_link(&mut batch, name);
    found(socket.ask(batch))
}

pub(super) fn put_get_link(batch: &mut Batch, name: &str) {
    batch.add(libc::RTM_GETLINK, 0, format!("RTM_GETLINK({name})"), |m| {
        m.ifinfomsg(0, 0);
        m.text(libc::IFLA_IFNAME, name)
            .u32(libc::IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    });
}

/// The outcome of [`put_get_link`].
pub(super) fn found(outcome: Result<Vec<Reply>>) -> Result<Option<Link>> {
    match outcome {
        Ok(replies) => Ok(replies.iter().find_map(parse_link)),
        Err(e) if e.errno() == Some(Errno::ENODEV) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Returns when frames pass through these links, for a second at most.
///
/// A veth gets its carrier when its other end goes up, but the kernel acts on
/// that (transmit queue on, bridge port forwarding) in a work item of its own,
/// later. A packet in between is lost, and a SYN is sent again only after a
/// second. Since Linux 6.8, RTM_GETLINK does the pending work itself; on older
/// kernels the link's notification tells when it is done.
pub(super) fn settle(socket: &Socket, events: &Events, names: &[&str]) -> Result<()> {
    let settled = || -> Result<bool> {
        let mut batch = Batch::default();
        for name in names {
            put_get_link(&mut batch, name);
        }
        let mut all = true;
        for outcome in socket.send(batch)? {
            all &= found(outcome)?.is_none_or(|l| l.operating);
        }
        Ok(all)
    };
    if settled()? {
        return Ok(());
    }
    events.during(RTNLGRP_LINK, |events| {
        let deadline = Instant::now() + Duration::from_secs(1);
        while !settled()? && events.wait(deadline)? {}
        Ok(())
    })
}

pub(super) fn links(socket: &Socket) -> Result<Vec<Link>> {
    let replies = socket.dump(|b| {
        b.add(
            libc::RTM_GETLINK,
            NLM_F_DUMP,
            "RTM_GETLINK(NLM_F_DUMP)",
            |m| {
                m.ifinfomsg(0, 0);
                m.u32(libc::IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
            },
        );
    })?;
    Ok(replies.iter().filter_map(parse_link).collect())
}

fn parse_link(reply: &Reply) -> Option<Link> {
    if reply.kind != libc::RTM_NEWLINK {
        return None;
    }
    let mut link = Link {
        name: String::new(),
        index: number(reply.payload.get(4..)?)?,
        up: number(reply.payload.get(8..)?)? & UP != 0,
        operating: false,
        mtu: 0,
        master: None,
    };
    for (kind, value) in reply.attributes(IFINFOMSG) {
        match kind {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_MTU => link.mtu = number(value)?,
            libc::IFLA_OPERSTATE => {
                link.operating = matches!(value, [IF_OPER_UNKNOWN | IF_OPER_UP]);
            }
            libc::IFLA_MASTER => link.master = number(value),
            _ => {}
        }
    }
    Some(link)
}

/// What the host already uses, and the MTU of the way out of it.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub taken: Vec<Subnet>,
    pub mtu: u32,
}

pub(super) fn surroundings(socket: &Socket) -> Result<Surroundings> {
    let mut taken = Vec::new();
    let mut default: Option<(u32, u32)> = None; // metric, link
    let routes = socket.dump(|b| {
        b.add(
            libc::RTM_GETROUTE,
            NLM_F_DUMP,
            "RTM_GETROUTE(NLM_F_DUMP)",
            |m| {
                m.fixed(&rtmsg(0, 0, 0, 0));
            },
        );
    })?;
    for r in routes.iter().filter(|r| r.kind == libc::RTM_NEWROUTE) {
        let Some(&[AF_INET, prefix, ..]) = r.payload.first_chunk::<RTMSG>() else {
            continue;
        };
        let mut destination = None;
        let (mut metric, mut way_out) = (0, None);
        for (kind, value) in r.attributes(RTMSG) {
            match kind {
                libc::RTA_DST => destination = address(value),
                libc::RTA_PRIORITY => metric = number(value).unwrap_or(0),
                libc::RTA_OIF => way_out = number(value),
                _ => {}
            }
        }
        match (destination, way_out) {
            // Anything this wide is a default route in disguise, as a VPN's
            // 0.0.0.0/1: it would cover every subnet there is.
            (Some(d), _) if prefix >= 8 => taken.push(Subnet::new(d, prefix)),
            (None, Some(link)) if prefix == 0 => {
                default = Some(default.map_or((metric, link), |d| d.min((metric, link))));
            }
            _ => {}
        }
    }
    // Links that are down have addresses without routes.
    let addresses = socket.dump(|b| {
        b.add(
            libc::RTM_GETADDR,
            NLM_F_DUMP,
            "RTM_GETADDR(NLM_F_DUMP)",
            |m| {
                m.fixed(&[AF_INET, 0, 0, 0, 0, 0, 0, 0]);
            },
        );
    })?;
    for a in addresses.iter().filter(|r| r.kind == libc::RTM_NEWADDR) {
        if let Some(&[AF_INET, prefix, ..]) = a.payload.first_chunk::<IFADDRMSG>()
            && let Some((_, value)) = a
                .attributes(IFADDRMSG)
                .find(|(k, _)| *k == libc::IFA_ADDRESS)
            && let Some(address) = address(value)
        {
            taken.push(Subnet::new(address, prefix));
        }
    }
    let mtu = match default {
        None => None,
        Some((_, index)) => links(socket)?
            .into_iter()
            .find(|l| l.index == index)
            .map(|l| l.mtu),
    };
    Ok(Surroundings {
        taken,
        mtu: mtu.unwrap_or(1500).clamp(576, 65_535),
    })
}

/// A bridge, down. It forwards at once and speaks to nobody on its own. Its
/// address is fixed, or it would change with every port that comes and goes.
pub(super) fn put_bridge(batch: &mut Batch, name: &str, mac: [u8; 6], mtu: u32) {
    batch.add(
        libc::RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        format!("RTM_NEWLINK({name}, bridge)"),
        |m| {
            m.ifinfomsg(0, 0);
            m.text(libc::IFLA_IFNAME, name)
                .u32(libc::IFLA_MTU, mtu)
                .bytes(libc::IFLA_ADDRESS, &mac)
                .nest(libc::IFLA_LINKINFO, |m| {
                    m.text(libc::IFLA_INFO_KIND, "bridge")
                        .nest(libc::IFLA_INFO_DATA, |m| {
                            m.u32(IFLA_BR_FORWARD_DELAY, 0).u32(IFLA_BR_STP_STATE, 0);
                        });
                });
        },
    );
}

/// One Pod's pair of links.
#[derive(Debug)]
pub(super) struct Pair<'a> {
    pub host: &'a str,
    pub pod: &'a str,
    pub pod_mac: [u8; 6],
    pub mtu: u32,
    pub bridge: u32,
}

/// The pair: the host's end on the bridge and not yet up (each change of a link that is
/// up and has no carrier has the kernel walk through all IPv6 routes, of which each Pod
/// adds one), the Pod's end made inside the Pod's namespace (to move a link there would
/// wait for an RCU grace period).
pub(super) fn put_pair(batch: &mut Batch, pair: &Pair, netns: BorrowedFd) {
    batch.add(
        libc::RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        format!("RTM_NEWLINK({}, veth)", pair.host),
        |m| {
            m.ifinfomsg(0, 0);
            m.text(libc::IFLA_IFNAME, pair.host)
                .u32(libc::IFLA_MTU, pair.mtu)
                .u32(libc::IFLA_NUM_TX_QUEUES, 1)
                .u32(libc::IFLA_NUM_RX_QUEUES, 1)
                .u32(libc::IFLA_MASTER, pair.bridge)
                .nest(libc::IFLA_LINKINFO, |m| {
                    m.text(libc::IFLA_INFO_KIND, "veth")
                        .nest(libc::IFLA_INFO_DATA, |m| {
                            m.nest(VETH_INFO_PEER, |m| {
                                m.ifinfomsg(0, 0);
                                m.text(libc::IFLA_IFNAME, pair.pod)
                                    .u32(libc::IFLA_MTU, pair.mtu)
                                    .u32(libc::IFLA_NUM_TX_QUEUES, 1)
                                    .u32(libc::IFLA_NUM_RX_QUEUES, 1)
                                    .bytes(libc::IFLA_ADDRESS, &pair.pod_mac)
                                    .u32(libc::IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
                            });
                        });
                });
        },
    );
}

/// Makes a link that is there a port of the bridge.
pub(super) fn put_master(batch: &mut Batch, name: &str, bridge: u32) {
    let what = format!("RTM_SETLINK({name}, IFLA_MASTER)");
    batch.add(libc::RTM_SETLINK, 0, what, |m| {
        m.ifinfomsg(0, 0);
        m.text(libc::IFLA_IFNAME, name)
            .u32(libc::IFLA_MASTER, bridge);
    });
}

/// Lets a frame out by the port that it came in by. For a Pod that reaches itself
/// by its own host port: where br_netfilter is on (other engines turn it on for
/// the whole machine), the redirected packet is bridged, not routed.
pub(super) fn put_hairpin(batch: &mut Batch, name: &str) {
    let what = format!("RTM_NEWLINK({name}, IFLA_BRPORT_MODE)");
    batch.add(libc::RTM_NEWLINK, 0, what, |m| {
        m.ifinfomsg(0, 0);
        m.text(libc::IFLA_IFNAME, name)
            .nest(libc::IFLA_LINKINFO, |m| {
                m.text(IFLA_INFO_SLAVE_KIND, "bridge")
                    .nest(IFLA_INFO_SLAVE_DATA, |m| {
                        m.u8(IFLA_BRPORT_MODE, 1);
                    });
            });
    });
}

/// No link-local IPv6 address, hence no duplicate address detection and no router
/// solicitation. Refused with EAFNOSUPPORT where IPv6 is off: ignore that.
pub(super) fn put_no_ipv6_address(batch: &mut Batch, name: &str) {
    batch.add(
        libc::RTM_SETLINK,
        0,
        format!("RTM_SETLINK({name}, IFLA_INET6_ADDR_GEN_MODE)"),
        |m| {
            m.ifinfomsg(0, 0);
            m.text(libc::IFLA_IFNAME, name)
                .nest(libc::IFLA_AF_SPEC, |m| {
                    m.nest(libc::AF_INET6 as u16, |m| {
                        m.u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
                    });
                });
        },
    );
}

pub(super) fn put_up(batch: &mut Batch, name: &str) {
    batch.add(
        libc::RTM_SETLINK,
        0,
        format!("RTM_SETLINK({name}, up)"),
        |m| {
            m.ifinfomsg(0, UP);
            m.text(libc::IFLA_IFNAME, name);
        },
    );
}

pub(super) fn put_address(batch: &mut Batch, link: u32, address: Ipv4Addr, subnet: Subnet) {
    let what = format!("RTM_NEWADDR({address}/{})", subnet.prefix());
    batch.add(libc::RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, what, |m| {
        let mut head = [AF_INET, subnet.prefix(), 0, 0, 0, 0, 0, 0];
        head[4..].copy_from_slice(&link.to_ne_bytes());
        m.fixed(&head)
            .bytes(libc::IFA_LOCAL, &address.octets())
            .bytes(libc::IFA_ADDRESS, &address.octets())
            .bytes(libc::IFA_BROADCAST, &subnet.broadcast().octets());
    });
}

pub(super) fn put_default_route(batch: &mut Batch, link: u32, gateway: Ipv4Addr) {
    let what = format!("RTM_NEWROUTE(default via {gateway})");
    batch.add(libc::RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, what, |m| {
        m.fixed(&rtmsg(
            libc::RT_TABLE_MAIN,
            libc::RTPROT_STATIC,
            libc::RT_SCOPE_UNIVERSE,
            libc::RTN_UNICAST,
        ))
        .bytes(libc::RTA_GATEWAY, &gateway.octets())
        .u32(libc::RTA_OIF, link);
    });
}

/// The Ethernet address of a neighbour whose IPv4 address is known: it follows from
/// that ([`mac_of`]). With it the kernel sends no ARP request, which a bridge gives
/// to each of its ports, and does not count the entry towards the limit of its
/// neighbour table (net.ipv4.neigh.default.gc_thresh3, 1024 by default), which all
/// network namespaces of the machine share.
pub(super) fn put_neighbour(batch: &mut Batch, link: u32, address: Ipv4Addr) {
    let what = format!("RTM_NEWNEIGH({address})");
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    batch.add(libc::RTM_NEWNEIGH, flags, what, |m| {
        m.fixed(&ndmsg(link, libc::NUD_PERMANENT))
            .bytes(libc::NDA_DST, &address.octets())
            .bytes(libc::NDA_LLADDR, &mac_of(address));
    });
}

/// Undoes [`put_neighbour`]. That there is no such entry or link is success.
pub(super) fn delete_neighbour(socket: &Socket, link: u32, address: Ipv4Addr) -> Result<()> {
    let mut batch = Batch::default();
    let what = format!("RTM_DELNEIGH({address})");
    batch.add(libc::RTM_DELNEIGH, 0, what, |m| {
        m.fixed(&ndmsg(link, 0))
            .bytes(libc::NDA_DST, &address.octets());
    });
    ignoring(&[Errno::ENOENT, Errno::ENODEV], socket.send_all(batch))
}

/// That the link is not there is success.
pub(super) fn delete_link(socket: &Socket, name: &str) -> Result<()> {
    let mut batch = Batch::default();
    batch.add(libc::RTM_DELLINK, 0, format!("RTM_DELLINK({name})"), |m| {
        m.ifinfomsg(0, 0);
        m.text(libc::IFLA_IFNAME, name);
    });
    ignoring(&[Errno::ENODEV], socket.send_all(batch))
}

pub(super) fn ignoring(errnos: &[Errno], result: Result<()>) -> Result<()> {
    match result {
        Err(e) if e.errno().is_some_and(|n| errnos.contains(&n)) => Ok(()),
        other => other,
    }
}

/// Refusals of [`put_no_ipv6_address`] that mean: there is no IPv6 to keep quiet.
pub(super) fn ignoring_no_ipv6<T>(result: Result<T>) -> Result<(), Error> {
    ignoring(
        &[Errno::EAFNOSUPPORT, Errno::EOPNOTSUPP, Errno::EINVAL],
        result.map(drop),
    )
}

/// `set` is what of IFF_UP shall be on.
fn rtmsg(table: u8, protocol: u8, scope: u8, kind: u8) -> [u8; RTMSG] {
    [AF_INET, 0, 0, 0, table, protocol, scope, kind, 0, 0, 0, 0]
}

/// struct ndmsg: rtnetlink(7).
fn ndmsg(link: u32, state: u16) -> [u8; NDMSG] {
    let mut head = [0; NDMSG];
    head[0] = AF_INET;
    head[4..8].copy_from_slice(&link.to_ne_bytes());
    head[8..10].copy_from_slice(&state.to_ne_bytes());
    head
}

fn address(value: &[u8]) -> Option<Ipv4Addr> {
    value.first_chunk().map(|b| Ipv4Addr::from(*b))
}
