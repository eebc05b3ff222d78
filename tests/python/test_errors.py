"""Bad input and bad luck: each a clear exception of the right class, and nothing changed."""

import os
import pickle
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


def content(index):
    """All that a user can see of an index."""
    live = sorted(index.get_ids_list(include_deleted=False))
    stats = index.stats()
    return (
        sorted(index.get_ids_list()),
        live,
        index.get_items(live).tolist(),
        index.ef,
        {name: stats[name] for name in ("n_live", "n_deleted", "n_dead", "inserted", "pending")},
        stats["last_lsn"],
    )


@pytest.fixture
def unchanged(ix, path):
    """with unchanged: ... -- raises inside, and leaves the index as it was, also for a reader."""

    class Unchanged:
        def __enter__(self):
            self.before = content(ix)

        def __exit__(self, *_):
            assert content(ix) == self.before
            with navmap.open(path) as reader:
                assert content(reader)[:3] == self.before[:3]

    return Unchanged()


# Data and ids ---------------------------------------------------------------------------------

ROW = [0.5] * DIM

WRONG_SHAPE = [
    (5.0, "Input vector data wrong shape. Number of dimensions 0."),
    (None, "Input vector data wrong shape. Number of dimensions 0."),
    ([[ROW]], "Input vector data wrong shape. Number of dimensions 3."),
    ([], "Wrong dimensionality of the vectors"),
    ([0.5] * (DIM - 1), "Wrong dimensionality of the vectors"),
    ([[0.5] * (DIM + 1)], "Wrong dimensionality of the vectors"),
    (np.zeros((0, DIM - 1)), "Wrong dimensionality of the vectors"),
]


@pytest.mark.parametrize("data, words", WRONG_SHAPE)
@pytest.mark.parametrize("method", ["add_items", "knn_query", "exact_query"])
def test_wrong_shape(ix, unchanged, method, data, words):
    with unchanged, pytest.raises(navmap.InvalidInputError) as caught:
        getattr(ix, method)(data)
    assert str(caught.value).startswith(words)
    assert isinstance(caught.value, RuntimeError)  # as hnswlib raises
    if "dimensionality" in words:
        found = np.shape(data)[-1]
        assert str(caught.value).endswith(f"expected {DIM}, found {found}")


@pytest.mark.parametrize("method", ["add_items", "knn_query", "exact_query"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("place", [(0, 0), (2, 3), (299, 1)])
def test_not_finite(ix, unchanged, method, bad, place):
    data = vectors_of(range(300), DIM).astype(np.float64)
    data[place] = bad
    with unchanged, pytest.raises(navmap.InvalidInputError) as caught:
        getattr(ix, method)(data)
    numbers = re.findall(r"\d+", str(caught.value))
    assert [str(place[0]), str(place[1])] == numbers[:2], "row and column"
    assert caught.value.added == 0


@pytest.mark.parametrize("method", ["add_items", "knn_query", "exact_query"])
@pytest.mark.parametrize(
    "data, error",
    [("abc", ValueError), ([[1, 2], [3]], ValueError), ({1}, TypeError), (object(), TypeError)],
)
def test_not_numbers(ix, unchanged, method, data, error):
    with unchanged, pytest.raises(error):
        getattr(ix, method)(data)


@pytest.mark.parametrize(
    "rows, ids, shape",
    [
        (3, [1, 2], "2"),
        (3, [], "0"),
        (0, [1], "1"),
        (2, 7, r"\(\)"),
        (2, [[1], [2]], r"\(2, 1\)"),
        (1, [[1]], r"\(1, 1\)"),
        (1, [1, 2], "2"),
    ],
)
def test_ids_of_the_wrong_shape(ix, unchanged, rows, ids, shape):
    words = rf"The input label shape {shape} does not match the input data vector shape {rows}"
    with unchanged, pytest.raises(navmap.InvalidInputError, match=f"^{words}"):
        ix.add_items(np.zeros((rows, DIM)), ids)


@pytest.mark.parametrize(
    "ids, error",
    [
        ([1.5], navmap.InvalidInputError),
        (np.array([1.5]), navmap.InvalidInputError),
        ([float("nan")], navmap.InvalidInputError),
        (np.array([np.nan]), navmap.InvalidInputError),
        (np.array([np.inf]), navmap.InvalidInputError),
        (np.array([2.0**64]), navmap.InvalidInputError),
        ([2**64], OverflowError),
        ([-(2**63) - 1], OverflowError),
        (["a"], ValueError),
        ({5}, TypeError),
        ({5: 6}, TypeError),
        ([None], TypeError),
        ([5j], TypeError),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), TypeError),
    ],
    ids=str,
)
def test_ids_that_are_no_labels(ix, unchanged, ids, error):
    with unchanged, pytest.raises(error):
        ix.add_items([ROW], ids)


