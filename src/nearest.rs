//! The name that a user most likely meant by one that does not exist: a field, a Pod, a
//! verb, a program. One rule for all of them, for `did you mean ...?`.

/// The candidate with the fewest edits, if so few are a slip of the keyboard: at most one
/// for each three letters of the longer name. Letters' case does not count. Of several
/// that are as near, the first by name.
pub(crate) fn nearest<'c>(
    name: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    // The time for one candidate is the product of the lengths.
    const LONGEST: usize = 64;
    if name.is_empty() || name.len() > LONGEST {
        return None;
    }
    let lower = name.to_lowercase();
    let most = |candidate: &str| name.len().max(candidate.len()) / 3;
    candidates
        .into_iter()
        .filter(|c| c.len() <= LONGEST && name.len().abs_diff(c.len()) <= most(c))
        .map(|c| (strsim::osa_distance(&lower, &c.to_lowercase()), c))
        .filter(|(edits, c)| *edits <= most(c))
        .min()
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_edit_for_three_letters() {
        let known = [
            "exec", "get", "hostIP", "image", "env", "envFrom", "web", "web-2", "sh", "x", "",
        ];
        for (name, near) in [
            ("imag", Some("image")),
            ("Image", Some("image")),
            ("IMGAE", Some("image")),
            ("gte", Some("get")),
            ("gt", Some("get")),
            ("envfrom", Some("envFrom")),
            ("hostip", Some("hostIP")),
            ("wbe", Some("web")),
            ("web-3", Some("web-2")),
            // As near: the first by name.
            ("wet", Some("get")),
            // So short a name is another one, not a slip.
            ("sg", None),
            ("y", None),
            ("", None),
            ("frobnicate", None),
        ] {
            assert_eq!(nearest(name, known), near, "{name}");
        }
        let long = "x".repeat(65);
        assert_eq!(nearest(&long, [long.as_str()]), None);
        assert_eq!(nearest("ab\u{e9}", ["ab\u{e8}"]), Some("ab\u{e8}"));
    }
}
