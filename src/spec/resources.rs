//! Requests and limits of CPU time, memory and huge pages, and their sums over a Pod.

use serde::{Deserialize, Serialize};

use super::{Container, Hugepages, Spec};

/// Requests and limits. A limit without a request is also the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resources {
    /// Thousandths of a CPU.
    pub cpu_request: Option<u64>,
    pub cpu_limit: Option<u64>,
    /// Bytes.
    pub memory_request: Option<u64>,
    pub memory_limit: Option<u64>,
    #[serde(default, skip_serializing_if = "Hugepages::is_none")]
    pub hugepages: Hugepages,
}

impl Resources {
    pub(crate) fn cpu(self) -> (Option<u64>, Option<u64>) {
        (self.cpu_request, self.cpu_limit)
    }

    pub(crate) fn memory(self) -> (Option<u64>, Option<u64>) {
        (self.memory_request, self.memory_limit)
    }
}

/// What a machine has: thousandths of a CPU, bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    pub cpu: u64,
    pub memory: u64,
    /// Bytes of the filesystem of the root's data.
    #[serde(default)]
    pub storage: u64,
}

/// What the cgroup of a Pod is given: sums over its containers. No limit where one of them
/// has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bounds {
    /// Thousandths of a CPU.
    pub cpu_requests: u64,
    pub cpu_limit: Option<u64>,
    /// Bytes.
    pub memory_limit: Option<u64>,
}

impl Bounds {
    /// The wider one of each.
    pub(crate) fn or_wider(self, other: Bounds) -> Bounds {
        let wider = |a: Option<u64>, b: Option<u64>| Some(a?.max(b?));
        Bounds {
            cpu_requests: self.cpu_requests.max(other.cpu_requests),
            cpu_limit: wider(self.cpu_limit, other.cpu_limit),
            memory_limit: wider(self.memory_limit, other.memory_limit),
        }
    }
}

impl Spec {
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            cpu_requests: self.cpu_requests(),
            cpu_limit: self.cpu_limit(),
            memory_limit: self.memory_limit(),
        }
    }

    pub(crate) fn containers_mut(&mut self) -> impl Iterator<Item = &mut Container> {
        self.init_containers.iter_mut().chain(&mut self.containers)
    }

    /// Bytes that the Pod's containers may have together, where each has a limit.
    pub(crate) fn memory_limit(&self) -> Option<u64> {
        self.sum(&|c| c.resources.memory_limit)
            .filter(|limit| *limit > 0)
    }

    /// Thousandths of a CPU, where each container has a limit.
    pub(crate) fn cpu_limit(&self) -> Option<u64> {
        self.sum(&|c| c.resources.cpu_limit)
    }

    /// Thousandths of a CPU.
    pub(crate) fn cpu_requests(&self) -> u64 {
        let of = |c: &Container| c.resources.cpu_request.or(c.resources.cpu_limit);
        self.sum(&|c| Some(of(c).unwrap_or(0))).unwrap_or(0)
    }

    /// Bytes.
    pub(crate) fn memory_requests(&self) -> u64 {
        let of = |c: &Container| c.resources.memory_request.or(c.resources.memory_limit);
        self.sum(&|c| Some(of(c).unwrap_or(0))).unwrap_or(0)
    }

    /// Of the containers that run together, or the init container that has more. `None`
    /// where one of them has none.
    pub(super) fn sum(&self, of: &dyn Fn(&Container) -> Option<u64>) -> Option<u64> {
        let together = self.init_containers.iter().filter(|c| c.sidecar);
        let mut together = self.containers.iter().chain(together).map(of);
        let together = together.try_fold(0u64, |sum, one| Some(sum.saturating_add(one?)));
        let alone = self.init_containers.iter().filter(|c| !c.sidecar).map(of);
        alone.fold(together, |most, one| Some(most?.max(one?)))
    }
}
