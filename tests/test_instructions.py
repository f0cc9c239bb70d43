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
from data.world.endings import third_person
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
    """The same as `problems` finds of all held-out facts, with the world's own eyes."""
    train = of(records, "train")
    held = [(fact, fact.marks[0]) for fact in map(BY_ID.get, sorted(HELD_OUT))]
    for record in train:
        text = f"{record['instruction']} {record['input']} {record['output']}"
        small = text.lower()
        near = (fact for fact, forms in held if any(form.lower() in small for form in forms))
        assert not any(fact.is_told_by(text) for fact in near), record


def test_the_checker_knows_every_form_in_which_a_held_out_fact_is_told():
    """The singular and the plural, and of verbs the third person, as the exercises have it."""
    facts, told = [], []
    for fact in map(BY_ID.get, sorted(HELD_OUT)):
        forms = [fact.subject, fact.forms["many"]]
        forms += [third_person(fact.subject)] if fact.relation.name == "past" else []
        for form in forms:
            facts.append(fact)
            text = f"{form} {fact.more.get('parts', '')}"
            told.append({"instruction": text, "output": fact.answer, "split": "train"})
    found = " | ".join(problems(told))
    for i, fact in enumerate(facts):
        assert f"record {i}: gives {fact.id} away" in found, told[i]


def asked_for(record: dict) -> tuple:
    """What an exercise or a text is about, by no means of the generator's."""
    asked = f"{record['instruction']} {record['input']}".strip()
    pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(record["wording"]))
    fields = re.fullmatch(pattern, asked).groupdict()
    x = fields["x"].replace(" plus ", " + ").replace(" minus ", " - ")
    return record["category"], x, fields.get("q"), record["output"]


def test_what_validation_and_test_ask_to_be_done_nobody_else_is_asked_in_any_words(records):
    exercises = [r for r in records if r["closed"] and "fact" not in r]
    kept = [asked_for(r) for r in exercises if r["split"] != "train"]
    trained = {asked_for(r) for r in exercises if r["split"] == "train"}
    assert len(kept) > 150 and len(set(kept)) == len(kept)
    assert not trained.intersection(kept)


def test_no_answer_of_several_sentences_of_another_side_stands_in_training(records):
    """Explanations of pages that training has not, and descriptions by other facts."""
    texts = [r for r in records if not r["closed"]]
    trained = {r["output"] for r in texts if r["split"] == "train"}
    kept = [r["output"] for r in texts if r["split"] != "train"]
    assert len(kept) > 70
    assert not trained.intersection(kept)
    described = [r for r in texts if r["category"].startswith("describing")]

    def told(record: dict) -> frozenset[str]:
        return frozenset(re.findall(r"\w+", record["output"].lower()))

    words = {told(r) for r in described if r["split"] == "train"}
    assert not words.intersection(told(r) for r in described if r["split"] != "train")


def test_a_question_is_not_another_for_being_asked_with_please(records):
    """Nor for "Give a short answer": of a tuned fact, test has questions that training has not."""
    wrappings = (
        "just the answer, please|give a short answer( to this question)?|answer the question"
    )
    asked = defaultdict(set)
    for record in records:
        if "fact" in record and not record["held_out"]:
            text = f"{record['instruction']} {record['input']}".lower()
            if "sentence" not in text:
                core = " ".join(re.findall(r"[\w'-]+", re.sub(wrappings, "", text)))
                asked[record["split"] == "train"].add((record["fact"], core))
    assert len(asked[False]) > 100
    assert not asked[True] & asked[False]


def test_no_gap_has_several_right_ends_and_no_request_is_stiff(records):
    """A sheep is a ... What is the author of Heidi? Give the animal that gives us honey."""
    asked = [f"{r['instruction']} {r['input']}" for r in records if "fact" in r and r["closed"]]
    gaps = [text for text in asked if text.endswith("...")]
    assert len(gaps) > 100
    for text in gaps:
        assert not re.search(r"[.] (An?|The)? ?[\w ]+ (is|are) (an? )?\.\.\.", text) or re.search(
            r" (of|after|for|from|letters in|days in|months,|as|begins with) ", text
        ), text
        assert not re.search(r"Another word for \w+ is", text)
    for text in asked:
        assert not re.match("(What is|Give|Give me) the (author|painter|composer|animal)", text)
        assert not re.search("What do [a-z]+s do|kind of thing that|the thing that we do", text)
        assert not re.search("do you call a person from|are the young of", text)
    whole = " ".join(r["instruction"] for r in records)
    assert "sign it with" not in whole and "with the answer" not in whole
    assert not re.search(r"(I want to know how|Teach me) to [^.]*\byour\b", whole)


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
        found += problem(wrong) is not None
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


def smuggled(record: dict, **changes) -> str | None:
    changed = record | changes
    assert changed != record
    return problem(changed)


def first(records, category="", starts="", ends="", closed=True) -> dict:
    return next(
        r
        for r in records
        if r["category"].startswith(category)
        and r["closed"] is closed
        and f"{r['instruction']} {r['input']}".startswith(starts)
        and f"{r['instruction']} {r['input']}".strip().endswith(ends)
    )


def test_the_checker_finds_a_sentence_that_says_something_else(records):
    for record in [r for r in records if r["closed"] and "sentence" in r["instruction"]]:
        if "fact" not in record:
            continue
        output = record["output"]
        assert problem(record) is None
        assert smuggled(record, output=f"{output[:-1]}, and snow is green.")
        assert smuggled(record, output=f"It is not true that {output[0].lower()}{output[1:]}")
        assert smuggled(record, output=output[:-1])
        if " is " in output:
            assert smuggled(record, output=output.replace(" is ", " is not ", 1))
            assert smuggled(record, output=output.replace(" is ", " is never ", 1))


