"""hnswlib's own tests and examples, run by navmap and by hnswlib in turns.

    tools/bench/upstream.py --source DIR [--rounds 3] [--only stress,recall] [--json FILE]

DIR is hnswlib's source, with README.md, tests/python, python_bindings/tests and examples/python;
what of these is not there is left out.  Nothing in it is changed.  Each file runs in a process and
an empty folder of its own, with a module `hnswlib` first on the path that has all names of
navmap's; the README's blocks run together with `import hnswlib` changed to `import navmap as
hnswlib`.  Reported: whether all pass, and of the seconds from start to end of each process, and of
those of the processors, the median, the ratio of the medians, and of the totals of the rounds.  The
latter say more where the machine has other things to do.  Ends with 1 if navmap fails one.
"""

import argparse
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

from common import NAMES, environment, say, table, write_json

README = "README.md"
SHIM = "from navmap import *\nfrom navmap import BFIndex, Index\n"
TESTS = "bindings_test*.py"


@dataclass
class Program:
    name: str
    file: pathlib.Path
    test: bool  # one of those whose total is told
    seconds: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in NAMES})
    cpu: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in NAMES})
    failed: dict[str, str] = field(default_factory=dict)


def programs(source: pathlib.Path, only: list[str]) -> list[Program]:
    found = [
        Program(file.stem, file, pattern == TESTS)
        for folder, pattern in (
            ("tests/python", TESTS),
            ("python_bindings/tests", TESTS),
            ("examples/python", "example*.py"),
        )
        for file in sorted((source / folder).glob(pattern))
    ]
    if (source / README).is_file():
        found.append(Program(README, source / README, False))
    return [one for one in found if not only or any(word in one.name for word in only)]


def command(program: Program, library: str) -> list[str]:
    if program.name == README:
        blocks = re.findall(r"```python\n(.*?)```", program.file.read_text(), re.DOTALL)
        code = "\n".join(blocks)
        if library == "navmap":
            code = code.replace("import hnswlib", "import navmap as hnswlib")
        return [sys.executable, "-c", code]
    if program.test:
        return [sys.executable, "-m", "unittest", program.name]
    return [sys.executable, str(program.file)]


def used() -> float:
    """Seconds of processors that children have had."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(program: Program, library: str, shim: str) -> None:
    path = [str(program.file.parent)]
    if library == "navmap" and program.name != README:
        path.insert(0, shim)
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(path))
    with tempfile.TemporaryDirectory() as folder:
        started, before = time.perf_counter(), used()
        done = subprocess.run(
            command(program, library), cwd=folder, env=env, capture_output=True, text=True
        )
        taken = time.perf_counter() - started
    program.seconds[library].append(taken)
    program.cpu[library].append(used() - before)
    if done.returncode != 0:
        program.failed[library] = done.stderr[-2000:]
    say(f"{program.name}: {library} {taken:.2f} s{', FAILED' if done.returncode else ''}")


def compared(of: dict[str, list[float]]) -> list[str]:
    """Cells of the table."""
    ours, theirs = (statistics.median(of[name]) for name in NAMES)
    return [f"{ours:.2f}", f"{theirs:.2f}", f"{ours / theirs:.3f}"]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", type=lambda text: text.split(","), default=[])
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    told = environment()
    chosen = programs(args.source.resolve(), args.only)
    with tempfile.TemporaryDirectory() as shim:
        pathlib.Path(shim, "hnswlib.py").write_text(SHIM)
        for number in range(args.rounds):
            for program in chosen:
                for library in NAMES if number % 2 == 0 else NAMES[::-1]:
                    run(program, library, shim)

    rows = [
        [program.name, ", ".join(f"{name} FAILED" for name in program.failed) or "pass"]
        + compared(program.seconds) + compared(program.cpu)
        for program in chosen
    ]  # fmt: skip
    tests = [program for program in chosen if program.test]
    totals = {
        what: {
            name: [sum(round) for round in zip(*(getattr(test, what)[name] for test in tests))]
            for name in NAMES
        }
        for what in ("seconds", "cpu")
    }
    if tests:
        rows.append(["all tests", "", *compared(totals["seconds"]), *compared(totals["cpu"])])
    header = ["", "", *NAMES, "ratio", *(f"{name} cpu" for name in NAMES), "ratio"]
    table(f"seconds, medians of {args.rounds}", header, rows)
    for program in chosen:
        for name, text in program.failed.items():
            print(f"\n{program.name}, {name}:\n{text}")
    report = {
        program.name: {
            "seconds": program.seconds, "cpu": program.cpu, "failed": list(program.failed)
        }
        for program in chosen
    }  # fmt: skip
    write_json(args.json, {"environment": told, "programs": report, "totals": totals})
    return 1 if any("navmap" in program.failed for program in chosen) else 0


if __name__ == "__main__":
    sys.exit(main())
