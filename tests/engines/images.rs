//! What `carob save` wrote, under podman.

use std::process::Command;

use crate::cage::{apart, image};
use crate::podman::Podman;
use crate::run::IMAGE;

#[test]
fn podman_runs_what_save_wrote() {
    apart(|| {
        let p = Podman::new();
        let dir = p.cage.dir().to_str().unwrap().to_owned();
        let carob = |args: &[&str]| {
            let out = Command::new(env!("CARGO_BIN_EXE_carob"))
                .env_remove("CAROB_ROOT")
                .args(["--root", &format!("{dir}/carob")])
                .args(args)
                .output()
                .unwrap();
            let error = String::from_utf8_lossy(&out.stderr);
            assert!(out.status.success(), "{args:?}: {error}");
        };
        carob(&["load", "-i", image()]);
        carob(&["tag", IMAGE, "localhost/saved:1"]);
        for format in ["oci-archive", "docker-archive", "oci-dir"] {
            let to = format!("{dir}/{format}");
            carob(&["save", "--format", format, "-o", &to, "localhost/saved:1"]);
            p.podman(&["rmi", "-a", "-f"]).said();
            let loaded = p.podman(&["load", "-i", &to]).said();
            let name = loaded.rsplit(' ').next().unwrap();
            // A directory is named by its path there.
            assert!(
                name == "localhost/saved:1" || format == "oci-dir",
                "{format}: {loaded}"
            );
            let run = [
                "run",
                "--rm",
                "--network=none",
                "--cgroup-parent",
                &p.parent,
            ];
            let script = [name, "sh", "-c", "echo runs"];
            assert_eq!(p.podman(&[&run[..], &script].concat()).said(), "runs");
        }
    });
}
