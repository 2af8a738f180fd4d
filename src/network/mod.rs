//! The network of Pods: one bridge per root, one address per Pod.
//!
//! Owns the bridge (`carob0`, or `cb<tag>` of a private root), the veth pairs
//! (`cv<address in hex>` on the host, `eth0` in the Pod), the nftables table
//! ([`nft`]) and the records below `<state>/network`. Pods reach each other and
//! the host reaches them without address translation; only what leaves the host
//! is masqueraded. Kernel interfaces: rtnetlink(7), nfnetlink, sock_diag(7),
//! network_namespaces(7), veth(4).
//!
//! Rules in another program's table are made in one case only: where a firewall of
//! the host would drop what is forwarded for Pods ([`firewall`]).
//!
//! Never done here: route_localnet, names of the network namespace (the Pod pins it),
//! /etc/resolv.conf.
//!
//! A Pod gets its network in this order; each step is found and undone by
//! [`Host::detach`] whatever came after it:
//!
//! 1. under the root's network lock: host ports checked, the bridge made if it
//!    is not there, the lease recorded;
//! 2. the veth pair, the Pod's end born in the Pod's namespace; the host's
//!    neighbour entry for the Pod;
//! 3. in the Pod's namespace: address, up, default route, neighbour entry for the
//!    gateway;
//! 4. host ports into the table's maps.

mod bridge;
mod firewall;
mod nft;
mod ports;
mod record;
mod route;
mod subnet;
#[cfg(test)]
mod tests;
pub(crate) mod trial;
mod watch;

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

use crate::linux::mount::Mount;
use crate::linux::netlink::{Batch, Events, Family, Socket};
use crate::store::{Layout, Lock, tag_in};
use crate::{Context, Error, Ignored, Result};

pub(crate) use ports::HostPort;
use record::{Lease, Leases};
pub(crate) use subnet::Subnet;
pub(crate) use watch::Watch;

/// The name of a Pod's link, inside the Pod.
pub(crate) const POD_LINK: &str = "eth0";

/// The host's side of one root's network: sockets that stay in the network
/// namespace in which they were opened, wherever the caller goes.
#[derive(Debug)]
pub(crate) struct Host {
    /// `<state>/network`.
    network: PathBuf,
    tag: String,
    bridge: String,
    table: String,
    netns: OwnedFd,
    route: Socket,
    events: Events,
    nft: Option<Socket>,
    diag: Option<Socket>,
    /// The sysctl net.ipv4.ip_forward when this was opened.
    forwards: bool,
}

/// Who is attached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint<'a> {
    pub uid: &'a str,
    /// `namespace/name`: how errors of other Pods name this one.
    pub pod: &'a str,
    pub ports: &'a [HostPort],
}

/// What a Pod got.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub address: Ipv4Addr,
    pub prefix: u8,
    pub gateway: Ipv4Addr,
    pub mac: Mac,
    /// The host's end of the pair.
    pub host_link: String,
    /// Bytes.
    pub mtu: u32,
    /// What the Pod has to do without, for its status and the user.
    pub warning: Option<String>,
    /// Of no more use. Its closing waits for an RCU grace period.
    pub procfs: Mount,
}

/// What [`restore`] came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Restored {
    /// Something was missing, and is there again.
    pub mended: bool,
    pub warning: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Loopback of the current network namespace, up, with 127.0.0.1 and ::1.
pub(crate) fn setup_loopback() -> Result<()> {
    let mut batch = Batch::default();
    route::put_up(&mut batch, "lo");
    Socket::open(Family::Route)?.send_all(batch)
}

/// Makes anew what of the root's rules, or of those in the host's firewall, is missing:
/// after a notification of [`Watch`]. Nothing to do for a Pod without a lease. The
/// caller is in the host's network namespace.
pub(crate) fn restore(layout: &Layout, uid: &str) -> Result<Restored> {
    Host::open(layout)?.restore(uid)
}

/// The tags of roots that have a table of nftables. Not by their links: another program
/// may name one so. The caller is in the host's network namespace.
pub(crate) fn tags() -> Result<BTreeSet<String>> {
    let tables = match Socket::open(Family::Netfilter).and_then(|s| nft::others::tables(&s)) {
        Err(e) if nft::unavailable(&e) => Vec::new(),
        other => other?,
    };
    let tables = tables.iter().filter_map(|t| tag_in(t, "carob", "carob_"));
    Ok(tables.collect())
}

impl Host {
    /// Call in the host's network namespace. Makes nothing.
    pub(crate) fn open(layout: &Layout) -> Result<Self> {
        Host::named(layout.network(), layout.tag())
    }

