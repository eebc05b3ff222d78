"""calibrate and target_recall: what is measured, kept and refused."""

import copy
import pickle

import navmap
import numpy as np
import pytest

DIM = 12


def filled(index, rng, n=3000):
    index.add_items(rng.random((n, DIM), np.float32))
    return index


@pytest.fixture
def private(rng):
    index = navmap.Index("l2", DIM)
    index.init_index(5000, M=6, ef_construction=40)
    return filled(index, rng)


def test_reaches_what_was_asked_for(private, rng):
    found = private.calibrate(samples=400, num_threads=2)
    assert found == private.calibration
    assert found["items"] == 3000 and list(found["ef"]) == [1, 10, 100]
    assert list(found["ef"][10]) == [0.8, 0.9, 0.95, 0.98, 0.99, 0.999]
    queries = rng.random((400, DIM), np.float32)
    truth = private.exact_query(queries, k=10)[0]
    for target in (0.9, 0.97, 0.99):
        labels = private.knn_query(queries, k=10, target_recall=target)[0]
        recall = np.mean([np.isin(a, b).mean() for a, b in zip(labels, truth, strict=True)])
        assert recall > target - 0.02
    told = [private.explain(queries, k=10, target_recall=target) for target in (0.9, 0.99)]
    assert told[0]["measured"] < told[1]["measured"]
    assert told[1] == private.explain(queries, k=10, ef=found["ef"][10][0.99])
    one = private.knn_query(queries[0], k=10, target_recall=np.float32(0.99))[0]
    assert np.array_equal(one, labels[:1])


def test_refused(private, rng):
    query = rng.random(DIM, np.float32)
    assert private.calibration is None
    with pytest.raises(navmap.InvalidInputError, match="calibrate"):
        private.knn_query(query, target_recall=0.9)
    private.calibrate(samples=50)
    for wrong in (0, -1, 1.0, 0.9999, float("nan"), float("inf")):
        with pytest.raises(navmap.InvalidInputError, match="recall"):
            private.knn_query(query, target_recall=wrong)
    with pytest.raises(navmap.InvalidInputError, match="one of ef and target_recall"):
        private.knn_query(query, ef=10, target_recall=0.9)
    with pytest.raises(TypeError):
        private.knn_query(query, target_recall="much")
    with pytest.raises(navmap.InvalidInputError):
        private.calibrate(samples=0)
    with pytest.raises(TypeError):
        private.calibrate(progress=3)
    with pytest.raises(navmap.InvalidInputError, match="live items"):
        empty().calibrate()


def test_stop(private, rng):
    """Fewer distances; what is found is still the nearest of what was met."""
    queries = rng.random((200, DIM), np.float32)
    truth = private.exact_query(queries, k=5)[0]
    found = {}
    for stop in (None, 0.05, 0.5, 1000):
        labels = private.knn_query(queries, k=5, ef=100, stop=stop)[0]
        found[stop] = np.mean([np.isin(a, b).mean() for a, b in zip(labels, truth, strict=True)])
    assert found[0.05] < found[None] == found[1000]
    assert found[0.5] > found[None] - 0.02
    whole, early = (private.explain(queries, k=5, ef=100, stop=stop) for stop in (None, 0.05))
    assert early["measured"] < 0.7 * whole["measured"]
    assert 200 * 5 <= early["exact"] <= 200 * 15
    one = private.knn_query(queries[7], k=5, ef=100, stop=1000)[0]
    assert np.array_equal(one[0], labels[7])
    for wrong in (-0.1, 1e9, float("nan")):
        with pytest.raises(navmap.InvalidInputError, match="stop"):
            private.knn_query(queries, k=5, stop=wrong)
    with pytest.raises(TypeError):
        private.knn_query(queries, k=5, stop="early")
    other = navmap.Index("ip", DIM)
    other.init_index(5)
    other.add_items(queries[:3])
    with pytest.raises(navmap.InvalidInputError, match="inner products"):
        other.knn_query(queries[0], stop=0.1)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.01])
