"""Searches that may return some labels only: navmap's `Filter` beside hnswlib's callable.

    tools/bench/filters.py --data DIR [--out tools/bench/results/filters]

For each share of labels that pass, drawn by chance ("random") or the nearest of all to an item drawn
by chance ("near", so that most queries lie far from what passes), both libraries get the ef at which
recall@10 among what passes is at least --recall: the first of --efs that has it.  Then they are
timed at it in turns, the same queries of one call and one thread each; what is told is the median of
the rounds, and of the rounds' ratios.  hnswlib asks `bytearray.__getitem__`, the quickest callable
that we know of; navmap gets a `Filter` that was made before (its making is a column of its own), and
is asked by `explain` which ways the queries went.

Where hnswlib would take long it gets fewer of the queries (--seconds for one pass), and navmap in the
same rounds all of them; both are counted by queries a second.  Time is processor time, since it is
one thread's.  Exact neighbours are numpy's.

--navmap and --hnswlib name indexes that were saved before, over all of the data with labels 0, 1,
...; else both are built.
"""

import argparse
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import common
from common import K

EFS = (10, 15, 20, 30, 40, 60, 80, 100, 120, 145, 170, 200, 240, 290, 340, 400, 480, 600, 800, 1200)
SHARES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001)
KINDS = ("random", "near")


class Setting:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.chance = np.random.default_rng(args.seed)
        self.base, queries, _ = common.load_first(args.data, args.items)
        self.queries = queries[: args.queries]
        self.indexes = {name: self.index(name) for name in common.NAMES}

    def index(self, name: str) -> Any:
        path = getattr(self.args, name)
        if path is None:
            common.say(f"building {name}, {len(self.base):,} items")
            index = common.fresh(name, self.base.shape[1], len(self.base))
            index.add_items(self.base, np.arange(len(self.base)), num_threads=2)
            return index
        index = __import__(name).Index(space="cosine", dim=self.base.shape[1])
        index.load_index(str(path))
        return index

    def passing(self, kind: str, share: float) -> np.ndarray:
        n = max(K, round(share * len(self.base)))
        if kind == "random":
            return np.sort(self.chance.permutation(len(self.base))[:n])
        centre = self.base[self.chance.integers(len(self.base))]
        norms = np.linalg.norm(self.base, axis=1)
        cosines = self.base @ centre / np.where(norms > 0, norms, 1)
        return np.sort(np.argpartition(-cosines, n - 1)[:n])


Search = Callable[[np.ndarray, int], np.ndarray]


def searches(run: Setting, labels: np.ndarray) -> tuple[dict[str, Search], Any, float]:
    """One function (queries, ef) -> labels for each library; navmap's filter, and what it cost."""
    import navmap

    ours, theirs = run.indexes["navmap"], run.indexes["hnswlib"]
    started = time.process_time()
    prepared = navmap.Filter(ours, labels)
    made = time.process_time() - started
    mask = bytearray(len(run.base))
    for label in labels.tolist():
        mask[label] = 1

    def navmap_search(queries: np.ndarray, ef: int) -> np.ndarray:
        return ours.knn_query(queries, k=K, num_threads=1, filter=prepared, ef=ef)[0]

    def hnswlib_search(queries: np.ndarray, ef: int) -> np.ndarray:
        theirs.set_ef(ef)
        try:
            return theirs.knn_query(queries, k=K, num_threads=1, filter=mask.__getitem__)[0]
        except RuntimeError:  # fewer than k somewhere
            return np.full((len(queries), K), -1)

    return {"navmap": navmap_search, "hnswlib": hnswlib_search}, prepared, made


def tune(run: Setting, search: Search, truth: np.ndarray) -> tuple[int, float, int]:
    """The least ef with the recall asked for, the recall, and how many queries a pass takes."""
    started = time.process_time()
    search(run.queries[:5], 100)
    one = (time.process_time() - started) / 5
    n = int(min(len(run.queries), max(run.args.least_queries, run.args.seconds / one)))
    ef, recall = 0, 0.0
    for ef in run.args.efs:
        recall = common.recall(search(run.queries[:n], ef), truth[:n])
        if recall >= run.args.recall:
            break
    return ef, recall, n


def way_of(counts: dict[str, int]) -> str:
    total = counts["walks"] + counts["hops"] + counts["scans"]
    told = [(counts[way], way) for way in ("walks", "hops", "scans") if counts[way]]
    return ", ".join(
        way if n == total else f"{way} {100 * n / total:.0f} %" for n, way in sorted(told)[::-1]
    )


def measure(run: Setting, kind: str, share: float) -> dict[str, Any]:
    labels = run.passing(kind, share)
    truth = common.exact_neighbours(run.base[labels], labels, run.queries)
    by_name, prepared, made = searches(run, labels)
    row: dict[str, Any] = {"kind": kind, "share": share, "pass": len(labels), "made_ms": 1e3 * made}
    for name, search in by_name.items():
        ef, recall, n = tune(run, search, truth)
        row[name] = {"ef": ef, "recall": recall, "queries": n, "qps": []}
    for _, name in common.in_turns(run.args.rounds, tuple(by_name)):
        of = row[name]
        started = time.process_time()
        by_name[name](run.queries[: of["queries"]], of["ef"])
        of["qps"].append(of["queries"] / (time.process_time() - started))
    row["counts"] = run.indexes["navmap"].explain(
        run.queries, K, prepared, ef=row["navmap"]["ef"]
    )
    row["way"] = way_of(row["counts"])
    row["ratio"] = common.ratios(row["navmap"]["qps"], row["hnswlib"]["qps"])
    for name in by_name:
        row[name]["qps_median"] = statistics.median(row[name]["qps"])
    common.say(f"{kind} {share:.1%}: {row['ratio']['median']:.1f} x, {row['way']}")
    return row


