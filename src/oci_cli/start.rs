//! `start`.

use super::args::Order;
use super::{Face, Verb};
use crate::Result;
use crate::oci::notify::{Ready, VARIABLE};
use crate::oci::start;

pub(super) const VERB: Verb = Verb {
    name: "start",
    operands: "ID",
    about: "runs the program of a created container",
    flags: &[],
    order: Order::Any,
    enters: false,
    run: |face, args| {
        if let Some(ready) = start(face, args.id()?)? {
            ready.hand_over()?;
        }
        Ok(0)
    },
};

/// Where whoever started this program wants to hear that the container is ready.
pub(super) fn notify_socket() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|v| !v.is_empty())
}

/// What comes back is to be passed on.
pub(super) fn start(face: &Face, id: &str) -> Result<Option<Ready>> {
    start::start(&face.containers, id, notify_socket().as_deref())
}
