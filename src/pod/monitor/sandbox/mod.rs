//! What a Pod's containers share: namespaces, addresses, /etc files, /dev/shm,
//! volumes, the Pod's cgroup.
//!
//! The monitor moves into the Pod's namespaces and stays: containers inherit them
//! by being its children, and the host's network is reached through fds opened
//! before. Every name here follows from the Pod's UID, so that [`remove`] finds
//! whatever a crash has left, without having been told.
//!
//! [`setup`] tries to make it, [`mounting`] gives claims to a group and mounts nfs volumes,
//! [`etc`] writes the files of /etc ([`resolver`]: what it takes of the host's resolv.conf),
//! [`labels`] are those of AppArmor and SELinux, [`rules`] are
//! restored when nftables has lost them.

mod etc;
pub(super) mod labels;
pub(in crate::pod::monitor) mod mounting;
pub(in crate::pod::monitor) mod reaper;
pub(in crate::pod::monitor) mod resolver;
pub(super) mod rules;
mod setup;

use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;

use crate::linux::bare;
use crate::linux::cgroup::{Cgroup, Hierarchies, Select, page_sizes};
use crate::linux::mount::{self, ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, Mount};
use crate::linux::root::{open_dir, remove_tree};
use crate::linux::{caller, namespace};
use crate::network;
use crate::pod::bundle::{SHARED, pod_namespaces};
use crate::pod::claims;
use crate::pod::{client, limits, shutdown};
use crate::spec::Pod;
use crate::store::{Layout, PodPaths, make_dir, tagged};
use crate::{Context, Error, Ignored, Result, volume};

/// The way back to the host, for a process that lives in a Pod's namespaces.
#[derive(Debug)]
pub(in crate::pod::monitor) struct Host {
    /// The node's: the monitor's own UTS namespace is soon the Pod's.
    pub name: String,
    pub netns: OwnedFd,
    pub pid_namespace: OwnedFd,
    pub network: network::Host,
    pub hierarchies: Hierarchies,
    /// Those of the monitor, and so of its containers: [`caller::limits`].
    pub rlimits: Vec<(u32, u64, u64)>,
}

impl Host {
    /// Call in the host's own namespaces.
    pub(in crate::pod::monitor) fn open(layout: &Layout) -> Result<Self> {
        let name = nix::unistd::gethostname().map_err(|e| Error::sys("gethostname()", e))?;
        Ok(Host {
            name: name.to_string_lossy().into_owned(),
            netns: namespace::open_own("net")?,
            pid_namespace: namespace::open_own("pid")?,
            network: network::Host::open(layout)?,
            hierarchies: Hierarchies::detect()?,
            rlimits: caller::limits(),
        })
    }
}

/// What a sandbox came to.
#[derive(Debug, Default)]
pub(in crate::pod::monitor) struct Made {
    pub ips: Vec<IpAddr>,
    pub host_ip: Option<IpAddr>,
    pub warnings: Vec<String>,
    pub dns_warning: Option<String>,
    /// [`network::Attachment::procfs`]
    pub procfs: Option<Mount>,
}

/// The Pod's cgroup; a container's is one below it.
pub(crate) fn cgroup_path(layout: &Layout, uid: &str) -> String {
    format!("{}/pod{uid}", cgroup_of_root(layout.tag()))
}

/// Where the monitors of a root are: not in the Pods' cgroups, whose limits are
/// not theirs.
pub(in crate::pod::monitor) fn monitor_cgroup_path(layout: &Layout) -> String {
    monitor_cgroup_of_root(layout.tag())
}

/// Of the root with this tag: all of its cgroups are below it.
pub(crate) fn cgroup_of_root(tag: &str) -> String {
    tagged("carob", tag)
}

pub(crate) fn monitor_cgroup_of_root(tag: &str) -> String {
    format!("{}/monitor", cgroup_of_root(tag))
}

