"""Handles over fork(): multiprocessing in its three ways, servers that load before they fork, and
what a child may not keep."""

import os
import signal
import subprocess
import sys
import time

import pytest

import navmap
from forked import COUNT, DIM, add, add_and_look, add_to, in_child, look, look_at, serve, start
from workers import vectors_of

METHODS = ("fork", "spawn", "forkserver")
HERE = os.path.dirname(os.path.abspath(__file__))

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


@pytest.fixture
def filled(make):
    index = make(dim=DIM)
    add(index, 0, COUNT)
    return index


@pytest.mark.parametrize("method", METHODS)
def test_a_reader(filled, path, method):
    with navmap.open(path) as reader:
        look(reader)
        if method == "fork":
            assert in_child(method, look, reader) == ("ok", None)
        else:
            with pytest.raises(TypeError, match=r"navmap\.open"):
                start(method, look, reader)
        add(filled, COUNT, COUNT + 5)
        assert in_child(method, look_at, path, COUNT + 5) == ("ok", None)
        look(reader, COUNT + 5)


@pytest.mark.parametrize("method", METHODS)
def test_a_writer(filled, path, method):
    if method == "fork":
        for work, arguments in ((look, ()), (add, (COUNT, COUNT + 1)), (len, ())):
            kind, text = in_child(method, work, filled, *arguments)
            assert kind == "ForkedError" and path in text
    kind, text = in_child(method, add_to, path, COUNT, COUNT + 1)
    # A child of fork() knows that the pid is its parent's, no more than the others do.
    assert kind == "LockedError" and f"pid {os.getpid()}" in text
    add(filled, COUNT, COUNT + 5)
    filled.close()
    assert in_child(method, add_to, path, COUNT + 5, COUNT + 9) == ("ok", None)
    look_at(path, COUNT + 9)


def test_a_label_that_is_updated_is_never_missed(make, path, short):
    """Over a fork, look-ups scan the slots: beside an apply, which moves the label, once more."""
    labels, until = range(50), time.monotonic() + (1 if short else 2)
    index = make(dim=DIM, M=4, ef_construction=20)
    index.add_items(vectors_of(labels, DIM), labels)
    reader = navmap.open(path)
    child = os.fork()
    if child == 0:
        sound = True
        try:
            while sound and time.monotonic() < until:
                sound = all(label in reader for label in labels)
        finally:
            os._exit(0 if sound and time.monotonic() >= until else 1)
    updates = 0
    while time.monotonic() < until:
        index.add_items(vectors_of(labels, DIM, version=updates), labels)
        updates += 1
    assert os.waitpid(child, 0)[1] == 0 and updates > 3, updates
    reader.close()


@pytest.mark.parametrize("method", METHODS)
def test_a_private_index(private, method):
    index = private(dim=DIM, max_elements=2 * COUNT)
    add(index, 0, COUNT)
    assert in_child(method, add_and_look, index) == ("ok", None)
    look(index)


@pytest.mark.parametrize("method", METHODS)
def test_a_mapped_file(private, tmp_path, method):
    index = private(dim=DIM, max_elements=2 * COUNT)
    add(index, 0, COUNT)
    file = tmp_path / "saved"
    index.save_index(file)
    before = file.read_bytes()
    index = navmap.Index("l2", DIM)
    index.load_index(file, max_elements=2 * COUNT)
    assert index.stats()["mapped"]
    assert in_child(method, add_and_look, index) == ("ok", None)
    assert file.read_bytes() == before
    file.unlink()  # and nobody minds
    look(index)
    index.close()


def test_a_preloading_server(worker, path, rng, short):
    """gunicorn's preload_app: one handle, opened before the workers are forked, while another
    process writes."""
    writer = worker()
    writer("create", path=path, dim=DIM, M=8, ef_construction=40)
    writer("add", start=0, stop=COUNT)
    total = COUNT + (400 if short else 1200)
    with navmap.open(path) as reader:
        look(reader)
        seeds = rng.integers(1 << 30, size=4).tolist()
        servers = [start("fork", serve, reader, total, seed) for seed in seeds]
        writer.send("add", start=COUNT, stop=total, step=50)
        answers = [wait() for wait in servers]
        writer.answer()
        assert all(kind == "ok" and queries > 0 for kind, queries in answers), answers
        look(reader, total)


PARENT = """
import os, sys, time
sys.path.insert(0, sys.argv[3])
import navmap
from workers import vectors_of

path, way = sys.argv[1:3]
index = navmap.create(path, "l2", 8)
index.add_items(vectors_of(range(9), 8))
reader = navmap.open(path)
assert 5 in reader
index.save_index(path + ".saved")
mapped = navmap.Index("l2", 8)
mapped.load_index(path + ".saved")
child = "import os, sys\\n" + \'\'\'
names = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
         if os.path.islink(f"/proc/self/fd/{fd}")]
print([os.path.basename(name) for name in names if "test.navmap" in name], flush=True)
sys.stdin.read()
os._exit(0)
\'\'\'
if os.fork() == 0:
    if way == "exec":
        os.execv(sys.executable, [sys.executable, "-c", child])
    exec(child)
time.sleep(600)
"""


@pytest.mark.parametrize("way", ["fork", "exec"])
def test_the_lock_ends_with_its_owner(path, way):
    """A child that outlives the writer keeps nobody out; after exec nothing is open at all."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, path, way, HERE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        still_open = parent.stdout.readline()  # the child's
        assert "LOCK" not in still_open and still_open.startswith("[")
        if way == "exec":
            assert still_open == "[]\n"
        with pytest.raises(navmap.LockedError, match=f"pid {parent.pid}"):
            navmap.open(path, "r+")
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        with navmap.open(path, "r+") as index:
            assert len(index) == 9
            index.add_items(vectors_of([9], DIM), [9])
        assert navmap.verify(path).sound
    finally:
        parent.kill()
        parent.stdin.close()  # lets the child go
        assert parent.stdout.read() == "", "the child outlived the test's look at the lock"
        parent.stdout.close()
        parent.wait()
