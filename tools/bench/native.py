"""What compare.py measures with programs of its own: one query a call from C, and the memory's
limits.

search_time.c and limits.c are built beside the library (`ninja -C build bench-programs`).
hnswlib_time.cpp is compiled here, once, with the headers of hnswlib's source package, which pip
brings unless --hnswlib-headers says where they are, for the processor this runs on.

It is a module of compare.py.
"""

import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tarfile
import tempfile
from typing import Any

from sweep import Child, Failed, counts_at_level, say

HERE = pathlib.Path(__file__).resolve().parent
HNSWLIB = "hnswlib==0.8.0"
COUNTERS = ("distances", "rows", "exact")
PROGRAMS = ("navmap", "navmap-stop", "hnswlib")  # that have a program which does without Python
STOPPING = ("navmap-stop", "navmap-held")  # to these ef is something else (peers.NavmapStop):
STOP_EF, STOP_PART = 1024, 4000


class Program(Child):
    """search_time --serve or hnswlib_time, which take lines of numbers for commands."""

    def _line(self, do: str, of: dict[str, Any]) -> str:
        ef, stop = of["ef"], 0.0
        if self.name in STOPPING:
            ef, stop = STOP_EF, ef / STOP_PART
        return f"{ef} {of['k']} {of['threads']} {of['mode']} {of['seconds']} {stop}\n"

    def __call__(self, do: str, **arguments: Any) -> dict[str, Any]:
        os.sched_setaffinity(self.process.pid, arguments["processors"])
        return super().__call__(do, **(arguments | {"mode": "single"}))


def program(folder: pathlib.Path | None, name: str) -> pathlib.Path:
    folder = folder or HERE.parents[1] / "build" / "tools" / "bench"
    path = folder / name
    if not path.exists():
        raise Failed(f"{path} is not there: ninja -C build bench-programs, or --programs FOLDER")
    return path


def _headers(run: Any) -> pathlib.Path:
    if run.args.hnswlib_headers:
        return run.args.hnswlib_headers
    folder = run.cache / "hnswlib-source"
    found = sorted(folder.glob("hnswlib-*/hnswlib/hnswlib.h"))
    if not found:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as download:
            command = [run.python("hnswlib"), "-m", "pip", "download", "--quiet", "--no-deps"]
            command += ["--no-binary", "hnswlib", "--no-build-isolation", "-d", download, HNSWLIB]
            told = subprocess.run(command, capture_output=True, text=True)
            files = sorted(pathlib.Path(download).glob("hnswlib-*.tar.gz"))
            if told.returncode or not files:
                raise Failed(f"no hnswlib headers: {told.stderr.strip()[-200:]}")
            with tarfile.open(files[0]) as archive:
                archive.extractall(folder, filter="data")
        found = sorted(folder.glob("hnswlib-*/hnswlib/hnswlib.h"))
    return found[0].parents[1]


def hnswlib_program(run: Any) -> pathlib.Path:
    path = run.cache / "programs" / "hnswlib_time"
    source = HERE / "hnswlib_time.cpp"
    if not path.exists() or path.stat().st_mtime < source.stat().st_mtime:
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [os.environ.get("CXX", "c++"), "-O3", "-march=native", "-std=c++11"]
        command += ["-I", str(_headers(run)), str(source), "-o", str(path), "-pthread"]
        told = subprocess.run(command, capture_output=True, text=True)
        if told.returncode:
            raise Failed(f"hnswlib_time.cpp does not compile: {told.stderr.strip()[-300:]}")
    return path


def _hnswlib(run: Any, counting: bool) -> Program:
    command = [str(hnswlib_program(run)), str(run.kept_at("hnswlib")), run.data.space]
    command += [str(run.data.queries), "1" if counting else "0"]
    return Program("hnswlib", command, run.out / "hnswlib_time.log")


def _navmap(run: Any, name: str) -> Program:
    command = [str(program(run.args.programs, "search_time")), str(run.kept_at(name))]
    command += ["--queries", str(run.data.queries), "--serve"]
    return Program(name, command, run.out / f"search_time-{name}.log")


def _starts(counting: bool) -> dict[str, Any]:
    starts = {name: functools.partial(_navmap, name=name) for name in ("navmap", *STOPPING)}
    return starts | {"hnswlib": functools.partial(_hnswlib, counting=counting)}


