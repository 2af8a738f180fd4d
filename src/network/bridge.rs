//! The root's bridge: made with the first Pod, removed after the last.
//!
//! Order of the making, so that a crash anywhere leaves a record to go by:
//!
//! 1. the host-wide lock: roots choose subnets one after the other;
//! 2. a link of our name that no complete record explains is deleted;
//! 3. the record, incomplete: name and subnet;
//! 4. the bridge, down; its IPv6 off; forwarding on; then its address, and up;
//! 5. the nftables table, in place of one of before, and the host's firewall;
//! 6. the record, complete.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use super::record::{self, Leases};
use super::{Host, firewall, nft, route, subnet};
use crate::linux::module;
use crate::linux::netlink::Batch;
use crate::{Context, Error, Ignored, Result};

/// Held while a root chooses its subnet, and removed again: two roots know
/// nothing of each other's records, and must not choose the same one at once.
const HOST_LOCK: &str = "/run/carob-network.lock";

/// Port numbers have 10 bits, and 0 is none: BR_MAX_PORTS, net/bridge/br_private.h.
const PORTS: u32 = 1023;

/// A bridge that is ready for ports.
#[derive(Debug)]
pub(super) struct Ready {
    pub record: record::Bridge,
    pub index: u32,
    pub warning: Option<String>,
    /// Something of the bridge, its table or the rules in the host's firewall was
    /// missing.
    pub mended: bool,
}

/// The caller holds the root's network lock.
pub(super) fn ensure(host: &Host, leases: &Leases) -> Result<Ready> {
    let record = record::Bridge::load(&host.network)?;
    let link = match &record {
        Some(r) if r.complete => route::link(&host.route, &host.bridge)?.filter(|l| l.up),
        _ => None,
    };
    let is_new = link.is_none();
    let (mut record, index) = match (record, link) {
        (Some(record), Some(link)) => (record, link.index),
        (old, _) => make(host, old, leases)?,
    };
    let mut warnings: Vec<String> = record.warning.iter().cloned().collect();
    if !is_new && !host.forwards {
        // Turned off since the bridge was made: by a hardening script, or `sysctl --system`.
        let refused = in_netns(host.netns.as_fd(), || set_sysctls(&host.bridge))?;
        warnings.extend(refused.filter(|w| record.warning.as_ref() != Some(w)));
    }
    let mut mended = false;
    match ensure_rules(host, &record, leases, is_new) {
        Ok(rules) => {
            mended = rules.changed || is_new;
            warnings.extend(rules.warnings);
        }
        Err(e) if nft::unavailable(&e) => {
            let e = module::missing(e, "nf_tables");
            let mend = e.get_hint().unwrap_or_default();
            warnings.push(format!(
                "nftables is not available ({e}): Pods cannot reach beyond this host: {mend}"
            ));
        }
        Err(e) => return Err(e),
    }
    if is_new {
        record.complete = true;
        record.save(&host.network)?;
    }
    Ok(Ready {
        record,
        index,
        warning: (!warnings.is_empty()).then(|| warnings.join("; ")),
        mended,
    })
}

fn make(
    host: &Host,
    old: Option<record::Bridge>,
    leases: &Leases,
) -> Result<(record::Bridge, u32)> {
    let _one_at_a_time = HostLock::acquire()?;
    let name = host.bridge.as_str();
    route::delete_link(&host.route, name)?;
    let around = route::surroundings(&host.route)?;
    // Pods that run keep their addresses, and with them their subnet.
    let subnet = match old {
        Some(r) if !leases.pods.is_empty() => r.subnet,
        _ => subnet::choose(&host.tag, &around.taken).ok_or_else(|| {
            Error::failed("no free subnet for Pods: routes of this host cover all candidates")
                .hint("ip route show table all; narrow a route that covers 10.0.0.0/8, 172.16.0.0/12 and 192.168.0.0/16")
        })?,
    };
    let mut record = record::Bridge::new(name, subnet, around.mtu);
    record.save(&host.network)?;

    let mut batch = Batch::default();
    route::put_bridge(
        &mut batch,
        name,
        route::mac_of(subnet.gateway()),
        around.mtu,
    );
    host.route
        .send_all(batch)
        .map_err(|e| route::no_such_kind(e, "bridge"))?;
    let index = route::link(&host.route, name)?
        .ok_or_else(|| Error::failed(format!("the bridge {name} vanished while it was made")))?
        .index;
    record.warning = in_netns(host.netns.as_fd(), || set_sysctls(name))?;
    let mut batch = Batch::default();
    route::put_address(&mut batch, index, subnet.gateway(), subnet);
    route::put_up(&mut batch, name);
    host.route.send_all(batch)?;
    // The ports of a bridge that was deleted by hand. One by one, since answers
    // to a batch of a thousand would not fit the socket; a Pod may be gone.
    for lease in leases.pods.values() {
        let mut batch = Batch::default();
        route::put_master(&mut batch, &super::host_link(lease.address), index);
        route::put_neighbour(&mut batch, index, lease.address);
        route::ignoring(&[Errno::ENODEV], host.route.send_all(batch))?;
    }
    Ok((record, index))
}

