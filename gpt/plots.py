"""What a run's numbers look like: the loss against the epochs, on paper and in a terminal.

    metrics.jsonl ─> series ─> thinned and smoothed ─> loss.png and loss.svg, or lines of text

Training loss is that of one step, so of a few examples: some are harder than others, and it jumps
about. It is drawn faintly, and over it the mean of its neighbours. Validation loss is of a whole
set. A ring marks where it is lowest: after that the model learns its examples by heart.

A picture is made in memory and then put in its place: whoever looks while a run redraws it sees the
old one or the new one. The same numbers give the same bytes: no date is in them, and nothing that
matplotlib is set to on this machine. (pyplot is not used: it would keep every figure in memory.)

    python -m gpt.plots         # a curve in the terminal, and as files

Source: Okabe and Ito, "Color Universal Design" (2008), for colours that everybody can tell apart.
"""

import io
import math
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from gpt.cli import run
from gpt.errors import UserError
from gpt.files import replace_file
from gpt.metrics_file import NAME, MetricsFile, RunMetrics, Series, number, read_run

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#5A5A5A"
COLORS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)))  # when there are more runs than colours

# Inches. A narrow page, so that its letters can be read on a phone; 250 dots an inch for print.
WIDTH, LEFT, RIGHT, BOTTOM, DPI = 6.4, 0.72, 0.28, 0.52, 250
LOSS_HEIGHT, PANEL_HEIGHT, GAP, TOKENS_HEIGHT, MARGIN, ROW = 2.9, 0.8, 0.32, 0.44, 0.12, 0.2

STYLE = {
    "font.size": 10,
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": "#E4E4E4",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "text.parse_math": False,  # a run may be called $1
    "svg.hashsalt": "talimat",  # the names inside of the file: the same in every drawing
}
_NO_DATE = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}

MOST_MARKS = 25  # of a validation curve


class PlotError(UserError):
    """A picture that cannot be written."""


class PictureNameError(PlotError):
    exit_code = 2  # bad usage


# ---- numbers ---------------------------------------------------------------------------------


