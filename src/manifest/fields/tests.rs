//! The table against the types, and against the documentation.

use std::fmt::Write;

use k8s_openapi::api::core::v1::{self as core, Pod};
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};

use super::*;
use crate::manifest::explain;
use crate::manifest::tree::{Node, Value};
use crate::manifest::verdicts::{Answer, answer};
use crate::spec::ObjectKind;
use Rule::{Fields, Honoured, NoEffect, Only, Refused, RefusedIfSet, RefusedResource};

/// A deserializer that offers each struct every field that it has, once, and
/// writes down where they are. What is no struct is a leaf.
struct Walker<'a> {
    kind: &'static str,
    pattern: String,
    leaves: &'a mut Vec<String>,
}

type Fault = de::value::Error;

impl<'de> Deserializer<'de> for Walker<'_> {
    type Error = Fault;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_map(FieldsOf {
            of: self,
            names: fields.iter(),
            current: "",
        })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_map(FieldsOf {
            of: self,
            names: ["*"].iter(),
            current: "",
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_seq(OneItem(Some(self)))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match name {
            "Time" | "MicroTime" => {
                self.leaves.push(self.pattern);
                visitor.visit_newtype_struct("1970-01-01T00:00:00Z".into_deserializer())
            }
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.leaves.push(self.pattern);
        visitor.visit_bool(true)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let text = match self.pattern.as_str() {
            "apiVersion" => "v1",
            "kind" => self.kind,
            // Base64, of a Secret and a ConfigMap.
            "data.*" | "binaryData.*" => "MQ==",
            _ => "1",
        };
        self.leaves.push(self.pattern);
        visitor.visit_str(text)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.leaves.push(self.pattern);
        visitor.visit_i64(1)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_i64(visitor)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct tuple tuple_struct enum identifier ignored_any
    }
}

struct FieldsOf<'a> {
    of: Walker<'a>,
    names: std::slice::Iter<'static, &'static str>,
    current: &'static str,
}

impl<'de> de::MapAccess<'de> for FieldsOf<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some(name) = self.names.next() else {
            return Ok(None);
        };
        self.current = name;
        seed.deserialize(name.into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let pattern = match self.of.pattern.as_str() {
            "" => self.current.to_owned(),
            parent => format!("{parent}.{}", self.current),
        };
        seed.deserialize(Walker {
            kind: self.of.kind,
            pattern,
            leaves: self.of.leaves,
        })
    }
}

struct OneItem<'a>(Option<Walker<'a>>);

impl<'de> de::SeqAccess<'de> for OneItem<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some(mut walker) = self.0.take() else {
            return Ok(None);
        };
        walker.pattern.push_str("[*]");
        seed.deserialize(walker).map(Some)
    }
}

fn leaves() -> Vec<String> {
    leaves_of::<Pod>()
}

fn leaves_of<T: k8s_openapi::Resource + for<'de> Deserialize<'de>>() -> Vec<String> {
    let mut leaves = Vec::new();
    let walker = Walker {
        kind: T::KIND,
        pattern: String::new(),
        leaves: &mut leaves,
    };
    T::deserialize(walker).unwrap();
    leaves
}

/// The line that answers for a leaf, itself or by a subtree that may stand for
/// what is below.
fn answered(leaf: &str) -> Result<(), String> {
    answered_by(&rule, leaf)
}

fn answered_by(rule: &dyn Fn(&str) -> Option<Rule>, leaf: &str) -> Result<(), String> {
    let mut end = 0;
    while end < leaf.len() {
        end += 1 + leaf[end + 1..]
            .find(['.', '['])
            .unwrap_or(leaf.len() - end - 1);
        let (pattern, below) = leaf.split_at(end);
        match rule(pattern) {
            None if pattern.ends_with("[*]") => {}
            None => return Err(format!("{pattern} has no line")),
            Some(Fields) if below.is_empty() => return Err(format!("{pattern} is a leaf")),
            Some(Fields) => {}
            // A list or map of plain values, not a structure.
            Some(Honoured | Only { .. }) if ["", "[*]", ".*"].contains(&below) => return Ok(()),
            Some(Honoured | Only { .. }) => {
                return Err(format!("{pattern} is a structure; its fields need lines"));
            }
            Some(NoEffect(_) | Refused(_) | RefusedIfSet(_) | RefusedResource(_)) => return Ok(()),
        }
    }
    Err(format!("{leaf} has no line"))
}

