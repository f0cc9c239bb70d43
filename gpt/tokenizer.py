"""Text to ids and back, by byte-level byte-pair encoding.

A text is cut into pieces (roughly words, each with the space before it). A piece starts as its
UTF-8 bytes, and the two neighbours that stand highest in a list of merges are joined, again and
again, until no listed pair is left. What remains are tokens, and the vocabulary gives each an id.
Every byte is a token, so every text has ids and no word is unknown.

The vocabulary comes with the weights (`vocabulary.py` reads it from a model's folder). The
joining is done by `tiktoken`, in Rust; the work of this chapter is to hand it a table with which it
gives the very ids that the `tokenizers` library gives, or to refuse and say why.

    python -m gpt.tokenizer     # learns a few merges, encodes with them, streams an emoji

Sources: Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units" (2016);
Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), section 2.2.
"""

import codecs
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import tiktoken

from gpt.byte_alphabet import ALPHABET, spell
from gpt.cli import run
from gpt.files import folder_to_read
from gpt.vocabulary import (
    END,
    Added,
    Merges,
    TokenizerError,
    Vocabulary,
    parse_vocabulary,
    read_vocabulary,
    vocabulary_files,
)

# 1. From a list of merges to tiktoken's table.

# The pieces: an English clitic; letters, digits or other signs, with the space before them; white
# space, whose last character is left for the word after it. `++` never gives back what it took:
# that changes no match, and keeps a long run from overflowing the matcher's stack.
PIECES = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"


def last_merges(merges: Merges) -> dict[str, int]:
    """Each token that a text can produce, with the rank of the merge that completes it.

    The `tokenizers` library joins a pair if the *pair* is listed; tiktoken joins two neighbours if
    their *result* is in its table. Both take the lowest rank first, and the leftmost of equals.
    With this table they do the same, whatever pairs are listed and in whatever order:

    While a token comes to be, nothing merges across its edges, so what happens inside is what would
    happen if its bytes were all there is. Hence a text can produce a token only if its bytes alone
    end as that one token; and as that run is always the same, two neighbours that together spell
    the token are always the two parts of the run's last merge.
    """
    formed = dict.fromkeys(ALPHABET, (-1, "", ""))  # a token -> its last merge: rank, left, right
    late = []
    for (a, b), rank in merges.items():
        if a not in formed or b not in formed:
            late.append(a + b)  # a part comes to be after this rank, or never
        elif _meet(a, b, formed, merges):
            formed[a + b] = (rank, a, b)
    ranks = {token: rank for token, (rank, _, _) in formed.items() if rank >= 0}
    for token in late:  # a trained vocabulary has none
        rank = _run(token, merges)
        if rank is not None:
            ranks[token] = rank
    return ranks


def _meet(a: str, b: str, formed: dict[str, tuple[int, str, str]], merges: Merges) -> bool:
    """Do a and b both come to be when their bytes stand side by side?

    Plays the run backwards along the edge between them: undoes the later of the two last merges,
    and asks whether the pair then at the edge was due before it. The parts of every token in
    `formed` have lower ranks than the whole, so its run takes the merges in the order of ranks.
    """
    (rank_a, _, right), (rank_b, left, _) = formed[a], formed[b]
    while rank_a >= 0 or rank_b >= 0:
        if rank_a > rank_b:
            a, due = right, rank_a
            rank_a, _, right = formed[a]
        else:  # of two equals the left one was merged first, so the right one is the later
            b, due = left, rank_b + 1  # the edge is left of this merge: of equals, it goes first
            rank_b, left, _ = formed[b]
        if merges.get((a, b), due) < due:
            return False
    return True


def _run(token: str, merges: Merges) -> int | None:
    """Byte-pair encoding itself, of one token's bytes: the last rank, if one token is left.

    Slower than `_meet`, and right for ranks in any order.
    """
    parts, rank = list(token), None
    while len(parts) > 1:
        ranked = [(merges[pair], i) for i, pair in enumerate(pairwise(parts)) if pair in merges]
        if not ranked:
            return None
        rank, i = min(ranked)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return rank


# 2. The tokenizer.

# Half of what overflows the stack of tiktoken's matcher, which steps back over white space.
_LONG_RUN = 500_000
# What \s is to tiktoken; Python's own \s has four control characters more.
_SPACE = r"[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
_LONG_SPACE = re.compile(rf"(?<!{_SPACE}){_SPACE}{{{_LONG_RUN},}}")


