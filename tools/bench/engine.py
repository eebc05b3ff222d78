"""The whole engine on word vectors: beside hnswlib in the same run, and its two forms compared.

    tools/bench/engine.py build query          --data DIR                   beside hnswlib
    tools/bench/engine.py query shared durable --data DIR --scratch FOLDER  any parts, in turn

build    An index in memory is made by one add_items call, M=16, ef_construction=200: seconds,
         items a second, and recall@10 at ef=80 of what was made.
query    All queries in one knn_query call, at each ef: queries a second and recall@10; and queries
         a second at equal recall, by interpolating the logarithm of q/s over recall, each round on
         its own curve.  With --scratch hnswlib's index is kept there for the next run.
shared   The same items in a directory, opened read-only, beside an index in memory: q/s.  Both are
         made on one thread by the same batches, so they have to give the same answers; status 1
         if they do not.
durable  Made by batches of 10,000 in a directory, each batch on disk when add_items returns, beside
         the same batches in memory: seconds from the first batch to the return of the last.

What is timed runs in turns, `--rounds` times; each ratio is of one pair of neighbouring rounds, and
given as median, range and all of them.  Ratios of navmap to hnswlib, and of shared to private, are
of speeds: above 1 navmap, or the directory, is faster.  That of durable is of times: above 1 it
takes longer.  hnswlib should be built where it runs, for the processor's own instructions:

    pip install --no-binary hnswlib hnswlib==0.8.0

With all of glove-100 one build of hnswlib on one thread takes some three minutes; --items N takes
the first N only, and their exact neighbours are then computed first.  --scratch has to be on a
local disk, not in memory, for `durable` to mean something.
"""

import argparse
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import common
from common import K, LEVELS, NAMES

BUILD_EF = 80  # at which the recall of a build is told


