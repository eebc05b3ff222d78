"""Where an index lies, by which names, and what happens when somebody touches its files."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import navmap
from workers import vectors_of

DIM = 8
COUNT = 40
HERE = os.path.dirname(os.path.abspath(__file__))
DATA = "data-00000001.navmap"


def look(index, count=COUNT):
    sample = list(range(0, count, 3))
    labels, distances = index.knn_query(vectors_of(sample, DIM), 1, ef=100)
    assert labels[:, 0].tolist() == sample and not distances.any()
    np.testing.assert_array_equal(index.get_items(sample), vectors_of(sample, DIM))
    assert len(index) == count and 5 in index and count not in index


def add(index, first, stop):
    index.add_items(vectors_of(range(first, stop), DIM), range(first, stop))


@pytest.fixture
def writer(make):
    index = make(dim=DIM)
    add(index, 0, COUNT)
    yield index
    try:
        index.close()
    except navmap.PoisonedError:
        pass  # some tests take its files away


@pytest.fixture
def reader(writer, path):
    with navmap.open(path) as index:
        yield index


# Names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["link", "folder link", "relative", "dots", "slashes"])
def test_the_same_index_by_another_name(writer, reader, path, tmp_path, monkeypatch, kind):
    if kind == "link":
        name = str(tmp_path / "link")
        os.symlink(path, name)
    elif kind == "folder link":
        os.symlink(tmp_path, str(tmp_path / "folder"))
        name = str(tmp_path / "folder" / os.path.basename(path))
    elif kind == "relative":
        (tmp_path / "deeper").mkdir()
        monkeypatch.chdir(tmp_path / "deeper")
        name = os.path.join("..", os.path.basename(path))
    else:
        name = {"dots": path + "/../" + os.path.basename(path), "slashes": path + "//"}[kind]
    with pytest.raises(navmap.LockedError, match="by this process"):
        navmap.open(name, "r+")
    with navmap.open(name) as another:
        monkeypatch.chdir("/")
        add(writer, COUNT, COUNT + 5)
        look(another, COUNT + 5)
        look(reader, COUNT + 5)
    writer.close()
    with navmap.open(name if kind != "relative" else path, "r+") as another:
        add(another, COUNT + 5, COUNT + 9)
        look(reader, COUNT + 9)
        with pytest.raises(navmap.LockedError, match="by this process"):
            navmap.open(path, "r+")


def test_renamed(writer, path, tmp_path):
    looked_up, not_yet = navmap.open(path), navmap.open(path)
    look(looked_up)
    there = str(tmp_path / "elsewhere")
    os.rename(path, there)
    add(writer, COUNT, 4000)  # grows
    look(looked_up, 4000)
    look(not_yet, 4000)
    with pytest.raises(navmap.NoIndexError):
        navmap.open(path)
    with pytest.raises(navmap.LockedError, match="by this process"):
        navmap.open(there, "r+")
    with pytest.raises(navmap.NoIndexError):
        looked_up.save_index(tmp_path / "saved")
    writer.save_index(tmp_path / "saved")
    writer.close()
    looked_up.close()
    not_yet.close()
    assert navmap.verify(there).sound
    with navmap.open(there) as again:
        look(again, 4000)


OUTGROWN = """
import os, resource, sys
sys.path.insert(0, sys.argv[2])
import navmap
from workers import Worker, vectors_of

