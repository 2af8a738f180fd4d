//! The command line, parsed by hand: this program starts for every container of
//! another engine, several times, and most of what it does is over in a
//! millisecond.
//!
//! The grammar is runc's: flags before the first operand (elsewhere too, where no
//! command follows), `--flag value`, `--flag=value`, one dash as good as two.

use crate::{Error, Kind, Result};

/// A flag's long name, its short one (or '\0'), its value's name (or "" for none),
/// and what it means.
pub(crate) type Flag = (&'static str, char, &'static str, &'static str);

/// What was given.
#[derive(Debug, Default)]
pub(crate) struct Args {
    flags: Vec<(&'static str, String)>,
    pub operands: Vec<String>,
}

/// How operands and flags may mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Everything after the first operand is left alone.
    FlagsFirst,
    Any,
}

pub(crate) fn usage(message: impl Into<String>) -> Error {
    Error::new(Kind::Usage, message)
}

impl Args {
    pub(crate) fn parse(
        flags: &[Flag],
        order: Order,
        mut words: impl Iterator<Item = String>,
    ) -> Result<Args> {
        let mut args = Args::default();
        while let Some(word) = words.next() {
            let name = match word.strip_prefix("--").or_else(|| word.strip_prefix('-')) {
                // A lone dash is stdin.
                Some(name) if !name.is_empty() => name,
                Some(_) if word == "--" => {
                    args.operands.extend(words);
                    break;
                }
                _ => {
                    args.operands.push(word);
                    if order == Order::FlagsFirst {
                        args.operands.extend(words);
                        break;
                    }
                    continue;
                }
            };
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            let is = |f: &&Flag| f.0 == name || f.1 != '\0' && name.chars().eq([f.1]);
            let Some((long, _, value_name, _)) = flags.iter().find(is) else {
                return Err(usage(format!("flag provided but not defined: {word}"))
                    .hint("--help shows what there is"));
            };
            let value = match (value_name.is_empty(), value) {
                (true, None) => "true".to_owned(),
                (true, Some(v)) if matches!(&*v, "true" | "false") => v,
                (true, Some(v)) => {
                    return Err(usage(format!("--{long}: {v:?}: it is true or false")));
                }
                (false, Some(v)) => v,
                (false, None) => words
                    .next()
                    .ok_or_else(|| usage(format!("flag needs an argument: {word}")))?,
            };
            args.flags.push((long, value));
        }
        Ok(args)
    }

    /// The last value given.
    pub(crate) fn get(&self, flag: &str) -> Option<&str> {
        let mut given = self.flags.iter().rev();
        given.find(|(f, _)| *f == flag).map(|(_, v)| v.as_str())
    }

    pub(crate) fn all(&self, flag: &str) -> impl Iterator<Item = &str> {
        let given = self.flags.iter().filter(move |(f, _)| *f == flag);
        given.map(|(_, v)| v.as_str())
    }

    pub(crate) fn is(&self, flag: &str) -> bool {
        self.get(flag) == Some("true")
    }

    pub(crate) fn path(&self, flag: &str) -> Option<std::path::PathBuf> {
        self.get(flag).filter(|v| !v.is_empty()).map(Into::into)
    }

    /// A number from 0 to `most`.
    pub(crate) fn number(&self, flag: &str, most: u32) -> Result<Option<u32>> {
        let parse = |text: &str| match text.parse::<u32>() {
            Ok(n) if n <= most => Ok(n),
            _ => Err(usage(format!("--{flag}: {text:?}: a number up to {most}"))),
        };
        self.get(flag).map(parse).transpose()
    }

    /// The only operand, a container's id.
    pub(crate) fn id(&self) -> Result<&str> {
        match self.operands.as_slice() {
            [id] if !id.is_empty() => Ok(id),
            [] => Err(usage("a container's id is missing")),
            [id] => Err(usage(format!("{id:?}: no container's id"))),
            [_, more, ..] => Err(usage(format!("one operand too many: {more:?}"))),
        }
    }
}

/// Help, in one form for the program and its verbs.
pub(crate) fn describe(flags: &[Flag]) -> String {
    let mut text = String::new();
    for (long, short, value, meaning) in flags {
        let mut left = match short {
            '\0' => format!("      --{long}"),
            short => format!("  -{short}, --{long}"),
        };
        if !value.is_empty() {
            left.push_str(&format!(" {value}"));
        }
        text.push_str(&format!("{left:<32} {meaning}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: [Flag; 3] = [
        ("bundle", 'b', "PATH", ""),
        ("detach", 'd', "", ""),
        ("env", 'e', "NAME=VALUE", ""),
    ];

    fn parse(order: Order, line: &str) -> Result<Args> {
        Args::parse(&FLAGS, order, line.split(' ').map(str::to_owned))
    }

    #[test]
    fn flags_and_operands() {
        let a = parse(
            Order::FlagsFirst,
            "-b /x --detach -e A=1 --env=B=2 id sh -b -c",
        )
        .unwrap();
        assert_eq!(a.get("bundle"), Some("/x"));
        assert!(a.is("detach"));
        assert_eq!(a.all("env").collect::<Vec<_>>(), ["A=1", "B=2"]);
        assert_eq!(a.operands, ["id", "sh", "-b", "-c"]);
        let a = parse(Order::Any, "id --detach=false - -b=/y").unwrap();
        assert_eq!(a.operands, ["id", "-"]);
        assert!(!a.is("detach"));
        assert_eq!(a.path("bundle").unwrap().to_str(), Some("/y"));
        assert!(parse(Order::Any, "--nope").is_err());
        assert!(parse(Order::Any, "id --bundle").is_err());
        assert!(parse(Order::Any, "--detach=maybe").is_err());
    }
}
