//! Bytes to trees: YAML, and JSON as the part of YAML that it is.
//!
//! The grammar is YAML 1.2's as `saphyr-parser` reads it. What a plain scalar
//! *means* is what kubectl's reader takes it for, because the same file must
//! mean the same here: `yes`, `no`, `on`, `off`, `y` and `n` are booleans, `0644`
//! is octal, `<<` merges. So `value: yes` for a string is found out and refused
//! with the mend, as on a cluster.
//!
//! Bounds, against input made to exhaust memory: bytes per source, depth, and a
//! weight per source in which every node counts, those copied by an alias too.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::tree::{Key, Node, Path, Value};
use crate::error::Problem;

/// As much as the API server takes is about 1.5 MiB; no Pod comes near.
pub const MAX_BYTES: usize = 1 << 20;
const MAX_DEPTH: usize = 64;
/// A node weighs one, and one more for each 32 bytes of its text.
const MAX_WEIGHT: usize = 200_000;

/// Reads every document of a source that is not empty. What was readable before
/// a fault of syntax is returned with the fault; duplicate keys do not end the
/// reading. The problems have no source set.
pub fn parse_documents(bytes: &[u8]) -> (Vec<Node>, Vec<Problem>) {
    let text = match check_text(bytes) {
        Ok(text) => text,
        Err(p) => return (Vec::new(), vec![p]),
    };
    let mut b = Builder::default();
    for event in Parser::new_from_str(text) {
        let step = match event {
            Ok((event, span)) => b.on_event(event, span.start.line(), span.start.col() + 1),
            Err(e) => {
                let line = e.marker().line();
                Err(problem(line, syntax_message(e.info(), text, line)))
            }
        };
        if let Err(p) = step {
            b.problems.push(p);
            break;
        }
    }
    (b.documents, b.problems)
}

fn problem(line: usize, message: impl Into<String>) -> Problem {
    Problem {
        source: String::new(),
        line,
        field: String::new(),
        message: message.into(),
    }
}

