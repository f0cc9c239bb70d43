"""The small world: one answer to a question, voices that name both ends, a third kept apart."""

import os
import subprocess
import sys
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest

from data.checking.facts import answer_of
from data.dice import Dice
from data.skills.skill import cut_off
from data.world.endings import a, plural_of
from data.world.facts import BY_ID, BY_RELATION, FACTS, HELD_OUT, RELATIONS, occurs
from data.world.measures import number_word, roman
from data.world.table import table

ROOT = Path(__file__).resolve().parents[1]


def test_a_question_has_one_answer():
    assert len(BY_ID) == len(FACTS)
    asked = Counter((f.relation.name, f.subject, f.more.get("parts")) for f in FACTS)
    assert asked.most_common(1)[0][1] == 1


def test_the_world_is_as_large_as_its_card_says():
    words = {"opposite", "synonym", "american", "contraction", "plural", "past", "comparative"}
    words |= {"superlative", "spelling", "letters", "number_word", "roman", "next_letter"}
    knowledge = [fact for fact in FACTS if fact.relation.name not in words]
    assert len(knowledge) >= 1000
    assert len(FACTS) - len(knowledge) >= 600
    card = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    assert f"{len(FACTS):,} facts" in card
    assert f"{len(HELD_OUT)} of them" in card


def test_a_fact_is_what_the_tables_and_rules_say_by_another_way():
    for fact in FACTS:
        parts = fact.more.get("parts", "")
        assert answer_of(fact.relation.name, fact.subject, parts) == fact.answer, fact.id


def test_every_sentence_of_a_fact_tells_it_and_no_question_gives_the_answer_away():
    for fact in FACTS:
        for clause in fact.says:
            assert fact.is_told_by(clause), (fact.id, clause)
        names_all_answers = fact.relation.name == "state"  # a solid, a liquid or a gas?
        own_words = any(occurs(w, fact.subject) for w in fact.marks[-1]) or fact.answer == "A"
        for question in fact.asks:
            assert question.endswith("?")
            gives_away = any(fact.answer == word.strip("?,:") for word in question.split())
            assert own_words or names_all_answers or not gives_away, (fact.id, question)


def test_no_template_is_left_unfilled_or_filled_twice_alike():
    for fact in FACTS:
        texts = [*fact.says, *fact.its, *fact.asks, *fact.back_asks, fact.key, fact.bare, fact.back]
        for text in texts:
            assert "{" not in text
            assert "  " not in text
            assert text == text.strip() != ""
        assert len(set(fact.asks)) == len(fact.asks)


def test_every_relation_has_many_voices():
    for name, facts in BY_RELATION.items():
        fact = facts[0]
        voices = len(fact.says) + len(fact.its) + len(fact.asks) + len(fact.relation.back_asks)
        assert voices >= 10, name
        assert len(fact.asks) >= 4, name


def test_a_question_back_has_one_answer():
    for fact in FACTS:
        if fact.back_asks:
            same = [f for f in BY_RELATION[fact.relation.name] if f.answer == fact.answer]
            assert same == [fact]
            assert all(any(occurs(w, q) for w in fact.marks[-1]) for q in fact.back_asks)


def test_a_third_of_each_relation_is_held_out():
    held = Counter(BY_ID[id_].relation.name for id_ in HELD_OUT)
    for name, facts in BY_RELATION.items():
        assert len(facts) // 3 - 1 <= held[name] <= len(facts) // 3, name
    assert set(RELATIONS) == set(BY_RELATION)


def test_facts_of_the_same_two_words_are_held_out_together():
    sides: dict[frozenset[str], set[bool]] = {}
    for fact in FACTS:
        pair = frozenset((fact.subject, fact.answer))
        sides.setdefault(pair, set()).add(fact.id in HELD_OUT)
    assert all(len(both) == 1 for both in sides.values())


def test_a_fact_is_told_by_a_text_with_both_words_however_they_are_written():
    young = BY_ID["young/cow"]
    assert young.is_told_by("Cows have calves.")
    assert young.is_told_by("A calf! said the cow")
    assert not young.is_told_by("A cow and a coward")
    assert not young.is_told_by("A calf-skin of no cowboy")
    capital = BY_ID["capital/Peru"]
    assert capital.is_told_by("Lima, Peru")
    assert not capital.is_told_by("lima beans in Peru")
    assert BY_ID["sight/the Louvre"].is_told_by("In Paris stands The Louvre.")


@pytest.mark.parametrize(
    ("noun", "with_article", "plural"),
    [
        ("cow", "a cow", "cows"),
        ("owl", "an owl", "owls"),
        ("unicycle", "a unicycle", "unicycles"),
        ("hour", "an hour", "hours"),
        ("city", "a city", "cities"),
        ("day", "a day", "days"),
        ("fox", "a fox", "foxes"),
        ("mouse", "a mouse", "mice"),
    ],
)
def test_endings(noun, with_article, plural):
    assert (a(noun), plural_of(noun)) == (with_article, plural)


def test_numbers_in_words_and_in_roman_numerals():
    assert [number_word(n) for n in (0, 13, 20, 42, 100)] == [
        "zero",
        "thirteen",
        "twenty",
        "forty-two",
        "one hundred",
    ]
    assert [roman(n) for n in (4, 9, 14, 40, 90)] == ["IV", "IX", "XIV", "XL", "XC"]


def test_a_table_with_a_cell_missing_is_refused():
    assert table("a | b\nx | -") == [("x", "-")]
    with pytest.raises(AssertionError, match="2 columns"):
        table("a | b\nx")
    with pytest.raises(AssertionError, match="none empty"):
        table("a | b\nx | ")


def test_what_is_left_of_a_request_when_its_list_stands_apart():
    assert cut_off("sort these words: {x}") == "sort these words."
    assert cut_off("how many words are here: {x}") == "how many words are here?"
    assert cut_off("what is {x}?") is None


def test_dice_fall_fairly_and_deal_every_card_before_any_comes_again():
    dice = Dice(1)
    assert Counter(dice.between(1, 3) for _ in range(300)).keys() == {1, 2, 3}
    assert sorted(dice.shuffled(range(9))) == list(range(9))
    assert len(dice.sample("abc", 5)) == 3
    deck = dice.deck("abcd")
    dealt = [next(deck) for _ in range(8)]
    assert sorted(dealt[:4]) == sorted(dealt[4:]) == list("abcd")


def test_which_facts_are_held_out_does_not_depend_on_the_process():
    code = "from data.world.facts import HELD_OUT; print(' | '.join(sorted(HELD_OUT)))"
    lists = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    assert lists == [" | ".join(sorted(HELD_OUT))] * 2


def test_no_word_of_the_voices_is_foreign_to_the_alphabet():
    """Plain ASCII: a vocabulary of 4,096 entries has none to spare for rare letters."""
    texts = chain.from_iterable((*fact.says, *fact.asks, fact.key) for fact in FACTS)
    assert all(text.isascii() for text in texts)
