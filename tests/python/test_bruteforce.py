"""`BFIndex`: exact answers without a graph, with hnswlib's methods and without its faults."""

import copy
import os
import pickle
import threading

import numpy as np
import pytest

import navmap
from workers import vectors_of

DIM = 8
FEWER = "^Cannot return the results in a contiguous 2D array. There are not enough elements\\."


@pytest.fixture
def flat():
    """flat(space="l2", dim=8, max_elements=1000): a BFIndex that is initiated."""

    def new(space="l2", dim=DIM, max_elements=1000):
        bf = navmap.BFIndex(space, dim)
        bf.init_index(max_elements)
        return bf

    return new


def truth_of(space, queries, data):
    """Distances in float64."""
    queries, data = queries.astype(np.float64), data.astype(np.float64)
    if space == "l2":
        return ((queries[:, None] - data[None]) ** 2).sum(axis=2)
    if space == "cosine":
        queries, data = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, data))
    return 1 - queries @ data.T


def test_before_init_index():
    bf = navmap.BFIndex(space="ip", dim=7)
    assert repr(bf) == "<navmap.BFIndex(space='ip', dim=7)>"
    assert bf.num_threads >= 1
    for call in (
        lambda: bf.add_items(np.zeros((1, 7))),
        lambda: bf.knn_query(np.zeros(7)),
        lambda: bf.knn_query(np.zeros(7), 0),
        lambda: bf.delete_vector(0),
        lambda: bf.get_max_elements(),
        lambda: bf.get_current_count(),
        lambda: bf.save_index("nowhere"),
    ):
        with pytest.raises(navmap.NotInitializedError, match="^The index is not initiated."):
            call()
    assert not os.path.exists("nowhere")
    bf.init_index(max_elements=3)
    assert (bf.get_max_elements(), bf.get_current_count()) == (3, 0)
    with pytest.raises(navmap.Error, match=r"^The index is already initiated\.$"):
        bf.init_index(5)
    with pytest.raises(TypeError):
        bf.init_index(-1)


@pytest.mark.parametrize("arguments", [("l2",), ("l2", 4.0), (None, 4), ("l2", 4, 5), ()], ids=repr)
def test_wrong_types(arguments, flat):
    with pytest.raises(TypeError):
        navmap.BFIndex(*arguments)
    bf = flat("l2", 4)
    for call in (
        lambda: bf.add_items(np.zeros((1, 4)), [0], 1),  # has no num_threads
        lambda: bf.knn_query(np.zeros(4), 1, "1"),
        lambda: bf.delete_vector([1]),
        lambda: bf.delete_vector(-1),
        lambda: navmap.BFIndex("l2", 4).init_index(-1),
        lambda: navmap.BFIndex("l2", 4).init_index(10, 16),
    ):
        with pytest.raises(TypeError):
            call()


def test_wrong_values(flat):
    for space, dim in (("l1", 4), ("l2", 0), ("l2", 65537)):
        with pytest.raises(navmap.InvalidInputError):
            navmap.BFIndex(space, dim)
    bf = flat("l2", 4)
    for data, ids, words in [
        ([[1, 2, 3]], None, "Wrong dimensionality of the vectors"),
        ([[1, 2, 3, np.nan]], None, ""),
        (np.zeros((2, 4)), [1], "The input label shape 1 does not match"),
        (None, None, "Input vector data wrong shape. Number of dimensions 0."),
    ]:
        with pytest.raises(navmap.InvalidInputError, match=f"^{words}"):
            bf.add_items(data, ids)
    bf.add_items(np.zeros((1, 4)))
    with pytest.raises(navmap.InvalidInputError, match="^Wrong dimensionality"):
        bf.knn_query([1, 2, 3])
    with pytest.raises(IndexError):
        bf.knn_query([])
    assert bf.get_current_count() == 1


@pytest.mark.parametrize("space", ["l2", "ip", "cosine"])
@pytest.mark.parametrize("dim", [1, 7, 33])
@pytest.mark.parametrize("threads", [1, 3])
def test_exact(flat, rng, space, dim, threads):
    """Cosine too: hnswlib does not normalise the queries of a BFIndex."""
    data, queries = 3 * rng.standard_normal((700, dim)), 5 * rng.standard_normal((20, dim))
    bf = flat(space, dim)
    bf.set_num_threads(threads)
    assert bf.num_threads == threads
    bf.add_items(data)
    labels, distances = bf.knn_query(queries, 20)
    assert (labels.dtype, distances.dtype) == (np.uint64, np.float32)
    assert labels.shape == distances.shape == (20, 20)
    truth = truth_of(space, queries.astype(np.float32), data.astype(np.float32))
    scale = np.abs(truth).max()
    np.testing.assert_allclose(distances, np.sort(truth)[:, :20], atol=1e-6 * scale)
    theirs = np.take_along_axis(truth, labels.astype(np.int64), axis=1)
    np.testing.assert_allclose(theirs, distances, atol=1e-6 * scale)


