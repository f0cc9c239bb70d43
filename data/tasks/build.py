"""All instructions: which facts and exercises are asked for, how often, and on which side.

    tuned facts     ─┬─> train      several wordings each
                     └─> test       in wordings, or with wordings, that training has not
    held-out facts  ───> test       in any wording (and some, others, in validation)
    skills, texts   ───> all sides  each sum, list, page and set of facts on one side only

A task is put in only if nobody has asked it before, on any side. What validation or test asks for,
nobody else is asked in any words. On the training side, a text nowhere puts the two words of a
held-out fact together.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator

from data.corpus.stream import SKILLS
from data.dice import Dice
from data.tasks import facts as fact_tasks
from data.tasks import skills as skill_tasks
from data.tasks.open import OPEN
from data.tasks.record import SIDES, Task
from data.world.facts import BY_ID, BY_RELATION, HELD_OUT, RELATIONS, Fact
from gpt.near_duplicates import near_duplicates
from gpt.records import Record, Turn

SEED = 6  # of the file in the repository

# Tasks on each side: train, validation, test.
PER_TUNED_FACT = 2  # at least; every third has one more
TUNED_FACTS = (None, 52, 140)
HELD_OUT_FACTS = (0, 30, 190)
PER_SKILL = (34, 1, 4)

_HELD = tuple(BY_ID[id_] for id_ in sorted(HELD_OUT))


def build(seed: int = SEED) -> list[dict[str, object]]:
    """The records of data/instructions.json, in their order."""
    dice = Dice(seed)
    tasks = Tasks()
    for part in (_held_out, _tuned, _skills, _texts):
        part(dice, tasks)
    different = without_near_duplicates(tasks.accepted)
    return [task.as_record() for task in dice.shuffled(different)]


def without_near_duplicates(tasks: list[Task]) -> list[Task]:
    """Without those that say nearly what an earlier one says, as gpt.near_duplicates sees it."""
    turns = [
        (Turn("user", task.instruction, task.input), Turn("assistant", task.output))
        for task in tasks
    ]
    records = [Record(pair, "", i, {}) for i, pair in enumerate(turns)]
    near = {duplicate.index for duplicate in near_duplicates(records)}
    return [task for i, task in enumerate(tasks) if i not in near]


class Tasks:
    """What has been accepted so far."""

    def __init__(self) -> None:
        self.accepted: list[Task] = []
        self._prompts: set[str] = set()
        self._kept: set[str] = set()  # the contents of validation and test

    def offer(self, task: Task, split: str) -> bool:
        """Take a task, unless it was asked before or would give a held-out fact away."""
        if task.prompt in self._prompts or task.content in self._kept:
            return False
        if split == "train" and any(gives_away(task.text)):
            return False
        task.split = split
        if split != "train":
            self._kept.add(task.content)
        self._prompts.add(task.prompt)
        self.accepted.append(task)
        return True

    def fill(self, n: int, split: str, draw: Callable[[], Task]) -> None:
        """Draw until n tasks were taken."""
        taken = tried = 0
        while taken < n:
            taken += self.offer(draw(), split)
            tried += 1
            if tried > 100 * n + 1000:
                raise ValueError(f"only {taken} of {n} different tasks: {draw()}")


def gives_away(text: str) -> Iterator[Fact]:
    """The held-out facts of which a text holds subject and answer."""
    possible = (
        fact for word in dict.fromkeys(_words(text)) for fact in _HELD_BY_WORD.get(word, ())
    )
    return (fact for fact in possible if fact.is_told_by(text))


def _words(text: str) -> list[str]:
    return re.findall(r"[\w-]+", text.lower())


def _held_by_first_word() -> dict[str, list[Fact]]:
    """By the first words of their subjects: a text without such a word does not tell the fact."""
    facts: dict[str, list[Fact]] = {}
    for fact in _HELD:
        for form in fact.marks[0]:
            facts.setdefault(_words(form)[0], []).append(fact)
    return facts


_HELD_BY_WORD = _held_by_first_word()


def _spread(dice: Dice, facts: Iterable[Fact]) -> Iterator[Fact]:
    """One fact of each relation, then another of each, and so on."""
    wanted = {fact.id for fact in facts}
    queues = [
        dice.shuffled([fact for fact in BY_RELATION[name] if fact.id in wanted])
        for name in RELATIONS
    ]
    for rank in range(max(map(len, queues))):
        yield from (queue[rank] for queue in queues if rank < len(queue))


def _held_out(dice: Dice, tasks: Tasks) -> None:
    facts = _spread(dice, _HELD)
    for split, n in (("test", HELD_OUT_FACTS[2]), ("validation", HELD_OUT_FACTS[1])):
        for _ in range(n):
            (task,) = fact_tasks.draw(dice, next(facts), 1, unseen=None)
            tasks.offer(task, split)


def _tuned(dice: Dice, tasks: Tasks) -> None:
    tuned = [fact for fact in BY_ID.values() if fact.id not in HELD_OUT]
    facts = _spread(dice, tuned)
    for split, n in (("test", TUNED_FACTS[2]), ("validation", TUNED_FACTS[1])):
        for i in range(n):  # half of them in a wording that training has for no fact
            (task,) = fact_tasks.draw(dice, next(facts), 1, unseen=True if i % 2 else None)
            tasks.offer(task, split)
    for i, fact in enumerate(tuned):
        n = PER_TUNED_FACT + (i % 3 == 0)
        for task in fact_tasks.draw(dice, fact, n + 2, unseen=False):
            if n:
                n -= tasks.offer(task, "train")


def _test_first(counts: tuple[int, int, int]) -> list[tuple[str, int]]:
    """What test asks for, training must not: so it chooses first."""
    return list(zip(SIDES, counts, strict=True))[::-1]


def _skills(dice: Dice, tasks: Tasks) -> None:
    for split, n in _test_first(PER_SKILL):
        for skill in SKILLS:
            for i in range(n):
                unseen = False if split == "train" else True if i % 2 else None
                tasks.fill(1, split, lambda s=skill, u=unseen: skill_tasks.draw(dice, s, u))


def _texts(dice: Dice, tasks: Tasks) -> None:
    for draw, _, wordings, counts in OPEN:
        seen, unseen = list(wordings[:-1]), list(wordings)
        for split, n in _test_first(counts):
            of_split = seen if split == "train" else unseen
            tasks.fill(n, split, lambda d=draw, w=of_split: d(dice, w))


def as_json(records: list[dict[str, object]]) -> str:
    """A record to a line, so that a change of one is a change of one line."""
    lines = (json.dumps(record, ensure_ascii=False) for record in records)
    return "[\n" + ",\n".join(lines) + "\n]\n"
