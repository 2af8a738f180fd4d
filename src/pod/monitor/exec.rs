//! Processes beside a container's first: exec for clients, hooks for the Pod.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use nix::sched::CloneFlags;
use nix::sys::epoll::EpollFlags;

use super::launch::open_null;
use super::lifecycle::Stage;
use super::{Monitor, Source, Timer, labels};
use crate::container::spawn::{Started, Starting, Stdio};
use crate::container::{exec, plan};
use crate::linux::selinux;
use crate::pod::protocol::{Exec, Reply};
use crate::pod::state::Now;
use crate::sys::process as sys;
use crate::{Error, Result};

/// On whose behalf a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Client(u64),
    PostStart,
    PreStop,
    /// Who asked has been answered; the process is still to be reaped.
    Nobody,
}

#[derive(Debug)]
pub(super) struct ExecProcess {
    container: String,
    pub purpose: Purpose,
    stage: ExecStage,
}

#[derive(Debug)]
enum ExecStage {
    Starting(Starting),
    Running(OwnedFd),
}

impl Monitor {
    /// Runs a client's command. The fds are its stdin, stdout and stderr.
    pub(super) fn exec_for(&mut self, client: u64, request: Exec, fds: Vec<OwnedFd>) -> Result<()> {
        if !request.tty && fds.len() != 3 {
            return Err(Error::invalid("exec without a terminal needs three fds"));
        }
        let mut process = (*self.process_of(&request.container)?).clone();
        process.argv = request.command;
        process.terminal = request.tty;
        process.console_size = request.size;
        if request.tty && !process.env.iter().any(|e| e.starts_with("TERM=")) {
            process.env.push("TERM=xterm".into());
        }
        if let Some(label) = self.exec_label(&request.container) {
            // The kernel puts the null device in the place of fds that the container may
            // not use. The client sends FIFOs that it has made for this.
            for fd in fds.iter().filter(|fd| is_fifo(fd)) {
                let _ = selinux::label_fd(fd, &label);
            }
        }
        let null = open_null()?;
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
        self.start_exec(
            &request.container,
            Purpose::Client(client),
            &process,
            &stdio,
        )
    }

    /// The SELinux label of pipes that a container with one may use.
    fn exec_label(&self, name: &str) -> Option<String> {
        self.live
            .get(name)?
            .process
            .as_ref()?
            .selinux_label
            .as_ref()?;
        let labels = labels::of_pod(&self.layout, &self.pod).ok()??;
        let options = self.spec_of(name).security.se_linux;
        Some(labels.with(options.as_ref()).files.to_string())
    }

    fn process_of(&self, name: &str) -> Result<Rc<plan::Process>> {
        if self.pod.spec.container(name).is_none() {
            let names: Vec<&str> = self
                .pod
                .spec
                .all_containers()
                .map(|c| c.name.as_str())
                .collect();
            return Err(Error::not_found(format!(
                "container {name:?} not found in pod {:?}",
                self.pod.name
            ))
            .hint(format!("it has: {}", names.join(", "))));
        }
        let live = self
            .live
            .get(name)
            .filter(|l| matches!(l.stage, Stage::Running { .. }));
        match live.and_then(|l| l.process.as_ref()) {
            Some(process) => Ok(Rc::clone(process)),
            None => Err(self.not_running(name)),
        }
    }

    /// With why, and the command that tells more.
    pub(super) fn not_running(&self, name: &str) -> Error {
        let container = self.state.containers.get(name);
        let has_run = container.is_some_and(|c| c.last.is_some());
        let (why, has_run) = match container.map(|c| &c.now) {
            Some(Now::Waiting { reason, .. }) => (reason.clone(), has_run),
            Some(Now::Ended(e)) => (format!("ended with {} ({})", e.exit_code, e.reason), true),
            _ => ("it has not started".into(), has_run),
        };
        let pod = self.pod.as_arguments();
        Error::conflict(format!("container {name:?} is not running: {why}")).hint(match has_run {
            true => format!("carob logs {pod} -c {name}"),
            false => self
                .in_the_way(name)
                .unwrap_or_else(|| format!("carob describe pod {pod}")),
        })
    }

