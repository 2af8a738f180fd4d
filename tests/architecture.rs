//! Which folder of `src/` may import which. A new import that is not in the table is
//! either in the wrong file, or the table and docs/ARCHITECTURE.md change with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A folder, and the folders it may import; from the top floor down. [`FOR_ALL`] may be
/// imported by all.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    (
        "cli",
        &[
            "image", "linux", "manifest", "object", "pod", "spec", "store", "sys",
        ],
    ),
    ("oci_cli", &["container", "linux", "oci", "sys"]),
    ("manifest", &["spec"]),
    (
        "pod",
        &[
            "container",
            "image",
            "linux",
            "network",
            "object",
            "oci",
            "spec",
            "store",
            "sys",
            "volume",
        ],
    ),
    ("oci", &["container", "linux", "store", "sys"]),
    ("image", &["linux", "spec", "store", "sys"]),
    ("network", &["linux", "spec", "store", "sys"]),
    ("object", &["linux", "spec", "store"]),
    ("volume", &["linux", "spec", "store"]),
    ("container", &["linux", "sys"]),
    ("linux", &["sys"]),
    ("store", &[]),
    ("spec", &[]),
    ("sys", &[]),
    ("debug_log", &[]),
    ("error", &[]),
    ("nearest", &[]),
    ("plain", &[]),
];

/// Files of `src/` that import nothing but each other, and that every folder may import.
const FOR_ALL: &[&str] = &["debug_log", "error", "nearest", "plain"];

/// A source file: its module as a path below `crate`, and its text without comments
/// and tests.
struct Source {
    file: PathBuf,
    module: Vec<String>,
    text: String,
}

/// Every `.rs` file of `src/`: its path below that, and its whole text.
fn files() -> Vec<(PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut dirs = vec![src.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(&src).unwrap().to_owned(), text));
            }
        }
    }
    found
}

/// The product's files, without those of tests.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for (below, text) in files() {
        let is_test = below.to_str().unwrap().contains("tests.rs");
        if !below.starts_with("bin") && !is_test {
            let mut module: Vec<String> = below
                .with_extension("")
                .iter()
                .map(|part| part.to_str().unwrap().to_owned())
                .collect();
            if matches!(module.last().unwrap().as_str(), "mod" | "lib") {
                module.pop();
            }
            let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
            let code: Vec<&str> = code
                .lines()
                .map(|line| line.split("//").next().unwrap_or_default())
                .collect();
            found.push(Source {
                file: below,
                module,
                text: code.join("\n"),
            });
        }
    }
    assert!(found.len() > 100, "{} files", found.len());
    found
}

/// Every path that begins with `crate::` or `super::`, from the crate's root; the trees
/// of `use` are taken apart.
fn imports(source: &Source) -> BTreeSet<Vec<String>> {
    let mut paths = BTreeSet::new();
    for start in ["crate::", "super::"] {
        for (at, _) in source.text.match_indices(start) {
            let before = source.text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let parent = match start {
                "crate::" => Vec::new(),
                _ => source.module.clone(),
            };
            let rest = match start {
                "crate::" => &source.text[at + start.len()..],
                _ => &source.text[at..],
            };
            tree(parent, rest, &mut paths);
        }
    }
    paths
}

/// One path, or a tree in braces; returns how much of `text` it is.
fn tree(mut path: Vec<String>, text: &str, paths: &mut BTreeSet<Vec<String>>) -> usize {
    let mut at = 0;
    loop {
        let rest = &text[at..];
        if rest.starts_with('{') {
            at += 1;
            loop {
                let blank = |c: char| c.is_whitespace() || c == ',';
                at += text[at..].len() - text[at..].trim_start_matches(blank).len();
                if text[at..].starts_with('}') || at == text.len() {
                    return at + 1;
                }
                let one = tree(path.clone(), &text[at..], paths);
                // Such as `*`, or ` as NAME`.
                let skipped = text[at + one..].find([',', '}', '{']).unwrap_or(0);
                at += one + skipped;
            }
        }
        let length = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        match &rest[..length] {
            "super" => drop(path.pop()),
            "self" | "" => {}
            name => path.push(name.to_owned()),
        }
        at += length;
        if !text[at..].starts_with("::") {
            paths.insert(path);
            return at;
        }
        at += 2;
    }
}

