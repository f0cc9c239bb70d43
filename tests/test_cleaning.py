"""Cleaning changes what is wrong, leaves the rest alone to the character, and says what it did."""

import json
import random
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpt.cleaning import STEPS, TEXT_STEPS, Cleaning, clean, clean_record
from gpt.hiding import hide_cards, hide_emails, hide_ibans, hide_phones, is_card, is_iban
from gpt.records import Record, Turn
from gpt.repairing import clean_whitespace


def record(prompt="Who?", answer="He.", given="", line=1, **extra):
    return Record((Turn("user", prompt, given), Turn("assistant", answer)), "x.json", line, extra)


def clean_text(text):
    for step in TEXT_STEPS.values():
        text = step(text)
    return text


# White space and Unicode.

UNTOUCHED = [
    "def f(x):\n    if x:\n\treturn x\n\n\nclass A:\n    pass",
    "    indented = 1\n    as_the_next = 2",
    "| a   | b |\n|-----|---|\n| 1   | 2 |",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308 \u2764\ufe0f\u200d"
    "\U0001f525 \U0001f1f9\U0001f1f7 1\ufe0f\u20e3",
    "می\u200cخواهم",
    "क्\u200dष",
    "ភាសា\u200bខ្មែរ",
    "İstanbul, ısı, İĞÜŞÖÇ ığüşöç, I",
    "ﬁ ² ½ Ａ １ Ⅷ ™",
    "日本語\u3000です。",
    "a\tb",
    "1\n\n2\n\n\n3",
]


@pytest.mark.parametrize("text", UNTOUCHED)
def test_good_white_space_and_characters_are_left_alone(text):
    assert clean_text(text) == text


@pytest.mark.parametrize(
    ("dirty", "repaired"),
    [
        ("a\r\nb\rc\u2028d\x85e", "a\nb\nc\nd\ne"),
        ("a  \nb\t\n", "a\nb"),
        ("a\n\n\n\n\n\nb", "a\n\n\nb"),
        ("a\n \n\t\n \n \nb", "a\n\n\nb"),
        ("10\xa0000\u202f€", "10 000 €"),
        ("\ufeffz\u200be\u2060r\u00ado", "zero"),
        ("le\u200cft\u200d", "left"),
        ("  What is it? ", "What is it?"),
        ("\n\n    x = 1\n    y = 2\n\n", "    x = 1\n    y = 2"),
        (" Well,\nthat is it", "Well,\nthat is it"),
        (" \n\t\u200b\r\n ", ""),
        ("I\u0307stanbul", "İstanbul"),
        ("cafe\u0301", "café"),
        ("e\u200b\u0301", "é"),
    ],
)
def test_bad_white_space_and_split_letters_are_repaired(dirty, repaired):
    assert clean_text(dirty) == repaired


DIRT = st.sampled_from(
    [
        *("\u00a0", "\u200b", "\u200c", "\u200d", "\ufeff", "\u2060", "\u00ad", "\u2028", "\u2002"),
        *("\u3000", "ا", "क", "្", "ខ", "\U0001f469", "\u0301", "I", "\u0307", "[EMAIL]", "tel "),
        *("+90 532 123 45 67", "a@b.co", "4111 1111 1111 1111", "GB82 WEST 1234 5698 7654 32"),
        *"ab \t\n\r\v\f\x1c0123456789+-.,()/@",
    ]
)


@example("a@b.coاGB82 WEST 1234 5698 7654 32")  # an address ends where an account begins
@example("+90 532 123 45 67\xa0+90 532 123 45 67")
@example("\u0301\u17d2\u200b")  # marks that change places, and then stand before a break mark
@example("\u200b\u1781a@b.co")  # a break mark before a letter that is hidden
@given(st.lists(DIRT, max_size=30).map("".join))
def test_cleaning_twice_is_cleaning_once(text):
    once = clean_text(text)
    assert clean_text(once) == once


@given(st.text())
def test_any_text_comes_out_composed_and_without_loose_ends(text):
    cleaned = clean_whitespace(text)
    assert clean_whitespace(cleaned) == cleaned
    assert "\r" not in cleaned and "\n\n\n\n" not in cleaned and "\xa0" not in cleaned
    assert all(line == line.rstrip(" \t") for line in cleaned.split("\n"))
    assert unicodedata.is_normalized("NFC", clean_text(text))


