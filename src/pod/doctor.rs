//! Whether this machine is able to run Pods: each kernel feature that Pods need is tried, in
//! temporary namespaces, and conditions that would cause errors later are looked for.

mod limits;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};
use serde::Serialize;

use super::abandoned;
use crate::linux::cgroup::systemd::service;
use crate::linux::cgroup::{Controllers, Hierarchies};
use crate::linux::mount::{ATTR_RDONLY, Mount};
use crate::linux::{capability, kernel, loop_device};
use crate::network::trial;
use crate::object;
use crate::store::Layout;
use crate::volume::sized;
use crate::{Context, Error, Result};

/// What was looked at, and what was found.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// A word for programs: `kernel`, `cgroups`, ...
    pub check: &'static str,
    pub status: Status,
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Status {
    Ok,
    /// Pods run, and something that they may want does not work.
    Warning,
    /// No Pod would run.
    Failed,
}

impl Status {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Failed => "FAILED",
        }
    }
}

impl Finding {
    fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Finding {
            check,
            status: Status::Ok,
            text: text.into(),
            mend: None,
        }
    }

    fn of(check: &'static str, worst: Status, result: Result<String>) -> Self {
        match result {
            Ok(text) => Finding::ok(check, text),
            Err(e) => Finding {
                check,
                status: worst,
                text: e.to_string(),
                mend: e.get_hint().map(str::to_owned),
            },
        }
    }

    fn warning(check: &'static str, text: String, mend: &str) -> Self {
        Finding {
            check,
            status: Status::Warning,
            text,
            mend: Some(mend.to_owned()),
        }
    }
}

/// Looks at all. Call in the host's namespaces, in a process that makes no Pod afterwards:
/// it has threads.
pub(crate) fn examine(layout: &Layout) -> Vec<Finding> {
    let mut found = vec![
        Finding::of("kernel", Status::Failed, kernel()),
        Finding::of("rights", Status::Failed, rights()),
        Finding::of("cgroups", Status::Failed, cgroups()),
        Finding::of("overlayfs", Status::Failed, overlay()),
    ];
    found.extend(in_new_namespaces());
    found.extend(firewall(layout));
    found.extend(limits::examine());
    found.push(Finding::of("seccomp", Status::Failed, seccomp()));
    found.push(Finding::of("systemd", Status::Warning, systemd()));
    found.push(clock());
    found.extend(disks(layout));
    found.push(Finding::of("claims", Status::Warning, claims()));
    found.push(Finding::of("secrets", Status::Warning, secrets(layout)));
    found.push(Finding::of("leftovers", Status::Warning, leftovers(layout)));
    found
}

fn kernel() -> Result<String> {
    kernel::check()?;
    let uname = nix::sys::utsname::uname()?;
    let release = uname.release().to_string_lossy().into_owned();
    Ok(format!("Linux {release} has the calls that carob needs"))
}

fn rights() -> Result<String> {
    capability::require(&[
        "CAP_SYS_ADMIN",
        "CAP_NET_ADMIN",
        "CAP_SETUID",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_KILL",
        "CAP_MKNOD",
    ])?;
    Ok("all capabilities that carob needs".into())
}

fn cgroups() -> Result<String> {
    let hierarchies = Hierarchies::detect()?;
    hierarchies.require_writable()?;
    let all = [
        ("cpu", Controllers::CPU),
        ("memory", Controllers::MEMORY),
        ("pids", Controllers::PIDS),
    ];
    let has = |controller| {
        hierarchies.v1_with(controller).is_some()
            || hierarchies
                .v2()
                .is_some_and(|h| h.controllers().has(controller))
    };
    let lacking = all.iter().filter(|(_, controller)| !has(*controller));
    let lacking: Vec<&str> = lacking.map(|(name, _)| *name).collect();
    if !lacking.is_empty() {
        let list = lacking.join(", ");
        return Err(
            Error::failed(format!("no cgroup controller {list}")).hint(format!(
                "the kernel's command line may switch it off (cgroup_disable=) or leave it off \
             (cgroup_enable={} switches it on)",
                lacking[0]
            )),
        );
    }
    Ok(match hierarchies.is_pure_v2() {
        true => "v2".into(),
        false => format!("v1, {} hierarchies", hierarchies.v1().len()),
    })
}

fn overlay() -> Result<String> {
    Mount::new("overlay", &[("lowerdir", "/etc:/usr")], ATTR_RDONLY)?;
    Ok("mounts".into())
}

/// What can be tried in namespaces of a thread's own, which go with the thread.
fn in_new_namespaces() -> Vec<Finding> {
    let tried = std::thread::spawn(|| {
        let kinds = [
            ("mnt", CloneFlags::CLONE_NEWNS),
            ("uts", CloneFlags::CLONE_NEWUTS),
            ("ipc", CloneFlags::CLONE_NEWIPC),
            ("cgroup", CloneFlags::CLONE_NEWCGROUP),
            ("pid", CloneFlags::CLONE_NEWPID),
            ("net", CloneFlags::CLONE_NEWNET),
        ];
        let namespaces = kinds.iter().try_for_each(|(name, flag)| {
            unshare(*flag).map_err(|e| {
                Error::sys(format!("unshare({})", crate::error::flags(*flag)), e).hint(format!(
                    "see user.max_{name}_namespaces (sysctl), and whether the kernel has such \
                     namespaces"
                ))
            })
        });
        let entered = namespaces.is_ok();
        let namespaces = namespaces.map(|()| "of all six kinds".to_owned());
        let mut found = vec![Finding::of("namespaces", Status::Failed, namespaces)];
        // Not in the host's network namespace.
        if entered {
            let links = trial::links().map(|()| "bridge and veth".to_owned());
            found.push(Finding::of("links", Status::Failed, links));
            let rules = trial::rules().map(|()| "host ports, and the way out".to_owned());
            found.push(Finding::of("nftables", Status::Warning, rules));
        }
        found
    });
    tried.join().unwrap_or_default()
}

