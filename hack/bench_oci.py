"""OCI runtimes timed beside each other: `hack/bench oci`.

    CAROB_OCI=PROGRAM IMAGES=DIR hack/bench oci [-n ROUNDS] [--many N] [-o json]

Every runtime gets the same bundle: Debian's busybox, all namespaces but user and
time, limits on memory, cpu and pids, the usual mounts, masked paths and devices.
Peers are Debian's crun and runc, those that are installed, and what
CAROB_PEERS="NAME=PROGRAM NAME=PROGRAM" names. CAROB_FLOOR as for Pods; it does
the same on cgroup v1, without state, recovery or care.

A life is create, start, state, exec, kill, delete of a container that sleeps;
`run` is one of /bin/true from spawn to exit. Peak memory is that of the program
and of what it waited for (getrusage(2), ru_maxrss), /bin/true included, in a run of
its own below time(1): what is spawned from here would count Python's.

crun refuses hybrid cgroups if v2 has controllers of its own: v2 is then hidden from
all of them alike.
"""

import json
import os
import shutil
import statistics
import subprocess
import time

import bench_shared
from bench_shared import Failed, Runner, note, unpack

TIME = "/usr/bin/time"
SECCOMP = "/usr/share/containers/seccomp.json"
CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
    "CAP_NET_BIND_SERVICE", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP",
    "CAP_SETUID", "CAP_SYS_CHROOT",
]


def mount(target, kind, *options, source=None):
    return {"destination": target, "type": kind, "source": source or kind, "options": list(options)}


def config(command, cgroup, seccomp=None):
    linux = {
        "cgroupsPath": cgroup,
        "namespaces": [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
        "resources": {
            "devices": [{"allow": False, "access": "rwm"}],
            "memory": {"limit": 256 << 20},
            "cpu": {"shares": 512, "quota": 100000, "period": 100000},
            "pids": {"limit": 100},
        },
        "maskedPaths": [
            "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
            "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
        ],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    }
    if seccomp:
        linux["seccomp"] = seccomp
    sets = ("bounding", "effective", "permitted")
    return {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "hostname": "bench",
        "process": {
            "args": command,
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "capabilities": {s: CAPABILITIES for s in sets},
            "noNewPrivileges": True,
        },
        "mounts": [
            mount("/proc", "proc"),
            mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
            mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k", source="shm"),
            mount("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev"),
            mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
            mount("/sys/fs/cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro"),
        ],
        "linux": linux,
    }


def default_seccomp():
    """The engines' default profile, for x86-64 and the capabilities above."""
    with open(SECCOMP) as f:
        profile = json.load(f)

    def holds(rule):
        has, hasnt = rule.get("includes", {}), rule.get("excludes", {})
        caps, arches = set(CAPABILITIES), {"amd64", "x86_64"}
        return (
            set(has.get("caps", [])) <= caps
            and (not has.get("arches") or arches & set(has["arches"]))
            and not caps & set(hasnt.get("caps", []))
            and not arches & set(hasnt.get("arches", []))
        )

    fields = ("names", "action", "args", "errnoRet")
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile.get("defaultErrnoRet", 1),
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {k: rule[k] for k in fields if rule.get(k)} for rule in profile["syscalls"] if holds(rule)
        ],
    }


class Runtime:
    def __init__(self, run, work, name, program):
        self.run, self.name, self.work = run, name, work
        self.program = os.path.realpath(shutil.which(program) or program)
        self.root = os.path.join(work, "run-" + name)
        bench_shared.make_run(self.root)
        self.base = [self.program, "--root", self.root]
        self.size = os.stat(self.program).st_size

    def bundle(self, kind):
        return os.path.join(self.work, f"bundle-{kind}-{self.name}")

    def prepare(self, rootfs, kind, command, seccomp=None):
        path = self.bundle(kind)
        os.makedirs(path)
        os.symlink(rootfs, os.path.join(path, "rootfs"))
        spec = config(command, f"/bench-{os.getpid()}-{self.name}-{kind}", seccomp)
        spec["root"]["path"] = rootfs
        with open(os.path.join(path, "config.json"), "w") as f:
            json.dump(spec, f)

    def timed(self, *arguments):
        return self.run.timed(self.base + list(arguments))

    def life(self, add):
        name = "bench-life"
        add("create", self.timed("create", "--bundle", self.bundle("sleep"), name))
        try:
            add("start", self.timed("start", name))
            add("state", self.timed("state", name))
            add("exec /bin/true", self.timed("exec", name, "/bin/true"))
            add("kill KILL", self.timed("kill", name, "KILL"))
            limit = time.monotonic() + 10
            while '"stopped"' not in bench_shared.output(self.base + ["state", name]):
                if time.monotonic() > limit:
                    raise Failed(f"{self.name}: not stopped 10 s after KILL")
                time.sleep(0.01)
            add("delete", self.timed("delete", name))
        except Failed:
            bench_shared.output(self.base + ["delete", "--force", name])
            raise

    def one_run(self, kind="true"):
        return self.timed("run", "--bundle", self.bundle(kind), "bench-" + kind)

    def peak(self):
        said = os.path.join(self.work, "peak")
        command = self.base + ["run", "--bundle", self.bundle("true"), "bench-peak"]
        # Not by wait4(2) from here: a child's peak begins with that of Python before exec.
        self.run.timed([TIME, "-f", "%M", "-o", said] + command)
        with open(said) as f:
            return int(f.read())


