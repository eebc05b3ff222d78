"""What programs are made of: values that can be computed again and printed as Python, and steps.

Vectors are rows of a pool, which the program's seed decides; V[3] means the same in every step, so
that equal vectors under several labels are common.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

POOL_ROWS = 48
POOL_KINDS = ("normal", "clustered", "grid", "scales")
MASK = 2**64 - 1


def pool(seed: int, dim: int, kind: str) -> Floats:
    """The vectors of a program.  Row 0 is zero, and rows 1 and 2 are nearly the same."""
    rng = np.random.default_rng([seed, dim])
    shape = (POOL_ROWS, dim)
    rows = rng.standard_normal(shape)
    if kind == "clustered":
        centres = rng.standard_normal((4, dim)) * 10
        rows = centres[rng.integers(0, 4, POOL_ROWS)] + rows * 0.01
    elif kind == "grid":  # equal distances
        rows = rng.integers(-2, 3, shape).astype(np.float64)
    elif kind == "scales":
        rows *= 10.0 ** rng.integers(-3, 4, (POOL_ROWS, 1))
    rows[0] = 0
    rows[2] = rows[1] * (1 + 1e-6)
    return rows.astype(np.float32)


@dataclass
class Env:
    """What a value needs to become one."""

    V: Floats
    scratch: Path
    objects: dict[str, Any] = field(default_factory=dict)
    theirs: dict[str, Any] = field(default_factory=dict)  # hnswlib's objects of the same names
    asked: list[int] = field(default_factory=list)  # by filter functions


@dataclass(frozen=True)
class Rows:
    """Vectors, in one of the many forms in which callers pass them."""

    indices: tuple[int, ...]
    form: str = "f4"

    FORMS = ("f4", "f8", "list", "fortran", "strided", "big", "int")
    ODD = ("3d", "0d", "wide", "narrow", "nan", "inf", "none", "text", "ragged")

    def value(self, env: Env) -> Any:
        return eval(repr(self), {"V": env.V, "np": np})  # what is printed is what is run

    def __repr__(self) -> str:
        rows = f"V[{list(self.indices)}]" if self.indices else "V[:0]"
        match self.form:
            case "1d":
                return f"V[{self.indices[0]}]"
            case "f8":
                return f"{rows}.astype('f8')"
            case "list":
                return f"{rows}.tolist()"
            case "fortran":
                return f"np.asfortranarray({rows})"
            case "strided":
                return f"np.repeat({rows}, 2, axis=1)[:, ::2]"
            case "big":
                return f"{rows}.astype('>f4')"
            case "int":
                return f"{rows}.astype(int)"
            case "3d":
                return f"{rows}[None]"
            case "0d":
                return "np.float32(1)"
            case "wide":
                return f"np.pad({rows}, ((0, 0), (0, 1)))"
            case "narrow":
                return f"{rows}[:, :-1]"
            case "nan":
                return f"{rows} * np.nan"
            case "inf":
                return f"{rows} + np.inf"
            case "none":
                return "[]"
            case "text":
                return "[['a'] * V.shape[1]]"
            case "ragged":
                return "[[0.0], [0.0, 1.0]]"
        return rows

    def fewer(self, without: int) -> "Rows":
        return replace(self, indices=self.indices[:without] + self.indices[without + 1 :])


@dataclass(frozen=True)
class Ids:
    """Labels, in one of the forms in which callers pass them."""

    labels: tuple[int, ...]
    form: str = "list"

    FORMS = ("list", "tuple", "int64", "uint64", "float")
    LISTS = (*FORMS, "column", "rect")
    ODD = ("scalar", "array0", "text", "set", "half", "huge")

    def value(self, env: Env) -> Any:
        return eval(repr(self), {"np": np})

    def __repr__(self) -> str:
        labels = list(self.labels)
        match self.form:
            case "tuple":
                return repr(self.labels)
            case "int64":
                return f"np.array({[as_signed(n) for n in labels]}, np.int64)"
            case "uint64":
                return f"np.array({[n & MASK for n in labels]}, np.uint64)"
            case "column":
                return f"np.array({[n & MASK for n in labels]}, np.uint64).reshape(-1, 1)"
            case "rect":
                return f"np.array({[[n & MASK] * 2 for n in labels]}, np.uint64).reshape(-1, 2)"
            case "float":
                return f"[{', '.join(f'{n}.0' for n in labels)}]"
            case "scalar":
                return repr(labels[0])
            case "array0":
                return f"np.array({labels[0] & MASK}, np.uint64)"
            case "text":
                return "['a']"
            case "set":
                return "{1}"
            case "half":
                return "[0.5]"
            case "huge":
                return "[2**64]"
        return repr(labels)

    def fewer(self, without: int) -> "Ids":
        return replace(self, labels=self.labels[:without] + self.labels[without + 1 :])


def as_signed(label: int) -> int:
    label &= MASK
    return label - 2**64 if label >= 2**63 else label


@dataclass(frozen=True)
class Filter:
    """Which labels a search may return.  Functions note whom they were asked about."""

    form: str
    labels: tuple[int, ...] = ()

    LISTS = ("list", "tuple", "array", "column", "set", "range")
    FUNCTIONS = ("even", "among", "true", "number")
    ODD = ("raises", "mask", "text", "nothing")

    def value(self, env: Env) -> Any:
        function = self.function()
        if function is not None:

            def noting(label: int) -> object:
                env.asked.append(label)
                return function(label)

            return noting
        return eval(repr(self), {"np": np})

    def function(self) -> Callable[[int], object] | None:
        """As a function; None when it is a list, or not to be used."""
        allowed = frozenset(self.labels)
        match self.form:
            case "even":
                return lambda label: label % 2 == 0
            case "among":
                return lambda label: label in allowed
            case "true":
                return lambda label: True
            case "number":
                return lambda label: label % 3
            case "raises":
                return lambda label: 1 // 0
        return None

    def passes(self, label: int) -> bool:
        function = self.function()
        return label in self.labels if function is None else bool(function(label))

    def __repr__(self) -> str:
        match self.form:
            case "even":
                return "lambda label: label % 2 == 0"
            case "among":
                return f"lambda label: label in {set(self.labels) or '()'}"
            case "true":
                return "lambda label: True"
            case "number":
                return "lambda label: label % 3"
            case "raises":
                return "lambda label: 1 // 0"
            case "array":
                return f"np.array({list(self.labels)}, np.uint64)"
            case "tuple":
                return repr(self.labels)
            case "column":
                return f"np.array({list(self.labels)}, np.uint64).reshape(-1, 1)"
            case "set":
                return repr(set(self.labels)) if self.labels else "set()"
            case "range":
                first, *_, last = self.labels * 2 or (0, -1)
                return f"range({first}, {last + 1})"
            case "mask":
                return "np.array([True, False])"
            case "text":
                return "'even'"
            case "nothing":
                return "5"
        return repr(list(self.labels))


@dataclass(frozen=True)
class Var:
    """Another object of the program."""

    name: str

    def value(self, env: Env) -> Any:
        return env.objects[self.name]

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True)
class File:
    """A path in the program's own directory."""

    name: str

    def value(self, env: Env) -> str:
        return str(env.scratch / self.name)

    def __repr__(self) -> str:
        return f"scratch + {'/' + self.name!r}"


