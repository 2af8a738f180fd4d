//! The monitor's debug log: `monitor.log` in the Pod's directory, which its containers
//! cannot reach and which goes with the Pod. Written if the command that started the
//! monitor had a log: the monitor has the same level.
//!
//! It has a bound, since a Pod may live for years: a full file becomes `monitor.log.1`, in
//! the place of the one before. A line that cannot be written is lost, without any other
//! effect on the Pod.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use log::LevelFilter;
use serde::Serialize;
use serde_json::Value;

use crate::debug_log;
use crate::store::PodPaths;

/// Bytes of one file.
const BOUND: u64 = 4 << 20;

/// Begins the log if the environment asks for one; the command that started this process
/// has written it.
pub(super) fn start(paths: &PodPaths) {
    let Ok(Some(level)) = debug_log::level_of_environment() else {
        return;
    };
    if let Some(file) = LogFile::open(paths.monitor_log()) {
        debug_log::start(level, Box::new(move |line| file.write(&line.to_string())));
    }
}

struct LogFile {
    path: PathBuf,
    bound: u64,
    file: Mutex<File>,
    /// The monitor. Its children write to its file, and never replace it.
    owner: u32,
}

impl LogFile {
    fn open(path: PathBuf) -> Option<Self> {
        Some(LogFile {
            file: Mutex::new(open(&path)?),
            path,
            bound: BOUND,
            owner: std::process::id(),
        })
    }

    fn write(&self, line: &str) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let size = file.metadata().map_or(u64::MAX, |m| m.len());
        let is_full = size.saturating_add(line.len() as u64) > self.bound;
        if is_full && std::process::id() == self.owner {
            // The next line may have more luck, unless the Pod's directory has gone.
            match self.replace() {
                Some(new) => *file = new,
                None => return,
            }
        } else if size > 2 * self.bound {
            return;
        }
        #[expect(
            clippy::let_underscore_must_use,
            reason = "this is the log: it has no other place"
        )]
        let _ = nix::unistd::write(&*file, line.as_bytes());
    }

    fn replace(&self) -> Option<File> {
        #[expect(
            clippy::let_underscore_must_use,
            reason = "it is not there where an earlier try could not open the new one"
        )]
        let _ = std::fs::rename(&self.path, self.path.with_extension("log.1"));
        let new = open(&self.path)?;
        let is_new = new.metadata().is_ok_and(|m| m.len() < self.bound);
        is_new.then_some(new)
    }
}

fn open(path: &Path) -> Option<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    options.custom_flags(libc::O_NOFOLLOW).open(path).ok()
}

/// Fields of facts and actions that are shown; others may have what is secret, or the
/// whole Pod.
const SHOWN: [&str; 27] = [
    "beginning",
    "container",
    "error",
    "errors",
    "exit_code",
    "force",
    "grace",
    "hook",
    "host_ip",
    "id",
    "image",
    "ips",
    "message",
    "name",
    "number",
    "oom_killed",
    "pid",
    "probe",
    "reason",
    "refusal",
    "rest",
    "result",
    "signal",
    "status",
    "user",
    "warnings",
    "warns",
];

/// The message of this one is what a container has written.
const ENDED: &str = "Ended";

/// A fact or an action in one line, as in `Started container="app" pid=7`.
pub(super) fn brief(what: &impl Serialize) -> String {
    match serde_json::to_value(what) {
        Ok(Value::String(name)) => name,
        Ok(Value::Object(whole)) => {
            let mut text = String::new();
            for (name, fields) in &whole {
                text.push_str(name);
                for (field, value) in fields.as_object().into_iter().flatten() {
                    let is_containers = name == ENDED && field == "message";
                    if let Some(kind) = kind_of_answer(field, value) {
                        text.push_str(&format!(" {field}={kind}"));
                        continue;
                    }
                    match SHOWN.contains(&field.as_str()) && !is_containers {
                        true => text.push_str(&format!(" {field}={}", shown(value))),
                        false => text.push_str(&format!(" {field}=...")),
                    }
                }
            }
            text
        }
        _ => String::new(),
    }
}

