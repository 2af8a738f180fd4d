//! Host ports of other roots. Each root has a table of its own, and where two
//! redirect the same port, the kernel follows the one that was made first: the
//! other's Pod would wait for packets that never come.

use std::net::{IpAddr, Ipv4Addr};

use nix::errno::Errno;

use super::{ADDRESSED_PORTS, GETTABLE, LIST_ELEM, OF_TABLE, PORTS, put};
use crate::linux::netlink::{Attributes, NLM_F_DUMP, Reply, Socket, text};
use crate::network::HostPort;
use crate::spec::Protocol;
use crate::{Error, Result};

const GETSETELEM: u16 = 13;
/// struct nfgenmsg.
const HEADER: usize = 4;

/// The first of these ports that another root's table redirects, and that table.
pub(in crate::network) fn holder(
    socket: &Socket,
    own: &str,
    ports: &[HostPort],
) -> Result<Option<(HostPort, String)>> {
    for table in tables(socket)? {
        if table == own || !(table == "carob" || table.starts_with("carob_")) {
            continue;
        }
        for map in [PORTS, ADDRESSED_PORTS] {
            let held = elements(socket, &table, map)?;
            if let Some(port) = ports.iter().find(|p| held.iter().any(|h| h.clashes(p))) {
                return Ok(Some((*port, table)));
            }
        }
    }
    Ok(None)
}

/// The names of all tables, whatever their family.
pub(in crate::network) fn tables(socket: &Socket) -> Result<Vec<String>> {
    let tables = socket.dump(|b| {
        put(
            b,
            GETTABLE,
            NLM_F_DUMP,
            "NFT_MSG_GETTABLE(*)".into(),
            |_| {},
        );
    });
    Ok(ignoring_absence(tables)?
        .iter()
        .filter_map(name_of)
        .collect())
}

fn name_of(reply: &Reply) -> Option<String> {
    let mut attributes = reply.attributes(HEADER);
    attributes.find_map(|(kind, value)| (kind == OF_TABLE).then(|| text(value)))
}

fn elements(socket: &Socket, table: &str, map: &str) -> Result<Vec<HostPort>> {
    const SET: u16 = 2;
    const ELEMENTS: u16 = 3;
    const KEY: u16 = 1;
    const VALUE: u16 = 1;
    let replies = socket.dump(|b| {
        let what = format!("NFT_MSG_GETSETELEM({table}, {map})");
        put(b, GETSETELEM, NLM_F_DUMP, what, |m| {
            m.text(OF_TABLE, table).text(SET, map);
        });
    });
    let inside = |of: &[u8], wanted: u16| -> Vec<Vec<u8>> {
        let all = Attributes(of).filter(|(kind, _)| *kind == wanted);
        all.map(|(_, value)| value.to_vec()).collect()
    };
    let mut found = Vec::new();
    for reply in ignoring_absence(replies)? {
        let lists = reply.attributes(HEADER).filter(|(k, _)| *k == ELEMENTS);
        for (_, list) in lists {
            for element in inside(list, LIST_ELEM) {
                for key in inside(&element, KEY) {
                    found.extend(inside(&key, VALUE).iter().filter_map(|k| read_key(k)));
                }
            }
        }
    }
    Ok(found)
}

/// What [`super::map_key`] writes.
fn read_key(key: &[u8]) -> Option<HostPort> {
    let (host_ip, rest) = match key.len() {
        12 => {
            let (address, rest) = key.split_first_chunk::<4>()?;
            (Some(IpAddr::V4(Ipv4Addr::from(*address))), rest)
        }
        _ => (None, key),
    };
    let [protocol, _, _, _, high, low, _, _] = *rest.first_chunk::<8>()?;
    Some(HostPort {
        host_ip,
        host_port: u16::from_be_bytes([high, low]),
        container_port: 0,
        protocol: match i32::from(protocol) {
            libc::IPPROTO_TCP => Protocol::Tcp,
            libc::IPPROTO_UDP => Protocol::Udp,
            libc::IPPROTO_SCTP => Protocol::Sctp,
            _ => return None,
        },
    })
}

/// A table or map that goes while it is looked at holds nothing any more.
fn ignoring_absence(replies: Result<Vec<Reply>>) -> Result<Vec<Reply>> {
    match replies {
        Err(e) if e.errno() == Some(Errno::ENOENT) => Ok(Vec::new()),
        other => other,
    }
}

/// What to say of it.
pub(in crate::network) fn in_use(port: &HostPort, table: &str) -> Error {
    Error::conflict(format!("host port {port} is in use by a Pod of another carob root (nftables table {table})"),
    )
    .hint(format!(
        "choose another hostPort, or delete that Pod; if its root is no more: nft delete table ip {table}"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::map_key;
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        for host_ip in [None, Some(IpAddr::from([192, 0, 2, 1]))] {
            let port = HostPort {
                host_ip,
                host_port: 8080,
                container_port: 0,
                protocol: Protocol::Udp,
            };
            assert_eq!(read_key(&map_key(&port)), Some(port));
        }
        assert_eq!(read_key(&[6, 0]), None);
    }
}
