"""vacuum() and verify(graph=True): in memory and in directories, alone and beside others."""

import threading

import navmap
import numpy as np
import pytest

DIM, ITEMS = 16, 2000


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(7).standard_normal((ITEMS, DIM), dtype=np.float32)


@pytest.fixture(params=["memory", "directory"])
def index(request, tmp_path, vectors):
    if request.param == "memory":
        made = navmap.Index("l2", DIM)
        made.init_index(ITEMS, M=8, ef_construction=60, allow_replace_deleted=True)
    else:
        made = navmap.create(tmp_path / "ix", space="l2", dim=DIM, M=8, ef_construction=60)
    with made:
        made.add_items(vectors, np.arange(ITEMS))
        yield made


def assert_all_reached(index):
    report = index.verify(graph=True)
    assert report.sound and report.reachable == report.live and report.no_in_links == 0
    assert sum(report.in_degrees) == report.live and report.in_degrees[0] == 0
    assert report.dead_links == 0
    return report


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_what_is_deleted_goes_and_comes_back(index, vectors, share):
    gone = np.random.default_rng(1).permutation(ITEMS)[: int(share * ITEMS)]
    for label in gone:
        index.mark_deleted(label)
    told = index.vacuum()
    assert set(told) == {"slots_freed", "rows_repaired", "ways_given", "linked_anew"}
    assert told["rows_repaired"] > 0 and told["linked_anew"] == (share > 0.5)
    assert assert_all_reached(index).deleted == len(gone)
    living = np.setdiff1d(np.arange(ITEMS), gone)
    found, _ = index.knn_query(vectors[living], k=1, ef=60)
    assert (found[:, 0] == living).mean() > 0.99
    for label in gone:
        index.unmark_deleted(label)
    assert assert_all_reached(index).live == ITEMS
    found, _ = index.knn_query(vectors, k=1, ef=60)
    assert (found[:, 0] == np.arange(ITEMS)).mean() > 0.99


def test_places_of_updated_items_are_free(index, vectors):
    index.add_items(vectors[:500], np.arange(500))
    assert index.vacuum()["slots_freed"] == 500
    assert index.stats()["n_dead"] == 0 and index.stats()["n_free"] == 500
    assert_all_reached(index)
    assert index.vacuum() == {
        "slots_freed": 0,
        "rows_repaired": 0,
        "ways_given": 0,
        "linked_anew": 0,
    }


def test_progress_stops_it(index):
    for label in range(0, ITEMS, 2):
        index.mark_deleted(label)

    def stop(done, total):
        assert 0 <= done <= total
        raise KeyboardInterrupt

    try:
        index.vacuum(progress=stop)  # a quick one asks nobody
    except KeyboardInterrupt:
        assert index.check().sound
    index.vacuum(num_threads=2)
    assert_all_reached(index)
    with pytest.raises(TypeError, match="callable"):
        index.vacuum(progress=3)


def test_searches_go_on(index, vectors):
    failed, end = [], threading.Event()

    def search():
        while not end.is_set():
            try:
                index.knn_query(vectors[:20], k=5)
            except Exception as error:  # noqa: BLE001 - whatever it is, the test fails
                failed.append(error)

    others = [threading.Thread(target=search) for _ in range(2)]
    for thread in others:
        thread.start()
    for label in range(0, ITEMS, 3):
        index.mark_deleted(label)
    index.vacuum()
    end.set()
    for thread in others:
        thread.join()
    assert not failed
    assert_all_reached(index)


def test_readers_may_not(tmp_path, vectors):
    path = tmp_path / "ix"
    with navmap.create(path, space="l2", dim=DIM) as made:
        made.add_items(vectors[:100])
    with navmap.open(path, mode="r") as reader:
        with pytest.raises(navmap.ReadOnlyError):
            reader.vacuum()
        assert reader.verify(graph=True).live == 100
        assert reader.verify(graph=False).sound
    private = navmap.Index("l2", DIM)
    private.init_index(10)
    with pytest.raises(navmap.InvalidInputError, match="no files"):
        private.verify(graph=False)
