"""A run's numbers on the disk: `metrics.jsonl`, one JSON object a line for each logged step.

    train.py ─> metrics.jsonl ─> plots.py (the curve), tracking.py, your own notebook

    {"step": 20, "epoch": 0.25, "tokens": 9120, "train_loss": 2.31, "lr": 5e-05, …}

A value that was not measured at a step is absent from its line. One that was measured and is not a
number (a loss of nan, a gradient norm of inf) is written as null, because JSON has neither, and
what Python would write instead stops jq, browsers and most other readers. pandas reads the null as
nan, and so does `read`.

Lines are only ever added, each in one write, so a kill leaves a cut last line at worst. A run that
is resumed from its checkpoint after step 80 first drops what the killed one wrote beyond it
(`cut_after(80)`): then it writes every line once, and the file is that of a run never killed.

For whoever looks at a run, `read_run` has its lines as series of numbers, thinned and smoothed.
"""

import json
import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from reprlib import repr as brief
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gpt.errors import UserError
from gpt.files import add_whole, force_to_disk, replace_file

NAME = "metrics.jsonl"  # in a run's folder

# Steps count from 1, the first optimizer step; a line for step 0 holds what was before it.
KEYS = (
    "step",
    "epoch",  # the part of the data that has been seen: 1.25 is a quarter into the second epoch
    "tokens",  # seen so far, without padding
    "supervised_tokens",  # of them, in the loss
    "train_loss",  # of the steps since the last line, over all their tokens
    "val_loss",  # of the whole validation set
    "lr",
    "grad_norm",  # before clipping
    "tokens_per_second",  # without padding
    "memory_bytes",  # the highest so far
    "seconds",  # since the start of the run
)

MOST_POINTS = 1000  # of a line: about as many as a picture has dots across


class MetricsError(UserError):
    """A metrics file that is missing, damaged, or can't be written."""


