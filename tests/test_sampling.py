"""Each control leaves the distribution that it promises, and what is drawn follows it."""

import math

import numpy as np
import pytest
import torch

from gpt.errors import UserError
from gpt.sampling import (
    BLOCK,
    Draws,
    GenerateError,
    Sampling,
    choose,
    draw,
    filtered,
    gumbel,
    log_probability,
    n_noise,
    penalised,
)

N = 20_000


def random_logits(B: int, V: int, scale: float = 2.0, seed: int = 0) -> torch.Tensor:
    return scale * torch.randn(B, V, generator=torch.Generator().manual_seed(seed))


def p_value(counts: torch.Tensor, expected: torch.Tensor) -> float:
    """Pearson's chi-square: how often chance alone is that far off. Rare cells count as one."""
    counts, expected = counts.double(), expected.double()
    rare = expected < 5
    if rare.any():
        counts = torch.cat([counts[~rare], counts[rare].sum()[None]])
        expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    expected = expected.clamp(min=1e-9)
    statistic = ((counts - expected) ** 2 / expected).sum()
    return torch.special.gammaincc((len(counts) - 1) / torch.tensor(2.0), statistic / 2).item()


def test_the_chi_square_here_tells_a_wrong_distribution_from_a_right_one():
    fair = torch.full((6,), 1000.0)
    assert p_value(torch.tensor([1010, 985, 1031, 968, 1004, 1002]), fair) > 0.5
    assert p_value(torch.tensor([1090, 985, 911, 1008, 1004, 1002]), fair) < 0.01
    # The 5% point of the distribution with 5 degrees of freedom is 11.07, as any table has it.
    off = math.sqrt(11.0705 * 1000 / 2)
    assert p_value(fair + torch.tensor([off, -off, 0, 0, 0, 0]), fair) == pytest.approx(0.05, 1e-3)


CONTROLS = {
    "temperature 1": {"temperature": 1.0},
    "temperature 0.5": {"temperature": 0.5},
    "temperature 1.7": {"temperature": 1.7},
    "top_k": {"temperature": 1.0, "top_k": 7},
    "top_p": {"temperature": 1.0, "top_p": 0.8},
    "min_p": {"temperature": 1.0, "min_p": 0.05},
    "all": {"temperature": 1.3, "top_k": 30, "top_p": 0.9, "min_p": 0.01},
}


def intended(logits: torch.Tensor, temperature, top_k=None, top_p=None, min_p=None) -> torch.Tensor:
    """The distribution of one row, worked out token by token from the definitions."""
    p = (logits.double() / temperature).softmax(0)
    by_rank = p.argsort(descending=True).tolist()
    if top_k is not None:
        by_rank = by_rank[:top_k]
    if top_p is not None:
        kept, mass, whole = [], 0.0, sum(p[i] for i in by_rank)
        for i in by_rank:
            if mass < top_p:
                kept.append(i)
            mass += p[i] / whole
        by_rank = kept
    if min_p is not None:
        by_rank = [i for i in by_rank if p[i] >= min_p * p[by_rank[0]]]
    out = torch.zeros_like(p)
    out[by_rank] = p[by_rank]
    return out / out.sum()


