"""How much of a reference answer stands in an answer: six ways to count, from strict to lenient.

    responses.jsonl ─> (reference, answer) ─> identical, exact match, F1, BLEU, ROUGE ─> metrics.py

They are the usual ones, and give what the usual packages give: exact match and F1 as SQuAD's
scorer, BLEU as sacrebleu, ROUGE as rouge-score on the same words. None of them understands a text.
"Lima." for "The capital is Lima." is right and shares one word of four; "The capital is Rome."
shares three. Read them together, with the answers beside them.

    python -m gpt.metrics       # these counts on a few answers, and what can be said of their mean

Sources: Rajpurkar et al., "SQuAD" (2016), and the scorer of its version 2.0; Papineni et al.,
"BLEU" (2002), and NIST's mteval-v13a for its tokens and smoothing; Post, "A Call for Clarity in
Reporting BLEU Scores" (2018); Lin, "ROUGE" (2004); Hyyrö, "Bit-Parallel LCS-length Computation
Revisited" (2004).
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from gpt.duplicates import normalized

# ---- exact match and F1 ---------------------------------------------------------------------


def identical(reference: str, answer: str) -> bool:
    """Character for character, blanks at either end apart: for spelling, case and punctuation,
    which `exact_match` forgives.
    """
    return _composed(reference) == _composed(answer)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip())


_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def squad_words(text: str) -> list[str]:
    """Lower case, without ASCII punctuation, without English articles.

    A text in another language loses nothing but words that look like an English article; its
    quotation marks stay.
    """
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def exact_match(reference: str, answer: str) -> bool:
    return squad_words(reference) == squad_words(answer)


def token_f1(reference: str, answer: str) -> float:
    """How many words the two share, whatever their order: 1 if all, 0 if none.

    A text of articles and punctuation alone has no words, and then only another such text is right.
    """
    expected, found = squad_words(reference), squad_words(answer)
    if not expected or not found:
        return float(expected == found)
    return _f1((Counter(expected) & Counter(found)).total(), len(expected), len(found))


def _f1(n_common: int, n_reference: int, n_answer: int) -> float:
    """The harmonic mean of precision (of the answer's) and recall (of the reference's)."""
    return 2 * n_common / (n_reference + n_answer) if n_common else 0.0


# ---- BLEU -----------------------------------------------------------------------------------

_ORDERS = 4  # runs of one, two, three and four tokens

# NIST's rules, in their order: each sign is a token, but for ' which stays with its letters, and
# . , - beside digits (3.14 is one token, and so is 1,000; 7-8 is 7 - 8).
_ESCAPED = {"&quot;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">"}
_SIGNS = re.escape("".join(c for c in string.punctuation if c not in "',-."))
_BLEU_RULES = (
    (re.compile(f"([{_SIGNS}])"), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


def bleu_tokens(text: str) -> list[str]:
    """The tokens of mteval-v13a, in which case counts."""
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for escaped, character in _ESCAPED.items():
        text = text.replace(escaped, character)
    text = f" {text} "
    for pattern, replacement in _BLEU_RULES:
        text = pattern.sub(replacement, text)
    return text.split()


def bleu_counts(reference: str, answer: str) -> np.ndarray:
    """What BLEU has to know of an answer: int64 (10,). Those of many add up to a corpus's.

    Tokens of the answer, tokens of the reference; the answer's runs of 1 to 4 tokens that the
    reference has too, and all of the answer's runs of 1 to 4.
    """
    expected, found = bleu_tokens(reference), bleu_tokens(answer)
    matched, total = [], []
    for n in range(1, _ORDERS + 1):
        runs = _runs(found, n)
        matched.append((runs & _runs(expected, n)).total())
        total.append(runs.total())
    return np.array([len(found), len(expected), *matched, *total])


def bleu(counts: np.ndarray, whole_corpus: bool = True) -> np.ndarray:
    """From counts (…, 10) to BLEU (…), from 0 to 100: corpora, or with whole_corpus=False answers.

    BLEU is the geometric mean of four precisions, of runs of 1, 2, 3 and 4 tokens, and less where
    the answers are shorter than the references. A precision without a match would make it 0: the
    first such counts as half a match, the second as a quarter, and so on. An answer of two tokens
    has no runs of three; its own BLEU leaves those precisions out, while a corpus's is 0.
    """
    counts = np.asarray(counts, dtype=np.float64)
    n_answer, n_reference = counts[..., 0], counts[..., 1]
    matched, total = counts[..., 2 : 2 + _ORDERS], counts[..., 2 + _ORDERS :]
    exists = total > 0  # of the four, those that have any runs come first
    n_unmatched = np.cumsum(exists & (matched == 0), axis=-1)
    numerator = np.where(matched == 0, 0.5**n_unmatched, matched)
    logs = np.log(numerator / np.where(exists, total, 1.0), where=exists, out=np.zeros(total.shape))
    n_orders = exists.sum(axis=-1)
    mean_log = logs.sum(axis=-1) / np.maximum(n_orders if not whole_corpus else _ORDERS, 1)
    length_ratio = n_reference / np.maximum(n_answer, 1)
    score = 100 * np.exp(mean_log + np.minimum(0, 1 - length_ratio))
    is_defined = matched.any(axis=-1) & ((n_orders == _ORDERS) | (not whole_corpus))
    return np.where(is_defined, score, 0.0)


def _runs(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[i:] for i in range(n)), strict=False))


# ---- ROUGE ----------------------------------------------------------------------------------

# Scripts that put no blanks between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese.
_UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x3400, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x323AF),
)


class _WordCharacters(dict[int, str]):
    """For str.translate: what becomes of a character where words are wanted, looked up once."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kind = unicodedata.category(character)
        if kind == "So" or any(first <= code <= last for first, last in _UNSPACED):
            self[code] = f" {character} "  # a word of its own, as is an emoji
        elif kind[0] in "LMN" or character in "-_":  # letters, their marks, digits
            self[code] = character
        else:
            self[code] = " "
        return self[code]


