//! Measures the Pod's volumes, in a child: that takes as long as there are files, and
//! containers make those. What follows the kubelet decides.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::helper::Helper;
use super::{Fact, Monitor, Source};
use crate::volume::usage::{self, Usage};
use crate::{Ignored, Result, sys};

/// Part of the [`Monitor`].
#[derive(Debug)]
pub(super) struct Measurement {
    /// It reports the JSON of each volume's [`Measured`].
    helper: Helper,
    began: Instant,
}

#[derive(Debug, Serialize, Deserialize)]
enum Measured {
    Used(Usage),
    /// Why not.
    Failed(String),
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
    ) -> Result<BTreeMap<String, Measured>> {
        self.enter_host()?;
        sys::process::give_way();
        let measured = |(name, most): (&String, &u64)| {
            let dir = self.paths.disk_volume(name);
            let measured = match usage::measure(&dir, *most, until) {
                Ok(usage) => Measured::Used(usage),
                Err(e) => Measured::Failed(e.to_string()),
            };
            (name.clone(), measured)
        };
        Ok(volumes.iter().map(measured).collect())
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

    fn tell_usage(&mut self, all: &BTreeMap<String, Measured>, took: Duration) {
        let used = all.iter().filter_map(|(name, measured)| match measured {
            Measured::Used(usage) => Some((name.clone(), usage.bytes)),
            Measured::Failed(_) => None,
        });
        let not_whole = all.iter().filter_map(|(name, measured)| match measured {
            Measured::Used(usage) => usage.partial.then(|| {
                (
                    name.clone(),
                    "it has too many or too deep directories".into(),
                )
            }),
            Measured::Failed(why) => Some((name.clone(), why.clone())),
        });
        self.tell(Fact::VolumesUsed {
            volumes: used.collect(),
            not_whole: not_whole.collect(),
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
