"""Texts about one thing: pages, letters, diaries, notes, riddles, comparisons, tasks.

They name the thing, and then tell several facts of it, by its name or as "it" and "its".
"""

import re
from collections.abc import Sequence

from data.corpus.people import CAST, WISE
from data.corpus.speech import ask, cap, named, quoted, statement
from data.dice import Dice
from data.world.endings import a
from data.world.facts import Fact, occurs
from data.world.measures import number_word

_KINDS_OF_TOPICS = {
    "country": "country",
    "city": "city",
    "animal": "animal",
    "thing": "thing",
    "job": "job",
    "month": "month",
    "element": "element",
    "planet": "planet",
    "word": "word",
    "work": "work",
}
_OPENINGS = (
    "This page is about {x}.",
    "This text is about {x}.",
    "Here is what {p} knows about {x}.",
    "Today we talk about {x}.",
    "There is a lot to say about {x}.",
    "Let us look at {x}.",
    "What do we know about {x}?",
    "{p} has written a text about {x}.",
    "{q} asked {p} about {x}.",
    "Somebody should explain {x}, and {p} can do it.",
    "Let me tell you about {x}.",
    "Here are some facts about {x}.",
)
_CLOSINGS = (
    "Now you know more about {x}.",
    "That is what {p} learned about {x}.",
    "That is all about {x}.",
    "{p} likes to talk about {x}.",
    "So much for {x}.",
    "{q} was glad to know that.",
)


def page(dice: Dice, facts: Sequence[Fact]) -> str:
    """A paragraph or two, sometimes with a title."""
    p, q = dice.sample(CAST, 2)
    x = named(facts[0])
    parts = []
    if dice.chance(0.6):
        parts.append(_filled(dice.pick(_OPENINGS), x, p.name, q.name))
    parts += told(dice, facts)
    if dice.chance(0.3):
        parts.append(_filled(dice.pick(_CLOSINGS), x, p.name, q.name))
    text = _paragraphs(dice, parts)
    return f"{cap(x)}\n\n{text}" if dice.chance(0.3) else text


def told(dice: Dice, facts: Sequence[Fact]) -> list[str]:
    """Sentences: the first names the thing, and so do at least half of the others."""
    p, q = dice.sample(CAST, 2)
    sentences: list[str] = []
    with_it = dice.chance(0.7)  # then the thing is named in the singular: a cow, not cows
    subject = ""
    for fact in facts:
        same = fact.relation.topic == facts[0].relation.topic
        its = with_pronouns(fact, subject) if with_it and same else ()
        if its and dice.chance(0.6):
            clause = dice.pick(its)
            sentences.append(f"{cap(clause)}.")
        else:
            clause = dice.pick(fact.says_of_one if with_it else fact.says)
            sentences.append(statement(dice, clause, p, q, first=not sentences))
        subject = subject_of(fact, clause)
    return sentences


_IT = re.compile(
    r"((in|at) [\w ]*)?(it|they)\b"
)  # it eats; in Europe it is; at twenty degrees it is


def subject_of(fact: Fact, clause: str) -> str:
    """Of whom a clause speaks: the thing itself ("it"), something of it ("its"), or others ("").

    After "Brazil has the real as its currency", "it" is Brazil; after "the currency of Brazil is
    the real", it could be the real.
    """
    if clause in fact.of_itself or _IT.match(clause):
        return "it"
    return "its" if clause.startswith("its ") else ""


def with_pronouns(fact: Fact, subject: str) -> tuple[str, ...]:
    """The clauses with "it" and "its" that can follow: after "its", only "its"."""
    return (
        fact.its
        if subject == "it"
        else tuple(clause for clause in fact.its if subject == "its" and clause.startswith("its "))
    )


def _filled(template: str, x: str, p: str, q: str) -> str:
    return template.replace("{x}", x).replace("{p}", p).replace("{q}", q)


