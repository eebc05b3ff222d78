"""One library in one process, for compare.py, which starts it and talks to it.

    python worker.py PEER

A line of JSON on standard input is a command, a line of JSON on standard output its answer; the
libraries' own talk goes to standard error.  A process for each has three reasons: the memory that
is seen is the library's alone; no two runtimes of OpenMP share a process; and a library that needs
another Python, or dies, does not matter to the others.  While one works, the others wait on a pipe.
"""

import contextlib
import gc
import json
import os
import pathlib
import shutil
import sys
import time
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, str(len(os.sched_getaffinity(0))))
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin would disturb the others

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import numpy as np  # noqa: E402  after the settings above

import datasets  # noqa: E402
import peers  # noqa: E402


def memory() -> dict[str, int]:
    """Bytes of this process that are in memory: all, its own, and mapped from files."""
    told = {}
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name in ("VmRSS", "RssAnon", "RssFile"):
                told[name] = int(value.split()[0]) * 1024
    return told


def bytes_on_disk(path: pathlib.Path) -> int:
    """Allocated blocks of a file, or of all in a folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_blocks * 512 for file in files)


def pin(processors: list[int]) -> None:
    """Keep every thread of this process, and those to come, on these processors."""
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(task), processors)


class Worker:
    def __init__(self, name: str) -> None:
        self.peer_class = peers.registry()[name]
        self.peer: peers.Peer | None = None
        self.queries: np.ndarray | None = None
        self.rows: list[np.ndarray] = []
        self.truth: np.ndarray | None = None
        self.plain_memory: dict[str, int] = {}

    # Each of these is a command, with its arguments and its answer.

    def hello(self, **settings: Any) -> dict[str, Any]:
        """space, dim, count, M, ef_construction"""
        self.peer = self.peer_class(**settings)
        return {
            "version": self.peer.version(),
            "about": self.peer.about,
            "kept": self.peer.kept,
            "python": sys.version.split()[0],
        }

    def facts(self) -> dict[str, Any]:
        return self.peer.facts()

    def build(self, base: str, threads: int, processors: list[int]) -> dict[str, Any]:
        pin(processors)
        vectors = self.peer.prepare(np.load(base))
        self.peer.index = None
        gc.collect()
        before = memory()
        started, used = time.perf_counter(), time.process_time()
        self.peer.build(vectors, threads)
        taken, used = time.perf_counter() - started, time.process_time() - used
        return {
            "seconds": taken,
            "processor_seconds": used,
            "memory_before": before,
            "memory": memory(),
        }

    def save(self, path: str) -> dict[str, Any]:
        """Under another name first: an interrupted save is not taken for an index later."""
        final = pathlib.Path(path)
        part = final.with_name(final.name + ".part")
        for old in (part, final):
            shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink(missing_ok=True)
        part.parent.mkdir(parents=True, exist_ok=True)
        self.peer.save(part)
        part.rename(final)
        return {"bytes": bytes_on_disk(final)}

    def load(self, path: str, queries: str, processors: list[int]) -> dict[str, Any]:
        """Once to warm the page cache, and then as it is measured: loading alone, and up to the
        first answer."""
        pin(processors)
        query = self.peer.prepare(np.array(np.load(queries, mmap_mode="r")[:1]))
        read_through(pathlib.Path(path))
        opening, answering = [], []
        before = memory()
        for _ in range(3):
            self.peer.index = None
            gc.collect()
            started = time.perf_counter()
            self.peer.load(pathlib.Path(path))
            opening.append(time.perf_counter() - started)
            self.peer.begin(10, 50, 1)
            self.peer.one(query, 10, 50)
            answering.append(time.perf_counter() - started)
        return {
            "seconds": min(opening),
            "with_first_answer": min(answering),
            "bytes": bytes_on_disk(pathlib.Path(path)),
            "memory_before": before,
        }

    def ask(self, queries: str, truth: str) -> dict[str, Any]:
        self.queries = self.peer.prepare(np.load(queries))
        self.rows = [self.queries[i : i + 1] for i in range(len(self.queries))]
        self.truth = np.load(truth)
        return {}

    def recall(self, k: int, ef: int, threads: int, processors: list[int]) -> dict[str, Any]:
        pin(processors)
        self.peer.begin(k, ef, threads)
        started = time.perf_counter()
        result = self.peer.search(self.queries, k, ef, threads)
        taken = time.perf_counter() - started
        found = self.peer.found(result, len(self.queries), k)
        return {
            "recall": datasets.recall(found, self.truth, k),
            "qps": len(self.queries) / taken,
        }

    def measure(
        self, k: int, ef: int, threads: int, mode: str, seconds: float, processors: list[int]
    ) -> dict[str, Any]:
        """Queries a second over whole passes through all queries, for `seconds` or one pass."""
        pin(processors)
        self.peer.begin(k, ef, threads)
        passes = 0
        gc.collect()
        gc.disable()
        waits: list[float] = []
        started, used = time.perf_counter(), time.process_time()
        while True:
            if mode == "batch":
                self.peer.search(self.queries, k, ef, threads)
            else:
                waits = self._one_by_one(k, ef)
            passes += 1
            taken = time.perf_counter() - started
            if taken * (1 + 0.5 / passes) >= seconds:
                break
        used = time.process_time() - used
        gc.enable()
        asked = passes * len(self.queries)
        told: dict[str, Any] = {"qps": asked / taken, "qps_cpu": threads * asked / used}
        if waits:
            told |= {f"p{at}_us": 1e6 * float(np.percentile(waits, at)) for at in (50, 99)}
        return told

    def _one_by_one(self, k: int, ef: int) -> list[float]:
        clock = time.perf_counter
        one = self.peer.one
        waits = []
        for row in self.rows:
            before = clock()
            one(row, k, ef)
            waits.append(clock() - before)
        return waits

    def counters(self, k: int, ef: int) -> dict[str, Any]:
        return self.peer.counters(self.queries, k, ef) or {}

    def memory(self) -> dict[str, Any]:
        return memory()


def read_through(path: pathlib.Path) -> None:
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.is_file():
            with open(file, "rb") as opened:
                while opened.read(1 << 24):
                    pass


def main() -> int:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = Worker(sys.argv[1])
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = getattr(worker, command.pop("do"))(**command)
        except Exception as error:  # whatever a library raises is its answer
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