    /// The init container that a container waits for, and the command that shows its log.
    fn in_the_way(&self, name: &str) -> Option<String> {
        let inits = self.pod.spec.init_containers.iter();
        let mut before = inits.take_while(|c| c.name != name).filter(|c| !c.sidecar);
        before.find_map(|c| {
            let state = self.state.containers.get(&c.name)?;
            let (does, which) = match &state.now {
                Now::Running(_) => ("runs", ""),
                Now::Ended(e) if e.exit_code != 0 => ("failed", ""),
                Now::Waiting { .. } if state.last.is_some() => ("failed", "-p "),
                _ => return None,
            };
            let pod = self.pod.as_arguments();
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
    ) -> Result<()> {
        let live = self.live(name);
        let (Stage::Running { .. }, Some(cgroup)) = (&live.stage, &live.cgroup) else {
            return Err(self.not_running(name));
        };
        let join = cgroup.join_plan()?;
        let own = self.host.pid_namespace.as_fd();
        let Stage::Running { pidfd } = &self.live[name].stage else {
            return Ok(());
        };
        let target = exec::Target {
            resctrl: &[],
            root: None,
            init: pidfd.as_fd(),
            namespaces: match self.pod.spec.host_pid {
                true => exec::OF_POD - CloneFlags::CLONE_NEWPID,
                false => exec::OF_POD,
            },
            own_pid_namespace: own,
            join: Some(&join),
        };
        let starting = exec::exec(&target, process, stdio)?;
        self.next_id += 1;
        let id = self.next_id;
        self.watch(&starting, EpollFlags::EPOLLIN, Source::ExecStarting(id))?;
        let stage = ExecStage::Starting(starting);
        self.execs.insert(
            id,
            ExecProcess {
                container: name.to_owned(),
                purpose,
                stage,
            },
        );
        Ok(())
    }

    pub(super) fn on_exec_starting(&mut self, id: u64) {
        let Some(exec) = self.execs.get_mut(&id) else {
            return;
        };
        let ExecStage::Starting(starting) = &mut exec.stage else {
            return;
        };
        let purpose = exec.purpose;
        match starting.progress() {
            Started::NotYet => {}
            Started::Running(terminal) => {
                let Some(exec) = self.execs.remove(&id) else {
                    return;
                };
                let ExecStage::Starting(starting) = exec.stage else {
                    return;
                };
                self.unwatch(&starting, &Source::ExecStarting(id));
                let pidfd = starting.pidfd;
                let _ = self.watch(&pidfd, EpollFlags::EPOLLIN, Source::ExecProcess(id));
                self.execs.insert(
                    id,
                    ExecProcess {
                        stage: ExecStage::Running(pidfd),
                        ..exec
                    },
                );
                if let Purpose::Client(client) = purpose {
                    let fds: Vec<_> = terminal.iter().map(AsFd::as_fd).collect();
                    self.reply(client, &Reply::Started, &fds);
                }
            }
            Started::Failed(e) => {
                let Some(exec) = self.execs.remove(&id) else {
                    return;
                };
                let ExecStage::Starting(starting) = exec.stage else {
                    return;
                };
                self.unwatch(&starting, &Source::ExecStarting(id));
                // It is on its way out. Somebody in the container may have stopped it
                // there; nothing stops this signal.
                let pidfd = starting.pidfd;
                let _ = sys::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
                let _ = self.watch(&pidfd, EpollFlags::EPOLLIN, Source::ExecProcess(id));
                let failed = ExecProcess {
                    container: exec.container.clone(),
                    purpose: Purpose::Nobody,
                    stage: ExecStage::Running(pidfd),
                };
                self.execs.insert(id, failed);
                self.exec_is_over(&exec.container, purpose, Err(e));
            }
        }
    }

    pub(super) fn on_exec_process(&mut self, id: u64) {
        let Some(exec) = self.execs.get(&id) else {
            return;
        };
        let ExecStage::Running(pidfd) = &exec.stage else {
            return;
        };
        let Ok(Some(status)) = sys::wait_pidfd(pidfd.as_fd()) else {
            return;
        };
        let Some(exec) = self.execs.remove(&id) else {
            return;
        };
        if let ExecStage::Running(pidfd) = &exec.stage {
            self.unwatch(pidfd, &Source::ExecProcess(id));
        }
        let code = match status & 0x7f {
            0 => (status >> 8) & 0xff,
            signal => 128 + signal,
        };
        self.exec_is_over(&exec.container, exec.purpose, Ok(code));
    }

    fn exec_is_over(&mut self, name: &str, purpose: Purpose, result: Result<i32>) {
        let hook_result = |result: Result<i32>| match result {
            Ok(0) => Ok(()),
            Ok(code) => Err(Error::failed(format!("the command ended with {code}"))),
            Err(e) => Err(e),
        };
        match purpose {
            Purpose::Client(client) => match result {
                Ok(code) => self.reply(client, &Reply::Exited(Some(code)), &[]),
                Err(e) => self.reply(client, &Reply::Failed(e), &[]),
            },
            Purpose::PostStart => {
                let result = hook_result(result);
                self.post_start_is_over(name, result);
            }
            Purpose::PreStop => {
                let result = hook_result(result);
                self.on_hook_end(name, result);
            }
            Purpose::Nobody => {}
        }
    }

    /// The container has ended, and with its pid namespace whatever ran in it; on
    /// the host's, its cgroup was killed. Who has not ended yet tells later, but a
    /// hook's end then says nothing about the container's next attempt.
    pub(super) fn end_execs_of(&mut self, name: &str) {
        let ids: Vec<u64> = self
            .execs
            .iter()
            .filter(|(_, e)| e.container == name)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            match self.execs.get(&id).map(|e| &e.stage) {
                Some(ExecStage::Running(_)) => self.on_exec_process(id),
                _ => self.on_exec_starting(id),
            }
            if let Some(exec) = self.execs.get_mut(&id)
                && !matches!(exec.purpose, Purpose::Client(_))
            {
                exec.purpose = Purpose::Nobody;
            }
        }
    }

    /// Runs a hook's command; that it could not be started is the hook's failure.
    pub(super) fn run_hook(&mut self, name: &str, purpose: Purpose, command: Vec<String>) {
        let run = |monitor: &mut Self| -> Result<()> {
            let mut process = (*monitor.process_of(name)?).clone();
            process.argv = command;
            process.terminal = false;
            let null = open_null()?;
            let stdio = Stdio {
                stdin: null.as_fd(),
                stdout: null.as_fd(),
                stderr: null.as_fd(),
            };
            monitor.start_exec(name, purpose, &process, &stdio)
        };
        if let Err(e) = run(self) {
            self.exec_is_over(name, purpose, Err(e));
        }
    }

    pub(super) fn sleep_hook(&mut self, name: &str, seconds: u64) {
        self.set_timer(
            Timer::HookSleep(name.to_owned()),
            Duration::from_secs(seconds),
        );
    }

    pub(super) fn post_start_is_over(&mut self, name: &str, result: Result<()>) {
        match result {
            Ok(()) => {
                if let Now::Running(r) = &mut self.container_state(name).now {
                    r.started = true;
                }
                self.live(name).hook_failure = None;
            }
            Err(e) => {
                self.event(
                    true,
                    "FailedPostStartHook",
                    format!("PostStartHook failed: {e}"),
                );
                // "If the hook fails, the container is killed": with its grace.
                let grace = Duration::from_secs(self.pod.spec.termination_grace_period);
                if matches!(self.live(name).stage, Stage::Running { .. }) {
                    self.live(name).hook_failure = Some(e);
                    self.stop_container(name, grace, true);
                }
            }
        }
    }
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
