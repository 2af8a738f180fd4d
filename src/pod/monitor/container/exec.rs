//! Processes beside a container's first: exec for clients, commands of probes and hooks.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sched::CloneFlags;
use nix::sys::epoll::EpollFlags;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, pipe2};

use super::child::{Child, Progress};
use crate::container::wanted::Stdio;
use crate::container::{exec, plan};
use crate::linux::selinux;
use crate::pod::monitor::handler::Caller;
use crate::pod::monitor::kubelet::Answer;
use crate::pod::monitor::kubelet::pause::is_paused;
use crate::pod::monitor::sandbox::labels;
use crate::pod::monitor::{Monitor, Source};
use crate::pod::protocol::{Exec, Reply};
use crate::pod::state::Now;
use crate::{Error, Ignored, Result};

/// For whom a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pod::monitor) enum Purpose {
    Client(u64),
    /// A probe or a hook.
    Handler(Caller),
    /// Nobody waits for its end any more; it is still to be reaped.
    Nobody,
}

#[derive(Debug)]
pub(in crate::pod::monitor) struct ExecProcess {
    container: String,
    purpose: Purpose,
    child: Child,
    /// In the host's pid namespace; of its process group as well, since it is a session's
    /// leader. It is not used again before the process has been waited for.
    pid: Pid,
    /// What a probe's command writes.
    output: Option<Output>,
}

/// The beginning of what a probe's command writes; the rest is read and dropped, so that
/// the command does not wait for a reader.
#[derive(Debug)]
struct Output {
    pipe: File,
    text: Vec<u8>,
}

impl Output {
    /// As much as a kubelet takes.
    const MOST: usize = 10 << 10;
    /// Bytes that are read at once.
    const ROUND: usize = 64 << 10;

    /// Reads what is there; false at its end.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        for _ in 0..Self::ROUND / buffer.len() {
            match self.pipe.read(&mut buffer) {
                Ok(0) => return false,
                Ok(n) => {
                    let room = Self::MOST - self.text.len();
                    self.text.extend_from_slice(&buffer[..n.min(room)]);
                }
                Err(_) => break,
            }
        }
        true
    }
}

/// The last value that is given for a name counts.
fn replace_variables(env: &mut Vec<String>, new: Vec<String>) {
    let name = |variable: &str| variable.split('=').next().map(str::to_owned);
    for variable in new {
        env.retain(|known| name(known) != name(&variable));
        env.push(variable);
    }
}

impl Monitor {
    /// Runs a client's command. The fds are its stdin, stdout and stderr.
    pub(in crate::pod::monitor) fn exec_for(
        &mut self,
        client: u64,
        request: Exec,
        fds: Vec<OwnedFd>,
    ) -> Result<()> {
        if !request.tty && fds.len() != 3 {
            return Err(Error::invalid("exec without a terminal needs three fds"));
        }
        let mut process = (*self.process_of(&request.container)?).clone();
        process.argv = request.command;
        process.terminal = request.tty;
        process.console_size = request.size;
        replace_variables(&mut process.env, request.env);
        if request.tty && !process.env.iter().any(|e| e.starts_with("TERM=")) {
            process.env.push("TERM=xterm".into());
        }
        if let Some(label) = self.exec_label(&request.container) {
            // The kernel puts the null device in the place of fds that the container may
            // not use. The client sends FIFOs that it has made for this.
            for fd in fds.iter().filter(|fd| is_fifo(fd)) {
                selinux::label_fd(fd, &label).ignored("the policy may allow the pipe as it is");
            }
        }
        let null = self.open_null()?;
        // The client's null device is the host's, which is not to be handed in.
        let fd = |i: usize| {
            let given = fds.get(i).filter(|fd| !is_null(fd));
            given.unwrap_or(&null).as_fd()
        };
        let stdio = Stdio {
            stdin: fd(0),
            stdout: fd(1),
            stderr: fd(2),
        };
        let purpose = Purpose::Client(client);
        self.start_exec(&request.container, purpose, &process, &stdio, None)
    }

    /// The SELinux label of pipes that a container with one may use.
    fn exec_label(&self, name: &str) -> Option<String> {
        self.live
            .get(name)?
            .process
            .as_ref()?
            .selinux_label
            .as_ref()?;
        let labels = labels::of_pod(&self.layout, self.pod()).ok()??;
        let options = self.spec_of(name).security.se_linux;
        Some(labels.with(options.as_ref()).files.to_string())
    }

