"""Programs out of numbers.

Labels come from a handful, so that the same ones are added, deleted and looked up again; batches
are small beside the room there is, but now and then larger; and one argument in twenty is wrong.
What an index holds at the time is guessed, so that most calls do something, and no more than that:
a program must mean something, too, after the minimiser has taken steps out of it.
"""

import inspect
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from differential.steps import (
    COPIERS,
    IMPORTERS,
    MASK,
    POOL_KINDS,
    POOL_ROWS,
    THEIRS,
    File,
    Filter,
    Ids,
    Program,
    Rows,
    Step,
    Var,
)

SPACES = ("l2", "ip", "cosine")
LARGE = (2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, MASK - 1)
NO_SIZES = (-1, 2.0, "3", None, MASK + 1)
STEPS = (8, 40)
FLAT_FACTS = ("facts", "get_current_count", "get_max_elements")


class Features:
    """What a package can do: today's programs do not call for tomorrow's methods."""

    def __init__(self, module: Any) -> None:
        index = module.Index
        self.save = hasattr(index, "save_index")
        self.flat = hasattr(module, "BFIndex")
        self.copies: tuple[str, ...] = ()
        if hasattr(index, "__setstate__"):
            self.copies = tuple(COPIERS)
        elif "index" in inspect.signature(index.__init__).parameters:
            self.copies = ("Index(index)",)


@dataclass
class Guess:
    """What an index, or a file, holds by and large."""

    state: str = "fresh"  # then "open", then "closed"
    room: int = 0
    labels: set[int] = field(default_factory=set)
    marked: set[int] = field(default_factory=set)

    def copied(self) -> "Guess":
        return Guess(self.state, self.room, set(self.labels), set(self.marked))


