//! Host names to addresses: literals, `localhost`, /etc/hosts, then DNS over
//! UDP (RFC 1035) as /etc/resolv.conf says (resolv.conf(5)).
//!
//! Ours because the programs are static: getaddrinfo(3) of a static glibc loads
//! NSS modules of the very version that it was built with, or fails. A stub is
//! all that a registry client or a probe needs: no cache, no TCP, no DNSSEC; a truncated
//! answer's addresses are used as far as they came.

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::Ignored;
use crate::image::registry::refusal::io_text;

/// As resolv.conf(5): MAXNS, and the bounds of its options.
const MAX_SERVERS: usize = 3;
const MAX_SEARCH: usize = 6;
const MAX_ADDRESSES: usize = 16;
const MAX_FILE: u64 = 1 << 20;

/// What ureq asks.
#[derive(Debug)]
pub(crate) struct Stub;

impl Resolver for Stub {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri
            .host()
            .ok_or_else(|| ureq::Error::BadUri(uri.to_string()))?;
        let port = uri.port_u16().unwrap_or(match uri.scheme_str() {
            Some("http") => 80,
            _ => 443,
        });
        let patience = (*timeout.after).min(Duration::from_secs(30));
        let mut result = self.empty();
        for ip in HostNames::read().lookup(host, Instant::now() + patience)? {
            result.push(SocketAddr::new(ip, port));
        }
        Ok(result)
    }
}

/// What the machine's files say of names. To ask name servers then needs no file.
#[derive(Debug)]
pub(crate) struct HostNames {
    /// Of /etc/hosts.
    hosts: String,
    settings: Settings,
}

impl HostNames {
    fn read() -> Self {
        Self::with_servers(&read("/etc/resolv.conf"))
    }

    /// `servers`: a resolv.conf(5) in the place of the machine's.
    pub(crate) fn with_servers(servers: &str) -> Self {
        HostNames {
            hosts: read("/etc/hosts"),
            settings: Settings::parse(servers),
        }
    }

    /// The addresses of `host`, at least one, at most sixteen, IPv4 first: a
    /// machine without an IPv6 route is more common than one without IPv4.
    pub(crate) fn lookup(&self, host: &str, deadline: Instant) -> io::Result<Vec<IpAddr>> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse() {
            return Ok(vec![ip]);
        }
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        if name == "localhost" || name.ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let hosts = in_hosts(&self.hosts, &name);
        if !hosts.is_empty() {
            return Ok(hosts);
        }
        let mut last = None;
        for candidate in self.settings.candidates(host) {
            match self.settings.query(&candidate, deadline) {
                Ok(mut found) if !found.is_empty() => {
                    found.sort_by_key(IpAddr::is_ipv6);
                    found.truncate(MAX_ADDRESSES);
                    return Ok(found);
                }
                Ok(_) => {}
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("the host {name} is not known to DNS"),
            )
        }))
    }
}

fn read(path: &str) -> String {
    let mut text = Vec::new();
    File::open(path)
        .and_then(|f| f.take(MAX_FILE).read_to_end(&mut text))
        .ignored("a missing file is an empty one, as resolv.conf(5) has it");
    String::from_utf8_lossy(&text).into_owned()
}

fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line
            .split('#')
            .next()
            .unwrap_or("")
            .split_ascii_whitespace();
        if let Some(Ok(ip)) = words.next().map(str::parse)
            && words.any(|w| w.eq_ignore_ascii_case(name))
            && found.len() < MAX_ADDRESSES
        {
            found.push(ip);
        }
    }
    found
}

#[derive(Debug, PartialEq, Eq)]
struct Settings {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    timeout: Duration,
    attempts: u32,
}

