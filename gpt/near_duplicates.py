"""Near duplicates: records that say in nearly the same words what an earlier one has said.

They are found without comparing all with all. A text becomes the set of its runs of three words,
its shingles. MinHash: under a random hash, two sets have the same lowest member with a chance equal
to their Jaccard similarity, |A and B| / |A or B|. Five such lowest members in a row are a band, and
records that agree on any of 25 bands are candidates: nearly certain at a similarity of 0.8,
unlikely at 0.3. Only for candidates is the true similarity counted.

    python -m gpt.near_duplicates    # five records, what they share, and which of them are kept

Sources: Broder, "On the Resemblance and Containment of Documents" (1997); Lee et al.,
"Deduplicating Training Data Makes Language Models Better" (2022).
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from gpt.cli import run
from gpt.duplicates import (
    Duplicate,
    duplicate_prompts,
    exact_duplicates,
    normalized,
)
from gpt.records import Record, Turn

THRESHOLD = 0.8  # similarity: below it, tasks that differ only in their numbers begin to match
SHINGLE = 3  # words: two match by chance, five let one changed word hide a short duplicate
N_HASHES = 125  # 25 bands of 5 at a threshold of 0.8
MISSED = 1e-3  # the chance that we accept of overlooking a pair that is just at the threshold
NEIGHBOURS = 4  # records that each is compared with in a band: n that agree make 4n pairs, not n²

BLOCK = 1024  # records at a time: their numbers stay in a processor's cache
AT_ONCE = 2**22  # shingles compared at a time: 100 MB


def near_duplicates(records: Sequence[Record], threshold: float = THRESHOLD) -> list[Duplicate]:
    """Every record that is near an earlier one, with the first of its cluster.

    Two records are as similar as the less similar of their two halves, prompt and answer: another
    question about the same long article is another task, and so is another answer to a question.
    A near duplicate of a near duplicate is in the same cluster; `similarity` is to the first.
    Only words are compared: answers that differ in case or indentation alone are near duplicates.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"a similarity is above 0 and at most 1, not {threshold}")
    if len(records) < 2:
        return []
    sets = shingle_sets(records)
    one, other = _candidates(sets, threshold)
    similar = similarities(sets, one, other) >= threshold
    cluster = _clusters(len(records), one[similar].tolist(), other[similar].tolist())
    later = np.flatnonzero(cluster != np.arange(len(records)))
    first = cluster[later]
    similarity = similarities(sets, first, later)
    return list(map(Duplicate, later.tolist(), first.tolist(), similarity.tolist()))


class ShingleSets(NamedTuple):
    """The shingles of n records, as 2n sets in one flat array: 2i is a prompt, 2i + 1 its answer.

    A shingle is a 32-bit hash, so that a million records fit in half a gigabyte. Of two texts of a
    thousand words, one shingle in four thousand pairs is taken for one that it is not.
    """

    shingles: np.ndarray  # uint32, ascending and distinct within a set
    starts: np.ndarray  # int64, 2n + 1 of them: set i is shingles[starts[i] : starts[i + 1]]


def shingle_sets(records: Sequence[Record]) -> ShingleSets:
    flat, sizes = [], []
    with tqdm(total=len(records), desc="shingles", unit="record", delay=2, disable=None) as bar:
        for begin in range(0, len(records), BLOCK):
            block = records[begin : begin + BLOCK]
            halves = [words for record in block for words in _halves(record)]
            shingles, size = _distinct_shingles(halves)
            flat.append(shingles)
            sizes.append(size)
            bar.update(len(block))
    return ShingleSets(np.concatenate(flat), np.cumsum(np.concatenate([[0], *sizes])))


# A word; a character of Chinese or Japanese, which are written without blanks; or a sign that means
# something, as in `5 - 3`. Punctuation is left out: an answer with a full stop is the same answer.
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+|[^\w\s.,;:!?'\"]"
)


def _halves(record: Record) -> tuple[list[str], list[str]]:
    """The words that the model is given, and those that it should say."""
    given = " ".join(
        f"{turn.text} {turn.input}" for turn in record.turns if turn.role != "assistant"
    )
    said = " ".join(turn.text for turn in record.turns if turn.role == "assistant")
    return _WORD.findall(normalized(given)), _WORD.findall(normalized(said))


