"""How far the answers are, for a person who waits: a bar on a terminal, lines in a file."""

import sys
import time
from typing import TextIO

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0


class Counting:
    """A bar on a terminal; in a file a line now and then. Both tell the time that is left."""

    def __init__(self, n: int, done: int, stream: TextIO | None = None) -> None:
        self.n, self.done = n, done
        self.stream = stream or sys.stderr
        self._began_at = done
        self._began = self._last = time.monotonic()
        self._bar = tqdm(
            total=n, initial=done, desc="answers", file=self.stream,
            disable=not self.stream.isatty(), dynamic_ncols=True,
            bar_format="{desc} {n_fmt}/{total_fmt} {bar:20} {remaining} left",
        )  # fmt: skip

    def __enter__(self) -> "Counting":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, done: int) -> None:
        """So many are answered now."""
        self.done = done
        self._bar.update(done - self._bar.n)
        now = time.monotonic()
        is_time = now - self._last >= _SECONDS_BETWEEN_LINES or done == self.n
        if self._bar.disable and is_time:
            self._last = now
            left = tqdm.format_interval(self.seconds_left())
            print(f"answers {done:,}/{self.n:,}, {left} left", file=self.stream, flush=True)

    def seconds_left(self) -> float:
        each = (time.monotonic() - self._began) / max(1, self.done - self._began_at)
        return each * (self.n - self.done)

    def leave_out(self, seconds: float) -> None:
        """What these went for, a model's loading, says nothing of how long an answer takes."""
        self._began += seconds
        if not self._bar.disable:
            self._bar.start_t += seconds
            self._bar.last_print_t += seconds
