//! `carob diff`.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use serde_json::Value;

use crate::cli::Verb;
use crate::cli::face::Face;
use crate::cli::objects::{describe, made};
use crate::cli::pods::files::read;
use crate::cli::show::{output, unified, yaml};
use crate::manifest;
use crate::object;
use crate::pod::client;
use crate::pod::verbs::change::comparable;
use crate::spec::{Object, ObjectKind, Pod};
use crate::{Context, Error, Ignored, Kind, Result};

#[derive(Args, Debug)]
pub(crate) struct Diff {
    /// A manifest, a directory of them, or - for stdin
    #[arg(short, long, required = true, value_name = "FILE")]
    filename: Vec<String>,
    /// Directories with those below them
    #[arg(short = 'R', long)]
    recursive: bool,
}

/// An object's name as kubectl's files have it, what it is, and what it would be.
struct Pair {
    name: String,
    live: String,
    merged: String,
}

impl Verb for Diff {
    const NAME: &'static str = "diff";
    const ABOUT: &'static str = "Show what apply would change: exit code 1 if anything";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob diff -f web.yaml\n\
        \x20 carob diff -f manifests -R";

    /// 1 is no error of ours here.
    fn passes_through(&self) -> bool {
        true
    }

    fn run(self, face: &Face) -> Result<u8> {
        let parsed = read(face, &self.filename, self.recursive)?;
        let objects = parsed.objects.iter().map(|o| {
            let uid = parsed.given_uids.get(&o.uid).map(String::as_str);
            object_pair(face, o, uid)
        });
        let pairs = objects.chain(parsed.pods.iter().map(|pod| pair(face, pod)));
        let pairs = pairs.collect::<Result<Vec<Pair>>>()?;
        if pairs.iter().all(|p| p.live == p.merged) {
            return Ok(0);
        }
        if let Some(program) = std::env::var_os("KUBECTL_EXTERNAL_DIFF").filter(|p| !p.is_empty()) {
            return with_program(&program.to_string_lossy(), &pairs);
        }
        for p in &pairs {
            let (from, to) = (format!("LIVE/{}", p.name), format!("MERGED/{}", p.name));
            output::text(&unified::diff(&from, &to, &p.live, &p.merged), false)?;
        }
        Ok(1)
    }
}

fn pair(face: &Face, given: &Pod) -> Result<Pair> {
    let name = format!("v1.Pod.{}.{}", given.namespace, given.name);
    match client::find(&face.layout, &given.namespace, &given.name) {
        Ok(view) => Ok(Pair {
            name,
            live: yaml::emit(&comparable(&view.pod)),
            merged: yaml::emit(&comparable(&Pod {
                manifest: {
                    let mut merged = manifest::merged(&view.pod, given)?.manifest;
                    for field in ["uid", "creationTimestamp"] {
                        merged["metadata"][field] = view.pod.manifest["metadata"][field].clone();
                    }
                    merged
                },
                ..view.pod
            })),
        }),
        Err(e) if e.kind() == Kind::NotFound => Ok(Pair {
            name,
            live: String::new(),
            merged: yaml::emit(&comparable(given)),
        }),
        Err(e) => Err(e),
    }
}

fn object_pair(face: &Face, given: &Object, uid: Option<&str>) -> Result<Pair> {
    let (kind, namespace) = (given.kind, &given.namespace);
    let name = format!("v1.{}.{namespace}.{}", kind.kind(), given.name);
    let live = object::find(&face.layout, kind, namespace, &given.name)?;
    let merged = match &live {
        Some(live) => Object {
            uid: live.uid.clone(),
            created: live.created,
            resource_version: live.resource_version,
            ..manifest::merged_object(live, given, uid)?
        }
        .v1(),
        None => made::unkept(given),
    };
    let mut pair = [live.map_or(Value::Null, |o| o.v1()), merged];
    if kind == ObjectKind::Secret {
        mask(&mut pair);
    }
    let [live, merged] = pair.map(|mut value| match value.is_null() {
        true => String::new(),
        false => {
            value.sort_all_objects();
            yaml::emit(&value)
        }
    });
    Ok(Pair { name, live, merged })
}

/// What a Secret holds is told by whether it changes, as kubectl does.
fn mask(pair: &mut [Value; 2]) {
    let [from, to] = &pair.each_ref().map(|v| v["data"].clone());
    let keys = |data: &Value| -> Vec<String> {
        let map = data.as_object().into_iter().flatten();
        map.map(|(key, _)| key.clone()).collect()
    };
    for (i, own) in [from, to].into_iter().enumerate() {
        let changes = ["*** (before)", "*** (after)"][i];
        for key in keys(own) {
            let both = !from[&key].is_null() && !to[&key].is_null();
            let shown = match both && from[&key] != to[&key] {
                true => changes,
                false => "***",
            };
            pair[i]["data"][&key] = shown.into();
        }
        // Of one that is not there, nothing is shown: indexing would make it an object.
        let annotations = pair[i].pointer_mut("/metadata/annotations");
        let annotations = annotations.and_then(Value::as_object_mut);
        if let Some(text) = annotations.and_then(|a| a.get_mut(describe::LAST_APPLIED)) {
            *text = "***".into();
        }
    }
}

/// kubectl's contract: a program and its arguments, then two directories. Its exit code is
/// taken: 1 means that there are differences.
fn with_program(line: &str, pairs: &[Pair]) -> Result<u8> {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default();
    let base = std::env::temp_dir().join(format!("carob-diff-{}", std::process::id()));
    let run = || -> Result<u8> {
        let (live, merged) = (base.join("LIVE"), base.join("MERGED"));
        for dir in [&base, &live, &merged] {
            private_dir(dir)?;
        }
        for p in pairs {
            write(live.join(&p.name), &p.live)?;
            write(merged.join(&p.name), &p.merged)?;
        }
        let status = Command::new(program)
            .args(words.clone())
            .args([&live, &merged])
            .status()
            .with_context(|| format!("start {program:?} of KUBECTL_EXTERNAL_DIFF"))?;
        match status.code() {
            Some(code @ 0..=1) => Ok(code as u8),
            _ => Err(Error::failed(format!("{program:?} failed: {status}"))),
        }
    };
    let done = run();
    std::fs::remove_dir_all(&base).ignored("what stays is below the temporary directory");
    done
}

fn private_dir(dir: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("mkdir({}, 0700)", dir.display()))
}

fn write(path: PathBuf, text: &str) -> Result<()> {
    std::fs::write(&path, text).with_context(|| format!("write({})", path.display()))
}
