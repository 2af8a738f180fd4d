//! Input that is wrong: each fault has its own words and exit code, and leaves
//! nothing behind (which [`Root`] checks).

use std::net::TcpListener;

use crate::root::{IMAGE, Ran, Root, script_pod};

/// A Pod of one container; `container` and `spec` are lines of YAML, indented
/// for their places.
fn pod(name: &str, container: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  \
         terminationGracePeriodSeconds: 0\n{spec}  containers:\n  - name: main\n    image: {IMAGE}\n    \
         imagePullPolicy: Never\n{container}"
    )
}

const SLEEP: &str = "    command: [sleep, '1000']\n";

fn nothing_was_made(root: &Root) {
    assert_eq!(root.carob(&["get", "pods", "-A", "-o", "name"]).ok(), "");
}

/// The same command with `-o json`: the error as an object on stderr.
fn json_error(ran: &Ran) -> serde_json::Value {
    let value: serde_json::Value = serde_json::from_str(ran.stderr.lines().last().unwrap_or(""))
        .or_else(|_| serde_json::from_str(&ran.stderr))
        .unwrap_or_else(|e| panic!("{e}: {}", ran.stderr));
    assert_eq!(value["error"]["exitCode"], ran.code, "{value}");
    value["error"].clone()
}

#[test]
fn manifests_that_are_wrong() {
    let root = Root::empty();
    let sleep = pod("x", SLEEP, "");
    let twice = format!("{sleep}  - name: main\n    image: {IMAGE}\n");
    for (manifest, line, text) in [
        ("a: [1\n".to_owned(), 0, "-:"),
        ("a: 1\n\tb: 2\n".to_owned(), 2, "tab"),
        (
            sleep.replace("restartPolicy", "restartPolcy"),
            5,
            "restartPolicy",
        ),
        (
            sleep.replace("    command", "    comand"),
            11,
            "did you mean \"command\"?",
        ),
        (
            sleep.replace("Never\n  term", "Sometimes\n  term"),
            5,
            "Never",
        ),
        (sleep.replace("kind: Pod", "kind: Pods"), 2, "Pod"),
        (
            sleep.replace("{name: x}", "{name: X_y}"),
            3,
            "metadata.name",
        ),
        (sleep.replace("{name: x}", "{}"), 3, "metadata.name"),
        (twice, 12, "main"),
        (
            format!("{sleep}    resources: {{limits: {{memory: 12Mx}}}}\n"),
            12,
            "memory",
        ),
        (
            format!("{sleep}    resources: {{limits: {{memory: -1}}}}\n"),
            12,
            "memory",
        ),
        (
            format!("{sleep}    resources: {{requests: {{cpu: 2}}, limits: {{cpu: 1}}}}\n"),
            12,
            "limit",
        ),
        (
            format!("{sleep}    volumeMounts: [{{name: v, mountPath: /v}}]\n"),
            12,
            "v",
        ),
        (
            format!(
                "{sleep}    ports: [{{containerPort: 1, hostPort: 7}}, {{containerPort: 2, hostPort: 7}}]\n"
            ),
            12,
            "7",
        ),
        (
            format!("{sleep}    ports: [{{containerPort: 70000}}]\n"),
            12,
            "65535",
        ),
        (
            sleep.replace("  containers:", "  containerz:"),
            7,
            "containers",
        ),
    ] {
        let ran = root.apply(&manifest).fails(3, text);
        assert!(
            line == 0 || ran.stderr.contains(&format!("-:{line}: ")),
            "line {line}: {}",
            ran.stderr
        );
        let json = root.feed(&["apply", "-f", "-", "-o", "json"], &manifest);
        let error = json_error(&json);
        assert_eq!(error["reason"], "Invalid");
        let mut problems = error["problems"].as_array().unwrap().iter();
        assert!(line == 0 || problems.any(|p| p["line"] == line), "{error}");
    }
    nothing_was_made(&root);
    root.carob(&["apply", "-f", "/nowhere.yaml"])
        .fails(4, "/nowhere.yaml");
}