impl Settings {
    fn parse(text: &str) -> Self {
        let mut s = Settings {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if s.servers.len() < MAX_SERVERS => {
                    // A zone (fe80::1%eth0) needs an interface's index: left out.
                    if let Some(Ok(ip)) = words.next().map(str::parse::<IpAddr>) {
                        s.servers.push(SocketAddr::new(ip, 53));
                    }
                }
                Some("search" | "domain") => {
                    s.search = words.take(MAX_SEARCH).map(str::to_owned).collect();
                }
                Some("options") => {
                    for (key, value) in words.filter_map(|w| w.split_once(':')) {
                        let Ok(n) = value.parse::<u32>() else {
                            continue;
                        };
                        match key {
                            "ndots" => s.ndots = n.min(15) as usize,
                            "timeout" => s.timeout = Duration::from_secs(n.clamp(1, 30).into()),
                            "attempts" => s.attempts = n.clamp(1, 5),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        if s.servers.is_empty() {
            s.servers.push((Ipv4Addr::LOCALHOST, 53).into());
        }
        s
    }

    /// The names to ask for, in resolv.conf(5)'s order.
    fn candidates(&self, host: &str) -> Vec<String> {
        if let Some(absolute) = host.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let mut names: Vec<String> = self
            .search
            .iter()
            .map(|s| format!("{host}.{}", s.trim_matches('.')))
            .collect();
        let dots = host.matches('.').count();
        names.insert(
            if dots >= self.ndots { 0 } else { names.len() },
            host.to_owned(),
        );
        names
    }

    /// Empty if the name does not exist, or has no address.
    fn query(&self, name: &str, deadline: Instant) -> io::Result<Vec<IpAddr>> {
        let mut last = None;
        for _ in 0..self.attempts {
            for server in &self.servers {
                let until = deadline.min(Instant::now() + self.timeout);
                match ask(*server, name, until) {
                    Ok(found) => return Ok(found),
                    Err(e) => {
                        last = Some(io::Error::new(
                            e.kind(),
                            format!(
                                "look up {name} at the name server {}: {}",
                                server.ip(),
                                io_text(&e)
                            ),
                        ));
                    }
                }
                if Instant::now() >= deadline {
                    break;
                }
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::TimedOut.into()))
    }
}

const TYPES: [u16; 2] = [1, 28]; // A, AAAA

/// Asks one server for both types at once, on a socket of its own: a random
/// port and a random id each are what a stub has against forgers.
fn ask(server: SocketAddr, name: &str, until: Instant) -> io::Result<Vec<IpAddr>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    let mut random = [0u8; 4];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut random)
        .map_err(|_| io::Error::other("no random numbers"))?;
    let ids = [
        u16::from_be_bytes([random[0], random[1]]),
        u16::from_be_bytes([random[2], random[3]]),
    ];
    for (id, kind) in ids.iter().zip(TYPES) {
        socket.send(&question(*id, name, kind)?)?;
    }
    let mut open = [true; 2];
    let mut found = Vec::new();
    let mut buffer = [0u8; 4096];
    while open.contains(&true) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            // One family is enough; some servers drop the other's questions.
            if found.is_empty() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"));
            }
            break;
        }
        socket.set_read_timeout(Some(left))?;
        let n = match socket.recv(&mut buffer) {
            Ok(n) => n,
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                continue;
            }
            Err(e) => return Err(e),
        };
        for i in 0..2 {
            let asked = question(ids[i], name, TYPES[i])?;
            if open[i] && answers(&buffer[..n], &asked) {
                open[i] = false;
                found.extend(addresses(&buffer[..n], asked.len())?);
            }
        }
    }
    Ok(found)
}

fn question(id: u16, name: &str, kind: u16) -> io::Result<Vec<u8>> {
    let mut q = id.to_be_bytes().to_vec();
    q.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]); // recursion desired, one question
    for label in name.split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|n| (1..64).contains(n))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a host name"))?;
        q.push(length);
        q.extend_from_slice(label.as_bytes());
    }
    q.push(0);
    q.extend_from_slice(&kind.to_be_bytes());
    q.extend_from_slice(&[0, 1]); // IN
    Ok(q)
}

/// Whether a packet answers what was asked: same id, a response, same question.
fn answers(packet: &[u8], asked: &[u8]) -> bool {
    packet.len() >= asked.len()
        && packet[..2] == asked[..2]
        && packet[2] & 0x80 != 0
        && packet[4..6] == asked[4..6]
        && packet[12..asked.len()].eq_ignore_ascii_case(&asked[12..])
}

