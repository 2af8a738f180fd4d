//! A Pod as a v1 object: what was given, with what is known now.

use serde_json::{Value, json};

use crate::pod::client::View;
use crate::pod::status;
use crate::pod::verbs::events::Listed;
use crate::spec::ObjectKind;
use crate::{Error, Kind, Result};

/// The manifest with the record's metadata and the status of now.
pub(crate) fn v1(view: &View) -> Value {
    let pod = &view.pod;
    let mut object = pod.manifest.clone();
    if !object.is_object() {
        object = json!({});
    }
    object["apiVersion"] = "v1".into();
    object["kind"] = "Pod".into();
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    let meta = &mut object["metadata"];
    meta["name"] = pod.name.as_str().into();
    meta["namespace"] = pod.namespace.as_str().into();
    meta["uid"] = pod.uid.as_str().into();
    meta["creationTimestamp"] = status::rfc3339(pod.created).into();
    for (key, map) in [("labels", &pod.labels), ("annotations", &pod.annotations)] {
        if !map.is_empty() {
            meta[key] = json!(map);
        } else if let Some(m) = meta.as_object_mut() {
            m.shift_remove(key);
        }
    }
    if let Some(d) = view.state.as_ref().and_then(|s| s.deletion.as_ref()) {
        // The API's time is when the grace will be over.
        let grace = i64::try_from(d.grace_period).unwrap_or(i64::MAX);
        let end = d
            .requested
            .checked_add(jiff::SignedDuration::from_secs(grace))
            .unwrap_or(jiff::Timestamp::MAX);
        meta["deletionTimestamp"] = status::rfc3339(end).into();
        meta["deletionGracePeriodSeconds"] = d.grace_period.into();
    }
    object["status"] = serde_json::to_value(view.status()).unwrap_or_default();
    object
}

/// As the API has it. A kubelet makes an event's name of the Pod's and of a time too.
pub(crate) fn v1_event(listed: &Listed, kind: &str, node: &str) -> Value {
    let event = &listed.event;
    let first = status::rfc3339(event.first);
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": format!("{}.{:x}", listed.pod, event.first.as_nanosecond()),
            "namespace": listed.namespace,
            "creationTimestamp": first,
        },
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": listed.namespace,
            "name": listed.pod,
            "uid": listed.uid,
        },
        "type": kind,
        "reason": event.reason,
        "message": event.message,
        "count": event.count,
        "firstTimestamp": first,
        "lastTimestamp": status::rfc3339(event.last),
        "source": {"component": "carob", "host": node},
        "reportingComponent": "carob",
        "reportingInstance": node,
    })
}

/// `web`, `pod/web`, `pods/web`, `po/web`: the name.
pub(crate) fn name_of(word: &str) -> Result<String> {
    match word.split_once('/') {
        None if word.is_empty() => Err(Error::usage("a Pod's name is empty")),
        None => Ok(word.to_owned()),
        Some((kind, name)) if is_pod_word(kind) && !name.is_empty() && !name.contains('/') => {
            Ok(name.to_owned())
        }
        Some(_) => Err(Error::usage(format!("{word:?} does not name a Pod"))
            .hint("this verb is for Pods: write NAME or pod/NAME")),
    }
}

/// The error of a Pod that was not found: some verbs take names alone, without the kind.
pub(crate) fn not_found(e: Error, word: &str) -> Error {
    match e.kind() == Kind::NotFound && is_pod_word(word) {
        true => e.hint(leave_out(word)),
        false => e,
    }
}

pub(crate) fn leave_out(word: &str) -> String {
    format!("leave the word {word} out, or write {word}/NAME")
}

pub(crate) fn is_pod_word(word: &str) -> bool {
    ["pod", "pods", "po"]
        .iter()
        .any(|w| w.eq_ignore_ascii_case(word))
}

/// Kubernetes' other kinds, by the names that kubectl takes.
fn is_other_kind(word: &str) -> bool {
    const KINDS: &[&str] = &[
        "all",
        "cm",
        "configmap",
        "cronjob",
        "daemonset",
        "deploy",
        "deployment",
        "ds",
        "endpoint",
        "ep",
        "ev",
        "event",
        "image",
        "ing",
        "ingress",
        "job",
        "namespace",
        "networkpolicy",
        "no",
        "node",
        "ns",
        "persistentvolume",
        "persistentvolumeclaim",
        "pv",
        "pvc",
        "replicaset",
        "rs",
        "sa",
        "secret",
        "service",
        "serviceaccount",
        "statefulset",
        "sts",
        "svc",
    ];
    let lower = word.to_ascii_lowercase();
    let singular = lower.strip_suffix('s').unwrap_or(&lower);
    KINDS.contains(&lower.as_str()) || KINDS.contains(&singular)
}

/// A kind that the command line can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Pod,
    Object(ObjectKind),
}

impl What {
    fn of_word(word: &str) -> Option<Self> {
        match is_pod_word(word) {
            true => Some(What::Pod),
            false => ObjectKind::of_word(word).map(What::Object),
        }
    }

