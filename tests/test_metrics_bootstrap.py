"""Intervals that mean what they say: against theory, against another's draws, and at the edges."""

import math
import time

import numpy as np
import pytest

from gpt.bootstrap import (
    N_RESAMPLES,
    interval,
    mean_score,
    mean_scores,
    resampled_sums,
    unanimous,
)
from tests.metric_forms import compare_means


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 110, 1000])
def test_every_draw_has_as_many_rows_as_there_are(n):
    sums = resampled_sums(np.ones((n, 1)), n_resamples=500)
    assert sums.shape == (500, 1) and (sums == n).all()


def test_the_draws_are_those_of_drawing_rows_one_by_one():
    """The same raw numbers, two in each, turned into rows by hand."""
    values = rng().random((7, 3))
    raw = np.random.PCG64(5).random_raw(7 * 40 // 2)
    draws = [number >> shift & 0xFFFFFFFF for number in raw.tolist() for shift in (0, 32)]
    rows = [draw * 7 // 2**32 for draw in draws]
    expected = np.array([values[rows[i : i + 7]].sum(axis=0) for i in range(0, 280, 7)])
    assert np.allclose(resampled_sums(values, n_resamples=40, seed=5), expected)


def test_every_row_is_drawn_equally_often():
    n = 10
    totals = resampled_sums(np.eye(n)).sum(axis=0)
    expected = N_RESAMPLES * n / n
    chi_square = ((totals - expected) ** 2 / expected).sum()
    assert chi_square < 27.9  # 9 degrees of freedom: exceeded by chance once in a thousand seeds


def test_columns_are_drawn_together():
    column = rng().random(50)
    sums = resampled_sums(np.column_stack([column, 2 * column, column]))
    assert np.allclose(sums[:, 0] * 2, sums[:, 1]) and np.allclose(sums[:, 0], sums[:, 2])


def test_however_they_are_cut_into_pieces_the_draws_are_the_same(monkeypatch):
    values = rng().random((33, 2))
    whole = resampled_sums(values, n_resamples=300)
    monkeypatch.setattr("gpt.bootstrap._MEMORY", 34 * 64)
    assert np.allclose(resampled_sums(values, n_resamples=300), whole)


def test_the_interval_of_a_mean_is_the_normal_ones_where_that_holds():
    values = rng(1).random(400)
    found = mean_score(values)
    reach = 1.96 * values.std() / math.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - reach, abs=0.1 * reach)
    assert found.high == pytest.approx(values.mean() + reach, abs=0.1 * reach)


def test_the_interval_of_a_share_is_the_binomial_ones():
    """17 of 110: the middle 95% of Binomial(110, 17/110), whose tails are summed here."""
    n, k = 110, 17
    values = np.zeros(n)
    values[:k] = 1
    p = k / n
    chances = [math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(n + 1)]
    below = np.cumsum(chances)
    low, high = np.searchsorted(below, [0.025, 0.975]) / n
    found = mean_score(values)
    assert abs(found.low - low) <= 1 / n + 1e-9 and abs(found.high - high) <= 1 / n + 1e-9


def test_in_95_of_100_samples_the_truth_lies_in_the_interval():
    hits = 0
    for seed in range(400):
        values = rng(seed).random(60) ** 2  # whose mean is 1/3
        found = interval(values.mean(), resampled_sums(values[:, None], 1000, seed)[:, 0] / 60)
        hits += found.low <= 1 / 3 <= found.high
    assert 0.91 <= hits / 400 <= 0.98


@pytest.mark.parametrize("n", [1, 5, 10, 300])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_ten_of_ten_right_is_no_certainty(n, value):
    found = mean_score(np.full(n, value))
    assert found == unanimous(value, n)
    p = found.high if value == 0 else 1 - found.low  # the chance at which all being alike is rare
    assert (1 - p) ** n == pytest.approx(0.025)
    assert found.value == value and 0 <= found.low <= value <= found.high <= 1


def test_one_answer_alone_says_next_to_nothing_of_others():
    value, low, high = mean_score(np.array([0.4]))
    assert value == 0.4 and low < 0.02 and high > 0.98


@pytest.mark.parametrize("value", [0.3, 0.85])
def test_equal_values_say_little_when_they_are_few(value):
    few, many = (mean_score(np.full(n, value)) for n in (5, 500))
    assert few.value == value and few.low < value - 0.1 and few.high > value + 0.07
    assert many.low < value < many.high and many.high - many.low < 0.01


def test_a_difference_that_is_always_the_same_has_an_interval_and_no_certainty():
    ten = compare_means(np.full(10, 0.8), np.full(10, 0.6))
    assert ten.difference == pytest.approx(0.2) and ten.low < 0.0 < 0.2 < ten.high < 1
    assert ten.probability_better == 1 - 0.5**10
    one = compare_means(np.array([1.0]), np.array([0.0]))
    assert one.probability_better == 0.5 and one.low < 0
    assert compare_means(np.zeros(10), np.ones(10)).probability_better == 0.5**10


def test_several_columns_are_as_each_alone():
    values = np.column_stack([rng(2).random(80), np.ones(80), rng(3).random(80) > 0.5])
    together = mean_scores(values, resampled_sums(values))
    for column, score in zip(values.T, together, strict=True):
        assert score == pytest.approx(mean_score(column))


def test_a_seed_gives_one_interval_and_another_seed_nearly_the_same():
    values = rng(4).random(110)
    assert mean_score(values, seed=1) == mean_score(values, seed=1)
    one, other = mean_score(values, seed=1), mean_score(values, seed=2)
    assert one != other
    width = one.high - one.low
    assert abs(one.low - other.low) < 0.06 * width and abs(one.high - other.high) < 0.06 * width


def test_a_model_is_as_good_as_itself():
    values = rng(5).random(50)
    difference, low, high, probability, n = compare_means(values, values)
    assert (difference, probability, n) == (0, 0.5, 50)
    assert -0.1 < low < 0 < high < 0.1 and low == pytest.approx(-high)


def test_better_everywhere_is_better_for_certain_and_the_other_way_round():
    values = rng(6).random(50)
    ahead = compare_means(values + 0.1, values)
    assert ahead.difference == pytest.approx(0.1) and ahead.probability_better == 1 - 0.5**50
    assert compare_means(values, values + 0.1).probability_better == 0.5**50


def test_the_two_are_compared_question_by_question():
    """Hard questions are hard for both: unpaired, this small lead would drown in their spread."""
    hardness = rng(7).random(100)
    lead = 0.02 + 0.01 * rng(8).standard_normal(100)
    paired = compare_means(hardness + lead, hardness)
    assert paired.probability_better > 0.999
    assert paired.high - paired.low < 0.01
    alone = mean_score(hardness)
    assert alone.high - alone.low > 0.08


def test_the_probability_is_the_one_of_theory():
    """A mean difference of one standard error: the normal distribution has 84% above 0."""
    differences = rng(9).standard_normal(200)
    differences += differences.std() / math.sqrt(200) - differences.mean()
    found = compare_means(differences, np.zeros(200))
    assert found.probability_better == pytest.approx(0.841, abs=0.02)


def test_two_comparisons_are_each_others_mirror():
    a, b = rng(10).random(40), rng(11).random(40)
    one, other = compare_means(a, b), compare_means(b, a)
    assert one.probability_better == pytest.approx(1 - other.probability_better)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_ten_thousand_draws_of_five_thousand_answers_are_quick():
    values = rng().random((5000, 1))
    best = math.inf
    for _ in range(3):
        started = time.process_time()
        assert resampled_sums(values).shape == (N_RESAMPLES, 1)
        best = min(best, time.process_time() - started)
    assert best < 5  # a third of a second; a loop over the draws takes ten times this bound
