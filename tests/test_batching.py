"""Collate: every target is the right id or ignored, and how a step is cut changes no gradient."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from gpt import batching
from gpt.batching import Batch, collate, collate_weighted
from gpt.segments import ANSWER, HEADER, INSTRUCTION, Example
from tests.tiny import TINY, random_model

E = 96  # TINY's end token, its last id
WORKED = [([0, 1, 2, 3, 4], [1] * 5), ([5, 6], [1] * 2), ([7, 8, 9], [1] * 3)]

one_example = st.lists(st.tuples(st.integers(0, E), st.booleans()), min_size=1, max_size=12).map(
    lambda pairs: ([i for i, _ in pairs], [learn for _, learn in pairs])
)
some_examples = st.lists(one_example, min_size=1, max_size=7)


def prompt_and_answer(prompt: int, answer: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(seed).integers(0, TINY.vocab_size, prompt + answer)
    return ids.astype(np.int32), np.arange(prompt + answer) >= prompt


EIGHT = [  # prompts and answers of all lengths; one all prompt, one all answer
    prompt_and_answer(prompt, answer, seed=prompt)
    for prompt, answer in [(3, 4), (9, 1), (5, 11), (12, 0), (0, 6), (7, 2), (1, 1), (20, 9)]
]


def token_losses(model, batch: Batch, mask=None) -> torch.Tensor:
    """Weight x cross-entropy of every token, (B, T)."""
    logits = model(batch.inputs, batch.positions, mask)
    losses = F.cross_entropy(logits.transpose(1, 2), batch.targets, reduction="none")
    return losses * batch.weights


def gradients(model, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


@cache
def book_examples(shared: Path) -> list[tuple[list[int], list[bool]]]:
    """The 1,100 instructions of the book in GPT-2's tokens, prompt and answer encoded apart."""
    tiktoken = pytest.importorskip("tiktoken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(shared / "tiktoken-cache"))
        encode = tiktoken.get_encoding("gpt2").encode_ordinary
    records = json.loads((shared / "datasets/book-1100.json").read_text(encoding="utf-8"))
    examples = []
    for record in records:
        prompt = (
            "Below is an instruction that describes a task. Write a response that appropriately "
            f"completes the request.\n\n### Instruction:\n{record['instruction']}"
        )
        prompt += f"\n\n### Input:\n{record['input']}" if record["input"] else ""
        prompt, answer = encode(prompt + "\n\n### Response:\n"), encode(record["output"])
        examples.append((prompt + answer, [False] * len(prompt) + [True] * len(answer)))
    return examples


def book_collate(texts: list[list[int]], end: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The book's own way: end each, pad with ends, shift, and ignore all ends but the first."""
    longest = max(len(ids) + 1 for ids in texts)
    inputs, targets = [], []
    for ids in texts:
        padded = ids + [end] * (longest - len(ids))
        target = torch.tensor(padded[1:])
        ends = (target == end).nonzero().flatten()
        target[ends[1:]] = -100
        inputs.append(torch.tensor(padded[:-1]))
        targets.append(target)
    return torch.stack(inputs), torch.stack(targets)


def test_the_worked_example():
    inputs, targets = collate(WORKED, pad_id=E)
    assert inputs.tolist() == [[0, 1, 2, 3, 4], [5, 6, E, E, E], [7, 8, 9, E, E]]
    assert targets.tolist() == [[1, 2, 3, 4, E], [6, E, -100, -100, -100], [8, 9, E, -100, -100]]
    assert inputs.dtype == targets.dtype == torch.int64
    assert inputs.is_contiguous() and targets.is_contiguous()


def test_the_docstring_shows_the_tensors_that_the_demo_prints(capsys):
    batching._demo()
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line[:2] == "  "]
    shown = [line.split("-- is")[0].split() for line in batching.__doc__.splitlines()]
    shown = [words for words in shown if words and words[0] in "057"]
    assert len(shown) == 12
    assert rows[:12] == shown


@given(some_examples)
def test_every_target_is_the_next_id_where_that_is_supervised_and_ignored_elsewhere(examples):
    inputs, targets = collate(examples, pad_id=E)
    longest = max(len(ids) for ids, _ in examples)
    assert inputs.shape == targets.shape == (len(examples), longest)
    for row, (ids, supervised) in enumerate(examples):
        n = len(ids)
        following, learn = [*ids[1:], E], [*supervised[1:], supervised[-1]]
        assert inputs[row].tolist() == ids + [E] * (longest - n)
        expected = [i if s else -100 for i, s in zip(following, learn, strict=True)]
        assert targets[row].tolist() == expected + [-100] * (longest - n)


def test_the_end_is_known_by_its_place_and_not_by_its_id():
    inside = ([5, E, E, 6, E], [False, False, True, True, True])
    inputs, targets = collate([inside, ([1] * 7, [True] * 7)], pad_id=E)
    assert inputs[0].tolist() == [5, E, E, 6, E, E, E]
    assert targets[0].tolist() == [-100, E, 6, E, E, -100, -100]


@pytest.mark.parametrize("kind", [tuple, np.array, torch.tensor, lambda x: np.array(x, np.int32)])
def test_any_kind_of_sequence_gives_the_same_and_is_left_as_it_was(kind):
    examples = [(kind(ids), kind([bool(s) for s in learn])) for ids, learn in WORKED]
    for ours, expected in zip(collate(examples, E), collate(WORKED, E), strict=True):
        assert torch.equal(ours, expected)
    assert [[int(i) for i in ids] for ids, _ in examples] == [ids for ids, _ in WORKED]


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([], "at least one"),
        ([([], [])], "example 0 has no ids"),
        ([([1], [True]), ([1, 2], [True])], r"example 1: .*\(2,\) .*\(1,\)"),
        ([([[1]], [[True]])], "example 0"),
        ([([1, -1], [True, True])], "whole numbers from 0"),
        ([([1.0, 2.0], [True, True])], "whole numbers from 0"),
        ([([1, 2, 3], np.array([0, 4, 5], np.uint8))], "True or False"),
    ],
)
def test_what_is_no_example_is_refused(examples, message):
    with pytest.raises(ValueError, match=message):
        collate(examples, pad_id=E)


