"""The data card: what a prepared set holds, and what became of everything that was read.

    train, validation, test + all changes ─> train.json validation.json test.json
                                             README.md lengths.png       for people
                                             report.json                 for programs, complete

Whoever trains on a set months later, or gets it from somebody else, asks: where is it from, how
much is it, how long are the texts, which languages and categories, what was done to it and to which
records? The card answers with counts and examples, `report.json` lists every change with its file
and line. Neither holds a date or a path of its own: the same files and settings give the same card.

    python scripts/prepare.py FILE… --out FOLDER

Source: Gebru et al., "Datasheets for Datasets" (2018), for the questions.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from gpt.cleaning import STEPS, Change
from gpt.languages import UNDECIDED, language_of
from gpt.records import Record
from gpt.shapes import KEYS
from gpt.splitting import NO_CATEGORY, SIDES, Overlap, Split, category_of

FILES = (*(f"{side}.json" for side in SIDES), "README.md", "lengths.png", "report.json")
ALL_STEPS = STEPS | {
    "duplicates": "records that ask and answer what an earlier one does are dropped",
    "near-duplicates": "records that differ from an earlier one in a few words are dropped",
}
Lengths = dict[str, dict[str, np.ndarray]]  # side -> "prompt" or "answer" -> of each record
EXAMPLES = 5  # of each kind of change, in the card; the report has all


@dataclass
class Preparation:
    """All that was done on the way from some files to three sides."""

    title: str
    notes: list[str]  # what was recognised, a line for each file
    n_records: int  # in the files
    n_refused: int  # of them, those that had faults, with --skip-bad
    faults: list[str]  # which these were
    settings: dict  # of the command, as JSON takes them
    changes: list[Change]  # what cleaning did, and the duplicates that were dropped
    duplicate_prompts: list[str]  # "x.json:7 asks what x.json:2 asks"
    split: Split  # what is left
    overlaps: list[Overlap]  # between its sides


def write_prepared(
    folder: Path, done: Preparation, encode: Callable[[str], Sequence] | None = None
) -> None:
    """Fill a folder with the sides that are not empty, the card, its picture, and the report.

    encode: what turns a text into tokens, for the lengths; without, they are in characters.
    """
    for side, records in zip(SIDES, done.split, strict=True):
        if records:
            _write_text(folder / f"{side}.json", to_json(records))
    lengths = lengths_of(done.split, encode or str)
    report = report_of(done, lengths, "tokens" if encode else "characters")
    _write_text(folder / "report.json", json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    _write_text(folder / "README.md", card(report))
    plot_lengths(lengths, report["unit"], folder / "lengths.png")


def holds_preparation(folder: Path) -> bool:
    """Whether a folder was filled by `write_prepared`: a report.json alone may be anybody's."""
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # none, or not in UTF-8, or not JSON
        return False
    return type(report) is dict and report.keys() >= {"settings", "sides", "steps", "changes"}


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")  # the same bytes on every system


# 1. Records as JSON: what `read_records` reads back.


def to_json(records: Iterable[Record]) -> str:
    """A list with one record on each line, so that a line number is a record's."""
    bar = tqdm(records, "to JSON", unit=" records", delay=2, disable=None)
    lines = [json.dumps(to_object(record), ensure_ascii=False) for record in bar]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def to_object(record: Record) -> dict:
    """Alpaca's shape for a question and its answer, OpenAI's for a conversation; then the extras.

    An extra key that readers would take for a text of the record gets `original_` before its name,
    as often as it takes to be a name that no other key has.
    """
    system = [turn.text for turn in record.turns if turn.role == "system"]
    spoken = [turn for turn in record.turns if turn.role != "system"]
    if len(spoken) == 2:
        question, answer = spoken
        shape = {"instruction": question.text, "input": question.input, "output": answer.text}
        shape |= {"system": system[0]} if system else {}
    else:
        shape = {"messages": [{"role": t.role, "content": t.text} for t in record.turns]}
    return shape | {_extra_name(key, record.extra): v for key, v in record.extra.items()}


def _extra_name(key: str, others: dict) -> str:
    name = key
    while name in _TAKEN or (name != key and name in others):
        name = f"original_{name}"
    return name


_TAKEN = {key for names in KEYS.values() for key in names}


# 2. What there is to tell.


