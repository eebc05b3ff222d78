"""warmup: what it brings in, and that answers stay what they are."""

import mmap
import os

import navmap
import numpy as np
import pytest


@pytest.fixture
def index(tmp_path, rng):
    ix = navmap.create(tmp_path / "i", "l2", 64)
    ix.add_items(rng.random((3000, 64), np.float32))
    yield ix
    ix.close()


@pytest.mark.parametrize("vectors", [True, False])
@pytest.mark.parametrize("lock", [True, False])
@pytest.mark.parametrize("larger_than_memory", [True, False])
def test_answers_stay(index, rng, vectors, lock, larger_than_memory):
    queries = rng.random((50, 64), np.float32)
    before = index.knn_query(queries, k=10, ef=60)
    index.warmup(vectors=vectors, lock=lock, larger_than_memory=larger_than_memory)
    after = index.knn_query(queries, k=10, ef=60)
    assert np.array_equal(before[0], after[0]) and np.array_equal(before[1], after[1])
    index.add_items(rng.random((500, 64), np.float32))
    assert index.check().sound


def test_reader_and_private(index, rng, tmp_path):
    index.flush()
    query = rng.random((1, 64), np.float32)
    expected = index.knn_query(query, k=5)[0]
    with navmap.open(index.path) as reader:
        reader.warmup(vectors=False, larger_than_memory=True)
        assert np.array_equal(reader.knn_query(query, k=5)[0], expected)
    index.save_index(tmp_path / "sealed")
    private = navmap.Index("l2", 64)
    private.load_index(tmp_path / "sealed")
    private.warmup()
    assert np.array_equal(private.knn_query(query, k=5)[0], expected)


def locked_bytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmLck:"))


@pytest.mark.skipif("NAVMAP_SHORT" in os.environ, reason="sanitizers make mlock() do nothing")
def test_lock_holds_until_close(tmp_path, rng):
    ix = navmap.create(tmp_path / "i", "l2", 64)
    ix.add_items(rng.random((3000, 64), np.float32))
    before = locked_bytes()
    try:
        ix.warmup(vectors=False, lock=True)
    except navmap.OutOfMemoryError as error:
        pytest.skip(f"locking is not allowed here: {error}")
    assert locked_bytes() - before >= 3000 * (128 + 128) // mmap.PAGESIZE * mmap.PAGESIZE
    ix.close()
    assert locked_bytes() == before


def anonymous_bytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon:"))


@pytest.mark.skipif("NAVMAP_SHORT" in os.environ, reason="sanitizers make mlock() do nothing")
def test_lock_copies_nothing(index, tmp_path):
    """A loaded file is mapped privately, and mlock() alone would copy each page of it."""
    index.save_index(tmp_path / "sealed")
    size = os.path.getsize(tmp_path / "sealed")
    private = navmap.Index("l2", 64)
    private.load_index(tmp_path / "sealed")
    before = anonymous_bytes()
    try:
        private.warmup(lock=True)
    except navmap.OutOfMemoryError as error:
        pytest.skip(f"locking is not allowed here: {error}")
    assert anonymous_bytes() - before < size / 4
    private.close()


def test_on_a_closed_index(index):
    index.close()
    with pytest.raises(navmap.Error):
        index.warmup()
