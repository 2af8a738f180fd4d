//! Not what may be changed (`pod/update.rs`) nor what follows (`kubelet/update.rs`): the
//! Pod's record, as it is when the monitor begins and when a client has changed it.

use super::sandbox::Host;
use super::{Fact, Monitor};
use crate::pod::damage;
use crate::spec::Pod;
use crate::store::Layout;
use crate::{Error, Result};

/// The Pod of the record, as it is on this host, and why the record cannot be read, if it
/// cannot.
pub(super) fn load(layout: &Layout, uid: &str, host: &Host) -> Result<(Pod, Option<Error>)> {
    let (mut pod, damaged) = damage::load_pod(layout, uid)?;
    if pod.spec.host_network {
        // With the host's network goes the host's name, as with a kubelet.
        pod.spec.hostname.clone_from(&host.name);
        pod.spec.set_hostname_as_fqdn = false;
    }
    Ok((pod, damaged))
}

impl Monitor {
    /// The record has been changed.
    pub(super) fn reload(&mut self) -> Result<()> {
        let (pod, damaged) = load(&self.layout, &self.pod().uid, &self.host)?;
        if let Some(e) = damaged {
            return Err(e);
        }
        let names = |pod: &Pod| -> Vec<String> {
            let all = pod.spec.all_containers();
            all.map(|c| c.name.clone()).collect()
        };
        if names(&pod) != names(self.pod()) {
            return Err(Error::conflict("the Pod has other containers"));
        }
        for c in &pod.spec.ephemeral_containers {
            self.live(&c.name);
        }
        self.tell(Fact::Changed { pod: Box::new(pod) });
        self.update_volumes();
        self.watch_objects();
        Ok(())
    }
}
