"""Cleaning: what is repaired in a record, what is hidden in it, and which record is not worth it.

    records ─> white space, Unicode ─> personal data ─> answers ─> records worth learning from
               repaired                replaced         dropped

Every step leaves a good text alone, to the character, and running all of them again changes
nothing. Each change is a `Change` with the file and line it was made at, so that somebody can look.
The steps are told one by one in `STEPS`; what they deliberately leave alone:

  - Indentation, tabs, and runs of blanks inside a line: code and tables live by them. Up to two
    blank lines in a row stay, as Python's own style has them. Two blanks at a line's end, with
    which Markdown breaks a line, do go.
  - The joiners of emoji families and flags, of Persian, and of the scripts of India; the break
    marks of Thai, Khmer and their neighbours. Invisible characters go only where they do nothing.
  - Turkish `İ`, `ı`, and the ideographic blank. NFC puts letters and accents together and replaces
    no letter by a likeness: `ﬁ`, `²` and full-width forms stay, which NFKC would rewrite.
  - Numbers. A card number has a valid check digit and an issuer's prefix, an IBAN a valid check sum
    and its country's length; a phone number is written like one, or is called one. What stands in
    another form (`john at example dot com`) is missed: a person should still read the data.
  - `user:password@host` in a URL, which is no e-mail address, though it may be a secret.

    python -m gpt.cleaning      # a dirty record, before and after

Sources: UAX #15 (NFC); ISO 7812 (Luhn); ISO 13616 (IBAN); ITU E.164 (telephone numbers).
"""

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from tqdm import tqdm

from gpt.cli import run
from gpt.records import Record, Turn

STEPS = {
    "whitespace": "one form of line end and of blank; nothing invisible, nothing trailing",
    "unicode": "letters and their accents as one character each (NFC)",
    "emails": "e-mail addresses become [EMAIL]",
    "ibans": "bank accounts (IBAN, check sum verified) become [IBAN]",
    "cards": "card numbers (check digit and issuer verified) become [CARD]",
    "phones": "telephone numbers become [PHONE]",
    "echoes": "records whose answer only repeats the prompt are dropped",
    "lengths": "records with an answer shorter or longer than the limits are dropped",
}


@dataclass(frozen=True)
class Cleaning:
    """Which steps are taken, and the limits of an answer."""

    steps: frozenset[str] = frozenset(STEPS)
    min_answer: int = 1  # characters: "4" is a good answer to a sum
    max_answer: int = 20_000  # characters: four times what GPT-2's 1,024 tokens hold of English


class Change(NamedTuple):
    """What a step did to a record. It does not repeat personal data: the file has it."""

    step: str
    where: str  # file:line
    what: str
    dropped: bool = False


def clean(
    records: Iterable[Record], cleaning: Cleaning = Cleaning()
) -> tuple[list[Record], list[Change]]:
    """The records that are worth learning from, and all that was done to the others."""
    kept, changes = [], []
    for record in tqdm(records, desc="cleaning", unit="record", delay=2, disable=None):
        cleaned, made = clean_record(record, cleaning)
        changes += made
        if cleaned is not None:
            kept.append(cleaned)
    return kept, changes


def clean_record(record: Record, cleaning: Cleaning) -> tuple[Record | None, list[Change]]:
    """The record after all steps, or None where one of them drops it."""
    changes = []
    for step, clean_text in TEXT_STEPS.items():
        if step in cleaning.steps:
            record, what = _apply(clean_text, record)
            if what:
                changes.append(Change(step, record.where, what))
    reason = _why_drop(record, cleaning)
    if reason:
        step, what = reason
        return None, [*changes, Change(step, record.where, what, dropped=True)]
    return record, changes


def _apply(clean_text: Callable[[str], str], record: Record) -> tuple[Record, str]:
    """One step on every text of a record, the further keys too; and which of them it changed."""
    changed = []

    def cleaned(text: str, name: str) -> str:
        new = clean_text(text)
        if new != text:
            changed.append(name)
        return new

    turns = tuple(
        Turn(turn.role, cleaned(turn.text, turn.role), cleaned(turn.input, "input"))
        for turn in record.turns
    )
    extra = {key: _each_text(value, key, cleaned) for key, value in record.extra.items()}
    if not changed:
        return record, ""
    return replace(record, turns=turns, extra=extra), ", ".join(dict.fromkeys(changed))


def _each_text(value: object, name: str, cleaned: Callable[[str, str], str]) -> object:
    if isinstance(value, str):
        return cleaned(value, name)
    if isinstance(value, list):
        return [_each_text(item, name, cleaned) for item in value]
    if isinstance(value, dict):
        return {key: _each_text(item, name, cleaned) for key, item in value.items()}
    return value


