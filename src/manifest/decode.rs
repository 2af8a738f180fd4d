//! Trees to Kubernetes' own types, finding every fault on the way.
//!
//! A serde deserializer over [`Node`]. It sees the name and the fields of each
//! struct that it fills, which is how it knows an unknown field and the nearest
//! known one. It never stops at a fault: it notes it with path and line and goes
//! on with an empty value, so that one reading finds all. Whoever asks must look
//! at the faults before the value.
//!
//! Null means absent, as for the API server: in a list or map of text it is the
//! empty text.

use std::cell::RefCell;
use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};

use super::quantity::{json_number, printed};
use super::tree::{Node, Path, Value, quote};
use crate::nearest::nearest;

/// A value of the wrong type, or a field that does not exist.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fault {
    pub path: Path,
    pub line: usize,
    pub message: String,
}

/// Reads `T`. With faults the value holds emptiness in their places; it is
/// `None` only where a type itself refuses every stand-in.
pub(super) fn decode<T: DeserializeOwned>(node: &Node) -> (Option<T>, Vec<Fault>) {
    let faults = RefCell::new(Vec::new());
    let result = T::deserialize(De {
        node,
        line: node.line,
        path: Path::default(),
        faults: &faults,
    });
    let mut faults = faults.into_inner();
    if let Err(e) = &result
        && !e.noted
    {
        faults.push(Fault {
            path: Path::default(),
            line: node.line,
            message: e.text.clone(),
        });
    }
    (result.ok(), faults)
}

/// What a type's own visitor said.
#[derive(Debug)]
struct Refusal {
    text: String,
    /// Whether the fault has been noted, at the value that it is of.
    noted: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

impl de::Error for Refusal {
    fn custom<T: fmt::Display>(msg: T) -> Self {
        Refusal {
            text: msg.to_string(),
            noted: false,
        }
    }
}

/// The reading of one value.
#[derive(Clone)]
struct De<'a> {
    node: &'a Node,
    /// Of the key where there is one: that is where the eye looks.
    line: usize,
    path: Path,
    faults: &'a RefCell<Vec<Fault>>,
}

impl De<'_> {
    fn fault(&self, message: String) {
        self.faults.borrow_mut().push(Fault {
            path: self.path.clone(),
            line: self.line,
            message,
        });
    }

    /// Notes a refusal here, unless it has been noted further inside.
    fn noted(&self, refusal: Refusal) -> Refusal {
        if !refusal.noted {
            self.fault(refusal.text.clone());
        }
        Refusal {
            noted: true,
            ..refusal
        }
    }

    fn expected(&self, what: &str) {
        let found = self.node.describe();
        let mend = match (&self.node.value, what) {
            (Value::Bool(_, t) | Value::Int(_, t) | Value::Float(_, t), "a string") => {
                format!(": quote it: \"{t}\"")
            }
            (Value::Str(s), "an integer") if s.parse::<i64>().is_ok() => {
                format!(": remove the quotes: {s}")
            }
            (Value::Str(s), "a boolean (true or false)") if s == "true" || s == "false" => {
                format!(": remove the quotes: {s}")
            }
            (Value::Str(s), "an integer") if is_id(self.path.last_key().unwrap_or_default()) => {
                match s.as_str() {
                    "root" => ": write the number: 0".into(),
                    _ => {
                        ": write the number that the image's /etc/passwd or /etc/group has for it \
                      (nobody is often 65534)"
                            .into()
                    }
                }
            }
            (Value::Str(s), "a list") if is_command(self.path.last_key().unwrap_or_default()) => {
                let words: Vec<&str> = s.split_whitespace().collect();
                format!(": write {words:?}")
            }
            (Value::Map(_), "a list") => ": begin each item with \"- \"".into(),
            (_, "a list") => {
                ": write each item on a line of its own that begins with \"- \"".into()
            }
            _ => String::new(),
        };
        self.fault(format!("expected {what}, found {found}{mend}"));
    }

    fn integer(&self) -> i64 {
        match &self.node.value {
            Value::Null => 0,
            Value::Int(i, text) => i64::try_from(*i).unwrap_or_else(|_| {
                self.fault(format!("{text} is out of range"));
                0
            }),
            // kubectl turns YAML into JSON first, where 1e3 and 1.0 are whole.
            Value::Float(f, _) if f.fract() == 0.0 && f.abs() < 9e15 => *f as i64,
            _ => {
                self.expected("an integer");
                0
            }
        }
    }
}

