# What tests/vm/systemd.rs checks, run by systemd as a unit of its own. Prints
# `CHECK ok NAME` or `CHECK FAILED NAME: WHY`; `CHECKS done` comes last.
cd /bundle || exit 1
unit=carob-box.scope
group=/sys/fs/cgroup/carobtest.slice/$unit

# Whoever started this machine may not live to end it.
(sleep 200; poweroff -f) &

oci() { carob-oci --systemd-cgroup "$@"; }
# A container keeps its maker's output: not that of a $( ) that waits for its end.
create() { oci create "$@" >/tmp/said 2>&1 </dev/null; }
check() { # NAME WANTED FOUND
    if [ "$2" = "$3" ]; then echo "CHECK ok $1"; else echo "CHECK FAILED $1: not $2 but $3"; fi
}
shows() { systemctl show -P "$1" "$2"; }
status() { oci state "$1" 2>&1 | sed -n 's/.*"status": "\([a-z]*\)".*/\1/p'; }
becomes() { # ID STATUS
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        [ "$(status "$1")" != "$2" ] || return 0
        sleep 0.2
    done
    echo "it is $(status "$1")"
}
gone() { # UNIT DIRECTORY
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        [ "$(shows LoadState "$1")" != not-found ] || [ -e "$2" ] || return 0
        sleep 0.2
    done
    echo "$1 is $(shows LoadState "$1"); $(ls -d "$2" 2>&1)"
}

create box
check create "0 created" "$? $(status box)$(cat /tmp/said)"
check "the scope" "active carobtest.slice yes inactive-or-failed" \
    "$(shows ActiveState $unit) $(shows Slice $unit) $(shows Delegate $unit) $(shows CollectMode $unit)"
check "systemd knows the limits" "67108864 33" "$(shows MemoryMax $unit) $(shows TasksMax $unit)"
# Exactly as asked: systemd alone would have made 34000 of it.
check "the cgroup has them" "33333 100000/67108864/33/0" \
    "$(cat $group/cpu.max)/$(cat $group/memory.max)/$(cat $group/pids.max)/$(cat $group/cpuset.cpus)"

create other
check "a taken name" "1 1" "$? $(grep -c "$unit" /tmp/said)"
check "leaves nothing" "box" "$(oci list -q)"

oci start box
check start "0 running" "$? $(status box)"
check "a cgroup namespace of its own" "0::/" "$(oci exec box cat /proc/self/cgroup)"
oci exec -d box sleep 1000 </dev/null >/dev/null 2>&1
check "exec is in the scope" 2 "$(wc -l <$group/cgroup.procs)"
check ps 2 "$(oci ps -f json box | grep -c '[0-9]')"

oci pause box
check pause "paused 1" "$(status box) $(cat $group/cgroup.freeze)"
oci resume box
check resume "running 0" "$(status box) $(cat $group/cgroup.freeze)"

oci update --memory 134217728 --pids-limit 44 box
check update "134217728 44 134217728 44" \
    "$(cat $group/memory.max) $(cat $group/pids.max) $(shows MemoryMax $unit) $(shows TasksMax $unit)"

oci update --cpu-quota 12345 box
# systemd writes what it makes of it a little later than it answers.
check "update, exactly" "12345 100000 130ms" "$(cat $group/cpu.max) $(shows CPUQuotaPerSecUSec $unit)"
sleep 0.5
check "and for good" "12345 100000" "$(cat $group/cpu.max)"
oci update --cpuset-cpus 99 box >/dev/null 2>&1
check "what the kernel refuses" "1 0" "$? $(shows AllowedCPUs $unit)"
systemctl daemon-reload
check "systemd undoes none" "134217728 44 0" \
    "$(cat $group/memory.max) $(cat $group/pids.max) $(cat $group/cpuset.cpus)"

oci kill box KILL
check kill "" "$(becomes box stopped)"
oci delete box
check delete "0 " "$? $(gone $unit $group)"

cp config.json whole.json
annotated() { sed "s#\"org.systemd.property.CollectMode\":\"[^\"]*\"#$1#" whole.json >config.json; }
# The first process of a pid namespace hears no SIGTERM that it does not handle.
annotated '"org.systemd.property.TimeoutStopSec":"1"'
create box && oci start box
systemctl stop $unit
check "systemctl stop ends it" "" "$(becomes box stopped)"
oci delete box
check "and it is deleted" "0 " "$? $(gone $unit $group)"
cp whole.json config.json

