"""navmap: a navigable small-world graph in a memory map.

A vector index (HNSW) that lives in a directory, opens instantly, is shared by many processes while
it grows, and survives a power cut.

    import navmap

    with navmap.create("words.navmap", space="cosine", dim=100) as ix:
        ix.add_items(vectors, ids)  # on disk and visible to every process when it returns

    ix = navmap.open("words.navmap")  # read-only, shared, live
    labels, distances = ix.knn_query(queries, k=10)

An index can also be private to the process, in memory only, in hnswlib's way:

    ix = navmap.Index(space="cosine", dim=100)
    ix.init_index(max_elements=10_000)
    ix.save_index("words.bin")

`import navmap as hnswlib` is meant to be a safe edit: `Index` and `BFIndex` have hnswlib's methods,
and bindings/python/DIFFERENCES.md in the sources lists what is not alike.

`create`, `open`, `Index` and `BFIndex` hold the documentation: shapes, types, errors, cost, and what may be
done from several threads and processes at once.
"""

from navmap import _core
from navmap.bruteforce import BFIndex
from navmap.directory import create, open
from navmap.errors import (
    CapacityError,
    CorruptIndexError,
    EmptyQueryError,
    Error,
    ExistsError,
    FewerResultsError,
    ForkedError,
    InvalidInputError,
    LabelNotFoundError,
    LockedError,
    NeedsRecoveryError,
    NoIndexError,
    NoSpaceError,
    NotInitializedError,
    OutOfMemoryError,
    PoisonedError,
    ReadOnlyError,
    ReplaceError,
    StaleError,
    StorageError,
    VersionError,
)
from navmap.filters import Filter
from navmap.index import Index
from navmap.report import CheckReport, Finding, Report, verify

__version__: str = _core.version

# Pickles and messages name a class by where it can be found, and rooms may be renamed.
Index.__module__ = BFIndex.__module__ = Filter.__module__ = __name__


def simd() -> str:
    """The instruction set that distances are computed with: "scalar", "avx2", "avx512",
    "avx512vnni", "neon" or "neondot".

    The best that the processor has, or the one that the environment variable NAVMAP_SIMD named
    when the first index was opened.
    """
    return _core.simd()


__all__ = [
    "BFIndex",
    "CapacityError",
    "CheckReport",
    "CorruptIndexError",
    "EmptyQueryError",
    "Error",
    "ExistsError",
    "FewerResultsError",
    "Filter",
    "Finding",
    "ForkedError",
    "Index",
    "InvalidInputError",
    "LabelNotFoundError",
    "LockedError",
    "NeedsRecoveryError",
    "NoIndexError",
    "NoSpaceError",
    "NotInitializedError",
    "OutOfMemoryError",
    "PoisonedError",
    "ReadOnlyError",
    "ReplaceError",
    "Report",
    "StaleError",
    "StorageError",
    "VersionError",
    "create",
    "open",
    "simd",
    "verify",
]