def test_ids_that_could_be_confused_are_refused():
    with pytest.raises(ValueError, match="pad_id"):
        collate(WORKED, pad_id=-1)
    with pytest.raises(ValueError, match="ignore_index"):
        collate(WORKED, pad_id=E, ignore_index=3)
    assert collate(WORKED, pad_id=E, ignore_index=-1)[1][1].tolist() == [6, E, -1, -1, -1]


@given(some_examples)
def test_weight_0_is_collate_and_its_mask(examples):
    inputs, targets = collate(examples, pad_id=E)
    batch = collate_weighted(examples, pad_id=E, prompt_loss_weight=0)
    assert torch.equal(batch.inputs, inputs) and torch.equal(batch.targets, targets)
    assert torch.equal(batch.weights, (targets != -100).float())


@given(some_examples)
def test_weight_1_is_collate_with_the_prompt_supervised_too(examples):
    inputs, targets = collate([(ids, [True] * len(ids)) for ids, _ in examples], pad_id=E)
    batch = collate_weighted(examples, pad_id=E, prompt_loss_weight=1)
    assert torch.equal(batch.inputs, inputs) and torch.equal(batch.targets, targets)
    assert torch.equal(batch.weights, (targets != -100).float())


@given(some_examples, st.floats(0.125, 0.875, width=32))
def test_a_weight_between_is_of_the_prompt_and_of_nothing_else(examples, weight):
    batch = collate_weighted(examples, pad_id=E, prompt_loss_weight=weight)
    is_answer = collate(examples, pad_id=E)[1] != -100
    is_padding = batch.targets == -100
    assert (batch.weights[is_answer] == 1).all()
    assert (batch.weights[is_padding] == 0).all()
    assert (batch.weights[~is_answer & ~is_padding] == weight).all()
    assert (~is_padding).sum() == sum(len(ids) for ids, _ in examples)


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_a_weight_out_of_range_is_refused(weight):
    with pytest.raises(ValueError, match="prompt_loss_weight"):
        collate_weighted(WORKED, E, weight)


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_1x8_8x1_and_3_and_5_give_one_loss_and_one_gradient(weight):
    model = random_model()

    def accumulated(cuts: list[int]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        batches = [
            collate_weighted(EIGHT[i:j], E, weight)
            for i, j in zip([0, *cuts], [*cuts, 8], strict=True)
        ]
        total = sum(batch.weights.sum() for batch in batches)
        losses = [token_losses(model, batch).sum() / total for batch in batches]
        parts = [gradients(model, loss) for loss in losses]
        return sum(losses), {name: sum(part[name] for part in parts) for name in parts[0]}

    loss, gradient = accumulated([])
    for cuts in ([1, 2, 3, 4, 5, 6, 7], [3], [4]):  # [4] begins with the row without an answer
        other_loss, other_gradient = accumulated(cuts)
        torch.testing.assert_close(other_loss, loss, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(other_gradient, gradient, atol=1e-6, rtol=1e-5)


def test_nothing_supervised_sums_to_zero_without_nan():
    model = random_model()
    prompts = [(ids, np.zeros(len(ids), bool)) for ids, _ in EIGHT]
    for examples in (prompts, [([E], [False])]):  # the second is the share of an idle process
        batch = collate_weighted(examples, E, prompt_loss_weight=0.0)
        loss = token_losses(model, batch).sum()
        assert loss.item() == 0 and batch.weights.sum() == 0
        for gradient in gradients(model, loss).values():
            assert (gradient == 0).all()


def test_all_of_the_books_set_is_collated_as_the_book_does(shared):
    examples = book_examples(shared)
    end = 50256
    for begin in range(0, len(examples), 8):
        step = examples[begin : begin + 8]
        theirs_in, theirs_out = book_collate([ids for ids, _ in step], end)
        ours = collate_weighted(step, pad_id=end, prompt_loss_weight=1)
        assert torch.equal(ours.inputs, theirs_in) and torch.equal(ours.targets, theirs_out)
        inputs, targets = collate(step, pad_id=end)
        assert torch.equal(inputs, theirs_in) and targets.shape == theirs_out.shape
        for row, (ids, supervised) in enumerate(step):
            answer = [i for i, s in zip(ids, supervised, strict=True) if s]
            assert targets[row][targets[row] != -100].tolist() == [*answer, end]


def test_a_templates_examples_are_taken_as_they_are():
    parts = np.array([INSTRUCTION, HEADER, ANSWER, ANSWER], np.uint8)
    example = Example(np.array([5, 6, 7, 8], np.int32), parts)
    ours = collate([example], pad_id=9)
    plain = collate([([5, 6, 7, 8], [False, False, True, True])], pad_id=9)
    assert torch.equal(ours[0], plain[0]) and torch.equal(ours[1], plain[1])
    weighted = collate_weighted([example], 9, prompt_loss_weight=0.5)
    assert weighted.weights.tolist() == [[0.5, 1.0, 1.0, 1.0]]
