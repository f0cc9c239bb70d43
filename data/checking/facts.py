"""Whether an answer to a question for a fact is right: worked out from what the question says.

This reads the tables again, by another way than the generator does, and where a rule can say it
(plurals, Roman numerals, the calendar, spelling) it asks the rule and not the table.
"""

import calendar
import re
from collections.abc import Callable
from functools import cache

from data.world import animals, measures, people, places, things, words
from data.world.table import words as words_in


def problem(record: dict) -> str | None:
    """What is wrong with a record that names its fact, or None."""
    relation, _, rest = record["fact"].partition("/")
    subject, _, parts = rest.partition("/")
    asked = f"{record['instruction']} {record['input']}"
    output = record["output"]
    answer = answer_of(relation, subject, parts)
    if answer is None:
        return f"there is no {record['fact']}"
    if not re.search(_ASKS_FOR[relation], asked, re.IGNORECASE):
        return f"this does not ask for the {relation}"
    if re.search(r"\b(full|whole) sentence\b", asked):
        if not _stands(subject, asked):
            return f"this does not ask of {subject}"
        return _sentence_problem(relation, subject, answer, output)
    if _stands(subject, asked) and output == answer:
        return None
    if _stands(answer, asked) and output == subject:
        others = [s for s in subjects_of(relation) if answer_of(relation, s, parts) == answer]
        return None if others == [subject] else f"{answer} is the answer for {others}"
    return f"asked of {subject}, {answer} is right, not {output}"


# What a question for it cannot do without.
_ASKS_FOR = {
    "capital": r"\bcapital\b",
    "continent": r"\bcontinent\b|\.\.\.$",
    "language": r"\b(language|speak)\b",
    "currency": r"\b(currency|money)\b",
    "nationality": r"\b(nationality|(person|people) from|person (come|who)|a person)\b",
    "river": r"\briver\b",
    "sight": r"\b(city|where|stands in|is in)\b",
    "dish": r"\b(country|where|home|comes from)\b",
    "class": r"\b(kind|class)\b|\b(is|are) an? \.\.\.",
    "young": r"\b(young|baby|be when it is big)\b",
    "sound": r"\b(sound|hear|can)\b",
    "home": r"\b(home|live|place|where)\b",
    "food": r"\b(eats?|food|lives? on|hungry)\b",
    "group": r"\b(group|together)\b",
    "legs": r"\blegs\b",
    "colour": r"\bcolour\b|\b(is|are) \.\.\.",
    "material": r"\b(material|made of|make)\b",
    "source": r"\b(made from|make|made)\b",
    "giver": r"\banimal\b|\bcomes? from an? \.\.\.",
    "kind": r"\b(kind|sort|group)\b|\b(is|are) an? \.\.\.",
    "family": r"\b(family|instrument)\b",
    "count": r"\b(how many|number|has|have)\b",
    "job": r"\b(does|do|person|work|name of the job|who|become)\b|\.\.\.$",
    "tool": r"\b(tool|works? with|uses?|need)\b",
    "workplace": r"\b(works?|workplace|where|find)\b",
    "maker": r"\b(author|painter|composer|who|whom|by)\b",
    "homeland": r"\b(country|where|born|came from)\b",
    "next_month": r"\b(after|before|begins|follows)\b",
    "month_place": r"\b(place|months?)\b",
    "month_days": r"\bdays\b",
    "season": r"\bseason|\b(is in|it is|belongs to) \.\.\.",
    "next_day": r"\b(after|before|tomorrow|yesterday|follows)\b",
    "next_letter": r"\b(after|before|follows)\b",
    "number_word": r"\b(words?|figures|which number)\b",
    "roman": r"\bRoman",
    "unit": r"\b(how many|number|has|what is)\b",
    "measure": r"\bmeasur",
    "symbol": r"\b(symbol|chemists|chemistry)\b",
    "state": r"\b(warm room|twenty degrees)\b",
    "planet_place": r"\bplanets?\b|\bfrom the Sun\b",
    "sense": r"\b(part of the body|with)\b",
    "opposite": r"\bopposite\b",
    "synonym": r"\b(word|means?) ",
    "american": r"\b(American|Americans|British)\b",
    "contraction": r"\b(short|fast|often say|long form)\b",
    "plural": r"\b(plural|more than one|but two)\b",
    "past": r"\b(past|yesterday)\b",
    "comparative": r"\b(comparative|more than|compares)\b",
    "superlative": r"\b(superlative|above all|of all)\b",
    "spelling": r"\b(spell|spelled|spelling|letter by letter)\b",
    "letters": r"\bletters\b",
}


def _sentence_problem(relation: str, subject: str, answer: str, output: str) -> str | None:
    if not re.fullmatch(r"[A-Z0-9].*\.", output):
        return f"no sentence: {output}"
    if not (_stands(subject, output) and _stands(answer, output)):
        return f"{subject} and {answer} do not both stand in: {output}"
    if not re.search(_ASKS_FOR[relation], _with_gap(answer, output), re.IGNORECASE):
        return f"this does not tell the {relation}: {output}"
    rest = _whole(answer).sub("", _whole(subject).sub("", output))
    for other in {answer_of(relation, s, "") for s in subjects_of(relation)} - {None, answer}:
        if _stands(other, rest):
            if relation in ("opposite", "letters", "unit", "count"):
                continue  # a letter or a small word that stands in any sentence
            return f"{other} stands in it too: {output}"
    return None


def _with_gap(answer: str, sentence: str) -> str:
    return _whole(answer).sub("...", sentence).removesuffix(".")


def _stands(word: str, text: str) -> bool:
    """As a word of its own, singular or plural, with a capital or without."""
    return _whole(word).search(text) is not None


@cache
def _whole(word: str) -> re.Pattern[str]:
    forms = (word, plural(word)) if word.islower() else (word,)
    either = "|".join(map(re.escape, forms))
    return re.compile(rf"(?<![\w-])({either})(?![\w-])", re.IGNORECASE)


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


def _number_in_words(figures: str) -> str:
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
    return irregular.get(n) or re.sub("ve$", "f", _number_in_words(str(n))) + "th"


_RULES: dict[str, Callable[[str], str | None]] = {
    "plural": plural,
    "number_word": _number_in_words,
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
