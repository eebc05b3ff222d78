"""navmap import, export, query and save: every format in, and what comes out."""

import os
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

import navmap
from cli import COMMAND, needed, refused, report, run
from foreign import faiss_flat, faiss_hnsw, usearch

pytestmark = needed

DIM = 12
ITEMS = 400


@pytest.fixture
def vectors(rng):
    return rng.standard_normal((ITEMS, DIM), dtype=np.float32)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stored(path):
    """{label: vector} of what is live in an index or a saved file."""
    if os.path.isdir(path):
        index = navmap.open(path)
    else:
        stats = report("info", path)["parameters"]
        index = navmap.Index(stats["space"], stats["dim"])
        index.load_index(str(path))
    with index:
        labels = index.get_ids_list(include_deleted=False)
        return dict(zip(labels, index.get_items(labels), strict=True)) if labels else {}


def same(found, labels, vectors):
    assert sorted(found) == sorted(labels)
    for label, vector in zip(labels, vectors, strict=True):
        np.testing.assert_allclose(found[label], vector, rtol=1e-6)


# --- import: formats ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["<f4", "<f2", "<f8", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2"])
def test_npy(here, vectors, kind):
    matrix = np.abs(vectors * 30).astype(kind) if "u" in kind else (vectors * 30).astype(kind)
    np.save("v.npy", matrix)
    found = report("import", "--space=l2", "v.npy", "i")
    assert found["created"] and found["format"] == "npy" and found["added"] == ITEMS
    same(stored("i"), range(ITEMS), matrix.astype(np.float32))
    assert report("verify", "i")["verdict"] == "sound"


def test_npy_of_one_vector(here, vectors):
    np.save("v.npy", vectors[0])
    assert report("import", "-s", "l2", "v.npy", "i")["live"] == 1
    np.save("w.npy", vectors[:1].T.copy().T)  # in Fortran order, which is the same
    report("import", "w.npy", "i")
    same(stored("i"), range(2), vectors[[0, 0]])


def vecs(vectors, kind):
    length = np.full((len(vectors), 1), vectors.shape[1], np.int32).view(np.uint8)
    return np.hstack([length, vectors.astype(kind).view(np.uint8)]).tobytes()


@pytest.mark.parametrize("name, kind", [("f", np.float32), ("b", np.uint8), ("i", np.int32)])
def test_vecs(here, vectors, name, kind):
    matrix = np.abs(vectors * 50).astype(kind)
    Path(f"v.{name}vecs").write_bytes(vecs(matrix, kind))
    assert report("import", "--space=l2", f"v.{name}vecs", "i")["format"] == f"{name}vecs"
    same(stored("i"), range(ITEMS), matrix.astype(np.float32))


def test_hnswlib(here, vectors):
    """Out and in again, with what is deleted; as of another library see test_hnswlib_itself."""
    np.save("v.npy", vectors)
    run("import", "--space=l2", "--M=9", "--ef-construction=77", "v.npy", "i")
    with navmap.open("i", "r+") as index:
        for label in (3, 4, 100):
            index.mark_deleted(label)
    assert report("export", "i", "v.bin")["items"] == ITEMS
    assert "--space" in refused("import", "v.bin", "j")
    found = report("import", "--space=l2", "v.bin", "j")
    assert (found["added"], found["deleted"], found["live"]) == (ITEMS, 3, ITEMS - 3)
    parameters = report("info", "j")["parameters"]
    assert (parameters["M"], parameters["ef_construction"]) == (9, 77)
    left = [label for label in range(ITEMS) if label not in (3, 4, 100)]
    same(stored("j"), left, vectors[left])
    with navmap.open("j", "r+") as index:
        index.unmark_deleted(100)
        np.testing.assert_array_equal(index.get_items([100])[0], vectors[100])
    assert report("import", "v.bin", "i")["live"] == ITEMS - 3  # the space is the index's


