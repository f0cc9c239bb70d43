"""The fast way of learning merges is the plain one; the vocabulary reads and writes any text."""

import json
import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt import bpe
from gpt.bpe import VocabularyError, count_pieces, frequent_merges, train_vocabulary
from gpt.tokenizer import Tokenizer, learn_merges

plain_texts = st.lists(st.text("aab", min_size=1, max_size=9), min_size=1, max_size=20).map(
    " ".join
)
any_texts = st.lists(st.text(max_size=40), max_size=5)


def stories(n: int, n_words: int = 300, seed: int = 0) -> list[str]:
    """Texts with a few hundred words, some of them much more frequent than others."""
    source = random.Random(seed)
    words = [
        "".join(source.choices("etaoinshrdlu", k=source.randint(1, 8))) for _ in range(n_words)
    ]
    weights = [1 / (rank + 1) for rank in range(n_words)]
    return [" ".join(source.choices(words, weights, k=30)) + ".\n" for _ in range(n)]


@given(plain_texts, st.integers(0, 60))
def test_the_merges_are_those_of_the_plain_algorithm(text, n):
    plain = learn_merges(text, 200)  # cuts words at single spaces, as these texts have them
    assert frequent_merges(count_pieces([text]), n) == plain[:n]
    assert len({a + b for a, b in plain}) == len(plain)  # no two of them make the same token


def test_the_merges_are_those_of_the_plain_algorithm_on_longer_texts():
    text = " ".join(stories(20)).replace("\n", "").replace(".", "")
    assert frequent_merges(count_pieces([text]), 300) == learn_merges(text, 300)


def test_every_merge_is_of_a_most_frequent_pair():
    pieces = count_pieces(stories(30))
    words = [([*piece.replace(" ", "Ġ").replace("\n", "Ċ")], n) for piece, n in pieces.items()]
    for merge in frequent_merges(pieces, 200):
        pairs = Counter()
        for word, n in words:
            for pair in pairwise(word):
                pairs[pair] += n
        assert pairs[merge] == max(pairs.values())
        words = [(bpe.join_all(word, *merge), n) for word, n in words]


@pytest.mark.parametrize("vocab_size", [257, 258, 300, 800])
def test_the_vocabulary_has_exactly_the_size_that_was_asked_for(vocab_size):
    files = train_vocabulary(stories(100), vocab_size)
    assert Tokenizer(files).n_vocab == vocab_size
    assert sorted(json.loads(files["vocab.json"]).values()) == list(range(vocab_size))


@given(any_texts, st.integers(257, 290), st.text())
def test_any_text_comes_back_from_any_vocabulary(texts, vocab_size, text):
    try:
        tokenizer = Tokenizer(train_vocabulary(texts, vocab_size))
    except VocabularyError as error:
        assert "too little text" in str(error)
        return
    for one in [text, *texts, "🐈‍⬛ ğüşiöç \x00\r\n\t 漢字 <|endoftext|>"]:
        assert tokenizer.decode(tokenizer.encode(one)) == one
        assert tokenizer.end_id not in tokenizer.encode(one)


def test_half_a_surrogate_pair_is_learned_as_the_tokenizer_reads_it():
    files = train_vocabulary(["\ud83d\ud83d\ud83d"], 260)
    tokenizer = Tokenizer(files)
    assert len(tokenizer.encode("\ud83d")) == 1
    assert tokenizer.decode(tokenizer.encode("\ud83d")) == "\ufffd"


def test_neither_the_order_nor_the_cutting_of_the_texts_makes_a_difference():
    texts = stories(60)
    files = train_vocabulary(texts, 400)
    assert train_vocabulary(reversed(texts), 400) == files
    assert train_vocabulary(["".join(texts)], 400) == files


@given(st.text("ab' \n\t\xa0\u3000\x1c1.é漢"), st.integers(1, 9))
def test_a_long_text_is_cut_only_where_its_pieces_are(text, part):
    whole = bpe._PIECES.findall(text)
    assert "".join(whole) == text
    kept, bpe._PART = bpe._PART, part
    try:
        parts = list(bpe._parts(text))
        assert [piece for one in parts for piece in bpe._PIECES.findall(one)] == whole
        assert count_pieces([text]) == Counter(whole)
    finally:
        bpe._PART = kept


