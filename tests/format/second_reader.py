"""A second reader of an index directory, or of a sealed file, written from storage/FORMAT.md and nothing else.

It shares no code with the library, so whatever it can read is described well enough. It never
writes, and overlays the log as section 13 says. Run by hand; needs the packages lmdb and xxhash.

    python tests/format/second_reader.py PATH    print what is there; status 1 if anything is wrong
"""

import struct
import sys
from pathlib import Path

import lmdb
from xxhash import xxh3_64_intdigest

from make_golden import geometry

FREE, LIVE, DELETED, DEAD = range(4)
ROOT, PAYLOAD, STATE, ROW, UPPER, DIRECT = range(1, 7)
PAGE = 4096


class Wrong(Exception):
    pass


def expect(what, expected, found):
    if expected != found:
        raise Wrong(f"{what}: expected {expected!r}, found {found!r}")


class Header:
    def __init__(self, page):
        expect("magic", bytes.fromhex("894E564D0D0A1A0A"), page[:8])
        order, major, _, incompat, _, _, size = struct.unpack_from("<IHHIIII", page, 8)
        expect("byte order, major, features", (0x01020304, 1, 0), (order, major, incompat))
        expect("header_bytes", PAGE, size)
        total = struct.unpack_from("<Q", page, 4088)[0]
        expect("header sum", xxh3_64_intdigest(page[:4088], seed=0), total)
        self.uuid = page[32:48]
        self.uuid_low = int.from_bytes(self.uuid[:8], "little")
        self.generation, self.dim, _, _ = struct.unpack_from("<QIHH", page, 48)
        self.M, M0, _, self.flags = struct.unpack_from("<IIII", page, 64)
        self.shift, U, chunk_bytes = struct.unpack_from("<IIQ", page, 88)
        scheme, code_header, code_stride = struct.unpack_from("<HHI", page, 144)
        self.instance = struct.unpack_from("<Q", page, 168)[0]
        g = self.g = geometry(self.dim, self.M, self.shift, scheme, code_header)
        expect("M0, U", (g["M0"], g["U"]), (M0, U))
        expect("chunk_bytes", g["chunk_bytes"], chunk_bytes)
        expect("code_stride", g["code_stride"], code_stride)
        names = ("state", "row", "upper", "tag", "code", "vec")
        expect("offsets", tuple(g["off_" + n] for n in names), struct.unpack_from("<6I", page, 120))
        expect("reserved", bytes(3880), page[208:4088])


