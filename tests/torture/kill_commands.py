"""kill -9 at every step of the commands that write: import, compact, salvage, save, export.

    kill_commands.py NAVMAP DIE_AT_LIBRARY

Each command is run once to count its effects on files (tests/support/die_at.c), then once for each
of them, to be killed just before it.  After each kill:
  C1  at the target there is what was there before, or the whole new thing
  C2  an index that was added to is sound, has all that it had, and of the new rows the first ones
  C3  the same command, run again, does its work, and leaves nothing else behind
  C4  an index that is compacted has each live item under its label, bit for bit
NAVMAP_TIER=ci and long: 20 and 200 rounds, each with data of its own (of 33 MB: 20 both times).
"""

import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

DIM = 5
ITEMS = 90
ROUNDS = {"test": 1, "ci": 20, "long": 200}


class Failed(Exception):
    pass


def expect(what, condition):
    if not condition:
        raise Failed(what)


class Bench:
    """A directory to work in, and the command."""

    def __init__(self, navmap, library, seed):
        self.navmap, self.library = navmap, library
        self.random = random.Random(seed)
        # In memory where that is possible: it is the order of effects that counts, not the disk.
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.home = Path(tempfile.mkdtemp(prefix="navmap-kill-", dir=base))

    def __call__(self, *arguments, die_at=None, count=None):
        env = dict(os.environ)
        if die_at is not None:
            preload = [self.library, env.get("LD_PRELOAD", "")]
            env |= {"LD_PRELOAD": ":".join(filter(None, preload)), "NAVMAP_DIE_AT": str(die_at)}
            if count:
                env["NAVMAP_DIE_COUNT"] = count
        command = [self.navmap, *map(str, arguments)]
        return subprocess.run(
            command, cwd=self.home, env=env, capture_output=True, text=True, timeout=120
        )

    def must(self, *arguments, code=0):
        done = self(*arguments)
        expect(f"{arguments}: status {done.returncode}\n{done.stderr}", done.returncode == code)
        return done.stdout

    def items(self, path):
        """How many live items a sound index has."""
        self.must("verify", path)
        return json.loads(self.must("info", "--json", path))["counts"]["live"]

    def vectors(self, name, n, dim=DIM):
        with open(self.home / name, "wb") as file:
            for _ in range(n):
                row = [self.random.uniform(-1, 1) for _ in range(min(dim, DIM))]
                file.write(struct.pack(f"<i{dim}f", dim, *row, *[0.5] * (dim - len(row))))

    def stored(self, path):
        """{label: bytes of the vector} of what is live in a sound index."""
        n = self.items(path)
        self.must("export", path, "stored.npy")
        rows = (self.home / "stored.npy").read_bytes()[128:]
        labels = struct.unpack(f"<{n}Q", (self.home / "stored.labels.npy").read_bytes()[128:])
        size = len(rows) // n
        return {label: rows[i * size :][:size] for i, label in enumerate(labels)}

    def delete(self, name, ids):
        """Mark elements of a file of hnswlib's."""
        bytes_ = bytearray((self.home / name).read_bytes())
        element = struct.unpack_from("<Q", bytes_, 24)[0]
        for i in ids:
            bytes_[96 + i * element + 2] = 1
        (self.home / name).write_bytes(bytes_)

    def clear(self, *names):
        for name in names:
            path = self.home / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def names(self):
        return sorted(os.listdir(self.home))


class Import:
    """Of a new index."""

    command = ("import", "--space=l2", "--threads=1", "v.fvecs", "new")

    def prepare(self, b):
        b.vectors("v.fvecs", ITEMS)

    def reset(self, b):
        b.clear("new", "new.partial")

    def check(self, b):
        if (b.home / "new").exists():
            expect("a whole index or none", b.items("new") == ITEMS)

    def whole(self, b):
        expect("all are there", b.items("new") == ITEMS)
        expect(f"nothing else: {b.names()}", not [n for n in b.names() if n.startswith("new.")])

    def again(self, b):
        if (b.home / "new").exists():  # all was done but for what is cleared away by the next one
            b.clear("new")
        b.must(*self.command)


class ImportGraph(Import):
    """Of an index that keeps its graph."""

    command = ("import", "--space=l2", "v.bin", "new")

    def prepare(self, b):
        b.vectors("v.fvecs", ITEMS)
        b.must("import", "--space=l2", "--threads=1", "v.fvecs", "kept")
        b.must("export", "kept", "v.bin")


