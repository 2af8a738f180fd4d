//! The files of a cgroup as [`Accounts`]: cgroup-v2.rst, cgroup-v1/*.rst,
//! accounting/psi.rst.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::PollFlags;

use super::accounts::*;
use super::hierarchy::{Controllers, Hierarchy};
use super::{Cgroup, io, v1, v2};
use crate::{Error, Result};

/// The files of one cgroup in one hierarchy; what cannot be read is not there.
struct Files<'h> {
    hierarchy: &'h Hierarchy,
    path: &'h str,
}

impl Files<'_> {
    fn text(&self, file: &str) -> Option<String> {
        io::read(self.hierarchy, self.path, file).ok()
    }

    fn number(&self, file: &str) -> Option<u64> {
        match self.text(file)?.trim() {
            "max" => Some(u64::MAX),
            text => text.parse().ok(),
        }
    }

    fn map(&self, file: &str) -> BTreeMap<String, u64> {
        let text = self.text(file).unwrap_or_default();
        let pair = |l: &str| {
            let (key, value) = l.split_once(' ')?;
            Some((key.to_owned(), value.trim().parse().ok()?))
        };
        text.lines().filter_map(pair).collect()
    }

    fn pressure(&self, file: &str) -> Option<Pressure> {
        parse_pressure(&self.text(file)?)
    }
}

impl Cgroup {
    fn files(&self, controller: Controllers) -> Option<(Files<'_>, bool)> {
        let v1 = self.v1_with(controller).map(|h| (h, false));
        let (hierarchy, is_v2) = v1.or_else(|| Some((self.hierarchies.v2()?, true)))?;
        let path = self.path_in(hierarchy);
        Some((Files { hierarchy, path }, is_v2))
    }

    /// A few numbers, cheaply.
    pub fn stat(&self) -> Result<Stats> {
        use Controllers as C;
        let one = |c, old, new| {
            let (files, is_v2) = self.files(c)?;
            files.number(if is_v2 { new } else { old })
        };
        self.there()?;
        Ok(Stats {
            memory_current: one(C::MEMORY, "memory.usage_in_bytes", "memory.current"),
            memory_peak: one(C::MEMORY, "memory.max_usage_in_bytes", "memory.peak"),
            pids_current: one(C::PIDS, "pids.current", "pids.current"),
            // v2 keeps the account of CPU time without any controller.
            cpu_usage_ns: self.cpu_ns(),
            oom_kills: self.oom_kills_if_known(),
        })
    }

    fn cpu_ns(&self) -> Option<u64> {
        match self.files(Controllers::CPUACCT)? {
            (files, false) => files.number("cpuacct.usage"),
            (files, true) => files
                .text("cpu.stat")
                .and_then(|text| v2::keyed(&text, "usage_usec"))
                .map(|us| us * 1000),
        }
    }

    /// What `carob top` shows.
    pub(crate) fn usage(&self) -> Result<Usage> {
        self.there()?;
        let memory = self.files(Controllers::MEMORY).and_then(|(f, is_v2)| {
            let (usage, inactive) = match is_v2 {
                true => ("memory.current", "inactive_file"),
                // Of the cgroups below as well, as the usage is.
                false => ("memory.usage_in_bytes", "total_inactive_file"),
            };
            let inactive = v2::keyed(&f.text("memory.stat")?, inactive)?;
            Some(f.number(usage)?.saturating_sub(inactive))
        });
        Ok(Usage {
            cpu_ns: self.cpu_ns(),
            working_set: memory,
            pressure: Pressures {
                cpu: self.pressure("cpu.pressure"),
                memory: self.pressure("memory.pressure"),
                io: self.pressure("io.pressure"),
            },
        })
    }

    fn there(&self) -> Result<()> {
        match self.exists() {
            true => Ok(()),
            false => Err(Error::not_found(format!("cgroup {}: is gone", self.path()))),
        }
    }

