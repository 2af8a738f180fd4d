//! The caller's terminal in raw mode: termios(3).

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::{Error, Ignored, Result};

/// Our stdin, a terminal, in raw mode; as it was before when dropped.
#[derive(Debug)]
pub(crate) struct Raw(Termios);

impl Raw {
    pub(crate) fn enter() -> Result<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).map_err(|e| Error::sys("tcgetattr(stdin)", e))?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&stdin, SetArg::TCSANOW, &raw)
            .map_err(|e| Error::sys("tcsetattr(stdin, TCSANOW)", e))?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &self.0)
            .ignored("the terminal has gone, and its settings with it");
    }
}
