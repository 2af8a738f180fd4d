//! The words that can stand at the end of a command line: Pods, containers, images, kinds
//! and formats. What cannot be read gives no words: a shell has no place for an error.

use std::path::Path;

use crate::cli::VERBS;
use crate::cli::face::Face;
use crate::cli::images::list::familiar;
use crate::debug_log;
use crate::image::Store;
use crate::manifest::explain;
use crate::object;
use crate::pod::client;
use crate::pod::verbs::namespace;
use crate::spec::ObjectKind;
use crate::store::Layout;

/// What stands at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Nothing,
    /// `pods`, or `pod/NAME`.
    Kind,
    /// The same, or `configmaps` and the others.
    AnyKind,
    /// An object of this kind.
    Named(ObjectKind),
    /// `pod/NAME`.
    Object,
    Pod,
    /// `POD:`, which a path follows.
    Remote,
    Container,
    Image,
    Format(&'static [&'static str]),
    Namespace,
    /// `pods.spec.containers`.
    Field,
}

const OBJECTS: &[&str] = &["json", "yaml", "name", "wide", "jsonpath="];
const GET: &[&str] = &[
    "json",
    "yaml",
    "name",
    "wide",
    "jsonpath=",
    "custom-columns=",
    "custom-columns-file=",
];
const VALUES: &[&str] = &["json", "yaml", "jsonpath="];
const EVENTS: &[&str] = &["json", "yaml", "name", "jsonpath="];
const TOP: &[&str] = &["wide", "json", "yaml", "jsonpath="];
const SORT: &[&str] = &["cpu", "memory"];
const EXPLAIN: &[&str] = &["plaintext", "json"];
const TYPES: &[&str] = &["Normal", "Warning"];

/// Verbs that a kind follows.
const KINDED: &[&str] = &[
    "get", "describe", "delete", "wait", "label", "annotate", "patch", "edit", "top",
];

/// Flags with a value in the next word, beside those below.
const WITH_VALUE: &[&str] = &[
    "--root",
    "-f",
    "-p",
    "--patch",
    "--patch-file",
    "--type",
    "--filename",
    "-l",
    "--selector",
    "--timeout",
    "--for",
    "--tail",
    "--since",
    "--since-time",
    "--limit-bytes",
    "--max-log-requests",
    "--field-selector",
    "--sort-by",
    "-L",
    "--label-columns",
    "-i",
    "--input",
    "--grace-period",
    "-e",
    "--env",
    "--port",
    "--retries",
    "--interval",
    "--target",
    "--profile",
    "--image-pull-policy",
    "--api-version",
    "--field-manager",
];

/// The last of `words` is the one that is being written.
pub(super) fn candidates(face: &Face, words: &[String]) -> Vec<String> {
    let Some((current, before)) = words.split_last() else {
        return vec![];
    };
    let (wanted, pod) = place(before);
    let namespace = given(before, &["-n", "--namespace"]).unwrap_or(&face.namespace);
    // The root of the line that is being written, not of this program's own.
    let root = given(before, &["--root"]).and_then(|dir| Layout::new(Some(Path::new(dir))).ok());
    let layout = root.as_ref().unwrap_or(&face.layout);
    let pods = || -> Vec<String> {
        let views = client::list_with(layout, Some(namespace), client::Detail::Summary);
        views.into_iter().flatten().map(|v| v.pod.name).collect()
    };
    let all: Vec<String> = match wanted {
        Wanted::Field => explain::candidates(current),
        Wanted::Nothing => vec![],
        Wanted::Kind | Wanted::AnyKind if !current.contains('/') => {
            let others = ObjectKind::ALL.map(ObjectKind::plural).into_iter();
            let others = others.filter(|_| wanted == Wanted::AnyKind);
            let pods = ["pods", "pod", "pod/"].into_iter();
            pods.chain(others).map(str::to_owned).collect()
        }
        Wanted::Named(ObjectKind::Namespace) => namespaces(layout),
        Wanted::Named(kind) => object::list(layout, kind, Some(namespace))
            .into_iter()
            .flatten()
            .map(|o| o.name)
            .collect(),
        Wanted::Kind | Wanted::AnyKind | Wanted::Object => {
            pods().iter().map(|p| format!("pod/{p}")).collect()
        }
        Wanted::Pod => pods(),
        Wanted::Remote => pods().iter().map(|p| format!("{p}:")).collect(),
        Wanted::Container => pod
            .and_then(|name| client::find(layout, namespace, &name).ok())
            .map(|v| {
                v.pod
                    .spec
                    .every_container()
                    .map(|c| c.name.clone())
                    .collect()
            })
            .unwrap_or_default(),
        Wanted::Image => Store::open(layout)
            .and_then(|s| s.list())
            .into_iter()
            .flatten()
            .flat_map(|i| i.names)
            .map(|n| familiar(&n))
            .collect(),
        Wanted::Format(all) => all.iter().map(|f| (*f).to_owned()).collect(),
        Wanted::Namespace => namespaces(layout),
    };
    all.into_iter().filter(|w| w.starts_with(current)).collect()
}

fn namespaces(layout: &Layout) -> Vec<String> {
    let all = namespace::list(layout).into_iter().flatten();
    all.map(|o| o.name).collect()
}

/// The value that the last of these flags has.
fn given<'w>(words: &'w [String], flags: &[&str]) -> Option<&'w String> {
    let flag = words.iter().rposition(|w| flags.contains(&w.as_str()));
    flag.and_then(|i| words.get(i + 1))
}

