"""NF4 is bitsandbytes' to the bit, loses no more than it may, and keeps no weight for later."""

import copy
import hashlib
import math
import runpy
import time
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from gpt import quantize as nf4
from gpt import quantize_plots
from gpt.config import GPTConfig
from gpt.model import GPT, Projection
from gpt.plots import PictureNameError
from gpt.quantize import (
    BLOCK,
    CODEBOOK,
    NF4,
    NF4Projection,
    QuantizeError,
    dequantize,
    dynamic_map,
    error_of,
    errors_by_layer,
    n_bytes,
    quantize,
    quantize_model,
)
from gpt.weights import save_model
from tests.tiny import TINY, random_ids, random_model


def normal_numbers(n: int, seed: int = 0) -> torch.Tensor:
    """Nearly normal, and the same on every machine: sums of 8 bytes that numpy promises."""
    raw = np.random.PCG64(seed).random_raw(n)
    sums = raw.astype("<u8").view(np.uint8).reshape(n, 8).sum(1, dtype=np.int64) - 1020
    return torch.from_numpy(sums.astype(np.float32) / 2**13)


def projection(n_in: int = 96, n_out: int = 80, seed: int = 0) -> Projection:
    made = Projection(n_in, n_out)
    with torch.no_grad():
        made.weight.copy_(normal_numbers(n_in * n_out, seed).view(n_in, n_out))
        made.bias.copy_(normal_numbers(n_out, seed + 1))
    return made


def plain(quantised: NF4Projection) -> Projection:
    """A projection whose weight is what the quantised one stands for."""
    made = Projection(quantised.n_in, quantised.n_out)
    with torch.no_grad():
        made.weight.copy_(quantised.dequantised())
        made.bias.copy_(quantised.bias)
    return made


# ---- the values ------------------------------------------------------------------------------


def test_the_quantiles_of_a_normal_distribution_are_the_published_codebook():
    # Their last bit is that of the machine's division.
    torch.testing.assert_close(nf4.codebook_from_quantiles(), CODEBOOK, rtol=0, atol=6e-8)
    assert (CODEBOOK < 0).sum() == 7 and (CODEBOOK > 0).sum() == 8 and CODEBOOK[7] == 0
    assert CODEBOOK.tolist() == sorted(CODEBOOK.tolist())


def test_the_dynamic_map_has_a_step_for_every_bit_that_its_exponent_leaves():
    values = dynamic_map()
    assert len(values) == 256 and torch.equal(values, values.unique())
    assert (values == 0).sum() == 1 and values.max() == 1
    for decade in range(7):
        inside = (values > 10 ** (decade - 7)) & (values < 10 ** (decade - 6))
        assert inside.sum() == 2**decade


# ---- as bitsandbytes has it ------------------------------------------------------------------

CODES = (  # of normal_numbers(300)
    "c98156aa9b58f4da6538226ab4a47b6754a13992a4848417368446b86c25d77827843747b92b45d4d15880ce07bc"
    "941e1954875d2c53b5d95032c9a575728bb6241a9736a7b4959d866e7a220739c3412739912c92cf9429b8b9b455"
    "6a4ad989e8b506c9b39cad7664254664d6a7f5327355a359e8416b74e65bc6be9b64e66169a279b8ac58764334c9"
    "357b8af8077c31afc645579f"
)


def test_codes_and_scales_equal_those_that_bitsandbytes_wrote():
    """Written by bitsandbytes 0.50.2: quantize_4bit(…, "nf4", compress_statistics=True)."""
    q = quantize(normal_numbers(300))
    assert bytes(q.codes[:150].tolist()).hex() == CODES
    assert bytes(q.scales.tolist()).hex() == "d73af43e00"
    # Only the mean is a sum, whose last bit is that of the machine's order of adding.
    assert q.mean.item() == pytest.approx(float.fromhex("0x1.ff66660000000p-5"), rel=2e-7)
    assert q.steps.item() == pytest.approx(float.fromhex("0x1.4199980000000p-7"), rel=2e-6)
    first = ["0x1.e2429e0000000p-6", "0x1.6034a20000000p-7", "0x1.5c552e0000000p-8"]
    assert dequantize(q)[:3].tolist() == pytest.approx([*map(float.fromhex, first)], rel=2e-6)


