"""When one of several processes dies or hangs, all end soon, and one of them says why.

    each rank's watch, every second:   "I am rank 2, at work, and this far"  ─> the store of the job
                                       what do the others say?              <─

Ranks wait for each other in every step. So one that is gone leaves all others waiting, each in a
place that knows nothing of the cause; and torch would print a page for each of them. Here:

  - Who fails says so in the store, and the first to do so is the only one that prints. The others
    see that the word has been given, and leave without one.
  - Who is not heard of any more (frozen, its machine gone, the cable cut) is named by the others.
  - Who is heard of, but stands still in a step while the others wait, is named as well. So is, in
    any other place, who holds the others up and does nothing at all: its processor is at rest.

The watch is a thread, for the main one may be what hangs. It speaks through the store that torchrun
has for the processes to meet in, on a connection of its own.
"""

import contextlib
import os
import re
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch.distributed as dist

from gpt.errors import UserError, first_line

BEAT = 1.0  # seconds between two looks
SILENT = 25.0  # without a sign of life, a rank is given up: torchrun kills it 30 seconds later
STANDING = 40.0  # so long a step may stand still, or five times the longest that it ever did
IDLE = 45.0  # so long, in any other place, a rank may do nothing while others wait for it
PATIENT = 300.0  # or where it may be a disk or a network that it waits for
UNHURRIED = 7200.0  # and so long it may be at work, or be fetching a model from the hub
_AT_WORK = 0.05  # of a core: what else lives in the process takes less
_STEP, _SLOW, _LONG, _ANY = "step", "slow", "long", "any"
_OF_CONNECTIONS = re.compile(
    r"gloo/[\w/]+\.cc:\d+|Gloo connectFullMesh|\bNCCL\b|\bnccl[A-Z]\w+|Broken pipe|Socket Timeout|"
    r"Connection (closed|reset) by peer|timed out waiting|connection was likely closed|"
    r"failed to recv",
    re.IGNORECASE,
)
_LAST_WORD = 8.0  # to wait for the cause, when a connection broke
_HEARD = 2.5 * BEAT  # in which all hear that somebody has failed, before what they hear it by ends
_LEAVE = 10.0  # what the main thread is given to leave by itself, once somebody has failed