    /// As in `configmap/web`.
    pub(crate) fn singular(self) -> &'static str {
        match self {
            What::Pod => "pod",
            What::Object(kind) => kind.singular(),
        }
    }

    /// As errors write it.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            What::Pod => "pods",
            What::Object(kind) => kind.plural(),
        }
    }

    /// The namespace that an object of it is in, where the command line names this one.
    pub(crate) fn namespace(self, given: &str) -> &str {
        match self.is_namespaced() {
            true => given,
            false => "",
        }
    }

    pub(crate) fn is_namespaced(self) -> bool {
        match self {
            What::Pod => true,
            What::Object(kind) => kind.is_namespaced(),
        }
    }
}

/// Objects of one kind: those of these names, or all where there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub what: What,
    pub names: Vec<String>,
}

/// What follows `get`, `delete` and the like, of any kind: `pods`, `cm a b`, `pods,cm`,
/// `pod/a cm/b`. `verb` is for the texts of mistakes.
pub(crate) fn resources_of(verb: &str, words: &[String]) -> Result<Vec<Named>> {
    let Some((first, names)) = words.split_first() else {
        return Err(Error::usage("the kind is missing")
            .hint("write it as in `pods`, `configmap NAME` or `pod/NAME`"));
    };
    if first.contains('/') {
        let mut all: Vec<Named> = vec![];
        for word in words {
            let (what, name) = named(verb, word)?;
            match all.iter_mut().find(|n| n.what == what) {
                Some(same) => same.names.push(name),
                None => all.push(Named {
                    what,
                    names: vec![name],
                }),
            }
        }
        return Ok(all);
    }
    // kubectl's category; ConfigMaps, Secrets and claims are not in it.
    let kinds: Vec<What> = match first.as_str() {
        "all" => vec![What::Pod],
        list => list
            .split(',')
            .map(|word| What::of_word(word).ok_or_else(|| no_kind(verb, word, words)))
            .collect::<Result<_>>()?,
    };
    if let Some(n) = names.iter().find(|n| n.contains('/')) {
        return Err(Error::usage(format!("{n:?}: the kind is named twice")));
    }
    if names.iter().any(String::is_empty) {
        return Err(Error::usage("a name is empty"));
    }
    let of_kind = |what: &What| Named {
        what: *what,
        names: names.to_vec(),
    };
    Ok(kinds.iter().map(of_kind).collect())
}

/// `NAME` of a Pod, or `KIND/NAME`.
pub(crate) fn one_of(verb: &str, word: &str) -> Result<(What, String)> {
    match word.contains('/') {
        true => named(verb, word),
        false => name_of(word).map(|name| (What::Pod, name)),
    }
}

/// `KIND/NAME`.
fn named(verb: &str, word: &str) -> Result<(What, String)> {
    let Some((kind, name)) = word.split_once('/') else {
        return Err(Error::usage(format!(
            "{word:?}: write it as KIND/{word}, like the others"
        )));
    };
    let what = What::of_word(kind).ok_or_else(|| no_kind(verb, kind, &[]))?;
    match !name.is_empty() && !name.contains('/') {
        true => Ok((what, name.to_owned())),
        false => Err(Error::usage(format!("{word:?} names no object")).hint("write KIND/NAME")),
    }
}

fn no_kind(verb: &str, word: &str, words: &[String]) -> Error {
    let error = Error::usage(format!("there is no kind {word:?} here"));
    if let Some(way) = own_verb(word) {
        return error.hint(way);
    }
    if is_other_kind(word) || words.is_empty() || word.is_empty() {
        let kinds = ObjectKind::ALL.map(ObjectKind::plural).join(", ");
        return error.hint(format!("the kinds are: pods, {kinds}"));
    }
    error.hint(if_a_pod(verb, word, words))
}

/// Most people who leave the kind out mean a Pod.
fn if_a_pod(verb: &str, word: &str, words: &[String]) -> String {
    let needed = match verb {
        "wait" => " --for=CONDITION",
        _ => "",
    };
    let all = words.join(" ");
    format!("if {word} is a Pod: carob {verb} pod {all}{needed}")
}

/// The way on from a word that kubectl takes as a kind.
fn own_verb(word: &str) -> Option<&'static str> {
    match word.to_ascii_lowercase().as_str() {
        "ev" | "event" | "events" => {
            Some("events have a verb of their own: carob events --for pod/NAME")
        }
        "image" | "images" => {
            Some("images have verbs of their own: carob images, carob inspect IMAGE")
        }
        _ => None,
    }
}

/// Each name with its kind.
pub(crate) fn each(resources: &[Named]) -> impl Iterator<Item = (What, &String)> {
    let of_kind = |n: &'_ Named| n.what;
    let named = resources.iter().map(move |n| (of_kind(n), &n.names));
    named.flat_map(|(what, names)| names.iter().map(move |name| (what, name)))
}

/// As [`resources_of`], for a verb that needs names.
pub(crate) fn named_ones(verb: &str, words: &[String]) -> Result<Vec<Named>> {
    let all = resources_of(verb, words)?;
    match all.iter().any(|n| n.names.is_empty()) {
        true => {
            let kind = all.first().map_or("pod", |n| n.what.singular());
            Err(nothing_named(&all).hint(format!("write it as in {kind}/NAME")))
        }
        false => Ok(all),
    }
}