/// Tells a bridge without a free port number from other refusals of one more port.
pub(super) fn explain_port_error(e: Error, bridge: &str) -> Error {
    match e.errno() {
        Some(Errno::EXFULL) => e
            .push_context(format!(
                "the bridge {bridge} has {PORTS} ports, the most that Linux gives a bridge"
            ))
            .hint(format!(
                "a root holds {PORTS} Pods with a network of their own: delete Pods, or make \
                 more of them with another --root or with hostNetwork: true"
            )),
        _ => e,
    }
}

fn ensure_rules(
    host: &Host,
    record: &record::Bridge,
    leases: &Leases,
    is_new: bool,
) -> Result<firewall::Outcome> {
    let made = ensure_table(host, record, leases, is_new)?;
    let mut rules = firewall::ensure(host, is_new);
    rules.changed |= made;
    Ok(rules)
}

/// True if it was missing. With a new bridge, a table of before would speak of
/// another subnet.
fn ensure_table(
    host: &Host,
    record: &record::Bridge,
    leases: &Leases,
    is_new: bool,
) -> Result<bool> {
    let nft = host.nft()?;
    if !is_new && nft::exists(nft, &host.table)? {
        return Ok(false);
    }
    let ports: Vec<_> = leases
        .pods
        .values()
        .flat_map(|l| l.ports.iter().map(|p| (*p, l.address)))
        .collect();
    let table = nft::Table {
        name: &host.table,
        bridge: &host.bridge,
        subnet: record.subnet,
    };
    nft::replace(nft, table, &ports)?;
    Ok(true)
}

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// Whether the caller's network namespace forwards IPv4 packets.
pub(super) fn forwards() -> bool {
    std::fs::read(FORWARD).is_ok_and(|text| text.trim_ascii() == b"1")
}

/// What rtnetlink cannot set. Gives what the host refused.
///
/// - The bridge's IPv6 off: a Pod could otherwise make itself the host's IPv6
///   router with an advertisement (CVE-2020-10749), and Pods have IPv4 only.
/// - ip_forward on, or no Pod reaches beyond the host. It is never turned off
///   again: who else has come to rely on it cannot be known.
fn set_sysctls(bridge: &str) -> Result<Option<String>> {
    let mut refused = Vec::new();
    let quiet = format!("/proc/sys/net/ipv6/conf/{bridge}/disable_ipv6");
    for (path, value, consequence) in [
        (
            quiet.as_str(),
            "1",
            "Pods may advertise IPv6 routes to this host",
        ),
        (FORWARD, "1", "Pods cannot reach beyond this host"),
    ] {
        if let Err(e) = set_sysctl(Path::new(path), value) {
            refused.push(format!("{e}: {consequence}"));
        }
    }
    Ok((!refused.is_empty()).then(|| refused.join("; ")))
}

/// Absence is success: the kernel lacks what the switch is for. Looked up once: below
/// /proc/sys/net a lookup compares the name with that of every network namespace.
pub(super) fn set_sysctl(path: &Path, value: &str) -> Result<()> {
    let call = || format!("write({}, \"{value}\")", path.display());
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path);
    let mut file = match file {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        // A read-only /proc/sys that says already what is wanted.
        Err(_) if std::fs::read(path).is_ok_and(|now| is(&now, value)) => return Ok(()),
        Err(e) => return Err(e).with_context(call),
    };
    let mut now = Vec::new();
    match file.read_to_end(&mut now) {
        Ok(_) if is(&now, value) => Ok(()),
        // The kernel ignores what is written behind the beginning
        // (kernel.sysctl_writes_strict).
        _ => file.write_all_at(value.as_bytes(), 0).with_context(call),
    }
}

fn is(now: &[u8], value: &str) -> bool {
    now.trim_ascii() == value.as_bytes()
}

