//! Who reaches whom: Pods, the host, another host; and the names they have.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::root::{IMAGE, Root, pod, sh, until};

/// A Pod that serves `text` on port 80 at its address.
fn server(name: &str, text: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n{more}  \
         containers:\n  - name: main\n    image: {IMAGE}\n    imagePullPolicy: Never\n    command: [sh, -c, \
         'echo {text} >/www/index.html; exec httpd -f -p 80 -h /www']\n"
    )
}

/// The page at an address, asked until the server listens.
fn page(ip: IpAddr, port: u16) -> String {
    until(|| {
        let mut s = TcpStream::connect_timeout(&(ip, port).into(), Duration::from_secs(2))?;
        s.set_read_timeout(Some(Duration::from_secs(2)))?;
        s.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        s.read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    })
    .unwrap_or_else(|e| panic!("{ip} port {port}: {e}"))
}

fn ip(root: &Root, pod: &str) -> IpAddr {
    root.field(pod, ".status.podIP").parse().unwrap()
}

/// A port that nobody listens on now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn pods_and_the_host_reach_each_other() {
    let root = Root::new();
    root.apply(&format!(
        "{}---\n{}",
        server("a", "page-of-a", ""),
        server("b", "page-of-b", "")
    ))
    .ok();
    let (a, b) = (ip(&root, "a"), ip(&root, "b"));
    assert_ne!(a, b);
    assert!(page(a, 80).ends_with("page-of-a\n"));
    assert!(page(b, 80).ends_with("page-of-b\n"));
    assert_eq!(
        root.sh("a", &format!("wget -qO- http://{b}/")),
        "page-of-b\n"
    );
    assert_eq!(
        root.sh("b", &format!("wget -qO- http://{a}/")),
        "page-of-a\n"
    );
    root.sh("b", &format!("ping -c 1 -W 2 {a} >/dev/null"));

    // The Pod to the host, by the bridge's address, which is its gateway; no
    // translation: the host sees the Pod's own address.
    let gateway = root.sh(
        "a",
        "ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'",
    );
    let host: IpAddr = gateway.trim().parse().unwrap();
    assert!(!root.field("a", ".status.hostIP").is_empty());
    let listener = TcpListener::bind((host, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = std::thread::spawn(move || {
        let (mut s, peer) = listener.accept().unwrap();
        s.write_all(b"from the host\n").unwrap();
        peer.ip()
    });
    assert_eq!(
        root.sh("a", &format!("nc {host} {port} </dev/null")),
        "from the host\n"
    );
    assert_eq!(answer.join().unwrap(), a);
}

#[test]
fn names_of_a_pod() {
    let root = Root::new();
    let more = "  hostAliases: [{ip: 192.0.2.9, hostnames: [nine, nine.example]}]\n  \
                dnsPolicy: None\n  dnsConfig: {nameservers: [192.0.2.53], searches: [x.example], options: [{name: ndots, value: '2'}]}\n";
    root.apply(&server("named", "x", more)).ok();
    let address = ip(&root, "named");
    assert_eq!(
        root.sh("named", "hostname; cat /etc/hostname; echo $HOSTNAME"),
        "named\nnamed\nnamed\n"
    );
    let hosts = root.sh("named", "cat /etc/hosts");
    assert!(hosts.contains(&format!("{address}\tnamed\n")), "{hosts}");
    assert!(hosts.contains("192.0.2.9\tnine\tnine.example\n"), "{hosts}");
    assert!(hosts.contains("127.0.0.1\tlocalhost\n"), "{hosts}");
    assert_eq!(
        root.sh("named", "cat /etc/resolv.conf"),
        "nameserver 192.0.2.53\nsearch x.example\noptions ndots:2\n"
    );

    let more = "  hostname: other\n  subdomain: sub\n";
    root.apply(&server("sub", "x", more)).ok();
    assert_eq!(root.sh("sub", "hostname"), "other\n");

    // A Pod's name may have dots and 253 characters, a hostname has 63.
    let long = format!("{}.tail", "n".repeat(70));
    root.apply(&server(&long, "x", "")).ok();
    assert_eq!(root.sh(&long, "hostname").trim(), "n".repeat(63));
}

#[test]
fn the_hosts_own_network() {
    let root = Root::new();
    root.apply(
        &server("host", "x", "  hostNetwork: true\n").replace("httpd -f -p 80", "sleep 1000 #"),
    )
    .ok();
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(
        root.sh("host", "readlink /proc/self/ns/net").trim(),
        own.to_str().unwrap()
    );
    let name = nix::unistd::gethostname().unwrap();
    assert_eq!(root.sh("host", "hostname").trim(), name.to_str().unwrap());
    assert_eq!(
        root.field("host", ".status.podIP"),
        root.field("host", ".status.hostIP")
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"here\n"));
    assert_eq!(
        root.sh("host", &format!("nc 127.0.0.1 {port} </dev/null")),
        "here\n"
    );
    answer.join().unwrap().unwrap();
}

/// Another host: a network namespace at the other end of a cable.
struct OtherHost {
    name: String,
}

impl OtherHost {
    /// The addresses are of TEST-NET-2, which nobody has.
    const HOST: &str = "198.51.100.1";

    fn new() -> Self {
        let name = format!("cbt{}", std::process::id());
        let other = OtherHost { name };
        let n = &other.name;
        ip_command(&format!("netns add {n}"));
        ip_command(&format!("link add {n} type veth peer name eth0 netns {n}"));
        ip_command(&format!("address add {}/30 dev {n}", Self::HOST));
        ip_command(&format!("link set {n} up"));
        ip_command(&format!("-n {n} address add 198.51.100.2/30 dev eth0"));
        ip_command(&format!("-n {n} link set eth0 up"));
        ip_command(&format!("-n {n} route add default via {}", Self::HOST));
        other
    }

