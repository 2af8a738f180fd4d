//! nfs: a directory that another machine exports, mounted by the kernel's own client: nfs(5),
//! without mount.nfs(8).
//!
//! A server that does not answer makes each call to its mount wait, for ever. So the mount is
//! made by a process that can be killed, and by nothing else here is it ever looked at;
//! removal detaches it (MNT_DETACH). Before the kernel is asked, the server is: by the
//! procedure NULL of RPC (RFC 5531), which says which versions it has, and within a time.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::linux::mount::{ATTR_NODEV, ATTR_RDONLY, Mount};
use crate::linux::root::open_dir;
use crate::store::make_dir;
use crate::{Context, Error, Result};

const PORT: u16 = 2049;

/// What a volume names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Export<'a> {
    pub server: &'a str,
    pub path: &'a str,
    pub read_only: bool,
}

/// What is known of a server that has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    server: IpAddr,
    /// This machine's address towards it.
    client: IpAddr,
    has_v4: bool,
}

/// Mounts it at `at`. `addresses`: of the server, at least one. Call in the host's network
/// namespace and with the host's name, which is what the server knows a client by.
pub(crate) fn mount(e: Export, addresses: &[IpAddr], at: &Path, deadline: Instant) -> Result<()> {
    let mut last = None;
    let mut answers = addresses.iter().filter_map(|ip| {
        let asked = ask(SocketAddr::new(*ip, PORT), deadline);
        asked.map_err(|e| last = Some((*ip, e))).ok()
    });
    let Some(answer) = answers.next() else {
        let error = match last {
            Some((ip, e)) => Error::from(e).push_context(format!("{ip} port {PORT}")),
            None => Error::failed("it has no address"),
        };
        return Err(error.push_context(format!("NFS server {}", e.server)).hint(
            "see that it runs an NFS server and that no firewall is between; the Pod starts when \
             it answers",
        ));
    };
    make_dir(at)?;
    let read_only = if e.read_only { ATTR_RDONLY } else { 0 };
    let source = source(e);
    let mut failure = None;
    for options in plan(answer) {
        let options: Vec<(&str, &str)> = options.iter().map(|(k, v)| (*k, v.as_str())).collect();
        match Mount::from("nfs", &source, &options, ATTR_NODEV | read_only) {
            Ok(mount) => return mount.attach(open_dir(at)?.as_fd()),
            // This version is not there, on either side.
            Err(e) if is_of_version(&e) => failure = Some(e),
            Err(e) => return Err(e).with_context(|| format!("mount {source}")),
        }
    }
    let failure = failure.unwrap_or_else(|| Error::failed("no version of NFS fits"));
    Err(failure).with_context(|| format!("mount {source}"))
}

fn is_of_version(e: &Error) -> bool {
    const VERSION: [Errno; 3] = [Errno::EPROTONOSUPPORT, Errno::EINVAL, Errno::ENOTSUP];
    e.errno().is_some_and(|e| VERSION.contains(&e))
}

/// Whether it can be in the source of a mount, where a colon ends it.
pub(crate) fn is_server(text: &str) -> bool {
    let of_name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok() || (!text.is_empty() && text.bytes().all(of_name))
}

fn source(e: Export) -> String {
    let bare = e.server.trim_start_matches('[').trim_end_matches(']');
    match bare.contains(':') {
        true => format!("[{bare}]:{}", e.path),
        false => format!("{bare}:{}", e.path),
    }
}

/// The options of each try, the newest version first, as mount.nfs(8) does it.
fn plan(answer: Answer) -> Vec<Vec<(&'static str, String)>> {
    let proto = match answer.server {
        IpAddr::V4(_) => "tcp",
        IpAddr::V6(_) => "tcp6",
    };
    let common = |version: &str| {
        vec![
            ("vers", version.to_owned()),
            ("proto", proto.to_owned()),
            ("addr", answer.server.to_string()),
        ]
    };
    let mut tries = Vec::new();
    if answer.has_v4 {
        for version in ["4.2", "4.1", "4.0"] {
            let mut options = common(version);
            options.push(("clientaddr", answer.client.to_string()));
            tries.push(options);
        }
    }
    let mut options = common("3");
    options.push(("mountproto", proto.to_owned()));
    options.push(("mountaddr", answer.server.to_string()));
    // Locks of NFS 3 need rpc.statd(8), which this machine may not run.
    options.push(("nolock", String::new()));
    tries.push(options);
    tries
}

