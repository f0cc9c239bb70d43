"""Talks about one thing, or about many things of one kind: questions, answers, names said again."""

from collections.abc import Sequence

from data.corpus.people import CAST, WISE, Person
from data.corpus.speech import (
    Exchange,
    answer,
    ask,
    cap,
    may_be_asked_for,
    named,
    quoted,
    statement,
)
from data.dice import Dice
from data.world.facts import Fact

_OPENINGS = (
    "{p} and {q} sat in the garden and talked about {x}.",
    "{p} and {q} were on their way to school.",
    "{q} knows a lot about {x}, so {p} asked {q_him}.",
    "It was raining, and {p} and {q} played a game of questions.",
    "One evening {p} wanted to learn something about {x}.",
    "{p} had some questions about {x}, and {q} had the answers.",
    "At the table, {p} and {q} talked about {x}.",
    "{p} met {q} at the market, and they talked about {x}.",
    "After lunch {p} had a request.",
    "The task for today was to learn about {x}.",
)
_BETWEEN = (
    "{p} thought about it.",
    "{q} smiled.",
    "{p} nodded.",
    "That was right.",
    '"Very good," said {p}.',
    '"Right," said {p}.',
    "{p} wrote that down.",
    "Then there was another question.",
)
_ENDS = (
    '"Thank you," said {p}.',
    "{p} was happy with the answers.",
    "Then they went home.",
    '"Now I know more about {x}," said {p}.',
    "And that was the end of the talk.",
    "Then it was time for supper.",
)


def talk(dice: Dice, facts: Sequence[Fact], about: str | None = None) -> str:
    """Two people, in quotation marks, in one paragraph or with a line for each exchange."""
    p, q = dice.sample(CAST, 2)
    x = about or named(facts[0])
    parts = [_filled(dice.pick(_OPENINGS), x, p, q)] if dice.chance(0.65) else []
    asker, replier = p, q
    for fact in facts:
        first = fact is facts[0]
        parts.append(quoted(dice, ask(dice, fact, first), asker.name, replier.name))
        if dice.chance(0.15):
            parts.append(_filled(dice.pick(_BETWEEN), x, asker, replier))
        if dice.chance(0.25):
            asker, replier = replier, asker
    if dice.chance(0.3):
        again = dice.pick(facts)
        parts.append(quoted(dice, ask(dice, again), asker.name, replier.name))
    if dice.chance(0.3):
        parts.append(_filled(dice.pick(_ENDS), x, asker, replier))
    return ("\n" if dice.chance(0.4) else " ").join(parts)


def _filled(template: str, x: str, p: Person, q: Person) -> str:
    text = template.replace("{x}", x).replace("{q_him}", q.him)
    return text.replace("{p}", p.name).replace("{q}", q.name)


def script(dice: Dice, facts: Sequence[Fact]) -> str:
    """A line for each speech, with the speaker's name before it."""
    p, q = dice.sample(CAST, 2)
    first, second = p.name, q.name
    if dice.chance(0.2):
        first = "Teacher"
    elif dice.chance(0.1):
        first, second = "Question", "Answer"
    elif dice.chance(0.1):
        first, second = "Q", "A"
    lines = []
    for fact in facts:
        question, reply = ask(dice, fact, first=not lines)
        lines += [f"{first}: {question}", f"{second}: {reply}"]
        if dice.chance(0.2) and first == p.name:
            first, second = second, first
    return "\n".join(lines)


_VISITS = (
    "Once upon a time there was a {child} called {p}. One day {he} wanted to learn about {x}, and "
    "so {he} went to {w}.",
    "Once upon a time a {child} named {p} lived near a river. {He} liked to ask {w} about {x}.",
    "Long ago, in a small town, a {child} called {p} went to {w} with many questions about {x}.",
    "One morning {p} woke up and thought of {x}. {He} ran to {w} and began to ask.",
    "{p} could not sleep, because {he} wanted to know more about {x}. In the morning {he} went to "
    "{w}.",
)
_RETURNS = (
    "{p} thanked {w}, went home and told {q} what {he} had learned.",
    "In the evening {p} met {q} and told {q_him} everything.",
    "On the way home {p} said it again, so as not to forget it.",
    "{p} was glad. At home {he} wrote it all down.",
)


def visit(dice: Dice, facts: Sequence[Fact]) -> str:
    """A story: a child asks somebody wise, goes home and tells it again."""
    p, q = dice.sample(CAST, 2)
    wise, x = dice.pick(WISE), named(facts[0])

    def filled(template: str) -> str:
        text = template.replace("{he}", p.he).replace("{He}", cap(p.he)).replace("{w}", wise)
        return _filled(text.replace("{child}", p.child), x, p, q)

    parts = [filled(dice.pick(_VISITS))]
    parts += [quoted(dice, ask(dice, f, first=f is facts[0]), p.name, wise) for f in facts]
    again = dice.sample(facts, 3)
    parts.append(filled(dice.pick(_RETURNS)))
    parts += [statement(dice, dice.pick(fact.says), p, q) for fact in again]
    if dice.chance(0.4):
        parts.append(f"And {p.name} never forgot it.")
    return " ".join(parts)


_QUIZ_TITLES = (
    "Questions about {x}",
    "A quiz about {x}",
    "{p}'s quiz",
    "The teacher wrote the questions, and {p} wrote the answers.",
    "{p} has answered these questions.",
    "Questions and answers",
)


def quiz(dice: Dice, facts: Sequence[Fact], about: str | None = None) -> str:
    """A line with a question, a line with an answer, which is bare or a whole sentence."""
    p = dice.pick(CAST)
    x = about or named(facts[0])
    bare = dice.chance(0.75)
    title = dice.pick(_QUIZ_TITLES).replace("{x}", x).replace("{p}", p.name)
    rows = []
    for fact in facts:
        if fact.back_asks and dice.chance(0.25):
            question, reply = dice.pick(fact.back_asks), fact.subject
        else:
            by_key = may_be_asked_for("What is {k}?", fact.key) and dice.chance(0.25)
            question = f"what is {fact.key}?" if by_key else dice.pick(fact.asks)
            reply = fact.answer
        rows.append((cap(question), reply if bare else f"{cap(fact.says[0])}."))
    if dice.chance(0.35):
        words = "Give short answers." if any(" " in r for _, r in rows) else "Answer in one word."
        title += "\n" + (words if bare else "Answer in a full sentence.")
    lines = [title] if dice.chance(0.8) else []
    lines += [line for row in rows for line in ("", *row)]
    if dice.chance(0.2):
        lines += ["", f"{p.name} had {len(facts)} right answers."]
    return "\n".join(lines).strip()


def chorus(dice: Dice, facts: Sequence[Fact]) -> str:
    """A class answers in turn; whoever is asked next gets the next name."""
    children = dice.sample(CAST, len(facts))
    parts = [
        dice.pick(
            (
                "The teacher asked the children one after the other.",
                "In class, everybody had to answer one question.",
                "It was the last lesson of the day, and the teacher had some questions.",
                "The children stood in a row, and each had to answer.",
            )
        )
    ]
    for fact, child in zip(facts, children, strict=True):
        if dice.chance(0.5):
            exchange = Exchange(cap(dice.pick(fact.asks)), answer(dice, fact))
            parts.append(quoted(dice, exchange, "the teacher", child.name))
        else:
            said = f"{cap(dice.pick(fact.says))}."
            parts.append(f'{child.name} had to say {fact.key}. "{said}"')
    return " ".join(parts)
