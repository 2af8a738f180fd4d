#!/bin/sh
# What tests/vm/labels.rs checks, as the first process of its machine. Prints
# `CHECK ok NAME` or `CHECK FAILED NAME: WHY`; `CHECKS done` comes last.
export PATH=/bin
if [ ! -e /moved ]; then
    # An initramfs cannot be pivoted from.
    busybox mkdir -p /root
    busybox mount -t tmpfs root /root
    busybox cp -a /bin /bundle /labels /init /root/
    busybox mkdir -p /root/proc /root/sys /root/dev /root/run /root/tmp
    busybox touch /root/moved
    exec busybox switch_root /root /init
fi
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t securityfs security /sys/kernel/security
(sleep 200; poweroff -f) &

check() { # NAME WANTED FOUND
    if [ "$2" = "$3" ]; then echo "CHECK ok $1"; else echo "CHECK FAILED $1: not $2 but $3"; fi
}
configured() { # NAME: with the configuration of that name
    cp "/labels/$1.json" /bundle/config.json
}
cd /bundle || exit 1
case $(cat /sys/kernel/security/lsm) in
*selinux*)
    mount -t selinuxfs selinux /sys/fs/selinux
    cat /labels/selinux.policy >/sys/fs/selinux/load
    configured selinux
    carob-oci create box >/tmp/said 2>&1 </dev/null
    carob-oci start box
    check "a process has its label" system_u:system_r:box_t \
        "$(carob-oci exec box cat /proc/1/attr/current | tr -d '\0')"
    check "a process of exec has the container's" system_u:system_r:box_t \
        "$(carob-oci exec box cat /proc/self/attr/current | tr -d '\0')"
    check "or its own" system_u:system_r:other_t \
        "$(carob-oci exec --process-label system_u:system_r:other_t box cat /proc/self/attr/current | tr -d '\0')"
    check "what is mounted anew has the mounts' label" "/dev /dev/pts /tmp" \
        "$(carob-oci exec box grep context=system_u:object_r:box_mount_t /proc/mounts | cut -d' ' -f2 | sort | tr '\n' ' ' | sed 's/ $//')"
    check "features" true "$(carob-oci features | sed -n '/"selinux"/{n;s/.*: //p}')"
    carob-oci delete --force box
    configured wrong
    carob-oci run bad >/tmp/said 2>&1 </dev/null
    check "a label that the policy lacks is refused" 1 $?
    check "and named" 1 "$(grep -c process.selinuxLabel /tmp/said)"
    ;;
*apparmor*)
    cat /labels/apparmor.policy >/sys/kernel/security/apparmor/.load
    echo secret >/bundle/rootfs/secret
    configured apparmor
    carob-oci create box >/tmp/said 2>&1 </dev/null
    carob-oci start box
    check "a process has its profile" "carob-box (enforce)" \
        "$(carob-oci exec box cat /proc/1/attr/current)"
    check "a process of exec has the container's" "carob-box (enforce)" \
        "$(carob-oci exec box cat /proc/self/attr/current)"
    check "or its own" "carob-other (enforce)" \
        "$(carob-oci exec --apparmor carob-other box cat /proc/self/attr/current)"
    carob-oci exec box cat /secret >/tmp/said 2>&1
    check "the profile is in force" "1 1" "$? $(grep -c 'Permission denied' /tmp/said)"
    carob-oci delete --force box
    configured wrong
    carob-oci run bad >/tmp/said 2>&1 </dev/null
    check "a profile that is not loaded is refused" 1 $?
    check "and named" 1 "$(grep -c process.apparmorProfile /tmp/said)"
    ;;
*) echo "CHECK FAILED the kernel's modules: $(cat /sys/kernel/security/lsm)" ;;
esac
check "nothing is left" "" "$(ls /run/carob-oci 2>/dev/null)"
echo "CHECKS done"
poweroff -f
