"""Examples as the training sees them, token by token: to look at before a run, not after it.

    Examples ─> cells (text, id, part) ─> a terminal, or a page of HTML
            └─> a summary of the whole set: lengths, and how much of it is in the loss

Most runs that go wrong go wrong here: a mask that is off by a token, an end that is missing, a
prompt that is not the one in use. None of that shows in a loss curve, and all of it shows at once
when one example is printed with the part of each token. Some are shown as the rows of one batch,
with the end token that `collate` appends and with the padding up to the longest.

    python -m gpt.inspecting                              # two examples of a tiny vocabulary
    python scripts/inspect_data.py data/instructions.json --n 3
"""

import html
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gpt.cli import run
from gpt.download import HUB, find_model
from gpt.encoding import encode_all, listed
from gpt.errors import UserError
from gpt.hub import cached
from gpt.records import Record, Turn
from gpt.segments import ANSWER, END, PADDING, PARTS, Examples, Overlong
from gpt.template import BUILT_IN, Template
from gpt.tokenizer import Tokenizer, learn_merges, read_vocabulary, tiny_vocabulary


class NoVocabulary(UserError):
    """No model was named, and none is at hand."""


def vocabulary_folder(model: str | None) -> Path:
    """Whose vocabulary: the model named, else the one shipped, or gpt2 if it is here."""
    shipped = Path(__file__).parents[1] / "checkpoints" / "mini"
    if model is not None:  # a vocabulary alone will do: nothing is computed with weights here
        return Path(model) if read_vocabulary(model) else find_model(model)
    if read_vocabulary(shipped):
        return shipped
    if fetched := cached(HUB["gpt2"]):  # half a gigabyte of weights is not fetched for a look
        return fetched
    raise NoVocabulary(
        "no vocabulary to tokenize with: give --model with a model's folder or name, or fetch one "
        "first: python scripts/download.py gpt2"
    )


# ---- what is shown --------------------------------------------------------------------------


class Cell(NamedTuple):
    """A token; or, of padding, as many of them as there are."""

    text: str
    id: int
    part: int
    n: int = 1

    @property
    def in_loss(self) -> bool:
        return self.part in (ANSWER, END)


class Row(NamedTuple):
    """One example in its batch."""

    where: str
    cells: list[Cell]

    def counts(self) -> dict[str, int]:
        """How many tokens of each part, in the order of PARTS."""
        counts = Counter()
        for cell in self.cells:
            counts[cell.part] += cell.n
        return {name: counts[part] for part, name in enumerate(PARTS) if counts[part]}

    def totals(self) -> str:
        counts = self.counts()
        n = sum(counts.values()) - counts.get("padding", 0)
        n_loss = sum(cell.in_loss for cell in self.cells)
        parts = ", ".join(f"{name} {count}" for name, count in counts.items())
        return f"{n} tokens, {n_loss} in the loss ({n_loss / n:.0%}): {parts}"


_SEEN_AS = {" ": "·", "\n": "↵", "\t": "⇥", "\r": "␍"}


def visible(data: bytes) -> str:
    """A token's bytes in characters that all show, and of which none commands a terminal."""
    text = data.decode(errors="backslashreplace")
    return "".join(
        _SEEN_AS.get(c) or (c if c.isprintable() else c.encode("unicode-escape").decode())
        for c in text
    )


def batch_rows(
    examples: Examples, shown: Sequence[int], records: Sequence[Record], tokenizer: Tokenizer
) -> list[Row]:
    """The examples as rows of one batch: each with its end, and padded to the longest."""
    width = max((int(examples.lengths[i]) for i in shown), default=0)
    end = visible(tokenizer.token_bytes(tokenizer.end_id))
    rows = []
    for i in shown:
        ids, parts = (array.tolist() for array in examples[i])
        cells = [
            Cell(visible(tokenizer.token_bytes(id)), id, part)
            for id, part in zip(ids, parts, strict=True)
        ]
        cells.append(Cell(end, tokenizer.end_id, END))
        if n_padding := width - len(ids):
            cells.append(Cell(end, tokenizer.end_id, PADDING, n_padding))
        rows.append(Row(records[examples.records[i]].where, cells))
    return rows


def lines_of(cells: Iterable[Cell]) -> Iterator[list[Cell]]:
    """As the text has its lines: they end after the last of its line breaks in a row."""
    line: list[Cell] = []
    for cell in cells:
        if line and line[-1].text.endswith("↵") and not cell.text.startswith("↵"):
            yield line
            line = []
        line.append(cell)
    yield line