/// How long one address may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

fn ask(server: SocketAddr, deadline: Instant) -> std::io::Result<Answer> {
    let deadline = deadline.min(Instant::now() + PATIENCE);
    let has_v4 = match has_version(server, 4, deadline)? {
        (true, client) => {
            return Ok(Answer {
                server: server.ip(),
                client,
                has_v4: true,
            });
        }
        (has, _) => has,
    };
    match has_version(server, 3, deadline)? {
        (true, client) => Ok(Answer {
            server: server.ip(),
            client,
            has_v4,
        }),
        (false, _) => Err(std::io::Error::other("it has neither NFS 4 nor NFS 3")),
    }
}

/// Whether the server has this version of NFS, and this machine's address towards it.
fn has_version(
    server: SocketAddr,
    version: u32,
    deadline: Instant,
) -> std::io::Result<(bool, IpAddr)> {
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(std::io::Error::from(std::io::ErrorKind::TimedOut)),
            false => Ok(left),
        }
    };
    let mut stream = TcpStream::connect_timeout(&server, left()?)?;
    let client = stream.local_addr()?.ip();
    stream.set_write_timeout(Some(left()?))?;
    stream.write_all(&null_call(version))?;
    let mut reply = Vec::new();
    let mut length = None;
    // A byte at a time, from a server that means ill, is no way past the deadline either.
    while length.is_none_or(|n| reply.len() < n) {
        stream.set_read_timeout(Some(left()?))?;
        let mut buffer = [0; 256];
        let n = match stream.read(&mut buffer) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                return Err(std::io::ErrorKind::TimedOut.into());
            }
            Err(e) => return Err(e),
        };
        reply.extend_from_slice(&buffer[..n]);
        if reply.len() >= 4 {
            let head = word(&reply, 0);
            let rest = head & !LAST_FRAGMENT;
            if head == rest || rest > 1024 {
                return Err(no_server());
            }
            length = Some(4 + rest as usize);
        }
    }
    accepted(&reply[4..])
        .map(|has| (has, client))
        .ok_or_else(no_server)
}

fn no_server() -> std::io::Error {
    std::io::Error::other("it answers, but not as an NFS server")
}

/// The bit beside the length of a record (RFC 5531, 11).
const LAST_FRAGMENT: u32 = 1 << 31;
const XID: u32 = 0x6361_726f;

/// A record with the call of procedure 0 of the program NFS (RFC 5531, 9 and 11).
fn null_call(version: u32) -> Vec<u8> {
    const PROGRAM: u32 = 100_003;
    // Transaction, CALL, RPC version, program, version, procedure, no credentials, no verifier.
    let call = [XID, 0, 2, PROGRAM, version, 0, 0, 0, 0, 0];
    let mut bytes = (LAST_FRAGMENT | 40).to_be_bytes().to_vec();
    bytes.extend(call.iter().flat_map(|w| w.to_be_bytes()));
    bytes
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
    four.map_or(0, u32::from_be_bytes)
}

