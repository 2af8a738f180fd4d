//! The keys and values that `create configmap` and `create secret` make an object of: words
//! of a command line, files, directories, and files of variables. The rules are kubectl's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::spec::Object;
use crate::{Context, Error, Result};

/// As they were given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// `KEY=VALUE`.
    pub literals: Vec<String>,
    /// `PATH` or `KEY=PATH`.
    pub files: Vec<String>,
    /// Of lines `KEY=VALUE`.
    pub env_files: Vec<String>,
    /// No error shows what was given as a value.
    pub is_secret: bool,
}

/// Keys and values.
pub(crate) type Data = BTreeMap<String, Vec<u8>>;

impl Sources {
    /// `variable`: the value that a variable has in the environment.
    pub(crate) fn read(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<Data> {
        let others = !self.files.is_empty() || !self.literals.is_empty();
        if others && !self.env_files.is_empty() {
            return Err(Error::usage(
                "from-env-file cannot be combined with from-file or from-literal",
            ));
        }
        let mut data = Data::new();
        // In kubectl's order, so that the same key is the one too many.
        for source in &self.files {
            add_source(&mut data, source)?;
        }
        for literal in &self.literals {
            match literal.split_once('=') {
                Some((key, value)) if !key.is_empty() => add(&mut data, key, value.into())?,
                _ => return Err(self.no_literal(literal)),
            }
        }
        for path in &self.env_files {
            add_variables(&mut data, path, variable)?;
        }
        Ok(data)
    }
}

impl Sources {
    /// In kubectl's words.
    fn no_literal(&self, literal: &str) -> Error {
        let shown = match self.is_secret {
            true => String::new(),
            false => format!(" {literal}"),
        };
        Error::usage(format!("invalid literal source{shown}, expected key=value"))
            .hint("write it as --from-literal=KEY=VALUE")
    }
}

fn add(data: &mut Data, key: &str, value: Vec<u8>) -> Result<()> {
    if data.contains_key(key) {
        return Err(Error::usage(format!(
            "cannot add key {key:?}, another key by that name already exists"
        )));
    }
    let size: usize = data.values().map(Vec::len).sum();
    if size + value.len() > Object::DATA_MAX {
        return Err(Error::invalid(format!(
            "{key}: Too long: the values together have more than {} bytes",
            Object::DATA_MAX
        )));
    }
    data.insert(key.to_owned(), value);
    Ok(())
}

/// A file, or each regular file of a directory.
fn add_source(data: &mut Data, source: &str) -> Result<()> {
    let (key, path) = match source.split_once('=') {
        None => (None, source),
        Some((_, path)) if path.contains('=') => {
            return Err(Error::usage(format!(
                "{source:?}: key names or file paths cannot contain '='"
            )));
        }
        Some(("", path)) => {
            return Err(Error::usage(format!(
                "key name for file path {path:?} missing"
            )));
        }
        Some((key, "")) => {
            return Err(Error::usage(format!(
                "file path for key name {key:?} missing"
            )));
        }
        Some((key, path)) => (Some(key), path),
    };
    let path = Path::new(path);
    let reading = || format!("read {}", path.display());
    let found = path.metadata().map_err(|e| Error::of_file(e, reading()))?;
    if !found.is_dir() {
        let name = path.file_name().and_then(|n| n.to_str());
        let Some(key) = key.or(name) else {
            return Err(Error::usage(format!(
                "the name of the file {} is no key: write KEY=PATH",
                path.display()
            )));
        };
        return add(data, key, read(path)?);
    }
    if key.is_some() {
        return Err(Error::usage(format!(
            "cannot give a key name for a directory path: {}",
            path.display()
        )));
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        if entry.file_type().is_ok_and(|t| t.is_file()) {
            names.push(entry.file_name());
        }
    }
    names.sort();
    for name in names {
        add(data, &name.to_string_lossy(), read(&path.join(&name))?)?;
    }
    Ok(())
}

/// No more than an object can hold: a device may have no end.
fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|f| {
            let most = Object::DATA_MAX as u64 + 1;
            f.take(most).read_to_end(&mut bytes)
        })
        .map_err(|e| Error::of_file(e, format!("read {}", path.display())))?;
    Ok(bytes)
}

