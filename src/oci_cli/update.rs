//! `update`: new limits for a container.

use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};

use super::args::{Args, Flag, Order, usage};
use super::{Face, Verb};
use crate::linux::cgroup::systemd;
use crate::linux::resctrl::{self, Resctrl};
use crate::oci::end::not_running;
use crate::oci::json;
use crate::oci::record::Status;
use crate::oci::resources;
use crate::{Context, Error, Result};

/// Where each flag of a number goes in `linux.resources`.
const NUMBERS: [(&str, &str, &str); 11] = [
    ("blkio-weight", "blockIO", "weight"),
    ("cpu-period", "cpu", "period"),
    ("cpu-quota", "cpu", "quota"),
    ("cpu-burst", "cpu", "burst"),
    ("cpu-share", "cpu", "shares"),
    ("cpu-rt-period", "cpu", "realtimePeriod"),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime"),
    ("cpu-idle", "cpu", "idle"),
    ("memory", "memory", "limit"),
    ("memory-reservation", "memory", "reservation"),
    ("memory-swap", "memory", "swap"),
];

const FLAGS: [Flag; 17] = [
    (
        "resources",
        'r',
        "FILE|-",
        "linux.resources as JSON; then no other flag counts",
    ),
    ("blkio-weight", '\0', "N", "10 to 1000"),
    ("cpu-period", '\0', "US", "length of a period, microseconds"),
    ("cpu-quota", '\0', "US", "CPU time per period"),
    ("cpu-burst", '\0', "US", "unused time that may be saved up"),
    (
        "cpu-share",
        '\0',
        "N",
        "weight among others, 1024 for a CPU",
    ),
    (
        "cpu-rt-period",
        '\0',
        "US",
        "as cpu-period, for real-time processes",
    ),
    (
        "cpu-rt-runtime",
        '\0',
        "US",
        "as cpu-quota, for real-time processes",
    ),
    ("cpu-idle", '\0', "0|1", "SCHED_IDLE for the whole cgroup"),
    ("cpuset-cpus", '\0', "LIST", "as in 0-3,7"),
    ("cpuset-mems", '\0', "LIST", "memory nodes"),
    ("memory", '\0', "BYTES", "limit, as in 512m; -1 for none"),
    (
        "memory-reservation",
        '\0',
        "BYTES",
        "what is reclaimed last",
    ),
    (
        "memory-swap",
        '\0',
        "BYTES",
        "limit of memory and swap together",
    ),
    ("pids-limit", '\0', "N", "most processes and threads"),
    (
        "l3-cache-schema",
        '\0',
        "TEXT",
        "share of the L3 cache, as in L3:0=7f",
    ),
    (
        "mem-bw-schema",
        '\0',
        "TEXT",
        "share of the memory bandwidth, as in MB:0=50",
    ),
];

pub(super) const VERB: Verb = Verb {
    name: "update",
    operands: "ID",
    about: "changes a container's limits",
    flags: &FLAGS,
    order: Order::Any,
    enters: false,
    run: update,
};

fn update(face: &Face, args: &Args) -> Result<u8> {
    let id = args.id()?;
    let (spec, written) = match args.get("resources") {
        Some(file) => read(file).with_context(|| format!("--resources {file}"))?,
        None => from_flags(args)?,
    };
    let _lock = face.containers.lock(id)?;
    let record = face.containers.load(id)?;
    let mut resources = resources::plan(&record.oci_version, &spec, &written, "")?;
    // The rules of a running container's devices are not this verb's to change.
    resources.devices.clear();
    if face.containers.status(&record) == Status::Stopped {
        return Err(not_running());
    }
    update_shares(args, record.resctrl.as_ref())?;
    let cgroup = face
        .containers
        .cgroup(&record)?
        .ok_or_else(|| Error::unsupported("a container without a cgroup has no limits"))?;
    match &record.scope {
        Some(scope) => systemd::update(scope, &cgroup, &resources)?,
        None => cgroup.apply(&resources).context("linux.resources")?,
    }
    Ok(0)
}

