//! `carob events`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::Value;

use crate::root::{Root, script_pod, until};

#[test]
fn events_in_every_form() {
    let root = Root::new();
    let events = |args: &[&str]| root.carob(&[&["events"], args].concat());
    let none = events(&[]);
    assert_eq!(none.stderr, "No events found in default namespace.\n");
    assert_eq!(none.ok(), "");
    assert_eq!(events(&["-A"]).stderr, "No events found.\n");
    assert_eq!(events(&["-A", "-o", "name"]).ok(), "");

    root.apply(&script_pod("good", "Never", 0, "exec sleep 1000"))
        .ok();
    root.apply(&script_pod("bad", "Always", 0, "exit 3")).ok();
    let backs_off = until(|| {
        let said = events(&["--types=warning"]).ok();
        match said.contains("BackOff") {
            true => Ok(said),
            false => Err(said),
        }
    });
    let warnings = backs_off.unwrap();
    for line in warnings.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!(
            words.contains(&"Warning") && words.contains(&"Pod/bad"),
            "{line}"
        );
    }
    let table = events(&["--for", "pod/good"]).ok();
    let mut lines = table.lines();
    let head: Vec<&str> = lines.next().unwrap().split("  ").collect();
    let head: Vec<&str> = head.iter().map(|w| w.trim()).collect();
    let head: Vec<&str> = head.into_iter().filter(|w| !w.is_empty()).collect();
    assert_eq!(head, ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
    let rows: Vec<Vec<&str>> = lines.map(|l| l.split_whitespace().collect()).collect();
    assert!(
        rows.iter().all(|r| r[1] == "Normal" && r[3] == "Pod/good"),
        "{table}"
    );
    let reasons: Vec<&str> = rows.iter().map(|r| r[2]).collect();
    assert_eq!(reasons.last(), Some(&"Started"), "{table}");
    let bare = events(&["--for", "pod/good", "--no-headers"]).ok();
    assert_eq!(bare.lines().count(), rows.len());

    let all = events(&["-A"]).ok();
    assert!(
        all.starts_with("NAMESPACE   LAST SEEN") && all.contains("default     "),
        "{all}"
    );
    let list: Value = serde_json::from_str(&events(&["-o", "json"]).ok()).unwrap();
    assert_eq!(list["kind"], "List");
    let items = list["items"].as_array().unwrap();
    let last: Vec<&str> = items
        .iter()
        .map(|i| i["lastTimestamp"].as_str().unwrap())
        .collect();
    assert!(last.is_sorted(), "{last:?}");
    let started = items
        .iter()
        .find(|i| i["reason"] == "Started" && i["involvedObject"]["name"] == "good")
        .unwrap();
    assert_eq!(
        (&started["kind"], &started["apiVersion"], &started["type"]),
        (&"Event".into(), &"v1".into(), &"Normal".into())
    );
    assert_eq!(
        started["involvedObject"]["uid"],
        root.field("good", ".metadata.uid")
    );
    let names = events(&["-o", "name", "--for=pod/good"]).ok();
    assert!(
        names.lines().all(|l| l.starts_with("event/good.")),
        "{names}"
    );

    events(&["--for=pod/none"]).fails(4, "pods \"none\" not found");
    events(&["--for=svc/a"]).fails(2, "there is no kind \"svc\" here");
    events(&["--types=Error"]).fails(2, "no type \"Error\"");
    events(&["-o", "wide"]).fails(2, "wide");
}

#[test]
fn a_watch_goes_on_with_what_is_new_and_what_is_seen_again() {
    let root = Root::new();
    root.apply(&script_pod("a", "Always", 0, "exec sleep 1000"))
        .ok();
    let mut watch = root
        .command(&["events", "-w"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (lines, said) = channel();
    let out = BufReader::new(watch.stdout.take().unwrap());
    std::thread::spawn(move || out.lines().try_for_each(|l| lines.send(l.unwrap())));
    let mut seen = Vec::new();
    let mut waits = |words: &[&str]| {
        while !seen
            .last()
            .is_some_and(|l: &String| words.iter().all(|w| l.contains(w)))
        {
            match said.recv_timeout(Duration::from_secs(20)) {
                Ok(line) => seen.push(line),
                Err(_) => panic!("no {words:?} in {seen:?}"),
            }
        }
        seen.len()
    };
    assert_eq!(waits(&["LAST SEEN", "OBJECT"]), 1);
    waits(&["Started", "Pod/a"]);
    root.apply(&script_pod("b", "Never", 0, "true")).ok();
    waits(&["Started", "Pod/b"]);
    // Grown.
    let pid = root.pid("a", "main");
    crate::root::kill_9(pid);
    waits(&["Started", "Pod/a", "(x2 over"]);
    root.carob(&["delete", "pod", "a"]).ok();
    waits(&["Killing", "Pod/a"]);
    watch.kill().unwrap();
    watch.wait().unwrap();
}
