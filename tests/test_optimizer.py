"""The rate of each step, what decays, and how long a gradient was: against their closed forms."""

import copy
import math
from itertools import pairwise

import pytest
import torch
import torch.nn as nn
from hypothesis import given
from hypothesis import strategies as st

from gpt.optimizer import clip, length_of, make_optimizer, rate_at
from gpt.settings import RECIPES, TrainSettings
from tests.tiny import TINY, random_ids, random_model


def rates(n_steps: int, lr: float = 1.0, **settings) -> list[float]:
    return [rate_at(step, n_steps, lr, TrainSettings(**settings)) for step in range(n_steps)]


# ---- the rate ------------------------------------------------------------------------------


def test_the_rate_rises_in_equal_steps_and_its_first_is_not_zero():
    for schedule in ("cosine", "linear", "constant"):
        rising = rates(100, 3.0, schedule=schedule, warmup=0.1)[:10]
        assert rising == pytest.approx([3.0 * (step + 1) / 10 for step in range(10)])
        assert rates(100, 3.0, schedule=schedule, warmup=0.1)[10] == 3.0


def test_a_cosine_is_half_a_wave_from_the_highest_to_the_lowest():
    n, warmup, low = 100, 20, 0.1
    found = rates(n, 2.0, schedule="cosine", warmup=0.2, min_lr=low)
    for step in range(warmup, n):
        wave = (1 + math.cos(math.pi * (step - warmup) / (n - warmup))) / 2
        assert found[step] == pytest.approx(2.0 * (low + (1 - low) * wave))
    assert found[60] == pytest.approx(2.0 * (1 + low) / 2)  # half way down


def test_a_line_falls_by_the_same_at_each_step_and_ends_one_step_above_the_lowest():
    found = rates(100, schedule="linear", warmup=0.2, min_lr=0.1)
    falls = [a - b for a, b in pairwise(found[20:])]
    assert falls == pytest.approx([0.9 / 80] * 79)
    assert found[-1] == pytest.approx(0.1 + 0.9 / 80)


def test_a_constant_stays_where_it_is():
    assert rates(10, 5e-5, schedule="constant", warmup=0.0) == [5e-5] * 10
    book = TrainSettings(**RECIPES["book"])
    assert {rate_at(step, 230, book.lr, book) for step in range(230)} == {5e-5}


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_a_run_of_one_step_has_the_whole_rate(schedule):
    for warmup in (0.0, 0.05, 0.5, 1.0):
        assert rates(1, 2.0, schedule=schedule, warmup=warmup) == [2.0]


@given(
    n_steps=st.integers(1, 60),
    warmup=st.floats(0, 1),
    low=st.floats(0, 1),
    lr=st.floats(1e-8, 10),
    schedule=st.sampled_from(["cosine", "linear", "constant"]),
)
def test_every_rate_learns_something_and_they_rise_once_and_fall_once(
    n_steps, warmup, low, lr, schedule
):
    found = rates(n_steps, lr, schedule=schedule, warmup=warmup, min_lr=low)
    assert all(0 < rate <= lr * (1 + 1e-12) for rate in found)
    assert max(found) == pytest.approx(lr)
    top = found.index(max(found))
    slack = lr * 1e-12
    assert all(a <= b + slack for a, b in pairwise(found[: top + 1]))
    assert all(a >= b - slack for a, b in pairwise(found[top:]))
    if schedule != "constant":
        assert all(rate >= lr * low - slack for rate in found[top:])


# ---- AdamW ---------------------------------------------------------------------------------


def names_by_decay(model, **settings) -> dict[float, set[str]]:
    optimizer = make_optimizer(model, TrainSettings(**settings), lr=1e-3)
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = [(g["weight_decay"], {names[p] for p in g["params"]}) for g in optimizer.param_groups]
    assert len({decay for decay, _ in groups}) == len(groups)
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(names)  # each in one
    return dict(groups)


def test_matrices_decay_and_biases_and_norms_do_not():
    model = random_model()
    found = names_by_decay(model, weight_decay=0.1)
    one_dimensional = {name for name in dict(model.named_parameters()) if name.endswith("bias")}
    one_dimensional |= {name for name in dict(model.named_parameters()) if "ln_" in name}
    assert found[0.0] == one_dimensional
    assert found[0.1] == set(dict(model.named_parameters())) - one_dimensional
    assert any("wte" in name for name in found[0.1]) and any("ln_f" in name for name in found[0.0])