def report_of(done: Preparation, lengths: Lengths, unit: str) -> dict:
    """Everything that the card says, and every change by itself."""
    made = Counter((change.step, change.dropped) for change in done.changes)
    return {
        "title": done.title,
        "files": done.notes,
        "settings": done.settings,
        "records": {
            "in the files": done.n_records,
            "refused as faulty": done.n_refused,
            "dropped": sum(change.dropped for change in done.changes),
            "kept": sum(map(len, done.split)),
        },
        "sides": {side: len(records) for side, records in zip(SIDES, done.split, strict=True)},
        "unit": unit,
        "lengths": {
            side: {part: _summary(numbers) for part, numbers in parts.items()}
            for side, parts in lengths.items()
        },
        "categories": _by_side(done.split, category_of, "categories"),
        "languages": _by_side(done.split, lambda r: language_of(_all_text(r)), "languages"),
        "duplicate_prompts": done.duplicate_prompts,
        "overlaps": [str(overlap) for overlap in done.overlaps],
        "steps": {
            step: {
                "what": what,
                "on": step in done.settings["steps"],
                "changed": made[step, False],
                "dropped": made[step, True],
            }
            for step, what in ALL_STEPS.items()
        },
        "faults": done.faults,
        "changes": [change._asdict() for change in done.changes],
    }


def lengths_of(split: Split, encode: Callable[[str], Sequence]) -> Lengths:
    """By side and part, the length of each record's prompts and answers, without a template."""
    n_records = sum(map(len, split))
    lengths: Lengths = {}
    with tqdm(total=n_records, desc="lengths", unit="record", delay=2, disable=None) as bar:
        for side, records in zip(SIDES, split, strict=True):
            parts: dict[str, list[int]] = {"prompt": [], "answer": []}
            for record in records:
                sizes = {"prompt": 0, "answer": 0}
                for turn in record.turns:
                    part = "answer" if turn.role == "assistant" else "prompt"
                    sizes[part] += len(encode(turn.text)) + len(encode(turn.input))
                for part, size in sizes.items():
                    parts[part].append(size)
                bar.update()
            if records:
                lengths[side] = {part: np.array(sizes) for part, sizes in parts.items()}
    return lengths


def _summary(numbers: np.ndarray) -> dict[str, float]:
    return {
        "mean": round(float(numbers.mean()), 1),
        "median": float(np.median(numbers)),
        "95% are below": float(np.ceil(np.quantile(numbers, 0.95))),
        "longest": int(numbers.max()),
        "sum": int(numbers.sum()),
    }


def _by_side(
    split: Split, name_of: Callable[[Record], str], what: str
) -> dict[str, dict[str, int]]:
    """How many records of each name there are on each side; the most frequent name first."""
    counts = [
        Counter(map(name_of, tqdm(records, what, unit=" records", delay=2, disable=None)))
        for records in split
    ]
    names = sorted(sum(counts, Counter()).items(), key=lambda item: (-item[1], item[0]))
    return {
        name: {side: count[name] for side, count in zip(SIDES, counts, strict=True)}
        for name, _ in names
    }


def _all_text(record: Record) -> str:
    return " ".join(f"{turn.text} {turn.input}" for turn in record.turns)


# 3. Telling it.


def card(report: dict) -> str:
    """The report as a page of Markdown."""
    unit, sides = report["unit"], report["sides"]
    written = [f"{side}.json" for side, n in sides.items() if n]
    empty = [side for side, n in sides.items() if not n]
    pieces = [
        f"# Data card: {report['title']}",
        "Written by `scripts/prepare.py`; `report.json` has every change with its file and line.",
        "## Where it comes from",
        "\n".join(f"- {_code(note)}" for note in report["files"]),
        _table(["records", ""], report["records"].items()),
        f"## Sides\n\nIn {', '.join(f'`{name}`' for name in written)}, one record on each line."
        + (f" **Empty: {', '.join(empty)}.**" if empty else ""),
        _table(["side", "records"], sides.items()),
        _examples("Records whose prompt an earlier side has (overlap)", report["overlaps"]),
        _examples("Records whose prompt an earlier record has", report["duplicate_prompts"]),
        f"## Lengths, in {unit}\n\nWithout a template."
        + ("" if unit == "tokens" else " For tokens, name a vocabulary: `--tokenizer FOLDER`."),
        f"![Histograms of the lengths of prompts and answers, in {unit}](lengths.png)",
        _table(*_lengths_table(report["lengths"])),
        "## Categories",
        _side_table("category", report["categories"]),
        f"## Languages\n\nA guess from script and small words; short texts are {UNDECIDED}.",
        _side_table("language", report["languages"]),
        "## What was changed and dropped",
        _table(
            ["step", "does", "changed", "dropped"],
            [
                (
                    step,
                    row["what"],
                    *((row["changed"], row["dropped"]) if row["on"] else ("off",) * 2),
                )
                for step, row in report["steps"].items()
            ],
        ),
        *(_examples_of_step(step, report["changes"]) for step in report["steps"]),
        _examples("Faulty records that were left out", report["faults"])
        if report["faults"]
        else "",
        "## Settings",
        _table(["setting", "value"], [(k, _code(str(v))) for k, v in report["settings"].items()]),
    ]
    return "\n\n".join(piece for piece in pieces if piece) + "\n"


