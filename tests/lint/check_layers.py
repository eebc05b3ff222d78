"""The house rules that a script can check, read from the C sources under one root.

    check_layers.py ROOT [--compiler CC ...]    report every breach; status 1 when there is one
    check_layers.py --self-test                 break each rule once and see it reported

A rule is a function from a Tree to breaches.  Comments and strings are blanked first, so that a
sentence may name what code may not.
"""

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOMS = ("storage", "engine", "bindings", "tools", "tests")
LIBRARY = ("storage/", "engine/")
PUBLIC = (
    "engine/navmap.h",
    "engine/navmap_filter.h",
    "engine/navmap_recall.h",
    "engine/navmap_vacuum.h",
    "storage/status.h",
)
BOUNDARY = "storage/store.h"  # a contract that several rooms of storage fulfil together

# Storage headers that the engine may see; everything else of storage is storage's own.
SEEN_BY_ENGINE = {
    f"storage/{name}.h"
    for name in (
        "store", "view", "stage", "layout", "status", "fail", "epoch", "cpus", "seal", "sink",
        "source", "salvage", "rewriting", "memory", "half", "finding",
    )
}

STORAGE_BASE = {
    "layout", "view", "map", "lock", "io", "checksum", "status", "fail", "epoch", "cpus",
    "memory", "half",
}
ENGINE_BASE = {
    "graph", "rank", "select", "pool", "visited", "scratch", "crew", "filter", "walk", "label",
    "marks", "plan", "code", "hops", "bisect",
    "presort",
}

# Which files may say a word, as patterns of names; nobody else may.
ONE_DOOR = (
    (r"\bmdb_\w+|\bMDB_\w+", r"storage/(wal(_\w+)?\.[ch]|labels\.c)", "LMDB"),
    (r"<lmdb\.h>", r"storage/(wal(_\w+)?\.c|wal_\w+\.h|labels\.c)", "LMDB"),
    (r"\bXXH\w+|<xxhash\.h>", r"storage/checksum\.h", "xxHash"),
    (
        r"\b(open|openat|creat|pread|pwrite|preadv|pwritev|fsync|fdatasync|syncfs|sync_file_range"
        r"|ftruncate|truncate|fallocate|posix_fallocate|rename|renameat2?|unlink|unlinkat|rmdir"
        r"|mkdir|mkdirat|stat|fstat|lstat|fstatat|statfs|fstatfs|msync|opendir|readdir|fopen"
        r"|mkstemp|mkdtemp|copy_file_range|sendfile|link|symlink|readlink|realpath)\s*\(",
        r"storage/(io(_\w+)?|lock)\.c",
        "file system call",
    ),
)

# The room that keeps a word to itself: the other side of the boundary may not use it in code.
WORDS = (
    ("storage/", r"(?i)\w*(distance|neighbou?r)\w*", "a word of the engine"),
    ("engine/", r"(?i)\b(?!lmdb_allocated_bytes\b)\w*(fsync|lmdb|msync)\w*", "a word of storage"),
)

# A library never prints, exits or aborts; a broken invariant is a status, not an assertion.
FORBIDDEN = re.compile(
    r"\b(printf|fprintf|vprintf|vfprintf|dprintf|puts|fputs|putchar|perror|exit|_exit|_Exit"
    r"|quick_exit|abort|assert|syslog|atexit)\s*\("
)

LONG, TOO_LONG, COLUMNS = 500, 600, 100
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*("([^"]+)"|<([^>]+)>)', re.MULTILINE)
TOKEN = re.compile(
    r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL
)


@dataclass(frozen=True)
class Breach:
    path: str
    line: int
    text: str
    fatal: bool = True

    def __str__(self):
        return f"{self.path}:{self.line}: {'' if self.fatal else 'warning: '}{self.text}"


@dataclass
class Source:
    path: str
    text: str  # as it is
    code: str  # comments and the inside of strings blanked; as many lines

    def line_of(self, position):
        return self.text.count("\n", 0, position) + 1

    def includes(self):
        """(line, name, is_own): names as written."""
        for match in INCLUDE.finditer(self.uncommented):
            yield self.line_of(match.start()), match[2] or match[3], match[2] is not None

    @property
    def uncommented(self):
        return TOKEN.sub(lambda m: m[0] if m[0][0] in "\"'" else blank(m[0]), self.text)


def blank(text):
    return re.sub(r"[^\n]", " ", text)


