//! Mounts the volumes that other machines serve, the last part of the sandbox: in a child,
//! which is killed when it takes too long, while the monitor answers its clients.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;

use super::Made;
use crate::image::HostNames;
use crate::pod::monitor::helper::Helper;
use crate::pod::monitor::{Monitor, Source, Timer};
use crate::spec::VolumeSource;
use crate::volume::nfs::{self, Export};
use crate::{Context, Error, Ignored, Result};

/// Part of the [`Monitor`].
#[derive(Debug)]
pub(in crate::pod::monitor) struct Mounting {
    /// It reports the JSON of a `Result<()>`.
    helper: Helper,
    /// The rest of the sandbox.
    made: Made,
}

/// For all such volumes of a Pod.
const TIME_MOST: Duration = Duration::from_secs(30);

impl Monitor {
    pub(super) fn has_remote_volumes(&self) -> bool {
        let mut all = self.pod().spec.volumes.iter();
        all.any(|v| matches!(v.source, VolumeSource::Nfs { .. }))
    }

    /// `made`: what there is of the sandbox.
    pub(super) fn start_mounting(&mut self, made: Made) -> Result<(), Error> {
        let until = Instant::now() + TIME_MOST;
        let helper = self.start_helper(Source::Mounting, |monitor, mut pipe| {
            let report = serde_json::to_vec(&monitor.mount_all(until)).unwrap_or_default();
            pipe.write_all(&report)
                .ignored("a monitor that has ended needs no report");
        })?;
        self.mounting = Some(Mounting { helper, made });
        self.set_timer(Timer::Mounting, TIME_MOST + Duration::from_secs(1));
        Ok(())
    }

    /// In the child.
    fn mount_all(&self, until: Instant) -> Result<()> {
        self.enter_host()?;
        // A server knows its clients by their host names (RFC 8881, 2.4): the node's.
        nix::sched::unshare(CloneFlags::CLONE_NEWUTS)
            .map_err(|e| Error::sys("unshare(CLONE_NEWUTS)", e))?;
        nix::unistd::sethostname(&self.host.name)
            .map_err(|e| Error::sys(format!("sethostname({:?})", self.host.name), e))?;
        for v in &self.pod().spec.volumes {
            if let VolumeSource::Nfs {
                server,
                path,
                read_only,
            } = &v.source
            {
                let export = Export {
                    server,
                    path,
                    read_only: *read_only,
                };
                self.mount_one(&v.name, export, until)
                    .with_context(|| format!("volume {}", v.name))?;
            }
        }
        Ok(())
    }

    fn mount_one(&self, name: &str, export: Export, until: Instant) -> Result<()> {
        let server = export.server;
        if !nfs::is_server(server) {
            return Err(Error::invalid(format!(
                "nfs.server {server:?} is neither a host's name nor an address"
            )));
        }
        let servers = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let addresses = HostNames::with_servers(&servers)
            .lookup(server, until)
            .with_context(|| format!("look up the NFS server {server}"))?;
        nfs::mount(export, &addresses, &self.paths.memory_volume(name), until)
    }

    /// The child reports, and ends.
    pub(in crate::pod::monitor) fn on_mounted(&mut self) {
        let Some(Mounting { helper, made }) = self.mounting.take() else {
            return;
        };
        self.events.timers.remove(&Timer::Mounting);
        let mut text = Vec::new();
        let read = helper.pipe().take(1 << 20).read_to_end(&mut text);
        self.reap_helper(&helper, &Source::Mounting);
        let outcome = read.map_err(Error::from).and_then(|_| {
            serde_json::from_slice::<Result<(), Error>>(&text)
                .unwrap_or_else(|_| Err(Error::failed("mount NFS volumes: the child was killed")))
        });
        self.sandbox_ends(match outcome {
            Ok(()) => Ok(made),
            Err(e) => Err((crate::pod::reason::Reason::FailedMount, e)),
        });
    }

    /// It has taken too long.
    pub(in crate::pod::monitor) fn give_up_mounting(&mut self) {
        if !self.end_mounting() {
            return;
        }
        let text = format!(
            "mount NFS volumes: no answer within {} s",
            TIME_MOST.as_secs()
        );
        let e = Error::failed(text).hint("the mount is tried again");
        self.sandbox_ends(Err((crate::pod::reason::Reason::FailedMount, e)));
    }

    /// Before the volumes are removed. Whether there was something to end.
    pub(in crate::pod::monitor) fn end_mounting(&mut self) -> bool {
        self.events.timers.remove(&Timer::Mounting);
        let Some(m) = self.mounting.take() else {
            return false;
        };
        self.abandon_helper(&m.helper, &Source::Mounting);
        true
    }
}
