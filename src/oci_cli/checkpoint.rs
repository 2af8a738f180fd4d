//! `checkpoint` and `restore`.

use nix::sched::CloneFlags;

use super::args::{self, Args, Flag, usage};
use super::create::{CONSOLE_SOCKET, PID_FILE, PIDFD_SOCKET, order};
use super::delete::delete;
use super::foreground::{self, Foreground};
use super::{Face, Verb, with_own_stdio};
use crate::linux::kernel;
use crate::oci::checkpoint::{self, Cgroups, Options};
use crate::oci::restore::{self, Restore};
use crate::{Context, Error, Ignored, Result};

const IMAGE_PATH: Flag = (
    "image-path",
    '\0',
    "PATH",
    "the directory of the checkpoint (./checkpoint)",
);
const WORK_PATH: Flag = (
    "work-path",
    '\0',
    "PATH",
    "where criu logs (the container's own directory)",
);
const TCP_ESTABLISHED: Flag = ("tcp-established", '\0', "", "with open TCP connections");
const EXT_UNIX_SK: Flag = (
    "ext-unix-sk",
    '\0',
    "",
    "with Unix sockets connected to the outside",
);
const SHELL_JOB: Flag = (
    "shell-job",
    '\0',
    "",
    "with a terminal that is somebody else's",
);
const FILE_LOCKS: Flag = ("file-locks", '\0', "", "with file locks");
const LAZY_PAGES: Flag = ("lazy-pages", '\0', "", "not supported");
const CGROUPS_MODE: Flag = (
    "manage-cgroups-mode",
    '\0',
    "MODE",
    "soft, full, strict or ignore",
);
const EMPTY_NS: Flag = (
    "empty-ns",
    '\0',
    "KIND",
    "network: a namespace that somebody else fills",
);
const AUTO_DEDUP: Flag = ("auto-dedup", '\0', "", "pages are kept once");

pub(super) const CHECKPOINT: Verb = Verb {
    name: "checkpoint",
    operands: "ID",
    about: "puts a running container into files, with criu",
    flags: &[
        IMAGE_PATH,
        WORK_PATH,
        (
            "parent-path",
            '\0',
            "PATH",
            "an earlier pre-dump, relative to the image path",
        ),
        ("leave-running", '\0', "", "the container goes on"),
        TCP_ESTABLISHED,
        EXT_UNIX_SK,
        SHELL_JOB,
        LAZY_PAGES,
        ("status-fd", '\0', "N", "not supported"),
        ("page-server", '\0', "ADDRESS:PORT", "not supported"),
        FILE_LOCKS,
        (
            "pre-dump",
            '\0',
            "",
            "memory only, while the container runs",
        ),
        CGROUPS_MODE,
        EMPTY_NS,
        AUTO_DEDUP,
    ],
    order: args::Order::Any,
    enters: false,
    run: checkpoint,
};

pub(super) const RESTORE: Verb = Verb {
    name: "restore",
    operands: "ID",
    about: "makes a container from a checkpoint",
    flags: &[
        IMAGE_PATH,
        WORK_PATH,
        TCP_ESTABLISHED,
        EXT_UNIX_SK,
        SHELL_JOB,
        LAZY_PAGES,
        FILE_LOCKS,
        CGROUPS_MODE,
        EMPTY_NS,
        AUTO_DEDUP,
        (
            "lsm-profile",
            '\0',
            "TYPE:NAME",
            "apparmor's or selinux's, instead of the one that was",
        ),
        (
            "lsm-mount-context",
            '\0',
            "CONTEXT",
            "of mounts, instead of the one that was",
        ),
        (
            "bundle",
            'b',
            "PATH",
            "the bundle's directory (the current one)",
        ),
        (
            "detach",
            'd',
            "",
            "returns as soon as the container goes on",
        ),
        CONSOLE_SOCKET,
        PIDFD_SOCKET,
        PID_FILE,
        ("no-pivot", '\0', "", "accepted: criu decides"),
        ("no-subreaper", '\0', "", "accepted"),
        ("keep", '\0', "", "an ended container is not deleted"),
    ],
    run: restore,
    ..CHECKPOINT
};

fn checkpoint(face: &Face, args: &Args) -> Result<u8> {
    let order = checkpoint::Order {
        options: options(face, args)?,
        parent: args.path("parent-path"),
        leave_running: args.is("leave-running"),
        pre_dump: args.is("pre-dump"),
    };
    if let Some(parent) = &order.parent {
        if parent.is_absolute() {
            return Err(usage("--parent-path: has to be relative to --image-path"));
        }
        if !order.options.images.join(parent).is_dir() {
            return Err(Error::invalid(format!(
                "--parent-path {}: is no directory in {}",
                parent.display(),
                order.options.images.display()
            )));
        }
    }
    checkpoint::checkpoint(&face.containers, args.id()?, &order)?;
    Ok(0)
}

fn restore(face: &Face, args: &Args) -> Result<u8> {
    kernel::check()?;
    let detach = args.is("detach");
    let keep_terminal = !detach && args.get("console-socket").is_none();
    let order = order(face, args, keep_terminal)?;
    let how = Restore {
        options: options(face, args)?,
        lsm_profile: args.get("lsm-profile").map(str::to_owned),
        lsm_mount_context: args.get("lsm-mount-context").map(str::to_owned),
    };
    if !detach && !args.is("no-subreaper") {
        crate::sys::attribute::become_subreaper()
            .ignored("orphans then go to init, as with --no-subreaper");
    }
    let foreground = match detach {
        true => None,
        false => Some(Foreground::prepare()?),
    };
    let made = with_own_stdio(|stdio| restore::restore(&face.containers, &order, &how, stdio))?;
    face.log.warn_all(&made.warnings);
    let Some(foreground) = foreground else {
        return Ok(0);
    };
    let status = foreground.attend(made.pidfd, made.terminal);
    if status.is_err() || !args.is("keep") {
        delete(face, &order.id, true)?;
    }
    status.map(foreground::exit_code)
}

fn options(face: &Face, args: &Args) -> Result<Options> {
    for flag in ["lazy-pages", "status-fd", "page-server"] {
        let is_given = !matches!(args.get(flag), None | Some("false"));
        if is_given {
            return Err(Error::unsupported(format!(
                "--{flag}: not supported: pages are written to --image-path"
            )));
        }
    }
    let absolute = |flag: &str| -> Result<_> {
        let path = args.path(flag).map(std::path::absolute).transpose();
        path.with_context(|| format!("--{flag}"))
    };
    let images = match absolute("image-path")? {
        Some(path) => path,
        None => std::path::absolute("checkpoint")?,
    };
    Ok(Options {
        criu: face.criu.clone(),
        images,
        work: absolute("work-path")?,
        tcp_established: args.is("tcp-established"),
        ext_unix_sk: args.is("ext-unix-sk"),
        shell_job: args.is("shell-job"),
        file_locks: args.is("file-locks"),
        auto_dedup: args.is("auto-dedup"),
        cgroups: match args.get("manage-cgroups-mode") {
            None | Some("" | "soft") => Cgroups::Soft,
            Some("full") => Cgroups::Full,
            Some("strict") => Cgroups::Strict,
            Some("ignore") => Cgroups::Ignore,
            Some(other) => {
                return Err(usage(format!(
                    "--manage-cgroups-mode: {other:?}: soft, full, strict or ignore"
                )));
            }
        },
        empty: match args.get("empty-ns") {
            None | Some("") => None,
            Some("network") => Some(CloneFlags::CLONE_NEWNET),
            Some(other) => {
                return Err(usage(format!("--empty-ns: {other:?}: network")));
            }
        },
    })
}