    /// As [`Host::open`], of a root of which only the tag is known.
    pub(crate) fn of_tag(tag: &str) -> Result<Self> {
        Host::named(PathBuf::from("/nonexistent"), tag)
    }

    fn named(network: PathBuf, tag: &str) -> Result<Self> {
        let optional = |family| match Socket::open(family) {
            Ok(socket) => Ok(Some(socket)),
            Err(e) if nft::unavailable(&e) => Ok(None),
            Err(e) => Err(e),
        };
        Ok(Host {
            network,
            tag: tag.to_owned(),
            bridge: match tag {
                "" => "carob0".to_owned(),
                tag => format!("cb{tag}"),
            },
            table: table_of_tag(tag),
            netns: open_own_netns()?,
            route: Socket::open(Family::Route)?,
            events: Events::open(Family::Route)?,
            nft: optional(Family::Netfilter)?,
            diag: optional(Family::SockDiag)?,
            forwards: bridge::forwards(),
        })
    }

    /// Gives a Pod its network. Call in the Pod's network namespace, which
    /// `netns` also is. On an error everything of this Pod is undone.
    ///
    /// A host port that is taken is [`crate::Kind::Conflict`]; one that this
    /// kernel or build cannot give, [`crate::Kind::Unsupported`].
    pub(crate) fn attach(&self, endpoint: &Endpoint, netns: BorrowedFd) -> Result<Attachment> {
        ports::check(endpoint.ports)?;
        let (ready, address) = self.lease(endpoint)?;
        self.connect(endpoint, netns, ready, address)
            .inspect_err(|_| {
                self.detach(endpoint.uid)
                    .ignored("the first error is the one to tell; the record has the rest for gc");
            })
    }

    fn lease(&self, endpoint: &Endpoint) -> Result<(bridge::Ready, Ipv4Addr)> {
        let _lock = self.lock()?;
        let mut leases = Leases::load(&self.network)?;
        ports::check_free(endpoint.ports, endpoint.uid, &leases, self.diag.as_ref())?;
        log::debug!("network: the bridge {}", self.bridge);
        let ready = bridge::ensure(self, &leases).context("the Pods' bridge")?;
        let address = leases.take(
            ready.record.subnet,
            endpoint.uid,
            endpoint.pod,
            endpoint.ports,
        )?;
        leases.save(&self.network)?;
        Ok((ready, address))
    }

    fn connect(
        &self,
        endpoint: &Endpoint,
        netns: BorrowedFd,
        ready: bridge::Ready,
        address: Ipv4Addr,
    ) -> Result<Attachment> {
        let subnet = ready.record.subnet;
        let host_link = host_link(address);
        log::debug!("network: the link {host_link} with the address {address}");
        let mac = route::mac_of(address);
        let pair = route::Pair {
            host: &host_link,
            pod: POD_LINK,
            pod_mac: mac,
            mtu: ready.record.mtu,
            bridge: ready.index,
        };
        let hairpin = !endpoint.ports.is_empty();
        match self.make_pair(&pair, netns, address, hairpin) {
            // The address's last holder is not quite gone, or we were here before.
            Err(e) if e.errno() == Some(Errno::EEXIST) => {
                route::delete_link(&self.route, &host_link)?;
                self.make_pair(&pair, netns, address, hairpin)?;
            }
            other => other?,
        }
        let procfs = configure_pod(address, subnet)?;
        // The bridge after its port: it has a carrier when a port has.
        route::settle(&self.route, &self.events, &[&host_link, &self.bridge])?;
        if !endpoint.ports.is_empty() {
            log::debug!("network: {} host ports", endpoint.ports.len());
            self.redirect(endpoint.ports, address)
                .map_err(|e| match nft::unavailable(&e) {
                    true => e.with_kind(crate::Kind::Unsupported),
                    false => e,
                })
                .context("host ports")?;
        }
        Ok(Attachment {
            address,
            prefix: subnet.prefix(),
            gateway: subnet.gateway(),
            mac: Mac(mac),
            host_link,
            mtu: ready.record.mtu,
            warning: ready.warning,
            procfs,
        })
    }

    /// Roots share no lock for this: each looks at the others after it has put its
    /// own ports there, so that of two at once none is fooled.
    fn redirect(&self, ports: &[HostPort], to: Ipv4Addr) -> Result<()> {
        let nft = self.nft()?;
        nft::add_ports(nft, &self.table, ports, to)?;
        match nft::others::holder(nft, &self.table, ports)? {
            Some((port, table)) => Err(nft::others::in_use(&port, &table)),
            None => Ok(()),
        }
    }

