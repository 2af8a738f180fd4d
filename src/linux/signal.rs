//! Signals by name: signal(7).

use nix::sys::signal::Signal;

/// The real-time signals that programs may use: glibc keeps the first two.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// `SIGTERM`, `term`, `15`, `SIGRTMIN+3`, `RTMAX-1`.
pub(crate) fn parse(text: &str) -> Option<i32> {
    let name = text.trim().to_ascii_uppercase();
    if let Ok(n) = name.parse::<i32>() {
        return (1..=RTMAX).contains(&n).then_some(n);
    }
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let offset = |rest: &str, sign: char| match rest.strip_prefix(sign) {
        Some(n) => n.parse().ok().filter(|n| (0..=RTMAX - RTMIN).contains(n)),
        None => rest.is_empty().then_some(0),
    };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return offset(rest, '+').map(|n| RTMIN + n);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return offset(rest, '-').map(|n| RTMAX - n);
    }
    let signal: Option<Signal> = format!("SIG{name}").parse().ok();
    signal.map(|s| s as i32)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn names_and_numbers() {
        for (text, want) in [
            ("KILL", Some(9)),
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("quit", Some(3)),
            ("1", Some(1)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("0", None),
            ("65", None),
            ("NOPE", None),
            ("SIGNOPE", None),
            ("RTMIN+99", None),
            ("", None),
        ] {
            assert_eq!(parse(text), want, "{text}");
        }
    }
}
