"""Four bits for a weight: NF4, by which a model that is only read takes an eighth of its memory.

    weight ─> blocks of 64 ─> each over its largest ─> nearest of 16 values ─> two codes to a byte
                                   │ absmax
                                   └─> less their mean ─> blocks of 256 ─> nearest of 256 values

Four bits name 16 values. Which? Trained weights lie about 0 as a normal distribution does: many
small, few large. Sixteen values at even distances would be used unevenly, the outer ones hardly at
all. Names say most when all are used equally often, and what cuts a distribution into parts of
equal weight are its *quantiles*. So NF4's values are a normal distribution's, but:

  - A weight of 0 must stay 0: it says nothing, and must not begin to. The quantiles of 16 equal
    parts have no 0 among them, so each side is made by itself, 8 values above 0 and 7 below.
  - The outermost quantile of a normal distribution is infinite. So it begins within: half a part
    from the end, where a part is a 16th by one side's count and a 15th by the other's. Their mean
    is 0.0323, and the first quantile is that of 0.9677.
  - All are divided by the largest, so that they reach from -1 to 1, as the numbers of a block do
    once it is divided by its own. Blocks are small because one outlier spoils the resolution of
    all others in its block. (The largest of 64 normal numbers lies farther out than the quantile
    of 0.9677. So the middle values are used more than the outer ones, after all: see Yoshida.)

A block needs its absmax to come back: 32 bits for 64 weights, half a bit for each. So the scales
are quantised as well ("double quantisation"): 8 bits for each, and 32 for 256 of them. The map of
these 8 bits is *dynamic*: exact near 0 and coarse towards 1, as an exponent makes it.

    4 + 8 / 64 + 32 / (64 x 256) = 4.127 bits a weight, where fp32 has 32

The weight comes back for one matrix product, and is forgotten. Autograd would keep it, and so the
whole model in fp32, for the way back; `NF4Projection` keeps the codes and looks it up once more.

What is lost is bounded (`python -m gpt.quantize` measures it): half the widest gap between two of
the 16 values, 0.152 of the block's absmax, and what the absmax itself is off, at most 0.0071 of
the largest in its 256. Beside much larger blocks that may be all there is of a small one.

    python -m gpt.quantize      # the 16 values, one block by hand, a tiny model before and after

Sources: Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs" (2023) for NF4 and double
quantisation; Dettmers et al., "8-bit Optimizers via Block-wise Quantization" (2022) for the dynamic
map; Yoshida, "NF4 Isn't Information Theoretically Optimal (and that's Good)" (2023).
"""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from gpt.cli import run
from gpt.config import GPTConfig
from gpt.errors import UserError
from gpt.model import GPT, Projection

BLOCK = 64  # weights that share a scale
SCALES_BLOCK = 256  # scales that share one of theirs

# As published: every program that reads NF4 has these. `codebook_from_quantiles` makes them.
CODEBOOK = torch.tensor([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
])  # fmt: skip


class QuantizeError(UserError):
    """Numbers that no scale can bring back."""


# ---- the values ------------------------------------------------------------------------------


def codebook_from_quantiles() -> Tensor:
    """The 16 values, in order: 7 of the lower half, 0, and 8 of the upper."""
    outermost = round(1 - (1 / 32 + 1 / 30) / 2, 7)  # 0.9677083, at which the published ones begin

    def half(n: int) -> Tensor:
        """n quantiles at even steps of probability, outside in; the next would be 0."""
        probabilities = torch.linspace(outermost, 0.5, n + 1)[:-1]
        return torch.tensor([NormalDist().inv_cdf(p) for p in probabilities.tolist()])

    values = torch.cat([-half(7), torch.zeros(1), half(8).flip(0)])
    return values / values.max()


def dynamic_map() -> Tensor:
    """The 256 values for scales: seven decades either way, and 0 and 1.

    The bits that a small number spends on its exponent, a large one has for its digits: there is
    one value from 1e-7 to 1e-6, there are two in the next decade, and 64 from 0.1 to 1.
    """
    positive = []
    for decade in range(7):
        edges = torch.linspace(0.1, 1, 2**decade + 1)
        positive.append(10 ** (decade - 6) * ((edges[:-1] + edges[1:]) / 2))  # middles of the steps
    values = torch.cat(positive)  # 127
    return torch.cat([-values, torch.zeros(1), values, torch.ones(1)]).sort().values


