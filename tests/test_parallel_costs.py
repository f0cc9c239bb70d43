"""What several ranks tell each other, and what they hold: counted, beside docs/scaling.md."""

import json
import sys
import threading
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from gpt.config import GPTConfig
from gpt.model import GPT
from gpt.parallel import joined
from gpt.settings import TrainSettings
from gpt.start import begin
from gpt.tokenizer import learn_merges, tiny_vocabulary
from gpt.weights import save_model
from tests.ranks import on_ranks
from tests.runs import make_world, settings_in

HAS_SHARDING = hasattr(torch.cpu.current_stream(), "record_event")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into Linux's /proc")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


def proc(file: str, name: str) -> int:
    """A number that Linux tells of this process."""
    text = Path(f"/proc/self/{file}").read_text(encoding="ascii")
    return int(next(line for line in text.splitlines() if line.startswith(name)).split()[1])


# ---- bytes told -----------------------------------------------------------------------------


def write_bytes_of_steps(several: list[TrainSettings], n_steps: int) -> None:
    """Of each rank: what it wrote in each step, nearly all of it to the others."""
    with joined("cpu") as ranks:
        for settings in several:
            run = begin(settings, (), lambda line: None, ranks)
            steps = run.order.steps()
            batches = [
                run.learner.batches_of(run.data.train, next(steps).examples) for _ in range(n_steps)
            ]
            written = []
            for of_step in batches:
                run.learner.learn(of_step, 1e-4)
                ranks.wait()
                written.append(proc("io", "wchar"))
            told = [later - before for before, later in pairwise(written)]
            config = run.learner.model.config
            facts = {
                "told": told, "parts": len(batches[0]), "P": config.n_params(),
                "PR": (config.vocab_size + config.n_ctx) * config.n_embd,
            }  # fmt: skip
            Path(f"{settings.out}.{ranks.rank}").write_text(json.dumps(facts), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 4])
def test_ranks_tell_as_many_bytes_as_the_page_on_scaling_says(world, n):
    large = {"n_layer": 3, "n_head": 4, "n_embd": 192, "batch_size": 4 * n}
    several = [
        settings_in(world, f"{n}-{i}-{at_once}", shard=i > 0, micro_batch_size=at_once, **large)
        for i in range(1 + HAS_SHARDING)
        for at_once in (None, 2)
    ]
    on_ranks(n, write_bytes_of_steps, several, 4)
    for settings in several:
        for rank in range(n):
            facts = json.loads(Path(f"{settings.out}.{rank}").read_text(encoding="utf-8"))
            P, PR, parts = facts["P"], facts["PR"], facts["parts"]
            assert parts == (2 if settings.micro_batch_size else 1)
            expected = 8 * P  # an all-reduce sends everything twice, once a step
            if settings.shard:  # all in fp32; gloo's reduce-scatter is an all-reduce
                expected = parts * (2 * 4 * (P - PR) + 4 * PR + 2 * 4 * P)
            for told in facts["told"][1:]:  # in the first, DDP makes new buckets
                assert told == pytest.approx(expected * (n - 1) / n, rel=3e-3), settings.out


# ---- memory held ----------------------------------------------------------------------------


def write_memory_of_loading(settings: TrainSettings) -> None:
    """What is this rank's own, at the most, beyond what it had."""
    with joined("cpu") as ranks:
        before, highest, done = proc("status", "RssAnon"), [0], threading.Event()

        def look() -> None:
            while not done.wait(0.002):
                highest.append(proc("status", "RssAnon") - before)

        looking = threading.Thread(target=look)
        looking.start()
        begin(settings, (), lambda line: None, ranks)
        done.set()
        looking.join()
        ranks.wait()
        of_rank = Path(f"{settings.out}.{ranks.rank}")
        of_rank.write_text(str(max(highest) * 1024), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif(not HAS_SHARDING, reason="this torch shards on GPUs only")
def test_a_rank_that_keeps_a_part_never_holds_the_whole_model(world):
    model = GPT(GPTConfig(vocab_size=2000, n_ctx=64, n_layer=16, n_head=4, n_embd=512))
    model.vocabulary = tiny_vocabulary(learn_merges("what comes after and before", 10))
    save_model(model, world / "large")
    settings = settings_in(
        world, "held", model=str(world / "large"), from_scratch=False, shard=True
    )
    on_ranks(2, write_memory_of_loading, settings)
    whole = 4 * model.config.n_params()
    for rank in range(2):
        held = int(Path(f"{settings.out}.{rank}").read_text(encoding="utf-8"))
        assert whole / 2 <= held < 0.8 * whole, (rank, held, whole)
