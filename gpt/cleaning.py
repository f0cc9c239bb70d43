"""Cleaning: what is repaired in a record, what is hidden in it, and which record is not worth it.

    records ─> white space, Unicode ─> personal data ─> answers ─> records worth learning from
               repaired                replaced         dropped

Every step leaves a good text alone, to the character, and running all of them again changes
nothing. Each change is a `Change` with the file and line it was made at, so that somebody can look.
The steps are told one by one in `STEPS`; repairing.py and hiding.py say what they leave alone.

    python -m gpt.cleaning      # a dirty record, before and after
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from tqdm import tqdm

from gpt.cli import run
from gpt.hiding import hide_cards, hide_emails, hide_ibans, hide_phones
from gpt.records import Record, Turn
from gpt.repairing import clean_whitespace, compose

STEPS = {
    "whitespace": "one form of line end and of blank; nothing invisible, nothing trailing",
    "unicode": "letters and their accents as one character each (NFC)",
    "emails": "e-mail addresses become [EMAIL]",
    "ibans": "bank accounts (IBAN, check sum verified) become [IBAN]",
    "cards": "card numbers (check digit and issuer verified) become [CARD]",
    "phones": "telephone numbers become [PHONE]",
    "echoes": "records whose answer only repeats the prompt are dropped",
    "lengths": "records with an answer shorter or longer than the limits are dropped",
}


@dataclass(frozen=True)
class Cleaning:
    """Which steps are taken, and the limits of an answer."""

    steps: frozenset[str] = frozenset(STEPS)
    min_answer: int = 1  # characters: "4" is a good answer to a sum
    max_answer: int = 20_000  # characters: four times what GPT-2's 1,024 tokens hold of English


class Change(NamedTuple):
    """What a step did to a record. It does not repeat personal data: the file has it."""

    step: str
    where: str  # file:line
    what: str
    dropped: bool = False


def clean(
    records: Iterable[Record], cleaning: Cleaning = Cleaning()
) -> tuple[list[Record], list[Change]]:
    """The records that are worth learning from, and all that was done to the others."""
    kept, changes = [], []
    for record in tqdm(records, desc="cleaning", unit="record", delay=2, disable=None):
        cleaned, made = clean_record(record, cleaning)
        changes += made
        if cleaned is not None:
            kept.append(cleaned)
    return kept, changes


def clean_record(record: Record, cleaning: Cleaning) -> tuple[Record | None, list[Change]]:
    """The record after all steps, or None where one of them drops it."""
    changes = []
    for step, clean_text in TEXT_STEPS.items():
        if step in cleaning.steps:
            record, what = _apply(clean_text, record)
            if what:
                changes.append(Change(step, record.where, what))
    reason = _why_drop(record, cleaning)
    if reason:
        step, what = reason
        return None, [*changes, Change(step, record.where, what, dropped=True)]
    return record, changes


def _apply(clean_text: Callable[[str], str], record: Record) -> tuple[Record, str]:
    """One step on every text of a record, the further keys too; and which of them it changed."""
    changed = []

    def cleaned(text: str, name: str) -> str:
        new = clean_text(text)
        if new != text:
            changed.append(name)
        return new

    turns = tuple(
        Turn(turn.role, cleaned(turn.text, turn.role), cleaned(turn.input, "input"))
        for turn in record.turns
    )
    extra = {key: _each_text(value, key, cleaned) for key, value in record.extra.items()}
    if not changed:
        return record, ""
    return replace(record, turns=turns, extra=extra), ", ".join(dict.fromkeys(changed))


def _each_text(value: object, name: str, cleaned: Callable[[str, str], str]) -> object:
    if isinstance(value, str):
        return cleaned(value, name)
    if isinstance(value, list):
        return [_each_text(item, name, cleaned) for item in value]
    if isinstance(value, dict):
        return {key: _each_text(item, name, cleaned) for key, item in value.items()}
    return value


TEXT_STEPS: dict[str, Callable[[str], str]] = {
    "whitespace": clean_whitespace,  # first: an invisible character may keep two others apart
    "unicode": compose,
    "ibans": hide_ibans,  # before what it may stand behind, without a space: a@b.coاGB82 …
    "emails": hide_emails,
    "cards": hide_cards,
    "phones": hide_phones,  # last: the loosest of the four
}


# Dropping: answers that teach nothing.


def _why_drop(record: Record, cleaning: Cleaning) -> tuple[str, str] | None:
    """The step that drops the record and its reason; None for a record to keep."""
    for question, answer in pairwise(record.turns):
        if answer.role != "assistant":
            continue
        if not question.text and not question.input:
            return "lengths", "nothing is left of the prompt"
        if not answer.text:  # whatever the settings: there is nothing to learn
            return "lengths", "nothing is left of the answer"
        if "echoes" in cleaning.steps and _only_echoes(question, answer):
            return "echoes", "the answer is the prompt"
        if "lengths" in cleaning.steps and len(answer.text) < cleaning.min_answer:
            return "lengths", f"an answer of {len(answer.text):,} characters"
        if "lengths" in cleaning.steps and len(answer.text) > cleaning.max_answer:
            return "lengths", f"an answer of {len(answer.text):,} characters"
    return None


def _only_echoes(question: Turn, answer: Turn) -> bool:
    """Whether an answer is its instruction, with or without the input, word for word.

    The input alone may be the right answer: a sentence to correct that has no fault.
    """
    said = answer.text.split()
    return said in (question.text.split(), f"{question.text} {question.input}".split())


def _demo() -> None:
    question = "Where is  I\u0307stanbul?\r\n\u200bThe year is 1923, the order 4111111111111112."
    answer = (
        "  Ask ada@example.com.tr, \r\n\r\n\r\n\r\n+90 532 555 01 23 \U0001f469\u200d\U0001f4bb\r\n"
        "Pay to TR33 0006 1005 1978 6457 8413 26 or by card 4111 1111 1111 1111\xa0"
    )
    dirty = Record((Turn("user", question), Turn("assistant", answer)), "demo.json", 1, {})
    cleaned, changes = clean_record(dirty, Cleaning())
    for name, record in (("before", dirty), ("after", cleaned)):
        for turn in record.turns:
            print(f"{name:<6} {turn.role:<9} {turn.text!a}")
    for change in changes:
        print(f"{change.where}  {change.step}: {change.what}")


if __name__ == "__main__":
    run(_demo)
