//! `delete`.

use super::Verb;
use super::args::Order;
use crate::container::end;

pub(super) const VERB: Verb = Verb {
    name: "delete",
    operands: "ID",
    about: "removes what an ended container has left",
    flags: &[("force", 'f', "", "ends it first; none there is fine")],
    order: Order::Any,
    enters: false,
    run: |face, args| end::delete(&face.containers, args.id()?, args.is("force")).map(|()| 0),
};
