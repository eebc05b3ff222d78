"""Index.compact and bulk adds from Python: in place beside readers, elsewhere, stopped, killed."""

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

import navmap

DIM = 16


def vectors_of(labels, version=0):
    """A function of label and version, so that any process can check an answer."""
    rows = [np.random.default_rng([int(label), version]) for label in labels]
    return np.array([r.standard_normal(DIM) for r in rows], np.float32)


def fill(index, n=1200):
    index.add_items(vectors_of(range(n)), np.arange(n))
    for label in range(0, n, 3):
        index.mark_deleted(label)
    changed = np.arange(1, n, 3)
    index.add_items(vectors_of(changed, 1), changed)


def check(index, n=1200):
    live = [label for label in range(n) if label % 3]
    assert sorted(index.get_ids_list(include_deleted=False)) == live
    for version in (1, 0):
        labels = [label for label in live if (label % 3 == 1) == (version == 1)]
        expected = vectors_of(labels, version)
        assert np.array_equal(index.get_items(labels), expected)
        found, distances = index.knn_query(expected, k=1, ef=60)
        assert (found[:, 0] == labels).mean() > 0.99
        assert (distances[found[:, 0] == labels] == 0).all()
    report = index.check()
    assert not report.damaged


@pytest.fixture(params=["directory", "private"])
def index(request, tmp_path):
    if request.param == "directory":
        made = navmap.create(tmp_path / "i.navmap", "l2", DIM, M=8, ef_construction=60)
    else:
        made = navmap.Index("l2", DIM)
        made.init_index(5000, M=8, ef_construction=60)
    with made:
        yield made


def test_in_place(index):
    fill(index)
    told = index.compact(num_threads=2)
    assert told["items"] == 800
    assert told["forgotten"] == 400
    assert told["dropped"] == 400
    if index.path is not None:
        assert 0 < told["bytes_after"] < told["bytes_before"]
        assert told["log_erased"] == 1
    check(index)
    with pytest.raises(navmap.LabelNotFoundError):
        index.unmark_deleted(0)
    stats = index.stats()
    assert stats["n_dead"] == stats["n_free"] == stats["n_deleted"] == 0
    index.add_items(vectors_of([5000]), [5000])
    assert index.knn_query(vectors_of([5000]))[0][0, 0] == 5000


def test_keep_deleted(index):
    fill(index)
    assert index.compact(keep_deleted=True, keep_order=True)["forgotten"] == 0
    check(index)
    index.unmark_deleted(0)
    assert np.array_equal(index.get_items([0]), vectors_of([0]))


@pytest.mark.parametrize("M", [None, 5])
def test_output(index, tmp_path, M):
    fill(index)
    before = index.stats()
    index.compact(output=tmp_path / "file", M=M)
    index.compact(output=tmp_path / "dir", directory=True, M=M)
    assert index.stats()["n_deleted"] == before["n_deleted"]
    loaded = navmap.Index("l2", DIM)
    loaded.load_index(str(tmp_path / "file"))
    check(loaded)
    with navmap.open(tmp_path / "dir", "r+") as opened:
        check(opened)
        assert opened.M == (M or 8)
    with pytest.raises(navmap.ExistsError):
        index.compact(output=tmp_path / "dir", directory=True)
    assert sorted(p.name for p in tmp_path.iterdir() if ".tmp-" in p.name) == []


def test_arguments(index):
    with pytest.raises(navmap.InvalidInputError):
        index.compact(codes="i4")
    with pytest.raises(navmap.InvalidInputError):
        index.compact(M=1, output="x")
    with pytest.raises(navmap.InvalidInputError):
        index.compact(directory=True)
    with pytest.raises(TypeError):
        index.compact(progress=3)


@pytest.mark.parametrize("changes", [{"codes": None}, {"M": 12}, {"M": 5, "codes": None}])
def test_other_parameters(index, changes):
    fill(index)
    reader = navmap.open(index.path) if index.path is not None else None
    index.compact(num_threads=2, **changes)
    assert index.M == changes.get("M", 8)
    assert index.stats()["codes"] == ("i8" if "codes" not in changes else None)
    check(index)
    if reader is not None:
        with pytest.raises(navmap.StaleError):
            reader.knn_query(vectors_of([1]))
        reader.close()
        path = index.path
        index.close()
        index = navmap.open(path, "r+")
        assert index.M == changes.get("M", 8)
    index.compact(codes="i8")
    assert index.stats()["codes"] == "i8"
    check(index)
    index.close()


def test_other_parameters_alone(index):
    """Nobody may be inside, and nobody gets in."""
    fill(index)
    refused = []

    def look(done, total):
        with pytest.raises(navmap.LockedError):
            index.knn_query(vectors_of([1]))
        refused.append(done)

    index.compact(codes=None, progress=look)
    assert refused
    check(index)

    def compact(done, total):
        with pytest.raises(navmap.LockedError):
            index.compact(codes="i8")
        refused.append(done)

    refused.clear()
    index.add_items(vectors_of([5000]), [5000], progress=compact)
    assert refused


