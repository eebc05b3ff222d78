"""Who writes, when many want to: races for the lock, and what follows when its owner is killed."""

import multiprocessing.connection
import os
import random
import re
import signal
import threading
import time

import numpy as np
import pytest

import navmap
from forked import start
from workers import vectors_of

DIM = 8

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def win_once(path, number, gate, inside, seed):
    """Tries until it is the writer, adds one label, and lets go.  Returns its pid, and those that
    it was told of when it lost."""
    rng = random.Random(seed)
    told = set()
    gate.wait()
    while True:
        try:
            index = navmap.open(path, "r+")
        except navmap.LockedError as error:
            told.add(str(error))
            time.sleep(rng.uniform(0.005, 0.03))
            continue
        with inside.get_lock():
            inside.value += 1
            assert inside.value == 1, "two writers at once"
        index.add_items(vectors_of([number], DIM), [number])
        with inside.get_lock():
            inside.value -= 1
        index.close()
        return os.getpid(), sorted(told)


def test_racing_opens(make, path, rng, short):
    count = 16 if short else 64
    make(dim=DIM).close()
    context = multiprocessing.get_context("fork")
    gate, inside = context.Event(), context.Value("i", 0)
    seeds = rng.integers(1 << 30, size=count).tolist()
    racers = [start("fork", win_once, path, n, gate, inside, seed) for n, seed in enumerate(seeds)]
    gate.set()
    answers = [wait() for wait in racers]
    assert all(kind == "ok" for kind, _ in answers), answers
    pids = {pid for _, (pid, _) in answers}
    told = {text for _, (_, texts) in answers for text in texts}
    assert len(pids) == count and told, "nobody ever lost"
    for text in told:
        assert int(re.search(r"open for writing by pid (\d+)", text)[1]) in pids
    with navmap.open(path) as reader:
        assert sorted(reader.get_ids_list()) == list(range(count))
        np.testing.assert_array_equal(
            reader.get_items(range(count)), vectors_of(range(count), DIM)
        )
    assert navmap.verify(path).sound


def test_racing_opens_of_one_process(make, path):
    make(dim=DIM).close()
    gate = threading.Barrier(16)
    won, lost = [], []

    def race():
        gate.wait()
        try:
            won.append(navmap.open(path, "r+"))
        except navmap.LockedError as error:
            lost.append(str(error))

    threads = [threading.Thread(target=race) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and len(lost) == 15
    assert all("open for writing by" in text for text in lost)
    won[0].add_items(vectors_of([1], DIM), [1])
    won[0].close()


def test_the_next_one_wins_after_a_kill(worker, path):
    """Two wait for the lock when its owner is killed: one of them recovers and writes, then the
    other."""
    first, waiting = worker(), [worker(), worker()]
    first("create", path=path, dim=DIM)
    first("add", start=0, stop=50, step=10)
    for other in waiting:
        other.send("open", path=path, mode="r+", timeout=60)
    reader = navmap.open(path)
    first("add", start=50, stop=60)
    first.kill()
    count = 60
    while waiting:
        winner = None
        while winner is None:
            winner = next((w for w in waiting if readable(w)), None)
        winner.answer()
        time.sleep(0.1)
        assert not any(readable(w) for w in waiting if w is not winner), "two writers at once"
        with pytest.raises(navmap.LockedError, match=str(winner.pid)):
            navmap.open(path, "r+")
        assert winner("count") == count
        winner("add", start=count, stop=count + 10)
        count += 10
        assert len(reader) == count
        np.testing.assert_array_equal(
            reader.get_items(range(count)), vectors_of(range(count), DIM)
        )
        winner.kill()
        waiting.remove(winner)
    reader.close()
    with navmap.open(path, "r+") as index:
        assert len(index) == count
    assert navmap.verify(path).sound


def readable(process):
    return multiprocessing.connection.wait([process.process.stdout], 0.02)


def ask_for_ever(path, seed):
    rng = random.Random(seed)
    with navmap.open(path) as index:
        while True:
            label = rng.randrange(50)
            assert index.knn_query(vectors_of([label], DIM), 3)[0].max() < 50
            assert label in index and index.get_items([label]).shape == (1, DIM)


def reader_process(path, seed):
    child = os.fork()
    if child == 0:
        try:
            ask_for_ever(path, seed)
        finally:
            os._exit(1)  # it is to be killed
    return child


@pytest.fixture
def started():
    """Processes to be killed if the test does not come to it."""
    pids = []
    yield pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def test_stopped_and_killed_readers_hinder_nobody(worker, path, rng, short, started):
    """Readers are stopped and killed wherever they are; commits, checkpoints and the log go on."""
    writer = worker()
    writer("create", path=path, dim=DIM, M=4, ef_construction=20)
    writer("add", start=0, stop=50)
    writer("close")
    writer("open", path=path, mode="r+", checkpoint_bytes=1 << 12)
    slowest, sizes = 0.0, []
    rounds = 4 if short else 6
    for version in range(1, 1 + rounds):
        seeds = rng.integers(1 << 30, size=3).tolist()
        readers = [reader_process(path, seed) for seed in seeds]
        started.extend(readers)
        time.sleep(float(rng.uniform(0.01, 0.05)))
        os.kill(readers[0], signal.SIGSTOP)
        before = writer("stats")["checkpoint_lsn"]
        began = time.monotonic()
        writer.send("add", start=0, stop=50, version=version, step=1)
        time.sleep(float(rng.uniform(0.0, 0.02)))
        os.kill(readers[1], signal.SIGKILL)
        writer.answer()
        slowest = max(slowest, time.monotonic() - began)
        stats = writer("stats")
        assert stats["checkpoint_lsn"] > before
        assert stats["wal_bytes"] <= 8 * stats["checkpoint_bytes"]
        sizes.append(stats["lmdb_allocated_bytes"])
        os.kill(readers[0], signal.SIGKILL)
        os.kill(readers[2], signal.SIGKILL)
        ends = [os.waitpid(reader, 0)[1] for reader in readers]
        started.clear()
        assert ends == [signal.SIGKILL] * 3, "a reader ended by itself"
    assert slowest < 20, "the writer waited for a reader"
    assert sizes[-1] <= max(sizes[: rounds // 2]) + (8 << 20), sizes
    with navmap.open(path) as reader:
        np.testing.assert_array_equal(
            reader.get_items(range(50)), vectors_of(range(50), DIM, rounds)
        )
    writer("close")
    assert navmap.verify(path).sound
