use super::*;

fn request<'a>(fields: &'a [(String, String)], body: &'a [u8]) -> Request<'a> {
    Request {
        method: "GET",
        scheme: "http",
        authority: "10.0.0.2:80",
        path: "/ready",
        fields,
        body,
    }
}

fn connection() -> Connection {
    let mut c = Connection::new(&request(&[], &[]));
    c.take_to_send();
    c
}

fn frames(bytes: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let mut rest = bytes;
    let mut all = Vec::new();
    while let Some(f) = Frame::read(rest).unwrap() {
        rest = &rest[f.len()..];
        all.push((f.kind, f.flags, f.stream, f.payload.to_vec()));
    }
    assert!(rest.is_empty());
    all
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        hpack::write(&mut block, name, value);
    }
    block
}

/// Kind, flags, stream and payload of a frame.
type Sent<'a> = (u8, u8, u32, &'a [u8]);

/// What a server sends: the frames after its SETTINGS.
fn sent(frames: &[Sent]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::write(&mut bytes, frame::SETTINGS, 0, 0, &[]);
    for (kind, flags, stream, payload) in frames {
        frame::write(&mut bytes, *kind, *flags, *stream, payload);
    }
    bytes
}

const END: u8 = frame::END_STREAM;
const WHOLE: u8 = frame::END_HEADERS;

#[test]
fn a_request() {
    let fields = [
        ("Host", "other"),
        ("X-A", " b "),
        ("Connection", "close"),
        ("Long", &"x".repeat(20_000)),
    ];
    let fields = fields.map(|(n, v)| (n.to_owned(), v.to_owned()));
    let body = vec![7; 20_000];
    let mut c = Connection::new(&request(&fields, &body));
    let bytes = c.take_to_send();
    let rest = bytes.strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let frames = frames(rest.unwrap());
    let kinds: Vec<_> = frames.iter().map(|f| (f.0, f.1, f.2)).collect();
    assert_eq!(
        kinds,
        [
            (frame::SETTINGS, 0, 0),
            (frame::HEADERS, 0, 1),
            (frame::CONTINUATION, WHOLE, 1),
            (frame::DATA, 0, 1),
            (frame::DATA, END, 1),
        ]
    );
    let whole = [frames[1].3.clone(), frames[2].3.clone()].concat();
    let fields = hpack::Decoder::default().decode(&whole).unwrap();
    let names: Vec<_> = fields.iter().map(|(n, _)| text(n)).collect();
    assert_eq!(
        names,
        [":method", ":scheme", ":authority", ":path", "x-a", "long"]
    );
    assert_eq!(fields[4].1, b"b");
    assert!(c.take_to_send().is_empty());
    // Without a body the header ends the stream.
    let bytes = Connection::new(&request(&[], &[])).take_to_send();
    assert!(
        bytes
            .windows(9)
            .any(|w| w[3..] == [frame::HEADERS, WHOLE | END, 0, 0, 0, 1])
    );
}

#[test]
fn an_answer_in_pieces() {
    let header = block(&[(":status", "200"), ("a", "b")]);
    let (first, rest) = header.split_at(5);
    let early = block(&[(":status", "103")]);
    let trailers = block(&[("grpc-status", "0")]);
    let bytes = sent(&[
        (frame::PING, 0, 0, b"abcdefgh"),
        (frame::WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]),
        (frame::HEADERS, WHOLE, 1, &early),
        (frame::HEADERS, 0, 1, first),
        (frame::CONTINUATION, WHOLE, 1, rest),
        (0x77, 0xff, 9, b"unknown"),
        (frame::DATA, 0, 1, b"one"),
        (frame::DATA, 0, 1, b""),
        (frame::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]),
        (frame::DATA, 8, 1, b"\x01two\0"),
        (frame::HEADERS, WHOLE | END, 1, &trailers),
    ]);
    let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
    let expected = Answer {
        status: 200,
        fields: vec![pair(":status", "200"), pair("a", "b")],
        body: b"onetwo".to_vec(),
        trailers: vec![pair("grpc-status", "0")],
    };
    let mut c = connection();
    assert_eq!(c.receive(&bytes), Ok(Some(expected)));
    let mut c = connection();
    let (last, before) = bytes.split_last().unwrap();
    for byte in before {
        assert_eq!(c.receive(&[*byte]), Ok(None));
    }
    let replies = frames(&c.take_to_send());
    let update = |stream, n| (frame::WINDOW_UPDATE, 0, stream, vec![0, 0, 0, n]);
    assert_eq!(
        replies,
        [
            (frame::SETTINGS, frame::ACK, 0, vec![]),
            (frame::PING, frame::ACK, 0, b"abcdefgh".to_vec()),
            update(0, 3),
            update(1, 3),
            update(0, 5),
            update(1, 5),
        ]
    );
    let answer = c.receive(&[*last]).unwrap().unwrap();
    assert_eq!(answer.field("grpc-status"), Some("0"));
    assert_eq!(answer.field("a"), Some("b"));
}

#[test]
fn a_long_body_is_cut() {
    let ok = block(&[(":status", "200")]);
    let bytes = sent(&[
        (frame::HEADERS, WHOLE, 1, &ok),
        (frame::DATA, 0, 1, &[b'x'; 16 << 10]),
    ]);
    let answer = connection().receive(&bytes).unwrap().unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, BODY_MOST));
}

