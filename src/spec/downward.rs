//! What a fieldRef and a resourceFieldRef name of a Pod, for variables and for files alike
//! (ObjectFieldSelector and ResourceFieldSelector of Kubernetes' API reference).

use super::{Node, PageSize, Pod, Resources};

impl Pod {
    /// A field of the metadata: its name, namespace, uid, or one label or annotation, which
    /// is empty where there is none. `None`: it is no such field.
    pub(crate) fn metadata_field(&self, path: &str) -> Option<String> {
        if let Some((map, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
            let map = match map {
                "metadata.labels" => &self.labels,
                "metadata.annotations" => &self.annotations,
                _ => return None,
            };
            return Some(map.get(key).cloned().unwrap_or_default());
        }
        Some(match path {
            "metadata.name" => self.name.clone(),
            "metadata.namespace" => self.namespace.clone(),
            "metadata.uid" => self.uid.clone(),
            _ => return None,
        })
    }
}

impl Resources {
    /// `limits.cpu` and the like, in thousandths of a CPU or in bytes: a limit that is not set
    /// is what the machine has. `None`: there is no such resource.
    pub(crate) fn named(self, name: &str, node: Node) -> Option<u64> {
        Some(match name {
            "limits.cpu" => self.cpu_limit.unwrap_or(node.cpu),
            "limits.memory" => self.memory_limit.unwrap_or(node.memory),
            "limits.ephemeral-storage" => node.storage,
            "requests.cpu" => self.cpu_request.or(self.cpu_limit).unwrap_or(0),
            "requests.memory" => self.memory_request.or(self.memory_limit).unwrap_or(0),
            "requests.ephemeral-storage" => 0,
            _ => {
                let (_, resource) = name.split_once('.')?;
                let size = PageSize::of_resource(resource);
                // A size that no machine has is none, as on a cluster.
                resource.strip_prefix("hugepages-")?;
                size.map_or(0, |size| self.hugepages.of(size))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_by_their_names() {
        let node = Node {
            cpu: 4000,
            memory: 1 << 30,
            storage: 1 << 40,
        };
        let mut r = Resources {
            cpu_limit: Some(500),
            ..Resources::default()
        };
        r.hugepages.set(PageSize::M2, 4 << 20);
        for (name, value) in [
            ("limits.cpu", Some(500)),
            ("requests.cpu", Some(500)),
            ("limits.memory", Some(1 << 30)),
            ("requests.memory", Some(0)),
            ("limits.ephemeral-storage", Some(1 << 40)),
            ("requests.ephemeral-storage", Some(0)),
            ("limits.hugepages-2Mi", Some(4 << 20)),
            ("requests.hugepages-2Mi", Some(4 << 20)),
            ("requests.hugepages-1Gi", Some(0)),
            ("limits.hugepages-3Mi", Some(0)),
            ("limits.memroy", None),
        ] {
            assert_eq!(r.named(name, node), value, "{name}");
        }
    }
}
