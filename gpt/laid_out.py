"""Matrices that lie in memory as a CPU's kernel takes them, made so once for many passes.

    weight (in, out), as the file has it ─> oneDNN's order of tiles ─> x @ weight, pass after pass
                                            while answers are written

A CPU with AMX multiplies bf16 in tiles: 16 rows of x by 32 numbers, times 32 by 16 of the weight,
where numbers that belong together lie in pairs, one below the other. A product first brings its
weight into that order, each time anew. In training, hundreds of rows make up for it. While answers
are written there is one row of each text, and what is laid out once makes every later product 1.5
times as fast for a hundred rows, and twice for one. The price is a second copy.

Who multiplies asks here for the copy (product.py; model.py, whose MLP has its GELU from the same
kernel). It is of the numbers that a weight had when it was made: so it lasts as long as one call
that writes answers, during which nobody changes them.

    python -m gpt.laid_out      # the order of a tile, and why it is not the file's
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from gpt.cli import run
from gpt.hardware import free_memory, has_amx

SOON = 32  # tokens that may be written: to lay out all takes what some 12 of their passes gain
_STRIP = 32  # rows

_copies: dict[tuple, Tensor] = {}  # by where a weight lies


@contextmanager
def laid_out(weights: Iterable[Tensor]) -> Iterator[None]:
    """While it lasts, there are copies of these, (in, out), as far as there is a use for them."""
    weights = [weight for weight in weights if is_laid_out_here(weight)]
    n_bytes = sum(weight.nbytes for weight in weights)
    made = {}
    if n_bytes <= (free_memory() or 0) // 2:
        with torch.no_grad():
            for weight in weights:
                key = _where(weight)
                if key not in _copies:  # another who writes with this model may be first
                    made[key] = torch.ops.mkldnn._reorder_linear_weight(_turned(weight))
    _copies.update(made)
    try:
        yield
    finally:
        for key in made:
            _copies.pop(key, None)


def _where(weight: Tensor) -> tuple:
    return weight.data_ptr(), weight.shape, weight.stride()


def _turned(weight: Tensor) -> Tensor:
    """weight.T, (out, in), in memory: a strip at a time, which a cache holds, in a third of the
    time that `contiguous` takes.
    """
    if weight.T.is_contiguous():
        return weight.T
    turned = weight.new_empty(weight.shape[::-1])
    for to, strip in zip(turned.split(_STRIP, dim=1), weight.split(_STRIP), strict=True):
        to.copy_(strip.T)
    return turned


def is_laid_out_here(weight: Tensor) -> bool:
    """bf16 on a CPU with AMX, by a torch that has the operators, which its compiler uses, and a
    oneDNN that may use what the CPU has.
    """
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16 or not has_amx():
        return False
    operators = torch.ops.mkldnn if torch.backends.mkldnn.is_available() else None
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    return all(hasattr(operators, name) for name in names) and operators._is_mkldnn_bf16_supported()


def product_if_laid_out(
    x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool = False
) -> Tensor | None:
    """x @ weight + bias, if there is a copy of this weight, and no gradient is wanted; and GELU of
    that, in its tanh form, before it is rounded and written to memory.
    """
    if torch.compiler.is_compiling() or not _copies or torch.is_grad_enabled():
        return None
    copy = _copies.get(_where(weight))
    if copy is None or x.dtype != weight.dtype:
        return None
    then = ("gelu", [], "tanh") if gelu else ("none", [], None)
    return torch.ops.mkldnn._linear_pointwise(x, copy, bias, *then)


def _demo() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 4), torch.randn(4, 3)  # (N, in), (in, out)
    numbers = torch.arange(weight.numel()).view(weight.shape)
    print(f"a weight of {len(weight)} by {weight.size(1)}, its numbers as they lie in memory:")
    print(numbers)
    pairs = numbers.view(-1, 2, weight.size(1)).transpose(1, 2)  # (in / 2, out, 2)
    print("in pairs, one below the other, as a tile has them: each step adds two products a number")
    print(pairs.flatten(1))
    tile, sums = weight.flatten()[pairs], torch.zeros(len(x), weight.size(1))
    for step, pair in enumerate(tile):  # (out, 2)
        sums += (x[:, None, 2 * step : 2 * step + 2] * pair).sum(2)
    print("x @ weight, step by step:", "the same" if torch.allclose(sums, x @ weight) else "OTHERS")


if __name__ == "__main__":
    run(_demo)
