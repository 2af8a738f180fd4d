//! What securityContext says, read back from /proc by the container itself.

use crate::root::{IMAGE, Root};

/// A Pod with a container for each security context, named c0, c1 and so on.
fn pod(contexts: &[&str]) -> String {
    let containers: String = contexts
        .iter()
        .enumerate()
        .map(|(i, context)| {
            format!(
                "  - name: c{i}\n    image: {IMAGE}\n    imagePullPolicy: Never\n    \
                 command: [sleep, '1000']\n    securityContext: {context}\n"
            )
        })
        .collect();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: sec}}\nspec:\n  \
         terminationGracePeriodSeconds: 0\n  containers:\n{containers}"
    )
}

struct Asked(Root);

impl Asked {
    fn new(contexts: &[&str]) -> Self {
        let root = Root::new();
        root.apply(&pod(contexts)).ok();
        Asked(root)
    }

    fn sh(&self, i: usize, script: &str) -> String {
        let name = format!("c{i}");
        self.0
            .carob(&["exec", "sec", "-c", &name, "--", "sh", "-c", script])
            .ok()
    }

    /// A line of /proc/PID/status: the container's own process and an exec's are
    /// to have the same.
    #[track_caller]
    fn status(&self, i: usize, key: &str) -> String {
        let line = |pid: &str| {
            self.sh(
                i,
                &format!("sed -n 's/^{key}:[[:space:]]*//p' /proc/{pid}/status"),
            )
        };
        let own = line("1");
        assert_eq!(
            own,
            line("self"),
            "{key} of c{i}: PID 1 and an exec process"
        );
        own.trim().to_owned()
    }
}

#[test]
fn defaults() {
    let c = Asked::new(&["{}"]);
    // containerd's default set.
    assert_eq!(c.status(0, "CapEff"), "00000000a80425fb");
    assert_eq!(c.status(0, "CapBnd"), "00000000a80425fb");
    assert_eq!(c.status(0, "CapAmb"), "0000000000000000");
    assert_eq!(c.status(0, "NoNewPrivs"), "0");
    assert_eq!(c.status(0, "Seccomp"), "2");
    assert_eq!(
        c.sh(
            0,
            "cat /proc/sys/kernel/random/boot_id >/dev/null; head -c 1 /proc/kcore | wc -c"
        ),
        "0\n"
    );
    let denied = c.sh(0, "echo 1 >/proc/sys/kernel/randomize_va_space; echo $?; mount -t tmpfs t /tmp; echo $?; unshare -n true; echo $?");
    assert_eq!(denied, "1\n1\n1\n");
    assert_eq!(
        c.sh(0, "ls /dev | tr '\\n' ' '"),
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout termination-log tty urandom zero "
    );
}

#[test]
fn less_than_the_default() {
    let c = Asked::new(&[
        "{capabilities: {drop: [ALL]}}",
        "{capabilities: {drop: [ALL], add: [NET_BIND_SERVICE, SYS_TIME]}}",
        "{allowPrivilegeEscalation: false}",
        "{readOnlyRootFilesystem: true}",
        "{runAsUser: 1000}",
        "{runAsUser: 1000, runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}",
        "{runAsUser: 1999}",
    ]);
    for key in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(c.status(0, key), "0000000000000000", "{key}");
    }
    let want = format!("{:016x}", 1_u64 << 10 | 1 << 25);
    assert_eq!(c.status(1, "CapEff"), want);
    assert_eq!(c.status(1, "CapBnd"), want);
    assert_eq!(c.status(2, "NoNewPrivs"), "1");
    let said = c.sh(
        3,
        "touch /x 2>&1; touch /etc/hosts 2>&1; echo y >/dev/shm/y && cat /dev/shm/y",
    );
    assert!(
        said.contains("Read-only") && said.ends_with("y\n"),
        "{said}"
    );
    assert_eq!(c.status(4, "Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(
        c.status(4, "Gid"),
        "0\t0\t0\t0",
        "no such user: the group is root's"
    );
    assert_eq!(c.status(4, "CapEff"), "0000000000000000");
    assert_eq!(c.status(4, "CapBnd"), "00000000a80425fb");
    assert_eq!(c.status(5, "Seccomp"), "2");
    // The image has this one: its group, its groups, its home.
    assert_eq!(
        c.sh(6, "id -g; id -G; echo $HOME"),
        "1999\n1999 50\n/home\n"
    );
}

#[test]
fn more_than_the_default() {
    let c = Asked::new(&[
        "{seccompProfile: {type: Unconfined}}",
        "{privileged: true}",
        "{capabilities: {add: [ALL]}}",
        // AppArmor's default profile denies mounts to this capability too.
        "{capabilities: {add: [SYS_ADMIN]}, appArmorProfile: {type: Unconfined}}",
        "{procMount: Unmasked}",
    ]);
    assert_eq!(c.status(0, "Seccomp"), "0");
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = own
        .lines()
        .find_map(|l| l.strip_prefix("CapBnd:"))
        .unwrap()
        .trim();
    assert_eq!(c.status(1, "CapEff"), bounding);
    assert_eq!(c.status(1, "Seccomp"), "0");
    assert_eq!(
        c.sh(1, "mkdir /m && mount -t tmpfs t /m && umount /m && mknod /null c 1 3 && echo x >/null; echo $?"),
        "0\n"
    );
    assert_eq!(c.status(2, "CapEff"), bounding);
    assert_eq!(
        c.sh(3, "mkdir /m && mount -t tmpfs t /m && umount /m; echo $?"),
        "0\n"
    );
    assert_eq!(c.sh(4, "grep -c ' /proc/' /proc/self/mounts; true"), "0\n");
}

