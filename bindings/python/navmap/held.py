"""`Held`, what `Index` and `BFIndex` have in common: the engine's handle, the number of threads, and
the ways into it that are the same whether there is a graph or not."""

import warnings
from typing import ClassVar, SupportsIndex

import numpy as np
import numpy.typing as npt

from navmap import _core, convert, files, filters
from navmap.convert import Floats, Labels, StrPath
from navmap.errors import (
    Error,
    FewerResultsError,
    InvalidInputError,
    NotInitializedError,
    OutOfMemoryError,
)
from navmap.filters import FilterLike

LOADED_OVER = "Calling load_index for an already inited index. Old index is being deallocated."


class Held:
    """The base of `Index` and `BFIndex`.  Not to be made by itself."""

    __slots__ = (
        "__weakref__",
        "_core_handle",
        "_crew",
        "_dim",
        "_num_threads",
        "_space",
    )

    _NAME: ClassVar[str]
    _FLAT: ClassVar[int]  # 1: no graph
    _FEWER: ClassVar[str]  # hnswlib's words for a query that finds less than k ...
    _PADDING: ClassVar[str]  # ... and ours about what to do

    def _begin(self, space: str, dim: int) -> None:
        self._space = space
        self._dim = dim
        self._num_threads = self._crew = _core.default_threads()
        self._core_handle: _core.Handle | None = None

    def _begin_with(self, space: str | bytes, dim: SupportsIndex) -> None:
        self._begin(
            convert.SPACES[convert.space_number(space)],
            convert.parameter(convert.int32(dim, "dim"), "dim", 1, 65536),
        )

    def _refuse_second(self) -> None:
        """For the methods `init_index`, which look at the types of arguments, then at this, and at
        values last: that is hnswlib's order."""
        if self._core_handle is not None:
            raise Error("The index is already initiated.")

    def _make(
        self,
        max_elements: int,
        M: int = 0,
        ef_construction: int = 0,
        random_seed: int = 0,
        allow_replace_deleted: bool = False,
        codes: int = 0,
        dtype: int = 0,
    ) -> None:
        handle = _core.new(
            convert.SPACES.index(self._space),
            self._dim,
            M,
            ef_construction,
            random_seed,
            max_elements,
            int(allow_replace_deleted),
            self._FLAT,
            codes,
            dtype,
        )
        stats = handle.stats()
        try:
            self._refuse_second()
        except Error:  # another thread was first
            handle.close()
            raise
        self._attach(handle, stats)

    def _load(
        self,
        path: StrPath,
        max_elements: SupportsIndex,
        allow_replace_deleted: bool,
        copy: bool,
        verify: bool,
    ) -> None:
        """For the methods `load_index`; their callers are who a warning is for."""
        handle = files.load(
            path,
            self._dim,
            self._space,
            convert.size(max_elements, "max_elements"),
            convert.boolean(allow_replace_deleted, "allow_replace_deleted"),
            self._FLAT,
            convert.boolean(copy, "copy"),
            convert.boolean(verify, "verify"),
        )
        stats = handle.stats()
        if self._core_handle is not None and not self._core_handle.closed:
            warnings.warn(LOADED_OVER, RuntimeWarning, stacklevel=3)
        self._attach(handle, stats)

    def _attach(self, handle: _core.Handle, stats: dict[str, int]) -> None:
        """From now on it is this one.  Calls that are inside the one before keep that alive, and
        the last of them releases it."""
        self._core_handle = handle

    @property
    def _handle(self) -> _core.Handle:
        if self._core_handle is None:
            raise NotInitializedError(
                "The index is not initiated. Call init_index or load_index first."
            )
        return self._core_handle

    def __repr__(self) -> str:
        return f"<navmap.{self._NAME}(space={self._space!r}, dim={self._dim})>"

    # Threads ----------------------------------------------------------------------------------

    def _threads(self, num_threads: SupportsIndex) -> int:
        """What an argument comes to; one below 1 means the property."""
        number = convert.int32(num_threads, "num_threads")
        return number if number > 0 else self._crew

    def set_num_threads(self, num_threads: SupportsIndex) -> None:
        """Set the property `num_threads`."""
        number = convert.int32(num_threads, "num_threads")
        self._crew = number if number > 0 else _core.default_threads() if number == 0 else 1
        self._num_threads = number

    @property
    def num_threads(self) -> int:
        """Threads that share the rows of a call when it is not told otherwise.

        At first as many as this process can keep busy, by its affinity and its quota.  0 stands
        for that number too, a negative one for a single thread.  Of this object: files do not
        hold it, copies and pickles do.
        """
        return self._num_threads

    @num_threads.setter
    def num_threads(self, num_threads: SupportsIndex) -> None:
        self.set_num_threads(num_threads)

    # Counts -----------------------------------------------------------------------------------

    def _count(self, *names: str) -> int:
        """A sum of counters; 0 before init_index."""
        if self._core_handle is None:
            return 0
        stats = self._core_handle.stats()
        return sum(stats[name] for name in names)

    @staticmethod
    def _limit(handle: _core.Handle) -> int:
        stats = handle.stats()
        return stats["max_elements"] or (0 if stats["bounded"] else stats["capacity"])

    def get_max_elements(self) -> int:
        """How many labels there may be."""
        return self._limit(self._handle)

    def get_current_count(self) -> int:
        """How many labels there are, those that are marked deleted included."""
        stats = self._handle.stats()
        return stats["n_live"] + stats["n_deleted"]

    # Searching --------------------------------------------------------------------------------

    def _search(
        self,
        data: npt.ArrayLike,
        k: SupportsIndex,
        ef: int,
        num_threads: SupportsIndex,
        filter: FilterLike | None,
        allow_fewer: bool,
        *,
        exact: bool,
        stop: float = 0.0,
        counts: Labels | None = None,
    ) -> tuple[Labels, Floats]:
        k = convert.size(k, "k")
        threads = self._threads(num_threads)
        sieve = None if filter is None else filters.taken(filter)
        if callable(sieve) and convert.int32(num_threads, "num_threads") <= 0:
            threads = 1  # answers do not depend on it, and for Python's lock it is faster
        queries = convert.queries(data, self._dim)
        if isinstance(sieve, tuple) and len(sieve) != len(queries):
            raise InvalidInputError(f"{len(sieve)} filters for {len(queries)} queries")
        shape = (len(queries), k)
        handle = self._handle
        try:
            labels = np.empty(shape, np.uint64)
            distances = np.empty(shape, np.float32)
        except (MemoryError, ValueError):  # NumPy's ValueError: more than fits an address space
            raise OutOfMemoryError(f"no memory for the results: {shape[0]} x {k}") from None
        beam = min(max(ef, 1), convert.U32_MAX)  # 0 would be the engine's default, not the least
        fewer = handle.search(
            exact, queries, beam, threads, sieve, allow_fewer, labels, distances, counts, stop
        )
        if fewer is not None:
            row, found = fewer
            stats = handle.stats()
            live, deleted = stats["n_live"], stats["n_deleted"]
            found = min(found, live)  # 2**64 - 1: refused without a search, for want of items
            let = f", and a filter was given, which {found} live ones pass" if sieve is not None else ""
            raise FewerResultsError(
                f"Cannot return the results in a contiguous 2D array. {self._FEWER} asked for "
                f"{k}, query {row} found {found}; the index has {live} live and {deleted} deleted "
                f"items{let}.{self._PADDING}",
                *(k, row, found, live, deleted),
            )
        return labels, distances
