//! What an image may cost: one table of bounds, each with a name, a default and a
//! way to change it.
//!
//! The file is `/etc/carob/images.toml`, or `<root>/etc/images.toml` below a private
//! root:
//!
//! ```toml
//! [limits]
//! layer-size = "128Gi"
//! unpack-ratio = 1000
//! ```
//!
//! and `--limit NAME=VALUE` of `pull` and `load` goes before it. `docs/images.md` has
//! the table. What only honest archives of another kind would want changed (the
//! depth of a directory, the size of a PAX header) is a constant beside what it
//! bounds.

use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::store::Layout;
use crate::{Context, Error, Kind, Result};

/// Bounds; the default is what `docs/images.md` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub manifest_size: u64,
    pub config_size: u64,
    pub json_depth: u64,
    pub json_values: u64,
    pub layers: u64,
    pub layer_entries: u64,
    pub layer_size: u64,
    pub blob_size: u64,
    pub image_size: u64,
    pub unpack_ratio: u64,
    pub unpack_free: u64,
    pub zstd_window: u64,
    pub xz_dictionary: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            manifest_size: 4 << 20,
            config_size: 8 << 20,
            json_depth: 64,
            json_values: 250_000,
            layers: 256,
            layer_entries: 16_000_000,
            layer_size: 64 << 30,
            blob_size: 64 << 30,
            image_size: 256 << 30,
            unpack_ratio: 100,
            unpack_free: 1 << 30,
            zstd_window: 32 << 20,
            xz_dictionary: 64 << 20,
        }
    }
}

struct Row {
    name: &'static str,
    field: fn(&mut Limits) -> &mut u64,
    /// The least and the most that it can be set to.
    range: (u64, u64),
}

const fn row(name: &'static str, range: (u64, u64), field: fn(&mut Limits) -> &mut u64) -> Row {
    Row { name, field, range }
}

const ANY: (u64, u64) = (0, i64::MAX as u64);

const TABLE: [Row; 13] = [
    // Held in memory while they are read.
    row("manifest-size", (1, 1 << 30), |l| &mut l.manifest_size),
    row("config-size", (1, 1 << 30), |l| &mut l.config_size),
    // serde_json ends at 128, as its own stack does.
    row("json-depth", (1, 127), |l| &mut l.json_depth),
    row("json-values", ANY, |l| &mut l.json_values),
    // overlayfs stacks no more.
    row("layers", (0, 500), |l| &mut l.layers),
    row("layer-entries", ANY, |l| &mut l.layer_entries),
    row("layer-size", ANY, |l| &mut l.layer_size),
    row("blob-size", ANY, |l| &mut l.blob_size),
    row("image-size", ANY, |l| &mut l.image_size),
    row("unpack-ratio", (1, i64::MAX as u64), |l| {
        &mut l.unpack_ratio
    }),
    row("unpack-free", ANY, |l| &mut l.unpack_free),
    // Both ends are the reference decoder's.
    row("zstd-window", (1 << 10, 1 << 31), |l| &mut l.zstd_window),
    // Both ends are the format's.
    row("xz-dictionary", (4 << 10, 1 << 32), |l| {
        &mut l.xz_dictionary
    }),
];

impl Limits {
    /// The defaults, changed by the file of `layout` if there is one, and then by
    /// each of `changes`, `NAME=VALUE`.
    pub fn configured(layout: &Layout, changes: &[String]) -> Result<Limits> {
        let mut limits = Limits::default();
        let file = layout.images_settings();
        limits
            .read(&file)
            .with_context(|| format!("read {}", file.display()))?;
        for change in changes {
            let usage = |e: Error| e.with_kind(Kind::Usage).push_context("--limit");
            let (name, value) = change
                .split_once('=')
                .ok_or_else(|| Error::invalid(format!("{change:?} is not NAME=VALUE")))
                .map_err(usage)?;
            limits.set(name, value).map_err(usage)?;
        }
        Ok(limits)
    }

    /// For what is in the store already: it was let in by bounds that may have
    /// changed since.
    pub fn of_the_store() -> Limits {
        let mut limits = Limits::default();
        for row in &TABLE {
            *(row.field)(&mut limits) = row.range.1;
        }
        limits
    }

