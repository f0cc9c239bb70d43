"""Test answers: each is kept when it is finished; a stopped run ends as one never stopped does."""

import json
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest
import torch

from gpt import answering
from gpt.answering import answer_test, base_of, run_of, test_records
from gpt.answers import read_answers
from gpt.counting import Counting
from gpt.errors import UserError
from gpt.generate import generate
from gpt.locks import locked_file
from gpt.metrics import as_text, score
from gpt.records import Record, Turn, load_records
from gpt.responses import Answer, Responses, outcome, row_of
from gpt.run_folder import locked
from gpt.speaking import Controls, load_speaker
from gpt.stopping import StopRequested, StopRequests
from gpt.weights import load_model, save_model
from tests.runs import change_letters, make_world, run_script, run_to_end, settings_in

ROOT = Path(__file__).parents[1]
SHORT = Controls(max_new_tokens=8)
test_records.__test__ = answer_test.__test__ = False  # their names begin like a test's


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A run of random weights, and a second that was tuned from the first."""
    world = make_world(tmp_path_factory.mktemp("world"))

    def change(i: int, record: dict) -> None:
        record["category"] = "after" if "after" in record["instruction"] else "before"
        if i % 5 == 2:
            record["split"] = "test"

    change_letters(world, change)
    run_to_end(settings_in(world, "first", max_steps=2))
    changed = {"model": str(world / "first"), "from_scratch": False, "template": None}
    run_to_end(settings_in(world, "second", max_steps=2, **changed))
    for seed, name in enumerate(("first", "second")):
        scramble(world / name / "best", seed)
    return world


def scramble(folder: Path, seed: int) -> None:
    """Models that babble: their answers are long, and differ."""
    torch.manual_seed(seed)
    model = load_model(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    save_model(model, folder)


@pytest.fixture(scope="module")
def records(world):
    return test_records(world / "second")


def answer(world, records, out, base: str | None = "first", controls=SHORT, **more):
    more = {"device": "cpu", "say": lambda line: None} | more
    base = None if base is None else world / base
    return answer_test(world / "second", records, out, base, controls, **more)


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class After(StopRequests):
    """Asks to stop at the n-th place where somebody looks."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def check(self) -> None:
        self.n -= 1
        if self.n < 0:
            raise StopRequested


def test_rows_hold_both_models_answers_in_the_order_of_the_data(world, records, tmp_path):
    rows = answer(world, records, tmp_path / "r.jsonl")
    assert rows == lines_of(tmp_path / "r.jsonl") and len(rows) == len(records) >= 10
    for side, folder, reason, n_tokens in (
        ("response", "second", "finish_reason", "n_tokens"),
        ("base_response", "first", "base_finish_reason", "n_base_tokens"),
    ):
        speaker = load_speaker(world / folder, device="cpu")
        prompts = [speaker.template.prompt_ids(speaker.tokenizer, r.turns[:1]) for r in records]
        answers = generate(speaker.model, prompts, 8, tokenizer=speaker.tokenizer)
        assert [row[side] for row in rows] == [a.text for a in answers]
        assert [row[reason] for row in rows] == [a.finish_reason for a in answers]
        assert [row[n_tokens] for row in rows] == [len(a.ids) for a in answers]
    assert any(row["response"] != row["base_response"] for row in rows)
    for row, record in zip(rows, records, strict=True):
        assert (row["instruction"], row["output"]) == (record.turns[0].text, record.turns[1].text)
        assert row["where"] == record.where and row["category"] == record.extra["category"]
    assert [row["response"] for row in read_answers(tmp_path / "r.jsonl")] == [
        row["response"] for row in rows
    ]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("together", [True, False])
