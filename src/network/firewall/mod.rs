//! Firewalls of the host, made to let Pods through: while a root has Pods, and no
//! further than Pods need.
//!
//! Three ways, since the kernel has two rule sets and firewalld makes its rules anew:
//!
//! 1. nftables, iptables-nft among it: rules in each chain that would drop
//!    ([`super::nft::forward`]). docker, ufw, rules by hand.
//! 2. firewalld is asked by D-Bus to have the bridge in its zone `trusted`
//!    ([`firewalld`]).
//! 3. iptables-legacy: its own program is called ([`legacy`]).
//!
//! What cannot be done is a warning that names the chain and what to do: a Pod that
//! needs no network beyond the host starts all the same. `firewall.json` has what was
//! done and cannot be seen from the rules, and the generation of the ruleset in which
//! all was well: as long as that is the current one, there is nothing to look at.
//! When all this is done: docs/decisions/0014-firewalls.md.

mod firewalld;
mod legacy;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::bridge::in_netns;
use super::nft::forward;
use super::{Host, nft};
use crate::store::{self, Versioned};
use crate::{Context, Error, Result};

const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    version: u32,
    /// Of the ruleset that was found in order.
    generation: Option<u32>,
    /// firewalld has the bridge in a zone because it was asked to.
    zone: bool,
    /// iptables-legacy has rules of ours.
    legacy: bool,
    warnings: Vec<String>,
}

impl Versioned for Record {
    const VERSION: u32 = VERSION;
    fn version(&self) -> u32 {
        self.version
    }
}

impl Record {
    fn path(network: &Path) -> PathBuf {
        network.join("firewall.json")
    }

    fn load(network: &Path) -> Result<Self> {
        let new = || Record {
            version: VERSION,
            generation: None,
            zone: false,
            legacy: false,
            warnings: Vec::new(),
        };
        Ok(store::load_versioned(&Self::path(network))?.unwrap_or_else(new))
    }

    fn save(&self, network: &Path) -> Result<()> {
        store::save(&Self::path(network), self)
    }
}

/// What [`ensure`] came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Something of ours was missing.
    pub changed: bool,
    pub warnings: Vec<String>,
}

/// Whether the ruleset is still the one that was found in order; without a lock, and
/// true if that cannot be known.
pub(super) fn is_unchanged(host: &Host) -> bool {
    let now = host.nft.as_ref().map(forward::generation);
    match (now, Record::load(&host.network)) {
        (Some(Ok(now)), Ok(record)) => record.generation == Some(now),
        _ => true,
    }
}

/// The caller holds the root's network lock, and bridge and table are there. With
/// `is_new` the bridge is: then what the record says of the rules is of before.
pub(super) fn ensure(host: &Host, is_new: bool) -> Outcome {
    ensured(host, is_new).unwrap_or_else(|e| Outcome {
        changed: false,
        warnings: vec![format!(
            "the host's firewall cannot be looked at ({e}): if it drops what is forwarded, Pods \
             do not reach beyond this host and are not reached by host ports"
        )],
    })
}

fn ensured(host: &Host, is_new: bool) -> Result<Outcome> {
    let Ok(nft) = host.nft() else {
        return Ok(Outcome::default());
    };
    let mut record = Record::load(&host.network)?;
    let mut outcome = Outcome::default();
    if legacy::is_in_use() {
        in_netns_of(host, || ensure_legacy(host, &mut record, &mut outcome))?;
    }
    // Changes of others may come in between: in order is only what was looked at
    // after the last change.
    for _ in 0..5 {
        let generation = forward::generation(nft)?;
        if !is_new && record.generation == Some(generation) {
            outcome.warnings.extend(record.warnings);
            return Ok(outcome);
        }
        let found = look(host, &mut record)?;
        if !found.changed {
            record.generation = Some(generation);
            record.warnings = found.warnings;
            record.save(&host.network)?;
            outcome.warnings.extend(record.warnings);
            return Ok(outcome);
        }
        outcome.changed = true;
    }
    Ok(outcome)
}

fn look(host: &Host, record: &mut Record) -> Result<Outcome> {
    let opened = forward::open(host.nft()?, &host.bridge).context("look at nftables' chains")?;
    let mut found = Outcome {
        changed: opened.changed,
        ..Outcome::default()
    };
    for (chain, e) in opened.refused {
        found.warnings.push(nft_warning(&host.bridge, &chain, &e));
    }
    if opened.firewalld {
        let noted = || {
            record.zone = true;
            record.save(&host.network)
        };
        match firewalld::open(&host.bridge, noted) {
            Ok(changed) => found.changed |= changed,
            Err(e) => found.warnings.push(firewalld::warning(&host.bridge, &e)),
        }
    }
    Ok(found)
}

fn nft_warning(bridge: &str, chain: &str, e: &Error) -> String {
    format!(
        "the nftables chain {chain} drops what Pods send beyond this host and what reaches them \
         by host ports, and does not take rules for them ({e}): let its owner have \
         `iifname \"{bridge}\" accept` and `oifname \"{bridge}\" ct state established,related \
         accept` and `oifname \"{bridge}\" ct status dnat accept` in it"
    )
}

fn ensure_legacy(host: &Host, record: &mut Record, outcome: &mut Outcome) -> Result<()> {
    let noted = || {
        record.legacy = true;
        record.save(&host.network)
    };
    match legacy::open(&host.bridge, noted) {
        Ok(changed) => outcome.changed |= changed,
        Err(e) => outcome.warnings.push(legacy::warning(&host.bridge, &e)),
    }
    Ok(())
}

/// Undoes it all. The caller holds the root's network lock. Goes on past failures.
pub(super) fn remove(host: &Host) -> Result<()> {
    let mut first = Ok(());
    if let Some(nft) = &host.nft {
        first = match forward::close(nft, &host.bridge) {
            Err(e) if nft::unavailable(&e) => Ok(()),
            other => other,
        };
    }
    let record = Record::load(&host.network)?;
    if record.zone {
        first = first.and(firewalld::close(&host.bridge));
    }
    if record.legacy {
        let closed = in_netns_of(host, || legacy::close(&host.bridge));
        first = first.and(closed);
    }
    first
}

/// Programs are run in the host's network namespace, and find its /proc/net.
fn in_netns_of<T>(host: &Host, f: impl FnOnce() -> Result<T>) -> Result<T> {
    use std::os::fd::AsFd;
    in_netns(host.netns.as_fd(), f)
}