@pytest.mark.parametrize("V", [40, 1000])  # within one block of the draw, and over several
@pytest.mark.parametrize("control", CONTROLS)
def test_what_is_left_is_what_is_intended(control, V):
    for row in random_logits(20, V):
        left = filtered(row[None], Sampling(**CONTROLS[control]))[0].double().softmax(0)
        torch.testing.assert_close(left, intended(row, **CONTROLS[control]), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("V", [40, 1000])
@pytest.mark.parametrize("control", CONTROLS)
def test_20_000_rows_draw_what_is_intended(control, V):
    logits = random_logits(1, V)
    rows = [Draws(seed=5, row=i) for i in range(N)]
    parts = [
        choose(logits.expand(1000, V), Sampling(**CONTROLS[control]), rows[i : i + 1000])
        for i in range(0, N, 1000)
    ]
    counts = torch.cat(parts).bincount(minlength=V)
    expected = N * intended(logits[0], **CONTROLS[control])
    assert not counts[expected == 0].any()
    assert p_value(counts, expected) > 0.001


def test_20_000_draws_of_one_row_follow_the_model_too():
    logits = random_logits(1, 1000)
    row = Draws(seed=5, row=0)  # for a thousand draws at once: its noise comes in order
    rows = [row] * 1000
    drawn = torch.cat([choose(logits.expand(1000, 1000), Sampling(1.0), rows) for _ in range(20)])
    expected = N * logits[0].softmax(0)
    assert p_value(drawn.bincount(minlength=1000), expected) > 0.001
    assert p_value(drawn.bincount(minlength=1000), expected.roll(1)) < 1e-6


def test_neither_a_rows_next_draw_nor_its_neighbours_depends_on_its_last():
    logits = random_logits(1, 5).expand(2000, 5)
    rows = [Draws(seed=0, row=i) for i in range(2000)]
    drawn = torch.stack([choose(logits, Sampling(1.0), rows) for _ in range(10)])  # (10, 2000)
    p = logits[0].softmax(0)
    pairs_expected = (p[:, None] * p[None, :]).flatten()
    for a, b in ((drawn[:-1], drawn[1:]), (drawn[:, :-1], drawn[:, 1:])):
        pairs = (5 * a + b).flatten()
        assert p_value(pairs.bincount(minlength=25), len(pairs) * pairs_expected) > 0.001


def test_a_penalty_changes_the_distribution_as_intended():
    logits = random_logits(1, 40)
    seen = torch.arange(40)[None] % 3 == 0
    sampling = Sampling(1.0, repetition_penalty=1.5)
    rows = [Draws(seed=9, row=i) for i in range(N)]
    drawn = choose(penalised(logits, seen, 1.5).expand(N, 40), sampling, rows)
    by_hand = [
        (x / 1.5 if x > 0 else x * 1.5) if i % 3 == 0 else x
        for i, x in enumerate(logits[0].tolist())
    ]
    expected = N * torch.tensor(by_hand, dtype=torch.float64).softmax(0)
    assert p_value(drawn.bincount(minlength=40), expected) > 0.001
    assert p_value(drawn.bincount(minlength=40), N * logits[0].softmax(0)) < 1e-6


def test_controls_are_those_of_transformers():
    process = pytest.importorskip(
        "transformers.generation.logits_process", reason="transformers is the reference"
    )
    logits, ids = random_logits(50, 300), torch.randint(300, (50, 12))
    theirs = {
        "repetition_penalty": (1.3, process.RepetitionPenaltyLogitsProcessor(1.3)),
        "temperature": (0.7, process.TemperatureLogitsWarper(0.7)),
        "top_k": (40, process.TopKLogitsWarper(40)),
        "top_p": (0.85, process.TopPLogitsWarper(0.85)),
        "min_p": (0.02, process.MinPLogitsWarper(0.02)),
    }
    for names in (["temperature"], *(["temperature", name] for name in theirs), list(theirs)):
        ours, expected = logits, logits
        for name in theirs:  # in their order
            if name in names:
                expected = theirs[name][1](ids, expected)
        if "repetition_penalty" in names:
            seen = torch.zeros(50, 300, dtype=torch.bool).scatter(1, ids, True)
            ours = penalised(ours, seen, 1.3)
        ours = filtered(ours, Sampling(**{name: theirs[name][0] for name in names}))
        assert torch.equal(ours.isinf(), expected.isinf()), names
        torch.testing.assert_close(ours.softmax(-1), expected.softmax(-1), atol=1e-6, rtol=1e-5)


def test_a_row_draws_the_same_alone_and_among_others():
    logits = random_logits(30, 700)
    sampling = Sampling(1.0, top_p=0.9)
    together = choose(logits, sampling, [Draws(1, i) for i in range(30)])
    for i in range(30):
        assert choose(logits[i : i + 1], sampling, [Draws(1, i)]) == together[i]


def test_no_seed_and_row_draw_what_another_seed_and_row_do():
    first = {Draws(seed, row).raw(1).item() for seed in range(50) for row in range(50)}
    assert len(first) == 2500


def test_the_last_digits_of_a_logit_hardly_ever_turn_a_draw():
    """The worst case: a flat distribution over as many tokens as GPT-2 has."""
    V, n = 50_257, 200
    logits = random_logits(1, V, scale=0.5).expand(n, V)
    noisy = logits + 1e-5 * random_logits(n, V, seed=1)

    def turned(choice) -> int:
        return (choice(logits) != choice(noisy)).sum().item()

    uniform = torch.rand(n, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def look_up(logits: torch.Tensor) -> torch.Tensor:  # as it is mostly done
        ranked = logits.double().softmax(-1).sort(descending=True)
        place = torch.searchsorted(ranked.values.cumsum(-1), uniform)
        return ranked.indices.gather(1, place.clamp(max=V - 1))

    assert turned(look_up) > 5
    assert turned(lambda x: choose(x, Sampling(1.0), [Draws(0, i) for i in range(n)])) <= 1


def test_two_stages_draw_what_one_would():
    """With the same noise on each token, the winner of blocks is the winner: here noise is 0."""
    logits = random_logits(50, 3 * BLOCK + 17)
    silent = torch.zeros(50, n_noise(logits.size(1)))
    heaviest = logits[:, : 3 * BLOCK].exp().view(50, 3, BLOCK).sum(-1)
    heaviest = torch.cat([heaviest, logits[:, 3 * BLOCK :].exp().sum(-1, keepdim=True)], -1).argmax(
        -1
    )
    for row, block, token in zip(
        logits, heaviest.tolist(), draw(logits, silent).tolist(), strict=True
    ):
        part = row[block * BLOCK : (block + 1) * BLOCK]
        assert token == block * BLOCK + part.argmax()


@pytest.mark.parametrize("V", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
def test_every_token_of_every_vocabulary_can_be_drawn_and_no_other(V):
    rows = [Draws(0, i) for i in range(10 * V + 100)]
    drawn = choose(torch.zeros(len(rows), V), Sampling(1.0), rows)
    assert drawn.min() == 0 and drawn.max() == V - 1
    last = torch.full((len(rows), V), -100.0)
    last[:, -1] = 0
    assert (choose(last, Sampling(1.0), rows) == V - 1).all()


def test_temperature_0_is_argmax_whatever_else_is_set():
    logits = random_logits(40, 500)
    rows = [Draws(0, i) for i in range(40)]
    for others in ({}, {"top_k": 3}, {"top_p": 0.01}, {"min_p": 1.0}):
        assert torch.equal(choose(logits, Sampling(0.0, **others), rows), logits.argmax(-1))


@pytest.mark.parametrize(
    "narrowest", [{"top_k": 1}, {"top_p": 0.01}, {"min_p": 1.0}, {"top_p": 1e-9}]
)
def test_the_narrowest_settings_leave_the_most_likely_token(narrowest):
    logits = random_logits(40, 500)
    rows = [Draws(0, i) for i in range(40)]
    assert torch.equal(choose(logits, Sampling(1.0, **narrowest), rows), logits.argmax(-1))


@pytest.mark.parametrize(
    "widest", [{"top_k": 500}, {"top_k": 10**9}, {"top_p": 1.0}, {"min_p": 0.0}]
)
def test_the_widest_settings_change_nothing(widest):
    logits = random_logits(40, 500)
    assert torch.equal(filtered(logits, Sampling(0.8, **widest)), filtered(logits, Sampling(0.8)))


def test_a_nucleus_is_found_however_deep_it_reaches():
    """Its first look is at 64 tokens, then at 1,024, then at all."""
    for top_p, n_kept in ((0.3, 1500), (0.9, 4500), (0.002, 10), (0.1, 500)):
        logits = torch.linspace(0, -1e-3, 5000)[None]  # as good as flat, and no two alike
        kept = filtered(logits, Sampling(1.0, top_p=top_p)).isfinite().sum().item()
        assert kept == pytest.approx(n_kept, abs=2)
    steep = torch.tensor([[0.0] + [-50.0] * 4999])  # and a row of which nearly all is one token
    both = filtered(torch.cat([logits, steep]), Sampling(1.0, top_p=0.9))
    assert both[1].isfinite().sum() == 1 and both[0].isfinite().sum() > 4000


@pytest.mark.parametrize("temperature", [1e-45, 1e-12, 1e-3, 1.0, 1e6])
def test_a_one_hot_distribution_and_any_temperature_are_no_error(temperature):
    one_hot = torch.full((3, 400), -1e4)
    one_hot[:, 123] = 1e4
    for others in ({}, {"top_k": 5}, {"top_p": 0.5}, {"min_p": 0.1}, {"top_p": 0.01, "top_k": 400}):
        tokens = choose(one_hot, Sampling(temperature, **others), [Draws(0, i) for i in range(3)])
        assert tokens.tolist() == [123] * 3 or temperature == 1e6


def test_equals_of_the_last_that_stays_stay():
    flat = torch.tensor([[1.0, 0.0, 0.0, 0.0, -9.0]])
    assert filtered(flat, Sampling(1.0, top_k=2)).isfinite().tolist() == [[True] * 4 + [False]]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_told_and_spare_the_neighbours(bad):
    logits = random_logits(3, 50)
    best = logits.argmax(-1)
    logits[1, 20] = bad
    for sampling in (Sampling(), Sampling(1.0, top_k=1)):
        tokens = choose(logits, sampling, [Draws(0, i) for i in range(3)])
        assert tokens.tolist() == [best[0], -1, best[2]]


def test_log_probability_is_the_log_softmax():
    logits, tokens = random_logits(9, 70), torch.arange(9)
    expected = logits.log_softmax(-1)[torch.arange(9), tokens]
    torch.testing.assert_close(log_probability(logits, tokens), expected)


def test_noise_is_gumbels_and_always_a_number():
    noise = gumbel([Draws(0, i) for i in range(400)], 50_257)
    assert noise.shape == (400, 197 + 256) and noise.isfinite().all()
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.01)  # Euler's constant
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, abs=0.03)

    class Extreme:
        def raw(self, n: int) -> np.ndarray:
            return np.array([0, 2**64 - 1] * n, np.uint64)[:n]

    assert gumbel([Extreme()], 50_257).isfinite().all()


@pytest.mark.parametrize(
    "name, value",
    [
        ("temperature", -0.1), ("temperature", math.nan), ("temperature", math.inf),
        ("temperature", "hot"), ("temperature", None), ("top_k", 0), ("top_k", -3), ("top_k", 2.5),
        ("top_k", True), ("top_p", 0), ("top_p", 1.01), ("top_p", -1), ("top_p", math.nan),
        ("min_p", -0.1), ("min_p", 1.1), ("repetition_penalty", 0), ("repetition_penalty", -1),
        ("repetition_penalty", math.inf),
    ],
)  # fmt: skip
def test_a_setting_that_means_nothing_is_refused_by_name(name, value):
    with pytest.raises(GenerateError, match=f"^{name} must be .*, not {value!r}") as error:
        Sampling(**{name: value})
    assert isinstance(error.value, UserError)


def test_numbers_of_numpy_are_numbers():
    Sampling(np.float32(0.5), np.int64(3), np.float64(0.5), np.float32(0.1), np.float32(1.1))
