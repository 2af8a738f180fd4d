//! `carob run`: a Pod of one container from the command line.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::face::{Face, say, warn, warn_of};
use crate::cli::pods::exec::{code_of, need_terminal};
use crate::cli::show::dry_run::DryRun;
use crate::cli::show::output::{self, Format};
use crate::cli::show::waiting::Waiting;
use crate::cli::terminal::raw::{Signals, Wake};
use crate::cli::terminal::stream::End;
use crate::cli::{Verb, pods::apply, pods::attach, show::object};
use crate::manifest::{self, Parsed};
use crate::pod::client;
use crate::pod::verbs::delete::{self, Grace};
use crate::spec::Pod;
use crate::{Error, Kind, Result};

#[derive(Args, Debug)]
pub(crate) struct Run {
    /// The Pod's and its container's name
    #[arg(value_name = "NAME")]
    name: String,
    /// The image to run
    #[arg(long, value_name = "IMAGE", required = true)]
    image: String,
    /// An environment variable; may be given again
    #[arg(short, long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// A port that the container listens on; may be given again
    #[arg(long, value_name = "PORT")]
    port: Vec<u16>,
    /// Labels of the Pod [default: run=NAME]
    #[arg(short, long, value_name = "A=B,C=D")]
    labels: Option<String>,
    /// Annotations of the Pod; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    annotations: Vec<String>,
    /// What to do when the container ends
    #[arg(long, default_value = "Always", value_parser = ["Always", "OnFailure", "Never"])]
    restart: String,
    /// What follows -- replaces the image's entrypoint, not its arguments
    #[arg(long)]
    command: bool,
    /// Keep stdin open, and attach to it
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    tty: bool,
    /// Delete the Pod afterwards; only when attached
    #[arg(long)]
    rm: bool,
    /// Always, IfNotPresent or Never
    #[arg(long, value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    image_pull_policy: Option<String>,
    /// Stay until the container ends, and print what it writes; implied by -i
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    attach: Option<bool>,
    /// Give the container every right of root
    #[arg(long)]
    privileged: bool,
    /// Say nothing but what the container says
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    dry_run: DryRun,
    /// json, yaml, name or jsonpath=TEMPLATE
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
    /// Arguments for the image's entrypoint
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

impl Verb for Run {
    const NAME: &'static str = "run";
    const ABOUT: &'static str = "Run one container as a Pod";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob run web --image localhost/carob/busybox:1 -- httpd -f -p 8080\n\
        \x20 carob run sh -it --rm --restart=Never --image localhost/carob/busybox:1 -- sh";

    fn needs_root(&self) -> bool {
        !self.dry_run.is_client()
    }

    fn passes_through(&self) -> bool {
        self.attached()
    }

    fn makes_root(&self) -> bool {
        true
    }

    fn run(self, face: &Face) -> Result<u8> {
        let format = Format::parse(self.output.as_deref())?;
        if self.rm && !self.attached() {
            return Err(
                Error::usage("--rm should only be used for attached containers")
                    .hint("add --attach or -i"),
            );
        }
        let value = self.manifest(&face.namespace)?;
        let parsed = manifest::pod_from_value(&value, "", Some(&face.namespace))?;
        for note in &parsed.notes {
            warn(&note.to_string());
        }
        let Some(pod) = parsed.pods.into_iter().next() else {
            return Err(Error::failed("the command line made no Pod"));
        };
        if self.dry_run.is_any() {
            if self.dry_run.is_server() {
                client::check_create(&face.layout, &pod)?;
            }
            let parsed = Parsed {
                pods: vec![pod],
                ..Parsed::default()
            };
            return apply::would_be(
                &format,
                parsed,
                &self.dry_run,
                &|_| "created",
                &|_| "created",
            );
        }
        if self.attached() {
            need_terminal(self.tty, self.stdin)?;
        }
        face.make_ready()?;
        for warning in client::create(&face.layout, &pod)? {
            warn_of(&warning);
        }
        if self.attached() {
            return self.stay(face, &pod);
        }
        if let Format::Table { .. } = format {
            output::text(&format!("pod/{} created\n", pod.name), false)?;
        }
        let uid = pod.uid.clone();
        let pods = [(pod.clone(), uid)];
        let started = apply::await_started(
            face,
            &pods,
            None,
            None,
            &mut Waiting::new(self.quiet, &format),
        );
        if !matches!(format, Format::Table { .. }) {
            let view = client::find(&face.layout, &pod.namespace, &pod.name)?;
            format.print(vec![object::v1(&view)], false)?;
        } else if started.is_ok() {
            apply::warn_of_trouble(face, &pods);
        }
        started.map(|()| 0)
    }
}

impl Run {
    fn attached(&self) -> bool {
        self.attach.unwrap_or(self.stdin)
    }

