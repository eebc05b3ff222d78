"""navmap: a navigable small-world graph in a memory map.

A vector index (HNSW) that lives in a directory, opens instantly, is shared by many processes while
it grows, and survives a power cut.

    import navmap

    with navmap.create("words.navmap", space="cosine", dim=100) as ix:
        ix.add_items(vectors, ids)  # on disk and visible to every process when it returns

    ix = navmap.open("words.navmap")  # read-only, shared, live
    labels, distances = ix.knn_query(queries, k=10)

`create`, `open` and `Index` hold the documentation: shapes, types, errors, cost, and what may be
done from several threads and processes at once.
"""

from navmap import _core
from navmap.errors import (
    CapacityError,
    CorruptIndexError,
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
    StaleError,
    StorageError,
    VersionError,
)
from navmap.index import Index, create, open
from navmap.report import Finding, Report, verify

__version__: str = _core.version

__all__ = [
    "CapacityError",
    "CorruptIndexError",
    "Error",
    "ExistsError",
    "FewerResultsError",
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
    "Report",
    "StaleError",
    "StorageError",
    "VersionError",
    "create",
    "open",
    "verify",
]
