"""Ctrl-C and SIGTERM as requests, which the loop grants at a place where nothing is lost.

A signal may come in the middle of a step, when some weights are new and some are old. So its
handler only writes down that it came. The loop looks after each step, and validation after each
batch; then the run is saved, and ends. Whoever presses Ctrl-C a second time does not want to wait.

Several processes stop together, whichever of them was asked: what one looks for, all look for.
"""

import contextlib
import os
import signal
import threading
from types import FrameType

from gpt.parallel import ALONE, Ranks


class StopRequested(Exception):
    """Raised where a long job looks for a request and finds one."""


class StopRequests:
    """`with StopRequests() as stop:` … `stop.check()` wherever it may end."""

    def __init__(self, ranks: Ranks = ALONE) -> None:
        self.signal: signal.Signals | None = None
        self.ranks = ranks
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequests":
        if threading.current_thread() is threading.main_thread():  # no other may handle signals
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            if handler is not None:  # None: not set from Python, nor to be set from here
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            if self.ranks.n > 1:
                return  # torchrun hands on what came to all of them already, and waits 30 seconds
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        if not self.ranks.is_first:
            return
        with contextlib.suppress(OSError):  # print may be in the midst of a line, and must not be
            at_once = b"" if self.ranks.n > 1 else b"; once more: at once"
            os.write(2, b"\nstopping as soon as nothing is lost by it" + at_once + b"\n")

    def check(self) -> None:
        """Of several ranks, all look at once, and stop if any was asked to."""
        number = int(self.ranks.most(self.signal or 0))
        if number:
            self.signal = signal.Signals(number)
            raise StopRequested

    def check_here(self) -> None:
        """Where the others do something else."""
        if self.signal is not None:
            raise StopRequested

    def exit_code(self) -> int:
        """What a shell gives a process that the signal ended."""
        return 128 + self.signal if self.signal is not None else 0
