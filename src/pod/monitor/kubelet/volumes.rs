//! The sizes of emptyDirs on disk: a Pod whose volume has grown beyond its sizeLimit is
//! evicted, in a kubelet's words. Only a Pod that has such a volume is ever woken for it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Action, Kubelet, Moment, Timer};
use crate::pod::reason::Reason;
use crate::spec::VolumeSource;

/// Between two measurements, as a kubelet's: the next one begins so long after the end of
/// the last one.
const PERIOD: Duration = Duration::from_secs(10);
/// So many times as long as a measurement took is the pause after it, at least: measuring
/// takes a small part of a processor.
const SHARE: u32 = 10;
/// Of an evicted Pod, as a kubelet's.
const GRACE: Duration = Duration::from_secs(1);

impl Kubelet {
    /// The limits of volumes that have to be measured.
    fn volume_limits(&self) -> BTreeMap<String, u64> {
        let limit = |source: &VolumeSource| match source {
            VolumeSource::EmptyDir {
                memory: false,
                size_limit,
                ..
            } => *size_limit,
            _ => None,
        };
        let all = self.pod.spec.volumes.iter();
        all.filter_map(|v| Some((v.name.clone(), limit(&v.source)?)))
            .collect()
    }

    /// Sees to it that they are measured, while containers may write to them.
    pub(super) fn watch_volumes(&mut self, at: Moment) {
        let waits = self.measuring_volumes || self.timers.contains_key(&Timer::Volumes);
        if !waits && !self.volume_limits().is_empty() {
            let pause = self.volumes_pause.max(PERIOD);
            self.timers.insert(Timer::Volumes, at.clock + pause);
        }
    }

    pub(super) fn measure_volumes(&mut self) {
        if self.termination.is_none() && self.adopted {
            self.measuring_volumes = true;
            let volumes = self.volume_limits();
            self.actions.push(Action::MeasureVolumes { volumes });
        }
    }

    /// `not_whole`: why of these not all could be counted, if that is known.
    pub(super) fn volumes_used(
        &mut self,
        at: Moment,
        used: &BTreeMap<String, u64>,
        not_whole: &BTreeMap<String, String>,
        took: Duration,
    ) {
        self.measuring_volumes = false;
        self.volumes_pause = took * SHARE;
        if self.termination.is_some() {
            return;
        }
        let limits = self.volume_limits();
        let over = |name: &String| used.get(name).is_some_and(|used| *used > limits[name]);
        if let Some(name) = limits.keys().find(|name| over(name)) {
            let limit = quantity(limits[name]);
            // The space at the end is a kubelet's.
            let text = format!("Usage of EmptyDir volume {name:?} exceeds the limit {limit:?}. ");
            self.fail(at, Reason::Evicted, &text);
            return self.end_within(at, GRACE);
        }
        for name in limits.keys() {
            let why = match (not_whole.get(name), used.contains_key(name)) {
                (Some(why), _) => why,
                (None, true) => continue,
                (None, false) => "the process that measures it ended without a report",
            };
            let text = format!(
                "volume {name} could not be measured whole: {why}; its sizeLimit is enforced for \
                 what could be measured"
            );
            self.event(at, true, Reason::VolumeNotMeasured, text);
        }
    }
}

/// Bytes as Kubernetes writes them.
fn quantity(bytes: u64) -> String {
    let binary = [
        ("Ti", 1 << 40),
        ("Gi", 1 << 30),
        ("Mi", 1 << 20),
        ("Ki", 1 << 10),
    ];
    let decimal = [
        ("T", 1_000_000_000_000),
        ("G", 1_000_000_000),
        ("M", 1_000_000),
        ("k", 1000),
    ];
    let fits = |(_, unit): &&(&str, u64)| bytes > 0 && bytes.is_multiple_of(*unit);
    match binary.iter().chain(&decimal).find(fits) {
        Some((suffix, unit)) => format!("{}{suffix}", bytes / unit),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (bytes, text) in [
            (10 << 20, "10Mi"),
            (1536 << 20, "1536Mi"),
            (1 << 30, "1Gi"),
            (10_000_000, "10M"),
            (1000, "1k"),
            (7, "7"),
            (0, "0"),
        ] {
            assert_eq!(quantity(bytes), text);
        }
    }
}
