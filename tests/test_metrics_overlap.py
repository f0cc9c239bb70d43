"""The scores are those of the packages that everybody quotes, on texts in any language."""

import random
import re
import string
import unicodedata
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt import overlap
from gpt.overlap import (
    ascii_words,
    bleu_counts,
    bleu_tokens,
    exact_match,
    identical,
    longest_common,
    rouge,
    squad_words,
    token_f1,
    words,
)
from tests.metric_forms import corpus_bleu, sentence_bleu

WORDS = """
the a an The AN it is was capital of Peru Lima lima. Havana, N'Djamena dog cat's don't 3.14 1,000
-34 7-8 5. .5 ,5 x-ray "quoted" (yes) _x_ _____ &amp; &lt;b&gt; &quot; <b> <skipped> ### ~ ` | \\ %
çok güzel İstanbul ısı IĞDIR Straße Ελλάδα Привет 你好 世界 สวัสดี हिन्दी résumé é 😀 👩‍🚀 mv² 5°C × …
""".split()  # noqa: SIM905
BLANKS = [" ", " ", " ", "  ", "\n", "-\n", "\t", "", "\u00a0", "\u2028"]


def some_text(rng, most=14):
    pieces = [rng.choice(WORDS) + rng.choice(BLANKS) for _ in range(rng.randint(0, most))]
    return "".join(pieces)


def nearly(text, rng):
    """The text with some words left out, said twice, or moved: what answers are to references."""
    pieces = text.split(" ")
    for _ in range(rng.randint(0, 4)):
        at = rng.randrange(len(pieces))
        what = rng.randrange(4)
        if what == 0:
            pieces[at] = rng.choice(WORDS)
        elif what == 1:
            pieces.insert(at, pieces[rng.randrange(len(pieces))])
        elif what == 2 and len(pieces) > 1:
            del pieces[at]
        else:
            pieces[at] = pieces[at].swapcase()
    return " ".join(pieces)


def pairs(n=500, seed=0):
    rng = random.Random(seed)
    for i in range(n):
        reference = some_text(rng)
        yield reference, nearly(reference, rng) if i % 3 else some_text(rng)


PAIRS = list(pairs())


def test_the_pairs_are_varied():
    f1s = [token_f1(*pair) for pair in PAIRS]
    assert len(PAIRS) == 500 and len(set(f1s)) > 50
    assert min(f1s) == 0 and max(f1s) == 1
    assert any(not reference for reference, _ in PAIRS) and any(not answer for _, answer in PAIRS)


# ---- SQuAD ----------------------------------------------------------------------------------


def official_words(text):
    """By the letter of SQuAD's evaluate-v2.0, a character and a word at a time."""
    kept = "".join(c for c in text.lower() if c not in set(string.punctuation))
    for article in ("a", "an", "the"):
        kept = re.sub(rf"(?<!\w){article}(?!\w)", " ", kept)
    return [word for word in re.split(r"\s+", kept) if word]


def official_f1(reference, answer):
    gold, said = official_words(reference), official_words(answer)
    if len(gold) == 0 or len(said) == 0:
        return int(gold == said)
    same = sum(min(gold.count(word), said.count(word)) for word in set(gold))
    if same == 0:
        return 0
    precision, recall = same / len(said), same / len(gold)
    return 2 * precision * recall / (precision + recall)


def test_exact_match_and_f1_are_those_of_squads_scorer():
    for reference, answer in PAIRS:
        expected = " ".join(official_words(reference)) == " ".join(official_words(answer))
        assert exact_match(reference, answer) == expected
        assert token_f1(reference, answer) == pytest.approx(
            official_f1(reference, answer), abs=1e-6
        )


