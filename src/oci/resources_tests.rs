//! Every field, and what each fault is called.

use super::*;
use crate::linux::cgroup::{v1, v2};

fn from(json: &str) -> Result<Resources> {
    limits(&serde_json::from_str(json).unwrap())
}

/// Every field of the specification that a container of today may have.
const ALL: &str = r#"{
    "devices": [
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
        {"allow": true, "type": "b", "major": 8, "minor": -1, "access": "r"}],
    "memory": {"limit": 1000, "reservation": 500, "swap": 3000, "swappiness": 10,
        "disableOOMKiller": true, "useHierarchy": true, "checkBeforeUpdate": true},
    "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "burst": 10000,
        "realtimeRuntime": 950000, "realtimePeriod": 1000000, "cpus": "0-1", "mems": "0",
        "idle": 0},
    "pids": {"limit": 32},
    "blockIO": {"weight": 100, "leafWeight": 200,
        "weightDevice": [{"major": 8, "minor": 0, "weight": 10, "leafWeight": 1000}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
        "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
        "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}]},
    "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
    "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
    "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "mlx4_0": {"hcaObjects": 1000}}
}"#;

fn text(writes: &[crate::linux::cgroup::resources::Write]) -> Vec<String> {
    let line = |w: &crate::linux::cgroup::resources::Write| format!("{}={}", w.file, w.value);
    writes.iter().map(line).collect()
}

#[test]
fn everything_on_v1() {
    let r = from(ALL).unwrap();
    assert_eq!(
        text(&v1::plan(&r)),
        [
            "cpu.idle=0",
            "cpu.shares=1024",
            "cpu.cfs_period_us=100000",
            "cpu.cfs_quota_us=50000",
            "cpu.cfs_burst_us=10000",
            "cpu.rt_period_us=1000000",
            "cpu.rt_runtime_us=950000",
            "cpuset.cpus=0-1",
            "cpuset.mems=0",
            "memory.limit_in_bytes=1000",
            "memory.soft_limit_in_bytes=500",
            "memory.memsw.limit_in_bytes=3000",
            "memory.swappiness=10",
            "memory.oom_control=1",
            "pids.max=32",
            "blkio.bfq.weight=100",
            "blkio.bfq.leaf_weight=200",
            "blkio.bfq.weight_device=8:0 10",
            "blkio.bfq.leaf_weight_device=8:0 1000",
            "blkio.throttle.read_bps_device=8:0 1",
            "blkio.throttle.write_bps_device=8:0 2",
            "blkio.throttle.read_iops_device=8:0 3",
            "blkio.throttle.write_iops_device=8:0 0",
            "hugetlb.2MB.limit_in_bytes=4194304",
            "hugetlb.2MB.rsvd.limit_in_bytes=4194304",
            "net_cls.classid=1048577",
            "net_prio.ifpriomap=eth0 500",
            "rdma.max=mlx4_0 hca_handle=max hca_object=1000",
            "rdma.max=mlx5_1 hca_handle=3 hca_object=10000",
        ]
    );
    assert!(r.memory_check);
    // Behind the rules that were asked for come the runtime's own.
    assert_eq!(r.devices[0], DeviceRule::DENY_ALL);
    assert_eq!(
        (r.devices[2].major, r.devices[2].minor),
        (Some(10), Some(229))
    );
    assert_eq!(r.devices[3].minor, None);
    assert_eq!(r.devices[4..], default_device_rules()[1..]);
}

#[test]
fn everything_on_v2() {
    let mut r = from(ALL).unwrap();
    let refused = |r: &Resources| v2::expressible(r, |_| true).unwrap_err().to_string();
    assert!(refused(&r).contains("cpu.realtime"));
    (r.cpu_rt_runtime_us, r.cpu_rt_period_us) = (None, None);
    assert!(refused(&r).contains("memory.swappiness"));
    r.memory_swappiness = None;
    assert!(refused(&r).contains("disableOOMKiller"));
    r.oom_kill_disable = false;
    assert!(refused(&r).contains("leafWeight"));
    r.io.leaf_weight = None;
    r.io.devices[0].leaf_weight = None;
    assert!(refused(&r).contains("network.classID"));
    r.net_class = None;
    r.net_priorities.clear();
    v2::expressible(&r, |_| true).unwrap();
    assert_eq!(
        text(&v2::plan(&r)),
        [
            "cpu.idle=0",
            "cpu.weight=100",
            "cpu.max=50000 100000",
            "cpu.max.burst=10000",
            "cpuset.cpus=0-1",
            "cpuset.mems=0",
            "memory.low=500",
            "memory.max=1000",
            "pids.max=32",
            "io.bfq.weight=100",
            "io.bfq.weight=8:0 10",
            "io.max=8:0 rbps=1",
            "io.max=8:0 wbps=2",
            "io.max=8:0 riops=3",
            "io.max=8:0 wiops=max",
            "hugetlb.2MB.max=4194304",
            "hugetlb.2MB.rsvd.max=4194304",
            "rdma.max=mlx4_0 hca_handle=max hca_object=1000",
            "rdma.max=mlx5_1 hca_handle=3 hca_object=10000",
        ]
    );
}

#[test]
fn no_limit_and_unset() {
    let r = from(
        r#"{"memory": {"limit": -1}, "cpu": {"quota": -1, "shares": 0, "period": 0,
            "cpus": "", "realtimeRuntime": 0}, "pids": {"limit": -1},
            "network": {}, "blockIO": {"weight": 0}, "rdma": {}, "unified": {}}"#,
    )
    .unwrap();
    assert_eq!(r.memory_and_swap_max, Some(Limit::Max));
    let expected = [
        "cpu.cfs_quota_us=-1",
        "memory.limit_in_bytes=-1",
        "memory.memsw.limit_in_bytes=-1",
        "pids.max=max",
    ];
    assert_eq!(text(&v1::plan(&r)), expected);
    let nothing = from("{}").unwrap();
    assert!(v1::plan(&nothing).is_empty() && v2::plan(&nothing).is_empty());
    assert_eq!(nothing.devices, default_device_rules());
    // podman's way to say "no limit", and a missing number.
    for pids in [r#"{"pids": {"limit": 0}}"#, r#"{"pids": {}}"#] {
        assert_eq!(from(pids).unwrap().pids_max, Some(Limit::Max));
    }
    let idle = from(r#"{"cpu": {"idle": 1, "shares": 1024}}"#).unwrap();
    assert_eq!(text(&v2::plan(&idle)), ["cpu.idle=1"]);
    let old = from(r#"{"memory": {"kernel": 1, "kernelTCP": 2, "useHierarchy": false}}"#);
    let old = old.unwrap();
    assert!(v1::plan(&old).is_empty());
    assert_eq!(
        old.ignored,
        ["memory.kernel", "memory.kernelTCP", "memory.useHierarchy"]
    );
}

#[test]
fn errors_name_the_field() {
    for (json, field) in [
        (r#"{"memory": {"limit": -2}}"#, "memory.limit"),
        (r#"{"memory": {"limit": 9, "swap": 8}}"#, "memory.swap"),
        (r#"{"memory": {"swappiness": 101}}"#, "memory.swappiness"),
        (r#"{"cpu": {"quota": -9}}"#, "cpu.quota"),
        (r#"{"cpu": {"quota": 1000, "burst": 1001}}"#, "cpu.burst"),
        (r#"{"cpu": {"period": 999}}"#, "cpu.period"),
        (r#"{"cpu": {"idle": 2}}"#, "cpu.idle"),
        (r#"{"cpu": {"cpus": "0;1"}}"#, "cpu.cpus"),
        (r#"{"cpu": {"mems": "a"}}"#, "cpu.mems"),
        (r#"{"pids": {"limit": -7}}"#, "pids.limit"),
        (r#"{"blockIO": {"weight": 9}}"#, "blockIO.weight"),
        (
            r#"{"blockIO": {"weightDevice": [{"major": -1, "minor": 0}]}}"#,
            "blockIO.weightDevice[0].major",
        ),
        (
            r#"{"blockIO": {"throttleReadIOPSDevice": [{"major": 8, "minor": -3, "rate": 1}]}}"#,
            "blockIO.throttleReadIOPSDevice[0].minor",
        ),
        (
            r#"{"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}"#,
            "hugepageLimits[0].pageSize",
        ),
        (
            r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": -2}]}"#,
            "hugepageLimits[0].limit",
        ),
        (
            r#"{"network": {"priorities": [{"name": "a b", "priority": 1}]}}"#,
            "network.priorities[0].name",
        ),
        (r#"{"rdma": {"a/b": {}}}"#, r#"rdma["a/b"]"#),
        (
            r#"{"devices": [{"allow": true, "access": "rx"}]}"#,
            "devices[0].access",
        ),
        (
            r#"{"devices": [{"allow": true, "type": "c", "major": -2}]}"#,
            "devices[0].major",
        ),
        (
            r#"{"devices": [{"allow": true, "type": "p"}]}"#,
            "devices[0].type",
        ),
        (r#"{"unified": {"../x.y": "1"}}"#, r#"unified["../x.y"]"#),
        (r#"{"unified": {"memory": "1"}}"#, r#"unified["memory"]"#),
    ] {
        let e = from(json).unwrap_err();
        assert_eq!(e.kind(), crate::Kind::Invalid);
        let start = format!("linux.resources.{field}: ");
        assert!(e.to_string().starts_with(&start), "{json}: {e}");
    }
}

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
