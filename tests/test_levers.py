"""What makes a step faster changes nothing else: not the losses of a run, and not its answers."""

import shutil
from dataclasses import replace

import pytest
import torch

from benchmarks.generation import same_but_for_ties
from benchmarks.our_loop import LEVERS, OURS, OurLoop
from benchmarks.work import SHUFFLED, Work, make_work, sample_steps
from gpt.encoding import encode_all
from gpt.generate import generate
from gpt.records import load_records
from gpt.template import template_of
from gpt.tokenizer import Tokenizer
from gpt.weights import load_model
from tests.runs import ROOT, make_world

MINI = ROOT / "checkpoints" / "mini"
PLAIN = LEVERS["plain: without all of these"]
N_STEPS = 30
NEEDS_A_COMPILER = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler"),
]


@pytest.fixture(autouse=True)
def same_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def losses_with(
    work: Work, lever, looks_later: bool = False, multiple: int | None = None
) -> tuple[OurLoop, list[float]]:
    """Of so many steps, the same examples in each, whatever the lever would have grouped."""
    loop = OurLoop(work, {"it": lever})
    learner, data = loop._take_up("it")
    learner.looks_later = looks_later  # as on a GPU
    learner.multiple = multiple or learner.multiple  # as in bf16 on a CPU with AMX
    sample = sample_steps(work, N_STEPS).steps[SHUFFLED]
    steps = (sample * N_STEPS)[:N_STEPS]
    losses = []
    for step in steps:
        learned = learner.learn([data.batch(step)], work.lr)
        losses.append(learned.loss_sum / learned.weight_sum)
    assert not loop.warnings
    return loop, losses


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Work:
    world = make_world(tmp_path_factory.mktemp("world"))
    folder = tmp_path_factory.mktemp("work") / "model"
    data, vocabulary = world / "letters.json", world / "vocabulary"
    made = make_work(folder, "tiny", data, vocabulary, "cpu", "fp32", 1, 4)
    return replace(made, lr=1e-3)  # so high that a wrong gradient is soon seen


@pytest.fixture(scope="module")
def losses_of_ours(work) -> list[float]:
    return losses_with(work, OURS)[1]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=NEEDS_A_COMPILER if "compile" in name else []) for name in LEVERS],
)
def test_thirty_steps_have_the_same_losses_with_any_lever_changed(work, losses_of_ours, name):
    assert losses_of_ours[-1] < 0.9 * losses_of_ours[0]  # it learns
    _, losses = losses_with(work, LEVERS[name])
    torch.testing.assert_close(losses, losses_of_ours, rtol=1e-5, atol=1e-5)


def test_thirty_steps_that_are_looked_at_later_are_the_same_steps(work, losses_of_ours):
    assert losses_with(work, OURS, looks_later=True)[1] == losses_of_ours


def test_thirty_steps_whose_places_are_filled_up_are_the_same_steps(work, losses_of_ours):
    _, losses = losses_with(work, OURS, multiple=32)
    torch.testing.assert_close(losses, losses_of_ours, rtol=1e-5, atol=1e-5)


def test_a_gradient_that_is_a_little_wrong_is_seen(work, losses_of_ours, monkeypatch):
    real = OurLoop._take_up

    def with_decay(self, name):
        learner, data = real(self, name)
        learner.optimizer.param_groups[0]["weight_decay"] = 0.01
        return learner, data

    monkeypatch.setattr(OurLoop, "_take_up", with_decay)
    _, losses = losses_with(work, OURS)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(losses, losses_of_ours, rtol=1e-5, atol=1e-5)


def test_mini_answers_the_same_tuned_with_all_levers_and_with_none():
    model, tokenizer, template = load_model(MINI), Tokenizer.from_folder(MINI), template_of(MINI)
    records = load_records([ROOT / "data" / "instructions.json"])
    examples = encode_all(records[:: len(records) // 120], tokenizer, template, model.config.n_ctx)
    asked = records[7 :: len(records) // 8]  # others than those that it is tuned on
    prompts = [template.prompt_ids(tokenizer, record.turns[:-1]) for record in asked]
    work = Work(
        MINI, model.config, examples, prompts, tokenizer.end_id, "cpu", "fp32", 1, 4, lr=5e-4
    )
    (fast, its_losses), (plain, losses) = (losses_with(work, lever) for lever in (OURS, PLAIN))
    assert losses[-1] < losses[0]
    torch.testing.assert_close(its_losses, losses, rtol=1e-4, atol=1e-4)

    answers = generate(fast.model, prompts, 16, end_id=-1)
    one_by_one = {"batch_size": 1, "use_cache": False, "end_id": -1}
    for prompt, answer in zip(prompts, answers, strict=True):
        [right] = generate(plain.model, [prompt], 16, **one_by_one)
        assert len(answer.ids) == 16
        assert same_but_for_ties(plain.model, prompt, right.ids, answer.ids)
