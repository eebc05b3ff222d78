"""`navmap.Filter`: labels that searches may return, prepared once and used while the index changes."""

import pickle
import threading

import numpy as np
import pytest

import navmap
from workers import vectors_of

DIM = 16
N = 2000
NONE = 2**64 - 1


@pytest.fixture
def fresh(either):
    index = either("l2", DIM, M=12, ef_construction=80)
    index.add_items(vectors_of(range(N), DIM), num_threads=2)
    return index


def nearest(allowed, queries, k):
    """The answer by definition."""
    labels = np.array(sorted(allowed))
    base = vectors_of(labels, DIM).astype(np.float64)
    distances = ((queries[:, None, :].astype(np.float64) - base[None]) ** 2).sum(axis=2)
    return labels[np.argsort(distances, axis=1, kind="stable")[:, :k]]


def recall(found, truth):
    return np.mean([len(set(f) & set(t)) / len(t) for f, t in zip(found.tolist(), truth.tolist())])


@pytest.mark.parametrize("deny", [False, True])
@pytest.mark.parametrize("every", [2, 10, 400])
def test_allow_and_deny(fresh, every, deny):
    some = set(range(0, N, every))
    passing = set(range(N)) - some if deny else some
    kept = navmap.Filter(fresh, some, deny)
    assert kept.deny is deny
    stats = kept.stats()
    assert stats["labels"] == len(some) and stats["pass"] == len(passing) and stats["bytes"] > 0
    queries = vectors_of(range(N, N + 30), DIM)
    k = min(5, len(passing))
    truth = nearest(passing, queries, k)
    for threads in (1, 2):
        found = fresh.knn_query(queries, k, threads, kept, ef=100)[0]
        assert set(found.ravel().tolist()) <= passing
        assert recall(found, truth) > 0.95
        exact = fresh.exact_query(queries, k, filter=kept, num_threads=threads)[0]
        np.testing.assert_array_equal(exact, truth)
    one = np.vstack([fresh.knn_query(query, k, filter=kept, ef=100)[0] for query in queries])
    np.testing.assert_array_equal(one, found)  # alone or in a batch: the same


def test_it_follows_the_index(fresh):
    even = navmap.Filter(fresh, range(0, 4 * N, 2))  # also labels that are still to come
    not_even = navmap.Filter(fresh, range(0, 4 * N, 2), deny=True)
    far = np.full((1, DIM), 100, np.float32)
    for step in range(5):
        new = N + 2 * step
        fresh.add_items(np.vstack([far, far + 1]), [new, new + 1])
        assert fresh.knn_query(far, filter=even)[0][0, 0] == new
        assert fresh.knn_query(far, filter=not_even)[0][0, 0] == new + 1
        fresh.mark_deleted(new)
        assert fresh.knn_query(far, filter=even)[0][0, 0] != new
        fresh.unmark_deleted(new)
        assert fresh.knn_query(far, filter=even)[0][0, 0] == new
        fresh.add_items(-far, [new])  # elsewhere
        assert fresh.knn_query(-far, filter=even)[0][0, 0] == new
        assert fresh.knn_query(far, filter=even)[0][0, 0] != new
        fresh.mark_deleted(new)
        fresh.mark_deleted(new + 1)
        fresh.compact()
        assert even.stats()["pass"] == N // 2 and not_even.stats()["pass"] == N // 2


def test_one_for_each_query(fresh):
    queries = vectors_of(range(N, N + 40), DIM)
    sets = [set(range(start, N, 7)) for start in range(7)]
    filters = [navmap.Filter(fresh, labels) for labels in sets]
    each = [filters[row % 7] if row % 8 else None for row in range(40)]
    for kind in (list, tuple):
        labels = fresh.knn_query(queries, 5, filter=kind(each), ef=60)[0]
        for row, found in enumerate(labels.tolist()):
            assert set(found) <= (sets[row % 7] if row % 8 else set(range(N)))
    with pytest.raises(navmap.InvalidInputError, match="40 filters for 39 queries"):
        fresh.knn_query(queries[:39], 5, filter=each)
    with pytest.raises(TypeError, match="must be Filter or None"):
        fresh.knn_query(queries[:2], 5, filter=[filters[0], 7])
    few = navmap.Filter(fresh, [1, 2])
    with pytest.raises(navmap.FewerResultsError) as caught:
        fresh.knn_query(queries[:3], 5, filter=[None, filters[0], few])
    assert (caught.value.row, caught.value.found) == (2, 2)