    fn process_of(&self, name: &str) -> Result<Rc<plan::Process>> {
        let pod = self.pod();
        if pod.spec.container(name).is_none() {
            let names: Vec<&str> = pod
                .spec
                .every_container()
                .map(|c| c.name.as_str())
                .collect();
            return Err(Error::not_found(format!(
                "container {name:?} not found in pod {:?}",
                pod.name
            ))
            .hint(format!("it has: {}", names.join(", "))));
        }
        if self.state().paused.is_some() {
            return Err(is_paused(self.pod()));
        }
        let live = self.live.get(name).filter(|l| l.runs());
        match live.and_then(|l| l.process.as_ref()) {
            Some(process) => Ok(Rc::clone(process)),
            None => Err(self.not_running(name)),
        }
    }

    /// With why, and the command that tells more.
    pub(in crate::pod::monitor) fn not_running(&self, name: &str) -> Error {
        let container = self.state().containers.get(name);
        let has_run = container.is_some_and(|c| c.last.is_some());
        let (why, has_run) = match container.map(|c| &c.now) {
            Some(Now::Waiting { reason, .. }) => (reason.to_string(), has_run),
            Some(Now::Ended(e)) => (format!("ended with {} ({})", e.exit_code, e.reason), true),
            _ => ("it has not started".into(), has_run),
        };
        let pod = self.pod().as_arguments();
        Error::conflict(format!("container {name:?} is not running: {why}")).hint(match has_run {
            true => format!("carob logs {pod} -c {name}"),
            false => self
                .in_the_way(name)
                .unwrap_or_else(|| format!("carob describe pod {pod}")),
        })
    }

    /// The init container that a container waits for, and the command that shows its log.
    fn in_the_way(&self, name: &str) -> Option<String> {
        let inits = self.pod().spec.init_containers.iter();
        let mut before = inits.take_while(|c| c.name != name).filter(|c| !c.sidecar);
        before.find_map(|c| {
            let state = self.state().containers.get(&c.name)?;
            let (does, which) = match &state.now {
                Now::Running(_) => ("runs", ""),
                Now::Ended(e) if e.exit_code != 0 => ("failed", ""),
                Now::Waiting { .. } if state.last.is_some() => ("failed", "-p "),
                _ => return None,
            };
            let pod = self.pod().as_arguments();
            let init = &c.name;
            Some(format!(
                "its init container {init} comes first and {does}: carob logs {which}{pod} -c {init}"
            ))
        })
    }

    fn start_exec(
        &mut self,
        name: &str,
        purpose: Purpose,
        process: &plan::Process,
        stdio: &Stdio,
        output: Option<Output>,
    ) -> Result<()> {
        let live = self.live.get(name).filter(|l| l.runs());
        let Some((Some(init), Some(cgroup))) = live.map(|l| (&l.child, &l.cgroup)) else {
            return Err(self.not_running(name));
        };
        let join = cgroup.join_plan()?;
        let target = exec::Target {
            resctrl: &[],
            root: None,
            init: init.pidfd(),
            namespaces: match self.pod().spec.host_pid {
                true => exec::OF_POD - CloneFlags::CLONE_NEWPID,
                false => exec::OF_POD,
            },
            own_pid_namespace: self.host.pid_namespace.as_fd(),
            join: Some(&join),
        };
        let starting = exec::exec(&target, process, stdio)?;
        let id = self.events.new_id();
        let pid = starting.pid;
        if let Some(output) = &output {
            let source = Source::ExecOutput(id);
            self.events
                .watch(&output.pipe, EpollFlags::EPOLLIN, source)?;
        }
        let child = Child::new(starting, &mut self.events, Source::Exec(id))?;
        let container = name.to_owned();
        self.execs.insert(
            id,
            ExecProcess {
                container,
                purpose,
                child,
                pid,
                output,
            },
        );
        Ok(())
    }

    pub(in crate::pod::monitor) fn follow_exec(&mut self, id: u64) {
        let Some(mut exec) = self.execs.remove(&id) else {
            return;
        };
        let (child, progress) = exec.child.follow(&mut self.events, &Source::Exec(id));
        if let Some(child) = child {
            exec.child = child;
            if let Progress::Runs(terminal) = progress
                && let Purpose::Client(client) = exec.purpose
            {
                let fds: Vec<_> = terminal.iter().map(AsFd::as_fd).collect();
                self.reply(client, &Reply::Started, &fds);
            }
            self.execs.insert(id, exec);
            return;
        }
        let mut written = Vec::new();
        if let Some(mut output) = exec.output {
            output.read();
            self.events.unwatch(&output.pipe, &Source::ExecOutput(id));
            written = output.text;
        }
        match progress {
            Progress::Nothing | Progress::Runs(_) => {}
            Progress::Failed(e) => self.exec_is_over(&exec.container, exec.purpose, Err(e), &[]),
            Progress::Ended(status) => {
                let code = match status.unwrap_or(libc::SIGKILL) {
                    status if status & 0x7f == 0 => (status >> 8) & 0xff,
                    status => 128 + (status & 0x7f),
                };
                self.exec_is_over(&exec.container, exec.purpose, Ok(code), &written);
            }
        }
    }