    fn read(&mut self, file: &Path) -> Result<()> {
        let text = match std::fs::read_to_string(file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let table: toml::Table =
            toml::from_str(&text).map_err(|e| Error::invalid(e.to_string().trim().to_owned()))?;
        for (key, value) in &table {
            let Some(limits) = value.as_table().filter(|_| key == "limits") else {
                return Err(Error::invalid(format!("{key}: there is [limits] alone")));
            };
            for (name, value) in limits {
                match value {
                    toml::Value::Integer(n) => self.set(name, &n.to_string())?,
                    toml::Value::String(s) => self.set(name, s)?,
                    _ => {
                        return Err(Error::invalid(format!(
                            "limits.{name}: a number, or one in quotes with Ki, Mi, Gi or Ti"
                        )));
                    }
                }
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let row = TABLE.iter().find(|r| r.name == name).ok_or_else(|| {
            let names: Vec<&str> = TABLE.iter().map(|r| r.name).collect();
            Error::invalid(format!("no bound has the name {name:?}"))
                .hint(format!("there are: {}", names.join(", ")))
        })?;
        let (least, most) = row.range;
        let number = parse(value)
            .filter(|n| (least..=most).contains(n))
            .ok_or_else(|| {
                Error::invalid(format!(
                    "{name}: {value:?} is not a number from {least} to {most}, \
                     as in 100, 64Ki, 4Mi or 1Gi"
                ))
            })?;
        *(row.field)(self) = number;
        Ok(())
    }

    /// The value of a bound.
    pub fn get(&self, name: &str) -> u64 {
        let row = TABLE.iter().find(|r| r.name == name);
        row.map_or(0, |r| *(r.field)(&mut self.clone()))
    }

    /// `what` says what is too much of what, without the number.
    pub fn exceeded(&self, name: &'static str, what: &str) -> Error {
        exceeded(name, self.get(name), what)
    }

    /// Refuses JSON that is nested deeper, or is of more values, than it may be:
    /// before it is parsed, in no memory.
    pub fn check_json(&self, what: &str, bytes: &[u8]) -> Result<()> {
        let (mut depth, mut values) = (0u64, 1u64);
        let mut rest = bytes.iter();
        while let Some(byte) = rest.next() {
            match byte {
                b'"' => {
                    // To the end of the string, or of the document.
                    while let Some(byte) = rest.next() {
                        match byte {
                            b'\\' => drop(rest.next()),
                            b'"' => break,
                            _ => {}
                        }
                    }
                }
                b'[' | b'{' => {
                    depth += 1;
                    values += 1;
                }
                b']' | b'}' => depth = depth.saturating_sub(1),
                b',' => values += 1,
                _ => {}
            }
            if depth > self.json_depth {
                return Err(self.exceeded("json-depth", &format!("the {what} is nested deeper")));
            }
            if values > self.json_values {
                return Err(self.exceeded("json-values", &format!("the {what} has more values")));
            }
        }
        Ok(())
    }
}

fn exceeded(name: &str, value: u64, what: &str) -> Error {
    Error::invalid(format!("{what} than {name}={value} allows")).hint(raise(name))
}

/// How to get such an image nevertheless.
pub(super) fn raise(name: &str) -> String {
    format!(
        "if you trust it: --limit {name}=NUMBER, or {name} in [limits] of \
         /etc/carob/images.toml (with --root DIR: DIR/etc/images.toml)"
    )
}

/// A whole number, with one of the suffixes of Kubernetes' for powers of 1024.
fn parse(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        "Ti" => 40,
        _ => return None,
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    n.checked_mul(1 << shift)
}

/// What one stream may become, unpacked.
#[derive(Debug)]
pub(super) struct Budget<'a> {
    limits: &'a Limits,
    /// Bytes of it as it comes; as many as may come, where that is not known.
    size: u64,
    /// Those of them that have come.
    come: &'a AtomicU64,
    /// The content of the image's files, of all layers at work.
    image: &'a AtomicU64,
    /// What this stream has added to it, to be taken back unless it is kept.
    added: AtomicU64,
    kept: AtomicBool,
    /// Which bound holds for the whole: `layer-size` or, of an archive, `image-size`.
    whole: &'static str,
}

impl<'a> Budget<'a> {
    pub(super) fn layer(
        limits: &'a Limits,
        size: u64,
        come: &'a AtomicU64,
        image: &'a AtomicU64,
    ) -> Budget<'a> {
        Budget {
            limits,
            size,
            come,
            image,
            added: AtomicU64::new(0),
            kept: AtomicBool::new(false),
            whole: "layer-size",
        }
    }

    /// Of an archive of images, which is not kept.
    pub(super) fn archive(
        limits: &'a Limits,
        size: u64,
        come: &'a AtomicU64,
        image: &'a AtomicU64,
    ) -> Budget<'a> {
        let mut budget = Budget::layer(limits, size, come, image);
        budget.whole = "image-size";
        budget
    }

