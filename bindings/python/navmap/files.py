"""Files: what `save_index` and `load_index` do with paths, and in which words they refuse.

hnswlib has two sentences for a file that cannot be loaded, and callers look for them: "Cannot open
file" and "Index seems to be corrupted or unsupported".  Every refusal begins with one of them and
goes on with the reason.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from navmap import _core, convert
from navmap.convert import StrPath
from navmap.errors import (
    CorruptIndexError,
    Error,
    InvalidInputError,
    NoIndexError,
    StorageError,
    VersionError,
)

CANNOT_OPEN = "Cannot open file"
UNSUPPORTED = "Index seems to be corrupted or unsupported"


@contextmanager
def refusals() -> Iterator[None]:
    """Puts hnswlib's sentence in front of what the engine says."""
    try:
        yield
    except (NoIndexError, StorageError) as error:  # hnswlib does not tell the two apart
        raise _beginning_with(CANNOT_OPEN, error) from None
    except (CorruptIndexError, InvalidInputError, VersionError) as error:
        raise _beginning_with(UNSUPPORTED, error) from None


def _beginning_with(sentence: str, error: Error) -> Error:
    message = str(error)
    return type(error)(message if message.startswith(sentence) else f"{sentence}: {message}")


def save(handle: _core.Handle, path: StrPath) -> None:
    """Write the sealed form to `path`; where that is a symbolic link, to what it leads to."""
    name = convert.full_path(path)
    if os.path.islink(name):
        name = os.path.realpath(name)
    handle.save(os.fsencode(name))


def load(
    path: StrPath,
    dim: int,
    space: str,
    max_elements: int,
    allow_replace_deleted: bool,
    flat: int,
    copy: bool,
    verify: bool,
) -> _core.Handle:
    """The file at `path` as an index in memory."""
    if not os.fsdecode(path):
        raise NoIndexError(f"{CANNOT_OPEN}: the path is empty")
    name = convert.full_path(path)
    with refusals():
        return _core.load(
            os.fsencode(name),
            dim,
            convert.SPACES.index(space),
            max_elements,
            int(allow_replace_deleted),
            flat,
            int(copy),
            int(verify),
        )
