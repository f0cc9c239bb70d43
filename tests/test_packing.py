"""Packing changes no loss and no gradient: packed equals padded equals one by one."""

import sys
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from gpt import packing
from gpt.batching import collate_weighted
from gpt.hardware import Precision
from gpt.learner import Learner
from gpt.packing import (
    RowOverflow,
    cu_seqlens,
    document_mask,
    pack,
    packed_padding_share,
    plan_rows,
)
from gpt.settings import TrainSettings
from tests.test_batching import (
    EIGHT,
    WORKED,
    E,
    book_examples,
    gradients,
    some_examples,
    token_losses,
)
from tests.test_learner import instruction_set
from tests.tiny import TINY, random_model

ROW = 40  # tokens: longer than TINY's context of 32, which no example is


def packed_losses(model, batch) -> torch.Tensor:
    return token_losses(model, batch, document_mask(batch.documents))


def test_the_worked_example():
    batch = pack(WORKED, pad_id=E, row_length=6, prompt_loss_weight=0)
    assert batch.inputs.tolist() == [[0, 1, 2, 3, 4, E], [5, 6, 7, 8, 9, E]]
    assert batch.targets.tolist() == [[1, 2, 3, 4, E, -100], [6, E, 8, 9, E, -100]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4, 0], [0, 1, 0, 1, 2, 0]]
    assert batch.documents.tolist() == [[0, 0, 0, 0, 0, -1], [1, 1, 2, 2, 2, -1]]
    assert batch.weights.tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 0]]
    assert {t.dtype for t in batch} == {torch.int64, torch.float32}


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(50, 120))
def test_rows_hold_every_example_once_and_no_two_could_be_one(lengths, row_length):
    lengths = np.array(lengths, np.int32)
    rows = plan_rows(lengths, row_length)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    filled = sorted(int(lengths[row].sum()) for row in rows)
    assert not filled or filled[-1] <= row_length
    assert len(filled) < 2 or filled[0] + filled[1] > row_length
    again = plan_rows(lengths, row_length)
    assert [row.tolist() for row in rows] == [row.tolist() for row in again]


def test_the_tightest_row_is_taken():
    lengths = np.array([3, 7, 5, 6, 4])  # of 10: 7 + 3, 6 + 4, 5
    rows = [row.tolist() for row in plan_rows(lengths, 10)]
    assert rows == [[0, 1], [3, 4], [2]]
    assert packed_padding_share(lengths, plan_rows(lengths, 10), 10) == pytest.approx(5 / 30)


