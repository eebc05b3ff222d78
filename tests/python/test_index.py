"""What an index does when it is used as it should be."""

import gc
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import navmap
from workers import vectors_of


def distances(space, queries, base):
    """All distances in float64: the definition, from the documentation."""
    queries, base = queries.astype(np.float64), base.astype(np.float64)
    if space == "l2":
        return ((queries[:, None, :] - base[None, :, :]) ** 2).sum(axis=2)
    if space == "cosine":
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        base = base / np.linalg.norm(base, axis=1, keepdims=True)
    return 1 - queries @ base.T


@pytest.mark.parametrize("space", ["l2", "ip", "cosine"])
@pytest.mark.parametrize("dim", [1, 5, 16, 37, 161])
def test_distances_and_neighbours(make, rng, space, dim):
    base = rng.standard_normal((120, dim)).astype(np.float32)
    queries = rng.standard_normal((7, dim)).astype(np.float32)
    ids = rng.permutation(10_000)[:120]
    ix = make(space, dim)
    ix.add_items(base, ids)
    expected = distances(space, queries, base)
    for found, got in (ix.knn_query(queries, 10, ef=200), ix.exact_query(queries, 10)):
        assert found.shape == got.shape == (7, 10)
        assert found.dtype == np.uint64 and got.dtype == np.float32
        rows = np.searchsorted(np.sort(ids), found.astype(np.int64))
        rows = np.argsort(ids)[rows]
        np.testing.assert_allclose(got, np.take_along_axis(expected, rows, 1), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(got, np.sort(expected, 1)[:, :10], rtol=1e-4, atol=1e-4)
        assert (np.diff(got, axis=1) >= 0).all()


def test_upstream_distances(make, tmp_path):
    """Five corners of a cube, and hnswlib's documented values for them."""
    data = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1]], dtype=np.float64)
    wanted = {
        "l2": [0, 1, 2, 2, 2],
        "ip": [-2, -1, 0, 0, 0],
        "cosine": [0, 0.1835, 0.4226, 0.4226, 0.4226],
    }
    for space, values in wanted.items():
        ix = make(space, 3, at=tmp_path / space)
        ix.add_items(data)
        labels, got = ix.knn_query(data[4], k=5)
        np.testing.assert_allclose(got[0], values, atol=1e-3)
        assert sorted(labels[0].tolist()) == [0, 1, 2, 3, 4]


def test_ties_are_ordered_by_label(make):
    ix = make(dim=2)
    ix.add_items([[1, 0], [0, 1], [-1, 0], [0, -1]], [9, 4, 7, 1])
    for search in (ix.knn_query, ix.exact_query):
        labels, got = search([0, 0], 4)
        assert labels.tolist() == [[1, 4, 7, 9]]
        assert got.tolist() == [[1, 1, 1, 1]]


def test_results_are_fresh_arrays(make):
    ix = make(dim=2)
    ix.add_items([[0, 0], [1, 1]])
    first, second = ix.knn_query([0, 0], 2), ix.knn_query([0, 0], 2)
    for array in first:
        assert array.flags.c_contiguous and array.flags.writeable
    first[0][:] = 77
    first[1][:] = 77
    assert second[0].tolist() == [[0, 1]]
    assert second[1].tolist() == [[0, 2]]


def test_one_row_and_no_row(make):
    ix = make(dim=3)
    ix.add_items(np.empty((0, 3)))
    ix.add_items(np.empty((0, 3)), [])
    assert len(ix) == 0
    assert [array.shape for array in ix.knn_query([1, 2, 3], k=0)] == [(1, 0), (1, 0)]
    ix.add_items([1, 2, 3], 5)
    ix.add_items([[3, 2, 1]], [6])
    assert sorted(ix.get_ids_list()) == [5, 6]
    assert [array.shape for array in ix.knn_query([1, 2, 3])] == [(1, 1), (1, 1)]
    assert [array.shape for array in ix.knn_query(np.empty((0, 3)), 2)] == [(0, 2), (0, 2)]
    assert [array.shape for array in ix.knn_query([1, 2, 3], k=0)] == [(1, 0), (1, 0)]


DATA = np.arange(12, dtype=np.float32).reshape(4, 3)


