"""Skills with lists of words: sorting, counting, picking, joining, finding what does not belong."""

from data.dice import Dice
from data.skills.skill import Exercise, skill
from data.world.endings import a, plural_of
from data.world.table import words
from data.world.things import KINDS

# Short words, with few that begin alike: to sort them is to know the alphabet.
SORTED = words("""
apple bear bread cat chair dog drum egg fish flower garden goat hand hat ice island jacket jar key
king lamp lemon moon mouse nest night ocean onion pen plum queen rain river school ship table tree
uncle village wall window year zebra
""")
# Kinds whose members a child would name without thinking, and members of these.
GROUPS = {
    "fruit": KINDS["fruit"],
    "vegetable": KINDS["vegetable"],
    "tool": KINDS["tool"],
    "vehicle": KINDS["vehicle"],
    "flower": KINDS["flower"],
    "colour": words("red green blue yellow white black brown pink"),
    "animal": words("cow dog cat horse sheep lion tiger wolf"),
    "month": words("January March April June July August October December"),
    "day": words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "number": words("two three four five six seven eight nine"),
    "country": words("France Spain Italy Japan China Egypt Brazil Peru"),
}
_NTH = ("first", "second", "third", "last")
# Words before which one hears whether it is a or an.
_NOUNS = words("""
apple book cat dog egg fish garden hat island jacket key lamp moon nest ocean pen queen river
elephant orange umbrella owl uncle onion ant eagle aunt engine oven idea table house artist actor
""")


def _drawn(dice: Dice, low: int, high: int) -> list[str]:
    return dice.sample(SORTED, dice.between(low, high))


def _alphabetical(dice: Dice) -> Exercise:
    """Three words whose first letters are enough to sort them by."""
    drawn = _drawn(dice, 3, 3)
    while len({word[0] for word in drawn}) < len(drawn):
        drawn = _drawn(dice, 3, 3)
    return Exercise(", ".join(drawn), ", ".join(sorted(drawn)))


def _number(dice: Dice) -> Exercise:
    drawn = _drawn(dice, 2, 5)
    return Exercise(", ".join(drawn), str(len(drawn)))


def _nth(dice: Dice) -> Exercise:
    drawn, which = _drawn(dice, 3, 4), dice.below(4)
    return Exercise(", ".join(drawn), drawn[which if which < 3 else -1], _NTH[which])


def _reversed(dice: Dice) -> Exercise:
    drawn = _drawn(dice, 3, 3)
    return Exercise(", ".join(drawn), ", ".join(reversed(drawn)))


def _joined(dice: Dice) -> Exercise:
    drawn = _drawn(dice, 3, 3)
    return Exercise(", ".join(drawn), f"{', '.join(drawn[:-1])} and {drawn[-1]}")


def _stranger(dice: Dice) -> Exercise:
    one, other = dice.sample(list(GROUPS), 2)
    stranger = dice.pick(GROUPS[other])
    drawn = dice.shuffled([*dice.sample(GROUPS[one], 3), stranger])
    return Exercise(", ".join(drawn), stranger)


def _common(dice: Dice) -> Exercise:
    group = dice.pick(list(GROUPS))
    return Exercise(", ".join(dice.sample(GROUPS[group], 3)), plural_of(group))


def _in_capitals(dice: Dice) -> Exercise:
    word = dice.pick(SORTED)
    return Exercise(word, word.upper())


def _in_small_letters(dice: Dice) -> Exercise:
    word = dice.pick(SORTED)
    return Exercise(word.upper(), word)


def _with_article(dice: Dice) -> Exercise:
    noun = dice.pick(_NOUNS)
    return Exercise(noun, a(noun))


def _first_letter(dice: Dice) -> Exercise:
    word = dice.pick(SORTED)
    return Exercise(word, word[0])


def _last_letter(dice: Dice) -> Exercise:
    word = dice.pick(SORTED)
    return Exercise(word, word[-1])