_WORD_CHARACTERS = _WordCharacters()


def words(text: str) -> list[str]:
    """The words of a text in any language, upper case as lower case.

    A hyphen belongs to its word: -34 is not 34. Where a script writes no blanks, each character
    counts as a word.
    """
    return normalized(text).translate(_WORD_CHARACTERS).split()


_NOT_ASCII_WORD = re.compile("[^a-z0-9]+")


def ascii_words(text: str) -> list[str]:
    """The words of the package rouge-score, for comparing with numbers that it made.

    To it, everything but a to z and 0 to 9 is a blank: "çok güzel" is "ok", "g" and "zel".
    """
    return _NOT_ASCII_WORD.sub(" ", text.lower()).split()


class Rouge(NamedTuple):
    """F1 over what two texts share: words, pairs of words, the longest common subsequence."""

    rouge1: float
    rouge2: float
    rougeL: float


def rouge(reference: str, answer: str, words: Callable[[str], list[str]] = words) -> Rouge:
    expected, found = words(reference), words(answer)
    shared = [(_runs(expected, n) & _runs(found, n)).total() for n in (1, 2)]
    return Rouge(
        _f1(shared[0], len(expected), len(found)),
        _f1(shared[1], len(expected) - 1, len(found) - 1),
        _f1(longest_common(expected, found), len(expected), len(found)),
    )


def longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence: words in the same order, others between.

    The textbook fills a table, len(a) x len(b). One of its rows differs from column to column by
    0 or 1, so it is a row of bits, and Python's integers hold one of any length: a new row is four
    operations. A bit of `row` is 0 where the table grows by one.
    """
    where: dict[str, int] = {}
    for i, word in enumerate(a):
        where[word] = where.get(word, 0) | 1 << i
    row = full = (1 << len(a)) - 1
    for word in b:
        matches = row & where.get(word, 0)
        row = (row + matches | row - matches) & full
    return len(a) - row.bit_count()
