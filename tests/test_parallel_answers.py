"""Answers that several ranks give: each once, in the order of the data, and none lost by a kill."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from gpt import answering
from gpt.answering import answer_test
from gpt.answering import test_records as records_of
from gpt.parallel import ALONE, joined
from gpt.speaking import Controls
from gpt.stopping import StopRequests
from tests.ranks import on_ranks, start_ranks
from tests.runs import change_letters, make_world, run_to_end, settings_in

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no such signals"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A run, whose base is another, with a test of 20 records."""
    world = make_world(tmp_path_factory.mktemp("world"))
    sides = ("train", "test", "train", "test", "validation")
    change_letters(world, lambda i, record: record.update(split=sides[i % 5]))
    run_to_end(settings_in(world, "first", max_steps=2))
    changed = {"model": str(world / "first"), "from_scratch": False, "template": None}
    run_to_end(settings_in(world, "second", max_steps=2, **changed))
    answer(world, "alone.jsonl", ALONE)
    return world


def answer(world: Path, name: str, ranks, stop: StopRequests | None = None) -> list[dict]:
    answering._ROWS["cpu"] = 2  # so that there are several rounds
    model, controls = world / "second", Controls(max_new_tokens=12, temperature=1.0)
    return answer_test(
        model, records_of(model), world / name, world / "first", controls,
        device="cpu", say=lambda line: None, stop=stop, ranks=ranks,
    )  # fmt: skip


def answer_together(world: Path, name: str, dies: bool = False) -> int:
    with joined("cpu") as ranks, StopRequests(ranks) as stop:
        if dies and ranks.rank == 1:
            add, answers = answering.Responses.add, []

            def add_and_die(self, *args):
                add(self, *args)
                answers.append(args)
                if len(answers) == 5:
                    os.kill(os.getpid(), signal.SIGKILL)

            answering.Responses.add = add_and_die
        rows = answer(world, name, ranks, stop)
        if ranks.is_first:
            assert all(row["response"] is not None for row in rows)
    return 0


def test_three_ranks_write_the_very_file_of_one(world):
    on_ranks(3, answer_together, world, "together.jsonl")
    assert (world / "together.jsonl").read_bytes() == (world / "alone.jsonl").read_bytes()
    assert not list(world.glob("together.journal.*"))


def test_after_a_kill_nothing_is_asked_twice(world, monkeypatch):
    processes = start_ranks(2, answer_together, world, "killed.jsonl", True)
    until = time.monotonic() + 120
    for process in processes:
        process.join(max(0, until - time.monotonic()))
    assert [process.exitcode for process in processes] == [1, -signal.SIGKILL]
    journals = sorted(world.glob("killed.journal*"))
    of_each = [list(map(json.loads, path.read_bytes().splitlines()[1:])) for path in journals]
    assert len(of_each) == 2 and len(of_each[1]) == 5
    n_rows = len((world / "killed.jsonl").read_bytes().splitlines())
    there = {(told["row"], told["side"]) for told in of_each[0] + of_each[1]}
    there |= {(i, side) for i in range(n_rows) for side in ("response", "base_response")}
    assert 5 < len(there) < 40

    asked, ask = [], answering._ask
    monkeypatch.setattr(
        answering, "_ask", lambda *args: asked.extend(args[2]["row_numbers"]) or ask(*args)
    )
    answer(world, "killed.jsonl", ALONE)
    assert len(asked) == 40 - len(there)
    assert (world / "killed.jsonl").read_bytes() == (world / "alone.jsonl").read_bytes()
    assert not list(world.glob("killed.journal.*"))
