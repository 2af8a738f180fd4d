//! Tables: what the monitor saw, what the status says.

use super::*;
use crate::pod::reason::Reason;
use crate::pod::state::{Deletion, Failure, Running};
use crate::spec::{RestartPolicy, Spec};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_323_045 + second).unwrap()
}

/// `names`: `i:` an init container, `s:` a sidecar, else an ordinary one.
fn pod(policy: RestartPolicy, names: &[&str]) -> Pod {
    let mut spec = Spec {
        restart_policy: policy,
        ..Spec::default()
    };
    for n in names {
        let (kind, name) = n.split_once(':').unwrap_or(("", n));
        let c = Container {
            name: name.into(),
            image: format!("{name}:1"),
            sidecar: kind == "s",
            ..Container::default()
        };
        if kind.is_empty() {
            spec.containers.push(c);
        } else {
            spec.init_containers.push(c);
        }
    }
    Pod {
        version: Pod::VERSION,
        uid: "u".into(),
        namespace: "default".into(),
        name: "web".into(),
        labels: Default::default(),
        annotations: Default::default(),
        created: at(0),
        spec,
        applied: None,
        manifest: serde_json::json!({}),
    }
}

fn ended(code: i32) -> Ended {
    Ended {
        id: "e1".into(),
        exit_code: code,
        signal: (code > 128).then(|| code - 128),
        reason: if code == 0 {
            Reason::Completed
        } else {
            Reason::Error
        },
        message: String::new(),
        started: Some(at(1)),
        finished: at(2),
    }
}

/// `r` running, `h` running in its hook, `w` waiting, `b` backing off, a number:
/// ended with it.
fn state(seen: &[(&str, &str)]) -> State {
    let containers = seen
        .iter()
        .map(|(name, s)| {
            let mut c = ContainerState::default();
            match *s {
                "w" => {}
                "b" => {
                    c.now = Now::Waiting {
                        reason: Reason::CrashLoopBackOff,
                        message: "back-off 10s".into(),
                    };
                    c.last = Some(ended(1));
                }
                "r" | "h" => {
                    c.now = Now::Running(Running {
                        id: "abc".into(),
                        pid: 7,
                        pid_start: 9,
                        since: at(3),
                        started: *s == "r",
                        in_hook: *s != "r",
                        ready: *s == "r",
                        probes: Default::default(),
                    });
                }
                code => c.now = Now::Ended(ended(code.parse().unwrap())),
            }
            (name.to_string(), c)
        })
        .collect();
    State::sample(at(0), containers)
}

type Case<'a> = (
    RestartPolicy,
    &'a [&'a str],
    &'a [(&'a str, &'a str)],
    Phase,
);

#[test]
fn phases() {
    use Phase::*;
    use RestartPolicy::*;
    let cases: &[Case] = &[
        (Always, &["a"], &[], Pending),
        (Always, &["a"], &[("a", "w")], Pending),
        (Always, &["a"], &[("a", "r")], Running),
        (Always, &["a", "b"], &[("a", "r"), ("b", "w")], Pending),
        (Always, &["a", "b"], &[("a", "r"), ("b", "b")], Running),
        (Always, &["a"], &[("a", "b")], Running),
        (Always, &["a"], &[("a", "0")], Running),
        (OnFailure, &["a"], &[("a", "0")], Succeeded),
        (OnFailure, &["a"], &[("a", "1")], Running),
        (OnFailure, &["a", "b"], &[("a", "0"), ("b", "r")], Running),
        (Never, &["a"], &[("a", "0")], Succeeded),
        (Never, &["a"], &[("a", "1")], Failed),
        // Its image was changed, and it will be made anew.
        (Never, &["a"], &[("a", "b")], Running),
        (Never, &["a", "b"], &[("a", "0"), ("b", "137")], Failed),
        (Never, &["i:i", "a"], &[("i", "1"), ("a", "w")], Failed),
        (Always, &["i:i", "a"], &[("i", "1"), ("a", "w")], Pending),
        (Always, &["i:i", "a"], &[("i", "r"), ("a", "w")], Pending),
        (Always, &["i:i", "a"], &[("i", "0"), ("a", "w")], Pending),
        (Always, &["i:i", "a"], &[("i", "0"), ("a", "r")], Running),
        (Never, &["s:s", "a"], &[("s", "r"), ("a", "0")], Running),
        (Never, &["s:s", "a"], &[("s", "143"), ("a", "0")], Succeeded),
    ];
    for (policy, names, seen, want) in cases {
        let p = pod(*policy, names);
        let s = state(seen);
        assert_eq!(phase(&p, Some(&s)), *want, "{policy:?} {seen:?}");
    }
    let p = pod(Always, &["a"]);
    assert_eq!(phase(&p, None), Pending);
    let mut s = state(&[("a", "0")]);
    s.deletion = Some(Deletion {
        requested: at(4),
        grace_period: 30,
    });
    assert_eq!(
        phase(&p, Some(&s)),
        Succeeded,
        "nothing is restarted any more"
    );
}

fn condition(s: &PodStatus, kind: &str) -> (bool, Option<&'static str>, Option<String>) {
    let c = s.conditions.iter().find(|c| c.kind == kind).unwrap();
    (c.status == "True", c.reason, c.message.clone())
}

