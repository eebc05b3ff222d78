"""Recall and speed after an index has changed, beside hnswlib: deletion, update, replacement.

    tools/bench/change.py delete update replace --data DIR [--items 100000]

Two disjoint sets of `--items` vectors are drawn from the data, the old and the new.  Both libraries
begin with an index in memory of the old ones, labelled 0, 1, ...

delete   Every second label, drawn by chance, is marked deleted (--part of them).
update   Every label gets a new vector by add_items, in an order drawn by chance; --permute deals
         the old vectors out anew instead.
replace  In batches of --batch labels: each is marked deleted, and as many new vectors come under
         labels of their own by add_items(replace_deleted=True), until no old label is left.

The libraries take turns batch by batch, so that each batch is a pair; what is told of them is the
time of one row's change, as a median over the batches, and the ratio of speeds: above 1 navmap is
faster.  Afterwards recall@10 among the living (exact neighbours by numpy) and queries a second are
taken at each ef, in turns as in engine.py, and beside them those of a fresh index, which never held
anything but what is alive now.  A query for which a library finds fewer than 10 is counted as
"short", and its recall as 0; such rows cost q/s too, since it is then asked row by row.  Answers
that are not alive are counted, and one of navmap's makes the exit status 1.
"""

import argparse
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import common
from common import K, NAMES