/// What a container answers to a probe is its own; whether it was a success is not.
fn kind_of_answer<'a>(field: &str, value: &'a Value) -> Option<&'a str> {
    let kinds = value.as_object().filter(|_| field == "answer")?;
    kinds.keys().next().map(String::as_str)
}

/// An error as people read it, not as it is kept.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(all) => {
            let all: Vec<String> = all.iter().map(shown).collect();
            format!("[{}]", all.join(", "))
        }
        Value::Object(fields) if fields.contains_key("chain") => {
            match serde_json::from_value::<crate::Error>(value.clone()) {
                Ok(e) => format!("{:?}", e.to_string()),
                Err(_) => value.to_string(),
            }
        }
        // The result of a hook.
        Value::Object(fields) if fields.len() == 1 => {
            let each = fields.iter().map(|(k, v)| format!("{k}({})", shown(v)));
            each.collect()
        }
        _ => value.to_string(),
    }
}

/// Whether facts and actions are written.
pub(super) fn is_on() -> bool {
    log::max_level() >= LevelFilter::Debug
}

#[cfg(test)]
mod tests {
    use super::super::kubelet::{Action, Answer, Fact, HookKind, Warning};
    use super::*;
    use crate::Error;
    use crate::pod::reason::Reason;
    use crate::spec::{Check, ProbeKind};

    #[test]
    fn the_file_is_bounded() {
        use std::os::unix::fs::PermissionsExt;
        let dir = std::env::temp_dir().join(format!("carob-log-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("monitor.log");
        let mut log = LogFile::open(path.clone()).unwrap();
        log.bound = 1000;
        let line = format!("{}\n", "x".repeat(99));
        (0..25).for_each(|_| log.write(&line));
        let size = |name: &str| std::fs::metadata(dir.join(name)).unwrap().len();
        assert_eq!((size("monitor.log"), size("monitor.log.1")), (500, 1000));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        // It goes on after a try that has got no further than the renaming.
        std::fs::rename(&path, dir.join("monitor.log.1")).unwrap();
        (0..10).for_each(|_| log.write(&line));
        assert_eq!((size("monitor.log"), size("monitor.log.1")), (500, 1000));
        // A child of the monitor does not replace it, and cannot fill the disk either.
        log.owner = 0;
        (0..100).for_each(|_| log.write(&line));
        assert_eq!((size("monitor.log"), size("monitor.log.1")), (2100, 1000));
        // Without the directory nothing is made, and nothing fails.
        log.owner = std::process::id();
        std::fs::remove_dir_all(&dir).unwrap();
        log.write(&line);
        assert!(!dir.exists());
    }

    #[test]
    fn facts_and_actions_are_shown_without_what_may_be_secret() {
        let hook = Action::RunHook {
            container: "app".into(),
            hook: HookKind::PostStart,
            check: Check::Exec(vec!["sh".into(), "secret".into()]),
        };
        assert_eq!(
            brief(&hook),
            r#"RunHook container="app" hook="PostStart" check=..."#
        );
        assert_eq!(brief(&Action::MakeSandbox), "MakeSandbox");
        let ended = Fact::Ended {
            container: "app".into(),
            status: Some(256),
            oom_killed: false,
            message: "secret".into(),
        };
        assert_eq!(
            brief(&ended),
            r#"Ended container="app" status=256 oom_killed=false message=..."#
        );
        let probed = Fact::Probed {
            container: "app".into(),
            probe: ProbeKind::Liveness,
            answer: Answer::Failure("secret".into()),
        };
        assert_eq!(
            brief(&probed),
            r#"Probed container="app" probe="Liveness" answer=Failure"#
        );
        let event = Fact::Event(Warning {
            warns: true,
            reason: Reason::FailedMount,
            message: "volume x".into(),
        });
        assert_eq!(
            brief(&event),
            r#"Event warns=true reason="FailedMount" message="volume x""#
        );
        let refused = Fact::HookEnded {
            container: "app".into(),
            hook: HookKind::PreStop,
            result: Err(Error::failed("no such file").push_context("the hook")),
        };
        assert_eq!(
            brief(&refused),
            r#"HookEnded container="app" hook="PreStop" result=Err("the hook: no such file")"#
        );
    }
}