/// The text without its byte order mark, or why these bytes are no text.
fn check_text(bytes: &[u8]) -> Result<&str, Problem> {
    if bytes.len() > MAX_BYTES {
        return Err(problem(
            0,
            format!(
                "{} bytes; a manifest may have at most {MAX_BYTES}",
                bytes.len()
            ),
        ));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(problem(1, "this is UTF-16; save the file as UTF-8"));
    }
    let line_at = |end: usize| 1 + bytes[..end].iter().filter(|b| **b == b'\n').count();
    let text = std::str::from_utf8(bytes).map_err(|e| {
        problem(
            line_at(e.valid_up_to()),
            "not UTF-8 text; is this a manifest?",
        )
    })?;
    let control = |c: &char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    if let Some((at, c)) = text.char_indices().find(|(_, c)| control(c)) {
        return Err(problem(
            line_at(at),
            format!("the control character U+{:04X} is not allowed", c as u32),
        ));
    }
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// The parser's own words, and the mend where the line shows the usual cause.
fn syntax_message(info: &str, text: &str, line: usize) -> String {
    let at = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let indent: String = at.chars().take_while(|c| c.is_whitespace()).collect();
    if indent.contains('\t') {
        format!("not valid YAML: {info}: the line is indented with a tab; use spaces")
    } else {
        format!("not valid YAML: {info}")
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
}

/// What an anchor stands for, with what a copy of it costs.
struct Anchored {
    node: Node,
    weight: usize,
    height: usize,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    weight: usize,
    documents: Vec<Node>,
    problems: Vec<Problem>,
}

impl Builder {
    fn on_event(&mut self, event: Event<'_>, line: usize, column: usize) -> Result<(), Problem> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let quoted = style != ScalarStyle::Plain;
                let weight = 1 + text.len() / 32;
                let value = scalar(text.into_owned(), quoted, tag.as_deref())
                    .map_err(|m| problem(line, m))?;
                self.complete(Node::new(line, column, value), anchor, (weight, weight), 1)
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), "seq").map_err(|m| problem(line, m))?;
                self.start(Node::new(line, column, Value::Seq(Vec::new())), anchor)
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), "map").map_err(|m| problem(line, m))?;
                self.start(Node::new(line, column, Value::Map(Vec::new())), anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(mut done) = self.open.pop() else {
                    return Ok(());
                };
                self.finish_mapping(&mut done.node)?;
                let height = done.height + 1;
                self.complete(done.node, done.anchor, (done.weight + 1, 1), height)
            }
            Event::Alias(id) => {
                let Some(a) = self.anchors.get(&id) else {
                    return Err(problem(line, "this alias refers to what it is part of"));
                };
                // The copy stands where the alias is: that is the line to mend.
                let mut node = a.node.clone();
                (node.line, node.column) = (line, column);
                let (weight, height) = (a.weight, a.height);
                self.complete(node, 0, (weight, weight), height)
            }
            Event::DocumentEnd => {
                // An anchor ends with its document.
                self.anchors.clear();
                Ok(())
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {
                Ok(())
            }
        }
    }

    fn start(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
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
        });
        Ok(())
    }

    /// Puts a whole node where it belongs. `weight` is the node's with all that
    /// is in it, `added` what of it was not counted yet.
    fn complete(
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

    /// Reports duplicate keys and carries out merges.
    fn finish_mapping(&mut self, node: &mut Node) -> Result<(), Problem> {
        let Value::Map(entries) = &mut node.value else {
            return Ok(());
        };
        let path = self.path();
        let mut first: HashMap<String, usize> = HashMap::with_capacity(entries.len());
        let mut merges = Vec::new();
        for (key, value) in std::mem::take(entries) {
            if let Some(line) = first.get(&key.name) {
                let message = format!("set twice: first on line {line}");
                self.problems.push(Problem {
                    field: path.key(&key.name).to_string(),
                    ..problem(key.line, message)
                });
                continue;
            }
            first.insert(key.name.clone(), key.line);
            if key.name == "<<" {
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

fn check_tag(tag: Option<&Tag>, expected: &str) -> Result<(), String> {
    match tag {
        None => Ok(()),
        Some(t) if t.is_yaml_core_schema() && t.suffix == expected => Ok(()),
        Some(t) => Err(unknown_tag(t)),
    }
}

fn unknown_tag(tag: &Tag) -> String {
    format!("the tag !{} means nothing here; leave it out", tag.suffix)
}

fn scalar(text: String, quoted: bool, tag: Option<&Tag>) -> Result<Value, String> {
    let Some(tag) = tag else {
        return Ok(if quoted {
            Value::Str(text)
        } else {
            resolve(text)
        });
    };
    // "!" alone is YAML's own mark for "this is text".
    if tag.handle.is_empty() && tag.suffix == "!" {
        return Ok(Value::Str(text));
    }
    if !tag.is_yaml_core_schema() {
        return Err(unknown_tag(tag));
    }
    let value = resolve(text.clone());
    match (tag.suffix.as_str(), value) {
        ("str", _) => Ok(Value::Str(text)),
        ("int", v @ Value::Int(..))
        | ("bool", v @ Value::Bool(..))
        | ("null", v @ Value::Null)
        | ("float", v @ Value::Float(..)) => Ok(v),
        ("float", Value::Int(i, t)) => Ok(Value::Float(i as f64, t)),
        ("int" | "bool" | "null" | "float", _) => Err(format!(
            "{text:?} is not what its tag !!{} says",
            tag.suffix
        )),
        _ => Err(unknown_tag(tag)),
    }
}

/// What a plain scalar means to kubectl.
fn resolve(text: String) -> Value {
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Value::Bool(true, text);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false, text);
        }
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN, text),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Value::Float(f64::INFINITY, text);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY, text),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Value::Str(text);
    }
    if let Some(i) = parse_int(&text) {
        return Value::Int(i, text);
    }
    match parse_float(&text) {
        Some(f) => Value::Float(f, text),
        None => Value::Str(text),
    }
}

fn parse_int(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let digits = digits.replace('_', "");
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits.as_str()),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    // Beyond 64 bits it is a floating-point number to kubectl too.
    if value > i128::from(u64::MAX) {
        return None;
    }
    Some(if negative { -value } else { value })
}

fn parse_float(text: &str) -> Option<f64> {
    let text = text.replace('_', "");
    let body = text.strip_prefix(['+', '-']).unwrap_or(&text);
    let (mantissa, exponent) = match body.split_once(['e', 'E']) {
        Some((m, e)) => (m, Some(e.strip_prefix(['+', '-']).unwrap_or(e))),
        None => (body, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty())
        || !all_digits(whole)
        || !all_digits(fraction)
        || exponent.is_some_and(|e| e.is_empty() || !all_digits(e))
    {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
#[path = "yaml_tests.rs"]
mod tests;
