"""data/instructions.json: what its card promises, and that the checker would notice a lie."""

import copy
import json
import re
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from data.checking.check import problem, problems
from data.tasks.build import as_json, build
from data.tasks.categories import CATEGORY_OF
from data.world.facts import BY_ID, BY_RELATION, FACTS, HELD_OUT
from gpt.duplicates import duplicate_prompts, exact_duplicates
from gpt.near_duplicates import near_duplicates
from gpt.records import read_records
from gpt.splitting import Split, overlaps

PATH = Path(__file__).resolve().parents[1] / "data" / "instructions.json"


@pytest.fixture(scope="module")
def records() -> list[dict]:
    return json.loads(PATH.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def reading():
    return read_records([PATH])


def of(records, split):
    return [record for record in records if record["split"] == split]


def test_the_file_is_what_the_generator_writes():
    assert PATH.read_text(encoding="utf-8") == as_json(build())


def test_the_projects_own_check_finds_no_fault(reading):
    assert reading.faults == []
    assert {"category", "split", "closed"} <= reading.records[0].extra.keys()


def test_every_closed_answer_is_right_and_no_training_record_gives_a_held_out_fact_away(records):
    assert problems(records) == []


def test_no_record_says_again_what_another_says(reading):
    assert duplicate_prompts(reading.records) == []
    assert exact_duplicates(reading.records) == []
    assert near_duplicates(reading.records) == []


def test_no_prompt_is_on_two_sides(reading):
    sides = defaultdict(list)
    for record in reading.records:
        sides[record.extra["split"]].append(record)
    assert overlaps(Split(**sides)) == []


def test_sizes(records):
    assert len(of(records, "train")) >= 5000
    assert 140 <= len(of(records, "validation")) <= 160
    assert 490 <= len(of(records, "test")) <= 530
    assert len({record["category"] for record in records}) >= 25
    share = sum(not record["closed"] for record in records) / len(records)
    assert 0.18 < share < 0.25
    words = [len(f"{r['instruction']} {r['input']} {r['output']}".split()) for r in records]
    assert sum(words) / len(words) < 40


def test_each_category_is_phrased_at_least_eight_ways(records):
    phrasings = defaultdict(set)
    for record in records:
        phrasings[record["category"]].add(record["wording"])
    assert {category: len(ways) for category, ways in phrasings.items() if len(ways) < 8} == {}


def test_held_out_facts_stand_in_no_training_record(records):
    """The test in short; `problems` looks for the words themselves."""
    tuned = {record.get("fact") for record in of(records, "train")}
    assert tuned.isdisjoint(HELD_OUT)
    assert all(not record.get("held_out") for record in of(records, "train"))
    asked = [record for record in of(records, "test") if record.get("held_out")]
    assert len(asked) >= 150
    assert len({record["fact"] for record in asked}) == len(asked)
    assert {BY_ID[record["fact"]].relation.name for record in asked} == set(BY_RELATION)


def test_held_out_facts_of_validation_are_not_those_of_test(records):
    held = {
        side: {r["fact"] for r in of(records, side) if r.get("held_out")}
        for side in ("validation", "test")
    }
    assert held["validation"]
    assert held["validation"].isdisjoint(held["test"])


def test_every_tuned_fact_is_trained_on(records):
    tuned = {record.get("fact") for record in of(records, "train")}
    assert {fact.id for fact in FACTS} - HELD_OUT <= tuned


def test_validation_and_test_have_wordings_that_training_has_not(records):
    trained = {(r["category"], r["wording"]) for r in of(records, "train")}
    unseen = [r for r in of(records, "test") if (r["category"], r["wording"]) not in trained]
    assert len(unseen) > 100


def test_the_wording_alone_decides_the_form_of_an_answer(records):
    for record in records:
        if "fact" in record:
            asked = f"{record['instruction']} {record['input']}"
            wants_a_sentence = re.search("(full|whole) sentence", asked) is not None
            assert record["output"].endswith(".") == wants_a_sentence, record


def test_training_never_sees_the_kept_words_together_even_outside_of_questions(records):
    """The same as `problems` finds, with the world's own eyes."""
    held = [BY_ID[id_] for id_ in sorted(HELD_OUT)][::10]
    for record in of(records, "train"):
        text = f"{record['instruction']} {record['input']} {record['output']}"
        assert not any(fact.is_told_by(text) for fact in held), record


def test_the_card_counts_what_is_there(records):
    card = PATH.with_name("README.md").read_text(encoding="utf-8")
    for split in ("train", "validation", "test"):
        assert f"| {split} | {len(of(records, split)):,} |" in card
    in_test = Counter(record["category"] for record in of(records, "test"))
    for category, n in Counter(record["category"] for record in records).items():
        assert f"| {category} | {n} | {in_test[category]} |" in card


# That the checker would find a fault, if there were one.


@pytest.mark.parametrize("category", sorted(set(CATEGORY_OF.values())))
def test_the_checker_finds_the_answer_of_another_record(records, category):
    """Every closed category: with a neighbour's answer, almost every record is faulty."""
    rows = [r for r in records if r["category"] == category and r["closed"]][:60]
    found = tried = 0
    for one, other in pairwise(rows):
        if one["output"] == other["output"]:
            continue
        wrong = one | {"output": other["output"]}
        tried += 1
        try:
            found += problem(wrong) is not None
        except AssertionError:  # an answer that cannot be to this question
            found += 1
    assert tried >= 5
    assert found == tried


def test_the_checker_finds_repetitions_and_what_is_given_away(records):
    doubled = [
        records[0],
        copy.deepcopy(records[0]) | {"instruction": "  " + records[0]["instruction"]},
    ]
    assert any("asks what record 0 asks" in found for found in problems(doubled))
    held = BY_ID[min(HELD_OUT)]
    told = next(r for r in of(records, "train") if not r["closed"])
    told = told | {"output": f"{told['output']} And {held.says[0]}."}
    assert any(f"gives {held.id} away" in found for found in problems([told]))


def test_the_checker_finds_an_open_answer_that_is_too_short(records):
    record = next(r for r in records if not r["closed"])
    assert problem(record) is None
    assert problem(record | {"output": "Only this."}) is not None
    assert problem(record | {"split": "training"}) is not None
