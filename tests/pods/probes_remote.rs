//! Probes and hooks that a child of the monitor asks: HTTPS, HTTP/2, gRPC, and hosts by
//! name. The servers are other people's (openssl, nghttpd, gRPC's own for Python), run by
//! the test inside the Pod's network namespace.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::root::{Root, alive, kill_9, pod, sh, until};

const READY: &str = ".status.conditions[?(@.type=='Ready')].status";

/// A Pod `p` with one container, that has this readiness probe. The second early probe comes
/// 50 ms after the first, and so on; those that count come each second.
fn of(probe: Value, script: &str, extra: Value) -> String {
    let mut all = json!({"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 5});
    let fields = all.as_object_mut().unwrap();
    fields.extend(probe.as_object().unwrap().clone());
    let mut container = sh("main", script, extra);
    container["readinessProbe"] = all;
    let spec = json!({"terminationGracePeriodSeconds": 5, "containers": [container]});
    pod("p", spec)
}

const IDLE: &str = "trap exit TERM; while :; do sleep 0.1; done";

/// A server in the Pod's network namespace; killed when it is dropped.
struct Server(Child);

impl Server {
    fn start(root: &Root, command: &str) -> Self {
        let pid = root.pid("p", "main").to_string();
        let log = std::fs::File::create(root.dir().join("server.log")).unwrap();
        // The shell is the server's process from `exec` on.
        let child = Command::new("nsenter")
            .args(["-t", &pid, "-n", "sh", "-c", command])
            .current_dir(root.dir())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("nsenter runs");
        Server(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn server_log(root: &Root) -> String {
    let bytes = std::fs::read(root.dir().join("server.log")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `tls.pem` and `tls.key`, which nobody trusts.
fn certificate(root: &Root) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
        .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=nobody"])
        .args(["-keyout", "tls.key", "-out", "tls.pem"])
        .current_dir(root.dir())
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{made:?}");
}

#[track_caller]
fn becomes_ready(root: &Root, ready: &str) {
    let is = until(|| {
        let is = root.field("p", READY);
        if is == ready { Ok(()) } else { Err(()) }
    });
    is.unwrap_or_else(|()| {
        let page = root.carob(&["describe", "pod", "p"]).stdout;
        panic!("Ready is not {ready}: {page}\n{}", server_log(root))
    });
}

#[track_caller]
fn says_event(root: &Root, text: &str) {
    let told = until(|| {
        let page = root.carob(&["describe", "pod", "p"]).ok();
        match page.split("Events:").nth(1) {
            Some(events) if events.contains(text) => Ok(()),
            _ => Err(page),
        }
    });
    told.unwrap_or_else(|page| panic!("no {text:?} in {page}\n{}", server_log(root)));
}

/// The monitor's children beside the container.
fn helpers(root: &Root) -> Vec<i32> {
    let monitor = root.monitor_pid("p");
    let path = format!("/proc/{monitor}/task/{monitor}/children");
    let children = std::fs::read_to_string(path).unwrap_or_default();
    let main = root.pid("p", "main");
    let children = children.split_whitespace().map(|c| c.parse().unwrap());
    children.filter(|pid| *pid != main).collect()
}

#[track_caller]
fn leaves_no_child(root: &Root) {
    let gone = until(|| match helpers(root) {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    });
    gone.unwrap_or_else(|left| panic!("children of the monitor: {left:?}"));
}

#[test]
fn https_with_a_certificate_that_nobody_trusts() {
    let root = Root::new();
    certificate(&root);
    let get = |host: &str| {
        json!({"httpGet": {"scheme": "HTTPS", "port": 8443, "httpHeaders": [
            {"name": "Host", "value": host},
        ]}})
    };
    root.apply(&of(get("shop.example:8443"), IDLE, json!({})))
        .ok();
    says_event(&root, "main: GET /: connect(");
    assert_eq!(root.field("p", READY), "False");
    // It refuses names that it does not have, if a client tells one.
    let server = "exec openssl s_server -www -accept 8443 -cert tls.pem -key tls.key \
                  -servername shop.example -servername_fatal -cert2 tls.pem -key2 tls.key";
    let running = Server::start(&root, server);
    becomes_ready(&root, "True");
    drop(running);
    becomes_ready(&root, "False");
    leaves_no_child(&root);
    root.carob(&["delete", "pod", "p"]).ok();

    root.apply(&of(get("other.example"), IDLE, json!({}))).ok();
    let _running = Server::start(&root, server);
    says_event(
        &root,
        "TLS handshake: received fatal alert: UnrecognisedName",
    );
    assert_eq!(root.field("p", READY), "False");
    root.carob(&["delete", "pod", "p"]).ok();

    // Without a name, for an address is none.
    let ip = json!({"httpGet": {"scheme": "HTTPS", "port": 8443}});
    root.apply(&of(ip, IDLE, json!({}))).ok();
    let _running = Server::start(&root, server);
    becomes_ready(&root, "True");
}

/// `answer`: a script in the place of a server on port 8080, for each connection.
fn serve(answer: &str) -> String {
    format!("cat > /answer <<'END'\n{answer}\nEND\nexec nc -ll -p 8080 -e sh /answer")
}

#[test]
fn from_http_to_https_by_a_redirect() {
    let root = Root::new();
    certificate(&root);
    let answer = "read -r line; printf 'HTTP/1.1 302 Found\\r\\nLocation: \
                  https://'$(hostname -i)':8443/\\r\\nContent-Length: 0\\r\\n\\r\\n'";
    let get = json!({"httpGet": {"port": 8080}});
    root.apply(&of(get, &serve(answer), json!({}))).ok();
    says_event(&root, "main: GET /: connect(");
    let server = "exec openssl s_server -www -accept 8443 -cert tls.pem -key tls.key";
    let running = Server::start(&root, server);
    becomes_ready(&root, "True");
    drop(running);
    // The same answer, which is no TLS.
    root.carob(&["delete", "pod", "p"]).ok();
    let get = json!({"httpGet": {"port": 8080, "scheme": "HTTPS"}});
    root.apply(&of(get, &serve(answer), json!({}))).ok();
    says_event(&root, "TLS handshake: the server does not speak TLS");
    leaves_no_child(&root);
}

#[test]
fn http2_without_tls() {
    let root = Root::new();
    std::fs::create_dir(root.dir().join("www")).unwrap();
    let get = |path: &str| json!({"path": path, "port": 8080, "protocol": "HTTP2"});
    let probe = json!({"httpGet": get("/ready?now")});
    let hook = json!({"lifecycle": {"preStop": {"httpGet": get("/bye")}}});
    root.apply(&of(probe.clone(), IDLE, hook)).ok();
    let server = Server::start(&root, "exec nghttpd --no-tls -v -d www 8080");
    says_event(&root, "HTTP probe failed with statuscode: 404");
    assert_eq!(root.field("p", READY), "False");
    // More than is read of it.
    std::fs::write(root.dir().join("www/ready"), [b'x'; 100_000]).unwrap();
    becomes_ready(&root, "True");
    let said = server_log(&root);
    for line in [
        ":path: /ready?now",
        ":scheme: http",
        ":method: GET",
        "user-agent: kube-probe/1.37",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(!said.contains(":path: /bye"), "{said}");
    leaves_no_child(&root);
    // Any answer to a hook is good.
    root.carob(&["delete", "pod", "p"]).ok();
    let said = server_log(&root);
    assert!(said.contains(":path: /bye"), "{said}");
    drop(server);

    let answer = "printf 'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n'; sleep 1";
    root.apply(&of(probe, &serve(answer), json!({}))).ok();
    says_event(&root, "the answer is not HTTP/2: the server speaks HTTP/1");
}

#[test]
fn a_hook_by_https_asks_a_server_without_tls() {
    let root = Root::new();
    let hook = json!({"lifecycle": {"preStop": {"httpGet": {
        "scheme": "HTTPS", "port": 8080, "path": "/bye",
    }}}});
    let probe = json!({"httpGet": {"port": 8080}});
    root.apply(&of(
        probe,
        "trap '' TERM; while :; do sleep 0.1; done",
        hook,
    ))
    .ok();
    let _server = Server::start(&root, "exec /usr/bin/python3 -u -m http.server 8080");
    becomes_ready(&root, "True");
    root.carob(&["delete", "pod", "p", "--wait=false"]).ok();
    says_event(&root, "container main: asked without TLS: GET /bye: ");
    let asked = until(|| match server_log(&root) {
        log if log.contains("GET /bye HTTP/1.1") => Ok(()),
        log => Err(log),
    });
    asked.unwrap();
}

/// gRPC's own server, as Debian's Python has it. What the file `answer` says becomes of a call: a number for SERVING and
/// so on, or the name of a code.
const GRPC_SERVER: &str = r#"
import sys, grpc
from concurrent import futures

def check(request, context):
    answer = open("answer").read().strip()
    agent = dict(context.invocation_metadata()).get("user-agent")
    print("asked for", request, "by", agent, flush=True)
    if not answer.isdigit():
        context.abort(grpc.StatusCode[answer], "as the file says: \N{EURO SIGN}")
    return bytes([8, int(answer)])

class Handler(grpc.GenericRpcHandler):
    def service(self, call):
        if call.method == "/grpc.health.v1.Health/Check" and open("answer").read() != "none":
            return grpc.unary_unary_rpc_method_handler(check)

server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Handler()])
if sys.argv[1] == "tls":
    pair = (open("tls.key", "rb").read(), open("tls.pem", "rb").read())
    server.add_secure_port("0.0.0.0:9000", grpc.ssl_server_credentials([pair]))
else:
    server.add_insecure_port("0.0.0.0:9000")
server.start()
server.wait_for_termination()
"#;

#[test]
fn grpc_health() {
    let root = Root::new();
    certificate(&root);
    std::fs::write(root.dir().join("server.py"), GRPC_SERVER).unwrap();
    let answer = |text: &str| {
        let (new, file) = (root.dir().join("answer.new"), root.dir().join("answer"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, file).unwrap();
    };
    for (mode, name) in [("Plaintext", "plain"), ("TLS", "tls")] {
        answer("2");
        let probe = json!({"grpc": {"port": 9000, "service": "shop", "mode": mode}});
        root.apply(&of(probe, IDLE, json!({}))).ok();
        let _server = Server::start(&root, &format!("exec /usr/bin/python3 server.py {name}"));
        says_event(
            &root,
            "main: service unhealthy (responded with \"NOT_SERVING\")",
        );
        assert_eq!(root.field("p", READY), "False");
        answer("1");
        becomes_ready(&root, "True");
        let said = server_log(&root);
        assert!(
            said.contains(r"asked for b'\n\x04shop' by kube-probe/1.37"),
            "{said}"
        );
        answer("UNAVAILABLE");
        says_event(
            &root,
            "main: health check ended with Unavailable: as the file says: \u{20ac}",
        );
        becomes_ready(&root, "False");
        answer("none");
        says_event(
            &root,
            "main: this server does not implement the grpc health protocol",
        );
        leaves_no_child(&root);
        root.carob(&["delete", "pod", "p"]).ok();
    }
    let probe = json!({"grpc": {"port": 8080}});
    let answer = "printf 'SSH-2.0-none\\r\\n'; sleep 1";
    root.apply(&of(probe, &serve(answer), json!({}))).ok();
    says_event(&root, ":8080: the answer is not HTTP/2: ");
}

/// Answers questions for one name's address, in the place of the machine's name server.
const NAME_SERVER: &str = r#"
import socket, sys
server = sys.argv[1]
family = socket.AF_INET6 if ":" in server else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
s.bind((server, 53))
NAME = b"\x05probe\x05carob\x04test\x00"
while True:
    q, peer = s.recvfrom(512)
    name, kind = q[12:-4].lower(), q[-4:-2]
    print(name, kind, flush=True)
    known = name == NAME
    a = kind == b"\0\1" and known
    answer = q[:2] + (b"\x81\x80" if known else b"\x81\x83") + b"\0\1" + bytes([0, a]) + b"\0\0\0\0"
    answer += q[12:]
    if a:
        answer += b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\0\0\1"
    s.sendto(answer, peer)
"#;

/// The first of the machine's that can be reached from a Pod, as the Pod itself is told; none
/// is as 127.0.0.1 (resolv.conf(5)).
fn name_server(root: &Root) -> String {
    let text = root.sh("p", "cat /etc/resolv.conf");
    let mut lines = text.lines().map(str::split_whitespace);
    let server = lines.find_map(|mut words| match words.next() {
        Some("nameserver") => words.next().map(str::to_owned),
        _ => None,
    });
    server.unwrap_or_else(|| "127.0.0.1".to_owned())
}

#[test]
fn hosts_by_name() {
    let root = Root::new();
    std::fs::write(root.dir().join("names.py"), NAME_SERVER).unwrap();
    let server = "exec httpd -f -p 127.0.0.1:8080 -h /";
    // Of the Pod's own network namespace.
    let get = json!({"httpGet": {"path": "/bin/", "host": "localhost", "port": 8080}});
    root.apply(&of(
        get,
        &format!("touch /bin/index.html; {server}"),
        json!({}),
    ))
    .ok();
    becomes_ready(&root, "True");
    root.carob(&["delete", "pod", "p"]).ok();

    let socket = json!({"tcpSocket": {"host": "probe.carob.test", "port": 8080}});
    root.apply(&of(socket, server, json!({}))).ok();
    says_event(&root, "probe.carob.test");
    assert_eq!(root.field("p", READY), "False");
    let address = name_server(&root);
    let script = format!(
        "ip addr add {address}/{} dev lo 2>/dev/null; exec /usr/bin/python3 names.py {address}",
        if address.contains(':') {
            "128 nodad"
        } else {
            "32"
        }
    );
    let running = Server::start(&root, &script);
    becomes_ready(&root, "True");
    drop(running);
    root.carob(&["delete", "pod", "p"]).ok();

    let socket = json!({"tcpSocket": {"host": "none.carob.test", "port": 8080}});
    root.apply(&of(socket, server, json!({}))).ok();
    let _running = Server::start(&root, &script);
    says_event(&root, "the host none.carob.test is not known to DNS");
    leaves_no_child(&root);
}

#[test]
fn the_process_that_asks_has_no_rights_and_ends_in_time() {
    let root = Root::new();
    // Accepts, and says nothing.
    let silent = "exec nc -ll -p 8443 -e sleep 1000";
    let probe = |timeout: u32, period: u32| {
        json!({
            "httpGet": {"scheme": "HTTPS", "port": 8443}, "timeoutSeconds": timeout,
            "periodSeconds": period,
        })
    };
    root.apply(&of(probe(1000, 1000), silent, json!({}))).ok();
    let connected = || {
        let fds = |pid: i32| {
            let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
            let fds = fds.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
            Some(fds.map(|l| l.display().to_string()).collect::<Vec<_>>())
        };
        until(|| match helpers(&root)[..] {
            [pid] => match fds(pid) {
                Some(fds) if fds.iter().any(|l| l.starts_with("socket:")) => Ok((pid, fds)),
                fds => Err(fds),
            },
            _ => Err(None),
        })
        .unwrap()
    };
    let (pid, mut fds) = connected();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for line in [
        "Uid:\t65534\t65534\t65534\t65534\n",
        "Gid:\t65534\t65534\t65534\t65534\n",
        "Groups:\t \n",
        "CapInh:\t0000000000000000\n",
        "CapPrm:\t0000000000000000\n",
        "CapEff:\t0000000000000000\n",
        "CapAmb:\t0000000000000000\n",
        "NoNewPrivs:\t1\n",
        "Seccomp:\t2\n",
    ] {
        assert!(status.contains(line), "{line:?}: {status}");
    }
    // Standard streams, the report and the connection.
    fds.sort();
    assert_eq!(fds.len(), 5, "{fds:?}");
    let kinds = |kind: &str| fds.iter().filter(|l| l.starts_with(kind)).count();
    assert_eq!((kinds("socket:"), kinds("pipe:")), (1, 1), "{fds:?}");
    let top = std::fs::read_link(format!("/proc/{pid}/root")).unwrap();
    assert!(top.ends_with("fdinfo"), "{top:?}");

    // With the monitor.
    kill_9(root.monitor_pid("p"));
    until(|| if alive(pid) { Err(()) } else { Ok(()) }).unwrap();
    // The next monitor asks as well. With the container.
    assert_eq!(root.field("p", READY), "False");
    let (pid, _) = connected();
    kill_9(root.pid("p", "main"));
    until(|| if alive(pid) { Err(()) } else { Ok(()) }).unwrap();
    root.carob(&["delete", "pod", "p"]).ok();

    // With its time.
    root.apply(&of(probe(1, 5), silent, json!({}))).ok();
    says_event(&root, "main: no answer within 1 s");
    leaves_no_child(&root);
}
