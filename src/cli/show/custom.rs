//! Tables whose columns and whose order the command line names: `-o custom-columns` and
//! `--sort-by` of `get`.

use std::cmp::Ordering;

use serde_json::Value;

use crate::cli::show::jsonpath::{Template, plain};
use crate::cli::show::output::unread;
use crate::manifest::Quantity;
use crate::{Error, Result};

/// Headers and the paths of what stands below.
#[derive(Debug, PartialEq)]
pub(crate) struct CustomColumns(Vec<(String, Template)>);

impl CustomColumns {
    /// `None`: this value of `-o` names another format.
    pub(crate) fn of_format(word: &str) -> Result<Option<Self>> {
        if let Some(file) = word.strip_prefix("custom-columns-file=") {
            let text = std::fs::read_to_string(file).map_err(|e| unread(e, file))?;
            return Self::of_file(&text)
                .map(Some)
                .map_err(|e| e.push_context(file));
        }
        match word.strip_prefix("custom-columns=") {
            Some(columns) => Self::parse(columns).map(Some),
            None if word == "custom-columns" => Self::parse("").map(Some),
            None => Ok(None),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let column = |part: &str| match part.split_once(':') {
            Some((head, path)) => Ok((head.to_owned(), Template::parse_relaxed(path)?)),
            None => Err(
                Error::usage(format!("custom-columns: {part:?} is no column"))
                    .hint("write a column as HEADER:PATH, as in NAME:.metadata.name"),
            ),
        };
        if text.is_empty() {
            return Err(Error::usage("custom-columns: no column is given")
                .hint("write it as in custom-columns=NAME:.metadata.name,IP:.status.podIP"));
        }
        text.split(',').map(column).collect::<Result<_>>().map(Self)
    }

    /// A line of headers, and below each the path.
    fn of_file(text: &str) -> Result<Self> {
        let mut lines = text.lines().filter(|l| !l.trim().is_empty());
        let mut words = || lines.next().unwrap_or_default().split_whitespace();
        let (heads, paths) = (words(), words());
        let (heads, paths): (Vec<&str>, Vec<&str>) = (heads.collect(), paths.collect());
        if heads.is_empty() || heads.len() != paths.len() {
            return Err(Error::usage(format!(
                "custom-columns: {} headers and {} paths",
                heads.len(),
                paths.len()
            ))
            .hint("write a line of headers and a line of as many paths"));
        }
        let columns = heads.into_iter().zip(paths);
        let column =
            |(head, path): (&str, &str)| Ok((head.to_owned(), Template::parse_relaxed(path)?));
        columns.map(column).collect::<Result<_>>().map(Self)
    }

    pub(crate) fn head(&self) -> Vec<String> {
        self.0.iter().map(|(head, _)| head.clone()).collect()
    }

    pub(crate) fn row(&self, object: &Value) -> Result<Vec<String>> {
        let cell = |(_, path): &(String, Template)| {
            let mut found = path.values(object)?;
            found.retain(|v| !v.is_null());
            let found: Vec<String> = found.into_iter().map(plain).collect();
            Ok(match found.is_empty() {
                true => "<none>".to_owned(),
                false => found.join(","),
            })
        };
        self.0.iter().map(cell).collect()
    }
}

/// The order of `--sort-by`.
#[derive(Debug)]
pub(crate) struct SortKey {
    text: String,
    path: Template,
}

impl SortKey {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Ok(SortKey {
            text: text.to_owned(),
            path: Template::parse_relaxed(text)?,
        })
    }

    /// Objects without the field come first, and what is equal stays in its order.
    pub(crate) fn sort<T>(&self, all: &mut Vec<T>, object: impl Fn(&T) -> Value) -> Result<()> {
        let mut keyed = vec![];
        for one in all.drain(..) {
            let object = object(&one);
            let key = self.path.values(&object)?.first().map(|v| (*v).clone());
            keyed.push((key, one));
        }
        if !keyed.is_empty() && keyed.iter().all(|(key, _)| key.is_none()) {
            let text = format!("--sort-by: no Pod has a field {:?}", self.text);
            return Err(Error::usage(text).hint("write a path as in .metadata.creationTimestamp"));
        }
        keyed.sort_by(|(a, _), (b, _)| match (a, b) {
            (Some(a), Some(b)) => compare(a, b),
            (a, b) => a.is_some().cmp(&b.is_some()),
        });
        all.extend(keyed.into_iter().map(|(_, one)| one));
        Ok(())
    }
}

fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let order = a.as_f64().partial_cmp(&b.as_f64());
            order.unwrap_or(Ordering::Equal)
        }
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        _ => {
            let (a, b) = (plain(a), plain(b));
            match (Quantity::parse(&a), Quantity::parse(&b)) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                _ => natural(&a, &b),
            }
        }
    }
}

/// `web-9` before `web-10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    loop {
        let (m, n) = (digits(left), digits(right));
        if m > 0 && n > 0 {
            let (x, y) = (&left[..m], &right[..n]);
            let (x, y) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
            match x.len().cmp(&y.len()).then_with(|| x.cmp(y)) {
                Ordering::Equal => (left, right) = (&left[m..], &right[n..]),
                other => return other,
            }
            continue;
        }
        let (mut x, mut y) = (left.chars(), right.chars());
        match (x.next(), y.next()) {
            (Some(c), Some(d)) if c == d => (left, right) = (x.as_str(), y.as_str()),
            // Numbers that differ in their zeros alone.
            (None, None) => return a.cmp(b),
            (c, d) => return c.cmp(&d),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns() {
        let object = json!({"metadata": {"name": "web", "labels": {"app": "x"}},
            "spec": {"containers": [{"image": "a"}, {"image": "b"}]}, "n": 3, "no": null});
        let text = "NAME:.metadata.name,IMAGES:{.spec.containers[*].image},N:n,IP:.status.podIP,\
                    NO:.no,LABELS:.metadata.labels";
        let columns = CustomColumns::parse(text).unwrap();
        assert_eq!(
            columns.head(),
            ["NAME", "IMAGES", "N", "IP", "NO", "LABELS"]
        );
        assert_eq!(
            columns.row(&object).unwrap(),
            ["web", "a,b", "3", "<none>", "<none>", "{\"app\":\"x\"}"]
        );
        let file = "NAME   N\n.metadata.name {.n}\n";
        assert_eq!(
            CustomColumns::of_file(file).unwrap(),
            CustomColumns::parse("NAME:.metadata.name,N:.n").unwrap()
        );
        for text in ["", "NAME", "A:.a,B", "A:.a["] {
            assert!(CustomColumns::parse(text).is_err(), "{text}");
        }
        for text in ["", "A B\n.a\n", "A\n"] {
            assert!(CustomColumns::of_file(text).is_err(), "{text}");
        }
        assert_eq!(CustomColumns::of_format("json").unwrap(), None);
        assert!(CustomColumns::of_format("custom-columns").is_err());
        assert!(CustomColumns::of_format("custom-columns-file=/none").is_err());
    }

    #[test]
    fn orders() {
        let sorted = |values: &[Value]| {
            let mut all = values.to_vec();
            let key = SortKey::parse(".k").unwrap();
            key.sort(&mut all, Value::clone).unwrap();
            all.iter()
                .map(|v| v.get("k").map_or("-".to_owned(), plain))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let of = |keys: &[Value]| {
            let objects: Vec<Value> = keys.iter().map(|k| json!({"k": k})).collect();
            sorted(&objects)
        };
        assert_eq!(of(&[json!(10), json!(9), json!(-1)]), "-1 9 10");
        assert_eq!(
            of(&[json!("web-10"), json!("web-9"), json!("db")]),
            "db web-9 web-10"
        );
        assert_eq!(
            of(&[json!("1Gi"), json!("200Mi"), json!("5k")]),
            "5k 200Mi 1Gi"
        );
        assert_eq!(
            of(&[json!("10.88.0.12"), json!("10.88.0.3")]),
            "10.88.0.3 10.88.0.12"
        );
        assert_eq!(of(&[json!(true), json!(false)]), "false true");
        assert_eq!(
            sorted(&[json!({"k": 1}), json!({"o": 1}), json!({"k": 0})]),
            "- 0 1"
        );
        assert_eq!(natural("a01", "a1"), Ordering::Less);
        assert_eq!(natural("ä1", "ä1"), Ordering::Equal);
        let key = SortKey::parse(".none").unwrap();
        assert!(key.sort(&mut vec![json!({})], Value::clone).is_err());
        assert!(key.sort(&mut Vec::<Value>::new(), Value::clone).is_ok());
    }
}
