"""Copies and pickles: what they keep, hnswlib's own, and how little memory they take."""

import copy
import heapq
import io
import multiprocessing
import os
import pickle
import struct
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest

import navmap
import navmap.image
from workers import vectors_of

DIM = 8
GOLDEN = Path(__file__).parent / "golden" / "hnswlib-0.8.0.pickle"

SETTINGS = {
    "ser_version": int, "space": str, "dim": int, "index_inited": bool, "ep_added": bool,
    "normalize": bool, "num_threads": int, "seed": int, "ef": int,
}  # fmt: skip
FACTS = {
    "max_elements": int, "cur_element_count": int, "M": int, "max_M": int, "max_M0": int,
    "ef_construction": int, "mult": float, "has_deletions": bool, "allow_replace_deleted": bool,
}  # fmt: skip


class Named(navmap.Index):
    """With attributes, as subclasses have them."""

    def __init__(self, space, dim, name):
        super().__init__(space, dim)
        self.name = name


class Counted(navmap.Index):
    """With a state of its own around ours."""

    def __getstate__(self):
        return super().__getstate__(), "mine"

    def __setstate__(self, state):
        super().__setstate__(state[0])
        self.extra = state[1]


@pytest.fixture
def filled(private):
    ix = private("cosine", DIM, 400, M=7, ef_construction=50, random_seed=9,
                 allow_replace_deleted=True)  # fmt: skip
    ix.add_items(vectors_of(range(300), DIM), range(1000, 1300))
    for label in (1005, 1299):
        ix.mark_deleted(label)
    ix.ef, ix.num_threads = 33, 3
    return ix


def pickled(protocol, module=pickle):
    return lambda ix: pickle.loads(module.dumps(ix, protocol))


def by_the_slow_pickler(ix):
    stream = io.BytesIO()
    pickle._Pickler(stream, 4).dump(ix)
    stream.seek(0)
    return pickle._Unpickler(stream).load()


WAYS = {
    "2": pickled(2),
    "3": pickled(3),
    "4": pickled(4),
    "5": pickled(5),
    "slow": by_the_slow_pickler,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "index": lambda ix: navmap.Index(index=ix),
    "params": lambda ix: navmap.Index(params=ix.__getstate__()[0]),
    "setstate": lambda ix: (again := navmap.Index("l2", 3)).__setstate__(ix.__getstate__()) or again,
    "pickled state": lambda ix: navmap.Index(params=pickled(4)(ix.__getstate__())[0]),
}  # fmt: skip


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


def content(ix):
    live = sorted(ix.get_ids_list(include_deleted=False))
    return sorted(ix.get_ids_list()), live, ix.get_items(live).tolist()


# What is kept ---------------------------------------------------------------------------------


def test_before_init_index(way):
    ix = navmap.Index("ip", DIM)
    ix.ef, ix.num_threads = 44, -2
    again = way(ix)
    assert type(again) is navmap.Index and again is not ix
    assert (again.space, again.dim, again.ef, again.num_threads) == ("ip", DIM, 44, -2)
    assert (again.max_elements, again.M, again.closed) == (0, 0, False)
    again.init_index(5)
    with pytest.raises(navmap.NotInitializedError):
        ix.get_ids_list()


def test_empty(private, way):
    again = way(private("l2", DIM, 5, M=6))
    assert (again.max_elements, again.element_count, again.M) == (5, 0, 6)
    again.add_items(vectors_of(range(5), DIM))
    with pytest.raises(navmap.CapacityError):
        again.add_items(vectors_of([5], DIM))


def test_everything(filled, way):
    again = way(filled)
    for name in ("space", "dim", "M", "ef_construction", "max_elements", "element_count", "ef",
                 "num_threads", "deleted_count", "mode", "path"):  # fmt: skip
        assert getattr(again, name) == getattr(filled, name), name
    for name in ("allow_replace_deleted", "random_seed", "bounded"):
        assert again.stats()[name] == filled.stats()[name], name
    assert content(again) == content(filled) and again.check().sound
    queries = vectors_of(range(40), DIM, 1)
    for one, two in zip(filled.knn_query(queries, 9), again.knn_query(queries, 9), strict=True):
        np.testing.assert_array_equal(one, two)