def test_a_stopped_run_ends_as_one_never_stopped(
    world, records, tmp_path, monkeypatch, together, temperature
):
    monkeypatch.setattr(answering, "TOGETHER", 2**30 if together else 0)
    monkeypatch.setattr(answering, "_ROWS", {"cpu": 3})
    controls = Controls(max_new_tokens=8, temperature=temperature, seed=3)
    answer(world, records, tmp_path / "whole.jsonl", controls=controls)
    out = tmp_path / "stopped.jsonl"
    seen, n_stops = b"", 0
    while True:
        try:
            answer(world, records, out, controls=controls, stop=After(25), batch_size=2)
            break
        except StopRequested:
            n_stops += 1
            now = out.read_bytes() if out.exists() else b""
            assert now.startswith(seen) and not now[len(seen) :].strip(b"\n").endswith(b",")
            seen = now
    assert n_stops > 3
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert len(out.with_suffix(".journal").read_bytes().splitlines()) == 1


@pytest.mark.parametrize("together", [True, False])
def test_nothing_that_was_answered_is_asked_again(world, records, tmp_path, monkeypatch, together):
    monkeypatch.setattr(answering, "TOGETHER", 2**30 if together else 0)
    asked = []

    def counted(model, prompts, *more, on_finished, **settings):
        def keep(place, result):
            asked.append(tuple(prompts[place]))
            on_finished(place, result)

        return generate(model, prompts, *more, on_finished=keep, **settings)

    monkeypatch.setattr(answering, "generate", counted)
    out = tmp_path / "r.jsonl"
    with pytest.raises(StopRequested):
        answer(world, records, out, stop=After(40), batch_size=2)
    answer(world, records, out)
    assert len(asked) == 2 * len(records)
    answer(world, records, out)
    assert len(asked) == 2 * len(records)


def test_two_large_models_are_never_in_memory_at_once(world, records, tmp_path, monkeypatch):
    monkeypatch.setattr(answering, "TOGETHER", 0)
    monkeypatch.setattr(answering, "_ROWS", {"cpu": 2})
    loaded, alive = [], []

    def watched(folder, *more):
        alive.append(sum(one() is not None for one in loaded))
        speaker = load_speaker(folder, *more)
        loaded.append(weakref.ref(speaker.model))
        return speaker

    monkeypatch.setattr(answering, "load_speaker", watched)
    answer(world, records, tmp_path / "r.jsonl")
    assert alive == [0, 0]


@pytest.mark.parametrize("n_lost", [1, 30, 400])
def test_a_line_that_breaks_off_is_written_again(world, records, tmp_path, n_lost):
    out = tmp_path / "r.jsonl"
    answer(world, records, out)
    whole = out.read_bytes()
    out.write_bytes(whole[:-n_lost])
    out.with_suffix(".journal").write_bytes(
        out.with_suffix(".journal").read_bytes() + b'{"row": 9, "si'
    )
    answer(world, records, out)
    assert out.read_bytes() == whole


def test_a_file_can_be_read_at_any_time(world, records, tmp_path, monkeypatch):
    monkeypatch.setattr(answering, "_ROWS", {"cpu": 1})
    out, n_rows = tmp_path / "r.jsonl", []

    class Reader(StopRequests):
        def check(self):
            if out.exists():
                n_rows.append(len(read_answers(out)))

    answer(world, records, out, stop=Reader(), batch_size=1)
    assert n_rows == sorted(n_rows) and len(set(n_rows)) > 5


def test_answers_of_another_make_are_refused_and_named(world, records, tmp_path):
    out = tmp_path / "r.jsonl"
    answer(world, records, out)
    before = out.read_bytes()
    for what, changes in (
        ("temperature", {"controls": Controls(max_new_tokens=8, temperature=0.5)}),
        ("max_new_tokens", {"controls": Controls(max_new_tokens=9)}),
        ("base model", {"base": None}),
        ("base model", {"base": "second"}),
    ):
        with pytest.raises(UserError, match=rf"r\.jsonl: .*\({what}.*--overwrite"):
            answer(world, records, out, **changes)
        assert out.read_bytes() == before
    rows = answer(world, records, out, base=None, overwrite=True)
    assert "base_response" not in rows[0] and lines_of(out) == rows


def test_guessing_is_no_other_make(world, records, tmp_path):
    """Nor does a file that was written before there was such a setting say otherwise."""
    out = tmp_path / "responses.jsonl"
    first = answer(world, records, out, limit=2)
    rows = answer(world, records, out, controls=Controls(max_new_tokens=8, lookup=4))
    assert rows[:2] == first[:2]
    assert answer(world, records, tmp_path / "plain.jsonl") == rows
    assert "lookup" not in "".join(p.read_text("utf-8") for p in tmp_path.iterdir())


