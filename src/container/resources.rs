//! `linux.resources` of a configuration or of `update`, as limits of a cgroup.

use oci_spec::runtime::LinuxResources;

use crate::Result;
use crate::linux::cgroup::{Limit, Resources};

/// `version` is the configuration's ociVersion, `written` the JSON that has the resources
/// at `pointer`.
pub fn plan(
    version: &str,
    resources: &LinuxResources,
    written: &[u8],
    pointer: &str,
) -> Result<Resources> {
    let mut planned = Resources::from_oci(resources)?;
    // From runtime-spec 1.3 on "0 is a valid value": no process more. Before, it was what
    // podman writes for no limit, and still is in Debian 12. As with runc it becomes 1,
    // since systemd knows no 0, and the container's first process needs one.
    let is_zero = resources.pids().as_ref().is_some_and(|p| p.limit() == 0);
    if is_zero && is_since_1_3(version) {
        planned.pids_max = match is_written(written, &format!("{pointer}/pids/limit")) {
            true => Some(Limit::At(1)),
            false => None,
        };
    }
    Ok(planned)
}

fn is_since_1_3(version: &str) -> bool {
    let mut parts = version
        .split(['.', '-', '+'])
        .map(|p| p.parse::<u32>().ok());
    matches!(
        (parts.next(), parts.next()),
        (Some(Some(1)), Some(Some(3..)))
    )
}

/// What a type with a default cannot tell.
fn is_written(json: &[u8], pointer: &str) -> bool {
    let json = serde_json::from_slice::<serde_json::Value>(json);
    json.is_ok_and(|v| v.pointer(pointer).is_some_and(|n| !n.is_null()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_processes_and_no_limit() {
        let pids = |version: &str, json: &str| {
            let json = format!(r#"{{"linux": {json}}}"#);
            let all: serde_json::Value = serde_json::from_str(&json).unwrap();
            let resources = serde_json::from_value(all["linux"].clone()).unwrap();
            let planned = plan(version, &resources, json.as_bytes(), "/linux");
            planned.unwrap().pids_max
        };
        let zero = r#"{"pids": {"limit": 0}}"#;
        for version in ["1.3.0", "1.4.0-rc.1", "1.12.0"] {
            assert_eq!(pids(version, zero), Some(Limit::At(1)), "{version}");
            assert_eq!(pids(version, r#"{"pids": {}}"#), None);
        }
        for version in ["1.0.2-dev", "1.2.1"] {
            assert_eq!(pids(version, zero), Some(Limit::Max), "{version}");
        }
        assert_eq!(
            pids("1.3.0", r#"{"pids": {"limit": -1}}"#),
            Some(Limit::Max)
        );
        assert_eq!(
            pids("1.3.0", r#"{"pids": {"limit": 7}}"#),
            Some(Limit::At(7))
        );
        assert_eq!(pids("1.3.0", "{}"), None);
    }
}
