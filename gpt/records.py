"""Instruction data, whatever shape it comes in: files -> records, each one conversation.

    Alpaca             {"instruction": …, "input": …, "output": …}      ─┐
    prompt/completion  {"prompt": …, "completion": …}                    ├─> Record: user, assistant
    OpenAI             {"messages": [{"role": …, "content": …}, …]}      │   (user, assistant, …)
    ShareGPT           {"conversations": [{"from": …, "value": …}, …]}  ─┘

Which shape a record has is told by its keys, and said: `Reading.notes`. A record that cannot be
trained on as it stands (no answer, a misspelt key, two users in a row) is a `Fault` with its file
and line, and all faults of all files are found before anything else happens: a run that begins
trains on what its owner believes it trains on. Files are read by `reading.py`.

    python -m gpt.records                  # one record in four shapes, and some faults
    python scripts/check_data.py FILE…     # all faults of your own files

Sources: Taori et al., "Alpaca" (2023), for its keys; OpenAI's fine-tuning guide for `messages`;
the files of ShareGPT and of databricks-dolly-15k as they are.
"""

import contextlib
import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tqdm import tqdm

from gpt.cli import run
from gpt.errors import UserError
from gpt.reading import read_objects
from gpt.shapes import KEYS, ShapeReader, Turn, did_you_mean, kind_of, name_of
from gpt.textfile import Problem, brief

MAX_FAULTS = 100_000  # of one file, which is then another file than its reader thinks

__all__ = ["Fault", "Reading", "Record", "Turn"]
__all__ += ["load_records", "parse_fields", "plain", "read_records"]


class DataError(UserError):
    """Instruction data that cannot be trained on as it is."""


class FieldsError(UserError):
    """A mapping of keys (--fields) that says nothing clear."""

    exit_code = 2  # bad usage


@dataclass(frozen=True, slots=True)
class Record:
    """A conversation, and where it came from."""

    turns: tuple[Turn, ...]  # [system] (user assistant)+; a bare prompt ends with the user's
    file: str
    line: int  # the one on which the record begins, from 1
    extra: dict  # all further keys, {"category": "capitals"}; not to be changed: it may be shared

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"


class Fault(NamedTuple):
    file: str
    line: int  # 0: the whole file, of which --skip-bad can skip nothing
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line or ''}{': ' if self.line else ' '}{self.message}"


@dataclass
class Reading:
    """What some files hold."""

    records: list[Record] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was recognised, a line for each file
    n_records: int = 0  # in the files: those above, and those refused

    def refuse_faults(self, skip_bad: bool = False, shown: int = 10) -> None:
        """Raise a DataError if there are faults; with skip_bad, only for those of whole files."""
        faults = [fault for fault in self.faults if not (skip_bad and fault.line)]
        if faults:
            lines = [str(fault) for fault in faults[:shown]]
            if len(faults) > shown:
                lines.append(f"… and {len(faults) - shown:,} more: scripts/check_data.py lists all")
            if any(fault.line for fault in faults):
                lines.append("mend these, or go on without the records concerned: --skip-bad")
            count = f"{len(faults):,} fault{'s' * (len(faults) > 1)} in the data"
            raise DataError("\n  ".join([f"{count}:", *lines]))
        if not self.records:
            raise DataError("no record is left to work with")


def load_records(
    paths: Iterable[str | Path],
    fields: dict[str, str] | None = None,
    skip_bad: bool = False,
    need_answers: bool = True,
) -> list[Record]:
    """All records of the files, or a DataError that lists what is wrong with them."""
    reading = read_records(paths, fields, need_answers)
    reading.refuse_faults(skip_bad)
    return reading.records


def read_records(
    paths: Iterable[str | Path],
    fields: dict[str, str] | None = None,
    need_answers: bool = True,
) -> Reading:
    """Read files of any shape and format, and find all their faults.

    fields: the names of keys where they are others: {"instruction": "talimat"}.
    need_answers: False for files of bare prompts; a record may then end with the user's turn.
    """
    paths = [Path(path) for path in paths]
    shapes = ShapeReader(fields or {}, need_answers)
    n_bytes = sum(path.stat().st_size for path in paths if path.is_file())
    reading = Reading()
    # Shown after two seconds, and only to a person: disable=None is "unless stderr is a terminal".
    with (
        tqdm(
            total=n_bytes or None, desc="reading", unit="B", unit_scale=True, delay=2, disable=None
        ) as bar,
        _no_search_for_garbage(),
    ):
        for path in paths:
            _read_file(path, shapes, reading, bar.update)
    # First: it may be the cause of all the others. A key that is not there is never just ignored.
    unseen = shapes.unseen.items() if shapes.seen else ()
    reading.faults[:0] = [
        Fault("--fields", 0, f"{name}={plain(key)}, but no record has this key{hint}")
        for name, key in unseen
        for hint in [did_you_mean(key, shapes.seen)]
    ]
    return reading


