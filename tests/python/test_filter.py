"""Queries that may return some labels only: by a function, or by a list."""

import sys
import threading
import time

import numpy as np
import pytest

import navmap
from workers import vectors_of

DIM = 16
N = 2000
NONE = 2**64 - 1


def fill(index):
    """N items, of which every tenth is deleted."""
    index.add_items(vectors_of(range(N), DIM), num_threads=2)
    for label in range(0, N, 10):
        index.mark_deleted(label)
    return index


@pytest.fixture(scope="module", params=["directory", "private"])
def ix(request, tmp_path_factory):
    """One for all tests that change nothing."""
    if request.param == "directory":
        path = tmp_path_factory.mktemp("filter") / "test.navmap"
        index = navmap.create(path, "l2", DIM, M=12, ef_construction=80, durability="manual")
    else:
        index = navmap.Index("l2", DIM)
        index.init_index(N, M=12, ef_construction=80)
    with index:
        fill(index).flush()
        yield index


@pytest.fixture
def fresh(either):
    return fill(either("l2", DIM, M=12, ef_construction=80))


def nearest(allowed, queries, k):
    """The answer by definition."""
    labels = np.array(sorted(allowed))
    base = vectors_of(labels, DIM).astype(np.float64)
    distances = ((queries[:, None, :].astype(np.float64) - base[None]) ** 2).sum(axis=2)
    return labels[np.argsort(distances, axis=1, kind="stable")[:, :k]]


LIVE = [label for label in range(N) if label % 10]
WAYS = {
    "lambda": lambda keep: lambda label: label in keep,
    "a method in C": lambda keep: keep.__contains__,
    "a callable object": lambda keep: type("F", (), {"__call__": lambda _, x: x in keep})(),
    "numbers as truth": lambda keep: lambda label: [0, 7][label in keep],
    "None for no": lambda keep: lambda label: True if label in keep else None,
    "numpy's truth": lambda keep: lambda label: np.bool_(label in keep),
    "set": set,
    "frozenset": frozenset,
    "dict keys": lambda keep: dict.fromkeys(keep).keys(),
    "list": list,
    "tuple": tuple,
    "uint64": lambda keep: np.fromiter(keep, np.uint64),
    "int32": lambda keep: np.fromiter(keep, np.int32),
    "big-endian": lambda keep: np.fromiter(keep, ">i8"),
    "objects": lambda keep: np.array(list(keep), dtype=object),
    "a column": lambda keep: np.fromiter(keep, np.uint64)[:, None],
    "strided": lambda keep: np.repeat(np.fromiter(keep, np.uint64), 2)[::2],
    "with strangers": lambda keep: [*keep, 10**6, NONE, *list(keep)[:5]],
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_the_allowed_and_no_other(ix, way, threads):
    keep = {label for label in range(N) if label % 3 == 0}
    live = {label for label in keep if label % 10}
    queries = vectors_of(range(40), DIM, 1)
    truth = nearest(live, queries, 10)
    labels, distances = ix.knn_query(queries, 10, threads, way(keep), ef=200)
    assert set(labels.reshape(-1).tolist()) <= live
    assert np.mean([len(set(a) & set(b)) for a, b in zip(labels, truth, strict=True)]) > 9.5
    assert (np.diff(distances, axis=1) >= 0).all()
    exact = ix.exact_query(queries, 10, filter=way(keep), num_threads=threads)
    np.testing.assert_array_equal(exact[0], truth)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 1.0])
def test_all_that_pass_are_found_whatever_the_share(ix, rng, share, threads):
    keep = {int(x) for x in rng.permutation(LIVE)[: max(int(share * len(LIVE)), 1)]}
    k = min(len(keep), 10)
    queries = vectors_of(range(20), DIM, 2)
    truth = nearest(keep, queries, k)
    for way in (keep.__contains__, list(keep)):
        labels, _ = ix.knn_query(queries, k, num_threads=threads, filter=way, ef=100)
        hits = np.mean([len(set(a) & set(b)) / k for a, b in zip(labels, truth, strict=True)])
        assert hits > 0.95, share


def test_hnswlibs_own_test(private):
    """Half of the items pass: half of the vectors find themselves."""
    ix = private("l2", DIM, N)
    ix.add_items(vectors_of(range(N), DIM))
    labels, _ = ix.knn_query(
        vectors_of(range(N), DIM), k=1, num_threads=1, filter=lambda idx: idx % 2 == 0
    )
    assert abs((labels[:, 0] == np.arange(N)).mean() - 0.5) < 0.01
    assert not (labels % 2).any()


