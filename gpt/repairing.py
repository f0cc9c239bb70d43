"""Repairing a text: white space and Unicode in one form each, and no sign that does nothing.

What is deliberately left alone:

  - Indentation, tabs, and runs of blanks inside a line: code and tables live by them. Up to two
    blank lines in a row stay, as Python's own style has them. Two blanks at a line's end, with
    which Markdown breaks a line, do go.
  - The joiners of emoji families and flags, of Persian, and of the scripts of India; the break
    marks of Thai, Khmer and their neighbours. Invisible characters go only where they do nothing.
  - Turkish `İ`, `ı`, and the ideographic blank. NFC puts letters and accents together and replaces
    no letter by a likeness: `ﬁ`, `²` and full-width forms stay, which NFKC would rewrite.

Source: UAX #15 (NFC).
"""

import re
import unicodedata

_LINE_END = re.compile("[\r\v\f\x85\u2028\u2029]")
_BLANK = re.compile("[\xa0\u2000-\u200a\u202f\u205f]")  # non-breaking, or of a printer's width
_INVISIBLE = re.compile("[\xad\u2060\ufeff]")  # soft hyphen, word joiner, byte-order mark
# Two characters with a work to do, and beside what: a non-joiner and a joiner between letters that
# join or signs that merge (from Hebrew on: 2000 to 218F is punctuation and the like), and a
# break mark in scripts without blanks (Thai, Lao, Burmese, Khmer).
_JOINS, _NO_BLANKS = "\u0590-\u1fff\u2190-\U0010ffff", "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_IDLE = re.compile(
    f"(?<![{_JOINS}])[\u200c\u200d](?![{_JOINS}])|(?<![{_NO_BLANKS}])\u200b(?![{_NO_BLANKS}])"
)
_BLANK_LINES = re.compile(r"\n{4,}")
_INDENTED = re.compile(r"\n[ \t]+\S")


def without_idle(text: str) -> str:
    """Without joiners and break marks that stand where they have nothing to do."""
    return _IDLE.sub("", text)


def clean_whitespace(text: str) -> str:
    """Line ends, blanks and invisible characters in one form each, and none that do nothing."""
    text = _LINE_END.sub("\n", text.replace("\r\n", "\n"))
    if not text.isascii():
        text = _BLANK.sub(" ", text)
        text = without_idle(_INVISIBLE.sub("", text))
    text = "\n".join(line.rstrip(" \t") for line in text.split("\n"))
    text = _BLANK_LINES.sub("\n\n\n", text).strip("\n")
    # A first line may be indented as the others are: code. Alone, its blanks are a slip.
    return text if _INDENTED.search(text) else text.lstrip(" \t")


def compose(text: str) -> str:
    """Letters with their marks as one, and marks in one order: then a joiner may be idle."""
    composed = unicodedata.normalize("NFC", text)
    return text if composed == text else compose(without_idle(composed))