def test_they_are_independent(filled, way):
    again, before = way(filled), content(filled)
    again.add_items(vectors_of(range(50), DIM, 1))
    again.add_items(vectors_of([7], DIM), [5000], replace_deleted=True)
    again.mark_deleted(1007)
    assert content(filled) == before
    after = content(again)
    filled.mark_deleted(1008)
    filled.close()
    assert content(again) == after


def test_subclasses(filled):
    named = Named("l2", DIM, ["a", "list"])
    named.init_index(10)
    named.add_items(vectors_of(range(5), DIM))
    for way in (*WAYS.values(),):
        again = way(named)
        if type(again) is Named:
            assert again.name == ["a", "list"]
        assert content(again) == content(named)
    assert copy.copy(named).name is named.name
    assert copy.deepcopy(named).name is not named.name
    counted = Counted("l2", DIM)
    counted.init_index(10)
    for again in (pickle.loads(pickle.dumps(counted)), copy.deepcopy(counted)):
        assert (type(again), again.extra, again.max_elements) == (Counted, "mine", 10)


def test_one_index_twice_in_a_pickle(filled):
    one, two, three = pickle.loads(pickle.dumps([filled, filled, copy.copy(filled)]))
    assert one is two and two is not three and content(one) == content(three)


def test_beside_an_adder(private):
    """Each is the index of some moment, whole."""
    ix = private("l2", DIM, 3000, M=5, ef_construction=20)
    ix.add_items(vectors_of(range(100), DIM))
    adder = threading.Thread(
        target=lambda: [ix.add_items(vectors_of([label], DIM)) for label in range(100, 3000)]
    )
    adder.start()
    counts = []
    while adder.is_alive() or len(counts) < 2:
        again = pickle.loads(pickle.dumps(ix))
        n = len(again)
        assert sorted(again.get_ids_list()) == list(range(n)) and again.check().damaged == 0
        counts.append(n)
    adder.join()
    assert counts == sorted(counts) and len(pickle.loads(pickle.dumps(ix))) == 3000


def test_what_a_pickle_names():
    """Names that a later version has to keep."""
    ix = navmap.Index("l2", DIM)
    ix.init_index(10)
    text = pickle.dumps(ix, 2)
    assert b"cnavmap\nIndex\n" in text and b"cnavmap.image\nImage\n" in text


def test_into_another_process(filled):
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1) as pool:
        again = pool.apply(copy.copy, (filled,))  # there and back
    assert content(again) == content(filled)


# What cannot be -------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [0, 1])
def test_old_protocols(filled, protocol):
    for what in (filled, filled.__getstate__(), navmap.Index("l2", DIM)):
        with pytest.raises(TypeError, match="protocol 2 or later"):
            pickle.dumps(what, protocol)


def test_directories(make, path):
    ix = make("l2", DIM)
    for action in (pickle.dumps, copy.copy, copy.deepcopy, lambda ix: ix.__getstate__()):
        with pytest.raises(TypeError, match=r"cannot pickle.*navmap\.open") as caught:
            action(ix)
        assert ix.path in str(caught.value)
    with pytest.raises(navmap.Error, match="already initiated"):
        ix.__setstate__(navmap.Index("l2", DIM).__getstate__())
    assert ix.path and len(ix) == 0


def test_after_close(filled):
    filled.close()
    for action in (pickle.dumps, copy.copy):
        with pytest.raises(navmap.NotInitializedError, match="^index is closed$"):
            action(filled)