def test_codes_and_scales_of_more_than_one_block_of_scales_equal_bitsandbytes():
    n = 64 * 300 + 17  # 301 blocks of which the last is short; 2 blocks of scales, the last short
    q = quantize(normal_numbers(n))
    codes, scales = (bytes(t.tolist()) for t in (q.codes[: (n + 1) // 2], q.scales))
    found = hashlib.sha256(codes).hexdigest()
    assert found == "3af494b4498dfff840116dcd676584818afe2558ff8cf638220b82f9525c4a56"
    assert len(scales) == 301
    assert scales.hex().startswith("ad3dc43f652c3dc43dafda5d3bcd18c642d0b95529d339cc")
    assert scales.hex().endswith("c79ade1cd1ddd137f3d19acd0a")
    steps = ["0x1.100e740000000p-5", "0x1.121ce80000000p-6"]
    assert q.steps.tolist() == pytest.approx([*map(float.fromhex, steps)], rel=2e-6)
    assert dequantize(q).double().sum().item() == pytest.approx(-6.0007, abs=1e-3)


@pytest.fixture(scope="module")
def bitsandbytes():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("bitsandbytes", reason="compares with bitsandbytes' CPU build")
        import bitsandbytes.functional as functional
    return functional


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("n", [1, 63, 64, 65, 1000, 16384, 64 * 256 * 3 + 64 * 7, 200_001])
def test_a_tensor_in_4_bits_equals_bitsandbytes(bitsandbytes, n, dtype):
    for seed in range(4):
        torch.manual_seed(seed)
        weight = (torch.randn(n) * torch.rand(n) ** seed).to(dtype)
        q = quantize(weight)
        codes, state = bitsandbytes.quantize_4bit(weight, quant_type="nf4", blocksize=64)
        assert torch.equal(q.codes[: (n + 1) // 2], codes.flatten())

        codes, nested = bitsandbytes.quantize_4bit(
            weight, quant_type="nf4", blocksize=64, compress_statistics=True
        )
        assert q.mean == nested.offset and torch.equal(q.steps, nested.state2.absmax)
        torch.testing.assert_close(nested.state2.code, dynamic_map(), rtol=0, atol=0)
        # Its CPU build looks the nearest scale up at one of 65,536 places from -1 to 1, so that it
        # takes a neighbour where two are nearly as near. Its GPU kernels take the nearest.
        steps = q.steps.repeat_interleave(256)[: len(q.scales)]
        exact = ((state.absmax - q.mean) / steps)[steps > 0]
        ours, theirs = (dynamic_map()[t.long()][steps > 0] for t in (q.scales, nested.absmax))
        farther = (theirs - exact).abs() - (ours - exact).abs()
        assert ((ours == theirs) | ((farther > -1e-6) & (farther < 2.1 / 65535))).all()
        assert (ours == theirs).float().mean() > 0.97 or len(ours) < 40

        with_theirs = q._replace(scales=nested.absmax)
        back = bitsandbytes.dequantize_4bit(codes, nested).flatten()
        assert torch.equal(dequantize(with_theirs, dtype), back)


# ---- what is lost ----------------------------------------------------------------------------


def bound(weight: torch.Tensor, q: NF4) -> torch.Tensor:
    """For each number: half the widest gap of the 16, and what its block's scale may be off."""
    n = weight.numel()
    blocks = F.pad(weight.flatten(), (0, -n % BLOCK)).view(-1, BLOCK)
    absmax = blocks.abs().amax(1)
    of_codes = CODEBOOK.diff().max() / 2 * absmax
    of_scales = dynamic_map().diff().max() / 2 * q.steps.repeat_interleave(256)[: len(absmax)]
    rounding = 1e-6 * (absmax + q.mean.abs())
    return (of_codes + of_scales + rounding).repeat_interleave(BLOCK)[:n].view(weight.shape)


@pytest.mark.parametrize("shape", [(768, 96), (130, 7), (5,), (64,), (1, 1), (3, 5, 7)])
@pytest.mark.parametrize("power", [0, 1, 4])  # the higher, the more unlike the blocks are
def test_nothing_comes_back_farther_off_than_the_bound(shape, power):
    n = math.prod(shape)
    of_block = np.repeat(np.random.default_rng(1).random(-(-n // 64)), 64)[:n] ** power
    weight = (normal_numbers(n) * torch.from_numpy(of_block.astype(np.float32))).view(shape)
    q = quantize(weight)
    back = dequantize(q)
    assert back.shape == weight.shape and back.dtype == torch.float32
    assert ((back - weight).abs() <= bound(weight, q)).all()


def test_the_bound_is_as_tight_as_the_documentation_says():
    assert CODEBOOK.diff().max() / 2 == pytest.approx(0.152, abs=1e-4)
    assert dynamic_map().diff().max() / 2 == pytest.approx(0.00703, abs=1e-5)


def test_each_number_becomes_the_nearest_of_the_values():
    weight = normal_numbers(64 * 40)
    q = quantize(weight)
    codes = torch.stack([q.codes >> 4, q.codes & 15], dim=1).view(-1, BLOCK).long()
    blocks = weight.view(-1, BLOCK)
    over = blocks / blocks.abs().amax(1, keepdim=True)
    nearest = (over[..., None] - CODEBOOK).abs().min(-1).values
    torch.testing.assert_close((over - CODEBOOK[codes]).abs(), nearest, rtol=0, atol=1e-6)


def test_a_normal_weight_moves_by_less_than_a_tenth_and_by_less_than_with_even_steps():
    weight = normal_numbers(64 * 1000)
    absmax = weight.view(-1, BLOCK).abs().amax(1, keepdim=True)
    even = ((weight.view(-1, BLOCK) / absmax * 7).round() / 7 * absmax).flatten()
    assert error_of(weight) < 0.1
    assert error_of(weight) < 0.9 * (even - weight).norm() / weight.norm()


def test_zeros_come_back_as_zeros_also_among_others():
    assert torch.equal(dequantize(quantize(torch.zeros(130))), torch.zeros(130))
    weight = normal_numbers(64 * 300)
    weight[64:128] = 0  # a block of zeros, whose scale is not 0 once it is in 8 bits
    weight[::3] = 0
    assert (dequantize(quantize(weight))[weight == 0] == 0).all()
    assert error_of(torch.zeros(64)) == 0


@pytest.mark.parametrize("value", [1.0, -0.3, 1e-30, -1e30])
@pytest.mark.parametrize("n", [1, 64, 129])
def test_a_constant_comes_back(value, n):
    weight = torch.full((n,), value)
    torch.testing.assert_close(dequantize(quantize(weight)), weight, rtol=1e-6, atol=0)


def test_an_outlier_spoils_its_own_block_only():
    weight = normal_numbers(64 * 4)
    before = dequantize(quantize(weight))
    spoilt = weight.clone()
    spoilt[70] = 0.4
    after = dequantize(quantize(spoilt))
    assert after[70] == pytest.approx(0.4, rel=0.01)
    error = [(a - w).view(4, 64).norm(dim=1) for a, w in ((before, weight), (after, spoilt))]
    assert error[1][1] > 1.5 * error[0][1]
    others = [0, 2, 3]
    bound_of_scales = 0.0071 * quantize(spoilt).steps * 8  # 64 numbers, so at most its square root
    assert (error[1][others] <= error[0][others] + bound_of_scales).all()


@pytest.mark.parametrize("n", [1, 2, 3, 63, 65, 127, 64 * 256 + 1])
def test_sizes_that_are_odd_or_no_multiple_of_a_block_keep_their_shape(n):
    weight = normal_numbers(n)
    q = quantize(weight)
    n_blocks = -(-n // 64)
    assert len(q.codes) == 32 * n_blocks and len(q.scales) == n_blocks
    assert len(q.steps) == -(-n_blocks // 256)
    whole = F.pad(weight, (0, -n % 64))
    assert torch.equal(dequantize(q), dequantize(quantize(whole))[:n])


def test_a_transposed_weight_is_quantised_in_the_order_it_is_seen_in():
    weight = normal_numbers(96 * 64).view(96, 64)
    q = quantize(weight.T)
    assert torch.equal(q.codes, quantize(weight.T.contiguous()).codes)
    assert q.shape == (64, 96)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(bad):
    weight = torch.zeros(10, 20)
    weight[7, 3] = bad
    with pytest.raises(QuantizeError, match=r"shape \[10, 20\] holds NaN or infinity$"):
        quantize(weight)


def test_what_float32_cannot_hold_is_refused_and_so_is_nothing():
    with pytest.raises(QuantizeError, match=r"infinity as float32 \(it is torch.float64\)"):
        quantize(torch.full((64,), 1e300, dtype=torch.float64))
    with pytest.raises(QuantizeError, match="no numbers"):
        quantize(torch.zeros(0, 5))


def test_gpt2s_own_projections_take_4_127_bits_a_weight():
    q = quantize(torch.zeros(768, 3 * 768))
    assert 8 * q.n_bytes / (768 * 3 * 768) == pytest.approx(4 + 8 / 64 + 32 / 64 / 256, abs=1e-4)
    assert f"{8 * q.n_bytes / (768 * 3 * 768):.3f}" == "4.127"


def test_quantising_on_meta_gives_the_same_shapes():
    weight = normal_numbers(64 * 300 + 17)
    for real, shape in zip(quantize(weight)[:4], quantize(weight.to("meta"))[:4], strict=True):
        assert shape.is_meta and (shape.shape, shape.dtype) == (real.shape, real.dtype)


# ---- a projection ----------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [False, True])
def test_output_and_gradients_equal_those_of_a_plain_projection_with_the_same_weight(frozen):
    quantised = NF4Projection(projection())
    reference = plain(quantised)
    quantised.bias.requires_grad_(not frozen)
    x = normal_numbers(2 * 5 * 96, seed=7).view(2, 5, 96)
    found = []
    for module in (quantised, reference):
        mine = x.clone().requires_grad_()
        y = module(mine)
        (y.sin() * 3).sum().backward()
        found.append((y, mine.grad, module.bias.grad))
    torch.testing.assert_close(found[0][:2], found[1][:2])
    if frozen:
        assert found[0][2] is None
    else:
        torch.testing.assert_close(found[0][2], found[1][2])


def test_gradients_are_right_in_double_precision():
    quantised = NF4Projection(projection(70, 30)).double()
    x = torch.randn(2, 3, 70, dtype=torch.float64, requires_grad=True)
    assert quantised(x).dtype == torch.float64
    assert torch.autograd.gradcheck(quantised, (x,))
    assert torch.autograd.gradgradcheck(quantised, (x,))


def test_one_row_and_no_gradient_are_served():
    quantised = NF4Projection(projection())
    x = torch.randn(96)
    with torch.no_grad():
        without = quantised(x)
    quantised(x).sum().backward()
    assert torch.equal(without, quantised(x)) and quantised.bias.grad.tolist() == [1.0] * 80


def test_a_projection_that_is_used_twice_has_the_sum_of_both_gradients():
    quantised = NF4Projection(projection(64, 64))
    reference = plain(quantised)
    grads = []
    for module in (quantised, reference):
        x = normal_numbers(3 * 64).view(3, 64).requires_grad_()
        module(module(x).tanh()).sum().backward()
        grads.append(x.grad)
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-6)


def test_dequantised_is_what_was_quantised_in_the_layout_of_a_projection():
    base = projection()
    quantised = NF4Projection(base)
    weight = quantised.dequantised()
    assert weight.shape == base.weight.shape and weight.dtype == torch.float32
    assert weight.is_contiguous() and not weight.requires_grad
    assert torch.equal(weight, dequantize(quantize(base.weight.T)).T)


def test_nothing_as_large_as_the_weight_is_kept_for_the_way_back():
    n_in, n_out = 256, 512
    quantised = NF4Projection(projection(n_in, n_out))
    quantised.bias.requires_grad_(False)
    kept: dict[bool, int] = {}
    for name, module in ((True, quantised), (False, plain(quantised))):
        module.requires_grad_(False)
        saved: list[torch.Tensor] = []
        with saved_tensors_hooks(lambda t, s=saved: s.append(t) or t, lambda t: t):
            module(torch.randn(2, n_in, requires_grad=True))
        kept[name] = sum(t.untyped_storage().nbytes() for t in saved)
        if module is quantised:  # and it is the module's own, not a copy
            own = {t.data_ptr() for t in module.buffers()}
            assert {t.data_ptr() for t in saved} <= own
    assert kept[False] >= 4 * n_in * n_out  # or the hooks would see nothing
    assert kept[True] < kept[False] / 7


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_multiplies_in_its_own_type_and_hands_gradients_back_in_fp32(dtype):
    quantised = NF4Projection(projection())
    reference = plain(quantised)
    x = normal_numbers(4 * 96).view(4, 96)
    found = []
    for module in (quantised, reference):
        mine = x.clone().requires_grad_()
        with torch.autocast("cpu", dtype=dtype):
            y = module(mine)
        y.sum().backward()
        assert y.dtype == dtype and mine.grad.dtype == torch.float32
        assert module.bias.grad.dtype == torch.float32
        found.append((y, mine.grad, module.bias.grad))
    torch.testing.assert_close(*found, rtol=1e-2, atol=1e-2)


def test_a_model_in_half_precision_keeps_its_scales_exact():
    quantised = NF4Projection(projection())
    weight = quantised.dequantised()
    halved = copy.deepcopy(quantised).to(torch.bfloat16)
    assert halved.steps.dtype == halved.mean.dtype == torch.float32
    assert halved.bias.dtype == torch.bfloat16
    assert torch.equal(halved.dequantised(), weight)
    x = torch.randn(3, 96, dtype=torch.bfloat16)
    assert halved(x).dtype == torch.bfloat16
    assert torch.equal(copy.deepcopy(quantised).double().dequantised(), weight)


def test_its_state_goes_from_one_to_another():
    one, other = NF4Projection(projection(seed=0)), NF4Projection(projection(seed=5))
    assert set(one.state_dict()) == {"codes", "scales", "steps", "mean", "bias"}
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.dequantised(), one.dequantised())
    assert repr(one) == "NF4Projection(96 -> 80, NF4)"


def test_it_moves_with_its_model():
    moved = NF4Projection(projection()).to("meta")
    assert all(t.is_meta for t in [*moved.buffers(), *moved.parameters()])
    assert moved(torch.zeros(3, 96, device="meta")).shape == (3, 80)
    assert {str(b.dtype) for b in moved.buffers()} == {"torch.uint8", "torch.float32"}


# ---- a model ---------------------------------------------------------------------------------

SMALL = GPTConfig(vocab_size=97, n_ctx=32, n_layer=2, n_head=2, n_embd=64, dropout=0.0)


def quantised_model() -> tuple[GPT, GPT]:
    """A model in 4 bits, and one of plain projections with the same weights."""
    model = random_model(SMALL)
    reference = copy.deepcopy(model)
    quantize_model(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, NF4Projection):
            reference.get_submodule(name).weight.data = module.dequantised()
    return model, reference


def test_every_projection_of_every_block_is_quantised_and_nothing_else():
    model = random_model(SMALL)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    errors = errors_by_layer(model)
    quantize_model(model)
    kinds = {name: type(module) for name, module in model.named_modules()}
    assert Projection not in kinds.values()
    assert sorted(errors) == sorted(n for n, kind in kinds.items() if kind is NF4Projection)
    assert len(errors) == 4 * SMALL.n_layer
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
    for name, error in errors.items():
        moved = model.get_submodule(name).dequantised() - before[f"{name}.weight"]
        assert (moved.norm() / before[f"{name}.weight"].norm()).item() == pytest.approx(error)
    gone = [name for name in before if name not in dict(model.named_parameters())]
    assert gone == [f"{name}.weight" for name in errors]


def test_quantising_a_model_twice_changes_nothing_more_and_keeps_its_mode():
    model = random_model(SMALL).eval()
    quantize_model(model)
    assert not any(module.training for module in model.modules())
    before = model(random_ids(2, 9, SMALL))
    quantize_model(model)
    assert torch.equal(model(random_ids(2, 9, SMALL)), before)


def test_logits_and_gradients_equal_those_of_the_dequantised_model():
    model, reference = quantised_model()
    ids = random_ids(3, 11, SMALL)
    for one in (model, reference):
        one(ids).square().mean().backward()
    torch.testing.assert_close(model(ids), reference(ids))
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, reference.get_parameter(name).grad)


def test_a_cache_gives_the_same_logits():
    model, _ = quantised_model()
    ids = random_ids(2, 9, SMALL)
    cache = model.new_cache(batch_size=2)
    with torch.no_grad():
        parts = [model(ids[:, :4], cache=cache), model(ids[:, 4:], cache=cache)]
        torch.testing.assert_close(torch.cat(parts, dim=1), model(ids))


def test_activation_checkpointing_changes_no_gradient():
    model, _ = quantised_model()
    grads = []
    for recompute in (False, True):
        model.recompute = recompute
        model.zero_grad()
        model(random_ids(3, 11, SMALL)).square().mean().backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    torch.testing.assert_close(*grads, rtol=0, atol=0)


def test_a_checkpointed_projection_keeps_its_input_only():
    quantised = NF4Projection(projection(64, 640))
    x = torch.randn(2, 64, requires_grad=True)
    saved: list[torch.Tensor] = []
    with saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        y = checkpoint(quantised, x, use_reentrant=False)
    assert not any(t.numel() > 128 for t in saved)
    y.sum().backward()
    assert x.grad is not None


def test_a_second_copy_of_the_module_takes_no_operator_from_the_first():
    """As where it is run beside its import: torch would free what the first still calls."""
    again = runpy.run_module("gpt.quantize", run_name="again")
    assert again["_product"] is nf4._product and again["NF4Projection"] is not NF4Projection
    x, old = torch.randn(3, 96), projection()
    torch.testing.assert_close(NF4Projection(old)(x), again["NF4Projection"](old)(x))


@pytest.mark.slow
def test_a_compiled_model_gives_the_same_and_keeps_no_weight():
    model, _ = quantised_model()
    ids = random_ids(3, 11, SMALL)
    model.requires_grad_(False).wpe.weight.requires_grad_(True)
    compiled = torch.compile(model.hidden, dynamic=True)
    found, saved = [], []
    for hidden in (model.hidden, compiled):
        model.zero_grad()
        with saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
            saved.clear()
            y = hidden(ids)
        y.square().sum().backward()
        found.append((y, model.wpe.weight.grad.clone()))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)  # the sums are in another order
    floats = [t for t in saved if t.is_floating_point()]
    sizes = {m.n_in * m.n_out for m in model.modules() if isinstance(m, NF4Projection)}
    assert not any(t.numel() in sizes for t in floats)


def test_n_bytes_counts_what_is_left():
    model = random_model(SMALL)
    assert n_bytes(model) == 4 * SMALL.n_params()
    quantize_model(model)
    weights = SMALL.n_layer * 12 * SMALL.n_embd**2
    stored = weights // 2 + weights // 64 + 4 * SMALL.n_layer * (4 + 4)  # a step and a mean each
    steps = sum(m.steps.numel() - 1 for m in model.modules() if isinstance(m, NF4Projection))
    assert n_bytes(model) == 4 * (SMALL.n_params() - weights) + stored + 4 * steps


def test_an_odd_and_tiny_model_is_quantised_too():
    model = random_model(TINY)
    ids = random_ids(2, 7)
    before = model(ids)
    quantize_model(model)
    assert 0 < (model(ids) - before).norm() < 0.5 * before.norm()


def test_looking_the_weight_up_takes_no_longer_than_multiplying_by_it():
    base = Projection(512, 2048)
    torch.nn.init.normal_(base.weight, std=0.02)
    q, x = quantize(base.weight.T), torch.randn(2048, 512)

    def fastest(of) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            of()
            times.append(time.perf_counter() - start)
        return min(times)

    assert fastest(lambda: dequantize(q)) < fastest(lambda: F.linear(x, base.weight.T))


# ---- the pictures ----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_picture_shows_the_values_and_every_projection_and_is_the_same_again(tmp_path, suffix):
    errors = errors_by_layer(random_model(SMALL))
    drawn = []
    for name in ("a", "b"):
        figure = quantize_plots.draw(errors, "tiny")
        drawn.append(quantize_plots.save(figure, tmp_path / f"{name}{suffix}").read_bytes())
    assert drawn[0] == drawn[1]
    values, below = figure.axes
    assert {text.get_text() for text in values.texts} == {str(i) for i in range(16)}
    parts = {name.split(".", 2)[2] for name in errors}
    assert {t.get_text() for t in below.get_legend().get_texts()} == parts | {"normal numbers"}
    for line in below.lines[:4]:
        wanted = [errors[f"h.{i}.{line.get_label()}"] for i in range(SMALL.n_layer)]
        assert line.get_ydata().tolist() == wanted


def test_the_command_draws_a_models_folder(tmp_path, monkeypatch, capsys):
    save_model(random_model(SMALL), tmp_path / "model")
    out = tmp_path / "nf4.png"
    command = ["quantize_plots.py", "--model", str(tmp_path / "model"), "--out", str(out)]
    monkeypatch.setattr("sys.argv", command)
    quantize_plots.main()
    assert out.read_bytes().startswith(b"\x89PNG") and str(out) in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", [*command[:-1], "nf4.jpg"])
    with pytest.raises(PictureNameError, match="nf4.jpg"):
        quantize_plots.main()
