"""From the model's scores to a row's next token, by a draw that no other row can sway.

    logits ─> repetition penalty ─> temperature ─> top-k ─> top-p ─> min-p ─> draw ─> next token
              what was said         flatter or     the unlikely are           with the
              loses                 sharper        left out                   row's own noise

A row's noise comes from a generator of its own, seeded by (seed, the row's number): the same alone,
in any batch, on any machine. That alone is not worth much, as the last digits of a logit change
with the size of a batch. Looked up in the running sum of 50,257 sorted probabilities, as it is
mostly done, one uniform number would then meet another token in a draw of a hundred. So the draw
is Gumbel's: each token's log-probability gets noise of its own, and the highest wins. Token i wins
exactly as often as its probability says, and the second is rarely so close that a digit decides.

Noise for 50,257 tokens a row would cost as much as a small model. Two stages draw from the same
distribution with 453 numbers: one block of 256 neighbours in the vocabulary, by what they weigh
together, and one token of that block.

    python -m gpt.sampling      # six tokens, what each control leaves of them, and 10,000 draws

Sources: Keskar et al., "CTRL" (2019), the penalty; Fan et al., "Hierarchical Neural Story
Generation" (2018), top-k; Holtzman et al., "The Curious Case of Neural Text Degeneration" (2020),
top-p; Nguyen et al., "Turning Up the Heat" (2024), min-p; Maddison et al., "A* Sampling" (2014),
the Gumbel-max trick.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.cli import run
from gpt.errors import UserError
from gpt.hardware import to_device

BLOCK = 256  # tokens that are drawn as one in the first stage: about the square root of GPT-2's V
_FIRST_LOOK = 64  # of the most likely tokens: they mostly hold all that top-p wants, without a sort


class GenerateError(UserError):
    """A setting, a prompt or a model that nothing can be written with."""


class SettingError(GenerateError):
    """A value that a setting cannot have."""

    exit_code = 2  # bad usage


def check(
    name: str, value: object, kind: type, fits: Callable[[object], bool], wanted: str
) -> None:
    if isinstance(value, bool) or not isinstance(value, kind) or not fits(value):
        raise SettingError(f"{name} must be {wanted}, not {value!r}")


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen among all. As it stands: the most likely one."""

    temperature: float = 0.0  # what logits are divided by; 1: the model's own mind; 0: no draw
    top_k: int | None = None  # tokens: the most likely ones, this many
    top_p: float | None = None  # probability: the most likely ones that together have this much
    min_p: float | None = None  # share: all that have this much of the most likely one's
    repetition_penalty: float = 1.0  # above 1, what prompt and answer hold is less likely again

    def __post_init__(self) -> None:
        penalty = self.repetition_penalty
        # Beyond these, scores become infinite, or all that was said becomes impossible.
        in_range = "from 0.01 to 100 (1 changes nothing)"
        check("repetition_penalty", penalty, Real, lambda x: 0.01 <= x <= 100, in_range)
        is_from_0 = "a number from 0 (always the most likely token) up"
        check("temperature", self.temperature, Real, lambda x: 0 <= x < math.inf, is_from_0)
        if self.top_k is not None:
            check("top_k", self.top_k, Integral, lambda k: k >= 1, "a whole number from 1 up")
        if self.top_p is not None:
            check("top_p", self.top_p, Real, lambda p: 0 < p <= 1, "above 0 and at most 1")
        if self.min_p is not None:
            check("min_p", self.min_p, Real, lambda p: 0 <= p <= 1, "from 0 to 1")

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0

    @property
    def is_plain(self) -> bool:
        """Whether the likeliest token is taken as the model has it."""
        return self.is_greedy and self.repetition_penalty == 1


def penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """(B, V) with every seen token (True) less likely: pushed down, on either side of zero."""
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def filtered(logits: Tensor, sampling: Sampling) -> Tensor:
    """(B, V) log-probabilities up to a constant a row: the highest is 0, what is out is -inf.

    What is as likely as the last one that stays, stays: no order of the vocabulary decides.
    """
    # The highest to 0 first: however small the temperature, nothing overflows.
    logits = (logits - logits.amax(-1, keepdim=True)) / max(sampling.temperature, 1e-30)
    V = logits.size(-1)
    if sampling.top_k is not None and sampling.top_k < V:
        least = logits.topk(sampling.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -math.inf)
    if sampling.top_p is not None and sampling.top_p < 1:
        logits = logits.masked_fill(logits < _nucleus(logits, sampling.top_p), -math.inf)
    if sampling.min_p:
        logits = logits.masked_fill(logits < math.log(sampling.min_p), -math.inf)
    return logits


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    """(B, 1): the lowest logit of the fewest tokens whose probabilities reach top_p together."""
    total = logits.logsumexp(-1, keepdim=True)
    n, V = _FIRST_LOOK, logits.size(-1)
    while True:
        top = logits.topk(min(n, V)).values  # the highest first
        reached = (top - total).exp().cumsum(-1)  # (B, n)
        if n >= V or bool((reached[:, -1] >= top_p).all()):
            break
        n *= 16
    n_kept = (reached < top_p).sum(-1, keepdim=True) + 1
    return top.gather(1, n_kept.clamp(max=top.size(1)) - 1)


