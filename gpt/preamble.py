"""What examples of a batch begin with alike is computed once, and not once for each of them.

    P P P a b c            P P P a b c       rows part where their texts do, and until then
    P P P a b d     ─>               d       they are one; what is behind the last loss of a
    P P P e f .                  e f         row is gone
     B x T places           N of them, as one row

Each prompt of instruction data opens with the same words ("Below is an instruction …"), 24 of the
56 tokens of the book's average example; some go on alike ("Rewrite the …"). Under a causal mask a
token sees only what stands before it. So where all of that is the same, so are the hidden states,
and one copy of them will do. And what stands behind a row's last place with a loss, padding as a
rule, is seen by nobody: only attention, which likes even rows, still passes over it.

Almost all of a GPT works on each token by itself and does not care which row it is in: embeddings,
norms, projections, MLPs. Only attention asks who may look at whom, so attention alone puts the rows
together again, from the one copy of each:

    what all rows begin with    looks at itself
    each row's rest             looks at that and at itself

The gradient is as exact. What several rows hand back to a place that they share is summed, as
autograd sums for anything that is used more than once, and goes down through its one copy: the
chain rule, with the common factor written only once.

It needs rows that agree also in what is random, so there is no dropout.

    python -m gpt.preamble      # a batch both ways: the loss, the gradients, the places computed
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.batching import Batch, collate_weighted
from gpt.cli import run
from gpt.config import GPTConfig
from gpt.model import GPT, causal_mask

_WORTH_IT = 0.1  # the share of a batch's places that must be saved, as attention costs more
_SHORT = 128  # tokens in sight: of more, scores that are kept for the way back would take memory


class Beginnings(NamedTuple):
    """A batch (B, T) with every beginning of a row once: N of them. All rows have the first n."""

    ids: Tensor  # (N), the last token of each beginning
    positions: Tensor  # (N), where in its row that stands
    at: Tensor  # (B, T): which of the N is at each place; 0 where nobody looks
    firsts: Tensor  # (N - n): where each of the others stands first, among B x (T - n) places

    def filled_up(self, multiple: int) -> "Beginnings":
        """With as many more, at which nobody looks, as make N a multiple."""
        n_more = -len(self.ids) % multiple
        ids, positions, firsts = (
            F.pad(t, (0, n_more)) for t in (self.ids, self.positions, self.firsts)
        )
        return Beginnings(ids, positions, self.at, firsts)


def beginnings_of(batch: Batch) -> Beginnings | None:
    """None where rows hold several texts, or nothing to learn."""
    if batch.documents is not None or not batch.weights.any():
        return None
    texts = [row[:n] for row, n in zip(batch.inputs.tolist(), _n_seen(batch), strict=True)]
    return each_once(texts, n_alike([text for text in texts if text]), batch.inputs.size(1))


def each_once(texts: Sequence[Sequence[int]], n: int, T: int) -> Beginnings:
    """Of texts that begin with the same n tokens, and of which none has more than T."""
    numbers: dict[tuple[int, int], int] = {}  # of a beginning: the one it goes on from, its token
    positions, firsts, at = [], [], []
    for row, text in enumerate(texts):
        number, of_row = -1, []
        for place, token in enumerate(text):
            beginning = number, token
            if beginning not in numbers:
                numbers[beginning] = len(numbers)
                positions.append(place)
                if place >= n:
                    firsts.append(row * (T - n) + place - n)
            number = numbers[beginning]
            of_row.append(number)
        at.append(of_row + [0] * (T - len(text)))
    ids, firsts = torch.tensor([token for _, token in numbers]), torch.tensor(firsts).long()
    return Beginnings(ids, torch.tensor(positions), torch.tensor(at), firsts)


def _n_seen(batch: Batch) -> list[int]:
    """Of each row, how many places there are up to the last with a loss."""
    ends = torch.arange(1, batch.weights.size(1) + 1)
    return (ends * (batch.weights != 0)).amax(1).tolist()


def n_alike(rows: Sequence[Sequence[int]]) -> int:
    """So many tokens all rows begin with; each keeps one at least of its own."""
    least, greatest = min(rows), max(rows)  # what these two share, all do
    pairs = enumerate(zip(least, greatest, strict=False))
    n = next((i for i, (a, b) in pairs if a != b), len(least))
    return min(n, min(map(len, rows)) - 1)


def worth_sharing(batch: Batch) -> Beginnings | None:
    """`beginnings_of`, or None where that saves too little."""
    found = beginnings_of(batch)
    is_enough = found is not None and len(found.ids) <= (1 - _WORTH_IT) * batch.inputs.numel()
    return found if is_enough else None


def hidden_of_shared(hidden_of: Callable[..., Tensor], once: Beginnings, places: Tensor) -> Tensor:
    """`model.hidden(ids, places=places)` for the batch that `once` stands for: (1, places, C)."""
    T, n = once.at.size(1), len(once.ids) - len(once.firsts)
    mask = causal_mask(T - n, n, once.ids.device)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # each (1, nh, N, hs)
        first = _attended(*(t[:, :, :n] for t in (q, k, v)))
        q, k, v = _taken(q, once.at[:, n:]), _taken(k, once.at), _taken(v, once.at)
        rests = _attended(q, k, v, mask)  # (B, nh, T - n, hs)
        rests = rests.transpose(0, 1).flatten(1, 2)[None]  # (1, nh, B (T - n), hs)
        return torch.cat([first, _taken(rests, once.firsts[None])], 2)  # (1, nh, N, hs)

    return hidden_of(once.ids[None], once.positions, attend, None, once.at.flatten()[places])


def _attended(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q @ k.T / sqrt(hs)) @ v. mask: (T, S), without one causal.

    On a CPU in bf16 the fused kernel's way back takes five times as long as its way out, as if each
    text were long. Of short ones, the same in three lines and in fp32 is twice as fast as it is.
    """
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or k.size(2) > _SHORT:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
    mask = causal_mask(k.size(2), 0) if mask is None else mask
    added = torch.zeros(mask.shape).masked_fill_(~mask, -math.inf)
    with torch.autocast("cpu", enabled=False):
        B, (q, k, v) = len(q), (t.flatten(0, 1).float() for t in (q, k, v))  # (B * nh, T, hs)
        scores = torch.baddbmm(added, q, k.transpose(1, 2), alpha=1 / math.sqrt(q.size(2)))
        return (scores.softmax(2) @ v).unflatten(0, (B, -1)).bfloat16()


