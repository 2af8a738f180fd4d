//! `carob edit`.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::cli::Verb;
use crate::cli::face::{Face, say};
use crate::cli::objects::get::{self, Item};
use crate::cli::objects::made;
use crate::cli::show::output::{self, Format};
use crate::cli::show::{object, yaml};
use crate::manifest::{self, Source};
use crate::object::update;
use crate::pod::client::View;
use crate::pod::verbs::change::{change, comparable};
use crate::spec::{Object, ObjectKind, Pod};
use crate::store::make_dir;
use crate::{Context, Error, Ignored, Result};

#[derive(Args, Debug)]
pub(crate) struct Edit {
    /// `pod NAME`, `cm NAME` or `secret/NAME`
    #[arg(required = true, value_name = "KIND NAME")]
    words: Vec<String>,
    /// json, yaml, name or jsonpath=TEMPLATE
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

impl Verb for Edit {
    const NAME: &'static str = "edit";
    const ABOUT: &'static str = "Change what is there in an editor: $KUBE_EDITOR, $EDITOR or vi";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob edit pod web\n\
        \x20 carob edit pod/web -n front";

    fn run(self, face: &Face) -> Result<u8> {
        let format = Format::parse(self.output.as_deref())?;
        let resources = object::named_ones(Self::NAME, &self.words)?;
        for (what, name) in object::each(&resources) {
            edit(
                face,
                &format,
                get::whole(face, get::one(face, what, name)?)?,
            )?;
        }
        Ok(0)
    }
}

const HEAD: &str = "# Please edit the object below. Lines beginning with a '#' will be ignored,\n\
    # and an empty file will abort the edit. If an error occurs while saving this file will be\n\
    # reopened with the relevant failures.\n#\n";

/// The file that is edited, in a directory that nobody else can read.
struct Copy {
    dir: PathBuf,
    file: PathBuf,
}

impl Copy {
    fn new(parent: &Path, name: &str) -> Result<Self> {
        for n in 0..100u32 {
            let dir = format!("carob-edit-{}-{n}", std::process::id());
            let dir = parent.join(dir);
            match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
                Ok(()) => {
                    let file = dir.join(format!("{name}.yaml"));
                    return Ok(Copy { dir, file });
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => {
                    return Err(e).with_context(|| format!("mkdir({}, 0700)", dir.display()));
                }
            }
        }
        Err(Error::failed("no name is free for a directory of an edit"))
    }

    fn write(&self, text: &str) -> Result<()> {
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.file)
            .and_then(|mut f| f.write_all(text.as_bytes()))
            .with_context(|| format!("write({})", self.file.display()))
    }

    fn read(&self) -> Result<String> {
        std::fs::read_to_string(&self.file)
            .with_context(|| format!("read({})", self.file.display()))
    }

    fn remove(&self) {
        std::fs::remove_dir_all(&self.dir)
            .ignored("what stays is in a directory that a boot clears");
    }

    fn kept(&self, e: Error) -> Error {
        e.hint(format!(
            "a copy of your changes is in {}",
            self.file.display()
        ))
    }
}

/// A directory that is on no disk, as long as the machine has one.
fn in_memory(face: &Face) -> Result<PathBuf> {
    use nix::sys::statfs::{TMPFS_MAGIC, statfs};
    let state = &face.layout.state;
    make_dir(state)?;
    let places = [state.as_path(), Path::new("/run"), Path::new("/dev/shm")];
    let in_memory =
        |at: &&Path| statfs(*at).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC);
    Ok(places
        .into_iter()
        .find(in_memory)
        .unwrap_or(state)
        .to_owned())
}

