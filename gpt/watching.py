"""When one of several processes dies or hangs, all end soon, and one of them says why.

    each rank's watch, every second:   "I am rank 2, at work, and this far"  ─> the store of the job
                                       what do the others say?              <─

Ranks wait for each other in every step. So one that is gone leaves all others waiting, each in a
place that knows nothing of the cause; and torch would print a page for each of them. Here:

  - Who fails says so in the store, and the first to do so is the only one that prints. The others
    see that the word has been given, and leave without one.
  - Who is not heard of any more (frozen, its machine gone, the cable cut) is named by the others.
  - Who is heard of, but stands still in a step while the others wait, is named as well.

The watch is a thread, for the main one may be what hangs. It speaks through the store that torchrun
has for the processes to meet in, on a connection of its own.
"""

import contextlib
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator

import torch.distributed as dist

from gpt.errors import UserError, first_line

BEAT = 1.0  # seconds between two looks
SILENT = 25.0  # without a sign of life, a rank is given up: torchrun kills it 30 seconds later
STANDING = 40.0  # so long a step may stand still, or five times the longest that it ever did
UNHURRIED = 7200.0  # and anything else: loading, saving, drawing
_LAST_WORD = 8.0  # to wait for the cause, when a connection broke
_HEARD = 2.5 * BEAT  # in which all hear that somebody has failed, before what they hear it by ends
_LEAVE = 10.0  # what the main thread is given to leave by itself, once somebody has failed


