"""Plain text: every token is learned once, an end is only where we put it, no document is on two
sides, and a file that is no text says at which byte.
"""

import gzip
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpt.pretraining import TextError, cut, documents, encode_documents, load_text, split_and_cut
from gpt.textfile import CHUNK
from gpt.tokenizer import END, Tokenizer, learn_merges, tiny_vocabulary


@pytest.fixture(scope="module")
def bytewise() -> Tokenizer:
    """A token is a byte."""
    return Tokenizer(tiny_vocabulary([]))


@pytest.fixture
def text_file(tmp_path):
    def write(content: str | bytes, name: str = "a.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


# ---- documents -----------------------------------------------------------------------------

THREE = f"one\n\nmore of one\n{END}\ntwo\n{END}\n\nthree, to the end"


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "with a byte order mark"])
@pytest.mark.parametrize("zipped", [False, True])
def test_documents_are_the_same_however_the_file_is_written(text_file, newline, mark, zipped):
    data = (mark + THREE.replace("\n", newline)).encode()
    path = text_file(gzip.compress(data) if zipped else data)
    assert list(documents(path)) == ["one\n\nmore of one", "two", "three, to the end"]


def test_a_gzip_file_is_known_by_its_content_and_not_by_its_name(text_file):
    assert list(documents(text_file(b"plain", "a.txt.gz"))) == ["plain"]


def test_blank_documents_are_none(text_file):
    assert list(documents(text_file(""))) == []
    assert list(documents(text_file(f"{END}\n\n{END}\n \n\t\n{END}\nonly\n{END}\n{END}"))) == [
        "only"
    ]
    assert list(documents(text_file(f"last\n{END}"))) == ["last"]
    assert list(documents(text_file(f"last\n{END}\n"))) == ["last"]


@pytest.mark.parametrize(
    "line", [f"a {END} b", f" {END}", f"{END} ", f"{END}{END}", END.upper(), END[:-1], f"x{END}"]
)
def test_the_end_s_characters_end_nothing_unless_they_are_the_whole_line(text_file, line):
    assert list(documents(text_file(f"one\n{line}\ntwo"))) == [f"one\n{line}\ntwo"]


def test_in_a_text_they_are_ordinary_text_and_the_one_end_is_ours(text_file):
    tokenizer = Tokenizer(tiny_vocabulary(learn_merges(THREE, 20)))
    texts = list(documents(text_file(f"say {END} twice {END}!\n{END}\nthe next")))
    ids, starts = encode_documents(texts, tokenizer)
    ends = np.flatnonzero(ids == tokenizer.end_id)
    assert ends.tolist() == (starts[1:] - 1).tolist() and len(ends) == 2
    for text, start, end in zip(texts, starts, ends, strict=False):
        assert tokenizer.decode(ids[start:end].tolist()) == text


