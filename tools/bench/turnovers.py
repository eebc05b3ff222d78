"""Recall and speed of an index whose items have all been replaced, again and again.

    tools/bench/turnovers.py update replace --data DIR [--items 300000] [--turnovers 10]

update   In a turnover every label gets another vector by add_items, in an order drawn by chance.
replace  In a turnover, in batches of --batch labels: each is marked deleted, and as many new labels
         come by add_items(replace_deleted=True), until no label of before is left.

The vectors of a turnover are those of the one before, dealt out anew, so the exact neighbours stay
the same vectors throughout and a fresh index of the same items is one and the same for all
turnovers: it is the line to be held.  After each turnover: recall@10 and queries a second at each
ef, the time of a changed row over that of a row of the fresh build, and for navmap how many live
items no walk reaches.  All times are of processor time, on one thread.
"""

import argparse
import pathlib
import time
from typing import Any

import numpy as np

import common
from common import K


def measure(index: Any, run: argparse.Namespace, vector_of: np.ndarray) -> dict[str, Any]:
    """`vector_of[label]` is the number of its vector."""
    told: dict[str, Any] = {}
    for ef in run.efs:
        index.set_ef(ef)
        found, short = common.answers(index, run.queries, 1)
        hits = np.where(found >= 0, vector_of[found], -1)
        rates = []
        for _ in range(run.rounds):
            begin = time.process_time()
            common.answers(index, run.queries, 1)
            rates.append(len(run.queries) / (time.process_time() - begin))
        told[str(ef)] = {
            "recall": common.recall(hits, run.truth),
            "qps": float(np.median(rates)),
            "short": short,
        }
    if hasattr(index, "check"):
        counts = index.check()
        told["unreachable"] = counts.live + counts.deleted - counts.reachable
        told["no_in_links"] = counts.no_in_links
    return told


def update(index: Any, run: argparse.Namespace, labels: np.ndarray, turnover: int) -> np.ndarray:
    vector_of = run.chance.permutation(run.items)
    for rows in np.array_split(run.chance.permutation(run.items), run.items // run.batch):
        index.add_items(run.base[vector_of[rows]], rows, num_threads=1)
    return vector_of


def replace(index: Any, run: argparse.Namespace, labels: np.ndarray, turnover: int) -> np.ndarray:
    """Labels of a turnover begin at turnover x items; what is returned is empty below."""
    first = turnover * run.items
    fresh = run.chance.permutation(run.items)
    for rows in np.array_split(run.chance.permutation(run.items), run.items // run.batch):
        for label in rows.tolist():
            index.mark_deleted(first - run.items + label)
        index.add_items(run.base[fresh[rows]], first + rows, num_threads=1, replace_deleted=True)
    return np.concatenate((np.full(first, -1), fresh))


KINDS = {"update": update, "replace": replace}


def one(kind: str, name: str, run: argparse.Namespace) -> dict[str, Any]:
    index = common.fresh(name, run.base.shape[1], run.items, replace=kind == "replace")
    labels = np.arange(run.items)
    begin = time.process_time()
    for rows in np.array_split(labels, run.items // run.batch):
        index.add_items(run.base[rows], rows, num_threads=1)
    insert = (time.process_time() - begin) / run.items
    lines = [{"turnover": 0, "us_per_row": 1e6 * insert} | measure(index, run, labels)]
    show(kind, name, lines[0], lines[0], run.efs)
    for turnover in range(1, run.turnovers + 1):
        begin = time.process_time()
        vector_of = KINDS[kind](index, run, labels, turnover)
        taken = (time.process_time() - begin) / run.items
        line = {"turnover": turnover, "us_per_row": 1e6 * taken} | measure(index, run, vector_of)
        lines.append(line)
        show(kind, name, line, lines[0], run.efs)
    return {"kind": kind, "name": name, "lines": lines}


def show(
    kind: str, name: str, line: dict[str, Any], first: dict[str, Any], efs: tuple[int, ...]
) -> None:
    cells = [f"{kind} {name} {line['turnover']}"]
    cells.append(f"{line['us_per_row'] / first['us_per_row']:.2f} inserts")
    for ef in map(str, efs):
        cells.append(
            f"ef {ef}: {line[ef]['recall']:.4f}, {line[ef]['qps']:,.0f}/s "
            f"({line[ef]['qps'] / first[ef]['qps']:.2f})"
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
        for row in (row for row in report["rows"] if row["kind"] == kind):
            turnovers = [line["turnover"] for line in row["lines"]]
            for axis, what in ((axes[0][column], "recall"), (axes[1][column], "qps")):
                values = [line[str(ef)][what] for line in row["lines"]]
                axis.plot(turnovers, values, marker="o", label=row["name"])
        axes[0][column].set_title(f"{kind}, ef {ef}")
        axes[0][column].set_ylabel(f"recall@{K}")
        axes[1][column].set_ylabel("queries a second, one thread")
        axes[1][column].set_xlabel("turnovers")
        axes[1][column].set_ylim(bottom=0)
        for axis in (axes[0][column], axes[1][column]):
            axis.grid(alpha=0.3)
            axis.legend()
    figure.suptitle(f"{report['items']:,} x {report['dim']}, cosine")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> int:
    parser = common.parser(__doc__)
    parser.add_argument("kinds", nargs="+", choices=KINDS)
    parser.add_argument("--items", type=int, default=300_000)
    parser.add_argument("--turnovers", type=int, default=10)
    parser.add_argument("--batch", type=int, default=1_000, help="rows that are changed at once")
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--peers", default="navmap,hnswlib")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--picture", type=pathlib.Path, help="of the middle ef, as PNG")
    run = parser.parse_args()
    base, queries, _ = common.load(run.data)
    run.base, run.queries = base[: run.items], queries[: run.queries]
    run.items = len(run.base)
    common.say("exact neighbours")
    run.truth = common.exact_neighbours(run.base, np.arange(run.items), run.queries)
    report: dict[str, Any] = {"environment": common.environment(), "items": run.items}
    report |= {"dim": base.shape[1], "rows": []}
    for kind in run.kinds:
        for name in run.peers.split(","):
            run.chance = np.random.default_rng(run.seed)
            report["rows"].append(one(kind, name, run))
            common.write_json(run.json, report)
    if run.picture:
        plot(run.picture, report, run.efs[len(run.efs) // 2])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