def test_exact_match_and_f1_are_those_of_torchmetrics():
    squad = pytest.importorskip(
        "torchmetrics.functional.text.squad", reason="a peer to compare SQuAD's scores with"
    ).squad
    for reference, answer in PAIRS:
        theirs = squad(
            {"prediction_text": answer, "id": "0"},
            {"answers": {"answer_start": [0], "text": [reference]}, "id": "0"},
        )
        assert 100 * exact_match(reference, answer) == float(theirs["exact_match"])
        assert token_f1(reference, answer) == pytest.approx(float(theirs["f1"]) / 100, abs=1e-6)


@given(st.text(), st.text())
def test_squads_words_of_any_text(reference, answer):
    assert squad_words(reference) == official_words(reference)
    assert token_f1(reference, answer) == pytest.approx(official_f1(reference, answer))


@pytest.mark.parametrize(
    ("reference", "answer", "f1"),
    [
        ("", "", 1), ("", "x", 0), ("x", "", 0), ("The.", "a", 1), ("The.", "", 1), ("the", "x", 0),
        ("It is Lima.", "lima", 0.5), ("x x y", "x y y", 2 / 3),
    ],
)  # fmt: skip
def test_f1_of_texts_without_words_is_defined(reference, answer, f1):
    assert token_f1(reference, answer) == pytest.approx(f1)


@pytest.mark.parametrize("text", ["çok güzel bir gün", "Привет, мир", "你好 世界", "été à la mer"])
def test_squads_rules_take_nothing_from_another_language(text):
    kept = "".join(c for c in text.lower() if c not in string.punctuation).split()
    assert squad_words(text) == kept
    assert exact_match(text, text.upper()) or text.upper().lower() != text.lower()


def test_identical_sees_what_exact_match_forgives():
    for reference, answer in (
        ("It's time.", "Its time"), ("Lima", "lima"), ("x = -5", "x = 5"), ("A cat", "cat")
    ):  # fmt: skip
        assert exact_match(reference, answer) and not identical(reference, answer)
    assert identical("Lima.", " Lima.\n")
    assert identical("é", unicodedata.normalize("NFD", "é"))


# ---- BLEU -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sacrebleu():
    return pytest.importorskip("sacrebleu", reason="a peer to compare BLEU with")


def test_bleu_of_answers_is_sacrebleus(sacrebleu):
    for reference, answer in PAIRS:
        theirs = sacrebleu.sentence_bleu(answer, [reference]).score
        assert sentence_bleu(reference, answer) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 100, 500])
def test_bleu_of_corpora_is_sacrebleus(sacrebleu, n):
    for start in range(0, 500, max(n, 25)):
        some = PAIRS[start : start + n]
        references, answers = [pair[0] for pair in some], [pair[1] for pair in some]
        theirs = sacrebleu.corpus_bleu(answers, [references]).score
        assert corpus_bleu(references, answers) == pytest.approx(theirs, abs=1e-6)


def test_bleus_tokens_are_those_of_mteval_13a(sacrebleu):
    tokenize = sacrebleu.metrics.BLEU().tokenizer
    for text in {text for pair in PAIRS for text in pair}:
        assert bleu_tokens(text) == tokenize(text.rstrip()).split()


def test_bleu_of_all_ascii_signs(sacrebleu):
    tokenize = sacrebleu.metrics.BLEU().tokenizer
    for a, b in pairwise(string.printable * 2):
        for text in (f"x{a}y", f"1{a}2", f"{a}{b}", f"a{a}1{b}b"):
            assert bleu_tokens(text) == tokenize(text.rstrip()).split(), repr(text)


def test_bleu_is_defined_without_answers():
    assert corpus_bleu([], []) == 0
    assert sentence_bleu("", "") == sentence_bleu("x", "") == sentence_bleu("", "x") == 0
    assert sentence_bleu("one two three four", "one two three four") == pytest.approx(100)


def test_counts_of_answers_add_up_to_the_corpus():
    some = PAIRS[:50]
    total = sum(bleu_counts(*pair) for pair in some)
    assert float(overlap.bleu(total)) == corpus_bleu(*zip(*some, strict=True))


