"""Saved while training goes on, a run is the run that waits; and whatever kills it or fills the
disk, so is what it leaves.
"""

import errno
import functools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp

import gpt.checkpoint
import gpt.weights
from gpt import background
from gpt.background import BackgroundError, Writer, is_wanted
from gpt.checkpoint import State, check_files, load_last, save_best, save_last
from gpt.optimizer import make_optimizer
from gpt.parallel import ALONE, Ranks, joined
from gpt.pieces import load_pieces, own_share
from gpt.preflight import try_a_save
from gpt.settings import TrainSettings
from gpt.start import begin, take_over
from gpt.stopping import StopRequests
from gpt.train import FINISHED, STOPPED, Run, count_step, save, take_step
from gpt.tuning import tune
from gpt.weights import WeightsError, load_model
from tests.ranks import mask_some, on_ranks, start_ranks, train_together
from tests.runs import (
    ROOT,
    assert_same_run,
    context,
    fail_in_step,
    make_world,
    run_to_end,
    settings_in,
    told,
)
from tests.test_parallel import KINDS, UNEVEN
from tests.test_train import NOISY, AskedAt, n_lines
from tests.tiny import random_model

ALWAYS = {"epochs": 6.0, "save_every": 3, "background_saving": "always"} | NOISY


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def waited(world):
    """A run with dropout and accumulation, which waits for each save."""
    settings = settings_in(world, "waited", **ALWAYS | {"background_saving": "never"})
    run, ended = run_to_end(settings)
    assert ended == FINISHED
    return run.folder


@pytest.fixture
def out(tmp_path):
    """A folder for a run in the same world."""
    return {"out": str(tmp_path / "run")} | ALWAYS


def facts(folder: Path) -> dict:
    found = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    for name in ("seconds", "step_seconds"):
        found.get("state", {}).pop(name, None)
    return found


def assert_same_saves(one: Path, other: Path) -> None:
    assert_same_run(one, other)
    for name in ("best", "last"):
        assert facts(one / name) == facts(other / name), name
        assert {p.name for p in (one / name).iterdir()} == {
            p.name for p in (other / name).iterdir()
        }
    assert not [path.name for path in other.iterdir() if path.name.startswith((".best", ".last"))]


def in_the_thread() -> bool:
    return threading.current_thread() is not threading.main_thread()


def a_slow_disk(monkeypatch, metrics: Path, n_steps: int) -> list[bool]:
    """Of each save in the background: whether a step was taken before it was written."""
    overtaken: list[bool] = []
    for module in (gpt.weights, gpt.checkpoint):
        monkeypatch.setattr(
            module, "save_file", slowly(module.save_file, metrics, n_steps, overtaken)
        )
    return overtaken


def slowly(save_file, metrics: Path, n_steps: int, overtaken: list[bool]):
    def save(*arguments, **named):
        before, until = n_lines(metrics), time.monotonic() + 0.2
        if in_the_thread() and before <= n_steps:  # there are steps to come
            while n_lines(metrics) == before and time.monotonic() < until:
                time.sleep(0.001)
            overtaken.append(n_lines(metrics) > before)
        return save_file(*arguments, **named)

    return save


# ---- what a writer keeps -------------------------------------------------------------------


def nothing():
    raise AssertionError("asked for again")
    yield


def test_what_is_kept_stays_and_lies_where_the_last_was():
    weight, writer = torch.ones(3), Writer(in_background=True)
    kept = writer.keep("model", 1, [("weight", weight)])["weight"]
    weight += 1
    assert kept.tolist() == [1, 1, 1]
    assert writer.keep("model", 1, nothing())["weight"] is kept  # of the same step, once
    assert writer.keep("model", 2, [("weight", weight)])["weight"] is kept
    assert kept.tolist() == [2, 2, 2]


def test_what_could_not_all_be_kept_is_kept_anew():
    def half():
        yield "a", torch.ones(2)
        raise OSError

    writer = Writer(in_background=True)
    with pytest.raises(OSError):
        writer.keep("model", 1, half())
    kept = writer.keep("model", 1, [("a", torch.zeros(2)), ("b", torch.zeros(1))])
    assert kept["a"].tolist() == [0, 0] and set(kept) == {"a", "b"}