    fn manifest(&self, namespace: &str) -> Result<Value> {
        let mut container = json!({"name": self.name, "image": self.image});
        if !self.args.is_empty() {
            container[if self.command { "command" } else { "args" }] = json!(self.args);
        }
        let mut env = vec![];
        for e in &self.env {
            let (name, value) = pair("--env", e)?;
            env.push(json!({"name": name, "value": value}));
        }
        if !env.is_empty() {
            container["env"] = env.into();
        }
        if !self.port.is_empty() {
            let ports: Vec<Value> = self
                .port
                .iter()
                .map(|p| json!({"containerPort": p}))
                .collect();
            container["ports"] = ports.into();
        }
        if let Some(p) = &self.image_pull_policy {
            container["imagePullPolicy"] = p.as_str().into();
        }
        if self.stdin {
            container["stdin"] = true.into();
            // The first one who leaves ends it, or nobody ever would.
            container["stdinOnce"] = self.attached().into();
        }
        if self.tty {
            container["tty"] = true.into();
        }
        if self.privileged {
            container["securityContext"] = json!({"privileged": true});
        }
        let mut labels = serde_json::Map::new();
        match &self.labels {
            None => drop(labels.insert("run".into(), self.name.as_str().into())),
            Some(text) => {
                for l in text.split(',').filter(|l| !l.is_empty()) {
                    let (key, value) = pair("--labels", l)?;
                    labels.insert(key.into(), value.into());
                }
            }
        }
        let mut annotations = serde_json::Map::new();
        for a in &self.annotations {
            let (key, value) = pair("--annotations", a)?;
            annotations.insert(key.into(), value.into());
        }
        let mut metadata = json!({"name": self.name, "namespace": namespace, "labels": labels});
        if !annotations.is_empty() {
            metadata["annotations"] = annotations.into();
        }
        Ok(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {"containers": [container], "restartPolicy": self.restart},
        }))
    }

    /// Until the container ends; with `--rm` the Pod goes with it, whichever way
    /// this ends.
    fn stay(&self, face: &Face, pod: &Pod) -> Result<u8> {
        // From here on signals are read, not suffered: the monitor was started
        // before.
        let signals = Signals::new()?;
        let end = self.attend(face, pod, &signals);
        // Another Ctrl-C ends the waiting for the deletion, which goes on without us.
        drop(signals);
        if self.rm {
            // What was run has ended. By restartPolicy it may have begun anew, a shell
            // that ignores TERM say: nobody wants to wait for that one.
            let over = matches!(end, Ok(End::Exited(_)));
            let gone = client::find(&face.layout, &pod.namespace, &pod.name).and_then(|view| {
                let grace = Grace {
                    seconds: over.then_some(1),
                    force: false,
                };
                delete::delete(&face.layout, &view, grace, None)
            });
            match gone {
                Ok(()) if !self.quiet => say(&format!(
                    "pod {:?} deleted from {} namespace",
                    pod.name, pod.namespace
                )),
                Ok(()) => {}
                Err(e) if e.kind() == Kind::NotFound => {}
                Err(e) => {
                    // The container's own end is what counts.
                    crate::cli::face::report(&e, face.json);
                }
            }
        }
        code_of(end?)
    }

    fn attend(&self, face: &Face, pod: &Pod, signals: &Signals) -> Result<End> {
        let pods = [(pod.clone(), pod.uid.clone())];
        let connection = match self.stdin {
            true => Some(attach::ask(face, pod, pod.name.clone(), true)?),
            false => None,
        };
        let mut waiting = Waiting::new(self.quiet, &Format::Table { wide: false });
        let started = loop {
            let started = apply::await_started(face, &pods, None, Some(signals), &mut waiting);
            match signals.take() {
                Some(Wake::End(n)) => return Ok(End::Interrupted(n)),
                // Only the window has changed: ask again.
                Some(Wake::Resized) if started.is_ok() => {}
                _ => break started,
            }
        };
        started?;
        let flags = (self.stdin, self.quiet);
        attach::to_the_end(face, pod, &pod.name, connection, flags, signals)
    }
}

fn pair<'t>(flag: &str, text: &'t str) -> Result<(&'t str, &'t str)> {
    text.split_once('=')
        .filter(|(k, _)| !k.is_empty())
        .ok_or_else(|| Error::new(Kind::Usage, format!("{flag} {text:?}: expected KEY=VALUE")))
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    fn parse(line: &str) -> Run {
        let c = Run::augment_args(Command::new("run"));
        Run::from_arg_matches(&c.get_matches_from(line.split(' '))).unwrap()
    }

    #[test]
    fn the_manifest_is_kubectls() {
        let r =
            parse("run web --image busybox --env A=1 --env B= --port 80 --restart=Never -- x -y");
        assert_eq!(
            r.manifest("ns").unwrap(),
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "web", "namespace": "ns", "labels": {"run": "web"}},
                "spec": {"restartPolicy": "Never", "containers": [{
                    "name": "web", "image": "busybox", "args": ["x", "-y"],
                    "env": [{"name": "A", "value": "1"}, {"name": "B", "value": ""}],
                    "ports": [{"containerPort": 80}]}]}
            })
        );
        let r = parse("run web --image b -it --rm --command --labels=a=b,c=d -- sh");
        assert!(r.attached() && r.rm);
        let m = r.manifest("default").unwrap();
        let c = &m["spec"]["containers"][0];
        assert_eq!(c["command"], json!(["sh"]));
        assert_eq!(
            (&c["stdin"], &c["stdinOnce"], &c["tty"]),
            (&json!(true), &json!(true), &json!(true))
        );
        assert_eq!(m["metadata"]["labels"], json!({"a": "b", "c": "d"}));
        assert!(!parse("run web --image b").attached());
        assert!(parse("run web --image b --env =x").manifest("d").is_err());
    }
}