@pytest.mark.parametrize("vocab_size", [-1, 0, 256])
def test_a_vocabulary_without_room_for_the_bytes_is_refused(vocab_size):
    with pytest.raises(VocabularyError, match=f"a vocabulary of {vocab_size} is too small"):
        train_vocabulary(["a text"], vocab_size)


@pytest.mark.parametrize("texts", [[], [""], ["a"], ["ab"], ["ab " * 1000]])
def test_too_little_text_is_refused_and_the_message_names_the_size_that_works(texts):
    with pytest.raises(VocabularyError) as error:
        train_vocabulary(texts, 300)
    assert "\n" not in str(error.value)
    most = int(str(error.value).split("with ")[1].split()[0])
    assert Tokenizer(train_vocabulary(texts, most)).n_vocab == most
    with pytest.raises(VocabularyError):
        train_vocabulary(texts, most + 1)


def test_each_further_token_shortens_the_text_it_was_learned_from():
    texts = stories(50)
    tokenizers = [Tokenizer(train_vocabulary(texts, size)) for size in (257, 300, 400, 600)]
    lengths = [sum(len(one.encode(text)) for text in texts) for one in tokenizers]
    assert lengths == sorted(lengths, reverse=True) and lengths[0] > 2 * lengths[-1]


# ---- the peer --------------------------------------------------------------------------------


@pytest.fixture
def tokenizers():
    return pytest.importorskip("tokenizers", reason="the peer that trains the same kind of merges")


@given(st.text("ab' \n\t\xa0\u3000\u20281½.é漢🐈İ\u0301"))
def test_the_pieces_are_those_of_the_peer(text):
    tokenizers = pytest.importorskip("tokenizers", reason="the peer that cuts the same pieces")
    byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs = [text[start:stop] for _, (start, stop) in byte_level.pre_tokenize_str(text)]
    assert bpe._PIECES.findall(text) == theirs


def trained_by_peer(tokenizers, texts: list[str], vocab_size: int) -> list[tuple[str, str]]:
    peer = tokenizers.Tokenizer(tokenizers.models.BPE())
    peer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size - 1,  # it has no end token
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    peer.train_from_iterator(texts, trainer)
    merges = json.loads(peer.to_str())["model"]["merges"]
    return [
        tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in merges
    ]


def test_the_peer_learns_the_same_merges_where_no_two_pairs_are_equally_frequent(tokenizers):
    words = {"ab": 50, "abc": 41, "abcd": 23, "abcde": 11, "xy": 37, "xyz": 19}
    texts = [" ".join([word] * n) for word, n in words.items()]
    ours = frequent_merges(count_pieces(texts), 8)
    assert trained_by_peer(tokenizers, texts, 257 + 8) == ours and len(ours) == 8


def test_the_peer_needs_as_many_tokens_for_the_text_give_or_take_a_hundredth(tokenizers):
    texts = stories(300, n_words=1000)
    ours = Tokenizer(train_vocabulary(texts, 800))
    merges = trained_by_peer(tokenizers, texts, 800)
    theirs = Tokenizer(bpe.tiny_vocabulary(merges))
    assert theirs.n_vocab == ours.n_vocab
    lengths = [sum(len(one.encode(text)) for text in texts) for one in (ours, theirs)]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.01)


def test_the_peer_encodes_with_our_vocabulary_as_we_do(tokenizers, tmp_path):
    files = train_vocabulary(stories(100), 500)
    ours = Tokenizer(files)
    ours.save(tmp_path)
    names = (str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    peer = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(*names))
    peer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    for text in [*stories(20, seed=1), "", "  it's   \n\n 42½ 🐈‍⬛ ğ \x1c漢字\u3000"]:
        assert peer.encode(text).ids == ours.encode(text)


@pytest.mark.slow
def test_fifty_megabytes_take_well_under_a_minute():
    import time

    texts = stories(250_000, n_words=5000)
    assert sum(map(len, texts)) > 40_000_000
    start = time.perf_counter()
    files = train_vocabulary(texts, 4096)
    assert time.perf_counter() - start < 60
    assert Tokenizer(files).n_vocab == 4096
