"""Recall and speed of an index whose items have all been replaced, again and again.

    tools/bench/turnovers.py update replace --data DIR [--items 300000] [--turnovers 10]
    tools/bench/turnovers.py cost --data DIR [--items 300000]
    tools/bench/turnovers.py --data DIR --join FILE.json ... --json ALL.json --picture ALL.png

update   In a turnover every label gets another vector by add_items, in an order drawn by chance.
replace  In a turnover, in batches of --batch labels: each is marked deleted, and as many new labels
         come by add_items(replace_deleted=True), until no label of before is left.

cost     What one update and one replacement cost, in insertions: with the last tenth of the items to
         come, batches of new items, of updates and of replacements are timed in turns, all of one
         index, and each is told beside the batch of new items next to it.

The items come in an order by chance.  The vectors of a turnover are those of the one before, dealt
out anew, so the exact neighbours stay the same vectors throughout, and a fresh index of the same
items is one and the same for all turnovers: a second index that is built alike and not changed.
After each turnover: recall@10 at each ef; queries a second over those of the fresh index, both
asked in turns; and for navmap how many live items no walk reaches.

What a changed row costs is told in rows of the build: of its mean, and of its last tenth, which is
adding to an index of this size.  Rows and build are timed against searches of the fresh index
between the batches, so that what else the machine does counts little.

All times are of processor time, on one thread.
"""

import argparse
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import common
from common import K


PACE_EF = 200


def pace(run: argparse.Namespace) -> float:
    """Seconds that a few searches of the fresh index take just now."""
    run.fresh.set_ef(PACE_EF)
    run.at = (run.at + run.few) % (len(run.queries) - run.few + 1)
    begin = time.process_time()
    common.answers(run.fresh, run.queries[run.at : run.at + run.few], 1)
    return time.process_time() - begin


class Meter:
    """Time of batches of rows, in searches of the fresh index."""

    def __init__(self, run: argparse.Namespace) -> None:
        self.run, self.rows, self.times, self.paces = run, [], [], []

    def batch(self, rows: int, work: Callable[[], None]) -> None:
        begin = time.process_time()
        work()
        self.times.append(time.process_time() - begin)
        self.paces.append(pace(self.run))
        self.rows.append(rows)

    def told(self, part: float = 1.0) -> dict[str, float]:
        """Of the last part of the batches: microseconds a row, and searches a row."""
        first = int(len(self.rows) * (1 - part))
        row = sum(self.times[first:]) / sum(self.rows[first:])
        search = sum(self.paces[first:]) / len(self.paces[first:]) / self.run.few
        return {"us": 1e6 * row, "searches": row / search}


def measure(index: Any, run: argparse.Namespace, vector_of: np.ndarray) -> dict[str, Any]:
    """`vector_of[label]` is the number of its vector."""
    told: dict[str, Any] = {}
    for ef in run.efs:
        index.set_ef(ef)
        run.fresh.set_ef(ef)
        found, short = common.answers(index, run.queries, 1)
        hits = np.where(found >= 0, vector_of[found], -1)
        fresh_found = common.answers(run.fresh, run.queries, 1)[0]
        rates: tuple[list[float], list[float]] = ([], [])
        for _ in range(run.rounds):
            for rate, asked in zip(rates, (index, run.fresh)):
                begin = time.process_time()
                common.answers(asked, run.queries, 1)
                rate.append(len(run.queries) / (time.process_time() - begin))
        told[str(ef)] = {
            "recall": common.recall(hits, run.truth),
            "fresh_recall": common.recall(fresh_found, run.truth),
            "qps": float(np.median(rates[0])),
            "ratio": common.ratios(*rates),
            "short": short,
        }
    if hasattr(index, "check"):
        counts = index.check()
        told["unreachable"] = counts.live + counts.deleted - counts.reachable
        told["no_in_links"] = counts.no_in_links
    return told


