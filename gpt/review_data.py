"""What there is to review, gathered: a run's settings, its curve, its answers, their scores.

    run.json, metrics.jsonl, loss.svg ─┐
    responses.jsonl ─> scores, flags  ─┼─> Review ─> review_page.py: report.html
    grades.json                       ─┘         └─> review_text.py: report.md

Any of these may be missing. A run that has not answered yet has its curve, a bare file of answers
its scores, and answers with no reference (AlpacaEval's) are there to be read and graded.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gpt import answers, metrics_file, run_folder
from gpt.answers import groups_of, read_answers
from gpt.errors import UserError
from gpt.flags import flags_of
from gpt.grades import Agreement, Grade, agreement, ids_of, name_of_set, read_grades
from gpt.metrics import GROUP_BY, Report, score
from gpt.metrics_file import read_run
from gpt.scores import AnswerScore


class ReviewError(UserError):
    """Nothing to review, or a report that cannot be written."""


class Curve(NamedTuple):
    svg: bytes
    said: str  # the same in words, for who cannot see it


@dataclass(frozen=True)
class Review:
    name: str  # the run's, or the file's
    about: str  # model, data, batch and rate
    rows: Sequence[dict]
    ids: list[str]
    report: Report | None  # of the rows that have a reference; None where none has
    answers: list[AnswerScore | None]  # one for each row; None where it has no reference
    base_answers: list[AnswerScore | None]
    groups: dict[str, dict[str, list[int]]]  # by category, held_out, …: the places of their rows
    told: Mapping[str, Any] | None  # run.json
    curve: Curve | None
    grades: dict[str, Grade]
    agreement: Agreement | None  # None where nobody has graded

    @property
    def has_base(self) -> bool:
        return any(row.get("base_response") is not None for row in self.rows)

    @property
    def name_of_set(self) -> str:
        return name_of_set(self.ids)

    def flags(self, place: int, base: bool = False) -> tuple[str, ...]:
        """The flags of an answer, which do without a reference where there is none."""
        scored = (self.base_answers if base else self.answers)[place]
        if scored is not None:
            return scored.flags
        row = self.rows[place]
        answer = row["base_response" if base else "response"]
        reason = row.get("base_finish_reason" if base else "finish_reason")
        return flags_of(row["instruction"], row["input"], row.get("output") or "", answer, reason)


def gather(path: str | Path, grades: str | Path | None = None) -> Review:
    """What there is in a run's folder, or in a bare file of answers."""
    path = Path(path)
    is_run = path.is_dir()
    if not is_run and not path.is_file():
        raise ReviewError(f"{path}: no such run, and no such file of answers")
    file = path / answers.NAME
    has_answers = not is_run or (file.is_file() and file.stat().st_size > 0)
    if is_run and not has_answers and not (path / run_folder.RUN).is_file():
        raise ReviewError(
            f"{path}: neither {answers.NAME} nor {run_folder.RUN}: not a run's folder"
        )
    rows = read_answers(path) if has_answers else []
    ids = ids_of(rows)
    told = run_folder.read(path) if is_run and (path / run_folder.RUN).is_file() else None
    about, curve = _curve(path) if is_run else ("", None)
    with_reference = [i for i, row in enumerate(rows) if row.get("output") is not None]
    report = score([rows[i] for i in with_reference]) if with_reference else None
    scored, base_scored = [None] * len(rows), [None] * len(rows)
    for at, i in enumerate(with_reference):
        scored[i], base_scored[i] = report.answers[at], report.base_answers[at]
    given = read_grades(grades, ids) if grades is not None else {}
    groups = {key: groups_of(rows, key) for key in GROUP_BY}
    return Review(
        path.resolve().name if is_run else path.stem,
        about,
        rows,
        ids,
        report,
        scored,
        base_scored,
        {key: of for key, of in groups.items() if len(of) > 1},
        told,
        curve,
        given,
        agreement(given, ids, scored) if given else None,
    )


def _curve(folder: Path) -> tuple[str, Curve | None]:
    """What a run is about, and its picture: drawn now where there is none of these numbers."""
    metrics, picture = folder / metrics_file.NAME, folder / "loss.svg"
    if not metrics.is_file():
        return "", None
    run = read_run(folder)
    if not picture.is_file() or picture.stat().st_mtime < metrics.stat().st_mtime:
        from gpt.plots import draw_run  # and with it matplotlib, a second to import

        draw_run(folder)
    said = ", ".join(filter(None, run.final_numbers()))
    return run.about, Curve(picture.read_bytes(), said or "nothing measured yet")


def settings_lines(told: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """run.json for people: by heading, names with values. Lists of words are words."""
    parts: dict[str, list[tuple[str, str]]] = {}
    for key, value in told.items():
        if isinstance(value, dict):
            parts[key] = [(name, in_words(of)) for name, of in value.items()]
        elif value and isinstance(value, list) and all(isinstance(of, dict) for of in value):
            parts[key] = [(str(n), in_words(of)) for n, of in enumerate(value, 1)]
        else:
            parts.setdefault("run", []).append((key, in_words(value)))
    order = ("settings", "run", "data", "model", "versions")
    first = {key: parts[key] for key in order if parts.get(key)}
    return first | {key: of for key, of in parts.items() if of and key not in first}


def in_words(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(of, str) for of in value):
        return " ".join(value)
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {in_words(of)}" for key, of in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
