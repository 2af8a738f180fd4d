//! Processes beside a container's first: exec for clients, hooks for the Pod.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use nix::sched::CloneFlags;

use super::child::{Child, Progress};
use super::launch::open_null;
use crate::container::wanted::Stdio;
use crate::container::{exec, plan};
use crate::linux::selinux;
use crate::pod::monitor::kubelet::HookKind;
use crate::pod::monitor::sandbox::labels;
use crate::pod::monitor::{Fact, Monitor, Source};
use crate::pod::protocol::{Exec, Reply};
use crate::pod::state::Now;
use crate::{Error, Result};

/// For whom a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pod::monitor) enum Purpose {
    Client(u64),
    Hook(HookKind),
    /// Nobody waits for its end any more; it is still to be reaped.
    Nobody,
}

#[derive(Debug)]
pub(in crate::pod::monitor) struct ExecProcess {
    container: String,
    purpose: Purpose,
    child: Child,
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
        let labels = labels::of_pod(&self.layout, self.pod()).ok()??;
        let options = self.spec_of(name).security.se_linux;
        Some(labels.with(options.as_ref()).files.to_string())
    }

    fn process_of(&self, name: &str) -> Result<Rc<plan::Process>> {
        let pod = self.pod();
        if pod.spec.container(name).is_none() {
            let names: Vec<&str> = pod.spec.all_containers().map(|c| c.name.as_str()).collect();
            return Err(Error::not_found(format!(
                "container {name:?} not found in pod {:?}",
                pod.name
            ))
            .hint(format!("it has: {}", names.join(", "))));
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
            Some(Now::Waiting { reason, .. }) => (reason.clone(), has_run),
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
        let child = Child::new(starting, &mut self.events, Source::Exec(id))?;
        self.execs.insert(
            id,
            ExecProcess {
                container: name.to_owned(),
                purpose,
                child,
            },
        );
        Ok(())
    }

    pub(in crate::pod::monitor) fn follow_exec(&mut self, id: u64) {
        let Some(exec) = self.execs.remove(&id) else {
            return;
        };
        let (container, purpose) = (exec.container, exec.purpose);
        let (child, progress) = exec.child.follow(&mut self.events, &Source::Exec(id));
        if let Some(child) = child {
            let exec = ExecProcess {
                container: container.clone(),
                purpose,
                child,
            };
            self.execs.insert(id, exec);
        }
        match progress {
            Progress::Nothing => {}
            Progress::Runs(terminal) => {
                if let Purpose::Client(client) = purpose {
                    let fds: Vec<_> = terminal.iter().map(AsFd::as_fd).collect();
                    self.reply(client, &Reply::Started, &fds);
                }
            }
            Progress::Failed(e) => self.exec_is_over(&container, purpose, Err(e)),
            Progress::Ended(status) => {
                let code = match status.unwrap_or(libc::SIGKILL) {
                    status if status & 0x7f == 0 => (status >> 8) & 0xff,
                    status => 128 + (status & 0x7f),
                };
                self.exec_is_over(&container, purpose, Ok(code));
            }
        }
    }

    fn exec_is_over(&mut self, name: &str, purpose: Purpose, result: Result<i32>) {
        match (purpose, result) {
            (Purpose::Client(client), Ok(code)) => {
                self.reply(client, &Reply::Exited(Some(code)), &[]);
            }
            (Purpose::Client(client), Err(e)) => self.reply(client, &Reply::Failed(e), &[]),
            (Purpose::Hook(hook), result) => self.tell(Fact::HookEnded {
                container: name.to_owned(),
                hook,
                result: match result {
                    Ok(0) => Ok(()),
                    Ok(code) => Err(Error::failed(format!("the command ended with {code}"))),
                    Err(e) => Err(self.with_root(e)),
                },
            }),
            (Purpose::Nobody, _) => {}
        }
    }

    /// The container has ended, and with its pid namespace all that ran in it; on
    /// the host's, its cgroup was killed. Processes whose end is not known yet tell later,
    /// but a hook's end then says nothing about the container's next attempt.
    pub(in crate::pod::monitor) fn end_execs_of(&mut self, name: &str) {
        let of_it = self.execs.iter().filter(|(_, e)| e.container == name);
        for id in of_it.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.follow_exec(id);
            if let Some(exec) = self.execs.get_mut(&id)
                && matches!(exec.purpose, Purpose::Hook(_))
            {
                exec.purpose = Purpose::Nobody;
            }
        }
    }

    /// Runs a hook's command; that it could not be started is the hook's failure.
    pub(in crate::pod::monitor) fn run_hook(
        &mut self,
        name: &str,
        hook: HookKind,
        command: Vec<String>,
    ) {
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
            monitor.start_exec(name, Purpose::Hook(hook), &process, &stdio)
        };
        if let Err(e) = run(self) {
            self.exec_is_over(name, Purpose::Hook(hook), Err(e));
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
