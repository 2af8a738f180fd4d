//! The verbs on Pods as functions: they take what was asked for as plain data, decide and
//! act, and return what has come of it. A face parses, calls and prints. Nothing here
//! prints, or reads a command line or standard input; progress is told by a callback.

pub(crate) mod apply;
pub(crate) mod change;
pub(crate) mod copy;
pub(crate) mod debug;
pub(crate) mod delete;
pub(crate) mod disk;
pub(crate) mod events;
pub(crate) mod fields;
pub(crate) mod images;
mod item;
pub(crate) mod metadata;
pub(crate) mod namespace;
pub(crate) mod objects;
pub(crate) mod start;
pub(crate) mod steer;
pub(crate) mod top;
pub(crate) mod wait;

pub(crate) use delete::Grace;
pub(crate) use item::Item;
