# What tests/vm.rs has checked of `carob-oci checkpoint` and `restore`, by criu on
# a kernel that this criu knows. Read by ./init.
#
# shellcheck shell=sh
# shellcheck disable=SC2016 # expanded in a container
# shellcheck disable=SC2154 # $cgroups is init's
# shellcheck disable=SC2086 # nothing here has spaces in it

bundles=/tmp/bundles
counting='i=0; while :; do i=$((i+1)); echo $i >/data/count; echo line $i; usleep 100000; done'

bundle() { # NAME SCRIPT [SED-EXPRESSION...]: a bundle whose /data is a bind mount
    name=$1 script=$2
    shift 2
    dir=$bundles/$name
    mkdir -p "$dir/rootfs/bin" "$dir/data"
    cp /bin/busybox "$dir/rootfs/bin"
    for applet in sh sleep usleep cat touch id hostname; do ln -sf busybox "$dir/rootfs/bin/$applet"; done
    carob-oci spec --bundle "$dir"
    script=$(echo "$script" | sed 's/[&|\\]/\\&/g')
    sed -i -e "s|^\( *\)\"sh\"\$|\"sh\", \"-c\", \"$script\"|" -e 's|"terminal": true|"terminal": false|' \
        -e "s|\"mounts\": \[|&{\"destination\": \"/data\", \"type\": \"bind\", \"source\": \"$dir/data\", \"options\": [\"rbind\", \"rw\"]},|" \
        -e "s|\"linux\": {|&\"cgroupsPath\": \"/boxes/$name\",|" "$@" "$dir/config.json"
}

run() { # NAME
    carob-oci run --detach --bundle "$bundles/$1" "$1" </dev/null >"/tmp/$1.out" 2>&1
}
# The file is empty for a moment each time that the container writes it anew.
count() {
    said=
    while [ -e "$bundles/$1/data/count" ] && [ -z "$said" ]; do said=$(cat "$bundles/$1/data/count"); done
    echo "$said"
}
is_past() { [ "$(count "$1")" -gt "$2" ]; }
is() { carob-oci state "$1" | grep "\"status\": \"$2\""; }
end() { # NAME
    carob-oci kill "$1" KILL
    within 10 is "$1" stopped
    carob-oci delete "$1"
}
# Some of what it says is criu's, which a trace would be too long for.
quiet() { "$@" >/tmp/said 2>&1 || { tail -n 5 /tmp/said; return 1; }; }
put_away() { # NAME [FLAG...]
    what=$1
    shift
    quiet carob-oci checkpoint --image-path "/tmp/$what.images" --work-path "/tmp/$what.work" "$@" "$what" ||
        { grep Error "/tmp/$what.work/dump.log"; return 1; }
}
take_up() { # NAME [FLAG...]
    what=$1
    shift
    carob-oci restore --detach --bundle "$bundles/$what" --image-path "/tmp/$what.images" \
        --work-path "/tmp/$what.work" "$@" "$what" </dev/null >>"/tmp/$what.out" 2>&1 ||
        { tail -n 3 "/tmp/$what.out"; grep Error "/tmp/$what.work/restore.log"; return 1; }
}

goes_on_where_it_was() {
    # A mount at a place to which a link leads, as a Pod's service account is.
    bundle box "$counting" \
        -e "s|\"mounts\": \[|&{\"destination\": \"/var/run/linked\", \"type\": \"bind\", \"source\": \"$bundles/box/linked\", \"options\": [\"bind\"]},|"
    mkdir -p $bundles/box/rootfs/var $bundles/box/rootfs/run $bundles/box/linked
    ln -s /run $bundles/box/rootfs/var/run
    echo here >$bundles/box/linked/file
    run box
    within 10 is_past box 5
    put_away box
    is box stopped
    n=$(count box)
    sleep 1
    [ "$(count box)" = "$n" ]
    carob-oci delete box
    take_up box --pid-file /tmp/box.pid
    is box running
    within 10 is_past box "$n"
    [ "$(count box)" -lt $((n + 100)) ]
    # What was a file is the same file.
    within 10 grep "line $((n + 3))" /tmp/box.out
    [ "$(grep -c '^line 1$' /tmp/box.out)" = 1 ]
}

