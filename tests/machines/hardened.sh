#!/bin/bash
# Pods on a machine with the sysctls and mount options of hardening guides, all of them
# at once; and what is said where one of them leaves carob without what it needs.
#
#   hack/machines debian-12 --script tests/machines/hardened.sh
set -u
export CAROB_ROOT=/var/tmp/hard
. tests/machines/checks.sh

# pod NAME SECURITY [PORTS [SPEC]]: a web server.
pod() {
    carob apply -f - 2>&1 <<END
apiVersion: v1
kind: Pod
metadata: {name: $1}
spec:
  terminationGracePeriodSeconds: 0
  ${4-}
  securityContext: {$2}
  volumes: [{name: disk, emptyDir: {}}, {name: memory, emptyDir: {medium: Memory}}]
  containers:
  - name: app
    image: localhost/carob/busybox:1
    imagePullPolicy: Never
    command: [sh, -c, 'echo up; mkdir -p /disk/w && hostname >/disk/w/index.html && exec httpd -f -p 8080 -h /disk/w']
    ports: [${3-}]
    volumeMounts: [{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}]
END
}
ip_of() { carob get pod "$1" -o 'jsonpath={.status.podIP}'; }
inside() { carob exec "$1" -- sh -c "$2" 2>&1; }
# Not wget -T, by which Debian 12's busybox ends with SIGSEGV.
fetch() { timeout 20 busybox wget -q -O - "http://$1:8080/"; }

# A modprobe.d line, as guides write it, for what no Pod has asked for so far.
is "overlay is not loaded yet" 0 "$(grep -c '^overlay ' /proc/modules)"
carob load -i "$IMAGES/busybox.tar" >/dev/null
echo 'install overlay /bin/false' >/etc/modprobe.d/hard.conf
said=$(pod none '')
# shellcheck disable=SC2016 # no command
has "a module that may not be loaded is named" '`modprobe overlay` says why' "$said$(carob describe pod none)"
carob delete pod none >/dev/null 2>&1
rm /etc/modprobe.d/hard.conf

umask 077
mount -t tmpfs -o noexec,nosuid,nodev,mode=1777 tmp /tmp
mount -o remount,hidepid=2 /proc
modprobe br_netfilter
settings='
kernel.unprivileged_userns_clone=0
kernel.yama.ptrace_scope=3
kernel.dmesg_restrict=1
kernel.kptr_restrict=2
kernel.perf_event_paranoid=3
kernel.sysrq=0
fs.protected_symlinks=1
fs.protected_hardlinks=1
fs.protected_regular=2
fs.protected_fifos=2
fs.suid_dumpable=0
user.max_user_namespaces=0
net.ipv4.ip_forward=0
net.ipv4.conf.all.rp_filter=1
net.ipv4.conf.default.rp_filter=1
net.ipv4.conf.all.accept_redirects=0
net.ipv4.conf.all.send_redirects=0
net.ipv4.conf.all.log_martians=1
net.bridge.bridge-nf-call-iptables=1
net.bridge.bridge-nf-call-arptables=1
'
for setting in $settings; do
    sysctl -q -w "$setting"
    is "set: $setting" "${setting#*=}" "$(sysctl -n "${setting%%=*}")"
done

said=$(pod one 'runAsUser: 1000, fsGroup: 2000' '{containerPort: 8080, hostPort: 8081}')
is "a Pod starts" Running "$(carob get pod one -o 'jsonpath={.status.phase}')"
pod two 'runAsUser: 1000, fsGroup: 2000' >/dev/null
one=$(ip_of one) two=$(ip_of two)
is "umask 077: an ordinary user reads the Pod's files" '0' "$(inside one 'cat /etc/hosts /etc/resolv.conf /etc/hostname >/dev/null; echo $?')"
is "and writes to its volumes" '0' "$(inside one 'echo x >/memory/f && echo x >/disk/f && echo x >/dev/shm/f; echo $?')"
is "with the umask of a container" 0022 "$(inside one umask)"
is "logs" up "$(carob logs one)"
is "exec" hello "$(inside one 'echo hello')"
is "hidepid: a container sees its own processes" 1 "$(inside one 'test -e /proc/1/status && echo 1')"
is "forwarding is on" 1 "$(sysctl -n net.ipv4.ip_forward)"
is "the host reaches a Pod" one "$(fetch "$one")"
is "a Pod reaches another" two "$(inside one "timeout 20 wget -q -O - http://$two:8080/")"

# A neighbour beyond the host, by a veth pair: what a Pod sends leaves by the host's address.
ip netns add beyond
ip link add out0 type veth peer name eth0 netns beyond
ip addr add 192.0.2.1/24 dev out0 && ip link set out0 up
ip -n beyond addr add 192.0.2.2/24 dev eth0 && ip -n beyond link set eth0 up && ip -n beyond link set lo up
ip netns exec beyond busybox httpd -p 8080 -h /etc/ssl 2>/dev/null
is "a Pod reaches beyond the host" 0 "$(inside two 'timeout 20 wget -q -O /dev/null http://192.0.2.2:8080/openssl.cnf; echo $?')"
is "a host port is reached from beyond" one "$(ip netns exec beyond timeout 20 busybox wget -q -O - http://192.0.2.1:8081/)"

# `sysctl --system` of a guide's file, with Pods there.
sysctl -q -w net.ipv4.ip_forward=0
pod three '' >/dev/null
is "the next Pod turns forwarding on again" 1 "$(sysctl -n net.ipv4.ip_forward)"
is "and reaches beyond the host" 0 "$(inside three 'timeout 20 wget -q -O /dev/null http://192.0.2.2:8080/openssl.cnf; echo $?')"

# Namespaces: as many as there are, and no more.
before=$(sysctl -n user.max_net_namespaces)
sysctl -q -w user.max_net_namespaces=1
said=$(pod four '')
has "a limit of namespaces is named" 'user.max_net_namespaces is 1' "$said$(carob describe pod four)"
carob delete pod four >/dev/null 2>&1
sysctl -q -w "user.max_net_namespaces=$before"
before=$(sysctl -n user.max_pid_namespaces)
sysctl -q -w user.max_pid_namespaces=1
said=$(pod five '')
has "one of a container's namespaces too" 'user.max_pid_namespaces is 1' "$said$(carob describe pod five)"
carob delete pod five >/dev/null 2>&1
sysctl -q -w "user.max_pid_namespaces=$before"

carob delete pod --all >/dev/null 2>&1
ip netns delete beyond
is "nothing is left" '' "$(carob get pods -A -o name)$(ip -br link | grep -E '^(cb|cv)')$(mount | grep "$CAROB_ROOT")"

# No module is loaded any more: what is there serves, what is missing is named.
modprobe -r veth
sysctl -q -w kernel.modules_disabled=1
pod six '' '' 'hostNetwork: true' >/dev/null
is "modules_disabled: with its modules loaded a Pod starts" Running "$(carob get pod six -o 'jsonpath={.status.phase}')"
carob delete pod six >/dev/null 2>&1
said=$(pod seven '')
has "one that is missing is named" \
    'kernel.modules_disabled is 1, so the kernel loads no module until the next boot: name veth in /etc/modules-load.d/carob.conf' \
    "$said$(carob describe pod seven)"
carob delete pod --all >/dev/null 2>&1
exit $bad
