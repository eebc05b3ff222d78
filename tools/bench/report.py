"""What compare.py found, as results.json, tables.md and pictures.

It is a module of compare.py; `python report.py FOLDER` writes the tables and pictures of a
results.json again.
"""

import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import plots


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """In Markdown, readable as it is too."""
    if not rows:
        return ""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return f"\n### {title}\n\n" + "\n".join(lines) + "\n"


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def span(of: dict[str, Any], digits: int | None = None) -> str:
    """Median and range."""
    if digits is None:
        return f"{number(of['median'])} ({number(of['min'])}..{number(of['max'])})"
    return f"{of['median']:.{digits}f} ({of['min']:.{digits}f}..{of['max']:.{digits}f})"


def megabytes(value: float) -> str:
    return f"{value / 1e6:,.0f}"


CPU_TIME = "Queries a second are of processor time, since the machine was not idle.\n"

# Tables ---------------------------------------------------------------------------------------


def _levels(results: dict[str, Any]) -> str:
    text = ""
    entries = results.get("query", {}).get("levels", [])
    for kind in dict.fromkeys((e["k"], e["threads"], e["mode"]) for e in entries):
        k, threads, mode = kind
        rows = []
        for entry in entries:
            if (entry["k"], entry["threads"], entry["mode"]) != kind:
                continue
            for name, of in entry["of"].items():
                efs = "-".join(str(point["ef"]) for point in of["points"])
                found = of["points"][-1]["recall"]
                row = [f"{entry['recall']:.3g}", name, efs, span(of["qps"])]
                ratio = entry["ratios"].get(name)
                row.append("" if ratio is None else span(ratio, 2))
                if mode != "batch":
                    point = of["points"][-1]
                    row += [f"{point.get(f'p{at}_us', 0):.0f}" for at in (50, 99)]
                row.append(f"least ef finds {found:.4f}" if of["beyond"] else "")
                rows.append(row)
            for name, points in results["query"]["ladders"].get(str(k), {}).items():
                if name not in entry["of"] and mode != "native":
                    ef, most = max(points, key=lambda point: point[1])
                    blank = [""] * (1 if mode == "batch" else 3)
                    row = [f"{entry['recall']:.3g}", name, f"-{ef}", "-", *blank]
                    rows.append([*row, f"gets no further than {most:.4f}"])
        first = next(iter(results["query"]["ladders"].get(str(k), {"-": 0})))
        header = ["recall", "library", "ef", "queries/s", f"{first} / it"]
        header += [] if mode == "batch" else ["p50 us", "p99 us"]
        plural = "" if threads == 1 else "s"
        title = f"Queries a second at equal recall@{k}: {mode} calls, {threads} thread{plural}"
        text += table(title, [*header, ""], rows)
    return text


def _scaling(results: dict[str, Any]) -> str:
    """What more threads bring, at each level, from medians."""
    by: dict[tuple[int, float, str], dict[int, float]] = {}
    for entry in results.get("query", {}).get("levels", []):
        if entry["mode"] == "batch":
            for name, of in entry["of"].items():
                key = entry["k"], entry["recall"], name
                by.setdefault(key, {})[entry["threads"]] = of["qps"]["median"]
    rows = []
    for (k, level, name), of in by.items():
        if 1 in of:
            rows += [
                [k, f"{level:.3g}", name, n, f"{qps / of[1]:.2f}"] for n, qps in of.items() if n > 1
            ]
    probe = results.get("limits", {}).get("scaling")
    title = "Threads: queries a second over those of one thread"
    if probe:
        title += f" (random reads of rows scale by {probe:.2f})"
    return table(title, ["k", "recall", "library", "threads", "ratio"], rows)


def _build(results: dict[str, Any]) -> str:
    text = ""
    for threads, of in results.get("build", {}).items():
        first = next(iter(of), None)
        rows = []
        for name, told in of.items():
            items = results["data"]["count"]
            ratio = [
                theirs / ours
                for theirs, ours in zip(told["rounds"], of[first]["rounds"], strict=False)
            ]
            rows.append(
                [
                    name,
                    span(told),
                    number(items / told["median"]),
                    f"{sorted(ratio)[len(ratio) // 2]:.2f}" if name != first else "",
                    megabytes(told["memory_grown"]),
                ]
            )
        title = f"Building in memory, threads: {threads}"
        if results["settings"]["clock"] == "cpu":
            title += " (processor time over threads)"
        text += table(
            title, ["library", "seconds", "items/s", f"it / {first}", "memory grown, MB"], rows
        )
    return text


