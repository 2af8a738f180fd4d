//! A struct is read from an object, and from nothing else.
//!
//! serde's derived code also takes a list for a struct, its members in their order,
//! those with a default left out at the end: `"linux": []` would be a container
//! without any namespace, `"user": []` one of root's. This stands between the parser
//! and such code, and passes on everything but that.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};

/// The kind that the caller expects is passed on, for the sake of errors: the parser
/// tells where a value begins that is of another.
macro_rules! passed_on {
    ($($method:ident)*) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method(Watch(visitor))
        }
    )* };
}

#[derive(Debug)]
pub(super) struct Strict<D>(pub D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Watch(visitor))
    }

    passed_on! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32
        deserialize_i64 deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32
        deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char
        deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf
        deserialize_option deserialize_unit deserialize_seq deserialize_map
        deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_newtype_struct(name, Watch(visitor))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple(len, Watch(visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple_struct(name, len, Watch(visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }
}

/// What a visitor is shown, with everything below it strict.
struct Watch<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Watch<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<V::Value, E> {
        self.0.visit_bool(value)
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<V::Value, E> {
        self.0.visit_i64(value)
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<V::Value, E> {
        self.0.visit_u64(value)
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<V::Value, E> {
        self.0.visit_f64(value)
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<V::Value, E> {
        self.0.visit_str(value)
    }
    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<V::Value, E> {
        self.0.visit_borrowed_str(value)
    }
    fn visit_string<E: Error>(self, value: String) -> Result<V::Value, E> {
        self.0.visit_string(value)
    }
    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }
    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Strict(value))
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(Strict(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Members(members))
    }
    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Members(members))
    }
    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(variant)
    }
}

struct Members<A>(A);

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Members<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Member(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Members<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Member(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

struct Member<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Member<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Strict(deserializer))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::oci::config::Config;
    use crate::oci::json;

    fn objects(value: &Value, pointer: &str, all: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                all.push(pointer.to_owned());
                for (key, value) in members {
                    objects(value, &format!("{pointer}/{key}"), all);
                }
            }
            Value::Array(members) => {
                for (i, value) in members.iter().enumerate() {
                    objects(value, &format!("{pointer}/{i}"), all);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn no_struct_is_made_of_a_list() {
        let map = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
        let rate = json!([{"major": 8, "minor": 0, "rate": 1}]);
        let whole = json!({
            "ociVersion": "1.3.0",
            "root": {"path": "rootfs"},
            "process": {
                "cwd": "/", "user": {"uid": 0, "gid": 0}, "consoleSize": {"width": 1, "height": 1},
                "capabilities": {"bounding": ["CAP_KILL"]},
                "rlimits": [{"type": "RLIMIT_CPU", "hard": 1, "soft": 1}],
                "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 1},
                "scheduler": {"policy": "SCHED_OTHER"}, "execCPUAffinity": {"initial": "0"},
            },
            "mounts": [{"destination": "/a", "uidMappings": map}],
            "hooks": {"poststop": [{"path": "/a"}]},
            "linux": {
                "namespaces": [{"type": "pid"}], "uidMappings": map,
                "timeOffsets": {"boottime": {"secs": 1}}, "netDevices": {"a": {"name": "b"}},
                "devices": [{"path": "/a", "type": "c", "major": 1, "minor": 1}],
                "personality": {"domain": "LINUX"}, "memoryPolicy": {"mode": "MPOL_BIND"},
                "seccomp": {
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{
                        "names": ["a"], "action": "SCMP_ACT_ALLOW",
                        "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]
                    }]
                },
                "resources": {
                    "devices": [{"allow": true}], "memory": {"limit": 1}, "cpu": {"shares": 1},
                    "pids": {"limit": 1}, "blockIO": {"throttleReadBpsDevice": rate},
                    "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
                    "network": {"priorities": [{"name": "a", "priority": 1}]},
                    "rdma": {"a": {"hcaHandles": 1}}, "unified": {"a": "b"},
                },
            },
        });
        json::parse::<Config>(whole.to_string().as_bytes()).unwrap();
        let mut all = Vec::new();
        objects(&whole, "", &mut all);
        assert_eq!(all.len(), 40, "{all:?}");
        for pointer in all {
            for list in [json!([]), json!([1]), json!([null, null])] {
                let mut config = whole.clone();
                *config.pointer_mut(&pointer).unwrap() = list;
                let e = json::parse::<Config>(config.to_string().as_bytes()).unwrap_err();
                let e = e.to_string();
                assert!(e.contains("invalid type: sequence"), "{pointer}: {e}");
                let path = pointer.split('/').skip(1).fold(String::new(), |path, key| {
                    match (path.is_empty(), key.parse::<usize>()) {
                        (_, Ok(n)) => format!("{path}[{n}]"),
                        (true, _) => key.to_owned(),
                        (false, _) => format!("{path}.{key}"),
                    }
                });
                assert!(e.starts_with(&path), "{pointer}: {e}");
            }
        }
    }
}
