"""The report says what the single answers say, and the flags mean what a person would mean."""

import json
import math
import random
import time

import numpy as np
import pytest

from gpt.answers import AnswersError, alpaca_outputs, beside, read_answers
from gpt.bootstrap import mean_score
from gpt.flags import FLAGS, ends_in_a_loop, flags_of, repeats_itself
from gpt.metrics import as_text, compare_runs, comparison_as_text, score
from gpt.scores import MEANS, SCORES, score_answer
from tests.metric_forms import corpus_bleu


def row(i=0, **more):
    return {
        "instruction": f"What is {i} and 1?",
        "input": "",
        "output": f"It is {i + 1}.",
        "response": f"It is {i + 1}.",
        "finish_reason": "stop",
        "category": "sums",
        "where": f"test.json:{i}",
    } | more


# ---- flags ----------------------------------------------------------------------------------


def flags(answer, reason="stop", reference="Lima.", instruction="Name it.", input=""):
    return flags_of(instruction, input, reference, answer, reason)


@pytest.mark.parametrize("answer", ["Lima.", "It is Lima, the capital.", "5", "x = [1, 2, 3]"])
def test_an_ordinary_answer_has_no_flag(answer):
    assert flags(answer) == flags(answer, reason=None) == ()


@pytest.mark.parametrize("answer", ["", " ", "\n\n", "\t \u00a0"])
def test_an_answer_without_text_is_empty_and_nothing_else(answer):
    assert flags(answer) == ("empty",)


@pytest.mark.parametrize(
    ("reason", "is_runaway"), [("stop", False), ("length", True), ("context", True), (None, False)]
)
def test_a_runaway_is_an_answer_that_did_not_end(reason, is_runaway):
    assert ("runaway" in flags("Lima.", reason)) == is_runaway


@pytest.mark.parametrize(
    "loop",
    [
        " 25,",
        "a",
        "ha ",
        "no\n",
        "the same sentence again. ",
        "你好",
        "!",
        "Name: x\n",
        "a line of forty characters, all counted.",
    ],
)
def test_without_a_reason_a_runaway_is_an_answer_that_ends_in_a_loop(loop):
    n_times = max(10, math.ceil(100 / len(loop)))
    assert not ends_in_a_loop("Numbers:" + loop * 3)
    for broken_off in range(len(loop)):
        text = "Numbers:" + loop * (n_times + 1) + loop[:broken_off]
        assert ends_in_a_loop(text)
        assert "runaway" in flags(text, reason=None) and "runaway" not in flags(text)
        assert not ends_in_a_loop(f"{text} And then it ended.")


@pytest.mark.parametrize(
    ("instruction", "input", "answer", "reference", "is_echo"),
    [
        ("Rewrite it.", "The car is fast.", "The car is fast.", "It's a fast car.", True),
        ("Rewrite it.", "The car is fast.", "the car is fast", "It's a fast car.", True),
        ("Mend it.", "The car is fast.", "The car is fast.", "The car is fast.", False),
        ("Name the capital of Peru.", "", "Name the capital of Peru.", "Lima.", True),
        ("Name the capital of Peru.", "", "Name the capital of Peru. Name", "Lima.", True),
        ("Name the capital of Peru.", "", "The capital of Peru is Lima.", "Lima.", False),
        ("Begin", "", "Begin by reading.", "Start.", False),  # one word may be there by chance
        ("", "", "", "x", False),
        ("Sort.", "3 1 2", "3 1 2", "1 2 3", True),
    ],
)
def test_an_echo_says_the_prompt_again(instruction, input, answer, reference, is_echo):
    assert ("echo" in flags_of(instruction, input, reference, answer)) == is_echo


@pytest.mark.parametrize(
    ("answer", "reference", "is_leak"),
    [
        ("Begin\n\n### Input:\nBegin", "Start", True),
        ("Lima.\n### Instruction:", "Lima.", True),
        ("Lima.<|endoftext|>More", "Lima.", True),
        ("x<|im_start|>user", "x", True),
        ("### Title\ntext", "### A title\nmore text", False),  # Markdown was asked for
        ("### Title", "## A title", True),
        ("issue #3, ## and <|", "x", False),
    ],
)
def test_a_leak_holds_a_templates_marks(answer, reference, is_leak):
    assert ("leak" in flags(answer, reference=reference)) == is_leak


