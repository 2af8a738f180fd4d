#!/bin/bash
# Pods under SELinux, enforcing, with Debian's reference policy. Debian 13's has a domain
# for containers, Debian 12's has none.
#
#   hack/machines debian-13 --append 'security=selinux selinux=1' --script tests/machines/lsm-selinux.sh
set -u
export CAROB_ROOT=/var/lib/carob-lsm
. tests/machines/checks.sh

if [ "${1-}" != enforcing ]; then
    is "SELinux is enabled" 0 "$(selinuxenabled; echo $?)"
    # What the tests bring came as a tar archive, without labels.
    restorecon -RF /usr/local/bin /root /opt 2>/dev/null
    mkdir -p "$CAROB_ROOT" && restorecon -RF "$CAROB_ROOT"
    setenforce 1
    # As root's login shell has it.
    exec runcon unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023 bash "$0" enforcing
fi
is "enforcing" Enforcing "$(getenforce)"
like "as a login session of root" '^unconfined_u:unconfined_r:unconfined_t' "$(id -Z)"

# pod NAME CONTEXT [VOLUME]
pod() {
    local volume='' mount=''
    if [ -n "${3-}" ]; then
        volume=", {name: host, hostPath: {path: $3}}" mount=', {name: host, mountPath: /host}'
    fi
    carob apply -f - 2>&1 <<END
apiVersion: v1
kind: Pod
metadata: {name: $1}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: disk, emptyDir: {}}, {name: memory, emptyDir: {medium: Memory}}$volume]
  containers:
  - name: app
    image: localhost/carob/busybox:1
    imagePullPolicy: Never
    command: [sh, -c, 'echo up; exec sleep 100000']
    securityContext: {$2}
    volumeMounts: [{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}$mount]
END
}
inside() { carob exec "$1" -- sh -c "$2" 2>&1; }
label() { inside "$1" 'tr -d "\0" </proc/1/attr/current'; }
level() { label "$1" | cut -d: -f4-; }
waiting() { carob get pod "$1" -o 'jsonpath={.status.containerStatuses[0].state.waiting.reason}'; }

carob load -i "$IMAGES/busybox.tar" >/dev/null
if ! echo -n system_u:system_r:container_t:s0 2>/dev/null >/sys/fs/selinux/context; then
    pod one '' >/dev/null
    is "without a domain for containers a Pod starts" Running "$(carob get pod one -o 'jsonpath={.status.phase}')"
    is "in the monitor's" "$(id -Z)" "$(label one)"
    has "which is said" 'the loaded policy has no domain for containers' "$(carob describe pod one)"
    is "once" 1 "$(carob describe pod one | grep -c 'no domain for containers')"
    has "but not one that asks for a label" 'seLinuxOptions: the loaded SELinux policy has no domain' \
        "$(pod asks 'seLinuxOptions: {level: s0}')"
    carob delete pod --all >/dev/null 2>&1
    exit $bad
fi

said=$(pod one '')
is "a Pod starts" Running "$(carob get pod one -o 'jsonpath={.status.phase}')"
[ "$bad" = 0 ] || { echo "$said"; carob describe pod one; dmesg | grep avc | tail -n 20; }
like "a container has the containers' domain and two categories" ':container_t:s0:c[0-9]+,c[0-9]+$' "$(label one)"
is "an exec process has the same" "$(label one)" "$(inside one 'tr -d "\0" </proc/self/attr/current')"
is "output of exec by a pipe" hello "$(inside one 'echo hello')"
carob exec one -- echo hello >/root/out
is "to a file" hello "$(cat /root/out)"
is "input of exec" hello "$(echo hello | carob exec -i one -- cat)"
is "logs" up "$(carob logs one)"
is "the Pod's files are read" 0 "$(inside one 'cat /etc/hosts /etc/resolv.conf /etc/hostname >/dev/null; echo $?')"
# shellcheck disable=SC2016 # the container's variables
is "files are written" '0 0 0 0' "$(inside one 'for d in / /disk/ /memory/ /dev/shm/; do echo x >${d}f; echo $?; done' | tr '\n' ' ' | sed 's/ $//')"
is "an emptyDir has the Pod's label" "container_file_t:$(level one)" \
    "$(stat -c %C "$CAROB_ROOT"/data/pods/*/volumes/disk | cut -d: -f3-)"
is "null and zero" 0 "$(inside one 'head -c 1 /dev/zero >/dev/null; echo $?')"
pod two '' >/dev/null
if [ "$(level one)" != "$(level two)" ]; then ok "each Pod has a level of its own"; else failed "each Pod has a level of its own" "$(level one)"; fi
is "no_new_privs" "$(level two | head -c 3)" "$(pod nnp 'allowPrivilegeEscalation: false' >/dev/null; level nnp | head -c 3)"
like "nnp has the domain" ':container_t:' "$(label nnp)"
like "privileged: the monitor's own domain" ':unconfined_t:' "$(pod privileged 'privileged: true' >/dev/null; label privileged)"
like "seLinuxOptions.type" ':spc_t:' "$(pod kind 'seLinuxOptions: {type: spc_t}' >/dev/null; label kind)"
is "seLinuxOptions.level" s0:c7,c9 "$(pod lev 'seLinuxOptions: {level: "s0:c7,c9"}' >/dev/null; level lev)"
has "a context that the policy lacks is named" 'the loaded policy has no context' "$(pod wrong 'seLinuxOptions: {type: no_such_t}')"
is "and waited for" CreateContainerConfigError "$(waiting wrong)"

mkdir -p /srv/data /srv/two && echo secret >/srv/data/file && echo secret >/srv/two/file
chcon -R -t user_home_t /srv/data
has "a hostPath that a container may not read is refused with the mend" 'chcon -R -t container_file_t -l s0 /srv/data' "$(pod host '' /srv/data)"
is "and waited for, too" CreateContainerConfigError "$(waiting host)"
carob delete pod host >/dev/null 2>&1
chcon -R -t container_file_t -l s0 /srv/data
is "with it, it is read" secret "$(pod host '' /srv/data >/dev/null; inside host 'cat /host/file')"
chcon -R -t container_file_t -l "$(level two)" /srv/two
has "another Pod's files are out of reach" 'SELinux does not let' "$(pod thief '' /srv/two)"

is "no denial that a container's start or end brings" '' \
    "$(carob delete pod --all >/dev/null 2>&1; dmesg | grep 'avc: *denied' | grep -E 'container_t|comm="carob' | grep -v permissive=1 | tail -n 5)"
exit $bad
