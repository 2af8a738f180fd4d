//! One whole page.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::pod::reason::Reason;
use crate::pod::state::{ContainerState, Ended, Now, State};
use crate::spec::{
    Container, EnvValue, EnvVar, Mount, Pod, Port, Propagation, Protocol, Spec, Volume,
    VolumeSource,
};

#[test]
fn a_page() {
    let at = |s: i64| Timestamp::from_second(1_767_323_045 + s).unwrap();
    let container = Container {
        name: "app".into(),
        image: "busybox".into(),
        args: vec!["sh".into(), "-c".into(), "a\nb".into()],
        env: vec![EnvVar {
            name: "A".into(),
            value: EnvValue::Text("1".into()),
        }],
        ports: vec![Port {
            name: Some("http".into()),
            container_port: 80,
            host_port: None,
            host_ip: None,
            protocol: Protocol::Tcp,
        }],
        mounts: vec![Mount {
            volume: "v".into(),
            path: "/v".into(),
            read_only: true,
            recursive_read_only: false,
            sub_path: Some("x".into()),
            sub_path_expr: None,
            propagation: Propagation::None,
            options: vec![],
        }],
        ..Container::default()
    };
    let ended = Ended {
        id: "old".into(),
        exit_code: 137,
        signal: Some(9),
        reason: Reason::OOMKilled,
        message: String::new(),
        started: Some(at(1)),
        finished: at(2),
    };
    let view = View {
        pod: Pod {
            version: Pod::VERSION,
            uid: "u".into(),
            namespace: "default".into(),
            name: "web".into(),
            labels: BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]),
            annotations: BTreeMap::new(),
            created: at(0),
            spec: Spec {
                containers: vec![container],
                volumes: vec![Volume {
                    name: "v".into(),
                    source: VolumeSource::EmptyDir {
                        memory: true,
                        huge: None,
                        size_limit: None,
                        mode: None,
                    },
                }],
                ..Spec::default()
            },
            applied: None,
            manifest: json!({"spec": {"containers": [
                {"name": "app", "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}}}]}}),
        },
        unattended: None,
        state: Some(State {
            events: vec![Event {
                warning: true,
                reason: Reason::BackOff,
                message: "Back-off restarting".into(),
                first: at(-60),
                last: at(0),
                count: 3,
            }],
            ..State::sample(
                at(0),
                BTreeMap::from([(
                    "app".into(),
                    ContainerState {
                        now: Now::Waiting {
                            reason: Reason::CrashLoopBackOff,
                            message: "back-off 10s".into(),
                        },
                        last: Some(ended),
                        restart_count: 1,
                        attempt: 1,
                        round: 0,
                        restart_wanted: false,
                        image: None,
                        allocated: None,
                        resources: None,
                        image_id: Some("sha256:1".into()),
                        image_name: None,
                        volume_images: BTreeMap::new(),
                        backoff: None,
                        user: None,
                        mend: None,
                    },
                )]),
            )
        }),
    };
    let want = r#"Name:         web
Namespace:    default
Node:         host/192.0.2.1
Start Time:   Fri, 02 Jan 2026 03:04:05 +0000
Labels:       a=1
              b=2
Annotations:  <none>
Status:       Running
IP:           10.88.0.2
IPs:
  IP:  10.88.0.2
Containers:
  app:
    Container ID:  carob://old
    Image:         busybox
    Image ID:      sha256:1
    Port:          80/TCP (http)
    Host Port:     0/TCP
    Args:
      sh
      -c
      a
      b
    State:          Waiting
      Reason:       CrashLoopBackOff
      Message:      back-off 10s
    Last State:     Terminated
      Reason:       OOMKilled
      Exit Code:    137
      Signal:       9
      Started:      Fri, 02 Jan 2026 03:04:06 +0000
      Finished:     Fri, 02 Jan 2026 03:04:07 +0000
    Ready:          False
    Restart Count:  1
    Limits:
      cpu:     500m
      memory:  64Mi
    Environment:
      A:  1
    Mounts:
      /v from v (ro,path="x")
Conditions:
  Type                        Status
  PodReadyToStartContainers   True
  Initialized                 True
  Ready                       False
  ContainersReady             False
  PodScheduled                True
Volumes:
  v:
    Type:       EmptyDir (a temporary directory that shares a pod's lifetime)
    Medium:     Memory
    SizeLimit:  <unset>
QoS Class:  Burstable
Events:
  Type      Reason    Age                From    Message
  ----      ------    ---                ----    -------
  Warning   BackOff   5s (x3 over 65s)   carob   Back-off restarting
"#;
    let mut view = view;
    view.pod.spec.containers[0].resources.memory_limit = Some(64 << 20);
    assert_eq!(describe(&view, "host", at(5), &|_, _| None), want);
}
