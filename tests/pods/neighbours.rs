//! Other programs that change nftables while Pods run. Each test's Pods are on a
//! machine of their own: a network namespace, from which another one is reached.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::root::{IMAGE, Root, pod, until};

/// Two network namespaces with a cable between them: `192.0.2.1`, in which carob is
/// called, and `192.0.2.2`.
struct Machine {
    name: String,
}

const HOST: [u8; 4] = [192, 0, 2, 1];

impl Machine {
    fn new(name: &str) -> Self {
        let name = format!("cbn{name}{}", std::process::id());
        let m = Machine { name };
        let (here, there) = (&m.name, m.outside());
        run(&format!(
            "ip netns add {here}; ip netns add {there}
             ip -n {here} link add wan address 02:00:00:00:00:01 type veth peer name eth0 netns {there}
             ip -n {here} address add 192.0.2.1/24 dev wan; ip -n {here} link set wan up
             ip -n {there} address add 192.0.2.2/24 dev eth0; ip -n {there} link set eth0 up
             ip -n {here} link set lo up; ip -n {here} route add default via 192.0.2.2"
        ));
        m
    }

    fn outside(&self) -> String {
        format!("{}o", self.name)
    }

    /// In the machine; `ip netns exec` would hide the cgroups.
    fn run(&self, script: &str) -> String {
        let netns = format!("/run/netns/{}", self.name);
        run(&format!(
            "nsenter --net={netns} sh -ec \"$(cat <<'END'\n{script}\nEND\n)\""
        ))
    }

    fn apply(&self, root: &Root, manifest: &str) {
        let carob = root.command(&["apply", "-f", "-"]);
        let mut child = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", self.name))
            .arg(carob.get_program())
            .args(carob.get_args())
            .env_remove("CAROB_ROOT")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(manifest.as_bytes()).unwrap();
        drop(stdin);
        assert!(child.wait().unwrap().success());
    }

    /// What a server answers to somebody outside.
    fn ask(&self, port: u16) -> std::io::Result<String> {
        let netns = File::open(format!("/run/netns/{}", self.outside()))?;
        let ask = move || {
            nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET)?;
            let to = (IpAddr::from(HOST), port).into();
            let mut s = TcpStream::connect_timeout(&to, Duration::from_millis(500))?;
            s.set_read_timeout(Some(Duration::from_secs(5)))?;
            s.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            s.read_to_string(&mut text)?;
            Ok(text)
        };
        std::thread::spawn(ask).join().unwrap()
    }

    fn is_served(&self, port: u16) {
        let answer = until(|| self.ask(port));
        let answer = answer.unwrap_or_else(|e| panic!("port {port}: {e}"));
        assert!(answer.ends_with("page\n"), "{answer}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for name in [self.outside(), self.name.clone()] {
            let _ = Command::new("ip").args(["netns", "delete", &name]).output();
        }
    }
}

fn run(script: &str) -> String {
    let out = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(out.status.success(), "{script}: {out:?}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A server on port 80, reached by this port of the host.
fn server(name: &str, port: u16) -> String {
    let spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [{
            "name": "main",
            "image": IMAGE,
            "imagePullPolicy": "Never",
            "command": ["sh", "-c", "echo page >/www/index.html; exec httpd -f -p 80 -h /www"],
            "ports": [{"containerPort": 80, "hostPort": port}],
        }],
    });
    pod(name, spec)
}

/// How often the Pod had this event, from its record.
fn events(root: &Root, pod: &str, reason: &str) -> usize {
    let state = root
        .dir()
        .join("run/pods")
        .join(root.uid(pod))
        .join("state.json");
    let state: serde_json::Value = serde_json::from_slice(&std::fs::read(state).unwrap()).unwrap();
    let events = state["events"].as_array().unwrap();
    let of = events.iter().filter(|e| e["reason"] == reason);
    of.map(|e| e["count"].as_u64().unwrap() as usize).sum()
}

#[test]
fn rules_come_back_after_a_flush_and_firewalls_let_pods_through() {
    let machine = Machine::new("f");
    let root = Root::new();
    let pods = ["a", "b", "c"];
    for (i, pod) in pods.iter().enumerate() {
        machine.apply(&root, &server(pod, 8080 + i as u16));
        machine.is_served(8080 + i as u16);
    }
    let reload = "flush ruleset
        table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }";
    for (i, change) in [
        "nft flush ruleset".to_owned(),
        "iptables-nft -P FORWARD DROP".to_owned(),
        format!("nft '{reload}'"),
        "nft flush table inet filter".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        machine.run(change);
        let wanted = i + 1;
        let restored = until(|| {
            let sum: usize = pods
                .iter()
                .map(|p| events(&root, p, "NetworkRestored"))
                .sum();
            if sum == wanted { Ok(()) } else { Err(sum) }
        });
        assert_eq!(restored, Ok(()), "{change}");
        for i in 0..pods.len() {
            machine.is_served(8080 + i as u16);
        }
        // Out: a port on which nobody listens answers so at once.
        root.sh("b", "nc -w 5 192.0.2.2 1 </dev/null 2>&1 | grep -q refused");
    }
    assert_eq!(events(&root, "a", "NetworkNotReady"), 0);
    // All is gone with the last Pod, and the firewall is as it was.
    drop(root);
    let left = machine.run("nft list ruleset");
    assert!(
        left.contains("policy drop") && !left.contains("carob"),
        "{left}"
    );
}

/// A busy host changes rules and elements of sets all the time.
#[test]
fn changes_that_cannot_concern_a_pod_do_not_wake_its_monitor() {
    let machine = Machine::new("w");
    let root = Root::new();
    machine.apply(&root, &server("web", 8080));
    machine.is_served(8080);
    machine.run("nft 'table ip t { set s { type ipv4_addr; }; chain c { }; }'");
    let pid = root.monitor_pid("web");
    let switches = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    // The look that follows the new chain, and the memory given back.
    let settled = until(|| {
        let before = switches();
        std::thread::sleep(Duration::from_secs(1));
        if switches() == before {
            Ok(())
        } else {
            Err(())
        }
    });
    assert_eq!(settled, Ok(()));
    let before = switches();
    machine.run(
        "for i in $(seq 1 50); do
            nft add element ip t s { 192.0.2.$i }; nft add rule ip t c ip saddr 192.0.2.$i drop
        done
        nft delete element ip t s { 192.0.2.1, 192.0.2.2 }
        nft 'table ip carob_00000000 { chain c { ip saddr 192.0.2.1 drop; }; }'
        nft delete table ip carob_00000000",
    );
    assert_eq!(switches(), before);
    // And those that can do.
    machine.run("nft flush chain ip t c");
    let woken = until(|| if switches() > before { Ok(()) } else { Err(()) });
    assert_eq!(woken, Ok(()));
    drop(root);
}

/// A monitor that is killed has no ears.
#[test]
fn rules_that_go_while_there_is_no_monitor_are_made_by_the_next_one() {
    let machine = Machine::new("k");
    let root = Root::new();
    machine.apply(&root, &server("web", 8080));
    machine.is_served(8080);
    let pid = root.monitor_pid("web");
    crate::root::kill_9(pid);
    machine.run("nft flush ruleset");
    let get = root.command(&["get", "pods"]);
    let ran = Command::new("nsenter")
        .arg(format!("--net=/run/netns/{}", machine.name))
        .arg(get.get_program())
        .args(get.get_args())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    machine.is_served(8080);
}
