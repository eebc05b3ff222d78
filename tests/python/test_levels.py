"""Every set of instructions answers alike: graphs of rows of every width, codes of every length."""

import os
import subprocess
import sys

import pytest

LEVELS = ("scalar", "avx2", "avx512", "avx512vnni", "neon")

# Shapes: M below, at and between the widths at which rows are read; codes of one line, of two with
# their scale and norm (100, 120) and without (121, 128), of more.  Both walks: the one over the map,
# and, where the index is a directory, the writer's over what is staged.
CHILD = """
import hashlib, sys, tempfile
import navmap, numpy as np

def told(index, queries, space):
    for ef in (10, 70, 400):
        yield from index.knn_query(queries, k=10, ef=ef)
        if space != "ip":
            yield from index.knn_query(queries, k=5, ef=ef, stop=0.1)
    yield from index.knn_query(queries[:20], k=3, ef=2500)

print(navmap.simd())
for dim, M, space in ((3, 2, "l2"), (20, 5, "ip"), (56, 6, "cosine"), (100, 16, "cosine"),
                      (120, 13, "l2"), (121, 16, "l2"), (128, 9, "cosine"), (200, 40, "l2"),
                      (784, 16, "l2")):
    rng = np.random.default_rng(dim)
    near = rng.standard_normal((40, dim))
    vectors = (near[rng.integers(0, 40, 3000)] + rng.standard_normal((3000, dim)) / 3)
    vectors = vectors.astype(np.float32)
    vectors[1000:1040] = vectors[7]  # of which all are as near
    queries = vectors[:60] + np.float32(0.01)
    index = navmap.Index(space, dim)
    index.init_index(3000, M=M, ef_construction=50, random_seed=3)
    index.add_items(vectors, num_threads=1)
    all = hashlib.sha256()
    for part in told(index, queries, space):
        all.update(part.tobytes())
    for label in range(0, 3000, 7):
        index.mark_deleted(label)
    for part in index.knn_query(queries, k=10, ef=60):
        all.update(part.tobytes())
    with tempfile.TemporaryDirectory() as folder:
        with navmap.create(folder + "/i", space, dim, M=M, ef_construction=50,
                           random_seed=3) as index:
            for begin in range(0, 1500, 250):
                index.add_items(vectors[begin : begin + 250], num_threads=1)
            for part in told(index, queries, space):
                all.update(part.tobytes())
    print(dim, M, space, all.hexdigest())
"""


def answers(level):
    run = subprocess.run(
        [sys.executable, "-c", CHILD],
        env=os.environ | {"NAVMAP_SIMD": level},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0 and "NAVMAP_SIMD" in run.stderr:
        return None
    assert run.returncode == 0, run.stderr
    first, *lines = run.stdout.splitlines()
    assert first == level
    return lines


@pytest.fixture(scope="module")
def scalar():
    return answers("scalar")


@pytest.mark.parametrize("level", LEVELS[1:])
def test_level(level, scalar):
    found = answers(level)
    if found is None:
        pytest.skip(f"this processor has no {level}")
    assert found == scalar
