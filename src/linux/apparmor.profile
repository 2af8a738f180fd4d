# The AppArmor profile that containers of Pods run under unless their Pod says otherwise:
# securityContext.appArmorProfile. carob loads it when it starts a container and no
# profile of this name is loaded; to use a profile of your own instead, load one of the
# same name at boot. A change of this file takes another name.
#
# Everything is allowed that is not denied here: what a container reaches is bounded by
# its namespaces, its mounts, its capabilities and seccomp. The profile matters where a Pod
# loosens them, by capabilities.add or procMount: Unmasked.
profile carob-default flags=(attach_disconnected, mediate_deleted) {
  network,
  capability,
  file,
  umount,

  # Processes outside may signal and trace the container as far as their own profiles allow
  # it. The container may do so to processes under the same profile only.
  signal (receive),
  signal (send) peer=carob-default,
  ptrace (readby, tracedby),
  ptrace (read, trace) peer=carob-default,

  # CAP_SYS_ADMIN alone is not enough to mount: a new procfs or sysfs would have no
  # masked and no read-only paths.
  deny mount,
  deny remount,
  deny pivot_root,

  # In /proc a container may write to the directories of processes, whose names are numbers.
  deny /proc/[^1-9]** wl,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/{kcore,kmem,mem} rwklx,

  # In /sys it may write to its cgroups.
  deny /sys/[^f]** wl,
  deny /sys/f[^s]** wl,
  deny /sys/fs/[^c]** wl,
  deny /sys/fs/c[^g]** wl,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/firmware/** rwklx,
  deny /sys/kernel/{debug,security,tracing}/** rwklx,
}
