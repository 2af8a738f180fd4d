//! Probes of containers and what follows from their answers, and hooks that go over the
//! network, seen from inside the Pod or in the kernel. Counts and times are tables in
//! src/pod/monitor/kubelet/tests/probes.txt.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::root::{Root, alive, kill_9, pod, sh, until};

const STATUS: &str = ".status.containerStatuses[0]";

fn status(field: &str) -> String {
    format!("{STATUS}.{field}")
}

const READY: &str = ".status.conditions[?(@.type=='Ready')].status";

fn exec(script: &str) -> Value {
    json!({"command": ["sh", "-c", script]})
}

/// A Pod `p` of one container that runs this script, with these fields.
fn of(script: &str, extra: Value) -> String {
    let spec = json!({
        "terminationGracePeriodSeconds": 1,
        "containers": [sh("main", script, extra)],
    });
    pod("p", spec)
}

const IDLE: &str = "exec sleep 1000";
/// Answers each connection to port 8080 by `answer`, a script in the place of a server.
fn serve(answer: &str) -> String {
    format!("cat > /answer <<'END'\n{answer}\nEND\nexec nc -ll -p 8080 -e sh /answer")
}
/// Reads a request up to its empty line, and keeps it.
const REQUEST: &str = "while read -r line; do line=${line%\x0d}; [ -n \"$line\" ] || break; \
                       echo \"$line\" >> /requests; done;";

#[track_caller]
fn events(root: &Root) -> String {
    let page = root.carob(&["describe", "pod", "p"]).ok();
    page.split("Events:").nth(1).unwrap_or_default().to_owned()
}

#[track_caller]
fn says_event(root: &Root, text: &str) {
    let told = until(|| {
        let events = events(root);
        if events.contains(text) {
            Ok(())
        } else {
            Err(events)
        }
    });
    told.unwrap_or_else(|events| panic!("no {text:?} in {events}"));
}

#[test]
fn ready_as_soon_as_the_server_listens() {
    let root = Root::new();
    let script = "mkdir /www; echo hi > /www/ready; sleep 0.3; exec httpd -f -p 8080 -h /www";
    let probe = json!({
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1000},
    });
    root.apply(&of(script, probe)).ok();
    assert_eq!(root.field("p", &status("started")), "true");
    // The next probe that counts is 1000 s away.
    root.carob(&["wait", "pod/p", "--for=condition=Ready", "--timeout=60s"])
        .ok();
    assert_eq!(root.field("p", &status("ready")), "true");
    let row = root.carob(&["get", "pod", "p"]).ok();
    assert!(row.contains("1/1"), "{row}");
    assert!(!events(&root).contains("Unhealthy"), "{}", events(&root));
}

#[test]
fn not_ready_until_the_probe_says_so_and_not_after_it_says_no() {
    let root = Root::new();
    let probe = json!({"readinessProbe": {
        "exec": {"command": ["test", "-e", "/ready"]}, "periodSeconds": 1, "failureThreshold": 2,
    }});
    root.apply(&of(IDLE, probe)).ok();
    assert_eq!(root.field("p", READY), "False");
    assert_eq!(root.field("p", &status("started")), "true");
    let row = root.carob(&["get", "pod", "p"]).ok();
    assert!(row.contains("0/1") && row.contains("Running"), "{row}");
    root.sh("p", "touch /ready");
    root.becomes("p", READY, "True");
    root.sh("p", "rm /ready");
    root.becomes("p", READY, "False");
    says_event(
        &root,
        "Readiness probe failed: container main: the command ended with 1",
    );
    // That is all that follows.
    assert_eq!(root.field("p", &status("restartCount")), "0");
}

