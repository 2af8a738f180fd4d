//! `carob wait`: sleeps until Pods are as asked for.

use std::time::Instant;

use clap::Args;

use crate::cli::face::Face;
use crate::cli::show::jsonpath::{Template, plain};
use crate::cli::show::output::{self, Format};
use crate::cli::{Verb, show::age, show::object, show::rows};
use crate::manifest;
use crate::pod::client::View;
use crate::pod::trouble;
use crate::pod::verbs::wait::{self, Waited, Waiter};
use crate::{Error, Kind, Result};

#[derive(Args, Debug)]
pub(crate) struct Wait {
    /// `pod/NAME...` or `pods NAME...`
    #[arg(required = true, value_name = "pod/NAME")]
    what: Vec<String>,
    /// condition=NAME[=false], delete, create or jsonpath=PATH[=VALUE]
    #[arg(long = "for", value_name = "STATE")]
    state: String,
    /// 0s looks once; negative means a week
    #[arg(long, default_value = "30s", allow_hyphen_values = true)]
    timeout: String,
    /// Pods with these labels
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Every Pod of the namespace
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

    /// Of a Pod that exists.
    fn holds(&self, view: &View) -> Result<bool> {
        Ok(match self {
            Goal::Create => true,
            Goal::Delete => false,
            Goal::Condition { name, status } => view.status().conditions.iter().any(|c| {
                c.kind.eq_ignore_ascii_case(name) && c.status.eq_ignore_ascii_case(status)
            }),
            Goal::Path { path, value } => {
                let object = object::v1(view);
                let found = path.values(&object)?;
                match value {
                    Some(v) => found.iter().any(|f| plain(f) == *v),
                    None => !found.is_empty(),
                }
            }
        })
    }
}

impl Verb for Wait {
    const NAME: &'static str = "wait";
    const ABOUT: &'static str = "Wait until Pods are ready, gone or otherwise as asked for";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob wait pod/web --for=condition=Ready --timeout=1m\n\
        \x20 carob wait pod/job --for=jsonpath={.status.phase}=Succeeded\n\
        \x20 carob wait pod/web --for=delete";

    fn run(self, face: &Face) -> Result<u8> {
        let goal = Goal::parse(&self.state)?;
        let format = Format::parse(self.output.as_deref())?;
        let until = Instant::now() + age::parse_timeout(&self.timeout)?;
        let mut names = object::names_of(Self::NAME, &self.what)?;
        if names.is_empty() && self.selector.is_none() && !self.all {
            return Err(
                Error::usage("no Pod is named").hint("name Pods, or give --all or -l LABELS")
            );
        }
        let mut waiter = Waiter::new(&face.layout, &face.namespace)?;
        if names.is_empty() {
            let selector = self
                .selector
                .as_deref()
                .map(manifest::parse_selector)
                .transpose()?;
            names = waiter
                .present()
                .filter(|v| selector.as_ref().is_none_or(|s| s.matches(&v.pod.labels)))
                .map(|v| v.pod.name.clone())
                .collect();
            if names.is_empty() && goal != Goal::Delete {
                return Err(Error::not_found("no matching resources found"));
            }
        }
        let holds = |view: &View| goal.holds(view);
        let asked = match goal {
            Goal::Delete => wait::Goal::Deleted,
            Goal::Create => wait::Goal::Created,
            _ => wait::Goal::Holds(&holds),
        };
        let mut met = |name: &str, view: Option<&View>| match (&format, view) {
            (Format::Table { .. }, _) => {
                output::text(&format!("pod/{name} condition met\n"), false)
            }
            (Format::Name, _) => output::text(&format!("pod/{name}\n"), false),
            (_, Some(v)) => format.print(vec![object::v1(v)], false),
            (_, None) => Ok(()),
        };
        let names = names.into_iter().collect();
        match waiter.wait(names, &asked, until, &mut met)? {
            Waited::Met => Ok(0),
            Waited::Late { name, view } => Err(late(face, &name, view.as_deref())),
        }
    }
}

/// With what the Pod is instead.
fn late(face: &Face, name: &str, view: Option<&View>) -> Error {
    let late = |rest: &str| {
        let text = format!("timed out waiting for the condition on pods/{name}{rest}");
        Error::new(Kind::Timeout, text)
    };
    let Some(view) = view else {
        return late(": there is no such Pod");
    };
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