def test_a_model_that_was_trained_on_answers_anew_only_when_asked(world, records, tmp_path):
    out, folder = tmp_path / "r.jsonl", tmp_path / "model"
    save_model(load_model(world / "second"), folder)
    settings = {"controls": SHORT, "device": "cpu", "say": lambda line: None}
    first = answer_test(folder, records, out, **settings)
    scramble(folder, seed=2)
    with pytest.raises(UserError, match="tuned model"):
        answer_test(folder, records, out, **settings)
    again = answer_test(folder, records, out, replace_other=True, **settings)
    assert [row["response"] for row in again] != [row["response"] for row in first]


def test_a_file_that_is_not_ours_is_left_alone(world, records, tmp_path):
    out = tmp_path / "r.jsonl"
    out.write_text('{"mine": 1}\nno line break', encoding="utf-8")
    with pytest.raises(UserError, match="nothing tells what made it"):
        answer(world, records, out)
    assert out.read_text(encoding="utf-8") == '{"mine": 1}\nno line break'
    out.unlink()
    out.with_suffix(".journal").write_text("Dear diary,\nno line break", encoding="utf-8")
    with pytest.raises(UserError, match="in the way"):
        answer(world, records, out)
    assert "Dear diary,\nno line" in out.with_suffix(".journal").read_text(encoding="utf-8")


def test_other_data_in_the_same_file_is_refused_with_its_line(world, records, tmp_path):
    out = tmp_path / "r.jsonl"
    answer(world, records[:4], out)
    with pytest.raises(UserError, match=r"r\.jsonl:2: is not the answer to .*letters\.json:"):
        answer(world, [records[0], *records[2:]], out)
    answer(world, records, out)  # more of the same is no other data
    assert len(lines_of(out)) == len(records)


def test_answers_in_the_journal_go_to_their_own_questions(world, records, tmp_path):
    out = tmp_path / "r.jsonl"
    with pytest.raises(StopRequested):
        answer(world, records, out, stop=After(60), batch_size=2)
    assert not out.exists() and out.with_suffix(".journal").read_bytes().count(b"\n") > 3
    answer(world, records[::-1], out)
    answer(world, records[::-1], tmp_path / "whole.jsonl")
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_half_precision_answers_too(world, records, tmp_path):
    rows = answer(world, records, tmp_path / "r.jsonl", precision="bf16")
    assert len(rows) == len(records)
    with pytest.raises(UserError, match=r"\(precision\)"):
        answer(world, records, tmp_path / "r.jsonl")


def test_rows_hold_how_surprised_each_model_is_by_the_reference(world, records, tmp_path):
    rows = answer(world, records, tmp_path / "r.jsonl")
    for folder, nats, n_tokens in (
        ("second", "output_nats", "n_output_tokens"),
        ("first", "base_output_nats", "n_base_output_tokens"),
    ):
        speaker = load_speaker(world / folder, device="cpu")
        for row, record in zip(rows, records, strict=True):
            prompt = speaker.template.prompt_ids(speaker.tokenizer, record.turns[:1])
            ids = [*speaker.tokenizer.encode(record.turns[1].text), speaker.tokenizer.end_id]
            with torch.no_grad():
                logits = speaker.model(torch.tensor([prompt + ids]))[0].log_softmax(-1)
            each = [-float(logits[len(prompt) - 1 + t, id]) for t, id in enumerate(ids)]
            assert row[nats] == pytest.approx(sum(each), abs=6e-3)
            assert row[n_tokens] == len(ids)
    assert "perplexity" in as_text(score(rows))


def test_a_reference_that_is_none_or_does_not_fit_has_no_likelihood(world, tmp_path):
    asked = Turn("user", "What comes after a?")
    records = [
        Record((asked,), "x.json", 1, {}),
        Record((asked, Turn("assistant", "b" * 60)), "x.json", 2, {}),
        Record((asked, Turn("assistant", "b")), "x.json", 3, {}),
    ]
    rows = answer(world, records, tmp_path / "r.jsonl")
    assert ["output_nats" in row for row in rows] == [False, False, True]
    assert ["base_output_nats" in row for row in rows] == [False, False, True]


