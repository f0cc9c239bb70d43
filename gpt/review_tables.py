"""The scores as HTML: tiles, tables with their intervals drawn, a person's grades, the settings.

    Review ─> tiles_of, overview_of, agreement_of, settings_of ─> review_page.py

All of it is made here and needs no script; what is a button shows the answers that it counts.
"""

import base64
import html
from collections.abc import Sequence

from gpt.bootstrap import Score
from gpt.flags import FLAGS
from gpt.grades import GRADES, Agreement, share
from gpt.metrics import (
    LABELS,
    about_likelihoods,
    shown,
    shown_chance,
    shown_difference,
    shown_score,
)
from gpt.review_data import Review, settings_lines
from gpt.scores import LIKELIHOODS, SCORES, Part

_HEADINGS = {
    "held_out": ("Held out", {"yes": "held out", "no": "the others"}),
    "closed": ("Closed", {"yes": "one right answer", "no": "open"}),
}


# Columns that a phone may do without.
_NARROWED = {"P(better)": "wider", "base": "base", "95% interval": "range", "interval": "range"}
_UNFOLDED = 10  # groups that a table shows at first
_ABOUT_WORDS = (
    "Exact match and F1 pass over case, punctuation and English articles; ROUGE counts the words "
    "of any language."
)


def escaped(text: object) -> str:
    return html.escape(str(text))


def heading_of(key: str) -> tuple[str, dict[str, str]]:
    """What a group is called on the page, and its values."""
    return _HEADINGS.get(key, (key.replace("_", " ").capitalize(), {}))


def tiles_of(review: Review) -> str:
    """The few numbers that a person asks for first."""
    tiles = []
    if review.report:
        tuned, base = review.report.overall.tuned, review.report.overall.base
        for name in ("exact_match", "rougeL"):
            beside = f"base {shown(name, base.scores[name].value)}" if base else ""
            tiles.append((LABELS[name], shown(name, tuned.scores[name].value), beside))
        if tuned.stopped:
            beside = f"base {shown('stopped', base.stopped.value)}" if base and base.stopped else ""
            tiles.append((LABELS["stopped"], shown("stopped", tuned.stopped.value), beside))
        if tuned.perplexity:
            beside = f"base {shown('perplexity', base.perplexity.value)}" if (
                base and base.perplexity
            ) else ""  # fmt: skip
            tiles.append(("perplexity", shown("perplexity", tuned.perplexity.value), beside))
    if review.rows:
        n = sum(bool(review.flags(i)) for i in range(len(review.rows)))
        tiles.append(("answers", f"{len(review.rows):,}", f"{n:,} with a flag"))
    if review.agreement and review.agreement.share_good:
        good = review.agreement.share_good
        tiles.append(("graded good", f"{good.value:.0%}", f"of {review.agreement.n:,} graded"))
    cells = "".join(
        f"<div><dt>{escaped(name)}</dt>"
        f"<dd>{escaped(value)}<small>{escaped(beside)}</small></dd></div>"
        for name, value, beside in tiles
    )
    return f'<dl class="tiles">{cells}</dl>' if tiles else ""


def overview_of(review: Review) -> str:
    pieces = []
    if review.curve:
        data = base64.b64encode(review.curve.svg).decode()
        said = escaped(f"The loss: {review.curve.said}")
        image = f'<img class="curve" src="data:image/svg+xml;base64,{data}" alt="{said}">'
        pieces.append(f"<section><h2>Loss</h2>{image}</section>")
    if review.report:
        whole = review.report.overall
        pieces.append(f"<section><h2>Scores</h2>{_scores(whole)}{_flag_counts(whole)}</section>")
        pieces += (
            f"<section{_class('across' if whole.base else '')}>"
            f"<h2>{escaped(heading_of(key)[0])}</h2>{_group(key, parts)}</section>"
            for key, parts in review.report.groups.items()
        )
    return f'<div class="overview">{"".join(pieces)}</div>' if pieces else ""


