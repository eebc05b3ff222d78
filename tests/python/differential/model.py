"""`navmap.Index` and `navmap.BFIndex` in plain Python: a dictionary of labels, and what each call
must return or raise.  A method here has the name and the arguments of the method it stands for."""

from typing import Any

import numpy as np

from differential.expected import (
    Labels,
    Refusal,
    Vectors,
    flat_labels,
    matrix,
    row_labels,
    truth,
    whole,
)
from differential.searching import Found, Searched
from differential.steps import MASK, Env, Filter, Floats, Ids, Rows

FULL = Refusal("CapacityError", "The number of elements exceeds the specified limit")
TOO_SMALL = Refusal(
    "InvalidInputError", "Cannot resize, max element is less than the current number of elements"
)
UNKNOWN = Refusal("LabelNotFoundError", "Label not found")
INITIATED = Refusal("Error", "The index is already initiated.")
NO_REPLACING = Refusal("ReplaceError", "Replacement of deleted elements is disabled in constructor")
NO_UPDATE = Refusal("ReplaceError", "Can't use addPoint to update deleted elements if replacement")


class Replaced:
    """`add_items` put `n` of the new labels in the places of deleted ones.  Of which, is up to the
    index: what its list of labels lacks afterwards."""

    def __init__(self, model: "Index", n: int, candidates: set[int]) -> None:
        self.model = model
        self.n = n
        self.candidates = candidates

    def judge(self, result: Any, index: Any) -> str | None:
        if result is not None:
            return f"returned {result!r}"
        gone = set(self.model.items) - set(index.get_ids_list())
        if len(gone) != self.n or not gone <= self.candidates:
            return f"forgot {sorted(gone)}, expected {self.n} of {sorted(self.candidates)}"
        for label in gone:
            del self.model.items[label]
        return None


