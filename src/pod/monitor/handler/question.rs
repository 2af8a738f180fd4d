//! The requests that a child process sends for a probe or hook: connections by name, TLS,
//! HTTP/2, gRPC. The child blocks until the answer; the monitor kills it at the timeout.
//!
//! Certificates are not verified, as in a kubelet: the question is whether the container
//! answers, and a container's own certificate names nothing that a probe could compare.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::exchange::Outcome;
use super::http2::{self, Connection};
use super::{grpc, http};
use crate::image::{HostNames, unverified_tls};
use crate::pod::monitor::sandbox::resolver;
use crate::spec::{Host, HttpGet, HttpVersion};
use crate::{Error, Ignored, Result};

#[derive(Clone, Debug)]
pub(super) struct Question {
    pub host: Host,
    pub port: u16,
    pub wanted: Wanted,
}

#[derive(Clone, Debug)]
pub(super) enum Wanted {
    Connection,
    Get(HttpGet),
    /// Of gRPC's health checking protocol.
    Health {
        service: String,
        tls: bool,
    },
}

/// A question with all that it needs files for.
pub(super) struct Asker {
    question: Question,
    hosts: Option<HostNames>,
    tls: Option<Arc<ClientConfig>>,
    patience: Duration,
}

/// In the place of an error: why there is no answer.
type Asked<T> = std::result::Result<T, Outcome>;

trait Stream: Read + Write {
    /// Says that nothing more follows, as far as the protocol has a word for it: some servers
    /// log a connection that ends without.
    fn farewell(&mut self) {}
}

impl Stream for TcpStream {}

impl Stream for StreamOwned<ClientConnection, TcpStream> {
    fn farewell(&mut self) {
        self.conn.send_close_notify();
        self.flush().ignored("the server may have gone");
    }
}

impl Asker {
    /// `patience`: how long all addresses of a host together may take to accept.
    /// `own_network`: the Pod has a network namespace of its own.
    pub(super) fn prepare(
        question: Question,
        patience: Duration,
        own_network: bool,
    ) -> Result<Self> {
        let protocol = match &question.wanted {
            Wanted::Get(get) if get.version == HttpVersion::Https => Some("http/1.1"),
            Wanted::Health { tls: true, .. } => Some("h2"),
            _ => None,
        };
        Ok(Asker {
            hosts: match question.host {
                Host::Ip(_) => None,
                Host::Name(_) => {
                    let servers = resolver::of_host(own_network).text;
                    Some(HostNames::with_servers(&servers))
                }
            },
            tls: protocol.map(unverified_tls).transpose()?,
            question,
            patience,
        })
    }

    pub(super) fn ask(&self) -> Outcome {
        match &self.question.wanted {
            Wanted::Connection => self.connect().map(|_| Outcome::Success),
            Wanted::Get(get) => self.get(get),
            Wanted::Health { service, tls } => self.health(service, *tls),
        }
        // Why there is none is an outcome as well.
        .unwrap_or_else(|why| why)
    }

    /// Host and port, as in a URL.
    fn address(&self) -> String {
        format!("{}:{}", self.question.host.in_url(), self.question.port)
    }

    fn get(&self, get: &HttpGet) -> Asked<Outcome> {
        let address = self.address();
        let fields = http::fields(get, &address);
        let host = fields.iter().find(|(name, _)| name == "Host");
        let host = host.map_or(address.as_str(), |(_, value)| value);
        if get.version == HttpVersion::Http2 {
            let mut stream = self.connect()?;
            let request = http2::Request {
                method: "GET",
                scheme: "http",
                authority: host,
                path: &get.path,
                fields: &fields,
                body: &[],
            };
            let answer = self.exchange_http2(&mut stream, &request)?;
            return Ok(Outcome::Answered {
                status: answer.status,
                location: answer.field("location").map(str::to_owned),
            });
        }
        let mut stream = self.open(host)?;
        let outcome = self.exchange_http(stream.as_mut(), &http::request(get, &address))?;
        stream.farewell();
        Ok(outcome)
    }

    fn health(&self, service: &str, tls: bool) -> Asked<Outcome> {
        let message = grpc::message(service)
            .ok_or_else(|| Outcome::Failed("the service's name is too long".to_owned()))?;
        let (address, fields) = (self.address(), grpc::fields());
        let mut stream = self.open(&address)?;
        let request = grpc::request(tls, &address, &fields, &message);
        let answer = self.exchange_http2(stream.as_mut(), &request)?;
        stream.farewell();
        grpc::verdict(&answer)?;
        Ok(Outcome::Success)
    }

    /// A connection, in TLS where that is wanted; `host` as in a `Host` field.
    fn open(&self, host: &str) -> Asked<Box<dyn Stream>> {
        let mut sock = self.connect()?;
        let Some(config) = &self.tls else {
            return Ok(Box::new(sock));
        };
        let name = server_name(host, &self.question.host, sock.peer_addr().ok());
        let mut conn = ClientConnection::new(Arc::clone(config), name)
            .map_err(|e| format!("{}: TLS: {e}", self.address()))?;
        while conn.is_handshaking() {
            if let Err(e) = conn.complete_io(&mut sock) {
                let why = format!("{}: TLS handshake: {}", self.address(), tls_text(&e));
                return Err(match tls_error(&e) {
                    Some(rustls::Error::InvalidMessage(_)) => Outcome::NotTls(why),
                    _ => Outcome::Failed(why),
                });
            }
        }
        Ok(Box::new(StreamOwned::new(conn, sock)))
    }

