"""How fast N GPUs should be, by arithmetic: the model of docs/scaling.md, checked and applied.

python scripts/scaling.py            # beside published figures; four sizes on 8, 64 and 512 H100s

A step's seconds are those of computing, of what cannot be hidden of telling each other gradients
(and weights, with --shard), and of AdamW. docs/scaling.md has each term and each constant, where
it comes from, and a cell of the table computed by hand. Nothing here was measured on several GPUs.
"""

import sys
from dataclasses import dataclass
from math import ceil, log2
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without being installed

from gpt.cli import ArgumentParser, run
from gpt.config import PUBLISHED

FLOPS = 415e12  # a second, of an H100's 989e12: 42%, as the published runs of 1.3B have it
NODE = 8  # GPUs
INSIDE = 360e9  # bytes a second that each GPU sends, by NVLink
ACROSS = 320e9  # the same between nodes, where each GPU has a card of 400 Gb/s
START = 33e-6  # seconds until a call's bytes flow
HOP = 80e-6  # more of them for each doubling of the nodes
BUCKET = 25 * 2**20  # bytes that DDP tells at once
BACK = 2 / 3  # of computing is the way back, beneath which DDP can hide
JITTER = 0.012  # of computing, for each doubling beyond a node: what the published runs lose
TRAFFIC = 40  # bytes a parameter that clipping (12) and AdamW (28) move
MEMORY = 2.9e12  # bytes a second, of an H100's


@dataclass(frozen=True)
class Size:
    name: str
    n_params: float
    n_layer: int
    n_embd: int
    n_rest: float  # of the parameters, those that are in no block

    @property
    def n_blocks(self) -> float:
        return self.n_params - self.n_rest

    def flops(self, length: int) -> float:
        """Of a token, there and back."""
        return 6 * self.n_params + 12 * self.n_layer * self.n_embd * length


def call_seconds(n: int, n_bytes: float, n_calls: int = 1) -> float:
    """Of so many calls that send so many bytes in all, (n - 1) / n of them to other GPUs."""
    nodes = ceil(n / NODE)
    rate = INSIDE if nodes == 1 else ACROSS
    return n_calls * (START + HOP * log2(nodes)) + n_bytes * (n - 1) / n / rate


def ddp_seen(size: Size, n: int, beneath: float) -> float:
    """Seconds of telling that nothing hides, if the last way back takes `beneath`."""
    n_buckets = ceil(4 * size.n_blocks / BUCKET)
    of_blocks = call_seconds(n, 2 * 4 * size.n_blocks, n_buckets)
    of_rest = call_seconds(n, 2 * 4 * size.n_rest)  # known at the very end: wte is the head, too
    return max(0.0, of_blocks - beneath) + of_rest


def shard_seen(size: Size, n: int, beneath: float, parts: int) -> float:
    """The same of --shard, which gathers weights and tells gradients in each part."""
    in_all = call_seconds(
        n, 2 * 2 * size.n_blocks + 4 * size.n_rest + 4 * size.n_params, 3 * size.n_layer + 2
    )
    # Before the first block and after the last: the rest and one block, weights and gradients.
    at_ends = call_seconds(n, 2 * 4 * size.n_rest + (2 + 4) * size.n_blocks / size.n_layer, 4)
    return max(0.0, parts * (in_all - at_ends) - beneath) + parts * at_ends


def step_seconds(
    size: Size, n: int, tokens: int, length: int, shard: bool, parts: int = 1
) -> float:
    """tokens: of one GPU in a step, computed in so many parts."""
    computing = tokens * size.flops(length) / FLOPS
    waiting = 1 + JITTER * max(0.0, log2(n / NODE))
    adamw = TRAFFIC * size.n_params / MEMORY
    if n == 1:
        return computing + adamw
    if shard:
        return computing * waiting + shard_seen(size, n, computing, parts) + adamw / n
    return computing * waiting + ddp_seen(size, n, BACK * computing / parts) + adamw


def off(found: float, published: float) -> str:
    return f"{found / published - 1:+.0%}"


def gpt2_sizes() -> list[Size]:
    sizes = []
    for name, config in PUBLISHED.items():
        if name != "distilgpt2":
            rest = (config.vocab_size + config.n_ctx) * config.n_embd
            sizes.append(Size(name, config.n_params(), config.n_layer, config.n_embd, rest))
    return sizes


# ---- beside what was published: the page has the sources ----------------------------------------

# Microseconds of nccl-tests for 16, 32 and 64 MiB on H100s: what is called, GPUs, whose cluster.
CALLS = (
    ("all-reduce", 8, "Voltage Park", (125.88, 200.39, 328.56)),
    ("all-reduce", 16, "nccl-tests 309", (201.6, 274.8, 477.2)),
    ("all-reduce", 32, "Voltage Park", (272.07, 373.03, 579.49)),
    ("all-reduce", 32, "nccl-tests 309", (304.5, 413.7, 624.1)),
    ("all-reduce", 64, "nccl-tests 309", (378.1, 509.6, 718.1)),
    ("all-gather", 32, "Voltage Park", (233.04, 308.95, 390.73)),
)

