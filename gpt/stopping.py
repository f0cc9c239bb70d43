"""Ctrl-C and SIGTERM as requests, which the loop grants at a place where nothing is lost.

A signal may come in the middle of a step, when some weights are new and some are old. So its
handler only writes down that it came. The loop looks after each step, and validation after each
batch; then the run is saved, and ends. Whoever presses Ctrl-C a second time does not want to wait.
"""

import contextlib
import os
import signal
import threading
from types import FrameType


class StopRequested(Exception):
    """Raised where a long job looks for a request and finds one."""


class StopRequests:
    """`with StopRequests() as stop:` … `stop.check()` wherever it may end."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
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
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        with contextlib.suppress(OSError):  # print may be in the midst of a line, and must not be
            os.write(2, b"\nstopping as soon as nothing is lost by it; once more: at once\n")

    def check(self) -> None:
        if self.signal is not None:
            raise StopRequested

    def exit_code(self) -> int:
        """What a shell gives a process that the signal ended."""
        return 128 + self.signal if self.signal is not None else 0