def _may_hold_long_space(text: str) -> bool:
    """A quick look: a long run fills one of these blocks, which is half as long, wherever it is."""
    block = _LONG_RUN // 2
    return len(text) >= _LONG_RUN and any(
        text[start : start + block].isspace() for start in range(0, len(text), block)
    )


def _cut_long_space(text: str) -> Iterator[str]:
    """Cut where the pieces are cut anyway: before a run of white space, and before its last one."""
    start = 0
    for found in _LONG_SPACE.finditer(text):
        end = found.end() if found.end() == len(text) else found.end() - 1
        yield text[start : found.start()]
        yield text[found.start() : end]
        start = end
    yield text[start:]


def _passes(added: list[Added]) -> list[re.Pattern]:
    """The patterns that find added tokens in a text, one for each of the library's two passes.

    An alternation takes the leftmost match, and the longest if the longest stands first. Special
    tokens are in it because in the library, too, one hides what overlaps it before it is skipped.
    """
    patterns = []
    for normalized in (False, True):
        tokens = [token for token in added if token.normalized is normalized]
        if not all(token.special for token in tokens):
            texts = sorted((token.text for token in tokens), key=len, reverse=True)
            patterns.append(re.compile("|".join(map(re.escape, texts))))
    return patterns


def _encoding(
    vocabulary: Vocabulary, ranks: dict[str, int]
) -> tuple[tiktoken.Encoding, list[int] | None]:
    """tiktoken's encoder, and the id for each of the ranks it gives; None: they are the ids."""
    tokens = [*ALPHABET, *sorted(ranks, key=ranks.get)]
    ids = [vocabulary.ids[token] for token in tokens]
    # tiktoken has one number for a token's rank and id. Where ids ascend with the ranks, as GPT-2's
    # do, the ids can be the ranks. (A byte's rank is never asked for: no merge makes a byte.)
    in_order = ids[256:] == sorted(ids[256:])
    numbers = ids if in_order else range(len(ids))
    table = {vocabulary.spelled[t]: number for t, number in zip(tokens, numbers, strict=True)}
    bpe = tiktoken.Encoding("gpt", pat_str=PIECES, mergeable_ranks=table, special_tokens={})
    return bpe, None if in_order else ids


class Tokenizer:
    """Text to ids and back. `files` are what `read_vocabulary` gives; `where` is for complaints."""

    def __init__(self, files: dict[str, bytes], where: str | Path = "vocabulary") -> None:
        self.files = dict(files)
        vocabulary = parse_vocabulary(self.files, where)
        ids, added, end = vocabulary.ids, vocabulary.added, vocabulary.end
        self._bytes = {id: vocabulary.spelled.get(t) or t.encode() for t, id in ids.items()}
        self._bytes |= {token.id: token.text.encode() for token in added}
        self.n_vocab = max(self._bytes) + 1  # the highest id + 1; below it, ids may be unused
        self._added = {token.text: token.id for token in added if not token.special}
        self._passes = _passes(added)
        # Then pieces of a text cannot be encoded apart, wherever they are cut: see segments.py.
        self.looks_across_pieces = bool(self._passes)
        ranks = last_merges(vocabulary.merges)
        if end in ranks or end in ALPHABET:
            raise TokenizerError(
                f"{where}: the end token is {end!r}, and a text can hold it: each {end!r} in a "
                "text would be its end"
            )
        self.end_id = (ids | {token.text: token.id for token in added})[end]
        self._bpe, self._id_of_rank = _encoding(vocabulary, ranks)

    @classmethod
    def from_folder(cls, folder: str | Path) -> "Tokenizer":
        return cls(read_vocabulary(folder_to_read(Path(folder))), folder)

    def save(self, folder: str | Path) -> None:
        """Write the files that this was made of: transformers' AutoTokenizer opens them."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, data in self.files.items():
            (Path(folder) / name).write_bytes(data)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, in which all is ordinary: `<|endoftext|>` in it is 13 characters.

        Half of a surrogate pair, which is no character, is read as U+FFFD.
        """
        if self._passes:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return self._encode(text, self._passes)

    def _encode(self, text: str, passes: Sequence[re.Pattern]) -> list[int]:
        """Find this pass's added tokens; what lies between them is for the passes after it."""
        if not passes:
            return self._encode_ordinary(text)
        ids, start = [], 0
        for match in passes[0].finditer(text):
            if match[0] in self._added:
                ids += self._encode(text[start : match.start()], passes[1:])
                ids.append(self._added[match[0]])
                start = match.end()
        return ids + self._encode(text[start:], passes[1:])

    def _encode_ordinary(self, text: str) -> list[int]:
        if _may_hold_long_space(text):
            ids = [id for part in _cut_long_space(text) for id in self._bpe.encode_ordinary(part)]
        else:
            ids = self._bpe.encode_ordinary(text)
        return list(map(self._id_of_rank.__getitem__, ids)) if self._id_of_rank else ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; bytes that are no UTF-8, as when a character is cut, become U+FFFD."""
        ids = ids.tolist() if hasattr(ids, "tolist") else ids  # of torch or numpy
        try:
            return b"".join([self._bytes[id] for id in ids]).decode(errors="replace")
        except KeyError as error:
            raise self._unknown(error.args[0]) from None

    def token_bytes(self, id: int) -> bytes:
        if id not in self._bytes:
            raise self._unknown(id)
        return self._bytes[id]

    def _unknown(self, id: object) -> TokenizerError:
        return TokenizerError(
            f"no token has id {id} (n_vocab, the highest id + 1, is {self.n_vocab})"
        )


class StreamDecoder:
    """Ids in, one at a time; text out, in whole characters. All of it together is `decode`'s."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, id: int) -> str:
        """The text that this id completes: none while a character still lacks bytes."""
        return self._utf8.decode(self._tokenizer.token_bytes(id))

    def flush(self) -> str:
        """What is left at the end: U+FFFD for a character that was never completed."""
        return self._utf8.decode(b"", final=True)