# H100s of one node, 1,024 tokens a text: model, who, GPUs, tokens of one in a step, parts,
# tokens a second of one.
GPT2 = gpt2_sizes()[0]
KELLER = Size("1.5B, 52 layers", 52 * 12 * 1536**2 + 50304 * 1536, 52, 1536, 50304 * 1536)
ONE_NODE = (
    (GPT2, "gollem", 1, 65536, 1, 412307),
    (GPT2, "gollem", 2, 65536, 1, 782975 / 2),
    (GPT2, "gollem", 4, 65536, 1, 1526010 / 4),
    (GPT2, "gollem", 8, 65536, 1, 3046409 / 8),
    (KELLER, "modded-nanogpt", 8, 61440, 6, 491520 / 8 / 1.70357),
    (GPT2, "llm.c (not DDP)", 8, 65536, 1, 524288 / 8 / 0.140),
)


def mpt(name: str, n_params: float, n_layer: int, n_embd: int) -> Size:
    return Size(f"MPT-{name}", n_params, n_layer, n_embd, (50368 + 2048) * n_embd)


# llm-foundry's table of H100s in bf16, all of it FSDP: every row of at most 2,048 tokens a text
# that recomputes nothing. Length, GPUs, texts at once, times, tokens a second of one GPU.
MPT = {
    mpt("760m", 760470528, 24, 1536): (
        (2048, 8, 24, 2, 63147), (2048, 16, 24, 1, 68551), (2048, 32, 24, 1, 67971),
        (1024, 8, 48, 2, 78581), (512, 8, 96, 2, 83749)),
    mpt("1b", 1315950592, 24, 2048): (
        (2048, 8, 14, 1, 45455), (2048, 16, 20, 1, 46037), (2048, 32, 20, 1, 45130),
        (2048, 64, 20, 1, 44402), (1024, 8, 18, 4, 48910), (512, 8, 56, 4, 52275)),
    mpt("3b", 2651837440, 32, 2560): (
        (2048, 16, 10, 3, 24142), (2048, 32, 6, 3, 23021), (2048, 64, 6, 3, 22525),
        (1024, 8, 20, 6, 27046), (512, 8, 40, 6, 27965)),
    mpt("7b", 6658859008, 32, 4096): ((2048, 8, 6, 1, 10643),),
    mpt("13b", 12853954560, 40, 5120): (
        (2048, 8, 2, 1, 4792), (2048, 16, 2, 1, 4767), (2048, 32, 2, 1, 4811),
        (2048, 64, 2, 1, 4800)),
}  # fmt: skip


def checks_of_calls() -> list[str]:
    lines = ["| | GPUs | whose | 16 MiB | 32 MiB | 64 MiB |", "|---|---|---|---|---|---|"]
    for kind, n, whose, published in CALLS:
        cells = []
        for mib, micros in zip((16, 32, 64), published, strict=True):
            ways = 2 if kind == "all-reduce" else 1
            found = call_seconds(n, ways * mib * 2**20) * 1e6
            cells.append(f"{micros:.0f}, {found:.0f}: {off(found, micros)}")
        lines.append(f"| {kind} | {n} | {whose} | {' | '.join(cells)} |")
    return lines


def checks_of_ddp() -> list[str]:
    lines = [
        "| model | whose | GPUs | published tok/s a GPU | by the formula | off |",
        "|---|---|---|---|---|---|",
    ]
    for size, whose, n, tokens, parts, published in ONE_NODE:
        found = tokens / step_seconds(size, n, tokens, 1024, False, parts)
        cells = f"{n} | {published:,.0f} | {found:,.0f} | {off(found, published)}"
        lines.append(f"| {size.name} | {whose} | {cells} |")
    return lines


def checks_of_shard() -> list[str]:
    lines = [
        "| model | tokens a text | GPUs | published tok/s a GPU | by the formula | off |",
        "|---|---|---|---|---|---|",
    ]
    for size, rows in MPT.items():
        for length, n, at_once, parts, published in rows:
            tokens = at_once * parts * length
            found = tokens / step_seconds(size, n, tokens, length, True, parts)
            cells = f"{length:,} | {n} | {published:,} | {found:,.0f} | {off(found, published)}"
            lines.append(f"| {size.name} | {cells} |")
    return lines


# ---- what it predicts ---------------------------------------------------------------------------


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
    for title, lines in (
        ("Calls of NCCL, in microseconds: published, by the formula, off", checks_of_calls()),
        ("DDP beside what was published", checks_of_ddp()),
        ("FSDP beside what was published", checks_of_shard()),
        ("Prediction, 16,384 tokens a GPU and step, in texts of 256", predictions(16_384, 256)),
        ("Prediction, a step of 8 examples of 56 tokens in all", small_steps()),
    ):
        print(f"{title}:\n")
        print("\n".join(lines) + "\n")


if __name__ == "__main__":
    run(main)
