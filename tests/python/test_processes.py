"""Several processes on one index: who sees what, who may write, and what fork() does."""

import time

import numpy as np
import pytest

import navmap
from workers import Failure, vectors_of

DIM = 8


def test_a_reader_opened_before_sees_what_a_writer_adds(worker, path):
    writer, reader = worker(), worker()
    writer("create", path=path, dim=DIM)
    reader("open", path=path)
    here = navmap.open(path)
    assert reader("count") == len(here) == 0
    for start in range(0, 60, 20):
        writer("add", start=start, stop=start + 20)  # has returned
        assert reader("count") == len(here) == start + 20
        for label in (start, start + 19):
            assert reader("contains", label=label)
            assert reader("nearest", label=label)[0] == [label]
            assert here.knn_query(vectors_of([label], DIM))[0].tolist() == [[label]]
    writer("mark", label=7)
    assert not reader("contains", label=7) and 7 not in here
    assert reader("nearest", label=7, k=59)[0].count(7) == 0
    writer("unmark", label=7)
    assert reader("nearest", label=7)[0] == [7]
    writer("add", start=5, stop=6, version=1)
    assert reader("vector", label=5) == vectors_of([5], DIM, 1)[0].tolist()
    assert reader("nearest", label=5, version=1)[0] == [5]
    assert reader("count") == 60
    here.close()