@contextlib.contextmanager
def _no_search_for_garbage() -> Iterator[None]:
    """Records are never garbage, and Python would look through all of them again and again as they
    grow in number: a third of the time that reading takes.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _read_file(
    path: Path, shapes: ShapeReader, reading: Reading, progress: Callable[[int], object]
) -> None:
    file = str(path)  # one string, which all its records share
    found: Counter[tuple[str, ...]] = Counter()  # shapes, as the keys that make them
    extras: dict[str, None] = {}
    n_before, n_refused = len(reading.records), 0
    n_faults_before = len(reading.faults)
    for line, value in read_objects(path, progress):
        if len(reading.faults) - n_faults_before > MAX_FAULTS:
            message = f"more than {MAX_FAULTS:,} faults: read no further than line {line}"
            reading.faults.append(Fault(file, 0, message))
            break
        if type(value) is Problem:
            reading.faults.append(Fault(file, line, value.message))
            n_refused += value.refused
            continue
        problems: list[str] = []
        if type(value) is dict:
            layout = shapes.layout(value)
            turns = shapes.turns(value, layout, problems)
        else:
            problems.append(f"a record is an object, and this is {kind_of(value)}")
        if problems:
            reading.faults += [Fault(file, line, problem) for problem in problems]
            n_refused += 1
            continue
        used = layout.used
        extra = _NO_EXTRA
        if len(value) > len(used):
            extra = {sys.intern(key): value[key] for key in value if key not in used}
            extras |= dict.fromkeys(extra)
        reading.records.append(Record(turns, file, line, extra))
        found[used] += 1
    n_good = len(reading.records) - n_before
    reading.n_records += n_good + n_refused
    if n_good + n_refused:
        reading.notes.append(_note(file, n_good, n_refused, found, list(extras)))


_NO_EXTRA: dict = {}


def _note(
    file: str, n_good: int, n_refused: int, found: Counter[tuple[str, ...]], extras: list[str]
) -> str:
    """data/x.json: 52,002 records, Alpaca (instruction, input, output)"""
    merged: dict[str, dict[str, int]] = {}  # shape -> its keys; one that is optional comes last
    counts: Counter[str] = Counter()
    for used, n in found.items():
        counts[name_of(used)] += n
        merged.setdefault(name_of(used), {}).update(dict.fromkeys(used, 0))
    parts = [
        (f"{n:,} " if len(counts) > 1 else "") + f"{name} ({', '.join(merged[name])})"
        for name, n in counts.most_common()
    ]
    extras = [plain(key) for key in extras[:12]]
    n_records = n_good + n_refused
    note = f"{file}: {n_records:,} record{'s' * (n_records != 1)}"
    note += f", {n_refused:,} of them refused" if n_refused else ""
    note += f", {' and '.join(parts)}" if parts else ""
    return note + (f"; further keys: {', '.join(extras)}" if extras else "")


def plain(text: str) -> str:
    """A key or a name from the data, as a terminal may show it: it could hold an escape code."""
    return text if text.isprintable() and len(text) <= 40 else brief(text)


def parse_fields(text: str) -> dict[str, str]:
    """The argument of --fields: "instruction=talimat,output=cevap"."""
    names = {key: name for name, row in KEYS.items() for key in row}
    fields: dict[str, str] = {}
    for part in text.split(","):
        ours, equals, theirs = (piece.strip() for piece in part.partition("="))
        if not (ours and equals and theirs):
            raise FieldsError(f"--fields: {part!r} is not NAME=KEY, as in instruction=talimat")
        if ours not in names:
            hint = did_you_mean(ours, list(names)) or f"; known are {', '.join(KEYS)}"
            raise FieldsError(f"--fields: {ours!r} is no field{hint}")
        if names[ours] in fields or theirs in fields.values():
            raise FieldsError(f"--fields: {part!r} says something a second time")
        fields[names[ours]] = theirs
    return fields


# ---- a demonstration ------------------------------------------------------------------------

_FOUR = {
    "alpaca.json": """[{"instruction": "Name the capital of Peru.", "output": "Lima."}]""",
    "pairs.csv": """prompt,completion\nName the capital of Peru.,Lima.""",
    "openai.jsonl": """\
{"messages": [{"role": "user", "content": "Name the capital of Peru."}, \
{"role": "assistant", "content": "Lima."}]}""",
    "sharegpt.json": """\
[{"conversations": [{"from": "human", "value": "Name the capital of Peru."},
                    {"from": "gpt", "value": "Lima."}]}]""",
}
_FAULTY = """[
  {"instruction": "Add 2 and 2.", "output": "4"},
  {"instruction": "Add 3 and 3.", "output": 6},
  {"instruction": "Add 4 and 4.", "outptu": "8"},
  {"instruction": "Add 5 and 5.", "output": "10},
  {"instruction": "Add 6 and 6.", "output": " "},
  {"conversations": [{"from": "gpt", "value": "12"}]},
  {"instruction": "Add 7 and 7.", "output": "14", "output": "15"},
  "Add 8 and 8."
]
"""


def _demo() -> None:
    with TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, text in {**_FOUR, "faulty.json": _FAULTY}.items():
            Path(name).write_text(text, encoding="utf-8")
        print("One record in four shapes:\n")
        reading = read_records(_FOUR)
        for text, note in zip(_FOUR.values(), reading.notes, strict=True):
            print(f"{text}\n    {note}\n")
        [turns] = {record.turns for record in reading.records}  # one, or this line fails
        print("All four are one conversation:", *turns, sep="\n    ")
        print("\nA file with faults, all of them found at once:\n")
        for number, text in enumerate(_FAULTY.splitlines(), 1):
            print(f"{number:>4} {text}")
        print()
        reading = read_records(["faulty.json"])
        print(*reading.faults, *reading.notes, sep="\n")


if __name__ == "__main__":
    run(_demo)