def _between(values: Tensor) -> Tensor:
    """Where the nearest of the values changes."""
    return (values[:-1] + values[1:]) / 2


def _tables() -> tuple[Tensor, ...]:
    """Edges (15); each byte's two values (256), as one int64; values for scales; their edges."""
    byte, scales = torch.arange(256), dynamic_map()
    pairs = torch.stack([CODEBOOK[byte >> 4], CODEBOOK[byte & 15]], dim=1)  # (256, 2)
    return _between(CODEBOOK), pairs.view(torch.int64)[:, 0], scales, _between(scales)


_TABLES = {torch.device("cpu"): _tables()}


def _tables_on(device: torch.device) -> tuple[Tensor, ...]:
    if device not in _TABLES:
        _TABLES[device] = tuple(t.to(device) for t in _TABLES[torch.device("cpu")])
    return _TABLES[device]


# ---- there and back --------------------------------------------------------------------------


class NF4(NamedTuple):
    """A quantised tensor of n numbers; a short last block is filled up with zeros."""

    codes: Tensor  # uint8, a byte for two numbers: the first in the upper four bits
    scales: Tensor  # uint8 (blocks of 64): each absmax, less their mean and over its step
    steps: Tensor  # float32 (blocks of 256 scales): the largest of them
    mean: Tensor  # float32 (): of all absmax
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in self[:4])


def quantize(weight: Tensor) -> NF4:
    """A tensor of any shape in 4 bits a number; its numbers are taken in the order they lie in."""
    flat = weight.detach().float().flatten()
    if not flat.numel():
        raise QuantizeError(f"a tensor of shape {list(weight.shape)} has no numbers to quantise")
    blocks = F.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    absmax = torch.linalg.vector_norm(blocks, ord=torch.inf, dim=1)  # NaN and infinity come through
    if not absmax.is_meta and not absmax.isfinite().all():
        fits = "" if weight.dtype == torch.float32 else f" as float32 (it is {weight.dtype})"
        raise QuantizeError(f"a tensor of shape {list(weight.shape)} holds NaN or infinity{fits}")
    edges, _, _, scale_edges = _tables_on(weight.device)
    codes = torch.bucketize(_over(blocks, absmax), edges, out_int32=True).to(torch.uint8)
    first, second = codes.view(-1, 2).unbind(1)

    mean = absmax.mean()
    rest = F.pad(absmax - mean, (0, -len(absmax) % SCALES_BLOCK)).view(-1, SCALES_BLOCK)
    steps = torch.linalg.vector_norm(rest, ord=torch.inf, dim=1)
    scales = torch.bucketize(_over(rest, steps), scale_edges).to(torch.uint8).flatten()
    kept = scales[: len(absmax)].clone()
    return NF4(first << 4 | second, kept, steps, mean, tuple(weight.shape))


def _over(blocks: Tensor, largest: Tensor) -> Tensor:
    """Each block over its largest, and 0 where that is 0."""
    return blocks * largest.clamp(min=torch.finfo(torch.float32).tiny).reciprocal()[:, None]


def dequantize(q: NF4, dtype: torch.dtype = torch.float32) -> Tensor:
    """The weight again, each number the nearest that its code and its block's scale can say."""
    _, pairs, _, _ = _tables_on(q.codes.device)
    # One look-up gives both numbers of a byte, three times as fast as one for each.
    values = pairs.index_select(0, q.codes.int()).view(torch.float32)
    blocks = values.view(-1, BLOCK).mul_(absmax_of(q)[:, None])
    return blocks.flatten()[: math.prod(q.shape)].view(q.shape).to(dtype)


def absmax_of(q: NF4) -> Tensor:
    """The scales of the blocks, (blocks of 64) in float32."""
    _, _, values, _ = _tables_on(q.codes.device)
    steps = q.steps.repeat_interleave(SCALES_BLOCK)[: len(q.scales)]
    return values.index_select(0, q.scales.int()) * steps + q.mean


