//! `create`, and what `run` has in common with it.

use std::path::PathBuf;

use super::args::{Args, Flag, Order};
use super::start::notify_socket;
use super::{Face, Verb, foreground, inherited, with_own_stdio};
use crate::oci::create::{self, Made};
use crate::{Context, Result};

pub(super) const CONSOLE_SOCKET: Flag = (
    "console-socket",
    '\0',
    "PATH",
    "a socket that the terminal's master is sent to",
);
pub(super) const PIDFD_SOCKET: Flag = (
    "pidfd-socket",
    '\0',
    "PATH",
    "a socket that a pidfd of the process is sent to",
);
pub(super) const PID_FILE: Flag = (
    "pid-file",
    '\0',
    "FILE",
    "where the process's pid is written",
);

pub(super) const FLAGS: [Flag; 8] = [
    (
        "bundle",
        'b',
        "PATH",
        "the bundle's directory (the current one)",
    ),
    CONSOLE_SOCKET,
    PIDFD_SOCKET,
    PID_FILE,
    (
        "no-pivot",
        '\0',
        "",
        "no pivot_root, for a root on an initramfs",
    ),
    (
        "no-new-keyring",
        '\0',
        "",
        "the caller's session keyring stays",
    ),
    (
        "preserve-fds",
        '\0',
        "N",
        "the process inherits N fds from 3 on",
    ),
    ("no-subreaper", '\0', "", "accepted"),
];

pub(super) const VERB: Verb = Verb {
    name: "create",
    operands: "ID",
    about: "makes a container, which waits for `start`",
    flags: &FLAGS,
    order: Order::Any,
    enters: true,
    run: |face, args| create(face, args, false).map(|_| 0),
};

pub(super) fn create(face: &Face, args: &Args, keep_terminal: bool) -> Result<Made> {
    let order = order(face, args, keep_terminal)?;
    let made = with_own_stdio(|stdio| create::create(&face.containers, &order, stdio))?;
    face.log.warn_all(&made.warnings);
    log::debug!(
        "create: the first process is {}, and waits for `start`",
        made.pid
    );
    Ok(made)
}

/// What is to be made, or to be restored.
pub(super) fn order(face: &Face, args: &Args, keep_terminal: bool) -> Result<create::Order> {
    let id = args.id()?;
    let bundle = args.path("bundle").unwrap_or_else(|| PathBuf::from("."));
    let absolute = |p: PathBuf| std::path::absolute(&p).with_context(|| p.display().to_string());
    let (listen_fds, preserve_fds) = inherited(args)?;
    Ok(create::Order {
        id: id.to_owned(),
        bundle: bundle
            .canonicalize()
            .with_context(|| format!("--bundle {}", bundle.display()))?,
        pid_file: args.path("pid-file").map(absolute).transpose()?,
        console_socket: args.path("console-socket").map(absolute).transpose()?,
        pidfd_socket: args.path("pidfd-socket").map(absolute).transpose()?,
        no_pivot: face.no_pivot || args.is("no-pivot"),
        no_new_keyring: args.is("no-new-keyring"),
        preserve_fds,
        listen_fds,
        cgroups: face.cgroups,
        notify: notify_socket().is_some(),
        keep_terminal,
        plain_newlines: keep_terminal && !foreground::has_terminal(),
    })
}