def _scores(part: Part) -> str:
    heads = ["", "tuned", "95% interval"]
    heads += ["base", "gain", "P(better)"] if part.base else []
    rows = []
    for name in SCORES:
        tuned = part.tuned.scores[name]
        row = [_th(LABELS[name]), _td(shown(name, tuned.value))]
        row.append(_range(name, tuned, part.base.scores[name] if part.base else None))
        if part.base:
            gain = part.gain[name]
            row.append(_td(shown(name, part.base.scores[name].value), "base"))
            row.append(_td(shown_difference(name, gain.difference)))
            row.append(_td(shown_chance(gain.probability_better), "wider"))
        rows.append(row)
    if part.tuned.stopped:
        base = part.base.stopped if part.base else None
        row = [_th(LABELS["stopped"]), _td(shown("stopped", part.tuned.stopped.value))]
        row.append(_range("stopped", part.tuned.stopped, base))
        row.append(_td(shown("stopped", base.value) if base else "", "base"))
        rows.append([*row, _td(""), _td("", "wider")] if part.base else row[:-1])
    if part.tuned.likelihood:
        rows += [_likelihood_row(name, part) for name in LIKELIHOODS]
    words = f"Words in an answer: {part.tuned.mean_words:.1f}"
    words += f", of base {part.base.mean_words:.1f}" if part.base else ""
    words += f", in a reference {part.mean_reference_words:.1f}."
    note = "The intervals are where other questions like these would have put the mean."
    key = " Blue: tuned. Grey: base." if part.base else ""
    more = escaped(f"{_ABOUT_WORDS} {about_likelihoods(part)}")
    return f'{_table(heads, rows)}<p class="note">{escaped(words)} {note}{key} {more}</p>'


def _likelihood_row(name: str, part: Part) -> list[str]:
    """Numbers without an upper end: their interval is written, and not drawn."""
    tuned, base = (side and getattr(side, name) for side in (part.tuned, part.base))
    row = [_th(LABELS[name]), _td(shown(name, tuned.value))]
    ends = [shown(name, end) for end in (tuned.low, tuned.high)]
    row.append(_td(f"{ends[0]} to {ends[1]}" if ends[0] != ends[1] else "", "range"))
    if part.base:
        gain = part.gain.get(name)
        row.append(_td(shown(name, base.value) if base else "", "base"))
        row.append(_td(shown_difference(name, gain.difference) if gain else ""))
        row.append(_td(shown_chance(gain.probability_better) if gain else "", "wider"))
    return row


def _flag_counts(part: Part) -> str:
    """Buttons that show the answers they count."""
    buttons = [
        f'<button type="button" class="chip flag" data-flag="{flag}" '
        f'title="{escaped(FLAGS[flag])}">{flag} <b>{n:,}</b></button>'
        for flag, n in part.tuned.flags.items()
        if n
    ]
    return f'<p class="chips">{"".join(buttons)}</p>' if buttons else ""


def _group(key: str, parts: Sequence[Part]) -> str:
    names = heading_of(key)[1]
    has_base = any(part.base for part in parts)
    heads = ["", "n", "exact match", "interval", *(["base"] if has_base else [])]
    # (a hyphen at which no line breaks)
    heads += ["ROUGE\u2011L", "interval", *(["base"] if has_base else [])]
    rows = []
    for part in parts:
        button = (
            f'<button type="button" class="link" data-group="{escaped(key)}" '
            f'data-value="{escaped(part.name)}">{escaped(names.get(part.name, part.name))}</button>'
        )
        row = [f'<th scope="row">{button}</th>', _td(f"{part.n:,}")]
        for name in ("exact_match", "rougeL"):
            base = part.base.scores[name] if part.base else None
            row += [_td(shown(name, part.tuned.scores[name].value))]
            row += [_range(name, part.tuned.scores[name], base)]
            row += [_td(shown(name, base.value) if base else "", "base")] if has_base else []
        rows.append(row)
    return _table(heads, rows, "by")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], name: str = "scores") -> str:
    head = "".join(
        f'<th scope="col"{_class(_NARROWED.get(head, ""))}>{escaped(head)}</th>'
        if head
        else "<td></td>"
        for head in heads
    )
    lines = [f"<tr>{''.join(row)}</tr>" for row in rows]
    body, more = f"<tbody>{''.join(lines)}</tbody>", ""
    if name == "by" and len(lines) > _UNFOLDED + 2:  # two more lines need no button
        body = f"<tbody>{''.join(lines[:_UNFOLDED])}</tbody>"
        body += f'<tbody class="rest">{"".join(lines[_UNFOLDED:])}</tbody>'
        more = f'<button type="button" class="more quiet" hidden>Show all {len(lines)}</button>'
    return (
        f'<div class="wide" tabindex="0"><table class="{name}"><thead><tr>{head}</tr></thead>'
        f"{body}</table></div>{more}"
    )


