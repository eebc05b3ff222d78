"""`make demo`: the whole of it runs, says what it should, and leaves nothing behind."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import navmap

DEMO = Path(__file__).parents[2] / "tools" / "demo.py"


def run(tmp_path, *arguments):
    return subprocess.run(
        [sys.executable, str(DEMO), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )


def test_demo(tmp_path, short):
    if short:
        pytest.skip("NAVMAP_SHORT: the demo adds 20,000 words")
    done = run(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = re.findall(r"^  reader +(\w+) \(of ([\d,]+)\)", done.stdout, re.MULTILINE)
    counts = [int(count.replace(",", "")) for _, count in found]
    assert len(found) == 8 and counts == sorted(counts)
    assert counts[0] < 20_000, "the reader found words while the writer was adding"
    assert "opened 20,000 items in" in done.stdout
    assert float(re.search(r"recall@10 +([\d.]+)", done.stdout).group(1)) > 0.9
    assert re.search(r"on disk +[\d,]+ bytes", done.stdout)
    assert os.listdir(tmp_path) == []


def test_demo_keeps_the_index_on_request(tmp_path, short):
    if short:
        pytest.skip("NAVMAP_SHORT: the demo adds 20,000 words")
    kept = tmp_path / "kept"
    done = run(tmp_path, "--keep", str(kept))
    assert done.returncode == 0 and str(kept) in done.stdout
    with navmap.open(kept) as index:
        assert len(index) == 20_000
    again = run(tmp_path, "--keep", str(kept))
    assert again.returncode == 1 and "exists already" in again.stderr
