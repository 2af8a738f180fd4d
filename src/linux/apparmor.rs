//! AppArmor: whether the kernel has it, which profiles are loaded, and the profile that
//! containers run under by default. See apparmor(7), apparmor_parser(8).
//!
//! The kernel takes profiles in a compiled form, which only apparmor_parser makes. A
//! process is put under a profile by [`crate::container`], at its exec.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Context, Error, Ignored, Result};

/// The name of the profile in [`TEXT`].
pub(crate) const DEFAULT: &str = "carob-default";

/// A loaded profile of the same name is not replaced, so a changed text needs another name.
const TEXT: &str = include_str!("apparmor.profile");

const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";
const PARSERS: [&str; 2] = ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"];

/// Whether this boot enforces AppArmor profiles.
pub(crate) fn is_enabled() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|t| t.starts_with(b"Y"))
}

/// Whether the kernel has a profile of that name.
pub(crate) fn is_loaded(name: &str) -> Result<bool> {
    let list = std::fs::read_to_string(PROFILES)
        .with_context(|| format!("open({PROFILES})"))
        .map_err(|e| {
            e.hint("mount securityfs: mount -t securityfs securityfs /sys/kernel/security")
        })?;
    Ok(lists(&list, name))
}

/// Each line is a name, which may have spaces and parentheses, and a mode: `a (b) (enforce)`.
fn lists(profiles: &str, name: &str) -> bool {
    let mut names = profiles.lines().filter_map(|l| l.rsplit_once(" ("));
    names.any(|(found, _)| found == name)
}

/// Loads the default profile, unless a profile of its name is loaded.
pub(crate) fn load_default() -> Result<()> {
    if is_loaded(DEFAULT)? {
        return Ok(());
    }
    let parser = PARSERS.iter().find(|p| Path::new(p).exists());
    let parser = parser.ok_or_else(|| {
        Error::not_found(format!(
            "the AppArmor profile {DEFAULT} is not loaded, and there is no apparmor_parser to \
             load it with"
        ))
        .hint("install the package apparmor")
    })?;
    load(parser, TEXT).with_context(|| format!("load the AppArmor profile {DEFAULT}"))
}

fn load(parser: &str, text: &str) -> Result<()> {
    // --replace: another process may load it at the same time. The parser's cache is for
    // profiles in files.
    let mut child = Command::new(parser)
        .args(["--replace", "--skip-cache"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("execve({parser:?})"))?;
    if let Some(mut input) = child.stdin.take() {
        input
            .write_all(text.as_bytes())
            .ignored("the parser ended early, and its standard error says why");
    }
    let output = child
        .wait_with_output()
        .with_context(|| format!("wait for {parser}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.lines().map(str::trim).collect();
    Err(Error::failed(format!(
        "{parser}: {}: {}",
        output.status,
        said.join(" ").trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_loaded_profiles() {
        let list = "/usr/bin/man (enforce)\na b (c) (complain)\nman_filter (enforce)\n";
        for (name, loaded) in [
            ("/usr/bin/man", true),
            ("a b (c)", true),
            ("man", false),
            ("man_filter", true),
            ("man_filter (enforce)", false),
            ("", false),
        ] {
            assert_eq!(lists(list, name), loaded, "{name:?}");
        }
    }

    /// The parser needs no AppArmor in the kernel to compile it.
    #[test]
    fn the_default_profile_is_one() {
        use sha2::{Digest, Sha256};
        let parser = PARSERS
            .iter()
            .find(|p| Path::new(p).exists())
            .expect("no apparmor_parser: `hack/setup test` installs it");
        let mut child = Command::new(parser)
            .args(["--skip-kernel-load", "--skip-cache", "--names"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(TEXT.as_bytes()).unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            DEFAULT,
            "the profile's name"
        );
        let rules: String = TEXT
            .lines()
            .filter(|l| !l.trim().starts_with('#'))
            .collect();
        let hash = Sha256::digest(rules);
        let hash: String = hash.iter().take(4).map(|b| format!("{b:02x}")).collect();
        assert_eq!(hash, "f346e84a", "give changed rules another name");
    }

    #[test]
    fn a_parser_that_refuses_is_quoted() {
        let parser = PARSERS.iter().find(|p| Path::new(p).exists()).unwrap();
        let e = load(parser, "profile x { nonsense }").unwrap_err();
        assert!(
            e.to_string().contains("apparmor_parser: exit status"),
            "{e}"
        );
    }
}
