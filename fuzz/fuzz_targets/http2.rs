//! What a container answers to a probe by HTTP/2 or gRPC: an answer or a fault, within the
//! bounds, however it is cut into pieces.

#![no_main]

use carob::inside::pod::http2::{Connection, Request};
use libfuzzer_sys::fuzz_target;

/// Without it a connection is over at once.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

fuzz_target!(|bytes: &[u8]| {
    let connection = || {
        let mut connection = Connection::new(&Request {
            method: "GET",
            scheme: "http",
            authority: "a",
            path: "/",
            fields: &[],
            body: &[],
        });
        assert_eq!(connection.receive(SETTINGS), Ok(None));
        connection
    };
    let whole = connection().receive(bytes);
    let mut other = connection();
    let mut pieces = bytes.chunks(7).map(|piece| other.receive(piece));
    let last = pieces.find(|received| *received != Ok(None));
    assert_eq!(last.unwrap_or(Ok(None)), whole);
    if let Ok(Some(answer)) = whole {
        assert!(answer.body.len() <= 10 << 10);
        let fields = answer.fields.iter().chain(&answer.trailers);
        // An invalid byte becomes three of a replacement.
        assert!(fields.map(|(n, v)| n.len() + v.len()).sum::<usize>() <= 2 * 3 * (64 << 10));
    }
});
