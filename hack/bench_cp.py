"""Files copied into a container and out of it, beside tar: `hack/bench cp`.

    CAROB=PROGRAM IMAGES=DIR hack/bench cp [-n ROUNDS] [--mib SIZE] [-o json]

Two trees: one file of SIZE MiB (1024), and 10,000 files of 4 KiB in 100 directories. Each is
copied by `carob cp` into a container's root file system, and from there out again; beside
that by `tar cf - | tar xf -` from a directory of the host to another, which has no overlay
file system to make files in. All is in memory (tmpfs): what a disk writes, and when, would
drown the rest. The three take turns.

Both work on two processors, of which a busy machine leaves them less: the time that they were
on a processor is shown as well.

A copy that differs from its source is a failure.
"""

import os
import resource
import shutil
import subprocess

from bench_shared import Failed, in_memory, machine, note, one_container, output, summary

FILES = 10_000
DIRECTORIES = 100


def make_trees(work, mib):
    large, small = os.path.join(work, "large"), os.path.join(work, "small")
    os.makedirs(large)
    with open(os.path.join(large, "file"), "wb") as f:
        for _ in range(mib):
            f.write(os.urandom(1 << 20))
    content = os.urandom(4096)
    for d in range(DIRECTORIES):
        path = os.path.join(small, f"d{d}")
        os.makedirs(path)
        for n in range(FILES // DIRECTORIES):
            with open(os.path.join(path, f"f{n}"), "wb") as f:
                f.write(content)
    return {f"1 file of {mib} MiB": large, f"{FILES} files of 4 KiB": small}


def same(a, b):
    done = subprocess.run(["diff", "-r", "--no-dereference", a, b], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"{a} and {b} differ: {done.stdout[:200]}{done.stderr[:200]}")


def on_processor():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(args, work, engine):
    with in_memory(args, work, engine, "cp") as (run, carob, memory):
        note(f"{carob.version}; {args.rounds} rounds")
        series = take_turns(args, run, carob, memory)
    return {
        **machine(),
        "version": carob.version,
        "rounds": args.rounds,
        **{
            unit: {
                what: {who: summary([times[i] for times in v]) for who, v in by.items()}
                for what, by in series.items()
            }
            for i, unit in enumerate(("ms", "processor_ms"))
        },
    }


def take_turns(args, run, carob, work):
    trees = make_trees(work, args.mib)
    series = {what: {"in": [], "out": [], "tar": []} for what in trees}
    out, peer = os.path.join(work, "out"), os.path.join(work, "peer")
    container = {"command": ["sleep", "1000000"]}
    carob.start("p", one_container(work, "p", container, terminationGracePeriodSeconds=0))
    for n in range(args.rounds):
        for what, tree in trees.items():
            def add(who, argv):
                before = on_processor()
                ms = run.timed(argv)
                series[what][who].append((ms, (on_processor() - before) * 1e3))

            def cp_in():
                add("in", carob.base + ["cp", tree, "p:/tree"])

            def cp_out():
                add("out", carob.base + ["cp", "p:/tree", out])

            def tar():
                os.makedirs(peer)
                line = f"tar -C {tree} -cf - . | tar -C {peer} -xf -"
                add("tar", ["sh", "-c", line])

            steps = [tar, cp_in, cp_out] if n % 2 else [cp_in, cp_out, tar]
            for step in steps:
                step()
            if n == 0:
                same(tree, out)
            output(carob.base + ["exec", "p", "--", "rm", "-rf", "/tree"])
            for path in (out, peer):
                shutil.rmtree(path)
    return series


def table(result):
    for unit, head in (("ms", "median ms"), ("processor_ms", "ms on a processor")):
        print(f"{head:28}{'cp, in':>10}{'cp, out':>10}{'tar | tar':>11}{'in/tar':>9}{'out/tar':>9}")
        for what, by in result[unit].items():
            into, out, tar = (by[who]["median"] for who in ("in", "out", "tar"))
            print(f"{what:28}{into:>10.0f}{out:>10.0f}{tar:>11.0f}{into / tar:>9.2f}{out / tar:>9.2f}")
        print()
    print(f"{result['rounds']} rounds, kernel {result['kernel']}, {result['cpus']} CPUs")
