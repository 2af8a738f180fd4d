//! Tables: what the monitor saw, what `get pods` says.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::pod::reason::Reason;
use crate::pod::state::{ContainerState, Deletion, Ended, Failure, Now, Running, State};
use crate::spec::{Container, RestartPolicy, Spec};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_323_045 + second).unwrap()
}

fn reason_of(word: &str) -> Reason {
    serde_json::from_value(json!(word)).unwrap()
}

fn ended(code: i32, reason: &str) -> Ended {
    Ended {
        id: "e".into(),
        exit_code: code,
        signal: (code > 128).then(|| code - 128),
        reason: reason_of(reason),
        message: String::new(),
        started: Some(at(1)),
        finished: at(20),
    }
}

/// `r` running, `h` in its hook, `w` waiting, `w:REASON`, `e:CODE:REASON`; `*3`
/// behind it: restarted so often.
fn container(word: &str) -> ContainerState {
    let (word, restarts) = match word.split_once('*') {
        Some((w, n)) => (w, n.parse().unwrap()),
        None => (word, 0),
    };
    let parts: Vec<&str> = word.split(':').collect();
    let mut c = ContainerState {
        restart_count: restarts,
        last: (restarts > 0).then(|| ended(1, "Error")),
        ..ContainerState::default()
    };
    c.now = match parts[..] {
        ["w"] => c.now,
        ["w", reason] => Now::Waiting {
            reason: reason_of(reason),
            message: String::new(),
        },
        ["e", code, reason] => Now::Ended(ended(code.parse().unwrap(), reason)),
        [how] => Now::Running(Running {
            id: "r".into(),
            pid: 2,
            pid_start: 3,
            since: at(5),
            started: how == "r",
            in_hook: how != "r",
            ready: how == "r",
            probes: Default::default(),
        }),
        _ => panic!("{word}"),
    };
    c
}

/// `i=`, `s=` before a name: an init container, a sidecar.
fn view(policy: RestartPolicy, what: &[(&str, &str)]) -> View {
    let mut spec = Spec {
        restart_policy: policy,
        ..Spec::default()
    };
    let mut containers = BTreeMap::new();
    for (name, word) in what {
        let (kind, name) = name.split_once('=').unwrap_or(("", name));
        let c = Container {
            name: name.into(),
            sidecar: kind == "s",
            ..Container::default()
        };
        match kind {
            "" => spec.containers.push(c),
            _ => spec.init_containers.push(c),
        }
        containers.insert(name.to_owned(), container(word));
    }
    let pod = Pod {
        version: Pod::VERSION,
        uid: "u".into(),
        namespace: "default".into(),
        name: "web".into(),
        labels: BTreeMap::from([("app".into(), "web".into())]),
        annotations: BTreeMap::new(),
        created: at(0),
        spec,
        applied: None,
        manifest: json!({"spec": {"containers": []}}),
    };
    let state = State {
        host_ip: None,
        ..State::sample(at(0), containers)
    };
    View {
        pod,
        state: Some(state),
        unattended: None,
    }
}

fn words(v: &View) -> String {
    let row = Columns::default().row(v, at(65));
    row[1..4].join(" ")
}

