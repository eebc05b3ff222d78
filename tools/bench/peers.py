"""The libraries that compare.py measures, each behind the same few methods.

A `Peer` is one index of one library.  Whatever a library wants its vectors to be (normalised for a
cosine that it does not know, say) is done in `prepare`, outside all timing; what it returns is
turned into labels in `found`, outside as well.  So a figure is the library's own call and nothing
of ours.  Here are navmap and those it has to be measured against; peers_more.py has the others.

It is a module of worker.py, which runs one peer in one process.  It needs NumPy, and of the
libraries only the one that is asked for.
"""

import importlib
import pathlib
from importlib import metadata
from typing import Any, ClassVar

import numpy as np


class Unsupported(Exception):
    """What is asked for the library cannot do: reported, and left out."""


class Peer:
    """One index.  `M` is links per node above level 0, of which there are 2M: for graphs without
    levels the degree is 2M, so that all may keep the same number of links."""

    module: ClassVar[str]
    package: ClassVar[str]
    spaces: ClassVar[tuple[str, ...]] = ("l2", "ip", "cosine")
    normalised: ClassVar[bool] = False  # cosine is asked for as ip over vectors of length 1
    kept: ClassVar[bool] = True  # can be saved and loaded
    about: ClassVar[str] = ""

    def __init__(self, space: str, dim: int, count: int, M: int, ef_construction: int) -> None:
        if space not in self.spaces:
            raise Unsupported(f"has no space {space}")
        self.space, self.dim, self.count = space, dim, count
        self.M, self.ef_construction = M, ef_construction
        self.library = importlib.import_module(self.module)
        self.index: Any = None

    def version(self) -> str:
        return metadata.version(self.package)

    def facts(self) -> dict[str, Any]:
        """What else a reader should know of this build of the library."""
        return {}

    def prepare(self, vectors: np.ndarray) -> np.ndarray:
        vectors = np.ascontiguousarray(vectors, np.float32)
        if self.space == "cosine" and self.normalised:
            norms = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = vectors / np.where(norms > 0, norms, 1)
        return vectors

    def build(self, vectors: np.ndarray, threads: int) -> None:
        raise NotImplementedError

    def save(self, path: pathlib.Path) -> None:
        raise Unsupported("cannot be saved")

    def load(self, path: pathlib.Path) -> None:
        raise Unsupported("cannot be loaded")

    def begin(self, k: int, ef: int, threads: int) -> None:
        """Settings that are not part of a call."""

    def search(self, queries: np.ndarray, k: int, ef: int, threads: int) -> Any:
        raise NotImplementedError

    def found(self, result: Any, rows: int, k: int) -> np.ndarray:
        return np.asarray(result[0], np.int64).reshape(rows, k)

    def one(self, query: np.ndarray, k: int, ef: int) -> Any:
        """A query by itself, (1, dim): what a program that has one at a time would call."""
        return self.search(query, k, ef, 1)

    def counters(self, queries: np.ndarray, k: int, ef: int) -> dict[str, float] | None:
        """Per query: distances computed, rows (adjacency lists) read; None if it does not tell."""
        return None


class Hnswlib(Peer):
    module = package = "hnswlib"
    about = "compiled here, from its sdist, for this processor"

    def _empty(self) -> None:
        self.index = self.library.Index(space=self.space, dim=self.dim)

    def build(self, vectors: np.ndarray, threads: int) -> None:
        self._empty()
        self.index.init_index(
            len(vectors), M=self.M, ef_construction=self.ef_construction, random_seed=100
        )
        self.index.add_items(vectors, np.arange(len(vectors)), num_threads=threads)

    def save(self, path: pathlib.Path) -> None:
        self.index.save_index(str(path))

    def load(self, path: pathlib.Path) -> None:
        self._empty()
        self.index.load_index(str(path))

    def begin(self, k: int, ef: int, threads: int) -> None:
        self.index.set_ef(max(ef, k))

    def search(self, queries: np.ndarray, k: int, ef: int, threads: int) -> Any:
        return self.index.knn_query(queries, k=k, num_threads=threads)


