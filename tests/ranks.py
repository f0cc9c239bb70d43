"""Several processes that train together, as torchrun would start them, but quicker: they are forked
from one that has torch imported already.
"""

import io
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from gpt.parallel import Ranks, joined
from gpt.progress import Progress
from gpt.segments import INSTRUCTION
from gpt.settings import TrainSettings, flag
from gpt.start import begin, take_over
from gpt.stopping import StopRequested, StopRequests
from gpt.train import Run, train
from tests.runs import context


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


_STORES: list[dist.Store] = []  # which outlive the processes, as torchrun's does


def start_ranks(n: int, work: Callable, *arguments: object, log: Path | None = None) -> list:
    """The processes. Of each, what it prints is in log.RANK."""
    if sys.platform == "win32":
        pytest.skip("Windows has no forkserver")
    _STORES.append(dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False))
    port, processes = _STORES[-1].port, []
    for rank in range(n):
        process = context().Process(target=_rank, args=(rank, n, port, log, work, arguments))
        process.start()
        processes.append(process)
    return processes


def _rank(rank: int, n: int, port: int, log: Path | None, work: Callable, arguments: tuple) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(n),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }  # fmt: skip
    if log is not None:
        descriptor = os.open(f"{log}.{rank}", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
    sys.exit(work(*arguments))


def on_ranks(n: int, work: Callable, *arguments: object, seconds: float = 300) -> None:
    """Wait for all, and for each to end well."""
    processes = start_ranks(n, work, *arguments)
    for process in processes:
        process.join(seconds)
        if process.is_alive():
            for other in processes:
                other.kill()
            raise AssertionError("a rank hangs")
    assert [process.exitcode for process in processes] == [0] * n


def as_flags(settings: TrainSettings) -> list[str]:
    """What a person types for them."""
    flags: list[str] = []
    for name, value in settings.to_dict().items():
        if value != getattr(TrainSettings(), name) and name != "respond":
            values = value if isinstance(value, list) else [value]
            flags += [flag(name)] if value is True else [flag(name), *map(str, values)]
    return flags


def train_together(
    several: list[TrainSettings],
    prepare: Callable[[Run], object] = bool,
    until: int | None = None,  # the step after which all are asked to stop
) -> None:
    """One run after another, on the same ranks. What a rank runs, of which there may be one."""
    with joined("cpu") as ranks:
        for settings in several:
            run = begin(settings, (), lambda line: None, ranks)
            prepare(run)
            take_over(run)
            with StopAfter(ranks, run, until) as stop:
                train(run, Progress(run.n_steps, run.state.step, io.StringIO()), stop)


class StopAfter(StopRequests):
    def __init__(self, ranks: Ranks, run: Run, step: int | None) -> None:
        super().__init__(ranks)
        self.run, self.step = run, step

    def check(self) -> None:
        if self.step is not None and self.run.state.step >= self.step and not self.run.state.untold:
            raise StopRequested
        super().check()


def mask_some(run: Run) -> None:
    """In one step, nothing is supervised of the first examples: for some ranks, their whole share;
    in another, of none.
    """
    data = run.data.train.examples
    steps = run.order.steps()
    for n in (3, run.settings.batch_size):
        next(steps)
        for i in next(steps).examples[:n]:
            data.parts[data.starts[i] : data.starts[i + 1]] = INSTRUCTION
    assert data.parts.dtype == np.uint8
