//! Debian 12's containerd, which reaches the runtime through the shim of runc v2.

use std::process::{Child, Command, Stdio};

use crate::cage::{Cage, apart, image};
use crate::run::{CAROB_OCI, IMAGE, Ran, Terminal, need, run, until};

/// Nothing here needs them, and each costs time at the start or has its own demands
/// on the machine.
const WITHOUT: [&str; 6] = [
    "io.containerd.grpc.v1.cri",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
];
const SLEEP: [&str; 2] = ["sleep", "1000"];

/// ctr 1.6 gives up its end of the fifo when it hears of the exit, whether or not it
/// has read everything: once in some fifty calls on a busy machine the output is
/// lost, with runc as well. So the end comes a while after the output.
fn unhurried(script: &str) -> String {
    format!("trap 'sleep 0.2' EXIT; {script}")
}

struct Containerd {
    daemon: Child,
    // After the daemon's end.
    cage: Cage,
}

impl Containerd {
    fn new() -> Self {
        let packages = ["containerd", "ctr", "containerd-shim-runc-v2"];
        need(&packages.map(|p| (p, "containerd")));
        let cage = Cage::new();
        let dir = cage.dir().to_str().unwrap();
        let config = format!(
            "version = 2\nroot = \"{dir}/root\"\nstate = \"{dir}/state\"\ndisabled_plugins = {WITHOUT:?}\n\
             [grpc]\naddress = \"{dir}/socket\"\n[ttrpc]\naddress = \"{dir}/socket.ttrpc\"\n"
        );
        std::fs::write(cage.dir().join("config.toml"), config).unwrap();
        let daemon = Containerd::daemon(&cage);
        let c = Containerd { daemon, cage };
        c.answers();
        c.ctr(&["images", "import", image()]).said();
        c
    }

    fn daemon(cage: &Cage) -> Child {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(cage.dir().join("log"));
        Command::new("containerd")
            .arg("--config")
            .arg(cage.dir().join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap()
    }

    #[track_caller]
    fn answers(&self) {
        until("containerd answers", || self.ctr(&["version"]).code == 0);
    }

    fn stop(&mut self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.daemon.id() as i32);
        nix::sys::signal::kill(pid, signal).unwrap();
        self.daemon.wait().unwrap();
    }

    /// The namespace of containerd names the parent cgroup and the runtime's root.
    fn argv(&self, args: &[&str]) -> Vec<String> {
        let socket = self.cage.dir().join("socket");
        let base = ["ctr", "-a", socket.to_str().unwrap(), "-n", self.cage.tag()];
        base.iter().chain(args).map(|a| a.to_string()).collect()
    }

    #[track_caller]
    fn ctr(&self, args: &[&str]) -> Ran {
        run(&self.argv(args))
    }

    #[track_caller]
    fn run(&self, options: &[&str], name: &str, command: &[&str]) -> Ran {
        let ours = ["run", "--runc-binary", CAROB_OCI];
        self.ctr(&[&ours, options, &[IMAGE, name], command].concat())
    }

    #[track_caller]
    fn sh(&self, options: &[&str], script: &str) -> String {
        let options = [&["--rm"], options].concat();
        self.run(&options, "sh", &["sh", "-c", &unhurried(script)])
            .said()
    }

    #[track_caller]
    fn exec(&self, name: &str, exec: &str, script: &str) -> Ran {
        let script = unhurried(script);
        self.ctr(&[
            "tasks",
            "exec",
            "--exec-id",
            exec,
            name,
            "sh",
            "-c",
            &script,
        ])
    }

