"""What compaction gives back: bytes, recall, speed and cold pages, beside an index built anew.

    tools/bench/compact.py glove --data DIR --cache FOLDER
    tools/bench/compact.py clustered --cache FOLDER [--items 1000000]

Of all vectors an index is built, --part of them, drawn by chance, are marked deleted, and `navmap
compact` writes it anew.  Beside it stands an index built of the vectors that are left, which was
never compacted and never held a deleted one.  Both are directories and hold the same items.
`clustered` draws its vectors: one Gaussian ball (sigma 0.5 a dimension) for each 100, around
centres from a Gaussian of sigma 1, in 128 dimensions; queries come from the same balls.

Told of both:

bytes       allocated, of the data file and of LMDB's
recall      recall@10 at each ef
queries/s   at --level recall, one thread, one call with all queries: measured at two ef close around
            it, in turns, and interpolated (logarithm of speed over recall).  By processor time, so
            that others on the machine cost less; caches are shared with them all the same.
pages       4 KiB pages that one query reads from the disk (major faults) when no page of the index
            is in the page cache.  Huge pages are turned off for it, and the system reads nothing
            ahead where navmap has mapped.  By array: pages of each that are in the page cache after
            the query and were not before (mincore).

What was built is kept in --cache, and found there by the next run.
"""

import argparse
import ctypes
import math
import mmap
import os
import pathlib
import resource
import shutil
import statistics
import sys
import time
from typing import Any

import numpy as np

import common
import navmap
from common import K

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import dump  # noqa: E402

DIM = 128
BALL = 100
SEED = 20261126
EFS = (10, 12, 14, 16, 20, 24, 30, 40, 60, 80, 100, 120, 140, 160, 180, 200, 240, 300)
NO_HUGE_PAGES = 15  # MADV_NOHUGEPAGE
ARRAYS = ("state", "row", "upper", "tag", "code", "vec")
CHUNK0 = 65536
FRESH, COMPACTED = "built anew", "compacted"


# Vectors and indexes --------------------------------------------------------------------------