#[test]
fn no_early_probes_where_an_annotation_says_so() {
    let root = Root::new();
    let probe = json!({"readinessProbe": {
        "exec": exec("echo x >> /asked; exit 1"), "periodSeconds": 1000,
    }});
    let mut manifest: Value = serde_json::from_str(&of(IDLE, probe)).unwrap();
    root.apply(&manifest.to_string()).ok();
    // 50, 150, 350 ms after the first.
    until(
        || match root.sh("p", "touch /asked; wc -l < /asked").trim().parse() {
            Ok(0..4) | Err(_) => Err(()),
            Ok(_) => Ok::<(), ()>(()),
        },
    )
    .unwrap();
    assert!(!events(&root).contains("Unhealthy"), "{}", events(&root));
    root.carob(&["delete", "pod", "p"]).ok();
    manifest["metadata"]["annotations"] = json!({"carob/first-probes": "periodic"});
    root.apply(&manifest.to_string()).ok();
    says_event(&root, "Readiness probe failed");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(root.sh("p", "wc -l < /asked"), "1\n");
    manifest["metadata"]["annotations"] = json!({"carob/first-probes": "late"});
    root.apply(&manifest.to_string())
        .fails(3, "\"early\", \"periodic\"");
}

#[test]
fn a_container_that_is_not_alive_is_restarted() {
    let root = Root::new();
    let probe = json!({"livenessProbe": {
        "exec": exec("[ ! -e /dead ] || { echo so dead; exit 3; }"),
        "periodSeconds": 1, "failureThreshold": 2, "terminationGracePeriodSeconds": 1,
    }});
    let script = "trap 'echo asked to end' TERM; while :; do sleep 0.1; done";
    root.apply(&of(script, probe)).ok();
    let pid = root.pid("p", "main");
    root.sh("p", "touch /dead");
    root.becomes("p", &status("restartCount"), "1");
    // It ignores TERM, so that the probe's own grace period, not the Pod's, has ended it.
    assert_eq!(
        root.field("p", &status("lastState.terminated.exitCode")),
        "137"
    );
    assert!(
        root.carob(&["logs", "p", "-p"])
            .ok()
            .contains("asked to end")
    );
    assert!(!alive(pid));
    says_event(
        &root,
        "Liveness probe failed: container main: the command ended with 3: so dead",
    );
    says_event(
        &root,
        "Container main failed liveness probe, will be restarted",
    );
    // The writable layer is new.
    root.becomes("p", ".status.phase", "Running");
    assert_eq!(root.sh("p", "ls /dead 2>/dev/null || echo none"), "none\n");
}

#[test]
fn nothing_else_is_asked_before_the_startup_probe_has_succeeded() {
    let root = Root::new();
    let probe = json!({
        "startupProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 100},
        "livenessProbe": {"exec": exec("touch /asked"), "periodSeconds": 1},
        "readinessProbe": {"exec": exec("touch /asked"), "periodSeconds": 1},
    });
    let spec = json!({
        "terminationGracePeriodSeconds": 1,
        "containers": [sh("main", "until [ -e /go ]; do sleep 0.05; done; exec nc -ll -p 8080 -e true", probe)],
    });
    root.feed(&["apply", "--wait=false", "-f", "-"], &pod("p", spec))
        .ok();
    root.becomes("p", ".status.phase", "Running");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(root.field("p", &status("started")), "false");
    assert_eq!(
        root.sh("p", "ls /asked 2>/dev/null || echo not yet"),
        "not yet\n"
    );
    root.sh("p", "touch /go");
    root.becomes("p", READY, "True");
    assert_eq!(root.field("p", &status("started")), "true");
}

#[test]
fn a_container_whose_startup_probe_fails_is_restarted_and_apply_says_why() {
    let root = Root::new();
    let probe = json!({"startupProbe": {
        "exec": exec("echo cold; exit 1"), "periodSeconds": 1, "failureThreshold": 2,
    }});
    let ran = root.apply(&of(IDLE, probe));
    ran.fails(7, "startup probe failed: the command ended with 1: cold");
    root.becomes("p", &status("restartCount"), "1");
    says_event(
        &root,
        "Container main failed startup probe, will be restarted",
    );
}