# 1. Repairing: white space and Unicode.

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


def clean_whitespace(text: str) -> str:
    """Line ends, blanks and invisible characters in one form each, and none that do nothing."""
    text = _LINE_END.sub("\n", text.replace("\r\n", "\n"))
    if not text.isascii():
        text = _BLANK.sub(" ", text)
        text = _IDLE.sub("", _INVISIBLE.sub("", text))
    text = "\n".join(line.rstrip(" \t") for line in text.split("\n"))
    text = _BLANK_LINES.sub("\n\n\n", text).strip("\n")
    # A first line may be indented as the others are: code. Alone, its blanks are a slip.
    return text if _INDENTED.search(text) else text.lstrip(" \t")


def compose(text: str) -> str:
    return unicodedata.normalize("NFC", text)


# 2. Hiding: personal data.

_FILE_TYPES = "png|jpe?g|gif|svg|webp|bmp|ico"  # icon@2x.png is a picture
_EMAIL = re.compile(
    r"(?P<url>://[^\s:/?#@,]*:[^\s/?#@,]*@)|"  # or a login, which is passed over
    r"(?<![\w.%+@/-])[\w%+-]+(?:\.[\w%+-]+)*"  # not the end of a path or of another address
    rf"@(?!\d+x\.(?:{_FILE_TYPES})\b)(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W\d_]{{2,24}}"
    r"(?![\w@-]|\.\w|:[\w/~])"  # git@host:path is a place to copy from
)


def hide_emails(text: str) -> str:
    if "@" not in text:
        return text
    hidden = _EMAIL.sub(lambda match: match["url"] or "[EMAIL]", text)
    return text if hidden == text else _IDLE.sub("", hidden)  # what stood between hidden letters


# What cards and telephones have; most texts do not, and need no closer look.
_TWO_DIGITS = re.compile("[0-9]{2}")
_LONG_NUMBER = re.compile(r"\d(?:\D{0,3}\d){6}")


def _has_long_number(text: str) -> bool:
    return _TWO_DIGITS.search(text) is not None and _LONG_NUMBER.search(text) is not None


# The registry of ISO 13616: an IBAN's length, in characters, by its country.
_IBAN_LENGTHS = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
_IBAN = re.compile(
    r"(?<![^\W_])(?:"
    + "|".join(
        rf"(?:{countries.replace(' ', '|')})\d\d(?:[ \xa0\u202f.-]?[A-Z0-9]){{{length - 4}}}"
        for length, countries in _IBAN_LENGTHS.items()
    )
    + r")(?![^\W_])",
    re.IGNORECASE | re.ASCII,
)

_LETTERS_AND_DIGITS = re.compile("[A-Za-z]{2}[0-9]{2}")  # what it begins with: rare in a text


def hide_ibans(text: str) -> str:
    if not _LETTERS_AND_DIGITS.search(text):
        return text
    return _IBAN.sub(lambda match: "[IBAN]" if is_iban(match[0]) else match[0], text)


def is_iban(text: str) -> bool:
    """Whether the check sum is right: read as a number with A = 10 … Z = 35, it leaves 1 by 97."""
    characters = re.sub(r"[^A-Z0-9]", "", text.upper())
    digits = "".join(str(int(character, 36)) for character in characters[4:] + characters[:4])
    return int(digits) % 97 == 1


# Sixteen digits or about as many, in one piece or in the groups that are printed on a card.
_CARD = re.compile(
    r"(?<![\w.,-])"
    r"(?:\d{14,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|\d{4}([ -])\d{6}\2\d{4,5})"
    r"(?![-.,]?\w)"
)
_ISSUED = re.compile(
    r"4\d{15}(?:\d{3})?|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"
    r"|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}"
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12}|(?:9792|220[0-4])\d{12}"
)  # Visa, Mastercard (two); American Express, Diners, JCB, UnionPay; Discover, Troy and Mir


def hide_cards(text: str) -> str:
    if not _has_long_number(text):
        return text
    return _CARD.sub(lambda match: "[CARD]" if is_card(match[0]) else match[0], text)


