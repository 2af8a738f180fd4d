//! Against the real kernel, as root. Every test has a network namespace of its
//! own that plays the host: unshare(2) and setns(2) change the calling thread
//! alone, so the machine's own network is never touched.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};

use super::*;
use crate::Kind;
use crate::spec::Protocol;

#[path = "room_tests.rs"]
mod room;

/// A machine to play with: what it is in, and the root that lives on it.
pub(super) struct Machine {
    pub layout: Layout,
    pub netns: OwnedFd,
    root: PathBuf,
}

/// Runs the test on a thread that is in the machine's namespace.
pub(super) fn on_a_machine(name: &str, test: impl FnOnce(&Machine) + Send + 'static) {
    let root = std::env::temp_dir().join(format!("carob-net-{name}-{}", std::process::id()));
    let path = root.clone();
    let outcome = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("unshare(CLONE_NEWNET): these tests need root");
        setup_loopback().unwrap();
        let machine = Machine {
            layout: Layout::new(Some(&path)).unwrap(),
            netns: open_own_netns().unwrap(),
            root: path,
        };
        test(&machine);
        machine.assert_clean();
    })
    .join();
    let _ = std::fs::remove_dir_all(&root);
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

pub(super) fn detach(layout: &Layout, uid: &str) -> Result<()> {
    Host::open(layout)?.detach(uid)
}

fn gc(layout: &Layout, is_live: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    Host::open(layout)?.gc(is_live)
}

pub(super) fn remove_bridge_if_unused(layout: &Layout) -> Result<bool> {
    Host::open(layout)?.remove_bridge_if_unused()
}

pub(super) struct Pod {
    pub netns: OwnedFd,
    pub net: Attachment,
}

impl Machine {
    pub(crate) fn host(&self) -> Host {
        self.enter(&self.netns);
        Host::open(&self.layout).unwrap()
    }