def _open(results: dict[str, Any]) -> str:
    rows = []
    count = results["data"]["count"]
    for name, of in results.get("open", {}).items():
        rows.append(
            [
                name,
                f"{1e3 * of['seconds']:,.1f}",
                f"{1e3 * of['with_first_answer']:,.1f}",
                f"{of['bytes_on_disk'] / count:,.0f}",
                f"{of['memory_grown'] / count:,.0f}",
                number(of["build_seconds"]) if "build_seconds" in of else "",
                of.get("build_threads", ""),
            ]
        )
    header = ["library", "load ms", "and first answer ms", "disk bytes/item", "memory bytes/item"]
    return table("Opening a saved index", [*header, "its build s", "threads"], rows)


def _counters(results: dict[str, Any]) -> str:
    rows = []
    for k, of in results.get("query", {}).get("counters", {}).items():
        for name, levels in of.items():
            rows += [
                [k, f"{float(level):.3g}", name, told["ef"]]
                + [number(told[what]) if what in told else "" for what in ("distances", "rows")]
                for level, told in levels.items()
            ]
    header = ["k", "recall", "library", "ef", "distances", "adjacency lists"]
    return table("What a query costs, as libraries tell it", header, rows)


def _limits(results: dict[str, Any]) -> str:
    limits = results.get("limits", {})
    rows = [
        [
            of["bytes"],
            "huge" if of["huge"] else "4 KiB",
            of["threads"],
            f"{of['rows_per_second'] / 1e6:.1f}"
            + (f" ({of['least'] / 1e6:.1f}..{of['most'] / 1e6:.1f})" if "least" in of else ""),
            of["ahead"],
        ]
        for of in limits.get("rows", [])
    ]
    text = table(
        f"Random rows that this machine reads, of {limits.get('count', 0):,}",
        ["bytes", "pages", "threads", "million/s", "asked for ahead"],
        rows,
    )
    rows = [
        [of["library"], of["k"], f"{of['recall']:.3g}", of["row_bytes"]]
        + [f"{of['scored'] / 1e6:.1f}", f"{of['limit'] / 1e6:.1f}", f"{100 * of['share']:.0f} %"]
        + [f"{100 * of['share_read']:.0f} %" if "share_read" in of else ""]
        for of in limits.get("shares", [])
    ]
    header = ["library", "k", "recall", "row bytes", "scored, million/s", "limit", "share"]
    header.append("with adjacency lists")
    return text + table("Rows scored over rows that can be read, one thread", header, rows)


def tables(results: dict[str, Any]) -> str:
    data, where = results["data"], results["environment"]
    text = (
        f"## {data['name']}: {data['count']:,} x {data['dim']}, {data['space']}, "
        f"{data['query_count']:,} queries\n\n"
        f"{where['processor']}, {where['processors']} processors, load before: "
        f"{where['load_before']:.1f}. M={results['settings']['M']}, "
        f"ef_construction={results['settings']['ef_construction']}. "
        f"Medians of rounds, and in brackets their range.\n"
        f"{CPU_TIME if results['settings'].get('clock') == 'cpu' else ''}\n"
    )
    text += "".join(
        f"- {name} {of.get('version', '')}: {of.get('about', '')}\n"
        for name, of in results.get("facts", {}).items()
    )
    for name, why in results.get("left_out", {}).items():
        text += f"- {name} is left out: {why}\n"
    parts = (_levels, _scaling, _build, _open, _counters, _limits)
    return text + "".join(part(results) for part in parts)


def write(out: pathlib.Path, results: dict[str, Any]) -> None:
    """Everything known so far: a run that is interrupted leaves what it had measured."""
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "tables.md").write_text(tables(results))
    plots.draw(out, results)


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    write(folder, json.loads((folder / "results.json").read_text()))
