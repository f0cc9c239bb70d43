"""`scripts/generate.py`: one prompt as it is written, a file of them as JSON lines."""

import json
import math
from pathlib import Path

import pytest
import torch

from gpt.config import GPTConfig
from gpt.generate import generate
from gpt.likelihood import score_choices
from gpt.model import GPT
from gpt.records import Turn
from gpt.speaking import load_speaker
from gpt.template import BUILT_IN, Template
from gpt.tokenizer import Tokenizer, learn_merges, tiny_vocabulary
from gpt.weights import load_model, save_model
from tests.runs import run_script

TEMPLATE = Template("short", "You: {instruction}", "\nBot:\n")
VOCABULARY = tiny_vocabulary(learn_merges("You: What is up?\nBot: Below is an instruction", 30))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A base model, and the same with a template: as good as tuned."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    model = GPT(GPTConfig(Tokenizer(VOCABULARY).n_vocab, 256, n_layer=1, n_head=2, n_embd=16))
    model.vocabulary = VOCABULARY
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    save_model(model, folder / "base")
    model.vocabulary = TEMPLATE.add_to(VOCABULARY)
    save_model(model, folder / "tuned")
    return folder


def ask(folder: Path, *more: str):
    given = ["--model", str(folder), "--device", "cpu", "--max-new-tokens", "8", *more]
    return run_script("generate", *given)


def expected(folder: Path, turns: list[Turn], template=TEMPLATE, **settings):
    speaker = load_speaker(folder, device="cpu")
    prompt = template.prompt_ids(speaker.tokenizer, turns)
    [answer] = generate(speaker.model, [prompt], 8, tokenizer=speaker.tokenizer, **settings)
    return answer


def test_an_instruction_is_asked_in_the_models_own_template(folders):
    ended = ask(folders / "tuned", "--prompt", "What is up?", "--input", "Here.")
    assert ended.returncode == 0, ended.stderr
    answer = expected(folders / "tuned", [Turn("user", "What is up?", "Here.")])
    assert ended.stdout == answer.text + "\n" and answer.text
    assert "tuned with the template short" in ended.stderr
    assert "(length: --max-new-tokens 8)" in ended.stderr


def test_a_base_model_is_told_apart(folders):
    ended = ask(folders / "base", "--prompt", "What is up?")
    turns = [Turn("user", "What is up?")]
    assert ended.stdout == expected(folders / "base", turns, BUILT_IN["alpaca"]).text + "\n"
    told = [line for line in ended.stderr.splitlines() if "never tuned to follow" in line]
    assert len(told) == 1 and "template alpaca" in told[0]
    other = ask(folders / "base", "--prompt", "What is up?", "--template", "plain")
    assert other.stdout == expected(folders / "base", turns, BUILT_IN["plain"]).text + "\n"


@pytest.mark.parametrize("text", ["Once upon", " two  spaces ", "", "<|endoftext|>"])
def test_a_raw_text_goes_on_as_it_stands(folders, text):
    ended = ask(folders / "base", "--raw", text, "--temperature", "1", "--seed", "3")
    model = load_model(folders / "base")
    tokenizer = Tokenizer(model.vocabulary)
    prompt = tokenizer.encode(text) or [tokenizer.end_id]
    [answer] = generate(model, [prompt], 8, 1.0, seed=3, tokenizer=tokenizer)
    assert ended.returncode == 0 and ended.stdout == answer.text + "\n"
    assert "never tuned to follow" not in ended.stderr


def test_sampling_flags_reach_the_model(folders):
    flags = ["--temperature", "0.9", "--top-k", "9", "--top-p", "0.9", "--min-p", "0.01"]
    flags += ["--repetition-penalty", "1.3", "--seed", "5", "--stop", "zz", "--stop", "e"]
    ended = ask(folders / "tuned", "--prompt", "What?", *flags)
    settings = {"top_k": 9, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.3, "seed": 5}
    answer = expected(
        folders / "tuned", [Turn("user", "What?")], temperature=0.9, stop=["zz", "e"], **settings
    )
    assert ended.stdout == answer.text + "\n"


