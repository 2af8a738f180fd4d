//! A transient service that holds no process: systemd runs its command when it
//! stops the service, which it does at the machine's shutdown before it takes the
//! network and the file systems away. systemd.service(5), systemd.special(7).

use std::path::Path;
use std::time::Duration;

use super::bus::Bus;
use crate::linux::dbus::wire::{Property, Value};
use crate::{Context, Kind, Result};

/// How long one conversation with systemd may take. Somebody waits for it, and
/// nothing fails without it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether systemd is this machine's init: sd_booted(3).
pub(crate) fn is_init() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Whether systemd can be told of a service.
pub(crate) fn answers() -> Result<()> {
    Bus::connect(false, PATIENCE).map(drop)
}

/// A file for each transient unit that systemd has.
const TRANSIENT: &str = "/run/systemd/transient";

/// Whether systemd has a transient unit of this name, without asking it.
pub(crate) fn exists(unit: &str) -> bool {
    Path::new(TRANSIENT).join(unit).exists()
}

/// The names of systemd's transient units, without asking it.
pub(crate) fn list() -> Vec<String> {
    let entries = std::fs::read_dir(TRANSIENT).into_iter().flatten().flatten();
    entries
        .filter_map(|e| e.file_name().into_string().ok())
        .collect()
}

/// Starts the service. One that is there already is as good.
pub(crate) fn start(unit: &str, description: &str, stop_command: Vec<String>) -> Result<()> {
    let made = (|| -> Result<()> {
        let mut bus = Bus::connect(false, PATIENCE)?;
        match bus.start_transient(unit, &properties(description, stop_command)) {
            Err(e) if e.error.kind() == Kind::Conflict => Ok(()),
            other => Ok(other?),
        }
    })();
    made.with_context(|| format!("start the systemd service {unit}"))
}

/// Stops the service, and returns when systemd has forgotten it: the next
/// [`start`] makes a new one. One that is not there, or that systemd is stopping
/// already, is left alone: the caller may be what its command waits for.
pub(crate) fn stop(unit: &str) -> Result<()> {
    let stopped = (|| -> Result<()> {
        let mut bus = Bus::connect(false, PATIENCE)?;
        match bus.active_state(unit) {
            Ok(state) if state == "active" => {}
            Ok(_) => return Ok(()),
            Err(e) if e.error.kind() == Kind::NotFound => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        bus.stop(unit)?;
        // Units that nothing refers to go before the next call is read.
        bus.catch_up()
    })();
    stopped.with_context(|| format!("stop the systemd service {unit}"))
}

fn properties(description: &str, stop_command: Vec<String>) -> Vec<Property> {
    let text = |s: &str| Value::Str(s.to_owned());
    let units = |all: &[&str]| Value::Strs(all.iter().map(|&s| s.to_owned()).collect());
    let all = [
        ("Description", text(description)),
        ("Type", text("oneshot")),
        ("RemainAfterExit", Value::Bool(true)),
        ("ExecStop", Value::Commands(vec![stop_command])),
        // The command has a deadline of its own, and reboot.target another.
        ("TimeoutStopUSec", Value::U64(u64::MAX)),
        // The default ones have Requires=sysinit.target, which `systemctl isolate
        // emergency.target` stops, and this service with it.
        ("DefaultDependencies", Value::Bool(false)),
        ("IgnoreOnIsolate", Value::Bool(true)),
        ("Conflicts", units(&["shutdown.target"])),
        ("Before", units(&["shutdown.target"])),
        // The order of a shutdown is that of a start, backwards.
        (
            "After",
            units(&[
                "sysinit.target",
                "local-fs.target",
                "remote-fs.target",
                "network.target",
                "nss-lookup.target",
                "dbus.service",
            ]),
        ),
        ("CollectMode", text("inactive-or-failed")),
    ];
    all.map(|(name, value)| (name.to_owned(), value)).into()
}
