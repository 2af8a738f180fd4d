//! A blob's bytes over as many connections as it takes.
//!
//! A connection that breaks, goes silent or trickles is left, and the next one
//! goes on by a Range (RFC 9110, 14.2). Where the server does not know ranges,
//! or answers with another one than was asked for, the blob is asked for whole
//! and what is known of it passed over. Content is verified by whoever knows
//! the digest.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use ureq::Body;
use ureq::http::{Response, header};

use crate::image::digest::Digest;
use crate::image::registry::client::{Ask, Registry, text_of};
use crate::image::registry::retry::{Failure, Paced};

/// A blob whose connection breaks this often is given up, however far it came.
const MAX_RESUMES: u32 = 50;

pub(crate) struct Blob<'a> {
    registry: &'a Registry,
    what: String,
    size: u64,
    offset: u64,
    /// Where the connection at hand began; progress since then earns new tries.
    good_offset: u64,
    body: Option<Box<dyn Read + Send>>,
    /// The server has been seen to answer ranges with something else.
    no_ranges: bool,
    tries: u32,
    resumes: u32,
    /// Waited for bytes, and how many came, since the pace was last looked at.
    waited: Duration,
    came: u64,
}

impl Registry {
    /// A blob's bytes from `from` up to its `size`, as a stream that goes on
    /// where it was when a connection breaks. Not verified.
    pub(crate) fn blob(&self, digest: &Digest, size: u64, from: u64) -> crate::Result<Blob<'_>> {
        let mut blob = Blob::new(self, digest, size, from);
        self.retrying(|| blob.connect())?;
        Ok(blob)
    }
}

impl<'a> Blob<'a> {
    fn new(registry: &'a Registry, digest: &Digest, size: u64, from: u64) -> Self {
        Blob {
            registry,
            what: format!("blobs/{digest}"),
            size,
            offset: from,
            good_offset: from,
            body: None,
            no_ranges: false,
            tries: 0,
            resumes: 0,
            waited: Duration::ZERO,
            came: 0,
        }
    }

    /// Makes a connection whose next byte is the one at the offset.
    pub(crate) fn connect(&mut self) -> Result<(), Failure> {
        if self.offset >= self.size {
            return Ok(());
        }
        (self.waited, self.came) = (Duration::ZERO, 0);
        let registry = self.registry;
        let from = if self.no_ranges { 0 } else { self.offset };
        let response = registry.ask(&Ask {
            head: false,
            what: &self.what,
            accept: None,
            from,
            size: self.size - from,
        });
        let response = match response {
            Ok(response) => response,
            Err(f) if from > 0 && !f.passing => {
                // 416, or whatever it has for a header that it does not know.
                self.no_ranges = true;
                return Err(Failure { passing: true, ..f });
            }
            Err(f) => return Err(f),
        };
        if response.status() == 206 {
            let range = text_of(response.headers(), header::CONTENT_RANGE);
            if !self.is_wanted(&range) {
                self.no_ranges = true;
                return Err(Failure::passing(registry.error(&format!(
                    "asked for bytes from {from} of {}, it sends {range:?}",
                    self.size
                ))));
            }
            self.body = Some(reader(response, self.size - from));
            return Ok(());
        }
        if let Some(length) = response.body().content_length()
            && length != self.size
        {
            return Err(Failure::lasting(registry.error(&format!(
                "the blob has {length} bytes, not {} as the manifest says",
                self.size
            ))));
        }
        let mut body = reader(response, self.size);
        let paced = Paced::new(&mut body, &registry.patience);
        let passed = io::copy(&mut paced.take(self.offset), &mut io::sink())
            .map_err(|e| Failure::passing(registry.error(&e.to_string())))?;
        if passed < self.offset {
            return Err(Failure::passing(
                registry.error("the connection ended early"),
            ));
        }
        self.body = Some(body);
        Ok(())
    }

    /// `bytes <offset>-<end>/<size>`; an unknown size is `*`.
    fn is_wanted(&self, range: &str) -> bool {
        let parts = range
            .strip_prefix("bytes ")
            .and_then(|r| r.split_once('-'))
            .and_then(|(first, rest)| Some((first, rest.split_once('/')?)));
        parts.is_some_and(|(first, (last, size))| {
            let last = last.parse::<u64>();
            first.parse() == Ok(self.offset)
                && last.is_ok_and(|l| l >= self.offset && l < self.size)
                && (size == "*" || size.parse() == Ok(self.size))
        })
    }

    /// A read, and why there was nothing.
    fn pull(&mut self, buf: &mut [u8]) -> Result<usize, String> {
        let Some(body) = self.body.as_mut() else {
            return Err("no connection".to_owned());
        };
        let began = Instant::now();
        let result = body.read(buf);
        self.waited += began.elapsed();
        match result {
            Ok(0) => Err("the connection ended early".to_owned()),
            Ok(n) => {
                self.came += n as u64;
                let patience = &self.registry.patience;
                if patience.too_slow(self.came, self.waited) {
                    // What came is good; the next read begins anew.
                    self.body = None;
                } else if self.waited >= patience.silence {
                    (self.waited, self.came) = (Duration::ZERO, 0);
                }
                Ok(n)
            }
            Err(e) => Err(e.to_string()),
        }
    }
}

fn reader(response: Response<Body>, limit: u64) -> Box<dyn Read + Send> {
    let body = response.into_body().into_with_config().limit(u64::MAX);
    Box::new(body.reader().take(limit))
}

impl Read for Blob<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() || self.offset >= self.size {
            return Ok(0);
        }
        loop {
            let trickled = self.body.is_none();
            let mut failure = match self.pull(buf) {
                Ok(n) => {
                    self.offset += n as u64;
                    return Ok(n);
                }
                Err(_) if trickled => {
                    Failure::passing(self.registry.error("the connection was too slow"))
                }
                Err(why) => Failure::passing(self.registry.error(&why)),
            };
            self.body = None;
            if self.offset > self.good_offset {
                self.tries = 0;
            }
            self.good_offset = self.offset;
            while self.body.is_none() {
                self.tries += 1;
                self.resumes += 1;
                let pause = self.registry.patience.pause(self.tries, &failure);
                let Some(pause) = pause.filter(|_| self.resumes <= MAX_RESUMES) else {
                    return Err(io::Error::other(format!(
                        "after {} of {} bytes: {}",
                        self.offset, self.size, failure.error
                    )));
                };
                std::thread::sleep(pause);
                if let Err(f) = self.connect() {
                    failure = f;
                }
            }
        }
    }
}
