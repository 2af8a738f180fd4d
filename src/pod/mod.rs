//! One Pod's life: what has been seen of it ([`state`]), what a kubelet would say of that
//! ([`status`]), the process that looks after it ([`monitor`]), and how all others talk to
//! that process ([`client`], [`protocol`]). [`logs`]: what its containers have written.
//! [`verbs`]: what a command asks for, as functions that return data; [`watch`]: waits for
//! changes of Pods.
//! [`copy`]: files between this machine and a container.
//! [`doctor`]: whether this machine can run Pods.
//! [`why`]: what a Pod waits for; [`trouble`]: what is wrong with a container.
//! [`shutdown`]: what becomes of Pods when the machine goes down; [`abandoned`]: of those
//! whose root is gone.

pub(crate) mod abandoned;
pub(crate) mod bundle;
pub(crate) mod claims;
pub(crate) mod client;
pub(crate) mod command_line;
pub(crate) mod copy;
pub(crate) mod damage;
pub(crate) mod doctor;
pub(crate) mod layers;
pub(crate) mod limits;
pub(crate) mod logs;
pub(crate) mod lsm;
pub(crate) mod monitor;
pub(crate) mod protocol;
pub(crate) mod reason;
pub(crate) mod shutdown;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod trouble;
pub(crate) mod update;
pub(crate) mod verbs;
pub(crate) mod watch;
pub(crate) mod why;
