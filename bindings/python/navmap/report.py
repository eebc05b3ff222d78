"""`navmap.verify`: is everything in this index as it should be?"""

import os
from dataclasses import dataclass

from navmap import _core, convert


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong (or, with `warning`, odd but harmless)."""

    warning: bool
    section: str  # "header", "root", "state", "row", "upper", "payload", "labels", "log", ...
    slot: int | None  # None: not of one slot
    offset: int | None  # bytes from the start of the data file; None: not of one place
    message: str  # what was expected and what was found


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` looked at (counts) and what it found."""

    path: str
    quick: bool
    slots: int
    rows: int
    uppers: int
    payloads: int
    labels: int
    log_records: int
    reachable: int  # live items that a walk from the entry point meets
    damaged: int
    warnings: int
    findings: tuple[Finding, ...]  # the first 10,000

    @property
    def sound(self) -> bool:
        """No damage.  Warnings do not count."""
        return self.damaged == 0


def verify(path: convert.StrPath, quick: bool = False) -> Report:
    """Check the index at `path` from outside; it may be in use, also by a writer.

    quick: only what every `open` checks (header, root, sizes), in O(1).  Otherwise every
    checksum, bound, link and level, every label in both directions, and reachability: it reads
    the whole index once.

    Returns a `Report`; look at `report.sound` and `report.findings`.  Damage is no exception:
    exceptions say why the check could not run.

    Raises `NoIndexError` when there is no index, `VersionError` when it is of a newer format,
    `CorruptIndexError` when it cannot be opened far enough to be checked, and `StorageError`
    when it cannot be read.
    """
    name = convert.full_path(path)
    counts, findings = _core.verify(os.fsencode(name), bool(quick))
    return Report(
        path=name,
        quick=bool(quick),
        findings=tuple(
            Finding(
                warning,
                section,
                slot if slot != 0 else None,
                offset if offset != convert.U64_MAX else None,
                message,
            )
            for warning, section, slot, offset, message in findings
        ),
        **counts,
    )
