//! What a failure says: the cause, and the command or the change that mends it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::json;

use crate::root::{IMAGE, Ran, Root, pod, script_pod, sh};

/// Command line, standard input, exit code, what the error says and what the hint says.
type Case<'a> = (&'a [&'a str], &'a str, i32, &'a str, &'a str);

#[test]
fn command_lines_and_files() {
    let root = Root::new();
    let cases: &[Case] = &[
        (
            &["get", "web"],
            "",
            2,
            "no kind \"web\"",
            "carob get pod web",
        ),
        (
            &["delete", "web"],
            "",
            2,
            "no kind \"web\"",
            "carob delete pod web",
        ),
        (
            &["describe", "a", "b"],
            "",
            2,
            "no kind \"a\"",
            "carob describe pod a b",
        ),
        (
            &["wait", "web", "--for=delete"],
            "",
            2,
            "no kind",
            "carob wait pod web --for=CONDITION",
        ),
        (
            &["get", "svc"],
            "",
            2,
            "no kind \"svc\"",
            "the kinds are: pods, namespaces, configmaps, secrets, persistentvolumeclaims",
        ),
        (&["ps"], "", 2, "no verb \"ps\"", "carob get pods"),
        (
            &["apply", "-f", "-"],
            "",
            3,
            "standard input holds no manifest",
            "-f FILE",
        ),
        (
            &["apply", "-f", "-"],
            "# none\n",
            3,
            "standard input holds no manifest",
            "-f FILE",
        ),
        (
            &["apply", "-f", "https://example.com/p.yaml"],
            "",
            2,
            "carob reads files, not https URLs",
            "curl -fsSL https://example.com/p.yaml | carob apply -f -",
        ),
        (
            &["logs", "none"],
            "",
            4,
            "\"none\" not found",
            "carob get pods -n default",
        ),
        (
            &["validate", "-f", "-"],
            "apiVersion: v1\nkind: Pod\nmetadata:\n    name: a\n     labels: {}\n",
            3,
            "this one: 5 blanks, the one above: 4",
            "",
        ),
        (
            &["validate", "-f", "-"],
            "kind: Pod\nspec:\n  containers:\n  - name: a\n     image: b\n    tty: true\n",
            3,
            "this one: 5 blanks, the one above: 4",
            "",
        ),
        (
            &["validate", "-f", "-"],
            "kind: Pod\nspec:\n  containers:\n  - name: a\n   image: b\n",
            3,
            "this one: 3 blanks, the one above: 4",
            "",
        ),
    ];
    for (args, input, code, error, hint) in cases {
        let ran = root.feed(args, input).fails(*code, error);
        let given = ran.stderr.split_once("hint: ").map_or("", |(_, h)| h);
        assert!(given.contains(hint), "{args:?}: {}", ran.stderr);
    }
}

/// What only the program's own log knows.
#[test]
fn failures_of_programs_are_quoted() {
    let root = Root::new();
    let cases = [
        ("code", "echo begun; exit 1", json!({}), "begun"),
        (
            "write",
            "echo x > /etc/passwd; exit $?",
            json!({"securityContext": {"runAsUser": 1000}}),
            "can't create /etc/passwd: Permission denied",
        ),
        (
            "rofs",
            "echo x > /x || exit 2",
            json!({"securityContext": {"readOnlyRootFilesystem": true}}),
            "can't create /x: Read-only file system",
        ),
    ];
    for (name, script, extra, line) in cases {
        let spec = json!({
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [sh("main", script, extra)],
        });
        let manifest = pod(name, spec);
        root.apply(&manifest).ok();
        root.becomes(name, ".status.phase", "Failed");
        let again = root.apply(&manifest);
        let said = &again.stderr;
        assert!(
            said.starts_with(&format!("warning: pod {name}: container main: exit code ")),
            "{said}"
        );
        assert!(
            said.contains("; its last line: ") && said.contains(line),
            "{said}"
        );
        assert!(
            said.contains("\nhint: ") && said.ends_with(&format!("carob logs {name}\n")),
            "{said}"
        );
        let text = root.carob(&["describe", "pod", name]).ok();
        let quoted = text.lines().find(|l| l.contains("Last Line:"));
        assert!(quoted.is_some_and(|q| q.contains(line)), "{text}");
        for late in [&["attach", name][..], &["exec", name, "--", "true"]] {
            root.carob(late)
                .fails(125, "container \"main\" is not running: ended with ")
                .fails(125, &format!("hint: carob logs {name} -c main"));
        }
    }
}

