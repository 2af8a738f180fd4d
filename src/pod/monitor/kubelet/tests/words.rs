//! The words of the tables, as facts and actions.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::super::*;
use crate::Kind;
use crate::pod::reason::Reason;
use crate::pod::state::{Deletion, Ended};
use crate::spec::{
    Bounds, Check, FirstProbes, Hook, Node, Probe, Resources, RestartAction, RestartPolicy,
    RestartRule, Spec, Volume,
};

pub(super) fn moment(seconds: f64) -> Moment {
    // As on a machine that has been up for a while.
    let clock = Duration::from_secs(100_000) + Duration::from_secs_f64(seconds);
    Moment {
        clock,
        date: Timestamp::from_second(1_800_000_000).unwrap() + clock,
    }
}

/// 4 CPUs and 1000 bytes.
const NODE: Option<Node> = Some(Node {
    cpu: 4000,
    memory: 1000,
    storage: 1 << 40,
});

/// A line that begins with `pod`, as the parent's head has it. Before the first `;` are the
/// Pod's own settings: policy, grace, deadline; `running=a,b`: the record of an earlier
/// monitor has these running; `hooking=a`: with its postStart hook; `crashed=a:40`: has it
/// waiting to be restarted 40 s after its end at 0; `gave=a:100/100`: its cgroup was given that
/// last; `ended=a`: ended with 1 at 0; `deleted=N`: asked to be deleted at 0
/// with a grace of N; `limit=v:100`: a volume on disk of at most 100 bytes; `damaged`;
/// `periodic`: no early probes.
pub(super) fn kubelet_of(line: &str) -> Kubelet {
    let mut parts = line.split(';').map(str::trim);
    let head = parts.next().unwrap().strip_prefix("pod").unwrap();
    let settings = head
        .split_whitespace()
        .map(|word| word.split_once('=').unwrap_or((word, "")));
    let mut spec = Spec {
        termination_grace_period: 30,
        ..Spec::default()
    };
    for (kind, c) in parts.map(container_of) {
        match kind {
            Some("ephemeral") => spec.ephemeral_containers.push(c),
            Some(_) => spec.init_containers.push(c),
            None => spec.containers.push(c),
        }
    }
    let mut pod = Pod {
        version: Pod::VERSION,
        uid: "u".into(),
        namespace: "default".into(),
        name: "p".into(),
        labels: Default::default(),
        annotations: Default::default(),
        created: moment(0.0).date,
        spec,
        applied: None,
        manifest: serde_json::Value::Null,
    };
    let records = pod
        .spec
        .every_container()
        .map(|c| (c.name.clone(), waiting_for(&pod, &c.name)));
    let mut state = State {
        containers: records.collect(),
        ..State::default()
    };
    for (key, value) in settings {
        let number = || value.parse().unwrap();
        match key {
            "policy" => {
                pod.spec.restart_policy = policy_of(value);
            }
            "grace" => pod.spec.termination_grace_period = number(),
            "deadline" => pod.spec.active_deadline = Some(number()),
            "periodic" => {
                let key = FirstProbes::ANNOTATION.to_owned();
                pod.annotations.insert(key, "periodic".into());
            }
            "limit" => pod.spec.volumes.push(volume_of(value)),
            "paused" => state.paused = Some(moment(0.0).date),
            "damaged" => state.damaged = Some("not JSON".into()),
            "deleted" => {
                state.deletion = Some(Deletion {
                    requested: moment(0.0).date,
                    grace_period: number(),
                })
            }
            what => value
                .split(',')
                .for_each(|name| record_earlier(&mut state, what, name)),
        }
    }
    if state.containers.values().any(|r| r.resources.is_some()) {
        let mut before = pod.spec.clone();
        for c in before.containers_mut() {
            c.resources = state.containers[&c.name].resources.unwrap_or(c.resources);
        }
        state.bounds = Some(before.bounds());
    }
    Kubelet::new(pod, state)
}

/// `v:100`: a volume on disk, of at most 100 bytes.
fn volume_of(text: &str) -> Volume {
    let (name, size) = text.split_once(':').unwrap();
    Volume {
        name: name.into(),
        source: VolumeSource::EmptyDir {
            memory: false,
            huge: None,
            size_limit: size.parse().ok(),
            mode: None,
        },
    }
}

