"""A skill: not a fact to know but something to do, with one right result: sort, count, add, turn.

The corpus shows people doing these things; the instructions ask for them. In a template {x} is what
the thing is done to and {q} a question about it; a template that ends in `: {x}` can also be cut in
two, an instruction and its input.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from data.dice import Dice


class Exercise(NamedTuple):
    x: str
    answer: str
    question: str = ""


@dataclass(frozen=True)
class Skill:
    name: str
    theme: str  # what a lesson on it is about
    make: Callable[[Dice], Exercise]
    asks: tuple[str, ...]  # requests in lower case, with their full stop or question mark
    says: tuple[str, ...] = ()  # how a text states it: "{x} makes {a}"


def skill(
    name: str, theme: str, make: Callable[[Dice], Exercise], asks: str, says: str = ""
) -> Skill:
    return Skill(name, theme, make, _lines(asks), _lines(says))


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


_QUESTION_WORDS = ("how", "what", "which", "odd", "a or an", "one word")


def cut_off(template: str) -> str | None:
    """What is left of a request when what it is about stands on a line of its own; or None."""
    if not template.endswith(": {x}"):
        return None
    return template[: -len(": {x}")] + end_of(template)


def end_of(template: str) -> str:
    """The mark that ends a request which has none."""
    return "?" if template.startswith(_QUESTION_WORDS) else "."


def fill(template: str, exercise: Exercise) -> str:
    text = template.replace("{x}", exercise.x).replace("{a}", exercise.answer)
    return text.replace("{q}", exercise.question)
