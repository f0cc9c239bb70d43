"""Several examples in one row, so that nothing is spent on padding, and none sees another.

A padded batch is as wide as its longest row. Packing lays short examples end to end instead:

    padded    a a a a a .          packed    a a a a a b b b
              b b b . . .                    c c c c d d d .        . is padding
              c c c c . .
              d d d . . .

To the model nothing may change by that. Three things see to it, and a test holds the losses and
gradients of packed rows to those of the same examples one by one:

  - positions begin at 0 again with every example, as the model counts places in a text by them;
  - attention stays inside an example. `documents` says for each token which example it is of; from
    it comes a mask for `model(ids, positions, mask)`, or the boundaries for a kernel that is told
    where each text begins and needs no mask in memory (`cu_seqlens`);
  - targets stay inside an example. Its last id predicts the end token, which is a target only, and
    nothing predicts the first id of its neighbour.

    python -m gpt.packing       # four examples in two rows, and who may look at whom

Sources: Krell et al., "Efficient Sequence Packing without Cross-contamination" (2021), for the
idea; Johnson, "Near-optimal bin packing algorithms" (1973), for which example goes where.
"""

import inspect
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from gpt.batching import IGNORE_INDEX, Batch, SupervisedIds, collate_weighted, show
from gpt.cli import run
from gpt.errors import UserError

PADDING = -1  # in `documents`: a token of no example


class RowOverflow(UserError):
    """An example that is longer than the rows that it should be packed into."""


def plan_rows(lengths: np.ndarray, row_length: int) -> list[np.ndarray]:
    """Which examples share a row, from their lengths alone: best fit, the longest first.

    Each goes where it leaves the least room, or opens a row where it fits none. That never takes
    more than 11/9 of the fewest rows possible, give or take a few rows, and with short texts it is
    all but perfect. A row can be a micro-batch by itself: row_length is then its token budget.
    """
    lengths = np.asarray(lengths)
    _refuse_long(lengths, row_length)
    rows: list[list[int]] = []
    with_room = defaultdict(list)  # room left -> the rows that have just that
    rooms: list[int] = []  # the keys of with_room that have rows, ascending
    of_each = lengths.tolist()
    for i in np.argsort(-lengths, kind="stable").tolist():
        at = bisect_left(rooms, of_each[i])  # the tightest room that holds it
        if at == len(rooms):
            row, room = len(rows), row_length
            rows.append([])
        else:
            room = rooms[at]
            row = with_room[room].pop()
            if not with_room[room]:
                del rooms[at]
        rows[row].append(i)
        left = room - of_each[i]
        if not with_room[left]:
            insort(rooms, left)
        with_room[left].append(row)
    return [np.sort(np.array(row)) for row in rows]


def _refuse_long(lengths: np.ndarray, row_length: int) -> None:
    if len(lengths) and lengths.max() > row_length:
        i = int(lengths.argmax())
        raise RowOverflow(
            f"example {i} has {lengths[i]:,} tokens and a packed row holds {row_length:,}: "
            "make the rows longer, or leave out or shorten what is so long"
        )


def pack(
    examples: Sequence[SupervisedIds], pad_id: int, row_length: int, prompt_loss_weight: float
) -> Batch:
    """Examples -> rows of row_length. The same tokens, targets and weights as when they are padded.

    They are in fact the padded rows, laid end to end without their padding. `documents` holds for
    each token the index of its example, and -1 for what padding is still left.
    """
    padded = collate_weighted(examples, pad_id, prompt_loss_weight)
    lengths = np.array([len(ids) for ids, _ in examples])
    rows = plan_rows(lengths, row_length)

    within = np.arange(lengths.max(), dtype=np.int64)  # the place of a token in its example
    numbers = np.arange(len(examples), dtype=np.int64)[:, None]
    is_real = within < lengths[:, None]  # (examples, longest)
    begins = _begins(lengths, rows, row_length)
    place = (begins[:, None] + within)[is_real]  # where each token goes, all rows end to end

    def move(values: np.ndarray, padding: int) -> Tensor:
        packed = np.full(len(rows) * row_length, padding, values.dtype)
        packed[place] = np.broadcast_to(values, is_real.shape)[is_real]
        return torch.from_numpy(packed.reshape(len(rows), row_length))

    return Batch(
        inputs=move(padded.inputs.numpy(), pad_id),
        targets=move(padded.targets.numpy(), IGNORE_INDEX),
        weights=move(padded.weights.numpy(), 0),
        positions=move(within, 0),  # of padding 0 as well: any place would do that exists
        documents=move(numbers, PADDING),
    )


