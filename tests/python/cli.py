"""The navmap command for the tests: where it is, and running it.

The program is the one that NAVMAP_CLI names, or `navmap` on the PATH or beside this interpreter.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def find_command():
    named = os.environ.get("NAVMAP_CLI")
    if named:
        return named
    return shutil.which("navmap") or shutil.which(Path(sys.executable).with_name("navmap"))


COMMAND = find_command()
needed = pytest.mark.skipif(
    COMMAND is None, reason="no navmap command: set NAVMAP_CLI to the built program"
)


def run(*arguments, code=0, text=None, timeout=120, cwd=None):
    done = subprocess.run(
        [COMMAND, *map(str, arguments)],
        input=text,
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def report(*arguments, **how):
    return json.loads(run(*arguments, "--json", **how).stdout)


def refused(*arguments, **how):
    """What a command says that does not do it: a sentence on standard error, and nothing else."""
    done = run(*arguments, code=2, **how)
    assert done.stdout == "" and done.stderr.startswith("navmap: "), done.stdout + done.stderr
    return done.stderr
