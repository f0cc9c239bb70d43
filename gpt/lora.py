"""LoRA: a small correction is learnt beside each large matrix; the matrix itself stays as it is.

    x ─┬─> base: x W + b                       frozen        768 x 2,304
       └─> dropout ─> A ─> B ─> x scale        trained       768 x 16 and 16 x 2,304
              both are added:  x W + b + scale * (x A') B'

What tuning changes in a matrix is simple: a few directions in, a few directions out. So the change
is written as a product of two thin matrices, through `rank` numbers, and only those are trained.
AdamW's moments, the gradients and the checkpoints shrink with them, to a hundredth or two.

    A [rank, in]   begins normal with std 1/sqrt(in): what LayerNorm hands on has entries of about
                   1, and so have then the `rank` numbers, in a narrow model as in a wide one
    B [out, rank]  begins at 0: before the first step, the model is the base to the last bit. (Both
                   at 0 would have no gradient: A's comes through B, and B's through A.)
    scale          alpha / rank; rank-stabilised LoRA takes alpha / sqrt(rank), since with one alpha
                   for all ranks the first shrinks too fast. By default alpha makes it 2 in both

The correction may be added into the matrix when all is done: `merge` makes a plain GPT of it, which
needs neither this file nor the further products. That is done in fp32. In 4 bits it would be
rounded away, and is refused.

    python -m gpt.lora          # a tiny model with an adapter: what trains, what stays, merged
    python scripts/train.py --model gpt2 --data mine.json --lora-rank 16

Sources: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021); Kalajdzievski, "A
Rank Stabilization Scaling Factor for Fine-Tuning with LoRA" (2023). On the disk it is PEFT's: see
adapters.py. With the base in 4 bits it is QLoRA: see quantize.py.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from gpt.cli import run
from gpt.config import GPTConfig
from gpt.errors import UserError
from gpt.model import GPT, Projection
from gpt.quantize import NF4Projection
from gpt.settings import TrainSettings


class LoraError(UserError):
    """An adapter that this model cannot have, or that cannot be merged."""


@dataclass(frozen=True)
class LoraConfig:
    """What an adapter is, but for its numbers."""

    rank: int  # numbers that the change of a matrix goes through
    alpha: float | None = None  # how much it counts, before `scale`; None: so that the scale is 2
    dropout: float = 0.0  # probability, on what A reads
    targets: tuple[str, ...] | str = tuple(TrainSettings().lora_targets)  # or a pattern for all
    rank_stabilised: bool = False

    def __post_init__(self) -> None:
        if self.alpha is None:
            object.__setattr__(self, "alpha", 2.0 * self._divisor)

    @property
    def scale(self) -> float:
        return self.alpha / self._divisor

    @property
    def _divisor(self) -> float:
        return math.sqrt(self.rank) if self.rank_stabilised else self.rank

    @classmethod
    def of(cls, settings: TrainSettings) -> "LoraConfig":
        return cls(
            settings.lora_rank,
            settings.lora_alpha,
            settings.lora_dropout,
            tuple(settings.lora_targets),
            settings.lora_rs,
        )


class LoraProjection(nn.Module):
    """A frozen projection with its correction beside it."""

    def __init__(self, base: nn.Module, n_in: int, n_out: int, config: LoraConfig) -> None:
        super().__init__()
        if config.rank > min(n_in, n_out):
            raise LoraError(
                f"rank {config.rank} is above the width: a matrix of {n_in} x {n_out} has no "
                f"change of a higher rank than {min(n_in, n_out)}"
            )
        self.base, self.config = base, config
        device = base.bias.device
        # As PEFT stores them, which is as nn.Linear does: [out, in]. In fp32, whatever the base is.
        self.lora_A = nn.Parameter(torch.empty(config.rank, n_in, device=device))
        self.lora_B = nn.Parameter(torch.zeros(n_out, config.rank, device=device))
        if not self.lora_A.is_meta:
            nn.init.normal_(self.lora_A, std=1 / math.sqrt(n_in))

    def forward(self, x: Tensor) -> Tensor:
        read = F.dropout(x, self.config.dropout, self.training)  # (B, T, in)
        change = F.linear(F.linear(read, self.lora_A), self.lora_B)  # through (B, T, rank) to out
        return self.base(x) + self.config.scale * change  # (B, T, out)

    def change(self) -> Tensor:
        """What is added to the matrix, [in, out] as the matrix is stored."""
        return self.config.scale * (self.lora_B.float() @ self.lora_A.float()).T


# ---- on a model, and off again --------------------------------------------------------------


def add_lora(model: GPT, config: LoraConfig) -> None:
    """Give the chosen projections an adapter, and freeze everything else. The head has none."""
    if lora_of(model) is not None:
        raise LoraError("this model has an adapter already: merge it first")
    model.requires_grad_(False)
    for name in target_names(model, config.targets):
        base = model.get_submodule(name)
        try:
            adapted = LoraProjection(base, *_shape_of(base), config)
        except LoraError as error:
            raise LoraError(f"{name}: {error}") from None
        model.set_submodule(name, adapted.train(base.training))


def target_names(model: GPT, targets: Iterable[str] | str) -> list[str]:
    """The projections that are meant, as PEFT understands it: h.0.attn.c_attn and so on.

    A list has the ends of names: c_proj is every block's two, attn.c_proj the one of attention. A
    text is a regular expression that is to match a whole name (with `transformer.` before it).
    """
    there = [name for name, module in model.named_modules() if _is_projection(module)]
    if isinstance(targets, str):
        try:
            found = [n for n in there if re.fullmatch(targets, "transformer." + n)]
            found = found or [n for n in there if re.fullmatch(targets, n)]
        except re.error as error:
            raise LoraError(f"target {targets!r} is no pattern: {error}") from None
        missing = [] if found else [targets]
    else:
        whole = {name: f".transformer.{name}" for name in there}
        found = [n for n in there if whole[n].endswith(tuple(f".{t}" for t in targets))]
        missing = [t for t in targets if not any(n.endswith(f".{t}") for n in whole.values())]
    if missing:
        known = sorted({name.split(".")[-1] for name in there})
        raise LoraError(
            f"{missing[0]!r} names no projection of this model: there are {', '.join(known)}, or "
            "attn.c_proj and mlp.c_proj (embeddings, norms and the head get no adapter)"
        )
    return found


def lora_layers(model: GPT) -> dict[str, LoraProjection]:
    return {n: m for n, m in model.named_modules() if isinstance(m, LoraProjection)}


def lora_of(model: GPT) -> LoraConfig | None:
    """The model's adapter; None if it has none."""
    return next((layer.config for layer in lora_layers(model).values()), None)


