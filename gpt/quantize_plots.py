"""NF4 in two pictures: where its 16 values stand, and what they cost each layer of a model.

    CODEBOOK ─> over the bell of a normal distribution ┐
    a model  ─> the error of each projection           ┴─> one .png, .svg or .pdf

Above, each value has the stretch in which it is the nearest: narrow where weights are many. Below,
errors are shares of a weight's own length, with a line for each of a block's four projections. The
dashed line is what normal numbers cost. Above it are weights with outliers, or with blocks that
are unlike their neighbours.

    python -m gpt.quantize_plots --model checkpoints/mini --out nf4.png
    python -m gpt.quantize_plots --out nf4.png      # the 16 values alone

Source: Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs" (2023), appendix E.
"""

from pathlib import Path

import matplotlib.style
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from gpt.cli import ArgumentParser, run
from gpt.plots import BLUE, COLORS, GREY, STYLE, WIDTH, PictureNameError, save
from gpt.quantize import BLOCK, CODEBOOK, error_of, errors_by_layer
from gpt.weights import load_model

PANEL = 2.7  # inches
_LEGEND = {"frameon": False, "fontsize": 8.5, "handlelength": 1.6, "columnspacing": 1.2}


def draw(errors: dict[str, float] | None = None, name: str = "") -> Figure:
    """The values; and below, where errors are given, what they are in a model of that name."""
    n_panels = 1 if errors is None else 2
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure((WIDTH, PANEL * n_panels), layout="constrained")
        axes = figure.subplots(n_panels, squeeze=False)[:, 0]
        draw_codebook(axes[0])
        if errors is not None:
            draw_errors(axes[1], errors, name)
    return figure


def draw_codebook(ax: Axes) -> None:
    """The values over the bell that weights follow, on the axis of a block: -1 to 1."""
    edges = [-1.0, *((CODEBOOK[1:] + CODEBOOK[:-1]) / 2).tolist(), 1.0]
    deviation = _deviation_in_a_block()

    def bell(x: torch.Tensor) -> torch.Tensor:
        return torch.exp(-((x / deviation) ** 2) / 2)

    for i, value in enumerate(CODEBOOK):
        nearest = torch.linspace(edges[i], edges[i + 1], 40)
        ax.fill_between(nearest, bell(nearest), color=BLUE, alpha=0.35 if i % 2 else 0.15, lw=0)
        ax.plot([value, value], [0, bell(value)], color=BLUE, lw=1.4)
        ax.annotate(str(i), (value, -0.03), ha="center", va="top", size=8, color=BLUE)
    everywhere = torch.linspace(-1, 1, 401)
    ax.plot(everywhere, bell(everywhere), color=GREY, lw=1.2)
    ax.set_title("NF4: 16 values, and how many weights there are", loc="left", size=10)
    ax.set(xlim=(-1.05, 1.05), ylim=(-0.14, 1.08), yticks=[])
    ax.set_xlabel(f"weight / the largest of its block of {BLOCK}")
    ax.spines["left"].set_visible(False)


def _deviation_in_a_block() -> float:
    """Of normal numbers in blocks of 64, each divided by the largest of its own."""
    blocks = _normal_numbers()
    return (blocks / blocks.abs().amax(1, keepdim=True)).std().item()


def _normal_numbers() -> torch.Tensor:
    return torch.randn(10_000, BLOCK, generator=torch.Generator().manual_seed(0))


def draw_errors(ax: Axes, errors: dict[str, float], name: str = "") -> None:
    """errors: of h.0.attn.c_attn and so on, as `errors_by_layer` has them."""
    lines: dict[str, list[float]] = {}
    for of, error in errors.items():
        lines.setdefault(of.split(".", 2)[2], []).append(error)
    for i, (part, values) in enumerate(lines.items()):
        ax.plot(values, color=COLORS[i], marker="o", ms=4, lw=1.4, label=part)
    normal = error_of(_normal_numbers())
    ax.axhline(normal, color=GREY, ls=(0, (4, 3)), lw=1, label="normal numbers")
    ax.set_title(f"error of each projection{f', {name}' if name else ''}", loc="left", size=10)
    ax.set_xlabel("block")
    ax.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    low, high = min(normal, *errors.values()), max(normal, *errors.values())
    room = max(0.15 * (high - low), 0.002)
    ax.set_ylim(low - room, high + room)
    ax.grid(axis="y")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=5, **_LEGEND)


def main() -> None:
    parser = ArgumentParser(__doc__)
    parser.add_argument("--model", metavar="FOLDER", help="a model's folder or name, in full")
    parser.add_argument(
        "--out", type=Path, default=Path("nf4.png"), metavar="FILE", help="a .png, .svg or .pdf"
    )
    args = parser.parse_args()
    if args.out.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise PictureNameError(f"{args.out}: a picture's name ends in .png, .svg or .pdf")
    if args.model is None:
        figure = draw()
    else:
        figure = draw(errors_by_layer(load_model(args.model)), Path(args.model).name)
    print(f"written: {save(figure, args.out)}")


if __name__ == "__main__":
    run(main)