def test_no_number_is_left_for_implicit_ids(ix):
    ix.add_items([ROW], [2**64 - 1])
    before = content(ix)
    with pytest.raises(navmap.InvalidInputError):
        ix.add_items([ROW])
    assert content(ix) == before


# Other arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [1.0, "1", None, -1, 2**64, [1, 2], np.array([0, 1]), b"1"])
@pytest.mark.parametrize("method", ["mark_deleted", "unmark_deleted"])
def test_a_label_is_one_number(ix, unchanged, method, label):
    with unchanged, pytest.raises(TypeError, match="^label must be an integer"):
        getattr(ix, method)(label)


@pytest.mark.parametrize("k", [1.0, "1", None, -1, 2**64, [1]])
def test_k_is_a_number(ix, k):
    for search in (ix.knn_query, ix.exact_query):
        with pytest.raises(TypeError, match="^k must be an integer"):
            search([ROW], k)


@pytest.mark.parametrize("ef", [1.0, "1", -1, 2**64])
def test_ef_is_a_number(ix, unchanged, ef):
    with unchanged:
        with pytest.raises(TypeError, match="^ef must be an integer"):
            ix.knn_query([ROW], ef=ef)
        with pytest.raises(TypeError, match="^ef must be an integer"):
            ix.set_ef(ef)
        with pytest.raises(TypeError, match="^ef must be an integer"):
            ix.ef = ef


def test_progress_must_be_callable(ix, unchanged):
    with unchanged, pytest.raises(TypeError, match="^progress must be callable, not int"):
        ix.add_items([ROW], progress=5)


@pytest.mark.parametrize(
    "keywords, words",
    [
        ({"dim": 0}, "dim must be from 1 to 65536, not 0"),
        ({"dim": -1}, "dim must be from 1 to 65536, not -1"),
        ({"dim": 65537}, "dim must be from 1 to 65536, not 65537"),
        ({"dim": 2**80}, "dim must be from 1 to 65536"),
        ({"M": 0}, "M must be from 2 to 512, not 0"),
        ({"M": 1}, "M must be from 2 to 512, not 1"),
        ({"M": 513}, "M must be from 2 to 512, not 513"),
        ({"M": -4}, "M must be from 2 to 512, not -4"),
        ({"ef_construction": -1}, "ef_construction must be from 0"),
        ({"ef_construction": 2**32}, "ef_construction must be from 0"),
        ({"max_elements": 0}, "max_elements must be from 1"),
        ({"max_elements": -5}, "max_elements must be from 1"),
        ({"space": "L2"}, "Space name must be one of l2, ip, or cosine."),
        ({"space": "euclidean"}, "Space name must be one of l2, ip, or cosine."),
        ({"durability": "periodic"}, 'durability must be "full" or "manual"'),
        ({"path": ""}, "path is empty"),
    ],
)
def test_create_out_of_range(tmp_path, keywords, words):
    arguments = {"path": tmp_path / "new", "space": "l2", "dim": 4} | keywords
    with pytest.raises(navmap.InvalidInputError) as caught:
        navmap.create(**arguments)
    assert str(caught.value).startswith(words)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "keywords",
    [
        {"dim": 4.0}, {"dim": "4"}, {"dim": None}, {"M": 16.0}, {"space": None}, {"space": 2},
        {"random_seed": -1}, {"random_seed": 1.5}, {"path": 7}, {"path": None},
        {"max_elements": 1e6},
    ],
)  # fmt: skip
def test_create_of_the_wrong_type(tmp_path, keywords):
    arguments = {"path": tmp_path / "new", "space": "l2", "dim": 4} | keywords
    with pytest.raises(TypeError):
        navmap.create(**arguments)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "keywords, error",
    [
        ({"mode": "w"}, navmap.InvalidInputError),
        ({"mode": None}, navmap.InvalidInputError),
        ({"timeout": float("nan")}, navmap.InvalidInputError),
        ({"timeout": "soon"}, ValueError),
        ({"durability": 1}, navmap.InvalidInputError),
        ({"checkpoint_bytes": 0}, navmap.InvalidInputError),
        ({"checkpoint_bytes": 2**70}, navmap.InvalidInputError),
        ({"checkpoint_bytes": 1.5}, TypeError),
        ({"path": "a\0b"}, ValueError),
    ],
)
def test_open_with_wrong_arguments(ix, path, keywords, error):
    with pytest.raises(error):
        navmap.open(**({"path": path} | keywords))