#[test]
fn a_sidecar_is_started_when_its_startup_probe_says_so() {
    let root = Root::new();
    let side = sh(
        "side",
        "until [ -e /data/go ]; do sleep 0.05; done; touch /started; exec sleep 1000",
        json!({
            "restartPolicy": "Always",
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            "startupProbe": {"exec": {"command": ["test", "-e", "/started"]}},
        }),
    );
    let spec = json!({
        "terminationGracePeriodSeconds": 1,
        "initContainers": [side],
        "containers": [sh("main", IDLE, json!({}))],
        "volumes": [{"name": "data", "emptyDir": {}}],
    });
    root.feed(&["apply", "--wait=false", "-f", "-"], &pod("p", spec))
        .ok();
    until(|| {
        let ran = root.carob(&["exec", "p", "-c", "side", "--", "true"]);
        if ran.code == 0 { Ok(()) } else { Err(ran) }
    })
    .unwrap();
    assert_eq!(
        root.field("p", &status("state.waiting.reason")),
        "PodInitializing"
    );
    root.carob(&["exec", "p", "-c", "side", "--", "touch", "/data/go"])
        .ok();
    root.becomes("p", READY, "True");
}

#[test]
fn what_an_http_probe_sends() {
    let root = Root::new();
    let answer = format!("{REQUEST} printf 'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n'");
    let get = json!({
        "path": "/a b?c", "port": 8080,
        "httpHeaders": [{"name": "X-One", "value": "1"}, {"name": "Host", "value": "example.com"}],
    });
    let probe = json!({"readinessProbe": {"httpGet": get, "periodSeconds": 1000}});
    root.apply(&of(&serve(&answer), probe)).ok();
    root.becomes("p", READY, "True");
    assert_eq!(
        root.sh("p", "cat /requests"),
        "GET /a%20b?c HTTP/1.1\nHost: example.com\nUser-Agent: kube-probe/1.37\nAccept: */*\n\
         X-One: 1\nConnection: close\n"
    );
}

/// What a readiness probe by httpGet says of this answer; a single one that counts.
fn told(answer: &str) -> (Root, String) {
    let root = Root::new();
    let probe = json!({"readinessProbe": {
        "httpGet": {"port": 8080}, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1,
    }});
    root.apply(&of(&serve(answer), probe)).ok();
    let said = until(|| {
        let events = events(&root);
        let line = events.lines().find(|l| l.contains("Readiness probe"));
        line.map(str::to_owned).ok_or(events)
    });
    let said = said.unwrap_or_else(|events| panic!("{events}"));
    (root, said)
}

#[test]
fn answers_that_are_none() {
    for (answer, expected) in [
        (
            format!("{REQUEST} printf 'HTTP/1.1 503 No\\r\\nContent-Length: 0\\r\\n\\r\\n'"),
            "HTTP probe failed with statuscode: 503",
        ),
        (
            format!("{REQUEST} echo hello there"),
            "the answer is not HTTP",
        ),
        (format!("{REQUEST} true"), "the connection was closed"),
        (
            format!("{REQUEST} printf 'HTTP/1.1 200 OK\\r\\nX: '; yes | tr -d '\\n'"),
            "header has more than 64 KiB",
        ),
        // A body without an end is cut; one that does not come makes the probe time out.
        (
            format!(
                "{REQUEST} printf 'HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\n'; sleep 100"
            ),
            "no answer within 1 s",
        ),
        (
            format!(
                "{REQUEST} printf 'HTTP/1.1 302 Go\\r\\nLocation: /\\r\\nContent-Length: 0\\r\\n\\r\\n'"
            ),
            "stopped after 10 redirects",
        ),
    ] {
        let (root, said) = told(&answer);
        assert!(said.contains(expected), "{answer}: {said}");
        assert_eq!(root.field("p", READY), "False", "{answer}");
    }
}