class Navmap(Hnswlib):
    """It has the interface of hnswlib; what is its own is below."""

    module = package = "navmap"
    about = "as installed"

    def facts(self) -> dict[str, Any]:
        told = {"simd": str(self.library.simd())}
        if self.index is not None:
            stats = self.index.stats()
            told |= {name: stats[name] for name in stats if name.endswith("_bytes") and stats[name]}
        return told

    def search(self, queries: np.ndarray, k: int, ef: int, threads: int) -> Any:
        return self.index.knn_query(queries, k=k, num_threads=threads, allow_fewer=True)


class NavmapF32(Navmap):
    about = "without codes"

    def build(self, vectors: np.ndarray, threads: int) -> None:
        self._empty()
        self.index.init_index(
            len(vectors), M=self.M, ef_construction=self.ef_construction, codes=None
        )
        self.index.add_items(vectors, np.arange(len(vectors)), num_threads=threads)


class NavmapStop(Navmap):
    """What other libraries do by `ef` it does by `stop`: the number that is tried is 4,000 times it."""

    spaces = ("l2", "cosine")
    about = "ends early: ef 1024, the number in the place of ef / 4000 is `stop`"

    def search(self, queries: np.ndarray, k: int, ef: int, threads: int) -> Any:
        return self.index.knn_query(
            queries, k=k, num_threads=threads, allow_fewer=True, ef=1024, stop=ef / 4000
        )


class NavmapHeld(NavmapStop):
    """A file is mapped as the system's cache has it; this one is copied into memory of its own, on
    huge pages where there are such, as what was just built is."""

    about = "navmap-stop in memory of its own (compact(keep_order=True) after loading)"

    def load(self, path: pathlib.Path) -> None:
        super().load(path)
        self.index.compact(keep_order=True)


class Faiss(Peer):
    module, package = "faiss", "faiss-cpu"
    normalised = True
    about = "IndexHNSWFlat"

    def _metric(self) -> Any:
        return self.library.METRIC_L2 if self.space == "l2" else self.library.METRIC_INNER_PRODUCT

    def _empty(self) -> Any:
        return self.library.IndexHNSWFlat(self.dim, self.M, self._metric())

    def _hnsw(self) -> Any:
        return self.index.hnsw

    def facts(self) -> dict[str, Any]:
        return {"compiled_for": self.library.get_compile_options().strip()}

    def build(self, vectors: np.ndarray, threads: int) -> None:
        self.library.omp_set_num_threads(threads)
        self.index = self._empty()
        self._hnsw().efConstruction = self.ef_construction
        if not self.index.is_trained:
            self.index.train(vectors)
        self.index.add(vectors)

    def save(self, path: pathlib.Path) -> None:
        self.library.write_index(self.index, str(path))

    def load(self, path: pathlib.Path) -> None:
        self.index = self.library.read_index(str(path))

    def begin(self, k: int, ef: int, threads: int) -> None:
        self.library.omp_set_num_threads(threads)
        self._hnsw().efSearch = max(ef, k)

    def search(self, queries: np.ndarray, k: int, ef: int, threads: int) -> Any:
        return self.index.search(queries, k)

    def found(self, result: Any, rows: int, k: int) -> np.ndarray:
        return result[1]

    def counters(self, queries: np.ndarray, k: int, ef: int) -> dict[str, float] | None:
        told = self.library.cvar.hnsw_stats
        told.reset()
        self.begin(k, ef, 1)
        self.search(queries, k, ef, 1)
        return {"distances": told.ndis / len(queries), "rows": told.nhops / len(queries)}


class FaissSq8(Faiss):
    """8 bits a dimension while it walks, the k * 4 best of those again in float32."""

    about = "IndexHNSWSQ of 8 bits under IndexRefineFlat, k_factor 4"

    def _empty(self) -> Any:
        lib = self.library
        inner = lib.IndexHNSWSQ(self.dim, lib.ScalarQuantizer.QT_8bit, self.M, self._metric())
        index = lib.IndexRefineFlat(inner)
        index.k_factor = 4
        self.inner = inner  # which the other one does not own
        return index

    def _hnsw(self) -> Any:
        return self.library.downcast_index(self.index.base_index).hnsw

    def load(self, path: pathlib.Path) -> None:
        super().load(path)
        self.index.k_factor = 4

    def begin(self, k: int, ef: int, threads: int) -> None:
        super().begin(k, max(ef, 4 * k), threads)


