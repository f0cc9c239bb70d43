"""The faults of a set of instructions: wrong answers, repetitions, held-out facts given away.

python data/make.py check            # data/instructions.json
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from data.checking import questions, skills, texts, wordings
from data.checking.facts import forms_of
from data.tasks.record import SIDES
from data.world.facts import HELD_OUT

_TEXTS = ("instruction", "input", "output", "category", "wording", "split")


def problems(records: Sequence[dict]) -> list[str]:
    """All faults, each with the number of its record."""
    return [*_wrong(records), *_repeated(records), *_given_away(records)]


def problem(record: dict) -> str | None:
    """What is wrong with one record by itself, or None."""
    lacking = [key for key in _TEXTS if not isinstance(record.get(key), str)]
    lacking += [] if isinstance(record.get("closed"), bool) else ["closed"]
    if lacking:
        return f"without {', '.join(map(repr, lacking))}"
    try:
        return _problem(record)
    except Exception as error:  # whatever is wrong with it, the other records are checked, too
        return f"cannot be worked out: {type(error).__name__}: {error}"


def _problem(record: dict) -> str | None:
    if record["split"] not in SIDES:
        return f"no such side: {record['split']}"
    if record.get("held_out", False) is not (record.get("fact") in HELD_OUT):
        return "held_out does not say whether the fact is held out"
    found = wordings.problem(record)
    if found:
        return found
    if not record["closed"]:
        return texts.problem(record)
    return questions.problem(record) if "fact" in record else skills.problem(record)


def _wrong(records: Iterable[dict]) -> Iterator[str]:
    for i, record in enumerate(records):
        found = problem(record)
        if found:
            yield f"record {i}: {_asked(record)} -> {found}"


def _asked(record: dict) -> str:
    return f"{record.get('instruction', '')} {record.get('input', '')}".strip()


def _repeated(records: Sequence[dict]) -> Iterator[str]:
    first: dict[str, int] = {}
    for i, record in enumerate(records):
        prompt = " ".join(_asked(record).casefold().split())
        earlier = first.setdefault(prompt, i)
        if earlier != i:
            yield f"record {i}: asks what record {earlier} asks: {prompt}"


def _given_away(records: Sequence[dict]) -> Iterator[str]:
    """Training records in whose text both words of a held-out fact stand, in any of their forms."""
    held = [
        (id_, [[_apart(form) for form in sorted(forms)] for forms in forms_of(id_)])
        for id_ in sorted(HELD_OUT)
    ]
    for i, record in enumerate(records):
        if record.get("split", "train") != "train":
            continue
        text = _apart(f"{_asked(record)} {record.get('output', '')}")
        text += text.lower()
        words = frozenset(text.split())
        for id_, groups in held:
            if words.isdisjoint(form.split()[0] for form in groups[0]):
                continue  # most of them: not a word of the subject
            if all(any(form in text for form in forms) for forms in groups):
                yield f"record {i}: gives {id_} away: {text}"


def _apart(text: str) -> str:
    """The words of a text with a blank on either side of each."""
    return f" {' '.join(re.findall(r'[a-zA-Z0-9-]+', text.removeprefix('the ')))} "
