"""Learn a byte-level BPE vocabulary from text: which bytes are worth a token of their own.

    texts ─> pieces, each counted once ─> merges, the most frequent pair first ─> vocabulary files

Begin with the 256 bytes. Find the two neighbours that stand side by side most often, make them a
token, join them wherever they stand, and do it again until the vocabulary is full. Every text can
be written with it, as every byte is in it, and what is frequent takes few tokens. `tokenizer.py`
encodes with the list of merges that this leaves.

Done as it is told, each round reads the whole text. Three things make 50 MB a matter of seconds:
a text is a few thousand different pieces, so each is kept once, with its count; a merge changes
only the pieces that hold the pair, so only their pairs are counted anew; and a heap knows the most
frequent pair. (A count in the heap may be old. It is compared with the true one when it comes up.)

    python -m gpt.bpe           # how a sentence gets shorter as merges are learned

Sources: Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units" (2016);
Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), section 2.2.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

import regex  # tiktoken brings it: `re` knows no \p{L}, which is any letter of any language

from gpt.byte_alphabet import spell
from gpt.cli import run
from gpt.errors import UserError
from gpt.tokenizer import PIECES, Tokenizer, join_all, tiny_vocabulary

Pair = tuple[str, str]

_PIECES = regex.compile(PIECES)
_CUT = regex.compile(r"(?<=\S)(?=\s)")  # before white space, no piece goes on
_PART = 1 << 20  # characters: the list of a whole book's pieces takes ten times its memory


class VocabularyError(UserError):
    """A vocabulary of this size can't be learned, or not from this text."""


def train_vocabulary(texts: Iterable[str], vocab_size: int) -> dict[str, bytes]:
    """Vocabulary files of exactly vocab_size tokens: the bytes, what is learned, the end token."""
    n_learned = vocab_size - 257
    if n_learned < 0:
        raise VocabularyError(
            f"a vocabulary of {vocab_size:,} is too small: the bytes and the end token are 257"
        )
    pieces = count_pieces(texts)
    merges = frequent_merges(pieces, n_learned)
    if len(merges) < n_learned:
        raise VocabularyError(
            f"too little text for a vocabulary of {vocab_size:,}: with {257 + len(merges):,} each "
            f"of its {len(pieces):,} different words is a token; give more text or a smaller size"
        )
    return tiny_vocabulary(merges)


def count_pieces(texts: Iterable[str]) -> Counter[str]:
    """How often each piece occurs that the tokenizer would cut these texts into."""
    pieces = Counter()
    for text in texts:
        for part in _parts(text):
            pieces.update(_PIECES.findall(part))
    return pieces


def _parts(text: str) -> Iterator[str]:
    start = 0
    while cut := _CUT.search(text, start + _PART):
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]


def frequent_merges(pieces: Mapping[str, int], n: int) -> list[Pair]:
    """n merges in their order, fewer where no pair is left. Each makes a token that is new.

    Of equally frequent pairs the last of the alphabet goes first, as in `tokenizer.learn_merges`,
    which is this without the three shortcuts: the order of the texts makes no difference.
    """
    words = [list(spell(_utf8(piece))) for piece in pieces]
    counts = list(pieces.values())
    total, where = Counter(), defaultdict(set)  # of each pair: how often, and in which words
    for w, (word, count) in enumerate(zip(words, counts, strict=True)):
        for pair in pairwise(word):
            total[pair] += count
            where[pair].add(w)
    heap = [_Frequent(count, pair) for pair, count in total.items()]
    heapq.heapify(heap)

    merges = []
    while heap and len(merges) < n:
        count, pair = heapq.heappop(heap)
        if count != total[pair]:
            continue  # it has changed since, and the heap has the new count too
        merges.append(pair)
        change = Counter()
        for w in where.pop(pair):
            joined = join_all(words[w], *pair)
            for old in pairwise(words[w]):
                change[old] -= counts[w]
            for new in pairwise(joined):
                change[new] += counts[w]
                where[new].add(w)
            words[w] = joined
        for changed, by in change.items():
            total[changed] += by
            if by and total[changed]:
                heapq.heappush(heap, _Frequent(total[changed], changed))
    return merges


class _Frequent(NamedTuple):
    """A pair in a heap, whose least is the most frequent."""

    count: int
    pair: Pair

    def __lt__(self, other: "_Frequent") -> bool:
        return (self.count, self.pair) > (other.count, other.pair)


def _utf8(text: str) -> bytes:
    """As the tokenizer reads it: half of a surrogate pair, which is no character, is U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _demo() -> None:
    texts = [
        "The hen lives on a farm. The hen has chicks, and the chicks live with the hen.",
        "The cow lives on a farm. The cow has a calf, and the calf lives with the cow.",
        "The sheep lives on a farm. The sheep has a lamb, and the lamb lives with the sheep.",
    ]
    sentence = "The lamb lives with the hen."
    pieces = count_pieces(texts)
    print(
        f"{sum(pieces.values())} words and signs, {len(pieces)} different ones. The most frequent:"
    )
    print("  " + ", ".join(f"{piece!r} {count}" for piece, count in pieces.most_common(6)))
    print(f"\n{sentence!r} takes fewer tokens as merges are learned:")
    for n in (0, 1, 2, 8, 16, 32, 46):
        tokenizer = Tokenizer(train_vocabulary(texts, vocab_size=257 + n))
        ids = tokenizer.encode(sentence)
        shown = "|".join(tokenizer.token_bytes(id).decode() for id in ids)
        print(f"  {n:>2} merges  {len(ids):>2} tokens  {shown}")
    unseen = "Горы 🐑"
    ids = tokenizer.encode(unseen)
    same = tokenizer.decode(ids) == unseen
    print(f"\n{unseen!r}, never seen: {len(ids)} tokens, a byte each, and back: {same}")
    try:
        train_vocabulary(texts, 1000)
    except VocabularyError as error:
        print(f"\nA thousand? {error}")


if __name__ == "__main__":
    run(_demo)
