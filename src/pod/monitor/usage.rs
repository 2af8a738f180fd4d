//! Measures the Pod's volumes, in a child: that takes as long as there are files, and
//! containers make those. What follows the kubelet decides.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use super::helper::Helper;
use super::{Fact, Monitor, Source};
use crate::volume::usage::{self, Usage};
use crate::{Ignored, Result, sys};

/// Part of the [`Monitor`].
#[derive(Debug)]
pub(super) struct Measurement {
    /// It reports the JSON of each volume's [`Usage`].
    helper: Helper,
    began: Instant,
}

/// For all volumes of a Pod together.
const TIME_MOST: Duration = Duration::from_secs(120);

impl Monitor {
    /// `volumes`: how much of each is too much.
    pub(super) fn measure_volumes(&mut self, volumes: &BTreeMap<String, u64>) {
        let began = Instant::now();
        let helper = self.start_helper(Source::Measurement, |monitor, mut pipe| {
            let report = monitor.usage_of(volumes, began + TIME_MOST);
            let report = serde_json::to_vec(&report.unwrap_or_default()).unwrap_or_default();
            pipe.write_all(&report)
                .ignored("a monitor that has ended needs no report");
        });
        match helper {
            Ok(helper) => self.measurement = Some(Measurement { helper, began }),
            // For want of a process or an fd: later.
            Err(_) => self.tell_usage(&BTreeMap::new(), Duration::ZERO),
        }
    }

    /// In the child.
    fn usage_of(
        &self,
        volumes: &BTreeMap<String, u64>,
        until: Instant,
    ) -> Result<BTreeMap<String, Usage>> {
        self.enter_host()?;
        sys::process::give_way();
        let mut all = BTreeMap::new();
        for (name, most) in volumes {
            let dir = self.paths.disk_volume(name);
            if let Ok(usage) = usage::measure(&dir, *most, until) {
                all.insert(name.clone(), usage);
            }
        }
        Ok(all)
    }

    /// The child reports, and ends.
    pub(super) fn on_measured(&mut self) {
        let Some(m) = self.measurement.take() else {
            return;
        };
        let mut text = Vec::new();
        let read = m.helper.pipe().take(1 << 20).read_to_end(&mut text);
        self.reap_helper(&m.helper, &Source::Measurement);
        read.ignored("then there is no report, and the next one tells");
        let all = serde_json::from_slice(&text).unwrap_or_default();
        self.tell_usage(&all, m.began.elapsed());
    }

    fn tell_usage(&mut self, all: &BTreeMap<String, Usage>, took: Duration) {
        let partial = all.iter().filter(|(_, u)| u.partial);
        self.tell(Fact::VolumesUsed {
            partial: partial.map(|(name, _)| name.clone()).collect(),
            volumes: all
                .iter()
                .map(|(name, u)| (name.clone(), u.bytes))
                .collect(),
            took,
        });
    }

    /// Before the volumes are removed: the child has directories of them open.
    pub(super) fn end_measurement(&mut self) {
        if let Some(m) = self.measurement.take() {
            self.kill_helper(&m.helper, &Source::Measurement);
        }
    }
}
