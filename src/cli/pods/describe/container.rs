//! The containers of a Pod, as `kubectl describe` shows them.

use serde_json::Value;

use super::{Page, Said, time};
use crate::pod::status::{ContainerStatus, StateOf, Terminated};
use crate::spec::{Container, EnvValue, Hook, ObjectKind, Port, ProbeKind, Propagation, Protocol};

pub(super) fn container(
    p: &mut Page,
    c: &Container,
    s: &ContainerStatus,
    given: &Value,
    said: Said,
) {
    p.line(1, &format!("{}:", c.name));
    p.pair(
        2,
        "Container ID",
        s.container_id.clone().unwrap_or_default(),
    );
    p.pair(2, "Image", &c.image);
    p.pair(2, "Image ID", &s.image_id);
    let plural = if c.ports.len() > 1 { "s" } else { "" };
    p.pair(2, &format!("Port{plural}"), ports(c, false));
    p.pair(2, &format!("Host Port{plural}"), ports(c, true));
    for (title, words) in [("Command", &c.command), ("Args", &c.args)] {
        if !words.is_empty() {
            p.line(2, &format!("{title}:"));
            for w in words {
                w.lines().for_each(|l| p.line(3, l));
            }
        }
    }
    state(p, "State", &s.state, &|| said(&c.name, false));
    if s.last_state.terminated.is_some() {
        state(p, "Last State", &s.last_state, &|| said(&c.name, true));
    }
    let truth = |b: bool| if b { "True" } else { "False" };
    p.pair(2, "Ready", truth(s.ready));
    p.pair(2, "Restart Count", s.restart_count.to_string());
    for (title, key) in [("Limits", "limits"), ("Requests", "requests")] {
        if let Some(map) = given["resources"][key]
            .as_object()
            .filter(|m| !m.is_empty())
        {
            p.line(2, &format!("{title}:"));
            for (k, v) in map {
                p.pair(3, k, crate::cli::show::jsonpath::plain(v));
            }
            p.flush();
        }
    }
    for (title, kind) in [
        ("Liveness", ProbeKind::Liveness),
        ("Readiness", ProbeKind::Readiness),
        ("Startup", ProbeKind::Startup),
    ] {
        if let Some(probe) = c.probe(kind) {
            p.pair(2, title, probe.to_string());
        }
    }
    for (title, hook) in [("PostStart", &c.post_start), ("PreStop", &c.pre_stop)] {
        match hook {
            Some(Hook::Check(check)) => p.pair(2, title, check.to_string()),
            Some(Hook::Sleep(n)) => p.pair(2, title, format!("sleep {n}s")),
            None => {}
        }
    }
    environment(p, c);
    mounts(p, c);
}

/// The container's ports, or with `host` those of the host that lead to them.
fn ports(c: &Container, host: bool) -> String {
    let port = |port: &Port| {
        let protocol = match port.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        };
        let number = match host {
            true => port.host_port.unwrap_or(0),
            false => port.container_port,
        };
        match &port.name {
            Some(n) if !host => format!("{number}/{protocol} ({n})"),
            _ => format!("{number}/{protocol}"),
        }
    };
    let all: Vec<String> = c.ports.iter().map(port).collect();
    match all.is_empty() {
        true => "<none>".to_owned(),
        false => all.join(", "),
    }
}

fn environment(p: &mut Page, c: &Container) {
    if !c.env_from.is_empty() {
        p.line(2, "Environment Variables from:");
        for from in &c.env_from {
            let prefix = match from.prefix.as_str() {
                "" => String::new(),
                prefix => format!(" with prefix '{prefix}'"),
            };
            let object = &from.object;
            let (kind, optional) = (object.kind.kind(), object.optional);
            let value = format!("{kind}{prefix}  Optional: {optional}");
            p.pair(3, &object.name, value);
        }
        p.flush();
    }
    if c.env.is_empty() {
        p.pair(2, "Environment", "<none>");
        p.flush();
        return;
    }
    p.line(2, "Environment:");
    for e in &c.env {
        let value = match &e.value {
            EnvValue::Text(t) => t.clone(),
            EnvValue::Field(f) => format!(" (v1:{f})"),
            EnvValue::Resource {
                container,
                resource,
                ..
            } => format!(" ({container}: {resource})"),
            EnvValue::Key { object, key } => format!(
                "<set to the key '{key}' {} '{}'>  Optional: {}",
                match object.kind {
                    ObjectKind::Secret => "in secret",
                    _ => "of config map",
                },
                object.name,
                object.optional
            ),
            EnvValue::File {
                volume,
                path,
                key,
                optional,
            } => format!("<set to the key '{key}' of {path} in {volume}>  Optional: {optional}"),
        };
        p.pair(3, &e.name, value.replace('\n', "\\n"));
    }
    p.flush();
}

fn mounts(p: &mut Page, c: &Container) {
    if c.mounts.is_empty() {
        p.line(2, "Mounts:  <none>");
        return;
    }
    p.line(2, "Mounts:");
    for m in &c.mounts {
        let mut how = vec![if m.read_only { "ro" } else { "rw" }.to_owned()];
        if let Some(path) = m.sub_path.as_ref().or(m.sub_path_expr.as_ref()) {
            how.push(format!("path={path:?}"));
        }
        match m.propagation {
            Propagation::None => {}
            other => how.push(format!("propagation={other:?}")),
        }
        p.line(
            3,
            &format!("{} from {} ({})", m.path, m.volume, how.join(",")),
        );
    }
}

fn state(p: &mut Page, title: &str, s: &StateOf, said: &dyn Fn() -> Option<String>) {
    if let Some(w) = &s.waiting {
        p.pair(2, title, "Waiting");
        p.pair(3, "Reason", w.reason);
        if !w.message.is_empty() {
            p.pair(3, "Message", w.message.replace('\n', "\\n"));
        }
    } else if let Some(r) = &s.running {
        p.pair(2, title, "Running");
        p.pair(3, "Started", time(&r.started_at));
    } else if let Some(t) = &s.terminated {
        p.pair(2, title, "Terminated");
        ended(p, t);
        // A failure that only the program knows the cause of: kubectl sends people to
        // the log for it.
        let silent = t.exit_code != 0 && t.message.is_empty();
        if let Some(line) = silent.then(said).flatten() {
            p.pair(3, "Last Line", line);
        }
    }
}

fn ended(p: &mut Page, t: &Terminated) {
    p.pair(3, "Reason", t.reason);
    if !t.message.is_empty() {
        p.pair(3, "Message", t.message.trim_end().replace('\n', "\\n"));
    }
    p.pair(3, "Exit Code", t.exit_code.to_string());
    if let Some(n) = t.signal {
        p.pair(3, "Signal", n.to_string());
    }
    if let Some(s) = &t.started_at {
        p.pair(3, "Started", time(s));
    }
    p.pair(3, "Finished", time(&t.finished_at));
}
