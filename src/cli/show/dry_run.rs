//! `--dry-run` of the verbs that change something.

use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct DryRun {
    /// client: say what would be done, and do nothing; server: with every check, as if it
    /// were done
    #[arg(long = "dry-run", value_name = "none|client|server", num_args = 0..=1, default_value = "none", default_missing_value = "client", require_equals = true, value_parser = ["none", "client", "server"])]
    word: String,
}

impl DryRun {
    pub(crate) fn is_any(&self) -> bool {
        self.word != "none"
    }

    /// Nothing of the machine is looked at.
    pub(crate) fn is_client(&self) -> bool {
        self.word == "client"
    }

    pub(crate) fn is_server(&self) -> bool {
        self.word == "server"
    }

    /// What a line ends with, so that it does not say that something was done.
    pub(crate) fn note(&self) -> &'static str {
        match self.word.as_str() {
            "client" => " (dry run)",
            "server" => " (server dry run)",
            _ => "",
        }
    }
}
