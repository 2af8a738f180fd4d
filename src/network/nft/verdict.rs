//! What a base chain does with a packet that none of its conditions matches: the
//! chain's policy, or an unconditional `drop` or `reject` before its end, perhaps in
//! a chain that it jumps to. Pure: rules come as data, from [`super::forward`].

use super::LIST_ELEM;
use crate::Result;
use crate::linux::netlink::{Attributes, text};

/// What a rule does to every packet. Rules with a condition do nothing to the packet
/// that is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    Accept,
    Drop,
    Jump(String),
    Goto(String),
    Return,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub handle: u64,
    pub step: Step,
    pub comment: Option<String>,
}

/// What a base chain does by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Default {
    Accept,
    /// With the rule that a packet does not get past; `None`: the policy drops it
    /// after the last rule.
    Drop(Option<u64>),
}

/// Chains that call each other deeper than the kernel allows (NFT_JUMP_STACK_SIZE).
const DEEPEST: usize = 16;

enum End {
    Accept,
    Drop,
    /// The packet goes on behind the jump.
    Through,
}

/// `rules` are the base chain's; `chain` gives those of another chain of its table.
pub(super) fn default_of(
    rules: &[Rule],
    policy_drops: bool,
    chain: &mut dyn FnMut(&str) -> Result<Vec<Rule>>,
) -> Result<Default> {
    let by_policy = |at| match policy_drops {
        true => Default::Drop(at),
        false => Default::Accept,
    };
    for rule in rules {
        let here = Some(rule.handle);
        let end = match &rule.step {
            Step::Nothing => continue,
            Step::Return => return Ok(by_policy(here)),
            Step::Accept => End::Accept,
            Step::Drop => End::Drop,
            Step::Jump(to) | Step::Goto(to) => end_of(&chain(to)?, chain, 1)?,
        };
        match (end, &rule.step) {
            (End::Accept, _) => return Ok(Default::Accept),
            (End::Drop, _) => return Ok(Default::Drop(here)),
            (End::Through, Step::Goto(_)) => return Ok(by_policy(here)),
            (End::Through, _) => {}
        }
    }
    Ok(by_policy(None))
}

fn end_of(
    rules: &[Rule],
    chain: &mut dyn FnMut(&str) -> Result<Vec<Rule>>,
    depth: usize,
) -> Result<End> {
    if depth > DEEPEST {
        return Ok(End::Through);
    }
    for rule in rules {
        let end = match &rule.step {
            Step::Nothing => continue,
            Step::Return => return Ok(End::Through),
            Step::Accept => End::Accept,
            Step::Drop => End::Drop,
            Step::Jump(to) | Step::Goto(to) => end_of(&chain(to)?, chain, depth + 1)?,
        };
        match (end, &rule.step) {
            (End::Through, Step::Jump(_)) => {}
            (end, _) => return Ok(end),
        }
    }
    Ok(End::Through)
}

/// Of NFTA_RULE_*, as the kernel lists a rule.
pub(super) fn read_rule(attributes: Attributes) -> Rule {
    const HANDLE: u16 = 3;
    const EXPRESSIONS: u16 = 4;
    const USERDATA: u16 = 7;
    let mut rule = Rule {
        handle: 0,
        step: Step::Nothing,
        comment: None,
    };
    for (kind, value) in attributes {
        match kind {
            HANDLE => rule.handle = value.first_chunk().map_or(0, |b| u64::from_be_bytes(*b)),
            EXPRESSIONS => rule.step = step_of(Attributes(value)),
            USERDATA => rule.comment = comment(value),
            _ => {}
        }
    }
    rule
}

