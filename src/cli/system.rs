//! `carob system` and `image-prune`: what is on the disk, whether it is sound, and
//! what can go; the end of all Pods when the machine goes down.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::Verb;
use crate::cli::face::{Face, warn};
use crate::cli::show::output::{self, Format};
use crate::cli::show::size::bytes;
use crate::cli::show::table::Table;
use crate::image::{LayerForm, Store};
use crate::linux::credential::KEYS;
use crate::object;
use crate::pod::abandoned::{self, Abandoned};
use crate::pod::shutdown::{self, Terminated};
use crate::pod::verbs::disk::{self, Disk};
use crate::{Error, Result};

#[derive(Args, Debug)]
pub(super) struct ImagePrune {
    /// Those with a name too, where no Pod has them
    #[arg(short, long)]
    all: bool,
    /// For scripts of docker's: nothing is asked anyway
    #[arg(short, long)]
    force: bool,
    /// json
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

impl Verb for ImagePrune {
    const NAME: &'static str = "image-prune";
    const ABOUT: &'static str = "Remove images without a name that no Pod has";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob image-prune\n\
        \x20 carob image-prune -a";

    fn run(self, face: &Face) -> Result<u8> {
        prune(face, self.all, &Format::parse(self.output.as_deref())?)
    }
}

#[derive(Args, Debug)]
pub(super) struct System {
    /// df: what is on the disk; check: whether all of it is sound, and what roots that are
    /// no more have left in the kernel; prune: image-prune, and removes that;
    /// layers: what layers become that are still to come; secrets: how the values of Secrets
    /// are kept on the disk; shutdown: end the containers of every Pod, each with its own grace
    /// period, as systemd does before the machine stops
    #[arg(value_name = "df|check|prune|layers|secrets|shutdown", value_parser = ["df", "check", "prune", "layers", "secrets", "shutdown"])]
    what: String,
    /// layers: dir, directories; erofs, files that the kernel mounts (Linux 6.12). secrets:
    /// encrypted, by systemd-creds(1), or plain: those that there are, and those to come.
    /// Without it, print which it is
    #[arg(value_name = "dir|erofs|encrypted|plain", value_parser = ["dir", "erofs", "encrypted", "plain"])]
    form: Option<String>,
    /// secrets encrypted: by which of the machine's keys; auto is TPM2 and host, as far as they
    /// are there
    #[arg(long, value_name = "KEY", value_parser = KEYS)]
    with_key: Option<String>,
    /// prune: images with a name too, where no Pod has them
    #[arg(short, long)]
    all: bool,
    /// prune: for scripts of docker's; nothing is asked anyway
    #[arg(short, long)]
    force: bool,
    /// check: remove what is damaged, so that the next pull brings it
    #[arg(long)]
    repair: bool,
    /// json
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

impl Verb for System {
    const NAME: &'static str = "system";
    const ABOUT: &'static str = "Show, check or tidy what is on the disk; end all Pods";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob system df\n\
        \x20 carob system check --repair\n\
        \x20 carob system secrets encrypted\n\
        \x20 carob system prune -a";

