//! kubectl's dialect of JSONPath, as in
//! `{range .items[*]}{.metadata.name}{"\t"}{.status.phase}{"\n"}{end}`.
//!
//! Text outside of braces is printed as it is. Inside: fields (`.a.b`,
//! `['a.b']`, `.*`), elements (`[0]`, `[-1]`, `[1:3]`, `[::2]`, `[0,2]`, `[*]`),
//! filters (`[?(@.a=="x")]` with == != < <= > >=, or `[?(@.a)]` for "has it"),
//! recursive descent (`..a`), quoted text with Go's escapes, numbers, `true` and
//! `false`, `range`/`end`. `{}` is the whole object; a range without an `end` lasts to
//! the end of the template. Paths that stand in the same braces are applied one after
//! the other: `{.metadata .name}` is `{.metadata.name}`. Several results are printed
//! with a blank between them; strings as they are, all else as JSON. A field that is
//! missing prints nothing; comparing a number with a text is an error. Nesting is
//! bounded, since a template may come from another program.

mod parser;

use std::cmp::Ordering;

use serde_json::Value;

use crate::{Error, Result};

/// Bounds how deep ranges and filters nest, and so the recursion.
const MAX_DEPTH: usize = 32;

#[derive(Debug, PartialEq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, PartialEq)]
enum Part {
    Text(String),
    Path(Vec<Step>),
    Range(Vec<Step>, Vec<Part>),
}

#[derive(Debug, PartialEq)]
enum Step {
    /// `$`: back to the whole document.
    Root,
    Field(String),
    Wildcard,
    /// `..` before the step that follows.
    Descend,
    Slice {
        from: Option<i64>,
        to: Option<i64>,
        by: i64,
    },
    Index(i64),
    Union(Vec<Step>),
    Filter(Operand, Option<(Comparison, Operand)>),
}

#[derive(Debug, PartialEq)]
enum Operand {
    Path(Vec<Step>),
    Literal(Value),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        parser::parse(text).map(Template)
    }

    /// As `kubectl wait --for=jsonpath=` takes it: braces may be left out, and
    /// so may the first dot.
    pub(crate) fn parse_relaxed(text: &str) -> Result<Self> {
        let inner = text
            .strip_prefix('{')
            .and_then(|t| t.strip_suffix('}'))
            .unwrap_or(text);
        if inner.starts_with(['.', '[', '$', '@']) {
            Self::parse(&format!("{{{inner}}}"))
        } else {
            Self::parse(&format!("{{.{inner}}}"))
        }
    }

    /// # Errors
    /// [`crate::Kind::Usage`]: a filter compares values of two types.
    pub(crate) fn render(&self, root: &Value) -> Result<String> {
        let mut out = String::new();
        render(&self.0, root, root, &mut out)?;
        Ok(out)
    }

    /// What the paths of the template lead to.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub(crate) fn values<'v>(&self, root: &'v Value) -> Result<Vec<&'v Value>> {
        let mut all = vec![];
        for part in &self.0 {
            if let Part::Path(steps) | Part::Range(steps, _) = part {
                all.extend(walk(steps, root, root)?);
            }
        }
        Ok(all)
    }
}

