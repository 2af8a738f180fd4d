//! The systemd driver: a container's cgroup as a transient scope.
//!
//! systemd makes the cgroup and keeps it (`Delegate=`): a container's processes are
//! a unit of the machine, in the slice that was asked for, and `systemctl` shows
//! and stops them. What systemd has no property for is written to the cgroup
//! itself, and what it has one for is written there too, exactly as asked: systemd
//! rounds. See docs/decisions/0008-systemd-driver.md and
//! systemd.resource-control(5), org.freedesktop.systemd1(5).
//!
//! A scope cannot be made empty, so the order differs from the other driver's: the
//! child is cloned first and waits; [`start`] makes the scope around it; then it
//! may make its cgroup namespace.
//!
//! Pods use none of this; what they have of systemd is [`service`] and
//! [`omit_from_oomd`].

mod bus;
pub mod service;

use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

pub use crate::linux::dbus::wire::{Property, Value};
use bus::{Bus, Refusal};

use super::resources::{Limit, Resources};
use super::{Cgroup, Controllers, Hierarchies, Place, Select, io, v2, weight_from_shares};
use crate::sys::xattr::fsetxattr;
use crate::{Context, Error, Kind, Result};

/// A scope of systemd's, by name; for a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    slice: String,
    unit: String,
    /// Of the caller's own manager and not of the system's.
    #[serde(default)]
    user: bool,
}

impl Scope {
    /// From `slice:prefix:name`, as container engines write it for this driver; without any, a scope of the id in the manager's default slice.
    pub fn from_path(path: Option<&Path>, id: &str, user: bool) -> Result<Scope> {
        let path = path.map_or("", |p| p.to_str().unwrap_or("\0"));
        let invalid = |what: &str| Error::invalid(format!("{path:?}: {what}"));
        let (slice, prefix, name) = match path.split(':').collect::<Vec<_>>()[..] {
            [""] => ("", "carob", id),
            [slice, prefix, name] if !name.is_empty() => (slice, prefix, name),
            _ => {
                return Err(invalid(
                    "has to be slice:prefix:name, for the systemd driver",
                ));
            }
        };
        let slice = match slice {
            "" if user => "user.slice",
            "" => "system.slice",
            slice => slice,
        };
        let stem = slice.strip_suffix(".slice").unwrap_or_default();
        let dashes =
            stem != "-" && (stem.starts_with('-') || stem.ends_with('-') || stem.contains("--"));
        if stem.is_empty() || dashes || escape(slice) != slice {
            return Err(invalid("is not the name of a slice"));
        }
        if name.ends_with(".slice") {
            return Err(invalid("a container is a scope, not a slice"));
        }
        let unit = match prefix {
            "" => format!("{}.scope", escape(name)),
            prefix => format!("{}-{}.scope", escape(prefix), escape(name)),
        };
        if unit.len() > 255 || slice.len() > 255 {
            return Err(invalid("a unit's name has 255 bytes at most"));
        }
        Ok(Scope {
            slice: slice.to_owned(),
            unit,
            user,
        })
    }

    pub fn unit(&self) -> &str {
        &self.unit
    }
}

/// What a unit's name cannot have, as `systemd-escape` writes it.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'-' | b'_' | b'.' => {
                out.push(b.into());
            }
            b'\\' | b'@' => out.push(b.into()),
            _ => out.push_str(&format!("\\x{b:02x}")),
        }
    }
    out
}

/// Makes the scope with `pid` in it, in every hierarchy, and limits it. `pid` is a
/// child of ours, of one thread, that waits; if that fails half-way, it is killed.
/// `annotations` are further properties ([`annotated`]), which go before ours.
pub fn start(
    h: &Hierarchies,
    scope: &Scope,
    pid: Pid,
    r: &Resources,
    annotations: &[Property],
) -> Result<Cgroup> {
    started(h, scope, pid, r, annotations)
        .with_context(|| format!("make the systemd scope {}", scope.unit))
}

