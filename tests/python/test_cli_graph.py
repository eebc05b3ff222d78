"""navmap import of sources that are indexes: their graph is kept, whole, or not taken at all."""

import os
from pathlib import Path

import numpy as np
import pytest

import navmap
from cli import needed, refused, report, run
from foreign import faiss_hnsw, usearch

pytestmark = needed

DIM = 16
ITEMS = 1500
QUERIES = 1000


@pytest.fixture
def vectors(rng):
    centres = rng.standard_normal((40, DIM))
    found = centres[rng.integers(0, 40, ITEMS)] + 0.5 * rng.standard_normal((ITEMS, DIM))
    return found.astype(np.float32)


@pytest.fixture
def queries(rng, vectors):
    return vectors[rng.integers(0, ITEMS, QUERIES)] + np.float32(0.1)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def opened(path, space="l2"):
    if os.path.isdir(path):
        return navmap.open(path)
    index = navmap.Index(space, DIM)
    index.load_index(path)
    return index


def answers(index, queries, ef=30):
    labels, distances = index.knn_query(queries, 10, ef=ef, num_threads=1)
    return labels.tolist(), distances.tolist()


def recall(index, queries):
    found, exact = index.knn_query(queries, 10, ef=60)[0], index.exact_query(queries, 10)[0]
    return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, exact, strict=True)])


def imported(*arguments):
    """Into a directory and into a sealed file, both checked."""
    for sealed in (False, True):
        target = "file" if sealed else "directory"
        told = report("import", *arguments, *(["--sealed"] if sealed else []), target)
        assert report("verify", target)["verdict"] == "sound"
        assert not [name for name in os.listdir() if ".partial" in name or ".tmp-" in name]
        yield target, told


@pytest.fixture
def original(vectors):
    """An index with deleted, replaced and updated items, as hnswlib would have it: no codes."""
    index = navmap.Index("l2", DIM)
    index.init_index(
        ITEMS + 50, M=7, ef_construction=70, codes=None, allow_replace_deleted=True
    )
    index.add_items(vectors, np.arange(ITEMS) * 3, num_threads=1)
    for label in range(0, ITEMS * 3, 21):
        index.mark_deleted(label)
    return index


def test_hnswlib(here, original, queries):
    """The same neighbours and distances for 1,000 queries."""
    original.save_index("v.navmap")
    run("export", "--format=hnswlib", "v.navmap", "v.bin")
    expected = answers(original, queries)
    for target, told in imported("--space=l2", "v.bin"):
        assert told["graph"] == "kept"
        assert (told["added"], told["deleted"]) == (ITEMS, len(range(0, ITEMS * 3, 21)))
        with opened(target) as index:
            assert answers(index, queries) == expected
            assert (index.M, index.ef_construction, index.stats()["codes"]) == (7, 70, None)
            assert index.deleted_count == told["deleted"]
            assert told["live"] == len(index)
    with navmap.open("directory", "r+") as index:
        assert index.stats()["max_elements"] == 0
        index.unmark_deleted(21)
        index.add_items(queries[:200])


def test_hnswlib_with_codes(here, original, queries):
    original.save_index("v.navmap")
    run("export", "--format=hnswlib", "v.navmap", "v.bin")
    for target, told in imported("--space=l2", "--codes=i8", "-m", "9999", "-r", "v.bin"):
        assert told["graph"] == "kept"
        with opened(target) as index:
            stats = index.stats()
            assert (stats["codes"], stats["max_elements"]) == ("i8", 9999)
            assert recall(index, queries) > 0.98
    with navmap.open("directory", "r+") as index:
        index.add_items(queries[:9], np.arange(9) + 10**6, replace_deleted=True)


@pytest.mark.parametrize("codes", ["i8", None])
def test_saved(here, vectors, queries, codes):
    index = navmap.Index("cosine", DIM)
    index.init_index(ITEMS, M=9, ef_construction=50, codes=codes)
    index.add_items(vectors)
    index.mark_deleted(4)
    index.save_index("v.navmap")
    expected = answers(index, queries)
    for target, told in imported("v.navmap"):
        assert told["graph"] == "kept"
        with opened(target, "cosine") as found:
            assert answers(found, queries) == expected
            assert (found.M, found.space, found.stats()["codes"]) == (9, "cosine", codes)