def test_stopped(index):
    fill(index)
    before = index.stats()

    def progress(done, total):
        assert 0 <= done <= total
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        index.compact(progress=progress)
    after = index.stats()
    assert after["generation"] == before["generation"]
    assert after["n_deleted"] == before["n_deleted"]
    check(index)
    index.unmark_deleted(0)


def test_reader_cannot(tmp_path):
    navmap.create(tmp_path / "i", "l2", DIM).close()
    with navmap.open(tmp_path / "i") as index, pytest.raises(navmap.ReadOnlyError):
        index.compact()


def read_on(path, ready, stop, told):
    with navmap.open(path) as index:
        generations, queries = set(), 0
        labels = np.arange(1, 1200, 3)
        expected = vectors_of(labels, 1)
        ready.set()
        while not stop.is_set():
            found, distances = index.knn_query(expected[:50], k=1, ef=60)
            right = found[:, 0] == labels[:50]
            assert right.mean() > 0.95, found[:, 0]
            assert (distances[right] == 0).all()
            assert np.array_equal(index.get_items(labels[:5]), expected[:5])
            generations.add(index.stats()["generation"])
            queries += 1
    told.put((queries, sorted(generations)))


def test_readers_of_other_processes(tmp_path):
    """They see no error, every answer is right, and they end on the newest generation."""
    path = tmp_path / "i.navmap"
    context = multiprocessing.get_context("spawn")
    ready, stop, told = context.Event(), context.Event(), context.Queue()
    with navmap.create(path, "l2", DIM, M=8, ef_construction=60) as index:
        fill(index)
        reader = context.Process(target=read_on, args=(path, ready, stop, told))
        reader.start()
        assert ready.wait(60)
        for _ in range(10):
            index.compact()
            time.sleep(0.02)
        time.sleep(0.5)
        stop.set()
        queries, generations = told.get(timeout=60)
        reader.join()
        assert reader.exitcode == 0
        assert queries > 0
        assert generations[-1] == 11


def compact_for_ever(path):
    with navmap.open(path, "r+") as index:
        while True:
            index.compact()


def test_killed(tmp_path):
    """At any moment: the index is there, with all that it had."""
    path = tmp_path / "i.navmap"
    with navmap.create(path, "l2", DIM, M=8, ef_construction=60) as index:
        fill(index)
    context = multiprocessing.get_context("fork")
    rng = np.random.default_rng(7)
    for _ in range(8):
        process = context.Process(target=compact_for_ever, args=(path,))
        process.start()
        time.sleep(0.05 + 0.1 * rng.random())
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        with navmap.open(path, "r+", timeout=5) as index:
            check(index)
        assert len(list(path.glob("data-*"))) == 1
        assert not navmap.verify(path).damaged


def test_bulk(tmp_path):
    """More than 32 MiB into an empty index: one generation later, and no log."""
    rng = np.random.default_rng(3)
    data = rng.standard_normal((9000, 1000), dtype=np.float32)
    calls = []
    with navmap.create(tmp_path / "i", "l2", 1000, M=4, ef_construction=10) as index:
        index.add_items(data, num_threads=2, progress=lambda done, total: calls.append(done))
        assert index.stats()["generation"] == 2
        assert len(index) == 9000
        assert calls[-1] == 9000
        assert np.array_equal(index.get_items([0, 8999]), data[[0, 8999]])

        def stop(done, total):
            if done > 0:  # it begins with where they are to lie
                raise KeyboardInterrupt

    with navmap.create(tmp_path / "j", "l2", 1000, M=4, ef_construction=10) as index:
        with pytest.raises(KeyboardInterrupt) as caught:
            index.add_items(data, num_threads=1, progress=stop)
        added = caught.value.added
        assert 0 < added < 9000
        assert len(index) == added
        index.add_items(data[added:])
        assert len(index) == 9000


def test_overwrite(tmp_path):
    path = tmp_path / "i"
    with navmap.create(path, "l2", DIM) as index:
        fill(index, 30)
        with pytest.raises(navmap.LockedError):
            navmap.create(path, "l2", DIM, overwrite=True)
    with pytest.raises(navmap.ExistsError):
        navmap.create(path, "l2", DIM)
    with navmap.open(path) as reader:
        with navmap.create(path, "l2", DIM, overwrite=True) as index:
            assert len(index) == len(reader) == 0
            index.add_items(vectors_of([4]), [4])
            assert reader.knn_query(vectors_of([4]))[0][0, 0] == 4
        with navmap.create(path, "ip", DIM, overwrite=True), pytest.raises(navmap.StaleError):
            reader.knn_query(vectors_of([4]))
    (tmp_path / "mine").mkdir()
    with pytest.raises(navmap.ExistsError):
        navmap.create(tmp_path / "mine", "l2", DIM, overwrite=True)
