"""`Index`: a vector index, private to this process or an open directory."""

import os
from collections.abc import Callable
from typing import Any, Literal, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from navmap import convert
from navmap.convert import Floats, Labels, StrPath
from navmap.filters import FilterLike
from navmap.errors import Error, InvalidInputError
from navmap.saved import Saved

_CURVE_KS, _CURVE_RECALLS = (1, 10, 100), (0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
_UINT64, _FLOAT32 = np.dtype(np.uint64), np.dtype(np.float32)


class Index(Saved):
    """A vector index: `Index(space, dim)` and `init_index` or `load_index` make a private one, as
    in hnswlib; `navmap.create` and `navmap.open` return one that is a directory.

    A private index lives in this process's memory and ends with it; `save_index` writes it to a
    file, which `load_index` maps, and it can be copied and pickled.  One in a directory is durable,
    shared among processes, and never larger in memory than the parts that are used.  All else is
    alike.

    Vectors go in as anything NumPy can turn into float32: an array of shape (rows, dim), or
    (dim,) for a single row.  They must be finite.  An item's name is its label, a number from 0 to
    2**64 - 1.

    Threads: one index may be used by any number of threads; they search, add, update and delete
    side by side.  Python's lock is released in all of it.  A call with many rows shares them out
    among threads of its own, see `num_threads`.
    Processes: one writer and any number of readers of a directory.  A reader sees what the writer
    committed, without reopening.  An index that was open for writing is of no use after `fork()`
    (`ForkedError`): open it again in the child.  One that was open for reading goes on, and so
    does a private one, as a copy.
    End: `close()`, leaving a `with` block, dropping the last reference and the exit of the
    program all flush and close; a process that is killed loses nothing that was committed to a
    directory.
    Errors: every class is a `navmap.Error`; see navmap/errors.py.  A call that fails has changed
    nothing, but for `add_items`, whose error says how many rows went in.
    """

    __slots__ = ()

    _NAME = "Index"
    _FLAT = 0
    _FEWER = "Probably ef or M is too small:"
    _PADDING = " allow_fewer=True pads such rows."

    @overload
    def __init__(self, space: Literal["l2", "ip", "cosine"], dim: SupportsIndex) -> None: ...

    @overload
    def __init__(
        self, space: None = None, dim: None = None, *, params: dict[str, Any], index: None = None
    ) -> None: ...

    @overload
    def __init__(
        self, space: None = None, dim: None = None, *, params: None = None, index: "Index"
    ) -> None: ...

    @overload
    def __init__(self, space: "dict[str, Any] | Index") -> None: ...

    def __init__(
        self,
        space: Any = None,
        dim: SupportsIndex | None = None,
        *,
        params: dict[str, Any] | None = None,
        index: "Index | None" = None,
    ) -> None:
        """`Index(space, dim)`: a private index that is still to be given its size, with
        `init_index`, or its contents, with `load_index`.

        space: how distance is measured; smaller is nearer.  "l2" is the *squared* Euclidean
            distance, "ip" is 1 - inner product, "cosine" is 1 - cosine (vectors are normalised
            when added).
        dim: numbers per vector, 1 to 65536.

        `Index(params=...)`: out of the dictionary in `__getstate__()[0]`, of navmap or hnswlib.
        `Index(index=...)`: a copy of another index in memory, with its `ef` and `num_threads`; the
        other may be a directory.

        Raises `InvalidInputError` for an unknown space or a dim out of range, `TypeError` for any
        other mixture of arguments.
        """
        match space, dim, params, index:
            case (dict() as given, None, None, None) | (None, None, dict() as given, None):
                self._become(given)
            case (Index() as other, None, None, None) | (None, None, None, Index() as other):
                self._become(other._state(once=True))
            case _, _, None, None if space is not None and dim is not None:
                self._begin_with(space, dim)
            case _:
                raise TypeError("Index() takes (space, dim), (params=dict) or (index=Index)")

    def init_index(
        self,
        max_elements: SupportsIndex,
        M: SupportsIndex = 16,
        ef_construction: SupportsIndex = 200,
        random_seed: SupportsIndex = 100,
        allow_replace_deleted: bool = False,
        *,
        codes: Literal["i8"] | None = "i8",
        dtype: Literal["f32", "f16"] = "f32",
    ) -> None:
        """Make the index, private and empty.  To be called once.

        max_elements: the number of labels allowed, deleted ones included; `resize_index` changes
            it.  Memory is taken as items come, not for this number.
        M: links per item and level (twice that on the lowest), 2 to 512.
        ef_construction: how many candidates an add looks at; at least M is used.
        random_seed: of the levels that items are given; 0 stands for 100, the default.
        allow_replace_deleted: let `add_items(..., replace_deleted=True)` put new items in the
            place of deleted ones.
        codes: "i8": searches and adds measure with eight-bit codes, which are kept beside the
            vectors, and look at the vectors themselves for the answer only: several times as fast, for
            dim + 8 bytes an item more.  None: with the vectors alone.
        dtype: "f32": vectors are kept as they are given.  "f16": rounded to IEEE halves, in half the
            room: 11 bits of precision, numbers up to 65504 (any, for "cosine").  Calls take and give
            float32 all the same; distances are exact for what is kept.

        Raises `Error` when the index was made before, and `InvalidInputError` for a parameter out
        of range.
        """
        max_elements = convert.size(max_elements, "max_elements")
        M = convert.size(M, "M")
        ef_construction = convert.size(ef_construction, "ef_construction")
        random_seed = convert.size(random_seed, "random_seed")
        allow_replace_deleted = convert.boolean(allow_replace_deleted, "allow_replace_deleted")
        codes_number = convert.codes_number(codes)
        dtype_number = convert.dtype_number(dtype)
        self._refuse_second()
        M = convert.parameter(M, "M", 2, 512)
        ef_construction = max(convert.parameter(ef_construction, "ef_construction", 0), 1)
        self._make(
            max_elements,
            M,
            ef_construction,
            random_seed,
            allow_replace_deleted,
            codes_number,
            dtype_number,
        )

    # Changing ---------------------------------------------------------------------------------

    def add_items(
        self,
        data: npt.ArrayLike,
        ids: npt.ArrayLike | None = None,
        num_threads: SupportsIndex = -1,
        replace_deleted: bool = False,
        *,
        progress: Callable[[int, int], object] | None = None,
        reproducible: bool = False,
    ) -> None:
        """Add vectors, or give labels that exist new ones.

        data: (rows, dim), or (dim,) for one row; converted to float32.
        ids: the labels, one for each row, as a list or an array of integers; a single integer for
            a single row.  Negative integers wrap (-1 is 2**64 - 1), as in hnswlib.  None numbers
            the rows on from the largest label present, so nothing is overwritten.
        num_threads: how many threads share the rows; 0 or less takes the property `num_threads`.
            Up to 4 rows a thread are added by the calling thread alone, and so is a batch in
            which a label occurs twice.
        replace_deleted: labels that are not present take the places of deleted items, whose own
            labels are forgotten, as long as there are any; no room under `max_elements` is needed
            for these.  For an index made with allow_replace_deleted.
        progress: called as progress(done, total) some times a second and at the end, by the
            calling thread.  What it raises stops the adding.
        reproducible: the graph is the same, byte for byte, whatever the number of threads and the
            processor: it depends on the index, its `random_seed` and the rows in their order only,
            if nobody else changes the index meanwhile.  Threads share the work of new labels in a
            private index, and of a load that is most of a directory; all else one thread does.

        A label that is present gets the new vector; one that was marked deleted comes back with
        it (with allow_replace_deleted only if `replace_deleted` is given too).  Of a label that
        occurs twice the later row counts.

        With durability "full" the items are on disk, and found by every process, when this
        returns; with "manual" after `flush()`.  In a private index they are found at once.

        Raises `InvalidInputError` for a wrong shape or dimension, a NaN or an infinity,
        `CapacityError` when `max_elements` would be passed, and `ReplaceError` for a batch that
        is against the rules of `replace_deleted`: then nothing was added.  A full disk
        (`NoSpaceError`), Ctrl-C (`KeyboardInterrupt`) or an exception from `progress` can come
        half-way: whole rows stay, the first `error.added` of them, and with several threads perhaps
        some behind, which others finished before the failure was known; adding from row
        `error.added` on completes the call.  `ReadOnlyError` on an index opened with mode "r".

        Cost: about ef_construction * M distances a row, divided by the threads.  In a directory
        one call with many rows is much cheaper than many calls: each call syncs the disk.  The
        graph is the same each time if one thread at a time adds, and differs a little otherwise, unless
        `reproducible`.
        """
        threads = self._threads(num_threads)
        vectors = convert.vectors(data, self.dim)
        labels = None if ids is None else convert.row_labels(ids, len(vectors))
        if progress is not None and not callable(progress):
            raise TypeError(f"progress must be callable, not {type(progress).__name__}")
        replace = convert.boolean(replace_deleted, "replace_deleted")
        same = convert.boolean(reproducible, "reproducible")
        self._handle.add(vectors, labels, threads, replace, progress, same)

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

    def resize_index(self, new_size: SupportsIndex) -> None:
        """Set `max_elements`, up or down; other threads may go on meanwhile.

        Raises `InvalidInputError` when more labels than that are present, deleted ones included.
        In a directory 0 lets the index grow by itself, and the change is durable like an add.
        Memory and files keep their size.  Cost: none to speak of.
        """
        self._handle.resize(convert.size(new_size, "new_size"))

    def flush(self) -> None:
        """Commit what is pending and fold the log into the data file.

        Needed with durability "manual", to make changes durable and visible.  With "full" it only
        shortens the log, and on a private index it does nothing.  `ReadOnlyError` on an index
        opened with mode "r".
        """
        self._handle.flush()

    def vacuum(
        self,
        *,
        num_threads: SupportsIndex = -1,
        progress: Callable[[int, int], object] | None = None,
    ) -> dict[str, int]:
        """Take what was deleted, updated or replaced out of the graph, but not out of the index.

        Afterwards searches are as quick and find as much as in an index built anew of what is live,
        and the places of updated and replaced items are free to be used again.  Items that are
        marked deleted stay; `unmark_deleted` finds them and gives them new links.  Files and memory
        keep their size; `compact` makes them smaller.  Changes do such work by themselves, bit by
        bit, for updated and replaced items; not for those that are marked deleted.

        num_threads: 0 or less takes the property `num_threads`.  Used where links are made anew.
        progress: called as progress(done, total) some times a second.  What it raises stops the
            call.  It may search, but not change the index.

        Searches go on, in other processes too.  While less than a third of all links leads to what
        is gone, rows are repaired and other threads may change the index in between.  Beyond that
        all links are made anew in memory, and changes wait.  When the call is stopped, what was
        done stays; call it again for the rest.

        Returns counts: `slots_freed`, `rows_repaired`, `ways_given` (live items that no walk came
        to, and that have a link now) and `linked_anew`, 1 or 0.  `ReadOnlyError` on an index opened
        with mode "r".  Cost: some microseconds for each row that names something gone, or, with
        `linked_anew`, as of adding all live items to a new index.
        """
        threads = self._threads(num_threads)
        if progress is not None and not callable(progress):
            raise TypeError(f"progress must be callable, not {type(progress).__name__}")
        return self._handle.vacuum(threads, progress)

    def compact(
        self,
        *,
        keep_deleted: bool = False,
        keep_order: bool = False,
        refine: bool = False,
        M: SupportsIndex | None = None,
        ef_construction: SupportsIndex | None = None,
        codes: Literal["i8", "keep"] | None = "keep",
        output: StrPath | None = None,
        directory: bool = False,
        num_threads: SupportsIndex = -1,
        progress: Callable[[int, int], object] | None = None,
    ) -> dict[str, int]:
        """Write the index anew, without what it does not need.

        Items that were marked deleted are FORGOTTEN, with their labels and vectors, and cannot be
        unmarked; so is what updates and `replace_deleted` left behind.  Links through them are
        mended, and items are renumbered so that what a search looks at together lies together:
        searches of large indexes become faster.

        keep_deleted: keep the marked items, marked.
        keep_order: leave the items in the order in which they lie.
        refine: let each item choose its neighbours once more, among all that are there now; takes
            about as long as adding them.
        M, ef_construction: build the graph anew with these.
        codes: "keep" leaves them as they are; "i8" gives the index eight-bit codes, None takes them
            away (see `init_index`).  The graph stays.
        output: a path to write to, in place of changing the index: one file, as `save_index` makes
            it, or with `directory` a new index for `open`.
        num_threads: 0 or less takes the property `num_threads`.
        progress: called as progress(done, total) some times a second.  What it raises stops the
            call.  It may search, but not change the index.

        With another M or other codes in place, no other thread may be using the index, nor may
        `progress` (`LockedError`); and others who have the directory open have to open it again
        (`StaleError`).

        In a directory the new data takes over at one instant.  A crash, Ctrl-C or a full disk
        leave the index as it was.  Readers go on searching, in other processes too, and move to the
        new data by themselves; changes wait.  Room for a second copy of the data is needed.

        Returns how many `items` there are now, how many were `forgotten`, how many places
        `dropped` that held nothing, `bytes_before` and `bytes_after` on disk, and `log_erased`: 1
        if nothing of what was dropped is left in any file of the index.  0 means that others had
        the log open, and old vectors may still lie there; compact again when they are gone.
        """
        threads = self._threads(num_threads)
        if progress is not None and not callable(progress):
            raise TypeError(f"progress must be callable, not {type(progress).__name__}")
        handle = self._handle
        told = handle.compact(
            convert.boolean(keep_deleted, "keep_deleted"),
            convert.boolean(keep_order, "keep_order"),
            convert.boolean(refine, "refine"),
            0 if M is None else convert.parameter(M, "M", 2, 512),
            0 if ef_construction is None else convert.size(ef_construction, "ef_construction"),
            0 if codes == "keep" else convert.codes_number(codes),
            None if output is None else os.fsencode(convert.full_path(output)),
            convert.boolean(directory, "directory"),
            threads,
            progress,
        )
        if M is not None and output is None and handle is self._core_handle:
            self._attach(handle, handle.stats())
        return told

    # Searching --------------------------------------------------------------------------------

    def knn_query(
        self,
        data: npt.ArrayLike,
        k: SupportsIndex = 1,
        num_threads: SupportsIndex = -1,
        filter: FilterLike | None = None,
        *,
        ef: SupportsIndex | None = None,
        allow_fewer: bool = False,
        target_recall: float | None = None,
        stop: float | None = None,
    ) -> tuple[Labels, Floats]:
        """The k nearest items of each query, approximately.

        data: (rows, dim), or (dim,) for one row; converted to float32.
        k: how many; 0 gives empty rows.
        num_threads: how many threads share the rows; 0 or less takes the property `num_threads`.
            Up to 4 rows a thread are searched by the calling thread alone.
        filter: which labels may be returned.  Either those labels, as an array, list, tuple,
            range or set of integers, or, if they are used again, as a `Filter` made of them once;
            these are the fast ways.  Or a list with a `Filter` or None for each query.  Or a
            callable: filter(label) is asked
            about items that come near, at most once for each query as a rule, and says yes with a
            true value.  It runs under Python's lock, in whichever thread asks, and may use the
            index.  What it raises ends the call and is raised here.  Since threads would wait for
            that lock more than they search, a call with a callable is not shared out unless the
            argument `num_threads` says so.
        ef: how many candidates the search keeps; more finds better ones and takes longer.  At
            least k is used.  None takes the property `ef`.
        allow_fewer: pad rows that have fewer than k results with label 2**64 - 1 and distance
            +inf, instead of raising.
        target_recall: in the place of `ef`, the share of the true nearest that is to be found, above
            0 and up to 0.999: takes the ef that `calibrate` found to reach it.
        stop: end the search when what is left to look at is farther than 1 + stop times the k-th
            nearest found (by Euclidean distance, for "l2" and "cosine"), though it is fewer than
            `ef`.  With a wide ef, up to 2,048, and a stop of 0.05 to 0.15 easy queries end early and
            hard ones go on: fewer distances for the same recall than by ef alone.  With a filter the
            k-th is that of what passes.

        Returns (labels, distances): uint64 and float32 arrays of shape (rows, k), new and
        C-contiguous, nearest first, ties by label.

        Raises `InvalidInputError` for a wrong shape or dimension, a NaN or an infinity, and for a
        `target_recall` that is out of range, beside `ef`, or without `calibrate`, and a `stop` below
        0 or with the space "ip";
        `FewerResultsError` when fewer than k live items exist that pass the filter.  If the graph
        leads to too few, all vectors are looked at before that is said.

        Every pair was in the index, whole, at some instant of the call; other threads and
        processes may add and delete meanwhile.
        """
        if target_recall is not None:
            ef = self._aim(k, target_recall, ef)
        if type(data) is np.ndarray and data.dtype is _FLOAT32 and data.size == self._dim:
            plain = type(k) is type(num_threads) is int and num_threads == -1 and stop is None
            if plain and filter is None and allow_fewer is False:
                answer = self._alone(data, k, self._ef if ef is None else ef)
                if answer is not None:
                    return answer
        beam = self._ef if ef is None else convert.size(ef, "ef")
        fewer = convert.boolean(allow_fewer, "allow_fewer")
        share = 0.0 if stop is None else convert.real(stop, "stop")
        return self._search(data, k, beam, num_threads, filter, fewer, exact=False, stop=share)

    def _aim(self, k: SupportsIndex, target_recall: float, ef: SupportsIndex | None) -> int:
        if ef is not None:
            raise InvalidInputError("give one of ef and target_recall")
        share = convert.real(target_recall, "target_recall")
        return self._handle.ef_for_recall(convert.size(k, "k"), share)

    def _alone(
        self, query: npt.NDArray[np.float32], k: int, ef: Any
    ) -> tuple[Labels, Floats] | None:
        """A single query as it mostly comes, without what `_search` looks at first, which takes
        longer than to search a small index.  None: it is not of that kind, or something is wrong
        with it, which `_search` finds out again and says as it should be said."""
        if query.ndim == 1:
            query = query.reshape(1, -1)
        if query.ndim != 2 or not 0 < k <= 4096 or type(ef) is not int or ef == 0:
            return None
        labels, distances = np.empty((1, k), _UINT64), np.empty((1, k), _FLOAT32)
        try:
            fewer = self._handle.search(False, query, ef, 1, None, False, labels, distances)
        except (Error, BufferError, OverflowError, TypeError, ValueError):
            return None
        return (labels, distances) if fewer is None else None

    def exact_query(
        self,
        data: npt.ArrayLike,
        k: SupportsIndex = 1,
        *,
        filter: FilterLike | None = None,
        num_threads: SupportsIndex = -1,
        allow_fewer: bool = False,
    ) -> tuple[Labels, Floats]:
        """As `knn_query`, by looking at every live vector: exact, and rows * len(index) * dim
        operations, shared among the threads.  For measuring recall, and for small indexes."""
        fewer = convert.boolean(allow_fewer, "allow_fewer")
        return self._search(data, k, 0, num_threads, filter, fewer, exact=True)

    def explain(
        self,
        data: npt.ArrayLike,
        k: SupportsIndex = 1,
        filter: FilterLike | None = None,
        *,
        ef: SupportsIndex | None = None,
        target_recall: float | None = None,
        stop: float | None = None,
    ) -> dict[str, int]:
        """Which ways a `knn_query` of these arguments goes, and what that costs: it is made, by one
        thread, and what it did is counted over all its rows.

        `walks`: through the graph, every node on the way a step; `hops`: through what passes the
        filter, with others as bridges only; `scans`: of all that passes.  A row that comes to too
        little goes a second way.  `measured`: distances of walks and hops, from the entry point on;
        `expanded`: rows of links read; `scanned`: items that scans compared; `exact`: vectors read
        for the answer.
        """
        names = ("measured", "expanded", "exact", "scanned", "walks", "hops", "scans")
        counts = np.zeros(len(names), np.uint64)
        if target_recall is not None:
            ef = self._aim(k, target_recall, ef)
        beam = self._ef if ef is None else convert.size(ef, "ef")
        share = 0.0 if stop is None else convert.real(stop, "stop")
        self._search(data, k, beam, 1, filter, True, exact=False, counts=counts, stop=share)
        return dict(zip(names, counts.tolist(), strict=True))

    # Calibrating ------------------------------------------------------------------------------

    def calibrate(
        self,
        *,
        samples: SupportsIndex = 500,
        num_threads: SupportsIndex = -1,
        progress: Callable[[int, int], object] | None = None,
    ) -> dict[str, Any]:
        """Measure which `ef` reaches which recall in this index, and keep it for `target_recall`.

        samples: how many items are taken for queries.  Each has to find its neighbours without
            meeting itself; which they are is found by looking at all vectors.
        num_threads: 0 or less takes the property `num_threads`.
        progress: called as progress(done, total) some times a second.  What it raises ends the
            call, and leaves the index as it was.

        Returns what `calibration` is from now on.  It lives in the index: in a directory it is
        durable like `add_items`, and every reader has it; `save_index`, pickles and copies keep
        it, and `compact` measures anew; to an output with another M, with other codes or refined it
        does not go along.  Items that are added, and there being more of them, change
        what is needed: with twice as many items a recall of .95 fell by 1 to 2 points.  Calibrate
        again then.

        Raises `InvalidInputError` when fewer than two items are live, and `ReadOnlyError` on an
        index opened with mode "r".

        Cost: an exact search of each sample, 32 of them together, and some thousand searches: seconds
        for 300,000 items.  500 samples leave a standard error of 0.4 points of recall at 0.95 with
        k=10, and of 1 with k=1.
        """
        threads = self._threads(num_threads)
        if progress is not None and not callable(progress):
            raise TypeError(f"progress must be callable, not {type(progress).__name__}")
        wanted = convert.parameter(samples, "samples", 1)
        return _curves(*self._handle.calibrate(wanted, threads, progress))

    @property
    def calibration(self) -> dict[str, Any] | None:
        """What `calibrate` found, {"items": how many there were then, "ef": {k: {recall: ef}}}, for
        k of 1, 10 and 100 and six recalls from 0.8 to 0.999; an ef of None: it was not reached.
        None if it was never called.  `target_recall` reads between these."""
        items, efs = self._handle.calibration()
        return _curves(items, efs) if items else None

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
        return_type = convert.text(return_type, "return_type")
        if return_type not in ("numpy", "list"):
            raise ValueError('return_type should be "numpy" or "list"')
        labels = np.empty(0, np.uint64) if ids is None else convert.labels(ids)
        if labels.ndim == 0:
            raise ValueError("get_items accepts a list of indices and returns a list of vectors")
        n = labels.shape[0]
        if n == 0 and self._core_handle is None:  # nothing of nothing, as in hnswlib
            return [] if return_type == "list" else np.empty(0, np.float32)
        vectors = np.empty((n, self.dim), np.float32)
        self._handle.get(labels.reshape(-1)[:n], vectors)
        if return_type == "list":
            result: list[list[float]] = vectors.tolist()
            return result
        return vectors if n > 0 else vectors.reshape(0)  # shape (0,), as hnswlib

    def get_ids_list(self, include_deleted: bool = True) -> list[int]:
        """All labels, in no particular order; with those marked deleted, unless told otherwise."""
        deleted_too = convert.boolean(include_deleted, "include_deleted")
        room = 0
        while True:
            labels = np.empty(room, np.uint64)
            n = self._handle.labels(deleted_too, labels)
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
        return self._core_handle is not None and self._core_handle.contains(number)


def _curves(items: int, efs: list[list[int]]) -> dict[str, Any]:
    rows = (
        {recall: ef or None for recall, ef in zip(_CURVE_RECALLS, row, strict=True)} for row in efs
    )
    return {"items": items, "ef": dict(zip(_CURVE_KS, rows, strict=True))}
