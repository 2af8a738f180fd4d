#!/bin/bash
# Pods on a Debian that has AppArmor as Debian installs it: the profile that containers
# run under, what it denies, and what is said where a profile is missing.
#
#   hack/machines debian-12 --script tests/machines/lsm-apparmor.sh
set -u
export CAROB_ROOT=/var/tmp/lsm
. tests/machines/checks.sh

profiles=/sys/kernel/security/apparmor/profiles
loaded() { grep -c "^$1 (" $profiles; }
# pod NAME ANNOTATION CONTAINER: CONTAINER is lines of the container, or nothing.
pod() {
    printf '%s\n' "apiVersion: v1" "kind: Pod" "metadata: {name: $1, annotations: {$2}}" \
        "spec:" "  terminationGracePeriodSeconds: 0" "  containers:" "  - name: app" \
        "    image: localhost/carob/busybox:1" "    imagePullPolicy: Never" \
        "    command: [sleep, '100000']" "${3:+    $3}" | carob apply -f - 2>&1
}
field() { carob get pod "$1" -o "jsonpath={$2}"; }
waiting() { field "$1" '.status.containerStatuses[0].state.waiting.reason'; }
inside() { carob exec "$1" -- sh -c "$2" 2>&1; }
profile() { inside "$1" 'cat /proc/1/attr/current'; }
# becomes WHAT WANTED SECONDS COMMAND...: says at the end what it came to.
becomes() {
    local name=$1 want=$2 end=$((SECONDS + $3)) got
    shift 3
    until got=$("$@") && [ "$got" = "$want" ]; do
        [ $SECONDS -lt $end ] || break
        sleep 0.5
    done
    is "$name" "$want" "$got"
}

is "the kernel has AppArmor" Y "$(cat /sys/module/apparmor/parameters/enabled)"
is "carob-default is not loaded yet" 0 "$(loaded carob-default)"
carob load -i "$IMAGES/busybox.tar" >/dev/null

pod plain '' "lifecycle: {postStart: {exec: {command: [sh, -c, 'cat /proc/self/attr/current >/hook']}}}" >/dev/null
is "carob loads its profile" 1 "$(loaded carob-default)"
is "a container runs under it" 'carob-default (enforce)' "$(profile plain)"
is "an exec process too" 'carob-default (enforce)' "$(inside plain 'cat /proc/self/attr/current')"
becomes "a hook too" 'carob-default (enforce)' 20 inside plain 'cat /hook'
is "output is logged" hello "$(inside plain 'echo hello >/proc/1/fd/1'; carob logs plain)"
is "its processes see each other" 0 "$(inside plain 'sleep 100 & cat /proc/$!/status >/dev/null && kill $!; echo $?')"
is "no_new_privs" 'carob-default (enforce)' \
    "$(pod nnp '' 'securityContext: {allowPrivilegeEscalation: false}' >/dev/null; profile nnp)"
is "privileged" unconfined "$(pod privileged '' 'securityContext: {privileged: true}' >/dev/null; profile privileged)"
is "Unconfined" unconfined \
    "$(pod free '' 'securityContext: {appArmorProfile: {type: Unconfined}}' >/dev/null; profile free)"
legacy=container.apparmor.security.beta.kubernetes.io/app
is "the annotation, unconfined" unconfined "$(pod legacyfree "$legacy: unconfined" >/dev/null; profile legacyfree)"
is "RuntimeDefault" 'carob-default (enforce)' \
    "$(pod asked '' 'securityContext: {appArmorProfile: {type: RuntimeDefault}}' >/dev/null; profile asked)"

# What capabilities and procMount open, the profile keeps shut.
wide='capabilities: {add: [SYS_ADMIN]}, procMount: Unmasked'
tries='mkdir -p /mnt; mount -t tmpfs t /mnt 2>/dev/null && echo mounted; (echo 10 >/proc/sys/kernel/panic) 2>/dev/null && echo set; true'
pod wide '' "securityContext: {$wide}" >/dev/null
is "no mount and no sysctl under it" '' "$(inside wide "$tries")"
pod wider '' "securityContext: {$wide, appArmorProfile: {type: Unconfined}}" >/dev/null
is "both without it" 'mounted set' "$(inside wider "$tries" | xargs)"
sysctl -q kernel.panic=0
carob delete pod --all >/dev/null 2>&1

cat >/tmp/carob-test <<'END'
profile carob-test flags=(attach_disconnected) {
  file, network, capability, signal, ptrace,
  deny /secret r,
}
END
own='securityContext: {appArmorProfile: {type: Localhost, localhostProfile: carob-test}}'
said=$(pod late '' "$own")
has "a profile that is not loaded is named" 'profile "carob-test" is not loaded' "$said"
is "and waited for" CreateContainerError "$(waiting late)"
apparmor_parser --replace --skip-cache /tmp/carob-test
becomes "the container starts once it is loaded" Running 30 field late .status.phase
is "Localhost" 'carob-test (enforce)' "$(profile late)"
is "it is in force" 1 "$(inside late 'echo x >/secret; cat /secret >/dev/null 2>&1; echo $?')"
is "the annotation, localhost" 'carob-test (enforce)' "$(pod legacy "$legacy: localhost/carob-test" >/dev/null; profile legacy)"
is "Localhost of a privileged container" 'carob-test (enforce)' \
    "$(pod both '' "${own%\}}, privileged: true}" >/dev/null; profile both)"

# The administrator may take the profile away while Pods run.
pod again '' '' >/dev/null
echo 'profile carob-default { }' | apparmor_parser --remove
is "carob-default is gone" 0 "$(loaded carob-default)"
pid=$(pgrep -n -f 'sleep 100000')
kill -KILL "$pid"
becomes "a restart loads it again" 1 30 loaded carob-default
carob delete pod --all >/dev/null 2>&1

# Without the parser nothing can be loaded.
echo 'profile carob-default { }' | apparmor_parser --remove
parser=$(readlink -f "$(command -v apparmor_parser)")
mv "$parser" "$parser.away"
pod bare '' '' >/dev/null
is "without apparmor_parser a container runs without a profile" unconfined "$(profile bare)"
has "which is said" "install the package apparmor" "$(carob describe pod bare)"
has "but not one that asks for it" "install the package apparmor" \
    "$(pod strict '' 'securityContext: {appArmorProfile: {type: RuntimeDefault}}')"
mv "$parser.away" "$parser"
carob delete pod --all >/dev/null 2>&1

denied=$(dmesg | grep -c 'apparmor="DENIED".*profile="carob-default"')
is "nothing is denied that goes with a container's start" 0 "$denied"
exit $bad
