"""From a program that fails to one that fails the same way and has nothing in it to spare."""

from collections.abc import Callable
from dataclasses import replace

from differential.steps import Program, Step
from differential.world import Failure

Attempt = Callable[[Program], Failure | None]

MOST_ATTEMPTS = 3000


class Minimiser:
    """`attempt` runs a program and says how it failed; only failures of one kind count."""

    def __init__(self, attempt: Attempt, failure: Failure) -> None:
        assert failure.program is not None
        self.attempt = attempt
        self.failure = failure
        self.kind = failure.kind
        self.program = failure.program
        self.attempts = 0

    def _fails(self, steps: list[Step]) -> bool:
        """Does it still, with these steps?  Then they are the program from now on."""
        if self.attempts >= MOST_ATTEMPTS:
            return False
        self.attempts += 1
        program = replace(self.program, steps=tuple(steps))
        failure = self.attempt(program)
        if failure is None or failure.kind != self.kind:
            return False
        self.failure, self.program = replace(failure, program=program), program
        return True

    def _drop_steps(self) -> None:
        """Zeller's ddmin, without its subsets: leave out runs of steps, long ones first."""
        size = max(1, len(self.program.steps) // 2)
        while True:
            at = 0
            while at < len(self.program.steps):
                steps = list(self.program.steps)
                if not self._fails(steps[:at] + steps[at + size :]):
                    at += size
            if size == 1:
                return
            size //= 2

    def _shrink_steps(self) -> bool:
        """A row less, an argument less."""
        smaller = False
        at = 0
        while at < len(self.program.steps):
            steps = list(self.program.steps)
            for step in steps[at].smaller():
                if self._fails([*steps[:at], step, *steps[at + 1 :]]):
                    smaller = True
                    break
            else:
                at += 1
        return smaller

    def run(self) -> Failure:
        steps = list(self.program.steps)
        self._fails(steps[: self.failure.number + 1])
        self._drop_steps()
        while self._shrink_steps():
            self._drop_steps()
        return self.failure


def minimise(attempt: Attempt, failure: Failure) -> Failure:
    return Minimiser(attempt, failure).run()
