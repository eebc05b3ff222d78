"""Bad input and bad luck: each a clear exception of the right class, and nothing changed."""

import os
import pickle
import re

import numpy as np
import pytest

import navmap
from workers import vectors_of

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


def test_a_handle_is_not_made_by_hand():
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
            lambda: reader.resize_index(10),
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
        lambda: ix.resize_index(10),
        lambda: ix.get_max_elements(),
        lambda: ix.get_current_count(),
        lambda: ix.check(),
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


# The classes themselves -----------------------------------------------------------------------

CLASSES = [
    value
    for value in vars(navmap).values()
    if isinstance(value, type) and issubclass(value, BaseException)
]


def test_there_are_classes():
    assert len(CLASSES) == 21


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_class(kind):
    assert issubclass(kind, navmap.Error) and issubclass(kind, RuntimeError)
    assert kind.__doc__ and kind.__module__ == "navmap.errors"
    error = kind("Label not found: 5")
    assert str(error) == "Label not found: 5" and error.added == 0
    error.added = 3
    again = pickle.loads(pickle.dumps(error))  # as multiprocessing does
    assert type(again) is kind and str(again) == str(error) and again.added == 3