@pytest.mark.parametrize(
    "answer",
    [
        "the cat and the dog " * 4,
        "25, " * 20,
        "!" * 40,
        "a" * 40,
        "no! " * 8,
        "Begin\n\n### Input:\nBegin\n\n\nBegin\n\n### Input:\nBegin\n\nBegin\n### Input:\nBegin",
        "One true sentence to begin with. " + "and " * 30,
        "你好" * 12,
    ],
)
def test_an_answer_that_repeats_itself(answer):
    assert repeats_itself(answer) and "repeats" in flags(answer)
    assert "repeats" not in flags(answer, reference=answer)  # it was asked for


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "ha ha ha",
        "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12",
        "The cat sat on the mat. The dog sat on the rug. The bird sat in the tree.",
        "Mississippi, Mississauga",
        "1. Red\n2. Green\n3. Blue\n4. Red",
        "A rose is a rose is a rose",
    ],
)
def test_an_answer_that_does_not(answer):
    assert not repeats_itself(answer)


def test_a_long_answer_is_looked_through_in_no_time():
    rng = random.Random(0)
    text = "".join(rng.choice("ab ") for _ in range(200_000))
    started = time.process_time()
    assert not ends_in_a_loop(text) and "runaway" in flags(text + "a" * 100, reason=None)
    assert time.process_time() - started < 5  # a second; what looks at all pairs takes hours


def test_the_books_answers_have_one_runaway_and_two_leaks(shared):
    rows = read_answers(shared / "datasets/book-test-110-with-responses.json")
    report = score(rows)
    assert report.overall.tuned.flags["runaway"] == 1 and report.overall.tuned.flags["leak"] == 2
    where = {
        flag: [i for i, answer in enumerate(report.answers) if flag in answer.flags]
        for flag in FLAGS
    }
    assert where["runaway"] == [74] and where["leak"] == [49, 92]
    assert where["empty"] == [] and set(where["repeats"]) == {49, 74}
    assert all(rows[i]["response"] in rows[i].values() for i in where["echo"])
    assert report.overall.tuned.scores["exact_match"].value * 110 == pytest.approx(17)
    assert f"{report.overall.tuned.scores['rougeL'].value:.4f}" == "0.5816"


# ---- the report -----------------------------------------------------------------------------


def mixed_rows(n=60, seed=0):
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        right, near, wrong = f"It is {i + 1}.", f"{i + 1}", "I do not know this"
        rows.append(
            row(
                i,
                response=rng.choice([right, right, near, wrong]),
                base_response=rng.choice([near, wrong, wrong, "", f"What is {i} and 1?"]),
                base_finish_reason=rng.choice(["stop", "length"]),
                category=rng.choice(["sums", "sums", "words", None]),
                held_out=i % 4 == 0,
                n_tokens=rng.randint(1, 9),
            )
        )
    return rows


def test_the_means_are_those_of_the_answers():
    rows = mixed_rows()
    report = score(rows)
    for base, side, answers in (
        (False, report.overall.tuned, report.answers),
        (True, report.overall.base, report.base_answers),
    ):
        key = "base_response" if base else "response"
        assert [a[:-1] for a in answers] == [score_answer(r, base)[:-1] for r in rows]
        for name in MEANS:
            values = np.array([getattr(answer, name) for answer in answers])
            assert side.scores[name].value == pytest.approx(values.mean())
            assert side.scores[name] == pytest.approx(mean_score(values), abs=0.02)
        expected = corpus_bleu([r["output"] for r in rows], [r[key] for r in rows])
        found = side.scores["bleu"]
        assert found.value == pytest.approx(expected) and found.low <= found.value <= found.high
        for flag in FLAGS:
            assert side.flags[flag] == sum(flag in answer.flags for answer in answers)
    assert report.overall.tuned.mean_tokens == np.mean([r["n_tokens"] for r in rows])
    assert report.overall.base.mean_tokens is None