    pub(in crate::pod::monitor) fn read_output_of(&mut self, id: u64) {
        let Some(exec) = self.execs.get_mut(&id) else {
            return;
        };
        let Some(output) = &mut exec.output else {
            return;
        };
        if !output.read() {
            self.events.unwatch(&output.pipe, &Source::ExecOutput(id));
        }
    }

    fn exec_is_over(&mut self, name: &str, purpose: Purpose, result: Result<i32>, written: &[u8]) {
        match (purpose, result) {
            (Purpose::Client(client), Ok(code)) => {
                self.reply(client, &Reply::Exited(Some(code)), &[]);
            }
            (Purpose::Client(client), Err(e)) => self.reply(client, &Reply::Failed(e), &[]),
            (Purpose::Handler(caller), result) => {
                let answer = result.map(|code| answer_of(code, written));
                self.handler_is_over(name, caller, answer);
            }
            (Purpose::Nobody, _) => {}
        }
    }

    /// The container has ended, and with its pid namespace all that ran in it; on
    /// the host's, its cgroup was killed. Processes whose end is not known yet tell later,
    /// but the end of a probe or hook then says nothing about the container's next attempt.
    pub(in crate::pod::monitor) fn end_execs_of(&mut self, name: &str) {
        let of_it = self.execs.iter().filter(|(_, e)| e.container == name);
        for id in of_it.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.follow_exec(id);
            if let Some(exec) = self.execs.get_mut(&id)
                && matches!(exec.purpose, Purpose::Handler(_))
            {
                exec.purpose = Purpose::Nobody;
            }
        }
    }

    /// Runs the command of a probe or hook.
    pub(in crate::pod::monitor) fn run_command(
        &mut self,
        name: &str,
        caller: Caller,
        command: Vec<String>,
    ) -> Result<()> {
        let mut process = (*self.process_of(name)?).clone();
        process.argv = command;
        process.terminal = false;
        // A probe is asked again by the next monitor, and would have nobody to end it.
        process.dies_with_caller = matches!(caller, Caller::Probe(_));
        let null = self.open_null()?;
        let (output, theirs) = match caller {
            Caller::Probe(_) => {
                let (ours, theirs) =
                    pipe2(OFlag::O_CLOEXEC).map_err(|e| Error::sys("pipe2(O_CLOEXEC)", e))?;
                // Its own end alone: a program may not expect that a write is refused.
                fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
                    .map_err(|e| Error::sys("fcntl(F_SETFL, O_NONBLOCK)", e))?;
                if let Some(label) = self.exec_label(name) {
                    selinux::label_fd(&theirs, &label)
                        .ignored("the policy may allow the pipe as it is");
                }
                let output = Output {
                    pipe: File::from(ours),
                    text: Vec::new(),
                };
                (Some(output), Some(theirs))
            }
            Caller::Hook(_) => (None, None),
        };
        let out = theirs.as_ref().unwrap_or(&null);
        let stdio = Stdio {
            stdin: null.as_fd(),
            stdout: out.as_fd(),
            stderr: out.as_fd(),
        };
        let purpose = Purpose::Handler(caller);
        self.start_exec(name, purpose, &process, &stdio, output)
    }

    /// Kills a command, and all that it has started in its own process group.
    pub(in crate::pod::monitor) fn cancel_command(&mut self, name: &str, purpose: Purpose) {
        let is_it = |e: &&mut ExecProcess| e.container == name && e.purpose == purpose;
        if let Some(exec) = self.execs.values_mut().find(is_it) {
            exec.purpose = Purpose::Nobody;
            // ESRCH: it has no group of its own yet.
            if killpg(exec.pid, Signal::SIGKILL).is_err() {
                exec.child.send(libc::SIGKILL);
            }
        }
    }
}

/// What a command's end says, as a probe's answer.
fn answer_of(code: i32, written: &[u8]) -> Answer {
    if code == 0 {
        return Answer::Success { warning: None };
    }
    let text = String::from_utf8_lossy(written);
    Answer::Failure(match text.trim() {
        "" => format!("the command ended with {code}"),
        text => format!("the command ended with {code}: {text}"),
    })
}

fn is_fifo(fd: &OwnedFd) -> bool {
    use nix::sys::stat::{SFlag, fstat};
    fstat(fd).is_ok_and(|s| SFlag::from_bits_truncate(s.st_mode) & SFlag::S_IFMT == SFlag::S_IFIFO)
}

fn is_null(fd: &OwnedFd) -> bool {
    use nix::sys::stat::{SFlag, fstat, makedev};
    fstat(fd).is_ok_and(|s| {
        SFlag::from_bits_truncate(s.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR
            && s.st_rdev == makedev(1, 3)
    })
}
