//! The monitor's clients: what each waits for, and what it is told.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::epoll::EpollFlags;

use super::container::output::Sink;
use super::{Fact, Monitor, Source, Timer};
use crate::linux::socket::{Packets, accept};
use crate::pod::logs;
use crate::pod::protocol::{MAX_MESSAGE, Reply, Request, Wait};
use crate::pod::state::Now;
use crate::store::is_out_of_fds;
use crate::{Error, Ignored, Result};

/// Connections at once: each costs an fd, and without fds nothing starts.
pub(super) const MAX_CLIENTS: usize = 256;

#[derive(Debug)]
pub(super) struct Client {
    socket: Packets,
    watches: bool,
    awaits_start: bool,
    /// What it was told of the start last.
    waits: Vec<Wait>,
    awaits_end: bool,
    /// The container whose output it is shown.
    attached: Option<String>,
    /// An attach to a container that has not started yet.
    waits_for: Option<Awaited>,
}

#[derive(Debug)]
struct Awaited {
    container: String,
    stdin: bool,
}

impl Client {
    pub(super) fn new(socket: Packets) -> Self {
        Client {
            socket,
            watches: false,
            awaits_start: false,
            waits: Vec::new(),
            awaits_end: false,
            attached: None,
            waits_for: None,
        }
    }
}

impl Monitor {
    pub(super) fn accept_clients(&mut self) {
        loop {
            let socket = match accept(self.listener.as_fd()) {
                Ok(Some(socket)) => socket,
                // Room for one, which is enough for those who only look.
                Err(e) if is_out_of_fds(&e) && self.spare_fd.close() => continue,
                Err(e) if is_out_of_fds(&e) => return self.listen_later(),
                Ok(None) | Err(_) => return,
            };
            if self.clients.len() >= MAX_CLIENTS {
                let e = Error::failed("the Pod's monitor has too many clients");
                let word = serde_json::to_vec(&Reply::Failed(e)).unwrap_or_default();
                socket
                    .send(&word, &[])
                    .ignored("the client has gone and needs no answer");
                continue;
            }
            let client = self.events.new_id();
            if self
                .events
                .watch(&socket, EpollFlags::EPOLLIN, Source::Client(client))
                .is_ok()
            {
                self.clients.insert(client, Client::new(socket));
            }
        }
    }

    /// The listener stays readable while a client waits, and would wake this process
    /// without end.
    fn listen_later(&mut self) {
        self.listen_to(EpollFlags::empty());
        self.set_timer(Timer::Listen, Duration::from_millis(100));
    }

    pub(super) fn listen_again(&mut self) {
        self.spare_fd.refill(&self.listener);
        self.listen_to(EpollFlags::EPOLLIN);
    }

    fn listen_to(&mut self, flags: EpollFlags) {
        self.events.modify(&self.listener, flags, &Source::Listener);
    }

    pub(super) fn serve(&mut self, id: u64) {
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let mut buffer = vec![0; MAX_MESSAGE];
        let (request, fds) = match client.socket.receive(&mut buffer) {
            Err(Errno::EAGAIN) => return,
            Ok(([], _)) | Err(_) => return self.drop_client(id),
            Ok((bytes, fds)) => (serde_json::from_slice::<Request>(bytes), fds),
        };
        drop(buffer);
        let done = match request {
            Ok(request) => self.answer(id, request, fds),
            Err(e) => Err(Error::invalid(format!("request: {e}"))),
        };
        if let Err(e) = done {
            self.reply(id, &Reply::Failed(e), &[]);
        }
    }

