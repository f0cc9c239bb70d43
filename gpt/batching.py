"""From examples to tensors: what the model reads, and what it is told to answer at each place.

An example is its ids and, for each id, whether it is supervised: whether the model is to learn to
write it. Out come two tensors of one shape. `inputs[row, t]` is what the model reads, and
`targets[row, t]` the id that should come next, or -100 where cross-entropy is to look away.

Three examples, E for the end token, in four drafts. All rows of a tensor have one length, so the
short ones are padded, and each is given its end first:

     0   1   2   3   4   E
     5   6   E   E   E   E
     7   8   9   E   E   E

The target of each id is the one after it, so targets are the rows shifted by one:

     0   1   2   3   4          1   2   3   4   E
     5   6   E   E   E          6   E   E   E   E
     7   8   9   E   E          8   9   E   E   E

But this teaches that an end is followed by ends. Only the first E of a row is its end, the others
are padding, and nothing is learned from those:

     0   1   2   3   4          1   2   3   4   E
     5   6   E   E   E          6   E  --  --  --        -- is -100
     7   8   9   E   E          8   9   E  --  --

And the model is to learn the answers, not to recite the prompts. With 0 1 2, 5 and 7 as prompts:

     0   1   2   3   4         --  --   3   4   E
     5   6   E   E   E          6   E  --  --  --
     7   8   9   E   E          8   9   E  --  --

The end token is known by its place, right after the last id. An id that happens to equal it inside
a text is an ordinary id. That is why nothing here ever searches for an end: a mask that is made by
comparing ids with the padding's loses the true end, and the model never learns to stop.

    python -m gpt.batching      # these very tensors, computed; and the prompt at a tenth's weight
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gpt.cli import run
from gpt.segments import Example

SupervisedIds = Example | tuple[Sequence[int], Sequence[bool]]  # one bool for each id

IGNORE_INDEX = -100  # the target that F.cross_entropy leaves out unless told otherwise


def collate(
    examples: Sequence[SupervisedIds], pad_id: int, ignore_index: int = IGNORE_INDEX
) -> tuple[Tensor, Tensor]:
    """Examples -> (inputs, targets), both (B, T) and int64; pad_id is the end token.

    T is the longest example's number of ids: its end is only ever a target. An example's end is
    supervised if its last id is, so that one which breaks off in a prompt teaches no end.
    """
    checked = _checked(examples, pad_id, ignore_index)
    ids = _pad([np.append(ids, pad_id) for ids, _ in checked], pad_id)  # (B, T + 1)
    learn = _pad([np.append(learn, learn[-1]) for _, learn in checked], False)
    inputs, targets = ids[:, :-1], ids[:, 1:]  # each (B, T)
    targets = np.where(learn[:, 1:], targets, ignore_index)  # prompt and padding at once
    return torch.from_numpy(inputs.copy()), torch.from_numpy(targets)


class Batch(NamedTuple):
    """What the training loop computes at once. Every tensor is (B, T).

    Its part of the loss is the sum over all tokens of weight x cross-entropy(logits, target). The
    whole step's sum is divided by the whole step's sum of weights, once.
    """

    inputs: Tensor  # int64
    targets: Tensor  # int64; -100 where the weight is 0
    weights: Tensor  # float32; 1 for an answer and its end, 0 for padding, between for a prompt
    positions: Tensor | None = None  # of packed rows only, as the next two: see packing.py
    documents: Tensor | None = None


def collate_weighted(
    examples: Sequence[SupervisedIds], pad_id: int, prompt_loss_weight: float
) -> Batch:
    """As `collate`, with the prompt learned too, at a weight: 0 gives the very targets of `collate`
    and weights that only repeat them; 1 makes no difference between prompt and answer.
    """
    if not 0 <= prompt_loss_weight <= 1:
        raise ValueError(f"prompt_loss_weight must be from 0 to 1, not {prompt_loss_weight}")
    inputs, targets = collate(examples, pad_id)
    weights = (targets != IGNORE_INDEX).float()
    if prompt_loss_weight > 0:
        all_supervised = [(ids, np.ones(len(ids), bool)) for ids, *_ in examples]
        targets = collate(all_supervised, pad_id)[1]
        is_prompt = (targets != IGNORE_INDEX) & (weights == 0)
        weights[is_prompt] = prompt_loss_weight
    return Batch(inputs, targets, weights)


def nothing_to_learn() -> Batch:
    """One place that nobody asks about, for a process that must compute something."""
    nothing = torch.zeros(1, 1, dtype=torch.int64)
    return Batch(nothing, torch.full_like(nothing, IGNORE_INDEX), torch.zeros(1, 1))


def _pad(rows: list[np.ndarray], value: int | bool) -> np.ndarray:
    """One array of rows of unequal length, filled up on the right."""
    shape = (len(rows), max(len(row) for row in rows))
    padded = np.full(shape, value, rows[0].dtype)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded


def _checked(
    examples: Sequence[SupervisedIds], pad_id: int, ignore_index: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The examples as arrays, ids int64 and supervised bool; a ValueError where they are not that.

    A user cannot cause these. But each would train on the wrong tokens without a sign of it.
    """
    if len(examples) == 0:
        raise ValueError("a batch needs at least one example")
    if pad_id < 0 or ignore_index >= 0:
        raise ValueError(
            f"pad_id ({pad_id}) must be an id, and ignore_index ({ignore_index}) below 0, where "
            "no id can be taken for it"
        )
    checked = []
    for i, example in enumerate(examples):
        if isinstance(example, Example):  # a template's, which says of each id what part it plays
            example = example.ids, example.supervised
        ids, supervised = map(np.asarray, example)
        if ids.size == 0:
            raise ValueError(f"example {i} has no ids")
        if ids.ndim != 1 or ids.shape != supervised.shape:
            raise ValueError(
                f"example {i}: ids of shape {ids.shape} and supervised of shape "
                f"{supervised.shape}: there must be one of each for every token"
            )
        if ids.dtype.kind not in "iu" or ids.min() < 0:
            raise ValueError(f"example {i}: ids must be whole numbers from 0, found {ids}")
        if supervised.dtype != bool and not np.isin(supervised, (0, 1)).all():
            raise ValueError(
                f"example {i}: supervised must be True or False for each id, found {supervised} "
                "(the parts of a prompt, perhaps, which say more than that?)"
            )
        checked.append((ids.astype(np.int64), supervised.astype(bool)))
    return checked


