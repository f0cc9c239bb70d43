"""The loop: what a run leaves, and that nothing which happens to it makes it another run."""

import json
import random
import signal
import sys
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import gpt.train as loop
from gpt.checkpoint import check_files
from gpt.generate import generate
from gpt.learner import Diverged, Learner
from gpt.metrics_file import MetricsError, MetricsFile
from gpt.stopping import StopRequests
from gpt.train import FINISHED, OUT_OF_PATIENCE, STOPPED, Run
from gpt.weights import load_model
from tests.runs import (
    LETTERS,
    assert_same_run,
    context,
    fail_in_step,
    make_world,
    resume_in_child,
    run_to_end,
    settings_in,
    told,
)

NOISY = {"dropout": 0.1, "micro_batch_size": 2, "batch_size": 8}  # accumulation of 4


@pytest.fixture
def world(tmp_path):
    return make_world(tmp_path)


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory):
    """A run with dropout and accumulation, and its world."""
    world = make_world(tmp_path_factory.mktemp("world"))
    run, ended = run_to_end(settings_in(world, "whole", epochs=6.0, save_every=3, **NOISY))
    assert ended == FINISHED
    return run


# ---- what a run leaves ---------------------------------------------------------------------


def test_every_step_has_a_line_and_counts_what_it_learned_from(never_stopped):
    run = never_stopped
    lines = told(run.folder)
    assert [line["step"] for line in lines] == list(range(run.n_steps + 1))
    assert set(lines[0]) == {"step", "epoch", "tokens", "supervised_tokens", "val_loss"}
    assert all("train_loss" in line and "grad_norm" in line for line in lines[1:])
    data = run.data.train
    of_epoch, everything = run.order.steps_per_epoch, range(len(data.lengths))
    assert lines[of_epoch]["tokens"] == data.lengths.sum()
    assert lines[of_epoch]["supervised_tokens"] == data.n_supervised(everything)
    assert lines[of_epoch]["epoch"] == 1.0 and lines[-1]["epoch"] == 6.0
    validated = [line["step"] for line in lines if "val_loss" in line]
    assert validated == [*range(0, run.n_steps, run.settings.validate_every), run.n_steps]
    assert lines[-1]["train_loss"] < lines[1]["train_loss"] / 2


def test_best_is_the_lowest_logged_validation_loss_and_reloads_to_it(never_stopped):
    run = never_stopped
    measured = {line["val_loss"]: line["step"] for line in told(run.folder) if "val_loss" in line}
    lowest = min(measured)
    facts = json.loads((run.best / "training.json").read_text(encoding="utf-8"))
    assert (facts["validation_loss"], facts["step"]) == (lowest, measured[lowest])
    learner = Learner(
        load_model(run.folder), run.settings, run.learner.device, run.learner.precision, 0.0
    )
    assert learner.validate(run.data.validation) == pytest.approx(lowest, abs=1e-6)


def test_samples_are_answered_before_training_and_after_each_epoch(never_stopped):
    text = (never_stopped.folder / "samples.md").read_text(encoding="utf-8")
    headings = [line for line in text.splitlines() if line.startswith("## Step")]
    assert headings == [f"## Step {i * 6}, epoch {i}" for i in range(7)]


def test_logging_seldom_tells_the_mean_of_all_steps_since(world):
    often, _ = run_to_end(settings_in(world, "often", validate_every=6))
    seldom, _ = run_to_end(settings_in(world, "seldom", log_every=4, validate_every=6))
    assert [line["step"] for line in told(seldom.folder)] == [0, 4, 6, 8, 12]
    lines = told(often.folder)
    weights, before = [], 0
    for line in lines[1:5]:
        weights.append(line["supervised_tokens"] - before)
        before = line["supervised_tokens"]
    losses = [line["train_loss"] for line in lines[1:5]]
    mean = sum(w * loss for w, loss in zip(weights, losses, strict=True)) / sum(weights)
    assert told(seldom.folder)[1]["train_loss"] == pytest.approx(mean, rel=1e-6)


