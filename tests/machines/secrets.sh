#!/bin/bash
# Secrets on a machine whose init is systemd: encrypted by systemd-creds(1) with the machine's
# own key, made in units from their credentials, and searched for in every place where they
# do not belong.
#
#   hack/machines debian-12 --script tests/machines/secrets.sh
set -u
export CAROB_ROOT=/srv/secrets
. tests/machines/checks.sh

root=$CAROB_ROOT
clear='only-where-it-belongs-2c7e'
# Base64 of it, wherever a text begins with it.
encoded=$(printf %s "$clear" | base64)
encoded=${encoded%??????}

value() { carob get secret "$1" -o 'jsonpath={.data.key}' | base64 -d; }

# pod NAME ENV VOLUMES MOUNTS [COMMAND]
pod() {
    cat <<END
apiVersion: v1
kind: Pod
metadata: {name: $1}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [$3]
  containers:
  - name: main
    image: localhost/carob/busybox:1
    imagePullPolicy: Never
    command: [sh, -c, '${5-exec sleep 1000}']
    env: [$2]
    volumeMounts: [$4]
END
}
of_secret='{name: K, valueFrom: {secretKeyRef: {name: unit, key: key}}}'
volume='{name: v, secret: {secretName: unit}}'
mount_v='{name: v, mountPath: /v}'

# Processes of containers have it in their environment, as on a cluster.
elsewhere() {
    local at
    grep -rlaF -e "$clear" -e "$encoded" --exclude-dir=proc --exclude-dir=sys \
        /etc /home /opt /root /run /srv /tmp /var /dev/shm /core* 2>/dev/null |
        grep -v -e "^/run/carob/pods/[^/]*/projected/" -e "^$root/run/pods/[^/]*/projected/" \
            -e '^/opt/carob-machine/script$' -e '/tests/machines/secrets\.sh$'
    for at in /proc/[0-9]*; do
        grep -q '/carob.*/pod' "$at/cgroup" 2>/dev/null && continue
        grep -qaF -e "$clear" -e "$encoded" "$at/cmdline" "$at/environ" 2>/dev/null && echo "$at"
    done
    journalctl --no-pager -a -o export 2>/dev/null | grep -caF -e "$clear" -e "$encoded" | sed '/^0$/d; s/$/ lines of the journal/'
    dmesg | grep -cF "$clear" | sed '/^0$/d; s/$/ lines of the kernel/'
}

# use: Pods that have the Secret, that fail with it, and monitors that die.
use() {
    local monitor
    { pod all "$of_secret" "$volume" "$mount_v"; echo ---
        pod ends "$of_secret" "$volume" "$mount_v" 'exit 3'; echo ---
        pod fails "$of_secret" "$volume, {name: none, hostPath: {path: /none, type: Directory}}" "$mount_v"; echo ---
        pod wants "$of_secret, {name: L, valueFrom: {secretKeyRef: {name: unit, key: none}}}" "$volume" "$mount_v"
    } >/tmp/pods.yaml
    carob --log-level trace apply --wait=false -f /tmp/pods.yaml >/tmp/applied 2>&1
    is "$1: a Pod runs" Running "$(wait_for Running phase all)"
    # shellcheck disable=SC2016 # the container's shell expands it
    is "$1: and has it" "$clear $clear" "$(carob exec all -- sh -c 'echo "$(cat /v/key) $K"')"
    has "$1: one waits for a key" "couldn't find key none" "$(wait_for "couldn't find key" carob why wants)"
    has "$1: one waits for its mount" /none "$(wait_for /none carob why fails)"
    monitor=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["monitor_pid"])' \
        "$root/run/pods/$(carob get pod all -o 'jsonpath={.metadata.uid}')/state.json")
    # It has just had the values in its memory.
    carob annotate pod all a=b --overwrite >/dev/null
    kill -ABRT "$monitor"
    # shellcheck disable=SC2016
    is "$1: the next monitor has it" "$clear" "$(carob exec all -- sh -c 'echo $K' 2>/dev/null)"
    is "$1: it is another one" 1 "$(kill -0 "$monitor" 2>/dev/null || echo 1)"
}

