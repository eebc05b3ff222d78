"""The navmap command: exit codes, text, JSON, and that `info` and `verify` change nothing."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import navmap
from cli import COMMAND, needed, report, run

COMMANDS = ("info", "verify", "query", "import", "export", "compact", "save", "salvage")
DIM = 12
ITEMS = 500
DELETED = 25


pytestmark = needed


def build(path):
    rng = np.random.default_rng(3)
    with navmap.create(str(path), space="cosine", dim=DIM, M=6) as ix:
        ix.add_items(rng.standard_normal((ITEMS, DIM), dtype=np.float32), np.arange(ITEMS))
        for label in range(DELETED):
            ix.mark_deleted(label)


@pytest.fixture
def index(tmp_path):
    build(tmp_path / "index")
    return tmp_path / "index"


@pytest.fixture
def crashed(tmp_path):
    """An index whose writer ended without closing it: its log awaits recovery."""
    program = (
        "import os, sys, numpy as np, navmap\n"
        f"ix = navmap.create(sys.argv[1], space='l2', dim={DIM})\n"
        f"ix.add_items(np.random.default_rng(5).random(({ITEMS}, {DIM}), dtype=np.float32))\n"
        "os._exit(0)\n"
    )
    path = tmp_path / "crashed"
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, timeout=60)
    return path


def bytes_of(path):
    return {p.name: p.read_bytes() for p in path.iterdir() if p.name != "wal.mdb-lock"}


def data_file(path):
    return path / "data-00000001.navmap"


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x20]))


# --- the program itself ------------------------------------------------------------------------


def test_help_and_version():
    usage = run("--help").stdout
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\w", usage, re.MULTILINE)
    assert run("--version").stdout == f"navmap {navmap.__version__}\n"
    for command in COMMANDS:
        text = run(command, "--help").stdout
        assert "example:" in text and f"usage: navmap {command}" in text


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("--nonsense",),
        ("info",),
        ("info", "--nonsense", "x"),
        ("info", "x", "y"),
        ("verify",),
        ("verify", "--limit=many", "x"),
        ("verify", "--limit=-1", "x"),
        ("query",),
        ("query", "-k", "0", "x"),
        ("query", "--space=up", "x"),
        ("query", "a", "b", "c"),
        ("import", "x"),
        ("import", "--M=1", "x", "y"),
        ("import", "--space=up", "x", "y"),
        ("import", "--threads=none", "x", "y"),
        ("export", "x"),
        ("export", "--format=csv", "x", "y"),
        ("save", "x"),
        ("salvage", "x"),
        ("salvage", "--dry-run", "x", "y"),
    ],
)
def test_wrong_usage(arguments):
    done = run(*arguments, code=2)
    assert done.stdout == "" and done.stderr != ""


@pytest.mark.parametrize("command", ["info", "verify"])
@pytest.mark.parametrize("what", ["missing", "file", "empty directory"])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_no_index(tmp_path, command, what, options):
    path = tmp_path / "x"
    if what == "file":
        path.write_text("not an index")
    elif what == "empty directory":
        path.mkdir()
    done = run(command, *options, path, code=2)
    assert done.stdout == ""
    assert done.stderr.startswith("navmap: ") and str(path) in done.stderr


def test_full_disk(index):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [COMMAND, "info", str(index)], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert done.returncode == 2 and "writing the report" in done.stderr


# --- info --------------------------------------------------------------------------------------


def test_info(index):
    before = bytes_of(index)
    found = report("info", index)
    assert found["path"] == str(index)
    assert found["library"] == navmap.__version__ and found["simd"] == navmap.simd()
    assert found["form"] == "directory"
    assert found["format"] == {"major": 1, "minor": 0}
    assert found["parameters"]["space"] == "cosine"
    assert found["parameters"]["dim"] == DIM and found["parameters"]["M"] == 6
    assert found["counts"]["live"] == ITEMS - DELETED
    assert found["counts"]["deleted"] == DELETED
    assert found["counts"]["dead"] == 0 and found["counts"]["free"] == 0
    assert found["counts"]["capacity"] >= ITEMS
    assert 0 < found["entry"]["slot"] <= ITEMS
    assert found["bytes"]["data_file"] == data_file(index).stat().st_size
    assert found["bytes"]["vector"] >= ITEMS * DIM * 4
    assert found["bytes"]["lmdb_allocated"] > 0
    assert found["log"]["last_lsn"] == found["log"]["checkpoint_lsn"] > 0
    assert found["log"]["needs_recovery"] is False
    assert found["writer"] == {"held": False, "pid": None}
    text = run("info", index).stdout
    for word in ("cosine", str(ITEMS - DELETED), "checkpoint", "writer", navmap.__version__):
        assert word in text
    assert bytes_of(index) == before


def test_info_of_an_empty_index(tmp_path):
    navmap.create(str(tmp_path / "e"), space="l2", dim=3).close()
    found = report("info", tmp_path / "e")
    assert found["entry"] is None and found["counts"]["live"] == 0
    assert "entry point" not in run("info", tmp_path / "e").stdout


def test_info_beside_a_writer(index):
    with navmap.open(str(index), "r+") as ix:
        ix.add_items(np.ones((1, DIM), dtype=np.float32), [9999])
        found = report("info", index)
        assert found["writer"] == {"held": True, "pid": os.getpid()}
        assert found["counts"]["live"] == ITEMS - DELETED + 1
        assert found["log"]["last_lsn"] == found["log"]["checkpoint_lsn"] + 1
        assert found["log"]["needs_recovery"] is False
        assert f"pid {os.getpid()}" in run("info", index).stdout


def test_info_after_a_crash(crashed):
    before = bytes_of(crashed)
    found = report("info", crashed)
    assert found["log"]["needs_recovery"] is True
    assert found["counts"]["live"] == ITEMS
    assert "needed" in run("info", crashed).stdout
    assert bytes_of(crashed) == before


def test_info_of_a_saved_file(index, tmp_path):
    """As of a directory, without log and writer."""
    run("save", index, tmp_path / "saved")
    of_index, of_file = report("info", index), report("info", tmp_path / "saved")
    assert of_file["form"] == "file"
    assert of_file["parameters"] == of_index["parameters"]
    for name in ("live", "deleted"):
        assert of_file["counts"][name] == of_index["counts"][name]
    text = run("info", tmp_path / "saved").stdout
    assert "sealed file" in text and "checkpoint" not in text


# --- verify ------------------------------------------------------------------------------------


def test_sound(index):
    before = bytes_of(index)
    found = report("verify", index)
    assert found["verdict"] == "sound" and found["findings"] == []
    assert found["damaged"] == 0 and found["warnings"] == 0 and found["findings_omitted"] == 0
    checked = found["checked"]
    assert checked["slots"] == checked["rows"] == checked["payloads"] == checked["labels"] == ITEMS
    assert checked["reachable"] == ITEMS - DELETED
    assert "sound" in run("verify", index).stdout
    assert report("verify", "--quick", index)["checked"]["slots"] == 0
    assert "quick" in run("verify", "-q", index).stdout
    assert bytes_of(index) == before


def test_damaged(index):
    # The vectors' place in the one chunk follows from the sizes of the arrays before them.
    size = data_file(index).stat().st_size
    found = report("info", index)
    row = found["bytes"]["vector"] // found["counts"]["capacity"]
    assert found["counts"]["chunks"] == 1
    vectors = 65536 + sum(
        -(-found["bytes"][part] // 4096) * 4096 for part in ("state", "row", "upper", "tag", "code")
    )
    assert vectors + found["bytes"]["vector"] <= size
    slot = 17
    flip(data_file(index), vectors + slot * row + 5)
    found = report("verify", index, code=1)
    assert found["verdict"] == "damaged" and found["damaged"] == 1
    (finding,) = found["findings"]
    assert finding["kind"] == "damage" and finding["section"] == "payload"
    assert finding["slot"] == slot and 65536 < finding["offset"] < vectors
    assert "expected" in finding["message"] and "found" in finding["message"]
    text = run("verify", index, code=1).stdout
    assert "DAMAGE" in text and "slot 17" in text and "damaged, 1 finding" in text
    assert report("verify", "--quick", index)["verdict"] == "sound"


def test_damaged_root(index):
    flip(data_file(index), 4096 + 40)
    found = report("verify", "--quick", index, code=1)
    assert found["findings"][0]["section"] == "root"
    done = run("info", index, code=2)
    assert "verify" in done.stderr


def test_limit(index):
    for offset in range(65536 + 4, 65536 + 4 + 40 * 4, 4):  # generations of forty state words
        flip(data_file(index), offset)
    full = report("verify", index, code=1)
    assert full["damaged"] >= 40 and full["findings_omitted"] == 0
    few = report("verify", "--limit=7", index, code=1)
    assert len(few["findings"]) == 7
    assert few["findings"] == full["findings"][:7]
    assert few["findings_omitted"] == len(full["findings"]) - 7
    assert "not printed" in run("verify", "-l", "0", index, code=1).stdout


def test_verify_beside_a_writer(index):
    with navmap.open(str(index), "r+") as ix:
        ix.add_items(np.full((3, DIM), 2, dtype=np.float32), [7001, 7002, 7003])
        found = report("verify", index)
        assert found["verdict"] == "sound"
        assert found["checked"]["labels"] == ITEMS + 3
        assert found["checked"]["log_records"] == 1


def test_verify_after_a_crash(crashed):
    before = bytes_of(crashed)
    found = report("verify", crashed)
    assert found["verdict"] == "sound" and found["damaged"] == 0
    assert found["findings"][0]["kind"] == "warning"
    assert found["findings"][0]["section"] == "log"
    assert "recovery" in found["findings"][0]["message"]
    assert found["checked"]["log_records"] >= 1 and found["checked"]["labels"] == ITEMS
    assert bytes_of(crashed) == before


def test_strange_file_names(tmp_path):
    """JSON stays JSON whatever the directory is called."""
    name = os.fsencode(str(tmp_path)) + b'/a "quoted" \\ \xff\xc3\xa9\n\xf0\x9f\x98\x80'
    build(tmp_path / "plain")
    os.rename(tmp_path / "plain", name)
    done = subprocess.run([COMMAND, b"verify", b"--json", name], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    path = json.loads(done.stdout.decode("ascii"))["path"]
    assert path.endswith('/a "quoted" \\ \ufffd\xe9\n\U0001f600')


def test_truncated(index):
    """Said as damage; no signal."""
    for name in (data_file(index), index / "wal.mdb"):
        whole = name.read_bytes()
        for length in (16384, 8192, 5000, 100, 1, 0):
            os.truncate(name, length)
            assert report("verify", index, code=1)["damaged"] >= 1
        name.write_bytes(whole)
    assert report("verify", index)["damaged"] == 0
