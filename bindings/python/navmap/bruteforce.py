"""`BFIndex`: every search looks at every vector.  The truth that recall is measured against, and
the right thing for a few thousand vectors."""

from typing import Any, Literal, NoReturn, SupportsIndex

import numpy.typing as npt

from navmap import convert, files
from navmap.convert import Floats, Labels, StrPath
from navmap.filters import FilterLike
from navmap.errors import LabelNotFoundError
from navmap.held import Held


class BFIndex(Held):
    """An index without a graph, in this process's memory, with exact answers, as hnswlib has one.

    Vectors, labels, spaces, filters and errors are those of `Index`, and so are threads: any number
    of them may add, delete and search at once, and a call with many rows shares them out.  What is
    not there (`ef`, marks of deletion, pickling) a search that looks at everything does not need;
    an `Index` has it too, under the name of `exact_query`.
    Memory: the vectors, and 120 to 160 bytes an item.
    """

    __slots__ = ()

    _NAME = "BFIndex"
    _FLAT = 1
    _FEWER = "There are not enough elements. The call"
    _PADDING = ""

    def __init__(self, space: Literal["l2", "ip", "cosine"], dim: SupportsIndex) -> None:
        """An index that is still to be given its size, with `init_index`, or its contents, with
        `load_index`.  space and dim: as in `Index`."""
        self._begin_with(space, dim)

    def init_index(self, max_elements: SupportsIndex) -> None:
        """Make the index, empty, with room for `max_elements` labels.  To be called once.

        Memory is taken as items come.  Raises `Error` when the index was made before.
        """
        max_elements = convert.size(max_elements, "max_elements")
        self._refuse_second()
        self._make(max_elements)

    def add_items(self, data: npt.ArrayLike, ids: npt.ArrayLike | None = None) -> None:
        """Add vectors, or give labels that exist new ones.

        data: (rows, dim), or (dim,) for one row; converted to float32.
        ids: a label for each row, a single integer for a single row; None numbers the rows on from
            the largest label present.

        Raises `InvalidInputError` for a wrong shape or dimension, a NaN or an infinity, and
        `CapacityError` when `max_elements` would be passed: then nothing was added.
        """
        vectors = convert.vectors(data, self._dim)
        labels = None if ids is None else convert.row_labels(ids, len(vectors))
        self._handle.add(vectors, labels, self._crew, False, None, False)

    def delete_vector(self, label: SupportsIndex) -> None:
        """Forget a label and its vector; the room is free at once.  An unknown one is no error."""
        handle, number = self._handle, convert.size(label, "label")
        try:
            handle.remove(number)
        except LabelNotFoundError:
            pass

    def knn_query(
        self,
        data: npt.ArrayLike,
        k: SupportsIndex = 1,
        num_threads: SupportsIndex = -1,
        filter: FilterLike | None = None,
    ) -> tuple[Labels, Floats]:
        """The k nearest items of each query: exactly these.

        Arguments, result and errors: as those of `Index.knn_query`.  Cost: rows * items * dim,
        shared among the threads.
        """
        return self._search(data, k, 0, num_threads, filter, False, exact=True)

    def save_index(self, path_to_index: StrPath) -> None:
        """Write the index as one regular file; see `Index.save_index`."""
        files.save(self._handle, path_to_index)

    def load_index(
        self,
        path_to_index: StrPath,
        max_elements: SupportsIndex = 0,
        *,
        copy: bool = False,
        verify: bool = False,
    ) -> None:
        """Take a saved index, navmap's or one that hnswlib's BFIndex has written; see
        `Index.load_index`, also for what may be done to the file afterwards.

        max_elements: labels allowed from now on; less than there are takes what the file says.
        """
        self._load(path_to_index, max_elements, False, copy, verify)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("cannot pickle 'navmap.BFIndex' object")
