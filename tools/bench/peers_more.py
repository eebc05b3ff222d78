"""More libraries for compare.py: those that keep codes beside or in place of vectors, and others
that are not used as widely.  peers.py says what a peer is.
"""

import json
import os
import pathlib
import shutil
import tempfile
from typing import Any, ClassVar

import numpy as np

import datasets
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


class Svs(Peer):
    module, package = "svs", "scalable-vs"
    normalised = True
    about = "Vamana over f32"

    def _distance(self) -> Any:
        kinds = self.library.DistanceType
        return kinds.L2 if self.space == "l2" else kinds.MIP

    def _source(self, vectors: np.ndarray, folder: str) -> Any:
        return vectors

    def build(self, vectors: np.ndarray, threads: int) -> None:
        parameters = self.library.VamanaBuildParameters(
            alpha=1.2 if self.space == "l2" else 0.95,
            graph_max_degree=2 * self.M,
            window_size=self.ef_construction,
        )
        with tempfile.TemporaryDirectory(prefix="svs-") as folder:
            source = self._source(vectors, folder)
            self.index = self.library.Vamana.build(
                parameters, source, self._distance(), num_threads=threads
            )

    def save(self, path: pathlib.Path) -> None:
        path.mkdir()
        self.index.save(*(str(path / name) for name in ("config", "graph", "data")))

    def _stored(self, path: str) -> Any:
        return self.library.VectorDataLoader(path, self.library.DataType.float32, dims=self.dim)

    def load(self, path: pathlib.Path) -> None:
        self.index = self.library.Vamana(
            str(path / "config"),
            self.library.GraphLoader(str(path / "graph")),
            self._stored(str(path / "data")),
            self._distance(),
            num_threads=1,
        )

    def begin(self, k: int, ef: int, threads: int) -> None:
        if self.index.num_threads != threads:
            self.index.num_threads = threads
        self.index.search_window_size = max(ef, k)

    def search(self, queries: np.ndarray, k: int, ef: int, threads: int) -> Any:
        return self.index.search(queries, k)


class SvsLvq(Svs):
    """4 bits a dimension while it walks and 8 more to rank by.  On processors of Intel's only:
    elsewhere the library ends its process, which is reported."""

    about = "Vamana over LVQ 4x8"

    def _source(self, vectors: np.ndarray, folder: str) -> Any:
        file = pathlib.Path(folder) / "vectors.fvecs"
        datasets.write_vecs(file, vectors)
        kind = self.library.DataType.float32
        loader = self.library.VectorDataLoader(str(file), kind, dims=self.dim)
        return self.library.LVQLoader(loader, primary=4, residual=8)

    def _stored(self, path: str) -> Any:
        return self.library.LVQLoader(path)


class RabitqHnsw(Peer):
    """HNSW over codes of 8 bits, and nothing but these: what recall it can reach has an end.  The
    k-means that it wants beforehand, by faiss, counts as building."""

    module, package = "rabitqlib", "rabitqlib"
    normalised = True
    about = "HnswIndex, 8 bits, 16 centroids"

    def _metric(self) -> str:
        return "l2" if self.space == "l2" else "ip"

    def build(self, vectors: np.ndarray, threads: int) -> None:
        import faiss

        faiss.omp_set_num_threads(threads)
        means = faiss.Kmeans(self.dim, 16, niter=10)
        means.train(vectors)
        nearest = means.index.search(vectors, 1)[1][:, 0].astype(np.uint32)
        self.index = self.library.HnswIndex(
            self.dim, len(vectors), self.M, self.ef_construction, 8, self._metric(), 100
        )
        self.index.build(vectors, means.centroids, nearest, threads)

    def save(self, path: pathlib.Path) -> None:
        self.index.save(str(path))

    def load(self, path: pathlib.Path) -> None:
        self.index = self.library.HnswIndex.load(str(path))

    def search(self, queries: np.ndarray, k: int, ef: int, threads: int) -> Any:
        return self.index.search(queries, k, max(ef, k), threads)


class Symqg(RabitqHnsw):
    """Codes of the neighbours lie beside the row that names them; vectors in float32 rank."""

    about = "SymqgIndex (SymphonyQG)"
    bits: ClassVar[int] = 0

    def build(self, vectors: np.ndarray, threads: int) -> None:
        self.index = self.library.SymqgIndex(self.dim, 2 * self.M, self._metric(), self.bits)
        self.index.build(vectors, self.ef_construction, threads)

    def load(self, path: pathlib.Path) -> None:
        self.index = self.library.SymqgIndex.load(str(path))


class Symqg8(Symqg):
    about = "SymqgIndex, vectors as 8 bits"
    bits = 8


