//! Values in the order of a text to trees, for YAML and JSON alike.
//!
//! Bounds, against input made to exhaust memory: depth, and a weight per source in
//! which every node counts, those copied by an alias too.

use std::collections::HashMap;

use super::tree::{Key, Node, Path, Value};
use crate::error::Problem;

const MAX_DEPTH: usize = 64;
/// A node weighs one, and one more for each 32 bytes of its text.
const MAX_WEIGHT: usize = 200_000;

pub(super) fn problem(line: usize, message: impl Into<String>) -> Problem {
    Problem {
        source: String::new(),
        line,
        field: String::new(),
        message: message.into(),
    }
}

/// A list or mapping that is not yet complete.
struct Open {
    node: Node,
    anchor: usize,
    weight: usize,
    height: usize,
    /// A mapping's key that waits for its value.
    key: Option<Key>,
    /// The keys that are a plain `<<`, by their numbers: to YAML 1.1, and to kubectl,
    /// they merge. In quotes it is a key like any other.
    merges: Vec<usize>,
}

/// What an anchor stands for, with what a copy of it costs.
pub(super) struct Anchored {
    pub node: Node,
    pub weight: usize,
    pub height: usize,
}

/// Takes a source's values in their order and makes trees of them, within the bounds.
#[derive(Default)]
pub(super) struct Builder {
    open: Vec<Open>,
    pub anchors: HashMap<usize, Anchored>,
    weight: usize,
    pub documents: Vec<Node>,
    pub problems: Vec<Problem>,
}

impl Builder {
    /// A value that is no list or mapping, or a mapping's key.
    pub(super) fn scalar(
        &mut self,
        value: Value,
        line: usize,
        column: usize,
    ) -> Result<(), Problem> {
        let weight = 1 + match &value {
            Value::Str(text) => text.len() / 32,
            _ => 0,
        };
        let node = Node::new(line, column, value);
        self.complete(node, 0, (weight, weight), 1)
    }

    /// Begins a list or mapping, which is empty so far.
    pub(super) fn open(&mut self, value: Value, line: usize, column: usize) -> Result<(), Problem> {
        self.start(Node::new(line, column, value), 0)
    }

    /// Ends the list or mapping that was begun last.
    pub(super) fn close(&mut self) -> Result<(), Problem> {
        let Some(mut done) = self.open.pop() else {
            return Ok(());
        };
        self.finish_mapping(&mut done)?;
        let height = done.height + 1;
        self.complete(done.node, done.anchor, (done.weight + 1, 1), height)
    }

    pub(super) fn start(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        let is_key = matches!(
            self.open.last(),
            Some(Open {
                node: Node {
                    value: Value::Map(_),
                    ..
                },
                key: None,
                ..
            })
        );
        if is_key {
            return Err(problem(
                node.line,
                "a mapping's key must be text, not a list or a mapping",
            ));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(problem(
                node.line,
                format!("nested more than {MAX_DEPTH} deep"),
            ));
        }
        self.open.push(Open {
            node,
            anchor,
            weight: 0,
            height: 0,
            key: None,
            merges: Vec::new(),
        });
        Ok(())
    }

    /// Puts a whole node where it belongs. `weight` is the node's with all that
    /// is in it, `added` what of it was not counted yet.
    pub(super) fn complete(
        &mut self,
        node: Node,
        anchor: usize,
        (weight, added): (usize, usize),
        height: usize,
    ) -> Result<(), Problem> {
        self.weight += added;
        if anchor != 0 {
            // The copy that is kept for aliases: anchors may be nested.
            self.weight += weight;
        }
        if self.weight > MAX_WEIGHT {
            return Err(problem(
                node.line,
                format!("more than {MAX_WEIGHT} values, counting each use of an alias"),
            ));
        }
        if self.open.len() + height > MAX_DEPTH + 1 {
            return Err(problem(
                node.line,
                format!("nested more than {MAX_DEPTH} deep"),
            ));
        }
        if anchor != 0 {
            let node = node.clone();
            let anchored = Anchored {
                node,
                weight,
                height,
            };
            self.anchors.insert(anchor, anchored);
        }
        let Some(parent) = self.open.last_mut() else {
            if !node.is_null() {
                self.documents.push(node);
            }
            return Ok(());
        };
        parent.weight += weight;
        parent.height = parent.height.max(height);
        match (&mut parent.node.value, parent.key.take()) {
            (Value::Seq(items), _) => items.push(node),
            (Value::Map(entries), Some(key)) => entries.push((key, node)),
            (_, None) => parent.key = Some(key_of(node)?),
            _ => {}
        }
        Ok(())
    }

    /// The next value is a plain `<<`: a merge, if it is a key.
    pub(super) fn note_merge(&mut self) {
        if let Some(Open {
            node:
                Node {
                    value: Value::Map(entries),
                    ..
                },
            key: None,
            merges,
            ..
        }) = self.open.last_mut()
        {
            merges.push(entries.len());
        }
    }

    /// Reports duplicate keys and carries out merges.
    fn finish_mapping(&mut self, done: &mut Open) -> Result<(), Problem> {
        let Value::Map(entries) = &mut done.node.value else {
            return Ok(());
        };
        let path = self.path();
        let mut first: HashMap<String, usize> = HashMap::with_capacity(entries.len());
        let mut merges = Vec::new();
        for (i, (key, value)) in std::mem::take(entries).into_iter().enumerate() {
            if let Some(line) = first.get(&key.name) {
                let message = format!("set twice: first on line {line}");
                self.problems.push(Problem {
                    field: path.key(&key.name).to_string(),
                    ..problem(key.line, message)
                });
                continue;
            }
            first.insert(key.name.clone(), key.line);
            if done.merges.contains(&i) {
                merges.push((key, value));
            } else {
                entries.push((key, value));
            }
        }
        for (key, merged) in merges {
            let maps = match merged.value {
                Value::Seq(items) => items,
                _ => vec![merged],
            };
            for map in maps {
                let Value::Map(more) = map.value else {
                    return Err(problem(
                        key.line,
                        "\"<<\" merges mappings only; quote it if it is a name",
                    ));
                };
                for (k, v) in more {
                    if first.insert(k.name.clone(), k.line).is_none() {
                        entries.push((k, v));
                    }
                }
            }
        }
        Ok(())
    }

    /// Where the innermost open container is.
    fn path(&self) -> Path {
        let mut path = Path::default();
        for o in &self.open {
            path = match (&o.node.value, &o.key) {
                (Value::Seq(items), _) => path.index(items.len()),
                (_, Some(key)) => path.key(&key.name),
                _ => path,
            };
        }
        path
    }
}

/// A key is text. An integer counts as its text, as in JSON made from YAML; any
/// other plain word that YAML does not take for text would change its spelling
/// on a cluster (`yes` becomes `true`), so it has to be quoted.
fn key_of(node: Node) -> Result<Key, Problem> {
    let line = node.line;
    let name = match node.value {
        Value::Str(s) => s,
        Value::Int(i, text) if i.to_string() == text => text,
        Value::Bool(_, t) | Value::Int(_, t) | Value::Float(_, t) => {
            return Err(problem(
                line,
                format!("the key {t} is not text in YAML; quote it: \"{t}\""),
            ));
        }
        Value::Null => return Err(problem(line, "a key is missing before the colon")),
        Value::Seq(_) | Value::Map(_) => {
            return Err(problem(
                line,
                "a mapping's key must be text, not a list or a mapping",
            ));
        }
    };
    Ok(Key { name, line })
}
