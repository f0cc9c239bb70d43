"""What the model would have said to the right answer: how surprised it is, and by which one most.

    examples ─> answer_likelihood ─> perplexity, bits per byte   of the answers it should give
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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gpt.batching import Batch, collate_weighted
from gpt.generate import evaluating
from gpt.loss import CHUNK_NUMBERS, summed_loss
from gpt.model import GPT, KVCache
from gpt.ordering import micro_batches
from gpt.segments import ANSWER, Examples
from gpt.tokenizer import Tokenizer


@dataclass(frozen=True)
class Likelihood:
    """Of all answers of a set together: sums, of which the means are taken once."""

    nats: float  # -log p of every answer token and every end
    n_tokens: int  # of them
    n_bytes: int  # of the answers' text; an end has none

    @property
    def mean_loss(self) -> float:
        return self.nats / self.n_tokens if self.n_tokens else math.nan

    @property
    def perplexity(self) -> float:
        return math.inf if self.mean_loss > 700 else math.exp(self.mean_loss)

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.n_bytes if self.n_bytes else math.nan


def answer_likelihood(
    model: GPT, tokenizer: Tokenizer, examples: Examples, max_tokens: int = 8192
) -> Likelihood:
    """How probable the model finds the answers of `examples`, in batches of `max_tokens`."""
    device = model.wte.weight.device
    indices, lengths = np.arange(len(examples)), examples.lengths
    max_tokens = max(max_tokens, int(lengths.max(initial=1)))  # the longest goes alone
    nats, n_tokens = 0.0, 0
    with torch.no_grad(), evaluating(model):
        for part in micro_batches(indices, lengths, by_length=True, max_tokens=max_tokens):
            batch = collate_weighted([examples[i] for i in part], tokenizer.end_id, 0.0)
            n_tokens += int(batch.weights.sum())
            inputs, targets, weights = (tensor.to(device) for tensor in batch[:3])
            nats += float(summed_loss(model, Batch(inputs, targets, weights)))
    answer_ids = examples.ids[examples.parts == ANSWER]
    used, times = np.unique(answer_ids, return_counts=True)
    sizes = [len(tokenizer.token_bytes(id)) for id in used.tolist()]
    return Likelihood(nats, n_tokens, int(np.dot(sizes, times)))


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
    with torch.no_grad(), evaluating(model):
        scores = _log_likelihoods(model, list(prompt_ids), encoded)
    return [
        Choice(text, score, len(ids), len(text.encode("utf-8", "surrogatepass")))
        for text, score, ids in zip(choices, scores, encoded, strict=True)
    ]


def ranked(choices: Sequence[Choice], by: str = "log_likelihood") -> list[int]:
    """The indices of choices, the most probable first: by log_likelihood, per_token or per_byte."""
    return sorted(range(len(choices)), key=lambda i: -getattr(choices[i], by))


def _log_likelihoods(model: GPT, prompt: list[int], encoded: list[list[int]]) -> list[float]:
    """The prompt is read once. All choices go on from its keys and values, some at a time."""
    device = model.wte.weight.device
    *before, last = prompt  # each choice is told by what the prompt's last token expects
    prefix = model.new_cache(1, max(1, len(before)))
    if before:
        model.hidden(torch.tensor([before], device=device), cache=prefix)
    longest = max(map(len, encoded))
    at_once = max(1, CHUNK_NUMBERS // (longest * model.config.vocab_size))
    scores: list[float] = []
    for start in range(0, len(encoded), at_once):
        some = encoded[start : start + at_once]
        cache = _repeated(model, prefix, len(some), longest)
        inputs = torch.tensor([_padded([last, *ids[:-1]], longest) for ids in some], device=device)
        targets = torch.tensor([_padded(ids, longest) for ids in some], device=device)  # (B, T)
        is_real = _padded_mask(some, longest).to(device)
        logits = model.head(model.hidden(inputs, cache=cache)).float()  # (B, T, V)
        of_targets = logits.gather(2, targets[:, :, None]).squeeze(2) - logits.logsumexp(2)
        scores += of_targets.masked_fill(~is_real, 0.0).sum(1).tolist()
    return scores


def _repeated(model: GPT, cache: KVCache, n: int, room: int) -> KVCache:
    """A cache of one row as n equal rows, with room for more tokens."""
    rows = model.new_cache(n, cache.length + room)
    for layer, (keys, values) in enumerate(zip(cache.keys, cache.values, strict=True)):
        rows.extend(layer, keys[:, :, : cache.length], values[:, :, : cache.length])
    rows.length = cache.length
    return rows


def _padded(ids: list[int], length: int) -> list[int]:
    return ids + [0] * (length - len(ids))  # on the right, where no earlier token sees it


def _padded_mask(rows: Sequence[list[int]], length: int) -> Tensor:
    n_real = torch.tensor([len(ids) for ids in rows])
    return torch.arange(length)[None, :] < n_real[:, None]  # (B, T)
