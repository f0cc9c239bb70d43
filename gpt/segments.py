"""Stretches of text, each of one part of a prompt, to ids and the part of each id.

    template.py ─> segments ─> Encoder ─> ids and parts, flat, for all examples at once

The ids of a prompt are those of its whole text. But much of a prompt is the same in every example,
and a token may belong to two parts. Both are solved by knowing where GPT-2 cuts a text into pieces
before it merges anything (`cuts_between`): there, two stretches can be encoded on their own.

    python -m gpt.segments      # where a prompt is cut, and one that cannot be cut everywhere
"""

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np

from gpt.cli import run
from gpt.tokenizer import Tokenizer, learn_merges, tiny_vocabulary

PARTS = ("preamble", "system", "instruction", "input", "header", "answer", "end", "padding")
PREAMBLE, SYSTEM, INSTRUCTION, INPUT, HEADER, ANSWER, END, PADDING = range(8)

Segment = tuple[int, str]  # a part, and a stretch of text that plays it; the text of an END is ""


def is_supervised(parts: np.ndarray) -> np.ndarray:
    """The answers and their ends are in the loss. The rest is only read."""
    return (parts == ANSWER) | (parts == END)


class Example(NamedTuple):
    """What training sees of one record. `collate` puts the end token after the last answer."""

    ids: np.ndarray  # int32
    parts: np.ndarray  # uint8: for each id, the index of its name in PARTS

    @property
    def supervised(self) -> np.ndarray:
        return is_supervised(self.parts)


class Overlong(NamedTuple):
    """A record that has more tokens than the model can see."""

    where: str
    n_tokens: int
    n_prompt: int  # of them, before the last answer


@dataclass
class Examples:
    """Many examples in flat arrays, one after another: a million of them are four objects."""

    ids: np.ndarray  # int32
    parts: np.ndarray  # uint8, one for each id
    starts: np.ndarray  # int64: example i is ids[starts[i] : starts[i + 1]]
    records: np.ndarray  # int64: the index of the record that each was made from
    dropped: list[Overlong] = field(default_factory=list)
    shortened: list[Overlong] = field(default_factory=list)  # with the counts from before

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, i: int) -> Example:
        if not -len(self) <= i < len(self):
            raise IndexError(f"example {i} of {len(self)}")
        start, stop = self.starts[i % len(self)], self.starts[i % len(self) + 1]
        return Example(self.ids[start:stop], self.parts[start:stop])

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.starts)

    @property
    def supervised(self) -> np.ndarray:
        return is_supervised(self.parts)


# Kinds of characters to GPT-2's pre-tokenizer. Its blanks are Python's but for four controls. What
# is a letter beyond ASCII depends on the version of Unicode, and is left open here.
BLANKS = frozenset(
    c for c in map(chr, range(0x3001)) if c.isspace() and c not in "\x1c\x1d\x1e\x1f"
)
_KINDS = {
    c: "letter" if c.isalpha() else "digit" if c.isdigit() else "sign" for c in map(chr, range(128))
}
_KINDS |= dict.fromkeys(BLANKS, "blank")


def cuts_between(tail: str, text: str) -> bool:
    """Does the pre-tokenizer cut between the two for certain, whatever stands further away?

    `tail` is the last two characters before the place, or the one that there is. It cuts wherever
    letters, digits, signs and blanks meet, but

      - a space belongs to what follows it, and of several blanks only the last may be cut off;
      - an apostrophe may belong to the letters after it, as in 's.

    Nothing in its pattern looks back, so what follows such a cut is read as a text of its own.
    """
    before, after = _KINDS.get(tail[-1]), _KINDS.get(text[0])
    if before == "blank":
        return after != "blank" and tail[-1] != " " and tail[:-1] not in BLANKS
    if after == "blank":
        return True
    is_clitic = tail[-1] == "'" and after == "letter"
    return before != after and before is not None and after is not None and not is_clitic


def first_cut(text: str) -> int:
    """Where the first certain cut inside a text is, whatever stands before it; its end if none."""
    places = range(2, len(text))
    return next((i for i in places if cuts_between(text[i - 2 : i], text[i:])), len(text))


