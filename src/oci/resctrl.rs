//! `linux.intelRdt` of a configuration: config-linux.md, "IntelRdt".

use oci_spec::runtime::LinuxIntelRdt;

use crate::linux::resctrl::{NOT_CLASSES, Wanted};
use crate::{Context, Error, Result};

/// # Errors
/// With the field's name: a class that cannot be a directory's name, a line
/// that would be two.
pub(super) fn plan(rdt: &LinuxIntelRdt) -> Result<Wanted> {
    let class = rdt.clos_id().as_deref();
    let is_name = |name: &str| !name.is_empty() && !name.contains(['/', '\0', '\n']);
    if let Some(name) = class
        && (!is_name(name) || name.starts_with('.') || NOT_CLASSES.contains(&name))
    {
        return Err(Error::invalid(format!(
            "closID: {name:?} is no name of a class of service"
        )));
    }
    let mut schemata = Vec::new();
    let single = [
        ("l3CacheSchema", rdt.l3_cache_schema()),
        ("memBwSchema", rdt.mem_bw_schema()),
    ];
    for (field, schema) in single {
        // It may have a line for code and one for data.
        for line in schema.iter().flat_map(|s| s.lines()) {
            schemata.push(check_schema(line).context(field)?);
        }
    }
    for (i, line) in rdt.schemata().iter().flatten().enumerate() {
        schemata.push(check_schema(line).with_context(|| format!("schemata[{i}]"))?);
    }
    Ok(Wanted {
        class: class.map(str::to_owned),
        schemata,
        monitored: rdt.enable_monitoring().unwrap_or(false),
    })
}

/// `L3:0=7f;1=7f`: a resource, and for each of its domains a value.
fn check_schema(line: &str) -> Result<String> {
    match line.split_once(':') {
        Some((name, values)) if !name.trim().is_empty() && !line.contains(['\n', '\0']) => {
            for value in values.split(';') {
                if !value.contains('=') {
                    return Err(Error::invalid(format!("{value:?} is no DOMAIN=VALUE")));
                }
            }
            Ok(line.to_owned())
        }
        _ => Err(Error::invalid(format!(
            "{line:?} is not as in L3:0=7f;1=7f"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wanted(rdt: serde_json::Value) -> Result<Wanted> {
        plan(&serde_json::from_value(rdt).unwrap())
    }

    #[test]
    fn what_is_wanted_is_checked_by_field() {
        let w = wanted(
            json!({"l3CacheSchema": "L3:0=7f", "memBwSchema": "MB:0=20;1=70",
                              "schemata": ["L2:0=f0"], "enableMonitoring": true}),
        );
        let w = w.unwrap();
        assert_eq!(w.schemata, ["L3:0=7f", "MB:0=20;1=70", "L2:0=f0"]);
        assert!(w.monitored && w.class.is_none());
        for (bad, field) in [
            (json!({"closID": "../x"}), "closID"),
            (json!({"closID": ".."}), "closID"),
            (json!({"closID": "info"}), "closID"),
            (json!({"closID": ""}), "closID"),
            (json!({"schemata": ["L3:0=1", "L3"]}), "schemata[1]"),
            (json!({"schemata": ["L3:0=1\nMB:0=1"]}), "schemata[0]"),
            (json!({"memBwSchema": "MB:70"}), "memBwSchema"),
        ] {
            let e = wanted(bad).unwrap_err().to_string();
            assert!(e.contains(field), "{e}");
        }
    }
}
