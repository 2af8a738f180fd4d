#!/bin/bash
# Pods on a machine whose init is systemd: they outlive the session that made them
# and whatever the administrator does to systemd, with the limits that they had, and
# a shutdown gives them their grace period. docs/decisions/0013-systemd-machines.md.
#
#   hack/machines NAME --reboots --script tests/machines/systemd.sh
#
# It runs three times: again after `systemctl isolate rescue.target`, which takes the
# session of this script with it, and again after a reboot.
set -u
# A first line on stdout for each check: `CHECK ok NAME` or `CHECK FAILED NAME: WHY`.
failed=/opt/carob-systemd-failed
check() { # NAME WANTED FOUND
    if [ "$2" = "$3" ]; then
        echo "CHECK ok $1"
    else
        echo "CHECK FAILED $1: not '$2' but '$3'"
        touch "$failed"
    fi
}
end() { # of this machine, with a status
    [ ! -e "$failed" ] || exit 1
    exit 0
}

top=/sys/fs/cgroup/carob
unit=carob-pods.service
# One for all boots: the disk is kept, /run is not.
kept=/srv/carob-systemd
mkdir -p "$kept"

pod() { # NAME COMMAND [LINE of the container...]
    cat <<END
apiVersion: v1
kind: Pod
metadata: {name: $1}
spec:
  terminationGracePeriodSeconds: 20
  volumes:
  - {name: kept, hostPath: {path: $kept}}
  - {name: scratch, emptyDir: {}}
  containers:
  - name: main
    image: localhost/carob/busybox:1
    command: [sh, -c, '$2']
    volumeMounts: [{name: kept, mountPath: /kept}, {name: scratch, mountPath: /scratch}]
    resources: {requests: {cpu: 250m}, limits: {cpu: 500m, memory: 64Mi}}
END
    shift 2
    [ $# -eq 0 ] || printf '    %s\n' "$@"
}
# shellcheck disable=SC2016 # the container's shell expands it
# A number a line, without a hole as long as its log has none.
count='i=0; trap "exit 0" TERM; while :; do echo $i; i=$((i + 1)); sleep 0.2; done'
hole() { carob logs count | awk '$1 != NR - 1 { print "line " NR " is " $1; exit } END { if (NR < 2) print NR " lines" }'; }
limits() {
    local dir
    for dir in "$top"/pod* "$top"/pod*/main; do
        (cd "$dir" && cat memory.max memory.swap.max cpu.weight cpu.max pids.max | tr '\n' ' ' && echo)
    done
}
restarts() { carob get pod count -o 'jsonpath={.status.phase} {.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].containerID}'; }
state_of() { systemctl show -P ActiveState "$1"; }
# Once a line more is in its log, it has run since.
still() { # WHAT
    local lines
    lines=$(carob logs count | wc -l)
    for _ in $(seq 100); do
        [ "$(carob logs count | wc -l)" -le "$lines" ] || break
        sleep 0.1
    done
    check "$1: the Pod runs on" "$(cat "$kept/restarts")" "$(restarts)"
    check "$1: its log has no hole" "" "$(hole)"
    check "$1: its limits" "$(cat "$kept/limits")" "$(limits)"
    check "$1: the service" active "$(state_of $unit)"
}

first() {
    mkdir -p /etc/systemd/logind.conf.d
    printf '[Login]\nKillUserProcesses=yes\n' >/etc/systemd/logind.conf.d/carob-test.conf
    systemctl restart systemd-logind
    # So that the next boot can read what this one's shutdown has said.
    mkdir -p /var/log/journal && journalctl --flush
    carob load -i "$IMAGES/busybox.tar" >/dev/null
    pod count "$count" >"$kept/count.yaml"
    # A session of its own: this script is in one already, which `su` would share.
    systemd-run --quiet --wait --pipe --uid=user -p PAMName=login \
        sh -c "cat /proc/self/cgroup; sudo carob apply -f $kept/count.yaml; setsid sleep 4321 >/dev/null 2>&1 </dev/null & sleep 0.5" >/tmp/session 2>&1
    check "the Pod is made in a session" "1 1" "$(grep -c 'session-.*\.scope' /tmp/session) $(grep -c 'pod/count created' /tmp/session)"
    for _ in $(seq 100); do
        pgrep -f 'sleep 4321' >/dev/null || break
        sleep 0.1
    done
    check "logout kills what the session leaves" "" "$(pgrep -f 'sleep 4321')"
    restarts >"$kept/restarts"
    limits >"$kept/limits"
    check "no limit is missing" 2 "$(grep -c '^67108864 .* 50000 100000 ' "$kept/limits")"
    check "the monitor is in no unit" 1 "$(grep -sl carob-monitor /proc/[0-9]*/comm | sed 's/comm$/cgroup/' | xargs cat | grep -c '^0::/carob/monitor$')"
    still logout

    systemctl daemon-reload
    still daemon-reload
    systemctl daemon-reexec
    still daemon-reexec
    # A unit that needs a controller has systemd write the root's
    # cgroup.subtree_control; when it goes, systemd takes the controller out again.
    systemd-run --quiet --unit=neighbour -p CPUWeight=50 -p MemoryMax=100M -p AllowedCPUs=0 -p IOWeight=10 sleep 1000
    systemctl set-property --runtime neighbour.service CPUWeight=33 MemoryMax=50M
    still "a unit with limits"
    systemctl stop neighbour.service
    systemctl daemon-reload
    still "no unit with limits"
    systemctl isolate multi-user.target
    still "isolate multi-user.target"

    local id
    id=$(systemctl show -P InvocationID $unit)
    pod second "$count" | carob apply -f - >/dev/null
    check "the second Pod has the same service" "$id" "$(systemctl show -P InvocationID $unit)"
    carob delete pod second >/dev/null
    check "the service stays with a Pod" active "$(state_of $unit)"
    last_and_next

    echo "machine: systemctl isolate rescue.target"
    systemd-run --quiet -p DefaultDependencies=no -p IgnoreOnIsolate=yes \
        sh -c 'systemctl isolate rescue.target; sleep 2; systemctl isolate multi-user.target'
    sleep infinity
}

# The last Pod of a private root goes while another is made: the service is there
# with a Pod, and gone without.
last_and_next() {
    local root=/var/tmp/carob-machine tag own
    mkdir -p $root
    c() { carob --root $root "$@"; }
    c load -i "$IMAGES/busybox.tar" >/dev/null
    pod a 'exec sleep 1000' >/tmp/a.yaml
    pod b 'exec sleep 1000' >/tmp/b.yaml
    c apply -f /tmp/a.yaml >/dev/null
    own=$(basename "$(ls /run/systemd/transient/carob-pods-*.service)")
    check "a private root has a service of its own" active "$(state_of "$own")"
    local old=a new=b wrong=
    for _ in 1 2 3 4 5 6; do
        c delete pod $old --grace-period=0 --force --wait=true >/dev/null 2>&1 &
        c apply -f /tmp/$new.yaml >/dev/null
        wait $!
        [ "$(state_of "$own")" = active ] || wrong="$wrong $new:$(state_of "$own")"
        tag=$old old=$new new=$tag
    done
    check "the service follows the Pods" "" "$wrong"
    c delete pods --all --grace-period=0 --force --wait=true >/dev/null 2>&1
    check "no Pod, no service" "not-found no" \
        "$(systemctl show -P LoadState "$own") $([ -e "/run/systemd/transient/$own" ] && echo yes || echo no)"
    c apply -f /tmp/a.yaml >/dev/null
    systemctl stop "$own"
    check "stopping the service terminates the Pods" "Failed Terminated" \
        "$(c get pod a -o 'jsonpath={.status.phase} {.status.reason}')"
    c delete pod a >/dev/null
    rm -rf --one-file-system $root
}

second() {
    still "isolate rescue.target"
    rm -f "$kept"/term-*
    # The hook, TERM, three seconds of work: all with the network and the disk there.
    # shellcheck disable=SC2016 # the container's shell expands it
    pod works 'trap "sleep 3; ip -o link show eth0 | grep -c UP >/kept/term-network; echo after 3 s >/kept/term-work; exit 0" TERM; while :; do sleep 0.1; done' \
        'lifecycle: {preStop: {exec: {command: [sh, -c, "echo hook >/kept/term-hook"]}}}' | carob apply -f - >/dev/null
    pod deaf 'trap "" TERM; while :; do sleep 0.1; done' | sed 's/Seconds: 20/Seconds: 4/' | carob apply -f - >/dev/null
    ls /var/lib/carob/pods >"$kept/uids"
    check "Pods have files on the disk" 3 "$(wc -l <"$kept/uids")"
    echo "machine: systemctl reboot"
    systemctl reboot
    sleep infinity
}

third() {
    check "the reboot ran the preStop hook" hook "$(cat "$kept/term-hook" 2>&1)"
    check "and gave the grace period" "after 3 s" "$(cat "$kept/term-work" 2>&1)"
    check "while the network was up" 1 "$(cat "$kept/term-network" 2>&1)"
    journalctl -b -1 -u $unit --no-pager -o cat 2>/dev/null | sed 's/^/# /'
    check "no Pod of the former boot" "" "$(carob get pods -o name 2>/dev/null)"
    pod next 'exec sleep 1000' | carob apply -f - >/dev/null
    local uid left=
    while read -r uid; do
        [ "$(ls "/var/lib/carob/pods/$uid")" = gone ] || left="$left $uid"
    done <"$kept/uids"
    check "the next Pod's making collects their volumes" "" "$left"
    carob delete pod next >/dev/null
    end
}

case ${BOOTS:-1} in
    1) first ;;
    2) second ;;
    *) third ;;
esac
