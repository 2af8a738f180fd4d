//! Bytes to trees: YAML, or JSON, which [`super::json`] reads.
//!
//! The grammar is YAML 1.2's as `saphyr-parser` reads it. What a plain scalar
//! *means* is what kubectl's reader takes it for, because the same file must
//! mean the same here: `yes`, `no`, `on`, `off`, `y` and `n` are booleans, `0644`
//! is octal, `<<` merges. So `value: yes` for a string is found out and refused
//! with the mend, as on a cluster.

use std::borrow::Cow;

use k8s_openapi::ByteString;
use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::build::{Builder, problem};
use super::json::{self, NotJson};
use super::tree::{Node, Value};
use crate::error::Problem;

/// As much as the API server takes. A Secret's 1 MiB of data is longer in base64.
pub(super) const MAX_BYTES: usize = 3 << 20;

/// Reads every document of a source that is not empty. What was readable before
/// a fault of syntax is returned with the fault; duplicate keys do not end the
/// reading. The problems have no source set.
pub(super) fn parse_documents(bytes: &[u8]) -> (Vec<Node>, Vec<Problem>) {
    let checked = from_utf16(bytes);
    let checked = checked.and_then(|b| check_text(&b).map(|text| without_marks(text).into_owned()));
    let text = match &checked {
        Ok(text) => text.as_str(),
        Err(p) => return (Vec::new(), vec![p.clone()]),
    };
    let not_json = match read_json(text) {
        Ok(b) => return (b.documents, b.problems),
        Err(why) => why,
    };
    let b = read_yaml(text, not_json);
    (b.documents, b.problems)
}

fn read_yaml(text: &str, not_json: Option<Problem>) -> Builder {
    let mut mended = Cow::Borrowed(text);
    // Each try reads all of it, and a file has a few such lines at most.
    let mut tries = 100.min(1 + 8 * MAX_BYTES / text.len().max(1));
    loop {
        let mut b = Builder::default();
        let Some((line, info)) = read_events(&mut b, &mended) else {
            return b;
        };
        tries -= 1;
        if tries > 0
            && let Some(better) = without_tabs(&mended, line)
        {
            mended = Cow::Owned(better);
            continue;
        }
        let line = line_of_tab(&info, text, line);
        let p = not_json.unwrap_or_else(|| problem(line, syntax_message(&info, text, line)));
        b.problems.push(p);
        return b;
    }
}

/// Up to the first fault. One of syntax is returned, with its line.
fn read_events(b: &mut Builder, text: &str) -> Option<(usize, String)> {
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => {
                let start = span.start;
                if let Err(p) = b.on_event(event, start.line(), start.col() + 1) {
                    b.problems.push(p);
                    return None;
                }
            }
            Err(e) => return Some((e.marker().line(), e.info().to_owned())),
        }
    }
    None
}

/// The text with blanks for the tabs between a key and its value on this line, which the
/// parser has refused. YAML and kubectl's reader take them.
fn without_tabs(text: &str, line: usize) -> Option<String> {
    let begin = match line.checked_sub(1)? {
        0 => 0,
        n => text.match_indices('\n').nth(n - 1)?.0 + 1,
    };
    let end = text[begin..].find('\n').map_or(text.len(), |n| begin + n);
    let at = begin + text[begin..end].find(":\t")? + 1;
    let tabs = text[at..end].len() - text[at..end].trim_start_matches(['\t', ' ']).len();
    let mut mended = text.to_owned();
    mended.replace_range(at..at + tabs, &" ".repeat(tabs));
    Some(mended)
}

/// Byte order marks where a file begins within the text: several files one after the other,
/// or one below a `---`.
fn without_marks(text: &str) -> Cow<'_, str> {
    const MARK: char = '\u{feff}';
    if !text.contains(MARK) {
        return Cow::Borrowed(text);
    }
    let mut begins = true;
    let lines = text.split_inclusive('\n').map(|line| {
        let bare = line.strip_prefix(MARK);
        let bare = bare.filter(|b| begins || b.starts_with("---"));
        let line = bare.unwrap_or(line);
        begins = line.trim_end() == "---" || (begins && line.trim().is_empty());
        line
    });
    Cow::Owned(lines.collect())
}

