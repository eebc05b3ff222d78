"""`navmap.verify` and `Index.check`: is everything in this index as it should be?"""

import os
from dataclasses import dataclass
from typing import Any, TypeAlias

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


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `Index.check` looked at (counts) and what it found."""

    max_level: int
    slots: int
    labels: int
    live: int  # slots in use, by status:
    deleted: int
    dead: int
    links: int  # on level 0
    upper_links: int  # above it
    reachable: int  # live items that a walk from the entry point meets
    no_in_links: int  # live items that no other one names on level 0
    dangling: int  # links to free slots, or to items below the link's level
    dead_links: int  # links to dead slots, which is legal until they are swept
    damaged: int
    warnings: int
    levels: tuple[int, ...]  # slots in use, by their highest level
    degrees: tuple[int, ...]  # slots in use, by links on level 0; the last: 64 and more
    in_degrees: tuple[int, ...]  # live items, by how many others name them on level 0; last as above
    findings: tuple[Finding, ...]  # the first 10,000

    @property
    def sound(self) -> bool:
        """No damage.  Warnings do not count."""
        return self.damaged == 0


RawFinding: TypeAlias = tuple[bool, str, int, int, str]


def findings_of(raw: list[RawFinding]) -> tuple[Finding, ...]:
    return tuple(
        Finding(
            warning,
            section,
            slot if slot != 0 else None,
            offset if offset != convert.U64_MAX else None,
            message,
        )
        for warning, section, slot, offset, message in raw
    )


def check_report(counts: dict[str, Any], raw: list[RawFinding]) -> CheckReport:
    levels = tuple(counts.pop("levels"))[: counts["max_level"] + 1]
    degrees = tuple(counts.pop("degrees"))
    in_degrees = tuple(counts.pop("in_degrees"))
    return CheckReport(
        levels=levels, degrees=degrees, in_degrees=in_degrees, findings=findings_of(raw), **counts
    )


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
        findings=findings_of(findings),
        **counts,
    )
