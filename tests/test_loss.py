"""The loss from supervised rows, in chunks, against the plain one; and what it never allocates."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gpt import loss as loss_chapter
from gpt.batching import IGNORE_INDEX, collate_weighted
from gpt.loss import chunked_loss, plain_loss, summed_loss, supervised_rows
from tests.tiny import TINY, random_model

EXAMPLES = [
    ([7, 3, 9, 4, 1, 60, 61], [False, False, True, True, True, False, True]),
    ([4, 2], [False, True]),
    ([8, 6, 5], [True, True, True]),
    ([11, 12, 13, 14], [False] * 4),  # nothing of it is supervised
]


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("prompt_loss_weight", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loss_and_gradients_are_those_of_the_plain_form(prompt_loss_weight, dtype):
    model = random_model().to(dtype)
    batch = collate_weighted(EXAMPLES, pad_id=0, prompt_loss_weight=prompt_loss_weight)
    batch = batch._replace(weights=batch.weights.to(dtype))
    logits = model(batch.inputs)
    plain = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.targets.flatten(), reduction="none"
    )
    plain = (plain * batch.weights.flatten()).sum()
    used = summed_loss(model, batch)
    torch.testing.assert_close(used.double(), plain.double(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        plain_loss(logits, batch).double(), plain.double(), rtol=1e-5, atol=0
    )
    expected = gradients(model, plain)
    for name, gradient in gradients(model, used).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5, msg=name)


def test_a_second_way_back_is_refused_and_not_scaled_twice():
    hidden, head = torch.randn(5, 8, requires_grad=True), torch.randn(11, 8, requires_grad=True)
    loss = chunked_loss(hidden, head, torch.arange(5), torch.ones(5))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="used up"):
        loss.backward()


def test_a_chunk_of_any_size_gives_the_same():
    torch.manual_seed(0)
    weights = torch.rand(13)
    targets = torch.randint(29, (13,))
    results = []
    for chunk in (1, 2, 5, 12, 13, 100):
        hidden = torch.linspace(-1, 1, 13 * 8).reshape(13, 8).requires_grad_()
        head = torch.linspace(1, -2, 29 * 8).reshape(29, 8).sin().requires_grad_()
        loss = chunked_loss(hidden, head, targets, weights, chunk)
        (loss * 0.5).backward()  # the gradient that comes from above is not 1
        results.append((loss.detach(), hidden.grad, head.grad))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0])


@pytest.mark.parametrize("autocast", [False, True])
def test_rows_that_fill_the_head_up_to_a_tile_change_nothing(monkeypatch, autocast):
    """As on a GPU, done here: neither the loss nor a gradient, and no shape that anybody sees."""
    targets, weights = torch.randint(29, (13,)), torch.rand(13)
    results = []
    for devices in ((), ("cpu",)):
        monkeypatch.setattr(loss_chapter, "_DEVICES_WITH_TILES", devices)
        hidden = torch.linspace(-1, 1, 13 * 8).reshape(13, 8).requires_grad_()
        head = torch.linspace(1, -2, 29 * 8).reshape(29, 8).sin().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            tiled = loss_chapter.in_tiles(head)
            loss = chunked_loss(hidden, head, targets, weights, 5)
            with torch.no_grad():
                looked = chunked_loss(hidden, head, targets, weights, 5)
        loss.backward()
        results.append((loss.detach(), looked, hidden.grad, head.grad))
    assert tiled.shape == (64, 8)
    assert tiled.dtype == (torch.bfloat16 if autocast else torch.float32)
    torch.testing.assert_close(*results)


def test_only_what_needs_a_gradient_gets_one():
    hidden, head = torch.randn(5, 8), torch.randn(29, 8)
    targets, weights = torch.randint(29, (5,)), torch.ones(5)
    hidden.requires_grad_()
    chunked_loss(hidden, head, targets, weights).backward()
    assert hidden.grad is not None and head.grad is None  # a frozen head: LoRA
    with torch.no_grad():
        assert not chunked_loss(hidden, head, targets, weights).requires_grad


def test_nothing_supervised_is_zero_with_a_graph():
    model = random_model()
    batch = collate_weighted(EXAMPLES[3:], pad_id=0, prompt_loss_weight=0.0)
    assert (batch.targets == IGNORE_INDEX).all()
    loss = summed_loss(model, batch)
    assert loss.item() == 0
    for name, gradient in gradients(model, loss).items():
        assert gradient.abs().max() == 0, name


class Largest(TorchDispatchMode):
    """The most numbers that any tensor made in this block holds."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return out


def test_logits_of_all_places_never_exist():
    model = random_model()
    example = ([5] * 30, [False] * 20 + [True] * 10)
    batch = collate_weighted([example] * 40, pad_id=0, prompt_loss_weight=0.0)
    everywhere = batch.inputs.numel() * TINY.vocab_size
    supervised = supervised_rows(batch).rows
    with Largest() as plain:
        plain_loss(model(batch.inputs), batch).backward()
    assert plain.numbers >= everywhere
    with Largest() as used:
        summed_loss(model, batch).backward()
    assert used.numbers <= max(len(supervised) * TINY.vocab_size, 40 * 30 * 4 * TINY.n_embd)
    hidden = model.hidden(batch.inputs).detach().flatten(0, 1)[supervised]
    with Largest() as in_chunks:
        weights, targets = supervised_rows(batch).weights, supervised_rows(batch).targets
        chunked_loss(hidden, model.wte.weight, targets, weights, chunk=50).backward()
    assert in_chunks.numbers <= max(50 * TINY.vocab_size, hidden.numel())


def test_half_precision_products_keep_the_loss():
    model = random_model()
    batch = collate_weighted(EXAMPLES, pad_id=0, prompt_loss_weight=0.1)
    exact = summed_loss(model, batch)
    expected = gradients(model, exact)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = summed_loss(model, batch)
    assert rough.dtype == torch.float32
    assert abs(rough.item() / exact.item() - 1) < 0.02
    for name, gradient in gradients(model, rough).items():
        assert gradient.dtype == torch.float32
        scale = expected[name].norm() + 1e-3
        assert (gradient - expected[name]).norm() < 0.1 * scale, name
