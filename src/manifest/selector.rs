//! Label selectors, as `kubectl -l` takes them.
//!
//! A comma-separated list, all of which must hold: `k=v`, `k==v`, `k!=v`, `k`,
//! `!k`, `k in (a,b)`, `k notin (a,b)`. A key that is absent satisfies `!=` and
//! `notin`, as in Kubernetes.

use std::collections::BTreeMap;

use super::names;
use crate::{Error, Kind, Result};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
}

impl Selector {
    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|r| {
            let value = labels.get(&r.key);
            match &r.test {
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
                Test::In(values) => value.is_some_and(|v| values.contains(v)),
                Test::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
            }
        })
    }
}

/// Reads a selector; the empty one matches everything. The error is of
/// [`Kind::Usage`] and quotes the part that is wrong.
pub(crate) fn parse_selector(text: &str) -> Result<Selector> {
    let mut requirements = Vec::new();
    if text.trim().is_empty() {
        return Ok(Selector::default());
    }
    for part in split(text) {
        let requirement = parse_requirement(part.trim()).map_err(|why| {
            let what = format!("selector {text:?}: {:?}: {why}", part.trim());
            Error::new(Kind::Usage, what)
        })?;
        requirements.push(requirement);
    }
    Ok(Selector(requirements))
}

/// At the commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut inside = false;
    text.split(|c| {
        match c {
            '(' => inside = true,
            ')' => inside = false,
            _ => {}
        }
        c == ',' && !inside
    })
    .collect()
}

fn parse_requirement(part: &str) -> Result<Requirement, String> {
    let (key, test) = if let Some(key) = part.strip_prefix('!') {
        (key.trim(), Test::Absent)
    } else if let Some((key, value)) = part.split_once("!=") {
        (key.trim(), Test::NotIn(vec![value.trim().to_owned()]))
    } else if let Some((key, value)) = part.split_once('=') {
        let value = value.strip_prefix('=').unwrap_or(value);
        (key.trim(), Test::In(vec![value.trim().to_owned()]))
    } else if let Some((left, list)) = part.split_once('(') {
        let list = list
            .strip_suffix(')')
            .ok_or("the closing parenthesis is missing")?;
        let values = list.split(',').map(|v| v.trim().to_owned()).collect();
        match left.trim().split_once(char::is_whitespace) {
            Some((key, op)) if op.trim() == "in" => (key, Test::In(values)),
            Some((key, op)) if op.trim() == "notin" => (key, Test::NotIn(values)),
            _ => return Err("expected: KEY in (VALUES) or KEY notin (VALUES)".into()),
        }
    } else {
        (part, Test::Exists)
    };
    if key.is_empty() {
        return Err("a key is missing".into());
    }
    names::qualified_name(key)?;
    if let Test::In(values) | Test::NotIn(values) = &test {
        values.iter().try_for_each(|v| names::label_value(v))?;
    }
    Ok(Requirement {
        key: key.to_owned(),
        test,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects() {
        let labels: BTreeMap<String, String> = [("app", "web"), ("tier", "front"), ("e", "")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        for (text, matches) in [
            ("", true),
            (" ", true),
            ("app=web", true),
            ("app==web", true),
            ("app = web", true),
            ("app=db", false),
            ("app!=db", true),
            ("app!=web", false),
            ("gone!=web", true),
            ("app", true),
            ("gone", false),
            ("!gone", true),
            ("! app", false),
            ("app in (web, db)", true),
            ("app in (db)", false),
            ("app notin (db,x)", true),
            ("app notin (web)", false),
            ("gone notin (web)", true),
            ("app in (web,db),tier=front,!gone", true),
            ("app in (web,db),tier=back", false),
            ("e=", true),
            ("app=", false),
        ] {
            let selector = parse_selector(text).unwrap();
            assert_eq!(selector.matches(&labels), matches, "{text:?}");
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for text in [
            "=a",
            "a=b c",
            "a in web",
            "a in (web",
            "a is (b)",
            "a,,b",
            ",",
            "a=b=c",
            "a b",
            "-a",
            "in (a)",
            "a>1",
            "a in (b),",
            "a/b/c",
            "!",
        ] {
            let error = parse_selector(text).expect_err(text);
            assert_eq!(error.kind(), Kind::Usage, "{text}");
        }
    }
}
