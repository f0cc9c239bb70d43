"""The review without a browser: `report.md`, for a terminal or a repository.

The scores and their groups as `metrics.as_text` has them, a few good answers and a few bad ones,
and one of each flag. The texts stand in fenced blocks, whose fence is longer than any in the text:
Markdown in an answer is shown, and not obeyed.
"""

import re
from collections.abc import Iterable

from gpt.flags import FLAGS
from gpt.grades import agreement_lines
from gpt.metrics import as_text
from gpt.review_data import Review, settings_lines

MARK = "<!-- written by scripts/review.py -->"
_SHOWN = 3  # good answers, and bad ones
_MOST = 1500  # characters of a text; the page has all


def as_markdown(review: Review) -> str:
    pieces = [MARK, f"# {_one_line(review.name)}", _one_line(review.about)]
    if review.curve:
        pieces.append(f"![The loss: {_one_line(review.curve.said)}](loss.svg)")
    if review.report:
        pieces += ["## Scores", _fenced(as_text(review.report))]
    elif review.rows:
        n = len(review.rows)
        pieces += ["## Answers", f"{n:,} answers, none with a reference: there are no scores."]
    else:
        pieces.append("No test record has been answered yet.")
    if review.agreement:
        pieces += ["## Grades", _fenced("\n".join(agreement_lines(review.agreement)))]
    if notes := [_note(review, place) for place in range(len(review.rows))]:
        noted = [note for note in notes if note]
        pieces += ["## Notes", "\n".join(noted)] if noted else []
    for title, places in _examples(review):
        pieces += [f"## {title}", *(_example(review, place) for place in places)]
    if review.told:
        lines = [
            f"{key + '.' + name if key != 'run' else name}: {value}"
            for key, pairs in settings_lines(review.told).items()
            for name, value in pairs
        ]
        pieces += ["## Settings", _fenced("\n".join(lines))]
    return "\n\n".join(piece for piece in pieces if piece) + "\n"


def _note(review: Review, place: int) -> str | None:
    """What a person wrote of an answer, graded or not."""
    given = review.grades.get(review.ids[place])
    if given is None or not given.note.strip():
        return None
    graded = f" graded {given.grade}" if given.grade else ""
    asked = review.rows[place]["instruction"]
    asked = asked if len(asked) <= 80 else f"{asked[:79]}…"
    return f"- **{place + 1}**{graded}: {_one_line(given.note)} ({_one_line(asked)})"


def _examples(review: Review) -> Iterable[tuple[str, list[int]]]:
    """A few to look at: graded ones first, where a person has said what is good."""
    places = range(len(review.rows))
    grades = {i: review.grades[id].grade for i, id in enumerate(review.ids) if id in review.grades}

    def chosen(grade: str, sign: int) -> list[int]:
        scored = [i for i in places if review.answers[i] is not None]
        by_metric = sorted(scored, key=lambda i: (sign * review.answers[i].rougeL, i))
        first = [i for i in places if grades.get(i) == grade]
        right = [i for i in by_metric if review.answers[i].exact_match == (grade == "good")]
        return list(dict.fromkeys(first + [i for i in right if i not in grades]))[:_SHOWN]

    good, bad = chosen("good", -1), chosen("bad", 1)
    flagged = [next((i for i in places if flag in review.flags(i)), None) for flag in FLAGS]
    for title, of in (("Good answers", good), ("Bad answers", bad)):
        if of:
            yield title, of
    rest = dict.fromkeys(i for i in flagged if i is not None and i not in (*good, *bad))
    if rest:
        yield "Flagged answers", list(rest)


def _example(review: Review, place: int) -> str:
    row, scored = review.rows[place], review.answers[place]
    head = [f"**{place + 1}**", *(f"`{flag}`" for flag in review.flags(place))]
    if scored is not None:
        head.append(f"F1 {scored.f1:.2f}, ROUGE-L {scored.rougeL:.2f}")
    given = review.grades.get(review.ids[place])
    if given and given.grade:
        head.append(f"graded {given.grade}")
    texts = [
        ("instruction", row["instruction"]),
        ("input", row["input"]),
        ("reference", row.get("output")),
        ("tuned", row["response"]),
        ("base", row.get("base_response")),
    ]
    body = [
        f"{name + ':':<13}{_shortened(text) if text.strip() else '(no text)'}"
        for name, text in texts
        if text or (name != "input" and text is not None)
    ]
    return f"{' · '.join(head)}\n\n" + _fenced("\n".join(body))


def _shortened(text: str) -> str:
    """On lines of its own where it has several; without what commands a terminal."""
    text = text if len(text) <= _MOST else f"{text[:_MOST]}…"
    text = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
    return "\n             ".join(text.split("\n"))


def _fenced(text: str) -> str:
    fence = "`" * (1 + max([2, *(len(run) for run in re.findall("`+", text))]))
    return f"{fence}text\n{text}\n{fence}"


def _one_line(text: str) -> str:
    """A name in running Markdown: its signs are signs, and it is one line."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return re.sub(r"([\\`*_\[\]<>#|!&])", r"\\\1", shown)
