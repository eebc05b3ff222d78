"""What the children of test_fork.py do.  A module of its own, which imports little: those that are
spawned begin by importing it."""

import multiprocessing

import numpy as np

import navmap
from workers import DEADLINE, vectors_of

DIM = 8
COUNT = 200
multiprocessing.set_forkserver_preload(["forked"])


def reply(pipe, work, arguments):
    try:
        answer = ("ok", work(*arguments))
    except BaseException as error:
        answer = (type(error).__name__, str(error))
    pipe.send(answer)
    pipe.close()


def start(method, work, *arguments):
    """`work` in a child; a function that waits for it and returns ("ok", what it returned) or
    (class, text) of what it raised."""
    context = multiprocessing.get_context(method)
    here, there = context.Pipe(False)
    child = context.Process(target=reply, args=(there, work, arguments))
    child.start()
    there.close()

    def wait():
        assert here.poll(DEADLINE), "the child hangs"
        answer = here.recv()
        child.join(DEADLINE)
        assert child.exitcode == 0
        return answer

    return wait


def in_child(method, work, *arguments):
    return start(method, work, *arguments)()


def look(index, count=COUNT):
    """Searches and looks labels up; returns nothing, or raises."""
    sample = list(range(0, count, 7))
    labels, distances = index.knn_query(vectors_of(sample, DIM), 1, ef=100)
    assert labels[:, 0].tolist() == sample and not distances.any()
    np.testing.assert_array_equal(index.get_items(sample), vectors_of(sample, DIM))
    assert len(index) == count and 5 in index and count not in index


def look_at(path, count=COUNT):
    with navmap.open(path) as index:
        look(index, count)


def add(index, first, stop):
    index.add_items(vectors_of(range(first, stop), DIM), range(first, stop))


def add_to(path, first, stop):
    with navmap.open(path, "r+") as index:
        add(index, first, stop)


def add_and_look(index):
    add(index, COUNT, 2 * COUNT)
    look(index, 2 * COUNT)


def serve(index, total, seed):
    """A web server's worker: answers until all has arrived.  Counts its queries."""
    rng = np.random.default_rng(seed)
    queries, seen = 0, 0
    while seen < total:
        known = len(index)
        assert known >= seen, "the index shrank"
        seen = known
        label = int(rng.integers(seen))
        labels, distances = index.knn_query(vectors_of([label], DIM), 3, ef=100)
        exact = ((vectors_of(labels[0], DIM) - vectors_of([label], DIM)) ** 2).sum(axis=1)
        np.testing.assert_allclose(distances[0], exact, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(index.get_items([label])[0], vectors_of([label], DIM)[0])
        queries += 1
    look(index, total)
    return queries