def test_of_an_index(here, vectors):
    """A directory, and the file that save makes of it: the backup comes back."""
    np.save("v.npy", vectors)
    np.save("l.npy", np.arange(ITEMS)[::-1] * 7)
    run("import", "--space=ip", "--labels=l.npy", "-M", "5", "--codes=none", "v.npy", "i")
    with navmap.open("i", "r+") as index:
        index.mark_deleted(7)
    saved = report("save", "i", "s.navmap")
    assert saved["live"] == ITEMS - 1 and saved["deleted"] == 1
    assert saved["bytes"] == os.path.getsize("s.navmap")
    for source in ("i", "s.navmap"):
        found = report("import", source, f"from-{source}")
        assert found["live"] == ITEMS - 1
        same(stored(f"from-{source}"), list(stored("i")), list(stored("i").values()))
        parameters = report("info", f"from-{source}")["parameters"]
        assert (parameters["M"], parameters["codes"]) == (5, "none")
    assert report("info", "from-s.navmap")["counts"]["deleted"] == 1
    assert report("info", "from-i")["counts"]["deleted"] == 0


def test_faiss(here, vectors):
    Path("h.faiss").write_bytes(faiss_hnsw(vectors, 11, 66))
    run("import", "h.faiss", "i")
    parameters = report("info", "i")["parameters"]
    assert (parameters["space"], parameters["M"]) == ("l2", 11)
    assert parameters["ef_construction"] == 66
    same(stored("i"), range(ITEMS), vectors)
    flat, head = faiss_flat(vectors, 0)
    labels = np.arange(ITEMS) * 5 + 2
    Path("m").write_bytes(b"IxMp" + head + flat + struct.pack("<Q", ITEMS) + labels.tobytes())
    run("import", "m", "j")
    assert report("info", "j")["parameters"]["space"] == "ip"
    same(stored("j"), labels.tolist(), vectors)
    Path("p").write_bytes(b"IwPQ" + head)
    assert "format" in refused("import", "p", "k")
    assert "IwPQ" in refused("import", "--format=faiss", "p", "k")


def test_usearch(here, vectors):
    labels = [label if label % 50 else 2**64 - 1 for label in range(1, ITEMS + 1)]
    Path("v.usearch").write_bytes(usearch(vectors, labels))
    left = [i for i, label in enumerate(labels) if label < 2**63]
    assert report("import", "-s", "l2", "v.usearch", "i")["added"] == len(left)
    same(stored("i"), [labels[i] for i in left], vectors[left])
    half = vectors.astype(np.float16)
    Path("h.usearch").write_bytes(usearch(half, range(ITEMS), 12, b"e"))
    run("import", "h.usearch", "j")
    assert report("info", "j")["parameters"]["space"] == "l2"
    same(stored("j"), range(ITEMS), half.astype(np.float32))
    Path("q.usearch").write_bytes(usearch(vectors, range(ITEMS), 23))
    assert "kind 23" in refused("import", "q.usearch", "k")


def test_faiss_itself(here, vectors):
    faiss = pytest.importorskip("faiss")
    index = faiss.IndexHNSWFlat(DIM, 7)
    index.hnsw.efConstruction = 33
    index.add(vectors)
    faiss.write_index(index, "v.faiss")
    run("import", "v.faiss", "i")
    parameters = report("info", "i")["parameters"]
    assert (parameters["M"], parameters["ef_construction"]) == (7, 33)
    same(stored("i"), range(ITEMS), vectors)
    mapped = faiss.IndexIDMap(faiss.IndexFlatIP(DIM))
    mapped.add_with_ids(vectors, np.arange(ITEMS) + 9)
    faiss.write_index(mapped, "m.faiss")
    run("import", "m.faiss", "j")
    same(stored("j"), range(9, 9 + ITEMS), vectors)


def test_usearch_itself(here, vectors):
    module = pytest.importorskip("usearch.index")
    index = module.Index(ndim=DIM, metric="l2sq", dtype="f32")
    index.add(np.arange(ITEMS) + 5, vectors)
    index.remove(6)
    index.save("v.usearch")
    run("import", "v.usearch", "i")
    left = [i for i in range(ITEMS) if i != 1]
    same(stored("i"), [i + 5 for i in left], vectors[left])


