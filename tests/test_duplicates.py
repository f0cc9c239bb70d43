"""What counts as the same, and that the quick search finds what comparing all with all would."""

import os
import random
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.duplicates import (
    Duplicate,
    duplicate_prompts,
    exact_duplicates,
    groups_of_prompts,
    normalized,
    prompt_key,
)
from gpt.near_duplicates import (
    MISSED,
    N_HASHES,
    SHINGLE,
    near_duplicates,
    rows_per_band,
    shingle_sets,
    similarities,
)
from gpt.records import Record, Turn, load_records


def record(prompt, answer="An answer.", given="", line=1, system=""):
    turns = (Turn("user", prompt, given), Turn("assistant", answer))
    return Record((Turn("system", system), *turns) if system else turns, "x.json", line, {})


def chat(*texts):
    roles = ("user", "assistant") * len(texts)
    return Record(tuple(map(Turn, roles, texts)), "x.json", 1, {})


# The same words.


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is it?", "what  IS\n\tit? "),
        ("Straße", "STRASSE"),
        ("cafe\u0301", "CAFÉ"),
        ("İSTANBUL'DA NE VAR?", "istanbul'da ne var?"),
        ("Istanbul", "istanbul"),
        ("ΟΔΟΣ", "οδος"),
    ],
)
def test_case_and_white_space_make_no_other_prompt(one, other):
    assert normalized(one) == normalized(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("sınır nedir?", "sinir nedir?"), ("x2", "x²"), ("5 - 3", "5 + 3"), ("a.", "a"), ("ö", "o")],
)
def test_another_letter_or_sign_makes_another_prompt(one, other):
    assert normalized(one) != normalized(other)


@given(st.text())
def test_normalizing_twice_is_normalizing_once(text):
    assert normalized(normalized(text)) == normalized(text)


def test_where_the_input_begins_makes_no_other_prompt():
    assert prompt_key(record("Translate: cat")) == prompt_key(record("Translate:", given="cat"))


def test_the_opening_question_counts_and_not_who_is_asked_or_how_it_goes_on():
    same = [record("Who?"), record("who?", system="Be brief."), chat("Who?", "He.", "Why?", "So.")]
    groups = groups_of_prompts([*same, chat("Why?", "So.")])
    assert [*groups.values()] == [[0, 1, 2], [3]]


def test_three_askers_of_one_question_are_two_duplicate_prompts():
    records = [record(p) for p in ("A", "b", "a", "c", "A ")]
    assert duplicate_prompts(records) == [Duplicate(2, 0, 1.0), Duplicate(4, 0, 1.0)]


def test_an_exact_duplicate_has_the_same_prompt_and_answer():
    records = [record("A", "x"), record("A", "y"), record("a", "x"), record("A", "x", system="S")]
    assert exact_duplicates(records) == [Duplicate(2, 0, 1.0)]
    assert (
        exact_duplicates([chat("a", "b", "c", "d"), chat("a", "b"), chat("a", "b", "c", "e")]) == []
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Co", "CO"),
        ("if a:\n    b\nc", "if a:\n    b\n    c"),
        ("a b", "a  b"),
        ("a b", "a\nb"),
        ("Straße", "Strasse"),
    ],
)
def test_case_and_white_space_inside_make_another_answer(one, other):
    assert exact_duplicates([record("A", one), record("a ", other)]) == []


def test_blanks_at_the_ends_and_ways_of_writing_a_letter_make_no_other_answer():
    records = [record("A", "café"), record("a", " cafe\u0301\n")]
    assert exact_duplicates(records) == [Duplicate(1, 0, 1.0)]


def test_no_answer_looks_like_two_turns():
    assert exact_duplicates([chat("a", "b\nuser: c\nassistant: d"), chat("a", "b", "c", "d")]) == []


def test_the_published_counts_of_the_books_set(shared):
    records = load_records([shared / "datasets" / "book-1100.json"])
    assert len(duplicate_prompts(records)) == 25
    assert exact_duplicates(records) == near_duplicates(records) == []


# Nearly the same words, against comparing all with all.


def shingles(text):
    words = text.split() + [""] * (SHINGLE - len(text.split()))
    return {tuple(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1)}


def jaccard(one, other):
    one, other = shingles(one), shingles(other)
    return len(one & other) / len(one | other)


def similarity(one, other):
    return min(jaccard(a.text, b.text) for a, b in zip(one.turns, other.turns, strict=True))


def by_brute_force(records, threshold):
    """Pairs in which the later one's cluster begins with the earlier one's first."""
    first = list(range(len(records)))
    for i, j in combinations(range(len(records)), 2):
        if similarity(records[i], records[j]) >= threshold and first[i] != first[j]:
            joined = {first[i], first[j]}
            first = [min(joined) if f in joined else f for f in first]
    return [(i, f) for i, f in enumerate(first) if f != i]