@given(some_examples, st.sampled_from([0.0, 0.5, 1.0]))
def test_each_example_is_in_its_row_as_it_would_be_by_itself(examples, weight):
    batch = pack(examples, pad_id=E, row_length=15, prompt_loss_weight=weight)
    for i, example in enumerate(examples):
        alone = collate_weighted([example], E, weight)
        there = batch.documents == i
        assert batch.inputs[there].tolist() == alone.inputs[0].tolist()
        assert batch.targets[there].tolist() == alone.targets[0].tolist()
        assert batch.weights[there].tolist() == alone.weights[0].tolist()
        assert batch.positions[there].tolist() == list(range(len(example[0])))
        assert len(set(there.nonzero()[:, 0].tolist())) == 1  # one row, and no gap in it:
        assert there.nonzero()[:, 1].diff().eq(1).all()
    padding = batch.documents == -1
    assert padding.sum() == batch.inputs.numel() - sum(len(ids) for ids, _ in examples)
    assert (batch.targets[padding] == -100).all() and (batch.weights[padding] == 0).all()


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_packed_equals_padded_equals_one_by_one(weight):
    model = random_model()
    padded = collate_weighted(EIGHT, E, weight)
    packed = pack(EIGHT, E, ROW, weight)
    assert packed.inputs.shape == (3, ROW)  # 92 tokens; several in a row, and padding behind them
    losses, of_packed = token_losses(model, padded), packed_losses(model, packed)
    one_by_one = [token_losses(model, collate_weighted([e], E, weight)) for e in EIGHT]
    for i, (ids, _) in enumerate(EIGHT):
        alone = one_by_one[i][0]
        torch.testing.assert_close(losses[i, : len(ids)], alone, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(of_packed[packed.documents == i], alone, atol=1e-5, rtol=1e-5)
    expected = gradients(model, sum(loss.sum() for loss in one_by_one))
    for other in (losses, of_packed):
        torch.testing.assert_close(gradients(model, other.sum()), expected, atol=1e-5, rtol=1e-5)


def test_editing_one_example_leaves_its_neighbours_alone():
    model = random_model()
    before = pack(EIGHT, E, ROW, 0.0)
    mask = document_mask(before.documents)
    with torch.no_grad():
        logits = model(before.inputs, before.positions, mask)
        for i, (ids, learn) in enumerate(EIGHT):
            edited = [*EIGHT[:i], ((ids + 1) % TINY.vocab_size, learn), *EIGHT[i + 1 :]]
            after = pack(edited, E, ROW, 0.0)
            assert torch.equal(after.documents, before.documents)
            change = (model(after.inputs, after.positions, mask) - logits).abs().amax(2)
            assert change[before.documents != i].max() <= 1e-6
            assert change[before.documents == i].min() > 1e-3


def test_without_the_mask_or_the_positions_they_would_see_each_other():
    """That the equalities above can fail at all."""
    model = random_model()
    batch = pack(EIGHT, E, 32, 0.0)
    right = packed_losses(model, batch).sum()
    assert (token_losses(model, batch).sum() - right).abs() > 1e-3
    counting_on = batch._replace(positions=None)
    assert (packed_losses(model, counting_on).sum() - right).abs() > 1e-3


def test_a_row_that_is_mostly_padding_gives_no_nan():
    model = random_model()
    batch = pack([([1, 2], [False, True])], E, row_length=64, prompt_loss_weight=0.0)
    loss = packed_losses(model, batch).sum()
    alone = token_losses(model, collate_weighted([([1, 2], [False, True])], E, 0.0)).sum()
    torch.testing.assert_close(loss, alone, atol=1e-5, rtol=1e-5)
    assert all(g.isfinite().all() for g in gradients(model, loss).values())


def test_the_mask_is_causal_within_each_example():
    documents = torch.tensor([[0, 0, 2, 2, -1, -1], [1, 1, 1, 3, 4, 4]])
    mask = document_mask(documents)
    assert mask.shape == (2, 1, 6, 6)
    for b in range(2):
        for i in range(6):
            for j in range(6):
                same = documents[b, i] == documents[b, j]
                assert mask[b, 0, i, j] == bool(same and j <= i)


@given(some_examples, st.integers(12, 15))
def test_boundaries_cut_the_rows_into_the_same_texts_as_the_mask(examples, max_length):
    batch = pack(examples, pad_id=E, row_length=15, prompt_loss_weight=0.0)
    bounds = cu_seqlens(batch.documents, max_length)
    assert bounds.dtype == torch.int32 and bounds[0] == 0 and bounds[-1] == batch.inputs.numel()
    sizes = bounds.diff()
    assert sizes.min() > 0 and sizes.max() <= max_length
    texts = batch.documents.flatten().split(sizes.tolist())
    assert all(len(set(text.tolist())) == 1 for text in texts)
    numbers = [int(text[0]) for text in texts if text[0] >= 0]
    assert sorted(numbers) == list(range(len(examples)))


def test_attention_by_boundaries_equals_attention_by_mask():
    """What a kernel does with the boundaries, done text by text."""
    model = random_model()
    batch = pack(EIGHT, E, ROW, 0.0)
    with torch.no_grad():
        by_mask = model(batch.inputs, batch.positions, document_mask(batch.documents)).flatten(0, 1)
        bounds = cu_seqlens(batch.documents, max_length=32).tolist()
        for begin, end in pairwise(bounds):
            if batch.documents.flatten()[begin] >= 0:
                text = batch.inputs.flatten()[begin:end].unsqueeze(0)
                torch.testing.assert_close(by_mask[begin:end], model(text)[0], atol=1e-5, rtol=1e-5)


def text_by_text(q, k, v, bounds_q, bounds_k, longest_q, longest_k):
    """What torch's kernel for texts of all lengths computes, on any device."""
    assert torch.equal(bounds_q, bounds_k) and longest_q == longest_k
    assert bounds_q.dtype == torch.int32 and bounds_q.diff().max() <= longest_q
    parts = [
        F.scaled_dot_product_attention(*(t[a:b].transpose(0, 1) for t in (q, k, v)), is_causal=True)
        for a, b in pairwise(bounds_q.tolist())
    ]
    return torch.cat(parts, 1).transpose(0, 1)  # (tokens, nh, hs)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_kernel_that_is_told_the_boundaries_trains_as_the_mask_does(recompute):
    data = instruction_set(lengths=(5, 12, 7, 3, 9, 20, 6, 8), row_length=ROW)
    results = []
    for kernel in (None, text_by_text):
        settings = TrainSettings(packed=True, activation_checkpointing=recompute)
        model = random_model()
        fp32 = Precision("fp32", "")
        learner = Learner(model, settings, torch.device("cpu"), fp32, 1e-3)
        assert learner.varlen is None  # there is one only on a GPU
        learner.varlen = kernel
        losses = [learner.learn([data.batch(range(8))], 1e-3) for _ in range(3)]
        results.append((losses, learner.validate(data)))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


def test_torchs_kernel_is_asked_in_the_words_of_its_version(monkeypatch):
    def of_old(q, k, v, a, b, c, d, is_causal=False, return_aux=None):
        return is_causal

    def of_today(q, k, v, a, b, c, d, *, return_aux=None, window_size=(-1, -1)):
        return window_size

    for kernel, told in ((of_old, True), (of_today, (-1, 0))):
        module = SimpleNamespace(varlen_attn=kernel)
        monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", module)
        assert packing.varlen_kernel()(*range(7)) == told
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", None)  # before torch 2.10
    assert packing.varlen_kernel() is None


def test_boundaries_can_be_of_a_fixed_number():
    documents = torch.tensor([[0, 0, 0, 1, 1, -1, -1, -1], [2, 2, 2, 2, 2, -1, -1, -1]])
    assert cu_seqlens(documents, max_length=8).tolist() == [0, 3, 5, 8, 13, 16]
    assert cu_seqlens(documents, max_length=8, size=8).tolist() == [0, 3, 5, 8, 13, 16, 16, 16]
    assert cu_seqlens(documents, max_length=5, size=6).tolist() == [0, 3, 5, 8, 13, 16]
    assert cu_seqlens(documents[:1, :3], max_length=3).tolist() == [0, 3]
    with pytest.raises(ValueError, match="5 texts have 6 boundaries, and size is 5"):
        cu_seqlens(documents, max_length=8, size=5)
    with pytest.raises(ValueError, match="5 tokens, more than max_length, 4"):
        cu_seqlens(documents, max_length=4)


def test_rows_that_are_full_and_alike_are_still_two_texts():
    documents = torch.tensor([[0, -1], [-1, -1]])
    assert cu_seqlens(documents, max_length=2).tolist() == [0, 1, 2, 4]


def test_an_example_longer_than_a_row_is_named_with_both_numbers():
    with pytest.raises(RowOverflow, match="example 1 has 1,300 tokens.* holds 1,024"):
        plan_rows(np.array([5, 1300, 7]), 1024)
    with pytest.raises(RowOverflow, match="example 0 has 5 tokens.* holds 4"):
        pack(WORKED, E, row_length=4, prompt_loss_weight=0.0)


def test_the_books_set_packs_with_little_padding(shared):
    lengths = np.array([len(ids) for ids, _ in book_examples(shared)])
    for row_length, at_most in [(256, 0.08), (1024, 0.03), (4096, 0.06)]:
        rows = plan_rows(lengths, row_length)
        assert packed_padding_share(lengths, rows, row_length) < at_most


def test_fifty_thousand_examples_are_planned_well():
    lengths = np.random.default_rng(0).integers(1, 1025, 50_000)
    rows = plan_rows(lengths, 1024)
    assert packed_padding_share(lengths, rows, 1024) < 0.01


def test_the_demo_prints_what_pack_computes(capsys):
    packing._demo()
    assert "packed, 6%" in capsys.readouterr().out


def test_boundaries_of_a_batch_that_is_all_padding_are_defined():
    documents = torch.full((1, 6), -1)
    assert cu_seqlens(documents, max_length=4).tolist() == [0, 4, 6]
