"""A run's picture shows what was measured, whatever that is, and is there whole or not at all."""

import io
import json
import math
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from gpt import plots
from gpt.metrics_file import MOST_POINTS, MetricsError, MetricsFile, Series, read_run
from gpt.plots import PlotError, ascii_curve, compare, draw, draw_run, save

ROOT = Path(__file__).parents[1]


def made_up(n: int = 60, every: int = 10, seed: int = 0, tokens: int = 100) -> list[dict]:
    """Training loss falls, validation loss is lowest two thirds of the way."""
    random, lines = np.random.default_rng(seed), [{"step": 0, "val_loss": 3.1}]
    for step in range(1, n + 1):
        line = {"step": step, "epoch": step / 20, "tokens": tokens * step, "lr": 1e-4 / step}
        line["train_loss"] = 3 * math.exp(-step / 9) + 0.5 + 0.2 * random.random()
        line["grad_norm"] = 1 + random.random()
        if step % every == 0:
            line["val_loss"] = 0.7 + abs(step - 2 * n / 3) / n
        lines.append(line)
    return lines


def write(folder: Path, lines: list[dict], **run_json) -> Path:
    folder.mkdir(parents=True)
    file = MetricsFile(folder / "metrics.jsonl")
    file.path.touch()
    for line in lines:
        file.append(line)
    if run_json:
        (folder / "run.json").write_text(json.dumps(run_json), encoding="utf-8")
    return folder


def without(lines: list[dict], *keys: str) -> list[dict]:
    return [{key: value for key, value in line.items() if key not in keys} for line in lines]


def all_set_to(lines: list[dict], value: float, begin: int = 0) -> list[dict]:
    measured = ("train_loss", "val_loss", "grad_norm", "lr")
    return lines[:begin] + [
        line | {key: value for key in measured if key in line} for line in lines[begin:]
    ]


AWKWARD = {
    "nothing": [],
    "a validation before training": made_up()[:1],
    "one step": made_up()[1:2],
    "two steps": made_up()[1:3],
    "a few steps": made_up()[:7],
    "no validation": without(made_up(), "val_loss"),
    "no training": without(made_up(), "train_loss"),
    "no epochs": without(made_up(), "epoch"),
    "no tokens": without(made_up(), "tokens"),
    "steps alone": [{"step": step} for step in range(3)],
    "an epoch that is no number": [*made_up()[:9], {"step": 9, "epoch": math.nan, "lr": 1.0}],
    "broken half way": all_set_to(made_up(), math.nan, begin=30),
    "broken from the start": all_set_to(made_up(), math.nan),
    "all the same": all_set_to(made_up(), 2.0),
    "all zero": all_set_to(made_up(), 0.0),
    "a validation at no epoch": [*made_up()[:9], {"step": 9, "val_loss": 0.1}],
    "enormous": all_set_to(made_up(), 1e200, begin=30),
    "below zero": all_set_to(made_up(), -3.0, begin=30),
}


@pytest.fixture
def coarse(monkeypatch):
    """Few dots, which are quick to draw."""
    monkeypatch.setattr(plots, "DPI", 50)


