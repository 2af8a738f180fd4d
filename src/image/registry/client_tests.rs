//! A registry of scripted answers on loopback: what a real one does too rarely.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::*;

struct Asked {
    path: String,
    headers: Vec<String>,
}

impl Asked {
    fn has(&self, header: &str) -> bool {
        let header = header.to_ascii_lowercase();
        self.headers
            .iter()
            .any(|h| h.to_ascii_lowercase().starts_with(&header))
    }
}

/// Its address, and what it has been asked.
struct Script(String, Arc<Mutex<Vec<Asked>>>);

fn serve(answer: impl Fn(usize, &Asked) -> Vec<u8> + Send + 'static) -> Script {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let log: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let seen = log.clone();
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let mut stream: TcpStream = stream.unwrap();
            let mut lines = BufReader::new(&stream).lines().map_while(io::Result::ok);
            let Some(first) = lines.next() else {
                continue;
            };
            let asked = Asked {
                path: first.split(' ').nth(1).unwrap_or_default().to_owned(),
                headers: lines.take_while(|l| !l.is_empty()).collect(),
            };
            let bytes = answer(n, &asked);
            lock(&seen).push(asked);
            let _ = stream.write_all(&bytes);
        }
    });
    Script(address, log)
}

fn reply(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}

fn registry(script: &Script, options: &PullOptions) -> Registry {
    let endpoint = Endpoint::new(&script.0, "a/b", options.insecure);
    let mut options = options.clone();
    options.patience.first_pause = Duration::from_millis(10);
    Registry::new(endpoint, &script.0, &options, "pull").unwrap()
}

fn credentials() -> PullOptions {
    PullOptions {
        credentials: Some(Credentials {
            username: "u".into(),
            password: "p".into(),
        }),
        ..PullOptions::default()
    }
}

