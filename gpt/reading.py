"""Files of records, in any of the usual formats: a path -> objects, each with its line.

    textfile ─> json_values   a list, an object that holds one, objects, lines ─> (line, object)
                rows          CSV, TSV: a header, then rows                       (line, Problem)

Whoever iterates gets each object as soon as it is complete. What cannot be read comes as a
`Problem` in its place, and reading goes on behind it, so that one pass over a file finds all that
is wrong with it. What a record has to hold is the concern of `records.py`, whose demonstration
(python -m gpt.records) shows this chapter too.

Sources: RFC 4180 (CSV).
"""

import csv
import json
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from gpt.json_values import StrictDecoder, read_held_list, read_lines, read_list, read_loose
from gpt.shapes import KEYS
from gpt.textfile import MAX_RECORD, NEWLINE, Found, Problem, Text, Unreadable, brief, bytes_of

MAX_ROW_LINES = 10_000  # of one CSV row: a longer one is a quote that was never closed

# {"version": "1.1", "data": [{…}, …]}: names under which an object holds the list of records.
HOLDERS = ("data", "records", "examples", "instances", "items", "rows", "samples", "train")
_SCALAR = r'"[^"\\]*"\s*:\s*(?:"[^"\\]*"|[-+.\w]+)\s*,\s*'
_HOLDER = re.compile(rf'\{{\s*(?:{_SCALAR})*"(?:{"|".join(HOLDERS)})"\s*:\s*\[')
_KEY = re.compile(r'"([^"\\]*)"\s*:')
_LIST_OF_SCALARS = re.compile(r"\[\s*[^\[\]{\s][^\[\]{]*\][ \t]*(?:[\r\n]|\Z)")
# The first line of some CSV files names the delimiter, for Excel: sep=;
_SEP = re.compile(r'"?sep=([^\w"\r\n])"?[ \t]*(?:\r\n?|\n|\Z)', re.IGNORECASE)


def read_objects(
    path: Path, progress: Callable[[int], object] = lambda n_bytes: None
) -> Iterator[Found]:
    """All records and all Problems of a file. A Problem at line 0 is one of the whole file."""
    path = Path(path)
    try:
        if path.is_dir():
            raise Unreadable("a folder, not a file: name the files in it")
        with open(path, "rb") as file:
            text = Text(bytes_of(file, progress))
            found = None
            for found in _records_in(text, path):
                yield found
            if text.broken and found != (0, Problem(text.broken)):  # a record that was cut said so
                raise Unreadable(text.broken)
            if found is None:
                raise Unreadable("holds no records")
    except FileNotFoundError:
        yield 0, Problem("no such file", 0)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        yield 0, Problem(f"not readable: {getattr(error, 'strerror', None) or error}", 0)
    except Unreadable as reason:
        yield 0, Problem(str(reason), 0)


def _records_in(text: Text, path: Path) -> Iterable[Found]:
    """Choose by the file's extension, and by its first character where that tells more."""
    names = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    extension = names[-1] if names else ""
    text.more()
    if not text.window and not text.broken:
        raise Unreadable("is empty")
    if extension in (".csv", ".tsv", ".tab"):
        return _rows(text, "\t" if extension != ".csv" else _delimiter(text, ","))
    first = text.next_char()
    one_a_line = extension in (".jsonl", ".ndjson")
    if first == "[" and not (one_a_line and _LIST_OF_SCALARS.match(text.window, text.at)):
        text.at += 1
        return read_list(text, StrictDecoder())
    if first and (one_a_line or (first == "{" and _is_one_a_line(text))):
        return read_lines(text, StrictDecoder())
    if first == "{":
        held = _HOLDER.match(text.window, text.at)
        if held is None or _is_a_record(text, held.end()):
            return read_loose(text, StrictDecoder())
        return read_held_list(text, StrictDecoder(), held.end())
    if not first:
        return ()
    if bad_byte := text.bad_byte(0, len(text.window)):
        raise Unreadable(bad_byte)
    delimiter = _delimiter(text, "")
    if extension.startswith(".json") or not delimiter:
        raise Unreadable(f"not JSON, which begins with [ or {{: this begins with {first!r}")
    return _rows(text, delimiter)


def _is_one_a_line(text: Text) -> bool:
    """Whether the first line of a text that begins with { is an object, and so is the next."""
    stop, after = text.line_end() or (0, 0)
    window = text.window
    return window[text.at : stop].rstrip().endswith("}") and window[after:].lstrip()[:1] == "{"


