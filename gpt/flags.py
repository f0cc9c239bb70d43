"""What is plainly wrong with an answer, told without a reference: five flags.

    responses.jsonl ─> flags_of ─> metrics.py (how many), review.py (which)

Scores say how near an answer is to one reference. A flag names a fault that a person would see at
a glance, and that points at its cause: a model that never learned to stop, that was trained on
prompts with the wrong mask, that was asked in another template. What the reference does as well is
no fault: asked to say "ha" ten times, one repeats oneself.

    python -m gpt.metrics       # some answers with their flags
"""

import re
from collections.abc import Sequence

from gpt.overlap import words

FLAGS = {
    "empty": "no text",
    "runaway": "did not end by itself",
    "echo": "says the prompt again",
    "leak": "holds ### or <|…|>, the marks of a template",
    "repeats": "says the same over and over",
}

_MARKS = re.compile(r"###|<\|\w+\|>")
_LONG_ENOUGH_TO_QUOTE = 5  # words that an answer may share with its prompt's beginning by chance


def flags_of(
    instruction: str, input: str, reference: str, answer: str, finish_reason: str | None = None
) -> tuple[str, ...]:
    """The flags of an answer, in the order of FLAGS."""
    prompts = (instruction, input)
    found = {
        "empty": not answer.strip(),
        "runaway": is_runaway(answer, finish_reason),
        "echo": _echoes(prompts, answer) and not _echoes(prompts, reference),
        "leak": bool(set(_MARKS.findall(answer)) - set(_MARKS.findall(reference))),
        "repeats": repeats_itself(answer) and not repeats_itself(reference),
    }
    return tuple(flag for flag in FLAGS if found[flag])


def is_runaway(answer: str, finish_reason: str | None) -> bool:
    """Was it cut off where it had no more room? Where nobody noted that: does it end in a loop?"""
    if finish_reason is not None:
        return finish_reason in ("length", "context")
    return ends_in_a_loop(answer)


def ends_in_a_loop(text: str, times: int = 10, at_least: int = 100) -> bool:
    """Is the end one stretch of up to 100 characters, `times` times or more, and long by that?

    A text repeats its last p characters as far back as each character equals the one p before.
    """
    text = text.rstrip()
    for period in range(1, min(100, len(text) // times) + 1):
        needed = max(times * period, at_least)
        place = len(text) - 1
        while place >= period and text[place] == text[place - period]:
            place -= 1
        if len(text) - 1 - place + period >= needed:
            return True
    return False


def repeats_itself(text: str) -> bool:
    """Were half of its runs of three words there before, or does it end in a loop?

    In a text of few words the characters are asked instead: "!!!!!!!!" has no words at all.
    """
    pieces: Sequence[str] = words(text)
    if len(pieces) < 10:
        pieces = "".join(text.split())
        if len(pieces) < 20:
            return False
    runs = list(zip(pieces, pieces[1:], pieces[2:], strict=False))
    return len(set(runs)) <= len(runs) / 2 or ends_in_a_loop(text)


def _echoes(prompts: Sequence[str], answer: str) -> bool:
    """Is the answer one of these, or does it begin with one that is too long for an accident?"""
    said = words(answer)
    for asked in map(words, prompts):
        is_begun = len(asked) >= _LONG_ENOUGH_TO_QUOTE and said[: len(asked)] == asked
        if asked and (said == asked or is_begun):
            return True
    return False
