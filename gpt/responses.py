"""`responses.jsonl` as it is written: a row a record, added once it is whole, never lost.

    answers as they end ─> responses.journal ─> rows, in the order of the data ─> responses.jsonl

Lines are only added, each in one write. A row waits in the journal until both models have answered
it and all rows before it are written. So the file can be read at any time, and is the same whatever
order answers end in. Whoever was killed at any moment goes on with the rows that the file has, and
the answers that the journal has.

The journal's first line says what the answers are made by: those of two models, or at two
temperatures, never stand in one file. When all is done, that line alone stays of it.

Where several ranks answer, each has a journal of its own, and hands its answers to the first rank,
which alone writes rows. After a kill, that one begins by taking up the journals of all.

    python -m gpt.responses     # four answers, a kill in the middle of a line, what goes on from it
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from gpt.cli import run
from gpt.errors import UserError
from gpt.files import add_whole, replace_file
from gpt.overlap import exact_match
from gpt.records import Record, Turn
from gpt.textfile import brief

SIDES = {"response": "tuned", "base_response": "base"}  # keys of a row, and who answers under each
_QUESTION = ("instruction", "input", "output", "turns")  # keys of a row: what it was asked


class AnsweringError(UserError):
    """Answers that cannot be written, or not where they should go."""


class Answer(NamedTuple):
    text: str
    finish_reason: str  # stop, length or context
    n_tokens: int
    note: str = ""  # the numbers, where the context was too short
    nats: float | None = None  # -log p of the reference; None of one that was not read
    n_reference: int | None = None  # tokens of it, the end among them

    def fault(self, side: str = "response") -> str | None:
        """What is wrong with it, if it was read from a file that somebody may have edited."""
        kinds = (str,), (str,), (int,), (str,), (float, int, type(None)), (int, type(None))
        for name, value, kind in zip(_keys_of(side), self, kinds, strict=True):
            if type(value) not in kind:
                return f"{name} is {'missing or null' if value is None else brief(value)}"
        return None


def prompt_turns(record: Record) -> tuple[Turn, ...]:
    """All before the last answer: what a model is asked."""
    return record.turns[:-1] if record.turns[-1].role == "assistant" else record.turns


def reference_of(record: Record) -> str | None:
    return record.turns[-1].text if record.turns[-1].role == "assistant" else None


def row_of(record: Record, sides: Sequence[str]) -> dict[str, Any]:
    """A record as a row that has no answers yet. What else the record holds, comes last."""
    *earlier, asked = prompt_turns(record)
    row = {"instruction": asked.text, "input": asked.input, "output": reference_of(record)}
    row |= {keys[i]: None for i in range(3) for keys in map(_keys_of, sides)}
    row |= {"where": record.where, "category": record.extra.get("category", "")}
    if earlier:
        row["turns"] = [
            {"role": t.role, "content": t.text} | ({"input": t.input} if t.input else {})
            for t in earlier
        ]
    ours = {*row, *(key for side in SIDES for key in _keys_of(side))}
    return row | {key: value for key, value in record.extra.items() if key not in ours}


def _keys_of(side: str) -> tuple[str, ...]:
    """What the parts of an answer are called in a row."""
    if side == "response":
        return side, "finish_reason", "n_tokens", "note", "output_nats", "n_output_tokens"
    return (
        side, "base_finish_reason", "n_base_tokens", "base_note", "base_output_nats",
        "n_base_output_tokens",
    )  # fmt: skip


class Responses:
    """The file of rows and its journal: what they hold already, and what is added."""

    def __init__(
        self, path: Path, rows: list[dict], sides: Sequence[str], limit: int | None = None
    ) -> None:
        """limit: so many of the rows are wanted. The file may hold more of them."""
        self.path, self.rows, self.sides = path, rows, sides
        self.n = len(rows) if limit is None else min(limit, len(rows))
        self.journal = path.with_suffix(".journal")
        self.n_whole = 0  # rows that the file has
        self.answers: dict[tuple[int, str], Answer] = {}  # of the others
        self.n_answers = 0  # of the n rows, here and there
        self._writes_rows = True

    def begin(self, made_by: dict, overwrite: bool = False, replace_other: bool = False) -> None:
        """Take up what is there, if it was made by the same; else refuse it or begin anew."""
        self._header = _line({"made_by": made_by})
        made_by = json.loads(self._header)["made_by"]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            told = _whole_lines(self.journal)
            before = _header(told)
            if before is None and told:
                raise AnsweringError(f"{self.journal}: is in the way: give another --out FILE")
            others = [key for key in made_by if before is None or before.get(key) != made_by[key]]
            if self.path.exists() and others and not (overwrite or replace_other):
                what = "nothing tells what made it" if before is None else ", ".join(others)
                raise AnsweringError(
                    f"{self.path}: holds answers that were made otherwise ({what}): "
                    "--overwrite replaces them, --out FILE keeps them"
                )
            if others or overwrite:
                for path in (self.path, *self._of_other_ranks()):
                    path.unlink(missing_ok=True)
                replace_file(self.journal, self._header)
                return
            _cut_broken_line(self.journal)
            _cut_broken_line(self.path)
            told += self._from_other_ranks()
        except OSError as error:
            raise AnsweringError(f"{self.path}: not written: {error.strerror or error}") from None
        self._take_up(told[1:])

    def begin_beside(self, rank: int, made_by: dict, n: int) -> None:
        """At a rank that is not the first: to answer some of the n rows, and write none."""
        self.n, self.journal = n, self.path.with_suffix(f".journal.{rank}")
        self._writes_rows = False
        try:
            replace_file(self.journal, _line({"made_by": made_by}))
        except OSError as error:
            raise AnsweringError(f"{self.journal}: not written: {error.strerror}") from None

    def handed_over(self) -> list[tuple[int, str, Answer]]:
        """What this rank has answered since it was last asked, for the first to add."""
        answers = [] if self._writes_rows else [(*key, a) for key, a in self.answers.items()]
        if answers:
            self.answers = {}
        return answers

    def _of_other_ranks(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{self.journal.name}.*"))

    def _from_other_ranks(self) -> list[bytes]:
        """What they had answered when they were killed, now in the one journal."""
        lines: list[bytes] = []
        for path in self._of_other_ranks():
            header, *answers = _whole_lines(path) or [b""]
            if header + b"\n" == self._header:
                for line in answers:
                    add_whole(self.journal, line + b"\n")
                lines += answers
            path.unlink()
        return lines

    def _take_up(self, told: list[bytes]) -> None:
        lines = _whole_lines(self.path)
        for i, line in enumerate(lines):
            row, there = self.rows[i] if i < len(self.rows) else None, _object(line)
            if row is None or there is None or _asked(there) != _asked(row):
                if row is None:
                    what = f"is one answer more than there are questions ({len(self.rows):,}):"
                else:
                    what = f"is not the answer to {row['where']}: is it of other data?"
                raise self._not_ours(i, what)
            for side in self.sides:
                if fault := _answer_in(there, side).fault(side):
                    raise self._not_ours(i, f"{fault}: mend it, if it was edited by hand;")
            self.rows[i] = there
        self.n_whole = len(lines)
        self.n = max(self.n, self.n_whole)
        for line in told:
            i, asked, side, answer = _journalled(line)
            if self.n_whole <= i < len(self.rows) and asked == _asked(self.rows[i]):
                self.answers[i, side] = answer
        self._release()
        self.n_answers = self.n_whole * len(self.sides)
        self.n_answers += sum(i < self.n for i, _ in self.answers)

    def _not_ours(self, i: int, what: str) -> AnsweringError:
        ways = "--overwrite replaces the file, --out FILE keeps it"
        return AnsweringError(f"{self.path}:{i + 1}: {what} {ways}")

    def add(self, i: int, side: str, answer: Answer) -> None:
        """Keep an answer; and write the rows that are whole with it, and next."""
        self.answers[i, side] = answer
        self.n_answers += i < self.n
        told = {"row": i, "asked": _asked(self.rows[i]), "side": side, "answer": answer}
        self._append(self.journal, told)
        if i == self.n_whole and self._writes_rows:
            self._release()

    def _release(self) -> None:
        while self.n_whole < len(self.rows):
            i = self.n_whole
            if any((i, side) not in self.answers for side in self.sides):
                return
            row = self.rows[i]
            for side in self.sides:
                answer = self.answers.pop((i, side))
                told = zip(_keys_of(side), answer, strict=True)
                row |= {key: value for key, value in told if value not in ("", None) or key == side}
            self._append(self.path, row)
            self.n_whole += 1

    def end(self) -> None:
        """All is answered: of the journal, only what it was made by is still of use."""
        for path in self._of_other_ranks():
            path.unlink()  # all that was in it has been added
        if not self.answers:  # of rows behind a limit
            replace_file(self.journal, self._header)

    def _append(self, path: Path, line: dict) -> None:
        data = _line(line)
        try:
            add_whole(path, data)
        except OSError as error:
            raise AnsweringError(f"{path}: not written: {error.strerror or error}") from None


def _whole_lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def _cut_broken_line(path: Path) -> None:
    """What a kill may have left, so that the next line begins on its own."""
    if path.exists():
        data = path.read_bytes()
        os.truncate(path, data.rfind(b"\n") + 1)


def _line(content: dict) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _object(line: bytes) -> dict | None:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return content if type(content) is dict else None


def _answer_in(row: dict, side: str) -> Answer:
    """Of what type its parts are, is not known yet."""
    text, reason, n_tokens, note, nats, n_reference = map(row.get, _keys_of(side))
    return Answer(text, reason, n_tokens, "" if note is None else note, nats, n_reference)


def _journalled(line: bytes) -> tuple[int, str, str, Answer]:
    """A line of the journal: row, question, side, answer. The row of one that says nothing is -1:
    the answer is asked for again, which costs less than a journal that nobody can go on from.
    """
    told, nothing = _object(line) or {}, (-1, "", "", Answer("", "", 0))
    i, asked, side, parts = map(told.get, ("row", "asked", "side", "answer"))
    if type(i) is not int or side not in list(SIDES) or type(parts) is not list:
        return nothing
    if not 3 <= len(parts) <= len(Answer._fields) or Answer(*parts).fault():
        return nothing
    return i, asked, side, Answer(*parts)


def _asked(row: dict) -> str:
    """Stands for a row's question and reference."""
    return hashlib.sha256(_line({key: row.get(key) for key in _QUESTION})).hexdigest()[:16]


