use super::*;

fn get(path: &str, headers: &[(&str, &str)]) -> HttpGet {
    let headers = headers.iter().map(|(n, v)| (n.to_string(), v.to_string()));
    HttpGet {
        version: HttpVersion::Http,
        host: None,
        port: 8080,
        path: path.into(),
        headers: headers.collect(),
    }
}

#[test]
fn requests() {
    let text = |get: &HttpGet| String::from_utf8(request(get, "10.0.0.2:8080")).unwrap();
    assert_eq!(
        text(&get("/ready?x=1", &[])),
        "GET /ready?x=1 HTTP/1.1\r\nHost: 10.0.0.2:8080\r\nUser-Agent: kube-probe/1.37\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n"
    );
    let headers = [
        ("host", "example.com"),
        ("Accept", ""),
        ("user-agent", "me"),
        ("X-A", "1"),
        ("X-A", "2"),
        ("connection", "keep-alive"),
    ];
    assert_eq!(
        text(&get("/", &headers)),
        "GET / HTTP/1.1\r\nHost: example.com\r\nUser-Agent: me\r\nX-A: 1\r\nX-A: 2\r\n\
         Connection: close\r\n\r\n"
    );
}

#[test]
fn answers() {
    let whole = |status| Answer::Whole {
        status,
        location: None,
    };
    for (bytes, ended, expected) in [
        ("", false, Answer::Part),
        ("", true, Answer::Broken("the connection was closed")),
        ("HTT", false, Answer::Part),
        ("SSH-2.0", false, Answer::Broken("the answer is not HTTP")),
        ("HTTP/1.1 200 OK\r\nA: b\r\n", false, Answer::Part),
        (
            "HTTP/1.1 200 OK\r\nA: b\r\n",
            true,
            Answer::Broken("the connection was closed within the header"),
        ),
        // Without a length the body ends with the connection.
        ("HTTP/1.0 200 OK\r\n\r\nok", false, Answer::Part),
        ("HTTP/1.0 200 OK\r\n\r\nok", true, whole(200)),
        (
            "HTTP/1.1 503 \r\ncontent-length: 2\r\n\r\nn",
            false,
            Answer::Part,
        ),
        (
            "HTTP/1.1 503 \r\ncontent-length: 2\r\n\r\nno",
            false,
            whole(503),
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", false, whole(204)),
        ("HTTP/1.1 100 Continue\r\n\r\n", false, Answer::Part),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            false,
            whole(200),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            false,
            Answer::Part,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n",
            false,
            whole(200),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc",
            false,
            Answer::Part,
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
            false,
            Answer::Whole {
                status: 302,
                location: Some("/x".into()),
            },
        ),
        (
            "HTTP/2 200\r\n\r\n",
            false,
            Answer::Broken("the answer is not HTTP"),
        ),
        (
            "HTTP/1.1 20 OK\r\n\r\n",
            false,
            Answer::Broken("the answer is not HTTP"),
        ),
    ] {
        assert_eq!(
            read(bytes.as_bytes(), ended),
            expected,
            "{bytes:?}, {ended}"
        );
    }
    let long = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(BODY_MOST));
    assert_eq!(read(long.as_bytes(), false), whole(200));
    let heads = "HTTP/1.1 100 Continue\r\n\r\n".repeat(4000);
    assert!(matches!(read(heads.as_bytes(), false), Answer::Broken(_)));
    let head = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(HEAD_MOST));
    assert!(matches!(read(head.as_bytes(), false), Answer::Broken(_)));
}

#[test]
fn redirects_stay_on_their_host() {
    let from = get("/a/b?c=d", &[]);
    let to = |location: &str| {
        let to = redirect(location, &from, "10.0.0.2")?;
        Some(format!("{:?} {} {}", to.version, to.port, to.path))
    };
    for (location, expected) in [
        ("/x", Some("Http 8080 /x")),
        ("x?y", Some("Http 8080 /a/x?y")),
        ("?y", Some("Http 8080 /a/b?y")),
        ("", Some("Http 8080 /a/b")),
        ("/x#y", Some("Http 8080 /x")),
        ("http://10.0.0.2/x", Some("Http 80 /x")),
        ("https://10.0.0.2", Some("Https 443 /")),
        ("HTTPS://me@10.0.0.2:8443?x", Some("Https 8443 /?x")),
        ("//10.0.0.2:81/x", Some("Http 81 /x")),
        ("http://10.0.0.3/x", None),
        ("//example.com/x", None),
        ("ftp://10.0.0.2/", None),
        ("http://10.0.0.2:x/", None),
        ("/x y", None),
        ("/x\r\nHost: y", None),
    ] {
        assert_eq!(to(location).as_deref(), expected, "{location:?}");
    }
}
