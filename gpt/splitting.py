"""Splitting: which records the model learns from, is tuned by, and is examined on.

    all records ─> groups of one prompt each ─> train 85% │ validation 5% │ test 10%

A prompt that stands on two sides makes the loss on the second a lie: it is partly recall. So what
is dealt out are not records but groups of identical prompts (`duplicates.prompt_key`). Where
records have a `category`, each is dealt out by itself, and so has its share on every side.

Who goes where follows from a hash of the seed and the prompt: it is the same on every machine and
with every library version, does not depend on the order of the files, and changes for few when
records are added. Within a side the order of the files stays.

The book *Build a Large Language Model (From Scratch)* cuts the file in three instead, without a
look at what it holds: `split_as_book` does the same, for whoever wants to compare with its numbers.

    python -m gpt.splitting     # twelve records in three categories, both ways
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gpt.cli import run
from gpt.duplicates import Duplicate, duplicate_prompts, fingerprint, groups_of_prompts
from gpt.errors import UserError
from gpt.records import Record, Turn

SIDES = ("train", "validation", "test")
NO_CATEGORY = "(none)"


class SplitError(UserError):
    """A split that leaves nothing to learn from."""


class Split(NamedTuple):
    train: list[Record]  # what the model learns from
    validation: list[Record]  # what says when to stop, and which settings are better
    test: list[Record]  # what is looked at once, at the end


class Overlap(NamedTuple):
    """A prompt that stands on two sides."""

    side: str  # validation or test
    record: Record
    earlier_side: str  # where the prompt stands too: train, or validation
    earlier: Record

    def __str__(self) -> str:
        theirs, ours = f"{self.earlier.where} ({self.earlier_side})", self.record.where
        return f"{ours} ({self.side}) asks what {theirs} asks"


def split_by_prompt(
    records: Sequence[Record],
    val_fraction: float = 0.05,
    test_fraction: float = 0.10,
    seed: int = 0,
) -> Split:
    """Deal out the groups of identical prompts, so that no prompt stands on two sides.

    A side has its share to the record, rounded, unless large groups make that impossible: a group
    that does not fit into what is left of a side goes to train.
    """
    check_fractions(val_fraction, test_fraction)
    by_prompt = groups_of_prompts(records)
    groups = [by_prompt[prompt] for prompt in sorted(by_prompt, key=lambda p: _place(p, seed))]
    side_of = ["train"] * len(records)
    n_given = {"test": 0, "validation": 0}
    n_seen = 0  # records so far: what one category's share loses by rounding, the next one gains
    for of_category in _by_category(records, groups):
        n_seen += sum(map(len, of_category))
        for side, fraction in (("test", test_fraction), ("validation", val_fraction)):
            room = math.floor(n_seen * fraction + 0.5) - n_given[side]
            room = min(room, n_seen - 1 - sum(n_given.values()))  # rounding leaves one to train
            taken, of_category = _take(of_category, room)
            n_given[side] += len(taken)
            for index in taken:
                side_of[index] = side
    return _as_split(records, side_of)


def split_as_book(records: Sequence[Record]) -> Split:
    """The first 85% train, the next 10% test, the rest validation, in the order of the files."""
    n_train, n_test = int(len(records) * 0.85), int(len(records) * 0.1)
    n_validation = len(records) - n_train - n_test
    sides = ["train"] * n_train + ["test"] * n_test + ["validation"] * n_validation
    return _as_split(records, sides)


def overlaps(split: Split, repeated: Iterable[Duplicate] | None = None) -> list[Overlap]:
    """Every record of validation and test whose prompt an earlier side has.

    repeated: the `duplicate_prompts` of the three sides in a row, where they are known already.
    """
    rows = [(side, record) for side, of_it in zip(SIDES, split, strict=True) for record in of_it]
    if repeated is None:
        repeated = duplicate_prompts([record for _, record in rows])
    pairs = [rows[d.index] + rows[d.first] for d in sorted(repeated)]
    return [Overlap(*pair) for pair in pairs if pair[0] != pair[2]]  # on two different sides


def category_of(record: Record) -> str:
    """The `category` that the record's file gives it; null and "" are none."""
    category = record.extra.get("category")
    return NO_CATEGORY if category in (None, "") else str(category)


def check_fractions(val_fraction: float, test_fraction: float) -> None:
    """Raise a SplitError unless both are shares that leave a part to train on."""
    for name, fraction in (("validation", val_fraction), ("test", test_fraction)):
        if not 0 <= fraction < 1:  # also refuses NaN
            raise SplitError(f"the {name} fraction must be at least 0 and below 1, not {fraction}")
    if val_fraction + test_fraction >= 1:
        raise SplitError(
            f"validation ({val_fraction}) and test ({test_fraction}) together take all records: "
            "leave a part to train on"
        )


def _place(prompt: bytes, seed: int) -> bytes:
    """Where a prompt stands in the queue: random, and the same for ever for one seed."""
    return fingerprint(f"{seed} {prompt.hex()}")


def _by_category(records: Sequence[Record], groups: list[list[int]]) -> list[list[list[int]]]:
    """The groups of each category, by name; a prompt of several counts to that of its first."""
    categories: dict[str, list[list[int]]] = {}
    for group in groups:
        categories.setdefault(category_of(records[group[0]]), []).append(group)
    return [categories[name] for name in sorted(categories)]


def _take(groups: list[list[int]], room: int) -> tuple[list[int], list[list[int]]]:
    """As many groups as fit, in their order: the records in them, and the groups that are left."""
    taken: list[int] = []
    left = []
    for group in groups:
        if len(taken) + len(group) <= room:
            taken += group
        else:
            left.append(group)
    return taken, left


def _as_split(records: Sequence[Record], side_of: Sequence[str]) -> Split:
    sides: dict[str, list[Record]] = {side: [] for side in SIDES}
    for record, side in zip(records, side_of, strict=True):
        sides[side].append(record)
    if not sides["train"]:
        raise SplitError(
            f"nothing is left to train on: {len(records)} records are too few for this split"
        )
    return Split(**sides)


def _demo() -> None:
    questions = {
        "capitals": ("France", "Peru", "Turkey", "france ", "Japan", "Chad"),
        "sums": ("1 + 1", "2 + 2", "3 + 4"),
        "colours": ("sky", "grass", "sky"),
    }
    asked = [(category, about) for category, all_ in questions.items() for about in all_]
    records = [
        Record(
            (Turn("user", f"{category}:", about), Turn("assistant", "…")),
            "demo.json",
            line,
            {"category": category},
        )
        for line, (category, about) in enumerate(asked, start=1)
    ]
    ways = {
        "by prompt": split_by_prompt(records, val_fraction=0.2, test_fraction=0.3),
        "as the book": split_as_book(records),
    }
    for way, split in ways.items():
        print(way)
        for side, members in zip(SIDES, split, strict=True):
            counts = Counter(category_of(record) for record in members)
            told = ", ".join(f"{n} {name}" for name, n in sorted(counts.items()))
            print(f"  {side:<10} {len(members):>2}: {told}")
        found = overlaps(split)
        print(f"  prompts on two sides: {len(found)}")
        for overlap in found:
            print(f"    {overlap}")


if __name__ == "__main__":
    run(_demo)