impl<'de, 'a> Deserializer<'de> for De<'a> {
    type Error = Refusal;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let result: Result<V::Value, Refusal> = match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b, _) => visitor.visit_bool(*b),
            Value::Int(..) => visitor.visit_i64(self.integer()),
            Value::Float(f, _) => visitor.visit_f64(*f),
            Value::Str(s) => visitor.visit_str(s),
            Value::Seq(_) => return self.deserialize_seq(visitor),
            Value::Map(_) => return self.deserialize_map(visitor),
        };
        result.map_err(|e| self.noted(e))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        visitor.visit_bool(match self.node.value {
            Value::Bool(b, _) => b,
            Value::Null => false,
            _ => {
                self.expected("a boolean (true or false)");
                false
            }
        })
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        visitor.visit_i64(self.integer())
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let i = self.integer();
        visitor.visit_i32(i32::try_from(i).unwrap_or_else(|_| {
            self.fault(format!("{i} is out of range"));
            0
        }))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        visitor.visit_str(match &self.node.value {
            Value::Str(s) => s,
            Value::Null => "",
            _ => {
                self.expected("a string");
                ""
            }
        })
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        if self.node.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    /// Two of Kubernetes' newtypes read more, or less, than the type inside.
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        let text = match (name, &self.node.value) {
            // kubectl turns YAML into JSON first: 0x8 is 8 there, and 0.50 is 0.5.
            ("Quantity", Value::Int(i, _)) => printed(&i.to_string()),
            ("Quantity", Value::Float(f, _)) => printed(&json_number(*f)),
            ("Quantity", Value::Str(s)) => printed(s),
            // As Kubernetes' own type has it.
            ("Quantity", Value::Null) => "0".into(),
            ("Quantity", Value::Bool(..) | Value::Seq(_) | Value::Map(_)) => {
                self.expected("a quantity such as 500m or 64Mi");
                "0".into()
            }
            ("Time" | "MicroTime", value) => {
                let epoch = "1970-01-01T00:00:00Z";
                match value {
                    Value::Str(s) if s.parse::<k8s_openapi::jiff::Timestamp>().is_ok() => s.clone(),
                    Value::Str(s) => {
                        self.fault(format!("{} is not a time such as {epoch}", quote(s)));
                        epoch.into()
                    }
                    Value::Null => epoch.into(),
                    _ => {
                        self.expected("a time");
                        epoch.into()
                    }
                }
            }
            _ => return visitor.visit_newtype_struct(self),
        };
        visitor.visit_newtype_struct(IntoDeserializer::<Refusal>::into_deserializer(text))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        if !matches!(self.node.value, Value::Seq(_) | Value::Null) {
            self.expected("a list");
        }
        visitor.visit_seq(Items { of: self, next: 0 })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        if !matches!(self.node.value, Value::Map(_) | Value::Null) {
            self.expected("a mapping");
        }
        visitor.visit_map(Entries {
            of: self,
            next: 0,
            known: None,
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        if !matches!(self.node.value, Value::Map(_) | Value::Null) {
            self.expected("a mapping");
        }
        visitor.visit_map(Entries {
            of: self,
            next: 0,
            known: Some(fields),
        })
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        tuple tuple_struct enum identifier ignored_any
    }
}

struct Items<'a> {
    of: De<'a>,
    next: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Refusal;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refusal> {
        let Some(node) = self.of.node.items().get(self.next) else {
            return Ok(None);
        };
        let de = De {
            node,
            line: node.line,
            path: self.of.path.index(self.next),
            faults: self.of.faults,
        };
        self.next += 1;
        let read = seed.deserialize(de.clone());
        read.map(Some).map_err(|e| de.noted(e))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.of.node.items().len() - self.next)
    }
}

