"""All facts of the small world, one by one, and which of them no training instruction may hold.

    tables (places.py, …) + relations (data/voices) ─> FACTS ─┬─> the corpus: every fact
                                                              └─> instructions: tuned facts only

A fact has one answer. A third of each relation is held out: such facts stand in the corpus like all
others, but in no instruction that the model is tuned on. Who answers them shows what tuning brought
out, as it cannot have put it in.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import pairwise

from data.voices import animals as animal_voices
from data.voices import calendar as calendar_voices
from data.voices import measures as measure_voices
from data.voices import people as people_voices
from data.voices import places as place_voices
from data.voices import things as thing_voices
from data.voices import words as word_voices
from data.voices.relation import Relation
from data.world import animals, measures, people, places, things, words
from data.world.endings import a, article, plural_of, third_person

_VOICES = (
    place_voices,
    animal_voices,
    thing_voices,
    people_voices,
    calendar_voices,
    measure_voices,
    word_voices,
)
RELATIONS: dict[str, Relation] = {r.name: r for module in _VOICES for r in module.RELATIONS}

PLURAL_NOUNS = ("raisins", "prunes", "chips", "pickles", "eggs", "pearls")
_WITH_ARTICLE = ("animal", "job", "unit")  # topics whose subjects are common nouns
_HOME_THE = ("desert", "sea", "jungle", "savanna", "forest")
# Both words of this pair stand in the wording of many instructions: it cannot be held out.
_NEVER_HELD_OUT = ("question",)


@dataclass(frozen=True, eq=False)
class Fact:
    """One answer to one question; `more` are further words that its voices use."""

    relation: Relation
    subject: str
    answer: str
    more: dict[str, str]

    @property
    def id(self) -> str:
        part = self.more.get("parts")
        return f"{self.relation.name}/{self.subject}" + (f"/{part}" if part else "")

    @cached_property
    def forms(self) -> dict[str, str]:
        """What the templates of the relation are filled with."""
        s, answer, topic = self.subject, self.answer, self.relation.topic
        mass, plural = s in things.MASS, s in PLURAL_NOUNS
        countable = topic in _WITH_ARTICLE or (topic == "thing" and not (mass or plural))
        many = plural_of(s) if countable else s
        forms = {
            "s": s,
            "a": answer,
            "one": a(s) if countable else s,
            "many": many,
            "all": many,
            "are": "are" if countable or plural else "is",
            "are1": "are" if plural else "is",
            "come": "come" if plural else "comes",
            "do1": "do" if plural else "does",
            "it": "them" if plural else "it",
            "it_is": "they are" if plural else "it is",
            "it_come": "they come" if plural else "it comes",
            "s_if_mass": "s" if mass else "",
            "as": plural_of(answer),
            "art": article(answer),
            "i": answer[0],
        } | self.more
        forms["an"] = self.relation.an.format_map(forms)
        forms["key"] = self.relation.key.format_map(forms)
        return forms

    def told(self, template: str) -> str:
        return template.format_map(self.forms)

    @cached_property
    def says(self) -> tuple[str, ...]:
        """Clauses that state it, each with subject and answer; the first is the plain one."""
        more = ("{key} is {an}", "{an} is {key}") if self.relation.equals else ()
        return tuple(dict.fromkeys(map(self.told, self.relation.says + more)))

    @cached_property
    def says_of_one(self) -> tuple[str, ...]:
        """Those that speak of a cow, not of cows: "it" may follow."""
        many = self.forms["many"]
        if many == self.subject:
            return self.says
        return tuple(c for c in self.says if not occurs(many, c)) or self.says

    @cached_property
    def of_itself(self) -> tuple[str, ...]:
        """Those of which the thing is the subject: after them, "it" can only be the thing."""
        starts = ("{s} ", "{one} ", "the {s} ")
        says = [c for c in self.relation.says if c.startswith(starts) and "{s} and {a}" not in c]
        return tuple(map(self.told, says))

    @cached_property
    def its(self) -> tuple[str, ...]:
        return tuple(map(self.told, self.relation.its))

    @cached_property
    def asks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(self.told, self.relation.asks)))

    @cached_property
    def back_asks(self) -> tuple[str, ...]:
        """Questions for the subject; none where another subject has the same answer."""
        return tuple(map(self.told, self.relation.back_asks)) if self.id in _BACK else ()

    @property
    def key(self) -> str:
        return self.forms["key"]

    @cached_property
    def back_key(self) -> str:
        return self.told(self.relation.back_key)

    @cached_property
    def bare(self) -> str:
        """The answer as it is said alone: a calf, in a barn."""
        return self.told(self.relation.bare)

    @cached_property
    def back(self) -> str:
        return self.told(self.relation.back)

    @cached_property
    def marks(self) -> tuple[tuple[str, ...], ...]:
        """A text that holds one word of each of these groups may be telling the fact."""
        forms = self.forms
        subjects = [self.subject.removeprefix("the "), forms["many"]]
        if self.relation.name == "past":  # "Max throws the stone." and then "Max threw the stone."
            subjects.append(third_person(self.subject))
        subject = tuple(dict.fromkeys(subjects))
        answer = tuple(dict.fromkeys((self.answer, forms["as"], forms.get("do", self.answer))))
        parts = ((forms["parts"],),) if "parts" in forms else ()
        return (subject, *parts, answer)

    def is_told_by(self, text: str) -> bool:
        return all(any(occurs(word, text) for word in group) for group in self.marks)


def occurs(word: str, text: str) -> bool:
    """Whether a word stands in a text; a name only with its capital letters."""
    word = word.removeprefix("the ")
    if word.islower():
        text = text.lower()
    return word in text and re.search(_whole(word), text) is not None


def _whole(word: str) -> str:
    return rf"(?<![\w-]){re.escape(word)}(?![\w-])"


def _facts() -> Iterator[Fact]:
    for name, subject, answer, *more in _rows():
        if answer != "-":
            yield Fact(RELATIONS[name], subject, answer, *(more or ({},)))


def _rows() -> Iterator[tuple]:
    """(relation, subject, answer), and where a voice uses further words, a dict of these."""
    yield from _place_rows()
    yield from _animal_rows()
    yield from _thing_rows()
    yield from _people_rows()
    yield from _calendar_rows()
    yield from _measure_rows()
    yield from _word_rows()


def _place_rows() -> Iterator[tuple]:
    for country, capital, continent, language, currency, nationality in places.COUNTRIES:
        yield "capital", country, capital
        yield "continent", country, continent
        yield "language", country, language
        yield "currency", country, currency
        yield "nationality", country, nationality
    yield from (("river", *row) for row in places.RIVERS)
    yield from (("sight", *row) for row in places.SIGHTS)
    yield from (("dish", *row) for row in places.DISHES)


def _animal_rows() -> Iterator[tuple]:
    for animal, class_, young, sound, home, food, group, legs in animals.ANIMALS:
        yield "class", animal, class_
        yield "young", animal, young
        yield "sound", animal, sound
        the = "the" if home in _HOME_THE else "" if home[0].isupper() else article(home)
        yield "home", animal, home, {"art": f"{the} ".lstrip()}
        yield "food", animal, food
        yield "group", animal, group
        yield "legs", animal, legs, {"parts": "legs"}


def _thing_rows() -> Iterator[tuple]:
    yield from (("colour", *row) for row in things.COLOURS)
    yield from (("material", *row) for row in things.MATERIALS)
    yield from (("source", *row) for row in things.SOURCES)
    yield from (("giver", *row) for row in things.GIVERS)
    yield from (("kind", thing, kind) for kind, all_ in things.KINDS.items() for thing in all_)
    yield from (("family", *row) for row in measures.FAMILIES)
    for thing, parts, number in measures.COUNTS:
        yield "count", thing, number, {"parts": parts}


def _people_rows() -> Iterator[tuple]:
    for job, does, do, tool, workplace in people.JOBS:
        yield "job", job, does, {"do": do}
        yield "tool", job, tool
        if workplace != "-":
            preposition, _, place = workplace.split(" ", 2)
            yield "workplace", job, place, {"prep": preposition}
    how = {
        "written": {"did": "wrote", "who": "author", "noun": "book"},
        "painted": {"did": "painted", "who": "painter", "noun": "painting"},
        "composed": {"did": "composed", "who": "composer", "noun": "work"},
    }
    for work, made, maker in people.WORKS:
        yield "maker", work, maker, {"made": made} | how[made]
    yield from (("homeland", *row) for row in people.HOMELANDS)


def _calendar_rows() -> Iterator[tuple]:
    months, days, letters = measures.MONTHS, measures.DAYS, measures.ALPHABET
    for i, month in enumerate(months):
        yield "next_month", month, months[(i + 1) % 12]
        yield "month_place", month, measures.ORDINALS[i]
        yield "month_days", month, str(measures.MONTH_DAYS[i])
        yield "season", month, measures.SEASONS[(i + 1) % 12 // 3]
    for i, day in enumerate(days):
        yield "next_day", day, days[(i + 1) % 7]
    yield from (("next_letter", *pair) for pair in pairwise(letters))


def _measure_rows() -> Iterator[tuple]:
    for n in range(101):
        yield "number_word", str(n), measures.number_word(n)
    for n in measures.ROMANS:
        yield "roman", str(n), measures.roman(n)
    for whole, _, parts, number in measures.UNITS:
        yield "unit", whole, number, {"parts": parts}
    yield from (("measure", *row) for row in measures.MEASURES)
    for element, symbol, state in measures.ELEMENTS:
        yield "symbol", element, symbol
        yield "state", element, state
    for i, planet in enumerate(measures.PLANETS):
        yield "planet_place", planet, measures.ORDINALS[i]
    yield from (("sense", *row) for row in measures.SENSES)


def _word_rows() -> Iterator[tuple]:
    for one, other in words.OPPOSITES:
        yield "opposite", one, other
        yield "opposite", other, one
    yield from (("synonym", *row) for row in words.SYNONYMS)
    yield from (("american", *row) for row in words.AMERICAN)
    yield from (("contraction", *row) for row in words.CONTRACTIONS)
    yield from (("plural", noun, plural_of(noun)) for noun in words.PLURALS)
    yield from (("past", base, past) for base, past, _ in words.VERBS)
    for adjective, comparative, superlative in words.ADJECTIVES:
        yield "comparative", adjective, comparative
        yield "superlative", adjective, superlative
    for word in words.SPELLED:
        yield "spelling", word, "-".join(word)
        yield "letters", word, str(len(word))


def _ids_with_one_subject(facts: Iterable[Fact]) -> frozenset[str]:
    """The facts whose answer no other subject of the relation has, in the tables or beyond them."""
    shared = animals.SHARED | {"tool": people.SHARED_TOOLS}
    by_answer: dict[tuple[str, str], list[Fact]] = {}
    for fact in facts:
        by_answer.setdefault((fact.relation.name, fact.answer), []).append(fact)
    return frozenset(
        group[0].id
        for (name, answer), group in by_answer.items()
        if len(group) == 1 and answer not in shared.get(name, ())
    )


def _held_out(facts: Iterable[Fact]) -> frozenset[str]:
    """A third of each relation, the same on every machine.

    Facts with the same two words (France and French, twice; hot and cold, both ways) go together.
    """
    facts = list(facts)
    by_pair: dict[tuple[str, ...], list[Fact]] = {}
    for fact in facts:
        by_pair.setdefault(tuple(sorted((fact.subject, fact.answer))), []).append(fact)
    room = {name: sum(f.relation.name == name for f in facts) // 3 for name in RELATIONS}
    held: list[str] = []
    for group in sorted(by_pair.values(), key=_draw):
        names = [fact.relation.name for fact in group]
        fits = all(room[name] >= names.count(name) for name in names)
        if fits and not any(map(_cannot_be_held_out, group)):
            held += [fact.id for fact in group]
            for name in names:
                room[name] -= 1
    return frozenset(held)


def _draw(group: list[Fact]) -> bytes:
    return blake2b(group[0].id.encode(), digest_size=8).digest()


def _cannot_be_held_out(fact: Fact) -> bool:
    own_words = occurs(fact.answer, fact.subject) or occurs(fact.subject, fact.answer)
    return own_words or fact.subject in _NEVER_HELD_OUT or fact.answer in _NEVER_HELD_OUT


def _by(facts: Iterable[Fact], key: Callable[[Fact], str]) -> dict[str, tuple[Fact, ...]]:
    groups: dict[str, list[Fact]] = {}
    for fact in facts:
        groups.setdefault(key(fact), []).append(fact)
    return {name: tuple(group) for name, group in groups.items()}


FACTS: tuple[Fact, ...] = tuple(_facts())
_BACK = _ids_with_one_subject(FACTS)
HELD_OUT: frozenset[str] = _held_out(FACTS)
BY_ID: dict[str, Fact] = {fact.id: fact for fact in FACTS}
BY_RELATION = _by(FACTS, lambda fact: fact.relation.name)
