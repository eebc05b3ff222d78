"""What the measurements share: data, exact neighbours, recall, interleaving, curves, tables.

Rules that hold wherever two libraries are compared.  Both run in the same process, in turns: round
by round one, then the other, so that whatever else the machine does hits both.  A round of the one
and the round of the other beside it make a pair; what is reported is the median of the pairs'
ratios, and their range.  While n threads work, the process may use n processors and no more.

It is a module of the scripts beside it, not a script.
"""

import argparse
import contextlib
import gc
import json
import math
import os
import pathlib
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

EFS = (10, 20, 40, 80, 120, 200, 400)
LEVELS = (0.70, 0.80, 0.85, 0.90, 0.95, 0.97)
K = 10
M = 16
EF_CONSTRUCTION = 200

# Data -----------------------------------------------------------------------------------------


def load(data: pathlib.Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(np.load(data / f"{name}.npy") for name in ("base", "queries", "truth"))


def load_first(data: pathlib.Path, items: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first `items` vectors (None: all), the queries, and the exact neighbours among those."""
    base, queries, truth = load(data)
    if items is None or items >= len(base):
        return base, queries, truth
    base = base[:items].copy()
    return base, queries, exact_neighbours(base, np.arange(items), queries)


def exact_neighbours(
    vectors: np.ndarray, labels: np.ndarray, queries: np.ndarray, k: int = K, block: int = 8_000
) -> np.ndarray:
    """The labels of the k nearest by cosine, nearest first, (queries, k)."""
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    best: np.ndarray = np.empty((len(queries), 0), np.float32)
    found: np.ndarray = np.empty((len(queries), 0), np.int64)
    for at in range(0, len(vectors), block):
        part, names = vectors[at : at + block], labels[at : at + block].astype(np.int64)
        norms = np.linalg.norm(part, axis=1, keepdims=True)
        cosines = queries @ (part / np.where(norms > 0, norms, 1)).T
        keep = np.argpartition(-cosines, min(k, len(part)) - 1, axis=1)[:, :k]
        best = np.hstack((best, np.take_along_axis(cosines, keep, 1)))
        found = np.hstack((found, names[keep]))
        order = np.argsort(-best, axis=1, kind="stable")[:, :k]
        best, found = (np.take_along_axis(x, order, 1) for x in (best, found))
    return found


def recall(found: np.ndarray, truth: np.ndarray, k: int = 10) -> float:
    hits = sum(len(set(f) & set(t)) for f, t in zip(found.tolist(), truth[:, :k].tolist()))
    return hits / (len(found) * k)


def warm(path: str | pathlib.Path) -> None:
    """Read the files of an index through: a warm page cache, as far as the system lets it be."""
    for entry in os.scandir(path):
        with open(entry.path, "rb") as file:
            while file.read(1 << 24):
                pass


# Statistics -----------------------------------------------------------------------------------


def spread(values: Sequence[float], digits: int | None = None) -> dict[str, float]:
    ordered = sorted(values)
    told = {
        "min": ordered[0],
        "median": statistics.median(ordered),
        "p95": ordered[int(0.95 * (len(ordered) - 1))],
        "max": ordered[-1],
    }
    return told if digits is None else {name: round(value, digits) for name, value in told.items()}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Of each pair of rounds ours / theirs; their median and range."""
    pairs = [a / b for a, b in zip(ours, theirs, strict=True)]
    middle = statistics.median(pairs)
    return {"pairs": pairs, "median": middle, "min": min(pairs), "max": max(pairs)}


def show_ratio(of: dict[str, Any]) -> list[str]:
    """Cells of a table, under RATIO."""
    pairs = " ".join(f"{pair:.3f}" for pair in of["pairs"])
    return [f"{of['median']:.3f}", f"{of['min']:.3f}..{of['max']:.3f}", pairs]


RATIO = ["ratio", "min..max", "of each pair"]


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    print(f"\n{title}")
    for number, row in enumerate(cells):
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths)).rstrip())
        if number == 0:
            print("  " + "  ".join("-" * width for width in widths))
    sys.stdout.flush()


# Processors, time, turns ----------------------------------------------------------------------

_PROCESSORS = sorted(os.sched_getaffinity(0))


def pin(threads: int) -> None:
    """Let every thread of this process, and those it starts later, use `threads` processors."""
    if threads > len(_PROCESSORS):
        raise SystemExit(f"{threads} threads asked for, {len(_PROCESSORS)} processors may be used")
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(task), _PROCESSORS[:threads])


def unpin() -> None:
    pin(len(_PROCESSORS))


def seconds_of(function: Callable[..., object], *arguments: object, **named: object) -> float:
    started = time.perf_counter()
    function(*arguments, **named)
    return time.perf_counter() - started


def in_turns(rounds: int, names: Sequence[str]) -> Iterator[tuple[int, str]]:
    """(0, first), (0, second), (1, first), (1, second), ...; garbage is gone before each."""
    for number in range(rounds):
        for name in names:
            gc.collect()
            yield number, name


def say(text: str) -> None:
    """Progress, on standard error."""
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


# Libraries ------------------------------------------------------------------------------------

NAMES = ("navmap", "hnswlib")