    fn run(self, face: &Face) -> Result<u8> {
        let format = Format::parse(self.output.as_deref())?;
        if self.repair && self.what != "check" {
            return Err(Error::usage("--repair is for `system check`"));
        }
        if (self.all || self.force) && self.what != "prune" {
            return Err(Error::usage("-a and -f are for `system prune`"));
        }
        match (self.form.as_deref(), self.what.as_str()) {
            (None, _)
            | (Some("dir" | "erofs"), "layers")
            | (Some("encrypted" | "plain"), "secrets") => {}
            (Some("dir" | "erofs"), _) => {
                return Err(Error::usage("dir and erofs are for `system layers`"));
            }
            _ => return Err(Error::usage("encrypted and plain are for `system secrets`")),
        }
        if self.with_key.is_some() && self.form.as_deref() != Some("encrypted") {
            return Err(Error::usage("--with-key is for `system secrets encrypted`"));
        }
        match self.what.as_str() {
            "layers" => set_layers(face, self.form.as_deref(), &format),
            "secrets" => secrets(
                face,
                self.form.as_deref(),
                self.with_key.as_deref(),
                &format,
            ),
            "df" => df(face, &format),
            "check" => check(face, self.repair, &format),
            "shutdown" => shutdown(face, &format),
            _ => {
                let pruned = prune(face, self.all, &format)?;
                prune_roots(face, &format).map(|()| pruned)
            }
        }
    }
}

fn shutdown(face: &Face, format: &Format) -> Result<u8> {
    let ended = shutdown::terminate(&face.layout)?;
    let (mut text, mut done, mut errors) = (String::new(), Vec::new(), Vec::new());
    for Terminated { pod, result } in ended {
        match result {
            Ok(()) => {
                text.push_str(&format!("pod {pod:?} terminated\n"));
                done.push(pod);
            }
            Err(e) => errors.push(e.push_context(format!("pod {pod}"))),
        }
    }
    match format {
        Format::Table { .. } => output::text(&text, false)?,
        _ => format.print_value(&json!({"terminated": done}))?,
    }
    face.first_of(errors).map(|()| 0)
}

fn prune(face: &Face, all: bool, format: &Format) -> Result<u8> {
    let pruned = disk::prune(&face.layout, all)?;
    let removed = &pruned.removed;
    if !matches!(format, Format::Table { .. }) {
        format.print_value(&json!({
            "untagged": removed.untagged,
            "deleted": removed.deleted,
            "freed": pruned.freed,
        }))?;
        return Ok(0);
    }
    let mut text = String::new();
    for name in &removed.untagged {
        text.push_str(&format!("Untagged: {name}\n"));
    }
    for id in &removed.deleted {
        text.push_str(&format!("Deleted: {id}\n"));
    }
    text.push_str(&format!("Total reclaimed space: {}\n", bytes(pruned.freed)));
    output::text(&text, false)?;
    Ok(0)
}

/// What roots that are no more have left.
fn prune_roots(face: &Face, format: &Format) -> Result<()> {
    let mut errors = Vec::new();
    for a in abandoned::find(&face.layout)? {
        let (name, holds) = (a.name(), a.holds.join(", "));
        if let Some(why) = &a.kept {
            warn(&format!("root {name} is left alone ({holds}): {why}"));
            continue;
        }
        let failed = abandoned::remove(&a);
        if failed.is_empty() && matches!(format, Format::Table { .. }) {
            output::text(&format!("Removed: root {name}: {holds}\n"), false)?;
        }
        let named = |e: Error| e.push_context(format!("root {name}"));
        errors.extend(failed.into_iter().map(named));
    }
    face.first_of(errors)
}

fn set_layers(face: &Face, form: Option<&str>, format: &Format) -> Result<u8> {
    let store = Store::open(&face.layout)?;
    if let Some(form) = form {
        face.make_ready()?;
        store.set_layer_form(match form {
            "erofs" => LayerForm::Erofs,
            _ => LayerForm::Dir,
        })?;
    }
    let form = store.layer_form()?.name();
    match format {
        Format::Table { .. } => output::text(&format!("{form}\n"), false)?,
        _ => format.print_value(&json!({"layers": form}))?,
    }
    Ok(0)
}

fn secrets(face: &Face, form: Option<&str>, with_key: Option<&str>, format: &Format) -> Result<u8> {
    if form.is_some() {
        face.make_ready()?;
    }
    let now = match form {
        Some("encrypted") => object::encrypt_all(&face.layout, with_key)?,
        Some(_) => object::decrypt_all(&face.layout)?,
        None => object::encryption(&face.layout)?,
    };
    let word = match now.encrypts {
        true => "encrypted",
        false => "plain",
    };
    match format {
        Format::Table { .. } => output::text(&format!("{word}: {}\n", now.text()), false)?,
        _ => format.print_value(&json!({
            "secrets": word,
            "withKey": now.with_key,
            "encrypted": now.encrypted,
            "plain": now.plain,
            "damaged": now.damaged,
        }))?,
    }
    Ok(0)
}

fn df(face: &Face, format: &Format) -> Result<u8> {
    let Disk {
        images,
        containers,
        volumes,
        claims,
        used_claims,
        logs,
    } = disk::usage(&face.layout)?;
    let rows = [
        (
            "Images",
            "images",
            Some((images.images, images.used_images)),
            images.layers + images.blobs,
            images.unused,
        ),
        (
            "Unfinished pulls",
            "unfinished",
            None,
            images.unfinished,
            images.unfinished,
        ),
        (
            "Containers",
            "containers",
            Some((containers.number, containers.number)),
            containers.bytes,
            0,
        ),
        (
            "Volumes",
            "volumes",
            Some((volumes.number, volumes.number)),
            volumes.bytes,
            0,
        ),
        (
            "Claims",
            "claims",
            Some((claims.number, used_claims)),
            claims.bytes,
            0,
        ),
        ("Logs", "logs", None, logs, 0),
    ];
    if !matches!(format, Format::Table { .. }) {
        let mut object = json!({});
        for (_, key, number, size, unused) in rows {
            let mut row = json!({"size": size, "reclaimable": unused});
            if let Some((total, active)) = number {
                row["total"] = total.into();
                row["active"] = active.into();
            }
            object[key] = row;
        }
        object["images"]["layers"] = images.layers.into();
        object["images"]["blobs"] = images.blobs.into();
        format.print_value(&object)?;
        return Ok(0);
    }
    let mut table = Table::default();
    table.row(["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    for (name, _, number, size, unused) in rows {
        let (total, active) = match number {
            Some((total, active)) => (total.to_string(), active.to_string()),
            None => ("-".to_owned(), "-".to_owned()),
        };
        table.row([name, &total, &active, &bytes(size), &bytes(unused)]);
    }
    output::text(&table.take(), false)?;
    Ok(0)
}

fn check(face: &Face, repair: bool, format: &Format) -> Result<u8> {
    let (report, roots) = disk::check(&face.layout, repair)?;
    let left = report.faults.iter().filter(|f| !f.repaired).count();
    if matches!(format, Format::Table { .. }) {
        let mut text: String = report
            .faults
            .iter()
            .map(|f| {
                let repaired = if f.repaired { " (repaired)" } else { "" };
                format!("{}: {}{repaired}\n", f.at, f.problem)
            })
            .collect();
        for a in &roots {
            let (name, holds) = (a.name(), a.holds.join(", "));
            text.push_str(&format!("root {name}: its records are gone: {holds}\n"));
        }
        text.push_str(&format!(
            "{} images, {} layers, {} blobs ({}): {}\n",
            report.images,
            report.layers,
            report.blobs,
            bytes(report.bytes),
            count(report.faults.len()),
        ));
        output::text(&text, false)?;
    } else {
        let faults: Vec<Value> = report
            .faults
            .iter()
            .map(|f| json!({"at": f.at, "problem": f.problem, "repaired": f.repaired}))
            .collect();
        format.print_value(&json!({
            "images": report.images,
            "layers": report.layers,
            "blobs": report.blobs,
            "bytes": report.bytes,
            "faults": faults,
            "abandoned": roots.iter().map(abandoned_json).collect::<Vec<_>>(),
        }))?;
    }
    if left == 0 {
        // Of other roots it is told, but this one is sound.
        return match roots.iter().find(|a| a.tag == face.layout.tag()) {
            None => Ok(0),
            Some(a) => Err(Error::failed(format!(
                "the records of this root are gone, and these are left: {}",
                a.holds.join(", ")
            ))
            .hint("carob system prune ends and removes what roots that are no more have left")),
        };
    }
    let error = Error::failed(format!("the image store has {}", count(left)));
    Err(match repair {
        true => error.hint("what a Pod uses is left until it is deleted, and files that are nobody's are yours to remove"),
        false => error.hint("carob system check --repair removes what is damaged; the next pull brings it"),
    })
}

fn abandoned_json(a: &Abandoned) -> Value {
    json!({
        "tag": a.tag,
        "root": a.layout.as_ref().map(|_| a.name()),
        "holds": a.holds,
        "kept": a.kept,
    })
}

fn count(faults: usize) -> String {
    match faults {
        0 => "no fault".to_owned(),
        1 => "1 fault".to_owned(),
        n => format!("{n} faults"),
    }
}
