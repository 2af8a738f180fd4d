//! Debian 12's podman, which reaches the runtime itself and through conmon.

use crate::cage::{Cage, apart, image};
use crate::run::{CAROB_OCI, IMAGE, Ran, Terminal, need, run, until};

/// What docs/engines.md tells users to write, and limits that can be had wherever
/// the suite runs.
const LIMITS: &str =
    "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";
/// Runs until it is asked to end, and says so.
pub(crate) const POLITE: &str =
    "trap 'echo asked; exit 9' TERM; echo ready; while :; do sleep 0.1; done";
const STUBBORN: &str = "trap '' TERM; echo ready; while :; do sleep 0.1; done";

pub(crate) struct Podman {
    pub base: Vec<String>,
    /// Of all its cgroups. Relative, it would be below our own, as with runc.
    pub parent: String,
    pub cage: Cage,
}

impl Podman {
    pub(crate) fn new() -> Self {
        Podman::configured(LIMITS, &["--runtime", CAROB_OCI])
    }

    fn configured(conf: &str, flags: &[&str]) -> Self {
        need(&[
            ("podman", "podman"),
            ("conmon", "conmon"),
            ("/usr/lib/podman/netavark", "netavark"),
            ("iptables", "iptables"),
            ("catatonit", "catatonit"),
        ]);
        let cage = Cage::new();
        let dir = cage.dir().to_str().unwrap().to_owned();
        let file = format!("{dir}/containers.conf");
        std::fs::write(&file, conf).unwrap();
        let env = [format!("CONTAINERS_CONF={file}"), format!("TMPDIR={dir}")];
        let mut base: Vec<String> = ["env", &env[0], &env[1], "podman"]
            .map(str::to_owned)
            .into();
        for (flag, sub) in [
            ("--root", "root"),
            ("--runroot", "runroot"),
            ("--tmpdir", "tmp"),
            ("--network-config-dir", "networks"),
        ] {
            base.extend([flag.to_owned(), format!("{dir}/{sub}")]);
        }
        let fixed = ["--cgroup-manager", "cgroupfs", "--events-backend", "none"];
        base.extend(fixed.iter().chain(flags).map(|f| f.to_string()));
        let parent = format!("/{}", cage.tag());
        let podman = Podman { base, parent, cage };
        podman.podman(&["load", "-q", "-i", image()]).said();
        podman
    }

    fn argv(&self, args: &[&str]) -> Vec<String> {
        let mut argv = self.base.clone();
        argv.extend(args.iter().map(|a| a.to_string()));
        argv
    }

    #[track_caller]
    pub(crate) fn podman(&self, args: &[&str]) -> Ran {
        run(&self.argv(args))
    }

    /// `podman run`, without a network and below the test's cgroup.
    #[track_caller]
    pub(crate) fn run(&self, options: &[&str], command: &[&str]) -> Ran {
        let fixed = ["run", "--network=none", "--cgroup-parent", &self.parent];
        self.podman(&[&fixed, options, &[IMAGE], command].concat())
    }

    #[track_caller]
    pub(crate) fn sh(&self, options: &[&str], script: &str) -> String {
        let options = [&["--rm"], options].concat();
        self.run(&options, &["sh", "-c", script]).said()
    }

    /// A container in the background, ready.
    #[track_caller]
    pub(crate) fn start(&self, name: &str, options: &[&str], script: &str) {
        self.run(
            &[&["-d", "--name", name], options].concat(),
            &["sh", "-c", script],
        )
        .said();
        until("the container says ready", || {
            self.podman(&["logs", name]).said().contains("ready")
        });
    }

    #[track_caller]
    fn inspect(&self, name: &str, field: &str) -> String {
        self.podman(&["inspect", "-f", &format!("{{{{.{field}}}}}"), name])
            .said()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        for all in [
            ["pod", "rm", "-f", "-a", "-t", "0"].as_slice(),
            &["rm", "-f", "-a", "-t", "0"],
        ] {
            let ran = self.podman(all);
            if ran.code != 0 {
                eprintln!("{ran:#?}");
            }
        }
    }
}

