"""Private indexes, in memory, made as hnswlib's are: `Index`, `init_index`, and what follows."""

import gc
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import navmap
from workers import vectors_of

DIM = 8
FULL = "The number of elements exceeds the specified limit"


def found_themselves(index, labels, version=0, ef=60):
    """The part of the labels whose own vector finds them."""
    found = index.knn_query(vectors_of(labels, index.dim, version), 1, ef=ef)[0][:, 0]
    return (found == np.asarray(labels)).mean()


# Life -----------------------------------------------------------------------------------------


def test_before_init_index():
    ix = navmap.Index(space="cosine", dim=5)
    assert repr(ix) == "<navmap.Index(space='cosine', dim=5)>"
    assert (ix.space, ix.dim, ix.ef, ix.path, ix.mode) == ("cosine", 5, 10, None, "r+")
    assert (ix.M, ix.ef_construction, ix.max_elements, ix.element_count) == (0, 0, 0, 0)
    assert (len(ix), ix.deleted_count, ix.closed, 3 in ix, bool(ix)) == (0, 0, False, False, True)
    assert ix.num_threads >= 1
    assert ix.get_items().shape == (0,) and ix.get_items([], "list") == []
    for call in (
        lambda: ix.add_items(np.zeros((1, 5))),
        lambda: ix.add_items(np.zeros((0, 5))),
        lambda: ix.knn_query(np.zeros(5)),
        lambda: ix.knn_query(np.zeros(5), 0),
        lambda: ix.exact_query(np.zeros(5)),
        lambda: ix.get_items([0]),
        lambda: ix.get_ids_list(),
        lambda: ix.mark_deleted(0),
        lambda: ix.unmark_deleted(0),
        lambda: ix.resize_index(10),
        lambda: ix.get_max_elements(),
        lambda: ix.get_current_count(),
        lambda: ix.stats(),
        lambda: ix.check(),
        ix.flush,
    ):
        with pytest.raises(navmap.NotInitializedError, match="^The index is not initiated."):
            call()
    ix.close()
    ix.init_index(10)  # there was nothing to close
    assert ix.max_elements == 10


def test_what_was_set_before_init_index_holds():
    ix = navmap.Index("l2", DIM)
    ix.set_ef(77)
    ix.num_threads = 3
    ix.init_index(max_elements=50, M=5, ef_construction=3)
    assert (ix.ef, ix.num_threads, ix.M, ix.ef_construction, ix.max_elements) == (77, 3, 5, 5, 50)
    assert (ix.get_max_elements(), ix.get_current_count(), ix.element_count) == (50, 0, 0)


def test_defaults_and_order_of_init_index():
    first, second = navmap.Index("ip", DIM), navmap.Index("ip", DIM)
    first.init_index(20)
    stats = first.stats()
    assert (stats["M"], stats["ef_construction"], stats["random_seed"]) == (16, 200, 100)
    assert stats["allow_replace_deleted"] is False
    second.init_index(30, 7, 90, 5, True)
    stats = second.stats()
    assert (second.max_elements, stats["M"], stats["ef_construction"]) == (30, 7, 90)
    assert (stats["random_seed"], stats["allow_replace_deleted"]) == (5, True)


def test_a_second_init_index():
    ix = navmap.Index("l2", DIM)
    ix.init_index(10)
    ix.add_items(vectors_of(range(4), DIM))
    with pytest.raises(RuntimeError, match=r"^The index is already initiated\.$"):
        ix.init_index(20)
    for values in ({"M": 1}, {"M": 513}, {"ef_construction": 2**32}):
        with pytest.raises(navmap.Error, match="already initiated"):
            ix.init_index(20, **values)
    for types in ({"M": 2.0}, {"ef_construction": -1}, {"allow_replace_deleted": "no"}):
        with pytest.raises(TypeError):
            ix.init_index(20, **types)
    assert (len(ix), ix.max_elements) == (4, 10)
    ix.close()
    with pytest.raises(navmap.Error, match="already initiated"):
        ix.init_index(20)


