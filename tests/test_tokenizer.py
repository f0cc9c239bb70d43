"""The tokenizer against its two models, tiktoken's gpt2 and the tokenizers library, and its files.

All vocabularies but GPT-2's own are made here; the tests that compare with GPT-2's need ../shared.
"""

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpt.byte_alphabet import ALPHABET, spell
from gpt.tokenizer import (
    END,
    StreamDecoder,
    Tokenizer,
    TokenizerError,
    learn_merges,
    read_vocabulary,
    tiny_vocabulary,
    vocabulary_files,
)

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"
CORPUS = (
    "Talimat, İngilizce'de instruction demektir; şu çığlığı duydun mu? Ağaçların gölgesinde otur. "
    "We'll say it's what they've said: 3.14159 and 2024, 1000s of them!  def f(x):\n    return x\n"
    "🙂🙃👩‍👩‍👧 日本語のテキスト, наступна інструкція\n\n### Response:\n"
) * 3

tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers library is the reference")
from tokenizers import Tokenizer as Library  # noqa: E402
from tokenizers import models, pre_tokenizers, trainers  # noqa: E402

SNIPPETS = [
    *("the ", "instruction", " it's", "we'll", "'s", "'S", "şu çığlığı ", "İstanbul", "ağaç", "ı"),
    *(" ", "  ", "\n", "\n\n", "\t", "\r\n", "\x00", "\x1c", "\x7f", "\x85", "\xa0", "\u3000"),
    *("🙂", "👩‍👩‍👧", "🇹🇷", "e\u0301", "日本語", "٣", "½", "\u200b", "\ufeff", "\ufffd"),
    *("def f(x):\n    return x\n", "{}", "!=", "#", "# #", "--", "1234", "3.14", "<|endoftext|>"),
    *("<pad>", "<extra>", "<extra>s", "\ud800", "\udc00", "\ud83d\ude42", "aaaa", "^" * 300),
    "\U0010ffff",
]
LONG_SPACE = " \t" * 510_000


def make_texts(seed: int, n: int, snippets: list[str] = SNIPPETS) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices(snippets, k=rng.randint(0, 12))) for _ in range(n)]


WHOLE_TEXTS = make_texts(7, 300, [s for s in SNIPPETS if not re.search("[\ud800-\udfff]", s)])


@pytest.fixture(scope="module")
def tiny() -> Tokenizer:
    return Tokenizer(tiny_vocabulary(learn_merges(CORPUS, 200)))


@pytest.fixture(scope="module")
def trained() -> dict:
    """The `tokenizer.json` of a byte-level BPE that the library trained, its end token at id 0."""
    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[END, "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator([CORPUS], trainer)
    return json.loads(library.to_str())


def shuffled(fields: dict, seed: int = 0) -> dict:
    """The same tokenizer with its ids in another order; id 0 stays."""
    vocab = fields["model"]["vocab"]
    ids = list(range(1, len(vocab)))
    random.Random(seed).shuffle(ids)
    vocab = dict(zip(sorted(vocab, key=vocab.get), [0, *ids], strict=True))
    added = [token | {"id": vocab[token["content"]]} for token in fields["added_tokens"]]
    return fields | {"model": fields["model"] | {"vocab": vocab}, "added_tokens": added}


def added(id: int, text: str, **flags: bool) -> dict:
    row = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"id": id, "content": text} | row | flags


def as_files(fields: dict, **more: dict) -> dict[str, bytes]:
    files = {"tokenizer.json": json.dumps(fields).encode()}
    return files | {f"{name}.json": json.dumps(value).encode() for name, value in more.items()}


def assert_equals_library(fields: dict, texts: list[str]) -> None:
    library = Library.from_str(json.dumps(fields))
    library.encode_special_tokens = True  # a text is ordinary text
    ours = Tokenizer(as_files(fields))
    for text in texts:
        assert ours.encode(text) == library.encode(text).ids, text
        assert ours.decode(ours.encode(text)) == text


