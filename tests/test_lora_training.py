"""Runs that train an adapter: exact, resumed exactly, small on the disk, refused in one line."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gpt.adapter_config import AdapterError
from gpt.answering import answer_test, base_of, test_records
from gpt.answers import read_answers
from gpt.checkpoint import CheckpointError, check_files, load_last, n_bytes
from gpt.learner import Learner
from gpt.lora import lora_layers, lora_of, n_trained
from gpt.quantize import NF4Projection
from gpt.settings import SettingsError, TrainSettings
from gpt.start import StartError, begin, facts_of
from gpt.train import FINISHED, STOPPED
from gpt.weights import load_model
from tests.runs import change_letters, make_world, run_script, run_to_end, settings_in, told
from tests.test_train import AskedAt

answer_test.__test__ = test_records.__test__ = False
NOISY = {"dropout": 0.1, "lora_dropout": 0.2, "micro_batch_size": 2, "batch_size": 8}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Letters, and a run that has learnt a little of them: the base of all adapters here."""
    world = make_world(tmp_path_factory.mktemp("world"))
    change_letters(world, lambda i, record: i % 11 == 2 and record.update(split="test"))
    run_to_end(settings_in(world, "base", samples=0))
    return world


def adapting(world: Path, name: str, **changes) -> TrainSettings:
    changed = {"model": str(world / "base"), "from_scratch": False, "template": None}
    return settings_in(world, name, **(changed | {"lora_rank": 4, "lr": 2e-2} | changes))


@pytest.fixture(scope="module", params=["none", "nf4"])
def whole(request, world):
    """A run with both dropouts and accumulation that nobody stopped."""
    settings = adapting(
        world, f"whole-{request.param}", quantize=request.param, epochs=4.0, save_every=3, **NOISY
    )
    run, ended = run_to_end(settings)
    assert ended == FINISHED
    return run


SAVED = ("adapter_config.json", "adapter_base.json", "adapter_model.safetensors")


def assert_same_run(one: Path, other: Path) -> None:
    assert told(one) == told(other)
    names = [f"{model}/{name}" for model in ("best", "last") for name in SAVED]
    for name in ("samples.md", "last/training.safetensors", *names):
        if name == "samples.md" and not (other / name).exists():
            continue
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


# ---- what a run leaves ----------------------------------------------------------------------


def test_it_learns_and_leaves_its_base_alone(world, whole):
    lines = told(whole.folder)
    assert lines[-1]["val_loss"] < lines[0]["val_loss"]
    base = load_model(world / "base").state_dict()
    now = whole.learner.model.state_dict()
    if whole.settings.quantize == "none":
        now = {n.replace(".base.", "."): t for n, t in now.items() if ".lora_" not in n}
        assert base.keys() == now.keys()
        assert all(torch.equal(base[name], now[name]) for name in base)
    else:
        layers = lora_layers(whole.learner.model).values()
        assert all(isinstance(layer.base, NF4Projection) for layer in layers)
    for name, layer in lora_layers(whole.learner.model).items():
        assert layer.lora_B.any(), name


def test_best_and_last_are_adapters_with_their_words_and_no_weights_of_the_base(world, whole):
    words = {"vocab.json", "merges.txt", "tokenizer_config.json", "template.json"}
    assert {p.name for p in whole.best.iterdir()} == {*SAVED, *words, "training.json"}
    assert {p.name for p in whole.last.iterdir()} == {
        *SAVED, *words, "training.json", "training.safetensors"
    }  # fmt: skip
    best, last = n_bytes(whole.learner.model)
    assert best == 4 * n_trained(whole.learner.model) and last == 3 * best
    for folder, names, n in (
        (whole.best, ("adapter_model.safetensors",), best),
        (whole.last, ("adapter_model.safetensors", "training.safetensors"), last),
    ):
        size = sum((folder / name).stat().st_size for name in names)
        assert n < size < n + 20_000  # headers, the generators' states
    facts = facts_of(whole)
    assert facts["model"]["parameters"] == load_model(world / "base").n_params()
    assert facts["model"]["trained_parameters"] == n_trained(whole.learner.model)


def test_best_reloads_to_the_lowest_logged_validation_loss(whole):
    lowest = min(line["val_loss"] for line in told(whole.folder) if "val_loss" in line)
    again = load_model(whole.folder)
    learner = Learner(again, whole.settings, whole.learner.device, whole.learner.precision, 0.0)
    assert learner.validate(whole.data.validation) == pytest.approx(lowest, abs=1e-6)


