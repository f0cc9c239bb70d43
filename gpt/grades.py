"""A person's grades beside the metrics: what they come to, and how far the metrics agree.

    report.html ─> grades.json ─> read_grades ─> Agreement ─> review.py: report.html, report.md

The page in the browser keeps a grade (good, so-so or bad) and a note for each answer, and gives
them out as a file. A grade belongs to a question with its answer, not to a line of a file: `ids_of`
names them by what they say. So grades survive a file that is sorted anew or has grown, and an
answer that has changed since has none.

How far a metric can be trusted here is then seen, and not assumed: how often exact match says what
the person says, what each metric's mean is among the good and among the bad, and how well it puts
the answers in the person's order (Spearman's rank correlation).

    python -m gpt.grades        # eight graded answers, and two metrics: one agrees

Source: Spearman, "The Proof and Measurement of Association between Two Things" (1904).
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gpt.bootstrap import Score, mean_score
from gpt.cli import run
from gpt.errors import UserError
from gpt.metrics import LABELS, shown
from gpt.scores import SCORES, AnswerScore
from gpt.textfile import brief

GRADES = ("good", "so-so", "bad")
KIND = "talimat-grades"  # what a file of grades says of itself


class GradesError(UserError):
    """A file of grades that is none, or that is about other answers."""


class Grade(NamedTuple):
    grade: str | None  # None: a note alone
    note: str = ""


# ---- which answer is meant ------------------------------------------------------------------


def ids_of(rows: Iterable[dict]) -> list[str]:
    """A short name for each row, from what was asked and answered; no two are the same."""
    seen: Counter[str] = Counter()
    ids = []
    for row in rows:
        said = [row["instruction"], row.get("input") or "", row["response"]]
        id = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]
        seen[id] += 1
        ids.append(id if seen[id] == 1 else f"{id}-{seen[id]}")
    return ids


def name_of_set(ids: Sequence[str]) -> str:
    """Stands for this very set of answers: what a browser keeps their grades under."""
    return hashlib.sha256(" ".join(ids).encode()).hexdigest()[:16]


def read_grades(path: str | Path, ids: Sequence[str]) -> dict[str, Grade]:
    """The grades of a file that the page has given out, by the id of their answer."""
    path = Path(path)
    try:
        told = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise GradesError(f"{path}: not readable: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise GradesError(f"{path}: not JSON: {error}") from None
    if not isinstance(told, dict) or told.get("kind") != KIND:
        raise GradesError(f"{path}: no file of grades: export one from report.html")
    lines = told.get("grades")
    if not isinstance(lines, list):
        raise GradesError(f"{path}: grades must be a list, not {brief(lines)}")
    grades = dict(_grade_of(path, number, line) for number, line in enumerate(lines, 1))
    if grades and grades.keys().isdisjoint(ids):
        raise GradesError(
            f"{path}: none of its {len(grades):,} grades is of an answer that is here: "
            "give the grades of this run's own report.html"
        )
    return grades


def _grade_of(path: Path, number: int, line: object) -> tuple[str, Grade]:
    line = line if isinstance(line, dict) else {}
    id, grade, note = line.get("id"), line.get("grade"), line.get("note") or ""
    if type(id) is not str or grade not in (*GRADES, None) or type(note) is not str:
        raise GradesError(
            f"{path}: grade {number}: needs an id and a grade, which is {', '.join(GRADES)} or null"
        )
    return id, Grade(grade, note)


# ---- what the metrics say of them -----------------------------------------------------------


@dataclass(frozen=True)
class Agreement:
    counts: dict[str, int]  # of GRADES
    n_answers: int  # graded or not
    n_elsewhere: int  # grades of answers that are not here
    share_good: Score | None  # of the graded; None where nothing is
    n_clear: int  # graded good or bad, and scored
    exact_match: Score | None  # the share of these in which it says the same
    means: dict[str, dict[str, float]]  # by metric, by grade; a grade that nobody gave is absent
    rank: dict[str, float | None]  # by metric; None where all are alike

    @property
    def n(self) -> int:
        return sum(self.counts.values())

    def to_dict(self) -> dict:
        return {
            "graded": self.n,
            "answers": self.n_answers,
            "elsewhere": self.n_elsewhere,
            "counts": self.counts,
            "share_good": self.share_good and self.share_good._asdict(),
            "exact_match_agrees": self.exact_match and self.exact_match._asdict(),
            "exact_match_compared": self.n_clear,
            "mean_by_grade": self.means,
            "rank_correlation": self.rank,
        }


def agreement(
    grades: Mapping[str, Grade], ids: Sequence[str], answers: Sequence[AnswerScore | None]
) -> Agreement:
    """Grades beside the scores of the same answers; None for an answer that could not be scored."""
    given = [grades[id].grade if id in grades else None for id in ids]
    counts = Counter(grade for grade in given if grade)
    pairs = [(g, a) for g, a in zip(given, answers, strict=True) if g and a is not None]
    clear = [float((a.exact_match == 1) == (g == "good")) for g, a in pairs if g != "so-so"]
    ranks = [-GRADES.index(grade) for grade, _ in pairs]
    means, rank = {}, {}
    for metric in SCORES:
        values = [getattr(answer, metric) for _, answer in pairs]
        by_grade = {
            grade: [v for (g, _), v in zip(pairs, values, strict=True) if g == grade]
            for grade in GRADES
        }
        means[metric] = {g: sum(of) / len(of) for g, of in by_grade.items() if of}
        rank[metric] = rank_correlation(ranks, values)
    good = [float(grade == "good") for grade in given if grade]
    return Agreement(
        {grade: counts[grade] for grade in GRADES},
        len(ids),
        len(grades.keys() - set(ids)),
        mean_score(good) if good else None,
        len(clear),
        mean_score(clear) if clear else None,
        means,
        rank,
    )


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's: 1 where both have one order, -1 for the reverse; equal values share a rank."""
    one, other = _ranks(a), _ranks(b)
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    _, inverse, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse.reshape(-1)]


