//! `kill`.

use super::Verb;
use super::args::{Order, usage};
use crate::Error;
use crate::linux::signal;
use crate::oci::end;

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
            // No signal: a question whether it is there, as kill(2) has it.
            [id, text] if text == "0" => (id, 0),
            [id, text] => match signal::parse(text) {
                Some(signal) => (id, signal),
                None => return Err(Error::invalid(format!("unknown signal {text:?}"))),
            },
            _ => return Err(usage("kill: an id, and a signal if need be")),
        };
        end::kill(&face.containers, id, signal, args.is("all")).map(|()| 0)
    },
};
