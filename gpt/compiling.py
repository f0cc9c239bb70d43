"""torch.compile: whether a run is long enough for it, and how it is kept from failing one.

    device, parameters, tokens that lie ahead ─> choose_compiling ─> yes or no, and why
    model.hidden ─> Compiled ─> the same function; faster, after a minute; or as it was

PyTorch runs a model one operation at a time, and each of them reads its input from memory and
writes its result back. The compiler looks at the whole function first, and makes one kernel of
what can be done in one go: a bias, a GELU, a norm. Products of matrices gain nothing by that. It
takes half a minute or a minute, before the first step, at every start.

So it pays where the rest of the run is long, and by itself it is only chosen on a GPU. On a CPU
most of the time goes into products: steps of 124M in fp32 were 1.02 to 1.14 times as fast at 8
examples, and no faster at 16 (docs/experiments.md). That takes long to pay the first minutes back,
and needs a C++ compiler. And what is compiled shares no beginnings (preamble.py): those steps had
none either way, and beside one that does, a compiled step is the slower one (docs/benchmarks.md).
`--compile` asks for it.

    python -m gpt.compiling     # runs of several lengths, and what each is given

Source: Ansel et al., "PyTorch 2: Faster Machine Learning Through Dynamic Python Bytecode
Transformation and Graph Compilation" (2024).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gpt.cli import run
from gpt.settings import TrainSettings

# Parameters x tokens that a minute is paid back by: steps that take a GPU a few of them.
_WORTH_IT = 124_439_808 * 8_000_000


class Choice(NamedTuple):
    compiled: bool
    reason: str


def choose_compiling(
    settings: TrainSettings, device_type: str, n_params: int, n_tokens: int
) -> Choice:
    """n_tokens: what the run still has to read, which of a resumed one is less than all."""
    if settings.compile != "auto":
        return Choice(settings.compile == "always", "as asked")
    if device_type != "cuda":
        return Choice(False, "by itself only on a GPU")
    if settings.shard:
        return Choice(False, "what --shard divides cannot be compiled")
    ahead = f"{n_tokens / 1e6:,.1f} million tokens x {n_params / 1e6:,.0f} million parameters ahead"
    if n_params * n_tokens < _WORTH_IT:
        return Choice(False, f"{ahead} do not pay for its minute")
    return Choice(True, f"{ahead} pay for its minute")


class Compiled:
    """A function through torch.compile; without it, after one warning, where that fails.

    It fails at the first call, not where `torch.compile` stands: there is no C++ compiler, or a
    new shape brings up something that it cannot do. The loss is the same either way.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        warn: Callable[[str], object],
        one_shape: bool = False,
    ) -> None:
        self.plain, self.warn = function, warn
        # One program for all batch shapes: with each new length it would compile for a minute.
        # Where there is one shape, a program for just that; a second one, should a last short
        # batch come, is for all others.
        dynamic = None if one_shape else True
        self.compiled: Callable[..., Tensor] | None = torch.compile(function, dynamic=dynamic)

    def __call__(self, *args: Tensor | None) -> Tensor:
        if self.compiled is not None:
            try:
                return self.compiled(*args)
            except Exception as error:
                if not self.gives_up(error):
                    raise
        return self.plain(*args)

    def gives_up(self, error: Exception) -> bool:
        """Whether it was the compiler that failed, without which it goes on from here. (The way
        back is compiled when it is first gone: its failure shows where `backward` stands.)
        """
        if self.compiled is None or not _is_of_the_compiler(error):
            return False
        first = (str(error).strip() or repr(error)).splitlines()[0]
        self.warn(f"--compile: goes on without, as it failed: {first}")
        self.compiled = None
        return True


def _is_of_the_compiler(error: BaseException) -> bool:
    """Its errors share no class, but the packages that they are of."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))


def _demo() -> None:
    sizes = {"gpt2": 124_439_808, "gpt2-xl": 1_557_611_200}
    print("--compile auto, on a GPU:")
    for model, n_params in sizes.items():
        for n_tokens in (100_000, 2_000_000, 20_000_000):
            choice = choose_compiling(TrainSettings(), "cuda", n_params, n_tokens)
            print(f"  {model:<8} {'yes' if choice.compiled else 'no':<4} {choice.reason}")
    print("and elsewhere:")
    for settings, device_type in (
        (TrainSettings(), "cpu"),
        (TrainSettings(compile="always"), "cpu"),
        (TrainSettings(compile="never"), "cuda"),
    ):
        choice = choose_compiling(settings, device_type, sizes["gpt2"], 20_000_000)
        answer = "yes" if choice.compiled else "no"
        print(f"  --compile {settings.compile:<7} {device_type:<5} {answer:<4} {choice.reason}")


if __name__ == "__main__":
    run(_demo)
