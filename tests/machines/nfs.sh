#!/bin/bash
# nfs volumes of a server: the kernel's own, on loopback.
#
#   hack/machines debian-12 --script tests/machines/nfs.sh
set -u
export CAROB_ROOT=/srv/nfs-volumes
. tests/machines/checks.sh

root=$CAROB_ROOT

# pod NAME REST: REST of the nfs volume.
pod() {
    cat <<END
apiVersion: v1
kind: Pod
metadata: {name: $1}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: v, nfs: {server: 127.0.0.1, path: /$2}}]
  containers:
  - name: main
    image: localhost/carob/busybox:1
    imagePullPolicy: Never
    command: [sh, -c, exec sleep 1000]
    volumeMounts: [{name: v, mountPath: /v}]
END
}
inside() { timeout 20 carob exec "$1" -- sh -c "$2" 2>&1; }
carob load -i "$IMAGES/busybox.tar" >/dev/null

# The kernel's NFS server, told by hand what exportfs(8) and rpc.mountd(8) would tell it:
# /proc/net/rpc. NFS 4 alone, whose one export is its root.
modprobe nfsd
mountpoint -q /proc/fs/nfsd || mount -t nfsd nfsd /proc/fs/nfsd
mkdir -p /srv/export
echo from the server >/srv/export/f
serve() {
    # Flags: async, insecure ports, no subtree check, fsid.
    echo 'nfsd 127.0.0.1 2147483647 loopback' >/proc/net/rpc/auth.unix.ip/channel
    echo 'loopback /srv/export 2147483647 9234 0 0 0' >/proc/net/rpc/nfsd.export/channel
    printf 'loopback 1 \\x00000000 2147483647 /srv/export\n' >/proc/net/rpc/nfsd.fh/channel
    echo '-2 -3 +4 +4.1 +4.2' >/proc/fs/nfsd/versions 2>/dev/null
    echo 10 >/proc/fs/nfsd/nfsv4leasetime
    echo 10 >/proc/fs/nfsd/nfsv4gracetime
    echo 'tcp 2049' >/proc/fs/nfsd/portlist
    echo 4 >/proc/fs/nfsd/threads
    echo Y >/proc/fs/nfsd/v4_end_grace 2>/dev/null
}
serve
is "the server has threads" 4 "$(cat /proc/fs/nfsd/threads)"
pod one '' | timeout 60 carob apply -f - >/tmp/applied 2>&1
is "a Pod with an nfs volume runs" Running "$(phase one)"
is "it reads what the server has" 'from the server' "$(inside one 'cat /v/f')"
inside one 'echo from the Pod >/v/g'
is "the server has what it writes" 'from the Pod' "$(cat /srv/export/g)"
echo again >/srv/export/h
is "and it sees what is new" again "$(inside one 'cat /v/h')"
like "by the newest version" ' nfs4? .*vers=4\.2' "$(inside one 'grep " /v " /proc/mounts')"
pod two ', readOnly: true' | timeout 60 carob apply -f - >/tmp/applied 2>&1
has "readOnly: no write" 'Read-only file system' "$(inside two 'cat /v/f && echo x >/v/x')"
carob delete pod two >/dev/null

# The server goes: what the Pod does waits, and its deletion does not.
echo 0 >/proc/fs/nfsd/threads
is "what the Pod does there waits" 124 "$(timeout 8 carob exec one -- sh -c 'echo x >/v/x' >/dev/null 2>&1; echo $?)"
pod late '' | timeout 60 carob apply --wait=false -f - >/tmp/applied 2>&1
has "without a server a Pod waits" '127.0.0.1 port 2049' "$(wait_for 'port 2049' carob why late)"
has "with FailedMount" FailedMount "$(carob events pod/late 2>&1; carob describe pod late)"
begun=$SECONDS
timeout 60 carob delete pod one >/tmp/deleted 2>&1
is "the Pod is deleted" '0 1' "$? $(grep -c 'pod "one" deleted' /tmp/deleted)"
is "within its time" 1 "$((SECONDS - begun < 40))"
serve
is "the Pod starts when the server is there" Running "$(wait_for Running phase late)"
carob delete pod late >/dev/null

# One that takes connections and never answers: no thread of it runs.
nft add table inet mute && nft 'add chain inet mute out { type filter hook output priority 0; }'
nft add rule inet mute out oifname lo tcp sport 2049 'tcp flags & psh == psh' drop
pod mute '' | timeout 60 carob apply --wait=false -f - >/tmp/applied 2>&1
has "a server that never answers is told of" '127.0.0.1 port 2049' "$(wait_for 'port 2049' carob why mute)"
timeout 60 carob delete pod mute >/tmp/deleted 2>&1
is "and its Pod is deleted" 0 $?
nft delete table inet mute
echo 0 >/proc/fs/nfsd/threads
is "nothing is left" '' "$(carob get pods -o name; grep -e " $root/" -e nfs4 /proc/mounts)"
exit $bad
