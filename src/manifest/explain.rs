//! A field as Kubernetes describes it ([`super::api`]), with what carob does with it
//! ([`super::fields`]).

use serde::Serialize;

use super::api::{Api, Field, Kind, Type};
use super::fields::{self, Rule};
use crate::nearest::nearest;
use crate::spec::ObjectKind;
use crate::{Error, Result};

use Rule::{Fields, Honoured, NoEffect, Only, Refused, RefusedIfSet, RefusedResource};

/// A kind, or a field of one.
#[derive(Debug, Serialize)]
pub(crate) struct Explained {
    pub kind: &'static str,
    /// Empty for Kubernetes' first group.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub group: &'static str,
    pub version: &'static str,
    /// As in `spec.containers.image`; empty for the kind itself.
    pub path: String,
    #[serde(flatten)]
    pub what: Described,
}

#[derive(Debug, Serialize)]
pub(crate) struct Described {
    pub name: &'static str,
    #[serde(rename = "type")]
    pub type_name: String,
    pub required: bool,
    /// The values that there are, where they are few and known.
    #[serde(rename = "enum", skip_serializing_if = "<[_]>::is_empty")]
    pub values: &'static [String],
    pub description: String,
    /// What carob does with it; none for the kind itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carob: Option<Answer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Described>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Answer {
    /// `honoured`, `no effect`, `refused`, `refused unless empty`, or `by field`.
    pub answer: &'static str,
    /// The whole of it, with the reason.
    pub text: String,
}

/// `what`: `pod`, `pods.spec.containers`, also with `[*]` or `[0]` as validate shows fields.
/// With `recursive`, the fields of fields are told of too.
pub(crate) fn explain(what: &str, api_version: Option<&str>, recursive: bool) -> Result<Explained> {
    let api = Api::get()?;
    let mut words = what.split('.');
    let kind = find_kind(api, words.next().unwrap_or_default())?;
    check_version(kind, api_version)?;
    let mut place = Place::of_kind(api, kind)?;
    for word in words {
        place.step(word)?;
    }
    Ok(place.explained(recursive))
}

/// What `written` can go on with, for completion: kinds, or fields behind a dot.
pub(crate) fn candidates(written: &str) -> Vec<String> {
    let Some((parent, _)) = written.rsplit_once('.') else {
        let kinds = Api::get().into_iter().flat_map(|api| &api.kinds);
        return kinds.flat_map(|k| k.names.iter().cloned()).collect();
    };
    let known = explain(parent, None, false).into_iter();
    known
        .flat_map(|e| e.what.fields)
        .map(|f| format!("{parent}.{}", f.name))
        .collect()
}

