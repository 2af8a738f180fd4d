//! Pods on the real kernel, as root, each test in a private `--root`.
//!
//! One program, so that it links once. A test makes a [`root::Root`], which has
//! the demo image in it, and which fails the test if anything is left when it is
//! dropped.

mod abandoned;
mod at_rest;
mod bad_input;
mod basics;
mod bundles;
mod caller;
mod changes;
mod chatbot;
mod chroot;
mod claim_sizes;
mod claims;
mod claims_crashes;
mod claims_walk;
mod cli;
mod completion;
mod corpus;
mod cp;
mod crashes;
mod damage;
mod debug;
mod debug_log;
#[path = "../shared/denied.rs"]
mod denied;
mod doctor;
mod dry_runs;
mod env;
mod events;
mod failures;
#[path = "../shared/fds.rs"]
mod fds;
mod full;
mod full_logs;
mod hostile;
mod hugepages;
mod image_volumes;
mod images;
mod insiders;
mod kernels;
mod labels;
mod layers;
mod logs;
mod manifests;
mod many;
mod mends;
mod neighbours;
mod network;
mod nfs;
mod objects;
mod objects_oracle;
mod probes;
mod probes_remote;
mod projected;
mod propagation;
mod quotas;
mod resize;
mod restarts;
mod retries;
mod rights;
mod root;
mod security;
mod shared_processes;
mod steer;
mod streams;
mod sub_paths;
mod termination;
mod top;
mod updates;
mod volumes;
mod waiting;
mod why;