class Setting:
    """Data and options of a run, and the folder that the parts may fill."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.base, self.queries, self.truth = common.load_first(args.data, args.items)
        self.labels = np.arange(len(self.base))
        self.dim = self.base.shape[1]

    def fresh(self, name: str) -> Any:
        return common.fresh(name, self.dim, len(self.base))

    def recall_of(self, index: Any, ef: int) -> float:
        index.set_ef(ef)
        return common.recall(common.answers(index, self.queries, 1)[0], self.truth)


# build ----------------------------------------------------------------------------------------


def build(run: Setting) -> dict[str, Any]:
    results = []
    for threads in run.args.threads:
        common.pin(threads)
        seconds: dict[str, list[float]] = {name: [] for name in NAMES}
        recalls: dict[str, list[float]] = {name: [] for name in NAMES}
        for number, name in common.in_turns(run.args.rounds, NAMES):
            index = run.fresh(name)
            seconds[name].append(
                common.seconds_of(index.add_items, run.base, run.labels, num_threads=threads)
            )
            recalls[name].append(run.recall_of(index, BUILD_EF))
            del index
            last = seconds[name][-1]
            common.say(f"build, {threads} threads, round {number}: {name} {last:.1f} s")
        result: dict[str, Any] = {"threads": threads, "items": len(run.base)}
        for name in NAMES:
            result[name] = {
                "seconds": seconds[name],
                "seconds_median": statistics.median(seconds[name]),
                "inserts_per_s": len(run.base) / statistics.median(seconds[name]),
                "recall": recalls[name],
            }
        result["ratio"] = common.ratios(seconds["hnswlib"], seconds["navmap"])  # of speeds
        results.append(result)
    common.unpin()
    rows = []
    for result in results:
        line: list[object] = [result["threads"]]
        for name in NAMES:
            of = result[name]
            line += [f"{of['seconds_median']:.2f}", f"{of['inserts_per_s']:,.0f}"]
            line.append(f"{statistics.median(of['recall']):.4f}")
        rows.append(line + common.show_ratio(result["ratio"]))
    what = ("s", "items/s", f"recall ef={BUILD_EF}")
    common.table(
        f"build: {len(run.base):,} items in memory; ratio of items/s, navmap over hnswlib",
        ["threads", *(f"{name} {x}" for name in NAMES for x in what), *common.RATIO],
        rows,
    )
    return {"build": results}


# query ----------------------------------------------------------------------------------------


def hnswlib_index(run: Setting) -> Any:
    """Built, or loaded if an earlier run left the same."""
    threads = run.args.build_threads
    name = f"hnswlib-{len(run.base)}-{run.dim}-{threads}.bin"
    kept = run.args.scratch / name if run.args.scratch else None
    if kept is not None and kept.exists():
        import hnswlib

        index = hnswlib.Index(space="cosine", dim=run.dim)
        index.load_index(str(kept), max_elements=len(run.base))
        return index
    index = run.fresh("hnswlib")
    index.add_items(run.base, run.labels, num_threads=threads)
    if kept is not None:
        index.save_index(str(kept))
    return index


def qps_at(level: float, points: list[tuple[float, float]]) -> float | None:
    """Queries a second at a recall, on the curve through (recall, q/s) points, if it gets there."""
    points = sorted(points)
    recalls = [point[0] for point in points]
    if not recalls[0] <= level <= recalls[-1]:
        return None
    return float(np.exp(np.interp(level, recalls, np.log([point[1] for point in points]))))


def at_equal_recall(rows: list[dict[str, Any]], rounds: int) -> list[dict[str, Any]]:
    found = []
    for level in LEVELS:
        speeds: dict[str, list[float]] = {name: [] for name in NAMES}
        for number in range(rounds):
            for name in NAMES:
                points = [(row[name]["recall"], row[name]["qps"][number]) for row in rows]
                if (speed := qps_at(level, points)) is not None:
                    speeds[name].append(speed)
        if all(len(speeds[name]) == rounds for name in NAMES):
            entry: dict[str, Any] = {"threads": rows[0]["threads"], "recall": level}
            entry |= {name: {"qps": speeds[name]} for name in NAMES}
            found.append(entry | {"ratio": common.ratios(*(speeds[name] for name in NAMES))})
    return found


def query(run: Setting) -> dict[str, Any]:
    common.unpin()
    common.say(f"query: building on {run.args.build_threads} threads")
    ours = run.fresh("navmap")
    ours.add_items(run.base, run.labels, num_threads=run.args.build_threads)
    indexes = {"navmap": ours, "hnswlib": hnswlib_index(run)}
    rows, equal = [], []
    for threads in run.args.threads:
        part = curves_of(run, indexes, threads)
        rows += part
        equal += at_equal_recall(part, run.args.rounds)
    count = f"{len(run.base):,} items, {len(run.queries):,} queries, k={K}"
    common.show_curves(f"query: {count}; ratio of q/s, navmap over hnswlib", rows, NAMES)
    common.table(
        "query: q/s at equal recall; ratio navmap over hnswlib",
        ["threads", "recall", *(f"{name} q/s" for name in NAMES), *common.RATIO],
        [
            [at["threads"], f"{at['recall']:.2f}"]
            + [f"{statistics.median(at[name]['qps']):,.0f}" for name in NAMES]
            + common.show_ratio(at["ratio"])
            for at in equal
        ],
    )
    return {"query": rows, "equal_recall": equal}


def curves_of(run: Setting, indexes: dict[str, Any], threads: int) -> list[dict[str, Any]]:
    return common.curves(
        indexes,
        run.queries,
        run.truth,
        threads=threads,
        rounds=run.args.rounds,
        efs=run.args.efs,
        at_least=run.args.seconds,
    )


# shared ---------------------------------------------------------------------------------------


def create(run: Setting, path: pathlib.Path) -> Any:
    import navmap

    return navmap.create(
        path, "cosine", run.dim, M=common.M, ef_construction=common.EF_CONSTRUCTION
    )


def shared(run: Setting) -> dict[str, Any]:
    import navmap

    common.unpin()
    common.say("shared: building both, on 1 thread")
    private = run.fresh("navmap")
    common.add_in_batches(private, run.base, run.labels, 1)
    with tempfile.TemporaryDirectory(dir=run.args.scratch, prefix="shared-") as folder:
        path = pathlib.Path(folder) / "index"
        writer = create(run, path)
        common.add_in_batches(writer, run.base, run.labels, 1)
        writer.close()
        common.warm(path)
        reader = navmap.open(path, "r")
        indexes = {"shared": reader, "private": private}
        different = {}
        for ef in run.args.efs:
            found = []
            for index in indexes.values():
                index.set_ef(ef)
                found.append(common.answers(index, run.queries, 1)[0])
            different[ef] = int((found[0] != found[1]).any(axis=1).sum())
        rows = [row for threads in run.args.threads for row in curves_of(run, indexes, threads)]
        reader.close()
    common.show_curves(
        f"shared: {len(run.base):,} items; ratio of q/s, a read-only directory over memory",
        rows,
        tuple(indexes),
    )
    print(f"  queries answered differently, at any ef: {sum(different.values())}")
    return {"shared": rows, "queries_answered_differently": different}


# durable --------------------------------------------------------------------------------------


def durable(run: Setting) -> dict[str, Any]:
    results = []
    forms: dict[str, Callable[[pathlib.Path], Any]] = {
        "durable": lambda path: create(run, path),
        "memory": lambda path: run.fresh("navmap"),
    }
    for threads in run.args.threads:
        common.pin(threads)
        result: dict[str, Any] = {"threads": threads, "items": len(run.base)}
        seconds: dict[str, list[float]] = {form: [] for form in forms}
        used: dict[str, list[float]] = {form: [] for form in forms}
        closing = []
        for number, form in common.in_turns(run.args.rounds, tuple(forms)):
            with tempfile.TemporaryDirectory(dir=run.args.scratch, prefix="durable-") as folder:
                os.sync()  # what earlier rounds wrote is not to be waited for in this one
                index = forms[form](pathlib.Path(folder) / "index")
                before = time.process_time()
                seconds[form].append(
                    common.seconds_of(
                        common.add_in_batches,
                        index,
                        run.base,
                        run.labels,
                        threads,
                        run.args.batch,
                    )
                )
                used[form].append(time.process_time() - before)
                if form == "durable":
                    closing.append(common.seconds_of(index.close))
                del index
            common.say(
                f"{form}, {threads} threads, round {number}: {seconds[form][-1]:.1f} s, "
                f"{used[form][-1]:.1f} s of processor time"
            )
        for form in forms:
            result[form] = {
                "seconds": seconds[form],
                "seconds_median": statistics.median(seconds[form]),
                "processor_seconds": used[form],
            }
        result["close_seconds"] = closing
        result["ratio_of_processor_time"] = common.ratios(*(used[form] for form in forms))
        result["ratio"] = common.ratios(*(seconds[form] for form in forms))  # of times
        results.append(result)
    common.unpin()
    common.table(
        f"durable: {len(run.base):,} items by batches of {run.args.batch:,}; ratio of times, "
        "a directory over memory",
        ["threads", "durable s", "its close s", "memory s", *common.RATIO],
        [
            [
                of["threads"],
                f"{of['durable']['seconds_median']:.2f}",
                f"{statistics.median(of['close_seconds']):.3f}",
                f"{of['memory']['seconds_median']:.2f}",
                *common.show_ratio(of["ratio"]),
            ]
            for of in results
        ],
    )
    return {"durable": results}


PARTS = {"build": build, "query": query, "shared": shared, "durable": durable}


def main() -> int:
    parser = common.parser(__doc__)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--items", type=int, help="only the first ITEMS; else all")
    parser.add_argument("--threads", type=common.numbers, default=(1, 2), help="such as 1,2")
    parser.add_argument("--build-threads", type=int, default=1, help="query: builds with as many")
    parser.add_argument("--batch", type=int, default=10_000, help="durable: rows of a batch")
    parser.add_argument("--scratch", type=pathlib.Path, help="folder for indexes on disk")
    args = parser.parse_args()
    if args.scratch is None and {"shared", "durable"} & set(args.parts):
        parser.error("shared and durable need --scratch")
    if args.scratch is not None:
        args.scratch.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"environment": common.environment(), "items": args.items}
    run = Setting(args)
    for part in args.parts:
        report |= PARTS[part](run)
        common.write_json(args.json, report)
    return 1 if any(report.get("queries_answered_differently", {}).values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