fn find_kind(api: &'static Api, word: &str) -> Result<&'static Kind> {
    let lower = word.to_ascii_lowercase();
    if let Some(kind) = api.kinds.iter().find(|k| k.names.contains(&lower)) {
        return Ok(kind);
    }
    let names = api.kinds.iter().flat_map(|k| &k.names).map(String::as_str);
    let error = Error::usage(format!("there is no kind {word:?} here"));
    Err(error.hint(match nearest(&lower, names) {
        Some(near) => format!("did you mean `carob explain {near}`?"),
        None => {
            let kinds: Vec<&str> = api.kinds.iter().map(|k| k.kind.as_str()).collect();
            format!("the kinds are: {}", kinds.join(", "))
        }
    }))
}

fn check_version(kind: &Kind, wanted: Option<&str>) -> Result<()> {
    let known = match kind.group.as_str() {
        "" => kind.version.clone(),
        group => format!("{group}/{}", kind.version),
    };
    match wanted {
        Some(wanted) if wanted != known && !wanted.is_empty() => {
            let text = format!("--api-version {wanted:?}: {} is not in it", kind.kind);
            Err(Error::usage(text).hint(format!("it is in {known}; leave the flag out")))
        }
        _ => Ok(()),
    }
}

/// How far a path has been followed.
struct Place {
    api: &'static Api,
    kind: &'static Kind,
    path: String,
    /// As in the table of [`fields`]: `[*]` stands behind a list.
    pattern: String,
    /// The type whose fields come next; none behind a plain value.
    of: Option<&'static Type>,
    /// The field that the path ends with.
    last: Option<(&'static str, &'static Field)>,
}

impl Place {
    fn of_kind(api: &'static Api, kind: &'static Kind) -> Result<Self> {
        let of = api.type_of_kind(kind);
        if of.is_none() {
            return Err(Error::failed(format!(
                "this program has no description of {}",
                kind.kind
            )));
        }
        Ok(Place {
            api,
            kind,
            path: String::new(),
            pattern: String::new(),
            of,
            last: None,
        })
    }

    fn step(&mut self, word: &str) -> Result<()> {
        let name = match word.split_once('[') {
            Some((name, index)) if index.ends_with(']') => name,
            _ => word,
        };
        let known = self.of.map(|of| &of.fields);
        let Some((name, field)) = known.and_then(|f| f.get_key_value(name)) else {
            return Err(self.no_field(name));
        };
        self.pattern = below(&self.pattern, self.last.map(|(_, f)| f), name);
        self.path = join(&self.path, name);
        self.of = self.api.type_of(field);
        self.last = Some((name, field));
        Ok(())
    }

    fn no_field(&self, name: &str) -> Error {
        let here = join(&self.kind.names[0], &self.path);
        let here = here.trim_end_matches('.');
        let known = self.of.into_iter().flat_map(|of| of.fields.keys());
        let names: Vec<&str> = known.map(String::as_str).collect();
        let error = Error::usage(format!("{here}: there is no field {name:?}"));
        error.hint(match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `carob explain {here}.{near}`?"),
            None if names.is_empty() => format!("{here} is no structure: it has no fields"),
            None => format!("`carob explain {here}` lists the fields that there are"),
        })
    }

    fn explained(self, recursive: bool) -> Explained {
        let walk = Walk {
            api: self.api,
            answers: Answers::of(self.kind),
            recursive,
        };
        let fields = |of: &'static Type| walk.fields(of, &self.pattern, self.last, &mut vec![]);
        let of_type = self.of.map_or("", |of| of.description.as_str());
        let what = match self.last {
            None => Described {
                name: &self.kind.kind,
                type_name: "Object".to_owned(),
                required: false,
                values: &[],
                description: of_type.to_owned(),
                carob: None,
                fields: self.of.map(fields).unwrap_or_default(),
            },
            Some((name, field)) => {
                let mut what = walk.field(name, field, &self.pattern);
                // As kubectl: the field's own description, and that of its type.
                if !of_type.is_empty() {
                    what.description = format!("{}\n{of_type}", what.description);
                    what.description = what.description.trim_start().to_owned();
                }
                what.fields = self.of.map(fields).unwrap_or_default();
                what
            }
        };
        Explained {
            kind: &self.kind.kind,
            group: &self.kind.group,
            version: &self.kind.version,
            path: self.path,
            what,
        }
    }
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

/// The pattern of the field `name` below that of `parent`, which is `field`.
fn below(parent: &str, field: Option<&Field>, name: &str) -> String {
    match field.is_some_and(Field::is_list) {
        true => format!("{parent}[*].{name}"),
        false => join(parent, name),
    }
}

/// The table in which it is written down what carob does with a kind's fields.
#[derive(Clone, Copy)]
enum Answers {
    Pod,
    Object(ObjectKind),
}

impl Answers {
    /// None for a kind that carob does not take.
    fn of(kind: &Kind) -> Option<Self> {
        match (kind.group.as_str(), kind.kind.as_str()) {
            ("", "Pod") => Some(Answers::Pod),
            ("", kind) => ObjectKind::of_manifest(kind).map(Answers::Object),
            _ => None,
        }
    }

    fn rule(self, pattern: &str) -> Option<Rule> {
        match self {
            Answers::Pod => fields::rule(pattern),
            Answers::Object(kind) => fields::rule_of(kind, pattern),
        }
    }
}

struct Walk {
    api: &'static Api,
    answers: Option<Answers>,
    recursive: bool,
}

impl Walk {
    /// `seen`: the types around this one, which are not entered again.
    fn fields(
        &self,
        of: &'static Type,
        pattern: &str,
        parent: Option<(&str, &Field)>,
        seen: &mut Vec<*const Type>,
    ) -> Vec<Described> {
        seen.push(of);
        let mut all = Vec::new();
        for (name, field) in &of.fields {
            let pattern = below(pattern, parent.map(|(_, f)| f), name);
            let mut described = self.field(name, field, &pattern);
            if self.recursive
                && let Some(of) = self.api.type_of(field)
                && !seen.contains(&std::ptr::from_ref(of))
            {
                described.fields = self.fields(of, &pattern, Some((name, field)), seen);
            }
            all.push(described);
        }
        seen.pop();
        all
    }

    fn field(&self, name: &'static str, field: &'static Field, pattern: &str) -> Described {
        Described {
            name,
            type_name: self.api.shown_type(field),
            required: field.required,
            values: &field.values,
            description: field.description.clone(),
            carob: self.answers.and_then(|of| answer(of, pattern, field)),
            fields: vec![],
        }
    }
}

/// What carob does with a field, by its own line or that of the subtree that it is in.
fn answer(of: Answers, pattern: &str, field: &Field) -> Option<Answer> {
    let mut at = pattern;
    let rule = loop {
        match of.rule(at) {
            Some(rule) => break rule,
            None => at = at.rsplit_once('.')?.0.trim_end_matches("[*]"),
        }
    };
    Some(match rule {
        Fields if at == pattern && field.is_map() => Answer {
            answer: "by field",
            text: of_keys(pattern),
        },
        Fields if at == pattern => Answer {
            answer: "by field",
            text: "each field of it has an answer of its own".to_owned(),
        },
        // A structure is not honoured as a whole: a field without a line is a fault of the
        // table, which its tests find.
        Fields => return None,
        rule => Answer {
            answer: short(&rule),
            text: text(&rule),
        },
    })
}

/// Of a map whose keys have lines of their own.
fn of_keys(pattern: &str) -> String {
    let keys = fields::keys(pattern).map(|(key, rule)| match key {
        "*" => format!("others {}", text(&rule)),
        key => format!("{key} {}", text(&rule)),
    });
    keys.collect::<Vec<_>>().join("; ")
}

fn short(rule: &Rule) -> &'static str {
    match rule {
        Fields => "by field",
        Honoured | Only { .. } => "honoured",
        NoEffect(_) => "no effect",
        Refused(_) | RefusedResource(_) => "refused",
        RefusedIfSet(_) => "refused unless empty",
    }
}

/// The answer as docs/fields.md has it, too.
pub(super) fn text(rule: &Rule) -> String {
    let word = short(rule);
    match rule {
        Fields | Honoured => word.to_owned(),
        NoEffect(why) | Refused(why) | RefusedResource(why) | RefusedIfSet(why) => {
            format!("{word}: {why}")
        }
        Only {
            honoured,
            refused,
            why,
        } => format!(
            "{word}: {}; refused: {} ({why})",
            values(honoured),
            values(refused)
        ),
    }
}

fn values(list: &[&str]) -> String {
    let shown = |v: &&str| match *v {
        "" => "`\"\"`".to_owned(),
        v => format!("`{v}`"),
    };
    list.iter().map(shown).collect::<Vec<_>>().join(", ")
}
