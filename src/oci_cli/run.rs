//! `run`: `create`, `start`, and without --detach the program's end awaited and the
//! container deleted.

use super::args::{Args, Flag, Order};
use super::create::{FLAGS as CREATE, create};
use super::delete::delete;
use super::foreground::{self, Foreground};
use super::start::start;
use super::{Face, Verb};
use crate::{Ignored, Result};

const FLAGS: [Flag; 10] = {
    let mut flags = [CREATE[0]; 10];
    let mut i = 0;
    while i < CREATE.len() {
        flags[i] = CREATE[i];
        i += 1;
    }
    flags[8] = ("detach", 'd', "", "returns as soon as the program runs");
    flags[9] = ("keep", '\0', "", "an ended container is not deleted");
    flags
};

pub(super) const VERB: Verb = Verb {
    name: "run",
    operands: "ID",
    about: "makes a container and runs its program",
    flags: &FLAGS,
    order: Order::Any,
    enters: true,
    run,
};

fn run(face: &Face, args: &Args) -> Result<u8> {
    let id = args.id()?;
    let detach = args.is("detach");
    let keep_terminal = !detach && args.get("console-socket").is_none();
    if !detach && !args.is("no-subreaper") {
        // The program's orphans become ours, not our caller's.
        crate::sys::attribute::become_subreaper()
            .ignored("orphans then go to init, as with --no-subreaper");
    }
    let foreground = match detach {
        true => None,
        false => Some(Foreground::prepare()?),
    };
    let made = create(face, args, keep_terminal)?;
    let started = start(face, id).and_then(|ready| {
        let Some(ready) = ready else {
            return Ok(());
        };
        if detach {
            return ready.hand_over();
        }
        // Beside the attendance; nobody waits for its end, which may never be.
        std::thread::spawn(move || ready.pass_on());
        Ok(())
    });
    let code = match (started, foreground) {
        (Ok(()), None) => return Ok(0),
        (Ok(()), Some(f)) => f.attend(made.pidfd, made.terminal),
        (Err(e), _) => Err(e),
    };
    if code.is_err() {
        // Nobody else knows that it is there.
        if let Err(e) = delete(face, id, true) {
            face.log.warn(&format!("the container {id} stays: {e}"));
        }
    } else if !args.is("keep") {
        delete(face, id, true)?;
    }
    code.map(foreground::exit_code)
}
