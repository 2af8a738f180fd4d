//! Reads a template.

use serde_json::Value;

use super::{Comparison, MAX_DEPTH, Operand, Part, Step};
use crate::{Error, Result};

pub(super) fn parse(text: &str) -> Result<Vec<Part>> {
    let mut p = Parser {
        text,
        at: 0,
        depth: 0,
    };
    let (parts, ended) = p.template()?;
    match ended {
        true => Err(p.wrong("an {end} without a {range}")),
        false => Ok(parts),
    }
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
