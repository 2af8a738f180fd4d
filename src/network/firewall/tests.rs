//! Against the real kernel and the host's nft(8) and iptables(8), in namespaces: see
//! [`crate::network::tests`]. With the programs that people have, whole, it is
//! tests/machines/neighbours.sh.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::network::restore;
use crate::network::tests::{Machine, connect, listen, on_a_machine, tcp};
use crate::network::tests::{detach, remove_bridge_if_unused};

const OUTSIDE: [u8; 4] = [192, 0, 2, 2];
const HOST: [u8; 4] = [192, 0, 2, 1];

/// In the network namespace of the thread, as a program called here is.
fn sh(script: &str) -> String {
    let out = Command::new("sh").args(["-ec", script]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{script}: {out:?}");
    text
}

/// What neighbours see of their rules; counters count.
const RULES: &str = "nft -s list ruleset; iptables-nft -S; iptables-legacy -S";

/// A firewall: its rules, made on a host that had none.
const FIREWALLS: [(&str, &str); 9] = [
    ("policy of iptables-nft", "iptables-nft -P FORWARD DROP"),
    (
        "docker",
        "iptables-nft -P FORWARD DROP
         for c in DOCKER DOCKER-ISOLATION-STAGE-1 DOCKER-USER; do iptables-nft -N $c; done
         iptables-nft -A FORWARD -j DOCKER-USER
         iptables-nft -A FORWARD -j DOCKER-ISOLATION-STAGE-1
         iptables-nft -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
         iptables-nft -A FORWARD -o docker0 -j DOCKER
         iptables-nft -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
         for c in DOCKER-ISOLATION-STAGE-1 DOCKER-USER; do iptables-nft -A $c -j RETURN; done",
    ),
    (
        "ufw that rejects",
        "iptables-nft -P FORWARD DROP
         for c in ufw-before-forward ufw-reject-forward; do
             iptables-nft -N $c; iptables-nft -A FORWARD -j $c
         done
         iptables-nft -A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
         iptables-nft -A ufw-reject-forward -j REJECT",
    ),
    (
        "REJECT at the end",
        "iptables-nft -A FORWARD -i lo -j ACCEPT
         iptables-nft -A FORWARD -j REJECT --reject-with icmp-host-prohibited",
    ),
    (
        "policy by hand",
        "nft 'table inet filter { chain forward {
             type filter hook forward priority 0; policy drop;
             ct state invalid drop
             ct state established,related accept; }; }'",
    ),
    (
        "drop by hand, in another chain",
        "nft 'table ip mine {
             chain end { counter log prefix \"x\" drop; }
             chain forward { type filter hook forward priority -5; iifname lo accept; goto end; }; }'",
    ),
    (
        "two of them",
        "iptables-nft -P FORWARD DROP
         nft 'table inet filter { chain forward { type filter hook forward priority 5; policy drop; }; }'",
    ),
    ("policy of iptables-legacy", "iptables-legacy -P FORWARD DROP"),
    (
        "REJECT of iptables-legacy",
        "iptables-legacy -A FORWARD -i lo -j ACCEPT; iptables-legacy -A FORWARD -j REJECT",
    ),
];

fn reaches(m: &Machine, from: &std::os::fd::OwnedFd, to: ([u8; 4], u16)) -> bool {
    m.enter(from);
    let to = SocketAddr::from((IpAddr::from(to.0), to.1));
    TcpStream::connect_timeout(&to, Duration::from_millis(500)).is_ok()
}

#[test]
fn firewalls_that_drop_let_pods_through_and_stay_as_they_were() {
    for (name, script) in FIREWALLS {
        on_a_machine("firewall", move |m| {
            let outside = m.neighbour();
            m.enter(&m.netns);
            sh(script);
            let before = sh(RULES);
            let a = m.start("a", &[tcp(8080, 80)]);
            let b = m.start("b", &[]);
            let at_a = listen(m, &a.netns, 80);
            let there: IpAddr = OUTSIDE.into();
            let beyond = listen(m, &outside, 82);
            let host: IpAddr = HOST.into();
            assert_eq!(connect(m, &a.netns, &beyond, (OUTSIDE, 82)), host, "{name}");
            assert_eq!(connect(m, &outside, &at_a, (HOST, 8080)), there, "{name}");
            assert_eq!(connect(m, &m.netns, &at_a, (HOST, 8080)), host, "{name}");
            connect(m, &b.netns, &at_a, (a.net.address, 80));
            connect(m, &b.netns, &at_a, (HOST, 8080));

            // iptables still works on its tables, and there is one copy of each rule.
            m.enter(&m.netns);
            sh("iptables-nft -S");
            let rules = sh("nft -s list ruleset; iptables-legacy -S");
            let ours = rules.matches("carob: Pods of").count();
            assert!(matches!(ours, 2 | 3 | 5), "{name}: {rules}");

            // What nobody has asked for is let in no more than before: a connection
            // to the Pod's own address.
            m.enter(&outside);
            sh(&format!("ip route add {} via 192.0.2.1", a.net.address));
            assert!(
                !reaches(m, &outside, (a.net.address.octets(), 80)),
                "{name}"
            );

            m.enter(&m.netns);
            for uid in ["a", "b"] {
                detach(&m.layout, uid).unwrap();
            }
            assert!(remove_bridge_if_unused(&m.layout).unwrap());
            assert_eq!(sh(RULES), before, "{name}");
        });
    }
}

