//! Credentials of systemd: bytes that systemd-creds(1) encrypts with a key of this machine,
//! which is in a file of root's, in the TPM2, or in both.
//!
//! What is encrypted goes through pipes: no argument, no variable and no file has it. The
//! program is given a time and a room for its answer, since a TPM2 may hang.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::sys::process::pidfd_open;
use crate::{Context, Error, Ignored, Result};

/// Where distributions have it. A monitor has no PATH to rely on.
const PROGRAMS: [&str; 3] = [
    "/usr/bin/systemd-creds",
    "/bin/systemd-creds",
    "/run/current-system/sw/bin/systemd-creds",
];

/// What `--with-key` may be: the keys of systemd-creds(1) that keep something secret.
pub(crate) const KEYS: [&str; 4] = ["auto", "host", "tpm2", "host+tpm2"];

/// The variable that says where systemd's key of the machine is, if not in /var/lib/systemd.
pub(crate) const KEY_FILE_VARIABLE: &str = "SYSTEMD_CREDENTIAL_SECRET";

/// A TPM2 takes up to some seconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of the answer and of the program's messages, each; what is put in is no longer, so that a
/// pipe takes it.
const LENGTH_MAX: usize = 32 << 10;

/// How the program is called, the same for both ways.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    /// The name that is bound to what is encrypted.
    pub name: &'a str,
    /// The file of the machine's key; `None`: systemd's own.
    pub key_file: Option<&'a Path>,
}

impl Caller<'_> {
    /// `with_key`: one of [`KEYS`]. The result is text.
    pub(crate) fn encrypt(self, with_key: &str, plain: &[u8]) -> Result<String> {
        // The TPM2's registers change with the firmware, and then nothing would open what was
        // encrypted before: it is bound to the chip alone.
        let with_key = format!("--with-key={with_key}");
        let text = self.run("encrypt", &[&with_key, "--tpm2-pcrs="], plain)?;
        let text = String::from_utf8(text).map_err(|_| no_text())?;
        Ok(text.split_whitespace().collect())
    }

    pub(crate) fn decrypt(self, credential: &str) -> Result<Vec<u8>> {
        self.run("decrypt", &[], credential.as_bytes())
    }

    fn run(self, verb: &str, options: &[&str], input: &[u8]) -> Result<Vec<u8>> {
        let program = PROGRAMS.into_iter().find(|p| Path::new(p).exists());
        let program = program.ok_or_else(|| {
            Error::unsupported("this machine has no program systemd-creds")
                .hint("it is part of systemd since version 250; carob looks for it in /usr/bin")
        })?;
        if input.len() > LENGTH_MAX {
            return Err(Error::invalid(format!(
                "{program} {verb}: more than {LENGTH_MAX} bytes of input"
            )));
        }
        log::debug!("run {program} {verb} --name={}", self.name);
        let mut command = Command::new(program);
        command
            .arg(verb)
            .args(options)
            .arg(format!("--name={}", self.name))
            .args(["-", "-"])
            .env_clear()
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(file) = self.key_file {
            command.env(KEY_FILE_VARIABLE, file);
        }
        let call = || format!("{program} {verb}");
        let child = command
            .spawn()
            .with_context(|| format!("execve({program})"))?;
        Running(child)
            .finish(input, Instant::now() + PATIENCE)
            .with_context(call)
    }
}

/// Is ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0
            .kill()
            .ignored("it has ended already, most of the time");
        self.0
            .wait()
            .ignored("it was waited for already, most of the time");
    }
}