#[test]
fn a_life() {
    apart(|| {
        let p = Podman::new();
        let create = [
            "create",
            "--network=none",
            "--cgroup-parent",
            &p.parent,
            "--name",
            "box",
        ];
        p.podman(&[&create, [IMAGE, "sh", "-c", POLITE].as_slice()].concat())
            .said();
        p.podman(&["init", "box"]).said();
        assert_eq!(p.inspect("box", "State.Status"), "initialized");
        p.podman(&["start", "box"]).said();
        assert_eq!(p.inspect("box", "State.Status"), "running");
        assert_eq!(p.inspect("box", "OCIRuntime"), CAROB_OCI);

        p.podman(&["pause", "box"]).said();
        assert_eq!(p.inspect("box", "State.Status"), "paused");
        p.podman(&["exec", "box", "true"])
            .fails(255, "running containers");
        p.podman(&["unpause", "box"]).said();
        let top = p.podman(&["top", "box", "args"]).said();
        assert!(top.contains("trap"), "{top}");
        let stats = [
            "stats",
            "--no-stream",
            "--format",
            "{{.Name}} {{.PIDs}} {{.MemUsage}}",
            "box",
        ];
        let stats = p.podman(&stats).said();
        let words: Vec<&str> = stats.split(' ').collect();
        assert_eq!(words[0], "box", "{stats}");
        assert!(words[1].parse::<u32>().unwrap() >= 1, "{stats}");
        assert!(
            words[2].ends_with("kB") || words[2].ends_with("MB"),
            "{stats}"
        );
        until("it is ready", || {
            p.podman(&["logs", "box"]).said().contains("ready")
        });
        p.podman(&["stop", "-t", "20", "box"]).said();
        assert_eq!(p.inspect("box", "State.ExitCode"), "9");
        assert_eq!(p.podman(&["logs", "box"]).said(), "ready\nasked");
        // A second life, and the end of one that runs.
        p.podman(&["start", "box"]).said();
        p.podman(&["restart", "-t", "0", "box"]).said();
        assert_eq!(p.inspect("box", "State.Status"), "running");
        p.podman(&["rm", "-f", "-t", "0", "box"]).said();
        p.podman(&["inspect", "box"]).fails(125, "no such");
    });
}

#[test]
fn stop_kills_what_does_not_listen() {
    apart(|| {
        let p = Podman::new();
        p.start("box", &[], STUBBORN);
        p.podman(&["stop", "-t", "1", "box"]).said();
        assert_eq!(p.inspect("box", "State.ExitCode"), "137");
        p.start(
            "other",
            &[],
            "trap 'exit 5' USR1; echo ready; while :; do sleep 0.1; done",
        );
        p.podman(&["kill", "-s", "USR1", "other"]).said();
        assert_eq!(p.podman(&["wait", "other"]).said(), "5");
    });
}

#[test]
fn exit_codes() {
    apart(|| {
        let p = Podman::new();
        let code = |script| p.run(&["--rm"], &["sh", "-c", script]).code;
        assert_eq!(code("exit 0"), 0);
        assert_eq!(code("exit 42"), 42);
        let ran = p.run(&["--rm"], &["nope"]);
        ran.fails(127, "executable file not found in $PATH");
        p.run(&["--rm"], &["/nope"])
            .fails(127, "no such file or directory");
        p.run(&["--rm"], &["/etc"]).fails(126, "permission denied");
        p.start("box", &[], POLITE);
        let exec = |command: &[&str]| p.podman(&[&["exec", "box"], command].concat());
        assert_eq!(
            exec(&["sh", "-c", "echo out; echo err >&2; exit 7"]).code,
            7
        );
        assert_eq!(exec(&["sh", "-c", "kill -KILL $$"]).code, 137);
        exec(&["nope"]).fails(127, "executable file not found in $PATH");
        exec(&["/etc"]).fails(126, "permission denied");
    });
}

#[test]
fn exec() {
    apart(|| {
        let p = Podman::new();
        p.start("box", &["--env", "A=1"], POLITE);
        let exec = |options: &[&str], script: &str| {
            let args = [&["exec"], options, &["box", "sh", "-c", script]].concat();
            p.podman(&args).said()
        };
        assert_eq!(exec(&[], "echo $A; id -u; pwd"), "1\n0\n/");
        let other = ["--user", "user:staff", "--workdir", "/tmp", "--env", "A=2"];
        assert_eq!(
            exec(&other, "echo $A; id -u; id -g; pwd"),
            "2\n1999\n50\n/tmp"
        );
        let bits = "grep CapEff /proc/self/status";
        assert_ne!(exec(&["--privileged"], bits), exec(&[], bits));
        exec(&["-d"], "touch /tmp/done");
        until("the detached process ran", || {
            p.podman(&["exec", "box", "test", "-e", "/tmp/done"]).code == 0
        });
        // Its output comes whole, and its input ends.
        let script = format!(
            "seq 20000 | {} exec -i box sh -c 'cat; echo end'",
            p.base.join(" ")
        );
        let out = run(&["sh".into(), "-c".into(), script]).said();
        assert_eq!(out.lines().count(), 20001, "{}", out.len());
        assert!(out.ends_with("20000\nend"));
    });
}

