"""navmap beside other libraries: speed at equal recall, building, opening, size and memory.

    tools/bench/compare.py query --data DATA                       at recall .90 .95 .99, k=10
    tools/bench/compare.py build query open --data DATA --peers navmap,hnswlib,faiss --out FOLDER
    tools/bench/compare.py --list                                  which libraries run here

query    Queries a second at each level of recall, for each k, number of threads, and mode: `batch`
         (all queries in one call), `single` (one query a call, from Python) and `native` (one query
         a call, from C and C++, of navmap and hnswlib).  Every other library, and its ratio to the
         first of --peers, round by round.
build    Seconds to build in memory, in turns, --build-rounds times, on each number of threads.
open     Time to load a saved index and to its first answer, page cache warm; size on disk, and
         memory while queries are answered.
index    Nothing but the indexes that are kept, where they are missing.
limits   What this machine's memory allows (limits.c): random rows a second of each size, and which
         share of that the search reaches, as far as a library tells how many rows it scored.

DATA is a folder or file as datasets.py reads it.  Indexes are built once and kept in --cache, filed
under the data, the library, its version and settings (navmap: its very build); --fresh builds anew.
Libraries that are missing, or cannot do what is asked, are named and left out.  --python says which
interpreter has a library, when it is not the one that runs this.  Results go to --out:
results.json, tables.md, and pictures if matplotlib is there.

Time taken: about seconds x 2 x rounds x (libraries x levels x k x threads x modes), and before it,
the first time, building and finding recalls.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import time
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import numpy as np  # noqa: E402

import datasets  # noqa: E402
import native  # noqa: E402
import options  # noqa: E402
import report  # noqa: E402
import sweep  # noqa: E402
from sweep import Child, Failed, say  # noqa: E402

PROBE = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
import peers
name = sys.argv[2]
peer = peers.registry()[name]
import importlib
module = importlib.import_module(peer.module)
from importlib import metadata
text = metadata.version(peer.package)
if peer.package == "navmap":
    from navmap import _core
    with open(_core.__file__, "rb") as file:
        text += "+" + hashlib.sha256(file.read()).hexdigest()[:10]
print(text)
"""


