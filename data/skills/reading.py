"""Reading: short tales of somebody who went somewhere and did something for a reason."""

from typing import NamedTuple

from data.corpus.people import CAST, Person
from data.corpus.speech import cap
from data.dice import Dice
from data.skills.skill import Exercise, skill
from data.world.measures import DAYS
from data.world.table import table

# Where, what one does there (in the past, and as a question has it), what to, and two reasons.
EVENTS = table("""
place | did | do | thing | reason | another
market | bought | buy | three apples | {he} wanted to bake a cake | {his} friend was hungry
market | bought | buy | a blue cup | {his} old cup was broken | it was so pretty
river | caught | catch | a big fish | {he} needed food for dinner | the cat was hungry
library | borrowed | borrow | a book about stars | {he} loved the night sky | it was a rainy week
forest | picked | pick | some berries | {he} wanted to make jam | they tasted sweet
forest | saw | see | a small deer | {he} was very quiet | {he} got up early
garden | planted | plant | a young tree | {he} wanted to have shade | it was spring
garden | picked | pick | five roses | it was {his} mother's birthday | the table looked bare
beach | found | find | a white shell | {he} walked near the water | {he} was looking for treasure
shop | bought | buy | a warm hat | the winter was coming | the wind was cold
kitchen | made | make | some soup | {his} brother was ill | everybody was hungry
kitchen | baked | bake | a sweet cake | it was a holiday | {his} friends were coming
post office | sent | send | a long letter | {he} missed {his} friend | there was much to tell
park | flew | fly | a red kite | the wind was strong | school was over
park | fed | feed | the ducks | they looked hungry | {he} had too much bread
lake | sailed | sail | a little boat | {he} wanted to see the island | the sun was shining
farm | drank | drink | some fresh milk | {he} was thirsty | {his} uncle had a cow
school | painted | paint | a picture of a ship | there was an art lesson | {he} loved the sea
station | met | meet | an old friend | the train was late | {he} had sent a letter
bakery | bought | buy | a loaf of bread | there was nothing left to eat | it was still warm
mountain | took | take | a photograph | the view was beautiful | {he} wanted to remember the day
museum | saw | see | an old clock | {he} wanted to learn about time | it was too wet for a walk
""")


class Tale(NamedTuple):
    text: str
    person: Person
    place: str
    day: str
    did: str
    do: str
    thing: str
    reason: str


def tale(dice: Dice) -> Tale:
    place, did, do, thing, *reasons = dice.pick(EVENTS)
    p, day = dice.pick(CAST), dice.pick(DAYS)
    reason = dice.pick(reasons).replace("{he}", p.he).replace("{his}", p.his)
    went = dice.pick(
        (
            f"{p.name} went to the {place} on {day}.",
            f"On {day}, {p.name} went to the {place}.",
        )
    )
    then = dice.pick(
        (
            f"{cap(p.he)} {did} {thing} because {reason}.",
            f"There {p.he} {did} {thing} because {reason}.",
        )
    )
    return Tale(f"{went} {then}", p, place, day, did, do, thing, reason)


def questions(of: Tale) -> tuple[tuple[str, str], ...]:
    """Each question with its answer, which stands in the text."""
    p, name = of.person, of.person.name
    return (
        (f"Who went to the {of.place}?", name),
        (f"Where did {name} go?", f"to the {of.place}"),
        (f"On which day did {name} go to the {of.place}?", of.day),
        (f"What did {name} {of.do} there?", of.thing),
        (f"Why did {p.name} {of.do} {of.thing}?", f"because {of.reason}"),
    )


def _read(dice: Dice) -> Exercise:
    of = tale(dice)
    question, answer = dice.pick(questions(of))
    return Exercise(of.text, answer, question)


SKILLS = (
    skill(
        "reading",
        "reading",
        _read,
        """
        {q} {x}
        read the text and answer: {q} {x}
        answer the question about the text. {q} {x}
        {x} {q}
        look into the text. {q} {x}
        find the answer in the text. {q} {x}
        use the text to answer. {q} {x}
        after reading the text, answer this: {q} {x}
        """,
    ),
)
