"""Files beside hnswlib's: loading, sharing, converting, memory, pickling.

    tools/bench/saved.py load    --sealed FILE --bin FILE --data DIR [--runs 100]
    tools/bench/saved.py share   --sealed FILE --data DIR [--readers 10]
    tools/bench/saved.py apart   --sealed FILE --data DIR
    tools/bench/saved.py convert --bin FILE --data DIR [--space cosine]
    tools/bench/saved.py memory  --data DIR [--dims 100,128] [--items N]
    tools/bench/saved.py pickle  --sealed FILE
    tools/bench/saved.py make    --bin FILE --sealed FILE

load: new processes load the one and the other in turns; the time of load_index, and from before it
to after the first answer. share: processes that load one file, search and stay alive together; the
Pss of the file's mappings over its size, and what is private in each. apart: one holder of a file
adds, updates and deletes thousands; whether another one's answers, a later one's and the file's
bytes are what they were. convert: the same queries to hnswlib over its own file and to navmap over
it. memory: what a new process holds after building an index without codes, above what it held
before, without the data. pickle: peak of resident memory of a new process that dumps, and of one
that loads, over the size of the file. make: the sealed file of a .bin. Prints one JSON object.
"""

import argparse
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
from common import environment, spread

LOAD = """
import sys, time, importlib
import numpy as np
library, path, space, queries, row = sys.argv[1:6]
module = importlib.import_module(library)
query = np.load(queries, mmap_mode="r")[int(row)].copy()
index = module.Index(space=space, dim=len(query))
started = time.perf_counter()
index.load_index(path)
loaded = time.perf_counter()
index.knn_query(query, k=10)
print(1e3 * (loaded - started), 1e3 * (time.perf_counter() - started))
"""

SHARE = """
import sys
import numpy as np
import navmap

def smaps(path):
    dirty = pss = 0
    ours = False
    for line in open("/proc/self/smaps"):
        field = line.split()
        if not field[0].endswith(":"):
            ours = len(field) > 5 and field[5] == path
        elif field[0] == "Private_Dirty:":
            dirty += int(field[1])
        elif field[0] == "Pss:" and ours:
            pss += int(field[1])
    return dirty, pss

path, space, queries, first, each = sys.argv[1], sys.argv[2], np.load(sys.argv[3]), *map(int, sys.argv[4:6])
queries = queries[np.arange(first, first + each) % len(queries)].copy()
base = smaps(path)[0]
index = navmap.Index(space=space, dim=queries.shape[1])
index.load_index(path)
index.set_ef(50)
index.knn_query(queries, k=10, num_threads=1)
print("ready", flush=True)
sys.stdin.readline()
dirty, pss = smaps(path)
print(dirty - base, pss, flush=True)
sys.stdin.readline()
"""

MEMORY = """
import gc, sys, importlib
import numpy as np
library, data, dim, items = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
module = importlib.import_module(library)
base = np.load(data, mmap_mode="r")[:items]

def anonymous():
    gc.collect()
    with open("/proc/self/status") as status:
        return sum(int(line.split()[1]) for line in status if line.startswith(("RssAnon", "RssShmem")))

def rows(first, last):
    part = base[first:last]
    if dim <= part.shape[1]:
        return np.ascontiguousarray(part[:, :dim])
    return np.hstack((part, part[:, : dim - part.shape[1]]))

module.Index(space="l2", dim=dim)
before = anonymous()
index = module.Index(space="l2", dim=dim)
options = {} if library == "hnswlib" else {"codes": None}
index.init_index(max_elements=len(base), M=16, ef_construction=40, random_seed=1, **options)
for at in range(0, len(base), 10000):
    index.add_items(rows(at, at + 10000), np.arange(at, min(at + 10000, len(base))))
print(anonymous() - before)
"""