#[test]
fn several_faults_are_all_told() {
    let root = Root::empty();
    let manifest = pod("x", SLEEP, "  hostNam: a\n  dnsPolicy: Nobody\n");
    let ran = root.feed(&["apply", "-f", "-", "-o", "json"], &manifest);
    let problems = json_error(&ran)["problems"].clone();
    assert_eq!(problems.as_array().unwrap().len(), 2, "{problems}");
    assert_eq!(problems[0]["field"], "spec.hostNam");
    // One bad document, and none of the good ones is made.
    root.apply(&format!("{}---\n{manifest}", pod("good", SLEEP, "")))
        .fails(3, "hostNam");
    nothing_was_made(&root);
}

#[test]
fn command_lines_that_are_wrong() {
    let root = Root::empty();
    for (line, text) in [
        (&["get", "pods", "--nope"][..], "--nope"),
        (&["gte"], "gte"),
        (&["apply"], "--filename"),
        (&["delete", "pod"], "no Pod is named"),
        (&["get", "deployments"], "deployments"),
        (&["get", "pods", "-o", "xml"], "xml"),
        (&["wait", "pod/x", "--for=nothing"], "nothing"),
        (
            &["delete", "pod", "x", "--now", "--grace-period=3"],
            "--now",
        ),
        (&["logs", "x", "--since", "soon"], "soon"),
        (&["exec", "x"], "COMMAND"),
    ] {
        root.carob(line).fails(2, text);
        // The last of several -o counts.
        if line.contains(&"-o") {
            continue;
        }
        let error = json_error(&root.carob(&[line, &["-o", "json"]].concat()));
        assert_eq!(error["reason"], "Usage", "{line:?}");
    }
    root.carob(&["get", "pods", "-l", "a=b=c"])
        .fails(2, "a=b=c");
    root.carob(&["get", "pods", "-l", "a in ("])
        .fails(2, "a in (");
    for line in [
        &["get", "pod", "x"][..],
        &["describe", "pod", "x"],
        &["logs", "x"],
        &["delete", "pod", "x"],
    ] {
        root.carob(line).fails(4, "not found");
    }
    for verb in ["rmi", "inspect", "save", "push", "pin"] {
        let ran = root.carob(&[verb, "nothing:1"]);
        let hint = "hint: carob pull nothing:1 brings it from its registry, carob load -i FILE";
        assert!(ran.stderr.contains(hint), "{verb}: {}", ran.stderr);
        let looked = "image nothing:1 is not here: looked for docker.io/library/nothing:1";
        ran.fails(4, looked);
    }
    root.carob(&["exec", "x", "--", "true"])
        .fails(125, "not found");
}

#[test]
fn images_that_are_not_there() {
    let root = Root::empty();
    root.apply(&pod("never", SLEEP, ""))
        .fails(8, "ErrImageNeverPull");
    let why = ".status.containerStatuses[0].state.waiting.reason";
    assert_eq!(root.field("never", why), "ErrImageNeverPull");
    // Nobody listens on port 1.
    let pull = pod("pull", SLEEP, "")
        .replace(IMAGE, "localhost:1/app:1")
        .replace("Never\n    com", "Always\n    com");
    let ran = root.apply(&pull).fails(8, "localhost:1");
    assert!(ran.stderr.contains("ErrImagePull"), "{}", ran.stderr);
    assert_eq!(root.field("pull", why), "ErrImagePull");
    let pods = root.carob(&["get", "pods"]).ok();
    assert!(
        pods.contains("ErrImagePull") && pods.contains("0/1"),
        "{pods}"
    );
    root.carob(&["run", "bad", "--image", "localhost/UPPER:1"])
        .fails(8, "InvalidImageName");
}

