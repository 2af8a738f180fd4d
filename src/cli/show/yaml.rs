//! Prints JSON values as YAML 1.2 in block style, as kubectl does: lists at
//! their key's own depth, plain scalars where they read back as strings under
//! YAML 1.1 too (`no`, `1e3` and `0x10` are quoted), `|` for text of several
//! lines.

use serde_json::Value;

use crate::plain::turns;

/// The document with its last newline.
pub(crate) fn emit(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => mapping(&mut out, value, 0),
        Value::Array(list) if !list.is_empty() => sequence(&mut out, value, 0),
        _ => {
            scalar(&mut out, value, 1);
        }
    }
    out
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

/// `depth` is where the keys stand. The first key may follow a `- ` already.
fn mapping(out: &mut String, value: &Value, depth: usize) {
    for (i, (key, v)) in value.as_object().into_iter().flatten().enumerate() {
        if i > 0 || out.ends_with('\n') || out.is_empty() {
            indent(out, depth);
        }
        match text_form(key) {
            Form::Plain => out.push_str(key),
            // A key of several lines cannot be a block scalar.
            _ => double_quoted(out, key),
        }
        out.push(':');
        match v {
            Value::Object(m) if !m.is_empty() => {
                out.push('\n');
                mapping(out, v, depth + 1);
            }
            Value::Array(l) if !l.is_empty() => {
                out.push('\n');
                sequence(out, v, depth);
            }
            _ => {
                out.push(' ');
                scalar(out, v, depth + 1);
            }
        }
    }
}

/// `depth` is where the dashes stand.
fn sequence(out: &mut String, value: &Value, depth: usize) {
    for (i, v) in value.as_array().into_iter().flatten().enumerate() {
        if i > 0 || out.ends_with('\n') || out.is_empty() {
            indent(out, depth);
        }
        out.push_str("- ");
        match v {
            Value::Object(m) if !m.is_empty() => mapping(out, v, depth + 1),
            Value::Array(l) if !l.is_empty() => sequence(out, v, depth + 1),
            _ => scalar(out, v, depth + 1),
        }
    }
}

/// A leaf and its line's end; `depth` is where a block scalar's text stands.
fn scalar(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::String(s) => match text_form(s) {
            Form::Plain => out.push_str(s),
            Form::Single => {
                out.push('\'');
                out.push_str(&s.replace('\'', "''"));
                out.push('\'');
            }
            Form::Double => double_quoted(out, s),
            Form::Block => return block(out, s, depth),
        },
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        other => out.push_str(&other.to_string()),
    }
    out.push('\n');
}

fn block(out: &mut String, s: &str, depth: usize) {
    let body = s.trim_end_matches('\n');
    let chomp = match s.len() - body.len() {
        0 => "-",
        1 => "",
        _ => "+",
    };
    out.push('|');
    out.push_str(chomp);
    out.push('\n');
    for line in s.strip_suffix('\n').unwrap_or(s).split('\n') {
        if !line.is_empty() {
            indent(out, depth);
            out.push_str(line);
        }
        out.push('\n');
    }
}

/// As go-yaml chooses: double quotes for what would be something else than text
/// or needs an escape, single ones for what would be punctuation.
enum Form {
    Plain,
    Single,
    Double,
    Block,
}

fn text_form(s: &str) -> Form {
    let printable = |c: char| {
        matches!(c, '\t' | '\n' | ' '..='~' | '\u{a1}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}')
            && !matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{ad}')
            && !turns(c)
    };
    if !s.chars().all(printable) {
        return Form::Double;
    }
    if s.contains('\n') {
        // A first line that is blank or begins with a blank would need an
        // indentation indicator; lines that end in blanks read badly, and so do tabs.
        let odd =
            s.starts_with([' ', '\n']) || s.contains('\t') || s.lines().any(|l| l.ends_with(' '));
        return if odd { Form::Double } else { Form::Block };
    }
    if is_plain(s) {
        Form::Plain
    } else if s.is_empty() || s.contains('\t') || reads_as_something_else(s) {
        Form::Double
    } else {
        Form::Single
    }
}

