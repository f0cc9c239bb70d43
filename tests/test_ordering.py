"""The order of a run: every example once an epoch, and the same however it is cut or resumed."""

import json
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt import ordering
from gpt.ordering import Order, OrderError, micro_batches, padding_share, share
from tests.test_batching import book_examples

orders = st.builds(
    lambda lengths, batch_size, seed, buckets, keep_last: Order(
        np.array(lengths), min(batch_size, len(lengths)), seed, buckets, keep_last
    ),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=50),
    batch_size=st.integers(1, 12),
    seed=st.integers(0, 2**64),
    buckets=st.booleans(),
    keep_last=st.booleans(),
)


def an_epoch(order: Order, epoch: int = 0) -> list[np.ndarray]:
    return [step.examples for step in islice(order.steps(epoch), order.steps_per_epoch)]


@given(orders, st.integers(0, 5))
def test_every_example_comes_exactly_once_an_epoch(order, epoch):
    n = len(order.lengths)
    assert sorted(order.of_epoch(epoch)) == list(range(n))
    seen = np.concatenate(an_epoch(order, epoch))
    assert len(set(seen.tolist())) == len(seen)
    assert len(seen) == (n if order.keep_last else n - n % order.batch_size)


@given(orders)
def test_every_step_but_a_kept_last_has_batch_size_examples(order):
    sizes = [len(step) for step in an_epoch(order)]
    full, left = divmod(len(order.lengths), order.batch_size)
    assert sizes == [order.batch_size] * full + [left] * (order.keep_last and left > 0)


