//! Limits to the hierarchy that has their controller, in an order and a manner
//! that the kernel accepts whatever the limits were before.

use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::devices::{self, DeviceRule};
use super::hierarchy::{Controllers, Hierarchy};
use super::resources::{Absent, Limit, Resources, Write};
use super::{Cgroup, io, missing, v1, v2};
use crate::{Error, Kind, Result};

impl Cgroup {
    pub(super) fn apply_all(&self, r: &Resources) -> Result<()> {
        let v2 = self.hierarchies.v2();
        let writes = v1::plan(r);
        for h in self.joined().skip(v2.is_some() as usize) {
            let here = writes
                .iter()
                .filter(|w| h.controllers().meets(w.controller));
            settle(here.collect(), |w| self.write(h, w, r))?;
        }
        self.apply_v2(r)?;
        self.apply_devices(&r.devices)?;
        self.apply_unified(&r.unified)
    }

    /// What no v1 hierarchy of ours takes.
    fn apply_v2(&self, r: &Resources) -> Result<()> {
        let on_v2 = |c| self.v1_with(c).is_none();
        let completed;
        let mut r = r;
        if let Some(h) = self.hierarchies.v2() {
            let path = self.path_in(h);
            if on_v2(Controllers::MEMORY) && h.controllers().meets(Controllers::MEMORY) {
                v2::check_memory(h, path, r)?;
            }
            completed = v2::complete(h, path, r, on_v2)?;
            r = &completed;
        }
        v2::expressible(r, on_v2)?;
        let mut writes = Vec::new();
        let plan = v2::plan(r);
        for w in &plan {
            if !on_v2(w.controller) {
                continue;
            }
            let has = |h: &Hierarchy| h.controllers().meets(w.controller);
            if !self.hierarchies.v2().is_some_and(has) {
                // The v1 hierarchy is there, but this cgroup was made without it.
                let why = self.why_not(w.controller);
                return Err(missing(w.controller_name(), why.as_deref()));
            }
            writes.push(w);
        }
        match self.hierarchies.v2() {
            Some(h) => settle(writes, |w| self.write(h, w, r)),
            None => Ok(()),
        }
    }

    fn write(&self, h: &Hierarchy, w: &Write, r: &Resources) -> Result<()> {
        self.write_file(h, w, r).map_err(|e| match w.field() {
            Some(field) => e.push_context(field),
            None => e,
        })
    }

    fn write_file(&self, h: &Hierarchy, w: &Write, r: &Resources) -> Result<()> {
        let path = self.path_in(h);
        let again = |e: Error| match e.errno() {
            Some(Errno::ENOENT) if self.switch_on(h, w.controller) => {
                io::write(h, path, &w.file, &w.value)
            }
            _ => Err(e),
        };
        let e = match io::write(h, path, &w.file, &w.value).or_else(again) {
            Ok(()) => return Ok(()),
            Err(e) if e.errno() == Some(Errno::ENOENT) && self.exists() => e,
            Err(e) => return Err(explain(e)),
        };
        match &w.absent {
            Absent::Skip => return Ok(()),
            Absent::Instead(file, value) => match io::write(h, path, file, value) {
                Err(e) if e.errno() == Some(Errno::ENOENT) => {}
                other => return other.map_err(explain),
            },
            Absent::Fail => {}
        }
        let is_swap = matches!(&*w.file, "memory.swap.max" | "memory.memsw.limit_in_bytes");
        if is_swap && no_swap_to_limit(r) {
            return Ok(());
        }
        Err(self.not_there(h, w, e))
    }

    /// On hybrid, v2's controllers are switched on once a limit needs them: each
    /// costs every cgroup something, and few containers ask for any.
    fn switch_on(&self, h: &Hierarchy, controller: Controllers) -> bool {
        let is_v2 = self.hierarchies.v2().is_some_and(|v2| std::ptr::eq(v2, h));
        is_v2
            && !self.hierarchies.is_pure_v2()
            && v2::enable(h, self.path_in(h), controller).is_ok()
    }

    fn apply_devices(&self, rules: &[DeviceRule]) -> Result<()> {
        if rules.is_empty() {
            return Ok(());
        }
        if let Some(h) = self.v1_with(Controllers::DEVICES) {
            if let Some(writes) = devices::plan_v1(rules) {
                return self.write_devices(h, &writes);
            }
            // The program decides instead, v1 lets everything by.
            if self.hierarchies.v2().is_none() {
                return Err(Error::unsupported(
                    "device rules: cgroup v1 cannot take a part of an earlier rule back",
                ));
            }
            self.write_devices(h, &[("devices.allow", "a".to_owned())])?;
        }
        self.apply_device_program(rules)
    }

    /// The program alone, whether v1 has the rules or not. On hybrid both are in
    /// force then.
    pub(super) fn apply_device_program(&self, rules: &[DeviceRule]) -> Result<()> {
        match self.hierarchies.v2() {
            Some(h) => {
                let dir = io::open_dir(h, self.path_in(h), OFlag::O_RDONLY)?;
                devices::apply_v2(dir.as_fd(), rules)
            }
            None => Err(missing(
                "devices",
                self.why_not(Controllers::DEVICES).as_deref(),
            )),
        }
    }

    fn write_devices(&self, h: &Hierarchy, writes: &[(&str, String)]) -> Result<()> {
        let path = self.path_in(h);
        // One open serves a run of writes to the same file.
        let mut open: Option<(&str, _)> = None;
        for (file, text) in writes {
            let fd = match open.take() {
                Some((name, fd)) if name == *file => fd,
                _ => io::open_write(h, path, file)?,
            };
            nix::unistd::write(&fd, text.as_bytes()).map_err(|e| {
                let full = io::full(h, path, file);
                let error = Error::sys(format_args!("write({full:?}, {text:?})"), e);
                match e {
                    Errno::EPERM => error.hint("the cgroup above it denies this device"),
                    _ => error,
                }
            })?;
            open = Some((file, fd));
        }
        Ok(())
    }

