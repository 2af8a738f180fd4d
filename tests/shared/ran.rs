//! What a command came to, for every test program.

use std::os::unix::process::ExitStatusExt;
use std::process::Output;

#[derive(Debug)]
pub(crate) struct Ran {
    /// 128 and the signal's number, of what a signal has ended.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(
            self.code, 0,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self.stdout
    }

    /// As [`Ran::ok`], without the last newline.
    #[allow(dead_code)] // not every program wants it so
    #[track_caller]
    pub(crate) fn said(self) -> String {
        self.ok().trim_end().to_owned()
    }

    #[track_caller]
    pub(crate) fn fails(self, code: i32, text: &str) -> Self {
        let all = format!("{}{}", self.stdout, self.stderr);
        assert_eq!(self.code, code, "{all}");
        assert!(all.contains(text), "no {text:?} in: {all}");
        self
    }
}

impl From<Output> for Ran {
    fn from(o: Output) -> Self {
        let signalled = || 128 + o.status.signal().unwrap_or(0);
        Ran {
            code: o.status.code().unwrap_or_else(signalled),
            stdout: String::from_utf8_lossy(&o.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&o.stderr).into_owned(),
        }
    }
}
