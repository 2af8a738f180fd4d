//! `list`.

use super::args::{Order, usage};
use super::state::State;
use super::{Verb, print};
use crate::Kind;
use crate::plain::escape_json;

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
        // As with runc: the default one is made by the first container.
        if face.root_given {
            containers.check_root()?;
        }
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
                // On one line, as runc prints it.
                print(&escape_json(&format!("{}\n", serde_json::to_string(&all)?)))?;
            }
            "table" => {
                let rows: Vec<_> = records
                    .iter()
                    .map(|r| State::new(r, containers.status(r)).row())
                    .collect();
                print(&table(&rows))?;
            }
            other => return Err(usage(format!("--format: {other:?}: table or json"))),
        }
        Ok(0)
    },
};

/// In runc's order, which scripts cut by its columns.
const HEADS: [&str; 6] = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];

fn table(rows: &[[String; 6]]) -> String {
    let heads = HEADS.map(str::to_owned);
    let mut text = String::new();
    for row in std::iter::once(&heads).chain(rows) {
        for (i, cell) in row.iter().enumerate() {
            let all = rows.iter().map(|r| r[i].len());
            let width = all.max().unwrap_or(0).max(HEADS[i].len()) + 2;
            match i + 1 == row.len() {
                true => text.push_str(cell),
                false => text.push_str(&format!("{cell:<width$}")),
            }
        }
        text.push('\n');
    }
    text
}