DUMP = """
import pickle, resource, sys, time
import navmap

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def now():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

sealed, out, protocol = sys.argv[1], sys.argv[2], int(sys.argv[3])
dim = navmap._core.load(sealed.encode(), 0, 2, 0, 0, 0, 0, 0).stats()["dim"]
index = navmap.Index(space="cosine", dim=dim)
index.load_index(sealed, copy=True)
held = now()
started = time.perf_counter()
text = pickle.dumps(index, protocol)
taken = time.perf_counter() - started
print(held, peak(), len(text), taken)
open(out, "wb").write(text)
"""

UNDUMP = """
import pickle, resource, sys, time
import navmap
text = open(sys.argv[1], "rb").read()
started = time.perf_counter()
index = pickle.loads(text)
taken = time.perf_counter() - started
index.knn_query(index.get_items(index.get_ids_list()[:1]), k=1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, taken)
"""


def child(code: str, *arguments: object) -> list[float]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(word) for word in done.stdout.split()]


def through(path: pathlib.Path) -> None:
    with open(path, "rb") as file:
        while file.read(1 << 24):
            pass


def load(args: argparse.Namespace) -> dict[str, Any]:
    cases = {"navmap": ("navmap", args.sealed), "hnswlib": ("hnswlib", args.bin)}
    cases["navmap converting"] = ("navmap", args.bin)
    times: dict[str, list[list[float]]] = {name: [] for name in cases}
    for run in range(-1, args.runs):
        for name, (library, path) in cases.items():
            if name != "navmap" and run % 10 > 0:
                continue  # those take long, and their times hardly differ
            through(path)
            taken = child(LOAD, library, path, args.space, args.data / "queries.npy", run % 5000)
            if run >= 0:
                times[name].append(taken)
    return {
        name: {
            "load_ms": spread([t[0] for t in runs], 3),
            "with_first_answer_ms": spread([t[1] for t in runs], 3),
            "runs": len(runs),
        }
        for name, runs in times.items()
    }


def share(args: argparse.Namespace) -> dict[str, Any]:
    path = os.path.realpath(args.sealed)
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", SHARE, path, args.space, str(args.data / "queries.npy")]
            + [str(i * 1000), "1000"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for i in range(args.readers)
    ]
    answers: list[list[str]] = []
    for step in range(2):
        answers = [reader.stdout.readline().split() for reader in readers]
        for reader in readers if step == 0 else []:
            reader.stdin.write("\n")
            reader.stdin.flush()
    for reader in readers:
        reader.communicate("\n")
    size = os.stat(path).st_size
    pss = 1024 * sum(int(a[1]) for a in answers)
    return {
        "readers": args.readers,
        "file_bytes": size,
        "pss_sum_over_file": round(pss / size, 3),
        "private_dirty_mib": spread([int(a[0]) / 1024 for a in answers], 2),
    }


