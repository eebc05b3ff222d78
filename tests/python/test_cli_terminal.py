"""What a person sees of long work, and calling it off: bars, Ctrl-C, killed imports."""

import json
import os
import pty
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import navmap
from cli import COMMAND, needed, report, run

pytestmark = needed

DIM = 32


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save_vectors(n):
    np.save("v.npy", np.random.default_rng(2).standard_normal((n, DIM), dtype=np.float32))


def seconds_of(n):
    """How long one thread takes for n vectors here, about."""
    run("import", "--space=l2", "--threads=1", "--ef-construction=400", "--count=500", "v.npy", "t")
    return report("import", "--threads=1", "--count=500", "v.npy", "t")["seconds"] * n / 500


class Terminal:
    """A command whose standard error is a terminal."""

    def __init__(self, *arguments):
        self.shown = b""
        try:
            master, slave = pty.openpty()
        except OSError as error:  # a container without /dev/pts
            pytest.skip(f"no terminal to be had: {error}")
        self.process = subprocess.Popen(
            [COMMAND, *arguments], stdout=subprocess.PIPE, stderr=slave, text=True
        )
        os.close(slave)
        self.reader = threading.Thread(target=self.read, args=(master,))
        self.reader.start()

    def read(self, master):
        try:
            while more := os.read(master, 4096):
                self.shown += more
        except OSError:  # the other end is closed
            pass
        os.close(master)

    def end(self):
        out = self.process.communicate(timeout=120)[0]
        self.reader.join()
        return self.process.returncode, out, self.shown.decode()


LONG = ("import", "--space=l2", "--threads=1", "--ef-construction=400", "v.npy", "i")


def test_bar(here):
    """On a terminal, of work over a second: share, rate, time left; wiped at the end."""
    save_vectors(6000)
    if seconds_of(6000) < 2:
        save_vectors(40_000)
    code, out, shown = Terminal(*LONG).end()
    assert code == 0 and "vectors of 32 dimensions added" in out
    frames = shown.split("\r")
    bars = [f for f in frames if re.search(r"adding \[#*\.*\] +\d+ %  [\d,]+ of [\d,]+  [\d,]+/s  left: ", f)]
    assert len(bars) > 3, shown[-500:]
    shares = [int(re.search(r"(\d+) %", bar)[1]) for bar in bars]
    assert shares == sorted(shares) and shares[-1] <= 100
    assert all(len(bar) < 80 + 4 for bar in bars)  # and the code that wipes the rest
    assert frames[-1] == "\x1b[K"


def test_no_bar(here):
    """Not for short work, and not into a file."""
    save_vectors(200)
    code, out, shown = Terminal("import", "--space=l2", "v.npy", "i").end()
    assert (code, shown) == (0, "")
    save_vectors(6000)
    assert run(*LONG[:-1], "j").stderr == ""


def call_off(*arguments, after, sig=signal.SIGINT):
    """The command's status and words when the signal comes once `after()` is true."""
    process = subprocess.Popen(
        [COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not after():
        time.sleep(0.01)
    process.send_signal(sig)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def items(path):
    found = subprocess.run([COMMAND, "info", "--json", path], capture_output=True, text=True)
    return json.loads(found.stdout)["counts"]["live"] if found.returncode == 0 else -1


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_called_off(here, sig):
    """A new index is not made."""
    save_vectors(60_000)
    code, out, err = call_off(*LONG, after=lambda: os.path.isdir("i.partial"), sig=sig)
    assert (code, out) == (2, "") and "called off; nothing was made at i" in err
    assert os.listdir() == ["v.npy"]


def test_called_off_and_gone_on(here):
    """In an index that was there the rows so far stay; the command says how to go on."""
    save_vectors(30_000)
    run("import", "--space=l2", "--ef-construction=400", "--count=10", "v.npy", "i")
    begun = time.monotonic()
    code, out, err = call_off(
        "import", "--first=10", "v.npy", "i", after=lambda: time.monotonic() > begun + 1
    )
    assert (code, out) == (2, "")
    options = re.search(r"(--first=(\d+) --count-from=(\d+)) goes on", err)
    first = int(options[2])
    assert 10 < first == int(options[3]) < 30_000
    assert report("verify", "i")["verdict"] == "sound"
    assert first <= items("i") < 30_000
    run("import", *options[1].split(), "--count=300", "v.npy", "i")
    vectors = np.load("v.npy")
    with navmap.open("i") as index:
        assert sorted(index.get_ids_list()) == list(range(len(index)))
        labels = list(range(first + 300))
        np.testing.assert_array_equal(index.get_items(labels), vectors[: first + 300])


def test_killed(here, rng, short):
    """kill -9 at any moment: what was there, or all of it; the next one finds nothing in its way."""
    save_vectors(3000)
    took = seconds_of(3000)
    command = [COMMAND, *LONG]
    for _ in range(3 if short else 10):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, 1.2 * took))
        process.kill()
        process.wait()
        if os.path.exists("i"):
            assert items("i") == 3000
            for file in Path("i").iterdir():
                file.unlink()
            os.rmdir("i")
    run(*LONG)
    assert items("i") == 3000 and sorted(os.listdir()) == ["i", "t", "v.npy"]
    assert report("verify", "i")["verdict"] == "sound"


def test_other_commands_called_off(here):
    """query and export: no file is left half written."""
    save_vectors(3000)
    run("import", "--space=l2", "v.npy", "i")
    np.save("q.npy", np.zeros((2_000_000, DIM), np.float32))
    code, out, err = call_off(
        "query", "--exact", "-o", "r.npy", "i", "q.npy",
        after=lambda: any(name.startswith("r.npy.tmp") for name in os.listdir()),
    )  # fmt: skip
    assert code == 2 and "called off" in err
    assert sorted(os.listdir()) == ["i", "q.npy", "v.npy"]