def test_an_index_is_not_made_by_hand():
    with pytest.raises(TypeError, match="navmap.create"):
        navmap.Index("l2", 4)
    with pytest.raises(TypeError):
        navmap._core.Handle()


# Labels ---------------------------------------------------------------------------------------


def test_unknown_and_deleted_labels(ix, unchanged):
    with unchanged:
        for call in (ix.mark_deleted, ix.unmark_deleted, lambda label: ix.get_items([0, label])):
            with pytest.raises(navmap.LabelNotFoundError) as caught:
                call(77)
            assert str(caught.value).startswith("Label not found") and "77" in str(caught.value)
            assert isinstance(caught.value, RuntimeError) and isinstance(caught.value, KeyError)
        with pytest.raises(navmap.LabelNotFoundError, match="^Label not found.*4"):
            ix.get_items([4])  # deleted
        deleted = "^The requested to delete element is already deleted"
        with pytest.raises(navmap.Error, match=deleted):
            ix.mark_deleted(4)
        live = "^The requested to undelete element is not deleted"
        with pytest.raises(navmap.Error, match=live):
            ix.unmark_deleted(0)


def test_get_items_wants_a_list(ix):
    words = "get_items accepts a list of indices and returns a list of vectors"
    for scalar in (0, np.uint64(0), np.array(0)):
        with pytest.raises(ValueError, match=words):
            ix.get_items(scalar)
    with pytest.raises(ValueError, match='return_type should be "numpy" or "list"'):
        ix.get_items([0], return_type="array")


def test_k_above_the_live_items(ix, unchanged):
    words = "Cannot return the results in a contiguous 2D array. Probably ef or M is too small"
    for search in (ix.knn_query, ix.exact_query):
        with unchanged, pytest.raises(navmap.FewerResultsError) as caught:
            search([ROW, ROW], 5)
        error = caught.value
        assert str(error).startswith(words)
        assert (error.asked, error.found, error.row, error.live, error.deleted) == (5, 4, 0, 4, 1)
        for number in ("asked for 5", "found 4", "4 live", "1 deleted"):
            assert number in str(error)
        assert search([ROW], 4)[0].shape == (1, 4)


def test_an_empty_index_has_no_neighbours(make):
    ix = make(dim=DIM)
    with pytest.raises(navmap.FewerResultsError):
        ix.knn_query(ROW)
    labels, distances = ix.knn_query(ROW, 2, allow_fewer=True)
    assert labels.tolist() == [[2**64 - 1] * 2] and distances.tolist() == [[np.inf] * 2]


@pytest.mark.parametrize("k", [2**40, 2**62, 2**64 - 1])
def test_k_beyond_memory(ix, unchanged, k):
    with unchanged, pytest.raises(MemoryError) as caught:
        ix.knn_query([ROW], k)
    assert isinstance(caught.value, navmap.Error)


def test_max_elements(make, path):
    ix = make(dim=DIM, max_elements=6)
    ix.add_items(vectors_of(range(5), DIM))
    ix.mark_deleted(0)  # deleted labels count
    before = content(ix)
    words = "^The number of elements exceeds the specified limit"
    with pytest.raises(navmap.CapacityError, match=words) as caught:
        ix.add_items(vectors_of(range(3, 7), DIM), range(3, 7))
    assert caught.value.added == 0 and content(ix) == before
    ix.add_items(vectors_of(range(3, 6), DIM, 1), range(3, 6))  # two updates and a new one
    assert ix.element_count == 6
    ix.add_items(vectors_of(range(6), DIM, 2), range(6))  # a full index takes updates
    assert len(ix) == 6
    np.testing.assert_array_equal(ix.get_items(range(6)), vectors_of(range(6), DIM, 2))
    with pytest.raises(navmap.CapacityError, match=words):
        ix.add_items(ROW)
    assert len(ix) == 6


# Handles --------------------------------------------------------------------------------------


def test_a_reader_does_not_write(ix, path):
    before = content(ix)
    with navmap.open(path) as reader:
        for call in (
            lambda: reader.add_items(ROW),
            lambda: reader.add_items(np.empty((0, DIM))),
            lambda: reader.mark_deleted(0),
            lambda: reader.unmark_deleted(4),
            reader.flush,
        ):
            with pytest.raises(navmap.ReadOnlyError):
                call()
        assert content(reader)[:3] == before[:3]
    assert content(ix) == before