def misaligned(array):
    raw = bytearray(array.nbytes + 1)
    view = np.frombuffer(raw, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    view[:] = array
    assert not view.flags.aligned
    return view


@pytest.mark.parametrize(
    "data",
    [
        DATA,
        DATA.astype(np.float64),
        DATA.astype(np.float16),
        DATA.astype(np.int64),
        DATA.astype(np.uint8),
        DATA.astype(">f4"),
        np.asfortranarray(DATA),
        np.repeat(DATA, 2, axis=1)[:, ::2],
        DATA[::-1].copy()[::-1],
        misaligned(DATA),
        DATA.tolist(),
        tuple(map(tuple, DATA.tolist())),
        [[str(x) for x in row] for row in DATA.tolist()],
        memoryview(DATA),
        np.ma.masked_array(DATA),
    ],
    ids=lambda data: f"{type(data).__name__}-{getattr(data, 'dtype', '')}",
)
def test_data_of_many_kinds(make, data):
    ix = make(dim=3)
    ix.add_items(data)
    np.testing.assert_array_equal(ix.get_items(range(4)), DATA)
    labels, got = ix.knn_query(data)
    assert labels.tolist() == [[0], [1], [2], [3]]
    assert (got == 0).all()


@pytest.mark.parametrize(
    "ids",
    [
        [3, 1, 2**63, 2**64 - 1],
        (0, 2**63 + 1, 1, 2**53 + 1),
        range(4),
        np.arange(4, dtype=np.int8),
        np.arange(4, dtype=np.uint64) + 2**63,
        np.arange(8, dtype=np.uint64)[::2],
        np.arange(4).astype(">u8"),
        misaligned(np.arange(4, dtype=np.uint64)),
        np.array([1.0, 2.0, 3.0, 2.0**63]),
        [1.0, 5.0, 2, 3],
        ["4", "5", "6", "7"],
        np.array([True, False])[:0].tolist() + [0, 1, 2, 3],
        np.array([7, 8, 9, 10], dtype=object),
    ],
    ids=str,
)
def test_ids_of_many_kinds(make, ids):
    ix = make(dim=3)
    ix.add_items(DATA, ids)
    wanted = [int(label) for label in ids]
    assert sorted(ix.get_ids_list()) == sorted(wanted)
    np.testing.assert_array_equal(ix.get_items(np.array(wanted, dtype=np.uint64)), DATA)
    for label in wanted:
        assert label in ix


def test_negative_integer_ids_wrap_as_in_hnswlib(make):
    ix = make(dim=3)
    ix.add_items(DATA, np.array([-1, -2, 0, 1], dtype=np.int64))
    assert sorted(ix.get_ids_list()) == [0, 1, 2**64 - 2, 2**64 - 1]
    ix.add_items(DATA[2:], np.array([-3.0, -4.0]))
    assert {2**64 - 3, 2**64 - 4} < set(ix.get_ids_list())


@pytest.mark.parametrize("space", ["l2", "cosine"])
def test_the_callers_arrays_are_never_changed(make, rng, space):
    data = rng.standard_normal((20, 8)).astype(np.float32)
    ids = np.arange(20, dtype=np.uint64)
    before = data.copy()
    data.flags.writeable = ids.flags.writeable = False
    ix = make(space, 8)
    ix.add_items(data, ids)
    ix.knn_query(data, 3)
    np.testing.assert_array_equal(data, before)


def test_cosine_stores_normalised_vectors(make, rng):
    data = rng.standard_normal((30, 8)).astype(np.float32) * 5
    data[3] = 0
    ix = make("cosine", 8)
    ix.add_items(data)
    norms = np.linalg.norm(data, axis=1, keepdims=True)
    np.testing.assert_allclose(ix.get_items(range(30)), data / np.maximum(norms, 1e-30), atol=1e-6)
    labels, got = ix.exact_query(data[5] * 100, 30)
    assert labels[0, 0] == 5 and abs(got[0, 0]) < 1e-6
    assert got[0][labels[0] == 3].tolist() == [1.0]  # the zero vector


def test_implicit_ids_follow_the_largest_label(make):
    ix = make(dim=2)
    ix.add_items([[0, 0], [1, 1]])
    assert sorted(ix.get_ids_list()) == [0, 1]
    ix.add_items([[2, 2], [3, 3]], [10, 4])
    ix.add_items([[5, 5], [6, 6]])
    assert sorted(ix.get_ids_list()) == [0, 1, 4, 10, 11, 12]
    ix.mark_deleted(12)
    ix.add_items([7, 7])
    assert sorted(ix.get_ids_list()) == [0, 1, 4, 10, 11, 12, 13]
    assert ix.get_items([11]).tolist() == [[5, 5]]


def test_adding_a_label_again_replaces_its_vector(make):
    ix = make(dim=2)
    ix.add_items([[0, 0], [1, 1], [2, 2]])
    ix.add_items([[9, 9]], [1])
    assert len(ix) == ix.element_count == 3
    assert ix.get_items([1]).tolist() == [[9, 9]]
    labels, got = ix.knn_query([1, 1], 3)
    assert sorted(labels[0].tolist()) == [0, 1, 2]
    assert dict(zip(labels[0].tolist(), got[0].tolist(), strict=True)) == {0: 2, 1: 128, 2: 2}


def test_of_a_label_twice_in_a_batch_the_later_row_counts(make):
    ix = make(dim=2)
    ix.add_items([[1, 1], [2, 2], [3, 3], [4, 4]], [7, 8, 7, 7])
    assert sorted(ix.get_ids_list()) == [7, 8] and len(ix) == 2
    assert ix.get_items([7, 8]).tolist() == [[4, 4], [2, 2]]


def test_mark_and_unmark(make):
    ix = make(dim=2)
    ix.add_items([[0, 0], [1, 1], [2, 2], [3, 3]])
    ix.mark_deleted(1)
    ix.mark_deleted(np.uint64(3))
    assert (len(ix), ix.deleted_count, ix.element_count) == (2, 2, 4)
    assert 1 not in ix and 0 in ix
    assert sorted(ix.get_ids_list()) == [0, 1, 2, 3]
    assert sorted(ix.get_ids_list(include_deleted=False)) == [0, 2]
    assert ix.knn_query([1, 1], 2)[0].tolist() == [[0, 2]]
    assert ix.exact_query([3, 3], 2)[0].tolist() == [[2, 0]]
    ix.unmark_deleted(1)
    assert (len(ix), ix.deleted_count, ix.element_count) == (3, 1, 4)
    assert ix.knn_query([1, 1], 1)[0].tolist() == [[1]]
    ix.add_items([8, 8], 3)  # comes back with a new vector
    assert (len(ix), ix.deleted_count, ix.element_count) == (4, 0, 4)
    assert ix.get_items([3]).tolist() == [[8, 8]]


def test_get_items(make):
    ix = make(dim=3)
    ix.add_items(DATA, [10, 11, 12, 13])
    got = ix.get_items([13, 10, 13])
    assert got.dtype == np.float32 and got.flags.owndata
    np.testing.assert_array_equal(got, DATA[[3, 0, 3]])
    nearest = ix.knn_query(DATA[1:3], 1)[0]
    assert nearest.shape == (2, 1)
    np.testing.assert_array_equal(ix.get_items(nearest), DATA[1:3])
    assert ix.get_items([12], return_type="list") == [DATA[2].tolist()]
    assert ix.get_items([12], "list") == [DATA[2].tolist()]
    for nothing in (None, [], np.empty(0, np.uint64)):
        assert ix.get_items(nothing).shape == (0,)
        assert ix.get_items(nothing).dtype == np.float32
        assert ix.get_items(nothing, "list") == []


def test_in_and_truth(make):
    ix = make(dim=2)
    assert ix and not len(ix)  # an empty index is not None
    ix.add_items([1, 1], 3)
    assert 3 in ix and np.uint64(3) in ix
    for other in (4, -1, 2**64, "3", None, 3.0, [3]):
        assert other not in ix


def test_fewer_results_padded(make):
    ix = make(dim=2)
    ix.add_items([[0, 0], [1, 1], [2, 2]])
    ix.mark_deleted(1)
    for search in (ix.knn_query, ix.exact_query):
        labels, got = search([[0, 0], [2, 2]], 4, allow_fewer=True)
        assert labels.tolist() == [[0, 2, 2**64 - 1, 2**64 - 1], [2, 0, 2**64 - 1, 2**64 - 1]]
        assert got.tolist() == [[0, 8, np.inf, np.inf], [0, 8, np.inf, np.inf]]


def test_ef(make, path):
    ix = make(dim=8, M=4, ef_construction=20)
    assert ix.ef == 10
    ix.ef = 33
    assert ix.ef == 33
    ix.set_ef(np.int64(7))
    assert ix.ef == 7
    ix.add_items(vectors_of(range(50), 8))
    for ef in (0, 1, 50, 2**40):
        assert ix.knn_query(vectors_of([3], 8), 5, ef=ef)[0].shape == (1, 5)
        ix.ef = ef
        assert ix.knn_query(vectors_of([3], 8), 5)[0].shape == (1, 5)
    with navmap.open(path) as reader:
        assert reader.ef == 10


def test_larger_ef_finds_more(make, rng):
    n = 3000
    base = rng.standard_normal((n, 32)).astype(np.float32)
    queries = rng.standard_normal((100, 32)).astype(np.float32)
    ix = make("l2", 32, M=8, ef_construction=60)
    ix.add_items(base)
    truth = ix.exact_query(queries, 10)[0]
    assert (np.argsort(distances("l2", queries, base), 1)[:, :10] == truth).mean() > 0.999

    def recall(ef):
        found = ix.knn_query(queries, 10, ef=ef)[0]
        return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, truth, strict=True)])

    few, many = recall(10), recall(400)
    assert 0.3 < few < many
    assert many > 0.98


