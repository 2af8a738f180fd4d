//! `carob create configmap`, `secret` and `namespace`: an object from words and files.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::cli::face::Face;
use crate::cli::objects::describe::LAST_APPLIED;
use crate::cli::objects::made;
use crate::cli::pods::files::Accepted;
use crate::cli::show::dry_run::DryRun;
use crate::cli::show::output::Format;
use crate::manifest;
use crate::object::{Data, Sources, check_pair, go_json, suffix};
use crate::pod::verbs::objects;
use crate::{Error, Result};

#[derive(Subcommand, Debug)]
pub(crate) enum Made {
    /// Make a ConfigMap of values, files and directories
    #[command(name = "configmap", visible_alias = "cm")]
    ConfigMap(ConfigMap),
    /// Make a Secret
    Secret {
        #[command(subcommand)]
        kind: SecretKind,
    },
    /// Make a namespace
    #[command(visible_alias = "ns")]
    Namespace(Namespace),
}

#[derive(Subcommand, Debug)]
pub(crate) enum SecretKind {
    /// Of values, files and directories
    Generic(Generic),
    /// With a registry's user and password, for imagePullSecrets
    #[command(name = "docker-registry")]
    DockerRegistry(DockerRegistry),
    /// With a certificate and its key
    Tls(Tls),
}

/// Flags of all of them.
#[derive(Args, Debug)]
pub(crate) struct Common {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    dry_run: DryRun,
    /// json, yaml, name or jsonpath=TEMPLATE
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
    /// Keep what is given as what was applied last: a later apply removes what its manifest no
    /// longer has
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    save_config: bool,
    #[command(flatten)]
    accepted: Accepted,
}

/// Flags of those that have data.
#[derive(Args, Debug)]
pub(crate) struct From {
    /// A value; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    from_literal: Vec<String>,
    /// A file, whose name is the key if none is given, or every file of a directory
    #[arg(long, value_name = "[KEY=]PATH", value_delimiter = ',')]
    from_file: Vec<String>,
    /// A file of lines KEY=VALUE; the value of a line KEY is that of the environment
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    from_env_file: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct AppendHash {
    /// The name gets a suffix that changes with the data
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    append_hash: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ConfigMap {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    hash: AppendHash,
}

#[derive(Args, Debug)]
pub(crate) struct Generic {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    hash: AppendHash,
    /// What it is for, such as kubernetes.io/basic-auth [default: Opaque]
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct DockerRegistry {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    hash: AppendHash,
    /// The registry
    #[arg(
        long,
        value_name = "URL",
        default_value = "https://index.docker.io/v1/"
    )]
    docker_server: String,
    /// The user
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    docker_username: String,
    /// The user's password
    #[arg(
        long,
        value_name = "PASSWORD",
        default_value = "",
        hide_default_value = true
    )]
    docker_password: String,
    /// The user's address
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "",
        hide_default_value = true
    )]
    docker_email: String,
    /// Instead of those: a file as docker login writes it, .dockerconfigjson=PATH
    #[arg(long, value_name = "[KEY=]PATH", value_delimiter = ',')]
    from_file: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Tls {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    hash: AppendHash,
    /// The certificate and those that it is signed with, in PEM
    #[arg(long, value_name = "PATH", required = true)]
    cert: String,
    /// Its private key, in PEM
    #[arg(long, value_name = "PATH", required = true)]
    key: String,
}

#[derive(Args, Debug)]
pub(crate) struct Namespace {
    #[command(flatten)]
    common: Common,
}

impl Made {
    /// Whether this command line does nothing.
    pub(crate) fn is_dry(&self) -> bool {
        self.common().dry_run.is_client()
    }

    fn common(&self) -> &Common {
        match self {
            Made::ConfigMap(m) => &m.common,
            Made::Namespace(n) => &n.common,
            Made::Secret { kind } => match kind {
                SecretKind::Generic(s) => &s.common,
                SecretKind::DockerRegistry(s) => &s.common,
                SecretKind::Tls(s) => &s.common,
            },
        }
    }

    pub(crate) fn run(&self, face: &Face) -> Result<u8> {
        let common = self.common();
        let format = Format::parse(common.output.as_deref())?;
        let mut value = self.value(face)?;
        let parsed = manifest::pod_from_value(&value, "", face.only_namespace())?;
        let [object] = parsed.objects.as_slice() else {
            return Err(Error::failed("the new object is not one that carob keeps"));
        };
        let mut object = object.clone();
        let note = common.dry_run.note();
        if common.dry_run.is_client() {
            if common.save_config {
                save_config(&mut value);
            }
            return match format {
                Format::Table { .. } => made::say_done(&format, &object, "created", note),
                _ => format.print(vec![value], false),
            }
            .map(|()| 0);
        }
        if !common.save_config {
            object.applied = None;
        }
        let dry = common.dry_run.is_server();
        if !dry {
            face.make_ready()?;
        }
        let object = objects::create(&face.layout, &object, dry)?;
        match format {
            Format::Table { .. } => made::say_done(&format, &object, "created", note),
            _ => format.print(vec![made::shown(&object, dry)], false),
        }
        .map(|()| 0)
    }

