"""The corpus: documents without end, each of them new, the same for a seed on every machine.

    facts ──> pages, talks and lessons ─┐
    skills ─> exercises ────────────────┼─> documents(seed)
    plots, tales, reasons ──────────────┘

More than a quarter of the documents are about one thing and tell several facts of it; the others
are about one relation, or one skill, or a story. Facts are dealt out like cards, all of them before
any comes again, so that none is rare by bad luck.
"""

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b

from data.corpus import pages, tales, talks
from data.corpus.exercises import EXERCISES
from data.corpus.lessons import LESSONS
from data.dice import Dice
from data.skills import lists, numbers, reading, sentences
from data.skills.skill import Skill
from data.world.facts import BY_RELATION, FACTS, Fact
from data.world.table import words

SKILLS: tuple[Skill, ...] = (
    *numbers.SKILLS,
    *lists.SKILLS,
    *sentences.SKILLS,
    *reading.SKILLS,
)
_HARD = (
    *("sum", "difference", "product", "quotient", "problem", "ascending", "descending", "series"),
    *("alphabetical", "stranger", "number of words", "backwards", "last letter", "reading"),
)
_PRACTISED = SKILLS + tuple(skill for skill in SKILLS if skill.name in _HARD)  # these twice
END = "<|endoftext|>"  # between documents in a file

Maker = Callable[[Dice, Sequence[Fact]], str]

# How often each kind of text about one thing is drawn.
ABOUT_ONE_THING: tuple[tuple[int, Maker], ...] = (
    (4, pages.page),
    (5, talks.talk),
    (3, talks.script),
    (2, talks.visit),
    (2, talks.quiz),
    (2, pages.letter),
    (1, pages.diary),
    (1, pages.notes),
    (2, pages.riddle),
    (2, pages.task),
)
COMPARED = 0.12  # of the texts about one thing: those that set another beside it
# Relations that a model learns late: after 16 million tokens it knew 96% of the capitals and 29% of
# animals' sounds. In lessons, their facts come three times as often.
_LEARNED_LATE = words("""
next_day next_month month_place planet_place sound young group home food giver job tool workplace
sense measure contraction source material next_letter
""")
FEW = 3  # facts: a thing of which fewer are told comes up only among others of its kind

# Shares of all documents.
_KINDS = (
    (27, "thing"),
    (36, "lesson"),
    (26, "skill"),
    (3, "story"),
    (4, "reading"),
    (2, "explanation"),
    (2, "day"),
)


def documents(seed: int = 0) -> Iterator[str]:
    """Texts without end, no two of them equal."""
    dice = Dice(seed)
    kinds = _weighted(_KINDS)
    things, lessons, skills = _things(dice), _lessons(dice), dice.deck(_PRACTISED)
    lesson_makers, thing_makers = _weighted(LESSONS), _weighted(ABOUT_ONE_THING)
    exercise_makers = _weighted(EXERCISES)
    others = {"story": tales.story, "reading": tales.reading}
    others |= {"explanation": tales.explanation, "day": tales.day}
    seen: set[bytes] = set()
    while True:
        kind = dice.pick(kinds)
        if kind == "thing":
            text = _about_one_thing(dice, next(things), thing_makers)
        elif kind == "lesson":
            text = dice.pick(lesson_makers)(dice, next(lessons))
        elif kind == "skill":
            text = dice.pick(exercise_makers)(dice, next(skills))
        else:
            text = others[kind](dice)
        key = blake2b(text.encode(), digest_size=8).digest()
        if key not in seen:
            seen.add(key)
            yield text


def _weighted(choices: Sequence[tuple[int, object]]) -> list:
    return [choice for weight, choice in choices for _ in range(weight)]


def _about_one_thing(dice: Dice, facts: Sequence[Fact], makers: Sequence[Maker]) -> str:
    if dice.chance(COMPARED):
        pair = _compared(dice, facts)
        if pair:
            return pages.comparison(dice, *pair)
    return dice.pick(makers)(dice, facts)


def _compared(dice: Dice, facts: Sequence[Fact]) -> tuple[list[Fact], list[Fact]] | None:
    """The facts, and what the same relations say of another thing of the kind."""
    topic = facts[0].relation.topic
    mine = [fact for fact in facts if fact.relation.topic == topic]
    of_others = dice.pick(_SUBJECTS_OF[topic])
    theirs = {fact.relation.name: fact for fact in of_others}
    pairs = [(fact, theirs[fact.relation.name]) for fact in mine if fact.relation.name in theirs]
    pairs = [(one, other) for one, other in pairs if one.subject != other.subject]
    if len(pairs) < 2:
        return None
    one, other = zip(*pairs, strict=True)
    return list(one), list(other)


def _things(dice: Dice) -> Iterator[list[Fact]]:
    """What is told of one thing, three to six facts at a time."""
    while True:
        cards = []
        for facts in _BY_SUBJECT:
            cards += _chunks(dice, facts, 3, 6)
        yield from dice.shuffled(cards)


def _lessons(dice: Dice) -> Iterator[list[Fact]]:
    """What one relation tells of several things, five to eight at a time.

    Facts that have no text of their own, as too few are told of their subject, come twice.
    """
    while True:
        cards = []
        for relation, facts in BY_RELATION.items():
            for _ in range(3 if relation in _LEARNED_LATE else 1):
                cards += _chunks(dice, facts, 5, 8)
            rare = [fact for fact in facts if fact.subject not in _SUBJECTS_WITH_TEXTS]
            if 0 < len(rare) < 5:  # in the company of others
                rare += dice.sample([fact for fact in facts if fact not in rare], 5 - len(rare))
            cards += _chunks(dice, rare, 5, 8)
        yield from dice.shuffled(cards)


def _chunks(dice: Dice, facts: Sequence[Fact], low: int, high: int) -> list[list[Fact]]:
    """All facts, in random order, in parts of `low` to `high`; a short rest joins the last."""
    facts = dice.shuffled(facts)
    chunks: list[list[Fact]] = []
    while facts:
        size = dice.between(low, high)
        if len(facts) - size < low - 1:
            size = len(facts)
        # What is told of it as a word comes after what is told of the thing.
        chunks.append(sorted(facts[:size], key=lambda fact: fact.relation.topic == "word"))
        facts = facts[size:]
    return chunks


def _by_subject() -> tuple[tuple[Fact, ...], ...]:
    """By its name, all that is told of a thing, as an animal and as a word; not of few facts."""
    groups: dict[str, list[Fact]] = {}
    for fact in FACTS:
        groups.setdefault(fact.subject, []).append(fact)
    return tuple(tuple(group) for group in groups.values() if len(group) >= FEW)


_BY_SUBJECT = _by_subject()
_SUBJECTS_WITH_TEXTS = frozenset(facts[0].subject for facts in _BY_SUBJECT)
_SUBJECTS_OF: dict[str, list[tuple[Fact, ...]]] = {}
for _group in _BY_SUBJECT:
    for _topic in dict.fromkeys(_fact.relation.topic for _fact in _group):
        _SUBJECTS_OF.setdefault(_topic, []).append(_group)