class Usearch(Peer):
    module, package = "usearch.index", "usearch"
    about = "f32"
    dtype: ClassVar[str] = "f32"

    def facts(self) -> dict[str, Any]:
        return {} if self.index is None else {"simd": self.index.hardware_acceleration}

    def _empty(self) -> None:
        metric = {"l2": "l2sq", "ip": "ip", "cosine": "cos"}[self.space]
        self.index = self.library.Index(
            ndim=self.dim,
            metric=metric,
            dtype=self.dtype,
            connectivity=self.M,
            expansion_add=self.ef_construction,
        )

    def build(self, vectors: np.ndarray, threads: int) -> None:
        self._empty()
        self.index.add(np.arange(len(vectors)), vectors, threads=threads)

    def save(self, path: pathlib.Path) -> None:
        self.index.save(str(path))

    def load(self, path: pathlib.Path) -> None:
        self._empty()
        self.index.load(str(path))

    def begin(self, k: int, ef: int, threads: int) -> None:
        self.index.expansion_search = max(ef, k)

    def search(self, queries: np.ndarray, k: int, ef: int, threads: int) -> Any:
        return self.index.search(queries, k, threads=threads)

    def one(self, query: np.ndarray, k: int, ef: int) -> Any:
        return self.index.search(query[0], k, threads=1)

    def found(self, result: Any, rows: int, k: int) -> np.ndarray:
        return np.asarray(result.keys, np.int64).reshape(rows, k)

    def counters(self, queries: np.ndarray, k: int, ef: int) -> dict[str, float] | None:
        self.begin(k, ef, 1)
        told = self.search(queries, k, ef, 1)
        count = len(queries)
        return {
            "distances": told.computed_distances / count,
            "rows": told.visited_members / count,
        }


class UsearchI8(Usearch):
    """Its own 8 bits, nothing ranked again: the recall that it can reach has an end."""

    about = "i8, for cosine only"
    dtype = "i8"
    spaces = ("cosine",)


class UsearchBf16(Usearch):
    about = "bf16"
    dtype = "bf16"


class Voyager(Peer):
    module = package = "voyager"
    about = "Float32"

    def build(self, vectors: np.ndarray, threads: int) -> None:
        lib = self.library
        space = {"l2": lib.Space.Euclidean, "ip": lib.Space.InnerProduct}
        self.index = lib.Index(
            space.get(self.space, lib.Space.Cosine),
            num_dimensions=self.dim,
            M=self.M,
            ef_construction=self.ef_construction,
            max_elements=len(vectors),
        )
        self.index.add_items(vectors, list(range(len(vectors))), num_threads=threads)

    def save(self, path: pathlib.Path) -> None:
        self.index.save(str(path))

    def load(self, path: pathlib.Path) -> None:
        self.index = self.library.Index.load(str(path))

    def search(self, queries: np.ndarray, k: int, ef: int, threads: int) -> Any:
        return self.index.query(queries, k=k, num_threads=threads, query_ef=max(ef, k))

    def one(self, query: np.ndarray, k: int, ef: int) -> Any:
        return self.index.query(query[0], k=k, query_ef=max(ef, k))


def registry() -> dict[str, type[Peer]]:
    import peers_more

    return {
        "navmap": Navmap,
        "navmap-f32": NavmapF32,
        "navmap-stop": NavmapStop,
        "navmap-held": NavmapHeld,
        "hnswlib": Hnswlib,
        "faiss": Faiss,
        "faiss-sq8": FaissSq8,
        "usearch": Usearch,
        "usearch-bf16": UsearchBf16,
        "usearch-i8": UsearchI8,
        "voyager": Voyager,
    } | peers_more.PEERS
