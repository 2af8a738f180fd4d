//! `ps`: the processes of a container, by their pids on the host.

use std::process::Command;

use super::args::{Order, usage};
use super::{Verb, print, print_json};
use crate::{Context, Error};

pub(super) const VERB: Verb = Verb {
    name: "ps",
    operands: "ID [PS-OPTION...]",
    about: "lists a container's processes",
    flags: &[("format", 'f', "table|json", "the form")],
    order: Order::FlagsFirst,
    enters: false,
    run: |face, args| {
        let Some((id, options)) = args.operands.split_first() else {
            return Err(usage("ps: a container's id is missing"));
        };
        let record = face.containers.load(id)?;
        let cgroup = face
            .containers
            .cgroup(&record)?
            .ok_or_else(|| Error::unsupported("ps: the container has no cgroup"))?;
        let pids: Vec<i32> = cgroup.procs()?.iter().map(|p| p.as_raw()).collect();
        match args.get("format").unwrap_or("table") {
            "json" => print_json(&pids)?,
            "table" => {
                let default = ["-ef".to_owned()];
                let options = if options.is_empty() {
                    &default[..]
                } else {
                    options
                };
                let output = Command::new("ps")
                    .args(options)
                    .output()
                    .context("run ps")?;
                if !output.status.success() {
                    let text = String::from_utf8_lossy(&output.stderr).into_owned();
                    return Err(Error::failed(format!("ps {options:?}: {}", text.trim())));
                }
                let text = String::from_utf8_lossy(&output.stdout);
                print(&only(&text, &pids)?)?;
            }
            other => return Err(usage(format!("--format: {other:?}: table or json"))),
        }
        Ok(0)
    },
};

/// The lines of `ps` about these processes, and its first.
fn only(text: &str, pids: &[i32]) -> crate::Result<String> {
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head
        .split_whitespace()
        .position(|t| t == "PID")
        .ok_or_else(|| Error::failed("ps: no column PID in its output"))?;
    let of = |line: &&str| {
        let pid = line.split_whitespace().nth(column);
        pid.and_then(|p| p.parse().ok())
            .is_some_and(|p: i32| pids.contains(&p))
    };
    let mut kept = format!("{head}\n");
    for line in lines.filter(of) {
        kept.push_str(line);
        kept.push('\n');
    }
    Ok(kept)
}
