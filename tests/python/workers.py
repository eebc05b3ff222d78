"""Another process that does as it is told: one JSON request a line, one answer a line.

`Worker` is the near end.  Run as a program this file is the far end.  Vectors do not travel: both
ends compute them from labels, with `vectors_of`.
"""

import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np

DEADLINE = 120  # seconds for one answer; a test that hangs is a failure, not a stuck run


def vectors_of(labels, dim, version=0):
    """The vectors of some labels: uniform in [-1, 1), fixed, different for every version."""
    rows = np.asarray(labels, dtype=np.uint64)[:, None]
    with np.errstate(over="ignore"):
        x = rows * np.uint64(1 << 20) + np.arange(dim, dtype=np.uint64)[None, :]
        x += np.uint64(version) << np.uint64(52)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)  # the mixer of splitmix64
    return ((x >> np.uint64(40)).astype(np.float32) / np.float32(1 << 23)) - np.float32(1)


class Failure(Exception):
    """What the far end raised: `kind` is the class's name."""

    def __init__(self, kind, message):
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message


class Worker:
    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid

    def send(self, verb, /, **arguments):
        print(json.dumps([verb, arguments]), file=self.process.stdin, flush=True)

    def answer(self):
        watchdog = threading.Timer(DEADLINE, self.process.kill)
        watchdog.start()
        line = self.process.stdout.readline()
        watchdog.cancel()
        if not line:
            raise Failure("Died", f"the worker ended with status {self.process.wait()}")
        kind, value = json.loads(line)
        if kind != "ok":
            raise Failure(kind, value)
        return value

    def __call__(self, verb, /, **arguments):
        self.send(verb, **arguments)
        return self.answer()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        self.process.stdout.close()


class Far:
    """The verbs.  One index at a time."""

    def __init__(self):
        self.index = None

    def create(self, path, space="l2", dim=8, **options):
        import navmap

        self.index = navmap.create(path, space, dim, **options)

    def open(self, path, mode="r", **options):
        import navmap

        self.index = navmap.open(path, mode, **options)

    def add(self, start, stop, version=0, step=None):
        labels = range(start, stop)
        for first in range(start, stop, step or max(stop - start, 1)):
            part = labels[first - start : first - start + (step or stop - start)]
            self.index.add_items(vectors_of(part, self.index.dim, version), part)

    def mark(self, label):
        self.index.mark_deleted(label)

    def unmark(self, label):
        self.index.unmark_deleted(label)

    def count(self):
        return len(self.index)

    def contains(self, label):
        return label in self.index

    def nearest(self, label, k=1, version=0, ef=100):
        query = vectors_of([label], self.index.dim, version)
        labels, distances = self.index.knn_query(query, k, ef=ef)
        return labels[0].tolist(), distances[0].tolist()

    def vector(self, label):
        return self.index.get_items([label])[0].tolist()

    def stats(self):
        return self.index.stats()

    def flush(self):
        self.index.flush()

    def close(self):
        self.index.close()

    def become_nobody(self):
        """Give up root for good.  What will be needed must be imported by now."""
        import navmap  # noqa: F401

        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)

    def fork(self, verb, **arguments):
        """Do one verb in a forked child; its answer."""
        here, there = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                reply = ["ok", getattr(self, verb)(**arguments)]
            except BaseException as error:
                reply = [type(error).__name__, str(error)]
            os.write(there, json.dumps(reply).encode())
            os._exit(0)
        os.close(there)
        with os.fdopen(here) as pipe:
            kind, value = json.loads(pipe.read())
        os.waitpid(child, 0)
        if kind != "ok":
            raise Failure(kind, value)
        return value

    def fork_and_drop(self):
        """In a forked child: close, drop, and end as a program ends, atexit hooks and all."""
        child = os.fork()
        if child == 0:
            status = 1
            try:
                self.index.close()
                self.index = None
                status = 0
            finally:
                sys.stdin.close()
                sys.exit(status)  # noqa: B012
        return os.waitpid(child, 0)[1]


def main():
    far = Far()
    for line in sys.stdin:
        verb, arguments = json.loads(line)
        try:
            reply = ["ok", getattr(far, verb)(**arguments)]
        except Failure as failure:
            reply = [failure.kind, failure.message]
        except Exception as error:
            reply = [type(error).__name__, str(error)]
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