# ---- in a model ------------------------------------------------------------------------------


def product(x, codes, scales, steps, mean, n_out, n_in, bias, back) -> Tensor:
    """x @ weight.T + bias; or back, d_y @ weight. The weight ends with this call."""
    weight = dequantize(NF4(codes, scales, steps, mean, (n_out, n_in)), x.dtype)
    if back:
        return x @ weight
    return F.linear(x, weight, None if bias is None else bias.to(x.dtype))


def _shape_of_product(x, codes, scales, steps, mean, n_out, n_in, bias, back) -> Tensor:
    return x.new_empty(*x.shape[:-1], n_in if back else n_out)


def _keep(ctx, inputs, output):
    ctx.save_for_backward(*inputs[1:5])  # the module's own buffers: nothing is copied
    *ctx.shape, _, ctx.back = inputs[5:]


def _way_back(ctx, d_y):
    d_x = d_bias = None
    if ctx.needs_input_grad[0]:
        d_x = _product(d_y, *ctx.saved_tensors, *ctx.shape, None, not ctx.back)
    if ctx.needs_input_grad[7]:
        d_bias = d_y.reshape(-1, d_y.size(-1)).sum(0)
    return d_x, None, None, None, None, None, None, d_bias, None


# For autograd and torch.compile one operation, which they can't look into: a compiler that saw the
# weight looked up twice, there and back, would do it once and keep it between. It is made once in a
# process. A second time, as where this file is run beside its import, torch would take the first
# out of memory, and who calls that would crash.
if not hasattr(torch.ops.talimat, "nf4_product"):
    _op = torch.library.custom_op(
        "talimat::nf4_product",
        product,
        mutates_args=(),
        schema="(Tensor x, Tensor codes, Tensor scales, Tensor steps, Tensor mean, SymInt n_out, "
        "SymInt n_in, Tensor? bias, bool back) -> Tensor",
    )
    _op.register_fake(_shape_of_product)
    _op.register_autograd(_way_back, setup_context=_keep)
_product = torch.ops.talimat.nf4_product.default


class NF4Projection(nn.Module):
    """A `Projection` whose weight is in 4 bits, and learns no more; its bias stays as it is.

    Blocks run along the inputs of an output, as [out, in] lies in memory. So do bitsandbytes' when
    `transformers` loads a GPT-2 with it: an adapter that was tuned there meets the same base here.
    """

    def __init__(self, projection: Projection) -> None:
        super().__init__()
        q = quantize(projection.weight.T)
        self.n_out, self.n_in = q.shape
        for name in ("codes", "scales", "steps", "mean"):
            self.register_buffer(name, getattr(q, name))
        self.bias = projection.bias

    @property
    def q(self) -> NF4:
        return NF4(self.codes, self.scales, self.steps, self.mean, (self.n_out, self.n_in))

    def forward(self, x: Tensor) -> Tensor:
        *stored, shape = self.q
        return _product(_as_autocast(x), *stored, *shape, self.bias, False)

    def dequantised(self) -> Tensor:
        """The weight in fp32, [in, out] as `Projection` stores it."""
        return dequantize(self.q).T.contiguous()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """Moves go through here, and `bfloat16()`, which rounds all but whole numbers: as such the
        scales pass."""
        exact = (id(self.steps), id(self.mean))

        def moved(t: Tensor) -> Tensor:
            return fn(t.view(torch.int32)).view(torch.float32) if id(t) in exact else fn(t)

        return super()._apply(moved, recurse)

    def extra_repr(self) -> str:
        return f"{self.n_in} -> {self.n_out}, NF4"


def _as_autocast(x: Tensor) -> Tensor:
    """x in the type that autocast multiplies in: a function of our own has to see to that."""
    kind = x.device.type
    if kind != "meta" and torch.is_autocast_enabled(kind) and x.dtype != torch.float64:
        return x.to(torch.get_autocast_dtype(kind))
    return x


