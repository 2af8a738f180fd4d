//! The syntaxes of Kubernetes' names. Each check returns what is wrong in
//! Kubernetes' own words, to follow `Invalid value: "...": `.

pub(super) const LABEL_MAX: usize = 63;
pub(super) const SUBDOMAIN_MAX: usize = 253;

type Check = Result<(), String>;

fn at_most(s: &str, max: usize) -> Check {
    if s.len() > max {
        return Err(format!("must be no more than {max} characters"));
    }
    Ok(())
}

fn is_lower_alphanumeric(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label(s: &str) -> bool {
    let b = s.as_bytes();
    let ends = |b: Option<&u8>| b.is_some_and(|b| is_lower_alphanumeric(*b));
    ends(b.first()) && ends(b.last()) && b.iter().all(|b| is_lower_alphanumeric(*b) || *b == b'-')
}

/// RFC 1123 label: container names, volume names, namespaces.
pub(super) fn dns_label(s: &str) -> Check {
    at_most(s, LABEL_MAX)?;
    if is_label(s) {
        return Ok(());
    }
    Err(
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
         and must start and end with an alphanumeric character (e.g. 'my-name')"
            .into(),
    )
}

/// RFC 1123 subdomain: Pod names, DNS names.
pub(super) fn dns_subdomain(s: &str) -> Check {
    at_most(s, SUBDOMAIN_MAX)?;
    if s.split('.').all(is_label) {
        return Ok(());
    }
    Err(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
         '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com')"
            .into(),
    )
}

fn is_qualified_part(s: &str) -> bool {
    let b = s.as_bytes();
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    ends(b.first())
        && ends(b.last())
        && b.iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// As [`dns_subdomain`], with `_` as well, which service records have: `_tcp.example.com`.
/// Kubernetes takes it since 1.34.
pub(super) fn search_domain(s: &str) -> Check {
    match s.split('.').any(|label| label.ends_with('_')) {
        true => dns_subdomain(s),
        false => dns_subdomain(&s.replace('_', "a")),
    }
}

/// `[prefix/]name`: keys of labels and annotations.
pub(super) fn qualified_name(s: &str) -> Check {
    let name = match s.split_once('/') {
        Some((prefix, name)) => {
            dns_subdomain(prefix).map_err(|e| format!("prefix part {e}"))?;
            name
        }
        None => s,
    };
    at_most(name, LABEL_MAX).map_err(|e| format!("name part {e}"))?;
    if is_qualified_part(name) {
        return Ok(());
    }
    Err(
        "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and \
         end with an alphanumeric character (e.g. 'MyName' or 'example.com/my-name')"
            .into(),
    )
}

/// A label's value; may be empty.
pub(super) fn label_value(s: &str) -> Check {
    at_most(s, LABEL_MAX)?;
    if s.is_empty() || is_qualified_part(s) {
        return Ok(());
    }
    Err(
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' \
         or '.', and must start and end with an alphanumeric character"
            .into(),
    )
}

/// IANA service name: names of ports.
pub(super) fn port_name(s: &str) -> Check {
    at_most(s, 15)?;
    let ok = is_label(s) && !s.contains("--") && s.bytes().any(|b| b.is_ascii_lowercase());
    if ok {
        return Ok(());
    }
    Err(
        "must contain only lower case alphanumeric characters and '-', at least one letter, no \
         '-' at either end and no two in a row (e.g. 'http')"
            .into(),
    )
}

/// A field name of HTTP: a token (RFC 9110, 5.6.2).
pub(super) fn http_header_name(s: &str) -> Check {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    match !s.is_empty() && s.bytes().all(is_token) {
        true => Ok(()),
        false => Err("must be the name of an HTTP header, such as X-Header-Name".into()),
    }
}

/// Since 1.30 the name of a variable is any printable ASCII without `=`.
pub(super) fn env_name(s: &str) -> Check {
    if !s.is_empty() && s.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        return Ok(());
    }
    Err("must consist only of printable ASCII characters other than '='".into())
}

/// `NAME=VALUE` of a command line.
pub(crate) fn check_variable(text: &str) -> crate::Result<()> {
    let wrong = |why: String| {
        let text = super::tree::quote(text);
        crate::Error::usage(format!("{text} is no variable: {why}")).hint("write it as NAME=VALUE")
    };
    match text.split_once('=') {
        Some((name, _)) => env_name(name).map_err(wrong),
        None => Err(wrong("there is no = in it".into())),
    }
}