fn started(
    h: &Hierarchies,
    scope: &Scope,
    pid: Pid,
    r: &Resources,
    annotations: &[Property],
) -> Result<Cgroup> {
    if h.v2().is_none() {
        // There systemd would reset the device rules whenever it looks at them, and
        // nothing else could hold them.
        return Err(
            Error::unsupported("the systemd driver needs a cgroup v2 hierarchy")
                .hint("boot with systemd.unified_cgroup_hierarchy=1"),
        );
    }
    let mut properties = unit_properties(scope, pid);
    properties.extend(plan(r, h.is_pure_v2()));
    for p in annotations {
        properties.retain(|(name, _)| *name != p.0);
        properties.push(p.clone());
    }
    let mut bus = connect(scope)?;
    loop {
        match bus.start_transient(&scope.unit, &properties) {
            Ok(()) => break,
            Err(e) if drop_newer(&e, &mut properties) => {}
            // One of the same name that failed is kept for people to look at.
            Err(e) if e.error.kind() == Kind::Conflict => {
                bus.reset_failed(&scope.unit).map_err(|_| e.error)?;
                bus.start_transient(&scope.unit, &properties)?;
                break;
            }
            Err(e) => return Err(e.into()),
        }
    }
    let made = (|| {
        let cgroup = Cgroup::create_at(h, &place_of(pid)?, Select::All)?;
        cgroup.refuse_frozen()?;
        cgroup.apply(r)?;
        if cgroup.v1_with(Controllers::DEVICES).is_some() {
            // systemd may write v1's rules anew; a program of ours it leaves alone.
            cgroup.apply_device_program(&r.devices)?;
        }
        cgroup.join_plan()?.put(pid)?;
        Ok(cgroup)
    })();
    if made.is_err() {
        // It may be the first of a pid namespace, which is deaf to systemd's SIGTERM.
        let _ = kill(pid, Signal::SIGKILL);
        let _ = bus.stop(&scope.unit);
    }
    made
}

/// Tells systemd-oomd(8) not to choose this cgroup, which is not a unit: the same as
/// `ManagedOOMPreference=omit` for one.
pub fn omit_from_oomd(cgroup: &Cgroup) {
    let Some(v2) = cgroup.hierarchies.v2() else {
        return;
    };
    if let Ok(dir) = io::open_dir(v2, cgroup.path_in(v2), OFlag::O_RDONLY) {
        // Before Linux 5.7 cgroups have no user.* attributes, and without swap or
        // systemd-oomd nobody reads it.
        let _ = fsetxattr(dir, c"user.oomd_omit", b"1");
    }
}

/// What a transient unit may take. A manager under load answers late; systemctl
/// waits 90 s for jobs.
const PATIENCE: Duration = Duration::from_secs(60);

fn connect(scope: &Scope) -> Result<Bus> {
    Bus::connect(scope.user, PATIENCE).map_err(|e| match e.kind() {
        Kind::Unsupported if e.get_hint().is_none() => {
            e.hint("the systemd cgroup driver needs a running systemd; the other is cgroupfs")
        }
        _ => e,
    })
}

/// Where systemd has put the process. Its own name for the place may differ from
/// what the slice suggests: a user's manager has its slices below its own cgroup.
fn place_of(pid: Pid) -> Result<Place> {
    let file = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let path = text.lines().find_map(|l| l.strip_prefix("0::/"));
    match path.filter(|p| p.ends_with(".scope")) {
        Some(path) => Place::new(path),
        None => Err(Error::failed(format!(
            "systemd has not moved process {pid}: {file} has {:?}",
            text.trim()
        ))),
    }
}

/// Properties that older systemds do not know are left out; the cgroup has the
/// limits all the same. True if there was one to leave out.
fn drop_newer(e: &Refusal, properties: &mut Vec<Property>) -> bool {
    // 242, 244
    const NEWER: [&str; 3] = ["CPUQuotaPeriodUSec", "AllowedCPUs", "AllowedMemoryNodes"];
    let before = properties.len();
    if e.name == "org.freedesktop.DBus.Error.PropertyReadOnly" {
        properties.retain(|(name, _)| !NEWER.contains(&name.as_str()));
    }
    properties.len() < before
}

