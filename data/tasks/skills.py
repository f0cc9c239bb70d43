"""Instructions that ask for something to be done: the same exercises that the corpus shows."""

from data.corpus.speech import cap
from data.dice import Dice
from data.skills.skill import Skill, cut_off, fill
from data.tasks.categories import CATEGORY_OF
from data.tasks.record import Task


def draw(dice: Dice, skill: Skill, unseen: bool | None) -> Task:
    """One exercise. unseen: False for training; True for a wording that training never has."""
    last = len(skill.asks) - 1
    wordings = [w for i, w in enumerate(skill.asks) if unseen is None or (i == last) == unseen]
    wording = dice.pick(wordings)
    exercise = skill.make(dice)
    alone = cut_off(wording)
    if alone and dice.chance(0.6):
        instruction, given = cap(fill(alone, exercise)), exercise.x
        name = f"{cap(alone)} {{x}}"
    else:
        instruction, given, name = cap(fill(wording, exercise)), "", cap(wording)
    return Task(
        instruction=instruction,
        input=given,
        output=exercise.answer,
        category=CATEGORY_OF[skill.theme],
        wording=name,
        closed=True,
        content=f"{skill.theme} {_signs_alike(exercise.x)} {exercise.question} {exercise.answer}",
    )


def _signs_alike(x: str) -> str:
    return x.replace(" plus ", " + ").replace(" minus ", " - ")