/// The files of this are in a hostPath, mounted at /t.
fn with_tools(root: &Root, name: &str, command: &str) -> Ran {
    use std::os::unix::fs::PermissionsExt;
    let dir = root.dir().join("tools");
    std::fs::create_dir_all(&dir).unwrap();
    let mut elf = std::fs::read("/proc/self/exe").unwrap();
    elf.truncate(4096);
    // e_machine (elf(5)): one that nobody has.
    elf[18..20].copy_from_slice(&[0xfe, 0xca]);
    for (file, content, mode) in [
        ("crlf", &b"#!/bin/sh\r\necho hi\r\n"[..], 0o755),
        ("lost", b"#!/usr/bin/python9\n", 0o755),
        ("elf", &elf, 0o755),
        ("text", b"hello\n", 0o755),
        ("plain", b"#!/bin/sh\n", 0o644),
    ] {
        let path = dir.join(file);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let mount = "    volumeMounts: [{name: t, mountPath: /t}]\n";
    let volume = format!(
        "  volumes: [{{name: t, hostPath: {{path: {}}}}}]\n",
        dir.display()
    );
    root.apply(&pod(
        name,
        &format!("    command: [{command}]\n{mount}"),
        &volume,
    ))
}

#[test]
fn commands_that_cannot_be_executed() {
    let root = Root::new();
    for (i, (command, text, hint)) in [
        ("nope", "executable file not found in $PATH", "spelling"),
        ("/bin/nope", "ENOENT", "no such file"),
        ("/t/crlf", "ENOENT", "CRLF"),
        ("/t/lost", "ENOENT", "/usr/bin/python9"),
        ("/t/elf", "ENOEXEC", "architecture"),
        ("/t/text", "ENOEXEC", "#!"),
        ("/t/plain", "EACCES", "its mode is 0644"),
        ("/etc", "EACCES", "a directory"),
    ]
    .iter()
    .enumerate()
    {
        let name = format!("p{i}");
        let ran = with_tools(&root, &name, command).fails(7, text);
        assert!(ran.stderr.contains("StartError"), "{}", ran.stderr);
        assert!(
            ran.stderr.contains(&format!("pod {name}: container main")),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains(hint), "no {hint:?} in {}", ran.stderr);
        let ended = ".status.containerStatuses[0].state.terminated";
        assert_eq!(root.field(&name, &format!("{ended}.reason")), "StartError");
        assert_eq!(root.field(&name, &format!("{ended}.exitCode")), "128");
    }
    let dir = pod(
        "cwd",
        "    command: [pwd]\n    workingDir: /etc/passwd\n",
        "",
    );
    root.apply(&dir).fails(7, "ENOTDIR");
}

#[test]
fn mounts_that_cannot_be_made() {
    let root = Root::new();
    let host = root.dir().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), "x").unwrap();
    let h = host.display();
    let one = |name: &str, volume: &str, target: &str, more: &str| {
        let mount = format!("{SLEEP}    volumeMounts: [{{name: v, mountPath: {target}}}]\n{more}");
        root.apply(&pod(
            name,
            &mount,
            &format!("  volumes: [{{name: v, {volume}}}]\n"),
        ))
    };
    let empty = "emptyDir: {}";
    one("file-in-the-way", empty, "/etc/passwd/x", "").fails(7, "/etc/passwd/x");
    one("dir-over-file", empty, "/etc/passwd", "").fails(7, "/etc/passwd");
    one(
        "file-over-dir",
        &format!("hostPath: {{path: {h}/file, type: File}}"),
        "/home",
        "",
    )
    .fails(7, "/home");
    one("below-proc", empty, "/proc/nothing", "").fails(7, "/proc/nothing");
    for (kind, path, text) in [
        ("Directory", "file", "is not a directory"),
        ("File", "", "is not a regular file"),
        ("File", "absent", "does not exist"),
        ("Directory", "absent", "does not exist"),
        ("Socket", "file", "is not a socket"),
        ("CharDevice", "file", "is not a character device"),
        ("BlockDevice", "file", "is not a block device"),
    ] {
        let name = format!("{}-{path}x", kind.to_lowercase());
        let volume = format!("hostPath: {{path: {h}/{path}, type: {kind}}}");
        let ran = one(&name, &volume, "/v", "").fails(7, text);
        assert!(ran.stderr.contains("volume v: hostPath"), "{}", ran.stderr);
    }
    assert!(!host.join("absent").exists());
}

