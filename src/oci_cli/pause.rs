//! `pause` and `resume`.

use super::args::{Args, Order};
use super::{Face, Verb};
use crate::oci::end::not_running;
use crate::oci::record::Status;
use crate::{Error, Result};

pub(super) const PAUSE: Verb = Verb {
    name: "pause",
    operands: "ID",
    about: "stops a container's processes where they are",
    flags: &[],
    order: Order::Any,
    enters: false,
    run: |face, args| turn(face, args, true),
};

pub(super) const RESUME: Verb = Verb {
    name: "resume",
    about: "lets a paused container go on",
    run: |face, args| turn(face, args, false),
    ..PAUSE
};

fn turn(face: &Face, args: &Args, pause: bool) -> Result<u8> {
    let id = args.id()?;
    let _lock = face.containers.lock(id)?;
    let record = face.containers.load(id)?;
    let status = face.containers.status(&record);
    let good = match pause {
        true => matches!(status, Status::Created | Status::Running),
        false => status == Status::Paused,
    };
    if !good {
        return Err(match (pause, status) {
            (_, Status::Stopped) | (true, Status::Creating) => not_running(),
            (true, _) => Error::conflict("container is paused already"),
            (false, _) => Error::conflict("container not paused"),
        });
    }
    let cgroup = face
        .containers
        .cgroup(&record)?
        .ok_or_else(|| Error::unsupported("a container without a cgroup cannot be paused"))?;
    match pause {
        true => cgroup.pause()?,
        false => cgroup.resume()?,
    }
    Ok(0)
}
