//! The face that other container engines see: runc's command line, flag for flag,
//! on the same containers as [`crate::pod`] has. Parses, calls, prints.
//!
//! Small and synchronous, since an engine calls it several times per container:
//! no clap, no async, nothing read that the verb does not need.

pub(crate) mod args;
mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod foreground;
mod kill;
mod list;
mod log;
mod man;
mod pause;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod update;

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use nix::sys::statvfs::{FsFlags, statvfs};

use self::log::Log;
use args::{Args, Flag, Order, usage};

use crate::container::wanted::Stdio;
use crate::linux::kernel;
use crate::linux::mount::{Mount, OWN_PROGRAM};
use crate::oci::create::CgroupDriver;
use crate::oci::record::Containers;
use crate::plain::escape_json;
use crate::sys::process::close_on_exec_from;
use crate::{Context, Error, Result};

/// Of a verb: its name, its operands, what it does, its flags, the order they may
/// have, and the doing. What it returns is the exit code.
struct Verb {
    name: &'static str,
    operands: &'static str,
    about: &'static str,
    flags: &'static [Flag],
    order: Order,
    /// Whether a process of ours enters a container.
    enters: bool,
    run: fn(&Face, &Args) -> Result<u8>,
}

const VERBS: [&Verb; 19] = [
    &create::VERB,
    &delete::VERB,
    &events::VERB,
    &exec::VERB,
    &features::VERB,
    &kill::VERB,
    &list::VERB,
    &pause::PAUSE,
    &ps::VERB,
    &pause::RESUME,
    &run::VERB,
    &spec::VERB,
    &start::VERB,
    &state::VERB,
    &update::VERB,
    &checkpoint::CHECKPOINT,
    &checkpoint::RESTORE,
    &man::VERB,
    &HELP,
];

const HELP: Verb = Verb {
    name: "help",
    operands: "",
    about: "this text",
    flags: &[],
    order: Order::Any,
    enters: false,
    run: |_, _| {
        print(&help())?;
        Ok(0)
    },
};

const GLOBAL: [Flag; 12] = [
    (
        "root",
        '\0',
        "PATH",
        "where containers are kept (/run/carob-oci)",
    ),
    (
        "log",
        '\0',
        "FILE",
        "where errors and warnings are written too",
    ),
    ("log-format", '\0', "text|json", "the form of the log"),
    (
        "log-level",
        '\0',
        "LEVEL",
        "error, warn, info, debug (each step is logged) or trace (each call too)",
    ),
    ("debug", '\0', "", "as --log-level debug"),
    ("systemd-cgroup", 's', "", "cgroups are made by systemd"),
    (
        "cgroup-manager",
        '\0',
        "NAME",
        "cgroupfs, systemd or disabled",
    ),
    ("rootless", '\0', "BOOL", "accepted: true, false or auto"),
    (
        "criu",
        '\0',
        "PATH",
        "the program that makes checkpoints (criu)",
    ),
    (
        "version",
        'v',
        "",
        "the versions of this program and of its runtime-spec",
    ),
    ("help", 'h', "", "this text"),
    ("no-pivot", '\0', "", "as after `create` and `run`"),
];

/// What holds for every verb.
struct Face {
    containers: Containers,
    /// `--root` was on the command line.
    root_given: bool,
    cgroups: CgroupDriver,
    criu: PathBuf,
    no_pivot: bool,
    log: Log,
}

pub fn main() -> ExitCode {
    let words: std::result::Result<Vec<String>, _> = std::env::args_os()
        .skip(1)
        .map(|w| w.into_string())
        .collect();
    let mut log = Log::default();
    let mut failure_code = 1;
    let done = words
        .map_err(|w| usage(format!("{w:?} is not UTF-8")))
        .and_then(|words| dispatch(words, &mut log, &mut failure_code));
    match done {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            log.error(&e);
            ExitCode::from(failure_code)
        }
    }
}

fn dispatch(words: Vec<String>, log: &mut Log, failure_code: &mut u8) -> Result<u8> {
    let mut global = Args::parse(&GLOBAL, Order::FlagsFirst, words.into_iter())?;
    log.set(&global)?;
    if global.is("version") {
        print(&version())?;
        return Ok(0);
    }
    if global.is("help") || global.operands.is_empty() {
        print(&help())?;
        return Ok(0);
    }
    let name = global.operands.remove(0);
    let verb = VERBS
        .iter()
        .find(|v| v.name == name)
        .ok_or_else(|| usage(format!("no such command: {name:?}")).hint("`help` lists them"))?;
    let rest = std::mem::take(&mut global.operands);
    if matches!(rest.first().map(String::as_str), Some("--help" | "-h")) {
        print(&help_of(verb))?;
        return Ok(0);
    }
    if verb.name == "exec" {
        // What the command itself may end with is up to 254.
        *failure_code = 255;
    }
    let args = Args::parse(verb.flags, verb.order, rest.into_iter()).context(verb.name)?;
    let mut kept = 0;
    if verb.enters {
        kernel::check()?;
        // Before anything is opened, which might get one of these numbers.
        kept = check_inherited(&args)?;
        protect_program()?;
    }
    // What else our caller has let slip is nothing to hooks either.
    match close_on_exec_from(3 + kept) {
        Err(e) if verb.enters => return Err(Error::sys("close_range()", e)),
        // A kernel without it has no containers either, and so no hooks.
        _ => {}
    }
    log.start()?;
    let face = Face {
        containers: Containers::new(&root(&global)?),
        root_given: global.path("root").is_some(),
        cgroups: cgroup_driver(&global)?,
        criu: global.path("criu").unwrap_or_else(|| "criu".into()),
        no_pivot: global.is("no-pivot"),
        log: std::mem::take(log),
    };
    // The further operands of `exec` are a command, with what may be a secret.
    let id = args.operands.first().map_or("", String::as_str);
    ::log::debug!(
        "carob-oci {}: {name} {id} (--root {}, cgroups: {:?})",
        env!("CARGO_PKG_VERSION"),
        face.containers.root().display(),
        face.cgroups
    );
    let done = (verb.run)(&face, &args);
    if let Ok(code) = &done {
        ::log::debug!("{name} {id}: exit code {code}");
    }
    *log = face.log;
    done
}