def test_states_that_are_none(filled):
    ix = navmap.Index("l2", DIM)
    for state in ((), ({}, {}), None, {}, [filled.__getstate__()[0]]):
        with pytest.raises(RuntimeError, match="^Invalid state!"):
            ix.__setstate__(state)
    for name in SETTINGS:
        state = filled.__getstate__()[0]
        del state[name]
        with pytest.raises(KeyError, match=name):
            navmap.Index(params=state)
    state = filled.__getstate__()[0] | {"ser_version": 2}
    with pytest.raises(RuntimeError, match="^Unpickle Error: Invalid serialization version!$"):
        navmap.Index(state)
    for name, value, error in (
        ("space", "l3", navmap.InvalidInputError),
        ("space", 5, TypeError),
        ("dim", 0, navmap.InvalidInputError),
        ("dim", DIM + 1, navmap.InvalidInputError),
        ("ef", -1, TypeError),
        ("num_threads", "2", TypeError),
        ("max_elements", -1, TypeError),
        ("allow_replace_deleted", "no", TypeError),
        ("contents", b"", navmap.CorruptIndexError),
        ("contents", navmap.image.Image(100), navmap.CorruptIndexError),
        ("contents", navmap.image.Image(), navmap.CorruptIndexError),
    ):
        with pytest.raises(error):
            ix.__setstate__((filled.__getstate__()[0] | {name: value},))
    ix.init_index(5)  # nothing had happened
    again = navmap.Index(filled.__getstate__()[0] | {"max_elements": 350})
    assert again.max_elements == 350


def test_damaged_pieces():
    image = navmap.image.Image(10)
    for piece in (0, 1, -257, 2 << 32, 1 << 88, 3 << 8):
        with pytest.raises(navmap.CorruptIndexError):
            image.append(piece)
    image.append(1 << 48)
    with pytest.raises(navmap.CorruptIndexError):  # the first 4 bytes are missing
        image.fileno()
    image.extend([1 << 32])
    with pytest.raises(navmap.CorruptIndexError):
        image.append(1 << 8)
    assert os.fstat(image.fileno()).st_size == 10


def test_an_image_for_one_pickle_shrinks_while_it_is_read(filled):
    handle = filled._handle
    image = navmap.image.Image.of(handle, once=True)
    size = os.fstat(image.fileno()).st_size
    assert size == filled.index_file_size() > 4 * navmap.image.PIECE
    pieces = image.__reduce_ex__(4)[3]
    for _ in range(3):
        next(pieces)
    assert os.fstat(image._fd).st_size < size - navmap.image.PIECE
    with pytest.raises(navmap.CorruptIndexError):  # not for another one
        image.__reduce_ex__(4)
    kept = navmap.image.Image.of(handle)
    assert sum(1 for _ in kept.__reduce_ex__(4)[3]) == sum(1 for _ in kept.__reduce_ex__(4)[3])