#[test]
fn a_token_is_fetched_once_and_reused() {
    let script = serve(|_, asked| {
        if asked
            .path
            .starts_with("/token?service=s&scope=repository%3Aa%2Fb%3Apull")
        {
            assert!(asked.has("authorization: Basic dTpw"));
            return reply("200 OK", "", r#"{"token":"T"}"#);
        }
        if asked.has("authorization: Bearer T") {
            return reply("200 OK", "Content-Type: x/y\r\n", "manifest");
        }
        let host = asked.headers.iter().find_map(|h| {
            h.to_ascii_lowercase()
                .strip_prefix("host: ")
                .map(str::to_owned)
        });
        let challenge = format!(
            "WWW-Authenticate: Bearer realm=\"http://{}/token\",service=\"s\"\r\n",
            host.unwrap()
        );
        reply("401 Unauthorized", &challenge, "")
    });
    let r = registry(&script, &credentials());
    let (bytes, media_type) = r.manifest("t", "x/y", 100).unwrap();
    assert_eq!(
        (bytes.as_slice(), media_type.as_str()),
        (&b"manifest"[..], "x/y")
    );
    r.manifest("t", "x/y", 100).unwrap();
    let paths: Vec<String> = lock(&script.1).iter().map(|a| a.path.clone()).collect();
    assert_eq!(paths.len(), 4, "{paths:?}");
    assert!(
        r.manifest("t", "x/y", 7)
            .unwrap_err()
            .to_string()
            .contains("manifest-size=7")
    );
}

#[test]
fn credentials_do_not_follow_redirects() {
    let other = serve(|_, asked| {
        assert!(!asked.has("authorization"));
        reply("200 OK", "", "blob")
    });
    let to = other.0.clone();
    let script = serve(move |_, asked| {
        if !asked.has("authorization: Basic dTpw") {
            return reply(
                "401 Unauthorized",
                "WWW-Authenticate: Basic realm=\"r\"\r\n",
                "",
            );
        }
        if asked.path.ends_with("/here") {
            return reply("200 OK", "", "here");
        }
        if asked.path.contains("manifests") {
            return reply("307 Temporary Redirect", "Location: /here\r\n", "");
        }
        reply(
            "307 Temporary Redirect",
            &format!("Location: http://{to}/x?y#z\r\n"),
            "",
        )
    });
    let r = registry(&script, &credentials());
    assert_eq!(r.small_blob(&Digest::of(b""), 10).unwrap(), b"blob");
    assert_eq!(lock(&other.1)[0].path, "/x?y");
    assert_eq!(r.manifest("t", "", 10).unwrap().0, b"here");
}

#[test]
fn redirects_end() {
    for location in ["/again", "file:///etc/passwd", "http://a@b/", ""] {
        let script =
            serve(move |_, _| reply("302 Found", &format!("Location: {location}\r\n"), ""));
        registry(&script, &PullOptions::default())
            .manifest("t", "", 9)
            .unwrap_err();
        assert!(lock(&script.1).len() <= MAX_REDIRECTS + 1);
    }
}

#[test]
fn what_may_pass_is_tried_again() {
    let script = serve(|n, _| match n {
        0 => reply("503 Service Unavailable", "Retry-After: 0\r\n", ""),
        1 => b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\ncut".to_vec(),
        _ => reply("200 OK", "", "good"),
    });
    assert_eq!(
        registry(&script, &PullOptions::default())
            .manifest("t", "", 9)
            .unwrap()
            .0,
        b"good"
    );
    let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest\u0007 unknown"}]}"#;
    let script = serve(move |_, _| reply("404 Not Found", "", body));
    let e = registry(&script, &PullOptions::default())
        .manifest("t", "", 9)
        .unwrap_err();
    let text = e.to_string();
    assert!(
        text.ends_with("404 Not Found: manifest unknown (MANIFEST_UNKNOWN)"),
        "{text}"
    );
    assert_eq!((e.kind(), lock(&script.1).len()), (Kind::Image, 1));
    assert!(e.get_hint().is_some());
}

#[test]
fn a_cut_blob_goes_on() {
    let content = "0123456789".repeat(100);
    for ranges in [true, false] {
        let data = content.clone();
        let script = serve(move |n, asked| {
            let range = asked.headers.iter().find_map(|h| {
                let h = h.to_ascii_lowercase();
                h.strip_prefix("range: bytes=")?
                    .trim_end_matches('-')
                    .parse::<usize>()
                    .ok()
            });
            let from = range.filter(|_| ranges).unwrap_or(0);
            let status = if from > 0 {
                "206 Partial Content"
            } else {
                "200 OK"
            };
            let mut all = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Range: bytes {from}-999/1000\r\n\r\n",
                data.len() - from
            );
            let part = if n < 2 {
                from + 300 * (n + 1)
            } else {
                data.len()
            };
            all.push_str(&data[from..part.min(data.len())]);
            all.into_bytes()
        });
        let r = registry(&script, &PullOptions::default());
        let mut got = String::new();
        r.blob(&Digest::of(b""), 1000, 0)
            .unwrap()
            .read_to_string(&mut got)
            .unwrap();
        assert_eq!(got, content, "ranges: {ranges}");
    }
}

#[test]
fn lies_about_sizes_and_ranges() {
    let script = serve(|_, _| reply("200 OK", "", "123"));
    let r = registry(&script, &PullOptions::default());
    let e = r.blob(&Digest::of(b""), 4, 0).err().unwrap().to_string();
    assert!(e.contains("3 bytes, not 4"), "{e}");
    // A wrong range is not used; the blob is then asked for whole.
    for lie in ["bytes 0-3/4", "bytes 2-3/5", "bytes 2-9/4", "2-3", ""] {
        let script = serve(move |n, asked| match n {
            0 => b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n12".to_vec(),
            _ if asked.has("range: bytes=2-") => reply(
                "206 Partial Content",
                &format!("Content-Range: {lie}\r\n"),
                "xx",
            ),
            _ => reply("200 OK", "", "1234"),
        });
        let r = registry(&script, &PullOptions::default());
        let mut got = String::new();
        let mut blob = r.blob(&Digest::of(b""), 4, 0).unwrap();
        blob.read_to_string(&mut got).unwrap();
        assert_eq!((&*got, lock(&script.1).len()), ("1234", 3), "{lie}");
    }
    // Nor one that was not asked for.
    let script = serve(|n, _| match n {
        0 => b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n12".to_vec(),
        _ => reply(
            "206 Partial Content",
            "Content-Range: bytes 0-3/4\r\n",
            "1234",
        ),
    });
    let r = registry(&script, &PullOptions::default());
    let mut blob = r.blob(&Digest::of(b""), 4, 0).unwrap();
    let e = blob.read_to_end(&mut Vec::new()).unwrap_err().to_string();
    assert!(e.contains("after 2 of 4 bytes"), "{e}");
}

