//! The manifests that `apply`, `create` and `replace` take, and the flags that they share.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use crate::cli::face::{Face, warn};
use crate::cli::objects::made;
use crate::cli::show::age;
use crate::cli::show::dry_run::DryRun;
use crate::cli::show::object::What;
use crate::cli::show::output::Format;
use crate::manifest::{self, Parsed};
use crate::{Context, Result};

#[derive(Args, Debug)]
pub(crate) struct Files {
    /// A manifest, a directory of them, or - for stdin
    #[arg(short, long, required = true, value_name = "FILE")]
    pub filename: Vec<String>,
    /// Directories with those below them
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Return when the containers are started, or it is known why one is not
    #[arg(long, num_args = 0..=1, default_value = "true", default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub wait: bool,
    /// Give up waiting after this long; 0s never
    #[arg(long, default_value = "0s", allow_hyphen_values = true)]
    timeout: String,
    #[command(flatten)]
    pub dry_run: DryRun,
    /// json, yaml, name or jsonpath=TEMPLATE
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
    #[command(flatten)]
    accepted: Accepted,
}

/// For scripts of kubectl's.
#[derive(Args, Debug)]
pub(crate) struct Accepted {
    /// For scripts of kubectl's: everything is checked anyway
    #[arg(long, value_name = "true|strict|warn|ignore|false", num_args = 0..=1, default_missing_value = "strict", require_equals = true, value_parser = ["true", "strict", "warn", "ignore", "false"])]
    validate: Option<String>,
    /// For scripts of kubectl's: nothing tells the writers of fields apart
    #[arg(long, value_name = "NAME")]
    field_manager: Option<String>,
}

/// What the command line has asked for.
pub(crate) struct Asked {
    pub format: Format,
    pub until: Option<Instant>,
    pub parsed: Parsed,
}

impl Files {
    /// Reads the manifests, and says what is worth saying of them.
    pub(crate) fn read(&self, face: &Face) -> Result<Asked> {
        let format = Format::parse(self.output.as_deref())?;
        let timeout = age::parse_timeout(&self.timeout)?;
        let parsed = read(face, &self.filename, self.recursive)?;
        for note in &parsed.notes {
            if made::is_news(face, &parsed, note) {
                warn(&note.to_string());
            }
        }
        Ok(Asked {
            format,
            until: (!timeout.is_zero()).then(|| Instant::now() + timeout),
            parsed,
        })
    }
}

/// Reads manifests.
pub(crate) fn read(face: &Face, files: &[String], recursive: bool) -> Result<Parsed> {
    manifest::parse(&sources(files, recursive)?, face.only_namespace())
}

/// What manifests name: each with its namespace and name.
pub(crate) fn named(
    face: &Face,
    files: &[String],
    recursive: bool,
) -> Result<Vec<(What, String, String)>> {
    let parsed = read(face, files, recursive)?;
    let pods = parsed.pods.into_iter();
    let pods = pods.map(|p| (What::Pod, p.namespace, p.name));
    let objects = parsed.objects.into_iter();
    let objects = objects.map(|o| (What::Object(o.kind), o.namespace, o.name));
    Ok(pods.chain(objects).collect())
}

/// What `-f` and `-R` name.
pub(crate) fn sources(files: &[String], recursive: bool) -> Result<Vec<manifest::Source>> {
    let mut sources = vec![];
    for file in files {
        for path in expand(file, recursive)? {
            sources.extend(manifest::read(&path)?);
        }
    }
    Ok(sources)
}

/// [`manifest::read`] takes a directory by itself, but not those below it.
fn expand(file: &str, recursive: bool) -> Result<Vec<String>> {
    if !recursive || file == "-" || !Path::new(file).is_dir() {
        return Ok(vec![file.to_owned()]);
    }
    let mut files = vec![];
    let mut dirs = vec![PathBuf::from(file)];
    while let Some(dir) = dirs.pop() {
        let entries = std::fs::read_dir(&dir)
            .and_then(|d| d.collect::<std::io::Result<Vec<_>>>())
            .with_context(|| format!("readdir({})", dir.display()))?;
        for entry in entries {
            let path = entry.path();
            // A link to a directory may lead back up: its entry says "link".
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                dirs.push(path);
            } else if path
                .extension()
                .is_some_and(|e| ["yaml", "yml", "json"].iter().any(|w| e == *w))
            {
                files.push(path.to_string_lossy().into_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}
