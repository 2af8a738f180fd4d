//! The verbs on Pods, a file each; small ones that are alike share one: [`steer`] (restart,
//! pause, resume), [`metadata`] (label, annotate).

pub(in crate::cli) mod apply;
pub(in crate::cli) mod attach;
pub(in crate::cli) mod cp;
pub(in crate::cli) mod create;
pub(in crate::cli) mod debug;
pub(in crate::cli) mod delete;
pub(in crate::cli) mod describe;
pub(in crate::cli) mod diff;
pub(in crate::cli) mod edit;
pub(in crate::cli) mod events;
pub(in crate::cli) mod exec;
pub(in crate::cli) mod explain;
pub(in crate::cli) mod files;
pub(in crate::cli) mod get;
pub(in crate::cli) mod logs;
pub(in crate::cli) mod metadata;
pub(in crate::cli) mod patch;
pub(in crate::cli) mod run;
pub(in crate::cli) mod steer;
pub(in crate::cli) mod top;
pub(in crate::cli) mod validate;
pub(in crate::cli) mod wait;
pub(in crate::cli) mod why;