def _taken(x: Tensor, numbers: Tensor) -> Tensor:
    """(1, nh, N, hs), numbers (B, T) -> (B, nh, T, hs). As a table is looked up, for the way back
    of that is fast: it sums what places of one number hand back, in fp32 whatever x is.
    """
    table = x[0].transpose(0, 1).flatten(1).float()  # (N, C)
    taken = F.embedding(numbers, table).to(x.dtype)  # (B, T, C)
    return taken.unflatten(2, (-1, x.size(3))).transpose(1, 2)


def _demo() -> None:
    from gpt.loss import summed_loss  # stands after this chapter, and calls it

    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=50, n_ctx=32, n_layer=2, n_head=2, n_embd=16, dropout=0.0))
    preamble = [7, 3, 9, 4, 1, 8]
    examples = [
        (preamble + own, [False] * (len(preamble) + 1) + [True] * (len(own) - 1))
        for own in ([11, 5, 6], [12, 30, 31, 32, 33], [13, 2], [11, 5, 44])
    ]
    batch = collate_weighted(examples, pad_id=0, prompt_loss_weight=0.0)
    found = beginnings_of(batch)
    print("four examples and their padding; below each place, the number of what leads up to it:")
    for row, n_seen in enumerate(_n_seen(batch)):
        print("  " + "".join(f"{i:>4}" for i in batch.inputs[row].tolist()))
        print("  " + "".join(f"{f'#{i}':>4}" for i in found.at[row, :n_seen].tolist()))
    n = len(found.ids) - len(found.firsts)
    print(f"all begin with {n} tokens; worth it here: {worth_sharing(batch) is not None}\n")

    losses, gradients = [], []
    for once in (None, found):
        model.zero_grad()
        loss = summed_loss(model, batch, once=once)
        loss.backward()
        losses.append(loss.item())
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    gap = max((a - b).abs().max().item() for a, b in zip(*gradients, strict=True))
    print(f"{'':<24}{'places':>8}{'loss':>12}")
    print(f"{'each row by itself':<24}{batch.inputs.numel():>8}{losses[0]:>12.6f}")
    print(f"{'each beginning once':<24}{len(found.ids):>8}{losses[1]:>12.6f}")
    print(f"\ngradients of all {len(gradients[0])} parameters agree to {1e-6:.0e}: {gap < 1e-6}")


if __name__ == "__main__":
    run(_demo)
