//! A recorded run: the Pod and the state that a monitor began with, then each fact with
//! its time and the actions that followed, one JSON document a line. [`replay`] tells the
//! facts to a new [`Kubelet`] and compares what it decides.
//!
//! Written where the environment variable [`VARIABLE`] names a directory.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Action, Fact, Kubelet, Moment};
use crate::pod::state::State;
use crate::spec::Pod;
use crate::{Context, Error, Ignored, Result};

/// A directory for `UID.PID.jsonl`, PID the monitor's.
pub const VARIABLE: &str = "CAROB_FACTS";

#[derive(Debug, Serialize, Deserialize)]
struct Beginning {
    pod: Pod,
    state: State,
}

#[derive(Debug, Serialize, Deserialize)]
struct Step {
    at: Moment,
    fact: Fact,
    actions: Vec<Action>,
}

/// A run that is being recorded.
#[derive(Debug)]
pub(crate) struct Trace(File);

impl Trace {
    /// `None`: nobody has asked for a record.
    pub(crate) fn open(pod: &Pod, state: &State) -> Option<Self> {
        let dir = std::env::var_os(VARIABLE)?;
        let name = format!("{}.{}.jsonl", pod.uid, std::process::id());
        Trace::create(&Path::new(&dir).join(name), pod, state).ok()
    }

    pub(super) fn create(path: &Path, pod: &Pod, state: &State) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("open({})", path.display()))?;
        let mut trace = Trace(file);
        trace.write(&serde_json::json!({ "pod": pod, "state": state }));
        Ok(trace)
    }

    pub(crate) fn step(&mut self, at: Moment, fact: &Fact, actions: &[Action]) {
        self.write(&serde_json::json!({ "at": at, "fact": fact, "actions": actions }));
    }

    fn write(&mut self, line: &serde_json::Value) {
        self.0
            .write_all(format!("{line}\n").as_bytes())
            .ignored("replay reads a record that is cut short");
    }
}

/// Replays a recorded run; how many facts it has.
///
/// # Errors
/// The first fact after which other actions follow than those recorded, or a line that
/// cannot be read.
pub fn replay(path: &Path) -> Result<usize> {
    let file = File::open(path).with_context(|| format!("open({})", path.display()))?;
    let mut lines = BufReader::new(file).lines();
    let at = |number: usize| format!("{}:{number}", path.display());
    let Some(first) = lines.next() else {
        return Ok(0);
    };
    let Beginning { pod, state } = serde_json::from_str(&first?).with_context(|| at(1))?;
    let mut kubelet = Kubelet::new(pod, state);
    let mut facts = 0;
    for line in lines {
        let line = line?;
        // The last one may have been cut short by the end of the monitor.
        let Ok(step) = serde_json::from_str::<Step>(&line) else {
            break;
        };
        facts += 1;
        let fact = format!("{:?}", step.fact);
        let actions = kubelet.step(step.at, step.fact);
        if actions != step.actions {
            return Err(Error::failed(format!(
                "after {fact}: {actions:?}, recorded are {:?}",
                step.actions
            ))
            .push_context(at(facts + 1)));
        }
    }
    Ok(facts)
}
