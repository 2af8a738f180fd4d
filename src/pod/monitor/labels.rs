//! What the host's security modules give a Pod: its containers' AppArmor profiles. Asked of
//! the kernel at each start, since the administrator may load and remove profiles.

use super::Monitor;
use super::lifecycle::message_of;
use crate::linux::apparmor;
use crate::pod::lsm;
use crate::pod::spec::Container;
use crate::{Error, Kind, Result};

impl Monitor {
    /// Whether this host may run the Pod. A Pod that was refused stays refused.
    pub(super) fn admit(&mut self) -> bool {
        if self.state.failed.is_some() {
            return false;
        }
        match lsm::app_armor_refusal(&self.pod.spec, apparmor::is_enabled()) {
            None => true,
            Some(why) => {
                self.fail("AppArmor", &why);
                false
            }
        }
    }

    /// The name of the container's AppArmor profile, which is loaded then.
    pub(super) fn app_armor(&mut self, c: &Container) -> Result<Option<String>> {
        match lsm::app_armor(&c.security, apparmor::is_enabled()) {
            lsm::Profile::None => Ok(None),
            lsm::Profile::Named(name) => match apparmor::is_loaded(name)? {
                true => Ok(Some(name.to_owned())),
                false => Err(Error::not_found(format!(
                    "the AppArmor profile {name:?} is not loaded on this host"
                ))
                .hint("load it with apparmor_parser(8); the container is tried again")),
            },
            lsm::Profile::Default { asked } => match apparmor::load_default() {
                Ok(()) => Ok(Some(apparmor::DEFAULT.to_owned())),
                Err(e) if asked => Err(e.with_kind(Kind::NotFound)),
                Err(e) => {
                    let why = message_of(&e);
                    let text = format!(
                        "container {} runs without an AppArmor profile: {why}",
                        c.name
                    );
                    self.event(true, "AppArmor", text);
                    Ok(None)
                }
            },
        }
    }
}
