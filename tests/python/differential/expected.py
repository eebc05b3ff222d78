"""What the model says of a call: a value to be returned, a `Refusal`, or a `Judge` that looks at
what came back, because several answers are right."""

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from differential.steps import MASK, Env, Floats, Ids, Rows


class Refusal(Exception):
    """The call must raise: a class of this name or derived from it, the message beginning so."""

    def __init__(self, kind: str, words: str = "") -> None:
        super().__init__(kind, words)
        self.kind = kind
        self.words = words

    def fits(self, error: BaseException) -> bool:
        names = {c.__name__ for c in type(error).__mro__}
        return self.kind in names and str(error).startswith(self.words)

    def __str__(self) -> str:
        return f"{self.kind}: {self.words}"


class Judge(Protocol):
    def judge(self, result: Any, index: Any) -> str | None:
        """What is wrong with the result, of a method of `index`; None if nothing is."""


def mismatch(expected: Any, result: Any, index: Any) -> str | None:
    """What is wrong with a result."""
    if hasattr(expected, "judge"):
        wrong: str | None = expected.judge(result, index)
        return wrong
    if type(expected) is not type(result) or expected != result:
        return f"returned {result!r}, expected {expected!r}"
    return None


class Labels:
    """A list of these labels, in any order."""

    def __init__(self, labels: Iterable[int]) -> None:
        self.labels = sorted(labels)

    def judge(self, result: Any, index: Any) -> str | None:
        if not isinstance(result, list) or sorted(result) != self.labels:
            return f"returned the labels {result!r}, expected {self.labels}"
        return None


class Vectors:
    """These vectors: bit for bit, or, where they were normalised, nearly."""

    def __init__(self, rows: Floats, as_list: bool, tolerance: float) -> None:
        self.rows = rows
        self.as_list = as_list
        self.tolerance = tolerance

    def judge(self, result: Any, index: Any) -> str | None:
        if not isinstance(result, list if self.as_list else np.ndarray):
            return f"returned a {type(result).__name__}"
        if isinstance(result, np.ndarray) and (
            result.dtype != np.float32 or result.shape != self.rows.shape
        ):
            return f"returned {result.dtype} {result.shape}, expected {self.rows.shape}"
        array = np.array(result, np.float32).reshape(self.rows.shape)
        if (np.abs(array - self.rows) <= self.tolerance).all():
            return None
        return f"returned the vectors {array.tolist()}, expected {self.rows.tolist()}"


# Arguments ------------------------------------------------------------------------------------


def matrix(rows: Rows, env: Env, dim: int) -> Floats:
    """The vectors as float32 (rows, dim), or why they are refused.  What is not finite stays."""
    match rows.form:
        case "text":
            raise Refusal("ValueError", "could not convert string to float")
        case "ragged":
            raise Refusal("ValueError", "setting an array element with a sequence")
        case "3d" | "0d":
            raise Refusal("InvalidInputError", "Input vector data wrong shape")
    with np.errstate(all="ignore"):
        array = np.asarray(rows.value(env), dtype=np.float32)
    array = array.reshape(1, -1) if array.ndim == 1 else array
    if array.shape[1] != dim:
        raise Refusal("InvalidInputError", "Wrong dimensionality of the vectors")
    return array


def flat_labels(ids: Ids) -> list[int]:
    """The labels as numbers, in the order of the flattened array, or why they are refused."""
    match ids.form:
        case "text":
            raise Refusal("ValueError", "invalid literal for int()")
        case "set":
            raise Refusal("TypeError", "int() argument must be")
        case "half":
            raise Refusal("InvalidInputError", "ids must be whole numbers")
        case "huge":
            raise Refusal("OverflowError")
    times = 2 if ids.form == "rect" else 1
    return [label & MASK for label in ids.labels for _ in range(times)]


def row_labels(ids: Ids, rows: int) -> list[int]:
    """For `rows` vectors to be added."""
    labels = flat_labels(ids)
    if ids.form in ("scalar", "array0"):
        fits = rows == 1
    else:
        fits = ids.form not in ("column", "rect") and len(labels) == rows
    if not fits:
        raise Refusal("InvalidInputError", "The input label shape")
    return labels


def whole(value: Any, least: int = 0, most: int = MASK) -> int:
    """An argument that has to be a whole number in a range."""
    if not isinstance(value, int | np.integer) or not least <= value <= most:
        raise Refusal("TypeError")
    return int(value)


def truth(value: Any) -> bool:
    if not isinstance(value, bool | int | np.bool_ | None):
        raise Refusal("TypeError")
    return bool(value)