fn container_of(part: &str) -> (Option<&str>, Container) {
    let mut words = part.split_whitespace().peekable();
    let kind = words.next_if(|w| ["init", "sidecar", "ephemeral"].contains(w));
    let mut c = Container {
        name: words.next().unwrap().into(),
        image: "image:1".into(),
        sidecar: kind == Some("sidecar"),
        restart_policy: (kind == Some("ephemeral")).then_some(RestartPolicy::Never),
        ..Container::default()
    };
    for word in words {
        let (key, value) = word.split_once('=').unwrap();
        let hook = || match value.split_once(':') {
            Some(("sleep", seconds)) => Hook::Sleep(seconds.parse().unwrap()),
            _ => Hook::Check(Check::Exec(vec![value.to_owned()])),
        };
        match key {
            "preStop" => c.pre_stop = Some(hook()),
            "postStart" => c.post_start = Some(hook()),
            "startup" => c.startup = Some(probe_of(value)),
            "readiness" => c.readiness = Some(probe_of(value)),
            "liveness" => c.liveness = Some(probe_of(value)),
            "restart" => c.restart_policy = Some(policy_of(value)),
            "rules" => c.restart_rules = value.split('|').map(rule_of).collect(),
            "has" => c.resources = resources_of(value),
            "restartsFor" => {
                c.resize_policy.cpu_restarts = value.contains("cpu");
                c.resize_policy.memory_restarts = value.contains("memory");
            }
            "stopSignal" => c.stop_signal = Some(value.parse().unwrap()),
            other => panic!("{other}"),
        }
    }
    (kind, c)
}

/// `500/100`: 500 thousandths of a CPU requested, and 100 bytes as request and limit;
/// `500/100-200`: a limit of 200.
fn resources_of(text: &str) -> Resources {
    let (cpu, memory) = text.split_once('/').unwrap();
    let (request, limit) = memory.split_once('-').unwrap_or((memory, memory));
    Resources {
        cpu_request: cpu.parse().ok(),
        cpu_limit: None,
        memory_request: request.parse().ok(),
        memory_limit: limit.parse().ok(),
        ..Resources::default()
    }
}

fn policy_of(word: &str) -> RestartPolicy {
    match word {
        "Always" => RestartPolicy::Always,
        "OnFailure" => RestartPolicy::OnFailure,
        "Never" => RestartPolicy::Never,
        other => panic!("{other}"),
    }
}

/// `one:1,2`: these exit codes restart the container; `all:3`: all containers; `one:!0`: all
/// codes but these.
fn rule_of(text: &str) -> RestartRule {
    let (action, codes) = text.split_once(':').unwrap();
    let within = !codes.starts_with('!');
    let codes = codes.trim_start_matches('!').split(',');
    RestartRule {
        action: match action {
            "one" => RestartAction::Restart,
            "all" => RestartAction::RestartAllContainers,
            other => panic!("{other}"),
        },
        codes: codes.map(|code| code.parse().unwrap()).collect(),
        within,
    }
}

/// `period:10,timeout:1,delay:0,successes:1,failures:3,grace:5`: what is left out has
/// Kubernetes' default.
fn probe_of(text: &str) -> Probe {
    let mut probe = Probe {
        check: Check::Exec(Vec::new()),
        initial_delay: 0,
        period: 10,
        timeout: 1,
        success_threshold: 1,
        failure_threshold: 3,
        grace: None,
    };
    for (key, value) in text.split(',').filter_map(|part| part.split_once(':')) {
        let number: u32 = value.parse().unwrap();
        match key {
            "period" => probe.period = number.into(),
            "timeout" => probe.timeout = number.into(),
            "delay" => probe.initial_delay = number.into(),
            "successes" => probe.success_threshold = number,
            "failures" => probe.failure_threshold = number,
            "grace" => probe.grace = Some(number.into()),
            other => panic!("{other}"),
        }
    }
    probe
}

/// What an earlier monitor has recorded of a container.
fn record_earlier(state: &mut State, what: &str, name: &str) {
    let then = moment(0.0).date;
    state.sandbox_ready = Some(then);
    state.start_time = Some(then);
    let (name, delay) = name.split_once(':').unwrap_or((name, "0"));
    let record = state.containers.get_mut(name).unwrap();
    record.image = Some("image:1".into());
    let running = |started, in_hook| {
        Now::Running(Running {
            id: String::new(),
            pid: 1,
            pid_start: 1,
            since: then,
            started,
            in_hook,
            ready: started,
            probes: Default::default(),
        })
    };
    match what {
        "running" => record.now = running(true, false),
        "hooking" => record.now = running(false, true),
        "crashed" | "ended" => {
            let ended = Ended {
                id: String::new(),
                exit_code: 1,
                signal: None,
                reason: Reason::Error,
                message: String::new(),
                started: None,
                finished: then,
            };
            match what {
                "ended" => record.now = Now::Ended(ended),
                _ => {
                    record.now = Now::waiting(Reason::CrashLoopBackOff, "");
                    record.backoff = Some(delay.parse().unwrap());
                    record.last = Some(ended);
                }
            }
        }
        "gave" => record.resources = Some(resources_of(delay)),
        other => panic!("{other}"),
    }
}