class ImportMore:
    """Into an index that is there."""

    command = ("import", "--threads=1", "--labels=l.txt", "v.fvecs", "old")

    def prepare(self, b):
        b.vectors("v.fvecs", ITEMS)
        (b.home / "l.txt").write_text("".join(f"{1000 + i}\n" for i in range(ITEMS)))
        b.must("import", "--space=l2", "--count=30", "v.fvecs", "kept")

    def reset(self, b):
        b.clear("old")
        shutil.copytree(b.home / "kept", b.home / "old")

    def check(self, b):
        n = b.items("old")
        expect(f"the first rows: {n}", 30 <= n <= 30 + ITEMS)
        b.must("export", "old", "out.npy")
        body = (b.home / "out.labels.npy").read_bytes()[128:]
        labels = struct.unpack(f"<{n}Q", body)
        expect("the labels", sorted(labels) == [*range(30), *range(1000, 1000 + n - 30)])

    def again(self, b):
        b.must(*self.command)

    def whole(self, b):
        expect("all are there", b.items("old") == 30 + ITEMS)


class ImportBulk:
    """So much that it is made aside and swapped in: all rows or none."""

    command = ("import", "--threads=1", "--count-from=1000", "v.fvecs", "old")
    rounds = {"test": 0, "ci": 20, "long": 20}
    rows, dim = 1700, 4096

    def prepare(self, b):
        b.vectors("v.fvecs", self.rows, self.dim)
        how = ("--space=l2", "--count=9", "-M2", "-e2", "--codes=none")
        b.must("import", *how, "v.fvecs", "kept")

    def reset(self, b):
        b.clear("old")
        shutil.copytree(b.home / "kept", b.home / "old")

    def check(self, b):
        n = b.items("old")
        expect(f"all rows or none: {n}", n in (9, 9 + self.rows))

    def again(self, b):
        b.must(*self.command)

    def whole(self, b):
        expect("all are there", b.items("old") == 9 + self.rows)
        data = [n for n in os.listdir(b.home / "old") if n.startswith("data-")]
        expect(f"one data file: {data}", len(data) == 1)


class Compact:
    """In place, of an index with deleted, updated and other items."""

    options = ()

    @property
    def command(self):
        return ("compact", "--threads=1", *self.options, "old")

    def prepare(self, b):
        b.vectors("v.fvecs", ITEMS)
        b.vectors("w.fvecs", 20)
        b.must("import", "--space=l2", "--threads=1", "v.fvecs", "made")
        b.must("export", "made", "v.bin")
        b.delete("v.bin", range(0, ITEMS, 4))
        b.must("import", "--space=l2", "--codes=i8", "v.bin", "kept")
        b.must("import", "--count-from=50", "--threads=1", "w.fvecs", "kept")  # updates
        self.had = b.stored("kept")

    def reset(self, b):
        b.clear("old")
        shutil.copytree(b.home / "kept", b.home / "old")

    def check(self, b):
        expect("the same items", b.stored("old") == self.had)

    def again(self, b):
        b.must(*self.command)

    def whole(self, b):
        self.check(b)
        info = json.loads(b.must("info", "--json", "old"))
        expect("nothing else in it", info["counts"]["deleted"] == info["counts"]["dead"] == 0)
        names = os.listdir(b.home / "old")
        data = [n for n in names if n.startswith("data-")]
        expect(f"one data file: {names}", len(data) == 1 and "wal.mdb.new" not in names)
        self.changed(info["parameters"])

    def changed(self, parameters):
        expect("as it was", (parameters["codes"], parameters["M"]) == ("i8", 16))


class CompactCodes(Compact):
    options = ("--codes=none",)

    def changed(self, parameters):
        expect("without codes", (parameters["codes"], parameters["M"]) == ("none", 16))


class CompactM(Compact):
    options = ("-M5", "--keep-order")

    def changed(self, parameters):
        expect("with M 5", (parameters["codes"], parameters["M"]) == ("i8", 5))


class CompactDirectory(Compact):
    """To another place, where there is nothing or all; the index itself stays."""

    command = ("compact", "--threads=1", "--output=new", "--directory", "old")

    def reset(self, b):
        if not (b.home / "old").exists():
            super().reset(b)
        b.clear("new", *[name for name in b.names() if name.startswith("new.tmp-")])

    def check(self, b):
        expect("the index", b.stored("old") == self.had)
        if (b.home / "new").exists():
            expect("the same items", b.stored("new") == self.had)

    def again(self, b):
        b.clear("new")
        b.must(*self.command)

    def whole(self, b):
        expect("the same items", b.stored("new") == self.had)


