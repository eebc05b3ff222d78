"""Random programs against the model and hnswlib (differential/), some of them; and that a fault
would be found and cut down.  `make torture-ci` runs thousands."""

import gc
import os
import re
import signal
import tempfile
import types
from contextlib import suppress

import pytest

import navmap
from conftest import SEED, SHORT
from differential import campaign, model
from differential.__main__ import TIERS
from differential.campaign import Campaign, Runner, Summary, hnswlib, report
from differential.generate import Features, generate
from differential.minimise import minimise
from differential.models import Stored
from differential.steps import IMPORTERS, Program
from differential.world import Failure, Tally, World

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


def with_classes(index: type = navmap.Index, flat: type = navmap.BFIndex) -> Runner:
    """A runner for a package with these classes, which pickles have to find again by name."""
    for made in (index, flat):
        if made.__module__ == __name__:
            made.__qualname__ = made.__name__
            globals()[made.__name__] = made
    return Runner(types.SimpleNamespace(Index=index, BFIndex=flat), features=Features(navmap))


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


@pytest.mark.filterwarnings("ignore:Calling load_index")
@pytest.mark.parametrize("number", range(10))
def test_a_printed_program_does_what_was_run(number, tmp_path, monkeypatch):
    program = generate(SEED + number, Features(navmap))
    world = World(program, navmap, tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "garbage").write_bytes(bytes(range(256)) * 2)
    world.models.files["garbage"] = Stored(None)
    assert world.run() is None

    header = str(program).removesuffix("\n".join(map(str, program.steps)))
    names: dict[str, object] = {}
    monkeypatch.setattr(tempfile, "mkdtemp", lambda: str(tmp_path / "again"))
    (tmp_path / "again").mkdir()
    exec(header, names)
    for step in program.steps:
        if step.call not in IMPORTERS:  # hnswlib was not asked
            with suppress(Exception):
                exec(str(step), names)
    for name, index in world.env.objects.items():
        again = names[name]
        assert repr(index) == repr(again)
        if isinstance(index, navmap.Index) and not index.closed:
            assert index.element_count == again.element_count
            assert (index.ef, index.max_elements) == (again.ef, again.max_elements)


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

    runner = with_classes(Forgets)
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

    failure = first_failure(with_classes(Off), range(50))
    assert failure.kind.startswith("knn_query: ") and "has distance" in failure.message


class NoRoom(navmap.Index):
    def load_index(self, path, max_elements=0, *args, **kwargs):
        super().load_index(path, 0, *args, **kwargs)


class NoReplacing(navmap.Index):
    def load_index(self, path, max_elements=0, allow_replace_deleted=False, **kwargs):
        super().load_index(path, max_elements, False, **kwargs)


class NoMarks(navmap.Index):
    def load_index(self, *args, **kwargs):
        super().load_index(*args, **kwargs)
        for label in set(self.get_ids_list()) - set(self.get_ids_list(False)):
            self.unmark_deleted(label)


class NoVerifying(navmap.Index):
    def load_index(self, *args, verify=False, **kwargs):
        super().load_index(*args, **kwargs)


class NoEf(navmap.Index):
    def __setstate__(self, state):
        super().__setstate__(state)
        self.ef = 10


class Longer(navmap.Index):
    def index_file_size(self):
        return super().index_file_size() + 1


class SharedCopies(navmap.Index):
    def __copy__(self):
        return self if len(self) > 0 else navmap.Index(index=self)


class OtherSpace(navmap.Index):
    """Normalises what it loads."""

    def load_index(self, *args, **kwargs):
        super().load_index(*args, **kwargs)
        labels = self.get_ids_list(False)
        if self.space == "cosine" and self.deleted_count == 0 and labels:
            self.add_items(self.get_items(labels), labels)


class NoTuples(navmap.Index):
    def knn_query(self, *args, filter=None, **kwargs):
        filter = None if isinstance(filter, tuple) else filter
        return super().knn_query(*args, filter=filter, **kwargs)


class Overwrites(navmap.Index):
    """Numbers rows without ids by how many there are."""

    def add_items(self, data, ids=None, *args, **kwargs):
        if ids is None and type(data) is not list and getattr(data, "ndim", 0) == 2:
            ids = range(self.element_count, self.element_count + len(data))
        super().add_items(data, ids, *args, **kwargs)


class KeepsOne(navmap.BFIndex):
    def delete_vector(self, label):
        if self._core_handle is None or self.get_current_count() != 1:
            super().delete_vector(label)


