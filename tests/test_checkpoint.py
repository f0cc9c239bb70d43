"""What a run goes on from: exact, whole or refused, whatever kills the process or the disk."""

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from gpt.checkpoint import (
    CheckpointError,
    State,
    check_files,
    load_last,
    n_bytes,
    refuse_too_small_a_disk,
    restore,
    save_best,
    save_last,
)
from gpt.optimizer import make_optimizer
from gpt.settings import TrainSettings
from gpt.weights import WeightsError, load_model
from tests.runs import context
from tests.tiny import TINY, random_ids, random_model


def step(model, optimizer):
    ids = random_ids(3, 9)
    logits = torch.nn.functional.dropout(model(ids[:, :-1]), 0.1)  # which draws
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def trained(steps=3):
    model = random_model()
    optimizer = make_optimizer(model, TrainSettings(), 1e-2)
    for _ in range(steps):
        step(model, optimizer)
    return model, optimizer, torch.amp.GradScaler("cpu", enabled=False)


def test_everything_comes_back_bit_for_bit(tmp_path):
    model, optimizer, scaler = trained()
    state = State(3, 100, 30, 1.25, 2, 1, 9.5, 0.1, 0.2, 0.3, 7, {"step": 3, "lr": 1e-3})
    save_last(model, optimizer, scaler, state, tmp_path / "last")
    went_on = [step(model, optimizer) for _ in range(3)]

    again, found, rest = load_last(tmp_path / "last")
    assert found == state
    optimizer = make_optimizer(again, TrainSettings(), 1e-2)
    torch.manual_seed(99)
    restore(rest, again, optimizer, scaler)
    assert [step(again, optimizer) for _ in range(3)] == went_on
    ours, theirs = model.state_dict(), again.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_generators_of_an_earlier_moment_can_be_saved(tmp_path):
    from gpt.checkpoint import rng_states

    model, optimizer, scaler = trained()
    earlier = rng_states()
    torch.rand(5)
    save_last(model, optimizer, scaler, State(), tmp_path / "last", earlier)
    expected = torch.get_rng_state()
    assert not torch.equal(expected, earlier["rng.cpu"])
    *_, rest = load_last(tmp_path / "last")
    restore(rest, model, optimizer, scaler)
    assert torch.equal(torch.get_rng_state(), earlier["rng.cpu"])


def test_the_scaler_of_half_precision_comes_back(tmp_path):
    model, optimizer, _ = trained()
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0, growth_interval=7)
    scaler.scale(torch.zeros(()))
    save_last(model, optimizer, scaler, State(), tmp_path / "last")
    fresh = torch.amp.GradScaler("cpu")
    restore(load_last(tmp_path / "last")[2], model, optimizer, fresh)
    assert fresh.state_dict() == scaler.state_dict()


def test_both_are_model_folders_and_transformers_opens_them(tmp_path):
    model, optimizer, scaler = trained()
    save_last(model, optimizer, scaler, State(step=3), tmp_path / "last")
    save_best(model, tmp_path / "best", 3, 0.5)
    transformers = pytest.importorskip("transformers", reason="transformers is the reference")
    ids = random_ids(2, 7)
    for name in ("last", "best"):
        ours = load_model(tmp_path / name)(ids)
        theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / name)(ids).logits
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert json.loads((tmp_path / "best/training.json").read_text())["validation_loss"] == 0.5


