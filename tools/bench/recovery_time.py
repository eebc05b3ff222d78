"""How long the open after a kill takes when the log is full.

    tools/bench/recovery_time.py INDEX --data DIR [--runs 5]

Works on a copy beside INDEX.  A process adds rows in batches of 500 until the log holds at least
nine tenths of what triggers a checkpoint, then kills itself; a fresh process opens the index, as a
writer and as a reader in turn, and tells how long that took.  One JSON object.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import sys

FILL = """
import os, signal, sys
import numpy as np
import navmap
base = np.load(sys.argv[2], mmap_mode="r")
index = navmap.open(sys.argv[1], "r+")
first = 1_000_000_000 + index.stats()["n_live"]
stats = index.stats()
while stats["wal_bytes"] < 0.9 * stats["checkpoint_bytes"]:
    rows = np.arange(first, first + 500)
    index.add_items(base[rows % len(base)], rows)
    first += 500
    stats = index.stats()
print(stats["wal_bytes"], stats["n_live"], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

OPEN = """
import sys, time
import navmap
started = time.perf_counter()
index = navmap.open(sys.argv[1], sys.argv[2])
print(1e3 * (time.perf_counter() - started), len(index))
index.close()
"""


def run(code: str, *args: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
    if not done.stdout:
        raise SystemExit(done.stderr)
    return done.stdout.split()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("index", type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    copy = args.index.with_name(args.index.name + ".recovery")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(args.index, copy)
    times, logs = [], []
    for i in range(args.runs):
        log, live = run(FILL, str(copy), str(args.data / "base.npy"))
        taken, found = run(OPEN, str(copy), "r" if i % 2 else "r+")
        if found != live:
            raise SystemExit(f"{live} items acknowledged, {found} recovered")
        times.append(float(taken))
        logs.append(int(log))
    shutil.rmtree(copy)
    print(json.dumps({"open_ms": times, "median_ms": statistics.median(times), "log_bytes": logs}))


if __name__ == "__main__":
    main()
