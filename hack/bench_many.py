"""Many Pods in one root: `hack/bench many`.

    CAROB=PROGRAM IMAGES=DIR hack/bench many [-n PODS] [-o json]

Starts PODS Pods of one container each (500), one after the other, and compares the
first 20 starts with the last 20. Then, with all of them running: `get pods`, the
memory and the wake-ups of their monitors, one `delete --all`, and what that leaves.

The root is a tmpfs: what is asked is what a Pod costs beside many others, not how
a filesystem on disk ages. A Pod that does not run, and anything left after the
deletion, is a failure.
"""

import os
import statistics
import time

from bench_shared import Failed, field, in_memory, machine, note, output

ENDS = 20
LISTS = 11
IDLE = 5


def measure(args, work, engine, manifest):
    with in_memory(args, work, engine, "many") as (_, carob, _):
        note(f"{carob.version}; {args.rounds} Pods")
        return {**machine(), "gap_ms": args.gap, **start_all(args.rounds, work, carob, manifest)}


def start_all(pods, work, carob, manifest):
    before = held(carob)
    available = meminfo("MemAvailable")
    try:
        starts = []
        for i in range(pods):
            starts.append(carob.start(f"many{i}", manifest(work, f"many{i}", 1)))
            if (i + 1) % 100 == 0:
                note(f"{i + 1} Pods, the last {ENDS} in {statistics.median(starts[-ENDS:]):.1f} ms each")
        rows = output(carob.base + ["get", "pods", "--no-headers"]).splitlines()
        running = sum(" Running " in row for row in rows)
        if running != pods:
            raise Failed(f"{running} of {pods} Pods run")
        lists = [carob.list() for _ in range(LISTS)]
        # The monitors of the last Pods give their memory back after some seconds.
        time.sleep(2 * IDLE)
        kept = stays(carob)
        kept["machine_kib"] = available - meminfo("MemAvailable")
    finally:
        begin = time.perf_counter()
        output(carob.base + ["delete", "pods", "--all"])
        deletion = time.perf_counter() - begin
    left = leftovers(carob, before)
    first, last = starts[:ENDS], starts[-ENDS:]
    return {
        "version": carob.version,
        "pods": pods,
        "starts_ms": starts,
        "first_ms": statistics.median(first),
        "last_ms": statistics.median(last),
        "ratio": statistics.median(last) / statistics.median(first),
        "list_ms": statistics.median(lists),
        "per_pod": {field: value / pods for field, value in kept.items()},
        "delete_all_s": deletion,
        "left": left,
    }


def stays(carob):
    """The monitors' memory, and how often they were woken in some idle seconds."""
    pids = carob.runtime()
    switches = lambda: sum(
        field(p, "status", name)
        for p in pids
        for name in ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")
    )
    pss = sum(field(p, "smaps_rollup", "Pss") for p in pids)
    # To read smaps_rollup interrupts nobody, but may have to wait for its process.
    before = switches()
    time.sleep(IDLE)
    return {"processes": len(pids), "pss_kib": pss, "wakeups": switches() - before}


def meminfo(name):
    with open("/proc/meminfo") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith(name + ":"))


def held(carob):
    """What Pods hold, by name: to be the same before the first and after the last."""
    with open("/proc/self/mountinfo") as f:
        mounts = {line.split()[4] for line in f}
    with open("/proc/self/net/dev") as f:
        links = {line.split(":")[0].strip() for line in f if ":" in line}
    with open("/proc/self/net/route") as f:
        routes = {" ".join(line.split()[:3]) for line in f}
    cgroups = {
        os.path.join(top, name)
        for top, names, _ in os.walk("/sys/fs/cgroup")
        for name in names
        if name.startswith("carob")
    }
    files = {
        os.path.join(top, name)
        for top, dirs, names in os.walk(os.path.join(carob.root, "run"))
        for name in dirs + names
    } | {
        os.path.join(carob.root, sub, name)
        for sub in ("data/pods", "log")
        if os.path.isdir(os.path.join(carob.root, sub))
        for name in os.listdir(os.path.join(carob.root, sub))
    }
    tables = set(output(["nft", "list", "tables"]).splitlines())
    processes = {f"process {pid}" for pid in carob.runtime()}
    return mounts | links | routes | cgroups | files | tables | processes


def leftovers(carob, before):
    """Links die with their network namespaces, which the kernel ends in its own time."""
    deadline = time.monotonic() + 30
    while True:
        left = sorted(x for x in held(carob) - before if not is_fixed(x, carob))
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def is_fixed(path, carob):
    """Directories and locks of the root itself."""
    return path in {
        os.path.join(carob.root, name)
        for name in ("run/names", "run/pods", "run/names.lock", "run/layers.lock")
    }


def table(result):
    rows = [
        (f"start, first {ENDS} Pods", f"{result['first_ms']:.1f} ms"),
        (f"start, last {ENDS} of {result['pods']}", f"{result['last_ms']:.1f} ms"),
        ("last / first", f"{result['ratio']:.2f}"),
        (f"get pods, {result['pods']} running", f"{result['list_ms']:.1f} ms"),
        ("processes per Pod", f"{result['per_pod']['processes']:.1f}"),
        ("memory per Pod, its monitor's PSS", f"{result['per_pod']['pss_kib']:.0f} KiB"),
        ("the same, of the whole machine", f"{result['per_pod']['machine_kib']:.0f} KiB"),
        (f"context switches in {IDLE} s, all", f"{result['per_pod']['wakeups'] * result['pods']:.0f}"),
        ("delete --all", f"{result['delete_all_s']:.1f} s"),
        ("left", str(len(result["left"]))),
    ]
    for what, value in rows:
        print(f"{what:36}{value:>12}")
    for name in result["left"]:
        print("  left: " + name)
    print(f"\nmedians; {result['gap_ms']} ms idle between operations, kernel {result['kernel']}, "
          f"{result['cpus']} CPUs")