def _header(lines: list[bytes]) -> dict | None:
    made_by = (_object(lines[0]) or {}).get("made_by") if lines else None
    return made_by if type(made_by) is dict else None


def outcome(rows: Sequence[dict]) -> str:
    """Exact matches and ends, for a terminal: a first look, which metrics.py follows up."""
    known = [row for row in rows if row["output"] is not None]
    lines = []
    for side in (side for side in SIDES if rows and side in rows[0]):
        text, reason, *_ = _keys_of(side)
        n_stopped = sum(row[reason] == "stop" for row in rows)
        matches = ""
        if known:
            n = sum(exact_match(row["output"], row[text]) for row in known)
            matches = f"exact match {n:,}/{len(known):,} ({n / len(known):.1%}); "
        told = (
            f"{SIDES[side]:<6}{matches}{n_stopped:,} of {len(rows):,} answers ended by themselves"
        )
        lines.append(told)
    return "\n".join(lines)


def _demo() -> None:
    pairs = (("Peru", "Lima"), ("Chad", "N'Djamena"), ("Cuba", "Havana"))
    records = [
        Record((Turn("user", f"The capital of {land}?"), Turn("assistant", city)), "demo", i, {})
        for i, (land, city) in enumerate(pairs, 1)
    ]
    with TemporaryDirectory() as folder:
        path = Path(folder, "responses.jsonl")

        def show(title: str) -> None:
            print(f"\n{title}")
            for file in (path, path.with_suffix(".journal")):
                text = file.read_text(encoding="utf-8") if file.exists() else ""
                print(f"  {file.name}:", *(f"    {line:.90}" for line in text.split("\n") if line),
                      sep="\n")  # fmt: skip

        def responses() -> Responses:
            responses = Responses(path, [row_of(r, list(SIDES)) for r in records], list(SIDES))
            responses.begin({"model": "demo", "temperature": 0.0})
            return responses

        first = responses()
        for i, side in ((1, "response"), (0, "response"), (2, "response"), (0, "base_response")):
            first.add(i, side, Answer("Lima", "stop", 2))
        with path.open("ab") as file:
            file.write(b'{"instruction": "The cap')
        show("Four answers make one whole row. The kill came while the next was written:")
        again = responses()
        print(f"\nBegun again: {again.n_whole} row, and {len(again.answers)} answers of others")
        for i in (1, 2):
            again.add(i, "base_response", Answer("What is the capital?", "length", 5))
        again.end()
        show("The rest is answered:")
    print(f"\n{outcome(again.rows)}")


if __name__ == "__main__":
    run(_demo)