#[test]
fn terminals() {
    apart(|| {
        let p = Podman::new();
        p.start("box", &[], POLITE);
        // The size comes in a message of its own, after the start.
        let script = "tty; echo ready; read word; until [ \"$(stty size)\" = '33 77' ]; do sleep 0.05; done; \
             echo <$word>; exit 6"
            .replace("<$word>", "\"<$word>\"");
        let fixed = [
            "run",
            "-it",
            "--rm",
            "--network=none",
            "--cgroup-parent",
            &p.parent,
            IMAGE,
        ];
        for command in [["exec", "-it", "box"].as_slice(), &fixed] {
            let command = [command, &["sh", "-c", &script]].concat();
            let mut t = Terminal::new(&p.argv(&command));
            t.shows("/dev/pts/0\nready\n");
            t.types(b"hello\r");
            t.shows("<hello>\n");
            t.ends(6);
        }
        let wait = "trap 'echo heard; exit 3' INT; echo ready; while :; do sleep 0.1; done";
        let mut t = Terminal::new(&p.argv(&["exec", "-it", "box", "sh", "-c", wait]));
        t.shows("ready\n");
        t.types(b"\x03");
        t.shows("heard\n");
        t.ends(3);
    });
}

#[test]
fn pods() {
    apart(|| {
        let p = Podman::new();
        let parent = &p.parent;
        p.podman(&[
            "pod",
            "create",
            "--name",
            "pod",
            "--network=none",
            "--cgroup-parent",
            parent,
        ])
        .said();
        let inside = |options: &[&str], script: &str| {
            let run = ["run", "--pod", "pod"];
            p.podman(&[&run, options, &[IMAGE, "sh", "-c", script]].concat())
                .said()
        };
        inside(
            &["-d", "--name", "one"],
            "echo shared | nc -l -p 80 >/dev/null; sleep 1000",
        );
        // The members share network, ipc and uts, and nothing else.
        let ns = "for n in net ipc uts pid mnt; do readlink /proc/self/ns/$n; done";
        let first = p.podman(&["exec", "one", "sh", "-c", ns]).said();
        let second = inside(&["--rm"], ns);
        let pairs = first.lines().zip(second.lines());
        let same: Vec<bool> = pairs.map(|(a, b)| a == b).collect();
        assert_eq!(same, [true, true, true, false, false]);
        let heard = inside(
            &["--rm"],
            "until nc 127.0.0.1 80 </dev/null; do sleep 0.05; done",
        );
        assert_eq!(heard, "shared");
        assert_eq!(inside(&["--rm"], "hostname"), "pod");

        let status = || {
            p.podman(&["pod", "inspect", "-f", "{{.State}}", "pod"])
                .said()
        };
        p.podman(&["pod", "pause", "pod"]).said();
        assert_eq!(status(), "Paused");
        p.podman(&["pod", "unpause", "pod"]).said();
        assert_eq!(status(), "Running");
        let stats = [
            "pod",
            "stats",
            "--no-stream",
            "--format",
            "{{.Name}}",
            "pod",
        ];
        let stats = p.podman(&stats).said();
        assert!(stats.contains("one") && stats.contains("-infra"), "{stats}");
        p.podman(&["pod", "stop", "-t", "0", "pod"]).said();
        assert_eq!(status(), "Exited");
        p.podman(&["pod", "start", "pod"]).said();
        assert_eq!(status(), "Running");
        p.podman(&["pod", "rm", "-f", "-t", "0", "pod"]).said();
        assert_eq!(p.podman(&["ps", "-a", "-q"]).said(), "");
    });
}

#[test]
fn healthchecks() {
    apart(|| {
        let p = Podman::new();
        let health = [
            "--health-cmd=test -e /tmp/well",
            "--health-interval=disable",
            "--health-retries=1",
        ];
        p.start("box", &health, POLITE);
        p.podman(&["healthcheck", "run", "box"]).fails(1, "");
        p.podman(&["exec", "box", "touch", "/tmp/well"]).said();
        p.podman(&["healthcheck", "run", "box"]).said();
        assert_eq!(p.inspect("box", "State.Health.Status"), "healthy");
    });
}

#[test]
fn copies() {
    apart(|| {
        let p = Podman::new();
        let file = |name: &str| p.cage.dir().join(name).to_str().unwrap().to_owned();
        std::fs::write(file("in"), "content\n").unwrap();
        std::fs::create_dir(file("tree")).unwrap();
        std::fs::write(file("tree/leaf"), "leaf\n").unwrap();
        p.start("box", &["--tmpfs=/mnt"], POLITE);
        // On the root filesystem, and on a mount that only the container sees.
        for (i, to) in ["/tmp/a", "/mnt/a"].iter().enumerate() {
            let inside = format!("box:{to}");
            p.podman(&["cp", &file("in"), &inside]).said();
            assert_eq!(p.podman(&["exec", "box", "cat", to]).said(), "content");
            let back = file(&format!("out{i}"));
            p.podman(&["cp", &inside, &back]).said();
            assert_eq!(std::fs::read_to_string(&back).unwrap(), "content\n");
        }
        p.podman(&["cp", &file("tree"), "box:/home/"]).said();
        p.podman(&["stop", "-t", "0", "box"]).said();
        p.podman(&["cp", "box:/home/tree", &file("again")]).said();
        assert_eq!(
            std::fs::read_to_string(file("again/leaf")).unwrap(),
            "leaf\n"
        );
    });
}