@pytest.mark.parametrize("name", AWKWARD)
def test_whatever_was_measured_is_drawn_and_without_a_warning(tmp_path, coarse, name):
    run = write(tmp_path / "run", AWKWARD[name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pictures = draw_run(run, rate=True)
        compare([run, write(tmp_path / "other", made_up())], tmp_path / "both.png")
    assert pictures == [run / "loss.png", run / "loss.svg"]
    assert pictures[0].read_bytes().startswith(b"\x89PNG\r\n")
    assert b"</svg>" in pictures[1].read_bytes()[-20:]
    assert sorted(path.name for path in run.iterdir()) == ["loss.png", "loss.svg", "metrics.jsonl"]


@pytest.mark.parametrize("name", ["_hidden", "$\\frac$", "🐈 漢", "a" * 200, "<b>&", "two\nlines"])
def test_a_name_is_shown_as_it_is_and_on_one_line(tmp_path, name):
    one = replace(read_run(write(tmp_path / "run", made_up())), name=name, about=name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(draw([one]), tmp_path / "one.svg")
        figure = draw([one, one])
        save(figure, tmp_path / "two.svg")
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(shown) == 2 and all(text.startswith(name.replace("\n", " ")[:10]) for text in shown)
    assert max(map(len, shown)) < 90


def test_the_picture_shows_the_measured_points_the_best_and_the_final_numbers(tmp_path):
    lines = made_up()
    figure = draw([read_run(write(tmp_path / "run", lines))])
    drawn = [line.get_xydata().tolist() for line in figure.axes[0].lines]
    trained = [[line["epoch"], line["train_loss"]] for line in lines if "train_loss" in line]
    validated = [[line.get("epoch", 0), line["val_loss"]] for line in lines if "val_loss" in line]
    best = min(validated, key=lambda point: point[1])
    assert trained in drawn and validated in drawn and [best] in drawn
    (smooth,) = [d for d in drawn if len(d) == len(trained) and d != trained]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        f"training {smooth[-1][1]:.3f}",
        f"validation {validated[-1][1]:.3f}",
        f"best {best[1]:.3f} at epoch {best[0]:.3g}",
    ]


def test_the_second_axis_counts_tokens(tmp_path):
    runs = [write(tmp_path / str(tokens), made_up(tokens=tokens)) for tokens in (100, 200)]
    figure = draw([read_run(runs[0])])
    (top,) = figure.axes[0].child_axes
    figure.savefig(io.BytesIO(), format="svg")
    assert top.get_xlim() == pytest.approx(np.array(figure.axes[0].get_xlim()) * 100 * 20)
    assert not draw([read_run(run) for run in runs]).axes[0].child_axes  # two scales: none is right


def test_runs_with_and_without_epochs_are_compared_by_steps(tmp_path):
    runs = [write(tmp_path / "a", made_up()), write(tmp_path / "b", without(made_up(), "epoch"))]
    figure = draw([read_run(run) for run in runs])
    assert figure.axes[0].get_xlabel() == "optimizer steps"
    assert {line.get_xdata()[-1] for line in figure.axes[0].lines if len(line.get_xdata()) > 1} == {
        60.0
    }


def test_learning_rate_and_gradient_norm_come_on_request(tmp_path):
    run = read_run(write(tmp_path / "run", made_up()))
    assert len(draw([run]).axes) == 1
    norm, rate, _ = draw([run], rate=True).axes  # from below
    assert rate.lines[0].get_ydata().tolist() == [line["lr"] for line in run.lines[1:]]
    assert [line["grad_norm"] for line in run.lines[1:]] in [
        line.get_ydata().tolist() for line in norm.lines
    ]


def test_the_same_numbers_give_the_same_bytes_whatever_matplotlib_is_set_to(tmp_path, coarse):
    run = write(tmp_path / "run", made_up(), settings={"model": "gpt2", "lr": 1e-4})
    outs = [tmp_path / f"x{suffix}" for suffix in (".png", ".svg", ".pdf")]

    def bytes_drawn() -> list[bytes]:
        return [compare([run], out, rate=True).read_bytes() for out in outs]

    first = bytes_drawn()
    with matplotlib.rc_context({"axes.facecolor": "red", "savefig.bbox": "tight"}):
        before = dict(matplotlib.rcParams)
        assert bytes_drawn() == first
        assert dict(matplotlib.rcParams) == before  # a notebook's own settings are left alone
    draw_run(run, rate=True)
    assert [(run / f"loss{suffix}").read_bytes() for suffix in (".png", ".svg")] == first[:2]


def test_a_picture_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    run = write(tmp_path / "run", made_up())
    draw_run(run)
    before = (run / "loss.png").read_bytes()

    def fail(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(PlotError, match="loss.png: not written: No space left on device"):
        draw_run(run, rate=True)
    assert (run / "loss.png").read_bytes() == before
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


def test_drawing_needs_no_display_and_keeps_no_figure(tmp_path):
    run = write(tmp_path / "run", made_up())
    code = f"import sys; from gpt.plots import draw_run; draw_run({str(run)!r}); "
    code += "assert 'matplotlib.pyplot' not in sys.modules and 'tkinter' not in sys.modules"
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "MPLBACKEND")}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)


# ---- many points -----------------------------------------------------------------------------


def test_a_long_run_is_drawn_with_few_points_and_all_its_extremes(tmp_path):
    random = np.random.default_rng(0)
    x, y = np.arange(100_000.0), random.random(100_000)
    y[[7, 55_555, 99_998]] = 9.0, -9.0, 8.0
    thin = Series(x, y).thinned()
    assert len(thin.x) <= MOST_POINTS and (np.diff(thin.x) > 0).all()
    assert {9.0, -9.0, 8.0} <= set(thin.y.tolist())
    assert set(zip(*thin[:2], strict=True)) <= set(zip(x, y, strict=True))
    assert len(Series(x, y).smoothed().x) <= MOST_POINTS


def test_a_short_series_is_not_thinned():
    values = Series(np.arange(1000.0), np.sin(np.arange(1000.0)))
    assert values.thinned() is values


@pytest.mark.parametrize("n", [8, 50, 999, 1001, 30_000])
def test_smoothing_keeps_a_level_and_takes_most_of_the_noise(n):
    level = Series(np.arange(n, dtype=float), np.full(n, 2.5))
    assert np.allclose(level.smoothed().y, 2.5)
    noisy = level._replace(y=2.5 + np.random.default_rng(0).standard_normal(n))
    assert n < 50 or noisy.smoothed().y[5:].std() < 0.75 * noisy.y.std()


def test_smoothing_follows_the_first_fall():
    x = np.arange(20_000.0)
    smooth = Series(x, 3 + 8 * np.exp(-x / 250)).smoothed()
    assert smooth.y[0] > 9.5
    assert np.abs(smooth.y - (3 + 8 * np.exp(-smooth.x / 250))).max() < 1.5


