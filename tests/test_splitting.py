"""No prompt on two sides, none lost, the shares kept, and the same split everywhere."""

from collections import Counter
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.duplicates import duplicate_prompts, prompt_key
from gpt.records import Record, Turn, load_records
from gpt.splitting import Overlap, SplitError, overlaps, split_as_book, split_by_prompt


def record(prompt, line=1, category=None, answer="An answer."):
    extra = {} if category is None else {"category": category}
    return Record((Turn("user", prompt), Turn("assistant", answer)), "x.json", line, extra)


def numbered(n):
    return [record(f"Question {i}?", i) for i in range(1, n + 1)]


def lines(split):
    return [[r.line for r in side] for side in split]


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc")), min_size=2, max_size=80),
    st.floats(0, 0.4),
    st.floats(0, 0.4),
    st.integers(0, 9),
)
def test_no_prompt_is_on_two_sides_and_no_record_lost_or_doubled(asked, val, test, seed):
    records = [record(f"Q{q}", line, c) for line, (q, c) in enumerate(asked, 1)]
    split = split_by_prompt(records, val, test, seed)
    assert split.train
    sides = [{prompt_key(r) for r in side} for side in split]
    assert sum(map(len, sides)) == len(set().union(*sides))
    assert overlaps(split) == []
    assert sorted(chain.from_iterable(lines(split))) == [r.line for r in records]


@pytest.mark.parametrize("n", [4, 5, 9, 10, 11, 100, 1000, 1101])
def test_a_side_has_its_share_to_the_record(n):
    split = split_by_prompt(numbered(n))
    assert [len(side) for side in split] == [
        n - int(n * 0.05 + 0.5) - int(n * 0.1 + 0.5),
        int(n * 0.05 + 0.5),
        int(n * 0.1 + 0.5),
    ]


def test_groups_that_fit_are_dealt_out_whole_and_others_train():
    records = [record("The same", i) for i in range(50)] + numbered(50)
    split = split_by_prompt(records, 0.1, 0.2)
    assert [len(side) for side in split] == [70, 10, 20]
    assert {r.turns[0].text for r in split.validation + split.test}.isdisjoint({"The same"})


def test_every_category_has_its_share_on_every_side():
    names = ["frequent"] * 600 + ["rarer"] * 300 + ["rare"] * 100 + [None] * 100
    records = [record(f"Q{i}", i, name) for i, name in enumerate(names)]
    split = split_by_prompt(records, 0.05, 0.1)
    for side, share in zip(split, (0.85, 0.05, 0.1), strict=True):
        counts = Counter(r.extra.get("category") for r in side)
        for name, n in Counter(names).items():
            assert abs(counts[name] - share * n) <= 1
    assert [len(side) for side in split] == [935, 55, 110]


def test_many_small_categories_still_fill_the_sides():
    records = [record(f"Q{i}", i, f"category {i // 2}") for i in range(1000)]
    assert [len(side) for side in split_by_prompt(records)] == [850, 50, 100]


def test_a_category_may_be_of_any_type():
    records = [record(f"Q{i}", i, c) for i, c in enumerate([1, "1", None, ["a"], True] * 20)]
    assert [len(side) for side in split_by_prompt(records)] == [85, 5, 10]


def test_the_same_seed_gives_the_same_split_and_another_one_another():
    records = numbered(200)
    assert lines(split_by_prompt(records, seed=3)) == lines(split_by_prompt(records, seed=3))
    assert lines(split_by_prompt(records, seed=3)) != lines(split_by_prompt(records, seed=4))


def test_the_split_does_not_depend_on_the_order_of_the_records():
    records = numbered(200)
    turned_round = split_by_prompt(records[::-1])
    assert [side[::-1] for side in lines(turned_round)] == lines(split_by_prompt(records))


def test_the_split_is_this_one_on_every_machine():
    """The one golden value here: a test set that moves is no longer unseen."""
    assert lines(split_by_prompt(numbered(40), seed=123))[1:] == [[16, 29], [7, 11, 12, 37]]