def test_groups_are_reports_of_their_rows():
    rows = mixed_rows()
    report = score(rows)
    assert set(report.groups) == {"category", "held_out"}
    names = [part.name for part in report.groups["category"]]
    assert set(names) == {"sums", "words", "(none)"} and names[0] == "sums"
    assert [part.name for part in report.groups["held_out"]] == ["no", "yes"]
    for key, value, name in (
        ("category", "words", "words"),
        ("category", None, "(none)"),
        ("held_out", True, "yes"),
    ):
        [part] = [part for part in report.groups[key] if part.name == name]
        alone = score([r for r in rows if r[key] == value]).overall
        told, expected = part.to_dict(), alone.to_dict()
        assert told.pop("name") == name and expected.pop("name") == "all"
        assert told == expected
    for parts in report.groups.values():
        assert sum(part.n for part in parts) == len(rows)


def test_what_all_rows_have_in_common_makes_no_groups():
    assert score([row(i) for i in range(3)]).groups == {}


def test_rare_categories_are_scored_together():
    rows = [row(i, category=f"kind {i % 60}") for i in range(130)]
    parts = score(rows).groups["category"]
    assert len(parts) == 51 and parts[-1].name == "(others)"
    assert sum(part.n for part in parts) == 130


def test_rows_without_a_base_answer_are_scored_without():
    report = score([row(i) for i in range(4)])
    assert report.overall.base is None and report.overall.gain is None
    assert report.base_answers == [None] * 4
    assert "base" not in as_text(report)


def test_where_some_lack_a_base_answer_the_others_are_compared():
    rows = mixed_rows(40)
    for r in rows[25:]:
        r["base_response"] = None
    report = score(rows)
    assert (report.overall.tuned.n, report.overall.base.n) == (40, 25)
    compared = score(rows[:25])
    assert report.overall.base.to_dict() == compared.overall.base.to_dict()
    assert report.overall.gain == compared.overall.gain
    tuned = score([{k: v for k, v in r.items() if not k.startswith("base")} for r in rows])
    assert report.overall.tuned.to_dict() == tuned.overall.tuned.to_dict()


def test_the_stop_rate_is_of_those_of_which_the_end_is_known():
    reasons = ["stop"] * 6 + ["length"] * 2 + ["context"] + [None] * 3
    found = score([row(i, finish_reason=reason) for i, reason in enumerate(reasons)])
    stopped = found.overall.tuned.stopped
    assert stopped.value == pytest.approx(6 / 9) and stopped.low < 6 / 9 < stopped.high
    nobody_knows = score([row(i, finish_reason=None) for i in range(3)])
    assert nobody_knows.overall.tuned.stopped is None
    assert "ended itself" not in as_text(nobody_knows)
    all_of_them = score([row(i) for i in range(10)]).overall.tuned.stopped
    assert all_of_them.value == all_of_them.high == 1 and 0.6 < all_of_them.low < 0.7


def test_a_run_against_itself_is_a_tie():
    rows = mixed_rows()
    gain = compare_runs(rows, rows).overall.gain
    assert set(gain) == set(SCORES)
    for comparison in gain.values():
        assert comparison.difference == 0 and comparison.probability_better == 0.5
        assert comparison.low < 0 < comparison.high == -comparison.low
        assert comparison.n == len(rows)


def test_a_better_run_is_told_from_a_worse_one_and_the_other_way_round():
    good = mixed_rows()
    poor = [r | {"response": r["base_response"]} for r in good]
    random.Random(1).shuffle(poor)  # rows are found by their question
    gain, loss = (compare_runs(*pair).overall.gain for pair in ((good, poor), (poor, good)))
    assert gain["f1"].probability_better > 0.99 > 0.01 > loss["f1"].probability_better
    assert gain["f1"].difference == pytest.approx(-loss["f1"].difference)
    assert gain["f1"] == score(good).overall.gain["f1"]


def test_a_report_is_plain_data():
    rows = mixed_rows()
    rows[0] |= {"category": "<script>", "response": "\ud800"}
    rows[0] |= {"output_nats": 1e6, "n_output_tokens": 1}
    report = score(rows)
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert told["overall"]["tuned"]["perplexity"]["value"] > 1e300
    assert told["overall"]["tuned"]["references_read"] == 1
    assert "perplexity" not in told["overall"]["base"]
    assert told["overall"]["tuned"]["scores"]["f1"].keys() == {"value", "low", "high"}
    assert "perplexity" in as_text(report)


