"""`Filter`, a set of labels that is prepared once and used by many searches, and what else may be
given as `filter=`."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from navmap import _core, convert
from navmap.convert import LabelList, Labels

if TYPE_CHECKING:
    from navmap.held import Held


class Filter:
    """Which labels of an index a search may return, prepared once: `knn_query(..., filter=f)`.

    A list of labels as `filter` is prepared anew in every call, which costs 0.25 us a label, or up to
    10 ns for each item of the index; this is not.

    index: an `Index` or `BFIndex`, initialised.  The filter is for this index only, until it is
        closed or another one is loaded into it.
    labels: those that may be returned, as an array, list, tuple, range or set of integers.  They are
        copied.  Unknown ones do no harm, and count from the moment they are added.
    deny: the labels are those that may not be returned; all others may.

    It stays right while items are added, updated, deleted and undeleted: only labels decide.  The
    first search after a change that needs it brings it up to date, in time that is small beside
    making it anew.  Any number of threads may search with one filter at once, beside others that
    change the index.  A list with one `Filter` (or None) for each query of a call is a filter too.

    Cost: some 10 ns for each label and each item.  Memory: a bit an item, and for the labels a bit
    for each number between the least and the largest, or up to 24 bytes a label if that is less.

    Raises `TypeError` for what holds no labels, `InvalidInputError` for numbers that are none, and
    when it is used with another index.
    """

    __slots__ = ("_core_filter", "_core_handle", "_deny")

    def __init__(self, index: "Held", labels: LabelList, deny: bool = False) -> None:
        self._deny = convert.boolean(deny, "deny")
        self._core_handle = index._handle
        self._core_filter = self._core_handle.filter(convert.allowed(labels), self._deny)

    @property
    def deny(self) -> bool:
        """Are its labels those that may not be returned?"""
        return self._deny

    def stats(self) -> dict[str, int]:
        """`labels`: different ones in the set; `pass`: live items of the index that pass now;
        `bytes`: memory.  Brings the filter up to date.  Raises `Error` if the index was closed."""
        return self._core_handle.filter_look(self._core_filter)

    def __repr__(self) -> str:
        return f"<navmap.Filter(deny={self._deny})>"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("cannot pickle 'navmap.Filter' object: it belongs to an open index")


FilterLike: TypeAlias = (
    Callable[[int], object] | LabelList | Filter | Sequence[Filter | None]
)
_Taken: TypeAlias = (
    Callable[[int], object] | Labels | _core.FilterSet | tuple[_core.FilterSet | None, ...]
)


def taken(filter: FilterLike) -> _Taken:
    """A filter as the extension takes it: a function as it is, prepared ones, or labels."""
    if isinstance(filter, Filter):
        return filter._core_filter
    if isinstance(filter, list | tuple) and filter and isinstance(filter[0], Filter | None):
        for each in filter:
            if not isinstance(each, Filter | None):
                raise TypeError(f"filters of queries must be Filter or None, not {each!r}")
        return tuple(None if each is None else each._core_filter for each in filter)
    if callable(filter):
        return filter
    return convert.allowed(filter)  # type: ignore[arg-type]