    fn apply_unified(&self, writes: &[(String, String)]) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        let Some(h) = self.hierarchies.v2() else {
            return Err(Error::unsupported("unified: cannot be used on cgroup v1")
                .hint("unified names files of cgroup v2, and no such hierarchy is mounted"));
        };
        let path = self.path_in(h);
        for (file, value) in writes {
            let field = || format!("unified[{file:?}]");
            let controller = file.split('.').next().unwrap_or(file);
            if file.contains('/') || controller.is_empty() || controller.len() == file.len() {
                let what = "has to be CONTROLLER.PARAMETER, the name of a file";
                return Err(Error::invalid(format!("{}: {what}", field())));
            }
            for line in value.lines().chain(value.is_empty().then_some("")) {
                let write = || io::write(h, path, file, line);
                let wrote = write().or_else(|e| match e.errno() {
                    Some(Errno::ENOENT) if self.switch_on(h, Controllers::parse(controller)) => {
                        write()
                    }
                    _ => Err(e),
                });
                let Err(e) = wrote else { continue };
                let set = Controllers::parse(controller);
                let e = match e.errno() {
                    Some(Errno::ENOENT | Errno::EPERM)
                        if controller != "cgroup" && !h.controllers().meets(set) =>
                    {
                        missing(controller, self.why_not(set).as_deref())
                    }
                    Some(Errno::ENOENT) => {
                        self.not_there(h, &Write::new(set, file.clone(), line), e)
                    }
                    _ => explain(e),
                };
                return Err(e.push_context(field()));
            }
        }
        Ok(())
    }

    fn why_not(&self, controller: Controllers) -> Option<String> {
        let h = self.hierarchies.v1_with(controller)?;
        let point = h.point().display();
        Some(match self.v1_with(controller) {
            Some(_) => format!("{point} has it: cgroup v1, whose files have other names"),
            None => format!("{point} has it, but this cgroup was made without it"),
        })
    }

    /// The cgroup is there, the file is not.
    fn not_there(&self, h: &Hierarchy, w: &Write, e: Error) -> Error {
        let path = self.path_in(h);
        let name = w.controller_name();
        // cpu.weight exists from the controller on; other files of a controller
        // may need more of the kernel.
        let probe = match name {
            "memory" => "memory.max",
            "cpu" => "cpu.weight",
            "io" => "io.max",
            "cpuset" => "cpuset.cpus",
            _ => &w.file,
        };
        let is_v2 = self.hierarchies.v2().is_some_and(|v2| std::ptr::eq(v2, h));
        let exists = |f: &str| io::full(h, path, f).exists();
        if !is_v2 || exists(probe) {
            let hint = match &*w.file {
                "memory.swap.max" | "memory.memsw.limit_in_bytes" => {
                    "the kernel does not account swap: boot it with swapaccount=1, or without swap"
                }
                _ => "the kernel was built without it, or is too old",
            };
            return e.with_kind(Kind::Unsupported).hint(hint);
        }
        let parent = Path::new(path).parent().and_then(Path::to_str);
        let parent = parent.unwrap_or_default();
        let point = h.point().join(parent);
        let busy = !parent.is_empty()
            && io::read(h, parent, "cgroup.procs").is_ok_and(|pids| !pids.trim().is_empty());
        let hint = match busy {
            true => format!(
                "processes are in {}: cgroup v2 gives controllers only to what is below a \
                 cgroup without any",
                point.display()
            ),
            false => format!(
                "switch it on: echo +{name} > {}, and above",
                point.join("cgroup.subtree_control").display()
            ),
        };
        missing(name, Some(&hint))
    }
}

/// Writes what the kernel takes and tries the rest again after it, for as long as
/// that helps. Some limits are judged by others that stand (memory by memory and
/// swap, a period and a burst by the quota), so that raising wants one order and
/// lowering the opposite: this finds it without reading what stands.
fn settle(writes: Vec<&Write>, write: impl Fn(&Write) -> Result<()>) -> Result<()> {
    let mut left = writes;
    loop {
        let before = left.len();
        let mut refused = Vec::new();
        let mut first = None;
        for w in left {
            match write(w) {
                Ok(()) => {}
                Err(e) if e.errno() == Some(Errno::EINVAL) => {
                    first.get_or_insert(e);
                    refused.push(w);
                }
                Err(e) => return Err(e),
            }
        }
        match first {
            None => return Ok(()),
            Some(e) if refused.len() == before => return Err(e),
            Some(_) => left = refused,
        }
    }
}

/// A limit on swap is kept by itself where there is no swap.
fn no_swap_to_limit(r: &Resources) -> bool {
    let none = || std::fs::read_to_string("/proc/swaps").is_ok_and(|s| s.lines().count() <= 1);
    let wanted = r.memory_and_swap_max.or(r.memory_swap_max);
    wanted == Some(Limit::Max) || none()
}

fn explain(e: Error) -> Error {
    match e.errno() {
        Some(Errno::EBUSY) => e.hint("more is in use already, or a process is where none may be"),
        Some(Errno::EINVAL | Errno::ERANGE) => e.with_kind(Kind::Invalid),
        Some(Errno::ENODEV) => e
            .with_kind(Kind::Invalid)
            .hint("there is no device of this major and minor number, or name, here"),
        Some(Errno::EACCES | Errno::EPERM) => e.with_kind(Kind::Permission),
        _ => e,
    }
}
