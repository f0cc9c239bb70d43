"""Tried before it begins: what would fail later fails now, and nothing that is trained changes."""

import copy
import math
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gpt import memory
from gpt import preflight as chapter
from gpt.dataset import InstructionSet
from gpt.hardware import Precision
from gpt.learner import Learner
from gpt.lora import LoraConfig, add_lora
from gpt.memory import MemoryFault
from gpt.options import parse, parser_of
from gpt.preflight import (
    DeviceFault,
    Sums,
    check_memory,
    is_needed,
    preflight,
    refuse_other_sums,
    sums_of,
    sums_on_cpu,
)
from gpt.segments import ANSWER, INSTRUCTION, Examples
from gpt.settings import TrainSettings
from tests.tiny import TINY, random_model

CPU = torch.device("cpu")
FP32 = Precision("fp32", "")
LENGTHS = (5, 12, 7, 3, 9, 20, 6, 8, 4, 11)


@pytest.fixture(autouse=True)
def one_thread():
    """Several wait for one another longer than such a small model computes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def instruction_set(lengths=LENGTHS, seed=0, **more) -> InstructionSet:
    random = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    parts = np.full(starts[-1], INSTRUCTION, np.uint8)
    for stop in starts[1:]:
        parts[stop - 2 : stop] = ANSWER
    ids = random.integers(1, TINY.vocab_size, starts[-1]).astype(np.int32)
    return InstructionSet(Examples(ids, parts, starts, np.arange(len(lengths))), 0, **more)


def make_run(train=LENGTHS, validation=(10, 6, 7, 2), precision=FP32, **settings):
    """As much of a run as is asked for here."""
    chosen = TrainSettings(**{"batch_size": 4, "dropout": 0.3, **settings})
    learner = Learner(random_model(), chosen, CPU, precision, 1e-3)
    sets = SimpleNamespace(
        train=instruction_set(train), validation=instruction_set(validation, seed=1)
    )
    return SimpleNamespace(learner=learner, data=sets)


def silent(line: str) -> None:
    pass


def everything_of(learner) -> dict:
    """All that a step would change, or depend on."""
    return {
        "weights": copy.deepcopy(learner.model.state_dict()),
        "gradients": [p.grad for p in learner.model.parameters()],
        "optimizer": copy.deepcopy(learner.optimizer.state_dict()),
        "scaler": learner.scaler.state_dict(),
        "random": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].copy(),
        "training": [module.training for module in learner.model.modules()],
        "dropout": [getattr(module, "dropout", None) for module in learner.model.modules()],
    }


def assert_untouched(before: dict, learner) -> None:
    after = everything_of(learner)
    assert all(gradient is None for gradient in after["gradients"])
    torch.testing.assert_close(after["weights"], before["weights"], rtol=0, atol=0)
    assert str(after["optimizer"]) == str(before["optimizer"])
    assert torch.equal(after["random"], before["random"])
    assert np.array_equal(after["numpy"], before["numpy"])
    for name in ("scaler", "training"):
        assert after[name] == before[name]
    assert [d for d in after["dropout"] if isinstance(d, float)] == [
        d for d in before["dropout"] if isinstance(d, float)
    ]


def fails(monkeypatch, learner, error, what="training"):
    """Let the loss of training, or of validation, raise."""
    real = learner.loss_of

    def loss_of(batch):
        if learner.model.training == (what == "training"):
            raise error
        return real(batch)

    monkeypatch.setattr(learner, "loss_of", loss_of)


# ---- it leaves no trace --------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [{}, {"micro_batch_size": 2, "activation_checkpointing": True}]
)
def test_a_preflight_leaves_no_trace_in_what_is_trained(settings):
    run = make_run(**settings)
    before = everything_of(run.learner)
    preflight(run, silent)
    assert_untouched(before, run.learner)


def test_nor_does_one_in_a_run_that_goes_on():
    run = make_run()
    run.learner.learn([run.data.train.batch([0, 1])], lr=1e-3)
    run.learner.optimizer.zero_grad()
    before = everything_of(run.learner)
    assert before["optimizer"]["state"]
    preflight(run, silent)
    assert_untouched(before, run.learner)


def test_the_step_after_it_is_the_step_without_it():
    losses = []
    for looks_first in (False, True):
        torch.manual_seed(3)
        run = make_run()
        if looks_first:
            preflight(run, silent)
        losses.append([run.learner.learn([run.data.train.batch([i])], 1e-3) for i in range(3)])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("what", ["training", "validation"])
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), KeyError("x")])
def test_nor_does_one_that_fails(monkeypatch, what, error):
    run = make_run()
    before = everything_of(run.learner)
    fails(monkeypatch, run.learner, error, what)
    with pytest.raises((MemoryFault, KeyError)):
        preflight(run, silent)
    assert_untouched(before, run.learner)


def test_gradients_of_a_loss_that_runs_out_half_way_back_are_forgotten(monkeypatch):
    run = make_run()
    before = everything_of(run.learner)

    def run_out(gradient):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    handle = run.learner.model.h[0].mlp.c_fc.weight.register_hook(run_out)
    with pytest.raises(MemoryFault):
        preflight(run, silent)
    handle.remove()
    assert_untouched(before, run.learner)


# ---- what is tried -------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [None, 1, 3])
def test_the_largest_batches_that_will_come_are_tried(monkeypatch, at_once):
    run = make_run(micro_batch_size=at_once)
    tried = []
    real = run.learner.loss_of
    monkeypatch.setattr(
        run.learner,
        "loss_of",
        lambda batch: tried.append((run.learner.model.training, batch)) or real(batch),
    )
    preflight(run, silent)
    n = at_once or 4
    assert [is_training for is_training, _ in tried] == [True, False]
    longest, widest = (batch for _, batch in tried)
    assert longest.inputs.shape == (n, 20)  # the longest, and its longest companions
    supervised = sorted(LENGTHS)[-n:]
    n_padding = longest.inputs.numel() - sum(supervised)
    assert (longest.inputs == 0).sum() == n_padding
    assert widest.inputs.shape == (min(n, 4), 10)


def test_a_set_smaller_than_a_batch_is_no_error():
    preflight(make_run(train=(3,), validation=(2,), batch_size=64), silent)


def test_packed_rows_are_tried_as_they_will_be_computed():
    run = make_run()
    run.data = SimpleNamespace(
        train=instruction_set(row_length=32), validation=instruction_set((9, 3), row_length=32)
    )
    preflight(run, silent)


# ---- memory --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
@pytest.mark.parametrize(("what", "shape"), [("training", "4 x 20"), ("validation", "4 x 10")])
def test_out_of_memory_names_the_device_the_batch_the_peak_and_what_helps(
    monkeypatch, error, what, shape
):
    run = make_run()
    monkeypatch.setattr(run.learner, "peak_memory", lambda: 12_340_000_000)
    fails(monkeypatch, run.learner, error, what)
    with pytest.raises(MemoryFault) as caught:
        preflight(run, silent)
    message = str(caught.value)
    assert message.startswith(f"out of memory on cpu in {what}, with a batch of {shape} tokens, ")
    assert "12.3 GB" in message and "\n" not in message
    assert len(set(re.findall(r"--[a-z-]+", message))) >= 3
    assert caught.value.exit_code == 1


def test_real_memory_that_runs_out_is_told_the_same_way(monkeypatch):
    run = make_run()
    monkeypatch.setattr(run.learner, "loss_of", lambda batch: torch.empty(2**50))
    with pytest.raises(MemoryFault, match="4 x 20"):
        preflight(run, silent)


def test_what_is_no_want_of_memory_stays_what_it_is(monkeypatch):
    run = make_run()
    fails(monkeypatch, run.learner, RuntimeError("a kernel's bug"))
    with pytest.raises(RuntimeError, match="a kernel's bug"):
        preflight(run, silent)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"micro_batch_size": 1},
        {"micro_batch_size": 1, "activation_checkpointing": True},
        {"batch_size": 1, "activation_checkpointing": True},
        {"objective": "pretrain"},
    ],
)
def test_what_helps_are_flags_that_this_run_would_accept_and_does_not_have(monkeypatch, settings):
    run = make_run(**settings)
    fails(monkeypatch, run.learner, torch.OutOfMemoryError("CUDA out of memory."))
    with pytest.raises(MemoryFault) as caught:
        preflight(run, silent)
    ways = str(caught.value).partition("What helps: ")[2].split("; ")
    assert len(ways) >= 2
    given = [f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
             for name, value in settings.items()]  # fmt: skip
    for way in ways:
        typed = re.sub(r" \(.*\)| with|below |smaller |^a ", "", way).split()
        typed = [word if word != "--model" else "--model=distilgpt2" for word in typed]
        before, after = (parse(parser_of(""), argv)[0] for argv in (given, [*given, *typed]))
        assert before != after, way


def test_half_of_what_is_computed_at_once_is_proposed(monkeypatch):
    for at_once, proposed in ((None, 2), (3, 1), (2, 1)):
        run = make_run(micro_batch_size=at_once)
        fails(monkeypatch, run.learner, torch.OutOfMemoryError("CUDA out of memory."))
        with pytest.raises(MemoryFault, match=f"--micro-batch-size {proposed} "):
            preflight(run, silent)


def test_the_optimizer_s_memory_is_taken_while_the_batch_is_tried(monkeypatch):
    run = make_run()
    taken = []
    real = torch.empty_like
    monkeypatch.setattr(
        chapter.torch, "empty_like", lambda p, **more: taken.append(p.numel()) or real(p, **more)
    )
    n_params = sum(p.numel() for p in run.learner.model.parameters())
    check_memory(run.learner, run.data.train.batch([0]), "training")
    assert sum(taken) >= 2 * n_params
    run.learner.learn([run.data.train.batch([0])], 1e-3)  # now they are there
    taken.clear()
    check_memory(run.learner, run.data.train.batch([0]), "training")
    assert sum(taken) < 2 * n_params


# ---- where it need not be tried --------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "is_tried"), [(None, True), (0, True), (5 * 10**8, True), (10**12, False)]
)
def test_on_a_cpu_it_is_tried_only_where_memory_may_be_short(monkeypatch, free, is_tried):
    monkeypatch.setattr(memory, "free_memory", lambda: free)
    assert is_needed(make_run()) == is_tried
    assert is_needed(make_run(preflight=True))
    run = make_run()
    monkeypatch.setattr(run.learner, "device", torch.device("mps"))
    assert is_needed(run)


@pytest.mark.parametrize(
    "settings",
    [{}, {"dropout": 0.3}, {"shared_preamble": "always"}, {"lora_rank": 4, "lora_dropout": 0.1}],
)
def test_what_a_step_takes_is_below_what_is_counted(monkeypatch, settings):
    monkeypatch.setattr(memory, "CHUNK_NUMBERS", 0)  # far more than a model as small as this
    chosen = TrainSettings(**({"dropout": 0.0} | settings))
    model = random_model(replace(TINY, n_embd=32))
    if chosen.lora_rank:
        add_lora(model, LoraConfig.of(chosen))
    learner = Learner(model, chosen, CPU, FP32, 1e-3)
    data = instruction_set([30] * 8)
    data.examples.ids.reshape(8, -1)[:, :20] = 5
    batch, kept = data.batch(range(8)), {}
    ours = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in ours:
            kept[storage.data_ptr()] = (storage.nbytes(), storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        learner.loss_of(batch)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    taken = sum(n for n, _ in kept.values()) + 4 * 3 * trained
    assert taken <= memory.bytes_at_most(learner, batch) < 8 * taken


# ---- an accelerator against the CPU --------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "loss", "norm"),
    [
        ("fp32", 2.5, 1.5),
        ("fp32", 2.5 * 1.0009, 1.5 * 0.9991),
        ("bf16", 2.5 * 0.98, 1.5 * 1.02),
        ("fp16", 2.5 * 1.009, 1.5),
    ],
)
def test_sums_that_differ_by_rounding_are_accepted(precision, loss, norm):
    refuse_other_sums(Sums(loss, norm), Sums(2.5, 1.5), Precision(precision, ""))


@pytest.mark.parametrize(
    ("precision", "here", "what"),
    [
        ("fp32", Sums(2.51, 1.5), "loss"),
        ("fp32", Sums(2.5, 1.51), "gradient norm"),
        ("bf16", Sums(2.7, 1.5), "loss"),
        ("bf16", Sums(2.5, 1.3), "gradient norm"),
        ("fp16", Sums(2.5, 0.0), "gradient norm"),
        ("fp32", Sums(math.nan, 1.5), "loss"),
        ("fp32", Sums(2.5, math.nan), "gradient norm"),
        ("bf16", Sums(2.5, math.inf), "gradient norm"),
        ("fp32", Sums(-2.5, 1.5), "loss"),
    ],
)
def test_others_are_refused_with_both_numbers(precision, here, what):
    with pytest.raises(DeviceFault, match=f"computes a {what} of .* in {precision} ") as caught:
        refuse_other_sums(here, Sums(2.5, 1.5), Precision(precision, ""))
    ours, cpus = (here.loss, 2.5) if what == "loss" else (here.grad_norm, 1.5)
    assert f"{ours:.6g}" in str(caught.value) and f"the CPU has {cpus:.6g}" in str(caught.value)
    assert "--device cpu" in str(caught.value) and "\n" not in str(caught.value)


def test_a_cpu_that_has_no_number_either_is_no_proof():
    with pytest.raises(DeviceFault):
        refuse_other_sums(Sums(2.5, 1.5), Sums(math.nan, 1.5), FP32)


def test_the_sums_are_the_mean_loss_and_the_norm_of_its_gradient_without_dropout():
    run = make_run(dropout=0.5)
    batch = run.data.train.batch([0, 5, 2])
    found = sums_of(run.learner, batch)
    model = random_model()
    logits = model(batch.inputs)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
    loss.backward()
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    assert found.loss == pytest.approx(loss.item(), rel=1e-5)
    assert found.grad_norm == pytest.approx(norm.item(), rel=1e-5)
    assert sums_on_cpu(run.learner, batch) == found  # here, the same device


def test_bf16_is_within_what_is_accepted_of_it():
    run = make_run(precision=Precision("bf16", ""))
    for i in range(len(LENGTHS)):
        batch = run.data.train.batch([i])
        here, there = sums_of(run.learner, batch), sums_on_cpu(run.learner, batch)
        assert here != there  # or it was not computed in bf16
        refuse_other_sums(here, there, run.learner.precision)


class Accelerator:
    """A device that is none: it computes on the CPU, and as wrong as it is told to."""

    def __init__(self, run, monkeypatch, wrong: float) -> None:
        learner = run.learner
        real = learner.loss_of
        monkeypatch.setattr(learner, "device", torch.device("mps"))
        monkeypatch.setattr(learner, "_moved", lambda tensors: tensors)
        monkeypatch.setattr(learner, "loss_of", lambda batch: real(batch) * wrong)


@pytest.mark.parametrize("compiled", ["never", "always"])
def test_an_accelerator_that_computes_the_same_is_told_of(monkeypatch, compiled):
    run = make_run()
    run.learner.settings.compile = compiled  # the CPU's copy must not
    before = everything_of(run.learner)
    Accelerator(run, monkeypatch, wrong=1.0)
    said = []
    preflight(run, said.append)
    [line] = said
    here, there = re.findall(r"\d+\.\d{4}", line)
    assert here == there
    assert_untouched(before, run.learner)


def test_an_accelerator_that_computes_something_else_is_refused(monkeypatch):
    for wrong in (1.01, 0.0, math.nan):
        run = make_run()
        before = everything_of(run.learner)
        with monkeypatch.context() as patch:
            Accelerator(run, patch, wrong)
            with pytest.raises(DeviceFault, match="computes a loss of"):
                preflight(run, silent)
        assert_untouched(before, run.learner)


def test_a_cpu_is_not_compared_with_itself():
    said = []
    preflight(make_run(), said.append)
    assert said == []
