"""navmap salvage: whatever is damaged, what is sound is saved, and the rest is named."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import navmap
from cli import COMMAND, needed, refused, report, run

pytestmark = needed

DIM = 10
ITEMS = 300
UPDATED = range(0, 60)  # their first slots are DEAD
DELETED = [5, 70, 71]
PAGE = 4096


@pytest.fixture
def broken(tmp_path, monkeypatch, rng):
    """An index "i", closed, to be broken; what is in it."""
    monkeypatch.chdir(tmp_path)
    vectors = rng.standard_normal((ITEMS + len(UPDATED), DIM), dtype=np.float32)
    with navmap.create("i", "l2", DIM, M=5, ef_construction=60, max_elements=1000) as index:
        index.add_items(vectors[: len(UPDATED)], UPDATED)
        index.add_items(vectors[len(UPDATED) :], np.arange(ITEMS))
        for label in DELETED:
            index.mark_deleted(label)
    return Broken(vectors[len(UPDATED) :])


class Broken:
    def __init__(self, vectors):
        self.items = dict(enumerate(vectors))
        self.file = Path("i/data-00000001.navmap")
        self.bytes = bytearray(self.file.read_bytes())
        bytes_ = report("info", "i")["bytes"]
        capacity = report("info", "i")["counts"]["capacity"]
        self.at = {}  # array -> (offset, stride); there is one chunk
        place = 65536
        for name in ("state", "row", "upper", "tag", "code", "vector"):
            self.at[name] = place, bytes_[name] // capacity
            place += -(-bytes_[name] // PAGE) * PAGE
        assert report("info", "i")["counts"]["chunks"] == 1

    def offset(self, array, slot):
        return self.at[array][0] + slot * self.at[array][1]

    def slot_of(self, label):
        """The one that is not DEAD."""
        for slot in range(1, ITEMS + len(UPDATED) + 1):
            at = self.offset("tag", slot)
            state = self.bytes[self.offset("state", slot)] & 3
            if int.from_bytes(self.bytes[at : at + 8], "little") == label and state != 3:
                return slot
        raise LookupError(label)

    def write(self):
        self.file.write_bytes(self.bytes)

    def saved(self, *options, code=0, missing=(), out="o"):
        """Salvage; all but the missing ones are there, as they were."""
        before = {p.name: p.read_bytes() for p in Path("i").iterdir()}
        found = report("salvage", *options, "i", out, code=code)
        assert {p.name: p.read_bytes() for p in Path("i").iterdir()} == before
        assert report("verify", out)["verdict"] == "sound"
        left = {k: v for k, v in self.items.items() if k not in missing}
        live = [label for label in left if label not in DELETED]
        assert found["live"] == len(live) and found["deleted"] == len(left) - len(live)
        with navmap.open(out, "r+") as index:
            assert sorted(index.get_ids_list()) == sorted(left)
            assert sorted(index.get_ids_list(include_deleted=False)) == live
            for label in set(DELETED) - set(missing):
                index.unmark_deleted(label)
            np.testing.assert_array_equal(index.get_items(sorted(left)), [*left.values()])
        assert sorted(os.listdir()) == sorted(["i", out])
        shutil.rmtree(out)
        return found


def sections(found, kind):
    return [f["section"] for f in found["findings"] if f["kind"] == kind]


def test_a_sound_one(broken):
    found = broken.saved()
    assert found["findings"] == [] and found["log_read"] and found["labels_read"]
    looked = report("salvage", "--dry-run", "i")
    assert looked["out"] is None and looked["live"] == ITEMS - len(DELETED)
    assert os.listdir() == ["i"]
    run("salvage", "i", "o")
    made, was = report("info", "o"), report("info", "i")
    assert made["parameters"] == was["parameters"]
    assert made["counts"]["dead"] == 0
    refused("salvage", "i", "o")


@pytest.mark.parametrize("how", ["removed", "empty", "zeros", "garbage", "cut", "another's"])
def test_without_lmdb(broken, how, rng):
    """Labels come from the slots."""
    wal = Path("i/wal.mdb")
    whole = wal.read_bytes()
    if how == "removed":
        wal.unlink()
    elif how == "another's":
        navmap.create("x", "l2", 3).close()
        shutil.move("x/wal.mdb", wal)
        shutil.rmtree("x")
    else:
        content = {
            "empty": b"",
            "zeros": bytes(len(whole)),
            "garbage": rng.bytes(len(whole)),
            "cut": whole[: 2 * PAGE],
        }
        wal.write_bytes(content[how])
    found = broken.saved()
    assert not found["labels_read"] and not found["log_read"] and "log" in sections(found, "warning")
    assert broken.saved("--without-log")["findings"]


def test_pages_of_lmdb(broken, rng, short):
    """Damage in LMDB's own pages may crash who reads them: not the command."""
    wal = Path("i/wal.mdb")
    whole = wal.read_bytes()
    for _ in range(4 if short else 10):
        damaged = bytearray(whole)
        for page in rng.integers(2, len(whole) // PAGE, 4).tolist():
            damaged[page * PAGE + 8 : page * PAGE + 64] = rng.bytes(56)
        wal.write_bytes(damaged)
        broken.saved()


def test_lock_missing(broken):
    os.remove("i/LOCK")
    assert "lock" in sections(broken.saved(), "warning")


@pytest.mark.parametrize("log", [(), ("--without-log",)])
def test_vectors(broken, rng, log):
    """Those that do not match their checksum are left out, and listed."""
    labels = sorted(rng.choice(ITEMS, 20, replace=False).tolist())
    slots = [broken.slot_of(label) for label in labels]
    for slot in slots:
        array, size = [("vector", 4 * DIM), ("tag", 24)][rng.integers(2)]
        broken.bytes[broken.offset(array, slot) + rng.integers(size)] ^= 1 << rng.integers(8)
    broken.write()
    found = broken.saved(*log, code=1, missing=labels)
    assert found["left_out"] == len(labels)
    damage = [f for f in found["findings"] if f["kind"] == "damage"]
    assert sorted(f["slot"] for f in damage) == sorted(slots)
    if not log:  # the table knows whose they were
        assert sorted(int(f["message"].split()[1].strip(":")) for f in damage) == labels
    text = run("salvage", "--limit=4", *log, "i", "o", code=1).stdout
    assert "LEFT OUT" in text and f"and {len(found['findings']) - 4} further" in text


def test_states(broken):
    """A state word is wrong: the label table knows better."""
    live, dead = broken.slot_of(100), 1  # slot 1 was label 0's first
    broken.bytes[broken.offset("state", live)] ^= 1  # LIVE to FREE
    broken.bytes[broken.offset("state", live + 1) + 1] ^= 4  # its generation
    broken.bytes[broken.offset("state", dead)] ^= 2  # DEAD to LIVE
    broken.write()
    found = broken.saved()
    assert sections(found, "warning") == ["state"] * 3


def test_twins(broken):
    """Nobody tells which of two slots with one label is newer: the later one is taken, and said."""
    broken.bytes[broken.offset("state", 1)] ^= 2
    broken.write()
    found = broken.saved("--without-log", code=1)
    assert sections(found, "damage") == ["state"] and found["left_out"] == 1
    assert "label 0 is in slots 1 and" in found["findings"][-1]["message"]


def test_graph(broken, rng):
    """Rows are all garbage: the new graph is built from the vectors."""
    start, end = broken.at["row"][0], broken.at["tag"][0]
    broken.bytes[start:end] = rng.bytes(end - start)
    broken.write()
    broken.saved()
    run("salvage", "i", "o")
    with navmap.open("o") as index:
        queries = rng.standard_normal((50, DIM), dtype=np.float32)
        found, exact = index.knn_query(queries, 5, ef=100)[0], index.exact_query(queries, 5)[0]
        assert (found == exact).mean() > 0.98


def test_root(broken, rng):
    broken.bytes[4096 : 4096 + 128] = rng.bytes(128)
    broken.write()
    found = broken.saved()
    assert "root" in sections(found, "warning")


def test_header(broken, rng, short):
    """One bit anywhere is mended; with more no byte has a meaning."""
    whole = bytes(broken.bytes)
    for bit in rng.integers(0, 8 * PAGE, 3 if short else 6).tolist():
        broken.bytes[bit // 8] ^= 1 << bit % 8
        broken.write()
        for log in ((), ("--without-log",)):
            assert "header" in sections(broken.saved(*log), "warning")
        broken.bytes[:] = whole
    broken.bytes[1000:2000] = rng.bytes(1000)  # reserved ones: zeros are what they were
    broken.write()
    assert "header" in sections(broken.saved(), "warning")
    broken.bytes[:] = whole
    broken.bytes[60] ^= 1
    broken.bytes[64] ^= 1
    broken.write()
    assert "header" in refused("salvage", "i", "o")
    assert os.listdir() == ["i"]


def test_cut(broken):
    """A file that ends in the midst of its vectors."""
    slots = {label: broken.slot_of(label) for label in broken.items}
    first = 200
    os.truncate(broken.file, broken.offset("vector", first) + 3)
    missing = [label for label, slot in slots.items() if slot >= first]
    assert missing
    broken.saved(code=1, missing=missing)
    broken.saved("--without-log", code=1, missing=missing)
    os.truncate(broken.file, 3000)
    refused("salvage", "i", "o")


def crashed(path):
    program = (
        "import os, sys, numpy as np, navmap\n"
        f"ix = navmap.create(sys.argv[1], 'l2', {DIM})\n"
        f"v = np.random.default_rng(5).random((500, {DIM}), dtype=np.float32)\n"
        "for i in range(0, 500, 50): ix.add_items(v[i : i + 50])\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", program, path], check=True, timeout=60)


def test_after_a_crash(tmp_path, monkeypatch):
    """What the log has and the data file has not is saved too; a torn data file is mended by it."""
    monkeypatch.chdir(tmp_path)
    crashed("i")
    data = Path("i/data-00000001.navmap")
    whole = data.read_bytes()
    torn = bytearray(whole)
    torn[65536 : 65536 + 8192] = bytes(8192)  # states, as of before
    data.write_bytes(torn)
    found = report("salvage", "i", "o")
    assert found["live"] == 500 and found["log_read"]
    data.write_bytes(whole)
    assert report("salvage", "--without-log", "i", "p")["live"] == 500
    wal = Path("i/wal.mdb")
    log = bytearray(wal.read_bytes())
    where = log.find(b"NVW1")  # a record
    log[where + 60] ^= 1
    wal.write_bytes(log)
    found = report("salvage", "i", "q")
    assert found["live"] == 500
    if not found["log_read"]:  # else it was an old one
        assert "log" in sections(found, "warning")


def test_a_saved_file(broken, rng):
    run("save", "i", "s")
    whole = bytearray(Path("s").read_bytes())
    for at in rng.integers(65536, len(whole), 30).tolist():
        whole[at] ^= 1
    Path("s").write_bytes(whole)
    done = subprocess.run([COMMAND, "salvage", "--json", "s", "o"], capture_output=True, timeout=60)
    assert done.returncode in (0, 1)
    assert report("verify", "o")["verdict"] == "sound"
    with navmap.open("o") as index:
        labels = index.get_ids_list(include_deleted=False)
        assert len(labels) > ITEMS - 60
        for label, vector in zip(labels, index.get_items(labels), strict=True):
            np.testing.assert_array_equal(vector, broken.items[label])


def test_refused(broken):
    with navmap.open("i", "r+"):
        assert str(os.getpid()) in refused("salvage", "i", "o")
    os.mkdir("empty")
    assert "not a navmap index" in run("salvage", "empty", "o", code=2).stderr
    refused("salvage", "nothing", "o")
    Path("text").write_text("no index")
    refused("salvage", "text", "o")
    refused("salvage", "i", "no/such/parent")
    assert sorted(os.listdir()) == ["empty", "i", "text"]