path, dim = sys.argv[1], 1024
writer = Worker()
writer("create", path=path, dim=dim, M=2, ef_construction=2)
writer("add", start=0, stop=9)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (12 << 20), resource.RLIM_INFINITY))
reader = navmap.open(path)  # with a reservation of some MiB instead of one GiB
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
os.rename(path, path + ".elsewhere")
other = navmap.create(path, "l2", dim)  # nor is it this one
writer("add", start=9, stop=4000)
assert reader.stats()["data_file_bytes"] > 16 << 20
assert reader.exact_query(vectors_of([3999], dim))[0] == 3999
assert (reader.get_items([3999]) == vectors_of([3999], dim)).all()
writer.end()
print("followed")
"""


def test_outgrowing_the_reservation_after_a_rename(path, short):
    if short:
        pytest.skip("a sanitizer takes more address space than the test can limit")
    done = subprocess.run(
        [sys.executable, "-c", OUTGROWN, path, HERE], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "followed\n", done.stderr


# Files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["LOCK", DATA, "wal.mdb"])
def test_a_file_is_removed_under_a_writer(writer, reader, path, name):
    """What cannot be kept is not acknowledged."""
    os.unlink(os.path.join(path, name))
    with pytest.raises(navmap.PoisonedError):
        add(writer, COUNT, COUNT + 1)
    with pytest.raises(navmap.PoisonedError, match="was removed"):
        writer.mark_deleted(3)
    look(writer)
    look(reader)
    if name == "wal.mdb":  # which nobody asks beside a writer
        with navmap.open(path) as another:
            look(another)
    else:
        with pytest.raises(navmap.NoIndexError):
            navmap.open(path)
    with pytest.raises(navmap.PoisonedError, match="was removed"):
        writer.close()
    look(reader)
    if name != "LOCK":
        with pytest.raises(navmap.CorruptIndexError, match="is missing"):
            navmap.open(path)
        return
    open(os.path.join(path, name), "w").close()
    with navmap.open(path, "r+") as again:
        look(again)
    assert navmap.verify(path).sound


def test_a_new_lock_file(writer, reader, path):
    """Two writers of one index, after somebody made LOCK anew: the first one stops."""
    os.unlink(os.path.join(path, "LOCK"))
    open(os.path.join(path, "LOCK"), "w").close()
    with navmap.open(path, "r+") as second:
        with pytest.raises(navmap.PoisonedError):
            add(writer, COUNT, COUNT + 1)
        add(second, COUNT, COUNT + 3)
        look(reader, COUNT + 3)
    with pytest.raises(navmap.PoisonedError):
        writer.close()
    assert navmap.verify(path).sound


def test_the_lock_is_removed_under_a_reader(writer, reader, path):
    writer.close()
    os.unlink(os.path.join(path, "LOCK"))
    look(reader)
    for mode in ("r", "r+"):
        with pytest.raises(navmap.NoIndexError, match="LOCK"):
            navmap.open(path, mode)


@pytest.mark.parametrize("looked_up", [False, True])
def test_removed_and_made_again(writer, reader, path, tmp_path, looked_up):
    if looked_up:
        look(reader)
    shutil.rmtree(path)
    with pytest.raises(navmap.PoisonedError):
        add(writer, COUNT, COUNT + 1)
    look(reader)
    with pytest.raises(navmap.NoIndexError):
        reader.save_index(tmp_path / "saved")
    with navmap.create(path, "l2", DIM) as other:
        other.add_items(vectors_of(range(COUNT + 20), DIM, 1), range(COUNT + 20))
        look(reader)
        look(writer)
        with pytest.raises(navmap.LockedError):
            reader.save_index(tmp_path / "saved")
    look(reader)
    with pytest.raises(navmap.StaleError):
        reader.save_index(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    with navmap.open(path) as new:
        assert len(new) == COUNT + 20


# Mounts and namespaces ------------------------------------------------------------------------


def run_apart(options, script, *arguments):
    """A Python program in namespaces of its own."""
    user = [] if os.geteuid() == 0 else ["-U", "-r"]
    command = ["unshare", *user, *options]
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare here")
    tried = subprocess.run([*command, "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"namespaces are not allowed here: {tried.stderr.strip()}")
    done = subprocess.run(
        [*command, sys.executable, "-c", PRELUDE + script, HERE, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stderr
    return done.stdout


PRELUDE = """
import os, subprocess, sys
sys.path.insert(0, sys.argv[1])
import navmap
import pytest
from test_places import COUNT, DATA, DIM, add, look
from workers import Worker, vectors_of
"""

MOUNT = """
def mount(*arguments):
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        print("mount is not allowed here:", done.stderr)
        sys.exit(77)

"""

MOUNTS = """
folder, name = os.path.split(sys.argv[2])
read_only, bound = folder + "/read-only", folder + "/bound"
for at in (read_only, bound):
    os.mkdir(at)
    mount("--bind", folder, at)
mount("-o", "remount,bind,ro", read_only)
path, same, there = sys.argv[2], f"{bound}/{name}", f"{read_only}/{name}"

