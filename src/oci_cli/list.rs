//! `list`.

use super::args::{Order, usage};
use super::state::State;
use super::{Verb, print, print_json};
use crate::Kind;

pub(super) const VERB: Verb = Verb {
    name: "list",
    operands: "",
    about: "lists the containers",
    flags: &[
        ("format", 'f', "table|json", "the form"),
        ("quiet", 'q', "", "ids alone"),
    ],
    order: Order::Any,
    enters: false,
    run: |face, args| {
        let containers = &face.containers;
        let mut records = Vec::new();
        for id in containers.ids()? {
            match containers.load(&id) {
                Ok(record) => records.push(record),
                // Deleted a moment ago, or claimed and not written yet.
                Err(e) if e.kind() == Kind::NotFound => {}
                Err(e) => face.log.warn(&e.to_string()),
            }
        }
        if args.is("quiet") {
            let ids: String = records.iter().map(|r| format!("{}\n", r.id)).collect();
            print(&ids)?;
            return Ok(0);
        }
        match args.get("format").unwrap_or("table") {
            "json" => {
                let all: Vec<_> = records
                    .iter()
                    .map(|r| State::new(r, containers.status(r)))
                    .collect();
                print_json(&all)?;
            }
            "table" => {
                let width = records.iter().map(|r| r.id.len()).max().unwrap_or(0).max(2) + 2;
                let mut text = format!(
                    "{:<width$}{:<10}{:<10}{:<31}{}\n",
                    "ID", "PID", "STATUS", "CREATED", "BUNDLE"
                );
                for r in &records {
                    text.push_str(&format!(
                        "{:<width$}{:<10}{:<10}{:<31}{}\n",
                        r.id,
                        r.pid,
                        containers.status(r).name(),
                        r.created,
                        r.bundle.display()
                    ));
                }
                print(&text)?;
            }
            other => return Err(usage(format!("--format: {other:?}: table or json"))),
        }
        Ok(0)
    },
};