class Index:
    def __init__(self, directory):
        directory = Path(directory)
        env = lmdb.open(
            str(directory / "wal.mdb"), subdir=False, readonly=True, lock=False, max_dbs=4
        )
        with env.begin() as txn:
            self.read_meta(txn, env)
            name = f"data-{self.generation:08d}.navmap"
            self.file = bytearray((directory / name).read_bytes())
            self.h = Header(bytes(self.file[:PAGE]))
            expect("uuid, instance", self.identity, (self.h.uuid, self.h.instance))
            expect("generation", self.generation, self.h.generation)
            expect("flags of a file in a directory", 0, self.h.flags & ~1)
            self.records = self.overlay(txn, env)
            self.labels = self.read_labels(txn, env)

    def read_meta(self, txn, env):
        meta = env.open_db(b"meta", txn=txn, create=False)
        value = txn.get(b"id", db=meta)
        expect("meta.id length", 48, len(value))
        uuid, instance, major, minor, self.frame, zero, total = struct.unpack("<16sQIIIIQ", value)
        expect("meta.id", (1, 0, xxh3_64_intdigest(value[:40], seed=0)), (major, zero, total))
        self.identity = uuid, instance
        value = txn.get(b"state", db=meta)
        expect("meta.state length", 40, len(value))
        self.generation, self.ckpt, self.last, self.wal_bytes, total = struct.unpack("<5Q", value)
        expect("meta.state sum", xxh3_64_intdigest(value[:32], seed=0), total)

    def at(self, slot, array, stride):
        g = self.h.g
        chunk, rest = divmod(slot, 1 << self.h.shift)
        return 65536 + chunk * g["chunk_bytes"] + g["off_" + array] + rest * stride

    def cell_at(self, cell):
        g = self.h.g
        chunk, rest = divmod(cell, g["U"])
        return 65536 + chunk * g["chunk_bytes"] + g["off_upper"] + rest * g["upper_stride"]

    def ranges(self, kind, index):
        g = self.h.g
        if kind == ROOT:
            return [(PAGE, 128)]
        if kind == STATE:
            return [(self.at(index, "state", 4), 4)]
        if kind == ROW:
            return [(self.at(index, "row", g["row_stride"]), 4 * g["M0"])]
        if kind == UPPER:
            return [(self.cell_at(index), 4 * self.h.M)]
        return [
            (self.at(index, "tag", 32), 32),
            (self.at(index, "code", g["code_stride"]), g["code_stride"]),
            (self.at(index, "vec", g["vec_stride"]), g["vec_stride"]),
        ]

    def overlay(self, txn, env):
        """Section 12, O6: the newest image of each logged cell, in memory only."""
        frames = {}
        for key, value in txn.cursor(env.open_db(b"wal", txn=txn, create=False)):
            lsn, seq = struct.unpack(">QI", key)
            if lsn > self.ckpt:
                expect(f"frame of lsn {lsn}", len(frames.setdefault(lsn, [])), seq)
                if seq > 0:
                    expect("full frame", self.frame, len(frames[lsn][-1]))
                frames[lsn].append(bytes(value))
        expect("records", list(range(self.ckpt + 1, self.last + 1)), sorted(frames))
        newest = {}
        for lsn in sorted(frames, reverse=True):
            for kind, index, image in self.cells(lsn, b"".join(frames[lsn])):
                newest.setdefault((PAYLOAD if kind == DIRECT else kind, index), (kind, image))
        for (_, index), (kind, image) in newest.items():
            if kind == DIRECT:
                continue
            done = 0
            for offset, size in self.ranges(kind, index):
                end = offset + size
                self.file.extend(bytes(max(0, end - len(self.file))))
                self.file[offset:end] = image[done : done + size]
                done += size
            expect(f"image of kind {kind}", len(image), done)
        return len(frames)

    def cells(self, lsn, record):
        magic, ncells, number, *rest, total = struct.unpack_from("<IIQQQQQ", record)
        expect("record magic, lsn", (0x3157564E, lsn), (magic, number))
        expect("generation, nbytes, reserved", [self.generation, len(record), 0], rest)
        seed = lsn ^ self.h.uuid_low
        expect("record sum", xxh3_64_intdigest(record[:40] + record[48:], seed=seed), total)
        at, kinds = 48, []
        for _ in range(ncells):
            kind, index, size, zero = struct.unpack_from("<B3xIII", record, at)
            kinds.append(kind)
            yield kind, index, record[at + 16 : at + 16 + size]
            at += 16 + -(-size // 8) * 8
        expect("end of the record", len(record), at)
        expect("ROOT cells of a record", 1, kinds.count(ROOT))

    def read_labels(self, txn, env):
        name = f"labels.{self.generation % 2}".encode()
        labels = {}
        for key, value in txn.cursor(env.open_db(name, txn=txn, create=False)):
            slot, gen, check = struct.unpack("<III", value)
            full = xxh3_64_intdigest(bytes(key) + bytes(value[:8]), seed=self.h.uuid_low)
            expect("label check", full & 0xFFFFFFFF, check)
            labels[int.from_bytes(key, "little")] = slot, gen
        return labels

    def words(self, offset, n):
        return struct.unpack_from(f"<{n}I", self.file, offset)

    def check(self):
        g = self.h.g
        root = struct.unpack_from("<16Q", self.file, PAGE)
        body = bytes(self.file[PAGE : PAGE + 120])
        expect("ROOT sum", xxh3_64_intdigest(body, seed=self.h.uuid_low), root[15])
        expect("ROOT lsn", self.last, root[0])
        nchunks, nslots = root[2] >> 32, root[2] & 0xFFFFFFFF
        counts, owners, uppers = [0, 0, 0, 0], {}, 0
        for slot in range(1, nslots):
            word = self.words(self.at(slot, "state", 4), 1)[0]
            status, gen = word & 3, word >> 2
            counts[status] += 1
            if status == FREE:
                continue
            (tag, _), (code, ncode), (vec, nvec) = self.ranges(PAYLOAD, slot)
            label, vsum, up, tag_gen, zero = struct.unpack_from("<QQIIQ", self.file, tag)
            expect(f"generation and reserved of slot {slot}", (gen, 0), (tag_gen, zero))
            rows = bytes(self.file[code : code + ncode] + self.file[vec : vec + nvec])
            head = struct.pack("<QIII", label, slot, gen, up)
            found = xxh3_64_intdigest(head + rows, seed=self.h.uuid_low)
            expect(f"vsum of slot {slot}", vsum, found)
            if status != DEAD:
                owners[label] = slot, gen
            for level in range(1 + (up & 31)):
                cell = (up >> 5) + level - 1
                at = self.cell_at(cell) if level else self.at(slot, "row", g["row_stride"])
                ids = self.words(at, self.h.M if level else g["M0"])
                used = [i for i in ids if i]
                expect(f"row {level} of slot {slot}, packed", used, list(ids[: len(used)]))
                if any(not 0 < i < nslots for i in used):
                    raise Wrong(f"row {level} of slot {slot}: an id out of range")
            uppers = max(uppers, (up >> 5) + (up & 31))
        expect("labels", owners, self.labels)
        expect("counters", (root[5], root[6], root[7], root[8]),
               (counts[LIVE], counts[DELETED], counts[DEAD], counts[FREE]))
        if uppers > root[3]:
            raise Wrong(f"nuppers: expected at least {uppers}, found {root[3]}")
        return (f"generation {self.generation}, dim {self.h.dim}, {nchunks} chunks, lsn {self.last}"
                f" ({self.records} in the log), LIVE {counts[LIVE]}, DELETED {counts[DELETED]},"
                f" DEAD {counts[DEAD]}, FREE {counts[FREE]}")


class Sealed(Index):
    """Section 9."""

    def __init__(self, path):
        self.file = bytearray(Path(path).read_bytes())
        self.h = Header(bytes(self.file[:PAGE]))
        expect("flags", 2 | 4, self.h.flags & 6)
        size, labels, n, sums = struct.unpack_from("<4Q", self.file, 176)
        expect("file_bytes, sums_offset", (len(self.file), labels + 16 * n), (size, sums))
        self.generation, self.last, self.records = self.h.generation, 0, 0
        entries = [struct.unpack_from("<QII", self.file, labels + 16 * i) for i in range(n)]
        expect("order of the labels", sorted({e[0] for e in entries}), [e[0] for e in entries])
        self.labels = {label: (slot, gen) for label, slot, gen in entries}
        self.check_sums(labels, n, sums)

    def check_sums(self, labels, n, sums):
        g, at, slots = self.h.g, sums, 1 << self.h.shift
        sizes = {"state": 4, "row": g["row_stride"], "tag": 32, "code": g["code_stride"]}
        sizes = {name: slots * size for name, size in sizes.items()}
        sizes |= {"upper": g["U"] * g["upper_stride"], "vec": slots * g["vec_stride"]}
        ranges = [
            (chunk + g["off_" + name], sizes[name])
            for chunk in range(65536, labels, g["chunk_bytes"])
            for name in ("state", "row", "upper", "tag", "code", "vec")
        ]
        for offset, size in [*ranges, (labels, 16 * n)]:
            expect("a range of the sums", (offset, size), struct.unpack_from("<QQ", self.file, at))
            found = xxh3_64_intdigest(bytes(self.file[offset : offset + size]), seed=0)
            expect(f"sum at {offset}", struct.unpack_from("<Q", self.file, at + 16)[0], found)
            at += 24
        found = xxh3_64_intdigest(bytes(self.file[sums:at]), seed=0)
        expect("sum of the sums", struct.unpack_from("<Q", self.file, at)[0], found)
        expect("end of the file", len(self.file), at + 8)

    def check(self):
        nslots = struct.unpack_from("<Q", self.file, PAGE + 16)[0] & 0xFFFFFFFF
        counters = struct.unpack_from("<4Q", self.file, PAGE + 40)
        expect("no slot DEAD or FREE", (nslots - 1, 0, 0), (sum(counters[:2]), *counters[2:]))
        return super().check()


if __name__ == "__main__":
    try:
        path = Path(sys.argv[1])
        print((Index if path.is_dir() else Sealed)(path).check())
    except Wrong as wrong:
        sys.exit(f"{sys.argv[1]}: {wrong}")
