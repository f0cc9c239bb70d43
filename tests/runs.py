"""A small world to train in: letters before and after letters, a vocabulary of 40 merges."""

import contextlib
import io
import json
import multiprocessing
import os
import runpy
import sys
import traceback
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from gpt import run_folder
from gpt.learner import Learner
from gpt.progress import Progress
from gpt.settings import TrainSettings
from gpt.start import begin, take_over
from gpt.stopping import StopRequests
from gpt.tokenizer import learn_merges, tiny_vocabulary
from gpt.train import Run, train

ROOT = Path(__file__).parents[1]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
# What two runs of one seed may differ in.
TIMES = ("seconds", "tokens_per_second", "memory_bytes")


def make_world(folder: Path) -> Path:
    asked = [(f"What comes after {a}?", b) for a, b in pairwise(LETTERS)]
    asked += [(f"What comes before {b}, and in capitals?", a.upper()) for a, b in pairwise(LETTERS)]
    records = [
        {"instruction": q, "output": a, "split": "validation" if i % 9 == 4 else "train"}
        for i, (q, a) in enumerate(asked)
    ]
    (folder / "letters.json").write_text(json.dumps(records), encoding="utf-8")
    (folder / "vocabulary").mkdir()
    for name, content in tiny_vocabulary(learn_merges(" ".join(q for q, _ in asked), 40)).items():
        (folder / "vocabulary" / name).write_bytes(content)
    return folder


def change_letters(world: Path, change: Callable[[int, dict], object]) -> None:
    """Let `change` alter each of the world's records, given its number."""
    path = world / "letters.json"
    records = json.loads(path.read_text(encoding="utf-8"))
    for i, record in enumerate(records):
        change(i, record)
    path.write_text(json.dumps(records, indent=0), encoding="utf-8")


def settings_in(world: Path, name: str = "run", **changes) -> TrainSettings:
    settings = {
        "model": str(world / "vocabulary"), "data": [str(world / "letters.json")],
        "out": str(world / name), "template": "plain", "from_scratch": True, "n_layer": 2,
        "n_head": 2, "n_embd": 16, "n_ctx": 40, "lr": 1e-2, "epochs": 2.0, "samples": 1,
        "device": "cpu", "threads": 1,
        "precision": "fp32",  # also where the CPU would be given bf16: what is equal is so to 1e-5
    }  # fmt: skip
    return TrainSettings(**(settings | changes))


def run_to_end(settings: TrainSettings, stop: StopRequests | None = None) -> tuple[Run, str]:
    """As `tuning.tune` does it, without what it prints. Returns why the run ended, too."""
    with run_folder.locked(Path(settings.out)):
        run = begin(settings, (), lambda line: None)
        take_over(run)
        progress = Progress(run.n_steps, run.state.step, io.StringIO())
        if stop is not None:
            return run, train(run, progress, stop)
        with StopRequests() as stop:
            return run, train(run, progress, stop)


class Ended(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run_script(name: str, *arguments: str) -> Ended:
    """scripts/NAME.py in this process: seconds less than in one that has to import torch first."""
    path = Path(__file__).parents[1] / "scripts" / f"{name}.py"
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="\n") for _ in range(2))
    argv, sys.argv = sys.argv, [str(path), *arguments]
    code: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_path(str(path), run_name="__main__")
    except SystemExit as ended:
        code = ended.code or 0
    except Exception:
        code = 1
        traceback.print_exc(file=err)
    finally:
        sys.argv = argv
    for stream in (out, err):
        stream.flush()
    return Ended(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))


def told(folder: Path) -> list[dict]:
    """The lines of metrics.jsonl, without what no two runs have alike."""
    text = (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def assert_same_run(one: Path, other: Path) -> None:
    """The same metrics, samples, and bits of every file that says what was learned."""
    assert told(one) == told(other)
    for name in ("samples.md", "best/model.safetensors", "last/model.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    for name in ("last/training.safetensors",):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def resume_in_child(settings: TrainSettings) -> None:
    """What a process does that somebody else will kill."""
    torch.set_num_threads(1)
    run_to_end(settings)


def fail_in_step(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the nth step from now fail, and no other, once dropout has drawn."""
    gradient, calls = Learner.gradient, []

    def fails_once(self, batches):
        calls.append(1)
        if len(calls) == n:
            self.loss_of(batches[0]).backward()
            raise RuntimeError("a kernel has failed")
        return gradient(self, batches)

    monkeypatch.setattr(Learner, "gradient", fails_once)


def context() -> multiprocessing.context.BaseContext:
    """Processes that begin with torch imported: 100 of them in seconds."""
    made = multiprocessing.get_context("forkserver")
    # The server imports in its own process, and silently goes without what it does not find.
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    # (torch._dynamo is what the first optimizer step imports, for seconds.)
    made.set_forkserver_preload(["tests.runs", "pytest", "torch._dynamo"])
    return made