#[test]
fn every_field_has_an_answer() {
    let leaves = leaves();
    assert!(
        leaves.len() > 1000,
        "the walk ended early: {}",
        leaves.len()
    );
    let missing: Vec<String> = leaves.iter().filter_map(|l| answered(l).err()).collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn every_answer_has_a_field() {
    let leaves = leaves();
    let mut seen = std::collections::HashSet::new();
    for (pattern, _) in table() {
        assert!(seen.insert(pattern), "{pattern} has two lines");
        let parent = pattern.strip_suffix(".*").unwrap_or(pattern);
        let parent = match parent.rsplit_once('.') {
            Some((limits, "cpu" | "memory")) => limits,
            Some((limits, pages)) if pages.starts_with("hugepages-") => limits,
            _ => parent,
        };
        let is_there = leaves.iter().any(|l| {
            l.strip_prefix(parent)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        });
        assert!(is_there, "{pattern} is no field");
    }
}

/// The lines of docs/fields.md.
fn documented() -> String {
    let mut text = String::new();
    for (pattern, rule) in table().filter(|(_, rule)| *rule != Fields) {
        writeln!(text, "| `{pattern}` | {} |", explain::text(rule)).unwrap();
    }
    text
}

#[test]
fn every_answer_is_documented() {
    let page = include_str!("../../../docs/fields.md");
    let lines = documented();
    let missing: Vec<&str> = lines.lines().filter(|l| !page.contains(l)).collect();
    assert!(
        missing.is_empty(),
        "docs/fields.md lacks these lines:\n{}",
        missing.join("\n")
    );
    let rows = page.lines().filter(|l| l.starts_with("| `")).count();
    let of_objects: usize = ObjectKind::ALL
        .map(|kind| documented_of(kind).len())
        .iter()
        .sum();
    assert_eq!(
        rows,
        lines.lines().count() + of_objects,
        "docs/fields.md has lines of fields that are gone"
    );
}

fn documented_of(kind: ObjectKind) -> Vec<String> {
    let lines = objects::table(kind).iter();
    let answers = lines.filter(|(_, rule)| *rule != Fields);
    answers
        .map(|(pattern, rule)| format!("| `{pattern}` | {} |", explain::text(rule)))
        .collect()
}

#[test]
fn every_field_of_an_object_has_an_answer() {
    for kind in ObjectKind::ALL {
        let leaves = match kind {
            ObjectKind::Namespace => leaves_of::<core::Namespace>(),
            ObjectKind::ConfigMap => leaves_of::<core::ConfigMap>(),
            ObjectKind::Secret => leaves_of::<core::Secret>(),
            ObjectKind::PersistentVolumeClaim => leaves_of::<core::PersistentVolumeClaim>(),
        };
        let rule = |pattern: &str| rule_of(kind, pattern);
        let missing = leaves.iter().filter_map(|l| answered_by(&rule, l).err());
        assert_eq!(
            missing.collect::<Vec<_>>(),
            Vec::<String>::new(),
            "{kind:?}"
        );
        for (pattern, rule) in objects::table(kind) {
            let is_below = |l: &String| l.strip_prefix(pattern).is_some();
            assert!(
                leaves.iter().any(is_below),
                "{kind:?}: {pattern} is no field"
            );
            let path = format!("{}.{pattern}", kind.singular());
            let what = explain::explain(&path, Some("v1"), false).unwrap().what;
            assert!(!what.description.is_empty(), "{path}");
            let answer = what.carob.unwrap();
            match rule {
                Fields => assert_eq!(answer.answer, "by field", "{path}"),
                rule => assert_eq!(answer.text, explain::text(rule), "{path}"),
            }
        }
    }
}

#[test]
fn every_answer_of_an_object_is_documented() {
    let page = include_str!("../../../docs/fields.md");
    for kind in ObjectKind::ALL {
        let head = format!("\n## {}\n", kind.kind());
        let (_, section) = page.split_once(&head).unwrap_or_else(|| panic!("no{head}"));
        let section = section.split("\n## ").next().unwrap();
        let rows = section.lines().filter(|l| l.starts_with("| `"));
        assert_eq!(rows.collect::<Vec<_>>(), documented_of(kind), "{kind:?}");
    }
}

/// `carob explain` knows each field that the types have, what it is, what Kubernetes says of it
/// and what becomes of it here.
#[test]
fn every_field_is_explained() {
    let mut missing = Vec::new();
    for leaf in leaves() {
        let leaf = leaf.trim_end_matches(".*").trim_end_matches("[*]");
        // Its value is the managers' own: no type has it.
        let leaf = match leaf.split_once(".fieldsV1.") {
            Some((parent, _)) => &format!("{parent}.fieldsV1"),
            None => leaf,
        };
        match explain::explain(&format!("pods.{leaf}"), Some("v1"), false) {
            Err(e) => missing.push(e.to_string()),
            Ok(e) => {
                let what = e.what;
                let known = !what.description.is_empty() && !what.type_name.is_empty();
                if !known || what.carob.is_none() {
                    missing.push(format!("{leaf}: {what:?}"));
                }
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

/// Of the lists and structures that have lines, too; and the answer is the line's own.
#[test]
fn every_line_is_explained() {
    let mut checked = 0;
    for (pattern, rule) in table().filter(|(pattern, _)| !pattern.contains(".limits.")) {
        if pattern.contains(".requests.") {
            continue;
        }
        let what = explain::explain(&format!("pod.{pattern}"), None, false)
            .unwrap()
            .what;
        assert!(!what.type_name.is_empty(), "{pattern}");
        assert!(!what.description.is_empty(), "{pattern}");
        let answer = what.carob.unwrap();
        match rule {
            Fields => assert_eq!(answer.answer, "by field", "{pattern}"),
            rule => assert_eq!(answer.text, explain::text(rule), "{pattern}"),
        }
        if let Only {
            honoured, refused, ..
        } = rule
            && what.type_name == "string"
        {
            let mut values: Vec<&str> = honoured.iter().chain(*refused).copied().collect();
            values.sort_unstable();
            assert_eq!(what.values, values, "{pattern}");
        }
        checked += 1;
    }
    assert_eq!(
        checked,
        table().count() - 14,
        "all but the keys of limits and requests"
    );
}

#[test]
fn init_containers_share_but_for_their_own() {
    assert_eq!(rule("spec.initContainers[*].image"), Some(Honoured));
    assert_eq!(
        rule("spec.initContainers[*].livenessProbe.exec.command"),
        Some(Honoured)
    );
    assert_eq!(
        rule("spec.initContainers[*].resources.limits.*"),
        Some(RefusedResource(container::COMPUTE))
    );
    assert_eq!(rule("spec.containers[*].zebra"), None);
}

/// A tree of this pattern with null at its end, a list having one item.
fn null_at(pattern: &str) -> Node {
    let (name, rest) = match pattern.split_once('.') {
        Some((name, rest)) => (name, Some(rest)),
        None => (pattern, None),
    };
    let value = match rest {
        Some(rest) => null_at(rest),
        None => Node::new(1, 1, Value::Null),
    };
    let (name, value) = match name.strip_suffix("[*]") {
        Some(name) => (name, Node::new(1, 1, Value::Seq(vec![value]))),
        None => (name, value),
    };
    let key = super::super::tree::Key {
        name: name.to_owned(),
        line: 1,
    };
    Node::new(1, 1, Value::Map(vec![(key, value)]))
}

#[test]
fn null_is_absent_at_every_field() {
    for leaf in leaves() {
        let ends = leaf.match_indices(['.', '[']).map(|(at, _)| at);
        let prefixes = ends.map(|at| &leaf[..at]).chain([leaf.as_str()]);
        for pattern in prefixes.filter(|p| !["apiVersion", "kind"].contains(p)) {
            // Types without a name to see them by; what they are in is refused.
            if pattern.ends_with(".port") {
                continue;
            }
            let tree = null_at(pattern);
            let (pod, faults) = super::super::decode::decode::<Pod>(&tree);
            assert_eq!(faults, [], "{pattern}");
            assert!(pod.is_some(), "{pattern}");
        }
    }
}

#[test]
fn a_resource_that_kubernetes_does_not_know_is_for_the_checks() {
    let text = "spec: {containers: [{resources: {limits: {memroy: 1, example.com/gpu: 1}}}]}";
    let (documents, _) = super::super::yaml::parse_documents(text.as_bytes());
    let answers: Vec<_> = answer(&documents[0], &rule)
        .into_iter()
        .map(|found| (found.path.last_key().unwrap().to_owned(), found.answer))
        .collect();
    assert_eq!(
        answers,
        [
            ("memroy".to_owned(), Answer::Honoured),
            (
                "example.com/gpu".to_owned(),
                Answer::Refused(container::COMPUTE)
            ),
        ]
    );
}
