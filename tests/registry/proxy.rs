//! A proxy before a registry that does to large blobs what networks and bad
//! servers do. One request per connection, all on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Clone)]
pub(crate) enum Vice {
    /// A third of what is left, and the connection ends.
    Cuts,
    /// A third; and what is asked for by a Range is said to be another one.
    LiesInRanges,
    /// None.
    None,
    /// Elsewhere by a redirect.
    Redirects(String),
    /// The first answer byte by byte.
    Trickles,
    /// None, but for an Authorization header of its own upstream.
    Vouches(&'static str),
}

pub(crate) struct Proxy {
    pub address: String,
    /// The heads of requests for blobs, in lower case.
    pub heads: Arc<Mutex<Vec<String>>>,
}

/// Blobs below this are left alone.
const LARGE: usize = 1 << 20;

impl Proxy {
    pub(crate) fn start(upstream: u16, vice: Vice) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = heads.clone();
        let large: Arc<AtomicUsize> = Arc::default();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (vice, log, large) = (vice.clone(), log.clone(), large.clone());
                // Who hangs up early is no fault of the proxy's.
                std::thread::spawn(move || serve(stream, upstream, &vice, &log, &large).ok());
            }
        });
        Proxy { address, heads }
    }

    /// Forgets the heads, once every connection made so far is served: one of
    /// a client just killed may still wait to be accepted.
    pub(crate) fn forget(&self) {
        let mut last = TcpStream::connect(&self.address).unwrap();
        last.write_all(b"GET /v2/ HTTP/1.0\r\n\r\n").unwrap();
        last.read_to_end(&mut Vec::new()).unwrap();
        // Ours, the listener's, and one for each connection.
        while Arc::strong_count(&self.heads) > 2 {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.heads.lock().unwrap().clear();
    }

    pub(crate) fn seen(&self, text: &str) -> usize {
        let heads = self.heads.lock().unwrap();
        heads.iter().filter(|h| h.contains(text)).count()
    }
}

fn serve(
    mut client: TcpStream,
    upstream: u16,
    vice: &Vice,
    log: &Mutex<Vec<String>>,
    large: &AtomicUsize,
) -> std::io::Result<()> {
    let mut head = String::new();
    for line in BufReader::new(&client).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        head.push_str(&line);
        head.push_str("\r\n");
    }
    let is_blob = head.starts_with("GET") && head.contains("/blobs/");
    if is_blob {
        log.lock().unwrap().push(head.to_ascii_lowercase());
    }
    if let (Vice::Redirects(to), true) = (vice, is_blob) {
        let path = head.split(' ').nth(1).unwrap_or_default();
        return write!(
            client,
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{to}{path}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    if let Vice::Vouches(value) = vice {
        head.push_str(&format!("Authorization: {value}\r\n"));
    }
    let mut server = TcpStream::connect(("127.0.0.1", upstream))?;
    write!(server, "{head}Connection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    let body = answer
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .unwrap_or(0)
        + 4;
    let size = answer.len().saturating_sub(body);
    if !is_blob || size < LARGE {
        return client.write_all(&answer);
    }
    let first = large.fetch_add(1, Ordering::Relaxed) == 0;
    let part = body + size / 3;
    match vice {
        Vice::Cuts => client.write_all(&answer[..part]),
        Vice::LiesInRanges if first => client.write_all(&answer[..part]),
        Vice::LiesInRanges => {
            let text = String::from_utf8_lossy(&answer[..body]).replace("bytes 1", "bytes 2");
            client.write_all(text.as_bytes())?;
            client.write_all(&answer[body..])
        }
        Vice::Trickles if first => {
            client.write_all(&answer[..body])?;
            for byte in &answer[body..] {
                client.write_all(&[*byte])?;
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        }
        _ => client.write_all(&answer),
    }
}