    /// Everything that is accounted; some thirty files.
    pub fn accounts(&self) -> Result<Accounts> {
        use Controllers as C;
        self.there()?;
        let mut all = Accounts {
            cpu: self.cpu_account(),
            ..Accounts::default()
        };
        if let Some((f, _)) = self.files(C::CPUSET) {
            all.cpuset = cpuset(&f);
        }
        match self.files(C::MEMORY) {
            Some((f, false)) => all.memory = memory_v1(&f),
            Some((f, true)) => all.memory = memory_v2(&f),
            None => {}
        }
        if let Some((f, _)) = self.files(C::PIDS) {
            all.pids.current = f.number("pids.current").unwrap_or(0);
            let limit = f.number("pids.max").filter(|n| *n != u64::MAX);
            all.pids.limit = limit.unwrap_or(0);
        }
        match self.files(C::IO) {
            Some((f, false)) => all.blkio = io_v1(&f),
            Some((f, true)) => all.blkio = io_v2(&f),
            None => {}
        }
        if let Some((f, is_v2)) = self.files(C::HUGETLB) {
            for size in page_sizes() {
                let name = |part| format!("hugetlb.{size}.{part}");
                let number = |part| f.number(&name(part));
                let account = match is_v2 {
                    true => number("current").map(|usage| HugetlbAccount {
                        usage,
                        max: 0,
                        failcnt: f.map(&name("events")).get("max").copied().unwrap_or(0),
                    }),
                    false => number("usage_in_bytes").map(|usage| HugetlbAccount {
                        usage,
                        max: number("max_usage_in_bytes").unwrap_or(0),
                        failcnt: number("failcnt").unwrap_or(0),
                    }),
                };
                all.hugetlb.extend(account.map(|a| (size, a)));
            }
        }
        if let Some((f, _)) = self.files(C::RDMA) {
            let text = f.text("rdma.current").unwrap_or_default();
            all.rdma = text.lines().filter_map(parse_rdma).collect();
        }
        Ok(all)
    }

    fn cpu_account(&self) -> CpuAccount {
        use Controllers as C;
        let mut cpu = CpuAccount::default();
        let stat = |c| self.files(c).map(|(f, _)| f.map("cpu.stat"));
        let stat = stat(C::CPU).unwrap_or_default();
        let get = |key: &str| stat.get(key).copied().unwrap_or(0);
        cpu.throttling = Throttling {
            periods: get("nr_periods"),
            throttled_periods: get("nr_throttled"),
            throttled_time: match stat.get("throttled_usec") {
                Some(us) => us * 1000,
                None => get("throttled_time"),
            },
        };
        match self.files(C::CPUACCT) {
            Some((f, false)) => {
                cpu.usage.total = f.number("cpuacct.usage").unwrap_or(0);
                let list = f.text("cpuacct.usage_all").unwrap_or_default();
                // "cpu user system", one line for each CPU.
                for line in list.lines().skip(1) {
                    let mut n = line.split(' ').skip(1).map(|n| n.parse().unwrap_or(0));
                    let (user, kernel) = (n.next().unwrap_or(0), n.next().unwrap_or(0));
                    cpu.usage.percpu_user.push(user);
                    cpu.usage.percpu_kernel.push(kernel);
                }
                let each = f.text("cpuacct.usage_percpu").unwrap_or_default();
                cpu.usage.percpu = each.split_whitespace().flat_map(str::parse).collect();
                // In ticks of USER_HZ, which is 100 to every program; the one pair
                // that the kernel scales so that it adds up to the total.
                let stat = f.map("cpuacct.stat");
                let ns = |key: &str| stat.get(key).copied().unwrap_or(0) * 10_000_000;
                cpu.usage.user = ns("user");
                cpu.usage.kernel = ns("system");
            }
            Some((f, true)) => {
                let stat = f.map("cpu.stat");
                let ns = |key: &str| stat.get(key).copied().unwrap_or(0) * 1000;
                cpu.usage.total = ns("usage_usec");
                cpu.usage.user = ns("user_usec");
                cpu.usage.kernel = ns("system_usec");
            }
            None => {}
        }
        // Pressure is v2's, on hybrid too.
        cpu.psi = self.pressure("cpu.pressure");
        cpu
    }

