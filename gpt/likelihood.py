"""What the model would have said to the right answer: how surprised it is, and by which one most.

    prompts, answers ─> answer_nats ─> Likelihood: perplexity, bits per byte
    a prompt and choices ─> score_choices ─> which one it holds for right: multiple-choice tests

No answer is written here. The model reads each answer, and at each token it is asked how probable
that token was. Perplexity is e to the mean surprise a token: 1 where it knew all along, V where it
knew nothing. It depends on how a vocabulary cuts the text. Bits per byte do not: the surprise of
whole answers, ends included, by the bytes of their text, so that models with other vocabularies
can stand side by side.

    python -m gpt.metrics       # perplexity before and after learning, and choices ranked

Sources: Brown et al., "Language Models are Few-Shot Learners" (2020), 2.4, for ranking answers by
their likelihood, as such and by length; EleutherAI's lm-evaluation-harness for by bytes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from gpt.loss import surprise
from gpt.model import GPT, KVCache, evaluating
from gpt.ordering import micro_batches
from gpt.preamble import n_alike
from gpt.tokenizer import Tokenizer

LARGEST_LOSS = 700.0  # its exponential is still a number
_AT_ONCE = {"cpu": 512}  # tokens in one pass: more no longer fit its caches (as in passes.py)


@dataclass(frozen=True)
class Likelihood:
    """Of all answers of a set together: sums, of which the means are taken once."""

    nats: float  # -log p of every answer token and every end
    n_tokens: int  # of them
    n_bytes: int  # of the answers' text; an end has none
    n: int = 1  # answers

    @classmethod
    def of_all(cls, some: Iterable["Likelihood"]) -> "Likelihood":
        parts = [(one.nats, one.n_tokens, one.n_bytes, one.n) for one in some]
        return cls(*map(sum, zip(*parts, strict=True)))

    @property
    def mean_loss(self) -> float:
        return self.nats / self.n_tokens if self.n_tokens else math.nan

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.mean_loss, LARGEST_LOSS))

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.n_bytes if self.n_bytes else math.nan


def answer_nats(
    model: GPT, rows: Sequence[tuple[Sequence[int], Sequence[int]]], max_tokens: int | None = None
) -> list[float]:
    """-log p of each row's answer behind its prompt, both as ids: summed over the answer's ids.

    What all prompts begin with is read once, for all rows. These then go on from its keys and
    values, the longest first, so many at once that they are at most `max_tokens` with padding.
    """
    if not rows:
        return []
    device = model.wte.weight.device
    n = n_alike([prompt for prompt, _ in rows])  # (the answer's first is told by the last id)
    rests = [[*prompt[n:], *answer[:-1]] for prompt, answer in rows]  # the last id is never read
    lengths = np.array([len(rest) for rest in rests])
    max_tokens = max(max_tokens or _AT_ONCE.get(device.type, 8192), int(lengths.max()))
    nats = [0.0] * len(rows)
    with torch.no_grad(), evaluating(model):
        prefix = model.new_cache(1, max(1, n))
        if n:
            model.hidden(torch.tensor([rows[0][0][:n]], device=device), cache=prefix)
        parts = micro_batches(np.arange(len(rows)), lengths, by_length=True, max_tokens=max_tokens)
        for part in parts:
            longest = int(lengths[part].max())
            inputs = torch.tensor([_padded(rests[i], longest) for i in part], device=device)
            hidden = model.hidden(inputs, cache=_repeated(model, prefix, len(part), longest))
            places = [
                (at, len(rows[i][0]) - n - 1 + t)  # an id is told by what stands before it
                for at, i in enumerate(part)
                for t in range(len(rows[i][1]))
            ]
            of_rows, columns = torch.tensor(places, device=device).T
            targets = torch.tensor([id for i in part for id in rows[i][1]], device=device)
            each = surprise(hidden[of_rows, columns], model.wte.weight, targets)
            for i in part:
                n_answer = len(rows[i][1])
                nats[i], each = math.fsum(each[:n_answer]), each[n_answer:]
    return nats


class Choice(NamedTuple):
    """A given answer, and how probable the model finds it behind the prompt."""

    text: str
    log_likelihood: float  # of all its tokens; favours what is short
    n_tokens: int
    n_bytes: int

    @property
    def per_token(self) -> float:
        return self.log_likelihood / self.n_tokens

    @property
    def per_byte(self) -> float:
        return self.log_likelihood / self.n_bytes


def score_choices(
    model: GPT,
    tokenizer: Tokenizer,
    prompt_ids: Sequence[int],
    choices: Sequence[str],
    with_end: bool = False,
) -> list[Choice]:
    """The choices in their order, each with its log-likelihood as the answer to the prompt.

    with_end: the end token has to follow, so that "5" gains nothing from being where "50" begins.
        That is how a tuned model answers. A base model has not learned to end, and other programs
        leave it out.
    """
    if not len(prompt_ids):
        raise ValueError("a choice is scored behind a prompt, and this one has no token")
    end = [tokenizer.end_id] if with_end else []
    encoded = [[*tokenizer.encode(text), *end] for text in choices]
    for text in choices:
        if not text:
            raise ValueError("a choice without text has no likelihood for its length")
    if not encoded:
        return []
    nats = answer_nats(model, [(list(prompt_ids), ids) for ids in encoded])
    return [
        Choice(text, -surprise, len(ids), len(text.encode("utf-8", "surrogatepass")))
        for text, surprise, ids in zip(choices, nats, encoded, strict=True)
    ]


def ranked(choices: Sequence[Choice], by: str = "log_likelihood") -> list[int]:
    """The indices of choices, the most probable first: by log_likelihood, per_token or per_byte."""
    return sorted(range(len(choices)), key=lambda i: -getattr(choices[i], by))


def _repeated(model: GPT, cache: KVCache, n: int, room: int) -> KVCache:
    """A cache of one row as n equal rows, with room for more tokens."""
    rows = model.new_cache(n, cache.length + room)
    for layer, (keys, values) in enumerate(zip(cache.keys, cache.values, strict=True)):
        rows.extend(layer, keys[:, :, : cache.length], values[:, :, : cache.length])
    rows.length = cache.length
    return rows


def _padded(ids: list[int], length: int) -> list[int]:
    return ids + [0] * (length - len(ids))  # on the right, where no earlier token sees it