class Salvage:
    command = ("salvage", "--threads=1", "broken", "new")

    def prepare(self, b):
        b.vectors("v.fvecs", ITEMS)
        b.must("import", "--space=l2", "v.fvecs", "broken")
        (b.home / "broken" / "wal.mdb").write_bytes(b"\0" * 4096)

    reset = Import.reset
    check = Import.check
    again = Import.again
    whole = Import.whole


class File:
    """save and export: a file that is there already is replaced as a whole."""

    def prepare(self, b):
        b.vectors("v.fvecs", ITEMS)
        b.must("import", "--space=l2", "v.fvecs", "index")
        b.must(*self.command)
        self.new = self.contents(b)
        self.reset(b)

    def contents(self, b):
        return [(b.home / name).read_bytes() for name in self.targets]

    def reset(self, b):
        for name in b.names():
            if ".tmp-" in name:
                b.clear(name)
        for name in self.targets:
            (b.home / name).write_bytes(b"what was there before")

    def check(self, b):
        for found, new in zip(self.contents(b), self.new, strict=True):
            expect("the old file or the new", found == b"what was there before" or self.like(found, new))

    def like(self, found, new):
        return found == new

    def again(self, b):
        b.must(*self.command)

    def whole(self, b):
        for found, new in zip(self.contents(b), self.new, strict=True):
            expect("the new file", self.like(found, new))


class Save(File):
    command, targets = ("save", "index", "out.navmap"), ["out.navmap"]

    def like(self, found, new):
        return len(found) == len(new) and found[65536:][:4096] == new[65536:][:4096]

    def whole(self, b):
        super().whole(b)
        b.must("verify", "out.navmap")


class ImportSealed(Save):
    """One file, where there was none."""

    command, targets = ("import", "--space=l2", "--threads=1", "-z", "v.fvecs", "out.navmap"), []

    def prepare(self, b):
        b.vectors("v.fvecs", ITEMS)

    def reset(self, b):
        b.clear(*[name for name in b.names() if name.startswith("out.navmap")])

    def check(self, b):
        if (b.home / "out.navmap").exists():
            expect("a whole one or none", b.items("out.navmap") == ITEMS)

    def again(self, b):
        b.clear("out.navmap")
        b.must(*self.command)

    def whole(self, b):
        expect("all are there", b.items("out.navmap") == ITEMS)


class CompactFile(Save):
    command, targets = ("compact", "--output=out.navmap", "index"), ["out.navmap"]


class ExportPair(File):
    command, targets = ("export", "index", "out.npy"), ["out.npy", "out.labels.npy"]


class ExportHnswlib(File):
    command, targets = ("export", "index", "out.bin"), ["out.bin"]


def sweep(b, case):
    """How many kills."""
    case.prepare(b)
    case.reset(b)
    done = b(*case.command, die_at=0, count=str(b.home / "count"))
    expect(done.stderr, done.returncode in (0, 1))
    case.whole(b)
    effects = int((b.home / "count").read_text())
    expect("it has effects", effects >= 4)
    for n in range(1, effects + 1):
        case.reset(b)
        done = b(*case.command, die_at=n)
        try:
            expect(f"killed: {done.returncode} {done.stderr}", done.returncode == -9)
            case.check(b)
            case.again(b)
            case.whole(b)
        except Failed as failed:
            raise Failed(f"killed before effect {n} of {effects}: {failed}") from None
    return effects


CASES = (
    *(Import, ImportGraph, ImportMore, ImportBulk, ImportSealed),
    *(Compact, CompactCodes, CompactM, CompactDirectory, CompactFile),
    *(Salvage, Save, ExportPair, ExportHnswlib),
)


def main():
    navmap, library = map(os.path.abspath, sys.argv[1:3])
    seed = int(os.environ.get("NAVMAP_SEED", "20261126"))
    tier = os.environ.get("NAVMAP_TIER", "test")
    only = os.environ.get("NAVMAP_ONLY", "")  # the name of a case
    print(f"NAVMAP_SEED={seed}, {ROUNDS[tier]} rounds")
    passed = failed = 0
    for case in CASES:
        kills = 0
        rounds = getattr(case, "rounds", ROUNDS)[tier]
        if rounds == 0 or only not in ("", case.__name__):
            continue
        try:
            for i in range(rounds):
                bench = Bench(navmap, library, seed + i)
                try:
                    kills += sweep(bench, case())
                finally:
                    shutil.rmtree(bench.home)
            passed += 1
            print(f"{case.__name__}: {kills} kills")
        except Failed as reason:
            failed += 1
            print(f"{case.__name__}: FAILED, round {i}: {reason}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