    fn make_pair(
        &self,
        pair: &route::Pair,
        netns: BorrowedFd,
        address: Ipv4Addr,
        hairpin: bool,
    ) -> Result<()> {
        let mut batch = Batch::default();
        route::put_pair(&mut batch, pair, netns);
        route::put_no_ipv6_address(&mut batch, pair.host);
        if hairpin {
            route::put_hairpin(&mut batch, pair.host);
        }
        route::put_up(&mut batch, pair.host);
        route::put_neighbour(&mut batch, pair.bridge, address);
        let mut outcomes = self.route.send(batch)?.into_iter();
        let made = outcomes.next().unwrap_or_else(|| Ok(Vec::new()));
        let quiet = outcomes.next().unwrap_or_else(|| Ok(Vec::new()));
        made.map(drop)
            .and_then(|()| outcomes.try_for_each(|r| r.map(drop)))
            .map_err(|e| {
                let e = route::no_such_kind(e, "veth");
                bridge::explain_port_error(e, &self.bridge)
            })?;
        route::ignoring_no_ipv6(quiet)
    }

    /// Whether the ruleset is the one in which nothing was missing, with no lock taken.
    /// If that cannot be known, it is.
    pub(crate) fn rules_are_unchanged(&self) -> bool {
        firewall::is_unchanged(self)
    }

    fn restore(&self, uid: &str) -> Result<Restored> {
        let _lock = self.lock()?;
        // Another Pod's monitor may have been here first.
        if firewall::is_unchanged(self) {
            return Ok(Restored::default());
        }
        let leases = Leases::load(&self.network)?;
        if !leases.pods.contains_key(uid) {
            return Ok(Restored::default());
        }
        let ready = bridge::ensure(self, &leases).context("the Pods' bridge")?;
        Ok(Restored {
            mended: ready.mended,
            warning: ready.warning,
        })
    }

    /// Frees the Pod's address and host ports. For a Pod whose network namespace
    /// is going away: its links go with it, and to delete them here would wait
    /// some 20 ms for an RCU grace period. Without a lease, nothing to do.
    pub(crate) fn release(&self, uid: &str) -> Result<()> {
        self.free(uid, false)
    }

    /// As [`release`](Self::release), and the links too. From any half-made state.
    pub(crate) fn detach(&self, uid: &str) -> Result<()> {
        self.free(uid, true)
    }

    fn free(&self, uid: &str, links: bool) -> Result<()> {
        if !self.network.exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        let mut leases = Leases::load(&self.network)?;
        let Some(lease) = leases.pods.get(uid) else {
            return Ok(());
        };
        self.undo(lease, links)?;
        leases.pods.remove(uid);
        leases.save_fewer(&self.network)
    }

    /// The kernel's part of a lease. Goes on past a failure; the lease stays then.
    fn undo(&self, lease: &Lease, links: bool) -> Result<()> {
        let mut result = Ok(());
        if !lease.ports.is_empty()
            && let Some(nft) = &self.nft
        {
            result = nft::remove_ports(nft, &self.table, &lease.ports, lease.address);
        }
        let neighbour = match route::link(&self.route, &self.bridge) {
            Ok(Some(b)) => route::delete_neighbour(&self.route, b.index, lease.address),
            Ok(None) => Ok(()),
            Err(e) => Err(e),
        };
        result = result.and(neighbour);
        if links {
            result = result.and(route::delete_link(&self.route, &host_link(lease.address)));
        }
        result
    }

    /// Frees what Pods left that are gone, and gives their UIDs. `is_live` is
    /// asked under the root's network lock: a Pod whose record was there before
    /// its lease was taken cannot be missed.
    pub(crate) fn gc(&self, is_live: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        if !self.network.exists() {
            return Ok(Vec::new());
        }
        let _lock = self.lock()?;
        let mut leases = Leases::load(&self.network)?;
        let dead: Vec<String> = leases
            .pods
            .keys()
            .filter(|uid| !is_live(uid))
            .cloned()
            .collect();
        let mut result = Ok(());
        let mut freed = Vec::new();
        for uid in dead {
            match self.undo(&leases.pods[&uid], true) {
                Ok(()) => {
                    leases.pods.remove(&uid);
                    freed.push(uid);
                }
                Err(e) => result = result.and(Err(e)),
            }
        }
        if !freed.is_empty() {
            leases.save_fewer(&self.network)?;
        }
        result.map(|()| freed)
    }