def test_hnswlib_itself(here, vectors):
    """hnswlib's file in: the same neighbours and distances as hnswlib has; and out again."""
    hnswlib = pytest.importorskip("hnswlib")
    theirs = hnswlib.Index("cosine", DIM)
    theirs.init_index(ITEMS + 10, M=8, ef_construction=60)
    theirs.add_items(vectors, np.arange(ITEMS) * 3)
    theirs.set_ef(50)
    theirs.save_index("v.bin")
    queries = np.random.default_rng(1).standard_normal((100, DIM), dtype=np.float32)
    np.save("q.npy", queries)
    labels, distances = theirs.knn_query(queries, 5)
    run("query", "-s", "cosine", "--ef=50", "-k", "5", "-o", "r.npy", "v.bin", "q.npy")
    np.testing.assert_array_equal(np.load("r.npy"), labels)
    np.testing.assert_allclose(np.load("r.distances.npy"), distances, atol=2e-6)
    run("import", "--space=cosine", "v.bin", "i")
    run("export", "i", "again.bin")
    again = hnswlib.Index("cosine", DIM)
    again.load_index("again.bin")
    again.set_ef(50)
    with navmap.open("i") as ours:
        expected = ours.knn_query(queries, 5, ef=50)
    found = again.knn_query(queries, 5)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], atol=2e-6)


HDF5 = Path(__file__).with_name("golden") / "ann-benchmarks.hdf5"


def test_hdf5(here):
    """A file that h5py 3 wrote: train = sin(0..479) in rows of 8, test = rows 3, 5 and 7 of it, and
    the attribute distance = "angular"."""
    done = run("import", "--dataset=nothing", HDF5, "i", code=2)
    if "built without HDF5" in done.stderr:
        pytest.skip("this navmap was built without HDF5")
    assert "no data set 'nothing'" in done.stderr
    assert report("import", HDF5, "i")["added"] == 60
    assert report("info", "i")["parameters"]["space"] == "cosine"
    numbers = np.arange(60 * 8, dtype=np.float32).reshape(60, 8)
    run("import", "-s", "l2", HDF5, "j")
    same(stored("j"), range(60), np.sin(numbers))
    lines = run("query", "-k", "2", "j", HDF5).stdout.splitlines()
    assert [line.split()[:2] for line in lines[::2]] == [["0", "3"], ["1", "5"], ["2", "7"]]
    Path("cut.hdf5").write_bytes(HDF5.read_bytes()[:1500])
    assert "cut.hdf5" in refused("import", "cut.hdf5", "k")


# --- import: options and what may go wrong ------------------------------------------------------


def test_parameters(here, vectors):
    np.save("v.npy", vectors)
    run(
        "import", "--space=cosine", "--M=6", "--ef-construction=50", "--codes=none", "--seed=9",
        "--max-elements=900", "--replace-deleted", "--first=10", "--count=100", "--threads=1",
        "v.npy", "i",
    )  # fmt: skip
    found = report("info", "i")
    assert found["parameters"] == {
        "space": "cosine", "dim": DIM, "M": 6, "ef_construction": 50, "codes": "none",
        "dtype": "f32", "random_seed": 9,
        "allow_replace_deleted": True, "max_elements": 900, "flat": False,
    }  # fmt: skip
    assert found["counts"]["live"] == 100
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    same(stored("i"), range(100), unit[10:110])


def test_into_an_index(here, vectors):
    """Labels go on after the largest; a label that is there gets the new vector."""
    np.save("v.npy", vectors)
    Path("l.txt").write_text("".join(f"{i + 350}\n" for i in range(ITEMS)))
    run("import", "--space=l2", "v.npy", "i")
    assert report("import", "--labels=l.txt", "v.npy", "i")["created"] is False
    assert report("info", "i")["counts"]["live"] == 350 + ITEMS
    found = stored("i")
    np.testing.assert_array_equal(found[350], vectors[0])
    assert report("import", "v.npy", "i")["live"] == 350 + 2 * ITEMS
    assert report("info", "i")["parameters"]["codes"] == "i8"
    for wrong in (("--space=ip",), ("--M=5",), ("--ef-construction=5",), ("--codes=none",)):
        refused("import", *wrong, "v.npy", "i")
    np.save("w.npy", vectors[:, :5])
    assert "dimensions" in refused("import", "w.npy", "i")
    assert stored("i").keys() == found.keys() | set(range(350 + ITEMS, 350 + 2 * ITEMS))


@pytest.mark.parametrize("content", ["1\n2\n", "1\n" * 3 + "x\n", "-1\n" * 4, "1.5\n" * 4])
def test_wrong_labels(here, vectors, content):
    np.save("v.npy", vectors[:4])
    Path("l.txt").write_text(content)
    assert "l.txt" in refused("import", "-s", "l2", "--labels=l.txt", "v.npy", "i")
    np.save("l.npy", np.array([1, 2, 3, -4]))
    assert "row 3" in refused("import", "-s", "l2", "--labels=l.npy", "v.npy", "i")
    np.save("l.npy", np.array([1.0, 2, 3, 4]))
    assert "whole numbers" in refused("import", "-s", "l2", "--labels=l.npy", "v.npy", "i")
    assert not os.path.exists("i")