# 3. A vocabulary of one's own, small enough to watch.


def learn_merges(text: str, n: int) -> list[tuple[str, str]]:
    """Byte-pair encoding's training: n times, merge the pair that occurs most often in the text."""
    words = [list(spell(word.encode())) for word in re.findall(r" ?[^ ]+", text)]
    merges = []
    for _ in range(n):
        pairs = Counter(pair for word in words for pair in pairwise(word))
        if not pairs:
            break
        merges.append(max(pairs, key=lambda pair: (pairs[pair], pair)))  # equals: by the alphabet
        words = [join_all(word, *merges[-1]) for word in words]
    return merges


def join_all(word: list[str], a: str, b: str) -> list[str]:
    joined = []
    for part in word:
        if part == b and joined and joined[-1] == a:
            joined[-1] = a + b
        else:
            joined.append(part)
    return joined


def tiny_vocabulary(merges: Sequence[tuple[str, str]]) -> dict[str, bytes]:
    """Vocabulary files numbered as GPT-2's are: the bytes, the merges, the end token."""
    tokens = [*ALPHABET, *dict.fromkeys(a + b for a, b in merges), END]
    return vocabulary_files({token: id for id, token in enumerate(tokens)}, merges)


def _demo() -> None:
    sentence = "the cat sat on the mat and the rat sat on the cat"
    merges = learn_merges(sentence, 8)
    print(f"Merges learned from {sentence!r} (Ġ is a space):")
    for rank, (a, b) in enumerate(merges):
        print(f"  {rank}: {a} + {b} -> {a + b}")
    tokenizer = Tokenizer(tiny_vocabulary(merges))
    text = "the cat sat 🐈<|endoftext|>"
    print(f"\n{text!r} is {len(text.encode())} bytes and {len(tokenizer.encode(text))} tokens:")
    for id in tokenizer.encode(text):
        data = tokenizer.token_bytes(id)
        print(f"  id {id:>3}  {data.hex(' '):<12} {spell(data)}")
    print(f"\nThe end token's id is {tokenizer.end_id}: only code writes it, no text produces it.")
    print("\nThe cat, streamed: nothing is shown before its last byte is here.")
    stream = StreamDecoder(tokenizer)
    for id in tokenizer.encode("🐈"):
        print(f"  {tokenizer.token_bytes(id).hex()} -> {stream.push(id)!r}")


if __name__ == "__main__":
    run(_demo)
