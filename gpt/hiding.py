"""Hiding personal data: addresses, bank accounts, cards and telephones become [EMAIL] and so on.

What is deliberately left alone, or missed:

  - Numbers. A card number has a valid check digit and an issuer's prefix, an IBAN a valid check sum
    and its country's length; a phone number is written like one, or is called one. What stands in
    another form (`john at example dot com`) is missed: a person should still read the data.
  - `user:password@host` in a URL, which is no e-mail address, though it may be a secret.

Sources: ISO 7812 (Luhn); ISO 13616 (IBAN); ITU E.164 (telephone numbers).
"""

import re

from gpt.repairing import without_idle

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
    return text if hidden == text else without_idle(hidden)  # what stood between hidden letters


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
    hidden = _INTERNATIONAL.sub(_placeholder, text)
    hidden = _NATIONAL.sub("[PHONE]", hidden)
    hidden = _NAMED.sub(lambda match: match[1] + _placeholder(match, 2), hidden)
    return text if hidden == text else hide_phones(hidden)  # one may have stood in another's way


def _placeholder(match: re.Match, group: int = 0) -> str:
    number = match[group]
    return number if _NO_PHONE.fullmatch(number) else "[PHONE]"
