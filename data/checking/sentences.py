"""The sentences that may tell a fact, as the checker has them: templates of its own, filled anew.

An answer "in a full sentence" must be the first of its relation, to the letter. Descriptions,
letters and riddles may use any of them. {s} is the subject, {one} the same with its article, {many}
its plural; {a} the answer, {an} the same with an article, {i} its first letter.
"""

import re
from functools import cache

from data.checking.facts import answer_of, plural, subjects_of
from data.world import measures, people, things

_TEMPLATES = """
capital: the capital of {s} is {a} / {s} has {a} as its capital / its capital is {a}
continent: {s} is in {a} / it is in {a} / its continent is {a} / the continent of {s} is {a}
language: the main language of {s} is {a} / its main language is {a}
currency: the currency of {s} is the {a} / {s} has the {a} as its currency / its currency is the {a}
nationality: a person from {s} is {a} / its people are {a}
river: the river of {s} is the {a}
sight: {s} is in {a} / the city of {s} is {a}
dish: {s} comes from {a} / it comes from {a}
class: {one} is {an} / it is {an}
young: the young of {one} is called {an} / its young is called {an}
sound: the sound of {one} is called {an} / {one} can {a} / it can {a} / its sound is called {an}
home: the home of {one} is {some} / {one} lives in {some} / it lives in {some} / its home is {some}
food: the food of {one} is {a} / {one} eats {a} / it eats {a} / its food is {a}
group: a group of {many} is called {an} / a group of them is called {an}
legs: {one} has {a} legs / it has {a} legs / the number of legs of {one} is {a}
colour: the colour of {one} is {a} / {one} is {a} / it is {a} / they are {a} / its colour is {a}
material: the material of {one} is {a} / {one} is made of {a} / it is made of {a}
source: {s} is made from {a} / {s} are made from {a} / it is made from {a} / they are made from {a}
giver: {s} comes from {an} / {s} come from {an} / it comes from {an} / they come from {an}
kind: {one} is {an} / it is {an}
family: the {s} belongs to the {a} family / it belongs to the {a} family
family: the family of the {s} is {a}
count: {one} has {a} {parts} / it has {a} {parts} / the number of {parts} of {one} is {a}
job: {one} {a}
tool: the tool of {one} is {an} / {one} works with {an}
workplace: the workplace of {one} is {an} / {one} works {at} {an}
maker: the {maker} of {s} is {a}
homeland: the home country of {s} is {a}
next_month: the month after {s} is {a} / {s} comes before {a} / the next month is {a}
month_place: {s} is the {a} month of the year / it is the {a} month of the year
month_place: when we count the months, {s} is the {a}
month_days: {s} has {a} days / it has {a} days / the number of days in {s} is {a}
season: in Europe, {s} is in {a} / {s} is a month of {a} in Europe / in Europe it is a month of {a}
next_day: the day after {s} is {a}
next_letter: the letter after {s} is {a}
number_word: the word for {s} is {a}
roman: the Roman numeral for {s} is {a}
unit: {one} has {a} {parts} / the number of {parts} in {one} is {a}
measure: the instrument for measuring {s} is {an}
symbol: the chemical symbol of {s} is {a} / {s} has the symbol {a} / its symbol is {a}
state: in a warm room, {s} is {an} / {s} is {an} in a warm room / in a warm room it is {an}
planet_place: {s} is the {a} planet from the Sun
sense: we {s} with our {a}
opposite: the opposite of {s} is {a}
synonym: another word for {s} that begins with {i} is {a}
american: the American word for {s} is {a}
contraction: the short form of {s} is {a}
plural: the plural of {s} is {a}
past: the past tense of {s} is {a}
comparative: the comparative of {s} is {a}
superlative: the superlative of {s} is {a}
spelling: the spelling of {s} is {a}
letters: the number of letters in {s} is {a}
"""


def _by_relation() -> dict[str, list[str]]:
    templates: dict[str, list[str]] = {}
    for line in _TEMPLATES.strip().splitlines():
        name, _, rest = line.partition(": ")
        templates.setdefault(name, []).extend(rest.split(" / "))
    return templates


TEMPLATES = _by_relation()


