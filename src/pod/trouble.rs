//! What is wrong with a Pod, in one sentence: the first container that failed or waits
//! for something, what it wrote last, and the command that shows more.

use std::path::{Path, PathBuf};

use crate::plain::strip_styles;
use crate::pod::client::View;
use crate::pod::limits;
use crate::pod::logs::Record;
use crate::pod::logs::attempt::find_attempt;
use crate::pod::logs::read::Reader;
use crate::pod::reason::Reason;
use crate::pod::state::ContainerState;
use crate::pod::status::{ContainerStatus, Terminated};
use crate::spec::{Container, Pod};
use crate::store::Layout;

/// Characters of a line that are quoted.
const QUOTED: usize = 200;
/// Lines from the end among which one that is not blank is looked for.
const LOOKED_AT: u64 = 20;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub container: String,
    /// As in `CrashLoopBackOff (exit code 1, 3 restarts)`.
    pub state: String,
    /// What the container wrote last, where that tells more than the state.
    pub last_line: Option<String>,
    /// What to do: the command that shows more, and the change that mends it where the
    /// state tells that.
    pub mend: String,
}

impl Trouble {
    /// All but the mend.
    pub(crate) fn text(&self) -> String {
        let text = format!("container {}: {}", self.container, self.state);
        match &self.last_line {
            Some(line) => format!("{text}; its last line: {line}"),
            None => text,
        }
    }
}

/// `None`: its containers run, or have done what they were to do, or nothing is known
/// yet.
pub(crate) fn of(layout: &Layout, view: &View) -> Option<Trouble> {
    let status = view.status();
    let all = status.init_container_statuses.iter();
    let all = all.chain(&status.container_statuses);
    let (c, (state, ended)) = all.into_iter().find_map(|c| Some((c, state_of(c)?)))?;
    let waits = c.state.waiting.is_some();
    let lines = match ended {
        Some(t) if has_run(t) => last_lines(layout, view, &c.name, waits),
        _ => Vec::new(),
    };
    let mend = match ended {
        Some(t) if has_run(t) => {
            let logs = view.pod.logs_command(&c.name, waits);
            let change = change_for(t, view.pod.spec.container(&c.name));
            match change.or_else(|| change_for_words(&view.pod, &c.name, &lines)) {
                Some(change) => format!("{change}: {logs}"),
                None => logs,
            }
        }
        _ => format!("carob describe pod {}", view.pod.as_arguments()),
    };
    // What it waits for says itself what mends it.
    let record = view.state.as_ref().and_then(|s| s.containers.get(&c.name));
    let waits_for = record.and_then(ContainerState::waits_for).filter(|_| waits);
    let (state, mend) = match (waits_for, &c.state.waiting) {
        (Some((text, mend)), Some(w)) => (format!("{}: {text}", w.reason), mend.to_owned()),
        _ => (state, mend),
    };
    Some(Trouble {
        container: c.name.clone(),
        state,
        last_line: lines.last().map(|line| quoted(line)),
        mend,
    })
}

/// The change to the manifest that an end calls for.
fn change_for(t: &Terminated, container: Option<&Container>) -> Option<String> {
    match (t.reason, t.exit_code) {
        (Reason::OOMKilled, _) => Some(match container.and_then(|c| c.resources.memory_limit) {
            Some(limit) => format!(
                "it needed more memory than resources.limits.memory allows, {}: raise that in \
                     the manifest, such as to {}, or see what the program did",
                limits::bytes(limit),
                limits::bytes(more_than(limit))
            ),
            None => "the kernel ended it, since the Pod or the machine had no memory left: \
                         stop other programs (free -m shows what is left), or see what the \
                         program did"
                .to_owned(),
        }),
        // Only a container that is started again is in trouble with this.
        (_, 0) => Some(
            "a program that ends needs restartPolicy OnFailure or Never, a server has to stay in \
             the foreground"
                .to_owned(),
        ),
        _ => None,
    }
}

