"""A product turned round has the same numbers, and is turned only where that was measured."""

import pytest
import torch
import torch.nn.functional as F

from gpt.generate import generate
from gpt.product import n_computed, product
from tests.test_generate import CONFIG, comes_sometimes
from tests.tiny import random_model


def parts(*shape: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = (torch.randn(*some, generator=generator) for some in (shape, (shape[-1], 40), (40,)))
    return tuple(made)


@pytest.mark.parametrize("shape", [(16, 24), (112, 24), (24, 1, 24), (128, 1, 24)])
def test_turned_it_has_the_same_numbers_and_gradients(shape):
    x, weight, bias = (t.requires_grad_() for t in parts(*shape))
    y = product(x, weight, bias)
    assert y.shape == (*shape[:-1], 40) and not y.is_contiguous()  # it is turned
    usual = F.linear(x, weight.T, bias)
    torch.testing.assert_close(y, usual)
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        torch.autograd.grad(y, (x, weight, bias), upstream),
        torch.autograd.grad(usual, (x, weight, bias), upstream),
    )
    torch.testing.assert_close(product(x, weight), F.linear(x, weight.T))


@pytest.mark.parametrize("shape", [(1, 24), (8, 24), (15, 24), (17, 24), (1, 16, 24), (16, 2, 24)])
def test_few_rows_and_several_tokens_of_each_keep_the_usual_way(shape):
    x, weight, bias = parts(*shape)
    y = product(x, weight, bias)
    assert y.is_contiguous()
    assert torch.equal(y, F.linear(x, weight.T, bias))


def test_other_types_and_devices_keep_the_usual_way():
    x, weight, bias = parts(16, 24)
    assert product(x.double(), weight.double(), bias.double()).is_contiguous()
    assert product(x.bfloat16(), weight.bfloat16(), bias.bfloat16()).is_contiguous()
    assert product(x.to("meta"), weight.to("meta"), bias.to("meta")).is_contiguous()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert product(x, weight, bias).is_contiguous()
        assert n_computed(110, weight) == 110
    assert n_computed(110, weight.bfloat16()) == n_computed(110, weight.to("meta")) == 110


def test_rows_are_filled_up_to_what_is_turned():
    weight = torch.empty(2, 2)
    filled = {n: n_computed(n, weight) for n in range(1, 130)}
    few = {n: filled[n] for n in (1, 8, 9, 16, 17, 110, 129)}
    assert few == {1: 1, 8: 8, 9: 16, 16: 16, 17: 24, 110: 112, 129: 136}
    for n in range(9, 130):
        assert not product(torch.ones(filled[n], 2), weight).is_contiguous()


def test_rows_computed_in_vain_change_no_answer(monkeypatch):
    """Rows that end at different times, so that slots fall free, are taken, and are written to."""
    model = random_model(CONFIG)
    generator = torch.Generator().manual_seed(2)
    shared = [5, 6, 7]
    prompts = [
        shared + torch.randint(CONFIG.vocab_size, (n % 9 + 1,), generator=generator).tolist()
        for n in range(30)
    ]
    settings = {"max_new_tokens": 20, "logprobs": True, "temperature": 0.8}
    settings["end_id"] = comes_sometimes(generate(model, prompts, **settings))
    for size in (9, 17, 30):
        turned = generate(model, prompts, batch_size=size, **settings)
        with monkeypatch.context() as patched:
            patched.setattr("gpt.product._FEWEST", 10**9)
            plain = generate(model, prompts, batch_size=size, **settings)
        assert {answer.finish_reason for answer in plain} == {"stop", "length"}
        assert [a.ids for a in turned] == [a.ids for a in plain]
        for one, other in zip(turned, plain, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
