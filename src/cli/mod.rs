//! The face that people and programs see: parses a command line, calls, prints.
//!
//! No decision about Pods is made here. Grammar, flags and output are kubectl's
//! wherever kubectl has the verb; `docs/cli.md` is the contract.
//!
//! A verb is a type with the trait `Verb` in a file of `pods/` or `images/`, a row in
//! `VERBS` here, and its name in [`crate::pod::command_line::VERBS`], in the same order; what
//! follows it on a command line is in `completion_words`. What it asks of a Pod's monitor is a
//! `Request` of `pod::protocol`, answered in `pod/monitor/clients.rs`.
//!
//! Start-up matters, since an `exec` is worth a few milliseconds: a verb's
//! arguments are described to clap only when that verb was asked for
//! ([`clap::Command::defer`]), and the monitor, which starts with every Pod,
//! never comes here at all.

mod images;
mod man;
mod objects;
mod pods;
mod show;
mod terminal;

mod completion;
mod doctor;
mod face;
mod system;
mod usage;
mod version;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, FromArgMatches};
use jiff::Timestamp;

use crate::store::Layout;
use crate::{Error, Kind, Result, debug_log};
use face::Face;
use show::output;

/// One verb: its arguments are a clap struct, its end is an exit code.
trait Verb: clap::Args + FromArgMatches {
    const NAME: &'static str;
    const ABOUT: &'static str;
    /// kubectl's own shorter or other names.
    const ALIASES: &'static [&'static str] = &[];
    /// What `--help` ends with: command lines that are complete.
    const EXAMPLES: &'static str;

    /// Whether this command line needs the rights of root.
    fn needs_root(&self) -> bool {
        true
    }

    /// Whether this makes the directories of `--root`.
    fn makes_root(&self) -> bool {
        false
    }

    /// Whether the exit code is a process' own: errors of ours are 125 to 127
    /// then, which programs seldom use, as with podman.
    fn passes_through(&self) -> bool {
        false
    }

    /// Exit codes other than 0 that are no error of ours: a process' own.
    fn run(self, face: &Face) -> Result<u8>;
}

/// A row of the table of verbs.
struct Entry {
    command: fn() -> Command,
    name: &'static str,
    run: fn(&ArgMatches, bool) -> Result<u8, Failure>,
}

const fn entry<V: Verb>() -> Entry {
    Entry {
        command: command::<V>,
        name: V::NAME,
        run: run_verb::<V>,
    }
}

const VERBS: &[Entry] = &[
    entry::<pods::apply::Apply>(),
    entry::<pods::create::Create>(),
    entry::<pods::create::Replace>(),
    entry::<pods::patch::Patch>(),
    entry::<pods::edit::Edit>(),
    entry::<pods::diff::Diff>(),
    entry::<pods::run::Run>(),
    entry::<pods::get::Get>(),
    entry::<pods::describe::Describe>(),
    entry::<pods::why::WhyOf>(),
    entry::<pods::events::Events>(),
    entry::<pods::top::Top>(),
    entry::<pods::logs::Logs>(),
    entry::<pods::exec::Exec>(),
    entry::<pods::attach::Attach>(),
    entry::<pods::debug::Debug>(),
    entry::<pods::cp::Cp>(),
    entry::<pods::wait::Wait>(),
    entry::<pods::steer::Restart>(),
    entry::<pods::steer::Pause>(),
    entry::<pods::steer::Resume>(),
    entry::<pods::metadata::Label>(),
    entry::<pods::metadata::Annotate>(),
    entry::<pods::delete::Delete>(),
    entry::<images::list::Pull>(),
    entry::<images::push::Push>(),
    entry::<images::list::Load>(),
    entry::<images::save::Save>(),
    entry::<images::list::Images>(),
    entry::<images::inspect::Inspect>(),
    entry::<images::inspect::Tag>(),
    entry::<images::pin::Pin>(),
    entry::<images::pin::Unpin>(),
    entry::<images::list::Rmi>(),
    entry::<system::ImagePrune>(),
    entry::<system::System>(),
    entry::<doctor::Doctor>(),
    entry::<pods::validate::Validate>(),
    entry::<pods::explain::Explain>(),
    entry::<version::Version>(),
    entry::<completion::Completion>(),
    entry::<man::ManPages>(),
];