/// The facts behind the words of a line.
pub(super) fn facts_of(kubelet: &Kubelet, words: &str) -> Vec<Fact> {
    let words: Vec<&str> = words.split_whitespace().collect();
    let error = |kind, text: &str| Error::new(kind, text);
    let fact = match words.as_slice() {
        ["-"] => Fact::Time,
        ["begun"] => Fact::Begun {
            refusal: None,
            node: NODE,
        },
        ["refused"] => Fact::Begun {
            refusal: Some("no AppArmor".into()),
            node: NODE,
        },
        ["sandbox", "made"] => Fact::SandboxMade {
            ips: vec!["10.0.0.2".parse().unwrap()],
            host_ip: None,
            warnings: Vec::new(),
        },
        ["sandbox", "failed"] => Fact::SandboxFailed {
            reason: Reason::FailedCreatePodSandBox,
            error: error(Kind::Conflict, "port 80 is taken"),
        },
        ["sandbox", "lost"] => Fact::SandboxLost {
            error: error(Kind::Failed, "no namespace"),
        },
        ["adopted"] => Fact::Adopted,
        ["asked"] => Fact::Asked,
        ["objects", "changed"] => Fact::ObjectsChanged,
        ["restart", names] => Fact::Restart {
            containers: names.split(',').map(str::to_owned).collect(),
        },
        ["pause"] => Fact::Paused,
        ["resume"] => Fact::Resumed,
        ["shutdown"] => Fact::ShutDown,
        ["delete", "now"] => Fact::Delete {
            grace: Duration::ZERO,
            force: true,
        },
        ["delete", grace] => Fact::Delete {
            grace: Duration::from_secs(grace.parse().unwrap()),
            force: false,
        },
        ["removal", "failed"] => Fact::NotRemoved {
            errors: vec![error(Kind::Failed, "EBUSY")],
        },
        ["debug", name] => {
            let mut pod = kubelet.pod().clone();
            let (_, container) = container_of(&format!("ephemeral {name}"));
            pod.spec.ephemeral_containers.push(container);
            Fact::Changed { pod: Box::new(pod) }
        }
        ["deadline", "of", seconds] => {
            let mut pod = kubelet.pod().clone();
            pod.spec.active_deadline = Some(seconds.parse().unwrap());
            Fact::Changed { pod: Box::new(pod) }
        }
        ["used", used @ ..] => {
            let used = used.iter().map(|u| u.split_once('=').unwrap());
            let used = used.map(|(name, n)| (name.to_owned(), n.parse().unwrap()));
            let containers: std::collections::BTreeMap<String, u64> = used.collect();
            let pod = Some(containers.values().sum());
            Fact::MemoryUsed { containers, pod }
        }
        ["volumes", took, used @ ..] => {
            let used = used.iter().map(|u| u.split_once('=').unwrap());
            let (failed, used): (Vec<_>, Vec<_>) = used.partition(|(_, n)| *n == "failed");
            let used = used
                .iter()
                .map(|(name, n)| ((*name).to_owned(), n.parse().unwrap()));
            let failed = failed
                .iter()
                .map(|(name, _)| ((*name).to_owned(), "EIO".to_owned()));
            Fact::VolumesUsed {
                volumes: used.collect(),
                not_whole: failed.collect(),
                took: Duration::from_secs(took.parse().unwrap()),
            }
        }
        ["resized", steps] => Fact::Resized {
            steps: steps.parse().unwrap(),
            error: None,
        },
        ["resized", steps, "failed"] => Fact::Resized {
            steps: steps.parse().unwrap(),
            error: Some(error(Kind::Failed, "EBUSY")),
        },
        [name, rest @ ..] => return facts_of_container(kubelet, name, rest),
        [] => panic!("no fact"),
    };
    vec![fact]
}

fn kind_of(word: &str) -> Kind {
    match word {
        "invalid" => Kind::Invalid,
        "absent" => Kind::NotFound,
        "image" => Kind::Image,
        "program" => Kind::StartFailed,
        _ => Kind::Failed,
    }
}

fn fact_of_image(container: &str, words: &[&str]) -> Option<Fact> {
    let container = container.to_owned();
    Some(match words {
        ["pulling", volume @ ..] => Fact::Pulling {
            container,
            volume: volume.first().map(|v| (*v).to_owned()),
        },
        ["has", "no", "image", why, volume @ ..] => Fact::ImageMissing {
            container,
            volume: volume.first().map(|v| (*v).to_owned()),
            error: Error::new(kind_of(why), "no such image"),
        },
        ["image"] => Fact::Image {
            container,
            id: "sha256:1".into(),
            name: None,
            volumes: BTreeMap::new(),
        },
        _ => return None,
    })
}