@dataclass
class Summary:
    """The whole set. Lengths are those of prompt and answer; each example has an end token more."""

    lengths: np.ndarray
    n_supervised: int  # tokens of answers, and ends
    overlong: list[Overlong]
    max_length: int

    @classmethod
    def of(cls, examples: Examples, max_length: int) -> "Summary":
        n_supervised = int(examples.supervised.sum()) + len(examples)
        return cls(examples.lengths, n_supervised, examples.dropped, max_length)

    def lines(self) -> list[str]:
        n, lines = len(self.lengths), []
        if n:
            n_tokens = int(self.lengths.sum()) + n
            lines = [
                f"{n:,} example{'s' * (n != 1)}; tokens of prompt and answer: "
                f"mean {self.lengths.mean():.1f}, median {np.median(self.lengths):.0f}, "
                f"max {self.lengths.max():,}",
                f"{n_tokens:,} tokens with the ends, {self.n_supervised:,} of them in the loss "
                f"({self.n_supervised / n_tokens:.1%})",
            ]
        if self.overlong:
            share = f"{len(self.overlong):,} of {n + len(self.overlong):,} records"
            lines.append(f"not among them, as too long for {self.max_length:,} tokens: {share}")
        return lines + listed(self.overlong, self.max_length)

    def histogram(self) -> list[tuple[str, int]]:
        """Ranges of lengths, of a round width, and how many examples are in each."""
        if not len(self.lengths):
            return []
        shortest, longest = int(self.lengths.min()), int(self.lengths.max())
        widths = (step * 10**power for power in range(12) for step in (1, 2, 5))
        width = next(width for width in widths if longest - shortest < 16 * width)
        first = shortest // width
        counts = np.bincount(self.lengths // width - first).tolist()
        return [(f"{i * width}-{(i + 1) * width - 1}", n) for i, n in enumerate(counts, first)]


# ---- in a terminal --------------------------------------------------------------------------

# Capitals are in the loss, so that nothing is said by a colour alone.
_LETTERS = dict(zip(PARTS, "psinhAE.", strict=True))
_ANSI = dict(zip(PARTS, ("90", "35", "34", "36", "33", "1;32", "1;31", "90"), strict=True))
_SIGNS = "· is a space, ↵ a line break, ⇥ a tab"


def as_text(title: str, rows: list[Row], summary: Summary, color: bool, width: int) -> str:
    """For a terminal: tokens, under each its id, and under that the letter of its part."""
    out = [title, _legend(color), ""]
    for row in rows:
        out += [f"{row.where}: {row.totals()}", ""]
        for line in lines_of(row.cells):
            for fitting in _wrapped(line, width - 2):
                out += [*_three_lines(fitting, color), ""]
    out += summary.lines()
    bars = summary.histogram()
    most = max((n for _, n in bars), default=0)
    return "\n".join([*out, "", *(f"{span:>11} {n:>7,} {'█' * _bar(n, most)}" for span, n in bars)])


def _bar(n: int, most: int) -> int:
    return -(-40 * n // most)  # rounded up: one example can be seen


def _legend(color: bool) -> str:
    names = (_painted(f"{_LETTERS[name]} {name}", name, color) for name in PARTS)
    return f"{'  '.join(names)}\ncapitals: in the loss; {_SIGNS}"


def _painted(text: str, part: str, color: bool) -> str:
    return f"\x1b[{_ANSI[part]}m{text}\x1b[0m" if color else text


def _columns(text: str) -> int:
    """How wide a terminal shows it: East Asian characters take two columns, accents none."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def _sizes(cell: Cell) -> tuple[str, str, int]:
    text = f"{cell.text} x{cell.n}" if cell.n > 1 else cell.text
    return text, str(cell.id), max(_columns(text), len(str(cell.id)))


def _wrapped(cells: list[Cell], width: int) -> Iterator[list[Cell]]:
    line, used = [], 0
    for cell in cells:
        needed = _sizes(cell)[2] + 1
        if line and used + needed > width:
            yield line
            line, used = [], 0
        line.append(cell)
        used += needed
    yield line


def _three_lines(cells: list[Cell], color: bool) -> list[str]:
    lines = ["", "", ""]
    for cell in cells:
        text, id, size = _sizes(cell)
        name = PARTS[cell.part]
        for i, shown in enumerate((text, id, _LETTERS[name])):
            lines[i] += " " + _painted(shown, name, color) + " " * (size - _columns(shown))
    return [" " + line.rstrip() for line in lines]


# ---- as a page ------------------------------------------------------------------------------

_HUES = dict(zip(PARTS, (None, 300, 215, 190, 45, 140, 0, None), strict=True))


def _colors(lightness: int, background: int) -> str:
    return "".join(
        f"--{name}:hsl({hue or 0} {0 if hue is None else 70}% {lightness}%);"
        f"--{name}-bg:hsl({hue or 0} {0 if hue is None else 60}% {background}%);"
        for name, hue in _HUES.items()
    )


_STYLE = f"""
:root {{ color-scheme: light dark; {_colors(26, 93)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_colors(80, 17)} }} }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto;
  padding: 0 1rem }}