def test_log_probabilities_follow_the_answer_token_by_token(folders):
    ended = ask(folders / "tuned", "--prompt", "What?", "--logprobs")
    answer = expected(folders / "tuned", [Turn("user", "What?")], logprobs=True)
    lines = ended.stdout.removeprefix(answer.text + "\n").splitlines()
    told = [float(line.split()[0]) for line in lines]
    assert len(told) == len(answer.ids) == 8
    assert all(math.isclose(a, b, abs_tol=1e-4) for a, b in zip(told, answer.logprobs, strict=True))


@pytest.mark.parametrize("batch_size", ["1", "3"])
def test_a_file_of_lines_is_answered_in_its_order(folders, tmp_path, batch_size):
    texts = ["What is up?", "A", "And what is it that is up, and what is not?", "Up 🐈"]
    (tmp_path / "prompts.txt").write_text("\n\n".join(texts), encoding="utf-8")
    out = tmp_path / "new" / "answers.jsonl"
    given = ["--file", str(tmp_path / "prompts.txt"), "--batch-size", batch_size]
    ended = ask(folders / "tuned", *given, "--out", str(out), "--logprobs")
    assert ended.returncode == 0 and ended.stdout == "", ended.stderr
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row["instruction"] for row in rows] == texts
    assert [row["where"].rpartition(":")[2] for row in rows] == ["1", "3", "5", "7"]
    for row in rows:
        answer = expected(folders / "tuned", [Turn("user", row["instruction"])])
        assert (row["response"], row["finish_reason"]) == (answer.text, answer.finish_reason)
        assert row["n_tokens"] == len(row["logprobs"]) == len(row["tokens"]) == len(answer.ids)
        assert "output" not in row
    without = ask(folders / "tuned", *given)
    assert [json.loads(line)["response"] for line in without.stdout.splitlines()] == [
        row["response"] for row in rows
    ]


def test_a_file_of_records_keeps_what_they_hold(folders, tmp_path):
    records = [
        {"instruction": "What?", "input": "Up.", "output": "It.", "category": "c", "id": 7},
        {"instruction": "x y z " * 200},
    ]
    (tmp_path / "prompts.json").write_text(json.dumps(records), encoding="utf-8")
    ended = ask(folders / "tuned", "--file", str(tmp_path / "prompts.json"))
    first, second = map(json.loads, ended.stdout.splitlines())
    assert (first["input"], first["output"], first["category"], first["id"]) == (
        "Up.", "It.", "c", 7,
    )  # fmt: skip
    turns = [Turn("user", "What?", "Up.")]
    assert first["response"] == expected(folders / "tuned", turns).text
    assert second["response"] == "" and second["finish_reason"] == "context"
    assert "sees 256 at once" in second["note"]


def test_a_prompt_without_room_is_told_with_both_numbers(folders):
    ended = ask(folders / "tuned", "--prompt", "x y z " * 200)
    assert ended.returncode == 0 and ended.stdout == "\n"
    assert "(context: the prompt has " in ended.stderr and "sees 256 at once" in ended.stderr


def test_an_answer_file_is_not_overwritten_unasked(folders, tmp_path):
    out = tmp_path / "x.txt"
    out.write_text("mine", encoding="utf-8")
    refused = ask(folders / "tuned", "--prompt", "What?", "--out", str(out))
    assert refused.returncode == 1 and "is there already" in refused.stderr
    assert out.read_text(encoding="utf-8") == "mine"
    itself = ["--file", str(out), "--out", str(out), "--overwrite"]
    assert ask(folders / "tuned", *itself).returncode == 1
    assert out.read_text(encoding="utf-8") == "mine"
    assert ask(folders / "base", "--raw", "What?", "--out", str(out), "--overwrite").returncode == 0
    [row] = map(json.loads, out.read_text(encoding="utf-8").splitlines())
    assert row["prompt"] == "What?" and row["n_tokens"] == 8


