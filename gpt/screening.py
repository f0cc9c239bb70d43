"""The likeliest token in fp32, of a vocabulary of which bf16 has ruled out nearly all.

    hidden (N, C) ─> logits in bf16, each within a bound of what fp32 has ─> the few that may be
                     the highest ─> these in fp32 ─> the highest

To take the likeliest token, the head computes 50,257 logits, a third of all that a small GPT-2
computes, and forgets 50,256. A CPU with AMX has them in bf16 in a quarter of the time, each a
little off. How far, a bound tells. Rounded, a vector h is h + dh, and a row of the head w + dw; so

    |(h + dh) · (w + dw) - h · w|  <=  |dh| |w + dw| + |h| |dw|        (Cauchy and Schwarz)

with lengths that are computed, once for the head. What lies further below the highest than twice
the bound is not the highest in fp32 either. The rest, a token or two for each row as a rule, is
computed in fp32 and decided there: the token is the one that the whole product would have given,
but for those that fp32 itself cannot tell apart. The price is a copy of the head in bf16, and one
more that is laid out (laid_out.py).

    python -m gpt.screening     # how many tokens are left to decide among
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.cli import run
from gpt.hardware import has_amx
from gpt.loss import most_likely
from gpt.product import product

FEWEST = 8192  # tokens of a vocabulary
_MOST_LEFT = 64  # for each row, on average: of more, the whole product is sooner there
_PART = 512  # of them, which are ruled out together
_STEP = 2**-8  # bf16 rounds a number by no more than this share of it
_SUM = 2**-12  # of |h| |w|: what adding up some thousand products in fp32 may be off, and more


def is_worth_it(head: Tensor) -> bool:
    is_fp32 = head.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return head.device.type == "cpu" and is_fp32 and len(head) >= FEWEST and has_amx()


class Screen:
    """`most_likely` of one head, whose first n_tokens rows are tokens."""

    @torch.no_grad()
    def __init__(self, head: Tensor, n_tokens: int) -> None:
        head = head[:n_tokens]
        self.head, self.n_tokens = head, len(head)
        self.rounded = F.pad(head.bfloat16(), (0, 0, 0, -len(head) % _PART))  # (parts * _PART, C)
        self._longest = _lengths(head).max()
        self._furthest = max(_lengths(part - part.bfloat16()).max() for part in head.split(4096))

    def most_likely(self, hidden: Tensor) -> Tensor:
        """(N, C) -> (N): where the highest of each row's logits stands; -1: that is no number."""
        rows, tokens = self.candidates(hidden)
        if len(rows) > _MOST_LEFT * len(hidden):
            return most_likely(hidden, self.head, self.n_tokens)
        logits, N = (hidden[rows] * self.head[tokens]).sum(1), len(hidden)
        highest = logits.new_full((N,), -torch.inf).scatter_reduce_(0, rows, logits, "amax")
        equal = logits == highest[rows]
        place = tokens.new_full((N,), self.n_tokens)  # and of equals the first
        place.scatter_reduce_(0, rows[equal], tokens[equal], "amin")
        return place.where(highest.isfinite(), -1)

    def candidates(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Which row, and which token: all pairs that may be the highest."""
        rounded = hidden.bfloat16()
        logits = product(rounded, self.rounded.T)
        logits[:, self.n_tokens :] = -torch.inf
        logits = logits.unflatten(1, (-1, _PART))
        of_parts = logits.amax(2)  # (N, parts)
        highest = of_parts.amax(1, keepdim=True).float()
        length = _lengths(hidden)
        off = _lengths(hidden - rounded) * self._longest * (1 + _STEP) + length * self._furthest
        off += _SUM * length * self._longest
        # Both the highest and one that equals it in fp32 were rounded on their way out, too.
        least = highest - 2 * (1 + _STEP) * (off[:, None] + _STEP * highest.abs())
        # (N, 1), and a number: what is no token is below it.
        least = least.bfloat16().clamp(min=torch.finfo(torch.bfloat16).min)
        rows, parts = (of_parts >= least).nonzero(as_tuple=True)
        of_which, places = (logits[rows, parts] >= least[rows]).nonzero(as_tuple=True)
        return rows[of_which], parts[of_which] * _PART + places


def _lengths(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=1)


def _demo() -> None:
    torch.manual_seed(0)
    head = torch.randn(10000, 64) / 8  # rows of length 1, more or less
    print("100 rows choose among 10,000 tokens; left for each (rounded up), and the choice:")
    for confidence in (1, 10, 100):
        hidden = torch.randn(100, 64) + confidence * head[torch.arange(100)]
        screen = Screen(head, len(head))
        rows, _ = screen.candidates(hidden)
        same = torch.equal(screen.most_likely(hidden), most_likely(hidden, head, len(head)))
        most, told = math.ceil(len(rows) / len(hidden)), "the same" if same else "OTHERS"
        print(f"  confidence {confidence:>3}: {most}, {told}")


if __name__ == "__main__":
    run(_demo)