def test_a_pickle_cut_short(filled):
    text = pickle.dumps(filled)
    for length in (len(text) // 3, len(text) - 100):
        with pytest.raises((pickle.UnpicklingError, EOFError)):
            pickle.loads(text[:length])


def test_no_descriptors_are_left(filled):
    def held():
        return len(os.listdir("/proc/self/fd"))

    before = held()
    for way in WAYS.values():
        way(filled)
    state = filled.__getstate__()
    assert held() == before + 1
    del state
    assert held() == before


def test_without_memfd(filled, monkeypatch):
    """Python built for an old libc has none."""
    monkeypatch.delattr(os, "memfd_create")
    for way in WAYS.values():
        assert content(way(filled)) == content(filled)


# The dictionary -------------------------------------------------------------------------------


def test_the_dictionary_has_hnswlibs_numbers(filled):
    (state,) = filled.__getstate__()
    for name, kind in (SETTINGS | FACTS).items():
        assert type(state[name]) is kind, name
    assert set(state) == {*SETTINGS, *FACTS, "contents"}
    for name, value in {
        "ser_version": 1, "space": "cosine", "dim": DIM, "index_inited": True, "ep_added": True,
        "normalize": True, "num_threads": 3, "seed": 9, "ef": 33, "max_elements": 400,
        "cur_element_count": 300, "M": 7, "max_M": 7, "max_M0": 14, "ef_construction": 50,
        "has_deletions": True, "allow_replace_deleted": True,
    }.items():  # fmt: skip
        assert state[name] == value, name
    (state,) = navmap.Index("l2", DIM).__getstate__()
    assert set(state) == set(SETTINGS) and state["index_inited"] is False


# hnswlib's ------------------------------------------------------------------------------------


@pytest.fixture
def theirs(monkeypatch):
    """The dictionary of an index that hnswlib 0.8.0 made of 60 items, two of them deleted."""

    class Caught:
        def __setstate__(self, state):
            (self.state,) = state

    monkeypatch.setitem(sys.modules, "hnswlib", types.SimpleNamespace(Index=Caught))
    return pickle.loads(GOLDEN.read_bytes()).state


def check_theirs(ix):
    assert (ix.space, ix.dim, ix.M, ix.ef_construction, ix.max_elements) == ("l2", 3, 4, 30, 70)
    assert (ix.ef, ix.num_threads, ix.element_count, ix.deleted_count) == (55, 3, 60, 2)
    assert ix.stats()["allow_replace_deleted"] is True
    assert sorted(ix.get_ids_list()) == list(range(100, 160))
    live = [label for label in range(100, 160) if label not in (103, 110)]
    np.testing.assert_array_equal(ix.get_items(live), vectors_of(live, 3))
    assert ix.knn_query(vectors_of(live, 3))[0][:, 0].tolist() == live
    assert ix.check().sound
    ix.add_items(vectors_of([160], 3), [160], replace_deleted=True)
    assert (ix.element_count, ix.deleted_count) == (60, 1)


def test_a_pickle_of_hnswlibs(monkeypatch):
    monkeypatch.setitem(sys.modules, "hnswlib", navmap)
    ix = pickle.loads(GOLDEN.read_bytes())
    assert type(ix) is navmap.Index
    check_theirs(ix)


def test_a_dictionary_of_hnswlibs(theirs):
    before = {name: np.copy(value) for name, value in theirs.items()}
    check_theirs(navmap.Index(params=theirs))
    for name, value in theirs.items():
        np.testing.assert_array_equal(value, before[name])
    del theirs["allow_replace_deleted"]  # older ones have none
    assert navmap.Index(theirs).stats()["allow_replace_deleted"] is False


def test_a_file_of_hnswlibs(theirs, tmp_path):
    """Its save_index: header, items with their lowest level, and the upper levels of each."""
    count, per_level = theirs["cur_element_count"], theirs["size_links_per_element"]
    header = struct.pack("<6QiI3QdQ", *(theirs[name] for name in (
        "offset_level0", "max_elements", "cur_element_count", "size_data_per_element",
        "label_offset", "offset_data", "max_level", "enterpoint_node", "max_M", "max_M0", "M",
        "mult", "ef_construction",
    )))  # fmt: skip
    upper, links = b"", theirs["link_lists"].tobytes()
    for level in theirs["element_levels"][:count].tolist():
        upper += struct.pack("<I", level * per_level) + links[: level * per_level]
        links = links[level * per_level :]
    file = tmp_path / "hnswlib.bin"
    file.write_bytes(header + theirs["data_level0"].tobytes() + upper)
    ix = navmap.Index("l2", 3)
    ix.ef, ix.num_threads = 55, 3
    ix.load_index(file, allow_replace_deleted=True)
    assert not ix.stats()["mapped"]
    check_theirs(ix)
    for length in (0, 50, 96, 2000, file.stat().st_size - 1):
        file.write_bytes((header + theirs["data_level0"].tobytes() + upper)[:length])
        with pytest.raises(RuntimeError, match="^Index seems to be corrupted or unsupported"):
            navmap.Index("l2", 3).load_index(file)


class Graph:
    """hnswlib's search of the paper, over the arrays of its dictionary; `l2` only."""

    def __init__(self, state):
        size, links = state["size_data_per_element"], state["size_links_per_element"]
        self.entry, self.top = state["enterpoint_node"], state["max_level"]
        levels = state["element_levels"][: state["cur_element_count"]].tolist()
        upper, self.rows, self.deleted, self.vectors, self.labels = 0, [], [], [], []
        for i, level in enumerate(levels):
            item = state["data_level0"][i * size : (i + 1) * size].tobytes()
            lists = [item]
            for _ in range(level):
                lists.append(state["link_lists"][upper : upper + links].tobytes())
                upper += links
            self.rows.append([struct.unpack_from(f"<{struct.unpack_from('<H', row)[0]}I", row, 4)
                              for row in lists])  # fmt: skip
            self.deleted.append(bool(item[2]))
            self.vectors.append(np.frombuffer(item, np.float32, 3, state["offset_data"]))
            self.labels.append(struct.unpack_from("<Q", item, state["label_offset"])[0])

    def search(self, query, ef):
        def distance(i):
            return float(((self.vectors[i] - query) ** 2).sum())

        best, at = distance(self.entry), self.entry
        for level in range(self.top, 0, -1):
            while True:
                near, neighbour = min(
                    ((distance(i), i) for i in self.rows[at][level]), default=(best, at)
                )
                if near >= best:
                    break
                best, at = near, neighbour
        seen, open_, found = {at}, [(best, at)], [] if self.deleted[at] else [(best, at)]
        while open_:
            node = heapq.heappop(open_)
            if len(found) == ef and node[0] > found[-1][0]:
                break
            for i in self.rows[node[1]][0]:
                if i not in seen:
                    seen.add(i)
                    d = distance(i)
                    if len(found) < ef or d < found[-1][0]:
                        heapq.heappush(open_, (d, i))
                        if not self.deleted[i]:
                            found = sorted([*found, (d, i)])[:ef]
        return [self.labels[i] for _, i in found]


def test_a_graph_of_hnswlibs_gives_its_answers(theirs):
    """Not better ones either: node after node in the same order, however short the beam."""
    ix, graph = navmap.Index(theirs), Graph(theirs)
    queries = np.random.default_rng(1).random((300, 3), dtype=np.float32)
    for ef in range(1, 9):
        labels, distances = ix.knn_query(queries, ef, ef=ef)
        assert labels.tolist() == [graph.search(query, ef) for query in queries], ef


def test_no_descriptors_are_left_of_hnswlibs(theirs):
    before = len(os.listdir("/proc/self/fd"))
    for state in (theirs, theirs | {"max_level": 7}):
        try:
            navmap.Index(state)
        except navmap.Error:
            pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_empty_dictionary_of_hnswlibs(theirs):
    empty = {name: np.empty(0, np.int8) for name in ("data_level0", "link_lists")}
    empty |= {name: np.empty(0, np.uint64)
              for name in ("label_lookup_external", "label_lookup_internal")}  # fmt: skip
    theirs |= empty | {"cur_element_count": 0, "max_level": -1, "enterpoint_node": 2**32 - 1,
                       "ep_added": False, "has_deletions": False}  # fmt: skip
    ix = navmap.Index(theirs)
    assert (ix.element_count, ix.max_elements, ix.M) == (0, 70, 4)
    ix.add_items(vectors_of(range(70), 3))


def test_wrong_dictionaries_of_hnswlibs(theirs):
    arrays = {name for name, value in theirs.items() if isinstance(value, np.ndarray)}
    for name in set(theirs) - {"allow_replace_deleted", "has_deletions"}:
        with pytest.raises(KeyError, match=name):
            navmap.Index({key: value for key, value in theirs.items() if key != name})
    for key, name in {
        "offset_level0": "offsetLevel0_", "size_data_per_element": "size_data_per_element_",
        "label_offset": "label_offset_", "offset_data": "offsetData_", "max_M": "maxM_",
        "max_M0": "maxM0_", "M": "M_", "mult": "mult_", "size_links_per_element":
        "size_links_per_element_",
    }.items():  # fmt: skip
        for value in (theirs[key] + 1, 0 if theirs[key] else 1):
            with pytest.raises(RuntimeError, match="^Unpickle Error: Invalid value of") as caught:
                navmap.Index(theirs | {key: value})
            if key != "M":  # the others follow from it, and one of them is the first to be wrong
                assert f"of {name}:" in str(caught.value)
    for key, value in {"max_elements": 59, "ef_construction": 3, "cur_element_count": 61,
                       "max_level": 2**31, "enterpoint_node": -1, "dim": 4}.items():  # fmt: skip
        with pytest.raises(RuntimeError, match="^(Unpickle Error: Invalid value of|Index seems)"):
            navmap.Index(theirs | {key: value})
    for name in arrays - {"label_lookup_external", "label_lookup_internal", "element_levels"}:
        for value in (theirs[name][:-1], np.append(theirs[name], theirs[name][:1]),
                      theirs[name].astype(np.int16), np.empty(0, np.int8)):  # fmt: skip
            with pytest.raises(RuntimeError, match="^Unpickle Error: Invalid value of") as caught:
                navmap.Index(theirs | {name: value})
            assert name in str(caught.value) or "element_levels" in str(caught.value)
    levels = theirs["element_levels"]
    for value in (levels[:59], levels + 1, levels - 1, levels * 2**20, levels.astype(float),
                  np.roll(levels, 1)):  # fmt: skip
        with pytest.raises(RuntimeError):
            navmap.Index(theirs | {"element_levels": value})
    with pytest.raises(RuntimeError, match="^Unpickle Error"):
        navmap.Index(theirs | {"label_lookup_internal": theirs["label_lookup_internal"][1:]})


def test_bits_of_a_dictionary_of_hnswlibs(theirs, rng):
    """Whatever they are set to, it is an index or an exception."""
    for name in ("data_level0", "link_lists"):
        for _ in range(150):
            array = theirs[name].copy()
            array[rng.integers(len(array), size=3)] = rng.integers(-128, 128, size=3)
            try:
                ix = navmap.Index(theirs | {name: array})
            except (navmap.Error, ValueError):
                continue
            assert ix.check().damaged == 0
            ix.knn_query(np.zeros((3, 3)), 5)


# Memory ---------------------------------------------------------------------------------------

MEASURE = """
import os, pickle, sys
import numpy as np
import navmap

what, protocol, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def resident(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))

ix = navmap.Index("l2", 100)
ix.init_index(rows, M=8, ef_construction=8)
ix.add_items(np.random.default_rng(1).random((rows, 100), dtype=np.float32))
size = ix.index_file_size()
pickle.dumps(navmap.Index("l2", 4))  # modules and the like
if what == "loads":
    given = pickle.dumps(ix, protocol)
    del ix
before = resident("VmRSS")
with open("/proc/self/clear_refs", "w") as refs:
    refs.write("5")  # the peak from now on
if what == "dumps":
    result = pickle.dumps(ix, protocol)
else:
    result = pickle.loads(given)
grown = resident("VmHWM") - before
print(grown / size, grown / 2**20)
"""


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("what", ["dumps", "loads"])
def test_memory(what, protocol, short):
    """The bytes of the pickle, and hardly more.  hnswlib takes 2 to 6 times the file."""
    if short:
        pytest.skip("a sanitizer keeps what was freed")
    # pickle's own buffer grows by realloc, which glibc may do by copying while it is below this.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    command = [sys.executable, "-c", MEASURE, what, str(protocol), "60000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    ratio, mebibytes = map(float, done.stdout.split())
    assert ratio < 1.15 if what == "dumps" else mebibytes < 40
