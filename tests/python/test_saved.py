"""`save_index` and `load_index`: one file, mapped, and what may happen to it."""

import os
import pickle
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

import navmap
from workers import DEADLINE, vectors_of

DIM = 8
CANNOT_OPEN = "^Cannot open file"
UNSUPPORTED = "^Index seems to be corrupted or unsupported"


@pytest.fixture
def file(tmp_path):
    return str(tmp_path / "saved.bin")


@pytest.fixture
def saved(private, file):
    """An index of 300 items, of which 3 are marked deleted, and its file."""
    ix = private("l2", DIM, 400, M=8, ef_construction=50)
    ix.add_items(vectors_of(range(300), DIM))
    for label in (5, 50, 250):
        ix.mark_deleted(label)
    ix.save_index(file)
    return ix


def content(ix):
    live = sorted(ix.get_ids_list(include_deleted=False))
    return sorted(ix.get_ids_list()), live, ix.get_items(live).tolist()


def same_answers(one, two, ef=10):
    queries = vectors_of(range(50), one.dim, 3)
    for a, b in zip(*(ix.knn_query(queries, 5, ef=ef) for ix in (one, two)), strict=True):
        np.testing.assert_array_equal(a, b)


# What comes back ------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"copy": True}, {"verify": True}], ids=str)
def test_what_comes_back(saved, file, options):
    ix = navmap.Index("l2", DIM)
    assert ix.load_index(file, **options) is None
    assert (ix.M, ix.ef_construction, ix.max_elements) == (8, 50, 400)
    assert (ix.element_count, ix.deleted_count, len(ix), ix.mode) == (300, 3, 297, "r+")
    assert content(ix) == content(saved) and ix.check().sound
    same_answers(ix, saved)
    stats = ix.stats()
    assert stats["in_memory"] and stats["mapped"] is not bool(options.get("copy"))
    assert stats["path"] is None and not stats["flat"] and stats["bounded"]
    with pytest.raises(navmap.Error, match="^The requested to delete element is already deleted"):
        ix.mark_deleted(50)


@pytest.mark.parametrize("space", ["l2", "ip", "cosine"])
def test_spaces(private, file, space):
    ix = private(space, DIM)
    ix.add_items(vectors_of(range(100), DIM))
    ix.save_index(file)
    again = navmap.Index(space, DIM)
    again.load_index(file)
    same_answers(again, ix)


def test_the_space_is_that_of_the_object(saved, file):
    """As hnswlib documents it.  The vectors stay as they are."""
    ix = navmap.Index("ip", DIM)
    ix.load_index(file)
    labels, distances = ix.knn_query(vectors_of([7], DIM), 1)
    live = np.array(saved.get_ids_list(include_deleted=False))
    products = saved.get_items(live) @ vectors_of([7], DIM)[0]
    assert labels.item() == live[products.argmax()]
    assert distances.item() == pytest.approx(1 - products.max(), abs=1e-5)


def test_what_belongs_to_the_object_stays(saved, file):
    saved.set_ef(90)
    ix = navmap.Index("l2", DIM)
    ix.set_ef(77)
    ix.num_threads = 3
    ix.load_index(file)
    assert (ix.ef, ix.num_threads) == (77, 3)


def test_implicit_labels_go_on_after_the_largest(private, file):
    ix = private("l2", DIM)
    ix.add_items(vectors_of([3, 40], DIM), [3, 40])
    ix.save_index(file)
    again = navmap.Index("l2", DIM)
    again.load_index(file)
    again.add_items(vectors_of([41, 42], DIM))
    assert sorted(again.get_ids_list()) == [3, 40, 41, 42]


def test_room(saved, private, file):
    for asked, found in ((0, 400), (10, 400), (299, 400), (300, 300), (350, 350), (1000, 1000)):
        ix = navmap.Index("l2", DIM)
        ix.load_index(file, max_elements=asked)
        assert ix.max_elements == ix.get_max_elements() == found, asked
        if found == 300:
            with pytest.raises(navmap.CapacityError):
                ix.add_items(vectors_of([300], DIM))
        else:
            ix.add_items(vectors_of([300], DIM))
    empty = private("l2", DIM, 70)
    empty.save_index(file)
    ix = navmap.Index("l2", DIM)
    ix.load_index(file)  # hnswlib has no room then
    assert (ix.max_elements, len(ix)) == (70, 0)
    ix.add_items(vectors_of(range(70), DIM))


