"""add_items(reproducible=True): the same file from any number of threads and at every level."""

import os
import subprocess
import sys

import navmap
import numpy as np
import pytest

DIM = 30

CHILD = """
import hashlib, sys
import navmap, numpy as np
index = navmap.Index("cosine", 30)
index.init_index(5000, M=8, ef_construction=60, random_seed=7)
vectors = np.random.default_rng(3).standard_normal((4000, 30)).astype(np.float32)
index.add_items(vectors, num_threads=int(sys.argv[1]), reproducible=True)
labels, distances = index.knn_query(vectors[:500], k=10, ef=10)
print(navmap.simd(), hashlib.sha256(labels.tobytes()).hexdigest())
"""


def levels():
    names = ["scalar"]
    for name in ("avx2", "avx512", "neon"):
        run = subprocess.run(
            [sys.executable, "-c", "import navmap; navmap.Index('l2', 2).init_index(1)"],
            env=os.environ | {"NAVMAP_SIMD": name},
            capture_output=True,
            check=False,
        )
        if run.returncode == 0:
            names.append(name)
    return names


def test_every_level_and_number_of_threads():
    found = set()
    for level in levels():
        for threads in ("1", "2", "5"):
            run = subprocess.run(
                [sys.executable, "-c", CHILD, threads],
                env=os.environ | {"NAVMAP_SIMD": level},
                capture_output=True,
                text=True,
                check=True,
            )
            name, answer = run.stdout.split()
            assert name == level
            found.add(answer)
    assert len(found) == 1


def test_recall_is_that_of_the_usual_way(rng):
    vectors = rng.standard_normal((5000, DIM)).astype(np.float32)
    recalls = []
    for reproducible in (False, True):
        index = navmap.Index("l2", DIM)
        index.init_index(5000, M=8, ef_construction=80)
        index.add_items(vectors, num_threads=2, reproducible=reproducible)
        queries = rng.standard_normal((500, DIM)).astype(np.float32)
        truth = index.exact_query(queries, k=10)[0]
        labels = index.knn_query(queries, k=10, ef=60)[0]
        recalls.append(np.mean([np.isin(a, b).mean() for a, b in zip(labels, truth, strict=True)]))
    assert recalls[1] > recalls[0] - 0.02


@pytest.mark.parametrize("wrong", ["yes", [1]])
def test_refused(wrong):
    index = navmap.Index("l2", 2)
    index.init_index(5)
    with pytest.raises(TypeError):
        index.add_items([[1, 2]], reproducible=wrong)
    assert len(index) == 0
