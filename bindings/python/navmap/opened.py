"""`Opened`, the half of `Index` that is the same whatever one does with it: directories and their
end, settings, facts, and what `check` finds."""

import atexit
import weakref
from types import TracebackType
from typing import Any, Self, SupportsIndex

from navmap import _core, convert
from navmap.held import Held
from navmap.report import CheckReport, check_report

MODES = ("r", "r+")  # in the order of enum navmap_mode
FLAGS = (
    "allow_replace_deleted",
    "writer_held",
    "poisoned",
    "in_memory",
    "bounded",
    "flat",
    "mapped",
)

# Directories that are open at exit are closed like any other.  A private index just ends.
_open_indexes: "weakref.WeakSet[Opened]" = weakref.WeakSet()


class Opened(Held):
    """The base of `Index`.  Not to be made by itself."""

    __slots__ = ("_M", "_ef", "_ef_construction", "_mode", "_path")

    @classmethod
    def _of(cls, handle: _core.Handle, path: str) -> Self:
        """The index of a directory that was opened."""
        index = cls.__new__(cls)
        stats = handle.stats()
        index._begin(convert.SPACES[stats["space"]], stats["dim"])
        index._attach(handle, stats)
        index._path = path
        _open_indexes.add(index)
        return index

    def _begin(self, space: str, dim: int) -> None:
        super()._begin(space, dim)
        self._ef = 10
        self._M = self._ef_construction = 0
        self._mode = "r+"
        self._path: str | None = None

    def _attach(self, handle: _core.Handle, stats: dict[str, int]) -> None:
        super()._attach(handle, stats)
        self._M = stats["M"]
        self._ef_construction = stats["ef_construction"]
        self._mode = MODES[stats["mode"]]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Flush and release the index; a private one is gone then.  Further calls raise
        `NotInitializedError`, a further `close()` does nothing, and so does one before
        `init_index`.

        Calls of other threads that are under way finish as if nothing had happened, and the last
        of them releases it.  An error here means that changes not yet acknowledged may be
        lost.  In a forked child the parent's index is let go and nothing is written.
        """
        if self._core_handle is not None:
            self._core_handle.close()
        _open_indexes.discard(self)

    def __len__(self) -> int:
        """The number of live items; 0 before `init_index`."""
        return self._count("n_live")

    def __bool__(self) -> bool:
        """Always true, so that `if index:` does not mistake an empty index for none."""
        return True

    def warmup(
        self, *, vectors: bool = True, lock: bool = False, larger_than_memory: bool = False
    ) -> None:
        """Bring an index that lies in files into memory, as far as it is mapped now.

        vectors: also the vectors and labels, which searches look at for their answers only; without
            it, what they walk through, rows and codes.
        lock: what is brought in stays in until the index is closed.
        larger_than_memory: from now on a search tells the system which vectors it will look at
            before it looks at the first, so that they are read from disk side by side.  It costs
            some 10 us a query where all is in memory; a call without it ends it.

        For an index that does not fit: `warmup(vectors=False, lock=True, larger_than_memory=True)`.
        Rows and codes have to fit: some 330 bytes an item of 128 dimensions, M = 16.
        Raises `OutOfMemoryError` if RLIMIT_MEMLOCK does not allow as much to be locked.
        Cost: reads what is not in memory yet.  To be called again when the index has grown.
        """
        self._handle.warm(bool(vectors) * 1 + bool(lock) * 2 + bool(larger_than_memory) * 4)

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
        mode, durability, codes ("i8" or None), dtype ("f32" or "f16"), slots_per_chunk, format_major, format_minor.
        Form: in_memory (a private index: no path, and what is about files and logs means nothing),
        bounded (max_elements is a limit also when it is 0), mapped (it lies over a file that
        `load_index` was given), flat (no graph; never so here).
        State: entry_slot, entry_level, generation, last_lsn, checkpoint_lsn, applied_lsn,
        writer_held, writer_pid (0: unknown), poisoned.
        """
        stats: dict[str, Any] = self._handle.stats()
        stats["path"] = self.path
        stats["space"] = convert.SPACES[stats["space"]]
        stats["mode"] = MODES[stats["mode"]]
        stats["codes"] = convert.CODES[stats["codes"]]
        stats["dtype"] = convert.DTYPES[stats.pop("vectors")]
        stats["durability"] = convert.DURABILITIES[stats["durability"]]
        for name in FLAGS:
            stats[name] = bool(stats[name])
        return stats

    def check(self) -> CheckReport:
        """Walk over the whole graph and all labels and tell what is there, and what is wrong.

        Levels, degrees, links (in range, not to the item itself, not twice, to items that have
        that level), the entry point, reachability from it, counters, and each label's item and
        each item's label.  What is committed is looked at; other threads and processes may go on,
        and what they change meanwhile is not held against the index.

        Returns a `CheckReport`; look at `report.sound` and `report.findings`.  Damage is no
        exception.  Vectors are not read: for their checksums, and the files', see
        `navmap.verify`.  Cost: some 100 ns a link.
        """
        return check_report(*self._handle.check())

    def set_ef(self, ef: SupportsIndex) -> None:
        """Set the property `ef`."""
        self._ef = convert.size(ef, "ef")

    @property
    def ef(self) -> int:
        """Candidates that `knn_query` keeps when it is not told otherwise; 10 at first.

        Of this object: `init_index` and `load_index` leave it as it is, copies and pickles take
        it along, files do not hold it.
        """
        return self._ef

    @ef.setter
    def ef(self, ef: SupportsIndex) -> None:
        self._ef = convert.size(ef, "ef")

    @property
    def space(self) -> str:
        """ "l2", "ip" or "cosine"."""
        return self._space

    @property
    def dim(self) -> int:
        """Numbers per vector."""
        return self._dim

    @property
    def M(self) -> int:
        """Links per item and level; 0 before `init_index`."""
        return self._M

    @property
    def ef_construction(self) -> int:
        """Candidates that an add looks at; 0 before `init_index`."""
        return self._ef_construction

    @property
    def max_elements(self) -> int:
        """Labels allowed; in an index that grows by itself, what it has room for right now.
        0 before `init_index`."""
        return 0 if self._core_handle is None else self._limit(self._core_handle)

    @property
    def element_count(self) -> int:
        """Labels present, those marked deleted included; `len(index)` leaves these out."""
        return self._count("n_live", "n_deleted")

    @property
    def deleted_count(self) -> int:
        """Labels marked deleted."""
        return self._count("n_deleted")

    @property
    def path(self) -> str | None:
        """Where the index is, from the root; None for a private one."""
        return self._path

    @property
    def mode(self) -> str:
        """ "r" or "r+"; a private index is always "r+"."""
        return self._mode

    @property
    def closed(self) -> bool:
        """True after `close()`, and before `init_index` False."""
        return self._core_handle is not None and self._core_handle.closed


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
