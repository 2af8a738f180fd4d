//! Links of the host that move into a container: config-linux.md, "Network
//! Devices".

use nix::unistd::Pid;

use crate::{Error, Result};

/// Moves links (name here, name there) into the network namespace of `pid`.
pub(super) fn move_in(_pid: Pid, links: &[(String, String)]) -> Result<()> {
    match links.first() {
        None => Ok(()),
        Some((name, _)) => Err(Error::unsupported(format!(
            "linux.netDevices: {name}: not yet"
        ))),
    }
}
