"""Each beginning of a row computed once: the same loss, the same gradients, fewer places."""

import random
import shutil
from dataclasses import replace

import pytest
import torch

from gpt.batching import collate_weighted
from gpt.compiling import Compiled
from gpt.learner import Learner
from gpt.loss import plain_loss, summed_loss, supervised_rows
from gpt.model import causal_mask
from gpt.preamble import _SHORT, _attended, beginnings_of, n_alike, worth_sharing
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


def rows_at_random(draw, n_rows, n_tokens=3, longest=9):
    """Few tokens, so that rows part at all places; some learn nothing, some are copies."""
    rows = []
    for _ in range(n_rows):
        if rows and draw.random() < 0.2:
            rows.append(draw.choice(rows))
            continue
        ids = [draw.randrange(n_tokens) for _ in range(draw.randint(2, longest))]
        rows.append((ids, [draw.random() < draw.choice([0, 0.3, 1]) for _ in ids]))
    return rows


@pytest.mark.parametrize("preamble", [[], PREAMBLE])
@pytest.mark.parametrize("prompt_loss_weight", [0.0, 0.3])
@pytest.mark.parametrize("recompute", [False, True])
def test_loss_and_gradients_are_those_of_whole_rows(recompute, prompt_loss_weight, preamble):
    model, draw = random_model(), random.Random(7)
    model.recompute = recompute
    for n_rows in (1, 2, 3, 5, 8, 13):
        examples = [
            (preamble + ids, [False] * len(preamble) + learnt)
            for ids, learnt in rows_at_random(draw, n_rows)
        ]
        batch = collate_weighted(examples, pad_id=0, prompt_loss_weight=prompt_loss_weight)
        plain = plain_loss(model(batch.inputs), batch)
        once = summed_loss(model, batch, once=beginnings_of(batch))
        torch.testing.assert_close(once, plain, rtol=1e-6, atol=1e-5)
        torch.testing.assert_close(
            gradients_of(once, model), gradients_of(plain, model), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("multiple", [1, 7, 32])
@pytest.mark.parametrize("recompute", [False, True])
def test_filled_up_to_a_multiple_it_is_the_same_loss_and_gradient(recompute, multiple):
    model, draw = random_model(), random.Random(3)
    model.recompute = recompute
    for n_rows in (1, 2, 5, 13):
        rows = rows_at_random(draw, n_rows)
        if n_rows > 1:
            rows[0] = [4, 7], [False, False]  # learns nothing
        examples = [(PREAMBLE + ids, [False] * len(PREAMBLE) + learnt) for ids, learnt in rows]
        batch = collate_weighted(examples, pad_id=0, prompt_loss_weight=0.0)
        once, picked = beginnings_of(batch), supervised_rows(batch)
        if once is None:
            continue
        expected = summed_loss(model, batch, picked=picked, once=once)
        its_gradients = gradients_of(expected, model)
        more, all_picked = once.filled_up(multiple), picked.filled_up(multiple)
        for many, few in ((more.ids, once.ids), (all_picked.rows, picked.rows)):
            assert len(few) <= len(many) < len(few) + multiple and len(many) % multiple == 0
        for its_once in (more, None):
            loss = summed_loss(model, batch, picked=all_picked, once=its_once)
            torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-5)
            torch.testing.assert_close(
                gradients_of(loss, model), its_gradients, rtol=1e-5, atol=1e-5
            )


def test_a_batch_of_one_column():
    batch = collate_weighted([([4], [True]), ([4], [True]), ([9], [True])], 0, 0.0)
    model, once = random_model(), beginnings_of(batch)
    assert once.ids.tolist() == [4, 9]
    loss = summed_loss(model, batch, once=once)
    torch.testing.assert_close(loss, plain_loss(model(batch.inputs), batch))


def test_in_bf16_what_many_rows_hand_back_is_summed_in_fp32():
    """Row by row in bf16, small terms would be lost: at 256 rows, five times as far from fp32."""
    model, gradients = random_model(), {}
    draw = torch.Generator().manual_seed(1)
    tails = torch.randint(0, 90, (256, 4), generator=draw).tolist()
    batch = batch_of(*tails, preamble=PREAMBLE * 3)
    for name, once in (("exact", None), ("plain", None), ("once", beginnings_of(batch))):
        with torch.autocast("cpu", torch.bfloat16, enabled=name != "exact"):
            loss = summed_loss(model, batch, once=once)
        gradients[name] = gradients_of(loss, model)["h.0.attn.c_attn.weight"]

    def off(name):
        return (gradients[name] - gradients["exact"]).norm()

    assert off("once") < 1.5 * off("plain")