/// All A and AAAA records of the answer section; the aliases that lead to them
/// are the recursive server's business.
fn addresses(packet: &[u8], questions_end: usize) -> io::Result<Vec<IpAddr>> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "a malformed answer");
    match packet[3] & 0x0f {
        0 => {}
        3 => return Ok(Vec::new()), // NXDOMAIN
        2 => return Err(io::Error::other("SERVFAIL")),
        5 => return Err(io::Error::other("REFUSED")),
        code => return Err(io::Error::other(format!("response code {code}"))),
    }
    let count = u16::from_be_bytes([packet[6], packet[7]]);
    let mut found = Vec::new();
    let mut at = questions_end;
    for _ in 0..count {
        // The owner's name: labels up to a zero or a pointer; never followed.
        loop {
            match packet.get(at) {
                Some(0) => break at += 1,
                Some(n) if n & 0xc0 == 0xc0 => break at += 2,
                Some(n) if n & 0xc0 == 0 => at += 1 + usize::from(*n),
                _ => return Err(bad()),
            }
        }
        let Some(fixed) = packet.get(at..at + 10) else {
            break; // truncated
        };
        let kind = u16::from_be_bytes([fixed[0], fixed[1]]);
        let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        let Some(data) = packet.get(at + 10..at + 10 + length) else {
            break;
        };
        match kind {
            1 => found.push(<[u8; 4]>::try_from(data).map_err(|_| bad())?.into()),
            28 => found.push(<[u8; 16]>::try_from(data).map_err(|_| bad())?.into()),
            _ => {}
        }
        at += 10 + length;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_as_their_man_pages_say() {
        let hosts = "127.0.0.1 localhost\n# 1.2.3.4 x\n10.0.0.1 a.example A # b\nbad a\n::5 a\n";
        assert_eq!(
            in_hosts(hosts, "a"),
            [
                "10.0.0.1".parse::<IpAddr>().unwrap(),
                "::5".parse().unwrap()
            ]
        );
        assert!(in_hosts(hosts, "b").is_empty() && in_hosts(hosts, "x").is_empty());
        let s = Settings::parse(
            "nameserver 10.0.0.53\nnameserver ::1\nsearch one two.\noptions ndots:2 timeout:1 edns0\n",
        );
        assert_eq!(s.servers.len(), 2);
        assert_eq!(s.candidates("a.b"), ["a.b.one", "a.b.two", "a.b"]);
        assert_eq!(s.candidates("a.b.c"), ["a.b.c", "a.b.c.one", "a.b.c.two"]);
        assert_eq!(s.candidates("a."), ["a"]);
        assert_eq!(
            Settings::parse("").servers,
            ["127.0.0.1:53".parse().unwrap()]
        );
    }

    /// A name server on loopback that answers each question with `make`.
    fn serve(questions: usize, make: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            for _ in 0..questions {
                let (n, from) = socket.recv_from(&mut buffer).unwrap();
                socket.send_to(b"noise", from).unwrap();
                let mut forged = make(&buffer[..n]);
                forged[0] ^= 1;
                socket.send_to(&forged, from).unwrap();
                socket.send_to(&make(&buffer[..n]), from).unwrap();
            }
        });
        address
    }

    fn answer(q: &[u8], code: u8, records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut a = q.to_vec();
        (a[2], a[3], a[7]) = (0x81, 0x80 | code, records.len() as u8);
        for (kind, data) in records {
            a.extend_from_slice(&[0xc0, 12]);
            a.extend_from_slice(&kind.to_be_bytes());
            a.extend_from_slice(&[0, 1, 0, 0, 0, 9, 0, data.len() as u8]);
            a.extend_from_slice(data);
        }
        a
    }

    #[test]
    fn asks_for_both_families() {
        let soon = Instant::now() + Duration::from_secs(5);
        let server = serve(2, |q| {
            let kind = q[q.len() - 3];
            if kind == 1 {
                answer(q, 0, &[(5, b"\x01x\x00"), (1, &[10, 1, 2, 3])])
            } else {
                answer(q, 0, &[(28, &[0; 16])])
            }
        });
        let mut found = ask(server, "reg.example", soon).unwrap();
        found.sort();
        assert_eq!(
            found,
            ["10.1.2.3".parse::<IpAddr>().unwrap(), "::".parse().unwrap()]
        );
        assert_eq!(
            ask(serve(2, |q| answer(q, 3, &[])), "no.example", soon).unwrap(),
            [] as [IpAddr; 0]
        );
        assert!(ask(serve(2, |q| answer(q, 2, &[])), "sick.example", soon).is_err());
        assert!(
            ask(
                serve(2, |q| answer(q, 0, &[(1, &[1])])),
                "bad.example",
                soon
            )
            .is_err()
        );
    }

    #[test]
    fn gives_up_in_time() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let start = Instant::now();
        let e = ask(
            silent.local_addr().unwrap(),
            "a.b",
            start + Duration::from_millis(100),
        );
        assert_eq!(e.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() < Duration::from_secs(3));
        assert!(question(1, &"a".repeat(64), 1).is_err());
        assert!(question(1, "a..b", 1).is_err());
    }
}