def test_a_spike_does_not_press_the_curve_flat_and_is_marked(tmp_path):
    lines = made_up(600, every=50)
    lines[300]["train_loss"] = 1000.0
    axes = draw([read_run(write(tmp_path / "run", lines))]).axes[0]
    top = axes.get_ylim()[1]
    assert top < 40
    marks = [line for line in axes.lines if line.get_marker() == "^" and len(line.get_xdata())]
    assert [lines[300]["epoch"], top] in [list(map(float, m.get_xydata()[0])) for m in marks]


def test_a_first_fall_that_is_cut_off_says_where_it_came_from(tmp_path):
    lines = [
        {"step": step, "epoch": step / 1000, "train_loss": 3 + 9 * math.exp(-(step - 1) / 5)}
        for step in range(1, 2001)
    ]
    axes = draw([read_run(write(tmp_path / "run", lines))]).axes[0]
    assert axes.get_ylim()[1] < 8
    assert [text.get_text() for text in axes.texts] == ["from 12"]


# ---- a run's folder --------------------------------------------------------------------------


def test_what_run_json_says_stands_below_the_name(tmp_path):
    settings = {"model": "checkpoints/mini", "data": ["data/a.json", "C:\\b.json"], "lr": 5e-5}
    run = write(tmp_path / "run", made_up(), settings=settings | {"batch_size": 8})
    assert read_run(run).about == "mini · a.json, b.json · batches of 8 · learning rate 5e-05"


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "3", "\udcff", "[" * 100_000, '{"settings": 3}', '{"data": []}'),
        *('{"settings": {"data": 3, "lr": "x"}}', '{"model": null, "data": [3]}'),
    ],
)
def test_an_odd_run_json_costs_nothing_but_the_line_below_the_name(tmp_path, text):
    run = write(tmp_path / "run", made_up())
    (run / "run.json").write_bytes(text.encode(errors="surrogateescape"))
    assert read_run(run).about == ""
    draw_run(run)


def test_a_folder_without_metrics_is_named(tmp_path):
    run = write(tmp_path / "run", made_up())
    for folder, what in ((tmp_path, "not a run's folder"), (tmp_path / "no", "no such folder")):
        with pytest.raises(MetricsError) as error:
            compare([run, folder], tmp_path / "x.png")
        assert str(error.value) == f"{folder}: {what}: a run writes its metrics.jsonl there"
    assert not (tmp_path / "x.png").exists()


# ---- the terminal ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("size", [(76, 16), (40, 5), (200, 40)])
def test_the_terminal_curve_keeps_to_its_size_and_to_ascii(name, size):
    text = ascii_curve(AWKWARD[name], *size)
    assert text.isascii()
    rows = text.splitlines()
    assert len(rows) in (1, size[1] + 3)
    assert max(map(len, rows[1:]), default=0) <= size[0]


def test_the_terminal_curve_marks_each_validation_and_the_best():
    lines = made_up()
    title, *rows = ascii_curve(lines).splitlines()
    cells = [row[9:] for row in rows[:16]]
    assert title.startswith(". training 0.") and "* best 0.700 at epoch 2" in title
    assert "".join(cells).count("o") == 6 and "".join(cells).count("*") == 1
    (star,) = [row.index("*") for row in cells if "*" in row]
    assert star / 66 == pytest.approx(2 / 3, abs=0.02)
    columns = {c for row in cells for c, cell in enumerate(row) if cell != " "}
    assert columns == set(range(67))  # a curve with no gap from the first step to the last


# ---- the script ------------------------------------------------------------------------------


def script(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts/plot.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_the_script_draws_a_run_and_compares_several(tmp_path):
    runs = [write(tmp_path / name, made_up(seed=i)) for i, name in enumerate("ab")]
    alone = script(runs[0], cwd=tmp_path)
    assert (alone.returncode, alone.stdout) == (0, "")
    assert alone.stderr == f"written: {runs[0] / 'loss.png'}, {runs[0] / 'loss.svg'}\n"
    both = script("a", "b", "--out", "both.png", "--lr", cwd=tmp_path)
    assert (both.returncode, both.stderr) == (0, "written: both.png\n")
    compare(runs, tmp_path / "again.png", rate=True)
    assert (tmp_path / "both.png").read_bytes() == (tmp_path / "again.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "the following arguments are required: RUN"),
        (("a", "a"), 2, "several runs go into one picture: say where, as in --out compare.png"),
        (("a", "--out", "a.jpg"), 2, "a.jpg: a picture's name ends in .png, .svg, .pdf"),
        (("a", "--out", "no/x.png"), 1, f"{Path('no/x.png')}: not written: No such file"),
        (("a", "b", "--out", "x.png"), 1, "b: no such folder: a run writes its metrics.jsonl"),
    ],
)
def test_the_script_refuses_what_it_cannot_do_in_one_line(tmp_path, arguments, code, message):
    write(tmp_path / "a", made_up())
    ended = script(*arguments, cwd=tmp_path)
    assert ended.returncode == code
    assert ended.stderr.startswith(f"error: {message}")
    assert "Traceback" not in ended.stderr and ended.stderr.count("\n") <= 2
    assert not (tmp_path / "x.png").exists()


def test_the_demo_draws_the_same_bytes_twice(capsys):
    plots._demo()
    assert "drawn again: the same bytes" in capsys.readouterr().out
