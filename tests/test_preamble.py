"""What all rows begin with, computed once: the same loss, the same gradients, fewer places."""

import shutil
from dataclasses import replace

import pytest
import torch

from gpt.batching import collate_weighted
from gpt.compiling import Compiled
from gpt.learner import Learner
from gpt.loss import plain_loss, summed_loss
from gpt.preamble import n_shared, worth_sharing
from gpt.setting_rules import check
from gpt.settings import SettingsError, TrainSettings
from tests.runs import run_to_end, settings_in
from tests.test_learner import CPU, FP32, instruction_set
from tests.tiny import TINY, random_model

PREAMBLE = [5, 9, 9, 30, 2, 71]


def batch_of(*tails, prompt=2, prompt_loss_weight=0.0, preamble=PREAMBLE):
    examples = [
        (preamble + tail, [False] * (len(preamble) + prompt) + [True] * (len(tail) - prompt))
        for tail in tails
    ]
    return collate_weighted(examples, pad_id=0, prompt_loss_weight=prompt_loss_weight)


TAILS = ([11, 5, 6], [12, 30, 31, 32, 33, 8], [13, 2, 2], [12, 44, 1, 1])


def gradients_of(loss, model):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("how_many", range(1, 7))
def test_loss_and_gradients_are_those_of_whole_rows(how_many, recompute):
    model, batch = random_model(), batch_of(*TAILS)
    model.recompute = recompute
    plain = plain_loss(model(batch.inputs), batch)
    shared = summed_loss(model, batch, n_shared=how_many)
    torch.testing.assert_close(shared, plain, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(
        gradients_of(shared, model), gradients_of(plain, model), rtol=1e-5, atol=1e-5
    )


def test_what_is_shared_are_the_first_tokens_that_are_alike_and_not_learnt():
    assert n_shared(batch_of(*TAILS)) == 6
    assert n_shared(batch_of([11, 5, 6], [11, 5, 7])) == 7  # the target of place 7 is learnt
    assert n_shared(batch_of([11, 5, 6], [11, 5, 6])) == 7
    assert n_shared(batch_of(*TAILS, preamble=[])) == 0
    assert n_shared(batch_of(*TAILS, prompt_loss_weight=0.1)) == 0  # a prompt has a loss as well
    assert n_shared(batch_of([11, 5, 6])) == 7  # a row alone; it would not be worth it
    silent = batch_of([11, 5, 6], [11, 5, 6])
    silent = silent._replace(weights=torch.zeros_like(silent.weights))
    assert n_shared(silent) == silent.inputs.size(1) - 1
    assert n_shared(batch_of(*TAILS)._replace(documents=torch.zeros(4, 12))) == 0


def test_it_is_worth_it_only_where_it_saves_a_tenth():
    assert worth_sharing(batch_of(*TAILS)) == 6
    assert worth_sharing(batch_of([11, 5, 6])) == 0
    assert worth_sharing(batch_of([1] * 25, [2] * 25, preamble=[3])) == 0


def learn(steps=30, **settings):
    data = instruction_set(lengths=(5, 12, 7, 3, 9, 20, 6, 8))
    data.examples.ids[:] = 3  # all alike, so prompts too
    chosen = replace(TrainSettings(), **settings)
    learner = Learner(random_model(), chosen, CPU, FP32, 1e-3)
    places = []
    inner = learner.summed.hidden
    learner.summed.hidden = lambda ids, *rest: places.append(ids.numel()) or inner(ids, *rest)
    losses = []
    for step in range(steps):
        batch = data.batch([step % 8, (step + 3) % 8, (step + 5) % 8])
        losses.append(learner.learn([batch], lr=1e-2).loss_sum)
    return losses, sum(places), learner.validate(data)


def test_thirty_steps_and_a_validation_are_the_same_and_compute_less():
    ours, fewer, validation = learn(shared_preamble="auto")
    plain, more, other_validation = learn(shared_preamble="never")
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
    assert validation == pytest.approx(other_validation, abs=1e-6)
    assert fewer < more


def test_with_dropout_every_row_is_computed_by_itself():
    _, places, _ = learn(shared_preamble="auto", dropout=0.1)
    _, plain, _ = learn(shared_preamble="never", dropout=0.1)
    assert places == plain


def test_a_run_with_it_and_without_it_has_the_same_metrics(tmp_path):
    from tests.runs import make_world

    world = make_world(tmp_path)
    lines = {}
    for name in ("always", "never"):
        settings = settings_in(world, name, shared_preamble=name, max_steps=30, validate_every=10)
        run, _ = run_to_end(settings)
        lines[name] = [
            (line["step"], line.get("train_loss", 0), line.get("val_loss", 0))
            for line in run.metrics.read()
        ]
    torch.testing.assert_close(lines["always"], lines["never"], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_it_is_the_same_loss():
    model = random_model(replace(TINY, n_embd=16))
    compiled = Compiled(model.hidden, pytest.fail)
    for tails in (TAILS, TAILS[:2], TAILS[1:]):
        batch = batch_of(*tails)
        plain = summed_loss(model, batch)
        shared = summed_loss(model, batch, hidden_of=compiled, n_shared=n_shared(batch))
        torch.testing.assert_close(shared, plain, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            gradients_of(shared, model), gradients_of(plain, model), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"dropout": 0.1}, "nothing to share"),
        ({"lora_rank": 4, "lora_dropout": 0.1}, "nothing to share"),
        ({"packed": True}, "nothing to share"),
        ({"prompt_loss_weight": 0.1}, "in the loss"),
        ({"micro_batch_size": 1}, "one row"),
        ({"objective": "pretrain"}, "no preamble"),
    ],
)
def test_sharing_by_force_is_refused_where_rows_have_nothing_to_share(other, why):
    with pytest.raises(SettingsError, match=why):
        check(TrainSettings(shared_preamble="always", **other))
