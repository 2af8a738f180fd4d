//! A blocking conversation with systemd: one call, its reply, and a job's end.
//!
//! Over systemd's private socket, whose other end is the manager itself: no bus
//! daemon needs to run, and the signals of all jobs come unasked. Where that is not
//! reachable (in a container that is given the bus alone), over the bus, as a
//! client that subscribes. Both are root's, or the user's own.

use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) use crate::linux::dbus::Refusal;
use crate::linux::dbus::wire::{self, Call, Message, Property, Writer};
use crate::linux::dbus::{Connection, SYSTEM_BUS};
use crate::{Error, Kind, Result};

const SERVICE: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// See the module's head.
#[derive(Debug)]
pub(super) struct Bus {
    connection: Connection,
    /// On the bus, systemd is one of many; on its own socket, it has no name.
    destination: Option<&'static str>,
    /// Jobs that ended while something else was waited for.
    ended: Vec<(String, String)>,
}

impl Bus {
    /// The system's manager, or with `user` the caller's own (`XDG_RUNTIME_DIR`).
    /// All of the conversation has to be over within `patience`.
    pub(super) fn connect(user: bool, patience: Duration) -> Result<Bus> {
        let (private, bus) = match user {
            false => (
                PathBuf::from("/run/systemd/private"),
                PathBuf::from(SYSTEM_BUS),
            ),
            true => {
                let dir = std::env::var_os("XDG_RUNTIME_DIR").ok_or_else(|| {
                    Error::unsupported("the user's systemd: XDG_RUNTIME_DIR is not set")
                })?;
                let dir = PathBuf::from(dir);
                (dir.join("systemd/private"), dir.join("bus"))
            }
        };
        let first = match Bus::open(&private, None, patience) {
            Ok(bus) => return Ok(bus),
            Err(e) => e,
        };
        match Bus::open(&bus, Some(SERVICE), patience) {
            Ok(mut bus) => {
                bus.subscribe()?;
                Ok(bus)
            }
            Err(_) => Err(first.with_kind(Kind::Unsupported)),
        }
    }

    fn open(path: &Path, destination: Option<&'static str>, patience: Duration) -> Result<Bus> {
        Ok(Bus {
            connection: Connection::open(path, "systemd", patience)?,
            destination,
            ended: Vec::new(),
        })
    }

    /// Of a signal: the end of a job.
    fn note(&mut self, message: &Message) -> Result<()> {
        if message.member == "JobRemoved" {
            // (id, job, unit, result)
            let mut texts = message.texts("uoss")?.into_iter().skip(1);
            let (job, _, result) = (texts.next(), texts.next(), texts.next());
            self.ended
                .push((job.unwrap_or_default(), result.unwrap_or_default()));
        }
        Ok(())
    }

    fn call(&mut self, call: Call) -> Result<Message, Refusal> {
        let outcome = self.connection.call(call);
        for signal in std::mem::take(&mut self.connection.signals) {
            self.note(&signal)?;
        }
        outcome
    }

    fn manager(&mut self, member: &str, signature: &str, body: Writer) -> Result<Message, Refusal> {
        self.call(Call {
            destination: self.destination,
            path: OBJECT,
            interface: MANAGER,
            member,
            signature,
            body,
        })
    }

    fn subscribe(&mut self) -> Result<()> {
        let daemon = &mut self.connection;
        daemon.call_daemon("Hello", "", Writer::default())?;
        let mut rule = Writer::default();
        rule.string(&format!(
            "type='signal',sender='{SERVICE}',interface='{MANAGER}',member='JobRemoved'"
        ));
        daemon.call_daemon("AddMatch", "s", rule)?;
        self.manager("Subscribe", "", Writer::default())?;
        Ok(())
    }

    /// Waits for the end of the job that `reply` names.
    fn finish(&mut self, reply: &Message) -> Result<()> {
        let job = reply.texts("o")?.pop().unwrap_or_default();
        loop {
            if let Some(at) = self.ended.iter().position(|(j, _)| *j == job) {
                let (_, result) = self.ended.swap_remove(at);
                return match result.as_str() {
                    "done" => Ok(()),
                    _ => Err(Error::failed(format!(
                        "systemd: the job's result: {result}"
                    ))),
                };
            }
            let message = self.connection.next_message()?;
            if message.kind == wire::SIGNAL {
                self.note(&message)?;
            }
        }
    }

    pub(super) fn start_transient(&mut self, unit: &str, all: &[Property]) -> Result<(), Refusal> {
        let mut body = Writer::default();
        body.string(unit);
        body.string("replace");
        body.properties(all);
        body.no_units();
        let reply = self.manager("StartTransientUnit", "ssa(sv)a(sa(sv))", body)?;
        Ok(self.finish(&reply)?)
    }

    /// Until the next boot, as `systemctl set-property --runtime`.
    pub(super) fn set_properties(&mut self, unit: &str, all: &[Property]) -> Result<(), Refusal> {
        let mut body = Writer::default();
        body.string(unit);
        body.bool(true);
        body.properties(all);
        self.manager("SetUnitProperties", "sba(sv)", body).map(drop)
    }

    /// Returns when systemd has done what it puts off until it has answered: cgroups'
    /// attributes are written before the next call is read.
    pub(super) fn catch_up(&mut self) -> Result<()> {
        let ping = Call {
            destination: self.destination,
            path: OBJECT,
            interface: "org.freedesktop.DBus.Peer",
            member: "Ping",
            signature: "",
            body: Writer::default(),
        };
        self.call(ping)?;
        Ok(())
    }

    pub(super) fn stop(&mut self, unit: &str) -> Result<(), Refusal> {
        let mut body = Writer::default();
        body.string(unit);
        body.string("replace");
        let reply = self.manager("StopUnit", "ss", body)?;
        Ok(self.finish(&reply)?)
    }

    /// `active`, `deactivating`, ...
    pub(super) fn active_state(&mut self, unit: &str) -> Result<String, Refusal> {
        let mut body = Writer::default();
        body.string(unit);
        let path = self.manager("GetUnit", "s", body)?.texts("o")?;
        let mut body = Writer::default();
        body.string("org.freedesktop.systemd1.Unit");
        body.string("ActiveState");
        let get = Call {
            destination: self.destination,
            path: path.first().map_or("", String::as_str),
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            signature: "ss",
            body,
        };
        Ok(self.call(get)?.texts("v")?.pop().unwrap_or_default())
    }

    pub(super) fn reset_failed(&mut self, unit: &str) -> Result<(), Refusal> {
        let mut body = Writer::default();
        body.string(unit);
        self.manager("ResetFailedUnit", "s", body).map(drop)
    }
}
