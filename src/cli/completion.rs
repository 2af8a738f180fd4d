//! `carob completion`: scripts for shells, made from the grammar itself.

use clap::Args;
use clap_complete::{Shell, generate};

use crate::Result;
use crate::cli::face::Face;
use crate::cli::{Verb, grammar, show::output};

#[path = "completion_words.rs"]
mod words;

// What the grammar does not know, the names of what is there, carob tells itself: each
// script asks for the words that can stand at the cursor, and falls back to the grammar.

// Bash's readline breaks words at each character of COMP_WORDBREAKS, so that
// localhost/app:1 comes in three. They are put together again by the line, in which no
// blank is between them; and readline replaces only what follows the last break, so that
// the rest is all that it may be given.
const BASH: &str = r#"
_carob_words() {
    local line=$COMP_LINE word words=() i prefix='' break
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case $line in
            '' | [[:space:]]*) words+=("$word") ;;
            *) if ((i > 0)); then words[-1]+=$word; else words+=("$word"); fi ;;
        esac
        line=${line#"${line%%[![:space:]]*}"}
        line=${line#"$word"}
    done
    mapfile -t COMPREPLY < <(carob completion bash -- "${words[@]:1}" 2>/dev/null)
    if [ ${#COMPREPLY[@]} -eq 0 ]; then
        _carob "$@"
        return
    fi
    # What is not the whole word yet gets no blank behind it.
    case ${#COMPREPLY[@]}$COMPREPLY in 1*[=/] | 1pods.*) compopt -o nospace 2>/dev/null ;; esac
    word=${words[-1]}
    for break in : =; do
        if [[ $COMP_WORDBREAKS == *"$break"* && ${word##*"$break"} != "$word" ]]; then
            line=${word%"${word##*"$break"}"}
            [ ${#line} -le ${#prefix} ] || prefix=$line
        fi
    done
    COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
}
complete -F _carob_words -o bashdefault -o default carob
"#;

const ZSH: &str = r#"
_carob_words() {
    local -a names
    names=( ${(f)"$(carob completion zsh -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)"} )
    if (( $#names )); then compadd -a names; else _carob "$@"; fi
}
(( $+functions[compdef] )) && compdef _carob_words carob
"#;

const FISH: &str = r#"
complete -c carob -a '(carob completion fish -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
"#;

#[derive(Args, Debug)]
pub(super) struct Completion {
    /// bash, zsh or fish
    #[arg(value_name = "SHELL", value_parser = ["bash", "zsh", "fish"])]
    shell: String,
    /// For the scripts: print what the last of these words can be, one a line
    #[arg(last = true, value_name = "WORDS", hide = true)]
    words: Vec<String>,
}

impl Verb for Completion {
    const NAME: &'static str = "completion";
    const ABOUT: &'static str = "Print a script that completes carob's command line";
    const EXAMPLES: &'static str = "Examples:\n\
        \x20 . <(carob completion bash)\n\
        \x20 carob completion fish >~/.config/fish/completions/carob.fish";

    fn needs_root(&self) -> bool {
        false
    }

    fn run(self, face: &Face) -> Result<u8> {
        if !self.words.is_empty() {
            let text: String = words::candidates(face, &self.words)
                .iter()
                .map(|w| format!("{w}\n"))
                .collect();
            output::text(&text, false)?;
            return Ok(0);
        }
        let shell = match self.shell.as_str() {
            "zsh" => Shell::Zsh,
            "fish" => Shell::Fish,
            _ => Shell::Bash,
        };
        let mut script = Vec::new();
        generate(shell, &mut grammar(), "carob", &mut script);
        script.extend_from_slice(
            match shell {
                Shell::Zsh => ZSH,
                Shell::Fish => FISH,
                _ => BASH,
            }
            .as_bytes(),
        );
        output::text(&String::from_utf8_lossy(&script), true)?;
        Ok(0)
    }
}
