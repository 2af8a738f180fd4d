//! The root's nftables table: masquerading, host ports, no spoofed sources.
//!
//! Speaks nfnetlink (uapi/linux/netfilter/nf_tables.h) in batches that take
//! effect whole or not at all. As `nft list table ip carob` shows it:
//!
//! ```text
//! table ip carob {
//!   map ports           { type inet_proto . inet_service : ipv4_addr . inet_service }
//!   map addressed_ports { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service }
//!   chain raw { type filter hook prerouting priority raw
//!     iifname "carob0" ip saddr != 10.89.0.0/16 drop }
//!   chain prerouting { type nat hook prerouting priority dstnat
//!     fib daddr type local ip daddr != 127.0.0.0/8 jump hostports }
//!   chain output { type nat hook output priority dstnat
//!     fib daddr type local ip daddr != 127.0.0.0/8 jump hostports }
//!   chain hostports {
//!     dnat to ip daddr . meta l4proto . th dport map @addressed_ports
//!     dnat to meta l4proto . th dport map @ports }
//!   chain postrouting { type nat hook postrouting priority srcnat
//!     ip saddr 10.89.0.0/16 oifname != "carob0" masquerade
//!     ip saddr 10.89.0.0/16 oifname "carob0" ct status dnat masquerade }
//! }
//! ```
//!
//! - The rules never change; a Pod's host ports are elements of the maps, so that
//!   the cost of a Pod does not grow with the number of Pods.
//! - Only packets to an address of the host itself are redirected: a host port
//!   captures nothing that the host merely forwards.
//! - 127.0.0.0/8 is left alone. To redirect it, route_localnet would have to be on,
//!   which opens the host's loopback to its neighbours (CVE-2020-8558).
//! - The last rule is for a Pod that reaches a Pod by a host port: the answer
//!   would go straight over the bridge, past the translation back.
//! - Interfaces are matched by name: the rules outlive the bridge's re-making.

mod expression;
pub(super) mod forward;
pub(super) mod others;
mod verdict;

use std::net::{IpAddr, Ipv4Addr};

use nix::errno::Errno;

use super::{HostPort, Subnet};
use crate::linux::netlink::{Batch, Body, NLM_F_APPEND, NLM_F_CREATE, Socket};
use crate::{Error, Result};
use expression::*;

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NFPROTO_INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;

// enum nf_tables_msg_types
const NEWTABLE: u16 = 0;
const GETTABLE: u16 = 1;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const NEWRULE: u16 = 6;
const GETCHAIN: u16 = 4;
const GETRULE: u16 = 7;
const DELRULE: u16 = 8;
const GETGEN: u16 = 16;
const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;
const DELSETELEM: u16 = 14;

/// The first attribute of every object's message names its table.
const OF_TABLE: u16 = 1;

const HOOK_PREROUTING: u32 = 0;
const HOOK_OUTPUT: u32 = 3;
const HOOK_POSTROUTING: u32 = 4;
const PRIORITY_RAW: i32 = -300;
const PRIORITY_DSTNAT: i32 = -100;
const PRIORITY_SRCNAT: i32 = 100;

const PORTS: &str = "ports";
const ADDRESSED_PORTS: &str = "addressed_ports";

/// Elements of one message: keeps its nested list below 64 KB.
const CHUNK: usize = 500;

/// What the rules speak of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'a> {
    pub name: &'a str,
    pub bridge: &'a str,
    pub subnet: Subnet,
}

/// Errors by which a kernel says that it lacks nf_tables or a part of it; ENOENT
/// also that an object is not there.
pub(super) fn unavailable(e: &Error) -> bool {
    matches!(
        e.errno(),
        Some(Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT)
    )
}

