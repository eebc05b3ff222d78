"""Ctrl-C, progress, and exceptions half-way."""

import contextlib
import os
import signal
import threading
import time

import numpy as np
import pytest

import navmap
from workers import vectors_of

DIM = 32


@contextlib.contextmanager
def interrupt_after(seconds):
    """KeyboardInterrupt in this thread, as Ctrl-C would raise it, but never outside the block."""

    def handler(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check_rows(index, added, n, threads):
    """The first `added` rows are in, whole and findable, and behind them at most what the other
    threads had in hand."""
    assert 0 < added < n
    labels = sorted(index.get_ids_list())
    assert labels[:added] == list(range(added)) and added <= len(labels) < added + threads
    np.testing.assert_array_equal(index.get_items(labels), vectors_of(labels, DIM))
    sample = labels[:: max(added // 50, 1)]
    found = index.knn_query(vectors_of(sample, DIM), 1, ef=200)[0][:, 0]
    assert (found == sample).mean() > 0.9


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("durability", ["full", "manual"])
def test_add_items_interrupted(make, path, durability, threads):
    ix = make("l2", DIM, durability=durability)
    n = 100_000
    data = vectors_of(np.arange(n), DIM)
    start = time.monotonic()
    with interrupt_after(0.4), pytest.raises(KeyboardInterrupt) as caught:
        ix.add_items(data, num_threads=threads)
    assert time.monotonic() - start < 5
    added = caught.value.added
    if durability == "manual":
        ix.flush()
    check_rows(ix, added, n, threads)
    with navmap.open(path) as reader:
        check_rows(reader, added, n, threads)  # durable, in mode full without any further call
    count = len(ix)
    ix.add_items(data[added : added + 10])  # implicit ids go on behind what is there
    ix.flush()
    assert len(ix) == count + 10
    ix.close()
    assert navmap.verify(path).sound


@pytest.mark.parametrize("threads", [1, 2])
def test_a_private_index_interrupted(private, threads):
    n = 100_000
    data = vectors_of(np.arange(n), DIM)
    ix = private("l2", DIM, n)
    with interrupt_after(0.4), pytest.raises(KeyboardInterrupt) as caught:
        ix.add_items(data, num_threads=threads)
    added = caught.value.added
    check_rows(ix, added, n, threads)
    ix.add_items(vectors_of(range(added, added + 100), DIM), range(added, added + 100))
    check_rows(ix, added + 100, n, threads)
    assert ix.check().sound


def test_add_items_interrupted_while_progress_is_shown(make):
    ix = make("l2", DIM)
    n = 100_000
    data = vectors_of(np.arange(n), DIM)
    with interrupt_after(0.4), pytest.raises(KeyboardInterrupt) as caught:
        ix.add_items(data, num_threads=2, progress=lambda done, total: None)
    check_rows(ix, caught.value.added, n, 2)


def test_ctrl_c_from_outside(make):
    """A real SIGINT, from another thread, with Python's own handler.  (A shell's background job
    starts with SIGINT ignored.)"""
    ix = make("l2", DIM)
    n = 100_000
    data = vectors_of(np.arange(n), DIM)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            timer = threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            ix.add_items(data, num_threads=2)
        timer.join()
    finally:
        signal.signal(signal.SIGINT, before)
    check_rows(ix, caught.value.added, n, 2)


def test_progress(make, short):
    ix = make("l2", DIM)
    n = 300 if short else 2000
    calls = []
    ix.add_items(vectors_of(range(n), DIM), progress=lambda *call: calls.append(call))
    assert calls[-1] == (n, n)
    done = [call[0] for call in calls]
    assert done == sorted(done) and all(call[1] == n for call in calls)
    assert len(calls) <= n / 2, "not for every row"
    calls.clear()
    ix.add_items(np.empty((0, DIM)), progress=lambda *call: calls.append(call))
    assert all(call == (0, 0) for call in calls)


class Stop(Exception):
    pass


class Sealed(Exception):
    __slots__ = ()

    def __setattr__(self, name, value):
        raise AttributeError(name)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", [Stop, Sealed])
def test_an_exception_from_progress_stops(make, path, kind, threads):
    ix = make("l2", DIM)
    n = 20_000
    seen = []

    def progress(done, total):
        seen.append(done)
        if done > 50:
            raise kind("enough")

    with pytest.raises(kind, match="enough") as caught:
        ix.add_items(vectors_of(range(n), DIM), num_threads=threads, progress=progress)
    count = len(ix)
    assert count >= seen[-1] and (threads > 1 or count == seen[-1])
    if kind is Stop:
        check_rows(ix, caught.value.added, n, threads)
    with navmap.open(path) as reader:
        assert len(reader) == count


def test_an_exception_from_the_last_progress_is_raised(make):
    ix = make("l2", DIM)

    def progress(done, total):
        if done == total:
            raise Stop

    with pytest.raises(Stop) as caught:
        ix.add_items(vectors_of(range(10), DIM), progress=progress)
    assert caught.value.added == len(ix) == 10


def test_the_index_may_be_used_from_progress(make):
    """No lock is held while progress runs."""
    ix = make("l2", DIM)
    ix.add_items(vectors_of(range(100), DIM))
    answers = []

    def progress(done, total):
        labels, _ = ix.knn_query(vectors_of([7], DIM), 1)
        answers.append((labels[0, 0], 7 in ix, len(ix) >= 100, ix.stats()["n_live"] >= 100))

    ix.add_items(vectors_of(range(100, 600), DIM), progress=progress)
    assert answers and set(answers) == {(7, True, True, True)}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("method", ["knn_query", "exact_query"])
def test_queries_interrupted(make, method, threads):
    ix = make("l2", DIM)
    ix.add_items(vectors_of(range(1000), DIM))
    queries = np.tile(vectors_of(range(1000), DIM), (1000, 1))
    start = time.monotonic()
    with interrupt_after(0.3), pytest.raises(KeyboardInterrupt):
        getattr(ix, method)(queries, 10, num_threads=threads)
    assert time.monotonic() - start < 3
    assert ix.knn_query(vectors_of([5], DIM))[0].tolist() == [[5]]


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_waiting_for_the_lock_interrupted(make, path, timeout):
    ix = make("l2", DIM)
    start = time.monotonic()
    with interrupt_after(0.3), pytest.raises(KeyboardInterrupt):
        navmap.open(path, "r+", timeout=timeout)
    assert time.monotonic() - start < 3
    ix.add_items(vectors_of([0], DIM))
    assert len(ix) == 1


def test_timeout_is_kept(make, path):
    make("l2", DIM)
    for timeout in (0.0, 0.05, 0.5):
        start = time.monotonic()
        with pytest.raises(navmap.LockedError):
            navmap.open(path, "r+", timeout=timeout)
        assert timeout <= time.monotonic() - start < timeout + 2