    /// To the first address that accepts.
    fn connect(&self) -> Asked<TcpStream> {
        let deadline = Instant::now() + self.patience;
        let ips = match &self.question.host {
            Host::Ip(ip) => vec![*ip],
            Host::Name(name) => self.lookup(name, deadline)?,
        };
        let mut first = None;
        for (i, ip) in ips.iter().enumerate() {
            let to = SocketAddr::new(*ip, self.question.port);
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(ips.len() - i).unwrap_or(1);
            match TcpStream::connect_timeout(&to, share.max(Duration::from_millis(1))) {
                Ok(stream) => return Ok(stream),
                Err(e) => {
                    let why = || io_error("connect", &to.to_string(), &e);
                    first.get_or_insert_with(why);
                }
            }
        }
        Err(first.unwrap_or_default().into())
    }

    fn lookup(&self, name: &str, deadline: Instant) -> Asked<Vec<IpAddr>> {
        let found = self.hosts.as_ref().map(|h| h.lookup(name, deadline));
        let found = found.unwrap_or_else(|| Ok(Vec::new()));
        Ok(found.map_err(|e| e.to_string())?)
    }

    fn exchange_http(&self, stream: &mut dyn Stream, request: &[u8]) -> Asked<Outcome> {
        self.send(stream, request)?;
        let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let n = match stream.read(&mut buffer) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                // Closed without TLS's own farewell, which many servers leave out.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => 0,
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset && !answer.is_empty() => 0,
                Err(e) => return Err(io_error("recv", &self.address(), &e).into()),
            };
            answer.extend_from_slice(&buffer[..n]);
            match http::read(&answer, n == 0) {
                http::Answer::Part => {}
                http::Answer::Whole { status, location } => {
                    return Ok(Outcome::Answered { status, location });
                }
                http::Answer::Broken(why) => {
                    return Err(format!("{}: {why}", self.address()).into());
                }
            }
        }
    }

    fn exchange_http2(
        &self,
        stream: &mut dyn Stream,
        request: &http2::Request,
    ) -> Asked<http2::Answer> {
        let mut connection = Connection::new(request);
        let mut buffer = [0; 4096];
        loop {
            self.send(stream, &connection.take_to_send())?;
            let n = match stream.read(&mut buffer) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => 0,
                Err(e) => return Err(io_error("recv", &self.address(), &e).into()),
            };
            if n == 0 {
                let address = self.address();
                let why = format!("{address}: the connection was closed before the answer");
                return Err(why.into());
            }
            let received = connection.receive(&buffer[..n]);
            let received = received.map_err(|e| format!("{}: {e}", self.address()))?;
            if let Some(answer) = received {
                return Ok(answer);
            }
        }
    }

    fn send(&self, stream: &mut dyn Stream, bytes: &[u8]) -> Asked<()> {
        match stream.write_all(bytes).and_then(|()| stream.flush()) {
            // An answer may have come before the request was read.
            Err(e)
                if !matches!(
                    e.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                Err(io_error("send", &self.address(), &e).into())
            }
            _ => Ok(()),
        }
    }
}

/// The name that a server may choose its certificate by (SNI): of the `Host` field, else of
/// the host. A client sends no address for one.
fn server_name(field: &str, host: &Host, peer: Option<SocketAddr>) -> ServerName<'static> {
    let name = match field.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => field,
    };
    let named = |name: &str| match ServerName::try_from(name.to_owned()) {
        Ok(ServerName::DnsName(name)) => Some(ServerName::DnsName(name)),
        _ => None,
    };
    let of_host = || match host {
        Host::Name(name) => named(name),
        Host::Ip(_) => None,
    };
    let ip = || match (host, peer) {
        (Host::Ip(ip), _) => *ip,
        (_, peer) => peer.map_or(IpAddr::from([0; 4]), |p| p.ip()),
    };
    let name = named(name).or_else(of_host);
    name.unwrap_or_else(|| ServerName::IpAddress(ip().into()))
}

fn io_error(call: &str, to: &str, e: &io::Error) -> String {
    let call = format!("{call}({to})");
    match e.raw_os_error() {
        Some(raw) => Error::sys(call, Errno::from_raw(raw)).to_string(),
        // As the kernel says it of a connection that takes longer than its own bound.
        None if e.kind() == io::ErrorKind::TimedOut => {
            Error::sys(call, Errno::ETIMEDOUT).to_string()
        }
        None => format!("{call}: {}", tls_text(e)),
    }
}

fn tls_error(e: &io::Error) -> Option<&rustls::Error> {
    e.get_ref()?.downcast_ref()
}

fn tls_text(e: &io::Error) -> String {
    match tls_error(e) {
        Some(rustls::Error::InvalidMessage(_)) => "the server does not speak TLS".to_owned(),
        Some(e) => e.to_string(),
        None if e.kind() == io::ErrorKind::UnexpectedEof => "the connection was closed".to_owned(),
        None => Error::from(io::Error::new(e.kind(), e.to_string())).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_servers_are_told() {
        let ip = Host::Ip([10, 0, 0, 2].into());
        let name = Host::Name("Web.example".into());
        for (field, host, told) in [
            ("10.0.0.2:443", &ip, None),
            ("[::1]:443", &ip, None),
            ("shop.example", &ip, Some("shop.example")),
            ("shop.example:8443", &ip, Some("shop.example")),
            ("web.example:443", &name, Some("web.example")),
            ("no name", &name, Some("Web.example")),
            ("no name", &ip, None),
        ] {
            let dns = match server_name(field, host, None) {
                ServerName::DnsName(name) => Some(name.as_ref().to_owned()),
                _ => None,
            };
            assert_eq!(dns.as_deref(), told, "{field}");
        }
    }
}
