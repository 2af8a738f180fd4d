//! carob in a plain chroot(2), whose root directory is no mount point: pivot_root(2)
//! and mount(2) refuse that with an EINVAL that tells nothing.

use std::process::Command;

use crate::root::{IMAGE, Ran, Root, images, pod_text};

#[test]
fn a_root_that_is_no_mount_point_is_named_with_its_mend() {
    let root = Root::empty();
    let place = root.dir().join("chroot");
    std::fs::create_dir(&place).unwrap();
    let manifest = pod_text("x", IMAGE, "  containers:\n  - name: main\n", "exit 0");
    std::fs::write(place.join("pod.yaml"), manifest).unwrap();
    // unshare(1) makes the mounts private, and they go with the namespace.
    let script = r#"
        cd "$1"
        for d in bin lib lib64 sbin; do
            if [ -L "/$d" ]; then cp -P "/$d" .; else mkdir "$d"; mount --bind "/$d" "$d"; fi
        done
        mkdir usr proc dev sys tmp
        mount --bind /usr usr
        mount -t proc proc proc
        for d in dev sys; do mount --rbind "/$d" "$d"; done
        : >carob; mount --bind "$2" carob
        : >image; mount --bind "$3" image
        chroot . /carob --root /state load -q -i /image >/dev/null
        code=0
        chroot . /carob --root /state apply -f /pod.yaml || code=$?
        chroot . /carob --root /state delete pod x --force --grace-period=0 >/dev/null 2>&1
        exit $code"#;
    let ran: Ran = Command::new("unshare")
        .args(["--mount", "sh", "-euc", script, "sh"])
        .arg(&place)
        .arg(env!("CARGO_BIN_EXE_carob"))
        .arg(images().join("busybox.tar"))
        .output()
        .expect("unshare(1) runs")
        .into();
    ran.fails(
        7,
        "the root directory of this process is no mount point, as in a plain chroot: \
         `mount --bind DIR DIR` before `chroot DIR`",
    );
}
