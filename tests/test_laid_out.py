"""Weights laid out for a kernel: the same products, while it lasts and where it was measured."""

import pytest
import torch
import torch.nn.functional as F

from gpt import laid_out as module
from gpt.generate import generate
from gpt.laid_out import SOON, is_laid_out_here, laid_out, product_if_laid_out
from gpt.loss import logits_of
from gpt.model import GPT
from gpt.product import product
from tests.test_generate import CONFIG
from tests.tiny import random_model

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch multiplies without oneDNN"
)
HAS_AMX = is_laid_out_here(torch.empty(0, dtype=torch.bfloat16))
TYPES = [
    torch.float32,
    pytest.param(
        torch.bfloat16,
        marks=pytest.mark.skipif(not HAS_AMX, reason="bf16 is laid out only on a CPU with AMX"),
    ),
]


@pytest.fixture(autouse=True)
def _anywhere(monkeypatch):
    """oneDNN lays out fp32 on any CPU: slower or not, the numbers are the same."""
    monkeypatch.setattr(module, "is_laid_out_here", lambda weight: True)


def parts(n_in: int, n_out: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = (torch.randn(*shape, generator=generator) for shape in ((n_in, n_out), (n_out,)))
    return [t.to(dtype) for t in made]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(1,), (7,), (110,), (5, 1), (3, 4)])
@torch.inference_mode()
def test_the_product_is_the_same(shape, dtype):
    weight, bias = parts(64, 96, dtype)
    x = torch.randn(*shape, 64, generator=torch.Generator().manual_seed(1)).to(dtype)
    for some_bias in (bias, None):
        usual = F.linear(x, weight.T, some_bias)
        with laid_out([weight]):
            assert product_if_laid_out(x, weight, some_bias) is not None
            found = product(x, weight, some_bias)
        assert found.shape == usual.shape and found.dtype == dtype
        torch.testing.assert_close(found, usual)


@pytest.mark.parametrize("dtype", TYPES)
@torch.inference_mode()
def test_a_head_is_laid_out_as_it_is_multiplied_by_the_other_way_round(dtype):
    head = parts(50, 64, dtype)[0]  # (V, C)
    x = torch.randn(9, 64, generator=torch.Generator().manual_seed(1)).to(dtype)
    usual = F.linear(x, head)
    with laid_out([head.T]):
        assert product_if_laid_out(x, head.T, None) is not None
        torch.testing.assert_close(product(x, head.T), usual)
        torch.testing.assert_close(logits_of(x, head), usual)
        assert product_if_laid_out(x, head[:25].T, None) is None  # a part of it is another


@pytest.mark.parametrize("dtype", TYPES)
@torch.inference_mode()
def test_the_mlp_bends_as_it_does_without(dtype, monkeypatch):
    mlp = random_model(CONFIG).eval().h[0].mlp.to(dtype)
    x = torch.randn(9, 1, CONFIG.n_embd, generator=torch.Generator().manual_seed(1)).to(dtype)
    usual, bent = mlp(x), []
    inner = mlp.c_proj.forward
    monkeypatch.setattr(mlp.c_proj, "forward", lambda y: bent.append(y) or inner(y))
    monkeypatch.setattr(mlp.resid_dropout, "forward", lambda y: -y)
    with laid_out([mlp.c_fc.weight]):
        found = mlp(x)
        off = 1e-2 if dtype == torch.bfloat16 else 1e-6
        torch.testing.assert_close(found, -usual, rtol=off, atol=off)
        right = F.gelu(mlp.c_fc(x), approximate="tanh")
        torch.testing.assert_close(bent[0], right, rtol=off, atol=off)
        assert torch.equal(bent[0], product_if_laid_out(x, mlp.c_fc.weight, mlp.c_fc.bias, True))
        seen = []
        mlp.c_fc.register_forward_hook(lambda *given: seen.append(given))
        torch.testing.assert_close(mlp(x), -usual, rtol=off, atol=off)
        assert len(seen) == 1


@torch.inference_mode()
def test_a_square_weight_is_not_taken_for_what_it_is_turned():
    weight, x = parts(16, 16)[0], torch.randn(3, 16)
    with laid_out([weight]):
        torch.testing.assert_close(product(x, weight.T), F.linear(x, weight))


@torch.inference_mode()
def test_copies_last_as_long_as_whoever_made_them():
    one, other = parts(16, 24)[0], parts(16, 8)[0]
    x = torch.randn(3, 16)
    with pytest.raises(ZeroDivisionError), laid_out([one]):
        with laid_out([one, other]):
            assert len(module._copies) == 2
        assert product_if_laid_out(x, one, None) is not None
        assert product_if_laid_out(x, other, None) is None
        1 / 0  # noqa: B018
    assert not module._copies
    assert product_if_laid_out(x, one, None) is None


def test_who_wants_a_gradient_or_another_type_multiplies_the_usual_way():
    weight, bias = (t.requires_grad_() for t in parts(16, 24))
    x = torch.randn(3, 16)
    with laid_out([weight]):
        product(x, weight, bias).sum().backward()
        with torch.no_grad():
            assert product_if_laid_out(x.double(), weight, None) is None
            assert product_if_laid_out(x, weight, bias) is not None
    torch.testing.assert_close(weight.grad, x.sum(0)[:, None].expand(16, 24))


@pytest.mark.parametrize(("free", "fits"), [(None, False), (2 * 16 * 24 * 4, True), (3000, False)])
def test_a_second_copy_is_made_where_there_is_memory_for_it(free, fits, monkeypatch):
    monkeypatch.setattr(module, "free_memory", lambda: free)
    with laid_out([parts(16, 24)[0]]):
        assert bool(module._copies) is fits


def test_only_bf16_on_a_cpu_with_amx_is_laid_out(monkeypatch):
    weight = torch.empty(4, 4, dtype=torch.bfloat16)
    may_be = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # by oneDNN
    for amx in (True, False):
        monkeypatch.setattr(module, "has_amx", lambda amx=amx: amx)
        assert is_laid_out_here(weight) is (amx and may_be)
        assert not is_laid_out_here(weight.float())
        assert not is_laid_out_here(weight.half())
        assert not is_laid_out_here(weight.to("meta"))
    monkeypatch.setattr(module, "has_amx", lambda: True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not is_laid_out_here(weight)


@pytest.mark.parametrize("n_new", [SOON - 1, SOON])
def test_many_tokens_are_written_with_weights_laid_out_and_are_the_same(n_new):
    model: GPT = random_model(CONFIG).eval()
    prompts = [[1, 2, 3], [4, 5], [6]] * 4
    n_copies = []

    def written(**more):
        return [a.ids for a in generate(model, prompts, n_new, end_id=-1, **more)]

    found = written(on_finished=lambda *_: n_copies.append(len(module._copies)))
    n_weights = 1 + 4 * CONFIG.n_layer  # the head, and four in each block
    assert set(n_copies) == {n_weights if n_new >= SOON else 0}
    assert not module._copies
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "is_laid_out_here", lambda weight: False)
        assert written() == found