HEADER = (
    "what passes", "share", "navmap ef", "recall", "q/s", "way", "filter made, ms",
    "hnswlib ef", "recall", "q/s", "navmap / it", "min..max",
)  # fmt: skip


def cells(row: dict[str, Any]) -> list[str]:
    ours, theirs, ratio = row["navmap"], row["hnswlib"], row["ratio"]
    return [
        row["kind"],
        f"{100 * row['share']:g} %",
        *(str(ours["ef"]), f"{ours['recall']:.3f}", f"{ours['qps_median']:,.0f}"),
        row["way"],
        f"{row['made_ms']:.1f}",
        *(str(theirs["ef"]), f"{theirs['recall']:.3f}", f"{theirs['qps_median']:,.0f}"),
        f"{ratio['median']:.1f}",
        f"{ratio['min']:.1f}..{ratio['max']:.1f}",
    ]


def write_table(path: pathlib.Path, report: dict[str, Any]) -> None:
    of = report["environment"]
    lines = [
        "# Filtered searches: navmap's Filter beside hnswlib's callable",
        "",
        f"`tools/bench/filters.py`, {report['items']:,} vectors of {report['dim']} dimensions, cosine, "
        f"k = {K}, the least ef with recall@{K} of {report['recall']} or more, one thread, processor "
        f"time, {report['rounds']} rounds in turns. {of['processor']}, load {of['load_before']:.1f} before.",
        "",
        f"![queries a second by share]({path.stem}.png)",
        "",
        "| " + " | ".join(HEADER) + " |",
        "|" + "---|" * len(HEADER),
        *("| " + " | ".join(cells(row)) + " |" for row in report["rows"]),
        "",
    ]
    path.write_text("\n".join(lines))


def plot(path: pathlib.Path, report: dict[str, Any]) -> None:
    try:
        from matplotlib import pyplot
    except ImportError:
        common.say("no matplotlib: no picture")
        return
    kinds = list(dict.fromkeys(row["kind"] for row in report["rows"]))
    figure, axes = pyplot.subplots(
        1, len(kinds), figsize=(6 * len(kinds), 4.6), sharey=True, squeeze=False
    )
    for axis, kind in zip(axes[0], kinds):
        rows = [row for row in report["rows"] if row["kind"] == kind]
        shares = [100 * row["share"] for row in rows]
        for name, colour, mark in (("navmap", "#1b6ca8", "o"), ("hnswlib", "#d1495b", "s")):
            speeds = [row[name]["qps_median"] for row in rows]
            axis.plot(shares, speeds, label=name, color=colour, marker=mark)
        for row, share in zip(rows, shares):
            axis.annotate(
                f"{row['way'].split(',')[0]}\n{row['ratio']['median']:.0f} x",
                (share, row["navmap"]["qps_median"]),
                textcoords="offset points",
                xytext=(0, 7),
                ha="center",
                fontsize=7,
            )
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.invert_xaxis()
        axis.set_xticks(shares, [f"{share:g} %" for share in shares])
        axis.minorticks_off()
        axis.margins(y=0.15)
        axis.set_xlabel(f"labels that pass, {kind}")
        axis.grid(alpha=0.3)
        axis.legend()
    axes[0][0].set_ylabel(f"queries a second at recall@{K} {report['recall']}, one thread")
    figure.suptitle(f"{report['items']:,} x {report['dim']}, cosine")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def shares(text: str) -> tuple[float, ...]:
    return tuple(float(word) / 100 for word in text.split(","))


def main() -> int:
    parser = common.parser(__doc__)
    parser.set_defaults(efs=EFS, seconds=2.0)
    parser.add_argument("--items", type=int, help="only the first so many")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--least-queries", type=int, default=100)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--shares", type=shares, default=SHARES, help="in per cent, such as 50,1")
    parser.add_argument("--kinds", type=lambda text: tuple(text.split(",")), default=KINDS)
    parser.add_argument("--navmap", type=pathlib.Path, help="a saved index")
    parser.add_argument("--hnswlib", type=pathlib.Path, help="a saved index")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, help="write OUT.md, OUT.json and OUT.png")
    args = parser.parse_args()
    run = Setting(args)
    report: dict[str, Any] = {
        "environment": common.environment(),
        "items": len(run.base),
        "dim": int(run.base.shape[1]),
        "recall": args.recall,
        "rounds": args.rounds,
        "rows": [],
    }
    common.pin(1)
    for kind in args.kinds:
        for share in args.shares:
            report["rows"].append(measure(run, kind, share))
    common.table("filtered searches", HEADER, [cells(row) for row in report["rows"]])
    common.write_json(args.json, report)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        common.write_json(args.out.with_suffix(".json"), report)
        write_table(args.out.with_suffix(".md"), report)
        plot(args.out.with_suffix(".png"), report)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
