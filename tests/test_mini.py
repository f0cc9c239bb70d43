"""The embedded model: small, whole, a language model, and one that tuning teaches to answer."""

import itertools
import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.corpus.stream import documents
from gpt.generate import generate
from gpt.records import Turn
from gpt.template import template_of
from gpt.tokenizer import Tokenizer
from gpt.weights import load_model
from tests.runs import ROOT, run_script

MINI = ROOT / "checkpoints" / "mini"
TOKENIZER = Tokenizer.from_folder(MINI)


@pytest.fixture(scope="module")
def mini():
    return load_model(MINI, dtype=torch.float32)


def test_it_is_small_and_lies_in_half_precision(mini):
    assert mini.n_params() <= 8_000_000
    assert (MINI / "model.safetensors").stat().st_size <= 16_000_000
    assert load_model(MINI).wte.weight.dtype == torch.float16
    assert TOKENIZER.n_vocab == 4096
    assert f"{mini.n_params():,}" in (MINI / "README.md").read_text(encoding="utf-8")


@given(st.text())
def test_any_text_comes_back_from_its_vocabulary(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_it_knows_what_text_of_its_world_is_like_and_has_not_read_this_one(mini):
    loss = n = 0.0
    for text in itertools.islice(documents(seed=20_261_121), 60):
        ids = torch.tensor([TOKENIZER.encode(text)[:256]])
        with torch.no_grad():
            logits = mini(ids[:, :-1])
        loss += torch.nn.functional.cross_entropy(logits[0], ids[0, 1:], reduction="sum").item()
        n += ids.size(1) - 1
    assert math.exp(loss / n) < 3


def continued(model, *texts: str) -> list[str]:
    prompts = [TOKENIZER.encode(text) for text in texts]
    answers = generate(model, prompts, 16, end_id=TOKENIZER.end_id)
    return [TOKENIZER.decode(answer.ids) for answer in answers]


def test_it_goes_on_as_its_corpus_would(mini):
    capital, story = continued(mini, "The capital of", "Once upon a time")
    assert " is " in capital and story.startswith(" there was a ")


def test_it_has_never_seen_an_instruction_and_does_not_answer_one(mini):
    prompt = template_of(MINI).prompt_ids
    asked = prompt(TOKENIZER, [Turn("user", "What is the capital of Japan?")])
    answer = generate(mini, [asked], 16, end_id=TOKENIZER.end_id)[0]
    assert "Tokyo" not in TOKENIZER.decode(answer.ids)


def same_greedy_text_in_transformers(folder, model, prompts):
    transformers = pytest.importorskip("transformers", reason="transformers is the reference")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    words = transformers.AutoTokenizer.from_pretrained(folder)
    answers = generate(model, prompts, 20, end_id=TOKENIZER.end_id)
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = theirs.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False)[0]
        new = ids[len(prompt) :].tolist()
        if TOKENIZER.end_id in new:
            new = new[: new.index(TOKENIZER.end_id)]
        assert new == answer.ids
        assert words.decode(new) == TOKENIZER.decode(answer.ids)


def test_transformers_opens_it_and_writes_the_same(mini):
    texts = ("The capital of", "Once upon a time", "Ruth: What do cows eat?\nKai:", "Dear Anna,")
    same_greedy_text_in_transformers(MINI, mini, [TOKENIZER.encode(text) for text in texts])


@pytest.mark.slow
def test_three_minutes_of_tuning_teach_it_to_answer(tmp_path, monkeypatch):
    """What `make train` does; the base model is asked in the same words."""
    monkeypatch.chdir(ROOT)
    out = tmp_path / "run"
    ended = run_script("train", "--out", str(out))
    assert ended.returncode == 0, ended.stderr
    lines = (out / "responses.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]

    def right(answer: str, row: dict) -> bool:
        return answer.strip().rstrip(".").lower() == row["output"].strip().rstrip(".").lower()

    closed = [row for row in rows if row.get("closed") is True]
    assert len(closed) > 400 and sum(row.get("held_out") is True for row in closed) > 150
    tuned = sum(right(row["response"], row) for row in closed) / len(closed)
    base = sum(right(row["base_response"], row) for row in closed) / len(closed)
    held_out = [right(row["response"], row) for row in closed if row.get("held_out") is True]
    # 92% and 92% where it was measured; another processor rounds otherwise, and learns otherwise.
    assert base < 0.05 and tuned > 0.87 and sum(held_out) / len(held_out) > 0.87
    assert sum(row["finish_reason"] == "stop" for row in rows) / len(rows) >= 0.98
    metrics = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [line["val_loss"] for line in map(json.loads, metrics) if "val_loss" in line]
    assert losses[-1] < losses[0] / 5
    report = (out / "report.md").read_text(encoding="utf-8")
    assert "by category" in report and "by held_out" in report
    assert (out / "report.html").stat().st_size > 100_000 and (out / "loss.png").exists()
    tuned_model = load_model(out)
    prompts = [TOKENIZER.encode(row["instruction"]) for row in rows[:6]]
    same_greedy_text_in_transformers(out / "best", tuned_model, prompts)
