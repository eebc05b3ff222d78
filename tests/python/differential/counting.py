"""What programs have called, in which forms, and what came of it: so that nothing that should be
tested is left out unseen."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from differential import model
from differential.models import Models
from differential.steps import COPIERS, IMPORTERS, THEIRS, Filter, Step

Counts = Counter[tuple[str, str]]  # of (form of a call, "done" or "refused" or "hnswlib")


def forms(step: Step, models: Models) -> list[str]:
    """The rows of the table in which a step counts; to be asked before the model has done it."""
    target = models.objects.get(step.target)
    if step.call in COPIERS:
        target = models.objects.get(step.args[0].name)
    flat = isinstance(target, model.BFIndex) or step.call == "BFIndex"
    name = f"BFIndex.{step.call}" if flat and step.call != "BFIndex" else step.call
    special = _SPECIAL.get(step.call)
    if special is None:
        return [name]
    return [name, *(f"{name}: {form}" for form in special(step, target, models))]


def _adding(step: Step, m: Any, models: Models) -> Iterator[str]:
    yield "ids" if len(step.args) > 1 else "ids=None"
    if dict(step.kwargs).get("replace_deleted") and m.state == "open" and m.deleted():
        yield "replace_deleted, there are deleted ones"


def _searching(step: Step, m: Any, models: Models) -> Iterator[str]:
    for name, value in step.kwargs:
        if name != "filter":
            yield name
        elif value.form in Filter.ODD:
            yield "filter, of no use"
        else:
            kind = "function" if value.form in Filter.FUNCTIONS else "labels"
            yield f"filter, {kind}: {value.form}"


def _resizing(step: Step, m: Any, models: Models) -> Iterator[str]:
    size = step.args[0]
    if m.state == "open" and isinstance(size, int):
        yield "up" if size > m.max_elements else "down"


def _listing(step: Step, m: Any, models: Models) -> Iterator[str]:
    if step.kwargs:
        yield f"include_deleted={step.kwargs[0][1]}"


def _saving(step: Step, m: Any, models: Models) -> Iterator[str]:
    if step.args[0].name in models.files:
        yield "over a file"


def _loading(step: Step, m: Any, models: Models) -> Iterator[str]:
    name = step.args[0].name
    file = models.files.get(name)
    if file is None:
        yield "a directory" if name == "folder" else "missing"
        return
    if file.damage or file.saved is None:
        yield f"damaged: {file.damage or 'no index at all'}"
        return
    if type(file.saved) is not type(m):
        yield "of the other class"
        return
    yield "into a new object" if m.state == "fresh" else "into one that was there"
    if name.endswith(THEIRS):
        yield "hnswlib's"
        if file.saved.deleted():
            yield "hnswlib's, with deleted items"
    if file.saved.space != m.space:
        yield "another space"
    if file.saved.dim != m.dim:
        yield "another dim"
    if not file.saved.items:
        yield "empty"
    yield from (key for key, _ in step.kwargs)


def _damaging(step: Step, m: Any, models: Models) -> Iterator[str]:
    yield step.args[2]


_SPECIAL = {
    "add_items": _adding,
    "knn_query": _searching,
    "exact_query": _searching,
    "resize_index": _resizing,
    "get_ids_list": _listing,
    "save_index": _saving,
    "load_index": _loading,
    "damage": _damaging,
}

# What must occur, and that it is to be refused where it is.
DONE = (
    "add_items: ids", "add_items: ids=None", "add_items: replace_deleted, there are deleted ones",
    "mark_deleted", "unmark_deleted", "resize_index: up", "resize_index: down",
    *(f"knn_query: filter, labels: {form}" for form in Filter.LISTS),
    *(f"knn_query: filter, function: {form}" for form in Filter.FUNCTIONS),
    "knn_query: ef", "knn_query: allow_fewer", "knn_query: num_threads", "exact_query",
    "get_items", "get_ids_list", "get_ids_list: include_deleted=False", "facts", "in", "check",
    "save_index", "save_index: over a file", "index_file_size", "verify",
    "load_index: into a new object", "load_index: into one that was there",
    "load_index: another space", "load_index: empty", "load_index: max_elements",
    "load_index: allow_replace_deleted", "load_index: copy", "load_index: verify",
    *COPIERS,
    "try_out", "damage: cut", "damage: longer", "damage: flip",
    "BFIndex.add_items: ids", "BFIndex.add_items: ids=None", "BFIndex.delete_vector",
    "BFIndex.knn_query", "BFIndex.knn_query: filter, labels: array",
    "BFIndex.knn_query: filter, function: even", "BFIndex.save_index",
    "BFIndex.load_index: into a new object", "BFIndex.load_index: into one that was there",
    "BFIndex.load_index: max_elements",
)  # fmt: skip
REFUSED = (
    "add_items: ids", "add_items: ids=None", "add_items: replace_deleted, there are deleted ones",
    "mark_deleted", "unmark_deleted", "resize_index: down", "knn_query", "exact_query", "get_items",
    "init_index", "Index", "save_index", "load_index: missing", "load_index: a directory",
    "load_index: damaged: no index at all", "load_index: damaged: cut",
    "load_index: damaged: longer", "load_index: damaged: flip", "load_index: of the other class",
    "load_index: another dim", "BFIndex.add_items", "BFIndex.knn_query", "BFIndex.load_index",
)  # fmt: skip
# What takes hnswlib, or is to be compared with it.
DONE_WITH_HNSWLIB = (
    "load_index: hnswlib's", "load_index: hnswlib's, with deleted items",
    "BFIndex.load_index: hnswlib's", *IMPORTERS,
)  # fmt: skip
COMPARED = (
    "add_items: ids", "add_items: ids=None", "add_items: replace_deleted, there are deleted ones",
    "mark_deleted", "unmark_deleted", "resize_index: up", "resize_index: down", "knn_query",
    *(f"knn_query: filter, function: {form}" for form in Filter.FUNCTIONS),
    *(f"knn_query: filter, labels: {form}" for form in Filter.LISTS),
    "get_items", "get_ids_list", "facts", "save_index", "load_index: into a new object",
    "load_index: into one that was there", "load_index: another space", *COPIERS, *IMPORTERS,
    "BFIndex.add_items: ids", "BFIndex.delete_vector", "BFIndex.knn_query", "BFIndex.save_index",
    "BFIndex.load_index",
)  # fmt: skip
OUTCOMES = ("done", "refused", "hnswlib")
LEAST = 5  # of every 1000 programs; and from how many programs on that is looked at:
ENOUGH = 1000


def rare(counts: Counts, programs: int, with_hnswlib: bool) -> list[str]:
    """What has occurred too seldom."""
    if programs < ENOUGH:
        return []
    wanted = [(form, "done") for form in DONE] + [(form, "refused") for form in REFUSED]
    if with_hnswlib:
        wanted += [(form, "done") for form in DONE_WITH_HNSWLIB]
        wanted += [(form, "hnswlib") for form in COMPARED]
    least = LEAST * programs // 1000
    return [
        f"{form}, {outcome}: {counts[form, outcome]} times, at least {least} wanted"
        for form, outcome in wanted
        if counts[form, outcome] < least
    ]


def table(counts: Counts) -> str:
    names = sorted({name for name, _ in counts}, key=lambda name: (name[:8] == "BFIndex.", name))
    lines = [f"{'':54}{'done':>10}{'refused':>10}{'compared':>10}"]
    for name in names:
        numbers = "".join(f"{counts[name, outcome] or '':>10}" for outcome in OUTCOMES)
        lines.append(f"{name:54}{numbers}")
    return "\n".join(lines)
