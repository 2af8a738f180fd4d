//! What is printed, and how: tables, YAML, JSONPath, ages, what goes on meanwhile.

pub(in crate::cli) mod age;
pub(in crate::cli) mod custom;
pub(in crate::cli) mod dry_run;
pub(in crate::cli) mod jsonpath;
pub(in crate::cli) mod monitor_log;
pub(in crate::cli) mod object;
pub(in crate::cli) mod output;
pub(in crate::cli) mod progress;
pub(in crate::cli) mod rows;
pub(in crate::cli) mod size;
pub(in crate::cli) mod table;
pub(in crate::cli) mod unified;
pub(in crate::cli) mod waiting;
pub(in crate::cli) mod watching;
pub(in crate::cli) mod yaml;