#[test]
fn host_ports_that_clash() {
    let root = Root::new();
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let with_port = |name: &str, spec: &str| {
        let ports = format!("{SLEEP}    ports: [{{containerPort: {port}, hostPort: {port}}}]\n");
        root.apply(&pod(name, &ports, spec))
    };
    let own = format!("pid {}", std::process::id());
    with_port("taken", "").fails(7, &own);
    root.carob(&["delete", "pod", "taken"]).ok();
    drop(listener);
    with_port("first", "").ok();
    let ran = with_port("second", "").fails(7, "pod default/first");
    assert!(
        ran.stderr.contains(&format!("host port {port}/TCP")),
        "{}",
        ran.stderr
    );
    // Another root does not see this one's Pods, but its ports.
    let other = Root::new();
    let ports = format!("{SLEEP}    ports: [{{containerPort: {port}, hostPort: {port}}}]\n");
    other
        .apply(&pod("stranger", &ports, ""))
        .fails(7, "in use by a Pod of another carob root");
    let one = ports.replace("hostPort:", "hostIP: 192.0.2.1, hostPort:");
    other
        .apply(&pod("narrow", &one, ""))
        .fails(7, "another carob root");
    root.carob(&["delete", "pod", "first", "second"]).ok();
    other.carob(&["delete", "pod", "stranger", "narrow"]).ok();
    other.apply(&pod("heir", &ports, "")).ok();
    drop(other);
    // With the host's network a port is the program's own affair.
    with_port("third", "  hostNetwork: true\n").ok();
}

#[test]
fn names_that_are_taken() {
    let root = Root::new();
    root.apply(&pod("one", SLEEP, "")).ok();
    root.carob(&["run", "one", "--image", IMAGE, "--", "true"])
        .fails(5, "already exists");
    let both = format!("{}---\n{}", pod("two", SLEEP, ""), pod("two", SLEEP, ""));
    root.apply(&both).fails(3, "two");
    assert_eq!(root.carob(&["get", "pods", "-o", "name"]).ok(), "pod/one\n");
}

#[test]
fn users_that_are_refused() {
    let root = Root::new();
    let with = |name: &str, context: &str| {
        root.apply(&pod(
            name,
            &format!("{SLEEP}    securityContext: {context}\n"),
            "",
        ))
    };
    let reason = ".status.containerStatuses[0].state.waiting.reason";
    with("root", "{runAsNonRoot: true}").fails(7, "image will run as root");
    assert_eq!(root.field("root", reason), "CreateContainerConfigError");
    with("zero", "{runAsNonRoot: true, runAsUser: 0}").fails(3, "runAsUser");
    with("overflow", "{runAsUser: 4294967296}").fails(3, "runAsUser");
    with(
        "privileged",
        "{privileged: true, allowPrivilegeEscalation: false}",
    )
    .fails(3, "allowPrivilegeEscalation");
}

#[test]
fn an_init_container_that_fails() {
    let root = Root::new();
    let init = format!(
        "  initContainers:\n  - name: prepare\n    image: {IMAGE}\n    imagePullPolicy: Never\n    \
         command: [sh, -c, 'echo no luck >&2; exit 5']\n"
    );
    root.apply(&pod("init", SLEEP, &init))
        .fails(7, "prepare: ended with exit code 5");
    assert_eq!(root.field("init", ".status.phase"), "Failed");
    let table = root.carob(&["get", "pods"]).ok();
    assert!(table.contains("Init:Error"), "{table}");
    assert_eq!(
        root.carob(&["logs", "init", "-c", "prepare"]).ok(),
        "no luck\n"
    );
}

#[test]
fn a_start_error_with_restarts_backs_off() {
    let root = Root::new();
    root.apply(&script_pod("x", "Always", 0, "true").replace("- sh\n", "- shh\n"))
        .fails(7, "\"shh\": executable file not found in $PATH");
    let table = root.carob(&["get", "pods"]).ok();
    assert!(
        table.contains("CrashLoopBackOff") || table.contains("StartError"),
        "{table}"
    );
}

/// What `jq -c` and Python's json.dumps write.
#[test]
fn json_as_programs_write_it() {
    let root = Root::new();
    let pod = |name: &str| {
        format!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}"}},"spec":{{"restartPolicy":"Never","containers":[{{"name":"main","image":"{IMAGE}","imagePullPolicy":"Never","command":["echo","\ud83d\ude00"]}}]}}}}"#
        )
    };
    root.apply(&format!("{}\n{}", pod("one"), pod("two"))).ok();
    for name in ["one", "two"] {
        root.becomes(name, ".status.phase", "Succeeded");
        assert_eq!(root.carob(&["logs", name]).ok(), "😀\n");
    }
    root.apply(&pod("x").replace("\\ude00", "")).fails(
        3,
        "-:1: not valid JSON: column 199: \\ud83d is half of a character",
    );
}
