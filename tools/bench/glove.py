"""A durable index of all GloVe vectors: build, recall beside hnswlib, one-row adds beside LMDB.

    tools/bench/glove.py build  --data DIR --index DIR     build it, batches of 10,000
    tools/bench/glove.py recall --data DIR --index DIR     recall@10 beside hnswlib at equal ef
    tools/bench/glove.py addone --data DIR --index DIR     one-row adds beside bare LMDB commits

DIR holds base.npy, queries.npy and truth.npy (exact neighbours by cosine).  `recall` needs hnswlib
and `addone` needs lmdb, both from PyPI.  Each command prints one JSON object.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import statistics
import sys
import tempfile
import time

import numpy as np

import navmap
from common import EFS, load, recall, spread, warm


def build(args: argparse.Namespace) -> dict:
    base, _, _ = load(args.data)
    base = base[: args.rows]
    shutil.rmtree(args.index, ignore_errors=True)
    started = time.perf_counter()
    with navmap.create(args.index, "cosine", base.shape[1], M=16, ef_construction=200) as index:
        for at in range(0, len(base), 10_000):
            index.add_items(base[at : at + 10_000], np.arange(at, min(at + 10_000, len(base))))
            print(f"\r{at:>9,} of {len(base):,}", end="", file=sys.stderr)
        seconds = time.perf_counter() - started
        stats = index.stats()
    print(file=sys.stderr)
    keep = ("n_live", "nchunks", "data_file_bytes", "data_allocated_bytes", "lmdb_allocated_bytes")
    return {"build_s": seconds, "rows_per_s": len(base) / seconds} | {k: stats[k] for k in keep}


def compare_recall(args: argparse.Namespace) -> dict:
    import hnswlib

    base, queries, truth = load(args.data)
    cached = pathlib.Path(str(args.index).rstrip("/") + ".hnswlib")
    peer = hnswlib.Index("cosine", base.shape[1])
    if cached.exists():
        peer.load_index(str(cached))
    else:
        peer.init_index(len(base), M=16, ef_construction=200)
        started = time.perf_counter()
        peer.add_items(base, np.arange(len(base)), num_threads=1)
        print(f"hnswlib, 1 thread: {time.perf_counter() - started:.0f} s", file=sys.stderr)
        peer.save_index(str(cached))
    rows = []
    with navmap.open(args.index) as index:
        for ef in EFS:
            started = time.perf_counter()
            ours = recall(index.knn_query(queries, k=10, ef=ef)[0], truth)
            ours_qps = len(queries) / (time.perf_counter() - started)
            peer.set_ef(ef)
            started = time.perf_counter()
            theirs = recall(peer.knn_query(queries, k=10, num_threads=1)[0], truth)
            theirs_qps = len(queries) / (time.perf_counter() - started)
            rows.append(
                {"ef": ef, "navmap": ours, "hnswlib": theirs, "points": 100 * (ours - theirs)}
                | {"navmap_qps": ours_qps, "hnswlib_qps": theirs_qps}
            )
    return {"recall_at_10": rows, "worst_points": min(row["points"] for row in rows)}


def add_one(args: argparse.Namespace) -> dict:
    """Interleaved: one navmap row, one LMDB commit of as many bytes as that row logs."""
    import lmdb

    base, queries, _ = load(args.data)
    parent = pathlib.Path(args.index).parent
    scratch = tempfile.mkdtemp(dir=parent, prefix="bare-lmdb-")
    ours, bare = [], []
    env = lmdb.open(scratch, map_size=1 << 30)
    warm(args.index)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
    with navmap.open(args.index, "r+") as index:
        logged = []
        for i in range(args.repeat + 5):
            before = index.stats()["wal_bytes"]
            started = time.perf_counter()
            index.add_items(queries[i], 10_000_000 + i)
            ours.append(1e3 * (time.perf_counter() - started))
            grown = index.stats()["wal_bytes"] - before
            logged.append(grown if grown > 0 else logged[-1])
            value = bytes(logged[-1])
            started = time.perf_counter()
            with env.begin(write=True) as txn:
                txn.put(i.to_bytes(8, "big"), value)
            bare.append(1e3 * (time.perf_counter() - started))
        for i in range(args.repeat + 5):
            index.mark_deleted(10_000_000 + i)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt - faults
    env.close()
    shutil.rmtree(scratch)
    ours, bare = ours[5:], bare[5:]
    ratio = statistics.median(ours) / statistics.median(bare)
    return {
        "add_one_ms": spread(ours),
        "bare_lmdb_commit_ms": spread(bare),
        "ratio_of_medians": ratio,
        "ratio_pairwise_median": statistics.median(a / b for a, b in zip(ours, bare)),
        "major_faults": faults,
        "logged_bytes_median": statistics.median(logged),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("build", "recall", "addone"))
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--index", required=True)
    parser.add_argument("--rows", type=int, default=None, help="build: only the first ROWS")
    parser.add_argument("--repeat", type=int, default=200, help="addone: adds that count")
    args = parser.parse_args()
    os.makedirs(pathlib.Path(args.index).absolute().parent, exist_ok=True)
    run = {"build": build, "recall": compare_recall, "addone": add_one}[args.command]
    print(json.dumps(run(args), indent=1))


if __name__ == "__main__":
    main()
