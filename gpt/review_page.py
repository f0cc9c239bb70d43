"""The review as a page: `report.html`, one file that opens from the disk and asks for no other.

    Review ─> as_html: gpt/page/review.html, filled with
                  the curve, the scores, the settings     as HTML (review_tables.py)
                  review.css; differences.js, answers.js, grades.js, review.js
                  the answers                             as JSON, which the scripts show in pieces

What a model writes is never taken for HTML: here all text is escaped, JSON has no `<` that could
end its element, and the scripts only set text. Should something slip through all the same, the
page's policy runs no script and takes no style but those whose hashes it names, and lets no request
leave.

    python -m gpt.review        # a page and a report.md of six answers
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from gpt.flags import FLAGS
from gpt.grades import GRADES
from gpt.review_data import Review
from gpt.review_tables import (
    agreement_of,
    escaped,
    heading_of,
    overview_of,
    settings_of,
    tiles_of,
)
from gpt.scores import AnswerScore

GENERATOR = "Talimat review"
_FOLDER = Path(__file__).parent / "page"
_SCRIPTS = ("differences.js", "answers.js", "grades.js", "review.js")
_ORDERS = (
    ("file", "as in the file"),
    ("f1", "F1, lowest first"),
    ("-f1", "F1, highest first"),
    ("gain", "gain on base, lowest first"),
    ("-gain", "gain on base, highest first"),
    ("words", "shortest answer first"),
    ("-words", "longest answer first"),
    ("grade", "grade, bad first"),
)


def as_html(review: Review) -> str:
    style = _read("review.css")
    script = "\n".join(_read(name) for name in _SCRIPTS)
    parts = {
        "policy": _policy(style, script),
        "generator": GENERATOR,
        "name": escaped(review.name),
        "about": escaped(review.about),
        "style": style,
        "jump": '<a class="jump" href="#answers">Answers</a>' if review.rows else "",
        "tiles": tiles_of(review),
        "overview": overview_of(review),
        "agreement": agreement_of(review.agreement) if review.agreement else "",
        "legend": _legend(review),
        "filters": _filters(review),
        "orders": _orders(review),
        "settings": settings_of(review),
        "footer": escaped(f"Written by scripts/review.py. Answers {review.name_of_set}."),
        "data": _for_script(_data(review)),
        "script": script,
    }
    # One pass: what is put in is not searched again.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _read("review.html"))


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    def named(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {named(script)}; style-src {named(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _for_script(value: object) -> str:
    """JSON that no parser of HTML takes for its own: </script> ends it, <!-- hides the rest."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


# ---- the answers, for the scripts -----------------------------------------------------------


def _data(review: Review) -> dict:
    names: list[dict[str, str]] = [{} for _ in review.rows]
    for key, groups in review.groups.items():
        for name, places in groups.items():
            for place in places:
                names[place][key] = name
    rows = []
    for i, (row, id) in enumerate(zip(review.rows, review.ids, strict=True)):
        line = {key: row.get(key) for key in ("instruction", "input", "output", "where")}
        line |= {"id": id, "groups": names[i]}
        line["tuned"] = _answer(row["response"], review.answers[i], review.flags(i))
        if row.get("base_response") is not None:
            flags = review.flags(i, base=True)
            line["base"] = _answer(row["base_response"], review.base_answers[i], flags)
        rows.append(line)
    given = {id: {"grade": of.grade, "note": of.note} for id, of in review.grades.items()}
    return {
        "set": review.name_of_set,
        "name": review.name,
        "rows": rows,
        "grades": given,
        "flags": FLAGS,
        "names": {key: heading_of(key)[1] for key in review.groups},
    }


def _answer(text: str, scored: AnswerScore | None, flags: Sequence[str]) -> dict:
    told = {"text": text, "flags": flags, "words": len(text.split())}
    if scored is not None:
        told["words"] = scored.n_words
        told["right"] = bool(scored.exact_match)
        told |= {name: round(getattr(scored, name), 3) for name in ("f1", "rougeL")}
    return told


def _legend(review: Review) -> str:
    if not review.rows:
        return "No test record has been answered yet."
    said = "In an answer, <mark class=extra>what the reference has not</mark>; in the reference, "
    said += "<mark class=missing>what the tuned answer has not</mark>."
    n = sum(row.get("output") is None for row in review.rows)
    return said + (f" {n:,} of the answers have no reference, and no score." if n else "")


def _filters(review: Review) -> str:
    of_groups = [
        (f"by-{key}", *heading_of(key), [(name, name) for name in groups])
        for key, groups in review.groups.items()
    ]
    found = {f for i in range(len(review.rows)) for f in review.flags(i)}
    flags = [("any", "any flag"), ("none", "no flag"), *((f, f) for f in FLAGS if f in found)]
    selects = [*of_groups, ("flag", "Flags", {}, flags)]
    if review.report:
        outcomes = [("right", "right (exact match)"), ("wrong", "not an exact match")]
        if review.has_base:
            outcomes += [("ahead", "nearer than base (F1)"), ("behind", "less near than base")]
        selects.append(("outcome", "Outcome", {}, outcomes))
    grades = [*((g, g) for g in GRADES), ("graded", "graded"), ("ungraded", "not graded")]
    selects.append(("grade", "Grade", {}, [*grades, ("noted", "with a note")]))
    return "".join(
        f'<label><span>{escaped(label)}</span><select id="{escaped(id)}">'
        f"{_options([('', 'all'), *((value, names.get(name, name)) for value, name in options)])}"
        "</select></label>"
        for id, label, names, options in selects
    )


def _orders(review: Review) -> str:
    def is_possible(order: str) -> bool:
        needs_base = order.endswith("gain")
        needs_score = needs_base or order.endswith("f1")
        return (review.report is not None or not needs_score) and (
            review.has_base or not needs_base
        )

    return _options((value, name) for value, name in _ORDERS if is_possible(value))


def _options(pairs: Iterable[tuple[str, str]]) -> str:
    return "".join(
        f'<option value="{escaped(value)}">{escaped(name)}</option>' for value, name in pairs
    )