def test_the_next_step_is_kept_when_this_one_is_written_and_another_kind_at_once():
    weight, writer, may_write = torch.ones(1), Writer(in_background=True), threading.Event()
    written = []
    kept = writer.keep("model", 1, [("weight", weight)])["weight"]

    def write():
        assert may_write.wait(30)
        written.append(kept.item())

    writer.do(write, "model")
    writer.do(lambda: written.append("second"))
    weight += 1
    writer.keep("moments", 1, [("weight", weight)])
    assert written == []
    threading.Timer(0.05, may_write.set).start()
    writer.keep("model", 2, [("weight", weight)])
    assert written[0] == 1 and kept.item() == 2
    writer.wait()
    assert written == [1, "second"]


def test_a_fault_is_raised_wherever_the_loop_looks_and_nothing_is_written_after_it():
    writer, written = Writer(in_background=True), []
    writer.do(functools.partial(os.stat, "/no/such/file"), "model")
    writer.do(lambda: written.append(1), "model")
    writer.join()
    for look in (writer.check, writer.wait, lambda: writer.keep("model", 2, nothing())):
        with pytest.raises(FileNotFoundError):
            look()
    assert written == []


def test_no_memory_for_a_copy_ends_with_what_helps(monkeypatch):
    def empty_like(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(background.torch, "empty_like", empty_like)
    with pytest.raises(BackgroundError, match="--background-saving never needs none"):
        Writer(in_background=True).keep("model", 1, [("weight", torch.ones(2))])


class OnAGpu(torch.Tensor):
    """Says that it is on the second of two, of which the first is the current one."""

    is_cuda, device = True, torch.device("cuda", 1)


def test_the_copies_are_waited_for_on_the_gpu_that_makes_them(monkeypatch):
    waited_for, pinned = [], []

    class Stream:
        def __init__(self, device=None) -> None:
            self.synchronize = lambda: waited_for.append(device)

    def empty_like(tensor, device, pin_memory):
        pinned.append(pin_memory)
        return torch.empty(tensor.shape, device=device)

    monkeypatch.setattr(background.torch, "empty_like", empty_like)
    monkeypatch.setattr(background.torch.cuda, "current_stream", Stream)
    tensors = [(name, torch.ones(2).as_subclass(OnAGpu)) for name in ("a", "b")]
    Writer(in_background=True).keep("model", 1, tensors)
    assert waited_for == [torch.device("cuda", 1)] and pinned == [True, True]


@pytest.mark.parametrize(
    ("asked", "on_cpu", "on_cuda"),
    [("auto", False, True), ("always", True, True), ("never", False, False)],
)
def test_by_itself_only_cuda_is_saved_from_in_the_background(asked, on_cpu, on_cuda):
    settings = TrainSettings(background_saving=asked)
    assert is_wanted(settings, torch.device("cpu")) == on_cpu
    assert is_wanted(settings, torch.device("cuda", 1)) == on_cuda


def test_where_the_copy_would_not_fit_nobody_has_to_ask_for_none(monkeypatch):
    settings, gpu = TrainSettings(), torch.device("cuda", 0)
    for free, n_bytes, wanted in ((100, 50, True), (100, 51, False), (None, 51, True)):
        monkeypatch.setattr(background, "free_memory", lambda free=free: free)
        assert is_wanted(settings, gpu, n_bytes) is wanted
        assert is_wanted(replace(settings, background_saving="always"), gpu, n_bytes)


def test_a_model_that_learns_on_is_written_as_it_was(tmp_path):
    model, writer, may_write = random_model(), Writer(in_background=True), threading.Event()
    save_best(model, tmp_path / "at once", 1, 0.5)
    writer.do(lambda: may_write.wait(30))
    save_best(model, tmp_path / "later", 1, 0.5, writer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    may_write.set()
    writer.wait()
    for path in (tmp_path / "at once").iterdir():
        assert (tmp_path / "later" / path.name).read_bytes() == path.read_bytes(), path.name


# ---- a run -----------------------------------------------------------------------------------


def test_it_is_the_run_that_waits_and_steps_are_taken_meanwhile(world, waited, out, monkeypatch):
    overtaken = a_slow_disk(monkeypatch, Path(out["out"]) / "metrics.jsonl", 36)
    run, ended = run_to_end(settings_in(world, **out))
    assert ended == FINISHED
    assert_same_saves(waited, run.folder)
    assert sum(overtaken) > 10  # (of the others, the next save came first, and waited)


def test_stopped_anywhere_and_resumed_it_is_the_run_that_waits(world, waited, out, monkeypatch):
    a_slow_disk(monkeypatch, Path(out["out"]) / "metrics.jsonl", 36)
    settings, stops = settings_in(world, **out, resume=True), 0
    for looks in random.Random(1).choices(range(3, 12), k=200):
        run, ended = run_to_end(settings, AskedAt(looks))
        if ended != STOPPED:
            break
        stops += 1
        assert load_last(run.last)[1].step == run.state.step  # it has waited
    assert stops > 3 and ended == FINISHED
    assert_same_saves(waited, run.folder)


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_an_adapter_is_kept_alone(world, waited, tmp_path, quantize):
    adapter = {"model": str(waited), "from_scratch": False, "lora_rank": 2, "quantize": quantize}
    folders = []
    for how in ("never", "always"):
        changes = ALWAYS | adapter | {"epochs": 2.0, "background_saving": how}
        run, _ = run_to_end(settings_in(world, **changes, out=str(tmp_path / how)))
        folders.append(run.folder)
        if how == "always":
            kept = run.writer._kept
            assert set(kept["model"]) == {n for n, p in run.learner.model.named_parameters()
                                          if p.requires_grad}  # fmt: skip
    for name in ("best", "last"):
        one, other = (folder / name for folder in folders)
        assert facts(one) == facts(other)
        assert {p.name for p in one.iterdir()} == {p.name for p in other.iterdir()}


def test_a_trial_save_is_a_real_one_made_at_once(world, out):
    run = begin(settings_in(world, **out), (), lambda line: None)
    assert try_a_save(run) > 4 * run.learner.model.n_params()
    assert run.writer._newest is None


# ---- faults --------------------------------------------------------------------------------


def full_after(monkeypatch, n_saves: int) -> list[str]:
    """A disk that takes so many files of tensors and then no more; and what was asked of it."""
    asked: list[str] = []

    def fails_then(save_file):
        def save(tensors, path, **named):
            asked.append(path.parent.name)
            if len(asked) > n_saves:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return save_file(tensors, path, **named)

        return save

    for module in (gpt.weights, gpt.checkpoint):
        monkeypatch.setattr(module, "save_file", fails_then(module.save_file))
    return asked


@pytest.mark.parametrize(("n_files", "fails_in"), [(7, ".best.new"), (5, ".last.new")])
def test_a_full_disk_is_told_as_ever_and_the_save_before_it_stands(
    world, waited, out, monkeypatch, n_files, fails_in
):
    messages = []
    for how in ("never", "always"):
        shutil.rmtree(out["out"], ignore_errors=True)
        settings = settings_in(world, **out | {"background_saving": how})
        with monkeypatch.context() as patch, pytest.raises(WeightsError) as caught:
            asked = full_after(patch, n_files)
            run_to_end(settings)
        messages.append(str(caught.value))
        assert asked[n_files] == fails_in
    assert messages[0] == messages[1]
    _, state, _ = load_last(Path(settings.out) / "last")
    best = facts(Path(settings.out) / "best")
    assert best["step"] >= state.best_step  # none is told of that was not written
    run, _ = run_to_end(replace(settings, resume=True))
    assert_same_saves(waited, run.folder)


def test_a_step_that_fails_waits_for_the_save_under_way_and_is_saved(
    world, waited, out, monkeypatch
):
    settings = settings_in(world, **out)
    a_slow_disk(monkeypatch, Path(settings.out) / "metrics.jsonl", 36)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="a kernel"):
        fail_in_step(11, patch)
        run_to_end(settings)
    assert load_last(Path(settings.out) / "last")[1].step == 10
    run, _ = run_to_end(replace(settings, resume=True))
    assert_same_saves(waited, run.folder)


def test_a_second_ctrl_c_waits_for_no_disk(world, out, monkeypatch):
    may_write = threading.Event()
    monkeypatch.setattr(gpt.weights, "save_file", lambda *_, **__: may_write.wait(60))

    class AskedTwice(StopRequests):
        def check(self):
            if in_a_save:
                raise KeyboardInterrupt

    in_a_save = []
    do = Writer.do
    monkeypatch.setattr(Writer, "do", lambda *a: in_a_save.append(1) or do(*a))
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_to_end(settings_in(world, **out), AskedTwice())
    assert time.monotonic() - began < 30
    may_write.set()


INTERRUPTED = """
import signal, threading
import torch
from gpt.background import Writer
from gpt.cli import run

def look():
    numbers = torch.rand(10_000_000)
    while True:
        numbers.aminmax()

def main():
    writer = Writer(in_background=True)
    writer.do(look)
    threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT)).start()
    try:
        writer.wait()
    except KeyboardInterrupt:
        writer.abandon()
        raise

run(main)
"""


def test_nor_does_what_the_thread_is_at_make_its_end_an_abort():
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], cwd=ROOT, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr, ended.stdout) == (130, "interrupted\n", "")