/// Lines `KEY=VALUE`, comments, and lines `KEY`, whose value is the environment's.
fn add_variables(
    data: &mut Data,
    path: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<()> {
    if Path::new(path).is_dir() {
        return Err(Error::usage(format!(
            "env config file cannot be a directory: {path}"
        )));
    }
    let bytes = read(Path::new(path))?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    for (n, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let place = || format!("{path}:{}", n + 1);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = std::str::from_utf8(line)
            .map_err(|_| Error::invalid(format!("{}: invalid UTF-8 bytes", place())))?;
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key, value.to_owned()),
            None => (line, variable(line).unwrap_or_default()),
        };
        check_variable(key).map_err(|why| Error::invalid(format!("{}: {why}", place())))?;
        add(data, key, value.into_bytes()).map_err(|e| e.push_context(place()))?;
    }
    Ok(())
}

/// IsEnvVarName of Kubernetes. A name that is none may be a secret in the wrong place.
fn check_variable(key: &str) -> Result<(), &'static str> {
    let is_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let begins = key.chars().next().is_some_and(|c| !c.is_ascii_digit());
    match begins && key.chars().all(is_char) && key != "." && !key.starts_with("..") {
        true => Ok(()),
        false => Err(
            "what stands before the = is not a valid key name: a valid environment variable name \
             must consist of alphabetic characters, digits, '_', '-', or '.', and must not start \
             with a digit",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(data: &Data) -> String {
        let pairs = data
            .iter()
            .map(|(k, v)| format!("{k}={}", String::from_utf8_lossy(v)));
        pairs.collect::<Vec<_>>().join(" ")
    }

    fn of(literals: &[&str], files: &[&str], env_files: &[&str]) -> Result<Data> {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Sources {
            literals: own(literals),
            files: own(files),
            env_files: own(env_files),
            is_secret: true,
        }
        .read(&|name| (name == "HERE").then(|| "there".to_owned()))
    }

    #[test]
    fn literals() {
        assert_eq!(
            text(&of(&["a=1", "b=c=d", "e="], &[], &[]).unwrap()),
            "a=1 b=c=d e="
        );
        for wrong in [&["a"][..], &["=a"], &["a=1", "a=2"]] {
            assert!(of(wrong, &[], &[]).is_err(), "{wrong:?}");
        }
        let e = of(&["hunter2"], &[], &[]).unwrap_err();
        assert_eq!(e.to_string(), "invalid literal source, expected key=value");
        let shown = Sources {
            literals: vec!["a".to_owned()],
            ..Sources::default()
        };
        let e = shown.read(&|_| None).unwrap_err();
        assert_eq!(
            e.to_string(),
            "invalid literal source a, expected key=value"
        );
    }

    #[test]
    fn files_and_directories() {
        let dir = std::env::temp_dir().join(format!("carob-sources-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("d/below")).unwrap();
        std::fs::write(dir.join("d/x"), "1").unwrap();
        std::fs::write(dir.join("d/y"), b"\xff").unwrap();
        std::os::unix::fs::symlink("x", dir.join("d/link")).unwrap();
        let env = "\u{feff}A=1\r\n# no\n\n  B= two words \nHERE\nNOWHERE\n";
        std::fs::write(dir.join("e"), env).unwrap();
        let path = |p: &str| dir.join(p).to_str().unwrap().to_owned();
        let (d, x, e) = (path("d"), path("d/x"), path("e"));
        assert_eq!(of(&[], &[&d], &[]).unwrap().len(), 2);
        assert_eq!(
            text(&of(&[], &[&x, &format!("k={x}")], &[]).unwrap()),
            "k=1 x=1"
        );
        assert_eq!(
            text(&of(&[], &[], &[&e]).unwrap()),
            "A=1 B= two words  HERE=there NOWHERE="
        );
        for wrong in [
            format!("k={d}"),
            format!("={x}"),
            "k=".into(),
            format!("a=b={x}"),
            path("no"),
        ] {
            assert!(of(&[], &[&wrong], &[]).is_err(), "{wrong}");
        }
        assert!(of(&[], &["k=/dev/zero"], &[]).is_err());
        for sources in [of(&[], &["/no/such"], &[]), of(&[], &[], &["/no/such"])] {
            assert_eq!(sources.unwrap_err().kind(), crate::Kind::NotFound);
        }
        for wrong in ["1A=x", "A B=x", "A=1\nA=2", "..=x"] {
            std::fs::write(dir.join("w"), wrong).unwrap();
            let fault = of(&[], &[], &[&path("w")]).unwrap_err().to_string();
            assert!(fault.contains("/w:"), "{fault}");
        }
        assert!(of(&["a=1"], &[], &[&e]).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