fn edit(face: &Face, format: &Format, item: Item) -> Result<()> {
    let original = yaml::emit(&match &item {
        Item::Pod(view) => comparable(&view.pod),
        Item::Object(object) => {
            let mut value = object.v1();
            value.sort_all_objects();
            value
        }
    });
    let place = match &item {
        Item::Object(o) if o.kind == ObjectKind::Secret => in_memory(face)?,
        _ => std::env::temp_dir(),
    };
    let copy = Copy::new(&place, item.name())?;
    let (mut body, mut failures) = (original.clone(), String::new());
    loop {
        copy.write(&format!("{HEAD}{failures}{body}"))?;
        if let Err(e) = open_editor(&copy.file) {
            return Err(copy.kept(e));
        }
        let edited = copy.read()?;
        let text: String = edited
            .lines()
            .filter(|l| !l.starts_with('#'))
            .map(|l| format!("{l}\n"))
            .collect();
        if text.trim().is_empty() {
            copy.remove();
            say("Edit cancelled, saved file was empty.");
            return Ok(());
        }
        if text == original {
            copy.remove();
            say("Edit cancelled, no changes made.");
            return Ok(());
        }
        // Again the same after an error: there is no way on.
        let gives_up = !failures.is_empty() && text == body;
        match save(face, format, &item, &original, &text) {
            Ok(()) => {
                copy.remove();
                return Ok(());
            }
            Err(e) if gives_up => return Err(copy.kept(e)),
            Err(e) => {
                let all = e.to_string();
                let lines = all.lines().map(|l| format!("# * {l}\n"));
                let lines: String = lines.collect();
                let (kind, name) = (item.plural(), item.name());
                failures = format!("# {kind} {name:?} was not valid:\n{lines}#\n");
                body = text;
            }
        }
    }
}

fn save(face: &Face, format: &Format, item: &Item, original: &str, text: &str) -> Result<()> {
    let source = |text: &str| Source {
        name: "the edited file".into(),
        bytes: text.as_bytes().to_vec(),
    };
    let (before, after) = (source(original), source(text));
    // Its faults have lines.
    let namespace = Some(item.namespace()).filter(|n| !n.is_empty());
    let parsed = manifest::parse(std::slice::from_ref(&after), namespace)?;
    let (value, changed) = match (item, parsed.pods.len(), parsed.objects.len()) {
        (Item::Pod(view), 1, 0) => {
            let make = |live: &Pod| manifest::edited(live, &before, &after);
            let changed = change(&face.layout, view, &make, false)?;
            let pod = changed.pod;
            let view = View {
                pod,
                ..(**view).clone()
            };
            (object::v1(&view), changed.changed)
        }
        (Item::Object(o), 0, 1) => {
            let act = |live: &Object| manifest::edited_object(live, &before, &after);
            let (new, changed) = update(&face.layout, o.kind, &o.namespace, &o.name, false, act)?;
            (made::expanded(face, new, false).v1(), changed)
        }
        _ => {
            let text = format!("the edited file has to hold one {}", item.kind());
            return Err(Error::invalid(text));
        }
    };
    match format {
        Format::Table { .. } if changed => {
            let kind = item.kind().to_lowercase();
            output::text(&format!("{kind}/{} edited\n", item.name()), false)
        }
        Format::Table { .. } => {
            say("Edit cancelled, no changes made.");
            Ok(())
        }
        _ => format.print(vec![value], false),
    }
}

/// What KUBE_EDITOR or EDITOR says is a command line for the shell, as with kubectl.
fn open_editor(file: &Path) -> Result<()> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    let editor = set("KUBE_EDITOR").or_else(|| set("EDITOR"));
    let editor = editor.unwrap_or_else(|| "vi".into());
    let shown = editor.to_string_lossy().into_owned();
    let mut script = editor;
    script.push(" \"$1\"");
    let status = Command::new("/bin/sh")
        .arg("-c")
        .arg(script)
        .arg("sh")
        .arg(file)
        .status()
        .with_context(|| format!("start the editor {shown:?}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(Error::failed(format!(
            "the editor {shown:?} failed: {status}"
        ))),
    }
}
