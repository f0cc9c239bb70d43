"""What a model would have said: sums over answers, and choices, against the plain computation."""

import math

import pytest
import torch
import torch.nn.functional as F

from gpt.batching import collate_weighted
from gpt.config import GPTConfig
from gpt.encoding import encode_all
from gpt.likelihood import Likelihood, answer_nats, ranked, score_choices
from gpt.loss import summed_loss
from gpt.model import ContextOverflow
from gpt.records import Record, Turn
from gpt.template import Template
from gpt.tokenizer import Tokenizer, learn_merges, tiny_vocabulary
from tests.tiny import random_model

TEMPLATE = Template("test", "{instruction}", "\n:\n")
TEXT = "the cat sat on the mat and the dog sat on the cat"


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(tiny_vocabulary(learn_merges(TEXT, 12)))


@pytest.fixture(scope="module")
def model(tokenizer):
    config = GPTConfig(tokenizer.n_vocab, n_ctx=48, n_layer=2, n_head=2, n_embd=16, dropout=0.1)
    return random_model(config)


def rows_of(tokenizer, answers, asked="say {}"):
    return [
        (
            TEMPLATE.prompt_ids(tokenizer, [Turn("user", asked.format(i))]),
            [*tokenizer.encode(text), tokenizer.end_id],
        )
        for i, text in enumerate(answers)
    ]


ANSWERS = ["the cat", "çok güzel 🐈", "x", "the dog sat on the mat and the cat sat", "mat", "and"]


def plain_nats(model, ids, n_prompt, end):
    """One text at a time, without batch or cache."""
    with torch.no_grad():
        surprise = -F.log_softmax(model(torch.tensor([ids]))[0].double(), dim=1)
    return sum(float(surprise[t - 1, id]) for t, id in enumerate([*ids, end]) if t >= n_prompt)


@pytest.mark.parametrize("max_tokens", [1, 50, 8192, None])
@pytest.mark.parametrize("asked", ["say {}", "{}", "a {}"])
def test_the_likelihood_of_answers_is_that_of_each_token_summed(
    model, tokenizer, max_tokens, asked
):
    rows = rows_of(tokenizer, ANSWERS, asked)
    found = answer_nats(model, rows, max_tokens)
    for nats, (prompt, answer) in zip(found, rows, strict=True):
        ids = [*prompt, *answer[:-1]]
        assert nats == pytest.approx(plain_nats(model, ids, len(prompt), answer[-1]), rel=1e-4)


def test_it_is_the_loss_that_training_lowers(model, tokenizer):
    """The same prompts, answers and ends as a training batch has: no other text, no other mask."""
    turns = [(Turn("user", f"say {i}"), Turn("assistant", text)) for i, text in enumerate(ANSWERS)]
    records = [Record(pair, "test", i, {}) for i, pair in enumerate(turns, 1)]
    examples = encode_all(records, tokenizer, TEMPLATE, max_length=48)
    batch = collate_weighted(list(examples), tokenizer.end_id, 0.0)
    with torch.no_grad():
        trained_on = float(summed_loss(model, batch))
    assert sum(answer_nats(model, rows_of(tokenizer, ANSWERS))) == pytest.approx(trained_on)


def test_what_all_prompts_begin_with_is_read_once(model, tokenizer, monkeypatch):
    shapes, hidden = [], model.hidden

    def counted(ids, **more):
        shapes.append(tuple(ids.shape))
        return hidden(ids, **more)

    monkeypatch.setattr(model, "hidden", counted)
    rows = [([*range(12), 20 + i], [3, 4]) for i in range(5)]
    answer_nats(model, rows)
    assert shapes == [(1, 12), (5, 2)]


def test_perplexity_and_bits_per_byte_are_what_they_are_called():
    sure = Likelihood(nats=0.0, n_tokens=5, n_bytes=10)
    assert sure.perplexity == 1 and sure.bits_per_byte == 0
    guess = Likelihood(nats=5 * math.log(97), n_tokens=5, n_bytes=5)
    assert guess.perplexity == pytest.approx(97)
    assert guess.bits_per_byte == pytest.approx(math.log2(97))
    assert 1e300 < Likelihood(1e6, 1, 1).perplexity < math.inf
    assert Likelihood.of_all([sure, guess]) == Likelihood(guess.nats, 10, 15, 2)


