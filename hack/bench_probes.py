"""What probes cost and how soon a Pod is Ready: `hack/bench probes`.

    CAROB=PROGRAM IMAGES=DIR hack/bench probes [-n PODS] [-o json]

PODS Pods (100) of one container, first without probes, then with a liveness probe each
second: exec, httpGet and tcpSocket in turn. For each: the time that all monitors together
were on a processor (field 1 of /proc/PID/schedstat) over some seconds, their context
switches and their memory. Commands that probes start are the containers' own and are not
in the figure; what the whole machine was busy with is.

Then the time from `apply` to Ready of a Pod whose server listens 300 ms after its start
and whose readiness probe has a period of 10 s.

A Pod that is restarted or not Ready is a failure.
"""

import os
import time

from bench_shared import Failed, field, in_memory, machine, note, one_container, output, summary

WATCHED = 20
STARTS = 11
CHECKS = {
    "none": None,
    "exec": {"exec": {"command": ["true"]}},
    "httpGet": {"httpGet": {"port": 8080}},
    "tcpSocket": {"tcpSocket": {"port": 8080}},
}


def manifest(work, name, script, probes):
    return one_container(work, name, {"command": ["sh", "-c", script]} | probes)


def server(delay):
    return f"mkdir /www; echo ok > /www/index.html; sleep {delay}; exec httpd -f -p 8080 -h /www"


def on_processor(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/schedstat") as f:
            total += int(f.read().split()[0])
    return total / 1e9


def switches(pids):
    names = ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")
    return sum(field(p, "status", name) for p in pids for name in names)


def busy():
    """Seconds that all processors were not idle."""
    with open("/proc/stat") as f:
        user, nice, system, _, _, irq, softirq, *_ = map(int, f.readline().split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def watch(carob, work, kind, pods):
    check = CHECKS[kind]
    probes = {"livenessProbe": dict(check, periodSeconds=1, timeoutSeconds=5)} if check else {}
    if check:
        # The server listens before anything is asked of it.
        probes["startupProbe"] = {"tcpSocket": {"port": 8080}, "failureThreshold": 60, "periodSeconds": 1}
    for i in range(pods):
        carob.start(f"p{i}", manifest(work, f"p{i}", server(0), probes))
    time.sleep(5)
    pids = carob.runtime()
    if len(pids) != pods:
        raise Failed(f"{len(pids)} monitors of {pods} Pods")
    before = on_processor(pids), switches(pids), busy()
    time.sleep(WATCHED)
    after = on_processor(pids), switches(pids), busy()
    used, switched, all_of_it = (b - a for a, b in zip(before, after))
    pss = sum(field(p, "smaps_rollup", "Pss") for p in pids)
    rows = output(carob.base + ["get", "pods", "--no-headers"]).splitlines()
    if sum(" 1/1 " in row and " 0 " in row for row in rows) != pods:
        raise Failed(f"{kind}: a Pod is not Ready, or was restarted:\n" + "\n".join(rows))
    output(carob.base + ["delete", "pods", "--all", "--force", "--grace-period=0"])
    return {
        "core_percent": 100 * used / WATCHED,
        "us_per_probe": 1e6 * used / WATCHED / pods if check else None,
        "switches_per_pod_s": switched / WATCHED / pods,
        "pss_kib": pss / pods,
        "machine_percent": 100 * all_of_it / WATCHED,
    }


def ready(carob, work):
    probes = {"readinessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 10}}
    times = []
    for i in range(STARTS):
        file = manifest(work, f"r{i}", server(0.3), probes)
        wait = ["wait", f"pod/r{i}", "--for=condition=Ready", "--timeout=20s"]
        begin = time.perf_counter()
        output(carob.base + ["apply", "-f", file])
        output(carob.base + wait)
        times.append((time.perf_counter() - begin) * 1e3)
        output(carob.base + ["delete", "pod", f"r{i}", "--force", "--grace-period=0"])
    return times


def measure(args, work, engine):
    with in_memory(args, work, engine, "probes") as (_, carob, _):
        note(f"{carob.version}; {args.rounds} Pods")
        times = ready(carob, work)
        kinds = {}
        for kind in CHECKS:
            kinds[kind] = watch(carob, work, kind, args.rounds)
            note(f"{kind}: {kinds[kind]['core_percent']:.2f} % of a core")
    return {
        **machine(),
        "version": carob.version,
        "pods": args.rounds,
        "seconds": WATCHED,
        "kinds": kinds,
        "ready_ms": summary(times),
    }


def table(result):
    print(f"{result['pods']} Pods, a probe a second each, all monitors together, {result['seconds']} s\n")
    print(f"{'':12}{'% of a core':>14}{'us a probe':>12}{'switches/Pod/s':>16}{'PSS KiB/Pod':>14}{'machine %':>12}")
    for kind, k in result["kinds"].items():
        each = "-" if k["us_per_probe"] is None else f"{k['us_per_probe']:.0f}"
        print(f"{kind:12}{k['core_percent']:>14.2f}{each:>12}{k['switches_per_pod_s']:>16.2f}"
              f"{k['pss_kib']:>14.0f}{k['machine_percent']:>12.1f}")
    r = result["ready_ms"]
    print(f"\nReady with a server that listens after 300 ms, period 10 s: {r['median']:.0f} ms "
          f"({r['min']:.0f} to {r['max']:.0f})")
    print(f"kernel {result['kernel']}, {result['cpus']} CPUs")