/// Twice a memory limit, and never less than most programs start with.
fn more_than(limit: u64) -> u64 {
    const LEAST: u64 = 64 << 20;
    limit.saturating_mul(2).max(LEAST)
}

/// Lines from the end among which an error of the system is looked for.
const WORDS_LOOKED_AT: usize = 5;

/// The change to the manifest that an error of the system in a container's last lines calls
/// for.
fn change_for_words(pod: &Pod, container: &str, lines: &[String]) -> Option<String> {
    let spec = pod.spec.container(container)?;
    let mut lines = lines.iter().rev().take(WORDS_LOOKED_AT);
    lines.find_map(|line| change_for_line(line, spec, pod.spec.host_network))
}

fn change_for_line(line: &str, spec: &Container, host_network: bool) -> Option<String> {
    let words = line;
    let line = line.to_ascii_lowercase();
    let says = |words: &str| line.contains(words);
    let security = &spec.security;
    let user = match security.run_as_user {
        Some(uid) => format!("user {uid}"),
        None => "its user".to_owned(),
    };
    Some(match () {
        () if says("address already in use") && host_network => {
            "with hostNetwork its ports are the machine's: let it listen on another, or stop the \
             program that has this one (ss -lntup names it)"
                .into()
        }
        () if says("permission denied") && says("bind") => {
            let sysctl = match host_network {
                true => "",
                false => {
                    ", set securityContext.sysctls of the Pod: [{name: \
                     net.ipv4.ip_unprivileged_port_start, value: \"0\"}]"
                }
            };
            format!(
                "{user} may not listen on a port below 1024: let it listen on a higher one{sysctl}, \
                 or run it as user 0 (runAsUser: 0)"
            )
        }
        () if says("read-only file system") && security.read_only_root => {
            format!(
                "readOnlyRootFilesystem is set: {}",
                room_for(&written(words))
            )
        }
        () if says("permission denied") && security.run_as_user != Some(0) => format!(
            "{user} may not write there, or read it: {}, set fsGroup for a volume, or set another \
             runAsUser",
            room_for(&written(words))
        ),
        () if says("no space left on device") => {
            "a filesystem is full: raise emptyDir.sizeLimit of the volume it writes to, or free \
             space on the machine (carob system df)"
                .into()
        }
        () => return None,
    })
}

/// The directory of the file that a line names.
fn written(line: &str) -> Option<PathBuf> {
    let is_end = |c: char| c.is_whitespace() || "'\"`:,;()[]".contains(c);
    let word = line.split(is_end).find(|word| word.starts_with('/'))?;
    Path::new(word).parent().map(Path::to_owned)
}

/// A volume that the container may write to, where it wants to write to `dir`. An emptyDir
/// hides what the image has at its place, so that none can be where the system's files are.
fn room_for(dir: &Option<PathBuf>) -> String {
    const OF_THE_SYSTEM: &[&str] = &[
        "bin", "dev", "etc", "lib", "lib64", "proc", "sbin", "sys", "usr",
    ];
    let first = |dir: &Path| {
        dir.iter()
            .nth(1)
            .map(|name| name.to_string_lossy().into_owned())
    };
    match dir {
        Some(dir) => match first(dir) {
            Some(name) if !OF_THE_SYSTEM.contains(&name.as_str()) => {
                format!("mount an emptyDir at {}", dir.display())
            }
            _ => format!(
                "let it write to a directory of its own, such as /data, and not to {}, and mount \
                 an emptyDir at /data",
                dir.display()
            ),
        },
        None => "mount an emptyDir at the directory that it writes to".to_owned(),
    }
}

