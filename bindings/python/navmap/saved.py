"""`Saved`, the part of `Index` that outlives it or doubles it: files, copies and pickles."""

import copyreg
import operator
from typing import Any, SupportsIndex

from navmap import files, state
from navmap.convert import StrPath
from navmap.errors import Error
from navmap.image import Image
from navmap.opened import Opened

# What pickle itself uses for an object that is made by __new__; the type stubs do not know it.
NEW_OBJECT: Any = vars(copyreg)["__newobj__"]


class Saved(Opened):
    """The base of `Index`.  Not to be made by itself."""

    __slots__ = ()

    # Files ------------------------------------------------------------------------------------

    def save_index(self, path_to_index: StrPath) -> None:
        """Write the index as one regular file, which `load_index` maps.

        path_to_index: where to.  What is there is replaced, at once and as a whole: until the new
            file is complete and on disk the old one stays, and keeps its bytes for whoever has
            loaded it.  A symbolic link is followed.  Directories are not made.

        Live and deleted items are written, `M`, `ef_construction` and `max_elements`, with
        checksums.  `ef` and `num_threads` are not: they belong to the object.  A directory index
        can be saved too, as it was last committed.

        Raises `NoIndexError` (a `FileNotFoundError`) if the parent is not there,
        `InvalidInputError` if something else than a file is in the way, `NoSpaceError` or
        `StorageError` if the system refuses; then nothing is left or changed at the path.
        `CorruptIndexError` if an item does not match its checksum, `LockedError` if a directory
        opened with mode "r" has a writer, `StaleError` if another one is at its path by now.
        Other threads go on searching meanwhile; those that add or delete wait.
        Cost: one pass over the index and one over the disk.
        """
        files.save(self._handle, path_to_index)

    def load_index(
        self,
        path_to_index: StrPath,
        max_elements: SupportsIndex = 0,
        allow_replace_deleted: bool = False,
        *,
        copy: bool = False,
        verify: bool = False,
    ) -> None:
        """Take a saved index, in place of `init_index` or of what is here.

        path_to_index: a file of `save_index`, navmap's or hnswlib's.  It must be of this `dim`;
            distances are measured by this object's `space`, whatever it was made for (vectors
            stay as they are, so a file of "l2" in "cosine" is not normalised).
        max_elements: labels allowed from now on; less than there are takes what the file says.
        allow_replace_deleted: as in `init_index`, whatever the file says.
        copy: read the file into memory instead of mapping it.
        verify: check every checksum and link first.

        A file of navmap is mapped: this takes no time whatever its size, processes that load the
        same file share its memory, and changes stay in this process until they are saved.  The
        file may be deleted, or replaced as `save_index` does.  Overwriting it in place or cutting
        it short takes the bytes away from under the index: the next call raises
        `CorruptIndexError`, and being cut short during a call ends the process (SIGBUS).  `copy`
        is for such files.  One of hnswlib is always converted, in one pass, every number checked.

        `ef` and `num_threads` stay what they are; `M`, `ef_construction` and the items come from
        the file.  With ids=None `add_items` goes on after the largest label.

        An index that was made or loaded before is replaced, with a warning (RuntimeWarning);
        calls of other threads that are under way finish with the old one.  A load that fails
        leaves the old one as it was.

        Raises `NoIndexError` (a `FileNotFoundError`) if there is no file, `CorruptIndexError` or
        `VersionError` for one that is damaged, too new or something else, `InvalidInputError` for
        a directory (see `navmap.open`), another dim, or a file of `BFIndex`.
        """
        if self._path is not None:
            raise Error(
                f"The index is already initiated. It is the directory {self._path}; load_index is "
                "for an Index(space, dim) in memory"
            )
        self._load(path_to_index, max_elements, allow_replace_deleted, copy, verify)

    def index_file_size(self) -> int:
        """The size in bytes of the file that `save_index` would write now.  (A file of hnswlib has
        another size.)"""
        return self._handle.file_bytes()

    # Copies and pickles -----------------------------------------------------------------------
    #
    # copy.copy and copy.deepcopy go the way of pickles, so that what a subclass has beside the
    # index, or says in a __getstate__ of its own, comes along in all of them.

    def _state(self, *, once: bool) -> dict[str, Any]:
        result = state.settings(self._space, self._dim, self._num_threads, self._ef)
        handle = self._core_handle
        if handle is not None:
            result[state.CONTENTS] = Image.of(handle, once=once)
            result |= state.facts(handle.stats())
        return result

    def _become(self, params: dict[str, Any]) -> None:
        """Settings and contents of a dictionary.  When that fails nothing is changed."""
        if getattr(self, "_path", None) is not None:
            raise Error("The index is already initiated. It is a directory")
        space, dim, ef, num_threads, handle = state.parts_of(params)
        self._begin(space, dim)
        self.set_ef(ef)
        self.set_num_threads(num_threads)
        if handle is not None:
            self._attach(handle, handle.stats())

    def _pickled(self, *, once: bool) -> tuple[dict[str, Any]]:
        if self._path is not None:
            raise TypeError(
                f"cannot pickle or copy an index that is a directory, {self._path}: pass its path "
                "on and navmap.open() it there, or make a copy in memory with Index(index=...)"
            )
        result = self._state(once=once)
        if attributes := getattr(self, "__dict__", None):
            result[state.ATTRIBUTES] = attributes
        return (result,)

    def __getstate__(self) -> tuple[dict[str, Any]]:
        """(dict,) of settings, facts and contents, the numbers under hnswlib's names.

        The contents are a snapshot, in memory of its own.  TypeError for a directory.
        """
        return self._pickled(once=False)

    def __setstate__(self, pickled: tuple[dict[str, Any]]) -> None:
        """Become what `__getstate__()` gave, navmap's or hnswlib's.

        Raises `Error` ("Invalid state!", "Unpickle Error: ..."), `KeyError` for a number that is
        missing, and what `load_index` raises for contents that are damaged.
        """
        if not isinstance(pickled, tuple) or len(pickled) != 1:
            raise Error("Invalid state!")
        self._become(pickled[0])
        if hasattr(self, "__dict__"):
            self.__dict__.update(pickled[0].get(state.ATTRIBUTES, {}))

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        if operator.index(protocol) < 2:
            raise TypeError("an index needs pickle protocol 2 or later")
        own = type(self).__getstate__ is not Saved.__getstate__  # a subclass's
        pickled = self.__getstate__() if own else self._pickled(once=True)
        return NEW_OBJECT, (type(self),), pickled
