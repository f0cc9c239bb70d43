"""Many rows times one matrix, the way round that a CPU is fastest at.

              x   @   w                     w.T   @  x.T
           (N, in) (in, out)             (out, in) (in, N)
                  =                             =
               (N, out)        the same, lying    (out, N)

The numbers are the same, and so is the arithmetic; only where they lie in memory differs. While
answers are written, N is the number of rows that are at it, some ten or a hundred, and `out` is
thousands. A kernel for such a product works on a few lines of the result at a time and fills its
registers along the last dimension. Along N, with all of it near at hand, it is up to half as fast
again as along `out`: if N is a multiple of 8, and 16 or more. At 2 to 8 rows it takes five times as
long. So rows are filled up to such a number, and whoever has few rows keeps the usual way.

Only the ways round of MKL, which torch calls on a CPU, were measured, on AVX2 and in fp32. A GPU's
kernels choose for themselves. Nor does it help where a model is trained (docs/experiments.md):
attention over several tokens wants its numbers the usual way, and turning them back costs more.

    python -m gpt.product       # how many rows are computed; the same numbers, turned
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.cli import run

_FEWEST = 16  # rows that it is good for, and that more than half as many are filled up to
_STEP = 8


def n_computed(n_rows: int, weight: Tensor) -> int:
    """So many rows that the product is fast: the rows there are, and some in vain."""
    if n_rows <= _FEWEST // 2 or not _is_of_a_cpu(weight):
        return n_rows
    return max(_FEWEST, -(-n_rows // _STEP) * _STEP)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(…, in) @ (in, out) + (out) -> (…, out), wherever its numbers lie.

    x: rows (N, in), or tokens (B, T, in), which are rows where each B has one.
    """
    n_rows = x.shape[:-1].numel()
    are_many = n_rows >= _FEWEST and n_rows % _STEP == 0 and len(x) == n_rows
    if not (are_many and _is_of_a_cpu(x) and _is_of_a_cpu(weight)):
        return F.linear(x, weight.T, bias)  # .T copies nothing
    flat = x.reshape(n_rows, -1).T  # (in, N)
    turned = weight.T @ flat if bias is None else torch.addmm(bias[:, None], weight.T, flat)
    return turned.T.unflatten(0, x.shape[:-1])  # turned: (out, N)


def _is_of_a_cpu(t: Tensor) -> bool:
    if t.device.type != "cpu" or t.dtype != torch.float32:
        return False
    return not (torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling())


def _demo() -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(64, 192), torch.randn(192)  # (in, out)
    print("rows   computed   as they lie in memory   furthest from the usual way")
    for n_rows in (1, 8, 9, 20, 110):
        n = n_computed(n_rows, weight)
        x = torch.randn(n, 64)
        y, usual = product(x, weight, bias), F.linear(x, weight.T, bias)
        lies = "row by row" if y.is_contiguous() else "column by column"
        gap = (y - usual).abs().max().item()
        print(f"{n_rows:>4} {n:>10}   {lies:<23} {'below 1e-4' if gap < 1e-4 else f'{gap:.1e}'}")


if __name__ == "__main__":
    run(_demo)
