//! What runc and crun accept, and engines and people therefore write.

use serde_json::{Value, json};

use super::bundle::{Bundle, Ran};

/// `exec --process` with this process in the container `box`.
fn exec(b: &Bundle, process: Value) -> Ran {
    let file = b.dir().join("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    b.oci(&["exec", "--process", file.to_str().unwrap(), "box"])
}

#[test]
fn scheduler_flags_by_the_names_of_the_spec() {
    let b = Bundle::new();
    let scheduler = json!({"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    // The policy is field 41 of proc_pid_stat(5): of the shell, and of what it forks.
    let script = "cut -d' ' -f41 /proc/$$/stat; cut -d' ' -f41 /proc/self/stat";
    b.sh(&format!("{script}; sleep 60"), |c| {
        c["process"]["scheduler"] = scheduler.clone();
    });
    b.oci(&["run", "--detach", "box"]).ok();
    let process = json!({"args": ["sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"],
                         "user": {"uid": 0, "gid": 0}, "scheduler": scheduler});
    // SCHED_BATCH is 3. Reset on fork does not change what is no real-time policy.
    assert_eq!(exec(&b, process).ok(), "3\n3\n");
    b.oci(&["delete", "--force", "box"]).ok();
}
