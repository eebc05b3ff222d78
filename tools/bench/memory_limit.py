"""An index larger than memory: what a query then reads from the disk, page cache included.

    tools/bench/memory_limit.py INDEX --queries Q.npy [--truth T.npy] --factor 2 --ef 100

INDEX is a directory or a saved file of navmap.  A child process is put into a memory control group
of its own, and may use 1 / --factor of the index's size on disk, in pages of files and of its own
together, besides what the interpreter with NumPy and navmap had taken before.  The index's pages
are put out of the page cache first, so that they are charged to the child when it reads them.  It
then answers queries, one a call, in random order: --warm of them, so that memory is full of what
is read most, and --count that are measured.  Reported for each of these:

faults      page faults that had to wait for the disk (rusage)
reads       requests that reached the disk (control group blkio or io), those of faults included
pages       4 KiB pages that came from the disk (/proc/self/io), with what the kernel read ahead
waits       max(faults, reads): "major faults + reads", no read counted twice

and the latency, and the same of a child without a limit.  The data set decides nothing here but
how near queries are to each other: give queries that were not seen, in no order.

Control groups of version 1 and 2 are known.  Where none may be made (no root, a container), that
is said, and the exit status is 77.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

PAGE = 4096
SKIPPED = 77
ROOT = pathlib.Path("/sys/fs/cgroup")


class CannotLimit(Exception):
    """No control group can be had; the reason."""


# Control groups -------------------------------------------------------------------------------


def _own(controller: str) -> str:
    """The path of this process's group, of a controller of version 1, or "" of version 2."""
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return path.lstrip("/")
    raise CannotLimit(f"this process is in no {controller or 'unified'} group")


class Group:
    """A group of its own, inside that of this process, for one child."""

    def __init__(self, device: int) -> None:
        self.folders: list[pathlib.Path] = []
        name = f"navmap-memory-limit-{os.getpid()}"
        self.second = (ROOT / "cgroup.controllers").exists()
        try:
            if self.second:
                inside = ROOT / _own("")
                if "memory" not in (inside / "cgroup.controllers").read_text().split():
                    raise CannotLimit(f"{inside} may not limit memory")
                self._make(inside, name)
                if not (self.folders[0] / "memory.max").exists():
                    (inside / "cgroup.subtree_control").write_text("+memory +io")
            else:
                self._make(ROOT / "memory" / _own("memory"), name)
                try:
                    self._make(ROOT / "blkio" / _own("blkio"), name)
                    # It counts where there is a limit only: one that nothing reaches.
                    limit = self.folders[1] / "blkio.throttle.read_bps_device"
                    limit.write_text(f"{os.major(device)}:{os.minor(device)} {1 << 50}")
                except (OSError, CannotLimit):
                    pass  # then reads are not told
        except OSError as error:
            self.end()
            raise CannotLimit(f"no control group can be made: {error}") from None
        self.memory = self.folders[0]

    def _make(self, inside: pathlib.Path, name: str) -> None:
        folder = inside / name
        folder.mkdir()
        self.folders.append(folder)

    def take(self, process: int) -> None:
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(process))

    def used(self) -> int:
        name = "memory.current" if self.second else "memory.usage_in_bytes"
        return int((self.memory / name).read_text())

    def limit(self, size: int) -> None:
        names = ("memory.max", "memory.swap.max") if self.second else ("memory.limit_in_bytes",)
        for name, value in zip(names, (size, 0)):
            try:
                (self.memory / name).write_text(str(value))
            except OSError:
                if name != "memory.swap.max":  # without swap there is no such file
                    raise

    def reads(self) -> int | None:
        """Read requests so far."""
        if self.second:
            path, word = self.memory / "io.stat", "rios="
            if not path.exists():
                return None
            words = path.read_text().split()
            return sum(int(w.removeprefix(word)) for w in words if w.startswith(word))
        if len(self.folders) < 2:
            return None
        lines = (self.folders[1] / "blkio.throttle.io_serviced").read_text().splitlines()
        told = [int(line.split()[2]) for line in lines if " Read " in line]
        return sum(told) if any(told) else None

    def end(self) -> None:
        for folder in self.folders:
            for _ in range(50):
                try:
                    folder.rmdir()
                    break
                except OSError:  # its last process is still going
                    time.sleep(0.1)


# The index on disk ----------------------------------------------------------------------------


