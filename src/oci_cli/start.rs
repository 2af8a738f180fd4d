//! `start`.

use super::Verb;
use super::args::Order;
use crate::container::start;

pub(super) const VERB: Verb = Verb {
    name: "start",
    operands: "ID",
    about: "runs the program of a created container",
    flags: &[],
    order: Order::Any,
    enters: false,
    run: |face, args| start::start(&face.containers, args.id()?).map(|()| 0),
};
