"""What is trained on: the same weights, ids and steps for all, and what they cost in arithmetic.

    records ─> template, tokenizer ─> Examples ─> Order ─> a few steps, as fair as a few can be

A round is a few optimizer steps, always the same ones. They are drawn evenly from the whole
epoch's, the short ones to the long, so that their mix of lengths is that of the set. The sample
comes in two groupings of the same examples: steps of like lengths, as our `--order buckets` and
TRL's `group_by_length` make them, and the same examples shuffled.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from gpt.config import PUBLISHED, GPTConfig
from gpt.encoding import encode_all
from gpt.errors import UserError
from gpt.model import GPT
from gpt.ordering import Order, padding_share
from gpt.records import load_records
from gpt.segments import Examples
from gpt.splitting import split_as_book
from gpt.template import Template
from gpt.tokenizer import Tokenizer
from gpt.weights import save_model

TINY = GPTConfig(n_ctx=512, n_layer=2, n_head=2, n_embd=32)  # for a test
SIZES = [*PUBLISHED, "tiny"]

LIKE_LENGTHS, SHUFFLED = "like lengths", "shuffled"


@dataclass(frozen=True)
class Work:
    """What every way is given. It crosses over to another process."""

    folder: Path  # a model's: weights, vocabulary, config
    config: GPTConfig
    examples: Examples
    prompts: list[list[int]]  # of the test records
    end_id: int
    device: str
    precision: str  # of the rounds; loss and gradient are always compared in fp32
    threads: int | None
    batch_size: int
    lr: float = 5e-5

    def pair(self, i: int) -> tuple[list[int], list[bool]]:
        """An example's ids and which are supervised, without its end token."""
        example = self.examples[i]
        return example.ids.tolist(), example.supervised.tolist()


@dataclass(frozen=True)
class Sample:
    """The steps of a round; of each grouping, the indices of every step's examples."""

    steps: dict[str, list[list[int]]]
    n_examples: int
    n_tokens: int  # real ones: no padding, no ends
    mean_length: float  # of the whole set, to hold the sample's to
    padding: dict[str, float]  # share of each grouping
    flops_per_token: float  # of the plain algorithm


def make_work(
    folder: Path,
    size: str,
    data: Path,
    vocabulary: Path,
    device: str,
    precision: str,
    threads: int | None,
    batch_size: int,
) -> Work:
    """Random weights, a vocabulary and a set of instructions, cut as the book cuts it."""
    tokenizer = Tokenizer.from_folder(vocabulary)
    if size == "tiny":
        config = replace(TINY, vocab_size=tokenizer.n_vocab, end_id=tokenizer.end_id)
    else:
        config = replace(PUBLISHED[size], end_id=tokenizer.end_id)
        if tokenizer.n_vocab != config.vocab_size:
            raise UserError(f"{vocabulary}: {tokenizer.n_vocab:,} tokens; {size} has 50,257")
    config = replace(config, dropout=0.0)
    torch.manual_seed(0)
    model = GPT(config)
    model.vocabulary = tokenizer.files
    save_model(model, folder)
    template = Template.from_name("alpaca")
    split = split_as_book(load_records([data]))
    examples = encode_all(split.train, tokenizer, template, config.n_ctx)
    prompts = [template.prompt_ids(tokenizer, record.turns[:-1]) for record in split.test]
    return Work(
        folder, config, examples, prompts, tokenizer.end_id, device, precision, threads, batch_size
    )


def sample_steps(work: Work, n_steps: int) -> Sample:
    """`n_steps` of an epoch, evenly from the shortest to the longest, in the epoch's own order."""
    lengths, size = work.examples.lengths, work.batch_size
    order = Order(lengths, size, seed=0, buckets=True, keep_last=False)
    steps = order.of_epoch(0)[: order.steps_per_epoch * size].reshape(-1, size)
    n_steps = min(n_steps, len(steps))
    by_tokens = np.argsort(lengths[steps].sum(1), kind="stable")
    places = ((np.arange(n_steps) + 0.5) * len(steps) / n_steps).astype(int)
    alike = steps[np.sort(by_tokens[places])]
    shuffled = np.random.default_rng(0).permutation(alike.ravel()).reshape(-1, size)
    groupings = {LIKE_LENGTHS: alike, SHUFFLED: shuffled}
    chosen = lengths[alike]
    return Sample(
        {name: grouping.tolist() for name, grouping in groupings.items()},
        int(chosen.size),
        int(chosen.sum()),
        float(lengths.mean()),
        {name: padding_share(list(grouping), lengths) for name, grouping in groupings.items()},
        flops_per_token(work.config, float((chosen**2).sum() / chosen.sum())),
    )


def flops_per_token(config: GPTConfig, length: float) -> float:
    """Of the plain algorithm, forward and backward: every matrix for every token, the head too.

    A multiplication and an addition for each weight on the way out, and twice that on the way back;
    and for each token, scores and a sum over the `length` tokens of its example, in every block.
    """
    C, L, V = config.n_embd, config.n_layer, config.vocab_size
    return 6 * (12 * L * C * C + V * C) + 3 * (4 * L * C * length)
