"""Writes golden/*-1.0.bin from FORMAT.md alone, sharing no line with the C sources.

Run by hand when the format gains a version, never by the tests: they compare with the bytes that
are checked in.  Needs the packages xxhash and lmdb.

    python tests/format/make_golden.py tests/format/golden
"""

import struct
import sys
from pathlib import Path

from xxhash import xxh3_64_intdigest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from dump import PAGE, geometry, roundup  # noqa: E402

UUID = bytes(range(0x10, 0x20))
UUID_LOW = int.from_bytes(UUID[:8], "little")
GENERATION, INSTANCE, CREATED_NS, SEED = 7, 0x1122334455667788, 1_700_000_000_123_456_789, 100


def header(
    dim,
    M,
    slot_shift,
    space,
    ef_construction,
    flags,
    code_scheme=0,
    code_header=0,
    sealed=(0,) * 4,
    scalar=0,
):
    """FORMAT.md section 4; `sealed`: file_bytes, label_offset, label_count, sums_offset."""
    g = geometry(dim, M, slot_shift, code_scheme, code_header, scalar)
    page = bytearray(PAGE)
    page[0:8] = bytes.fromhex("894E564D0D0A1A0A")
    struct.pack_into("<IHHIIII", page, 8, 0x01020304, 1, 0, 0, 0, 0, PAGE)
    page[32:48] = UUID
    struct.pack_into("<QIHH", page, 48, GENERATION, dim, space, scalar)
    struct.pack_into("<IIIIQ", page, 64, M, g["M0"], ef_construction, flags, SEED)
    struct.pack_into("<IIQ", page, 88, slot_shift, g["U"], g["chunk_bytes"])
    struct.pack_into("<IIII", page, 104, g["vec_stride"], g["row_stride"], g["upper_stride"], 32)
    names = ("state", "row", "upper", "tag", "code", "vec")
    struct.pack_into("<6I", page, 120, *(g["off_" + name] for name in names))
    struct.pack_into("<HHIII", page, 144, code_scheme, code_header, g["code_stride"], 0, 0)
    struct.pack_into("<QQ4Q", page, 160, CREATED_NS, INSTANCE, *sealed)
    struct.pack_into("<Q", page, 4088, xxh3_64_intdigest(bytes(page[:4088]), seed=0))
    return bytes(page)


CURVE = (17, 2, 3, 5, 8, 13, 21, 10, 14, 20, 57, 80, 0, 107, 0, 0, 0, 0, 0)


def root(
    lsn, entry, extent, nuppers, max_elements, live, deleted, dead, free, apart, inserted,
    curve=(0,) * 19
):
    """FORMAT.md section 5."""
    body = struct.pack(
        "<8Q2IQ", lsn, entry, extent, nuppers, max_elements, live, deleted, dead, free, apart, inserted
    )
    body += struct.pack("<I18H", *curve)
    return body + struct.pack("<Q", xxh3_64_intdigest(body, seed=UUID_LOW))


def payload(label, slot, gen, up, code, vector, code_stride, vec_stride):
    """FORMAT.md section 8: tag, code row, vector row."""
    rows = code.ljust(code_stride, b"\0") + vector.ljust(vec_stride, b"\0")
    vsum = xxh3_64_intdigest(struct.pack("<QIII", label, slot, gen, up) + rows, seed=UUID_LOW)
    return struct.pack("<QQIIQ", label, vsum, up, gen, 0) + rows


def record(lsn, cells):
    """FORMAT.md section 11."""
    body = b""
    for kind, index, image in cells:
        body += struct.pack("<B3xIII", kind, index, len(image), 0)
        body += image.ljust(roundup(len(image), 8), b"\0")
    head = struct.pack("<IIQQQQ", 0x3157564E, len(cells), lsn, GENERATION, 48 + len(body), 0)
    return head + struct.pack("<Q", xxh3_64_intdigest(head + body, seed=lsn ^ UUID_LOW)) + body


def ids(n, *some):
    return struct.pack(f"<{n}I", *some, *([0] * (n - len(some))))


# Items of the sealed file: label, deleted, level, vector, row of each level (slots from 1).
ITEMS = (
    (70, False, 1, (1.0, 0.0, 0.0, 0.0), ((2, 3, 5), (3,))),
    (7, False, 0, (0.0, 1.0, 0.0, 0.0), ((1, 4),)),
    (2**64 - 1, False, 2, (0.0, 0.0, 1.0, 0.0), ((1, 4, 5), (1,), ())),
    (0, True, 0, (0.0, 0.0, 0.0, 1.0), ((2, 3),)),
    (1000, False, 0, (0.5, 0.5, 0.5, 0.5), ((1, 3),)),
)