# Against GPT-2's own


@pytest.fixture(scope="module")
def gpt2() -> Tokenizer:
    if not (SHARED / "gpt2" / "encoder.json").exists():
        pytest.skip("../shared/gpt2 with GPT-2's vocabulary is not there")
    return Tokenizer.from_folder(SHARED / "gpt2")


def test_equals_tiktokens_gpt2_on_a_thousand_texts(gpt2, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(SHARED / "tiktoken-cache"))
    theirs = tiktoken.get_encoding("gpt2")
    assert (gpt2.n_vocab, gpt2.end_id) == (theirs.n_vocab, theirs.eot_token)
    for text in make_texts(0, 1000):
        ids = gpt2.encode(text)
        assert ids == theirs.encode(text, disallowed_special=()), text
        assert gpt2.decode(ids) == theirs.decode(ids)


# Against the tokenizers library


def test_equals_the_library_on_a_trained_vocabulary(trained):
    assert_equals_library(trained, WHOLE_TEXTS)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_equals_the_library_with_ids_in_any_order(trained, seed):
    assert_equals_library(shuffled(trained, seed), WHOLE_TEXTS)


def test_equals_the_library_with_added_tokens(trained):
    n = len(trained["model"]["vocab"])
    fields = shuffled(trained)
    fields["added_tokens"] += [
        added(n, "<extra>"),
        added(n + 1, "<extra>s", normalized=True),
        added(n + 2, "extra>s the"),
        added(n + 3, "<|", normalized=True),
        added(n + 4, "şu", special=True, lstrip=True),
        added(n + 5, "u çı"),
        added(n + 6, "<extra>s the"),
        added(fields["model"]["vocab"]["a"], "a"),
        added(fields["model"]["vocab"]["in"], "in", normalized=True),
    ]
    snippets = ["<extra>s the", "şu çığlığı", "<|endoftext|>", "ağaç", "<", "the", " ", "<pad>"]
    assert_equals_library(fields, WHOLE_TEXTS + make_texts(3, 300, snippets))


@st.composite
def merge_lists(draw) -> list[tuple[str, str]]:
    """Pairs that no training would list: parts after wholes, ways to a token twice, dead ends."""
    tokens, merges = ["a", "b", "c"], []
    for _ in range(draw(st.integers(1, 14))):
        a, b = draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens))
        if len(a + b) <= 9:
            merges.append((a, b))
            tokens.append(a + b)
    return draw(st.permutations(merges)) if draw(st.booleans()) else merges


@settings(max_examples=150, deadline=None)
@given(merge_lists(), st.lists(st.text("abc", max_size=40), max_size=8), st.randoms())
@example(
    merges=[tuple(pair.split()) for pair in ("a b", "ab c", "c d", "a b", "abc d")],
    texts=["abcd", "abcabcd"],
    rng=random.Random(0),
)
def test_equals_the_library_for_any_list_of_merges(merges, texts, rng):
    tokens = [*ALPHABET, *dict.fromkeys(a + b for a, b in merges), END]
    ids = list(range(len(tokens)))
    rng.shuffle(ids)
    vocab = dict(zip(tokens, ids, strict=True))
    library = Library(models.BPE(vocab=vocab, merges=merges))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ours = Tokenizer(vocabulary_files(vocab, merges))
    long = "".join(rng.choices("abc", k=700))  # tiktoken joins long pieces in another way
    for text in [*texts, *tokens[256:-1], long]:
        assert ours.encode(text) == library.encode(text).ids, text


def test_the_pieces_are_the_librarys_for_every_kind_of_character():
    """A vocabulary in which each piece is one token shows where the pieces begin."""
    characters = [chr(c) for c in range(0x3100) if chr(c) != "a"] + list("🙂𝟙ｶ０\U000e0001\ue000")
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    texts = [f"{before}{char}" for char in characters for before in ("a", "1", "!", "\n")]
    merges = {}
    for text in texts:
        data = [ALPHABET[byte] for byte in text.encode()]
        for end in range(2, len(data) + 1):
            merges["".join(data[: end - 1]), data[end - 1]] = None
    ours = Tokenizer(tiny_vocabulary(list(merges)))
    for text in texts:
        assert (len(ours.encode(text)) == 1) == (len(splitter.pre_tokenize_str(text)) == 1), text