def test_parameters_and_facts(path):
    with navmap.create(
        path,
        "cosine",
        12,
        M=5,
        ef_construction=3,
        random_seed=7,
        max_elements=60,
        allow_replace_deleted=True,
    ) as ix:
        assert repr(ix) == "<navmap.Index(space='cosine', dim=12)>"
        assert (ix.space, ix.dim, ix.M, ix.ef_construction) == ("cosine", 12, 5, 5)
        assert (ix.max_elements, ix.element_count, ix.deleted_count) == (60, 0, 0)
        assert (ix.mode, ix.path, ix.closed) == ("r+", path, False)
    assert ix.closed
    assert repr(ix) == "<navmap.Index(space='cosine', dim=12)>"
    with navmap.open(path) as ix:
        assert (ix.space, ix.dim, ix.M, ix.ef_construction) == ("cosine", 12, 5, 5)
        assert (ix.max_elements, ix.mode) == (60, "r")
        stats = ix.stats()
        assert stats["random_seed"] == 7 and stats["allow_replace_deleted"] is True


def test_stats(make, path):
    ix = make("ip", 4, durability="manual")
    ix.add_items(vectors_of(range(10), 4))
    ix.flush()
    ix.mark_deleted(3)
    ix.flush()
    stats = ix.stats()
    for name, value in {
        "space": "ip", "dim": 4, "M": 16, "ef_construction": 200, "mode": "r+", "path": path,
        "durability": "manual", "allow_replace_deleted": False, "poisoned": False, "n_live": 9,
        "n_deleted": 1, "n_dead": 0, "max_elements": 0, "pending": 0, "inserted": 10,
        "writer_held": True, "writer_pid": os.getpid(), "random_seed": 100,
    }.items():  # fmt: skip
        assert stats[name] == value, name
    for name in ("data_file_bytes", "data_allocated_bytes", "lmdb_allocated_bytes", "vector_bytes"):
        assert stats[name] > 0, name
    assert stats["last_lsn"] >= stats["checkpoint_lsn"] > 0
    on_disk = sum(entry.stat().st_blocks * 512 for entry in os.scandir(path))
    assert stats["data_allocated_bytes"] + stats["lmdb_allocated_bytes"] <= on_disk < 2 << 20