@lru_cache(maxsize=2**18)  # about all words of a language: 50 MB
def _word_hash(word: str) -> int:
    return int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _distinct_shingles(texts: list[list[str]]) -> tuple[np.ndarray, np.ndarray]:
    """The shingles of several texts, one text after the other, and how many each has."""
    for words in texts:
        words.extend([""] * (SHINGLE - len(words)))  # the shortest text is one shingle
    lengths = np.array([len(words) for words in texts])
    hashes = np.fromiter(map(_word_hash, chain.from_iterable(texts)), np.uint64, lengths.sum())
    mixed = np.zeros(len(hashes) - SHINGLE + 1, np.uint64)
    for place in range(SHINGLE):  # the hash of a run depends on the order of its words
        mixed = _mix(mixed + hashes[place : place + len(mixed)])
    text = np.repeat(np.arange(len(texts), dtype=np.uint64), lengths)[: len(mixed)]
    ends = np.cumsum(lengths)
    crosses = np.zeros(len(hashes), bool)
    for place in range(1, SHINGLE):  # a run may not begin in one text and end in the next
        crosses[ends - place] = True
    inside = ~crosses[: len(mixed)]
    keys = _distinct(text[inside] << _HALF | mixed[inside] >> _HALF)  # by text, then by shingle
    return keys.astype(np.uint32), np.bincount((keys >> _HALF).astype(np.int64))


_HALF = np.uint64(32)


def _distinct(numbers: np.ndarray) -> np.ndarray:
    """np.unique by sorting: its newer versions hash, which takes several times as long here."""
    numbers = np.sort(numbers)
    is_first = np.ones(len(numbers), bool)
    np.not_equal(numbers[1:], numbers[:-1], out=is_first[1:])
    return numbers[is_first]


def _mix(x: np.ndarray) -> np.ndarray:
    """A bijection of 64-bit numbers in which every bit depends on all: splitmix64's."""
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)