class Watch:
    """speaks_alone: where nobody can be asked who speaks, this rank does."""

    def __init__(self, store: dist.Store, rank: int, n: int, speaks_alone: bool = True) -> None:
        self.store, self.rank, self.n, self.speaks_alone = store, rank, n, speaks_alone
        self.progress = 0  # what the main thread has come through
        self.alone = 0  # and what it did by itself, of which ranks may have more or less
        self.has_failed = self._others_failed = False
        self._mode, self._what = _ANY, ""  # how long the main thread may stand still, and in what
        self._ended = threading.Event()
        self._tick, self._told = 0, [""] * n  # of each rank, what it said last
        self._heard = [time.monotonic()] * n
        self._works, self._processor = 0, 0.0  # beats in which this process was at work
        self._moved = self._worked = self._reached = time.monotonic()
        self._longest, self._moves, self._work_behind, self._in_a_step = 0.0, "", "", False
        self._cause = ""

    def begin(self) -> None:
        """Once all are there."""
        self._tell()
        for work in (self._watch, self._watch_the_watch):
            threading.Thread(target=work, daemon=True).start()

    def expect(self, seconds: float) -> None:
        """So long a step stood still when it was tried."""
        self._longest = max(self._longest, seconds)

    def end(self) -> None:
        self._ended.set()

    def hurried(self, what: str) -> AbstractContextManager[None]:
        return self._in(_STEP, what)

    def patient(self, what: str) -> AbstractContextManager[None]:
        return self._in(_SLOW, what)

    def unhurried(self, what: str) -> AbstractContextManager[None]:
        return self._in(_LONG, what)

    @contextlib.contextmanager
    def _in(self, mode: str, what: str) -> Iterator[None]:
        before = self._mode, self._what
        self.progress, self._mode, self._what = self.progress + 1, mode, what
        try:
            yield
        finally:
            self._mode, self._what = before

    # ---- looking ---------------------------------------------------------------------------

    def _tell(self) -> None:
        self._tick += 1
        host, mode, what = socket.gethostname(), self._mode, self._what
        told = f"{self._tick} {self.progress}.{self.alone} {self._works} {mode} {host} {what}"
        self.store.set(f"rank {self.rank}", told)

    def _look_at_oneself(self) -> None:
        processor = time.process_time() - time.thread_time()  # without this thread's part
        self._works += processor - self._processor > _AT_WORK * BEAT
        self._processor = processor

    def _all_told(self) -> list[str]:
        keys = [f"rank {r}" for r in range(self.n)]
        if self.store.check(keys):
            return [told.decode() for told in self.store.multi_get(keys)]
        # Somebody has not begun yet: to ask for its word would be to wait for it.
        return [self.store.get(key).decode() if self.store.check([key]) else "" for key in keys]

    def _watch(self) -> None:
        while not self._ended.wait(BEAT):
            self._look_at_oneself()
            try:
                self._tell()
                told = self._all_told()
                somebody_failed = self.store.check(["faults"])
            except RuntimeError:  # the store is gone, and with it whoever had it
                time.sleep(BEAT)
                continue
            now = time.monotonic()
            if now - self._reached > SILENT / 2:  # this process slept, or was cut off: begin anew
                self._heard = [now] * self.n
                self._moved = self._worked = now
            self._reached = now
            for rank, text in enumerate(told):
                if text != self._told[rank]:
                    self._told[rank], self._heard[rank] = text, now
            self._others_failed = somebody_failed and not self.has_failed
            if self._others_failed:
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
                if self.speaks_alone:
                    say(f"{self.name()}: the other ranks cannot be reached any more: "
                         "is a machine or the network between them down?")  # fmt: skip
                self._leave()

    def _fault(self, now: float) -> str | None:
        silent = [r for r in range(self.n) if now - self._heard[r] > SILENT]
        if silent:
            return f"{self._names(silent)}: no sign of life for {SILENT:.0f} seconds"
        if not all(self._told):
            return None
        parts = [text.split(" ", 5) for text in self._told]
        places = [int(part[1].partition(".")[0]) for part in parts]
        moves = " ".join(part[1] for part in parts)
        behind = [r for r in range(self.n) if places[r] == min(places)]
        if moves != self._moves:
            if self._in_a_step:
                self._longest = max(self._longest, now - self._moved)
            self._moves, self._moved, self._worked = moves, now, now
        work_behind = " ".join(parts[r][2] for r in behind)
        if work_behind != self._work_behind:
            self._work_behind, self._worked = work_behind, now
        self._in_a_step = all(part[3] == _STEP for part in parts)
        stood = now - self._moved
        if self._in_a_step:
            is_fault = stood > max(STANDING, 5 * self._longest)
        else:
            modes = {parts[r][3] for r in behind}
            idle = UNHURRIED if _LONG in modes else PATIENT if _SLOW in modes else IDLE
            is_fault = now - self._worked > idle or stood > UNHURRIED
        if not is_fault:
            return None
        what = parts[behind[0]][5]
        told = f"no progress for {stood:.0f} seconds" + (f" in {what}" if what else "")
        if len(behind) == self.n:
            return f"all {self.n} ranks: {told}"
        return f"{self._names(behind)}: {told}, and the others wait"

    # ---- saying ----------------------------------------------------------------------------

    def name(self) -> str:
        return f"rank {self.rank} on {socket.gethostname()}"

    def _names(self, ranks: list[int]) -> str:
        hosts = [self._told[r].split(" ")[4] if self._told[r] else "?" for r in ranks]
        told = [f"rank {r} on {host}" for r, host in zip(ranks, hosts, strict=True)]
        return ", ".join(told[:4]) + (f" and {len(told) - 4} more" if len(told) > 4 else "")

    def say_once(self, text: str, of: BaseException | None = None) -> None:
        """Unless somebody has spoken. of: the fault, if one of ours, to be told in full."""
        if self._may_speak(text):
            if of is not None:
                traceback.print_exception(of, file=sys.__stderr__)
            say(text)
            time.sleep(_HEARD)

    def _may_speak(self, text: str) -> bool:
        self.has_failed = True
        try:
            if self.store.add("faults", 1) > 1:
                return False
            self.store.set("cause", text)
            return True
        except RuntimeError:
            return self.speaks_alone and not self._others_failed  # whoever did has spoken

    def fail(self, error: BaseException) -> int:
        """The main thread's failure: say what is to be said, if nobody has. The exit code."""
        self.has_failed = True
        if isinstance(error, KeyboardInterrupt):
            self.say_once("interrupted")
            return 130
        code = error.exit_code if isinstance(error, UserError) else 1
        if is_collateral(error):
            self.say_once(self.cause_of(error))
        elif not isinstance(error, UserError):
            self.say_once(f"{self.name()}: {first_line(error)}", error)
        elif self.rank == 0:
            self.say_once(str(error))
        elif not self._is_said_within(1.0):  # what befalls all, rank 0 is to say
            self.say_once(f"{self.name()}: {error}")
        return code

    def cause_of(self, error: BaseException) -> str:
        """What ended the run: this, or what happened to the rank from which this follows."""
        if not is_collateral(error):
            return first_line(error)
        if not self._cause and self._is_said_within(_LAST_WORD):
            with contextlib.suppress(RuntimeError):
                self._cause = self.store.get("cause").decode()
        if not self._cause:
            now = time.monotonic()
            gone = [r for r in range(self.n) if now - self._heard[r] > _LAST_WORD / 2]
            self._cause = f"{self.name()}: lost the other ranks: {first_line(error)}"
            if gone and len(gone) < self.n:
                self._cause = f"{self._names(gone)}: ended without a word: was it killed?"
        return self._cause

    def _is_said_within(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                if self.store.check(["cause"]):
                    return True
            except RuntimeError:
                return self._others_failed or not self.speaks_alone
            time.sleep(0.2)
        return False

    def _leave(self) -> None:
        if not self._ended.is_set():
            flush()
            os._exit(1)  # the main thread may stand where no exception reaches it


def is_collateral(error: BaseException | None) -> bool:
    """Whether a rank fails only because another one did: a connection broke, or was not made."""
    while error is not None:
        if isinstance(error, dist.DistError):
            return True
        if isinstance(error, RuntimeError) and _OF_CONNECTIONS.search(str(error)):
            return True
        if of_ranks := getattr(error, "failures", None):  # of pieces that were not written
            return all(is_collateral(one) for one, _ in of_ranks.values())
        error = error.__cause__ or error.__context__
    return False


def say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"error: {text}", file=sys.__stderr__, flush=True)


def flush() -> None:
    for stream in (sys.stdout, sys.stderr, sys.__stderr__):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
