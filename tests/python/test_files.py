"""Files that are missing, foreign, newer, damaged, forbidden, or on a full disk: each refused with
the right exception, and left as it was."""

import os
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import pytest

import navmap
from workers import Failure, vectors_of

DIM = 4


@pytest.fixture
def ix(make):
    """Five items, 0 to 4, of which 4 is deleted."""
    index = make(dim=DIM)
    index.add_items(vectors_of(range(5), DIM))
    index.mark_deleted(4)
    return index


def test_a_path_that_is_no_index(tmp_path):
    (tmp_path / "file").write_bytes(b"something" * 1000)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.txt").write_text("something else")
    (tmp_path / "dangling").symlink_to("nothing")
    before = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*"))
    for name in ("missing", "missing/deeper", "file", "empty", "folder", "other", "dangling"):
        for call in (navmap.open, lambda p: navmap.open(p, "r+"), navmap.verify):
            with pytest.raises(navmap.NoIndexError, match=name) as caught:
                call(tmp_path / name)
            assert isinstance(caught.value, FileNotFoundError)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == before


def data_file(path):
    names = [name for name in os.listdir(path) if name.startswith("data-")]
    assert len(names) == 1
    return os.path.join(path, names[0])


def patch(name, offset, replacement):
    with open(name, "r+b") as file:
        file.seek(offset)
        file.write(replacement)


def copies(path, tmp_path):
    """Endless fresh copies of the closed index at `path`."""
    number = 0
    while True:
        number += 1
        copy = str(tmp_path / f"copy{number}")
        shutil.copytree(path, copy)
        yield copy


def refused(copy, *errors):
    """Neither mode opens it, and the attempt changes no byte of the data file."""
    before = [open(data_file(copy), "rb").read()] if os.path.exists(copy) else []
    for mode in ("r", "r+"):
        with pytest.raises(errors) as caught:
            navmap.open(copy, mode)
        assert os.path.basename(copy) in str(caught.value)
    assert [open(data_file(copy), "rb").read()] == before


def test_a_newer_version(ix, path, tmp_path):
    ix.close()
    copy = next(copies(path, tmp_path))
    patch(data_file(copy), 12, b"\x63\x00")  # FORMAT.md: u16 major
    refused(copy, navmap.VersionError)
    # Its header's own checksum no longer holds either, so from outside it is a damaged file.
    assert navmap.verify(copy).damaged > 0


def test_a_foreign_data_file(ix, path, tmp_path):
    ix.close()
    fresh = copies(path, tmp_path)
    copy = next(fresh)
    patch(data_file(copy), 0, b"NOTMAGIC")
    refused(copy, navmap.NoIndexError, navmap.CorruptIndexError)
    copy = next(fresh)
    size = os.path.getsize(data_file(copy))
    with open(data_file(copy), "wb") as file:
        file.write(os.urandom(size))
    refused(copy, navmap.NoIndexError, navmap.CorruptIndexError, navmap.VersionError)


def test_a_foreign_log(ix, path, tmp_path):
    ix.close()
    copy = next(copies(path, tmp_path))
    with open(os.path.join(copy, "wal.mdb"), "r+b") as file:
        file.write(b"\xa5" * os.path.getsize(file.name))
    refused(copy, navmap.NoIndexError, navmap.CorruptIndexError, navmap.VersionError)


def test_the_log_of_another_index(ix, make, path, tmp_path):
    ix.close()
    other = str(tmp_path / "other")
    make(at=other, dim=DIM).close()
    copy = next(copies(path, tmp_path))
    shutil.copy(os.path.join(other, "wal.mdb"), os.path.join(copy, "wal.mdb"))
    refused(copy, navmap.CorruptIndexError)


