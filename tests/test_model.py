"""The GPT is GPT-2: number for number what transformers computes on the same weights."""

import math

import pytest
import torch
import torch.nn.functional as F

from gpt.config import PUBLISHED, GPTConfig
from gpt.model import GPT, ContextOverflow, causal_mask
from tests.tiny import TINY, narrow, random_ids, random_model


def transformers_twin(model: GPT):
    """transformers' GPT-2 with the very weights of ours."""
    transformers = pytest.importorskip("transformers", reason="transformers is the reference")
    config = transformers.GPT2Config(**model.config.to_dict())
    twin = transformers.GPT2LMHeadModel(config)
    result = twin.transformer.load_state_dict(model.state_dict(), strict=False)
    assert not result.unexpected_keys and not [k for k in result.missing_keys if "attn.b" not in k]
    assert twin.lm_head.weight is twin.transformer.wte.weight
    return twin.train(model.training)


def mean_loss(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def assert_same_logits_and_gradients(model: GPT, shapes: list[tuple[int, int]]) -> None:
    twin = transformers_twin(model)
    for batch, length in shapes:
        ids = random_ids(batch, length, model.config)
        with torch.no_grad():
            difference = (model(ids) - twin(ids).logits).abs().max().item()
        assert difference < 1e-4, (batch, length)

    ids = random_ids(4, 7, model.config)
    mean_loss(model(ids), ids).backward()
    mean_loss(twin(ids).logits, ids).backward()
    theirs = dict(twin.transformer.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, atol=1e-4, rtol=1e-4)


SHAPES = [(1, 1), (4, 1), (1, 7), (4, 7), (1, 1024), (4, 1024)]


# (The deep ones take seconds each.)
DEEP = ("gpt2-medium", "gpt2-large", "gpt2-xl")
ALL = [pytest.param(n, marks=pytest.mark.slow) if n in DEEP else n for n in PUBLISHED]


@pytest.mark.parametrize("name", ALL)
def test_logits_and_gradients_equal_transformers(name):
    model = random_model(narrow(name))
    is_deep = model.config.n_layer > 24  # four long texts through it take a minute
    assert_same_logits_and_gradients(model, SHAPES[:-1] if is_deep else SHAPES)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2-large", "gpt2-xl"])
def test_logits_of_four_long_texts_through_the_deep_ones_equal_transformers(name):
    assert_same_logits_and_gradients(random_model(narrow(name)), SHAPES[-1:])


@pytest.mark.slow
def test_logits_and_gradients_of_the_full_124m_equal_transformers():
    torch.manual_seed(0)
    model = GPT(PUBLISHED["gpt2"]).eval()
    assert_same_logits_and_gradients(model, SHAPES)


def test_parameter_counts_are_the_published_ones():
    published = {
        "distilgpt2": 81_912_576,
        "gpt2": 124_439_808,
        "gpt2-medium": 354_823_168,
        "gpt2-large": 774_030_080,
        "gpt2-xl": 1_557_611_200,
    }
    for name, count in published.items():
        with torch.device("meta"):
            assert GPT(PUBLISHED[name]).n_params() == PUBLISHED[name].n_params() == count


def test_a_cache_changes_nothing_however_the_text_is_cut():
    model = random_model()
    ids = random_ids(3, 20)
    whole = model(ids)
    for cuts in ([1] * 20, [20], [5, 15], [1, 18, 1], [7, 1, 1, 11]):
        cache = model.new_cache(batch_size=3)
        parts = [model(part, cache=cache) for part in ids.split(cuts, dim=1)]
        torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-5)
        assert cache.length == 20


def test_a_token_sees_nothing_of_what_comes_after_it():
    model = random_model()
    ids = random_ids(2, 12)
    for place in range(12):
        edited = ids.clone()
        edited[:, place] = (edited[:, place] + 1) % TINY.vocab_size
        moved = (model(edited) != model(ids)).flatten(2).any(dim=(0, 2))
        assert not moved[:place].any() and moved[place]


