//! A Pod as a v1 object: what was given, with what is known now.

use serde_json::{Value, json};

use crate::pod::client::View;
use crate::pod::status;
use crate::pod::verbs::events::Listed;
use crate::{Error, Result};

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
            .hint("write NAME or pod/NAME; Pods are the only kind that can be listed")),
    }
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

/// What follows `get`, `delete` and the like: `pods`, `pod a b`, `pod/a pod/b`.
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
            Err(if is_other_kind(word) {
                error.hint(format!("the only kind is pods: carob {verb} pod NAME"))
            } else {
                // Most people who leave the kind out mean a Pod.
                let all = words.join(" ");
                let needed = match verb {
                    "wait" => " --for=CONDITION",
                    _ => "",
                };
                error.hint(format!(
                    "if {word} is a Pod: carob {verb} pod {all}{needed}"
                ))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("svc", "the only kind is pods: carob get pod NAME"),
            ("Deployments", "the only kind is pods: carob get pod NAME"),
        ] {
            let e = names_of("get", &words(line)).unwrap_err();
            assert_eq!(e.get_hint(), Some(hint), "{line}");
        }
        assert_eq!(name_of("web").unwrap(), "web");
        assert_eq!(name_of("pod/web").unwrap(), "web");
        assert!(name_of("deploy/web").is_err());
    }
}