def clustered(items: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(SEED)
    centres = chance.standard_normal((items // BALL, DIM), dtype=np.float32)
    rows = centres[chance.integers(0, len(centres), items + queries)]
    rows += 0.5 * chance.standard_normal((items + queries, DIM), dtype=np.float32)
    return rows[:items], rows[items:]


class Setting:
    """The data, and where indexes of it are kept."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        if args.set == "glove":
            if args.data is None:
                raise SystemExit("glove: --data, or NAVMAP_GLOVE, is required")
            self.base, queries, _ = common.load(args.data)
            self.base = self.base[: args.items]
            self.queries, self.space, self.ef = queries[: args.queries], "cosine", 200
        else:
            items = args.items or 1_000_000
            self.base, self.queries = clustered(items, args.queries)
            self.space, self.ef = "l2", 100
        gone = np.random.default_rng(5).permutation(len(self.base))
        self.gone = gone[: int(len(self.base) * args.part)]
        self.left = np.setdiff1d(np.arange(len(self.base)), self.gone)
        args.cache.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> pathlib.Path:
        return self.args.cache / f"{self.args.set}-{name}"

    def built(self, name: str, labels: np.ndarray) -> pathlib.Path:
        path = self.path(name)
        if not path.exists():
            common.say(f"building {path.name}, {len(labels):,} items")
            index = navmap.create(
                path, self.space, self.base.shape[1], M=common.M, ef_construction=self.ef
            )
            with index:
                threads = self.args.build_threads
                index.add_items(self.base[labels], labels, num_threads=threads)
        return path

    def truth(self, fresh: pathlib.Path) -> np.ndarray:
        kept = self.path("truth.npy")
        if not kept.exists():
            common.say("exact neighbours")
            with navmap.open(fresh) as index:
                threads = self.args.build_threads
                np.save(kept, index.exact_query(self.queries, K, num_threads=threads)[0])
        return np.load(kept)


def compact(run: Setting) -> tuple[pathlib.Path, dict[str, Any]]:
    """The copy of an index with deleted items, compacted, and what it took."""
    path = run.path("compacted")
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(run.built("all", np.arange(len(run.base))), path)
    with navmap.open(path, "r+", durability="manual") as index:
        for label in run.gone:
            index.mark_deleted(int(label))
        index.flush()
        common.say("compacting")
        begun, cpu = time.perf_counter(), time.process_time()
        told: dict[str, Any] = index.compact(
            refine=run.args.refine, num_threads=run.args.build_threads
        )
        told["seconds"] = time.perf_counter() - begun
        told["cpu_seconds"] = time.process_time() - cpu
        return path, told


# Speed ----------------------------------------------------------------------------------------


def recall_at(index: navmap.Index, queries: np.ndarray, truth: np.ndarray, ef: int) -> float:
    return common.recall(index.knn_query(queries, K, ef=ef, num_threads=1)[0], truth, K)


def around(recalls: dict[int, float], level: float) -> tuple[int, int]:
    """Two ef with the level between their recalls, or the nearest there are."""
    efs = sorted(recalls)
    above = next((i for i, ef in enumerate(efs) if recalls[ef] >= level), len(efs) - 1)
    at = max(above, 1)
    return efs[at - 1], efs[at]


def at_level(level: float, low: tuple[float, float], high: tuple[float, float]) -> float:
    """Queries a second at a recall, of two (recall, queries a second)."""
    share = (level - low[0]) / (high[0] - low[0]) if high[0] > low[0] else 1.0
    share = min(max(share, 0.0), 1.0)
    return math.exp((1 - share) * math.log(low[1]) + share * math.log(high[1]))


def speeds(
    run: Setting, indexes: dict[str, navmap.Index], recalls: dict[str, dict[int, float]]
) -> dict[str, list[float]]:
    """Queries a second at the level, round by round."""
    found: dict[str, list[float]] = {name: [] for name in indexes}
    for _, name in common.in_turns(run.args.rounds, list(indexes)):
        points = []
        for ef in around(recalls[name], run.args.level):
            begun = time.process_time()
            indexes[name].knn_query(run.queries, K, ef=ef, num_threads=1)
            rate = len(run.queries) / (time.process_time() - begun)
            points.append((recalls[name][ef], rate))
        found[name].append(at_level(run.args.level, points[0], points[1]))
    return found


# Cold pages -----------------------------------------------------------------------------------


def forget(path: pathlib.Path) -> None:
    """No page of it stays in the page cache: nothing may have it mapped."""
    for entry in os.scandir(path):
        with open(entry.path, "rb") as file:
            os.fdatasync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def small_pages() -> None:
    """For what is mapped of a data file: huge pages would read 2 MiB a fault."""
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    with open("/proc/self/maps") as maps:
        for line in maps:
            if "/data-" in line and ".navmap" in line:
                begin, end = (int(part, 16) for part in line.split()[0].split("-"))
                if madvise(begin, end - begin, NO_HUGE_PAGES) != 0:
                    raise OSError(ctypes.get_errno(), "madvise")


class Arrays:
    """Which array each page of a data file belongs to, and which pages are in the page cache."""

    def __init__(self, path: pathlib.Path) -> None:
        (self.path,) = path.glob("data-*.navmap")
        self.bytes = self.path.stat().st_size
        with open(self.path, "rb") as file:
            geometry = dump.Header(file.read(dump.PAGE)).g
        begin = [geometry[f"off_{name}"] // mmap.PAGESIZE for name in ARRAYS]
        chunk = geometry["chunk_bytes"] // mmap.PAGESIZE
        page = np.arange(-(-self.bytes // mmap.PAGESIZE)) - CHUNK0 // mmap.PAGESIZE
        self.of = np.searchsorted(begin, page % chunk, side="right") - 1
        self.of[page < 0] = len(ARRAYS)

    def cached(self) -> np.ndarray:
        libc = ctypes.CDLL(None, use_errno=True)
        told = np.zeros(len(self.of), dtype=np.uint8)
        with open(self.path, "rb") as file, mmap.mmap(
            file.fileno(), self.bytes, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE
        ) as room:
            at = ctypes.c_char.from_buffer(room)
            out = told.ctypes.data_as(ctypes.c_void_p)
            failed = libc.mincore(ctypes.byref(at), ctypes.c_size_t(self.bytes), out)
            del at
        if failed:
            raise OSError(ctypes.get_errno(), "mincore")
        return (told & 1).astype(bool)


def cold_pages(
    path: pathlib.Path, queries: np.ndarray, ef: int
) -> tuple[list[int], dict[str, float]]:
    found, by_array = [], np.zeros(len(ARRAYS) + 1)
    arrays = Arrays(path)
    for query in queries:
        forget(path)
        with navmap.open(path) as index:
            small_pages()
            known = arrays.cached()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
            index.knn_query(query, K, ef=ef, num_threads=1)
            found.append(resource.getrusage(resource.RUSAGE_SELF).ru_majflt - before)
            come = arrays.of[arrays.cached() & ~known]
            by_array += np.bincount(come, minlength=len(by_array))
    return found, dict(zip(ARRAYS, (by_array / len(queries)).round(1).tolist()))


# ----------------------------------------------------------------------------------------------


def measure(run: Setting) -> dict[str, Any]:
    fresh = run.built("rest", run.left)
    truth = run.truth(fresh)
    compacted, told = compact(run)
    paths = {FRESH: fresh, COMPACTED: compacted}
    indexes = {name: navmap.open(path) for name, path in paths.items()}
    report: dict[str, Any] = {"compact": told, "bytes": {}, "recall": {}, "pages": {}}
    for name, index in indexes.items():
        stats = index.stats()
        parts = ("data_allocated_bytes", "lmdb_allocated_bytes")
        report["bytes"][name] = {part: stats[part] for part in parts}
        common.warm(paths[name])
        report["recall"][name] = {
            ef: recall_at(index, run.queries, truth, ef) for ef in EFS if ef >= run.args.least_ef
        }
    report["speed"] = speeds(run, indexes, report["recall"])
    report["ratio"] = common.ratios(report["speed"][COMPACTED], report["speed"][FRESH])
    for index in indexes.values():
        index.close()
    for name, path in paths.items():
        ef = around(report["recall"][name], run.args.level)[1]
        pages, arrays = cold_pages(path, run.queries[-run.args.cold :], ef)
        report["pages"][name] = {
            "ef": ef, "median": statistics.median(pages), "each": pages, "arrays": arrays
        }
    return report


def show(run: Setting, report: dict[str, Any]) -> None:
    rows = []
    for name in (FRESH, COMPACTED):
        recalls, of = report["recall"][name], report["pages"][name]
        near = around(recalls, run.args.level)[1]
        rows.append(
            [
                name,
                f"{sum(report['bytes'][name].values()):,}",
                f"{recalls[near]:.4f} at ef {near}",
                f"{statistics.median(report['speed'][name]):,.0f}",
                f"{of['median']:,.0f}",
            ]
        )
    title = f"{run.args.set}: {len(run.left):,} items left of {len(run.base):,}"
    common.table(
        title, ["", "bytes", "recall@10", f"q/s at {run.args.level}", "cold pages"], rows
    )
    common.table("recall@10", ["ef", FRESH, COMPACTED], [
        [ef, *(f"{report['recall'][name][ef]:.4f}" for name in (FRESH, COMPACTED))]
        for ef in report["recall"][FRESH]
    ])
    common.table(
        "queries/s, compacted / built anew", common.RATIO, [common.show_ratio(report["ratio"])]
    )
    told, pages = report["compact"], report["pages"]
    common.table("cold pages by array, mean", ["", *ARRAYS], [
        [name, *(f"{pages[name]['arrays'][array]:,.1f}" for array in ARRAYS)]
        for name in (FRESH, COMPACTED)
    ])
    print(f"\ncold pages, built anew / compacted: "
          f"{pages[FRESH]['median'] / pages[COMPACTED]['median']:.2f}")
    print(f"compacting: {told['seconds']:.1f} s, {told['cpu_seconds']:.1f} s of processor time")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", choices=("glove", "clustered"))
    given = os.environ.get("NAVMAP_GLOVE")
    parser.add_argument("--data", type=pathlib.Path, default=given and pathlib.Path(given))
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    parser.add_argument("--items", type=int, help="the first of glove, or how many to draw")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--part", type=float, default=0.3, help="share that is deleted")
    parser.add_argument("--level", type=float, default=0.95, help="recall")
    parser.add_argument("--least-ef", type=int, default=10)
    parser.add_argument("--refine", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--cold", type=int, default=40, help="queries that pages are counted of")
    parser.add_argument("--build-threads", type=int, default=2)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    if mmap.PAGESIZE != 4096:
        print("pages are not of 4 KiB here", file=sys.stderr)
    run = Setting(args)
    report = measure(run)
    show(run, report)
    common.write_json(args.json, {"environment": common.environment(("navmap",)), **report})
    return 0


if __name__ == "__main__":
    sys.exit(main())
