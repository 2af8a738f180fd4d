//! A blocking D-Bus client: one connection, one call at a time. Who is called, and
//! what the calls mean, is the callers' affair: systemd's manager
//! ([`crate::linux::cgroup::systemd`]) and firewalld. Why not a crate:
//! `docs/decisions/0008-systemd-driver.md`.

pub(crate) mod wire;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::{Context, Error, Kind, Result};
use wire::{Call, Message, Writer};

/// The system's bus daemon.
pub(crate) const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: UnixStream,
    serial: u32,
    /// The service, in errors.
    service: &'static str,
    patience: Duration,
    deadline: Instant,
    /// Signals that came while something else was waited for.
    pub signals: Vec<Message>,
}

/// Why the other side said no: its error's name and text.
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

impl Connection {
    /// Everything that is done with the connection has to be done within `patience`.
    pub(crate) fn open(path: &Path, service: &'static str, patience: Duration) -> Result<Self> {
        log::debug!("D-Bus: connect to {path:?}");
        let call = || format!("connect({path:?})");
        let socket = UnixStream::connect(path).with_context(call)?;
        let mut connection = Connection {
            socket,
            serial: 0,
            service,
            patience,
            deadline: Instant::now() + patience,
            signals: Vec::new(),
        };
        connection.authenticate().with_context(call)?;
        Ok(connection)
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
            Duration::ZERO => Err(self.late()),
            left => Ok(left),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.socket.set_write_timeout(Some(self.time_left()?))?;
        self.socket
            .write_all(bytes)
            .map_err(|e| self.explain_io_error(e))
    }

    fn receive(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.socket.set_read_timeout(Some(self.time_left()?))?;
        self.socket
            .read_exact(bytes)
            .map_err(|e| self.explain_io_error(e))
    }

    /// The next message, whatever it is.
    pub(crate) fn next_message(&mut self) -> Result<Message> {
        let mut head = [0; 16];
        self.receive(&mut head)?;
        let mut bytes = vec![0; wire::length(&head)?];
        bytes[..16].copy_from_slice(&head);
        self.receive(&mut bytes[16..])?;
        Message::decode(&bytes)
    }

    /// One call, its reply.
    pub(crate) fn call(&mut self, call: Call) -> Result<Message, Refusal> {
        self.serial += 1;
        let (serial, member) = (self.serial, call.member.to_owned());
        log::debug!("D-Bus: call {member} of {}, {}", self.service, call.path);
        self.send(&call.encode(serial))?;
        loop {
            let message = self.next_message()?;
            match message.kind {
                wire::SIGNAL => self.signals.push(message),
                wire::RETURN if message.reply_to == serial => return Ok(message),
                wire::ERROR if message.reply_to == serial => {
                    return Err(self.refusal(&member, message));
                }
                _ => {}
            }
        }
    }

    fn refusal(&self, member: &str, message: Message) -> Refusal {
        let text = message.texts("s").unwrap_or_default().pop();
        let text = text.unwrap_or_default();
        let name = message.error;
        let kind = match name.as_str() {
            "org.freedesktop.systemd1.NoSuchUnit" => Kind::NotFound,
            "org.freedesktop.systemd1.UnitExists" => Kind::Conflict,
            "org.freedesktop.DBus.Error.AccessDenied" => Kind::Permission,
            _ => Kind::Failed,
        };
        let error = Error::new(kind, format!("{}: {member}: {name}: {text}", self.service));
        Refusal { name, error }
    }

    /// A call of the bus daemon itself, for a connection to it.
    pub(crate) fn call_daemon(
        &mut self,
        member: &str,
        signature: &str,
        body: Writer,
    ) -> Result<Message, Refusal> {
        self.call(Call {
            destination: Some("org.freedesktop.DBus"),
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member,
            signature,
            body,
        })
    }

    fn late(&self) -> Error {
        let seconds = self.patience.as_secs();
        let what = format!("{}: no answer within {seconds} s", self.service);
        Error::new(Kind::Timeout, what)
    }

    fn explain_io_error(&self, e: std::io::Error) -> Error {
        use std::io::ErrorKind as E;
        match e.kind() {
            E::WouldBlock | E::TimedOut => self.late(),
            E::UnexpectedEof => {
                Error::failed(format!("{}: it closed the connection", self.service))
            }
            _ => e.into(),
        }
    }
}
