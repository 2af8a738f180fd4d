//! The files that every container of a Pod finds in /etc: hosts(5), hostname(5),
//! resolv.conf(5).

use std::fmt::Write;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use crate::spec::{Dns, Pod};
use crate::store::{PodPaths, make_dir};
use crate::{Context, Ignored, Result};

/// Their names and content. `servers` are the host's resolv.conf(5) as far as it holds
/// in the Pod: [`super::resolver`].
pub(in crate::pod::monitor) fn texts(
    pod: &Pod,
    ips: &[IpAddr],
    servers: &str,
) -> [(&'static str, String); 3] {
    let host_hosts = pod
        .spec
        .host_network
        .then(|| std::fs::read_to_string("/etc/hosts").unwrap_or_default());
    [
        ("hosts", hosts(pod, ips, host_hosts.as_deref())),
        ("hostname", format!("{}\n", pod.spec.hostname)),
        ("resolv.conf", resolv_conf(&pod.spec.dns, servers)),
    ]
}

pub(in crate::pod::monitor) fn write(paths: &PodPaths, texts: &[(&str, String)]) -> Result<()> {
    let dir = paths.etc();
    make_dir(&dir)?;
    for (name, text) in texts {
        let path = dir.join(name);
        std::fs::write(&path, text)
            .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)))
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// With the host's network the host's own file comes first, as a kubelet does it.
fn hosts(pod: &Pod, ips: &[IpAddr], host: Option<&str>) -> String {
    let mut text = match host {
        Some(host) => format!("# The host's own, and what the Pod adds.\n{host}"),
        None => "# Made by carob for this Pod.\n\
                 127.0.0.1\tlocalhost\n\
                 ::1\tlocalhost ip6-localhost ip6-loopback\n\
                 fe00::0\tip6-localnet\n\
                 fe00::0\tip6-mcastprefix\n\
                 fe00::1\tip6-allnodes\n\
                 fe00::2\tip6-allrouters\n"
            .to_owned(),
    };
    if host.is_none() {
        for ip in ips {
            let names = match &pod.spec.fqdn {
                Some(fqdn) => format!("{fqdn}\t{}", pod.spec.hostname),
                None => pod.spec.hostname.clone(),
            };
            writeln!(text, "{ip}\t{names}").ignored("a String takes every text");
        }
    }
    if !pod.spec.host_aliases.is_empty() {
        text.push_str("\n# hostAliases\n");
    }
    for alias in &pod.spec.host_aliases {
        writeln!(text, "{}\t{}", alias.ip, alias.hostnames.join("\t"))
            .ignored("a String takes every text");
    }
    text
}

/// The Pod's own servers and searches go with the host's; an option of the Pod
/// replaces the host's of the same name.
fn resolv_conf(dns: &Dns, host: &str) -> String {
    let mut servers: Vec<String> = Vec::new();
    let mut searches: Vec<String> = Vec::new();
    let mut options: Vec<String> = Vec::new();
    for line in host.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => servers.extend(words.next().map(str::to_owned)),
            Some("search" | "domain") => searches = words.map(str::to_owned).collect(),
            Some("options") => options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    servers.extend(dns.nameservers.iter().map(ToString::to_string));
    searches.extend(dns.searches.iter().cloned());
    let key = |o: &str| o.split(':').next().unwrap_or(o).to_owned();
    for option in &dns.options {
        options.retain(|o| key(o) != key(option));
        options.push(option.clone());
    }
    dedup(&mut servers);
    dedup(&mut searches);
    let mut text = String::new();
    for s in servers {
        writeln!(text, "nameserver {s}").ignored("a String takes every text");
    }
    if !searches.is_empty() {
        writeln!(text, "search {}", searches.join(" ")).ignored("a String takes every text");
    }
    if !options.is_empty() {
        writeln!(text, "options {}", options.join(" ")).ignored("a String takes every text");
    }
    text
}

fn dedup(list: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|s| seen.insert(s.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_adds_to_the_hosts() {
        let dns = Dns {
            from_host: true,
            nameservers: vec!["192.0.2.53".parse().unwrap()],
            searches: vec!["a.example".into()],
            options: vec!["ndots:5".into()],
        };
        let host = "# c\nnameserver 192.0.2.1\nsearch b.example\noptions ndots:1 edns0\n";
        assert_eq!(
            resolv_conf(&dns, host),
            "nameserver 192.0.2.1\nnameserver 192.0.2.53\nsearch b.example a.example\n\
             options edns0 ndots:5\n"
        );
    }
}
