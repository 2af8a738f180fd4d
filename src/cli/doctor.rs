//! `carob doctor`: whether this machine is able to run Pods.

use clap::Args;
use serde_json::json;

use super::Verb;
use super::face::{Face, say_hint};
use super::show::output;
use super::show::table::Table;
use crate::Result;
use crate::pod::doctor::{self, Status};

#[derive(Args, Debug)]
pub(super) struct Doctor {
    /// json
    #[arg(short, long, value_name = "FORMAT", value_parser = ["json"])]
    output: Option<String>,
}

impl Verb for Doctor {
    const NAME: &'static str = "doctor";
    const ABOUT: &'static str = "Try what Pods need of this machine";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 carob doctor\n\
        \x20 carob doctor -o json";

    fn run(self, face: &Face) -> Result<u8> {
        let found = doctor::examine(&face.layout);
        let able = found.iter().all(|f| f.status != Status::Failed);
        if self.output.is_some() {
            let answer = json!({ "able": able, "findings": found });
            output::text(&format!("{answer:#}\n"), false)?;
        } else {
            let mut table = Table::default();
            table.row(["CHECK", "STATUS", "FOUND"]);
            for f in &found {
                table.row([f.check, f.status.word(), &f.text]);
            }
            output::text(&table.take(), false)?;
            for f in &found {
                if let Some(mend) = &f.mend {
                    say_hint(&format!("{}: {mend}", f.check));
                }
            }
        }
        Ok(u8::from(!able))
    }
}
