"""LoRA: it begins as the base, learns beside it, and equals PEFT's; merged, it is a plain model."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from gpt.config import PUBLISHED, GPTConfig
from gpt.generate import generate
from gpt.learner import Learner, set_dropout
from gpt.lora import (
    LoraConfig,
    LoraError,
    LoraProjection,
    add_lora,
    dequantise,
    lora_layers,
    lora_of,
    merge,
    n_trained,
    savings,
    target_names,
    unmerge,
)
from gpt.model import GPT, Projection
from gpt.preflight import copy_on_cpu, sums_of, sums_on_cpu
from gpt.quantize import NF4Projection, quantize_model
from gpt.segments import INSTRUCTION
from gpt.settings import TrainSettings
from tests.test_learner import CPU, FP32, assert_same_step, instruction_set, one_step
from tests.tiny import TINY, random_ids, random_model

WIDE = replace(TINY, n_embd=32)  # wide enough for rank 16
RANKS = (1, 8, 16)


def adapted(rank=8, quantised=False, seed=0, filled=False, **changes) -> GPT:
    """A random model with an adapter; `filled`: one that has learnt something."""
    model = random_model(WIDE, seed)
    if quantised:
        quantize_model(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        add_lora(model, LoraConfig(rank, **changes))
        if filled:
            for layer in lora_layers(model).values():
                nn.init.normal_(layer.lora_B, std=0.1)
    return model


def frozen_state(model: GPT) -> dict[str, torch.Tensor]:
    """Everything but the adapter, buffers too, by the names that the base has."""
    state = copy.deepcopy(model.state_dict())
    return {n.replace(".base.", "."): t for n, t in state.items() if ".lora_" not in n}


def learner_of(model: GPT, **settings) -> Learner:
    return Learner(model, TrainSettings(lora_rank=8, **settings), CPU, FP32, 1e-2)


# ---- before the first step, and after five ---------------------------------------------------


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("rank", RANKS)
def test_before_the_first_step_the_logits_are_the_base_s_to_the_last_bit(rank, quantised):
    base, ids = random_model(WIDE), random_ids(2, 9)
    if quantised:
        quantize_model(base)
    assert torch.equal(adapted(rank, quantised)(ids), base(ids))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("rank", RANKS)
def test_after_five_steps_every_b_has_learned_and_the_base_is_the_same(
    rank, quantised, checkpointing
):
    model, data = adapted(rank, quantised), instruction_set()
    before, a_before = frozen_state(model), copy.deepcopy(model.state_dict())
    learner = learner_of(model, activation_checkpointing=checkpointing, weight_decay=0.1)
    losses = [
        learner.learn([data.batch(range(3)), data.batch(range(3, 8))], lr=1e-2).loss_sum
        for _ in range(5)
    ]
    assert losses[-1] < losses[0]
    for name, layer in lora_layers(model).items():
        assert (layer.lora_B != 0).any(dim=1).all(), name
        assert not torch.equal(layer.lora_A, a_before[f"{name}.lora_A"]), name
    after = frozen_state(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    n_moments = sum(t.numel() for s in learner.optimizer.state.values() for t in s.values())
    assert n_moments == 2 * n_trained(model) + 2 * len(lora_layers(model))  # and each its step


def test_activation_checkpointing_changes_nothing_even_with_the_adapter_s_dropout():
    steps = []
    for checkpointing in (False, True):
        torch.manual_seed(7)
        model = adapted(dropout=0.3, filled=True)
        steps.append(
            one_step(
                instruction_set(), [range(8)], model=model, dropout=0.2,
                activation_checkpointing=checkpointing,
            )
        )  # fmt: skip
    (ours, weights), (theirs, others) = steps
    assert ours == theirs
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_however_a_step_is_cut_it_is_the_same_step():
    data = instruction_set()
    whole = one_step(data, [range(8)], model=adapted(filled=True), eps=1e-3)
    for parts in ([[i] for i in range(8)], [range(3), range(3, 8)]):
        assert_same_step(one_step(data, parts, model=adapted(filled=True), eps=1e-3), whole)


def test_a_micro_batch_with_nothing_supervised_counts_for_nothing():
    data = instruction_set()
    data.examples.parts[: data.examples.starts[1]] = INSTRUCTION  # all of example 0
    with_it = one_step(data, [[0], range(1, 8)], model=adapted(filled=True), eps=1e-3)
    assert_same_step(with_it, one_step(data, [range(1, 8)], model=adapted(filled=True), eps=1e-3))


# ---- what it is -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        (LoraConfig(4), 2.0),
        (LoraConfig(16), 2.0),
        (LoraConfig(4, 8.0), 2.0),
        (LoraConfig(16, 4.0), 0.25),
        (LoraConfig(16, 4.0, rank_stabilised=True), 1.0),
    ],
)
def test_the_change_is_what_alpha_and_the_rank_say(config, scale):
    assert config.scale == pytest.approx(scale)
    model = random_model(WIDE)
    before = model.h[0].mlp.c_fc.weight.detach().clone()
    add_lora(model, config)
    layer = model.h[0].mlp.c_fc
    nn.init.normal_(layer.lora_B)
    x = torch.randn(2, 3, 32)
    by_hand = F.linear(x, before.T, layer.base.bias) + scale * (x @ layer.lora_A.T @ layer.lora_B.T)
    torch.testing.assert_close(layer(x), by_hand)
    torch.testing.assert_close(layer.change(), scale * (layer.lora_B @ layer.lora_A).T)


def test_the_numbers_in_between_begin_as_large_as_what_is_read_whatever_the_width():
    for width in (64, 1024):
        layer = LoraProjection(Projection(width, width), width, width, LoraConfig(16))
        inner = torch.randn(400, width) @ layer.lora_A.T
        assert inner.std().item() == pytest.approx(1, abs=0.1)


ALL = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (("c_attn", "c_proj", "c_fc"), ["h.0." + n for n in ALL] + ["h.1." + n for n in ALL]),
        (("c_proj",), [f"h.{i}.{n}" for i in (0, 1) for n in ("attn.c_proj", "mlp.c_proj")]),
        (("attn.c_proj",), ["h.0.attn.c_proj", "h.1.attn.c_proj"]),
        (("1.mlp.c_fc", "c_attn"), ["h.0.attn.c_attn", "h.1.attn.c_attn", "h.1.mlp.c_fc"]),
        (("transformer.h.1.mlp.c_fc",), ["h.1.mlp.c_fc"]),
        (r".*\.mlp\.c_.*", [f"h.{i}.mlp.{n}" for i in (0, 1) for n in ("c_fc", "c_proj")]),
        (r"transformer\.h\.1\..*attn", ["h.1.attn.c_attn"]),
        (r"h\.0\.mlp\.c_fc", ["h.0.mlp.c_fc"]),
    ],
)
def test_targets_are_the_ends_of_names_or_a_pattern_of_them(targets, expected):
    model = random_model(WIDE)
    assert target_names(model, targets) == expected
    add_lora(model, LoraConfig(2, targets=targets))
    assert list(lora_layers(model)) == expected
    trained = {n.rsplit(".", 1)[0] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == set(expected)


@pytest.mark.parametrize(
    "targets", [("c_atn",), ("c_attn", "wte"), ("lm_head",), ("ln_1",), ("",), "x", "(", ("attn",)]
)
def test_a_target_that_is_no_projection_is_named_with_those_that_are(targets):
    model = random_model(WIDE)
    with pytest.raises(LoraError, match="names no projection .*c_attn, c_fc, c_proj|no pattern"):
        add_lora(model, LoraConfig(2, targets=targets))


def test_a_rank_above_the_width_is_refused_with_both_numbers():
    adapted(32)
    with pytest.raises(LoraError, match=r"^h\.0\.attn\.c_attn: rank 33 is above .* 32 x 96 .* 32$"):
        adapted(33)


def test_a_second_adapter_is_refused():
    with pytest.raises(LoraError, match="has an adapter already"):
        add_lora(adapted(), LoraConfig(2))


def test_the_adapter_s_dropout_is_its_own():
    model = adapted(dropout=0.5, filled=True)
    set_dropout(model, 0.0)
    assert {layer.config.dropout for layer in lora_layers(model).values()} == {0.5}
    ids = random_ids(2, 9)
    assert torch.equal(model(ids), model(ids))  # in eval mode there is none
    model.train()
    assert not torch.equal(model(ids), model(ids))
    plain = adapted(dropout=0.0, filled=True).train()
    set_dropout(plain, 0.0)
    assert torch.equal(plain(ids), plain(ids))


# ---- merged ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", RANKS)
def test_merged_it_is_a_plain_model_with_the_adapter_s_logits(rank):
    model, ids = adapted(rank, filled=True), random_ids(3, 20)
    expected = model(ids)
    assert (expected - random_model(WIDE)(ids)).abs().max() > 0.1  # it is not nothing
    taken = merge(model)
    assert lora_of(model) is None
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in GPT(WIDE).named_parameters()]
    torch.testing.assert_close(model(ids), expected, rtol=0, atol=1e-4)

    unmerge(model, taken)
    assert torch.equal(model(ids), expected)
    before = frozen_state(random_model(WIDE))
    assert all(torch.equal(before[n], t) for n, t in frozen_state(model).items())


def test_merging_into_4_bits_is_refused_and_changes_nothing():
    model, ids = adapted(quantised=True, filled=True), random_ids(3, 20)
    expected = model(ids)
    with pytest.raises(LoraError, match=r"h\.0\.attn\.c_attn is in 4 bits"):
        merge(model)
    assert torch.equal(model(ids), expected)
    dequantise(model)
    assert not any(isinstance(m, NF4Projection) for m in model.modules())
    torch.testing.assert_close(model(ids), expected, rtol=0, atol=1e-4)
    merge(model)
    torch.testing.assert_close(model(ids), expected, rtol=0, atol=1e-4)


def test_some_targets_alone_are_merged_and_a_base_in_half_precision_is_in_fp32():
    model = random_model(WIDE).bfloat16()
    add_lora(model, LoraConfig(4, targets=("c_fc",)))
    assert model.h[0].mlp.c_fc.lora_A.dtype == torch.float32
    merge(model)
    assert model.h[0].mlp.c_fc.weight.dtype == torch.float32
    assert model.h[0].mlp.c_proj.weight.dtype == torch.bfloat16


# ---- with everything else -------------------------------------------------------------------


@pytest.mark.parametrize("quantised", [False, True])
def test_it_writes_with_a_cache_what_it_writes_without(quantised):
    model = adapted(quantised=quantised, filled=True)
    prompts = [random_ids(1, n, seed=n)[0].tolist() for n in (1, 4, 9)]
    answers = generate(model, prompts, 12)
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = list(prompt)
        for _ in range(12):
            ids.append(model(torch.tensor([ids]))[0, -1].argmax().item())
        assert answer.ids == ids[len(prompt) :]


@pytest.mark.parametrize("quantised", [False, True])
def test_it_computes_in_bf16_where_that_is_asked(quantised):
    model, ids = adapted(quantised=quantised, filled=True), random_ids(2, 9)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids)
        logits.float().square().mean().backward()
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), model(ids), rtol=0.1, atol=0.3)
    for layer in lora_layers(model).values():
        assert layer.lora_A.grad.dtype == layer.lora_B.grad.dtype == torch.float32


def test_it_compiles():
    model, ids = adapted(filled=True), random_ids(2, 9)
    compiled = torch.compile(model.hidden, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(model.head(compiled(ids)), model(ids))


@pytest.mark.parametrize("quantised", [False, True])
def test_the_copy_that_an_accelerator_is_compared_with_has_the_adapter(quantised):
    model = adapted(quantised=quantised, filled=True)
    twin = copy_on_cpu(model)
    assert torch.equal(twin(random_ids(2, 9)), model(random_ids(2, 9)))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert [name for name, p in twin.named_parameters() if p.requires_grad] == trained
    assert all(twin.get_parameter(name) is not model.get_parameter(name) for name in trained)
    learner, batch = learner_of(model), instruction_set().batch(range(4))
    assert sums_of(learner, batch) == sums_on_cpu(learner, batch)
    assert all(p.grad is None for p in model.parameters())


# ---- what it saves --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"])
def test_at_rank_8_the_optimizer_s_state_is_under_a_hundredth_of_full_tuning_s(name):
    with torch.device("meta"):
        model = GPT(PUBLISHED[name])
    whole = n_trained(model)
    add_lora(model, LoraConfig(8))
    assert n_trained(model) < whole / 100
    with torch.device("meta"):
        model = GPT(PUBLISHED[name])
    add_lora(model, LoraConfig(16, targets=("c_attn",)))
    assert n_trained(model) < whole / 100


def test_what_is_saved_is_said_in_a_line():
    with torch.device("meta"):
        model = GPT(GPTConfig())
    add_lora(model, LoraConfig(16))
    assert savings(model) == (
        "trains 2,359,296 of 126,799,104 parameters (1.9%): gradients and AdamW's moments take "
        "28 MB and not 1,493 MB"
    )
    with torch.device("meta"):
        model = GPT(GPTConfig())
    quantize_model(model)
    add_lora(model, LoraConfig(16))
    assert savings(model).endswith("1,493 MB, the weights 211 MB and not 498 MB")


# ---- against PEFT ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{}, {"alpha": 3.0}, {"rank_stabilised": True}, {"targets": ("c_attn",)}, {"rank": 1}],
)
def test_logits_and_gradients_equal_peft_s(tmp_path, changes):
    peft = pytest.importorskip("peft", reason="PEFT is the reference")
    transformers = pytest.importorskip("transformers", reason="transformers is the reference")
    from gpt.weights import save_model

    save_model(random_model(WIDE), tmp_path / "base")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "base")
    ours = adapted(filled=True, **changes)
    config = lora_of(ours)
    theirs = peft.get_peft_model(
        theirs,
        peft.LoraConfig(
            r=config.rank, lora_alpha=2 * config.rank if config.alpha is None else config.alpha,
            target_modules=list(config.targets), use_rslora=config.rank_stabilised,
            fan_in_fan_out=True, task_type="CAUSAL_LM",
        ),
    )  # fmt: skip
    pairs = {}
    for name, layer in lora_layers(ours).items():
        twin = theirs.base_model.model.transformer.get_submodule(name)
        for which in ("lora_A", "lora_B"):
            pair = getattr(layer, which), getattr(twin, which)["default"].weight
            pairs[f"{name}.{which}"] = pair
            pair[1].data.copy_(pair[0].data)
    assert n_trained(ours) == n_trained(theirs)

    ids, device = random_ids(3, 12), ours.wte.weight.device
    logits = ours(ids), theirs(ids.to(device)).logits
    torch.testing.assert_close(*logits, rtol=0, atol=1e-5)
    for each in logits:
        F.cross_entropy(each[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    for name, (a, b) in pairs.items():
        assert a.grad.abs().max() > 1e-4, name
        torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-5, msg=name)


def test_left_to_itself_the_scale_is_the_same_at_every_rank_with_and_without_rank_stabilising():
    for rank in (1, 8, 64):
        for rank_stabilised in (False, True):
            assert LoraConfig(rank, rank_stabilised=rank_stabilised).scale == pytest.approx(2)