def test_the_clock_starts_when_a_model_is_loaded(world, records, tmp_path, monkeypatch):
    """Loading takes a minute here, an answer next to nothing: nobody is told of minutes left."""
    now, left = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def slow(*more):
        now[0] += 60
        return load_speaker(*more)

    def noted(self, done):
        now[0] += 0.1
        really(self, done)
        left.append(self.seconds_left())

    really = Counting.__call__
    monkeypatch.setattr(Counting, "__call__", noted)
    monkeypatch.setattr(answering, "load_speaker", slow)
    answer(world, records, tmp_path / "r.jsonl")
    assert len(left) == 2 * len(records) and max(left) < 0.1 * 2 * len(records) + 1


def test_a_prompt_without_room_gets_an_empty_answer_and_the_numbers(world, tmp_path):
    long = Record((Turn("user", "What? " * 30), Turn("assistant", "b")), "x.json", 1, {})
    short = Record((Turn("user", "What comes after a?"), Turn("assistant", "b")), "x.json", 2, {})
    rows = answer(world, [long, short], tmp_path / "r.jsonl")
    assert rows[0]["response"] == rows[0]["base_response"] == ""
    assert rows[0]["finish_reason"] == rows[0]["base_finish_reason"] == "context"
    assert "sees 40 at once" in rows[0]["note"]
    assert rows[1]["n_tokens"] > 0 and "note" not in rows[1]


def test_a_row_keeps_the_conversation_and_what_else_its_record_holds():
    turns = (
        Turn("system", "Be short."), Turn("user", "Add 2.", "2"), Turn("assistant", "4"),
        Turn("user", "And 3?", "x"), Turn("assistant", "7"),
    )  # fmt: skip
    extra = {"held_out": True, "response": "not the model's", "where": "nowhere"}
    row = row_of(Record(turns, "x.json", 7, extra), ["response"])
    assert (row["instruction"], row["input"], row["output"]) == ("And 3?", "x", "7")
    assert row["turns"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Add 2.", "input": "2"},
        {"role": "assistant", "content": "4"},
    ]
    assert row["held_out"] is True and row["response"] is None and row["where"] == "x.json:7"
    assert row["category"] == ""


def test_any_text_comes_back_from_the_disk_as_it_was(tmp_path):
    texts = ["a\nb\r\nc\x00\x1b", "\u2028 \u200d🐈", "<|endoftext|> </script>"]
    records = [Record((Turn("user", t), Turn("assistant", t)), "x", 1, {"k": t}) for t in texts]
    path = tmp_path / "r.jsonl"
    for _ in range(2):  # the second finds all, and takes it for its own
        responses = Responses(path, [row_of(r, ["response"]) for r in records], ["response"])
        responses.begin({"model": "x"})
        for i in range(responses.n_whole, len(texts)):
            responses.add(i, "response", Answer(texts[i], "stop", 1))
    assert responses.n_whole == len(texts)
    assert [row["response"] for row in read_answers(path)] == texts


def test_a_full_disk_costs_no_row_that_was_written(small_disk):
    record = Record((Turn("user", "x" * 300_000), Turn("assistant", "y")), "x", 1, {})

    def begun(n: int) -> Responses:
        rows = [row_of(record, ["response"]) for _ in range(n)]
        responses = Responses(small_disk / "r.jsonl", rows, ["response"])
        responses.begin({"model": "x"})
        return responses

    responses = begun(9)
    with pytest.raises(UserError, match=r"r\.jsonl: not written: No space"):
        for i in range(9):
            responses.add(i, "response", Answer("z", "stop", 1))
    n = responses.n_whole
    assert n == len(lines_of(small_disk / "r.jsonl")) == begun(n).n_whole >= 2


def test_the_outcome_counts_what_has_a_reference():
    def row(output, response, reason):
        return {"output": output, "response": response, "finish_reason": reason}

    rows = [row("Lima", "lima.", "stop"), row("Lima", "Rome", "length"), row(None, "x", "stop")]
    told = "tuned exact match 1/2 (50.0%); 2 of 3 answers ended by themselves"
    assert outcome(rows) == told


