"""The shared library exports what the public headers declare: no name more, no name less.

    check_symbols.py ROOT LIBRARY
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

HEADERS = (
    "engine/navmap.h",
    "engine/navmap_filter.h",
    "engine/navmap_recall.h",
    "engine/navmap_vacuum.h",
    "storage/status.h",
)
SKIPPED = 77


def main():
    root, library = Path(sys.argv[1]), sys.argv[2]
    if shutil.which("nm") is None:
        print("skipped: no nm here")
        return SKIPPED
    declared = set()
    for header in HEADERS:
        text = re.sub(r"/\*.*?\*/", " ", (root / header).read_text(), flags=re.DOTALL)
        text = re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
        declared.update(re.findall(r"\bNAVMAP_API\b[^;]*?\b(navmap_\w+)\s*\(", text))
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True
    ).stdout
    exported = {line.split()[-1] for line in listing.splitlines() if line}
    for name in sorted(declared - exported):
        print(f"{name}: declared, not exported")
    for name in sorted(exported - declared):
        print(f"{name}: exported, not declared in {' or '.join(HEADERS)}")
    print(f"{len(declared)} declared, {len(exported)} exported")
    return 1 if declared != exported or not declared else 0


if __name__ == "__main__":
    sys.exit(main())
