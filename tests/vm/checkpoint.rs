//! carob-oci's checkpoints, on a kernel that Debian's criu knows: it does not know
//! every newer one. `checkpoint.sh` does the checks, read by `init`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::systemd::with_libraries;
use super::{Kernel, Work, add_modules, archive, copy, in_path, place_busybox, strip};

/// What criu asks the kernel for: the sockets there are, and to hold the network
/// while it works.
const MODULES: [&str; 12] = [
    "af_packet_diag",
    "inet_diag",
    "netlink_diag",
    "nf_conntrack_netlink",
    "nf_tables",
    "nft_ct",
    "raw_diag",
    "tcp_diag",
    "tun",
    "udp_diag",
    "unix_diag",
    "veth",
];

/// criu has tar put away what is in a tmpfs, and ip what a network namespace has.
const PROGRAMS: [&str; 6] = ["criu", "ip", "tar", "gzip", "podman", "conmon"];

pub(crate) fn initramfs(kernel: &Kernel, work: &Work) -> PathBuf {
    let tree = work.0.join("criu");
    for dir in ["bin", "share"] {
        std::fs::create_dir_all(tree.join(dir)).unwrap();
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm");
    copy(&here.join("init"), &tree.join("init"));
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(tree.join("init"), executable).unwrap();
    copy(&here.join("checkpoint.sh"), &tree.join("share/checks"));
    place_busybox(&tree.join("bin"));
    strip(env!("CARGO_BIN_EXE_carob-oci"), &tree.join("bin/carob-oci"));
    for name in PROGRAMS {
        // The program is the last one; busybox makes way for it.
        let mut files = with_libraries(&in_path(name));
        copy(&files.pop().unwrap(), &tree.join("bin").join(name));
        for file in files {
            let to = tree.join(file.strip_prefix("/").unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            copy(&file, &to);
        }
    }
    add_modules(kernel, &tree, &MODULES);
    archive(&tree, &work.0.join("criu.cpio"))
}
