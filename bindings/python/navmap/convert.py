"""From what people pass to what the extension takes: arrays, numbers, paths.

The rules are hnswlib's, so that code written for it goes on working; where hnswlib reads out of
bounds or rounds in silence, this raises instead.
"""

import operator
import os
from collections.abc import Callable, Sequence, Set
from typing import Any, SupportsFloat, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt

from navmap import _core
from navmap.errors import EmptyQueryError, InvalidInputError

Floats: TypeAlias = npt.NDArray[np.float32]
Labels: TypeAlias = npt.NDArray[np.uint64]
LabelList: TypeAlias = Sequence[int] | Set[int] | npt.NDArray[Any]
StrPath: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]

U32_MAX = 2**32 - 1
U64_MAX = 2**64 - 1
SPACES = ("l2", "ip", "cosine")  # in the order of enum navmap_space
DURABILITIES = ("full", "manual")  # in the order of enum navmap_durability
CODES = ("default", "i8", None)  # enum navmap_codes
DTYPES = ("f32", "f16")  # enum navmap_vectors


def _number(value: SupportsIndex, name: str) -> int:
    """An integer, also as an array that holds one and nothing else."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}") from None


def size(value: SupportsIndex, name: str, most: int = U64_MAX) -> int:
    """A count or label: an integer from 0 to `most`.  Anything else is a TypeError, as upstream."""
    number = _number(value, name)
    if not 0 <= number <= most:
        raise TypeError(f"{name} must be an integer from 0 to {most}, not {number}")
    return number


def int32(value: SupportsIndex, name: str) -> int:
    """A C int.  Anything else is a TypeError, as upstream."""
    number = _number(value, name)
    if not -(2**31) <= number < 2**31:
        raise TypeError(f"{name} must be an integer of 32 bits, not {number}")
    return number


def parameter(value: SupportsIndex, name: str, least: int, most: int = U32_MAX) -> int:
    """A parameter of an index: out of range is a matter of value, not of type."""
    number = _number(value, name)
    if not least <= number <= most:
        raise InvalidInputError(f"{name} must be from {least} to {most}, not {number}")
    return number


def real(value: SupportsFloat, name: str) -> float:
    """A number that need not be an integer.  A string is none, though `float` reads one."""
    if not hasattr(type(value), "__float__"):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    return float(value)


def boolean(value: object, name: str) -> bool:
    """A truth value by pybind11's rule: whatever has `__bool__`, so numbers and None do, which is
    false, but a string or a list, which is only empty or not, is a TypeError."""
    if hasattr(type(value), "__bool__"):
        try:
            return bool(value)
        except ValueError:  # an array of several
            pass
    raise TypeError(f"{name} must be true or false, not {type(value).__name__}")


def text(value: str | bytes, name: str) -> str:
    """A string; bytes do as well, as upstream."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__}")
    return value


def space_number(space: str | bytes) -> int:
    name = text(space, "space")
    if name not in SPACES:
        raise InvalidInputError(f"Space name must be one of l2, ip, or cosine. Not {name!r}.")
    return SPACES.index(name)


def codes_number(codes: str | None) -> int:
    if codes is not None and codes != "i8":
        raise InvalidInputError(f'codes must be "i8" or None, not {codes!r}')
    return CODES.index(codes)


def dtype_number(dtype: str) -> int:
    if dtype not in DTYPES:
        raise InvalidInputError(f'dtype must be "f32" or "f16", not {dtype!r}')
    return DTYPES.index(dtype)


def durability_number(durability: str) -> int:
    if durability not in DURABILITIES:
        raise InvalidInputError(f'durability must be "full" or "manual", not {durability!r}')
    return DURABILITIES.index(durability)


def full_path(path: StrPath) -> str:
    """The path from the root, so that a later chdir() changes nothing.  Symbolic links stay."""
    name = os.fsdecode(path)
    if not name:
        raise InvalidInputError("path is empty")
    return os.path.join(os.getcwd(), name)


def _floats(data: npt.ArrayLike) -> Floats:
    """`data` as float32 of one or two dimensions in C order."""
    if isinstance(data, np.ndarray) and data.dtype == np.float32:
        array = np.asarray(data, order="C")
    else:
        with np.errstate(over="ignore"):  # what overflows becomes an infinity, refused as one
            array = np.asarray(data, dtype=np.float32, order="C")
    if array.ndim not in (1, 2):
        raise InvalidInputError(
            f"Input vector data wrong shape. Number of dimensions {array.ndim}. "
            "Data must be a 1D or 2D array."
        )
    return array


