"""The dictionary that stands for an index: in pickles, in `Index.__getstate__()`, and as `params`.

Its numbers have hnswlib's names.  The contents differ: hnswlib has arrays there, we have an `Image`
under a key of our own.  Both kinds can be read, so that what was pickled with hnswlib is not lost.
hnswlib's arrays are put together to the file that its save_index would have written, because there
is one room that reads hnswlib's files and trusts none of their numbers, the engine's.
"""

import math
import operator
import os
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from navmap import _core, convert, files
from navmap.errors import CorruptIndexError, Error
from navmap.image import Image, nameless_file, write_all

CONTENTS = "contents"  # of our own dictionaries: an Image
ATTRIBUTES = "attributes"  # what an instance of a subclass has beside it
HEADER = struct.Struct("<6QiI3QdQ")  # of hnswlib's file; the dictionary's names of its fields:
HEADER_KEYS = (
    "offset_level0", "max_elements", "cur_element_count", "size_data_per_element", "label_offset",
    "offset_data", "max_level", "enterpoint_node", "max_M", "max_M0", "M", "mult", "ef_construction",
)  # fmt: skip
NO_LIST = struct.Struct("<I").size  # what an item without upper levels has behind the vectors
BATCH = 1 << 16  # items


def settings(space: str, dim: int, num_threads: int, ef: int) -> dict[str, Any]:
    """Of an index that is not initiated; the others replace and add some."""
    return {
        "ser_version": 1,
        "space": space,
        "dim": dim,
        "index_inited": False,
        "ep_added": True,
        "normalize": space == "cosine",
        "num_threads": num_threads,
        "seed": 100,
        "ef": ef,
    }


def facts(stats: Mapping[str, int]) -> dict[str, Any]:
    """Of an index that is initiated, from its counters."""
    count = stats["n_live"] + stats["n_deleted"]
    return {
        "index_inited": True,
        "ep_added": count > 0,
        "seed": stats["random_seed"],
        "max_elements": stats["max_elements"],
        "cur_element_count": count,
        "M": stats["M"],
        "max_M": stats["M"],
        "max_M0": 2 * stats["M"],
        "ef_construction": stats["ef_construction"],
        "mult": 1 / math.log(stats["M"]),
        "has_deletions": stats["n_deleted"] > 0,
        "allow_replace_deleted": bool(stats["allow_replace_deleted"]),
    }


def parts_of(
    state: Mapping[str, Any],
) -> tuple[str, int, int, int, _core.Handle | None]:
    """space, dim, ef, num_threads and the contents, in memory; None if it was not initiated."""
    if operator.index(state["ser_version"]) > 1:
        raise Error("Unpickle Error: Invalid serialization version!")
    for name in settings("l2", 1, 1, 10):
        state[name]  # KeyError if there is none
    space = convert.SPACES[convert.space_number(state["space"])]
    dim = convert.parameter(state["dim"], "dim", 1, 65536)
    ef = convert.size(state["ef"], "ef")
    num_threads = convert.int32(state["num_threads"], "num_threads")
    handle = _contents_of(state, dim) if state["index_inited"] else None
    return space, dim, ef, num_threads, handle


def _contents_of(state: Mapping[str, Any], dim: int) -> _core.Handle:
    if CONTENTS in state:
        image = state[CONTENTS]
        if not isinstance(image, Image):
            raise CorruptIndexError(f"Invalid state! The contents are a {type(image).__name__}")
        return _load(image.fileno(), state, dim)
    _check_hnswlibs(state, dim)
    fd = nameless_file()
    try:
        _write_hnswlibs(fd, state)
        return _load(fd, state, dim)
    finally:
        os.close(fd)


def _load(fd: int, state: Mapping[str, Any], dim: int) -> _core.Handle:
    with files.refusals():
        return _core.load_fd(
            fd,
            b"a pickle",
            dim,
            convert.space_number(state["space"]),
            convert.size(state["max_elements"], "max_elements"),
            int(convert.boolean(state.get("allow_replace_deleted"), "allow_replace_deleted")),
            0,
            0,
            0,
        )


