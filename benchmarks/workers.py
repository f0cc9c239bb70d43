"""A process for each way of doing the work, which waits while another has its turn.

    worker.call("train", steps) ─> pipe ─> its process: Loop(…).train(steps)
                        seconds <─ pipe <──┘

Some of what makes a way fast holds for a whole process: how memory is allocated, how many threads
there are, what a library patches when it is imported. In one process each would change the others.
In processes of their own they can still take turns: a model stays loaded, and its process sleeps
until it is called. The clock runs there, around the work alone.

An error there is told here in one line; BENCHMARK_TRACEBACKS=1 in the environment prints all of it.
"""

import multiprocessing
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from gpt.hardware import KERNELS_KEPT

GONE = "its process was ended, perhaps for want of memory"
CLEAR = Path("/proc/self/clear_refs")


class WayFailed(Exception):
    """A way that could not do the work; with the last line of why."""


class Worker:
    """An object in a process of its own. What it is made of and called with must pickle."""

    def __init__(self, kind: type, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, kind, arguments), daemon=True, name=kind.__name__
        )
        self._process.start()
        theirs.close()
        try:
            self._answer()
        except WayFailed:
            self.close()
            raise

    def call(self, method: str, *arguments: Any) -> Any:
        """What the object answers. After an error it can be called again, unless it is gone."""
        try:
            self._pipe.send((method, arguments))
        except OSError:
            raise WayFailed(GONE) from None
        return self._answer()

    def _answer(self) -> Any:
        try:
            is_error, answer = self._pipe.recv()
        except (EOFError, OSError):
            raise WayFailed(GONE) from None
        if is_error:
            raise WayFailed(answer)
        return answer

    def close(self) -> None:
        """The end of its process, and with it of all the memory that it had."""
        self._pipe.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()


def _serve(pipe: Connection, kind: type, arguments: tuple) -> None:
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    warnings.simplefilter("ignore")
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (for as long as this lives)
    served: Any = None
    call: Callable[[], Any] = partial(kind, *arguments)
    try:
        while True:
            try:
                answer = (False, call())
                if served is None:
                    served, answer = answer[1], (False, None)
            except Exception as error:
                if os.environ.get("BENCHMARK_TRACEBACKS"):
                    traceback.print_exc()
                answer = (True, traceback.format_exception_only(error)[-1].strip())
            pipe.send(answer)
            method, arguments = pipe.recv()
            call = partial(getattr(served, method), *arguments)
    except (EOFError, OSError, KeyboardInterrupt):
        return  # whom it works for is gone


def as_torch_comes() -> None:
    """Take back what importing our own modules has set: for a peer's process, before it
    multiplies. (A user's own number stays, but for one that is ours.)
    """
    for name, n in KERNELS_KEPT.items():
        if os.environ.get(name) == n:
            del os.environ[name]


def forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif CLEAR.exists():
        CLEAR.write_text("5")  # (see proc(5))


def peak_memory(device: torch.device) -> int | None:
    """Bytes at most since then: of torch's tensors on a GPU, else of the process; None: unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if not CLEAR.exists():
        return None  # getrusage would count the process that started this one
    return int(status.read_text(encoding="utf-8").split("VmHWM:")[1].split()[0]) * 1024
