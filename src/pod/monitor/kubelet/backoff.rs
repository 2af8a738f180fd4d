//! Pauses between tries.

use std::time::Duration;

/// Back-off between restarts: the first delay, the longest, and how long a container has
/// to run for the delay to be the first again. As a kubelet's.
pub(crate) const FIRST: Duration = Duration::from_secs(10);
pub(crate) const MOST: Duration = Duration::from_secs(300);
pub(crate) const RESET: Duration = Duration::from_secs(600);

/// The delay after one of `before` (`None`: the first).
pub(crate) fn next(before: Option<Duration>) -> Duration {
    doubled(before, FIRST, MOST)
}

/// The pause after one of `before` (`None`: the first) between two tries.
pub(crate) fn doubled(before: Option<Duration>, first: Duration, most: Duration) -> Duration {
    before.map_or(first, |pause| (pause * 2).min(most))
}
