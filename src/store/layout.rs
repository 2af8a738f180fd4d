//! Which file is where. Nothing else in the program joins these paths.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::{Context, Error, Result};

/// The trees of one root.
///
/// ```text
/// <state>/                 /run/carob, or <root>/run       gone at boot, 0700
///   names/<ns>/<name>      a symlink whose text is the Pod's UID
///   pods/                  a private mount of itself while there are Pods: what is
///                          mounted below it shows up in no other mount namespace
///     <uid>/               see PodPaths
///   bare/mnt               the mount namespace that containers' are copied from; the
///                          directory is a private mount of itself, too
///   network/               addresses in use, the bridge's record
///   layers/<32 hex>/       an image's erofs layer, mounted while a Pod has it; the
///                          directory is a private mount of itself, too
///   layers/image-<32 hex>/ an image that is a volume, the same way
/// <data>/                  /var/lib/carob, or <root>/data   0700
///   images/                blobs, unpacked layers, the name index
///   pods/<uid>/            disk-backed volumes, writable layers
///   objects.lock           held while an object is changed
///   objects.key            the key of encrypted Secrets, which the machine's key encrypts
///   objects/<kind>/<ns>/<name>   the record of a ConfigMap, a Secret, ...; that of a
///                          Namespace is objects/namespaces/<name>
///   claims.lock            held while a claim is mounted or unmounted
///   claims/<uid>/          what a PersistentVolumeClaim holds: see volume/sized.rs for one
///                          whose size holds
///   claims/<uid>.holder    the Pod that has it for itself
/// <logs>/                  /var/log/pods, or <root>/log
///   <ns>_<name>_<uid>/<container>/<n>.log
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub state: PathBuf,
    pub data: PathBuf,
    pub logs: PathBuf,
    /// What `--root` was, for handing to a child program.
    root: Option<PathBuf>,
    tag: String,
}

impl Layout {
    /// `root` as given with `--root`, made absolute; `None` for the system's own.
    pub fn new(root: Option<&Path>) -> Result<Self> {
        let Some(root) = root else {
            return Ok(Layout {
                state: "/run/carob".into(),
                data: "/var/lib/carob".into(),
                logs: "/var/log/pods".into(),
                root: None,
                tag: String::new(),
            });
        };
        let root = std::path::absolute(root).context(format!("--root {}", root.display()))?;
        if std::fs::metadata(&root).is_ok_and(|m| !m.is_dir()) {
            let error = Error::invalid(format!("--root {} is not a directory", root.display()));
            return Err(error.hint(
                "name a directory, such as --root /srv/carob: carob makes it where it is not there",
            ));
        }
        Ok(Layout {
            state: root.join("run"),
            data: root.join("data"),
            logs: root.join("log"),
            tag: tag_of(root.as_os_str().as_encoded_bytes()),
            root: Some(root),
        })
    }

    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// Eight hex digits that tell this root's kernel objects (cgroups, links,
    /// nft tables) from those of other roots; empty for the system's own.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Makes the directories that every verb relies on.
    pub fn create(&self) -> Result<()> {
        for dir in [
            &self.names(),
            &self.pods(),
            &self.images(),
            &self.data.join("pods"),
        ] {
            make_dir(dir)?;
        }
        Ok(())
    }