# ---- kills ---------------------------------------------------------------------------------


def resume_until(settings: TrainSettings, moment: int) -> None:
    """Go on, and die in the thread that writes, before the so-manieth of its operations."""
    torch.set_num_threads(1)
    left = [moment]

    def before(real):
        def operation(*arguments, **named):
            if in_the_thread():
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
            return real(*arguments, **named)

        return operation

    for name in ("rename", "unlink", "mkdir", "rmdir", "write_text", "write_bytes"):
        setattr(Path, name, before(getattr(Path, name)))
    os.fsync, shutil.copymode = before(os.fsync), before(shutil.copymode)
    for module in (gpt.weights, gpt.checkpoint):
        module.save_file = before(module.save_file)
    run_to_end(settings)


def killed_while_writing(settings: TrainSettings, n_kills: int) -> None:
    """And each time what is there is whole; then it is let go on to its end."""
    draw, steps, moments = random.Random(0), [], random.Random(0).sample(range(20, 150), n_kills)
    for moment in moments:
        child = context().Process(target=resume_until, args=(settings, moment))
        child.start()
        child.join(120)
        assert child.exitcode == -signal.SIGKILL, draw
        _, state, _ = load_last(Path(settings.out) / "last")
        steps.append(state.step)
        load_model(Path(settings.out) / "best")
    assert steps == sorted(steps)
    run_to_end(settings)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and a fork server")
