//! What the host's security modules give a Pod: its containers' AppArmor profiles and
//! SELinux labels.
//!
//! The level of a Pod's SELinux label is the record `selinux-level`, written once. Everything
//! else is asked of the kernel at each start, since the administrator may load other profiles
//! and another policy.

use std::fs::FileType;
use std::os::unix::fs::FileTypeExt;

use crate::linux::apparmor;
use crate::linux::selinux::{self, Context};
use crate::pod::client;
use crate::pod::lsm::{self, Labels};
use crate::pod::monitor::Monitor;
use crate::pod::monitor::kubelet::message_of;
use crate::pod::reason::Reason;
use crate::spec::{Container, Pod, SeLinuxOptions, VolumeSource};
use crate::store::{self, Layout};
use crate::{Error, Kind, Result};

/// The Pod's labels; `None` where SELinux is off, or its policy has no domain for containers.
pub(in crate::pod::monitor) fn of_pod(layout: &Layout, pod: &Pod) -> Result<Option<Labels>> {
    if !selinux::is_enabled() {
        return Ok(None);
    }
    let Some((mut process, mut files)) = selinux::container_contexts() else {
        return Ok(None);
    };
    if selinux::has_levels() {
        let level = Some(take_level(layout, &pod.uid)?);
        process.level.clone_from(&level);
        files.level = level;
    }
    Ok(Some(
        Labels { process, files }.with(pod.spec.se_linux.as_ref()),
    ))
}

/// The record, or a new level that no Pod of this root has.
fn take_level(layout: &Layout, uid: &str) -> Result<String> {
    let record = |uid: &str| layout.pod(uid).selinux_level();
    match store::load(&record(uid)) {
        Err(e) if e.kind() == Kind::NotFound => {}
        other => return other,
    }
    let _names = client::lock_names(layout)?;
    let pods = std::fs::read_dir(layout.pods()).into_iter().flatten();
    let taken: Vec<String> = pods
        .flatten()
        .filter_map(|e| store::load(&record(&e.file_name().to_string_lossy())).ok())
        .collect();
    let level = lsm::level(uid, &taken);
    store::save(&record(uid), &level)?;
    Ok(level)
}

/// The process label with which the policy lets this process start a container.
fn startable(wanted: Context, options: Option<&SeLinuxOptions>) -> Result<Context> {
    let invalid = |why: String| Err(Error::invalid(why));
    let own = selinux::own()?;
    let allowed = |to: &Context| -> Result<bool> {
        Ok(selinux::is_valid(to)
            && selinux::allows(&own.to_string(), &to.to_string(), "process", "transition")?)
    };
    if allowed(&wanted)? {
        return Ok(wanted);
    }
    // A policy may forbid to change the user or the role: then the caller's own are taken.
    let kept = Context {
        user: options
            .and_then(|o| o.user.clone())
            .unwrap_or_else(|| own.user.clone()),
        role: options
            .and_then(|o| o.role.clone())
            .unwrap_or_else(|| own.role.clone()),
        ..wanted.clone()
    };
    if allowed(&kept)? {
        return Ok(kept);
    }
    if !selinux::is_valid(&wanted) {
        return invalid(format!(
            "SELinux: the loaded policy has no context {wanted}"
        ));
    }
    match selinux::is_enforcing() {
        true => invalid(format!(
            "SELinux: the loaded policy does not let {own} start {wanted}"
        )),
        false => Ok(wanted),
    }
}

impl Monitor {
    /// Why this host may not run the Pod.
    pub(in crate::pod::monitor) fn refusal(&self) -> Option<String> {
        lsm::app_armor_refusal(&self.pod().spec, apparmor::is_enabled())
    }

