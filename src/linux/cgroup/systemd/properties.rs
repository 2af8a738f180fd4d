//! Limits, and what annotations want, as properties of a unit: systemd.resource-control(5),
//! org.freedesktop.systemd1(5).

use super::{Property, Value};
use crate::linux::cgroup::resources::{Limit, Resources};
use crate::linux::cgroup::{v2, weight_from_shares};
use crate::{Error, Result};

/// The limits that systemd has a property for, so that it does not undo them when
/// it writes the scope's attributes anew.
pub(super) fn plan(r: &Resources, is_v2: bool) -> Vec<Property> {
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
