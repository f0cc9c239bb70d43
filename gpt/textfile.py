"""A file as text, however long it is: bytes -> unzip -> UTF-8 -> a window that moves along.

    with open("data.json.gz", "rb") as file:
        text = Text(bytes_of(file))
        while text.more(): ...                  # text.window, text.at, text.line_at(text.at)

Reading a file of 430 MB whole would cost that much memory, and four times that if it has a single
emoji: Python then keeps four bytes for every character. So a quarter of a megabyte is read,
unzipped and decoded at a time, and what has been read is forgotten. `reading.py` finds the records
in it. Lines and byte offsets are counted only up to where somebody asks for them.

A byte that is not UTF-8 does not end the reading: it stays in the text as a mark, `bad_byte` tells
where it was, and only the record that it stands in is lost.

Sources: RFC 1952 (gzip); PEP 383 (how a bad byte is written in a text).
"""

import codecs
import gzip
import io
import re
import reprlib
import zlib
from collections.abc import Callable
from typing import NamedTuple

CHUNK = 1 << 18  # bytes read at once
MAX_RECORD = 1 << 26  # characters: a longer one is a quote never closed, or no record
# What a short file may unzip to. Text shrinks to a third or a tenth, the same record over and over
# to a hundredth; deflate's limit is a thousandth, and a bomb is made to come close to it.
MAX_EXPANSION = 200  # times its size, of a file that unzips to
BOMB_SIZE = 1 << 24  # bytes or more

_HEAD = 1024  # bytes by which a file that is no UTF-8 text is known
_KEPT = 256  # characters before the present place that stay in the window
_BLANKS = re.compile(r"[ \t\r\n]*")
NEWLINE = re.compile(r"\r\n?|\n")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_OTHER_KINDS = {
    b"PK\x03\x04": "a zip archive, or a workbook of Excel's: unpack it, or export it as CSV",
    b"PAR1": "a Parquet file: export it as JSON lines",
    b"BZh": "packed with bzip2: unpack it first, or use gzip",
    b"\xfd7zXZ": "packed with xz: unpack it first, or use gzip",
    b"\x28\xb5\x2f\xfd": "packed with zstd: unpack it first, or use gzip",
}


class Unreadable(Exception):
    """Why a file gives nothing, or nothing more."""


class Problem(NamedTuple):
    """What is wrong at a place where a record should be, or between two."""

    message: str
    refused: int = 1  # how many records are lost with it


Found = tuple[int, object]  # a line, from 1, and what begins there: a record or a Problem


# ---- bytes ----------------------------------------------------------------------------------


class _Counted:
    """A file that says how much of it has been read. (gzip reads ahead, and a pipe has no tell.)"""

    def __init__(self, file: io.BufferedReader, progress: Callable[[int], object]) -> None:
        self._file, self._progress = file, progress
        self.n_bytes = 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.n_bytes += len(data)
        self._progress(len(data))
        return data


def bytes_of(
    file: io.BufferedReader, progress: Callable = lambda n_bytes: None
) -> Callable[[int], bytes]:
    """A function that gives the next bytes, unzipped where the file is gzip: b"" at the end."""
    counted = _Counted(file, progress)
    if file.peek(2)[:2] != b"\x1f\x8b":
        return counted.read
    unzipped = gzip.GzipFile(fileobj=counted, mode="rb")
    n_out = 0

    def read(size: int) -> bytes:
        nonlocal n_out
        try:
            data = unzipped.read1(size)
        except EOFError:
            raise Unreadable("this gzip file is cut short: copy or download it again") from None
        except (OSError, zlib.error) as error:
            raise Unreadable(f"this gzip file is damaged ({error}): copy it again") from None
        n_out += len(data)
        if n_out > BOMB_SIZE and n_out > MAX_EXPANSION * counted.n_bytes:
            raise Unreadable(
                f"unzips to more than {MAX_EXPANSION} times its size, as no data does but a gzip "
                "bomb: if you trust it, unzip it yourself"
            )
        return data

    return read


def _refuse_other_kinds(head: bytes) -> None:
    """Raise if a file that begins like this is of a known kind that is not UTF-8 text."""
    for magic, kind in _OTHER_KINDS.items():
        if head.startswith(magic):
            raise Unreadable(f"this is {kind}")
    bad = head.find(0)  # ASCII in UTF-16 is half zeros, and text in UTF-8 has none
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        bad = 0
    elif not head or head.count(0) < len(head) / 4:
        return
    raise Unreadable(
        f"not UTF-8: byte 0x{head[bad]:02x} at offset {bad}; it looks like UTF-16: save it as UTF-8"
    )


