"""Vectors for the measurements: read from what the field's data comes as, or made, and the exact
neighbours of the queries.

    tools/bench/datasets.py make image FOLDER         60,000 x 784, l2, as of drawn digits
    tools/bench/datasets.py make sift FOLDER          1,000,000 x 128, l2, as of image descriptors
    tools/bench/datasets.py truth DATA --space l2     compute the exact neighbours, and keep them

DATA is one of
  - a folder of base.npy, queries.npy and, if known, truth.npy (float32 row-major; int, 100 each);
  - a folder of *base.fvecs, *query.fvecs and, if known, *groundtruth.ivecs;
  - an .hdf5 file of `train`, `test` and `neighbors`, as ann-benchmarks has them (needs h5py).
`Data` holds paths of .npy files, so that every process maps the same pages: what was no .npy is
converted, and a subset cut, once, in the cache folder.  Exact neighbours that are missing are
computed, 100 for each query, by blocks in float32 and then, for the nearest, again in float64.
Those that are there are checked for a few queries, so that a wrong --space does not go unnoticed.

The made sets are seeded.  They are no images and no descriptors, but they have what counts for a
graph: values of that range, many zeros, clusters of uneven size, and few dimensions around each
point (`image` some 13, `sift` some 16) in which neighbours lie.  Queries come from the same
distribution and are not in the base.
"""

import argparse
import dataclasses
import hashlib
import json
import pathlib
import sys
from typing import Any

import numpy as np

NEIGHBOURS = 100
SPACES = ("l2", "ip", "cosine")


@dataclasses.dataclass(frozen=True)
class Data:
    name: str
    space: str
    base: pathlib.Path
    queries: pathlib.Path
    truth: pathlib.Path
    count: int
    dim: int
    query_count: int

    def key(self) -> str:
        """Of the vectors and the space: what a cached index is filed under."""
        facts = f"{self.base.resolve()} {self.base.stat().st_size} {self.count} {self.space}"
        return f"{self.name}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"

    def as_dict(self) -> dict[str, Any]:
        told = ("name", "space", "count", "dim", "query_count")
        return {name: getattr(self, name) for name in told}


# Distances and neighbours ---------------------------------------------------------------------


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)


def _nearest(base: np.ndarray, query: np.ndarray, ids: np.ndarray, space: str) -> np.ndarray:
    """`ids` of rows of the base, the nearest of them first, by float64; ties by id."""
    rows = np.asarray(base[ids], np.float64)
    asked = query.astype(np.float64)
    if space == "l2":
        far = ((rows - asked) ** 2).sum(axis=1)
    else:
        far = -(rows @ asked)
        if space == "cosine":
            norms = np.linalg.norm(rows, axis=1)
            far = far / np.where(norms > 0, norms, 1)
    return ids[np.lexsort((ids, far))]


def exact(
    base: np.ndarray, queries: np.ndarray, space: str, k: int = NEIGHBOURS, block: int = 20_000
) -> np.ndarray:
    """The ids of the k nearest rows of the base, nearest first, (queries, k), int32."""
    k = min(k, len(base))
    asked = np.asarray(queries, np.float32)
    if space == "cosine":
        asked = _unit(asked)
    spare = k + 28  # float32 may order near ones wrongly: the last look is at some more
    best = np.empty((len(asked), 0), np.float32)
    found = np.empty((len(asked), 0), np.int64)
    for at in range(0, len(base), block):
        part = np.asarray(base[at : at + block], np.float32)
        if space == "cosine":
            part = _unit(part)
        far = asked @ part.T
        far *= -2 if space == "l2" else -1
        if space == "l2":  # without |query|^2, which changes no order
            far += (part.astype(np.float64) ** 2).sum(axis=1).astype(np.float32)
        keep = np.argpartition(far, min(spare, len(part)) - 1, axis=1)[:, :spare]
        best = np.hstack((best, np.take_along_axis(far, keep, 1)))
        found = np.hstack((found, keep + at))
        if best.shape[1] > spare:
            keep = np.argpartition(best, spare - 1, axis=1)[:, :spare]
            best, found = (np.take_along_axis(x, keep, 1) for x in (best, found))
    return np.array(
        [_nearest(base, asked[row], found[row], space)[:k] for row in range(len(asked))], np.int32
    )


def recall(found: np.ndarray, truth: np.ndarray, k: int) -> float:
    """The share of the k nearest that were found, over all queries."""
    k_true = min(k, truth.shape[1])
    hits = sum(
        len(set(mine) & set(true))
        for mine, true in zip(found[:, :k].tolist(), truth[:, :k_true].tolist(), strict=True)
    )
    return hits / (len(found) * k_true)


# Files ----------------------------------------------------------------------------------------