# ---- ROUGE ----------------------------------------------------------------------------------

NAMES = ("rouge1", "rouge2", "rougeL")


def rouge_score(tokenize=None):
    scorer = pytest.importorskip("rouge_score.rouge_scorer", reason="a peer to compare ROUGE with")

    class Tokenizer:
        def tokenize(self, text):
            return tokenize(text)

    return scorer.RougeScorer(NAMES, tokenizer=Tokenizer() if tokenize else None)


@pytest.mark.parametrize("ours", [ascii_words, words])
def test_rouge_is_that_of_rouge_score_on_the_same_words(ours):
    """With ascii_words, on the words that it takes itself."""
    scorer = rouge_score(None if ours is ascii_words else ours)
    for reference, answer in PAIRS:
        theirs = scorer.score(reference, answer)
        mine = rouge(reference, answer, ours)
        for name in NAMES:
            assert getattr(mine, name) == pytest.approx(theirs[name].fmeasure, abs=1e-6)


def test_on_plain_english_both_kinds_of_words_are_one():
    text = "The capital of Peru is Lima, and 2 plus 2 is 4."
    assert words(text) == ascii_words(text) == text.lower().translate({44: "", 46: ""}).split()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Çok güzel!", ["çok", "güzel"]),
        ("İSTANBUL, Iğdır", ["istanbul", "iğdır"]),
        ("-34 opinion-based", ["-34", "opinion-based"]),
        ("你好,世界。", ["你", "好", "世", "界"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("mv² 😀😀", ["mv²", "😀", "😀"]),
        ("F=m*a", ["f", "m", "a"]),
        ("e\u0301t\u00e9", ["été"]),
        ("'tis «so»…", ["tis", "so"]),
        ("", []),
    ],
)
def test_words_are_those_of_any_language(text, expected):
    assert words(text) == expected


def test_rouge_of_texts_without_words_is_that_of_rouge_score():
    for pair in (("", ""), ("", "x"), ("x", ""), ("…", "…")):
        assert rouge(*pair) == (0, 0, 0)


def textbook_lcs(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            longer = max(table[i - 1][j], table[i][j - 1])
            table[i][j] = table[i - 1][j - 1] + 1 if x == y else longer
    return table[-1][-1]


@given(st.lists(st.sampled_from("abc"), max_size=80), st.lists(st.sampled_from("abc"), max_size=80))
def test_the_row_of_bits_is_the_textbooks_table(a, b):
    assert longest_common(a, b) == textbook_lcs(a, b) == longest_common(b, a)


@given(st.text(), st.text())
def test_every_score_of_any_two_texts_is_on_its_scale(reference, answer):
    scores = [token_f1(reference, answer), *rouge(reference, answer)]
    assert all(0 <= score <= 1 for score in scores)
    assert 0 <= sentence_bleu(reference, answer) <= 100 + 1e-9
    assert sum((Counter(words(reference)) & Counter(words(answer))).values()) <= len(words(answer))


# ---- the published answers ------------------------------------------------------------------


@pytest.fixture
def published(shared):
    from gpt.answers import read_answers

    return read_answers(shared / "datasets/book-test-110-with-responses.json")


def test_the_books_answers_score_what_is_published_of_them(published):
    assert len(published) == 110
    pairs = [(row["output"], row["response"]) for row in published]
    assert sum(exact_match(*pair) for pair in pairs) == 17
    assert f"{sum(rouge(*pair).rougeL for pair in pairs) / 110:.4f}" == "0.5816"


def test_rouge_scores_own_words_would_give_another_mean(published):
    """0.5832 (0.5895 with its stemmer): it takes "Opinion-based." for two words of three."""
    scorer = rouge_score()
    theirs = [scorer.score(row["output"], row["response"])["rougeL"].fmeasure for row in published]
    ours = [rouge(row["output"], row["response"], ascii_words).rougeL for row in published]
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert f"{sum(ours) / 110:.4f}" == "0.5832"