@pytest.mark.parametrize("n", [0, 5, 24])
@pytest.mark.parametrize("T", [1, 7, 40])
def test_attention_in_bf16_written_out_is_no_further_off_than_the_kernel(T, n):
    """Of q, k, v as they are, in fp32: what both are held to, and their gradients."""
    generator = torch.Generator().manual_seed(T)
    q, k, v, upstream = (
        torch.randn(3, 2, size, 64, generator=generator).bfloat16() for size in (T, T + n, T + n, T)
    )
    mask = causal_mask(T, n) if n else None

    def through(attend, *tensors):
        tensors = [t.detach().requires_grad_() for t in tensors]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=attend is _attended):
            y = attend(*tensors, mask)
        found = [y, *torch.autograd.grad(y, tensors, upstream.to(y.dtype))]
        return [t.detach().float() for t in found]

    def kernel(q, k, v, mask):
        return torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None
        )

    right = through(kernel, q.float(), k.float(), v.float())
    theirs = through(kernel, q, k, v)
    ours = through(_attended, q, k, v)
    for found, other, exact in zip(ours, theirs, right, strict=True):
        assert (found - exact).norm() <= 1.05 * (other - exact).norm() + 1e-6
        assert (found - exact).norm() <= 0.01 * exact.norm() + 1e-6


def test_texts_that_are_long_or_in_fp32_go_to_the_kernel(monkeypatch):
    seen = []
    kernel = torch.nn.functional.scaled_dot_product_attention

    def watched(q, k, v, **more):
        seen.append((q.dtype, k.size(2)))
        return kernel(q, k, v, **more)

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", watched)
    for dtype in (torch.float32, torch.bfloat16):
        for n in (_SHORT, _SHORT + 1):
            _attended(*torch.randn(3, 1, 2, n, 8).to(dtype))
    both = _SHORT, _SHORT + 1
    assert seen == [*((torch.float32, n) for n in both), (torch.bfloat16, _SHORT + 1)]


def test_in_bf16_shared_and_not_shared_the_loss_is_nearly_the_same():
    model = random_model()
    batch = batch_of(*TAILS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = gradients_of(summed_loss(model, batch, once=beginnings_of(batch)), model)
        plain = gradients_of(summed_loss(model, batch), model)
    right = gradients_of(summed_loss(model, batch), model)
    for name, gradient in right.items():
        of_plain = (plain[name] - gradient).norm()
        assert (ours[name] - gradient).norm() <= 2 * of_plain + 1e-3 * gradient.norm(), name


def test_each_beginning_stands_once_and_rows_part_where_their_texts_do():
    batch = batch_of([11, 5, 6], [12, 30, 31], [11, 5, 7, 8], prompt=1, preamble=[1, 2])
    ids, positions, at, firsts = beginnings_of(batch)
    assert ids.tolist() == [1, 2, 11, 5, 6, 12, 30, 31, 7, 8]
    assert positions.tolist() == [0, 1, 2, 3, 4, 2, 3, 4, 4, 5]
    assert at.tolist() == [[0, 1, 2, 3, 4, 0], [0, 1, 5, 6, 7, 0], [0, 1, 2, 3, 8, 9]]
    assert firsts.tolist() == [0, 1, 2, 4, 5, 6, 10, 11]  # of three rows by four places


def n_computed(batch):
    return len(beginnings_of(batch).ids)


def test_what_is_behind_the_last_loss_of_a_row_is_not_computed():
    batch = batch_of([11, 5, 6], [12, 1, 1, 1, 1, 1, 1], preamble=[1])
    assert n_computed(batch) == 1 + 3 + 7
    batch.weights[1, 4:] = 0  # and its targets may be what they like
    assert n_computed(batch) == 1 + 3 + 3
    batch.weights[1] = 0  # a row of which nothing is wanted at all
    assert n_computed(batch) == 1 + 3
    batch.weights[0] = 0
    assert beginnings_of(batch) is None


def test_rows_that_are_packed_are_left_alone():
    batch = batch_of(*TAILS)
    assert beginnings_of(batch._replace(documents=torch.zeros_like(batch.inputs))) is None


def test_it_is_worth_it_only_where_it_saves_a_tenth():
    assert worth_sharing(batch_of(*TAILS)) is not None
    assert worth_sharing(batch_of([11, 5, 6])) is None
    assert worth_sharing(batch_of([1] * 25, [2] * 25, preamble=[3])) is None
    assert worth_sharing(batch_of([1] * 25, [2] * 12, preamble=[])) is not None  # no padding


@pytest.mark.parametrize(
    ("rows", "n"),
    [
        ([[1, 2, 3], [1, 2, 4]], 2),
        ([[1, 2], [1, 2, 4]], 1),  # the shorter keeps one
        ([[1, 2], [1, 2]], 1),
        ([[1, 2, 9], [3, 2, 9]], 0),
        ([[7]], 0),
        ([[5, 1, 9, 9], [5, 1, 2, 9], [5, 3, 2, 9]], 1),
    ],
)
def test_what_all_rows_begin_with(rows, n):
    assert n_alike(rows) == n


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
        once = summed_loss(model, batch, hidden_of=compiled, once=beginnings_of(batch))
        torch.testing.assert_close(once, plain, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            gradients_of(once, model), gradients_of(plain, model), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"dropout": 0.1}, "nothing to share"),
        ({"lora_rank": 4, "lora_dropout": 0.1}, "nothing to share"),
        ({"packed": True}, "nothing to share"),
        ({"micro_batch_size": 1}, "one row"),
        ({"objective": "pretrain"}, "no preamble"),
    ],
)
def test_sharing_by_force_is_refused_where_rows_have_nothing_to_share(other, why):
    with pytest.raises(SettingsError, match=why):
        check(TrainSettings(shared_preamble="always", **other))
