"""Many threads on one Index."""

import threading
import time

import numpy as np
import pytest

import navmap
from workers import vectors_of

DIM = 16


def run(*functions):
    """All at once; the first exception of any is raised here."""
    errors = []
    barrier = threading.Barrier(len(functions))

    def guarded(function):
        try:
            barrier.wait()
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(f,)) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_searching_beside_adding(make, path, short):
    n = 400 if short else 2000
    ix = make("l2", DIM, M=8, ef_construction=40)
    ix.add_items(vectors_of(range(100), DIM))
    reader = navmap.open(path)
    done = threading.Event()

    def add():
        try:
            for start in range(100, n, 25):
                ix.add_items(vectors_of(range(start, start + 25), DIM), range(start, start + 25))
        finally:
            done.set()

    def search(index, offset):
        rounds = missed = 0
        while not done.is_set() or rounds < 5:
            label = (rounds * 7 + offset) % 100
            query = vectors_of([label], DIM)
            labels, distances = index.knn_query(query, 10, ef=60)
            missed += labels[0, 0] != label
            exact = ((vectors_of(labels[0], DIM) - query) ** 2).sum(axis=1)
            np.testing.assert_allclose(distances[0], exact, rtol=1e-4, atol=1e-5)
            assert label in index
            np.testing.assert_array_equal(index.get_items([label]), query)
            assert 100 <= len(index) <= n
            rounds += 1
        assert missed <= rounds / 20

    run(add, *(lambda o=o: search(ix if o % 2 else reader, o) for o in range(4)))
    assert len(ix) == len(reader) == n
    reader.close()


def test_adding_from_many_threads(make, short):
    each, threads = (40 if short else 150), 6
    ix = make("l2", DIM, M=8, ef_construction=40)

    def add(number):
        for label in range(number * each, (number + 1) * each, 10):
            part = range(label, min(label + 10, (number + 1) * each))
            ix.add_items(vectors_of(part, DIM), part)
            assert label in ix  # acknowledged, so visible

    run(*(lambda number=number: add(number) for number in range(threads)))
    everything = range(threads * each)
    assert sorted(ix.get_ids_list()) == list(everything)
    np.testing.assert_array_equal(ix.get_items(everything), vectors_of(everything, DIM))
    found = ix.knn_query(vectors_of(everything, DIM), 1, ef=100)[0][:, 0]
    assert (found == everything).mean() > 0.99


def test_implicit_ids_of_many_threads_never_collide(make):
    ix = make("l2", DIM, M=8, ef_construction=40)

    def add(number):
        for turn in range(10):
            ix.add_items(vectors_of([number, number + 100], DIM, turn))

    run(*(lambda number=number: add(number) for number in range(5)))
    assert sorted(ix.get_ids_list()) == list(range(100))


def test_everything_at_once(either, short):
    """Four threads that add, two that search, one that marks, one that updates, and in the end a
    close() in the middle of it.  Labels are known by what is done with them: from 0 nothing,
    from 100 marks, from 200 updates, from 1000 adds."""
    ix = either("l2", DIM, M=8, ef_construction=40)
    ix.add_items(vectors_of(range(300), DIM), num_threads=2)
    rounds, each = (2 if short else 6), 20
    closing = threading.Event()
    busy = threading.Semaphore(0)
    searches = []

    def add(number):
        first = 1000 * (number + 1)
        for turn in range(rounds):
            part = range(first + turn * each, first + (turn + 1) * each)
            ix.add_items(vectors_of(part, DIM), part, num_threads=1 + number % 2)
            assert all(label in ix for label in part)
            np.testing.assert_array_equal(ix.get_items(part), vectors_of(part, DIM))
        busy.release()

    def mark():
        for turn in range(2 * rounds):
            for label in range(100, 200, 5):
                (ix.unmark_deleted if turn % 2 else ix.mark_deleted)(label)
        busy.release()

    def update():
        for turn in range(1, rounds + 1):
            ix.add_items(vectors_of(range(200, 300), DIM, turn), range(200, 300), num_threads=2)
        busy.release()

    def search():
        queries = vectors_of(range(40), DIM)
        try:
            while True:
                labels, distances = ix.knn_query(queries, 5, 2, ef=60)
                assert (labels[:, 0] == range(40)).mean() > 0.9
                assert (np.diff(distances, axis=1) >= 0).all()
                assert all(len(set(row)) == 5 for row in labels.tolist())
                known = vectors_of(labels.reshape(-1), DIM).reshape(40, 5, DIM)
                exact = ((known - queries[:, None, :]) ** 2).sum(axis=2)
                updated = (labels >= 200) & (labels < 300)
                np.testing.assert_allclose(
                    distances, np.where(updated, distances, exact), rtol=1e-4, atol=1e-5
                )
                searches.append(len(ix))
        except navmap.NotInitializedError:
            assert closing.is_set()

    def close():
        for _ in range(6):
            assert busy.acquire(timeout=120)
        check = ix.check()
        assert check.sound and check.labels == 300 + 4 * rounds * each
        everything = range(1000, 1000 + rounds * each)
        found = ix.knn_query(vectors_of(everything, DIM), 1, ef=100)[0][:, 0]
        assert (found == everything).mean() > 0.98
        new = vectors_of(range(200, 300), DIM, rounds)
        np.testing.assert_array_equal(ix.get_items(range(200, 300)), new)
        closing.set()
        ix.close()

    run(*(lambda n=n: add(n) for n in range(4)), mark, update, search, search, close)
    assert searches