def test_labels_of_every_size(private):
    ix = private("l2", DIM, 10)
    ids = [0, 1, 2**32, 2**53 + 1, 2**63, NONE - 1]
    ix.add_items(vectors_of(range(6), DIM), ids)
    seen = set()
    for way in (ids[2:], np.array(ids[2:], np.uint64), set(ids[2:])):
        assert set(ix.knn_query(vectors_of([0], DIM), 4, filter=way)[0][0].tolist()) == set(ids[2:])
    ix.knn_query(vectors_of([0], DIM), 6, filter=lambda label: seen.add(label) or True)
    assert seen == set(ids) and {type(label) for label in seen} == {int}
    found = ix.knn_query(vectors_of([0], DIM), 1, filter=np.array([-2], np.int64))[0]
    assert found.tolist() == [[NONE - 1]]  # wraps, as ids do


def test_the_function_is_asked_about_live_items(ix):
    asked = []
    ix.knn_query(vectors_of([5], DIM), 10, filter=lambda label: asked.append(label) or True, ef=50)
    assert asked and all(label % 10 for label in asked)
    assert len(asked) < N / 2, "about what comes near only"
    assert len(asked) == len(set(asked))


def test_no_rows_and_no_k(ix):
    for filter in ([], lambda label: 1 / 0, [1, 2]):
        assert ix.knn_query(np.empty((0, DIM)), 3, filter=filter)[0].shape == (0, 3)
        assert ix.knn_query(vectors_of([1], DIM), 0, filter=filter)[0].shape == (1, 0)


# Too few --------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "way", [list, set, lambda keep: lambda label: label in keep], ids=["list", "set", "function"]
)
def test_fewer_than_k_pass(ix, way, threads):
    keep = {11, 12, 13, 20, 10**6}  # 20 is deleted, the last one unknown
    queries = vectors_of(range(30), DIM)
    for search in (ix.knn_query, ix.exact_query):
        with pytest.raises(navmap.FewerResultsError) as caught:
            search(queries, 4, filter=way(keep), num_threads=threads)
        error = caught.value
        assert (error.asked, error.found, error.row) == (4, 3, 0)
        assert (error.live, error.deleted) == (len(LIVE), N - len(LIVE))
        assert str(error).startswith(
            "Cannot return the results in a contiguous 2D array. Probably ef or M is too small"
        )
        assert "found 3" in str(error) and "a filter was given" in str(error)
        labels, distances = search(
            queries, 5, filter=way(keep), num_threads=threads, allow_fewer=True
        )
        np.testing.assert_array_equal(labels[:, :3], nearest({11, 12, 13}, queries, 3))
        assert (labels[:, 3:] == NONE).all() and (distances[:, 3:] == np.inf).all()


@pytest.mark.parametrize("nothing", [[], (), set(), np.empty(0), np.empty(0, np.uint64), range(0)])
def test_nothing_is_allowed(ix, nothing):
    query = vectors_of([1], DIM)
    with pytest.raises(navmap.FewerResultsError, match="found 0"):
        ix.knn_query(query, filter=nothing)
    labels, distances = ix.knn_query(query, 2, filter=nothing, allow_fewer=True)
    assert labels.tolist() == [[NONE, NONE]] and distances.tolist() == [[np.inf, np.inf]]


def test_more_than_there_is_with_a_function(ix):
    with pytest.raises(navmap.FewerResultsError) as caught:
        ix.knn_query(vectors_of([1], DIM), N + 1, filter=lambda label: label % 2)
    assert caught.value.found == sum(label % 2 for label in LIVE)


# What goes wrong in the function --------------------------------------------------------------


class Custom(Exception):
    pass


def fail_at(number, error):
    """A filter that fails when it is asked for the so manieth time, whatever the thread."""
    count = iter(range(10**9))

    def filter(label):
        if next(count) >= number:
            raise error
        return True

    return filter


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("number", [0, 5000])
@pytest.mark.parametrize("error", [Custom("mine"), ZeroDivisionError("x"), SystemExit(3)])
def test_an_exception_comes_through_unchanged(ix, error, number, threads):
    queries = vectors_of(range(500), DIM)
    for search in (ix.knn_query, ix.exact_query):
        with pytest.raises(type(error)) as caught:
            search(queries, 3, filter=fail_at(number, error), num_threads=threads)
        assert caught.value is error
        names = [entry.name for entry in caught.traceback]
        assert names[-1] == "filter"
    assert ix.knn_query(vectors_of([5], DIM))[0].tolist() == [[5]]


def test_the_first_exception_wins_and_the_rest_is_not_asked(ix):
    count = 0

    def filter(label):
        nonlocal count
        count += 1
        raise Custom(count)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)  # a question is over before the next thread has Python's lock
    try:
        for _ in range(50):
            count = 0
            with pytest.raises(Custom) as caught:
                ix.knn_query(vectors_of(range(500), DIM), 3, num_threads=4, filter=filter)
            assert caught.value.args == (1,) and count == 1
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("answer", [[1], [], "yes", b"", (1,), {}, object(), np.zeros])
def test_what_has_no_truth(ix, answer, threads):
    with pytest.raises(RuntimeError) as caught:
        ix.knn_query(vectors_of(range(50), DIM), 3, threads, filter=lambda label: answer)
    words = f"Unable to cast Python instance of type {type(answer)} to C++ type 'bool'"
    assert str(caught.value).startswith(words)
    assert isinstance(caught.value, navmap.Error)


