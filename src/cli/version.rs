//! `carob version`.

use clap::Args;
use serde_json::json;

use crate::Result;
use crate::cli::Verb;
use crate::cli::face::Face;
use crate::cli::show::output::{self, Format};

#[derive(Args, Debug)]
pub(super) struct Version {
    /// json or yaml
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
}

impl Verb for Version {
    const NAME: &'static str = "version";
    const ABOUT: &'static str = "Print the version of carob, its API and the kernel";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob version\n\
        \x20 carob version -o json";

    fn needs_root(&self) -> bool {
        false
    }

    fn run(self, _: &Face) -> Result<u8> {
        let format = Format::parse(self.output.as_deref())?;
        let uname = nix::sys::utsname::uname()?;
        let kernel = uname.release().to_string_lossy();
        let version = env!("CARGO_PKG_VERSION");
        if let Format::Table { .. } = format {
            output::text(
                &format!("carob {version}\nKubernetes API: v1.37\nLinux {kernel}\n"),
                false,
            )?;
        } else {
            format.print_value(&json!({
                "carob": version,
                "kubernetesAPI": "v1.37",
                "kernel": kernel,
                "architecture": std::env::consts::ARCH,
            }))?;
        }
        Ok(0)
    }
}
