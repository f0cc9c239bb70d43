"""Whether the run would work, tried before it begins: memory, saving, and the accelerator's sums.

    Run ─> the longest micro-batch, there and back ─> the widest validation batch ─> train

A run that dies of memory does so at its largest batch, which a shuffled order may bring after an
hour. So that batch comes first here, beside as much memory as AdamW will take at its first step
(not on a CPU with far more memory than a step can take: that much, counting tells).
A save is tried as well; where a run follows, that is the save of its step 0.

On an accelerator, one batch's loss and gradient are also computed on the CPU. A driver or a kernel
that is wrong makes no noise; its losses look like losses.
"""

import copy
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from gpt.background import Writer
from gpt.batching import Batch
from gpt.checkpoint import rng_states, save_last, set_rng_states
from gpt.errors import UserError
from gpt.hardware import Precision
from gpt.learner import Learner, validation_batches
from gpt.memory import explained, plainly_fits
from gpt.model import GPT
from gpt.optimizer import clip
from gpt.sharding import is_sharded
from gpt.train import Run

# How far an accelerator's loss and gradient norm may be from the CPU's, relatively.
_TOLERANCE = {"fp32": 1e-3, "bf16": 3e-2, "fp16": 1e-2}


class DeviceFault(UserError):
    """An accelerator that computes something else than the CPU."""


class Sums(NamedTuple):
    loss: float
    grad_norm: float


def preflight(run: Run, say: Callable[[str], object]) -> None:
    """Raise a UserError where the run would fail later. It leaves no trace in what is trained."""
    learner, train = run.learner, run.data.train
    rng = rng_states()
    try:
        began = time.perf_counter()
        check_memory(learner, longest_batch(run), "training")
        learner.ranks.expect(time.perf_counter() - began)
        widest = validation_batches(run.data.validation, learner.examples_at_once)[0]
        check_memory(learner, run.data.validation.batch(widest), "validation")
        if learner.device.type != "cpu" and not is_sharded(learner.model):
            shortest = train.batch(np.argsort(train.lengths, kind="stable")[:1])
            here, there = sums_of(learner, shortest), sums_on_cpu(learner, shortest)
            refuse_other_sums(here, there, learner.precision)
            say(f"one batch here and on the CPU: loss {here.loss:.4f} and {there.loss:.4f}")
    finally:
        set_rng_states(rng)


def is_needed(run: Run) -> bool:
    """On a CPU, whose sums nobody need check, only where memory may be short: it takes as long as
    many a step.
    """
    learner = run.learner
    if learner.settings.preflight or learner.ranks.n > 1:  # which share a memory, and are watched
        return True
    return not plainly_fits(learner, longest_batch(run))


def longest_batch(run: Run) -> Batch:
    train = run.data.train
    return train.batch(np.argsort(-train.lengths, kind="stable")[: run.learner.examples_at_once])


def try_a_save(run: Run) -> int:
    """Write a checkpoint and remove it again; the bytes that it took."""
    learner, folder = run.learner, run.folder / ".preflight"
    ranks = learner.ranks
    try:
        with ranks.patient("saving"):
            save_last(
                learner.model, learner.optimizer, learner.scaler, run.state, folder,
                writer=Writer(ranks),
            )  # fmt: skip
        return sum(path.stat().st_size for path in folder.iterdir()) if ranks.is_first else 0
    finally:
        if ranks.is_first:
            shutil.rmtree(folder, ignore_errors=True)


def check_memory(learner: Learner, batch: Batch, what: str) -> None:
    """Compute with the batch, and with the optimizer's memory in place; forget the result."""
    try:
        with explained(learner, lambda: batch, what):
            if what == "validation":
                with torch.no_grad():
                    learner.model.eval()
                    learner.loss_of(batch)
                return
            trained = [p for p in learner.model.parameters() if p.requires_grad]
            is_fresh = not learner.optimizer.state
            moments = [torch.empty_like(p) for p in trained for _ in range(2)] if is_fresh else []
            learner.rehearse(batch)
            del moments
    finally:
        learner.model.train()
        learner.optimizer.zero_grad(set_to_none=True)


# ---- an accelerator against the CPU --------------------------------------------------------


def sums_of(learner: Learner, batch: Batch) -> Sums:
    """Loss and gradient norm of one batch, without dropout."""
    learner.model.eval()
    scale = 1024.0 if learner.precision.needs_scaler else 1.0  # or small gradients become 0
    try:
        loss = learner.loss_of(batch) / batch.weights.sum().item()
        (loss * scale).backward()
        return Sums(loss.item(), clip(learner.model.parameters(), 0.0).item() / scale)
    finally:
        learner.optimizer.zero_grad(set_to_none=True)
        learner.model.train()


def sums_on_cpu(learner: Learner, batch: Batch) -> Sums:
    model = copy_on_cpu(learner.model)
    fp32 = Precision("fp32", "the reference")
    settings = replace(learner.settings, compile="never")
    return sums_of(Learner(model, settings, torch.device("cpu"), fp32, 0.0), batch)


def copy_on_cpu(model: GPT) -> GPT:
    """The same modules, adapter and all, with their numbers here. Nothing is copied over there."""
    there: dict[int, torch.Tensor] = {}
    for parameter in model.parameters():
        here = torch.nn.Parameter(parameter.detach().cpu(), parameter.requires_grad)
        there[id(parameter)] = here
    for buffer in model.buffers():
        there[id(buffer)] = buffer.cpu()
    return copy.deepcopy(model, there)


def refuse_other_sums(here: Sums, there: Sums, precision: Precision) -> None:
    tolerance = _TOLERANCE[precision.name]
    for what, ours, cpus in zip(("loss", "gradient norm"), here, there, strict=True):
        if not abs(ours - cpus) <= tolerance * max(abs(cpus), 1e-6):  # not: catches NaN too
            raise DeviceFault(
                f"this device computes a {what} of {ours:.6g} in {precision.name} where the CPU "
                f"has {cpus:.6g}: it may be faulty, or torch's support of it; try --device cpu, "
                "or --precision fp32"
            )