def test_a_reader_follows_a_hundredfold_growth(worker, path, short):
    writer, reader = worker(), worker()
    writer("create", path=path, dim=DIM, M=4, ef_construction=20)
    first = 20 if short else 100
    writer("add", start=0, stop=first)
    reader("open", path=path)
    size = reader("stats")["data_file_bytes"]
    chunks = reader("stats")["nchunks"]
    assert reader("nearest", label=3)[0] == [3]
    count = first
    while count < 100 * first or writer("stats")["nchunks"] < 3 * chunks:
        writer("add", start=count, stop=count + 20 * first)
        count += 20 * first
        assert reader("count") == count
        for label in (0, count // 2, count - 1):
            assert reader("contains", label=label)
            assert reader("vector", label=label) == vectors_of([label], DIM)[0].tolist()
    assert reader("stats")["data_file_bytes"] > size
    sample = range(0, count, count // 50)
    found = [reader("nearest", label=label, ef=200)[0][0] for label in sample]
    assert np.mean([a == b for a, b in zip(found, sample, strict=True)]) > 0.9


def test_searching_never_stops_while_the_writer_works(worker, path, short):
    """Every answer during an add is whole: sorted, of labels added so far, at true distances."""
    writer = worker()
    writer("create", path=path, dim=DIM, M=8, ef_construction=50)
    writer("add", start=0, stop=200)
    reader = navmap.open(path)
    total = 1000 if short else 4000
    writer.send("add", start=200, stop=total, step=50)
    counts, slowest, missed = [], 0.0, 0
    while not counts or counts[-1] < total:
        label = int(len(counts) * 37 % 200)
        query = vectors_of([label], DIM)
        start = time.monotonic()
        labels, distances = reader.knn_query(query, 5, ef=50)
        slowest = max(slowest, time.monotonic() - start)
        missed += labels[0, 0] != label
        exact = ((vectors_of(labels[0], DIM) - query) ** 2).sum(axis=1)
        np.testing.assert_allclose(distances[0], exact, rtol=1e-4, atol=1e-5)
        assert len(set(labels[0].tolist())) == 5 and labels[0].max() < total
        counts.append(len(reader))
    writer.answer()
    assert counts == sorted(counts)
    assert len(set(counts)) > 3, "the reader saw the index grow"
    assert slowest < 5, "a search waited for the writer"
    assert missed <= len(counts) / 20
    reader.close()


def test_a_second_writer_is_told_who_the_first_is(worker, path):
    first, second = worker(), worker()
    first("create", path=path, dim=DIM)
    first("add", start=0, stop=5)
    for attempt in (
        lambda: second("open", path=path, mode="r+"),
        lambda: second("open", path=path, mode="r+", timeout=0.3),
    ):
        with pytest.raises(Failure) as caught:
            attempt()
        assert caught.value.kind == "LockedError" and str(first.pid) in caught.value.message
    with pytest.raises(navmap.LockedError, match=str(first.pid)):
        navmap.open(path, "r+")
    first("add", start=5, stop=6)
    assert first("count") == 6
    first("close")
    second("open", path=path, mode="r+")
    second("add", start=6, stop=7)
    assert second("count") == 7


def test_waiting_for_the_writer(worker, path):
    first, second = worker(), worker()
    first("create", path=path, dim=DIM)
    for timeout in (60, None):
        second.send("open", path=path, mode="r+", timeout=timeout)
        time.sleep(0.5)
        first("close")
        second.answer()
        second("add", start=0, stop=1)
        second("close")
        first("open", path=path, mode="r+")


def test_a_killed_writer_loses_nothing_that_was_acknowledged(worker, path):
    writer = worker()
    writer("create", path=path, dim=DIM)
    writer("add", start=0, stop=300, step=10)
    writer("mark", label=11)
    writer("add", start=20, stop=21, version=1)
    writer.kill()
    with navmap.open(path) as reader:
        assert len(reader) == 299 and 11 not in reader
        np.testing.assert_array_equal(reader.get_items([0, 299]), vectors_of([0, 299], DIM))
        np.testing.assert_array_equal(reader.get_items([20]), vectors_of([20], DIM, 1))
    assert navmap.verify(path).sound
    with navmap.open(path, "r+") as ix:
        ix.add_items(vectors_of([300], DIM), [300])
        assert len(ix) == 300


def test_a_killed_writer_in_manual_mode_keeps_the_last_flush(worker, path):
    writer = worker()
    writer("create", path=path, dim=DIM, durability="manual")
    writer("add", start=0, stop=30)
    writer("flush")
    writer("add", start=30, stop=40)
    writer.kill()
    with navmap.open(path, "r+") as ix:
        assert sorted(ix.get_ids_list()) == list(range(30))


def test_a_writer_is_of_no_use_after_fork(worker, path):
    writer = worker()
    writer("create", path=path, dim=DIM, durability="manual")
    writer("add", start=0, stop=5)
    for verb, arguments in (
        ("add", {"start": 5, "stop": 6}),
        ("mark", {"label": 0}),
        ("flush", {}),
    ):
        with pytest.raises(Failure) as caught:
            writer("fork", verb=verb, **arguments)
        assert caught.value.kind == "ForkedError"
    assert writer("stats")["pending"] == 5
    writer("add", start=5, stop=7)
    writer("close")
    with navmap.open(path) as reader:
        assert len(reader) == 7


def test_dropping_an_inherited_writer_flushes_nothing(worker, path):
    writer = worker()
    writer("create", path=path, dim=DIM, durability="manual")
    writer("add", start=0, stop=5)
    assert writer("fork_and_drop") == 0
    with navmap.open(path) as reader:
        assert len(reader) == 0, "the child committed what the parent had pending"
        with pytest.raises(navmap.LockedError, match=str(writer.pid)):
            navmap.open(path, "r+")  # the child did not let go of the parent's lock
        writer("add", start=5, stop=9)
        writer("flush")
        assert len(reader) == 9
    assert navmap.verify(path).sound


def test_a_reader_goes_on_after_fork(worker, path):
    writer, reader = worker(), worker()
    writer("create", path=path, dim=DIM)
    writer("add", start=0, stop=50)
    reader("open", path=path)
    assert reader("nearest", label=7)[0] == [7]
    assert reader("fork", verb="nearest", label=9)[0] == [9]
    assert reader("fork", verb="contains", label=9) is True
    assert reader("fork", verb="vector", label=9) == vectors_of([9], DIM)[0].tolist()
    assert reader("fork_and_drop") == 0
    writer("add", start=50, stop=60)
    assert reader("nearest", label=55)[0] == [55]
    assert reader("fork", verb="nearest", label=55)[0] == [55]


def test_a_child_may_open_for_itself(worker, path):
    parent = worker()
    parent("create", path=path, dim=DIM)
    parent("add", start=0, stop=5)
    with pytest.raises(Failure) as caught:
        parent("fork", verb="open", path=path, mode="r+")
    assert caught.value.kind == "LockedError"
    assert parent("fork", verb="open", path=path) is None
    parent("close")
    assert parent("fork", verb="open", path=path, mode="r+") is None
    parent("open", path=path, mode="r+")
    assert parent("count") == 5