def sealed(scalar):
    """FORMAT.md section 9: dim 4, M 4, 16 slots a chunk, l2, bounded."""
    M, shift = 4, 4
    g = geometry(4, M, shift, 0, 0, scalar)
    chunk, cell = bytearray(g["chunk_bytes"]), 0
    for slot, (label, deleted, level, vector, rows) in enumerate(ITEMS, 1):
        up = cell << 5 | level if level else 0
        struct.pack_into("<I", chunk, g["off_state"] + 4 * slot, 2 if deleted else 1)
        at = g["off_row"] + slot * g["row_stride"]
        chunk[at : at + 8 * M] = ids(2 * M, *rows[0])
        for row in rows[1:]:
            at = g["off_upper"] + cell * g["upper_stride"]
            chunk[at : at + 4 * M] = ids(M, *row)
            cell += 1
        numbers = struct.pack("<4e" if scalar else "<4f", *vector)
        both = payload(label, slot, 0, up, b"", numbers, 0, g["vec_stride"])
        at = g["off_tag"] + 32 * slot
        chunk[at : at + 32] = both[:32]
        at = g["off_vec"] + slot * g["vec_stride"]
        chunk[at : at + g["vec_stride"]] = both[32:]
    names = sorted((item[0], slot) for slot, item in enumerate(ITEMS, 1))
    labels = b"".join(struct.pack("<QII", label, slot, 0) for label, slot in names)
    label_offset = 65536 + len(chunk)
    sums_offset = label_offset + len(labels)
    sizes = {"state": 4 * 16, "row": 16 * g["row_stride"], "upper": g["U"] * g["upper_stride"]}
    sizes |= {"tag": 16 * 32, "code": 0, "vec": 16 * g["vec_stride"]}
    sums = b""
    for name, size in sizes.items():
        at = g["off_" + name]
        total = xxh3_64_intdigest(bytes(chunk[at : at + size]), seed=0)
        sums += struct.pack("<QQQ", 65536 + at, size, total)
    total = xxh3_64_intdigest(labels, seed=0)
    sums += struct.pack("<QQQ", label_offset, len(labels), total)
    sums += struct.pack("<Q", xxh3_64_intdigest(sums, seed=0))
    places = sums_offset + len(sums), label_offset, len(ITEMS), sums_offset
    head = header(4, M, shift, 0, 9, 2 | 4 | 16, sealed=places, scalar=scalar)
    head = head.ljust(2 * PAGE, b"\0")
    n = len(ITEMS)
    the_root = root(0, 2 << 32 | 3, 1 << 32 | (n + 1), cell, 9, n - 1, 1, 0, 0, 0, 12)
    head = head[:PAGE] + the_root + head[PAGE + len(the_root) :]
    return head.ljust(65536, b"\0") + bytes(chunk) + labels + sums


def main():
    out = Path(sys.argv[1])
    plain = header(dim=100, M=16, slot_shift=10, space=2, ef_construction=200, flags=1)
    coded = header(4, 4, 4, space=0, ef_construction=9, flags=0, code_scheme=1, code_header=8)
    held = header(128, 16, 10, space=0, ef_construction=200, flags=0, code_scheme=2)
    halves = header(101, 16, 10, space=1, ef_construction=200, flags=0, scalar=1)
    a_root = root(0x0102030405, 3 << 32 | 17, 1 << 32 | 23, 5, 1000, 18, 2, 1, 1, 2, 25, CURVE)
    small = geometry(4, 4, 4, 1, 8)
    vector = struct.pack("<4f", 0.5, -1.25, 3.0, 1e-3)
    a_payload = payload(
        0xFEEDFACE00C0FFEE, 3, 2, 1 << 5 | 1, bytes(range(1, 13)), vector,
        small["code_stride"], small["vec_stride"],
    )
    halved = geometry(5, 4, 4, 1, 8, 1)
    some = struct.pack("<5e", 0.5, -1.25, 65504, 2**-24, -0.0)  # the largest, the smallest
    half_payload = payload(
        0xFEEDFACE00C0FFEE, 3, 2, 1 << 5 | 1, bytes(range(1, 14)), some,
        halved["code_stride"], halved["vec_stride"],
    )  # fmt: skip
    direct = struct.pack("<IIQ", 4, 0, 0x0807060504030201)
    a_record = record(
        9,
        [
            (1, 0, a_root),
            (2, 3, a_payload),
            (3, 3, struct.pack("<I", 2 << 2 | 1)),
            (3, 5, struct.pack("<I", 4 << 2 | 1)),
            (4, 3, ids(8, 5, 1)),
            (4, 5, ids(8, 3)),
            (5, 1, ids(4)),
            (6, 5, direct),
        ],
    )
    (out / "header-1.0.bin").write_bytes(plain)
    (out / "header-coded-1.0.bin").write_bytes(coded)
    (out / "header-held-1.0.bin").write_bytes(held)
    (out / "header-half-1.0.bin").write_bytes(halves)
    (out / "payload-half-1.0.bin").write_bytes(half_payload)
    (out / "root-1.0.bin").write_bytes(a_root)
    (out / "payload-1.0.bin").write_bytes(a_payload)
    (out / "record-1.0.bin").write_bytes(a_record)
    (out / "sealed-1.0.bin").write_bytes(sealed(0))
    (out / "sealed-half-1.0.bin").write_bytes(sealed(1))


if __name__ == "__main__":
    main()
