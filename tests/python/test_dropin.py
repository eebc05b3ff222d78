"""`import navmap as hnswlib`: what hnswlib's own tests and examples rely on, at a reduced size, and
its rules for arguments.  What differs on purpose is in bindings/python/DIFFERENCES.md."""

import os
import pickle
import re
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

import navmap as hnswlib


def index_of(data, space="l2", *, room=None, ids=None, **options):
    ix = hnswlib.Index(space=space, dim=data.shape[1])
    ix.init_index(max_elements=room or len(data), **({"M": 16, "ef_construction": 100} | options))
    ix.add_items(data, ids)
    return ix


def recall(labels, expected):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(labels, expected, strict=True)])


# What hnswlib's tests do ----------------------------------------------------------------------


def test_save_load_and_go_on(rng, tmp_path):
    """Half, save, load without a size, the other half; no ids anywhere."""
    n, dim = 2000, 16
    data = rng.random((n, dim), dtype=np.float32)
    first, second = data[: n // 2], data[n // 2 :]
    ix = hnswlib.Index(space="l2", dim=dim)
    ix.init_index(max_elements=n, ef_construction=100, M=16)
    ix.set_ef(10)
    ix.set_num_threads(4)
    ix.add_items(first)
    labels, distances = ix.knn_query(first, k=1)
    assert np.mean(labels.reshape(-1) == np.arange(len(first))) >= 0.9995
    file = str(tmp_path / "first_half.bin")
    ix.save_index(file)
    del ix
    again = hnswlib.Index(space="l2", dim=dim)
    again.load_index(file)
    os.remove(file)
    assert again.max_elements == n
    again.add_items(second)
    labels, distances = again.knn_query(data, k=1)
    assert np.mean(labels.reshape(-1) == np.arange(n)) >= 0.9995
    assert sorted(again.get_ids_list()) == list(range(n))


def test_even_labels_only(rng):
    n, dim = 2000, 16
    data = rng.random((n, dim), dtype=np.float32)

    def even(label):
        return label % 2 == 0

    ix = index_of(data)
    labels, distances = ix.knn_query(data, k=1, num_threads=1, filter=even)
    assert np.mean(labels.reshape(-1) == np.arange(n)) == pytest.approx(0.5, abs=0.001)
    assert not (labels % 2).any()
    truth = hnswlib.BFIndex(space="l2", dim=dim)
    truth.init_index(max_elements=n)
    truth.add_items(data)
    labels, distances = truth.knn_query(data, k=1, num_threads=1, filter=even)
    assert np.mean(labels.reshape(-1) == np.arange(n)) == 0.5
    assert not (labels % 2).any()


def test_vectors_come_back(rng):
    n, dim = 500, 16
    data, labels = rng.random((n, dim), dtype=np.float32), np.arange(n)
    ix = hnswlib.Index(space="l2", dim=dim)
    ix.init_index(max_elements=n)
    with pytest.raises(RuntimeError):
        ix.get_items(ids=labels)
    ix.add_items(data, labels)
    with pytest.raises(ValueError):
        ix.get_items(labels[0])
    got = ix.get_items(labels)
    assert type(got) is np.ndarray and got.dtype == np.float32 and (got == data).all()
    listed = ix.get_items(labels, return_type="list")
    assert type(listed) is list and type(listed[0]) is list and listed == data.tolist()


@pytest.mark.parametrize("seed", [0, 1])
def test_labels_and_deletion(rng, tmp_path, seed):
    n, dim = 1000, 16
    data, numbers = rng.random((n, dim), dtype=np.float32), rng.permutation(n)
    ix = index_of(data[: n // 2], room=n)
    labels, distances = ix.knn_query(data[: n // 2], k=1)
    np.testing.assert_allclose(data[: n // 2], ix.get_items(labels))  # labels of shape (n, 1)
    file = tmp_path / "first_half.bin"
    ix.save_index(str(file))
    ix = hnswlib.Index(space="l2", dim=dim)
    ix.load_index(str(file))
    ix.add_items(data[n // 2 :])
    labels, distances = ix.knn_query(data, k=1)
    np.testing.assert_allclose(data, ix.get_items(labels), atol=1e-6)
    assert sorted(ix.get_ids_list()) == list(range(n))

    gone = labels.reshape(-1)[numbers[: n // 4]]  # numpy.uint64 each
    for label in gone:
        ix.mark_deleted(label)
    for _ in range(2):  # and again from a file
        found, distances = ix.knn_query(data, k=1)
        assert not set(found.reshape(-1)) & set(gone)
        ix.save_index(str(file))
        ix = hnswlib.Index(space="l2", dim=dim)
        ix.load_index(str(file))
    for label in gone:
        ix.unmark_deleted(label)
    found, distances = ix.knn_query(data, k=1)
    assert np.mean(found.reshape(-1) == np.arange(n)) > 0.999


def test_facts(rng):
    n, dim = 100, 16
    ix = index_of(rng.random((n, dim), dtype=np.float32), room=n)
    assert (ix.get_max_elements(), ix.max_elements) == (n, n)
    assert (ix.get_current_count(), ix.element_count) == (n, n)
    assert (ix.space, ix.dim, ix.M, ix.ef_construction) == ("l2", dim, 16, 100)


@pytest.mark.parametrize("space, dim", [("ip", 16), ("l2", 53), ("cosine", 32)])
def test_copies_by_pickle(rng, space, dim):
    n, k = 1000, 25
    data, queries = rng.random((n, dim), dtype=np.float32), rng.random((30, dim), dtype=np.float32)
    ix = hnswlib.Index(space=space, dim=dim)
    ix.num_threads = 4
    blank = pickle.loads(pickle.dumps(ix))
    ix.init_index(max_elements=n, ef_construction=100, M=16)
    ix.ef = 400
    made = pickle.loads(pickle.dumps(ix))
    ix.add_items(data)
    full = pickle.loads(pickle.dumps(ix))
    copied = hnswlib.Index(index=ix)
    again = hnswlib.Index(params=ix.__getstate__()[0])
    blank.init_index(max_elements=n, ef_construction=100, M=16)
    blank.ef = ix.ef
    for other in (blank, made):
        other.add_items(data)
    if space == "l2":
        truth = ((queries[:, None].astype(np.float64) - data[None]) ** 2).sum(axis=2)
    else:
        unit = [x / np.linalg.norm(x, axis=1, keepdims=True) if space == "cosine" else x
                for x in (queries.astype(np.float64), data.astype(np.float64))]  # fmt: skip
        truth = 1 - unit[0] @ unit[1].T
    best = np.argsort(truth, axis=1)[:, :k]
    for other in (ix, blank, made, full, copied, again):
        assert (other.ef, other.num_threads, other.M, other.ef_construction) == (400, 4, 16, 100)
        labels, distances = other.knn_query(queries, k=k)
        # No graph leads everywhere by inner products: what is short is nobody's neighbour.
        assert recall(labels, best) > (0.9 if space == "ip" else 0.99)
        theirs = np.take_along_axis(truth, labels.astype(np.int64), axis=1)
        np.testing.assert_allclose(theirs, distances, atol=1e-4)


def test_recall_against_brute_force(rng, tmp_path):
    n, dim, k = 4000, 32, 10
    data, queries = rng.random((n, dim), dtype=np.float32), rng.random((20, dim), dtype=np.float32)
    ix, truth = hnswlib.Index(space="l2", dim=dim), hnswlib.BFIndex(space="l2", dim=dim)
    ix.init_index(max_elements=n, ef_construction=200, M=16)
    truth.init_index(max_elements=n)
    ix.set_ef(200)
    ix.set_num_threads(4)
    truth.set_num_threads(4)
    ix.add_items(data)
    truth.add_items(data)
    labels, distances = ix.knn_query(queries, k)
    expected, distances = truth.knn_query(queries, k)
    assert recall(labels, expected) > 0.95
    file = str(tmp_path / "bf_index.bin")
    truth.save_index(file)
    again = hnswlib.BFIndex(space="l2", dim=dim)
    again.load_index(file)
    np.testing.assert_array_equal(again.knn_query(queries, k)[0], expected)


def test_recall_when_ef_is_no_more_than_k(rng):
    """With codes the last of k are told apart less well: it must not cost answers."""
    data, queries = rng.random((5000, 16), dtype=np.float32), rng.random((200, 16))
    found = {}
    for codes in ("i8", None):
        ix = index_of(data, codes=codes, ef_construction=200)
        expected = ix.exact_query(queries, 100)[0]
        found[codes] = recall(ix.knn_query(queries, 100, ef=100)[0], expected)
    assert found["i8"] > 0.98 and found["i8"] > found[None] - 0.001


def test_replacing_what_was_deleted(rng, tmp_path):
    """At full capacity, then again out of a file, then again out of a pickle."""
    dim, n = 16, 600
    data = rng.random((5 * n, dim), dtype=np.float32)
    ix = hnswlib.Index(space="l2", dim=dim)
    ix.init_index(max_elements=2 * n, ef_construction=200, M=16, random_seed=5,
                  allow_replace_deleted=True)  # fmt: skip
    ix.set_ef(100)
    ix.set_num_threads(50)
    ix.add_items(data[: 2 * n], np.arange(2 * n))

    def exchange(ix, old, new):
        for label in range(old * n, (old + 1) * n):
            ix.mark_deleted(label)
        ix.add_items(
            data[new * n : (new + 1) * n],
            np.arange(new * n, (new + 1) * n),
            replace_deleted=True,
        )

    def check(ix, *parts):
        ids = np.concatenate([np.arange(part * n, (part + 1) * n) for part in parts])
        assert sorted(ix.get_ids_list()) == sorted(ids) and ix.element_count == 2 * n
        np.testing.assert_array_equal(ix.get_items(ids), data[ids])
        labels, distances = ix.knn_query(data[ids], k=1)
        assert np.mean(labels.reshape(-1) == ids) > 0.98

    exchange(ix, 0, 2)
    check(ix, 1, 2)
    file = str(tmp_path / "replaced.bin")
    ix.save_index(file)
    loaded = hnswlib.Index(space="l2", dim=dim)
    loaded.load_index(file, max_elements=2 * n, allow_replace_deleted=True)
    loaded.set_ef(100)
    exchange(loaded, 1, 3)
    check(loaded, 2, 3)
    for label in range(2 * n, 3 * n):
        loaded.mark_deleted(label)
    unpickled = pickle.loads(pickle.dumps(loaded))
    unpickled.add_items(data[4 * n :], np.arange(4 * n, 5 * n), replace_deleted=True)
    check(unpickled, 3, 4)


@pytest.mark.parametrize("threads", [0, 1, 7])
def test_resize(rng, threads):
    n, dim = 600, 16
    data = rng.random((2 * n, dim), dtype=np.float32)
    ix = hnswlib.Index(space="l2", dim=dim)
    ix.init_index(max_elements=n, ef_construction=200, M=16, random_seed=threads)
    ix.set_ef(20)
    ix.set_num_threads(threads)
    ix.add_items(data[:n])
    np.testing.assert_array_equal(ix.get_items(list(range(n))), data[:n])
    ix.resize_index(2 * n)
    ix.add_items(data[n:])
    labels, distances = ix.knn_query(data, k=1)
    assert np.mean(labels.reshape(-1) == np.arange(2 * n)) > 0.999
    assert sorted(ix.get_ids_list()) == list(range(2 * n))


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
@pytest.mark.parametrize("dim", [5, 7, 16, 24, 33, 161])
def test_spaces(dim, dtype):
    """Five vectors, all of them asked for: k may be as large as the index."""
    one = np.zeros((5, dim), dtype)
    one[0, :2], one[1, :2], one[2, :3], one[3:, 2] = (1, 0), (0, 1), (1, 1, 1), 1
    a = one.astype(np.float64)
    for space, truth in (
        ("l2", ((a[:, None] - a) ** 2).sum(axis=2)),
        ("ip", 1 - a @ a.T),
        ("cosine", 1 - (a @ a.T) / np.linalg.norm(a, axis=1) / np.linalg.norm(a, axis=1)[:, None]),
    ):
        ix = index_of(one, space)
        labels, distances = ix.knn_query(one, k=5)
        assert [sorted(row) for row in labels.tolist()] == [[0, 1, 2, 3, 4]] * 5
        np.testing.assert_allclose(distances, np.sort(truth, axis=1), atol=1e-5)


def test_many_threads_add_delete_and_replace(rng):
    dim, n, workers = 16, 1000, 8
    first, last = rng.random((n, dim)), rng.random((n // 2, dim))
    ix = hnswlib.Index(space="l2", dim=dim)
    ix.init_index(max_elements=n, M=16, ef_construction=60, allow_replace_deleted=True)

    def in_threads(work, count):
        step = count // workers
        threads = [threading.Thread(target=work, args=(range(i * step, (i + 1) * step),))
                   for i in range(workers)]  # fmt: skip
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    in_threads(lambda part: ix.add_items(first[part], part), n // workers * workers)
    gone = range(0, n // 2 // workers * workers)
    in_threads(lambda part: [ix.mark_deleted(label) for label in part], len(gone))
    labels, distances = ix.knn_query(first, k=5, num_threads=4)
    assert not set(labels.reshape(-1).tolist()) & set(gone)

    def replace(part):
        ix.add_items(last[part], np.asarray(part) + n, replace_deleted=True)

    in_threads(replace, len(gone))
    assert ix.element_count == n // workers * workers and ix.deleted_count == 0
    labels, distances = ix.knn_query(last[: len(gone)], k=1)
    assert np.mean(labels.reshape(-1) == np.arange(n, n + len(gone))) > 0.98


# Arguments ------------------------------------------------------------------------------------


class Falsy:
    def __bool__(self):
        return False


@pytest.fixture
def ten(rng):
    return index_of(rng.random((10, 4), dtype=np.float32), room=20)


ONE = np.zeros((1, 4), np.float32)


@pytest.mark.parametrize("value", [False, True, None, 0, 2, 1.5, np.True_, Falsy()], ids=repr)
def test_truth_values(ten, value):
    ix = hnswlib.Index("l2", 4)
    ix.init_index(10, allow_replace_deleted=value)
    assert ix.stats()["allow_replace_deleted"] is bool(value)
    ix.add_items(ONE, [0], replace_deleted=value)


@pytest.mark.parametrize("value", ["yes", "", b"", [], [1], {}, np.zeros(2)], ids=repr)
def test_no_truth_values(ten, tmp_path, value):
    file = tmp_path / "file"
    ten.save_index(file)
    ix = hnswlib.Index("l2", 4)
    for call in (
        lambda: ix.init_index(10, allow_replace_deleted=value),
        lambda: ten.add_items(ONE, [0], replace_deleted=value),
        lambda: ix.load_index(file, 0, value),
        lambda: ix.load_index(file, copy=value),
        lambda: ix.load_index(file, verify=value),
        lambda: ten.knn_query(ONE, allow_fewer=value),
        lambda: ten.get_ids_list(value),
    ):
        with pytest.raises(TypeError, match="must be true or false"):
            call()


@pytest.mark.parametrize("value", [-1, 2**64, 1.0, "1", None, [1], [1, 2], np.array([1, 2]),
                                   np.array([1.0])], ids=repr)  # fmt: skip
def test_no_sizes(ten, value):
    ix = hnswlib.Index("l2", 4)
    for call in (
        lambda: ix.init_index(value),
        lambda: ix.init_index(10, M=value),
        lambda: ix.init_index(10, ef_construction=value),
        lambda: ix.init_index(10, random_seed=value),
        lambda: ten.knn_query(ONE, k=value),
        lambda: ten.mark_deleted(value),
        lambda: ten.unmark_deleted(value),
        lambda: ten.resize_index(value),
        lambda: ten.set_ef(value),
        lambda: setattr(ten, "ef", value),
        lambda: ix.load_index("nowhere", value),
    ):
        with pytest.raises(TypeError, match="must be an integer"):
            call()
    assert ten.get_ids_list(include_deleted=False) and ten.deleted_count == 0


@pytest.mark.parametrize(
    "value", [True, np.int64(1), np.uint64(1), np.uint8(1), np.array(1), np.array([1])], ids=repr
)
def test_sizes(ten, value):
    ten.mark_deleted(value)
    ten.unmark_deleted(label=value)
    assert ten.knn_query(ONE, k=value)[0].shape == (1, 1)
    ten.num_threads = value
    assert ten.num_threads == 1


def test_strings_as_bytes(ten, tmp_path):
    assert hnswlib.Index(b"cosine", 4).space == "cosine"
    assert ten.get_items([1], b"list") == ten.get_items([1], "list")
    ten.save_index(os.fsencode(tmp_path / "file"))
    assert os.listdir(tmp_path) == ["file"]
    for value in (None, 5, ["list"]):
        with pytest.raises(TypeError, match="return_type must be a string"):
            ten.get_items([1], value)
        with pytest.raises(TypeError):
            ten.save_index(value)
        with pytest.raises(TypeError):
            hnswlib.Index(value, 4)
    with pytest.raises(ValueError, match='^return_type should be "numpy" or "list"$'):
        ten.get_items(3, "tuple")  # it is looked at first


def test_constructors(ten):
    blank = hnswlib.Index("ip", 5)
    for made in (
        hnswlib.Index(blank),
        hnswlib.Index(index=blank),
        hnswlib.Index(blank.__getstate__()[0]),
        hnswlib.Index(params=blank.__getstate__()[0]),
        hnswlib.Index(dim=5, space="ip"),
    ):
        assert (repr(made), made.element_count) == ("<navmap.Index(space='ip', dim=5)>", 0)
        made.init_index(3)
    brute = hnswlib.BFIndex("l2", 4)
    for positional, named in [
        ((), {}), (("l2",), {}), ((None, 4), {}), (("l2", None), {}), (("l2", 4, 5), {}),
        ((4, "l2"), {}), ((brute,), {}), ((), {"params": None}), ((), {"params": ten}),
        ((), {"index": {}}), ((), {"index": brute}), (("l2", 4), {"index": ten}),
        (("l2", 4), {"params": {}}), ((ten,), {"dim": 4}), ((ten,), {"index": ten}),
        ((), {"index": ten, "params": {}}), (("l2", 4), {"space": "l2"}), (("l2", 4.0), {}),
        (("l2", 2**31), {}), ((), {"spaces": "l2", "dim": 4}),
    ]:  # fmt: skip
        with pytest.raises(TypeError):
            hnswlib.Index(*positional, **named)


def test_attributes(ten):
    for name in ("space", "dim", "M", "ef_construction", "max_elements", "element_count"):
        with pytest.raises(AttributeError):
            setattr(ten, name, 3)
    for ix in (ten, hnswlib.BFIndex("l2", 4)):
        with pytest.raises(AttributeError):
            ix.whatever = 3
        assert not hasattr(ix, "__dict__") and weakref.ref(ix)() is ix
        assert ix == ix and ix != hnswlib.Index("l2", 4) and hash(ix) == hash(ix)


def test_nothing_asked_and_nothing_given(ten):
    empty = hnswlib.Index("l2", 4)
    empty.init_index(5)
    for ix in (ten, empty):
        assert [part.shape for part in ix.knn_query(np.zeros((3, 4)), k=0)] == [(3, 0)] * 2
        assert [part.shape for part in ix.knn_query(np.zeros((0, 4)), k=3)] == [(0, 3)] * 2
        with pytest.raises(IndexError) as caught:  # as hnswlib, and as everything else here:
            ix.knn_query([])
        assert isinstance(caught.value, RuntimeError)
        ix.add_items(np.zeros((0, 4)))
        ix.add_items(np.zeros((0, 4)), [])
    for k in (2**62, 2**64 - 1):
        with pytest.raises(MemoryError):
            ten.knn_query(ONE, k)
    assert (empty.element_count, ten.element_count) == (0, 10)


# hnswlib's examples ---------------------------------------------------------------------------


def test_an_index_that_initiates_itself(rng):
    """Subclasses have attributes of their own and override what they like."""

    class Lazy(hnswlib.Index):
        def __init__(self, space, dim, room=1024):
            super().__init__(space, dim)
            self.room = room

        def init_index(self, max_elements=0, M=16, ef_construction=200):
            super().init_index(max_elements or self.room, M, ef_construction)

        def add_items(self, data, ids=None, num_threads=-1):
            if self.max_elements == 0:
                self.init_index()
            super().add_items(data, ids, num_threads)

        def knn_query(self, data, k=1, num_threads=-1):
            if self.max_elements == 0:
                return [], []
            return super().knn_query(data, k, num_threads)

        def get_ids_list(self):
            return super().get_ids_list() if self.max_elements else []

    ix = Lazy("cosine", 8)
    assert ix.knn_query(np.zeros(8)) == ([], []) and ix.get_ids_list() == []
    data = rng.random((50, 8))
    ix.add_items(data)
    assert ix.max_elements == 1024 and ix.knn_query(data)[0][:, 0].tolist() == list(range(50))


def test_a_search_with_a_filter_of_an_object(rng):
    class Allowed:
        def __init__(self, labels):
            self.labels = set(labels)

        def __call__(self, label):
            return label in self.labels

    data = rng.random((300, 16), dtype=np.float32)
    ix = index_of(data, ids=np.arange(1000, 1300))
    labels, distances = ix.knn_query(data, 3, filter=Allowed(range(1000, 1010)))
    assert set(labels.reshape(-1).tolist()) == set(range(1000, 1010))


def test_larger_while_it_fills(rng):
    data = rng.random((400, 16), dtype=np.float32)
    ix = index_of(data[:200])
    with pytest.raises(RuntimeError, match="^The number of elements exceeds the specified limit"):
        ix.add_items(data[200:])
    ix.resize_index(400)
    ix.add_items(data[200:])
    assert ix.knn_query(data, ef=50)[0][:, 0].tolist() == list(range(400))


def test_the_readmes_examples(tmp_path, monkeypatch):
    """With a tenth of the vectors."""
    monkeypatch.chdir(tmp_path)
    readme = Path(__file__).parents[2].joinpath("README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(blocks) == 2 and "BFIndex" in blocks[1]
    names: dict[str, object] = {}
    for block in blocks:
        exec(block.replace("10_000", "1_000"), names)
    assert len(names["again"]) == 2000 and os.path.isfile("words.bin")
    names["ix"].close()
