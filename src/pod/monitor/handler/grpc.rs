//! gRPC's health checking protocol: one call of `grpc.health.v1.Health/Check` over HTTP/2,
//! and what its answer means. Bytes in, decisions out; no socket.

use super::http2::{self, Answer, Request};

pub(super) const AGENT: &str = "kube-probe/1.37";

/// The call's message, with gRPC's prefix; `None`: the name is too long to be sent.
pub(super) fn message(service: &str) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    if !service.is_empty() {
        // Field 1, a string: HealthCheckRequest.service.
        text.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            text.push(length as u8 | 0x80);
            length >>= 7;
        }
        text.push(length as u8);
        text.extend_from_slice(service.as_bytes());
    }
    // Not compressed.
    let mut message = vec![0];
    message.extend_from_slice(&u32::try_from(text.len()).ok()?.to_be_bytes());
    message.extend_from_slice(&text);
    (message.len() <= http2::SENT_MOST).then_some(message)
}

pub(super) fn fields() -> Vec<(String, String)> {
    [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", AGENT),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

pub(super) fn request<'a>(
    tls: bool,
    authority: &'a str,
    fields: &'a [(String, String)],
    message: &'a [u8],
) -> Request<'a> {
    Request {
        method: "POST",
        scheme: if tls { "https" } else { "http" },
        authority,
        path: "/grpc.health.v1.Health/Check",
        fields,
        body: message,
    }
}

/// `Ok`: the service is SERVING.
pub(super) fn verdict(answer: &Answer) -> Result<(), String> {
    let kind = answer.field("content-type").unwrap_or_default();
    if answer.status != 200 || !kind.starts_with("application/grpc") {
        let status = answer.status;
        return Err(format!(
            "the server does not speak gRPC: it answered with HTTP status {status}, \
             content-type {kind:?}"
        ));
    }
    let Some(code) = answer.field("grpc-status") else {
        return Err("the answer has no grpc-status".into());
    };
    let message = match answer.field("grpc-message").unwrap_or_default() {
        "" => String::new(),
        message => format!(": {}", decode_message(message)),
    };
    match code {
        "0" => {}
        "12" => {
            return Err(format!(
                "this server does not implement the grpc health protocol \
                 (grpc.health.v1.Health){message}"
            ));
        }
        code => {
            let name = code_name(code);
            return Err(format!("health check ended with {name}{message}"));
        }
    }
    let serving = serving(&answer.body).ok_or("the answer is no HealthCheckResponse")?;
    let name = match serving {
        1 => return Ok(()),
        0 => "UNKNOWN".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        n => n.to_string(),
    };
    // The words are a kubelet's, which people search for.
    Err(format!("service unhealthy (responded with {name:?})"))
}

/// HealthCheckResponse.status of the answer's only message: field 1, a number.
fn serving(body: &[u8]) -> Option<u64> {
    let (prefix, mut rest) = body.split_first_chunk::<5>()?;
    let [compressed, length @ ..] = *prefix;
    if compressed != 0 || rest.len() != u32::from_be_bytes(length) as usize {
        return None;
    }
    let mut status = 0;
    while !rest.is_empty() {
        let tag = number(&mut rest)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => status = number(&mut rest)?,
            (_, 0) => drop(number(&mut rest)?),
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let length = number(&mut rest)?;
                rest = rest.get(usize::try_from(length).ok()?..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

/// A number as protobuf encodes it, of ten bytes at most.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// gRPC percent-encodes what is not printable ASCII.
fn decode_message(text: &str) -> String {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut rest = text.as_bytes();
    let mut decoded = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        let coded = match after {
            [high, low, ..] if *first == b'%' => digit(*high).zip(digit(*low)),
            _ => None,
        };
        decoded.push(coded.map_or(*first, |(h, l)| (h << 4 | l) as u8));
        rest = if coded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn code_name(code: &str) -> String {
    const NAMES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    let name = code.parse().ok().and_then(|n: usize| NAMES.get(n));
    name.map_or_else(|| format!("code {code}"), |n| (*n).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: &str, message: &str, body: &[u8]) -> Answer {
        let pairs = |list: &[(&str, &str)]| {
            let pairs = list.iter().map(|(n, v)| (n.to_string(), v.to_string()));
            pairs.collect::<Vec<_>>()
        };
        Answer {
            status: 200,
            fields: pairs(&[("content-type", "application/grpc+proto")]),
            body: body.to_vec(),
            trailers: pairs(&[("grpc-status", status), ("grpc-message", message)]),
        }
    }

    #[test]
    fn messages() {
        assert_eq!(message("").unwrap(), [0, 0, 0, 0, 0]);
        assert_eq!(message("ab").unwrap(), b"\0\0\0\0\x04\x0a\x02ab");
        let long = message(&"x".repeat(300)).unwrap();
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 2]);
        assert!(message(&"x".repeat(70_000)).is_none());
    }

    #[test]
    fn verdicts() {
        assert_eq!(verdict(&answer("0", "", b"\0\0\0\0\x02\x08\x01")), Ok(()));
        // Fields of a later version of the message.
        let more = b"\0\0\0\0\x16\x10\x80\x01\x1a\x02hi\x21\0\0\0\0\0\0\0\0\x2d\0\0\0\0\x08\x01";
        let mut more = more.to_vec();
        more[4] = (more.len() - 5) as u8;
        assert_eq!(verdict(&answer("0", "", &more)), Ok(()));
        let unhealthy = |name: &str| format!("service unhealthy (responded with \"{name}\")");
        for (code, message, body, why) in [
            ("0", "", &b"\0\0\0\0\0"[..], unhealthy("UNKNOWN")),
            ("0", "", b"\0\0\0\0\x02\x08\x02", unhealthy("NOT_SERVING")),
            ("0", "", b"\0\0\0\0\x02\x08\x09", unhealthy("9")),
            ("0", "", b"", "no HealthCheckResponse".into()),
            (
                "0",
                "",
                b"\x01\0\0\0\x02\x08\x01",
                "no HealthCheckResponse".into(),
            ),
            (
                "0",
                "",
                b"\0\0\0\0\x03\x08\x01",
                "no HealthCheckResponse".into(),
            ),
            (
                "0",
                "",
                b"\0\0\0\0\x02\x0a\x01",
                "no HealthCheckResponse".into(),
            ),
            (
                "0",
                "",
                b"\0\0\0\0\x02\x0c\x01",
                "no HealthCheckResponse".into(),
            ),
            (
                "5",
                "no%20such %",
                b"",
                "ended with NotFound: no such %".into(),
            ),
            ("4", "", b"", "ended with DeadlineExceeded".into()),
            (
                "99",
                "%e2%82%ac",
                b"",
                "ended with code 99: \u{20ac}".into(),
            ),
            (
                "12",
                "x",
                b"",
                "does not implement the grpc health protocol".into(),
            ),
        ] {
            let e = verdict(&answer(code, message, body)).unwrap_err();
            assert!(e.contains(&why), "{e} is not {why}");
        }
        let html = Answer {
            status: 404,
            ..Answer::default()
        };
        assert!(verdict(&html).unwrap_err().contains("HTTP status 404"));
        let mut bare = answer("0", "", b"");
        bare.trailers.clear();
        assert!(verdict(&bare).unwrap_err().contains("no grpc-status"));
    }
}