def quantize_model(model: GPT) -> None:
    """Put every projection of every block into 4 bits, in place, and in memory for one at a time.

    Embeddings, norms and biases stay: few numbers, or (wte) those of the head, which has the last
    word. On the CPU, before it moves to a GPU, the model never takes its full size there.
    """
    for parent in list(model.h.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Projection):
                setattr(parent, name, NF4Projection(child).train(child.training))


def n_bytes(model: nn.Module) -> int:
    """What a model's parameters and buffers take."""
    return sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))


def error_of(weight: Tensor) -> float:
    """How far quantising moves a weight, as a share of its own length."""
    weight = weight.detach().float()
    length, moved = weight.norm().item(), (dequantize(quantize(weight)) - weight).norm().item()
    return moved / length if length else 0.0


def errors_by_layer(model: GPT) -> dict[str, float]:
    """For each projection of a model that is not quantised yet: what it would cost."""
    return {
        f"h.{name}": error_of(module.weight.T)
        for name, module in model.h.named_modules()
        if isinstance(module, Projection)
    }


def _demo() -> None:
    torch.manual_seed(0)
    print("The 16 values, from quantiles; how often each is the nearest to a normal number, in")
    print("blocks of 64 (all equally often would be 6.2%):")
    values = codebook_from_quantiles()
    codes = quantize(torch.randn(640_000)).codes
    used = torch.stack([codes >> 4, codes & 15]).flatten().bincount(minlength=16) / 640_000
    for code, (value, share) in enumerate(zip(values.tolist(), used.tolist(), strict=True)):
        print(f"  {code:>2}  {value:+.4f}  {share:5.1%}  {'█' * round(200 * share)}")
    same = torch.allclose(values, CODEBOOK, rtol=0, atol=1e-7)
    print(f"They are {'the published ones' if same else 'OTHERS than the published ones'}.\n")

    weight = torch.randn(1024 * 256) * 0.02
    q, block = quantize(weight), weight[:64]
    absmax = block.abs().max().item()
    print(f"The first 6 of a block of 64, whose absmax is {absmax:.5f}:")
    print("    weight   / absmax  code    value   comes back     error")
    codes, back = torch.stack([q.codes >> 4, q.codes & 15], dim=1).flatten(), dequantize(q)
    for w, code, again in zip(*(t[:6].tolist() for t in (block, codes, back)), strict=True):
        value = CODEBOOK[code].item()
        print(f"  {w:+.5f}   {w / absmax:+.4f}    {code:>2}  {value:+.4f}   {again:+.5f}", end="")
        print(f"    {again - w:+.5f}")
    print(f"Its absmax, in 8 bits: {absmax_of(q)[0]:.5f} (code {q.scales[0]})")
    of_all = (back - weight).norm() / weight.norm()
    largest = weight.view(-1, BLOCK).abs().amax(1, keepdim=True)
    even = ((weight.view(-1, BLOCK) / largest * 7).round() / 7 * largest).flatten()
    print(f"Error of all {len(weight):,}: {of_all:.1%} of their length;", end=" ")
    print(f"with 15 even steps it would be {(even - weight).norm() / weight.norm():.1%}")
    print(f"Bits a weight: {8 * q.n_bytes / len(weight):.3f}\n")

    model = GPT(GPTConfig(vocab_size=50, n_ctx=16, n_layer=2, n_head=4, n_embd=128, dropout=0.0))
    with torch.no_grad():
        model.h[1].mlp.c_proj.weight[::7, ::9] *= 12  # outliers, as some layers have
    ids = torch.randint(50, (2, 16))
    before, size, errors = model(ids), n_bytes(model), errors_by_layer(model)
    quantize_model(model)
    print(f"A tiny GPT: {size:,} bytes, of which {n_bytes(model):,} are left. The error by layer:")
    for name, error in errors.items():
        print(f"  {name:<16} {error:5.1%}  {'█' * round(100 * error)}")
    gap = (model(ids) - before).norm() / before.norm()
    print(f"(its last has outliers). Its logits move by {gap:.1%}.")

    kept = model.h[0].mlp.c_fc.q.n_bytes
    print(f"\nFor the way back, c_fc keeps {kept:,} bytes, and not the {128 * 512 * 4:,} of fp32.")


if __name__ == "__main__":
    run(_demo)
