//! firewalld(1): its D-Bus interface, firewalld.dbus(5).
//!
//! An interface that is in no zone gets the rules of the default zone, which reject
//! what is forwarded. The bridge goes into `trusted`, as podman does it with its
//! networks: what a zone forwards by default cannot be told apart from what it lets
//! in to the host's own services, and firewalld takes no new zone or policy without
//! a reload. An administrator may put the bridge into another zone; that is left
//! alone then.

use std::path::Path;
use std::time::Duration;

use crate::linux::dbus::wire::{Call, Writer};
use crate::linux::dbus::{Connection, Refusal, SYSTEM_BUS};
use crate::{Error, Kind, Result};

const SERVICE: &str = "org.fedoraproject.FirewallD1";
const ZONE: &str = "trusted";

/// firewalld answers when it has made its rules, which takes seconds when it starts.
const PATIENCE: Duration = Duration::from_secs(30);

/// True if the bridge has been put into the zone. `before` is called first.
pub(super) fn open(bridge: &str, before: impl FnOnce() -> Result<()>) -> Result<bool> {
    let mut bus = connect()?;
    let zone = call(&mut bus, "getZoneOfInterface", &[bridge])?;
    if !zone.is_empty() {
        return Ok(false);
    }
    before()?;
    call(&mut bus, "addInterface", &[ZONE, bridge])?;
    Ok(true)
}

/// Takes the bridge out of the zone. That it is not there, or firewalld not, is
/// success.
pub(super) fn close(bridge: &str) -> Result<()> {
    let Ok(mut bus) = connect() else {
        return Ok(());
    };
    match call(&mut bus, "removeInterface", &[ZONE, bridge]) {
        Ok(_) => Ok(()),
        Err(e) if is_gone(&e) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// No firewalld, or an interface that it does not have, or has in another zone.
fn is_gone(e: &Refusal) -> bool {
    let text = e.error.to_string();
    matches!(
        e.name.as_str(),
        "org.freedesktop.DBus.Error.ServiceUnknown" | "org.freedesktop.DBus.Error.NameHasNoOwner"
    ) || ["UNKNOWN_INTERFACE", "ZONE_CONFLICT"]
        .iter()
        .any(|known| text.contains(known))
}

pub(super) fn warning(bridge: &str, e: &Error) -> String {
    format!(
        "firewalld rejects what Pods send beyond this host, and could not be asked to let them \
         through ({e}): firewall-cmd --zone={ZONE} --add-interface={bridge}"
    )
}

fn connect() -> Result<Connection> {
    let mut bus = Connection::open(Path::new(SYSTEM_BUS), "firewalld", PATIENCE)
        .map_err(|e| e.with_kind(Kind::Unsupported))?;
    bus.call_daemon("Hello", "", Writer::default())?;
    Ok(bus)
}

fn call(bus: &mut Connection, member: &str, arguments: &[&str]) -> Result<String, Refusal> {
    let mut body = Writer::default();
    arguments.iter().for_each(|a| body.string(a));
    let reply = bus.call(Call {
        destination: Some(SERVICE),
        path: "/org/fedoraproject/FirewallD1",
        interface: "org.fedoraproject.FirewallD1.zone",
        member,
        signature: &"s".repeat(arguments.len()),
        body,
    })?;
    Ok(reply.texts("s")?.pop().unwrap_or_default())
}