def amount(tokens: float) -> str:
    """250k, 1.5M: short enough for an axis."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(tokens) >= 0.9999 * size:
            return f"{tokens / size:.3g}{letter}"
    return f"{tokens:.3g}"


def printable(text: str, most: int) -> str:
    """On one line, and with dots in its midst where it is too long for that."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= most else f"{text[: most // 2]}…{text[1 - most // 2 :]}"


# ---- the picture -----------------------------------------------------------------------------


def draw_run(folder: str | Path, rate: bool = False) -> list[Path]:
    """Write loss.png and loss.svg into a run's folder; rate: with the learning rate below."""
    figure = draw([read_run(folder)], rate)
    return [save(figure, Path(folder) / f"loss{suffix}") for suffix in (".png", ".svg")]


def compare(folders: Sequence[str | Path], out: str | Path, rate: bool = False) -> Path:
    """Write one picture of several runs; of a single one, the same that `draw_run` writes."""
    if Path(out).suffix.lower() not in _NO_DATE:
        raise PictureNameError(f"{out}: a picture's name ends in {', '.join(_NO_DATE)}")
    return save(draw([read_run(folder) for folder in folders], rate), Path(out))


def save(figure: Figure, path: Path) -> Path:
    suffix, data = path.suffix.lower(), io.BytesIO()
    with _style():
        figure.savefig(data, format=suffix[1:], dpi=DPI, metadata=_NO_DATE[suffix])
    try:
        replace_file(path, data.getvalue())
    except OSError as error:
        raise PlotError(f"{path}: not written: {error.strerror or error}") from None
    return path


@contextmanager
def _style() -> Iterator[None]:
    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a run may be called 🐈
        yield


def draw(runs: Sequence[RunMetrics], rate: bool = False) -> Figure:
    """One run with its noise, or the smooth curves of several."""
    if not all(one.counts_epochs for one in runs if one.lines):
        runs = [one.by_steps() if one.lines else one for one in runs]
    alone, validated = len(runs) == 1, any(one.best() for one in runs)
    with _style():
        ratios = [one.tokens_per_place() for one in runs if one.lines] or [math.nan]
        has_tokens = np.allclose(ratios, ratios[0], rtol=0.01)  # one scale for all; nan: none
        titles = _titles(runs, validated)
        head = 1.2 * ROW * len(titles) + ROW * (1 if alone else len(runs))
        figure, axes, top = _page(head + TOKENS_HEIGHT * has_tokens, rate)
        entries = []
        for i, one in enumerate(runs):
            color, dash = COLORS[i % len(COLORS)], DASHES[i // len(COLORS) % len(DASHES)]
            width, alpha = (1.8, 1.0) if alone or not validated else (1.0, 0.7)
            trained = _draw_smoothed(axes[0], one.series("train_loss"), color, alone)
            trained.set(ls=dash, lw=width, alpha=alpha)
            curve, ring = _draw_validation(axes[0], one, ORANGE if alone else color, alone)
            curve.set(ls=dash, lw=1.3 if alone else 1.8)
            entries += _entries(one, (trained, curve, ring), alone)
            if rate:
                axes[1].plot(*one.series("lr").thinned()[:2], color=color, ls=dash, lw=1.4)
                _draw_smoothed(axes[2], one.series("grad_norm"), color, alone).set(ls=dash)
        end = max((x for ax in axes for line in ax.lines for x in line.get_xdata()), default=0)
        for ax in axes:
            _set_limits(ax, end if end > 0 else 1.0)
        _label(axes, all(one.counts_epochs for one in runs), ratios[0] if has_tokens else None)
        for text, style in titles:
            figure.text(LEFT / WIDTH, top, text, va="top", **style)
            top -= 1.2 * ROW / figure.get_figheight()
        _add_legend(figure, entries, top, columns=3 if alone else 1)
    return figure


def _titles(runs: Sequence[RunMetrics], validated: bool) -> list[tuple[str, dict]]:
    small = {"size": 9, "color": GREY}
    if len(runs) == 1:
        name, about = printable(runs[0].name, 48), printable(runs[0].about, 80)
        return [(name, {"size": 12, "weight": "bold"})] + ([(about, small)] if about else [])
    key = "thick: validation, ringed where it is best; thin: " if validated else ""
    return [(f"{key}training, smoothed", small)]


def _page(head: float, rate: bool) -> tuple[Figure, list[Axes], float]:
    """An empty page, its axes from the top down, and where its head begins."""
    heights = [PANEL_HEIGHT, PANEL_HEIGHT, LOSS_HEIGHT] if rate else [LOSS_HEIGHT]
    total = BOTTOM + sum(heights) + GAP * (len(heights) - 1) + head + 2 * MARGIN
    figure, axes, bottom = Figure((WIDTH, total)), [], BOTTOM
    for height in heights:
        box = LEFT / WIDTH, bottom / total, 1 - (LEFT + RIGHT) / WIDTH, height / total
        axes.insert(0, figure.add_axes(box))
        bottom += height + GAP
    return figure, axes, 1 - MARGIN / total


def _draw_smoothed(ax: Axes, values: Series, color: str, noise: bool) -> Line2D:
    if noise and not values.is_short:
        ax.plot(*values.thinned()[:2], color=color, lw=0.6, alpha=0.3, label="noise")
    marks = {"marker": "o", "ms": 4.5} if values.is_short else {}
    return ax.plot(*values.smoothed()[:2], color=color, lw=1.8, zorder=3, **marks)[0]


def _draw_validation(ax: Axes, one: RunMetrics, color: str, alone: bool) -> list[Line2D]:
    """The curve, and a ring around its best point."""
    values, best = one.series("val_loss"), one.best()
    marked = len(values.x) <= (MOST_MARKS if alone else 1)
    marks = {"marker": "o", "ms": 4.5} if marked else {}
    ring = {"ls": "", "marker": "o", "ms": 10, "mfc": "none", "mec": color, "mew": 1.5}
    return [
        *ax.plot(*values.thinned()[:2], color=color, zorder=4, **marks),
        *ax.plot(*([value] for value in best or (0, math.nan)), zorder=5, **ring),
    ]


def _entries(one: RunMetrics, lines: tuple[Line2D, ...], alone: bool) -> list[tuple[Line2D, str]]:
    """What the legend says of a run: a line each of its own, or one among those of others."""
    said = [(line, text) for line, text in zip(lines, one.final_numbers(), strict=True) if text]
    if alone:
        return said
    texts = ", ".join(text for _, text in reversed(said)) or "nothing measured yet"
    return [(lines[1 if one.best() else 0], f"{printable(one.name, 28)}: {texts}")]


def _set_limits(ax: Axes, end: float) -> None:
    """Marks on the upper edge stand where a curve leaves: at its spikes, and at its first fall."""
    ax.set_xlim(-0.012 * end, 1.015 * end)
    curves = [np.reshape(line.get_xydata(), (-1, 2)).T for line in ax.lines]
    curves = [(x, y) for x, y in curves if np.isfinite(y).any()]
    if not curves:
        ax.set(ylim=(0, 1), yticks=[])
        ax.text(0.5, 0.5, "nothing measured yet", ha="center", color=GREY, transform=ax.transAxes)
        return
    low, start = min(min(y) for _, y in curves), 0.04 * end
    high = _highest_shown(curves, low, start)
    room = 0.05 * (high - low) or 0.1 * abs(high) or 1.0
    low, high = 0.0 if 0 <= low <= 0.3 * high else low - room, high + room
    ax.set_ylim(low, high)
    cut = [(x, y) for curve in curves for x, y in zip(*curve, strict=True) if y > high]
    fall = [(x, y) for x, y in cut if x <= start]
    left_at, came_from = (max(of) for of in zip(*fall, strict=True)) if fall else (None, None)
    marked = [x for x, _ in cut if x > start] + [left_at] * bool(fall)
    style = {"ls": "", "marker": "^", "ms": 4, "color": GREY, "clip_on": False}
    ax.plot(marked, [high] * len(marked), **style)
    if fall:
        place = {"xytext": (6, -2), "textcoords": "offset points", "va": "top"}
        ax.annotate(f"from {came_from:.3g}", (left_at, high), **place, size=8, color=GREY)


def _highest_shown(curves: Sequence, low: float, start: float) -> float:
    """The top of it all, but for spikes and a first fall that would press the rest flat."""
    high = max(max(y) for _, y in curves)
    for begin, stretch, worth in ((0.0, 1.3, 0.7), (start, 1.6, 0.5)):
        parts = [y[x >= begin] for x, y in curves if (x >= begin).any()]
        tops = (np.percentile(y, 99 if len(y) > 200 else 100) for y in parts)
        above = stretch * (max(tops, default=high) - low)
        if above < worth * (high - low):
            high = low + max(above, 0.2 * (high - low) * (begin > 0))
    return high


def _label(axes: Sequence[Axes], counts_epochs: bool, tokens_per_place: float | None) -> None:
    for ax in axes:
        ax.grid(axis="y")
        ax.xaxis.set_major_locator(MaxNLocator(9, steps=[1, 2, 2.5, 5, 10]))
        ax.tick_params(axis="x", labelbottom=ax is axes[-1], length=3.5 if ax is axes[-1] else 0)
    axes[-1].set_xlabel("epochs" if counts_epochs else "optimizer steps")
    axes[0].set_ylabel("loss")
    for ax, name in zip(axes[1:], ("learning rate", "gradient norm"), strict=False):
        ax.yaxis.set_major_locator(MaxNLocator(3))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        ax.set_title(name, loc="left", size=9, color=GREY, pad=4)
    if tokens_per_place is not None:
        scale = lambda x: x * tokens_per_place, lambda tokens: tokens / tokens_per_place
        top = axes[0].secondary_xaxis("top", functions=scale)
        top.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        top.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: amount(tokens)))
        top.set_xlabel("tokens seen")


def _short(value: float) -> str:
    if value == 0 or abs(value) >= 0.01:
        return f"{value:g}"
    digits, power = f"{value:.2e}".split("e")
    return f"{float(digits):g}e{int(power)}"


def _add_legend(
    figure: Figure, entries: Sequence[tuple[Line2D, str]], top: float, columns: int
) -> None:
    legend = figure.legend(
        [line for line, _ in entries],
        ["text"] * len(entries),  # set below: a name that begins with _ would be left out
        loc="upper left",
        bbox_to_anchor=(LEFT / WIDTH, top),
        ncols=columns,
        **{"frameon": False, "borderpad": 0, "borderaxespad": 0, "fontsize": 9},
        **{"handlelength": 1.8, "handletextpad": 0.5, "columnspacing": 1.6, "labelspacing": 0.6},
    )
    for shown, (_, text) in zip(legend.get_texts(), entries, strict=True):
        shown.set_text(text)


# ---- the terminal ----------------------------------------------------------------------------


def ascii_curve(lines: Sequence[dict], width: int = 76, height: int = 16) -> str:
    """The same in plain letters: . for training, o for validation, * for its best."""
    one = RunMetrics("", "", list(lines))
    (x, y, _), validation = one.series("train_loss").smoothed(), one.series("val_loss")
    values = np.concatenate([y, validation.y])
    if not len(values):
        return "no loss has been measured yet"
    low, high = values.min(), values.max()
    right, end = width - 10, max([*x, *validation.x]) or 1.0  # the last column, and its x

    def row(value: float) -> int:
        return round((high - value) / (high - low or 1.0) * (height - 1))

    grid = [[" "] * (right + 1) for _ in range(height)]
    if len(x):
        columns = range(round(x[0] / end * right), round(x[-1] / end * right) + 1)
        rows = [row(value) for value in np.interp(np.array(columns) / right * end, x, y)]
        for c, (before, now) in zip(columns, pairwise(rows[:1] + rows), strict=True):
            for r in range(before + 1, now) if now > before else range(now, before):
                grid[r][c] = "."  # a steep curve has no gaps
            grid[now][c] = "."
    stars = [(*one.best(), "*")] if one.best() else []
    for place, value, mark in [*((*at, "o") for at in zip(*validation[:2], strict=True)), *stars]:
        grid[row(value)][round(place / end * right)] = mark
    names = [f"{m} {text}" for m, text in zip(".o*", one.final_numbers(), strict=True) if text]
    shown = ["   ".join(names)]
    for r, cells in enumerate(grid):
        value = number(high - (high - low) * r / max(1, height - 1))
        label = value if r in (0, height // 2, height - 1) else ""
        shown.append(f"{label:>7} |{''.join(cells)}".rstrip())
    unit = f"{end:.5g} {'epochs' if one.counts_epochs else 'steps'}"
    return "\n".join([*shown, f"{'':7} +{'-' * (right + 1)}", f"{'':9}0{unit:>{right}}"])


def _demo() -> None:
    def line(step: int) -> dict:
        epoch = step / 80
        noise = math.sin(12.9898 * step) * 43758.5453 % 1 - 0.5
        train_loss = 0.45 + 2.2 * math.exp(-1.6 * epoch) - 0.1 * epoch + 0.3 * noise
        val_loss = 0.7 + 2 * math.exp(-2 * epoch) + 0.06 * max(0, epoch - 1) ** 2
        known = {"step": step, "epoch": epoch, "tokens": 450 * step, "train_loss": train_loss}
        return known if step % 20 else known | {"val_loss": val_loss}

    lines = [line(step) for step in range(1, 241)]
    print("Three epochs, made up. Training loss falls on, after the model has stopped improving:\n")
    print(ascii_curve(lines))
    with tempfile.TemporaryDirectory() as folder:
        metrics = MetricsFile(Path(folder) / NAME)
        for each in lines:
            metrics.append(each)
        pictures = [[path.read_bytes() for path in draw_run(folder)] for _ in range(2)]
    width, height = (int.from_bytes(pictures[0][0][at : at + 4], "big") for at in (16, 20))
    print(f"\nloss.png: {width} x {height} dots")
    print(f"loss.svg: {width / DPI:.1f} x {height / DPI:.1f} inches, sharp at any size")
    print(f"drawn again: {'the same' if pictures[0] == pictures[1] else 'OTHER'} bytes")


if __name__ == "__main__":
    run(_demo)
