//! Requests and limits of CPU time and memory, and their sums over a Pod.

use serde::{Deserialize, Serialize};

use super::{Container, Spec};

/// Requests and limits. A limit without a request is also the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resources {
    /// Thousandths of a CPU.
    pub cpu_request: Option<u64>,
    pub cpu_limit: Option<u64>,
    /// Bytes.
    pub memory_request: Option<u64>,
    pub memory_limit: Option<u64>,
}

impl Spec {
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
    fn sum(&self, of: &dyn Fn(&Container) -> Option<u64>) -> Option<u64> {
        let together = self.init_containers.iter().filter(|c| c.sidecar);
        let mut together = self.containers.iter().chain(together).map(of);
        let together = together.try_fold(0u64, |sum, one| Some(sum.saturating_add(one?)));
        let alone = self.init_containers.iter().filter(|c| !c.sidecar).map(of);
        alone.fold(together, |most, one| Some(most?.max(one?)))
    }
}
