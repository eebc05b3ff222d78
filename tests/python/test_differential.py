"""Random programs against the model and hnswlib (differential/), some of them; and that a fault
would be found and cut down.  `make torture-ci` runs thousands."""

import os
import signal
import types

import pytest

import navmap
from conftest import SEED, SHORT
from differential.__main__ import TIERS
from differential.campaign import Campaign, Runner, Summary, hnswlib
from differential.generate import Features, generate
from differential.minimise import minimise
from differential.steps import Program
from differential.world import Failure

PROGRAMS = TIERS["test"] // (5 if SHORT else 1)
WHY_NOT = (
    "hnswlib is not built with sanitizers"
    if SHORT
    else "hnswlib is not installed (make hnswlib): the model alone was asked"
)
PEER = None if SHORT else hnswlib()


def first_failure(runner: Runner, seeds: range) -> Failure:
    for seed in seeds:
        failure, _ = runner.run(generate(seed, runner.features))
        if failure is not None:
            return failure
    raise AssertionError(f"no program in {seeds} has found it")


def with_index(index: type) -> Runner:
    """A runner for a package with that Index."""
    return Runner(types.SimpleNamespace(Index=index), features=Features(navmap))


@pytest.mark.parametrize("number", range(PROGRAMS))
def test_a_program(number):
    runner = Runner(navmap, PEER)
    failure, _ = runner.run(generate(SEED + number, runner.features))
    if failure is not None:
        small = minimise(runner.attempt, failure)
        pytest.fail(f"seed {SEED + number}: {failure}\n\n{small.program}\n# {small}")


@pytest.mark.skipif(PEER is None, reason=WHY_NOT)
def test_hnswlib_was_asked_too():
    runner = Runner(navmap, PEER)
    _, tally = runner.run(generate(SEED, runner.features))
    assert tally.compared > 0


def test_programs_are_python_and_depend_on_the_seed():
    features = Features(navmap)
    programs = {str(generate(seed, features)) for seed in range(20)}
    assert len(programs) == 20
    assert all(str(generate(seed, features)) in programs for seed in range(20))
    for program in programs:
        compile(program, "program", "exec")


def steps_of(program: Program | None) -> list[str]:
    assert program is not None
    return [step.call for step in program.steps]


def test_a_planted_fault_is_found_and_cut_down():
    class Forgets(navmap.Index):
        """After a resize, deletion is for good."""

        resized = False

        def resize_index(self, new_size):
            super().resize_index(new_size)
            self.resized = True

        def unmark_deleted(self, label):
            if not self.resized or label not in set(self.get_ids_list()) or label in self:
                super().unmark_deleted(label)

    runner = with_index(Forgets)
    failure = first_failure(runner, range(1000, 1400))
    small = minimise(lambda program: runner.run(program)[0], failure)
    assert small.kind == failure.kind == "unmark_deleted: len is , expected"
    assert sorted(steps_of(small.program)) == sorted(
        ["Index", "init_index", "add_items", "mark_deleted", "resize_index", "unmark_deleted"]
    )
    assert small.program is not None
    added = next(step for step in small.program.steps if step.call == "add_items")
    assert len(added.args[0].indices) == 1


def test_a_wrong_distance_is_found():
    class Off(navmap.Index):
        def knn_query(self, *args, **kwargs):
            labels, distances = super().knn_query(*args, **kwargs)
            return labels, distances * 1.0001

    failure = first_failure(with_index(Off), range(50))
    assert failure.kind.startswith("knn_query: ") and "has distance" in failure.message


def test_a_crash_is_a_failure_of_its_program():
    class Dies(navmap.Index):
        def mark_deleted(self, label):
            super().mark_deleted(label)
            if self.deleted_count > 1:
                os.kill(os.getpid(), signal.SIGKILL)

    runner = with_index(Dies)
    told = []
    summary = Campaign(runner, 0, 8, jobs=2).run(lambda s: told.append(s.passed))
    assert len(summary.failures) > 0 and summary.passed > 0
    assert summary.passed + len(summary.failures) == 8 and told[-1] == summary.passed
    assert {failure.kind for failure in summary.failures} == {"died"}
    least = min(summary.failures, key=lambda failure: len(steps_of(failure.program)))
    small = minimise(runner.attempt, least)
    assert steps_of(small.program) == ["Index", "init_index", "add_items", *["mark_deleted"] * 2]


def test_a_campaign_is_the_sum_of_its_shares():
    runner = Runner(navmap)
    whole = Campaign(runner, SEED, 10, jobs=2).run(lambda s: None)
    shares = Summary()
    for seed in range(SEED, SEED + 10):
        shares.add(runner.share(seed, 1, lambda seed: None))
    assert (whole.passed, whole.tally.steps) == (shares.passed, shares.tally.steps) and whole.passed