def test_nothing_is_made(here, vectors):
    """What cannot be imported leaves neither an index nor a part of one."""
    vectors[300, 7] = np.nan
    np.save("v.npy", vectors)
    assert "row 300" in refused("import", "--space=l2", "v.npy", "i")
    assert "--space" in refused("import", "v.npy", "i")
    refused("import", "--space=l2", "nothing.npy", "i")
    refused("import", "--space=l2", "v.npy", "no/such/parent")
    assert os.listdir() == ["v.npy"]
    os.makedirs("i.partial/index")
    Path("i.partial/index/mine").write_text("not an index's")
    np.save("v.npy", vectors[:50])
    assert "mine" in refused("import", "--space=l2", "v.npy", "i")
    os.rename("i.partial/index/mine", "i.partial/mine")
    assert "mine" in refused("import", "--space=l2", "v.npy", "i")
    os.remove("i.partial/mine")
    Path("i.partial/index/LOCK").touch()
    run("import", "--space=l2", "v.npy", "i")
    assert sorted(os.listdir()) == ["i", "v.npy"]


def test_names_are_no_formats(here, vectors):
    Path("v.dat").write_bytes(vecs(vectors, np.float32))
    assert "--format" in refused("import", "--space=l2", "v.dat", "i")
    run("import", "--format=fvecs", "--space=l2", "v.dat", "i")
    np.save("w.npy", vectors)
    os.rename("w.npy", "w.dat")
    run("import", "w.dat", "i")
    assert "none of" in refused("import", "--format=csv", "w.dat", "i")


def samples(vectors):
    """A small file of each format, and the words that make navmap read it."""
    few = np.ascontiguousarray(vectors[:9])
    np.save("v.npy", few)
    run("import", "--space=l2", "v.npy", "made")
    run("save", "made", "v.navmap")
    run("export", "made", "v.bin")
    Path("v.fvecs").write_bytes(vecs(few, np.float32))
    Path("v.faiss").write_bytes(faiss_hnsw(few, 4, 20))
    Path("v.usearch").write_bytes(usearch(few, range(9)))
    return ["v.npy", "v.fvecs", "v.faiss", "v.usearch", "v.bin", "v.navmap"]


def test_hostile(here, vectors, rng, short):
    """Cut anywhere, and with bytes changed anywhere: a sentence or rows, never a signal."""
    names = samples(vectors)
    for name in names:
        whole = Path(name).read_bytes()
        suffix = name.partition(".")[2]
        forced = f"--format={suffix.replace('bin', 'hnswlib')}"
        for cut in [0, 1, *rng.integers(0, min(len(whole), 20_000), 4 if short else 8).tolist()]:
            Path("cut").write_bytes(whole[:cut])
            if not (suffix == "fvecs" and cut % (4 + 4 * DIM) == 0 and cut):
                refused("query", forced, "-s", "l2", "made", "cut")
        for _ in range(4 if short else 25):
            broken = bytearray(whole)
            for at in rng.integers(0, min(len(whole), 400), 2):
                broken[at] = rng.integers(0, 256)
            Path("broken").write_bytes(broken)
            done = subprocess.run(
                [COMMAND, "query", "-s", "l2", forced, "made", "broken"],
                capture_output=True,
                timeout=60,
            )
            assert done.returncode in (0, 2), done.stderr


# --- export -------------------------------------------------------------------------------------