def test_fewer_than_k(fresh):
    few = navmap.Filter(fresh, [3, 4, 10**9])
    fresh.mark_deleted(7)
    for k in (3, 3 * N):  # 3 N are more than there are at all
        with pytest.raises(navmap.FewerResultsError) as caught:
            fresh.knn_query(vectors_of([0], DIM), k, filter=few)
        error = caught.value
        assert (error.asked, error.found, error.live, error.deleted) == (k, 2, N - 1, 1)
        assert f"asked for {k}" in str(error) and "2 live ones pass" in str(error)
    labels, distances = fresh.knn_query(vectors_of([0], DIM), 4, filter=few, allow_fewer=True)
    assert set(labels[0, :2].tolist()) == {3, 4} and labels[0, 2:].tolist() == [NONE, NONE]
    assert np.isinf(distances[0, 2:]).all()


def test_what_is_refused(fresh, private):
    other = private("l2", DIM)
    other.add_items(vectors_of(range(10), DIM))
    kept = navmap.Filter(fresh, range(5))
    with pytest.raises(navmap.InvalidInputError, match="another index"):
        other.knn_query(vectors_of([0], DIM), filter=kept)
    with pytest.raises(TypeError):
        navmap.Filter(fresh, lambda label: True)
    with pytest.raises(TypeError):
        navmap.Filter(fresh, "1, 2")
    with pytest.raises(TypeError):
        navmap.Filter(fresh, [1], deny=[])
    with pytest.raises(navmap.NotInitializedError):
        navmap.Filter(navmap.Index("l2", DIM), [1])
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(kept)
    assert repr(kept) == "<navmap.Filter(deny=False)>"
    other.close()
    fresh.close()
    with pytest.raises(navmap.Error):
        kept.stats()
    del fresh, kept  # a filter may go after its index


def test_without_a_graph():
    flat = navmap.BFIndex("l2", DIM)
    flat.init_index(N)
    flat.add_items(vectors_of(range(N), DIM))
    kept = navmap.Filter(flat, range(0, N, 50))
    queries = vectors_of(range(N, N + 10), DIM)
    found = flat.knn_query(queries, 5, filter=kept)[0]
    np.testing.assert_array_equal(found, nearest(set(range(0, N, 50)), queries, 5))


def test_explain(fresh):
    queries = vectors_of(range(N, N + 20), DIM)
    assert fresh.explain(queries, 5)["walks"] == 20
    few = fresh.explain(queries, 5, navmap.Filter(fresh, range(40)))
    assert (few["walks"], few["scans"], few["scanned"]) == (0, 20, 20 * 40)
    assert fresh.explain(queries, 5, lambda label: True, ef=50)["walks"] == 20


def test_beside_changes(fresh):
    """One filter in three threads while a fourth moves what passes; nothing else is ever found."""
    odd = navmap.Filter(fresh, range(1, N, 2))
    queries = vectors_of(range(N, N + 12), DIM)
    stop, wrong = threading.Event(), []

    def search():
        while not stop.is_set():
            labels = fresh.knn_query(queries, 10, 1, odd)[0]
            if not (labels % 2 == 1).all() or any(len(set(row)) < 10 for row in labels.tolist()):
                wrong.append(labels)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    rng = np.random.default_rng(1)
    for _ in range(60):
        labels = rng.permutation(N)[:20]
        fresh.add_items(vectors_of(labels + 7, DIM), labels)
        for label in labels[:3].tolist():
            fresh.mark_deleted(label)
        for label in labels[:3].tolist():
            fresh.unmark_deleted(label)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert odd.stats()["pass"] == N // 2
