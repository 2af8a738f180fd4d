//! `carob completion`: scripts for shells, made from the grammar itself.

use clap::Args;
use clap_complete::{Shell, generate};

use super::face::Face;
use super::{Verb, grammar, output};
use crate::Result;

#[derive(Args, Debug)]
pub struct Completion {
    /// bash, zsh or fish
    #[arg(value_name = "SHELL", value_parser = ["bash", "zsh", "fish"])]
    shell: String,
}

impl Verb for Completion {
    const NAME: &'static str = "completion";
    const ABOUT: &'static str = "Print a script that completes carob's command line";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 . <(carob completion bash)\n\
        \x20 carob completion fish >~/.config/fish/completions/carob.fish";

    fn needs_root(&self) -> bool {
        false
    }

    fn run(self, _: &Face) -> Result<u8> {
        let shell = match self.shell.as_str() {
            "zsh" => Shell::Zsh,
            "fish" => Shell::Fish,
            _ => Shell::Bash,
        };
        let mut script = Vec::new();
        generate(shell, &mut grammar(), "carob", &mut script);
        output::text(&String::from_utf8_lossy(&script), true)?;
        Ok(0)
    }
}
