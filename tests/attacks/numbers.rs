//! T9: numbers that are not what they seem, and words that are too long (containerd
//! CVE-2024-40635; runc CVE-2021-43784).

use serde_json::{Value, json};

use super::bundle::Bundle;
use super::host::outcome;
use super::ours;

type Change = fn(&mut Value);

#[test]
fn numbers_out_of_range_t9() {
    super::works();
    let cases: [(&str, Change); 18] = [
        ("uid -1", |c| c["process"]["user"]["uid"] = json!(-1)),
        ("uid 2^32-1", |c| {
            c["process"]["user"]["uid"] = json!(4_294_967_295_u64)
        }),
        ("uid 2^32", |c| {
            c["process"]["user"]["uid"] = json!(4_294_967_296_u64)
        }),
        ("uid 2^64", |c| {
            c["process"]["user"]["uid"] = json!(1.8446744073709552e19)
        }),
        ("uid 1.5", |c| c["process"]["user"]["uid"] = json!(1.5)),
        ("uid as text", |c| {
            c["process"]["user"]["uid"] = json!("1000")
        }),
        ("gid -1", |c| c["process"]["user"]["gid"] = json!(-1)),
        ("gid 2^32-1", |c| {
            c["process"]["user"]["gid"] = json!(4_294_967_295_u64)
        }),
        ("group 2^32-1", |c| {
            c["process"]["user"]["additionalGids"] = json!([4_294_967_295_u64])
        }),
        ("oomScoreAdj", |c| {
            c["process"]["oomScoreAdj"] = json!(100_000)
        }),
        (
            "rlimit",
            |c| {
                c["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": -1, "hard": -1}])
            },
        ),
        ("rlimit type", |c| {
            c["process"]["rlimits"] = json!([{"type": "RLIMIT_ROOT", "soft": 1, "hard": 1}])
        }),
        (
            "device",
            |c| {
                c["linux"]["devices"] =
                    json!([{"path": "/dev/x", "type": "c", "major": 4096, "minor": -1}])
            },
        ),
        ("mapping", |c| {
            c["linux"]["namespaces"]
                .as_array_mut()
                .unwrap()
                .push(json!({"type": "user"}));
            let map =
                json!([{"containerID": 0, "hostID": 4_294_967_295_u64, "size": 4_294_967_295_u64}]);
            c["linux"]["uidMappings"] = map.clone();
            c["linux"]["gidMappings"] = map;
        }),
        (
            "hook's timeout",
            |c| c["hooks"] = json!({"prestart": [{"path": "/bin/true", "timeout": -1}]}),
        ),
        ("pids", |c| {
            c["linux"]["resources"] = json!({"pids": {"limit": 1.0e30}})
        }),
        ("memory", |c| {
            c["linux"]["resources"] = json!({"memory": {"limit": -5}})
        }),
        ("shares", |c| {
            c["linux"]["resources"] = json!({"cpu": {"shares": -1}})
        }),
    ];
    let b = Bundle::new();
    for (name, change) in cases {
        let show = "awk '/^Uid:|^Gid:|^Groups:/ {print}' /proc/self/status; echo alive";
        b.sh(show, change);
        let ran = b.oci(&["run", "box"]);
        let alive = outcome(name, &ran);
        let root = ran.stdout.contains("Uid:\t0");
        let is_uid = name.starts_with("uid");
        assert!(!(is_uid && alive && root), "{name}: became root: {ran:?}");
        match ours() {
            true => assert!(!alive, "{name}: {ran:?}"),
            false if alive => eprintln!("{name}: runs"),
            false => {}
        }
        b.oci(&["delete", "--force", "box"]).ok();
    }
}

/// What is too long for a call, a message or an error.
#[test]
fn long_words_t9() {
    super::works();
    let b = Bundle::new();
    let cases: [(&str, Change); 8] = [
        ("a program of 100 kB", |c| {
            c["process"]["args"] = json!([format!("/{}", "x".repeat(100_000))])
        }),
        ("a program of 1 MB", |c| {
            c["process"]["args"] = json!(["y".repeat(1_000_000)])
        }),
        ("an argument of 1 MB", |c| {
            c["process"]["args"] = json!(["/bin/echo", "z".repeat(1_000_000)])
        }),
        ("40000 arguments of 100 B", |c| {
            let mut args = vec!["/bin/true".to_owned()];
            args.resize(40_000, "a".repeat(100));
            c["process"]["args"] = json!(args);
        }),
        ("PATH of 1 MB", |c| {
            c["process"]["args"] = json!(["nothing"]);
            c["process"]["env"] = json!([format!("PATH={}", "/a:".repeat(40_000))]);
        }),
        ("cwd of 100 kB", |c| {
            c["process"]["cwd"] = format!("/{}", "d/".repeat(50_000)).into()
        }),
        ("a mount target of 100 kB", |c| {
            c["mounts"][0]["destination"] = format!("/{}", "d/".repeat(50_000)).into()
        }),
        ("1000 nested arrays", |c| {
            c["annotations"] = (0..100).fold(json!("x"), |v, _| json!([v]));
        }),
    ];
    for (name, change) in cases {
        b.sh("echo alive", change);
        let ran = b.oci(&["run", "box"]);
        let alive = outcome(name, &ran);
        if ours() {
            assert!(!alive && ran.code != 0, "{name}: {ran:?}");
            let n = ran.stderr.len();
            assert!((1..=20_000).contains(&n), "{name}: an error of {n} bytes");
        }
        b.oci(&["delete", "--force", "box"]).ok();
    }
    b.sh("sleep 20", |_| {});
    b.oci(&["create", "box"]).ok();
    b.oci(&["start", "box"]).ok();
    let long = format!("/{}", "x".repeat(100_000));
    for args in [
        &["exec", "box", &long][..],
        &["exec", "--cwd", &long, "box", "true"],
        &["exec", "--user", &long, "box", "true"],
    ] {
        let ran = b.oci(args);
        outcome("exec", &ran);
        assert!(ran.code != 0 && !ran.stderr.is_empty(), "{}", ran.code);
    }
    b.oci(&["delete", "--force", "box"]).ok();
}