def test_a_pair_listed_twice_counts_where_it_stands_last():
    tokenizer = Tokenizer(tiny_vocabulary([("a", "b"), ("b", "c"), ("a", "b")]))
    assert [tokenizer.token_bytes(id) for id in tokenizer.encode("abc")] == [b"a", b"bc"]


# What a text is


def test_every_text_comes_back(tiny):
    for text in WHOLE_TEXTS:
        assert tiny.decode(tiny.encode(text)) == text


def test_the_end_token_in_a_text_is_thirteen_characters(tiny, trained):
    for tokenizer in (tiny, Tokenizer(as_files(trained)), Tokenizer(as_files(shuffled(trained)))):
        ids = tokenizer.encode(f"a{END}b{END}")
        assert tokenizer.end_id not in ids
        assert tokenizer.decode(ids) == f"a{END}b{END}"
        assert tokenizer.decode([tokenizer.end_id]) == END


def test_half_a_surrogate_pair_is_read_as_the_replacement_character(tiny, trained):
    n = len(trained["model"]["vocab"])
    trained = trained | {"added_tokens": [*trained["added_tokens"], added(n, "<extra>")]}
    for tokenizer in (tiny, Tokenizer(as_files(trained))):
        for text, read in [("a\ud800b", "a\ufffdb"), ("\udc00", "\ufffd"), ("\ud83d\ude42", "🙂")]:
            assert tokenizer.encode(text) == tokenizer.encode(read)


def test_added_tokens_that_are_special_are_never_found_in_a_text(trained):
    n = len(trained["model"]["vocab"])
    trained = trained | {"added_tokens": [*trained["added_tokens"], added(n, "<extra>")]}
    for config in ({"pad_token": "<extra>"}, {"additional_special_tokens": ["<extra>"]}):
        for name in ("tokenizer_config", "special_tokens_map"):
            assert n not in Tokenizer(as_files(trained, **{name: config})).encode("<extra>")
    assert Tokenizer(as_files(trained)).encode("<extra>") == [n]