def read_tree(root):
    sources = {}
    for room in ROOMS:
        for path in sorted(p for end in ("[ch]", "inc") for p in (root / room).rglob(f"*.{end}")):
            text = path.read_text(encoding="utf-8")
            name = path.relative_to(root).as_posix()
            sources[name] = Source(name, text, TOKEN.sub(lambda m: blank(m[0]), text))
    return sources


def layer(path):
    """The row of the layer table that a file stands in."""
    room, _, rest = path.partition("/")
    stem = rest.rsplit(".", 1)[0]
    head = stem.split("_")[0]
    if room == "storage":
        return 0 if head in STORAGE_BASE else 1
    if room == "engine":
        if rest.startswith("distance/"):
            return 2
        return 3 if head in ENGINE_BASE else 4
    return {"bindings": 6, "tools": 6, "tests": 7}[room]


def check_includes(tree):
    """From the root, to a file that exists, down the layers, through the doors."""
    for source in tree.values():
        room = source.path.split("/")[0]
        for line, name, own in source.includes():
            if not own:
                if name in tree:
                    yield Breach(source.path, line, f"<{name}> is ours: include it with quotes")
                continue
            if name not in tree:
                yield Breach(source.path, line, f'"{name}" is no path from the root')
                continue
            target_room = name.split("/")[0]
            if room == "tests":
                continue
            if target_room == "tests":
                yield Breach(source.path, line, f'"{name}": only tests include tests')
            elif room in ("tools", "bindings"):
                if target_room != room and name not in PUBLIC[:-1]:
                    yield Breach(source.path, line, f'"{name}": {room} see public headers of the engine only')
            elif name in PUBLIC:
                if room == "storage" and target_room == "engine":
                    yield Breach(source.path, line, f'"{name}": storage does not know the engine')
            elif layer(name) > layer(source.path):
                yield Breach(source.path, line, f'"{name}" lies above this file (layer table)')
            elif room == "engine" and target_room == "storage" and name not in SEEN_BY_ENGINE:
                yield Breach(source.path, line, f'"{name}" is storage\'s own')


def room_of(path):
    """x.c and x.h are one room, and so is x_more.c: the name before the first underscore."""
    if path == BOUNDARY:
        return path
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name.rsplit('.', 1)[0].split('_')[0]}"


def check_cycles(tree):
    """Sideways includes form no circle, neither of headers nor of rooms of the library."""
    graph, where = {}, {}
    for source in tree.values():
        if not source.path.startswith(LIBRARY):
            continue
        here = room_of(source.path)
        for line, name, own in source.includes():
            if own and name in tree and name not in PUBLIC and room_of(name) != here:
                graph.setdefault(here, set()).add(room_of(name))
                where.setdefault((here, room_of(name)), (source.path, line))
    state = {}

    def visit(node, trail):
        state[node] = "open"
        for target in sorted(graph.get(node, ())):
            if state.get(target) == "open":
                circle = trail[trail.index(target) :] + [target]
                yield Breach(*where[node, target], "a circle of includes: " + " -> ".join(circle))
            elif target not in state:
                yield from visit(target, trail + [target])
        state[node] = "done"

    for node in sorted(graph):
        if node not in state:
            yield from visit(node, [node])


def check_doors(tree):
    for source in tree.values():
        if not source.path.startswith(LIBRARY):
            continue
        for pattern, allowed, what in ONE_DOOR:
            if re.fullmatch(allowed, source.path):
                continue
            text = source.uncommented if "<" in pattern else source.code
            for match in re.finditer(pattern, text):
                word = match[0].rstrip("( ")
                yield Breach(source.path, source.line_of(match.start()), f"{word}: {what} here")


def check_words(tree):
    for source in tree.values():
        for start, pattern, what in WORDS:
            if source.path.startswith(start) and source.path not in PUBLIC:
                for match in re.finditer(pattern, source.code):
                    yield Breach(source.path, source.line_of(match.start()), f"{match[0]}: {what}")


def check_quiet(tree):
    for source in tree.values():
        if source.path.startswith(LIBRARY):
            for match in FORBIDDEN.finditer(source.code):
                text = f"{match[1]}(): a library never prints, exits or aborts"
                yield Breach(source.path, source.line_of(match.start()), text)