def test_patience_ends_a_run_that_gets_worse(world):
    settings = settings_in(world, lr=0.5, patience=2, epochs=50.0, validate_every=2, samples=0)
    run, ended = run_to_end(settings)
    assert ended == OUT_OF_PATIENCE and run.state.step < run.n_steps
    measured = [line["val_loss"] for line in told(run.folder) if "val_loss" in line]
    assert min(measured) == measured[-3] and len(measured) > 3


@pytest.mark.slow
def test_sixty_examples_are_learned_by_heart_and_their_answers_end_by_themselves(world):
    asked = [(f"What comes after {a}?", b) for a, b in pairwise(LETTERS)]
    asked += [(f"What comes before {b}?", a) for a, b in pairwise(LETTERS)]
    asked += [(f"Write {a} twice", a + a) for a in LETTERS[:10]]
    records = [{"instruction": q, "output": a, "split": "train"} for q, a in asked]
    records += [{"instruction": "What?", "output": "that", "split": "validation"}]
    (world / "letters.json").write_text(json.dumps(records), encoding="utf-8")
    settings = settings_in(
        world, n_layer=1, n_embd=64, lr=4e-3, epochs=150.0, batch_size=12, beta2=0.95,
        order="shuffled", weight_decay=0.0, validate_every=750, samples=0,
    )  # fmt: skip
    run, _ = run_to_end(settings)
    assert len(run.data.train.lengths) == 60
    assert told(run.folder)[-1]["train_loss"] < 0.02
    records = run.data.records.train
    prompts = [run.template.prompt_ids(run.tokenizer, r.turns[:-1]) for r in records]
    answers = generate(run.learner.model, prompts, 8, end_id=run.tokenizer.end_id)
    for answer, record in zip(answers, records, strict=True):
        assert run.tokenizer.decode(answer.ids) == record.turns[-1].text
        assert answer.finish_reason == "stop"


# ---- the same run --------------------------------------------------------------------------


def test_one_seed_gives_one_run_and_another_seed_another(world):
    settings = settings_in(world, "one", **NOISY)
    one, _ = run_to_end(settings)
    other, _ = run_to_end(replace(settings, out=str(world / "other")))
    assert_same_run(one.folder, other.folder)
    different, _ = run_to_end(replace(settings, out=str(world / "different"), seed=1))
    assert told(different.folder) != told(one.folder)


def test_looking_more_often_changes_nothing_that_is_learned(world):
    settings = settings_in(world, "plain", samples=0, validate_every=12, **NOISY)
    plain, _ = run_to_end(settings)
    nosy = replace(
        settings, out=str(world / "nosy"), samples=5, validate_every=1, save_every=1, log_every=2
    )
    watched, _ = run_to_end(nosy)
    ours, theirs = plain.learner.model.state_dict(), watched.learner.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