def test_a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary(model, tokenizer):
    zero = random_model(model.config)
    with torch.no_grad():
        zero.wte.weight.zero_()
    rows = rows_of(tokenizer, ANSWERS)
    for nats, (_, answer) in zip(answer_nats(zero, rows), rows, strict=True):
        assert nats == pytest.approx(len(answer) * math.log(tokenizer.n_vocab), rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_reading_leaves_the_model_as_it_was(model, tokenizer, training):
    """In training mode dropout would make it another number each time."""
    rows = rows_of(tokenizer, ANSWERS)
    model.train(training)
    before = torch.get_rng_state()
    first, second = (answer_nats(model, rows) for _ in range(2))
    score_choices(model, tokenizer, [1, 2], ["the cat"])
    assert first == second
    assert model.training is training
    assert torch.equal(torch.get_rng_state(), before)
    model.eval()


# ---- choices --------------------------------------------------------------------------------

CHOICES = ["the cat", "the dog sat on the mat", "🐈", "the", "the cat sat", "mat", "the cat"]


def plain_choice(model, prompt, ids):
    return -plain_nats(model, [*prompt, *ids[:-1]], len(prompt), ids[-1])


@pytest.mark.parametrize("with_end", [False, True])
@pytest.mark.parametrize("n_prompt", [1, 2, 11])
def test_choices_in_one_batch_behind_a_cache_score_as_each_alone(
    model, tokenizer, n_prompt, with_end
):
    prompt = tokenizer.encode("what did the cat do on the mat?")[:n_prompt]
    found = score_choices(model, tokenizer, prompt, CHOICES, with_end)
    assert [choice.text for choice in found] == CHOICES
    for choice in found:
        ids = [*tokenizer.encode(choice.text), *[tokenizer.end_id] * with_end]
        assert choice.log_likelihood == pytest.approx(plain_choice(model, prompt, ids), rel=1e-4)
        assert choice.n_tokens == len(ids)
        assert choice.n_bytes == len(choice.text.encode())
        assert choice.per_token == choice.log_likelihood / len(ids)
        assert choice.per_byte == choice.log_likelihood / len(choice.text.encode())


def test_however_many_are_computed_at_once(model, tokenizer, monkeypatch):
    whole = score_choices(model, tokenizer, [3, 4, 5], CHOICES)
    for numbers in (1, 2000, 5000):
        monkeypatch.setattr("gpt.loss.CHUNK_NUMBERS", numbers)
        pieces = score_choices(model, tokenizer, [3, 4, 5], CHOICES)
        assert [c.log_likelihood for c in pieces] == pytest.approx(
            [c.log_likelihood for c in whole], rel=1e-5
        )


def test_the_prompt_is_read_once(model, tokenizer, monkeypatch):
    lengths = []
    hidden = model.hidden

    def counted(ids, **more):
        lengths.append(tuple(ids.shape))
        return hidden(ids, **more)

    monkeypatch.setattr(model, "hidden", counted)
    score_choices(model, tokenizer, list(range(20)), ["a", "b", "c"])
    assert lengths == [(1, 19), (3, 1)]


def test_ranking_by_length_is_another_ranking(model, tokenizer):
    found = score_choices(model, tokenizer, [1, 2, 3], CHOICES)
    for by in ("log_likelihood", "per_token", "per_byte"):
        order = ranked(found, by)
        scores = [getattr(found[i], by) for i in order]
        assert scores == sorted(scores, reverse=True) and sorted(order) == list(range(7))
    longest = max(range(7), key=lambda i: found[i].n_bytes)
    assert ranked(found).index(longest) > ranked(found, "per_byte").index(longest)


def test_equal_choices_rank_in_their_order(model, tokenizer):
    order = ranked(score_choices(model, tokenizer, [1], CHOICES))
    assert order.index(0) < order.index(6)  # the same text


def test_with_its_end_a_choice_gains_nothing_from_being_where_another_begins(model, tokenizer):
    short, long = score_choices(model, tokenizer, [1, 2], ["the cat", "the cat sat"])
    assert short.log_likelihood > long.log_likelihood  # certain, whatever the model
    ids = tokenizer.encode("the cat")
    with torch.no_grad():
        logits = model(torch.tensor([[1, 2, *ids]]))[0, -1]
    [ended, _] = score_choices(model, tokenizer, [1, 2], ["the cat", "the cat sat"], with_end=True)
    end = float(F.log_softmax(logits, dim=0)[tokenizer.end_id])
    assert ended.log_likelihood == pytest.approx(short.log_likelihood + end, rel=1e-4)


def test_the_whole_context_can_be_used_and_no_more(model, tokenizer):
    n_ctx = model.config.n_ctx
    ids = tokenizer.encode("mat and the dog sat")
    room = n_ctx + 1 - len(ids)  # the last token of a choice is never read
    assert len(score_choices(model, tokenizer, [1] * room, ["mat and the dog sat"])) == 1
    with pytest.raises(ContextOverflow, match=str(n_ctx)):
        score_choices(model, tokenizer, [1] * (room + 1), ["mat and the dog sat"])


def test_nothing_to_choose_from_and_nothing_to_go_on(model, tokenizer):
    assert score_choices(model, tokenizer, [1], []) == []
    with pytest.raises(ValueError, match="prompt"):
        score_choices(model, tokenizer, [], ["a"])
    with pytest.raises(ValueError, match="without text"):
        score_choices(model, tokenizer, [1], ["a", ""])


def test_the_choice_that_transformers_finds_the_most_probable(tmp_path):
    transformers = pytest.importorskip("transformers", reason="the reference model")
    from gpt.weights import load_model, save_model

    tokenizer = Tokenizer(tiny_vocabulary(learn_merges(TEXT, 12)))
    config = GPTConfig(tokenizer.n_vocab, n_ctx=48, n_layer=2, n_head=2, n_embd=16, dropout=0.0)
    model = random_model(config)
    model.vocabulary = tiny_vocabulary(learn_merges(TEXT, 12))
    save_model(model, tmp_path / "model")
    reference = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "model").eval()
    prompt = tokenizer.encode("the cat sat")
    found = score_choices(load_model(tmp_path / "model"), tokenizer, prompt, CHOICES)
    for choice in found:
        ids = tokenizer.encode(choice.text)
        whole = torch.tensor([[*prompt, *ids]])
        with torch.no_grad():
            logits = reference(whole).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        theirs = float(logits[torch.arange(len(ids)), torch.tensor(ids)].sum())
        assert choice.log_likelihood == pytest.approx(theirs, rel=1e-4)
