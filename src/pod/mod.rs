//! One Pod's life: what was asked for ([`spec`]), what has been seen
//! ([`state`]), what a kubelet would say of it ([`status`]), who sees to it
//! ([`monitor`]), and how everybody else talks to that one ([`client`],
//! [`protocol`]). [`shutdown`]: what becomes of Pods when the machine goes down;
//! [`abandoned`]: of those whose root is gone.

pub mod abandoned;
pub mod bundle;
pub mod client;
pub mod damage;
pub mod layers;
pub mod limits;
pub mod lsm;
pub mod monitor;
mod mounts;
pub mod protocol;
pub mod shutdown;
pub mod state;
pub mod status;
pub mod update;