pub(crate) fn nothing_named(resources: &[Named]) -> Error {
    let kind = match resources.first().map(|n| n.what) {
        Some(What::Object(kind)) => kind.kind(),
        _ => "Pod",
    };
    Error::usage(format!("no {kind} is named"))
}

/// What follows the verbs that know Pods alone: `pods`, `pod a b`, `pod/a pod/b`.
/// An empty list means all of them. `verb` is for what to say of a mistake.
pub(crate) fn names_of(verb: &str, words: &[String]) -> Result<Vec<String>> {
    match words.split_first() {
        None => {
            Err(Error::usage("the kind is missing").hint("write it as in `pods` or `pod/NAME`"))
        }
        Some((kind, names)) if is_pod_word(kind) => {
            if let Some(n) = names.iter().find(|n| n.contains('/')) {
                return Err(Error::usage(format!("{n:?}: the kind is named twice")));
            }
            Ok(names.to_vec())
        }
        Some((word, _)) if word.contains('/') => words
            .iter()
            .map(|w| match w.contains('/') {
                true => name_of(w),
                false => Err(Error::usage(format!(
                    "{w:?}: write it as pod/{w}, like the others"
                ))),
            })
            .collect(),
        Some((word, _)) => {
            let error = Error::usage(format!("there is no kind {word:?} here"));
            Err(if let Some(way) = own_verb(word) {
                error.hint(way)
            } else if is_other_kind(word) {
                error.hint(format!("{verb} is for Pods here: carob {verb} pod NAME"))
            } else {
                error.hint(if_a_pod(verb, word, words))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources() {
        let words = |s: &str| -> Vec<String> { s.split_whitespace().map(Into::into).collect() };
        let maps = What::Object(ObjectKind::ConfigMap);
        type Want<'a> = &'a [(What, &'a [&'a str])];
        let good: &[(&str, Want)] = &[
            ("pods", &[(What::Pod, &[])]),
            ("all", &[(What::Pod, &[])]),
            ("cm a b", &[(maps, &["a", "b"])]),
            ("pods,cm", &[(What::Pod, &[]), (maps, &[])]),
            ("pods,configmaps a", &[(What::Pod, &["a"]), (maps, &["a"])]),
            (
                "cm/a pod/b cm/c",
                &[(maps, &["a", "c"]), (What::Pod, &["b"])],
            ),
        ];
        for (line, want) in good {
            let is = resources_of("get", &words(line)).unwrap();
            let is: Vec<_> = is.iter().map(|n| (n.what, n.names.clone())).collect();
            let want: Vec<_> = want
                .iter()
                .map(|(w, n)| (*w, words(&n.join(" "))))
                .collect();
            assert_eq!(is, want, "{line}");
        }
        for line in [
            "", "svc", "cm,", "cm,svc", "cm a/b", "cm/a b", "cm/", "cm/a/b", "svc/a",
        ] {
            assert!(resources_of("get", &words(line)).is_err(), "{line}");
        }
        assert!(named_ones("edit", &words("cm")).is_err());
        let e = resources_of("get", &words("web")).unwrap_err();
        assert_eq!(e.get_hint(), Some("if web is a Pod: carob get pod web"));
    }

    #[test]
    fn names() {
        let words = |s: &str| -> Vec<String> { s.split_whitespace().map(Into::into).collect() };
        let good: &[(&str, &[&str])] = &[
            ("pods", &[]),
            ("po", &[]),
            ("pod a", &["a"]),
            ("Pods a b", &["a", "b"]),
            ("pod/a", &["a"]),
            ("pod/a po/b", &["a", "b"]),
        ];
        for (line, want) in good {
            assert_eq!(names_of("get", &words(line)).unwrap(), *want, "{line}");
        }
        for line in [
            "",
            "svc",
            "svc/a",
            "pod pod/a",
            "pod/a b",
            "pod/",
            "pod/a/b",
        ] {
            assert!(names_of("get", &words(line)).is_err(), "{line}");
        }
        for (line, hint) in [
            ("web", "if web is a Pod: carob get pod web"),
            ("a b", "if a is a Pod: carob get pod a b"),
            ("svc", "get is for Pods here: carob get pod NAME"),
            (
                "events",
                "events have a verb of their own: carob events --for pod/NAME",
            ),
            ("Deployments", "get is for Pods here: carob get pod NAME"),
        ] {
            let e = names_of("get", &words(line)).unwrap_err();
            assert_eq!(e.get_hint(), Some(hint), "{line}");
        }
        let e = not_found(Error::not_found("pods"), "pod");
        assert_eq!(
            e.get_hint(),
            Some("leave the word pod out, or write pod/NAME")
        );
        assert_eq!(name_of("web").unwrap(), "web");
        assert_eq!(name_of("pod/web").unwrap(), "web");
        assert!(name_of("deploy/web").is_err());
    }
}