def read_vecs(path: pathlib.Path) -> np.ndarray:
    """.fvecs, .ivecs, .bvecs: each row is its length as int32 and then its numbers."""
    kind = {".fvecs": np.float32, ".ivecs": np.int32, ".bvecs": np.uint8}[path.suffix]
    width = np.dtype(kind).itemsize
    raw = np.memmap(path, np.uint8, "r")
    dim = int(raw[:4].view(np.int32)[0])
    if dim <= 0 or raw.size % (4 + dim * width):
        raise SystemExit(f"{path}: no whole rows of {dim} numbers")
    return raw.reshape(-1, 4 + dim * width)[:, 4:].view(kind)


def write_vecs(path: pathlib.Path, rows: np.ndarray) -> None:
    rows = np.ascontiguousarray(rows)
    lengths = np.full((len(rows), 1), rows.shape[1], np.int32).view(np.uint8)
    np.hstack((lengths, rows.view(np.uint8).reshape(len(rows), -1))).tofile(path)


def _parts(path: pathlib.Path) -> tuple[dict[str, Any], str | None]:
    """base, queries and perhaps truth, as arrays or maps; and the space, if the data says it."""
    if path.suffix in (".hdf5", ".h5"):
        import h5py

        file = h5py.File(path, "r")
        names = {"base": "train", "queries": "test", "truth": "neighbors"}
        parts = {mine: file[theirs] for mine, theirs in names.items() if theirs in file}
        space = {"angular": "cosine", "euclidean": "l2"}.get(str(file.attrs.get("distance")))
        return parts, space
    if (path / "base.npy").exists():
        space = None
        if (path / "about.json").exists():
            space = json.loads((path / "about.json").read_text())["space"]
        names = [name for name in ("base", "queries", "truth") if (path / f"{name}.npy").exists()]
        return {name: np.load(path / f"{name}.npy", mmap_mode="r") for name in names}, space
    parts = {}
    for name, pattern in (("base", "*base.?vecs"), ("queries", "*query.?vecs")):
        found = sorted(path.glob(pattern))
        if len(found) != 1:
            raise SystemExit(f"{path}: neither base.npy nor one {pattern}")
        parts[name] = read_vecs(found[0])
    for found in sorted(path.glob("*groundtruth.ivecs"))[:1]:
        parts["truth"] = read_vecs(found)
    return parts, None


