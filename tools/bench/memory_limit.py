"""An index larger than memory: what a query then reads from the disk, page cache included.

    tools/bench/memory_limit.py INDEX --queries Q.npy [--truth T.npy] --factor 2 --ef 100

INDEX is a directory or a saved file of navmap (for which --warmup says what is done first: `lock`,
rows and codes read and locked and the vectors asked for together; `ask`, the same without the lock;
`none`), or, with --library, a file of usearch's, which is viewed in place, or of hnswlib's, which is
loaded into memory and so has to fit.  A child process is put into a memory control group
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
from collections.abc import Callable
from typing import Any

Search = Callable[[Any], Any]  # one query, as (1, dim), to the labels of its answer

PAGE = 4096
SKIPPED = 77
ROOT = pathlib.Path("/sys/fs/cgroup")


class CannotLimit(Exception):
    """No control group can be had; the reason."""


class Ended(Exception):
    """The child did, before its time; how."""


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


def open_navmap(args: argparse.Namespace, dim: int) -> Search:
    import navmap

    if args.index.is_dir():
        index = navmap.open(str(args.index))
    else:
        index = navmap.Index(space=args.space, dim=dim)
        index.load_index(str(args.index))
    index.set_ef(args.ef)
    index.num_threads = 1
    if args.warmup != "none":
        index.warmup(vectors=False, lock=args.warmup == "lock", larger_than_memory=True)
    return lambda query: index.knn_query(query, k=args.k)[0][0]


def open_hnswlib(args: argparse.Namespace, dim: int) -> Search:
    import hnswlib

    index = hnswlib.Index(space=args.space, dim=dim)
    index.load_index(str(args.index))
    index.set_ef(args.ef)
    index.set_num_threads(1)
    return lambda query: index.knn_query(query, k=args.k)[0][0]


def open_usearch(args: argparse.Namespace, dim: int) -> Search:
    import usearch.index

    index = usearch.index.Index.restore(str(args.index), view=True)
    index.expansion_search = args.ef
    return lambda query: index.search(query[0], args.k, threads=1).keys


OPEN = {"navmap": open_navmap, "hnswlib": open_hnswlib, "usearch": open_usearch}


def child(args: argparse.Namespace) -> int:
    """Says when it is ready, waits to be limited, searches; a line of JSON for each."""
    import importlib
    import resource

    import numpy as np

    importlib.import_module("usearch.index" if args.library == "usearch" else args.library)

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
    search = OPEN[args.library](args, queries.shape[1])
    stop = time.perf_counter() + args.seconds
    for row in order[: args.warm]:
        search(queries[row : row + 1])
        if time.perf_counter() > stop:
            break
    say(warm=True)
    before, waits, hits = counts(), [], 0
    stop = time.perf_counter() + args.seconds
    for row in order[args.warm :]:
        if time.perf_counter() > stop and waits:
            break
        started = time.perf_counter()
        labels = search(queries[row : row + 1])
        waits.append(time.perf_counter() - started)
        if truth is not None:
            hits += len(set(labels.tolist()) & set(truth[row, : args.k].tolist()))
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
            raise Ended(f"the child ended with status {process.wait()}")
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
    add("--library", choices=OPEN, default="navmap", help="whose INDEX it is")
    add("--warmup", choices=("none", "ask", "lock"), default="lock", help="of navmap")
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
            try:
                told = run(args, factor)
            except Ended as how:
                report["unlimited" if factor is None else "limited"] = {"ended": str(how)}
                print(f"{'no limit' if factor is None else f'index {factor:g} x memory':20}  {how}")
                continue
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
