"""Questions and answers about facts, and the sentences between which they stand.

A fact is asked for in many ways and answered in three: with the bare answer ("A calf."), with a
sentence that says the name again ("The young of a cow is called a calf."), or with both. Who asks
for one word or for a whole sentence gets what was asked for.
"""

from typing import NamedTuple

from data.corpus.people import Person
from data.dice import Dice
from data.world.facts import Fact


class Exchange(NamedTuple):
    question: str  # ends with ? or .
    answer: str  # ends with .


def cap(text: str) -> str:
    return text[0].upper() + text[1:]


# Requests that name what they want: {k} is "the capital of Japan".
REQUESTS = (
    "What is {k}?",
    "Do you know {k}?",
    "Can you tell me {k}?",
    "Do you remember {k}?",
    "Tell me {k}.",
    "Please tell me {k}.",
    "Name {k}.",
    "Give me {k}.",
    "Say {k}.",
    "I want to know {k}.",
    "Write down {k}.",
    "I would like to hear {k}.",
    "And {k}?",  # the last: not for the first question of a talk
)
_ONE_WORD = (
    "Answer in one word: {q}",
    "{Q} Answer in one word.",
    "In one word, {q}",
)
_SHORT = ("Give a short answer: {q}", "{Q} Just the answer, please.")
_SENTENCE = (
    "Answer in a full sentence: {q}",
    "{Q} Answer in a full sentence.",
    "{Q} Please answer in a whole sentence.",
    "In a full sentence, {q}",
)
_LEAD = ("Yes. ", "Of course. ", "That is easy. ", "I know that. ", "Good question. ")


# Nobody says "What is the author of Heidi?", nor "Give the animal that gives us milk".
_PERSONS_AND_THINGS = ("the author", "the painter", "the composer", "the person", "the animal")
_PERSONS_AND_THINGS += ("the country of a", "the country whose")


def may_be_asked_for(request: str, key: str) -> bool:
    """Whether a request, such as "What is {k}?", fits what it asks for."""
    stiff = request.startswith(("What is {", "Give "))
    return not (stiff and key.startswith(_PERSONS_AND_THINGS))


def _request(dice: Dice, key: str, first: bool) -> str:
    fitting = [r for r in REQUESTS if may_be_asked_for(r, key)]
    return dice.pick(fitting[:-1] if first else fitting).replace("{k}", key)


def ask(dice: Dice, fact: Fact, first: bool = False) -> Exchange:
    """One question after a fact, and an answer that suits it. The first of all has no "And"."""
    luck = dice.random()
    if luck < 0.2 and fact.back_asks:
        return _ask_back(dice, fact, first)
    if luck < 0.62:
        question = cap(dice.pick(fact.asks))
    elif luck < 0.84:
        question = _request(dice, fact.key, first)
    else:
        plain = dice.pick(fact.asks)
        if luck < 0.93:
            forms = _SHORT if " " in fact.answer else _SHORT + _ONE_WORD
            question = dice.pick(forms).replace("{q}", plain).replace("{Q}", cap(plain))
            return Exchange(question, f"{cap(fact.answer)}.")
        question = dice.pick(_SENTENCE).replace("{q}", plain).replace("{Q}", cap(plain))
        return Exchange(question, f"{cap(fact.says[0])}.")
    return Exchange(question, answer(dice, fact))


def answer(dice: Dice, fact: Fact) -> str:
    luck = dice.random()
    if luck < 0.36:
        return f"{cap(fact.bare)}."
    if luck < 0.46:
        return f"It is {fact.forms['an']}." if fact.relation.equals else f"{cap(fact.bare)}."
    said = f"{cap(fact.says[0] if luck < 0.65 else dice.pick(fact.says))}."
    if luck < 0.82:
        return said
    if luck < 0.92:
        return f"{cap(fact.bare)}. {said}"
    return dice.pick(_LEAD) + said


def _ask_back(dice: Dice, fact: Fact, first: bool) -> Exchange:
    if dice.chance(0.7):
        question = cap(dice.pick(fact.back_asks))
    else:
        question = _request(dice, fact.back_key, first)
    luck = dice.random()
    if luck < 0.55:
        return Exchange(question, f"{cap(fact.back)}.")
    if luck < 0.75:
        return Exchange(question, f"{cap(fact.back)}. {cap(dice.pick(fact.says))}.")
    return Exchange(question, f"{cap(dice.pick(fact.says))}.")


_ASKED = ("asked", "asked", "wanted to know", "said")
_SAID = ("said", "said", "answered", "replied")


def quoted(dice: Dice, exchange: Exchange, asker: str, answerer: str) -> str:
    """`"What is the young of a cow?" asked Mira. "A calf," said Tom.`"""
    question, reply = exchange
    luck = dice.random()
    if luck < 0.4:
        asked = _with_comma(question) if question[-1] == "." else question
        verb = "said" if question[-1] == "." else dice.pick(_ASKED)
        if verb == "wanted to know":
            first = f'"{asked}" {asker} {verb}.'
        else:
            first = f'"{asked}" {verb} {asker}.'
        return f'{first} "{_with_comma(reply)}" {dice.pick(_SAID)} {answerer}.'
    if luck < 0.6:
        verb = "said" if question[-1] == "." else "asked"
        return f'{cap(asker)} {verb}, "{question}" {cap(answerer)} {dice.pick(_SAID)}, "{reply}"'
    if luck < 0.85:
        return f'"{question}" "{reply}"'
    verb = "said" if question[-1] == "." else "asked"
    return f'{cap(asker)} {verb}: "{question}" And {answerer} said: "{reply}"'


def _with_comma(sentence: str) -> str:
    return sentence[:-1] + ","


# Sentences that carry a clause, {c}, and the people {p} and {q}.
_CARRIERS = (
    "{p} knows that {c}.",
    "{p} has read that {c}.",
    "{p} told {q} that {c}.",
    "At school {p} learned that {c}.",
    "Did you know that {c}?",
    "Everyone knows that {c}.",
    "{p} wrote down that {c}.",
    "Remember that {c}.",
    "It is true that {c}.",
    "{q} said that {c}.",
    "{p} is sure that {c}.",
    "The book says that {c}.",
    "The teacher explained that {c}.",
)
_LINKS = ("Also, ", "As you may know, ", "What is more, ", "Of course, ", "And ", "By the way, ")


def statement(dice: Dice, clause: str, p: Person, q: Person, first: bool = False) -> str:
    """A clause as a sentence: as it is, after a link, or as what somebody knows or says."""
    luck = dice.random()
    if luck < (0.8 if first else 0.6):  # no text begins with "Also"
        return f"{cap(clause)}."
    if luck < 0.8:
        return f"{dice.pick(_LINKS)}{clause}."
    carrier = dice.pick(_CARRIERS)
    return carrier.replace("{c}", clause).replace("{p}", p.name).replace("{q}", q.name)


def named(fact: Fact) -> str:
    """The subject of a fact in the middle of a sentence: cows, Japan, the word hot."""
    topic = fact.relation.topic
    if topic in ("animal", "job", "thing"):
        return fact.forms["many"]
    if topic in ("word", "letter", "number"):
        return f"the {topic} {fact.subject}"
    return fact.forms["one"]