def test_rows_and_k(flat):
    bf = flat()
    bf.add_items(vectors_of(range(5), DIM), range(5))
    assert bf.knn_query(vectors_of([3], DIM)[0])[0].tolist() == [[3]]
    assert [part.shape for part in bf.knn_query(np.zeros((0, DIM)), 3)] == [(0, 3)] * 2
    assert [part.shape for part in bf.knn_query(np.zeros((2, DIM)), 0)] == [(2, 0)] * 2
    assert sorted(bf.knn_query(np.zeros(DIM), 5)[0][0].tolist()) == list(range(5))


def test_labels(flat):
    """Implicit ones go on after the largest, one that exists gets the new vector."""
    bf = flat()
    bf.add_items(vectors_of([7, 3], DIM), [7, 3])
    bf.add_items(vectors_of([8], DIM))
    bf.add_items(vectors_of([3], DIM, 1), 3)
    assert bf.get_current_count() == 3
    for label, version in ((7, 0), (8, 0), (3, 1)):
        labels, distances = bf.knn_query(vectors_of([label], DIM, version))
        assert (labels.item(), distances.item()) == (label, 0)
    assert bf.knn_query(vectors_of([3], DIM))[1].item() > 0


def test_capacity(flat):
    bf = flat(max_elements=4)
    bf.add_items(vectors_of(range(3), DIM))
    with pytest.raises(navmap.CapacityError, match="^The number of elements exceeds the specified"):
        bf.add_items(vectors_of(range(3, 5), DIM))
    assert bf.get_current_count() == 3
    bf.add_items(vectors_of([3], DIM))
    bf.add_items(vectors_of(range(4), DIM, 1), range(4))  # updates need no room
    bf.delete_vector(2)  # and this makes some
    bf.add_items(vectors_of([9], DIM), [9])
    assert (bf.get_current_count(), bf.get_max_elements()) == (4, 4)


def test_deleting(flat):
    bf = flat()
    bf.add_items(vectors_of(range(100), DIM))
    for label in range(0, 100, 2):
        bf.delete_vector(label)
    bf.delete_vector(label=4)  # gone already, and one that never was: nothing happens
    bf.delete_vector(12345)
    assert bf.get_current_count() == 50
    labels, distances = bf.knn_query(vectors_of(range(100), DIM), 50)
    assert set(labels.reshape(-1).tolist()) == set(range(1, 100, 2))
    bf.add_items(vectors_of([4], DIM, 1), [4])
    assert bf.knn_query(vectors_of([4], DIM, 1))[0].item() == 4


def test_fewer_than_k(flat):
    bf = flat()
    with pytest.raises(navmap.FewerResultsError, match=FEWER):
        bf.knn_query(np.zeros(DIM))
    bf.add_items(vectors_of(range(10), DIM))
    with pytest.raises(
        RuntimeError, match=f"{FEWER} The call asked for 11, query 0 found 10"
    ) as caught:
        bf.knn_query(np.zeros((2, DIM)), 11)
    assert (caught.value.asked, caught.value.found, caught.value.live) == (11, 10, 10)
    for sieve in (range(4), lambda label: label < 4):
        with pytest.raises(navmap.FewerResultsError, match=FEWER) as caught:
            bf.knn_query(np.zeros(DIM), 5, filter=sieve)
        assert caught.value.found == 4


