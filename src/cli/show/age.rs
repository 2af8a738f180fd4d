//! Durations as kubectl prints and reads them.

use std::time::Duration;

use jiff::Timestamp;

use crate::{Error, Result};

/// The two largest units that matter: `45s`, `5m30s`, `3h12m`, `4d2h`, `2y40d`.
pub(crate) fn human(seconds: i64) -> String {
    let pair = |big: i64, b: char, small: i64, s: char| {
        if small == 0 {
            format!("{big}{b}")
        } else {
            format!("{big}{b}{small}{s}")
        }
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        // Clocks may be set back by a little; more than that is nonsense.
        i64::MIN..=-2 => "<invalid>".into(),
        -1 => "0s".into(),
        0..120 => format!("{seconds}s"),
        120..600 => pair(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => pair(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => pair(days, 'd', hours % 24, 'h'),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => pair(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

/// Time passed since then. A time that is not set is `<unknown>`: Go's zero, which is the
/// year 1, and the first day of 1970, which reproducible builds write for none.
pub(crate) fn since(then: Timestamp, now: Timestamp) -> String {
    const DAY: i64 = 86_400;
    if then.as_second() < DAY {
        return "<unknown>".into();
    }
    let d = now.duration_since(then);
    // Down to whole seconds, also before zero: -0.5 s is "just now".
    human(d.as_secs())
}

/// The same for a sentence: `5m ago`.
pub(crate) fn ago(then: Timestamp, now: Timestamp) -> String {
    match since(then, now) {
        unknown if unknown == "<unknown>" => unknown,
        age => format!("{age} ago"),
    }
}

/// Go's durations: `30s`, `1h30m`, `1.5h`, `100ms`, `-1s`, `0`. The sign is apart
/// since no `Duration` has one.
pub(crate) fn parse_signed(text: &str) -> Result<(bool, Duration)> {
    let wrong = || {
        Error::usage(format!("{text:?} is not a duration"))
            .hint("write it as in 30s, 5m, 1h30m or 100ms")
    };
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(r) => (true, r),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok((negative, Duration::ZERO));
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let length = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(length);
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let part = Duration::try_from_secs_f64(number * scale).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    Ok((negative, total))
}

/// A duration that cannot be negative.
pub(crate) fn parse(text: &str) -> Result<Duration> {
    match parse_signed(text)? {
        (true, d) if !d.is_zero() => Err(Error::usage(format!("{text:?}: a negative duration"))),
        (_, d) => Ok(d),
    }
}

/// As `kubectl wait` and `delete` read `--timeout`: negative means a week.
pub(crate) fn parse_timeout(text: &str) -> Result<Duration> {
    Ok(match parse_signed(text)? {
        (true, d) if !d.is_zero() => Duration::from_secs(7 * 86400),
        (_, d) => d,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_kubectl_prints() {
        let (m, h, d, y) = (60, 3600, 86400, 365 * 86400);
        let cases = [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (1, "1s"),
            (119, "119s"),
            (120, "2m"),
            (2 * m + 1, "2m1s"),
            (9 * m + 59, "9m59s"),
            (10 * m, "10m"),
            (3 * h - 1, "179m"),
            (3 * h, "3h"),
            (3 * h + 10 * m, "3h10m"),
            (8 * h, "8h"),
            (2 * d - 1, "47h"),
            (2 * d, "2d"),
            (2 * d + 3 * h, "2d3h"),
            (8 * d + 3 * h, "8d"),
            (2 * y - 1, "729d"),
            (2 * y, "2y"),
            (2 * y + 5 * d, "2y5d"),
            (8 * y + 5 * d, "8y"),
        ];
        for (seconds, want) in cases {
            assert_eq!(human(seconds), want, "{seconds}");
        }
    }

    #[test]
    fn times_that_are_not_set_have_no_age() {
        let now: Timestamp = "2026-11-28T00:00:00Z".parse().unwrap();
        for (then, age) in [
            ("0001-01-01T00:00:00Z", "<unknown>"),
            ("1970-01-01T00:00:00Z", "<unknown>"),
            ("1970-01-01T00:00:01Z", "<unknown>"),
            ("1980-01-01T00:00:00Z", "46y ago"),
            ("2026-11-27T23:59:00Z", "60s ago"),
        ] {
            assert_eq!(ago(then.parse().unwrap(), now), age, "{then}");
        }
    }

    #[test]
    fn as_go_reads() {
        let good = [
            ("30s", 30_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("100ms", 100),
            ("0", 0),
            ("0s", 0),
            ("1m0.5s", 60_500),
        ];
        for (text, ms) in good {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        for text in [
            "",
            "s",
            "5",
            "5x",
            "-",
            "1h-5s",
            "1..5s",
            "-5s",
            "1e9h",
            "9999999999999999999h",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse_timeout("-1s").unwrap().as_secs(), 604_800);
        assert_eq!(parse_timeout("0s").unwrap().as_secs(), 0);
    }
}
