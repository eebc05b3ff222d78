"""What Python adds to a query that comes alone, and where.

    tools/bench/single_call.py INDEX --queries Q.npy [--ef 50] [--programs FOLDER]

INDEX is a saved file or a directory of navmap.  The same queries are sent one a call: from C
(search_time.c, which has to be built), from Python through the extension's own method with the
arrays made beforehand, and through `knn_query`.  Rounds take turns; each gives the median of the
latency over all queries, and the least of the rounds counts, since what disturbs only adds.  The
difference of knn_query and C is the overhead; that of the extension and C is crossing into C and
the lock of Python; the rest is what the Python layer does, of which each step is timed by itself.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import numpy as np  # noqa: E402

import navmap  # noqa: E402
import native  # noqa: E402
from navmap import convert  # noqa: E402


def median_us(call: Callable[[int], object], count: int) -> float:
    """Of `count` calls, each timed; without what the clock takes."""
    clock = time.perf_counter_ns
    waits = []
    for number in range(count):
        before = clock()
        call(number)
        waits.append(clock() - before)
    empty = []
    for _ in range(1000):
        before = clock()
        empty.append(clock() - before)
    return (statistics.median(waits) - statistics.median(empty)) / 1e3


def steps(query: np.ndarray, dim: int, k: int) -> dict[str, Callable[[int], object]]:
    """What a call does around the extension, piece by piece."""
    return {
        "a look at the numbers (size, int32, boolean)": lambda _: (
            convert.size(k, "k"),
            convert.int32(-1, "num_threads"),
            convert.boolean(False, "allow_fewer"),
        ),
        "the queries (array, shape, finite)": lambda _: convert.queries(query, dim),
        "of these, np.isfinite and all": lambda _: np.isfinite(query).all(),
        "two arrays for the results": lambda _: (
            np.empty((1, k), np.uint64),
            np.empty((1, k), np.float32),
        ),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("index", type=pathlib.Path)
    add("--queries", type=pathlib.Path, required=True)
    add("--space", default="cosine", help="of a saved file")
    add("--ef", type=int, default=50)
    add("--k", type=int, default=10)
    add("--rounds", type=int, default=7)
    add("--programs", type=pathlib.Path)
    add("--json", type=pathlib.Path)
    args = parser.parse_args()

    queries = np.load(args.queries)
    dim, count, k = queries.shape[1], len(queries), args.k
    rows = [np.ascontiguousarray(queries[i : i + 1], np.float32) for i in range(count)]
    if args.index.is_dir():
        index = navmap.open(args.index)
    else:
        index = navmap.Index(space=args.space, dim=dim)
        index.load_index(str(args.index))
    index.set_ef(args.ef)
    handle = index._handle
    labels, distances = np.empty((1, k), np.uint64), np.empty((1, k), np.float32)

    command = [str(native.program(args.programs, "search_time")), str(args.index), "--serve"]
    log = pathlib.Path(f"{args.index}.search_time.log")
    program = native.Program("navmap", [*command, "--queries", str(args.queries)], log)
    ask: dict[str, Any] = {"ef": args.ef, "k": k, "threads": 1, "seconds": 0, "processors": [0]}

    ways: dict[str, Callable[[], float]] = {
        "C": lambda: program("measure", **ask)["p50_us"],
        "extension": lambda: median_us(
            lambda i: handle.search(False, rows[i], args.ef, 1, None, False, labels, distances),
            count,
        ),
        "knn_query": lambda: median_us(lambda i: index.knn_query(rows[i], k=k), count),
        "knn_query, 1-d": lambda: median_us(lambda i: index.knn_query(queries[i], k=k), count),
    }
    pieces = steps(rows[0], dim, k)
    for name, step in pieces.items():
        ways[name] = lambda step=step: median_us(step, 2000)
    times: dict[str, list[float]] = {name: [] for name in ways}
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    ask["processors"] = list(os.sched_getaffinity(0))
    for _ in range(args.rounds):
        for name, way in ways.items():
            times[name].append(way())
    program.end()
    log.unlink(missing_ok=True)
    best = {name: min(of) for name, of in times.items()}
    print(f"{count} queries of {dim} dimensions, k={k}, ef={args.ef}; microseconds")
    for name, value in best.items():
        above = f"{value - best['C']:+8.2f}" if name in tuple(ways)[1:4] else ""
        print(f"  {value:8.2f} {above:8}  {name}")
    print(f"overhead of knn_query above C: {best['knn_query'] - best['C']:.2f} us")
    if args.json is not None:
        args.json.write_text(json.dumps({"us": best, "rounds": times}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
