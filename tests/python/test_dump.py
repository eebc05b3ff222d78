"""tools/dump.py, which knows the format from its page alone, beside the library."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import navmap

pytest.importorskip("lmdb", reason="dump.py needs the package lmdb")
pytest.importorskip("xxhash", reason="dump.py needs the package xxhash")

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

import dump  # noqa: E402

DIM = 9


@pytest.fixture
def changed(path, rng):
    """An index with a history: items of all four states, labels that moved, several levels."""
    with navmap.create(path, "l2", DIM, M=4, allow_replace_deleted=True) as index:
        for _ in range(4):
            index.add_items(rng.standard_normal((700, DIM), dtype=np.float32), np.arange(700) * 3)
        for label in range(0, 300, 30):
            index.mark_deleted(label)
        index.add_items(np.ones((3, DIM), np.float32), [9001, 9002, 9003], replace_deleted=True)
    return path


def beside(path):
    """All that both know, equal; dump's index."""
    theirs = dump.read(path)
    theirs.check()
    items = {i["label"]: i for i in map(theirs.item, theirs.slots()) if i["status"] != "DEAD"}
    live = [label for label, item in items.items() if item["status"] == "LIVE"]
    with navmap.open(path) as ours:
        stats = ours.stats()
        assert sorted(items) == sorted(ours.get_ids_list()) == sorted(theirs.labels)
        assert sorted(live) == sorted(ours.get_ids_list(include_deleted=False))
        for label, vector in zip(live, ours.get_items(live) if live else [], strict=True):
            np.testing.assert_array_equal(np.float32(items[label]["vector"]), vector)
    root = theirs.root()
    for name in ("n_live", "n_deleted", "n_dead", "n_free", "nslots", "nchunks", "inserted"):
        assert root[name] == stats[name], name
    summary = theirs.summary()
    for name in ("dim", "M", "ef_construction", "space"):
        assert summary[name] == stats[name], name
    return theirs


def test_a_directory(changed):
    found = beside(changed)
    assert {found.state(s)[0] for s in range(1, found.root()["nslots"])} == {0, 1, 2, 3}
    assert max(len(found.item(slot)["rows"]) for slot in found.slots()) > 3


@pytest.mark.parametrize("dim", [1, 55, 56, 57, 64, 128, 300])
def test_codes(path, dim, rng):
    """The code rows are those of the vectors, by the format's arithmetic; or there are none."""
    with navmap.create(path, "l2", dim) as index:
        index.add_items((rng.standard_normal((60, dim)) * 10.0 ** rng.integers(-20, 20)).astype("f4"))
        index.add_items(np.zeros((1, dim), np.float32))
        index.add_items(np.full((1, dim), 1e-36, np.float32))
    found = beside(path)
    held = dim % 64 == 0 or dim % 64 > 56  # the scale is in the codes
    assert found.h.scheme == (2 if held else 1)
    assert max(map(abs, found.item(1)["code"]["codes"])) in ((126, 127) if held else (127,))
    with navmap.create(path + "2", "l2", dim, codes=None) as index:
        index.add_items(np.ones((1, dim), np.float32))
    assert beside(path + "2").h.scheme == 0


def test_an_empty_directory(path):
    navmap.create(path, "cosine", 3).close()
    assert beside(path).root()["entry"] is None


def test_after_a_crash(path):
    """What is in the log only is read as recovery will make it."""
    program = (
        "import os, sys, numpy as np, navmap\n"
        f"ix = navmap.create(sys.argv[1], 'l2', {DIM}, M=4)\n"
        "rng = np.random.default_rng(5)\n"
        f"for _ in range(3): ix.add_items(rng.random((200, {DIM}), dtype=np.float32))\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", program, path], check=True, timeout=60)
    before = dump.read(path)
    before.check()
    assert before.records > 0
    images = [before.item(slot) for slot in before.slots()]
    after = beside(path)  # which recovers; the index is closed with its log empty
    with navmap.open(path, "r+"):
        pass
    after = beside(path)
    assert after.records == 0 and images == [after.item(slot) for slot in after.slots()]


