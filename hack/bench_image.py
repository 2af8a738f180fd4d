"""Archives to runnable root filesystems, beside other engines: `hack/bench image`.

    CAROB=PROGRAM hack/bench image [-n ROUNDS] [--mib SIZE] [-o json]

An image of some 200 MiB in five layers (a system of text and programs, very many
small files, what compresses well, what does not at all, an application that changes
and hides files of the others) is made once, the same bytes each time, and archived
twice: its layers packed by gzip, and by zstd. Each is then loaded in turns:

- carob     `carob load`
- podman    `podman load`, Debian's
- skopeo    `skopeo copy` into containers-storage
- containerd `ctr images import`, which unpacks into its overlayfs snapshots

each time into an empty store, on the disk of TMPDIR, after a sync(1), so that nobody
writes what another has left to write. Every one ends with directories that one
overlay mount makes a root filesystem of. Nothing is removed before the end: ext4
passes over each inode that was freed in the last half minute, one by one, for every
file that it makes.

The limit is what remains if nothing is checked, kept or made durable: gzip or zstd
-dc of the layers to nowhere, then tar -x of the plain ones, one after the other.
Peak memory is that of the process that loads (of ctr's daemon nothing is known so).
"""

import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import statistics
import subprocess
import tarfile
import time

import bench_shared
from bench_shared import Failed, Runner, machine, note, output

NAME = "localhost/bench/image:1"
OCI = "application/vnd.oci.image."


class Content:
    """Bytes of a kind at random places of a pool: quick to make, always the same."""

    def __init__(self):
        self.random = random.Random("carob")
        words = [
            bytes(self.random.choices(b"etaoinshrdlucmfwypvbgkjqxz", k=self.random.randint(2, 11)))
            for _ in range(4000)
        ]
        self.text = b" ".join(self.random.choices(words, k=900_000))
        # As of a program: addresses and small numbers between strings.
        program = bytearray()
        while len(program) < 6 << 20:
            program += self.random.randint(0, 1 << 22).to_bytes(4, "little")
            program += self.random.choice(words) if self.random.random() < 0.3 else bytes(2)
        self.program = bytes(program)

    def take(self, pool, size):
        out = bytearray()
        while len(out) < size:
            at = self.random.randrange(len(pool) - 4096)
            out += pool[at : at + size - len(out)]
        return bytes(out)

    def noise(self, size):
        return self.random.randbytes(size)