def update(index: Any, run: argparse.Namespace, meter: Meter, turnover: int) -> np.ndarray:
    vector_of = run.chance.permutation(run.items)
    for rows in np.array_split(run.chance.permutation(run.items), run.items // run.batch):
        vectors = run.base[vector_of[rows]]
        meter.batch(len(rows), lambda: index.add_items(vectors, rows, num_threads=1))
    return vector_of


def replace_batch(index: Any, gone: np.ndarray, new: np.ndarray, vectors: np.ndarray) -> None:
    for label in gone.tolist():
        index.mark_deleted(label)
    index.add_items(vectors, new, num_threads=1, replace_deleted=True)


def replace(index: Any, run: argparse.Namespace, meter: Meter, turnover: int) -> np.ndarray:
    """Labels of a turnover begin at turnover x items; what is returned is empty below."""
    first = turnover * run.items
    fresh = run.chance.permutation(run.items)

    for rows in np.array_split(run.chance.permutation(run.items), run.items // run.batch):
        vectors = run.base[fresh[rows]]
        gone = first - run.items + rows
        meter.batch(len(rows), lambda: replace_batch(index, gone, first + rows, vectors))
    return np.concatenate((np.full(first, -1), fresh))


KINDS = {"update": update, "replace": replace}


def built(kind: str, name: str, run: argparse.Namespace, meter: Meter | None) -> Any:
    index = common.fresh(name, run.base.shape[1], run.items, replace=kind == "replace")
    for rows in np.array_split(np.arange(run.items), run.items // run.batch):
        if meter is None:
            index.add_items(run.base[rows], rows, num_threads=1)
        else:
            meter.batch(
                len(rows), lambda: index.add_items(run.base[rows], rows, num_threads=1)
            )
    return index


def one(kind: str, name: str, run: argparse.Namespace, save: Callable[[Any], None]) -> None:
    run.at, run.fresh = 0, built(kind, name, run, None)
    meter = Meter(run)
    index = built(kind, name, run, meter)
    insert = {"mean": meter.told(), "last_tenth": meter.told(0.1)}
    lines = [{"turnover": 0} | measure(index, run, np.arange(run.items))]
    told = {"kind": kind, "name": name, "insert": insert, "lines": lines}
    show(kind, name, lines[0], run.efs)
    for turnover in range(1, run.turnovers + 1):
        meter = Meter(run)
        vector_of = KINDS[kind](index, run, meter, turnover)
        row = meter.told()
        cost = {part: row["searches"] / one["searches"] for part, one in insert.items()}
        line = {"turnover": turnover, "row": row, "inserts": cost}
        lines.append(line | measure(index, run, vector_of))
        show(kind, name, lines[-1], run.efs)
        save(told)


def cost(name: str, run: argparse.Namespace) -> dict[str, Any]:
    """The first nine tenths are built; of what follows every batch of new items has one of each."""
    room = run.items + run.items // 10
    index = common.fresh(name, run.base.shape[1], room, replace=True)
    first = run.items * 9 // 10 // run.batch * run.batch
    for rows in np.array_split(np.arange(first), first // run.batch):
        index.add_items(run.base[rows], rows, num_threads=1)
    labels = run.chance.permutation(first)
    times: dict[str, list[float]] = {"insert": [], "update": [], "replace": []}
    for at in range(0, run.items - first, run.batch):
        new = np.arange(first + at, min(first + at + run.batch, run.items))
        changed, gone = labels[at : at + len(new)], labels[first // 2 + at :][: len(new)]
        vectors = run.base[run.chance.integers(first, size=len(new))]

        works = {
            "insert": lambda: index.add_items(run.base[new], new, num_threads=1),
            "update": lambda: index.add_items(vectors, changed, num_threads=1),
            "replace": lambda: replace_batch(index, gone, run.items + gone, vectors),
        }
        for key, work in works.items():
            begin = time.process_time()
            work()
            times[key].append(1e6 * (time.process_time() - begin) / len(new))
    told: dict[str, Any] = {"kind": "cost", "name": name}
    for key, taken in times.items():
        told[key] = {"us": float(np.median(taken))}
        told[key] |= common.ratios(taken, times["insert"])
        print(f"{name} {key}: {told[key]['us']:.1f} us, {told[key]['median']:.3f} insertions")
    return told


def show(kind: str, name: str, line: dict[str, Any], efs: tuple[int, ...]) -> None:
    cells = [f"{kind} {name} {line['turnover']}"]
    if "inserts" in line:
        cost = line["inserts"]
        cells.append(f"{cost['mean']:.2f} inserts, {cost['last_tenth']:.2f} of the last ones")
    for ef in map(str, efs):
        point = line[ef]
        cells.append(
            f"ef {ef}: {point['recall']:.4f} ({point['fresh_recall']:.4f}), "
            f"{point['qps']:,.0f}/s ({point['ratio']['median']:.3f})"
        )
    if "unreachable" in line:
        cells.append(f"{line['unreachable']} unreachable, {line['no_in_links']} without a way in")
    print("; ".join(cells), flush=True)


def plot(path: pathlib.Path, report: dict[str, Any], ef: int) -> None:
    try:
        from matplotlib import pyplot
    except ImportError:
        common.say("no matplotlib: no picture")
        return
    kinds = list(dict.fromkeys(row["kind"] for row in report["rows"]))
    figure, axes = pyplot.subplots(2, len(kinds), figsize=(6 * len(kinds), 7), squeeze=False)
    for column, kind in enumerate(kinds):
        top, bottom = axes[0][column], axes[1][column]
        for row in (row for row in report["rows"] if row["kind"] == kind):
            turnovers = [line["turnover"] for line in row["lines"]]
            points = [line[str(ef)] for line in row["lines"]]
            drawn = top.plot(turnovers, [p["recall"] for p in points], "o-", label=row["name"])
            top.axhline(points[0]["fresh_recall"], color=drawn[0].get_color(), linestyle="--")
            bottom.plot(turnovers, [p["ratio"]["median"] for p in points], "o-", label=row["name"])
        top.set_title(f"{kind}, ef {ef}; dashed: fresh")
        top.set_ylabel(f"recall@{K}")
        bottom.set_ylabel("queries a second over those of the fresh index")
        bottom.set_xlabel("turnovers")
        bottom.set_ylim(bottom=0)
        for axis in (top, bottom):
            axis.grid(alpha=0.3)
            axis.legend()
    figure.suptitle(f"{report['items']:,} x {report['dim']}, cosine")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def joined(paths: list[pathlib.Path]) -> dict[str, Any]:
    reports = [json.loads(path.read_text()) for path in paths]
    rows = [row for report in reports for row in report["rows"]]
    return reports[0] | {"rows": rows}


def main() -> int:
    parser = common.parser(__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=" or ".join([*KINDS, "cost"]))
    parser.add_argument("--items", type=int, default=300_000)
    parser.add_argument("--turnovers", type=int, default=10)
    parser.add_argument("--batch", type=int, default=1_000, help="rows that are changed at once")
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--peers", default="navmap,hnswlib")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--picture", type=pathlib.Path, help="of the middle ef, as PNG")
    parser.add_argument("--join", type=pathlib.Path, nargs="+", help="reports of runs before")
    run = parser.parse_args()
    if not set(run.kinds) <= {*KINDS, "cost"} or bool(run.kinds) == bool(run.join):
        parser.error(f"either --join or some of {', '.join(KINDS)}, cost")
    report: dict[str, Any]
    if run.join:
        report = joined(run.join)
        common.write_json(run.json, report)
    else:
        base, queries, _ = common.load(run.data)
        run.chance = np.random.default_rng(run.seed)
        run.base = run.chance.permutation(base[: run.items])
        run.queries, run.few = queries[: run.queries], min(100, run.queries)
        run.items = len(run.base)
        common.say("exact neighbours")
        run.truth = common.exact_neighbours(run.base, np.arange(run.items), run.queries)
        report = {"environment": common.environment(), "items": run.items}
        report |= {"dim": base.shape[1], "rows": []}
    for kind in run.kinds:
        for name in run.peers.split(","):
            run.chance = np.random.default_rng(run.seed)
            before = list(report["rows"])
            if kind == "cost":
                report.setdefault("cost", []).append(cost(name, run))
                common.write_json(run.json, report)
                continue

            def save(told: dict[str, Any], before: list[Any] = before) -> None:
                report["rows"] = [*before, told]
                common.write_json(run.json, report)

            one(kind, name, run, save)
    if run.picture and report["rows"]:
        efs = [int(key) for key in report["rows"][0]["lines"][0] if key.isdigit()]
        plot(run.picture, report, efs[len(efs) // 2])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
