"""More libraries for compare.py: those that keep codes beside or in place of vectors, and others
that are not used as widely.  peers.py says what a peer is.
"""

import pathlib
from typing import Any

import numpy as np

from peers import Peer


class Glass(Peer):
    """8-bit codes and a second look at the vectors (level 2).  Its only wheels are for CPython 3.10
    and processors with AVX-512; elsewhere it ends by a signal, which is reported."""

    module = package = "glassppy"
    normalised = True
    about = "HNSW, level 2"

    def _metric(self) -> str:
        return "L2" if self.space == "l2" else "IP"

    def _search_in(self, graph: Any, vectors: np.ndarray) -> None:
        self.vectors = vectors
        self.graph = graph
        self.index = self.library.Searcher(
            graph=graph, data=vectors, metric=self._metric(), level=2
        )
        self.index.set_ef(32)
        self.index.optimize(1)

    def build(self, vectors: np.ndarray, threads: int) -> None:
        self.library.set_num_threads(threads)
        maker = self.library.Index(
            "HNSW", dim=self.dim, metric=self._metric(), R=2 * self.M, L=self.ef_construction
        )
        self._search_in(maker.build(vectors), vectors)

    def save(self, path: pathlib.Path) -> None:
        path.mkdir()
        self.graph.save(str(path / "graph"))
        np.save(path / "vectors.npy", self.vectors)

    def load(self, path: pathlib.Path) -> None:
        graph = self.library.Graph()
        graph.load(str(path / "graph"))
        self._search_in(graph, np.load(path / "vectors.npy"))

    def begin(self, k: int, ef: int, threads: int) -> None:
        self.index.set_ef(max(ef, k))

    def search(self, queries: np.ndarray, k: int, ef: int, threads: int) -> Any:
        return self.index.batch_search(query=queries, k=k, num_threads=threads)

    def one(self, query: np.ndarray, k: int, ef: int) -> Any:
        return self.index.search(query=query[0], k=k)

    def found(self, result: Any, rows: int, k: int) -> np.ndarray:
        return np.asarray(result, np.int64).reshape(rows, k)


PEERS: dict[str, type[Peer]] = {"glass": Glass}