@pytest.mark.parametrize("n_before", [0, 10, 8191, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_byte_that_is_not_utf8_is_named_with_its_place_in_the_file(text_file, n_before, mark):
    data = mark + (b"line\n" * n_before)[:n_before]
    path = text_file(data + b"\xff rest\n")
    with pytest.raises(TextError) as caught:
        list(documents(path))
    told = f"{path}: not UTF-8: byte 0xff at offset {len(data)}; save the file as UTF-8"
    assert str(caught.value) == told


def test_other_faulty_files_say_what_they_are(text_file, tmp_path):
    zipped = gzip.compress(bytes(range(97, 120)) * 1000)
    damaged = bytearray(zipped)
    damaged[15] ^= 0xFF
    for content, said in (
        ("naïve".encode("latin-1") + b"\n", "not UTF-8: byte 0xef at offset 2"),
        (b"hello\xe2\x82", "not UTF-8: byte 0xe2 at offset 5"),
        ("hello".encode("utf-16"), "UTF-16"),
        (bytes(damaged), "damaged"),
        (zipped[:-9], "cut short"),
        (zipped[:2], "cut short"),
        (b"PK\x03\x04 and so on", "zip archive"),
    ):
        path = text_file(content)
        with pytest.raises(TextError, match=f"^{re.escape(str(path))}: .*{said}") as caught:
            list(documents(path))
        assert "\n" not in str(caught.value)
    for path in (tmp_path / "nowhere.txt", tmp_path):
        with pytest.raises(TextError, match=re.escape(str(path))):
            list(documents(path))


def test_characters_across_the_edges_of_what_is_read_at_once_stay_whole(text_file):
    text = ("ğ🙂\n" * (CHUNK // 5)).strip()
    for shift in range(4):
        assert list(documents(text_file("x" * shift + text))) == ["x" * shift + text]


# ---- rows ----------------------------------------------------------------------------------


@given(n=st.integers(0, 60), length=st.integers(2, 12))
def test_rows_overlap_by_one_so_that_each_id_but_the_first_is_a_target_once(n, length):
    ids = np.arange(n, dtype=np.int32)
    rows = cut(ids, length)
    n_rows = max(0, (n - 1) // length)  # what is left over would need a row of its own
    assert rows.ids.shape == (n_rows, length + 1)
    assert rows.ids[:, 1:].ravel().tolist() == list(range(1, n_rows * length + 1))
    assert rows.ids[:, :-1].ravel().tolist() == list(range(n_rows * length))
    assert rows.lengths.tolist() == [length] * n_rows


def test_a_batch_is_the_rows_shifted_by_one_with_every_target_counted():
    rows = cut(np.arange(41, dtype=np.int32), 8)
    batch = rows.batch([3, 0])
    assert batch.inputs.tolist() == [list(range(24, 32)), list(range(8))]
    assert batch.targets.tolist() == [list(range(25, 33)), list(range(1, 9))]
    assert batch.inputs.dtype == batch.targets.dtype == torch.int64
    assert batch.weights.dtype == torch.float32 and bool((batch.weights == 1).all())
    assert rows.n_supervised(np.array([3, 0])) == batch.weights.sum().item() == 16
    assert batch.documents is None and batch.positions is None


@given(
    sizes=st.lists(st.integers(1, 30), min_size=2, max_size=12),
    length=st.integers(2, 8),
    val_fraction=st.floats(0, 0.99),
)
def test_each_document_is_on_one_side_whole_and_in_order(sizes, length, val_fraction):
    # Token 100 d + i is the i-th of document d: where each came from can be read off.
    ids = np.concatenate([100 * d + np.arange(n) for d, n in enumerate(sizes)]).astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    sides = split_and_cut(ids, starts, length, val_fraction)
    seen = [set((side.ids // 100).ravel().tolist()) for side in sides]
    assert not seen[0] & seen[1]
    for side in sides:
        stream = np.append(side.ids[:, :-1].ravel(), side.ids[-1:, -1])
        of_side = ids[np.isin(ids // 100, stream // 100)]
        first = int(np.flatnonzero(of_side == stream[0])[0]) if len(stream) else 0
        assert stream.tolist() == of_side[first : first + len(stream)].tolist() and first == 0


def test_a_side_has_its_share_of_documents_and_no_side_has_all():
    def held_out(n: int, val_fraction: float) -> int:
        ids, starts = np.repeat(np.arange(n, dtype=np.int32), 9), 9 * np.arange(n + 1)
        train, validation = split_and_cut(ids, starts, 2, val_fraction)
        shares = len(set(train.ids.ravel().tolist())), len(set(validation.ids.ravel().tolist()))
        assert sum(shares) == n
        return shares[1]

    assert [held_out(100, share) for share in (0.05, 0.1, 0.5)] == [5, 10, 50]
    assert held_out(3, 0.01) == 1  # at least one, or there would be no validation at all
    assert (held_out(3, 0.99), held_out(2, 0.9)) == (2, 1)
    assert held_out(10, 0.0) == 0  # refused later, as without validation there is no best model


def test_who_is_held_out_does_not_depend_on_the_length_of_rows_or_on_the_text(bytewise):
    def held_out(texts: list[str], length: int) -> set[int]:
        ids, starts = encode_documents(texts, bytewise)
        validation = split_and_cut(ids, starts, length, 0.2)[1]
        return set(validation.ids.ravel().tolist()) - {bytewise.end_id}

    texts = [chr(97 + i) * 20 for i in range(20)]
    assert held_out(texts, 2) == held_out(texts, 5)
    assert len(held_out(texts, 2)) == 4
    others = [chr(65 + i) * 33 for i in range(20)]
    assert {i - 65 for i in held_out(others, 4)} == {i - 97 for i in held_out(texts, 2)}


def test_a_single_document_is_cut_in_two():
    ids, starts = np.arange(1000, dtype=np.int32), np.array([0, 1000])
    train, validation = split_and_cut(ids, starts, 9, 0.1)
    assert train.ids.max() < 900 <= validation.ids.min()
    assert (len(train.ids), len(validation.ids)) == ((900 - 1) // 9, (100 - 1) // 9)


# ---- all of it -----------------------------------------------------------------------------


def test_files_come_in_their_order_and_what_they_hold_is_said(text_file, bytewise):
    first = text_file(f"aaaa\n{END}\nbbbb", "1.txt")
    second = text_file("cccc", "2.txt")
    said = []
    train, validation = load_text([second, first], bytewise, 2, 0.34, said.append)
    learned = np.append(train.ids[:, :-1].ravel(), train.ids[-1, -1])
    checked = validation.ids.ravel()
    everything = set(learned.tolist()) | set(checked.tolist())
    assert everything - {bytewise.end_id} == set(map(ord, "abc"))
    assert said == [
        f"{second}, {first}: 3 documents, 15 tokens with an end after each",
        f"rows of 2: {len(train.ids)} to train on, {len(validation.ids)} to validate",
    ]


@pytest.mark.parametrize(
    ("text", "length", "val_fraction", "side"),
    [
        ("", 8, 0.1, "training"),
        ("short", 8, 0.1, "training"),
        ("a text of some length, cut in two", 16, 0.1, "validation"),
        (f"a text of some length\n{END}\nshort", 16, 0.1, "(training|validation)"),
        ("a text of some length, cut in two", 8, 0.0, "validation"),
        ("a text of some length, cut in two", 8, 0.99, "training"),
    ],
)
def test_too_little_text_for_a_row_names_the_side_and_what_helps(
    text_file, bytewise, text, length, val_fraction, side
):
    path = text_file(text)
    with pytest.raises(TextError, match=f"leave {side} without one row of {length}: ") as caught:
        load_text([path], bytewise, length, val_fraction)
    assert str(path) in str(caught.value) and "--max-length" in str(caught.value)