@given(st.text())
def test_no_visible_character_is_lost_to_white_space(text):
    def visible(text):
        return [c for c in text if unicodedata.category(c)[0] not in "ZC"]

    assert visible(clean_whitespace(text)) == visible(text)


# Personal data.


@pytest.mark.parametrize(
    "address",
    [
        "ada@example.com",
        "ada.lovelace+news@mail.example.co.uk",
        "ayşe@örnek.com.tr",
        "A_B%c-d@x-y.museum",
        "o.brien1815@a1.de",
    ],
)
def test_an_email_address_is_hidden_wherever_it_stands(address):
    for before, after in [("", ""), ("<", ">"), ("mailto:", "."), ("write to ", ", please"), "()"]:
        assert hide_emails(before + address + after) == f"{before}[EMAIL]{after}"


@pytest.mark.parametrize(
    "text",
    [
        "@app.route('/')",
        "git@github.com:karpathy/nanoGPT.git",
        "scp a.txt me@host.org:/tmp",
        "icon@2x.png",
        "npm install react@18.2.0 @types/node@20.1.0",
        "a @ b = c.d",
        "@user@mastodon.social",
        "user@localhost",
        "medium.com/@someone.else",
        "A @ B.T",
        "http://u:p@host.com/x",
        "postgres://ada:se.cret@db.example.com:5432/a",
        "git clone https://me@example.com/a.git",
    ],
)
def test_an_at_sign_alone_makes_no_email_address(text):
    assert clean_text(text) == text


def test_an_address_beside_a_url_is_hidden():
    text = "http://u:p@host.com/x a@b.co http://x:80/,a@b.co http://x:80,a@b.co"
    hidden = "http://u:p@host.com/x [EMAIL] http://x:80/,[EMAIL] http://x:80,[EMAIL]"
    assert hide_emails(text) == hidden


# Published examples of the standard's registry and of the countries' central banks.
IBANS = """
    TR33 0006 1005 1978 6457 8413 26
    DE89 3704 0044 0532 0130 00
    GB82 WEST 1234 5698 7654 32
    FR14 2004 1010 0505 0001 3M02 606
    NO93 8601 1117 947
    MT84 MALT 0110 0001 2345 MTLC AST0 01S
    NL91ABNA0417164300
    be68-5390-0754-7034
""".strip().splitlines()


@pytest.mark.parametrize("iban", [iban.strip() for iban in IBANS])
def test_an_iban_is_hidden_and_one_with_a_wrong_digit_is_not(iban):
    assert is_iban(iban)
    assert hide_ibans(f"pay to {iban}, and 100 more") == "pay to [IBAN], and 100 more"
    last = iban[-1]
    wrong = iban[:-1] + ("7" if last != "7" else "3")
    assert hide_ibans(wrong) == wrong
    assert hide_ibans(iban + "9") == iban + "9"  # one too long


CARDS = """
    4111 1111 1111 1111
    5500-0055-5555-5559
    378282246310005
    3782 822463 10005
    6011111111111117
    3530 1113 3330 0000
    3056 930902 5904
    6200 0000 0000 0005
    2223003122003222
    9792 0000 0000 0003
""".strip().splitlines()


@pytest.mark.parametrize("card", [card.strip() for card in CARDS])
def test_a_card_number_is_hidden_and_one_with_a_wrong_digit_is_not(card):
    assert hide_cards(f"Card: {card}.") == "Card: [CARD]."
    wrong = card[:-1] + str((int(card[-1]) + 1) % 10)
    assert hide_cards(wrong) == wrong


def test_few_of_many_random_numbers_are_taken_for_cards():
    """One in ten has a right check digit; the issuers' prefixes leave one in a hundred of those."""
    draw = random.Random(0)
    numbers = [str(draw.randrange(10**15, 10**16)) for _ in range(20_000)]
    plausible = [number for number in numbers if is_card(number)]
    assert len(plausible) / len(numbers) < 0.04
    assert not any(is_card(number) for number in numbers if number[0] in "178")