/// Class T6 of docs/attacks.md, as CVE-2022-2989 and CVE-2023-25173: a program that
/// changes its gid must stay in the group that files deny something to.
#[test]
fn the_primary_group_is_a_supplementary_one_too() {
    let root = Root::new();
    let groups = "sed -n 's/^Groups:[[:space:]]*//p' /proc/1/status /proc/self/status";
    let check = |pod_context: &str, container: &str, want: [&str; 3]| {
        root.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: sec}}\nspec:\n  \
             terminationGracePeriodSeconds: 0\n  securityContext: {pod_context}\n  \
             containers:\n  - name: c\n    image: {IMAGE}\n    imagePullPolicy: Never\n    \
             command: [sleep, '1000']\n    securityContext: {container}\n"
        ))
        .ok();
        let said = root.sh("sec", &format!("id -u; id -g; {groups}"));
        let lines: Vec<&str> = said.lines().map(str::trim).collect();
        let [uid, gid, all] = want;
        assert_eq!(lines, [uid, gid, all, all], "{pod_context} {container}");
        let user = root.field("sec", ".status.containerStatuses[0].user.linux");
        let user: serde_json::Value = serde_json::from_str(&user).unwrap();
        let mut listed: Vec<u64> = user["supplementalGroups"]
            .as_array()
            .unwrap()
            .iter()
            .map(|g| g.as_u64().unwrap())
            .collect();
        listed.sort_unstable();
        let listed: Vec<String> = listed.iter().map(u64::to_string).collect();
        let seen = [
            user["uid"].to_string(),
            user["gid"].to_string(),
            listed.join(" "),
        ];
        assert_eq!(seen, want, "{pod_context} {container}");
        root.carob(&["delete", "pod", "sec"]).ok();
    };
    // The sample of Kubernetes' documentation.
    let sample = "{runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000, supplementalGroups: [4000]}";
    check(sample, "{}", ["1000", "3000", "2000 3000 4000"]);
    check("{}", "{}", ["0", "0", "0"]);
    check("{}", "{runAsUser: 7}", ["7", "0", "0"]);
    // The user is then the image's: root, or the one that it names.
    check("{}", "{runAsGroup: 3000}", ["0", "3000", "3000"]);
    check("{runAsGroup: 3000}", "{}", ["0", "3000", "3000"]);
    // The image has this user, in a group of its own and in another.
    check("{}", "{runAsUser: 1999}", ["1999", "1999", "50 1999"]);
    let strict = "{supplementalGroupsPolicy: Strict}";
    check(strict, "{runAsUser: 1999}", ["1999", "1999", "1999"]);
}

/// A kubelet refuses such a Pod for good; where the host has AppArmor, the profiles hold.
#[test]
fn app_armor_is_enforced_or_refused() {
    let root = Root::new();
    let with = |name: &str, annotation: &str, context: &str| {
        pod(&[context]).replace(
            "{name: sec}",
            &format!("{{name: {name}, annotations: {{{annotation}}}}}"),
        )
    };
    let legacy =
        |value: &str| format!("container.apparmor.security.beta.kubernetes.io/c0: {value}");
    let asked = [
        (
            "field",
            with("field", "", "{appArmorProfile: {type: RuntimeDefault}}"),
        ),
        (
            "annotation",
            with("annotation", &legacy("runtime/default"), "{}"),
        ),
    ];
    let missing = [
        (
            "localhost",
            with(
                "localhost",
                "",
                "{appArmorProfile: {type: Localhost, localhostProfile: carob-no-such}}",
            ),
        ),
        (
            "legacy",
            with("legacy", &legacy("localhost/carob-no-such"), "{}"),
        ),
    ];
    let not_asked = [
        ("none", with("none", "", "{}"), "carob-default (enforce)\n"),
        (
            "free",
            with("free", "", "{appArmorProfile: {type: Unconfined}}"),
            "unconfined\n",
        ),
        (
            "legacy-free",
            with("legacy-free", &legacy("unconfined"), "{}"),
            "unconfined\n",
        ),
        (
            "privileged",
            with("privileged", "", "{privileged: true}"),
            "unconfined\n",
        ),
    ];
    let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.starts_with(b"Y"));
    for (name, text, profile) in &not_asked {
        root.apply(text).ok();
        if enabled {
            assert_eq!(
                root.sh(name, "cat /proc/1/attr/current"),
                *profile,
                "{name}"
            );
            assert_eq!(
                root.sh(name, "cat /proc/self/attr/current"),
                *profile,
                "{name}"
            );
        }
    }
    for (name, text) in asked.iter().chain(&missing) {
        let ran = root.apply(text);
        if enabled && !name.starts_with('l') {
            ran.ok();
            let profile = root.sh(name, "cat /proc/1/attr/current");
            assert_eq!(profile, "carob-default (enforce)\n", "{name}");
        } else if enabled {
            ran.fails(7, "the AppArmor profile \"carob-no-such\" is not loaded");
            let reason = ".status.containerStatuses[0].state.waiting.reason";
            assert_eq!(root.field(name, reason), "CreateContainerError", "{name}");
        } else {
            ran.fails(
                7,
                "Cannot enforce AppArmor: AppArmor is not enabled on the host",
            );
            assert_eq!(root.field(name, ".status.phase"), "Failed", "{name}");
            assert_eq!(root.field(name, ".status.reason"), "AppArmor", "{name}");
            root.carob(&["delete", "pod", name]).ok();
        }
    }
}
