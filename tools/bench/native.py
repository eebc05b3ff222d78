"""What compare.py measures with programs of its own: one query a call from C, and the memory's
limits.

It is a module of compare.py.
"""

from typing import Any


def children(run: Any, brackets: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return {}, {}


def hnswlib_counters(run: Any, brackets: dict[str, Any], k: int) -> dict[str, Any]:
    return {}


def limits(run: Any) -> dict[str, Any]:
    return {}
