"""The answer to a question for a fact, found by another way than the generator finds it.

This reads the tables again, and where a rule can say it (plurals, Roman numerals, the calendar,
spelling) it asks the rule and not the table.
"""

import calendar
import re
from collections.abc import Callable
from functools import cache

from data.world import animals, measures, people, places, things, words
from data.world.table import words as words_in

_IRREGULAR = {
    "mouse": "mice",
    "child": "children",
    "man": "men",
    "woman": "women",
    "foot": "feet",
    "tooth": "teeth",
    "goose": "geese",
    "ox": "oxen",
    "person": "people",
    "sheep": "sheep",
    "deer": "deer",
    "trout": "trout",
    "salmon": "salmon",
    "tuna": "tuna",
    "fisherman": "fishermen",
    "postman": "postmen",
    "starfish": "starfish",
    "pack of cards": "packs of cards",
}
_F_TO_VES = ("leaf", "knife", "wolf", "half", "shelf", "wife", "life", "calf", "loaf", "thief")
_O_TO_OES = ("potato", "tomato", "hero", "mango", "mosquito")


def plural(noun: str) -> str:
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun in _F_TO_VES or noun == "scarf":
        return re.sub("fe?$", "ves", noun)
    if noun in _O_TO_OES or re.search("(s|x|ch|sh)$", noun):
        return noun + "es"
    return re.sub("(?<![aeiou])y$", "ie", noun) + "s"


_ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}
_ONES = words_in("zero one two three four five six seven eight nine")
_TEENS = words_in("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen")
_TENS = words_in("- - twenty thirty forty fifty sixty seventy eighty ninety")


def number_in_words(figures: str) -> str:
    if figures == "100":
        return "one hundred"
    tens, ones = figures.rjust(2, "0")
    if tens == "0":
        return _ONES[int(ones)]
    if tens == "1":
        return _TEENS[int(ones)]
    return _TENS[int(tens)] + ("" if ones == "0" else f"-{_ONES[int(ones)]}")


def _in_roman(figures: str) -> str | None:
    """Found by reading all numerals, not by writing one."""
    tens = ("", "X", "XX", "XXX", "XL", "L", "LX", "LXX", "LXXX", "XC", "C")
    ones = ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")
    for text in [ten + one for ten in tens for one in ones][1:]:
        values = [_ROMAN[letter] for letter in text]
        after = [*values[1:], 0]
        total = sum(-v if v < n else v for v, n in zip(values, after, strict=True))
        if str(total) == figures:
            return text
    return None


def _month(i: int) -> str:
    return calendar.month_name[(i - 1) % 12 + 1]


def _number_of(month: str) -> int:
    return list(calendar.month_name).index(month)


def _day_after(day: str) -> str:
    names = list(calendar.day_name)
    return names[(names.index(day) + 1) % 7]


def _season(month: str) -> str:
    return {12: "winter", 3: "spring", 6: "summer", 9: "autumn"}[
        max(m for m in (0, 3, 6, 9, 12) if m <= _number_of(month)) or 12
    ]


def _ordinal(n: int) -> str:
    irregular = {1: "first", 2: "second", 3: "third", 5: "fifth", 8: "eighth", 9: "ninth"}
    return irregular.get(n) or re.sub("ve$", "f", number_in_words(str(n))) + "th"


_RULES: dict[str, Callable[[str], str | None]] = {
    "plural": plural,
    "number_word": number_in_words,
    "roman": _in_roman,
    "letters": lambda word: str(len(word)),
    "spelling": lambda word: re.sub(r"(?<=.)(?=.)", "-", word),
    "next_letter": lambda letter: chr(ord(letter) + 1),
    "next_month": lambda month: _month(_number_of(month) + 1),
    "month_place": lambda month: _ordinal(_number_of(month)),
    "month_days": lambda month: str(calendar.monthrange(2023, _number_of(month))[1]),
    "season": _season,
    "next_day": _day_after,
}