class Setting:
    """The vectors of a run, old and new, and its options."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.chance = np.random.default_rng(args.seed)
        base, self.queries, _ = common.load(args.data)
        if 2 * args.items > len(base):
            raise SystemExit(f"--items: at most {len(base) // 2:,}, old and new come from one set")
        drawn = self.chance.permutation(len(base))[: 2 * args.items]
        self.old, self.new = base[drawn[: args.items]], base[drawn[args.items :]]
        self.labels = np.arange(args.items)

    def built(
        self, name: str, vectors: np.ndarray, labels: np.ndarray, *, replace: bool = False
    ) -> Any:
        common.unpin()
        common.say(f"building {name}, {len(vectors):,} items")
        index = common.fresh(name, vectors.shape[1], len(vectors), replace=replace)
        index.add_items(vectors, labels, num_threads=self.args.build_threads)
        return index

    def both(self, *, replace: bool = False) -> dict[str, Any]:
        return {name: self.built(name, self.old, self.labels, replace=replace) for name in NAMES}


def change_in_turns(
    run: Setting,
    indexes: dict[str, Any],
    steps: Mapping[str, Callable[[Any, np.ndarray], object]],
    order: np.ndarray,
) -> dict[str, Any]:
    """Take each batch of `order` through the steps, in both libraries; seconds by step and name."""
    common.pin(run.args.threads)
    taken: dict[str, dict[str, list[float]]] = {
        step: {name: [] for name in indexes} for step in steps
    }
    batches = np.array_split(order, max(1, len(order) // run.args.batch))
    for number, rows in enumerate(batches):
        for step, change in steps.items():
            for name, index in indexes.items():
                seconds = common.seconds_of(change, index, rows)
                taken[step][name].append(seconds / len(rows))
        if (number + 1) % max(1, len(batches) // 10) == 0:
            common.say(f"changed {number + 1} of {len(batches)} batches")
    common.unpin()
    told: dict[str, Any] = {}
    for step, by_name in taken.items():
        told[step] = {
            name: {
                "us_per_row_median": 1e6 * statistics.median(each),
                "us_per_row_max": 1e6 * max(each),
                "seconds": sum(s * len(rows) for s, rows in zip(each, batches)),
            }
            for name, each in by_name.items()
        }
        told[step]["ratio"] = common.ratios(by_name["hnswlib"], by_name["navmap"])  # of speeds
    return told


def show_changes(title: str, told: dict[str, Any]) -> None:
    header = ["step", *(f"{name} {what}" for name in NAMES for what in ("us/row", "max", "s"))]
    rows = []
    for step, of in told.items():
        line: list[object] = [step]
        for name in NAMES:
            line += [f"{of[name]['us_per_row_median']:,.1f}", f"{of[name]['us_per_row_max']:,.1f}"]
            line.append(f"{of[name]['seconds']:.2f}")
        rows.append(line + common.show_ratio(of["ratio"])[:2])
    common.table(f"{title}: ratio of speeds, navmap over hnswlib", header + common.RATIO[:2], rows)


def search(
    run: Setting, title: str, indexes: dict[str, Any], vectors: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    """Curves of the changed indexes and of fresh ones; `vectors` and `labels` are what is alive."""
    all_four = dict(indexes)
    for name in indexes:
        all_four[f"fresh {name}"] = run.built(name, vectors, labels)
    common.say("exact neighbours")
    truth = common.exact_neighbours(vectors, labels, run.queries)
    rows = common.curves(
        all_four,
        run.queries,
        truth,
        threads=run.args.threads,
        rounds=run.args.rounds,
        efs=run.args.efs,
        at_least=run.args.seconds,
    )
    common.show_curves(
        f"{title}: {len(vectors):,} alive, {len(run.queries):,} queries, k={K}; "
        "ratio of q/s, navmap over hnswlib",
        rows,
        tuple(all_four),
    )
    not_alive = {}
    for name, index in indexes.items():
        found = common.answers(index, run.queries, run.args.threads)[0]
        not_alive[name] = int((~np.isin(found, labels) & (found >= 0)).sum())
    print("  answers that are not alive: " + ", ".join(f"{n} {c}" for n, c in not_alive.items()))
    return {"curves": rows, "not_alive": not_alive}


def delete(run: Setting) -> dict[str, Any]:
    indexes = run.both()
    count = int(run.args.part * len(run.labels))
    gone = run.chance.permutation(run.labels)[:count]

    def mark(index: Any, rows: np.ndarray) -> None:
        for label in rows.tolist():
            index.mark_deleted(label)

    title = f"delete, {count:,} of {len(run.labels):,} labels marked"
    told = change_in_turns(run, indexes, {"mark_deleted": mark}, gone)
    show_changes(title, told)
    alive = np.setdiff1d(run.labels, gone)
    return {"changes": told, "search": search(run, title, indexes, run.old[alive], alive)}


def update(run: Setting) -> dict[str, Any]:
    indexes = run.both()
    new = run.chance.permutation(run.old) if run.args.permute else run.new

    def give(index: Any, rows: np.ndarray) -> None:
        index.add_items(new[rows], rows, num_threads=run.args.threads)

    title = "update, every label has " + ("another's" if run.args.permute else "a new") + " vector"
    told = change_in_turns(run, indexes, {"add_items": give}, run.chance.permutation(run.labels))
    show_changes(title, told)
    return {"changes": told, "search": search(run, title, indexes, new, run.labels)}


def replace(run: Setting) -> dict[str, Any]:
    indexes = run.both(replace=True)

    def mark(index: Any, rows: np.ndarray) -> None:
        for label in rows.tolist():
            index.mark_deleted(label)

    def put(index: Any, rows: np.ndarray) -> None:
        index.add_items(
            run.new[rows],
            rows + len(run.labels),
            num_threads=run.args.threads,
            replace_deleted=True,
        )

    title = f"replace, every label by a new one, {run.args.batch:,} at a time"
    steps = {"mark_deleted": mark, "add_items": put}
    told = change_in_turns(run, indexes, steps, run.chance.permutation(run.labels))
    show_changes(title, told)
    alive = run.labels + len(run.labels)
    return {"changes": told, "search": search(run, title, indexes, run.new, alive)}


PARTS = {"delete": delete, "update": update, "replace": replace}


def main() -> int:
    parser = common.parser(__doc__)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--items", type=int, default=100_000, help="in the index at any time")
    parser.add_argument("--part", type=float, default=0.5, help="delete: how many of all")
    parser.add_argument("--permute", action="store_true", help="update: by the old vectors")
    parser.add_argument("--batch", type=int, default=1_000, help="rows that are changed in turn")
    parser.add_argument("--threads", type=int, default=1, help="that change and search")
    parser.add_argument("--build-threads", type=int, default=2, help="that build")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    report: dict[str, Any] = {"environment": common.environment(), "items": args.items}
    run = Setting(args)
    for part in args.parts:
        report[part] = PARTS[part](run)
        common.write_json(args.json, report)
    return 1 if any(report[part]["search"]["not_alive"]["navmap"] for part in args.parts) else 0


if __name__ == "__main__":
    raise SystemExit(main())