def is_card(text: str) -> bool:
    """Whether an issuer has such numbers, and the check digit is right (Luhn)."""
    digits = re.sub(r"\D", "", text)
    doubled = [sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2]]
    sound = (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0
    return sound and _ISSUED.fullmatch(digits) is not None


# Telephone numbers have no check sum. Three ways of writing them are hardly used for anything else:
_INTERNATIONAL = re.compile(  # +44 20 7946 0958, but neither 5 +12345678 nor x = +12345678
    r"(?<![\w)\]+*/=.-])(?<![\d)=] )\+[1-9](?:[ ./()-]{0,2}\d){7,14}(?!\w|[.,]\d)"
)
_NATIONAL = re.compile(
    r"(?<![\w.,+/-])(?:"
    r"(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[.-])[2-9]\d\d[.-]\d{4}"  # (212) 555-0123
    r"|(?:(?:0|00[ -]?90) ?(?:\([2-5]\d\d\) ?|[2-5]\d\d[ -])|\(0[2-5]\d\d\) ?)"
    r"\d{3}[ -]?\d\d[ -]?\d\d"  # 0 (212) 555 01 23, 00 90 212 555 01 23, (0212) 555 01 23
    r"|(?:0|0090)5\d{9}"  # 05325550123
    r")(?![\w-]|[.,]\d)"
)
_NAMED = re.compile(  # "my phone number is 555 0123"
    r"\b((?:(?:tele)?phone|tel|telefon|mobile|cell|cep|fax|faks|gsm|whatsapp|call|dial)\b"
    r"(?:[ :.#=]|\b(?:number|no|numaras[ıi]|numaram|me|us|at|is|on)\b){0,6})"
    r"(\(?\d(?:[ ./()-]{0,2}\d){6,14})(?!\w|[.,]\d)",
    re.IGNORECASE,
)
# … and are a quantity, a list, a date or a span of years all the same:
_NO_PHONE = re.compile(
    r"\+\d{1,3}([ .])\d{3}\1\d{3}|\+\d([ .])\d{3}\2\d{3}\2\d{3}|\+\d+\.\d+|\+?\d(?:\D+\d)+"
    r"|(?:19|20)\d\d\D(?:19|20)\d\d|\d{4}([-./])\d\d\3\d\d|\d\d?([-./])\d\d?\4\d{4}"
)


def hide_phones(text: str) -> str:
    if not _has_long_number(text):
        return text
    text = _INTERNATIONAL.sub(_placeholder, text)
    text = _NATIONAL.sub("[PHONE]", text)
    return _NAMED.sub(lambda match: match[1] + _placeholder(match, 2), text)


def _placeholder(match: re.Match, group: int = 0) -> str:
    number = match[group]
    return number if _NO_PHONE.fullmatch(number) else "[PHONE]"


TEXT_STEPS: dict[str, Callable[[str], str]] = {
    "whitespace": clean_whitespace,  # first: an invisible character may keep two others apart
    "unicode": compose,
    "emails": hide_emails,
    "ibans": hide_ibans,
    "cards": hide_cards,
    "phones": hide_phones,  # last: the loosest of the four
}


# 3. Dropping: answers that teach nothing.


def _why_drop(record: Record, cleaning: Cleaning) -> tuple[str, str] | None:
    """The step that drops the record and its reason; None for a record to keep."""
    for question, answer in pairwise(record.turns):
        if answer.role != "assistant":
            continue
        if not question.text and not question.input:
            return "lengths", "nothing is left of the prompt"
        if not answer.text:  # whatever the settings: there is nothing to learn
            return "lengths", "nothing is left of the answer"
        if "echoes" in cleaning.steps and _only_echoes(question, answer):
            return "echoes", "the answer is the prompt"
        if "lengths" in cleaning.steps and len(answer.text) < cleaning.min_answer:
            return "lengths", f"an answer of {len(answer.text):,} characters"
        if "lengths" in cleaning.steps and len(answer.text) > cleaning.max_answer:
            return "lengths", f"an answer of {len(answer.text):,} characters"
    return None


def _only_echoes(question: Turn, answer: Turn) -> bool:
    """Whether an answer is its instruction, with or without the input, word for word.

    The input alone may be the right answer: a sentence to correct that has no fault.
    """
    said = answer.text.split()
    return said in (question.text.split(), f"{question.text} {question.input}".split())


def _demo() -> None:
    question = "Where is  I\u0307stanbul?\r\n\u200bThe year is 1923, the order 4111111111111112."
    answer = (
        "  Ask ada@example.com.tr, \r\n\r\n\r\n\r\n+90 532 555 01 23 \U0001f469\u200d\U0001f4bb\r\n"
        "Pay to TR33 0006 1005 1978 6457 8413 26 or by card 4111 1111 1111 1111\xa0"
    )
    dirty = Record((Turn("user", question), Turn("assistant", answer)), "demo.json", 1, {})
    cleaned, changes = clean_record(dirty, Cleaning())
    for name, record in (("before", dirty), ("after", cleaned)):
        for turn in record.turns:
            print(f"{name:<6} {turn.role:<9} {turn.text!a}")
    for change in changes:
        print(f"{change.where}  {change.step}: {change.what}")


if __name__ == "__main__":
    run(_demo)
