//! The kubelet's rules as tables: `*.txt` beside this file, a scenario a paragraph.
//!
//! ```text
//! # what the scenario shows
//! pod policy=Always grace=30; init i; sidecar s preStop=sleep:5; a postStart=exec; b
//! 0    begun            => sandbox
//! 0    sandbox made     => start i
//! 2.5  i ended 1        => told i 1, start i   | i: Waiting CrashLoopBackOff; next 10
//! ```
//!
//! A line is a time in seconds, a fact, and after `=>` all actions that follow it. After
//! `|` is what must hold then: a container's state, `next SECONDS` until the next deadline
//! (`next -`: none), `event REASON xN`, `restarts NAME N`, `failed REASON`, `settled` or
//! `unsettled WORDS` (what a waiting `apply` is told). The words of facts
//! and of the first line are in [`words`].

mod words;

use super::*;
use std::fmt::Write;
use words::{facts_of, kubelet_of, moment, words_of};

const TABLES: [(&str, &str); 14] = [
    ("adoption", include_str!("adoption.txt")),
    ("backoff", include_str!("backoff.txt")),
    ("deadline", include_str!("deadline.txt")),
    ("debug", include_str!("debug.txt")),
    ("hooks", include_str!("hooks.txt")),
    ("images", include_str!("images.txt")),
    ("order", include_str!("order.txt")),
    ("probes", include_str!("probes.txt")),
    ("resize", include_str!("resize.txt")),
    ("rules", include_str!("rules.txt")),
    ("sandbox", include_str!("sandbox.txt")),
    ("steer", include_str!("steer.txt")),
    ("termination", include_str!("termination.txt")),
    ("volumes", include_str!("volumes.txt")),
];

#[test]
fn all_tables() {
    let (mut cases, mut wrong) = (0, String::new());
    for (name, text) in TABLES {
        for paragraph in text.split("\n\n").filter(|p| !p.trim().is_empty()) {
            let mut lines = paragraph.lines().filter(|l| !l.starts_with('#'));
            let mut kubelet = kubelet_of(lines.next().unwrap());
            for line in lines {
                cases += 1;
                if let Err(why) = check(&mut kubelet, line) {
                    write!(wrong, "{name}.txt: {paragraph}\n    at: {line}\n{why}\n").unwrap();
                    break;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(cases >= 150, "{cases} cases");
}

#[test]
fn what_was_recorded_is_decided_again() {
    let dir = std::env::temp_dir().join(format!("carob-trace-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("x.jsonl");
    let mut kubelet = kubelet_of("pod policy=Always; a");
    let mut trace = trace::Trace::create(&path, kubelet.pod(), kubelet.state()).unwrap();
    for (clock, words) in [
        (0.0, "begun"),
        (0.0, "sandbox made"),
        (1.0, "a up"),
        (2.0, "a ended 3"),
    ] {
        let at = moment(clock);
        for fact in facts_of(&kubelet, words) {
            let actions = kubelet.step(at, fact.clone());
            trace.step(at, &fact, &actions);
        }
    }
    assert_eq!(trace::replay(&path).unwrap(), 6);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"exit_code\":3", "\"exit_code\":4")).unwrap();
    let e = trace::replay(&path).unwrap_err().to_string();
    assert!(e.contains("x.jsonl:7") && e.contains("recorded are"), "{e}");
    std::fs::remove_dir_all(&dir).unwrap();
}

fn check(kubelet: &mut Kubelet, line: &str) -> Result<(), String> {
    let (left, right) = line.split_once("=>").expect("=> in a line");
    let (actions, holds) = right.split_once('|').unwrap_or((right, ""));
    let (time, words) = left.trim().split_once(char::is_whitespace).unwrap();
    let at = moment(time.parse().unwrap());
    let mut done = Vec::new();
    for fact in facts_of(kubelet, words) {
        done.extend(kubelet.step(at, fact).iter().map(words_of));
    }
    if done.join(", ") != actions.trim() {
        return Err(format!("    actions: {}", done.join(", ")));
    }
    for claim in holds.split(';').map(str::trim).filter(|c| !c.is_empty()) {
        let is = what_holds(kubelet, at, claim);
        if is != claim {
            return Err(format!("    {is}, not {claim}"));
        }
    }
    Ok(())
}

/// What is true of the thing that a claim is about, in the claim's form.
fn what_holds(kubelet: &Kubelet, at: Moment, claim: &str) -> String {
    let words: Vec<&str> = claim.split_whitespace().collect();
    match words.as_slice() {
        ["next", _] => match kubelet.next_deadline() {
            None => "next -".into(),
            Some(when) => format!("next {}", when.saturating_sub(at.clock).as_secs_f64()),
        },
        ["event", reason, _] => {
            let events = kubelet.state().events.iter();
            let count: u32 = events
                .filter(|e| e.reason.as_str() == *reason)
                .map(|e| e.count)
                .sum();
            format!("event {reason} x{count}")
        }
        ["restarts", name, _] => {
            let record = &kubelet.state().containers[*name];
            format!("restarts {name} {}", record.restart_count)
        }
        ["failed", _] => match &kubelet.state().failed {
            None => "failed -".into(),
            Some(f) => format!("failed {}", f.reason),
        },
        ["pending", _] => match &kubelet.state().resize.pending {
            None => "pending -".into(),
            Some(f) => format!("pending {}", f.reason),
        },
        ["resize", ..] => {
            let resize = &kubelet.state().resize;
            let place = resize.stuck_at.as_deref();
            match resize.in_progress.as_deref() {
                None => "resize -".into(),
                Some("") => "resize goes on".into(),
                Some(_) => format!("resize stuck at {}", place.unwrap_or("pod")),
            }
        }
        ["settled" | "unsettled", ..] => match kubelet.start_result(&|_, _| "a line".into()) {
            Some(Ok(())) => "settled".into(),
            Some(Err(e)) => format!("unsettled {e}"),
            None => "unsettled".into(),
        },
        [name, ..] => {
            let name = name.trim_end_matches(':');
            let is = match &kubelet.state().containers[name].now {
                Now::Waiting { reason, .. } => format!("Waiting {reason}"),
                Now::Running(r) if r.in_hook => "Running, its hook too".into(),
                Now::Running(r) if !r.started => "Running, not started".into(),
                Now::Running(r) if !r.ready => "Running, not ready".into(),
                Now::Running(_) => "Running".into(),
                Now::Ended(e) => format!("Ended {} {}", e.exit_code, e.reason),
            };
            format!("{name}: {is}")
        }
        [] => String::new(),
    }
}