def test_one_answer_makes_a_report():
    report = score([row(0, response="It is 2.", base_response="It is 1.")])
    tuned, base = report.overall.tuned.scores, report.overall.base.scores
    assert base["exact_match"] == pytest.approx((1, 0.025, 1))
    assert tuned["exact_match"] == pytest.approx((0, 0, 0.975))
    for score_, most in ((tuned["f1"], 1), (tuned["bleu"], 100)):
        assert score_.low < 0.03 * most and score_.high > 0.97 * most
    assert report.overall.gain["f1"].probability_better == 0.5  # one question, which is one coin


def test_nothing_to_score_and_nothing_to_compare_with():
    with pytest.raises(AnswersError, match="no answers"):
        score([])
    with pytest.raises(AnswersError, match="1 of 2 rows have no output"):
        score([row(1), row(2, output=None)])


def test_a_table_fits_a_terminal():
    rows = mixed_rows()
    rows[1]["category"] = "\x1b[2J"
    rows[0]["category"] = "a category with a name that is longer than a column should be"
    for lines in (as_text(score(rows)), as_text(score([row(i) for i in range(3)]))):
        assert max(map(len, lines.splitlines())) <= 100
        assert lines.replace("\n", "").isprintable()
        assert "exact match" in lines and "ROUGE-L" in lines


# ---- how surprised the models are by the references -----------------------------------------


def read_rows(n=40, nats=(2.0, 5.0)):
    """The tuned model is surprised by 2 nats a token, the base by 5, give or take."""
    spread = random.Random(0)
    rows = []
    for i in range(n):
        mine, theirs = (per * 6 * spread.uniform(0.8, 1.2) for per in nats)
        told = {"output_nats": mine, "n_output_tokens": 6, "base_response": "No."}
        told |= {"base_output_nats": theirs, "n_base_output_tokens": 6}
        rows.append(row(i, **told))
    return rows


def test_perplexity_and_bits_per_byte_are_of_all_references_together():
    rows = read_rows()
    whole = score(rows).overall
    for side, key in ((whole.tuned, "output_nats"), (whole.base, "base_output_nats")):
        nats = sum(r[key] for r in rows)
        assert side.perplexity.value == pytest.approx(math.exp(nats / (6 * len(rows))))
        n_bytes = sum(len(r["output"].encode()) for r in rows)
        assert side.bits_per_byte.value == pytest.approx(nats / math.log(2) / n_bytes)
        assert side.perplexity.low < side.perplexity.value < side.perplexity.high
        assert side.likelihood.n == len(rows)
    gain = whole.gain["bits_per_byte"]
    assert gain.difference < gain.high < 0 and gain.probability_better > 0.999  # less is better
    text = as_text(score(rows))
    assert "\nperplexity " in text and "\nbits per byte " in text and "less is better" in text
    assert max(map(len, text.splitlines())) <= 100


def test_references_that_nobody_has_read_are_left_out_and_said():
    rows = read_rows()
    for r in rows[:3]:
        del r["output_nats"], r["n_output_tokens"]
    report = score(rows)
    assert report.overall.tuned.likelihood.n == 37 and report.overall.base.likelihood.n == 40
    assert "bits_per_byte" not in report.overall.gain  # not of the same references
    assert "the 37 of 40 references" in as_text(report)
    for r in rows:
        for key in ("output_nats", "base_output_nats"):
            r.pop(key, None)
    assert "perplexity" not in as_text(score(rows))


def test_two_runs_are_compared_metric_by_metric():
    good = read_rows(nats=(2.0, 2.0))
    poor = [r | {"response": "No.", "output_nats": 3 * r["output_nats"]} for r in good]
    text = comparison_as_text(compare_runs(good, poor), "good", "a run with a very long name")
    assert max(map(len, text.splitlines())) <= 100
    assert "40 questions that both have answered" in text
    for label in ("exact match", "ROUGE-L", "BLEU", "perplexity", "bits per byte"):
        [line] = [line for line in text.splitlines() if line.startswith(label)]
        assert ">99.9%" in line or label == "perplexity", line
    [line] = [line for line in text.splitlines() if line.startswith("exact match")]
    assert line.split()[2:5] == ["100.0%", "0.0%", "+100.0%"]
    back = comparison_as_text(compare_runs(poor, good), "poor", "good")
    assert "<0.1%" in back and ">99.9%" not in back


