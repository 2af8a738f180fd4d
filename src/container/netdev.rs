//! Links: loopback of a new network namespace, and links of the host that move
//! into a container (config-linux.md, "Network Devices"): rtnetlink(7).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sched::setns;
use nix::unistd::Pid;

use super::plan::namespace::NET;
use crate::linux::namespace;
use crate::linux::netlink::{Batch, Family, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, Reply, Socket};
use crate::{Call, Context, Error, Result};

const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
/// struct ifaddrmsg.
const IFADDRMSG: usize = 8;
const UP: u32 = libc::IFF_UP as u32;

/// It is link 1 of every network namespace, and down in a new one.
pub(super) fn loopback_up() -> Result<()> {
    let mut batch = Batch::default();
    batch.add(libc::RTM_NEWLINK, 0, "RTM_NEWLINK(lo, IFF_UP)", |b| {
        b.ifinfomsg(1, UP);
    });
    Socket::open(Family::Route)?.send_all(batch)
}

/// Moves links (name here, name there) into the network namespace `joined`, or that
/// of `pid`; with their global, permanent addresses, and up.
pub(super) fn move_in(
    pid: Pid,
    joined: Option<BorrowedFd>,
    links: &[(String, String)],
) -> Result<()> {
    if links.is_empty() {
        return Ok(());
    }
    let opened;
    let there = match joined {
        Some(fd) => fd,
        None => {
            opened = namespace::open(format!("/proc/{pid}/ns/net").as_ref())?;
            opened.as_fd()
        }
    };
    let here = namespace::open_own("net")?;
    for (name, inside) in links {
        move_one(&here, there, name, inside)
            .with_context(|| format!("linux.netDevices: {name}"))?;
    }
    Ok(())
}

fn move_one(here: &OwnedFd, there: BorrowedFd, name: &str, inside: &str) -> Result<()> {
    let socket = Socket::open(Family::Route)?;
    let index = index_of(&socket, name)?;
    let addresses: Vec<Reply> = socket
        .dump(|batch| {
            batch.add(libc::RTM_GETADDR, NLM_F_DUMP, "RTM_GETADDR", |b| {
                b.fixed(&[0; IFADDRMSG]);
            });
        })?
        .into_iter()
        .filter(|r| is_kept(r, index))
        .collect();
    let mut batch = Batch::default();
    batch.add(
        libc::RTM_NEWLINK,
        0,
        format!("RTM_NEWLINK({name}, IFLA_NET_NS_FD)"),
        |b| {
            b.ifinfomsg(index, 0);
            b.u32(libc::IFLA_NET_NS_FD, there.as_raw_fd() as u32);
            b.text(libc::IFLA_IFNAME, inside);
        },
    );
    socket.send_all(batch)?;

    setns(there, NET).call(|| "setns(<net>, CLONE_NEWNET)")?;
    let done = set_up(inside, &addresses);
    setns(here, NET).call(|| "setns(<own>, CLONE_NEWNET)")?;
    done
}

fn index_of(socket: &Socket, name: &str) -> Result<u32> {
    let mut batch = Batch::default();
    batch.add(libc::RTM_GETLINK, 0, format!("RTM_GETLINK({name})"), |b| {
        b.ifinfomsg(0, 0);
        b.text(libc::IFLA_IFNAME, name);
    });
    let replies = socket.ask(batch)?;
    let head = replies
        .first()
        .and_then(|r| r.payload.get(4..8)?.try_into().ok());
    head.map(u32::from_ne_bytes)
        .ok_or_else(|| Error::failed(format!("RTM_GETLINK({name}): an answer without a link")))
}

/// Of this link, of global scope, and nobody's lease.
fn is_kept(r: &Reply, index: u32) -> bool {
    let p = &r.payload;
    let of_link = p.get(4..8).is_some_and(|b| b == index.to_ne_bytes());
    let mut flags = p.get(2).map_or(0, |f| u32::from(*f));
    for (kind, value) in r.attributes(IFADDRMSG) {
        if kind == IFA_FLAGS
            && let Some(n) = crate::linux::netlink::number(value)
        {
            flags = n;
        }
    }
    of_link && p.get(3) == Some(&libc::RT_SCOPE_UNIVERSE) && flags & libc::IFA_F_PERMANENT != 0
}

fn set_up(name: &str, addresses: &[Reply]) -> Result<()> {
    let socket = Socket::open(Family::Route)?;
    let index = index_of(&socket, name)?;
    let mut batch = Batch::default();
    for a in addresses {
        let what = format!("RTM_NEWADDR({name})");
        batch.add(libc::RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, what, |b| {
            let mut head = [0_u8; IFADDRMSG];
            head.copy_from_slice(&a.payload[..IFADDRMSG]);
            head[4..8].copy_from_slice(&index.to_ne_bytes());
            b.fixed(&head);
            for (kind, value) in a.attributes(IFADDRMSG) {
                if kind != IFA_CACHEINFO {
                    b.bytes(kind, value);
                }
            }
        });
    }
    batch.add(
        libc::RTM_NEWLINK,
        0,
        format!("RTM_NEWLINK({name}, IFF_UP)"),
        |b| {
            b.ifinfomsg(index, UP);
        },
    );
    socket.send_all(batch)
}
