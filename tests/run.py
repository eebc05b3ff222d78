"""Run the C tests of one build directory, and the Python tests if asked, and count cases.

meson counts programs and pytest counts cases; the closing line of this script counts cases of
both: each cmocka case, each pytest case, what a program says in a line "N passed, N failed", and
1 for any other test program.

    .venv/bin/python tests/run.py build [--suite NAME ...] [--python [FILE ...]] [--stage DIR]
        [--differential TIER]
"""

import argparse
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# cmocka's closing lines; some versions write them to standard output, others to standard error.
CMOCKA = re.compile(r"^\[ +(PASSED|FAILED|SKIPPED) +\] (\d+) test\(s\)", re.MULTILINE)
# The sanitizers' own reports from the Python tests: build/REPORTS.PID.
REPORTS = "sanitizer-report"
# What programs of ours print that count cases without cmocka.
PLAIN = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", re.MULTILINE)


class Count:
    def __init__(self, passed=0, failed=0, skipped=0):
        self.passed, self.failed, self.skipped = passed, failed, skipped

    def __iadd__(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        return self

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def count_program(entry):
    """The cases of one test program, from its entry in meson's testlog.json."""
    count = Count()
    output = entry.get("stdout", "") + "\n" + entry.get("stderr", "")
    # A program with several groups prints several closing lines: they add up.
    for word, number in CMOCKA.findall(output):
        setattr(count, word.lower(), getattr(count, word.lower()) + int(number))
    for passed, failed, skipped in PLAIN.findall(output):
        count += Count(int(passed), int(failed), int(skipped or 0))
    result = entry["result"]
    if result in ("OK", "EXPECTEDFAIL"):
        if count.passed + count.skipped == 0:
            count.passed = 1
    elif result == "SKIP":
        count.skipped = max(count.skipped, 1)
    else:  # FAIL, TIMEOUT, ERROR, INTERRUPT, UNEXPECTEDPASS: a crash has no closing line
        count.failed = max(count.failed, 1)
    return count


def run_c(build, suites):
    """meson test; the default set when no suite is named."""
    log = build / "meson-logs" / "testlog.json"
    log.unlink(missing_ok=True)
    command = ["meson", "test", "-C", str(build), "--no-rebuild", "--print-errorlogs"]
    for suite in suites:
        command += ["--suite", suite]
    status = subprocess.run(command, cwd=ROOT).returncode
    count = Count()
    lines = log.read_text().splitlines() if log.exists() else []
    for line in lines:
        count += count_program(json.loads(line))
    if not lines:
        print(f"run.py: no C test ran in {build}", file=sys.stderr)
        count.failed += 1
    elif status != 0 and count.failed == 0:
        count.failed += 1
    return count


def sanitizer_of(build):
    """The value of b_sanitize in a build directory."""
    options = json.loads((build / "meson-info" / "intro-buildoptions.json").read_text())
    return next((str(o["value"]) for o in options if o["name"] == "b_sanitize"), "none")


def python_environment(build, stage):
    """The environment pytest runs in: the installed package, or that of a staged build."""
    env = dict(os.environ, PYTHONFAULTHANDLER="1")
    env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # what else is installed is not our business
    if stage is None:
        return env
    packages = next(stage.rglob("navmap/__init__.py"), None)
    if packages is None:
        sys.exit(f"run.py: no staged package under {stage}")
    env["PYTHONPATH"] = str(packages.parent.parent)
    command = next((p for p in stage.rglob("bin/navmap")), None)
    if command is not None:
        env["PATH"] = f"{command.parent}{os.pathsep}{env['PATH']}"
    sanitizer = sanitizer_of(build)
    # The interpreter is not built with the sanitizer, so its runtime has to come first; and it
    # never frees everything, so that leaks are looked for in the C tests only.
    for word, name in (("address", "asan"), ("thread", "tsan")):
        if word in sanitizer:
            runtime = sanitizer_runtime(name)
            if runtime is None:
                return None
            env["LD_PRELOAD"] = runtime
            # pytest holds standard error back, and a report would die with the process.  hnswlib,
            # where it is there to be compared with, frees by delete what it took by new[]; navmap
            # is C, and knows one way to free only.
            for options in (f"{name.upper()}_OPTIONS", "UBSAN_OPTIONS"):
                more = f"detect_leaks=0:allocator_may_return_null=1:log_path={build / REPORTS}"
                if options == "ASAN_OPTIONS":
                    more += ":alloc_dealloc_mismatch=0"
                env[options] = f"{env.get(options, '')}:{more}".lstrip(":")
    return env


def sanitizer_runtime(name):
    """The path of gcc's shared runtime; clang links its own statically, which cannot be preloaded."""
    compiler = os.environ.get("CC", "cc").split()
    said = subprocess.run([*compiler, "--version"], capture_output=True, text=True).stdout
    if "clang" in said:
        return None
    found = subprocess.run(
        [*compiler, f"-print-file-name=lib{name}.so"], capture_output=True, text=True
    ).stdout.strip()
    return os.path.realpath(found) if os.path.isabs(found) else None


def run_python(build, stage, files):
    env = python_environment(build, stage)
    count = Count()
    if env is None:
        print("run.py: the compiler has no shared sanitizer runtime; Python tests are left out")
        count.skipped += 1
        return count
    report = build / "pytest.xml"
    for old in (report, *build.glob(f"{REPORTS}.*")):
        old.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [f"--junitxml={report}", *(files or ["tests/python"])]
    status = subprocess.run(command, cwd=ROOT, env=env).returncode
    if report.exists():
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            number = {k: int(suite.get(k, 0)) for k in ("tests", "failures", "errors", "skipped")}
            bad = number["failures"] + number["errors"]
            count.failed += bad
            count.skipped += number["skipped"]
            count.passed += number["tests"] - bad - number["skipped"]
    for found in sorted(build.glob(f"{REPORTS}.*")):
        said = found.read_text(errors="replace")
        if "SUMMARY: " in said or "runtime error: " in said:  # not a mere warning
            # What it is stands first; of pytest's own frames there are too many.
            print(f"\n{found}:\n" + "\n".join(said.splitlines()[:20]))
            count.failed += 1
    if status != 0 and count.failed == 0:  # crashed, interrupted, or collected nothing
        print(f"run.py: pytest ended with status {status}", file=sys.stderr)
        count.failed += 1
    return count


def run_differential(tier):
    """Random programs against a model and hnswlib; see tests/python/differential."""
    command = [sys.executable, "-m", "differential"]
    env = dict(os.environ, NAVMAP_TIER=tier, PYTHONFAULTHANDLER="1")
    count = Count()
    with subprocess.Popen(
        command, cwd=ROOT / "tests" / "python", env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            for passed, failed, skipped in PLAIN.findall(line):
                count += Count(int(passed), int(failed), int(skipped or 0))
    if process.returncode != 0 and count.failed == 0:
        print(f"run.py: differential ended with status {process.returncode}", file=sys.stderr)
        count.failed += 1
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path, help="a configured and compiled build directory")
    parser.add_argument("--suite", action="append", default=[], help="these meson suites only")
    parser.add_argument("--python", nargs="*", metavar="FILE", help="and these of tests/python, or all")
    parser.add_argument("--stage", type=Path, help="take the package from this staged install")
    parser.add_argument("--differential", metavar="TIER", help="and tests/python/differential")
    args = parser.parse_args()

    count = run_c(args.build.resolve(), args.suite)
    if args.python is not None:
        stage = args.stage and args.stage.resolve()
        count += run_python(args.build.resolve(), stage, args.python)
    if args.differential:
        count += run_differential(args.differential)
    print(f"\n{count}")
    return 1 if count.failed else 0


if __name__ == "__main__":
    sys.exit(main())
