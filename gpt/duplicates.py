"""Duplicates: records that say again what an earlier record has said.

A question asked twice in the training set counts twice; one asked in training and again in the test
is an exam whose answers were handed out. Between reading and splitting, three kinds are told apart:

    duplicate prompts    the same question, whatever the answer: kept, but never on two sides
    exact duplicates     the same question and, to the character, the same answer: the first is kept
    near duplicates      nearly the same words in both: the first is kept (near_duplicates.py)

"The same question" is what `normalized` says: Unicode's composed form, upper case as lower case,
any run of white space as one blank. Instruction and input are one text: files differ in where they
cut it. An answer is what the model learns to say: `Co` is another one than `CO`, and so is code
with another indentation; only how Unicode writes a letter and blanks at either end do not count.

    python -m gpt.near_duplicates    # five records, what they share, and which of them are kept
"""

import json
import unicodedata
from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

from tqdm import tqdm

from gpt.records import Record, Turn


class Duplicate(NamedTuple):
    """Record `index` of a list says what `first`, an earlier one, says."""

    index: int
    first: int
    similarity: float  # 1 for an exact duplicate


def normalized(text: str) -> str:
    """What stays of a text when it is asked whether another one is the same.

    Turkish has two letters where English has one: `İ` counts as `i`, and `ı` stays another letter,
    as `sınır` (border) and `sinir` (nerve) are two words. `I` cannot be both, and counts as `i`.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text).casefold().replace("i\u0307", "i")
        text = unicodedata.normalize("NFC", text)  # casefolding may have taken letters apart
    return " ".join(text.casefold().split())


def prompt_key(record: Record) -> bytes:
    """Equal for two records that ask the same.

    It is the opening question that counts: two conversations that share a later prompt share all
    that led to it. The system message does not: a question stays what it is, whoever is asked.
    """
    question = next(turn for turn in record.turns if turn.role == "user")
    return fingerprint(words_of(question))


def record_key(record: Record) -> bytes:
    """Equal for two records that ask the same and answer it alike, in all of their turns."""
    turns = [(turn.role, _compared(turn)) for turn in record.turns]
    return fingerprint(json.dumps(turns))  # quoted: no answer can look like two turns


def words_of(turn: Turn) -> str:
    return normalized(f"{turn.text} {turn.input}")


def _compared(turn: Turn) -> str:
    """What of a turn must be equal; in an answer, case and indentation mean something."""
    if turn.role == "assistant":
        return unicodedata.normalize("NFC", turn.text).strip()
    return words_of(turn)


def fingerprint(text: str) -> bytes:
    """Stands for a text of any length: the same on every machine, as Python's `hash` is not."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def groups_of_prompts(records: Iterable[Record]) -> dict[bytes, list[int]]:
    """By prompt_key, the indices of the records; both groups and members are in file order."""
    groups: dict[bytes, list[int]] = {}
    bar = tqdm(records, "prompts", unit=" records", delay=2, disable=None)
    for index, record in enumerate(bar):
        groups.setdefault(prompt_key(record), []).append(index)
    return groups


def duplicate_prompts(records: Iterable[Record]) -> list[Duplicate]:
    """Every record whose prompt an earlier one has: three askers of one question give two."""
    return [
        Duplicate(index, group[0], 1.0)
        for group in groups_of_prompts(records).values()
        for index in group[1:]
    ]


def exact_duplicates(records: Iterable[Record]) -> list[Duplicate]:
    """Every record whose prompt an earlier one has, with the same answer."""
    first: dict[bytes, int] = {}
    duplicates = []
    bar = tqdm(records, "duplicates", unit=" records", delay=2, disable=None)
    for index, record in enumerate(bar):
        earlier = first.setdefault(record_key(record), index)
        if earlier != index:
            duplicates.append(Duplicate(index, earlier, 1.0))
    return duplicates
