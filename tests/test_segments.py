"""Where a text may be cut: only where the ids, and so the model, cannot tell."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpt.segments import (
    ANSWER,
    BLANKS,
    END,
    HEADER,
    INSTRUCTION,
    Encoder,
    Example,
    Examples,
    cuts_between,
)
from gpt.tokenizer import Tokenizer, spell, tiny_vocabulary

# Merges that join blanks in every way, and whatever could meet at the edge of a header.
MERGES = [
    *(("Ċ", "Ċ"), ("Ġ", "Ċ"), ("Ċ", "Ġ"), ("Ġ", "Ġ"), ("ĉ", "Ċ"), ("č", "Ċ"), ("ĠĊ", "Ċ")),
    *(("Ġ", "a"), ("a", "a"), ("'", "s"), ("Ġ", "'"), ("#", "#"), ("Ġ", "#"), (":", "Ċ")),
]
ALPHABET = [*"a#:'s1 \n\t\r", "\x1c", "\x85", "\xa0", "\u3000", "\u200b", "é", "🙂", "'s", "\n\n"]
texts = st.lists(st.sampled_from(ALPHABET) | st.characters(codec="utf-8"), max_size=12).map("".join)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(tiny_vocabulary(MERGES))


def encode(tokenizer: Tokenizer, segments: list[tuple[int, str]]) -> tuple[list[int], list[int]]:
    encoder = Encoder(tokenizer, [":\n", "\n\n###"])
    encoder.add(segments)
    ids, parts = encoder.arrays()
    return ids.tolist(), parts.tolist()


@given(text=texts.filter(lambda text: len(text) > 1))
@example(text="a\n\na")
@example(text="a\n a")
@example(text="\na")
@example(text="a\r\na")
def test_no_id_depends_on_a_cut(tokenizer, text):
    for place in range(1, len(text)):
        before, after = text[:place], text[place:]
        if cuts_between(before[-2:], after):
            assert tokenizer.encode(before) + tokenizer.encode(after) == tokenizer.encode(text)


@pytest.mark.parametrize(
    ("before", "after", "cut"),
    [
        ("request.", "\n\n### Instruction:\n", True),
        ("### Instruction:\n", "Name", True),
        ("\n", "Name", True),  # at the very start of a text
        ("### Instruction:\n", "\nName", False),
        ("Name ", "\n\n### Response:\n", False),
        ("Answer: ", "Name", False),
        ("a\n\n", "Name", False),
        ("a", "b", False),
        ("1.", "<|im_end|>", False),
        ("a1", "<|im_end|>", True),
        ("<|", "im_end|>", True),
        ("'", "s", False),
        ("'s", "1", True),
        ("é", "#", False),  # not known for certain
        ("é", "\n#", True),
        ("#", "\x1cb", False),  # a blank to Python, a sign to GPT-2
    ],
)
def test_cuts_where_a_prompts_pieces_meet_if_the_texts_have_no_blanks_there(before, after, cut):
    assert cuts_between(before[-2:], after) is cut


def test_blanks_are_those_of_the_pre_tokenizer():
    """What is a sign to it shares a token with the space before it; what is a blank does not."""
    characters = [c for c in map(chr, range(0x3001)) if c.isspace() and c not in " \t\r\n"]
    for character in characters:
        first = spell(character.encode())[0]
        tokenizer = Tokenizer(tiny_vocabulary([("Ġ", first)]))
        shares = len(tokenizer.encode(f" {character}a")) == len(character.encode()) + 1
        assert shares is (character not in BLANKS), hex(ord(character))


@given(pieces=st.lists(st.tuples(st.sampled_from([HEADER, INSTRUCTION]), texts), max_size=6))
@example(pieces=[(HEADER, ":\n"), (INSTRUCTION, "a \n"), (HEADER, "\n\n###")])
@example(pieces=[(HEADER, "a"), (INSTRUCTION, "\n"), (HEADER, "\n"), (INSTRUCTION, "a")])
def test_the_ids_are_those_of_the_whole_text(tokenizer, pieces):
    whole = "".join(text for _, text in pieces)
    ids, parts = encode(tokenizer, pieces)
    assert ids == tokenizer.encode(whole)
    assert len(parts) == len(ids)


@given(pieces=st.lists(st.tuples(st.sampled_from([HEADER, INSTRUCTION]), texts), max_size=6))
def test_a_token_plays_the_part_in_which_it_begins(tokenizer, pieces):
    part_of_byte = [part for part, text in pieces for _ in text.encode()]
    ids, parts = encode(tokenizer, pieces)
    start = 0
    for id, part in zip(ids, parts, strict=True):
        assert part == part_of_byte[start]
        start += len(tokenizer.token_bytes(id))
    assert start == len(part_of_byte)


@given(answer=texts, after=texts)
def test_an_answer_is_encoded_apart_from_all_around_it(tokenizer, answer, after):
    ids, parts = encode(tokenizer, [(HEADER, "#\n"), (ANSWER, answer), (END, ""), (HEADER, after)])
    expected = tokenizer.encode("#\n") + tokenizer.encode(answer) + [tokenizer.end_id]
    assert ids == expected + tokenizer.encode(after)
    assert parts.count(END) == 1
    assert parts.index(END) == len(expected) - 1


def test_half_a_surrogate_pair_is_read_as_the_tokenizer_reads_it(tokenizer):
    ids, parts = encode(tokenizer, [(HEADER, ":"), (INSTRUCTION, "a\ud800 "), (HEADER, "\n#")])
    assert ids == tokenizer.encode(":a\ufffd \n#")
    assert parts.count(INSTRUCTION) == len(tokenizer.encode("a\ufffd \n"))


def test_added_tokens_are_found_across_parts():
    files = tiny_vocabulary(MERGES)
    n = len(MERGES) + 257
    tokenizer = Tokenizer(files | {"added_tokens.json": f'{{":\\na": {n}}}'.encode()})
    ids, parts = encode(tokenizer, [(HEADER, "#:\n"), (INSTRUCTION, "aa"), (HEADER, "\n\n###")])
    assert ids == tokenizer.encode("#:\naa\n\n###")
    assert parts[ids.index(n)] == HEADER


def test_undo_forgets_the_last_conversation_only(tokenizer):
    encoder, other = Encoder(tokenizer), Encoder(tokenizer)
    for one in (encoder, other):
        assert one.add([(HEADER, "a #\n"), (ANSWER, "aa")]) == 4
    assert encoder.add([(HEADER, "a\n"), (ANSWER, "1"), (END, ""), (ANSWER, "a #")]) == 6
    assert encoder.n_last_answer == 2
    encoder.undo()
    assert [a.tolist() for a in encoder.arrays()] == [a.tolist() for a in other.arrays()]


def test_examples_are_slices_of_flat_arrays(tokenizer):
    encoder, starts = Encoder(tokenizer), [0]
    for answer in ("a", "", "aa a"):
        encoder.add([(HEADER, "#\n"), (ANSWER, answer)])
        starts.append(len(encoder.ids))
    examples = Examples(*encoder.arrays(), np.array(starts), np.arange(3))
    assert len(examples) == 3
    assert examples.lengths.tolist() == [3, 2, 4]
    assert [len(ids) for ids, _ in examples] == [3, 2, 4]
    assert isinstance(examples[-1], Example)
    assert examples[-1].ids.tolist() == examples[2].ids.tolist() == tokenizer.encode("#\naa a")
    assert examples[2].supervised.tolist() == [False, False, True, True]
    assert examples.supervised.sum() == 3
    assert (examples.ids.dtype, examples.parts.dtype) == (np.int32, np.uint8)
    with pytest.raises(IndexError):
        examples[3]
