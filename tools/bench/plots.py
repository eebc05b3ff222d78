"""Pictures of what compare.py found, with matplotlib if that is there; without it, none.

It is a module of report.py.
"""

import pathlib
from typing import Any

COLOURS = ("#1b6ca8", "#d1495b", "#66a182", "#edae49", "#7d5ba6", "#5c6b73", "#b5651d", "#2e4057")
MARKS = "osD^vP*X"


def _style(names: list[str]) -> dict[str, dict[str, str]]:
    return {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKS[i % len(MARKS)]}
        for i, name in enumerate(names)
    }


def _points(results: dict[str, Any], k: str) -> dict[str, list[tuple[float, float]]]:
    """(recall, queries a second) of each library: its curve, else where levels were measured."""
    query = results["query"]
    told = query.get("curves", {}).get(k, {})
    if told:
        return {name: [(p["recall"], p["qps"]) for p in of] for name, of in told.items()}
    points: dict[str, list[tuple[float, float]]] = {}
    for entry in query["levels"]:
        if (str(entry["k"]), entry["threads"], entry["mode"]) == (k, 1, "batch"):
            for name, of in entry["of"].items():
                points.setdefault(name, []).extend((p["recall"], p["qps"]) for p in of["points"])
    return {name: sorted(set(of)) for name, of in points.items()}


def _title(results: dict[str, Any]) -> str:
    data = results["data"]
    return f"{data['name']}, {data['count']:,} x {data['dim']}, {data['space']}"


def _curves(pyplot: Any, out: pathlib.Path, results: dict[str, Any], k: str) -> None:
    points = {name: of for name, of in _points(results, k).items() if of}
    if not points:
        return
    figure, axes = pyplot.subplots(figsize=(7, 4.6))
    style = _style(list(results["query"]["ladders"][k]))
    for name, of in points.items():
        # Recall on a scale of its errors: .9, .99 and .999 are as far from each other.
        recalls = [max(1 - recall, 1e-4) for recall, _ in of]
        axes.plot(recalls, [qps for _, qps in of], label=name, markersize=4, **style[name])
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.invert_xaxis()
    ticks = [0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001]
    low, high = axes.get_xlim()
    shown = [tick for tick in ticks if min(low, high) <= tick <= max(low, high)]
    axes.set_xticks(shown, [f"{1 - tick:.4g}" for tick in shown])
    axes.minorticks_off()
    axes.set_xlabel(f"recall@{k}")
    axes.set_ylabel("queries a second, one thread, batch")
    axes.set_title(_title(results))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(out / f"recall-k{k}.png", dpi=120)
    pyplot.close(figure)


def _bars(pyplot: Any, out: pathlib.Path, results: dict[str, Any]) -> None:
    of = results.get("build", {}).get("1") or next(iter(results.get("build", {}).values()), {})
    if not of:
        return
    names = list(of)
    figure, axes = pyplot.subplots(figsize=(7, 0.5 * len(names) + 1.4))
    speeds = [results["data"]["count"] / of[name]["median"] for name in names]
    bars = axes.barh(names, speeds, color=[COLOURS[i % len(COLOURS)] for i in range(len(names))])
    axes.bar_label(bars, [f"{speed:,.0f}" for speed in speeds], padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel("items a second, building in memory")
    axes.set_title(_title(results))
    figure.tight_layout()
    figure.savefig(out / "build.png", dpi=120)
    pyplot.close(figure)


def draw(out: pathlib.Path, results: dict[str, Any]) -> None:
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    for k in results.get("query", {}).get("ladders", {}):
        _curves(pyplot, out, results, k)
    _bars(pyplot, out, results)
