"""JSON, one value at a time, from a file of any length: text -> objects, each with its line.

    read_list         [{…}, {…}, …]                one value after the other, none twice in memory
    read_held_list    {"data": [{…}, …], …}        a list within an object
    read_lines        {…}, a line break, {…}, …    JSON lines
    read_loose        {…}                          an object that is the file, or several in a row

The decoding is Python's own, in C, on the window of a `textfile.Text`. It is stricter here: a key
twice in one object, NaN, half of a surrogate pair or absurd depth are Problems. After text that
cannot be decoded at all, reading goes on where the next record seems to begin.

Sources: RFC 8259, whose "should"s these are; jsonlines.org.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

from gpt.textfile import MAX_RECORD, NEWLINE, Found, Problem, Text, brief

MAX_DEPTH = 64  # lists and objects within one another; no shape of records needs more than five

_SHOWN = 20  # characters that a message quotes; more than the longest literal or escape
_MAX_WAITING = 100  # values between two records: a list of nothing but numbers is not kept
_THEN_A_RECORD = re.compile(r"[ \t\r\n]*,[ \t\r\n]*(?=\{)")
_COMMAS = re.compile(r"[ \t,]*")
_FIRST_KEY = re.compile(r'\{\s*("(?:[^"\\]|\\.)*")\s*:')
_ESCAPED_SURROGATE = re.compile(r"\\u[dD]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ENDS_ELSEWHERE = "not valid JSON lines: the object does not end on its line"


class _Broken(Exception):
    """Text that is no JSON value: the line, and what is wrong there. Where it ends is unknown."""


class StrictDecoder:
    """Python's decoder, made strict: what it would let pass is noted in `flaws`."""

    def __init__(self) -> None:
        self.flaws: list[str] = []
        self._decode = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_constant=lambda name: self.flaws.append(f"{name} is no JSON value"),
            parse_int=self._integer,
            parse_float=self._fraction,
        ).raw_decode

    def _object(self, pairs: list[tuple[str, object]]) -> dict:
        members = dict(pairs)
        if len(members) < len(pairs):
            [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
            self.flaws.append(f"the key {brief(twice)} stands twice in one object")
        return members

    def _integer(self, digits: str) -> int:
        if len(digits) < 1000:  # Python refuses to convert those of more than 4,300
            return int(digits)
        self.flaws.append(f"a number of {len(digits):,} digits")
        return 0

    def _fraction(self, digits: str) -> float:
        value = float(digits)
        if math.isinf(value):
            self.flaws.append(f"the number {brief(digits)} is too large")
        return value

    def next_value(self, text: Text, stop: int | None = None) -> Found:
        """Decode the value at `text.at` and go behind it; or raise _Broken, and stay.

        A value that is not complete yet makes the window grow, unless it has to end by `stop`.
        """
        while True:
            self.flaws.clear()
            window, start = text.window, text.at
            may_grow = stop is None and len(window) - start <= MAX_RECORD
            try:
                value, end = self._decode(window, start)
            except json.JSONDecodeError as error:
                # Near the window's end, anything may be wrong because the rest is not there yet.
                unfinished = error.pos > len(window) - _SHOWN or error.msg.startswith(
                    "Unterminated"
                )
                if unfinished and may_grow and text.more():
                    continue
                if unfinished and text.broken:
                    raise _Broken(0, text.broken) from None
                if unfinished and not may_grow and stop is None:
                    message = f"a record of more than {MAX_RECORD:,} characters"
                    raise _Broken(text.line_at(start), message) from None
                raise _syntax_error(text, error, stop) from None
            except RecursionError:
                message = "lists or objects nested too deeply"
                raise _Broken(text.line_at(start), message) from None
            if end == len(window) and may_grow and text.more():
                continue  # a number may go on
            line = text.line_at(start)
            if stop is not None and end > stop:
                raise _Broken(line, _ENDS_ELSEWHERE)
            text.at = end
            return line, self._flaw(text, start, end, value) or value

    def _flaw(self, text: Text, start: int, end: int, value: object) -> Problem | None:
        """What is wrong with a value that could be decoded: mostly some quick looks at its text."""
        window = text.window
        if self.flaws:
            return Problem("; ".join(dict.fromkeys(self.flaws)))
        if bad_byte := text.bad_byte(start, end):
            return Problem(bad_byte)
        n_brackets = window.count("{", start, end) + window.count("[", start, end)
        if n_brackets > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
            return Problem(f"lists or objects nested more than {MAX_DEPTH} deep")
        if window.find("\\u", start, end) >= 0 and _ESCAPED_SURROGATE.search(window, start, end):
            half = _half_character(value)
            return half and Problem(f"an unpaired surrogate, {half}: half of a character")
        return None


def _syntax_error(text: Text, error: json.JSONDecodeError, stop: int | None) -> _Broken:
    begins, line = text.line_at(text.at), text.line_at(error.pos)
    looked_at = len(text.window) if error.msg.startswith("Unterminated") else error.pos + 1
    if bad_byte := text.bad_byte(text.at, looked_at):
        return _Broken(line, bad_byte)
    if stop is not None and error.pos >= stop:
        return _Broken(begins, _ENDS_ELSEWHERE)
    shown = error.pos + _SHOWN
    here = text.window[error.pos : shown if stop is None else min(shown, stop)]
    where = f"at {here!r}" if here else "at the end of the file"
    reason = error.msg[0].lower() + error.msg[1:].removesuffix(" at")
    if here[:1] in ("\n", "\r") and reason == "invalid control character":
        reason, where = "the line ends within quotes", "(in a text, a line break is written \\n)"
    if begins != line:
        where += f", in the record that begins on line {begins}"
    return _Broken(line, f"not valid JSON: {reason} {where}")


def _is_deeper(value: object, limit: int) -> bool:
    level = [value]
    for _ in range(limit + 1):
        nested = (v.values() if type(v) is dict else v for v in level if type(v) in (dict, list))
        level = [inner for members in nested for inner in members]
    return bool(level)


def _half_character(value: object) -> str | None:
    """The first surrogate without its partner in any key or text of a value."""
    if type(value) is str:
        match = _SURROGATE.search(value)
        return match and f"\\u{ord(match[0]):04x}"
    if type(value) is dict:
        value = [*value, *value.values()]
    halves = map(_half_character, value) if type(value) is list else ()
    return next(filter(None, halves), None)


def read_list(text: Text, reader: StrictDecoder, held: bool = False) -> Iterator[Found]:
    """The values of a list that has just been opened: the file's own, or one held by an object.

    A quote too many can end a record early, and what is left of it is valid by chance: of
    {"output": "He said "}, and left"}, the half that ends with "He said ". So a value waits until
    a { or a ] follows it, and is refused together with anything else.
    """
    before, good = "[", None  # what stands before: that, a comma, a value, or what is broken
    waiting: list[Found] = []
    while char := text.next_char():
        if waiting and (char in "{]" or len(waiting) > _MAX_WAITING):
            yield from waiting
            waiting = []
        if char == "]":
            text.at += 1
            if before == ",":
                line = text.line_at(text.at)
                yield line, Problem("not valid JSON: a comma before the closing ]", 0)
            after = "" if held else text.next_char()
            if not after:
                return
            if before != "broken":
                line = text.line_at(text.at)
                yield line, Problem("not valid JSON: text behind the closing ]", 0)
            text.at += after == "["  # a second list: its records count too
            before = "broken"
        elif char == ",":
            text.at += 1
            if before in ("[", ","):
                line = text.line_at(text.at)
                yield line, Problem("not valid JSON: a comma with no record before it", 0)
            before = ","
        else:
            no_comma = before == "value"
            if no_comma and char == "{":
                line = text.line_at(text.at)
                yield line, Problem("not valid JSON: no comma between two records", 0)
            if no_comma and char != "{":
                found, is_broken = _go_on(text, _no_comma(text), good), True
            else:
                found, is_broken = _next_record(text, reader, good)
            before = "broken" if is_broken else "value"
            good = found[1] if type(found[1]) is dict else good
            comma = None if is_broken else _THEN_A_RECORD.match(text.window, text.at)
            if comma and not waiting:  # as nearly always: all else is for the rest
                yield found
                text.at, before = comma.end(), ","
            elif is_broken:
                yield from _refused_together(waiting, found)
                waiting = []
            elif waiting or char == "{":
                waiting.append(found)
            else:
                yield found
    yield from waiting
    if before != "broken" and not text.broken:
        line = text.line_at(text.at)
        yield line, Problem("not valid JSON: the list is not closed; is the file complete?", 0)


def _no_comma(text: Text) -> _Broken:
    bad_byte = text.bad_byte(text.at, text.at + 1)
    return _Broken(text.line_at(text.at), bad_byte or "not valid JSON: no comma behind a value")


def _refused_together(waiting: list[Found], broken: Found) -> list[Found]:
    """Values, and the broken text behind them that may be the rest of the first: one Problem."""
    line, problem = broken
    if not waiting or not line:  # line 0: it is the file that ends, and not what is in it
        return [*waiting, broken]
    begins = f"the record before it, of line {waiting[0][0]}, may have been cut short by a quote"
    return [(line, Problem(f"{problem.message}; {begins}, and is refused too"))]


def read_held_list(text: Text, reader: StrictDecoder, start: int) -> Iterator[Found]:
    """{"version": 1, "data": [{…}, …]}: the records of the list, and a look at what follows it."""
    text.at = start
    yield from read_list(text, reader, held=True)
    try:
        while text.next_char() == ",":
            text.at += 1
            text.next_char()
            reader.next_value(text)  # the key
            text.at += text.next_char() == ":"
            text.next_char()
            line, value = reader.next_value(text)
            if type(value) is list and value and type(value[0]) is dict:
                message = "a second list in this object: which holds the records is not clear"
                yield 0, Problem(f"{message}; see line {line}", len(value))
    except _Broken as broken:
        line, message = broken.args
        yield line, Problem(message, 0)
        return
    is_closed = text.next_char() == "}"
    text.at += is_closed
    if text.next_char() or not (is_closed or text.broken):
        line = text.line_at(text.at)
        yield line, Problem("not valid JSON: the object round the list does not end here", 0)


def read_loose(text: Text, reader: StrictDecoder) -> Iterator[Found]:
    """Values that follow one another: one object that is the file, or several."""
    good = None
    while char := text.next_char():
        if char == ",":
            line = text.line_at(text.at)
            text.at += 1
            yield line, Problem("not valid JSON: a comma, but no list round the records", 0)
            continue
        found, _ = _next_record(text, reader, good)
        good = found[1] if type(found[1]) is dict else good
        yield found


def _next_record(text: Text, reader: StrictDecoder, good: dict | None) -> tuple[Found, bool]:
    """The value at `text.at`, or what is wrong with it; and whether the text itself is broken."""
    try:
        line, value = reader.next_value(text)
        if type(value) is str and text.next_char() == ":":
            raise _Broken(line, f"not valid JSON: a {{ is missing before the key {brief(value)}")
        return (line, value), False
    except _Broken as broken:
        return _go_on(text, broken, good), True


def _go_on(text: Text, broken: _Broken, good: dict | None) -> Found:
    """Go from what is broken to where the next record seems to begin; say so if none does.

    That is a { which begins a line just as the broken one did, or which is followed by the key
    that the broken one, or a good one, has first. In JSON no text can look like this: its quotes
    are written \\" and its line breaks \\n.
    """
    line, message = broken.args
    next_record = _next_record_after(text, good)
    text.at += 1
    if not text.go_past(next_record) and not text.broken:
        message += "; no record was found behind it"
    return line, Problem(message)


def _next_record_after(text: Text, good: dict | None) -> re.Pattern:
    window, at = text.window, text.at
    if window[at] not in "{:":
        return re.compile(r"[\r\n]|,(?=\s*\{)|(?=\])")
    starts = []
    indent = window[max(window.rfind(end, 0, at) for end in "\r\n") + 1 : at]
    if not indent.strip() and (indent or window[at + 1 : at + 2] not in "\r\n"):
        starts.append(rf"[\r\n]{indent}(?=\{{)")
    keys = [re.escape(match[1]) for match in [_FIRST_KEY.match(window, at)] if match]
    if good:
        keys.append(re.escape(json.dumps(next(iter(good)), ensure_ascii=False)))
    else:  # any key will have to do, but those that begin the messages within a record
        starts.append(r'\}\s*,\s*(?=\{\s*"(?!role|from|content|value))')
    if keys:
        starts.append(rf"[\[,}}\]\s](?=\{{\s*(?:{'|'.join(keys)})\s*:)")
    return re.compile("|".join(starts))


def read_lines(text: Text, reader: StrictDecoder) -> Iterator[Found]:
    """One object a line: a line break ends it, whatever else is wrong."""
    while text.next_char():
        line = text.line_at(text.at)
        span = text.line_end()
        if span is None:
            yield line, Problem(f"a record of more than {MAX_RECORD:,} characters")
            text.go_past(NEWLINE)
            continue
        stop, after = span
        if text.broken and stop == len(text.window):
            yield 0, Problem(text.broken)
            return
        try:
            line, value = reader.next_value(text, stop)
            if text.window[text.at : stop].strip():
                n_lost = 1 + _objects_before(text, reader, stop)
                value = Problem("not valid JSON lines: more on this line than one object", n_lost)
        except _Broken as broken:
            line, value = broken.args[0], Problem(broken.args[1])
        text.at = after
        yield line, value


def _objects_before(text: Text, reader: StrictDecoder, stop: int) -> int:
    """How many objects begin between here and the end of the line, as far as that can be told."""
    n = 0
    with suppress(_Broken):
        while (start := _COMMAS.match(text.window, text.at, stop).end()) < stop:
            text.at = start
            n += text.window[start] == "{"
            reader.next_value(text, stop)
    return n
