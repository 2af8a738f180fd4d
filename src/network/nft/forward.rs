//! The way of Pods' packets through other programs' chains.
//!
//! Every base chain of the hook `forward` sees what Pods send to and get from beyond
//! the host, and one that drops has the last word: an `accept` in a table of our own
//! would end that table's part only. So each chain that drops by default (docker and
//! ufw set the policy of iptables' FORWARD; firewalls by hand end with `reject`) gets
//! rules of ours, right before the place where it would drop:
//!
//! ```text
//! iifname "carob0" counter accept comment "carob: Pods of carob0"
//! oifname "carob0" ct state established,related counter accept comment ...
//! oifname "carob0" ct status dnat counter accept comment ...
//! ```
//!
//! - Conditional rules of the chain come before them, whatever they decide: what
//!   somebody has forbidden stays forbidden.
//! - A connection to a Pod that is neither an answer nor by a host port is not let
//!   in: the chain would have dropped it, and nobody has asked for it.
//! - iptables-nft(8) refuses to work on a table with expressions that it does not
//!   know, of which `ct` is one. In its chains the last two rules are one, with a
//!   match of xtables, as iptables itself would have written it:
//!   `-o carob0 -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT`.
//! - The comment tells our rules from others, also after a crash.

use nix::errno::Errno;

use super::expression::*;
use super::verdict::{Default, Rule, default_of, read_rule};
use super::{
    DELRULE, GETCHAIN, GETGEN, GETRULE, GETTABLE, NEWRULE, NFPROTO_INET, NFPROTO_IPV4, OF_TABLE,
    put_of_family, transact,
};
use crate::linux::netlink::{
    Attributes, Batch, Body, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, Reply, Socket, text,
};
use crate::{Error, Result};

const HOOK_FORWARD: u32 = 2;
/// struct nfgenmsg.
const HEADER: usize = 4;
const TABLE_F_DORMANT: u32 = 1;
const TABLE_F_OWNER: u32 = 2;

/// Of an object's message: the second attribute of rules, the third of chains.
const OF_CHAIN: u16 = 2;

/// A base chain of the hook, of a table that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chain {
    family: u8,
    table: String,
    name: String,
    policy_drops: bool,
    /// Of a process, which alone may change it.
    owned: bool,
}

impl Chain {
    /// As nft(8) wants it written.
    fn path(&self) -> String {
        let family = match self.family {
            NFPROTO_INET => "inet",
            _ => "ip",
        };
        format!("{family} {} {}", self.table, self.name)
    }

    /// One that iptables-nft(8) takes for its own.
    fn is_of_iptables(&self) -> bool {
        self.family == NFPROTO_IPV4 && self.name == "FORWARD"
    }
}

/// What [`open`] came to.
#[derive(Debug, Default)]
pub(in crate::network) struct Opened {
    /// Rules were missing and are there now.
    pub changed: bool,
    /// Chains that drop and could not be changed, with the reason.
    pub refused: Vec<(String, Error)>,
    /// Tables of these names are there, which their programs have to be asked about.
    pub firewalld: bool,
}

/// A chain that drops what no rule of it decides on.
#[derive(Debug)]
pub(in crate::network) struct Dropping {
    pub path: String,
    /// Rules for the bridge are there.
    pub opened: bool,
    /// Of a process, which alone may change it.
    pub owned: bool,
    of_iptables: bool,
    /// The rule that drops; `None`: the policy.
    drop: Option<u64>,
}

impl Dropping {
    /// The commands that add the rules that [`open`] adds, at the same place.
    pub(in crate::network) fn mend(&self, bridge: &str) -> String {
        if self.of_iptables {
            let option = if self.drop.is_some() { "-I" } else { "-A" };
            return format!(
                "iptables {option} FORWARD -i {bridge} -j ACCEPT; iptables {option} FORWARD -o \
                 {bridge} -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT"
            );
        }
        let (path, comment) = (&self.path, comment(bridge));
        let verb = match self.drop {
            Some(handle) => format!("nft insert rule {path} handle {handle}"),
            None => format!("nft add rule {path}"),
        };
        let rules = [
            format!("iifname {bridge}"),
            format!("oifname {bridge} ct state established,related"),
            format!("oifname {bridge} ct status dnat"),
        ];
        let commands = rules.map(|r| format!("{verb} {r} counter accept comment '\"{comment}\"'"));
        let commands = commands.join("; ");
        match self.owned {
            true => format!("have the program that owns the table run: {commands}"),
            false => commands,
        }
    }
}

