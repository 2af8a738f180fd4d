//! What becomes of each field that a manifest sets, by the table in [`super::fields`].

use super::fields::Rule;
use super::resources;
use super::tree::{Node, Path, Value};

use Rule::{Fields, Honoured, NoEffect, Only, Refused, RefusedIfSet, RefusedResource};

/// What became of one field that a manifest sets.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    pub path: Path,
    pub line: usize,
    pub answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answer {
    Honoured,
    NoEffect(&'static str),
    Refused(&'static str),
}

/// Every field that is set, with its answer, in the manifest's order. Unknown
/// fields are left out: reading the types reports them.
///
/// `rule`: the line of the kind's table for a pattern.
pub(super) fn answer(document: &Node, rule: &dyn Fn(&str) -> Option<Rule>) -> Vec<Found> {
    let mut found = Vec::new();
    walk(
        document,
        document.line,
        &Path::default(),
        "",
        rule,
        &mut found,
    );
    found
}

fn walk(
    node: &Node,
    line: usize,
    path: &Path,
    pattern: &str,
    rule: &dyn Fn(&str) -> Option<Rule>,
    found: &mut Vec<Found>,
) {
    let mut add = |answer| {
        found.push(Found {
            path: path.clone(),
            line,
            answer,
        });
    };
    let below = match (pattern, rule(pattern)) {
        ("", _) => true,
        (_, None) => pattern.ends_with("[*]"),
        (_, Some(Fields)) => true,
        (_, Some(Honoured)) => {
            add(Answer::Honoured);
            false
        }
        (_, Some(NoEffect(why))) => {
            // Tools print fields that they leave empty.
            if !node.is_empty() {
                add(Answer::NoEffect(why));
            }
            false
        }
        (_, Some(Refused(why))) => {
            add(Answer::Refused(why));
            false
        }
        (_, Some(RefusedIfSet(why))) => {
            if !node.is_empty() {
                add(Answer::Refused(why));
            }
            false
        }
        (_, Some(RefusedResource(why))) => {
            add(match path.last_key().is_some_and(resources::is_known) {
                true => Answer::Refused(why),
                false => Answer::Honoured,
            });
            false
        }
        (_, Some(Only { refused, why, .. })) => {
            let is_refused = match &node.value {
                Value::Bool(b, _) => refused.contains(&if *b { "true" } else { "false" }),
                Value::Str(s) => refused.contains(&s.as_str()),
                _ => false,
            };
            add(if is_refused {
                Answer::Refused(why)
            } else {
                Answer::Honoured
            });
            false
        }
    };
    if !below {
        return;
    }
    match &node.value {
        Value::Map(entries) => {
            // A quantity that is null is 0, of a resource that is named all the same.
            let quantities = [".limits", ".requests"];
            let is_set = |child: &Node| {
                !child.is_null() || quantities.iter().any(|map| pattern.ends_with(map))
            };
            for (key, child) in entries.iter().filter(|(_, child)| is_set(child)) {
                // No field has a dot in its name; a resource or a label may.
                let step = if key.name.contains(['.', '[']) {
                    "*"
                } else {
                    &key.name
                };
                let pattern = match pattern {
                    "" => step.to_owned(),
                    _ => format!("{pattern}.{step}"),
                };
                walk(child, key.line, &path.key(&key.name), &pattern, rule, found);
            }
        }
        Value::Seq(items) => {
            for (i, child) in items.iter().enumerate() {
                walk(
                    child,
                    child.line,
                    &path.index(i),
                    &format!("{pattern}[*]"),
                    rule,
                    found,
                );
            }
        }
        _ => {}
    }
}