/// A key of a ConfigMap or a Secret, which is the name of a file too (IsConfigMapKey).
pub(super) fn config_key(s: &str) -> Check {
    let is_char = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if s.len() > 253 {
        return Err("must be no more than 253 characters".into());
    }
    if s.is_empty() || !s.bytes().all(is_char) {
        return Err(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'".into(),
        );
    }
    match s {
        "." => Err("must not be '.'".into()),
        _ if s.starts_with("..") => Err("must not start with '..'".into()),
        _ => Ok(()),
    }
}

/// `a.b.c` or `a/b/c`, as sysctl(8) takes it.
pub(super) fn sysctl_name(s: &str) -> Check {
    let ok = at_most(s, SUBDOMAIN_MAX).is_ok()
        && s.split(['.', '/']).all(|part| {
            let b = part.as_bytes();
            let ends = |b: Option<&u8>| b.is_some_and(|b| is_lower_alphanumeric(*b));
            ends(b.first())
                && ends(b.last())
                && b.iter()
                    .all(|b| is_lower_alphanumeric(*b) || matches!(b, b'-' | b'_'))
        });
    if ok {
        return Ok(());
    }
    Err("must be the name of a sysctl (e.g. 'net.ipv4.ip_local_port_range')".into())
}

/// A path inside a volume: relative and without `..`.
pub(super) fn relative_path(s: &str) -> Check {
    if s.starts_with('/') {
        return Err("must be a relative path".into());
    }
    no_backsteps(s)
}

pub(super) fn absolute_path(s: &str) -> Check {
    if !s.starts_with('/') {
        return Err("must be an absolute path".into());
    }
    if s.len() > 4095 {
        return Err("must be no more than 4095 characters".into());
    }
    Ok(())
}

/// A path in a container as the runtime takes it: what does not begin with `/` is below it.
pub(super) fn from_root(path: &str) -> String {
    match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    }
}

/// Whether a path from the root leads back to it, written in any way.
pub(super) fn is_root(path: &str) -> bool {
    let mut depth = 0usize;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth = depth.saturating_sub(1),
            _ => depth += 1,
        }
    }
    depth == 0
}

pub(super) fn no_backsteps(s: &str) -> Check {
    if s.split('/').any(|part| part == "..") {
        return Err("must not contain '..'".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(f: fn(&str) -> Check, good: &[&str], bad: &[&str]) {
        for s in good {
            assert_eq!(f(s), Ok(()), "{s:?}");
        }
        for s in bad {
            assert!(f(s).is_err(), "{s:?}");
        }
    }

    #[test]
    fn variables_of_a_command_line() {
        for good in ["A=1", "A=", "a b=c=d", "A=ä"] {
            assert!(check_variable(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "=1", "ä=1", "A\n=1"] {
            assert!(check_variable(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names() {
        let long63 = "a".repeat(63);
        let long64 = "a".repeat(64);
        check(
            dns_label,
            &["a", "a-b", "0", "a--b", &long63],
            &["", "-a", "a-", "A", "a.b", "a_b", "ä", &long64, "a\n"],
        );
        check(
            dns_subdomain,
            &["a", "a.b", "a-b.c0"],
            &[
                "",
                ".",
                "a.",
                ".a",
                "a..b",
                "A",
                "a/b",
                "a-.b",
                &"a".repeat(254),
            ],
        );
        check(
            qualified_name,
            &["a", "A_b.c", "example.com/name"],
            &["", "/a", "a/", "a/b/c", "Ex.com/a", "-a", "a b", &long64],
        );
        check(
            label_value,
            &["", "v", "A.b_c-1"],
            &["-", "a b", "a/b", &long64],
        );
        check(
            port_name,
            &["http", "a-1", "1a"],
            &["", "80", "HTTP", "-a", "a-", "a--b", "abcdefghijklmnop"],
        );
        check(
            env_name,
            &["A", "a b", "1", "my.var-x"],
            &["", "A=B", "ä", "a\t"],
        );
        check(
            sysctl_name,
            &["net.ipv4.tcp_fin_timeout", "net/ipv4/a", "kernel.a-b"],
            &["", ".", "a..b", "A.b", "a._b", "a b"],
        );
        check(
            relative_path,
            &["a", "a/b", "..a", "a..", ""],
            &["/a", "..", "a/../b", "../a"],
        );
        check(absolute_path, &["/", "/a"], &["", "a", "./a"]);
        for path in ["/", "//./", "/..", "/a/..", "/a/../../.", "."] {
            assert!(is_root(path), "{path}");
        }
        for path in ["/a", "/..a", "/a/b/..", "/../a", "..a"] {
            assert!(!is_root(path), "{path}");
        }
        assert_eq!(from_root("a/b"), "/a/b");
        assert_eq!(from_root("/a/b"), "/a/b");
    }
}