# ---- of a run, and its script ---------------------------------------------------------------


def respond(world, *more: str):
    return run_script(
        "respond", "--model", str(world / "second"), "--device", "cpu", "--max-new-tokens", "8",
        *more,
    )  # fmt: skip


def test_a_run_knows_its_test_records_and_its_base(world, records):
    whole = load_records([world / "letters.json"])
    assert records == [r for r in whole if r.extra["split"] == "test"]
    assert base_of(world / "second") == str(world / "first") and base_of(world / "first") is None
    assert run_of(world / "second" / "best") == run_of(world / "second") == world / "second"
    assert run_of(world / "vocabulary") is None and run_of("gpt2") is None


def test_the_script_answers_a_runs_own_test_records(world, records):
    ended = respond(world)
    assert ended.returncode == 0, ended.stderr
    rows = read_answers(world / "second")
    assert [row["instruction"] for row in rows] == [r.turns[0].text for r in records]
    assert f"{len(rows)} rows: {world / 'second' / 'responses.jsonl'}" in ended.stdout
    assert ended.stdout.startswith("tuned exact match ") and "\nbase  exact match " in ended.stdout
    before = (world / "second" / "responses.jsonl").read_bytes()
    again = respond(world)
    assert again.stdout == ended.stdout and "rows already" in again.stderr
    refused = respond(world, "--seed", "5")
    assert refused.returncode == 1 and "(seed)" in refused.stderr.splitlines()[0]
    assert respond(world, "--overwrite").returncode == 0
    assert (world / "second" / "responses.jsonl").read_bytes() == before


def test_the_script_answers_bare_prompts_with_one_model(world, tmp_path):
    (tmp_path / "bare.json").write_text(
        '[{"instruction": "What comes after a?"}]', encoding="utf-8"
    )
    out = tmp_path / "out.jsonl"
    ended = respond(
        world, "--data", str(tmp_path / "bare.json"), "--out", str(out), "--base", "none"
    )
    assert ended.returncode == 0, ended.stderr
    [row] = lines_of(out)
    assert row["output"] is None and row["response"] and "base_response" not in row
    assert "exact match" not in ended.stdout