    /// The v1 object, without what is not given.
    fn value(&self, face: &Face) -> Result<Value> {
        let name = &self.common().name;
        let value = match self {
            Made::ConfigMap(m) => {
                let value = config_map(name, face, m.from.read(false)?);
                hashed(value, &m.hash)
            }
            Made::Namespace(_) => json!({"kind": "Namespace", "apiVersion": "v1",
                "metadata": {"name": name}, "spec": {}, "status": {}}),
            Made::Secret { kind } => match kind {
                SecretKind::Generic(s) => {
                    let kind = s.kind.as_deref().unwrap_or_default();
                    hashed(secret(name, face, kind, s.from.read(true)?), &s.hash)
                }
                SecretKind::DockerRegistry(s) => {
                    let kind = "kubernetes.io/dockerconfigjson";
                    hashed(secret(name, face, kind, s.data()?), &s.hash)
                }
                SecretKind::Tls(s) => {
                    hashed(secret(name, face, "kubernetes.io/tls", s.data()?), &s.hash)
                }
            },
        };
        Ok(value)
    }
}

impl From {
    fn read(&self, is_secret: bool) -> Result<Data> {
        let sources = Sources {
            is_secret,
            literals: self.from_literal.clone(),
            files: self.from_file.clone(),
            env_files: self.from_env_file.clone(),
        };
        sources.read(&|name| std::env::var(name).ok())
    }
}

/// What file this flag names, under the key that it is to have.
fn file(key: &str, path: &str) -> Sources {
    Sources {
        files: vec![format!("{key}={path}")],
        ..Sources::default()
    }
}

impl DockerRegistry {
    fn data(&self) -> Result<Data> {
        if !self.from_file.is_empty() {
            let sources = Sources {
                files: self.from_file.clone(),
                ..Sources::default()
            };
            return sources.read(&|_| None);
        }
        let (user, password) = (&self.docker_username, &self.docker_password);
        if user.is_empty() || password.is_empty() || self.docker_server.is_empty() {
            return Err(Error::usage(
                "either --from-file or the combination of --docker-username, --docker-password \
                 and --docker-server is required",
            ));
        }
        let mut entry = Map::new();
        entry.insert("username".into(), user.as_str().into());
        entry.insert("password".into(), password.as_str().into());
        if !self.docker_email.is_empty() {
            entry.insert("email".into(), self.docker_email.as_str().into());
        }
        let auth = STANDARD.encode(format!("{user}:{password}"));
        entry.insert("auth".into(), auth.into());
        let mut servers = Map::new();
        servers.insert(self.docker_server.clone(), entry.into());
        let config = json!({"auths": servers});
        let key = ".dockerconfigjson".to_owned();
        Ok(Data::from([(key, go_json(&config).into_bytes())]))
    }
}

impl Tls {
    fn data(&self) -> Result<Data> {
        let mut data = file("tls.crt", &self.cert).read(&|_| None)?;
        data.extend(file("tls.key", &self.key).read(&|_| None)?);
        check_pair(&data["tls.crt"], &data["tls.key"])?;
        Ok(data)
    }
}

fn metadata(name: &str, face: &Face) -> Value {
    match face.only_namespace() {
        Some(namespace) => json!({"name": name, "namespace": namespace}),
        None => json!({"name": name}),
    }
}

/// What is UTF-8 is data; what is not is binaryData.
fn config_map(name: &str, face: &Face, data: Data) -> Value {
    let (mut texts, mut binary) = (Map::new(), Map::new());
    for (key, value) in data {
        match String::from_utf8(value) {
            Ok(text) => drop(texts.insert(key, text.into())),
            Err(e) => drop(binary.insert(key, STANDARD.encode(e.as_bytes()).into())),
        }
    }
    let metadata = metadata(name, face);
    let mut value = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata});
    if !texts.is_empty() {
        value["data"] = texts.into();
    }
    if !binary.is_empty() {
        value["binaryData"] = binary.into();
    }
    value
}

fn secret(name: &str, face: &Face, kind: &str, data: Data) -> Value {
    let encoded = |(key, value): (String, Vec<u8>)| (key, Value::from(STANDARD.encode(value)));
    let data: Map<String, Value> = data.into_iter().map(encoded).collect();
    let metadata = metadata(name, face);
    let mut value = json!({"kind": "Secret", "apiVersion": "v1", "metadata": metadata});
    if !data.is_empty() {
        value["data"] = data.into();
    }
    if !kind.is_empty() {
        value["type"] = kind.into();
    }
    value
}

fn hashed(mut value: Value, hash: &AppendHash) -> Value {
    if hash.append_hash {
        let name = value["metadata"]["name"].as_str().unwrap_or_default();
        value["metadata"]["name"] = format!("{name}-{}", suffix(&value)).into();
    }
    value
}

/// The annotation that kubectl's own `apply` reads. An object that carob makes has none: what
/// was applied is in its record.
fn save_config(value: &mut Value) {
    let mut given = value.clone();
    given["metadata"]["creationTimestamp"] = Value::Null;
    let text = format!("{}\n", go_json(&given));
    value["metadata"]["annotations"] = json!({LAST_APPLIED: text});
}