/// The chains that drop by default, as [`open`] sees them. Changes nothing.
pub(in crate::network) fn dropping(socket: &Socket, bridge: &str) -> Result<Vec<Dropping>> {
    let mut found = Vec::new();
    for chain in chains(socket)?.0 {
        let compatible = chain.is_of_iptables();
        let seen = look(socket, &chain, bridge, writers(bridge, compatible).len())?;
        if let Default::Drop(drop) = seen.default {
            found.push(Dropping {
                path: chain.path(),
                opened: seen.opened,
                owned: chain.owned,
                of_iptables: compatible,
                drop,
            });
        }
    }
    Ok(found)
}

/// The number of the ruleset: it changes with every change that anybody makes.
pub(in crate::network) fn generation(socket: &Socket) -> Result<u32> {
    let mut batch = Batch::default();
    let what = "NFT_MSG_GETGEN".to_owned();
    put_of_family(&mut batch, 0, GETGEN, 0, what, |_| {});
    let replies = socket.ask(batch)?;
    let id = replies
        .iter()
        .find_map(|r| find(r, 1).and_then(|v| be32(&v)));
    id.ok_or_else(|| Error::failed("NFT_MSG_GETGEN: the kernel gives no generation"))
}

/// Lets the bridge's packets through each chain that would drop them.
pub(in crate::network) fn open(socket: &Socket, bridge: &str) -> Result<Opened> {
    let (chains, firewalld) = chains(socket)?;
    let mut opened = Opened {
        firewalld,
        ..Opened::default()
    };
    for chain in chains {
        match open_chain(socket, &chain, bridge) {
            Ok(changed) => opened.changed |= changed,
            Err(e) => opened.refused.push((chain.path(), e)),
        }
    }
    Ok(opened)
}

fn open_chain(socket: &Socket, chain: &Chain, bridge: &str) -> Result<bool> {
    let mut result = Ok(false);
    // Between the look and the change a rule may have gone: ENOENT, as where the
    // kernel has no match of xtables.
    for compatible in [chain.is_of_iptables(), chain.is_of_iptables(), false] {
        result = open_chain_once(socket, chain, bridge, compatible);
        match &result {
            Err(e) if e.errno() == Some(Errno::ENOENT) => {}
            _ => break,
        }
    }
    result
}

/// What a chain does with the bridge's packets.
struct Seen {
    rules: Vec<Rule>,
    /// Without our rules.
    default: Default,
    /// With our rules the bridge's packets pass.
    opened: bool,
}

/// `wanted` is how many rules of ours there should be.
fn look(socket: &Socket, chain: &Chain, bridge: &str, wanted: usize) -> Result<Seen> {
    let rules = rules(socket, chain, &chain.name)?;
    let comment = comment(bridge);
    let ours = rules.iter().filter(|r| is(r, &comment)).count();
    let others: Vec<Rule> = rules.iter().filter(|r| !is(r, &comment)).cloned().collect();
    let mut chain_of = |name: &str| self::rules(socket, chain, name);
    let default = default_of(&others, chain.policy_drops, &mut chain_of)?;
    let opened = match default {
        Default::Accept => true,
        // Where the kernel has no match of xtables, all of iptables' are of the other kind.
        Default::Drop(before) => {
            (ours == wanted || ours == writers(bridge, false).len())
                && !drops_before(&rules, before, &comment)
        }
    };
    Ok(Seen {
        rules,
        default,
        opened,
    })
}

fn open_chain_once(socket: &Socket, chain: &Chain, bridge: &str, compatible: bool) -> Result<bool> {
    let written = writers(bridge, compatible);
    let seen = look(socket, chain, bridge, written.len())?;
    let Default::Drop(before) = seen.default else {
        return Ok(false);
    };
    if seen.opened {
        return Ok(false);
    }
    if chain.owned {
        return Err(Error::sys("NFT_MSG_NEWRULE", Errno::EPERM));
    }
    let comment = comment(bridge);
    transact(socket, |b| {
        for rule in seen.rules.iter().filter(|r| is(r, &comment)) {
            put_deletion(b, chain, rule.handle);
        }
        for write in &written {
            put_rule(b, chain, before, &comment, write);
        }
    })?;
    Ok(true)
}

