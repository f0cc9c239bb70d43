"""Our own training, one optimizer step at a time, with each lever as it is asked for.

A lever is something that makes a step faster and changes nothing else. Most are settings of a run.
To add one to the ladder, add a line to `LEVERS`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.work import LIKE_LENGTHS, SHUFFLED, Work
from benchmarks.workers import as_torch_comes, forget_peak, peak_memory
from gpt import loss as loss_chapter
from gpt.batching import Batch
from gpt.dataset import InstructionSet
from gpt.hardware import Precision, choose_precision, features_of, keep_freed_memory
from gpt.learner import Learner, recompute_on_the_way_back
from gpt.loss import plain_loss
from gpt.model import picked
from gpt.optimizer import length_of
from gpt.ordering import micro_batches
from gpt.settings import TrainSettings, names
from gpt.weights import load_model


@dataclass(frozen=True)
class Lever:
    settings: dict[str, Any] = field(default_factory=dict)  # of TrainSettings
    plain_loss: bool = False  # logits for every place, all at once
    whole_last_block: bool = False  # also at places that nobody looks at any more
    tiles: bool = True  # of the head, on a GPU
    fused: bool = True  # AdamW in one kernel
    waits: bool = False  # for what a step came to, before the next is begun
    fills_up: bool = True  # the number of places
    few_kernels: bool = True  # of those for bf16 are kept
    only_on: str | None = None  # the kind of device that it makes a difference on
    only_in: str | None = None  # the precision that it does so in
    process_wide: bool = False  # cannot be changed back: it needs a process of its own

    @property
    def grouping(self) -> str:
        return SHUFFLED if self.settings.get("order") == "shuffled" else LIKE_LENGTHS

    @property
    def exists(self) -> bool:
        return not self.settings or bool(set(self.settings) & set(names()))

    def matters_to(self, work: Work) -> bool:
        kind, precision = torch.device(work.device).type, work.precision
        return self.only_on in (None, kind) and self.only_in in (None, precision)


OURS = Lever()
LEVERS = {
    "without buckets": Lever({"order": "shuffled"}),
    "without the shared preamble": Lever({"shared_preamble": "never"}),
    "without the head on supervised rows only": Lever(
        {"shared_preamble": "never"}, plain_loss=True
    ),
    "without sparing the last block": Lever(whole_last_block=True),
    "without a head in tiles": Lever(tiles=False, only_on="cuda"),
    "without filling up": Lever(fills_up=False, only_on="cpu", only_in="bf16"),
    "without fused AdamW": Lever(fused=False),
    "without malloc settings": Lever({"tune_malloc": False}, process_wide=True),
    "waiting for each step": Lever(waits=True, only_on="cuda"),
    "without a limit on kernels for bf16": Lever(
        few_kernels=False, only_on="cpu", only_in="bf16", process_wide=True
    ),
    "with one thread": Lever({"threads": 1}),
    "with packing": Lever({"packed": True}),
    "with the GELU recomputed": Lever({"recompute_gelu": "always"}),
    "with activation checkpointing": Lever({"activation_checkpointing": True}),
    "with torch.compile": Lever({"compile": "always"}),
    "plain: without all of these": Lever(
        {
            "order": "shuffled",
            "shared_preamble": "never",
            "recompute_gelu": "never",
            "tune_malloc": False,
        },
        plain_loss=True,
        fused=False,
        few_kernels=False,
        process_wide=True,
    ),
}


class OurLoop:
    """Some of the levers, on one model. They share its weights and AdamW's memory, as what those
    are has no say in how long a step takes.
    """

    def __init__(self, work: Work, levers: dict[str, Lever]) -> None:
        self.work, self.levers = work, levers
        self.device = torch.device(work.device)
        self.model = load_model(work.folder, dtype=torch.float32)
        for parameter in self.model.parameters():  # out of the file's pages, as start.py does it
            parameter.data = parameter.data.clone()
        self.model.to(self.device)
        self.learners: dict[str, Learner] = {}
        self.warnings: list[str] = []
        if work.threads:
            torch.set_num_threads(work.threads)
        self.threads = torch.get_num_threads()
        if self.device.type == "cpu" and all(
            lever.settings.get("tune_malloc", True) for lever in levers.values()
        ):
            keep_freed_memory()
        if not all(lever.few_kernels for lever in levers.values()):
            as_torch_comes()

    def first_step(self, name: str, step: list[int]) -> tuple[float, float]:
        """Its loss and the length of its gradient, from the weights that all begin with, in fp32.

        It is a step like any other, at a rate of 0, which changes no weight.
        """
        self.model.load_state_dict(load_model(self.work.folder).state_dict())
        forget_peak(self.device)
        learner, data = self._take_up(name)
        usual = learner.precision, torch.get_float32_matmul_precision()
        learner.precision = Precision("fp32", "to compare")
        torch.set_float32_matmul_precision("highest")
        learned = learner.learn([data.batch(step)], lr=0.0)
        learner.precision, tf32 = usual
        torch.set_float32_matmul_precision(tf32)
        self._refuse_what_it_does_not_do()
        return learned.loss_sum / learned.weight_sum, learned.grad_norm

    def train(self, name: str, steps: list[list[int]]) -> float:
        """Seconds."""
        learner, data = self._take_up(name)
        synchronize(self.device)
        start = time.perf_counter()
        learned = None
        for step in steps:
            parts = micro_batches(torch.tensor(step).numpy(), data.lengths, by_length=True)
            gradient = learner.gradient([data.batch(part) for part in parts])
            if learned is not None:
                learned()  # as train.py looks at a step, when the next is on its way
            learned = learner.update(gradient, self.work.lr)
        synchronize(self.device)
        seconds = time.perf_counter() - start
        self._refuse_what_it_does_not_do()
        return seconds

    def _refuse_what_it_does_not_do(self) -> None:
        """A run goes on without torch.compile where that fails, and would be timed so."""
        if self.warnings:
            first = self.warnings[0]
            self.warnings.clear()
            raise RuntimeError(first)

    def multiply(self, rows: int, precision: str) -> float:
        """Multiplications and additions a second of a bare matrix product, at its best."""
        config = self.work.config
        dtype = choose_precision(precision, features_of(self.device)).dtype
        side = min(2048, 8 * config.n_embd)
        shapes = [(side, side, side), (rows, config.n_embd, 4 * config.n_embd)]
        best = 0.0
        for n, k, m in shapes:
            a = torch.randn(n, k, device=self.device, dtype=dtype)
            b = torch.randn(k, m, device=self.device, dtype=dtype)
            torch.mm(a, b)
            for _ in range(3):
                synchronize(self.device)
                start = time.perf_counter()
                for _ in range(2):
                    torch.mm(a, b)
                synchronize(self.device)
                best = max(best, 2 * 2 * n * k * m / (time.perf_counter() - start))
        return best

    def peak_memory(self) -> int | None:
        return peak_memory(self.device)

    def _take_up(self, name: str) -> tuple[Learner, InstructionSet]:
        lever, work = self.levers[name], self.work
        given = {key: value for key, value in lever.settings.items() if key in names()}
        settings = TrainSettings(**({"weight_decay": 0.0, "clip": 0.0} | given))
        if name not in self.learners:
            precision = choose_precision(work.precision, features_of(self.device))
            kind = PlainLoss if lever.plain_loss else Learner
            learner = kind(
                self.model, settings, self.device, precision, work.lr, self.warnings.append
            )
            if lever.whole_last_block:
                learner.summed.hidden = partial(everywhere, self.model.hidden)
            for other in self.learners.values():
                learner.optimizer = other.optimizer
            self.learners[name] = learner
        learner = self.learners[name]
        torch.set_num_threads(settings.threads or self.threads)
        recompute_on_the_way_back(self.model, settings, self.device)
        for group in learner.optimizer.param_groups:
            group["fused"] = lever.fused
        # Where AdamW looks for its count of steps: of a GPU it would ask each, and wait for it.
        counts_on = self.device if lever.fused else torch.device("cpu")
        for state in learner.optimizer.state.values():
            state["step"] = state["step"].to(counts_on)
        if not lever.fills_up:
            learner.multiple = 1
        loss_chapter._DEVICES_WITH_TILES = ("cuda",) if lever.tiles else ()
        if lever.waits or not lever.fused:  # what is not fused cannot be told to leave a step out
            learner.looks_later = False
        row_length = work.config.n_ctx if settings.packed else None
        data = InstructionSet(work.examples, work.end_id, row_length=row_length)
        return learner, data


class PlainLoss(Learner):
    """The loss as it is written in a textbook."""

    def loss_of(self, batch: Batch) -> Tensor:
        batch = self._moved(batch)
        with self.precision.autocast(self.device):
            return plain_loss(self.model(batch.inputs), batch)


def everywhere(hidden_of: Callable[..., Tensor], *given: Any) -> Tensor:
    """`model.hidden` at some places, from all of it."""
    *rest, places = given
    return picked(hidden_of(*rest), places)


def synchronize(device: torch.device) -> None:
    """A GPU works on behind one's back: the clock is read when it has nothing left to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def reference(work: Work, step: list[int]) -> tuple[float, float]:
    """What the first step must come to: the plain loss, one pass, no lever."""
    device = torch.device(work.device)
    model = load_model(work.folder, dtype=torch.float32).to(device).train()
    data = InstructionSet(work.examples, work.end_id)
    batch = Batch(*(None if t is None else t.to(device) for t in data.batch(step)))
    loss = plain_loss(model(batch.inputs), batch) / batch.weights.sum()
    loss.backward()
    norm = length_of([p.grad for p in model.parameters()])
    return loss.item(), norm.item()
