"""What every example of a batch begins with is computed once, and not once for each of them.

    [preamble][rest 0]
    [preamble][rest 1]   ─>   [preamble][rest 0][rest 1][rest 2]   ─>   hidden states of all of it
    [preamble][rest 2]
         B x T places              P + B x (T - P) places, as one row

Each prompt of instruction data opens with the same words ("Below is an instruction …"), 24 of the
56 tokens of the book's average example. Under a causal mask a token sees only what stands before
it. So the first P tokens have the same hidden states in all rows, and one copy of them will do.

Almost all of a GPT works on each token by itself and does not care which row it is in: embeddings,
norms, projections, MLPs. Only attention asks who may look at whom, so attention alone is told:

    the preamble    looks at itself
    each rest       looks at the preamble and at itself

The gradient is as exact. What all rows hand back to the preamble's keys and values is summed, as
autograd sums for anything that is used more than once, and goes down through its one copy: the
chain rule, with the common factor written only once.

It needs rows that agree also in what is random, so there is no dropout; and nobody may ask for a
loss at a shared place, where the loss of B rows would be computed once.

    python -m gpt.preamble      # a batch both ways: the loss, the gradients, the places computed
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.batching import Batch, collate_weighted
from gpt.cli import run
from gpt.config import GPTConfig
from gpt.model import GPT, causal_mask

_WORTH_IT = 0.1  # the share of a batch's places that must be saved, as two attentions cost more


def hidden_of_shared(
    hidden_of: Callable[..., Tensor], ids: Tensor, n: int, places: Tensor
) -> Tensor:
    """`model.hidden(ids, places=places)` for rows (B, T) that agree in their first n ids.

    None of the N places is among the shared. Returns (1, N, C).
    """
    B, T = ids.shape
    one_row = torch.cat([ids[0, :n], ids[:, n:].flatten()])[None]
    positions = torch.arange(T, device=ids.device)
    positions = torch.cat([positions[:n], positions[n:].repeat(B)])  # (n + B (T - n))
    mask = causal_mask(T - n, n, ids.device)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # each (1, nh, n + B (T - n), hs)
        first = F.scaled_dot_product_attention(*(t[:, :, :n] for t in (q, k, v)), is_causal=True)
        q, k_own, v_own = (
            t[0, :, n:].unflatten(1, (B, T - n)).transpose(0, 1)  # (B, nh, T - n, hs)
            for t in (q, k, v)
        )
        k, v = (
            torch.cat([t[:, :, :n].expand(B, -1, -1, -1), own], 2)  # (B, nh, T, hs)
            for t, own in ((k, k_own), (v, v_own))
        )
        rests = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (B, nh, T - n, hs)
        return torch.cat([first, rests.transpose(0, 1).flatten(1, 2)[None]], 2)

    # In the one row, a place of row b has lost the preambles of rows 1 to b.
    return hidden_of(one_row, positions, attend, None, places - places // T * n)


def n_shared(batch: Batch) -> int:
    """How many tokens the rows begin with alike, and nobody asks for a loss at."""
    if batch.documents is not None:
        return 0  # packed: several texts to a row, each with a beginning of its own
    alike = (batch.inputs == batch.inputs[:1]).all(0)  # (T)
    silent = (batch.weights == 0).all(0)
    both = (alike & silent).int().cumprod(0).sum().item()
    return min(both, batch.inputs.size(1) - 1)  # something has to be left that is not shared


def worth_sharing(batch: Batch) -> int:
    """`n_shared`, or 0 where that saves too little."""
    n_rows, length = batch.inputs.shape
    n = n_shared(batch)
    return n if (n_rows - 1) * n >= _WORTH_IT * n_rows * length else 0


def _demo() -> None:
    from gpt.loss import summed_loss  # stands after this chapter, and calls it

    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=50, n_ctx=32, n_layer=2, n_head=2, n_embd=16, dropout=0.0))
    preamble = [7, 3, 9, 4, 1, 8]
    examples = [
        (preamble + own, [False] * (len(preamble) + 1) + [True] * (len(own) - 1))
        for own in ([11, 5, 6], [12, 30, 31, 32, 33], [13, 2], [11, 44])
    ]
    batch = collate_weighted(examples, pad_id=0, prompt_loss_weight=0.0)
    n = n_shared(batch)
    n_rows, length = batch.inputs.shape
    print("four examples with one beginning:")
    for row in batch.inputs.tolist():
        print(
            "  " + "".join(f"{i:>3}" for i in row[:n]) + "  |" + "".join(f"{i:>3}" for i in row[n:])
        )
    print(f"shared: {n} tokens; worth it here: {worth_sharing(batch) > 0}\n")

    losses, gradients = [], []
    for how_many in (0, n):
        model.zero_grad()
        loss = summed_loss(model, batch, n_shared=how_many)
        loss.backward()
        losses.append(loss.item())
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    gap = max((a - b).abs().max().item() for a, b in zip(*gradients, strict=True))
    print(f"{'':<24}{'places':>8}{'loss':>12}")
    print(f"{'each row by itself':<24}{n_rows * length:>8}{losses[0]:>12.6f}")
    print(f"{'the beginning once':<24}{n + n_rows * (length - n):>8}{losses[1]:>12.6f}")
    print(f"\ngradients of all {len(gradients[0])} parameters agree to {1e-6:.0e}: {gap < 1e-6}")


if __name__ == "__main__":
    run(_demo)
