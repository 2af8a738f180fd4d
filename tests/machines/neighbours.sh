#!/bin/bash
# Programs that people have beside carob and that make rules, bridges or name servers
# of their own, whole and started by systemd, on the machine debian-12-neighbours:
#
#   hack/machines debian-12-neighbours --script tests/machines/neighbours.sh [NAME...]
#
# Each prints lines `CHECK ok NAME: ...` or `CHECK FAILED NAME: ...`; NAME is that of a
# function try_NAME below. The outside world is a network namespace at the other end of a veth pair.
# shellcheck disable=SC2317 # functions are called by names
set -uo pipefail
export LC_ALL=C

bad=0
now=
ok() { echo "CHECK ok $now: $*"; }
failed() { echo "CHECK FAILED $now: $*"; bad=1; }

host=203.0.113.1
world=203.0.113.2

# until_ok SECONDS COMMAND...: repeats it until it succeeds.
until_ok() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.2
    done
}

is_in_zone() { [ "$(firewall-cmd --get-zone-of-interface=carob0 2>/dev/null)" = "$1" ]; }

outside() { ip netns exec outside "$@"; }

make_outside() {
    ip netns add outside
    # With an address of its own udev leaves it that, and the other end keeps to it.
    ip link add wan address 02:00:00:00:00:01 type veth peer name eth0 netns outside
    ip address add "$host/24" dev wan
    ip link set wan up
    ip route add default via "$world"
    outside ip address add "$world/24" dev eth0
    outside ip link set eth0 up
    outside ip link set lo up
    mkdir -p /srv/outside
    echo outside >/srv/outside/index.html
    outside busybox httpd -p 80 -h /srv/outside
    outside dnsmasq --no-resolv --no-hosts --listen-address="$world" --bind-interfaces \
        --address=/name.example/192.0.2.77 --pid-file=/run/outside-dnsmasq.pid
}