class Run:
    """The options, and what is known of each library."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.cache: pathlib.Path = args.cache.resolve()
        self.out: pathlib.Path = args.out
        self.out.mkdir(parents=True, exist_ok=True)
        self.processors = args.cpus or sorted(os.sched_getaffinity(0))
        self.data: datasets.Data = datasets.load(
            args.data, args.space, self.cache, args.items, args.queries
        )
        self.versions: dict[str, str] = {}
        self.left_out: dict[str, str] = {}
        self.children: dict[str, Child] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        self.results: dict[str, Any] = {}

    def python(self, name: str) -> str:
        return self.args.python.get(name, sys.executable)

    def leave_out(self, name: str, why: object) -> None:
        self.left_out[name] = str(why)
        say(f"{name} is left out: {why}")
        if name in self.children:
            self.children.pop(name).end()

    def find(self) -> None:
        for name in self.args.peers:
            version, why = probe(name, self.python(name))
            if version is None:
                self.leave_out(name, why)
            else:
                self.versions[name] = version

    def names(self) -> list[str]:
        return [name for name in self.args.peers if name not in self.left_out]

    def settings(self) -> dict[str, Any]:
        return {
            "space": self.data.space,
            "dim": self.data.dim,
            "count": self.data.count,
            "M": self.args.M,
            "ef_construction": self.args.ef_construction,
        }

    def kept_at(self, name: str) -> pathlib.Path:
        made = f"M{self.args.M}-ef{self.args.ef_construction}"
        return self.cache / "indexes" / self.data.key() / f"{name}-{self.versions[name]}-{made}"

    def start(self, name: str) -> Child:
        """A worker that has been told what the index is like."""
        command = [self.python(name), str(HERE / "worker.py"), name]
        child = Child(name, command, self.out / f"{name}.log")
        try:
            self.facts.setdefault(name, {}).update(child("hello", **self.settings()))
        except Failed:
            child.end()
            raise
        return child

    def cpus(self, threads: int) -> list[int]:
        if threads > len(self.processors):
            raise SystemExit(f"{threads} threads asked for, {len(self.processors)} processors")
        return self.processors[:threads]


def probe(name: str, python: str) -> tuple[str | None, str]:
    """The version of a library, or why it cannot be had."""
    try:
        told = subprocess.run(
            [python, "-c", PROBE, str(HERE), name], capture_output=True, text=True, timeout=120
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    if told.returncode == 0:
        return told.stdout.strip().splitlines()[-1], ""
    if told.returncode < 0:
        return None, f"ends by signal {-told.returncode} when it is imported"
    lines = told.stderr.strip().splitlines()
    return None, lines[-1] if lines else f"status {told.returncode}"


# Parts ----------------------------------------------------------------------------------------


def build(run: Run) -> dict[str, Any]:
    """Builds in turns; each in a process of its own, which ends before the next one begins."""
    report_of: dict[str, Any] = {}
    for threads in run.args.threads:
        seconds: dict[str, list[float]] = {}
        clock: dict[str, list[float]] = {}
        grown: dict[str, int] = {}
        for number in range(run.args.build_rounds):
            for name in run.names():
                child = None
                try:
                    child = run.start(name)
                    told = child(
                        "build",
                        base=str(run.data.base),
                        threads=threads,
                        processors=run.cpus(threads),
                    )
                except Failed as why:
                    run.leave_out(name, why)
                    seconds.pop(name, None)
                    continue
                finally:
                    if child is not None:
                        child.end()
                taken = told["seconds"]
                if run.args.clock == "cpu":
                    taken = told["processor_seconds"] / threads
                seconds.setdefault(name, []).append(taken)
                clock.setdefault(name, []).append(told["seconds"])
                grown[name] = told["memory"]["VmRSS"] - told["memory_before"]["VmRSS"]
                say(
                    f"build, {threads} threads, round {number + 1}: {name} {told['seconds']:.1f} s"
                    f" by the clock, {told['processor_seconds']:.1f} s of processor time"
                )
        report_of[str(threads)] = {
            name: sweep.spread(times) | {"memory_grown": grown[name], "by_the_clock": clock[name]}
            for name, times in seconds.items()
        }
    return report_of


def index(run: Run) -> dict[str, Any]:
    for name in run.names():
        path = run.kept_at(name)
        try:
            if run.args.fresh or not path.exists():
                make_index(run, name, path)
        except Failed as why:
            run.leave_out(name, why)
    return {}


def indexes(run: Run) -> None:
    """A worker for each library, with its index, from the cache or built now and put there."""
    for name in run.names():
        if name in run.children:
            continue
        path = run.kept_at(name)
        try:
            if run.args.fresh or not path.exists():
                make_index(run, name, path)
            child = run.children[name] = run.start(name)
            opened = child(
                "load",
                path=str(path),
                queries=str(run.data.queries),
                processors=run.cpus(1),
            )
            child("ask", queries=str(run.data.queries), truth=str(run.data.truth))
            run.facts[name] |= child("facts") | {"open": opened}
        except Failed as why:
            run.leave_out(name, why)


def make_index(run: Run, name: str, path: pathlib.Path) -> None:
    threads = run.args.build_threads
    say(f"{name}: building the index to be kept, {threads} threads")
    child = run.start(name)
    try:
        told = child("build", base=str(run.data.base), threads=threads, processors=run.processors)
        child("save", path=str(path))
    finally:
        child.end()
    made = {"build_seconds": told["seconds"], "build_threads": threads}
    pathlib.Path(f"{path}.recalls.json").unlink(missing_ok=True)
    pathlib.Path(f"{path}.built.json").write_text(json.dumps(made) + "\n")
    say(f"{name}: built in {told['seconds']:.1f} s")


def find_brackets(run: Run, k: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """For each library the ladder of (ef, recall), and the ef around each level."""
    threads = len(run.processors)
    how = {"threads": threads, "processors": run.processors}
    ladders: dict[str, Any] = {}
    brackets: dict[str, Any] = {}
    for name in run.names():
        path = pathlib.Path(f"{run.kept_at(name)}.recalls.json")
        recalls = sweep.Recalls(path, f"{run.data.query_count} queries")
        child = run.children[name]
        try:
            points = sweep.ladder(recalls, child, k, run.args.top, how, run.args.ef_most)
            ladders[name] = points
            brackets[name] = {
                level: sweep.bracket(recalls, child, k, points, level, how)
                for level in run.args.levels
            }
        except Failed as why:
            run.leave_out(name, why)
            brackets.pop(name, None)
        else:
            say(f"{name}, k={k}: ef {[(e, round(r, 3)) for e, r in points]}")
    return ladders, brackets


def query(run: Run) -> dict[str, Any]:
    indexes(run)
    answer: dict[str, Any] = {"ladders": {}, "curves": {}, "levels": [], "counters": {}}
    for k in run.args.k:
        ladders, brackets = find_brackets(run, k)
        answer["ladders"][str(k)] = ladders
        if run.args.curves:
            answer["curves"][str(k)] = curves(run, ladders, k)
        for threads in run.args.threads:
            for mode in run.args.modes:
                if mode != "batch" and threads != 1:
                    continue
                asked = brackets
                children = run.children
                if mode == "native":
                    children, asked = native.children(run, brackets)
                told = sweep.speeds(
                    children,
                    asked,
                    k=k,
                    threads=threads,
                    mode=mode,
                    rounds=run.args.rounds,
                    seconds=run.args.seconds,
                    processors=run.cpus(threads),
                    clock=run.args.clock,
                )
                answer["levels"] += entries(run, told, k, threads, mode)
                if mode == "native":
                    for child in children.values():
                        child.end()
        answer["counters"][str(k)] = counters(run, brackets, k)
    for name in run.names():
        run.facts[name]["memory"] = run.children[name]("memory")
    return answer


def entries(run: Run, told: dict[str, Any], k: int, threads: int, mode: str) -> list[Any]:
    """One for each level: every library, and its ratio to the others, the first over the rest."""
    made = []
    for level in run.args.levels:
        of = {name: told[name][level] for name in told if level in told[name]}
        if not of:
            continue
        entry = {"k": k, "threads": threads, "mode": mode, "recall": level, "of": of, "ratios": {}}
        first = run.args.peers[0]
        if first in of:
            entry["ratios"] = {
                name: sweep.ratios(of[first]["qps"]["rounds"], of[name]["qps"]["rounds"])
                for name in of
                if name != first
            }
        made.append(entry)
    return made


def curves(run: Run, ladders: dict[str, Any], k: int) -> dict[str, Any]:
    """Queries a second along the whole ladder, once, one thread, batch: for the pictures."""
    told: dict[str, Any] = {}
    for name, points in ladders.items():
        told[name] = []
        for ef, recall in points:
            if recall < run.args.least:
                continue
            speed = run.children[name](
                "measure",
                k=k,
                ef=ef,
                threads=1,
                mode="batch",
                seconds=run.args.seconds,
                processors=run.cpus(1),
            )
            told[name].append({"ef": ef, "recall": recall, "qps": speed["qps"]})
        say(f"{name}, k={k}: curve of {len(told[name])} points")
    return told


def counters(run: Run, brackets: dict[str, Any], k: int) -> dict[str, Any]:
    """Distances and rows of a query at each level, where a library tells."""
    told: dict[str, Any] = {}
    for name, of in brackets.items():

        def count(ef: int, name: str = name) -> Any:
            return run.children[name]("counters", k=k, ef=ef)

        for level, pair in of.items():
            if not pair:
                continue
            try:
                counted = sweep.counts_at_level(pair, level, count)
            except Failed as why:
                say(f"{name}: no counters: {why}")
                break
            if counted:
                told.setdefault(name, {})[level] = counted
    return told | native.counters(run, brackets, k)


def opening(run: Run) -> dict[str, Any]:
    indexes(run)
    told = {}
    for name in run.names():
        child = run.children[name]
        before = run.facts[name]["open"]["memory_before"]
        try:
            child("recall", k=10, ef=50, threads=1, processors=run.cpus(1))
        except Failed as why:
            run.leave_out(name, why)
            continue
        after = child("memory")
        built = pathlib.Path(f"{run.kept_at(name)}.built.json")
        told[name] = {key: run.facts[name]["open"][key] for key in ("seconds", "with_first_answer")}
        told[name]["bytes_on_disk"] = run.facts[name]["open"]["bytes"]
        told[name]["memory_grown"] = after["VmRSS"] - before["VmRSS"]
        told[name] |= json.loads(built.read_text()) if built.exists() else {}
    return told


# The command line -----------------------------------------------------------------------------


def environment(run: Run) -> dict[str, Any]:
    model = platform.machine()
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "processor": model,
        "processors": len(run.processors),
        "load_before": os.getloadavg()[0],
        "kernel": platform.release(),
        "numpy": np.__version__,
        "versions": run.versions,
    }


def list_peers(args: argparse.Namespace) -> int:
    import peers

    for name, peer in peers.registry().items():
        version, why = probe(name, args.python.get(name, sys.executable))
        print(f"{name:14} {version or '-':22} {peer.about if version else why}")
    return 0


def main(argv: list[str] | None = None) -> int:
    made = options.parser(__doc__)
    args = made.parse_args(argv)
    args.python = dict(args.python)
    if args.list:
        return list_peers(args)
    if args.data is None:
        made.error("--data is needed")
    if set(args.modes) - set(options.MODES):
        made.error(f"modes are {', '.join(options.MODES)}")
    run = Run(args)
    run.find()
    results = run.results = {
        "environment": environment(run),
        "data": run.data.as_dict(),
        "settings": {
            "M": args.M,
            "ef_construction": args.ef_construction,
            "clock": args.clock,
        },
        "started": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }
    do = {"index": index, "build": build, "query": query, "open": opening, "limits": native.limits}
    try:
        for part in args.parts or ("query",):
            results[part] = do[part](run)
            results |= {"left_out": run.left_out, "facts": run.facts}
            report.write(args.out, results)
    finally:
        for child in run.children.values():
            child.end()
    print((args.out / "tables.md").read_text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