fn command<V: Verb>() -> Command {
    Command::new(V::NAME)
        .about(V::ABOUT)
        .visible_aliases(V::ALIASES)
        .after_help(V::EXAMPLES)
        .defer(|c| V::augment_args(c))
}

fn run_verb<V: Verb>(matches: &ArgMatches, json: bool) -> Result<u8, Failure> {
    let verb = V::from_arg_matches(matches)
        .map_err(|e| Error::new(Kind::Usage, e.to_string().trim().to_owned()))?;
    let began = Timestamp::now();
    start_log(matches)?;
    log::info!("carob {} {}", env!("CARGO_PKG_VERSION"), V::NAME);
    let passes_through = verb.passes_through();
    let failure = |error: Error| Failure {
        code: match error.kind() {
            Kind::Usage => Kind::Usage.exit_code(),
            _ if passes_through => pods::exec::cannot_run(&error),
            kind => kind.exit_code(),
        },
        error,
    };
    let root = matches.get_one::<PathBuf>("root").cloned();
    let root = root.or_else(face::root_of_environment);
    face::remember_root(root.as_deref());
    if verb.needs_root() && !nix::unistd::geteuid().is_root() {
        return Err(failure(
            Error::new(Kind::Permission, format!("carob {} needs root", V::NAME))
                .hint(format!("run it as `sudo carob {} ...`", V::NAME)),
        ));
    }
    if let Some(root) = &root
        && verb.needs_root()
        && !verb.makes_root()
        && !root.exists()
    {
        face::warn(&format!(
            "--root {} does not exist: carob has made nothing there",
            root.display()
        ));
        face::say_hint(
            "correct --root, or CAROB_ROOT; without them carob uses the system's directories",
        );
    }
    // Scripts say -n "$NS"; an empty one is none, as for kubectl.
    let namespace = matches.get_one::<String>("namespace");
    let namespace = namespace.filter(|n| !n.is_empty());
    if let Some(name) = namespace {
        crate::manifest::check_namespace(name).map_err(failure)?;
    }
    let face = Face {
        layout: Layout::new(root.as_deref())?,
        namespace: namespace.cloned().unwrap_or_else(|| "default".into()),
        namespace_given: namespace.is_some(),
        json,
        began,
    };
    let done = verb.run(&face);
    log::debug!(
        "{} ends: {}",
        V::NAME,
        match &done {
            Ok(code) => format!("exit code {code}"),
            Err(e) => e.to_string(),
        }
    );
    done.map_err(failure)
}

/// The debug log, if the command line or the environment asks for it.
fn start_log(matches: &ArgMatches) -> Result<()> {
    let level = match matches.get_one::<String>("log-level") {
        Some(level) => Some(debug_log::parse_level(level)?),
        None => debug_log::level_of_environment()?,
    };
    if let Some(level) = level {
        debug_log::start_on_stderr(level);
    }
    Ok(())
}

/// An error and what the program ends with.
#[derive(Debug)]
struct Failure {
    error: Error,
    code: u8,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = error.kind().exit_code();
        Failure { error, code }
    }
}

/// The whole grammar, for completions and tests too.
fn grammar() -> Command {
    Command::new("carob")
        .about("Runs Kubernetes Pods on this machine: no cluster, no daemon")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .args_override_self(true)
        .max_term_width(100)
        .arg(
            Arg::new("root")
                .long("root")
                .global(true)
                .value_name("DIR")
                .value_parser(clap::value_parser!(PathBuf))
                .value_hint(clap::ValueHint::DirPath)
                .help(
                    "Keep everything below DIR; other roots' Pods are not seen [env: CAROB_ROOT]",
                ),
        )
        .arg(
            Arg::new("namespace")
                .short('n')
                .long("namespace")
                .global(true)
                .value_name("NAME")
                .help("Namespace [default: default]"),
        )
        .arg(
            Arg::new("log-level")
                .long("log-level")
                .global(true)
                .value_name("LEVEL")
                .value_parser(debug_log::LEVELS)
                .help(
                    "Say on standard error what carob does: each step with debug, each call to \
                     the kernel too with trace [env: CAROB_LOG]",
                ),
        )
        .subcommands(VERBS.iter().map(|v| (v.command)()))
}