fn is_plain(s: &str) -> bool {
    let bytes = s.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if b" \t".contains(first) || b" \t:".contains(last) {
        return false;
    }
    if b",[]{}#&*!|>'\"%@`=".contains(first) {
        return false;
    }
    if b"-?:".contains(first) && bytes.get(1).is_none_or(|b| *b == b' ') {
        return false;
    }
    if s.starts_with("---") || s.starts_with("...") {
        return false;
    }
    if s.contains(": ") || s.contains(" #") || s.contains('\t') {
        return false;
    }
    !reads_as_something_else(s)
}

/// What YAML 1.1 or 1.2 takes for null, a boolean, a number, a time or a merge.
fn reads_as_something_else(s: &str) -> bool {
    const WORDS: &[&str] = &[
        "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", "<<", ".nan", ".inf",
        "-.inf", "+.inf",
    ];
    if WORDS.iter().any(|w| w.eq_ignore_ascii_case(s)) {
        return true;
    }
    let unsigned = s.trim_start_matches(['-', '+']);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return false;
    }
    // Numbers in every base, sexagesimals and dates: digits and what may stand
    // between them. An IP address or a version has two dots and is none.
    let number = unsigned.parse::<f64>().is_ok()
        || unsigned.replace('_', "").parse::<f64>().is_ok()
        || (unsigned.starts_with(['0'])
            && unsigned.len() > 2
            && unsigned[1..].starts_with(['x', 'X', 'o', 'b'])
            && unsigned[2..]
                .bytes()
                .all(|b| b.is_ascii_hexdigit() || b == b'_'));
    let sexagesimal = unsigned.contains(':')
        && unsigned
            .bytes()
            .all(|b| b.is_ascii_digit() || b":._".contains(&b));
    let date = unsigned.len() >= 8
        && unsigned.as_bytes()[..4].iter().all(u8::is_ascii_digit)
        && unsigned.as_bytes()[4] == b'-';
    number || sexagesimal || date
}