def test_killed_twice_in_the_midst_of_writing_it_is_the_run_that_waits(world, waited, out):
    settings = settings_in(world, **out, resume=True)
    killed_while_writing(settings, 2)
    assert_same_saves(waited, Path(settings.out))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and a fork server")
def test_killed_at_twelve_moments_of_writing_it_is_the_run_that_waits(tmp_path):
    world = make_world(tmp_path)
    long = ALWAYS | {"epochs": 18.0, "validate_every": 4}
    whole = settings_in(world, "whole", **long | {"background_saving": "never"})
    run_to_end(whole)
    settings = settings_in(world, "killed", **long, resume=True)
    killed_while_writing(settings, 12)
    assert_same_saves(Path(whole.out), Path(settings.out))


def save_for_ever(folder: Path, saved) -> None:
    """Saves whose number stands in every weight, while the next number is put there."""
    torch.set_num_threads(1)
    model, writer, number = random_model(), Writer(in_background=True), saved.value
    optimizer = make_optimizer(model, TrainSettings(), 1e-2)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    while True:
        number += 1
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(number)
                optimizer.state[parameter] = {"exp_avg": torch.full_like(parameter, number)}
        save_last(model, optimizer, scaler, State(step=number), folder, None, writer)
        saved.value = number


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and a fork server")
def test_killed_anywhere_a_save_is_of_one_step(tmp_path):
    spawn, draw, folder = context(), random.Random(0), tmp_path / "last"
    saved = spawn.Value("q", 0)
    for _ in range(20):
        before = saved.value
        child = spawn.Process(target=save_for_ever, args=(folder, saved))
        child.start()
        while saved.value < before + 3:
            time.sleep(0.0005)
        time.sleep(draw.random() * 0.03)
        child.kill()
        child.join()
        model, state, rest = load_last(folder)
        assert state.step >= saved.value - 1  # that one has waited for the one before
        for tensor in (*model.parameters(), *rest["tensors"].values()):
            assert tensor.dtype == torch.uint8 or (tensor == state.step).all()


# ---- several ranks -------------------------------------------------------------------------


def save_both_ways(several: list[TrainSettings]) -> None:
    """What a rank does: steps; a save in the background, and while it is written, another step."""
    with joined("cpu") as ranks:
        for settings in several:
            run = begin(settings, (), lambda line: None, ranks)
            take_over(run)
            steps = run.order.steps()
            for _ in range(2):
                a_step(run, next(steps).examples)
            save(run, Writer(ranks))
            if ranks.is_first:
                run.last.rename(run.folder / "at once")
            gpt.checkpoint._write_facts = slowly_told = later(gpt.checkpoint._write_facts)
            save_best(run.learner.model, run.best, run.state.step, 0.5, run.writer)
            save(run, run.writer)
            a_step(run, next(steps).examples)
            assert not run.writer._newest.is_set()
            run.writer.wait()
            gpt.checkpoint._write_facts = slowly_told.real


