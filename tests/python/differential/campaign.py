"""Many programs, shared out among processes.  A process that dies is a failure of the program that
it was running, and another one goes on behind it."""

import importlib
import multiprocessing
import os
import signal
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from differential.counting import rare, table
from differential.generate import Features, generate
from differential.minimise import minimise
from differential.peer import Peer
from differential.steps import Program
from differential.world import SCRATCH, Failure, Tally, run

SLOWEST = 60  # seconds for one program: it takes milliseconds, but others may use the machine
SHARE = 250  # programs that a process is given at a time
MOST_FAILURES = 20  # then it is enough

# What navmap must find, of what there is, when it keeps as many candidates as there are items; and
# how much less than hnswlib it may find.
LEAST_RECALL = 0.995
LESS_THAN_HNSWLIB = 0.002


@dataclass
class Summary:
    passed: int = 0
    failures: list[Failure] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    def add(self, other: "Summary") -> None:
        self.passed += other.passed
        self.failures += other.failures
        self.tally += other.tally


def hnswlib() -> ModuleType | None:
    """The real one, if it is installed."""
    try:
        return importlib.import_module("hnswlib")
    except ImportError:
        return None


class Runner:
    """Runs one program after the other, in this process."""

    def __init__(self, module: Any, peer: Any = None, features: Features | None = None) -> None:
        self.module = module
        self.peer = peer
        self.features = features or Features(module)
        self.below: str | None = None  # where programs get their directories

    def run(self, program: Program) -> tuple[Failure | None, Tally]:
        peer = None if self.peer is None else lambda env, tally: Peer(self.peer, env, tally)
        return run(program, self.module, peer, self.below)

    @contextmanager
    def cleaning_up(self) -> Iterator[None]:
        """A process that dies leaves its directory: it goes with the one around it."""
        before = self.below
        with TemporaryDirectory(prefix="differential-", dir=before or SCRATCH) as self.below:
            try:
                yield
            finally:
                self.below = before

    def attempt(self, program: Program) -> Failure | None:
        """In a child, since a program that is being cut down may end the process."""
        with self.cleaning_up():
            return self._attempt(program)

    def _attempt(self, program: Program) -> Failure | None:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        child = os.fork()
        if child == 0:
            with suppress(BaseException), _quiet():
                signal.alarm(SLOWEST)
                theirs.send(self.run(program)[0])
            os._exit(0)
        theirs.close()
        try:
            failure: Failure | None = ours.recv()
        except EOFError:
            failure = died(program)
        os.waitpid(child, 0)
        return failure

    def share(self, first: int, count: int, begun: Callable[[int], None]) -> Summary:
        summary = Summary()
        for seed in range(first, first + count):
            begun(seed)
            failure, tally = self.run(generate(seed, self.features))
            summary.tally += tally
            if failure is None:
                summary.passed += 1
            else:
                summary.failures.append(failure)
        return summary


def died(program: Program) -> Failure:
    return Failure("(the process)", "died", "died", len(program.steps), program)


@contextmanager
def _quiet() -> Iterator[None]:
    """hnswlib warns on standard error, from C++."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def _work(runner: Runner, first: int, count: int, link: Connection) -> None:
    def begun(seed: int) -> None:
        signal.alarm(SLOWEST)
        link.send(seed)

    with _quiet():
        try:
            link.send(runner.share(first, count, begun))
        except Exception:  # in generate(); what a program raises is its failure
            link.send(traceback.format_exc())
        signal.alarm(0)


class Campaign:
    """`programs` of them from seed `first` on, by `jobs` processes."""

    def __init__(self, runner: Runner, first: int, programs: int, jobs: int) -> None:
        self.runner = runner
        self.jobs = jobs
        self.waiting = [
            (at, min(SHARE, first + programs - at))
            for at in range(first, first + programs, SHARE)
        ]  # fmt: skip
        self.running: dict[Connection, tuple[Any, int, int]] = {}
        self.at: dict[Connection, int] = {}
        self.summary = Summary(tally=Tally())

    def _start(self) -> None:
        while self.waiting and len(self.running) < self.jobs:
            first, count = self.waiting.pop(0)
            ours, theirs = multiprocessing.Pipe(duplex=False)
            context = multiprocessing.get_context("fork")
            process = context.Process(target=_work, args=(self.runner, first, count, theirs))
            process.start()
            theirs.close()
            self.running[ours] = (process, first, count)
            self.at[ours] = first

    def _end(self, link: Connection) -> None:
        process, _, _ = self.running.pop(link)
        process.join()
        link.close()
        self.at.pop(link)

    def _died(self, link: Connection) -> None:
        """What was found before goes with it: those programs are run again."""
        _, first, count = self.running[link]
        seed = self.at[link]
        self._end(link)
        self.summary.failures.append(died(generate(seed, self.runner.features)))
        for at, n in ((first, seed - first), (seed + 1, first + count - seed - 1)):
            if n > 0:
                self.waiting.insert(0, (at, n))

    def run(self, tell: Callable[[Summary], None]) -> Summary:
        with self.runner.cleaning_up():
            return self._run(tell)

    def _run(self, tell: Callable[[Summary], None]) -> Summary:
        self._start()
        while self.running:
            for link in wait(list(self.running)):
                assert isinstance(link, Connection)
                try:
                    said = link.recv()
                except EOFError:
                    self._died(link)
                    continue
                if isinstance(said, str):
                    raise RuntimeError(said)
                if isinstance(said, int):
                    self.at[link] = said
                    continue
                self.summary.add(said)
                self._end(link)
                tell(self.summary)
            if len(self.summary.failures) >= MOST_FAILURES:
                self.waiting.clear()
            self._start()
        return self.summary


def recall_failure(tally: Tally) -> str | None:
    """Does navmap, over all programs, find less than it should?"""
    if tally.ours.wanted < 1000:
        return None
    least = LEAST_RECALL
    if tally.theirs.wanted >= 1000:
        least = max(least, tally.theirs.part - LESS_THAN_HNSWLIB)
    if tally.ours.part >= least:
        return None
    return f"recall is {tally.ours.part:.5f}, must be {least:.5f}"


def report(runner: Runner, summary: Summary, seconds: float, whole: int, calls: bool) -> int:
    """Print what was found, failures cut down; returns the number of them.  `calls`: the table of
    what was called, too."""
    tally = summary.tally
    if calls:
        print(table(tally.calls))
    print(
        f"{tally.programs} programs, {tally.steps} steps, {tally.compared} compared with hnswlib, "
        f"{seconds:.1f} s"
    )
    print(
        f"recall {tally.ours.part:.5f} of {tally.ours.wanted}; hnswlib {tally.theirs.part:.5f} of "
        f"{tally.theirs.wanted}, {tally.short} searches refused"
    )
    kinds: set[str] = set()
    for failure in summary.failures:
        assert failure.program is not None
        print(f"\nFAILED: program {failure.program.seed}: {textwrap.shorten(str(failure), 400)}")
        if failure.kind not in kinds and len(kinds) < whole:
            kinds.add(failure.kind)
            small = minimise(runner.attempt, failure)
            print(f"\n{small.program}\n{textwrap.indent(str(small), '# ')}")
    of_all = rare(tally.calls, tally.programs, runner.peer is not None)
    recall = recall_failure(tally)
    of_all += [] if recall is None else [recall]
    for found in of_all:
        print(f"\nFAILED: {found}")
    return len(summary.failures) + len(of_all)


def clock() -> float:
    return time.monotonic()