    /// As `ctr tasks ls` has it; empty without a task.
    fn status(&self, name: &str) -> String {
        let table = self.ctr(&["tasks", "ls"]).said();
        let mut rows = table
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|r| r.first() == Some(&name));
        row.map(|r| r[2].to_owned()).unwrap_or_default()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for name in self.ctr(&["tasks", "ls", "-q"]).stdout.lines() {
            self.ctr(&["tasks", "rm", "-f", name]);
        }
        self.stop(nix::sys::signal::Signal::SIGTERM);
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.cage.dir().join("log")).unwrap();
            let told = log.lines().filter(|l| !l.contains("level=info"));
            eprintln!("containerd: {:#?}", told.collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_life() {
    apart(|| {
        let c = Containerd::new();
        c.run(&["-d"], "box", &SLEEP).said();
        assert_eq!(c.status("box"), "RUNNING");
        let ran = c.exec("box", "one", "echo out; echo err >&2; exit 7");
        assert_eq!(
            (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
            (7, "out\n", "err\n")
        );
        c.ctr(&["tasks", "exec", "--exec-id", "two", "box", "nope"])
            .fails(1, "executable file not found in $PATH");
        let other = ["--user", "1999:50", "--cwd", "/tmp", "--exec-id", "three"];
        let said = c.ctr(
            &[
                &["tasks", "exec"],
                other.as_slice(),
                &["box", "sh", "-c", &unhurried("id -u; id -g; pwd")],
            ]
            .concat(),
        );
        assert_eq!(said.said(), "1999\n50\n/tmp");
        let metrics = c.ctr(&["tasks", "metrics", "box"]).said();
        let line = metrics.lines().find(|l| l.starts_with("pids.current"));
        assert_eq!(
            line.and_then(|l| l.split_whitespace().last()),
            Some("1"),
            "{metrics}"
        );

        c.ctr(&["tasks", "pause", "box"]).said();
        assert_eq!(c.status("box"), "PAUSED");
        c.exec("box", "four", "true").fails(1, "paused");
        c.ctr(&["tasks", "resume", "box"]).said();
        assert_eq!(c.status("box"), "RUNNING");
        c.ctr(&["tasks", "rm", "box"])
            .fails(1, "must be stopped before deletion");
        c.ctr(&["tasks", "kill", "-s", "KILL", "box"]).said();
        until("it has stopped", || c.status("box") == "STOPPED");
        c.ctr(&["tasks", "kill", "box"])
            .fails(1, "process already finished");
        let ran = c.ctr(&["tasks", "rm", "box"]);
        assert!(ran.stderr.contains("137"), "{ran:#?}");
        c.ctr(&["containers", "rm", "box"]).said();
    });
}

#[test]
fn signals_and_exit_codes() {
    apart(|| {
        let c = Containerd::new();
        let code = |script| c.run(&["--rm"], "box", &["sh", "-c", script]).code;
        assert_eq!(code("exit 0"), 0);
        assert_eq!(code("exit 42"), 42);
        c.run(&["--rm"], "box", &["nope"])
            .fails(1, "executable file not found in $PATH");
        let polite = "trap 'exit 9' TERM; touch /tmp/ready; while :; do sleep 0.1; done";
        c.run(&["-d"], "polite", &["sh", "-c", polite]).said();
        let mut asked = 0;
        until("it is ready", || {
            asked += 1;
            c.exec("polite", &format!("ready{asked}"), "test -e /tmp/ready")
                .code
                == 0
        });
        // TERM is what it sends when not told otherwise.
        c.ctr(&["tasks", "kill", "polite"]).said();
        until("it has stopped", || c.status("polite") == "STOPPED");
        let ran = c.ctr(&["tasks", "rm", "polite"]);
        assert!(ran.stderr.contains("exit code 9"), "{ran:#?}");
        // One process of several, by its exec id, and all of them.
        c.run(&["-d"], "box", &SLEEP).said();
        let exec = [
            "tasks",
            "exec",
            "-d",
            "--exec-id",
            "side",
            "box",
            "sleep",
            "1000",
        ];
        c.ctr(&exec).said();
        let processes = || c.ctr(&["tasks", "ps", "box"]).said().lines().count() - 1;
        assert_eq!(processes(), 2);
        c.ctr(&["tasks", "kill", "-s", "KILL", "--exec-id", "side", "box"])
            .said();
        until("the one has ended", || processes() == 1);
        c.ctr(&["tasks", "kill", "-a", "-s", "KILL", "box"]).said();
        until("all have ended", || c.status("box") == "STOPPED");
    });
}

#[test]
fn terminals() {
    apart(|| {
        let c = Containerd::new();
        c.run(&["-d"], "box", &SLEEP).said();
        let script = "tty; echo ready; read word; until [ \"$(stty size)\" = '33 77' ]; do sleep 0.05; done; \
             echo \"<$word>\"; exit 6";
        let fixed = [
            "run",
            "-t",
            "--rm",
            "--runc-binary",
            CAROB_OCI,
            IMAGE,
            "tty",
        ];
        let exec = ["tasks", "exec", "-t", "--exec-id", "one", "box"];
        let script = unhurried(script);
        for command in [fixed.as_slice(), &exec] {
            let command = [command, &["sh", "-c", &script]].concat();
            let mut t = Terminal::new(&c.argv(&command));
            t.shows("/dev/pts/0\nready\n");
            t.types(b"hello\r");
            t.shows("<hello>\n");
            t.ends(6);
        }
    });
}

#[test]
fn options() {
    apart(|| {
        let c = Containerd::new();
        let dir = c.cage.dir().join("volume");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("given"), "given\n").unwrap();
        let mount = format!("type=bind,src={},dst=/v,options=rbind:ro", dir.display());
        let cgroup = "type=cgroup,src=cgroup,dst=/sys/fs/cgroup,options=ro:nosuid:nodev:noexec";
        let limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
        let cases: [(&[&str], &str, &str); 6] = [
            (
                &["--mount", &mount],
                "cat /v/given; touch /v/own 2>/dev/null || echo no",
                "given\nno",
            ),
            (
                &["--memory-limit=33554432", "--mount", cgroup],
                limit,
                "33554432",
            ),
            (
                &["--seccomp"],
                "grep -w Seccomp /proc/self/status | cut -f2",
                "2",
            ),
            (&["--read-only"], "touch /own 2>/dev/null || echo no", "no"),
            (
                &["--cap-drop=CAP_CHOWN", "--env=A=1"],
                "chown 1 /tmp 2>/dev/null || echo $A",
                "1",
            ),
            (
                &["--uidmap=0:200000:2000", "--gidmap=0:200000:2000"],
                "tr -s ' ' </proc/self/uid_map; touch /own; stat -c %u /own",
                " 0 200000 2000\n0",
            ),
        ];
        for (options, script, said) in cases {
            assert_eq!(c.sh(options, script).trim(), said.trim(), "{options:?}");
        }
    });
}

/// The daemon dies; the shim and the container do not, and are found again.
#[test]
fn containerd_may_die() {
    apart(|| {
        let mut c = Containerd::new();
        c.run(&["-d"], "box", &SLEEP).said();
        c.stop(nix::sys::signal::Signal::SIGKILL);
        c.daemon = Containerd::daemon(&c.cage);
        c.answers();
        until("the task is found", || c.status("box") == "RUNNING");
        assert_eq!(c.exec("box", "one", "echo here").said(), "here");
        c.ctr(&["tasks", "rm", "-f", "box"]);
        assert_eq!(c.status("box"), "");
    });
}

/// Fifty lives, four at a time.
#[test]
fn load() {
    apart(|| {
        let c = Containerd::new();
        let life = |n: usize| {
            let name = format!("box{n}");
            c.run(&["-d"], &name, &SLEEP).said();
            let said = c.exec(&name, "one", "hostname >/tmp/a; echo $$ exec; exit 3");
            assert!(
                said.code == 3 && said.stdout.ends_with(" exec\n"),
                "{said:#?}"
            );
            if n.is_multiple_of(2) {
                c.ctr(&["tasks", "kill", "-s", "KILL", &name]).said();
                until("it has stopped", || c.status(&name) == "STOPPED");
            }
            c.ctr(&["tasks", "rm", "-f", &name]);
            c.ctr(&["containers", "rm", &name]).said();
        };
        std::thread::scope(|s| {
            let four: Vec<_> = (0..4)
                .map(|first| s.spawn(move || (first..50).step_by(4).for_each(life)))
                .collect();
            for one in four {
                one.join().unwrap();
            }
        });
        for list in [["tasks", "ls", "-q"], ["containers", "ls", "-q"]] {
            assert_eq!(c.ctr(&list).said(), "");
        }
        let snapshots = c.ctr(&["snapshots", "ls"]).said();
        assert!(!snapshots.contains("Active"), "{snapshots}");
    });
}

/// The configuration for CRI that docs/engines.md gives is one that containerd takes.
#[test]
fn as_the_documentation_says() {
    need(&[("containerd", "containerd")]);
    let page = include_str!("../../docs/engines.md");
    let blocks = page.split("```toml\n").skip(1);
    let mut blocks = blocks.map(|b| b.split("```").next().unwrap());
    let block = blocks.find(|b| b.contains("BinaryName")).unwrap();
    let dir = std::env::temp_dir().join(format!("carob-engine-doc-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let config = dir.join("config.toml");
    std::fs::write(&config, block).unwrap();
    let argv = [
        "containerd",
        "--config",
        config.to_str().unwrap(),
        "config",
        "dump",
    ];
    let ran = run(&argv.map(str::to_owned));
    std::fs::remove_dir_all(&dir).unwrap();
    let dump = ran.said();
    for line in [
        "default_runtime_name = \"carob\"",
        "BinaryName = \"/usr/local/bin/carob-oci\"",
        "SystemdCgroup = false",
    ] {
        assert!(dump.contains(line), "no {line} in {dump}");
    }
}
