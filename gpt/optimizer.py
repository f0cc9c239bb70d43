"""How gradients become better weights: AdamW, a learning rate that rises and falls, clipping.

    loss.backward() ─> clip ─> AdamW at the step's rate ─> weights

The rate of a step is a function of its number and nothing else, so a resumed run needs no
scheduler's state: it computes the rate of step 70 as the run did that was never stopped.

    python -m gpt.optimizer     # the three schedules, drawn; what decays; a gradient clipped

Sources: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), and "SGDR" (2017)
for the cosine; Pascanu et al., "On the Difficulty of Training Recurrent Neural Networks" (2013).
"""

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn as nn
from torch import Tensor

from gpt.cli import run
from gpt.config import GPTConfig
from gpt.model import GPT
from gpt.settings import TrainSettings


def make_optimizer(model: nn.Module, settings: TrainSettings, lr: float) -> torch.optim.AdamW:
    """AdamW in one fused kernel; matrices decay, biases and norms do not, unless `decay` says so.

    Decay pulls a weight towards 0. In a matrix that keeps the function simple. A norm's gain begins
    at 1 and a bias has one number for a whole channel: pulling those only shifts the stream.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    everything = settings.decay == "everything"
    groups = [
        {"params": [p for p in trained if everything or p.dim() >= 2],
         "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if not everything and p.dim() < 2], "weight_decay": 0.0},
    ]  # fmt: skip
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        fused=trained[0].device.type in ("cpu", "cuda", "mps"),
    )


def rate_at(step: int, n_steps: int, lr: float, settings: TrainSettings) -> float:
    """The learning rate of a step, of which the first is 0."""
    n_warmup = round(settings.warmup * n_steps)
    if step < n_warmup:
        return lr * (step + 1) / n_warmup  # the first step learns something, too
    if settings.schedule == "constant":
        return lr
    done = (step - n_warmup) / max(1, n_steps - n_warmup)  # 0 at the top, nearly 1 at the last step
    height = 1 - done if settings.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return lr * (settings.min_lr + (1 - settings.min_lr) * height)


def clip(parameters: Iterable[Tensor], longest: float) -> Tensor:
    """Shorten the gradient of all parameters together to `longest`; 0 leaves it.

    Returns the length that it had, which is what a log should show: a gradient that is always
    clipped and one that never is look the same afterwards.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = length_of(gradients)
    if hasattr(norm, "full_tensor"):  # each rank has a part of every gradient: see sharding.py
        norm = norm.full_tensor()
    # (To ask a GPU how long it is would mean to wait for it, longer than to multiply by 1.)
    if longest > 0 and (norm.is_cuda or norm > longest):
        factor = (longest / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(gradients, factor)
    return norm


def length_of(gradients: Sequence[Tensor]) -> Tensor:
    """Of all of them together, as one vector.

    On a CPU of each row first, and then of those lengths. Squares that are added up in fp32 one
    behind the other come to too little once the sum is large beside them: a thousandth for the 38
    million of a gradient of `wte`, drawn at random. (The rows are also done in half the time.)
    """
    if gradients and gradients[0].device.type == "cpu":
        gradients = [torch.linalg.vector_norm(g, dim=-1) if g.dim() > 1 else g for g in gradients]
    return torch.nn.utils.get_total_norm(gradients)


def _demo() -> None:
    n_steps, width = 48, 24
    print(f"the rate over {n_steps} steps, 10% of them warming up, down to a tenth:")
    for schedule in ("cosine", "linear", "constant"):
        settings = TrainSettings(schedule=schedule, warmup=0.1)
        print(f"  {schedule}")
        for step in range(0, n_steps, 6):
            rate = rate_at(step, n_steps, 1.0, settings)
            print(f"    step {step:>2}  {rate:.2f} {'█' * round(width * rate)}")

    model = GPT(GPTConfig(vocab_size=50, n_ctx=8, n_layer=1, n_head=1, n_embd=8))
    for decay in ("matrices", "everything"):
        optimizer = make_optimizer(model, TrainSettings(decay=decay), lr=1e-3)
        counts = [
            f"{sum(p.numel() for p in group['params'])} parameters at {group['weight_decay']}"
            for group in optimizer.param_groups
        ]
        print(f"\n--decay {decay}: {', '.join(counts)}", end="")

    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    norm = clip([parameter], longest=1.0)
    print(f"\n\na gradient (3, 4) is {norm:.1f} long; clipped to 1 it is", end=" ")
    print("({:.1f}, {:.1f})".format(*parameter.grad.tolist()))


if __name__ == "__main__":
    run(_demo)