/// Makes the sandbox, volumes excepted, and moves the calling process into it. `label`: the
/// SELinux label of the files that its containers share.
pub(in crate::pod::monitor) fn make(
    layout: &Layout,
    pod: &Pod,
    host: &Host,
    label: Option<&str>,
) -> Result<Made> {
    let (spec, paths) = (&pod.spec, layout.pod(&pod.uid));
    let mut made = Made {
        host_ip: host_ip(),
        ..Made::default()
    };

    log::debug!("sandbox: cgroup");
    let cgroup = Cgroup::create(
        &host.hierarchies,
        &cgroup_path(layout, &pod.uid),
        Select::Pod,
    )?;
    cgroup
        .apply(&limits::plan_pod_resources(spec))
        .context("the Pod's cgroup")?;
    cgroup
        .apply(&limits::plan_no_hugepages(spec, &page_sizes()))
        .ignored("without the hugetlb controller, the pages are for whichever process asks first");

    log::debug!("sandbox: namespaces");
    {
        // The last Pod's monitor undoes it under this lock, and only if no Pod has a
        // record: this one has.
        let _names = client::lock_names(layout)?;
        mount::make_private(&layout.pods())
            .with_context(|| format!("make {} a private mount", layout.pods().display()))?;
        // It fails where the host's root is an initramfs, which cannot be left.
        bare::open_or_make(&layout.bare_mounts())
            .ignored("containers start without it, the slower the more mounts the host has");
    }
    namespace::leave(pod_namespaces(spec).fold(CloneFlags::empty(), |all, (kind, _)| all | kind))?;
    make_dir(&paths.dir.join("ns"))?;
    for (_, name) in pod_namespaces(spec) {
        namespace::pin_own(name, &paths.namespace(name))?;
    }
    let hostname = match &spec.fqdn {
        Some(fqdn) if spec.set_hostname_as_fqdn => fqdn,
        _ => &spec.hostname,
    };
    nix::unistd::sethostname(hostname)
        .map_err(|e| Error::sys(format!("sethostname({hostname:?})"), e))?;

    log::debug!("sandbox: network");
    if spec.host_network {
        made.ips.extend(made.host_ip);
    } else {
        network::setup_loopback().context("loopback")?;
        let netns = namespace::open_own("net")?;
        let ports: Vec<network::HostPort> = spec
            .all_containers()
            .flat_map(|c| &c.ports)
            .filter_map(|p| {
                Some(network::HostPort {
                    host_ip: p.host_ip,
                    host_port: p.host_port?,
                    container_port: p.container_port,
                    protocol: p.protocol,
                })
            })
            .collect();
        let name = format!("{}/{}", pod.namespace, pod.name);
        let endpoint = network::Endpoint {
            uid: &pod.uid,
            pod: &name,
            ports: &ports,
        };
        let attachment = host
            .network
            .attach(&endpoint, netns.as_fd())
            .context("network")?;
        log::debug!(
            "network: {}/{} by the link {}, whose other end has the address {} and an MTU of {}",
            attachment.address,
            attachment.prefix,
            attachment.host_link,
            attachment.mac,
            attachment.mtu
        );
        made.ips.push(IpAddr::V4(attachment.address));
        made.host_ip = made.host_ip.or(Some(IpAddr::V4(attachment.gateway)));
        made.warnings.extend(attachment.warning);
        made.procfs = Some(attachment.procfs);
    }
    for (name, value) in &spec.sysctls {
        let file = format!("/proc/sys/{}", name.replace('.', "/"));
        std::fs::write(&file, value)
            .with_context(|| format!("sysctl {name}: write({file}, {value:?})"))?;
    }
    log::debug!("sandbox: files of /etc, /dev/shm");
    let mut servers = String::new();
    if spec.dns.from_host {
        let of_host = resolver::of_host(!spec.host_network);
        servers = of_host.text;
        made.dns_warning = of_host.warning.filter(|_| spec.dns.nameservers.is_empty());
    }
    make_shared(&paths, &etc::texts(pod, &made.ips, &servers), label)?;
    Ok(made)
}

/// What containers get from the Pod's directory and may write to is on filesystems
/// of their own: none of them can fill the host's /run.
fn make_shared(paths: &PodPaths, texts: &[(&str, String)], label: Option<&str>) -> Result<()> {
    /// What containers can write in all: messages of their ends, mostly.
    const ROOM: usize = 1 << 20;
    // With the host's network, hosts(5) begins with the host's own, of any length.
    let size = ROOM + 2 * texts.iter().map(|(_, text)| text.len()).sum::<usize>();
    let tmpfs = |mode, size: &str, at: &Path| {
        make_dir(at)?;
        let mut options = vec![("mode", mode), ("size", size)];
        options.extend(label.map(|l| ("context", l)));
        Mount::new("tmpfs", &options, ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC)?
            .attach(open_dir(at)?.as_fd())
            .with_context(|| format!("mount at {}", at.display()))
    };
    tmpfs("700", &size.to_string(), &paths.shared())?;
    etc::write(paths, texts)?;
    tmpfs("1777", "65536k", &paths.shm())
}

/// Moves the calling process into a sandbox that an earlier monitor made.
pub(in crate::pod::monitor) fn enter(layout: &Layout, pod: &Pod) -> Result<()> {
    let paths = layout.pod(&pod.uid);
    for (kind, name) in pod_namespaces(&pod.spec) {
        namespace::enter(&paths.namespace(name), kind)?;
    }
    Ok(())
}