#[test]
fn says_what_kubectl_says() {
    use RestartPolicy::*;
    type Case<'a> = (RestartPolicy, &'a [(&'a str, &'a str)], &'a str);
    let cases: &[Case] = &[
        (Always, &[("a", "r")], "1/1 Running 0"),
        (Always, &[("a", "h")], "0/1 Running 0"),
        (Always, &[("a", "w")], "0/1 ContainerCreating 0"),
        (
            Always,
            &[("a", "r"), ("b", "w:ErrImagePull")],
            "1/2 ErrImagePull 0",
        ),
        (
            Always,
            &[("a", "w:CrashLoopBackOff*3"), ("b", "r")],
            "1/2 CrashLoopBackOff 3 (45s ago)",
        ),
        (
            Always,
            &[("a", "r*2"), ("b", "r*1")],
            "2/2 Running 3 (45s ago)",
        ),
        (Never, &[("a", "e:0:Completed")], "0/1 Completed 0"),
        (Never, &[("a", "e:1:Error")], "0/1 Error 0"),
        (Never, &[("a", "e:137:OOMKilled")], "0/1 OOMKilled 0"),
        (Never, &[("a", "e:137:OOMKilled")], "0/1 OOMKilled 0"),
        (
            OnFailure,
            &[("a", "e:0:Completed"), ("b", "r")],
            "1/2 NotReady 0",
        ),
        // The first container has the last word.
        (
            OnFailure,
            &[("a", "e:1:Error"), ("b", "w:CrashLoopBackOff")],
            "0/2 Error 0",
        ),
        (Always, &[("i=i", "r"), ("a", "w")], "0/1 Init:0/1 0"),
        (
            Always,
            &[("i=i", "e:0:Completed"), ("i=j", "r"), ("a", "w")],
            "0/1 Init:1/2 0",
        ),
        (
            Always,
            &[("i=i", "w:ErrImagePull"), ("a", "w")],
            "0/1 Init:ErrImagePull 0",
        ),
        (
            Always,
            &[("i=i", "w:CrashLoopBackOff*4"), ("a", "w")],
            "0/1 Init:CrashLoopBackOff 4 (45s ago)",
        ),
        (
            Never,
            &[("i=i", "e:1:Error"), ("a", "w")],
            "0/1 Init:Error 0",
        ),
        (
            Never,
            &[("i=i", "e:2:Error"), ("a", "w")],
            "0/1 Init:Error 0",
        ),
        (
            Never,
            &[("i=i", "e:137:OOMKilled"), ("a", "w")],
            "0/1 Init:OOMKilled 0",
        ),
        (
            Always,
            &[("i=i", "e:0:Completed"), ("a", "w")],
            "0/1 ContainerCreating 0",
        ),
        (
            Always,
            &[("i=i", "e:0:Completed*2"), ("a", "r")],
            "1/1 Running 0",
        ),
        (Always, &[("s=s", "r"), ("a", "r")], "2/2 Running 0"),
        (Always, &[("s=s", "h"), ("a", "w")], "0/2 Init:0/1 0"),
        (
            Always,
            &[("s=s", "r*2"), ("a", "r*1")],
            "2/2 Running 3 (45s ago)",
        ),
    ];
    for (policy, what, want) in cases {
        assert_eq!(words(&view(*policy, what)), *want, "{what:?}");
    }
}

#[test]
fn the_ends_of_pods() {
    let mut v = view(RestartPolicy::Always, &[("a", "r")]);
    v.state.as_mut().unwrap().deletion = Some(Deletion {
        requested: at(10),
        grace_period: 30,
    });
    assert_eq!(words(&v), "1/1 Terminating 0");

    let mut v = view(RestartPolicy::Always, &[("a", "e:143:Error")]);
    v.state.as_mut().unwrap().failed = Some(Failure::new(Reason::DeadlineExceeded, ""));
    assert_eq!(words(&v), "0/1 Error 0");

    let mut v = view(RestartPolicy::Always, &[("i=i", "w"), ("a", "w")]);
    v.state = None;
    assert_eq!(
        words(&v),
        "0/1 Init:0/1 0",
        "before the monitor has written"
    );
}

#[test]
fn columns() {
    let v = view(RestartPolicy::Always, &[("a", "r")]);
    let c = Columns {
        namespace: true,
        wide: true,
        label_columns: vec!["example.com/app".into(), "app".into()],
        labels: true,
        node: "host".into(),
    };
    assert_eq!(
        c.head(),
        [
            "NAMESPACE",
            "NAME",
            "READY",
            "STATUS",
            "RESTARTS",
            "AGE",
            "IP",
            "NODE",
            "APP",
            "APP",
            "LABELS"
        ]
    );
    assert_eq!(
        c.row(&v, at(65)),
        [
            "default",
            "web",
            "1/1",
            "Running",
            "0",
            "65s",
            "10.88.0.2",
            "host",
            "",
            "web",
            "app=web"
        ]
    );
}

#[test]
fn the_object_is_a_v1_pod() {
    let mut v = view(RestartPolicy::Always, &[("a", "r")]);
    v.pod.manifest = json!({"metadata": {"labels": {"old": "1"}, "annotations": {"old": "1"}},
        "spec": {"containers": [{"name": "a", "image": "x"}]}, "status": {"phase": "Failed"}});
    v.state.as_mut().unwrap().deletion = Some(Deletion {
        requested: at(10),
        grace_period: 30,
    });
    let o = crate::cli::show::object::v1(&v);
    assert_eq!(o["status"]["phase"], "Running");
    assert_eq!(o["metadata"]["labels"], json!({"app": "web"}));
    assert!(o["metadata"].get("annotations").is_none());
    assert_eq!(o["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(
        o["metadata"]["deletionTimestamp"],
        crate::pod::status::rfc3339(at(40))
    );
    let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(o).unwrap();
    assert_eq!(pod.metadata.uid.as_deref(), Some("u"));
}