    /// One that bounds nothing: for what is in the store already, and for archives of
    /// our own.
    pub(super) fn none<T>(work: impl FnOnce(&Budget<'_>) -> T) -> T {
        let limits = Limits::of_the_store();
        let (come, image) = (AtomicU64::new(0), AtomicU64::new(0));
        work(&Budget::layer(&limits, u64::MAX, &come, &image))
    }

    /// The stream was what it should be.
    pub(super) fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// Whether so many bytes may come of it, however few have come yet: asked before
    /// a file is made that says to be so large.
    fn promised(&self, unpacked: u64) -> Result<()> {
        if unpacked > self.limits.get(self.whole) {
            return Err(self.limits.exceeded(self.whole, "it unpacks to more bytes"));
        }
        self.ratio(unpacked, self.size, self.limits.unpack_free)
    }

    /// A server may say that much is to come, and end where the bomb does: more is
    /// free then, and no end of it.
    fn arrived(&self, unpacked: u64) -> Result<()> {
        let free = self.limits.unpack_free.saturating_mul(4);
        self.ratio(unpacked, self.come.load(Ordering::Relaxed), free)
    }

    fn ratio(&self, unpacked: u64, packed: u64, free: u64) -> Result<()> {
        let most = packed.saturating_mul(self.limits.unpack_ratio);
        if unpacked <= most.saturating_add(free) {
            return Ok(());
        }
        Err(self.limits.exceeded(
            "unpack-ratio",
            &format!(
                "its {packed} bytes unpack to more than {free}, and beyond that to more \
                 times their number"
            ),
        ))
    }

    /// The layer has so many entries.
    pub(super) fn entries(&self, n: u64) -> Result<()> {
        match n > self.limits.layer_entries {
            true => Err(self.limits.exceeded("layer-entries", "it has more entries")),
            false => Ok(()),
        }
    }

    /// A file of `size` bytes is to be made, beside `before` of the same layer.
    pub(super) fn file(&self, before: u64, size: u64) -> Result<()> {
        self.promised(before.saturating_add(size))?;
        let all = self.image.fetch_add(size, Ordering::Relaxed);
        self.added.fetch_add(size, Ordering::Relaxed);
        if all.saturating_add(size) > self.limits.image_size {
            return Err(self
                .limits
                .exceeded("image-size", "the image unpacks to more bytes"));
        }
        Ok(())
    }
}

/// What another attempt at the stream may have again.
impl Drop for Budget<'_> {
    fn drop(&mut self) {
        if !*self.kept.get_mut() {
            self.image
                .fetch_sub(*self.added.get_mut(), Ordering::Relaxed);
        }
    }
}

/// Ends a stream that becomes more than its budget.
pub(super) struct Bounded<'a, R> {
    inner: R,
    count: u64,
    budget: &'a Budget<'a>,
}

impl<'a, R: Read> Bounded<'a, R> {
    pub(super) fn new(inner: R, budget: &'a Budget<'a>) -> Self {
        Bounded {
            inner,
            count: 0,
            budget,
        }
    }
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.count += n as u64;
        self.budget
            .promised(self.count)
            .and_then(|()| self.budget.arrived(self.count))
            .map_err(io::Error::other)?;
        Ok(n)
    }
}

/// Counts what comes.
pub(super) struct Counted<'a, R> {
    pub inner: R,
    pub count: &'a AtomicU64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