/// What to look at where a container has not started since another one failed or runs
/// before it.
pub(crate) fn in_the_way(view: &View, container: &str) -> Option<String> {
    let pod = &view.pod;
    let status = view.status();
    let all = status.init_container_statuses.iter();
    let mut before = all.take_while(|c| c.name != container);
    before.find_map(|c| {
        let failed = state_of(c).filter(|(_, ended)| ended.is_some_and(has_run));
        let waits = c.state.waiting.is_some();
        match failed {
            Some((state, _)) => Some(format!(
                "its init container {} comes first and failed ({state}): {}",
                c.name,
                pod.logs_command(&c.name, waits)
            )),
            None if c.state.running.is_some() && !c.ready => Some(format!(
                "its init container {} comes first and runs: {}",
                c.name,
                pod.logs_command(&c.name, false)
            )),
            None => None,
        }
    })
}

/// The state of a container that is not well, and the end that led to it.
fn state_of(c: &ContainerStatus) -> Option<(String, Option<&Terminated>)> {
    if let Some(t) = &c.state.terminated {
        return (t.exit_code != 0).then(|| (ending(t), Some(t)));
    }
    let waiting = c.state.waiting.as_ref()?;
    match (waiting.reason, &c.last_state.terminated) {
        (Reason::ContainerCreating | Reason::PodInitializing, _) => None,
        (Reason::CrashLoopBackOff, Some(t)) => {
            let restarts = match c.restart_count {
                1 => "1 restart".to_owned(),
                n => format!("{n} restarts"),
            };
            let state = format!("CrashLoopBackOff ({}, {restarts})", ending(t));
            Some((state, Some(t)))
        }
        (reason, _) if waiting.message.is_empty() => Some((reason.to_string(), None)),
        (reason, _) => Some((format!("{reason}: {}", waiting.message), None)),
    }
}

fn ending(t: &Terminated) -> String {
    match t.reason {
        Reason::StartError => format!("StartError: {}", t.message),
        Reason::Error | Reason::Completed => format!("exit code {}", t.exit_code),
        reason => format!("{reason}, exit code {}", t.exit_code),
    }
}

/// Only a program that has run has written something.
fn has_run(t: &Terminated) -> bool {
    t.started_at.is_some()
}

/// The last line that a container wrote which is not blank. `previous` as in
/// `carob logs`.
pub(crate) fn last_line(
    layout: &Layout,
    view: &View,
    container: &str,
    previous: bool,
) -> Option<String> {
    let lines = last_lines(layout, view, container, previous);
    lines.last().map(|line| quoted(line))
}

fn quoted(line: &str) -> String {
    match line.char_indices().nth(QUOTED) {
        Some((cut, _)) => format!("{}...", &line[..cut]),
        None => line.to_owned(),
    }
}

/// The last lines that are not blank, the last one last.
fn last_lines(layout: &Layout, view: &View, container: &str, previous: bool) -> Vec<String> {
    let found = find_attempt(layout, view, container, previous);
    let reader = found.and_then(|(dir, attempt)| Reader::open(&dir, attempt, Some(LOOKED_AT)));
    let Ok(mut reader) = reader else {
        return Vec::new();
    };
    let (mut lines, mut line) = (Vec::new(), String::new());
    while let Ok(Some(bytes)) = reader.next_line() {
        let Some(record) = Record::parse(bytes) else {
            continue;
        };
        line.push_str(&String::from_utf8_lossy(record.text));
        if !record.partial {
            let whole = std::mem::take(&mut line);
            if !whole.trim().is_empty() {
                lines.push(strip_styles(whole.trim()));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_advised_where_one_can_be() {
        let at = |line: &str| room_for(&written(line));
        let line = "sh: can't create /var/lib/app/x: Read-only file system";
        assert_eq!(at(line), "mount an emptyDir at /var/lib/app");
        let line = "open '/srv/x': Permission denied";
        assert_eq!(at(line), "mount an emptyDir at /srv");
        for (line, not) in [
            ("touch: /x: Read-only file system", "/"),
            ("open(/etc/x.conf)", "/etc"),
        ] {
            let own = format!("and not to {not}, and mount an emptyDir at /data");
            assert!(at(line).ends_with(&own), "{}", at(line));
        }
        assert!(at("Read-only file system").ends_with("the directory that it writes to"));
    }
}
