"""What a person sees while a run runs: a bar on a terminal, a line now and then in a file.

A bar is redrawn in place, by a carriage return. In a file that is one endless line of thousands of
bars, so where the output is no terminal a plain line is written instead, at most every ten seconds,
and whenever there is a validation loss to tell.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    def __init__(self, n_steps: int, done: int, stream: TextIO | None = None) -> None:
        self.n_steps, self.done = n_steps, done
        self.stream = stream or sys.stderr
        self._began, self._began_at = time.monotonic(), done
        self._next_line = 0.0
        self._bar = None
        if self.stream.isatty():
            self._bar = tqdm(
                total=n_steps, initial=done, file=self.stream, unit="step", dynamic_ncols=True,
                smoothing=0.1, bar_format="{n_fmt}/{total_fmt} {bar:5} {remaining} left{postfix}",
            )  # fmt: skip

    def step(self, line: dict[str, Any]) -> None:
        """A step is done: `line` is what metrics.jsonl says of it."""
        self.done = line["step"]
        if self._bar is not None:
            told = " ".join(_told({**line, "val_loss": None}))  # which has a line of its own
            self._bar.set_postfix_str(" ".join(told.split()), refresh=False)  # 80 columns are few
            self._bar.update(line["step"] - self._bar.n)
        now = time.monotonic()
        if "val_loss" not in line and (self._bar is not None or now < self._next_line):
            return
        self._next_line = now + _SECONDS_BETWEEN_LINES
        width = len(f"{self.n_steps:,}")
        left = f"  {_clock(self.seconds_left())} left" if self._bar is None else ""
        self.say(f"step {line['step']:>{width},}/{self.n_steps:,}  {'  '.join(_told(line))}{left}")

    def seconds_left(self) -> float | None:
        n = self.done - self._began_at
        if n == 0:
            return None
        return (time.monotonic() - self._began) / n * (self.n_steps - self.done)

    def say(self, text: str) -> None:
        """A line that stays, above the bar."""
        if self._bar is not None:
            self._bar.write(text, file=self.stream)
        else:
            print(text, file=self.stream, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def draw(folder: Path, say: Callable[[str], object], again_after: float = 0.0) -> None:
    """loss.png as it stands, unless it was drawn a moment ago: a picture takes half a second."""
    path = folder / "loss.png"
    if path.exists() and time.time() - path.stat().st_mtime < again_after:
        return
    from gpt.plots import draw_run  # matplotlib takes a second to import

    try:
        draw_run(folder)
    except Exception as error:  # whatever it is: no picture is worth a run
        say(f"{path}: not drawn: {error!r}")


def _told(line: dict[str, Any]) -> list[str]:
    """Each value in a column of its own width, so that lines can be read one under another."""
    shown = (
        ("train_loss", "loss {:.3f}"),
        ("val_loss", "validation {:.3f}"),
        ("lr", "lr {:.1e}"),
        ("grad_norm", "grad {:5.2f}"),
        ("tokens_per_second", "{:,.0f} tok/s"),
    )
    told = [form.format(line[key]) for key, form in shown if line.get(key) is not None]
    if line.get("memory_bytes"):
        told.append(f"{line['memory_bytes'] / 1e9:.1f} GB")
    return told


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "--:--"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"