    pub(crate) fn enter(&self, netns: &OwnedFd) {
        setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// A new namespace, in which the thread then is.
    fn new_netns(&self) -> OwnedFd {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        setup_loopback().unwrap();
        open_own_netns().unwrap()
    }

    /// As the monitor does it; leaves the thread in the Pod's namespace.
    pub(crate) fn try_start(&self, uid: &str, ports: &[HostPort]) -> Result<Pod> {
        let host = self.host();
        let netns = self.new_netns();
        let pod = format!("default/{uid}");
        let endpoint = Endpoint {
            uid,
            pod: &pod,
            ports,
        };
        let net = host.attach(&endpoint, netns.as_fd())?;
        Ok(Pod { netns, net })
    }

    pub(crate) fn start(&self, uid: &str, ports: &[HostPort]) -> Pod {
        let pod = self.try_start(uid, ports).unwrap();
        assert_eq!(pod.net.warning, None);
        pod
    }

    /// A neighbour machine at 192.0.2.2; this one is 192.0.2.1.
    pub(crate) fn neighbour(&self) -> OwnedFd {
        let netns = self.new_netns();
        let inside = Socket::open(Family::Route).unwrap();
        self.enter(&self.netns);
        let here = Socket::open(Family::Route).unwrap();
        let pair = route::Pair {
            host: "wan0",
            pod: POD_LINK,
            pod_mac: [2, 0, 0, 0, 0, 2],
            mtu: 1400,
            bridge: 0,
        };
        let mut batch = Batch::default();
        route::put_pair(&mut batch, &pair, netns.as_fd());
        here.send_all(batch).unwrap();
        let subnet: Subnet = "192.0.2.0/24".parse().unwrap();
        for (socket, name, address) in [(&inside, POD_LINK, 2), (&here, "wan0", 1)] {
            let link = route::link(socket, name).unwrap().unwrap();
            let mut batch = Batch::default();
            route::put_address(&mut batch, link.index, [192, 0, 2, address].into(), subnet);
            route::put_up(&mut batch, name);
            socket.send_all(batch).unwrap();
        }
        let link = route::link(&here, "wan0").unwrap().unwrap();
        let mut batch = Batch::default();
        route::put_default_route(&mut batch, link.index, [192, 0, 2, 2].into());
        here.send_all(batch).unwrap();
        netns
    }

    fn links(&self) -> Vec<String> {
        let links = route::links(&self.host().route).unwrap();
        // Some kernels give every namespace links of fall-back tunnels.
        let ours = |l: &String| l.starts_with("cb") || l.starts_with("cv");
        links.into_iter().map(|l| l.name).filter(ours).collect()
    }

    fn has_table(&self) -> bool {
        let host = self.host();
        nft::exists(host.nft().unwrap(), &host.table).unwrap()
    }

    fn assert_clean(&self) {
        assert_eq!(self.links(), Vec::<String>::new());
        assert!(!self.has_table());
        assert!(!self.layout.network().exists());
    }
}

pub(super) fn tcp(host_port: u16, container_port: u16) -> HostPort {
    HostPort {
        host_ip: None,
        host_port,
        container_port,
        protocol: Protocol::Tcp,
    }
}

/// Who the server sees. The caller is where the listener may be found from.
pub(super) fn connect(
    machine: &Machine,
    from: &OwnedFd,
    listener: &TcpListener,
    to: (impl Into<IpAddr>, u16),
) -> IpAddr {
    machine.enter(from);
    let to = SocketAddr::new(to.0.into(), to.1);
    let mut client = TcpStream::connect_timeout(&to, Duration::from_secs(3)).unwrap();
    let (mut server, peer) = listener.accept().unwrap();
    client.write_all(b"ping").unwrap();
    let mut bytes = [0; 4];
    server.read_exact(&mut bytes).unwrap();
    server.write_all(&bytes).unwrap();
    client.read_exact(&mut bytes).unwrap();
    peer.ip()
}

pub(super) fn listen(machine: &Machine, at: &OwnedFd, port: u16) -> TcpListener {
    machine.enter(at);
    TcpListener::bind(("0.0.0.0", port)).unwrap()
}

#[test]
fn pods_reach_each_other_the_host_and_beyond() {
    on_a_machine("reach", |m| {
        let outside = m.neighbour();
        let a = m.start("a", &[]);
        let b = m.start("b", &[]);
        assert_eq!((a.net.prefix, a.net.mtu), (22, 1400));
        assert_eq!(a.net.mac.to_string()[..5], *"02:cb");
        assert_ne!(a.net.address, b.net.address);

        // Neighbours are known beforehand: nobody asks by ARP.
        for (netns, links, known) in [
            (&m.netns, "cb", vec![a.net.address, b.net.address]),
            (&a.netns, POD_LINK, vec![a.net.gateway]),
        ] {
            assert_eq!(permanent_neighbours(m, netns, links), known);
        }

        let begun = Instant::now();
        let at_b = listen(m, &b.netns, 80);
        assert_eq!(
            connect(m, &a.netns, &at_b, (b.net.address, 80)),
            a.net.address
        );
        assert_eq!(
            connect(m, &m.netns, &at_b, (b.net.address, 80)),
            a.net.gateway
        );
        let at_host = listen(m, &m.netns, 81);
        assert_eq!(
            connect(m, &a.netns, &at_host, (a.net.gateway, 81)),
            a.net.address
        );
        let beyond = listen(m, &outside, 82);
        let host: IpAddr = [192, 0, 2, 1].into();
        assert_eq!(connect(m, &a.netns, &beyond, ([192, 0, 2, 2], 82)), host);
        // A lost first packet would be sent again after 1 s.
        assert!(begun.elapsed() < Duration::from_millis(900));

        let ipv6 = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
        assert!(!ipv6.contains("eth0"), "{ipv6}");

        // A source that is not of the subnet ends at the bridge.
        m.enter(&a.netns);
        let socket = Socket::open(Family::Route).unwrap();
        let link = route::link(&socket, POD_LINK).unwrap().unwrap();
        let mut batch = Batch::default();
        let foreign = [198, 51, 100, 7].into();
        route::put_address(&mut batch, link.index, foreign, Subnet::new(foreign, 32));
        socket.send_all(batch).unwrap();
        m.enter(&m.netns);
        let deaf = UdpSocket::bind("0.0.0.0:83").unwrap();
        deaf.set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        m.enter(&a.netns);
        for (source, heard) in [(foreign, false), (a.net.address, true)] {
            let socket = UdpSocket::bind((source, 0)).unwrap();
            socket.send_to(b"x", (a.net.gateway, 83)).unwrap();
            assert_eq!(deaf.recv(&mut [0; 8]).is_ok(), heard, "{source}");
        }

        m.enter(&m.netns);
        for (uid, left) in [
            ("a", vec![b.net.address]),
            ("b", vec![]),
            ("b", vec![]),
            ("never", vec![]),
        ] {
            detach(&m.layout, uid).unwrap();
            assert_eq!(permanent_neighbours(m, &m.netns, "cb"), left);
        }
        assert!(remove_bridge_if_unused(&m.layout).unwrap());
        assert!(remove_bridge_if_unused(&m.layout).unwrap());
    });
}

/// Those that the kernel never asks for, on links of this prefix, sorted: proc(5),
/// /proc/net/arp.
fn permanent_neighbours(machine: &Machine, netns: &OwnedFd, links: &str) -> Vec<Ipv4Addr> {
    const COMPLETE_AND_PERMANENT: &str = "0x6";
    machine.enter(netns);
    let table = std::fs::read_to_string("/proc/thread-self/net/arp").unwrap();
    let rows = table
        .lines()
        .skip(1)
        .map(|l| l.split_whitespace().collect());
    let mut found: Vec<Ipv4Addr> = rows
        .filter(|r: &Vec<&str>| r[2] == COMPLETE_AND_PERMANENT && r[5].starts_with(links))
        .map(|r| r[0].parse().unwrap())
        .collect();
    found.sort();
    found
}

#[test]
fn host_ports_lead_to_the_pod() {
    on_a_machine("ports", |m| {
        let outside = m.neighbour();
        let host = [192, 0, 2, 1];
        let udp = HostPort {
            host_ip: Some(IpAddr::from(host)),
            protocol: Protocol::Udp,
            ..tcp(5353, 53)
        };
        let sctp = HostPort {
            protocol: Protocol::Sctp,
            ..tcp(9999, 99)
        };
        let a = m.start("a", &[tcp(8080, 80), udp, sctp]);
        let b = m.start("b", &[tcp(8081, 80)]);
        let at_a = listen(m, &a.netns, 80);
        let there: IpAddr = [192, 0, 2, 2].into();
        assert_eq!(connect(m, &outside, &at_a, (host, 8080)), there);
        assert_eq!(
            connect(m, &m.netns, &at_a, (host, 8080)),
            IpAddr::from(host)
        );
        // By the host port of a Pod, from another and from itself.
        for from in [&b.netns, &a.netns] {
            assert_eq!(connect(m, from, &at_a, (host, 8080)), a.net.gateway);
        }
        m.enter(&m.netns);
        assert!(TcpStream::connect("127.0.0.1:8080").is_err());

        m.enter(&a.netns);
        let at_a_udp = UdpSocket::bind("0.0.0.0:53").unwrap();
        at_a_udp
            .set_read_timeout(Some(Duration::from_secs(3)))
            .unwrap();
        m.enter(&outside);
        let from = UdpSocket::bind("0.0.0.0:0").unwrap();
        from.send_to(b"query", (IpAddr::from(host), 5353)).unwrap();
        let mut bytes = [0; 8];
        assert_eq!(at_a_udp.recv_from(&mut bytes).unwrap().1.ip(), there);

        // The host's rules are reloaded: the next Pod's start brings ours back.
        let h = m.host();
        nft::delete(h.nft().unwrap(), &h.table).unwrap();
        m.start("c", &[tcp(8082, 80)]);
        assert_eq!(connect(m, &outside, &at_a, (host, 8080)), there);

        m.enter(&m.netns);
        detach(&m.layout, "a").unwrap();
        drop(at_a);
        m.enter(&outside);
        assert!(TcpStream::connect((IpAddr::from(host), 8080)).is_err());
        m.enter(&m.netns);
        assert!(!remove_bridge_if_unused(&m.layout).unwrap());
        assert_eq!(gc(&m.layout, |uid| uid == "b").unwrap(), ["c"]);
        detach(&m.layout, "b").unwrap();
        assert!(remove_bridge_if_unused(&m.layout).unwrap());
    });
}

#[test]
fn a_port_in_use_is_refused_by_name() {
    on_a_machine("clash", |m| {
        let clash = |uid: &str, port: HostPort| match m.try_start(uid, &[port]) {
            Ok(_) => panic!("{port} was given twice"),
            Err(e) => {
                assert_eq!(e.kind(), Kind::Conflict, "{e}");
                e.to_string()
            }
        };
        let a = m.start("a", &[tcp(8080, 80)]);
        assert_eq!(
            clash("b", tcp(8080, 81)),
            "host port 8080/TCP is in use by pod default/a"
        );
        m.enter(&m.netns);
        let me = format!(
            "by pid {} ({})",
            std::process::id(),
            std::fs::read_to_string("/proc/self/comm").unwrap().trim()
        );
        let on_all = TcpListener::bind("0.0.0.0:90").unwrap();
        assert_eq!(
            clash("b", tcp(90, 1)),
            format!("host port 90/TCP is in use {me}")
        );
        let one = HostPort {
            host_ip: Some([192, 0, 2, 7].into()),
            ..tcp(90, 1)
        };
        assert!(clash("b", one).ends_with(&me));
        m.enter(&m.netns);
        let dual = TcpListener::bind("[::]:91").unwrap();
        assert!(clash("b", tcp(91, 1)).ends_with(&me));
        m.enter(&m.netns);
        let udp = UdpSocket::bind("0.0.0.0:92").unwrap();
        let port = HostPort {
            protocol: Protocol::Udp,
            ..tcp(92, 1)
        };
        assert!(clash("b", port).ends_with(&me));
        // These take nothing from anybody.
        m.enter(&m.netns);
        let loopback = TcpListener::bind("127.0.0.1:93").unwrap();
        m.start("b", &[tcp(92, 1), tcp(93, 1)]);

        drop((a, on_all, dual, udp, loopback));
        m.enter(&m.netns);
        assert_eq!(gc(&m.layout, |_| false).unwrap(), ["a", "b"]);
        assert!(remove_bridge_if_unused(&m.layout).unwrap());
    });
}

/// States that a kill -9 leaves: each ends as if nothing had happened.
#[test]
fn half_made_states_are_mended() {
    on_a_machine("half", |m| {
        let network = m.layout.network();
        let finish = || {
            m.enter(&m.netns);
            gc(&m.layout, |_| false).unwrap();
            assert!(remove_bridge_if_unused(&m.layout).unwrap());
            m.assert_clean();
        };

        // The bridge's record, and nothing else.
        std::fs::create_dir_all(&network).unwrap();
        let name = m.host().bridge;
        let record = record::Bridge::new(&name, "10.200.1.0/24".parse().unwrap(), 1500);
        record.save(&network).unwrap();
        assert!(remove_bridge_if_unused(&m.layout).unwrap());
        m.assert_clean();

        // A bridge without address behind an incomplete record.
        std::fs::create_dir_all(&network).unwrap();
        record.save(&network).unwrap();
        let mut batch = Batch::default();
        route::put_bridge(&mut batch, &name, [2, 0, 0, 0, 0, 1], 1500);
        m.host().route.send_all(batch).unwrap();
        let a = m.start("a", &[]);
        let at_host = listen(m, &m.netns, 80);
        connect(m, &a.netns, &at_host, (a.net.gateway, 80));

        // The same Pod once more, in a new namespace: the same address.
        let again = m.start("a", &[tcp(8080, 80)]);
        assert_eq!(again.net.address, a.net.address);
        connect(m, &again.netns, &at_host, (a.net.gateway, 80));

        // Somebody deletes the bridge: Pods keep their subnet.
        let host = m.host();
        route::delete_link(&host.route, &name).unwrap();
        let b = m.start("b", &[]);
        assert_eq!(b.net.gateway, a.net.gateway);
        let at_b = listen(m, &b.netns, 80);
        connect(m, &again.netns, &at_b, (b.net.address, 80));
        finish();

        // A lease without a link, and with ports that the table never saw.
        m.start("z", &[]);
        m.enter(&m.netns);
        let mut leases = Leases::load(&network).unwrap();
        let subnet = record::Bridge::load(&network).unwrap().unwrap().subnet;
        leases
            .take(subnet, "ghost", "default/ghost", &[tcp(1, 1), tcp(2, 2)])
            .unwrap();
        leases.save(&network).unwrap();
        detach(&m.layout, "ghost").unwrap();
        finish();

        // The records are gone, the links and the table are not.
        let c = m.start("c", &[tcp(8080, 80)]);
        std::fs::remove_dir_all(&m.root).unwrap();
        let d = m.start("d", &[tcp(8080, 80)]);
        assert_eq!(c.net.address, d.net.address);
        connect(m, &d.netns, &at_host, (d.net.gateway, 80));
        finish();

        // An attach that fails leaves no lease: eth0 is there already.
        let host = m.host();
        let netns = m.new_netns();
        let endpoint = |uid| Endpoint {
            uid,
            pod: "default/web",
            ports: &[],
        };
        host.attach(&endpoint("e"), netns.as_fd()).unwrap();
        let e = host.attach(&endpoint("f"), netns.as_fd()).unwrap_err();
        assert!(e.to_string().contains("EEXIST"), "{e}");
        assert!(!Leases::load(&network).unwrap().pods.contains_key("f"));
        finish();
    });
}

#[test]
fn a_dead_namespace_takes_its_links_along() {
    on_a_machine("release", |m| {
        let pod = m.start("a", &[tcp(8080, 80)]);
        let host = m.host();
        drop(pod);
        host.release("a").unwrap();
        host.release("a").unwrap();
        assert!(host.remove_bridge_if_unused().unwrap());
        // The kernel takes namespaces down in its own time.
        let begun = Instant::now();
        while !m.links().is_empty() && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn roots_do_not_share_a_subnet() {
    on_a_machine("roots", |m| {
        let here = m.host();
        let mut subnets = vec![m.start("a", &[]).net.gateway];
        let others: Vec<Layout> = (0..4)
            .map(|i| Layout::new(Some(&m.root.join(format!("other-{i}")))).unwrap())
            .collect();
        std::thread::scope(|s| {
            let attached: Vec<_> = others
                .iter()
                .map(|layout| {
                    s.spawn(move || {
                        m.enter(&m.netns);
                        let mut host = Host::open(layout).unwrap();
                        // All of them would like the same.
                        host.tag = here_tag(m);
                        let netns = m.new_netns();
                        let endpoint = Endpoint {
                            uid: "x",
                            pod: "default/x",
                            ports: &[],
                        };
                        let net = host.attach(&endpoint, netns.as_fd()).unwrap();
                        host.detach("x").unwrap();
                        net.gateway
                    })
                })
                .collect();
            subnets.extend(attached.into_iter().map(|t| t.join().unwrap()));
        });
        for layout in &others {
            m.enter(&m.netns);
            assert!(remove_bridge_if_unused(layout).unwrap());
        }
        here.detach("a").unwrap();
        assert!(here.remove_bridge_if_unused().unwrap());
        let count = subnets.len();
        subnets.sort();
        subnets.dedup();
        assert_eq!(subnets.len(), count);
    });
}

#[test]
fn without_nftables_pods_start_and_are_told() {
    on_a_machine("no-nft", |m| {
        let mut host = m.host();
        host.nft = None;
        let netns = m.new_netns();
        let plain = Endpoint {
            uid: "a",
            pod: "default/a",
            ports: &[],
        };
        let net = host.attach(&plain, netns.as_fd()).unwrap();
        assert!(net.warning.unwrap().contains("nftables is not available"));
        let netns = m.new_netns();
        let with_port = Endpoint {
            uid: "b",
            pod: "default/b",
            ports: &[tcp(8080, 80)],
        };
        let e = host.attach(&with_port, netns.as_fd()).unwrap_err();
        assert_eq!(e.kind(), Kind::Unsupported, "{e}");
        assert_eq!(host.gc(|_| false).unwrap(), ["a"]);
        assert!(host.remove_bridge_if_unused().unwrap());
    });
}

fn here_tag(m: &Machine) -> String {
    m.layout.tag().to_owned()
}

/// `cargo test --release -- --ignored --nocapture network::tests::figures`
#[test]
#[ignore = "prints times, asserts nothing"]
fn figures() {
    on_a_machine("figures", |m| {
        let mut warm = Vec::new();
        let mut opened = Vec::new();
        for i in 0..40 {
            let ports = [tcp(8000 + i, 80)];
            m.enter(&m.netns);
            let t = Instant::now();
            let host = Host::open(&m.layout).unwrap();
            opened.push(t.elapsed());
            let netns = m.new_netns();
            let uid = format!("pod-{i}");
            let endpoint = Endpoint {
                uid: &uid,
                pod: "default/web",
                ports: if i % 2 == 1 { &ports } else { &[] },
            };
            std::thread::sleep(Duration::from_millis(50));
            let t = Instant::now();
            let net = host.attach(&endpoint, netns.as_fd()).unwrap();
            let taken = t.elapsed();
            let listener = listen(m, &netns, 80);
            let t = Instant::now();
            connect(m, &m.netns, &listener, (net.address, 80));
            if i == 0 {
                println!(
                    "first attach, with the bridge: {taken:?}; first connection {:?}",
                    t.elapsed()
                );
            } else {
                warm.push((i % 2 == 1, taken, t.elapsed()));
            }
        }
        opened.sort();
        println!("open: median {:?}", opened[opened.len() / 2]);
        for ports in [false, true] {
            let mut of: Vec<_> = warm.iter().filter(|w| w.0 == ports).map(|w| w.1).collect();
            of.sort();
            println!(
                "attach, host port {ports}: median {:?}, max {:?}",
                of[of.len() / 2],
                of[of.len() - 1]
            );
        }
        let mut first: Vec<_> = warm.iter().map(|w| w.2).collect();
        first.sort();
        println!(
            "first connection: median {:?}, max {:?}",
            first[first.len() / 2],
            first[first.len() - 1]
        );
        m.enter(&m.netns);
        let host = m.host();
        let t = Instant::now();
        host.release("pod-1").unwrap();
        println!("release with a host port: {:?}", t.elapsed());
        let t = Instant::now();
        host.detach("pod-2").unwrap();
        println!("detach with its link: {:?}", t.elapsed());
        host.gc(|_| false).unwrap();
        let t = Instant::now();
        host.remove_bridge_if_unused().unwrap();
        println!("remove bridge: {:?}", t.elapsed());
        let deadline = Instant::now() + Duration::from_secs(5);
        while !m.links().is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

/// In a network namespace of its own, where neither value is there by chance.
#[test]
fn a_sysctl_has_the_value_that_was_set() {
    let set = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let path = std::path::Path::new("/proc/sys/net/ipv4/ip_forward");
        for value in ["0", "1", "1", "0"] {
            bridge::set_sysctl(path, value).unwrap();
            assert_eq!(std::fs::read_to_string(path).unwrap().trim(), value);
        }
    };
    std::thread::spawn(set).join().unwrap();
}