def value_of(argument: Any, env: Env) -> Any:
    return argument.value(env) if hasattr(argument, "value") else argument


# Calls that are no methods: how each is printed.
MAKERS = ("Index", "BFIndex")
COPIERS: Mapping[str, str] = {
    "copy.copy": "copy.copy({})",
    "copy.deepcopy": "copy.deepcopy({})",
    "pickle 2": "pickle.loads(pickle.dumps({}, 2))",
    "pickle 3": "pickle.loads(pickle.dumps({}, 3))",
    "pickle 4": "pickle.loads(pickle.dumps({}, 4))",
    "pickle 5": "pickle.loads(pickle.dumps({}, 5))",
    "Index(index)": "navmap.Index(index={})",
    "Index(params)": "navmap.Index(params={}.__getstate__()[0])",
}
# The same out of hnswlib's object of that name; see doing.py.
IMPORTERS: Mapping[str, str] = {
    "hnswlib's pickle 2": "unpickled_as(navmap, pickle.dumps(hnswlibs[{!r}], 2))",
    "hnswlib's pickle 5": "unpickled_as(navmap, pickle.dumps(hnswlibs[{!r}], 5))",
    "hnswlib's params": "navmap.Index(params=hnswlibs[{!r}].__getstate__()[0])",
}
FUNCTIONS = ("damage", "try_out")  # of doing.py
THEIRS = ".hnswlib"  # where hnswlib saves what navmap saves at a path: behind that


