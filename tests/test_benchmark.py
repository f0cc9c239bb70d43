"""The benchmark shows only what did the same work, and its page says what its rounds say."""

import json
import os
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch

from benchmarks import generation, report, training
from benchmarks.book_loop import BookLoop
from benchmarks.our_loop import OURS, Lever, OurLoop, reference
from benchmarks.rounds import Plan, alternate
from benchmarks.training import GRADIENT, LOSS
from benchmarks.trl_loop import SHIPPED, TUNED, TrlLoop
from benchmarks.work import LIKE_LENGTHS, SHUFFLED, flops_per_token, make_work, sample_steps
from benchmarks.workers import WayFailed, Worker
from gpt import laid_out, passes, product, screening, slots
from gpt.config import PUBLISHED
from gpt.hardware import KERNELS_KEPT, has_amx
from gpt.laid_out import SOON
from gpt.setting_rules import check_each
from gpt.settings import TrainSettings
from gpt.weights import load_model
from tests.runs import make_world

ROOT = Path(__file__).resolve().parents[1]
ONE_ROUND = Plan(seconds=1.0, rounds=1, tiny=True)


class Here:
    """A worker without a process of its own, for a test has no time to start one."""

    def __init__(self, kind, *arguments):
        self.served = kind(*arguments)

    def call(self, method, *arguments):
        try:
            return getattr(self.served, method)(*arguments)
        except Exception as error:
            raise WayFailed(f"{type(error).__name__}: {error}") from None

    def close(self):
        pass


class OtherLoss(OurLoop):
    """Learns from prompts, too: faster or slower, it is other work."""

    def first_step(self, name, step):
        loss, norm = super().first_step("ours", step)
        return loss + 2 * LOSS, norm

    def train(self, _, steps):
        raise AssertionError("it is not to be timed")


class OtherGradient(OtherLoss):
    def first_step(self, name, step):
        loss, norm = OurLoop.first_step(self, "ours", step)
        return loss, norm * (1 + 2 * GRADIENT)


