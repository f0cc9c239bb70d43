"""How far a mean can be trusted: the same test again and again, on answers drawn from it.

    a score for each answer ─> resampled_sums ─> 10,000 means ─> interval, probability_better

A test set is a sample: another 110 questions would have given another mean. How different it could
have been is seen by drawing, with replacement, 110 of the 110 answers, many times over. The middle
95% of the means so drawn are the interval. Two models that answered the same questions are compared
on the same draws (paired), so that a hard question that was drawn twice is hard for both.

    python -m gpt.metrics       # intervals, and a comparison, from a few answers

Sources: Efron, "Bootstrap Methods" (1979); Koehn, "Statistical Significance Tests for Machine
Translation Evaluation" (2004), for drawing whole answers and scoring the corpus that they make;
Clopper and Pearson (1934), for what can be said of 0 out of n.
"""

from typing import NamedTuple

import numpy as np

N_RESAMPLES = 10_000  # another seed moves an interval's ends by about a hundredth of its width
LEVEL = 0.95
_MEMORY, _CACHE = 1 << 22, 1 << 17  # draws at once, of 8 bytes: 32 MB and 1 MB


class Score(NamedTuple):
    """A value, and the interval in which other answers like these would have put it."""

    value: float
    low: float
    high: float


class Comparison(NamedTuple):
    """What one of two has more than the other, on the same questions."""

    difference: float
    low: float
    high: float
    probability_better: float  # share of the draws in which it is ahead; a tie is half a lead
    n: int  # questions that both have answered


def resampled_sums(values: np.ndarray, n_resamples: int = N_RESAMPLES, seed: int = 0) -> np.ndarray:
    """Column sums over n rows drawn with replacement from the n rows of (n, k): (n_resamples, k).

    Columns are drawn together: those of one row stay beside each other.
    """
    values = np.asarray(values, dtype=np.float64)
    random = np.random.PCG64(seed)
    per_product = _even(_MEMORY // len(values))  # few large products: BLAS has threads to wake
    sums = []
    for start in range(0, n_resamples, per_product):
        n_draws = min(per_product, n_resamples - start)
        sums.append(_times_drawn(len(values), n_draws, random) @ values)
    return np.concatenate(sums)


def _times_drawn(n: int, n_draws: int, random: np.random.PCG64) -> np.ndarray:
    """How often each of n rows comes up in n draws: (n_draws, n), each row of it adds up to n.

    Made from PCG64's raw 64-bit numbers, two draws in each, which numpy promises to keep for good,
    as it does not those of a Generator (NEP 19).
    """
    times = np.empty((n_draws, n))
    per_pass = _even(_CACHE // n)
    for start in range(0, n_draws, per_pass):
        rows = min(per_pass, n_draws - start)
        drawn = random.random_raw((rows * n + 1) // 2).view(np.uint32)[: rows * n].astype(np.int64)
        drawn *= n
        drawn >>= 32  # a number below 2**32 to one below n
        drawn = drawn.reshape(rows, n) + n * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * n)
        times[start : start + rows] = counts.reshape(rows, n)
    return times


def _even(n: int) -> int:
    """2 or more: then no half of a number is left over between two pieces, however they are cut."""
    return max(2, n // 2 * 2)


def interval(value: float, resampled: np.ndarray) -> Score:
    """A value with the middle 95% of what it was in the draws."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled, (tail, 1 - tail))
    return Score(float(value), float(low), float(high))


def unanimous(value: float, n: int) -> Score:
    """The interval where all n answers score the same, and so does every draw: 10 of 10 are right.

    Even a model that is right in seven of ten cases is right ten times in a row one time in 35. So
    a share of cases may be otherwise, and the interval reaches to where n answers without one of
    them have a chance of 2.5%, which others leave beyond. What these cases score is not known:
    anything from 0 to 1. Of one answer, that is nearly all.
    """
    reach = 1 - ((1 - LEVEL) / 2) ** (1 / n)
    return Score(value, value * (1 - reach), value + (1 - value) * reach)


def mean_scores(values: np.ndarray, resampled: np.ndarray) -> list[Score]:
    """For each column of values from 0 to 1, (n, k), its mean with an interval."""
    n = len(values)
    scores = []
    for column, sums in zip(values.T, resampled.T, strict=True):
        first = float(column[0])
        if (column == first).all():
            scores.append(unanimous(first, n))
        else:
            scores.append(interval(column.mean(), sums / n))
    return scores


def mean_score(values: np.ndarray, seed: int = 0) -> Score:
    """One column's mean with its interval, for whoever has no other."""
    values = np.asarray(values, dtype=np.float64)[:, None]
    return mean_scores(values, resampled_sums(values, seed=seed))[0]


def comparison(
    value: float, resampled: np.ndarray, n: int, most: float = 1.0, less_is_better: bool = False
) -> Comparison:
    """A difference with its interval, and in how many of the draws it was for the better.

    most: the largest difference that can be. n questions say no more than n coins do, which all
    fall on one side by chance, too: one question in which one is ahead is no reason to be sure.
    """
    is_tie = np.abs(resampled) < 1e-9  # sums of the same numbers may differ in their last digits
    is_better = resampled < 0 if less_is_better else resampled > 0
    ahead = np.mean(is_better & ~is_tie) + np.mean(is_tie) / 2
    ahead = min(max(float(ahead), 0.5**n), 1 - 0.5**n)
    found = interval(value, resampled)
    if np.ptp(resampled) < 1e-9:
        _, low, high = unanimous((float(value) / most + 1) / 2, n)
        found = Score(float(value), (2 * low - 1) * most, (2 * high - 1) * most)
    return Comparison(*found, ahead, n)
