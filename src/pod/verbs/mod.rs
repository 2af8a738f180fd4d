//! The verbs on Pods as functions: they take what was asked for as plain data, decide and
//! act, and return what has come of it. A face parses, calls and prints. Nothing here
//! prints, or reads a command line or standard input; progress is told by a callback.

pub mod apply;
pub mod delete;
pub mod disk;
pub mod events;
pub mod fields;
pub mod images;
pub mod metadata;
pub mod start;
pub mod steer;
pub mod wait;

pub use delete::Grace;