class Same(OurLoop):
    def first_step(self, name, step):
        loss, norm = super().first_step("ours", step)
        return loss + LOSS / 2, norm

    def train(self, name, steps):
        return super().train("ours", steps)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def work(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("work") / "model"
    data, vocabulary = world / "letters.json", world / "vocabulary"
    return make_work(folder, "tiny", data, vocabulary, "cpu", "fp32", 1, 4)


@pytest.fixture
def no_processes(monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.setattr(training, "Worker", Here)
    monkeypatch.setattr(generation, "Worker", Here)
    yield
    torch.set_num_threads(threads)


def names_in(table) -> list[str]:
    return [row[0] for row in table["rows"]]


# ---- the same work ---------------------------------------------------------------------------


def test_a_way_with_another_loss_or_gradient_is_not_shown(work, no_processes, monkeypatch):
    entrants = {
        name: ((), kind, ({"ours": OURS},), {name: SHUFFLED})
        for name, kind in (("loss", OtherLoss), ("gradient", OtherGradient), ("same", Same))
    }
    monkeypatch.setattr(training, "others", lambda: entrants)
    part = training.bench_training(work, ONE_ROUND)
    for table in part.tables:
        assert names_in(table) == ["ours", "same"]
        notes = "\n".join(table["notes"])
        assert "loss: not shown, as its first loss is" in notes
        assert "gradient: not shown, as its first gradient is" in notes
    for ways in part.rounds.values():
        assert not {"loss", "gradient"} & set(ways)
    assert all(bars["names"] == ["ours", "same"] for bars in part.bars)


def test_a_cpu_with_native_bf16_races_in_fp32_too(work, no_processes, monkeypatch):
    monkeypatch.setattr(training, "missing", lambda *packages: [packages[0]])
    part = training.bench_training(replace(work, precision="bf16"), ONE_ROUND)
    assert [table["title"] for table in part.tables] == [
        f"Training in {precision}, {size} examples a step"
        for precision in ("bf16", "fp32")
        for size in (4, 8)
    ]
    assert all(names_in(table) == ["ours"] for table in part.tables)
    rounds = training.bench_training(work, ONE_ROUND).rounds
    assert not any("bf16" in title for title in rounds)


def test_nothing_is_shown_where_ours_is_what_differs(work, no_processes, monkeypatch):
    monkeypatch.setattr(training, "others", lambda: {})
    monkeypatch.setattr(training, "OurLoop", OtherLoss)
    part = training.bench_training(work, ONE_ROUND)
    assert [table["rows"] for table in part.tables] == [[], []]
    assert all("ours: not shown" in table["notes"][0] for table in part.tables)


def test_a_peer_that_is_not_installed_is_named_and_left_out(work, no_processes, monkeypatch):
    entrants = {"a peer": (("no_such_package",), Same, ({"ours": OURS},), {"a way": SHUFFLED})}
    monkeypatch.setattr(training, "others", lambda: entrants)
    part = training.bench_training(work, ONE_ROUND)
    assert all(names_in(table) == ["ours"] for table in part.tables)
    assert "a peer: left out, as no_such_package is not installed" in part.tables[0]["notes"]


def test_each_lever_begins_with_the_same_loss_and_gradient(work, no_processes, monkeypatch):
    levers = dict(training.LEVERS)
    del levers["with torch.compile"]  # a minute
    levers["without a setting of tomorrow"] = Lever({"of_tomorrow": False})
    monkeypatch.setattr(training, "LEVERS", levers)
    part = training.bench_ladder(work, ONE_ROUND)
    [table] = part.tables
    shown = {name for name, lever in levers.items() if lever.exists and lever.matters_to(work)}
    assert set(names_in(table)) == {"ours", *shown}
    assert len(shown) >= 6
    assert "without a setting of tomorrow: there is no such setting here" in table["notes"]


@pytest.mark.parametrize("name", training.LEVERS)
def test_a_lever_is_what_a_run_may_be_asked_for(name):
    lever = training.LEVERS[name]
    check_each(TrainSettings(**lever.settings))
    assert lever.process_wide == ("tune_malloc" in lever.settings or not lever.few_kernels)


def test_a_lever_is_shown_where_it_makes_a_difference(work):
    name = "without filling up"
    for device, precision, is_shown in (
        ("cpu", "bf16", True), ("cpu", "fp32", False), ("cuda:1", "bf16", False),
    ):  # fmt: skip
        there = replace(work, device=device, precision=precision)
        assert training.LEVERS[name].matters_to(there) is is_shown
        assert training.LEVERS["without a head in tiles"].matters_to(there) is ("cuda" in device)
    loop = OurLoop(work, {"ours": OURS, name: training.LEVERS[name]})
    for which, multiple in (("ours", 32), (name, 1)):
        loop._take_up(which)[0].multiple = 32
        assert loop._take_up(which)[0].multiple == multiple


def test_a_lever_that_was_pulled_is_pulled(work):
    loop = OurLoop(work, {"ours": OURS, "off": training.LEVERS["without fused AdamW"]})
    for name, fused in (("off", False), ("ours", True), ("off", False)):
        learner, _ = loop._take_up(name)
        assert all(group["fused"] is fused for group in learner.optimizer.param_groups)


def test_a_step_at_a_rate_of_zero_leaves_the_weights(work):
    loop = OurLoop(work, {"ours": OURS})
    first = loop.first_step("ours", [0, 1, 2])
    loop.train("ours", [[3, 4, 5]])
    assert loop.first_step("ours", [0, 1, 2]) == first  # and begins with those of the file again
    assert first == pytest.approx(reference(work, [0, 1, 2]), rel=1e-5)
    for a, b in zip(loop.model.parameters(), load_model(work.folder).parameters(), strict=True):
        assert torch.equal(a, b)


def test_both_groupings_are_the_same_examples_from_short_to_long(work):
    sample = sample_steps(work, 5)
    alike, shuffled = (sample.steps[name] for name in (LIKE_LENGTHS, SHUFFLED))
    assert np.shape(alike) == np.shape(shuffled) == (5, work.batch_size)
    chosen = sorted(np.ravel(alike))
    assert chosen == sorted(np.ravel(shuffled)) != np.ravel(shuffled).tolist()
    assert len(set(chosen)) == sample.n_examples == 5 * work.batch_size
    assert sample.n_tokens == work.examples.lengths[chosen].sum()
    assert sample.padding[LIKE_LENGTHS] <= sample.padding[SHUFFLED]
    everything = sample_steps(work, 1000)
    assert everything.n_examples == len(work.examples) // work.batch_size * work.batch_size


def test_the_arithmetic_of_a_token_is_that_of_the_published_models():
    # 6 for each weight of a matrix, of which the 124M have so many beside wpe, biases and norms.
    in_matrices = 12 * 12 * 768**2 + 50257 * 768
    assert flops_per_token(PUBLISHED["gpt2"], 0) == 6 * in_matrices
    assert flops_per_token(PUBLISHED["gpt2"], 256) == pytest.approx(0.770e9, rel=1e-3)
    assert flops_per_token(PUBLISHED["gpt2-xl"], 256) == pytest.approx(9.566e9, rel=1e-3)


def test_answers_may_differ_only_where_two_tokens_are_equally_likely(work):
    model = load_model(work.folder)
    prompt = work.prompts[0]
    scores = model(torch.tensor([prompt]))[0, -1]
    best, second = scores.topk(2).indices.tolist()
    assert generation.same_but_for_ties(model, prompt, [best, 5], [best, 5])
    assert not generation.same_but_for_ties(model, prompt, [best, 5], [second, 5])
    with torch.no_grad():
        model.wte.weight[second] = model.wte.weight[best]
    assert generation.same_but_for_ties(model, prompt, [best, 5], [second, 7])


# ---- turns and processes ---------------------------------------------------------------------


def test_ways_take_turns_and_the_round_that_warms_up_does_not_count():
    turns = []
    times = alternate(Plan(9.0, rounds=3), a=lambda: turns.append("a"), b=lambda: turns.append("b"))
    assert "".join(turns) == "abababab"
    assert [len(of_each) for of_each in times.values()] == [3, 3]


def test_as_many_rounds_are_planned_as_fit_and_one_at_least():
    assert Plan(60.0).rounds_of(cost=10.0, spent=15.0) == 4
    assert Plan(60.0).rounds_of(cost=100.0, spent=0.0) == 1
    assert Plan(60.0, rounds=7).rounds_of(cost=100.0, spent=0.0) == 7


class Counter:
    def __init__(self, start):
        self.count = start

    def add(self, n):
        print("what it prints does not get between")
        self.count += n
        return self.count

    def die(self):
        os._exit(1)


def test_a_worker_survives_an_error_and_its_death_is_told():
    worker = Worker(Counter, 40)
    try:
        assert worker.call("add", 2) == 42
        with pytest.raises(WayFailed, match="TypeError"):
            worker.call("add", "x")
        assert worker.call("add", 1) == 43
        for _ in range(2):
            with pytest.raises(WayFailed, match="its process was ended"):
                worker.call("die")
    finally:
        worker.close()
    with pytest.raises(WayFailed, match="TypeError"):
        Worker(Counter)  # it cannot even be made


# ---- the command -----------------------------------------------------------------------------


@pytest.mark.parametrize("here", [True, False])
def test_answers_are_timed_in_fp32_and_in_what_a_run_is_given(
    work, no_processes, monkeypatch, here
):
    """And without each lever, in the precision that it is for, if it does anything here."""
    monkeypatch.setattr(product, "pays_here", lambda: here)
    monkeypatch.setattr(generation, "has_amx", lambda: here)
    monkeypatch.setattr(generation, "missing", lambda *packages: [packages[0]])
    part = generation.bench_generation(replace(work, precision="bf16"), ONE_ROUND)
    for precision, table in zip(("fp32", "bf16"), part.tables, strict=True):
        assert table["title"] == f"Generation, {precision}"
        levers = [n for n, lever in generation.LEVERS.items() if lever.precision == precision]
        if not here:
            levers = [name for name in levers if name == "what prompts share"]
        assert names_in(table) == ["ours", *(f"ours, without {name}" for name in levers)]


def run_command(world, out, monkeypatch, *arguments):
    given = ["--size", "tiny", "--rounds", "1", "--threads", "1", "--batch", "4", "--device", "cpu"]
    given += ["--data", world / "letters.json", "--vocabulary", world / "vocabulary", "--out", out]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *map(str, given), *arguments])
    runpy.run_path(str(ROOT / "scripts" / "benchmark.py"), run_name="__main__")