PHONES = """
    +90 532 123 45 67
    +905321234567
    +1 (212) 555-0123
    +44 20 7946 0958
    +33 6 12 34 56 78
    +49-30-12345678
    +48 123 456 789
    (212) 555-0123
    212-555-0123
    212.555.0123
    1-800-555-0123
    0532 123 45 67
    0 (212) 123 45 67
    05321234567
    (0532) 555 01 23
    (0212)5550123
    00 90 532 555 01 23
    0090 532 555 01 23
    00 90 (212) 555 01 23
    00905325550123
""".strip().splitlines()


@pytest.mark.parametrize("phone", [phone.strip() for phone in PHONES])
def test_a_telephone_number_is_hidden(phone):
    assert hide_phones(phone) == "[PHONE]"
    assert hide_phones(f"Reach me ({phone}), or not.") == "Reach me ([PHONE]), or not."
    assert hide_phones(f"Mine: {phone}\nYours: {phone}") == "Mine: [PHONE]\nYours: [PHONE]"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("my phone number is 555-0123", "my phone number is [PHONE]"),
        ("Tel.: 030 12345678", "Tel.: [PHONE]"),
        ("Call us at 5550123 today", "Call us at [PHONE] today"),
        ("telefon numaram 0 216 555 01 23", "telefon numaram [PHONE]"),
        ("Fax: 020 7946 0958", "Fax: [PHONE]"),
    ],
)
def test_a_number_that_is_called_a_telephone_number_is_hidden(text, hidden):
    assert hide_phones(text) == hidden


ORDINARY_NUMBERS = """
    In 2019-2020 the phone cost 1200000 lira.
    The mobile web of 2010-2020, from 2010-01-31 to 31.12.2020
    2023-05-12 14:30:00, 20230512143000, 1683901800, 1683901800123
    12/05/2023, 12.05.2023, 1.1.1970
    x = 12345678 + 87654321 - 1234567890
    5 +12345678 = 12345683, and x = +12345678
    3.14159265358979, 2.718281828459045, 1.4142135623730951, -273.15
    299 792 458 m/s; 6 378 137 m; 1,234,567,890; 1.234.567.890
    +20 000 000 people, +1 000 000 000 dollars, +1.618033988749
    +1 2 3 4 5 6 7 8 9
    v1.2.3, 10.0.19041.1288, Chrome/120.0.6099.109, numpy 2.4.6
    192.168.100.200, 255.255.255.0, 127.0.0.1:8080, 2001:0db8:85a3
    1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20
    01 02 03 04 05 06, 02 04 06 08 10, 01001000 01101001, 0100 1000 0110
    Sort 512 256 64 32 16, and 100 200 300 4000
    ISBN 978-3-16-148410-0, ISBN-13 9780306406157, EAN 4006381333931
    123e4567-e89b-12d3-a456-426614174000, 12345678-4111-1111-1111-111111111111
    https://doi.org/10.48550/arXiv.1706.03762, stackoverflow.com/questions/5484996/remove
    -231 <= n <= 231 - 1, 2^31 = 2147483648, 4294967296, 18446744073709551615
    0.4111111111111111, 1234567812345678, 9999999999999999, 0000 0000 0000 0000
    0x4111111111111111, 4111111111111112, 1111 2222 3333 4444
    GB82 WEST 1234 5698 7654 33, AB12 3456 7890 1234, DE12 is a road
    call(1, 2, 3); f(12345, 67890); recall 911 and 112
    1000-1250 words, pages 300-400, 5.9-6.5, 8-9-9.5, 11200-9.1
    00 90 45 30 00, 0090, (0532), 00905325550123456, f(0532) 555 01 23 45, 00 10 01 11
    1600 Pennsylvania Avenue NW, Washington, DC 20500-0003
""".strip().splitlines()


@pytest.mark.parametrize("text", [text.strip() for text in ORDINARY_NUMBERS])
def test_ordinary_numbers_are_no_personal_data(text):
    assert clean_text(text) == text


def test_on_two_published_sets_only_what_is_personal_is_hidden(shared):
    """Read through by a person: three addresses, each given twice, and a shop's number."""
    hidden = {}
    for name in ("book-1100.json", "alpaca-eval-805-davinci003.json"):
        rows = json.loads((shared / "datasets" / name).read_text(encoding="utf-8"))
        for row in rows:
            for text in (row["instruction"], row.get("input", ""), row["output"]):
                cleaned = clean_text(text)
                for word in ("[EMAIL]", "[IBAN]", "[CARD]", "[PHONE]"):
                    hidden[word] = hidden.get(word, 0) + cleaned.count(word)
    assert hidden == {"[EMAIL]": 6, "[IBAN]": 0, "[CARD]": 0, "[PHONE]": 1}