class _NBytes(dict[int, int]):
    """How many bytes a token has, looked up once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __missing__(self, id: int) -> int:
        self[id] = len(self._tokenizer.token_bytes(id))
        return self[id]


class Encoder:
    """Writes examples into flat arrays. `constants` are the texts that many of them share."""

    def __init__(self, tokenizer: Tokenizer, constants: Sequence[str] = ()) -> None:
        self.ids = array("i")
        self._run_parts, self._run_lengths = bytearray(), array("i")  # a run is ids of one part
        self._tokenizer, self._n_bytes = tokenizer, _NBytes(tokenizer)
        self._constants = {text: array("i", tokenizer.encode(text)) for text in constants}
        # Tokens added to a vocabulary are looked for before anything is cut, and across any cut.
        self._may_cut = not tokenizer.looks_across_pieces

    def add(self, segments: Sequence[Segment]) -> int:
        """Encode a conversation: each answer on its own, what is between two as one text.

        Gives the number of its tokens.
        """
        self._before = n_ids, _ = len(self.ids), len(self._run_parts)
        together, tail = [], ""
        for segment in segments:
            part, text = segment
            if part >= ANSWER:
                self._put(together)
                if part == END:
                    self._put_run(END, [self._tokenizer.end_id])
                else:
                    self._put_run(ANSWER, self._tokenizer.encode(text))
                together, tail = [], ""
            elif text:
                if together and self._may_cut and cuts_between(tail, text):
                    self._put(together)
                    together = [segment]
                else:
                    together.append(segment)
                tail = text[-2:] if len(text) > 1 else (tail + text)[-2:]
        self._put(together)
        return len(self.ids) - n_ids

    def _put(self, together: list[Segment]) -> None:
        """Encode stretches that may share tokens; a token plays the part in which it begins."""
        if len(together) == 1:
            part, text = together[0]
            known = self._constants.get(text)
            if known is None:
                self._put_run(part, self._tokenizer.encode(text))
            else:
                self.ids.extend(known)
                self._run_parts.append(part)
                self._run_lengths.append(len(known))
        elif together:
            texts = [_whole(text) for _, text in together]
            ids = self._tokenizer.encode("".join(texts))
            begins = [0, *accumulate(map(self._n_bytes.__getitem__, ids))]
            ends = accumulate(len(text.encode()) for text in texts)
            done = 0
            for (part, _), end in zip(together, ends, strict=True):
                begun = bisect_left(begins, end)  # so many tokens begin before the stretch ends
                self._put_run(part, ids[done:begun])
                done = begun

    def _put_run(self, part: int, ids: list[int]) -> None:
        self.ids.fromlist(ids)
        self._run_parts.append(part)
        self._run_lengths.append(len(ids))

    def undo(self) -> None:
        """Forget the conversation that was added last."""
        n_ids, n_runs = self._before
        del self.ids[n_ids:], self._run_parts[n_runs:], self._run_lengths[n_runs:]

    @property
    def n_last_answer(self) -> int:
        """How many tokens the answer has that was added last."""
        return self._run_lengths[-1]

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """All ids, and the part of each. The ids are not copied: add no more after this."""
        run_parts = np.frombuffer(bytes(self._run_parts), dtype=np.uint8)
        return np.asarray(self.ids), np.repeat(run_parts, self._run_lengths)


def _whole(text: str) -> str:
    """As the tokenizer reads it: half of a surrogate pair, which is no character, is U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _demo() -> None:
    tokenizer = Tokenizer(tiny_vocabulary(learn_merges("\n\n the answer \n\n", 4)))
    for instruction in ("Name a cat.", "Name a cat. \n"):
        segments = [(HEADER, "Q:\n"), (INSTRUCTION, instruction), (HEADER, "\nA:\n")]
        encoder = Encoder(tokenizer)
        encoder.add(segments)
        ids, parts = encoder.arrays()
        whole = tokenizer.encode("".join(text for _, text in segments))
        print(f"{instruction!r}: the ids of the whole text: {ids.tolist() == whole}")
        for before, after in pairwise(segments):
            cut = "cut" if cuts_between(before[1][-2:], after[1]) else "no cut that is certain"
            print(f"  between {before[1]!r} and {after[1]!r}: {cut}")
        for id, part in zip(ids.tolist(), parts.tolist(), strict=True):
            print(f"    {tokenizer.decode([id])!r:<8} {PARTS[part]}")


if __name__ == "__main__":
    run(_demo)
