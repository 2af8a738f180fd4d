//! Hooks: config.md, "POSIX-platform Hooks". Programs that somebody else wants run
//! at certain points of a container's life, told its state on their stdin.
//!
//! A hook's output goes to a memfd, not to a pipe: a background process that keeps
//! a pipe open must not keep the runtime (cri-o CVE-2022-1708). What it said is
//! shown if it fails.

use std::collections::HashMap;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use crate::sys::process as sys;
use crate::{Context, Error, Ignored, Result};

/// The most of a hook's output that an error shows, bytes.
const SHOWN: u64 = 4096;

#[derive(Clone, Debug)]
pub struct Hook {
    pub path: PathBuf,
    pub args: Vec<String>,
    /// None: the environment of the process that runs it, as with runc and crun; PATH is
    /// in it, which a hook that is a script needs.
    pub env: Option<Vec<String>>,
    pub timeout: Option<Duration>,
}

/// Every hook of a container, by when it runs.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    pub prestart: Vec<Hook>,
    pub create_runtime: Vec<Hook>,
    pub create_container: Vec<Hook>,
    pub start_container: Vec<Hook>,
    pub poststart: Vec<Hook>,
    pub poststop: Vec<Hook>,
}

/// What a container's state says of it, whatever its status: runtime.md, "State".
#[derive(Clone, Debug)]
pub struct Subject {
    pub oci_version: String,
    pub id: String,
    pub bundle: PathBuf,
    pub annotations: HashMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    pid: i32,
    bundle: &'a PathBuf,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    annotations: &'a HashMap<String, String>,
}

fn is_zero(pid: &i32) -> bool {
    *pid == 0
}

impl Subject {
    /// `pid` 0: there is none.
    pub fn state(&self, status: &str, pid: i32) -> Vec<u8> {
        let state = State {
            oci_version: &self.oci_version,
            id: &self.id,
            status,
            pid,
            bundle: &self.bundle,
            annotations: &self.annotations,
        };
        serde_json::to_vec(&state).unwrap_or_default()
    }
}

/// Runs hooks one after the other, until one fails. `state` is what each reads.
pub(crate) fn run(kind: &str, hooks: &[Hook], state: &[u8]) -> Result<()> {
    for (i, hook) in hooks.iter().enumerate() {
        run_one(hook, state).with_context(|| format!("hooks.{kind}[{i}] {:?}", hook.path))?;
    }
    Ok(())
}

/// Runs all hooks, whatever becomes of each: "the remaining hooks and lifecycle
/// continue as if the hook had succeeded". What failed is returned, for the log.
pub(crate) fn run_all(kind: &str, hooks: &[Hook], state: &[u8]) -> Vec<String> {
    let ran = hooks.iter().enumerate().map(|(i, hook)| {
        run_one(hook, state).with_context(|| format!("hooks.{kind}[{i}] {:?}", hook.path))
    });
    ran.filter_map(|r| r.err().map(|e| e.to_string())).collect()
}

fn run_one(hook: &Hook, state: &[u8]) -> Result<()> {
    log::debug!("run the hook {:?}", hook.path);
    let memfd = |name| {
        nix::sys::memfd::memfd_create(name, nix::sys::memfd::MFdFlags::MFD_CLOEXEC)
            .map(std::fs::File::from)
            .map_err(|e| Error::sys("memfd_create()", e))
    };
    // Not a pipe: a hook that does not read it is no error.
    let mut input = memfd("state")?;
    std::io::Write::write_all(&mut input, state)?;
    input.rewind()?;
    let mut output = memfd("output")?;
    let mut command = Command::new(&hook.path);
    command
        .stdin(input)
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    if let Some(env) = &hook.env {
        command.env_clear();
        let entries = env.iter().map(|e| e.split_once('=').unwrap_or((e, "")));
        command.envs(entries.filter(|(name, _)| !name.is_empty()));
    }
    let mut child = command.spawn().context("execve()")?;
    if let Some(limit) = hook.timeout {
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        let pidfd = sys::pidfd_open(pid).map_err(|e| Error::sys("pidfd_open()", e))?;
        if sys::await_end(pidfd.as_fd(), limit) == Ok(false) {
            child.kill().ignored("the hook may have ended already");
            child
                .wait()
                .ignored("the hook's timeout is the error to tell");
            return Err(Error::failed(format!(
                "killed after its timeout of {} s{}",
                limit.as_secs(),
                said(&mut output)
            )));
        }
    }
    let status = child.wait()?;
    match status.success() {
        true => Ok(()),
        false => Err(Error::failed(format!("{status}{}", said(&mut output)))),
    }
}

fn said(output: &mut std::fs::File) -> String {
    let mut text = Vec::new();
    output
        .rewind()
        .and_then(|()| output.take(SHOWN).read_to_end(&mut text))
        .ignored("the error is told without the hook's words");
    match String::from_utf8_lossy(&text).trim() {
        "" => String::new(),
        text => format!(", and said {text:?}"),
    }
}
