//! What takes long of the Pod's volumes, the last part of the sandbox: claims are given to the
//! fsGroup, which takes as long as there are files, and volumes are mounted that other machines
//! serve. A child does it, which is killed when it takes too long or the Pod is deleted, while
//! the monitor answers its clients.

use std::fs::File;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;
use serde::{Deserialize, Serialize};

use super::Made;
use crate::image::HostNames;
use crate::pod::claims;
use crate::pod::monitor::helper::Helper;
use crate::pod::monitor::{Fact, Monitor, Source, Timer};
use crate::pod::reason::Reason;
use crate::spec::VolumeSource;
use crate::volume::nfs::{self, Export};
use crate::volume::owner;
use crate::{Context, Error, Ignored, Result};

/// Part of the [`Monitor`].
#[derive(Debug)]
pub(in crate::pod::monitor) struct Mounting {
    /// It reports [`Said`], each a line of JSON.
    helper: Helper,
    /// What it has said so far; lines that have been told are gone.
    text: Vec<u8>,
    /// The rest of the sandbox.
    made: Made,
    time: Duration,
}

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    /// So many files of the volume have been given to the group.
    Given {
        volume: String,
        group: u32,
        files: u64,
    },
    Ended(Result<(), Error>),
}

/// For all volumes of a Pod that other machines serve.
const MOUNTING_MOST: Duration = Duration::from_secs(30);
/// Before the first [`Said::Given`], and between two.
const FIRST: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_secs(10);

impl Monitor {
    /// Whether something of the volumes is the child's to do.
    pub(super) fn has_slow_volumes(&self) -> bool {
        self.has_remote_volumes() || claims::has_group_to_give(self.pod())
    }

    fn has_remote_volumes(&self) -> bool {
        let mut all = self.pod().spec.volumes.iter();
        all.any(|v| matches!(v.source, VolumeSource::Nfs { .. }))
    }

    /// `made`: what there is of the sandbox.
    pub(super) fn start_mounting(&mut self, made: Made) -> Result<(), Error> {
        let helper = self.start_helper(Source::Mounting, |monitor, pipe| {
            let ended = monitor
                .enter_host()
                .and_then(|()| monitor.give_claims(&pipe))
                .and_then(|()| match monitor.has_remote_volumes() {
                    true => monitor.mount_all(Instant::now() + MOUNTING_MOST),
                    false => Ok(()),
                });
            say(&pipe, &Said::Ended(ended));
        })?;
        // A walk that gives up says so itself: the engine's time is for one that hangs.
        let claims = self.pod().spec.claims().count() as u32;
        let time = MOUNTING_MOST + owner::TIME_MOST * claims;
        self.mounting = Some(Mounting {
            helper,
            text: Vec::new(),
            made,
            time,
        });
        self.set_timer(Timer::Mounting, time + Duration::from_secs(1));
        Ok(())
    }

    /// In the child.
    fn give_claims(&self, pipe: &File) -> Result<()> {
        let (mut last, mut files) = (String::new(), 0);
        let mut next = Instant::now() + FIRST;
        claims::give_to_group(&self.layout, self.pod(), &mut |volume, group| {
            if last != volume {
                (last, files) = (volume.to_owned(), 0);
            }
            files += 1;
            if files % 64 == 0 && Instant::now() >= next {
                next = Instant::now() + PAUSE;
                let volume = last.clone();
                let said = Said::Given {
                    volume,
                    group,
                    files,
                };
                say(pipe, &said);
            }
        })
    }

    /// In the child.
    fn mount_all(&self, until: Instant) -> Result<()> {
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

    /// The child says something: how far it is, or its report, with which it ends.
    pub(in crate::pod::monitor) fn on_mounting_said(&mut self) {
        let Some(m) = &mut self.mounting else {
            return;
        };
        let mut bytes = [0; 4096];
        let n = m.helper.pipe().read(&mut bytes).unwrap_or(0);
        m.text.extend_from_slice(&bytes[..n]);
        if n == 0 {
            return self.end_of_mounting(None);
        }
        while let Some(m) = &mut self.mounting
            && let Some(end) = m.text.iter().position(|b| *b == b'\n')
        {
            let line: Vec<u8> = m.text.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(Said::Given {
                    volume,
                    group,
                    files,
                }) => self.tell(Fact::EventGrew {
                    reason: Reason::VolumePermissionChangeInProgress,
                    beginning: format!(
                        "Setting volume ownership for volume {volume} to group {group}, processed "
                    ),
                    rest: format!(
                        "{files} files; with fsGroupChangePolicy: OnRootMismatch a volume that is \
                         the group's already is not walked through"
                    ),
                }),
                Ok(Said::Ended(result)) => self.end_of_mounting(Some(result)),
                Err(_) => self.end_of_mounting(None),
            }
        }
    }

    /// `None`: it has ended without a report.
    fn end_of_mounting(&mut self, result: Option<Result<(), Error>>) {
        let Some(Mounting { helper, made, .. }) = self.mounting.take() else {
            return;
        };
        self.events.timers.remove(&Timer::Mounting);
        self.reap_helper(&helper, &Source::Mounting);
        let killed = || Err(Error::failed("prepare the volumes: the child was killed"));
        self.sandbox_ends(match result.unwrap_or_else(killed) {
            Ok(()) => Ok(made),
            Err(e) => Err((Reason::FailedMount, e)),
        });
    }

    /// It has taken too long.
    pub(in crate::pod::monitor) fn give_up_mounting(&mut self) {
        let time = self.mounting.as_ref().map(|m| m.time).unwrap_or_default();
        if !self.end_mounting() {
            return;
        }
        let text = format!("prepare the volumes: no answer within {} s", time.as_secs());
        let e = Error::failed(text).hint("it is tried again");
        self.sandbox_ends(Err((Reason::FailedMount, e)));
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

/// Of the child.
fn say(mut pipe: &File, said: &Said) {
    let mut line = serde_json::to_vec(said).unwrap_or_default();
    line.push(b'\n');
    pipe.write_all(&line)
        .ignored("a monitor that has ended needs no report");
}
