"""A whole data set at once equals its records one by one; and nothing too long goes unsaid."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpt.encoding import OverlongError, encode_all, report
from gpt.records import Record, Turn, load_records
from gpt.segments import ANSWER
from gpt.template import BUILT_IN, Template
from gpt.tokenizer import Tokenizer, learn_merges, tiny_vocabulary

ALPACA = BUILT_IN["alpaca"]
SHORT = Template("short", "{instruction}", "\n#\n", input=" {input}", system="{system} ")
FAR = 10**9  # a model that sees everything


@pytest.fixture(scope="module")
def bytewise() -> Tokenizer:
    """A token is a byte: lengths can be counted by hand."""
    return Tokenizer(tiny_vocabulary([]))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(tiny_vocabulary(learn_merges("### Response: the words of the answer", 30)))


def make(line: int, text: str, input: str = "", answer: str = "Yes.") -> Record:
    return Record((Turn("user", text, input), Turn("assistant", answer)), "x.json", line, {})


def length(record: Record) -> int:
    """In bytes, with SHORT: what is between the texts is a space and '\\n#\\n'."""
    return sum(len(f"{t.text} {t.input}" if t.input else t.text) for t in record.turns) + 3


short_text = st.text(st.sampled_from("ab \n'sé🙂#"), max_size=8)


@settings(max_examples=40)
@given(rows=st.lists(st.tuples(short_text, short_text, short_text), max_size=5))
@pytest.mark.parametrize("template", [*BUILT_IN.values(), SHORT], ids=lambda t: t.name)
def test_all_at_once_equals_one_by_one(tokenizer, template, rows):
    records = [make(i, *row) for i, row in enumerate(rows, 1)]
    examples = encode_all(records, tokenizer, template, FAR)
    assert len(examples) == len(records) == len(list(examples))
    assert examples.records.tolist() == list(range(len(records)))
    for made, record in zip(examples, records, strict=True):
        ids, parts = template.encode(tokenizer, record)
        assert (made.ids.tolist(), made.parts.tolist()) == (ids.tolist(), parts.tolist())
        assert (made.ids.dtype, made.parts.dtype) == (np.int32, np.uint8)


def test_real_records_all_at_once_equal_one_by_one(shared):
    tokenizer = Tokenizer.from_folder(shared / "gpt2")
    names = ("book-1100.json", "alpaca-eval-805-davinci003.json")
    records = load_records([shared / "datasets" / name for name in names], skip_bad=True)
    examples = encode_all(records, tokenizer, ALPACA, FAR)
    one_by_one = [ALPACA.encode(tokenizer, record) for record in records]
    assert np.array_equal(examples.ids, np.concatenate([ids for ids, _ in one_by_one]))
    assert np.array_equal(examples.parts, np.concatenate([parts for _, parts in one_by_one]))
    assert examples.lengths.tolist() == [len(ids) for ids, _ in one_by_one]
    fitting = encode_all(records, tokenizer, ALPACA, 1024, "drop")
    too_long = [
        one.where for one, (ids, _) in zip(records, one_by_one, strict=True) if len(ids) > 1024
    ]
    assert [one.where for one in fitting.dropped] == too_long
    assert len(fitting) + len(too_long) == len(records)


def test_what_is_not_too_long_is_whole_under_every_policy(bytewise):
    records = [make(1, "Say", "hi"), make(2, "Go on")]
    n = max(map(length, records))
    for policy in ("error", "drop", "truncate-input"):
        examples = encode_all(records, bytewise, SHORT, n, policy)
        assert examples.lengths.tolist() == list(map(length, records))
        assert not examples.dropped
        assert not examples.shortened
        assert report(examples, n) == []


def test_an_example_may_fill_the_context_as_its_end_token_is_never_read(bytewise):
    record = make(1, "Say", answer="four")
    n = length(record)
    assert len(encode_all([record], bytewise, SHORT, n)) == 1
    with pytest.raises(OverlongError):
        encode_all([record], bytewise, SHORT, n - 1)


def test_error_names_each_record_its_tokens_and_what_can_be_done(bytewise):
    records = [make(3, "Say"), make(7, "Say", answer="y" * 30), make(9, "x" * 40)]
    with pytest.raises(OverlongError) as error:
        encode_all(records, bytewise, SHORT, 20)
    assert str(error.value).splitlines() == [
        "2 of 3 records do not fit into 20 tokens:",
        "  x.json:7: 36 tokens",
        "  x.json:9: 47 tokens, 43 of them the prompt: no room for an answer",
        "--overlong drop leaves them out, --overlong truncate-input shortens their input; a "
        "shorter --template, or a model that sees more tokens, may fit them",
    ]


def test_error_counts_those_that_are_too_many_to_list(bytewise):
    with pytest.raises(OverlongError, match="… and 80 more"):
        encode_all([make(i, "x" * 40) for i in range(100)], bytewise, SHORT, 20)


def test_drop_leaves_out_and_counts(bytewise):
    records = [make(3, "Say"), make(7, "Say", answer="y" * 30), make(8, "Go")]
    examples = encode_all(records, bytewise, SHORT, 20, "drop")
    assert examples.records.tolist() == [0, 2]
    assert examples.lengths.tolist() == [length(records[0]), length(records[2])]
    assert [one.where for one in examples.dropped] == ["x.json:7"]
    assert report(examples, 20) == [
        "left out: 1 of 3 records (33.3%) with more than 20 tokens",
        "  x.json:7: 36 tokens",
    ]


def test_dropping_all_leaves_nothing_and_says_so(bytewise):
    examples = encode_all([make(1, "x" * 40)], bytewise, SHORT, 20, "drop")
    assert (len(examples), len(examples.ids), len(examples.dropped)) == (0, 0, 1)


def test_truncate_input_fits_exactly_and_touches_nothing_else(bytewise):
    record = make(7, "Upper case:", "abcdefghij", "ABCDEFGHIJ")
    whole = length(record)
    for n in range(whole - 9, whole):
        examples = encode_all([record], bytewise, SHORT, n, "truncate-input")
        kept = "abcdefghij"[: n - whole]
        expected = SHORT.encode(bytewise, make(7, "Upper case:", kept, "ABCDEFGHIJ"))
        assert len(examples[0].ids) == n
        assert examples[0].ids.tolist() == expected.ids.tolist()
        assert [(one.where, one.n_tokens) for one in examples.shortened] == [("x.json:7", whole)]
        assert report(examples, n)[0] == (
            f"shortened: 1 of 1 records (100.0%) with more than {n} tokens"
        )


@settings(max_examples=60)
@given(input=st.text(st.sampled_from("ab \n'sé🙂#the"), max_size=40), room=st.integers(20, 60))
@example(input="   🙂", room=20)
def test_truncate_input_keeps_a_beginning_of_it_and_no_more_than_fits(tokenizer, input, room):
    record = make(1, "the words: ", input, "the answer")
    try:
        examples = encode_all([record], tokenizer, SHORT, room, "truncate-input")
    except OverlongError:
        n_blanks = len(input) - len(input.lstrip())  # which alone would be no input
        shortest = make(1, "the words: ", input[: n_blanks + 1], "the answer")
        assert len(SHORT.encode(tokenizer, shortest).ids) > room
        return
    ids, parts = examples[0]
    assert len(ids) <= room
    assert tokenizer.decode(ids[parts == ANSWER].tolist()) == "the answer"
    text = tokenizer.decode(ids.tolist())
    assert text.endswith("\n#\nthe answer")
    assert f"the words:  {input}".startswith(text.removesuffix("\n#\nthe answer"))


def test_truncate_input_refuses_what_no_shortening_fits(bytewise):
    records = [
        make(1, "x" * 40, "input"),  # an instruction alone too long
        make(2, "Say", "", "y" * 40),  # no input to shorten
        make(3, "Say", "hello", "y" * 14),  # fits without any of its input, and would ask nothing
        make(4, "Say", "hello" * 9, "y"),
    ]
    with pytest.raises(OverlongError) as error:
        encode_all(records, bytewise, SHORT, 20, "truncate-input")
    lines = str(error.value).splitlines()
    assert lines[0] == "3 of 4 records do not fit into 20 tokens even with the input shortened:"
    assert [line.split(": ")[0] for line in lines[1:-1]] == [
        "  x.json:1",
        "  x.json:2",
        "  x.json:3",
    ]
    assert "truncate-input" not in lines[-1]


def test_of_several_inputs_the_longest_is_shortened(bytewise):
    turns = (
        *(Turn("user", "a", "12"), Turn("assistant", "b")),
        *(Turn("user", "c", "123456789"), Turn("assistant", "d")),
    )
    record = Record(turns, "x.json", 1, {})
    n = len(SHORT.encode(bytewise, record).ids)
    ids, parts = encode_all([record], bytewise, SHORT, n - 4, "truncate-input")[0]
    turns = (*turns[:2], Turn("user", "c", "12345"), turns[3])
    assert ids.tolist() == SHORT.encode(bytewise, Record(turns, "", 1, {})).ids.tolist()
    assert parts[-1] == ANSWER


def test_an_input_of_which_only_blanks_would_be_left_counts_as_gone(bytewise):
    record = make(1, "Say", " \n\n  word", "yes")
    n = len(SHORT.encode(bytewise, record).ids)
    encode_all([record], bytewise, SHORT, n - 3, "truncate-input")  # " \n\n  w" is left
    with pytest.raises(OverlongError, match="x.json:1"):
        encode_all([record], bytewise, SHORT, n - 5, "truncate-input")
