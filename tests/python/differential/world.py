"""One program, run step by step on navmap and on the model, and by `peer.py` on hnswlib."""

import copy
import pickle
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from differential import model
from differential.expected import Refusal, mismatch, truth, whole
from differential.searching import Found, Recall
from differential.steps import (
    COPIERS,
    MAKERS,
    Env,
    File,
    Ids,
    Program,
    Rows,
    Step,
    Var,
    pool,
    value_of,
)

MISSING = Refusal("NoIndexError", "Cannot open file")
UNSUPPORTED = Refusal("Error", "Index seems to be corrupted or unsupported")


@dataclass
class Failure:
    """What went wrong, where; `kind` is the same for the same fault in another program."""

    step: str
    message: str
    kind: str
    number: int  # of the step; past the last one: a step that ends every program
    program: Program | None = None

    def __str__(self) -> str:
        return f"{self.step}\n    {self.message}"


@dataclass
class Tally:
    """What a run has seen."""

    programs: int = 0
    steps: int = 0
    compared: int = 0  # with hnswlib
    rebuilt: int = 0
    short: int = 0  # searches that hnswlib refused, although there were enough items
    ours: Recall = field(default_factory=Recall)
    theirs: Recall = field(default_factory=Recall)

    def __iadd__(self, other: "Tally") -> "Tally":
        self.programs += other.programs
        self.steps += other.steps
        self.compared += other.compared
        self.rebuilt += other.rebuilt
        self.short += other.short
        self.ours += other.ours
        self.theirs += other.theirs
        return self


# The real thing -------------------------------------------------------------------------------


def facts(index: Any) -> dict[str, Any]:
    names = "space dim M ef_construction ef num_threads max_elements element_count deleted_count"
    result = {name: getattr(index, name) for name in names.split() if hasattr(type(index), name)}
    if hasattr(type(index), "__len__"):
        result["length"] = len(index)
    return result


def perform(step: Step, env: Env, module: Any) -> Any:
    """Do what a step says, with the objects in `env`."""
    args = [value_of(a, env) for a in step.args]
    kwargs = {name: value_of(a, env) for name, a in step.kwargs}
    target = env.objects.get(step.target)
    if step.call in MAKERS:
        env.objects[step.target] = getattr(module, step.call)(*args, **kwargs)
    elif step.call in COPIERS:
        env.objects[step.target] = duplicate(step.call, args[0])
    elif step.call.startswith("set "):
        setattr(target, step.call[4:], args[0])
    elif step.call == "in":
        return args[0] in target
    elif step.call == "facts":
        return facts(target)
    else:
        return getattr(target, step.call)(*args, **kwargs)
    return None


def duplicate(how: str, index: Any) -> Any:
    match how:
        case "copy.copy":
            return copy.copy(index)
        case "copy.deepcopy":
            return copy.deepcopy(index)
        case "pickle":
            return pickle.loads(pickle.dumps(index))
        case "pickle2":
            return pickle.loads(pickle.dumps(index, 2))
    return type(index)(index)


# The model ------------------------------------------------------------------------------------


class Models:
    """The model of every object, and of every file."""

    def __init__(self, env: Env) -> None:
        self.env = env
        self.objects: dict[str, Any] = {}
        self.files: dict[str, Any] = {}  # what was saved; None: no index

    def knows(self, step: Step) -> bool:
        """Can the step be done, or has an earlier one gone that it needs?"""
        others = [a.name for a in step.args if isinstance(a, Var)]
        needed = others if step.call in MAKERS or step.call in COPIERS else [step.target, *others]
        return all(name in self.objects for name in needed)

    def apply(self, step: Step) -> Any:
        """What the step must return; raises `Refusal` if it must raise."""
        kwargs = dict(step.kwargs)
        target = self.objects.get(step.target)
        if step.call in MAKERS:
            self.objects[step.target] = self._made(step.call, *step.args, **kwargs)
            return None
        if step.call in COPIERS:
            self.objects[step.target] = self._copied(step)
            return None
        if step.call.startswith("set "):
            return getattr(target, f"set_{step.call[4:]}")(self.env, *step.args)
        if step.call == "in":
            return target.contains(self.env, *step.args)
        if step.call in ("save_index", "load_index", "index_file_size"):
            return getattr(self, step.call)(target, *step.args, **kwargs)
        return getattr(target, step.call)(self.env, *step.args, **kwargs)

    def _made(self, kind: str, space: Any, dim: Any) -> Any:
        if space not in ("l2", "ip", "cosine"):
            raise Refusal("InvalidInputError", "Space name must be one of l2, ip, or cosine.")
        if not 1 <= whole(dim, -(2**31), 2**31 - 1) <= 65536:
            raise Refusal("InvalidInputError", "dim must be from 1 to 65536")
        return getattr(model, kind)(space, dim)

    def _copied(self, step: Step) -> Any:
        other = self.objects[step.args[0].name]
        if isinstance(other, model.BFIndex):
            raise Refusal("TypeError")
        return other.copied()

    def save_index(self, target: Any, path: File) -> None:
        target.handle()
        if not path.name:
            raise Refusal("InvalidInputError", "path is empty")
        if path.name.startswith("nowhere"):
            raise Refusal("NoIndexError")
        if path.name == "folder":
            raise Refusal("InvalidInputError")
        self.files[path.name] = copy.deepcopy(target)

    def load_index(
        self,
        target: Any,
        path: File,
        max_elements: Any = 0,
        allow_replace_deleted: Any = False,
        copy: Any = False,
        verify: Any = False,
    ) -> None:
        limit, replaces = whole(max_elements), truth(allow_replace_deleted)
        if path.name == "folder":
            raise UNSUPPORTED
        if path.name not in self.files:
            raise MISSING
        saved = self.files[path.name]
        if saved is None or type(saved) is not type(target) or saved.dim != target.dim:
            raise UNSUPPORTED
        count = len(saved.items)
        target.items = {
            label: model.Item(item.vector, item.deleted) for label, item in saved.items.items()
        }
        enough = limit >= count and limit > 0
        target.max_elements = limit if enough else saved.max_elements
        if isinstance(target, model.Index):
            target.M, target.ef_construction = saved.M, saved.ef_construction
            target.replaces = replaces
        target.state = "open"

    def index_file_size(self, target: Any) -> Any:
        target.handle()
        return Size(self.env)


