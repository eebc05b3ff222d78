"""Break the library one step at a time and see that the named test notices.

    .venv/bin/python tests/mutants/run.py BUILD_DIR [--only NAME ...] [--list] [--from NAME]

Each NAME.patch here leaves out or moves one sync, one ordering step or one check of the commit,
apply, checkpoint or open sequence.  Its head says which step, what breaks, and the test program
that has to fail:

    Step: K2 before K3
    Breaks: the log is cut before the data file is synced
    Caught-by: torture-power_cut --budget 4000

All of it happens in a copy of the tree below BUILD_DIR.  First the named tests must pass on the
sound tree; then each patch is applied, the test is built and run, and the patch is taken back.  A
patch that no longer applies or builds, and a mutant that survives, are failures.

fences/ holds the mutants that only a processor other than x86 can tell from the sound program:
they are applied and built, so that they do not rot, and their "Caught-by: none" is listed apart.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SECONDS = 300  # a sound test takes a few; a mutant may hang
FUZZ = 2  # lines of context that may have changed: the rest must be there


class Mutant:
    def __init__(self, path):
        self.path = path
        self.name = path.stem
        self.fence = path.parent.name == "fences"
        head, _, self.diff = path.read_text().partition("\n--- ")
        fields = dict(re.findall(r"^([A-Z][A-Za-z-]*): (.*)$", head, re.MULTILINE))
        missing = {"Step", "Breaks", "Caught-by"} - set(fields)
        if missing or not self.diff:
            sys.exit(f"mutants: {path.name}: no {', '.join(sorted(missing)) or 'diff'}")
        self.step, self.breaks = fields["Step"], fields["Breaks"]
        self.command = None if self.fence else fields["Caught-by"].split()
        self.files = re.findall(r"^\+\+\+ b/(\S+)", self.diff, re.MULTILINE)


def tree_files():
    """What a clone would have, changes and new files included; without git, all but builds."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
    )
    if listed.returncode == 0:
        names = [os.fsdecode(n) for n in listed.stdout.split(b"\0") if n]
    else:
        skip = re.compile(r"(^|/)(\.|build|dist/|__pycache__)")
        names = [str(p.relative_to(ROOT)) for p in ROOT.rglob("*")]
        names = [n for n in names if not skip.search(n)]
    return [n for n in names if (ROOT / n).is_file()]


def copy_tree(to):
    """Bring the copy up to date; a file that is the same keeps its time, so that little is built."""
    names = tree_files()
    for old in [p for p in to.rglob("*") if p.is_file()]:
        if str(old.relative_to(to)) not in set(names):
            old.unlink()
    for name in names:
        source, target = ROOT / name, to / name
        if target.exists() and target.read_bytes() == source.read_bytes():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def run(command, cwd, timeout=None):
    """Exit status and output; a signal is negative, None a time-out."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        return None, process.communicate()[0]


def ninja(build, programs):
    command = ["ninja", "-C", str(build), "--quiet", *(f"tests/{p}" for p in programs)]
    return run(command, ROOT)


def test(build, command):
    program = build / "tests" / command[0]
    return run([str(program), *command[1:]], build.parent / "tree", SECONDS)


def symptom(output):
    """The line of a failing test that says most."""
    for pattern in (r"^FAILED .*$", r"^.*ERROR.*--- .*$", r"^\[  FAILED  \] .*$", r"^.*failed.*$"):
        found = re.search(pattern, output, re.MULTILINE)
        if found:
            return found.group(0).strip()[:160]
    return (output.strip().splitlines() or ["no output"])[-1][:160]


def try_mutant(mutant, tree, build):
    """(whether all is well, what happened)"""
    patch = ["patch", "--batch", "--forward", "-p1", f"--fuzz={FUZZ}", "--no-backup-if-mismatch"]
    patch += ["--reject-file=-", "-d", str(tree), "-i", str(mutant.path)]
    status, output = run(patch, ROOT)
    if status != 0:
        return False, f"does not apply any more: {output.strip().splitlines()[-1]}"
    status, output = ninja(build, ["unit-store"] if mutant.fence else [mutant.command[0]])
    if status != 0:
        return False, f"does not build: {symptom(output)}"
    if mutant.fence:
        return True, "applies and builds"
    status, output = test(build, mutant.command)
    if status is None:
        return True, f"caught: no end after {SECONDS} s"
    if status < 0:
        return True, f"caught: signal {-status}"
    if status == 0:
        return False, "SURVIVED"
    return True, f"caught: {symptom(output)}"


def take_back(mutant, tree):
    for name in mutant.files:  # copied with the time of now: ninja has to see it
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, tree / name)


def prepare(base):
    tree, build = base / "tree", base / "build"
    tree.mkdir(parents=True, exist_ok=True)
    copy_tree(tree)
    if not (build / "build.ninja").exists():
        setup = ["meson", "setup", "-Dtests=enabled", "-Dtools=disabled", "-Doptimization=1"]
        setup.append("-Dwerror=false")  # what a mutant leaves unused
        status, output = run([*setup, str(build), str(tree)], ROOT)
        if status != 0:
            sys.exit(f"mutants: meson setup failed:\n{output}")
    return tree, build


def check_sound(mutants, build):
    """Each named test on the sound tree."""
    commands = sorted({tuple(m.command) for m in mutants if m.command})
    programs = {c[0] for c in commands} | ({"unit-store"} if any(m.fence for m in mutants) else set())
    status, output = ninja(build, sorted(programs))
    if status != 0:
        sys.exit(f"mutants: the sound tree does not build:\n{output}")
    for command in commands:
        status, output = test(build, command)
        if status != 0:
            sys.exit(f"mutants: {' '.join(command)} fails on the sound tree:\n{output[-2000:]}")
    print(f"{len(commands)} tests pass on the sound tree", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path, help="where the copy and its build go")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these mutants only")
    parser.add_argument("--from", dest="first", metavar="NAME", help="go on at this one")
    parser.add_argument("--list", action="store_true", help="list them and stop")
    args = parser.parse_args()

    paths = sorted(HERE.glob("*.patch")) + sorted((HERE / "fences").glob("*.patch"))
    mutants = [Mutant(p) for p in paths]
    if args.only:
        unknown = set(args.only) - {m.name for m in mutants}
        if unknown:
            sys.exit(f"mutants: no such mutant: {', '.join(sorted(unknown))}")
        mutants = [m for m in mutants if m.name in args.only]
    if args.first:
        names = [m.name for m in mutants]
        mutants = mutants[names.index(args.first) :]
    if args.list:
        for m in mutants:
            caught = " ".join(m.command) if m.command else "none"
            print(f"{m.name:24} {m.step:18} {caught:32} {m.breaks}")
        return 0

    # meson and ninja of the environment this Python belongs to
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    base = args.base.resolve()
    tree, build = prepare(base)
    check_sound(mutants, build)
    passed = failed = 0
    for m in mutants:
        began = time.monotonic()
        well, what = try_mutant(m, tree, build)
        take_back(m, tree)
        passed, failed = passed + well, failed + (not well)
        seconds = time.monotonic() - began
        print(f"{'ok' if well else 'FAILED':6} {m.name:24} {seconds:5.1f} s  {what}", flush=True)
    fences = sum(m.fence for m in mutants)
    print(f"{len(mutants) - fences} mutants, and {fences} of fences that x86 does not need")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
