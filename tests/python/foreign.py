"""Index files of other libraries, made by hand: faiss and usearch, each with a graph.

Every row is on level 0, each fourth one, the entry point 0 first, on level 1 too.  It is linked to
its nearest among those, and on level 0 to some anywhere, so that no island is left.
"""

import struct

import numpy as np


def level(row):
    return int(row % 4 == 0)


def nearest(vectors, row, among, n):
    """Up to n rows of `among` that are nearest to a row, without itself."""
    far = ((vectors[among] - vectors[row]).astype(np.float64) ** 2).sum(1)
    return [int(among[i]) for i in np.argsort(far, kind="stable") if among[i] != row][:n]


def nearest_on(vectors, m):
    """A function of row and level: its links."""
    rows = np.arange(len(vectors))
    on = [rows, rows[rows % 4 == 0]]

    def links(row, at):
        if at:
            return nearest(vectors, row, on[1], m)
        far = [(row * by + 1) % len(vectors) for by in (1, 37, 101)]
        near = [to for to in nearest(vectors, row, on[0], 2 * m) if to not in far]
        return near[: 2 * m - 3] + sorted(set(far) - {row})

    return links


def faiss_flat(vectors, metric):
    head = struct.pack("<iqqqBi", vectors.shape[1], len(vectors), 1 << 20, 1 << 20, 1, metric)
    name = b"IxF2" if metric else b"IxFI"
    return name + head + struct.pack("<Q", vectors.size) + vectors.tobytes(), head


def faiss_hnsw(vectors, m, ef, links=None):
    flat, head = faiss_flat(vectors, 1)
    links = links or nearest_on(vectors, m)

    def numbers(kind, *values):
        return struct.pack(f"<Q{len(values)}{kind}", len(values), *values)

    neighbours, offsets, n = [], [0], len(vectors)
    for row in range(n):
        for at in range(level(row) + 1):
            found, width = links(row, at), m if at else 2 * m
            neighbours += found + [-1] * (width - len(found))
        offsets.append(len(neighbours))
    graph = numbers("d", 0.9, 0.1) + numbers("i", 0, 2 * m, 3 * m)
    graph += numbers("i", *[level(row) + 1 for row in range(n)])
    graph += numbers("Q", *offsets) + numbers("i", *neighbours)
    return b"IHNf" + head + graph + struct.pack("<5i", 0, 1, ef, 16, 1) + flat


def usearch(vectors, labels, kind=11, metric=b"c", m=4, slot=15):
    n = len(vectors)
    links = nearest_on(vectors, m)
    head = b"usearch" + struct.pack("<3H", 2, 1, 0) + metric + bytes([kind, 14, slot])
    head += struct.pack("<QQQB", n, 0, vectors.shape[1], 0)
    graph = struct.pack("<5Q", n, m, 2 * m, 1, 0)
    graph += struct.pack(f"<{n}h", *[level(row) for row in range(n)])
    wide = 4 if slot == 15 else 5
    for row, label in enumerate(labels):
        graph += struct.pack("<Qh", label, level(row))
        for at in range(level(row) + 1):
            found, width = links(row, at), m if at else 2 * m
            graph += struct.pack("<I", len(found))
            graph += b"".join(to.to_bytes(wide, "little") for to in found)
            graph += bytes(wide * (width - len(found)))
    matrix = struct.pack("<II", n, vectors.nbytes // n) + vectors.tobytes()
    return matrix + head.ljust(64, b"\0") + graph
