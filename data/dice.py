"""Chance that falls the same way everywhere: on every machine, with every version of Python.

Python promises this of `random.random()` for a given seed, and not of `choice` or `shuffle`, whose
algorithms have changed before. So all else is made of it here.
"""

import random
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed).random

    def below(self, n: int) -> int:
        return int(self.random() * n)

    def between(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return low + int(self.random() * (high - low + 1))

    def chance(self, share: float) -> bool:
        return self.random() < share

    def pick(self, items: Sequence[T]) -> T:
        return items[int(self.random() * len(items))]

    def sample(self, items: Sequence[T], n: int) -> list[T]:
        """n of the items, or all of them if they are fewer, in random order."""
        items = list(items)
        n = min(n, len(items))
        for i in range(n):
            j = i + int(self.random() * (len(items) - i))
            items[i], items[j] = items[j], items[i]
        return items[:n]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        return self.sample(items, len(items))

    def deck(self, items: Sequence[T]) -> Iterator[T]:
        """The items without end: all of them in random order, then all again in another."""
        while True:
            yield from self.shuffled(items)