@pytest.mark.parametrize("unit", ["a", "^", " ", "\n", "\xa0", "🙂", "ğ1 "])
def test_a_megabyte_of_one_thing_is_encoded(tiny, unit):
    for text in (unit * (10**6 // len(unit.encode())), unit * 10**5 + "a"):
        assert tiny.decode(tiny.encode(text)) == text


def test_a_run_of_white_space_too_long_for_tiktoken_is_cut_where_pieces_are():
    merges = [("Ġ", "a"), ("ĉ", "Ġ"), ("ĉ", "a"), ("ĉĠ", "ĉĠ")]
    files = tiny_vocabulary(merges)
    library = Library(models.BPE(vocab=json.loads(files["vocab.json"]), merges=merges))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = Tokenizer(files)
    for text in (LONG_SPACE, f"b{LONG_SPACE}a\n", f" {LONG_SPACE} b {LONG_SPACE}"):
        assert tokenizer.encode(text) == library.encode(text).ids


# Ids to text


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_stream_is_what_decode_gives_for_any_ids(tiny, data):
    of_an_emoji = st.sampled_from([0xF0, 0x9F, 0x99, 0x82])
    ids = data.draw(st.lists(st.integers(0, tiny.n_vocab - 1) | of_an_emoji))
    stream = StreamDecoder(tiny)
    assert "".join(map(stream.push, ids)) + stream.flush() == tiny.decode(ids)


def test_a_stream_never_shows_half_a_character(tiny):
    for text in ("🙂👩‍👩‍👧", "日本語", "çığlık"):
        stream = StreamDecoder(tiny)
        shown = [stream.push(byte) for byte in map(ALPHABET.index, spell(text.encode()))]
        assert "".join(shown) == text
        assert set(shown) <= {"", *text}
        assert stream.flush() == ""


def test_an_id_without_a_token_is_refused_by_number(tiny):
    with pytest.raises(TokenizerError, match=f"id 9999 .*is {tiny.n_vocab}"):
        tiny.decode([1, 9999])
    with pytest.raises(TokenizerError, match="id -1 "):
        tiny.token_bytes(-1)


# Folders


def transformers_ids(folder: Path, texts: list[str]) -> list[list[int]]:
    transformers = pytest.importorskip("transformers", reason="transformers is the reference")
    AutoTokenizer = transformers.AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder, split_special_tokens=True)
    return [theirs(text, add_special_tokens=False).input_ids for text in texts]


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


OPENAI_NAMES = {"vocab.json": "encoder.json", "merges.txt": "vocab.bpe"}


@pytest.mark.parametrize("kind", ["vocab and merges", "OpenAI's names", "tokenizer.json"])
def test_transformers_opens_what_was_saved(tmp_path, tiny, trained, kind):
    files = as_files(shuffled(trained)) if kind == "tokenizer.json" else tiny.files
    if kind == "OpenAI's names":
        files = {OPENAI_NAMES[name]: data for name, data in files.items()}
    ours = Tokenizer.from_folder(write(tmp_path / "model", files))
    ours.save(tmp_path / "saved")
    saved = {path.name for path in (tmp_path / "saved").iterdir()}
    assert saved >= {"vocab.json", "merges.txt", "tokenizer_config.json"}
    expected = [ours.encode(text) for text in WHOLE_TEXTS]
    assert transformers_ids(tmp_path / "saved", WHOLE_TEXTS) == expected
    again = Tokenizer.from_folder(tmp_path / "saved")
    assert [again.encode(text) for text in WHOLE_TEXTS] == expected
    assert (again.files, again.end_id) == (ours.files, ours.end_id)


def test_the_vocabulary_made_from_a_tokenizer_json_encodes_like_it(tmp_path, trained):
    files = read_vocabulary(write(tmp_path / "model", as_files(shuffled(trained))))
    whole = Tokenizer(files)
    files.pop("tokenizer.json")
    parts = Tokenizer(files)
    assert [parts.encode(text) for text in WHOLE_TEXTS] == [whole.encode(t) for t in WHOLE_TEXTS]


@pytest.mark.parametrize("older", [False, True])
def test_added_tokens_beside_vocab_and_merges_are_transformers_own(tmp_path, tiny, older):
    n = tiny.n_vocab
    if older:
        more = {"added_tokens.json": {"<extra>": n, "<pad>": n + 1}}
        more |= {"special_tokens_map.json": {"pad_token": "<pad>", "eos_token": END}}
        more |= {"tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer"}}
    else:
        rows = {str(n + 1): added(n + 1, "<pad>", special=True), str(n): added(n, "<extra>")}
        for row in rows.values():
            row.pop("id")
        config = {"tokenizer_class": "GPT2Tokenizer", "pad_token": "<pad>"}
        more = {"tokenizer_config.json": config | {"added_tokens_decoder": rows}}
    files = tiny.files | {name: json.dumps(fields).encode() for name, fields in more.items()}
    ours = Tokenizer.from_folder(write(tmp_path / "model", files))
    assert (ours.n_vocab, ours.encode("<extra>")) == (n + 2, [n])
    texts = [text for text in WHOLE_TEXTS if "<extra>" in text or "<pad>" in text]
    assert transformers_ids(tmp_path / "model", texts) == [ours.encode(text) for text in texts]


