"""One optimizer step, and one validation: the arithmetic of training, without the loop around it.

    batches ─> summed loss / the step's tokens ─> backward ─> clip ─> AdamW          learn
    validation set ─> summed loss ─────────────────────────> mean over its tokens    validate

A step's examples may be computed in several micro-batches, for want of memory. Each adds its part
to the gradient. As every part is a sum, divided by the tokens of the *whole* step, it is the same
gradient however the step is cut: 8 at once, 3 and then 5, or one by one. (Averaging the averages
would not be: the common bug of this place, and one that no loss curve shows.)

Nor does it matter who computes a part. Several ranks (parallel.py) have a slice of the step's
examples each, and each divides by the tokens of all.

A gradient that is no number must change no weight. On a CPU one looks, and goes on or not. A GPU
would stand idle while somebody looks: there AdamW's kernel is told the answer where it was found,
and leaves the weights alone by itself. What the step came to is read later (`Learner.update`).
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gpt.batching import Batch, nothing_to_learn
from gpt.compiling import Compiled
from gpt.dataset import Batches
from gpt.errors import UserError
from gpt.hardware import Precision, has_amx, peak_memory, to_device
from gpt.loss import summed_loss, supervised_rows
from gpt.model import GPT, Mask
from gpt.optimizer import clip, make_optimizer
from gpt.ordering import micro_batches
from gpt.packing import attend_within, cu_seqlens, document_mask, varlen_kernel
from gpt.parallel import ALONE, Ranks
from gpt.preamble import Beginnings, beginnings_of, worth_sharing
from gpt.settings import TrainSettings
from gpt.sharding import distribute, forget_gathered, keep_to_oneself, whole_model

_LARGE = 10**9  # parameters
_MULTIPLE = 32  # of places; at 16 a step takes 6% longer, at 64 it is no faster at 124M


class Diverged(UserError):
    """A gradient that is no number: one step more would make the weights none, either."""


class Learned(NamedTuple):
    loss_sum: float  # over the step's supervised tokens
    weight_sum: float  # their number, where none of them is a prompt's
    grad_norm: float  # before it was clipped


class Gradient(NamedTuple):
    """What is to be known of a step's gradient. It lies itself in the parameters, as `.grad`."""

    numbers: Tensor  # each micro-batch's part of the mean loss, and the gradient's length
    weight_sum: float  # of the whole step


