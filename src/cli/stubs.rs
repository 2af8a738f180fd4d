//! Stand-ins until the layers below are merged; this file goes then.
#![allow(dead_code, unused)]
use crate::Result;
pub fn monitor_main(_: Vec<std::ffi::OsString>) -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
pub mod client {
    use crate::{
        Error, Result,
        pod::{protocol::*, spec::Pod, state::State},
        store::Layout,
    };
    use std::os::fd::*;
    use std::time::Duration;
    #[derive(Clone, Debug)]
    pub struct View {
        pub pod: Pod,
        pub state: Option<State>,
    }
    pub fn create(layout: &Layout, pod: &Pod) -> Result<()> {
        Err(Error::failed("stub"))
    }
    pub fn list(layout: &Layout, namespace: Option<&str>) -> Result<Vec<View>> {
        Ok(vec![])
    }
    pub fn find(layout: &Layout, namespace: &str, name: &str) -> Result<View> {
        Err(Error::not_found(format!("pods {name:?} not found")))
    }
    pub fn update_metadata(layout: &Layout, uid: &str, pod: &Pod) -> Result<()> {
        Ok(())
    }
    pub fn force_release_name(layout: &Layout, pod: &Pod) -> Result<()> {
        Ok(())
    }
    #[derive(Debug)]
    pub struct Connection(OwnedFd);
    impl Connection {
        pub fn open(layout: &Layout, uid: &str) -> Result<Self> {
            Err(Error::failed("stub"))
        }
        pub fn send(&self, r: &Request, fds: &[BorrowedFd]) -> Result<()> {
            Ok(())
        }
        pub fn recv(&self, t: Option<Duration>) -> Result<Option<(Reply, Vec<OwnedFd>)>> {
            Ok(None)
        }
    }
    impl AsFd for Connection {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}
pub mod manifest {
    use crate::{Error, Result, error::Problem, pod::spec::Pod};
    #[derive(Debug)]
    pub struct Source;
    #[derive(Debug)]
    pub struct Parsed {
        pub pods: Vec<Pod>,
        pub notes: Vec<Note>,
        pub verdicts: Vec<FieldVerdict>,
    }
    pub use crate::error::Problem as Note;
    #[derive(Debug, serde::Serialize)]
    pub struct FieldVerdict {
        pub source: String,
        pub document: usize,
        pub line: usize,
        pub field: String,
        pub verdict: Verdict,
        pub why: String,
    }
    #[derive(Clone, Copy, Debug, serde::Serialize)]
    pub enum Verdict {
        Honoured,
        NoEffect,
        Refused,
    }
    #[derive(Debug)]
    pub struct Selector;
    impl Selector {
        pub fn matches(&self, labels: &std::collections::BTreeMap<String, String>) -> bool {
            true
        }
    }
    pub fn read(path: &str) -> Result<Vec<Source>> {
        Err(Error::failed("stub"))
    }
    pub fn parse(s: &[Source], ns: Option<&str>) -> Result<Parsed> {
        Err(Error::failed("stub"))
    }
    pub fn pod_from_value(v: &serde_json::Value, source: &str, ns: Option<&str>) -> Result<Parsed> {
        Err(Error::failed("stub"))
    }
    pub fn parse_selector(s: &str) -> Result<Selector> {
        Ok(Selector)
    }
}
pub mod image {
    use crate::{Error, Result, store::Layout};
    #[derive(Clone, Debug)]
    pub struct Image {
        pub id: String,
        pub digest: Option<String>,
        pub names: Vec<String>,
        pub size: u64,
        pub created: Option<String>,
        pub architecture: String,
        pub os: String,
    }
    #[derive(Clone, Debug)]
    pub struct Reference(String);
    impl std::str::FromStr for Reference {
        type Err = Error;
        fn from_str(s: &str) -> Result<Self> {
            Ok(Reference(s.into()))
        }
    }
    impl Reference {
        pub fn familiar(&self) -> String {
            self.0.clone()
        }
    }
    #[derive(Clone, Debug, Default)]
    pub struct PullOptions {
        pub platform: Option<String>,
        pub insecure: Option<bool>,
    }
    pub enum Progress {
        Resolving {
            name: String,
        },
        Resolved {
            digest: String,
            layers: usize,
            size: u64,
        },
        Exists {
            layer: String,
        },
        Layer {
            layer: String,
            done: u64,
            size: u64,
        },
        Unpacked {
            layer: String,
        },
    }
    pub struct Store;
    #[derive(Debug)]
    pub struct Removed {
        pub untagged: Vec<String>,
        pub deleted: Vec<String>,
    }
    impl Store {
        pub fn open(l: &Layout) -> Result<Self> {
            Ok(Store)
        }
        pub fn lookup_any(&self, s: &str) -> Result<Option<Image>> {
            Ok(None)
        }
        pub fn load(&self, path: &std::path::Path, name: Option<&Reference>) -> Result<Vec<Image>> {
            Ok(vec![])
        }
        pub fn pull(
            &self,
            r: &Reference,
            o: &PullOptions,
            p: &mut dyn FnMut(Progress),
        ) -> Result<Image> {
            Err(Error::failed("stub"))
        }
        pub fn list(&self) -> Result<Vec<Image>> {
            Ok(vec![])
        }
        pub fn remove(
            &self,
            n: &str,
            force: bool,
            in_use: &dyn Fn(&str) -> bool,
        ) -> Result<Removed> {
            Err(Error::failed("stub"))
        }
    }
}