def show(tensor: Tensor | np.ndarray, end_id: int) -> list[str]:
    """A line for each row, as in the docstring above: E for the end token, -- for -100."""
    names = {end_id: "E", IGNORE_INDEX: "--"}
    return ["".join(f"{names.get(v, v):>4}" for v in row) for row in tensor.tolist()]


def _demo() -> None:
    end = 50256
    texts = [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]]
    answers = [[False, False, False, True, True], [False, True], [False, True, True]]
    everything = [(ids, [True] * len(ids)) for ids in texts]
    masked = list(zip(texts, answers, strict=True))

    def print_beside(*tensors: Tensor | np.ndarray) -> None:
        for row in zip(*(show(tensor, end) for tensor in tensors), strict=True):
            print("      ".join(row))
        print()

    print("pad: each row its end token, and as many more as make all rows equally long")
    rows = _pad([np.append(ids, end) for ids in texts], end)
    print_beside(rows)

    print("shift: inputs, and the id that comes after each as its target")
    print_beside(rows[:, :-1], rows[:, 1:])

    print("mask the padding: -- is -100, which cross-entropy ignores; the end itself stays")
    print_beside(*collate(everything, pad_id=end))

    print("mask the prompt: 0 1 2, then 5, then 7 are prompts, and only answers are learned")
    print_beside(*collate(masked, pad_id=end))

    print("or learn the prompt a little: targets and their weights with prompt_loss_weight = 0.1")
    batch = collate_weighted(masked, pad_id=end, prompt_loss_weight=0.1)
    for targets, weights in zip(show(batch.targets, end), batch.weights.tolist(), strict=True):
        print(targets + "      " + "".join(f"{w:5.1f}" for w in weights))


if __name__ == "__main__":
    run(_demo)
