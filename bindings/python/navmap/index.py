"""`Index`, an open index, and the two functions that make one: `create` and `open`."""

import atexit
import os
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, Self, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from navmap import _core, convert
from navmap.convert import Floats, Labels, StrPath
from navmap.errors import FewerResultsError, InvalidInputError, OutOfMemoryError

_MODES = ("r", "r+")  # in the order of enum navmap_mode

# Handles that are alive at exit are closed like any other.
_open_indexes: "weakref.WeakSet[Index]" = weakref.WeakSet()


def create(
    path: StrPath,
    space: Literal["l2", "ip", "cosine"],
    dim: int,
    *,
    M: int = 16,
    ef_construction: int = 200,
    random_seed: int = 100,
    max_elements: int | None = None,
    allow_replace_deleted: bool = False,
    durability: Literal["full", "manual"] = "full",
) -> "Index":
    """Create an empty, durable index and open it; this process is its one writer.

    path: where to put it, a directory that must not exist.  Its parent must.  Never on a network
        file system.
    space: how distance is measured; smaller is nearer.  "l2" is the *squared* Euclidean distance,
        "ip" is 1 - inner product, "cosine" is 1 - cosine (vectors are normalised when added).
    dim: numbers per vector, 1 to 65536.
    M: links per item and level (twice that on the lowest), 2 to 512.  More: better recall,
        larger rows, slower adds.  12 to 48 is usual.
    ef_construction: how many candidates an add looks at; at least M is used.  More: better
        graph, slower adds.
    random_seed: of the levels that items are given; 0 stands for 100, the default.
    max_elements: the number of labels allowed, deleted ones included; None lets the index grow by
        itself.
    allow_replace_deleted: kept with the index, for hnswlib's `replace_deleted`.
    durability: "full": a call that changed something has it on disk, and visible to all
        processes, when it returns.  "manual": changes are kept in memory until `flush()`, `close()`
        or until the buffer is full; a crash before that loses them, whole, and nothing else.

    Raises `ExistsError` if something is at `path`, `NoIndexError` (a `FileNotFoundError`) if its
    parent is not there, `InvalidInputError` for a parameter out of range, `StorageError` or
    `NoSpaceError` if the system refuses; then nothing is left at `path` (only if the very last
    sync fails, of the parent directory, a whole, empty index may be).
    Cost: a few disk syncs, below 1 MiB on disk.
    """
    space_number = convert.space_number(space)
    if max_elements is not None:
        max_elements = convert.parameter(max_elements, "max_elements", 1, convert.U64_MAX)
    name = convert.full_path(path)
    handle = _core.create(
        os.fsencode(name),
        space_number,
        convert.parameter(dim, "dim", 1, 65536),
        convert.parameter(M, "M", 2, 512),
        max(convert.parameter(ef_construction, "ef_construction", 0), 1),
        convert.size(random_seed, "random_seed"),
        max_elements or 0,
        int(bool(allow_replace_deleted)),
        convert.durability_number(durability),
    )
    return Index(handle, name)


def open(
    path: StrPath,
    mode: Literal["r", "r+"] = "r",
    *,
    timeout: float | None = 0.0,
    durability: Literal["full", "manual"] = "full",
    checkpoint_bytes: int | None = None,
) -> "Index":
    """Open an existing index.

    mode: "r" to search, beside any number of other readers and one writer, in any process; what
        the writer adds appears by itself.  "r+" to change it as well, as the one writer.
    timeout: seconds to wait for another writer to finish; 0 does not wait, None waits for ever.
        Ctrl-C ends the wait.
    durability: see `create`; for mode "r+".
    checkpoint_bytes: how long the log may grow before it is folded into the data file; None
        picks a quarter of the data, between 1 MiB and 128 MiB.  It bounds the time that the
        first open after a crash takes.

    Raises `NoIndexError` if there is no index, `LockedError` (naming the process) if mode is
    "r+" and another handle is the writer, `ReadOnlyError` if mode is "r+" and the files may not
    be written, `NeedsRecoveryError` if a writer died and this process may not write, and
    `VersionError`, `CorruptIndexError`, `StorageError` if the files are newer, damaged,
    unreadable.
    Cost: a few milliseconds at any size.  After a crash the log is replayed, in under a second.
    """
    if mode not in _MODES:
        raise InvalidInputError(f'mode must be "r" or "r+", not {mode!r}')
    seconds = -1.0 if timeout is None else float(timeout)
    if seconds != seconds:
        raise InvalidInputError("timeout must be a number of seconds, not nan")
    if checkpoint_bytes is not None:
        checkpoint_bytes = convert.parameter(
            checkpoint_bytes, "checkpoint_bytes", 1, convert.U64_MAX
        )
    name = convert.full_path(path)
    handle = _core.open(
        os.fsencode(name),
        _MODES.index(mode),
        convert.durability_number(durability),
        seconds,
        checkpoint_bytes or 0,
    )
    return Index(handle, name)