    /// The name of the container's AppArmor profile, which is loaded then.
    pub(in crate::pod::monitor) fn app_armor(&mut self, c: &Container) -> Result<Option<String>> {
        match lsm::app_armor(&c.security, apparmor::is_enabled()) {
            lsm::Profile::None => Ok(None),
            lsm::Profile::Named(name) => match apparmor::is_loaded(name)? {
                true => Ok(Some(name.to_owned())),
                false => Err(Error::not_found(format!(
                    "the AppArmor profile {name:?} is not loaded on this host"
                ))
                .hint("load it with apparmor_parser(8); the container is tried again")),
            },
            lsm::Profile::Default { asked } => match apparmor::load_default() {
                Ok(()) => Ok(Some(apparmor::DEFAULT.to_owned())),
                Err(e) if asked => Err(e.with_kind(Kind::NotFound)),
                Err(e) => {
                    let why = message_of(&self.with_root(e));
                    let text = format!(
                        "container {} runs without an AppArmor profile: {why}",
                        c.name
                    );
                    self.event(true, Reason::AppArmor, text);
                    Ok(None)
                }
            },
        }
    }

    /// The container's SELinux labels: of its process, unless it is privileged, and of its
    /// files.
    pub(in crate::pod::monitor) fn se_linux(
        &mut self,
        c: &Container,
    ) -> Result<Option<(Option<String>, String)>> {
        let options = c.security.se_linux.as_ref();
        let Some(labels) = of_pod(&self.layout, self.pod())? else {
            let why = match selinux::is_enabled() {
                true if options.is_some() => {
                    return Err(Error::invalid(
                        "seLinuxOptions: the loaded SELinux policy has no domain for containers",
                    )
                    .hint("install a policy with container_t, or leave seLinuxOptions out"));
                }
                true => {
                    "the loaded policy has no domain for containers: they run in the monitor's domain"
                }
                false if options.is_some() => "it is not enabled, so seLinuxOptions have no effect",
                false => return Ok(None),
            };
            self.event(true, Reason::SELinux, format!("SELinux: {why}"));
            return Ok(None);
        };
        let labels = labels.with(options);
        let files = labels.files.to_string();
        if c.security.privileged {
            return Ok(Some((None, files)));
        }
        let process = startable(labels.process, options)?.to_string();
        if !selinux::is_valid(&labels.files) {
            return Err(Error::invalid(format!(
                "SELinux: the loaded policy has no context {files}"
            )));
        }
        if selinux::is_enforcing() {
            self.check_host_paths(c, &process)?;
        }
        Ok(Some((Some(process), files)))
    }

    /// A hostPath keeps its label. One that the container may not read is refused: the
    /// program would only see EACCES.
    fn check_host_paths(&self, c: &Container, process: &str) -> Result<()> {
        for m in &c.mounts {
            let volume = self.pod().spec.volume(&m.volume);
            let Some(VolumeSource::HostPath { path, .. }) = volume.map(|v| &v.source) else {
                continue;
            };
            // The mount itself reports a path that does not exist.
            let (Ok(meta), Ok(label)) = (std::fs::metadata(path), selinux::label_of(path)) else {
                continue;
            };
            let (class, permission) = access_of(meta.file_type());
            if !selinux::allows(process, &label, class, permission)? {
                let shown = path.display();
                return Err(Error::invalid(format!(
                    "volume {}: hostPath {shown}: SELinux does not let {process} {permission} a \
                     {class} labelled {label}",
                    m.volume
                ))
                .hint(format!(
                    "label it for containers: chcon -R -t container_file_t -l s0 {shown} (and \
                     semanage fcontext, so that it stays); or give the container \
                     seLinuxOptions.type: spc_t"
                )));
            }
        }
        Ok(())
    }
}

/// The object class, and the permission that a container needs first.
fn access_of(kind: FileType) -> (&'static str, &'static str) {
    match kind {
        k if k.is_dir() => ("dir", "read"),
        k if k.is_socket() => ("sock_file", "write"),
        k if k.is_char_device() => ("chr_file", "read"),
        k if k.is_block_device() => ("blk_file", "read"),
        k if k.is_fifo() => ("fifo_file", "read"),
        _ => ("file", "read"),
    }
}