def test_the_page_is_made_of_the_rounds_and_only_when_all_parts_ran(
    world, tmp_path, monkeypatch, capsys, no_processes
):
    monkeypatch.setattr(training, "missing", lambda *packages: [packages[0]])
    monkeypatch.setattr(generation, "missing", lambda *packages: [packages[0]])
    kept = {n: training.LEVERS[n] for n in ("without buckets", "without fused AdamW")}
    monkeypatch.setattr(training, "LEVERS", kept)
    run_command(world, tmp_path, monkeypatch, "ladder")
    assert "without buckets" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []  # one part alone is printed

    out = tmp_path / "a folder" / "that is new"
    run_command(world, out, monkeypatch)
    found = json.loads((out / "benchmarks.json").read_text(encoding="utf-8"))
    page = (out / "benchmarks.md").read_text(encoding="utf-8")
    assert page == report.page(found)
    assert (out / "benchmarks.svg").read_bytes().startswith(b"<?xml")
    assert "TRL tuned: left out, as trl is not installed" in page
    assert "the book: left out, as llms_from_scratch is not installed" in page
    assert "transformers: left out, as transformers is not installed" in page
    title = "The ladder: one lever at a time, 4 examples a step"
    rounds = found["parts"]["ladder"]["rounds"][title]
    for name in kept:
        ratio = median(rounds["ours"]) / median(rounds[name])
        assert any(
            f"| {name} |" in line and f"| {ratio:.2f} |" in line for line in page.split("\n")
        )