h2 {{ font-size: 1rem; margin: 2rem 0 .5rem; overflow-wrap: anywhere }}
.line {{ display: flex; flex-wrap: wrap; gap: 3px; margin-bottom: 6px }}
.t {{ display: inline-flex; flex-direction: column; padding: 1px 4px; border-radius: 3px;
  border-bottom: 3px solid transparent; font-family: ui-monospace, monospace; white-space: pre }}
.t small {{ font-size: .68em; opacity: .75 }}
.loss {{ border-bottom-color: currentColor; font-weight: 600 }}
table {{ border-spacing: .6rem 1px; font-variant-numeric: tabular-nums }}
td {{ text-align: right }} td:last-child {{ width: 30rem; text-align: left }}
.bar {{ display: block; height: .8em; background: var(--instruction) }}
""" + "".join(
    f".{name} {{ color: var(--{name}); background: var(--{name}-bg) }}\n" for name in PARTS
)


def as_html(title: str, rows: list[Row], summary: Summary) -> str:
    """The same as a page that needs no other file, and asks for none."""
    legend = "".join(_span(Cell(name, -1, part)) for part, name in enumerate(PARTS))
    body = [f"<h1>Examples</h1><p>{html.escape(title)}</p><p class=line>{legend}</p>"]
    body.append(f"<p>Underlined: in the loss. {html.escape(_SIGNS)}. Below each token, its id.</p>")
    for row in rows:
        body.append(f"<h2>{html.escape(row.where)}</h2><p>{row.totals()}</p>")
        body += (
            f"<div class=line>{''.join(map(_span, line))}</div>" for line in lines_of(row.cells)
        )
    body.append("<h2>The whole set</h2>")
    body += (f"<p>{html.escape(line)}</p>" for line in summary.lines())
    bars = summary.histogram()
    most = max((n for _, n in bars), default=0)
    table = (
        f'<tr><td>{span}<td>{n:,}<td><i class=bar style="width:{100 * n / most:.1f}%"></i>'
        for span, n in bars
    )
    body.append(f"<table>{''.join(table)}</table>")
    return (
        '<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width='
        f'device-width"><title>Examples</title><style>{_STYLE}</style>\n' + "\n".join(body) + "\n"
    )


def _span(cell: Cell) -> str:
    name = PARTS[cell.part]
    text = html.escape(f"{cell.text} ×{cell.n}" if cell.n > 1 else cell.text)
    id = f"<small>{cell.id}</small>" if cell.id >= 0 else ""
    loss = " loss" if cell.in_loss else ""
    said = f"{name}, {'in the loss' if loss else 'not in the loss'}"
    return f'<span class="t {name}{loss}" title="{said}">{text}{id}</span>'


def title_of(template: Template, max_length: int) -> str:
    return f"template {template.name} ({template.hash}), at most {max_length:,} tokens"


def _demo() -> None:
    tokenizer = Tokenizer(tiny_vocabulary(learn_merges("the capital of the country the", 20)))
    records = [
        Record(
            (Turn("user", "Name the capital.", input), Turn("assistant", answer)), "x.json", i, {}
        )
        for i, (input, answer) in enumerate((("Türkiye", "It's Ankara."), ("", "Of what?")), 1)
    ]
    examples = encode_all(records, tokenizer, BUILT_IN["phi3"], 100)
    rows = batch_rows(examples, range(2), records, tokenizer)
    summary = Summary.of(examples, 100)
    print(as_text(title_of(BUILT_IN["phi3"], 100), rows, summary, color=False, width=100))


if __name__ == "__main__":
    run(_demo)