def files_of(path: pathlib.Path) -> list[pathlib.Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def bytes_on_disk(path: pathlib.Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in files_of(path))


def put_out_of_cache(path: pathlib.Path) -> None:
    """Works for pages that are clean and that no other process maps."""
    for file in files_of(path):
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


# The child ------------------------------------------------------------------------------------


def child(args: argparse.Namespace) -> int:
    """Says when it is ready, waits to be limited, searches; a line of JSON for each."""
    import resource

    import numpy as np

    import navmap

    def counts() -> dict[str, int]:
        lines = pathlib.Path("/proc/self/io").read_text().splitlines()
        io = dict(line.split(": ") for line in lines)
        told = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "faults": told.ru_majflt,
            "minor": told.ru_minflt,
            "bytes": int(io["read_bytes"]),
            "calls": int(io["syscr"]),
        }

    def say(**what: Any) -> str:
        print(json.dumps(what), flush=True)
        return sys.stdin.readline()

    queries = np.load(args.queries)
    truth = None if args.truth is None else np.load(args.truth)
    order = np.random.default_rng(args.seed).permutation(len(queries))
    order = np.resize(order, args.warm + args.count)
    say(ready=True)
    path = str(args.index)
    if args.index.is_dir():
        index = navmap.open(path)
    else:
        index = navmap.Index(space=args.space, dim=queries.shape[1])
        index.load_index(path)
    index.set_ef(args.ef)
    index.num_threads = 1
    stop = time.perf_counter() + args.seconds
    for row in order[: args.warm]:
        index.knn_query(queries[row : row + 1], k=args.k)
        if time.perf_counter() > stop:
            break
    say(warm=True)
    before, waits, hits = counts(), [], 0
    stop = time.perf_counter() + args.seconds
    for row in order[args.warm :]:
        if time.perf_counter() > stop and waits:
            break
        started = time.perf_counter()
        labels, _ = index.knn_query(queries[row : row + 1], k=args.k)
        waits.append(time.perf_counter() - started)
        if truth is not None:
            hits += len(set(labels[0].tolist()) & set(truth[row, : args.k].tolist()))
    after = counts()
    told: dict[str, Any] = {what: after[what] - before[what] for what in before}
    told["waits_us"] = {at: 1e6 * float(np.percentile(waits, at)) for at in (50, 90, 99)}
    told["qps"] = len(waits) / sum(waits)
    told["count"] = len(waits)
    told["recall"] = hits / (len(waits) * args.k) if truth is not None else None
    say(**told)
    return 0


def run(args: argparse.Namespace, factor: float | None) -> dict[str, Any]:
    """One child, under a limit of 1 / factor of the index; None: no limit."""
    group = Group(args.index.stat().st_dev)
    command = [sys.executable, *sys.argv, "--child"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def hear() -> dict[str, Any]:
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"the child ended with status {process.wait()}")
        return json.loads(line)

    def go_on() -> None:
        process.stdin.write("\n")
        process.stdin.flush()

    try:
        group.take(process.pid)
        put_out_of_cache(args.index)
        hear()  # ready
        base = group.used()
        size = bytes_on_disk(args.index)
        if factor is not None:
            group.limit(base + int(size / factor))
        go_on()
        hear()  # warm
        reads = group.reads() or 0
        go_on()
        told = hear()
        total = group.reads()
        reads = None if total is None else total - reads
        used = group.used() - base
        go_on()
        process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdin.close()
        process.stdout.close()
        group.end()
    count = told["count"]
    each = {
        "faults": told["faults"] / count,
        "reads": None if reads is None else reads / count,
        "pages": told["bytes"] / PAGE / count,
        "read_calls": told["calls"] / count,
    }
    each["waits"] = max(each["faults"], each["reads"] or 0)
    return {
        "limit_bytes": None if factor is None else int(size / factor),
        "index_bytes": size,
        "interpreter_bytes": base,
        "used_bytes": used,
        "each_query": each,
        "count": count,
        "qps": told["qps"],
        "latency_us": told["waits_us"],
        "recall": told["recall"],
    }


def show(told: dict[str, Any], factor: float | None) -> None:
    each = told["each_query"]
    limit = "no limit" if factor is None else f"index {factor:g} x memory"
    reads = "-" if each["reads"] is None else f"{each['reads']:.1f}"
    recall = "" if told["recall"] is None else f"  recall {told['recall']:.4f}"
    print(
        f"{limit:20}  faults {each['faults']:.1f}  reads {reads}  pages {each['pages']:.1f}  "
        f"faults + reads {each['waits']:.1f}  of {told['count']} queries  q/s {told['qps']:,.0f}  "
        f"p50 {told['latency_us']['50']:,.0f} us  p99 {told['latency_us']['99']:,.0f} us{recall}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("index", type=pathlib.Path)
    add("--queries", type=pathlib.Path, required=True)
    add("--truth", type=pathlib.Path)
    add("--space", default="l2", help="of a saved file")
    add("--factor", type=float, default=2.0, help="index over memory")
    add("--ef", type=int, default=100)
    add("--k", type=int, default=10)
    add("--warm", type=int, default=1_000)
    add("--count", type=int, default=1_000)
    add("--seconds", type=float, default=60, help="at most, for each of the two")
    add("--seed", type=int, default=1)
    add("--json", type=pathlib.Path)
    add("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child(args)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the group goes too
    report = {}
    try:
        for factor in (None, args.factor):
            told = run(args, factor)
            report["unlimited" if factor is None else "limited"] = told
            show(told, factor)
    except CannotLimit as why:
        print(f"skipped: {why}")
        return SKIPPED
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