SKILLS = (
    skill(
        "alphabetical",
        "sorting words",
        _alphabetical,
        """
        sort these words by the alphabet: {x}
        put these words in alphabetical order: {x}
        arrange the words from A to Z: {x}
        write these words in alphabetical order: {x}
        order the words as in a dictionary: {x}
        sort the list alphabetically: {x}
        bring these words into the order of the alphabet: {x}
        list these words from A to Z: {x}
        """,
    ),
    skill(
        "number of words",
        "counting words",
        _number,
        """
        how many words are in this list: {x}
        count the words: {x}
        count the words in the list: {x}
        how many words do you see: {x}
        tell me the number of words: {x}
        how long is this list: {x}
        give the number of words in the list: {x}
        how many things are listed here: {x}
        """,
    ),
    skill(
        "place in a list",
        "places in a list",
        _nth,
        """
        what is the {q} word of this list: {x}
        name the {q} word: {x}
        give me the {q} word of the list: {x}
        which word is the {q} in this list: {x}
        find the {q} word: {x}
        tell me the {q} word: {x}
        write down the {q} word of the list: {x}
        pick the {q} word: {x}
        """,
    ),
    skill(
        "backwards",
        "turning lists round",
        _reversed,
        """
        turn this list round: {x}
        write these words in the opposite order: {x}
        reverse the list: {x}
        say these words from the last to the first: {x}
        list these words backwards: {x}
        begin with the last word and end with the first: {x}
        put the words in reverse order: {x}
        give the words from back to front: {x}
        """,
    ),
    skill(
        "joining",
        "joining words",
        _joined,
        """
        join these words with and: {x}
        put and before the last word: {x}
        write the list with and: {x}
        make one phrase of these words with and: {x}
        connect the last two words with and: {x}
        write these words as in a sentence, with and: {x}
        use and between the last two words: {x}
        say the list with and at the end: {x}
        """,
    ),
    skill(
        "stranger",
        "what does not belong",
        _stranger,
        """
        which word does not belong: {x}
        find the word that does not belong: {x}
        one word is of another kind; which one: {x}
        name the odd one out: {x}
        which of these words is the odd one out: {x}
        which word does not fit: {x}
        pick the word that is different: {x}
        find the odd one out: {x}
        """,
    ),
    skill(
        "common kind",
        "what things have in common",
        _common,
        """
        what are all of these: {x}
        name the kind of these things: {x}
        what do these words name: {x}
        give one word for all of these: {x}
        what kind of words are these: {x}
        find a title for this list: {x}
        which group do these belong to: {x}
        what do you call all of these: {x}
        """,
    ),
    skill(
        "capitals",
        "capital letters",
        _in_capitals,
        """
        write {x} in capital letters.
        write the word {x} in big letters.
        put {x} into capital letters.
        what is {x} in capital letters?
        how does {x} look in capital letters?
        change {x} to capital letters.
        """,
        """
        {x} in capital letters is {a}
        """,
    ),
    skill(
        "small letters",
        "capital letters",
        _in_small_letters,
        """
        write {x} in small letters.
        put {x} into small letters.
        what is {x} in small letters?
        change {x} to small letters.
        """,
        """
        {x} in small letters is {a}
        """,
    ),
    skill(
        "article",
        "a or an",
        _with_article,
        """
        put a or an before {x}.
        write {x} with a or an.
        a or an: {x}
        say {x} with the right article, a or an.
        does {x} take a or an? Write both words.
        add a or an: {x}
        which is right before {x}, a or an? Write both words.
        use a or an with the word {x}.
        """,
    ),
    skill(
        "first letter",
        "first and last letters",
        _first_letter,
        """
        what is the first letter of {x}?
        with which letter does {x} begin?
        name the first letter of {x}.
        which letter does the word {x} begin with?
        tell me the first letter of the word {x}.
        """,
        """
        the first letter of {x} is {a}
        {x} begins with {a}
        """,
    ),
    skill(
        "last letter",
        "first and last letters",
        _last_letter,
        """
        what is the last letter of {x}?
        with which letter does {x} end?
        name the last letter of {x}.
        which letter does the word {x} end with?
        tell me the last letter of the word {x}.
        """,
        """
        the last letter of {x} is {a}
        {x} ends with {a}
        """,
    ),
)
