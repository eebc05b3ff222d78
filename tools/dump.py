"""Reads an index directory, or a saved file, from storage/FORMAT.md and nothing else.

    python tools/dump.py PATH            what is there: parameters, counters, slots, labels, log
    python tools/dump.py --check PATH    and every checksum and rule of the format; status 1 if one
                                         does not hold
    python tools/dump.py --items PATH    and each published slot, one JSON object a line
    python tools/dump.py --item LABEL PATH

It shares no code with the library, so whatever it can read is described well enough.  It never
writes, takes the whole file into memory, and overlays a log that a crash left (FORMAT.md, section
13).  Nobody may be writing meanwhile.  Needs the packages lmdb and xxhash.
"""

import argparse
import json
import math
import struct
import sys
from pathlib import Path

import lmdb
from xxhash import xxh3_64_intdigest

FREE, LIVE, DELETED, DEAD = range(4)
STATUS = ("FREE", "LIVE", "DELETED", "DEAD")
SPACES = ("l2", "ip", "cosine")
SCALARS = (("f32", 4, "f"), ("f16", 2, "e"))  # name, bytes, what the module struct calls it
ROOT, PAYLOAD, STATE, ROW, UPPER, DIRECT = range(1, 7)
PAGE = 4096


def roundup(n, unit):
    return -(-n // unit) * unit


def geometry(dim, M, slot_shift, code_scheme, code_header, scalar=0):
    """FORMAT.md section 7."""
    slots = 1 << slot_shift
    g = {"M0": 2 * M, "row_stride": roundup(8 * M, 64), "upper_stride": roundup(4 * M, 64)}
    g["code_stride"] = roundup(dim + code_header, 64) if code_scheme else 0
    vec_bytes = SCALARS[scalar][1] * dim
    g["vec_stride"] = roundup(vec_bytes, 64 if vec_bytes >= 64 else 16)
    g["U"] = -(-5 * slots // (4 * (M - 1))) + 16
    sizes = {
        "state": slots * 4,
        "row": slots * g["row_stride"],
        "upper": g["U"] * g["upper_stride"],
        "tag": slots * 32,
        "code": slots * g["code_stride"],
        "vec": slots * g["vec_stride"],
    }
    at = 0
    for name, size in sizes.items():
        g["off_" + name] = at
        at = roundup(at + size, PAGE)
    g["chunk_bytes"] = roundup(at, 65536)
    return g


def f32(x):
    """A double rounded to binary32: of a sum, product or quotient of two such numbers, the same as
    if it had been computed in binary32."""
    try:
        return struct.unpack("<f", struct.pack("<f", x))[0]
    except OverflowError:
        return math.copysign(math.inf, x)


def nearest(x):
    """Halves away from zero."""
    return int(math.copysign(math.floor(abs(x) + 0.5), x))


def held_row(vector, most, stride):
    """FORMAT.md section 8, code_scheme 2."""
    bits = -(-struct.unpack("<I", struct.pack("<f", most / 127))[0] // 2**15)
    factor = f32(1 / struct.unpack("<f", struct.pack("<I", bits << 15))[0])
    codes = [nearest(f32(x * factor)) for x in vector]
    for i in range(16):
        bit = bits >> i & 1
        c = 2 * nearest(f32(f32(vector[i] * factor) - bit) / 2) + bit
        codes[i] = c - 2 if c > 127 else c + 2 if c < -127 else c
    return bytes(c & 0xFF for c in codes).ljust(stride, b"\0")


def code_row(vector, stride, scheme):
    """FORMAT.md section 8, code_scheme 1 and 2."""
    most = max(map(abs, vector))
    if most < 1e-35:
        return bytes(stride)
    if scheme == 2:
        return held_row(vector, most, stride)
    factor, scale = f32(127 / most), f32(most / 127)
    codes = [nearest(f32(x * factor)) for x in vector]
    norm = f32(f32(scale * scale) * f32(sum(c * c for c in codes)))
    row = struct.pack("<ff", scale, norm) + bytes(c & 0xFF for c in codes)
    return row.ljust(stride, b"\0")


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
        self.generation, self.dim, self.space, scalar = struct.unpack_from("<QIHH", page, 48)
        if scalar >= len(SCALARS):
            raise Wrong(f"scalar: expected below {len(SCALARS)}, found {scalar}")
        self.scalar, _, letter = SCALARS[scalar]
        self.numbers = f"<{self.dim}{letter}"
        self.M, M0, self.ef_construction, self.flags = struct.unpack_from("<IIII", page, 64)
        self.seed = struct.unpack_from("<Q", page, 80)[0]
        self.shift, U, chunk_bytes = struct.unpack_from("<IIQ", page, 88)
        self.scheme, code_header, code_stride = struct.unpack_from("<HHI", page, 144)
        self.instance = struct.unpack_from("<Q", page, 168)[0]
        g = self.g = geometry(self.dim, self.M, self.shift, self.scheme, code_header, scalar)
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

    def root(self):
        names = "lsn entry extent nuppers max_elements n_live n_deleted n_dead n_free n_apart inserted"
        values = struct.unpack_from("<8Q2IQ", self.file, PAGE)
        root = dict(zip(names.split(), values, strict=True))
        root["nchunks"], root["nslots"] = divmod(root.pop("extent"), 1 << 32)
        root["curve_items"], *ef = struct.unpack_from("<I18H", self.file, PAGE + 80)
        root["curve_ef"] = {k: ef[6 * i : 6 * i + 6] for i, k in enumerate((1, 10, 100))}
        level, slot = divmod(root.pop("entry"), 1 << 32)
        return root | {"entry": {"slot": slot, "level": level} if slot else None}

    def state(self, slot):
        word = self.words(self.at(slot, "state", 4), 1)[0]
        return word & 3, word >> 2

    def row(self, slot, level, up):
        """The ids of a row as they stand there, zeros and all."""
        if level == 0:
            return self.words(self.at(slot, "row", self.h.g["row_stride"]), self.h.g["M0"])
        return self.words(self.cell_at((up >> 5) + level - 1), self.h.M)

    def payload(self, slot):
        (tag, _), (code, ncode), (vec, nvec) = self.ranges(PAYLOAD, slot)
        fields = struct.unpack_from("<QQIIQ", self.file, tag)
        return fields, bytes(self.file[code : code + ncode]), bytes(self.file[vec : vec + nvec])

    def item(self, slot):
        """All about one published slot."""
        status, gen = self.state(slot)
        (label, _, up, _, _), code, vector = self.payload(slot)
        rows = [self.row(slot, level, up) for level in range(1 + (up & 31))]
        found = {
            "slot": slot,
            "status": STATUS[status],
            "generation": gen,
            "label": label,
            "rows": [[i for i in row if i] for row in rows],
            "vector": list(struct.unpack_from(self.h.numbers, vector)),
        }
        if self.h.scheme == 2:
            codes = list(struct.unpack_from(f"<{self.h.dim}b", code))
            bits = sum((c & 1) << 15 + i for i, c in enumerate(codes[:16]))
            scale = struct.unpack("<f", struct.pack("<I", bits))[0]
            found["code"] = {"scale": scale, "codes": codes}
        if self.h.scheme == 1:
            scale, norm = struct.unpack_from("<ff", code)
            codes = struct.unpack_from(f"<{self.h.dim}b", code, 8)
            found["code"] = {"scale": scale, "norm": norm, "codes": list(codes)}
        return found

    def slots(self):
        """Published ones."""
        return (s for s in range(1, self.root()["nslots"]) if self.state(s)[0] != FREE)

    def summary(self):
        h = self.h
        return {
            "form": "sealed" if h.flags & 2 else "directory",
            "space": SPACES[h.space],
            "dim": h.dim,
            "scalar": h.scalar,
            "M": h.M,
            "ef_construction": h.ef_construction,
            "seed": h.seed,
            "flags": h.flags,
            "code_scheme": h.scheme,
            "slots_per_chunk": 1 << h.shift,
            "uuid": h.uuid.hex(),
            "generation": self.generation,
            "root": self.root(),
            "labels": len(self.labels),
            "last_lsn": self.last,
            "log_records": self.records,
        }

    def check(self):
        """Raises Wrong at the first thing that is."""
        root = self.root()
        body = bytes(self.file[PAGE : PAGE + 120])
        total = struct.unpack_from("<Q", self.file, PAGE + 120)[0]
        expect("ROOT sum", xxh3_64_intdigest(body, seed=self.h.uuid_low), total)
        expect("ROOT lsn", self.last, root["lsn"])
        for k, ef in root["curve_ef"].items():
            reached = [e for e in ef if e] if root["curve_items"] else []
            expect(f"curve of {k}", sorted(reached) + [0] * (6 - len(reached)), ef)
        counts, owners, uppers = [0, 0, 0, 0], {}, 0
        for slot in range(1, root["nslots"]):
            status, gen = self.state(slot)
            counts[status] += 1
            if status == FREE:
                continue
            label, up = self.check_payload(slot, gen)
            if status != DEAD:
                owners[label] = slot, gen
            self.check_rows(slot, up, root["nslots"])
            uppers = max(uppers, (up >> 5) + (up & 31))
        expect("labels", owners, self.labels)
        names = ("n_free", "n_live", "n_deleted", "n_dead")
        expect("counters", [root[name] for name in names], counts)
        if root["n_apart"] > root["n_deleted"]:
            raise Wrong(f"n_apart: expected at most {root['n_deleted']}, found {root['n_apart']}")
        if uppers > root["nuppers"]:
            raise Wrong(f"nuppers: expected at least {uppers}, found {root['nuppers']}")

    def check_payload(self, slot, gen):
        (label, vsum, up, tag_gen, zero), code, vector = self.payload(slot)
        expect(f"generation and reserved of slot {slot}", (gen, 0), (tag_gen, zero))
        head = struct.pack("<QIII", label, slot, gen, up)
        found = xxh3_64_intdigest(head + code + vector, seed=self.h.uuid_low)
        expect(f"vsum of slot {slot}", vsum, found)
        if self.h.scheme:
            numbers = struct.unpack_from(self.h.numbers, vector)
            made = code_row(numbers, len(code), self.h.scheme)
            expect(f"code row of slot {slot}", made.hex(), code.hex())
        return label, up

    def check_rows(self, slot, up, nslots):
        for level in range(1 + (up & 31)):
            ids = self.row(slot, level, up)
            used = [i for i in ids if i]
            expect(f"row {level} of slot {slot}, packed", used, list(ids[: len(used)]))
            if any(not 0 < i < nslots for i in used):
                raise Wrong(f"row {level} of slot {slot}: an id out of range")


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
        root = self.root()
        items = root["n_live"] + root["n_deleted"]
        expect("no slot DEAD or FREE", root["nslots"] - 1, items)
        super().check()


def read(path):
    return (Index if Path(path).is_dir() else Sealed)(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path")
    parser.add_argument("--check", action="store_true", help="every checksum and rule")
    parser.add_argument("--items", action="store_true", help="each published slot")
    parser.add_argument("--item", type=int, metavar="LABEL", help="the slot of one label")
    args = parser.parse_args()
    index = read(args.path)
    if args.item is None:
        print(json.dumps(index.summary(), indent=2))
    elif args.item not in index.labels:
        raise Wrong(f"label {args.item} is not there")
    else:
        print(json.dumps(index.item(index.labels[args.item][0])))
    for slot in index.slots() if args.items else ():
        print(json.dumps(index.item(slot)))
    if args.check:
        index.check()


if __name__ == "__main__":
    try:
        main()
    except Wrong as wrong:
        sys.exit(f"{sys.argv[-1]}: {wrong}")
    except BrokenPipeError:
        sys.stderr.close()