#[test]
fn a_part_that_is_here_is_not_asked_for() {
    let script = serve(|_, asked| {
        assert!(asked.has("range: bytes=2-"));
        reply(
            "206 Partial Content",
            "Content-Range: bytes 2-3/4\r\n",
            "34",
        )
    });
    let r = registry(&script, &PullOptions::default());
    let mut got = String::new();
    let mut blob = r.blob(&Digest::of(b""), 4, 2).unwrap();
    blob.read_to_string(&mut got).unwrap();
    assert_eq!(got, "34");
}

#[test]
fn a_trickle_is_cut() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(&stream).lines().map_while(io::Result::ok);
            let from = lines
                .by_ref()
                .take_while(|l| !l.is_empty())
                .find_map(|l| {
                    l.to_ascii_lowercase()
                        .strip_prefix("range: bytes=")?
                        .strip_suffix('-')?
                        .parse::<usize>()
                        .ok()
                })
                .unwrap_or(0);
            let status = if from > 0 {
                "206 Partial Content"
            } else {
                "200 OK"
            };
            let left = 1000 - from;
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {left}\r\nContent-Range: bytes {from}-999/1000\r\n\r\n"
            );
            for _ in 0..left {
                if n == 0 {
                    std::thread::sleep(Duration::from_millis(20));
                }
                if stream.write_all(b"x").is_err() {
                    break;
                }
            }
        }
    });
    let endpoint = Endpoint::new(&address, "a/b", None);
    let mut options = PullOptions::default();
    options.patience.first_pause = Duration::from_millis(10);
    options.patience.silence = Duration::from_millis(200);
    let r = Registry::new(endpoint, &address, &options, "pull").unwrap();
    let mut got = Vec::new();
    let began = std::time::Instant::now();
    let mut blob = r.blob(&Digest::of(b""), 1000, 0).unwrap();
    blob.read_to_end(&mut got).unwrap();
    assert_eq!(got, [b'x'; 1000]);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn token_servers_are_no_less_safe_than_their_registry() {
    let script = serve(|_, _| {
        reply(
            "401 Unauthorized",
            "WWW-Authenticate: Bearer realm=\"http://token.example/x\"\r\n",
            "",
        )
    });
    let r = registry(&script, &credentials());
    let e = r.manifest("t", "", 9).unwrap_err().to_string();
    assert!(e.contains("http://token.example:80 is not HTTPS"), "{e}");
    assert!(
        r.check_realm("https://r.example/v2/", "http://127.0.0.1/t")
            .is_err()
    );
    assert!(
        r.check_realm("https://r.example/v2/", "http://r.example/t")
            .is_err()
    );
    assert!(
        r.check_realm("https://r.example/v2/", "https://other.example/t")
            .is_ok()
    );
    assert!(
        r.check_realm("http://localhost:1/v2/", "http://localhost:2/t")
            .is_ok()
    );
}