# hnswlib's ------------------------------------------------------------------------------------


def _invalid(name: str, reason: str) -> CorruptIndexError:
    return CorruptIndexError(f"Unpickle Error: Invalid value of {name}: {reason}")


def _check_hnswlibs(state: Mapping[str, Any], dim: int) -> None:
    """What hnswlib checks of its dictionary, in its words: that sizes follow from M and dim."""
    M, ef_construction = int(state["M"]), int(state["ef_construction"])
    if not 2 <= M <= 512:
        raise _invalid("M_", f"{M}, navmap takes 2 to 512")
    links = 8 * M + 4
    for key, name, expected in (
        ("offset_level0", "offsetLevel0_", 0),
        ("max_elements", "max_elements_", max(state["max_elements"], state["cur_element_count"])),
        ("size_data_per_element", "size_data_per_element_", links + 4 * dim + 8),
        ("label_offset", "label_offset_", links + 4 * dim),
        ("offset_data", "offsetData_", links),
        ("max_M", "maxM_", M),
        ("max_M0", "maxM0_", 2 * M),
        ("ef_construction", "ef_construction_", max(ef_construction, M)),
        ("size_links_per_element", "size_links_per_element_", 4 * M + 4),
    ):
        if int(state[key]) != expected:
            raise _invalid(name, f"{state[key]}, expected {expected}")
    if not math.isclose(float(state["mult"]), 1 / math.log(M), rel_tol=1e-9):
        raise _invalid("mult_", f"{state['mult']}, expected {1 / math.log(M)}")
    if len(state["label_lookup_external"]) != len(state["label_lookup_internal"]):
        raise _invalid("label_lookup", "as many labels as numbers expected")


def _bytes_of(state: Mapping[str, Any], key: str, size: int) -> npt.NDArray[np.uint8]:
    array = np.ascontiguousarray(state[key])
    if array.dtype.itemsize != 1 or array.size != size:
        raise _invalid(key, f"{array.size} of {array.dtype}, expected {size} bytes")
    return array.reshape(-1).view(np.uint8)


def _write_hnswlibs(fd: int, state: Mapping[str, Any]) -> None:
    """The file of hnswlib's save_index: header, the items with their lowest level, and for each
    item the length of its upper levels and these."""
    count, per_level = int(state["cur_element_count"]), int(state["size_links_per_element"])
    level_0 = _bytes_of(state, "data_level0", count * int(state["size_data_per_element"]))
    levels = np.asarray(state["element_levels"]).reshape(-1)[:count]
    if levels.size != count or levels.dtype.kind not in "iu":
        raise _invalid("element_levels", f"{levels.size} levels of {count}")
    upper = np.ascontiguousarray(state["link_lists"])
    if count > 0 and not 0 <= levels.min() <= levels.max() <= upper.size // per_level:
        raise _invalid("element_levels", f"{levels.min()} to {levels.max()}")
    sizes = levels.astype(np.uint32) * np.uint32(per_level)
    upper = _bytes_of(state, "link_lists", int(sizes.sum(dtype=np.uint64)))

    try:
        header = HEADER.pack(*(state[key] for key in HEADER_KEYS))
    except struct.error as error:
        raise _invalid("the header", str(error)) from None
    end = write_all(fd, level_0, write_all(fd, header, 0))
    taken = 0
    for first in range(0, count, BATCH):
        some = sizes[first : first + BATCH].astype("<u4")
        bytes_here = int(some.sum(dtype=np.uint64))
        starts = np.cumsum(some, dtype=np.int64) - some + NO_LIST * np.arange(len(some))
        is_list = np.ones(bytes_here + NO_LIST * len(some), bool)
        out = np.empty(len(is_list), np.uint8)
        places = (starts[:, np.newaxis] + np.arange(NO_LIST)).reshape(-1)
        out[places] = some.view(np.uint8)
        is_list[places] = False
        out[is_list] = upper[taken : taken + bytes_here]
        end = write_all(fd, out, end)
        taken += bytes_here