struct Entries<'a> {
    of: De<'a>,
    next: usize,
    /// A struct's fields; `None` for a map with keys of the user's own.
    known: Option<&'static [&'static str]>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Refusal;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Refusal> {
        let Value::Map(entries) = &self.of.node.value else {
            return Ok(None);
        };
        while let Some((key, _)) = entries.get(self.next) {
            self.next += 1;
            if let Some(known) = self.known
                && !known.contains(&key.name.as_str())
            {
                self.of.faults.borrow_mut().push(Fault {
                    path: self.of.path.key(&key.name),
                    line: key.line,
                    message: unknown_field(&key.name, known),
                });
                continue;
            }
            return seed
                .deserialize(key.name.as_str().into_deserializer())
                .map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refusal> {
        let Value::Map(entries) = &self.of.node.value else {
            return Err(de::Error::custom("a value without its key"));
        };
        let (key, node) = &entries[self.next - 1];
        let de = De {
            node,
            line: key.line,
            path: self.of.path.key(&key.name),
            faults: self.of.faults,
        };
        seed.deserialize(de.clone()).map_err(|e| de.noted(e))
    }
}

/// Fields that name a user or a group, by its number.
fn is_id(field: &str) -> bool {
    ["runAsUser", "runAsGroup", "fsGroup"].contains(&field)
}

fn is_command(field: &str) -> bool {
    ["command", "args"].contains(&field)
}

/// What to say of a field that is not among those known.
pub(super) fn unknown_field(name: &str, known: &[&str]) -> String {
    if name == "stringData" && known.contains(&"binaryData") {
        return "unknown field: stringData is of a Secret; a ConfigMap has its texts in data"
            .into();
    }
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("unknown field: did you mean \"{near}\"?"),
        None if known.len() <= 12 => format!("unknown field; known here: {}", known.join(", ")),
        None => "unknown field".into(),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn faults(text: &str) -> Vec<(usize, String)> {
        let (mut docs, problems) = super::super::yaml::parse_documents(text.as_bytes());
        assert_eq!(problems, []);
        let (_, faults) = decode::<Pod>(&docs.remove(0));
        faults
            .into_iter()
            .map(|f| (f.line, format!("{}: {}", f.path, f.message)))
            .collect()
    }

    #[test]
    fn finds_all_faults_at_once() {
        let found = faults(
            "apiVersion: v1
kind: Pod
metadata:
  name: 5
  lables: {}
spec:
  restartPolicy: no
  terminationGracePeriodSeconds: \"30\"
  hostNetwork: \"true\"
  containers:
  - name: a
    image: b
    contanerPort: 80
    args: {x: y}
    env:
    - name: A
      value: 5
    - name: B
      value: yes
    ports:
    - containerPort: 8000000000
    - containerPort: 80.5
    command: sh
  - just text
  volumes:
    name: x
",
        );
        let expected = [
            (
                4,
                "metadata.name: expected a string, found the integer 5: quote it: \"5\"",
            ),
            (
                5,
                "metadata.lables: unknown field: did you mean \"labels\"?",
            ),
            (
                7,
                "spec.restartPolicy: expected a string, found the boolean no: quote it: \"no\"",
            ),
            (
                8,
                "spec.terminationGracePeriodSeconds: expected an integer, found the string \"30\": remove the quotes: 30",
            ),
            (
                9,
                "spec.hostNetwork: expected a boolean (true or false), found the string \"true\": remove the quotes: true",
            ),
            (13, "spec.containers[0].contanerPort: unknown field"),
            (
                14,
                "spec.containers[0].args: expected a list, found a mapping: begin each item with \"- \"",
            ),
            (
                17,
                "spec.containers[0].env[0].value: expected a string, found the integer 5: quote it: \"5\"",
            ),
            (
                19,
                "spec.containers[0].env[1].value: expected a string, found the boolean yes: quote it: \"yes\"",
            ),
            (
                21,
                "spec.containers[0].ports[0].containerPort: 8000000000 is out of range",
            ),
            (
                22,
                "spec.containers[0].ports[1].containerPort: expected an integer, found the number 80.5",
            ),
            (
                23,
                "spec.containers[0].command: expected a list, found the string \"sh\": write [\"sh\"]",
            ),
            (
                24,
                "spec.containers[1]: expected a mapping, found the string \"just text\"",
            ),
            (
                25,
                "spec.volumes: expected a list, found a mapping: begin each item with \"- \"",
            ),
        ];
        let expected: Vec<_> = expected.map(|(l, m)| (l, m.to_owned())).into();
        assert_eq!(found, expected);
    }

    #[test]
    fn reads_the_types_with_two_faces() {
        let text = "apiVersion: v1
kind: Pod
metadata: {creationTimestamp: null, name: x}
spec:
  containers:
  - name: a
    args:
    resources: {limits: {cpu: 1, memory: 0x10}, requests: {cpu: 0.50, memory: ' 1024Mi'}}
    livenessProbe: {httpGet: {port: 80}, tcpSocket: {port: web}}
";
        let (docs, _) = super::super::yaml::parse_documents(text.as_bytes());
        let (pod, faults) = decode::<Pod>(&docs[0]);
        assert_eq!(faults, []);
        let c = pod.unwrap().spec.unwrap().containers.remove(0);
        let r = c.resources.unwrap();
        let quantity = |m: &Option<std::collections::BTreeMap<_, _>>, k: &str| -> String {
            let q: &k8s_openapi::apimachinery::pkg::api::resource::Quantity =
                &m.as_ref().unwrap()[k];
            q.0.clone()
        };
        assert_eq!(quantity(&r.limits, "cpu"), "1");
        assert_eq!(quantity(&r.limits, "memory"), "16");
        assert_eq!(quantity(&r.requests, "cpu"), "500m");
        assert_eq!(quantity(&r.requests, "memory"), "1Gi");
        assert_eq!(c.args, None);
    }
}
