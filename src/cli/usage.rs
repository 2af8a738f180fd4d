//! What is said of a command line that is wrong: the mend in carob's own words, where
//! the parser would guess. People come with other tools' verbs in their fingers.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::Error;
use crate::cli::show::object::{is_pod_word, leave_out};
use crate::cli::{VERBS, grammar};
use crate::nearest::nearest;

/// Verbs of kubectl, podman, docker and crictl that are not carob's, and the way on.
/// One that begins with "not yet" has no counterpart so far.
const FOREIGN: &[(&[&str], &str)] = &[
    (
        &["ps", "ls", "list", "pods", "pod", "container"],
        "carob get pods",
    ),
    (&["inspectp"], "carob get pod NAME -o yaml"),
    (
        &[
            "rm",
            "stop",
            "kill",
            "down",
            "remove",
            "rmp",
            "stopp",
            "terminate",
        ],
        "carob delete pod NAME",
    ),
    (
        &["start", "up", "play", "kube", "deploy", "runp"],
        "carob apply -f FILE",
    ),
    (&["freeze"], "carob pause NAME"),
    (&["unpause", "thaw", "unfreeze"], "carob resume NAME"),
    (
        &["stats", "metrics", "metricsp", "statsp"],
        "carob top pods; carob top containers",
    ),
    (&["copy"], "carob cp FILE POD:PATH; carob cp POD:PATH FILE"),
    (
        &["port-forward", "port", "expose"],
        "a Pod's address is reached from this machine: carob get pods -o wide",
    ),
    (
        &["set"],
        "change the manifest, then carob apply -f FILE; or carob patch pod NAME -p PATCH",
    ),
    (
        &["lint", "kubeval", "kubeconform"],
        "carob validate -f FILE tells what each field does here",
    ),
    (&["event"], "carob events"),
    (
        &["scale", "rollout", "autoscale"],
        "carob runs Pods, without controllers: apply one manifest for each",
    ),
    (&["log"], "carob logs NAME"),
    (&["image", "img", "imagels"], "carob images"),
    (&["import"], "carob load -i FILE"),
    (&["export"], "carob save -o FILE IMAGE"),
    (&["untag"], "carob rmi IMAGE"),
    (&["history"], "carob inspect IMAGE"),
    (
        &["build", "commit", "buildx", "bud"],
        "carob builds no images: build with podman, buildah or docker, save the image as an archive, then carob load -i FILE",
    ),
    (
        &["login", "logout"],
        "carob reads what `skopeo login`, `podman login` or `docker login` has stored",
    ),
    (
        &["search"],
        "carob pull IMAGE takes a name as registries have it",
    ),
    (&["prune", "gc"], "carob system prune; carob image-prune"),
    (&["df"], "carob system df"),
    (
        &["info", "status", "cluster-info", "config"],
        "carob version; carob system check",
    ),
    (
        &[
            "cluster",
            "node",
            "nodes",
            "cordon",
            "drain",
            "taint",
            "auth",
            "certificate",
            "proxy",
        ],
        "carob is one machine without a cluster: carob --help lists its verbs",
    ),
    (
        &["secret", "configmap"],
        "carob get secrets,configmaps; carob create secret; carob create configmap",
    ),
    (&["volume"], "carob get persistentvolumeclaims"),
    (
        &["network"],
        "carob has one network, of all Pods: carob --help lists its verbs",
    ),
];

/// `args`: the whole command line.
pub(super) fn explain(e: &clap::Error, args: &[OsString]) -> Error {
    let context = |kind| match e.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let verb = args
        .iter()
        .skip(1)
        .filter_map(|a| a.to_str())
        .find(|a| VERBS.iter().any(|v| v.name == *a));
    let help = match verb {
        Some(verb) => format!("carob {} --help lists its arguments", path(verb, args)),
        None => "carob --help lists the verbs".to_owned(),
    };
    match e.kind() {
        ErrorKind::InvalidSubcommand if verb.is_none() => {
            unknown_verb(&context(ContextKind::InvalidSubcommand))
        }
        ErrorKind::MissingSubcommand if verb.is_none() => Error::usage("no verb").hint(help),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Error::usage("a word is missing that says what is to be made").hint(help)
        }
        ErrorKind::UnknownArgument if verb == Some("exec") => {
            let argument = context(ContextKind::InvalidArg);
            Error::usage(format!(
                "{argument:?} is no argument of exec: the command goes after --"
            ))
            .hint(format!("carob exec NAME -- {argument}"))
        }
        ErrorKind::UnknownArgument if verb == Some("events") => {
            let argument = context(ContextKind::InvalidArg);
            let hint = match argument.starts_with('-') {
                true => help,
                false => format!("carob events --for pod/NAME: those of one Pod; {help}"),
            };
            Error::usage(format!("unexpected argument {argument:?}")).hint(hint)
        }
        kind => {
            let text = e.render().to_string();
            let text = text.trim_start_matches("error: ").trim_end();
            let (message, rest) = text.split_once("\n\n").unwrap_or((text, ""));
            // The tip that the value may have been meant as another argument is right
            // for so few that it leads the others astray.
            let tips = rest
                .split("\n\n")
                .map(|part| part.trim().trim_start_matches("tip: "))
                .filter(|part| part.contains("a similar "));
            let mut hint: Vec<String> = tips.map(str::to_owned).collect();
            if let (ErrorKind::MissingRequiredArgument, Some(verb)) = (kind, verb)
                && let Some(example) = example(verb)
            {
                hint.push(example.to_owned());
            }
            let kinds = args.iter().skip(1).filter_map(|a| a.to_str());
            let mut kinds = kinds.take_while(|a| *a != "--").filter(|a| is_pod_word(a));
            if let (ErrorKind::UnknownArgument, Some(word)) = (kind, kinds.next())
                && !context(ContextKind::InvalidArg).starts_with('-')
            {
                hint.push(leave_out(word));
            }
            hint.push(help);
            Error::usage(message).hint(hint.join("; "))
        }
    }
}

