"""Guesses change how many passes an answer takes, and not one of its tokens."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpt.config import GPTConfig
from gpt.generate import generate
from gpt.lookup import MOST_ROWS, believed, guesses
from gpt.sampling import GenerateError, SettingError
from gpt.speaking import Controls
from tests.test_generate import comes_sometimes, reciter
from tests.tiny import random_model

FEW_TOKENS = GPTConfig(vocab_size=7, n_ctx=64, n_layer=2, n_head=2, n_embd=32, dropout=0.0)


@pytest.fixture(scope="module")
def repeats():
    """Of so few tokens that much stands in its texts before; where it stands tells a little."""
    model = random_model(FEW_TOKENS)
    with torch.no_grad():
        for block in model.h:
            block.attn.c_attn.weight.mul_(3)
            block.attn.c_proj.weight.mul_(3)
            block.mlp.c_proj.weight.mul_(3)
    return model


def prompts(n: int, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 40, (n,), generator=generator).tolist()
    return [torch.randint(7, (length,), generator=generator).tolist() for length in lengths]


def count_passes(model, monkeypatch) -> list[tuple[int, int]]:
    """The shape of each pass from now on."""
    shapes, hidden = [], model.hidden

    def watched(ids, *rest, **more):
        shapes.append(tuple(ids.shape))
        return hidden(ids, *rest, **more)

    monkeypatch.setattr(model, "hidden", watched)
    return shapes


# ---- guessing -------------------------------------------------------------------------------


def test_what_came_after_the_same_three_tokens_the_last_time():
    assert guesses([1, 2, 3, 8, 1, 2, 3, 9, 5, 6, 1, 2, 3], 3) == [9, 5, 6]
    assert guesses([1, 2, 3, 4, 1, 2, 3], 9) == [4, 1, 2, 3]


def test_three_tokens_are_rather_believed_than_two():
    assert guesses([1, 2, 3, 7, 0, 2, 3, 8, 1, 2, 3], 1) == [7]
    assert guesses([1, 2, 3, 7, 0, 2, 3, 8, 5, 2, 3], 1) == [8]


def test_nothing_is_guessed_of_what_is_new():
    for ids in ([], [1], [1, 2], [1, 2, 3, 4, 5], [1, 2, 1]):
        assert guesses(ids, 5) == []
    assert guesses([1, 2, 3, 4, 1, 2, 3], 0) == []


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(0, 9))
def test_a_guess_has_stood_behind_the_newest_tokens(ids, most):
    found = guesses(ids, most)
    assert len(found) <= most
    if found:
        text, piece = "".join(map(str, ids)), "".join(map(str, ids[-2:] + found))
        assert piece in text


@given(st.lists(st.integers(0, 2), max_size=6), st.data())
def test_what_is_believed_is_what_one_pass_a_token_would_have_written(guessed, data):
    size = len(guessed) + 1
    likeliest = data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
    written = believed(guessed, likeliest)
    assert written == likeliest[: len(written)]
    assert written[:-1] == guessed[: len(written) - 1]
    assert len(written) == size or written[-1] != guessed[len(written) - 1]


# ---- answers --------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [1, 3, MOST_ROWS, 20])
@pytest.mark.parametrize("lookup", [1, 4, 30])
def test_the_answers_are_the_same_in_fewer_passes(repeats, n_rows, lookup, monkeypatch):
    """Into the end of the context too, which some of these rows reach. Many rows guess nothing
    until few are left.
    """
    asked = prompts(n_rows)
    passes = count_passes(repeats, monkeypatch)
    plain = generate(repeats, asked, 63, end_id=-1)
    n_plain = len(passes)
    passes.clear()
    assert generate(repeats, asked, 63, end_id=-1, lookup=lookup) == plain
    assert len(passes) < n_plain
    written = [(B, T) for B, T in passes if B > 1 or n_rows == 1][n_rows == 1 :]  # not read
    assert 1 < max(T for B, T in written if B <= MOST_ROWS) <= lookup + 1
    assert all(T == 1 for B, T in written if B > MOST_ROWS)
    assert any(B > MOST_ROWS for B, _ in written) == (n_rows > MOST_ROWS)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_rows_that_end_make_room_whatever_was_guessed_behind_their_end(repeats, batch_size):
    asked = prompts(12, seed=1)
    end = comes_sometimes(generate(repeats, asked, 20, end_id=-1))
    plain = generate(repeats, asked, 20, end_id=end)
    assert {"stop", "length"} <= {result.finish_reason for result in plain}
    assert generate(repeats, asked, 20, end_id=end, batch_size=batch_size, lookup=6) == plain


@pytest.mark.parametrize("n_new", [0, 1, 2, 3])
def test_no_answer_is_longer_than_asked(repeats, n_new):
    plain = generate(repeats, prompts(4), n_new, end_id=-1)
    assert generate(repeats, prompts(4), n_new, end_id=-1, lookup=9) == plain


def test_wrong_guesses_leave_nothing_behind():
    """After the same words, other ones: of what was guessed, keys and values are written over."""
    model, tokenizer, prompt = reciter("ab cd ab ce ab cd ab cf ab ce ab cd.", n_ctx=64)
    how = {"end_id": tokenizer.end_id, "tokenizer": tokenizer}
    plain = generate(model, [prompt], 60, **how)
    guessed = generate(model, [prompt], 60, lookup=5, **how)
    assert plain == guessed
    assert plain[0].finish_reason == "stop" and plain[0].text.endswith("cd.")


def believed_in(monkeypatch) -> list[int]:
    """How many tokens each pass that had guesses wrote, before any row ended within them."""
    sizes = []

    def watched(guessed, likeliest):
        found = believed(guessed, likeliest)
        sizes.append(len(found))
        return found

    monkeypatch.setattr("gpt.passes.believed", watched)
    return sizes


@pytest.mark.parametrize("stop", ["e two three. one", "two three. one t", "ee. one two three. E"])
def test_a_stop_string_within_the_guesses_ends_the_answer_there(stop, monkeypatch):
    text = "one two three. one two three. one two three. END"
    model, tokenizer, prompt = reciter(text, n_ctx=64)
    how = {"tokenizer": tokenizer, "stop": stop}
    [plain] = generate(model, [prompt], 60, **how)
    sizes, heard = believed_in(monkeypatch), []
    [guessed] = generate(
        model, [prompt], 60, lookup=8, on_text=lambda _, piece: heard.append(piece), **how
    )
    assert guessed == plain and plain.finish_reason == "stop"
    assert "".join(heard) == plain.text == text[: text.index(stop)]
    assert max(sizes) > 1


def test_what_was_believed_behind_the_end_is_no_part_of_the_answer(monkeypatch):
    """The end token stood in the prompt, and what came after it there is guessed, too."""
    text = "now then. now then. now then."
    model, tokenizer, prompt = reciter(text, n_ctx=64)
    [dot] = tokenizer.encode("t")
    [plain] = generate(model, [prompt], 40, end_id=dot)
    assert plain.ids == tokenizer.encode("now ")
    sizes = believed_in(monkeypatch)
    asked = [*prompt, *tokenizer.encode("now then. now")]
    [plain] = generate(model, [asked], 40, end_id=dot)
    [guessed] = generate(model, [asked], 40, end_id=dot, lookup=9)
    assert guessed == plain and plain.ids == tokenizer.encode(" ")
    assert sizes[0] > len(plain.ids) + 1


def test_a_pass_is_not_asked_for_more_than_the_answer_may_have(monkeypatch):
    model, tokenizer, _ = reciter("abcdabcdabcdabcd", n_ctx=64)
    passes = count_passes(model, monkeypatch)
    [answer] = generate(model, [[0, *tokenizer.encode("abcdabc")]], 4, end_id=-1, lookup=20)
    assert answer.ids == tokenizer.encode("dabc")
    assert [T for _, T in passes] == [8, 3]  # read; the second token, and guesses of two more


def test_scores_that_are_no_numbers_behind_the_end_of_a_row_are_nobodys(monkeypatch):
    text = "one two three. one two three. one two three. END"
    model, tokenizer, prompt = reciter(text, n_ctx=64)
    how = {"tokenizer": tokenizer, "stop": "ree. one two three."}
    [plain] = generate(model, [prompt], 60, **how)
    end = len(prompt) + len(text[: text.index(how["stop"])] + how["stop"])
    hidden, n_broken = model.hidden, []

    def broken(ids, positions=None, *rest, **more):
        found = hidden(ids, positions, *rest, **more)
        if positions is not None:
            found[positions >= end - 1] = float("nan")  # from the place of its last token on
            n_broken.append((positions >= end - 1).sum().item())
        return found

    monkeypatch.setattr(model, "hidden", broken)
    assert generate(model, [prompt], 60, **how) == [plain] and not any(n_broken)
    assert generate(model, [prompt], 60, lookup=8, **how) == [plain] and any(n_broken)


def test_long_repetitions_take_a_fraction_of_the_passes(monkeypatch):
    model, tokenizer, prompt = reciter("the cat sat on the mat. " * 8, n_ctx=200)
    passes = count_passes(model, monkeypatch)
    [answer] = generate(model, [prompt], 190, tokenizer=tokenizer, lookup=10)
    assert answer.text == "the cat sat on the mat. " * 7 + "the cat sat on the mat"
    assert len(passes) < 60


def test_weights_that_are_no_numbers_are_told_of(repeats):
    from copy import deepcopy

    broken = deepcopy(repeats)
    with torch.no_grad():
        broken.ln_f.bias.fill_(float("nan"))
    with pytest.raises(GenerateError, match="no numbers"):
        generate(broken, [[1, 2, 1, 2, 1, 2]], 5, lookup=3)


# ---- what it does not go with ---------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [{"temperature": 0.5}, {"repetition_penalty": 1.2}, {"logprobs": True}, {"use_cache": False},
     {"graphs": True}],
)  # fmt: skip
def test_it_is_refused_where_it_would_be_ignored(repeats, other):
    with pytest.raises(GenerateError, match="lookup checks guesses"):
        generate(repeats, [[1, 2]], 3, lookup=2, **other)
    generate(repeats, [[1, 2]], 3, lookup=0, **other)


def test_it_is_refused_before_anybody_is_told_anything(repeats):
    told = []
    with pytest.raises(GenerateError, match="lookup checks guesses"):
        generate(
            repeats, [[1] * 99, [1, 2]], 3, lookup=2, logprobs=True,
            on_finished=lambda *a: told.append(a),
        )  # fmt: skip
    assert told == []


@pytest.mark.parametrize("value", [-1, 1.5, True, "4", None])
def test_nonsense_is_refused(repeats, value):
    with pytest.raises(SettingError, match="lookup must be"):
        generate(repeats, [[1, 2]], 3, lookup=value)


def test_it_is_a_control_and_checked_before_a_model_is_loaded():
    controls = Controls().changed("lookup", "6")
    assert controls.for_generate()["lookup"] == 6
    with pytest.raises(GenerateError, match="temperature 0"):
        controls.changed("temperature", "0.7")