    fn pressure(&self, file: &str) -> Option<Pressure> {
        let hierarchy = self.hierarchies.v2()?;
        let path = self.path_in(hierarchy);
        Files { hierarchy, path }.pressure(file)
    }

    fn oom_kills_if_known(&self) -> Option<u64> {
        let (files, is_v2) = self.files(Controllers::MEMORY)?;
        let file = match is_v2 {
            true => "memory.events",
            false => "memory.oom_control",
        };
        v2::keyed(&files.text(file)?, "oom_kill")
    }

    /// How many processes were killed for want of memory; 0 where that is not
    /// accounted.
    pub fn oom_kills(&self) -> Result<u64> {
        Ok(self.oom_kills_if_known().unwrap_or(0))
    }

    /// Tells when the cgroup runs out of memory, if its memory is controlled. It also
    /// does for lesser reasons (v1: the cgroup's removal; v2: any change of
    /// memory.events): then compare [`Self::oom_kills`].
    pub fn oom_events(&self) -> Result<Option<OomEvents>> {
        let events = match (self.v1_with(Controllers::MEMORY), self.hierarchies.v2()) {
            (Some(h), _) => v1::oom_events(h, self.path_in(h)),
            (None, Some(h)) => v2::oom_events(h, self.path_in(h)),
            (None, None) => return Ok(None),
        };
        match events {
            Ok(events) => Ok(Some(events)),
            Err(e) if e.errno() == Some(Errno::ENOENT) && self.exists() => Ok(None),
            Err(e) => Err(e.push_context(format!("watch memory of cgroup {}", self.path()))),
        }
    }
}

/// What [`Cgroup::oom_events`] gives: an fd to wait on.
#[derive(Debug)]
pub enum OomEvents {
    /// v1: an eventfd, which is readable then.
    Counter(OwnedFd),
    /// v2: memory.events, which is in an exceptional condition from its change until
    /// it is read again. Readable it always is.
    File(OwnedFd),
}

impl AsFd for OomEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            OomEvents::Counter(fd) | OomEvents::File(fd) => fd.as_fd(),
        }
    }
}

impl OomEvents {
    /// What poll(2) and epoll(7) wait for.
    pub fn awaited(&self) -> PollFlags {
        match self {
            OomEvents::Counter(_) => PollFlags::POLLIN,
            OomEvents::File(_) => PollFlags::POLLPRI,
        }
    }

    /// The next wait is for the next event.
    ///
    /// # Errors
    /// ENODEV: the cgroup is gone, and from now on no wait ends.
    pub fn acknowledge(&self) -> Result<()> {
        let mut bytes = [0; 512];
        let read = match self {
            OomEvents::Counter(fd) => nix::unistd::read(fd, &mut bytes),
            OomEvents::File(fd) => nix::sys::uio::pread(fd, &mut bytes, 0),
        };
        match read {
            Ok(_) | Err(Errno::EAGAIN) => Ok(()),
            Err(e) => Err(Error::sys("read(<memory events>)", e)),
        }
    }
}

fn cpuset(f: &Files) -> CpusetAccount {
    let list = |names: [&str; 2]| {
        let text = names.into_iter().find_map(|n| {
            let text = f.text(n)?;
            (!text.trim().is_empty()).then_some(text)
        });
        parse_cpu_list(&text.unwrap_or_default())
    };
    let number = |file| f.number(file).unwrap_or(0);
    CpusetAccount {
        cpus: list(["cpuset.cpus", "cpuset.cpus.effective"]),
        mems: list(["cpuset.mems", "cpuset.mems.effective"]),
        cpu_exclusive: number("cpuset.cpu_exclusive"),
        mem_hardwall: number("cpuset.mem_hardwall"),
        mem_exclusive: number("cpuset.mem_exclusive"),
        memory_migrate: number("cpuset.memory_migrate"),
        memory_spread_page: number("cpuset.memory_spread_page"),
        memory_spread_slab: number("cpuset.memory_spread_slab"),
        memory_pressure: number("cpuset.memory_pressure"),
        sched_load_balance: number("cpuset.sched_load_balance"),
        sched_relax_domain_level: f
            .text("cpuset.sched_relax_domain_level")
            .and_then(|t| t.trim().parse().ok())
            .unwrap_or(0),
    }
}

