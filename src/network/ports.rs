//! Host ports: what they are, and who stands in their way.
//!
//! Listening sockets are found by sock_diag(7) on a socket of the host's network
//! namespace (the monitor's own /proc/net is the Pod's), asked for one port.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::record::Leases;
use crate::linux::netlink::{Batch, NLM_F_DUMP, Socket, number};
use crate::spec::Protocol;
use crate::{Error, Result};

/// One port of the host that leads to a Pod's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostPort {
    /// Which of the host's addresses; `None` or 0.0.0.0 for all but loopback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: Protocol,
}

/// As in `8080/TCP`, `192.0.2.1:53/UDP`.
impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ip) = self.host_ip.filter(|ip| !ip.is_unspecified()) {
            write!(f, "{ip}:")?;
        }
        let protocol = match self.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        };
        write!(f, "{}/{protocol}", self.host_port)
    }
}

impl HostPort {
    pub(super) fn ip_protocol(&self) -> u8 {
        let protocol = match self.protocol {
            Protocol::Tcp => libc::IPPROTO_TCP,
            Protocol::Udp => libc::IPPROTO_UDP,
            Protocol::Sctp => libc::IPPROTO_SCTP,
        };
        protocol as u8
    }

    /// Whether a packet to this address of the host would be redirected.
    fn covers(&self, address: IpAddr) -> bool {
        match self.host_ip {
            None => true,
            Some(ip) => ip.is_unspecified() || address.is_unspecified() || ip == address,
        }
    }

    pub(super) fn clashes(&self, other: &HostPort) -> bool {
        self.protocol == other.protocol
            && self.host_port == other.host_port
            && self.covers(other.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into()))
    }
}

/// Refuses what cannot be had at all.
pub(super) fn check(ports: &[HostPort]) -> Result<()> {
    for (i, p) in ports.iter().enumerate() {
        match p.host_ip {
            Some(ip @ IpAddr::V6(_)) => {
                return Err(Error::unsupported(format!(
                    "host port {p}: {ip} is an IPv6 address, and Pods have IPv4 only"
                )));
            }
            Some(ip) if ip.is_loopback() => {
                return Err(Error::unsupported(format!(
                    "host port {p}: packets to {ip} cannot leave the host's loopback"
                ))
                .hint("reach the Pod by its own address, or leave hostIP out"));
            }
            _ => {}
        }
        if p.host_port == 0 || p.container_port == 0 {
            return Err(Error::invalid(format!(
                "host port {p}: a port is 1 to 65535"
            )));
        }
        if ports[..i].iter().any(|q| q.clashes(p)) {
            return Err(Error::invalid(format!(
                "host port {p}: asked for twice by one Pod"
            )));
        }
    }
    Ok(())
}

/// Refuses ports that another Pod holds or that a socket of the host listens on.
/// `diag` is `None` where the kernel cannot tell about sockets.
pub(super) fn check_free(
    ports: &[HostPort],
    uid: &str,
    leases: &Leases,
    diag: Option<&Socket>,
) -> Result<()> {
    for port in ports {
        let holder = leases
            .pods
            .iter()
            .filter(|(other, _)| *other != uid)
            .find(|(_, l)| l.ports.iter().any(|p| p.clashes(port)));
        if let Some((_, lease)) = holder {
            let (namespace, name) = lease.pod.split_once('/').unwrap_or(("default", &lease.pod));
            let mend = format!("delete that Pod: carob delete pod {name} -n {namespace}");
            return Err(in_use(port, &format!("pod {}", lease.pod), &mend));
        }
        if let Some(diag) = diag
            && let Some(inode) = listener(diag, port)?
        {
            let (by, mend) = match holder_of(inode) {
                Some((pid, name)) => (
                    format!("pid {pid} ({name})"),
                    format!(
                        "end that process: kill {pid}, or stop its service (systemctl status \
                         {pid} names it)"
                    ),
                ),
                None => (
                    format!("a socket of the kernel or of a process out of sight, inode {inode}"),
                    "end the program that has it".to_owned(),
                ),
            };
            return Err(in_use(port, &by, &mend));
        }
    }
    Ok(())
}

