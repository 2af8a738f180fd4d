//! The manifests of `tests/manifests`: what people run, each with the status that it comes to.
//!
//! Each file begins with comments that say what is expected:
//!
//! ```text
//! # expected: Running                     every Pod of the file, and ready
//! # expected: Running unready             running, with a container that is not ready
//! # expected: Running CrashLoopBackOff    a container waits for that reason
//! # expected: Succeeded
//! # expected: Failed Error 3              a container has ended so; or the Pod's own reason
//! # expected: Pending CreateContainerConfigError secret "x" not found
//! # expected: accepted                    the file has no Pod
//! # expected: refused 12: text            a problem of that line has this text
//! # warning: text                         apply says this
//! # inside: SCRIPT => OUTPUT              of the first Pod's first container
//! # inside CONTAINER: SCRIPT => OUTPUT    of that container; also POD/CONTAINER
//! ```
//!
//! After the phase comes a reason, if it is one word, then an exit code, then a part of a
//! message: the state's, or what `carob why` says. An output's `\n` is a line's end.
//!
//! The images that they name are the demo image under those names, but for those of the host
//! `registry.invalid`, which there are not. No two files have a Pod or an object of one name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::root::{IMAGE, Ran, Root, until};

/// Tests that run side by side, each with a root and a part of the files.
const PARTS: usize = 4;

/// One file, with what its first comments say.
struct Case {
    path: PathBuf,
    expected: String,
    warnings: Vec<String>,
    inside: Vec<Inside>,
}

struct Inside {
    pod: Option<String>,
    container: Option<String>,
    script: String,
    output: String,
}

fn cases() -> Vec<Case> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests");
    let entries = std::fs::read_dir(dir).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(case).collect()
}

fn case(path: PathBuf) -> Case {
    let text = std::fs::read_to_string(&path).unwrap();
    let mut case = Case {
        path,
        expected: String::new(),
        warnings: Vec::new(),
        inside: Vec::new(),
    };
    for line in text.lines().map_while(|l| l.strip_prefix('#')) {
        let line = line.trim_start();
        if let Some(expected) = line.strip_prefix("expected: ") {
            assert!(case.expected.is_empty(), "{:?}: two statuses", case.path);
            case.expected = expected.to_owned();
        } else if let Some(warning) = line.strip_prefix("warning: ") {
            case.warnings.push(warning.to_owned());
        } else if line.starts_with("inside") {
            case.inside.push(inside(line));
        }
    }
    assert!(!case.expected.is_empty(), "{:?}: no status", case.path);
    case
}

fn inside(line: &str) -> Inside {
    let (place, rest) = line.split_once(": ").unwrap();
    let (script, output) = rest.split_once(" => ").unwrap();
    let place = place.strip_prefix("inside").unwrap().trim();
    let (pod, container) = match place.split_once('/') {
        Some((pod, container)) => (Some(pod), container),
        None => (None, place),
    };
    Inside {
        pod: pod.map(str::to_owned),
        container: (!container.is_empty()).then(|| container.to_owned()),
        script: script.to_owned(),
        output: output.replace("\\n", "\n").trim().to_owned(),
    }
}

/// What the file names as an image. Text is enough: the files are ours.
fn images(text: &str) -> BTreeSet<String> {
    let mut images = BTreeSet::new();
    for key in ["image: ", "\"image\": ", "reference: "] {
        for (at, _) in text.match_indices(key) {
            let rest = &text[at + key.len()..];
            if rest.starts_with('{') {
                continue; // an image volume, whose image is its reference
            }
            let rest = rest.trim_start_matches('"');
            let end = rest.find(['"', ',', '}', '\n']).unwrap_or(rest.len());
            images.insert(rest[..end].trim().to_owned());
        }
    }
    images
}

impl Case {
    fn name(&self) -> &str {
        self.path.file_name().unwrap().to_str().unwrap()
    }

    fn apply(&self, root: &Root) -> Ran {
        if self.path.extension().is_some_and(|e| e == "json") {
            // JSON has no comments.
            let text = std::fs::read_to_string(&self.path).unwrap();
            let text = text.lines().skip_while(|l| l.starts_with('#'));
            let text: Vec<&str> = text.collect();
            return root.feed(&["apply", "--wait=false", "-f", "-"], &text.join("\n"));
        }
        let path = self.path.to_str().unwrap();
        root.carob(&["apply", "--wait=false", "-f", path])
    }

    /// Applies it; the namespaces and names of its Pods.
    fn start(&self, root: &Root) -> Result<Vec<(String, String)>, String> {
        let ran = self.apply(root);
        let mut said = ran.stderr.lines();
        if let Some(problem) = self.expected.strip_prefix("refused ") {
            let (line, text) = problem.split_once(": ").unwrap();
            let place = format!(":{line}: ");
            let found = |l: &str| l.contains(&place) && l.contains(text);
            let right = ran.code != 0 && said.any(found);
            return right.then(Vec::new).ok_or_else(|| format!("{ran:?}"));
        }
        let mut warnings = self.warnings.iter();
        if ran.code != 0 || !warnings.all(|w| ran.stderr.contains(w)) {
            return Err(format!("{ran:?}"));
        }
        let all = root.carob(&["get", "pods", "-A", "-o", "json"]).ok();
        let all: Value = serde_json::from_str(&all).unwrap();
        let names = ran.stdout.lines().filter_map(|l| l.strip_prefix("pod/"));
        let pods: Vec<_> = names
            .filter_map(|l| l.split(' ').next())
            .flat_map(|name| {
                let all = all["items"].as_array().into_iter().flatten();
                let metas = all.map(|pod| &pod["metadata"]);
                metas.filter(move |meta| meta["name"] == name)
            })
            .map(|meta| {
                let text = |field: &str| meta[field].as_str().unwrap().to_owned();
                (text("namespace"), text("name"))
            })
            .collect();
        match pods.is_empty() == (self.expected == "accepted") {
            true => Ok(pods),
            false => Err(format!("its Pods: {pods:?}")),
        }
    }

