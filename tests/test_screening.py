"""The token that the screened head takes is the one that fp32 takes, whatever bf16 says."""

import pytest
import torch

from gpt import passes, screening
from gpt.generate import generate
from gpt.loss import most_likely
from gpt.screening import Screen, is_worth_it
from tests.test_generate import CONFIG
from tests.tiny import random_model

V, C = 3000, 48


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def a_head(kind: str) -> torch.Tensor:
    head = drawn(V, C, seed=1)
    if kind == "alike":  # logits nearer to each other than bf16 can tell
        head = head[:1] + 1e-3 * head
    elif kind == "uneven":  # lengths from 1e-3 to 1e3
        head = head * 10 ** drawn(V, 1, seed=2).clamp(-3, 3)
    elif kind == "far from 0":
        head = head / 8 + 10
    return head


@pytest.mark.parametrize("kind", ["plain", "alike", "uneven", "far from 0"])
@pytest.mark.parametrize("scale", [1e-6, 1, 1e3])
def test_the_same_token_as_from_the_whole_product(kind, scale, monkeypatch):
    monkeypatch.setattr(screening, "_MOST_LEFT", V)  # however many: all of them by the screen
    head, hidden = a_head(kind), scale * drawn(200, C, seed=3)
    screen = Screen(head, V)
    exact = hidden.double() @ head.double().T
    rows, tokens = screen.candidates(hidden)
    is_left = torch.zeros(exact.shape, dtype=torch.bool)
    is_left[rows, tokens] = True
    assert is_left.gather(1, exact.argmax(1, keepdim=True)).all()  # none is ruled out that wins
    assert len(rows) < exact.numel() or kind == "alike"
    found = exact.gather(1, screen.most_likely(hidden)[:, None])[:, 0]
    lengths = hidden.double().norm(dim=1) * head.double().norm(dim=1).max()
    assert (exact.amax(1) - found <= 1e-6 * lengths).all()  # as near as fp32 adds up


E = 0.9 * 2**-8  # 1 + E becomes 1 in bf16


@pytest.mark.parametrize(
    ("hidden", "head"),
    [
        pytest.param([[1 + E, 1 + 2**-7 - E]], [[1, -1], [-1, 1 - 2**-8]], id="hidden"),
        pytest.param([[1, 1, -1, -1]], [[1 + E, 1 + E, 1, 1], [1, 1, 1, 1 - 2**-8]], id="head"),
    ],
)
def test_what_rounding_turned_round_is_left(hidden, head):
    """The second is the higher in bf16, by what rounding has taken from the first."""
    hidden, head = torch.tensor(hidden).float(), torch.tensor(head).float()
    assert (hidden @ head.T).argmax() == 0
    assert (hidden.bfloat16() @ head.bfloat16().T).argmax() == 1
    screen = Screen(head, 2)
    assert 0 in screen.candidates(hidden)[1].tolist()
    assert screen.most_likely(hidden).tolist() == [0]


def test_bf16_alone_would_take_others():
    """So that the test above has something to find."""
    head, hidden = a_head("alike"), drawn(200, C, seed=3)
    rounded = (hidden.bfloat16() @ head.bfloat16().T).argmax(1)
    assert (rounded != (hidden @ head.T).argmax(1)).any()


def test_of_equals_the_first_is_taken():
    head = drawn(V, C, seed=1)
    head[[7, 70, 700]] = 10 * head[7]
    assert Screen(head, V).most_likely(head[7:8]).tolist() == [7]


def test_where_too_many_are_left_the_whole_product_is_computed(monkeypatch):
    head, hidden = a_head("alike"), drawn(20, C, seed=3)
    screen, asked = Screen(head, V), []

    def watched(*given):
        asked.append(given)
        return most_likely(*given)

    monkeypatch.setattr(screening, "most_likely", watched)
    assert len(screen.candidates(hidden)[0]) > 64 * len(hidden)
    assert torch.equal(screen.most_likely(hidden), most_likely(hidden, head, V))
    assert len(asked) == 1
    clear = 10 * head[:20]
    monkeypatch.setattr(screening, "_MOST_LEFT", V)
    screen.most_likely(clear)
    assert len(asked) == 1


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_rows_whose_scores_are_no_numbers_are_told_from_the_others(broken):
    head, hidden = drawn(V, C, seed=1), drawn(4, C, seed=3)
    hidden[2, 5] = broken
    right = most_likely(hidden, head, V)
    assert right[2] == -1
    assert torch.equal(Screen(head, V).most_likely(hidden), right)
    head[9, 9] = torch.nan
    assert Screen(head, V).most_likely(hidden).tolist() == [-1] * 4


@pytest.mark.parametrize("other", [1, 1e6, torch.nan])
def test_rows_of_the_head_that_are_no_tokens_count_for_nothing(other):
    head, hidden = drawn(V, C, seed=1), drawn(50, C, seed=3)
    head[-2000:] *= other
    screen = Screen(head, V - 2000)
    assert torch.equal(screen.most_likely(hidden), most_likely(hidden, head, V - 2000))
    assert len(screen.candidates(hidden)[0]) < 200


def test_a_row_beyond_all_numbers_is_told_from_the_others():
    head, hidden = drawn(V, C, seed=1), drawn(9, C, seed=3)
    hidden[4] = 1e38
    assert torch.equal(Screen(head, V).most_likely(hidden), most_likely(hidden, head, V))


def test_a_model_in_training_keeps_no_way_back_to_it():
    head = drawn(V, C, seed=1).requires_grad_()
    screen = Screen(head, V)
    assert not screen.rounded.requires_grad and not screen._longest.requires_grad


def test_only_fp32_of_many_tokens_on_a_cpu_with_amx_is_screened(monkeypatch):
    monkeypatch.setattr(screening, "has_amx", lambda: True)
    head = torch.empty(screening.FEWEST, 2)
    assert is_worth_it(head)
    assert not is_worth_it(head[1:])
    assert not is_worth_it(head.bfloat16())
    assert not is_worth_it(head.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_worth_it(head)
    monkeypatch.setattr(screening, "has_amx", lambda: False)
    assert not is_worth_it(head)


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.0}, {"repetition_penalty": 1.3}])
def test_answers_are_the_same(settings, monkeypatch):
    model = random_model(CONFIG).eval()
    prompts, n_asked = [[1, 2, 3], [4, 5], [6]] * 4, 0
    whole = generate(model, prompts, 40, end_id=-1, **settings)

    class Watched(Screen):
        def most_likely(self, hidden):
            nonlocal n_asked
            n_asked += 1
            return super().most_likely(hidden)

    monkeypatch.setattr(passes.screening, "Screen", Watched)
    monkeypatch.setattr(passes.screening, "is_worth_it", lambda head: True)
    assert generate(model, prompts, 40, end_id=-1, **settings) == whole
    assert (n_asked > 30) is (not settings)