impl Running {
    fn finish(mut self, input: &[u8], deadline: Instant) -> Result<Vec<u8>> {
        if let Some(mut stdin) = self.0.stdin.take() {
            stdin
                .write_all(input)
                .ignored("a program that ended early says why");
        }
        let (mut out, mut err) = (self.0.stdout.take(), self.0.stderr.take());
        let (mut answer, mut said) = (Vec::new(), Vec::new());
        while out.is_some() || err.is_some() {
            let fds: Vec<BorrowedFd<'_>> = out
                .iter()
                .map(AsFd::as_fd)
                .chain(err.iter().map(AsFd::as_fd))
                .collect();
            wait_for(&fds, deadline)?;
            take(&mut out, &mut answer)?;
            take(&mut err, &mut said)?;
        }
        if self.0.try_wait().context("wait4()")?.is_none() {
            let id = i32::try_from(self.0.id()).unwrap_or_default();
            let pidfd = pidfd_open(Pid::from_raw(id)).map_err(|e| Error::sys("pidfd_open()", e))?;
            wait_for(&[pidfd.as_fd()], deadline)?;
        }
        let status = self.0.wait().context("wait4()")?;
        match status.success() {
            true => Ok(answer),
            false => Err(Error::failed(format!("{status}: {}", last_words(&said)))),
        }
    }
}

/// Until one of them has something to read, or has ended.
fn wait_for(fds: &[BorrowedFd<'_>], deadline: Instant) -> Result<()> {
    let mut polled: Vec<PollFd<'_>> = fds
        .iter()
        .map(|fd| PollFd::new(*fd, PollFlags::POLLIN))
        .collect();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::failed(format!(
                "no answer in {} s",
                PATIENCE.as_secs()
            )));
        }
        // Rounded up, so that it does not spin in the last millisecond.
        let left = left + Duration::from_millis(1);
        match poll(
            &mut polled,
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
        ) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => break,
            Err(e) => return Err(Error::sys("poll()", e)),
        }
    }
    Ok(())
}

/// Reads what there is, without waiting; at the end `from` becomes none.
fn take<R: Read + AsFd>(from: &mut Option<R>, to: &mut Vec<u8>) -> Result<()> {
    let Some(reader) = from else { return Ok(()) };
    let mut polled = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
    match poll(&mut polled, PollTimeout::ZERO) {
        Ok(0) | Err(Errno::EINTR) => return Ok(()),
        Ok(_) => {}
        Err(e) => return Err(Error::sys("poll()", e)),
    }
    let mut buffer = [0; 4096];
    match reader.read(&mut buffer) {
        Ok(0) => *from = None,
        Ok(n) if to.len() + n > LENGTH_MAX => {
            return Err(Error::failed(format!(
                "it answers with more than {LENGTH_MAX} bytes"
            )));
        }
        Ok(n) => to.extend_from_slice(&buffer[..n]),
        Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
        Err(e) => return Err(e).context("read()"),
    }
    Ok(())
}

/// Of its messages, without those that are no failure.
fn last_words(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let lines = said.lines().map(str::trim);
    let told: Vec<&str> = lines
        .filter(|l| !l.is_empty() && !l.ends_with("using anyway."))
        .collect();
    let told = told.join("; ");
    let told: String = told.chars().filter(|c| !c.is_control()).take(300).collect();
    match told.is_empty() {
        true => "it says nothing".to_owned(),
        false => told,
    }
}

fn no_text() -> Error {
    Error::failed("systemd-creds encrypt: its answer is no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Running {
        let pipe = Stdio::piped;
        let mut shell = Command::new("/bin/sh");
        let child = shell.args(["-c", script]);
        Running(
            child
                .stdin(pipe())
                .stdout(pipe())
                .stderr(pipe())
                .spawn()
                .unwrap(),
        )
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn a_program_is_bounded_in_time_and_answer() {
        assert_eq!(shell("cat").finish(b"in", soon()).unwrap(), b"in");
        let began = Instant::now();
        for hangs in ["sleep 60", "exec >&- 2>&-; sleep 60"] {
            let soon = Instant::now() + Duration::from_millis(200);
            let e = shell(hangs).finish(b"", soon).unwrap_err();
            assert!(e.to_string().contains("no answer"), "{e}");
        }
        assert!(began.elapsed() < Duration::from_secs(20));
        let e = shell("cat /dev/zero").finish(b"", soon()).unwrap_err();
        assert!(e.to_string().contains("more than 32768 bytes"), "{e}");
        let script = "echo 'x, using anyway.' >&2; echo why >&2; exit 3";
        let e = shell(script).finish(&[0; LENGTH_MAX], soon()).unwrap_err();
        assert_eq!(e.to_string(), "exit status: 3: why");
    }
}