/// New limits for a scope that runs. The cgroup has them first: what it refuses,
/// systemd is not told. And once more when systemd has written what it makes of
/// them.
pub fn update(scope: &Scope, cgroup: &Cgroup, r: &Resources) -> Result<()> {
    cgroup.apply(r)?;
    // systemd has one property for a quota and its period, for example.
    let whole = match (cgroup.hierarchies.v2(), cgroup.hierarchies.is_pure_v2()) {
        (Some(h), true) => v2::complete(h, cgroup.path_in(h), r, |_| true)?,
        _ => r.clone(),
    };
    let mut properties = plan(&whole, cgroup.hierarchies.is_pure_v2());
    if properties.is_empty() {
        return Ok(());
    }
    let told: Result<()> = (|| {
        let mut bus = connect(scope)?;
        match bus.set_properties(&scope.unit, &properties) {
            Err(e) if drop_newer(&e, &mut properties) => {
                bus.set_properties(&scope.unit, &properties)?;
            }
            other => other?,
        }
        bus.catch_up()
    })();
    told.with_context(|| format!("change the systemd scope {}", scope.unit))?;
    cgroup.apply(r)
}

/// Ends what is left of the scope; none left is no error. systemd removes its
/// cgroups; [`Cgroup::remove`] those of the v1 hierarchies that it does not know.
pub fn stop(scope: &Scope) -> Result<()> {
    let stopped: Result<()> = (|| {
        let mut bus = connect(scope)?;
        match bus.stop(&scope.unit) {
            Ok(()) => {}
            Err(e) if e.error.kind() == Kind::NotFound => {}
            Err(e) => return Err(e.into()),
        }
        // It failed, if its processes were killed for want of memory.
        let _ = bus.reset_failed(&scope.unit);
        Ok(())
    })();
    stopped.with_context(|| format!("stop the systemd scope {}", scope.unit))
}

fn unit_properties(scope: &Scope, pid: Pid) -> Vec<Property> {
    let on = || Value::Bool(true);
    let text = |s: &str| Value::Str(s.to_owned());
    let all = [
        ("Description", text(&format!("container {}", scope.unit))),
        ("Slice", text(&scope.slice)),
        ("PIDs", Value::U32s(vec![pid.as_raw() as u32])),
        ("Delegate", on()),
        ("CPUAccounting", on()),
        ("MemoryAccounting", on()),
        ("IOAccounting", on()),
        ("TasksAccounting", on()),
        // Without the ordering against shutdown.target, that a boot would wait for.
        ("DefaultDependencies", Value::Bool(false)),
    ];
    all.map(|(name, value)| (name.to_owned(), value)).into()
}

/// The limits that systemd has a property for, so that it does not undo them when
/// it writes the scope's attributes anew.
fn plan(r: &Resources, is_v2: bool) -> Vec<Property> {
    let mut all = Vec::new();
    let mut add = |name: &str, n: u64| all.push((name.to_owned(), Value::U64(n)));
    let number = |l: Limit| match l {
        Limit::Max => u64::MAX,
        Limit::At(n) => n,
    };
    if let Some(max) = r.memory_max {
        add(if is_v2 { "MemoryMax" } else { "MemoryLimit" }, number(max));
    }
    if let (Some(low), true) = (r.memory_reservation, is_v2) {
        add("MemoryLow", number(low));
    }
    let swap = match (r.memory_swap_max, r.memory_and_swap_max, r.memory_max) {
        (Some(swap), ..) => Some(swap),
        (None, Some(Limit::At(sum)), Some(Limit::At(max))) => {
            Some(Limit::At(sum.saturating_sub(max)))
        }
        (None, Some(Limit::At(_)), None) => None,
        (None, sum, _) => sum,
    };
    if let (Some(swap), true) = (swap, is_v2) {
        add("MemorySwapMax", number(swap));
    }
    if let Some(shares) = r.cpu_shares {
        match is_v2 {
            true => add("CPUWeight", weight_from_shares(shares)),
            false => add("CPUShares", shares.clamp(2, 262_144)),
        }
    }
    if let Some(quota) = r.cpu_quota_us {
        let period = r.cpu_period_us.unwrap_or(100_000);
        add("CPUQuotaPerSecUSec", per_second(number(quota), period));
    }
    if let Some(period) = r.cpu_period_us {
        add("CPUQuotaPeriodUSec", period);
    }
    if let Some(pids) = r.pids_max {
        add("TasksMax", number(pids));
    }
    if let Some(weight) = r.io.weight {
        match is_v2 {
            true => add("IOWeight", v2::io_weight(weight)),
            false => add("BlockIOWeight", weight.into()),
        }
    }
    if is_v2 {
        for (name, list) in [
            ("AllowedCPUs", &r.cpuset_cpus),
            ("AllowedMemoryNodes", &r.cpuset_mems),
        ] {
            let mask = list.as_deref().and_then(bit_mask);
            all.extend(mask.map(|mask| (name.to_owned(), Value::Bytes(mask))));
        }
        for (file, value) in &r.unified {
            for property in unified(file, value.trim()) {
                // It is written last, and so holds over the field of the same limit.
                all.retain(|(name, _)| *name != property.0);
                all.push(property);
            }
        }
    }
    all
}