/// Whether the call was accepted; `None` if this is no reply to it.
fn accepted(reply: &[u8]) -> Option<bool> {
    const REPLY: u32 = 1;
    const ACCEPTED: u32 = 0;
    if reply.len() < 24 || word(reply, 0) != XID || word(reply, 4) != REPLY {
        return None;
    }
    let verifier = (word(reply, 16) as usize).checked_next_multiple_of(4)?;
    let status_at = verifier.checked_add(20)?;
    (word(reply, 8) == ACCEPTED && reply.len() >= status_at + 4)
        .then(|| word(reply, status_at) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    /// Serves so many connections on loopback, each with this accept status; `None`: never.
    fn serve(statuses: &'static [Option<u32>]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for status in statuses {
                let (mut stream, _) = listener.accept().unwrap();
                let mut call = [0; 44];
                stream.read_exact(&mut call).unwrap();
                assert_eq!(word(&call, 16), 100_003);
                if let Some(status) = status {
                    let words = [1 << 31 | 24, word(&call, 4), 1, 0, 0, 0, *status];
                    let reply: Vec<u8> = words.iter().flat_map(|w: &u32| w.to_be_bytes()).collect();
                    // In two parts.
                    stream.write_all(&reply[..3]).unwrap();
                    stream.write_all(&reply[3..]).unwrap();
                }
                held.push(stream);
            }
            std::thread::sleep(Duration::from_secs(5));
        });
        address
    }

    #[test]
    fn a_server_says_which_versions_it_has() {
        let has = |statuses| ask(serve(statuses), soon()).map(|a| a.has_v4);
        assert!(has(&[Some(0)]).unwrap());
        // PROG_MISMATCH of 4, and 3 is there.
        assert!(!has(&[Some(2), Some(0)]).unwrap());
        assert!(has(&[Some(2), Some(2)]).is_err());
    }

    #[test]
    fn a_server_that_never_answers_is_given_up() {
        let began = Instant::now();
        let e = ask(serve(&[None]), began + Duration::from_millis(300)).unwrap_err();
        assert_eq!(e.kind(), std::io::ErrorKind::TimedOut);
        assert!(began.elapsed() < Duration::from_secs(4));
    }

    #[test]
    fn replies_are_read_with_care() {
        let reply =
            |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|w| w.to_be_bytes()).collect() };
        assert_eq!(accepted(&reply(&[XID, 1, 0, 0, 0, 0])), Some(true));
        assert_eq!(accepted(&reply(&[XID, 1, 0, 0, 8, 7, 7, 0])), Some(true));
        assert_eq!(accepted(&reply(&[XID, 1, 0, 0, 0, 2, 3, 3])), Some(false));
        for other in [
            &[XID + 1, 1, 0, 0, 0, 0][..],
            &[XID, 0, 0, 0, 0, 0],
            &[XID, 1, 1, 0, 0, 0],
            &[XID, 1, 0, 0, u32::MAX, 0],
            &[XID, 1, 0, 0, 400, 0],
            &[XID],
            &[],
        ] {
            assert_eq!(accepted(&reply(other)), None, "{other:?}");
        }
    }

    #[test]
    fn options_are_those_of_the_kernels_client() {
        let answer = Answer {
            server: "192.0.2.1".parse().unwrap(),
            client: "192.0.2.9".parse().unwrap(),
            has_v4: true,
        };
        let tries = plan(answer);
        assert_eq!(tries.len(), 4);
        let text = |t: &[(&str, String)]| -> String {
            let all: Vec<String> = t.iter().map(|(k, v)| format!("{k}={v}")).collect();
            all.join(",")
        };
        let newest = "vers=4.2,proto=tcp,addr=192.0.2.1,clientaddr=192.0.2.9";
        assert_eq!(text(&tries[0]), newest);
        assert!(text(&tries[3]).starts_with("vers=3,proto=tcp,addr=192.0.2.1,mountproto=tcp"));
        let old = Answer {
            has_v4: false,
            ..answer
        };
        assert_eq!(plan(old).len(), 1);
        let of = |server| {
            source(Export {
                server,
                path: "/a b,c",
                read_only: true,
            })
        };
        assert_eq!(of("nas.example"), "nas.example:/a b,c");
        assert_eq!(of("2001:db8::1"), "[2001:db8::1]:/a b,c");
        assert!(is_server("[2001:db8::1]") && is_server("10.0.0.1") && is_server("nas-1.x"));
        assert!(!is_server("") && !is_server("a:/etc") && !is_server("a b") && !is_server("a/b"));
    }
}
