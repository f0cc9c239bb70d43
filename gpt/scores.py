"""From answers to means: what each answer scores, and what all of them, or some, come to.

    row ─> score_answer ─> AnswerScore ─┐
    row ─> score_answer ─> AnswerScore ─┼─> part_of ─> Part: tuned, base, and what was gained
    row ─> score_answer ─> AnswerScore ─┘

A Part is plain data with an interval beside each value. `metrics.py` puts Parts together to a
report and shows them: python -m gpt.metrics
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gpt.bootstrap import (
    Comparison,
    Score,
    comparison,
    interval,
    mean_scores,
    resampled_sums,
    unanimous,
)
from gpt.flags import FLAGS, flags_of
from gpt.likelihood import LARGEST_LOSS, Likelihood
from gpt.overlap import bleu, bleu_counts, exact_match, identical, rouge, token_f1, words

# The scores, in the order of tables. All are from 0 to 1 but for BLEU, from 0 to 100.
MEANS = ("identical", "exact_match", "f1", "rouge1", "rouge2", "rougeL")
SCORES = (*MEANS, "bleu")
LIKELIHOODS = ("perplexity", "bits_per_byte")  # of the references; the less, the better


class AnswerScore(NamedTuple):
    """One answer's."""

    identical: float
    exact_match: float
    f1: float
    rouge1: float
    rouge2: float
    rougeL: float
    bleu: float  # of this answer alone
    flags: tuple[str, ...]
    stopped: bool | None  # ended by itself; None where that is not known
    n_words: int
    n_tokens: int | None  # where the row says
    reference: Likelihood | None  # how surprised the model is by the right answer, likewise
    bleu_counts: np.ndarray  # what it adds to the BLEU of all


def score_answer(row: dict, base: bool = False) -> AnswerScore:
    """Score a row's answer, or the one of the base model."""
    reference, answer = row["output"], row["base_response" if base else "response"]
    reason = row.get("base_finish_reason" if base else "finish_reason")
    counts = bleu_counts(reference, answer)
    return AnswerScore(
        float(identical(reference, answer)),
        float(exact_match(reference, answer)),
        token_f1(reference, answer),
        *rouge(reference, answer),
        float(bleu(counts, whole_corpus=False)),
        flags_of(row["instruction"], row.get("input") or "", reference, answer, reason),
        None if reason is None else reason == "stop",
        len(words(answer)),
        row.get("n_base_tokens" if base else "n_tokens"),
        _reference(row, "base_output_nats" if base else "output_nats",
                   "n_base_output_tokens" if base else "n_output_tokens"),
        counts,
    )  # fmt: skip


def _reference(row: dict, nats_key: str, tokens_key: str) -> Likelihood | None:
    nats, n_tokens = row.get(nats_key), row.get(tokens_key)
    if nats is None or not n_tokens:
        return None
    return Likelihood(nats, n_tokens, len(row["output"].encode("utf-8", "surrogatepass")))


@dataclass
class Side:
    """What one model's answers come to."""

    n: int
    scores: dict[str, Score]
    flags: dict[str, int]  # how many answers have each
    stopped: Score | None  # the share that ended by itself, of those of which it is known
    mean_words: float
    mean_tokens: float | None
    likelihood: Likelihood | None  # of the references, where it was computed
    perplexity: Score | None
    bits_per_byte: Score | None

    def to_dict(self) -> dict:
        told = {
            "n": self.n,
            "scores": {name: score._asdict() for name, score in self.scores.items()},
            "flags": self.flags,
            "stopped": self.stopped._asdict() if self.stopped else None,
            "mean_words": self.mean_words,
            "mean_tokens": self.mean_tokens,
        }
        if self.likelihood is not None:
            told["references_read"] = self.likelihood.n
            for name in LIKELIHOODS:
                told[name] = getattr(self, name)._asdict()
        return told


@dataclass(frozen=True)
class Part:
    """Some of the questions, or all: the tuned model, the base model, and the difference."""

    name: str
    n: int
    mean_reference_words: float
    tuned: Side
    base: Side | None  # None where no row has an answer of the base model
    gain: dict[str, Comparison] | None  # tuned - base, where both have answered

    def to_dict(self) -> dict:
        gain = self.gain and {name: gain._asdict() for name, gain in self.gain.items()}
        return {
            "name": self.name,
            "n": self.n,
            "mean_reference_words": self.mean_reference_words,
            "tuned": self.tuned.to_dict(),
            "base": self.base and self.base.to_dict(),
            "gain": gain,
        }


# A row of numbers for each answer, whose sums say all: the means' scores, whether it is known how
# it ended and whether by itself, what is known of its reference, and BLEU's counts.
_N_MEANS = len(MEANS)
_STOPPED, _KNOWN, _NATS, _TOKENS, _BYTES = range(_N_MEANS, _N_MEANS + 5)
_COUNTS = slice(_N_MEANS + 5, None)