def test_a_folders_files_are_kept_byte_for_byte(tmp_path):
    files = {"vocab.json": b"not JSON", "merges.txt": b"\r\n", "tokenizer.json": b"\xff"}
    files |= {"tokenizer_config.json": b"{}", "special_tokens_map.json": b" "}
    files |= {"added_tokens.json": b""}
    folder = write(tmp_path / "model", files | {"generation_config.json": b"{}"})
    assert read_vocabulary(folder) == files


def test_a_folder_without_a_vocabulary_gives_none(tmp_path):
    folder = write(tmp_path / "model", {"tokenizer_config.json": b"{}", "merges.txt": b""})
    assert read_vocabulary(folder) == {} == read_vocabulary(tmp_path / "nowhere")
    with pytest.raises(TokenizerError, match="no vocabulary here"):
        Tokenizer.from_folder(folder)


def test_weights_load_beside_a_tokenizer_that_is_not_ours(tmp_path):
    files = {"tokenizer.json": b'{"model": {"type": "Unigram"}}'}
    kept = read_vocabulary(write(tmp_path / "model", files))
    assert kept.keys() == {*files, "tokenizer_config.json"}


def test_the_end_token_is_the_one_that_the_folder_names(trained):
    pad = trained["model"]["vocab"]["<pad>"]
    for value in ("<pad>", {"content": "<pad>", "lstrip": False}):
        for name in ("tokenizer_config", "special_tokens_map"):
            assert Tokenizer(as_files(trained, **{name: {"eos_token": value}})).end_id == pad
    assert Tokenizer(as_files(trained)).end_id == 0


def test_windows_line_ends_and_a_merge_of_number_signs_are_read():
    files = tiny_vocabulary([("#", "#"), ("a", "b")])
    files["merges.txt"] = files["merges.txt"].replace(b"\n", b"\r\n")
    assert Tokenizer(files).encode("##ab") == [256, 257]
    files["merges.txt"] = b"# #\na b"
    assert Tokenizer(files).encode("##ab") == [256, 257]


# Refusals

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"type": "WordPiece"}}, "model.type is 'WordPiece'"),
        ({"model": {"dropout": 0.1}}, "model.dropout is 0.1"),
        ({"model": {"continuing_subword_prefix": "##"}}, "model.continuing_subword_prefix"),
        ({"model": {"end_of_word_suffix": "</w>"}}, "model.end_of_word_suffix"),
        ({"model": {"byte_fallback": True}}, "model.byte_fallback is True"),
        ({"model": {"ignore_merges": True}}, "model.ignore_merges is True"),
        ({"model": {"vocab": [["a", 0]]}}, "model.vocab: expected an object"),
        ({"model": {"merges": {}}}, "model.merges: expected a list"),
        ({"model": {"merges": ["a"]}}, "merge 1: a merge is two tokens"),
        ({"model": {"merges": [["a", 1]]}}, "merge 1: a merge is two tokens"),
        ({"model": {"merges": [["a", ""]]}}, "merge 1: a merge is two tokens"),
        ({"model": {"merges": ["q qqq"]}}, "merge 1: merges 'q' and 'qqq', and 'qqq' is no"),
        ({"model": None}, "model: expected an object"),
        ({"normalizer": {"type": "NFC"}}, "normalizer is .*NFC"),
        ({"pre_tokenizer": None}, "pre_tokenizer is None"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "pre_tokenizer is .*Whitespace"),
        ({"pre_tokenizer": BYTE_LEVEL | {"add_prefix_space": True}}, "pre_tokenizer is"),
        ({"pre_tokenizer": BYTE_LEVEL | {"use_regex": False}}, "pre_tokenizer is"),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [BYTE_LEVEL] * 2}}, "pre_tok"),
        ({"decoder": {"type": "Metaspace"}}, "decoder is .*Metaspace"),
        ({"added_tokens": 3}, "added_tokens: expected a list"),
        ({"added_tokens": [added(402, "<new>")]}, "'<new>': has id 402, .* id 400"),
        ({"added_tokens": [added(3, "<new>")]}, "'<new>': id 3 belongs to another token"),
        ({"added_tokens": [added(10**12, "<new>")]}, "'<new>': an id is a whole number below"),
        ({"added_tokens": [added(400, "<new>", rstrip=True)]}, "'<new>': rstrip is true"),
        ({"added_tokens": [added(400, "<new>", single_word=True)]}, "single_word is true"),
        ({"added_tokens": [added(400, "")]}, "a token is one or more whole characters"),
        ({"added_tokens": [added(400, "\ud800")]}, "a token is one or more whole characters"),
        ({"added_tokens": [added(400, "a", special="yes")]}, "expected true or false"),
    ],
)
def test_a_tokenizer_json_that_encodes_otherwise_is_refused_by_field(trained, change, message):
    assert len(trained["model"]["vocab"]) == 400
    if type(change.get("model")) is dict:
        change = {"model": trained["model"] | change["model"]}
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: .*" + message):
        Tokenizer(as_files(trained | change), "folder")