def children(run: Any, brackets: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The programs, in the place of workers, for those libraries that have one."""
    started: dict[str, Any] = {}
    start = _starts(counting=False)
    for name in PROGRAMS:
        if name in brackets:
            try:
                started[name] = start[name](run)
            except Failed as why:
                say(f"{name} has no native figures: {why}")
                run.left_out[f"{name} (native)"] = str(why)
    return started, {name: brackets[name] for name in started}


def counters(run: Any, brackets: dict[str, Any], k: int) -> dict[str, Any]:
    """Of navmap, whose search tells its caller in C, and of hnswlib, by a distance that counts (if
    it is measured from C++ anyway: else it would have to be compiled for this alone)."""
    start = _starts(counting=True)
    if "native" not in run.args.modes:
        del start["hnswlib"]
    told: dict[str, Any] = {}
    for name in start.keys() & brackets.keys():
        try:
            child = start[name](run)
            count = functools.partial(_count, run, child, k)
            told[name] = {
                level: counts_at_level(pair, level, count)
                for level, pair in brackets[name].items()
                if pair
            }
            child.end()
        except Failed as why:
            say(f"{name} is not counted: {why}")
    return told


def _count(run: Any, child: Program, k: int, ef: int) -> dict[str, float]:
    answer = child("measure", k=k, ef=ef, threads=1, seconds=0, processors=run.cpus(1))
    return {name: answer[name] for name in COUNTERS if name in answer}


# Limits ---------------------------------------------------------------------------------------


def row_bytes(name: str, dim: int) -> int | None:
    """Bytes that one scored row takes from memory, in whole lines as they come: for libraries whose
    rows are known here."""
    if name in ("hnswlib", "faiss", "usearch", "navmap-f32"):
        return 4 * dim
    if name in ("navmap", *STOPPING):  # a byte for each dimension; scale and norm take no line more
        return (dim + 63) // 64 * 64
    return None


def list_bytes(M: int) -> int:
    """Of an adjacency list on level 0, in whole lines."""
    return (8 * M + 63) // 64 * 64


def _limits_once(command: list[str], processors: list[int]) -> dict[str, Any]:
    told = subprocess.run(
        command,
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, set(processors)),
    )
    if told.returncode:
        raise SystemExit(f"limits: {told.stderr.strip()}")
    answer: dict[str, Any] = json.loads(told.stdout)
    return answer


def limits(run: Any) -> dict[str, Any]:
    """Of rows as many and as large as those of the data, and the usual sizes; medians of rounds."""
    threads = max(run.args.threads)
    sizes = {64, 128, 192, 256, 400, 512}
    counters = run.results.get("query", {}).get("counters", {})
    for of in counters.values():
        sizes |= {row_bytes(name, run.data.dim) or 64 for name in of}
    sizes.add(list_bytes(run.args.M))
    command = [str(program(run.args.programs, "limits")), "--json", "--count", str(run.data.count)]
    command += ["--bytes", ",".join(str(size) for size in sorted(sizes))]
    command += ["--threads", str(threads), "--seconds", str(run.args.limit_seconds)]
    command += ["--cpu"] if run.args.clock == "cpu" else []
    say("limits: random rows of " + ", ".join(str(size) for size in sorted(sizes)) + " bytes")
    answers = [_limits_once(command, run.processors) for _ in range(run.args.limit_rounds)]
    answer = answers[0]
    for i, row in enumerate(answer["rows"]):
        each = [of["rows"][i]["rows_per_second"] for of in answers]
        row |= {"rows_per_second": statistics.median(each), "least": min(each), "most": max(each)}
    best: dict[tuple[int, int], float] = {}
    for row in answer["rows"]:
        key = row["bytes"], row["threads"]
        best[key] = max(best.get(key, 0), row["rows_per_second"])
    size = row_bytes("navmap", run.data.dim)
    if threads > 1 and (size, threads) in best:
        answer["scaling"] = best[size, threads] / best[size, 1]
    answer["shares"] = _shares(run, best)
    return answer


def _shares(run: Any, best: dict[tuple[int, int], float]) -> list[dict[str, Any]]:
    """Rows scored a second, one thread, batch calls, over the best that rows of that size allow;
    and the same of all rows that are read, which are those and the adjacency lists: the time that
    the machine needs for them at least over the time that was taken."""
    query = run.results.get("query", {})
    shares = []
    for entry in query.get("levels", []):
        if entry["threads"] != 1 or entry["mode"] != "batch":
            continue
        counted = query["counters"].get(str(entry["k"]), {})
        for name, of in entry["of"].items():
            told = counted.get(name, {}).get(entry["recall"], {})
            size = row_bytes(name, run.data.dim)
            if "distances" not in told or size is None or (size, 1) not in best:
                continue
            scored = told["distances"] * of["qps"]["median"]
            limit = best[size, 1]
            share = scored / limit
            lists = told.get("rows", 0) * of["qps"]["median"] / best[list_bytes(run.args.M), 1]
            shares.append(
                {"library": name, "k": entry["k"], "recall": entry["recall"], "row_bytes": size}
                | {"scored": scored, "limit": limit, "share": share, "share_read": share + lists}
            )
    return shares


if __name__ == "__main__":
    sys.exit("a module of compare.py")
