//! Volumes and the places where containers mount them.

use std::collections::HashSet;
use std::path::PathBuf;

use k8s_openapi::api::core::v1 as core;

use super::around::Known;
use super::objects::claim;
use super::quantity::Quantity;
use super::report::Report;
use super::resources::quantity;
use super::tree::Path;
use super::{names, projected};
use crate::nearest::nearest;
use crate::spec::{
    HostPathKind, HugeMedium, Mount, MountOption, Propagation, PullPolicy, Spec, Volume,
    VolumeSource,
};

/// Volumes of kinds that carob does not have are left out: the table of fields
/// has refused them. `pod`: the Pod's name; `containers`: those of its containers.
pub(super) fn lower(
    r: &mut Report<'_>,
    path: &Path,
    volumes: &[core::Volume],
    pod: &str,
    containers: &HashSet<&str>,
) -> Vec<Volume> {
    let mut seen = HashSet::new();
    let mut out = Vec::new();
    for (i, v) in volumes.iter().enumerate() {
        let path = path.index(i);
        let name = path.key("name");
        if v.name.is_empty() {
            r.required(&name, "");
        } else if !seen.insert(v.name.as_str()) {
            r.duplicate(&name, &v.name);
        } else {
            r.check(&name, &v.name, names::dns_label(&v.name));
        }
        if kinds(v) > 1 {
            r.forbidden(&path, "may not specify more than 1 volume type");
        }
        if let Some(source) = source(r, &path, v, pod, containers) {
            out.push(Volume {
                name: v.name.clone(),
                source,
            });
        }
    }
    out
}

/// How many types of volume it is said to be.
pub(super) fn kinds(v: &core::Volume) -> usize {
    let set = serde_json::to_value(v).unwrap_or_default();
    set.as_object()
        .map_or(0, |fields| fields.keys().filter(|k| *k != "name").count())
}

fn source(
    r: &mut Report<'_>,
    path: &Path,
    v: &core::Volume,
    pod: &str,
    containers: &HashSet<&str>,
) -> Option<VolumeSource> {
    if let Some(dir) = &v.empty_dir {
        return Some(empty_dir(r, &path.key("emptyDir"), dir));
    }
    if let Some(host) = &v.host_path {
        return Some(host_path(r, &path.key("hostPath"), host));
    }
    if let Some(nfs) = &v.nfs {
        return Some(self::nfs(r, &path.key("nfs"), nfs));
    }
    if let Some(image) = &v.image {
        return Some(self::image(r, &path.key("image"), image));
    }
    if let Some(claim) = &v.persistent_volume_claim {
        let name = &claim.claim_name;
        let path = path.keys("persistentVolumeClaim.claimName");
        match name.is_empty() {
            true => r.required(&path, ""),
            false => r.check(&path, name, names::dns_subdomain(name)),
        }
        return Some(VolumeSource::Claim {
            name: name.clone(),
            read_only: claim.read_only.unwrap_or(false),
            template: None,
        });
    }
    if let Some(volume) = &v.ephemeral {
        return ephemeral(
            r,
            &path.keys("ephemeral.volumeClaimTemplate"),
            pod,
            &v.name,
            volume,
        );
    }
    projected::lower(r, path, v, containers)
}

/// A claim that comes and goes with the Pod.
fn ephemeral(
    r: &mut Report<'_>,
    path: &Path,
    pod: &str,
    name: &str,
    volume: &core::EphemeralVolumeSource,
) -> Option<VolumeSource> {
    let Some(template) = &volume.volume_claim_template else {
        r.required(path, "");
        return None;
    };
    claim::check(r, &path.key("spec"), &template.spec);
    let claim = format!("{pod}-{name}");
    if let Err(why) = names::dns_subdomain(&claim) {
        r.invalid(path, &claim, format!("the name of the claim: {why}"));
    }
    Some(VolumeSource::Claim {
        name: claim,
        read_only: false,
        template: Some(serde_json::to_value(template).unwrap_or_default()),
    })
}

