"""Skills with sentences: passive, questions, no, past, pronouns, and finding words in them."""

from data.corpus.people import CAST, Person
from data.corpus.speech import cap
from data.dice import Dice
from data.skills.actions import ABILITIES, ACTIONS, DOERS, STATES
from data.skills.skill import Exercise, skill
from data.world.table import words

_COLOURS = words("red green blue yellow white black brown pink grey")
_THINGS = words("hat ball coat bag car lamp cup boat kite scarf")
_PLACES = words("garden kitchen market park library forest")
_NUMBERS = words("two three four five six seven eight nine ten")
_MANY = words("apples books coins eggs balls flowers shells plums cups")


def _doer(dice: Dice) -> tuple[str, str]:
    """Who does it, as a sentence begins with it and as it stands within one."""
    if dice.chance(0.6):
        name = dice.pick(CAST).name
        return name, name
    doer = dice.pick(DOERS)
    return cap(doer), doer


def _passive(dice: Dice) -> Exercise:
    first, doer = _doer(dice)
    action = dice.pick(ACTIONS)
    thing = dice.pick(action.objects)
    active = f"{first} {action.past} the {thing}."
    return Exercise(active, f"The {thing} was {action.participle} by {doer}.")


def _active(dice: Dice) -> Exercise:
    passive = _passive(dice)
    return Exercise(passive.answer, passive.x)


def _question(dice: Dice) -> Exercise:
    first, doer = _doer(dice)
    verb, rest = _verb(dice, doer)
    return Exercise(f"{first} {verb} {rest}.", f"{cap(verb)} {doer} {rest}?")


def _verb(dice: Dice, doer: str) -> tuple[str, str]:
    """What one can say of somebody, but not that the teacher is a teacher."""
    verb = dice.pick(("is", "was", "can", "will"))
    states = [state for state in STATES if state != doer.replace("the ", "a ")]
    return verb, dice.pick(states if verb in ("is", "was") else ABILITIES)


def _negative(dice: Dice) -> Exercise:
    first, doer = _doer(dice)
    verb, rest = _verb(dice, doer)
    no = "cannot" if verb == "can" else f"{verb} not"
    return Exercise(f"{first} {verb} {rest}.", f"{first} {no} {rest}.")


def _yesterday(dice: Dice) -> Exercise:
    first, _ = _doer(dice)
    action = dice.pick(ACTIONS)
    thing = dice.pick(action.objects)
    return Exercise(f"{first} {action.present} the {thing}.", f"{first} {action.past} the {thing}.")


def _tomorrow(dice: Dice) -> Exercise:
    first, _ = _doer(dice)
    action = dice.pick(ACTIONS)
    thing = dice.pick(action.objects)
    return Exercise(
        f"{first} {action.present} the {thing}.", f"{first} will {action.base} the {thing}."
    )


def _pronoun(dice: Dice) -> Exercise:
    person: Person = dice.pick(CAST)
    action = dice.pick(ACTIONS)
    rest = f"{action.past} the {dice.pick(action.objects)}."
    return Exercise(f"{person.name} {rest}", f"{cap(person.he)} {rest}")


def _scene(dice: Dice) -> tuple[str, dict[str, str]]:
    """A sentence with one name, one number or colour, one thing and one place in it."""
    name, place = dice.pick(CAST).name, dice.pick(_PLACES)
    if dice.chance(0.5):
        colour, thing = dice.pick(_COLOURS), dice.pick(_THINGS)
        found = {"name": name, "colour": colour, "thing": thing, "place": place}
        verb = dice.pick(("saw", "found", "lost", "left"))
        return f"{name} {verb} a {colour} {thing} in the {place}.", found
    number, things = dice.pick(_NUMBERS), dice.pick(_MANY)
    found = {"name": name, "number": number, "things": things, "place": place}
    verb = dice.pick(("saw", "found", "lost", "left"))
    return f"{name} {verb} {number} {things} in the {place}.", found


def _found(dice: Dice) -> Exercise:
    sentence, found = _scene(dice)
    what = dice.pick([key for key in found if not key.startswith("thing")])
    return Exercise(sentence, found[what], what)


SKILLS = (
    skill(
        "passive",
        "active to passive",
        _passive,
        """
        change this sentence to the passive: {x}
        turn this sentence into the passive: {x}
        write this sentence in the passive voice: {x}
        say this in the passive: {x}
        rewrite the active sentence as a passive one: {x}
        make this sentence passive: {x}
        what is this sentence in the passive: {x}
        put the sentence into the passive: {x}
        """,
    ),
    skill(
        "active",
        "passive to active",
        _active,
        """
        change this sentence to the active: {x}
        turn this sentence into the active: {x}
        write this sentence in the active voice: {x}
        say this in the active: {x}
        rewrite the passive sentence as an active one: {x}
        make this sentence active: {x}
        what is this sentence in the active: {x}
        put the sentence into the active: {x}
        """,
    ),
    skill(
        "question",
        "statements to questions",
        _question,
        """
        turn this sentence into a question: {x}
        make a question of this sentence: {x}
        change this statement to a question: {x}
        rewrite this as a question: {x}
        write this sentence as a question: {x}
        ask whether this is so: {x}
        what is the question to this sentence: {x}
        form a question from the statement: {x}
        """,
    ),
    skill(
        "negative",
        "saying no",
        _negative,
        """
        make this sentence negative: {x}
        say that this is not so: {x}
        write the negative of this sentence: {x}
        change this sentence so that it says no: {x}
        turn this sentence into a negative one: {x}
        put not into this sentence: {x}
        rewrite this sentence as a negative one: {x}
        what is the negative of this sentence: {x}
        """,
    ),
    skill(
        "yesterday",
        "sentences in the past",
        _yesterday,
        """
        put this sentence into the past: {x}
        change this sentence to the past tense: {x}
        write this sentence in the past tense: {x}
        say that this happened yesterday: {x}
        rewrite this in the past: {x}
        turn this into the past tense: {x}
        what is this sentence in the past tense: {x}
        tell this as something of the past: {x}
        """,
    ),
    skill(
        "tomorrow",
        "sentences in the future",
        _tomorrow,
        """
        put this sentence into the future: {x}
        change this sentence to the future with will: {x}
        write this sentence with will: {x}
        say that this will happen tomorrow: {x}
        rewrite this in the future: {x}
        turn this into the future with will: {x}
        what is this sentence in the future: {x}
        tell this as something of the future: {x}
        """,
    ),
    skill(
        "pronoun",
        "he or she",
        _pronoun,
        """
        write he or she for the name: {x}
        replace the name with he or she: {x}
        use he or she in place of the name: {x}
        change the name to he or she: {x}
        say this without the name, with he or she: {x}
        rewrite this with he or she: {x}
        put he or she where the name is: {x}
        tell this with he or she, not with the name: {x}
        """,
    ),
    skill(
        "finding",
        "finding words in a sentence",
        _found,
        """
        find the {q} in this sentence: {x}
        which {q} is in this sentence: {x}
        name the {q} in the sentence: {x}
        what {q} does this sentence tell: {x}
        write down the {q} from this sentence: {x}
        pick the {q} out of this sentence: {x}
        give me the {q} in the sentence: {x}
        tell me the {q} that you read here: {x}
        """,
    ),
)