def test_replacing_is_as_the_call_says(private, file):
    ix = private("l2", DIM, 20, allow_replace_deleted=True)
    ix.add_items(vectors_of(range(20), DIM))
    ix.mark_deleted(7)
    ix.save_index(file)
    without, by_name, by_place = (navmap.Index("l2", DIM) for _ in range(3))
    without.load_index(file)
    by_name.load_index(file, allow_replace_deleted=True)
    by_place.load_index(file, 20, True)
    with pytest.raises(navmap.ReplaceError):
        without.add_items(vectors_of([30], DIM), [30], replace_deleted=True)
    for ix in (by_name, by_place):
        ix.add_items(vectors_of([30], DIM), [30], replace_deleted=True)
        assert sorted(ix.get_ids_list()) == [*range(7), *range(8, 20), 30]


def test_changes_stay_here_until_they_are_saved(saved, file, tmp_path):
    first, second = navmap.Index("l2", DIM), navmap.Index("l2", DIM)
    first.load_index(file)
    second.load_index(file)
    before = content(second)
    first.add_items(vectors_of(range(300, 340), DIM), num_threads=2)
    first.add_items(vectors_of(range(10), DIM, 1), range(10))
    first.mark_deleted(20)
    assert content(second) == before == content(saved)
    first.save_index(file)
    assert content(second) == before
    third = navmap.Index("l2", DIM)
    third.load_index(file)
    assert content(third) == content(first) and third.check().sound
    same_answers(third, first, ef=400)  # links through what was replaced are others now
    assert os.listdir(tmp_path) == ["saved.bin"]


def test_file_size(saved, file):
    for ix in (saved, navmap.Index(index=saved)):
        assert ix.index_file_size() == os.path.getsize(file)
    saved.add_items(vectors_of(range(300, 400), DIM))
    size = saved.index_file_size()
    saved.save_index(file)
    assert size == os.path.getsize(file)


