//! Command lines of carob in texts: they are to be typed as they stand, so that each needs
//! the `--root` of the Pods that the text is about.

use std::path::Path;

/// The verbs that texts name. A unit test of `cli` compares them with its own table.
pub(crate) const VERBS: &[&str] = &[
    "apply",
    "create",
    "replace",
    "patch",
    "edit",
    "diff",
    "run",
    "get",
    "describe",
    "why",
    "events",
    "top",
    "logs",
    "exec",
    "attach",
    "debug",
    "cp",
    "wait",
    "restart",
    "pause",
    "resume",
    "label",
    "annotate",
    "delete",
    "pull",
    "push",
    "load",
    "save",
    "images",
    "inspect",
    "tag",
    "pin",
    "unpin",
    "rmi",
    "image-prune",
    "system",
    "doctor",
    "validate",
    "explain",
    "version",
    "completion",
    "man",
];

/// `text` with `--root` after each `carob` that a verb follows. Other uses of the word, and
/// command lines that have their `--root` already, stay as they are.
pub(crate) fn with_root(text: &str, root: Option<&Path>) -> String {
    let Some(root) = root else {
        return text.to_owned();
    };
    let mut root = root.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%=:,".contains(c);
    if root.is_empty() || !root.chars().all(plain) {
        root = format!("'{}'", root.replace('\'', r"'\''"));
    }
    let mut parts = text.split("carob ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let verb = part
            .split([' ', '`', ',', ':', ')', ';'])
            .next()
            .unwrap_or_default();
        out.push_str("carob ");
        if VERBS.contains(&verb) {
            out.push_str(&format!("--root {root} "));
        }
        out.push_str(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_have_the_root_once() {
        let hint = "`carob logs -p web -n a` shows it; carob needs root, carob-oci does too";
        assert_eq!(with_root(hint, None), hint);
        let root = Some(Path::new("/a b"));
        let placed = with_root(hint, root);
        assert_eq!(
            placed,
            "`carob --root '/a b' logs -p web -n a` shows it; carob needs root, carob-oci does too"
        );
        assert_eq!(with_root(&placed, root), placed);
    }
}