def test_data_that_has_changed_since_is_not_taken_for_the_test(world, tmp_path):
    run_to_end(settings_in(world, "third", max_steps=1))
    path = world / "letters.json"
    before = path.read_bytes()
    try:
        path.write_bytes(before.replace(b"after a?", b"after A?"))
        ended = run_script("respond", "--model", str(world / "third"))
    finally:
        path.write_bytes(before)
    assert ended.returncode == 1 and "data has changed" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_run_is_answered_from_wherever_one_stands(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    world = make_world(tmp_path / "work")
    text = (world / "letters.json").read_text(encoding="utf-8")
    text = text.replace('"validation"', '"test"', 3)
    (world / "letters.json").write_text(text, encoding="utf-8")
    monkeypatch.chdir(world)
    changed = {"model": "vocabulary", "data": ["letters.json"], "out": "runs/one", "max_steps": 1}
    run_to_end(settings_in(world, **changed))
    named = test_records(Path("runs/one"))
    settings = {"model": "runs/one", "from_scratch": False, "template": None, "out": "runs/two"}
    run_to_end(settings_in(world, **changed | settings))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert test_records(world / "runs" / "one") == named  # and their file as the run names it
    assert base_of(world / "runs" / "two") == str(world / "runs" / "one")
    (world / "runs" / "one").rename(tmp_path / "moved")
    ended = run_script("respond", "--model", str(tmp_path / "moved"))
    assert ended.returncode == 1 and len(ended.stderr.splitlines()) == 1
    assert "letters.json, as run.json names it: run this where" in ended.stderr


def test_two_at_once_are_refused_wherever_they_write(world, records, tmp_path):
    out = tmp_path / "r.jsonl"
    with locked_file(out):
        ended = respond(world, "--out", str(out))
    assert ended.returncode == 1 and f"{out}: another process" in ended.stderr
    assert not out.exists()
    with locked(world / "first"):  # a run that is at work, given as somebody else's --out
        ended = respond(world, "--out", str(world / "first" / "responses.jsonl"))
    assert ended.returncode == 1 and "another process" in ended.stderr


def test_a_limit_says_how_many_rows_there_are(world, records, tmp_path):
    out = tmp_path / "r.jsonl"
    assert "3 rows: " in respond(world, "--out", str(out), "--limit", "3").stdout
    respond(world, "--out", str(out), "--limit", "5")
    ended = respond(world, "--out", str(out), "--limit", "3")
    assert f"5 rows (more than --limit 3): {out}" in ended.stdout
    assert "of 5 answers" in ended.stdout


def test_nothing_is_lost_to_an_overwrite_that_cannot_begin(world, records, tmp_path):
    out = tmp_path / "r.jsonl"
    answer(world, records, out)
    before = out.read_bytes()
    assert respond(world, "--out", str(out), "--overwrite", "--device", "abacus").returncode == 1
    data = ["--data", str(out), "--out", str(out), "--overwrite"]
    ended = respond(world, *data)
    assert ended.returncode == 1 and "is the data itself" in ended.stderr
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "nowhere"], "is no run"),
        (["--model", "vocabulary"], "is no run"),
        (["--model", "first", "--limit", "0"], "--limit must be at least 1"),
        (["--model", "first", "--out", "x.json"], "JSON lines"),
        (["--model", "first", "--top-p", "2"], "top_p must be"),
        (["--model", "first", "--max-new-tokens", "-1"], "max_new_tokens must be"),
        (["--model", "first", "--device", "abacus"], "--device abacus"),
        (["--model", "first", "--template", "chatml"], "tuned with the template 'plain'"),
        (["--model", "first", "--base", "nowhere"], "--base none answers without it"),
        (["--model", "first", "--data", "none.json"], "none.json"),
        (["--model", "first", "--temprature", "1"], "did you mean --temperature"),
    ],
)
def test_mistakes_are_told_in_a_line_or_two(world, monkeypatch, arguments, said):
    monkeypatch.chdir(world)
    ended = run_script("respond", *arguments)
    assert ended.returncode in (1, 2) and said in ended.stderr, ended.stderr
    assert "Traceback" not in ended.stderr and len(ended.stderr.splitlines()) <= 3


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send")
@pytest.mark.parametrize(
    "kind",
    ["SIGKILL", *(pytest.param(name, marks=pytest.mark.slow) for name in ("SIGTERM", "SIGINT"))],
)
def test_a_killed_script_goes_on_where_it_was(world, tmp_path, kind):
    kind = getattr(signal, kind)
    out = tmp_path / "r.jsonl"
    given = ["--out", str(out), "--batch-size", "1", "--temperature", "1"]
    fixed = ["--model", str(world / "second"), "--device", "cpu", "--max-new-tokens", "8"]
    slow = (
        "import sys, time, runpy; sys.argv[0] = 'scripts/respond.py'; sys.path.insert(0, '.')\n"
        "import gpt.rows as r; add = r.Row.add\n"
        "r.Row.add = lambda *a: (time.sleep(0.01), add(*a))[1]\n"
        "runpy.run_path('scripts/respond.py', run_name='__main__')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", slow, *fixed, *given],
        cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip
    journal, deadline = out.with_suffix(".journal"), time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") > 4:
            break
        time.sleep(0.01)
    process.send_signal(kind)
    _, said = process.communicate(timeout=60)
    n_kept = journal.read_bytes().count(b"\n") - 1
    assert n_kept >= 4 and process.returncode in (-kind, 128 + kind), said
    if kind != signal.SIGKILL:
        assert "To go on:\n  python scripts/respond.py --model" in said and "Traceback" not in said
    ended = respond(world, *given[:-1], "1")
    assert ended.returncode == 0, ended.stderr
    other = tmp_path / "whole.jsonl"
    assert respond(world, "--out", str(other), "--temperature", "1").returncode == 0
    assert out.read_bytes() == other.read_bytes()