#[test]
fn conditions_and_their_reasons() {
    let p = pod(RestartPolicy::Always, &["i:i", "s:s", "a", "b"]);

    let s = of(&p, Some(&state(&[("i", "r")])));
    assert_eq!(
        condition(&s, "Initialized"),
        (
            false,
            Some("ContainersNotInitialized"),
            Some("containers with incomplete status: [i s]".into())
        )
    );
    assert_eq!(
        condition(&s, "ContainersReady"),
        (
            false,
            Some("ContainersNotReady"),
            Some("containers with unready status: [s a b]".into())
        )
    );
    assert!(condition(&s, "PodScheduled").0);
    assert!(condition(&s, "PodReadyToStartContainers").0);

    let s = of(
        &p,
        Some(&state(&[("i", "0"), ("s", "r"), ("a", "r"), ("b", "h")])),
    );
    assert!(condition(&s, "Initialized").0);
    assert_eq!(
        condition(&s, "Ready").2.as_deref(),
        Some("containers with unready status: [b]"),
        "a container is not ready while its postStart hook runs"
    );

    let mut all = state(&[("i", "0"), ("s", "r"), ("a", "r"), ("b", "r")]);
    assert!(conditions(&p, &all).iter().all(|(_, holds)| *holds));
    all.deletion = Some(Deletion {
        requested: at(9),
        grace_period: 30,
    });
    let s = of(&p, Some(&all));
    assert_eq!(
        condition(&s, "Ready"),
        (false, Some("PodTerminating"), None)
    );
    assert!(condition(&s, "ContainersReady").0);

    let one = pod(RestartPolicy::Never, &["a"]);
    let s = of(&one, Some(&state(&[("a", "0")])));
    assert_eq!(condition(&s, "Ready"), (false, Some("PodCompleted"), None));
    assert_eq!(
        condition(&s, "Initialized"),
        (true, Some("PodCompleted"), None)
    );

    let s = of(&p, None);
    assert_eq!(s.phase, Phase::Pending);
    assert_eq!(s.conditions.len(), 5);
    assert!(!condition(&s, "PodReadyToStartContainers").0);
}

#[test]
fn a_sidecar_that_restarts_does_not_undo_the_initialization() {
    let p = pod(RestartPolicy::Always, &["s:s", "a"]);
    let s = of(&p, Some(&state(&[("s", "b"), ("a", "r")])));
    assert!(condition(&s, "Initialized").0);
    assert!(!condition(&s, "Ready").0);
    assert_eq!(s.phase, Phase::Running);
}

#[test]
fn transition_times_come_from_the_record_of_the_same_status() {
    let p = pod(RestartPolicy::Always, &["a"]);
    let mut st = state(&[("a", "r")]);
    st.conditions.insert(
        "Ready".into(),
        crate::pod::state::ConditionRecord {
            status: true,
            since: at(5),
        },
    );
    st.conditions.insert(
        "ContainersReady".into(),
        crate::pod::state::ConditionRecord {
            status: false,
            since: at(1),
        },
    );
    let s = of(&p, Some(&st));
    let time = |kind| {
        s.conditions
            .iter()
            .find(|c| c.kind == kind)
            .unwrap()
            .last_transition_time
            .clone()
    };
    assert_eq!(time("Ready"), Some(rfc3339(at(5))));
    assert_eq!(time("ContainersReady"), None);
}

#[test]
fn waiting_for_ones_turn_is_pod_initializing() {
    let p = pod(RestartPolicy::Always, &["i:i", "i:j", "a"]);
    let s = of(&p, Some(&state(&[("i", "r")])));
    let reason = |c: &ContainerStatus| c.state.waiting.as_ref().map(|w| w.reason.as_str());
    assert_eq!(reason(&s.init_container_statuses[0]), None);
    assert_eq!(
        reason(&s.init_container_statuses[1]),
        Some("PodInitializing")
    );
    assert_eq!(reason(&s.container_statuses[0]), Some("PodInitializing"));
    let s = of(&p, Some(&state(&[("i", "0"), ("j", "0"), ("a", "w")])));
    assert_eq!(reason(&s.container_statuses[0]), Some("ContainerCreating"));
}

#[test]
fn reads_back_as_v1() {
    let p = pod(RestartPolicy::Always, &["i:i", "s:s", "a", "b", "c"]);
    let mut st = state(&[("i", "0"), ("s", "r"), ("a", "b"), ("b", "137"), ("c", "r")]);
    st.failed = Some(Failure::new(
        Reason::DeadlineExceeded,
        "it was active for too long",
    ));
    let json = serde_json::to_value(of(&p, Some(&st))).unwrap();
    let back: k8s_openapi::api::core::v1::PodStatus = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(back.phase.as_deref(), Some("Failed"));
    assert_eq!(back.reason.as_deref(), Some("DeadlineExceeded"));
    assert_eq!(back.pod_ip.as_deref(), Some("10.88.0.2"));
    assert_eq!(back.host_ips.as_ref().unwrap()[0].ip, "192.0.2.1");
    assert_eq!(back.qos_class.as_deref(), Some("BestEffort"));
    let statuses = back.container_statuses.clone().unwrap();
    assert_eq!(
        statuses[0]
            .state
            .clone()
            .unwrap()
            .waiting
            .unwrap()
            .reason
            .as_deref(),
        Some("CrashLoopBackOff")
    );
    assert_eq!(
        statuses[0]
            .last_state
            .clone()
            .unwrap()
            .terminated
            .unwrap()
            .exit_code,
        1
    );
    let killed = statuses[1].state.clone().unwrap().terminated.unwrap();
    assert_eq!((killed.exit_code, killed.signal), (137, Some(9)));
    assert_eq!(statuses[2].container_id.as_deref(), Some("carob://abc"));
    // Whatever the API type does not know would be lost on this way.
    assert_eq!(
        serde_json::to_value(back)
            .unwrap()
            .as_object()
            .unwrap()
            .len(),
        json.as_object().unwrap().len()
    );
}