def fresh(name: str, dim: int, items: int, *, replace: bool = False) -> Any:
    """An empty index in memory; navmap.Index has the interface of hnswlib.Index."""
    module = __import__(name)
    index = module.Index(space="cosine", dim=dim)
    index.init_index(
        items, M=M, ef_construction=EF_CONSTRUCTION, random_seed=100, allow_replace_deleted=replace
    )
    return index


def add_in_batches(
    index: Any, vectors: np.ndarray, labels: np.ndarray, threads: int, batch: int = 10_000
) -> None:
    for at in range(0, len(vectors), batch):
        index.add_items(vectors[at : at + batch], labels[at : at + batch], num_threads=threads)


def environment(names: Sequence[str] = NAMES) -> dict[str, Any]:
    """What a figure means nothing without."""
    from importlib import metadata

    import navmap

    model = platform.machine()
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    told: dict[str, Any] = {"processor": model, "processors": len(_PROCESSORS)}
    told |= {"load_before": os.getloadavg()[0], "navmap_simd": navmap.simd()}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            told[name] = metadata.version(name)
    return told | {"python": platform.python_version(), "numpy": np.__version__}


# Searching ------------------------------------------------------------------------------------

TOO_FEW = "Cannot return the results in a contiguous 2D array"  # the words of both libraries


def answers(index: Any, queries: np.ndarray, threads: int) -> tuple[np.ndarray, int]:
    """Labels (queries, K), and how many queries the library had no K answers for (row of -1)."""
    try:
        return index.knn_query(queries, k=K, num_threads=threads)[0].astype(np.int64), 0
    except RuntimeError as error:  # hnswlib names no row, so each is asked by itself
        if TOO_FEW not in str(error):
            raise
        found = np.full((len(queries), K), -1, np.int64)
        short = 0
        for row, query in enumerate(queries):
            try:
                found[row] = index.knn_query(query[None], k=K, num_threads=1)[0][0]
            except RuntimeError:
                short += 1
        return found, short


def curves(
    indexes: dict[str, Any],
    queries: np.ndarray,
    truth: np.ndarray,
    *,
    threads: int,
    rounds: int,
    efs: Sequence[int] = EFS,
    at_least: float = 1.0,
) -> list[dict[str, Any]]:
    """Queries a second and recall of each index at each ef.

    One point is all queries in one call, repeated until a warm pass says it takes `at_least`
    seconds.  A round goes through all ef, and at each through all indexes.  The first two indexes
    are compared: "ratio" is the first's queries a second over the second's.
    """
    pin(threads)
    rows: list[dict[str, Any]] = []
    for ef in efs:
        row: dict[str, Any] = {"ef": ef, "threads": threads}
        for name, index in indexes.items():
            index.set_ef(ef)
            found, short = answers(index, queries, threads)
            taken = seconds_of(answers, index, queries, threads)
            row[name] = {
                "recall": recall(found, truth),
                "short_rows": short,
                "passes": 1 if short else math.ceil(at_least / taken),
                "qps": [],
            }
        rows.append(row)
    for number in range(rounds):
        for row in rows:
            for _, name in in_turns(1, tuple(indexes)):
                index, point = indexes[name], row[name]
                index.set_ef(row["ef"])
                started = time.perf_counter()
                for _ in range(point["passes"]):
                    if point["short_rows"]:
                        answers(index, queries, threads)
                    else:
                        index.knn_query(queries, k=K, num_threads=threads)
                taken = time.perf_counter() - started
                point["qps"].append(point["passes"] * len(queries) / taken)
        say(f"{threads} threads: round {number + 1} of {rounds}")
    for row in rows:
        for name in indexes:
            row[name]["qps_median"] = statistics.median(row[name]["qps"])
        if len(indexes) > 1:
            row["ratio"] = ratios(*(row[name]["qps"] for name in tuple(indexes)[:2]))
    unpin()
    return rows


def show_curves(title: str, rows: list[dict[str, Any]], names: Sequence[str]) -> None:
    header = ["threads", "ef", *(f"{name} {what}" for name in names for what in ("recall", "q/s"))]
    body = []
    for row in rows:
        line: list[object] = [row["threads"], row["ef"]]
        for name in names:
            point = row[name]
            flag = f" ({point['short_rows']} short)" if point["short_rows"] else ""
            line += [f"{point['recall']:.4f}{flag}", f"{point['qps_median']:,.0f}"]
        body.append(line + (show_ratio(row["ratio"]) if "ratio" in row else []))
    table(title, header + (RATIO if "ratio" in rows[0] else []), body)


# The command line -----------------------------------------------------------------------------


def parser(description: str | None) -> argparse.ArgumentParser:
    """With the options that every comparison has."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    glove = os.environ.get("NAVMAP_GLOVE")
    made.add_argument(
        "--data",
        type=pathlib.Path,
        default=glove,
        required=glove is None,
        help="folder of base.npy, queries.npy, truth.npy; else what NAVMAP_GLOVE names",
    )
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--efs", type=numbers, default=EFS, help="such as 10,40,200")
    made.add_argument("--seconds", type=float, default=1.0, help="that one search point takes")
    made.add_argument("--json", type=pathlib.Path, help="write all figures to this file")
    return made


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def write_json(path: pathlib.Path | None, report: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(report, indent=1) + "\n")