pods() {
    cat <<'END'
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: localhost/carob/busybox:1
    command: [sh, -c, 'echo page >/www/index.html; exec httpd -f -p 80 -h /www']
    ports: [{containerPort: 80, hostPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: client
    image: localhost/carob/busybox:1
    command: [sleep, "100000"]
END
}

start_pods() {
    pods | carob apply -f - >/dev/null || { failed "apply"; return; }
    carob wait pod --all --for=condition=Ready --timeout=60s >/dev/null || failed "Pods are not ready: $(carob describe pods)"
}

end_pods() { carob delete pods --all --force --grace-period=0 --wait >/dev/null 2>&1; }

# Not wget -T, by which Debian 12's busybox ends with SIGSEGV.
from_client() { timeout 10 carob exec client -- timeout 5 wget -q -O - "$1"; }
from_host() { timeout 5 busybox wget -q -O - "$1"; }
from_outside() { outside timeout 5 busybox wget -q -O - "$1"; }

# reach WHAT PAGE COMMAND...
reach() {
    local what=$1 page=$2 got
    shift 2
    if got=$("$@" 2>&1); then [ "$got" != "$page" ] || return 0; fi
    failed "$what: $got"
    return 1
}

# works WHEN: Pods reach out, are reached, and reach each other.
works() {
    local ip fine=1
    ip=$(carob get pod web -o 'jsonpath={.status.podIP}')
    reach "$1, out of a Pod" outside from_client "http://$world/" || fine=0
    reach "$1, host port from outside" page from_outside "http://$host:8080/" || fine=0
    reach "$1, host port from the host" page from_host "http://$host:8080/" || fine=0
    reach "$1, Pod to Pod" page from_client "http://$ip/" || fine=0
    reach "$1, Pod to a host port" page from_client "http://$host:8080/" || fine=0
    reach "$1, host to Pod" page from_host "http://$ip/" || fine=0
    [ "$fine" -eq 1 ] && { ok "$1"; return; }
    nft list ruleset | head -n 150
    carob describe pods
}

out_works() { [ "$(from_client "http://$world/" 2>/dev/null)" = outside ]; }
in_works() { [ "$(from_outside "http://$host:8080/" 2>/dev/null)" = page ]; }
all_works() { out_works && in_works; }

rules() { sed '/^#/d; /^\*/d; /^COMMIT/d; s/ *\[[0-9:]*\]//; /^:[A-Z]* ACCEPT/d' | sort -s -k 1,2; }

# Both rule sets, without counters and handles, and the links: what must be as before.
# Sorted by chain: a neighbour that restarts makes its chains anew, in another order.
# An empty legacy table is none: firewalld unloads the module.
snapshot() {
    nft -s list ruleset | sort
    iptables-save 2>&1 | rules
    iptables-legacy-save 2>/dev/null | rules
    ip -o link | sed -E 's/^[0-9]+: //; s/(state|qdisc|mode|group) [^ ]*//g; s/@if[0-9]+//; s/^veth[^:]*/veth/' | cut -d' ' -f1-3 | sort
}

# unchanged FILE: the snapshot is the one in FILE. The bridge goes with a moment's delay.
unchanged() {
    until_ok 10 sh -c '! ip link show carob0'
    if snapshot | diff "$1" - >/tmp/diff; then
        ok "its rules and links are as they were"
    else
        failed "its rules or links are not as they were: $(cat /tmp/diff)"
    fi
}

clean() {
    end_pods
    nft flush ruleset
    for chain in INPUT FORWARD OUTPUT; do iptables-legacy -P "$chain" ACCEPT 2>/dev/null; done
    iptables-legacy -F 2>/dev/null
    iptables-legacy -t nat -F 2>/dev/null
    iptables-legacy -X 2>/dev/null
    iptables-legacy -t nat -X 2>/dev/null
}

start() { systemctl start "$@" || failed "systemctl start $*: $(systemctl status "$@" 2>&1 | tail -n 5)"; }

# round RELOAD...: with the neighbour running: Pods work, also after its reload; it is
# as before when they have gone; a neighbour that starts after Pods lets them live.
round() {
    snapshot >/tmp/before
    start_pods
    works "started after it"
    local reload
    for reload; do
        eval "$reload" >/tmp/out 2>&1 || failed "$reload: $(cat /tmp/out)"
        until_ok 60 all_works
        works "after $reload"
    done
    end_pods
    unchanged /tmp/before
}

# The machine without a firewall: /etc/nftables.conf has three empty chains.
try_plain() {
    nft -f /etc/nftables.conf
    round 'nft flush ruleset' 'nft flush ruleset; nft -f /etc/nftables.conf'
}

# A firewall by hand, as /etc/nftables.conf has it.
try_nftables() {
    cat >/etc/nftables.conf <<'END'
flush ruleset
table inet filter {
    chain input {
        type filter hook input priority filter; policy drop;
        iif lo accept
        ct state established,related accept
        icmp type echo-request accept
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
    }
}
END
    start nftables
    round 'systemctl reload nftables' 'systemctl restart nftables'
    systemctl stop nftables
}

try_docker() {
    # It sets the policy when it is what turns forwarding on.
    echo 0 >/proc/sys/net/ipv4/ip_forward
    start docker
    docker info >/dev/null || failed "docker info"
    iptables -S FORWARD | grep -q -e '-P FORWARD DROP' || failed "docker did not set the policy: $(iptables -S FORWARD)"
    tar -C / -c bin/busybox 2>/dev/null | docker import - box >/dev/null || failed "docker import"
    docker run -d --name box -p 9090:80 box /bin/busybox sh -c \
        '/bin/busybox mkdir /w; echo docker >/w/index.html; exec /bin/busybox httpd -f -p 80 -h /w' >/dev/null || failed "docker run"
    round 'systemctl restart docker; docker start box' 'iptables -F FORWARD; systemctl restart docker; docker start box'
    start_pods
    reach "docker's port from outside" docker from_outside "http://$host:9090/" &&
        reach "docker's port from a Pod" docker from_client "http://$host:9090/" && ok "its containers are reached"
    modprobe br_netfilter
    sysctl -q net.bridge.bridge-nf-call-iptables=1
    works "with bridge-nf-call-iptables"
    sysctl -q net.bridge.bridge-nf-call-iptables=0
    end_pods
    docker rm -f box >/dev/null
    systemctl stop docker docker.socket containerd
    ip link delete docker0
    clean
    # The other way round: docker comes to a machine that has Pods.
    echo 0 >/proc/sys/net/ipv4/ip_forward
    start_pods
    echo 0 >/proc/sys/net/ipv4/ip_forward
    start docker
    until_ok 60 all_works
    works "docker started after Pods"
    end_pods
    systemctl stop docker docker.socket containerd
    ip link delete docker0
}

try_docker_legacy() {
    update-alternatives --set iptables /usr/sbin/iptables-legacy >/dev/null
    echo 0 >/proc/sys/net/ipv4/ip_forward
    start docker
    iptables-legacy -S FORWARD | grep -q -e '-P FORWARD DROP' || failed "docker did not set the policy: $(iptables-legacy -S FORWARD)"
    round 'systemctl restart docker'
    systemctl stop docker docker.socket containerd
    ip link delete docker0
    update-alternatives --set iptables /usr/sbin/iptables-nft >/dev/null
}

try_firewalld() {
    start firewalld
    firewall-cmd --state >/dev/null || failed "firewall-cmd --state"
    round 'firewall-cmd --reload' 'firewall-cmd --complete-reload' 'systemctl restart firewalld'
    systemctl stop firewalld
    clean
    start_pods
    start firewalld
    until_ok 60 all_works
    works "firewalld started after Pods"
    # Pods may be reached before the bridge has its zone again.
    until_ok 20 is_in_zone trusted ||
        failed "zone: $(firewall-cmd --get-zone-of-interface=carob0 2>&1)"
    end_pods
    until_ok 10 sh -c '! ip link show carob0'
    until_ok 10 sh -c "firewall-cmd --get-zone-of-interface=carob0 2>&1 | grep -q 'no zone'" ||
        failed "carob0 is still in a zone: $(firewall-cmd --get-zone-of-interface=carob0 2>&1)"
    # A zone that the user has chosen is left alone.
    firewall-cmd -q --zone=internal --add-interface=carob0
    start_pods
    end_pods
    [ "$(firewall-cmd --get-zone-of-interface=carob0)" = internal ] || failed "the user's zone: $(firewall-cmd --get-zone-of-interface=carob0 2>&1)"
    systemctl stop firewalld
}

try_ufw() {
    ufw --force enable >/dev/null || failed "ufw enable"
    # Changing the policy and back leaves more rules than there were.
    ufw default reject routed >/dev/null && ufw default deny routed >/dev/null
    round 'ufw reload' 'ufw disable; ufw --force enable' 'ufw default reject routed' 'ufw default deny routed'
    ufw --force disable >/dev/null
    clean
    start_pods
    ufw --force enable >/dev/null
    until_ok 60 all_works
    works "ufw enabled after Pods"
    end_pods
    ufw --force reset >/dev/null
}

try_libvirt() {
    start libvirtd
    virsh -q net-start default >/dev/null || failed "virsh net-start default"
    round 'systemctl restart libvirtd' 'virsh -q net-destroy default; virsh -q net-start default'
    virsh -q net-destroy default >/dev/null
    systemctl stop libvirtd libvirtd.socket libvirtd-admin.socket libvirtd-ro.socket virtlogd virtlogd.socket
}

try_podman() {
    mkdir -p /tmp/podroot/www
    cp "$(command -v busybox)" /tmp/podroot/
    ln -sf busybox /tmp/podroot/httpd
    echo podman >/tmp/podroot/www/index.html
    podman run -d --name box --rootfs -p 9090:80 /tmp/podroot /httpd -f -p 80 -h /www >/dev/null || failed "podman run"
    round 'podman network reload -a'
    start_pods
    reach "podman's port from outside" podman from_outside "http://$host:9090/" &&
        reach "podman's port from a Pod" podman from_client "http://$host:9090/" && ok "its containers are reached"
    end_pods
    podman rm -f -t 0 box >/dev/null
}

try_networkmanager() {
    start NetworkManager
    nmcli -t device >/dev/null || failed "nmcli"
    snapshot >/tmp/before
    start_pods
    works "started after it"
    local ip
    ip=$(ip -4 -o address show carob0 | awk '{ print $4 }')
    nmcli -t -f DEVICE,TYPE,STATE,CONNECTION device
    systemctl restart NetworkManager
    nm-online -q -t 5
    works "after its restart"
    [ "$(ip -4 -o address show carob0 | awk '{ print $4 }')" = "$ip" ] || failed "another address on carob0: $(ip address show carob0)"
    nmcli -t -f DEVICE,STATE device | grep -E '^(carob0|cv)' | grep -Ev ':(unmanaged|connected \(externally\))$' && failed "NetworkManager manages links of carob"
    end_pods
    unchanged /tmp/before
    nmcli -t -f NAME,DEVICE connection | grep -E 'carob|cv[0-9a-f]{8}' && failed "NetworkManager keeps a connection of carob"
    systemctl stop NetworkManager
}

resolves() {
    start_pods
    local got
    got=$(carob exec client -- nslookup -type=a name.example 2>&1)
    case $got in
        *192.0.2.77*) ok "$1" ;;
        *) failed "$1: $got; $(carob exec client -- cat /etc/resolv.conf); $(cat /etc/resolv.conf)" ;;
    esac
    end_pods
}

try_resolved() {
    mkdir -p /etc/systemd/resolved.conf.d
    printf '[Resolve]\nDNS=%s\nFallbackDNS=\n' "$world" >/etc/systemd/resolved.conf.d/test.conf
    mv /etc/resolv.conf /etc/resolv.conf.before
    ln -s ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
    start systemd-resolved
    grep -q 127.0.0.53 /etc/resolv.conf || failed "no stub: $(cat /etc/resolv.conf)"
    resolves "names behind the stub of systemd-resolved"
    systemctl stop systemd-resolved
    rm /etc/resolv.conf
    mv /etc/resolv.conf.before /etc/resolv.conf
}

try_dnsmasq() {
    cp /etc/resolv.conf /etc/resolv.conf.before
    echo "nameserver 127.0.0.1" >/etc/resolv.conf
    # As resolvconf(8) leaves it for Debian's dnsmasq.
    mkdir -p /run/dnsmasq
    echo "nameserver $world" >/run/dnsmasq/resolv.conf
    printf 'bind-interfaces\nlisten-address=127.0.0.1\nresolv-file=/run/dnsmasq/resolv.conf\n' >/etc/dnsmasq.d/test.conf
    start dnsmasq
    resolves "names behind dnsmasq with a file of resolvconf"
    # As people configure it by hand.
    rm -r /run/dnsmasq/resolv.conf
    printf 'bind-interfaces\nlisten-address=127.0.0.1\nno-resolv\nserver=%s\n' "$world" >/etc/dnsmasq.d/test.conf
    systemctl restart dnsmasq
    resolves "names behind dnsmasq with servers of its own"
    systemctl stop dnsmasq
    rm /etc/dnsmasq.d/test.conf
    cp /etc/resolv.conf.before /etc/resolv.conf
}

carob load -i "$IMAGES/busybox.tar" >/dev/null 2>&1 || { echo "CHECK FAILED load"; exit 1; }
make_outside
[ $# -gt 0 ] || set -- plain nftables docker docker_legacy firewalld ufw libvirt podman networkmanager resolved dnsmasq
for now; do
    begun=$SECONDS
    "try_$now"
    clean
    echo "== $now: $((SECONDS - begun)) s"
done
exit "$bad"