#[test]
fn a_redirect_is_followed_on_its_own_host_alone() {
    let redirect = |to: &str| {
        format!(
            "{REQUEST} case $(tail -n 6 /requests | grep GET) in \
             *there*) printf 'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n';; \
             *) printf 'HTTP/1.1 302 Found\\r\\nLocation: {to}\\r\\nContent-Length: 0\\r\\n\\r\\n';; esac"
        )
    };
    let root = Root::new();
    let probe = json!({"readinessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 1000}});
    root.apply(&of(&serve(&redirect("/there")), probe)).ok();
    root.becomes("p", READY, "True");
    assert!(root.sh("p", "cat /requests").contains("GET /there"));
    let (root, said) = told(&redirect("http://192.0.2.1:8080/there"));
    assert!(said.contains("leads to another host"), "{said}");
    assert_eq!(root.field("p", READY), "True");
}

#[test]
fn a_command_that_does_not_end_in_time_is_killed_with_what_it_started() {
    let root = Root::new();
    let probe = json!({"livenessProbe": {
        "exec": exec("sleep 4321; true"), "periodSeconds": 1, "failureThreshold": 1000,
    }});
    root.apply(&of(IDLE, probe)).ok();
    says_event(
        &root,
        "Liveness probe failed: container main: no answer within 1 s",
    );
    std::thread::sleep(Duration::from_millis(1500));
    // One is under way at most.
    let left = root.sh("p", "ps | grep -c '[s]leep 4321' || true");
    assert!(left.trim().parse::<u32>().unwrap() <= 2, "{left}");
}

#[test]
fn what_a_command_writes_is_bounded() {
    let root = Root::new();
    let probe = json!({"livenessProbe": {
        "exec": exec("yes | head -c 10000000; exit 1"), "periodSeconds": 1, "timeoutSeconds": 10,
        "failureThreshold": 1000,
    }});
    root.apply(&of(IDLE, probe)).ok();
    says_event(
        &root,
        "Liveness probe failed: container main: the command ended with 1: y",
    );
    let state = std::fs::metadata(
        root.dir()
            .join("run/pods")
            .join(root.uid("p"))
            .join("state.json"),
    );
    assert!(state.unwrap().len() < 8 << 10);
}

#[test]
fn a_command_that_cannot_be_run_decides_nothing() {
    let root = Root::new();
    let probe = json!({"livenessProbe": {
        "exec": {"command": ["/no/such/program"]}, "periodSeconds": 1, "failureThreshold": 1,
    }});
    root.apply(&of(IDLE, probe)).ok();
    says_event(&root, "Liveness probe errored: container main: ");
    assert_eq!(root.field("p", &status("restartCount")), "0");
    assert_eq!(root.field("p", READY), "True");
}

#[test]
fn a_pod_that_is_being_deleted_is_not_ready_and_serves() {
    let root = Root::new();
    let probe = json!({"readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}});
    let script =
        "trap 'sleep 2; exit 0' TERM; nc -ll -p 8080 -e echo served & while :; do wait; done";
    let spec = json!({
        "terminationGracePeriodSeconds": 30,
        "containers": [sh("main", script, probe)],
    });
    root.apply(&pod("p", spec)).ok();
    root.becomes("p", READY, "True");
    root.carob(&["delete", "pod", "p", "--wait=false"]).ok();
    root.becomes("p", READY, "False");
    assert_eq!(
        root.field("p", ".status.conditions[?(@.type=='Ready')].reason"),
        "PodTerminating"
    );
    assert_eq!(root.field("p", &status("ready")), "true");
    assert_eq!(root.sh("p", "nc 127.0.0.1 8080"), "served\n");
    root.carob(&["wait", "pod/p", "--for=delete", "--timeout=60s"])
        .ok();
}

#[test]
fn a_next_monitor_goes_on_with_the_same_counts() {
    let root = Root::new();
    let probe = json!({"livenessProbe": {
        "exec": exec("[ ! -e /dead ]"), "periodSeconds": 1, "failureThreshold": 4,
    }});
    root.apply(&of(IDLE, probe)).ok();
    let uid = root.uid("p");
    let record = || {
        let path = root.dir().join("run/pods").join(&uid).join("state.json");
        let state: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        state["containers"]["main"]["now"]["Running"]["probes"]["Liveness"].clone()
    };
    root.sh("p", "touch /dead");
    until(|| match record()["in_a_row"].as_u64() {
        Some(2..) if record()["success"] == false => Ok(()),
        _ => Err(record()),
    })
    .unwrap();
    kill_9(root.monitor_pid("p"));
    let since = Instant::now();
    root.becomes("p", &status("restartCount"), "1");
    // Two more failures, not four.
    assert!(since.elapsed() < Duration::from_secs(60));
    says_event(&root, "(x4 over");
    assert_eq!(root.field("p", READY), "True");
}

#[test]
fn a_monitor_that_dies_while_it_asks_leaves_no_command() {
    let root = Root::new();
    let probe = json!({"livenessProbe": {
        "exec": exec("echo x >> /asked; exec sleep 4321"), "periodSeconds": 1000, "timeoutSeconds": 900,
    }});
    root.apply(&of(IDLE, probe)).ok();
    until(
        || match root.sh("p", "ls /asked 2>/dev/null || true").as_str() {
            "" => Err(()),
            _ => Ok(()),
        },
    )
    .unwrap();
    kill_9(root.monitor_pid("p"));
    root.becomes("p", ".status.phase", "Running");
    let left = || root.sh("p", "ps | grep -c '[s]leep 4321' || true");
    until(|| if left() == "0\n" { Ok(()) } else { Err(left()) }).unwrap();
}

#[test]
fn hooks_go_over_the_network_too() {
    let root = Root::new();
    let answer = format!("{REQUEST} printf 'HTTP/1.1 500 No\\r\\nContent-Length: 0\\r\\n\\r\\n'");
    let hooks = json!({"lifecycle": {
        // Any answer will do.
        "postStart": {"httpGet": {"path": "/begin", "port": 8080}},
        "preStop": {"httpGet": {"path": "/end", "port": 8080}},
    }});
    // It listens before the hook runs, and longer than the container with the hooks.
    let server = sh(
        "server",
        &serve(&answer.replace("/requests", "/out/requests")),
        json!({
            "restartPolicy": "Always",
            "startupProbe": {"tcpSocket": {"port": 8080}},
            "volumeMounts": [{"name": "out", "mountPath": "/out"}],
        }),
    );
    let spec = json!({
        "terminationGracePeriodSeconds": 10,
        "initContainers": [server],
        "containers": [sh("main", "trap 'exit 0' TERM; sleep 1000 & wait", hooks)],
        "volumes": [{"name": "out", "hostPath": {"path": root.dir().join("out"), "type": "DirectoryOrCreate"}}],
    });
    root.apply(&pod("p", spec)).ok();
    let text = std::fs::read_to_string(root.dir().join("out/requests")).unwrap();
    assert!(
        text.contains("GET /begin") && !text.contains("/end"),
        "{text}"
    );
    root.carob(&["delete", "pod", "p"]).ok();
    let text = std::fs::read_to_string(root.dir().join("out/requests")).unwrap();
    assert!(text.contains("GET /end"), "{text}");
}

#[test]
fn a_hook_that_finds_nobody_fails() {
    let root = Root::new();
    let hooks = json!({"lifecycle": {"postStart": {"tcpSocket": {"port": 8080}}}});
    let spec = json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "containers": [sh("main", IDLE, hooks)],
    });
    let ran = root.apply(&pod("p", spec));
    ran.fails(7, "FailedPostStartHook: connect(");
    root.becomes("p", ".status.phase", "Failed");
}