def test_after_close_nothing_works_but_facts(ix, path):
    ix.close()
    ix.close()
    for call in (
        lambda: ix.add_items(ROW),
        lambda: ix.add_items(np.empty((0, DIM))),
        lambda: ix.knn_query(ROW),
        lambda: ix.knn_query(ROW, 0),
        lambda: ix.exact_query(ROW),
        lambda: ix.mark_deleted(0),
        lambda: ix.unmark_deleted(4),
        lambda: ix.get_items([0]),
        lambda: ix.get_items(),
        lambda: ix.get_ids_list(),
        lambda: len(ix),
        lambda: 0 in ix,
        lambda: ix.stats(),
        lambda: ix.element_count,
        lambda: ix.deleted_count,
        lambda: ix.max_elements,
        ix.flush,
    ):
        with pytest.raises(navmap.NotInitializedError, match="^index is closed$"):
            call()
    assert (ix.closed, ix.path, ix.space, ix.dim, ix.mode, ix.ef) == (
        True, path, "l2", DIM, "r+", 10,
    )  # fmt: skip
    with navmap.open(path) as reader:
        assert len(reader) == 4


def test_a_second_writer_in_this_process(ix, unchanged, path):
    with unchanged, pytest.raises(navmap.LockedError, match="this process"):
        navmap.open(path, "r+")
    with unchanged, pytest.raises(navmap.LockedError, match="this process"):
        navmap.open(path, "r+", timeout=0.3)
    ix.close()
    navmap.open(path, "r+").close()


def test_create_over_something(ix, unchanged, path, tmp_path):
    with unchanged, pytest.raises(navmap.ExistsError, match=re.escape(path)) as caught:
        navmap.create(path, "l2", DIM)
    assert isinstance(caught.value, FileExistsError)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    for name in ("file", "folder"):
        with pytest.raises(navmap.ExistsError):
            navmap.create(tmp_path / name, "l2", DIM)
    assert (tmp_path / "file").read_text() == "mine"
    assert os.listdir(tmp_path / "folder") == []


def test_create_without_a_parent(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere") as caught:
        navmap.create(tmp_path / "nowhere" / "index", "l2", DIM)
    assert isinstance(caught.value, navmap.Error)
    assert os.listdir(tmp_path) == []


# Files ----------------------------------------------------------------------------------------


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
count, step = 200, int(sys.argv[3])
index.add_items(vectors_of(range(count), dim), range(count))
sizes = [os.path.getsize(os.path.join(path, name)) for name in os.listdir(path)]
resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes) + (128 << 10), resource.RLIM_INFINITY))

error = None
while error is None:
    labels = range(count, count + step)
    try:
        index.add_items(vectors_of(labels, dim), labels)
        count += step
    except navmap.NoSpaceError as caught:
        error = caught
    assert count < 100_000, "the disk never got full"
assert isinstance(error, OSError) and error.errno == 28, error
assert 0 <= error.added <= step, error.added

def check(index, least, most):
    ids = sorted(index.get_ids_list())
    assert ids == list(range(len(ids))) and least <= len(ids) <= most, (least, len(ids), most)
    assert (index.get_items(ids) == vectors_of(ids, dim)).all()
    sample = ids[::7]
    found = index.knn_query(vectors_of(sample, dim), 1, ef=100)[0][:, 0]
    assert (found == sample).mean() > 0.95, (found == sample).mean()

# All that was acknowledged is there, for everybody, and of the failed call whole rows at most.
check(index, count, count + error.added)
with navmap.open(path) as reader:
    check(reader, count, count + error.added)

# Room again: the rows that were kept are committed, and the rest of the call completes it.
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
index.flush()
check(index, count + error.added, count + error.added)
rest = range(count + error.added, count + step)
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


@pytest.mark.parametrize("step", [1, 50, 3000])
def test_full_disk(path, step):
    here = os.path.dirname(os.path.abspath(__file__))
    command = [sys.executable, "-c", FULL_DISK, path, here, str(step)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("survived at ")


# The classes themselves -----------------------------------------------------------------------

CLASSES = [
    value
    for value in vars(navmap).values()
    if isinstance(value, type) and issubclass(value, BaseException)
]


def test_there_are_classes():
    assert len(CLASSES) == 19


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_class(kind):
    assert issubclass(kind, navmap.Error) and issubclass(kind, RuntimeError)
    assert kind.__doc__ and kind.__module__ == "navmap.errors"
    error = kind("Label not found: 5")
    assert str(error) == "Label not found: 5" and error.added == 0
    error.added = 3
    again = pickle.loads(pickle.dumps(error))  # as multiprocessing does
    assert type(again) is kind and str(again) == str(error) and again.added == 3