def sounds_like_a_vowel(word: str) -> bool:
    if word.startswith(("hour", "honest")):
        return True
    return word[0].lower() in "aeiou" and not word.startswith(("uni", "use", "ewe", "eu"))


def with_article(noun: str) -> str:
    return f"{'an' if sounds_like_a_vowel(noun) else 'a'} {noun}"


@cache
def fields(subject: str, answer: str, parts: str) -> dict[str, str]:
    """What the fields of a template may stand for, as patterns."""
    one = {with_article(subject)}
    if subject in things.MASS or subject[0].isupper():
        one = {subject}
    if subject.endswith("s"):  # raisins, prunes
        one |= {subject}
    some = {answer, with_article(answer), f"the {answer}"}
    nouns = {
        "s": {subject},
        "one": one,
        "many": {plural(subject)},
        "all": {plural(subject), subject},
        "a": {answer},
        "an": {with_article(answer), f"the {answer}", f"our {answer}", answer},
        "some": some,
        "as": {plural(answer)},
        "i": {answer[0]},
        "parts": {parts},
    }
    patterns = {name: "|".join(map(re.escape, sorted(words))) for name, words in nouns.items()}
    patterns |= _SMALL | {"do": re.escape(_DOING.get(answer, answer))}
    return {name: f"(?:{pattern})" for name, pattern in patterns.items()}


_DOING = {does: do for _, does, do, *_ in people.JOBS}  # bakes bread: bake bread
# Words that a template takes to agree with its subject; none of them says anything by itself.
_SMALL = {
    "at": "in|at|on",
    "prep": "in|at|on",
    "maker": "author|painter|composer",
    "who": "author|painter|composer",
    "did": "wrote|painted|composed",
    "made": "written|painted|composed",
    "noun": "book|painting|work",
    "art": "a|an",
    "are": "is|are",
    "are1": "is|are",
    "do1": "do|does",
    "come": "comes?",
}


def pattern_of(template: str, subject: str, answer: str, parts: str) -> str:
    """A regular expression for all that a template can become."""
    known = fields(subject, answer, parts)
    pieces = re.split(r"\{(\w+)\}", template)
    return "".join(known[p] if i % 2 else re.escape(p) for i, p in enumerate(pieces))


def fits(template: str, text: str, subject: str, answer: str, parts: str) -> bool:
    """Whether a text is the template, filled; with a capital at its beginning, or without."""
    pattern = pattern_of(template, subject, answer, parts)
    small = text[:1].lower() + text[1:]
    return any(re.fullmatch(pattern, form) for form in (text, small)) and "  " not in text


def is_plain_sentence(relation: str, subject: str, answer: str, parts: str, text: str) -> bool:
    """Whether a text is the relation's own sentence for a fact."""
    templates = TEMPLATES[relation][: 2 if relation in ("source", "giver") else 1]
    clause = text.removesuffix(".")
    return (
        text == f"{clause}."
        and not text[0].islower()
        and any(fits(t, clause, subject, answer, parts) for t in templates)
    )


def fact_told(clause: str, subject: str) -> str | None:
    """Which relation a clause rightly tells of a subject, by its name or as "it"."""
    for relation, templates in TEMPLATES.items():
        for parts in _parts_of(relation, subject):
            if (answer := answer_of(relation, subject, parts)) is None:
                continue
            if any(fits(t, clause, subject, answer, parts) for t in templates):
                return relation
    return None


@cache
def _parts_of(relation: str, subject: str) -> tuple[str, ...]:
    """The parts of which a relation speaks, "" where there are none; nothing if of others only."""
    if relation == "count":
        return tuple(parts for thing, parts, _ in measures.COUNTS if thing == subject)
    if relation == "unit":
        return tuple(parts for unit, _, parts, _ in measures.UNITS if unit == subject)
    return ("",) if subject in subjects_of(relation) else ()


@cache
def all_subjects() -> dict[str, str]:
    """All that is told of, by the names that a request may give it: cows, a cow, cow."""
    names: dict[str, str] = {}
    for relation in TEMPLATES:
        counted = [thing for thing, _, _ in measures.COUNTS]
        for subject in (*subjects_of(relation), *counted):
            for name in (subject, plural(subject), with_article(subject)):
                names.setdefault(name, subject)
    return names
