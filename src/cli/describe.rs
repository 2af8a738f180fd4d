//! `carob describe`.
use super::Verb;
use super::face::Face;
use crate::Result;
use clap::Args;
#[derive(Args, Debug)]
pub struct Describe {
    #[arg(required = true, value_name = "pod NAME")]
    what: Vec<String>,
}
impl Verb for Describe {
    const NAME: &'static str = "describe";
    const ABOUT: &'static str = "Show everything that is known of a Pod";
    fn run(self, face: &Face) -> Result<u8> {
        let _ = face;
        Ok(0)
    }
}