/// The runtime is called by podman itself here, and polled with `state`.
#[test]
fn builds() {
    apart(|| {
        let p = Podman::new();
        let dir = p.cage.dir().join("context");
        std::fs::create_dir(&dir).unwrap();
        let build = |steps: &str, code: i32| {
            std::fs::write(dir.join("Dockerfile"), format!("FROM {IMAGE}\n{steps}\n")).unwrap();
            // Cached layers would want a history of the base image, which has none.
            let fixed = [
                "build",
                "--layers=false",
                "--network=none",
                "--runtime",
                CAROB_OCI,
            ];
            let parent = format!("{}/build", p.parent);
            let more = [
                "--cgroup-parent",
                &parent,
                "-t",
                "localhost/built",
                dir.to_str().unwrap(),
            ];
            let ran = p.podman(&[&fixed, more.as_slice()].concat());
            assert_eq!(ran.code, code, "{ran:#?}");
        };
        build(
            "RUN id -u >/built\nUSER 1999\nRUN id -u >>/home/user 2>/dev/null || id -u >/tmp/built",
            0,
        );
        let run = [
            "run",
            "--rm",
            "--network=none",
            "--cgroup-parent",
            &p.parent,
            "localhost/built",
        ];
        let said = p.podman(&[&run, ["cat", "/built", "/tmp/built"].as_slice()].concat());
        assert_eq!(said.said(), "0\n1999");
        build("RUN --mount=type=tmpfs,dst=/x touch /x/y", 0);
        build("RUN exit 3", 3);
    });
}

#[test]
fn hooks() {
    apart(|| {
        let mut p = Podman::new();
        let dir = p.cage.dir().join("hooks");
        std::fs::create_dir(&dir).unwrap();
        let log = p.cage.dir().join("states");
        let hook = serde_json::json!({
            "version": "1.0.0",
            "hook": {"path": "/bin/sh", "args": ["sh", "-c", format!("cat >>{0}; echo >>{0}", log.display())]},
            "when": {"always": true},
            "stages": ["createRuntime", "poststart", "poststop"],
        });
        std::fs::write(dir.join("all.json"), hook.to_string()).unwrap();
        p.base
            .extend(["--hooks-dir".into(), dir.to_str().unwrap().into()]);
        p.run(&["--rm"], &["true"]).said();
        let states = std::fs::read_to_string(&log).unwrap();
        let states: Vec<serde_json::Value> = states
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        let status: Vec<_> = states
            .iter()
            .map(|s| s["status"].as_str().unwrap())
            .collect();
        assert_eq!(status, ["creating", "running", "stopped"]);
        assert!(states[0]["pid"].as_i64().unwrap() > 1);
    });
}

/// The configuration that docs/engines.md gives, with nothing said on the command line.
#[test]
fn as_the_documentation_says() {
    apart(|| {
        let page = include_str!("../../docs/engines.md");
        let block = |with: &str| {
            let blocks = page.split("```toml\n").skip(1);
            let mut blocks = blocks.map(|b| b.split("```").next().unwrap());
            blocks.find(|b| b.contains(with)).unwrap()
        };
        let engine = block("[engine.runtimes]").replace("/usr/local/bin/carob-oci", CAROB_OCI);
        let conf = engine + block("default_ulimits");
        let p = Podman::configured(&conf, &[]);
        p.start("box", &[], POLITE);
        assert_eq!(p.inspect("box", "OCIRuntime"), "carob-oci");
        // An error that came as JSON is shown as a sentence.
        let ran = p.run(&["--rm"], &["nope"]);
        assert!(!ran.stderr.contains("{\""), "{ran:#?}");
        ran.fails(127, "executable file not found in $PATH");
        let fixed = ["run", "--rm", "--network=none", "--cgroups=disabled", IMAGE];
        let own = p.podman(&[&fixed, ["cat", "/proc/self/cgroup"].as_slice()].concat());
        assert!(!own.said().contains("libpod"));
        let ran = p.podman(&["exec", "box", "nope"]);
        assert!(!ran.stderr.contains("{\""), "{ran:#?}");
        ran.fails(127, "executable file not found in $PATH");
    });
}
