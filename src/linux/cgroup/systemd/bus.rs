//! A blocking conversation with systemd: one call, its reply, and a job's end.
//!
//! Over systemd's private socket, whose other end is the manager itself: no bus
//! daemon needs to run, and the signals of all jobs come unasked. Where that is not
//! reachable (in a container that is given the bus alone), over the bus, as a
//! client that subscribes. Both are root's, or the user's own.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::wire::{self, Call, Message, Property, Writer};
use crate::{Context, Error, Kind, Result};

const SERVICE: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// See the module's head.
#[derive(Debug)]
pub struct Bus {
    socket: UnixStream,
    serial: u32,
    /// On the bus, systemd is one of many; on its own socket, it has no name.
    destination: Option<&'static str>,
    patience: Duration,
    deadline: Instant,
    /// Jobs that ended while something else was waited for.
    ended: Vec<(String, String)>,
}

/// Why systemd said no: its error's name and text.
#[derive(Debug)]
pub struct Refusal {
    pub name: String,
    pub error: Error,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal {
            name: String::new(),
            error,
        }
    }
}

impl From<Refusal> for Error {
    fn from(r: Refusal) -> Self {
        r.error
    }
}

impl Bus {
    /// The system's manager, or with `user` the caller's own (`XDG_RUNTIME_DIR`).
    /// All of the conversation has to be over within `patience`.
    pub fn connect(user: bool, patience: Duration) -> Result<Bus> {
        let (private, bus) = match user {
            false => (
                "/run/systemd/private".into(),
                "/run/dbus/system_bus_socket".into(),
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

    fn open(path: &PathBuf, destination: Option<&'static str>, patience: Duration) -> Result<Bus> {
        let call = || format!("connect({path:?})");
        let socket = UnixStream::connect(path).with_context(call)?;
        let mut bus = Bus {
            socket,
            serial: 0,
            destination,
            patience,
            deadline: Instant::now() + patience,
            ended: Vec::new(),
        };
        bus.authenticate().with_context(call)?;
        Ok(bus)
    }

    /// SASL, EXTERNAL. Without naming a user: the socket tells who we are, also from
    /// inside a user namespace, where our own number for it would be another.
    ///
    /// All of it in one write, as systemd's own clients do. systemd 252 takes a call
    /// that comes together with a BEGIN of its own into its buffer and then sleeps
    /// until more comes: one conversation in ten stood still. With BEGIN in front of
    /// the OK that we wait for, it cannot come together with a call.
    fn authenticate(&mut self) -> Result<()> {
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        loop {
            let answer = self.line()?;
            if answer.starts_with("OK ") {
                return Ok(());
            }
            if !answer.starts_with("DATA") {
                return Err(Error::new(
                    Kind::Permission,
                    format!("D-Bus authentication: {answer:?}"),
                ));
            }
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            if line.len() > 512 {
                return Err(Error::failed("D-Bus authentication: a line without an end"));
            }
            // Byte by byte: what follows the line is not ours to read yet.
            let mut byte = [0];
            self.receive(&mut byte)?;
            line.extend(byte);
        }
        line.truncate(line.len() - 2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    fn time_left(&self) -> Result<Duration> {
        match self.deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(late(self.patience)),
            left => Ok(left),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.socket.set_write_timeout(Some(self.time_left()?))?;
        let sent = self.socket.write_all(bytes);
        sent.map_err(|e| or_late(e, self.patience))
    }

    fn receive(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.socket.set_read_timeout(Some(self.time_left()?))?;
        let read = self.socket.read_exact(bytes);
        read.map_err(|e| or_late(e, self.patience))
    }

    fn next(&mut self) -> Result<Message> {
        let mut head = [0; 16];
        self.receive(&mut head)?;
        let mut bytes = vec![0; wire::length(&head)?];
        bytes[..16].copy_from_slice(&head);
        self.receive(&mut bytes[16..])?;
        let message = Message::decode(&bytes)?;
        if message.kind == wire::SIGNAL && message.member == "JobRemoved" {
            // (id, job, unit, result)
            let mut texts = message.texts("uoss")?.into_iter().skip(1);
            let (job, _, result) = (texts.next(), texts.next(), texts.next());
            self.ended
                .push((job.unwrap_or_default(), result.unwrap_or_default()));
        }
        Ok(message)
    }

    fn call(&mut self, call: Call) -> Result<Message, Refusal> {
        self.serial += 1;
        let (serial, member) = (self.serial, call.member.to_owned());
        self.send(&call.encode(serial))?;
        loop {
            let message = self.next()?;
            if message.reply_to != serial {
                continue;
            }
            match message.kind {
                wire::RETURN => return Ok(message),
                wire::ERROR => {
                    let text = message.texts("s").unwrap_or_default().pop();
                    let text = text.unwrap_or_default();
                    let name = message.error;
                    let kind = match name.as_str() {
                        "org.freedesktop.systemd1.NoSuchUnit" => Kind::NotFound,
                        "org.freedesktop.systemd1.UnitExists" => Kind::Conflict,
                        "org.freedesktop.DBus.Error.AccessDenied" => Kind::Permission,
                        _ => Kind::Failed,
                    };
                    let error = Error::new(kind, format!("systemd: {member}: {name}: {text}"));
                    return Err(Refusal { name, error });
                }
                _ => {}
            }
        }
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
        let daemon = |member, signature, body| Call {
            destination: Some("org.freedesktop.DBus"),
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member,
            signature,
            body,
        };
        self.call(daemon("Hello", "", Writer::default()))?;
        let mut rule = Writer::default();
        rule.string(&format!(
            "type='signal',sender='{SERVICE}',interface='{MANAGER}',member='JobRemoved'"
        ));
        self.call(daemon("AddMatch", "s", rule))?;
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
            self.next()?;
        }
    }

    pub fn start_transient(&mut self, unit: &str, all: &[Property]) -> Result<(), Refusal> {
        let mut body = Writer::default();
        body.string(unit);
        body.string("replace");
        body.properties(all);
        body.no_units();
        let reply = self.manager("StartTransientUnit", "ssa(sv)a(sa(sv))", body)?;
        Ok(self.finish(&reply)?)
    }

    /// Until the next boot, as `systemctl set-property --runtime`.
    pub fn set_properties(&mut self, unit: &str, all: &[Property]) -> Result<(), Refusal> {
        let mut body = Writer::default();
        body.string(unit);
        body.bool(true);
        body.properties(all);
        self.manager("SetUnitProperties", "sba(sv)", body).map(drop)
    }

    /// Returns when systemd has done what it puts off until it has answered: cgroups'
    /// attributes are written before the next call is read.
    pub fn catch_up(&mut self) -> Result<()> {
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

    pub fn stop(&mut self, unit: &str) -> Result<(), Refusal> {
        let mut body = Writer::default();
        body.string(unit);
        body.string("replace");
        let reply = self.manager("StopUnit", "ss", body)?;
        Ok(self.finish(&reply)?)
    }

    /// `active`, `deactivating`, ...
    pub fn active_state(&mut self, unit: &str) -> Result<String, Refusal> {
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

    pub fn reset_failed(&mut self, unit: &str) -> Result<(), Refusal> {
        let mut body = Writer::default();
        body.string(unit);
        self.manager("ResetFailedUnit", "s", body).map(drop)
    }
}

fn late(patience: Duration) -> Error {
    let what = format!("systemd: no answer within {} s", patience.as_secs());
    Error::new(Kind::Timeout, what)
}

fn or_late(e: std::io::Error, patience: Duration) -> Error {
    use std::io::ErrorKind as E;
    match e.kind() {
        E::WouldBlock | E::TimedOut => late(patience),
        E::UnexpectedEof => Error::failed("systemd: it closed the connection"),
        _ => e.into(),
    }
}