@pytest.mark.parametrize("k", [1, 3, 7])
def test_filters(flat, k):
    """Also when the nearest ones do not pass, which hnswlib gets wrong."""
    bf = flat("ip", DIM)
    data = vectors_of(range(300), DIM)
    bf.add_items(data)
    queries = vectors_of(range(40), DIM, 1)
    truth = truth_of("ip", queries, data)
    for allowed in (range(0, 300, 3), range(290, 300), range(k)):
        kept = np.array(allowed)
        best = kept[np.argsort(truth[:, kept], axis=1, kind="stable")[:, :k]]
        for sieve in (allowed, kept, set(allowed), list(allowed), set(allowed).__contains__):
            labels, distances = bf.knn_query(queries, k, filter=sieve)
            np.testing.assert_array_equal(labels, best)
    with pytest.raises(ZeroDivisionError):
        bf.knn_query(queries, 1, 2, lambda label: 1 // 0)
    with pytest.raises(TypeError):
        bf.knn_query(queries, 1, filter=5)


@pytest.mark.parametrize("number", [0, -1, 1, 50])
def test_threads(flat, number):
    bf = flat()
    bf.num_threads = number
    bf.add_items(vectors_of(range(500), DIM))
    assert bf.num_threads == number
    assert bf.knn_query(vectors_of(range(500), DIM))[0][:, 0].tolist() == list(range(500))


def test_threads_side_by_side(flat):
    bf = flat()
    failures = []

    def work(first):
        try:
            for label in range(first, first + 100):
                bf.add_items(vectors_of([label], DIM), label)
                if label % 2:
                    bf.delete_vector(label)
                bf.knn_query(vectors_of([label], DIM), k=1, filter=[first])
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(100 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and bf.get_current_count() == 200
    found = bf.knn_query(vectors_of(range(0, 400, 2), DIM))[0][:, 0]
    assert found.tolist() == list(range(0, 400, 2))


# Files ----------------------------------------------------------------------------------------


def test_save_and_load(flat, tmp_path):
    bf, file = flat("cosine", max_elements=60), tmp_path / "flat.bin"
    bf.add_items(vectors_of(range(50), DIM), range(100, 150))
    bf.delete_vector(120)
    bf.save_index(str(file))
    assert os.listdir(tmp_path) == ["flat.bin"]
    for options in ({}, {"copy": True}, {"verify": True}, {"max_elements": 60}):
        again = navmap.BFIndex("cosine", DIM)
        again.set_num_threads(3)
        again.load_index(file, **options)
        assert (again.get_current_count(), again.get_max_elements()) == (49, 60)
        assert again.num_threads == 3
        for one, two in zip(*(x.knn_query(vectors_of(range(60), DIM, 1), 49) for x in (bf, again)),
                            strict=True):  # fmt: skip
            np.testing.assert_array_equal(one, two)
        again.add_items(vectors_of([0], DIM, 2))
        again.delete_vector(100)
        assert again.knn_query(vectors_of([0], DIM, 2))[0].item() == 150
        assert again.get_current_count() == 49
    bigger = navmap.BFIndex("cosine", DIM)
    bigger.load_index(file, 500)
    assert bigger.get_max_elements() == 500


def test_loading_over_one_that_is_there(flat, tmp_path):
    bf, file = flat(), tmp_path / "flat.bin"
    bf.add_items(vectors_of(range(5), DIM))
    bf.save_index(file)
    other = flat()
    other.add_items(vectors_of(range(9), DIM))
    with pytest.raises(navmap.NoIndexError, match="^Cannot open file"):
        other.load_index(tmp_path / "nothing")
    assert other.get_current_count() == 9
    with pytest.warns(RuntimeWarning, match="^Calling load_index for an already inited index"):
        other.load_index(file)
    assert other.get_current_count() == 5


def test_a_file_of_the_other_kind(flat, private, tmp_path):
    bf, ix = flat(), private("l2", DIM)
    for index in (bf, ix):
        index.add_items(vectors_of(range(5), DIM))
    bf.save_index(tmp_path / "flat")
    ix.save_index(tmp_path / "graph")
    words = "^Index seems to be corrupted or unsupported.*an index {} a graph"
    with pytest.raises(navmap.InvalidInputError, match=words.format("with")):
        navmap.BFIndex("l2", DIM).load_index(tmp_path / "graph")
    with pytest.raises(navmap.InvalidInputError, match=words.format("without")):
        navmap.Index("l2", DIM).load_index(tmp_path / "flat")


def test_a_file_of_hnswlibs(tmp_path, flat):
    """Capacity, bytes an item, count; then room for so many items, vector and label each."""
    file, data = tmp_path / "hnswlib.bin", vectors_of(range(6), DIM)
    record = np.zeros(10, np.dtype([("vector", "<f4", DIM), ("label", "<u8")]))
    record["vector"][:6], record["label"][:6] = data, range(10, 16)
    header = np.array([10, record.itemsize, 6], "<u8")
    file.write_bytes(header.tobytes() + record.tobytes())
    bf = navmap.BFIndex("l2", DIM)
    bf.load_index(file)
    assert (bf.get_current_count(), bf.get_max_elements()) == (6, 10)
    labels, distances = bf.knn_query(data)
    assert labels[:, 0].tolist() == list(range(10, 16)) and not distances.any()
    for wrong in (header.tobytes(), header.tobytes() + record.tobytes()[:-1], b"", b"x" * 500):
        file.write_bytes(wrong)
        with pytest.raises(RuntimeError, match="^Index seems to be corrupted or unsupported"):
            bf.load_index(file)
        assert bf.get_current_count() == 6
    file.write_bytes(header.tobytes() + record.tobytes())
    with pytest.raises(RuntimeError, match="^Index seems to be corrupted or unsupported"):
        navmap.BFIndex("l2", DIM + 1).load_index(file)


def test_no_pickles(flat):
    for action in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"^cannot pickle 'navmap\.BFIndex' object$"):
            action(flat())
