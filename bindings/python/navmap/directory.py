"""`create` and `open`: an index that is a directory, durable and shared among processes."""

import os
from typing import Literal

from navmap import _core, convert
from navmap.convert import StrPath
from navmap.errors import InvalidInputError
from navmap.index import Index
from navmap.opened import MODES


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
    codes: Literal["i8"] | None = "i8",
    dtype: Literal["f32", "f16"] = "f32",
    overwrite: bool = False,
) -> Index:
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
    codes: "i8": searches and adds measure with eight-bit codes, which are kept beside the
        vectors, and look at the vectors themselves for the answer only: several times as fast, for
        dim + 8 bytes an item more.  None: with the vectors alone.
    dtype: "f32": vectors are kept as they are given.  "f16": rounded to IEEE halves, in half the
        room: 11 bits of precision, numbers up to 65504 (any, for "cosine").  Calls take and give
        float32 all the same; distances are exact for what is kept.
    overwrite: empty an index that is at `path` already, and give it these parameters.  At one
        instant; a crash leaves the old index or the new one.  Its readers move to the empty
        one; those whose dim, space, M, codes or dtype was another get `StaleError`.  Anything else at `path` is
        left alone.

    Raises `ExistsError` if something is at `path` (with `overwrite`: that is no index;
    `LockedError` if it has another writer), `NoIndexError` (a `FileNotFoundError`) if its
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
        convert.codes_number(codes),
        convert.dtype_number(dtype),
        int(convert.boolean(overwrite, "overwrite")),
    )
    return Index._of(handle, name)


def open(
    path: StrPath,
    mode: Literal["r", "r+"] = "r",
    *,
    timeout: float | None = 0.0,
    durability: Literal["full", "manual"] = "full",
    checkpoint_bytes: int | None = None,
) -> Index:
    """Open an existing index.

    mode: "r" to search, beside any number of other readers and one writer, in any process; what
        the writer adds appears by itself.  "r+" to change it as well, as the one writer.
    timeout: seconds to wait for another writer to finish; 0 does not wait, None waits for ever.
        Ctrl-C ends the wait.
    durability: see `create`; for mode "r+".
    checkpoint_bytes: how long the log may grow before it is folded into the data file; None
        picks a quarter of the data, between 1 MiB and 128 MiB (twice that between two calls, so
        that nobody waits for it while threads could go on).  It bounds the time that the
        first open after a crash takes.

    Raises `NoIndexError` if there is no index, `LockedError` (naming the process) if mode is
    "r+" and another handle is the writer, `ReadOnlyError` if mode is "r+" and the files may not
    be written, `NeedsRecoveryError` if a writer died and this process may not write, and
    `VersionError`, `CorruptIndexError`, `StorageError` if the files are newer, damaged,
    unreadable.
    Cost: a few milliseconds at any size.  After a crash the log is replayed, in under a second.
    """
    if mode not in MODES:
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
        MODES.index(mode),
        convert.durability_number(durability),
        seconds,
        checkpoint_bytes or 0,
    )
    return Index._of(handle, name)
