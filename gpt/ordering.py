"""Which examples the model sees when: shuffled, cut into optimizer steps, shared out, cut again.

    all examples ─> an epoch's order ─> steps ─> a rank's share ─> micro-batches ─> collate or pack
                    Order.of_epoch      Order.steps  share         micro_batches, or plan_rows

Nothing here touches a token: an example is its index, and all that counts of it is its length.
Everything follows from the lengths, the settings, the seed and the number of the epoch. So a run
that was killed needs no state but two numbers, `{"epoch": 1, "step": 70}`, to go on: it computes
the epoch's order anew and begins at the step, without replaying those before. And every process
of a distributed run can work out all the others' shares without a word between them.

A step is a fixed number of *examples*, whatever their lengths and however many processes there are,
because that is what a learning rate is tuned for. Lengths decide in two places only:

  - Inside a step, micro-batches of like lengths waste little on padding (`by_length`). The step
    holds the very examples that it would hold without, so its gradient is the same: exact.
  - Between steps, `buckets` lets lengths decide which examples share a step. That saves most of the
    padding at small batches, and it changes the training: long answers come eight at a time, not
    one among seven short ones, and as losses are averaged over a step's tokens, a long answer no
    longer outweighs its short neighbours. Usually harmless; never the same run as without.

    python -m gpt.ordering      # seven examples: their steps, padding, shares, and a resume
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gpt.cli import run
from gpt.errors import UserError

# How many steps' worth of examples are sorted together. On 1,100 short instructions in steps of 8,
# padding takes 19% without buckets, 4.5% with pools of 8 steps, 0.9% with 64 and 0.3% with 256.
POOL_STEPS = 256


class OrderError(UserError):
    """Settings that leave an epoch without a step, or a micro-batch without room."""


class Step(NamedTuple):
    epoch: int  # from 0
    step: int  # within the epoch, from 0
    examples: np.ndarray  # int64 indices: what this optimizer step learns from


@dataclass(frozen=True, eq=False)
class Order:
    """The order of a whole run: any epoch of it, and its steps from any place on."""

    lengths: np.ndarray  # tokens of each example
    batch_size: int  # examples an optimizer step, over all micro-batches and processes
    seed: int
    buckets: bool  # examples of like lengths share a step: see above for what that trades
    keep_last: bool  # whether the short step is run that is left when batch_size does not divide

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise OrderError(f"the batch size must be at least 1, not {self.batch_size}")
        if self.seed < 0:
            raise OrderError(f"the seed must be at least 0, not {self.seed}")
        if self.steps_per_epoch == 0:
            raise OrderError(
                f"{len(self.lengths)} examples are too few for one step of {self.batch_size}: "
                "give more data or a smaller batch size"
            )

    @property
    def steps_per_epoch(self) -> int:
        full, left = divmod(len(self.lengths), self.batch_size)
        return full + (self.keep_last and left > 0)

    def of_epoch(self, epoch: int) -> np.ndarray:
        """Every example once. Step s is the s-th slice of batch_size; a short one comes last."""
        random = np.random.PCG64([self.seed, epoch])
        order = _shuffled(len(self.lengths), random)
        return _bucketed(order, self.lengths, self.batch_size, random) if self.buckets else order

    def steps(self, epoch: int = 0, step: int = 0) -> Iterator[Step]:
        """From this place on, without end: the loop knows when it has had enough.

        What to save after a step is the place of the next, `{"epoch": epoch, "step": step + 1}`.
        Past an epoch's last step the next epoch begins.
        """
        if epoch < 0 or not 0 <= step <= self.steps_per_epoch:
            raise OrderError(
                f"there is no step {step} of epoch {epoch}: an epoch has "
                f"{self.steps_per_epoch} steps; the data or the batch size must have changed"
            )
        while True:
            order = self.of_epoch(epoch)
            for s in range(step, self.steps_per_epoch):
                yield Step(epoch, s, order[s * self.batch_size : (s + 1) * self.batch_size])
            epoch, step = epoch + 1, 0


def _shuffled(n: int, random: np.random.PCG64) -> np.ndarray:
    """A permutation that the same seed gives on every machine, for good.

    numpy promises this of the raw 64-bit draws of PCG64 and expressly not of
    `Generator.permutation`, which may change with a version (NEP 19). Sorting by raw draws is a
    permutation too, and `stable` leaves no choice even where two draws are equal.
    """
    return np.argsort(random.random_raw(n), kind="stable")


def _bucketed(
    order: np.ndarray, lengths: np.ndarray, batch_size: int, random: np.random.PCG64
) -> np.ndarray:
    """Sort each pool by length, cut it into steps, and shuffle all steps.

    The examples left over from full steps stay as they were shuffled: were they sorted too, those
    that `keep_last=False` drops would be the longest, in every epoch.
    """
    n_full = len(order) // batch_size
    in_full, left = order[: n_full * batch_size], order[n_full * batch_size :]
    pool = np.arange(len(in_full)) // (POOL_STEPS * batch_size)
    by_length = in_full[np.lexsort((np.asarray(lengths)[in_full], pool))]  # pool, then length
    steps = by_length.reshape(n_full, batch_size)[_shuffled(n_full, random)]
    return np.concatenate([steps.ravel(), left])


def share(examples: np.ndarray, rank: int, n_ranks: int) -> np.ndarray:
    """One process's part of a step. All parts end to end are the step, and sizes differ by 1.

    Where there are fewer examples than processes some parts are empty. The gradients still have to
    be summed over all, so such a process computes something that counts for nothing:
    `batching.nothing_to_learn()` has a shape, and not one target.
    """
    n = len(examples)
    return examples[rank * n // n_ranks : (rank + 1) * n // n_ranks]


def micro_batches(
    examples: np.ndarray,
    lengths: np.ndarray,
    by_length: bool,
    max_examples: int | None = None,
    max_tokens: int | None = None,
) -> list[np.ndarray]:
    """Cut examples (a step's, or a validation set) into what is computed at once.

    max_tokens is a budget on what memory sees, padding included: rows x the longest row. Sorted by
    length, the longest come first: what does not fit the memory fails at once, and not later.
    """
    if max_examples is not None and max_examples < 1:
        raise OrderError(f"a micro-batch needs room for 1 example at least, not {max_examples}")
    if by_length:
        examples = examples[np.argsort(-np.asarray(lengths)[examples], kind="stable")]
    of_each = np.asarray(lengths)[examples].tolist()
    cuts, begin, longest = [], 0, 0
    for i, length in enumerate(of_each):
        if max_tokens is not None and length > max_tokens:
            raise OrderError(
                f"example {examples[i]} has {length:,} tokens, and a micro-batch may hold "
                f"{max_tokens:,}: allow more tokens, or leave out what is so long"
            )
        n, longest = i - begin + 1, max(longest, length)
        too_wide = max_tokens is not None and n * longest > max_tokens
        if too_wide or (max_examples is not None and n > max_examples):
            cuts.append(i)
            begin, longest = i, length
    return np.split(examples, cuts) if len(examples) else []


def padding_share(parts: Iterable[np.ndarray], lengths: np.ndarray) -> float:
    """How much of what is computed is padding, when each part is padded to its longest."""
    real = padded = 0
    for part in parts:
        of_each = np.asarray(lengths)[part]
        real += int(of_each.sum())
        padded += len(part) * int(of_each.max())
    return 1 - real / padded


def _demo() -> None:
    lengths = np.array([4, 30, 5, 8, 31, 5, 28])
    print("example   " + " ".join(f"{i:>3}" for i in range(len(lengths))))
    print("tokens    " + " ".join(f"{n:>3}" for n in lengths) + "\n")

    def show(order: Order, epoch: int) -> None:
        steps = [s.examples for s, _ in zip(order.steps(epoch), range(4), strict=False)]
        text = "  ".join(str(step.tolist()) for step in steps)
        print(f"  epoch {epoch}: {text:<32} {padding_share(steps, lengths):4.0%} padding")

    for buckets in (False, True):
        print(f"steps of 2 examples, {'buckets' if buckets else 'shuffled'}:")
        order = Order(lengths, batch_size=2, seed=1, buckets=buckets, keep_last=True)
        for epoch in (0, 1):
            show(order, epoch)

    order = Order(lengths, batch_size=6, seed=1, buckets=False, keep_last=False)
    step = next(order.steps()).examples
    print(f"\none step of 6, shuffled: {step.tolist()}")
    for by_length in (False, True):
        parts = micro_batches(step, lengths, by_length, max_tokens=64)
        text = "  ".join(str(part.tolist()) for part in parts)
        how = "by length" if by_length else "as it comes"
        print(
            f"  micro-batches of at most 64 tokens, {how + ':':<12} {text:<26} "
            f"{padding_share(parts, lengths):4.0%} padding"
        )
    print("  shares of 4 processes: ", *(share(step, rank, 4).tolist() for rank in range(4)))

    order = Order(lengths, batch_size=2, seed=1, buckets=True, keep_last=True)
    never_killed = [s.examples.tolist() for s, _ in zip(order.steps(), range(8), strict=False)]
    resumed = next(order.steps(epoch=1, step=2)).examples.tolist()
    same = resumed == never_killed[6]
    print(f"\nresumed at epoch 1, step 2: {resumed}, {'the same' if same else 'OTHER'} examples")


if __name__ == "__main__":
    run(_demo)
