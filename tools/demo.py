"""What navmap is for, in under a minute: real processes share one durable index while it grows.

    python tools/demo.py [--keep DIR]

A writer process creates an index and adds 20,000 words with their GloVe vectors.  A reader process
opened the index while it was still empty, and finds the words as they arrive.  Both close.  A third
process then opens what they left.  Every figure shown was measured in this run.
"""

import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

DATA = Path(__file__).resolve().parent / "data" / "words-20k.npz"
WATCHED = ("river", "guitar", "physics", "bread", "football", "volcano")
BATCH = 500  # words per add_items() call, each of which is on disk when it returns
K = 10
EF = 64
QUERIES = 1000
DEADLINE = 300  # seconds; a demo that hangs should say so


def load():
    import numpy as np

    with np.load(DATA) as data:
        return data["words"].tolist(), data["vectors"].astype(np.float32)


def say(kind, **fields):
    """One event from a child process to the one that draws the screen."""
    print(json.dumps({"kind": kind, **fields}), flush=True)


def neighbours(index, words, vectors, label, k=5):
    """The k words nearest to a word, itself left out."""
    labels, _ = index.knn_query(vectors[label], k=k + 1, ef=EF)
    return [words[near] for near in labels[0].tolist() if near != label][:k]


# The three processes --------------------------------------------------------------------------


def writer(path):
    import numpy as np

    import navmap

    words, vectors = load()
    order = np.random.default_rng(7).permutation(len(words))  # watched words come at any time
    with navmap.create(path, space="cosine", dim=vectors.shape[1]) as index:
        say("created")
        sys.stdin.readline()  # the reader has opened it
        start = time.perf_counter()
        for first in range(0, len(order), BATCH):
            ids = order[first : first + BATCH]
            index.add_items(vectors[ids], ids)
            say("added", done=first + len(ids), total=len(order))
        say("filled", seconds=time.perf_counter() - start, calls=-(-len(order) // BATCH))
        sys.stdin.readline()  # the reader has seen the last word
    say("closed")


def reader(path):
    import navmap

    words, vectors = load()
    number = {word: label for label, word in enumerate(words)}
    with navmap.open(path) as index:
        say("opened", items=len(index))
        waiting = list(WATCHED)
        searches = 0
        start = time.perf_counter()
        while len(index) < len(words):
            for word in [word for word in waiting if number[word] in index]:
                waiting.remove(word)
                items = len(index)
                near = neighbours(index, words, vectors, number[word])
                say("found", word=word, items=items, neighbours=near)
            if len(index) > 10:
                index.knn_query(vectors[searches % len(vectors)], k=K, ef=EF)
                searches += 1
            time.sleep(0.002)
        seconds = time.perf_counter() - start
        for word in WATCHED[:2]:
            near = neighbours(index, words, vectors, number[word])
            say("found", word=word, items=len(index), neighbours=near)
        say("seen", items=len(index), searches=searches, seconds=seconds)
    say("closed")


def opener(path):
    import numpy as np

    import navmap

    words, vectors = load()
    number = {word: label for label, word in enumerate(words)}
    start = time.perf_counter()
    index = navmap.open(path)
    opened = time.perf_counter()
    index.knn_query(vectors[0], k=K, ef=EF)
    answered = time.perf_counter()
    milliseconds = [1e3 * (moment - start) for moment in (opened, answered)]
    say("opened", items=len(index), open_ms=milliseconds[0], first_ms=milliseconds[1])
    for word in WATCHED:
        say("near", word=word, neighbours=neighbours(index, words, vectors, number[word]))

    # Queries that are in no index: half-way between two words.
    pairs = np.random.default_rng(11).integers(0, len(words), (QUERIES, 2))
    queries = vectors[pairs].mean(axis=1)
    start = time.perf_counter()
    found, _ = index.knn_query(queries, k=K, ef=EF)
    fast = time.perf_counter() - start
    start = time.perf_counter()
    truth, _ = index.exact_query(queries, k=K)
    slow = time.perf_counter() - start
    hits = sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), truth.tolist(), strict=True))
    say("measured", recall=hits / truth.size, rate=QUERIES / fast, exact_rate=QUERIES / slow)

    blocks = sum(entry.stat().st_blocks for entry in os.scandir(path))
    say("size", allocated=512 * blocks, vectors=vectors.nbytes)
    index.close()
    say("closed")


ROLES = {"writer": writer, "reader": reader, "opener": opener}


# The one that starts them and draws -----------------------------------------------------------


class Child:
    """A process of this file in a role; its events arrive in a queue that may be shared."""

    def __init__(self, role, path, events):
        self.role = role
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--role", role, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.events = events
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            self.events.put((self, json.loads(line)))
        self.events.put((self, {"kind": "ended", "status": self.process.wait()}))

    def go_on(self):
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()


