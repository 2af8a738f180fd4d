//! T5, T8, T9: text and numbers that mean something else to somebody else.

use serde_json::json;

use super::Outside;
use super::bundle::Bundle;

#[test]
fn ids_are_names() {
    let b = Bundle::new();
    let outside = Outside::of(&b);
    b.sh("true", |_| {});
    let long = "a".repeat(2000);
    for id in [
        "../outside/x",
        "a/b",
        "",
        ".",
        "..",
        "a\nb",
        "/etc",
        "a b",
        "é",
        &long,
    ] {
        for verb in ["create", "state", "kill", "delete", "exec"] {
            let ran = b.oci(&[verb, id]);
            assert!(
                ran.code != 0 && ran.code != 124 && ran.code != 134,
                "{verb} {id:?}: {ran:?}"
            );
        }
    }
    outside.is_untouched("an id");
}

/// crun CVE-2026-30892, containerd CVE-2024-40635.
#[test]
fn a_user_is_who_it_says_or_nobody() {
    let b = Bundle::new();
    let etc = b.dir().join("rootfs/etc");
    std::fs::write(
        etc.join("passwd"),
        "root:x:0:0::/:/bin/sh\nme:x:12:34::/:\n7:x:99:98::/:\n",
    )
    .unwrap();
    b.sh("sleep 60", |_| {});
    b.oci(&["create", "box"]).ok();
    b.oci(&["start", "box"]).ok();
    for (user, want) in [
        ("1", Some("1:0")),
        ("1:2", Some("1:2")),
        ("2147483647:1", Some("2147483647:1")),
        ("-1", None),
        ("4294967295", None),
        ("4294967296", None),
        ("4294967296:0", None),
        ("18446744073709551616", None),
        ("0x1", None),
        ("1e3", None),
        ("1:-1", None),
        ("1:4294967296", None),
        (" 1", None),
        ("1 ", None),
        ("+1", None),
    ] {
        let ran = b.oci(&[
            "exec",
            "--user",
            user,
            "box",
            "sh",
            "-c",
            "echo $(id -u):$(id -g)",
        ]);
        match want {
            Some(ids) => assert_eq!(ran.stdout.trim(), ids, "{user:?}: {ran:?}"),
            None => assert!(ran.code != 0 && ran.stdout.is_empty(), "{user:?}: {ran:?}"),
        }
    }
    b.oci(&["delete", "--force", "box"]).ok();
    for id in [
        json!(-1),
        json!(4_294_967_295_u64),
        json!(4_294_967_296_u64),
        json!(1.5),
        json!("0"),
    ] {
        for field in ["uid", "gid"] {
            b.sh("id -u; id -g", |c| c["process"]["user"][field] = id.clone());
            let ran = b.oci(&["run", "box"]);
            assert!(
                ran.code != 0 && ran.stdout.is_empty(),
                "{field} {id}: {ran:?}"
            );
            b.oci(&["delete", "--force", "box"]).ok();
        }
    }
}

/// T5, T8. runc CVE-2019-16884 and CVE-2025-52881, cri-o CVE-2022-0811.
#[test]
fn sysctls_and_labels_land_where_meant() {
    let b = Bundle::new();
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap();
    let before = (
        read("kernel/core_pattern"),
        read("kernel/hostname"),
        read("net/ipv4/ip_forward"),
    );
    for (name, value) in [
        ("kernel.core_pattern", "|/evil"),
        ("net/../kernel/core_pattern", "|/evil"),
        ("net.ipv4.ip_forward=1\nkernel.core_pattern", "x"),
        ("net.ipv4./../../kernel/core_pattern", "x"),
        ("kernel.shm_rmid_forced", "1\nkernel.core_pattern=|/evil"),
        ("", "1"),
    ] {
        b.sh("true", |c| c["linux"]["sysctl"] = json!({name: value}));
        b.oci(&["run", "box"]);
        b.oci(&["delete", "--force", "box"]).ok();
        let after = (
            read("kernel/core_pattern"),
            read("kernel/hostname"),
            read("net/ipv4/ip_forward"),
        );
        assert_eq!(after, before, "{name}={value}");
    }
    // A tmpfs at /proc with files where the real ones would be.
    let fake = b.dir().join("fake");
    for dir in ["sys/kernel", "self/attr", "sys/net/ipv4"] {
        std::fs::create_dir_all(fake.join(dir)).unwrap();
    }
    for file in [
        "sys/kernel/shmmax",
        "self/attr/exec",
        "sys/net/ipv4/ip_forward",
    ] {
        std::fs::write(fake.join(file), "").unwrap();
    }
    for target in ["/proc", "/proc/sys", "/proc/self"] {
        b.sh("true", |c| {
            c["mounts"].as_array_mut().unwrap().push(
                json!({"destination": target, "type": "bind", "source": fake, "options": ["bind"]}),
            );
            c["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
        });
        b.oci(&["run", "box"]);
        b.oci(&["delete", "--force", "box"]).ok();
        for file in [
            "sys/kernel/shmmax",
            "self/attr/exec",
            "sys/net/ipv4/ip_forward",
        ] {
            assert_eq!(
                std::fs::read_to_string(fake.join(file)).unwrap(),
                "",
                "{target}: {file}"
            );
        }
    }
}

#[test]
fn newlines_and_nul_bytes_are_no_syntax() {
    let b = Bundle::new();
    let outside = Outside::of(&b);
    for (what, change) in [
        ("env", json!({"process": {"env": ["A=b\u{0}PATH=/x"]}})),
        ("args", json!({"process": {"args": ["true\u{0}x"]}})),
        ("hostname", json!({"hostname": "a\nb"})),
        ("cwd", json!({"process": {"cwd": "/\u{0}x"}})),
        (
            "mount",
            json!({"mounts": [{"destination": "/a\u{0}b", "type": "tmpfs", "source": "t"}]}),
        ),
        ("cgroup", json!({"linux": {"cgroupsPath": "/a\n1:b"}})),
    ] {
        b.sh("true", |c| merge(c, &change));
        let ran = b.oci(&["run", "box"]);
        assert!(ran.code != 0 && ran.code != 134, "{what}: {ran:?}");
        b.oci(&["delete", "--force", "box"]).ok();
    }
    // Text that is only text: kept whole, understood by nobody.
    b.sh("sleep 60", |c| {
        c["annotations"] =
            json!({"a\nb\"}": "}\n{\"status\": \"stopped\"}", "org.systemd.property.X\n": "1"});
        c["annotations"]
            .as_object_mut()
            .unwrap()
            .retain(|k, _| !k.starts_with("org.systemd"));
    });
    b.oci(&["create", "box"]).ok();
    assert_eq!(b.state("box")["status"], "created");
    assert_eq!(
        b.state("box")["annotations"]["a\nb\"}"],
        "}\n{\"status\": \"stopped\"}"
    );
    b.oci(&["delete", "--force", "box"]).ok();
    // Above every root there is the root.
    b.sh("cat /proc/self/cgroup", |c| {
        let path = c["linux"]["cgroupsPath"].as_str().unwrap().to_owned();
        c["linux"]["cgroupsPath"] = format!("/../../../../..{path}").into();
    });
    b.oci(&["run", "box"]).ok();
    outside.is_untouched("text");
}

fn merge(into: &mut serde_json::Value, change: &serde_json::Value) {
    for (key, value) in change.as_object().unwrap() {
        match value.is_object() {
            true => merge(&mut into[key], value),
            false => into[key] = value.clone(),
        }
    }
}