@torch.no_grad()
def merge(model: GPT) -> dict[str, LoraProjection]:
    """Add every correction into a new matrix, in fp32; what `unmerge` takes to undo it.

    The old matrices are not written to. Subtracting a correction again would not give back the
    bits, since (w + d) - d is rounded twice: whoever wants the base again keeps what this returns,
    and whoever lets it go has the memory.
    """
    layers = lora_layers(model)
    for name, layer in layers.items():
        if not isinstance(layer.base, Projection):
            raise LoraError(
                f"{name} is in 4 bits, whose steps are wider than most corrections: merging into "
                "them would lose what was learnt; `dequantise` the base first"
            )
    for name, layer in layers.items():
        merged = _plain(layer.base.weight.float() + layer.change(), layer.base.bias)
        model.set_submodule(name, merged.train(layer.training))
    return layers


def unmerge(model: GPT, layers: dict[str, LoraProjection]) -> None:
    """Undo `merge`, to the last bit."""
    for name, layer in layers.items():
        model.set_submodule(name, layer)


@torch.no_grad()
def dequantise(model: GPT) -> None:
    """Make every matrix in 4 bits a plain one again: rounded as it was, and in fp32."""
    for name, module in list(model.named_modules()):
        if isinstance(module, NF4Projection):
            model.set_submodule(name, _plain(module.dequantised(), module.bias))