    fn answer(&mut self, id: u64, request: Request, fds: Vec<OwnedFd>) -> Result<()> {
        match request {
            Request::State => {
                let state = Reply::State(Box::new(self.state().clone()));
                self.reply(id, &state, &[]);
            }
            Request::Watch => {
                let state = Reply::State(Box::new(self.state().clone()));
                self.reply(id, &state, &[]);
                if let Some(client) = self.clients.get_mut(&id) {
                    client.watches = true;
                }
            }
            Request::Update => {
                self.reload()?;
                // The state may be the same; the record is not.
                self.tell_watchers();
                self.reply(id, &Reply::Done, &[]);
            }
            Request::AwaitStarted => {
                self.tell(Fact::Asked);
                if let Some(client) = self.clients.get_mut(&id) {
                    client.awaits_start = true;
                }
            }
            Request::Delete {
                grace_period,
                force,
            } => {
                self.tell(Fact::Delete {
                    grace: Duration::from_secs(grace_period),
                    force,
                });
                self.publish();
                self.reply(id, &Reply::Done, &[]);
            }
            Request::Terminate => {
                self.tell(Fact::ShutDown);
                if let Some(client) = self.clients.get_mut(&id) {
                    client.awaits_end = true;
                }
            }
            Request::Restart { container } => {
                let containers = self.kubelet.restartable(container.as_deref())?;
                self.tell(Fact::Restart { containers });
                self.publish();
                self.reply(id, &Reply::Done, &[]);
            }
            Request::Pause => {
                self.pause()?;
                self.reply(id, &Reply::Done, &[]);
            }
            Request::Resume => {
                self.resume();
                self.execute_all()?;
                self.reply(id, &Reply::Done, &[]);
            }
            Request::Exec(exec) => self.exec_for(id, exec, fds)?,
            Request::Attach { container, stdin } => self.attach(id, &container, stdin)?,
        }
        Ok(())
    }

    /// A client that cannot take its reply is let go.
    pub(super) fn reply(&mut self, id: u64, reply: &Reply, fds: &[BorrowedFd]) {
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let sent = serde_json::to_vec(reply)
            .map_err(|_| Errno::EINVAL)
            .and_then(|bytes| client.socket.send(&bytes, fds));
        if sent.is_err() {
            self.drop_client(id);
        }
    }

    fn drop_client(&mut self, id: u64) {
        let Some(client) = self.clients.remove(&id) else {
            return;
        };
        self.events.unwatch(&client.socket, &Source::Client(id));
        drop(client.socket);
        self.spare_fd.refill(&self.listener);
        if let Some(container) = client.attached {
            let live = self.live(&container);
            live.outputs.iter_mut().for_each(|o| o.remove_sink(id));
        }
    }

    /// The state has changed.
    pub(super) fn tell_watchers(&mut self) {
        let awaited = self.clients.values().any(|c| c.awaits_start);
        let started = if awaited { self.start_result() } else { None };
        if awaited && started.is_none() {
            self.tell_waiting();
        }
        let ended = self.live.values().all(|l| l.is_idle());
        for id in self.clients.keys().copied().collect::<Vec<_>>() {
            let (watches, awaits, awaits_end) = match self.clients.get(&id) {
                Some(c) => (c.watches, c.awaits_start, c.awaits_end),
                None => continue,
            };
            if awaits_end && ended {
                self.reply(id, &Reply::Done, &[]);
            }
            if watches {
                let state = Reply::State(Box::new(self.state().clone()));
                self.reply(id, &state, &[]);
            }
            if awaits && let Some(result) = &started {
                let reply = match result {
                    Ok(()) => Reply::Settled,
                    Err(e) => Reply::Failed(e.clone()),
                };
                if let Some(client) = self.clients.get_mut(&id) {
                    client.awaits_start = false;
                }
                self.reply(id, &reply, &[]);
            }
        }
    }

    /// Tells those who wait for the start what it waits for, where that has changed.
    pub(super) fn tell_waiting(&mut self) {
        let mut waits = self.kubelet.waits();
        self.add_progress(&mut waits);
        for id in self.clients.keys().copied().collect::<Vec<_>>() {
            if let Some(client) = self.clients.get_mut(&id)
                && client.awaits_start
                && client.waits != waits
            {
                client.waits.clone_from(&waits);
                self.reply(id, &Reply::Waits(waits.clone()), &[]);
            }
        }
    }

    /// How far the pulls have come.
    fn add_progress(&self, waits: &mut [Wait]) {
        for wait in waits {
            let Wait::Pull { image, done, size } = wait else {
                continue;
            };
            let mut pulls = self.live.values().filter_map(|l| l.pull.as_ref());
            let pull = pulls.find(|p| p.image == *image);
            (*done, *size) = pull.map_or((0, 0), |p| p.progress);
        }
    }

    fn start_result(&self) -> Option<Result<()>> {
        let log = |name: &str, attempt| logs::write::tail(&self.log_dir(name), attempt, 10, 400);
        self.kubelet.start_result(&log)
    }

