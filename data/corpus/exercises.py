"""Skills at work: somebody asks for a list to be sorted or a sentence to be turned, and it is."""

from data.corpus.people import CAST, WISE
from data.corpus.speech import Exchange, cap, quoted
from data.dice import Dice
from data.skills.skill import Exercise, Skill, cut_off, end_of, fill

_OPENINGS = (
    "{p} was good at {x}, and {q} asked the questions.",
    "The lesson was about {x}.",
    "{p} had to practise: {x}.",
    "{p} and {q} practised {x} together.",
    "Today's task was {x}.",
    "Exercises: {x}",
)


def request(dice: Dice, skill: Skill, exercise: Exercise) -> str:
    template = dice.pick(skill.asks)
    text = cap(fill(template, exercise))
    return text if text[-1] in ".?!" else f"{text}{end_of(template)}"


def drill(dice: Dice, skill: Skill) -> str:
    """Somebody asks and somebody answers, in quotation marks."""
    p, q = dice.sample(CAST, 2)
    asker = dice.pick(WISE) if dice.chance(0.4) else q.name
    parts = []
    if dice.chance(0.5):
        opening = dice.pick(_OPENINGS).replace("{x}", skill.theme)
        parts.append(opening.replace("{p}", p.name).replace("{q}", q.name))
    for exercise in _exercises(dice, skill):
        reply = _reply(dice, skill, exercise)
        parts.append(quoted(dice, Exchange(request(dice, skill, exercise), reply), asker, p.name))
    return ("\n" if dice.chance(0.5) else " ").join(parts)


def _reply(dice: Dice, skill: Skill, exercise: Exercise) -> str:
    if skill.says and dice.chance(0.4):
        return f"{cap(fill(dice.pick(skill.says), exercise))}."
    text = exercise.answer if dice.chance(0.6) else cap(exercise.answer)
    return text if text[-1] in ".?!" else f"{text}."


def sheet(dice: Dice, skill: Skill) -> str:
    """A line asks, a line answers, and nothing else."""
    p = dice.pick(CAST)
    lines = []
    if dice.chance(0.5):
        lines += [f"{cap(skill.theme)}: {p.name}'s exercise book", ""]
    for exercise in _exercises(dice, skill):
        template = dice.pick(skill.asks)
        alone = cut_off(template)
        asked = cap(fill(template, exercise))
        if alone and dice.chance(0.3):
            asked = f"{cap(fill(alone, exercise))}\n{exercise.x}"
        lines += [asked, exercise.answer, ""]
    return "\n".join(lines).strip()


def spoken(dice: Dice, skill: Skill) -> str:
    """Speaker by speaker."""
    p, q = dice.sample(CAST, 2)
    lines = []
    for exercise in _exercises(dice, skill):
        lines += [
            f"{p.name}: {request(dice, skill, exercise)}",
            f"{q.name}: {_reply(dice, skill, exercise)}",
        ]
    return "\n".join(lines)


def told(dice: Dice, skill: Skill) -> str:
    """Statements in a row, where the skill has any: 7 + 5 is 12, and 3 + 4 makes 7."""
    if not skill.says:
        return sheet(dice, skill)
    p, q = dice.sample(CAST, 2)
    exercises = [skill.make(dice) for _ in range(dice.between(5, 9))]
    clauses = [fill(dice.pick(skill.says), exercise) for exercise in exercises]
    parts = [f"{cap(clause)}." for clause in clauses]
    again = dice.pick(exercises)
    asked = Exchange(request(dice, skill, again), f"{cap(again.answer)}.")
    return " ".join([*parts, quoted(dice, asked, p.name, q.name)])


def _exercises(dice: Dice, skill: Skill) -> list[Exercise]:
    """As many as make a text of some length."""
    exercises, length = [], 0
    while length < 330:
        exercise = skill.make(dice)
        exercises.append(exercise)
        length += len(exercise.x) + len(exercise.question) + len(exercise.answer) + 45
    return exercises


EXERCISES = ((3, drill), (3, sheet), (2, spoken), (1, told))