@given(orders, st.data())
def test_resumed_anywhere_equals_never_interrupted(order, data):
    n_steps = 3 * order.steps_per_epoch
    whole = list(islice(order.steps(), n_steps))
    assert [(s.epoch, s.step) for s in whole] == [divmod(i, n_steps // 3) for i in range(n_steps)]

    done = data.draw(st.integers(1, n_steps - 1), label="steps before the kill")
    last = whole[done - 1]
    position = json.loads(json.dumps({"epoch": last.epoch, "step": last.step + 1}))
    rest = list(islice(order.steps(**position), n_steps - done))
    assert [s[:2] for s in rest] == [s[:2] for s in whole[done:]]
    for ours, expected in zip(rest, whole[done:], strict=True):
        assert np.array_equal(ours.examples, expected.examples)


@given(orders, st.integers(1, 6))
def test_the_shares_of_all_ranks_end_to_end_are_the_step(order, n_ranks):
    for step in an_epoch(order):
        shares = [share(step, rank, n_ranks) for rank in range(n_ranks)]
        assert np.array_equal(np.concatenate(shares), step)
        sizes = [len(part) for part in shares]
        assert max(sizes) - min(sizes) <= 1
        assert [len(micro_batches(part, order.lengths, True)) for part in shares] == [
            min(size, 1)
            for size in sizes  # an empty share has no micro-batch, and is no error
        ]


@given(
    orders,
    st.booleans(),
    st.none() | st.integers(1, 5),
    st.none() | st.integers(40, 200),
)
def test_micro_batches_hold_the_step_within_their_limits(
    order, by_length, max_examples, max_tokens
):
    for step in an_epoch(order):
        parts = micro_batches(step, order.lengths, by_length, max_examples, max_tokens)
        joined = np.concatenate(parts)
        assert sorted(joined) == sorted(step)
        assert by_length or np.array_equal(joined, step)
        for part in parts:
            assert 0 < len(part) <= (max_examples or len(step))
            assert len(part) * order.lengths[part].max() <= (max_tokens or np.inf)
        if by_length:
            assert (np.diff(order.lengths[joined]) <= 0).all()


def test_a_micro_batch_is_cut_only_where_it_must_be():
    lengths = np.array([10, 10, 10, 30, 30])
    everything = np.arange(5)
    assert len(micro_batches(everything, lengths, by_length=False)) == 1
    parts = micro_batches(everything, lengths, by_length=False, max_tokens=60)
    assert [part.tolist() for part in parts] == [[0, 1, 2], [3, 4]]
    parts = micro_batches(everything, lengths, by_length=True, max_examples=4, max_tokens=60)
    assert [part.tolist() for part in parts] == [[3, 4], [0, 1, 2]]


def test_sorting_within_a_step_keeps_the_steps_and_buckets_do_not():
    lengths = np.random.default_rng(0).integers(10, 90, 200)
    plain = Order(lengths, batch_size=8, seed=1, buckets=False, keep_last=True)
    buckets = Order(lengths, batch_size=8, seed=1, buckets=True, keep_last=True)
    for step in an_epoch(plain):
        parts = micro_batches(step, lengths, by_length=True, max_examples=3)
        assert set(np.concatenate(parts)) == set(step)
    steps_of = [{frozenset(step.tolist()) for step in an_epoch(o)} for o in (plain, buckets)]
    assert not steps_of[0] & steps_of[1]


def test_bucketed_steps_are_neighbours_in_length_and_come_in_no_order_of_length(monkeypatch):
    lengths = np.random.default_rng(0).permutation(1000)
    for pool_steps in (3, 256):
        monkeypatch.setattr(ordering, "POOL_STEPS", pool_steps)
        order = Order(lengths, batch_size=8, seed=1, buckets=True, keep_last=True)
        means = [lengths[step].mean() for step in an_epoch(order)]
        assert abs(np.corrcoef(means, np.arange(125))[0, 1]) < 0.2
        spread = max(np.ptp(lengths[step]) for step in an_epoch(order))
        assert (spread == 7) == (pool_steps == 256)


def test_what_drop_last_leaves_out_is_not_always_the_same():
    lengths = np.arange(1, 24)
    order = Order(lengths, batch_size=4, seed=0, buckets=True, keep_last=False)
    dropped = [tuple(order.of_epoch(epoch)[20:]) for epoch in range(20)]
    assert len(set(dropped)) > 10
    assert {i for three in dropped for i in three} > {0, 1, 21, 22}  # the short and the long


@pytest.mark.parametrize("buckets", [False, True])
def test_epochs_and_seeds_differ_and_a_seed_is_the_same_again(buckets):
    def of(seed: int, epoch: int) -> tuple[int, ...]:
        return tuple(Order(np.arange(1, 41), 4, seed, buckets, True).of_epoch(epoch).tolist())

    some = [(seed, epoch) for seed in (0, 1, 123) for epoch in (0, 1, 2)]
    assert len({of(*which) for which in some}) == len(some)
    assert [of(*which) for which in some] == [of(*which) for which in some]


def test_the_order_is_the_same_with_every_numpy_on_every_machine():
    """Golden for once: a run must be resumable after an upgrade."""
    lengths = np.array([4, 30, 5, 8, 31, 5, 28])
    plain = Order(lengths, batch_size=2, seed=123, buckets=False, keep_last=True)
    buckets = Order(lengths, batch_size=2, seed=123, buckets=True, keep_last=True)
    assert plain.of_epoch(4).tolist() == [0, 4, 3, 6, 1, 2, 5]
    assert buckets.of_epoch(4).tolist() == [0, 2, 3, 6, 1, 4, 5]


def test_a_million_examples_take_arrays_and_not_lists():
    lengths = np.ones(1_000_000, np.int32)
    order = Order(lengths, batch_size=32, seed=0, buckets=True, keep_last=True).of_epoch(0)
    assert isinstance(order, np.ndarray) and order.nbytes == 8_000_000


def test_padding_on_the_books_set(shared):
    lengths = np.array([len(ids) for ids, _ in book_examples(shared)])

    def wasted(buckets: bool) -> float:
        order = Order(lengths, batch_size=8, seed=123, buckets=buckets, keep_last=True)
        return float(np.mean([padding_share(an_epoch(order, e), lengths) for e in range(5)]))

    assert 0.17 < wasted(buckets=False) < 0.22
    assert wasted(buckets=True) < 0.005

    # without touching the steps: the same 64 examples a step, in micro-batches of 8
    order = Order(lengths, batch_size=64, seed=123, buckets=False, keep_last=True)
    parts = [p for step in an_epoch(order) for p in micro_batches(step, lengths, True, 8)]
    assert padding_share(parts, lengths) < 0.06


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch size must be at least 1, not 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"batch_size": 6}, "5 examples are too few for one step of 6"),
        ({"lengths": np.array([], int), "keep_last": True}, "0 examples are too few"),
    ],
)
def test_settings_without_a_step_are_refused(change, message):
    settings = {"lengths": np.ones(5), "batch_size": 2, "seed": 0, "keep_last": False}
    with pytest.raises(OrderError, match=message):
        Order(buckets=True, **{**settings, **change})


def test_a_place_that_is_not_in_the_run_is_refused():
    order = Order(np.ones(5), batch_size=2, seed=0, buckets=False, keep_last=True)
    assert next(order.steps(epoch=0, step=3))[:2] == (1, 0)
    for epoch, step in [(0, 4), (0, -1), (-1, 0)]:
        with pytest.raises(OrderError, match=f"no step {step} of epoch {epoch}"):
            next(order.steps(epoch, step))


def test_an_example_over_the_budget_is_named_with_both_numbers():
    with pytest.raises(OrderError, match="example 1 has 3,000 tokens.* 1,024"):
        micro_batches(np.arange(3), np.array([5, 3000, 7]), by_length=True, max_tokens=1024)
    with pytest.raises(OrderError, match="room for 1 example"):
        micro_batches(np.arange(3), np.array([5, 6, 7]), by_length=True, max_examples=0)


def test_the_demo_resumes_where_it_says(capsys):
    ordering._demo()
    assert capsys.readouterr().out.endswith("the same examples\n")
