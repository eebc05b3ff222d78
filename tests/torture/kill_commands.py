"""kill -9 at every step of the commands that write: import, salvage, save, export.

    kill_commands.py NAVMAP DIE_AT_LIBRARY

Each command is run once to count its effects on files (tests/support/die_at.c), then once for each
of them, to be killed just before it.  After each kill:
  C1  at the target there is what was there before, or the whole new thing
  C2  an index that was added to is sound, has all that it had, and of the new rows the first ones
  C3  the same command, run again, does its work, and leaves nothing else behind
NAVMAP_TIER=ci and long: 20 and 200 rounds, each with data of its own.
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

    def vectors(self, name, n):
        with open(self.home / name, "wb") as file:
            for _ in range(n):
                row = [self.random.uniform(-1, 1) for _ in range(DIM)]
                file.write(struct.pack(f"<i{DIM}f", DIM, *row))

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


def main():
    navmap, library = map(os.path.abspath, sys.argv[1:3])
    seed = int(os.environ.get("NAVMAP_SEED", "20261126"))
    rounds = ROUNDS[os.environ.get("NAVMAP_TIER", "test")]
    print(f"NAVMAP_SEED={seed}, {rounds} rounds")
    passed = failed = 0
    for case in (Import, ImportMore, Salvage, Save, ExportPair, ExportHnswlib):
        kills = 0
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