def test_in_another_process(saved, file):
    code = f"""
import navmap
ix = navmap.Index("l2", {DIM})
ix.load_index({file!r})
ix.add_items([[9] * {DIM}], 999)
print(ix.element_count, ix.knn_query([9] * {DIM})[0].item())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("301 999\n", "")


# Paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, os.fsencode, lambda name: name, os.path.relpath])
def test_paths(saved, tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "\u00e4 b\udcff.bin"
    saved.save_index(path_to_index=kind(target))
    assert target.is_file()
    ix = navmap.Index("l2", DIM)
    ix.load_index(path_to_index=kind(target))
    assert len(ix) == 297


def test_links_are_followed(saved, file, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "file", tmp_path / "link"
    link.symlink_to("elsewhere/file")
    for _ in range(2):  # it leads nowhere, then to a file
        saved.save_index(link)
        assert link.is_symlink() and target.is_file() and not target.is_symlink()
    ix = navmap.Index("l2", DIM)
    ix.load_index(link)
    assert len(ix) == 297


def test_nowhere_to_save_to(saved, tmp_path):
    for path, error in (
        (tmp_path / "no" / "such", navmap.NoIndexError),
        (tmp_path, navmap.InvalidInputError),
        ("", navmap.InvalidInputError),
    ):
        with pytest.raises(error):
            saved.save_index(path)
    assert os.listdir(tmp_path) == ["saved.bin"]
    with pytest.raises(FileNotFoundError):
        saved.save_index(tmp_path / "no" / "such")


def test_nothing_to_load(saved, tmp_path, private):
    ix = private("l2", DIM)
    ix.add_items(vectors_of(range(20), DIM))
    before = content(ix)
    (tmp_path / "empty").touch()
    (tmp_path / "junk").write_bytes(b"junk" * 1000)
    os.mkfifo(tmp_path / "fifo")
    whole = (tmp_path / "saved.bin").read_bytes()
    (tmp_path / "short").write_bytes(whole[:-1])
    (tmp_path / "long").write_bytes(whole + b"\0")
    for name in ("nothing", "no/such"):
        with pytest.raises(FileNotFoundError, match=CANNOT_OPEN) as caught:
            ix.load_index(tmp_path / name)
        assert type(caught.value) is navmap.NoIndexError and name in str(caught.value)
    with pytest.raises(navmap.NoIndexError, match=CANNOT_OPEN):
        ix.load_index("")
    for name in ("empty", "junk", "short", "long", "fifo"):
        with pytest.raises(navmap.Error, match=UNSUPPORTED) as caught:
            ix.load_index(tmp_path / name)
        assert isinstance(caught.value, RuntimeError) and name in str(caught.value), name
    assert content(ix) == before
    assert len(ix.knn_query(vectors_of([3], DIM))[0]) == 1


def test_a_directory_is_for_open(make, path, tmp_path):
    ix = make("l2", DIM)
    ix.add_items(vectors_of(range(5), DIM))
    ix.flush()
    other = navmap.Index("l2", DIM)
    largest = max((tmp_path / path).iterdir(), key=lambda file: file.stat().st_size)
    for wrong in (path, tmp_path, *(tmp_path / path).glob("*data*"), largest):
        with pytest.raises(navmap.InvalidInputError, match=f"{UNSUPPORTED}.*open"):
            other.load_index(wrong)


def test_another_dim(saved, file):
    with pytest.raises(navmap.InvalidInputError, match=f"{UNSUPPORTED}.*dim"):
        navmap.Index("l2", DIM + 1).load_index(file)


@pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
def test_verify_finds_what_changed(private, file, at):
    """Loading as such looks at the header only."""
    ix = private("l2", 32)
    ix.add_items(vectors_of(range(600), 32))
    ix.save_index(file)
    with open(file, "r+b") as stream:
        stream.seek(int(at * os.path.getsize(file)))
        byte = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte[0] ^ 0x55]))
    assert not navmap.verify(file).sound
    with pytest.raises(navmap.CorruptIndexError, match=UNSUPPORTED):
        navmap.Index("l2", 32).load_index(file, verify=True)


# Over what is there ---------------------------------------------------------------------------


def test_loading_over_an_index(saved, file, private):
    ix = private("l2", DIM, 10, M=4)
    ix.add_items(vectors_of([1], DIM, 9))
    with pytest.warns(RuntimeWarning) as caught:
        ix.load_index(file)
    text = "Calling load_index for an already inited index. Old index is being deallocated."
    assert [str(warning.message) for warning in caught] == [text]
    assert caught[0].filename == __file__
    assert content(ix) == content(saved) and (ix.M, ix.max_elements) == (8, 400)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning):
            ix.load_index(file)
        assert content(ix) == content(saved)
        ix.close()
        ix.load_index(file)  # nothing is there any more
        navmap.Index("l2", DIM).load_index(file)
    with pytest.raises(navmap.Error, match="already initiated"):
        ix.init_index(10)


def test_calls_under_way_finish_with_the_old_one(saved, file):
    other = navmap.Index("l2", DIM)
    other.init_index(10)
    other.add_items(vectors_of([1], DIM, 5), [777])

    def reload(label):
        with pytest.warns(RuntimeWarning):
            other.load_index(file)
        return True

    assert other.knn_query(vectors_of([1], DIM, 5), filter=reload)[0].item() == 777
    assert other.element_count == 300


def test_not_over_a_directory(make, saved, file):
    ix = make("l2", DIM)
    with pytest.raises(navmap.Error, match=f"^The index is already initiated.*{ix.path}"):
        ix.load_index(file)
    ix.add_items(vectors_of([1], DIM))


# What happens to the file ---------------------------------------------------------------------


@pytest.mark.parametrize("change", [os.remove, lambda name: os.rename(name, name + "2")])
def test_it_goes(saved, file, change):
    ix = navmap.Index("l2", DIM)
    ix.load_index(file)
    change(file)
    assert content(ix) == content(saved)
    ix.add_items(vectors_of(range(300, 400), DIM))
    ix.save_index(file)
    assert len(ix) == 397


@pytest.mark.parametrize("change", ["cut", "overwritten"])
def test_it_loses_its_bytes(saved, file, change):
    mapped, copied = navmap.Index("l2", DIM), navmap.Index("l2", DIM)
    mapped.load_index(file)
    copied.load_index(file, copy=True)
    with open(file, "r+b") as stream:
        if change == "cut":
            stream.truncate(4096)
        else:
            stream.write(b"\0" * 5000)
    for call in (
        lambda: mapped.knn_query(vectors_of([3], DIM)),
        lambda: mapped.get_items([3]),
        lambda: mapped.add_items(vectors_of([3], DIM)),
        lambda: mapped.save_index(file),
    ):
        with pytest.raises(navmap.CorruptIndexError):
            call()
    mapped.close()
    assert content(copied) == content(saved)
    copied.save_index(file)
    again = navmap.Index("l2", DIM)
    again.load_index(file, verify=True)


def test_another_file_takes_its_place(saved, file):
    """By whoever renames one over it: save_index of this process, or of another one."""
    before = content(saved)
    holders = [navmap.Index("l2", DIM) for _ in range(2)]
    for ix in holders:
        ix.load_index(file)
    saved.add_items(vectors_of(range(300, 310), DIM))
    saved.save_index(file)
    holders[0].mark_deleted(7)
    holders[1].save_index(file)  # what it lies over, once more
    assert content(holders[1]) == before
    assert content(holders[0])[1] == [label for label in before[1] if label != 7]
    late = navmap.Index("l2", DIM)
    late.load_index(file, verify=True)
    assert content(late) == before


def test_bytes_in_its_middle_change(saved, file):
    """Neither size nor header tell that, nor do they have to: it is the vector's checksum that
    refuses, and a label found is one that is there."""
    ix = navmap.Index("l2", DIM)
    ix.load_index(file)
    vector = saved.get_items([9]).tobytes()
    with open(file, "r+b") as stream:
        at = stream.read().index(vector)
        stream.seek(at)
        stream.write(b"\xff\x00\x80\x3f")
    with pytest.raises(navmap.CorruptIndexError, match="9"):
        ix.get_items([9])
    labels, distances = ix.knn_query(vectors_of(range(50), DIM), 5)
    assert set(labels.reshape(-1).tolist()) <= set(content(saved)[1])
    other = navmap.Index("l2", DIM)
    with pytest.raises(navmap.CorruptIndexError):
        other.load_index(file, verify=True)


HOLDER = """
import sys
import numpy as np
import navmap
from workers import DEADLINE, vectors_of

