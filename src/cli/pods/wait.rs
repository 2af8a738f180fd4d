//! `carob wait`: sleeps until Pods and other objects are as asked for.

use std::collections::BTreeMap;
use std::time::Instant;

use clap::Args;

use crate::cli::face::Face;
use crate::cli::show::jsonpath::{Template, plain};
use crate::cli::show::object::{self, Named, What};
use crate::cli::show::output::{self, Format};
use crate::cli::{Verb, show::age, show::rows};
use crate::manifest;
use crate::pod::client::View;
use crate::pod::trouble;
use crate::pod::verbs::Item;
use crate::pod::verbs::wait::{self, Waited, Waiter};
use crate::spec::ObjectKind;
use crate::{Error, Kind, Result};

#[derive(Args, Debug)]
pub(crate) struct Wait {
    /// `pod/NAME...`, `pods NAME...`, `pvc/NAME` or `cm --all`: of any kind
    #[arg(required = true, value_name = "KIND/NAME")]
    what: Vec<String>,
    /// condition=NAME[=false], delete, create or jsonpath=PATH[=VALUE]
    #[arg(long = "for", value_name = "STATE")]
    state: String,
    /// 0s looks once; negative means a week
    #[arg(long, default_value = "30s", allow_hyphen_values = true)]
    timeout: String,
    /// Those with these labels
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Every one of the namespace
    #[arg(long)]
    all: bool,
    /// name, json or yaml
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

/// What is waited for.
#[derive(Debug, PartialEq)]
enum Goal {
    Condition {
        name: String,
        status: String,
    },
    Delete,
    Create,
    Path {
        path: Template,
        value: Option<String>,
    },
}

impl Goal {
    fn parse(text: &str) -> Result<Self> {
        let lower = text.to_ascii_lowercase();
        if lower == "delete" {
            return Ok(Goal::Delete);
        }
        if lower == "create" {
            return Ok(Goal::Create);
        }
        if let Some(c) = text.strip_prefix("condition=") {
            let (name, status) = c.split_once('=').unwrap_or((c, "true"));
            if name.is_empty() {
                return Err(Error::usage("--for=condition= needs a condition's name"));
            }
            return Ok(Goal::Condition {
                name: name.into(),
                status: status.into(),
            });
        }
        if let Some(p) = text.strip_prefix("jsonpath=") {
            // The value follows the brace; a filter inside has = of its own.
            let (path, value) = match p.rfind('}') {
                Some(i) if p.starts_with('{') => (&p[..=i], p[i + 1..].strip_prefix('=')),
                _ => match p.split_once('=') {
                    Some((path, value)) => (path, Some(value)),
                    None => (p, None),
                },
            };
            if value == Some("") {
                return Err(Error::usage(
                    "--for=jsonpath=PATH= needs a value after the =",
                ));
            }
            return Ok(Goal::Path {
                path: Template::parse_relaxed(path)?,
                value: value.map(|v| v.trim_matches(['"', '\'']).to_owned()),
            });
        }
        Err(Error::usage(format!("unknown state {text:?} to wait for"))
            .hint("wait for condition=NAME[=false], delete, create or jsonpath=PATH[=VALUE]"))
    }

    /// Of one that exists.
    fn holds(&self, item: &Item) -> Result<bool> {
        let path = |path: &Template, value: Option<&str>| {
            let object = item.v1();
            let found = path.values(&object)?;
            Ok(match value {
                Some(v) => found.iter().any(|f| plain(f) == v),
                None => !found.is_empty(),
            })
        };
        match (self, item) {
            (Goal::Create, _) => Ok(true),
            (Goal::Delete, _) => Ok(false),
            (Goal::Condition { name, status }, Item::Pod(view)) => {
                Ok(view.status().conditions.iter().any(|c| {
                    c.kind.eq_ignore_ascii_case(name) && c.status.eq_ignore_ascii_case(status)
                }))
            }
            // None of the other kinds has any here.
            (Goal::Condition { .. }, Item::Object(_)) => Ok(false),
            (Goal::Path { path: p, value }, _) => path(p, value.as_deref()),
        }
    }
}

impl Verb for Wait {
    const NAME: &'static str = "wait";
    const ABOUT: &'static str = "Wait until Pods and other objects are as asked for";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob wait pod/web --for=condition=Ready --timeout=1m\n\
        \x20 carob wait pod/job --for=jsonpath={.status.phase}=Succeeded\n\
        \x20 carob wait pvc/db --for=jsonpath={.status.phase}=Bound\n\
        \x20 carob wait pod/web configmap/web --for=delete";