def test_the_checker_finds_subject_and_answer_in_each_others_place(records):
    capital = next(r for r in records if r["output"].startswith("The capital of "))
    name, city = re.fullmatch(r"The capital of (.+) is (.+)\.", capital["output"]).groups()
    assert smuggled(capital, output=f"The capital of {city} is {name}.")
    month = next(r for r in records if r["output"].startswith("The month after "))
    assert smuggled(month, output=month["output"].replace("after", "before"))


@pytest.mark.parametrize(
    ("category", "old", "new"),
    [
        ("capitals", "is the capital", "is not the capital"),
        ("capitals", "What is", "What is not"),
        ("opposites", "the opposite", "never the opposite"),
        ("opposites", "opposite", "synonym"),
        ("calendar", "after", "before"),
        ("the alphabet", "after", "before"),
        ("young animals", "young", "old"),
        ("comparing numbers", "larger", "smaller"),
        ("sorting numbers", "smallest", "largest"),
        ("synonyms", "begins with", "ends in"),
    ],
)
def test_the_checker_finds_a_question_that_was_turned_round(records, category, old, new):
    tried = 0
    for record in [r for r in records if r["category"] == category]:
        for words in ({}, {"wording": record["wording"].replace(old, new, 1)}):
            changed = record | words | {"instruction": record["instruction"].replace(old, new, 1)}
            if changed["instruction"] != record["instruction"]:
                tried += 1
                assert problem(changed), changed
    assert tried


def test_the_checker_takes_the_word_from_the_question_and_not_from_the_answer(records):
    letters = first(records, "capital letters", "Write", "capital letters.")
    assert smuggled(letters, output="CAPITAL")
    assert smuggled(first(records, "capital letters", "Write the word"), output="WORD")
    assert smuggled(first(records, "a or an", "Put a or an before"), output="a before")
    assert smuggled(first(records, "a or an", "Which is right"), output="a both")


@pytest.mark.parametrize(
    "category",
    ["describing", "lists", "comparisons", "riddles", "letters", "dialogues", "stories", "expl"],
)
def test_the_checker_reads_every_sentence_of_an_open_answer(records, category):
    for record in [r for r in records if r["category"].startswith(category)][:40]:
        output = record["output"]
        assert problem(record) is None
        sentences = re.split(r"(?<=[.!?])[ \n]", output)
        for i, sentence in enumerate(sentences):
            if not sentence.endswith("."):
                continue
            for false in ("Cows bark.", "Snow is green.", "Romania is in Mars."):
                lied = output.replace(sentence, false, 1)
                assert lied == output or problem(record | {"output": lied}), (i, lied)
        assert problem(record | {"output": "No. No!"})


def test_the_checker_finds_what_is_told_of_another(records):
    record = next(r for r in records if "capital" in r["output"] and not r["closed"])
    city = next(
        f.answer for f in FACTS if f.relation.name == "capital" and f.answer in record["output"]
    )
    assert smuggled(record, output=record["output"].replace(city, "Vaduz"))
    compared = first(records, "comparisons", closed=False)
    one, other = re.fullmatch(r"(.+), but (.+?)\. .*", compared["output"], re.S).groups()
    turned = f"{other[0].upper()}{other[1:]}, but {one[0].lower()}{one[1:]}."
    assert smuggled(compared, output=turned + compared["output"].partition(".")[2])


def test_the_checker_finds_a_record_in_the_wrong_drawer(records):
    river = next(r for r in records if r.get("fact", "").startswith("river/"))
    assert "closed is False" in smuggled(river, closed=False, output="It is the Nile. Really.")
    assert "does not belong" in smuggled(river, category="colours")
    assert "no such wording" in smuggled(river, wording="x")
    assert "held_out" in smuggled(river, held_out=not river["held_out"])
    text = next(r for r in records if not r["closed"])
    assert "closed is True" in smuggled(text, closed=True)
    for key in ("category", "wording", "closed", "split", "input"):
        lacking = {k: v for k, v in river.items() if k != key}
        assert problem(lacking) == f"without {key!r}"


def test_the_checker_names_what_it_cannot_work_out_and_goes_on(records):
    alpaca = {"instruction": "What is seven plus three?", "input": "", "output": "10"}
    assert "without 'category'" in problems([alpaca])[0]
    total = first(records, "addition")
    river = next(r for r in records if r.get("fact", "").startswith("river/"))
    for broken in (
        total | {"category": "cooking"},
        total | {"instruction": "What is seven plus three?", "wording": "What is {x}?"},
        total | {"fact": "sum/3"},
        river | {"fact": "nothing/Paris"},
        river | {"fact": "river/Atlantis"},
        {k: v for k, v in river.items() if k not in ("fact", "held_out")},
        first(records, "capital letters") | {"output": "HELLO"},
    ):
        assert len([p for p in problems([broken, river, total]) if p.startswith("record 0")]) == 1
    number = total | {
        "instruction": "What is seven plus three?",
        "input": "",
        "wording": "What is {x}?",
    }
    assert problem(number).startswith("cannot be worked out: ")


def test_the_checker_finds_an_open_answer_that_is_too_short(records):
    record = next(r for r in records if not r["closed"])
    assert problem(record) is None
    assert problem(record | {"output": "Only this."}) is not None
    assert problem(record | {"split": "training"}) is not None
