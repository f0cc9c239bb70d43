"""The table of memory counts what torch allocates, whether the numbers are there or not."""

import functools
import sys

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from gpt.config import PUBLISHED, GPTConfig
from scripts.memory import (
    METHODS,
    SIZES,
    Count,
    LiveBytes,
    _fill,
    count,
    model_for,
    parse_arguments,
    steps,
)

CONFIG = GPTConfig(vocab_size=300, n_ctx=64, n_layer=3, n_head=4, n_embd=128, dropout=0.0)


@functools.cache
def counted(method: str, recompute: bool) -> Count:
    return count(model_for(CONFIG, method, rank=4), 4, 64, recompute)


def test_a_tensor_counts_until_it_is_gone_and_a_view_counts_nothing():
    with LiveBytes() as live:
        first = torch.zeros(1000)
        assert live.now == live.peak == 4000
        view = first.view(10, 100)[2:]
        assert live.now == 4000
        second = torch.ones(500, dtype=torch.float64)
        assert live.now == live.peak == 8000
        del first
        assert live.now == 8000  # the view still holds it
        del view
        assert (live.now, live.peak) == (4000, 8000)
        second += 1
        assert live.now == 4000
    del second
    assert live.now == 0


def test_what_autograd_keeps_counts_until_the_way_back():
    x = torch.ones(1000, requires_grad=True)
    with LiveBytes() as live:
        y = x.exp().sum()
        assert live.now == 4004  # exp keeps its result
        y.backward()
        assert live.now == 4004 and x.grad is not None  # now it is the gradient


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_the_count_without_numbers_is_the_count_with_them(method, recompute):
    real = count(model_for(CONFIG, method, 4), 4, 64, recompute, real=True)
    assert counted(method, recompute) == real


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_the_count_is_what_torchs_allocator_hands_out(method, recompute):
    model = model_for(CONFIG, method, 4)
    model.recompute = recompute
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        _fill(model)
        taking = iter(steps(model.train(), 4, 64))
        next(taking), next(taking)
    events = [e for e in found.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    ours = counted(method, recompute).peak
    assert ours <= peak * 1.001
    assert ours == pytest.approx(peak, rel=0.01)  # kernels take a little for themselves


def test_what_stays_is_what_arithmetic_says():
    full, lora, qlora = (counted(method, True) for method in METHODS)
    C, n_layer, n = CONFIG.n_embd, CONFIG.n_layer, CONFIG.n_params()
    assert (full.trained, full.weights, full.gradients) == (n, 4 * n, 4 * n)
    assert 8 * n <= full.moments < 8 * n + 1000  # and a counter for each tensor
    adapters = n_layer * 4 * ((C + 3 * C) + (C + C) + (C + 4 * C) + (4 * C + C))
    assert lora.trained == qlora.trained == adapters
    assert lora.weights == 4 * (n + adapters)
    assert lora.gradients == qlora.gradients == 4 * adapters
    in_blocks = n_layer * 12 * C * C
    assert lora.weights - qlora.weights == pytest.approx((4 - 4.127 / 8) * in_blocks, rel=1e-3)


def test_checkpointing_and_each_further_method_take_less():
    for method in METHODS:
        assert counted(method, True).peak < counted(method, False).peak
    for recompute in (False, True):
        full, lora, qlora = (counted(method, recompute).peak for method in METHODS)
        assert qlora < lora < full


@pytest.mark.parametrize(("rank", "below"), [(16, 0.02), (8, 0.01), (4, 0.005)])
def test_lora_has_a_small_share_of_the_optimizers_state(rank, below):
    for size in SIZES:
        model = model_for(PUBLISHED[size], "lora", rank)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert trained < below * PUBLISHED[size].n_params(), size


@pytest.mark.slow
def test_gpt2_xl_is_tuned_in_less_than_4_gigabytes():
    one = count(model_for(PUBLISHED["gpt2-xl"], "qlora", 16), 8, 256, recompute=True)
    assert one.peak < 4e9


@pytest.mark.slow
def test_gpt2_xl_is_tuned_whole_in_less_than_40_gigabytes_without_checkpointing():
    """At 8,192 tokens in bf16, all of them supervised; what is kept decides it."""
    kept, forgotten = (
        count(
            model_for(PUBLISHED["gpt2-xl"], "full", 16), 8, 1024, recompute=False,
            precision="bf16", recompute_gelu=recompute_gelu,
        )
        for recompute_gelu in (False, True)
    )  # fmt: skip
    assert forgotten.peak < 40e9 < kept.peak


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gelu_that_is_forgotten_takes_so_much_less(precision):
    batch_size, length = 4, 64
    kept, forgotten = (
        count(
            model_for(CONFIG, "full", 4), batch_size, length, recompute=False,
            precision=precision, recompute_gelu=recompute_gelu,
        )
        for recompute_gelu in (False, True)
    )  # fmt: skip
    n_kept = batch_size * length * 4 * CONFIG.n_embd
    if precision == "bf16":  # and no rounded copy of the weights behind the GELU
        n_kept += 4 * CONFIG.n_embd**2
    of_a_layer = n_kept * (4 if precision == "fp32" else 2)
    less = kept.peak - forgotten.peak
    assert (CONFIG.n_layer - 1.5) * of_a_layer <= less <= CONFIG.n_layer * of_a_layer


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--check", "--precision", "bf16"], "--check takes the plain step"),
        (["--rank", "0"], "--rank must be at least 1"),
        (["--length", "1025"], "1024 tokens"),
        (["--size", "gpt3"], "gpt3"),
        (["--methods", "lora"], "did you mean --method?"),
    ],
)
def test_wrong_usage_is_told_in_two_lines(arguments, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["memory.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        parse_arguments()
    error = capsys.readouterr().err
    assert ended.value.code == 2 and said in error and len(error.splitlines()) == 2