    fn attach(&mut self, id: u64, name: &str, stdin: bool) -> Result<()> {
        let c = self.spec_of(name);
        let runs = self.live(name).runs();
        let record = self.state().containers.get(name);
        let waits = record.is_none_or(|s| matches!(s.now, Now::Waiting { .. }) && s.last.is_none());
        if !runs
            && waits
            && !self.kubelet.terminates()
            && let Some(client) = self.clients.get_mut(&id)
        {
            // Served the moment it runs, before any of its output is taken.
            let container = name.to_owned();
            client.waits_for = Some(Awaited { container, stdin });
            return Ok(());
        }
        if !runs {
            return Err(self.not_running(name));
        }
        if stdin && !c.stdin {
            return Err(
                Error::invalid(format!("container {name:?} does not allocate stdin"))
                    .hint("set `stdin: true` in the manifest"),
            );
        }
        let attempt = self.attempt(name);
        let fifo = self.paths.bundle(name, attempt).join("stdin");
        let live = self.live(name);
        let mut fds: Vec<OwnedFd> = Vec::new();
        if let Some(master) = &live.terminal {
            // Its size and its input; what it shows comes through a pipe, since the
            // log needs it as well.
            fds.push(master.try_clone()?);
        } else if stdin {
            // Without O_NONBLOCK this would wait for a reader, and a container that
            // has closed its stdin may be none.
            let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let fd = nix::fcntl::open(&fifo, flags, nix::sys::stat::Mode::empty()).map_err(
                |e| match e {
                    Errno::ENXIO => {
                        Error::conflict(format!("container {name:?} has closed its stdin"))
                    }
                    e => Error::sys(format!("open({}, O_WRONLY)", fifo.display()), e),
                },
            )?;
            nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_WRONLY))
                .map_err(|e| Error::sys("fcntl(F_SETFL)", e))?;
            // With stdinOnce this becomes the only writing end: when its client closes
            // it, or dies, the container's stdin ends.
            if c.stdin_once && live.stdin.take().is_none() {
                return Err(
                    Error::conflict(format!("container {name:?}: stdin was taken before"))
                        .hint("`stdinOnce: true` gives it to the first client alone"),
                );
            }
            fds.push(fd);
        }
        let tty = live.terminal.is_some();
        for output in &mut live.outputs {
            let (read, write) =
                nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|e| Error::sys("pipe2()", e))?;
            nix::fcntl::fcntl(&write, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
                .map_err(|e| Error::sys("fcntl(F_SETFL)", e))?;
            output.add_sink(Sink::new(id, write));
            fds.push(read);
        }
        let has_stdin = stdin || tty;
        if let Some(client) = self.clients.get_mut(&id) {
            client.attached = Some(name.to_owned());
        }
        let borrowed: Vec<BorrowedFd> = fds.iter().map(AsFd::as_fd).collect();
        self.reply(
            id,
            &Reply::Attached {
                tty,
                stdin: has_stdin,
            },
            &borrowed,
        );
        Ok(())
    }

    /// The container runs: those who wait to attach are attached.
    pub(super) fn attach_waiting(&mut self, name: &str) {
        let waiting: Vec<(u64, bool)> = self
            .clients
            .iter_mut()
            .filter_map(|(id, c)| {
                let wanted = c.waits_for.take_if(|w| w.container == name)?;
                Some((*id, wanted.stdin))
            })
            .collect();
        for (id, stdin) in waiting {
            if let Err(e) = self.attach(id, name, stdin) {
                self.reply(id, &Reply::Failed(e), &[]);
            }
        }
    }

    /// The container has ended: its attached clients are told how.
    pub(super) fn tell_attached(&mut self, name: &str, exit_code: Option<i32>) {
        let ids: Vec<u64> = self
            .clients
            .iter()
            .filter(|(_, c)| {
                let awaited = c.waits_for.as_ref().map(|w| w.container.as_str());
                c.attached.as_deref().or(awaited) == Some(name)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            if let Some(client) = self.clients.get_mut(&id) {
                client.attached = None;
                client.waits_for = None;
            }
            self.reply(id, &Reply::Exited(exit_code), &[]);
        }
    }
}