def check_form(tree):
    """Length, head comment, guard, width, no umbrella header, nothing left for later."""
    guards = {}
    for source in tree.values():
        lines = source.text.split("\n")
        name = source.path.rpartition("/")[2]
        if len(lines) - 1 > TOO_LONG:
            yield Breach(source.path, TOO_LONG, f"{len(lines) - 1} lines: this wants another room")
        elif len(lines) - 1 > LONG:
            yield Breach(source.path, LONG, f"{len(lines) - 1} lines", fatal=False)
        if not source.text.startswith(f"/* {name} -- "):
            yield Breach(source.path, 1, f'the first line is not "/* {name} -- why it exists"')
        for number, line in enumerate(lines, 1):
            if len(line) > COLUMNS:
                yield Breach(source.path, number, f"{len(line)} columns")
            if "\t" in line or line != line.rstrip():
                yield Breach(source.path, number, "a tab or a space at the end")
        for match in re.finditer(r"\b(TODO|FIXME|XXX|HACK)\b", source.text):
            yield Breach(source.path, source.line_of(match.start()), f"{match[0]}: do it or drop it")
        if not name.endswith(".h"):
            continue
        ending = re.sub(r"\W", "_", name).upper()
        guard = re.search(rf"^#ifndef (NAVMAP_(?:\w+_)?{ending})\n#define \1\n", source.text, re.M)
        if guard is None:
            yield Breach(source.path, 1, f"no guard NAVMAP_..._{ending}")
        elif guards.setdefault(guard[1], source.path) != source.path:
            yield Breach(source.path, 1, f"{guard[1]} guards {guards[guard[1]]} too")
        body = re.sub(r"^[ \t]*#.*$", "", source.code, flags=re.MULTILINE)
        if not body.strip() and any(own for _, _, own in source.includes()):
            yield Breach(source.path, 1, "an umbrella header: include what is used")


def check_headers_compile(root, tree, compiler):
    """Each header by itself; the public ones as strict C11, as a stranger would include them."""
    if not compiler:
        return
    warnings = ["-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-xc", "-"]
    for source in tree.values():
        if not source.path.endswith(".h") or source.path.startswith("bindings/"):
            continue
        dialect = ["-std=gnu11", "-D_GNU_SOURCE"]
        if source.path in PUBLIC:
            dialect = ["-std=c11", "-pedantic-errors"]
        unit = f'#include "{source.path}"\n#include "{source.path}"\nextern int unit_is_not_empty;\n'
        run = subprocess.run(
            [*compiler, *dialect, f"-I{root}", *warnings], input=unit, text=True, capture_output=True
        )
        if run.returncode != 0:
            first = next((l for l in run.stderr.splitlines() if "error" in l), run.stderr.strip())
            yield Breach(source.path, 1, f"does not compile alone: {first}")


RULES = (check_includes, check_cycles, check_doors, check_words, check_quiet, check_form)


def breaches_of(root, compiler=()):
    tree = read_tree(root)
    found = [b for rule in RULES for b in rule(tree)]
    found += check_headers_compile(root, tree, compiler)
    return tree, sorted(found, key=lambda b: (b.path, b.line))


# --- self-test -------------------------------------------------------------------------------

SOUND = {
    "storage/status.h": "int s;\n",
    "storage/io.h": '#include "storage/status.h"\nint i;\n',
    "storage/io.c": '#include "storage/io.h"\nint f(void) { return open("x", 0); }\n',
    "storage/lock.h": "int l;\n",
    "storage/lock.c": '#include "storage/lock.h"\n#include "storage/io.h"\nint m;\n',
    "storage/stage.h": '#include "storage/io.h"\nint st;\n',
    "storage/store.h": '#include "storage/stage.h"\nint so;\n',
    "storage/wal.c": '#include <lmdb.h>\nint w(void) { return mdb_version(0, 0, 0) != 0; }\n',
    "engine/navmap.h": '#include "storage/status.h"\nint n;\n',
    "engine/distance/scalar.h": "int d;\n",
    "engine/graph.h": '#include "engine/distance/scalar.h"\nint g;\n',
    "engine/index.c": '#include "engine/graph.h"\n#include "storage/store.h"\nint x;\n',
    "tools/navmap.c": '#include "engine/navmap.h"\nint main(void) { printf("hello"); }\n',
}

