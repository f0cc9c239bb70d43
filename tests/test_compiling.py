"""torch.compile: chosen where a run is long enough, and never the end of one."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import gpt.start
from gpt.compiling import Choice, Compiled, choose_compiling
from gpt.learner import Learner
from gpt.pretraining import Rows
from gpt.setting_rules import check
from gpt.settings import SettingsError, TrainSettings, as_now, combine
from gpt.stopping import StopRequests
from gpt.train import STOPPED
from tests.runs import make_world, run_to_end, settings_in
from tests.test_learner import CPU, FP32, instruction_set, learner_of
from tests.tiny import TINY, random_model

GPT2, XL = 124_439_808, 1_557_611_200


@pytest.mark.parametrize(
    ("device_type", "n_params", "n_tokens", "chosen"),
    [
        ("cuda", GPT2, 0, False),
        ("cuda", GPT2, 7_000_000, False),
        ("cuda", GPT2, 9_000_000, True),
        ("cuda", XL, 500_000, False),
        ("cuda", XL, 700_000, True),
        ("cpu", GPT2, 10**9, False),
        ("mps", GPT2, 10**9, False),
    ],
)
def test_by_itself_a_long_run_on_a_gpu_is_compiled_and_no_other(
    device_type, n_params, n_tokens, chosen
):
    choice = choose_compiling(TrainSettings(), device_type, n_params, n_tokens)
    assert choice.compiled == chosen and choice.reason
    if device_type == "cuda":
        assert f"{n_tokens / 1e6:,.1f} million tokens" in choice.reason
    for asked, compiled in (("always", True), ("never", False)):
        settings = TrainSettings(compile=asked)
        assert choose_compiling(settings, device_type, n_params, n_tokens) == (compiled, "as asked")


def test_what_is_sharded_is_not_compiled_by_itself_and_refused_by_name():
    settings = TrainSettings(shard=True)
    check(settings)
    assert not choose_compiling(settings, "cuda", GPT2, 10**9).compiled
    with pytest.raises(SettingsError, match="--shard with --compile is not supported"):
        check(replace(settings, compile="always"))


def test_settings_of_an_earlier_version_are_understood():
    for was, means in ((True, "always"), (False, "never")):
        assert combine({"compile": was})[0].compile == means
        assert as_now({"lr": 1.0, "compile": was}) == {"lr": 1.0, "compile": means}
    for same in ({"lr": 1.0}, {"compile": "auto"}):
        assert as_now(same) == same


class StopAfter(StopRequests):
    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def check(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            self.signal = 2
        super().check()


def test_a_run_counts_what_is_left_and_keeps_its_settings(tmp_path, monkeypatch):
    world, asked, said = make_world(tmp_path), [], []

    def choose(settings, device_type, n_params, n_tokens):
        asked.append((settings.compile, device_type, n_params, n_tokens))
        return Choice(True, "it was asked")

    monkeypatch.setattr(gpt.start, "choose_compiling", choose)
    monkeypatch.setattr("gpt.learner.Compiled", lambda function, *_: function)
    settings = settings_in(world, validate_every=50, save_every=50)
    looks = 2 + 5  # at the validation of step 0, and after as many steps
    run, ended = run_to_end(settings, StopAfter(looks))
    assert ended == STOPPED and 0 < run.state.step < run.n_steps
    assert (run.settings.compile, run.learner.settings.compile) == ("auto", "always")
    again = gpt.start.begin(replace(settings, resume=True), (), said.append)
    assert "compile: yes, it was asked" in said
    n_tokens, per_epoch = int(run.data.train.lengths.sum()), run.order.steps_per_epoch
    n_params = run.learner.model.n_params()
    left = [run.n_steps * n_tokens // per_epoch]
    left.append((run.n_steps - run.state.step) * n_tokens // per_epoch)
    assert asked == [("auto", "cpu", n_params, n) for n in left]
    assert again.settings.compile == "auto"


# ---- how often it compiles -----------------------------------------------------------------


@pytest.fixture
def graphs(monkeypatch):
    """How many programs were made since, by a compiler that only looks at the code."""
    import torch._dynamo
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    yield lambda: counters["stats"]["unique_graphs"]
    torch._dynamo.reset()


def within_bounds(q, k, v, bounds, _, longest, __):
    """What torch's kernel for texts laid end to end computes, in words that can be compiled."""
    text = torch.bucketize(torch.arange(len(q), device=q.device), bounds[1:], right=True)
    mask = (text[:, None] == text).tril()
    assert longest == TINY.n_ctx  # or each other length would be another program
    y = F.scaled_dot_product_attention(*(t.transpose(0, 1) for t in (q, k, v)), attn_mask=mask)
    return y.transpose(0, 1)


def test_packed_rows_of_any_number_and_length_are_two_programs_at_most(graphs):
    data = instruction_set(tuple(range(2, 30)), row_length=TINY.n_ctx)
    plain, compiled = learner_of(packed=True), learner_of(packed=True, compile="always")
    plain.varlen = compiled.varlen = within_bounds
    shapes = set()
    for part in ([3, 4], [5, 6], [2, 11], range(5, 12), range(1, 20), range(0, 28), [7]):
        batch = data.batch(part)
        shapes.add(tuple(batch.inputs.shape))
        ours, theirs = (learner.gradient([batch]).numbers for learner in (compiled, plain))
        torch.testing.assert_close(ours, theirs)
    assert len(shapes) == 7
    assert 1 <= graphs() <= 2  # of one row, and of several


def test_rows_of_one_shape_are_one_program_and_a_short_last_batch_one_more(graphs):
    ids = np.random.default_rng(0).integers(1, TINY.vocab_size, (23, 9)).astype(np.int32)
    data = Rows(ids)
    learner = learner_of(objective="pretrain", compile="always")
    for start in (0, 4, 8, 12):
        learner.learn([data.batch(range(start, start + 4))], 1e-3)
    assert graphs() == 1
    learner.learn([data.batch(range(16, 19))], 1e-3)
    learner.learn([data.batch(range(16, 18))], 1e-3)
    assert graphs() == 2


# ---- when it fails -------------------------------------------------------------------------


def test_a_way_back_that_cannot_be_compiled_is_found_at_the_start_and_said_once():
    class Failed(RuntimeError):
        __module__ = "torch._inductor.exc"

    class ThereAndNotBack(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            raise Failed("no kernel for this\nand a page of advice")

    said, data = [], instruction_set()
    model, plain = random_model(), learner_of()
    learner = Learner(model, TrainSettings(compile="always"), CPU, FP32, 1e-3, said.append)
    learner.compiled.compiled = lambda *a: ThereAndNotBack.apply(model.hidden(*a))
    learner.rehearse(data.batch(range(8)))
    learner.optimizer.zero_grad(set_to_none=True)
    assert said == ["--compile: goes on without, as it failed: no kernel for this"]
    batches = [data.batch(range(8))]
    assert learner.learn(batches, 1e-3) == plain.learn(batches, 1e-3)


def test_a_failure_that_is_not_the_compilers_is_no_reason_to_go_on():
    def fails(*_):
        raise RuntimeError("out of memory")

    compiled = Compiled(fails, pytest.fail)
    compiled.compiled = fails
    with pytest.raises(RuntimeError, match="out of memory"):
        compiled()
