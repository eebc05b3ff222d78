"""The half of a program that real hnswlib runs, as far as it is defined there.

hnswlib crashes, reads out of bounds or goes on with a broken index in many cases in which navmap
raises, and in some the two do different things on purpose.  So each step is looked at first, with
what the model knows, and one of four things happens:

- the step is run as it is, or in a form that means the same to both (ids spelled out where the two
  would number the rows differently, one thread where order matters);
- it is left out: it changes nothing, and hnswlib has no answer that could be compared;
- it is run or left out, and then hnswlib's object is made anew from the model: a refused batch is
  half in, and which deleted item is replaced is anybody's choice;
- hnswlib has no such object: it is dropped, and comes back with the next one of its name.

What must agree: exceptions (class and first words), counters, labels, vectors bit for bit (nearly,
where they are normalised), and that both find what is near.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from differential import model
from differential.doing import perform
from differential.expected import Refusal, flat_labels, mismatch
from differential.models import MISSING, Models
from differential.searching import Found, Recall
from differential.steps import (
    COPIERS,
    FUNCTIONS,
    IMPORTERS,
    MAKERS,
    MASK,
    THEIRS,
    Env,
    File,
    Filter,
    Ids,
    Rows,
    Step,
    Var,
)
from differential.world import Tally

Plan = Callable[[Any, Any], str | None]

# Refusals that leave hnswlib's index as it was.
HARMLESS = (
    "Input vector data wrong shape",
    "Wrong dimensionality of the vectors",
    "The input label shape",
    "Label not found",
    "The requested to",
    "Cannot resize",
    "get_items accepts",
    "return_type should",
    "could not convert",
    "invalid literal",
    "setting an array element",
    "Space name must be",
)


@dataclass
class Twin:
    """One object of hnswlib."""

    counted: int = 0  # where its numbers for rows without ids go on


class Peer:
    def __init__(self, module: Any, env: Env, tally: Tally) -> None:
        self.module = module
        self.env = Env(env.V, env.scratch)
        env.theirs = self.env.objects
        self.tally = tally
        self.twins: dict[str, Twin] = {}
        self.files: set[str] = set()  # where both have saved the same

    def plan(self, step: Step, models: Models) -> Plan | None:
        """What is to be done after navmap has done the step; None if nothing.  To be asked before
        the model has."""
        if step.call in FUNCTIONS:
            return None
        if step.call in MAKERS:
            return lambda expected, result: self._made(step, models, expected, result)
        if step.call in COPIERS or step.call in IMPORTERS:
            return lambda expected, result: self._copied(step, models, expected, result)
        m, twin = models.objects[step.target], self.twins.get(step.target)
        if step.call == "load_index":
            fresh = twin is not None and m.state == "fresh"
            return lambda expected, result: self._loaded(step, models, expected, result, fresh)
        if step.call == "save_index":
            return lambda expected, result: self._saved(step, models, expected, result)
        if step.call == "close":
            self._drop(step.target)
            return None
        if twin is None:
            return None
        if step.call == "init_index":
            return lambda expected, result: self._initiated(step, models, expected, result)
        if m.state != "open" and step.call.removeprefix("set ").removeprefix("set_") not in (
            "ef",
            "num_threads",
            "facts",
        ):
            return None
        method = getattr(self, f"_{step.call.replace(' ', '_')}", None)
        plan: Plan | None = method(step, m, twin, models) if method is not None else None
        return plan

    # Doing ------------------------------------------------------------------------------------

    def _perform(self, step: Step) -> Any:
        self.tally.compared += 1
        self.env.asked.clear()
        try:
            return perform(step, self.env, self.module)
        except Exception as error:
            return error.with_traceback(None)

    def _same(self, step: Step, expected: Any, result: Any) -> str | None:
        """Run the step and compare the exception, or what came back with what the model says."""
        theirs = self._perform(step)
        if isinstance(expected, Refusal):
            return self._same_error(theirs, result)
        if isinstance(theirs, Exception):
            return f"hnswlib raised {type(theirs).__name__}: {theirs}"
        wrong = mismatch(expected, theirs, self.env.objects.get(step.target))
        return None if wrong is None else f"hnswlib {wrong}"

    def _same_error(self, theirs: Any, ours: Any) -> str | None:
        if not isinstance(theirs, Exception):
            return f"hnswlib returned {theirs!r}, navmap raised {type(ours).__name__}: {ours}"
        words = re.split(r"\d", str(theirs).strip())[0].rstrip(".")
        if isinstance(theirs, TypeError):
            words = ""  # a list of signatures
        if not isinstance(ours, type(theirs)) or not str(ours).startswith(words):
            return (
                f"hnswlib raised {type(theirs).__name__}: {theirs}; "
                f"navmap {type(ours).__name__}: {ours}"
            )
        return None

    def _as_is(self, step: Step, m: Any, twin: Twin, models: Models) -> Plan:
        """For calls that do the same in both, whatever comes of it."""
        return lambda expected, result: self._same(step, expected, result)

    def _drop(self, name: str) -> None:
        self.twins.pop(name, None)
        self.env.objects.pop(name, None)

    def _rebuild(self, name: str, m: Any) -> None:
        """hnswlib's object, made from the model."""
        self.tally.rebuilt += 1
        self._drop(name)
        if m.max_elements == 0 or m.mixed:
            return
        kind = type(m).__name__
        index = getattr(self.module, kind)(m.space, m.dim)
        self.env.objects[name] = index
        if m.num_threads is not None:
            index.set_num_threads(_threads(m, m.num_threads))
        if isinstance(m, model.Index):
            index.set_ef(m.ef)
            if m.state == "open":
                index.init_index(
                    m.max_elements, m.M, m.ef_construction, allow_replace_deleted=m.replaces
                )
        elif m.state == "open":
            index.init_index(m.max_elements)
        self.twins[name] = Twin(len(m.items))
        if not m.items:
            return
        labels = np.array(list(m.items), np.uint64)
        index.add_items(np.array([item.vector for item in m.items.values()]), labels)
        for label in m.deleted() if isinstance(m, model.Index) else ():
            index.mark_deleted(label)

    # Life -------------------------------------------------------------------------------------

    def _made(self, step: Step, models: Models, expected: Any, result: Any) -> str | None:
        if isinstance(expected, Refusal):
            dim = step.args[1]  # hnswlib takes any, and no float
            return None if isinstance(dim, int) and dim < 1 else self._same(step, expected, result)
        self._drop(step.target)
        self.twins[step.target] = Twin()
        return self._same(step, expected, result)

    def _copied(self, step: Step, models: Models, expected: Any, result: Any) -> str | None:
        source: Var = step.args[0]
        if source.name not in self.twins:
            self._drop(step.target)
            return None
        if isinstance(expected, Refusal):
            return None
        m = models.objects[step.target]
        if step.call in IMPORTERS:
            step = replace(step, call="copy.copy")
        wrong = self._same(step, expected, result)
        self.twins[step.target] = Twin(len(m.items))
        return wrong

    def _initiated(self, step: Step, models: Models, expected: Any, result: Any) -> str | None:
        m = models.objects[step.target]
        if not isinstance(expected, Refusal) and m.max_elements == 0:
            self._drop(step.target)  # hnswlib cannot grow out of nothing
            return None
        if isinstance(expected, Refusal) and expected.kind == "InvalidInputError":
            return None  # M of 0 crashes, and 513 is no error
        return self._same(step, expected, result)

    # Changing ---------------------------------------------------------------------------------

    def _add_items(self, step: Step, m: Any, twin: Twin, models: Models) -> Plan:
        rows: Rows = step.args[0]
        ids: Ids | None = step.args[1] if len(step.args) > 1 else None
        before = dict.fromkeys(m.items)
        deleted = set(m.deleted())
        kwargs = dict(step.kwargs)

        def act(expected: Any, result: Any) -> str | None:
            if isinstance(expected, Refusal):
                return self._refused_add(step, m, expected, result, ids, deleted)
            count = len(np.atleast_2d(np.asarray(rows.value(self.env))))
            if count == 0:
                return None  # the first batch of an empty index must not be empty in hnswlib
            labels = self._labels(ids, before, count)
            fresh = [label for label in labels if label not in before]
            replaces = kwargs.get("replace_deleted", False) and deleted
            if replaces and (len(set(labels)) < len(labels) or len(fresh) < len(labels)):
                self._rebuild(step.target, m)  # a second node of a label: not defined
                return None
            told: Ids | None = Ids(tuple(labels), "uint64")
            if ids is None and labels[0] == twin.counted:
                told = None
            updates = len(set(labels)) < len(labels) or len(fresh) < len(labels)
            if updates and isinstance(m, model.Index):
                kwargs["num_threads"] = 1  # the later row counts, and updates go one by one
            args = (rows,) if told is None else (rows, told)
            mine = replace(step, args=args, kwargs=tuple(kwargs.items()))
            wrong = self._same(mine, None, result)
            twin.counted += count
            index = self.env.objects[step.target]
            if wrong is None and index.get_current_count() != len(m.items):
                wrong = f"hnswlib counts {index.get_current_count()}, navmap {len(m.items)}"
            if replaces and set(index.get_ids_list()) != m.items.keys():
                self._rebuild(step.target, m)  # it has chosen other places
            return wrong

        return act

    def _refused_add(
        self, step: Step, m: Any, expected: Refusal, result: Any, ids: Ids | None,
        deleted: set[int],
    ) -> str | None:  # fmt: skip
        if expected.words.startswith(HARMLESS) or expected.kind == "TypeError":
            return (
                None
                if ids is not None and _converts_otherwise(ids)
                else self._same(step, expected, result)
            )
        if expected.kind not in ("CapacityError", "ReplaceError"):
            return None
        replacing = dict(step.kwargs).get("replace_deleted", False)
        if expected.kind == "CapacityError" and replacing and deleted:
            return None
        labels = flat_labels(ids) if ids is not None else []
        full = len(m.items.keys() | set(labels)) > m.max_elements
        if expected.kind == "ReplaceError" and not replacing and full:
            return None  # whichever row comes first decides
        if ids is not None:
            step = replace(step, args=(step.args[0], Ids(tuple(flat_labels(ids)), "uint64")))
        kwargs = tuple((k, v) for k, v in step.kwargs if k != "num_threads") + (
            () if isinstance(m, model.BFIndex) else (("num_threads", 1),)
        )
        if ids is None:
            self._rebuild(step.target, m)  # so that both count on from the same number
            return None
        wrong = self._same(replace(step, kwargs=kwargs), expected, result)
        self._rebuild(step.target, m)
        return wrong

    def _labels(self, ids: Ids | None, before: dict[int, None], count: int) -> list[int]:
        if ids is not None:
            return flat_labels(ids)
        first = max(before) + 1 if before else 0
        return list(range(first, first + count))

    _mark_deleted = _as_is
    _unmark_deleted = _as_is
    _set_ef = _as_is

    def _delete_vector(self, step: Step, m: Any, twin: Twin, models: Models) -> Plan:
        def act(expected: Any, result: Any) -> str | None:
            wrong = self._same(step, expected, result)
            index = self.env.objects[step.target]
            if wrong is None and index.get_current_count() != len(m.items):
                wrong = f"hnswlib counts {index.get_current_count()}, navmap {len(m.items)}"
            # The label of the item in the last place stays behind in its dictionary.
            self._rebuild(step.target, m)
            return wrong

        return act

    def _resize_index(self, step: Step, m: Any, twin: Twin, models: Models) -> Plan:
        def act(expected: Any, result: Any) -> str | None:
            if not isinstance(expected, Refusal) and m.max_elements == 0:
                self._drop(step.target)
                return None
            return self._same(step, expected, result)

        return act

    def _set_num_threads(self, step: Step, m: Any, twin: Twin, models: Models) -> Plan:
        mine = replace(step, args=tuple(_threads(m, n) for n in step.args))
        return lambda expected, result: self._same(mine, expected, result)

    # Looking ----------------------------------------------------------------------------------

    def _get_ids_list(self, step: Step, m: Any, twin: Twin, models: Models) -> Plan | None:
        return None if step.kwargs else self._as_is(step, m, twin, models)

    _get_max_elements = _as_is
    _get_current_count = _as_is

    def _facts(self, step: Step, m: Any, twin: Twin, models: Models) -> Plan:
        def act(expected: Any, result: Any) -> str | None:
            values = dict(expected.values)
            for name in ("deleted_count", "length", "num_threads"):
                values.pop(name, None)
            return self._same(step, model.Facts(**values), result)

        return act

    def _get_items(self, step: Step, m: Any, twin: Twin, models: Models) -> Plan | None:
        if step.args and _converts_otherwise(step.args[0]):
            return None
        return self._as_is(step, m, twin, models)

    def _knn_query(self, step: Step, m: Any, twin: Twin, models: Models) -> Plan | None:
        kwargs = dict(step.kwargs)
        kwargs.pop("allow_fewer", None)
        beam = kwargs.pop("ef", None)
        if beam is not None and not (isinstance(beam, int) and 0 <= beam <= MASK):
            return None
        sieve: Filter | None = kwargs.get("filter")
        if sieve is not None:
            if sieve.form not in Filter.FUNCTIONS:
                kwargs["filter"] = Filter("among", sieve.labels)
            if sieve.form in Filter.ODD or isinstance(m, model.BFIndex):
                return None
        if isinstance(m, model.BFIndex) and (m.space == "cosine" or kwargs):
            return None  # it does not normalise queries, and takes any number of threads
        kwargs.pop("num_threads", None)
        mine = replace(step, kwargs=tuple(kwargs.items()))

        def act(expected: Any, result: Any) -> str | None:
            if isinstance(expected, Refusal):
                if expected.kind == "TypeError":
                    return self._same(mine, expected, result)
                if isinstance(m, model.BFIndex) or expected.kind != "FewerResultsError":
                    return None
            elif len(expected.labels) < expected.k and len(expected.queries) > 0:
                return None  # padded
            index = self.env.objects[step.target]
            if beam is not None:
                index.set_ef(beam)
            try:
                return self._searched(mine, expected, result)
            finally:
                if beam is not None:
                    index.set_ef(m.ef)

        return act

    def _searched(self, step: Step, expected: Any, result: Any) -> str | None:
        theirs = self._perform(step)
        if isinstance(expected, Refusal):
            return self._same_error(theirs, result)
        found: Found = replace(expected, recall=Recall(), asked=None)
        if isinstance(theirs, RuntimeError) and "contiguous 2D array" in str(theirs):
            self.tally.short += 1  # it does not reach k of those that there are
            return None
        if isinstance(theirs, Exception):
            return f"hnswlib raised {type(theirs).__name__}: {theirs}"
        wrong = found.judge(theirs, None)
        self.tally.theirs += found.recall
        return None if wrong is None else f"hnswlib {wrong}"

    # Files ------------------------------------------------------------------------------------

    def _saved(self, step: Step, models: Models, expected: Any, result: Any) -> str | None:
        if isinstance(expected, Refusal):
            return None  # hnswlib writes wherever it can, and says nothing where it cannot
        path: File = step.args[0]
        self.files.discard(path.name)
        if step.target not in self.twins:
            return None
        theirs = replace(step, args=(File(path.name + THEIRS),))
        wrong = self._same(theirs, expected, result)
        self.files.add(path.name)
        models.saved_by_hnswlib(models.objects[step.target], path)
        return wrong

    def _loaded(
        self, step: Step, models: Models, expected: Any, result: Any, fresh: bool
    ) -> str | None:
        m = models.objects[step.target]
        name = step.args[0].name
        if isinstance(expected, Refusal):
            # It takes its own index away first; a BFIndex of a missing file is empty; and what it
            # makes of a directory is up to the file system.
            if fresh and expected is MISSING and isinstance(m, model.Index):
                return self._same(self._for_hnswlib(step), expected, result)
            return None
        flat = isinstance(m, model.BFIndex)
        known = name in self.files or name.endswith(THEIRS)
        if not known or m.max_elements == 0 or not m.items or (flat and m.mixed):
            self._rebuild(step.target, m)
            return None
        index = getattr(self.module, type(m).__name__)(m.space, m.dim)
        self.env.objects[step.target] = index
        self.twins[step.target] = Twin(len(m.items))
        wrong = self._same(self._for_hnswlib(step), None, None)
        if flat and wrong is None:
            if index.get_current_count() != len(m.items):
                wrong = f"hnswlib counts {index.get_current_count()}, navmap {len(m.items)}"
            # It knows none of the labels that it has loaded, and has not looked at max_elements.
            self._rebuild(step.target, m)
            return wrong
        if wrong is None and m.num_threads is not None:
            index.set_num_threads(_threads(m, m.num_threads))
        if wrong is None and isinstance(m, model.Index):
            index.set_ef(m.ef)
        return wrong

    def _for_hnswlib(self, step: Step) -> Step:
        """load_index in its words, of its file."""
        name = step.args[0].name.removesuffix(THEIRS)
        kwargs = tuple((k, v) for k, v in step.kwargs if k not in ("copy", "verify"))
        return replace(step, args=(File(name + THEIRS),), kwargs=kwargs)


def _threads(m: Any, number: Any) -> Any:
    """hnswlib overruns its buffer for the rows of "cosine" when the number is 0."""
    return 2 if m.space == "cosine" and number == 0 else number


def _converts_otherwise(ids: Any) -> bool:
    """Ids that hnswlib takes and navmap does not, or that NumPy refuses in hnswlib only."""
    return ids.form in ("half", "huge", "set", "text", "float") or (
        ids.form not in ("int64", "uint64") and any(label < 0 for label in ids.labels)
    )