# What to add to which file, and a part of the sentence that must come of it.
BROKEN = (
    ("storage/stage.h", '#include "engine/graph.h"\n', "lies above"),
    ("storage/io.h", '#include "storage/store.h"\n', "lies above"),
    ("engine/distance/scalar.h", '#include "engine/graph.h"\n', "lies above"),
    ("storage/stage.h", '#include "engine/navmap.h"\n', "does not know the engine"),
    ("engine/index.c", '#include "storage/io.h"\n', "storage's own"),
    ("tools/navmap.c", '#include "storage/store.h"\n', "see public headers of the engine only"),
    ("engine/graph.h", '#include "graph.h"\n', "no path from the root"),
    ("storage/io.h", '#include "storage/lock.h"\n', "circle of includes"),
    ("storage/store.h", "int v(void) { return mdb_version(0, 0, 0) != 0; }\n", "LMDB"),
    ("storage/store.h", "#include <lmdb.h>\n", "LMDB"),
    ("engine/index.c", "int h(void) { return XXH3_64bits(0, 0) != 0; }\n", "xxHash"),
    ("storage/stage.h", "int o(int fd) { return fsync(fd); }\n", "file system call"),
    ("storage/stage.h", "int neighbour_count;\n", "word of the engine"),
    ("engine/index.c", "int lmdb_pages;\n", "word of storage"),
    ("engine/index.c", 'int p(void) { return printf("x"); }\n', "never prints"),
    ("storage/io.c", "void a(void) { abort(); }\n", "never prints"),
    ("storage/io.c", "void a(int x) { assert(x); }\n", "never prints"),
    ("storage/io.c", "int y;\n" * 700, "another room"),
    ("storage/io.c", "int z = " + "1 + " * 40 + "1;\n", "columns"),
    ("storage/io.c", "int t;\t\n", "a tab"),
    ("storage/io.c", "/* TO" "DO */\n", "do it or drop it"),
)


def write_tree(root, files):
    for name, body in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        head = f"/* {path.name} -- a file of the self-test. */\n"
        if name.endswith(".h"):
            guard = "NAVMAP_" + re.sub(r"\W", "_", name).upper()
            body = f"#ifndef {guard}\n#define {guard}\n{body}#endif\n"
        path.write_text(head + body)


def self_test():
    failures = 0

    def expect(condition, sentence):
        nonlocal failures
        if not condition:
            failures += 1
            print(f"self-test: {sentence}")

    def run(files, edit=lambda root: None):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            write_tree(root, files)
            edit(root)
            return [str(b) for b in breaches_of(root)[1]]

    sound = run(SOUND)
    expect(not sound, f"the sound tree is refused: {sound}")
    for name, extra, part in BROKEN:
        found = run({**SOUND, name: SOUND[name] + extra})
        hit = any(line.startswith(f"{name}:") and part in line for line in found)
        hit = hit or (part == "circle of includes" and any(part in line for line in found))
        expect(hit, f"{name} + {extra[:60]!r}: {part!r} is not reported, but {found}")
    umbrella = run({**SOUND, "storage/all.h": '#include "storage/store.h"\n'})
    expect(any("umbrella" in line for line in umbrella), f"umbrella: {umbrella}")
    guard = run(SOUND, lambda root: (root / "storage/io.h").write_text("/* io.h -- x */\nint i;\n"))
    expect(any("no guard NAVMAP_..._IO_H" in line for line in guard), f"guard: {guard}")
    twin = {**SOUND, "engine/io.h": "int i;\n"}
    text = "/* io.h -- x */\n#ifndef NAVMAP_STORAGE_IO_H\n#define NAVMAP_STORAGE_IO_H\n#endif\n"
    found = run(twin, lambda root: (root / "engine/io.h").write_text(text))
    expect(any("guards storage/io.h too" in line for line in found), f"twin guards: {found}")
    head = run(SOUND, lambda root: (root / "storage/io.c").write_text("int i;\n"))
    expect(any("the first line" in line for line in head), f"head: {head}")
    print(f"{len(BROKEN) + 5 - failures} passed, {failures} failed")
    return 1 if failures else 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    root, compiler = Path(sys.argv[1]).resolve(), []
    if sys.argv[2:3] == ["--compiler"]:
        compiler = sys.argv[3:]
    tree, found = breaches_of(root, compiler)
    for breach in found:
        print(breach)
    fatal = sum(b.fatal for b in found)
    print(f"{len(tree)} files, {fatal} breaches")
    return 1 if fatal else 0


if __name__ == "__main__":
    sys.exit(main())