def _th(text: str) -> str:
    return f'<th scope="row">{escaped(text)}</th>'


def _td(text: str, name: str = "") -> str:
    return f"<td{_class(name)}>{escaped(text)}</td>"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _range(name: str, tuned: Score, base: Score | None) -> str:
    """A cell with both intervals on one scale, drawn; its title says the numbers."""
    full = 1 if name == "bleu" else 100  # BLEU is out of 100 itself

    def bar(kind: str, score: Score, y: int) -> str:
        low, width = score.low * full, max(1.0, (score.high - score.low) * full)
        return (
            f'<rect class="{kind}" x="{low:.1f}" y="{y}" width="{width:.1f}" height="4"/>'
            f'<rect class="{kind} at" x="{score.value * full - 0.75:.1f}" y="{y - 2}" '
            'width="1.5" height="8"/>'
        )

    said = f"tuned {shown_score(name, tuned)}" + (
        f"; base {shown_score(name, base)}" if base else ""
    )
    bars = (bar("base", base, 13) if base else "") + bar("tuned", tuned, 4)
    return (
        f'<td class="range"><svg viewBox="0 0 100 22" preserveAspectRatio="none" role="img">'
        f'<title>{escaped(said)}</title><rect class="scale" x="0" y="10" width="100" height="1"/>'
        f"{bars}</svg></td>"
    )


def agreement_of(found: Agreement) -> str:
    told = ", ".join(f"{n:,} {grade}" for grade, n in found.counts.items())
    lines = [f"{found.n:,} of {found.n_answers:,} answers graded: {told}."]
    if found.share_good:
        lines.append(f"Good: {share(found.share_good)}.")
    if found.exact_match:
        lines.append(
            f"Exact match says what the grade says in {share(found.exact_match)} of the "
            f"{found.n_clear:,} graded good or bad."
        )
    if found.n_elsewhere:
        lines.append(f"{found.n_elsewhere:,} grades of answers that are not here: not counted.")
    rows = []
    for name in SCORES:
        of, rank = found.means[name], found.rank[name]
        cells = [_td(shown(name, of[grade]) if grade in of else "") for grade in GRADES]
        rows.append([_th(LABELS[name]), *cells, _td("" if rank is None else f"{rank:+.2f}")])
    table = _table(["mean by grade", *GRADES, "rank correlation"], rows)
    text = f"<h2>Grades and metrics</h2><p>{escaped(' '.join(lines))}</p>"
    return f'<section id="agreement">{text}{table}</section>'


def settings_of(review: Review) -> str:
    if review.told is None:
        return ""
    parts = "".join(
        f"<h3>{escaped(heading.capitalize())}</h3><dl>"
        + "".join(
            f"<div{_class('long' if len(v) > 60 else '')}>"
            f"<dt>{escaped(k)}</dt><dd>{escaped(v)}</dd></div>"
            for k, v in sorted(pairs, key=lambda pair: len(pair[1]) > 60)
        )
        + "</dl>"
        for heading, pairs in settings_lines(review.told).items()
    )
    return (
        f'<details class="settings"><summary>Settings and circumstances</summary>{parts}</details>'
    )