def test_few_records_move_when_some_are_added():
    before = split_by_prompt(numbered(1000))
    after = split_by_prompt(numbered(1020))
    moved = [len({*one} ^ {*other}) for one, other in zip(lines(before), lines(after), strict=True)]
    assert sum(moved) <= 2 * 20 + 20


def test_within_a_side_the_order_of_the_file_stays():
    assert all(side == sorted(side) for side in lines(split_by_prompt(numbered(300))))


@pytest.mark.parametrize(
    ("n", "sizes"),
    [(1, [1, 0, 0]), (2, [2, 0, 0]), (3, [3, 0, 0]), (5, [4, 0, 1]), (10, [8, 1, 1])],
)
def test_of_a_tiny_set_a_side_may_be_empty_but_never_train(n, sizes):
    split = split_by_prompt(numbered(n))
    assert [len(side) for side in split] == sizes


@pytest.mark.parametrize("split", [split_by_prompt, split_as_book])
def test_nothing_to_split_is_an_error(split):
    with pytest.raises(SplitError, match="nothing is left to train on: 0 records"):
        split([])


def test_rounding_never_takes_the_last_record_from_training_and_the_books_slices_may_not():
    assert lines(split_by_prompt(numbered(1), 0.0, 0.9)) == [[1], [], []]
    assert [len(side) for side in split_by_prompt(numbered(4), 0.375, 0.375)] == [1, 1, 2]
    with pytest.raises(SplitError, match="too few"):
        split_as_book(numbered(1))


@pytest.mark.parametrize(
    ("val", "test"), [(0.5, 0.5), (1, 0), (-0.1, 0), (0, 1.5), (float("nan"), 0), (0, float("inf"))]
)
def test_impossible_fractions_are_refused(val, test):
    with pytest.raises(SplitError, match="fraction|take all"):
        split_by_prompt(numbered(10), val, test)


def test_fractions_of_zero_leave_everything_in_train():
    assert [len(side) for side in split_by_prompt(numbered(7), 0, 0)] == [7, 0, 0]


@pytest.mark.parametrize("n", [2, 3, 10, 99, 1100])
def test_the_books_slices_are_in_the_order_of_the_file(n):
    train, validation, test = lines(split_as_book(numbered(n)))
    assert train + test + validation == list(range(1, n + 1))
    assert (len(train), len(test)) == (int(n * 0.85), int(n * 0.1))


def test_an_overlap_names_both_places():
    a, b, c = record("Who?", 1), record("who ?", 2), record("WHO?", 3)
    split = split_by_prompt([a], 0, 0)._replace(validation=[b], test=[c])
    assert overlaps(split) == [Overlap("test", c, "train", a)]
    assert str(overlaps(split)[0]) == "x.json:3 (test) asks what x.json:1 (train) asks"


def test_an_overlap_of_validation_and_test_counts_too():
    split = split_by_prompt(numbered(1), 0, 0)._replace(
        validation=[record("Who?", 7)], test=[record("Who?", 8), record("who?", 9)]
    )
    assert [str(overlap) for overlap in overlaps(split)] == [
        "x.json:8 (test) asks what x.json:7 (validation) asks",
        "x.json:9 (test) asks what x.json:7 (validation) asks",
    ]


def test_overlaps_are_the_same_from_duplicates_that_are_known(shared):
    split = split_as_book(load_records([shared / "datasets" / "book-1100.json"]))
    assert overlaps(split, duplicate_prompts([*chain(*split)])) == overlaps(split) != []


def test_the_published_leaks_of_the_books_split_and_none_of_ours(shared):
    records = load_records([shared / "datasets" / "book-1100.json"])
    leaks = Counter(overlap.side for overlap in overlaps(split_as_book(records)))
    assert leaks == {"test": 2, "validation": 4}
    for seed in range(5):
        split = split_by_prompt(records, seed=seed)
        assert overlaps(split) == []
        assert [len(side) for side in split] == [935, 55, 110]