create box && oci start box
oci delete --force box
check "delete --force" "0 " "$? $(gone $unit $group)"

# One that systemd ended and keeps to be looked at: its name is free, it is deleted.
annotated '"org.systemd.property.RuntimeMaxSec":"uint64 1","org.systemd.property.TimeoutStopSec":"double 0.5"'
create box && oci start box
check "seconds" "1s 500ms" "$(shows RuntimeMaxUSec $unit) $(shows TimeoutStopUSec $unit)"
check "its time is over" "" "$(becomes box stopped)"
sleep 0.5
check "systemd keeps it" failed "$(shows ActiveState $unit)"
create other
check "its name is free" "0 created" "$? $(status other)$(cat /tmp/said)"
oci delete --force other
oci delete box
check "a failed one is deleted" "0 " "$? $(gone $unit $group)"
annotated '"org.systemd.property.NoSuch":"true"'
create box
check "a property of no unit" "1 1 " "$? $(grep -c NoSuch /tmp/said) $(gone $unit $group)"

# Found out when the scope is there already, with a process that no SIGTERM ends.
sed 's#"resources":{#&"unified":{"memory.nosuch":"1"},#' whole.json >config.json
began=$(date +%s)
create box
check "a limit that is none" "1 1 " "$? $(grep -c memory.nosuch /tmp/said) $(gone $unit $group)"
check "is said at once" 1 "$((($(date +%s) - began) < 20))"

sed 's#"root":#"hooks":{"createRuntime":[{"path":"/bin/false"}]},"root":#' whole.json >config.json
create box
check "a hook that fails" "1 1 " "$? $(grep -c createRuntime /tmp/said) $(gone $unit $group)"
check "is no container" "" "$(oci list -q)"

map='[{"containerID":0,"hostID":1000,"size":10}]'
sed "s#\"namespaces\":\[#\"uidMappings\":$map,\"gidMappings\":$map,&{\"type\":\"user\"},#" whole.json >config.json
create box && oci start box
check "a user namespace" "0::/ 1000" "$(oci exec box cat /proc/self/cgroup) $(oci exec box cat /proc/self/uid_map | tr -s ' ' | cut -d' ' -f3)"
oci delete --force box

cp notify.json config.json
service() { # NAME COMMAND LINE...
    name=$1
    shift
    cat >"/run/systemd/system/$name.service" <<END
[Unit]
DefaultDependencies=no
[Service]
Type=notify
TimeoutStopSec=1
Environment=PATH=/bin:/usr/bin
WorkingDirectory=/bundle
ExecStart=$*
ExecStopPost=/bin/carob-oci delete --force box
END
    rm -f rootfs/go
    systemctl daemon-reload
    systemctl start --no-block "$name"
    becomes box running
    check "$name waits" activating "$(shows ActiveState "$name")"
    touch rootfs/go
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        systemctl is-active "$name" >/dev/null && break
        sleep 0.2
    done
}
pid() { oci state box | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p'; }
service detached /bin/carob-oci --systemd-cgroup run -d box
check "detached is active" "active $(pid)" "$(shows ActiveState detached) $(shows MainPID detached)"
systemctl stop detached
check "and ends" "" "$(gone $unit $group)"
service foreground /bin/carob-oci --systemd-cgroup run box
check "foreground is active" "active carob-oci" \
    "$(shows ActiveState foreground) $(cat /proc/"$(shows MainPID foreground)"/comm)"
oci kill box KILL
check "foreground ends" "" "$(gone $unit $group)"
sleep 0.5
check "with the program's code" "exit-code 137" "$(shows Result foreground) $(shows ExecMainStatus foreground)"

sed 's#"cgroupsPath":"[^"]*",##' whole.json >config.json
create plain
check "the default place" "0 /system.slice/carob-plain.scope" "$? $(shows ControlGroup carob-plain.scope)"
oci delete --force plain

sed 's#carobtest.slice:carob:box#/a/path#' whole.json >config.json
create path
check "a path is no scope" "1 1" "$? $(grep -c slice:prefix:name /tmp/said)"

sed "s#'inactive-or-failed'#(nonsense#" whole.json >config.json
create bad
check "a bad annotation" "1 1" "$? $(grep -c org.systemd.property.CollectMode /tmp/said)"
echo CHECKS done
sync
poweroff -f