def test_a_directory_cannot_be_initiated(make):
    with pytest.raises(navmap.Error, match="already initiated"):
        make().init_index(20)


@pytest.mark.parametrize("space", ["L2", "euclidean", "", b"l3"])
def test_spaces_that_do_not_exist(space):
    with pytest.raises(RuntimeError, match="^Space name must be one of l2, ip, or cosine."):
        navmap.Index(space, 4)


@pytest.mark.parametrize("dim", [0, -1, 65537])
def test_dims_out_of_range(dim):
    with pytest.raises(navmap.InvalidInputError, match="^dim must be from 1 to 65536"):
        navmap.Index("l2", dim)


@pytest.mark.parametrize(
    "keywords, error",
    [
        ({"M": 0}, navmap.InvalidInputError),
        ({"M": 1}, navmap.InvalidInputError),
        ({"M": 513}, navmap.InvalidInputError),
        ({"M": 16.0}, TypeError),
        ({"M": -1}, TypeError),
        ({"ef_construction": -1}, TypeError),
        ({"ef_construction": 2**32}, navmap.InvalidInputError),
        ({"max_elements": -1}, TypeError),
        ({"max_elements": 10.0}, TypeError),
        ({"max_elements": None}, TypeError),
        ({"random_seed": -1}, TypeError),
    ],
    ids=str,
)
def test_init_index_out_of_range(keywords, error):
    ix = navmap.Index("l2", DIM)
    with pytest.raises(error):
        ix.init_index(**({"max_elements": 10} | keywords))
    ix.init_index(10)  # nothing had happened


def test_close_and_facts_afterwards(private):
    ix = private("ip", DIM, 20)
    ix.add_items(vectors_of(range(4), DIM))
    ix.close()
    ix.close()
    assert (ix.closed, ix.space, ix.dim, ix.M, ix.path) == (True, "ip", DIM, 16, None)
    for call in (lambda: len(ix), lambda: ix.knn_query([0] * DIM), lambda: 0 in ix, ix.stats):
        with pytest.raises(navmap.NotInitializedError, match="^index is closed$"):
            call()


def test_with_and_dropping_it(private):
    with navmap.Index("l2", DIM) as ix:
        ix.init_index(10)
        ix.add_items(vectors_of(range(4), DIM))
    assert ix.closed
    for _ in range(300):  # each would keep its memory, and soon its mappings
        ix = navmap.Index("l2", DIM)
        ix.init_index(10_000)
        ix.add_items(vectors_of([1], DIM))
    del ix
    gc.collect()


