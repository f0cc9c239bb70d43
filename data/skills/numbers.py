"""Skills with numbers: small sums, tables, problems in words, comparing, ordering, continuing."""

from data.corpus.people import CAST
from data.dice import Dice
from data.skills.skill import Exercise, skill
from data.world.endings import plural_of
from data.world.table import words

LARGEST_SUM = 12  # what a child of six can do, and so can a model of four million parameters


# (one, other) with a sum within the limit: a sum has two of them, and a difference its sum and one.
_PAIRS = [(m, n) for m in range(LARGEST_SUM + 1) for n in range(LARGEST_SUM + 1 - m)]


def _sum(dice: Dice) -> Exercise:
    one, other = dice.pick(_PAIRS)
    sign = dice.pick(("+", "plus"))
    return Exercise(f"{one} {sign} {other}", str(one + other))


def _difference(dice: Dice) -> Exercise:
    rest, other = dice.pick(_PAIRS)
    sign = dice.pick(("-", "minus"))
    return Exercise(f"{rest + other} {sign} {other}", str(rest))


def _product(dice: Dice) -> Exercise:
    one, other = dice.shuffled(_factors(dice))
    return Exercise(f"{one} times {other}", str(one * other))


def _quotient(dice: Dice) -> Exercise:
    one, other = _factors(dice)
    return Exercise(f"{one * other} divided by {other}", str(one))


def _factors(dice: Dice) -> tuple[int, int]:
    """Of the tables from one to five."""
    return dice.between(1, 10), dice.between(1, 5)


_COUNTED = words("apple book coin pencil egg ball flower stamp button plum cup shell")
_GAINS = (
    "{p} has {m} {things}. {q} gives {him} {n} more.",
    "{p} has {m} {things}. Then {he} finds {n} more.",
    "{p} buys {m} {things} in the morning and {n} in the evening.",
    "There are {m} {things} in a box. {p} puts {n} more into it.",
)
_LOSSES = (
    "{p} has {m} {things}. {He} gives {n} of them to {q}.",
    "{p} has {m} {things}. Then {he} loses {n} of them.",
    "There are {m} {things} in a box. {p} takes {n} out of it.",
    "{p} has {m} {things} and sells {n} of them.",
)


def _problem(dice: Dice) -> Exercise:
    p, q = dice.sample(CAST, 2)
    things = plural_of(dice.pick(_COUNTED))
    gains = dice.chance(0.5)
    if gains:
        m = dice.between(2, 6)
        n = dice.between(2, 6)
        story, result = dice.pick(_GAINS), m + n
    else:
        m = dice.between(4, LARGEST_SUM)
        n = dice.between(2, m - 1)
        story, result = dice.pick(_LOSSES), m - n
    if story.startswith("There"):
        question = f"How many {things} are in the box now?"
    else:
        question = f"How many {things} does {p.name} have now?"
    for field, value in (("p", p.name), ("q", q.name), ("m", str(m)), ("n", str(n))):
        story = story.replace("{" + field + "}", value)
    story = story.replace("{things}", things).replace("{him}", p.him)
    story = story.replace("{he}", p.he).replace("{He}", p.he.capitalize())
    return Exercise(story, str(result), question)


def _two(dice: Dice) -> tuple[int, int]:
    one = dice.between(1, 60)
    other = dice.between(1, 60)
    return (one, other) if one != other else _two(dice)


def _larger(dice: Dice) -> Exercise:
    one, other = _two(dice)
    return Exercise(f"{one} or {other}", str(max(one, other)))


def _smaller(dice: Dice) -> Exercise:
    one, other = _two(dice)
    return Exercise(f"{one} or {other}", str(min(one, other)))


def _numbers(dice: Dice) -> list[int]:
    return dice.sample(range(1, 21), 3)


def _ascending(dice: Dice) -> Exercise:
    numbers = _numbers(dice)
    return Exercise(_listed(numbers), _listed(sorted(numbers)))


def _descending(dice: Dice) -> Exercise:
    numbers = _numbers(dice)
    return Exercise(_listed(numbers), _listed(sorted(numbers, reverse=True)))


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _series(dice: Dice) -> Exercise:
    step = dice.pick((1, 2, 5, 10))
    start = dice.between(0, 12) * (step if step > 2 else 1)
    return Exercise(_listed([start, start + step, start + 2 * step]), str(start + 3 * step))