fn memory_v1(f: &Files) -> MemoryAccount {
    let entry = |prefix: &str| {
        let number = |file: &str| f.number(&format!("memory.{prefix}{file}")).unwrap_or(0);
        MemoryEntry {
            limit: number("limit_in_bytes"),
            usage: number("usage_in_bytes"),
            max: number("max_usage_in_bytes"),
            failcnt: number("failcnt"),
        }
    };
    let raw = f.map("memory.stat");
    MemoryAccount {
        cache: raw.get("cache").copied().unwrap_or(0),
        usage: entry(""),
        swap: entry("memsw."),
        kernel: entry("kmem."),
        kernel_tcp: entry("kmem.tcp."),
        raw,
        ..MemoryAccount::default()
    }
}

fn memory_v2(f: &Files) -> MemoryAccount {
    let number = |file: &str| f.number(file).unwrap_or(0);
    let raw = f.map("memory.stat");
    let get = |key: &str| raw.get(key).copied().unwrap_or(0);
    let usage = MemoryEntry {
        limit: number("memory.max"),
        usage: number("memory.current"),
        max: number("memory.peak"),
        failcnt: f.map("memory.events").get("max").copied().unwrap_or(0),
    };
    // The kernel's numbers are of swap alone.
    let swap = MemoryEntry {
        limit: number("memory.swap.max").saturating_add(usage.limit),
        usage: number("memory.swap.current") + usage.usage,
        max: 0,
        failcnt: 0,
    };
    let kernel = MemoryEntry {
        usage: get("kernel"),
        ..MemoryEntry::default()
    };
    MemoryAccount {
        cache: get("file"),
        usage,
        swap,
        kernel,
        psi: f.pressure("memory.pressure"),
        raw,
        ..MemoryAccount::default()
    }
}

/// The throttling layer counts every device; BFQ only its own.
fn io_v1(f: &Files) -> IoAccount {
    let list = |name: &str| {
        let file = |of: &str| f.text(&format!("blkio.{of}.{name}_recursive"));
        let text = file("throttle").or_else(|| file("bfq")).unwrap_or_default();
        text.lines().filter_map(parse_io_v1).collect()
    };
    IoAccount {
        io_service_bytes_recursive: list("io_service_bytes"),
        io_serviced_recursive: list("io_serviced"),
        psi: None,
    }
}

fn io_v2(f: &Files) -> IoAccount {
    let mut io = IoAccount {
        psi: f.pressure("io.pressure"),
        ..IoAccount::default()
    };
    for line in f.text("io.stat").unwrap_or_default().lines() {
        parse_io_v2(line, &mut io);
    }
    io
}

/// "8:0 Read 4096"; the last line is a sum, "Total 4096".
fn parse_io_v1(line: &str) -> Option<IoEntry> {
    let mut parts = line.split_whitespace();
    let (major, minor) = parts.next()?.split_once(':')?;
    Some(IoEntry {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        op: parts.next()?.to_owned(),
        value: parts.next()?.parse().ok()?,
    })
}

/// "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6"
fn parse_io_v2(line: &str, io: &mut IoAccount) {
    let mut parts = line.split_whitespace();
    let device = parts.next().and_then(|d| d.split_once(':'));
    let Some((Ok(major), Ok(minor))) = device.map(|(a, b)| (a.parse(), b.parse())) else {
        return;
    };
    for (key, value) in parts.filter_map(|p| p.split_once('=')) {
        let (op, of) = key.split_at(key.len().min(1));
        let op = match op {
            "r" => "Read",
            "w" => "Write",
            "d" => "Discard",
            _ => continue,
        };
        let list = match of {
            "bytes" => &mut io.io_service_bytes_recursive,
            "ios" => &mut io.io_serviced_recursive,
            _ => continue,
        };
        if let Ok(value) = value.parse() {
            let op = op.to_owned();
            list.push(IoEntry {
                major,
                minor,
                op,
                value,
            });
        }
    }
}

