//! The error for an image that is not in the store: the names that were looked for, and the
//! command that brings it or the name that it has here.

use nix::errno::Errno;

use crate::Error;
use crate::image::registry::connection::is_loopback;
use crate::image::registry::refusal::is_unreachable;
use crate::image::store::index::as_id;
use crate::image::{Reference, Store};

/// Names that a hint lists.
const MOST: usize = 3;

impl Store {
    /// For what [`Store::lookup_any`] has not found. [`crate::Kind::NotFound`].
    pub fn absent(&self, asked: &str) -> Error {
        let reference = asked.parse::<Reference>().ok();
        let mut names = Vec::new();
        names.extend(reference.as_ref().map(Reference::to_string));
        names.retain(|name| name != asked);
        names.extend(as_id(asked).map(|hex| format!("an ID that begins with {hex}")));
        let looked = match names.is_empty() {
            true => String::new(),
            false => format!(": looked for {}", names.join(" and ")),
        };
        let hint = match reference {
            None => "carob images -o wide lists what is here".to_owned(),
            Some(r) => self.hint_like(&r).unwrap_or_else(|| {
                format!(
                    "carob pull {} brings it from its registry, carob load -i FILE from an \
                     archive; carob images lists what is here",
                    r.familiar()
                )
            }),
        };
        Error::not_found(format!("image {asked} is not here{looked}")).hint(hint)
    }

    /// A pull's error, with the way on if the image may be here by another name, or was
    /// meant to come from an archive: localhost/ is the registry of images built here, and
    /// on most machines none answers there.
    pub(in crate::image) fn without_pull(&self, r: &Reference, e: Error) -> Error {
        if e.get_hint().is_some() {
            return e;
        }
        match self.hint_like(r) {
            Some(hint) => e.hint(hint),
            None if is_loopback(r.registry()) => {
                let registry = r.registry();
                e.hint(format!(
                    "carob load -i FILE brings {r} from an archive; to pull it, a registry has to \
                     listen at {registry}"
                ))
            }
            None if e.errno() == Some(Errno::ECONNREFUSED) => {
                let registry = r.registry();
                e.hint(format!(
                    "nothing listens at {registry}: start the registry, or correct its name and \
                     port in the image's name"
                ))
            }
            None if e.errno().is_some_and(is_unreachable) => {
                let registry = r.registry();
                e.hint(format!(
                    "make {registry} reachable from here (names: /etc/resolv.conf; a proxy: \
                     HTTPS_PROXY), or correct its name; without a network, carob load -i FILE \
                     brings {r} from an archive"
                ))
            }
            None => e,
        }
    }

    /// Images here whose names end alike: another registry, or another tag.
    fn hint_like(&self, r: &Reference) -> Option<String> {
        let last = |r: &Reference| r.repository().rsplit('/').next().map(str::to_owned);
        let images = self.list().ok()?;
        let names = images.iter().flat_map(|i| &i.names);
        let like: Vec<String> = names
            .filter_map(|name| name.parse::<Reference>().ok())
            .filter(|here| here != r && last(here) == last(r))
            .map(|here| here.familiar())
            .take(MOST)
            .collect();
        match like.as_slice() {
            [] => None,
            [one] => Some(format!("here is {one}: carob images lists all")),
            more => Some(format!(
                "here are {}: carob images lists all",
                more.join(", ")
            )),
        }
    }
}
