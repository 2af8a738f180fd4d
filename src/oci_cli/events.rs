//! `events`: what a container uses, as JSON, one event a line.

use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use super::args::{Args, Order, usage};
use super::{Face, Verb};
use crate::linux::cgroup::{Accounts, Cgroup, OomEvents};
use crate::oci::end::not_running;
use crate::oci::record::Status;
use crate::{Error, Ignored, Kind, Result};

pub(super) const VERB: Verb = Verb {
    name: "events",
    operands: "ID",
    about: "prints what a container uses, and when it runs out of memory",
    flags: &[
        (
            "interval",
            '\0',
            "TIME",
            "between two, as in 5s (the default) or 500ms",
        ),
        ("stats", '\0', "", "once, and no more"),
    ],
    order: Order::Any,
    enters: false,
    run: events,
};

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Accounts>,
}

fn events(face: &Face, args: &Args) -> Result<u8> {
    let id = args.id()?;
    let interval = interval(args.get("interval").unwrap_or("5s"))?;
    let record = face.containers.load(id)?;
    if face.containers.status(&record) == Status::Stopped {
        return Err(not_running());
    }
    let pidfd = record.pidfd().ok_or_else(not_running)?;
    let cgroup = face
        .containers
        .cgroup(&record)?
        .ok_or_else(|| Error::unsupported("a container without a cgroup has no accounts"))?;
    if args.is("stats") {
        say(id, "stats", Some(cgroup.accounts()?))?;
        return Ok(0);
    }
    watch(id, &cgroup, pidfd.as_fd(), interval)
}

fn watch(
    id: &str,
    cgroup: &Cgroup,
    pidfd: std::os::fd::BorrowedFd,
    interval: Duration,
) -> Result<u8> {
    let oom = cgroup.oom_events()?;
    let mut kills = cgroup.oom_kills()?;
    let wait = PollTimeout::try_from(interval).unwrap_or(PollTimeout::MAX);
    loop {
        let mut fds = vec![PollFd::new(pidfd, PollFlags::POLLIN)];
        fds.extend(
            oom.iter()
                .map(|events| PollFd::new(events.as_fd(), events.awaited())),
        );
        match poll(&mut fds, wait) {
            Ok(0) => match cgroup.accounts() {
                Ok(accounts) => say(id, "stats", Some(accounts))?,
                // It ends right now.
                Err(e) if e.kind() == Kind::NotFound => return Ok(0),
                Err(e) => return Err(e),
            },
            Ok(_) => {
                if let Some(events) = &oom {
                    events
                        .acknowledge()
                        .ignored("without its cgroup the container has ended: the pidfd says so");
                }
                let now = cgroup.oom_kills()?;
                let happened = match &oom {
                    // v1 tells before the kill is counted, and also when the cgroup goes.
                    Some(OomEvents::Counter(_)) => {
                        fds.get(1).is_some_and(|fd| fd.any() == Some(true)) && cgroup.exists()
                    }
                    _ => now > kills,
                };
                if happened {
                    say(id, "oom", None)?;
                }
                kills = now;
                if fds[0].any() == Some(true) {
                    return Ok(0);
                }
            }
            Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::sys("poll()", e)),
        }
    }
}

fn say(id: &str, kind: &str, data: Option<Accounts>) -> Result<()> {
    let mut line = serde_json::to_vec(&Event { kind, id, data })?;
    line.push(b'\n');
    std::io::stdout().write_all(&line)?;
    Ok(())
}

/// As Go writes durations; those that make sense here.
fn interval(text: &str) -> Result<Duration> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000)];
    let found = units.iter().find_map(|(unit, ms)| {
        let n: u64 = text.strip_suffix(unit)?.parse().ok()?;
        n.checked_mul(*ms).filter(|n| (1..=86_400_000).contains(n))
    });
    found
        .map(Duration::from_millis)
        .ok_or_else(|| usage(format!("--interval: {text:?}: as in 5s, 500ms or 1m")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        assert_eq!(interval("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(interval("1m").unwrap(), Duration::from_secs(60));
        // The last one is a minute once it has gone around.
        for wrong in ["", "s", "5", "0s", "-1s", "25000h", "307445734561825861m"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