def test_choices_are_ranked_and_nothing_is_written(folders):
    choices = ["What", "Bot: is up", "x"]
    given = [argument for text in choices for argument in ("--choices", text)]
    for name, prompt, with_end in (("tuned", "--prompt", True), ("base", "--raw", False)):
        ended = ask(folders / name, prompt, "What is up?", *given)
        assert ended.returncode == 0, ended.stderr
        speaker = load_speaker(folders / name, device="cpu")
        turns = [Turn("user", "What is up?")]
        ids = speaker.tokenizer.encode("What is up?")
        ids = TEMPLATE.prompt_ids(speaker.tokenizer, turns) if with_end else ids
        scored = score_choices(speaker.model, speaker.tokenizer, ids, choices, with_end)
        best = sorted(scored, key=lambda choice: -choice.log_likelihood)
        lines = ended.stdout.splitlines()[1:]
        assert [line[31:] for line in lines] == [choice.text for choice in best]
        assert float(lines[0].split()[0]) == pytest.approx(best[0].log_likelihood, abs=1e-3)


@pytest.mark.parametrize(
    "bad",
    [
        ["--top-k", "0"], ["--temperature", "nan"], ["--seed", "-1"], ["--stop", ""],
        ["--prompt", " "], ["--repetition-penalty", "1e-40"], ["--min-p", "2"],
        ["--max-new-tokens", "-1"], ["--choices", ""], ["--choices", "a", "--logprobs"],
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_wrong_usage(folders, bad):
    prompt = [] if bad[0] == "--prompt" else ["--prompt", "a"]
    ended = ask(folders / "tuned", *prompt, *bad)
    assert ended.returncode == 2 and len(ended.stderr.splitlines()) <= 2, ended.stderr
    assert bad[0].strip("-").replace("-", "_") in ended.stderr.replace("-", "_")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "tuned"], "--prompt --raw --file"),
        (["--model", "tuned", "--prompt", "a", "--raw", "b"], "not allowed with"),
        (["--model", "tuned", "--raw", "a", "--input", "b"], "--input goes with --prompt"),
        (["--model", "base", "--raw", "a", "--template", "plain"], "--raw puts no template"),
        (["--model", "tuned", "--prompt", " "], "--prompt is empty"),
        (["--model", "tuned", "--prompt", "a", "--template", "phi3"], "tuned with the template"),
        (["--model", "tuned", "--prompt", "a", "--stop", ""], "stop must be"),
        (["--model", "tuned", "--prompt", "a", "--top-k", "0"], "top_k must be"),
        (["--model", "tuned", "--prompt", "a", "--top-k", "x"], "invalid int value"),
        (["--model", "nowhere", "--prompt", "a"], "no such folder"),
        (["--model", "tuned", "--file", "none.txt"], "none.txt: not readable"),
        (["--model", "tuned", "--file", "none.json"], "no such file"),
        (["--model", "tuned", "--promt", "a"], "did you mean --prompt"),
    ],
)
def test_mistakes_are_told_in_a_line_or_two(folders, monkeypatch, arguments, said):
    monkeypatch.chdir(folders)
    ended = run_script("generate", *arguments)
    assert ended.returncode in (1, 2) and said in ended.stderr, ended.stderr
    assert "Traceback" not in ended.stderr and len(ended.stderr.splitlines()) <= 2


@pytest.mark.parametrize("other", [["--logprobs"], ["--choices", "a"]])
def test_guesses_that_would_be_ignored_are_refused_before_a_file_is_touched(
    folders, tmp_path, other
):
    out = tmp_path / "answers.jsonl"
    out.write_text("earlier", encoding="utf-8")
    where = [] if "--choices" in other else ["--out", str(out), "--overwrite"]
    refused = ask(folders / "tuned", "--prompt", "What?", "--lookup", "4", *other, *where)
    assert refused.returncode == 2 and "--lookup" in refused.stderr
    assert out.read_text(encoding="utf-8") == "earlier"


def test_guesses_change_no_answer(folders):
    plain = ask(folders / "tuned", "--prompt", "What is up?")
    assert ask(folders / "tuned", "--prompt", "What is up?", "--lookup", "4").stdout == plain.stdout