fn empty_dir(r: &mut Report<'_>, path: &Path, dir: &core::EmptyDirVolumeSource) -> VolumeSource {
    let huge = HugeMedium::ALL.map(|(word, medium)| (word, (true, Some(medium))));
    let mut media = vec![("", (false, None)), ("Memory", (true, None))];
    media.extend(huge);
    let medium = Some(dir.medium.as_deref().unwrap_or_default());
    let medium = r.choice(&path.key("medium"), medium, &media);
    let (memory, huge) = medium.unwrap_or_default();
    let size = dir.size_limit.as_ref();
    let size = size.and_then(|q| quantity(r, &path.key("sizeLimit"), q));
    if let Some(mode) = dir.mode.filter(|m| !(0..=0o1777).contains(m)) {
        let why = "must be a value between 0000 and 01777 octal, inclusive";
        r.invalid_number(&path.key("mode"), i64::from(mode), why);
    }
    VolumeSource::EmptyDir {
        mode: dir.mode.and_then(|m| u32::try_from(m).ok()),
        memory,
        huge,
        size_limit: size.map(Quantity::units).filter(|bytes| *bytes > 0),
    }
}

/// A cluster takes such a Pod, and never starts it.
pub(super) fn warn_of_huge_pages(r: &mut Report<'_>, pod: &core::PodSpec, spec: &Spec) {
    for (i, v) in pod.volumes.iter().flatten().enumerate() {
        let Some(VolumeSource::EmptyDir {
            huge: Some(medium), ..
        }) = spec.volume(&v.name).map(|v| &v.source)
        else {
            continue;
        };
        if let Err(why) = spec.page_size(*medium) {
            let path = Path::default().keys("spec.volumes").index(i);
            let path = path.keys("emptyDir.medium");
            r.warn(&path, format!("the volume cannot be mounted: {why}"));
        }
    }
}

fn host_path(r: &mut Report<'_>, path: &Path, host: &core::HostPathVolumeSource) -> VolumeSource {
    let place = path.key("path");
    if host.path.is_empty() {
        r.required(&place, "");
    } else {
        r.check(&place, &host.path, names::absolute_path(&host.path));
        r.check(&place, &host.path, names::no_backsteps(&host.path));
    }
    let kinds = [
        ("", HostPathKind::Unset),
        ("DirectoryOrCreate", HostPathKind::DirectoryOrCreate),
        ("Directory", HostPathKind::Directory),
        ("FileOrCreate", HostPathKind::FileOrCreate),
        ("File", HostPathKind::File),
        ("Socket", HostPathKind::Socket),
        ("CharDevice", HostPathKind::CharDevice),
        ("BlockDevice", HostPathKind::BlockDevice),
    ];
    VolumeSource::HostPath {
        path: PathBuf::from(&host.path),
        kind: r
            .choice(&path.key("type"), host.type_.as_deref(), &kinds)
            .unwrap_or_default(),
    }
}

fn nfs(r: &mut Report<'_>, path: &Path, nfs: &core::NFSVolumeSource) -> VolumeSource {
    if nfs.server.is_empty() {
        r.required(&path.key("server"), "");
    }
    let place = path.key("path");
    if nfs.path.is_empty() {
        r.required(&place, "");
    } else {
        r.check(&place, &nfs.path, names::absolute_path(&nfs.path));
    }
    VolumeSource::Nfs {
        server: nfs.server.clone(),
        path: nfs.path.clone(),
        read_only: nfs.read_only.unwrap_or(false),
    }
}

fn image(r: &mut Report<'_>, path: &Path, image: &core::ImageVolumeSource) -> VolumeSource {
    let reference = image.reference.clone().unwrap_or_default();
    if reference.is_empty() {
        r.required(&path.key("reference"), "");
    }
    let policy = image.pull_policy.as_deref();
    VolumeSource::Image {
        reference,
        policy: r
            .choice(&path.key("pullPolicy"), policy, &PullPolicy::ALL)
            .unwrap_or_default(),
    }
}

