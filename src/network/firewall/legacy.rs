//! iptables-legacy(8): the rule set of x_tables, which has an interface of its own
//! and no notifications. Its program is called, as docker and ufw do where they use
//! it; where there is none, the user is told.
//!
//! Everything here is called in the host's network namespace.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::{Context, Error, Result};

/// The tables in use, of the caller's network namespace; the file is there once the
/// kernel has x_tables.
const TABLES: &str = "/proc/thread-self/net/ip_tables_names";

/// Whether the kernel has x_tables at all.
pub(super) fn is_in_use() -> bool {
    std::path::Path::new(TABLES).exists()
}

/// True if rules were missing. `before` is called before there are any.
pub(super) fn open(bridge: &str, before: impl FnOnce() -> Result<()>) -> Result<bool> {
    let tables = std::fs::read_to_string(TABLES).context(format!("read {TABLES}"))?;
    if !tables.lines().any(|t| t == "filter") {
        return Ok(false);
    }
    let program =
        program().ok_or_else(|| Error::unsupported("there is no iptables-legacy here"))?;
    let list = run(&program, &["-S", "FORWARD"])?;
    let rules = rules(bridge);
    let missing = rules.iter().any(|rule| !has(&list, bridge, rule));
    let Some(at) = place(&list, bridge).filter(|at| missing || behind(&list, bridge) >= *at) else {
        return Ok(false);
    };
    before()?;
    delete(&program, bridge)?;
    for (i, rule) in rules.iter().enumerate() {
        let at = (at + i).to_string();
        let mut arguments = vec!["-I", "FORWARD", at.as_str()];
        arguments.extend(rule.iter().map(String::as_str));
        run(&program, &arguments)?;
    }
    Ok(true)
}

pub(super) fn close(bridge: &str) -> Result<()> {
    match program() {
        Some(program) => delete(&program, bridge),
        None => Ok(()),
    }
}

pub(super) fn warning(bridge: &str, e: &Error) -> String {
    format!(
        "iptables-legacy has rules on this host, and it cannot be seen or mended if they drop \
         what Pods send and get ({e}): iptables-legacy -I FORWARD -i {bridge} -j ACCEPT; \
         iptables-legacy -I FORWARD -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED,DNAT \
         -j ACCEPT"
    )
}

/// As `iptables -S` writes them, behind `-A FORWARD`.
fn rules(bridge: &str) -> [Vec<String>; 2] {
    let comment = format!("carob: Pods of {bridge}");
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let end = |mut rule: Vec<String>| {
        rule.extend(words("-m comment --comment"));
        rule.push(comment.clone());
        rule.extend(words("-j ACCEPT"));
        rule
    };
    [
        end(words(&format!("-i {bridge}"))),
        end(words(&format!(
            "-o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED,DNAT"
        ))),
    ]
}

fn is_ours(line: &str, bridge: &str) -> bool {
    line.contains(&format!("--comment \"carob: Pods of {bridge}\""))
}

fn has(list: &str, bridge: &str, rule: &[String]) -> bool {
    let begin = format!("-A FORWARD {} {} ", rule[0], rule[1]);
    list.lines()
        .any(|l| l.starts_with(&begin) && is_ours(l, bridge))
}

/// The number of the rule before which ours belong: the first that drops everything,
/// or behind the last if the policy drops. `None` if the chain accepts by default.
/// Counted without our own, which are deleted first.
fn place(list: &str, bridge: &str) -> Option<usize> {
    let mut number = 1;
    let mut drops = false;
    for line in list.lines().filter(|l| !is_ours(l, bridge)) {
        if let Some(policy) = line.strip_prefix("-P FORWARD ") {
            drops = policy == "DROP";
        } else if let Some(rule) = line.strip_prefix("-A FORWARD ") {
            match rule.split(' ').take(2).collect::<Vec<_>>()[..] {
                ["-j", "ACCEPT"] => return None,
                ["-j", "DROP" | "REJECT"] => return Some(number),
                _ => number += 1,
            }
        }
    }
    drops.then_some(number)
}

/// How many rules of others come before the last of ours.
fn behind(list: &str, bridge: &str) -> usize {
    let rules: Vec<&str> = list
        .lines()
        .filter(|l| l.starts_with("-A FORWARD "))
        .collect();
    let last = rules.iter().rposition(|l| is_ours(l, bridge)).unwrap_or(0);
    rules[..last].iter().filter(|l| !is_ours(l, bridge)).count()
}

/// Until there is none: somebody may have saved and restored them twice.
fn delete(program: &[OsString], bridge: &str) -> Result<()> {
    for rule in rules(bridge) {
        loop {
            let list = run(program, &["-S", "FORWARD"])?;
            if !has(&list, bridge, &rule) {
                break;
            }
            let mut arguments = vec!["-D", "FORWARD"];
            arguments.extend(rule.iter().map(String::as_str));
            run(program, &arguments)?;
        }
    }
    Ok(())
}

/// The program: on older systems it is the only one, and called iptables.
fn program() -> Option<Vec<OsString>> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let mut dirs: Vec<PathBuf> = dirs.filter(|d| d.is_absolute()).collect();
    dirs.dedup();
    let find = |name: &str| dirs.iter().map(|d| d.join(name)).find(|p| p.exists());
    if let Some(found) = find("iptables-legacy") {
        return Some(vec![found.into()]);
    }
    let plain = vec![OsString::from(find("iptables")?)];
    let version = run(&plain, &["-V"]).ok()?;
    (!version.contains("nf_tables")).then_some(plain)
}

fn run(program: &[OsString], arguments: &[&str]) -> Result<String> {
    // Another call may hold the lock of x_tables.
    let wait: &[&str] = if arguments == ["-V"] {
        &[]
    } else {
        &["-w", "10"]
    };
    let call = || format!("{} {}", program[0].to_string_lossy(), arguments.join(" "));
    log::debug!("run {}", call());
    let out = Command::new(&program[0])
        .args(&program[1..])
        .args(wait)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .with_context(call)?;
    match out.status.success() {
        true => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
        false => Err(Error::failed(format!(
            "{}: {}: {}",
            call(),
            out.status,
            String::from_utf8_lossy(&out.stderr).trim()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_rules_belong() {
        let own = "-A FORWARD -i carob0 -m comment --comment \"carob: Pods of carob0\" -j ACCEPT\n";
        for (list, at) in [
            ("-P FORWARD ACCEPT\n", None),
            ("-P FORWARD DROP\n", Some(1)),
            ("-P FORWARD DROP\n-A FORWARD -j DOCKER-USER\n", Some(2)),
            (
                "-P FORWARD ACCEPT\n-A FORWARD -i a -j DROP\n-A FORWARD -j REJECT --reject-with x\n",
                Some(2),
            ),
            ("-P FORWARD DROP\n-A FORWARD -j ACCEPT\n", None),
        ] {
            assert_eq!(place(list, "carob0"), at, "{list}");
            assert_eq!(place(&format!("{list}{own}"), "carob0"), at, "{list}");
        }
        let rule = &rules("carob0")[0];
        assert!(has(own, "carob0", rule) && !has(own, "carob", rule));
    }
}