def content_sum(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def apart(args: argparse.Namespace) -> dict[str, Any]:
    import navmap

    queries = np.load(args.data / "queries.npy")[:1000]
    vectors = np.load(args.data / "base.npy", mmap_mode="r")[:5000] + np.float32(0.01)

    def holder(room: int = 0) -> navmap.Index:
        index = navmap.Index(space=args.space, dim=queries.shape[1])
        index.load_index(args.sealed, max_elements=room)
        index.set_ef(50)
        return index

    before = content_sum(args.sealed)
    other, changed = holder(), holder(2_000_000)
    first = other.knn_query(queries, k=10)
    count = changed.element_count
    changed.add_items(vectors)
    some = changed.get_ids_list()[:4000]
    changed.add_items(vectors[:2000], some[:2000])
    for label in some[2000:]:
        changed.mark_deleted(label)
    return {
        "items_before": count,
        "items_after": len(changed),
        "changed_one_is_sound": changed.check().sound,
        "answers_of_another_unchanged": same(first, other.knn_query(queries, k=10)),
        "answers_of_a_later_one_unchanged": same(first, holder().knn_query(queries, k=10)),
        "file_unchanged": content_sum(args.sealed) == before,
    }


def same(one: tuple[np.ndarray, ...], two: tuple[np.ndarray, ...]) -> bool:
    return all(bool((a == b).all()) for a, b in zip(one, two, strict=True))


def convert(args: argparse.Namespace) -> dict[str, Any]:
    import hnswlib
    import navmap

    queries = np.load(args.data / "queries.npy")
    report: dict[str, Any] = {}
    indexes = {}
    for library in (hnswlib, navmap):
        index = library.Index(space=args.space, dim=queries.shape[1])
        index.load_index(str(args.bin))
        indexes[library.__name__] = index
    report["sound"] = indexes["navmap"].check().sound
    report["items"] = indexes["navmap"].element_count
    for ef in (10, 50, 200):
        found = {}
        for name, index in indexes.items():
            index.set_ef(ef)
            found[name] = index.knn_query(queries, k=10)
        (a, x), (b, y) = found["hnswlib"], found["navmap"]
        same = a == b
        report[f"ef {ef}"] = {
            "rows_equal": int(same.all(axis=1).sum()),
            "rows": len(queries),
            "labels_equal": float(same.mean()),
            "same_sets": sum(set(p) == set(q) for p, q in zip(a.tolist(), b.tolist())),
            "largest_difference_of_distances_where_labels_agree": float(np.abs(x - y)[same].max()),
        }
    return report


def memory(args: argparse.Namespace) -> dict[str, Any]:
    items = args.items or len(np.load(args.data / "base.npy", mmap_mode="r"))
    report: dict[str, Any] = {"items": items}
    for dim in args.dims:
        kib = {
            name: child(MEMORY, name, args.data / "base.npy", dim, items)[0]
            for name in ("navmap", "hnswlib")
        }
        report[f"dim {dim}"] = {
            "bytes_per_item": {name: round(1024 * n / items, 1) for name, n in kib.items()},
            "ratio": round(kib["navmap"] / kib["hnswlib"], 3),
        }
    return report


def pickling(args: argparse.Namespace) -> dict[str, Any]:
    size = os.stat(args.sealed).st_size
    report: dict[str, Any] = {"file_bytes": size}
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "dump"
        for protocol in (2, 3, 4, 5):
            held, peak, length, taken = child(DUMP, args.sealed, out, protocol)
            top, loading = child(UNDUMP, out)
            report[f"protocol {protocol}"] = {
                "dump_peak_over_file": round(1024 * peak / size, 3),
                "dump_growth_over_file": round(1024 * (peak - held) / size, 3),
                "load_peak_over_file": round(1024 * top / size, 3),
                "pickle_over_file": round(length / size, 3),
                "dump_s": round(taken, 3),
                "load_s": round(loading, 3),
            }
    return report


def make(args: argparse.Namespace) -> dict[str, Any]:
    import navmap

    words = np.load(args.data / "queries.npy", mmap_mode="r") if args.data else None
    index = navmap.Index(space=args.space, dim=words.shape[1] if words is not None else 100)
    index.load_index(args.bin)
    index.save_index(args.sealed)
    return {"file_bytes": os.stat(args.sealed).st_size, "items": len(index)}


STAGES = {
    "load": load, "share": share, "apart": apart, "convert": convert, "memory": memory,
    "pickle": pickling, "make": make,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--data", type=pathlib.Path, default=os.environ.get("NAVMAP_GLOVE"))
    parser.add_argument("--sealed", type=pathlib.Path)
    parser.add_argument("--bin", type=pathlib.Path)
    parser.add_argument("--space", default="cosine")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--readers", type=int, default=10)
    parser.add_argument("--items", type=int)
    parser.add_argument("--dims", type=lambda text: [int(w) for w in text.split(",")],
                        default=[100, 128])
    args = parser.parse_args()
    told = environment()
    print(json.dumps({"environment": told, args.stage: STAGES[args.stage](args)}, indent=1))


if __name__ == "__main__":
    main()
