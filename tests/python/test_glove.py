"""Recall on real word vectors: those shipped for the demo, and glove-100 where it is.

NAVMAP_GLOVE names a directory with base.npy and queries.npy (float32, 100 columns).
"""

import os
from pathlib import Path

import numpy as np
import pytest

import navmap

WORDS = Path(__file__).parents[2] / "tools" / "data" / "words-20k.npz"


def truth_of(base, queries, k):
    """Exact neighbours by cosine, with numpy."""
    base = base / np.linalg.norm(base, axis=1, keepdims=True)
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    return np.argsort(-(queries @ base.T), axis=1, kind="stable")[:, :k]


def recall(found, truth):
    k = truth.shape[1]
    return np.mean([len(set(a) & set(b)) / k for a, b in zip(found.tolist(), truth.tolist())])


def check(path, base, queries, floors):
    truth = truth_of(base, queries, 10)
    with navmap.create(path, "cosine", base.shape[1], M=16, ef_construction=200) as ix:
        ix.add_items(base)
    with navmap.open(path) as ix:
        assert recall(ix.exact_query(queries, 10)[0], truth) > 0.998  # ties and rounding
        for ef, floor in floors.items():
            assert recall(ix.knn_query(queries, 10, ef=ef)[0], truth) >= floor, ef


def test_words(path, rng, short):
    if not WORDS.exists():
        pytest.skip(f"{WORDS} is not there")
    data = np.load(WORDS)["vectors"].astype(np.float32)
    picked = rng.permutation(len(data))[: 1000 if short else 4000]
    check(path, data[picked[:-200]], data[picked[-200:]], {10: 0.75, 50: 0.93, 200: 0.98})


def test_glove_100(path, rng, short):
    folder = os.environ.get("NAVMAP_GLOVE")
    if not folder:
        pytest.skip("NAVMAP_GLOVE does not name a directory with base.npy and queries.npy")
    base = np.load(Path(folder) / "base.npy", mmap_mode="r")
    picked = np.sort(rng.choice(len(base), 2000 if short else 20_000, replace=False))
    queries = np.load(Path(folder) / "queries.npy")[:200]
    check(path, np.asarray(base[picked]), queries, {10: 0.55, 50: 0.85, 200: 0.95})