class AskedAt(StopRequests):
    """A request that comes while the n-th look for one is taken."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def check(self) -> None:
        self.looks -= 1
        if self.looks == 0:
            self.signal = signal.SIGINT
        super().check()


@pytest.fixture(params=["looks at once", "looks later"])
def looks_later(request, monkeypatch) -> bool:
    """A step as a CPU makes it, and as a GPU does: looked at when the next is on its way."""
    later = request.param == "looks later"
    if later:
        always = property(lambda learner: True, lambda learner, value: None)
        monkeypatch.setattr(Learner, "looks_later", always, raising=False)
    return later


def test_looked_at_later_it_is_the_same_run(never_stopped, world, monkeypatch):
    calls = []

    def noting(owner, name):
        real = getattr(owner, name)

        def noted(*arguments):
            calls.append(name)
            return real(*arguments)

        monkeypatch.setattr(owner, name, noted)

    for owner, name in (
        (Learner, "gradient"), (Learner, "update"), (loop, "count_step"), (loop, "validate"),
        (loop, "save"),
    ):  # fmt: skip
        noting(owner, name)
    always = property(lambda learner: True, lambda learner, value: None)
    monkeypatch.setattr(Learner, "looks_later", always, raising=False)
    settings = settings_in(
        world, epochs=6.0, save_every=3, **NOISY, data=never_stopped.settings.data
    )
    run, ended = run_to_end(settings)
    assert ended == FINISHED
    assert_same_run(run.folder, never_stopped.folder)
    # A step is told of before the next one changes a weight, and what follows it sees its weights.
    calls = calls[calls.index("gradient") :]
    assert calls[:9] == [
        "gradient", "update", "gradient", "count_step", "update", "count_step", "validate",
        "gradient", "update",
    ]  # fmt: skip
    until_saved = calls[: calls.index("save")]
    assert until_saved.count("update") == until_saved.count("count_step") == 3


def test_stopped_anywhere_and_resumed_it_is_the_run_that_was_not(never_stopped, world, looks_later):
    settings = settings_in(
        world, epochs=6.0, save_every=3, **NOISY, data=never_stopped.settings.data
    )
    stops = 0
    for looks in random.Random(0).choices(range(1, 12), k=200):
        run, ended = run_to_end(replace(settings, resume=True), AskedAt(looks))
        if ended != STOPPED:
            break
        stops += 1
    assert stops > 5 and ended == FINISHED
    assert_same_run(run.folder, never_stopped.folder)


def test_a_stop_in_the_midst_of_a_validation_leaves_the_line_to_the_resumed_run(world):
    settings = settings_in(world, batch_size=4, validate_every=3)
    whole, _ = run_to_end(settings_in(world, "whole", batch_size=4, validate_every=3))
    n_batches = -(-len(whole.data.validation.lengths) // 4)
    assert n_batches > 1
    looks = n_batches + 3 + 2  # the first validation, three steps, and into the second
    run, ended = run_to_end(settings, AskedAt(looks))
    assert ended == STOPPED and run.state.untold["step"] == 3
    assert [line["step"] for line in told(run.folder)] == [0, 1, 2]
    run, _ = run_to_end(replace(settings, resume=True))
    assert_same_run(run.folder, whole.folder)


def test_a_failed_step_is_undone_saved_and_can_be_done_again(
    never_stopped, world, monkeypatch, looks_later
):
    settings = settings_in(
        world, epochs=6.0, save_every=3, **NOISY, data=never_stopped.settings.data
    )
    fail_in_step(11, monkeypatch)
    with pytest.raises(RuntimeError, match="a kernel"):
        run_to_end(settings)
    facts = check_files(Path(settings.out) / "last")
    assert facts["state"]["step"] == 10  # saves are made at 9 and 12
    run, _ = run_to_end(replace(settings, resume=True))
    assert_same_run(run.folder, never_stopped.folder)


def test_a_line_that_cannot_be_written_leaves_its_step_to_the_resumed_run(
    never_stopped, world, monkeypatch, looks_later
):
    settings = settings_in(
        world, epochs=6.0, save_every=3, **NOISY, data=never_stopped.settings.data
    )
    append = MetricsFile.append

    def fails_once(self, line):
        if line["step"] == 11:
            monkeypatch.setattr(MetricsFile, "append", append)
            raise MetricsError("the disk is full")
        append(self, line)

    monkeypatch.setattr(MetricsFile, "append", fails_once)
    with pytest.raises(MetricsError):
        run_to_end(settings)
    state = check_files(Path(settings.out) / "last")["state"]
    assert state["step"] == state["untold"]["step"] == 11
    run, _ = run_to_end(replace(settings, resume=True))
    assert_same_run(run.folder, never_stopped.folder)


def test_a_run_that_diverges_says_so_and_keeps_the_last_good_weights(world, looks_later):
    settings = settings_in(world, lr=1e30, clip=0.0, schedule="constant", warmup=0.0, epochs=9.0)
    with pytest.raises(Diverged, match=r"step \d+: the (gradient|loss) is .*lower --lr"):
        run_to_end(settings)
    load_model(Path(settings.out) / "last")  # would refuse weights that are no numbers


def test_a_run_that_diverges_says_and_leaves_the_same_whenever_it_is_looked_at(world, monkeypatch):
    """In the midst of an epoch, with nothing to do after the step, or after the one before."""
    always = property(lambda learner: True, lambda learner, value: None)
    gradient, said, folders = Learner.gradient, [], []

    def no_number(self, batches):
        made = gradient(self, batches)
        steps.append(1)
        if len(steps) == 11:
            next(self.model.parameters()).grad.fill_(float("nan"))
            made.numbers[-1] = float("nan")
        return made

    monkeypatch.setattr(Learner, "gradient", no_number)
    for name in ("at once", "later"):
        steps = []
        settings = settings_in(world, name, epochs=6.0, validate_every=6, save_every=9, **NOISY)
        with pytest.raises(Diverged, match="step 11: the gradient is nan") as caught:
            run_to_end(settings)
        assert len(steps) == (11 if name == "at once" else 12)
        said.append(str(caught.value))
        folders.append(Path(settings.out))
        assert check_files(folders[-1] / "last")["state"]["step"] == 10
        monkeypatch.setattr(Learner, "looks_later", always, raising=False)
    assert said[0] == said[1]
    assert_same_run(*folders)
    monkeypatch.setattr(Learner, "gradient", gradient)
    whole, _ = run_to_end(replace(settings, out=str(world / "whole")))
    resumed, _ = run_to_end(replace(settings, resume=True))  # where no number comes up
    assert_same_run(resumed.folder, whole.folder)


def test_nothing_is_done_twice_when_a_finished_run_is_resumed(never_stopped):
    before = {p: p.read_bytes() for p in never_stopped.folder.rglob("*") if p.is_file()}
    settings = replace(never_stopped.settings, resume=True)
    run, ended = run_to_end(settings)
    assert ended == FINISHED and run.state.step == run.n_steps
    for path, content in before.items():
        assert path.suffix == ".json" or path.read_bytes() == content, path


# ---- killed --------------------------------------------------------------------------------


def n_lines(path):
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:  # a run that had saved nothing begins again, and clears it
        return 0


def killed_and_resumed(settings, n_kills, seed):
    """Kill the run `n_kills` times, each at a random moment, and let it end."""
    draw = random.Random(seed)
    metrics = Path(settings.out) / "metrics.jsonl"
    kills, spawn = 0, context()
    while True:
        n_before = n_lines(metrics)
        child = spawn.Process(target=resume_in_child, args=(replace(settings, resume=True),))
        child.start()
        if kills < n_kills:
            grown = n_before + draw.randrange(0, 6)
            while child.is_alive() and n_lines(metrics) <= grown:
                time.sleep(0.001)
            time.sleep(draw.random() * 0.02)
            child.kill()
        child.join()
        if child.exitcode == -signal.SIGKILL:
            kills += 1
            continue
        assert child.exitcode == 0
        return kills


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and a fork server")
def test_killed_twice_it_is_the_run_that_was_not(never_stopped, world):
    settings = settings_in(
        world, epochs=6.0, save_every=3, **NOISY, data=never_stopped.settings.data
    )
    assert killed_and_resumed(settings, 2, seed=0) == 2
    assert_same_run(Path(settings.out), never_stopped.folder)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and a fork server")
def test_killed_25_times_it_is_the_run_that_was_not(tmp_path):
    world = make_world(tmp_path)
    whole = settings_in(world, "whole", epochs=60.0, save_every=4, validate_every=7, **NOISY)
    run_to_end(whole)
    for seed in (1, 2):
        settings = replace(whole, out=str(world / f"killed{seed}"))
        assert killed_and_resumed(settings, 25, seed) == 25
        assert_same_run(Path(settings.out), Path(whole.out))


def test_a_signal_from_outside_ends_the_run_saved(world):
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread only")
    settings = settings_in(world, epochs=500.0, samples=0)
    metrics = Path(settings.out) / "metrics.jsonl"

    def send_when_it_runs() -> None:
        while n_lines(metrics) < 5:
            time.sleep(0.01)
        signal.raise_signal(signal.SIGTERM)

    threading.Thread(target=send_when_it_runs, daemon=True).start()
    run, ended = run_to_end(settings)
    assert ended == STOPPED and 0 < run.state.step < run.n_steps
    assert check_files(run.last)["state"]["step"] == run.state.step
    assert isinstance(run, Run)
