"""Many rows times one matrix, the way round that a CPU is fastest at.

              x   @   w                     w.T   @  x.T
           (N, in) (in, out)             (out, in) (in, N)
                  =                             =
               (N, out)        the same, lying    (out, N)

The products are the same, and their sums but for rounding; only where they lie in memory differs.
While answers are written, N is the number of rows that are at it, some ten or a hundred, and `out`
is thousands. A kernel for such a product works on a few lines of the result at a time, and fills
its registers along the last dimension. Along N, all of it near at hand, it is up to 1.4 times as
fast as along `out`, where N is a multiple of 8, and 16 or more. At 2 to 8 rows it takes several
times as long. So rows are filled up to such a number, and a few rows keep the usual way.

That was measured in fp32, with MKL, which torch calls on an x86 CPU, on CPUs of AMD. On one of
Intel's, for which MKL has other kernels, the usual way is the faster one, up to 1.5 times: there it
is kept, and elsewhere; but bf16 may be laid out for AMX (laid_out.py). And it is kept in training
(docs/experiments.md): attention over several tokens wants its numbers the usual way, and to turn
them back costs more than there is to gain.

    python -m gpt.product       # how many rows are computed, and where the result lies
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.cli import run
from gpt.hardware import is_amd
from gpt.laid_out import product_if_laid_out

_FEWEST = 16  # rows that it is good for; 9 to 15 are filled up to as many
_STEP = 8


def n_computed(n_rows: int, weight: Tensor) -> int:
    """So many rows that the product is fast: the rows there are, and some in vain."""
    return filled_up(n_rows) if n_rows > _FEWEST // 2 and was_measured(weight) else n_rows


def filled_up(n_rows: int) -> int:
    return max(_FEWEST, -(-n_rows // _STEP) * _STEP)


def was_measured(t: Tensor) -> bool:
    """Whether products of this one are known to be faster turned."""
    if torch.compiler.is_compiling():  # asked before any shape is: of each, it would make a guard
        return False
    if t.device.type != "cpu" or t.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    return pays_here()


def pays_here() -> bool:
    return torch.backends.mkl.is_available() and is_amd()


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(…, in) @ (in, out) + (out) -> (…, out), wherever its numbers lie.

    x: rows (N, in), or tokens (B, T, in), which are rows where each B has one.
    """
    found = product_if_laid_out(x, weight, bias)
    if found is not None:
        return found
    if was_measured(x) and was_measured(weight):
        n_rows = x.shape[:-1].numel()
        if n_rows >= _FEWEST and n_rows % _STEP == 0 and len(x) == n_rows:
            return turned_product(x, weight, bias)
    return F.linear(x, weight.T, bias)  # .T copies nothing


def turned_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    flat = x.flatten(0, -2).T  # (in, N)
    turned = weight.T @ flat if bias is None else torch.addmm(bias[:, None], weight.T, flat)
    return turned.T.unflatten(0, x.shape[:-1])  # of (out, N)


def _demo() -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(64, 192), torch.randn(192)  # (in, out)
    print("rows   computed, where it pays   strides: usual   turned   furthest apart")
    for n_rows in (9, 20, 110):
        x = torch.randn(filled_up(n_rows), 64)
        usual, turned = F.linear(x, weight.T, bias), turned_product(x, weight, bias)
        gap = (usual - turned).abs().max().item()
        strides = f"{usual.stride()!s:>15}{turned.stride()!s:>11}"
        print(f"{n_rows:>4}{len(x):>23} {strides}   {'below 1e-4' if gap < 1e-4 else gap}")


if __name__ == "__main__":
    run(_demo)