    pub fn names(&self) -> PathBuf {
        self.state.join("names")
    }
    /// Held while a Pod's name is taken or given back.
    pub fn names_lock(&self) -> PathBuf {
        self.state.join("names.lock")
    }
    pub fn pods(&self) -> PathBuf {
        self.state.join("pods")
    }
    pub fn network(&self) -> PathBuf {
        self.state.join("network")
    }
    pub fn layer_mounts(&self) -> PathBuf {
        self.state.join("layers")
    }
    pub fn bare_mounts(&self) -> PathBuf {
        self.state.join("bare")
    }
    pub fn images(&self) -> PathBuf {
        self.data.join("images")
    }
    pub fn objects(&self) -> PathBuf {
        self.data.join("objects")
    }
    /// Held while an object is changed.
    pub fn objects_lock(&self) -> PathBuf {
        self.data.join("objects.lock")
    }
    /// The key that Secrets are encrypted with, itself encrypted; not there unless they are.
    pub fn objects_key(&self) -> PathBuf {
        self.data.join("objects.key")
    }
    /// Is there as long as Secrets are to be encrypted: where the key is not there, it is lost.
    pub fn objects_encrypted(&self) -> PathBuf {
        self.data.join("objects.encrypted")
    }
    /// `kind` in the plural.
    pub fn objects_of(&self, kind: &str) -> PathBuf {
        self.objects().join(kind)
    }
    /// `namespace` is empty for a kind that is in none.
    pub fn objects_in(&self, kind: &str, namespace: &str) -> PathBuf {
        match namespace {
            "" => self.objects_of(kind),
            namespace => self.objects_of(kind).join(namespace),
        }
    }
    /// The file's name is the object's: both have at most 255 bytes.
    pub fn object(&self, kind: &str, namespace: &str, name: &str) -> PathBuf {
        self.objects_in(kind, namespace).join(name)
    }
    /// The directories of claims, and what says which Pod has one for itself.
    pub fn claims(&self) -> PathBuf {
        self.data.join("claims")
    }
    /// Held while a claim is mounted, attached, unmounted or detached.
    pub fn claims_lock(&self) -> PathBuf {
        self.data.join("claims.lock")
    }
    /// `uid`: the claim's.
    pub fn claim(&self, uid: &str) -> PathBuf {
        self.claims().join(uid)
    }
    /// The uid of the Pod that has it for itself (ReadWriteOncePod).
    pub fn claim_holder(&self, uid: &str) -> PathBuf {
        self.claims().join(format!("{uid}.holder"))
    }
    /// What the administrator says of images; not there unless somebody wrote it.
    pub fn images_settings(&self) -> PathBuf {
        match &self.root {
            Some(root) => root.join("etc/images.toml"),
            None => "/etc/carob/images.toml".into(),
        }
    }
    pub fn name_link(&self, namespace: &str, name: &str) -> PathBuf {
        self.names().join(namespace).join(name)
    }
    pub fn pod(&self, uid: &str) -> PodPaths {
        PodPaths {
            dir: self.pods().join(uid),
            data: self.data.join("pods").join(uid),
        }
    }
    pub fn pod_logs(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.logs.join(format!("{namespace}_{name}_{uid}"))
    }
}

/// One Pod's files.
///
/// ```text
/// <state>/pods/<uid>/
///   pod.json        what was asked for; written once, before anything is made
///   state.json      what the monitor has seen; rewritten at each change
///   state.json.spare   room for that when the filesystem is full
///   claims-taken    the Pod has the claims that it names, or is about to
///   selinux-level   the categories of the Pod's SELinux label, where the policy has them
///   monitor.lock    held by the monitor as long as it lives
///   monitor.sock    the monitor's control socket
///   monitor.err     the monitor's last words (panic, unexpected end)
///   monitor.log     its debug log, if there is one; a full one is monitor.log.1
///   ns/{net,uts,ipc}   pinned namespaces
///   shared/         a small filesystem: what containers write here fills no other
///     etc/{hosts,hostname,resolv.conf}
///     termination/<container>   the running attempt's message
///     shm/          the Pod's /dev/shm, with a size of its own
///   volumes/<name>/ volumes that live in memory
///   projected/      a filesystem in memory: the files of configMap, secret, downwardAPI
///     <name>/       and projected volumes
///   containers/<name>/<attempt>/{config.json,rootfs/,stdin,stdout,stderr}
/// <data>/pods/<uid>/
///   volumes/<name>/ volumes on disk
///   containers/<name>/<attempt>/{upper,work}/
/// ```
#[derive(Clone, Debug)]
pub struct PodPaths {
    pub dir: PathBuf,
    pub data: PathBuf,
}