is_whole() {
    pid=$(cat /tmp/box.pid)
    grep -x "0::/boxes/box" "/proc/$pid/cgroup"
    [ "$(carob-oci exec box cat /data/count)" -gt 5 ]
    carob-oci exec box touch /proc/kcore 2>/dev/null && return 1
    carob-oci exec box sh -c 'echo x >/dev/null; [ -c /dev/null ]'
    [ "$(carob-oci exec box cat /proc/self/cgroup)" = 0::/ ]
    for kind in mnt pid net ipc uts cgroup; do
        [ "$(readlink "/proc/$pid/ns/$kind")" != "$(readlink "/proc/self/ns/$kind")" ]
    done
    awk '$5 ~ "^/(data|proc/kcore|sys/fs/cgroup|dev/pts)$"' "/proc/$pid/mountinfo" | wc -l | grep -x 4
    [ "$(carob-oci exec box cat /var/run/linked/file)" = here ]
    carob-oci pause box
    is box paused
    carob-oci resume box
}

again_without_delete() {
    put_away box
    n=$(count box)
    take_up box
    within 10 is_past box "$n"
    end box
}

leave_running() {
    bundle left "$counting"
    # Not to a file, which would be longer by then than at the checkpoint.
    carob-oci run --detach --bundle $bundles/left left </dev/null >/dev/null 2>&1
    within 10 is_past left 3
    put_away left --leave-running
    is left running
    n=$(count left)
    within 10 is_past left $((n + 3))
    end left
    # Elsewhere: another cgroup, another root filesystem, without its mount points.
    cp -a $bundles/left $bundles/moved
    rmdir $bundles/moved/rootfs/data
    sed -i -e 's|/boxes/left|/elsewhere/moved|' $bundles/moved/config.json
    mv /tmp/left.images /tmp/moved.images
    take_up moved --pid-file /tmp/moved.pid
    within 10 is_past left "$((n + 3))"
    grep -x 0::/elsewhere/moved "/proc/$(cat /tmp/moved.pid)/cgroup"
    [ ! -d $cgroups/boxes/left ]
    end moved
}

pre_dump() {
    bundle pre "$counting"
    carob-oci run -d --bundle $bundles/pre pre </dev/null 2>&1 | cat >/tmp/pre.out &
    within 10 is_past pre 3
    quiet carob-oci checkpoint --pre-dump --image-path /tmp/pre.images/1 pre
    is pre running
    mkdir /tmp/pre.images/2
    quiet carob-oci checkpoint --image-path /tmp/pre.images/2 --parent-path ../1 pre
    n=$(count pre)
    carob-oci delete pre
    # What was a pipe is the restore's.
    carob-oci restore -d --bundle $bundles/pre --image-path /tmp/pre.images/2 pre </dev/null 2>&1 | cat >/tmp/pre.again &
    within 10 grep "line $((n + 3))" /tmp/pre.again || { cat /tmp/pre.again; return 1; }
    grep -x 'line 1' /tmp/pre.again && return 1
    end pre
}

terminal() {
    bundle term 'n=0; while :; do n=$((n+1)); [ -t 0 ] && echo line $n; echo $n >/data/count; usleep 100000; done' \
        -e 's|"terminal": false|"terminal": true|'
    carob-oci run --bundle $bundles/term term </dev/null >/tmp/term.out 2>&1 &
    within 10 is_past term 3
    put_away term
    wait $! || true
    n=$(count term)
    carob-oci restore --bundle $bundles/term --image-path /tmp/term.images term </dev/null >/tmp/term.again 2>&1 &
    within 10 grep "line $((n + 3))" /tmp/term.again || { cat /tmp/term.again; return 1; }
    carob-oci kill term KILL
    code=0
    wait $! || code=$?
    [ $code = 137 ]
    carob-oci state term && return 1
    true
}