def _paragraphs(dice: Dice, sentences: list[str]) -> str:
    if len(sentences) > 4 and dice.chance(0.4):
        half = len(sentences) // 2
        return " ".join(sentences[:half]) + "\n\n" + " ".join(sentences[half:])
    return " ".join(sentences)


_GREETINGS = ("How are you? I am well.", "Thank you for your letter.", "I hope you are well.")
_NEWS = (
    "Today we learned about {x} at school.",
    "You asked me about {x}. Here is my answer.",
    "I have read a book about {x}.",
    "My grandmother told me about {x}.",
    "Our task for today was to write about {x}.",
)
_GOODBYES = ("Write soon!", "Please write back.", "See you soon.", "What do you know about it?")
_ENDINGS = ("Your friend,", "Yours,", "With love,", "Best wishes,")


def letter(dice: Dice, facts: Sequence[Fact]) -> str:
    p, q = dice.sample(CAST, 2)
    x = named(facts[0])
    parts = [dice.pick(_GREETINGS)] if dice.chance(0.5) else []
    parts.append(_filled(dice.pick(_NEWS), x, p.name, q.name))
    parts += told(dice, facts)
    if dice.chance(0.5):
        parts.append(dice.pick(_GOODBYES))
    text = " ".join(parts)
    return f"Dear {q.name},\n\n{text}\n\n{dice.pick(_ENDINGS)}\n{p.name}"


_DAYS_OUT = (
    "Dear diary, today I was at the library.",
    "Dear diary, it rained all day, so I read a book.",
    "Dear diary, today I talked with {q}.",
    "Today {q} and I were in the garden.",
    "Today was a good day at school.",
    "This morning {q} came to my house.",
)


def diary(dice: Dice, facts: Sequence[Fact]) -> str:
    x = named(facts[0])
    opening = dice.pick(_DAYS_OUT).replace("{q}", dice.pick(CAST).name)
    parts = [opening, f"I learned something about {x}.", *told(dice, facts)]
    if dice.chance(0.5):
        fact = dice.pick(facts)
        parts.append(f"I will not forget that {dice.pick(fact.says)}.")
    return " ".join(parts)


def notes(dice: Dice, facts: Sequence[Fact]) -> str:
    """A list: of names and words, or of sentences with numbers."""
    p = dice.pick(CAST)
    x = named(facts[0])
    title = dice.pick((cap(x), f"Notes about {x}", f"{p.name}'s notes about {x}", f"Facts: {x}"))
    if dice.chance(0.5):
        lines = [f"- {_label(fact)}: {fact.answer}" for fact in facts]
    elif dice.chance(0.5):
        lines = [f"- {cap(fact.says[0])}." for fact in facts]
    else:
        lines = [f"{i}. {cap(fact.says[0])}." for i, fact in enumerate(facts, 1)]
    return "\n".join([title, *lines])


_LABELS = {
    "american": "American word",
    "contraction": "short form",
    "giver": "animal",
    "group": "a group of them",
    "homeland": "home country",
    "job": "work",
    "kind": "kind of thing",
    "letters": "number of letters",
    "measure": "instrument",
    "month_days": "number of days",
    "month_place": "place in the year",
    "next_day": "the next day",
    "next_letter": "the next letter",
    "next_month": "the next month",
    "number_word": "word",
    "past": "past tense",
    "planet_place": "place among the planets",
    "roman": "Roman numeral",
    "sense": "part of the body",
    "sight": "city",
    "source": "made from",
    "state": "in a warm room",
    "synonym": "another word",
}


def _label(fact: Fact) -> str:
    """What stands before the answer in a list about one thing."""
    name = fact.relation.name
    return fact.more["parts"] if name == "count" else _LABELS.get(name, name)


_GUESSES = ("What is it?", "Can you guess it?", "Guess!", "Which {kind} is it?")


