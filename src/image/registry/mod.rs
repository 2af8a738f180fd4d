//! Registries: the servers that a name leads to, and the requests of OCI's distribution-spec.
//!
//! `registries` and `hosts` read which servers (`endpoint`) serve a name; `keyring` finds credentials
//! and `auth` shows them; `connection`, `resolve` and `tls` (with `certificate`, `verifier`
//! and `refusal`) make connections; `client` asks one server, `sources` several, and `blob`
//! keeps a download going, as patiently as `retry` says.

pub(in crate::image) mod auth;
pub(in crate::image) mod blob;
pub(in crate::image) mod certificate;
pub(in crate::image) mod client;
pub(in crate::image) mod connection;
pub(in crate::image) mod endpoint;
pub(in crate::image) mod hosts;
pub(in crate::image) mod keyring;
pub(in crate::image) mod refusal;
pub(in crate::image) mod registries;
pub(in crate::image) mod resolve;
pub(in crate::image) mod retry;
pub(in crate::image) mod sources;
pub(in crate::image) mod tls;
pub(in crate::image) mod verifier;