carob load -i "$IMAGES/busybox.tar" >/dev/null
sysctl -q -w kernel.core_pattern=/var/tmp/core.%e.%p fs.suid_dumpable=0

# Credentials of units: from a file of root's, encrypted, and on the command line.
install -m 0600 /dev/null /root/key
printf %s "$clear" >/root/key
cat >/run/systemd/system/load.service <<END
[Service]
Type=oneshot
Environment=CAROB_ROOT=$root
LoadCredential=key:/root/key
ExecStart=/usr/local/bin/carob create secret generic unit --from-file=\${CREDENTIALS_DIRECTORY}/key
END
systemctl daemon-reload
systemctl start load.service
is "LoadCredential: the unit makes a Secret" "$clear" "$(value unit)"
printf %s other >/tmp/other
sealed=$(systemd-creds encrypt --name=key /tmp/other - 2>/dev/null | tr -d '\n')
# shellcheck disable=SC2016 # the unit's shell expands it
systemd-run --quiet --wait --collect -p "SetCredentialEncrypted=key:$sealed" -E CAROB_ROOT=$root \
    sh -c '/usr/local/bin/carob create secret generic sealed --from-file="$CREDENTIALS_DIRECTORY"'
is "SetCredentialEncrypted: the directory is the Secret" other "$(value sealed)"
# shellcheck disable=SC2016
systemd-run --quiet --wait --collect -p 'SetCredential=key:changed' -E CAROB_ROOT=$root \
    sh -c '/usr/local/bin/carob create secret generic sealed --from-file="$CREDENTIALS_DIRECTORY/key" --dry-run=client -o yaml | /usr/local/bin/carob apply -f -'
is "SetCredential: apply changes it" changed "$(value sealed)"
rm -f /root/key /tmp/other

use plain
is "plain: found in the Secret's record alone" "$root/data/objects/secrets/default/unit" "$(elsewhere)"

carob system secrets encrypted >/tmp/encrypted 2>&1
has "the machine's key encrypts" '2 Secrets, all encrypted, with the key auto' "$(cat /tmp/encrypted)"
is "systemd's key is where it is by default" '400 root' "$(stat -c '%a %U' /var/lib/systemd/credential.secret)"
is "commands read it" "$clear" "$(value unit)"
carob delete pod --all >/dev/null 2>&1
use encrypted
is "encrypted: found nowhere" '' "$(elsewhere)"
is "no core file of a monitor" '' "$(ls /var/tmp/core* /core* 2>/dev/null)"

# As on another machine.
mv /var/lib/systemd/credential.secret /root/away
has "another machine: it is said" 'it needs /var/lib/systemd/credential.secret' "$(carob get secret unit -o yaml 2>&1)"
pod late "$of_secret" '' '' | carob apply --wait=false -f - >/dev/null 2>&1
has "a Pod waits" 'decrypt the key in' "$(wait_for 'decrypt the key' carob why late)"
mv /root/away /var/lib/systemd/credential.secret
is "and starts when the key is there" Running "$(wait_for Running phase late)"
begun=$(date +%s%N)
for _ in 1 2 3 4 5; do carob get secret unit >/dev/null; done
between=$(date +%s%N)
for _ in 1 2 3 4 5; do carob get secret unit -o json >/dev/null; done
echo "# get of a Secret: $(((between - begun) / 5000000)) ms, with its values $((($(date +%s%N) - between) / 5000000)) ms"
carob delete pod --all >/dev/null 2>&1
has "and back" 'plain: 2 Secrets, 0 of them encrypted' "$(carob system secrets plain)"
carob delete secret --all >/dev/null

is "nothing is left" '' "$(carob get pods -o name; carob get secrets -o name; grep " $root/" /proc/mounts)"
exit $bad
