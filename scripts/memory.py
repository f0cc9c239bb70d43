"""How much memory a training step takes, counted tensor by tensor and without computing it.

python scripts/memory.py                                    # four sizes, three ways to tune them
python scripts/memory.py --size gpt2-xl --method qlora --rank 64
python scripts/memory.py --size gpt2 --method full --check  # and the same step for real
python scripts/memory.py --size gpt2-xl --precision bf16 --recompute-gelu  # as a GPU trains it

The step is the real one: the model, the loss, the way back, AdamW, and twice, since AdamW has its
moments only after the first. But its tensors are torch's "fake" ones, which have a shape
and no numbers, so that gpt2-xl takes a minute and no memory. Each is counted from the operation
that makes it until the last reference to it is gone; the highest sum is the peak.

What is not in it: what a kernel needs inside, what the allocator rounds up, and Python with torch
themselves. --check shows how much that is: it takes the step, and looks at the process. On a GPU
the tensors are the same, but for those of its own attention kernel. Every position is supervised,
the most that there can be, and nothing is shared between examples.
"""

import argparse
import gc
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs without being installed

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gpt.batching import Batch
from gpt.cli import ArgumentParser, run
from gpt.config import PUBLISHED, GPTConfig
from gpt.errors import UserError
from gpt.hardware import Precision
from gpt.learner import recompute_on_the_way_back, set_dropout
from gpt.lora import LoraConfig, add_lora
from gpt.loss import Supervised, summed_loss
from gpt.model import GPT
from gpt.optimizer import make_optimizer
from gpt.quantize import product, quantize_model
from gpt.settings import TrainSettings

METHODS = ("full", "lora", "qlora")
SIZES = tuple(name for name in PUBLISHED if name != "distilgpt2")


class LiveBytes(TorchDispatchMode):
    """Within this block: how many bytes tensors hold, now and at most. A view holds none."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.talimat.nf4_product.default:  # what happens inside counts, too
            with self:
                return product(*args)
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return
        self._alive.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, size).atexit = False

    def _gone(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size


class Count(NamedTuple):
    """In bytes, but for the first."""

    trained: int  # numbers that change
    weights: int  # all parameters, and the codes and scales of quantised ones
    gradients: int
    moments: int  # AdamW's two, and its counters
    peak: int  # of a step: these and all that is between


def model_for(config: GPTConfig, method: str, rank: int) -> GPT:
    """On `meta`: shapes only."""
    with torch.device("meta"):
        model = GPT(config)
        if method == "qlora":
            quantize_model(model)
        if method != "full":
            add_lora(model, LoraConfig(rank))
    return model


def steps(
    model: GPT, batch_size: int, length: int, precision: str = "fp32"
) -> Iterator[torch.optim.Optimizer]:
    """One optimizer step after the other, as gpt/learner.py takes it; yields between."""
    in_precision = Precision(precision, "as asked").autocast
    optimizer = make_optimizer(model, TrainSettings(), lr=1e-4)
    shape = (batch_size, length)
    positions = torch.arange(length).expand(shape)
    ids, ones = torch.zeros(shape, dtype=torch.int64), torch.ones(shape)
    batch = Batch(ids, ids, ones, positions, None)
    everything = Supervised(torch.arange(ids.numel()), ids.flatten(), ones.flatten())
    while True:
        optimizer.zero_grad(set_to_none=True)
        with in_precision(torch.device("cpu")):
            loss = summed_loss(model, batch, None, everything) / ids.numel()
        loss.backward()
        del loss
        optimizer.step()  # clipping comes before: in place, and by a norm that fakes do not have
        yield optimizer


def count(
    model: GPT,
    batch_size: int,
    length: int,
    recompute: bool,
    real: bool = False,
    precision: str = "fp32",
    recompute_gelu: bool = False,
) -> Count:
    """What the second step takes at most. model: from `model_for`; it gets memory here, if fake.

    real: with numbers, on the CPU, so that the count can be held to what a process takes.
    """
    gelu = "always" if recompute_gelu else "never"
    settings = TrainSettings(activation_checkpointing=recompute, recompute_gelu=gelu)
    recompute_on_the_way_back(model, settings, torch.device("cpu"))
    set_dropout(model.train(), 0.0)
    if real:
        return _count(model, lambda: _fill(model), steps(model, batch_size, length, precision))
    with FakeTensorMode(allow_non_fake_inputs=True):  # the tables of NF4 are made on import
        taking = steps(model, batch_size, length, precision)
        return _count(model, lambda: model.to_empty(device="cpu"), taking)


def _count(
    model: GPT,
    give_memory: Callable[[], object],
    taking: Iterator[torch.optim.Optimizer],
) -> Count:
    with LiveBytes() as live:
        give_memory()
        weights = live.now
        optimizer = next(taking)
        gc.collect()  # what only a cycle of references holds would count for more than it is
        live.peak = live.now
        next(taking)
        trained = [p for p in model.parameters() if p.requires_grad]
        moments = [t for state in optimizer.state.values() for t in state.values()]
        peak = live.peak
    return Count(
        sum(p.numel() for p in trained),
        weights,
        sum(map(_size, (p.grad for p in trained))),
        sum(map(_size, moments)),
        peak,
    )


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _fill(model: GPT) -> None:
    """Small random numbers, and whole ones that any code may be."""
    model.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.normal_(std=0.02)
            else:
                tensor.random_(0, 256)


# ---- the process itself ----------------------------------------------------------------------

# How much a process of its own grows at most while it takes the same steps.
GROWN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from scripts.memory import PUBLISHED, GPTConfig, _fill, model_for, set_dropout, steps
size, method, rank, batch_size, length, recompute = sys.argv[2:]
def kept(name):
    told = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(told.split(name + ":")[1].split()[0]) * 1024
tiny = model_for(GPTConfig(64, 64, 1, 1, 64), method, 4)
_fill(tiny)
next(iter(steps(tiny, 1, 8)))  # so that libraries are loaded
before = kept("VmRSS")
model = model_for(PUBLISHED[size], method, int(rank))
_fill(model)
model.recompute = recompute == "True"
set_dropout(model.train(), 0.0)
taking = iter(steps(model, int(batch_size), int(length)))
next(taking), next(taking)
print(kept("VmHWM") - before)
"""