def _rows(array: Floats, dim: int) -> Floats:
    if array.ndim == 1:
        array = array.reshape(1, -1)
    if array.shape[1] != dim:
        raise InvalidInputError(
            f"Wrong dimensionality of the vectors: expected {dim}, found {array.shape[1]}"
        )
    return array if array.flags.aligned else array.copy()


def vectors(data: npt.ArrayLike, dim: int) -> Floats:
    """`data` as rows x dim, float32, C order; not copied when it is that already."""
    return _rows(_floats(data), dim)


def queries(data: npt.ArrayLike, dim: int) -> Floats:
    """As `vectors`, and finite: a batch is refused before its first row is searched."""
    array = _floats(data)
    if array.shape == (0,):
        raise EmptyQueryError(f"Wrong dimensionality of the vectors: expected {dim}, found 0")
    array = _rows(array, dim)
    at = _core.first_unfinite(array)
    if at < array.size:
        row, column = divmod(at, dim)
        value = array[row, column]
        raise InvalidInputError(f"query row {row}, column {column} is {value}, not a finite number")
    return array


def _whole(value: Any) -> int:
    """One id of an array of Python objects: exact, or an exception."""
    if isinstance(value, float | np.floating) and not float(value).is_integer():
        raise InvalidInputError(f"ids must be whole numbers, not {value}")
    number = int(value)
    if not -(2**63) <= number <= U64_MAX:
        raise OverflowError(f"id {number} does not fit 64 bits")
    return number & U64_MAX


def labels(ids: npt.ArrayLike) -> Labels:
    """`ids` as uint64 in their own shape.  Negative integers wrap, as in hnswlib: -1 is 2**64-1."""
    array = np.asarray(ids)
    if array.dtype.kind == "f" and not isinstance(ids, np.ndarray):
        # A list that mixes numbers below and above 2**63 would be rounded to float64.
        array = np.asarray(ids, dtype=object)
    kind = array.dtype.kind
    if kind == "f":
        wrong = ~((array >= -(2.0**63)) & (array < 2.0**64) & (np.trunc(array) == array))
        if wrong.any():
            raise InvalidInputError(f"ids must be whole numbers of 64 bits, not {array[wrong][0]}")
        negative = array < 0
        exact = np.where(negative, 0, array).astype(np.uint64)
        exact[negative] = array[negative].astype(np.int64).astype(np.uint64)
        return exact
    if kind == "O":
        numbers = [_whole(value) for value in array.reshape(-1)]
        return np.array(numbers, dtype=np.uint64).reshape(array.shape)
    if kind not in "iubUS":
        raise TypeError(f"ids must be integers, not {array.dtype}")
    result = np.asarray(array, dtype=np.uint64, order="C")
    return result if result.flags.aligned else result.copy()


def allowed(filter: LabelList) -> Labels:
    """The labels of a filter.

    Truth values are refused: a mask over positions would silently be taken for labels 0 and 1.
    """
    if isinstance(filter, Set):
        filter = list(filter)
    elif isinstance(filter, str | bytes | bytearray) or not (
        isinstance(filter, Sequence) or hasattr(filter, "__array__")
    ):
        raise TypeError(f"filter must be callable or hold labels, not {type(filter).__name__}")
    array = np.asarray(filter)
    if array.ndim == 2 and array.shape[1] == 1:  # as knn_query with k=1 returns labels
        array = array.reshape(-1)
    if array.ndim != 1:
        raise TypeError(f"filter must hold labels in one dimension, not in {array.ndim}")
    if array.size == 0:
        return np.empty(0, np.uint64)
    if array.dtype.kind == "f" and not hasattr(filter, "__array__"):
        array = np.asarray(filter, dtype=object)  # as in labels()
    if array.dtype.kind not in "iuO":
        raise TypeError(f"filter must be callable or hold integers, not {array.dtype}")
    if array.dtype.kind == "O":
        array = np.array([operator.index(value) for value in array], dtype=object)
    return labels(array)


def row_labels(ids: npt.ArrayLike, rows: int) -> Labels:
    """The ids for `rows` vectors: one each, or a single number for a single vector."""
    array = labels(ids)
    if array.ndim == 0 and rows == 1:
        return array.reshape(1)
    if array.ndim != 1 or array.shape[0] != rows:
        shape = array.shape[0] if array.ndim == 1 else array.shape
        raise InvalidInputError(
            f"The input label shape {shape} does not match the input data vector shape {rows}"
        )
    return array