/// What comes after these words, and the Pod that they name.
fn place(before: &[String]) -> (Wanted, Option<String>) {
    let mut verb: Option<&str> = None;
    let mut operands: Vec<&str> = vec![];
    let mut flag: Option<&str> = None;
    for word in before.iter().map(String::as_str) {
        match (flag.take(), verb) {
            (Some(_), _) => {}
            // What follows is a command in the container.
            (None, _) if word == "--" => return (Wanted::Nothing, None),
            (None, _) if value_of(word, verb).is_some() => flag = Some(word),
            (None, _) if word.starts_with('-') => {}
            (None, None) if VERBS.iter().any(|v| v.name == word) => verb = Some(word),
            (None, None) => return (Wanted::Nothing, None),
            (None, Some(_)) => operands.push(word),
        }
    }
    let pod = match verb {
        Some("cp") => operands.iter().find_map(|o| o.split_once(':')),
        _ => operands.first().map(|o| (o.trim_start_matches("pod/"), "")),
    };
    let pod = pod.map(|(name, _)| name.to_owned());
    if let Some(wanted) = flag.and_then(|f| value_of(f, verb)) {
        return (wanted, pod);
    }
    let kind = operands.first().and_then(|word| ObjectKind::of_word(word));
    let wanted = match (verb, operands.as_slice()) {
        (Some("top"), []) => Wanted::Kind,
        (Some(verb), []) if KINDED.contains(&verb) => Wanted::AnyKind,
        (Some(verb), ["pod" | "pods" | "po"]) if KINDED.contains(&verb) => Wanted::Pod,
        // Keys and values may follow the name.
        (Some("label" | "annotate"), _) => Wanted::Nothing,
        (Some(verb), ["pod" | "pods" | "po", ..]) if KINDED.contains(&verb) => Wanted::Pod,
        (Some(verb), _) if KINDED.contains(&verb) && kind.is_some() => {
            kind.map_or(Wanted::Nothing, Wanted::Named)
        }
        (Some("top"), _) => Wanted::Kind,
        (Some(verb), _) if KINDED.contains(&verb) => Wanted::AnyKind,
        (Some("logs" | "exec" | "attach" | "debug"), []) => Wanted::Pod,
        (Some("restart" | "pause" | "resume" | "why"), _) => Wanted::Pod,
        (Some("cp"), _) => Wanted::Remote,
        (Some("logs"), [_]) => Wanted::Container,
        (Some("rmi" | "inspect" | "push" | "pin" | "unpin" | "save"), _) => Wanted::Image,
        (Some("tag"), []) => Wanted::Image,
        (Some("explain"), []) => Wanted::Field,
        _ => Wanted::Nothing,
    };
    (wanted, pod)
}

/// What follows this flag; `None` if nothing does.
fn value_of(flag: &str, verb: Option<&str>) -> Option<Wanted> {
    match flag {
        "-n" | "--namespace" => Some(Wanted::Namespace),
        "-o" | "--output" if verb == Some("save") => Some(Wanted::Nothing),
        "-o" | "--output" => Some(Wanted::Format(match verb {
            Some("events") => EVENTS,
            Some("explain") => EXPLAIN,
            Some("get") => GET,
            Some("top") => TOP,
            Some(
                "apply" | "run" | "delete" | "wait" | "images" | "restart" | "pause" | "resume"
                | "label" | "annotate",
            ) => OBJECTS,
            _ => VALUES,
        })),
        "--for" if verb == Some("events") => Some(Wanted::Object),
        "--sort-by" if verb == Some("top") => Some(Wanted::Format(SORT)),
        "--types" => Some(Wanted::Format(TYPES)),
        "-c" | "--container" => Some(Wanted::Container),
        "--image" => Some(Wanted::Image),
        "--log-level" => Some(Wanted::Format(&debug_log::LEVELS)),
        // exec and attach have a flag of this name without a value.
        "-i" if verb != Some("load") => None,
        "-f" if verb == Some("logs") => None,
        flag if WITH_VALUE.contains(&flag) => Some(Wanted::Nothing),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        use Wanted::*;
        for (line, wanted, pod) in [
            ("", Nothing, None),
            ("get", AnyKind, None),
            ("get pods", Pod, Some("pods")),
            ("get -n", Namespace, None),
            ("get pods -o", Format(GET), Some("pods")),
            ("get pod/a", AnyKind, Some("a")),
            ("get cm", Named(ObjectKind::ConfigMap), Some("cm")),
            ("wait", AnyKind, None),
            ("top", Kind, None),
            ("top --sort-by", Format(SORT), None),
            ("label", AnyKind, None),
            ("annotate pods", Pod, Some("pods")),
            ("label pod web", Nothing, Some("pod")),
            ("events --for", Object, None),
            ("events --types", Format(TYPES), None),
            ("version -o", Format(VALUES), None),
            ("--log-level", Format(&debug_log::LEVELS), None),
            ("--log-level debug get", AnyKind, None),
            ("-n x logs", Pod, None),
            ("logs web", Container, Some("web")),
            ("logs -f web -c", Container, Some("web")),
            ("cp web:/a -c", Container, Some("web")),
            ("cp file", Remote, None),
            ("exec -i", Pod, None),
            ("exec web --", Nothing, None),
            ("run x --image", Image, Some("x")),
            ("save -o", Nothing, None),
            ("apply -f", Nothing, None),
            ("explain", Field, None),
            ("explain pods -o", Format(EXPLAIN), Some("pods")),
            ("explain --api-version v1", Field, None),
            ("frob", Nothing, None),
        ] {
            let words: Vec<String> = line.split_whitespace().map(Into::into).collect();
            assert_eq!(place(&words), (wanted, pod.map(str::to_owned)), "{line}");
        }
    }
}
