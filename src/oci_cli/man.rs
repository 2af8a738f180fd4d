//! `man`: the man page of this program, made from the same table as its help.

use super::args::{Flag, Order};
use super::{GLOBAL, VERBS, Verb, print};
use crate::plain::roff;

pub(super) const VERB: Verb = Verb {
    name: "man",
    operands: "",
    about: "prints the man page of this program, in roff",
    flags: &[],
    order: Order::Any,
    enters: false,
    run: |_, _| {
        print(&page())?;
        Ok(0)
    },
};

const ABOUT: &str = "An OCI runtime for podman, containerd, CRI-O and others: it makes and runs \
                     the container that a bundle describes (config.json and a root directory), \
                     with runc's command line. People call it to look into such a container, or \
                     to run a bundle by hand.";

const EXIT_CODES: [(&str, &str); 3] = [
    ("0", "done"),
    (
        "1",
        "an error, which standard error and the file of --log name",
    ),
    (
        "other",
        "`run` and `exec` end with the code of the process, 128 and the signal's number where \
         one has ended it. An error of `exec` itself is 255",
    ),
];

const FILES: [(&str, &str); 1] = [("/run/carob-oci", "what is known of containers")];

fn page() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!(
        ".TH carob\\-oci 8 \"\" \"carob {version}\" carob\n\
         .SH NAME\ncarob\\-oci \\- run containers that OCI bundles describe\n\
         .SH SYNOPSIS\n.B carob\\-oci\n[FLAGS] COMMAND [FLAGS] [OPERANDS]\n\
         .SH DESCRIPTION\n{}\n.SH OPTIONS\n{}.SH COMMANDS\n",
        roff(ABOUT),
        flags(&GLOBAL)
    );
    for verb in VERBS {
        let given = if verb.flags.is_empty() {
            ""
        } else {
            " [FLAGS]"
        };
        let line = format!("{}{given} {}", verb.name, verb.operands);
        text.push_str(&format!(
            ".SS \"{}\"\n{}\n{}",
            roff(line.trim_end()),
            roff(verb.about),
            flags(verb.flags)
        ));
    }
    text.push_str(&format!(".SH \"EXIT STATUS\"\n{}", list(&EXIT_CODES)));
    text.push_str(&format!(".SH FILES\n{}", list(&FILES)));
    text.push_str(".SH SEE ALSO\n.BR carob (1)\n");
    text
}

fn flags(all: &[Flag]) -> String {
    let item = |(long, short, value, meaning): &Flag| {
        let short = match short {
            '\0' => String::new(),
            short => format!("-{short}, "),
        };
        let value = match *value {
            "" => String::new(),
            value => format!(" {value}"),
        };
        item(&format!("{short}--{long}{value}"), meaning)
    };
    all.iter().map(item).collect()
}

fn list(items: &[(&str, &str)]) -> String {
    items.iter().map(|(what, text)| item(what, text)).collect()
}

fn item(what: &str, text: &str) -> String {
    format!(".TP\n{}\n{}\n", roff(what), roff(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_each_command_with_its_flags() {
        let page = page();
        for verb in VERBS {
            let head = format!(".SS \"{}", roff(verb.name));
            let (_, part) = page.split_once(&head).expect(verb.name);
            let part = part.split(".S").next().unwrap();
            assert!(part.contains(&roff(verb.about)), "{part}");
            for (long, ..) in verb.flags {
                assert!(part.contains(&roff(&format!("--{long}"))), "{long}: {part}");
            }
        }
        assert!(page.contains("\\-s, \\-\\-systemd\\-cgroup\n"), "{page}");
        let requests = [".TH", ".SH", ".SS", ".TP", ".B", ".BR"];
        for line in page.lines().filter(|l| l.starts_with('.')) {
            let request = line.split(' ').next().unwrap();
            assert!(requests.contains(&request), "{line}");
        }
    }
}