/// A container's mounts, in their order.
pub(super) fn mounts(
    r: &mut Report<'_>,
    path: &Path,
    mounts: &[core::VolumeMount],
    known: &Known<'_>,
    privileged: bool,
) -> Vec<Mount> {
    let mut places = HashSet::new();
    let mut out = Vec::new();
    for (i, m) in mounts.iter().enumerate() {
        let path = path.index(i);
        let name = path.key("name");
        if m.name.is_empty() {
            r.required(&name, "");
        } else if !known.all.contains(m.name.as_str()) {
            let near = nearest(&m.name, known.all.iter().copied());
            let near = near.map_or(String::new(), |n| format!(": did you mean {n:?}?"));
            let message = format!("Not found: {}{near}", super::tree::quote(&m.name));
            r.problem(&name, message);
        }
        let place = path.key("mountPath");
        let target = names::from_root(&m.mount_path);
        if m.mount_path.is_empty() {
            r.required(&place, "");
        } else if !places.insert(PathBuf::from(&target)) {
            r.invalid(&place, &m.mount_path, "must be unique");
        } else if names::is_root(&target) {
            let why = "must not be the root: the volume would hide the image";
            r.invalid(&place, &m.mount_path, why);
        } else if m.mount_path.contains(':') {
            r.invalid(&place, &m.mount_path, "must not contain ':'");
        } else {
            r.check(&place, &m.mount_path, names::absolute_path(&target));
        }
        let sub_path = sub_path(r, &path.key("subPath"), m.sub_path.as_deref());
        let sub_path_expr = self::sub_path(r, &path.key("subPathExpr"), m.sub_path_expr.as_deref());
        if sub_path.is_some() && sub_path_expr.is_some() {
            let text = sub_path_expr.as_deref().unwrap_or_default();
            r.invalid(
                &path.key("subPathExpr"),
                text,
                "subPathExpr and subPath are mutually exclusive",
            );
        }
        let propagations = [
            ("None", Propagation::None),
            ("HostToContainer", Propagation::HostToContainer),
            ("Bidirectional", Propagation::Bidirectional),
        ];
        let propagation_path = path.key("mountPropagation");
        let propagation = r
            .choice(
                &propagation_path,
                m.mount_propagation.as_deref(),
                &propagations,
            )
            .unwrap_or_default();
        if propagation == Propagation::Bidirectional && !privileged {
            r.forbidden(
                &propagation_path,
                "Bidirectional mount propagation is available only to privileged containers",
            );
        }
        out.push(Mount {
            volume: m.name.clone(),
            path: target,
            read_only: m.read_only.unwrap_or(false),
            recursive_read_only: recursive(r, &path, m),
            sub_path,
            sub_path_expr,
            propagation,
            options: bind_options(r, &path.key("bindMountOptions"), m, known),
        });
    }
    out
}

fn bind_options(
    r: &mut Report<'_>,
    path: &Path,
    m: &core::VolumeMount,
    known: &Known<'_>,
) -> Vec<MountOption> {
    let mut options = Vec::new();
    let given = m.bind_mount_options.as_ref().is_some_and(|o| !o.is_empty());
    if given && known.images.contains(m.name.as_str()) {
        r.forbidden(path, "may not be specified for an image volume");
        return options;
    }
    for (i, text) in m.bind_mount_options.iter().flatten().enumerate() {
        let path = path.index(i);
        match r.choice(&path, Some(text), &MountOption::ALL) {
            Some(option) if options.contains(&option) => r.duplicate(&path, text),
            option => options.extend(option),
        }
    }
    options
}

fn sub_path(r: &mut Report<'_>, path: &Path, text: Option<&str>) -> Option<String> {
    let text = text.filter(|t| !t.is_empty())?;
    r.check(path, text, names::relative_path(text));
    Some(text.to_owned())
}

fn recursive(r: &mut Report<'_>, path: &Path, m: &core::VolumeMount) -> bool {
    // mount_setattr(2) with AT_RECURSIVE is there on every kernel that carob
    // runs on, so what is possible is done.
    let choices = [("Disabled", false), ("IfPossible", true), ("Enabled", true)];
    let field = path.key("recursiveReadOnly");
    let wanted = r
        .choice(&field, m.recursive_read_only.as_deref(), &choices)
        .unwrap_or(false);
    if wanted && m.read_only != Some(true) {
        r.forbidden(&field, "may only be specified when readOnly is true");
    }
    let propagation = m.mount_propagation.as_deref().unwrap_or("None");
    if wanted && propagation != "None" {
        r.forbidden(
            &field,
            "may only be specified when mountPropagation is None or not specified",
        );
    }
    wanted
}