/// Whether the table is there: a reload of the host's own rules may have flushed it.
pub(super) fn exists(socket: &Socket, table: &str) -> Result<bool> {
    let mut batch = Batch::default();
    put(
        &mut batch,
        GETTABLE,
        0,
        format!("NFT_MSG_GETTABLE({table})"),
        |m| {
            m.text(OF_TABLE, table);
        },
    );
    match socket.ask(batch) {
        Ok(_) => Ok(true),
        Err(e) if e.errno() == Some(Errno::ENOENT) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Makes the table with these host ports, in place of one that is there.
pub(super) fn replace(socket: &Socket, table: Table, ports: &[(HostPort, Ipv4Addr)]) -> Result<()> {
    let name = table.name;
    transact(socket, |b| {
        // Made, deleted, made: to delete what is not there would be an error.
        for kind in [NEWTABLE, DELTABLE, NEWTABLE] {
            put_table(b, kind, name);
        }
        put_map(b, name, PORTS, 1, false);
        put_map(b, name, ADDRESSED_PORTS, 2, true);
        put_chain(b, name, "hostports", None);
        put_chain(
            b,
            name,
            "raw",
            Some(("filter", HOOK_PREROUTING, PRIORITY_RAW)),
        );
        put_chain(
            b,
            name,
            "prerouting",
            Some(("nat", HOOK_PREROUTING, PRIORITY_DSTNAT)),
        );
        put_chain(
            b,
            name,
            "output",
            Some(("nat", HOOK_OUTPUT, PRIORITY_DSTNAT)),
        );
        put_chain(
            b,
            name,
            "postrouting",
            Some(("nat", HOOK_POSTROUTING, PRIORITY_SRCNAT)),
        );

        put_rule(b, name, "raw", |r| {
            interface(r, libc::NFT_META_IIFNAME, libc::NFT_CMP_EQ, table.bridge);
            address_in(r, SOURCE, libc::NFT_CMP_NEQ, table.subnet);
            verdict(r, libc::NF_DROP, None);
        });
        for chain in ["prerouting", "output"] {
            put_rule(b, name, chain, |r| {
                to_this_host(r);
                address_in(
                    r,
                    DESTINATION,
                    libc::NFT_CMP_NEQ,
                    Subnet::new(Ipv4Addr::LOCALHOST, 8),
                );
                verdict(r, libc::NFT_JUMP, Some("hostports"));
            });
        }
        put_rule(b, name, "hostports", |r| {
            network_header(r, DESTINATION, R0);
            protocol_and_port(r, R1, R2);
            redirect(r, ADDRESSED_PORTS);
        });
        put_rule(b, name, "hostports", |r| {
            protocol_and_port(r, R0, R1);
            redirect(r, PORTS);
        });
        put_rule(b, name, "postrouting", |r| {
            address_in(r, SOURCE, libc::NFT_CMP_EQ, table.subnet);
            interface(r, libc::NFT_META_OIFNAME, libc::NFT_CMP_NEQ, table.bridge);
            expression(r, "masq", |_| {});
        });
        put_rule(b, name, "postrouting", |r| {
            address_in(r, SOURCE, libc::NFT_CMP_EQ, table.subnet);
            interface(r, libc::NFT_META_OIFNAME, libc::NFT_CMP_EQ, table.bridge);
            was_redirected(r);
            expression(r, "masq", |_| {});
        });
        put_elements(b, NEWSETELEM, name, ports);
    })
}

/// Redirects host ports to a Pod.
pub(super) fn add_ports(
    socket: &Socket,
    table: &str,
    ports: &[HostPort],
    to: Ipv4Addr,
) -> Result<()> {
    let elements: Vec<_> = ports.iter().map(|p| (*p, to)).collect();
    transact(socket, |b| put_elements(b, NEWSETELEM, table, &elements))
}

/// Ends the redirection. What is not there is success.
pub(super) fn remove_ports(
    socket: &Socket,
    table: &str,
    ports: &[HostPort],
    to: Ipv4Addr,
) -> Result<()> {
    let elements: Vec<_> = ports.iter().map(|p| (*p, to)).collect();
    match transact(socket, |b| put_elements(b, DELSETELEM, table, &elements)) {
        // One element missing keeps the whole batch from taking effect.
        Err(e) if unavailable(&e) => elements.iter().try_for_each(|element| {
            match transact(socket, |b| put_elements(b, DELSETELEM, table, &[*element])) {
                Err(e) if unavailable(&e) => Ok(()),
                other => other,
            }
        }),
        other => other,
    }
}

/// Deletes the table with all that is in it. That it is not there is success, but
/// asked about first: a batch refused makes the kernel wait 15 ms for RCU.
pub(super) fn delete(socket: &Socket, table: &str) -> Result<()> {
    match exists(socket, table) {
        Ok(true) => {}
        Ok(false) => return Ok(()),
        Err(e) if unavailable(&e) => return Ok(()),
        Err(e) => return Err(e),
    }
    match transact(socket, |b| put_table(b, DELTABLE, table)) {
        Err(e) if unavailable(&e) => Ok(()),
        other => other,
    }
}

fn transact(socket: &Socket, fill: impl FnOnce(&mut Batch)) -> Result<()> {
    let frame = [0, 0, 0, NFNL_SUBSYS_NFTABLES as u8];
    let mut batch = Batch::default();
    batch.add_silent(BATCH_BEGIN, "NFNL_MSG_BATCH_BEGIN(nftables)", |m| {
        m.fixed(&frame);
    });
    fill(&mut batch);
    batch.add_silent(BATCH_END, "NFNL_MSG_BATCH_END(nftables)", |m| {
        m.fixed(&frame);
    });
    socket.send_all(batch)
}

fn put(batch: &mut Batch, kind: u16, flags: u16, what: String, fill: impl FnOnce(&mut Body)) {
    put_of_family(batch, NFPROTO_IPV4, kind, flags, what, fill);
}

fn put_of_family(
    batch: &mut Batch,
    family: u8,
    kind: u16,
    flags: u16,
    what: String,
    fill: impl FnOnce(&mut Body),
) {
    batch.add(NFNL_SUBSYS_NFTABLES << 8 | kind, flags, what, |m| {
        m.fixed(&[family, 0, 0, 0]);
        fill(m);
    });
}

fn put_table(batch: &mut Batch, kind: u16, table: &str) {
    let verb = if kind == DELTABLE { "DEL" } else { "NEW" };
    let flags = if kind == DELTABLE { 0 } else { NLM_F_CREATE };
    put(
        batch,
        kind,
        flags,
        format!("NFT_MSG_{verb}TABLE({table})"),
        |m| {
            m.text(OF_TABLE, table);
        },
    );
}

/// A chain; with a hook (type, hook, priority) a base chain that accepts.
fn put_chain(batch: &mut Batch, table: &str, chain: &str, hook: Option<(&str, u32, i32)>) {
    const NAME: u16 = 3;
    const HOOK: u16 = 4;
    const TYPE: u16 = 7;
    let what = format!("NFT_MSG_NEWCHAIN({table}, {chain})");
    put(batch, NEWCHAIN, NLM_F_CREATE, what, |m| {
        m.text(OF_TABLE, table).text(NAME, chain);
        if let Some((kind, number, priority)) = hook {
            m.nest(HOOK, |m| {
                m.be32(1, number).be32(2, priority as u32);
            })
            .text(TYPE, kind);
        }
    });
}

/// A map from (address,) protocol and port to address and port.
fn put_map(batch: &mut Batch, table: &str, map: &str, id: u32, addressed: bool) {
    const NAME: u16 = 2;
    const FLAGS: u16 = 3;
    const KEY_TYPE: u16 = 4;
    const KEY_LEN: u16 = 5;
    const DATA_TYPE: u16 = 6;
    const DATA_LEN: u16 = 7;
    const ID: u16 = 10;
    const NFT_SET_MAP: u32 = 8;
    // The kernel keeps the types for nft(8) to read: 6 bits each.
    const IPV4_ADDR: u32 = 7;
    const INET_PROTO: u32 = 12;
    const INET_SERVICE: u32 = 13;
    let (key, length) = match addressed {
        true => (IPV4_ADDR << 12 | INET_PROTO << 6 | INET_SERVICE, 12),
        false => (INET_PROTO << 6 | INET_SERVICE, 8),
    };
    let what = format!("NFT_MSG_NEWSET({table}, {map})");
    put(batch, NEWSET, NLM_F_CREATE, what, |m| {
        m.text(OF_TABLE, table)
            .text(NAME, map)
            .be32(FLAGS, NFT_SET_MAP)
            .be32(KEY_TYPE, key)
            .be32(KEY_LEN, length)
            .be32(DATA_TYPE, IPV4_ADDR << 6 | INET_SERVICE)
            .be32(DATA_LEN, 8)
            .be32(ID, id);
    });
}

fn put_elements(batch: &mut Batch, kind: u16, table: &str, ports: &[(HostPort, Ipv4Addr)]) {
    const SET: u16 = 2;
    const ELEMENTS: u16 = 3;
    const KEY: u16 = 1;
    const DATA: u16 = 2;
    let (addressed, any): (Vec<_>, Vec<_>) = ports
        .iter()
        .copied()
        .partition(|(p, _)| specific(p).is_some());
    let (verb, flags) = match kind {
        NEWSETELEM => ("NEW", NLM_F_CREATE),
        _ => ("DEL", 0),
    };
    for (map, elements) in [(PORTS, any), (ADDRESSED_PORTS, addressed)] {
        for chunk in elements.chunks(CHUNK) {
            let what = format!("NFT_MSG_{verb}SETELEM({table}, {map}, {} ...)", chunk[0].0);
            put(batch, kind, flags, what, |m| {
                m.text(OF_TABLE, table).text(SET, map).nest(ELEMENTS, |m| {
                    for (port, to) in chunk {
                        m.nest(LIST_ELEM, |m| {
                            m.nest(KEY, |m| value(m, &map_key(port)));
                            if kind == NEWSETELEM {
                                m.nest(DATA, |m| value(m, &map_data(port, *to)));
                            }
                        });
                    }
                });
            });
        }
    }
}

/// The host's address that the port is bound to, if not to all of them.
fn specific(port: &HostPort) -> Option<Ipv4Addr> {
    match port.host_ip {
        Some(IpAddr::V4(a)) if !a.is_unspecified() => Some(a),
        _ => None,
    }
}

/// Parts of a key or datum begin at multiples of 4 bytes, padded with zeros.
fn map_key(port: &HostPort) -> Vec<u8> {
    let mut key = Vec::with_capacity(12);
    if let Some(address) = specific(port) {
        key.extend_from_slice(&address.octets());
    }
    key.extend_from_slice(&[port.ip_protocol(), 0, 0, 0]);
    key.extend_from_slice(&port.host_port.to_be_bytes());
    key.extend_from_slice(&[0, 0]);
    key
}

fn map_data(port: &HostPort, to: Ipv4Addr) -> [u8; 8] {
    let [a, b, c, d] = to.octets();
    let [p, q] = port.container_port.to_be_bytes();
    [a, b, c, d, p, q, 0, 0]
}

fn put_rule(batch: &mut Batch, table: &str, chain: &str, fill: impl FnOnce(&mut Body)) {
    const CHAIN: u16 = 2;
    const EXPRESSIONS: u16 = 4;
    let what = format!("NFT_MSG_NEWRULE({table}, {chain})");
    put(batch, NEWRULE, NLM_F_CREATE | NLM_F_APPEND, what, |m| {
        m.text(OF_TABLE, table)
            .text(CHAIN, chain)
            .nest(EXPRESSIONS, fill);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Protocol;

    #[test]
    fn elements_are_padded_by_part() {
        let mut port = HostPort {
            host_ip: None,
            host_port: 0x1f90,
            container_port: 80,
            protocol: Protocol::Udp,
        };
        assert_eq!(map_key(&port), [17, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(
            map_data(&port, [10, 89, 0, 2].into()),
            [10, 89, 0, 2, 0, 80, 0, 0]
        );
        port.host_ip = Some(IpAddr::from([0, 0, 0, 0]));
        assert_eq!(map_key(&port).len(), 8);
        port.host_ip = Some(IpAddr::from([192, 0, 2, 1]));
        assert_eq!(
            map_key(&port),
            [192, 0, 2, 1, 17, 0, 0, 0, 0x1f, 0x90, 0, 0]
        );
    }
}
