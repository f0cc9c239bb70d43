"""The review: what a run has learned, on a page that a person enjoys reading.

    run.json, metrics.jsonl, responses.jsonl ─> write_report ─> report.html, report.md

Made at the end of training, after the answers. A loss curve cannot say whether a model follows
instructions, and no score can either: that is seen by reading some of its answers beside what they
should have been, and beside what the model said before it was tuned. The page is for that. Its
grades come back as a file, and are then part of the report.

    review_data.py  what there is       review_page.py, review_tables.py, page/  report.html
    grades.py       a person's grades   review_text.py  report.md

    python -m gpt.review                                    # a report of six answers, and its text
    python scripts/review.py RUN                            # a run's report, anew
    python scripts/review.py RUN --grades grades.json       # with a person's grades in it
"""

import json
import tempfile
import textwrap
from pathlib import Path

from gpt import answers
from gpt.cli import run
from gpt.files import replace_file
from gpt.grades import KIND, ids_of
from gpt.review_data import Review, ReviewError, gather
from gpt.review_page import GENERATOR, as_html
from gpt.review_text import MARK, as_markdown

PAGE, TEXT = "report.html", "report.md"  # in a run's folder


def write_report(run_or_file: str | Path, grades: str | Path | None = None) -> Path:
    """Write report.html and report.md of a run's folder, or beside a bare file of answers.

    Returns the page's path. A file of answers that is not called responses.jsonl gives its name to
    the reports: x.jsonl makes x.report.html.
    """
    return write(gather(run_or_file, grades), run_or_file)


def write(review: Review, run_or_file: str | Path) -> Path:
    page, text = paths_of(run_or_file)
    for path, content, mark in (
        (text, as_markdown(review), MARK),
        (page, as_html(review), GENERATOR),
    ):
        _refuse_another_s(path, mark)
        try:  # half a character, which JSON can hold and UTF-8 cannot, stays as JSON writes it
            replace_file(path, content.encode("utf-8", "backslashreplace"))
        except OSError as error:
            raise ReviewError(f"{path}: not written: {error.strerror or error}") from None
    return page


def paths_of(run_or_file: str | Path) -> tuple[Path, Path]:
    path = Path(run_or_file)
    if path.is_dir():
        return path / PAGE, path / TEXT
    before = "" if path.name == answers.NAME else f"{path.stem}."
    return path.with_name(before + PAGE), path.with_name(before + TEXT)


def _refuse_another_s(path: Path, mark: str) -> None:
    """A report.md may be anybody's; only what was written here is replaced."""
    try:
        with path.open("rb") as file:
            is_ours = mark.encode() in file.read(2000)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ReviewError(f"{path}: not written: {error.strerror or error}") from None
    if not is_ours:
        raise ReviewError(f"{path}: is not a report of ours: move it away, and try again")


def _demo() -> None:
    asked = (
        ("Name the capital of Peru.", "Lima.", "Lima.", "Name the capital of Chad.", "good"),
        ("Name two cats.", "The lion, the tiger.", "A lion and a tiger.", "", "good"),
        ("What is HTML's sign for bold?", "It is <b>.", "It is <script>.", "It's bold.", "bad"),
    )
    keys = ("instruction", "output", "response", "base_response")
    rows = [dict(zip(keys, row, strict=False)) for row in asked]
    given = [{"id": id, "grade": row[-1]} for id, row in zip(ids_of(rows), asked, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        file, grades = Path(folder) / answers.NAME, Path(folder) / "grades.json"
        file.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
        grades.write_text(json.dumps({"kind": KIND, "grades": given}), encoding="utf-8")
        page = write_report(file, grades)
        print(f"{TEXT}:\n")
        print(textwrap.indent(page.with_name(TEXT).read_text(encoding="utf-8"), "  "))
        text = page.read_text(encoding="utf-8")
    n = text.count("<script>")
    print(f"{page.name}: the same with the curve, to search, to grade. <script> is in it {n} time:")
    print("the page's own. What the third answer says is text.")


if __name__ == "__main__":
    run(_demo)
