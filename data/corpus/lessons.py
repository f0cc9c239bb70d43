"""Texts about one relation and many things: a lesson on capitals, a list of young animals.

Where one name follows another in the same sentence, only the name tells which answer is right.
"""

from collections.abc import Sequence

from data.corpus.people import CAST
from data.corpus.speech import Exchange, ask, cap, named, quoted, statement
from data.corpus.talks import chorus, quiz, talk
from data.dice import Dice
from data.world.facts import Fact

_OPENINGS = (
    "Today's lesson is about {x}.",
    "The class talked about {x}.",
    "{p} and {q} learned about {x}.",
    "Here is a text about {x}.",
    "{p} has to know everything about {x}.",
    "Let us speak of {x}.",
    "This is a page of {p}'s book about {x}.",
)


def lesson(dice: Dice, facts: Sequence[Fact]) -> str:
    """Sentence after sentence, each with another name, and some questions at the end."""
    p, q = dice.sample(CAST, 2)
    about = facts[0].relation.theme
    opening = dice.pick(_OPENINGS).replace("{x}", about)
    parts = [opening.replace("{p}", p.name).replace("{q}", q.name)] if dice.chance(0.7) else []
    said = [dice.pick(fact.says) for fact in facts]
    while said:
        if len(said) > 1 and dice.chance(0.4):
            link = dice.pick((", and ", ", but ", ", while "))
            parts.append(f"{cap(said.pop())}{link}{said.pop()}.")
        else:
            parts.append(statement(dice, said.pop(), p, q, first=not parts))
    for fact in dice.sample(facts, dice.between(2, 4)):
        parts.append(quoted(dice, ask(dice, fact), p.name, q.name))
    return " ".join(parts)


def short_talk(dice: Dice, facts: Sequence[Fact]) -> str:
    """One full question, and then only "And of a sheep?": the rest is to be remembered."""
    p, q = dice.sample(CAST, 2)
    lines = []
    for i, fact in enumerate(facts):
        question = cap(fact.asks[0]) if i == 0 else f"And {fact.key}?"
        exchange = Exchange(question, f"{cap(fact.bare)}.")
        lines.append(quoted(dice, exchange, p.name, q.name))
    return " ".join(lines)


def listing(dice: Dice, facts: Sequence[Fact]) -> str:
    """A list: Japan: Tokyo. Or turned round, as a dictionary has it: calf: the young of a cow."""
    title = cap(facts[0].relation.theme)
    if facts[0].relation.back_asks and dice.chance(0.4) and facts[0].relation.equals:
        lines = [f"{fact.answer}: {fact.key}" for fact in facts]
    elif dice.chance(0.5):
        lines = [f"{fact.subject}: {fact.answer}" for fact in facts]
    else:
        lines = [f"{fact.key}: {fact.answer}" for fact in facts]
    if facts[0].relation.name in ("unit", "count", "legs"):
        lines = [f"{fact.key}: {fact.answer}" for fact in facts]
    return "\n".join([title, *lines] if dice.chance(0.7) else lines)


def completing(dice: Dice, facts: Sequence[Fact]) -> str:
    """Sentences with a gap, and what fills it."""
    p = dice.pick(CAST)
    opening = dice.pick(
        (
            "Complete the sentences.",
            f"{p.name} had to complete some sentences.",
            "Fill the gaps.",
            f"The task was to complete each sentence, and {p.name} did it.",
        )
    )
    lines = [opening]
    for fact in facts:
        start = beginning(fact)
        if start is None:
            lines.append(f"{cap(fact.says[0])}.")
        elif dice.chance(0.7):
            lines += [f"{start} ...", fact.answer]
        else:
            lines += [f"{start} ...", f"{start} {fact.answer}."]
    return "\n".join(lines)


def beginning(fact: Fact) -> str | None:
    """The plain sentence up to its answer, where that comes last: The capital of Japan is."""
    for clause in fact.says:
        if clause.endswith(f" {fact.answer}") and clause.count(fact.answer) == 1:
            return cap(clause[: -len(fact.answer) - 1])
    return None


def class_talk(dice: Dice, facts: Sequence[Fact]) -> str:
    return talk(dice, facts, about=facts[0].relation.theme)


def class_quiz(dice: Dice, facts: Sequence[Fact]) -> str:
    return quiz(dice, facts, about=facts[0].relation.theme)


def memory(dice: Dice, facts: Sequence[Fact]) -> str:
    """Somebody says all, and then is asked in another order."""
    p, q = dice.sample(CAST, 2)
    told = " ".join(f"{cap(dice.pick(fact.says))}." for fact in facts)
    asked = " ".join(quoted(dice, ask(dice, f), p.name, q.name) for f in dice.sample(facts, 4))
    names = ", ".join(named(fact) for fact in facts[:-1]) + f" and {named(facts[-1])}"
    opening = dice.pick(
        (
            f"{q.name} has learned something about {names}.",
            f"Listen to what {q.name} says about {names}.",
            f"{q.name} can speak of {names}.",
        )
    )
    return f"{opening} {told}\n\n{asked}"


LESSONS = (
    (5, lesson),
    (3, class_talk),
    (3, class_quiz),
    (2, short_talk),
    (2, listing),
    (2, completing),
    (2, memory),
    (2, chorus),
)