def some_records(n, seed, changed=0.06):
    """Lower-case words from a small vocabulary; two in three are an earlier one, words changed."""
    draw = random.Random(seed)
    vocabulary = [f"w{i}" for i in range(400)]
    records = []
    for line in range(1, n + 1):
        if records and draw.random() < 2 / 3:
            texts = [turn.text.split() for turn in draw.choice(records).turns]
        else:
            texts = [draw.choices(vocabulary, k=draw.randrange(1, 40)) for _ in range(2)]
        for words in texts:
            for place in range(len(words)):
                if draw.random() < changed / 3:
                    words[place] = draw.choice(vocabulary)
        records.append(record(" ".join(texts[0]), " ".join(texts[1]), line=line))
    return records


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("seed", range(3))
def test_the_search_finds_what_comparing_all_with_all_finds(threshold, seed):
    records = some_records(150, seed)
    expected = by_brute_force(records, threshold)
    found = [(d.index, d.first) for d in near_duplicates(records, threshold)]
    assert len(expected) > 10
    assert len({*expected} ^ {*found}) <= 0.02 * len(expected)


def test_the_similarity_is_the_true_one():
    records = some_records(60, seed=9)
    one, other = np.array(list(combinations(range(60), 2))).T
    found = similarities(shingle_sets(records), one, other)
    pairs = zip(one, other, strict=True)
    assert found.tolist() == [similarity(records[i], records[j]) for i, j in pairs]


def test_what_is_called_near_is_near():
    """Chance decides which pairs are looked at, and never what is seen there."""
    for seed in range(20):
        records = some_records(2, seed, changed=0.4)
        near = similarity(*records) >= 0.8
        assert bool(near_duplicates(records)) <= near


def test_punctuation_and_case_make_no_other_record_but_words_and_signs_do():
    prompt = "Name the three primary colours of painting, please."
    base = record(prompt, "Red, blue and yellow.")
    assert near_duplicates([base, record(prompt.upper() + "!", "red blue and yellow")])
    assert not near_duplicates([base, record(prompt, "Red, green and blue.")])
    assert not near_duplicates([record("5 - 3", "2"), record("5 + 3", "2")])


def test_another_question_about_the_same_long_text_is_another_task():
    article = " ".join(f"word{i}" for i in range(500))
    records = [
        record("Summarise.", "Many words.", article),
        record("Summarise!", "Many words", article),
        record("Count the sentences.", "One.", article),
    ]
    assert near_duplicates(records) == [Duplicate(1, 0, 1.0)]


def test_chinese_is_compared_by_its_characters():
    one = "请列出世界上最高的五座山峰并说明它们各自的高度和所在的国家以及首次登顶的年份"
    assert near_duplicates([record(one, one), record(one + "吧", one)])
    assert not near_duplicates([record(one, one), record(one[:20], one)])


def test_the_first_of_a_cluster_is_the_one_to_keep():
    words = [f"w{i}" for i in range(60)]
    chain = []
    for step in range(4):  # each is near the one before, the last is not near the first
        chain.append(
            record("Say it all.", " ".join([f"n{i}" for i in range(4 * step)] + words[4 * step :]))
        )
    found = near_duplicates(chain)
    assert [(d.index, d.first) for d in found] == [(1, 0), (2, 0), (3, 0)]
    assert found[0].similarity >= 0.8 > found[2].similarity
    assert [d.similarity for d in found] == [similarity(chain[0], r) for r in chain[1:]]


@pytest.mark.parametrize("records", [[], [record("A")]])
def test_nothing_and_one_have_no_duplicates(records):
    assert near_duplicates(records) == exact_duplicates(records) == duplicate_prompts(records) == []


def test_texts_without_a_word_do_no_harm():
    empty = [record("", ""), record("...", "?"), record("\ud800", "\U0001f600")]
    assert [d[:2] for d in near_duplicates(empty)] == [(1, 0)]


def test_many_copies_are_found_though_each_is_compared_with_few():
    records = [
        record("Say the same thing again and again", f"x{i % 2} and so on") for i in range(500)
    ]
    assert len(near_duplicates(records)) == 498


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.7, 0.8, 0.9, 0.99, 1.0])
def test_the_bands_miss_almost_no_pair_at_the_threshold(threshold):
    rows = rows_per_band(threshold)
    missed = (1 - threshold**rows) ** (N_HASHES // rows)
    assert missed <= MISSED or rows == 1
    assert rows_per_band(0.8) == 5  # as the docstring tells it


def test_a_threshold_that_is_no_similarity_is_refused():
    for threshold in (0, -1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="similarity"):
            near_duplicates([], threshold)


def test_the_result_does_not_depend_on_pythons_hash_seed():
    script = (
        "from gpt.duplicates import prompt_key; from gpt.near_duplicates import near_duplicates;"
        "from tests.test_duplicates import some_records; r = some_records(80, 1);"
        "print(near_duplicates(r), prompt_key(r[0]).hex())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[1],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert "Duplicate" in outputs.pop()


@pytest.mark.slow
def test_ten_times_the_records_take_about_ten_times_as_long():
    """And no more when all begin alike, as under a template: every bucket is then full."""
    for prefix in ("", "the same thirty words " * 30):
        seconds = []
        for n in (5_000, 50_000):
            records = [
                record(prefix + r.turns[0].text, prefix + r.turns[1].text)
                for r in some_records(n, seed=0)
            ]
            start = time.perf_counter()
            near_duplicates(records)
            seconds.append(time.perf_counter() - start)
        assert seconds[1] < 20 * seconds[0]
        assert seconds[1] < 60
