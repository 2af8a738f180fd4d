# The verdicts of scripts for hack/machines, which call this in the repository's root:
# a line `CHECK ok NAME` or `CHECK FAILED NAME: WHY` for each check, and `bad`, which is 1
# after a failure.
#
# shellcheck shell=bash
# shellcheck disable=SC2034 # the caller's
bad=0
ok() { echo "CHECK ok $1"; }
failed() { echo "CHECK FAILED $1: $2"; bad=1; }
# is NAME WANTED FOUND; has NAME PART TEXT; like NAME PATTERN TEXT
is() { if [ "$2" = "$3" ]; then ok "$1"; else failed "$1" "not '$2' but '$3'"; fi; }
has() { case $3 in *"$2"*) ok "$1" ;; *) failed "$1" "no '$2' in: $3" ;; esac; }
like() { if [[ $3 =~ $2 ]]; then ok "$1"; else failed "$1" "'$3' is not like '$2'"; fi; }
# phase POD: what it is in.
# shellcheck disable=SC2317 # the scripts have wait_for call it
phase() { carob get pod "$1" -o 'jsonpath={.status.phase}'; }
# wait_for WHAT COMMAND...: until its output has WHAT; the output.
wait_for() {
    local what=$1 said i
    shift
    for ((i = 0; i < 150; i++)); do
        said=$("$@" 2>&1)
        case $said in *"$what"*) break ;; esac
        sleep 0.2
    done
    printf %s "$said"
}
