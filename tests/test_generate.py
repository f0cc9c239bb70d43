"""Generation is one thing however it is computed: batched, cached, shared, streamed or alone."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpt.config import PUBLISHED, GPTConfig
from gpt.errors import UserError
from gpt.generate import generate
from gpt.likelihood import answer_nats
from gpt.loss import _HEAD_PART, _highest, logits_of, most_likely
from gpt.model import GPT
from gpt.preamble import each_once
from gpt.sampling import GenerateError
from gpt.slots import Slots, rows_that_fit
from gpt.tokenizer import Tokenizer, tiny_vocabulary
from tests.test_model import transformers_twin
from tests.tiny import random_model

CONFIG = GPTConfig(vocab_size=600, n_ctx=64, n_layer=2, n_head=2, n_embd=32, dropout=0.0)
BYTES = Tokenizer(tiny_vocabulary([]))  # no merges: a token is a byte, and 256 ends


@pytest.fixture(scope="module")
def model() -> GPT:
    """A lively one: what it writes changes with the place, the token and all that went before."""
    model = random_model(CONFIG)
    with torch.no_grad():
        model.wte.weight.mul_(2)
        model.wpe.weight.mul_(8)
        for block in model.h:
            block.attn.c_attn.weight.mul_(4)
            block.attn.c_proj.weight.mul_(3)
            block.mlp.c_proj.weight.mul_(3)
    return model


def mixed_prompts(n: int, longest: int = 40, seed: int = 0) -> list[list[int]]:
    pick = random.Random(seed)
    return [
        [pick.randrange(CONFIG.vocab_size) for _ in range(pick.randint(1, longest))]
        for _ in range(n)
    ]


def comes_sometimes(results) -> int:
    """A token with which some of these rows would end, early or late."""
    return max(range(CONFIG.vocab_size), key=lambda id: sum(id in r.ids[1:] for r in results))


def ids_of(results) -> list[list[int]]:
    return [result.ids for result in results]


def plainly(model: GPT, prompt: list[int], n: int) -> list[int]:
    """As the book does it: the whole text through the model, for each token."""
    ids = list(prompt)
    for _ in range(n):
        ids.append(model(torch.tensor([ids]))[0, -1].argmax().item())
    return ids[len(prompt) :]


def knows_by_heart(ids: list[int], V: int, n_ctx: int = 64) -> GPT:
    """A model whose next token at place t is ids[t + 1], whatever came before."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(V, n_ctx=n_ctx, n_layer=1, n_head=2, n_embd=64)).eval()
    with torch.no_grad():
        model.wte.weight.mul_(7)
        model.wpe.weight[: len(ids) - 1] = 9 * model.wte.weight[ids[1:]]
    return model


def reciter(text: str | bytes | list[str], n_ctx: int = 64) -> tuple[GPT, Tokenizer, list[int]]:
    """A model, and the prompt of one token after which it writes `text` and ends.

    A token is a byte, but for those of a list: each of its pieces is one token.
    """
    pieces = text if isinstance(text, list) else []
    merges = [(a[:n], a[n]) for a in pieces for n in range(1, len(a))]
    tokenizer = Tokenizer(tiny_vocabulary(dict.fromkeys(merges)))
    id_of = {tokenizer.token_bytes(id): id for id in range(tokenizer.n_vocab)}
    if isinstance(text, list):
        ids = [id_of[piece.encode()] for piece in text]
    else:
        ids = [id_of[bytes([b])] for b in (text.encode() if isinstance(text, str) else text)]
    ids = [0, *ids, tokenizer.end_id]
    return knows_by_heart(ids, tokenizer.n_vocab, max(n_ctx, len(ids))), tokenizer, [0]


# ---- one answer, however it is computed -----------------------------------------------------


def test_greedy_is_the_same_in_any_batch_with_or_without_a_cache_and_as_transformers(model):
    prompts = mixed_prompts(16)
    twin = transformers_twin(model)
    expected = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        written = twin.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=20,
            do_sample=False,
            pad_token_id=0,
        )
        expected.append(written[0, len(prompt) :].tolist())
    assert len({tuple(ids) for ids in expected}) == 16  # or all would be too easily the same
    assert sum(len(set(ids)) for ids in expected) > 16 * 12
    for batch_size in (1, 3, 16, None):
        for use_cache in (True, False):
            results = generate(model, prompts, 20, batch_size=batch_size, use_cache=use_cache)
            assert ids_of(results) == expected, (batch_size, use_cache)
            assert {result.finish_reason for result in results} == {"length"}


@pytest.mark.slow
def test_greedy_of_the_full_124m_equals_transformers_padded_batch():
    torch.manual_seed(0)
    model = GPT(PUBLISHED["gpt2"]).eval()
    prompts = [[(id * 83) % 50257 for id in prompt] for prompt in mixed_prompts(16)]
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    written = transformers_twin(model).generate(
        ids, attention_mask=mask, max_new_tokens=12, min_new_tokens=12, do_sample=False
    )
    assert ids_of(generate(model, prompts, 12, end_id=-1)) == written[:, width:].tolist()