class Watch:
    def __init__(self, store: dist.Store, rank: int, n: int, local_rank: int) -> None:
        self.store, self.rank, self.n, self.local_rank = store, rank, n, local_rank
        self.progress = 0  # what the main thread has come through
        self.is_hurried = False  # in a step, which is not to stand still
        self.has_failed = False
        self._ended = threading.Event()
        self._tick, self._told = 0, [""] * n  # of each rank, what it said last
        self._heard = [time.monotonic()] * n
        self._moved = self._reached = time.monotonic()
        self._longest, self._places, self._in_a_step = 0.0, "", False
        self._tell()

    def begin(self) -> None:
        """Once all have told something for the first time."""
        now = time.monotonic()
        self._heard, self._moved, self._reached = [now] * self.n, now, now
        for work in (self._watch, self._watch_the_watch):
            threading.Thread(target=work, daemon=True).start()

    def expect(self, seconds: float) -> None:
        """So long a step stood still when it was tried."""
        self._longest = max(self._longest, seconds)

    def end(self) -> None:
        self._ended.set()

    @contextlib.contextmanager
    def hurried(self) -> Iterator[None]:
        self.progress, self.is_hurried = self.progress + 1, True
        try:
            yield
        finally:
            self.is_hurried = False

    # ---- looking ---------------------------------------------------------------------------

    def _tell(self) -> None:
        self._tick += 1
        told = f"{self._tick} {self.progress} {int(self.is_hurried)} {socket.gethostname()}"
        self.store.set(f"rank {self.rank}", told)

    def _watch(self) -> None:
        while not self._ended.wait(BEAT):
            try:
                self._tell()
                told = self.store.multi_get([f"rank {r}" for r in range(self.n)])
                somebody_failed = self.store.check(["faults"])
            except RuntimeError:  # the store is gone, and with it whoever had it
                time.sleep(BEAT)
                continue
            now = time.monotonic()
            if now - self._reached > SILENT / 2:  # this process slept, or was cut off: begin anew
                self._heard, self._moved = [now] * self.n, now
            self._reached = now
            for rank, text in enumerate(part.decode() for part in told):
                if text != self._told[rank]:
                    self._told[rank], self._heard[rank] = text, now
            if somebody_failed and not self.has_failed:
                self._ended.wait(_LEAVE)
                self._leave()
            if fault := self._fault(now):
                self.say_once(fault)
                self._leave()

    def _watch_the_watch(self) -> None:
        """The store may be what cannot be reached, by a call that never comes back."""
        last = time.monotonic()
        while not self._ended.wait(BEAT):
            before, last = last, time.monotonic()
            if last - before > 5 * BEAT:  # this process was made to sleep, perhaps with all others
                self._reached = last
            if last - self._reached > SILENT + BEAT:
                self.has_failed = True
                if self.local_rank == 0:  # nobody can be asked who speaks: one on each machine
                    say(f"{self.name()}: the other ranks cannot be reached any more: "
                         "is a machine or the network between them down?")  # fmt: skip
                self._leave()

    def _fault(self, now: float) -> str | None:
        silent = [r for r in range(self.n) if now - self._heard[r] > SILENT]
        if silent:
            return f"{self._names(silent)}: no sign of life for {SILENT:.0f} seconds"
        parts = [text.split() for text in self._told]
        places = " ".join(part[1] for part in parts)
        if places != self._places:
            if self._in_a_step:
                self._longest = max(self._longest, now - self._moved)
            self._places, self._moved = places, now
        self._in_a_step = in_a_step = all(part[2] == "1" for part in parts)
        allowed = max(STANDING, 5 * self._longest) if in_a_step else UNHURRIED
        if now - self._moved <= allowed:
            return None
        at = [int(part[1]) for part in parts]
        behind = [r for r in range(self.n) if at[r] == min(at)]
        stood = f"no progress for {now - self._moved:.0f} seconds"
        if len(behind) == self.n:
            return f"all {self.n} ranks: {stood}"
        return f"{self._names(behind)}: {stood}, and the others wait"

    # ---- saying ----------------------------------------------------------------------------

    def name(self) -> str:
        return f"rank {self.rank} on {socket.gethostname()}"

    def _names(self, ranks: list[int]) -> str:
        told = [f"rank {r} on {(self._told[r].split() or ['?'])[-1]}" for r in ranks]
        return ", ".join(told[:4]) + (f" and {len(told) - 4} more" if len(told) > 4 else "")

    def say_once(self, text: str) -> None:
        if self._may_speak():
            say(text)
            time.sleep(_HEARD)

    def _may_speak(self) -> bool:
        self.has_failed = True
        try:
            return self.store.add("faults", 1) == 1
        except RuntimeError:
            return self.local_rank == 0

    def fail(self, error: BaseException) -> int:
        """The main thread's failure: say what is to be said, if nobody has. The exit code."""
        self.has_failed = True
        code = error.exit_code if isinstance(error, UserError) else 1
        if isinstance(error, UserError) and not is_collateral(error):
            if self.rank > 0 and self._is_said_within(1.0):  # what befalls all, rank 0 is to say
                return code
            self.say_once(str(error) if self.rank == 0 else f"{self.name()}: {error}")
        elif isinstance(error, KeyboardInterrupt):
            self.say_once("interrupted")
            return 130
        elif not is_collateral(error):
            if self._may_speak():
                traceback.print_exception(error)
                say(f"{self.name()}: {first_line(error)}")
                time.sleep(_HEARD)
        elif not self._is_said_within(_LAST_WORD):
            now = time.monotonic()
            gone = [r for r in range(self.n) if now - self._heard[r] > _LAST_WORD / 2]
            if gone and len(gone) < self.n:
                self.say_once(f"{self._names(gone)}: ended without a word: was it killed?")
            else:
                self.say_once(f"{self.name()}: lost the other ranks: {first_line(error)}")
        return code

    def _is_said_within(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                if self.store.check(["faults"]):
                    return True
            except RuntimeError:
                return self.local_rank > 0
            time.sleep(0.2)
        return False

    def _leave(self) -> None:
        if not self._ended.is_set():
            flush()
            os._exit(1)  # the main thread may stand where no exception reaches it


def is_collateral(error: BaseException) -> bool:
    """Whether a rank fails only because another one did: a connection broke, or was not made."""
    words = ("connection closed by peer", "connection reset by peer", "broken pipe", "gloo",
             "nccl", "timed out waiting", "socket timeout", "connection was likely closed",
             "failed to recv")  # fmt: skip
    while error is not None:
        if isinstance(error, dist.DistError):
            return True
        if isinstance(error, RuntimeError | UserError) and any(
            word in str(error).lower() for word in words
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"error: {text}", file=sys.stderr, flush=True)


def flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