def _is_a_record(text: Text, stop: int) -> bool:
    """Whether an object with a list in it, up to `stop`, is no holder: it has a pair of its own."""
    try:
        keys, _ = json.JSONDecoder().raw_decode(text.window, text.at)
    except (ValueError, RecursionError):  # not all of it is here: then by what stands before
        keys = _KEY.findall(text.window, text.at, stop)
    return all(any(key in keys for key in KEYS[name]) for name in ("instruction", "output"))


# ---- tables ---------------------------------------------------------------------------------


def _delimiter(text: Text, otherwise: str) -> str:
    """What separates the names in the header: some spreadsheets write ; for the , of CSV.

    A line sep=; that says so is not the header, and is passed over.
    """
    if said := _SEP.match(text.window, text.at):
        text.at = said.end()
        return said[1]
    stop, _ = text.line_end() or (0, 0)
    header = text.window[text.at : stop]
    return max(",;\t|", key=header.count) if any(c in header for c in ",;\t|") else otherwise


def _rows(text: Text, delimiter: str) -> Iterator[Found]:
    """Each row as a dict by the names in the first; one that does not fit them is a Problem.

    Columns at the end without a name, which spreadsheets add, may be there if they are empty.
    """
    header: list[str] = []
    n_nameless = 0
    useless, n_useless = "", 0
    for line, row in _lists(text, delimiter):
        if useless:
            n_useless += 1
        elif type(row) is Problem and header:
            yield line, row
        elif type(row) is Problem:
            header_line, useless = line, row.message
        elif not header:
            n_columns = max((n for n, name in enumerate(row, 1) if name.strip()), default=len(row))
            header, n_nameless = row[:n_columns], len(row) - n_columns
            [(name, n)] = Counter(header).most_common(1)
            if n > 1:
                header_line, useless = line, f"the header names {brief(name)} twice"
        elif len(row) == len(header) or _is_padded(row, len(header), n_nameless):
            yield line, dict(zip(header, row, strict=False))
        else:
            message = f"the header names {len(header)} columns, and this row has {len(row)}"
            yield line, Problem(f"{message}; put quotes round a text that has {delimiter!r} in it")
    if useless:
        yield header_line, Problem(useless, n_useless)


def _is_padded(row: list[str], n_columns: int, n_nameless: int) -> bool:
    surplus = row[n_columns:]
    return 0 < len(surplus) <= n_nameless and not any(cell.strip() for cell in surplus)


Line = tuple[str, str | None]  # of a table; and what is wrong with its bytes


def _lists(text: Text, delimiter: str) -> Iterator[Found]:
    """Rows as lists. A quoted text may hold line breaks: a row is one line or several."""
    csv.field_size_limit(MAX_RECORD)
    line = text.line_at(text.at)
    again: deque[Line] = deque()
    while True:
        taken: list[Line] = []
        try:
            lines = _feed(text, again, taken)
            row = next(csv.reader(lines, delimiter=delimiter, strict=True), None)
        except csv.Error as error:
            if text.broken and not again and text.at >= len(text.window):
                yield 0, Problem(text.broken)
                return
            # A quote too many swallows the lines that follow, and only the first is to blame.
            again.extendleft(reversed(taken[1:]))
            row, taken = Problem(f"not valid CSV: {error}"), taken[:1]
        if row is None:
            return
        bad_byte = next((message for _, message in taken if message), None)
        if row:  # an empty line is an empty list
            yield line, Problem(bad_byte) if bad_byte else row
        line += max(1, len(taken))


def _feed(text: Text, again: deque[Line], taken: list[Line]) -> Iterator[str]:
    """Lines for one row, noted in `taken`: first those that are read again, then the file's."""
    while again or text.at < len(text.window) or text.more():
        if len(taken) == MAX_ROW_LINES:
            raise csv.Error(f"a quote is not closed within {MAX_ROW_LINES:,} lines")
        taken.append(again.popleft() if again else _next_line(text))
        yield taken[-1][0]


def _next_line(text: Text) -> Line:
    span = text.line_end()
    if span is None:
        text.go_past(NEWLINE)
        raise csv.Error(f"a line of more than {MAX_RECORD:,} characters")
    (stop, after), start = span, text.at
    if text.broken and stop == len(text.window):
        text.at = stop
        raise csv.Error(text.broken)
    text.at = after
    return text.window[start:stop] + "\n", text.bad_byte(start, stop)
