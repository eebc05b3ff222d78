"""The options of compare.py, and how their words are read.

It is a module of compare.py.
"""

import argparse
import pathlib

import datasets

USUAL = ("navmap", "hnswlib", "faiss", "usearch")
PARTS = ("index", "build", "query", "open", "limits")
MODES = ("batch", "single", "native")


def words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


def integers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in words(text))


def fractions(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in words(text))


def named(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def parser(about: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add("parts", nargs="*", choices=[*PARTS, []], help=f"any of {', '.join(PARTS)}")
    add("--data", type=pathlib.Path, help="folder or file")
    add("--space", choices=datasets.SPACES, help="if the data does not say it")
    add("--peers", type=words, default=USUAL, help="the first is what others are compared with")
    add("--python", type=named, action="append", default=[], metavar="PEER=PATH")
    add("--cache", type=pathlib.Path, default=pathlib.Path("bench-cache"))
    add("--out", type=pathlib.Path, default=pathlib.Path("bench-results"))
    add("--fresh", action="store_true", help="build the kept indexes anew")
    add("--items", type=int, help="only the first ITEMS vectors")
    add("--queries", type=int, help="only the first QUERIES queries")
    add("--M", type=int, default=16)
    add("--ef-construction", type=int, default=200)
    add("--levels", type=fractions, default=(0.90, 0.95, 0.99))
    add("--k", type=integers, default=(10,), help="such as 10,100")
    add("--threads", type=integers, default=(1,), help="such as 1,2")
    add("--modes", type=words, default=("batch",), help="of batch,single,native")
    add("--rounds", type=int, default=5)
    add("--seconds", type=float, default=0.5, help="that one point takes in one round")
    add("--build-rounds", type=int, default=1)
    add("--build-threads", type=int, default=1, help="of the indexes that are kept")
    add("--cpus", type=integers, help="processors to use, such as 0,1; else all allowed")
    add(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: on a machine that is not idle",
    )
    add("--curves", action="store_true", help="measure the whole ladder too, for the pictures")
    add("--least", type=float, default=0.8, help="recall from which on curves are measured")
    add("--top", type=float, default=0.999, help="recall at which ladders end")
    add("--ef-most", type=int, default=4000, help="ef at which ladders end")
    add("--programs", type=pathlib.Path, help="folder of the built C programs of tools/bench")
    add("--hnswlib-headers", type=pathlib.Path, help="folder of hnswlib/hnswlib.h")
    add("--limit-seconds", type=float, default=0.1, help="that one size takes, in one round")
    add("--limit-rounds", type=int, default=3)
    add("--list", action="store_true", help="say which libraries run here, and end")
    return made