# ---- the same run ---------------------------------------------------------------------------


def test_stopped_anywhere_and_resumed_it_is_the_run_that_was_not(world, whole):
    settings = replace(whole.settings, out=str(world / f"stopped-{whole.settings.quantize}"))
    stops = 0
    for looks in (3, 1, 7, 2, 5, 4, 9, 6, 100):
        run, ended = run_to_end(replace(settings, resume=True), AskedAt(looks))
        if ended != STOPPED:
            break
        stops += 1
    assert stops > 3 and ended == FINISHED
    assert_same_run(run.folder, whole.folder)


def test_activation_checkpointing_and_looking_more_often_change_nothing(world):
    plain, _ = run_to_end(adapting(world, "plain", samples=0, validate_every=6, lora_dropout=0.2))
    nosy, _ = run_to_end(
        adapting(world, "nosy", samples=4, validate_every=1, save_every=1, lora_dropout=0.2,
                 activation_checkpointing=True)
    )  # fmt: skip
    ours, theirs = plain.learner.model.state_dict(), nosy.learner.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_seed_draws_the_adapter(world):
    runs = [
        run_to_end(adapting(world, f"seed{i}", max_steps=1, samples=0, seed=seed))[0]
        for i, seed in enumerate((1, 1, 2))
    ]
    one, same, other = ((run.best / "adapter_model.safetensors").read_bytes() for run in runs)
    assert one == same != other


# ---- a base that is gone, or another ----------------------------------------------------------


def test_a_moved_base_is_given_by_hand_and_another_one_refused(world, tmp_path):
    shutil.copytree(world / "base" / "best", tmp_path / "base")
    settings = adapting(world, "moving", model=str(tmp_path / "base"), epochs=2.0, samples=0)
    whole, _ = run_to_end(replace(settings, out=str(world / "unmoved")))
    _, ended = run_to_end(settings, AskedAt(5))
    assert ended == STOPPED
    (tmp_path / "base").rename(tmp_path / "moved")
    resumed = replace(settings, resume=True)
    with pytest.raises(AdapterError, match="an adapter of a model that is not found"):
        begin(resumed, (), print)
    with pytest.raises(AdapterError, match="is of another base model: its fingerprint is"):
        begin(replace(resumed, model=str(other_base(world, tmp_path))), {"model"}, print)
    moved = replace(resumed, model=str(tmp_path / "moved"))
    run = begin(moved, {"model"}, print)
    assert run.learner.model.base.name == str((tmp_path / "moved").resolve())
    assert run.state.step > 0

    (tmp_path / "moved").rename(tmp_path / "base")
    run, _ = run_to_end(resumed)
    assert_same_run(run.folder, whole.folder)


def other_base(world: Path, folder: Path) -> Path:
    from gpt.weights import save_model

    model = load_model(world / "base")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1e-3 * torch.randn_like(parameter)
    save_model(model, folder / "other")
    return folder / "other"


def test_a_damaged_checkpoint_is_refused_by_its_file(world, whole, tmp_path):
    last = tmp_path / "last"
    shutil.copytree(whole.last, last)
    path = last / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors: damaged"):
        load_last(last)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors: No such file"):
        check_files(last)


# ---- refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lora_rank": 17}, r"h\.0\.attn\.c_attn: rank 17 is above the width"),
        ({"lora_targets": ["c_atn"]}, "'c_atn' names no projection"),
        ({"lora_targets": ["wte"]}, "'wte' names no projection"),
    ],
)
def test_an_adapter_that_the_model_cannot_have_is_bad_usage(world, changes, said):
    with pytest.raises(SettingsError, match=said) as caught:
        begin(adapting(world, "refused", **changes), (), print)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


def test_training_on_top_of_an_adapter_asks_for_a_merge_first(world, whole):
    for rank in (None, 4):
        with pytest.raises(StartError, match=r"is an adapter.*scripts/merge\.py --adapter"):
            begin(adapting(world, "refused", model=str(whole.folder), lora_rank=rank), (), print)


