"""Stories, tales with questions about them, how things are done and why they are so."""

import re

from data.corpus.people import CAST, WISE, Person
from data.corpus.speech import Exchange, cap, quoted
from data.dice import Dice
from data.skills.reading import Tale, questions, tale
from data.world.plots import PLOTS
from data.world.reasons import HOW_TO, WHY

_BEGINNINGS = (
    "Once upon a time there was a {child} called {p}.",
    "Once upon a time there lived a {child} named {p}.",
    "Once there was a {child} whose name was {p}.",
    "Long ago, in a small village, there lived a {child} called {p}.",
    "This is the story of {p}, a {child} {about}.",
    "Here is a story about a {child} {about}.",
    "There was once a {child} named {p} {about}.",
    "Let me tell you a story about {p}.",
)
_REQUESTS = (
    "Write a short story about a {child} {about}.",
    "Tell a story about {p}, a {child} {about}.",
    "Tell me a story about a {child} {about}.",
    "Write a story in which {p} is a {child} {about}.",
)


def plot(dice: Dice, p: Person, q: Person) -> tuple[str, list[str]]:
    """Of whom it tells ("who lost his key"), and its sentences."""
    about, sentences = dice.pick(PLOTS)
    return _cast(about, p, q), [_cast(dice.pick(wordings), p, q) for wordings in sentences]


def _cast(template: str, p: Person, q: Person) -> str:
    fields = {"p": p.name, "he": p.he, "him": p.him, "his": p.his, "He": cap(p.he)}
    fields |= {"q": q.name, "qhe": q.he, "qhim": q.him}
    return template.format_map(fields)


def story(dice: Dice) -> str:
    p, q = dice.sample(CAST, 2)
    about, sentences = plot(dice, p, q)

    def filled(template: str) -> str:
        text = template.replace("{child}", p.child).replace("{about}", about)
        return text.replace("{p}", p.name)

    parts = []
    if dice.chance(0.25):
        parts.append(f"{filled(dice.pick(_REQUESTS))}\n\n")
    elif dice.chance(0.15):
        parts.append(f"The {p.child} {about}\n\n")
    if dice.chance(0.75):
        parts.append(filled(dice.pick(_BEGINNINGS)) + " ")
    parts.append(" ".join(sentences))
    if dice.chance(0.25):
        parts.append(" " + dice.pick(_MORALS))
    return "".join(parts)


_MORALS = (
    "And that is the end of the story.",
    "It was a day to remember.",
    "A good friend helps you when you need it.",
    "So it pays to be patient.",
    "And they were friends for ever.",
)


def reading(dice: Dice) -> str:
    """One or two tales, and who, where, when, what and why."""
    of = tale(dice)
    asked = dice.sample(questions(of), dice.between(2, 5))
    if dice.chance(0.3):  # two people: now the name in the question matters
        other = tale(dice)
        asked = dice.shuffled([*dice.sample(questions(of), 2), *dice.sample(questions(other), 2)])
        if _mixed_up(of, other):
            return reading(dice)
        text = f"{of.text} {other.text}"
    else:
        text = of.text
    if dice.chance(0.5):
        lines = [line for question, answer in asked for line in ("", question, answer)]
        return "\n".join([text, *lines])
    p = dice.pick(CAST)
    asker = dice.pick((*WISE, "the teacher"))
    talk = " ".join(
        quoted(dice, Exchange(question, f"{cap(answer)}."), asker, p.name)
        for question, answer in asked
    )
    return f"{text}\n\n{talk}"


def _mixed_up(of: Tale, other: Tale) -> bool:
    """Whether two tales share what tells them apart."""
    return of.person == other.person or of.place == other.place


HOW = (
    "Explain how to {x}.",
    "How do you {x}?",
    "Can you explain how to {x}?",
    "Tell me how to {x}.",
    "Describe how to {x}.",
    "I want to know how to {x}.",
)
WHY_ASKED = (
    "Why is it that {x}?",
    "Explain why {x}.",
    "Can you explain why {x}?",
    "Tell me why {x}.",
    "I want to know why {x}.",
    "Do you know why {x}?",
)


def asked_about(request: str, what: str) -> str:
    """How do you brush your teeth? But: I want to know how to brush my teeth."""
    mine = re.search(r"\bI\b|\bme to\b", request)
    return request.replace("{x}", what.replace("your ", "my ") if mine else what)


def explanation(dice: Dice) -> str:
    """Two questions how or why, with an answer of several sentences each."""
    parts = []
    for _ in range(2):
        pages, requests = dice.pick(((HOW_TO, HOW), (WHY, WHY_ASKED)))
        what, sentences = dice.pick(pages)
        request = asked_about(dice.pick(requests), what)
        asked = request if request[-1] == "?" else f"{request[:-1]},"
        told = " ".join(sentences)
        p, q = dice.sample(CAST, 2)
        wise = dice.pick(WISE)
        parts.append(
            dice.pick(
                (
                    f"{request}\n\n{told}",
                    f'"{asked}" said {p.name}. "{told[:-1]}," said {q.name}.',
                    f'{p.name} had a request: "{request}" {cap(wise)} answered: "{told}"',
                    f"{p.name}: {request}\n{q.name}: {told}",
                    f"{p.name} knows why {what}. {told}"
                    if pages is WHY
                    else f"{p.name} wants to {what.replace('your ', f'{p.his} ')}. {told}",
                )
            )
        )
    return "\n\n".join(parts)


_WEATHER = ("It was a sunny day.", "It was raining.", "It was cold outside.", "It was a warm day.")
_WEATHER += ("The wind was strong.", "The sky was grey.", "Snow was falling.")
_MORNINGS = (
    "{p} got up early and had breakfast.",
    "{p} woke up late and was in a hurry.",
    "In the morning {p} fed the cat.",
    "{p} washed {his} face and put on {his} coat.",
)
_MIDDAYS = (
    "At school {he} learned to write a list of words.",
    "At noon {he} ate some bread with cheese.",
    "Then {he} met {q} in the park, and they played.",
    "Then {he} helped {q} to clean the kitchen.",
    "In the afternoon {he} read a book about animals.",
    "In class {he} had to describe a picture.",
    "The teacher gave {him} a task, and {he} did it well.",
    "{q} asked {him} a question, and {he} gave the right answer.",
)
_EVENINGS = (
    "In the evening {he} told {his} mother about the day.",
    "After supper {he} looked at the stars.",
    "In the evening {he} wrote a letter to {q}.",
    "Then {he} went to bed and slept well.",
    "Before {he} slept, {his} father read {him} a story.",
)


def day(dice: Dice) -> str:
    """An ordinary day of somebody, and perhaps somebody else's."""
    parts = []
    for _ in range(dice.between(1, 2)):
        p, q = dice.sample(CAST, 2)
        told = [
            dice.pick(_WEATHER),
            dice.pick(_MORNINGS),
            *dice.sample(_MIDDAYS, dice.between(2, 3)),
            dice.pick(_EVENINGS),
        ]
        parts.append(" ".join(cap(_cast(sentence, p, q)) for sentence in told))
    return "\n\n".join(parts)
