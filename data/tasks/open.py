"""Instructions with an answer of several sentences, of which no single one is right.

Descriptions, letters and the like tell facts, and only such as are tuned.
"""

from collections.abc import Callable, Sequence

from data.corpus.pages import DESCRIBE, hints_of, plain_description
from data.corpus.people import CAST
from data.corpus.speech import cap, named
from data.corpus.tales import HOW, WHY_ASKED, asked_about, plot
from data.dice import Dice
from data.tasks.record import Task
from data.world.endings import a
from data.world.facts import FACTS, HELD_OUT, Fact, occurs
from data.world.measures import number_word
from data.world.reasons import HOW_TO, WHY

_TUNED = [fact for fact in FACTS if fact.id not in HELD_OUT]


def _subjects(topics: Sequence[str], at_least: int) -> list[list[Fact]]:
    groups: dict[str, list[Fact]] = {}
    for fact in _TUNED:
        if fact.relation.topic in topics:
            groups.setdefault(fact.subject, []).append(fact)
    return [group for group in groups.values() if len(group) >= at_least]


_COUNTRIES = _subjects(("country",), 3)
_ANIMALS = _subjects(("animal",), 3)
_JOBS = _subjects(("job",), 2)
_THINGS = _subjects(("thing", "month", "element"), 2)


def _task(
    category: str, wording: str, instruction: str, output: str, facts: Sequence[Fact] = ()
) -> Task:
    content = f"{category} {sorted(fact.id for fact in facts) or output}"
    return Task(instruction, "", output, category, wording, closed=False, content=content)


_JOBS_AND_THINGS = "describing jobs and things"

_DESCRIBE = (
    *DESCRIBE,
    "Tell me {n} things about {x}.",
    "What can you tell me about {x}? Write {n} sentences.",
    "Explain in {n} sentences what you know about {x}.",
    "Give a description of {x} in {n} sentences.",
    "Write a short text of {n} sentences about {x}.",
    "I would like to know more about {x}. Answer in {n} sentences.",
    "Inform me about {x} in {n} sentences.",
)


def _describing(category: str, groups: list[list[Fact]]) -> Callable[[Dice, list[str]], Task]:
    def draw(dice: Dice, wordings: list[str]) -> Task:
        facts = dice.pick(groups)
        facts = dice.sample(facts, dice.between(2, min(4, len(facts))))
        wording = dice.pick(wordings)
        request = wording.replace("{x}", named(facts[0]))
        request = request.replace("{n}", number_word(len(facts)))
        return _task(category, wording, request, " ".join(plain_description(facts)), facts)

    return draw


_LIST = (
    "List {n} facts about {x}.",
    "Make a list of {n} facts about {x}.",
    "Give me a list with {n} facts about {x}.",
    "Write a numbered list of {n} facts about {x}.",
    "What do you know about {x}? Make a list of {n} facts.",
    "Note {n} facts about {x} in a list.",
    "Write {n} facts about {x} as a list.",
    "I need a list of {n} facts about {x}.",
    "Put {n} facts about {x} into a list.",
)


def _listing(dice: Dice, wordings: list[str]) -> Task:
    facts = dice.pick((*_COUNTRIES, *_ANIMALS))
    facts = dice.sample(facts, dice.between(2, min(4, len(facts))))
    wording = dice.pick(wordings)
    request = wording.replace("{x}", named(facts[0])).replace("{n}", number_word(len(facts)))
    lines = [f"{i}. {cap(fact.says[0])}." for i, fact in enumerate(facts, 1)]
    return _task("lists of facts", wording, request, "\n".join(lines), facts)


_COMPARE = (
    "Compare {x} and {y}.",
    "What is the difference between {x} and {y}?",
    "Explain the difference between {x} and {y}.",
    "How do {x} and {y} differ?",
    "Write a comparison of {x} and {y}.",
    "Set {x} beside {y} and compare them.",
    "Tell me how {x} and {y} compare.",
    "Describe what is different about {x} and {y}.",
    "Look at {x} and {y}, and compare them.",
)


def _comparing(dice: Dice, wordings: list[str]) -> Task:
    while True:
        one, other = dice.sample(dice.pick((_COUNTRIES, _COUNTRIES, _ANIMALS)), 2)
        theirs = {fact.relation.name: fact for fact in other}
        pairs = [(fact, theirs[fact.relation.name]) for fact in one if fact.relation.name in theirs]
        pairs = [(f, g) for f, g in pairs if f.answer != g.answer]
        if len(pairs) >= 2:
            break
    pairs = dice.sample(pairs, dice.between(2, min(3, len(pairs))))
    wording = dice.pick(wordings)
    request = wording.replace("{x}", named(one[0])).replace("{y}", named(other[0]))
    told = [f"{cap(f.says[0])}, but {g.says[0]}." for f, g in pairs]
    compared = [fact for pair in pairs for fact in pair]
    return _task("comparisons", wording, request, " ".join(told), compared)


_STORY = (
    "Write a short story about {p}, a {child} {about}.",
    "Tell me a story about a {child} named {p} {about}.",
    "Write a story about a {child} called {p} {about}.",
    "Tell a story: {p} is a {child} {about}.",
    "Make up a short story about {p}, {about}.",
    "I would like to read a story about {p}, a {child} {about}.",
    "Please write a little story about {p} {about}.",
    "Invent a story in which {p} is a {child} {about}.",
    "Begin with once upon a time and tell of {p}, a {child} {about}.",
)


def _story(dice: Dice, wordings: list[str]) -> Task:
    p, q = dice.sample(CAST, 2)
    about, sentences = plot(dice, p, q)
    wording = dice.pick(wordings)
    request = wording.replace("{p}", p.name).replace("{child}", p.child).replace("{about}", about)
    begin = f"Once upon a time there was a {p.child} called {p.name}."
    return _task("stories", wording, request, " ".join([begin, *sentences]))