def test_resizing_beside_adding(either):
    ix = either("l2", DIM, M=8, ef_construction=40)
    # Never more room than `resize` has seen items and 40: then what it sets is never too small.
    ix.resize_index(40)
    done = threading.Event()

    def add():
        try:
            for start in range(0, 1000, 20):
                part = range(start, start + 20)
                while True:
                    try:
                        ix.add_items(vectors_of(part, DIM), part, num_threads=2)
                        break
                    except navmap.CapacityError as full:
                        assert full.added == 0
        finally:
            done.set()

    def resize():
        while not done.is_set():
            ix.resize_index(ix.element_count + 40)

    run(add, resize)
    assert sorted(ix.get_ids_list()) == list(range(1000))
    assert ix.element_count <= ix.max_elements


def test_marking_beside_searching(make, short):
    ix = make("l2", DIM, M=8, ef_construction=40)
    n = 300
    ix.add_items(vectors_of(range(n), DIM))
    done = threading.Event()

    def mark():
        try:
            for turn in range(2 if short else 6):
                for label in range(0, n, 10):
                    (ix.unmark_deleted if turn % 2 else ix.mark_deleted)(label)
        finally:
            done.set()

    def search():
        while not done.is_set():
            labels, distances = ix.knn_query(vectors_of([5], DIM), 20, ef=80)
            assert labels[0, 0] == 5 and len(set(labels[0].tolist())) == 20
            assert (np.diff(distances[0]) >= 0).all()

    run(mark, search, search)
    assert len(ix) == n


def test_close_beside_searches(make, path):
    """Calls under way finish; later ones are told; and the index is really released."""
    ix = make("l2", DIM, M=8, ef_construction=40)
    ix.add_items(vectors_of(range(500), DIM))
    started = threading.Barrier(5)
    outcomes = []

    def search():
        queries = vectors_of(range(50), DIM)
        started.wait()
        rounds = 0
        try:
            while True:
                labels, _ = ix.knn_query(queries, 5, ef=100)
                assert (labels[:, 0] == range(50)).mean() > 0.9
                rounds += 1
        except navmap.NotInitializedError:
            outcomes.append(rounds)

    def close():
        started.wait()
        time.sleep(0.2)
        ix.close()
        assert ix.closed

    run(search, search, search, search, close)
    assert len(outcomes) == 4 and sum(outcomes) > 0
    with navmap.open(path, "r+") as again:  # nobody holds the lock any more
        assert len(again) == 500


def test_close_beside_an_add_lets_it_finish(make, path):
    ix = make("l2", DIM, M=8, ef_construction=100)
    n = 3000
    ix.add_items(vectors_of([0], DIM), [0])
    under_way = threading.Event()

    def add():
        ix.add_items(vectors_of(range(n), DIM), range(n), progress=lambda *_: under_way.set())

    def close():
        assert under_way.wait(60)
        ix.close()

    run(add, close)
    with navmap.open(path, "r+") as again:
        assert len(again) == n


@pytest.mark.parametrize("work", ["add_items", "exact_query"])
def test_pythons_lock_is_released(make, work, short):
    """While one thread is in the engine, another runs Python."""
    n = 1000 if short else 3000
    ix = make("l2", DIM, M=16, ef_construction=200)
    ix.add_items(vectors_of(range(n), DIM))
    data = vectors_of(range(n, 2 * n), DIM)
    if work == "exact_query":  # one call that takes long, however quick the machine is
        data = np.tile(data, (20, 1))
    inside = threading.Event()
    gaps = []

    def watch():
        inside.wait()
        last = time.perf_counter()
        while inside.is_set():
            now = time.perf_counter()
            gaps.append(now - last)
            last = now
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    inside.set()
    start = time.perf_counter()
    getattr(ix, work)(data)
    elapsed = time.perf_counter() - start
    inside.clear()
    watcher.join()
    assert len(gaps) > 5 and max(gaps) < max(elapsed / 2, 0.3), (elapsed, len(gaps), max(gaps))