/// The program's whole life. Never panics; the exit code is the contract of
/// `docs/cli.md`.
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if args.get(1).is_some_and(|a| a == "monitor") {
        return crate::pod::monitor::main(&args[2..]);
    }
    if crate::pod::monitor::is_reaper(&args) {
        return crate::pod::monitor::reap();
    }
    // Rust starts programs with SIGPIPE ignored; `carob get pods | head` shall
    // end as every other program does.
    crate::sys::tty::default_sigpipe();
    let json = face::wants_json(&args);
    if args.len() < 2 {
        // Whoever types the name alone wants to know what there is.
        let help = grammar().render_help().to_string();
        face::say(help.trim_end());
        return ExitCode::from(Kind::Usage.exit_code());
    }
    match dispatch(args, json) {
        Ok(code) => ExitCode::from(code),
        Err(f) => {
            face::report(&f.error, json);
            ExitCode::from(f.code)
        }
    }
}

fn dispatch(args: Vec<OsString>, json: bool) -> Result<u8, Failure> {
    let matches = match grammar().try_get_matches_from(&args) {
        Ok(m) => m,
        Err(e) => return Ok(help(e, &args)?),
    };
    let Some((name, matches)) = matches.subcommand() else {
        return Err(Error::new(Kind::Usage, "no verb").into());
    };
    match VERBS.iter().find(|v| v.name == name) {
        Some(v) => (v.run)(matches, json),
        None => Err(Error::new(Kind::Usage, format!("no verb {name:?}")).into()),
    }
}

/// `--help` and `--version` come as errors from clap; the others are usage.
fn help(e: clap::Error, args: &[OsString]) -> Result<u8> {
    use clap::error::ErrorKind;
    match e.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::text(&e.render().ansi().to_string(), output::stdout_is_terminal())?;
            Ok(0)
        }
        _ => {
            let root = face::root_of(args).or_else(face::root_of_environment);
            face::remember_root(root.as_deref());
            Err(usage::explain(&e, args))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_holds() {
        let mut g = grammar();
        g.build();
        g.debug_assert();
    }

    /// Texts of other modules name verbs, and need their `--root` too.
    #[test]
    fn command_lines_in_texts_know_every_verb() {
        let names: Vec<&str> = VERBS.iter().map(|v| v.name).collect();
        assert_eq!(names, crate::pod::command_line::VERBS);
    }

    /// Each example is a command line that this grammar takes.
    #[test]
    fn every_verb_has_examples() {
        for v in VERBS {
            let help = (v.command)().render_help().to_string();
            let (_, examples) = help.split_once("Examples:\n").expect(v.name);
            for line in examples.lines() {
                let (_, line) = line.split_once("carob ").expect(v.name);
                let words = line
                    .split(' ')
                    .take_while(|w| !w.starts_with(['<', '>', '|']));
                let words = words.map(|w| w.trim_end_matches(')'));
                let parsed = grammar().try_get_matches_from(["carob"].into_iter().chain(words));
                let name = parsed.map(|m| m.subcommand_name() == Some(v.name));
                assert!(name.as_ref().is_ok_and(|same| *same), "{line}: {name:?}");
            }
        }
    }

    #[test]
    fn no_verb_and_unknown_verbs_are_usage() {
        for line in [&["carob", "gte"][..], &["carob", "get", "--nope"]] {
            let e = dispatch(line.iter().map(Into::into).collect(), false).unwrap_err();
            assert_eq!(e.error.kind(), Kind::Usage, "{line:?}");
        }
    }

    #[test]
    fn globals_are_understood_on_both_sides_of_the_verb() {
        for line in [
            &["carob", "-n", "a", "get", "pods"][..],
            &["carob", "get", "pods", "-n", "a"],
            &["carob", "get", "-na", "pods"],
        ] {
            let m = grammar().try_get_matches_from(line).unwrap();
            let (_, m) = m.subcommand().unwrap();
            assert_eq!(m.get_one::<String>("namespace").unwrap(), "a", "{line:?}");
        }
    }
}