/// Chains of other programs through which Pods' packets have to go. carob puts rules for
/// its bridge into them when a Pod starts: a chain that has them, or will, is no problem.
fn firewall(layout: &Layout) -> Vec<Finding> {
    const CHECK: &str = "firewall";
    let chains = match trial::firewall(layout) {
        Ok(chains) if chains.is_empty() => {
            return vec![Finding::ok(
                CHECK,
                "no nftables chain drops forwarded packets by default",
            )];
        }
        Ok(chains) => chains,
        Err(e) => return vec![Finding::of(CHECK, Status::Warning, Err(e))],
    };
    let said = |chain: trial::Chain| {
        let text = format!(
            "nftables chain {} drops forwarded packets by default",
            chain.path
        );
        match chain.mend {
            None => Finding::ok(CHECK, format!("{text}: {}", chain.passage)),
            Some(mend) => Finding::warning(CHECK, format!("{text}: {}", chain.passage), &mend),
        }
    };
    chains.into_iter().map(said).collect()
}

fn seccomp() -> Result<String> {
    let path = "/proc/sys/kernel/seccomp/actions_avail";
    let actions = std::fs::read_to_string(path).with_context(|| format!("read({path})"))?;
    match actions.split_whitespace().any(|action| action == "errno") {
        true => Ok("filters".into()),
        false => Err(Error::failed("no filters with SECCOMP_RET_ERRNO")),
    }
}

fn systemd() -> Result<String> {
    if !service::is_init() {
        return Ok(
            "another program is init here, which is fine: let the machine's shutdown script run \
             `carob system shutdown`, so that Pods end with their grace periods"
                .into(),
        );
    }
    service::answers()
        .map_err(|e| e.push_context("Pods get no grace period at the machine's shutdown"))?;
    Ok("answers: Pods end with their grace periods before the machine does".into())
}

/// The first day on which this program can run.
const BUILT_AFTER: i64 = 1_767_225_600;

fn clock() -> Finding {
    let now = Timestamp::now();
    match now.as_second() >= BUILT_AFTER {
        true => Finding::ok("clock", now.to_string()),
        false => Finding::warning(
            "clock",
            format!("it says {now}: certificates of registries are not valid yet"),
            "set it: timedatectl, or date -s",
        ),
    }
}

const MIB: u64 = 1 << 20;
/// Room on a filesystem below which Pods and images soon have none.
const LITTLE: u64 = 512 * MIB;
const FEW_FILES: u64 = 10_000;

fn disks(layout: &Layout) -> Vec<Finding> {
    let logs = layout.pod_logs("", "", "");
    let places = [
        ("state", layout.pods()),
        ("data", layout.images()),
        ("logs", logs.parent().unwrap_or(&logs).to_owned()),
    ];
    places.map(|(check, path)| disk(check, &path)).into()
}

fn disk(check: &'static str, path: &Path) -> Finding {
    let there: PathBuf = path.ancestors().find(|p| p.exists()).unwrap_or(path).into();
    let shown = path.display();
    let stat = match statvfs(&there) {
        Ok(stat) => stat,
        Err(e) => {
            let e = Error::sys(format!("statvfs({})", there.display()), e);
            return Finding::of(check, Status::Failed, Err(e));
        }
    };
    if stat.flags().contains(FsFlags::ST_RDONLY) {
        let e = Error::failed(format!("{shown}: its filesystem is read-only"));
        let e = e.hint("mount it for writing, or choose another place: --root DIR");
        return Finding::of(check, Status::Failed, Err(e));
    }
    let room = stat.blocks_available() * stat.fragment_size();
    let files = stat.files_available();
    // Some filesystems do not count them.
    let few = stat.files() > 0 && files < FEW_FILES;
    let text = format!("{shown}: {} MiB and {files} files are free", room / MIB);
    match room < LITTLE || few {
        true => Finding::warning(check, text, "free some: carob system df, carob image-prune"),
        false => Finding::ok(check, text),
    }
}

/// What claims whose size holds are made with.
fn claims() -> Result<String> {
    loop_device::try_control()
        .and_then(|()| sized::try_tools())
        .context("no claims of block devices and of the class carob-loop")?;
    Ok("loop devices and e2fsprogs are there, for claims whose size holds".into())
}

/// Whether Secrets are on the disk as the root's setting says, and whether their key opens.
fn secrets(layout: &Layout) -> Result<String> {
    let now = object::encryption(layout)?;
    if !now.is_whole() {
        let (text, word) = match now.encrypts {
            true => ("not all of them are encrypted", "encrypted"),
            false => ("not all of them are in clear", "plain"),
        };
        return Err(
            Error::failed(format!("{text}: {}", now.text())).hint(format!(
                "carob system secrets {word} rewrites them, and names one that it cannot read"
            )),
        );
    }
    match now.encrypts {
        true => object::try_key(layout).map(|()| now.text()),
        false => Ok("their values are in clear on the disk, for root alone".into()),
    }
}

fn leftovers(layout: &Layout) -> Result<String> {
    let all = abandoned::find(layout)?;
    if all.is_empty() {
        return Ok("none".into());
    }
    let names: Vec<String> = all.iter().map(|a| a.name()).collect();
    Err(Error::failed(format!(
        "roots whose records are gone have left something in the kernel: {}",
        names.join(", ")
    ))
    .hint("carob system check shows it, carob system prune removes it"))
}
