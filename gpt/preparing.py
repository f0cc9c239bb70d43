"""From what the files hold to three sides: cleaned, without duplicates, split, and all of it told.

    records.py ─> cleaning ─> duplicates ─> splitting ─> datacard.py, and training

The order matters. Text is repaired before it is compared, so that a stray space hides no duplicate;
duplicates go before the split, so that no record stands on two sides. Sides that a person gives as
files of their own, or as the book's slices, are settled before anything is dropped; a record that
stands on two of them then leaves the training side, and the test stays as it was.

    python scripts/prepare.py data.json --out prepared
"""

from collections import Counter
from collections.abc import Container
from dataclasses import asdict, dataclass

from gpt.cleaning import Change, Cleaning, clean
from gpt.datacard import ALL_STEPS, Preparation
from gpt.duplicates import duplicate_prompts, exact_duplicates
from gpt.errors import UserError
from gpt.near_duplicates import THRESHOLD, near_duplicates
from gpt.records import Reading, Record
from gpt.splitting import SIDES, Split, overlaps, split_as_book, split_by_prompt

Sides = dict[str, list[Record]]  # a record's side, as far as the command line decides it


class PrepareError(UserError):
    """A set of which nothing is left to train on, or a folder that must not be written."""


@dataclass(frozen=True)
class Settings:
    """What decides how data are prepared; `scripts/prepare.py` has a flag for each."""

    steps: tuple[str, ...] = tuple(ALL_STEPS)
    min_answer: int = Cleaning.min_answer  # characters
    max_answer: int = Cleaning.max_answer  # characters
    threshold: float = THRESHOLD  # similarity from which two records are near duplicates
    split: str = "prompt"  # by groups of one prompt; "book": the book's slices, in order
    val_fraction: float = 0.05  # of the records; none where validation has files of its own
    test_fraction: float = 0.10
    seed: int = 0  # another one, another split


def prepare(readings: dict[str, Reading], settings: Settings, title: str) -> Preparation:
    """Clean, drop, split. `readings` has "train" and, from files of their own, the other sides."""
    sides = {side: reading.records for side, reading in readings.items()}
    if settings.split == "book":
        sides = split_as_book(sides["train"])._asdict()  # as the file has them, before any is lost
    sides, changes = _clean(sides, settings)
    sides, dropped = _drop_duplicates(sides, settings)
    changes += dropped
    split = _split_rest(sides, changes, settings)
    records = [record for side in split for record in side]
    repeated = duplicate_prompts(records)
    return Preparation(
        title=title,
        notes=[note for reading in readings.values() for note in reading.notes],
        n_records=sum(reading.n_records for reading in readings.values()),
        n_refused=sum(r.n_records - len(r.records) for r in readings.values()),
        faults=[str(fault) for reading in readings.values() for fault in reading.faults],
        settings=_told(settings, readings),
        changes=changes,
        duplicate_prompts=[
            f"{records[d.index].where} asks what {records[d.first].where} asks" for d in repeated
        ],
        split=split,
        overlaps=overlaps(split, repeated),
    )


def _clean(sides: Sides, settings: Settings) -> tuple[Sides, list[Change]]:
    cleaning = Cleaning(frozenset(settings.steps), settings.min_answer, settings.max_answer)
    cleaned, changes = {}, []
    for side, records in sides.items():
        cleaned[side], made = clean(records, cleaning)
        changes += made
    return cleaned, changes


def _drop_duplicates(sides: Sides, settings: Settings) -> tuple[Sides, list[Change]]:
    """Keep the first of each; where sides are given, a record of the test counts as earlier."""
    rows = [(side, record) for side in reversed(SIDES) for record in sides.get(side, ())]
    changes = []
    for step in ("duplicates", "near-duplicates"):
        if step not in settings.steps:
            continue
        records = [record for _, record in rows]
        if step == "duplicates":
            found = exact_duplicates(records)
        else:
            found = near_duplicates(records, settings.threshold)
        for duplicate in found:
            what = f"like {records[duplicate.first].where} (similarity {duplicate.similarity:.2f})"
            changes.append(Change(step, records[duplicate.index].where, what, dropped=True))
        dropped = {duplicate.index for duplicate in found}
        rows = [row for index, row in enumerate(rows) if index not in dropped]
    return {side: [r for of, r in rows if of == side] for side in sides}, changes


def _split_rest(sides: Sides, changes: list[Change], settings: Settings) -> Split:
    """Split what is on no side yet."""
    if not sides["train"]:
        dropped = Counter(change.step for change in changes if change.dropped)
        told = ", ".join(f"{step}: {n:,}" for step, n in dropped.items())
        raise PrepareError(f"no record is left to train on; dropped by {told}")
    if settings.split == "book":
        return Split(**sides)
    split = split_by_prompt(sides["train"], *shares(settings, sides), settings.seed)
    given = {side: records for side, records in sides.items() if side != "train"}
    return split._replace(**given)


def shares(settings: Settings, given: Container[str]) -> tuple[float, float]:
    """What validation and test get of the records: nothing where the side has files of its own."""
    val_fraction = 0 if "validation" in given else settings.val_fraction
    test_fraction = 0 if "test" in given else settings.test_fraction
    return val_fraction, test_fraction


def idle_settings(settings: Settings, given: Container[str]) -> dict[str, str]:
    """The settings that decide nothing, each with the flags that make it so.

    given: the sides that have files of their own.
    """
    if settings.split == "book":
        idle = dict.fromkeys(("val_fraction", "test_fraction", "seed"), "--split book")
    else:
        idle = {"val_fraction": "--val-data"} if "validation" in given else {}
        idle |= {"test_fraction": "--test-data"} if "test" in given else {}
        if not any(shares(settings, given)):
            val = idle.get("val_fraction", "--val-fraction 0")
            test = idle.get("test_fraction", "--test-fraction 0")
            idle["seed"] = f"{val} and {test}"
    if "near-duplicates" not in settings.steps:
        idle["threshold"] = "--no-near-duplicates"
    if "lengths" not in settings.steps:
        idle |= dict.fromkeys(("min_answer", "max_answer"), "--no-lengths")
    return idle


def _told(settings: Settings, sides: dict[str, Reading]) -> dict:
    """The settings that have decided anything."""
    told = asdict(settings) | {"steps": list(settings.steps)}
    idle = idle_settings(settings, sides)
    return {name: value for name, value in told.items() if name not in idle}