class Draws:
    """The noise of one row: its own, whoever its neighbours are."""

    def __init__(self, seed: int, row: int) -> None:
        # numpy promises the raw draws of PCG64 for good, on every machine (see ordering.py).
        self._random = np.random.PCG64([seed, row])

    def raw(self, n: int) -> np.ndarray:
        return self._random.random_raw(n)  # uint64


def n_noise(V: int) -> int:
    """How much noise a draw from V tokens takes: one number a block, one a token of a block."""
    return math.ceil(V / BLOCK) + min(BLOCK, V)


def gumbel(rows: Sequence[Draws], V: int) -> Tensor:
    """(B, n_noise) on the CPU: what the next draw of each row takes, from Gumbel's distribution."""
    raw = np.stack([row.raw(n_noise(V)) for row in rows])
    uniform = ((raw >> np.uint64(12)) + 0.5) * 2.0**-52  # 52 bits: with one more, 1 could come out
    return torch.from_numpy(-np.log(-np.log(uniform)).astype(np.float32))


def draw(logits: Tensor, noise: Tensor) -> Tensor:
    """(B, V) from `filtered`, and noise (B, n_noise) -> a token for each row, (B)."""
    B, V = logits.shape
    size = min(BLOCK, V)
    n_blocks = math.ceil(V / size)
    logits = F.pad(logits, (0, n_blocks * size - V), value=-math.inf)
    logits = logits.view(B, n_blocks, size)
    weight = logits.exp().sum(-1).log()  # (B, n_blocks)
    block = (weight + noise[:, :n_blocks]).argmax(-1)  # (B)
    rows = torch.arange(B, device=logits.device)
    within = (logits[rows, block] + noise[:, n_blocks:]).argmax(-1)  # (B)
    return block * size + within


def choose(logits: Tensor, sampling: Sampling, rows: Sequence[Draws]) -> Tensor:
    """(B, V) -> the next token of each row, (B); -1 where the highest logit is no number."""
    highest, tokens = logits.max(-1)
    if not sampling.is_greedy:
        noise = to_device(gumbel(rows, logits.size(-1)), logits.device)
        tokens = draw(filtered(logits, sampling), noise)
    return torch.where(highest.isfinite(), tokens, -1)


def log_probability(logits: Tensor, tokens: Tensor) -> Tensor:
    """(B): of each row's token under the model itself, before any control."""
    return logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(-1)


def _demo() -> None:
    words = ["the", "a", "my", "cat", "of", "xylophone"]
    logits = torch.tensor([[3.0, 2.5, 2.0, 1.0, 0.0, -1.0]])
    print(" " * 26 + "".join(f"{word:>10}" for word in words))

    def show(name: str, row: Tensor) -> None:
        shares = row.softmax(-1)[0].tolist()
        print(
            f"{name:<26}"
            + "".join(f"{share:10.1%}" if share else " " * 9 + "-" for share in shares)
        )

    show("the model", logits)
    for settings in (
        {"temperature": 0.5},
        {"temperature": 2.0},
        {"temperature": 1.0, "top_k": 2},
        {"temperature": 1.0, "top_p": 0.8},
        {"temperature": 1.0, "min_p": 0.1},
    ):
        name = ", ".join(f"{key} {value}" for key, value in settings.items())
        show(name, filtered(logits, Sampling(**settings)))
    seen = torch.tensor([[True, False, False, False, False, False]])
    show("repetition_penalty 1.5", penalised(logits, seen, 1.5))
    print('(the last: after "the" was said)\n')

    sampling = Sampling(temperature=1.0, min_p=0.1)
    row = [Draws(seed=1, row=0)]
    drawn = torch.cat([choose(logits, sampling, row) for _ in range(10_000)])
    shares = (drawn.bincount(minlength=6) / 10_000).tolist()
    print(
        "10,000 draws at min_p 0.1 "
        + "".join(f"{share:10.1%}" if share else " " * 9 + "-" for share in shares)
    )


if __name__ == "__main__":
    run(_demo)