@pytest.mark.parametrize(
    "arguments, told",
    [(["trainin"], "no part"), (["--rounds", "0"], "--rounds"), (["--size", "gpt3"], "--size")],
)
def test_what_cannot_be_meant_is_refused(world, tmp_path, monkeypatch, capsys, arguments, told):
    with pytest.raises(SystemExit) as ended:
        run_command(world, tmp_path, monkeypatch, *arguments)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_a_folder_that_cannot_be_is_told_of_before_the_first_round(
    world, tmp_path, monkeypatch, capsys
):
    (tmp_path / "a file").write_text("", encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        run_command(world, tmp_path / "a file" / "within", monkeypatch)
    assert ended.value.code != 0
    heard = capsys.readouterr()
    assert "--out" in heard.err and not heard.out


# ---- peers -----------------------------------------------------------------------------------


def begins_right(loop, work) -> None:
    step = np.argsort(work.examples.lengths)[[0, 9, -1]].tolist()  # so that there is padding
    for _ in range(2):
        first = loop.first_step("", step)
        assert training.fault(first, reference(work, step)) is None
        assert loop.train("", [step, step[::-1]]) > 0
    other = reference(replace(work, folder=work.folder), step[:2])
    assert training.fault(first, other) is not None


def test_the_books_loop_does_the_same_work(work):
    pytest.importorskip("llms_from_scratch", reason="the package of the book is a peer")
    begins_right(BookLoop(work), work)


@pytest.mark.parametrize(
    ("package", "make"),
    [("llms_from_scratch", BookLoop), ("trl", lambda work: TrlLoop(work, TUNED)),
     ("transformers", lambda work: generation.TheirWriter(work).load()),
     ("llms_from_scratch", lambda work: generation.BookWriter(work).load())],
)  # fmt: skip
def test_a_peer_keeps_the_kernels_that_torch_keeps_by_itself(package, make, work, monkeypatch):
    pytest.importorskip(package, reason=f"{package} is a peer")
    ours, (name, *_) = dict(KERNELS_KEPT), KERNELS_KEPT
    for how_many in (ours, ours | {name: "9"}):  # as it is inherited, and as somebody asked for it
        for key, n in how_many.items():
            monkeypatch.setenv(key, n)
        make(work)
        left = {key: os.environ[key] for key in ours if key in os.environ}
        assert left == {key: n for key, n in how_many.items() if n != ours[key]}


def test_the_books_tokens_and_those_of_transformers_are_ours(work):
    pytest.importorskip("transformers", reason="transformers is a peer")
    prompts, n = work.prompts, 8
    _, right = generation.OurWriter(work).answer(prompts, n, None, "fp32")
    for how in ((1, False), (3, True), (len(prompts), False)):
        _, new = generation.TheirWriter(work).answer(prompts, n, how, "fp32")
        model = load_model(work.folder)
        for prompt, one, other in zip(prompts, right, new, strict=True):
            assert len(one) == len(other) == n
            assert generation.same_but_for_ties(model, prompt, one, other)
    pytest.importorskip("llms_from_scratch", reason="the package of the book is a peer")
    _, new = generation.BookWriter(work).answer(prompts[:2], n, None, "fp32")
    for prompt, one, other in zip(prompts, right, new, strict=False):
        assert generation.same_but_for_ties(model, prompt, one, other)


def test_what_was_rounded_for_one_race_is_whole_again_in_the_next(work):
    writer, right = generation.OurWriter(work), load_model(work.folder).wte.weight
    for precision, is_whole in (("fp32", True), ("bf16", False), ("fp32", True)):
        writer.answer(work.prompts, 2, None, precision)
        assert torch.equal(writer.model.wte.weight.float(), right) is is_whole


WITH_AMX = pytest.mark.skipif(not has_amx(), reason="this CPU multiplies bf16 without AMX")
OF_AMX = [
    pytest.param(name, marks=WITH_AMX) if lever.precision == "bf16" else name
    for name, lever in generation.LEVERS.items()
]


@pytest.mark.parametrize("name", OF_AMX)
def test_without_a_lever_of_generation_the_tokens_are_the_same(work, name, monkeypatch):
    """Each does what it is named after, and nothing of that where it is left."""
    precision = generation.LEVERS[name].precision
    prompts, n = work.prompts * 4, SOON  # so many rows that their products are turned
    monkeypatch.setattr(product, "pays_here", lambda: True)
    monkeypatch.setattr(screening, "is_worth_it", lambda head: head.dtype == torch.float32)
    writer, model = generation.OurWriter(work), load_model(work.folder)
    done: set[str] = set()
    of_lever = {
        "turned products": [(product, "turned_product")],
        "what prompts share": [(passes, "n_alike"), (slots, "each_once")],
        "a screened head": [(screening.Screen, "candidates")],
        "weights laid out": [(laid_out, "_turned")],
        "keys kept in bf16": [(slots.Slots, "_by_kernel")],
    }
    for name_of_lever, functions in of_lever.items():
        for owner, function in functions:
            inner = getattr(owner, function)

            def watched(*given, name=name_of_lever, inner=inner, **more):
                done.add(name)
                return inner(*given, **more)

            monkeypatch.setattr(owner, function, watched)
    _, right = writer.answer(prompts, n, None, precision)
    assert name in done
    done.clear()
    _, new = writer.answer(prompts, n, {"without": name}, precision)
    assert name not in done and done
    if precision == "bf16":  # rounded elsewhere, tokens may change places that are nearly equal
        monkeypatch.setattr(generation, "TIE", 0.02)
    assert all(map(lambda *a: generation.same_but_for_ties(model, *a), prompts, right, new))


@pytest.mark.slow  # half of it is what TRL imports
@pytest.mark.parametrize("settings", [SHIPPED, TUNED])
def test_the_loop_of_trl_does_the_same_work(work, settings):
    pytest.importorskip("trl", reason="TRL is a peer")
    begins_right(TrlLoop(work, settings), work)