def _keep(path: pathlib.Path, make: Any) -> pathlib.Path:
    """The file of an array, made if it is not there; never a half of one."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npy")
        np.save(part, make())
        part.rename(path)
    return path


def load(
    path: pathlib.Path,
    space: str | None,
    cache: pathlib.Path,
    items: int | None = None,
    queries: int | None = None,
) -> Data:
    """The data at `path`, its first `items` vectors and `queries` queries (None: all)."""
    parts, told = _parts(path)
    space = space or told
    if space not in SPACES:
        raise SystemExit(f"{path} does not say its space: give --space l2, ip or cosine")
    total, dim = parts["base"].shape
    count = min(items or total, total)
    asked = min(queries or len(parts["queries"]), len(parts["queries"]))
    name = path.stem if path.is_file() else path.resolve().name
    folder = cache / "data" / name
    plain = path.is_dir() and (path / "base.npy").exists()

    def floats(part: str, n: int) -> pathlib.Path:
        rows = parts[part]
        if plain and n == len(rows) and rows.dtype == np.float32:
            return path / f"{part}.npy"
        return _keep(
            folder / f"{part}-{n}.npy",
            lambda: np.ascontiguousarray(np.asarray(rows[:n]), np.float32),
        )

    base, query = floats("base", count), floats("queries", asked)
    if "truth" in parts and count == total:
        truth = _keep(
            folder / f"truth-{space}-{asked}.npy",
            lambda: _checked(parts, space, asked, path),
        )
    else:
        truth = _keep(
            folder / f"truth-{space}-{count}-{asked}.npy",
            lambda: exact(np.load(base, mmap_mode="r"), np.load(query), space),
        )
    return Data(name, space, base, query, truth, count, dim, asked)


def _checked(parts: dict[str, Any], space: str, asked: int, path: pathlib.Path) -> np.ndarray:
    truth = np.asarray(parts["truth"][:asked], np.int32)
    some = min(16, asked)
    mine = exact(parts["base"], np.asarray(parts["queries"][:some], np.float32), space, k=10)
    if recall(truth[:some, : mine.shape[1]], mine, mine.shape[1]) < 0.98:
        raise SystemExit(f"{path}: its exact neighbours are not those by {space}")
    return truth


# Making ---------------------------------------------------------------------------------------


def _smooth(rng: np.random.Generator, count: int, side: int, width: float) -> np.ndarray:
    """`count` pictures of smooth noise, (count, side * side), each of mean 0 and variance 1."""
    at = np.arange(side)
    blur = np.exp(-((at[:, None] - at[None, :]) ** 2) / (2 * width**2))
    pictures = blur @ rng.standard_normal((count, side, side)) @ blur.T
    flat = pictures.reshape(count, -1)
    flat -= flat.mean(axis=1, keepdims=True)
    return (flat / flat.std(axis=1, keepdims=True)).astype(np.float32)


def make_image(count: int, dim: int, seed: int, latent: int = 20) -> np.ndarray:
    """Ten kinds of pictures.  Each is a smooth prototype that bends along `latent` directions, some
    of them squared, so that the surface is curved; what is below a threshold is 0, the rest 0..255.
    """
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(dim)))
    kinds = 10
    shapes = [_smooth(rng, 1 + 2 * latent, side, side / 11)[:, :dim] for _ in range(kinds)]
    kind = rng.choice(kinds, count, p=rng.dirichlet(np.full(kinds, 20.0)))
    made = np.empty((count, dim), np.float32)
    fade = 1 / np.sqrt(1 + 0.3 * np.arange(latent, dtype=np.float32))
    for number in range(kinds):
        rows = np.flatnonzero(kind == number)
        first, bends, curves = np.split(shapes[number], [1, 1 + latent])
        for part in np.array_split(rows, max(1, len(rows) // 20_000)):
            z = rng.standard_normal((len(part), latent)).astype(np.float32) * fade
            picture = first + 0.4 * (z @ bends) + 0.2 * ((z * z - fade**2) @ curves)
            picture += 0.1 * rng.standard_normal(picture.shape, dtype=np.float32)
            made[part] = np.clip(np.rint(110 * (picture - 0.75)), 0, 255)
    return made


def make_sift(count: int, dim: int, seed: int, latent: int = 24) -> np.ndarray:
    """Clusters in clusters: 100 groups of 40, of uneven sizes.  Around each centre points lie in
    `latent` directions, with less and less in each, and a little everywhere; then values are bent
    to be small mostly, as counts of gradients are, 0..218.
    """
    rng = np.random.default_rng(seed)
    groups, each = 100, 40
    group = rng.standard_normal((groups, dim)).astype(np.float32)
    centre = np.repeat(group, each, axis=0) * 0.55
    centre += 0.55 * rng.standard_normal(centre.shape).astype(np.float32)
    shared = rng.standard_normal((groups, latent, dim)).astype(np.float32) / np.sqrt(latent)
    fade = (1 / (1 + 0.05 * np.arange(latent, dtype=np.float32)))[None, :]
    weights = rng.dirichlet(np.full(groups * each, 1.5))
    cluster = rng.choice(groups * each, count, p=weights)
    made = np.empty((count, dim), np.float32)
    for number in range(groups):
        rows = np.flatnonzero(cluster // each == number)
        for part in np.array_split(rows, max(1, len(rows) // 20_000)):
            z = rng.standard_normal((len(part), latent)).astype(np.float32) * fade
            point = centre[cluster[part]] + 0.9 * (z @ shared[number])
            point += 0.35 * rng.standard_normal(point.shape, dtype=np.float32)
            made[part] = np.clip(np.rint(22 * np.maximum(point + 0.6, 0) ** 1.5), 0, 218)
    return made


MAKERS = {"image": (make_image, 60_000, 784), "sift": (make_sift, 1_000_000, 128)}


def make(
    kind: str,
    folder: pathlib.Path,
    count: int | None,
    dim: int | None,
    queries: int,
    seed: int,
    **more: int,
) -> None:
    maker, usual_count, usual_dim = MAKERS[kind]
    count, dim = count or usual_count, dim or usual_dim
    rows = maker(count + queries, dim, seed, **more)
    order = np.random.default_rng(seed + 1).permutation(len(rows))
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "queries.npy", rows[order[:queries]])
    np.save(folder / "base.npy", rows[order[queries:]])
    about = {"space": "l2", "made": kind, "count": count, "dim": dim, "seed": seed} | more
    (folder / "about.json").write_text(json.dumps(about) + "\n")
    truth = exact(np.load(folder / "base.npy", mmap_mode="r"), rows[order[:queries]], "l2")
    np.save(folder / "truth.npy", truth)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="a seeded set of vectors")
    making.add_argument("kind", choices=MAKERS)
    making.add_argument("folder", type=pathlib.Path)
    making.add_argument("--n", type=int, help="vectors; else 60,000 or 1,000,000")
    making.add_argument("--dim", type=int, help="else 784 or 128")
    making.add_argument("--queries", type=int, default=5_000)
    making.add_argument("--latent", type=int, help="dimensions around a point; else 20 or 24")
    making.add_argument("--seed", type=int, default=1)
    exactly = commands.add_parser("truth", help="the exact neighbours")
    exactly.add_argument("data", type=pathlib.Path)
    exactly.add_argument("--space", choices=SPACES)
    exactly.add_argument("--cache", type=pathlib.Path, default=pathlib.Path("bench-cache"))
    args = parser.parse_args()
    if args.command == "make":
        more = {} if args.latent is None else {"latent": args.latent}
        make(args.kind, args.folder, args.n, args.dim, args.queries, args.seed, **more)
    else:
        print(load(args.data, args.space, args.cache).truth)
    return 0


if __name__ == "__main__":
    sys.exit(main())
