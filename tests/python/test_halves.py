"""dtype="f16": what is kept, what comes back, what is refused, and the room that it takes."""

import copy
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

import navmap
from cli import needed, refused, report, run

DIM = 13  # odd: the last half stands alone


def kept(vectors, space):
    if space == "cosine":
        sums = np.zeros(len(vectors), np.float32)
        for column in vectors.T:  # in the order of additions that the engine keeps
            sums += column * column
        vectors = vectors * (1 / (np.sqrt(sums) + np.float32(1e-30)))[:, np.newaxis]
    return vectors.astype(np.float16).astype(np.float32)


def far(space, query, vectors):
    query, vectors = query.astype(np.float64), vectors.astype(np.float64)
    if space == "cosine":
        query = query / np.linalg.norm(query)
    return ((vectors - query) ** 2).sum(axis=1) if space == "l2" else 1 - vectors @ query


@pytest.mark.parametrize("space", ["l2", "ip", "cosine"])
@pytest.mark.parametrize("codes", ["i8", None])
@pytest.mark.parametrize("form", ["directory", "private"])
def test_kept_and_found(path, rng, space, codes, form):
    vectors = rng.standard_normal((1500, DIM), dtype=np.float32)
    if form == "directory":
        index = navmap.create(path, space, DIM, codes=codes, dtype="f16")
    else:
        index = navmap.Index(space, DIM)
        index.init_index(1500, codes=codes, dtype="f16")
    with index:
        index.add_items(vectors[:700])
        index.add_items(vectors[700:])
        assert index.stats()["dtype"] == "f16"
        expected = kept(vectors, space)
        found = index.get_items(range(1500))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)
        queries = rng.standard_normal((40, DIM), dtype=np.float32)
        labels, distances = index.knn_query(queries, k=10, ef=200)
        exact, _ = index.exact_query(queries, k=10)
        assert (labels == exact).mean() > 0.99
        for query, row, distance in zip(queries, labels, distances, strict=True):
            np.testing.assert_allclose(distance, far(space, query, expected[row]), atol=2e-5)


def test_what_can_be_kept(make):
    index = make(dim=4, dtype="f16")
    index.add_items([[65504, -65504, 2**-24, -(2**-25) * 1.01]])
    np.testing.assert_array_equal(index.get_items([0])[0], [65504, -65504, 2**-24, -(2**-24)])
    with pytest.raises(navmap.InvalidInputError, match=r"row 1, column 2 is 65505;.*65504"):
        index.add_items([[1, 2, 3, 4], [1, 2, 65505, 4]])
    assert len(index) == 1
    index.knn_query([[1e30, 0, 0, 0]])  # a query is not kept
    make(at=index.path + "2", dim=4, space="cosine", dtype="f16").add_items([[1e6, 0, 0, 1]])


def test_refused(path):
    for wrong in ("f8", "float16", np.float16, None):
        with pytest.raises(navmap.InvalidInputError, match="dtype"):
            navmap.create(path, "l2", 4, dtype=wrong)
        with pytest.raises(navmap.InvalidInputError, match="dtype"):
            navmap.Index("l2", 4).init_index(1, dtype=wrong)
    assert not os.path.exists(path)


def test_files_and_copies(tmp_path, rng):
    index = navmap.Index("l2", DIM)
    index.init_index(500, dtype="f16")
    vectors = rng.standard_normal((500, DIM), dtype=np.float32)
    index.add_items(vectors)
    index.save_index(tmp_path / "saved")
    loaded = navmap.Index("l2", DIM)
    loaded.load_index(tmp_path / "saved", verify=True)
    for other in (loaded, copy.copy(index), pickle.loads(pickle.dumps(index))):
        assert other.stats()["dtype"] == "f16" and other.check().sound
        np.testing.assert_array_equal(other.get_items(range(500)), kept(vectors, "l2"))
    index.compact()
    index.compact(output=tmp_path / "other", M=8, directory=True)
    with navmap.open(tmp_path / "other") as other:
        np.testing.assert_array_equal(other.get_items(range(500)), kept(vectors, "l2"))


def test_read_by_the_page(path, rng):
    """tools/dump.py knows the format from FORMAT.md alone."""
    pytest.importorskip("lmdb")
    pytest.importorskip("xxhash")
    sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
    import dump

    vectors = rng.standard_normal((300, DIM), dtype=np.float32)
    with navmap.create(path, "ip", DIM, dtype="f16") as index:
        index.add_items(vectors)
        index.add_items(vectors[:50] * 2, range(50))
        index.save_index(path + ".file")
        expected = index.get_items(range(300))
    for where in (path, path + ".file"):
        found = dump.read(where)
        found.check()  # codes are those of the halves, too
        assert found.summary()["scalar"] == "f16"
        for label, (slot, _) in found.labels.items():
            np.testing.assert_array_equal(np.float32(found.item(slot)["vector"]), expected[label])


def bytes_on_disk(path):
    return os.stat(path).st_blocks * 512


@pytest.mark.parametrize(("dtype", "most"), [("f32", 890), ("f16", 635)])
def test_bytes_a_vector(tmp_path, rng, dtype, most, short):
    """M = 16, 128 dimensions, codes and labels and sums included.  (hnswlib: 657.)"""
    count = 4_000 if short else 20_000
    index = navmap.Index("l2", 128)
    index.init_index(count, M=16, ef_construction=16, dtype=dtype)
    index.add_items(rng.random((count, 128), dtype=np.float32))
    index.save_index(tmp_path / "saved")
    each = (bytes_on_disk(tmp_path / "saved") - 65536) / count  # 64 KiB are there once
    print(f"{dtype}: {each:.1f} bytes a vector")
    assert each <= most


@needed
def test_command_line(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    vectors = rng.standard_normal((200, DIM), dtype=np.float32)
    np.save("v.npy", vectors)
    run("import", "--space=l2", "--dtype=f16", "v.npy", "i")
    assert report("info", "i")["parameters"]["dtype"] == "f16"
    assert report("verify", "i")["verdict"] == "sound"
    run("export", "i", "out.npy")
    out = np.load("out.npy")
    assert out.dtype == np.float32
    # Threads that build side by side take slots in no set order.
    order = np.argsort(np.load("out.labels.npy"))
    np.testing.assert_array_equal(out[order], kept(vectors, "l2"))
    run("export", "--format=hnswlib", "i", "out.bin")
    run("import", "--space=l2", "out.bin", "j")
    assert report("info", "j")["parameters"]["dtype"] == "f32"
    with navmap.open("j") as index:
        np.testing.assert_array_equal(index.get_items(range(200)), kept(vectors, "l2"))
    run("import", "i", "k")  # as it is there, unless told
    run("import", "--dtype=f32", "i", "l")
    dtypes = [report("info", name)["parameters"]["dtype"] for name in "kl"]
    assert dtypes == ["f16", "f32"]
    assert "f16" in refused("import", "--dtype=f32", "v.npy", "i")
    assert "--dtype" in refused("import", "--space=l2", "--dtype=f64", "v.npy", "m")
    np.save("w.npy", vectors * 1e6)
    assert "65504" in refused("import", "--space=l2", "--dtype=f16", "w.npy", "m")
    assert not os.path.exists("m")
    run("salvage", "i", "n")
    assert report("info", "n")["parameters"]["dtype"] == "f16"
    with navmap.open("n") as index:
        np.testing.assert_array_equal(index.get_items(range(200)), kept(vectors, "l2"))