class Size:
    """What `save_index` writes, to the byte."""

    def __init__(self, env: Env) -> None:
        self.path = env.scratch / "measured"

    def judge(self, result: Any, index: Any) -> str | None:
        index.save_index(str(self.path))
        size = self.path.stat().st_size
        return None if result == size else f"said {result}, wrote {size}"


# Both -----------------------------------------------------------------------------------------


class World:
    """A program on its way."""

    def __init__(self, program: Program, module: Any, scratch: Path) -> None:
        self.program = program
        self.module = module
        self.env = Env(pool(program.seed, program.dim, program.kind), scratch)
        self.models = Models(self.env)
        self.peer: Any = None  # a Peer
        self.tally = Tally(programs=1)
        self.number = 0

    def run(self) -> Failure | None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for step in self.program.steps:
                failure = self.step(step)
                if failure is not None:
                    return failure
            for step in self.ending():
                failure = self.step(step)
                if failure is not None:
                    return failure
        return None

    def ending(self) -> Iterator[Step]:
        """A last look at everything there is."""
        for name, m in list(self.models.objects.items()):
            yield Step(name, "facts")
            if m.state != "open":
                continue
            live = m.live()
            data = Rows(tuple(range(4)))
            if isinstance(m, model.BFIndex):
                yield Step(name, "knn_query", (data, len(live)))
                continue
            yield Step(name, "get_ids_list")
            yield Step(name, "get_items", (Ids(tuple(live)),))
            yield Step(name, "check")
            yield Step(name, "exact_query", (data, len(live)))
            yield Step(name, "knn_query", (data, len(live)))

    def step(self, step: Step) -> Failure | None:
        """None when all agree, or when the step cannot be done."""
        self.number += 1
        if not self.models.knows(step):
            return None
        self.tally.steps += 1
        self.env.asked.clear()
        plan = self.peer.plan(step, self.models) if self.peer is not None else None
        try:
            expected = self.models.apply(step)
        except Refusal as refusal:
            expected = refusal
        try:
            result: Any = perform(step, self.env, self.module)
        except Exception as error:
            result = error
        wrong = self._compare(expected, result, step)
        if wrong is None:
            wrong = self._glance(step.target)
        if wrong is None and plan is not None:
            wrong = plan(expected, result)
        if isinstance(expected, Found):
            self.tally.ours += expected.recall
        return None if wrong is None else self._failure(step, wrong)

    def _compare(self, expected: Any, result: Any, step: Step) -> str | None:
        if isinstance(expected, Refusal):
            if not isinstance(result, Exception):
                return f"returned {result!r}, expected {expected}"
            if not expected.fits(result):
                return f"raised {type(result).__name__}: {result}; expected {expected}"
            return None
        if isinstance(result, Exception):
            return f"raised {type(result).__name__}: {result}"
        return mismatch(expected, result, self.env.objects.get(step.target))

    def _glance(self, name: str) -> str | None:
        """Counters after every step: what goes wrong is seen where it does."""
        m, index = self.models.objects.get(name), self.env.objects.get(name)
        if m is None or m.state != "open":
            return None
        if index.get_current_count() != len(m.items):
            return f"get_current_count is {index.get_current_count()}, expected {len(m.items)}"
        if isinstance(m, model.Index) and len(index) != len(m.live()):
            return f"len is {len(index)}, expected {len(m.live())}"
        return None

    def _failure(self, step: Step, message: str) -> Failure:
        words = re.sub(r"[^A-Za-z ,:]+", "", message)
        kind = f"{step.call}: {' '.join(words.split()[:6])}"
        return Failure(str(step), message, kind, self.number - 1, self.program)


PeerMaker = Callable[[Env, Tally], Any]


def run(
    program: Program, module: Any, peer: PeerMaker | None = None
) -> tuple[Failure | None, Tally]:
    """Run a program in a directory of its own."""
    scratch = Path(tempfile.mkdtemp(prefix="differential-", dir=SCRATCH))
    try:
        (scratch / "folder").mkdir()
        world = World(program, module, scratch)
        if peer is not None:
            world.peer = peer(world.env, world.tally)
        (scratch / "garbage").write_bytes(bytes(range(256)) * 2)
        world.models.files["garbage"] = None
        failure = world.run()
        return failure, world.tally
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


# Thousands of small files: in memory, where there is such a place.
SCRATCH = "/dev/shm" if Path("/dev/shm").is_dir() else None
