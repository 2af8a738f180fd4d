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
        let mut p = Parser {
            text,
            at: 0,
            depth: 0,
        };
        let (parts, ended) = p.template()?;
        if ended {
            return Err(p.wrong("an {end} without a {range}"));
        }
        Ok(Template(parts))
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

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.next();
        }
    }

    fn expect(&mut self, token: &str) -> Result<()> {
        self.blanks();
        if self.eat(token) {
            return Ok(());
        }
        Err(self.wrong(&format!("{token:?} is missing")))
    }

    fn wrong(&self, what: &str) -> Error {
        Error::usage(format!(
            "jsonpath {:?}: {what} at character {}",
            self.text,
            self.text.get(..self.at).map_or(0, |t| t.chars().count()) + 1
        ))
    }

    fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.wrong("nested too deeply"));
        }
        Ok(())
    }

    /// Up to the end of the text, or to an `{end}`: then the second is true.
    fn template(&mut self) -> Result<(Vec<Part>, bool)> {
        self.deeper()?;
        let mut parts = vec![];
        let mut ended = false;
        while let Some(c) = self.peek() {
            if c != '{' {
                let length = self.rest().find('{').unwrap_or(self.rest().len());
                parts.push(Part::Text(self.rest()[..length].to_owned()));
                self.at += length;
                continue;
            }
            self.next();
            if self.action(&mut parts)? {
                ended = true;
                break;
            }
        }
        self.depth -= 1;
        Ok((parts, ended))
    }

    /// After a `{`, to its `}`; true for `end`.
    fn action(&mut self, parts: &mut Vec<Part>) -> Result<bool> {
        let before = parts.len();
        loop {
            self.blanks();
            match self.peek() {
                None => return Err(self.wrong("\"}\" is missing")),
                Some('}') => {
                    self.next();
                    if parts.len() == before {
                        // `{}`: the object itself.
                        parts.push(Part::Path(vec![]));
                    }
                    return Ok(false);
                }
                Some('"' | '\'') => parts.push(Part::Text(self.quoted()?)),
                _ if self.keyword("end") => {
                    self.expect("}")?;
                    return Ok(true);
                }
                _ if self.keyword("range") => {
                    self.blanks();
                    let path = self.path()?;
                    self.expect("}")?;
                    // Without an {end} it goes on to the end of the template.
                    let (body, _) = self.template()?;
                    parts.push(Part::Range(path, body));
                    return Ok(false);
                }
                _ if self.keyword("true") => parts.push(Part::Text("true".into())),
                _ if self.keyword("false") => parts.push(Part::Text("false".into())),
                Some('0'..='9' | '-' | '+') => parts.push(Part::Text(self.number()?)),
                _ => {
                    let path = self.path()?;
                    match parts[before..].last_mut() {
                        Some(Part::Path(steps)) => steps.extend(path),
                        _ => parts.push(Part::Path(path)),
                    }
                }
            }
        }
    }

    fn keyword(&mut self, word: &str) -> bool {
        let follows = self.rest().strip_prefix(word).map(|r| r.chars().next());
        match follows {
            Some(Some(c)) if c.is_whitespace() || c == '}' => self.eat(word),
            _ => false,
        }
    }

    fn quoted(&mut self) -> Result<String> {
        let Some(quote) = self.next() else {
            return Err(self.wrong("a quote is missing"));
        };
        let mut out = String::new();
        loop {
            match self.next() {
                None => return Err(self.wrong("a quote is not closed")),
                Some(c) if c == quote => return Ok(out),
                Some('\\') => out.push(self.escape()?),
                Some(c) => out.push(c),
            }
        }
    }

    /// After a backslash in quotes: Go's escapes, as kubectl has them.
    fn escape(&mut self) -> Result<char> {
        let code = |p: &mut Self, digits: usize, radix: u32| {
            let text = p.rest().get(..digits).unwrap_or_default();
            let code = u32::from_str_radix(text, radix)
                .ok()
                .and_then(char::from_u32);
            let code = code.ok_or_else(|| {
                p.wrong(&format!(
                    "{digits} digits of a character's number are missing"
                ))
            })?;
            p.at += digits;
            Ok(code)
        };
        match self.next() {
            Some('n') => Ok('\n'),
            Some('t') => Ok('\t'),
            Some('r') => Ok('\r'),
            Some('a') => Ok('\x07'),
            Some('b') => Ok('\x08'),
            Some('f') => Ok('\x0c'),
            Some('v') => Ok('\x0b'),
            Some('x') => code(self, 2, 16),
            Some('u') => code(self, 4, 16),
            Some('U') => code(self, 8, 16),
            Some('0'..='3') => {
                self.at -= 1;
                code(self, 3, 8)
            }
            Some(c) => Ok(c),
            None => Err(self.wrong("a quote is not closed")),
        }
    }

    /// A number as kubectl prints it: as it stands, without a plus sign.
    fn number(&mut self) -> Result<String> {
        let length = self
            .rest()
            .find(|c: char| c.is_whitespace() || c == '}')
            .unwrap_or(self.rest().len());
        let text = self.rest()[..length].trim_start_matches('+').to_owned();
        if text.parse::<f64>().is_err() || text.contains(|c: char| c.is_ascii_alphabetic()) {
            return Err(self.wrong("a path begins with a dot; here is none"));
        }
        self.at += length;
        Ok(text)
    }

    fn path(&mut self) -> Result<Vec<Step>> {
        let begin = self.at;
        let mut steps = vec![];
        if self.eat("$") {
            steps.push(Step::Root);
        } else {
            self.eat("@");
        }
        loop {
            if self.eat("..") {
                steps.push(Step::Descend);
                if self.peek() != Some('[') {
                    steps.push(self.name()?);
                }
            } else if self.eat(".") {
                // `{.}` is the value itself, and `.[0]` is `[0]`.
                match self.peek() {
                    None | Some('}' | '[' | ')' | ' ') => {}
                    _ => steps.push(self.name()?),
                }
            } else if self.eat("[") {
                steps.push(self.bracket()?);
            } else {
                break;
            }
        }
        if self.at == begin {
            return Err(self.wrong("a path begins with a dot; here is none"));
        }
        Ok(steps)
    }

    fn name(&mut self) -> Result<Step> {
        if self.eat("*") {
            return Ok(Step::Wildcard);
        }
        let mut name = String::new();
        while let Some(c) = self.peek() {
            if c == '\\' {
                // `.metadata.annotations.a\.b/c`: the dot belongs to the key.
                self.next();
                name.extend(self.next());
            } else if c.is_whitespace() || ".[]{}()=!<>,|\"'".contains(c) {
                break;
            } else {
                name.push(c);
                self.next();
            }
        }
        if name.is_empty() {
            return Err(self.wrong("a field's name is missing"));
        }
        Ok(Step::Field(name))
    }

    fn bracket(&mut self) -> Result<Step> {
        self.blanks();
        if self.eat("?") {
            self.expect("(")?;
            let filter = self.filter()?;
            self.expect(")")?;
            self.expect("]")?;
            return Ok(filter);
        }
        let mut items = vec![];
        loop {
            self.blanks();
            items.push(match self.peek() {
                Some('\'' | '"') => Step::Field(self.quoted()?),
                Some('*') => {
                    self.next();
                    Step::Wildcard
                }
                _ => self.position()?,
            });
            self.blanks();
            if !self.eat(",") {
                break;
            }
        }
        self.expect("]")?;
        match items.pop() {
            Some(one) if items.is_empty() => Ok(one),
            last => {
                items.extend(last);
                Ok(Step::Union(items))
            }
        }
    }

    fn position(&mut self) -> Result<Step> {
        let from = self.integer()?;
        if !self.eat(":") {
            return from
                .map(Step::Index)
                .ok_or_else(|| self.wrong("an index, a name in quotes or * is missing"));
        }
        let to = self.integer()?;
        let by = if self.eat(":") { self.integer()? } else { None };
        match by.unwrap_or(1) {
            by @ 1.. => Ok(Step::Slice { from, to, by }),
            _ => Err(self.wrong("the step of a slice must be positive")),
        }
    }

    fn integer(&mut self) -> Result<Option<i64>> {
        let rest = self.rest();
        let sign = usize::from(rest.starts_with('-'));
        let digits = rest[sign..].bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return Ok(None);
        }
        let number = rest[..sign + digits]
            .parse()
            .map_err(|_| self.wrong("the number is too large"))?;
        self.at += sign + digits;
        Ok(Some(number))
    }

    fn filter(&mut self) -> Result<Step> {
        self.deeper()?;
        let left = self.operand()?;
        self.blanks();
        let comparison = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ]
        .into_iter()
        .find(|(token, _)| self.eat(token))
        .map(|(_, c)| c);
        let test = match comparison {
            Some(c) => {
                self.blanks();
                Some((c, self.operand()?))
            }
            None => None,
        };
        self.depth -= 1;
        Ok(Step::Filter(left, test))
    }

    fn operand(&mut self) -> Result<Operand> {
        self.blanks();
        match self.peek() {
            Some('\'' | '"') => Ok(Operand::Literal(Value::String(self.quoted()?))),
            Some('@' | '$' | '.' | '[') => Ok(Operand::Path(self.path()?)),
            _ => {
                let length = self
                    .rest()
                    .find(|c: char| c.is_whitespace() || ")=!<>".contains(c))
                    .unwrap_or(self.rest().len());
                let word = &self.rest()[..length];
                let value = serde_json::from_str(word)
                    .map_err(|_| self.wrong("a path, a number or a text in quotes is missing"))?;
                self.at += length;
                Ok(Operand::Literal(value))
            }
        }
    }
}

#[cfg(test)]
#[path = "jsonpath_tests.rs"]
mod tests;