/// A value as a template prints it.
pub(crate) fn plain(v: &Value) -> String {
    match v {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn render(parts: &[Part], root: &Value, here: &Value, out: &mut String) -> Result<()> {
    for part in parts {
        match part {
            Part::Text(t) => out.push_str(t),
            Part::Path(steps) => {
                let found = walk(steps, root, here)?;
                let found: Vec<String> = found.into_iter().map(plain).collect();
                out.push_str(&found.join(" "));
            }
            Part::Range(steps, body) => {
                for v in walk(steps, root, here)? {
                    render(body, root, v, out)?;
                }
            }
        }
    }
    Ok(())
}

fn walk<'v>(steps: &[Step], root: &'v Value, here: &'v Value) -> Result<Vec<&'v Value>> {
    let mut now = vec![here];
    let mut steps = steps.iter();
    while let Some(step) = steps.next() {
        let (step, from) = match step {
            Step::Descend => {
                let Some(next) = steps.next() else {
                    return Ok(now);
                };
                let mut all = vec![];
                for v in now {
                    descend(v, &mut all);
                }
                (next, all)
            }
            step => (step, now),
        };
        now = vec![];
        for v in from {
            now.extend(take(step, root, v)?);
        }
    }
    Ok(now)
}

/// The value and everything in it. JSON that serde_json has read is at most 128
/// levels deep.
fn descend<'v>(v: &'v Value, all: &mut Vec<&'v Value>) {
    all.push(v);
    children(v).for_each(|c| descend(c, all));
}

fn children(v: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match v {
        Value::Array(l) => Box::new(l.iter()),
        Value::Object(m) => Box::new(m.values()),
        _ => Box::new(std::iter::empty()),
    }
}

fn take<'v>(step: &Step, root: &'v Value, v: &'v Value) -> Result<Vec<&'v Value>> {
    Ok(match step {
        Step::Root => vec![root],
        Step::Field(name) => v.get(name).into_iter().collect(),
        Step::Wildcard => children(v).collect(),
        Step::Descend => vec![],
        Step::Index(i) => {
            let list = v.as_array().map(Vec::as_slice).unwrap_or_default();
            let i = if *i < 0 { list.len() as i64 + i } else { *i };
            usize::try_from(i)
                .ok()
                .and_then(|i| list.get(i))
                .into_iter()
                .collect()
        }
        Step::Slice { from, to, by } => {
            let list = v.as_array().map(Vec::as_slice).unwrap_or_default();
            let length = list.len() as i64;
            let place = |i: i64| (if i < 0 { length + i } else { i }).clamp(0, length) as usize;
            let (from, to) = (place(from.unwrap_or(0)), place(to.unwrap_or(length)));
            let by = usize::try_from(*by).unwrap_or(1).max(1);
            list.get(from..to)
                .unwrap_or_default()
                .iter()
                .step_by(by)
                .collect()
        }
        Step::Union(steps) => {
            let mut all = vec![];
            for s in steps {
                all.extend(take(s, root, v)?);
            }
            all
        }
        Step::Filter(left, test) => {
            let list = v.as_array().map(Vec::as_slice).unwrap_or_default();
            let mut passed = vec![];
            for e in list {
                if passes(left, test.as_ref(), root, e)? {
                    passed.push(e);
                }
            }
            passed
        }
    })
}

fn passes(
    left: &Operand,
    test: Option<&(Comparison, Operand)>,
    root: &Value,
    here: &Value,
) -> Result<bool> {
    fn side<'v>(o: &'v Operand, root: &'v Value, here: &'v Value) -> Result<Option<&'v Value>> {
        Ok(match o {
            Operand::Literal(v) => Some(v),
            Operand::Path(steps) => walk(steps, root, here)?.first().copied(),
        })
    }
    let left = side(left, root, here)?;
    let Some((comparison, right)) = test else {
        return Ok(left.is_some());
    };
    let (Some(left), Some(right)) = (left, side(right, root, here)?) else {
        return Ok(false);
    };
    let order = match (left, right) {
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(_), Value::String(_)) | (Value::String(_), Value::Number(_)) => {
            return Err(Error::usage(format!(
                "jsonpath: {left} and {right} cannot be compared: one is a number, the other a \
                 text (quotes make a text)"
            )));
        }
        (a, b) if a == b => Some(Ordering::Equal),
        _ => None,
    };
    Ok(match comparison {
        Comparison::Equal => order == Some(Ordering::Equal),
        Comparison::NotEqual => order != Some(Ordering::Equal),
        Comparison::Less => order == Some(Ordering::Less),
        Comparison::LessOrEqual => order.is_some_and(Ordering::is_le),
        Comparison::Greater => order == Some(Ordering::Greater),
        Comparison::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
    })
}

#[cfg(test)]
mod tests;