class Learner:
    """A model and what changes its weights. The only place where they change."""

    def __init__(
        self,
        model: GPT,
        settings: TrainSettings,
        device: torch.device,
        precision: Precision,
        lr: float,
        warn: Callable[[str], object] = print,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model, self.settings, self.device, self.precision = model, settings, device, precision
        self.ranks = ranks
        self.worked = 0.0  # seconds of learning before the ranks meet: what one may be slow in
        self._clock = time.process_time if device.type == "cpu" else time.perf_counter
        set_dropout(model, settings.dropout)
        recompute_on_the_way_back(model, settings, device)
        self.compiled = None
        if settings.compile == "always":
            one_shape = settings.objective == "pretrain"
            self.compiled = Compiled(model.hidden, warn, one_shape)
        self.summed = SummedLoss(model, self.compiled or model.hidden)
        if ranks.n > 1:
            self.summed = distribute(self.summed, settings, device, precision)
        self.optimizer = make_optimizer(model, settings, lr)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision.needs_scaler)
        # The scaler tells AdamW on its own what to leave out, and several ranks must agree on it.
        self.looks_later = device.type == "cuda" and ranks.n == 1 and not precision.needs_scaler
        self.find_shared = how_to_share(settings, device)
        self.multiple = multiple_of_places(device, precision)
        may_use_it = device.type == "cuda" and precision.name == "bf16" and not settings.dropout
        self.varlen = varlen_kernel() if settings.packed and may_use_it else None
        self.model.train()

    def loss_of(self, batch: Batch) -> Tensor:
        """The summed loss of a batch that lies on the CPU, as the place and precision have it."""
        picked = supervised_rows(batch)  # here, and not on a GPU that would have to be waited for
        picked = picked.filled_up(self.multiple)
        once = self.find_shared(batch)
        once = None if once is None else self._moved(once.filled_up(self.multiple))
        mask = self._within_documents(batch)
        batch, picked = self._moved(batch), self._moved(picked)
        with self.precision.autocast(self.device):
            loss = self.summed(batch, mask, picked, once)
        if not torch.is_grad_enabled():
            forget_gathered(self.summed)
        return loss

    def rehearse(self, batch: Batch) -> None:
        """The way out and back, for whatever may fail in it; the compiler of the way back, too."""
        try:
            self.loss_of(batch).backward()
        except Exception as error:
            if self.ranks.n > 1 or self.compiled is None or not self.compiled.gives_up(error):
                raise
            self.optimizer.zero_grad(set_to_none=True)
            self.loss_of(batch).backward()

    def _within_documents(self, batch: Batch) -> Mask:
        """How the texts of packed rows attend to themselves alone."""
        if batch.documents is None:
            return None
        if self.varlen is None:
            return document_mask(to_device(batch.documents, self.device))
        longest = self.settings.max_length or self.model.config.n_ctx  # at most; always the same
        bounds = to_device(cu_seqlens(batch.documents, longest), self.device)
        return attend_within(self.varlen, bounds, longest)

    def _moved(self, tensors: NamedTuple) -> NamedTuple:
        return type(tensors)(*(None if t is None else to_device(t, self.device) for t in tensors))

    def learn(self, batches: Sequence[Batch], lr: float) -> Learned:
        """One optimizer step from all of the batches together."""
        return self.update(self.gradient(batches), lr)()

    def gradient(self, batches: Sequence[Batch]) -> Gradient:
        """The way out and back of all batches. The gradient is clipped; no weight has changed."""
        ranks = self.ranks
        weight_sum = sum(batch.weights.sum(dtype=torch.float64).item() for batch in batches)
        weight_sum = ranks.sum(weight_sum)
        if weight_sum == 0:
            return Gradient(torch.zeros(2), 0.0)
        self.optimizer.zero_grad(set_to_none=True)
        losses, began = [], self._clock()
        for i, batch in enumerate(batches):
            is_last = i + 1 == len(batches)
            # (Times n, for what sums the gradients over the ranks also divides them by n.)
            with keep_to_oneself(self.summed, not is_last):
                loss = self.loss_of(batch) * ranks.n / weight_sum
                if is_last:
                    self.worked += self._clock() - began
                    ranks.passed()
                self.scaler.scale(loss).backward()
            losses.append(loss.detach())
            ranks.passed()
        self.scaler.unscale_(self.optimizer)
        norm = clip(self.model.parameters(), self.settings.clip).to(losses[0].device)
        return Gradient(torch.stack([*losses, norm]), weight_sum)

    def update(self, gradient: Gradient, lr: float) -> Callable[[], Learned]:
        """Change the weights. What is returned tells what the step came to, and waits for it.

        Where the loss or the gradient is no number, no weight changes, and Diverged is raised: here
        or, if this learner `looks_later`, by what is returned. Ask it before the next update.
        """
        if gradient.weight_sum == 0:
            return lambda: Learned(0.0, 0.0, 0.0)  # nothing to learn from; decay alone is no lesson
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        fetch = on_their_way(gradient.numbers)
        if self.looks_later:
            # Where this is 1, the fused kernel does nothing. (GradScaler tells it in the same way.)
            self.optimizer.found_inf = gradient.numbers.isfinite().all().logical_not().float()
            self.optimizer.step()
            del self.optimizer.found_inf
            return lambda: self._learned(fetch(), gradient.weight_sum)
        learned = self._learned(fetch(), gradient.weight_sum)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return lambda: learned

    def _learned(self, numbers: list[float], weight_sum: float) -> Learned:
        """What the step came to; Diverged where that is nothing to learn from."""
        *losses, norm = numbers
        loss_sum = self.ranks.sum(sum(losses)) * weight_sum / self.ranks.n
        if not math.isfinite(loss_sum):
            raise Diverged(f"the loss is {loss_sum}")
        # (The scaler leaves such a step out, and halves its scale.)
        if not math.isfinite(norm) and not (
            self.scaler.is_enabled() and self.scaler.get_scale() >= 1
        ):
            raise Diverged(f"the gradient is {norm}")
        return Learned(loss_sum, weight_sum, norm)

    @torch.no_grad()
    def validate(self, data: Batches, between: Callable[[], object] = lambda: None) -> float:
        """The mean loss over every supervised token of the set, the same for any batch size.

        Without dropout, and so without a draw from the random generators: training goes on as if
        nobody had looked. between: called before each batch; what it raises ends the validation.
        """
        self.model.eval()
        loss_sum = weight_sum = 0.0  # Python's, so in double precision
        try:
            parts = validation_batches(data, self.examples_at_once)
            own = parts[self.ranks.rank :: self.ranks.n]
            for i in range(self.ranks.largest_share(len(parts))):
                between()
                # A rank that has no more computes nothing, for the others may wait in it.
                batch = data.batch(own[i]) if i < len(own) else nothing_to_learn()
                loss_sum += self.loss_of(batch).item()
                weight_sum += batch.weights.sum(dtype=torch.float64).item()
        finally:
            self.model.train()
        return self.ranks.sum(loss_sum) / self.ranks.sum(weight_sum)

    def batches_of(self, data: Batches, examples: np.ndarray) -> list[Batch]:
        """This rank's part of a step: as many micro-batches as at the rank that has most."""
        at_once, ranks = self.settings.micro_batch_size, self.ranks
        own = ranks.share(examples)
        parts = micro_batches(own, data.lengths, by_length=True, max_examples=at_once)
        most = -(-ranks.largest_share(len(examples)) // (at_once or len(examples)))
        missing = most - len(parts)
        return [data.batch(part) for part in parts] + [nothing_to_learn()] * missing

    def whole_model(self) -> GPT | None:
        """The model, to talk to it; None at ranks that are not to."""
        return whole_model(self.model, self.ranks)

    def peak_memory(self) -> int | None:
        return peak_memory(self.device)

    @property
    def examples_at_once(self) -> int:
        size = self.ranks.largest_share(self.settings.batch_size)
        return min(size, self.settings.micro_batch_size or size)


class SummedLoss(nn.Module):
    """The loss as a module, for what wraps modules to sum gradients where a way back ends."""

    def __init__(self, model: GPT, hidden: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model, self.hidden = model, hidden

    def forward(
        self, batch: Batch, mask: Tensor | None, picked: NamedTuple, once: Beginnings | None
    ) -> Tensor:
        return summed_loss(self.model, batch, mask, picked, self.hidden, once)


def on_their_way(numbers: Tensor) -> Callable[[], list[float]]:
    """Numbers that are not waited for. What is returned waits for them, and has them."""
    if not numbers.is_cuda:
        return numbers.tolist
    copy = numbers.to("cpu", non_blocking=True)  # into pinned memory, as torch has it
    arrived = torch.cuda.Event()
    arrived.record(torch.cuda.current_stream(numbers.device))

    def fetch() -> list[float]:
        arrived.synchronize()
        return copy.tolist()

    return fetch


def multiple_of_places(device: torch.device, precision: Precision) -> int:
    """What the number of places with a loss is filled up to, and that of all where they are shared.

    A CPU with AMX multiplies whole tiles, by a kernel that is made for one number of rows. Where a
    step's numbers are new, making all of its kernels took a sixth of its time: so there are to be
    few numbers, and no odd ones. (How that is on other CPUs with bf16 was not measured.)
    """
    return _MULTIPLE if device.type == "cpu" and precision.name == "bf16" and has_amx() else 1


def how_to_share(
    settings: TrainSettings, device: torch.device
) -> Callable[[Batch], Beginnings | None]:
    """Whether what the rows of a batch begin with is computed once, and what that is."""
    if settings.shared_preamble == "always":
        return beginnings_of
    # (On a GPU it was not measured yet whether fewer places pay for a second attention, and for
    # the CPU's look at all rows before.)
    has_dropout = settings.dropout > 0 or settings.lora_dropout > 0
    # (And torch's compiler fails at some batches so laid out.)
    may_pay = settings.objective != "pretrain" and settings.compile != "always"
    may_pay = may_pay and not has_dropout
    if settings.shared_preamble == "auto" and device.type == "cpu" and may_pay:
        return worth_sharing
    return lambda batch: None


def validation_batches(data: Batches, at_once: int) -> list[np.ndarray]:
    everything = np.arange(len(data.lengths))
    return micro_batches(everything, data.lengths, by_length=True, max_examples=at_once)


def recompute_on_the_way_back(model: GPT, settings: TrainSettings, device: torch.device) -> None:
    """Whole blocks, or of each only what the GELU makes, 4C wide: by itself where a model is so
    large that a GPU has to look for memory, and not for something to do.
    """
    model.recompute = settings.activation_checkpointing
    is_wanted = settings.recompute_gelu == "always"
    if settings.recompute_gelu == "auto" and not model.recompute:
        is_wanted = device.type == "cuda" and model.config.n_params() >= _LARGE
    for block in model.h:
        block.mlp.recompute = is_wanted


def set_dropout(model: GPT, probability: float) -> None:
    """For this run. The model's configuration keeps what it was trained with before."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = probability
        elif hasattr(module, "dropout"):  # attention hands its own to the fused kernel
            module.dropout = probability