_HOW = (*HOW, "Explain step by step how to {x}.", "What must I do to {x}?", "Teach me to {x}.")
_WHY = (
    *WHY_ASKED,
    "Give the reason why {x}.",
    "What is the reason that {x}?",
    "Write in a few sentences why {x}.",
)


def _explaining(
    category: str, pages: Sequence[tuple[str, tuple[str, ...]]]
) -> Callable[[Dice, list[str]], Task]:
    def draw(dice: Dice, wordings: list[str]) -> Task:
        what, sentences = dice.pick(pages)
        wording = dice.pick(wordings)
        return _task(category, wording, asked_about(wording, what), " ".join(sentences))

    return draw


_LETTER = (
    "Write a short letter from {p} to {q} about {x}.",
    "{p} wants to tell {q} about {x}. Write the letter.",
    "Write a letter to {q} about {x} and sign it as {p}.",
    "Help {p} to write {q} a letter about {x}.",
    "Write to {q} about {x}. Your name is {p}.",
    "You are {p}. Write {q} a letter about {x}.",
    "Compose a letter about {x}, from {p} to {q}.",
    "I am {p}. Write a letter about {x} to my friend {q}.",
    "Draft a letter from {p} to {q} that tells of {x}.",
)


def _letter(dice: Dice, wordings: list[str]) -> Task:
    p, q = dice.sample(CAST, 2)
    facts = dice.pick((*_COUNTRIES, *_ANIMALS))
    facts = dice.sample(facts, dice.between(2, 3))
    wording = dice.pick(wordings)
    request = wording.replace("{p}", p.name).replace("{q}", q.name)
    request = request.replace("{x}", named(facts[0]))
    told = " ".join(plain_description(facts))
    opening = f"Today we learned about {named(facts[0])} at school."
    text = f"Dear {q.name},\n\n{opening} {told}\n\nYour friend,\n{p.name}"
    return _task("letters to friends", wording, request, text, facts)


_RIDDLE = (
    "Make a riddle about {x}.",
    "Write a riddle whose answer is {x}.",
    "Invent a riddle about {x}.",
    "Can you make up a riddle about {x}?",
    "Tell me a riddle about {x}.",
    "Write a guessing game about {x}.",
    "Give me a riddle to which the answer is {x}.",
    "I need a riddle about {x}.",
    "Think of a riddle whose answer is {x}.",
)


def _riddle(dice: Dice, wordings: list[str]) -> Task:
    facts = dice.pick((*_COUNTRIES, *_ANIMALS))
    kind = facts[0].relation.topic
    facts = [fact for fact in facts if fact.its and not occurs(fact.subject, fact.its[0])]
    facts = dice.sample(facts, dice.between(2, min(4, len(facts))))
    wording = dice.pick(wordings)
    one = facts[0].forms["one"]
    hints = hints_of([fact.its[0] for fact in facts])
    text = f"I am thinking of {a(kind)}. {hints} What is it? It is {one}."
    return _task("riddles", wording, wording.replace("{x}", one), text, facts)


_DIALOGUE = (
    "Write a short dialogue in which {p} asks {q} about {x}.",
    "Let {p} ask {q} about {x}. Write the dialogue.",
    "Write a talk between {p} and {q} about {x}.",
    "{p} asks {q} about {x}. Write down what they say.",
    "Write what {p} and {q} say when they talk about {x}.",
    "Make a dialogue about {x} with {p} and {q}.",
    "Invent a short talk about {x}: {p} asks, {q} answers.",
    "Write a conversation between {p} and {q}. It is about {x}.",
    "Show how {p} asks {q} some questions about {x}.",
)


def _dialogue(dice: Dice, wordings: list[str]) -> Task:
    p, q = dice.sample(CAST, 2)
    facts = dice.pick((*_COUNTRIES, *_ANIMALS, *_JOBS))
    facts = dice.sample(facts, 2)
    wording = dice.pick(wordings)
    request = wording.replace("{p}", p.name).replace("{q}", q.name)
    lines = []
    for fact in facts:
        lines += [f"{p.name}: {cap(fact.asks[0])}", f"{q.name}: {cap(fact.says[0])}."]
    request = request.replace("{x}", named(facts[0]))
    return _task("dialogues", wording, request, "\n".join(lines), facts)


# What draws a task, the category, its wordings (the last is kept for validation and test), and how
# many there are on each side.
OPEN = (
    (_describing("describing animals", _ANIMALS), "describing animals", _DESCRIBE, (110, 3, 6)),
    (
        _describing("describing countries", _COUNTRIES),
        "describing countries",
        _DESCRIBE,
        (130, 3, 6),
    ),
    (_describing(_JOBS_AND_THINGS, _JOBS), _JOBS_AND_THINGS, _DESCRIBE, (60, 1, 3)),
    (_describing(_JOBS_AND_THINGS, _THINGS), _JOBS_AND_THINGS, _DESCRIBE, (70, 2, 4)),
    (_listing, "lists of facts", _LIST, (90, 3, 5)),
    (_comparing, "comparisons", _COMPARE, (110, 3, 6)),
    (_story, "stories", _STORY, (150, 4, 8)),
    (_explaining("explanations", HOW_TO), "explanations", _HOW, (66, 1, 4)),
    (_explaining("explanations", WHY), "explanations", _WHY, (96, 2, 4)),
    (_letter, "letters to friends", _LETTER, (80, 2, 4)),
    (_riddle, "riddles", _RIDDLE, (60, 2, 4)),
    (_dialogue, "dialogues", _DIALOGUE, (100, 2, 4)),
)
