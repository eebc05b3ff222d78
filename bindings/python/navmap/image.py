"""`Image`: what `save_index` would write, in a file without a name.  Pickles and copies go through
it.

A pickle of an index must not need much more memory than its own bytes, so nothing here ever holds
the whole of it:

- The engine writes into a memfd, whose pages belong to no map of this process.
- `pickle` is given pieces of that, one at a time, as the items of a list that it asks for while it
  writes.  Pieces are Python integers (the bytes and a final 1, little-endian).  Bytes objects would
  be natural, but pickle remembers every one that it has written, in case it comes again, and keeps
  all of them alive until the end; integers it does not remember.  In protocol 2 and later the bytes
  of an integer are written as they are, and both directions take linear time.
- An image that is made for one pickle only goes from its end to its beginning and is cut off behind
  the reader: while the pickle grows the memfd shrinks.
- What remains is the buffer of `pickle.dumps` itself.  It grows by realloc, which is free for large
  blocks and copies small ones: below 32 MB glibc may need 1.6 times the pickle for it.
- When a pickle is read, `pickle` collects up to 1000 items before it hands them over, which is why
  a piece is small.  They are written into a new memfd, and the engine maps that.

Pickles name this class: it has to stay `navmap.image.Image`, made by `Image(size)`, with `extend`
and `append`.
"""

import os
from collections.abc import Iterable, Iterator
from typing import Any, Self

from navmap import _core
from navmap.errors import CorruptIndexError

PIECE = 16 * 1024  # bytes


def nameless_file() -> int:
    """An empty file that can be written and read and ends with its descriptor, the caller's."""
    try:
        return os.memfd_create("navmap", os.MFD_CLOEXEC)
    except (AttributeError, OSError):  # Python was built for an old libc, or a sandbox says no
        import tempfile  # a tenth of the time that importing navmap takes

        with tempfile.TemporaryFile(buffering=0) as file:
            return os.dup(file.fileno())


def write_all(fd: int, data: Any, offset: int) -> int:
    """Write a buffer at `offset`; returns where it ends.  The system may take it in parts."""
    view = memoryview(data)
    while len(view) > 0:
        written = os.pwrite(fd, view, offset)
        offset += written
        view = view[written:]
    return offset


class Image:
    """The bytes of a saved index, `size` of them, to be given from the last piece to the first."""

    __slots__ = ("_fd", "_missing", "_once", "_size")

    def __init__(self, size: int = 0) -> None:
        self._fd = nameless_file()
        self._size = size
        self._missing = size  # bytes from the start that are still to come
        self._once = False

    @classmethod
    def of(cls, handle: _core.Handle, *, once: bool = False) -> Self:
        """Of an open index, as it is now.  `once`: for a single pickle, of which see above."""
        image = cls()
        handle.save_fd(image._fd)
        image._size = os.fstat(image._fd).st_size
        image._once = once
        return image

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)

    def fileno(self) -> int:
        """The descriptor of the whole image; it stays this object's."""
        if self._missing > 0 or os.fstat(self._fd).st_size != self._size:
            raise CorruptIndexError(
                "Index seems to be corrupted or unsupported: the pickled contents, of "
                f"{self._size} bytes, are not whole"
            )
        return self._fd

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # nothing changes it

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        if protocol < 2:  # it would write the integers as decimal numbers
            raise TypeError("an index needs pickle protocol 2 or later")
        self.fileno()
        return Image, (self._size,), None, self._pieces()

    def _pieces(self) -> Iterator[int]:
        end = self._size
        while end > 0:
            start = (end - 1) // PIECE * PIECE
            yield int.from_bytes(os.pread(self._fd, end - start, start) + b"\1", "little")
            if self._once:
                os.ftruncate(self._fd, start)
            end = start

    def extend(self, pieces: Iterable[int]) -> None:
        for piece in pieces:
            self.append(piece)

    def append(self, piece: int) -> None:
        """The piece in front of those that came so far."""
        count = piece.bit_length() // 8
        data = abs(piece).to_bytes(count + 1, "little")
        if piece < 0 or data[-1] != 1 or not 0 < count <= self._missing:
            raise CorruptIndexError(
                "Index seems to be corrupted or unsupported: pickled contents are not in pieces"
            )
        self._missing -= count
        write_all(self._fd, memoryview(data)[:-1], self._missing)
