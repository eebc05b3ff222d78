"""How long an open takes, and the first answer: fresh processes, imports excluded, warm cache.

    tools/bench/open_time.py INDEX [INDEX ...] [--runs 100] [--queries queries.npy]

For each index, interleaved: `--runs` new processes open it as a reader, as many as the writer
(a clean index: each closes it again), and as many time from before open to after the first answer
(k=10, ef=50).  Some systems take page cache away from what is idle, so the files are read through
before each round, and the major faults of each run are told: warm means none.  Prints one JSON
object: milliseconds, median and p95, apart.
"""

import argparse
import json
import subprocess
import sys

from common import spread, warm

CHILD = """
import resource, sys, time
import numpy as np
import navmap
path, mode, queries = sys.argv[1:4]
query = np.load(queries, mmap_mode="r")[int(sys.argv[4])] if queries else None
faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
started = time.perf_counter()
index = navmap.open(path, mode)
if query is not None:
    index.knn_query(query, k=10, ef=50)
taken = 1e3 * (time.perf_counter() - started)
print(taken, resource.getrusage(resource.RUSAGE_SELF).ru_majflt - faults)
index.close()
"""


def once(path: str, mode: str, queries: str, row: int) -> tuple[float, int]:
    command = [sys.executable, "-c", CHILD, path, mode, queries, str(row)]
    taken, faults = subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout.split()
    return float(taken), int(faults)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("index", nargs="+")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--queries", default="", help=".npy; times the first answer too")
    args = parser.parse_args()
    cases = [("reader", "r", ""), ("writer", "r+", "")]
    if args.queries:
        cases.append(("reader_first_answer", "r", args.queries))
    times: dict[str, dict[str, list[float]]] = {
        path: {name: [] for name, _, _ in cases} for path in args.index
    }
    major = {path: dict.fromkeys(by_name, 0) for path, by_name in times.items()}
    for run in range(-2, args.runs):  # two that do not count
        for path in args.index:
            warm(path)
            for name, mode, queries in cases:
                taken, faults = once(path, mode, queries, run % 5000)
                if run >= 0:
                    times[path][name].append(taken)
                    major[path][name] += faults
    report = {
        path: {
            name: spread(values, digits=3) | {"major_faults": major[path][name]}
            for name, values in by_name.items()
        }
        for path, by_name in times.items()
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