def similarities(sets: ShingleSets, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The similarity of each pair of records: of their prompts or answers, whichever is less."""
    return np.minimum(
        _jaccard(sets, 2 * one, 2 * other),
        _jaccard(sets, 2 * one + 1, 2 * other + 1),
    )


def _jaccard(sets: ShingleSets, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """|A and B| / |A or B| of each pair of sets, some millions of shingles at a time."""
    sizes = np.diff(sets.starts)
    total = sizes[one] + sizes[other]
    cuts = np.searchsorted(np.cumsum(total), np.arange(1, total.sum() // AT_ONCE + 1) * AT_ONCE)
    common = [
        _count_common(sets, *pair)
        for pair in zip(np.split(one, cuts), np.split(other, cuts), strict=True)
    ]
    shared = np.concatenate(common)
    return shared / (total - shared)


def _count_common(sets: ShingleSets, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Sort both sets of every pair together: what a pair shares then stands there twice."""
    keys = np.sort(np.concatenate([_with_pair_number(sets, one), _with_pair_number(sets, other)]))
    twice = keys[1:][keys[1:] == keys[:-1]]
    return np.bincount((twice >> _HALF).astype(np.int64), minlength=len(one))


def _with_pair_number(sets: ShingleSets, chosen: np.ndarray) -> np.ndarray:
    """The shingles of the chosen sets; the upper half of a number says which of them it is in."""
    begin, sizes = sets.starts[chosen], np.diff(sets.starts)[chosen]
    pair = np.repeat(np.arange(len(chosen)), sizes)
    within = np.arange(len(pair)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return pair.astype(np.uint64) << _HALF | sets.shingles[begin[pair] + within]


def rows_per_band(threshold: float) -> int:
    """As many hashes to a band as still find all but `MISSED` of the pairs at the threshold.

    The more agree in a band, the fewer candidates come up that are not similar enough.
    """
    for rows in range(N_HASHES, 1, -1):
        if (1 - threshold**rows) ** (N_HASHES // rows) <= MISSED:
            return rows
    return 1


def _candidates(sets: ShingleSets, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of records, the earlier first, that agree on a band and could be similar enough."""
    n = len(sets.starts) // 2
    pairs = np.empty(0, np.int64)
    for keys in tqdm(
        _band_keys(sets, rows_per_band(threshold)), desc="near pairs", delay=2, disable=None
    ):
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        for distance in range(1, NEIGHBOURS + 1):
            same = np.flatnonzero(keys[distance:] == keys[:-distance])
            pairs = np.concatenate([pairs, order[same] * n + order[same + distance]])
        pairs = _distinct(pairs)
    one, other = np.divmod(pairs, n)
    possible = _could_reach(sets, one, other, threshold)
    return one[possible], other[possible]


def _could_reach(
    sets: ShingleSets, one: np.ndarray, other: np.ndarray, threshold: float
) -> np.ndarray:
    """Sets whose sizes differ too much cannot be similar, whatever is in them."""
    sizes = np.diff(sets.starts).reshape(-1, 2)  # (n, prompt and answer)
    smaller, larger = np.minimum(sizes[one], sizes[other]), np.maximum(sizes[one], sizes[other])
    return (smaller >= threshold * larger).all(axis=1)


def _band_keys(sets: ShingleSets, rows: int) -> np.ndarray:
    """A number for each band and record: equal for two records that agree on the whole band."""
    random = np.random.PCG64(0).random_raw(2 * N_HASHES).reshape(-1, 2)  # the same for ever
    n_bands = N_HASHES // rows
    n = len(sets.starts) // 2
    keys = np.zeros((n_bands, n), np.uint64)
    with tqdm(total=n, desc="minhash", unit="record", delay=2, disable=None) as bar:
        for begin in range(0, n, BLOCK):
            end = min(begin + BLOCK, n)
            starts = sets.starts[2 * begin : 2 * end + 1]
            shingles = sets.shingles[starts[0] : starts[-1]].astype(np.uint64)
            answers = np.repeat(np.arange(len(starts) - 1) % 2 == 1, np.diff(starts))
            shingles[answers] += _ANSWER  # the same words mean another thing in an answer
            for i, (multiplier, offset) in enumerate(random[: n_bands * rows]):
                hashes = shingles * (multiplier | np.uint64(1)) + offset  # modulo 2**64
                lowest = np.minimum.reduceat(hashes, starts[:-1:2] - starts[0])
                keys[i // rows, begin:end] = _mix(keys[i // rows, begin:end] + lowest)
            bar.update(end - begin)
    return keys


_ANSWER = np.uint64(1 << 32)


def _clusters(n: int, one: list[int], other: list[int]) -> np.ndarray:
    """For each of n records, the first of all that are joined to it by a chain of pairs."""
    parent = list(range(n))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]  # halves the way for the next who asks
            i = parent[i]
        return i

    for a, b in zip(one, other, strict=True):
        first, second = sorted((root(a), root(b)))
        parent[second] = first
    return np.array([root(i) for i in range(n)])


def _demo() -> None:
    def record(line: int, prompt: str, answer: str) -> Record:
        return Record((Turn("user", prompt), Turn("assistant", answer)), "demo.json", line, {})

    records = [
        record(1, "Name the three primary colours of painting, please.", "Red, blue and yellow."),
        record(2, "name the three  PRIMARY colours of painting, please.", "Red, blue and yellow."),
        record(3, "Name the three primary colours of painting please", "Red, blue, and yellow"),
        record(4, "Name the three primary colours of painting, please.", "It depends."),
        record(5, "Name the three primary colours of light, please.", "Red, green and blue."),
    ]
    for line in records:
        print(f"{line.line}  {line.turns[0].text}  ->  {line.turns[1].text}")
    sets = shingle_sets(records)
    everyone = np.arange(len(records))
    for name, part in (("prompts", 0), ("answers", 1)):
        print(f"\nsimilarity of the {name}")
        for i in everyone:
            row = _jaccard(sets, np.full(len(records), 2 * i + part), 2 * everyone + part)
            print(i + 1, *(f"{value:5.2f}" for value in row))
    for name, found in (
        ("duplicate prompts", duplicate_prompts(records)),
        ("exact duplicates", exact_duplicates(records)),
        ("near duplicates", near_duplicates(records)),
    ):
        told = ", ".join(f"{d.index + 1} of {d.first + 1} ({d.similarity:.2f})" for d in found)
        print(f"\n{name}: {told}")


if __name__ == "__main__":
    run(_demo)
