"""The measurements measure: their arithmetic, their data, and one small comparison from end to end.

Which library is faster is not looked at here, but that recall, interpolation and ratios are what
they are said to be, and that a library which is not there is named and left out.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

# Each library is measured in a process of its own, where the sanitizers' runtime is not loaded.
pytestmark = pytest.mark.skipif(
    "NAVMAP_SHORT" in os.environ, reason="a sanitizer's build is not what is measured"
)

BENCH = pathlib.Path(__file__).resolve().parents[2] / "tools" / "bench"

# tools/bench has modules with ordinary names: found while these are imported, and then no more.
sys.path.insert(0, str(BENCH))
try:
    import compare
    import datasets
    import memory_limit
    import sweep
finally:
    sys.path.remove(str(BENCH))


def written(folder: pathlib.Path, **arrays: np.ndarray) -> pathlib.Path:
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


# Data -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", datasets.SPACES)
def test_exact_neighbours(rng, space):
    base = rng.standard_normal((500, 12)).astype(np.float32)
    base[7] = 0  # has no direction
    queries = rng.standard_normal((20, 12)).astype(np.float32)
    x, q = base.astype(np.float64), queries.astype(np.float64)
    if space == "l2":
        far = ((q[:, None] - x[None]) ** 2).sum(axis=2)
    elif space == "ip":
        far = -(q @ x.T)
    else:
        norms = np.linalg.norm(x, axis=1)
        far = -(q @ x.T) / np.where(norms > 0, norms, 1)
    expected = np.argsort(far, axis=1, kind="stable")[:, :10]
    found = datasets.exact(base, queries, space, k=10, block=64)
    assert (found == expected).all()


def test_exact_neighbours_of_equal_vectors_come_by_id(rng):
    base = np.repeat(rng.integers(0, 9, (1, 8)).astype(np.float32), 50, axis=0)
    assert datasets.exact(base, base[:1], "l2", k=5).tolist() == [[0, 1, 2, 3, 4]]


def test_recall_counts_what_is_common():
    found = np.array([[1, 2, 3], [4, 5, 6]])
    truth = np.array([[3, 9, 1, 7], [6, 5, 4, 8]])
    assert datasets.recall(found, truth, 3) == pytest.approx(5 / 6)
    assert datasets.recall(found, truth, 1) == 0.0  # 1 is not the nearest, nor is 4


def test_data_comes_in_three_forms(rng, tmp_path):
    base = rng.standard_normal((300, 6)).astype(np.float32)
    queries = rng.standard_normal((10, 6)).astype(np.float32)
    plain = written(tmp_path / "plain", base=base, queries=queries)
    vecs = tmp_path / "vecs"
    vecs.mkdir()
    datasets.write_vecs(vecs / "x_base.fvecs", base)
    datasets.write_vecs(vecs / "x_query.fvecs", queries)
    paths = [plain, vecs]
    if importlib.util.find_spec("h5py"):
        import h5py

        with h5py.File(tmp_path / "x.hdf5", "w") as file:
            file["train"], file["test"] = base, queries
            file.attrs["distance"] = "euclidean"
        paths.append(tmp_path / "x.hdf5")
    expected = datasets.exact(base, queries, "l2")
    for path in paths:
        data = datasets.load(path, "l2", tmp_path / "cache")
        assert (np.load(data.base) == base).all()
        assert (np.load(data.queries) == queries).all()
        assert (np.load(data.truth) == expected).all()
        assert (data.count, data.dim, data.query_count) == (300, 6, 10)
    part = datasets.load(plain, "l2", tmp_path / "cache", items=100, queries=4)
    assert (np.load(part.truth) == datasets.exact(base[:100], queries[:4], "l2")).all()
    assert part.key() != datasets.load(plain, "l2", tmp_path / "cache").key()


def test_neighbours_by_another_space_are_refused(rng, tmp_path):
    base = (rng.standard_normal((300, 6)) * rng.uniform(0.1, 10, (300, 1))).astype(np.float32)
    queries = rng.standard_normal((10, 6)).astype(np.float32)
    truth = datasets.exact(base, queries, "l2")
    path = written(tmp_path / "set", base=base, queries=queries, truth=truth)
    datasets.load(path, "l2", tmp_path / "cache")
    with pytest.raises(SystemExit, match="are not those by ip"):
        datasets.load(path, "ip", tmp_path / "cache")


@pytest.mark.parametrize(("kind", "dim", "most"), [("image", 784, 255), ("sift", 128, 218)])
def test_made_sets_are_seeded_and_of_the_range(kind, dim, most):
    maker = datasets.MAKERS[kind][0]
    rows = maker(800, dim, 3)
    assert rows.dtype == np.float32
    assert (rows == maker(800, dim, 3)).all()
    assert (rows != maker(800, dim, 4)).any()
    assert rows.min() == 0
    assert most * 0.5 < rows.max() <= most
    assert (rows == np.rint(rows)).all()
    assert 0.1 < (rows == 0).mean() < 0.9


# Recall levels --------------------------------------------------------------------------------


class Fake:
    """Stands for a worker: recall is 1 - 1 / ef."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, do: str, *, k: int, ef: int, **_: object) -> dict[str, float]:
        assert do == "recall"
        self.asked.append(ef)
        return {"recall": 1 - 1 / ef}