@pytest.mark.parametrize(
    "controls",
    [
        {},
        {"top_k": 20},
        {"top_p": 0.8},
        {"min_p": 0.05},
        {"repetition_penalty": 1.5},
        {"top_k": 50, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.2},
    ],
)
def test_sampled_rows_are_the_same_in_any_batch(model, controls):
    prompts = mixed_prompts(16)
    settings = {"temperature": 1.2, "seed": 4} | controls
    end_id = comes_sometimes(generate(model, prompts, 20, **settings))
    settings |= {"end_id": end_id}  # so that rows move
    alone = generate(model, prompts, 20, batch_size=1, use_cache=False, **settings)
    for batch_size in (1, 5, 16):
        assert generate(model, prompts, 20, batch_size=batch_size, **settings) == alone
    assert generate(model, prompts, 20, **(settings | {"seed": 5})) != alone


def test_a_row_draws_by_its_number_so_that_a_call_can_be_taken_up_again(model):
    prompts = [[1, 2, 3]] * 8
    whole = generate(model, prompts, 12, temperature=1.0)
    assert len({tuple(ids) for ids in ids_of(whole)}) == 8
    rest = generate(model, prompts[5:], 12, temperature=1.0, row_numbers=[5, 6, 7])
    assert rest == whole[5:]
    some = generate(model, prompts[:2], 12, temperature=1.0, row_numbers=[6, 3])
    assert some == [whole[6], whole[3]]
    with pytest.raises(ValueError):
        generate(model, prompts, 12, row_numbers=[1])


def test_rows_end_at_their_own_time_and_others_take_their_places(model):
    """With an end that comes sometime, in batches smaller than the number of prompts."""
    prompts = mixed_prompts(30, longest=20, seed=3)
    never = generate(model, prompts, 25, temperature=1.0, end_id=-1)
    end_id = comes_sometimes(never)
    expected = []
    for result in never:
        n = result.ids.index(end_id) if end_id in result.ids else 25
        expected.append((result.ids[:n], "stop" if n < 25 else "length"))
    assert sum(reason == "stop" for _, reason in expected) > 5
    for batch_size in (1, 2, 4, 7, 30, 100):
        results = generate(model, prompts, 25, 1.0, end_id=end_id, batch_size=batch_size)
        assert [(r.ids, r.finish_reason) for r in results] == expected


def test_no_pass_computes_a_row_that_has_ended(model):
    prompts = [[i, *range(1, 10)] for i in range(20)]  # ten tokens each, none of them shared
    end_id = comes_sometimes(generate(model, prompts, 30, temperature=1.0))
    with Spy(model) as spy:
        results = generate(model, prompts, 30, temperature=1.0, end_id=end_id, batch_size=8)
    assert len({len(result.ids) for result in results}) > 3
    # A row's first token comes of reading its prompt. Each other, its end too, takes it once more.
    n_written = sum(len(r.ids) - (r.finish_reason == "length") for r in results)
    assert sum(rows * width for rows, width in spy.shapes) == 20 * 10 + n_written
    # And as long as there are prompts that wait, a free slot does not stay free.
    n_taken_in = 0
    for rows, width in spy.shapes:
        n_taken_in += width // 10
        assert rows == 8 or width > 1 or n_taken_in == 20


def test_rows_that_wait_come_in_when_there_is_room(model):
    prompts = [[i, 1, 2] for i in range(20)]
    with Spy(model) as spy:
        generate(model, prompts, 11, end_id=-1, batch_size=8)
    # Three rounds of 8, 8 and 4 rows: each one pass to read, ten to write.
    assert spy.shapes == [s for n in (8, 8, 4) for s in [(1, n * 3)] + [(n, 1)] * 10]


class Spy:
    """Counts what goes through a model."""

    def __init__(self, model: GPT) -> None:
        self.model, self.shapes = model, []

    def __enter__(self) -> "Spy":
        hidden = self.model.hidden

        def counted(ids, *args, **kwargs):
            self.shapes.append(tuple(ids.shape))
            return hidden(ids, *args, **kwargs)

        self.model.hidden = counted
        return self

    def __exit__(self, *_) -> None:
        del self.model.hidden


