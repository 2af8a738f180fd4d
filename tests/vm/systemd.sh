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

oci kill box KILL
check kill "" "$(becomes box stopped)"
oci delete box
check delete "0 " "$? $(gone $unit $group)"

create box && oci start box
systemctl stop $unit
check "systemctl stop ends it" "" "$(becomes box stopped)"
oci delete box
check "and it is deleted" "0 " "$? $(gone $unit $group)"

create box && oci start box
oci delete --force box
check "delete --force" "0 " "$? $(gone $unit $group)"

cp config.json whole.json
sed 's#"root":#"hooks":{"createRuntime":[{"path":"/bin/false"}]},"root":#' whole.json >config.json
create box
check "a hook that fails" "1 1 " "$? $(grep -c createRuntime /tmp/said) $(gone $unit $group)"
check "is no container" "" "$(oci list -q)"

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
