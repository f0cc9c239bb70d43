"""One step, however it is computed: the same loss, the same gradient, the same weights."""

import copy
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

import gpt.loss as loss_chapter
from gpt.config import PUBLISHED
from gpt.dataset import InstructionSet
from gpt.hardware import Precision
from gpt.learner import Diverged, Learner, recompute_on_the_way_back
from gpt.lora import LoraConfig, add_lora
from gpt.loss import supervised_rows
from gpt.model import GPT
from gpt.preamble import beginnings_of
from gpt.segments import ANSWER, INSTRUCTION, Examples
from gpt.settings import TrainSettings
from tests.tiny import TINY, random_model

CPU = torch.device("cpu")
FP32 = Precision("fp32", "")
ROOT = Path(__file__).parents[1]


def instruction_set(lengths=(5, 12, 7, 3, 9, 20, 6, 8), seed=0, **settings) -> InstructionSet:
    random = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    parts = np.full(starts[-1], INSTRUCTION, np.uint8)
    for stop, length in zip(starts[1:], lengths, strict=True):
        parts[stop - random.integers(1, length) : stop] = ANSWER
    ids = random.integers(1, TINY.vocab_size, starts[-1]).astype(np.int32)
    return InstructionSet(Examples(ids, parts, starts, np.arange(len(lengths))), 0, **settings)


def learner_of(model=None, device=CPU, precision=FP32, warn=print, **settings) -> Learner:
    chosen = replace(TrainSettings(weight_decay=0.1), **settings)
    return Learner(model or random_model(), chosen, device, precision, 1e-3, warn)


def one_step(data, parts, **settings):
    learner = learner_of(**settings)
    learned = learner.learn([data.batch(part) for part in parts], lr=1e-2)
    return learned, {name: p.detach() for name, p in learner.model.named_parameters()}


def assert_same_step(one, other, tolerance=1e-5):
    (ours, weights), (theirs, others) = one, other
    torch.testing.assert_close(list(ours), list(theirs), rtol=tolerance, atol=tolerance)
    for name in weights:
        torch.testing.assert_close(
            weights[name], others[name], rtol=tolerance, atol=tolerance, msg=name
        )


@pytest.mark.parametrize("prompt_loss_weight", [0.0, 0.3])
def test_however_a_step_is_cut_it_is_the_same_step(prompt_loss_weight):
    data = instruction_set(prompt_loss_weight=prompt_loss_weight)
    whole = one_step(data, [range(8)], eps=1e-3)
    for parts in ([[i] for i in range(8)], [range(3), range(3, 8)], [[7, 2], [0, 1, 3, 4, 5, 6]]):
        assert_same_step(one_step(data, parts, eps=1e-3), whole)
    # The mean of means, which must not be what we compute, is another number.
    learner = learner_of()
    means = []
    for i in range(8):
        batch = data.batch([i])
        means.append(learner.loss_of(batch).item() / batch.weights.sum().item())
    assert abs(np.mean(means) - whole[0].loss_sum / whole[0].weight_sum) > 1e-3


class NumbersOfPlaces(TorchDispatchMode):
    """Of the products of projections and head, on the way out and back."""

    def __init__(self, sizes):
        super().__init__()
        self.sizes, self.found = sizes, set()

    def __torch_dispatch__(self, function, types, arguments=(), more=None):
        if function in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            n, k, m = *arguments[-2].shape, arguments[-1].size(1)
            self.found |= {size for size in (n, k, m) if size not in self.sizes}
        return function(*arguments, **(more or {}))


