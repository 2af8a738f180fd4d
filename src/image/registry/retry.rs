//! How long a registry is waited for, and when it is asked again.
//!
//! What may pass by itself is asked again: no connection, one that broke or
//! went silent, 408, 429 and 5xx. The pause doubles, and a random part of it is
//! left out, so that a hundred machines that were cut off together do not come
//! back together. A Retry-After (RFC 9110, 10.2.3) is obeyed, unless it is
//! longer than anybody would wait at a terminal: then that is the error.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::Error;

/// The bounds of one request's patience.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Attempts in a row without any progress.
    pub tries: u32,
    pub first_pause: Duration,
    /// Of our own pauses, and of a Retry-After that is obeyed.
    pub longest_pause: Duration,
    /// A connection without a byte in this time is cut.
    pub silence: Duration,
    /// And one with fewer bytes per second, over the same time.
    pub slowest: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            tries: 4,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(60),
            silence: Duration::from_secs(30),
            slowest: 256,
        }
    }
}

impl Patience {
    /// The pause after attempt `n`, counted from 1; `None` if there is to be
    /// no further one.
    pub(in crate::image) fn pause(&self, n: u32, failure: &Failure) -> Option<Duration> {
        if !failure.passing || n >= self.tries {
            return None;
        }
        if let Some(asked) = failure.retry_after {
            return (asked <= self.longest_pause).then_some(asked);
        }
        let whole = self.first_pause * (1 << (n - 1).min(16));
        let whole = whole.min(self.longest_pause);
        // Between a half and the whole of it.
        let random = RandomState::new().hash_one(n) % 1024;
        Some(whole / 2 + whole / 2 * random as u32 / 1024)
    }

    /// How long a connection may take for so many bytes at the slowest pace: trailers
    /// without end (RFC 9112, 7.1.2) are no bytes, and no silence.
    pub(in crate::image) fn whole(&self, bytes: u64) -> Duration {
        self.silence + Duration::from_secs(bytes / self.slowest.max(1))
    }

    /// Whether so many bytes in so long a time of waiting are too few.
    pub(in crate::image) fn too_slow(&self, bytes: u64, waited: Duration) -> bool {
        waited >= self.silence && bytes < self.slowest * waited.as_secs().max(1)
    }
}

/// Ends with an error once it is too slow.
pub(in crate::image) struct Paced<'a, R> {
    inner: R,
    patience: &'a Patience,
    waited: Duration,
    came: u64,
}

impl<'a, R> Paced<'a, R> {
    pub(crate) fn new(inner: R, patience: &'a Patience) -> Self {
        Paced {
            inner,
            patience,
            waited: Duration::ZERO,
            came: 0,
        }
    }
}

impl<R: Read> Read for Paced<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let began = Instant::now();
        let n = self.inner.read(buf)?;
        self.waited += began.elapsed();
        self.came += n as u64;
        if n > 0 && self.patience.too_slow(self.came, self.waited) {
            return Err(io::Error::other("the connection was too slow"));
        }
        if self.waited >= self.patience.silence {
            (self.waited, self.came) = (Duration::ZERO, 0);
        }
        Ok(n)
    }
}

/// Retry-After: seconds or a date, as a time from `now`.
pub(in crate::image) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(value.trim())
        .ok()?;
    // A date that has passed means now.
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

/// An attempt that failed, and whether another may not.
pub(in crate::image) struct Failure {
    pub error: Error,
    pub passing: bool,
    /// Nobody answered, or not in this protocol.
    pub no_answer: bool,
    pub retry_after: Option<Duration>,
    /// The HTTP status, 0 if it is not about one.
    pub status: u16,
}

impl Failure {
    pub(crate) fn lasting(error: Error) -> Self {
        Failure {
            error,
            passing: false,
            no_answer: false,
            retry_after: None,
            status: 0,
        }
    }
    pub(crate) fn passing(error: Error) -> Self {
        Failure {
            passing: true,
            ..Self::lasting(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let patience = Patience::default();
        let mut f = Failure::passing(Error::failed("x"));
        for n in 1..4 {
            let whole = patience.first_pause * (1 << (n - 1));
            let pause = patience.pause(n, &f).unwrap();
            assert!(pause >= whole / 2 && pause <= whole, "{n}: {pause:?}");
        }
        assert!(patience.pause(4, &f).is_none());
        f.retry_after = Some(Duration::from_secs(7));
        assert_eq!(patience.pause(1, &f), f.retry_after);
        f.retry_after = Some(Duration::from_secs(3600));
        assert!(patience.pause(1, &f).is_none());
        assert!(
            patience
                .pause(1, &Failure::lasting(Error::failed("x")))
                .is_none()
        );
    }

    #[test]
    fn dates_and_seconds() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (value, want) in [
            ("3", Some(3)),
            ("Thu, 01 Jan 2026 00:00:05 GMT", Some(5)),
            ("Thu, 01 Jan 2015 00:00:05 GMT", Some(0)),
            ("soon", None),
            ("-3", None),
        ] {
            let found = retry_after(value, now);
            assert_eq!(found, want.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn a_trickle_is_too_slow() {
        let p = Patience::default();
        assert!(p.too_slow(100, Duration::from_secs(30)));
        assert!(!p.too_slow(100, Duration::from_secs(29)));
        assert!(!p.too_slow(1 << 20, Duration::from_secs(30)));
    }
}
