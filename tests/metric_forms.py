"""The scores in the forms that tests compare: of one pair, of one corpus, of two lists."""

from collections.abc import Sequence

import numpy as np

from gpt.bootstrap import Comparison, comparison, resampled_sums
from gpt.overlap import bleu, bleu_counts


def sentence_bleu(reference: str, answer: str) -> float:
    return float(bleu(bleu_counts(reference, answer), whole_corpus=False))


def corpus_bleu(references: Sequence[str], answers: Sequence[str]) -> float:
    pairs = zip(references, answers, strict=True)
    counts = [bleu_counts(reference, answer) for reference, answer in pairs]
    return float(bleu(np.sum(counts, axis=0))) if counts else 0.0


def compare_means(a: np.ndarray, b: np.ndarray) -> Comparison:
    """Is a better than b? Both hold a score for each question, in the same order."""
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    means = resampled_sums(differences[:, None])[:, 0] / len(differences)
    return comparison(differences.mean(), means, len(differences))
