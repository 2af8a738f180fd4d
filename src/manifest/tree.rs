//! A manifest as written: values with the line each stands on, and paths.
//!
//! Nothing here knows Kubernetes. Trees come from [`super::yaml`] or from a
//! JSON value; both are bounded in depth and size where they are made, so that
//! the recursion below is safe.

use std::fmt;

/// A value at its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// 1-based; 0 if the value did not come from text.
    pub line: usize,
    /// 1-based; 0 as above.
    pub column: usize,
    pub value: Value,
}

/// Numbers and booleans keep their text, because the mend of a mistaken type is
/// to quote what was written, and because a quantity is read from its text.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool, String),
    Int(i128, String),
    Float(f64, String),
    Str(String),
    Seq(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    pub name: String,
    pub line: usize,
}

impl Node {
    pub(super) fn new(line: usize, column: usize, value: Value) -> Self {
        Node {
            line,
            column,
            value,
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(k, _)| k.name == key).map(|(_, v)| v),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        match &mut self.value {
            Value::Map(entries) => entries
                .iter_mut()
                .find(|(k, _)| k.name == key)
                .map(|(_, v)| v),
            _ => None,
        }
    }

    /// Takes a key out of a mapping, with its line.
    pub(super) fn take(&mut self, key: &str) -> Option<(Key, Node)> {
        match &mut self.value {
            Value::Map(entries) => {
                let at = entries.iter().position(|(k, _)| k.name == key)?;
                Some(entries.remove(at))
            }
            _ => None,
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Str(s) => Some(s),
            _ => None,
        }
    }

    pub(super) fn items(&self) -> &[Node] {
        match &self.value {
            Value::Seq(items) => items,
            _ => &[],
        }
    }

    pub(super) fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// Whether there is nothing in it: null, `""`, `[]` or `{}`.
    pub(super) fn is_empty(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Str(s) => s.is_empty(),
            Value::Seq(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
            _ => false,
        }
    }

    /// A scalar's text as written, without quotes.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Bool(_, t) | Value::Int(_, t) | Value::Float(_, t) | Value::Str(t) => Some(t),
            _ => None,
        }
    }

    /// What is there, for "expected ..., found ...".
    pub(super) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".into(),
            Value::Bool(_, t) => format!("the boolean {t}"),
            Value::Int(_, t) => format!("the integer {t}"),
            Value::Float(_, t) => format!("the number {t}"),
            Value::Str(s) => format!("the string {}", quote(s)),
            Value::Seq(_) => "a list".into(),
            Value::Map(_) => "a mapping".into(),
        }
    }

    pub(super) fn find(&self, path: &Path) -> Option<&Node> {
        path.0.iter().try_fold(self, |at, step| match step {
            Step::Key(name) => at.get(name),
            Step::Index(i) => at.items().get(*i),
        })
    }

    /// The line on which `path` is, or the line of the nearest thing above it
    /// that exists, which is where a missing field has to be added.
    pub(super) fn line_of(&self, path: &Path) -> usize {
        let mut at = self;
        let mut line = self.line;
        for step in &path.0 {
            match (step, &at.value) {
                (Step::Key(name), Value::Map(entries)) => {
                    let Some((key, value)) = entries.iter().find(|(k, _)| k.name == *name) else {
                        return line;
                    };
                    (at, line) = (value, key.line);
                }
                (Step::Index(i), Value::Seq(items)) if *i < items.len() => {
                    at = &items[*i];
                    line = at.line;
                }
                _ => return line,
            }
        }
        line
    }

    /// The same value without places, for input that is a JSON value already.
    /// `null` for a number that JSON has not.
    pub(super) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(b, _) => (*b).into(),
            Value::Int(i, _) => i64::try_from(*i).map_or(Json::Null, Json::from),
            Value::Float(f, _) => (*f).into(),
            Value::Str(text) => text.as_str().into(),
            Value::Seq(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => {
                let entry = |(k, v): &(Key, Node)| (k.name.clone(), v.to_json());
                Json::Object(entries.iter().map(entry).collect())
            }
        }
    }

    pub(super) fn from_json(value: &serde_json::Value) -> Node {
        use serde_json::Value as Json;
        let value = match value {
            Json::Null => Value::Null,
            Json::Bool(b) => Value::Bool(*b, b.to_string()),
            Json::Number(n) => match n.as_i128() {
                Some(i) => Value::Int(i, n.to_string()),
                None => Value::Float(n.as_f64().unwrap_or(f64::NAN), n.to_string()),
            },
            Json::String(s) => Value::Str(s.clone()),
            Json::Array(items) => Value::Seq(items.iter().map(Node::from_json).collect()),
            Json::Object(entries) => Value::Map(
                entries
                    .iter()
                    .map(|(k, v)| {
                        let name = k.clone();
                        (Key { name, line: 0 }, Node::from_json(v))
                    })
                    .collect(),
            ),
        };
        Node::new(0, 0, value)
    }
}

/// A string for a message: quoted, escaped, and cut where it is long.
pub(super) fn quote(s: &str) -> String {
    const SHOWN: usize = 80;
    if s.chars().count() <= SHOWN {
        return format!("{s:?}");
    }
    let head: String = s.chars().take(SHOWN).collect();
    format!("{head:?}... ({} bytes)", s.len())
}

/// Where a value is within its document, as in
/// `spec.containers[0].ports[1].name`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Key(String),
    Index(usize),
}

impl Path {
    pub(super) fn key(&self, name: &str) -> Path {
        self.with(Step::Key(name.to_owned()))
    }

    /// Several keys at once: `a.b.c`, none of which holds a dot.
    pub(super) fn keys(&self, dotted: &str) -> Path {
        dotted.split('.').fold(self.clone(), |p, k| p.key(k))
    }

    pub(super) fn index(&self, i: usize) -> Path {
        self.with(Step::Index(i))
    }

    fn with(&self, step: Step) -> Path {
        let mut steps = Vec::with_capacity(self.0.len() + 1);
        steps.extend_from_slice(&self.0);
        steps.push(step);
        Path(steps)
    }

    /// The last step, if it is a key.
    pub(super) fn last_key(&self) -> Option<&str> {
        match self.0.last() {
            Some(Step::Key(name)) => Some(name),
            _ => None,
        }
    }

    pub(super) fn is_within(&self, other: &Path) -> bool {
        self.0.starts_with(&other.0)
    }

    pub(super) fn depth(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(n) => write!(f, "[{n}]")?,
                // Label keys and the like hold dots and slashes.
                Step::Key(k) if k.contains(['.', '/', '[', ' ']) || k.is_empty() => {
                    write!(f, "['{}']", k.escape_debug())?;
                }
                Step::Key(k) if i == 0 => f.write_str(k)?,
                Step::Key(k) => write!(f, ".{k}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_like_kubernetes() {
        let p = Path::default()
            .keys("spec.containers")
            .index(0)
            .key("image");
        assert_eq!(p.to_string(), "spec.containers[0].image");
        let p = Path::default()
            .keys("metadata.labels")
            .key("app.example.com/name");
        assert_eq!(p.to_string(), "metadata.labels['app.example.com/name']");
        assert!(p.is_within(&Path::default().key("metadata")));
        assert!(!p.is_within(&Path::default().key("spec")));
    }

    #[test]
    fn long_strings_are_cut() {
        assert_eq!(quote("a\"b"), "\"a\\\"b\"");
        assert!(quote(&"x".repeat(5000)).len() < 120);
    }
}