fn in_use(port: &HostPort, by: &str, mend: &str) -> Error {
    Error::conflict(format!("host port {port} is in use by {by}"))
        .hint(format!("choose another hostPort, or {mend}"))
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const INET_DIAG_MSG: usize = 72;
const INET_DIAG_SKV6ONLY: u16 = 11;
const TCP_CLOSE: u32 = 7;
const TCP_LISTEN: u32 = 10;

/// The inode of a socket that would no longer hear what the port receives. A
/// listener on loopback alone would: those packets are not redirected.
fn listener(diag: &Socket, port: &HostPort) -> Result<Option<u32>> {
    // An unbound or unconnected UDP socket is in the state that TCP calls closed.
    let states: u32 = match port.protocol {
        Protocol::Udp => 1 << TCP_CLOSE,
        Protocol::Tcp | Protocol::Sctp => 1 << TCP_LISTEN,
    };
    for family in [libc::AF_INET, libc::AF_INET6] {
        // struct inet_diag_req_v2
        let mut request = [0u8; 56];
        request[0] = family as u8;
        request[1] = port.ip_protocol();
        request[4..8].copy_from_slice(&states.to_ne_bytes());
        request[8..10].copy_from_slice(&port.host_port.to_be_bytes());
        let what = format!("SOCK_DIAG_BY_FAMILY({port})");
        let sockets = diag.dump(|b: &mut Batch| {
            b.add(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, what.clone(), |m| {
                m.fixed(&request);
            });
        });
        let sockets = match sockets {
            Ok(sockets) => sockets,
            // The protocol is not loaded, so nobody listens; or its diagnosis was
            // not built, and the port is taken on trust.
            Err(e) if e.errno() == Some(Errno::ENOENT) => continue,
            Err(e) => return Err(e),
        };
        for s in &sockets {
            let Some(msg) = s.payload.first_chunk::<INET_DIAG_MSG>() else {
                continue;
            };
            if msg[4..6] != port.host_port.to_be_bytes() {
                continue;
            }
            let v6_only = s
                .attributes(INET_DIAG_MSG)
                .any(|(k, v)| k == INET_DIAG_SKV6ONLY && v.first() == Some(&1));
            let Some(address) = bound_to(msg, v6_only) else {
                continue;
            };
            if !address.is_loopback() && port.covers(address.into()) {
                return Ok(number(&msg[68..]));
            }
        }
    }
    Ok(None)
}

/// The IPv4 address that a socket listens on, if it hears IPv4 at all.
fn bound_to(msg: &[u8; INET_DIAG_MSG], v6_only: bool) -> Option<Ipv4Addr> {
    let source: [u8; 16] = *msg[8..].first_chunk()?;
    if i32::from(msg[0]) == libc::AF_INET {
        return source.first_chunk().map(|b: &[u8; 4]| Ipv4Addr::from(*b));
    }
    let v6 = Ipv6Addr::from(source);
    match v6.is_unspecified() {
        true => (!v6_only).then_some(Ipv4Addr::UNSPECIFIED),
        false => v6.to_ipv4_mapped(),
    }
}

/// Who has the socket open: pid and name. Walks all of /proc, on the way to an
/// error only.
fn holder_of(inode: u32) -> Option<(u32, String)> {
    let link = format!("socket:[{inode}]");
    std::fs::read_dir("/proc")
        .ok()?
        .flatten()
        .find_map(|process| {
            let pid: u32 = process.file_name().to_str()?.parse().ok()?;
            std::fs::read_dir(process.path().join("fd"))
                .ok()?
                .flatten()
                .find(|fd| {
                    std::fs::read_link(fd.path()).is_ok_and(|l| l.as_os_str() == link.as_str())
                })?;
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            Some((pid, name.trim_end().to_owned()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    fn port(ip: Option<&str>, host_port: u16, protocol: Protocol) -> HostPort {
        HostPort {
            host_ip: ip.map(|s| s.parse().unwrap()),
            host_port,
            container_port: 80,
            protocol,
        }
    }

    #[test]
    fn clashes_by_address_port_and_protocol() {
        let any = port(None, 80, Protocol::Tcp);
        let zero = port(Some("0.0.0.0"), 80, Protocol::Tcp);
        let one = port(Some("192.0.2.1"), 80, Protocol::Tcp);
        let two = port(Some("192.0.2.2"), 80, Protocol::Tcp);
        assert!(any.clashes(&one) && one.clashes(&any) && zero.clashes(&two) && two.clashes(&zero));
        assert!(one.clashes(&one) && !one.clashes(&two));
        assert!(
            !any.clashes(&port(None, 80, Protocol::Udp))
                && !any.clashes(&port(None, 81, Protocol::Tcp))
        );
        assert_eq!(one.to_string(), "192.0.2.1:80/TCP");
        assert_eq!(zero.to_string(), "80/TCP");
        assert!(check(&[one, two]).is_ok());
        assert_eq!(check(&[one, any]).unwrap_err().kind(), Kind::Invalid);
        assert_eq!(
            check(&[port(Some("127.0.0.1"), 80, Protocol::Tcp)])
                .unwrap_err()
                .kind(),
            Kind::Unsupported
        );
        assert_eq!(
            check(&[port(Some("::1"), 80, Protocol::Tcp)])
                .unwrap_err()
                .kind(),
            Kind::Unsupported
        );
    }
}
