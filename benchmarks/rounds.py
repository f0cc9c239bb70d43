"""Turns, medians, and how many rounds fit into the time that there is.

A shared machine is now fast and now slow, and stays so for seconds. Ways that are timed one after
the other each meet another machine; ways that take turns (A B A B …) meet the same one, and the
ratio of their medians holds where neither of the two times does.
"""

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

ENOUGH_ROUNDS = 5  # a median of fewer is a matter of luck
MOST_ROUNDS = 25


@dataclass(frozen=True)
class Plan:
    """What a part is given."""

    seconds: float
    rounds: int | None = None  # asked for by hand; None: as many as fit
    tiny: bool = False  # for a test: the same path, next to no work

    def rounds_of(self, cost: float, spent: float) -> int:
        """How many rounds of `cost` seconds fit behind those that are spent; at least one."""
        return self.rounds or max(
            1, min(MOST_ROUNDS, int((self.seconds - spent) / max(cost, 1e-9)))
        )


@dataclass
class Part:
    """What a part has found: all of it goes to the JSON file, and from there to the page."""

    tables: list[dict] = field(default_factory=list)
    bars: list[dict] = field(default_factory=list)  # for the picture
    rounds: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # seconds

    def table(self, title: str, head: list[str], rows: list[list[str]], notes: list[str]) -> None:
        self.tables.append({"title": title, "head": head, "rows": rows, "notes": notes})


HEAD = ["what", "ours", "the other way", "ours is"]  # of the tables that compare two ways


def alternate(plan: Plan, **ways: Callable[[], object]) -> dict[str, list[float]]:
    """The seconds of each way's rounds: one round to warm up and to plan by, then in turn."""
    began = time.perf_counter()
    times: dict[str, list[float]] = {name: [] for name in ways}

    def one_round() -> None:
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)

    one_round()
    spent = time.perf_counter() - began
    cost = sum(of_each.pop() for of_each in times.values())
    for _ in range(plan.rounds_of(cost, spent)):
        one_round()
    return times


def in_turn(n_rounds: int) -> str:
    few = "" if n_rounds >= ENOUGH_ROUNDS else " (few for a median: give more --minutes)"
    return f"{n_rounds} round{'s' * (n_rounds != 1)} of each{few}, in turn"


def medians(times: dict[str, list[float]]) -> list[float]:
    return [median(of_each) for of_each in times.values()]


def missing(*packages: str) -> list[str]:
    """Those that are not installed, found without importing them."""
    return [name for name in packages if importlib.util.find_spec(name) is None]