fn step_of(expressions: Attributes) -> Step {
    let mut step = Step::Nothing;
    for (_, expression) in expressions.filter(|(kind, _)| *kind == LIST_ELEM) {
        let find = |of: u16, inside: &[u8]| -> Option<Vec<u8>> {
            let mut all = Attributes(inside);
            all.find(|(kind, _)| *kind == of).map(|(_, v)| v.to_vec())
        };
        let name = find(1, expression).map_or(String::new(), |n| text(&n));
        let data = find(2, expression).unwrap_or_default();
        match name.as_str() {
            "counter" | "log" => {}
            "reject" => step = Step::Drop,
            // A target of xtables.
            "target" => {
                if find(1, &data).is_some_and(|n| text(&n) == "REJECT") {
                    step = Step::Drop;
                }
            }
            "immediate" => {
                let verdict = find(2, &data).and_then(|d| find(2, &d));
                let Some(verdict) = verdict else { continue };
                let code = find(1, &verdict);
                let code = code.and_then(|c| c.first_chunk().map(|b| i32::from_be_bytes(*b)));
                let chain = || find(2, &verdict).map_or(String::new(), |c| text(&c));
                step = match code {
                    Some(libc::NF_ACCEPT) => Step::Accept,
                    Some(libc::NF_DROP) => Step::Drop,
                    Some(libc::NFT_JUMP) => Step::Jump(chain()),
                    Some(libc::NFT_GOTO) => Step::Goto(chain()),
                    Some(libc::NFT_RETURN) => Step::Return,
                    _ => Step::Nothing,
                };
            }
            // A condition, or what may be one.
            _ => return Step::Nothing,
        }
    }
    step
}

/// Type, length, value: include/libnftnl/udata.h. nft(8) and iptables-nft(8) both
/// show type 0 as the rule's comment.
fn comment(mut userdata: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = userdata {
        let value = rest.get(..usize::from(*length))?;
        if *kind == 0 {
            return Some(text(value));
        }
        userdata = &rest[usize::from(*length)..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(steps: &[Step]) -> Vec<Rule> {
        let numbered = steps.iter().zip(1..);
        numbered
            .map(|(step, handle)| Rule {
                handle,
                step: step.clone(),
                comment: None,
            })
            .collect()
    }

    #[test]
    fn the_default_of_a_chain() {
        use Step::*;
        let jump = |to: &str| Jump(to.to_owned());
        let goto = |to: &str| Goto(to.to_owned());
        let mut chain = |name: &str| {
            Ok(rules(&match name {
                "drop" => vec![Nothing, Drop],
                "accept" => vec![Accept, Drop],
                "return" => vec![Return, Drop],
                "deep" => vec![jump("return"), jump("drop")],
                "to" => vec![goto("return"), Drop],
                "loop" => vec![jump("loop")],
                _ => vec![],
            }))
        };
        let drop = |at| Default::Drop(Some(at));
        for (steps, by_accept, by_drop) in [
            (vec![], Default::Accept, Default::Drop(None)),
            (
                vec![Nothing, jump("")],
                Default::Accept,
                Default::Drop(None),
            ),
            (vec![Nothing, Drop], drop(2), drop(2)),
            (vec![Accept, Drop], Default::Accept, Default::Accept),
            (vec![Nothing, Return, Drop], Default::Accept, drop(2)),
            (vec![jump("return"), jump("drop")], drop(2), drop(2)),
            (vec![jump("accept"), Drop], Default::Accept, Default::Accept),
            (vec![goto("return"), Drop], Default::Accept, drop(1)),
            (vec![goto("drop")], drop(1), drop(1)),
            (vec![Nothing, jump("deep")], drop(2), drop(2)),
            (
                vec![jump("to"), Nothing],
                Default::Accept,
                Default::Drop(None),
            ),
            (vec![jump("loop")], Default::Accept, Default::Drop(None)),
        ] {
            let rules = rules(&steps);
            let mut of = |drops| default_of(&rules, drops, &mut chain).unwrap();
            assert_eq!((of(false), of(true)), (by_accept, by_drop), "{steps:?}");
        }
    }

    #[test]
    fn comments_among_other_user_data() {
        assert_eq!(comment(b"\x01\x02xy\x00\x03ab\0"), Some("ab".into()));
        assert_eq!(comment(b""), None);
        assert_eq!(comment(b"\x00\x09ab"), None);
    }
}
