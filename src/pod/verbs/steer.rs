//! What a user wants of a Pod that runs: restart, pause, resume.

use std::time::Duration;

use crate::pod::client::{Connection, View};
use crate::pod::protocol::{Reply, Request};
use crate::store::Layout;
use crate::{Error, Result};

/// A monitor that dies meanwhile is revived by the next connection.
const ATTEMPTS: usize = 3;
/// A Pod may take 10 s to stand still.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks the Pod's monitor for something that it answers with `Done`, and that may be asked
/// for twice.
pub(crate) fn ask(layout: &Layout, view: &View, request: &Request) -> Result<()> {
    let name = &view.pod.name;
    for _ in 0..ATTEMPTS {
        let connection = Connection::open(layout, &view.pod.uid)?;
        connection.send(request, &[])?;
        match connection.recv(Some(PATIENCE)) {
            Ok(Some((Reply::Failed(e), _))) => return Err(e),
            Ok(Some(_)) => return Ok(()),
            Ok(None) => {}
            Err(e) => return Err(e.push_context(format!("pod {name}"))),
        }
    }
    Err(Error::failed(format!(
        "pod {name}: its monitor ends each time it is asked"
    ))
    .hint(format!(
        "its last words are in {}",
        layout.pod(&view.pod.uid).monitor_errors().display()
    )))
}