/// "some avg10=0.00 avg60=0.00 avg300=0.00 total=0", and "full" likewise.
fn parse_pressure(text: &str) -> Option<Pressure> {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let mut parts = line.split(' ');
        let into = match parts.next()? {
            "some" => &mut pressure.some,
            "full" => &mut pressure.full,
            _ => continue,
        };
        for (key, value) in parts.filter_map(|p| p.split_once('=')) {
            match key {
                "avg10" => into.avg10 = value.parse().ok()?,
                "avg60" => into.avg60 = value.parse().ok()?,
                "avg300" => into.avg300 = value.parse().ok()?,
                "total" => into.total = value.parse().ok()?,
                _ => {}
            }
        }
    }
    Some(pressure)
}

/// "mlx5_0 hca_handle=2 hca_object=20"
fn parse_rdma(line: &str) -> Option<(String, RdmaAccount)> {
    let mut parts = line.split(' ');
    let device = parts.next()?.to_owned();
    let mut account = RdmaAccount::default();
    for (key, value) in parts.filter_map(|p| p.split_once('=')) {
        match key {
            "hca_handle" => account.hca_handle = value.parse().ok()?,
            "hca_object" => account.hca_object = value.parse().ok()?,
            _ => {}
        }
    }
    Some((device, account))
}

/// "0-2,5". The kernel's lists are short; a nonsensical one is cut.
fn parse_cpu_list(text: &str) -> Vec<u16> {
    let mut all = Vec::new();
    for part in text.trim().split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(from), Ok(to)) = (from.parse::<u16>(), to.parse::<u16>()) {
            all.extend((from..=to).take(8192));
        }
    }
    all
}

/// The sizes of huge pages as the hugetlb controller's files have them: the
/// directory `hugepages-2048kB` is `2MB`.
pub(crate) fn page_sizes() -> Vec<String> {
    let Ok(dir) = std::fs::read_dir("/sys/kernel/mm/hugepages") else {
        return Vec::new();
    };
    let size = |name: &str| {
        let kb: u64 = name
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()?;
        Some(match kb {
            kb if kb >= 1 << 20 => format!("{}GB", kb >> 20),
            kb if kb >= 1 << 10 => format!("{}MB", kb >> 10),
            kb => format!("{kb}KB"),
        })
    };
    let mut sizes: Vec<String> = dir
        .flatten()
        .filter_map(|e| size(e.file_name().to_str()?))
        .collect();
    sizes.sort();
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_both_versions() {
        assert_eq!(parse_cpu_list("0-2,5\n"), [0, 1, 2, 5]);
        assert!(parse_cpu_list("\n").is_empty());
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=5\n";
        let p = parse_pressure(text).unwrap();
        assert_eq!((p.some.avg10, p.some.total, p.full.total), (1.5, 77, 5));
        assert_eq!(parse_io_v1("Total 4096"), None);
        assert_eq!(parse_io_v1("8:16 Read 4096").unwrap().minor, 16);
        let mut io = IoAccount::default();
        parse_io_v2(
            "8:16 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0",
            &mut io,
        );
        assert_eq!(io.io_service_bytes_recursive.len(), 3);
        assert_eq!(io.io_serviced_recursive[1].value, 2);
        let rdma = parse_rdma("mlx5_0 hca_handle=2 hca_object=20").unwrap();
        assert_eq!(rdma.1.hca_object, 20);
    }

    #[test]
    fn the_names_are_runcs() {
        let all = Accounts {
            cpu: CpuAccount {
                throttling: Throttling {
                    throttled_time: 1,
                    ..Throttling::default()
                },
                ..CpuAccount::default()
            },
            ..Accounts::default()
        };
        let json = serde_json::to_value(&all).unwrap();
        assert_eq!(json["cpu"]["throttling"]["throttledTime"], 1);
        assert_eq!(json["cpu"]["usage"]["kernel"], 0);
        assert_eq!(json["memory"]["kernelTCP"]["failcnt"], 0);
        assert_eq!(json["cpuset"]["sched_load_balance"], 0);
        assert!(json["pids"].get("limit").is_none());
    }
}