    /// [`page`], asked from there.
    fn page(&self, ip: IpAddr, port: u16) -> String {
        let netns = std::fs::File::open(format!("/run/netns/{}", self.name)).unwrap();
        let ask = move || {
            // A thread has a network namespace of its own, and so have its sockets.
            nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            page(ip, port)
        };
        std::thread::spawn(ask).join().unwrap()
    }
}

impl Drop for OtherHost {
    fn drop(&mut self) {
        // Its end of the cable goes with the namespace, and ours with that: but
        // not before the kernel gets to it.
        for line in [
            format!("link delete {}", self.name),
            format!("netns delete {}", self.name),
        ] {
            let _ = Command::new("ip").args(line.split(' ')).output();
        }
    }
}

fn ip_command(line: &str) {
    let out = Command::new("ip").args(line.split(' ')).output().unwrap();
    assert!(
        out.status.success(),
        "ip {line}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

#[test]
fn a_host_port_is_reached_from_everywhere() {
    let root = Root::new();
    let port = free_port();
    let pod = server("web", "page", "")
        + &format!("    ports: [{{containerPort: 80, hostPort: {port}}}]\n");
    root.apply(&pod).ok();
    // From the host itself, by an address of its own but loopback's, which is
    // left alone, and from another host.
    let other = OtherHost::new();
    assert!(page(OtherHost::HOST.parse().unwrap(), port).ends_with("page\n"));
    let url = format!("http://{}:{port}/", OtherHost::HOST);
    assert!(
        other
            .page(OtherHost::HOST.parse().unwrap(), port)
            .ends_with("page\n")
    );
    // From another Pod, and from the Pod itself.
    root.apply(&server("client", "x", "")).ok();
    let wget = format!("wget -qO- {url}");
    assert_eq!(root.sh("client", &wget), "page\n");
    assert_eq!(root.sh("web", &wget), "page\n");
    // Gone with the Pod.
    root.carob(&[
        "delete",
        "pod",
        "web",
        "--grace-period=0",
        "--force",
        "--wait",
    ])
    .ok();
    assert!(TcpStream::connect((OtherHost::HOST, port)).is_err());
}

#[test]
fn containers_of_a_pod_share_localhost_and_dev_shm() {
    let root = Root::new();
    let pod = server("two", "shared", "")
        + &format!(
            "  - name: other\n    image: {IMAGE}\n    imagePullPolicy: Never\n    command: [sleep, '1000']\n"
        );
    root.apply(&pod).ok();
    let other = |script: &str| {
        root.carob(&["exec", "two", "-c", "other", "--", "sh", "-c", script])
            .ok()
    };
    let fetch = "until wget -qO- http://127.0.0.1/; do :; done 2>/dev/null";
    assert_eq!(other(fetch), "shared\n");
    root.sh("two", "echo seen >/dev/shm/file");
    assert_eq!(other("cat /dev/shm/file"), "seen\n");
    // What they do not share: processes, and the file system.
    assert_eq!(other("cat /proc/1/cmdline | tr '\\0' ' '"), "sleep 1000 ");
    assert_eq!(other("test -e /www/index.html; echo $?"), "1\n");
    let ns = "for n in ipc uts net; do readlink /proc/self/ns/$n; done";
    assert_eq!(root.sh("two", ns), other(ns));
    let host = std::fs::read_link("/proc/self/ns/ipc").unwrap();
    assert!(!other(ns).contains(host.to_str().unwrap()));
}

/// A machine with systemd-resolved, whose /etc/resolv.conf names a server on loopback:
/// played in a mount namespace, in which other files lie at the two paths.
#[test]
fn a_stub_resolver_on_loopback_is_replaced_by_its_upstream_servers() {
    let root = Root::new();
    let manifest = |name: &str, network: bool| {
        let script = "cat /etc/resolv.conf; echo end";
        let spec = json!({
            "restartPolicy": "Never",
            "hostNetwork": network,
            "containers": [sh("main", script, json!({}))],
        });
        let file = root.dir().join(format!("{name}.yaml"));
        std::fs::write(&file, pod(name, spec)).unwrap();
        file
    };
    let on_such_a_machine = |upstream: &str, file: &std::path::Path| {
        let carob = root.command(&["apply", "-f", file.to_str().unwrap()]);
        let script = "d=$1; upstream=$2; shift 2
            echo nameserver 127.0.0.53 >$d/stub && mount --bind $d/stub /etc/resolv.conf
            mount -t tmpfs run /run && mkdir -p /run/systemd/resolve
            [ -z \"$upstream\" ] || echo \"$upstream\" >/run/systemd/resolve/resolv.conf
            exec \"$@\"";
        let ran = Command::new("unshare")
            .args(["-m", "sh", "-ec", script, "sh"])
            .arg(root.dir())
            .arg(upstream)
            .arg(carob.get_program())
            .args(carob.get_args())
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        assert!(ran.status.success(), "{ran:?}");
    };
    for (name, network, upstream, expected) in [
        (
            "stub",
            false,
            "nameserver 192.0.2.53",
            "nameserver 192.0.2.53\nend\n",
        ),
        (
            "host",
            true,
            "nameserver 192.0.2.53",
            "nameserver 127.0.0.53\nend\n",
        ),
        ("none", false, "", "end\n"),
    ] {
        on_such_a_machine(upstream, &manifest(name, network));
        root.becomes(name, ".status.phase", "Succeeded");
        assert_eq!(root.carob(&["logs", name]).ok(), expected, "{name}");
        let told = root.carob(&["describe", "pod", name]).ok();
        assert_eq!(told.contains("DNSConfigForming"), name == "none", "{told}");
    }
}