def test_bracket_lies_close_around_a_level():
    fake = Fake()
    recalls = sweep.Recalls(None, "x")
    points = sweep.ladder(recalls, fake, 10, 0.999, {}, 4000)
    assert points[0] == (10, 0.9)
    assert points[-1][1] >= 0.999
    (low, less), (high, more) = sweep.bracket(recalls, fake, 10, points, 0.99, {})
    assert less < 0.99 <= more
    assert 90 <= low < 100 <= high <= 110
    assert sweep.bracket(recalls, fake, 10, points, 0.85, {}) == [(10, 0.9)]  # least ef is enough
    assert sweep.bracket(recalls, fake, 10, points, 0.99999, {}) == []  # out of reach
    assert len(fake.asked) == len(set(fake.asked))  # none is found twice


def test_recalls_are_kept(tmp_path):
    fake = Fake()
    for _ in range(2):
        recalls = sweep.Recalls(tmp_path / "recalls.json", "x")
        assert recalls.at(fake, 10, 20, {})["recall"] == 0.95
    assert fake.asked == [20]


def test_speed_at_a_level_is_interpolated():
    assert sweep.at_level([(0.94, 1000), (0.96, 4000)], 0.95) == pytest.approx(2000)  # of logs
    assert sweep.at_level([(0.94, 1000), (0.96, 4000)], 0.94) == pytest.approx(1000)
    assert sweep.at_level([(0.97, 500)], 0.95) == 500


def test_counts_at_a_level_are_interpolated():
    counts = {10: {"distances": 100.0, "rows": 5.0}, 20: {"distances": 400.0, "rows": 0.0}}
    told = sweep.counts_at_level([(10, 0.8), (20, 0.9)], 0.85, counts.get)
    assert told == {"distances": pytest.approx(200), "ef": 20}
    assert sweep.counts_at_level([(10, 0.8)], 0.7, counts.get) == counts[10] | {"ef": 10}
    assert sweep.counts_at_level([(30, 0.8)], 0.7, counts.get) == {}


def test_ratios_are_of_pairs():
    told = sweep.ratios([2.0, 9.0, 4.0], [1.0, 3.0, 4.0])
    assert told["rounds"] == [2.0, 3.0, 1.0]
    assert (told["median"], told["min"], told["max"]) == (2.0, 1.0, 3.0)


# From end to end ------------------------------------------------------------------------------