# As in a Pod: the namespaces of somebody else, found again by their paths.
joined() {
    bundle pause 'hostname pause; echo 0 >/data/count; while :; do sleep 100; done'
    run pause
    within 10 is pause running
    ns=/proc/$(carob-oci state pause | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')/ns
    bundle member "$counting"
    sed -i -e "s|\"type\": \"network\"|&, \"path\": \"$ns/net\"|" -e "s|\"type\": \"ipc\"|&, \"path\": \"$ns/ipc\"|" \
        -e "s|\"type\": \"uts\"|&, \"path\": \"$ns/uts\"|" -e '/"hostname"/d' $bundles/member/config.json
    run member
    within 10 is_past member 3
    put_away member
    n=$(count member)
    carob-oci delete member
    take_up member --pid-file /tmp/member.pid
    within 10 is_past member "$n"
    for kind in net ipc uts; do
        [ "$(readlink "/proc/$(cat /tmp/member.pid)/ns/$kind")" = "$(readlink "$ns/$kind")" ]
    done
    end member
    end pause
}

failed_restore() {
    mkdir /tmp/damaged.images
    cp /tmp/box.images/* /tmp/damaged.images
    : >/tmp/damaged.images/core-1.img
    cp -a $bundles/box $bundles/damaged
    left >/tmp/before.damaged
    carob-oci restore -d --bundle $bundles/damaged --image-path /tmp/damaged.images --pid-file /tmp/damaged.pid damaged \
        </dev/null 2>/tmp/said && return 1
    grep 'restore: criu: .*Error' /tmp/said
    [ ! -e /tmp/damaged.pid ]
    carob-oci state damaged && return 1
    within 5 same damaged
    # The last thing there is to fail: everything is restored by then.
    carob-oci restore -d --bundle $bundles/moved --image-path /tmp/moved.images --pid-file /nowhere/pid moved \
        </dev/null >/dev/null 2>/tmp/said && return 1
    grep -e --pid-file /tmp/said || { cat /tmp/said; return 1; }
    within 5 same damaged
}

failed_checkpoint() {
    bundle stays "$counting"
    run stays
    within 10 is_past stays 3
    carob-oci --criu /bin/false checkpoint --image-path /tmp/stays.images stays 2>/tmp/said && return 1
    grep 'criu gave no answer' /tmp/said || { cat /tmp/said; return 1; }
    [ ! -e /tmp/stays.images ]
    is stays running
    n=$(count stays)
    within 10 is_past stays "$n"
    end stays
}

# Its path reads like one of the host's, once the mount is gone that it was on.
disguised_stdio() {
    mkdir -p /etc
    echo secret >/etc/secret
    bundle guise 'd=/dev/shm; busybox mount -t tmpfs t $d && busybox mkdir $d/etc && echo x >$d/etc/secret && exec <>$d/etc/secret && busybox umount -l $d && echo 1 >/data/count; while :; do sleep 1; done' \
        -e 's|"CAP_AUDIT_WRITE"|&, "CAP_SYS_ADMIN"|'
    run guise
    within 10 is_past guise 0 || { cat /tmp/guise.out; return 1; }
    [ "$(readlink "/proc/$(carob-oci state guise | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')/fd/0")" = /etc/secret ]
    carob-oci checkpoint --image-path /tmp/guise.images guise 2>/tmp/said && return 1
    grep '/etc/secret: is not the file it was' /tmp/said || { cat /tmp/said; return 1; }
    is guise running
    end guise
}

left() {
    find $cgroups -mindepth 1 -type d
    awk '{ print $5 }' /proc/self/mountinfo
    find /run/carob-oci -mindepth 1 2>/dev/null
    for exe in /proc/[0-9]*/exe; do readlink "$exe"; done | grep -e carob -e criu -e /tmp/bundles || true
}
same() { # NAME
    left 2>/dev/null >"/tmp/after.$1"
    cmp "/tmp/before.$1" "/tmp/after.$1"
}
nothing_left() { within 5 same all || diff /tmp/before.all /tmp/after.all; }

podman_() {
    podman --root /tmp/podman --runroot /run/podman --storage-driver vfs --cgroup-manager cgroupfs \
        --events-backend none --runtime /bin/carob-oci "$@"
}
under_podman() {
    bundle seal "$counting"
    podman_ run -d --network none --name seal -v $bundles/seal/data:/data --rootfs $bundles/seal/rootfs sh -c "$counting"
    within 20 is_past seal 3
    podman_ container checkpoint seal
    n=$(count seal)
    sleep 1
    [ "$(count seal)" = "$n" ]
    podman_ container restore seal
    within 20 is_past seal "$n"
    [ "$(count seal)" -lt $((n + 200)) ]
    [ "$(podman_ inspect -f '{{.State.Status}}' seal)" = running ]
    podman_ rm -f -t 0 seal
}

mkdir -p $cgroups/boxes $cgroups/elsewhere
echo
echo "CHECKS of criu on $(uname -r)"
left >/tmp/before.all 2>/dev/null
check goes-on goes_on_where_it_was
check whole is_whole
check again again_without_delete
check leave-running leave_running
check pre-dump pre_dump
check terminal terminal
check joined joined
check failed-restore failed_restore
check failed-checkpoint failed_checkpoint
check disguised-stdio disguised_stdio
check nothing-left nothing_left
# Last: podman leaves mounts and cgroups of its own.
check podman under_podman
