"""Whether an instruction is what its wording says, and its wording one of its category's.

So that no instruction is turned round ("Which city is not the capital of Brazil?") or answered in
another form than its wording asks for, and no record strays into another category.
"""

import re
from functools import cache

from data.checking.sentences import pattern_of
from data.corpus.stream import SKILLS
from data.skills.skill import cut_off
from data.tasks.categories import CATEGORY_OF
from data.tasks.facts import all_wordings
from data.tasks.open import OPEN
from data.world.facts import RELATIONS

OPEN_CATEGORIES = frozenset(category for _, category, _, _ in OPEN)


def _of_tasks() -> dict[str, set[str]]:
    """The wordings of all that is to be done or written, by category."""
    wordings: dict[str, set[str]] = {}
    for skill in SKILLS:
        for request in skill.asks:
            names = wordings.setdefault(CATEGORY_OF[skill.theme], set())
            names.add(_cap(request))
            if alone := cut_off(request):
                names.add(f"{_cap(alone)} {{x}}")
    for _, category, requests, _ in OPEN:
        wordings.setdefault(category, set()).update(requests)
    return wordings


def _cap(text: str) -> str:
    return text[0].upper() + text[1:]


_OF_TASKS = _of_tasks()


def problem(record: dict) -> str | None:
    """What is wrong with category, kind and wording, or None."""
    category, wording = record["category"], record["wording"]
    if record["closed"] is not (category not in OPEN_CATEGORIES):
        return f"closed is {record['closed']} in the category {category!r}"
    if "fact" in record:
        relation, _, _ = parts_of(record["fact"])
        if relation not in RELATIONS:
            return f"there is no relation {relation!r}"
        if category != CATEGORY_OF[RELATIONS[relation].theme]:
            return f"{record['fact']} does not belong to the category {category!r}"
        known = all_wordings(relation)
    else:
        if category not in _OF_TASKS:
            return f"a record of the category {category!r} names its fact"
        known = _OF_TASKS[category]
    return None if wording in known else f"no such wording in {category!r}: {wording}"


def parts_of(fact: str) -> tuple[str, str, str]:
    """(relation, subject, parts): count/hand/fingers."""
    relation, _, rest = fact.partition("/")
    subject, _, parts = rest.partition("/")
    return relation, subject, parts


def asked(record: dict) -> str:
    return f"{record['instruction']} {record['input']}".strip()


def fields_of(record: dict) -> dict[str, str] | None:
    """What fills the wording of a task or an open request; None where the wording does not fit."""
    names = "" if record["category"] not in OPEN_CATEGORIES else "pq"
    match = re.fullmatch(_pattern(record["wording"], names), asked(record))
    return match.groupdict() if match else None


def fits_fact(record: dict, subject: str, answer: str, parts: str) -> bool:
    """Whether the instruction is its wording, filled with this fact and nothing else."""
    pattern = pattern_of(record["wording"], subject, answer, parts)
    return re.fullmatch(pattern, asked(record), re.IGNORECASE) is not None


@cache
def _pattern(wording: str, names: str) -> str:
    """Of a wording without a fact: every field is caught under its name; some are people's."""
    known = {"n": "[a-z]+", "child": "girl|boy"} | dict.fromkeys(names, r"[A-Z]\w+")
    pieces = re.split(r"\{(\w+)\}", wording)
    return "".join(
        f"(?P<{piece}>{known.get(piece, '.+')})" if i % 2 else re.escape(piece)
        for i, piece in enumerate(pieces)
    )