def test_an_empty_index_is_small(make, path):
    make(dim=128).close()
    assert sum(entry.stat().st_blocks * 512 for entry in os.scandir(path)) < 1 << 20


def test_it_grows_by_itself(make):
    ix = make(dim=64, M=4, ef_construction=8)
    room = ix.max_elements
    n = room * 3
    ix.add_items(vectors_of(range(n), 64))
    assert len(ix) == n and ix.max_elements >= n
    assert ix.stats()["nchunks"] >= 3
    np.testing.assert_array_equal(ix.get_items([0, n - 1]), vectors_of([0, n - 1], 64))


def test_it_is_there_after_reopening(make, path, rng):
    base = rng.standard_normal((300, 16)).astype(np.float32)
    ix = make("l2", 16)
    ix.add_items(base, range(1000, 1300))
    ix.mark_deleted(1007)
    answer = ix.knn_query(base[:20], 5)
    ix.close()
    for mode in ("r", "r+", "r"):
        with navmap.open(path, mode) as again:
            assert len(again) == 299 and again.deleted_count == 1
            np.testing.assert_array_equal(again.knn_query(base[:20], 5), answer)
            ids = [label for label in range(1000, 1300) if label != 1007]
            np.testing.assert_array_equal(again.get_items(ids), base[np.array(ids) - 1000])
    with navmap.open(path, "r+") as again:
        again.unmark_deleted(1007)
        again.add_items(base[:1])
        assert sorted(again.get_ids_list()) == list(range(1000, 1301))


