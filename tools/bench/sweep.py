"""The parent's side of compare.py: it has one process for each library, finds out which ef gives
which recall, and has them measured in turns.

How a figure at equal recall comes about.  For each k the recall of a library over a ladder of ef is
found first (once: an index that does not change answers the same each time).  For each level of
recall the ladder says between which ef it lies; the recall is then found at two ef close around it,
and only there speed is measured, in rounds: all libraries at the first level, at the second, and so
on, then the next round.  Queries a second at the level are interpolated between the two, in each
round by itself, so that rounds of two libraries can be paired.
"""

import json
import math
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
LADDER_STEP = 1.5
NEAR = 1.06  # around the ef of a level


class Failed(Exception):
    """A library cannot do it here, or died."""


def say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


class Child:
    """A worker process (worker.py), or a program that speaks its language."""

    def __init__(self, name: str, command: Sequence[str], log: pathlib.Path) -> None:
        self.name = name
        self.log = log
        with open(log, "ab") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )

    def _line(self, do: str, arguments: dict[str, Any]) -> str:
        return json.dumps({"do": do} | arguments) + "\n"

    def __call__(self, do: str, **arguments: Any) -> dict[str, Any]:
        try:
            self.process.stdin.write(self._line(do, arguments))
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self.process.wait()
            why = f"signal {-code}" if code < 0 else f"status {code}"
            raise Failed(f"its process ended in {do} ({why}); {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "it said nothing"

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()


# Recall ---------------------------------------------------------------------------------------


class Recalls:
    """Recall of one index at each ef that was asked about, kept in a file beside the index."""

    def __init__(self, path: pathlib.Path | None, key: str) -> None:
        self.path, self.key = path, key
        self.known: dict[str, dict[str, float]] = {}
        if path is not None and path.exists():
            self.known = json.loads(path.read_text())

    def at(self, child: Child, k: int, ef: int, how: dict[str, Any]) -> dict[str, float]:
        name = f"{self.key} k={k} ef={ef}"
        if name not in self.known:
            self.known[name] = child("recall", k=k, ef=ef, **how)
            if self.path is not None:
                self.path.write_text(json.dumps(self.known, indent=0) + "\n")
        return self.known[name]


def ladder(
    recalls: Recalls, child: Child, k: int, top: float, how: dict[str, Any], most: int
) -> list[tuple[int, float]]:
    """(ef, recall), ef rising, until a recall of `top`, or ef of `most`, or nothing changes."""
    points: list[tuple[int, float]] = []
    ef = max(10, k)
    while True:
        points.append((ef, recalls.at(child, k, ef, how)["recall"]))
        same = ef > 50 * k and points[-1][1] - points[-4][1] < 0.0002
        if points[-1][1] >= top or ef >= most or same:
            return points
        ef = min(most, math.ceil(ef * LADDER_STEP))


def ef_at(points: Sequence[tuple[int, float]], level: float) -> float | None:
    """The ef of a recall, between the rungs of a ladder; None beyond it.

    Errors fall about as a power of ef, so log(1 - recall) over log(ef) is nearly straight."""
    for (low, less), (high, more) in zip(points, points[1:]):
        if less < level <= more:
            x0, x1 = math.log(low), math.log(high)
            y0, y1, y = (math.log(max(1 - r, 1e-6)) for r in (less, more, level))
            return math.exp(x0 + (x1 - x0) * (y0 - y) / (y0 - y1))
    return None


def bracket(
    recalls: Recalls,
    child: Child,
    k: int,
    points: list[tuple[int, float]],
    level: float,
    how: dict[str, Any],
) -> list[tuple[int, float]]:
    """Two (ef, recall) around a level, the first at most there, the second at least; or one, where
    the smallest ef is enough for the level; or none, where the level is out of reach."""
    least = max(10, k)
    if points[0][1] >= level:
        return [points[0]]
    middle = ef_at(points, level)
    if middle is None:
        return []
    pair = []
    for direction in (-1, 1):
        ef = max(least, round(middle * NEAR**direction))
        for _ in range(8):
            recall = recalls.at(child, k, ef, how)["recall"]
            if (recall >= level) == (direction > 0) or (direction < 0 and ef == least):
                break
            ef = max(least, ef + direction * max(1, round(ef * 0.04)))
        pair.append((ef, recall))
    if pair[0][1] > level or pair[1][1] < level:
        rungs = [p for p in points if p[1] < level][-1:] + [p for p in points if p[1] >= level][:1]
        return rungs
    return pair


def at_level(pair: Sequence[tuple[float, float]], level: float) -> float:
    """Queries a second at a recall, from one or two (recall, queries a second); or what else is
    greater than 0."""
    if len(pair) == 1 or pair[0][0] == pair[1][0]:
        return pair[-1][1]
    (r0, q0), (r1, q1) = pair
    share = min(max((level - r0) / (r1 - r0), 0.0), 1.0)
    return math.exp(math.log(q0) + share * (math.log(q1) - math.log(q0)))


def counts_at_level(
    pair: Sequence[tuple[int, float]], level: float, count: Callable[[int], dict[str, float] | None]
) -> dict[str, float]:
    """What a query costs at a recall, by counts at one or two (ef, recall); empty if nothing is told.
    Speeds are between two ef, and so must be what they are multiplied by."""
    counted = [(recall, count(ef) or {}) for ef, recall in pair]
    told = {
        name: at_level([(recall, of[name]) for recall, of in counted], level)
        for name in counted[0][1]
        if all(of.get(name, 0) > 0 for _, of in counted)
    }
    return told | {"ef": pair[-1][0]} if told else {}


# Rounds ---------------------------------------------------------------------------------------


def spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "rounds": list(values),
    }


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Ours over theirs, round by round."""
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def speeds(
    children: dict[str, Child],
    brackets: dict[str, dict[float, list[tuple[int, float]]]],
    *,
    k: int,
    threads: int,
    mode: str,
    rounds: int,
    seconds: float,
    processors: list[int],
    clock: str = "wall",
) -> dict[str, dict[float, dict[str, Any]]]:
    """At each level of each library: queries a second, round by round, and what was measured.  By
    the clock "cpu" they are of the processors' time that the process took, times the threads: what
    others do on the machine counts less then."""
    speed = "qps" if clock == "wall" else "qps_cpu"
    measured: dict[tuple[str, int], list[dict[str, float]]] = {}
    levels = sorted({level for of in brackets.values() for level in of})
    for number in range(rounds):
        done = set()
        for level in levels:
            for side in (0, 1):
                for name, of in brackets.items():
                    pair = of.get(level, [])
                    if side >= len(pair) or (name, pair[side][0]) in done:
                        continue
                    ef = pair[side][0]
                    done.add((name, ef))
                    told = children[name](
                        "measure",
                        k=k,
                        ef=ef,
                        threads=threads,
                        mode=mode,
                        seconds=seconds,
                        processors=processors,
                    )
                    measured.setdefault((name, ef), []).append(told)
        say(f"k={k}, {threads} threads, {mode}: round {number + 1} of {rounds}")
    answer: dict[str, dict[float, dict[str, Any]]] = {}
    for name, of in brackets.items():
        for level, pair in of.items():
            if not pair:
                continue
            each = [
                at_level([(r, measured[name, ef][i][speed]) for ef, r in pair], level)
                for i in range(rounds)
            ]
            entry: dict[str, Any] = {"qps": spread(each), "points": []}
            entry["beyond"] = len(pair) == 1  # the smallest ef finds more than was asked for
            for ef, recall in pair:
                told = measured[name, ef]
                point = {"ef": ef, "recall": recall}
                for what in told[0]:
                    point[what] = statistics.median(of_round[what] for of_round in told)
                entry["points"].append(point)
            answer.setdefault(name, {})[level] = entry
    return answer