/// Rules with a condition decide as they did.
#[test]
fn what_a_firewall_forbids_stays_forbidden() {
    on_a_machine("forbidden", |m| {
        let outside = m.neighbour();
        m.enter(&m.netns);
        sh("nft 'table inet filter { chain forward {
                type filter hook forward priority 0; policy drop;
                tcp dport 83 drop; }; }'");
        let a = m.start("a", &[]);
        let _beyond = [listen(m, &outside, 82), listen(m, &outside, 83)];
        assert!(reaches(m, &a.netns, (OUTSIDE, 82)));
        assert!(!reaches(m, &a.netns, (OUTSIDE, 83)));
        // A firewall that lets everything through gets no rules.
        m.enter(&m.netns);
        sh("nft 'table ip open { chain forward { type filter hook forward priority 1; }; }'");
        m.start("b", &[]);
        m.enter(&m.netns);
        assert!(!sh("nft list table ip open").contains("carob"));
        for uid in ["a", "b"] {
            detach(&m.layout, uid).unwrap();
        }
        assert!(remove_bridge_if_unused(&m.layout).unwrap());
    });
}

#[test]
fn what_others_take_away_is_restored_once() {
    on_a_machine("restore", |m| {
        let outside = m.neighbour();
        let a = m.start("a", &[tcp(8080, 80)]);
        let at_a = listen(m, &a.netns, 80);
        m.enter(&m.netns);
        let restored = || {
            m.enter(&m.netns);
            let first = restore(&m.layout, "a").unwrap();
            assert_eq!(first.warning, None);
            assert!(!restore(&m.layout, "a").unwrap().mended);
            assert!(m.host().rules_are_unchanged());
            connect(m, &outside, &at_a, (HOST, 8080));
            m.enter(&m.netns);
            first.mended
        };
        assert!(!restored());
        for script in [
            "nft flush ruleset",
            "iptables-nft -P FORWARD DROP",
            "iptables-nft -F FORWARD",
            "iptables-nft-save >/dev/null; printf '*filter\\n:FORWARD DROP\\nCOMMIT\\n' | iptables-nft-restore",
            "nft 'table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }'",
        ] {
            sh(script);
            assert!(!m.host().rules_are_unchanged(), "{script}");
            assert!(restored(), "{script}");
        }
        // A drop that comes before our rules, as `ufw default reject routed` makes one.
        sh(
            "nft flush ruleset; iptables-nft -P FORWARD DROP; iptables-nft -N reject
            iptables-nft -A FORWARD -j reject",
        );
        assert!(restored());
        sh("iptables-nft -A reject -j REJECT");
        assert!(restored());
        sh("nft flush ruleset; iptables-nft -P FORWARD DROP");
        assert!(restored());
        // Half of our rules is as bad as none.
        let rules = sh("nft -a list chain ip filter FORWARD");
        let line = rules.lines().find(|l| l.contains("carob")).unwrap();
        let handle = line.rsplit(' ').next().unwrap();
        sh(&format!(
            "nft delete rule ip filter FORWARD handle {handle}"
        ));
        assert!(restored());
        // iptables-legacy tells nobody of its changes; they are seen with the next one.
        sh("nft flush ruleset; iptables-legacy -P FORWARD DROP");
        assert!(restored());
        sh("iptables-legacy -I FORWARD -j REJECT; nft add table ip x");
        assert!(restored());
        sh("iptables-legacy -D FORWARD -j REJECT");
        // A Pod that is gone restores nothing.
        detach(&m.layout, "a").unwrap();
        sh("nft flush ruleset");
        assert!(!restore(&m.layout, "a").unwrap().mended);
        assert!(remove_bridge_if_unused(&m.layout).unwrap());
    });
}

/// A table that a process owns is changed by nobody else, and the Pod is told.
#[test]
fn a_chain_that_cannot_be_changed_is_named() {
    on_a_machine("owned", |m| {
        m.enter(&m.netns);
        let (mut theirs, ours) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut nft = Command::new("nft")
            .args(["-i"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::os::fd::OwnedFd::from(ours))
            .spawn()
            .unwrap();
        use std::io::{BufRead, BufReader, Write};
        let mut stdin = nft.stdin.take().unwrap();
        let script = "add table inet theirs { flags owner; }\n\
             add chain inet theirs forward { type filter hook forward priority 0; policy drop; }\n\
             list table inet theirs\n";
        stdin.write_all(script.as_bytes()).unwrap();
        theirs
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let lines = BufReader::new(&mut theirs).lines();
        lines
            .map(Result::unwrap)
            .find(|l| l.contains("policy drop"))
            .unwrap();

        let a = m.try_start("a", &[]).unwrap();
        let warning = a.net.warning.unwrap();
        assert!(warning.contains("inet theirs forward"), "{warning}");
        // The next Pod, which finds nothing new, is told too.
        let b = m.try_start("b", &[]).unwrap();
        assert_eq!(b.net.warning, Some(warning));
        // So is `carob doctor`.
        m.enter(&m.netns);
        let seen = super::super::trial::firewall(&m.layout).unwrap();
        let [chain] = seen.as_slice() else {
            panic!("{seen:?}");
        };
        let mend = chain.mend.as_deref().unwrap_or_default();
        assert!(
            chain.passage.contains("the process that owns the table")
                && mend.starts_with("have the program that owns the table run: nft add rule"),
            "{chain:?}"
        );
        drop(stdin);
        nft.wait().unwrap();
        m.enter(&m.netns);
        for uid in ["a", "b"] {
            detach(&m.layout, uid).unwrap();
        }
        assert!(remove_bridge_if_unused(&m.layout).unwrap());
    });
}