    /// Removes the bridge, the table and the network's records once no Pod holds
    /// a lease. Says whether they are gone. Waits some 20 ms for the bridge.
    pub(crate) fn remove_bridge_if_unused(&self) -> Result<bool> {
        if !self.network.exists() {
            return Ok(true);
        }
        let lock = self.lock()?;
        if !bridge::remove(self, &Leases::load(&self.network)?)? {
            return Ok(false);
        }
        // The lock's own file last, while it is held.
        let path = self.lock_path();
        std::fs::remove_file(&path).with_context(|| format!("unlink({})", path.display()))?;
        std::fs::remove_dir(&self.network)
            .ignored("another Pod may have made a new lock in it already");
        drop(lock);
        Ok(true)
    }

    /// Removes the bridge and the table of a root whose records somebody has removed: the
    /// caller knows that no Pod of it is left. With `unused`, only if the bridge has no
    /// port, which a Pod would have. Says whether they are gone.
    pub(crate) fn remove_unrecorded(&self, unused: bool) -> Result<bool> {
        match self.network.exists() || bridge::in_kernel(self)?.is_empty() {
            true => Ok(!self.network.exists()),
            false => bridge::remove_unrecorded(self, unused),
        }
    }

    /// The bridge and the table, as far as the kernel has them, in words.
    pub(crate) fn in_kernel(&self) -> Result<Vec<String>> {
        bridge::in_kernel(self)
    }

    pub(crate) fn has_ports(&self) -> Result<bool> {
        bridge::has_ports(self)
    }

    fn lock_path(&self) -> PathBuf {
        self.network.join("lock")
    }

    fn lock(&self) -> Result<Lock> {
        record::lock(&self.lock_path())
    }

    fn nft(&self) -> Result<&Socket> {
        self.nft.as_ref().ok_or_else(|| {
            Error::sys(
                "socket(AF_NETLINK, NETLINK_NETFILTER)",
                Errno::EPROTONOSUPPORT,
            )
        })
    }
}

/// The Pod's own end, from inside.
fn configure_pod(address: Ipv4Addr, subnet: Subnet) -> Result<Mount> {
    let socket = Socket::open(Family::Route)?;
    let link = route::link(&socket, POD_LINK)?.ok_or_else(|| {
        Error::failed(format!(
            "{POD_LINK} is not in the current network namespace"
        ))
    })?;
    // Before the link is up: another Pod's router advertisement must find nobody.
    let procfs = accept_no_ipv6_routers()?;
    let mut batch = Batch::default();
    route::put_no_ipv6_address(&mut batch, POD_LINK);
    route::put_address(&mut batch, link.index, address, subnet);
    route::put_up(&mut batch, POD_LINK);
    route::put_default_route(&mut batch, link.index, subnet.gateway());
    route::put_neighbour(&mut batch, link.index, subnet.gateway());
    route::put_get_link(&mut batch, POD_LINK);
    let mut outcomes = socket.send(batch)?;
    let last = outcomes.pop().unwrap_or_else(|| Ok(Vec::new()));
    let mut outcomes = outcomes.into_iter();
    outcomes.next().map_or(Ok(()), route::ignoring_no_ipv6)?;
    outcomes.try_for_each(|r| r.map(drop))?;
    if let Some(link) = route::found(last)?
        && !link.operating
    {
        route::settle(&socket, &Events::open(Family::Route)?, &[POD_LINK])?;
    }
    Ok(procfs)
}

/// By a procfs of its own: in the host's, /proc/sys/net has an entry of the same name for
/// each Pod, and a lookup compares all of them.
fn accept_no_ipv6_routers() -> Result<Mount> {
    let proc = Mount::new("proc", &[], 0)?;
    let root = PathBuf::from(format!("/proc/self/fd/{}", proc.as_fd().as_raw_fd()));
    bridge::set_sysctl(&root.join("sys/net/ipv6/conf/eth0/accept_ra"), "0")?;
    Ok(proc)
}

/// Named by the address, which no two Pods of a host share: whoever finds the
/// record finds the link.
fn host_link(address: Ipv4Addr) -> String {
    format!("cv{:08x}", u32::from(address))
}

/// The root's table of nftables.
fn table_of(layout: &Layout) -> String {
    table_of_tag(layout.tag())
}

fn table_of_tag(tag: &str) -> String {
    match tag {
        "" => "carob".to_owned(),
        tag => format!("carob_{tag}"),
    }
}

fn open_own_netns() -> Result<OwnedFd> {
    let path = "/proc/thread-self/ns/net";
    open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|e| Error::sys(format!("open({path}, O_RDONLY|O_CLOEXEC)"), e))
}