def _plain(weight: Tensor, bias: Tensor) -> Projection:
    with torch.device("meta"):
        projection = Projection(*weight.shape)
    projection.weight = nn.Parameter(weight, requires_grad=False)
    projection.bias = nn.Parameter(bias.detach().float().clone(), requires_grad=False)
    return projection


def _is_projection(module: nn.Module) -> bool:
    return isinstance(module, Projection | NF4Projection)


def _shape_of(base: nn.Module) -> tuple[int, int]:
    if isinstance(base, NF4Projection):
        return base.n_in, base.n_out
    return tuple(base.weight.shape)


# ---- what it saves --------------------------------------------------------------------------


def n_trained(model: GPT) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def savings(model: GPT) -> str:
    """In a line, what of the model is trained, and what memory that saves against full tuning."""
    whole, trained = model.config.n_params(), n_trained(model)
    line = (
        f"trains {trained:,} of {whole + trained:,} parameters ({trained / (whole + trained):.1%}):"
        f" gradients and AdamW's moments take {_megabytes(12 * trained)} and not "
        f"{_megabytes(12 * whole)}"
    )
    if any(isinstance(layer.base, NF4Projection) for layer in lora_layers(model).values()):
        took = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
        line += f", the weights {_megabytes(took)} and not {_megabytes(4 * whole)}"
    return line


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.{0 if n_bytes >= 10e6 else 1}f} MB"


def _demo() -> None:
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=50, n_ctx=16, n_layer=2, n_head=2, n_embd=32)).eval()
    base = {name: p.detach().clone() for name, p in model.named_parameters()}
    ids = torch.randint(50, (4, 9))
    before = model(ids)
    config = LoraConfig(rank=4)
    add_lora(model, config)
    print(f"a tiny GPT with an adapter of rank {config.rank}, scale {config.scale:g}:")
    for name, parameter in model.named_parameters():
        if name.startswith("h.0.attn"):
            state = "trained" if parameter.requires_grad else "frozen"
            print(f"  {name:<27} {list(parameter.shape)!s:<9} {state}")
    print(f"it {savings(model)}\n")
    print(f"before the first step, the base's logits: {torch.equal(model(ids), before)}")

    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(5):
        logits = model(ids[:, :-1]).flatten(0, 1)
        loss = F.cross_entropy(logits, ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    layers = lora_layers(model)
    moved = sum(bool(layer.lora_B.any()) for layer in layers.values())
    now = {name.replace(".base.", "."): p for name, p in model.named_parameters()}
    same = all(torch.equal(now[name], was) for name, was in base.items())
    print(f"after 5 steps: {moved} of {len(layers)} B are no longer 0; the base as it was: {same}")

    print("\nwhat was learnt of h.0.attn.c_attn, by how much it stretches each direction:")
    stretches = torch.linalg.svdvals(layers["h.0.attn.c_attn"].change().detach())
    print(f"  {int((stretches > 1e-5 * stretches[0]).sum())} of {len(stretches)} are not 0")

    adapted = model(ids)
    taken = merge(model)
    gap = (model(ids) - adapted).abs().max()
    print(f"\nmerged: {model.n_params():,} parameters as before; logits within 1e-5: {gap < 1e-5}")
    unmerge(model, taken)
    print(f"unmerged: the same logits to the last bit: {torch.equal(model(ids), adapted)}")

    print("\nwhat is refused:")
    for config in (
        LoraConfig(33),
        LoraConfig(4, targets=("c_atn",)),
        LoraConfig(4, targets=("wte",)),
    ):
        try:
            unadapted = GPT(model.config)
            add_lora(unadapted, config)
        except LoraError as error:
            print(f"  {error}")


if __name__ == "__main__":
    run(_demo)