/// Runs `f` with the calling thread in another network namespace: /proc/sys/net
/// shows the namespace of who opens it.
///
/// If the way back is refused, the error says so, and the caller must not go on.
pub(super) fn in_netns<T>(netns: BorrowedFd, f: impl FnOnce() -> Result<T>) -> Result<T> {
    let home = super::open_own_netns()?;
    setns(netns, CloneFlags::CLONE_NEWNET)
        .map_err(|e| Error::sys("setns(host, CLONE_NEWNET)", e))?;
    let result = f();
    setns(&home, CloneFlags::CLONE_NEWNET)
        .map_err(|e| Error::sys("setns(own, CLONE_NEWNET) on the way back", e))?;
    result
}

/// Removes bridge, table and records if no Pod has a lease. The caller holds the
/// root's network lock. Goes on past failures; the first is the one returned.
pub(super) fn remove(host: &Host, leases: &Leases) -> Result<bool> {
    if !leases.pods.is_empty() {
        return Ok(false);
    }
    remove_from_kernel(host)?;
    // The records, and what somebody killed while writing one has left. The lock
    // is the caller's.
    let lock = host.lock_path();
    let entries = std::fs::read_dir(&host.network)
        .with_context(|| format!("readdir({})", host.network.display()))?;
    for path in entries.flatten().map(|e| e.path()).filter(|p| *p != lock) {
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).context(format!("unlink({})", path.display()));
            }
            _ => {}
        }
    }
    Ok(true)
}

fn remove_from_kernel(host: &Host) -> Result<()> {
    let mut first = Ok(());
    let mut note = |r: Result<()>| {
        if first.is_ok() {
            first = r;
        }
    };
    note(firewall::remove(host));
    if let Some(nft) = &host.nft {
        note(nft::delete(nft, &host.table));
    }
    match route::link(&host.route, &host.bridge) {
        Ok(None) => {}
        Ok(Some(_)) => note(route::delete_link(&host.route, &host.bridge)),
        Err(e) => note(Err(e)),
    }
    first
}

/// As [`remove`], of a root whose records somebody has removed. Says whether they are
/// gone: with `unused`, a bridge that has ports stays, and the table with it.
pub(super) fn remove_unrecorded(host: &Host, unused: bool) -> Result<bool> {
    // Under which a new bridge of this root would be made.
    let _one_at_a_time = HostLock::acquire()?;
    if host.network.exists() || unused && has_ports(host)? {
        return Ok(false);
    }
    remove_from_kernel(host).map(|()| true)
}

/// Whether the root's bridge has ports.
pub(super) fn has_ports(host: &Host) -> Result<bool> {
    let links = route::links(&host.route)?;
    let bridge = links.iter().find(|l| l.name == host.bridge);
    Ok(bridge.is_some_and(|b| links.iter().any(|l| l.master == Some(b.index))))
}

/// What of the root's network the kernel has: the bridge and the table, by their names.
pub(super) fn in_kernel(host: &Host) -> Result<Vec<String>> {
    let mut found = Vec::new();
    if route::link(&host.route, &host.bridge)?.is_some() {
        found.push(format!("link {}", host.bridge));
    }
    if let Some(nft) = &host.nft
        && nft::exists(nft, &host.table)?
    {
        found.push(format!("nftables table ip {}", host.table));
    }
    Ok(found)
}

struct HostLock(#[expect(dead_code, reason = "held, not used")] crate::store::Lock);

impl HostLock {
    fn acquire() -> Result<Self> {
        record::lock(Path::new(HOST_LOCK)).map(HostLock)
    }
}

impl Drop for HostLock {
    /// While the lock is still held: see [`record::lock`].
    fn drop(&mut self) {
        std::fs::remove_file(HOST_LOCK)
            .ignored("an empty file stays, which the next to lock takes");
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{detach, on_a_machine, remove_bridge_if_unused};

    /// `sysctl --system` writes it again from the files of a hardening guide.
    #[test]
    fn the_next_pod_turns_forwarding_on_again() {
        on_a_machine("forwarding", |m| {
            let path = "/proc/sys/net/ipv4/ip_forward";
            m.start("pod-1", &[]);
            m.enter(&m.netns);
            assert_eq!(std::fs::read(path).unwrap(), b"1\n");
            std::fs::write(path, "0").unwrap();
            m.start("pod-2", &[]);
            m.enter(&m.netns);
            assert_eq!(std::fs::read(path).unwrap(), b"1\n");
            for uid in ["pod-1", "pod-2"] {
                detach(&m.layout, uid).unwrap();
            }
            assert!(remove_bridge_if_unused(&m.layout).unwrap());
        });
    }
}