def agreement_lines(found: Agreement) -> list[str]:
    """For a terminal, at most 100 columns."""
    told = ", ".join(f"{n:,} {grade}" for grade, n in found.counts.items())
    lines = [f"graded: {found.n:,} of {found.n_answers:,} answers ({told})"]
    if found.n_elsewhere:
        lines.append(f"not counted: {found.n_elsewhere:,} grades of answers that are not here")
    if found.share_good:
        lines.append(f"good: {share(found.share_good)}")
    if found.exact_match:
        lines.append(
            f"exact match says what the grade says in {share(found.exact_match)} "
            f"of {found.n_clear:,} graded good or bad"
        )
    if any(found.means.values()):
        head = f"{'mean by grade':<14}" + "".join(f"{grade:>9}" for grade in GRADES)
        lines += ["", f"{head}   rank correlation with the grade"]
        for metric in SCORES:
            of = found.means[metric]
            cells = [shown(metric, of[grade]) if grade in of else "" for grade in GRADES]
            rank = found.rank[metric]
            line = f"{LABELS[metric]:<14}" + "".join(f"{cell:>9}" for cell in cells)
            lines.append(f"{line}   {'' if rank is None else f'{rank:+.2f}'}".rstrip())
    return lines


def share(score: Score) -> str:
    return f"{score.value:.1%} [{score.low * 100:.1f}, {score.high * 100:.1f}]"


def _demo() -> None:
    from gpt.scores import score_answer

    answers = [
        ("Lima.", "Lima.", "good"),
        ("Lima.", "It is Lima, of course.", "good"),
        ("It is Accra.", "It is Quito.", "bad"),
        ("Blue.", "Red.", "bad"),
        ("Four.", "Four", "good"),
        ("A cat and a dog.", "A cat.", "so-so"),
        ("Copper.", "", "bad"),
        ("The sun warms us.", "We are warmed by the sun.", "good"),
    ]
    rows = [
        {"instruction": f"{i}", "output": r, "response": a} for i, (r, a, _) in enumerate(answers)
    ]
    ids = ids_of(rows)
    grades = {id: Grade(grade) for id, (_, _, grade) in zip(ids, answers, strict=True)}
    for reference, answer, grade in answers:
        print(f"  {reference:<20}{answer!r:<30}{grade}")
    print()
    print("\n".join(agreement_lines(agreement(grades, ids, [score_answer(row) for row in rows]))))


if __name__ == "__main__":
    run(_demo)
