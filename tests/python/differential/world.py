"""One program, run step by step on navmap and on the model, and by `peer.py` on hnswlib."""

import itertools
import re
import shutil
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from differential import counting, model
from differential.counting import Counts
from differential.doing import perform
from differential.expected import Refusal, mismatch
from differential.models import Models, Stored
from differential.searching import Found, Recall
from differential.steps import Env, File, Ids, Program, Rows, Step, pool


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
    calls: Counts = field(default_factory=Counter)

    def __iadd__(self, other: "Tally") -> "Tally":
        self.programs += other.programs
        self.steps += other.steps
        self.compared += other.compared
        self.rebuilt += other.rebuilt
        self.short += other.short
        self.ours += other.ours
        self.theirs += other.theirs
        self.calls += other.calls
        return self


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
            for step in itertools.chain(self.program.steps, self.ending()):
                try:
                    failure = self.step(step)
                except Exception as error:
                    failure = self._broken(step, error)
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
            yield Step(name, "save_index", (File("last"),))
            yield Step(name, "verify", (File("last"),))
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
        forms = counting.forms(step, self.models)
        compared = self.tally.compared
        plan = self.peer.plan(step, self.models) if self.peer is not None else None
        # Without their tracebacks, whose frames would keep every index of the program.
        try:
            expected = self.models.apply(step)
        except Refusal as refusal:
            expected = refusal.with_traceback(None)
        try:
            result: Any = perform(step, self.env, self.module)
        except Exception as error:
            result = error.with_traceback(None)
        wrong = self._compare(expected, result, step)
        if wrong is None:
            wrong = self._glance(step.target)
        if wrong is None and plan is not None:
            wrong = plan(expected, result)
        if isinstance(expected, Found):
            self.tally.ours += expected.recall
        outcome = "refused" if isinstance(expected, Refusal) else "done"
        self.tally.calls.update((form, outcome) for form in forms)
        if self.tally.compared > compared:
            self.tally.calls.update((form, "hnswlib") for form in forms)
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
        m: Any = self.models.objects.get(name)
        index: Any = self.env.objects.get(name)
        if m is None or m.state != "open":
            return None
        if index.get_current_count() != len(m.items):
            return f"get_current_count is {index.get_current_count()}, expected {len(m.items)}"
        if index.get_max_elements() != m.max_elements:
            return f"get_max_elements is {index.get_max_elements()}, expected {m.max_elements}"
        if isinstance(m, model.Index) and len(index) != len(m.live()):
            return f"len is {len(index)}, expected {len(m.live())}"
        return None

    def _failure(self, step: Step, message: str) -> Failure:
        words = re.sub(r"[^A-Za-z ,:]+", "", message)
        kind = f"{step.call}: {' '.join(words.split()[:6])}"
        return Failure(str(step), message, kind, self.number - 1, self.program)

    def _broken(self, step: Step, error: Exception) -> Failure:
        """An exception where none is expected: in the test's own code, or in navmap when a judge
        asked it something."""
        where = traceback.extract_tb(error.__traceback__)[-1]
        kind = f"{type(error).__name__} in {where.name} of {Path(where.filename).name}"
        message = "".join(traceback.format_exception(error)).rstrip()
        return Failure(str(step), message, kind, self.number - 1, self.program)


PeerMaker = Callable[[Env, Tally], Any]


def run(
    program: Program, module: Any, peer: PeerMaker | None = None, below: str | None = None
) -> tuple[Failure | None, Tally]:
    """Run a program in a directory of its own, `below` another one."""
    scratch = Path(tempfile.mkdtemp(prefix="differential-", dir=below or SCRATCH))
    try:
        (scratch / "folder").mkdir()
        world = World(program, module, scratch)
        if peer is not None:
            world.peer = peer(world.env, world.tally)
        (scratch / "garbage").write_bytes(bytes(range(256)) * 2)
        world.models.files["garbage"] = Stored(None)
        failure = world.run()
        return failure, world.tally
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


# Thousands of small files: in memory, where there is such a place.
SCRATCH = "/dev/shm" if Path("/dev/shm").is_dir() else None
