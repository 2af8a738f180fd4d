//! The name servers of the host, as a Pod can use them.
//!
//! systemd-resolved, dnsmasq and unbound listen on a loopback address and write that
//! into /etc/resolv.conf. In a Pod with a network of its own nobody listens there, so the
//! Pod gets the file in which such a program leaves the real servers, as a kubelet does
//! on a machine with systemd-resolved (its `--resolv-conf`).

use std::net::IpAddr;

/// Where the real servers are, in the order of search.
const UPSTREAM: [&str; 3] = [
    // systemd-resolved.service(8), "/etc/resolv.conf"
    "/run/systemd/resolve/resolv.conf",
    // NetworkManager.conf(5), "dns"
    "/run/NetworkManager/no-stub-resolv.conf",
    // resolvconf(8) with dnsmasq
    "/run/dnsmasq/resolv.conf",
];

/// The text of a resolv.conf(5), and what the user has to know.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::pod::monitor) struct Servers {
    pub text: String,
    pub warning: Option<String>,
}

/// `own_network`: the Pod has a network namespace of its own.
pub(in crate::pod::monitor) fn of_host(own_network: bool) -> Servers {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    match own_network {
        true => reachable(read, dnsmasq_settings),
        false => Servers {
            text: read("/etc/resolv.conf").unwrap_or_default(),
            warning: None,
        },
    }
}

fn reachable(
    read: impl Fn(&str) -> Option<String>,
    dnsmasq: impl FnOnce() -> Vec<String>,
) -> Servers {
    let own = read("/etc/resolv.conf").unwrap_or_default();
    if servers(&own).all(is_reachable) {
        return Servers {
            text: own,
            warning: None,
        };
    }
    let usable = |text: &String| servers(text).any(is_reachable);
    let mut upstream = UPSTREAM.iter().filter_map(|path| read(path));
    let found = upstream
        .find(usable)
        .or_else(|| Some(own.clone()).filter(usable))
        .or_else(|| Some(of_dnsmasq(&dnsmasq(), &own, &read)).filter(usable));
    match found {
        Some(text) => Servers {
            text: without_unreachable(&text),
            warning: None,
        },
        None => Servers {
            text: without_unreachable(&own),
            warning: Some(format!(
                "the host's /etc/resolv.conf names only servers that a Pod cannot reach ({}), and \
                 none of {} and no settings of dnsmasq name another: the Pod has no name server \
                 (give it dnsPolicy: None and dnsConfig.nameservers, or make the host's server \
                 listen on another address)",
                servers(&own).collect::<Vec<_>>().join(", "),
                UPSTREAM.join(", "),
            )),
        },
    }
}

/// What dnsmasq(8) reads as Debian starts it.
fn dnsmasq_settings() -> Vec<String> {
    let dir = std::fs::read_dir("/etc/dnsmasq.d").into_iter().flatten();
    let files = dir.flatten().map(|e| e.path());
    let files = files.filter(|p| p.extension().is_none_or(|e| e.to_string_lossy() == "conf"));
    let mut files: Vec<_> = files.collect();
    files.sort();
    files.insert(0, "/etc/dnsmasq.conf".into());
    let read = |path| std::fs::read_to_string(path).ok();
    files.into_iter().filter_map(read).collect()
}

/// The servers that dnsmasq asks for every name, as a resolv.conf(5) with the rest of
/// the host's. Those for one domain only, and on other ports, a Pod cannot use.
fn of_dnsmasq(settings: &[String], own: &str, read: impl Fn(&str) -> Option<String>) -> String {
    let mut found = String::new();
    let mut add = |server: &str| {
        if server.parse::<IpAddr>().is_ok() {
            found.push_str(&format!("nameserver {server}\n"));
        }
    };
    for line in settings.iter().flat_map(|text| text.lines()) {
        match line.trim().split_once('=') {
            Some((key, server)) if key.trim() == "server" => add(server.trim()),
            Some((key, path)) if key.trim() == "resolv-file" => {
                let text = read(path.trim()).unwrap_or_default();
                servers(&text).for_each(&mut add);
            }
            _ => {}
        }
    }
    let rest = own.lines().filter(|l| server(l).is_none());
    found.extend(rest.flat_map(|l| [l, "\n"]));
    found
}

fn servers(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(server)
}

fn server(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    match words.next() {
        Some("nameserver") => words.next(),
        _ => None,
    }
}

/// Neither on loopback nor, with a zone such as `fe80::1%eth0`, on a link of the host's.
fn is_reachable(server: &str) -> bool {
    match server.parse::<IpAddr>() {
        Ok(ip) => !ip.is_loopback() && !ip.is_unspecified(),
        Err(_) => false,
    }
}

fn without_unreachable(text: &str) -> String {
    let kept = text.lines().filter(|l| server(l).is_none_or(is_reachable));
    kept.flat_map(|l| [l, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files by their names; `dnsmasq` is that program's settings.
    fn with(files: &[(&str, &str)]) -> Servers {
        let find = |path: &str| {
            let file = files.iter().find(|(name, _)| *name == path);
            file.map(|(_, text)| (*text).to_owned())
        };
        reachable(find, || find("dnsmasq").into_iter().collect())
    }

    #[test]
    fn a_stub_on_loopback_is_replaced_by_its_upstream_servers() {
        const STUB: (&str, &str) = (
            "/etc/resolv.conf",
            "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n",
        );
        let resolved = (UPSTREAM[0], "nameserver 192.0.2.1\nsearch lan\n");
        let manager = (UPSTREAM[1], "nameserver 192.0.2.2\n");
        let dnsmasq = (UPSTREAM[2], "nameserver ::1\nnameserver 2001:db8::1\n");
        let plain = ("/etc/resolv.conf", "nameserver 192.0.2.9\n");
        let mixed = (
            "/etc/resolv.conf",
            "nameserver 127.0.0.1\nnameserver 192.0.2.9\nnameserver fe80::1%eth0\n",
        );
        for (files, text) in [
            (vec![STUB, resolved, manager], resolved.1),
            (vec![STUB, manager], manager.1),
            (vec![STUB, dnsmasq], "nameserver 2001:db8::1\n"),
            (vec![plain, resolved], plain.1),
            (vec![mixed], plain.1),
            (vec![mixed, resolved], resolved.1),
            (vec![], ""),
            (
                vec![
                    STUB,
                    (
                        "dnsmasq",
                        "no-resolv\n# server=192.0.2.3\nserver=192.0.2.4\nserver=/lan/192.0.2.5\n\
                         server=127.0.0.1#5353\nserver = 2001:db8::4\n",
                    ),
                ],
                "nameserver 192.0.2.4\nnameserver 2001:db8::4\noptions edns0 trust-ad\nsearch lan\n",
            ),
            (
                vec![
                    STUB,
                    ("dnsmasq", "resolv-file=/etc/up\n"),
                    ("/etc/up", plain.1),
                ],
                "nameserver 192.0.2.9\noptions edns0 trust-ad\nsearch lan\n",
            ),
        ] {
            let found = with(&files);
            assert_eq!(
                (found.text.as_str(), found.warning),
                (text, None),
                "{files:?}"
            );
        }
        let none = with(&[STUB, (UPSTREAM[0], "# none\n")]);
        assert_eq!(none.text, "options edns0 trust-ad\nsearch lan\n");
        assert!(none.warning.unwrap().contains("(127.0.0.53)"));
    }
}
