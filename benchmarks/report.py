"""What was measured, as a page, a picture and raw rounds; the page is made of the last alone.

parts ─> benchmarks.json ─> benchmarks.md, benchmarks.svg
"""

import io
import json
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.rounds import Part
from gpt.files import replace_file
from gpt.hardware import describe

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "transformers", "trl", "llms-from-scratch", "tiktoken")

PAGE = """# Benchmarks

Written by `python scripts/benchmark.py`; its parts say how they measure (`benchmarks/`). Ratios are
what to read: the absolute figures are those of one shared machine on one day. All rounds are in
[{name}.json]({name}.json).

{setting}

![speeds, side by side]({name}.svg)
{tables}
"""


def setting(device: str, precision: str, size: str, threads: int | None) -> dict[str, Any]:
    commit = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(commit, capture_output=True, text=True)
    if threads:
        torch.set_num_threads(threads)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "device": device,
        "machine": f"{platform.system()} {platform.machine()}, {describe(torch.device(device))}",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": found.stdout.strip() or "unknown",
        "model": f"{size}, random weights",
        "precision": precision,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def results(setting: dict[str, Any], parts: dict[str, Part]) -> dict[str, Any]:
    return {"setting": setting, "parts": {name: vars(part) for name, part in parts.items()}}


def tables_of(part: dict[str, Any]) -> str:
    texts = []
    for table in part["tables"]:
        lines = [f"\n## {table['title']}\n"]
        if table["rows"]:
            lines += [_row(table["head"]), _row(["---"] * len(table["head"]))]
            lines += [_row(row) for row in table["rows"]]
        lines += [f"\n{note}" for note in table["notes"]]
        texts.append("\n".join(lines))
    return "\n".join(texts)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def page(found: dict[str, Any]) -> str:
    told = dict(found["setting"])
    packages = told.pop("packages")
    versions = ", ".join(f"{name} {version}" for name, version in packages.items())
    lines = [f"- {key}: {value}" for key, value in told.items()] + [f"- packages: {versions}"]
    tables = "\n".join(tables_of(part) for part in found["parts"].values())
    if told["device"] == "cpu":
        tables += f"\n\nOn a GPU: {found['on_a_gpu']}."
    return PAGE.format(setting="\n".join(lines), tables=tables, name=name_of(found))


def name_of(found: dict[str, Any]) -> str:
    """Of the files, without what comes after the dot: a GPU's numbers have a page of their own."""
    kind = found["setting"]["device"].partition(":")[0]
    return "benchmarks" if kind == "cpu" else f"benchmarks-{kind}"


def picture(found: dict[str, Any]) -> bytes:
    """Bars, the longest the fastest; ours in another colour."""
    import matplotlib.style
    from matplotlib.figure import Figure

    from gpt.plots import BLUE, GREY, ORANGE, STYLE

    groups = [bars for part in found["parts"].values() for bars in part["bars"]]
    heights = [len(bars["names"]) + 1.6 for bars in groups]
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(7.2, 0.3 * sum(heights)), layout="constrained")
        panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
        for panel, bars in zip(panels, groups, strict=True):
            names, values = bars["names"], bars["values"]
            colors = [BLUE if name.startswith("ours") else ORANGE for name in names]
            drawn = panel.barh(names, values, color=colors, height=0.7)
            panel.bar_label(
                drawn,
                fmt=lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.3g}",
                padding=3,
                color=GREY,
            )
            panel.set_title(bars["title"], loc="left", fontsize=10, x=-0.5)  # above the names
            panel.invert_yaxis()
            panel.set_xticks([])
            panel.spines["bottom"].set_visible(False)
            panel.margins(x=0.12)
        memory = io.BytesIO()
        figure.savefig(memory, format="svg", metadata={"Date": None, "Creator": None})
    return memory.getvalue()


def write(found: dict[str, Any], folder: Path) -> Path:
    """The page's path; the others are beside it."""
    measured = (folder / "benchmarks-cuda.md").exists()
    on_a_gpu = "[benchmarks-cuda.md](benchmarks-cuda.md)" if measured else "not measured yet"
    found = found | {"on_a_gpu": on_a_gpu}
    files = {
        ".json": (json.dumps(found, indent=1) + "\n").encode(),
        ".svg": picture(found),
        ".md": page(found).encode(),
    }
    for suffix, data in files.items():
        replace_file(folder / f"{name_of(found)}{suffix}", data)
    return folder / f"{name_of(found)}.md"