def test_faiss(here, vectors, queries):
    Path("v.faiss").write_bytes(faiss_hnsw(vectors, 8, 55))
    for target, told in imported("v.faiss"):
        assert (told["graph"], told["live"]) == ("kept", ITEMS)
        with opened(target) as index:
            assert (index.M, index.ef_construction, index.stats()["codes"]) == (8, 55, "i8")
            assert recall(index, queries) > 0.95
            np.testing.assert_array_equal(index.get_items([7, 8]), vectors[[7, 8]])


@pytest.mark.parametrize("slot", [15, 16])
@pytest.mark.parametrize("metric, space", [(b"e", "l2"), (b"c", "cosine")])
def test_usearch(here, vectors, queries, slot, metric, space):
    labels = np.arange(ITEMS) * 2 + 5
    Path("v.usearch").write_bytes(usearch(vectors, labels, metric=metric, m=6, slot=slot))
    for target, told in imported("v.usearch"):
        assert told["graph"] == "kept"
        with opened(target, space) as index:
            assert (index.M, index.space) == (6, space)
            assert sorted(index.get_ids_list()) == labels.tolist()
            assert recall(index, queries) > 0.9


def test_unreachable(here, vectors, rng):
    """A graph in which nearly nothing can be reached is taken, and mended."""
    to = rng.integers(0, ITEMS, ITEMS)

    def links(row, level):
        return [int(to[row])] if level == 0 and to[row] != row else []

    Path("v.faiss").write_bytes(faiss_hnsw(vectors, 4, 40, links))
    for target, told in imported("v.faiss"):
        assert told["graph"] == "kept"
        with opened(target) as index:
            report = index.check()
            assert report.sound  # no row names one twice
            assert report.reachable > 0.98 * ITEMS


def test_built_where_asked(here, original):
    """Whatever the source's graph cannot give is a reason to build one."""
    original.save_index("v.navmap")
    run("export", "--format=hnswlib", "v.navmap", "v.bin")
    Path("l").write_text("".join(f"{i}\n" for i in range(ITEMS)))
    asked = ["-M 12", "-e 90", "-R", "-F 3", "-n 70", "-l l", "-c 5", "-S 7"]
    for i, option in enumerate(asked):
        told = report("import", "-s", "l2", *option.split(), "v.bin", f"i{i}")
        assert told["graph"] == "built", option
    assert report("info", "i0")["parameters"]["M"] == 12
    assert report("import", "-s", "cosine", "v.navmap", "other")["graph"] == "built"
    assert report("import", "-s", "l2", "-M", "7", "-e", "70", "v.bin", "same")["graph"] == "kept"
    assert report("import", "v.bin", "i1")["graph"] == "built"  # more of an index that is there


def test_sealed_rows(here, vectors):
    """Rows of no index, into one file."""
    np.save("v.npy", vectors)
    told = report("import", "-s", "l2", "-z", "-M", "5", "-m", "2000", "v.npy", "file")
    assert (told["graph"], told["live"], told["created"]) == ("built", ITEMS, True)
    with opened("file") as index:
        assert (index.M, index.max_elements) == (5, 2000)
        np.testing.assert_array_equal(index.get_items([3]), vectors[[3]])
    assert "already" in refused("import", "-s", "l2", "-z", "v.npy", "file")
    vectors[9, 9] = np.inf
    np.save("v.npy", vectors)
    assert "row 9" in refused("import", "-s", "l2", "-z", "v.npy", "other")
    assert sorted(os.listdir()) == ["file", "v.npy"]


def test_links_that_cannot_be(here, vectors):
    """Of a graph that contradicts itself nothing is made, and it is said how to go on."""

    def links(row, level):
        return [row] if row == 77 and level == 0 else [(row + 4) % 400]

    Path("v.faiss").write_bytes(faiss_hnsw(vectors[:400], 4, 40, links))
    said = refused("import", "v.faiss", "i")
    assert "v.faiss: element 77, level 0" in said
    assert "--rebuild" in said
    refused("import", "--sealed", "v.faiss", "i")
    assert os.listdir() == ["v.faiss"]
    assert report("import", "--rebuild", "v.faiss", "i")["live"] == 400