@pytest.mark.parametrize(
    ("name", "amx", "multiple"), [("bf16", True, 32), ("bf16", False, 1), ("fp32", True, 1)]
)
def test_kernels_for_bf16_are_made_for_few_numbers_of_places(monkeypatch, name, amx, multiple):
    monkeypatch.setattr("gpt.learner.has_amx", lambda: amx)
    monkeypatch.setattr(loss_chapter, "CHUNK_NUMBERS", 100 * TINY.vocab_size)
    data = instruction_set((31, 29, 30, 27, 31, 28, 26, 31), prompt_loss_weight=0.3)
    learner = learner_of(precision=Precision(name, ""))
    learner.find_shared = beginnings_of
    C = TINY.n_embd
    for examples in ([0], [1, 2, 3], range(8)):
        batch = data.batch(examples)
        with NumbersOfPlaces({C, 3 * C, 4 * C, TINY.vocab_size}) as seen:
            learner.loss_of(batch).backward()
        of_all, of_some = len(beginnings_of(batch).ids), len(supervised_rows(batch).rows)
        filled_up = {-(-n // multiple) * multiple for n in (of_all, of_some)}
        at_once = {min(64, n) for n in filled_up}, {n % 64 for n in filled_up}  # by the head
        assert filled_up - seen.sizes <= seen.found <= filled_up.union(*at_once)
        assert all(n % multiple == 0 for n in seen.found)


def test_packed_rows_make_the_same_step_as_padded_ones():
    padded = one_step(instruction_set(), [range(8)], eps=1e-3)
    for row_length in (20, 32):
        packed = instruction_set(row_length=row_length)
        assert packed.batch(range(8)).documents is not None
        assert_same_step(one_step(packed, [range(8)], eps=1e-3), padded)
        assert_same_step(one_step(packed, [range(3), range(3, 8)], eps=1e-3), padded)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_activation_checkpointing_changes_nothing(dropout):
    steps = []
    for checkpointing in (False, True):
        torch.manual_seed(7)
        steps.append(
            one_step(
                instruction_set(), [range(8)], dropout=dropout,
                activation_checkpointing=checkpointing,
            )
        )  # fmt: skip
    (ours, weights), (theirs, others) = steps
    assert ours == theirs
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("autocast", [False, True])
def test_a_gelu_that_is_forgotten_changes_nothing_and_no_product_is_computed_again(
    dropout, autocast
):
    class Products(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.n = Counter()

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.n[func.overloadpacket.__name__] += 1
            return func(*args, **(kwargs or {}))

    steps, counts = [], []
    for name in ("never", "always"):
        torch.manual_seed(7)
        precision = Precision("bf16", "") if autocast else FP32
        learner = learner_of(dropout=dropout, recompute_gelu=name, precision=precision)
        with Products() as products:
            learned = learner.learn([instruction_set().batch(range(8))], lr=1e-2)
        steps.append((learned, learner.model.state_dict()))
        counts.append(products.n)
    (ours, weights), (theirs, others) = steps
    assert ours == theirs
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    kept, forgotten = counts
    n_layer = learner.model.config.n_layer
    assert forgotten["gelu"] == kept["gelu"] + n_layer == 2 * n_layer
    for product in ("mm", "addmm", "bmm"):
        assert forgotten[product] == kept[product], product


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_so_it_is_with_an_adapter_and_the_whole_product_is_not_computed_again(dropout):
    model, steps, products = random_model(), [], []
    base = model.h[0].mlp.c_proj
    add_lora(model, LoraConfig(4, dropout=dropout))
    base.register_forward_hook(lambda *_: products.append(1))  # after the product
    for name in ("never", "always"):
        torch.manual_seed(7)
        learner = learner_of(copy.deepcopy(model), lora_rank=4, recompute_gelu=name)
        learned = learner.learn([instruction_set().batch(range(8))], lr=1e-2)
        steps.append((learned, learner.model.state_dict()))
    (ours, weights), (theirs, others) = steps
    assert ours == theirs
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert len(products) == 2  # one for each way


def test_where_a_gelu_is_forgotten():
    gpu, cases, small = torch.device("cuda"), [], random_model()
    with torch.device("meta"):
        large = GPT(PUBLISHED["gpt2-xl"])
    for device, settings in (
        (CPU, {}), (gpu, {}), (gpu, {"recompute_gelu": "never"}), (gpu, {"lora_rank": 8}),
        (gpu, {"activation_checkpointing": True}), (CPU, {"recompute_gelu": "always"}),
    ):  # fmt: skip
        models = small, large
        for model in models:
            recompute_on_the_way_back(model, TrainSettings(**settings), device)
        cases.append(tuple(model.h[-1].mlp.recompute for model in models))
    by_itself, never, always = (False, True), (False, False), (True, True)
    assert cases == [never, by_itself, never, by_itself, never, always]


def test_a_step_with_nothing_supervised_changes_no_weight():
    data = instruction_set((5, 6))
    data.examples.parts[:] = INSTRUCTION
    learner = learner_of()
    before = copy.deepcopy(learner.model.state_dict())
    assert learner.learn([data.batch([0]), data.batch([1])], lr=1.0) == (0.0, 0.0, 0.0)
    for name, value in learner.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_micro_batch_with_nothing_supervised_counts_for_nothing():
    data = instruction_set()
    data.examples.parts[: data.examples.starts[1]] = INSTRUCTION  # all of example 0
    with_it = one_step(data, [[0], range(1, 8)], eps=1e-3)
    without = one_step(data, [range(1, 8)], eps=1e-3)
    assert_same_step(with_it, without)


def test_the_norm_is_the_one_before_clipping_and_clipping_shortens():
    data = instruction_set()
    free, clipped = learner_of(clip=0.0), learner_of(clip=0.01)
    assert free.learn([data.batch(range(8))], 0.0).grad_norm == pytest.approx(
        clipped.learn([data.batch(range(8))], 0.0).grad_norm
    )
    norm = sum(p.grad.square().sum() for p in clipped.model.parameters()).sqrt().item()
    assert norm == pytest.approx(0.01, rel=1e-3)


def test_a_gradient_that_is_no_number_is_refused_before_the_step():
    learner = learner_of()
    with torch.no_grad():
        learner.model.ln_f.weight[0] = float("inf")
    before = copy.deepcopy(learner.model.state_dict())
    with pytest.raises(Diverged, match="the loss is nan"):
        learner.learn([instruction_set().batch(range(8))], 1e-3)
    for name, value in learner.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_half_precision_skips_a_step_and_gives_up_when_no_scale_helps():
    data, half = instruction_set(), Precision("fp16", "")
    learner = learner_of(precision=half)
    learner.precision = FP32  # the CPU computes; the scaler is what is tested
    learner.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    before = copy.deepcopy(learner.model.state_dict())
    hook = learner.model.ln_f.weight.register_hook(lambda gradient: gradient * float("inf"))
    assert learner.learn([data.batch(range(8))], 1e-3).grad_norm == float("inf")
    learner.learn([data.batch(range(8))], 1e-3)
    for name, value in learner.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    with pytest.raises(Diverged, match="the gradient is inf"):
        for _ in range(3):
            learner.learn([data.batch(range(8))], 1e-3)
    hook.remove()


def test_validation_is_the_same_at_any_batch_size_and_draws_nothing():
    data = instruction_set(tuple(range(2, 32)))
    losses = []
    for size in (1, 4, 7, 30):
        learner = learner_of(batch_size=size, dropout=0.5)
        before = torch.get_rng_state()
        losses.append(learner.validate(data))
        assert torch.equal(torch.get_rng_state(), before)
        assert learner.model.training
    np.testing.assert_allclose(losses, losses[0], rtol=0, atol=1e-6)
    packed = instruction_set(tuple(range(2, 32)), row_length=32)
    np.testing.assert_allclose(learner.validate(packed), losses[0], rtol=0, atol=1e-6)
    shuffled = instruction_set(tuple(range(2, 32)))
    order = np.random.default_rng(1).permutation(30)
    shuffled.batch = lambda indices: data.batch(order[np.asarray(indices)])
    np.testing.assert_allclose(learner.validate(shuffled), losses[0], rtol=0, atol=1e-6)


def test_validation_can_be_interrupted_and_leaves_the_model_training():
    class Enough(Exception):
        pass

    def enough():
        raise Enough

    learner = learner_of()
    with pytest.raises(Enough):
        learner.validate(instruction_set(), enough)
    assert learner.model.training


def test_dropout_is_the_settings_and_the_configuration_keeps_its_own():
    model = random_model(replace(TINY, dropout=0.1))
    learner = learner_of(model, dropout=0.3)
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.3}
    assert {block.attn.dropout for block in model.h} == {0.3}
    assert learner.model.config.dropout == 0.1


# ---- looking later, as a GPU's steps are made ----------------------------------------------


def everything_of(learner):
    """All that a step changes, as copies."""
    state = learner.optimizer.state
    of_each = {n: state.get(p, {}) for n, p in learner.model.named_parameters()}
    moments = {f"{what} of {n}": t for n, s in of_each.items() for what, t in s.items()}
    return copy.deepcopy(learner.model.state_dict() | moments)


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def pair_of_learners(**settings):
    """One that looks at a step before the weights change, and one that does later."""
    torch.manual_seed(3)
    at_once = learner_of(**settings)
    later = learner_of(copy.deepcopy(at_once.model), **settings)
    assert not at_once.looks_later
    later.looks_later = True
    return at_once, later


@pytest.mark.parametrize("parts", [[range(8)], [range(3), range(3, 8), [1]]])
def test_who_looks_later_makes_the_same_steps_to_the_last_bit(parts):
    data = instruction_set()
    at_once, later = pair_of_learners(clip=0.5)
    told = [[], []]
    for lr in (1e-2, 3e-3, 0.0, 1e-2):
        batches = [data.batch(part) for part in parts]
        told[0].append(at_once.learn(batches, lr))
        told[1].append(later.update(later.gradient(batches), lr))
    assert told[0] == [learned() for learned in told[1]]  # all of them at the end
    assert_same_bits(everything_of(at_once), everything_of(later))
    assert not hasattr(later.optimizer, "found_inf")


@pytest.mark.parametrize(("where", "said"), [("forward", "the loss is"), ("back", "the gradient")])
def test_who_looks_later_changes_nothing_by_a_step_that_is_no_number(where, said):
    data = instruction_set()
    at_once, later = pair_of_learners()
    for learner in (at_once, later):
        for _ in range(2):
            learner.learn([data.batch(range(8))], 1e-2)
    before = everything_of(later)
    assert {int(t) for name, t in before.items() if name.startswith("step")} == {2}
    for learner in (at_once, later):
        if where == "back":
            learner.model.ln_f.weight.register_hook(lambda gradient: gradient / 0)
        else:
            with torch.no_grad():
                learner.model.ln_f.bias[0] = float("nan")
    if where == "forward":
        before["ln_f.bias"][0] = float("nan")
    with pytest.raises(Diverged, match=said) as told:
        at_once.learn([data.batch(range(8))], 1e-2)
    learned = later.update(later.gradient([data.batch(range(8))]), 1e-2)
    after = everything_of(later)  # and nobody has looked yet
    assert before.keys() == after.keys()
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=0, equal_nan=True)
    with pytest.raises(Diverged) as told_later:
        learned()
    assert str(told_later.value) == str(told.value)


def test_a_loss_that_is_no_number_is_enough_to_change_nothing():
    _, later = pair_of_learners()
    batches = [instruction_set().batch(range(8))]
    later.learn(batches, 1e-2)
    before = everything_of(later)
    gradient = later.gradient(batches)
    gradient.numbers[0] = float("inf")
    learned = later.update(gradient, 1e-2)
    assert_same_bits(everything_of(later), before)
    with pytest.raises(Diverged, match="the loss is inf"):
        learned()


def test_with_nothing_to_learn_nothing_is_asked_of_the_optimizer():
    data = instruction_set((5, 6))
    data.examples.parts[:] = INSTRUCTION
    _, later = pair_of_learners()
    before = everything_of(later)
    learned = later.update(later.gradient([data.batch([0])]), 1.0)
    assert learned() == (0.0, 0.0, 0.0)
    assert_same_bits(everything_of(later), before)


WAITS = {"_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "_unique2", "equal"}


class NoWaits(TorchDispatchMode):
    """Refuses what would have a CPU wait for a GPU: to ask a tensor for a number, or how many.

    All that a GPU has is in single precision. What the CPU counts by itself is in double.
    """

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        waits = name in WAITS and args[0].dtype != torch.float64
        if name in ("index", "index_put", "index_put_"):  # by a mask: how many rows will it be?
            waits = any(i is not None and i.dtype == torch.bool for i in args[1])
        assert not waits, f"{name} waits"
        return function(*args, **(kwargs or {}))


def before_the_gpu(function):
    """What the CPU does with what it has."""

    def called(*args):
        with _disable_current_modes():
            return function(*args)

    return called


@pytest.mark.parametrize("packed", [False, True])
def test_nothing_that_a_gpu_computes_in_a_step_is_waited_for(packed, monkeypatch):
    data = instruction_set(row_length=32 if packed else None)
    _, later = pair_of_learners(clip=0.0, packed=packed, shared_preamble="never")
    monkeypatch.setattr(loss_chapter, "_DEVICES_WITH_TILES", ("cpu",))
    monkeypatch.setattr("gpt.learner.supervised_rows", before_the_gpu(supervised_rows))
    batches = [data.batch(range(3)), data.batch(range(3, 8))]
    for _ in range(2):
        with NoWaits():
            gradient = later.gradient(batches)
            learned = later.update(gradient, 1e-3)
    assert learned().loss_sum > 0
    for ask in (lambda t: t[0].item(), lambda t: t[t > 0], torch.nonzero):
        with pytest.raises(AssertionError, match="waits"), NoWaits():
            ask(gradient.numbers)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("packed", [False, True])
def test_on_a_gpu_a_step_waits_for_nothing(packed):
    data = instruction_set(row_length=32 if packed else None)
    device = torch.device("cuda")
    learner = learner_of(random_model().to(device), device=device, packed=packed)
    assert learner.looks_later
    told = []
    for i in range(4):
        torch.cuda.set_sync_debug_mode("error" if i else "default")  # the first sets things up
        try:
            batches = [data.batch(range(3)), data.batch(range(3, 8))]
            told.append(learner.update(learner.gradient(batches), 1e-3))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    losses = [learned().loss_sum for learned in told]
    assert losses[-1] < losses[0]


# ---- torch.compile -------------------------------------------------------------------------


@pytest.mark.slow
def test_a_compiled_step_is_the_plain_step():
    data = instruction_set()
    plain = one_step(data, [range(3), range(3, 8)], eps=1e-3)
    warnings = []
    told = {"compile": "always", "warn": warnings.append}
    compiled = one_step(data, [range(3), range(3, 8)], eps=1e-3, **told)
    assert not warnings
    assert_same_step(compiled, plain)


@pytest.mark.slow
def test_new_batch_shapes_do_not_compile_anew():
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    data = instruction_set(tuple(range(2, 32)))
    learner = learner_of(compile="always")
    for i in range(0, 27):
        learner.learn([data.batch(range(i, i + 2 + i % 3))], 1e-3)
    assert 1 <= counters["stats"]["unique_graphs"] <= 3


@pytest.mark.slow
def test_without_a_compiler_it_warns_once_and_goes_on():
    code = """
from tests.test_learner import instruction_set, one_step
warnings = []
learned, _ = one_step(instruction_set(), [range(8)], compile="always", warn=warnings.append)
plain, _ = one_step(instruction_set(), [range(8)])
assert learned == plain, (learned, plain)
print(len(warnings), warnings[0])
"""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"PATH": "", "CXX": "/nowhere/c++", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("1 --compile: goes on without, as it failed: ")