@dataclass(frozen=True)
class Step:
    """`target.call(*args, **kwargs)`, or one of the calls that give `target` its value."""

    target: str
    call: str
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        words = [repr(a) for a in self.args] + [f"{k}={v!r}" for k, v in self.kwargs]
        if self.call in MAKERS:
            return f"{self.target} = navmap.{self.call}({', '.join(words)})"
        if self.call in COPIERS:
            return f"{self.target} = {COPIERS[self.call].format(words[0])}"
        if self.call in IMPORTERS:
            return f"{self.target} = {IMPORTERS[self.call].format(words[0])}"
        if self.call == "verify":
            return f"navmap.verify({words[0]})"
        if self.call in FUNCTIONS:
            return f"{self.call}({', '.join(['navmap'] * (self.call == 'try_out') + words)})"
        if self.call.startswith("set "):
            return f"{self.target}.{self.call[4:]} = {words[0]}"
        if self.call == "in":
            return f"{words[0]} in {self.target}"
        if self.call == "facts":
            return f"({self.target}.element_count, {self.target}.max_elements)"
        return f"{self.target}.{self.call}({', '.join(words)})"

    def smaller(self) -> list["Step"]:
        """The same with a row less, or with an argument less."""
        result = []
        rows = next((a for a in self.args if isinstance(a, Rows)), None)
        ids = next((a for a in self.args if isinstance(a, Ids)), None)
        if rows is not None and len(rows.indices) > 1:
            together = ids is not None and len(ids.labels) == len(rows.indices)
            for i in range(len(rows.indices)):
                shrunk = (rows, ids) if together else (rows,)
                args = tuple(a.fewer(i) if a in shrunk else a for a in self.args)
                result.append(replace(self, args=args))
        for i in range(len(self.kwargs)):
            result.append(replace(self, kwargs=self.kwargs[:i] + self.kwargs[i + 1 :]))
        return result


# What a printed program begins with, if it has such words in it.
NEEDED = {
    "damage(": "from differential.doing import damage",
    "try_out(": "from differential.doing import try_out",
    "unpickled_as(": "from differential.doing import unpickled_as",
    "/folder": "os.mkdir(scratch + '/folder')",
    "/garbage": "_ = open(scratch + '/garbage', 'wb').write(bytes(range(256)) * 2)",
    THEIRS: f"# NAME{THEIRS}: what hnswlib saves when navmap saves NAME",
    "hnswlibs[": "# hnswlibs: the objects that hnswlib has made by the same steps",
}


@dataclass(frozen=True)
class Program:
    seed: int
    dim: int
    kind: str  # of the pool
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        steps = "\n".join(map(str, self.steps))
        lines = [
            "import copy, os, pickle, tempfile, numpy as np, navmap",
            "from differential.steps import pool",
            "scratch = tempfile.mkdtemp()",
            f"V = pool({self.seed}, {self.dim}, {self.kind!r})",
        ]
        for needed, line in NEEDED.items():
            if needed in steps:
                lines.insert(-1, line)
        return "\n".join([*lines, steps])