with navmap.open(path, "r+") as writer:
    with pytest.raises(navmap.LockedError, match="by this process"):
        navmap.open(same, "r+")
    with pytest.raises(navmap.ReadOnlyError, match="Read-only file system"):
        navmap.open(there, "r+")
    reader = navmap.open(there)  # beside a writer, who is not on read-only media
    look(reader)
    add(writer, COUNT, COUNT + 5)
    look(reader, COUNT + 5)
look(reader, COUNT + 5)
look(navmap.open(there), COUNT + 5)

killed = Worker()
killed("open", path=same, mode="r+")
killed("add", start=COUNT + 5, stop=COUNT + 9)
killed.kill()
with pytest.raises(navmap.NeedsRecoveryError):
    navmap.open(there)
look(reader, COUNT + 9)
assert navmap.verify(there).sound
look(navmap.open(path), COUNT + 9)  # heals it
look(navmap.open(there), COUNT + 9)
"""


def test_bind_mounts_and_read_only_ones(writer, path):
    writer.close()
    run_apart(["-m"], MOUNT + MOUNTS, path)


PIDS = """
assert os.getpid() == 1
reader = navmap.open(sys.argv[2])
look(reader)
with pytest.raises(navmap.LockedError, match=f"by pid {sys.argv[3]}"):
    navmap.open(sys.argv[2], "r+")
"""


def test_another_pid_namespace(writer, reader, path):
    look(reader)
    run_apart(["-p", "-f"], PIDS, path, str(os.getpid()))
    add(writer, COUNT, COUNT + 5)
    look(reader, COUNT + 5)


SAME_PID = """
path = sys.argv[2]
held = navmap.open(path)
look(held)
assert os.getpid() == 1
done = subprocess.run(
    ["unshare", "-p", "-f", sys.executable, "-c", sys.argv[3] + sys.argv[4], sys.argv[1], path],
    capture_output=True, text=True,
)
assert done.returncode == 0, done.stderr
held.close()
with navmap.open(path, "r+") as writer:
    add(writer, COUNT, COUNT + 5)
"""

ITS_TWIN = """
assert os.getpid() == 1
look(navmap.open(sys.argv[2]))  # it has no place in the label table, and scans
with pytest.raises(navmap.LockedError, match="same pid in another pid namespace"):
    navmap.open(sys.argv[2], "r+")
"""


def test_the_same_pid_in_two_namespaces(writer, path):
    writer.close()
    run_apart(["-p", "-f"], SAME_PID, path, PRELUDE, ITS_TWIN)
    with navmap.open(path) as reader:
        look(reader, COUNT + 5)


OVERLAY = """
import shutil

base = os.path.dirname(sys.argv[2]) + "/layers"
os.mkdir(base)
mount("-t", "tmpfs", "none", base)  # an overlay on an overlay is refused
lower, upper, work, merged = (f"{base}/{n}" for n in ("lower", "upper", "work", "merged"))
for at in (lower, upper, work, merged):
    os.mkdir(at)
shutil.copytree(sys.argv[2], f"{lower}/index")
mount("-t", "overlay", "none", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", merged)
there = f"{merged}/index"

early = navmap.open(there)  # of the image: its data is not copied up for that
look(early)
assert DATA not in os.listdir(f"{upper}/index")
with navmap.open(there, "r+") as writer:
    add(writer, COUNT, COUNT + 5)
    look(writer, COUNT + 5)
    late = navmap.open(there)
    look(late, COUNT + 5)
    add(writer, COUNT + 5, COUNT + 9)
    look(late, COUNT + 9)
    with pytest.raises(navmap.LockedError):
        navmap.open(there, "r+")
look(early)  # with the image's files for ever
look(navmap.open(f"{lower}/index"))

killed = Worker()
killed("open", path=there, mode="r+")
killed("add", start=COUNT + 9, stop=COUNT + 12)
killed.kill()
look(navmap.open(there), COUNT + 12)
assert navmap.verify(there).sound

with navmap.create(f"{merged}/new", "l2", DIM) as new:  # in the upper layer from the start
    add(new, 0, COUNT)
    new.save_index(f"{merged}/saved")
look(navmap.open(f"{merged}/new"))
saved = navmap.Index("l2", DIM)
saved.load_index(f"{merged}/saved")
look(saved)
"""


def test_overlayfs(writer, path):
    """As in a container: an index that is part of the image, and one that is not."""
    writer.close()
    run_apart(["-m"], MOUNT + OVERLAY, path)