@pytest.mark.parametrize("kind", [str, os.fsencode, pathlib.Path])
def test_paths_of_every_kind(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with navmap.create(kind("näme"), "l2", 2) as ix:
        assert ix.path == str(tmp_path / "näme")
        monkeypatch.chdir("/")
        ix.add_items([1, 2])
    monkeypatch.chdir(tmp_path)
    with navmap.open(kind("näme")) as ix:
        monkeypatch.chdir("/")
        assert len(ix) == 1
    monkeypatch.chdir(tmp_path)
    assert navmap.verify(kind("näme")).sound


def test_manual_durability(make, path):
    ix = make(dim=4, durability="manual")
    reader = navmap.open(path)
    ix.add_items(vectors_of(range(5), 4))
    assert len(reader) == 0 and ix.stats()["pending"] == 5
    ix.flush()
    assert len(reader) == len(ix) == 5 and ix.stats()["pending"] == 0
    ix.add_items(vectors_of(range(5, 9), 4), range(5, 9))
    ix.close()
    assert len(reader) == 9
    reader.close()


def test_leaving_with_by_an_exception_keeps_what_was_added(path):
    with pytest.raises(ZeroDivisionError), navmap.create(path, "l2", 2, durability="manual") as ix:
        ix.add_items([1, 2])
        raise ZeroDivisionError
    assert ix.closed
    assert len(navmap.open(path)) == 1


def test_dropping_the_last_reference_closes(path):
    ix = navmap.create(path, "l2", 2, durability="manual")
    ix.add_items([1, 2])
    del ix
    gc.collect()
    with navmap.open(path, "r+") as ix:
        assert len(ix) == 1 and ix.stats()["wal_bytes"] == 0


EXITS = {
    "end of the program": "",
    "an exception": "raise SystemExit(0)",
    "in a cycle": "ring = [ix]; ring.append(ring)",
    "held by a module": "import json; json.index = ix",
    "held by a thread that never ends": (
        "import threading, time\n"
        "threading.Thread(target=lambda ix: time.sleep(600), args=(ix,), daemon=True).start()\n"
        "del ix"
    ),
}


@pytest.mark.parametrize("ending", EXITS.values(), ids=EXITS.keys())
def test_the_end_of_the_program_closes(path, ending):
    code = f"""
import sys, navmap
ix = navmap.create(sys.argv[1], "l2", 2, durability="manual")
ix.add_items([1, 2])
{ending}
"""
    command = [sys.executable, "-c", code, path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    with navmap.open(path, "r+") as ix:
        assert len(ix) == 1 and ix.stats()["wal_bytes"] == 0


def test_reader_and_writer_in_one_process(make, path):
    ix = make(dim=4)
    first, second = navmap.open(path), navmap.open(path)
    ix.add_items(vectors_of(range(20), 4))
    assert len(first) == len(second) == 20
    first.close()
    ix.mark_deleted(3)
    assert len(second) == 19
    ix.close()
    assert len(second) == 19
    second.close()


def test_checkpoint_bytes_bound_the_log(make, path):
    make(dim=32).close()
    with navmap.open(path, "r+", checkpoint_bytes=64 << 10) as ix:
        assert ix.stats()["checkpoint_bytes"] == 64 << 10
        for start in range(0, 400, 20):
            ix.add_items(vectors_of(range(start, start + 20), 32), range(start, start + 20))
        assert ix.stats()["wal_bytes"] < 256 << 10
        ix.flush()
        assert ix.stats()["wal_bytes"] == 0


def test_verify(make, path):
    ix = make(dim=4)
    ix.add_items(vectors_of(range(50), 4))
    beside = navmap.verify(path)
    ix.close()
    for report in (beside, navmap.verify(path), navmap.verify(path, quick=True)):
        assert report.sound and report.damaged == 0 and report.path == path
        assert not [finding for finding in report.findings if not finding.warning]
    report = navmap.verify(path)
    assert report.labels == report.reachable == 50 and not report.quick
