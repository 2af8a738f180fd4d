//! `state`: runtime.md, "State", and what runc adds.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;

use super::args::Order;
use super::{Verb, print_json};
use crate::oci::record::{Record, Status};

pub(super) const VERB: Verb = Verb {
    name: "state",
    operands: "ID",
    about: "prints a container's state",
    flags: &[],
    order: Order::Any,
    enters: false,
    run: |face, args| {
        let record = face.containers.load(args.id()?)?;
        print_json(&State::new(&record, face.containers.status(&record)))?;
        Ok(0)
    },
};

#[derive(Serialize)]
pub(super) struct State<'a> {
    #[serde(rename = "ociVersion")]
    oci_version: &'a str,
    id: &'a str,
    pid: i32,
    status: &'a str,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: &'a str,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    annotations: &'a HashMap<String, String>,
    owner: &'a str,
}

impl<'a> State<'a> {
    pub(super) fn new(r: &'a Record, status: Status) -> Self {
        State {
            oci_version: &r.oci_version,
            id: &r.id,
            pid: if status == Status::Stopped { 0 } else { r.pid },
            status: status.name(),
            bundle: &r.bundle,
            rootfs: &r.rootfs,
            created: &r.created,
            annotations: &r.annotations,
            // Containers are root's: see `docs/decisions`.
            owner: "root",
        }
    }

    /// As `list` shows it.
    pub(super) fn row(&self) -> [String; 6] {
        [
            self.id.to_owned(),
            self.pid.to_string(),
            self.status.to_owned(),
            self.bundle.display().to_string(),
            self.created.to_owned(),
            self.owner.to_owned(),
        ]
    }
}
