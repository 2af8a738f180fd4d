"""What the benchmarks have in common: a clock around processes, an engine in memory, and
the floor."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tarfile
import time


IMAGE = "localhost/carob/busybox:1"


class Failed(Exception):
    pass


def note(text):
    print("bench: " + text, file=sys.stderr, flush=True)


class Runner:
    """Spawns programs with as little of Python's own time as can be."""

    def __init__(self, work, gap, log="output"):
        self.gap = gap
        self.log = os.path.join(work, log)
        self.null = os.open("/dev/null", os.O_RDONLY)

    def timed(self, argv, env=None, until=None):
        """Milliseconds from spawn to exit, or to when `until()` is true."""
        time.sleep(self.gap)
        out = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        actions = [
            (os.POSIX_SPAWN_DUP2, self.null, 0),
            (os.POSIX_SPAWN_DUP2, out, 1),
            (os.POSIX_SPAWN_DUP2, out, 2),
        ]
        begin = time.perf_counter_ns()
        pid = os.posix_spawnp(argv[0], argv, env or os.environ, file_actions=actions)
        _, status = os.waitpid(pid, 0)
        end = time.perf_counter_ns()
        os.close(out)
        code = os.waitstatus_to_exitcode(status)
        if code != 0:
            with open(self.log, errors="replace") as f:
                raise Failed(f"{' '.join(argv)}: exit {code}\n{f.read().strip()}")
        if until:
            limit = end + 15_000_000_000
            while left := until():
                if time.perf_counter_ns() > limit:
                    raise Failed(f"{' '.join(argv)}: left after 15 s: {left}")
                # The one poll: what is waited for here has no event to wait on.
                time.sleep(0.0002)
            end = time.perf_counter_ns()
        return (end - begin) / 1e6


def field(pid, file, name):
    """The sum of a number in the lines `name:` of a file of /proc/PID."""
    with open(f"/proc/{pid}/{file}") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith(name + ":"))


def output(argv):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"{' '.join(argv)}: exit {done.returncode}\n{done.stderr.strip()}")
    return done.stdout


def summary(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def machine():
    return {"kernel": os.uname().release, "cpus": os.cpu_count()}


@contextlib.contextmanager
def in_memory(args, work, engine, what):
    """A clock, an engine, and the directory that it is in, which is in memory (tmpfs)."""
    run = Runner(work, args.gap / 1000, log=what)
    memory = os.path.join(work, "memory")
    os.makedirs(memory)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700", what, memory], check=True)
    carob = engine(run, memory, args.carob, os.path.join(args.images, "busybox.tar"))
    try:
        yield run, carob, memory
    finally:
        carob.close()


def one_container(directory, name, container, **spec):
    """The path of a new manifest: a Pod of one container."""
    base = {"name": "c0", "image": IMAGE, "imagePullPolicy": "IfNotPresent"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [base | container], **spec},
    }
    path = os.path.join(directory, name + ".json")
    with open(path, "w") as f:
        json.dump(pod, f)
    return path


def make_run(path):
    """A directory like /run, in our own mount namespace."""
    os.makedirs(path)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700", "run", path], check=True)


def unmount(below):
    """What other engines' storage has mounted below a directory."""
    with open("/proc/self/mountinfo") as f:
        inside = [line.split()[4] for line in f if below in line.split()[4]]
    for point in reversed(inside):
        subprocess.run(["umount", "-l", point], check=False)


class Floor:
    """The yardstick: a Pod from start to end, no state, no recovery."""

    def __init__(self, run, work, program, image):
        self.run, self.program = run, program
        bundle = os.path.join(work, "floor")
        rootfs = os.path.join(bundle, "rootfs")
        unpack(image, rootfs)
        os.makedirs(os.path.join(rootfs, "etc"), exist_ok=True)
        for name in ("hosts", "hostname", "resolv.conf"):
            for path in (os.path.join(bundle, name), os.path.join(rootfs, "etc", name)):
                open(path, "w").close()
        self.env = dict(os.environ, FLOOR_BUNDLE=bundle)

    def start(self, containers):
        return self.run.timed([self.program, "-J", "-S", "-p", str(containers)], env=self.env)

    def one(self):
        # -J as for a Pod: cgroups are joined without waiting for a grace period.
        return self.run.timed([self.program, "-J", "-S"], env=self.env)


def unpack(image, rootfs):
    """A rootfs of an image of the demo: an OCI archive of plain layers."""
    os.makedirs(rootfs)
    with tarfile.open(image) as archive:
        index = json.load(archive.extractfile("index.json"))
        blob = lambda digest: archive.extractfile("blobs/" + digest.replace(":", "/"))
        layers = json.load(blob(index["manifests"][0]["digest"]))["layers"]
        for layer in layers:
            with tarfile.open(fileobj=blob(layer["digest"])) as tar:
                tar.extractall(rootfs)