/// Reads a source that is JSON. Of one that is not, the error is why, if it was meant
/// to be: `{"` is how people begin JSON, `{a: b}` is YAML's alone.
fn read_json(text: &str) -> Result<Builder, Option<Problem>> {
    let first = text.trim_start();
    if !first.starts_with('{') && !first.starts_with("---") {
        return Err(None);
    }
    let mut b = Builder::default();
    match json::read_stream(text, &mut b) {
        Ok(()) => {}
        Err(NotJson::TooMuch(p)) => b.problems.push(p),
        Err(NotJson::Syntax(p)) => {
            let inside = first.strip_prefix('{').map(str::trim_start);
            return Err(inside.is_some_and(|i| i.starts_with('"')).then_some(p));
        }
    }
    Ok(b)
}

/// UTF-8, from UTF-16 too if a byte order mark says that it is that, as for kubectl:
/// PowerShell's `>` writes it.
fn from_utf16(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Problem> {
    let from: fn([u8; 2]) -> u16 = match bytes {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        _ => return Ok(Cow::Borrowed(bytes)),
    };
    let (pairs, rest) = bytes[2..].as_chunks::<2>();
    let mut text = String::with_capacity(pairs.len());
    for unit in char::decode_utf16(pairs.iter().map(|pair| from(*pair))) {
        match unit {
            Ok(c) => text.push(c),
            Err(_) => {
                let line = 1 + text.matches('\n').count();
                return Err(problem(line, "not UTF-16 text: half of a surrogate pair"));
            }
        }
    }
    match rest {
        [] => Ok(Cow::Owned(text.into_bytes())),
        _ => {
            let line = 1 + text.matches('\n').count();
            Err(problem(
                line,
                "not UTF-16 text: half a character at the end",
            ))
        }
    }
}

/// Files that are given in the place of a manifest, by how they begin.
pub(super) fn other_format(bytes: &[u8]) -> Option<&'static str> {
    const TAR: usize = 257;
    let begins = |magic: &[u8]| bytes.starts_with(magic);
    let start = bytes.trim_ascii_start();
    let tag = |name: &[u8]| {
        let head = start.get(..name.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(name))
    };
    Some(match bytes {
        _ if begins(b"\x1f\x8b") => {
            "this is compressed with gzip: of a manifest, give what gunzip -c FILE prints; an \
             image's archive is for carob load -i FILE"
        }
        _ if bytes.get(TAR..TAR + 5) == Some(b"ustar") => {
            "this is a tar archive, not a manifest; an image's archive is for carob load -i FILE"
        }
        _ if begins(b"PK\x03\x04") => "this is a zip archive: unpack the manifest from it",
        _ if begins(b"\x7fELF") => {
            "this is a program, not a manifest: name the YAML file, -f FILE; a program runs from an \
             image: carob run NAME --image IMAGE -- PROGRAM"
        }
        _ if tag(b"<!doctype html") || tag(b"<html") => {
            "this is a web page (HTML), not a manifest: download the file itself; a page of a \
             repository has a link `Raw`"
        }
        _ => return None,
    })
}

/// The text without its byte order mark, or why these bytes are no text.
fn check_text(bytes: &[u8]) -> Result<&str, Problem> {
    if let Some(other) = other_format(bytes) {
        return Err(problem(1, other));
    }
    if bytes.len() > MAX_BYTES {
        return Err(problem(
            0,
            format!(
                "{} bytes; a manifest may have at most {MAX_BYTES}: split it into several files",
                bytes.len()
            ),
        ));
    }
    if bytes.len() > 1 && bytes.iter().take(2).filter(|b| **b == 0).count() == 1 {
        let order = if bytes[0] == 0 { "BE" } else { "LE" };
        let why = format!(
            "this is UTF-16 without a byte order mark: save it as UTF-8 (iconv -f UTF-16{order} -t \
             UTF-8 FILE)"
        );
        return Err(problem(1, why));
    }
    let line_at = |end: usize| 1 + bytes[..end].iter().filter(|b| **b == b'\n').count();
    let text = std::str::from_utf8(bytes).map_err(|e| {
        problem(
            line_at(e.valid_up_to()),
            "not UTF-8 text: name the manifest itself, or save it as UTF-8 (iconv -f ISO-8859-1 -t \
             UTF-8 FILE)",
        )
    })?;
    let control = |c: &char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    if let Some((at, c)) = text.char_indices().find(|(_, c)| control(c)) {
        return Err(problem(
            line_at(at),
            format!("the control character U+{:04X} is not allowed", c as u32),
        ));
    }
    Ok(text)
}

