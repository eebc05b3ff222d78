"""The built kernels do what their source asks for and compilers like to lose.

    check_kernels.py OBJDUMP LIBRARY    prefetches of every `many` kernel, fusing in none
    check_kernels.py --self-test

A prefetch has no result, so no test notices when it is gone: gcc 12 leaves one per vector, in front
of the loop over its lines.  Each must stand in a loop of a few instructions.  A multiplication fused
with an addition is noticed by tests, but only on a machine that has the instruction.
"""

import re
import shutil
import subprocess
import sys

SKIPPED = 77
KERNEL = re.compile(r"(?P<level>[a-z]+\d*)_(?:l2|ip)(?:_half)?_many")
FUNCTION = re.compile(r"^([0-9a-f]+) <([^>]+)>:$")
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
OBJECT = re.compile(r"^(.*):\s+file format ")
PREFETCH = re.compile(r"prefetch\w*|prfm")
JUMP = re.compile(r"j\w+|b|b\.\w+|cbn?z|tbn?z")
FUSED = re.compile(r"vf(n?m(add|sub)|maddsub|msubadd)\w*|fn?m(add|sub)|fml[as]")
# The loop over lines is a prefetch, an addition, a comparison, a jump, and what an unrolled one
# adds; the loop over vectors, which a lost prefetch would end up in, has twice as many.
INSTRUCTIONS_PER_PREFETCH = 7


def functions_of(listing):
    """(object, name, [(address, mnemonic, operands)]) of objdump -d."""
    where, current = "", None
    for line in listing.splitlines():
        if match := OBJECT.match(line):
            where = match[1]
        elif match := FUNCTION.match(line):
            current = (where, match[2], [])
            yield current
        elif current and (match := INSTRUCTION.match(line)):
            current[2].append((int(match[1], 16), match[2], match[3]))


def loops_of(code):
    """[first, last] positions of what a jump backwards repeats."""
    at = {address: i for i, (address, _, _) in enumerate(code)}
    for i, (_, mnemonic, operands) in enumerate(code):
        target = re.search(r"([0-9a-f]+) <", operands) if JUMP.fullmatch(mnemonic) else None
        first = at.get(int(target[1], 16)) if target else None
        if first is not None and first <= i:
            yield first, i


def breaches_of(listing):
    """Sentences, and the kernels that were seen."""
    found, seen = [], []
    for where, name, code in list(functions_of(listing)):
        if "distance_" not in where:
            continue
        for address, mnemonic, _ in code:
            if FUSED.fullmatch(mnemonic):
                found.append(f"{name}+{address:#x}: {mnemonic} fuses, and gives other bits")
        if not KERNEL.fullmatch(name.split(".")[0]):
            continue
        seen.append(name)
        places = [i for i, (_, mnemonic, _) in enumerate(code) if PREFETCH.fullmatch(mnemonic)]
        loops = list(loops_of(code))
        good = 0
        for place in places:
            around = [last - first + 1 for first, last in loops if first <= place <= last]
            inside = [
                sum(first <= p <= last for p in places)
                for first, last in loops
                if first <= place <= last
            ]
            dense = any(n <= INSTRUCTIONS_PER_PREFETCH * p for n, p in zip(around, inside))
            good += dense
            if not dense:
                found.append(f"{name}: a prefetch in no loop over lines, loops of {around}")
        # The first group is fetched before the loop over groups, the others inside.
        if good < 2:
            found.append(f"{name}: {good} loops that prefetch, expected 2")
    return found, seen


GOOD = """
engine_distance_x.c.o:     file format elf64-x86-64
0000000000000000 <x_l2_many>:
   0:\tprefetcht0 (%rax)
   3:\tadd    $0x40,%rax
   7:\tcmp    %rdx,%rax
   a:\tjb     0 <x_l2_many>
  10:\tprefetcht0 (%rax)
  13:\tadd    $0x40,%rax
  17:\tcmp    %rdx,%rax
  1a:\tjb     10 <x_l2_many+0x10>
  20:\tret
"""


def self_test():
    cases = (
        (GOOD, None),
        (GOOD.replace("  10:\tprefetcht0 (%rax)", "  10:\tnop"), "1 loops"),
        (GOOD.replace("jb     10", "jb     20"), "in no loop"),
        (GOOD.replace("  20:\tret", "  20:\tvfmadd231ps %ymm0,%ymm1,%ymm2"), "fuses"),
        (GOOD.replace("prefetcht0 (%rax)", "prfm pldl1keep, [x1]").replace("jb", "b.cc"), None),
        (GOOD.replace("  20:\tret", "  20:\tfmla v0.4s, v1.4s, v2.4s"), "fuses"),
    )
    failures = 0
    for listing, part in cases:
        found, seen = breaches_of(listing)
        if (part is None) != (not found) or (part and part not in found[0]) or seen != ["x_l2_many"]:
            print(f"expected {part}, got {found} for {listing}")
            failures += 1
    print(f"{len(cases) - failures} passed, {failures} failed")
    return 1 if failures else 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    objdump, library = sys.argv[1:]
    if shutil.which(objdump) is None:
        print("skipped: no objdump here")
        return SKIPPED
    listing = subprocess.run(
        [objdump, "-d", "--no-show-raw-insn", library], capture_output=True, text=True, check=True
    ).stdout
    found, seen = breaches_of(listing)
    for sentence in found:
        print(sentence)
    levels = sorted({KERNEL.fullmatch(name.split(".")[0])["level"] for name in seen})
    print(f"{len(seen)} kernels of levels {', '.join(levels)}")
    return 1 if found or not seen else 0


if __name__ == "__main__":
    sys.exit(main())