class Screen:
    """Lines, and at the bottom a progress bar; without a terminal a line every quarter."""

    def __init__(self):
        self.live = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.bar = ""
        self.quarter = 0

    def line(self, text=""):
        if self.bar:
            print("\r\033[K", end="")
        print(text)
        self._draw()

    def progress(self, done, total):
        if not self.live:
            if 4 * done // total > self.quarter:
                self.quarter = 4 * done // total
                print(f"  writer   {done:6,} of {total:,} words added")
            return
        cells = 40 * done // total
        self.bar = f"  writer   [{'#' * cells}{'.' * (40 - cells)}] {done:6,} of {total:,}"
        self._draw()

    def finish_bar(self):
        if self.bar:
            print()
        self.bar = ""

    def _draw(self):
        if self.bar:
            print("\r\033[K" + self.bar, end="")
        sys.stdout.flush()

    def near(self, who, word, neighbours, note=""):
        self.line(f"  {who:8} {word + note:24} {', '.join(neighbours)}")


def expect(events, *kinds):
    """The next event, which must be one of `kinds`; a child that failed ends the demo."""
    try:
        child, event = events.get(timeout=DEADLINE)
    except queue.Empty:
        raise SystemExit(f"demo: nothing happened for {DEADLINE} seconds") from None
    if event["kind"] == "ended" and event["status"] != 0:
        raise SystemExit(f"demo: the {child.role} ended with status {event['status']}")
    if event["kind"] not in kinds:
        raise SystemExit(f"demo: did not expect the {child.role} to say {event}")
    return child, event


def share(path, screen, children):
    """The writer fills the index under the reader's eyes."""
    events = queue.Queue()
    adding = Child("writer", path, events)
    children.append(adding)
    expect(events, "created")
    screen.line(f"1  Process {adding.process.pid} created an empty index and is its writer.")
    watching = Child("reader", path, events)
    children.append(watching)
    _, event = expect(events, "opened")
    screen.line(
        f"2  Process {watching.process.pid} opened it read-only ({event['items']} items) and waits "
        "for words.\n"
    )
    adding.go_on()
    filled = seen = None
    ended = 0
    while ended < 2:
        _, event = expect(events, "added", "filled", "found", "seen", "closed", "ended")
        if event["kind"] == "added":
            screen.progress(event["done"], event["total"])
        elif event["kind"] == "found":
            screen.near("reader", event["word"], event["neighbours"], f" (of {event['items']:,})")
        elif event["kind"] == "filled":
            filled = event
        elif event["kind"] == "seen":
            seen = event
            adding.go_on()  # it may close now
        elif event["kind"] == "ended":
            ended += 1
    screen.finish_bar()
    rate = seen["items"] / filled["seconds"]
    screen.line()
    screen.line(
        f"   Added in {filled['seconds']:.1f} s, {rate:,.0f} words/s, in {filled['calls']} calls; "
        "each was on disk when it returned."
    )
    screen.line(
        f"   The reader saw all {seen['items']:,} without reopening and made {seen['searches']:,} "
        "searches meanwhile."
    )
    screen.line("   Both processes have closed the index.\n")


def reopen(path, screen, children):
    """A third process opens what is on disk."""
    events = queue.Queue()
    child = Child("opener", path, events)
    children.append(child)
    while True:
        _, event = expect(events, "opened", "near", "measured", "size", "closed")
        kind = event["kind"]
        if kind == "opened":
            screen.line(
                f"3  Process {child.process.pid} opened {event['items']:,} items in "
                f"{event['open_ms']:.2f} ms; its first answer was there after "
                f"{event['first_ms']:.2f} ms.\n"
            )
        elif kind == "near":
            screen.near("", event["word"], event["neighbours"])
        elif kind == "measured":
            screen.line()
            screen.line(
                f"   recall@{K}      {event['recall']:.4f} against exact search, "
                f"{QUERIES:,} queries half-way between two words, ef={EF}"
            )
            screen.line(
                f"   speed          {event['rate']:,.0f} queries/s on one thread "
                f"(exact search: {event['exact_rate']:,.0f})"
            )
        elif kind == "size":
            screen.line(
                f"   on disk        {event['allocated']:,} bytes allocated, of which "
                f"{event['vectors']:,} are the vectors"
            )
        else:
            return


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", metavar="DIR", help="create the index at DIR and leave it there")
    parser.add_argument("--role", choices=ROLES, help=argparse.SUPPRESS)
    parser.add_argument("path", nargs="?", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role:
        ROLES[args.role](args.path)
        return
    if not DATA.exists():
        sys.exit(f"demo: {DATA} is missing")

    start = time.perf_counter()
    screen = Screen()
    children = []
    folder = None if args.keep else tempfile.mkdtemp(prefix="navmap-demo-")
    path = os.path.abspath(args.keep) if args.keep else os.path.join(folder, "words.navmap")
    if os.path.lexists(path):
        sys.exit(f"demo: {path} exists already")
    try:
        share(path, screen, children)
        reopen(path, screen, children)
        screen.line()
        where = f"The index is in {path}." if args.keep else "The index has been removed."
        screen.line(f"   All of it took {time.perf_counter() - start:.1f} s. {where}")
    except KeyboardInterrupt:
        screen.finish_bar()
        sys.exit(130)
    finally:
        for child in children:
            child.stop()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