def riddle(dice: Dice, facts: Sequence[Fact]) -> str:
    """What the facts say without the name, and then the name."""
    told_of = [
        fact
        for fact in facts
        if fact.relation.topic in _KINDS_OF_TOPICS
        and fact.its
        and not any(occurs(fact.subject, clause) for clause in fact.its)
    ]
    if len(told_of) < 2:
        return page(dice, facts)
    kind = _KINDS_OF_TOPICS[told_of[0].relation.topic]
    told_of = [fact for fact in told_of if fact.relation.topic == told_of[0].relation.topic]
    one = told_of[0].forms["one"]
    p, q = dice.sample(CAST, 2)
    hints = hints_of([dice.pick(fact.its) for fact in told_of])
    guess = dice.pick(_GUESSES).replace("{kind}", kind)
    thinking = f"I am thinking of {a(kind)}."
    again = f"{cap(dice.pick(dice.pick(told_of).says))}."
    if dice.chance(0.5):
        return f"A riddle\n\n{thinking} {hints} {guess}\n\nAnswer: {one}. {again}"
    return f'"{thinking} {hints} {guess}" said {p.name}. "{cap(one)}," said {q.name}. "{again}"'


def hints_of(clauses: Sequence[str]) -> str:
    """What is told of "it" comes before what is told of something of it."""
    return " ".join(f"{cap(c)}." for c in sorted(clauses, key=lambda c: not _IT.match(c)))


def comparison(dice: Dice, facts: Sequence[Fact], others: Sequence[Fact]) -> str:
    """Two things of one kind, fact by fact. `others` are what the same relations say of another."""
    p, q = dice.sample(CAST, 2)
    x, y = named(facts[0]), named(others[0])
    parts = [
        dice.pick(
            (
                f"Let us compare {x} and {y}.",
                f"{p.name} compares {x} with {y}.",
                f"{cap(x)} and {y} are not the same.",
                f"Explain the difference between {x} and {y}.",
                f"{p.name} had to write about {x} and {y}.",
            )
        )
    ]
    for one, other in zip(facts, others, strict=True):
        link = dice.pick((", but ", ", and ", "; ", ", while ", ". "))
        first, second = dice.pick(one.says), dice.pick(other.says)
        parts.append(f"{cap(first)}{link}{cap(second) if link == '. ' else second}.")
    if dice.chance(0.6):
        for fact in dice.sample([*facts, *others], 2):
            parts.append(quoted(dice, ask(dice, fact), p.name, q.name))
    return " ".join(parts)


DESCRIBE = ("Describe {x} in {n} sentences.", "Write {n} sentences about {x}.")
_TASKS = (
    *DESCRIBE,
    "Write a short text about {x}.",
    "Explain what you know about {x}.",
    "Tell me something about {x}.",
    "Give a short description of {x}.",
    "List some facts about {x}.",
)


def task(dice: Dice, facts: Sequence[Fact]) -> str:
    """Somebody is asked to write, and does it in the plainest words."""
    p = dice.pick(CAST)
    x = named(facts[0])
    request = dice.pick(_TASKS).replace("{x}", x).replace("{n}", number_word(len(facts)))
    written = " ".join(plain_description(facts))
    wise = dice.pick(WISE)
    return dice.pick(
        (
            f'{cap(wise)} gave {p.name} a task: "{request}" {p.name} wrote: "{written}"',
            f"Task: {request}\n\n{p.name}'s answer: {written}",
            f"{request}\n\n{written}",
            f'"{request[:-1]}," said {wise}. {p.name} thought for a while and said: "{written}"',
            f"The request was clear: {request} {p.name} took a pencil and began to write."
            f"\n\n{written}",
        )
    )


def plain_description(facts: Sequence[Fact]) -> list[str]:
    """The first sentence names the thing; the others go on with "it" where they can."""
    clauses: list[str] = []
    subject = ""
    for fact in facts:
        same = fact.relation.topic == facts[0].relation.topic
        its = with_pronouns(fact, subject) if same else ()
        clauses.append((*its, *fact.of_itself, fact.says[0])[0])
        subject = subject_of(fact, clauses[-1])
    return [f"{cap(clause)}." for clause in clauses]
