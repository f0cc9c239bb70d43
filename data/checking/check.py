"""The faults of a set of instructions: wrong answers, repetitions, held-out facts given away.

python data/make.py check            # data/instructions.json
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from data.checking import facts, skills
from data.tasks.record import SIDES
from data.world.facts import BY_ID, HELD_OUT

_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}


def problems(records: Sequence[dict]) -> list[str]:
    """All faults, each with the number of its record."""
    return [*_wrong(records), *_repeated(records), *_given_away(records)]


def problem(record: dict) -> str | None:
    """What is wrong with one record by itself, or None."""
    if record["split"] not in SIDES:
        return f"no such side: {record['split']}"
    if not record["closed"]:
        return _open_problem(record)
    if "fact" in record:
        if record["held_out"] != (record["fact"] in HELD_OUT):
            return "held_out does not say whether the fact is held out"
        return facts.problem(record)
    return skills.problem(record)


def _wrong(records: Iterable[dict]) -> Iterator[str]:
    for i, record in enumerate(records):
        found = problem(record)
        if found:
            yield f"record {i}: {record['instruction']} {record['input']} -> {found}"


def _open_problem(record: dict) -> str | None:
    """An open answer has several sentences; as many as are asked for, where a number is asked."""
    output = record["output"]
    sentences = len(re.findall(r"[.!?]['\"]?(?=\s|$)", output))
    asked = re.search(
        rf"\b({'|'.join(_NUMBERS)}) (sentences|facts|things)\b", record["instruction"]
    )
    if asked and asked[2] == "facts":
        sentences = len(output.splitlines())
    if asked and sentences != _NUMBERS[asked[1]]:
        return f"{asked[0]} are asked for, not {sentences}"
    return None if sentences > 1 else "an open answer of one sentence"


def _repeated(records: Sequence[dict]) -> Iterator[str]:
    first: dict[str, int] = {}
    for i, record in enumerate(records):
        prompt = " ".join(f"{record['instruction']} {record['input']}".casefold().split())
        earlier = first.setdefault(prompt, i)
        if earlier != i:
            yield f"record {i}: asks what record {earlier} asks: {prompt}"


def _given_away(records: Sequence[dict]) -> Iterator[str]:
    """Training records in whose text both words of a held-out fact stand."""
    held = [
        (id_, [[_apart(form) for form in forms] for forms in BY_ID[id_].marks])
        for id_ in sorted(HELD_OUT)
    ]
    for i, record in enumerate(records):
        if record["split"] != "train":
            continue
        text = _apart(f"{record['instruction']} {record['input']} {record['output']}")
        text += text.lower()
        words = frozenset(text.split())
        for id_, marks in held:
            if words.isdisjoint(form.split()[0] for form in marks[0]):
                continue  # most of them: not a word of the subject
            if all(any(form in text for form in forms) for forms in marks):
                yield f"record {i}: gives {id_} away: {text}"


def _apart(text: str) -> str:
    """The words of a text with a blank on either side of each."""
    return f" {' '.join(re.findall(r'[a-zA-Z0-9-]+', text.removeprefix('the ')))} "