/// Whether a packet is dropped before it comes to the last of our rules: a firewall may
/// have begun to reject in a chain that was empty when they were made.
fn drops_before(rules: &[Rule], drop: Option<u64>, comment: &str) -> bool {
    let drop = rules.iter().position(|r| Some(r.handle) == drop);
    let ours = rules.iter().rposition(|r| is(r, comment));
    drop.zip(ours).is_some_and(|(drop, ours)| drop < ours)
}

/// Takes the bridge's rules away. That a chain has none, or is gone, is success.
pub(in crate::network) fn close(socket: &Socket, bridge: &str) -> Result<()> {
    let comment = comment(bridge);
    let mut first = Ok(());
    for chain in chains(socket)?.0 {
        let closed = rules(socket, &chain, &chain.name).and_then(|rules| {
            let ours: Vec<u64> = rules
                .iter()
                .filter(|r| is(r, &comment))
                .map(|r| r.handle)
                .collect();
            if ours.is_empty() {
                return Ok(());
            }
            transact(socket, |b| {
                ours.iter().for_each(|h| put_deletion(b, &chain, *h));
            })
        });
        match closed {
            Err(e) if e.errno() == Some(Errno::ENOENT) => {}
            closed => first = first.and(closed),
        }
    }
    first
}

fn comment(bridge: &str) -> String {
    format!("carob: Pods of {bridge}")
}

fn is(rule: &Rule, comment: &str) -> bool {
    rule.comment.as_deref() == Some(comment)
}

type Write<'a> = Box<dyn Fn(&mut Body) + 'a>;

/// The rules up to their verdict.
fn writers(bridge: &str, compatible: bool) -> Vec<Write<'_>> {
    let from = |r: &mut Body| {
        interface(r, libc::NFT_META_IIFNAME, libc::NFT_CMP_EQ, bridge);
    };
    let to = |r: &mut Body| {
        interface(r, libc::NFT_META_OIFNAME, libc::NFT_CMP_EQ, bridge);
    };
    match compatible {
        true => vec![
            Box::new(from),
            Box::new(move |r| {
                to(r);
                xt_answer_or_redirected(r);
            }),
        ],
        false => vec![
            Box::new(from),
            Box::new(move |r| {
                to(r);
                is_answer(r);
            }),
            Box::new(move |r| {
                to(r);
                was_redirected(r);
            }),
        ],
    }
}

fn put_rule(batch: &mut Batch, chain: &Chain, before: Option<u64>, comment: &str, write: &Write) {
    const EXPRESSIONS: u16 = 4;
    const POSITION: u16 = 6;
    const USERDATA: u16 = 7;
    // With a position and without NLM_F_APPEND, the rule goes before that one.
    let flags = match before {
        Some(_) => NLM_F_CREATE,
        None => NLM_F_CREATE | NLM_F_APPEND,
    };
    let what = format!("NFT_MSG_NEWRULE({})", chain.path());
    put_of_family(batch, chain.family, NEWRULE, flags, what, |m| {
        m.text(OF_TABLE, &chain.table).text(OF_CHAIN, &chain.name);
        m.nest(EXPRESSIONS, |r| {
            write(r);
            counter(r);
            verdict(r, libc::NF_ACCEPT, None);
        });
        if let Some(handle) = before {
            m.bytes(POSITION, &handle.to_be_bytes());
        }
        let mut userdata = vec![0, comment.len() as u8 + 1];
        userdata.extend_from_slice(comment.as_bytes());
        userdata.push(0);
        m.bytes(USERDATA, &userdata);
    });
}

fn put_deletion(batch: &mut Batch, chain: &Chain, handle: u64) {
    const HANDLE: u16 = 3;
    let what = format!("NFT_MSG_DELRULE({} handle {handle})", chain.path());
    put_of_family(batch, chain.family, DELRULE, 0, what, |m| {
        m.text(OF_TABLE, &chain.table)
            .text(OF_CHAIN, &chain.name)
            .bytes(HANDLE, &handle.to_be_bytes());
    });
}

