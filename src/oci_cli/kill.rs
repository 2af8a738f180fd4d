//! `kill`.

use super::Verb;
use super::args::{Order, usage};
use crate::container::end;
use crate::{Error, Result};

pub(super) const VERB: Verb = Verb {
    name: "kill",
    operands: "ID [SIGNAL]",
    about: "sends a signal (SIGTERM) to the container's first process",
    flags: &[("all", 'a', "", "to every process of the container")],
    order: Order::Any,
    enters: false,
    run: |face, args| {
        let (id, signal) = match args.operands.as_slice() {
            [id] => (id, libc::SIGTERM),
            [id, signal] => (id, parse_signal(signal)?),
            _ => return Err(usage("kill: an id, and a signal if need be")),
        };
        end::kill(&face.containers, id, signal, args.is("all")).map(|()| 0)
    },
};

/// `SIGTERM`, `term`, `15`, `SIGRTMIN+3`.
fn parse_signal(text: &str) -> Result<i32> {
    let unknown = || Error::invalid(format!("unknown signal {text:?}"));
    let name = text.to_ascii_uppercase();
    if let Ok(n) = name.parse::<i32>() {
        return Some(n).filter(|n| (1..=64).contains(n)).ok_or_else(unknown);
    }
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let offset = |rest: &str, sign: char| match rest.strip_prefix(sign) {
        Some(n) => n.parse::<i32>().ok().filter(|n| (0..=30).contains(n)),
        None => rest.is_empty().then_some(0),
    };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return offset(rest, '+').map(|n| 34 + n).ok_or_else(unknown);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return offset(rest, '-').map(|n| 64 - n).ok_or_else(unknown);
    }
    format!("SIG{name}")
        .parse::<nix::sys::signal::Signal>()
        .map(|s| s as i32)
        .map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals() {
        for (text, want) in [
            ("KILL", Some(9)),
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("1", Some(1)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("0", None),
            ("65", None),
            ("NOPE", None),
            ("RTMIN+99", None),
        ] {
            assert_eq!(parse_signal(text).ok(), want, "{text}");
        }
    }
}
