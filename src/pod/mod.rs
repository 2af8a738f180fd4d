//! One Pod's life: what has been seen of it ([`state`]), what a kubelet would say of that
//! ([`status`]), the process that looks after it ([`monitor`]), and how all others talk to
//! that process ([`client`], [`protocol`]). [`logs`]: what its containers have written.
//! [`verbs`]: what a command asks for, as functions that return data; [`watch`]: waits for
//! changes of Pods.
//! [`doctor`]: whether this machine can run Pods.
//! [`why`]: what a Pod waits for; [`trouble`]: what is wrong with a container.
//! [`shutdown`]: what becomes of Pods when the machine goes down; [`abandoned`]: of those
//! whose root is gone.

pub mod abandoned;
pub mod bundle;
pub mod client;
pub mod command_line;
pub mod damage;
pub mod doctor;
pub mod layers;
pub mod limits;
pub mod logs;
pub mod lsm;
pub mod monitor;
pub mod protocol;
pub mod shutdown;
pub mod state;
pub mod status;
pub mod trouble;
pub mod update;
pub mod verbs;
pub mod watch;
pub mod why;
