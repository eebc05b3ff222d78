"""clang-format has nothing to change.

Its versions disagree about the same settings, so that only the one .clang-format was written for
may judge; with another, or none, the check is skipped (status 77).
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

VERSION = 14
SKIPPED = 77


def clang_format():
    for name in (f"clang-format-{VERSION}", "clang-format"):
        if path := shutil.which(name):
            said = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
            major = re.search(r"version (\d+)", said)
            if major and int(major[1]) == VERSION:
                return path
    return None


def main():
    root = Path(sys.argv[1])
    program = clang_format()
    if program is None:
        print(f"skipped: no clang-format {VERSION} here")
        return SKIPPED
    rooms = ("engine", "storage", "tools", "bindings", "tests")
    ends = ("[ch]", "inc")
    files = sorted(str(p) for r in rooms for e in ends for p in (root / r).rglob(f"*.{e}"))
    run = subprocess.run(
        [program, "--dry-run", "--ferror-limit=1", *files], capture_output=True, text=True
    )
    wrong = re.findall(r"^(\S+?):\d+:\d+: (?:warning|error)", run.stderr, re.MULTILINE)
    for name in sorted(set(wrong)):
        print(f"{name}: `make format` would change it")
    print(f"{len(files)} files, {len(set(wrong))} to change")
    return 1 if wrong or run.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