file, dim = sys.argv[1], int(sys.argv[2])
ix = navmap.Index("l2", dim)
ix.load_index(file)
queries = np.tile(vectors_of(range(300), dim, 3), (40, 1))
expected = ix.knn_query(queries[:300], 3)
print("searching", flush=True)
while True:
    labels, distances = ix.knn_query(queries, 3, num_threads=1)
    for got, wanted in zip((labels, distances), expected):
        assert (got.reshape(40, *wanted.shape) == wanted).all()
"""


# Their report of a signal that is wanted here would count as a finding.
SANITIZERS = ("ASAN_OPTIONS", "TSAN_OPTIONS")


@pytest.mark.parametrize("change", ["removed", "replaced", "cut"])
def test_while_another_process_searches(saved, file, change):
    """What is done to the name is not noticed.  A cut ends the process, by an exception or by
    SIGBUS, whichever comes first: it never goes on with answers of something else."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, file, str(DIM)],
        cwd=os.path.dirname(__file__), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {name: f"{os.environ.get(name, '')}:handle_sigbus=0" for name in SANITIZERS},
    )  # fmt: skip
    try:
        assert child.stdout.readline() == "searching\n"
        time.sleep(0.1)
        if change == "removed":
            os.remove(file)
        elif change == "replaced":
            saved.mark_deleted(1)
            saved.save_index(file)
        else:
            os.truncate(file, 4096)
        if change != "cut":
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(0.5)
            return
        child.wait(DEADLINE)
        said = child.stderr.read()
        assert child.returncode == -signal.SIGBUS or "CorruptIndexError" in said
    finally:
        child.kill()
        child.communicate()


# Directories ----------------------------------------------------------------------------------


def test_a_directory_is_saved_too(make, path, file):
    ix = make("cosine", DIM, M=6)
    ix.add_items(vectors_of(range(200), DIM))
    ix.mark_deleted(9)
    ix.save_index(file)
    with navmap.open(path) as reader:
        with pytest.raises(navmap.LockedError):
            reader.save_index(file)
        ix.close()
        reader.save_index(file)
        assert reader.index_file_size() == os.path.getsize(file)
        twin = navmap.Index(index=reader)
    loaded = navmap.Index("cosine", DIM)
    loaded.load_index(file)
    for index in (loaded, twin, pickle.loads(pickle.dumps(loaded))):
        assert (index.M, index.element_count, len(index), index.path) == (6, 200, 199, None)
        index.add_items(vectors_of(range(200, 2000), DIM))  # it grew by itself and goes on to
        assert len(index) == 1999 and index.check().sound
    with navmap.open(path) as reader:
        assert len(reader) == 199


def test_large_blocks_are_whole(rng, tmp_path):
    """A hole in a block of 2 MiB would keep the file from the large pages of the system's cache."""
    vectors = rng.standard_normal((17_000, 1000), dtype=np.float32)
    index = navmap.Index("l2", 1000)
    index.init_index(len(vectors), M=16, ef_construction=20)
    index.add_items(vectors)
    path = str(tmp_path / "index")
    index.save_index(path)
    index = navmap.Index("l2", 1000)
    index.load_index(path)
    chunks, size = index.stats()["nchunks"], os.path.getsize(path)
    assert size > chunks * 4 << 20
    with open(path, "rb") as file:
        hole = os.lseek(file.fileno(), 0, os.SEEK_HOLE)
    assert hole > size // chunks * (chunks - 1)  # none but in the last one, which is not full