    /// Waits until each of its Pods is as expected, and looks into them.
    fn check(&self, root: &Root, pods: &[(String, String)]) -> Result<(), String> {
        for (namespace, name) in pods {
            let asked = ["get", "pod", name, "-n", namespace, "-o", "json"];
            let become_so = until(|| {
                let pod: Value = serde_json::from_str(&root.carob(&asked).ok()).unwrap();
                let why = || root.carob(&["why", name, "-n", namespace]).stdout;
                match is(&pod["status"], &self.expected, why) {
                    true => Ok(()),
                    false => Err(format!("{name} is {}\n{}", pod["status"], why())),
                }
            });
            become_so?;
        }
        for inside in &self.inside {
            let named =
                |(_, name): &&(String, String)| inside.pod.as_ref().is_none_or(|p| p == name);
            let (namespace, name) = pods.iter().find(named).ok_or("looks into no Pod")?;
            let mut args = vec!["exec", name, "-n", namespace];
            if let Some(container) = &inside.container {
                args.extend(["-c", container]);
            }
            args.extend(["--", "sh", "-c", &inside.script]);
            let ran = root.carob(&args);
            if ran.stdout.trim() != inside.output {
                let (script, output) = (&inside.script, &inside.output);
                return Err(format!("{script}: not {output:?}: {ran:?}"));
            }
        }
        Ok(())
    }
}

/// Whether a Pod's status is what a line says.
fn is(status: &Value, expected: &str, why: impl Fn() -> String) -> bool {
    let (phase, rest) = expected.split_once(' ').unwrap_or((expected, ""));
    if status["phase"] != phase {
        return false;
    }
    let conditions = status["conditions"].as_array();
    let ready = conditions.is_some_and(|all| {
        let mut ready = all.iter().filter(|c| c["type"] == "Ready");
        ready.all(|c| c["status"] == "True")
    });
    match (phase, rest) {
        ("Running", "") => return ready,
        ("Running", "unready") => {
            let started = status["containerStatuses"].as_array();
            let runs = |c: &Value| c["state"]["running"].is_object();
            return !ready && started.is_some_and(|all| all.iter().all(runs));
        }
        (_, "") => return true,
        _ => {}
    }
    let (first, after) = rest.split_once(' ').unwrap_or((rest, ""));
    // A reason begins with a capital; other words are those of a message.
    let Some(reason) = Some(first).filter(|r| r.starts_with(char::is_uppercase)) else {
        return why().contains(rest);
    };
    let (code, text) = match after.split_once(' ').unwrap_or((after, "")) {
        (code, text) if code.parse::<i64>().is_ok() => (code.parse().ok(), text),
        _ => (None, after),
    };
    if status["reason"] == reason {
        return status.to_string().contains(text);
    }
    states(status).iter().any(|state| {
        let message = state["message"].as_str().unwrap_or_default();
        state["reason"] == reason
            && code.is_none_or(|code: i64| state["exitCode"] == code)
            && (message.contains(text) || why().contains(text))
    })
}

/// Of all containers: what they are, and were before.
fn states(status: &Value) -> Vec<&Value> {
    let mut states = Vec::new();
    for list in ["initContainerStatuses", "containerStatuses"] {
        for container in status[list].as_array().into_iter().flatten() {
            for when in ["state", "lastState"] {
                states.extend(
                    container[when]
                        .as_object()
                        .into_iter()
                        .flat_map(|s| s.values()),
                );
            }
        }
    }
    states
}

/// All are started before the first is waited for: what takes its time does so at once.
fn part(n: usize) {
    let cases = cases();
    let mine: Vec<&Case> = cases.iter().skip(n).step_by(PARTS).collect();
    let root = Root::new();
    let mut names = BTreeSet::new();
    for case in &mine {
        let text = std::fs::read_to_string(&case.path).unwrap();
        names.extend(images(&text));
    }
    for name in names.iter().filter(|n| !n.starts_with("registry.invalid/")) {
        root.carob(&["tag", IMAGE, name]).ok();
    }
    let started: Vec<_> = mine.iter().map(|case| case.start(&root)).collect();
    let mut faults = Vec::new();
    for (case, pods) in mine.iter().zip(started) {
        if let Err(e) = pods.and_then(|pods| case.check(&root, &pods)) {
            faults.push(format!("{}: not {:?}: {e}", case.name(), case.expected));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

#[test]
fn there_are_sixty_of_them() {
    let cases = cases();
    assert!(cases.len() >= 60, "{}", cases.len());
    let inside = cases.iter().filter(|c| !c.inside.is_empty()).count();
    assert!(inside >= 30, "{inside} are looked into");
}

#[test]
fn manifests_first_part() {
    part(0);
}

#[test]
fn manifests_second_part() {
    part(1);
}

#[test]
fn manifests_third_part() {
    part(2);
}

#[test]
fn manifests_fourth_part() {
    part(3);
}
