"""Answers, as they lie on the disk: `responses.jsonl` and what is like it, to rows.

    respond.py ─> responses.jsonl ─> read_answers ─> metrics.py, judge.py, review.py

A row is a dict with `instruction`, `input` (or ""), `output` (the reference), `response` (the
answer), and what else its line holds: `base_response`, `finish_reason`, `category`. Two kinds of
other people's files are read, too: the book's, whose answers are in `model_response`, and
AlpacaEval's, in which `output` is a model's answer and there is no reference.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from gpt.errors import UserError
from gpt.reading import read_objects
from gpt.textfile import Problem, brief

NAME = "responses.jsonl"  # in a run's folder
_TEXTS = ("instruction", "input", "output", "response", "base_response")
# What may be absent, and is not anything.
_FACTS = dict.fromkeys(("finish_reason", "base_finish_reason", "where"), ((str,), "a text"))
_FACTS |= dict.fromkeys(
    ("n_tokens", "n_base_tokens", "n_output_tokens", "n_base_output_tokens"),
    ((int,), "a whole number"),
)
_FACTS |= dict.fromkeys(("output_nats", "base_output_nats"), ((int, float), "a number from 0 up"))
_SHOWN = 10  # faults of a file that are listed
_MOST_GROUPS = 50  # of one key; the rarer ones are one group


class AnswersError(UserError):
    """A file of answers that cannot be worked with, or that is not one."""


def read_answers(path: str | Path) -> list[dict]:
    """The rows of a file, or of a run's folder.

    A last line that breaks off is left out: it is being written, or whoever wrote it was killed.
    """
    path = Path(path)
    if path.is_dir():
        path = path / NAME
    rows, faults = [], []
    for line, value in read_objects(path):
        if type(value) is Problem:
            faults.append((line, value.message))
        elif type(value) is not dict:
            faults.append((line, "an answer is an object, with instruction and response"))
        else:
            row = {"where": f"{path}:{line}"} | _row_of(value)
            wrong = _what_is_wrong_with(row)
            faults += [(line, wrong)] if wrong else []
            rows.append(row)
    if faults and rows and _breaks_off(path) and faults[-1][0] == _n_lines(path):
        faults.pop()
    if faults:
        lines = [f"{path}:{line or ''}{': ' if line else ' '}{what}" for line, what in faults]
        more = [f"… and {len(lines) - _SHOWN:,} more"] if len(lines) > _SHOWN else []
        raise AnswersError("\n  ".join([*lines[:_SHOWN], *more]))
    return rows


def beside(rows: Iterable[dict], others: Iterable[dict]) -> list[dict]:
    """The questions that both have answered: rows, with the other's answer as `base_response`.

    A question asked twice is answered twice: the first answers belong together, and the second.
    """
    answers = defaultdict(list)
    for other in others:
        answers[_question(other)].append(other)
    both = []
    for row in rows:
        if waiting := answers[_question(row)]:
            other = waiting.pop(0)
            answer = {
                "base_response": other["response"],
                "base_finish_reason": other.get("finish_reason"),
                "n_base_tokens": other.get("n_tokens"),
                "base_output_nats": other.get("output_nats"),
                "n_base_output_tokens": other.get("n_output_tokens"),
            }
            both.append(row | answer)
    if not both:
        raise AnswersError("the two files have no question in common: are they of one test set?")
    return both


def groups_of(rows: Sequence[dict], key: str) -> dict[str, list[int]]:
    """The places of the rows by what they hold under `key`, the largest group first."""
    names = [_name_of(row.get(key)) for row in rows]
    groups = {name: [] for name, _ in Counter(names).most_common(_MOST_GROUPS)}
    for place, name in enumerate(names):
        groups.setdefault(name if name in groups else "(others)", []).append(place)
    return groups


def _name_of(value: object) -> str:
    if value is None or value == "":
        return "(none)"
    return {True: "yes", False: "no"}[value] if type(value) is bool else str(value)


def alpaca_outputs(rows: Iterable[dict], generator: str, base: bool = False) -> list[dict]:
    """The list that `alpaca_eval --model_outputs` reads; with base=True, --reference_outputs."""
    return [
        {
            "dataset": row.get("dataset") or "talimat",
            "instruction": "\n\n".join(filter(None, (row["instruction"], row.get("input")))),
            "output": row["base_response" if base else "response"],
            "generator": generator,
        }
        for row in rows
    ]


def _question(row: dict) -> tuple[str, str]:
    return row["instruction"].strip(), (row.get("input") or "").strip()


def _row_of(value: dict) -> dict:
    row = dict(value)
    if "response" not in row:
        if "model_response" in row:
            row["response"] = row.pop("model_response")
        elif "generator" in row and "output" in row:
            row["response"] = row.pop("output")
    row["input"] = row.get("input") or ""
    return row


def _what_is_wrong_with(row: dict) -> str | None:
    for key in ("instruction", "response"):
        if key not in row:
            return f"there is no {key}: is this a file of answers, as scripts/respond.py writes it?"
    for key in _TEXTS:
        is_absent = key in ("output", "base_response") and row.get(key) is None
        if not is_absent and type(row[key]) is not str:
            return f"{key} must be a text, not {brief(row[key])}"
    for key, (kinds, wanted) in _FACTS.items():
        value = row.get(key)
        if value is not None and (type(value) not in kinds or not 0 <= _size(value) < math.inf):
            return f"{key} must be {wanted}, not {brief(value)}"
    return None


def _size(value: object) -> float:
    return value if isinstance(value, int | float) else 0


def _breaks_off(path: Path) -> bool:
    return path.suffix.lower() == ".jsonl" and not path.read_bytes().endswith((b"\n", b"\r"))


def _n_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") + 1