# ---- text -----------------------------------------------------------------------------------


class Text:
    """A file as text, of which a window is in memory: what stands at `at`, and a little before."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self.window = ""
        self.at = 0  # where the reader is, in the window
        self.broken = ""  # why the text ends before the file does
        self._read = read
        head = read(_HEAD)
        _refuse_other_kinds(head)
        self._undecoded = head.removeprefix(codecs.BOM_UTF8)
        self._ended = False
        self._line, self._counted = 1, 0  # the line at a place in the window: moves on with it
        self._byte, self._measured = len(head) - len(self._undecoded), 0  # the same for bytes
        self._damaged = False  # some byte was not UTF-8

    def more(self) -> bool:
        """Read on, about as much as stands after `at`. False at the end; moves the window."""
        if self._ended:
            return False
        self._forget(self.at - _KEPT)
        unread = len(self.window) - self.at
        wanted = max(CHUNK, min(unread, MAX_RECORD - unread))  # doubles: a long record is no slower
        parts = [self.window]
        while wanted > 0 and not self._ended:
            try:
                data = self._read(CHUNK)
            except (Unreadable, OSError) as reason:
                self.broken, data = str(reason), b""
            self._ended = not data
            wanted -= len(data)
            parts.append(self._decode(data))
        self.window = "".join(parts)
        return True

    def _decode(self, data: bytes) -> str:
        data = self._undecoded + data
        # A character or a \r\n that is cut in two waits for its other half.
        held = int(data.endswith(b"\r") and not self._ended)
        usable = data[: len(data) - held]
        try:
            text, used = codecs.utf_8_decode(usable, "strict", self._ended)
        except UnicodeDecodeError:
            self._damaged = True
            text, used = codecs.utf_8_decode(usable, "surrogateescape", self._ended)
        self._undecoded = data[used:]
        return text

    def _forget(self, n: int) -> None:
        if n <= 0:
            return
        self._line, self._counted = self.line_at(n), 0
        self._measure(max(n, self._measured))
        self._measured -= n
        self.window = self.window[n:]
        self.at -= n

    def line_at(self, place: int) -> int:
        if place < self._counted:
            return self._line - self._newlines(place, self._counted)
        self._line += self._newlines(self._counted, place)
        self._counted = place
        return self._line

    def _newlines(self, start: int, stop: int) -> int:
        count = self.window.count
        n = count("\n", start, stop)
        carriage_returns = count("\r", start, stop)
        return n + carriage_returns - count("\r\n", start, stop) if carriage_returns else n

    def bad_byte(self, start: int, stop: int) -> str | None:
        """What to say of the first byte between two places that is not UTF-8."""
        bad = _NOT_UTF8.search(self.window, start, stop) if self._damaged else None
        if bad is None:
            return None
        self._measure(bad.start())
        byte = ord(bad[0]) - 0xDC00
        return f"not UTF-8: byte 0x{byte:02x} at offset {self._byte}; save the file as UTF-8"

    def _measure(self, place: int) -> None:
        if self.window.isascii():  # known without looking, and no copy is made
            self._byte += place - self._measured
        else:
            passed = self.window[self._measured : place]
            self._byte += len(passed.encode("utf-8", "surrogateescape"))
        self._measured = place

    def next_char(self) -> str:
        """Go on to what is no blank, and return it; "" at the end."""
        while True:
            self.at = _BLANKS.match(self.window, self.at).end()
            if self.at < len(self.window):
                return self.window[self.at]
            if not self.more():
                return ""

    def line_end(self) -> tuple[int, int] | None:
        """Where the line at `at` ends and where the next begins; None if it is over-long."""
        passed = 0
        while True:
            newline = NEWLINE.search(self.window, self.at + passed)
            if newline:
                return newline.span()
            passed = len(self.window) - self.at
            if passed > MAX_RECORD:
                return None
            if not self.more():
                return len(self.window), len(self.window)

    def go_past(self, pattern: re.Pattern) -> bool:
        """Go on to behind the next match of a short pattern; False, and to the end, if none."""
        start = self.at
        while True:
            match = pattern.search(self.window, start)
            if match:
                self.at = match.end()
                return True
            self.at = max(start, len(self.window) - _KEPT)
            if not self.more():
                self.at = len(self.window)
                return False
            start = self.at


def brief(value: object) -> str:
    """A value for a message: quoted, on one line, and cut if it is long."""
    if isinstance(value, str):
        return repr(value) if len(value) <= 40 else repr(value[:40]) + "…"
    return reprlib.repr(value)