def test_a_saved_file_and_its_links(changed, tmp_path):
    """Rows as the library has them: hnswlib's format tells them, element i being slot i + 1."""
    from cli import COMMAND, run

    if COMMAND is None:
        pytest.skip("no navmap command")
    run("save", changed, tmp_path / "saved")
    run("export", tmp_path / "saved", tmp_path / "x.bin")
    theirs = dump.read(tmp_path / "saved")
    theirs.check()
    image = (tmp_path / "x.bin").read_bytes()
    count, size = np.frombuffer(image, "<u8", 2, 16).tolist()
    assert count == theirs.root()["nslots"] - 1
    uppers, top = 96 + count * size, theirs.root()["entry"]["level"]
    for i in range(count):
        item, at = theirs.item(i + 1), 96 + i * size
        links, deleted = np.frombuffer(image, "<u2", 2, at).tolist()
        row = (np.frombuffer(image, "<u4", links, at + 4) + 1).tolist()
        assert (row, bool(deleted)) == (item["rows"][0], item["status"] == "DELETED")
        label = int(np.frombuffer(image, "<u8", 1, at + size - 8)[0])
        vector = np.frombuffer(image, "<f4", DIM, at + size - 8 - 4 * DIM).tolist()
        assert (label, vector) == (item["label"], item["vector"])
        nbytes = int(np.frombuffer(image, "<u4", 1, uppers)[0])
        above = item["rows"][1 : top + 1]  # hnswlib has no level above that of the entry point
        assert nbytes == len(above) * (4 + 4 * 4)
        for level, row in enumerate(above):
            list_at = uppers + 4 + level * 20
            links = int(np.frombuffer(image, "<u2", 1, list_at)[0])
            assert (np.frombuffer(image, "<u4", links, list_at + 4) + 1).tolist() == row
        uppers += 4 + nbytes


@pytest.mark.parametrize("sealed", [False, True])
def test_damage(changed, tmp_path, rng, short, sealed):
    """Of bits in checksummed regions both say that they are damaged."""
    name = Path(changed) / "data-00000001.navmap"
    if sealed:
        from cli import COMMAND, run

        if COMMAND is None:
            pytest.skip("no navmap command")
        run("save", changed, tmp_path / "saved")
        name = tmp_path / "saved"
    path = str(name if sealed else changed)
    theirs = dump.read(path)
    used = [s for s in range(1, theirs.root()["nslots"]) if theirs.state(s)[0] != 0]
    bits = [*(rng.integers(0, 8 * 4096, 5)), *(8 * 4096 + rng.integers(0, 8 * 128, 5))]
    for slot in rng.choice(used, 4 if short else 25):
        start, size = theirs.ranges(dump.PAYLOAD, int(slot))[rng.choice([0, 2])]
        bits.append(8 * start + rng.integers(0, 8 * size))
    whole = name.read_bytes()
    for bit in map(int, bits):
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        name.write_bytes(broken)
        assert not navmap.verify(path).sound
        with pytest.raises(dump.Wrong):
            dump.read(path).check()
    name.write_bytes(whole)
    dump.read(path).check()


def test_the_program(changed):
    def run(*arguments):
        done = subprocess.run(
            [sys.executable, TOOLS / "dump.py", *arguments], capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout, done.stderr

    code, out, _ = run("--check", changed)
    assert code == 0 and json.loads(out)["root"]["n_deleted"] == 7
    code, out, _ = run("--item", "9001", changed)
    assert code == 0 and json.loads(out)["vector"] == [1.0] * DIM
    code, out, _ = run("--items", changed)
    lines = out.partition("\n}\n")[2].splitlines()
    assert code == 0 and len(lines) == len(list(dump.read(changed).slots()))
    code, _, err = run("--item", "9999", changed)
    assert code == 1 and "9999" in err