/// The properties for a file of `unified`. None for what systemd has none for, and for a
/// value that is to be the kernel's to refuse.
fn unified(file: &str, value: &str) -> Vec<Property> {
    let number = |text: &str| match text {
        "max" => Some(u64::MAX),
        n => n.parse().ok(),
    };
    let list = |name: &'static str| vec![(name, bit_mask(value).map(Value::Bytes))];
    let limit = |name: &'static str| vec![(name, number(value).map(Value::U64))];
    let found = match file {
        "cpu.max" => {
            let mut words = value.split_whitespace();
            let quota = words.next().and_then(number);
            let period = words.next().map_or(Some(100_000), |p| p.parse().ok());
            let each = quota.zip(period.filter(|p| *p > 0));
            vec![
                (
                    "CPUQuotaPerSecUSec",
                    each.map(|(q, p)| Value::U64(per_second(q, p))),
                ),
                ("CPUQuotaPeriodUSec", each.map(|(_, p)| Value::U64(p))),
            ]
        }
        "cpu.weight" => limit("CPUWeight"),
        "cpuset.cpus" => list("AllowedCPUs"),
        "cpuset.mems" => list("AllowedMemoryNodes"),
        "memory.high" => limit("MemoryHigh"),
        "memory.low" => limit("MemoryLow"),
        "memory.max" => limit("MemoryMax"),
        "memory.min" => limit("MemoryMin"),
        "memory.swap.max" => limit("MemorySwapMax"),
        "pids.max" => limit("TasksMax"),
        _ => Vec::new(),
    };
    let known = found.into_iter();
    known
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// A quota in whole percents of a CPU, upwards: systemd keeps no finer.
fn per_second(quota: u64, period: u64) -> u64 {
    match quota {
        u64::MAX => u64::MAX,
        n => n
            .saturating_mul(1_000_000)
            .div_ceil(period)
            .checked_next_multiple_of(10_000)
            .unwrap_or(u64::MAX),
    }
}

/// "0-2,9" as bits, least significant byte first. `None` for what only the kernel
/// understands.
fn bit_mask(list: &str) -> Option<Vec<u8>> {
    let mut mask = Vec::new();
    for part in list.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (usize, usize) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        if to >= 8192 {
            return None;
        }
        for n in from..=to {
            if mask.len() <= n / 8 {
                mask.resize(n / 8 + 1, 0);
            }
            mask[n / 8] |= 1 << (n % 8);
        }
    }
    Some(mask)
}