def _begins(lengths: np.ndarray, rows: list[np.ndarray], row_length: int) -> np.ndarray:
    """Where each example begins, when all rows are laid end to end."""
    begins = np.empty(len(lengths), np.int64)
    for number, row in enumerate(rows):
        begins[row] = number * row_length + np.cumsum(lengths[row]) - lengths[row]
    return begins


def document_mask(documents: Tensor) -> Tensor:
    """(B, T) -> (B, 1, T, T): True where a token (row) may look at another (column).

    Those before it and itself, of its own example. Padding looks at padding: a token that might
    look at nothing would have no softmax, and its NaN would spread through the gradients.
    """
    same = documents.unsqueeze(2) == documents.unsqueeze(1)  # (B, T, T)
    return same.tril().unsqueeze(1)


def cu_seqlens(documents: Tensor, max_length: int, size: int | None = None) -> Tensor:
    """Where each text begins, all rows end to end, and where the last one ends; int32.

    max_length: the `max_seqlen` that the kernel is told, at least the longest example. Padding is
        cut into texts that are no longer either, as every token must be of some text.
    size: how many numbers to return, always the same, so that a compiled or captured step sees one
        shape. The rest is filled with the total, which makes texts of no tokens.
    """
    B, T = documents.shape
    changes = torch.ones(B, T, dtype=torch.bool)
    changes[:, 1:] = documents[:, 1:] != documents[:, :-1]
    changes = changes.flatten()  # (B * T): True at the first token of each run
    places = torch.arange(B * T)
    within = places - torch.where(changes, places, 0).cummax(0).values
    longest = int(torch.where(documents.flatten() == PADDING, -1, within).max()) + 1
    if longest > max_length:
        raise ValueError(f"an example has {longest} tokens, more than max_length, {max_length}")
    begins = places[within % max_length == 0]
    size = len(begins) + 1 if size is None else size
    if size < len(begins) + 1:
        raise ValueError(
            f"{len(begins)} texts have {len(begins) + 1} boundaries, and size is {size}"
        )
    filled = torch.full((size,), B * T, dtype=torch.int32)
    filled[: len(begins)] = begins
    return filled


Kernel = Callable[..., Tensor]


def varlen_kernel() -> Kernel | None:
    """torch's own attention for texts of all lengths laid end to end, causal; None before 2.10.

    It runs on CUDA from compute capability 8.0, in bf16 and fp16, and knows no dropout.
    """
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    # How it is told that the future is hidden has changed from version to version.
    has_window = "window_size" in inspect.signature(varlen_attn).parameters
    return partial(varlen_attn, **({"window_size": (-1, 0)} if has_window else {"is_causal": True}))


def attend_within(kernel: Kernel, bounds: Tensor, longest: int) -> Callable[..., Tensor]:
    """A way to attend, in the place of a mask: every text to itself. bounds: see `cu_seqlens`."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # each (B, nh, T, hs)
        rows = q.size(0), q.size(2)
        q, k, v = (t.transpose(1, 2).flatten(0, 1) for t in (q, k, v))  # (B * T, nh, hs)
        y = kernel(q, k, v, bounds, bounds, longest, longest)
        return y.unflatten(0, rows).transpose(1, 2)

    return attend


def packed_padding_share(lengths: np.ndarray, rows: list[np.ndarray], row_length: int) -> float:
    """How much of the planned rows is padding."""
    return 1 - int(np.sum(lengths)) / (len(rows) * row_length)


def _demo() -> None:
    end = 50256
    texts = [[1, 2, 3, 4, 5], [11, 12, 13], [21, 22, 23, 24], [31, 32, 33]]
    examples = [(ids, [False] * 2 + [True] * (len(ids) - 2)) for ids in texts]
    lengths = np.array([len(ids) for ids in texts])
    batch = pack(examples, pad_id=end, row_length=8, prompt_loss_weight=0.0)

    print("four examples, each with two ids of prompt, in two rows of 8:")
    for name in ("inputs", "targets", "positions", "documents"):
        for i, row in enumerate(show(getattr(batch, name), end)):
            print(f"  {name if i == 0 else '':<10}{row}")
    rows = plan_rows(lengths, row_length=8)
    by_padding = 1 - lengths.sum() / (len(lengths) * lengths.max())
    print(f"\npadded to the longest, {by_padding:.0%} is padding; ", end="")
    print(f"packed, {packed_padding_share(lengths, rows, 8):.0%}")

    print("\nwho may look at whom in the second row (rows look at columns):")
    for row in document_mask(batch.documents)[1, 0].int().tolist():
        print("  " + " ".join("x" if seen else "." for seen in row))
    print("\nthe same as boundaries, both rows end to end, for 8 texts or fewer:")
    print("  " + str(cu_seqlens(batch.documents, max_length=8, size=9).tolist()))


if __name__ == "__main__":
    run(_demo)