/// The verb with the words below it, as in `create secret tls`.
fn path(verb: &str, args: &[OsString]) -> String {
    let mut all = grammar();
    all.build();
    let mut path = verb.to_owned();
    let mut at = all.find_subcommand(verb);
    let words = args.iter().skip_while(|a| *a != verb).skip(1);
    for word in words {
        let Some(below) = at.and_then(|c| c.find_subcommand(word)) else {
            break;
        };
        path.push(' ');
        path.push_str(below.get_name());
        at = Some(below);
    }
    path
}

/// A command line that a verb is complete with.
fn example(verb: &str) -> Option<&'static str> {
    Some(match verb {
        "get" => "carob get pods",
        "describe" => "carob describe pod NAME",
        "top" => "carob top pods",
        "logs" => "carob logs NAME",
        "exec" => "carob exec NAME -- COMMAND",
        "delete" => "carob delete pod NAME",
        "wait" => "carob wait pod/NAME --for=condition=Ready",
        "apply" => "carob apply -f FILE",
        "create" => "carob create -f FILE",
        "validate" => "carob validate -f FILE",
        "run" => "carob run NAME --image IMAGE",
        "cp" => "carob cp POD:PATH FILE",
        "load" => "carob load -i FILE",
        _ => return None,
    })
}

fn unknown_verb(word: &str) -> Error {
    let error = Error::usage(format!("carob has no verb {word:?}"));
    if let Some((_, way)) = FOREIGN.iter().find(|(words, _)| words.contains(&word)) {
        return error.hint(*way);
    }
    error.hint(match nearest(word, VERBS.iter().map(|v| v.name)) {
        Some(name) => format!("did you mean `carob {name}`? carob --help lists the verbs"),
        None => "carob --help lists the verbs".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    fn said(line: &str) -> (String, String) {
        let args: Vec<OsString> = line.split(' ').map(Into::into).collect();
        let e = crate::cli::grammar()
            .try_get_matches_from(&args)
            .unwrap_err();
        let e = explain(&e, &args);
        assert_eq!(e.kind(), Kind::Usage, "{line}");
        (e.to_string(), e.get_hint().unwrap_or_default().to_owned())
    }

    #[test]
    fn what_names_no_kind_says_so() {
        let (_, hint) = said("carob debug pod web");
        assert!(
            hint.starts_with("leave the word pod out, or write pod/NAME; "),
            "{hint}"
        );
        let (_, hint) = said("carob events web");
        assert!(hint.starts_with("carob events --for pod/NAME"), "{hint}");
    }

    #[test]
    fn foreign_verbs_are_answered_by_carob_s_own() {
        for (line, error, hint) in [
            ("carob ps", r#"carob has no verb "ps""#, "carob get pods"),
            (
                "carob --root /x rm web",
                r#"carob has no verb "rm""#,
                "carob delete pod NAME",
            ),
            (
                "carob start -f x",
                r#"carob has no verb "start""#,
                "carob apply -f FILE",
            ),
            (
                "carob gte pods",
                r#"carob has no verb "gte""#,
                "did you mean `carob get`?",
            ),
            (
                "carob frobnicate",
                r#"carob has no verb "frobnicate""#,
                "carob --help",
            ),
            (
                "carob exec web ls",
                "the command goes after --",
                "carob exec NAME -- ls",
            ),
            ("carob get", "required", "carob get pods; carob get --help"),
            (
                "carob get pods --frobnicate x",
                "--frobnicate",
                "carob get --help",
            ),
            (
                "carob get pods --sort-bi x",
                "--sort-bi",
                "a similar argument exists: '--sort-by'; carob get --help",
            ),
            ("carob -n x", "no verb", "carob --help lists the verbs"),
        ] {
            let (text, mend) = said(line);
            assert!(text.contains(error), "{line}: {text}");
            assert!(mend.starts_with(hint), "{line}: {mend}");
            assert!(!mend.contains("as a value"), "{line}: {mend}");
        }
    }

    /// A row for a verb that carob has come to have would never be read.
    #[test]
    fn no_foreign_verb_is_one_of_ours() {
        let grammar = crate::cli::grammar();
        let ours: Vec<&str> = grammar
            .get_subcommands()
            .flat_map(|c| [c.get_name()].into_iter().chain(c.get_all_aliases()))
            .collect();
        let words: Vec<&str> = FOREIGN
            .iter()
            .flat_map(|(words, _)| *words)
            .copied()
            .collect();
        for (i, word) in words.iter().enumerate() {
            assert!(!ours.contains(word), "{word}");
            assert!(!words[..i].contains(word), "{word} twice");
        }
    }
}