fn update_shares(args: &Args, place: Option<&resctrl::Place>) -> Result<()> {
    for flag in ["l3-cache-schema", "mem-bw-schema"] {
        let Some(text) = args.get(flag).filter(|t| !t.is_empty()) else {
            continue;
        };
        let shares = Resctrl::open().and_then(|resctrl| match place {
            Some(place) => {
                let lines: Vec<String> = text.lines().map(str::to_owned).collect();
                resctrl.write_schemata(place, &lines)
            }
            None => Err(Error::invalid(
                "the container was made without linux.intelRdt, and shares the default class",
            )),
        });
        shares.with_context(|| format!("--{flag}"))?;
    }
    Ok(())
}

/// What is asked for, and the JSON that says it.
fn read(file: &str) -> Result<(LinuxResources, Vec<u8>)> {
    let bytes = match file {
        "-" => json::read_bytes(std::io::stdin())?,
        path => json::read_bytes(std::fs::File::open(path)?)?,
    };
    Ok((json::parse(&bytes)?, bytes))
}

fn from_flags(args: &Args) -> Result<(LinuxResources, Vec<u8>)> {
    let mut all = json!({});
    let parse = |flag: &str, text: &str| {
        let n = text.parse::<i64>();
        n.map_err(|_| usage(format!("--{flag}: {text:?}: a number")))
    };
    for (flag, group, field) in NUMBERS {
        if let Some(text) = args.get(flag).filter(|t| !t.is_empty()) {
            all[group][field] = match group {
                "memory" => bytes(text).ok_or_else(|| {
                    usage(format!("--{flag}: {text:?}: a number of bytes, as in 512m"))
                })?,
                _ => parse(flag, text)?,
            }
            .into();
        }
    }
    for (flag, field) in [("cpuset-cpus", "cpus"), ("cpuset-mems", "mems")] {
        if let Some(text) = args.get(flag).filter(|t| !t.is_empty()) {
            all["cpu"][field] = Value::from(text);
        }
    }
    if let Some(text) = args.get("pids-limit") {
        all["pids"]["limit"] = parse("pids-limit", text)?.into();
    }
    let written = serde_json::to_vec(&all)?;
    let resources = serde_json::from_value(all).map_err(|e| usage(e.to_string()))?;
    Ok((resources, written))
}

/// As runc takes them: `-1`, a number, or one with a unit of 1024s, as in `512m`,
/// `1.5G`, `64KiB`.
fn bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let end = text.rfind(|c: char| c.is_ascii_digit())? + 1;
    let (number, unit) = text.split_at(end);
    let unit = unit.to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or(unit.strip_suffix('b')) {
        // "ib" alone is no unit.
        Some("") if unit == "ib" => return None,
        Some(unit) => unit,
        None => &unit,
    };
    let power = match power {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let unit = 1024_i64.pow(power);
    if !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    // Whole numbers stay exact: a float has 53 bits.
    if let Ok(n) = number.parse::<i64>() {
        return n.checked_mul(unit).filter(|n| *n >= 0);
    }
    let n = number.parse::<f64>().ok()? * unit as f64;
    (n < i64::MAX as f64).then_some(n as i64)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_with_units() {
        for (text, n) in [
            ("-1", -1),
            ("0", 0),
            ("4096", 4096),
            ("4096b", 4096),
            ("512m", 512 << 20),
            ("64KiB", 64 << 10),
            ("1.5G", 3 << 29),
            ("2TB", 2 << 40),
            ("9223372036854775807", i64::MAX),
        ] {
            assert_eq!(bytes(text), Some(n), "{text}");
        }
        for text in [
            "",
            "m",
            "-2",
            "-1m",
            "1ib",
            "1x",
            "1mm",
            "1e3",
            "+1",
            "1.2.3",
            "1 m",
            "inf",
            "nan",
            "9223372036854775808",
            "9007199254740992k",
            "8192p",
            "1e9m",
        ] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