fn double_quoted(out: &mut String, s: &str) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            '\x1b' => out.push_str("\\e"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0b' => out.push_str("\\v"),
            '\x0c' => out.push_str("\\f"),
            '\u{85}' => out.push_str("\\N"),
            '\u{a0}' => out.push_str("\\_"),
            '\u{2028}' => out.push_str("\\L"),
            '\u{2029}' => out.push_str("\\P"),
            ' '..='~' | '\u{a1}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}'
                if !turns(c) && !matches!(c, '\u{feff}' | '\u{ad}') =>
            {
                out.push(c);
            }
            c if u32::from(c) <= 0xff => out.push_str(&format!("\\x{:02X}", u32::from(c))),
            c if u32::from(c) <= 0xffff => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push_str(&format!("\\U{:08X}", u32::from(c))),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use saphyr_parser::{Event, Parser, ScalarStyle};
    use serde_json::{Map, json};

    use super::*;

    /// Reads a document back with the YAML 1.2 core schema.
    fn read(text: &str) -> Value {
        let mut events = Parser::new_from_str(text)
            .map(|e| e.expect(text).0)
            .filter(|e| !matches!(e, Event::StreamStart | Event::DocumentStart(_)))
            .collect::<Vec<_>>()
            .into_iter();
        let first = events.next().unwrap();
        node(first, &mut events)
    }

    fn node<'a>(e: Event<'a>, rest: &mut impl Iterator<Item = Event<'a>>) -> Value {
        match e {
            Event::Scalar(s, style, ..) => {
                if !matches!(style, ScalarStyle::Plain) {
                    return Value::String(s.into_owned());
                }
                match &*s {
                    "null" | "" | "~" => Value::Null,
                    "true" => true.into(),
                    "false" => false.into(),
                    _ => serde_json::from_str(&s)
                        .unwrap_or_else(|_| Value::String(s.clone().into_owned())),
                }
            }
            Event::SequenceStart(..) => {
                let mut list = vec![];
                loop {
                    match rest.next().unwrap() {
                        Event::SequenceEnd => return Value::Array(list),
                        e => list.push(node(e, rest)),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut map = Map::new();
                loop {
                    match rest.next().unwrap() {
                        Event::MappingEnd => return Value::Object(map),
                        e => {
                            let Value::String(key) = node(e, rest) else {
                                panic!("a key that is no string");
                            };
                            let e = rest.next().unwrap();
                            map.insert(key, node(e, rest));
                        }
                    }
                }
            }
            e => panic!("{e:?}"),
        }
    }

    #[test]
    fn looks_like_kubectl() {
        let v = json!({
            "a": "x", "e": {}, "l": [{"k": 1, "m": ["p", {"q": "r"}]}, [], [1, 2], "s"],
            "m": {"deep": {"er": null}, "n": 1}, "t": "one\ntwo\n",
        });
        assert_eq!(
            emit(&v),
            "a: x\ne: {}\nl:\n- k: 1\n  m:\n  - p\n  - q: r\n- []\n- - 1\n  - 2\n- s\n\
             m:\n  deep:\n    er: null\n  \"n\": 1\nt: |\n  one\n  two\n"
        );
    }

    #[test]
    fn every_text_reads_back_as_itself() {
        let texts = [
            "",
            " ",
            "a",
            "a b",
            " a",
            "a ",
            "a: b",
            "a:b",
            "a #b",
            "a#b",
            "#a",
            "- a",
            "-a",
            "-",
            "--- a",
            "...",
            "? x",
            "?x",
            ":",
            ":x",
            "x:",
            "true",
            "True",
            "no",
            "Yes",
            "on",
            "y",
            "null",
            "~",
            "1",
            "-1",
            "+1",
            "1.5",
            "1e3",
            ".5",
            "5.",
            "0x10",
            "0o7",
            "0b1",
            "010",
            "1_000",
            "12:30",
            "1:2:3.5",
            "2026-01-02",
            "2026-01-02T03:04:05Z",
            "10.88.0.2",
            "v1.2.3",
            "1.2.3",
            "500m",
            "64Mi",
            "<<",
            "=",
            ".nan",
            ".inf",
            "-.inf",
            "\"q\"",
            "'q'",
            "it's",
            "a\"b",
            "[a]",
            "{a}",
            "a,b",
            "&a",
            "*a",
            "!a",
            "|",
            ">",
            "%a",
            "@a",
            "`a",
            "a\nb",
            "a\nb\n",
            "a\n\nb\n\n",
            "\n",
            "\na",
            "a\n",
            " a\nb",
            "a \nb",
            "\ta\nb",
            "a\tb",
            "\x1b[31m",
            "\0",
            "\u{7f}",
            "\u{85}",
            "é",
            "日本",
            "🦀",
            "\u{feff}x",
            "\u{2028}",
            "a\u{202e}b",
            "\u{9b}2J",
            "a\r\nb",
            "back\\slash",
            "back\\slash\n",
            "#!/bin/sh\necho \"$A\": {}\n",
            "a\n  indented\nb",
            "key: |\n  v\n",
            "--- \nx",
            "a\n---\nb\n",
            "a\n...\nb\n",
        ];
        for t in texts {
            for v in [
                json!(t),
                json!({ "k": t }),
                json!([t]),
                json!({"k": [{ "j": t }]}),
                json!({"k": {"j": t, "z": 1}}),
                json!([[t, 1]]),
            ] {
                let y = emit(&v);
                assert_eq!(read(&y), v, "{y}");
            }
            let mut m = Map::new();
            m.insert(t.to_owned(), json!(1));
            let v = Value::Object(m);
            let y = emit(&v);
            assert_eq!(read(&y), v, "{y}");
        }
    }

    #[test]
    fn other_leaves() {
        for v in [
            json!(null),
            json!(true),
            json!(-5),
            json!(1.5),
            json!([]),
            json!({}),
        ] {
            assert_eq!(read(&emit(&json!({ "k": v }))), json!({ "k": v }));
        }
    }
}