def test_everything_decays_where_that_is_asked_for():
    model = random_model()
    assert names_by_decay(model, weight_decay=0.1, decay="everything") == {
        0.1: set(dict(model.named_parameters()))
    }


def test_what_is_frozen_is_not_the_optimizer_s():
    model = random_model()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("h.1.")
    optimizer = make_optimizer(model, TrainSettings(), lr=1e-3)
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in trained} == {id(p) for p in model.h[1].parameters()}
    assert all(group["params"] for group in optimizer.param_groups)


def test_the_settings_reach_the_optimizer():
    settings = TrainSettings(beta1=0.8, beta2=0.95, eps=1e-6, weight_decay=0.3)
    optimizer = make_optimizer(random_model(), settings, lr=0.25)
    assert type(optimizer) is torch.optim.AdamW
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"], group["eps"]) == (0.25, (0.8, 0.95), 1e-6)
        assert not group["amsgrad"] and not group["maximize"]


@pytest.mark.parametrize("decay", ["matrices", "everything"])
def test_steps_are_those_of_adamw_written_out(decay):
    settings = TrainSettings(decay=decay, weight_decay=0.1, beta1=0.9, beta2=0.98, eps=1e-8)
    model = random_model()
    by_hand = {n: p.detach().double().clone() for n, p in copy.deepcopy(model).named_parameters()}
    first = {name: torch.zeros_like(value) for name, value in by_hand.items()}
    second = {name: torch.zeros_like(value) for name, value in by_hand.items()}
    optimizer = make_optimizer(model, settings, lr=1.0)
    for t, lr in enumerate((1e-2, 3e-2, 2e-2, 1e-3), start=1):
        model.zero_grad()
        model(random_ids(2, 9, TINY, seed=t)).square().mean().backward()
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        for name, parameter in model.named_parameters():
            gradient, weight = parameter.grad.double(), by_hand[name]
            if decay == "everything" or weight.dim() >= 2:
                weight -= lr * 0.1 * weight
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.98 * second[name] + 0.02 * gradient**2
            mean, variance = first[name] / (1 - 0.9**t), second[name] / (1 - 0.98**t)
            weight -= lr * mean / (variance.sqrt() + 1e-8)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.double(), by_hand[name], rtol=1e-4, atol=1e-5)


# ---- clipping ------------------------------------------------------------------------------


def with_gradients(seed: int, scale: float = 1.0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    parameters = [nn.Parameter(torch.zeros(size)) for size in ((3, 4), (5,), (), (2, 1, 2))]
    for parameter in parameters[:-1]:
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
    return parameters  # and the last has none


@pytest.mark.parametrize("longest", [1e-3, 0.5, 1.0, 1e3])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_clipping_is_torch_s_own(longest, scale):
    ours, theirs = with_gradients(1, scale), with_gradients(1, scale)
    norm = clip(ours, longest)
    torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(theirs, longest), rtol=1e-6, atol=0)
    for a, b in zip(ours, theirs, strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=0)


def test_the_length_of_a_gradient_as_large_as_gpt2_s_largest_is_no_thousandth_short():
    gradient = torch.randn(50257, 768, generator=torch.Generator().manual_seed(0))
    exact = gradient.double().norm().item()
    assert length_of([gradient]).item() == pytest.approx(exact, rel=1e-5)
    assert length_of([gradient, gradient[:1]]).item() == pytest.approx(
        math.hypot(exact, gradient[0].norm().item()), rel=1e-5
    )


def test_the_length_that_is_told_is_the_one_before():
    for longest in (0.0, 0.1, 100.0):
        parameters = with_gradients(2)
        expected = math.sqrt(sum(p.grad.square().sum().item() for p in parameters[:-1]))
        assert clip(parameters, longest).item() == pytest.approx(expected)
        after = clip(parameters, 0.0).item()
        assert after == pytest.approx(min(expected, longest) if longest else expected, rel=1e-5)


def test_no_clipping_changes_no_bit():
    for longest in (0.0, 1e9):
        parameters = with_gradients(3)
        clip(iter(parameters), longest)  # a generator, as `model.parameters()` is
        for parameter, untouched in zip(parameters[:-1], with_gradients(3), strict=False):
            assert torch.equal(parameter.grad, untouched.grad)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_no_number_is_told(value):
    parameters = with_gradients(4)
    parameters[1].grad[2] = value
    assert not math.isfinite(clip(parameters, 1.0).item())
