//! `delete`.

use super::args::Order;
use super::{Face, Verb};
use crate::Result;
use crate::oci::end;

pub(super) const VERB: Verb = Verb {
    name: "delete",
    operands: "ID",
    about: "removes what an ended container has left",
    flags: &[("force", 'f', "", "ends it first; none there is fine")],
    order: Order::Any,
    enters: false,
    run: |face, args| delete(face, args.id()?, args.is("force")).map(|()| 0),
};

pub(super) fn delete(face: &Face, id: &str, force: bool) -> Result<()> {
    let warnings = end::delete(&face.containers, id, force)?;
    face.log.warn_all(&warnings);
    Ok(())
}