class MetricsFile:
    """One run's metrics. One process writes; others may read at any time."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._last_step: int | None = None  # None: the file has not been looked at

    def append(self, line: dict) -> None:
        """Add a step's line. A value of None was not measured, and is left out."""
        if self._last_step is None:
            self.cut_after(None)  # what a kill left without its end must not be glued to this
        step = line["step"]
        if type(step) is not int or step <= self._last_step:
            raise ValueError(f"{self.path}: step {step!r} after step {self._last_step}")
        known = {key: _to_json(value) for key, value in line.items() if value is not None}
        try:
            add_whole(self.path, json.dumps(known, allow_nan=False).encode() + b"\n")
        except OSError as error:
            raise self._unwritten(error) from None
        self._last_step = step

    def read(self) -> list[dict]:
        """All lines, in the order of their steps, with nan for null.

        A last line that breaks off is left out: a run is writing it, or was killed there.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            raise MetricsError(f"{self.path}: not found: a run writes it from its start") from None
        except OSError as error:
            raise MetricsError(f"{self.path}: not readable: {error.strerror or error}") from None
        return [line for _, line in self._parse(data)]

    def cut_after(self, step: int | None) -> list[dict]:
        """Drop the lines of all steps after this one, for a run that goes on from it. None: none.

        Returns the lines that stay. Whatever kills it, the file is the old one or the new one.
        """
        data = self.path.read_bytes() if self.path.exists() else b""
        kept = [
            (row, line) for row, line in self._parse(data) if step is None or line["step"] <= step
        ]
        whole = b"".join(row + b"\n" for row, _ in kept)
        if whole != data:
            try:
                replace_file(self.path, whole)
            except OSError as error:
                raise self._unwritten(error) from None
        self._last_step = kept[-1][1]["step"] if kept else -1
        return [line for _, line in kept]

    def force_to_disk(self) -> None:
        """Come back when the disk has every line: before a checkpoint that counts on them."""
        if self.path.exists():
            force_to_disk(self.path)

    def _parse(self, data: bytes) -> list[tuple[bytes, dict]]:
        """The lines as they are written, and what each says."""
        rows, parsed, last_step = data.split(b"\n"), [], -1
        for number, row in enumerate(rows, 1):
            if not row.strip() or (number == len(rows) and _from_json(row) is ...):
                continue  # the second: only the last has no newline, and may break off
            line = _from_json(row)
            flaw = _flaw(line)
            if not flaw and line["step"] <= last_step:
                flaw = f"step {line['step']} comes after step {last_step}: have two runs written "
                flaw += "here? Keep the lines of one"
            if flaw:
                raise MetricsError(f"{self.path}:{number}: {flaw}")
            last_step = line["step"]
            parsed.append((row, line))
        return parsed

    def _unwritten(self, error: OSError) -> MetricsError:
        return MetricsError(f"{self.path}: not written: {error.strerror or error}")


def _to_json(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _from_json(row: bytes) -> object:
    """What a row says, with nan for null; `...` where it is not JSON."""
    try:
        line = json.loads(row)
    except (ValueError, RecursionError):
        return ...
    if isinstance(line, dict) and None in line.values():
        return {key: math.nan if value is None else value for key, value in line.items()}
    return line


def _flaw(line: object) -> str | None:
    """What is wrong with a line; None for a good one."""
    if line is ...:
        return "not valid JSON: the file is damaged here"
    if not isinstance(line, dict):
        return 'not an object: a line looks like {"step": 1, …}'
    step = line.get("step")
    if type(step) is not int or step < 0:
        return f"step must be a whole number from 0, not {brief(step)}"
    for key, value in line.items():
        if type(value) not in (float, int) and key in KEYS:
            return f"{key} must be a number, not {brief(value)}"
    return None


# ---- a run's folder, to look at ----------------------------------------------------------------


class Series(NamedTuple):
    """One of a run's numbers, where it was measured and is one."""

    x: np.ndarray
    y: np.ndarray
    ends_in_nan: bool = False  # what was measured last is no number

    @property
    def is_short(self) -> bool:
        """Too short to tell the noise from the rest."""
        return len(self.x) < 8

    def thinned(self, most: int = MOST_POINTS) -> "Series":
        """Fewer points that look the same: the lowest and the highest of each bin."""
        if len(self.x) <= most:
            return self
        y, bins = self.y, np.array_split(np.arange(len(self.x)), most // 2)
        kept = [i for bin in bins for i in sorted({bin[y[bin].argmin()], bin[y[bin].argmax()]})]
        return Series(self.x[kept], y[kept], self.ends_in_nan)

    def smoothed(self, most: int = MOST_POINTS) -> "Series":
        """Each point the mean of its neighbours, near ones counting most (a Gaussian).

        It reaches over a fiftieth of the line, and less near the start: where a loss falls
        steeply, a wide mean would begin far below it. A spike counts as three times the median
        around it, or it would make a hill of its neighbours.
        """
        x, y = self.x, self.y
        if self.is_short:
            return self
        if len(x) > most:  # a plain mean of each bin first
            starts = np.arange(most) * len(x) // most
            sizes = np.diff(starts, append=len(x))
            x, y = np.add.reduceat(x, starts) / sizes, np.add.reduceat(y, starts) / sizes
        place, widest = np.arange(len(x)), max(1.0, len(x) / 50)
        reach = np.clip(place / 3, min(1.5, widest), widest)
        around = round(widest)
        windows = sliding_window_view(np.pad(np.abs(y), around, "symmetric"), 2 * around + 1)
        most_of_each = 3 * np.median(windows, axis=1)
        y = np.clip(y, -most_of_each, most_of_each)
        weights = np.exp(-(((place - place[:, None]) / reach[:, None]) ** 2) / 2)  # (to, from)
        return Series(x, weights @ y / weights.sum(axis=1), self.ends_in_nan)


@dataclass(frozen=True, eq=False)
class RunMetrics:
    name: str
    about: str  # model, data, batch and rate, as far as run.json tells
    lines: list[dict]

    def column(self, key: str) -> np.ndarray:
        """A value for each line, nan where it is absent."""
        return np.array([line.get(key, math.nan) for line in self.lines], float)

    @cached_property
    def counts_epochs(self) -> bool:
        is_step = self.column("step") > 0
        return bool(np.isfinite(self.column("epoch"))[is_step].any() or not is_step.any())

    def by_steps(self) -> "RunMetrics":
        """The same run, placed beside one whose epochs are not known."""
        lines = [{k: v for k, v in line.items() if k != "epoch"} for line in self.lines]
        return replace(self, lines=lines)

    @cached_property
    def places(self) -> np.ndarray:
        """Where each line stands on an x axis: at its epoch, or its step where none is known."""
        if not self.counts_epochs:
            return self.column("step")
        return np.where(self.column("step") == 0, 0.0, self.column("epoch"))

    def series(self, key: str) -> Series:
        y = self.column(key)
        good = np.isfinite(self.places) & np.isfinite(y)
        measured = [line[key] for line in self.lines if key in line]
        return Series(
            self.places[good], y[good], bool(measured) and not math.isfinite(measured[-1])
        )

    def best(self) -> tuple[float, float] | None:
        """The place and the loss of the best validation."""
        x, y, _ = self.series("val_loss")
        return (float(x[y.argmin()]), float(y.min())) if len(y) else None

    def final_numbers(self) -> tuple[str, str, str]:
        """Of training, validation, and the best validation; "" for what was not measured."""
        training, validation, best = self.series("train_loss"), self.series("val_loss"), self.best()
        said = []
        for name, of in (("training", training.smoothed()), ("validation", validation)):
            value = "nan" if of.ends_in_nan else number(of.y[-1]) if len(of.y) else ""
            said.append(value and f"{name} {value}")
        at = "at epoch {:.3g}" if self.counts_epochs else "at step {:.0f}"
        return *said, f"best {number(best[1])} {at.format(best[0])}" if best else ""

    def tokens_per_place(self) -> float:
        """How many tokens an epoch has, or a step; nan where it is not known."""
        tokens = self.column("tokens")
        good = np.flatnonzero((tokens > 0) & (self.places > 0) & np.isfinite(tokens + self.places))
        return tokens[good[-1]] / self.places[good[-1]] if len(good) else math.nan


def number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.3g}"


def read_run(folder: str | Path) -> RunMetrics:
    folder = Path(folder)
    if not (folder / NAME).is_file():
        what = "not a run's folder" if folder.is_dir() else "no such folder"
        raise MetricsError(f"{folder}: {what}: a run writes its {NAME} there")
    lines = MetricsFile(folder / NAME).read()
    return RunMetrics(folder.resolve().name, _about(folder / "run.json"), lines)


def _about(path: Path) -> str:
    """What run.json says of a run, in one line. An ornament: what is not as expected is skipped."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        settings = fields["settings"] if isinstance(fields.get("settings"), dict) else fields
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""
    parts = []
    for key in ("model", "data"):
        names = settings.get(key)
        names = names if isinstance(names, list) else [names]
        if all(isinstance(name, str) for name in names):
            parts.append(", ".join(name.replace("\\", "/").rsplit("/", 1)[-1] for name in names))
    for key, text in (("batch_size", "batches of {:g}"), ("lr", "learning rate {:g}")):
        if type(settings.get(key)) in (int, float):
            parts.append(text.format(settings[key]))
    return " · ".join(part for part in parts if part)
