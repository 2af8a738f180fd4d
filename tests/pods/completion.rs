//! The words that a shell offers.

use std::process::Command;

use crate::root::{IMAGE, Root, script_pod};

/// What bash would offer for the last word of a line.
fn offered(root: &Root, line: &[&str]) -> Vec<String> {
    let script = root.carob(&["completion", "bash"]).ok();
    let words: String = line.iter().map(|w| format!(" '{w}'")).collect();
    let last = line.len();
    let run = format!(
        "{script}\ncarob() {{ '{}' --root '{}' \"$@\"; }}\n\
         COMP_WORDS=(carob{words}); COMP_CWORD={last}; _carob_words carob '{}' ''\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
        env!("CARGO_BIN_EXE_carob"),
        root.dir().display(),
        line.last().unwrap()
    );
    let output = Command::new("bash").args(["-c", &run]).output().unwrap();
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
    is(&["get", ""], &["pods", "pod", "pod/"]);
    is(&["get", "pods", "w"], &["web"]);
    is(&["wait", "pod/"], &["pod/web"]);
    is(&["exec", ""], &["web"]);
    is(&["logs", "web", "-c", ""], &["main"]);
    is(&["get", "pods", "-o", "j"], &["json", "jsonpath="]);
    is(&["run", "x", "--image", "local"], &[IMAGE]);
    is(&["rmi", ""], &[IMAGE]);
    is(&["get", "pods", "-n", ""], &["default"]);
    // What is not there is no error, and the grammar has the rest.
    is(&["-n", "none", "delete", "pod", "x"], &[]);
    is(&["vali"], &["validate"]);
    is(&["get", "--show"], &["--show-labels"]);
}