@pytest.mark.parametrize("region", [False, True])
@pytest.mark.parametrize("deleted", [0, 600])
def test_beside_filters(private, rng, share, region, deleted):
    """However few pass, and wherever they lie: k are found, and good ones, with a stop as by a
    recall; labels that were gone or do not pass are none."""
    vectors, queries = private.get_items(range(3000)), rng.random((60, DIM), np.float32)
    for label in range(deleted):
        private.mark_deleted(label * 5)
    private.calibrate(samples=150)
    values = vectors[:, 0] if region else rng.random(3000)
    allowed = np.flatnonzero(values > np.quantile(values, 1 - share))
    live = np.setdiff1d(allowed, np.arange(deleted) * 5)
    k = min(10, len(live))
    truth = private.exact_query(queries, k=k, filter=allowed)[0]
    ways = allowed, navmap.Filter(private, allowed), lambda label: label in kept
    kept = set(allowed.tolist())
    for how in ways:
        for options in ({"ef": 200, "stop": 0.3}, {"ef": 2048, "stop": 0.3}, {"target_recall": 0.95}):
            labels = private.knn_query(queries, k=k, filter=how, **options)[0]
            assert np.isin(labels, live).all()
            assert all(len(set(row)) == k for row in labels.tolist())
            assert np.mean([np.isin(a, b).mean() for a, b in zip(labels, truth, strict=True)]) > 0.92
    tight = private.knn_query(queries, k=k, filter=allowed, ef=200, stop=1e-6)[0]
    assert np.isin(tight, live).all()


def test_halves(rng):
    index = navmap.Index("cosine", DIM)
    index.init_index(3000, M=6, ef_construction=40, dtype="f16")
    filled(index, rng).calibrate(samples=300)
    queries = rng.random((300, DIM), np.float32)
    truth = index.exact_query(queries, k=10)[0]
    labels = index.knn_query(queries, k=10, target_recall=0.95)[0]
    recall = np.mean([np.isin(a, b).mean() for a, b in zip(labels, truth, strict=True)])
    assert 0.92 < recall < 0.995


def test_halves_reproducible(rng):
    made = []
    vectors = rng.random((2000, DIM), np.float32)
    for threads in (1, 3):
        index = navmap.Index("cosine", DIM)
        index.init_index(2000, M=6, ef_construction=40, dtype="f16")
        index.add_items(vectors, num_threads=threads, reproducible=True)
        assert not index.check().findings
        made.append(index.knn_query(vectors, k=3, ef=10))
    assert np.array_equal(made[0][0], made[1][0]) and np.array_equal(made[0][1], made[1][1])
    assert np.mean(made[0][0][:, 0] == np.arange(2000)) > 0.99


@pytest.mark.parametrize("options", [{"M": 8}, {"codes": None}, {"refine": True}])
def test_compaction_to_another_graph(private, tmp_path, options):
    """In place it is measured anew; an output whose graph or codes are others has none."""
    private.calibrate(samples=50)
    private.mark_deleted(0)
    private.compact(output=tmp_path / "sealed", **options)
    loaded = navmap.Index("l2", DIM)
    loaded.load_index(tmp_path / "sealed")
    assert loaded.calibration is None
    private.compact(**options)
    assert private.calibration["items"] == 2999
    private.knn_query(np.zeros(DIM, np.float32), k=3, target_recall=0.9)


def empty():
    index = navmap.Index("l2", DIM)
    index.init_index(5)
    return index


def test_progress_ends_it(private):
    told = []

    def progress(done, total):
        told.append((done, total))
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        private.calibrate(samples=3000, progress=progress)
    assert len(told) == 1 and told[0][0] <= told[0][1]
    assert private.calibration is None


def test_copies_files_and_pickles_keep_it(private, tmp_path):
    found = private.calibrate(samples=50)
    private.save_index(tmp_path / "sealed")
    loaded = navmap.Index("l2", DIM)
    loaded.load_index(tmp_path / "sealed")
    for other in (loaded, copy.deepcopy(private), pickle.loads(pickle.dumps(private))):
        assert other.calibration == found


def test_directory(tmp_path, rng):
    with navmap.create(tmp_path / "i", "cosine", DIM, M=6) as index:
        filled(index, rng)
        found = index.calibrate(samples=50)
        index.add_items(rng.random((3000, DIM), np.float32))
        assert index.calibration == found
    with navmap.open(tmp_path / "i") as reader:
        assert reader.calibration == found
        reader.knn_query(rng.random(DIM, np.float32), k=3, target_recall=0.9)
        with pytest.raises(navmap.ReadOnlyError):
            reader.calibrate()
    with navmap.open(tmp_path / "i", mode="r+") as index:
        index.compact()
        assert index.calibration["items"] == 6000
