//! carob with less than the rights of root.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::root::{Ran, Root, pod, sh};

#[test]
fn a_missing_capability_is_said_before_anything_is_made() {
    let root = Root::new();
    let manifest = root.dir().join("pod.yaml");
    let spec = |host_network: bool| {
        json!({
            "hostNetwork": host_network,
            "terminationGracePeriodSeconds": 0,
            "containers": [sh("main", "exec sleep 1000", json!({}))],
        })
    };
    let without = |capability: &str| -> Ran {
        let less = format!("-{capability}");
        Command::new("setpriv")
            .args(["--bounding-set", &less, "--inh-caps", &less])
            .arg(env!("CARGO_BIN_EXE_carob"))
            .arg("--root")
            .arg(root.dir())
            .args(["apply", "-f"])
            .arg(&manifest)
            .stdin(Stdio::null())
            .output()
            .expect("setpriv runs")
            .into()
    };
    std::fs::write(&manifest, pod("p", spec(false))).unwrap();
    for (capability, name) in [
        ("sys_admin", "CAP_SYS_ADMIN"),
        ("net_admin", "CAP_NET_ADMIN"),
    ] {
        without(capability)
            .fails(
                10,
                &format!("error: carob needs {name}, which it does not have here\n"),
            )
            .fails(10, "run it with --privileged");
        assert_eq!(root.carob(&["get", "pods", "-o", "name"]).ok(), "");
    }
    // On the host's network there is none to make. But older kernels (6.1) ask for it
    // too where device rules are programs, on cgroup v2.
    std::fs::write(&manifest, pod("p", spec(true))).unwrap();
    let ran = without("net_admin");
    if ran.code == 0 {
        return;
    }
    assert!(!std::path::Path::new("/sys/fs/cgroup/devices").exists());
    ran.fails(
        10,
        "error: carob needs CAP_NET_ADMIN, which it does not have here\n",
    );
    assert_eq!(root.carob(&["get", "pods", "-o", "name"]).ok(), "");
}
