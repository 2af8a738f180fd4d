//! `carob man`: man pages, made from the grammar itself.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_mangen::Man;

use crate::cli::face::Face;
use crate::cli::{Verb, grammar, show::output};
use crate::plain::roff;
use crate::{Context, Error, Result};

/// The one source of what exit codes mean.
const EXIT_CODES: &str = include_str!("../../docs/exit-codes.md");

const FILES: [(&str, &str); 3] = [
    ("/run/carob", "Pods, until the machine goes down"),
    ("/var/lib/carob", "images, and what Pods keep on the disk"),
    ("/var/log/pods", "what containers have written"),
];

const ENVIRONMENT: [(&str, &str); 2] =
    [("CAROB_ROOT", "as --root"), ("CAROB_LOG", "as --log-level")];

#[derive(Args, Debug)]
pub(super) struct ManPages {
    /// The page of this verb, in place of carob's own
    #[arg(value_name = "VERB", conflicts_with = "dir")]
    verb: Vec<String>,
    /// Write all pages into this directory, which is made, as carob.1, carob-apply.1 and so on
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Verb for ManPages {
    const NAME: &'static str = "man";
    const ABOUT: &'static str = "Print a man page";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob man apply | man -l -\n\
        \x20 carob man --dir /usr/local/share/man/man1";

    fn needs_root(&self) -> bool {
        false
    }

    fn run(self, _: &Face) -> Result<u8> {
        let all = whole_grammar();
        if let Some(dir) = &self.dir {
            std::fs::create_dir_all(dir).with_context(|| format!("mkdir({})", dir.display()))?;
            for (name, text) in pages(&all)? {
                let path = dir.join(format!("{name}.1"));
                std::fs::write(&path, text)
                    .with_context(|| format!("write({})", path.display()))?;
            }
            return Ok(0);
        }
        let mut command = &all;
        for word in &self.verb {
            command = command.find_subcommand(word).ok_or_else(|| {
                Error::usage(format!("there is no verb {word:?}")).hint("carob --help lists them")
            })?;
        }
        output::text(&page(command)?, false)?;
        Ok(0)
    }
}

fn whole_grammar() -> Command {
    // No page is needed of the verb `help`.
    let mut all = grammar().disable_help_subcommand(true);
    all.build();
    all
}

/// Each page by its name.
fn pages(command: &Command) -> Result<Vec<(String, String)>> {
    let mut all = vec![(name_of(command), page(command)?)];
    for below in command.get_subcommands() {
        all.extend(pages(below)?);
    }
    Ok(all)
}

fn name_of(command: &Command) -> String {
    let name = command.get_display_name();
    name.unwrap_or(command.get_name()).to_owned()
}

fn page(command: &Command) -> Result<String> {
    let examples = command.get_after_help().map(ToString::to_string);
    let name = name_of(command);
    let man = Man::new(command.clone())
        .title(&name)
        .section("1")
        .manual("carob")
        .source(concat!("carob ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    man.render_title(&mut text)
        .and_then(|()| man.render_name_section(&mut text))
        .and_then(|()| man.render_synopsis_section(&mut text))
        .and_then(|()| man.render_description_section(&mut text))
        .and_then(|()| man.render_options_section(&mut text))
        .context("make the man page")?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)
            .context("make the man page")?;
    }
    let mut text = String::from_utf8_lossy(&text).into_owned();
    if let Some(examples) = examples {
        let lines = examples.trim_start_matches("Examples:").trim_matches('\n');
        text.push_str(&format!(".SH EXAMPLES\n.nf\n{}\n.fi\n", roff(lines)));
    }
    if name == "carob" {
        text.push_str(&list("EXIT STATUS", exit_codes()));
        text.push_str(&list("FILES", FILES));
        text.push_str(&list("ENVIRONMENT", ENVIRONMENT));
        text.push_str(".SH SEE ALSO\n.BR carob\\-oci (8)\n");
    } else {
        text.push_str(".SH SEE ALSO\n.BR carob (1)\n");
    }
    Ok(text)
}

/// The codes and their meanings, from the first table of the document.
fn exit_codes() -> impl Iterator<Item = (&'static str, &'static str)> {
    let rows = EXIT_CODES.lines().filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let code = cells.next().filter(|c| c.parse::<u8>().is_ok())?;
        Some((code, cells.nth(1)?))
    });
    rows.take_while(|(code, _)| *code != "125")
}

fn list<'a>(title: &str, items: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let items = items.into_iter();
    let items = items.map(|(what, text)| format!(".TP\n{}\n{}\n", roff(what), roff(text)));
    format!(".SH \"{title}\"\n{}", String::from_iter(items))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verb_has_a_page_with_its_flags() {
        let all = whole_grammar();
        let pages = pages(&all).unwrap();
        let page = |name: &str| {
            let found = pages.iter().find(|(n, _)| n == name);
            &found.unwrap_or_else(|| panic!("no page {name}")).1
        };
        for verb in all.get_subcommands() {
            let text = page(&format!("carob-{}", verb.get_name()));
            for section in [
                ".TH carob",
                ".SH NAME",
                ".SH SYNOPSIS",
                ".SH OPTIONS",
                ".SH EXAMPLES",
            ] {
                assert!(text.contains(section), "{}: {section}", verb.get_name());
            }
            for flag in verb.get_arguments().filter(|a| !a.is_hide_set()) {
                let Some(long) = flag.get_long() else {
                    continue;
                };
                let shown = format!("\\-\\-{}", long.replace('-', "\\-"));
                assert!(text.contains(&shown), "{} --{long}", verb.get_name());
            }
        }
        let own = page("carob");
        assert!(
            own.contains(".TP\n7\nthe Pod is there and does not start"),
            "{own}"
        );
        assert!(own.contains("CAROB_ROOT") && own.contains("/run/carob"));
        assert!(!own.contains("`kubectl"), "{own}");
        assert_eq!(exit_codes().count(), 11);
    }
}