def hide_unified():
    unified = "/sys/fs/cgroup/unified"
    try:
        with open(unified + "/cgroup.controllers") as f:
            hybrid = f.read().strip() != ""
    except OSError:
        return
    if hybrid:
        note("hybrid cgroups: v2 is hidden, since crun refuses them")
        subprocess.run(["umount", unified], check=True)


def measure(args, work):
    run = Runner(work, args.gap / 1000)
    rootfs = os.path.join(work, "rootfs")
    image = os.path.join(args.images, "busybox.tar")
    if not os.path.isfile(image):
        raise Failed(f"no {image}: run make images")
    unpack(image, rootfs)
    peers = {"carob-oci": args.carob_oci}
    peers |= {name: name for name in ("crun", "runc") if shutil.which(name)}
    peers |= dict(p.split("=", 1) for p in os.environ.get("CAROB_PEERS", "").split())
    for name in args.without:
        peers.pop(name, None)
    if any("crun" in name for name in peers):
        hide_unified()
    runtimes = [Runtime(run, work, name, program) for name, program in peers.items()]
    seccomp = default_seccomp() if os.path.isfile(SECCOMP) else None
    for r in runtimes:
        r.prepare(rootfs, "true", ["/bin/true"])
        r.prepare(rootfs, "sleep", ["/bin/sleep", "1000"])
        if seccomp:
            r.prepare(rootfs, "filtered", ["/bin/true"], seccomp)
    floor = None
    if path := os.environ.get("CAROB_FLOOR"):
        floor = bench_shared.Floor(run, work, path, image)

    series, rss = {}, {}

    def add(what, who, value):
        series.setdefault(what, {}).setdefault(who, []).append(value)

    for r in runtimes:  # once unmeasured, for the caches
        r.one_run()
    note(", ".join(r.name for r in runtimes) + f"; {args.rounds} rounds")
    for _ in range(args.rounds):
        for r in runtimes:
            add("run /bin/true", r.name, r.one_run())
            if os.path.exists(TIME):
                rss[r.name] = max(rss.get(r.name, 0), r.peak())
            if seccomp:
                add("run, engines' seccomp", r.name, r.one_run("filtered"))
            r.life(lambda what, value, name=r.name: add(what, name, value))
        if floor:
            add("run /bin/true", "floor", floor.one())

    growth = {}
    if args.many:
        note(f"{args.many} containers, one after the other, by carob-oci")
        growth = many(runtimes[0], args.many)
    return {
        "kernel": os.uname().release,
        "rounds": args.rounds,
        "gap_ms": args.gap,
        "ms": {
            what: {who: statistics.median(v) for who, v in by.items()} for what, by in series.items()
        },
        "peak_rss_kib": rss,
        "program_bytes": {r.name: r.size for r in runtimes},
        "many": growth,
    }


def many(runtime, count):
    """Whether the last of many containers takes longer than the first ones."""
    times = []
    path = runtime.bundle("sleep")
    with open(os.path.join(path, "config.json")) as f:
        spec = json.load(f)
    parent = spec["linux"]["cgroupsPath"]
    try:
        for i in range(count):
            spec["linux"]["cgroupsPath"] = f"{parent}-{i}"
            with open(os.path.join(path, "config.json"), "w") as f:
                json.dump(spec, f)
            times.append(runtime.timed("run", "-d", "--bundle", path, f"many-{i}"))
    finally:
        for i in range(len(times)):
            bench_shared.output(runtime.base + ["delete", "--force", f"many-{i}"])
    ten = max(1, count // 20)
    return {
        "count": count,
        "first_ms": statistics.median(times[:ten]),
        "last_ms": statistics.median(times[-ten:]),
    }


def table(result):
    names = list(result["program_bytes"])
    wide = "floor" in result["ms"]["run /bin/true"]
    columns = names + (["floor"] if wide else [])
    print(f"{'median ms (ratio of carob-oci to it)':38}" + "".join(f"{c:>18}" for c in columns))
    for what, by in result["ms"].items():
        ours = by.get("carob-oci")
        cells = []
        for c in columns:
            if c not in by:
                cells.append("")
            elif c == "carob-oci" or not ours:
                cells.append(f"{by[c]:.2f}")
            else:
                cells.append(f"{by[c]:.2f} ({ours / by[c]:.2f})")
        print(f"{what:38}" + "".join(f"{c:>18}" for c in cells))
    if rss := result["peak_rss_kib"]:
        print(f"{'peak RSS of run, KiB':38}" + "".join(f"{rss[n]:>18}" for n in names))
    print(f"{'program, KiB':38}" + "".join(f"{result['program_bytes'][n] // 1024:>18}" for n in names))
    if g := result["many"]:
        print(f"\n{g['count']} containers: the first ones {g['first_ms']:.2f} ms each, "
              f"the last ones {g['last_ms']:.2f} ({g['last_ms'] / g['first_ms']:.2f})")
    print(f"\n{result['rounds']} rounds, {result['gap_ms']} ms idle between operations, kernel {result['kernel']}")
