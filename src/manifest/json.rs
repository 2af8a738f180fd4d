//! JSON to trees: RFC 8259, and several objects in one stream, as `jq -c` and two
//! `kubectl get -o json` after each other write them.
//!
//! JSON is no part of the YAML that manifests are read as: YAML has no surrogate pairs
//! (`"\ud83d\ude00"`, which Python writes for an emoji) and separates documents by
//! `---` alone. As with kubectl, a source that begins with `{` is JSON if it can be
//! read as such, and YAML otherwise, whose flow mappings begin in the same way.

use super::build::{Builder, problem};
use super::tree::Value;
use super::yaml::resolve;
use crate::error::Problem;

/// Why a text is no JSON, and where.
#[derive(Debug)]
pub(super) enum NotJson {
    Syntax(Problem),
    /// It is JSON, but more or deeper than is taken.
    TooMuch(Problem),
}

/// Gives every object of the stream to `b`. Between two there may be `---`.
pub(super) fn read_stream(text: &str, b: &mut Builder) -> Result<(), NotJson> {
    let mut r = Reader {
        text,
        at: 0,
        line: 1,
        line_start: 0,
        b,
    };
    loop {
        r.skip_blanks();
        while r.at == r.line_start && r.rest().starts_with("---") {
            r.at += 3;
            r.skip_blanks();
        }
        match r.peek() {
            None => return Ok(()),
            Some(b'{') => r.value()?,
            Some(_) => return Err(r.error("an object begins with {")),
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    line_start: usize,
    b: &'a mut Builder,
}

type Read<T = ()> = Result<T, NotJson>;

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// 1-based, in characters.
    fn column(&self) -> usize {
        1 + self.text[self.line_start..self.at].chars().count()
    }

    fn error(&self, what: impl std::fmt::Display) -> NotJson {
        let column = self.column();
        NotJson::Syntax(problem(
            self.line,
            format!("not valid JSON: column {column}: {what}"),
        ))
    }

    fn skip_blanks(&mut self) {
        while let Some(c @ (b' ' | b'\t' | b'\r' | b'\n')) = self.peek() {
            self.at += 1;
            if c == b'\n' {
                self.line += 1;
                self.line_start = self.at;
            }
        }
    }

    /// Whether this character comes next; then it is passed.
    fn take(&mut self, c: u8) -> bool {
        let there = self.peek() == Some(c);
        self.at += usize::from(there);
        there
    }

    fn scalar(&mut self, value: Value, (line, column): (usize, usize)) -> Read {
        self.b.scalar(value, line, column).map_err(NotJson::TooMuch)
    }

    /// A value; recursion is bounded by the builder's depth.
    fn value(&mut self) -> Read {
        self.skip_blanks();
        let place = (self.line, self.column());
        match self.peek() {
            Some(b'{') => self.object(place),
            Some(b'[') => self.array(place),
            Some(b'"') => {
                let text = self.string()?;
                self.scalar(Value::Str(text), place)
            }
            Some(b'-' | b'0'..=b'9') => {
                let text = self.number()?;
                self.scalar(resolve(text.to_owned()), place)
            }
            _ => {
                for word in ["true", "false", "null"] {
                    if self.rest().starts_with(word) {
                        self.at += word.len();
                        return self.scalar(resolve(word.to_owned()), place);
                    }
                }
                Err(self.error("a value is missing"))
            }
        }
    }

    fn object(&mut self, (line, column): (usize, usize)) -> Read {
        self.at += 1;
        let map = Value::Map(Vec::new());
        self.b.open(map, line, column).map_err(NotJson::TooMuch)?;
        self.skip_blanks();
        if !self.take(b'}') {
            loop {
                self.skip_blanks();
                let place = (self.line, self.column());
                if self.peek() != Some(b'"') {
                    return Err(self.error("a key in quotes is missing"));
                }
                let key = self.string()?;
                self.scalar(Value::Str(key), place)?;
                self.skip_blanks();
                if !self.take(b':') {
                    return Err(self.error("a colon is missing"));
                }
                self.value()?;
                self.skip_blanks();
                match (self.take(b','), self.take(b'}')) {
                    (false, true) => break,
                    (true, false) => {}
                    _ => return Err(self.error("a comma or } is missing")),
                }
            }
        }
        self.b.close().map_err(NotJson::TooMuch)
    }

    fn array(&mut self, (line, column): (usize, usize)) -> Read {
        self.at += 1;
        let list = Value::Seq(Vec::new());
        self.b.open(list, line, column).map_err(NotJson::TooMuch)?;
        self.skip_blanks();
        if !self.take(b']') {
            loop {
                self.value()?;
                self.skip_blanks();
                match (self.take(b','), self.take(b']')) {
                    (false, true) => break,
                    (true, false) => {}
                    _ => return Err(self.error("a comma or ] is missing")),
                }
            }
        }
        self.b.close().map_err(NotJson::TooMuch)
    }

    fn number(&mut self) -> Read<&'a str> {
        let text = self.rest();
        let end = text.find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'));
        let text = &text[..end.unwrap_or(text.len())];
        if !is_number(text) {
            return Err(self.error(format!("{text} is no number")));
        }
        self.at += text.len();
        Ok(text)
    }

    fn string(&mut self) -> Read<String> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = self.rest();
            let end = rest.find(|c: char| matches!(c, '"' | '\\') || c < ' ');
            let Some(end) = end else {
                return Err(self.error("a string does not end"));
            };
            out.push_str(&rest[..end]);
            self.at += end;
            match rest.as_bytes()[end] {
                b'"' => {
                    self.at += 1;
                    return Ok(out);
                }
                b'\\' => out.push(self.escape()?),
                _ => return Err(self.error("a string has a line break or a tab in it")),
            }
        }
    }

    fn escape(&mut self) -> Read<char> {
        let rest = self.rest();
        let c = match rest.as_bytes().get(1) {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(*c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err(self.error("an escape that JSON does not have")),
        };
        self.at += 2;
        Ok(c)
    }

    /// `\uXXXX`, or two of them for a character beyond 16 bits.
    fn unicode(&mut self) -> Read<char> {
        let unit = |text: &str| -> Option<u16> {
            let digits = text.strip_prefix("\\u")?.get(..4)?;
            // from_str_radix takes a sign.
            let hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
            hex.then(|| u16::from_str_radix(digits, 16).ok())?
        };
        let rest = self.rest();
        let Some(first) = unit(rest) else {
            return Err(self.error("\\u needs four hexadecimal digits"));
        };
        let units = match (first, unit(&rest[6..])) {
            (0xd800..=0xdbff, Some(second)) => vec![first, second],
            _ => vec![first],
        };
        match char::decode_utf16(units.iter().copied()).next() {
            Some(Ok(c)) => {
                self.at += 6 * c.len_utf16();
                Ok(c)
            }
            _ => Err(self.error(format!(
                "\\u{first:04x} is half of a character; the other half is missing"
            ))),
        }
    }
}

