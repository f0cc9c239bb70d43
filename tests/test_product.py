"""A product turned round has the same numbers, and is turned only where that was measured."""

import pytest
import torch
import torch.nn.functional as F

from gpt.generate import generate
from gpt.product import filled_up, n_computed, product, turned_product, was_measured
from tests.test_generate import CONFIG, comes_sometimes
from tests.tiny import random_model

ONLY_WITH_MKL = pytest.mark.skipif(
    not torch.backends.mkl.is_available(), reason="this torch multiplies without MKL"
)


@pytest.fixture(autouse=True)
def _on_amd(monkeypatch):
    """Slower or not: the numbers are the same on any CPU."""
    monkeypatch.setattr("gpt.product.is_amd", lambda: True)


def parts(*shape: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = (torch.randn(*some, generator=generator) for some in (shape, (shape[-1], 40), (40,)))
    return tuple(made)


@pytest.mark.parametrize("shape", [(1, 24), (9, 24), (112, 24), (24, 1, 24), (3, 2, 24)])
def test_turned_it_has_the_same_numbers_and_gradients(shape):
    x, weight, bias = (t.requires_grad_() for t in parts(*shape))
    y, usual = turned_product(x, weight, bias), F.linear(x, weight.T, bias)
    assert y.shape == (*shape[:-1], 40)
    torch.testing.assert_close(y, usual)
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        torch.autograd.grad(y, (x, weight, bias), upstream),
        torch.autograd.grad(usual, (x, weight, bias), upstream),
    )
    torch.testing.assert_close(turned_product(x, weight, None), F.linear(x, weight.T))


@ONLY_WITH_MKL
@pytest.mark.parametrize("shape", [(16, 24), (112, 24), (24, 1, 24)])
def test_many_rows_are_turned(shape):
    x, weight, bias = parts(*shape)
    y = product(x, weight, bias)
    assert not y.is_contiguous()
    assert torch.equal(y, turned_product(x, weight, bias))


def test_where_the_usual_way_is_faster_it_is_kept(monkeypatch):
    monkeypatch.setattr("gpt.product.is_amd", lambda: False)
    x, weight, bias = parts(112, 24)
    assert product(x, weight, bias).is_contiguous()
    assert n_computed(110, weight) == 110


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


def test_a_compiler_makes_one_program_for_all_numbers_of_rows():
    n_programs = 0

    def counting(graph, _):
        nonlocal n_programs
        n_programs += 1
        return graph

    x, weight, bias = parts(64, 24)
    compiled = torch.compile(product, dynamic=True, backend=counting, fullgraph=True)
    for n_rows in (21, 40, 33, 48, 64, 12):
        torch.testing.assert_close(
            compiled(x[:n_rows], weight, bias), product(x[:n_rows], weight, bias)
        )
    assert n_programs == 1


@ONLY_WITH_MKL
def test_rows_are_filled_up_to_what_is_turned():
    weight = torch.empty(2, 2)
    few = {n: n_computed(n, weight) for n in (1, 8, 9, 16, 17, 110, 129)}
    assert few == {1: 1, 8: 8, 9: 16, 16: 16, 17: 24, 110: 112, 129: 136}
    for n in range(9, 130):
        assert filled_up(n) == n_computed(n, weight) >= n
        assert not product(torch.ones(filled_up(n), 2), weight).is_contiguous()
    assert not was_measured(weight.half())


@ONLY_WITH_MKL
@pytest.mark.parametrize("controls", [{}, {"temperature": 0.8, "logprobs": True}])
def test_rows_computed_in_vain_change_no_answer(monkeypatch, controls):
    """Rows that end at different times, so that slots fall free, are taken, and are written to."""
    model = random_model(CONFIG)
    generator = torch.Generator().manual_seed(2)
    tails = (torch.randint(CONFIG.vocab_size, (n % 9 + 1,), generator=generator) for n in range(30))
    prompts = [[5, 6, 7, *tail.tolist()] for tail in tails]
    settings = {"max_new_tokens": 20, "temperature": 1.0, **controls}
    settings["end_id"] = comes_sometimes(generate(model, prompts, **settings))
    settings |= {"temperature": 0.0, **controls}
    for size in (9, 17, 30):
        turned = generate(model, prompts, batch_size=size, **settings)
        with monkeypatch.context() as patched:
            patched.setattr("gpt.product._FEWEST", 10**9)
            plain = generate(model, prompts, batch_size=size, **settings)
        assert len({len(answer.ids) for answer in plain}) > 1
        assert [a.ids for a in turned] == [a.ids for a in plain]
        if "logprobs" in controls:
            for one, other in zip(turned, plain, strict=True):
                assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
