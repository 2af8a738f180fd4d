//! The words that a shell offers.

use std::process::Command;

use crate::root::{IMAGE, Root, script_pod};

/// What bash would offer for the last word of a line, which it breaks at colons and equals
/// signs before the script sees it.
fn offered(root: &Root, line: &[&str]) -> Vec<String> {
    let script = root.carob(&["completion", "bash"]).ok();
    let mut broken: Vec<String> = vec!["carob".into()];
    for word in line {
        let mut parts: Vec<String> = Vec::new();
        for c in word.chars() {
            let breaks = |c: char| c == ':' || c == '=';
            match parts.last_mut() {
                Some(last) if !breaks(c) && !last.ends_with(breaks) => last.push(c),
                _ => parts.push(c.into()),
            }
        }
        if parts.is_empty() {
            parts.push(String::new());
        }
        broken.extend(parts);
    }
    let words: String = broken.iter().map(|w| format!(" '{w}'")).collect();
    let run = format!(
        "{script}\ncarob() {{ '{}' --root '{}' \"$@\"; }}\n\
         COMP_WORDBREAKS=$' \\t\\n\"\\'><=;|&(:'; COMP_LINE='carob {}'; \
         COMP_WORDS=({words}); COMP_CWORD={}; _carob_words carob '{}' ''\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
        env!("CARGO_BIN_EXE_carob"),
        root.dir().display(),
        line.join(" "),
        broken.len() - 1,
        broken.last().unwrap()
    );
    // One argument of a program has at most 128 KiB.
    let file = root.dir().join("completion.bash");
    std::fs::write(&file, run).unwrap();
    let output = Command::new("bash").arg(&file).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let text = String::from_utf8(output.stdout).unwrap();
    let words = text.lines().filter(|l| !l.is_empty());
    words.map(str::to_owned).collect()
}

#[test]
fn bash_knows_what_is_there() {
    let root = Root::new();
    root.apply(&script_pod("web", "Never", 0, "exec sleep 1000"))
        .ok();
    let is = |line: &[&str], want: &[&str]| assert_eq!(offered(&root, line), want, "{line:?}");
    let objects = [
        "namespaces",
        "configmaps",
        "secrets",
        "persistentvolumeclaims",
    ];
    is(
        &["get", ""],
        &[&["pods", "pod", "pod/"][..], &objects].concat(),
    );
    is(&["describe", "ns", "d"], &["default"]);
    is(&["get", "pods", "w"], &["web"]);
    is(&["wait", "pod/"], &["pod/web"]);
    is(&["exec", ""], &["web"]);
    is(&["logs", "web", "-c", ""], &["main"]);
    is(&["get", "pods", "-o", "j"], &["json", "jsonpath="]);
    is(&["events", "--for", ""], &["pod/web"]);
    is(&["events", "--types", ""], &["Normal", "Warning"]);
    is(&["--log-level", "d"], &["debug"]);
    is(&["run", "x", "--image", "local"], &[IMAGE]);
    is(&["rmi", ""], &[IMAGE]);
    // Readline keeps what stands before the last colon.
    let (name, tag) = IMAGE.rsplit_once(':').unwrap();
    is(&["rmi", &format!("{name}:")], &[tag]);
    is(&["rmi", &IMAGE[..IMAGE.len() - 1]], &[tag]);
    is(&["rmi", "none:1", &format!("{name}:")], &[tag]);
    is(&["run", "x", "--image", name], &[IMAGE]);
    is(&["get", "pods", "-o", "jsonpath="], &[]);
    is(&["get", "pods", "-n", ""], &["default"]);
    // What is not there is no error, and the grammar has the rest.
    is(&["-n", "none", "delete", "pod", "x"], &[]);
    is(&["vali"], &["validate"]);
    is(&["get", "--show"], &["--show-labels"]);
    is(
        &["get", "pods", "-o", "custom-columns-"],
        &["custom-columns-file="],
    );
    is(&["label", "pod", ""], &["web"]);
}
