"""The items of an index and what a search over them must say, by looking at all of them."""

import copy
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from differential.expected import Refusal, matrix, whole
from differential.steps import MASK, Env, Filter, Floats, Rows

NOT_INITIATED = Refusal("NotInitializedError", "The index is not initiated.")
CLOSED = Refusal("NotInitializedError", "index is closed")
FEWER = Refusal("FewerResultsError", "Cannot return the results in a contiguous 2D array.")


@dataclass
class Item:
    vector: Floats
    deleted: bool = False


@dataclass
class Recall:
    """How many of the nearest were found, of how many."""

    found: int = 0
    wanted: int = 0

    def __iadd__(self, other: "Recall") -> "Recall":
        self.found += other.found
        self.wanted += other.wanted
        return self

    @property
    def part(self) -> float:
        return self.found / self.wanted if self.wanted else 1.0


def stored(rows: Floats, space: str) -> Floats:
    """Vectors as an index keeps them."""
    if space != "cosine" or len(rows) == 0:
        return rows
    lengths = np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1))
    normalised: Floats = (rows / (lengths + 1e-30)[:, None]).astype(np.float32)
    return normalised


def distances(queries: Floats, vectors: Floats, space: str) -> tuple[Any, Any]:
    """All of them in float64, and what each may differ by."""
    a, b = queries.astype(np.float64)[:, None, :], vectors.astype(np.float64)[None, :, :]
    la, lb = np.sqrt((a * a).sum(axis=2)), np.sqrt((b * b).sum(axis=2))
    unit = 4e-7 * (queries.shape[1] + 4)
    if space == "l2":
        d = a - b
        return (d * d).sum(axis=2), unit * (la + lb) ** 2 + 1e-30
    return 1 - (a * b).sum(axis=2), unit * (1 + la * lb)


@dataclass
class Found:
    """The answer to a search."""

    space: str
    queries: Floats
    k: int
    labels: list[int]  # that may be returned, and their vectors:
    vectors: Floats
    asked: list[int] | None  # whom a filter function was asked about, and may be: live ones
    live: Collection[int]
    exact: bool
    wide: bool = True  # the search keeps so many candidates that it ought to find them all
    recall: Recall = field(default_factory=Recall)
    near: tuple[Any, Any] | None = None

    def judge(self, result: Any, index: Any) -> str | None:
        labels, distance = result
        shape = (len(self.queries), self.k)
        if labels.shape != shape or distance.shape != shape:
            return f"returned shapes {labels.shape} and {distance.shape}, expected {shape}"
        if labels.dtype != np.uint64 or distance.dtype != np.float32:
            return f"returned {labels.dtype} and {distance.dtype}"
        if self.asked is not None and not set(self.asked) <= set(self.live):
            return f"the filter was asked about {sorted(set(self.asked) - set(self.live))}"
        if self.k == 0 or len(self.queries) == 0:
            return None
        if self.near is None:
            self.near = distances(self.queries, self.vectors, self.space)
        for row in range(shape[0]):
            wrong = self._row(row, labels[row].tolist(), distance[row])
            if wrong is not None:
                return f"query {row}: {wrong}"
        return None

    def _row(self, row: int, labels: list[int], distance: Floats) -> str | None:
        n = min(self.k, len(self.labels))
        assert self.near is not None
        true, tolerance = self.near[0][row], self.near[1][row]
        if labels[n:] != [MASK] * (self.k - n) or not np.isposinf(distance[n:]).all():
            return f"returned {labels}, of which {n} exist and the others are padding"
        if n == 0:
            return None
        place = {label: i for i, label in enumerate(self.labels)}
        where = [place.get(label, -1) for label in labels[:n]]
        if -1 in where or len(set(where)) < n:
            return f"returned {labels}, allowed are {self.labels}, once each"
        near = distance[:n].astype(np.float64)
        off = np.abs(near - true[where]) > tolerance[where]
        if off.any():
            at = int(np.argmax(off))
            return f"label {labels[at]} has distance {true[where[at]]}, returned {near[at]}"
        if (np.diff(near) < 0).any():
            return f"distances are not sorted: {near.tolist()}"
        for i in range(n - 1):
            if near[i] == near[i + 1] and labels[i] > labels[i + 1]:
                return f"equal distances are not sorted by label: {labels}"
        last = np.partition(true, n - 1)[n - 1]
        hits = int((near <= last + tolerance.max()).sum())
        if self.wide:
            self.recall += Recall(hits, n)
        if self.exact and hits < n:
            return f"not the nearest: {labels} at {near.tolist()}, the {n}th is at {last}"
        return None


class Searched:
    """What the models of `Index` and `BFIndex` have in common."""

    def __init__(self, space: str, dim: int) -> None:
        self.space = space
        self.dim = dim
        self.state = "fresh"  # then "open", then "closed"
        self.num_threads: int | None = None  # None: whatever the machine has
        self.max_elements = 0
        self.items: dict[int, Item] = {}
        self.rounded = space == "cosine"  # vectors were normalised, at some time
        self.mixed = False  # "cosine", and vectors were loaded that are not normalised

    def clone(self) -> Self:
        """Another one, with items of its own."""
        other = copy.copy(self)
        other.items = {label: Item(item.vector, item.deleted) for label, item in self.items.items()}
        return other

    def handle(self) -> None:
        if self.state != "open":
            raise NOT_INITIATED if self.state == "fresh" else CLOSED

    def whole(self, value: Any) -> int:
        """An argument that is looked at when it is known that there is an index, open or closed."""
        if self.state == "fresh":
            raise NOT_INITIATED
        number = whole(value)
        self.handle()
        return number

    def live(self) -> list[int]:
        return [label for label, item in self.items.items() if not item.deleted]

    def deleted(self) -> list[int]:
        return [label for label, item in self.items.items() if item.deleted]

    def threads(self, value: Any) -> int:
        return whole(value, -(2**31), 2**31 - 1)

    def next_label(self, rows: int) -> int:
        """The first of the numbers for rows without ids."""
        if not self.items:
            return 0
        last = max(self.items)
        if rows >= MASK - last:
            raise Refusal("InvalidInputError", "navmap_add: the largest label is")
        return last + 1

    def store(self, labels: list[int], rows: Floats) -> None:
        for label, vector in zip(labels, stored(rows, self.space), strict=True):
            self.items.pop(label, None)
            self.items[label] = Item(vector)

    def search(
        self, env: Env, data: Rows, k: Any, num_threads: Any, filter: Filter | None, *, exact: bool,
        pads: bool,
    ) -> Found:  # fmt: skip
        k = whole(k)
        self.threads(num_threads)
        if filter is not None and filter.form in ("mask", "text", "nothing"):
            raise Refusal("TypeError", "filter must")
        queries = matrix(data, env, self.dim)
        if not np.isfinite(queries).all():
            raise Refusal("InvalidInputError", "query row")
        self.handle()
        live = self.live()
        if len(queries) > 0 and k > 0 and live and filter is not None and filter.form == "raises":
            raise Refusal("ZeroDivisionError")
        allowed = live
        if filter is not None and filter.form != "raises":
            allowed = [label for label in live if filter.passes(label)]
        if len(queries) > 0 and k > len(allowed) and not pads:
            raise FEWER
        vectors = [self.items[label].vector for label in allowed]
        return Found(
            self.space,
            stored(queries, self.space),
            k,
            allowed,
            np.array(vectors, np.float32).reshape(-1, self.dim),
            None if filter is None else env.asked,
            live,
            exact,
        )