class Facts:
    """Settings and counters, as far as they are known."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def judge(self, result: Any, index: Any) -> str | None:
        for name, value in self.values.items():
            found = result[name]
            if value is not None and (found != value or type(found) is not type(value)):
                return f"{name} is {found!r}, expected {value!r}"
        return None


class Sound:
    """A report of `check`."""

    def __init__(self, live: int, deleted: int) -> None:
        self.counts = (live, deleted, live + deleted)

    def judge(self, result: Any, index: Any) -> str | None:
        counts = (result.live, result.deleted, result.labels)
        if not result.sound or counts != self.counts:
            return f"counts {counts}, expected {self.counts}; {result.findings[:3]}"
        return None


class Index(Searched):
    def __init__(self, space: str, dim: int) -> None:
        super().__init__(space, dim)
        self.ef = 10
        self.M = self.ef_construction = 0
        self.replaces = False

    # Life -------------------------------------------------------------------------------------

    def init_index(
        self,
        env: Env,
        max_elements: Any,
        M: Any = 16,
        ef_construction: Any = 200,
        random_seed: Any = 100,
        allow_replace_deleted: Any = False,
    ) -> None:
        room, replaces = whole(max_elements), truth(allow_replace_deleted)
        whole(M), whole(ef_construction), whole(random_seed)
        if self.state != "fresh":
            raise INITIATED
        if not 2 <= M <= 512:
            raise Refusal("InvalidInputError", "M must be from 2 to 512")
        self.M, self.ef_construction = M, max(M, ef_construction)
        self.max_elements, self.replaces = room, replaces
        self.state = "open"

    def close(self, env: Env) -> None:
        if self.state == "open":
            self.state = "closed"
            self.items = {}

    def copied(self) -> "Index":
        """What copies, pickles and Index(index=...) give."""
        if self.state == "closed":
            self.handle()
        return self.clone()

    # Changing ---------------------------------------------------------------------------------

    def add_items(
        self,
        env: Env,
        data: Rows,
        ids: Ids | None = None,
        num_threads: Any = -1,
        replace_deleted: Any = False,
    ) -> Replaced | None:
        self.threads(num_threads)
        rows = matrix(data, env, self.dim)
        labels = None if ids is None else row_labels(ids, len(rows))
        replace = truth(replace_deleted)
        self.handle()
        if not np.isfinite(rows).all():
            raise Refusal("InvalidInputError", "navmap_add: row")
        if len(rows) == 0:
            return None
        if labels is None:
            first = self.next_label(len(rows))
            labels = list(range(first, first + len(rows)))
        return self._add(labels, rows, replace)

    def _add(self, labels: list[int], rows: Floats, replace: bool) -> Replaced | None:
        new = len(set(labels) - set(self.items))
        deleted = set(self.deleted())
        if replace and not self.replaces:
            raise NO_REPLACING
        if self.replaces and not replace and not deleted.isdisjoint(labels):
            raise NO_UPDATE
        # A deleted label that the batch brings back is no place for another one.
        places = min(new, len(deleted - set(labels))) if replace else 0
        if len(self.items) + new - places > self.max_elements and new > 0:
            raise FULL
        candidates = deleted - set(labels)
        self.store(labels, rows)
        return Replaced(self, places, candidates) if places > 0 else None

    def mark_deleted(self, env: Env, label: Any) -> None:
        self._mark(label, True, "The requested to delete element is already deleted")

    def unmark_deleted(self, env: Env, label: Any) -> None:
        self._mark(label, False, "The requested to undelete element is not deleted")

    def _mark(self, label: Any, deleted: bool, words: str) -> None:
        number = self.whole(label)
        if number not in self.items:
            raise UNKNOWN
        if self.items[number].deleted == deleted:
            raise Refusal("Error", words)
        self.items[number].deleted = deleted

    def resize_index(self, env: Env, new_size: Any) -> None:
        size = self.whole(new_size)
        if size < len(self.items):
            raise TOO_SMALL
        self.max_elements = size

    def set_ef(self, env: Env, ef: Any) -> None:
        self.ef = whole(ef)

    def set_num_threads(self, env: Env, num_threads: Any) -> None:
        self.num_threads = self.threads(num_threads)

    # Searching --------------------------------------------------------------------------------

    def knn_query(
        self,
        env: Env,
        data: Rows,
        k: Any = 1,
        num_threads: Any = -1,
        filter: Filter | None = None,
        ef: Any = None,
        allow_fewer: Any = False,
    ) -> Found:
        beam = self.ef if ef is None else whole(ef)
        pads = truth(allow_fewer)
        found = self.search(env, data, k, num_threads, filter, exact=False, pads=pads)
        found.wide = max(beam, found.k) >= len(self.items)
        return found

    def exact_query(
        self,
        env: Env,
        data: Rows,
        k: Any = 1,
        filter: Filter | None = None,
        num_threads: Any = -1,
        allow_fewer: Any = False,
    ) -> Found:
        pads = truth(allow_fewer)
        return self.search(env, data, k, num_threads, filter, exact=True, pads=pads)

    # Looking up -------------------------------------------------------------------------------

    def get_items(self, env: Env, ids: Ids | None = None, return_type: Any = "numpy") -> Vectors:
        if return_type not in ("numpy", "list"):
            raise Refusal("ValueError", 'return_type should be "numpy" or "list"')
        labels = [] if ids is None else flat_labels(ids)
        if ids is not None and ids.form in ("scalar", "array0"):
            raise Refusal("ValueError", "get_items accepts a list of indices")
        if ids is not None:
            labels = labels[: len(ids.labels)]
        if labels or self.state != "fresh":
            self.handle()
        if any(label not in self.items or self.items[label].deleted for label in labels):
            raise UNKNOWN
        rows = np.array([self.items[label].vector for label in labels], np.float32)
        return Vectors(rows, return_type == "list", 1e-6 if self.rounded else 0.0)

    def get_ids_list(self, env: Env, include_deleted: Any = True) -> Labels:
        deleted_too = truth(include_deleted)
        self.handle()
        return Labels(self.items if deleted_too else self.live())

    def contains(self, env: Env, label: Any) -> bool:
        if not isinstance(label, int) or not 0 <= label <= MASK:
            return False
        if self.state != "fresh":
            self.handle()
        return label in self.items and not self.items[label].deleted

    def facts(self, env: Env) -> Facts:
        if self.state == "closed":
            self.handle()
        n, deleted = len(self.items), len(self.deleted())
        return Facts(
            space=self.space, dim=self.dim, M=self.M, ef_construction=self.ef_construction,
            ef=self.ef, num_threads=self.num_threads, max_elements=self.max_elements,
            element_count=n, deleted_count=deleted, length=n - deleted,
        )  # fmt: skip

    def check(self, env: Env) -> Sound:
        self.handle()
        return Sound(len(self.live()), len(self.deleted()))

    def get_max_elements(self, env: Env) -> int:
        self.handle()
        return self.max_elements

    def get_current_count(self, env: Env) -> int:
        self.handle()
        return len(self.items)


class BFIndex(Searched):
    def init_index(self, env: Env, max_elements: Any) -> None:
        room = whole(max_elements)
        if self.state != "fresh":
            raise INITIATED
        self.max_elements = room
        self.state = "open"

    def add_items(self, env: Env, data: Rows, ids: Ids | None = None) -> None:
        rows = matrix(data, env, self.dim)
        labels = None if ids is None else row_labels(ids, len(rows))
        self.handle()
        if not np.isfinite(rows).all():
            raise Refusal("InvalidInputError", "navmap_add: row")
        if len(rows) == 0:
            return
        if labels is None:
            first = self.next_label(len(rows))
            labels = list(range(first, first + len(rows)))
        new = len(set(labels) - set(self.items))
        if new > 0 and len(self.items) + new > self.max_elements:
            raise FULL
        self.store(labels, rows)

    def delete_vector(self, env: Env, label: Any) -> None:
        number = self.whole(label)
        self.items.pop(number, None)

    def set_num_threads(self, env: Env, num_threads: Any) -> None:
        self.num_threads = self.threads(num_threads)

    def knn_query(
        self,
        env: Env,
        data: Rows,
        k: Any = 1,
        num_threads: Any = -1,
        filter: Filter | None = None,
    ) -> Found:
        return self.search(env, data, k, num_threads, filter, exact=True, pads=False)

    def facts(self, env: Env) -> Facts:
        return Facts(num_threads=self.num_threads)

    def get_max_elements(self, env: Env) -> int:
        self.handle()
        return self.max_elements

    def get_current_count(self, env: Env) -> int:
        self.handle()
        return len(self.items)