def test_what_prompts_begin_with_alike_is_read_once_and_changes_nothing(model):
    shared = list(range(100, 120))
    prompts = [shared + prompt for prompt in mixed_prompts(9, longest=12)]
    prompts += [shared, shared[:], shared + prompts[0][20:21]]  # nothing of its own; twins
    prompts += [prompts[3] + [7, 8], prompts[3] + [7, 9]]  # alike for longer
    prompts += [[*shared, 1, 5, 6], [*shared, 2, 5, 6]]  # the same again, behind what is not
    anew = generate(model, prompts, 10, use_cache=False)
    with Spy(model) as spy:
        assert generate(model, prompts, 10) == anew
    assert spy.shapes[0] == (1, 19)  # a token is left for each
    behind = {tuple(p[:n]) for p in prompts for n in range(20, len(p) + 1)}
    assert spy.shapes[1] == (1, len(behind)) and len(behind) < sum(len(p) - 19 for p in prompts)
    with Spy(model) as spy:  # a prompt alone shares with nobody
        assert generate(model, prompts[:1], 10) == anew[:1]
    assert spy.shapes[0] == (1, len(prompts[0]))


def test_long_prompts_are_read_a_few_at_a_time(model, monkeypatch):
    monkeypatch.setattr("gpt.passes._READ_AT_ONCE", {"cpu": 64})
    prompts = [[i] * n for i, n in enumerate((20, 31, 32, 33, 60, 3, 2, 1))]
    with Spy(model) as spy:
        results = generate(model, prompts, 4)
    # 64 tokens at most with those that fill up, or one row.
    assert spy.shapes[:4] == [(1, 60), (1, 33), (1, 32 + 31), (1, 20 + 3 + 2)]
    assert ids_of(results) == [plainly(model, prompt, 4) for prompt in prompts]


def test_one_call_leaves_nothing_behind_for_the_next(model):
    prompts = mixed_prompts(6)
    first = generate(model, prompts, 10, temperature=1.0)
    generate(model, mixed_prompts(9, seed=8), 30, temperature=2.0, seed=3)
    assert generate(model, prompts, 10, temperature=1.0) == first


def test_the_random_state_the_modes_and_the_gradients_of_the_caller_are_left_alone(model):
    model.train()
    model.h[1].eval()  # as one who froze a part of it may have it
    try:
        before = torch.get_rng_state(), np.random.get_state()[1].tolist()
        modes = [module.training for module in model.modules()]
        during = []
        generate(
            model,
            [[1, 2]],
            3,
            temperature=1.0,
            on_finished=lambda *_: during.append(
                (model.training, torch.is_inference_mode_enabled())
            ),
        )
        assert during == [(False, False)]
        assert [module.training for module in model.modules()] == modes
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.random.get_state()[1].tolist() == before[1]
        with pytest.raises(RuntimeError, match="mine"):
            generate(model, [[1, 2]], 3, on_finished=raises)
        assert [module.training for module in model.modules()] == modes
        model(torch.tensor([[1, 2]])).sum().backward()
        assert model.wte.weight.grad is not None
    finally:
        model.zero_grad()
        model.eval()


def raises(*_) -> None:
    raise RuntimeError("mine")


def test_there_is_no_dropout_while_a_text_is_written():
    config = GPTConfig(**{**CONFIG.__dict__, "dropout": 0.5})
    model = random_model(config)
    still = generate(model, [[5, 6, 7]], 10)
    model.train()
    assert generate(model, [[5, 6, 7]], 10) == still


@pytest.mark.parametrize("n", [3, 9])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_generate_and_a_cache_changes_little(dtype, n):
    model, tokenizer, prompt = reciter("in half as many bits")
    model = model.to(dtype)
    for settings in ({}, {"temperature": 0.1, "top_p": 0.9}, {"use_cache": False}):
        results = generate(model, [prompt] * n, 40, end_id=256, tokenizer=tokenizer, **settings)
        assert [r.text for r in results] == ["in half as many bits"] * n