@cache
def _tables() -> dict[str, dict[str, str]]:
    """For each relation that only a table can tell: subject to answer."""

    def column(rows: list[tuple[str, ...]], n: int) -> dict[str, str]:
        return {row[0]: row[n] for row in rows if row[n] != "-"}

    names = ("capital", "continent", "language", "currency", "nationality")
    tables = {name: column(places.COUNTRIES, n) for n, name in enumerate(names, 1)}
    names = ("class", "young", "sound", "home", "food", "group", "legs")
    tables |= {name: column(animals.ANIMALS, n) for n, name in enumerate(names, 1)}
    tables |= {name: column(people.JOBS, n) for name, n in (("job", 1), ("tool", 3))}
    workplaces = column(people.JOBS, 4).items()
    tables["workplace"] = {job: re.sub(r"^\w+ an? ", "", place) for job, place in workplaces}
    tables["kind"] = {thing: kind for kind, all_ in things.KINDS.items() for thing in all_}
    tables["opposite"] = dict(words.OPPOSITES) | {b: a for a, b in words.OPPOSITES}
    tables["planet_place"] = {p: _ordinal(i) for i, p in enumerate(measures.PLANETS, 1)}
    names = ("symbol", "state")
    tables |= {name: column(measures.ELEMENTS, n) for n, name in enumerate(names, 1)}
    names = ("comparative", "superlative")
    tables |= {name: column(words.ADJECTIVES, n) for n, name in enumerate(names, 1)}
    tables["past"] = column(words.VERBS, 1)
    tables["maker"] = column(people.WORKS, 2)
    pairs = {
        "river": places.RIVERS,
        "sight": places.SIGHTS,
        "dish": places.DISHES,
        "colour": things.COLOURS,
        "material": things.MATERIALS,
        "source": things.SOURCES,
        "giver": things.GIVERS,
        "family": measures.FAMILIES,
        "homeland": people.HOMELANDS,
        "measure": measures.MEASURES,
        "sense": measures.SENSES,
        "synonym": words.SYNONYMS,
        "american": words.AMERICAN,
        "contraction": words.CONTRACTIONS,
    }
    return tables | {name: dict(rows) for name, rows in pairs.items()}


def answer_of(relation: str, subject: str, parts: str) -> str | None:
    if relation in _RULES:
        return _RULES[relation](subject)
    if relation == "unit":
        return next((n for u, _, p, n in measures.UNITS if (u, p) == (subject, parts)), None)
    if relation == "count":
        return next((n for t, p, n in measures.COUNTS if (t, p) == (subject, parts)), None)
    return _tables()[relation].get(subject)


def subjects_of(relation: str) -> list[str]:
    """All that the relation is told of: those among which an answer must be the only one."""
    by_rule = {
        "plural": list(words.PLURALS),
        "number_word": list(map(str, range(101))),
        "roman": list(map(str, measures.ROMANS)),
        "letters": list(words.SPELLED),
        "spelling": list(words.SPELLED),
        "next_letter": list(measures.ALPHABET[:-1]),
        "next_day": list(calendar.day_name),
    }
    if relation in by_rule:
        return by_rule[relation]
    if relation in _RULES:
        return list(calendar.month_name)[1:]
    if relation in ("unit", "count"):
        return []
    return list(_tables()[relation])


def has_one_subject(relation: str, subject: str, parts: str) -> bool:
    """Whether a question back has one answer: nothing else, here or elsewhere, has this answer."""
    answer = answer_of(relation, subject, parts)
    shared = animals.SHARED | {"tool": people.SHARED_TOOLS}
    if answer in shared.get(relation, ()):
        return False
    return [s for s in subjects_of(relation) if answer_of(relation, s, parts) == answer] == [
        subject
    ]


_OF_WORDS = words_in("""
opposite synonym american contraction plural past comparative superlative spelling letters roman
number_word next_letter
""")


def forms_of(fact: str) -> list[set[str]]:
    """The words of a fact, each group in all its forms: a text with one of each may tell it."""
    relation, _, rest = fact.partition("/")
    subject, _, parts = rest.partition("/")
    answer = answer_of(relation, subject, parts)
    assert answer, fact
    subjects, answers = {subject}, {answer}
    if relation not in _OF_WORDS:
        subjects.add(plural(subject))
    if relation != "plural":
        answers.add(plural(answer))
    if relation == "past":
        subjects.add(re.sub("(?<=[^aeiou])y$", "ie", subject) + "s")  # carries
        subjects.add(subject + "es")  # goes, washes
    if relation == "job":
        answers |= {do for _, does, do, *_ in people.JOBS if does == answer}
    return [subjects, *([{parts}] if parts else []), answers]
