"""What the model is told off for: the cross-entropy of the tokens that it should have written.

    hidden (B, T, C) ─> rows that are supervised (N, C) ─> logits, a chunk at a time ─> one number

At each supervised place the model gives every token of the vocabulary a score, and the loss is

    -log softmax(scores)[target]        how surprised it was by what really came next

`plain_loss` says just that, and is there to be read. It computes scores for all B x T places, of
which instruction data supervises a quarter: 8 short examples of GPT-2 would fill 180 MB with them,
most of it for nothing. `summed_loss` is the same number from the supervised places alone, a chunk
of them at a time, so that no [B, T, V] tensor ever exists; a test holds one to the other. What
stands before the head is spared, too: the last block's MLP at places that nobody will look at.

Both return a **sum** over tokens. The mean is taken once, over all tokens of an optimizer step,
however it was cut into micro-batches and processes: a mean of means would let a token of a short
answer count for more than one of a long answer.

    sum(weight x cross-entropy) / sum(weight)       the whole step's, above and below the line

Where nothing is supervised the sum is 0, and still has a graph: `backward()` gives zeros, not NaN.

    python -m gpt.loss          # both forms, a mean of means gone wrong, and what memory they take

Sources: Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models" (2024), for how much
memory logits take; the gradient of a softmax is in every textbook.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.batching import IGNORE_INDEX, Batch, collate_weighted
from gpt.cli import run
from gpt.config import GPTConfig
from gpt.model import GPT
from gpt.preamble import Beginnings, hidden_of_shared
from gpt.product import product

_HEAD_PART = 1024  # entries of the vocabulary
_TILE = 64  # of them, and of what a GPU multiplies at once
_DEVICES_WITH_TILES = ("cuda",)
CHUNK_NUMBERS = 2**25  # logits at once: 134 MB in fp32; smaller chunks gain no memory that counts


def plain_loss(logits: Tensor, batch: Batch) -> Tensor:
    """The sum over tokens of weight x cross-entropy, from logits (B, T, V)."""
    of_each = F.cross_entropy(
        logits.flatten(0, 1).float(),  # (B * T, V)
        batch.targets.flatten(),
        ignore_index=IGNORE_INDEX,
        reduction="none",
    )  # (B * T); 0 where the target is -100
    return (of_each * batch.weights.flatten()).sum()


class Supervised(NamedTuple):
    """The places of a batch that are in the loss. Each tensor is (N)."""

    rows: Tensor  # int64: which of the B * T places
    targets: Tensor  # int64
    weights: Tensor  # float32

    def filled_up(self, multiple: int) -> "Supervised":
        """With as many places more, of no weight, as make N a multiple: the loss is the same."""
        n_more = -len(self.rows) % multiple
        return Supervised(*(F.pad(t, (0, n_more)) for t in self))


def supervised_rows(batch: Batch) -> Supervised:
    weights = batch.weights.flatten()
    rows = weights.nonzero().squeeze(1)
    return Supervised(rows, batch.targets.flatten()[rows], weights[rows])


def summed_loss(
    model: GPT,
    batch: Batch,
    mask: Tensor | None = None,
    picked: Supervised | None = None,
    hidden_of: Callable[..., Tensor] | None = None,
    once: Beginnings | None = None,
) -> Tensor:
    """The same from a model, without logits for what is not supervised.

    picked: the batch's `supervised_rows`, where they are known; hidden_of: `model.hidden` compiled;
    once: the batch with each beginning of its rows once, computed in its place (preamble.py). Both
    may be filled up.
    """
    rows, targets, weights = picked or supervised_rows(batch)
    hidden_of = hidden_of or model.hidden
    if once is not None:
        hidden = hidden_of_shared(hidden_of, once, rows)
    else:
        hidden = hidden_of(batch.inputs, batch.positions, mask, None, rows)
    return chunked_loss(hidden[0], model.wte.weight, targets, weights)  # (1, N, C)


def chunked_loss(
    hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor, chunk: int | None = None
) -> Tensor:
    """sum(weights x cross-entropy(hidden @ head.T, targets)), `chunk` rows at a time.

    hidden (N, C), head (V, C), targets and weights (N). Autograd would keep every chunk's logits
    for the way back. But the gradient is known on the way out: for logits z and target y it is
    softmax(z) - onehot(y), times the weight. So it is carried back to `hidden` and `head` at once,
    and the logits are forgotten: no more arithmetic than the plain form, and one chunk of memory.
    """
    if chunk is None:
        most = CHUNK_NUMBERS // head.size(0)
        chunk = max(1, most - most % _TILE if most > _TILE else most)  # no odd rest, either
    if not torch.is_grad_enabled():  # validation: no way back, nothing to carry
        return _in_chunks(hidden, head, targets, weights, chunk, None)
    return _ChunkedLoss.apply(hidden, head, targets, weights, chunk)


class _Gradients:
    """Of hidden and of the head, as far as they are wanted, grown chunk by chunk."""

    def __init__(self, hidden: Tensor, head: Tensor, wanted: Sequence[bool]) -> None:
        self.hidden = torch.empty_like(hidden) if wanted[0] else None
        self.head: Tensor | None = None
        self.n_tokens, self.wants_head = len(head), wanted[1]

    def add(self, part: slice, d_logits: Tensor, hidden: Tensor, head: Tensor) -> None:
        if self.hidden is not None:
            self.hidden[part] = d_logits.to(head.dtype) @ head  # (chunk, C)
        if not self.wants_head:
            return
        d_head = (d_logits.T @ hidden[part]).float()  # (V, C); fp32, where small terms are not lost
        if len(d_head) > self.n_tokens:  # a slice is a view, to which autograd would add in a copy
            d_head = d_head[: self.n_tokens]
        self.head = d_head if self.head is None else self.head.add_(d_head)


def _in_chunks(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    weights: Tensor,
    chunk: int,
    gradients: _Gradients | None,
) -> Tensor:
    """The loss; and its gradients, where there is something to hold them."""
    total, V = torch.zeros((), device=hidden.device), len(head)
    head = in_tiles(head)
    for start in range(0, len(hidden), chunk):
        part = slice(start, start + chunk)
        logits = logits_of(hidden[part], head).float()  # (chunk, V)
        logits[:, V:] = -math.inf  # of what is no token: as likely as nothing
        log_sum = logits.logsumexp(1)  # (chunk)
        of_target = logits.gather(1, targets[part, None]).squeeze(1)
        total += ((log_sum - of_target) * weights[part]).sum()
        if gradients is None:
            continue
        d_logits = logits.sub_(log_sum[:, None]).exp_()  # softmax, in the same memory
        d_logits[torch.arange(len(d_logits), device=hidden.device), targets[part]] -= 1
        d_logits = d_logits.mul_(weights[part, None]).to(hidden.dtype)
        gradients.add(part, d_logits, hidden, head)
    return total


def in_tiles(head: Tensor) -> Tensor:
    """On a GPU, the head as its kernels like it: in autocast's type, converted once for all uses,
    and with rows of zeros up to a multiple of 64. 50,257 is odd, and 50,304 is several times
    as fast. Only this copy has these rows: none of them is in the model.
    """
    device = head.device.type
    if device not in _DEVICES_WITH_TILES:
        return head
    if torch.is_autocast_enabled(device):
        head = head.to(torch.get_autocast_dtype(device))
    return F.pad(head, (0, 0, 0, -len(head) % _TILE))


def logits_of(hidden: Tensor, head: Tensor) -> Tensor:
    """(N, C) and (V, C) -> (N, V), where no gradient is wanted. On a CPU in parts: one product so
    wide is slow there, and 104 rows by 50,257 are 1.6 times as fast.
    """
    N, V = len(hidden), len(head)
    if not _is_slow_at_once(hidden, head):
        return product(hidden, head.T)
    logits = hidden.new_empty(N, V)
    for start in range(0, V, _HEAD_PART):
        part = slice(start, start + _HEAD_PART)
        torch.mm(hidden, head[part].T, out=logits[:, part])
    return logits


def _is_slow_at_once(hidden: Tensor, head: Tensor) -> bool:
    if head.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    return head.dtype == hidden.dtype == torch.float32 and len(hidden) > 1


def most_likely(hidden: Tensor, head: Tensor, n_tokens: int) -> Tensor:
    """(N): where the highest of each row's logits stands; -1 where that is no number.

    Of logits in parts only the highest of each part is kept: what is not written to memory needs
    not be read again. Of the head, only the first n_tokens rows are tokens.
    """
    size = _HEAD_PART if _is_slow_at_once(hidden, head) else len(head)
    highest, places = [], []
    for start in range(0, n_tokens, size):
        logits = product(hidden, head[start : start + size].T)  # (N, part)
        values, indices = _highest(logits[:, : n_tokens - start])
        highest.append(values)
        places.append(indices + start)
    in_parts = torch.stack(highest)  # (parts, N)
    part = in_parts.argmax(0, keepdim=True)
    place = torch.stack(places).gather(0, part)
    return torch.where(in_parts.gather(0, part).isfinite(), place, -1)[0]


def _highest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """`logits.max(1)`. On a CPU the highest alone is found many numbers at a time, and where it
    stands is asked of one part.
    """
    V = logits.size(1)
    if V < 2 * _HEAD_PART or logits.device.type != "cpu":
        return logits.max(1)
    n_parts = V // _HEAD_PART
    parts = logits[:, : n_parts * _HEAD_PART].unflatten(1, (n_parts, _HEAD_PART))
    rest = logits[:, -_HEAD_PART:]  # and some of the last part
    of_parts = torch.cat([parts.amax(2), rest.amax(1, keepdim=True)], 1)  # (N, n_parts + 1)
    start = (of_parts.argmax(1, keepdim=True) * _HEAD_PART).clamp(max=V - _HEAD_PART)
    values, indices = logits.gather(1, start + torch.arange(_HEAD_PART)).max(1)
    return values, start[:, 0] + indices


def surprise(hidden: Tensor, head: Tensor, targets: Tensor) -> list[float]:
    """-log p of each target: N numbers, with logits for a chunk of the N at a time."""
    at_once = max(1, CHUNK_NUMBERS // len(head))
    numbers: list[float] = []
    for some, ids in zip(hidden.split(at_once), targets.split(at_once), strict=True):
        logits = logits_of(some, head).float()  # (chunk, V)
        numbers += (logits.logsumexp(1) - logits.gather(1, ids[:, None])[:, 0]).tolist()
    return numbers


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, head, targets, weights, chunk):
        ctx.gradients = gradients = _Gradients(hidden, head, ctx.needs_input_grad)
        ctx.head = head
        return _in_chunks(hidden, head, targets, weights, chunk, gradients)

    @staticmethod
    def backward(ctx, d_total):
        gradients, head = ctx.gradients, ctx.head
        if gradients is None:
            raise RuntimeError("chunked_loss: its gradients were used up by the first way back")
        d_hidden, d_head = gradients.hidden, gradients.head
        if gradients.wants_head and d_head is None:  # no row at all
            d_head = torch.zeros_like(head, dtype=torch.float32)
        # In place, for the head's is the largest tensor of all. A second way back would scale
        # twice: there is none.
        ctx.gradients = None
        if d_hidden is not None:
            d_hidden = d_hidden.mul_(d_total.to(d_hidden.dtype))
        if d_head is not None:
            d_head = d_head.mul_(d_total).to(head.dtype)
        return d_hidden, d_head, None, None, None


def _demo() -> None:
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=50, n_ctx=16, n_layer=2, n_head=2, n_embd=16, dropout=0.0))
    examples = [
        ([7, 3, 9, 4, 1], [False, False, True, True, True]),
        ([4, 2], [False, True]),
        ([8, 6, 5], [False, True, True]),
    ]
    batch = collate_weighted(examples, pad_id=0, prompt_loss_weight=0.0)
    n = int(batch.weights.sum())
    print(f"three examples, {batch.inputs.numel()} places, {n} of them supervised")
    plain, used = plain_loss(model(batch.inputs), batch), summed_loss(model, batch)
    print(f"  sum of cross-entropies, all logits at once:    {plain.item():.6f}")
    print(f"  from the supervised rows, in chunks:           {used.item():.6f}")
    print(f"  the mean over the {n} tokens:                    {used.item() / n:.6f}")

    alone = [collate_weighted([example], 0, 0.0) for example in examples]
    means = [summed_loss(model, b).item() / b.weights.sum().item() for b in alone]
    print(
        f"  the mean of the three examples' means:         {sum(means) / 3:.6f}  (another number)"
    )

    gradients = []
    for loss in (plain, used):
        model.zero_grad()
        (loss / n).backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    gap = max((a - b).abs().max().item() for a, b in zip(*gradients, strict=True))
    print(f"\ngradients of all {len(gradients[0])} parameters agree to {1e-6:.0e}: {gap < 1e-6}")

    nothing = batch._replace(targets=torch.full_like(batch.targets, IGNORE_INDEX))
    nothing = nothing._replace(weights=torch.zeros_like(batch.weights))
    loss = summed_loss(model, nothing)
    model.zero_grad()
    loss.backward()
    largest = max(p.grad.abs().max().item() for p in model.parameters())
    print(f"nothing supervised: loss {loss.item():.1f}, largest gradient {largest:.1f}")

    print("\nlogits of one step of GPT-2 (8 examples of 91 tokens, 13 supervised in each):")
    for what, rows in (("all places", 8 * 91), ("supervised rows", 8 * 13)):
        print(f"  {what:<16} {rows:>4} x 50,257 = {rows * 50257 * 4 / 1e6:>4.0f} MB")


if __name__ == "__main__":
    run(_demo)
