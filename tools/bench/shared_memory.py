"""What N reader processes of one index cost in memory.

    tools/bench/shared_memory.py INDEX --queries queries.npy [--readers 10] [--each 1000]

Every reader answers `--each` different queries and then reads its own /proc/self/smaps while all of
them are still alive: Private_Dirty of the whole process above the same interpreter with navmap
imported and nothing open, and Pss of the mappings of the index's files.  One JSON object.
"""

import argparse
import json
import os
import subprocess
import sys

CHILD = """
import os, sys
import numpy as np
import navmap

def smaps(prefix):
    dirty = pss = 0
    ours = False
    for line in open("/proc/self/smaps"):
        field = line.split()
        if not field[0].endswith(":"):
            ours = len(field) > 5 and field[5].startswith(prefix)
        elif field[0] == "Private_Dirty:":
            dirty += int(field[1])
        elif field[0] == "Pss:" and ours:
            pss += int(field[1])
    return dirty, pss

path, queries, first, each = sys.argv[1], np.load(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
queries = queries[np.arange(first, first + each) % len(queries)].copy()
base = smaps(path)[0]
index = navmap.open(path)
index.knn_query(queries, k=10, ef=50)
print("ready", flush=True)
sys.stdin.readline()
dirty, pss = smaps(path)
print(dirty - base, pss, flush=True)
sys.stdin.readline()
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("index")
    parser.add_argument("--queries", required=True)
    parser.add_argument("--readers", type=int, default=10)
    parser.add_argument("--each", type=int, default=1000)
    args = parser.parse_args()
    path = os.path.realpath(args.index)
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, path, args.queries, str(i * args.each), str(args.each)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for i in range(args.readers)
    ]
    for step in range(2):
        answers = [reader.stdout.readline().split() for reader in readers]
        if step == 0:
            for reader in readers:
                reader.stdin.write("\n")
                reader.stdin.flush()
    for reader in readers:
        reader.communicate("\n")
    dirty = [int(a[0]) / 1024 for a in answers]
    files = sum(os.stat(entry).st_size for entry in os.scandir(path) if entry.is_file())
    pss = sum(int(a[1]) for a in answers) * 1024
    print(json.dumps({
        "readers": args.readers,
        "private_dirty_mib": {"median": sorted(dirty)[len(dirty) // 2], "max": max(dirty)},
        "index_files_bytes": files,
        "index_pss_sum_bytes": pss,
        "pss_over_files": round(pss / files, 3),
    }, indent=1))


if __name__ == "__main__":
    main()