class Index:
    """An open index.  Made by `navmap.create` and `navmap.open`.

    Vectors go in as anything NumPy can turn into float32: an array of shape (rows, dim), or
    (dim,) for a single row.  They must be finite.  An item's name is its label, a number from 0 to
    2**64 - 1.

    Threads: one index may be used by any number of threads; searches run side by side, also
    beside adds, and adds take turns.  Python's lock is released in all of them.
    Processes: one writer and any number of readers.  A reader sees what the writer committed,
    without reopening.  An index that was open for writing is of no use after `fork()`
    (`ForkedError`): open it again in the child.  One that was open for reading goes on.
    End: `close()`, leaving a `with` block, dropping the last reference and the exit of the
    program all flush and close; a process that is killed loses nothing that was committed.
    Errors: every class is a `navmap.Error`; see navmap/errors.py.  A call that fails has changed
    nothing, but for `add_items`, whose error says how many rows went in.
    """

    __slots__ = ("__weakref__", "_constants", "_ef", "_handle", "_path")

    def __init__(self, handle: _core.Handle, path: str) -> None:
        if not isinstance(handle, _core.Handle):
            raise TypeError("navmap.Index is made by navmap.create() and navmap.open()")
        self._handle = handle
        self._path = path
        self._ef = 10
        self._constants = self.stats()
        _open_indexes.add(self)

    def __repr__(self) -> str:
        return f"<navmap.Index(space={self.space!r}, dim={self.dim})>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Changing ---------------------------------------------------------------------------------

    def add_items(
        self,
        data: npt.ArrayLike,
        ids: npt.ArrayLike | None = None,
        *,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        """Add vectors, or give labels that exist new ones.

        data: (rows, dim), or (dim,) for one row; converted to float32.
        ids: the labels, one for each row, as a list or an array of integers; a single integer for
            a single row.  Negative integers wrap (-1 is 2**64 - 1), as in hnswlib.  None numbers
            the rows on from the largest label present, so nothing is overwritten.
        progress: called as progress(done, total) some times a second and at the end.  What it
            raises stops the adding.

        A label that is present gets the new vector; one that was marked deleted comes back with
        it.  Of a label that occurs twice the later row counts.

        With durability "full" the items are on disk, and found by every process, when this
        returns; with "manual" after `flush()`.

        Raises `InvalidInputError` for a wrong shape or dimension, a NaN or an infinity, and
        `CapacityError` when `max_elements` would be passed: then nothing was added.  A full disk
        (`NoSpaceError`), Ctrl-C (`KeyboardInterrupt`) or an exception from `progress` can come
        half-way: whole rows stay, the first `error.added` of them.  `ReadOnlyError` on an index
        opened with mode "r".

        Cost: about ef_construction * M distances a row; rows are added one after the other.
        One call with many rows is much cheaper than many calls: each call syncs the disk.
        """
        vectors = convert.vectors(data, self.dim)
        labels = None if ids is None else convert.row_labels(ids, len(vectors))
        if progress is not None and not callable(progress):
            raise TypeError(f"progress must be callable, not {type(progress).__name__}")
        self._handle.add(vectors, labels, progress)

    def mark_deleted(self, label: SupportsIndex) -> None:
        """Take an item out of all results.  It keeps its place, and its label, in the index.

        Raises `LabelNotFoundError` for an unknown label and `Error` for one that is marked
        already.  Durable like `add_items`.
        """
        self._handle.delete(convert.size(label, "label"))

    def unmark_deleted(self, label: SupportsIndex) -> None:
        """Bring an item back that was marked deleted.

        Raises `LabelNotFoundError` for an unknown label and `Error` for one that is not marked.
        Durable like `add_items`.
        """
        self._handle.undelete(convert.size(label, "label"))

    def flush(self) -> None:
        """Commit what is pending and fold the log into the data file.

        Needed with durability "manual", to make changes durable and visible.  With "full" it only
        shortens the log.  `ReadOnlyError` on an index opened with mode "r".
        """
        self._handle.flush()

    def close(self) -> None:
        """Flush and release the index.  Further calls raise `NotInitializedError`, a further
        `close()` does nothing.

        Calls of other threads that are under way finish as if nothing had happened, and the last
        of them releases the files.  An error here means that changes not yet acknowledged may be
        lost.  In a forked child the parent's index is let go and nothing is written.
        """
        self._handle.close()
        _open_indexes.discard(self)

    # Searching --------------------------------------------------------------------------------

    def knn_query(
        self,
        data: npt.ArrayLike,
        k: SupportsIndex = 1,
        *,
        ef: SupportsIndex | None = None,
        allow_fewer: bool = False,
    ) -> tuple[Labels, Floats]:
        """The k nearest items of each query, approximately.

        data: (rows, dim), or (dim,) for one row; converted to float32.
        k: how many; 0 gives empty rows.
        ef: how many candidates the search keeps; more finds better ones and takes longer.  At
            least k is used.  None takes the property `ef`.
        allow_fewer: pad rows that have fewer than k results with label 2**64 - 1 and distance
            +inf, instead of raising.

        Returns (labels, distances): uint64 and float32 arrays of shape (rows, k), new and
        C-contiguous, nearest first, ties by label.

        Raises `InvalidInputError` for a wrong shape or dimension, a NaN or an infinity, and
        `FewerResultsError` when fewer than k live items exist.  If the graph leads to too few, all
        vectors are looked at before that is said.

        Every pair was in the index, whole, at some instant of the call; other threads and
        processes may add and delete meanwhile.
        """
        beam = self._ef if ef is None else convert.size(ef, "ef")
        return self._search(data, k, beam, allow_fewer, exact=False)

    def exact_query(
        self, data: npt.ArrayLike, k: SupportsIndex = 1, *, allow_fewer: bool = False
    ) -> tuple[Labels, Floats]:
        """As `knn_query`, by looking at every live vector: exact, and rows * len(index) * dim
        operations.  For measuring recall, and for small indexes."""
        return self._search(data, k, 0, allow_fewer, exact=True)

    def _search(
        self, data: npt.ArrayLike, k: SupportsIndex, ef: int, allow_fewer: bool, *, exact: bool
    ) -> tuple[Labels, Floats]:
        k = convert.size(k, "k")
        queries = convert.queries(data, self.dim)
        shape = (len(queries), k)
        try:
            labels = np.empty(shape, np.uint64)
            distances = np.empty(shape, np.float32)
        except (MemoryError, ValueError):  # NumPy's ValueError: more than fits an address space
            raise OutOfMemoryError(f"no memory for the results: {shape[0]} x {k}") from None
        beam = min(max(ef, 1), convert.U32_MAX)  # 0 would be the engine's default, not the least
        fewer = self._handle.search(exact, queries, beam, bool(allow_fewer), labels, distances)
        if fewer is not None:
            row, found = fewer
            stats = self.stats()
            live, deleted = stats["n_live"], stats["n_deleted"]
            found = min(found, live)  # 2**64 - 1: refused without a search, for want of items
            raise FewerResultsError(
                "Cannot return the results in a contiguous 2D array. Probably ef or M is too "
                f"small: asked for {k}, query {row} found {found}; the index has {live} live and "
                f"{deleted} deleted items. allow_fewer=True pads such rows.",
                *(k, row, found, live, deleted),
            )
        return labels, distances

    # Looking up -------------------------------------------------------------------------------

    @overload
    def get_items(
        self, ids: npt.ArrayLike | None = None, return_type: Literal["numpy"] = "numpy"
    ) -> Floats: ...

    @overload
    def get_items(
        self, ids: npt.ArrayLike | None, return_type: Literal["list"]
    ) -> list[list[float]]: ...

    @overload
    def get_items(self, *, return_type: Literal["list"]) -> list[list[float]]: ...

    def get_items(
        self, ids: npt.ArrayLike | None = None, return_type: str = "numpy"
    ) -> Floats | list[list[float]]:
        """The vectors of some labels, as they are stored (space "cosine": normalised).

        ids: a list or an array of labels, also of shape (n, 1) as `knn_query` with k=1 returns
            them.  None, or an empty list, gives an empty array.
        return_type: "numpy" for a float32 array of shape (n, dim), a copy; "list" for a list of
            lists of floats.

        Raises `LabelNotFoundError` for the first unknown or deleted label, and `ValueError` for a
        single number in place of a list.  The stored checksum of every vector is checked
        (`CorruptIndexError`).
        """
        if return_type not in ("numpy", "list"):
            raise ValueError('return_type should be "numpy" or "list"')
        labels = np.empty(0, np.uint64) if ids is None else convert.labels(ids)
        if labels.ndim == 0:
            raise ValueError("get_items accepts a list of indices and returns a list of vectors")
        n = labels.shape[0]
        vectors = np.empty((n, self.dim), np.float32)
        self._handle.get(labels.reshape(-1)[:n], vectors)
        if return_type == "list":
            result: list[list[float]] = vectors.tolist()
            return result
        return vectors if n > 0 else vectors.reshape(0)  # shape (0,), as hnswlib

    def get_ids_list(self, include_deleted: bool = True) -> list[int]:
        """All labels, in no particular order; with those marked deleted, unless told otherwise."""
        room = 0
        while True:
            labels = np.empty(room, np.uint64)
            n = self._handle.labels(bool(include_deleted), labels)
            if n <= room:
                ids: list[int] = labels[:n].tolist()
                return ids
            room = n + n // 8  # the writer may add some before the second look

    def __contains__(self, label: object) -> bool:
        """Is there a live item of this label?  False for what cannot be a label."""
        try:
            number = convert.size(label, "label")  # type: ignore[arg-type]
        except TypeError:
            return False
        return self._handle.contains(number)

    def __len__(self) -> int:
        """The number of live items."""
        return int(self.stats()["n_live"])

    def __bool__(self) -> bool:
        """Always true, so that `if index:` does not mistake an empty index for none."""
        return True

    # Facts ------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """Counters and sizes, at once and without looking at any item.

        Counts: n_live, n_deleted, n_dead (replaced, not yet reusable), n_free, nslots, nchunks,
        capacity (slots the file has room for), pending (changes not yet committed), inserted (adds
        since creation), max_elements (0: none).
        Sizes in bytes: data_file_bytes, data_allocated_bytes and lmdb_allocated_bytes (blocks on
        disk), wal_bytes (log not yet folded in), checkpoint_bytes (the log's limit), and by
        content state_bytes, row_bytes, upper_bytes, tag_bytes, code_bytes, vector_bytes.
        Parameters: path, space, dim, M, ef_construction, random_seed, allow_replace_deleted,
        mode, durability, slots_per_chunk, format_major, format_minor.
        State: entry_slot, entry_level, generation, last_lsn, checkpoint_lsn, applied_lsn,
        writer_held, writer_pid (0: unknown), poisoned.
        """
        stats: dict[str, Any] = self._handle.stats()
        stats["path"] = self._path
        stats["space"] = convert.SPACES[stats["space"]]
        stats["mode"] = _MODES[stats["mode"]]
        stats["durability"] = convert.DURABILITIES[stats["durability"]]
        for name in ("allow_replace_deleted", "writer_held", "poisoned"):
            stats[name] = bool(stats[name])
        return stats

    def set_ef(self, ef: SupportsIndex) -> None:
        """Set the property `ef`."""
        self._ef = convert.size(ef, "ef")

    @property
    def ef(self) -> int:
        """Candidates that `knn_query` keeps when it is not told otherwise; 10 at first.

        Of this object: not stored, and not shared with other handles.
        """
        return self._ef

    @ef.setter
    def ef(self, ef: SupportsIndex) -> None:
        self._ef = convert.size(ef, "ef")

    @property
    def space(self) -> str:
        """ "l2", "ip" or "cosine"."""
        return str(self._constants["space"])

    @property
    def dim(self) -> int:
        """Numbers per vector."""
        return int(self._constants["dim"])

    @property
    def M(self) -> int:
        """Links per item and level."""
        return int(self._constants["M"])

    @property
    def ef_construction(self) -> int:
        """Candidates that an add looks at."""
        return int(self._constants["ef_construction"])

    @property
    def max_elements(self) -> int:
        """Labels allowed; in an index that grows by itself, what it has room for right now."""
        stats = self.stats()
        return int(stats["max_elements"] or stats["capacity"])

    @property
    def element_count(self) -> int:
        """Labels present, those marked deleted included; `len(index)` leaves these out."""
        stats = self.stats()
        return int(stats["n_live"] + stats["n_deleted"])

    @property
    def deleted_count(self) -> int:
        """Labels marked deleted."""
        return int(self.stats()["n_deleted"])

    @property
    def path(self) -> str:
        """Where the index is, from the root."""
        return self._path

    @property
    def mode(self) -> str:
        """ "r" or "r+"."""
        return str(self._constants["mode"])

    @property
    def closed(self) -> bool:
        """True after `close()`."""
        return self._handle.closed


@atexit.register
def _close_all() -> None:
    """Close what the program left open.  (In a forked child that writes nothing.)"""
    failures = []
    for index in list(_open_indexes):
        try:
            index.close()
        except Exception as failure:  # the others are closed all the same
            failures.append(failure)
    if failures:
        raise failures[0]
