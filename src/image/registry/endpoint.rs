//! One server that is asked for the content of a repository, and how it is asked.

use crate::image::registry::connection::is_loopback;
use crate::image::registry::tls::Trust;

/// One server of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Host and port, as credentials know it: `docker.io`, not its server.
    pub registry: String,
    /// Host and port that are connected to.
    pub host: String,
    /// What comes before `/<repository>/manifests/`: `/v2`.
    pub root: String,
    pub repository: String,
    /// `https` and `http`, in the order in which they are tried.
    pub schemes: Vec<&'static str>,
    pub trust: Trust,
    /// Tags are asked for here.
    pub resolves: bool,
    /// Content is asked for here, by digest.
    pub pulls: bool,
    pub pushes: bool,
    /// The registry that a proxy is asked for, in the query `ns`.
    pub namespace: Option<String>,
    pub headers: Vec<(String, String)>,
    /// Not the registry of the reference, but one that stands in for it.
    pub mirror: bool,
}

impl Endpoint {
    /// A registry that no file says anything of.
    pub(crate) fn new(registry: &str, repository: &str, insecure: Option<bool>) -> Self {
        let schemes: &[_] = match insecure {
            Some(true) => &["https", "http"],
            Some(false) => &["https"],
            None if is_loopback(registry) => &["http", "https"],
            None => &["https"],
        };
        let host = match registry {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        Endpoint {
            registry: registry.to_owned(),
            host: host.to_owned(),
            root: "/v2".to_owned(),
            repository: repository.to_owned(),
            schemes: schemes.to_vec(),
            trust: Trust {
                unverified: insecure == Some(true),
                ..Trust::default()
            },
            resolves: true,
            pulls: true,
            pushes: true,
            namespace: None,
            headers: Vec::new(),
            mirror: false,
        }
    }
}