def test_one_flipped_bit_anywhere_is_named(tmp_path):
    model, optimizer, scaler = trained()
    last = tmp_path / "last"
    save_last(model, optimizer, scaler, State(step=3), last)
    draw = random.Random(0)
    files = [p for p in sorted(last.iterdir()) if p.name != "training.json"]
    for path in files:
        whole = path.read_bytes()
        for place in {0, len(whole) - 1, *draw.sample(range(len(whole)), 5)}:
            path.write_bytes(
                whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :]
            )
            with pytest.raises(CheckpointError, match=rf"{path.name}: damaged: .* were written"):
                load_last(last)
        path.write_bytes(whole[:-1])
        with pytest.raises(CheckpointError, match=rf"{path.name}: damaged"):
            load_last(last)
        path.unlink()
        with pytest.raises(CheckpointError, match=rf"{path.name}: No such file"):
            load_last(last)
        path.write_bytes(whole)
    load_last(last)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"files": 3}', '{"files": {}}', '{"files": {}, "state": 1}']
)
def test_a_damaged_account_is_refused(tmp_path, text):
    model, optimizer, scaler = trained(0)
    save_last(model, optimizer, scaler, State(), tmp_path / "last")
    (tmp_path / "last/training.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match="training.json: damaged|not a checkpoint"):
        load_last(tmp_path / "last")


def test_no_checkpoint_and_a_plain_model_folder_are_told_apart_from_one(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint to resume from"):
        load_last(tmp_path / "nothing")
    save_best(random_model(), tmp_path / "best", 0, 1.0)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_last(tmp_path / "best")


def test_nothing_in_it_needs_unpickling(tmp_path):
    model, optimizer, scaler = trained()
    save_last(model, optimizer, scaler, State(), tmp_path / "last")
    assert {p.suffix for p in (tmp_path / "last").iterdir()} == {".json", ".safetensors"}


# ---- disks ---------------------------------------------------------------------------------


def big_model():
    from gpt.config import GPTConfig
    from gpt.model import GPT

    return GPT(GPTConfig(vocab_size=97, n_ctx=32, n_layer=1, n_head=2, n_embd=48, dropout=0.0))


def test_a_disk_too_small_is_refused_before_the_first_step_with_both_numbers(small_disk):
    model = big_model()
    best, last = n_bytes(model)
    assert best == 4 * model.n_params() and last == 3 * best
    (small_disk / "filler").write_bytes(bytes(400_000))
    with pytest.raises(CheckpointError, match=r"it needs [\d,]+ bytes, and [\d,]+ are free there"):
        refuse_too_small_a_disk(model, small_disk / "run")
    assert not (small_disk / "run").exists()


def test_a_disk_that_fills_up_leaves_the_last_good_one(small_disk):
    model = big_model()
    optimizer = make_optimizer(model, TrainSettings(), 1e-2)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    step(model, optimizer)
    last = small_disk / "run" / "last"
    save_last(model, optimizer, scaler, State(step=1), last)
    good = {p.name: p.read_bytes() for p in last.iterdir()}
    (small_disk / "filler").write_bytes(bytes(150_000))
    step(model, optimizer)
    with pytest.raises(WeightsError, match=r"last: the model was not saved: it needs [\d,]+ bytes"):
        save_last(model, optimizer, scaler, State(step=2), last)
    assert {p.name: p.read_bytes() for p in last.iterdir()} == good
    assert load_last(last)[1].step == 1
    assert sorted(p.name for p in last.parent.iterdir()) == ["last"]
    (small_disk / "filler").unlink()
    save_last(model, optimizer, scaler, State(step=2), last)
    assert load_last(last)[1].step == 2


def test_a_disk_that_is_full_without_saying_so_beforehand_leaves_it_too(small_disk, monkeypatch):
    """Another process may take the room between the look and the write."""
    model, last = big_model(), small_disk / "last"
    optimizer, scaler = make_optimizer(model, TrainSettings(), 1e-2), torch.amp.GradScaler("cpu")
    save_last(model, optimizer, scaler, State(step=1), last)
    monkeypatch.setattr("gpt.weights.refuse_full_disk", lambda folder, needed: None)
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    (small_disk / "filler").write_bytes(bytes(max(0, free - 60_000)))
    with pytest.raises(WeightsError, match="the model was not saved"):
        save_last(model, optimizer, scaler, State(step=2), last)
    assert load_last(last)[1].step == 1


@pytest.mark.skipif(sys.platform == "win32" or not hasattr(os, "geteuid"), reason="needs Unix")
def test_a_read_only_folder_is_named(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("the superuser may write everywhere")
    tmp_path.chmod(0o500)
    model, optimizer, scaler = trained(0)
    with pytest.raises(WeightsError, match="Permission denied"):
        save_last(model, optimizer, scaler, State(), tmp_path / "last")


# ---- kills ---------------------------------------------------------------------------------


def save_for_ever(folder: Path, saved) -> None:
    """Saves whose number stands in every weight, and tells each that has come back."""
    torch.set_num_threads(1)
    model, optimizer, scaler = trained(1)
    number = saved.value
    while True:
        number += 1
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(number)
            for state in optimizer.state.values():
                state["exp_avg"].fill_(number)
        save_last(model, optimizer, scaler, State(step=number), folder)
        saved.value = number


def killed_while_saving(folder: Path, n_kills: int) -> None:
    spawn, draw = context(), random.Random(0)
    saved = spawn.Value("q", 0)
    for _ in range(n_kills):
        before = saved.value
        child = spawn.Process(target=save_for_ever, args=(folder, saved))
        child.start()
        while saved.value < before + 2:
            time.sleep(0.0005)
        time.sleep(draw.random() * 0.03)
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        model, state, rest = load_last(folder)
        assert state.step in (saved.value, saved.value + 1)  # done, or done and not yet told
        for parameter in model.parameters():
            assert (parameter == state.step).all()
        for name, tensor in rest["tensors"].items():
            assert "exp_avg." not in name or (tensor == state.step).all()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and a fork server")
def test_killed_while_saving_the_last_good_one_loads(tmp_path):
    killed_while_saving(tmp_path / "last", 5)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and a fork server")
def test_killed_100_times_while_saving_the_last_good_one_loads(tmp_path):
    killed_while_saving(tmp_path / "last", 100)
    assert multiprocessing.active_children() == []


def test_a_model_saved_over_a_checkpoint_leaves_nothing_of_it(tmp_path):
    from gpt.weights import save_model

    model, optimizer, scaler = trained()
    save_last(model, optimizer, scaler, State(), tmp_path / "last")
    save_model(random_model(TINY, seed=1), tmp_path / "last")
    assert not (tmp_path / "last/training.json").exists()
    with pytest.raises(CheckpointError, match="no checkpoint"):
        check_files(tmp_path / "last")