def test_positions_and_mask_let_two_texts_share_a_row():
    model = random_model()
    a, b = random_ids(1, 5, seed=1), random_ids(1, 8, seed=2)
    positions = torch.cat([torch.arange(5), torch.arange(8)])
    text = torch.cat([torch.zeros(5), torch.ones(8)])
    mask = causal_mask(13, past=0) & (text[:, None] == text[None, :])
    packed = model(torch.cat([a, b], dim=1), positions=positions, mask=mask)
    torch.testing.assert_close(packed[:, :5], model(a), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(packed[:, 5:], model(b), atol=1e-5, rtol=1e-5)


def test_positions_of_each_row_and_a_mask_let_a_row_be_padded_on_the_left():
    model = random_model()
    short, long = random_ids(1, 4, seed=1), random_ids(1, 9, seed=2)
    padded = torch.cat([F.pad(short, (5, 0)), long])
    positions = torch.stack([torch.arange(9) - 5, torch.arange(9)]).clamp(min=0)
    real = torch.ones(2, 9, dtype=torch.bool)
    real[0, :5] = False
    mask = causal_mask(9, past=0) & real[:, None, None, :] | torch.eye(9, dtype=torch.bool)
    logits = model(padded, positions=positions, mask=mask)
    torch.testing.assert_close(logits[:1, 5:], model(short), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits[1:], model(long), atol=1e-5, rtol=1e-5)


def test_hidden_then_head_is_the_model():
    model = random_model()
    ids = random_ids(2, 6)
    hidden = model.hidden(ids)
    assert hidden.shape == (2, 6, TINY.n_embd)
    assert torch.equal(model.head(hidden), model(ids))
    torch.testing.assert_close(model.head(hidden[:, -1]), model(ids)[:, -1])


@pytest.mark.parametrize("recompute", [False, True])
def test_asked_at_some_places_it_knows_there_what_it_would(recompute):
    model, ids = random_model(), random_ids(3, 7)
    model.recompute = recompute
    places = torch.tensor([2, 6, 7, 20])
    gradients = []
    for x in (model.hidden(ids).flatten(0, 1)[places][None], model.hidden(ids, places=places)):
        model.zero_grad()
        x.square().sum().backward()
        gradients.append([x, *(p.grad for p in model.parameters())])
    torch.testing.assert_close(*gradients)
    nothing = model.hidden(ids, places=places[:0])  # is supervised
    assert nothing.shape == (1, 0, TINY.n_embd)


def test_the_head_is_the_embedding_and_its_gradient_has_both_parts():
    model = random_model()
    ids = random_ids(1, 6)
    assert not any("lm_head" in name for name in model.state_dict())
    model(ids)[0, -1, 90].backward()
    assert 90 not in ids and model.wte.weight.grad[90].abs().sum() > 0  # read by the head
    assert model.wte.weight.grad[ids[0, 0]].abs().sum() > 0  # read by the embedding


def test_more_tokens_than_positions_are_refused_naming_both_numbers():
    model = random_model()
    assert model(random_ids(1, 32)).shape == (1, 32, 97)
    with pytest.raises(ContextOverflow, match=r"33 tokens.*context of 32"):
        model(random_ids(1, 33))
    cache = model.new_cache(1)
    model(random_ids(1, 30), cache=cache)
    with pytest.raises(ContextOverflow, match=r"33 tokens"):
        model(random_ids(1, 3), cache=cache)
    with pytest.raises(ContextOverflow, match=r"9 tokens.*made for 8"):
        model(random_ids(1, 9), cache=model.new_cache(1, max_len=8))


def test_initialisation_is_gpt2s():
    torch.manual_seed(0)
    config = GPTConfig(vocab_size=2000, n_ctx=512, n_layer=8, n_head=2, n_embd=128)
    for name, parameter in GPT(config).named_parameters():
        if name.endswith("c_proj.weight"):
            expected = 0.02 / math.sqrt(2 * 8)
        elif parameter.dim() == 2:
            expected = 0.02
        else:
            assert (parameter == (1.0 if "ln" in name and "weight" in name else 0.0)).all(), name
            continue
        assert parameter.std().item() == pytest.approx(expected, rel=0.03), name
        assert abs(parameter.mean().item()) < 0.1 * expected, name


def test_dropout_acts_in_training_and_never_in_eval():
    model = random_model(GPTConfig(**{**TINY.__dict__, "dropout": 0.3}))
    ids = random_ids(2, 9)
    assert torch.equal(model(ids), model(ids))
    model.train()
    torch.manual_seed(1)
    first = model(ids)
    assert not torch.allclose(first, model(ids))
    torch.manual_seed(1)
    assert torch.equal(first, model(ids))


def test_every_dropout_acts_and_none_of_them_stands_for_another():
    """With each place's dropout alone switched on, two passes differ."""
    ids = random_ids(2, 9)
    places = {
        "embedding": lambda model: [model.drop],
        "attention": lambda model: [block.attn for block in model.h],
        "after attention": lambda model: [block.attn.resid_dropout for block in model.h],
        "after the MLP": lambda model: [block.mlp.resid_dropout for block in model.h],
    }
    for place, modules in places.items():
        model = random_model().train()
        assert torch.equal(model(ids), model(ids)), place  # dropout 0
        for module in modules(model):
            setattr(module, "dropout" if place == "attention" else "p", 0.5)
        assert not torch.equal(model(ids), model(ids)), place


def test_a_compiled_model_is_one_graph_for_texts_of_any_length():
    model = random_model()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="eager")
    for length in (5, 9, 1, 20, 7):
        ids = random_ids(2, length)
        torch.testing.assert_close(compiled(ids), model(ids))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_run_and_agree_as_far_as_their_digits_go(dtype):
    model, ids = random_model(), random_ids(2, 9)
    exact = model(ids)
    logits = model.to(dtype)(ids)
    assert logits.dtype == dtype
    digits = {torch.bfloat16: 5e-2, torch.float16: 1e-2, torch.float64: 1e-5}[dtype]
    assert (logits.float() - exact).abs().max() < digits * exact.abs().max()
    cache = model.new_cache(batch_size=2)
    parts = [model(part, cache=cache) for part in ids.split([4, 1, 4], dim=1)]
    assert (torch.cat(parts, dim=1).float() - exact).abs().max() < digits * exact.abs().max()