def test_a_sequence_of_one_and_no_decoder_are_gpt2s_too(trained):
    change = {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [BYTE_LEVEL]}, "decoder": None}
    assert_equals_library(trained | change, WHOLE_TEXTS[:50])


VOCAB = json.loads(tiny_vocabulary([("a", "b")])["vocab.json"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.json", "{", "vocab.json: not readable as JSON"),
        ("vocab.json", "[" * 100_000, "vocab.json: not readable as JSON"),
        ("vocab.json", "[]", "vocab.json: expected an object"),
        ("vocab.json", "{}", "256 of the 256 bytes have no token: 0x00, "),
        ("vocab.json", {k: v for k, v in VOCAB.items() if k != "a"}, "1 of the 256.*token: 0x61"),
        ("vocab.json", VOCAB | {"ab": 10**12}, "'ab': an id is a whole number below"),
        ("vocab.json", VOCAB | {"ab": -1}, "'ab': an id is a whole number .* not -1"),
        ("vocab.json", VOCAB | {"ab": 256.0}, "'ab': an id is a whole number .* not 256.0"),
        ("vocab.json", VOCAB | {"ab": True}, "'ab': an id is a whole number .* not True"),
        ("vocab.json", VOCAB | {"ab": "256"}, "'ab': an id is a whole number .* not '256'"),
        ("vocab.json", VOCAB | {"ab": 0}, "'Ā' and 'ab' have one id, 0"),
        ("vocab.json", VOCAB | {"\ud800": 999}, "one or more whole characters"),
        ("vocab.json", b"\xff", "vocab.json: byte 0: not UTF-8"),
        ("merges.txt", b"a b\n\xff", "merges.txt: byte 4: not UTF-8"),
        ("merges.txt", "#version: 0.2\na b\nb c\n", "merges.txt:3: merges 'b' and 'c', and 'bc'"),
        ("merges.txt", "a b\na bc\n", "merges.txt:2: merges 'a' and 'bc', and 'bc'"),
        ("merges.txt", "a b c\n", "merges.txt:1: a merge is two tokens"),
        ("merges.txt", "a b\n\na b\n", "merges.txt:2: a merge is two tokens"),
        ("tokenizer_config.json", {"add_prefix_space": True}, "add_prefix_space is True"),
        ("tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer"}, "tokenizer_class is 'CLIP"),
        ("tokenizer_config.json", {"eos_token": "</s>"}, "end token is '</s>' and .* no such"),
        ("tokenizer_config.json", {"eos_token": "ab"}, "end token is 'ab', and a text can hold it"),
        ("tokenizer_config.json", {"eos_token": "a"}, "end token is 'a', and a text can hold it"),
        ("tokenizer_config.json", {"eos_token": 3}, "eos_token: expected a text, found 3"),
        ("tokenizer_config.json", {"added_tokens_decoder": []}, "decoder: expected an object"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": {"content": "y"}}}, "an id is"),
        ("special_tokens_map.json", "3", "special_tokens_map.json: expected an object"),
        ("added_tokens.json", {"<new>": 300}, "added_tokens.json: '<new>': has id 300, .* id 258"),
        ("added_tokens.json", {"<new>": None}, "added_tokens.json: '<new>': an id is"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_by_name(tmp_path, name, content, message):
    if type(content) is not bytes:
        content = (content if type(content) is str else json.dumps(content)).encode()
    folder = write(tmp_path / "model", tiny_vocabulary([("a", "b")]) | {name: content})
    with pytest.raises(TokenizerError, match=message) as refusal:
        Tokenizer.from_folder(folder)
    assert str(folder) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_complaint_names_openais_file_where_that_is_the_one(tmp_path):
    folder = write(tmp_path / "model", {"encoder.json": b"{", "vocab.bpe": b"\n"})
    with pytest.raises(TokenizerError, match=r"encoder\.json: not readable as JSON"):
        Tokenizer.from_folder(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)
FIELDS = ("model", "type", "vocab", "merges", "added_tokens", "content", "id", "pre_tokenizer")
FIELDS += ("decoder", "special", "eos_token", "added_tokens_decoder", "additional_special_tokens")


def spoil(value: object, path: list[int], replacement: object) -> object:
    """The value with something inside it replaced: each step of the path goes one level down."""
    if path and isinstance(value, dict) and value:
        key = list(value)[path[0] % len(value)]
        return value | {key: spoil(value[key], path[1:], replacement)}
    if path and isinstance(value, list) and value:
        i = path[0] % len(value)
        return [*value[:i], spoil(value[i], path[1:], replacement), *value[i + 1 :]]
    return replacement


@settings(max_examples=400, deadline=None)
@given(
    name=st.sampled_from(["tokenizer", "tokenizer_config", "special_tokens_map", "added_tokens"]),
    path=st.lists(st.integers(0, 300), max_size=4),
    replacement=JSON | st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4),
    text=st.text(max_size=20),
)
def test_spoilt_fields_give_only_the_tokenizers_own_error(trained, name, path, replacement, text):
    rows = {"1": added(1, "<pad>", special=True)}
    config = {"eos_token": {"content": END}, "added_tokens_decoder": rows}
    files = as_files(trained, tokenizer_config=config, special_tokens_map={"pad_token": "<pad>"})
    files |= as_files(trained, added_tokens={"<pad>": 1})
    spoilt = spoil(json.loads(files.get(f"{name}.json", b"{}")), path, replacement)
    files[f"{name}.json"] = json.dumps(spoilt).encode()
    if path[:1] == [0]:
        files.pop("tokenizer_config.json")
    try:
        tokenizer = Tokenizer(files)
    except TokenizerError:
        return
    assert tokenizer.end_id not in tokenizer.encode(text)


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(["vocab.json", "merges.txt", "tokenizer_config.json"]),
    at=st.integers(0, 5000),
    junk=st.binary(max_size=6),
    cut=st.booleans(),
)
def test_spoilt_bytes_give_only_the_tokenizers_own_error(name, at, junk, cut):
    files = tiny_vocabulary([("a", "b"), ("ab", "c")])
    files["tokenizer_config.json"] = b'{"eos_token": "<|endoftext|>", "add_prefix_space": false}'
    data, at = files[name], at % len(files[name])
    files[name] = data[:at] + junk + (b"" if cut else data[at + 1 :])
    try:
        Tokenizer(files).encode("abc")
    except TokenizerError as error:
        assert len(str(error)) < 500


# The worked example


def test_the_worked_example_is_quick_and_the_same_each_time():
    command = [sys.executable, "-X", "utf8", "-m", "gpt.tokenizer"]
    runs = [subprocess.run(command, cwd=REPOSITORY, capture_output=True) for _ in range(2)]
    shown = runs[0].stdout.decode()
    assert runs[0].returncode == 0 and runs[0].stdout == runs[1].stdout
    assert "a + t -> at" in shown and "'🐈'" in shown
