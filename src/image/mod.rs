//! Images: from a registry or an archive to directories that overlayfs stacks.
//!
//! Owns `<data>/images/` (see `store`) and nothing else on the machine:
//!
//! 1. a [`Reference`] names an image as Docker and Kubernetes read it;
//! 2. [`Store::load`] takes it from an archive, [`Store::pull`] from a registry
//!    (OCI distribution-spec);
//! 3. [`manifest`] reads what is untrusted JSON there, with bounds;
//! 4. `layer` verifies each layer (digest, size, diffID) while it makes a directory of it,
//!    or a file that the kernel mounts;
//! 5. the image appears in the store in one step, or not at all.
//!
//! [`Store::push`] gives one to a registry, [`Store::save`] to an archive; [`Store::check`]
//! says whether all that is there is what it should be.
//!
//! Never here: mounts, but to see whether the kernel can. Root filesystems are
//! mounted by the callers; this module ends at a list of layers. Specs: OCI image-spec 1.1,
//! distribution-spec 1.1, Docker image manifest V2 schema 2, Docker image spec
//! v1.2 (`docker save`). See `docs/decisions/0003-images.md`.

pub(crate) mod archive;
mod layer;
mod registry;
mod store;

mod digest;
mod limits;
mod load;
pub(crate) mod manifest;
mod pull;
mod push;
mod reference;
mod save;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use digest::Digest;
pub(crate) use layer::form::LayerForm;
pub use limits::Limits;
pub use push::{Blobs, Pushed, push};
pub use reference::Reference;
pub use registry::keyring::Keyring;
// What a probe needs of another machine as well.
pub(crate) use registry::resolve::HostNames;
pub(crate) use registry::retry::Patience;
pub(crate) use registry::tls::unverified as unverified_tls;
pub use save::Form;
pub(crate) use store::check::Report;
pub use store::index::Store;
pub(crate) use store::removal::Pruned;
pub(crate) use store::usage::Usage;

/// An image of the store, ready to be run.
#[derive(Clone, Debug)]
pub struct Image {
    /// The config's digest, `sha256:<hex>`: what Docker calls the image ID.
    pub id: String,
    /// What the registry or archive serves for its name, an index or a
    /// manifest: `<repository>@<digest>` names it there. `None` if it came
    /// from a docker-archive, which has none.
    pub digest: Option<String>,
    /// Canonical references, sorted; empty for an untagged image.
    pub names: Vec<String>,
    pub config: Config,
    /// Layers to run, absolute, lowest first, none twice, at least one: overlayfs's
    /// lowerdirs in reverse order. Directories, or files: [`LayerForm::of`].
    pub layers: Vec<PathBuf>,
    /// Bytes of file content of all layers, unpacked.
    pub size: u64,
    /// RFC 3339, as the config has it.
    pub created: Option<String>,
    /// GOARCH: `amd64`, `arm64`.
    pub architecture: String,
    pub os: String,
    /// No prune takes it away.
    pub pinned: bool,
}

/// What an image says of how to run it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// `KEY=value`, in the image's order.
    pub env: Vec<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `user`, `uid`, `user:group`, `uid:gid`, or empty.
    pub user: String,
    pub working_dir: String,
    /// Paths.
    pub volumes: Vec<String>,
    /// As written: `SIGTERM`, `TERM` or a number.
    pub stop_signal: Option<String>,
    /// `80/tcp`.
    pub exposed_ports: Vec<String>,
    pub labels: std::collections::BTreeMap<String, String>,
}

/// Who asks a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub username: String,
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// How to pull; the default is what a kubelet does.
#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    /// `linux/arm64` or `linux/arm/v7`; this machine's if `None`.
    pub platform: Option<String>,
    /// `Some(true)`: certificates are not verified, and plain HTTP is tried.
    /// `Some(false)`: HTTPS only. `None`: HTTPS, but plain HTTP for loopback.
    pub insecure: Option<bool>,
    /// For the reference's own registry, before all else that is known.
    pub credentials: Option<Credentials>,
    /// A Pod's imagePullSecrets, in its order; before what the machine has.
    pub secrets: Vec<Keyring>,
    pub patience: Patience,
    /// Where the directories containers, containerd and docker are, instead of
    /// /etc.
    pub etc: Option<PathBuf>,
}

/// What a pull is doing. A layer is told by its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The manifest is being asked for.
    Resolving { name: String },
    /// The manifest is known; so many layers, of so many bytes compressed.
    Resolved {
        digest: String,
        layers: usize,
        size: u64,
    },
    /// The layer is in the store already.
    Exists { layer: String },
    /// So many of the layer's compressed bytes have been unpacked.
    Layer { layer: String, done: u64, size: u64 },
    /// The layer is unpacked and verified.
    Unpacked { layer: String },
    /// The blob is at the registry now.
    Pushed { layer: String },
}