@pytest.mark.parametrize("cpus", ["all", "one"])
def test_the_end_of_a_program(cpus):
    """In the middle of a search, with nobody to close the index or to join its threads (Y3)."""
    code = f"cpus = {cpus!r}" + """
import os, threading, time, numpy as np, navmap
if cpus == "one":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
ix = navmap.Index("l2", 4)
ix.init_index(100_000)
ix.add_items(np.random.rand(2000, 4), num_threads=2)
def work(index):
    while True:
        index.knn_query(np.random.rand(100, 4), 3, 2, filter=lambda label: label % 2)
threading.Thread(target=work, args=(ix,), daemon=True).start()
time.sleep(0.2)
ring = [ix]; ring.append(ring)
"""
    leaks = {"TSAN_OPTIONS": os.environ.get("TSAN_OPTIONS", "") + ":report_thread_leaks=0"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | leaks,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_subclass_as_in_hnswlibs_examples(private):
    class Lazy(navmap.Index):
        def __init__(self, space, dim, max_elements=100):
            super().__init__(space, dim)
            self.init_max_elements = max_elements

        def add_items(self, data, ids=None, num_threads=-1):
            if self.max_elements == 0:
                super().init_index(self.init_max_elements)
            super().add_items(data, ids, num_threads)

    ix = Lazy("l2", DIM)
    assert len(ix) == 0
    ix.add_items(vectors_of(range(4), DIM))
    assert (len(ix), ix.max_elements) == (4, 100)


def test_a_forked_child_goes_on_with_a_copy(private):
    ix = private("l2", DIM, 1000)
    ix.add_items(vectors_of(range(200), DIM), num_threads=2)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            ix.add_items(vectors_of(range(200, 400), DIM), num_threads=2)
            queries = vectors_of(range(400), DIM)
            labels = ix.knn_query(queries, 1, num_threads=2, ef=60)[0][:, 0]
            status = 0 if len(ix) == 400 and (labels == range(400)).mean() > 0.99 else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert len(ix) == 200 and found_themselves(ix, range(200)) > 0.99


# Capacity -------------------------------------------------------------------------------------


def test_capacity(private):
    ix = private("l2", DIM, 10)
    ix.add_items(vectors_of(range(8), DIM))
    with pytest.raises(navmap.CapacityError, match=f"^{FULL}") as caught:
        ix.add_items(vectors_of(range(8, 11), DIM))
    assert caught.value.added == 0 and ix.element_count == 8
    ix.add_items(vectors_of(range(8, 10), DIM))
    for threads in (1, 2):  # a full index takes updates
        ix.add_items(vectors_of(range(10), DIM, threads), range(10), num_threads=threads)
        np.testing.assert_array_equal(ix.get_items(range(10)), vectors_of(range(10), DIM, threads))
    ix.mark_deleted(3)  # deleted ones count
    with pytest.raises(RuntimeError, match=f"^{FULL}"):
        ix.add_items(vectors_of([50], DIM), 50)
    assert (ix.element_count, len(ix)) == (10, 9)


def test_room_for_nothing(private):
    ix = private("l2", DIM, 0)
    assert ix.max_elements == ix.get_max_elements() == 0
    with pytest.raises(navmap.CapacityError, match=f"^{FULL}"):
        ix.add_items(vectors_of([0], DIM))
    ix.resize_index(1)
    ix.add_items(vectors_of([0], DIM))
    assert ix.get_items([0]).tolist() == vectors_of([0], DIM).tolist()


def test_resize(private):
    ix = private("l2", DIM, 50)
    ix.add_items(vectors_of(range(50), DIM), num_threads=2)
    ix.resize_index(new_size=120)
    assert ix.max_elements == ix.get_max_elements() == 120
    ix.add_items(vectors_of(range(50, 120), DIM), num_threads=2)
    ix.mark_deleted(7)
    words = "^Cannot resize, max element is less than the current number of elements"
    with pytest.raises(navmap.InvalidInputError, match=words):
        ix.resize_index(119)
    ix.resize_index(120)
    for wrong in (-1, 10.0, "10", None, 2**64):
        with pytest.raises(TypeError):
            ix.resize_index(wrong)
    assert ix.max_elements == 120 and ix.get_current_count() == 120
    ix.unmark_deleted(7)
    assert sorted(ix.get_ids_list()) == list(range(120))
    assert found_themselves(ix, range(120)) > 0.99


def test_resize_a_directory(make, path):
    ix = make(dim=DIM, max_elements=5)
    ix.add_items(vectors_of(range(5), DIM))
    ix.resize_index(8)
    with navmap.open(path) as reader:
        assert reader.max_elements == 8
    ix.add_items(vectors_of(range(5, 8), DIM))
    with pytest.raises(navmap.CapacityError, match=f"^{FULL}"):
        ix.add_items(vectors_of([8], DIM))
    ix.resize_index(0)  # by itself from now on
    ix.add_items(vectors_of(range(8, 500), DIM))
    ix.close()
    with navmap.open(path) as reader:
        assert len(reader) == 500 and reader.stats()["max_elements"] == 0


# What is alike --------------------------------------------------------------------------------


def test_what_a_directory_does_a_private_one_does(either):
    ix = either("l2", 2)
    ix.add_items([[0, 0], [1, 1], [2, 2]])
    ix.add_items([[9, 9], [5, 5]], [1, 7])
    ix.add_items([[6, 6]])
    assert sorted(ix.get_ids_list()) == [0, 1, 2, 7, 8]
    assert ix.get_items([1, 8]).tolist() == [[9, 9], [6, 6]]
    ix.mark_deleted(2)
    with pytest.raises(navmap.Error, match="^The requested to delete element is already deleted"):
        ix.mark_deleted(2)
    with pytest.raises(navmap.LabelNotFoundError, match="^Label not found"):
        ix.get_items([2])
    with pytest.raises(navmap.LabelNotFoundError, match="^Label not found"):
        ix.mark_deleted(77)
    with pytest.raises(navmap.Error, match="^The requested to undelete element is not deleted"):
        ix.unmark_deleted(1)
    assert 2 not in ix and 7 in ix and (len(ix), ix.deleted_count) == (4, 1)
    assert sorted(ix.get_ids_list(include_deleted=False)) == [0, 1, 7, 8]
    labels, distances = ix.knn_query([5, 5], 4)
    assert labels.tolist() == [[7, 8, 1, 0]] and distances.tolist() == [[0, 2, 32, 50]]
    with pytest.raises(navmap.FewerResultsError):
        ix.knn_query([5, 5], 5)
    ix.add_items([2, 3], 2)  # comes back with a new vector
    assert ix.get_items([2]).tolist() == [[2, 3]] and ix.deleted_count == 0
    with pytest.raises(navmap.InvalidInputError):
        ix.add_items([[np.nan, 1]])
    with pytest.raises(navmap.InvalidInputError, match="^Wrong dimensionality of the vectors"):
        ix.knn_query([1, 2, 3])
    ix.flush()
    assert ix.check().sound


def test_stats_of_a_private_one(private, make):
    ix = private("ip", DIM, 100)
    ix.add_items(vectors_of(range(10), DIM))
    ix.mark_deleted(3)
    stats = ix.stats()
    for name, value in {
        "in_memory": True, "path": None, "mode": "r+", "space": "ip", "dim": DIM, "n_live": 9,
        "n_deleted": 1, "max_elements": 100, "inserted": 10, "poisoned": False,
    }.items():  # fmt: skip
        assert stats[name] == value, name
    assert make("ip", DIM).stats()["in_memory"] is False


def test_simd():
    assert navmap.simd() in ("scalar", "avx2", "avx512", "avx512vnni", "neon", "neondot")


def test_check(either):
    ix = either("l2", DIM, M=6)
    empty = ix.check()
    assert empty.sound and (empty.labels, empty.live, empty.reachable) == (0, 0, 0)
    ix.add_items(vectors_of(range(600), DIM), num_threads=2)
    for label in range(0, 50):
        ix.mark_deleted(label)
    ix.add_items(vectors_of(range(100, 120), DIM, 1), range(100, 120))
    report = ix.check()
    assert report.sound and report.damaged == 0
    assert not [finding for finding in report.findings if not finding.warning]
    assert (report.labels, report.live, report.deleted) == (600, 550, 50)
    # Rows have no in-degree floor: side by side, adders may thin a node's last in-link away.
    assert 545 <= report.reachable <= 550 and report.dangling == 0
    assert sum(report.levels) == sum(report.degrees) == 600 + report.dead
    assert len(report.levels) == report.max_level + 1 and len(report.degrees) == 65
    assert sum(n * count for n, count in enumerate(report.degrees)) == report.links
    assert report.levels[0] > report.levels[1] > 0 and sum(report.degrees[13:]) == 0


# replace_deleted ------------------------------------------------------------------------------

DISABLED = "^Replacement of deleted elements is disabled in constructor"
ENABLED = re.escape(
    "Can't use addPoint to update deleted elements if replacement of deleted elements is enabled."
).rstrip(r"\.")


def content(ix):
    live = sorted(ix.get_ids_list(include_deleted=False))
    return sorted(ix.get_ids_list()), live, ix.get_items(live).tolist()


def test_replacing_needs_an_index_that_allows_it(either):
    ix = either("l2", DIM)
    ix.add_items(vectors_of(range(4), DIM))
    ix.mark_deleted(2)
    before = content(ix)
    with pytest.raises(navmap.ReplaceError, match=DISABLED) as caught:
        ix.add_items(vectors_of([9], DIM), [9], replace_deleted=True)
    assert caught.value.added == 0 and content(ix) == before


def test_a_deleted_label_is_updated_by_replacing_only(either):
    ix = either("l2", DIM, allow_replace_deleted=True)
    ix.add_items(vectors_of(range(6), DIM))
    ix.mark_deleted(4)
    before = content(ix)
    with pytest.raises(navmap.ReplaceError, match=f"^{ENABLED}") as caught:
        ix.add_items(vectors_of([9, 4, 10], DIM, 1), [9, 4, 10])  # of the whole batch nothing
    assert caught.value.added == 0 and content(ix) == before
    ix.add_items(vectors_of([4], DIM, 1), [4], replace_deleted=True)
    assert 4 in ix and ix.deleted_count == 0
    np.testing.assert_array_equal(ix.get_items([4]), vectors_of([4], DIM, 1))


@pytest.mark.parametrize("threads", [1, 2])
def test_replacing_in_a_full_index(private, threads):
    ix = private("l2", DIM, 400, allow_replace_deleted=True)
    ix.add_items(vectors_of(range(400), DIM), num_threads=threads)
    for label in range(100, 200):
        ix.mark_deleted(label)
    with pytest.raises(navmap.CapacityError, match=f"^{FULL}"):
        ix.add_items(vectors_of(range(400, 501), DIM), range(400, 501), threads, True)
    assert (ix.element_count, ix.deleted_count) == (400, 100)
    ix.add_items(vectors_of(range(400, 460), DIM), range(400, 460), threads, True)
    assert (ix.element_count, len(ix), ix.deleted_count) == (400, 360, 40)
    ids = set(ix.get_ids_list())
    forgotten = [label for label in range(100, 200) if label not in ids]
    assert len(forgotten) == 60
    for call in (ix.mark_deleted, ix.unmark_deleted):
        with pytest.raises(navmap.LabelNotFoundError, match="^Label not found"):
            call(forgotten[0])
    ix.add_items(vectors_of(range(460, 500), DIM), range(460, 500), threads, True)
    live = [*range(100), *range(200, 500)]
    assert sorted(ix.get_ids_list()) == live and ix.deleted_count == 0
    np.testing.assert_array_equal(ix.get_items(live), vectors_of(live, DIM))
    assert found_themselves(ix, live) > 0.98
    with pytest.raises(navmap.CapacityError, match=f"^{FULL}"):
        ix.add_items(vectors_of([999], DIM), [999], replace_deleted=True)
    assert ix.check().sound


def test_a_place_that_the_batch_itself_needs(private):
    """A deleted label that a batch brings back leaves no room for the batch's new ones."""
    ix = private("l2", DIM, 5, allow_replace_deleted=True)
    ix.add_items(vectors_of(range(5), DIM))
    ix.mark_deleted(2)
    for batch in ([6, 2, 0], [2, 6]):
        with pytest.raises(navmap.CapacityError, match=f"^{FULL}") as caught:
            ix.add_items(vectors_of(batch, DIM), batch, replace_deleted=True)
        assert caught.value.added == 0
        assert (sorted(ix.get_ids_list()), ix.deleted_count) == ([0, 1, 2, 3, 4], 1)
    ix.mark_deleted(3)
    ix.add_items(vectors_of([6, 2], DIM), [6, 2], replace_deleted=True)
    assert (sorted(ix.get_ids_list()), ix.deleted_count) == ([0, 1, 2, 4, 6], 0)
    np.testing.assert_array_equal(ix.get_items([2, 6]), vectors_of([2, 6], DIM))


def test_replacing_with_a_live_label_updates_it(either):
    """hnswlib makes a second node of the label here."""
    ix = either("l2", DIM, allow_replace_deleted=True)
    ix.add_items(vectors_of(range(6), DIM))
    ix.mark_deleted(4)
    ix.add_items(vectors_of([2], DIM, 1), [2], replace_deleted=True)
    assert (ix.element_count, ix.deleted_count) == (6, 1)
    np.testing.assert_array_equal(ix.get_items([2]), vectors_of([2], DIM, 1))
    assert ix.knn_query(vectors_of([2], DIM), 5)[0][0].tolist().count(2) == 1


# Threads of a call ----------------------------------------------------------------------------


def test_num_threads_is_kept_as_it_is(either):
    for ix in (navmap.Index("l2", DIM), either()):
        assert ix.num_threads == navmap._core.default_threads() >= 1
        for number in (0, -1, -7, 1, 2, 50, np.int64(3), 2**31 - 1):
            ix.set_num_threads(number)
            assert ix.num_threads == number
            ix.num_threads = number
            assert ix.num_threads == number
        for wrong in (1.0, "1", None, 2**31, -(2**31) - 1):
            with pytest.raises(TypeError, match="^num_threads must be an integer"):
                ix.set_num_threads(wrong)
    for wrong in (1.0, "1", None, 2**31):
        with pytest.raises(TypeError, match="^num_threads must be an integer"):
            ix.add_items(np.zeros((1, DIM)), num_threads=wrong)
        with pytest.raises(TypeError, match="^num_threads must be an integer"):
            ix.knn_query(np.zeros((1, DIM)), num_threads=wrong)


@pytest.mark.parametrize("setting", [0, -1, 1, 2, 50])
@pytest.mark.parametrize("argument", [-1, 0, 2])
@pytest.mark.parametrize("space", ["l2", "cosine"])
def test_every_number_of_threads(space, setting, argument):
    ix = navmap.Index(space, DIM)
    ix.set_num_threads(setting)
    ix.init_index(1000)
    for start in (0, 3, 300):  # alone, then with others
        stop = {0: 3, 3: 300, 300: 700}[start]
        ix.add_items(vectors_of(range(start, stop), DIM), num_threads=argument)
    assert sorted(ix.get_ids_list()) == list(range(700))
    queries = vectors_of(range(700), DIM)
    labels, distances = ix.knn_query(queries, 3, argument, ef=80)
    assert (labels[:, 0] == range(700)).mean() > 0.99
    one = ix.knn_query(queries, 3, 1, ef=80)
    np.testing.assert_array_equal(labels, one[0])
    np.testing.assert_array_equal(distances, one[1])
    exact = ix.exact_query(queries[:300], 3, num_threads=argument)
    assert (exact[0][:, 0] == range(300)).all()


def test_large_batches_find_themselves(either, short):
    n, dim = (1000 if short else 6000), 16
    ix = either("l2", dim, M=12, ef_construction=80)
    ix.num_threads = 2
    ix.add_items(vectors_of(range(n), dim))
    assert found_themselves(ix, range(n)) > 0.995
    ix.add_items(vectors_of(range(n), dim, 1), range(n))  # all of them updated
    assert len(ix) == n and found_themselves(ix, range(n), version=1) > 0.995


def test_a_label_twice_in_a_batch_of_several_threads(private):
    ix = private("l2", DIM, 1000)
    ids = [*range(200), *range(100)]
    data = np.concatenate([vectors_of(range(200), DIM), vectors_of(range(100), DIM, 1)])
    ix.add_items(data, ids, num_threads=4)
    np.testing.assert_array_equal(ix.get_items(range(100)), vectors_of(range(100), DIM, 1))
    np.testing.assert_array_equal(ix.get_items(range(100, 200)), data[100:200])


def test_one_thread_makes_the_same_graph_each_time(private):
    answers = []
    for _ in range(2):
        ix = private("l2", DIM, 2000, M=4, ef_construction=10, random_seed=7)
        ix.add_items(vectors_of(range(1500), DIM), num_threads=1)
        labels, distances = ix.knn_query(vectors_of(range(1500), DIM, 1), 5, ef=5)
        answers.append((labels.tolist(), distances.tolist(), ix.check().links))
    assert answers[0] == answers[1]