/// The chains, and whether firewalld has a table: that is not looked into, since
/// firewalld makes its rules anew as it likes, and newer ones own their table.
fn chains(socket: &Socket) -> Result<(Vec<Chain>, bool)> {
    const NAME: u16 = 3;
    const HOOK: u16 = 4;
    const POLICY: u16 = 5;
    const TYPE: u16 = 7;
    let mut firewalld = false;
    let mut found = Vec::new();
    let mut tables = None;
    for reply in dump(socket, 0, GETCHAIN, "NFT_MSG_GETCHAIN(*)", &[])? {
        let family = reply.payload.first().copied().unwrap_or_default();
        let of = |kind| find(&reply, kind);
        let hook = of(HOOK).and_then(|h| {
            let mut all = Attributes(&h);
            all.find(|(kind, _)| *kind == 1).and_then(|(_, v)| be32(v))
        });
        if hook != Some(HOOK_FORWARD)
            || !matches!(family, NFPROTO_IPV4 | NFPROTO_INET)
            || of(TYPE).is_none_or(|t| text(&t) != "filter")
        {
            continue;
        }
        let table = of(OF_TABLE).map_or(String::new(), |t| text(&t));
        if (family, table.as_str()) == (NFPROTO_INET, "firewalld") {
            firewalld = true;
            continue;
        }
        if tables.is_none() {
            tables = Some(table_flags(socket)?);
        }
        let flags = tables.iter().flatten();
        let flags = flags
            .filter(|(f, t, _)| (*f, t) == (family, &table))
            .map(|(.., flags)| *flags)
            .next();
        let flags = flags.unwrap_or_default();
        if flags & TABLE_F_DORMANT != 0 {
            continue;
        }
        found.push(Chain {
            family,
            table,
            name: of(NAME).map_or(String::new(), |n| text(&n)),
            policy_drops: of(POLICY).and_then(|p| be32(&p)) == Some(libc::NF_DROP as u32),
            owned: flags & TABLE_F_OWNER != 0,
        });
    }
    Ok((found, firewalld))
}

fn table_flags(socket: &Socket) -> Result<Vec<(u8, String, u32)>> {
    const FLAGS: u16 = 2;
    let tables = dump(socket, 0, GETTABLE, "NFT_MSG_GETTABLE(*)", &[])?;
    let one = |r: &Reply| {
        let name = find(r, OF_TABLE).map(|n| text(&n))?;
        let flags = find(r, FLAGS).and_then(|f| be32(&f)).unwrap_or_default();
        Some((*r.payload.first()?, name, flags))
    };
    Ok(tables.iter().filter_map(one).collect())
}

/// The rules of a chain of the base chain's table. Older kernels list those of other
/// chains too.
fn rules(socket: &Socket, of: &Chain, name: &str) -> Result<Vec<Rule>> {
    let what = format!("NFT_MSG_GETRULE({}, {name})", of.path());
    let names = [(OF_TABLE, of.table.as_str()), (OF_CHAIN, name)];
    let replies = dump(socket, of.family, GETRULE, &what, &names)?;
    let here = |r: &&Reply| {
        let is = |(kind, name): &(u16, &str)| find(r, *kind).is_some_and(|v| text(&v) == **name);
        r.payload.first() == Some(&of.family) && names.iter().all(is)
    };
    let ours = replies.iter().filter(here);
    Ok(ours.map(|r| read_rule(r.attributes(HEADER))).collect())
}

/// A table or chain that goes while it is looked at has nothing in it.
fn dump(
    socket: &Socket,
    family: u8,
    kind: u16,
    what: &str,
    names: &[(u16, &str)],
) -> Result<Vec<Reply>> {
    let replies = socket.dump(|b| {
        put_of_family(b, family, kind, NLM_F_DUMP, what.to_owned(), |m| {
            for (kind, name) in names {
                m.text(*kind, name);
            }
        });
    });
    match replies {
        Err(e) if e.errno() == Some(Errno::ENOENT) => Ok(Vec::new()),
        other => other,
    }
}

fn find(reply: &Reply, kind: u16) -> Option<Vec<u8>> {
    let mut all = reply.attributes(HEADER);
    all.find(|(k, _)| *k == kind).map(|(_, v)| v.to_vec())
}

fn be32(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|b| u32::from_be_bytes(*b))
}