class Layer:
    def __init__(self):
        self.entries = {}

    def dir(self, path):
        if path and path not in self.entries:
            self.add(path, kind=tarfile.DIRTYPE, mode=0o755)

    def add(self, path, data=b"", kind=tarfile.REGTYPE, mode=0o644, link=""):
        self.dir(os.path.dirname(path))
        info = tarfile.TarInfo(path)
        info.type, info.mode, info.linkname, info.size = kind, mode, link, len(data)
        info.mtime = 1_700_000_000
        self.entries[path] = (info, data)

    def bytes(self):
        """Directory by directory, as tools that walk a tree write it."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted(self.entries, key=lambda p: p.split("/")):
                info, data = self.entries[path]
                tar.addfile(info, io.BytesIO(data))
        return buffer.getvalue()


def layers(mib):
    """Five tars, `mib` MiB together."""
    c, unit = Content(), mib * (1 << 20) // 100
    system = Layer()
    system.dir("tmp")
    left = 30 * unit
    for i in range(10_000_000):
        if left <= 0:
            break
        size = int(min(left, c.random.lognormvariate(9.5, 1.6), 4 << 20)) + 1
        pool, place = (c.text, "usr/share") if i % 3 else (c.program, "usr/lib")
        system.add(f"{place}/pkg{i % 97}/file{i}", c.take(pool, size), mode=0o755 if i % 3 == 0 else 0o644)
        if i % 10 == 0:
            system.add(f"{place}/pkg{i % 97}/link{i}", kind=tarfile.SYMTYPE, link=f"file{i}")
        left -= size
    small = Layer()
    left = 20 * unit
    for i in range(10_000_000):
        if left <= 0:
            break
        size = c.random.randint(80, 5000)
        small.add(f"srv/modules/m{i % 401}/d{i % 7}/s{i}.js", c.take(c.text, size))
        left -= size
    dull = Layer()
    for i in range(20):
        dull.add(f"var/lib/data/table{i}", (c.take(c.text, 2000) * (unit // 2000 + 1))[:unit])
    noise = Layer()
    for i in range(8):
        noise.add(f"opt/media/blob{i}", c.noise(20 * unit // 8))
    app = Layer()
    for i in range(200):
        app.add(f"app/bin/part{i}", c.take(c.program, 10 * unit // 200), mode=0o755)
        app.add(f"srv/modules/m{i}/d1/.wh.s1.js")
        app.add(f"usr/share/pkg{i % 97}/file{i * 3 + 1}", c.take(c.text, 500))
    return [l.bytes() for l in (system, small, dull, noise, app)]


def pack(tar, how):
    if how == "gzip":
        # As docker, podman and buildkit have it by default.
        out = io.BytesIO()
        with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=6, mtime=0) as f:
            f.write(tar)
        return out.getvalue()
    done = subprocess.run(["zstd", "-q", "-3", "-c"], input=tar, stdout=subprocess.PIPE, check=True)
    return done.stdout


def archive(path, tars, how):
    """An OCI archive; returns the bytes of its packed layers."""
    blobs = {}

    def blob(data, kind):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": OCI + kind, "digest": "sha256:" + digest, "size": len(data)}

    packed = [blob(pack(tar, how), "layer.v1.tar+" + how) for tar in tars]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/app/bin/part0"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(t).hexdigest() for t in tars]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI + "manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": packed,
    }
    top = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    top["annotations"] = {
        "org.opencontainers.image.ref.name": NAME,
        "io.containerd.image.name": NAME,
    }
    index = {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": [top]}
    with tarfile.open(path, "w") as tar:
        def member(name, data):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))

        member("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        member("index.json", json.dumps(index).encode())
        for digest, data in blobs.items():
            member("blobs/sha256/" + digest, data)
    return sum(layer["size"] for layer in packed)


class Engine:
    """One that has an empty directory each time."""

    name = ""

    def __init__(self, run, work):
        self.run, self.serial = run, 0
        self.work = os.path.join(work, self.name)
        os.makedirs(self.work)

    def load(self, path):
        self.serial += 1
        root = os.path.join(self.work, str(self.serial))
        os.makedirs(root)
        said = os.path.join(self.work, "peak")
        with self.ready(root):
            subprocess.run(["sync"], check=True)
            argv = ["/usr/bin/time", "-f", "%M", "-o", said] + self.argv(root, path)
            took = self.run.timed(argv)
        with open(said) as f:
            return took, int(f.read())

    @contextlib.contextmanager
    def ready(self, _root):
        yield


class Carob(Engine):
    name = "carob"

    def __init__(self, run, work, program):
        super().__init__(run, work)
        self.program = os.path.realpath(program)

    def argv(self, root, path):
        return [self.program, "--root", root, "load", "-q", "-i", path]


class Podman(Engine):
    name = "podman"

    def argv(self, root, path):
        return [
            "podman", "--root", root + "/root", "--runroot", root + "/run", "--tmpdir", root + "/tmp",
            "--storage-driver", "overlay", "--events-backend", "none", "load", "-q", "-i", path,
        ]


class Skopeo(Engine):
    name = "skopeo"

    def argv(self, root, path):
        to = f"containers-storage:[overlay@{root}/root+{root}/run]{NAME}"
        return ["skopeo", "--insecure-policy", "copy", "-q", "oci-archive:" + path, to]


class Containerd(Engine):
    name = "containerd"

    def argv(self, root, path):
        return self.ctr(root) + ["images", "import", "--snapshotter", "overlayfs", path]

    def ctr(self, root):
        return ["ctr", "-a", root + "/sock", "-n", "bench"]

    @contextlib.contextmanager
    def ready(self, root):
        config = root + "/config.toml"
        with open(config, "w") as f:
            f.write(
                f'version = 2\nroot = "{root}/root"\nstate = "{root}/state"\n'
                'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
                f'[grpc]\n  address = "{root}/sock"\n'
            )
        with open(root + "/log", "w") as log:
            daemon = subprocess.Popen(["containerd", "-c", config, "-l", "error"], stdout=log, stderr=log)
        try:
            limit = time.monotonic() + 20
            while subprocess.run(self.ctr(root) + ["version"], capture_output=True).returncode != 0:
                if time.monotonic() > limit or daemon.poll() is not None:
                    with open(root + "/log") as log:
                        raise Failed("containerd does not start:\n" + log.read().strip())
                time.sleep(0.1)
            yield
        finally:
            daemon.terminate()
            daemon.wait()


class Limit:
    """tar and a decompressor, and nothing else."""

    def __init__(self, run, work, tars):
        self.run, self.work, self.files, self.serial = run, os.path.join(work, "limit"), {}, 0
        os.makedirs(self.work)
        for i, tar in enumerate(tars):
            for how, data in (("plain", tar), ("gzip", pack(tar, "gzip")), ("zstd", pack(tar, "zstd"))):
                path = os.path.join(self.work, f"{i}.{how}")
                with open(path, "wb") as f:
                    f.write(data)
                self.files.setdefault(how, []).append(path)

    def decompress(self, how):
        return sum(self.run.timed([how, "-dc", path]) for path in self.files[how])

    def untar(self):
        self.serial += 1
        target = os.path.join(self.work, str(self.serial))
        subprocess.run(["sync"], check=True)
        took = 0
        for i, path in enumerate(self.files["plain"]):
            layer = os.path.join(target, str(i))
            os.makedirs(layer)
            took += self.run.timed(["tar", "-xpf", path, "-C", layer])
        return took


def measure(args, work):
    # No setting of the machine's holds.
    os.environ["CONTAINERS_STORAGE_CONF"] = work + "/storage.conf"
    with open(work + "/storage.conf", "w") as f:
        f.write(f'[storage]\ndriver = "overlay"\ngraphroot = "{work}/root"\nrunroot = "{work}/run"\n')
    # What is decompressed for the limit goes where it costs nothing.
    run, nowhere = (Runner(work, args.gap / 1000, log=log) for log in ("output", "/dev/null"))
    note("the image is made")
    tars = layers(args.mib)
    paths, packed = {}, {}
    for how in ("gzip", "zstd"):
        paths[how] = os.path.join(work, how + ".tar")
        packed[how] = archive(paths[how], tars, how)
    sizes = [len(t) for t in tars]
    limit = Limit(nowhere, work, tars)
    del tars
    makers = {
        "carob": lambda: Carob(run, work, args.carob),
        "podman": lambda: Podman(run, work),
        "skopeo": lambda: Skopeo(run, work),
        "containerd": lambda: Containerd(run, work),
    }
    engines = [make() for name, make in makers.items() if name not in args.without]
    series, peak = {}, {}

    def add(what, who, value):
        series.setdefault(what, {}).setdefault(who, []).append(value)

    note(", ".join(e.name for e in engines) + f"; {args.rounds} rounds")
    for _ in range(args.rounds):
        for how, path in paths.items():
            for e in engines:
                took, rss = e.load(path)
                add(how, e.name, took)
                if e.name != "containerd":
                    peak[e.name] = max(peak.get(e.name, 0), rss)
            add(how, "decompress", limit.decompress(how))
            add(how, "untar", limit.untar())
    return {
        **machine(),
        "rounds": args.rounds,
        "layer_bytes": sizes,
        "packed_bytes": packed,
        "ms": {
            what: {who: {"median": statistics.median(v), "min": min(v), "max": max(v)} for who, v in by.items()}
            for what, by in series.items()
        },
        "peak_rss_kib": peak,
    }


def table(result):
    names = [n for n in ("carob", "podman", "skopeo", "containerd") if n in result["ms"]["gzip"]]
    total = sum(result["layer_bytes"]) / (1 << 20)
    print(f"an image of {total:.0f} MiB, {len(result['layer_bytes'])} layers; median ms (ratio of carob to it)\n")
    print(f"{'layers packed by':24}" + "".join(f"{n:>18}" for n in names) + f"{'the limit':>18}")
    for how, by in result["ms"].items():
        median = {who: v["median"] for who, v in by.items()}
        median["limit"] = median["decompress"] + median["untar"]
        ours = median.get("carob")
        cells = []
        for who in names + ["limit"]:
            ratio = "" if who == "carob" or not ours else f" ({ours / median[who]:.2f})"
            cells.append(f"{median[who]:.0f}{ratio}")
        what = f"{how}, {result['packed_bytes'][how] / (1 << 20):.0f} MiB"
        print(f"{what:24}" + "".join(f"{c:>18}" for c in cells))
    print(f"{'peak memory, MiB':24}" + "".join(
        f"{result['peak_rss_kib'][n] / 1024:>18.1f}" if n in result["peak_rss_kib"] else f"{'-':>18}" for n in names
    ))
    for how, by in result["ms"].items():
        print(f"\nthe limit of {how}: {by['decompress']['median']:.0f} to decompress, {by['untar']['median']:.0f} to untar", end="")
    print(f"\n\n{result['rounds']} rounds, kernel {result['kernel']}, {result['cpus']} CPUs")
