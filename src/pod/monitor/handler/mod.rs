//! What probes and hooks do: Kubernetes' handlers. A command runs in the container
//! ([`super::container::exec`]); all other requests are sent by this module, from inside the
//! Pod's network namespace, to the Pod's own address where no other host is named. No function
//! here blocks.
//!
//! [`exchange`]: TCP, and HTTP/1.1 over it ([`http`]), which the monitor speaks itself.
//! [`child`]: a process of its own for what a large parser or a name server answers: TLS,
//! HTTP/2 ([`http2`]), gRPC ([`grpc`]), hosts by name. [`question`]: what that process does.
//!
//! Answers of a container are not trusted: their size is limited, and only the status and
//! `Location` are looked at.
//!
//! A new handler: `spec::Check` and its `Display`, `manifest::probe` (and
//! `manifest::lifecycle`, where hooks have it), its lines in `manifest::fields`,
//! `run_handler` here, and [`question`] if it can be asked of a host by name.

mod child;
mod exchange;
mod grpc;
mod http;
pub(crate) mod http2;
mod question;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::container::exec::Purpose;
use super::kubelet::{Answer, HookKind};
use super::{Fact, Monitor, Source};
use crate::pod::reason::Reason;
use crate::spec::{Check, Host, HttpGet, HttpVersion, ProbeKind};
use crate::{Error, Result};
use child::Child;
use exchange::{Exchange, Outcome, Progress};
use question::{Question, Wanted};

/// For what a handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Caller {
    Probe(ProbeKind),
    Hook(HookKind),
}

/// A handler under way that is not a command.
#[derive(Debug)]
pub(super) struct Handler {
    asker: Asker,
    /// What it asks, and how many redirects have led to it.
    get: Option<(HttpGet, u32)>,
}

#[derive(Debug)]
enum Asker {
    Exchange(Exchange),
    Child(Child),
}

impl Monitor {
    /// Puts a probe's question.
    pub(super) fn probe(&mut self, name: &str, kind: ProbeKind) {
        let check = self.pod().spec.container(name).and_then(|c| c.probe(kind));
        if let Some(check) = check.map(|p| p.check.clone()) {
            self.run_handler(name, Caller::Probe(kind), check);
        }
    }

    pub(super) fn run_handler(&mut self, name: &str, caller: Caller, check: Check) {
        let begun = match check {
            Check::Exec(command) => self.run_command(name, caller, command),
            Check::Tcp { host, port } => self.begin_exchange(name, caller, host, port, None),
            Check::Http(get) => self.begin_get(name, caller, get, 0),
            Check::Grpc { port, service, tls } => {
                let question = Question {
                    host: Host::Ip(self.own_ip()),
                    port,
                    wanted: Wanted::Health { service, tls },
                };
                self.begin_child(name, caller, question, None)
            }
        };
        if let Err(e) = begun {
            self.handler_is_over(name, caller, Err(e));
        }
    }

    fn begin_get(
        &mut self,
        name: &str,
        caller: Caller,
        get: HttpGet,
        redirects: u32,
    ) -> Result<()> {
        let (host, port) = (get.host.clone(), get.port);
        if get.version != HttpVersion::Http {
            let question = Question {
                host: host.unwrap_or(Host::Ip(self.own_ip())),
                port,
                wanted: Wanted::Get(get.clone()),
            };
            return self.begin_child(name, caller, question, Some((get, redirects)));
        }
        self.begin_exchange(name, caller, host, port, Some((get, redirects)))
    }

    fn begin_exchange(
        &mut self,
        name: &str,
        caller: Caller,
        host: Option<Host>,
        port: u16,
        get: Option<(HttpGet, u32)>,
    ) -> Result<()> {
        let host = host.unwrap_or(Host::Ip(self.own_ip()));
        let ip = match host {
            Host::Ip(ip) => ip,
            Host::Name(_) => {
                let wanted = match &get {
                    Some((get, _)) => Wanted::Get(get.clone()),
                    None => Wanted::Connection,
                };
                let question = Question { host, port, wanted };
                return self.begin_child(name, caller, question, get);
            }
        };
        let to = SocketAddr::new(ip, port);
        let request = get.as_ref();
        let request = request.map(|(get, _)| http::request(get, &to.to_string()));
        let exchange = Exchange::begin(to, request)?;
        self.go_on(name, caller, exchange, get, true)
    }