def test_an_exception_from_truth_itself(ix):
    class Moody:
        def __bool__(self):
            raise Custom("not today")

    with pytest.raises(Custom, match="not today"):
        ix.knn_query(vectors_of([1], DIM), filter=lambda label: Moody())


@pytest.mark.parametrize(
    "filter, error",
    [
        (5, TypeError),
        (2.5, TypeError),
        ("12", TypeError),
        (b"12", TypeError),
        ([1.0, 2.0], TypeError),
        ([1.5], TypeError),
        ([1, None], TypeError),
        (["1"], TypeError),
        ([True, False], TypeError),
        (np.array([True, False]), TypeError),
        (np.array([1.0]), TypeError),
        (np.array([[1, 2], [3, 4]]), TypeError),
        (np.array(3), TypeError),
        (iter([1, 2]), TypeError),
        (object(), TypeError),
        ([2**64], OverflowError),
        ([-(2**63) - 1], OverflowError),
    ],
    ids=str,
)
def test_what_is_no_filter(ix, filter, error):
    for search in (ix.knn_query, ix.exact_query):
        with pytest.raises(error):
            search(vectors_of([1], DIM), filter=filter)


# Threads and re-entry -------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_the_function_may_use_the_index(fresh, threads):
    def filter(label):
        assert label in fresh and fresh.get_items([label]).shape == (1, DIM)
        inner = fresh.knn_query(vectors_of([label], DIM), 1, 2, filter=lambda other: other % 2)
        assert inner[0][0, 0] % 2
        if label == 17:
            fresh.add_items(vectors_of([label], DIM), [label])
        return label % 2

    labels, _ = fresh.knn_query(vectors_of(range(30), DIM), 2, num_threads=threads, filter=filter)
    assert (labels % 2).all()


def test_the_function_may_close_the_index(private):
    ix = private("l2", DIM, N)
    ix.add_items(vectors_of(range(500), DIM))

    def filter(label):
        ix.close()
        return True

    labels, _ = ix.knn_query(vectors_of(range(100), DIM), 1, num_threads=2, filter=filter, ef=50)
    assert (labels[:, 0] == range(100)).mean() > 0.99  # the call finishes
    with pytest.raises(navmap.NotInitializedError):
        ix.knn_query(vectors_of([1], DIM))


def test_several_threads_ask(ix):
    names = set()

    def filter(label):
        names.add(threading.get_ident())
        time.sleep(0)  # let others take Python's lock
        return True

    for _ in range(20):
        ix.knn_query(vectors_of(range(400), DIM), 3, num_threads=2, filter=filter)
        if len(names) > 1:
            break
    assert len(names) > 1 and threading.get_ident() in names


def test_a_function_keeps_to_the_calling_thread_unless_told_otherwise(ix):
    names = set()
    ix.num_threads = 4
    for search in (ix.knn_query, ix.exact_query):
        search(
            vectors_of(range(200), DIM), 3, filter=lambda _: names.add(threading.get_ident()) or 1
        )
    assert names == {threading.get_ident()}


def test_filters_from_many_python_threads(ix):
    errors = []

    def work(number):
        try:
            keep = [label for label in LIVE if label % 5 == number]
            for way in (keep, lambda label: label % 5 == number):
                for _ in range(3):
                    labels, _ = ix.knn_query(vectors_of(range(60), DIM), 4, 2, way)
                    assert (labels % 5 == number).all()
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert not worker.is_alive(), "a deadlock"
    assert not errors


@pytest.mark.parametrize("threads", [1, 2])
def test_a_filter_beside_changes(fresh, threads):
    done = threading.Event()

    def change():
        turn = 0
        while not done.is_set():
            turn += 1
            for label in range(3, 300, 30):
                fresh.mark_deleted(label)
                fresh.unmark_deleted(label)
                fresh.add_items(vectors_of([label], DIM, turn % 2), [label])

    changer = threading.Thread(target=change)
    changer.start()
    try:
        keep = [label for label in LIVE if label % 3 == 0]
        for turn in range(30):
            way = keep if turn % 2 else lambda label: label % 3 == 0
            labels, _ = fresh.knn_query(vectors_of(range(40), DIM), 5, threads, way, ef=50)
            assert not (labels % 3).any()
            assert all(len(set(row)) == 5 for row in labels.tolist())
    finally:
        done.set()
        changer.join()
