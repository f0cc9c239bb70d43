"""How fast N GPUs should be, by arithmetic: the model of docs/scaling.md, checked and applied.

python scripts/scaling.py            # beside published figures; four sizes on 8, 64 and 512 H100s

A step's seconds are those of computing, of what cannot be hidden of telling each other gradients
(and weights, with --shard), and of AdamW. Nothing here was measured on several GPUs.
"""

import sys
from dataclasses import dataclass
from math import log2
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without being installed

from gpt.cli import ArgumentParser, run
from gpt.config import PUBLISHED

FLOPS = 415e12  # a second, of an H100's 989e12: 42%, as the published runs of 1.3B have it
NODE = 8  # GPUs
INSIDE, ACROSS = 360e9, 320e9  # bytes a second of a ring: NVLink; a 400 Gb/s card for each GPU
START, HOP = 30e-6, 10e-6  # seconds until a collective begins; and more for each doubling of nodes
BUCKET = 25 * 2**20  # bytes that DDP tells at once
BACK = 2 / 3  # of computing is the way back, beneath which DDP can hide
JITTER = 0.012  # of a step, for each doubling beyond a node: what the published runs lose
ADAMW = 16 / 3.0e12 * 2  # seconds a parameter: 28 bytes of traffic, measured as about 32 at 3 TB/s


@dataclass(frozen=True)
class Size:
    name: str
    n_params: float
    n_layer: int
    n_embd: int
    n_rest: float = 0.0  # of the parameters, those that are in no block

    def flops(self, length: int) -> float:
        """Of a token, there and back."""
        return 6 * self.n_params + 12 * self.n_layer * self.n_embd * length


def step_seconds(
    size: Size, n: int, tokens: int, length: int, shard: bool, parts: int = 1
) -> float:
    """tokens: of one GPU in a step, computed in so many parts."""
    computing = tokens * size.flops(length) / FLOPS
    nodes = -(-n // NODE)
    per_second = INSIDE if nodes == 1 else ACROSS
    latency = START + HOP * log2(nodes)
    of_all = (n - 1) / n
    adamw = ADAMW * size.n_params
    if shard:
        blocks = size.n_params - size.n_rest
        n_bytes = parts * of_all * (2 * 2 * blocks + 4 * size.n_rest + 4 * size.n_params)
        telling = n_bytes / per_second + parts * 3 * (size.n_layer + 1) * latency
        # The first block's weights and the last one's gradients have nothing to hide beneath.
        seen = max(telling - computing, telling / (3 * size.n_layer))
        adamw /= n
    else:
        n_buckets = max(1, 4 * size.n_params / BUCKET)
        telling = 2 * of_all * 4 * size.n_params / per_second + n_buckets * latency
        beneath = BACK * computing / parts  # in the last part alone
        seen = max(telling - beneath, telling / n_buckets)
    waiting = 1 + JITTER * max(0.0, log2(n / NODE))
    return computing * waiting + (seen if n > 1 else 0.0) + adamw


# llm-foundry's table for H100s, in bf16 at 2,048 tokens, all of it FSDP: GPUs, sequences at once,
# times, tokens a second of one GPU.
MPT = {
    "760m": (Size("760m", 760.5e6, 24, 1536), ((16, 24, 1, 68551), (32, 24, 1, 67971))),
    "1b": (Size("1b", 1315.9e6, 24, 2048), (
        (8, 14, 1, 45455), (16, 20, 1, 46037), (32, 20, 1, 45130), (64, 20, 1, 44402))),
    "3b": (Size("3b", 2651.8e6, 32, 2560), (
        (16, 10, 3, 24142), (32, 6, 3, 23021), (64, 6, 3, 22525))),
    "13b": (Size("13b", 12854e6, 40, 5120), (
        (8, 2, 1, 4792), (16, 2, 1, 4767), (32, 2, 1, 4811), (64, 2, 1, 4800))),
}  # fmt: skip


def gpt2_sizes() -> list[Size]:
    sizes = []
    for name, config in PUBLISHED.items():
        if name != "distilgpt2":
            rest = (config.vocab_size + config.n_ctx) * config.n_embd
            sizes.append(Size(name, config.n_params(), config.n_layer, config.n_embd, rest))
    return sizes


def checks() -> list[str]:
    lines = [
        "| model | GPUs | published tok/s a GPU | by the formula | off |",
        "|---|---|---|---|---|",
    ]
    for size, rows in MPT.values():
        for n, at_once, parts, published in rows:
            tokens = at_once * parts * 2048
            found = tokens / step_seconds(size, n, tokens, 2048, True, parts)
            off = found / published - 1
            lines.append(f"| MPT-{size.name} | {n} | {published:,} | {found:,.0f} | {off:+.0%} |")
    return lines


def predictions(tokens: int, length: int) -> list[str]:
    lines = [
        "| model | GPUs | DDP tok/s | of n times one | --shard tok/s | of n times one |",
        "|---|---|---|---|---|---|",
    ]
    for size in gpt2_sizes():
        alone = tokens / step_seconds(size, 1, tokens, length, False)
        for n in (8, 64, 512):
            cells = []
            for shard in (False, True):
                whole = n * tokens / step_seconds(size, n, tokens, length, shard)
                cells.append(f"{whole / 1e6:,.2f}M | {whole / (n * alone):.0%}")
            lines.append(f"| {size.name} | {n} | {' | '.join(cells)} |")
    return lines


def small_steps() -> list[str]:
    lines = ["| model | 1 GPU | 8 GPUs |", "|---|---|---|"]
    for size in gpt2_sizes():
        one = step_seconds(size, 1, 8 * 56, 56, False)
        eight = step_seconds(size, 8, 56, 56, False)
        lines.append(f"| {size.name} | {one * 1e3:.1f} ms | {eight * 1e3:.1f} ms |")
    return lines


def main() -> None:
    ArgumentParser(__doc__).parse_args()
    print("Beside what was published:\n")
    print("\n".join(checks()))
    print("\nPrediction, 16,384 tokens a GPU and step, in texts of 256:\n")
    print("\n".join(predictions(16_384, 256)))
    print("\nPrediction, a step of 8 examples of 56 tokens in all:\n")
    print("\n".join(small_steps()))


if __name__ == "__main__":
    run(main)