#[test]
fn a_refresh_token_is_traded() {
    let script = serve(|_, asked| {
        if asked.path == "/token" {
            assert!(asked.has("content-type: application/x-www-form-urlencoded"));
            return reply("200 OK", "", r#"{"access_token":"abc"}"#);
        }
        if asked.has("authorization: Bearer abc") {
            return reply("200 OK", "", "m");
        }
        let host = asked
            .headers
            .iter()
            .find_map(|h| h.strip_prefix("host: ").or(h.strip_prefix("Host: ")));
        let realm = format!(
            "WWW-Authenticate: Bearer realm=\"http://{}/token\"\r\n",
            host.unwrap()
        );
        reply("401 Unauthorized", &realm, "")
    });
    let mut options = credentials();
    options.credentials.as_mut().unwrap().username = IDENTITY.to_owned();
    let r = registry(&script, &options);
    assert_eq!(r.manifest("t", "", 9).unwrap().0, b"m");
}

#[test]
fn plain_http_only_where_it_may_be() {
    let script = serve(|_, _| reply("200 OK", "", ""));
    let strict = PullOptions {
        insecure: Some(false),
        ..PullOptions::default()
    };
    registry(&script, &strict).manifest("t", "", 9).unwrap_err();
    let lax = PullOptions {
        insecure: Some(true),
        ..PullOptions::default()
    };
    registry(&script, &lax).manifest("t", "", 9).unwrap();
    for (host, loopback) in [
        ("localhost", true),
        ("localhost:5000", true),
        ("127.3.2.1:80", true),
        ("[::1]:5000", true),
        ("localhost.example", false),
        ("128.0.0.1", false),
        ("[::2]", false),
        ("127.example", false),
    ] {
        assert_eq!(is_loopback(host), loopback, "{host}");
    }
}

/// Asks for credentials by a token server of its choice, which notes what it is sent.
fn thief() -> (Script, Script) {
    let tokens = serve(|_, _| reply("200 OK", "", r#"{"token":"T"}"#));
    let realm = format!("http://{}/token", tokens.0);
    let asks = serve(move |n, _| {
        // By either scheme.
        let challenge = match n % 2 {
            0 => format!("WWW-Authenticate: Bearer realm=\"{realm}\"\r\n"),
            _ => "WWW-Authenticate: Basic realm=\"r\"\r\n".to_owned(),
        };
        reply("401 Unauthorized", &challenge, "")
    });
    (asks, tokens)
}

fn got_nothing((asks, tokens): &(Script, Script), times: usize) {
    let asked = lock(&asks.1);
    assert_eq!(asked.len(), times);
    assert!(asked.iter().all(|a| !a.has("authorization")));
    assert!(lock(&tokens.1).is_empty(), "asked for a token");
}

/// CVE-2020-15157 was this, by the URL of a foreign layer.
#[test]
fn where_a_redirect_leads_no_token_is_asked_for() {
    let thief = thief();
    let to = thief.0.0.clone();
    let script = serve(move |_, _| {
        let location = format!("Location: http://{to}/x\r\n");
        reply("307 Temporary Redirect", &location, "")
    });
    let r = registry(&script, &credentials());
    for _ in 0..2 {
        let e = r.small_blob(&Digest::of(b""), 10).unwrap_err().to_string();
        assert!(e.contains("asks for credentials, and gets none"), "{e}");
    }
    got_nothing(&thief, 2);
}

struct One(Vec<u8>);

impl crate::image::Blobs for One {
    fn open_blob(&self, digest: &Digest) -> Result<Option<(Box<dyn Read + '_>, u64)>> {
        let ours = *digest == Digest::of(&self.0);
        Ok(ours.then(|| (Box::new(&self.0[..]) as Box<dyn Read>, self.0.len() as u64)))
    }
}

/// Pushes an image whose layer is `layer`, and its config too.
fn push_to(script: &Script, layer: Vec<u8>, options: &PullOptions) -> Result<Digest> {
    let descriptor = |media_type: &str| {
        serde_json::json!({
            "mediaType": format!("application/vnd.oci.image.{media_type}"),
            "digest": Digest::of(&layer), "size": layer.len(),
        })
    };
    let manifest = serde_json::json!({
        "schemaVersion": 2, "config": descriptor("config.v1+json"),
        "layers": [descriptor("layer.v1.tar")],
    });
    let manifest = manifest.to_string();
    let pushed = crate::image::Pushed {
        manifest: manifest.as_bytes(),
        media_type: "",
        origin: None,
    };
    let to = format!("{}/a/b:1", script.0).parse().unwrap();
    crate::image::push(&to, &pushed, &One(layer), options, &mut |_| {})
}

#[test]
fn where_an_upload_is_elsewhere_it_gets_no_credentials() {
    let thief = thief();
    let to = thief.0.0.clone();
    let script = serve(move |_, asked| match &asked.path {
        p if p.ends_with("/blobs/uploads/") && asked.has("authorization: Basic dTpw") => {
            let location = format!("Location: http://{to}/upload?state=1\r\n");
            reply("202 Accepted", &location, "")
        }
        p if p.ends_with("/blobs/uploads/") => {
            let challenge = "WWW-Authenticate: Basic realm=\"r\"\r\n";
            reply("401 Unauthorized", challenge, "")
        }
        _ => reply("404 Not Found", "", ""),
    });
    for _ in 0..2 {
        let e = push_to(&script, b"layer".to_vec(), &credentials()).unwrap_err();
        let e = e.to_string();
        assert!(e.contains("asks for credentials, and gets none"), "{e}");
    }
    got_nothing(&thief, 2);
}

/// Answers with `head`, then with one byte at a time, for longer than anybody waits.
fn trickle(head: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let lines = BufReader::new(&stream).lines().map_while(io::Result::ok);
                lines.take_while(|l| !l.is_empty()).for_each(drop);
                let _ = stream.write_all(head.as_bytes());
                while stream.write_all(b" ").is_ok() {
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        }
    });
    address
}

fn impatient(address: &str) -> Registry {
    let endpoint = Endpoint::new(address, "a/b", None);
    let mut options = PullOptions::default();
    options.patience.first_pause = Duration::from_millis(10);
    options.patience.silence = Duration::from_millis(300);
    options.patience.tries = 2;
    Registry::new(endpoint, address, &options, "pull").unwrap()
}

/// Not of layers alone: a manifest of 4 MiB would take years.
#[test]
fn a_trickle_of_anything_is_cut() {
    let began = std::time::Instant::now();
    let manifest = trickle("HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n");
    let e = impatient(&manifest).manifest("t", "", 4 << 20).unwrap_err();
    assert!(e.to_string().contains("too slow"), "{e}");
    let config = trickle("HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n");
    let of = Digest::of(b"");
    let e = impatient(&config).small_blob(&of, 8 << 20).unwrap_err();
    assert!(e.to_string().contains("too slow"), "{e}");
    // What is here is passed over, where the server knows no ranges.
    let passed = trickle("HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n");
    let r = impatient(&passed);
    let e = r.blob(&of, 4_000_000, 3_000_000).err().unwrap();
    assert!(e.to_string().contains("too slow"), "{e}");
    // The text of an error is not waited for, the error is.
    let refusal = trickle("HTTP/1.1 403 Forbidden\r\nContent-Length: 900000\r\n\r\n");
    let e = impatient(&refusal).manifest("t", "", 9).unwrap_err();
    assert!(e.to_string().contains("403 Forbidden"), "{e}");
    assert!(began.elapsed() < Duration::from_secs(20));
}

/// Neither a byte of the body nor silence.
#[test]
fn trailers_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let lines = BufReader::new(&stream).lines().map_while(io::Result::ok);
                lines.take_while(|l| !l.is_empty()).for_each(drop);
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n";
                let _ = stream.write_all(head.as_bytes());
                while stream.write_all(b"X: y\r\n").is_ok() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        }
    });
    let mut r = impatient(&address);
    r.patience.slowest = 1000;
    let began = std::time::Instant::now();
    r.manifest("t", "", 4 << 20).unwrap_err();
    let mut blob = r.blob(&Digest::of(b""), 2000, 0).unwrap();
    let e = blob.read_to_end(&mut Vec::new()).unwrap_err().to_string();
    assert!(e.contains("after 1 of 2000 bytes"), "{e}");
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn an_upload_that_nobody_reads_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap())
                .lines()
                .map_while(io::Result::ok);
            let first = lines.next().unwrap_or_default();
            lines.take_while(|l| !l.is_empty()).for_each(drop);
            let answer = match first.split(' ').next() {
                Some("HEAD") => reply("404 Not Found", "", ""),
                Some("POST") => reply("202 Accepted", "Location: /v2/here\r\n", ""),
                _ => {
                    held.push(stream);
                    continue;
                }
            };
            let _ = stream.write_all(&answer);
        }
    });
    let mut options = PullOptions::default();
    options.patience.first_pause = Duration::from_millis(10);
    options.patience.silence = Duration::from_millis(500);
    options.patience.tries = 2;
    let began = std::time::Instant::now();
    let script = Script(address, Arc::default());
    let e = push_to(&script, vec![0; 64 << 20], &options).unwrap_err();
    assert!(e.to_string().contains("no answer in time"), "{e}");
    assert!(began.elapsed() < Duration::from_secs(30));
}
