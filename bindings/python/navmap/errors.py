"""What can go wrong, one class each; every one is a `navmap.Error`, which is a `RuntimeError`.

hnswlib raises `RuntimeError` for nearly everything, so `except RuntimeError` around code that was
written for it still catches all of these.  Where Python has a class of its own for the matter
(`KeyError`, `ValueError`, `FileExistsError`, ...) the class below is that as well.

A failed call has changed nothing, with one exception that is written on the exception itself:
`add_items` keeps whole rows, and `error.added` says how many.
"""

import errno as _errno


class Error(RuntimeError):
    """The base of all errors of navmap.

    `added`: how many rows of the failed `add_items` call are in the index, counted from its
    first; 0 for every other call.  They stay there, whole and searchable; repeating the call
    with the remaining rows completes it.  (With several threads some of these may be in already.)
    """

    added: int = 0

    def __str__(self) -> str:
        # KeyError would show its argument's repr, OSError an errno in brackets.
        return RuntimeError.__str__(self)


class InvalidInputError(Error, ValueError):
    """An argument has the wrong shape, dimension or range, or holds a NaN or an infinity."""


class EmptyQueryError(InvalidInputError, IndexError):
    """`knn_query([])`.  hnswlib raises `IndexError` there, and some code waits for it.  A batch of
    no rows, of shape (0, dim), is no error."""


class OutOfMemoryError(Error, MemoryError):
    """An allocation failed; nothing was changed."""


class StorageError(Error, OSError):
    """The system refused to read, write or sync; the message ends with its reason.

    Also raised for network file systems, which cannot carry an index safely.
    """


class NoSpaceError(StorageError):
    """Disk full, over quota, or over a file size limit.

    All that was acknowledged before is safe.  Of a failed `add_items` the first `added` rows are
    kept; some of them may be committed, and visible to others, only by the next call that
    succeeds, such as `flush()` once there is space.
    """

    errno: int | None = _errno.ENOSPC


class ExistsError(Error, FileExistsError):
    """`create`: something is at that path already; it was not touched."""

    errno: int | None = _errno.EEXIST


class NoIndexError(Error, FileNotFoundError):
    """`open`: nothing is at that path, or something that is no navmap index."""

    errno: int | None = _errno.ENOENT


class LockedError(Error):
    """Somebody else writes to this index; the message names the process."""


class ReadOnlyError(Error):
    """The handle was opened with mode "r", or the files may not be written."""


class NeedsRecoveryError(Error):
    """A writer died and its log must be replayed first, but this process may not write.

    Opening the index once from a process that may write heals it.
    """


class CorruptIndexError(Error):
    """A checksum, a bound or a pairing in the files is wrong; `navmap.verify` says more."""


class VersionError(Error):
    """The index was made by a newer version of navmap, or with features unknown to this one."""


class CapacityError(Error):
    """More labels than `max_elements`; nothing was added."""


class ReplaceError(Error):
    """`add_items` is against the index's rule for deleted items; nothing was added.

    Either `replace_deleted=True` was given to an index made without `allow_replace_deleted`, or
    one made with it was to update a deleted label without `replace_deleted=True`.
    """


class LabelNotFoundError(Error, KeyError):
    """The label was never added, or (for `get_items`) is marked deleted."""


class FewerResultsError(Error):
    """A query has fewer than k results, because fewer than k live items exist or pass the filter.

    `asked` is k, `row` the first query concerned and `found` its number of results; `live` and
    `deleted` count the items of the index.  `knn_query(..., allow_fewer=True)` pads instead.
    """

    def __init__(
        self,
        message: str = "",
        asked: int = 0,
        row: int = 0,
        found: int = 0,
        live: int = 0,
        deleted: int = 0,
    ) -> None:
        super().__init__(message)
        self.asked = asked
        self.row = row
        self.found = found
        self.live = live
        self.deleted = deleted


class NotInitializedError(Error):
    """The index is closed, or `init_index` was not called yet."""


class PoisonedError(Error):
    """An earlier sync failed, so nothing more may be written through this handle.

    Searching goes on.  Close the index and open it again: that recovers to the last commit.
    """


class StaleError(Error):
    """Another index is at the path of this handle by now: open it again.

    Raised by `save_index` of a directory opened with mode "r"; searches go on over the old one.
    """


class ForkedError(Error):
    """The handle was opened for writing before `fork()`: open the index again in the child."""
