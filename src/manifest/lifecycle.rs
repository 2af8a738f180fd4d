//! A container's hooks and its stop signal.

use k8s_openapi::api::core::v1 as core;
use nix::sys::signal::Signal;

use super::around::Around;
use super::probe;
use super::report::Report;
use super::tree::Path;
use crate::spec::{Check, Hook, Port};

/// The hooks and the stop signal. `ports`: the container's, which may be meant by name.
pub(super) fn lower(
    r: &mut Report<'_>,
    path: &Path,
    c: &core::Container,
    is_plain_init: bool,
    ports: &[Port],
    pod: &Around<'_>,
) -> (Option<Hook>, Option<Hook>, Option<i32>) {
    let Some(l) = &c.lifecycle else {
        return (None, None, None);
    };
    let path = path.key("lifecycle");
    if is_plain_init {
        r.forbidden(
            &path,
            "may not be set for init containers without restartPolicy=Always",
        );
    }
    let mut hook = |name: &str, h: &Option<core::LifecycleHandler>| {
        self::hook(r, &path.key(name), h.as_ref()?, ports, pod.grace)
    };
    let post_start = hook("postStart", &l.post_start);
    let pre_stop = hook("preStop", &l.pre_stop);
    let stop_signal = l.stop_signal.as_deref().filter(|s| !s.is_empty());
    let stop_signal = stop_signal.and_then(|name| {
        let number = signal_number(name);
        if !pod.has_os {
            r.forbidden(
                &path.key("stopSignal"),
                "may not be set for containers with empty `spec.os.name`: set it to linux",
            );
        } else if number.is_none() {
            let why = "must be the name of a signal, such as SIGTERM or SIGRTMIN+3";
            r.invalid(&path.key("stopSignal"), name, why);
        }
        number
    });
    (post_start, pre_stop, stop_signal)
}

fn hook(
    r: &mut Report<'_>,
    path: &Path,
    h: &core::LifecycleHandler,
    ports: &[Port],
    grace: i64,
) -> Option<Hook> {
    let set = [
        h.exec.is_some(),
        h.sleep.is_some(),
        h.http_get.is_some(),
        h.tcp_socket.is_some(),
    ];
    match set.iter().filter(|s| **s).count() {
        0 => r.required(
            path,
            "must specify a handler type: exec, httpGet, sleep or tcpSocket",
        ),
        1 => {}
        _ => r.forbidden(path, "may not specify more than 1 handler type"),
    }
    if let Some(exec) = &h.exec {
        return Some(Hook::Check(probe::command(r, path, exec)));
    }
    if let Some(get) = &h.http_get {
        let get = probe::http_get(r, &path.key("httpGet"), get, ports)?;
        return Some(Hook::Check(Check::Http(get)));
    }
    if let Some(socket) = &h.tcp_socket {
        let check = probe::tcp_socket(r, &path.key("tcpSocket"), socket, ports)?;
        return Some(Hook::Check(check));
    }
    let seconds = h.sleep.as_ref()?.seconds;
    if !(0..=grace).contains(&seconds) {
        r.invalid_number(
            &path.keys("sleep.seconds"),
            seconds,
            format!(
                "must be greater than or equal to 0 and less than or equal to \
                 terminationGracePeriodSeconds ({grace})"
            ),
        );
    }
    Some(Hook::Sleep(u64::try_from(seconds).unwrap_or(0)))
}

/// Kubernetes' names: `SIG...`, and the real-time ones by their distance from the nearer
/// end. glibc keeps the first two of the kernel's for itself: SIGRTMIN is 34, SIGRTMAX 64.
fn signal_number(name: &str) -> Option<i32> {
    const MIN: i32 = 34;
    const MAX: i32 = 64;
    let distance = |text: &str, most: u8| {
        let n = text.parse::<u8>().ok()?;
        ((1..=most).contains(&n) && n.to_string() == text).then_some(i32::from(n))
    };
    if let Some(n) = name.strip_prefix("SIGRTMIN+") {
        return Some(MIN + distance(n, 15)?);
    }
    if let Some(n) = name.strip_prefix("SIGRTMAX-") {
        return Some(MAX - distance(n, 14)?);
    }
    let name = match name {
        "SIGRTMIN" => return Some(MIN),
        "SIGRTMAX" => return Some(MAX),
        // Other names of the same numbers, signal(7).
        "SIGCLD" => "SIGCHLD",
        "SIGIOT" => "SIGABRT",
        "SIGPOLL" => "SIGIO",
        name => name,
    };
    name.parse::<Signal>().ok().map(|s| s as i32)
}

#[cfg(test)]
mod tests {
    use super::signal_number;

    #[test]
    fn signals() {
        for (name, number) in [
            ("SIGTERM", Some(15)),
            ("SIGUSR1", Some(10)),
            ("SIGRTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("SIGRTMAX-1", Some(63)),
            ("SIGRTMIN+15", Some(49)),
            ("SIGRTMIN+16", None),
            ("SIGRTMIN+03", None),
            ("SIGRTMAX-14", Some(50)),
            ("SIGRTMAX-15", None),
            ("SIGCLD", Some(17)),
            ("SIGIOT", Some(6)),
            ("SIGPOLL", Some(29)),
            ("SIGRTMIN+x", None),
            ("TERM", None),
            ("15", None),
        ] {
            assert_eq!(signal_number(name), number, "{name}");
        }
    }
}
