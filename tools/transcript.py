"""Runs the commands of tools/COMMANDS.md as a reader would, in a directory of their own.

    python tools/transcript.py           say where what they print has another shape than the page
    python tools/transcript.py --write   put what they print now into the page

In a block that begins with ```console, a line that begins with "$ " is a command for bash, and what
follows, up to the next one, is what it printed.  The shape of a line is the line without its
numbers: these differ from run to run and from machine to machine.  `navmap` is the one on the PATH,
or that NAVMAP_CLI names.
"""

import difflib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = Path(__file__).with_name("COMMANDS.md")
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


def commands(block):
    """[(command, what it printed)] of one block."""
    found = []
    for line in block.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append([line[2:].rstrip("\n"), ""])
        else:
            found[-1][1] += line
    return [tuple(pair) for pair in found]


def shape(text):
    """Lines without numbers, units and widths."""
    text = re.sub(r"\b[0-9a-f]{16}\b", "#", text)
    text = re.sub(r"distances by +\w+", "distances by", text)  # what the processor has
    text = re.sub(r"\d[\d,]*(\.\d+)?(e-?\d+)?", "#", text)
    text = re.sub(r"# ([KMG]iB|B)\b", "# B", text)
    return [" ".join(line.split()) for line in text.splitlines()]


class Shell:
    def __init__(self, home):
        self.home = home
        (home / "tools").symlink_to(ROOT / "tools")
        named = os.environ.get("NAVMAP_CLI")
        first = [str(Path(named).resolve().parent)] if named else []
        path = [*first, str(Path(sys.executable).parent), os.environ["PATH"]]
        self.env = os.environ | {"PATH": os.pathsep.join(path), "LC_ALL": "C.UTF-8"}
        # A thread sanitizer that is preloaded for Python ends shells.
        self.env.pop("LD_PRELOAD", None)

    def __call__(self, command):
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.home,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        return done.stdout


def rerun(page):
    """The page with what its commands print now."""
    with tempfile.TemporaryDirectory(prefix="navmap-transcript-") as home:
        shell = Shell(Path(home))

        def block(match):
            text = "".join(f"$ {command}\n{shell(command)}" for command, _ in commands(match[1]))
            return f"```console\n{text}```"

        return BLOCK.sub(block, page)


def differences(page, again):
    """Where the shapes differ, as a diff; empty when they do not."""
    return list(difflib.unified_diff(shape(page), shape(again), "the page", "now", lineterm="", n=2))


def main():
    page = PAGE.read_text()
    again = rerun(page)
    if "--write" in sys.argv[1:]:
        PAGE.write_text(again)
        return 0
    found = differences(page, again)
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