fn facts_of_container(kubelet: &Kubelet, name: &str, words: &[&str]) -> Vec<Fact> {
    let container = name.to_owned();
    let error = |kind, text: &str| Error::new(kind, text);
    let number = |text: &str| text.parse::<i32>().unwrap();
    if let Some(fact) = fact_of_image(&container, words) {
        return vec![fact];
    }
    let fact = match words {
        ["not", "started", why] => Fact::NotStarted {
            container,
            error: error(kind_of(why), "why"),
        },
        ["up"] => {
            let mut facts = facts_of(kubelet, &format!("{container} image"));
            facts.push(Fact::Attempt {
                container: container.clone(),
                number: 0,
            });
            facts.push(Fact::Started {
                container,
                pid: 7,
                pid_start: 9,
                user: None,
            });
            return facts;
        }
        ["survived"] => Fact::Survived { container },
        ["ended", how @ ..] => Fact::Ended {
            container,
            status: match how {
                ["unseen"] => None,
                ["signal", n] | ["oom", n] => Some(number(n)),
                [code] => Some(number(code) << 8),
                other => panic!("{other:?}"),
            },
            oom_killed: how[0] == "oom",
            message: String::new(),
        },
        [hook @ ("postStart" | "preStop"), how] => Fact::HookEnded {
            container,
            hook: match *hook {
                "preStop" => HookKind::PreStop,
                _ => HookKind::PostStart,
            },
            result: match *how {
                "ok" => Ok(()),
                _ => Err(error(Kind::Failed, "the command ended with 1")),
            },
        },
        [probe @ ("startup" | "readiness" | "liveness"), how] => Fact::Probed {
            container,
            probe: *ProbeKind::ALL
                .iter()
                .find(|kind| word_of(**kind) == *probe)
                .unwrap(),
            answer: match *how {
                "ok" => Answer::Success { warning: None },
                "bad" => Answer::Failure("not yet".into()),
                "error" => Answer::Error(error(Kind::NotFound, "no such program")),
                other => panic!("{other}"),
            },
        },
        ["to", image] => {
            let mut pod = kubelet.pod().clone();
            let spec = &mut pod.spec;
            let all = spec.init_containers.iter_mut().chain(&mut spec.containers);
            for c in all.filter(|c| c.name == container) {
                c.image = (*image).to_owned();
            }
            Fact::Changed { pod: Box::new(pod) }
        }
        ["resize", resources] => {
            let mut pod = kubelet.pod().clone();
            for c in pod.spec.containers_mut().filter(|c| c.name == container) {
                c.resources = resources_of(resources);
            }
            Fact::Changed { pod: Box::new(pod) }
        }
        other => panic!("{name} {other:?}"),
    };
    vec![fact]
}

pub(super) fn words_of(action: &Action) -> String {
    match action {
        Action::Adopt => "adopt".into(),
        Action::MakeSandbox => "sandbox".into(),
        Action::Start { container } => format!("start {container}"),
        Action::CancelPull { container } => format!("cancel pull {container}"),
        Action::KillStarting { container } => format!("kill start {container}"),
        Action::Stop { container, signal } => match signal {
            None => format!("stop {container}"),
            Some(n) => format!("stop {container} by {n}"),
        },
        Action::Kill { container } => format!("kill {container}"),
        Action::RunHook {
            container, hook, ..
        } => format!("{} {container}", format!("{hook:?}").to_lowercase()),
        Action::Probe { container, probe } => format!("{} {container}", word_of(*probe)),
        Action::CancelProbe { container, probe } => {
            format!("cancel {} {container}", word_of(*probe))
        }
        Action::MeasureMemory { containers } => format!("measure {}", containers.join("+"))
            .trim_end()
            .to_owned(),
        Action::Resize { steps } => {
            let steps: Vec<String> = steps.iter().map(words_of_step).collect();
            format!("write {}", steps.join(" "))
        }
        Action::MeasureVolumes { volumes } => {
            let names: Vec<&str> = volumes.keys().map(String::as_str).collect();
            format!("measure volumes {}", names.join("+"))
        }
        Action::Freeze => "freeze".into(),
        Action::Thaw => "thaw".into(),
        Action::TellEnd {
            container,
            exit_code,
        } => format!("told {container} {exit_code}"),
        Action::Remove => "remove".into(),
    }
}

fn words_of_step(step: &ResizeStep) -> String {
    let number = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
    match step {
        ResizeStep::Pod(Bounds {
            cpu_requests,
            memory_limit,
            ..
        }) => format!("pod:{cpu_requests}/{}", number(*memory_limit)),
        ResizeStep::Container { name, resources: r } => {
            format!(
                "{name}:{}/{}",
                number(r.cpu_request),
                number(r.memory_limit)
            )
        }
    }
}

fn word_of(kind: ProbeKind) -> String {
    kind.name().to_lowercase()
}