    fn run(self, face: &Face) -> Result<u8> {
        let goal = Goal::parse(&self.state)?;
        let format = Format::parse(self.output.as_deref())?;
        let until = Instant::now() + age::parse_timeout(&self.timeout)?;
        let resources = object::resources_of(Self::NAME, &self.what)?;
        let many = self.selector.is_some() || self.all;
        match resources.iter().all(|n| n.names.is_empty()) {
            true if !many => {
                return Err(
                    object::nothing_named(&resources).hint("name it, or give --all or -l LABELS")
                );
            }
            false if many => {
                return Err(Error::usage("names cannot go with --all or --selector"));
            }
            _ => {}
        }
        let mut found = false;
        for named in &resources {
            found |= self.wait_for(face, named, &goal, &format, until)?;
        }
        match found || goal == Goal::Delete {
            true => Ok(0),
            false => Err(Error::not_found("no matching resources found")),
        }
    }
}

impl Wait {
    /// Whether there was anything to wait for. Those of several kinds are waited for one
    /// kind after the other, all until the same time.
    fn wait_for(
        &self,
        face: &Face,
        named: &Named,
        goal: &Goal,
        format: &Format,
        until: Instant,
    ) -> Result<bool> {
        let namespace = named.what.namespace(&face.namespace);
        let kind = match named.what {
            What::Pod => None,
            What::Object(kind) => Some(kind),
        };
        let mut waiter = Waiter::new(&face.layout, kind, namespace)?;
        let mut names = named.names.clone();
        if names.is_empty() {
            let selector = self.selector.as_deref().map(manifest::parse_selector);
            let selector = selector.transpose()?;
            let fits = |item: &&Item| selector.as_ref().is_none_or(|s| s.matches(&labels(item)));
            let present = waiter.present().filter(fits);
            names = present.map(|item| item.name().to_owned()).collect();
        }
        let some = !names.is_empty();
        let holds = |item: &Item| goal.holds(item);
        let asked = match goal {
            Goal::Delete => wait::Goal::Deleted,
            Goal::Create => wait::Goal::Created,
            _ => wait::Goal::Holds(&holds),
        };
        let kind = named.what.singular();
        let mut met = |name: &str, item: Option<&Item>| match (format, item) {
            (Format::Table { .. }, _) => {
                output::text(&format!("{kind}/{name} condition met\n"), false)
            }
            (Format::Name, _) => output::text(&format!("{kind}/{name}\n"), false),
            (_, Some(item)) => format.print(vec![item.v1()], false),
            (_, None) => Ok(()),
        };
        let names = names.into_iter().collect();
        match waiter.wait(names, &asked, until, &mut met)? {
            Waited::Met => Ok(some),
            Waited::Late { name, item } => Err(late(face, named.what, &name, item.as_ref())),
        }
    }
}

fn labels(item: &Item) -> BTreeMap<String, String> {
    match item {
        Item::Pod(view) => view.pod.labels.clone(),
        Item::Object(object) => object.metadata("labels"),
    }
}

/// With what it is instead.
fn late(face: &Face, what: What, name: &str, item: Option<&Item>) -> Error {
    let plural = what.plural();
    let late = |rest: &str| {
        let text = format!("timed out waiting for the condition on {plural}/{name}{rest}");
        Error::new(Kind::Timeout, text)
    };
    match (item, what) {
        (Some(Item::Pod(view)), _) => late_pod(face, view, late),
        (None, What::Pod) => late(": there is no such Pod"),
        (None, What::Object(_)) => late(": it is not there"),
        (Some(Item::Object(object)), _) if object.deletion.is_some() => match object.kind {
            ObjectKind::PersistentVolumeClaim => late(": it is being deleted").hint(format!(
                "it goes with the last Pod that uses it: carob describe pvc {name} -n {}",
                object.namespace
            )),
            _ => late(": it is being deleted"),
        },
        (Some(Item::Object(_)), _) => late(""),
    }
}

fn late_pod(face: &Face, view: &View, late: impl Fn(&str) -> Error) -> Error {
    if let Some(t) = trouble::of(&face.layout, view) {
        return late(&format!(": {}", t.text())).hint(t.mend);
    }
    let deleting = view.state.as_ref().is_some_and(|s| s.deletion.is_some());
    let is = rows::summarize(&view.pod, &view.status(), deleting);
    late(&format!(": it is {}", is.status))
        .hint(format!("carob describe pod {}", view.pod.as_arguments()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals() {
        let path = |p: &str, v: Option<&str>| Goal::Path {
            path: Template::parse(p).unwrap(),
            value: v.map(Into::into),
        };
        let condition = |n: &str, s: &str| Goal::Condition {
            name: n.into(),
            status: s.into(),
        };
        let cases = [
            ("delete", Goal::Delete),
            ("create", Goal::Create),
            ("condition=Ready", condition("Ready", "true")),
            ("condition=Ready=false", condition("Ready", "false")),
            (
                "jsonpath={.status.phase}=Running",
                path("{.status.phase}", Some("Running")),
            ),
            ("jsonpath={.status.podIP}", path("{.status.podIP}", None)),
            ("jsonpath=.a=\"b\"", path("{.a}", Some("b"))),
            (
                "jsonpath={.a[?(@.b==\"c\")].d}=e=f",
                path("{.a[?(@.b==\"c\")].d}", Some("e=f")),
            ),
        ];
        for (text, want) in cases {
            assert_eq!(Goal::parse(text).unwrap(), want, "{text}");
        }
        for text in ["", "ready", "condition=", "jsonpath={.a}=", "jsonpath={.a"] {
            assert!(Goal::parse(text).is_err(), "{text}");
        }
    }
}