class Generator:
    def __init__(self, seed: int, features: Features) -> None:
        self.r = random.Random(seed)
        self.seed = seed
        self.features = features
        self.dim = self.r.choice((1, 2, 3, 4, 7, 8, 15, 16, 17, 24))
        self.space = self.r.choice(SPACES)
        self.replaces = self.r.random() < 0.5
        spread = self.r.choice((6, 12, 30, 120))
        self.small = list(range(spread))
        self.labels = [*self.small, *self.r.sample(LARGE, self.r.choice((0, 0, 1, 2)))]
        self.largest_batch = self.r.choice((3, 8, 24))
        self.names = ["x"]
        self.flats: list[str] = []
        self.guesses: dict[str, Guess] = {}
        self.saved: dict[str, Guess] = {}  # what is in files, those of flat indexes included

    # Arguments --------------------------------------------------------------------------------

    def odd(self) -> bool:
        return self.r.random() < 0.04

    def rows(self, n: int) -> Rows:
        indices = tuple(self.r.randrange(POOL_ROWS) for _ in range(n))
        if self.odd():
            return Rows(indices or (0,), self.r.choice(Rows.ODD))
        if n == 1 and self.r.random() < 0.4:
            return Rows(indices, "1d")
        return Rows(indices, self.r.choice((*Rows.FORMS, *["f4"] * 7)))

    def batch(self) -> int:
        if self.r.random() < 0.4:
            return 1
        if self.odd():
            return 0
        if self.r.random() < 0.03:
            return self.r.randrange(40, 120)
        return self.r.randint(1, self.largest_batch)

    def label(self, of: Collection[int] = ()) -> int:
        """One of these, as a rule."""
        if of and self.r.random() < 0.8:
            return self.r.choice(sorted(of))
        return self.r.choice(self.labels)

    def ids(self, n: int, of: Collection[int] = ()) -> Ids:
        """Usually of different labels: a run of them, or any."""
        kind = self.r.random()
        if len(of) >= n and self.r.random() < 0.8:
            labels = self.r.sample(sorted(of), n)
        elif kind < 0.4:
            first = self.r.choice(self.small)
            labels = [first + i for i in range(n)]
        elif kind < 0.9 and n <= len(self.labels):
            labels = self.r.sample(self.labels, n)
        else:
            labels = [self.label() for _ in range(n)]
        if self.odd():
            labels = [-1 - label if label < 2**62 else label for label in labels]
        if self.odd():
            return Ids(tuple(labels or [1]), self.r.choice(Ids.ODD))
        if self.odd():
            labels = labels[:-1] if labels and self.r.random() < 0.5 else [*labels, 1]
        if n == 1 and len(labels) == 1 and self.r.random() < 0.3:
            return Ids(tuple(labels), "scalar" if self.r.random() < 0.7 else "array0")
        forms = Ids.FORMS if max(labels, default=0) < 2**53 else ("list", "int64", "uint64")
        return Ids(tuple(labels), self.r.choice((*forms, "list", "list")))

    def filter(self, of: Collection[int] = ()) -> Filter:
        if self.odd():
            return Filter(self.r.choice(Filter.ODD))
        some = self.r.choice((self.small, sorted(of) or self.small))
        labels = sorted(set(self.r.choices(some, k=self.r.randint(0, 20))))
        form = self.r.choice((*Filter.LISTS, *Filter.FUNCTIONS))
        if form == "range" and labels:
            labels = list(range(labels[0], min(labels[-1], labels[0] + 200) + 1))
        return Filter(form, tuple(labels))

    def size(self, *usual: int) -> Any:
        return self.r.choice(NO_SIZES) if self.odd() else self.r.choice(usual)

    def path(self) -> File:
        if self.odd():
            return File(self.r.choice(("nowhere/file", "folder", "garbage")))
        return File(self.r.choice(("one", "two")))

    def path_of_any(self) -> File:
        """To be loaded: mostly of a file that is there."""
        if self.r.random() < 0.1:
            return File(self.r.choice(("nowhere/file", "folder", "garbage", "folder", "garbage")))
        path = File(self.r.choice(sorted(self.saved) or ["one"]))
        return File(path.name + THEIRS) if self.r.random() < 0.25 else path

    def optional(self, part: float, **choices: Callable[[], Any]) -> tuple[tuple[str, Any], ...]:
        return tuple((k, make()) for k, make in choices.items() if self.r.random() < part)

    def threads(self) -> int:
        return self.r.choice((-1, 0, 1, 2, 3, 4))

    # Steps ------------------------------------------------------------------------------------

    def new(self, name: str) -> list[Step]:
        space: Any = self.r.choice(SPACES) if self.r.random() < 0.2 else self.space
        dim: Any = self.dim if self.r.random() < 0.97 else self.dim + 1
        if self.odd():
            space, dim = self.r.choice((("L2", dim), (space, 0), (space, -1), (space, 2.0)))
        steps = [Step(name, "Index", (space, dim))]
        self.guesses[name] = Guess()
        if self.r.random() < 0.95:
            steps.append(self.init(name))
            if self.r.random() < 0.95:
                steps.append(self.fill(name))
        return steps

    def init(self, name: str) -> Step:
        room = self.size(1, 2, 5, 10, 20, 50, 50, 100, 200, 200, 0 if self.odd() else 30)
        guess = self.guesses[name]
        if isinstance(room, int) and guess.state == "fresh":
            guess.state, guess.room = "open", room
        replaces = self.replaces if self.r.random() < 0.9 else not self.replaces
        kwargs = self.optional(
            0.8,
            M=lambda: self.r.choice((0, 1, 513)) if self.odd() else self.r.randint(2, 16),
            ef_construction=lambda: self.r.choice((0, 1, 5, 20, 50, 100, 200)),
            random_seed=lambda: self.size(0, 1, 100, 2**40),
        )
        if replaces:
            kwargs += (("allow_replace_deleted", True),)
        return Step(name, "init_index", (room,), kwargs)

    def new_flat(self, name: str) -> list[Step]:
        steps = [Step(name, "BFIndex", (self.space, self.dim))]
        self.guesses[name] = Guess()
        if self.r.random() < 0.95:
            room = self.size(1, 5, 20, 100)
            if isinstance(room, int):
                self.guesses[name] = Guess("open", room)
            steps += [Step(name, "init_index", (room,)), self.fill(name)]
        return steps

    def add(self, name: str) -> Step:
        n, guess = self.batch(), self.guesses[name]
        if n > guess.room - len(guess.labels) and self.r.random() < 0.8:
            n = max(1, guess.room - len(guess.labels))
        args: tuple[Any, ...] = (self.rows(n),)
        if self.r.random() < 0.8:
            full = len(guess.labels) >= guess.room and self.r.random() < 0.7
            ids = self.ids(n, guess.labels if full else ())
            args += (ids,)
            self.added(guess, ids.labels)
        else:
            first = max(guess.labels, default=-1) + 1
            self.added(guess, range(first, first + n))
        if name in self.flats:
            return Step(name, "add_items", args)
        kwargs = self.optional(0.3, num_threads=self.threads)
        if self.r.random() < (0.5 if self.replaces else 0.03):
            kwargs += (("replace_deleted", True),)
        return Step(name, "add_items", args, kwargs)

    def added(self, guess: Guess, labels: Collection[int]) -> None:
        if len(guess.labels.union(labels)) <= guess.room:
            guess.labels.update(label & MASK for label in labels)

    def mark(self, name: str) -> Step:
        guess = self.guesses[name]
        if not guess.labels and self.r.random() < 0.5:
            return self.add(name)
        label = self.size(self.label(guess.labels - guess.marked))
        if label in guess.labels:
            guess.marked.add(label)
        return Step(name, "mark_deleted", (label,))

    def unmark(self, name: str) -> Step:
        guess = self.guesses[name]
        if not guess.marked and self.r.random() < 0.7:
            return self.mark(name)
        label = self.size(self.label(guess.marked))
        guess.marked.discard(label)
        return Step(name, "unmark_deleted", (label,))

    def resize(self, name: str) -> Step:
        guess = self.guesses[name]
        size = self.size(1, 10, 50, 200, 300, len(guess.labels), len(guess.labels) + 5)
        if isinstance(size, int) and size >= len(guess.labels):
            guess.room = size
        return Step(name, "resize_index", (size,))

    def search(self, name: str) -> Step:
        guess = self.guesses[name]
        if name in self.flats:
            kwargs = self.optional(0.2, num_threads=self.threads)
            kwargs += self.optional(0.5, filter=lambda: self.filter(guess.labels))
            data = self.rows(self.batch())
            return Step(name, "knn_query", (data, self.size(1, 1, 2, 5)), kwargs)
        exact = self.r.random() < 0.15
        k = self.size(*[0] * self.odd(), 1, 1, 1, 2, 3, 5, 10, 10, 20)
        kwargs = self.optional(0.2, num_threads=self.threads)
        kwargs += self.optional(0.4, filter=lambda: self.filter(guess.labels))
        kwargs += self.optional(0.5, allow_fewer=lambda: True)
        if not exact:
            kwargs += self.optional(0.6, ef=lambda: self.size(1, 5, 50, 300, 300, 300))
        data = self.rows(self.batch())
        return Step(name, "exact_query" if exact else "knn_query", (data, k), kwargs)

    def look_up(self, name: str) -> Step:
        guess = self.guesses[name]
        n = self.batch() if self.r.random() < 0.9 else 0
        ids = self.ids(n, guess.labels - guess.marked)
        if ids.form in Ids.FORMS and self.r.random() < 0.3:
            ids = Ids(ids.labels, self.r.choice(("column", "rect")))
        kwargs = self.optional(0.2, return_type=lambda: self.r.choice(("list", "numpy", "both")))
        return Step(name, "get_items", (ids,), kwargs)

    def set_something(self, name: str) -> Step:
        what, make = self.r.choice(
            (
                ("ef", lambda: self.size(0, 1, 10, 50, 300, 300)),
                ("num_threads", lambda: self.r.choice((0, 1, 2, 4, -1))),
            )
        )
        call = f"set_{what}" if self.r.random() < 0.5 else f"set {what}"
        return Step(name, call, (make(),))

    def glance(self, name: str) -> Step:
        call = self.r.choice(
            ("facts", "get_ids_list", "get_max_elements", "get_current_count", "check", "in", "in")
        )
        match call:
            case "in":
                return Step(name, call, (self.size(self.label()),))
            case "get_ids_list":
                deleted = self.optional(0.5, include_deleted=lambda: self.r.random() < 0.5)
                return Step(name, call, (), deleted)
        return Step(name, call)

    def of_files(self, name: str) -> list[Step]:
        choice = self.r.random()
        if choice < (0.25 if self.saved else 0.8):
            return [self.save(name)]
        if choice < 0.3 and name not in self.flats:
            return [Step(name, "index_file_size")]
        return self.damaged(name) if choice < 0.5 else self.load(name)

    def save(self, name: str) -> Step:
        path = self.path()
        if "/" not in path.name and path.name != "folder":
            self.saved[path.name] = self.guesses[name].copied()
        return Step(name, "save_index", (path,))

    def load(self, name: str) -> list[Step]:
        """Into a new object, or over what there is."""
        flat = name in self.flats
        path, dim = self.path_of_any(), self.dim
        kwargs = self.optional(0.3, max_elements=lambda: self.size(0, 1, 10, 50, 300))
        if not flat:
            kwargs += self.optional(0.3, allow_replace_deleted=lambda: self.replaces)
        kwargs += self.optional(0.15, copy=lambda: True, verify=lambda: True)
        held = self.saved.get(path.name.removesuffix(THEIRS), Guess()).copied()
        if self.r.random() < 0.5:
            if held.state == "open":
                self.guesses[name] = held
            return [Step(name, "load_index", (path,), kwargs)]
        if flat:
            self.guesses[name] = held
            return [
                Step(name, "BFIndex", (self.r.choice(SPACES), dim)),
                Step(name, "load_index", (path,), kwargs),
            ]
        space, target = self.r.choice(SPACES), self.other()
        self.guesses[target] = held
        if self.odd():
            dim += 1
        return [
            Step(target, "Index", (space, dim)),
            Step(target, "load_index", (path,), kwargs),
        ]

    def damaged(self, name: str) -> list[Step]:
        """A file that is broken, and what becomes of that."""
        source = self.path_of_any()
        how = self.r.choice(("cut", "longer", "flip", "flip"))
        at = self.r.choice((0.0, self.r.random() ** 4, self.r.random(), 1 - self.r.random() ** 4))
        steps = [Step("", "damage", (source, File("bad"), how, round(min(at, 0.9999), 4)))]
        if self.r.random() < 0.5:
            kind = "BFIndex" if name in self.flats else "Index"
            kwargs = self.optional(0.3, verify=lambda: True)
            arguments = (kind, self.r.choice(SPACES), self.dim, File("bad"))
            return [*steps, Step("", "try_out", arguments, kwargs)]
        return [*steps, Step(name, "load_index", (File("bad"),), (("verify", True),))]

    def close(self, name: str) -> Step:
        guess = self.guesses[name]
        guess.state = "fresh" if guess.state == "fresh" else "closed"
        return Step(name, "close")

    def other(self) -> str:
        """The name of another object, or of the same one."""
        target = self.r.choice("xyz")
        self.names = sorted({*self.names, target})
        return target

    def duplicate(self, name: str) -> Step:
        ways = self.features.copies
        if self.r.random() < 0.25 and "Index(params)" in ways:
            ways = tuple(IMPORTERS)
        target = self.other()
        self.guesses[target] = self.guesses[name].copied()
        return Step(target, self.r.choice(ways), (Var(name),))

    def on_index(self, name: str) -> list[Step]:
        state = self.guesses[name].state
        if state != "open" and self.r.random() < 0.6:
            return [self.init(name), self.fill(name)] if state == "fresh" else self.new(name)
        choices: list[tuple[float, Callable[[], list[Step]]]] = [
            (30, lambda: [self.add(name)]),
            (20, lambda: [self.search(name)]),
            (12, lambda: [self.mark(name)]),
            (6, lambda: [self.unmark(name)]),
            (8, lambda: [self.look_up(name)]),
            (8, lambda: [self.glance(name)]),
            (4, lambda: [self.set_something(name)]),
            (4, lambda: [self.resize(name)]),
            (0.7, lambda: [self.init(name)]),
            (0.7, lambda: [self.close(name)]),
            (1.5, lambda: self.new(name)),
        ]
        if self.features.save:
            choices.append((10, lambda: self.of_files(name)))
        if self.features.copies:
            choices.append((5, lambda: [self.duplicate(name)]))
        return self.r.choices([c[1] for c in choices], [c[0] for c in choices])[0]()

    def on_flat(self, name: str) -> list[Step]:
        labels = self.guesses[name].labels
        choices: list[tuple[float, Callable[[], list[Step]]]] = [
            (30, lambda: [self.add(name)]),
            (20, lambda: [self.search(name)]),
            (15, lambda: [Step(name, "delete_vector", (self.size(self.label(labels)),))]),
            (4, lambda: [Step(name, self.r.choice(FLAT_FACTS))]),
            (15, lambda: self.of_files(name)),
            (1, lambda: self.new_flat(name)),
        ]
        return self.r.choices([c[1] for c in choices], [c[0] for c in choices])[0]()

    def program(self) -> Program:
        steps = self.new("x")
        if self.features.flat and self.r.random() < 0.4:
            self.flats = ["f"]
            steps += self.new_flat("f")
        for _ in range(self.r.randint(*STEPS)):
            if self.flats and self.r.random() < 0.3:
                steps += self.on_flat("f")
            else:
                steps += self.on_index(self.r.choice(self.names))
        return Program(self.seed, self.dim, self.r.choice(POOL_KINDS), tuple(steps))

    def fill(self, name: str) -> Step:
        """Something to begin with."""
        guess = self.guesses[name]
        n = self.r.choice((0, 3, 10, 30, 100))
        if n > guess.room and self.r.random() < 0.9:
            n = guess.room
        self.added(guess, range(n))
        rows = Rows(tuple(self.r.randrange(POOL_ROWS) for _ in range(n)))
        return Step(name, "add_items", (rows,))


def generate(seed: int, features: Features) -> Program:
    return Generator(seed, features).program()