/// Removes the sandbox, or as much of one as there is. Goes on past failures and
/// returns them all, the first one first.
pub(in crate::pod::monitor) fn remove(layout: &Layout, pod: &Pod, host: &Host) -> Vec<Error> {
    log::debug!("remove what there is of the sandbox");
    let paths = layout.pod(&pod.uid);
    let mut errors = Vec::new();
    let mut attempt = |what: &str, result: Result<()>| {
        errors.extend(result.context(what).err());
    };
    match Cgroup::open(
        &host.hierarchies,
        &cgroup_path(layout, &pod.uid),
        Select::Pod,
    ) {
        Ok(Some(cgroup)) => {
            attempt("kill what is left in the cgroup", cgroup.kill());
            attempt("remove the cgroup", cgroup.remove());
        }
        Ok(None) => {}
        Err(e) => attempt("find the cgroup", Err(e)),
    }
    attempt("remove the volumes", volume::remove(&paths));
    // With /dev/shm, which is mounted below.
    attempt("unmount the files", mount::unmount(&paths.shared()));
    let names = SHARED.into_iter().map(|(_, name)| name);
    for name in names.chain(["pid"]) {
        attempt(
            "unpin a namespace",
            namespace::unpin(&paths.namespace(name)),
        );
    }
    attempt("release the network", host.network.release(&pod.uid));
    errors
}

/// What is left of a Pod once its sandbox is gone: its logs, its layers, its
/// name, its record. After this it does not exist; [`dead_dir`] does.
pub(in crate::pod::monitor) fn forget(layout: &Layout, pod: &Pod) -> Vec<Error> {
    let paths = layout.pod(&pod.uid);
    log::debug!("remove the Pod's logs, layers and record");
    let mut errors = Vec::new();
    errors.extend(remove_tree(&layout.pod_logs(&pod.namespace, &pod.name, &pod.uid)).err());
    errors.extend(remove_tree(&paths.data).err());
    let gone = || -> Result<()> {
        // Somebody has removed it, and with it whatever leads to the Pod.
        if !paths.dir.exists() {
            return Ok(());
        }
        let _names = client::lock_names(layout)?;
        client::release_name(layout, pod)?;
        let dead = dead_dir(layout, &pod.uid);
        std::fs::rename(&paths.dir, &dead)
            .with_context(|| format!("rename({})", paths.dir.display()))
    };
    errors.extend(gone().err());
    errors.extend(claims::release(layout, pod).err());
    errors
}

/// Where the Pod's directory is from [`forget`] on, until nothing at all is left:
/// as long as it is there, somebody knows that there is something to remove.
pub(in crate::pod::monitor) fn dead_dir(layout: &Layout, uid: &str) -> PathBuf {
    layout.pods().join(format!(".dead-{uid}"))
}

/// Whether a Pod has a record: then what Pods share is in use.
pub(in crate::pod::monitor) fn any_left(layout: &Layout) -> bool {
    std::fs::read_dir(layout.pods()).is_ok_and(|mut d| {
        d.any(|e| e.is_ok_and(|e| !e.file_name().as_encoded_bytes().starts_with(b".")))
    })
}

/// Removes what the Pods of a root share. The directories fall only if no other
/// monitor is in them.
pub(in crate::pod::monitor) fn remove_shared(
    layout: &Layout,
    network: &network::Host,
    hierarchies: &Hierarchies,
) {
    network
        .remove_bridge_if_unused()
        .ignored("gc removes what stays");
    if !any_left(layout) {
        network
            .remove_unrecorded(false)
            .ignored("gc removes what stays");
    }
    if let Ok(_names) = client::lock_names(layout)
        && !any_left(layout)
    {
        mount::unmount(&layout.pods()).ignored("the next Pod of this root uses it again");
        bare::remove(&layout.bare_mounts()).ignored("the next Pod of this root uses it again");
        shutdown::unregister(layout.tag()).ignored("gc removes what stays");
    }
    for path in [monitor_cgroup_path(layout), cgroup_of_root(layout.tag())] {
        if let Ok(Some(cgroup)) = Cgroup::open(hierarchies, &path, Select::Pod) {
            cgroup.remove_if_empty();
        }
    }
}

/// The address that the host would use towards others: no packet is sent.
fn host_ip() -> Option<IpAddr> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(("198.51.100.1", 9)).ok()?;
    socket
        .local_addr()
        .ok()
        .map(|a| a.ip())
        .filter(|ip| !ip.is_unspecified())
}