def test_truncated(ix, path, tmp_path):
    ix.close()
    size = os.path.getsize(data_file(path))
    fresh = copies(path, tmp_path)
    for length in (0, 1, 100, 4095, 4096, 8192, 65535, 65536, size // 2, size - 1):
        copy = next(fresh)
        os.truncate(data_file(copy), length)
        refused(copy, navmap.CorruptIndexError, navmap.NoIndexError)
    copy = next(fresh)
    os.truncate(os.path.join(copy, "wal.mdb"), 0)
    with pytest.raises(navmap.Error):
        navmap.open(copy)


def test_a_missing_data_file(ix, path, tmp_path):
    ix.close()
    copy = next(copies(path, tmp_path))
    os.unlink(data_file(copy))
    for mode in ("r", "r+"):
        with pytest.raises((navmap.CorruptIndexError, navmap.NoIndexError)):
            navmap.open(copy, mode)


def test_flipped_bits_in_the_header(ix, path, tmp_path, rng):
    ix.close()
    copy = next(copies(path, tmp_path))
    whole = open(data_file(copy), "rb").read(4096)
    for offset in rng.integers(0, 192, 40).tolist():
        changed = bytearray(whole)
        changed[offset] ^= 1 << int(rng.integers(8))
        patch(data_file(copy), 0, changed)
        refused(copy, navmap.CorruptIndexError, navmap.NoIndexError, navmap.VersionError)
    patch(data_file(copy), 0, whole)
    with navmap.open(copy) as reader:
        assert len(reader) == 4


def test_a_flipped_bit_in_a_vector(ix, path):
    """No wrong vector is handed out, and verify says which slot it is."""
    ix.close()
    wanted = np.ascontiguousarray(vectors_of([2], DIM)).tobytes()
    blob = bytearray(open(data_file(path), "rb").read())
    places = [m.start() for m in re.finditer(re.escape(wanted), bytes(blob))]
    assert len(places) == 1
    patch(data_file(path), places[0] + 5, bytes([blob[places[0] + 5] ^ 4]))
    with navmap.open(path) as reader:
        np.testing.assert_array_equal(reader.get_items([1, 3]), vectors_of([1, 3], DIM))
        with pytest.raises(navmap.CorruptIndexError):
            reader.get_items([2])
    report = navmap.verify(path)
    assert not report.sound and report.damaged >= 1
    assert any(f.slot is not None and f.message and not f.warning for f in report.findings)


@pytest.fixture
def open_folder():
    """A directory that every user may enter; pytest's own are private."""
    folder = tempfile.mkdtemp()
    os.chmod(folder, 0o755)
    yield folder
    for root, _, _ in os.walk(folder):
        os.chmod(root, 0o755)
    shutil.rmtree(folder)


def test_without_permission_to_write(make, worker, open_folder):
    path = os.path.join(open_folder, "index")
    ix = make(at=path, dim=DIM)
    ix.add_items(vectors_of(range(5), DIM))
    ix.close()
    for name in os.listdir(path):
        os.chmod(os.path.join(path, name), 0o444)
    os.chmod(path, 0o555)
    user = worker()
    user("become_nobody")
    with pytest.raises(Failure) as caught:
        user("open", path=path, mode="r+")
    assert caught.value.kind == "ReadOnlyError" and path in caught.value.message
    user("open", path=path)
    assert user("count") == 5 and user("contains", label=3)
    assert user("nearest", label=3)[0] == [3]
    with pytest.raises(Failure) as caught:
        user("create", path=os.path.join(path, "new"))
    assert caught.value.kind in ("ReadOnlyError", "StorageError")


def test_without_permission_to_read(make, worker, open_folder):
    path = os.path.join(open_folder, "index")
    make(at=path, dim=DIM).close()
    os.chmod(path, 0o700)
    if os.geteuid() != 0:
        os.chmod(path, 0)
    user = worker()
    user("become_nobody")
    for mode in ("r", "r+"):
        with pytest.raises(Failure) as caught:
            user("open", path=path, mode=mode)
        assert caught.value.kind in ("ReadOnlyError", "StorageError", "NoIndexError")
        assert "Permission denied" in caught.value.message


FULL_DISK = """
import os, resource, sys
import numpy as np
sys.path.insert(0, sys.argv[2])
import navmap
from workers import vectors_of

path, dim = sys.argv[1], 16
index = navmap.create(path, "l2", dim, M=8, ef_construction=40)
count, step, threads = 200, int(sys.argv[3]), int(sys.argv[4])
index.add_items(vectors_of(range(count), dim), range(count))
sizes = [os.path.getsize(os.path.join(path, name)) for name in os.listdir(path)]
resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes) + (128 << 10), resource.RLIM_INFINITY))

error = None
while error is None:
    labels = range(count, count + step)
    try:
        index.add_items(vectors_of(labels, dim), labels, num_threads=threads)
        count += step
    except navmap.NoSpaceError as caught:
        error = caught
    assert count < 100_000, "the disk never got full"
assert isinstance(error, OSError) and error.errno == 28, error
assert 0 <= error.added <= step, error.added

def check(index, least, most):
    ids = sorted(index.get_ids_list())
    assert ids[:least] == list(range(least)) and least <= len(ids) <= most, (least, ids[-9:], most)
    assert threads > 1 or ids == list(range(len(ids)))
    assert (index.get_items(ids) == vectors_of(ids, dim)).all()
    sample = ids[::7]
    found = index.knn_query(vectors_of(sample, dim), 1, ef=100)[0][:, 0]
    assert (found == sample).mean() > 0.95, (found == sample).mean()

# All that was acknowledged is there, for everybody, and of the failed call whole rows at most: the
# first ones, and with several threads some that others finished before the failure was known.
kept = count + error.added
most = kept if threads == 1 else count + step
check(index, count, most)
with navmap.open(path) as reader:
    check(reader, count, most)

# Room again: the rows that were kept are committed, and the rest of the call completes it.
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
index.flush()
check(index, kept, most)
rest = range(kept, count + step)
index.add_items(vectors_of(rest, dim), rest)
count += step
check(index, count, count)
index.close()
report = navmap.verify(path)
assert report.sound, report.findings
with navmap.open(path, "r+") as index:
    check(index, count, count)
print("survived at", count - step)
"""


@pytest.mark.parametrize("step, threads", [(1, 1), (50, 1), (3000, 1), (50, 2), (3000, 4)])
def test_full_disk(path, step, threads):
    here = os.path.dirname(os.path.abspath(__file__))
    command = [sys.executable, "-c", FULL_DISK, path, here, str(step), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("survived at ")