def _parity(dice: Dice) -> Exercise:
    n = dice.between(0, 60)
    return Exercise(str(n), "odd" if n % 2 else "even")


SKILLS = (
    skill(
        "sum",
        "addition",
        _sum,
        """
        what is {x}?
        how much is {x}?
        calculate {x}.
        work out {x}.
        find the result of {x}.
        what do you get for {x}?
        tell me the result of {x}.
        what does {x} make?
        give the answer to {x}.
        I need the result of {x}.
        """,
        """
        {x} is {a}
        {x} makes {a}
        """,
    ),
    skill(
        "difference",
        "subtraction",
        _difference,
        """
        what is {x}?
        how much is {x}?
        calculate {x}.
        work out {x}.
        what is left of {x}?
        find the result of {x}.
        what do you get for {x}?
        tell me the result of {x}.
        give the answer to {x}.
        I need the result of {x}.
        """,
        """
        {x} is {a}
        {x} leaves {a}
        """,
    ),
    skill(
        "product",
        "multiplication",
        _product,
        """
        what is {x}?
        how much is {x}?
        calculate {x}.
        work out {x}.
        find the product: {x}.
        what do you get for {x}?
        tell me the result of {x}.
        give the answer to {x}.
        I need the result of {x}.
        """,
        """
        {x} is {a}
        {x} makes {a}
        """,
    ),
    skill(
        "quotient",
        "division",
        _quotient,
        """
        what is {x}?
        how much is {x}?
        calculate {x}.
        work out {x}.
        find the result of {x}.
        what do you get for {x}?
        tell me the result of {x}.
        give the answer to {x}.
        I need the result of {x}.
        """,
        """
        {x} is {a}
        {x} makes {a}
        """,
    ),
    skill(
        "problem",
        "problems in words",
        _problem,
        """
        {x} {q}
        {q} {x}
        read the problem and give the number. {x} {q}
        solve this problem. {x} {q}
        listen: {x} {q}
        answer with a number. {x} {q}
        here is a problem. {x} {q}
        can you solve this? {x} {q}
        think about this. {x} {q}
        """,
    ),
    skill(
        "larger",
        "comparing numbers",
        _larger,
        """
        which number is larger, {x}?
        what is the larger number, {x}?
        which is more, {x}?
        tell me the larger number: {x}.
        name the larger number: {x}.
        """,
    ),
    skill(
        "smaller",
        "comparing numbers",
        _smaller,
        """
        which number is smaller, {x}?
        what is the smaller number, {x}?
        which is less, {x}?
        tell me the smaller number: {x}.
        name the smaller number: {x}.
        """,
    ),
    skill(
        "ascending",
        "sorting numbers",
        _ascending,
        """
        sort these numbers from small to large: {x}
        put these numbers in order, the smallest first: {x}
        arrange the numbers from the smallest to the largest: {x}
        write these numbers in ascending order: {x}
        order the numbers from low to high: {x}
        """,
    ),
    skill(
        "descending",
        "sorting numbers",
        _descending,
        """
        sort these numbers from large to small: {x}
        put these numbers in order, the largest first: {x}
        arrange the numbers from the largest to the smallest: {x}
        write these numbers in descending order: {x}
        order the numbers from high to low: {x}
        """,
    ),
    skill(
        "series",
        "continuing a series",
        _series,
        """
        which number comes next: {x}
        continue the series with one number: {x}
        what is the next number: {x}
        find the next number: {x}
        give the number that follows: {x}
        go on with one more number: {x}
        how does this series go on: {x}
        complete the series with one number: {x}
        """,
    ),
    skill(
        "parity",
        "odd and even",
        _parity,
        """
        is {x} odd or even?
        is the number {x} odd or even?
        odd or even: {x}
        tell me whether {x} is odd or even.
        say whether the number {x} is odd or even.
        is {x} an odd or an even number?
        what is {x}, odd or even?
        decide whether {x} is odd or even.
        """,
        """
        {x} is {a}
        the number {x} is {a}
        """,
    ),
)