/// An annotation `org.systemd.property.NAME` as a property: its value is written as
/// `busctl` and GVariant do, as in `'text'`, `true`, `uint64 5000000`, `['a', 'b']`.
/// `None` if it is another annotation.
pub fn annotated(key: &str, value: &str) -> Result<Option<Property>> {
    let Some(name) = key.strip_prefix("org.systemd.property.") else {
        return Ok(None);
    };
    let invalid = || {
        let e = Error::invalid(format!(
            "annotations[{key:?}]: {value:?}: is not understood"
        ));
        e.hint("a text in quotes, true, false, a number, uint64 NUMBER, or ['a', 'b']")
    };
    if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(invalid());
    }
    let value = parse_value(value.trim()).ok_or_else(invalid)?;
    // Time spans that systemd takes in microseconds are written in seconds too.
    Ok(Some(match name.strip_suffix("Sec") {
        Some(stem) if !name.ends_with("USec") => {
            let us = microseconds(&value).ok_or_else(invalid)?;
            (format!("{stem}USec"), Value::U64(us))
        }
        _ => (name.to_owned(), value),
    }))
}

fn microseconds(seconds: &Value) -> Option<u64> {
    const PER_SECOND: u64 = 1_000_000;
    let whole = match *seconds {
        Value::I32(n) => n.try_into().ok(),
        Value::U32(n) => Some(n.into()),
        Value::I64(n) => n.try_into().ok(),
        Value::U64(n) => Some(n),
        Value::F64(n) if (0.0..1e12).contains(&n) => return Some((n * PER_SECOND as f64) as u64),
        _ => None,
    };
    whole.and_then(|n: u64| n.checked_mul(PER_SECOND))
}