def test_compare(rng, tmp_path, capsys):
    base = rng.standard_normal((2000, 16)).astype(np.float32)
    queries = rng.standard_normal((50, 16)).astype(np.float32)
    data = written(tmp_path / "made", base=base, queries=queries)
    peers = "navmap,hnswlib,flatnav"
    options = f"--data {data} --space l2 --peers {peers} --cache {tmp_path / 'cache'}"
    options += f" --out {tmp_path / 'out'} --rounds 2 --seconds 0.01 --levels 0.9,0.99 --k 10"
    options += " --modes batch,single --curves --M 8 --ef-construction 60"
    assert compare.main(["query", "open", "build", *options.split()]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    present = {"navmap"} | {x for x in ("hnswlib", "flatnav") if importlib.util.find_spec(x)}
    assert set(results["left_out"]) == {"navmap", "hnswlib", "flatnav"} - present
    assert set(results["build"]["1"]) == set(results["open"]) == present

    points = results["query"]["ladders"]["10"]["navmap"]
    assert [ef for ef, _ in points] == sorted({ef for ef, _ in points})
    assert points[-1][1] > 0.99
    assert len(results["query"]["levels"]) == 4  # two levels, two modes
    for entry in results["query"]["levels"]:
        assert set(entry["of"]) == present
        assert set(entry["ratios"]) == present - {"navmap"}
        for name, of in entry["of"].items():
            assert of["points"][-1]["recall"] >= entry["recall"]
            assert len(of["qps"]["rounds"]) == 2
            speeds = [point["qps"] for point in of["points"]]
            assert of["qps"]["median"] > 0
            assert min(speeds) > 0
            if name != "navmap":
                ours = entry["of"]["navmap"]["qps"]["rounds"]
                pairs = [a / b for a, b in zip(ours, of["qps"]["rounds"], strict=True)]
                assert entry["ratios"][name]["rounds"] == pytest.approx(pairs)
    saved = results["open"]["navmap"]
    assert saved["bytes_on_disk"] >= base.nbytes
    for told in results["open"].values():
        assert told["memory_grown"] >= base.nbytes / 4  # at the least codes of what was searched
    assert 0 < saved["seconds"] <= saved["with_first_answer"]

    text = (tmp_path / "out" / "tables.md").read_text()
    assert "Queries a second at equal recall@10: single calls, 1 thread" in text
    assert capsys.readouterr().out.strip() == text.strip()
    if importlib.util.find_spec("matplotlib"):
        assert (tmp_path / "out" / "recall-k10.png").read_bytes()[:4] == b"\x89PNG"


def test_compare_again_builds_nothing(rng, tmp_path, capfd):
    base = rng.standard_normal((500, 8)).astype(np.float32)
    data = written(tmp_path / "made", base=base, queries=base[:20])
    options = f"index --data {data} --space cosine --peers navmap --cache {tmp_path / 'cache'}"
    for number in range(2):
        assert compare.main([*options.split(), "--out", str(tmp_path / "out")]) == 0
        assert ("building" in capfd.readouterr().err) == (number == 0)


def test_list_names_every_library(capsys):
    assert compare.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] == "navmap"
    assert lines[0].split()[1] != "-"
    assert len(lines) > 10


def test_memory_limit(rng, tmp_path):
    import navmap

    base = rng.standard_normal((20_000, 64)).astype(np.float32)
    index = navmap.Index("l2", 64)
    index.init_index(len(base), M=4, ef_construction=20)
    index.add_items(base)
    index.save_index(str(tmp_path / "index"))
    np.save(tmp_path / "queries.npy", base[:200])
    command = [sys.executable, str(BENCH / "memory_limit.py"), str(tmp_path / "index")]
    command += ["--queries", str(tmp_path / "queries.npy"), "--factor", "1.01", "--ef", "10"]
    command += ["--warm", "5", "--count", "5", "--seconds", "1"]
    told = subprocess.run(
        [*command, "--json", str(tmp_path / "told.json")], capture_output=True, text=True
    )
    if told.returncode == memory_limit.SKIPPED:
        pytest.skip(told.stdout.strip())
    assert told.returncode == 0, told.stderr
    report = json.loads((tmp_path / "told.json").read_text())
    limited = report["limited"]
    assert limited["limit_bytes"] < limited["index_bytes"]
    assert limited["each_query"]["waits"] >= limited["each_query"]["faults"]
    assert report["unlimited"]["each_query"]["faults"] <= limited["each_query"]["faults"]


def test_turnovers(rng, tmp_path):
    vectors = rng.standard_normal((600, 16)).astype(np.float32)
    data = written(tmp_path / "data", base=vectors, queries=vectors[:50] + 0.01, truth=vectors[:0])
    command = [sys.executable, str(BENCH / "turnovers.py"), "update", "replace", "--data", str(data)]
    command += ["--items", "500", "--turnovers", "2", "--batch", "100", "--efs", "100"]
    command += ["--rounds", "1", "--peers", "navmap", "--json", str(tmp_path / "told.json")]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    rows = json.loads((tmp_path / "told.json").read_text())["rows"]
    assert [row["kind"] for row in rows] == ["update", "replace"]
    for line in (line for row in rows for line in row["lines"]):
        assert line["100"]["recall"] > 0.97
        assert line["100"]["short"] == line["unreachable"] == 0
