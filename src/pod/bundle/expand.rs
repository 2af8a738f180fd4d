//! `$(NAME)` in commands, arguments, variables and paths: Kubernetes' API reference
//! (Container, `command` and `env`).

use std::collections::{BTreeMap, BTreeSet};

use super::fault::{LENGTH_MAX, config_error};
use crate::Result;

/// The variables that `$(NAME)` may name.
pub(super) type Vars = BTreeMap<String, String>;

/// `$(NAME)` becomes its value; `$$` is one `$`; a name without a value stays as it
/// is written.
pub(crate) fn expand(text: &str, vars: &Vars) -> String {
    expand_with(text, |name| match vars.get(name) {
        Some(value) => value.clone(),
        None => format!("$({name})"),
    })
}

/// Whether the expansion of this text has the value of one of these variables.
pub(super) fn mentions(text: &str, names: &BTreeSet<String>) -> bool {
    let mut found = false;
    expand_with(text, |name| {
        found |= names.contains(name);
        String::new()
    });
    found
}

/// As [`expand`], where a variable that is missing or empty would lead elsewhere: a
/// path of which a part is left out names another directory.
///
/// # Errors
/// [`Kind::Invalid`] with a kubelet's text and the variables' names.
pub(super) fn expand_all_or_fail(text: &str, vars: &Vars) -> Result<String> {
    let mut missing = BTreeSet::new();
    let expanded = expand_with(text, |name| {
        let value = vars.get(name).cloned().unwrap_or_default();
        if value.is_empty() {
            missing.insert(name.to_owned());
        }
        value
    });
    if missing.is_empty() {
        return Ok(expanded);
    }
    let missing = missing.into_iter().collect::<Vec<_>>().join(", ");
    Err(
        config_error(format!("missing value for {missing}")).hint(format!(
            "{text:?} is expanded from the container's env: set each variable that it names"
        )),
    )
}

fn expand_with(text: &str, mut value_of: impl FnMut(&str) -> String) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        if out.len() > LENGTH_MAX {
            return out;
        }
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(end) = rest.strip_prefix('(').and_then(|r| r.find(')')) {
            out.push_str(&value_of(&rest[1..=end]));
            rest = &rest[end + 2..];
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn an_expansion_ends_once_it_is_too_long() {
        let mut vars = Vars::from([("V0".into(), "x".repeat(1000))]);
        for i in 1..10 {
            let text = format!("$(V{})", i - 1).repeat(10);
            let value = expand(&text, &vars);
            assert!(value.len() <= 2 * (LENGTH_MAX + 1), "{}", value.len());
            vars.insert(format!("V{i}"), value);
        }
    }

    #[test]
    fn variables_expand_as_in_kubernetes() {
        let vars = Vars::from([("A".into(), "1".into()), ("B".into(), "$(A)".into())]);
        for (text, want) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(B)", "$(A)"),
            ("$(NONE)", "$(NONE)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("$()", "$()"),
            ("ü$(A)ü", "ü1ü"),
        ] {
            assert_eq!(expand(text, &vars), want, "{text}");
        }
    }

    #[test]
    fn a_path_with_a_missing_or_empty_variable_is_refused() {
        let vars = Vars::from([("A".into(), "1".into()), ("EMPTY".into(), String::new())]);
        for (text, want) in [
            ("a/$(A)", Ok("a/1")),
            ("$$(NONE)", Ok("$(NONE)")),
            ("$(EMPTY)", Err("missing value for EMPTY")),
            ("x/$(NONE)", Err("missing value for NONE")),
            (
                "$(NONE)$(A)$(EMPTY)$(NONE)",
                Err("missing value for EMPTY, NONE"),
            ),
            ("$()", Err("missing value for ")),
        ] {
            let got = expand_all_or_fail(text, &vars).map_err(|e| {
                assert_eq!(e.kind(), Kind::Invalid);
                e.to_string()
            });
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{text}");
        }
    }
}