#[test]
fn no_folder_imports_another_that_it_may_not() {
    let folders: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for source in sources() {
        let Some(own) = source.module.first() else {
            continue;
        };
        let Some(allowed) = folders.get(own.as_str()) else {
            panic!("src/{own} has no line in MAY_IMPORT of tests/architecture.rs");
        };
        for path in imports(&source) {
            let Some(to) = path.first().filter(|to| *to != own) else {
                continue;
            };
            if !folders.contains_key(to.as_str()) || FOR_ALL.contains(&to.as_str()) {
                continue;
            }
            used.insert((own.clone(), to.clone()));
            if !allowed.contains(&to.as_str()) {
                wrong.push(format!(
                    "src/{} imports {}: {own} may import {allowed:?}",
                    source.file.display(),
                    path.join("::")
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{wrong:#?}\nMove the code to a folder that may, or what it needs to one below \
         (docs/ARCHITECTURE.md)"
    );
    let unused: Vec<_> = MAY_IMPORT
        .iter()
        .flat_map(|(from, all)| all.iter().map(move |to| (from.to_string(), to.to_string())))
        .filter(|edge| !used.contains(edge))
        .collect();
    assert!(
        unused.is_empty(),
        "nothing imports these any more, so take them out of MAY_IMPORT: {unused:?}"
    );
}

/// The table itself: each folder imports only such as stand below it.
#[test]
fn the_folders_have_no_circle() {
    for (floor, (from, all)) in MAY_IMPORT.iter().enumerate() {
        for to in *all {
            let below = MAY_IMPORT.iter().position(|(name, _)| name == to).unwrap();
            assert!(floor < below, "{from} stands above {to}, which it imports");
        }
    }
}

/// Circles of files that a folder of `src/` may have: two files that know each other are
/// one subject in two parts, and a third pair says that the folder's parts are cut wrongly.
const MOST_CIRCLES: usize = 2;

#[test]
fn files_know_each_other_one_way() {
    let sources = sources();
    let files: BTreeSet<&[String]> = sources.iter().map(|s| s.module.as_slice()).collect();
    let edges: BTreeMap<&[String], BTreeSet<&[String]>> = sources
        .iter()
        .map(|source| {
            let own = source.module.as_slice();
            let file = |path: &Vec<String>| {
                let prefixes = (1..=path.len()).rev().map(|n| &path[..n]);
                prefixes.filter_map(|p| files.get(p).copied()).next()
            };
            let to = imports(source)
                .iter()
                .filter_map(file)
                .collect::<BTreeSet<_>>();
            (own, to.into_iter().filter(|to| *to != own).collect())
        })
        .collect();
    let reached = |from: &[String]| {
        let mut seen = BTreeSet::new();
        let mut left: Vec<&[String]> = edges[from].iter().copied().collect();
        while let Some(next) = left.pop() {
            if seen.insert(next) {
                left.extend(&edges[next]);
            }
        }
        seen
    };
    let reaches: BTreeMap<&[String], BTreeSet<&[String]>> =
        files.iter().map(|f| (*f, reached(f))).collect();
    let mut circles: BTreeMap<&str, BTreeSet<Vec<String>>> = BTreeMap::new();
    for file in files.iter().filter(|f| reaches[*f].contains(*f)) {
        let members = files
            .iter()
            .filter(|other| reaches[*file].contains(*other) && reaches[*other].contains(*file));
        let circle: Vec<_> = members.map(|m| m.join("/")).collect();
        circles.entry(&file[0]).or_default().insert(circle);
    }
    for (folder, circles) in circles {
        for circle in &circles {
            let own = format!("{folder}/");
            assert!(circle.iter().all(|f| f.starts_with(&own)), "{circle:?}");
        }
        assert!(
            circles.len() <= MOST_CIRCLES,
            "src/{folder}: {circles:#?}\nmore than {MOST_CIRCLES} circles of files: move what \
             both need to a file of its own"
        );
    }
}

/// The types of a config.json are read by `oci`, and written for a Pod's bundle.
#[test]
fn the_mechanism_knows_no_config_json() {
    for source in sources() {
        let own = source.module.first().map_or("", String::as_str);
        assert!(
            matches!(own, "oci" | "oci_cli" | "pod") || !source.text.contains("oci_spec"),
            "src/{}: oci_spec is for src/oci/; give this function plain values",
            source.file.display()
        );
    }
}

/// Lines of a source file, its tests included.
const LONGEST_FILE: usize = 650;
/// Lines of a function of the product.
const LONGEST_FUNCTION: usize = 100;

fn begins_function(line: &str) -> bool {
    let is_before = |word: &&str| {
        matches!(*word, "pub" | "const" | "unsafe" | "extern")
            || word.starts_with("pub(")
            || word.starts_with('"')
    };
    let mut words = line.split_whitespace().skip_while(is_before);
    words.next() == Some("fn") && !line.ends_with(';')
}

#[test]
fn files_and_functions_can_be_read() {
    let mut long = Vec::new();
    for (file, text) in files() {
        let lines = text.lines().count();
        if lines > LONGEST_FILE {
            long.push(format!("src/{}: {lines} lines", file.display()));
        }
    }
    for source in sources() {
        let file = source.file.display();
        let lines: Vec<&str> = source.text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let indent = &line[..line.len() - line.trim_start().len()];
            // rustfmt puts the end of a function below its beginning.
            let end = format!("{indent}}}");
            let length = lines[at..].iter().position(|line| *line == end);
            if begins_function(line) && length.is_some_and(|n| n >= LONGEST_FUNCTION) {
                long.push(format!("src/{file}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    assert!(
        long.is_empty(),
        "{long:#?}\nmore than {LONGEST_FILE} lines of a file or {LONGEST_FUNCTION} of a function: \
         take a part out that has a name"
    );
}

#[test]
fn unsafe_is_in_sys_alone() {
    for source in sources() {
        let found = ["unsafe {", "unsafe fn", "unsafe impl", "allow(unsafe_code)"]
            .iter()
            .find(|word| source.text.contains(**word));
        assert!(
            found.is_none() || source.module.first().is_some_and(|top| top == "sys"),
            "src/{}: {found:?}: give the call a safe function in src/sys/",
            source.file.display()
        );
    }
}

#[test]
fn decisions_have_one_form() {
    const PARTS: [&str; 6] = [
        "Decision",
        "Reasons",
        "Other ways",
        "Consequences",
        "Figures",
        "Reconsider when",
    ];
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/decisions");
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let number = &path.file_name().unwrap().to_str().unwrap()[..4];
        let title = format!("# {number}: ");
        let parts: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("## ")).collect();
        assert!(
            text.starts_with(&title)
                && parts.first() == Some(&PARTS[0])
                && parts.iter().all(|part| PARTS.contains(part)),
            "{}: a decision has the title {title:?} and the parts {PARTS:?}, the first one \
             always: {parts:?}",
            path.display()
        );
    }
}

#[test]
fn the_changelog_has_its_headings_once() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("CHANGELOG.md");
    let text = std::fs::read_to_string(file).unwrap();
    let release = text.split("\n## ").nth(1).unwrap();
    assert!(release.starts_with("[Unreleased]"), "{:.40}", release);
    let headings: Vec<&str> = release.lines().filter(|l| l.starts_with("### ")).collect();
    let known = [
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    ];
    for heading in &headings {
        assert!(
            known.contains(&&heading[4..]),
            "{heading}: one of {known:?}"
        );
    }
    let once: BTreeSet<_> = headings.iter().collect();
    assert_eq!(once.len(), headings.len(), "a heading twice: {headings:?}");
}

#[test]
fn trees_of_use_are_taken_apart() {
    let source = Source {
        file: PathBuf::new(),
        module: vec!["a".into(), "b".into()],
        text: "use crate::{Error, x::{self, Y as Z, z::*}};\nuse super::{c::D, e};\n\
               fn f() { crate::g::h(super::i) }"
            .into(),
    };
    let found: Vec<String> = imports(&source).iter().map(|p| p.join("::")).collect();
    assert_eq!(
        found,
        [
            "Error", "a::c::D", "a::e", "a::i", "g::h", "x", "x::Y", "x::z"
        ]
    );
}