impl Builder {
    fn on_event(&mut self, event: Event<'_>, line: usize, column: usize) -> Result<(), Problem> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let quoted = style != ScalarStyle::Plain;
                let weight = 1 + text.len() / 32;
                let value = scalar(text.into_owned(), quoted, tag.as_deref())
                    .map_err(|m| problem(line, m))?;
                let merges = !quoted && tag.is_none();
                if merges && value == Value::Str("<<".into()) {
                    self.note_merge();
                }
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
            Event::SequenceEnd | Event::MappingEnd => self.close(),
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
}

/// A plain text goes on in the lines below it. If one of them is indented with a tab, the
/// parser names the line where the text begins, which is not the one to mend.
fn line_of_tab(info: &str, text: &str, line: usize) -> usize {
    let indented = |l: &str| l.trim_start_matches(' ').starts_with('\t');
    let mut from = text.lines().skip(line.saturating_sub(1));
    match from.position(indented) {
        Some(n) if info.contains("found a tab") => line.max(1) + n,
        _ => line,
    }
}

/// The parser's own words, and the mend where the line shows the usual cause.
fn syntax_message(info: &str, text: &str, line: usize) -> String {
    let at = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let indent: String = at.chars().take_while(|c| c.is_whitespace()).collect();
    if indent.contains('\t') {
        format!("not valid YAML: {info}: the line is indented with a tab; use spaces")
    } else if [
        "mapping values are not allowed",
        "did not find expected key",
    ]
    .iter()
    .any(|i| info.contains(i))
        && let Some(above) = indent_above(text, line)
        && above != indent.len()
    {
        format!(
            "not valid YAML: {info}: is the line indented as its neighbours (this one: {} blanks, \
             the one above: {above})?",
            indent.len()
        )
    } else {
        format!("not valid YAML: {info}")
    }
}

/// Where the text of the last line above begins that has any. Of an item of a list that is
/// its first key, unless this line is an item too: `- name: a` begins at `name`.
fn indent_above(text: &str, line: usize) -> Option<usize> {
    let lines: Vec<&str> = text.lines().take(line).collect();
    let (this, above) = lines.split_last()?;
    let is_text = |l: &&&str| !l.trim().is_empty() && !l.trim_start().starts_with('#');
    let above = above.iter().rfind(is_text)?;
    let mut key = above.trim_start();
    if !this.trim_start().starts_with("- ") {
        while let Some(inside) = key.strip_prefix("- ") {
            key = inside.trim_start();
        }
    }
    Some(above.len() - key.len())
}

fn check_tag(tag: Option<&Tag>, expected: &str) -> Result<(), String> {
    match tag {
        None => Ok(()),
        Some(t) if t.is_yaml_core_schema() && t.suffix == expected => Ok(()),
        Some(t) => Err(unknown_tag(t)),
    }
}

fn unknown_tag(tag: &Tag) -> String {
    let mark = if tag.is_yaml_core_schema() { "!!" } else { "!" };
    format!(
        "the tag {mark}{} means nothing here; leave it out",
        tag.suffix
    )
}

/// What `!!binary` stands for; a manifest has no place for bytes that are no text.
fn binary(text: &str) -> Result<Value, String> {
    let packed: String = text.split_whitespace().collect();
    let bytes = serde_json::from_value::<ByteString>(packed.into());
    let text = bytes.map_err(|_| "!!binary: this is not base64".to_owned())?;
    let text = String::from_utf8(text.0);
    text.map(Value::Str)
        .map_err(|_| "!!binary: these bytes are not UTF-8 text".to_owned())
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
        ("binary", _) => binary(&text),
        ("int", v @ Value::Int(..))
        | ("bool", v @ Value::Bool(..))
        | ("null", v @ Value::Null)
        | ("float", v @ Value::Float(..)) => Ok(v),
        ("float", Value::Int(i, t)) => Ok(Value::Float(i as f64, t)),
        ("int" | "bool" | "null" | "float", _) => Err(format!(
            "the value is not what its tag !!{} says",
            tag.suffix
        )),
        _ => Err(unknown_tag(tag)),
    }
}

/// What a plain scalar means to kubectl.
pub(super) fn resolve(text: String) -> Value {
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