def a_step(run: Run, examples: np.ndarray) -> None:
    count_step(run, take_step(run, run.state.step, examples, lambda: None))


def later(real):
    def write(*arguments):
        time.sleep(0.5)
        real(*arguments)

    write.real = real
    return write


def pieces_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_pieces(folder, lambda name, shape, dtype: torch.empty(shape, dtype=dtype))


def tune_with_a_full_disk(settings: TrainSettings, rank: int) -> int:
    """What a rank does; this one finds no room for a file after some saves."""
    if os.environ["RANK"] == str(rank):
        patch, write = pytest.MonkeyPatch(), dcp.FileSystemWriter.write_data
        asked = full_after(patch, 3 if rank == 0 else 99)

        def write_data(*arguments):
            asked.append("a piece")
            if rank > 0 and len(asked) > 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(*arguments)

        patch.setattr(dcp.FileSystemWriter, "write_data", write_data)
    return tune(settings, ())


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_disk_that_is_full_for_one_of_several_ranks_ends_all_and_one_says_why(
    world, tmp_path, rank
):
    settings = settings_in(world, **UNEVEN, out=str(tmp_path / "run"), background_saving="always")
    processes = start_ranks(3, tune_with_a_full_disk, settings, rank, log=tmp_path / "log")
    for process in processes:
        process.join(100)
    assert [process.exitcode for process in processes] == [1, 1, 1]
    told = "".join(path.read_text(encoding="utf-8") for path in tmp_path.glob("log.*"))
    assert len(re.findall("^error: .*No space left on device", told, re.MULTILINE)) == 1
    assert len(re.findall("^error: ", told, re.MULTILINE)) == 1
    assert check_files(Path(settings.out) / "last")["state"]["step"] in (0, 5)


@pytest.mark.slow
def test_the_pieces_of_several_ranks_are_of_the_step_that_asked(world, tmp_path):
    several = [
        settings_in(world, **UNEVEN, out=str(tmp_path / kind), shard=kind == "sharded",
                    background_saving="always")
        for kind in KINDS
    ]  # fmt: skip
    on_ranks(3, save_both_ways, several)
    for settings in several:
        one, other = Path(settings.out) / "at once", Path(settings.out) / "last"
        ours, theirs = pieces_of(one), pieces_of(other)
        assert ours.keys() == theirs.keys() and len(ours) > 20
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        for name in ("model.safetensors", "template.json"):
            assert (one / name).read_bytes() == (other / name).read_bytes()
        assert (one / "model.safetensors").read_bytes() == (
            other.parent / "best" / "model.safetensors"
        ).read_bytes()
        assert len(list(other.glob("*.distcp"))) == 3
        assert check_files(other)["state"]["step"] == 2


@pytest.mark.slow
def test_several_ranks_take_the_same_steps_and_any_number_goes_on_with_them(world, tmp_path):
    def of_kind(kind: str, how: str) -> TrainSettings:
        return settings_in(
            world, **UNEVEN, out=str(tmp_path / f"{kind}-{how}"), shard=kind == "sharded",
            background_saving=how,
        )  # fmt: skip

    several = [of_kind(kind, how) for kind in KINDS for how in ("never", "always")]
    on_ranks(3, train_together, several, mask_some, 8)
    on_ranks(2, train_together, [replace(s, resume=True) for s in several], mask_some)
    for kind in KINDS:
        one, other = (tmp_path / f"{kind}-{how}" for how in ("never", "always"))
        assert told(one) == told(other)
        for name in ("best", "last"):
            path = f"{name}/model.safetensors"
            assert (one / path).read_bytes() == (other / path).read_bytes()
        ours, theirs = pieces_of(one / "last"), pieces_of(other / "last")
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_what_all_ranks_have_alike_is_shared_out():
    tensors = {f"{i}": torch.zeros(n) for i, n in enumerate((7, 7, 1, 3, 3, 1, 20, 2))}
    shares = [own_share(tensors, Ranks(rank, 3)) for rank in range(3)]
    assert sorted(name for share in shares for name in share) == sorted(tensors)
    loads = [sum(t.numel() for t in share.values()) for share in shares]
    assert max(loads) - min(loads) <= 20
    assert own_share(tensors, ALONE) == tensors
