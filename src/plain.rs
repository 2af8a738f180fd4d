//! Text that a manifest, an image or a container has written, for a person's terminal, in JSON
//! for a program; and text of ours for roff.

use std::borrow::Cow;

/// Takes `ESC [ ... m` out and spells other control characters as JSON does, lines
/// and tabs excepted: what comes from a manifest or a container's status must not
/// paint, move or answer for the reader's terminal.
pub(crate) fn strip_styles(s: &str) -> String {
    let harmless = |c: char| !(c.is_control() || turns(c)) || matches!(c, '\n' | '\t');
    if s.chars().all(harmless) {
        return s.to_owned();
    }
    let mut out = String::with_capacity(s.len());
    let mut chars = s.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            if chars.peek() == Some(&'[') {
                chars.next();
                while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
        } else if harmless(c) {
            out.push(c);
        } else {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        }
    }
    out
}

/// Characters of a JSON document that JSON leaves as they are and a terminal obeys (DEL, the
/// control characters U+0080 to U+009F, those that turn the direction of reading), as escapes.
/// Outside of strings JSON has none of them.
pub(crate) fn escape_json(s: &str) -> Cow<'_, str> {
    let harmless = |c: char| !(c.is_control() || turns(c)) || c.is_ascii_control() && c != '\x7f';
    if s.chars().all(harmless) {
        return Cow::Borrowed(s);
    }
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        match harmless(c) {
            true => out.push(c),
            false => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    Cow::Owned(out)
}

/// Whether it changes the order in which the rest of a line is read.
pub(crate) fn turns(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text as roff shows it: groff_char(7), groff(7), "Control characters".
pub(crate) fn roff(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        match line.starts_with(['.', '\'']) {
            true => format!("\\&{line}"),
            false => line,
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_its_meaning() {
        let value =
            serde_json::json!({"a\u{9b}": "\x1b[2J\u{85}\x7f\u{9f}\u{a0}\u{202e}\u{1f600}\n"});
        let text = format!("{value:#}\n");
        let escaped = escape_json(&text);
        let raw = |c: &char| (c.is_control() && *c != '\n') || turns(*c);
        assert_eq!(escaped.chars().find(raw), None, "{escaped}");
        assert!(escaped.contains(r"\u009b"), "{escaped}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&escaped).unwrap(),
            value
        );
        assert!(matches!(escape_json("{\n\t}"), Cow::Borrowed(_)));
    }

    #[test]
    fn text_for_roff() {
        assert_eq!(roff("a-b\\c\n.d\n'e"), "a\\-b\\ec\n\\&.d\n\\&'e");
    }

    #[test]
    fn styles_are_taken_out() {
        assert_eq!(strip_styles("a\x1b[1;31mb\x1b[0mc\x1bd\x1b["), "abcd");
        assert_eq!(strip_styles("a\r\u{9b}2J\tb\n"), "a\\u000d\\u009b2J\tb\n");
        assert_eq!(strip_styles("a\u{202e}b\u{2066}"), "a\\u202eb\\u2066");
    }
}