    /// The Pod's address, as its containers may know it: the host's with hostNetwork.
    fn own_ip(&self) -> IpAddr {
        let ip = self.state().ips.first().copied();
        ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// The handler's socket can do what was waited for.
    pub(super) fn follow_handler(&mut self, name: String, caller: Caller) {
        let key = (name, caller);
        let Some(Handler { asker, get }) = self.handlers.remove(&key) else {
            return;
        };
        let (name, _) = &key;
        let gone_on = match asker {
            Asker::Exchange(exchange) => self.go_on(name, caller, exchange, get, false),
            Asker::Child(child) => self.follow_child(name, caller, child, get),
        };
        if let Err(e) = gone_on {
            self.handler_is_over(name, caller, Err(e));
        }
    }

    /// `new`: it is not in the epoll set yet.
    fn go_on(
        &mut self,
        name: &str,
        caller: Caller,
        mut exchange: Exchange,
        get: Option<(HttpGet, u32)>,
        new: bool,
    ) -> Result<()> {
        let source = Source::Handler(name.to_owned(), caller);
        match exchange.progress() {
            Progress::Waits(flags) => {
                match new {
                    true => self.events.watch(&exchange, flags, source)?,
                    false => self.events.modify(&exchange, flags, &source),
                }
                let asker = Asker::Exchange(exchange);
                self.handlers
                    .insert((name.to_owned(), caller), Handler { asker, get });
                Ok(())
            }
            Progress::Over(outcome) => {
                if !new {
                    self.events.unwatch(&exchange, &source);
                }
                self.conclude(name, caller, get, outcome)
            }
        }
    }

    /// A question has led to this.
    fn conclude(
        &mut self,
        name: &str,
        caller: Caller,
        get: Option<(HttpGet, u32)>,
        outcome: Outcome,
    ) -> Result<()> {
        let answer = match (outcome, get) {
            (Outcome::Answered { status, location }, Some((get, redirects))) => {
                return self.answered(name, caller, get, redirects, status, location);
            }
            (Outcome::NotTls(why), Some((mut get, redirects)))
                if matches!(caller, Caller::Hook(_)) =>
            {
                // As a kubelet, which did not heed the scheme of hooks in former times.
                let message = format!(
                    "container {name}: asked without TLS: GET {}: {why}",
                    get.path
                );
                self.event(true, Reason::LifecycleHTTPFallback, message);
                get.version = HttpVersion::Http;
                get.headers
                    .retain(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
                return self.begin_get(name, caller, get, redirects);
            }
            (Outcome::Failed(why) | Outcome::NotTls(why), Some((get, _))) => {
                Answer::Failure(format!("GET {}: {why}", get.path))
            }
            (Outcome::Failed(why) | Outcome::NotTls(why), None) => Answer::Failure(why),
            (Outcome::Success | Outcome::Answered { .. }, _) => Answer::Success { warning: None },
        };
        self.handler_is_over(name, caller, Ok(answer));
        Ok(())
    }

    /// As a kubelet: from 200 on is success, from 400 on failure; a redirect is followed on
    /// its own host, and remarkable where it leads to another.
    fn answered(
        &mut self,
        name: &str,
        caller: Caller,
        get: HttpGet,
        redirects: u32,
        status: u16,
        location: Option<String>,
    ) -> Result<()> {
        if matches!(status, 301 | 302 | 303 | 307 | 308)
            && let Some(location) = &location
        {
            let host = match &get.host {
                Some(Host::Name(name)) => name.clone(),
                Some(Host::Ip(ip)) => ip.to_string(),
                None => self.own_ip().to_string(),
            };
            match http::redirect(location, &get, &host) {
                Some(_) if redirects == http::REDIRECTS_MOST => {
                    let why = format!("GET {}: stopped after {redirects} redirects", get.path);
                    self.handler_is_over(name, caller, Ok(Answer::Failure(why)));
                    return Ok(());
                }
                Some(next) => return self.begin_get(name, caller, next, redirects + 1),
                None => {}
            }
        }
        let answer = match status {
            200..300 => Answer::Success { warning: None },
            300..400 => Answer::Success {
                warning: Some(format!("status code {status} leads to another host")),
            },
            // The words are a kubelet's, which people search for.
            _ => Answer::Failure(format!("HTTP probe failed with statuscode: {status}")),
        };
        // A hook wants the request to arrive: what the answer says does not matter.
        let answer = match caller {
            Caller::Hook(_) => Answer::Success { warning: None },
            Caller::Probe(_) => answer,
        };
        self.handler_is_over(name, caller, Ok(answer));
        Ok(())
    }

    /// Tells what a handler has led to. An error: it could not be run.
    pub(super) fn handler_is_over(&mut self, name: &str, caller: Caller, result: Result<Answer>) {
        let container = name.to_owned();
        let result = result.map_err(|e| self.with_root(e));
        self.tell(match caller {
            Caller::Probe(probe) => Fact::Probed {
                container,
                probe,
                answer: result.unwrap_or_else(Answer::Error),
            },
            Caller::Hook(hook) => Fact::HookEnded {
                container,
                hook,
                result: match result {
                    Ok(Answer::Success { .. }) => Ok(()),
                    Ok(Answer::Failure(why)) => Err(Error::failed(why)),
                    Ok(Answer::Error(e)) | Err(e) => Err(e),
                },
            },
        });
    }

    /// Nobody wants to know any more what a handler leads to.
    pub(super) fn cancel_handler(&mut self, name: &str, caller: Caller) {
        let key = (name.to_owned(), caller);
        if let Some(handler) = self.handlers.remove(&key) {
            let source = Source::Handler(key.0, caller);
            match handler.asker {
                Asker::Exchange(exchange) => self.events.unwatch(&exchange, &source),
                Asker::Child(child) => self.end_child(&child, &source),
            }
        }
        self.cancel_command(name, Purpose::Handler(caller));
    }

    /// The container has ended: what its handlers lead to says nothing about its next
    /// attempt.
    pub(super) fn end_handlers_of(&mut self, name: &str) {
        let of_it = self.handlers.keys().filter(|(n, _)| n == name);
        for (name, caller) in of_it.cloned().collect::<Vec<_>>() {
            self.cancel_handler(&name, caller);
        }
    }
}
