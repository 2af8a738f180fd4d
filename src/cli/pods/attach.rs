//! `carob attach`: to a container's own process.

use std::os::fd::OwnedFd;

use clap::Args;

use crate::cli::Verb;
use crate::cli::face::{Face, say};
use crate::cli::pods::exec::{code_of, container_of, need_terminal, talk};
use crate::cli::pods::logs::{self, Followed};
use crate::cli::terminal::raw::Signals;
use crate::cli::terminal::stream::{self, End, Pump};
use crate::pod::client::{self, Connection, View};
use crate::pod::protocol::{Reply, Request};
use crate::pod::state::Now;
use crate::pod::watch::next_reply;
use crate::spec::Pod;
use crate::{Error, Kind, Result};

#[derive(Args, Debug)]
pub(crate) struct Attach {
    /// The Pod: NAME or pod/NAME
    #[arg(value_name = "POD")]
    pod: String,
    /// The container; the first one if not given
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Hand stdin to the container
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Our stdin is a terminal, and so is the container's
    #[arg(short, long)]
    tty: bool,
    /// Say nothing but what the container says
    #[arg(short, long)]
    quiet: bool,
}

impl Verb for Attach {
    const NAME: &'static str = "attach";
    const ABOUT: &'static str = "Attach to a running container";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob attach web\n\
        \x20 carob attach -it web -c app";

    fn passes_through(&self) -> bool {
        true
    }

    fn run(self, face: &Face) -> Result<u8> {
        need_terminal(self.tty, self.stdin)?;
        let view = face.find(&self.pod)?;
        let container = container_of(&view, self.container.as_deref(), self.quiet)?;
        if self.tty && !view.pod.spec.container(&container).is_some_and(|c| c.tty) {
            say(&format!(
                "Unable to use a TTY - container {container} did not allocate one"
            ));
        }
        let state = view
            .state
            .as_ref()
            .and_then(|s| s.containers.get(&container));
        if let Some(Now::Waiting { reason, .. }) = state.map(|s| &s.now)
            && !self.quiet
        {
            say(&format!(
                "container {container} is waiting to start ({reason}): waiting with it"
            ));
        }
        code_of(attach(
            face, &view, container, self.stdin, self.quiet, None,
        )?)
    }
}

/// Until the container ends, or a signal comes to a caller who has them blocked.
pub(crate) fn attach(
    face: &Face,
    view: &View,
    container: String,
    stdin: bool,
    quiet: bool,
    signals: Option<&Signals>,
) -> Result<End> {
    let spec = view.pod.spec.container(&container);
    if stdin && !spec.is_some_and(|c| c.stdin) {
        return Err(
            Error::conflict(format!("container {container} has no stdin to attach to"))
                .hint("its manifest needs `stdin: true`; without -i its output is shown"),
        );
    }
    let connection = ask(face, &view.pod, container, stdin)?;
    carry_on(connection, stdin, quiet, signals)
}

/// Asks to be attached: at once if the container runs, else when it does, so that
/// none of its output is missed.
pub(crate) fn ask(face: &Face, pod: &Pod, container: String, stdin: bool) -> Result<Connection> {
    let connection = Connection::open(&face.layout, &pod.uid)?;
    connection.send(&Request::Attach { container, stdin }, &[])?;
    Ok(connection)
}

/// What the container says, until it ends: by the connection that was asked to attach, or, if
/// there is none or the container was quicker than it, by its log.
pub(crate) fn to_the_end(
    face: &Face,
    pod: &Pod,
    name: &str,
    connection: Option<Connection>,
    (stdin, quiet): (bool, bool),
    signals: &Signals,
) -> Result<End> {
    let view = client::find(&face.layout, &pod.namespace, &pod.name)?;
    if let Some(connection) = connection {
        match carry_on(connection, stdin, quiet, Some(signals)) {
            Err(e) if matches!(e.kind(), Kind::Conflict | Kind::NotFound) => {}
            other => return other,
        }
    }
    let last = match logs::follow_container(face, &view, name, signals)? {
        Followed::ToTheEnd(last) => last,
        Followed::Interrupted(n) => return Ok(End::Interrupted(n)),
    };
    Ok(End::Exited(last.as_ref().and_then(|s| {
        let c = s.containers.get(name)?;
        match (&c.now, &c.last) {
            (Now::Ended(e), _) | (_, Some(e)) => Some(e.exit_code),
            _ => None,
        }
    })))
}

/// What follows [`ask`].
pub(crate) fn carry_on(
    connection: Connection,
    stdin: bool,
    quiet: bool,
    signals: Option<&Signals>,
) -> Result<End> {
    let (tty, with_stdin, fds) = loop {
        match next_reply(&connection, None)? {
            Some((Reply::Attached { tty, stdin }, fds)) => break (tty, stdin, fds),
            Some((Reply::Failed(e), _)) => return Err(e),
            Some(_) => {}
            None => {
                return Err(Error::failed(
                    "the Pod's monitor closed the connection without an answer",
                ));
            }
        }
    };
    if stdin && !quiet && std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        say("If you don't see a command prompt, try pressing enter.");
    }
    let mut fds = fds.into_iter();
    let mut next = || -> Result<OwnedFd> {
        fds.next()
            .ok_or_else(|| Error::failed("the Pod's monitor sent too few fds"))
    };
    if tty {
        let (master, output) = (next()?, next()?);
        // A terminal here makes the keys go through as they are.
        let interactive = stdin && std::io::IsTerminal::is_terminal(&std::io::stdin());
        if interactive || !stdin {
            return talk(&connection, master, Some(output), interactive);
        }
        stream::set_nonblocking(&master)?;
        let pumps = vec![
            Pump::inward(stream::own(std::io::stdin())?, stream::own(&master)?),
            Pump::outward(output, stream::own(std::io::stdout())?),
        ];
        return stream::carry(&connection, pumps, signals, None);
    }
    let mut pumps = vec![];
    if with_stdin {
        let far = next()?;
        stream::set_nonblocking(&far)?;
        pumps.push(Pump::inward(stream::own(std::io::stdin())?, far));
    }
    pumps.push(Pump::outward(next()?, stream::own(std::io::stdout())?));
    pumps.push(Pump::outward(next()?, stream::own(std::io::stderr())?));
    stream::carry(&connection, pumps, signals, None)
}