def test_export(here, vectors):
    np.save("v.npy", vectors)
    np.save("l.npy", np.arange(ITEMS) * 2 + 1)
    run("import", "--space=l2", "--labels=l.npy", "v.npy", "i")
    with navmap.open("i", "r+") as index:
        index.mark_deleted(5)
        found = report("export", "i", "out.npy")  # beside a writer
    assert found["items"] == ITEMS - 1
    assert (found["vectors"], found["labels"]) == ("out.npy", "out.labels.npy")
    labels, rows = np.load("out.labels.npy"), np.load("out.npy")
    assert labels.dtype == np.uint64 and rows.dtype == np.float32
    assert rows.shape == (ITEMS - 1, DIM) and 5 not in labels
    np.testing.assert_array_equal(rows, vectors[(labels - 1) // 2])
    run("import", "--space=l2", "--labels=out.labels.npy", "out.npy", "j")
    same(stored("j"), list(stored("i")), list(stored("i").values()))
    run("export", "--labels=names.npy", "i", "other")
    np.testing.assert_array_equal(np.load("names.npy"), labels)
    refused("export", "--labels=x.npy", "i", "x.npy")
    refused("export", "i", "no/such/parent.npy")
    os.mkdir("d")
    refused("export", "i", "d")
    refused("export", "--format=hnswlib", "i", "d")
    refused("export", "--format=hnswlib", "--labels=x", "i", "x.bin")
    assert not [name for name in os.listdir() if "tmp" in name]


def test_export_of_nothing(here):
    navmap.create("e", "l2", DIM).close()
    run("export", "e", "out.npy")
    assert np.load("out.npy").shape == (0, DIM) and np.load("out.labels.npy").shape == (0,)
    run("export", "e", "e.bin")
    index = navmap.Index("l2", DIM)
    index.load_index("e.bin")
    assert index.get_current_count() == 0


def test_hnswlib_export_beside_a_writer(here, make):
    index = make(dim=DIM)
    index.add_items(np.ones((1, DIM), np.float32))
    assert str(os.getpid()) in refused("export", index.path, "x.bin")
    assert str(os.getpid()) in refused("save", index.path, "x.navmap")
    assert not os.path.exists("x.bin")


# --- query --------------------------------------------------------------------------------------


def test_query(here, vectors, rng):
    np.save("v.npy", vectors)
    queries = rng.standard_normal((300, DIM), dtype=np.float32)
    np.save("q.npy", queries)
    run("import", "--space=l2", "v.npy", "i")
    with navmap.open("i") as index:
        labels, distances = index.knn_query(queries, k=4, ef=30)
        exact = index.exact_query(queries, k=4)
    run("save", "i", "s.navmap")
    for path in ("i", "s.navmap"):
        found = report("query", "-k", "4", "--ef=30", path, "q.npy")["queries"]
        assert [row["labels"] for row in found] == labels.tolist()
        np.testing.assert_allclose([row["distances"] for row in found], distances)
    text = run("query", "-k", "4", "-x", "i", "q.npy").stdout
    rows = np.array([line.split() for line in text.splitlines()], dtype=np.float64)
    np.testing.assert_array_equal(rows[:, 0], np.repeat(np.arange(300), 4))
    np.testing.assert_array_equal(rows[:, 1], exact[0].ravel())
    np.testing.assert_allclose(rows[:, 2], exact[1].ravel(), rtol=1e-7)
    run("query", "-k", "4", "--ef=30", "--count=7", "-o", "r.npy", "i", "q.npy")
    np.testing.assert_array_equal(np.load("r.npy"), labels[:7])
    np.testing.assert_array_equal(np.load("r.distances.npy"), distances[:7])


def test_query_of_text(here, vectors):
    np.save("v.npy", vectors)
    run("import", "--space=l2", "v.npy", "i")
    line = " ".join(str(x) for x in vectors[17])
    assert run("query", "-k", "1", "i", text=line).stdout.split()[:2] == ["0", "17"]
    both = line + "\n\n[" + ", ".join(str(x) for x in vectors[18]) + "]\n"
    assert [row["labels"] for row in report("query", "-k", "1", "i", "-", text=both)["queries"]] == [
        [17],
        [18],
    ]
    assert "line 2" in refused("query", "i", text=line + "\n1 2 3\n")
    assert "'x'" in refused("query", "i", text="x")
    assert "no vector" in refused("query", "i", text="\n")


def test_fewer(here, vectors):
    np.save("v.npy", vectors[:3])
    run("import", "--space=l2", "v.npy", "i")
    assert len(run("query", "-k", "5", "--count=1", "i", "v.npy").stdout.splitlines()) == 3
    run("query", "-k", "5", "-o", "r.npy", "i", "v.npy")
    assert np.load("r.npy")[:, 3:].tolist() == [[2**64 - 1] * 2] * 3
    assert np.isinf(np.load("r.distances.npy")[:, 3:]).all()
    np.save("w.npy", vectors[:, :4])
    assert "dimensions" in refused("query", "i", "w.npy")
