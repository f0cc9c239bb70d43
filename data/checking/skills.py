"""Whether a task was done right: read from its text, and done again in another way."""

import re
from collections.abc import Callable

from data.checking.facts import plural
from data.checking.sentences import with_article
from data.checking.wordings import asked, fields_of
from data.corpus.people import BOYS, GIRLS
from data.skills.lists import GROUPS
from data.world import words


def problem(record: dict) -> str | None:
    """What is wrong with a closed record that names no fact, or None."""
    fields = fields_of(record)
    if fields is None:
        return f"this is not what its wording asks: {record['wording']}"
    expected = _BY_CATEGORY[record["category"]](asked(record), fields["x"])
    return None if expected == record["output"] else f"{expected} is right"


def _numbers(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", text)]


def _calculation(asked: str, given: str) -> str:
    one, sign, other = re.search(r"(\d+) (\+|plus|-|minus|times|divided by) (\d+)", asked).groups()
    one, other = int(one), int(other)
    if sign in ("+", "plus"):
        return str(one + other)
    if sign in ("-", "minus"):
        return str(one - other)
    if sign == "times":
        return str(sum([one] * other))
    return str(one // other) if one % other == 0 else "no whole number"


def _problem(asked: str, given: str) -> str:
    one, other = _numbers(asked)
    gains = re.search(r"\d+ more\b|morning and \d+", asked)
    loses = re.search(r"\b(of them|takes \d+ out)\b", asked)
    assert bool(gains) != bool(loses), asked
    return str(one + other if gains else one - other)


def _comparison(asked: str, given: str) -> str:
    numbers = _numbers(asked)
    if len(numbers) == 1:
        return ("even", "odd")[numbers[0] % 2]
    return str(max(numbers) if re.search(r"\b(larger|more)\b", asked) else min(numbers))


def _sorted_numbers(asked: str, given: str) -> str:
    falling = re.search(r"from (the )?(large|high)|largest first|descending", asked)
    numbers = sorted(_numbers(given))
    return ", ".join(map(str, numbers[::-1] if falling else numbers))


def _next_number(asked: str, given: str) -> str:
    one, two, three = _numbers(given)
    return str(three + (three - two)) if three - two == two - one else "no series"


def _sorted_words(asked: str, given: str) -> str:
    remaining, result = given.split(", "), []
    while remaining:
        result.append(min(remaining))
        remaining.remove(result[-1])
    return ", ".join(result)


def _list(asked: str, given: str) -> str:
    items = given.split(", ")
    request = asked.removesuffix(given)
    if re.search(r"(?i)how many|count|how long|number of", request):
        return str(given.count(",") + 1)
    if re.search(r"(?i)turn|opposite|reverse|back|last to the first|last word and", request):
        return ", ".join(items[::-1])
    if re.search(r"\band\b", request):
        return " and ".join((", ".join(items[:-1]), items[-1]))
    places = {"first": 0, "second": 1, "third": 2, "last": -1}
    return items[places[re.search(r"\b(first|second|third|last)\b", request)[1]]]


def _belonging(asked: str, given: str) -> str:
    items = given.split(", ")
    if len(items) == 3:
        (group,) = [name for name, members in GROUPS.items() if set(items) <= set(members)]
        return plural(group)
    others = [
        next(item for item in items if item not in members)
        for members in GROUPS.values()
        if len(set(items) & set(members)) == 3
    ]
    return others[0] if len(others) == 1 else f"one of {others}"


def _capitals(asked: str, given: str) -> str:
    return given.lower() if "small letters" in asked else given.upper()


def _article(asked: str, given: str) -> str:
    return with_article(given)


def _letter(asked: str, given: str) -> str:
    return given[-1] if re.search(r"\b(last|end)\b", asked) else given[0]


_PARTICIPLES = {past: participle for _, past, participle in words.VERBS}
_PASTS = {participle: past for _, past, participle in words.VERBS}
_PASTS_OF_BASES = {base: past for base, past, _ in words.VERBS}


def _voice(asked: str, given: str) -> str:
    passive = re.fullmatch(r"The (\w+) was (\w+) by (.+)\.", given)
    if passive:
        thing, participle, doer = passive.groups()
        return f"{doer[0].upper()}{doer[1:]} {_PASTS[participle]} the {thing}."
    doer, past, thing = re.fullmatch(r"(\w+|The \w+) (\w+) the (\w+)\.", given).groups()
    doer = doer.replace("The ", "the ")
    return f"The {thing} was {_PARTICIPLES[past]} by {doer}."


def _question_or_no(asked: str, given: str) -> str:
    doer, verb, rest = re.fullmatch(r"(.+?) (is|was|can|will) (.+)\.", given).groups()
    if re.search(r"(?i)question|whether", asked):
        return f"{verb.title()} {doer.replace('The ', 'the ')} {rest}?"
    return f"{doer} {verb} not {rest}.".replace("can not", "cannot")


def _tense(asked: str, given: str) -> str:
    doer, verb, rest = re.fullmatch(r"(\w+|The \w+) (\w+) (the \w+\.)", given).groups()
    bases = [verb.removesuffix("s"), verb.removesuffix("es"), re.sub("ies$", "y", verb)]
    (base,) = {base for base in bases if base in _PASTS_OF_BASES and base != verb}
    if re.search(r"\b(past|yesterday)\b", asked):
        return f"{doer} {_PASTS_OF_BASES[base]} {rest}"
    return f"{doer} will {base} {rest}"


def _pronoun(asked: str, given: str) -> str:
    name, _, rest = given.partition(" ")
    assert (name in GIRLS) != (name in BOYS), name
    return f"{'She' if name in GIRLS else 'He'} {rest}"


def _reading(asked: str, given: str) -> str:
    went = re.search(r"On (\w+), (\w+) went to the ([\w ]+?)\.", asked)
    if went:
        day, name, place = went.groups()
    else:
        name, place, day = re.search(r"(\w+) went to the ([\w ]+?) on (\w+)\.", asked).groups()
    did = re.search(r"(?:There )?(?:[Ss]?[Hh]e) (\w+) ([\w ]+?) because ([\w' ]+)\.", asked)
    question = re.search(r"(Who|Where|On which day|What|Why) (went|did) [\w' ]+\?", asked)[1]
    return {
        "Who": name,
        "Where": f"to the {place}",
        "On which day": day,
        "What": did[2],
        "Why": f"because {did[3]}",
    }[question]


def _finding(asked: str, given: str) -> str:
    name, first, place = re.fullmatch(
        r"(\w+) (?:saw|found|lost|left) (?:a )?(\w+) \w+ in the (\w+)\.", given
    ).groups()
    what = re.search(r"\b(name|colour|number|place)\b(?! the)", asked.removesuffix(given))[1]
    has_colour = f" a {first} " in given
    assert (what == "colour") <= has_colour and (what == "number") <= (not has_colour), asked
    return {"name": name, "colour": first, "number": first, "place": place}[what]


_BY_CATEGORY: dict[str, Callable[[str, str], str]] = {
    "addition and subtraction": _calculation,
    "multiplication and division": _calculation,
    "problems in words": _problem,
    "comparing numbers": _comparison,
    "sorting numbers": _sorted_numbers,
    "continuing a series": _next_number,
    "sorting words": _sorted_words,
    "handling lists": _list,
    "what belongs together": _belonging,
    "capital letters": _capitals,
    "a or an": _article,
    "the alphabet": _letter,
    "active and passive": _voice,
    "questions and denials": _question_or_no,
    "past and future": _tense,
    "pronouns": _pronoun,
    "reading": _reading,
    "finding words": _finding,
}