#[test]
fn faults() {
    let ok = block(&[(":status", "200")]);
    let cases: &[(&[Sent], &str)] = &[
        (&[(frame::HEADERS, WHOLE, 3, &ok)], "another stream"),
        (&[(frame::PING, 0, 1, &[0; 8])], "another stream"),
        (&[(frame::PING, 0, 0, &[0; 7])], "length"),
        (&[(frame::SETTINGS, 0, 0, &[0; 5])], "length"),
        (&[(frame::SETTINGS, 1, 0, &[0; 6])], "length"),
        (&[(frame::GOAWAY, 0, 0, &[0; 7])], "length"),
        (
            &[(frame::GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 11])],
            "GOAWAY(ENHANCE_YOUR_CALM)",
        ),
        (
            &[(frame::RST_STREAM, 0, 1, &[0, 0, 0, 7])],
            "RST_STREAM(REFUSED_STREAM)",
        ),
        (
            &[(frame::RST_STREAM, 0, 1, &[0xff; 4])],
            "RST_STREAM(error code 4294967295)",
        ),
        (&[(frame::PUSH_PROMISE, 0, 1, &[0; 4])], "pushes"),
        (&[(frame::DATA, END, 1, b"x")], "without a header"),
        (&[(frame::CONTINUATION, WHOLE, 1, &ok)], "without beginning"),
        (
            &[(frame::HEADERS, 0, 1, &ok), (frame::DATA, 0, 1, b"")],
            "within a header",
        ),
        (&[(frame::HEADERS, WHOLE, 1, b"")], "no status"),
        (&[(frame::HEADERS, WHOLE, 1, b"\xff")], "cut off"),
        (
            &[(frame::HEADERS, WHOLE, 1, &block(&[(":status", "+20")]))],
            "no status",
        ),
        (
            &[(
                frame::HEADERS,
                WHOLE | END,
                1,
                &block(&[(":status", "100")]),
            )],
            "before its status",
        ),
        (
            &[
                (frame::HEADERS, WHOLE, 1, &ok),
                (frame::HEADERS, WHOLE, 1, &ok),
            ],
            "two headers",
        ),
    ];
    for (frames, why) in cases {
        let e = connection().receive(&sent(frames)).unwrap_err().to_string();
        assert!(e.contains(why), "{frames:?}: {e}");
    }
    for (bytes, why) in [
        (&b"HTTP/1.1 400 Bad Request\r\n"[..], "speaks HTTP/1"),
        (b"SSH-2.0-OpenSSH_9\r\n", "more than 16 KiB"),
        (&[0; 9], "does not begin with SETTINGS"),
        (&[0, 0, 0, 4, 1, 0, 0, 0, 0], "does not begin with SETTINGS"),
    ] {
        let e = connection().receive(bytes).unwrap_err().to_string();
        assert!(e.contains(why), "{bytes:?}: {e}");
    }
}

#[test]
fn what_never_ends_is_ended() {
    let ping = sent(&[(frame::PING, frame::ACK, 0, &[0; 8])]);
    let mut c = connection();
    let mut rounds = 0;
    let e = loop {
        rounds += 1;
        assert!(rounds < 20_000);
        if let Err(e) = c.receive(&ping) {
            break e.to_string();
        }
        c.take_to_send();
    };
    assert!(e.contains("too many frames"), "{e}");
    // A header without an end.
    let mut c = connection();
    c.receive(&sent(&[(frame::HEADERS, 0, 1, &[])])).unwrap();
    let mut more = Vec::new();
    frame::write(&mut more, frame::CONTINUATION, 0, 1, &[0x82; frame::MOST]);
    let e = (0..6).find_map(|_| c.receive(&more).err()).unwrap();
    assert!(e.to_string().contains("more than 64 KiB"), "{e}");
}

/// Whatever comes in, the answer is an answer or a fault, within the bounds.
#[test]
fn mutated_answers_never_panic() {
    // xorshift: the same inputs each time.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let coded = [
        0x48, 0x82, 0x64, 0x02, 0x58, 0x85, 0xae, 0xc3, 0x77, 0x1a, 0x4b,
    ];
    let trailers = block(&[("grpc-status", "0")]);
    let whole = sent(&[
        (frame::PING, 0, 0, b"abcdefgh"),
        (
            frame::HEADERS,
            0x20,
            1,
            &[&[0; 5][..], &coded[..6]].concat(),
        ),
        (frame::CONTINUATION, WHOLE, 1, &coded[6..]),
        (frame::DATA, 8, 1, b"\x01two\0"),
        (frame::HEADERS, WHOLE | END, 1, &trailers),
    ]);
    let (mut answers, mut faults) = (0, 0);
    for _ in 0..50_000 {
        let mut bytes = whole.clone();
        for _ in 0..random(4) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => bytes[at] ^= 1 << random(8),
                2 => bytes.truncate(at + 1),
                _ => {
                    let from = random(bytes.len());
                    let piece = bytes[from..(from + random(32)).min(bytes.len())].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        let mut c = connection();
        let cut = random(bytes.len() + 1);
        let first = c.receive(&bytes[..cut]);
        let result = match first {
            Ok(None) => c.receive(&bytes[cut..]),
            other => other,
        };
        match result {
            Ok(Some(answer)) => {
                assert!(answer.body.len() <= BODY_MOST);
                answers += 1;
            }
            Ok(None) => {}
            Err(_) => faults += 1,
        }
    }
    assert!(answers > 1000 && faults > 1000, "{answers} {faults}");
}