SMALL = ("--device", "cpu", "--threads", "1", "--samples", "0", "--max-steps", "2")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--lora-rank", "0"), "--lora-rank must be at least 1, not 0"),
        (("--lora-rank", "99"), "rank 99 is above the width"),
        (("--lora-rank", "4", "--lora-targets", "c_atn"), "'c_atn' names no projection"),
        (("--lora-rank", "4", "--lora-dropout", "1"), "--lora-dropout must be"),
        (("--lora-rank", "4", "--from-scratch"), "--lora-rank adapts a pretrained model"),
        (("--lora-alpha", "4"), "--lora-alpha would be ignored: it is for --lora-rank"),
        (("--quantize", "nf4"), "--quantize nf4 needs --lora-rank"),
        (("--lora-rank", "4", "--quantize", "nf3"), "did you mean nf4?"),
    ],
)
def test_a_fault_is_one_line_and_exit_code_2(world, tmp_path, arguments, said):
    given = ("--model", str(world / "base"), "--data", str(world / "letters.json"))
    ended = run_script("train", *given, "--out", str(tmp_path / "run"), *SMALL, *arguments)
    assert ended.returncode == 2 and said in ended.stderr
    assert ended.stderr.count("\n") == 1 and "Traceback" not in ended.stderr
    assert not (tmp_path / "run").exists()


# ---- from end to end ------------------------------------------------------------------------


def test_from_training_to_answers_chat_and_a_merged_model(world, tmp_path):
    base, data = str(world / "base"), str(world / "letters.json")
    run = str(tmp_path / "run")
    given = ("--model", base, "--data", data, "--out", run, *SMALL, "--lora-rank", "4")
    given += ("--max-steps", "12", "--lr", "3e-2")
    ended = run_script("train", *given)
    assert ended.returncode == 0, ended.stderr
    assert "adapter: trains " in ended.stdout and "AdamW's moments take" in ended.stdout
    assert "the adapter of step " in ended.stdout and "as PEFT opens it" in ended.stdout
    rows = read_answers(Path(run))
    assert rows and all({"response", "base_response"} <= row.keys() for row in rows)

    short = ("--device", "cpu", "--max-new-tokens", "6")
    asked = (*short, "--prompt", "What comes after c?")
    alone = run_script("generate", "--model", run, *asked)
    both = run_script("generate", "--model", base, "--adapter", run, *asked)
    assert alone.returncode == 0 and alone.stdout == both.stdout != ""
    assert "an adapter of rank 4 on " in alone.stderr and base in alone.stderr

    merged = run_script("merge", "--adapter", run, "--out", str(tmp_path / "merged"))
    assert merged.returncode == 0, merged.stderr
    whole = run_script("generate", "--model", str(tmp_path / "merged"), *asked)
    assert whole.stdout == alone.stdout

    again = run_script(
        "respond", "--model", base, "--adapter", run, "--out", str(tmp_path / "a.jsonl"),
        "--device", "cpu",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert read_answers(tmp_path / "a.jsonl") == rows
    wrong = run_script("generate", "--model", str(tmp_path / "merged"), "--adapter", run, *asked)
    assert wrong.returncode == 1 and "is of another base model" in wrong.stderr
    assert wrong.stderr.count("\n") == 1


def test_a_run_s_test_records_and_base_are_found(world, whole):
    assert base_of(whole.folder) == str(world / "base")
    assert len(test_records(whole.folder)) == len(whole.data.test)


def test_pretraining_an_adapter_on_plain_text_works(world, tmp_path):
    (tmp_path / "text.txt").write_text("a b c d e f g h\n" * 200, encoding="utf-8")
    settings = adapting(
        world, "text", data=[str(tmp_path / "text.txt")], objective="pretrain", max_steps=3,
        samples=0,
    )  # fmt: skip
    run, ended = run_to_end(settings)
    assert ended == FINISHED and lora_of(load_model(run.folder)).rank == 4


def test_peft_answers_as_a_run_s_own_adapter_does(world, whole):
    if whole.settings.quantize != "none":
        pytest.skip("PEFT has its base in fp32 here")
    peft = pytest.importorskip("peft", reason="PEFT is the reference")
    pytest.importorskip("transformers", reason="transformers is the reference")
    theirs = peft.AutoPeftModelForCausalLM.from_pretrained(whole.best).eval()
    ours, ids = load_model(whole.best), torch.tensor([[5, 9, 33, 2, 7]])
    torch.testing.assert_close(theirs(ids).logits, ours(ids), rtol=0, atol=1e-5)


def test_a_run_does_not_take_the_folder_of_its_own_base(world, tmp_path):
    base = str(world / "base")
    given = ("--model", base, "--data", str(world / "letters.json"), "--overwrite", *SMALL)
    ended = run_script("train", *given, "--out", base, "--lora-rank", "4")
    assert ended.returncode == 1 and "holds the base of this adapter" in ended.stderr
    assert load_model(base).n_params() > 0