def test_where_nothing_matches_bleu_has_an_interval_all_the_same():
    rows = [row(i, base_response="xyz") for i in range(20)]
    base = score(rows).overall.base.scores["bleu"]
    assert base.value == 0 and base.low == 0 and 10 < base.high < 20
    assert "0.0 [0.0, 0.0]" not in as_text(score(rows))


def test_no_number_of_draws_makes_a_hundred_percent():
    rows = [row(i, base_response="xyz") for i in range(10)]
    text = as_text(score(rows))
    assert ">99.9%" in text and " 100.0%\n" not in text


# ---- files of answers -----------------------------------------------------------------------


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_answers_are_read_from_a_runs_folder_and_from_a_file(tmp_path):
    rows = [row(i, input=None, base_response=None) for i in range(3)]
    write(tmp_path / "responses.jsonl", "".join(json.dumps(r) + "\n" for r in rows))
    found = read_answers(tmp_path)
    assert found == [r | {"input": ""} for r in rows] == read_answers(tmp_path / "responses.jsonl")


def test_the_books_file_and_alpaca_evals_are_read_too(tmp_path):
    book = write(
        tmp_path / "book.json",
        '[{"instruction": "a", "input": "", "output": "b", "model_response": "c"}]',
    )
    where = f"{book}:1"
    expected = {"instruction": "a", "input": "", "output": "b", "response": "c", "where": where}
    assert read_answers(book) == [expected]
    outputs = alpaca_outputs([row(0)], "mine")
    theirs = write(tmp_path / "model_outputs.json", json.dumps(outputs))
    [found] = read_answers(theirs)
    assert found["response"] == "It is 1." and found.get("output") is None
    assert found["instruction"] == "What is 0 and 1?"


def test_a_last_line_that_breaks_off_is_left_out(tmp_path):
    lines = [json.dumps(row(i, response="çok 🐈"), ensure_ascii=False) + "\n" for i in range(3)]
    whole = "".join(lines).encode()
    first_two = len("".join(lines[:2]).encode())
    path = tmp_path / "responses.jsonl"
    for cut in range(first_two, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert len(read_answers(path)) == 2, whole[first_two:cut]
    path.write_bytes(whole[:-1])
    assert len(read_answers(path)) == 3


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['{"instruction": "a", "output": "b"}'], "1: there is no response"),
        (['{"response": "a"}'], "1: there is no instruction"),
        (['{"instruction": "a", "response": 5}'], "1: response must be a text, not 5"),
        (['{"instruction": "a", "response": "b", "output": []}'], "1: output must be a text"),
        (["{}", '{"instruction'], "1: there is no instruction"),
        (['{"instruction": "a", "response": "b"', '{"instruction": "a", "response": "b"}'], ":1:"),
        (["[1]"], "an answer is an object"),
        (['{"instruction": "a", "response": null}'], "1: response must be a text, not None"),
        (['{"instruction": "a", "response": "b", "n_tokens": "5"}'], "1: n_tokens must be a whole"),
        (['{"instruction": "a", "response": "b", "where": 7}'], "1: where must be a text, not 7"),
        (['{"instruction": "a", "response": "b", "finish_reason": []}'], "finish_reason must be a"),
        (['{"instruction": "a", "response": "b", "output_nats": NaN}'], ":1"),
        ([""], "holds no records"),
    ],
)
def test_what_is_no_answer_is_named_by_file_and_line(lines, said, tmp_path):
    path = write(tmp_path / "responses.jsonl", "\n".join(lines) + "\n")
    with pytest.raises(AnswersError) as caught:
        read_answers(path)
    assert said in str(caught.value) and str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(AnswersError, match=r"responses\.jsonl: no such file"):
        read_answers(tmp_path)


def test_two_runs_are_put_side_by_side_by_their_questions():
    mine = [row(1, response="m1"), row(2, response="m2"), row(1, response="m3"), row(9)]
    other = [row(2, response="o2"), row(1, response="o1"), row(1, response="o3"), row(8)]
    both = beside(mine, other)
    assert [(r["response"], r["base_response"]) for r in both] == [
        ("m1", "o1"), ("m2", "o2"), ("m3", "o3")
    ]  # fmt: skip
    with pytest.raises(AnswersError, match="no question in common"):
        beside([row(1)], [row(2)])