/// RFC 8259, 6.
fn is_number(text: &str) -> bool {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((m, e)) => (m, Some(e.strip_prefix(['+', '-']).unwrap_or(e))),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((w, f)) => (w, Some(f)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::yaml::parse_documents;

    fn one(text: &str) -> crate::manifest::tree::Node {
        let (mut docs, problems) = parse_documents(text.as_bytes());
        assert_eq!((docs.len(), problems), (1, vec![]), "{text}");
        docs.remove(0)
    }

    #[test]
    fn strings_with_every_escape() {
        let text = r#"{"a\u0062": "\ud83d\ude00 \u00e9\u20AC \"\\\/\b\f\n\r\t", "<<": "x"}"#;
        let node = one(text);
        let value = |key| node.get(key).unwrap().as_str().unwrap().to_owned();
        assert_eq!(value("ab"), "😀 é€ \"\\/\u{8}\u{c}\n\r\t");
        assert_eq!(value("<<"), "x");
    }

    #[test]
    fn numbers_and_words() {
        let node = one(r#"{"a": [0, -1, 1.5, 1e3, 18446744073709551615, true, false, null]}"#);
        let values: Vec<Value> = node
            .get("a")
            .unwrap()
            .items()
            .iter()
            .map(|n| n.value.clone())
            .collect();
        let want = [
            Value::Int(0, "0".into()),
            Value::Int(-1, "-1".into()),
            Value::Float(1.5, "1.5".into()),
            Value::Float(1000.0, "1e3".into()),
            Value::Int(u64::MAX.into(), u64::MAX.to_string()),
            Value::Bool(true, "true".into()),
            Value::Bool(false, "false".into()),
            Value::Null,
        ];
        assert_eq!(values, want);
        for bad in ["01", "1.", ".5", "+1", "-", "1e", "0x1", "--1"] {
            assert!(!is_number(bad), "{bad}");
        }
    }

    #[test]
    fn several_objects_in_a_stream() {
        for text in [
            "{\"a\": 1}{\"a\": 2}",
            "{\"a\": 1}\n{\"a\": 2}\n",
            "\u{feff}{\n\t\"a\": 1\n}\n\n{\n\t\"a\": 2\n}",
            "---\n{\"a\": 1}\n---\n---\n{\"a\": 2}\n---\n",
        ] {
            let (docs, problems) = parse_documents(text.as_bytes());
            assert_eq!(problems, [], "{text}");
            let values: Vec<_> = docs.iter().map(|d| d.get("a").unwrap().text()).collect();
            assert_eq!(values, [Some("1"), Some("2")], "{text}");
        }
    }

    #[test]
    fn lines_are_known() {
        let node = one("{\"a\":\n\n  {\"b\":\r\n 5}}");
        let b = node.get("a").unwrap().get("b").unwrap();
        assert_eq!((b.line, b.column), (4, 2));
        let (_, problems) = parse_documents(b"{\"a\": {\n\"b\": 1,\n\"b\": 2}}");
        assert_eq!(
            problems[0].to_string(),
            "3: a.b: set twice: first on line 2"
        );
    }

    #[test]
    fn flow_mappings_of_yaml_stay_yaml() {
        for text in [
            "{a: 1}",
            "{\"a\": b, c: yes}",
            "{\"a\": 1} # comment",
            "{\"a\": 'x'}\n---\nb: 1\n",
        ] {
            let (docs, problems) = parse_documents(text.as_bytes());
            assert!(
                problems.is_empty() && !docs.is_empty(),
                "{text}: {problems:?}"
            );
        }
    }

    #[test]
    fn faults_are_those_of_json() {
        for (text, want) in [
            (
                "{\"a\": 1",
                "1: not valid JSON: column 8: a comma or } is missing",
            ),
            (
                "{\"a\": 1,\n,}",
                "2: not valid JSON: column 1: a key in quotes is missing",
            ),
            (
                "{\"a\": \"\\ud83d\"}",
                "1: not valid JSON: column 8: \\ud83d is half of a character",
            ),
            ("{\"a\": \"\\ude00\\ud83d\"}", "half of a character"),
            ("{\"a\": \"\\u+123\"}", "four hexadecimal digits"),
            ("{\"a\": \"\\x\"}", "an escape that JSON does not have"),
            ("{\"a\": \"x", "a string does not end"),
            (
                "{\"a\": 1}\n}",
                "2: not valid JSON: column 1: an object begins with {",
            ),
        ] {
            let (_, problems) = parse_documents(text.as_bytes());
            let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
            assert!(all.len() == 1 && all[0].contains(want), "{text}: {all:?}");
        }
        let deep = format!("{{\"a\": {}1{}}}", "[".repeat(100), "]".repeat(100));
        let (_, problems) = parse_documents(deep.as_bytes());
        assert!(
            problems[0].message.contains("nested more than"),
            "{problems:?}"
        );
        let wide = format!("{{\"a\": [{}1]}}", "1,".repeat(300_000));
        let (_, problems) = parse_documents(wide.as_bytes());
        assert!(
            problems[0].message.contains("more than 200000"),
            "{problems:?}"
        );
    }
}