def _code(text: str) -> str:
    return f"`{text}`"


def _examples(title: str, lines: list[str]) -> str:
    text = f"{title}: {len(lines):,}"
    if len(lines) > EXAMPLES:
        text += f", the first {EXAMPLES} of them"
    return "\n".join([text, "", *(f"- {_code(line)}" for line in lines[:EXAMPLES])]).strip()


def _examples_of_step(step: str, changes: list[dict]) -> str:
    made = [change for change in changes if change["step"] == step]
    lines = [
        f"{change['where']} {'dropped: ' if change['dropped'] else ''}{change['what']}"
        for change in made
    ]
    return _examples(f"**{step}**", lines) if lines else ""


def _lengths_table(lengths: dict) -> tuple[list[str], list[tuple]]:
    rows = [
        (f"{part}s, {side}", *parts[part].values())
        for part in ("prompt", "answer")
        for side, parts in lengths.items()
    ]
    heads = next(iter(lengths.values()))["prompt"].keys()
    return ["", *heads], rows


def _side_table(name: str, counts: dict[str, dict[str, int]], shown: int = 30) -> str:
    if set(counts) <= {NO_CATEGORY}:
        return "None: the records have no `category`."
    rows = [(label, *row.values()) for label, row in list(counts.items())[:shown]]
    rest = list(counts.values())[shown:]
    if rest:
        sums = [sum(row[side] for row in rest) for side in SIDES]
        rows.append((f"{len(rest)} others", *sums))
    return _table([name, *SIDES], rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A Markdown table of at least one row: numbers to the right, texts to the left."""
    rows = list(rows)
    rule = [
        "---:" if any(isinstance(value, int | float) for value in column) else "---"
        for column in zip(*rows, strict=True)
    ]
    cells = [[_cell(value) for value in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(heads), rule, *cells])


def _cell(value: object) -> str:
    if isinstance(value, int | float):
        return f"{value:,}" if value != int(value) else f"{int(value):,}"
    text = " ".join(str(value).split()).replace("|", "\\|")
    return text if len(text) <= 120 else text[:119] + "…"


def plot_lengths(lengths: Lengths, unit: str, path: Path) -> None:
    """Two histograms, of prompts and of answers: by length, the share of each side's records."""
    from matplotlib.figure import Figure  # half a second that `--help` should not take
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, part in zip(figure.subplots(1, 2, sharey=True), ("prompt", "answer"), strict=True):
        edges = _edges(np.concatenate([parts[part] for parts in lengths.values()]))
        for side, parts in lengths.items():
            numbers, colour = parts[part], COLOURS[side]
            share = np.histogram(numbers, edges)[0] / len(numbers)
            if side == "train":  # the others are lines before its hills
                axes.stairs(share, edges, color=colour, alpha=0.25, fill=True)
            axes.stairs(share, edges, color=colour, lw=1.6, label=f"{side}: {len(numbers):,}")
        axes.set(xscale="log", xlabel=f"{unit} of the {part} (log scale)")
        wide = edges[-1] > 500 * edges[0]  # more labels would touch
        axes.xaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
        axes.set_axisbelow(True)
    figure.axes[0].set_ylabel("share of the side's records")
    figure.axes[1].legend(frameon=False)
    figure.savefig(path, dpi=150, metadata={"Software": None})  # the same bytes the next time


COLOURS = {"train": "#1f6feb", "validation": "#d97706", "test": "#16803c"}


def _edges(numbers: np.ndarray) -> np.ndarray:
    """Where bins begin: of equal width on a log scale, none without a whole number in it."""
    lowest, highest = max(int(numbers.min()), 1), int(numbers.max()) + 1
    return np.unique(np.geomspace(lowest, max(highest, lowest + 1), 25).round())