fn parse_value(text: &str) -> Option<Value> {
    let quoted = |t: &str| {
        let quote = t.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let inner = t.strip_prefix(quote)?.strip_suffix(quote)?;
        let plain = !inner.contains([quote, '\\', '\0']);
        plain.then(|| inner.to_owned())
    };
    if let Some(list) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        let items = list.split(',').map(str::trim).filter(|t| !t.is_empty());
        return items.map(quoted).collect::<Option<_>>().map(Value::Strs);
    }
    if let Some((kind, n)) = text.split_once(' ') {
        let n = n.trim();
        return match kind {
            "uint64" => n.parse().ok().map(Value::U64),
            "int64" => n.parse().ok().map(Value::I64),
            "uint32" => n.parse().ok().map(Value::U32),
            "int32" => n.parse().ok().map(Value::I32),
            "double" => n.parse().ok().map(Value::F64),
            "boolean" => n.parse().ok().map(Value::Bool),
            _ => quoted(text).map(Value::Str),
        };
    }
    match text {
        "true" => Some(Value::Bool(true)),
        "false" => Some(Value::Bool(false)),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
            let whole = text.parse().ok().map(Value::I32);
            // What is too large for one is not to become the other.
            let fraction = text.contains('.').then(|| text.parse().ok()).flatten();
            whole.or_else(|| fraction.map(Value::F64))
        }
        _ => quoted(text).map(Value::Str),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(path: &str) -> Result<Scope> {
        Scope::from_path(Some(Path::new(path)), "box", false)
    }

    #[test]
    fn names() {
        let s = scope("machine.slice:libpod:abc").unwrap();
        assert_eq!(
            (s.slice.as_str(), s.unit()),
            ("machine.slice", "libpod-abc.scope")
        );
        let s = scope("").unwrap();
        assert_eq!(
            (s.slice.as_str(), s.unit()),
            ("system.slice", "carob-box.scope")
        );
        assert_eq!(scope(":p:a+b").unwrap().unit(), "p-a\\x2bb.scope");
        assert_eq!(scope("-.slice::x").unwrap().unit(), "x.scope");
        assert_eq!(
            Scope::from_path(None, "b", true).unwrap().slice,
            "user.slice"
        );
        for bad in [
            "/a/b",
            "a:b",
            "a.slice:b:",
            "a:b:c",
            "a--b.slice:x:y",
            "a/b.slice:x:y",
            ".slice:x:y",
            "a.slice:b:c.slice",
            "a.slice:b:c:d",
        ] {
            let e = scope(bad).unwrap_err();
            assert!(e.to_string().starts_with(&format!("{bad:?}: ")), "{e}");
        }
        assert!(scope(&format!("a.slice:b:{}", "c".repeat(300))).is_err());
    }

    #[test]
    fn limits_as_properties() {
        let r = Resources {
            memory_max: Some(Limit::At(100)),
            memory_and_swap_max: Some(Limit::At(150)),
            cpu_shares: Some(1024),
            cpu_quota_us: Some(Limit::At(33_333)),
            cpu_period_us: Some(100_000),
            pids_max: Some(Limit::Max),
            cpuset_cpus: Some("0-2,9".into()),
            ..Resources::default()
        };
        let number = |n: &str, v| (n.to_owned(), Value::U64(v));
        let cpus = ("AllowedCPUs".to_owned(), Value::Bytes(vec![7, 2]));
        let expected = [
            number("MemoryMax", 100),
            number("MemorySwapMax", 50),
            number("CPUWeight", 100),
            number("CPUQuotaPerSecUSec", 340_000),
            number("CPUQuotaPeriodUSec", 100_000),
            number("TasksMax", u64::MAX),
            cpus,
        ];
        assert_eq!(plan(&r, true), expected);
        let r = Resources {
            unified: [
                ("memory.max", "200"),
                ("memory.high", "max"),
                ("cpu.max", "max 50000"),
                ("cpuset.cpus", "1"),
                ("pids.max", " 7\n"),
                ("memory.low", "much"),
                ("cpu.max.burst", "1"),
            ]
            .map(|(file, value)| (file.into(), value.into()))
            .into(),
            ..r
        };
        let properties = plan(&r, true);
        for expected in [
            number("MemoryMax", 200),
            number("MemoryHigh", u64::MAX),
            number("CPUQuotaPerSecUSec", u64::MAX),
            number("CPUQuotaPeriodUSec", 50_000),
            ("AllowedCPUs".to_owned(), Value::Bytes(vec![2])),
            number("TasksMax", 7),
        ] {
            assert!(properties.contains(&expected), "{properties:?}");
        }
        // Each once.
        assert_eq!(properties.len(), 8, "{properties:?}");
        let v1: Vec<String> = plan(&r, false).into_iter().map(|(n, _)| n).collect();
        assert_eq!(v1[..2], ["MemoryLimit", "CPUShares"]);
        assert!(plan(&Resources::default(), true).is_empty());
    }

    #[test]
    fn annotations() {
        let parse = |name: &str, value: &str| {
            annotated(&format!("org.systemd.property.{name}"), value).map(|p| p.unwrap())
        };
        assert_eq!(annotated("other", "x").unwrap(), None);
        let (name, value) = parse("TimeoutStopSec", "5").unwrap();
        assert_eq!(
            (name.as_str(), value),
            ("TimeoutStopUSec", Value::U64(5_000_000))
        );
        let (name, value) = parse("TimeoutStopUSec", "uint64 123").unwrap();
        assert_eq!((name.as_str(), value), ("TimeoutStopUSec", Value::U64(123)));
        for half in ["double 0.5", "0.5"] {
            let (_, value) = parse("TimeoutStopSec", half).unwrap();
            assert_eq!(value, Value::U64(500_000), "{half}");
        }
        let (_, value) = parse("RuntimeMaxSec", "uint64 2").unwrap();
        assert_eq!(value, Value::U64(2_000_000));
        let text = parse("CollectMode", "'inactive-or-failed'").unwrap().1;
        assert_eq!(text, Value::Str("inactive-or-failed".into()));
        let list = parse("After", "['a.service', \"b.service\"]").unwrap().1;
        assert_eq!(
            list,
            Value::Strs(vec!["a.service".into(), "b.service".into()])
        );
        for bad in ["", "'a", "[a]", "uint64 x", "5 6", "'a'b'", "5000000000"] {
            assert!(parse("CollectMode", bad).is_err(), "{bad}");
        }
        assert!(parse("Ab-c", "true").is_err());
        for bad in ["-1", "true", "'1s'", "uint64 18446744073709551615"] {
            assert!(parse("WatchdogSec", bad).is_err(), "{bad}");
        }
    }
}