#[test]
fn ends_that_call_for_another_manifest() {
    let root = Root::new();
    let eats = "x=$(head -c 100000000 /dev/zero | tr '\\0' a)";
    let limit = json!({"resources": {"limits": {"memory": "16Mi"}}});
    for (name, script, extra, mend) in [
        (
            "ends",
            "true",
            json!({}),
            "a program that ends needs restartPolicy OnFailure or Never, a server has to stay in the \
             foreground",
        ),
        (
            "eats",
            eats,
            limit,
            "it needed more memory than resources.limits.memory allows, 16Mi: raise that in the \
             manifest, such as to 64Mi, or see what the program did",
        ),
    ] {
        let spec = json!({
            "terminationGracePeriodSeconds": 0,
            "containers": [sh("main", script, extra)],
        });
        root.apply(&pod(name, spec)).ok();
        let reason = ".status.containerStatuses[0].state.waiting.reason";
        root.becomes(name, reason, "CrashLoopBackOff");
        let wait = [
            "wait",
            &format!("pod/{name}"),
            "--for=condition=Ready",
            "--timeout=0s",
        ];
        root.carob(&wait)
            .fails(6, mend)
            .fails(6, &format!(": carob logs -p {name}"));
    }
}

#[test]
fn why_a_program_cannot_be_executed() {
    let root = Root::new();
    let dir = root.dir().join("programs");
    std::fs::create_dir(&dir).unwrap();
    for (name, mode) in [("private", 0o700), ("empty", 0o755)] {
        let file = dir.join(name);
        std::fs::write(&file, if name == "empty" { "" } else { "#!/bin/sh\n" }).unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    }
    let not_found = "executable file not found";
    let denied = "permission denied";
    for (i, (program, error, hint)) in [
        (
            "echo hello world",
            not_found,
            r#"each word has to be an item of its own: ["echo", "hello", "world"]"#,
        ),
        (
            "/bin/echo hello",
            "no such file",
            r#"["/bin/echo", "hello"]"#,
        ),
        ("ehco", not_found, "check its spelling"),
        ("/etc", denied, "it is a directory, not a program"),
        (
            "/etc/passwd",
            denied,
            "its mode is 0644, so nobody may execute it",
        ),
        (
            "/t/private",
            denied,
            "its mode is 0700 and its owner 0:0, so user 1000 may not execute it",
        ),
        ("/t/empty", "Exec format error", "the file is empty"),
    ]
    .into_iter()
    .enumerate()
    {
        let spec = json!({
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main",
                "image": IMAGE,
                "command": [program],
                "securityContext": {"runAsUser": 1000},
                "volumeMounts": [{"name": "t", "mountPath": "/t"}],
            }],
            "volumes": [{"name": "t", "hostPath": {"path": dir}}],
        });
        root.apply(&pod(&format!("p{i}"), spec))
            .fails(7, error)
            .fails(7, hint);
    }
}

#[test]
fn a_root_that_is_a_file() {
    let root = Root::new();
    let file = root.dir().join("file");
    std::fs::write(&file, "").unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_carob"))
        .arg("--root")
        .arg(&file)
        .args(["get", "pods"])
        .output()
        .unwrap();
    Ran::from(ran)
        .fails(3, "/file is not a directory")
        .fails(3, "hint: name a directory, such as --root /srv/carob");
}

#[test]
fn a_failed_init_container_is_quoted_and_its_log_named() {
    let root = Root::new();
    let spec = json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "initContainers": [sh("prep", "echo one; echo no such table >&2; exit 3", json!({}))],
        "containers": [sh("main", "exec sleep 1000", json!({}))],
    });
    root.apply(&pod("p", spec))
        .fails(
            7,
            "init container prep: ended with exit code 3: no such table\n",
        )
        .fails(7, "hint: carob logs p -c prep\n");
    root.carob(&["logs", "p", "-c", "main"])
        .fails(5, "is waiting to start: PodInitializing")
        .fails(
            5,
            "its init container prep comes first and failed (exit code 3): carob logs p -c prep",
        );
    root.carob(&["wait", "pod/p", "--for=condition=Ready", "--timeout=0s"])
        .fails(
            6,
            "container prep: exit code 3; its last line: no such table",
        )
        .fails(6, "hint: carob logs p -c prep");
}

#[test]
fn a_wait_that_times_out_says_what_the_pod_is() {
    let root = Root::new();
    let wrong = script_pod("p", "Never", 0, "true")
        .replace(IMAGE, "localhost/carob/nope:1")
        .replace("IfNotPresent", "Never");
    root.feed(&["apply", "--wait=false", "-f", "-"], &wrong)
        .ok();
    root.becomes(
        "p",
        ".status.containerStatuses[0].state.waiting.reason",
        "ErrImageNeverPull",
    );
    let ready = ["--for=condition=Ready", "--timeout=0s"];
    root.carob(&[&["wait", "pod/p"], &ready[..]].concat())
        .fails(6, "ErrImageNeverPull: Container image")
        .fails(
            6,
            "load -i FILE brings it, or set another imagePullPolicy\n",
        );
    let runs = script_pod("r", "Never", 0, "exec sleep 1000");
    root.apply(&runs).ok();
    let other = ["--for=condition=Ready=false", "--timeout=0s"];
    root.carob(&[&["wait", "pod/r"], &other[..]].concat())
        .fails(6, "it is Running");
}