def grown(size: str, method: str, rank: int, batch_size: int, length: int, recompute: bool) -> int:
    if not Path("/proc/self/status").exists():
        raise UserError("--check reads /proc/self/status, which only Linux has")
    values = map(str, (ROOT, size, method, rank, batch_size, length, recompute))
    ended = subprocess.run([sys.executable, "-c", GROWN, *values], capture_output=True, text=True)
    if ended.returncode:
        raise UserError(f"the step failed:\n{ended.stderr.strip()}")
    return int(ended.stdout)


# ---- the table -------------------------------------------------------------------------------


def table(args: argparse.Namespace) -> str:
    """In decimal megabytes and gigabytes."""
    names = ["model", "tuning", "trained", "weights", "gradients", "AdamW", "peak"]
    names += ["with checkpointing"] + ["the process", "with checkpointing"] * args.check
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for size in args.size or SIZES:
        for method in args.method or METHODS:
            both = False, True  # without and with activation checkpointing
            counts = [
                count(
                    model_for(PUBLISHED[size], method, args.rank), *args.batch, recompute,
                    precision=args.precision,
                    recompute_gelu=args.recompute_gelu and not recompute,
                )
                for recompute in both
            ]  # fmt: skip
            peaks = [one.peak for one in counts]
            if args.check:
                peaks += [grown(size, method, args.rank, *args.batch, again) for again in both]
            cells = [size, method, f"{counts[0].trained:,}"]
            cells += [f"{n / 1e6:,.0f} MB" for n in counts[0][1:4]]
            cells += [f"{n / 1e9:.2f} GB" for n in peaks]
            lines.append(f"| {' | '.join(cells)} |")
            print(lines[-1], file=sys.stderr, flush=True)  # it takes a while
    return "\n".join(lines)


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(__doc__)
    parser.add_argument("--size", action="append", choices=list(PUBLISHED), help="again for more")
    parser.add_argument("--method", action="append", choices=METHODS, help="again for more")
    parser.add_argument("--rank", type=int, default=16, help="of LoRA (default: 16)")
    parser.add_argument("--batch-size", type=int, default=8, help="examples (default: 8)")
    parser.add_argument("--length", type=int, default=256, help="tokens of each (default: 256)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32",
                        help="of the arithmetic; weights stay fp32 (default: fp32)")  # fmt: skip
    parser.add_argument(
        "--recompute-gelu",
        action="store_true",
        help="as training does by itself for gpt2-xl on CUDA",
    )
    parser.add_argument("--check", action="store_true", help="take the steps for real as well")
    args = parser.parse_args()
    for name in ("rank", "batch_size", "length"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if args.length > 1024:
        parser.error("--length: these models see 1024 tokens")
    if args.check and (args.precision != "fp32" or args.recompute_gelu):
        parser.error("--check takes the plain step in fp32")
    args.batch = args.batch_size, args.length
    return args


def main() -> None:
    args = parse_arguments()
    size = f"{args.batch_size} x {args.length} tokens in {args.precision}"
    print(f"A step of {size}, LoRA of rank {args.rank}:")
    print(f"\n{table(args)}")


if __name__ == "__main__":
    run(main)