def _numbers(answers: Sequence[AnswerScore]) -> np.ndarray:
    rows = []
    for answer in answers:
        is_known = answer.stopped is not None
        of = answer.reference
        read = (of.nats, of.n_tokens, of.n_bytes) if of else (0, 0, 0)
        ended = answer.stopped or 0, is_known
        rows.append((*answer[:_N_MEANS], *ended, *read, *answer.bleu_counts))
    return np.array(rows, dtype=np.float64)


def part_of(
    name: str,
    tuned: list[AnswerScore],
    base: list[AnswerScore | None],
    mean_reference_words: float,
    seed: int,
) -> Part:
    """What some questions come to; base is None where the base model has no answer."""
    numbers = _numbers(tuned)
    have_both = [i for i, answer in enumerate(base) if answer is not None]
    base = [base[i] for i in have_both]
    base_side = gain = sums = None
    if base:
        # One set of draws for both, so that they are compared on the same questions.
        mine, theirs = numbers[have_both], _numbers(base)
        width = mine.shape[1]
        both = resampled_sums(np.hstack([mine, theirs]), seed=seed)
        base_side = _side(base, theirs, both[:, width:])
        gain = _gain(mine, both[:, :width], theirs, both[:, width:])
        if not np.array_equal(mine[:, _TOKENS] > 0, theirs[:, _TOKENS] > 0):
            gain.pop("bits_per_byte", None)  # they have not read the same references
        sums = both[:, :width] if len(base) == len(tuned) else None
    if sums is None:
        sums = resampled_sums(numbers, seed=seed)
    tuned_side = _side(tuned, numbers, sums)
    return Part(name, len(tuned), mean_reference_words, tuned_side, base_side, gain)


def _side(answers: Sequence[AnswerScore], numbers: np.ndarray, sums: np.ndarray) -> Side:
    means = mean_scores(numbers[:, :_N_MEANS], sums[:, :_N_MEANS])
    total = numbers.sum(axis=0)
    counts = Counter(flag for answer in answers for flag in answer.flags)
    tokens = [answer.n_tokens for answer in answers if answer.n_tokens is not None]
    n = len(answers)
    corpus_bleu = interval(bleu(total[_COUNTS]), bleu(sums[:, _COUNTS]))
    if corpus_bleu.high - corpus_bleu.low < 1e-9:  # nothing matches, or there is one answer
        corpus_bleu = Score(*(100 * end for end in unanimous(corpus_bleu.value / 100, n)))
    read = [answer.reference for answer in answers if answer.reference]
    return Side(
        n,
        dict(zip(SCORES, (*means, corpus_bleu), strict=True)),
        {flag: counts[flag] for flag in FLAGS},
        _stopped(total, sums),
        sum(answer.n_words for answer in answers) / n,
        sum(tokens) / len(tokens) if tokens else None,
        Likelihood.of_all(read) if read else None,
        interval(_perplexity(total), _perplexity(sums)) if read else None,
        interval(_bits_per_byte(total), _bits_per_byte(sums)) if read else None,
    )


def _perplexity(sums: np.ndarray) -> np.ndarray:
    loss = sums[..., _NATS] / np.maximum(sums[..., _TOKENS], 1)
    return np.exp(np.minimum(loss, LARGEST_LOSS))


def _bits_per_byte(sums: np.ndarray) -> np.ndarray:
    return sums[..., _NATS] / math.log(2) / np.maximum(sums[..., _BYTES], 1)


def _stopped(total: np.ndarray, sums: np.ndarray) -> Score | None:
    n_stopped, n_known = total[_STOPPED], int(total[_KNOWN])
    if n_known == 0:
        return None
    if n_stopped in (0, n_known):
        return unanimous(float(n_stopped > 0), n_known)
    return interval(n_stopped / n_known, sums[:, _STOPPED] / np.maximum(sums[:, _KNOWN], 1))


def _gain(
    mine: np.ndarray, my_sums: np.ndarray, theirs: np.ndarray, their_sums: np.ndarray
) -> dict[str, Comparison]:
    n = len(mine)
    gain = {}
    for i, name in enumerate(MEANS):
        drawn = (my_sums[:, i] - their_sums[:, i]) / n
        gain[name] = comparison((mine[:, i] - theirs[:, i]).mean(), drawn, n)
    value = bleu(mine[:, _COUNTS].sum(axis=0)) - bleu(theirs[:, _COUNTS].sum(axis=0))
    drawn = bleu(my_sums[:, _COUNTS]) - bleu(their_sums[:, _COUNTS])
    gain["bleu"] = comparison(value, drawn, n, most=100)
    n_read = int((mine[:, _TOKENS] > 0).sum())
    if n_read > 1:
        value = _bits_per_byte(mine.sum(axis=0)) - _bits_per_byte(theirs.sum(axis=0))
        drawn = _bits_per_byte(my_sums) - _bits_per_byte(their_sums)
        gain["bits_per_byte"] = comparison(
            value, drawn, n_read, most=max(8.0, abs(value)), less_is_better=True
        )
    return gain