class NoFlatRoom(navmap.BFIndex):
    def load_index(self, path, max_elements=0, **kwargs):
        super().load_index(path, 0, **kwargs)


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        (NoRoom, r"load_index: getmaxelements is"),
        (NoReplacing, r"add_items: raised ReplaceError"),
        (NoMarks, r"load_index: len|unmark_deleted|mark_deleted|get_items"),
        (NoVerifying, r"load_index: returned None, expected Error"),
        (NoEf, r"facts: ef is"),
        (Longer, r"index_file_size: said"),
        (SharedCopies, r"(?!copy\.copy)\w+: "),
        (OtherSpace, r"get_items: returned the vectors|knn_query: .*distance"),
        (NoTuples, r"knn_query: .*(query|returned)"),
        (Overwrites, r"add_items: (get|len|forgot)|get_ids_list"),
        (KeepsOne, r"delete_vector: getcurrentcount"),
        (NoFlatRoom, r"load_index: getmaxelements is"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_other_faults_are_found(fault, seen):
    flat = issubclass(fault, navmap.BFIndex)
    runner = with_classes(flat=fault) if flat else with_classes(fault)
    failure = first_failure(runner, range(2000, 2600))
    assert re.match(seen, failure.kind), failure


def test_an_exception_in_the_tests_own_code_is_shown_with_its_traceback(monkeypatch):
    def broken(self, env):
        raise LookupError("of my own making")

    monkeypatch.setattr(model.Index, "check", broken)
    failure = first_failure(Runner(navmap), range(50))
    assert failure.kind == "LookupError in broken of test_differential.py"
    assert failure.step.endswith(".check()") and "of my own making" in failure.message
    assert "Traceback" in failure.message and "models.py" in failure.message


def test_an_exception_in_the_generator_ends_the_campaign(monkeypatch):
    def broken(seed, features):
        raise LookupError("of my own making")

    monkeypatch.setattr(campaign, "generate", broken)
    with pytest.raises(RuntimeError, match="(?s)^Traceback.*LookupError: of my own making"):
        Campaign(Runner(navmap), 0, 2, jobs=1).run(lambda s: None)


def test_what_is_never_called_is_told(capsys):
    runner = Runner(navmap)
    summary = Summary(passed=1000, tally=Tally(programs=1000))
    summary.tally.calls["check", "done"] = 1000
    summary.tally.calls["copy.copy", "done"] = 3
    failed = report(runner, summary, 1.0, whole=1, calls=True)
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if line.startswith("FAILED")]
    assert failed == len(told) > 50 and not any("check" in line for line in told)
    assert "FAILED: copy.copy, done: 3 times, at least 5 wanted" in told


def test_a_crash_is_a_failure_of_its_program():
    class Dies(navmap.Index):
        def mark_deleted(self, label):
            super().mark_deleted(label)
            if self.deleted_count > 1:
                os.kill(os.getpid(), signal.SIGKILL)

    runner = with_classes(Dies)
    told = []
    summary = Campaign(runner, 0, 8, jobs=2).run(lambda s: told.append(s.passed))
    assert len(summary.failures) > 0 and summary.passed > 0
    assert summary.passed + len(summary.failures) == 8 and told[-1] == summary.passed
    assert {failure.kind for failure in summary.failures} == {"died"}
    least = min(summary.failures, key=lambda failure: len(steps_of(failure.program)))
    small = minimise(runner.attempt, least)
    assert steps_of(small.program) == ["Index", "init_index", "add_items", *["mark_deleted"] * 2]


def test_nothing_is_kept(monkeypatch, tmp_path):
    """A refusal's traceback would keep the whole program, thousands of them all the memory; and a
    process that dies leaves files."""

    class DiesToo(navmap.Index):
        def check(self):
            os.kill(os.getpid(), signal.SIGKILL)

    def indexes():
        gc.collect()
        return sum(isinstance(o, navmap.Index | navmap.BFIndex) for o in gc.get_objects())

    before = indexes()
    monkeypatch.setattr(campaign, "SCRATCH", str(tmp_path))
    runner = with_classes(DiesToo)
    summary = Campaign(runner, 0, 2, jobs=2).run(lambda s: None)
    assert runner.attempt(summary.failures[0].program) is not None
    runner = Runner(navmap, PEER)
    for seed in range(20):
        runner.run(generate(seed, runner.features))
    assert indexes() == before and not list(tmp_path.iterdir())


def test_a_campaign_is_the_sum_of_its_shares():
    runner = Runner(navmap)
    whole = Campaign(runner, SEED, 10, jobs=2).run(lambda s: None)
    shares = Summary()
    for seed in range(SEED, SEED + 10):
        shares.add(runner.share(seed, 1, lambda seed: None))
    assert (whole.passed, whole.tally.steps) == (shares.passed, shares.tally.steps) and whole.passed