fn root(global: &Args) -> Result<PathBuf> {
    let path = global
        .path("root")
        .unwrap_or_else(|| "/run/carob-oci".into());
    std::path::absolute(&path).with_context(|| format!("--root {}", path.display()))
}

fn cgroup_driver(global: &Args) -> Result<CgroupDriver> {
    let given = match global.is("systemd-cgroup") {
        true => Some("systemd"),
        false => global.get("cgroup-manager"),
    };
    Ok(match given {
        None | Some("cgroupfs") => CgroupDriver::Cgroupfs,
        Some("systemd") => CgroupDriver::Systemd,
        Some("disabled") => CgroupDriver::Disabled,
        Some(other) => {
            return Err(usage(format!(
                "--cgroup-manager: {other:?}: cgroupfs, systemd or disabled"
            )));
        }
    })
}

/// The fds that the program is to inherit: how many of them are systemd's sockets
/// (sd_listen_fds(3)), and how many others.
fn inherited(args: &Args) -> Result<(u32, u32)> {
    let own = |pid: String| pid == std::process::id().to_string();
    let listen = match std::env::var("LISTEN_FDS") {
        Ok(n) if std::env::var("LISTEN_PID").is_ok_and(own) => {
            n.parse::<u32>().ok().filter(|n| *n <= 1024).unwrap_or(0)
        }
        _ => 0,
    };
    Ok((listen, args.number("preserve-fds", 1 << 20)?.unwrap_or(0)))
}

/// Lends this program's standard streams to a process of a container.
fn with_own_stdio<T>(spawn: impl FnOnce(&Stdio) -> T) -> T {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    spawn(&Stdio {
        stdin: stdin.as_fd(),
        stdout: stdout.as_fd(),
        stderr: stderr.as_fd(),
    })
}

/// One that is not open would be whatever this program opens first. Returns how many
/// there are.
fn check_inherited(args: &Args) -> Result<u32> {
    let (listen, preserve) = inherited(args)?;
    for number in 3..3 + (listen + preserve) as i32 {
        if !crate::sys::attribute::is_open(number) {
            return Err(usage(format!(
                "--preserve-fds {preserve}: fd {number} is not open"
            )));
        }
    }
    Ok(listen + preserve)
}

/// Runs this program from [`Mount::of_this_program`], unless its file cannot be
/// written to as it is.
fn protect_program() -> Result<()> {
    use std::os::fd::AsFd;
    let stat = statvfs(OWN_PROGRAM).map_err(|e| Error::sys("statvfs(/proc/self/exe)", e))?;
    if stat.flags().contains(FsFlags::ST_RDONLY) {
        return Ok(());
    }
    let program = Mount::of_this_program().context("protect this program")?;
    let to_c = |bytes: Vec<u8>| std::ffi::CString::new(bytes).unwrap_or_default();
    use std::os::unix::ffi::OsStringExt;
    let argv: Vec<_> = std::env::args_os().map(|w| to_c(w.into_vec())).collect();
    let envp: Vec<_> = std::env::vars_os()
        .map(|(name, value)| {
            let mut entry = name.into_vec();
            entry.push(b'=');
            entry.extend(value.into_vec());
            to_c(entry)
        })
        .collect();
    let e = crate::sys::process::exec_fd(program.as_fd(), &argv, &envp);
    Err(Error::sys("execveat(<carob-oci>)", e).push_context("protect this program"))
}

fn version() -> String {
    format!(
        "carob-oci version {}\nspec: {}\n",
        env!("CARGO_PKG_VERSION"),
        features::SPEC_VERSION
    )
}

fn help() -> String {
    let mut text = "carob-oci: an OCI runtime, with runc's command line\n\n\
                    Usage: carob-oci [FLAGS] COMMAND [FLAGS] [OPERANDS]\n\n"
        .to_owned();
    for v in VERBS {
        text.push_str(&format!("  {:<10} {}\n", v.name, v.about));
    }
    text.push('\n');
    text.push_str(&args::describe(&GLOBAL));
    text
}

fn help_of(verb: &Verb) -> String {
    format!(
        "Usage: carob-oci {} [FLAGS] {}\n\n{}\n\n{}",
        verb.name,
        verb.operands,
        verb.about,
        args::describe(verb.flags)
    )
}

/// A reader that has gone is no error of ours.
fn print(text: &str) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e).context("write(stdout)"),
        _ => Ok(()),
    }
}

fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print(&escape_json(&text))
}