# Records.


def test_a_clean_record_comes_back_as_it_is():
    clean_one = record("Who wrote it?", "Ada did.", "The first programme.", category="history")
    kept, changes = clean([clean_one])
    assert kept == [clean_one]
    assert kept[0] is clean_one
    assert changes == []


def test_every_text_of_a_record_is_cleaned_and_each_change_is_told_with_its_place():
    dirty = record("Mail ada@example.com ", "I  did.\n", "now\xa0", line=7, chosen="a@b.co", n=4)
    (cleaned,), changes = clean([dirty])
    assert cleaned == record("Mail [EMAIL]", "I  did.", "now", line=7, chosen="[EMAIL]", n=4)
    assert [(change.step, change.where, change.what) for change in changes] == [
        ("whitespace", "x.json:7", "user, input, assistant"),
        ("emails", "x.json:7", "user, chosen"),
    ]
    assert dirty.extra["chosen"] == "a@b.co"  # the record that was given is not touched


def test_texts_inside_further_keys_are_cleaned_at_any_depth():
    dirty = record(meta={"from": ["a@b.co", 1, None], "ok": True})
    cleaned, _ = clean_record(dirty, Cleaning())
    assert cleaned.extra == {"meta": {"from": ["[EMAIL]", 1, None], "ok": True}}


DIRTY = {
    "whitespace": record("a \n"),
    "unicode": record("e\u0301"),
    "emails": record("a@b.co"),
    "ibans": record("DE89370400440532013000"),
    "cards": record("4111111111111111"),
    "phones": record("+905321234567"),
    "echoes": record("Say it.", "Say  it."),
    "lengths": record("Go on", "a" * 20_001),
}


@pytest.mark.parametrize("step", STEPS)
def test_each_step_can_be_left_out_by_itself(step):
    assert [change.step for change in clean([DIRTY[step]])[1]] == [step]
    without = Cleaning(steps=frozenset(STEPS) - {step})
    assert clean([DIRTY[step]], without) == ([DIRTY[step]], [])


@pytest.mark.parametrize(
    ("dropped", "step"),
    [
        (record("Repeat it", "Repeat it"), "echoes"),
        (record("Sort these:", "Sort these:\n3 1 2", "3 1 2"), "echoes"),
        (record("Who?", "\u200b \n"), "lengths"),
        (record("\ufeff", "He."), "lengths"),
        (record("Who?", "x" * 20_001), "lengths"),
    ],
)
def test_an_answer_that_teaches_nothing_is_dropped(dropped, step):
    kept, changes = clean([dropped])
    assert kept == []
    assert [(change.step, change.dropped) for change in changes if change.dropped] == [(step, True)]


@pytest.mark.parametrize(
    "good",
    [
        record("Correct it.", "She reads books.", "She reads books."),
        record("2 + 2?", "4"),
        record("Repeat: yes", "yes"),
        record("Count.", "1 " * 9_999 + "1"),
    ],
)
def test_a_short_answer_and_one_that_equals_its_input_are_kept(good):
    assert clean([good]) == ([good], [])


def test_the_limits_of_an_answer_are_settings():
    records = [record(answer=answer) for answer in ("12", "123", "1234", "12345")]
    kept, _ = clean(records, Cleaning(min_answer=3, max_answer=4))
    assert [len(r.turns[1].text) for r in kept] == [3, 4]


def test_one_bad_answer_drops_its_conversation():
    turns = [Turn("system", "Be brief."), Turn("user", "Hi"), Turn("assistant", "Hello.")]
    bad = [Turn("user", "Who are you?"), Turn("assistant", "Who are you?")]
    kept, changes = clean([Record((*turns, *bad), "x.json", 3, {})])
    assert kept == []
    assert [change.where for change in changes] == ["x.json:3"]


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=8))
def test_no_record_is_silently_lost(texts):
    records = [record(*pair, line=line) for line, pair in enumerate(texts, 1)]
    kept, changes = clean(records)
    dropped = [change.where for change in changes if change.dropped]
    assert sorted(dropped + [r.where for r in kept]) == sorted(r.where for r in records)