@pytest.mark.parametrize("n", [1, 9])
def test_a_callers_autocast_is_no_trouble(n):
    model, tokenizer, prompt = reciter("in half as many bits")
    prompts = [prompt, *([[*prompt, 98]] * n)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results = generate(model, prompts, 40, end_id=256, tokenizer=tokenizer)
    assert results[0].text == "in half as many bits"


def test_the_head_in_parts_is_the_head():
    model = random_model(GPTConfig(2 * _HEAD_PART + 19, n_ctx=8, n_layer=1, n_head=2, n_embd=16))
    for rows in (1, 2, 7):
        hidden = torch.randn(rows, 16, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            torch.testing.assert_close(logits_of(hidden, model.wte.weight), model.head(hidden))
            half = model.to(torch.bfloat16)
            few = hidden.bfloat16()
            assert torch.equal(logits_of(few, half.wte.weight), half.head(few))
        model.float()


def test_the_most_likely_of_parts_is_the_most_likely():
    generator = torch.Generator().manual_seed(0)
    head = torch.randn(2 * _HEAD_PART + 19, 16, generator=generator)
    hidden = torch.randn(7, 16, generator=generator)
    hidden[1] = 1000 * head[-1]
    for some in (hidden, hidden[:1], hidden.repeat(16, 1)):
        assert most_likely(some, head, len(head)).tolist() == (some @ head.T).argmax(1).tolist()
    head[[5, _HEAD_PART + 5, -1]] = 100 * head[3]
    hidden[0] = head[3]
    hidden[2, 3], hidden[4, 0] = torch.nan, torch.inf
    for some in (hidden, hidden.repeat(16, 1)):  # of equals the first, as argmax has it
        found = most_likely(some, head, len(head)).tolist()
        assert (found[0], found[2], found[4]) == (5, -1, -1)


@pytest.mark.parametrize("V", [2 * _HEAD_PART + n for n in (-1, 0, 1, _HEAD_PART - 1, _HEAD_PART)])
def test_the_highest_of_many_is_found_part_by_part(V):
    logits = torch.randn(V, V, generator=torch.Generator().manual_seed(V)).bfloat16()
    logits.diagonal().fill_(10)  # each place once is the highest
    values, places = _highest(logits)
    assert torch.equal(places, torch.arange(V)) and (values == 10).all()
    logits[:, [3, V - 1]] = 20
    assert (_highest(logits)[1] == 3).all()


# ---- references, read beside the prompts -----------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 5, None])
@pytest.mark.parametrize("use_cache", [True, False])
def test_references_change_no_answer_and_are_as_surprising_as_alone(model, batch_size, use_cache):
    prompts = [[7, 8, 9, *prompt] for prompt in mixed_prompts(12, longest=20)]
    references = [prompt[:n] or None for n, prompt in enumerate(mixed_prompts(12, seed=1), 1)]
    references[3] = None
    settings = {"batch_size": batch_size, "use_cache": use_cache, "temperature": 1.0}
    plain = generate(model, prompts, 15, **settings)
    results = generate(model, prompts, 15, references=references, **settings)
    assert ids_of(results) == ids_of(plain)
    assert results[3].reference_nats is None and plain[0].reference_nats is None
    for prompt, reference, result in zip(prompts, references, results, strict=True):
        if reference is not None:
            [alone] = answer_nats(model, [(prompt, reference)])
            assert result.reference_nats == pytest.approx(alone, rel=1e-4)


def test_a_reference_longer_than_any_answer_may_be_or_than_the_context(model):
    prompt, long = [1, 2, 3], list(range(100, 100 + CONFIG.n_ctx - 2))
    [result] = generate(model, [prompt], 1, references=[long])
    [alone] = answer_nats(model, [(prompt, long)])
    assert result.reference_nats == pytest.approx(alone, rel=1e-4)
    results = generate(model, [prompt, [4]], 2, references=[[*long, 5], [6]])
    assert [result.reference_nats is None for result in results] == [True, False]
    assert ids_of(results) == ids_of(generate(model, [prompt, [4]], 2))


def test_a_reference_costs_no_second_reading_of_its_prompt(model, monkeypatch):
    shapes, hidden = [], model.hidden
    monkeypatch.setattr(
        model, "hidden", lambda ids, *more, **named: shapes.append(tuple(ids.shape))
        or hidden(ids, *more, **named),
    )  # fmt: skip
    prompts = [[*range(10), 20 + i, 30 + i] for i in range(4)]
    generate(model, prompts, 2, references=[[40, 41, 42]] * 4)
    assert shapes == [(1, 10), (1, 4 * 4), (4, 1)]


# ---- when a row ends ------------------------------------------------------------------------


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_context_ends_a_row_and_no_prompt_is_ever_cut(model, use_cache, batch_size):
    """n_ctx is 64: the token at the 64th place has a successor, the one after it has not."""
    prompts = [[i % 600 for i in range(n)] for n in (60, 63, 64, 65, 313, 3)]
    results = generate(model, prompts, 10, batch_size=batch_size, use_cache=use_cache)
    assert [len(r.ids) for r in results] == [5, 2, 1, 0, 0, 10]
    assert [r.finish_reason for r in results] == ["context"] * 5 + ["length"]
    assert [r.n_prompt for r in results] == [60, 63, 64, 65, 313, 3]
    assert "313 tokens" in results[4].note and "sees 64" in results[4].note
    assert "60 tokens and its answer 5" in results[0].note and not results[5].note
    for prompt, result in zip(prompts, results, strict=True):
        if len(prompt) <= 64:  # what is written is what the whole prompt asks for
            padded = prompt + result.ids[:-1]
            assert model(torch.tensor([padded]))[0, -1].argmax() == result.ids[-1]
    exactly = generate(model, prompts[2:3], 1, batch_size=batch_size, use_cache=use_cache)
    assert (len(exactly[0].ids), exactly[0].finish_reason) == (1, "length")


def test_prompts_of_1024_1025_and_5000_tokens_of_a_real_context():
    model = random_model(GPTConfig(50, n_ctx=1024, n_layer=1, n_head=1, n_embd=8))
    results = generate(model, [[7] * n for n in (1024, 1025, 5000)], 3)
    assert [len(r.ids) for r in results] == [1, 0, 0]
    assert [r.finish_reason for r in results] == ["context"] * 3
    assert "5,000 tokens" in results[2].note and "1,024" in results[2].note


def test_no_new_tokens_and_no_prompts_are_answered_with_nothing(model):
    results = generate(model, [[1, 2], [3] * 65], 0, logprobs=True, tokenizer=BYTES)
    assert [(r.ids, r.finish_reason, r.text, r.logprobs) for r in results] == [
        ([], "length", "", []),
        ([], "context", "", []),
    ]
    assert generate(model, [], 5) == []


def test_the_end_token_is_the_configs_unless_another_or_none_is_given():
    model, tokenizer, prompt = reciter("abc")
    assert model.config.end_id is None
    [never] = generate(model, [prompt], 6)
    assert len(never.ids) == 6 and never.finish_reason == "length"
    model.config.end_id = tokenizer.end_id
    [stopped] = generate(model, [prompt], 6)
    assert tokenizer.decode(stopped.ids) == "abc" and stopped.finish_reason == "stop"
    assert generate(model, [prompt], 6, end_id=-1) == [never]
    b = tokenizer.encode("b")[0]
    assert tokenizer.decode(generate(model, [prompt], 6, end_id=b)[0].ids) == "a"
    at_once = generate(model, [prompt], 6, end_id=tokenizer.encode("a")[0])[0]
    assert (at_once.ids, at_once.finish_reason) == ([], "stop")
    assert generate(model, [prompt], 3)[0].finish_reason == "length"  # before its end came


@pytest.mark.parametrize(
    "stop, text, ids",
    [
        ("##", "abcd", ["abc"]),  # it begins within d#, which is therefore not kept
        ("#", "abcd", ["abc"]),
        ("d#", "abc", ["abc"]),
        ("bc", "a", []),  # within a token
        ("abc", "", []),
        ("cd###e", "ab", []),  # over four tokens
        ("e", "abcd###", ["abc", "d#", "##"]),
        (["e", "#"], "abcd", ["abc"]),  # the first of several
        (["#e", "zzz"], "abcd##", ["abc", "d#"]),
        (["cd#", "b"], "a", []),
        (["d#", "cd#"], "ab", []),  # both are complete at once: the one that begins first
        ("never", "abcd###ef", ["abc", "d#", "##", "e", "f"]),
    ],
)
def test_text_ends_before_the_stop_string_however_tokens_spell_it(stop, text, ids):
    model, tokenizer, prompt = reciter(["abc", "d#", "##", "e", "f"])
    [result] = generate(
        model, [prompt], 9, end_id=tokenizer.end_id, stop=stop, tokenizer=tokenizer, logprobs=True
    )
    assert (result.text, result.finish_reason) == (text, "stop")
    assert [tokenizer.decode([id]) for id in result.ids] == ids
    assert len(result.logprobs) == len(ids)


def test_a_stop_string_is_looked_for_in_the_answer_alone():
    model, tokenizer, _ = reciter("stop here")
    ids = [0, *tokenizer.encode("stop here")]
    [result] = generate(model, [ids[:6]], 9, end_id=256, stop="stop", tokenizer=tokenizer)
    assert result.text == "here"


def test_a_stop_string_at_the_last_token_is_a_stop_and_half_of_one_is_text():
    model, tokenizer, prompt = reciter("one two")
    settings = {"end_id": 256, "stop": "two", "tokenizer": tokenizer}
    [whole] = generate(model, [prompt], 7, **settings)
    assert (whole.text, whole.finish_reason) == ("one ", "stop")
    [half] = generate(model, [prompt], 6, **settings)
    assert (half.text, half.finish_reason) == ("one tw", "length")


def test_rows_with_stop_strings_do_not_disturb_each_other():
    model, tokenizer, _ = reciter("first. second. third. fourth.")
    ids = [0, *tokenizer.encode("first. second. third. fourth.")]
    prompts = [ids[:n] for n in (1, 9, 3, 17, 26, 2)]
    settings = {"end_id": 256, "stop": [". ", "our"], "tokenizer": tokenizer, "logprobs": True}
    results = generate(model, prompts, 30, batch_size=2, **settings)
    assert [r.text for r in results] == ["first", "econd", "rst", "hird", "rth.", "irst"]
    assert all(len(r.logprobs) == len(r.ids) == len(r.text) for r in results)


# ---- what a listener hears ------------------------------------------------------------------

TEXT = "Ağaç 🌳, 漢字; e\u0301, 👩‍👩‍👧 end."


def heard(text, prompts: int = 1, **settings) -> tuple[list[str], str]:
    model, tokenizer, prompt = reciter(text)
    pieces: dict[int, list[str]] = {}
    results = generate(
        model,
        [prompt] * prompts,
        90,
        end_id=256,
        tokenizer=tokenizer,
        on_text=lambda i, piece: pieces.setdefault(i, []).append(piece),
        **settings,
    )
    assert all("".join(pieces.get(i, [])) == results[i].text for i in range(prompts))
    return pieces.get(0, []), results[0].text


def test_a_stream_comes_in_whole_characters():
    pieces, text = heard(TEXT)
    assert text == TEXT
    assert pieces == list(TEXT)  # a token is a byte here, so each character comes on its own
    heard(TEXT, prompts=3, batch_size=2)


def test_a_stream_holds_back_what_may_become_a_stop_string():
    pieces, text = heard("no ###, but ### End here", stop="### End")
    assert text == "no ###, but "
    assert pieces == ["n", "o", " ", "###,", " ", "b", "u", "t", " "]
    pieces, text = heard("say 🌳🌴 now", stop="🌴 ")  # trees have three of four bytes in common
    assert text == "say 🌳" and pieces == list("say 🌳")
    pieces, text = heard("it ends in ##", stop="###")  # held back to the end, and said then
    assert text == "it ends in ##" and pieces[-1] == "##"


def test_a_character_that_is_never_completed_is_a_replacement_at_the_very_end():
    assert heard("ab🌳".encode()[:-1]) == (["a", "b", "�"], "ab�")
    assert heard(b"a\xff\xffb") == (["a", "�", "�", "b"], "a��b")


@given(
    st.one_of(st.text("ab🌳#é", max_size=12).map(str.encode), st.binary(max_size=12)),
    st.lists(st.text("ab🌳#é", min_size=1, max_size=3), max_size=2),
)
def test_all_that_a_stream_says_is_the_text_up_to_the_first_stop_to_be_complete(data, stop):
    _, text = heard(data, stop=stop)  # which asserts the one half of it
    stop = [s.encode() for s in stop]
    for end in range(len(data) + 1):  # a token is a byte: a stop is seen with its last
        begins = [data[:end].find(s) for s in stop if s in data[:end]]
        if begins:
            assert text == data[: min(begins)].decode(errors="replace")
            return
    assert text == data.decode(errors="replace")


def test_results_are_told_as_soon_as_they_are_there_and_each_once(model):
    prompts = [*mixed_prompts(12, longest=30), [1] * 65]
    told = []
    results = generate(
        model, prompts, 40, batch_size=3, on_finished=lambda i, result: told.append((i, result))
    )
    assert sorted(i for i, _ in told) == list(range(13))
    assert all(results[i] is result for i, result in told)
    assert told[0][0] == 12  # known before anything is computed
    with pytest.raises(RuntimeError, match="mine"):
        generate(model, prompts, 40, on_finished=raises)


# ---- what is told of each token -------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 1.3, "top_k": 5}, {"temperature": 1.0, "repetition_penalty": 2}],
)
def test_logprobs_are_the_models_own_whatever_chose_the_token(model, settings):
    prompts = mixed_prompts(5)
    for result, prompt in zip(
        generate(model, prompts, 12, logprobs=True, batch_size=2, **settings), prompts, strict=True
    ):
        logits = model(torch.tensor([prompt + result.ids]))[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1).gather(1, torch.tensor(result.ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(result.logprobs), expected, atol=1e-4, rtol=1e-4)
    assert generate(model, prompts, 2)[0].logprobs is None


def test_the_end_token_has_no_logprob_as_it_is_no_id():
    model, _, prompt = reciter("abc")
    [result] = generate(model, [prompt], 9, end_id=256, logprobs=True)
    assert len(result.ids) == len(result.logprobs) == 3


def test_a_penalty_counts_the_prompt_and_the_answer_of_its_own_row_alone(model):
    prompts = mixed_prompts(16, longest=12)

    def by_hand(prompt: list[int], end_id: int) -> list[int]:
        ids = list(prompt)
        while len(ids) < len(prompt) + 15:
            logits = model(torch.tensor([ids]))[0, -1]
            for id in set(ids):
                logits[id] = logits[id] / 3 if logits[id] > 0 else logits[id] * 3
            ids.append(logits.argmax().item())
            if ids[-1] == end_id:
                return ids[len(prompt) : -1]
        return ids[len(prompt) :]

    settings = {"max_new_tokens": 15, "repetition_penalty": 3}
    end_id = comes_sometimes(generate(model, prompts, **settings))
    with torch.no_grad():
        expected = [by_hand(prompt, end_id) for prompt in prompts]
    assert len({len(ids) for ids in expected}) > 2
    for batch_size in (1, 3, 7):
        results = generate(model, prompts, **settings, end_id=end_id, batch_size=batch_size)
        assert ids_of(results) == expected
    assert ids_of(generate(model, prompts, 15, end_id=end_id)) != expected


def test_a_row_of_the_table_that_is_no_token_is_never_written():
    """Vocabularies are padded to a round number: what stands there spells nothing."""
    tokenizer = Tokenizer(tiny_vocabulary([]))
    model = random_model(GPTConfig(300, n_ctx=32, n_layer=1, n_head=2, n_embd=16))
    rows = [[i, 290] for i in range(20)]  # it may be read
    for settings in ({"temperature": 5.0}, {"temperature": 5.0, "repetition_penalty": 1.2}):
        assert any(id > 256 for r in generate(model, rows, 20, **settings) for id in r.ids)
        results = generate(model, rows, 20, tokenizer=tokenizer, logprobs=True, **settings)
        assert not any(id > 256 for r in results for id in r.ids)


# ---- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"temperature": -1.0}, "temperature must be"),
        ({"top_k": 0}, "top_k must be"),
        ({"top_p": 0.0}, "top_p must be"),
        ({"top_p": 1.5}, "top_p must be"),
        ({"min_p": 2}, "min_p must be"),
        ({"repetition_penalty": 0}, "repetition_penalty must be"),
        ({"max_new_tokens": -1}, "max_new_tokens must be"),
        ({"max_new_tokens": 2.5}, "max_new_tokens must be"),
        ({"seed": -1}, "seed must be"),
        ({"end_id": 600}, "end_id must be below the model's vocab_size"),
        ({"end_id": -2}, "end_id must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"stop": "x"}, "stop needs a tokenizer"),
        ({"stop": ["x", ""], "tokenizer": BYTES}, "stop must be .* not ''"),
        ({"stop": [3], "tokenizer": BYTES}, "stop must be"),
        ({"on_text": raises}, "on_text needs a tokenizer"),
        ({"prompts": [[1], []]}, "prompt 1 is empty"),
        ({"prompts": [[1], [600]]}, "prompt 1: an id must be from 0 to 599, not 600"),
        ({"prompts": [[-1]]}, "prompt 0: an id must be"),
        ({"prompts": [[1.5]]}, "prompt 0: an id must be"),
        ({"prompts": [1, 2, 3]}, "prompt 0 must be a list of ids, not 1"),
        ({"prompts": ["text"]}, "prompt 0 must be a list of ids, not 'text'"),
    ],
)
def test_what_means_nothing_is_refused_in_words(model, settings, message):
    with pytest.raises(GenerateError, match=message) as error:
        generate(**({"model": model, "prompts": [[1]], "max_new_tokens": 3} | settings))
    assert isinstance(error.value, UserError) and "\n" not in str(error.value)


def test_prompts_may_be_tensors_arrays_and_tuples(model):
    expected = generate(model, [[1, 2, 3]], 5)
    for prompt in (torch.tensor([1, 2, 3]), np.array([1, 2, 3], np.int32), (1, 2, 3)):
        [result] = generate(model, [prompt], 5)
        assert [result] == expected and type(result.ids[0]) is int


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_whose_scores_are_no_numbers_is_an_error_in_words(temperature):
    model = random_model(CONFIG)
    with torch.no_grad():
        model.ln_f.weight[3] = torch.nan
    with pytest.raises(GenerateError, match="prompt 0: the model's scores are no numbers"):
        generate(model, [[1, 2]], 3, temperature)


# ---- the cache ------------------------------------------------------------------------------


def read_into(slots: Slots, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values (B, nh, T, hs) of rows that are read, of which no two begin alike."""
    B, _, T, _ = k.shape
    texts = [list(range(T * row, T * (row + 1))) for row in range(B)]
    slots.read_as_one(0, 0, each_once(texts, n=0, T=T))
    one_row = (x.transpose(0, 1).flatten(1, 2)[None] for x in (k, v))
    rows = slots.extend(0, *one_row)
    slots.read(0, 0)
    assert all(map(torch.equal, rows, slots.extend(0, k, v)))
    return rows


def test_what_another_row_left_in_a_slot_is_never_seen():
    """Slots are filled with what would show, and rows of other lengths come and go."""
    slots = Slots(n_layer=1, n_slots=3, max_len=16)
    new = torch.randn(3, 2, 5, 4)
    k, v = read_into(slots, new, -new)
    assert torch.equal(k, new) and torch.equal(v, -new)
    places = torch.tensor([5, 2, 9])
    mask = slots.write(places[:, None], places.tolist())
    one = torch.randn(3, 2, 1, 4)
    k, v = slots.extend(0, one, -one)
    assert k.shape == (3, 2, 16, 4) and mask.shape == (3, 1, 1, 16)
    assert mask.sum(-1).flatten().tolist() == [6, 3, 10]
    for row, place in enumerate(places.tolist()):
        assert torch.equal(k[row, :, place], one[row, :, 0])
        assert torch.equal(v[row, :, place], -one[row, :, 0])
    assert torch.equal(k[1, :, :2], new[1, :, :2])


@pytest.mark.parametrize("amx", [False, True])
@pytest.mark.parametrize("stride", [1, 5])
@pytest.mark.parametrize("hs", [1, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_vectors_of_any_length_and_layout_are_put_away(dtype, hs, stride, amx, monkeypatch):
    """As whole words of memory where they are such, as products that are turned leave them too."""
    monkeypatch.setattr("gpt.slots.has_amx", lambda: amx)
    slots = Slots(n_layer=1, n_slots=9, max_len=8)
    read_into(slots, *torch.zeros(2, 9, 1, 8, hs, dtype=dtype))
    places = torch.arange(9) % 8
    slots.write(places[:, None], places.tolist())
    new = torch.randn(9, 1, 1, hs * stride).to(dtype)[..., ::stride]
    turned = torch.randn(hs, 9).to(dtype).T[:, None, None]  # one head: rows are strided
    k, v = slots.extend(0, new, turned)
    at = torch.arange(9), 0, places
    assert torch.equal(k[at].to(dtype), new[:, 0, 0]) and torch.equal(
        v[at].to(dtype), turned[:, 0, 0]
    )


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("n_shared", [0, 4])
@pytest.mark.parametrize("n_rows", [8, 57, 70])
@pytest.mark.parametrize("amx", [False, True])
def test_rows_that_attend_in_groups_attend_to_the_same(
    n_rows, n_shared, dtype, autocast, amx, monkeypatch
):
    """What they share in one place, and each group as far as its longest: as one masked kernel, to
    the last digits of the type.
    """
    monkeypatch.setattr("gpt.slots.has_amx", lambda: amx)
    generator = torch.Generator().manual_seed(n_rows)
    slots = Slots(n_layer=1, n_slots=n_rows, max_len=60)
    read_into(slots, *torch.randn(2, n_rows, 2, 60, 4, generator=generator).to(dtype))
    slots.share(n_shared)
    places = torch.randint(n_shared, 60, (n_rows,), generator=generator)
    attend = slots.write(places[:, None], places.tolist())
    assert callable(attend)
    k, v = slots.extend(0, *torch.randn(2, n_rows, 2, 1, 4, generator=generator).to(dtype))
    q = torch.randn(n_rows, 2, 1, 4, generator=generator).to(dtype)
    mask = (torch.arange(k.size(2)) <= places[:, None])[:, None, None]

    def off(found):
        return (found.double() - right).norm() / right.norm()

    kernel, eps = torch.nn.functional.scaled_dot_product_attention, torch.finfo(dtype).eps
    right = kernel(*(t.double() for t in (q, k, v)), attn_mask=mask)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = attend(q, k, v)
    assert found.dtype == dtype
    # Of bf16 kept as fp32 only what comes out is rounded, each number by half of its last place at
    # most. A kernel for bf16 rounds what it multiplies the values by, too.
    assert off(found) <= ((eps if amx else eps / 2) if dtype == torch.bfloat16 else 8 * eps)


def test_as_many_rows_at_once_as_fit_the_memory(model, monkeypatch):
    monkeypatch.setattr("gpt.slots.has_amx", lambda: False)
    assert rows_that_fit(model, 64) == 128
    xl = SimpleNamespace(config=PUBLISHED["gpt2-xl"], wte=torch.nn.Embedding(1, 1))
    assert rows_that_fit(xl, 1024) == 3  # 629 MB each
    assert rows_that_fit(xl, 10**9) == 1
    xl.wte.bfloat16()
    assert rows_that_fit(xl, 1024) == 6  # few, whose keys are kept as they are
    assert rows_that_fit(xl, 400) == 8  # as in fp32: kept so
    assert rows_that_fit(xl, 450) == 7  # more would fit, were they not many then
    monkeypatch.setattr("gpt.slots.has_amx", lambda: True)
    assert rows_that_fit(xl, 1024) == 6
    assert rows_that_fit(xl, 400) == 17  # half as wide


@pytest.mark.parametrize(
    ("n_slots", "amx", "kept"),
    [(1, False, torch.bfloat16), (30, False, torch.float32), (30, True, torch.bfloat16)],
)
def test_keys_are_kept_as_many_rows_look_at_them_and_given_as_a_kernel_wants_them(
    n_slots, amx, kept, monkeypatch
):
    monkeypatch.setattr("gpt.slots.has_amx", lambda: amx)
    slots = Slots(n_layer=1, n_slots=n_slots, max_len=16)
    slots.read(0, past=0)
    new = torch.randn(2, 1, 2, 6, 4, dtype=torch.bfloat16)
    given = slots.extend(0, *new)
    assert all(map(torch.equal, given, new)) and given[0].dtype == torch.bfloat16
    assert slots._all.dtype == kept
    for places, seen in (([[6]], kept), ([[7, 8]], torch.bfloat16)):  # a kernel takes several
        slots.write(torch.tensor(places), [places[0][-1]])
        k, _ = slots.extend(0, *new[..., : len(places[0]), :])
        assert k.dtype == seen and torch.equal(k[:, :, :6].to(new.dtype), new[0])