impl PodPaths {
    /// One Pod's files below [`Layout::pods`], for [`super::Dir`].
    pub fn below_pods(uid: &str) -> PodPaths {
        PodPaths {
            dir: uid.into(),
            data: PathBuf::new(),
        }
    }

    pub fn selinux_level(&self) -> PathBuf {
        self.dir.join("selinux-level")
    }
    pub fn record(&self) -> PathBuf {
        self.dir.join("pod.json")
    }
    /// There while the Pod has its claims, or looks whether it may have them.
    pub fn claims_taken(&self) -> PathBuf {
        self.dir.join("claims-taken")
    }
    pub fn state(&self) -> PathBuf {
        self.dir.join("state.json")
    }
    pub fn monitor_lock(&self) -> PathBuf {
        self.dir.join("monitor.lock")
    }
    pub fn monitor_socket(&self) -> PathBuf {
        self.dir.join("monitor.sock")
    }
    pub fn monitor_errors(&self) -> PathBuf {
        self.dir.join("monitor.err")
    }
    pub fn monitor_log(&self) -> PathBuf {
        self.dir.join("monitor.log")
    }
    pub fn namespace(&self, kind: &str) -> PathBuf {
        self.dir.join("ns").join(kind)
    }
    pub fn shared(&self) -> PathBuf {
        self.dir.join("shared")
    }
    pub fn etc(&self) -> PathBuf {
        self.shared().join("etc")
    }
    pub fn termination_log(&self, container: &str) -> PathBuf {
        self.shared().join("termination").join(container)
    }
    pub fn shm(&self) -> PathBuf {
        self.shared().join("shm")
    }
    pub fn memory_volume(&self, name: &str) -> PathBuf {
        self.dir.join("volumes").join(name)
    }
    pub fn projected(&self) -> PathBuf {
        self.dir.join("projected")
    }
    pub fn projected_volume(&self, name: &str) -> PathBuf {
        self.projected().join(name)
    }
    pub fn disk_volume(&self, name: &str) -> PathBuf {
        self.data.join("volumes").join(name)
    }
    pub fn bundle(&self, container: &str, attempt: u32) -> PathBuf {
        self.dir
            .join("containers")
            .join(container)
            .join(attempt.to_string())
    }
    pub fn writable_layer(&self, container: &str, attempt: u32) -> PathBuf {
        self.data
            .join("containers")
            .join(container)
            .join(attempt.to_string())
    }
}

/// `mkdir -p` with mode 0700.
pub(crate) fn make_dir(dir: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("mkdir({})", dir.display()))
}

/// FNV-1a of a path or another text: not secret, only to tell some of them apart.
pub(crate) fn tag_of(text: &[u8]) -> String {
    let hash = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{:08x}", (hash ^ (hash >> 32)) as u32)
}

/// `base`, or `base-<tag>`. [`tag_in`] is the way back.
pub(crate) fn tagged(base: &str, tag: &str) -> String {
    match tag {
        "" => base.to_owned(),
        tag => format!("{base}-{tag}"),
    }
}

/// The tag in a name that is `system` or begins with `private`.
pub(crate) fn tag_in(name: &str, system: &str, private: &str) -> Option<String> {
    if name == system {
        return Some(String::new());
    }
    let tag = name.strip_prefix(private)?;
    let is_tag = tag.len() == 8 && tag.bytes().all(|b| b.is_ascii_hexdigit());
    is_tag.then(|| tag.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_from_names() {
        let tag = |name: &str| tag_in(name, "carob", "carob-");
        assert_eq!(tag("carob").as_deref(), Some(""));
        assert_eq!(tag("carob-0123abcd").as_deref(), Some("0123abcd"));
        for other in [
            "carob-",
            "carob-0123abc",
            "carob-0123abcx",
            "carobs",
            "podman",
        ] {
            assert_eq!(tag(other), None, "{other}");
        }
    }
}