class Flatnav(Peer):
    module = package = "flatnav"
    normalised = True
    about = "after reordering"

    def build(self, vectors: np.ndarray, threads: int) -> None:
        distance = "l2" if self.space == "l2" else "angular"
        self.index = self.library.index.create(distance, self.dim, len(vectors), 2 * self.M)
        self.index.set_num_threads(threads)
        self.index.add(vectors, self.ef_construction)
        self.index.reorder(["gorder"])

    def save(self, path: pathlib.Path) -> None:
        self.index.save(str(path))

    def load(self, path: pathlib.Path) -> None:
        index = self.library.index
        kind = index.IndexL2Float if self.space == "l2" else index.IndexIPFloat
        self.index = kind.load_index(str(path))
        self.index.set_data_type(self.library.data_type.DataType.float32)

    def begin(self, k: int, ef: int, threads: int) -> None:
        self.index.set_num_threads(threads)

    def search(self, queries: np.ndarray, k: int, ef: int, threads: int) -> Any:
        return self.index.search(queries, k, max(ef, k))

    def one(self, query: np.ndarray, k: int, ef: int) -> Any:
        return self.index.search_single(query[0], k, max(ef, k))

    def found(self, result: Any, rows: int, k: int) -> np.ndarray:
        return np.asarray(result[1], np.int64).reshape(rows, k)


class Vsag(Peer):
    """It has no call for a batch from Python: a batch is a loop."""

    module = package = "pyvsag"
    about = "hgraph, 8 bits and float32 to rank by"

    def _empty(self, threads: int) -> None:
        metric = {"l2": "l2", "ip": "ip", "cosine": "cosine"}[self.space]
        graph = {
            "base_quantization_type": "sq8_uniform",
            "max_degree": 2 * self.M,
            "ef_construction": self.ef_construction,
            "build_thread_count": threads,
            "use_reorder": True,
            "precise_quantization_type": "fp32",
        }
        told = {"dtype": "float32", "metric_type": metric, "dim": self.dim, "index_param": graph}
        self.index = self.library.Index("hgraph", json.dumps(told))

    def build(self, vectors: np.ndarray, threads: int) -> None:
        self._empty(threads)
        count = len(vectors)
        self.index.build(
            vectors=vectors.reshape(-1), ids=np.arange(count), num_elements=count, dim=self.dim
        )

    def save(self, path: pathlib.Path) -> None:
        self.index.save(str(path))

    def load(self, path: pathlib.Path) -> None:
        self._empty(1)
        self.index.load(str(path))

    def begin(self, k: int, ef: int, threads: int) -> None:
        self.told = json.dumps({"hgraph": {"ef_search": max(ef, k)}})

    def search(self, queries: np.ndarray, k: int, ef: int, threads: int) -> Any:
        ask, told = self.index.knn_search, self.told
        return [[ask(vector=query, k=k, parameters=told)[0] for query in queries]]

    def one(self, query: np.ndarray, k: int, ef: int) -> Any:
        return self.index.knn_search(vector=query[0], k=k, parameters=self.told)


class Hannoy(Peer):
    """In LMDB, as navmap's log is."""

    module = package = "hannoy"
    spaces = ("l2", "cosine")
    about = "in LMDB"
    FOLDER_BYTES: ClassVar[int] = 1 << 36

    def _open(self, path: str) -> Any:
        lib = self.library
        kind = lib.Metric.EUCLIDEAN if self.space == "l2" else lib.Metric.COSINE
        return lib.Database(path, kind, env_size=self.FOLDER_BYTES)

    def build(self, vectors: np.ndarray, threads: int) -> None:
        os.environ["RAYON_NUM_THREADS"] = str(threads)
        self.folder = tempfile.mkdtemp(prefix="hannoy-")
        self.database = self._open(self.folder)
        with self.database.writer(self.dim, m=self.M, ef=self.ef_construction) as writer:
            writer.add_items(list(range(len(vectors))), vectors)
        self.index = self.database.reader()

    def save(self, path: pathlib.Path) -> None:
        shutil.move(self.folder, path)

    def load(self, path: pathlib.Path) -> None:
        if self.index is None:  # one opening a process is all that it allows
            self.database = self._open(str(path))
            self.index = self.database.reader()

    def search(self, queries: np.ndarray, k: int, ef: int, threads: int) -> Any:
        rows = len(queries)
        out = np.empty((rows, k), np.uint32), np.empty((rows, k), np.float32)
        self.index.by_array(queries, k, max(ef, k), out=out)
        return out


PEERS: dict[str, type[Peer]] = {
    "glass": Glass,
    "svs": Svs,
    "svs-lvq": SvsLvq,
    "rabitq-hnsw": RabitqHnsw,
    "symqg": Symqg,
    "symqg-8": Symqg8,
    "flatnav": Flatnav,
    "vsag": Vsag,
    "hannoy": Hannoy,
}
