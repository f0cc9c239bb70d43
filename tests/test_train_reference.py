"""Our loop against loops that share nothing with it: transformers' model, and the book's loop."""

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from gpt.encoding import encode_all
from gpt.ordering import Order
from gpt.records import load_records
from gpt.settings import RECIPES, combine
from gpt.splitting import split_as_book
from gpt.template import Template
from gpt.tokenizer import Tokenizer, learn_merges, tiny_vocabulary
from gpt.weights import save_model
from tests.runs import run_to_end, told
from tests.tiny import GPTConfig, random_model


@pytest.fixture
def base(tmp_path):
    """A small model with random weights and a vocabulary of its own, and data of mixed lengths."""
    countries = (
        *("France", "Peru", "Japan", "Chad", "Cuba", "Fiji", "Iran"),
        *("Iraq", "Kenya", "Laos", "Mali", "Oman", "Qatar", "Togo"),
    )
    records = [
        {"instruction": f"{verb} {name} in {n} words.", "input": name[:n], "output": name * (n + 1)}
        for n, verb in enumerate(("Describe", "Praise", "Name", "Draw"))
        for name in countries
    ]
    (tmp_path / "data.json").write_text(json.dumps(records), encoding="utf-8")
    files = tiny_vocabulary(learn_merges(" ".join(r["instruction"] for r in records), 60))
    tokenizer = Tokenizer(files)
    config = GPTConfig(
        tokenizer.n_vocab, n_ctx=256, n_layer=2, n_head=2, n_embd=32, end_id=tokenizer.end_id
    )
    model = random_model(config)
    model.vocabulary = files
    save_model(model, tmp_path / "base")
    return tmp_path


def our_losses(base: Path, **given) -> tuple[list[float], torch.nn.Module]:
    settings, _ = combine({
        "model": str(base / "base"), "data": [str(base / "data.json")], "out": str(base / "run"),
        "device": "cpu", "precision": "fp32", "samples": 0, **given,
    })  # fmt: skip
    run, _ = run_to_end(settings)
    return [line["train_loss"] for line in told(run.folder)[1:]], run.learner.model


def assert_same_weights(ours: torch.nn.Module, theirs: torch.nn.Module, tolerance: float) -> None:
    """All but the keys' biases: softmax does not feel those, so their gradient is rounding alone,
    which AdamW scales up to steps as long as any.
    """
    others = theirs.state_dict()
    for name, value in ours.state_dict().items():
        other = others[name]
        if name.endswith("c_attn.bias"):
            (q, _, v), (other_q, _, other_v) = value.chunk(3), other.chunk(3)
            value, other = torch.cat([q, v]), torch.cat([other_q, other_v])
        torch.testing.assert_close(value, other, rtol=0, atol=tolerance, msg=name)


def test_thirty_steps_are_those_of_transformers_in_a_plain_loop(base):
    transformers = pytest.importorskip("transformers", reason="transformers is the reference")
    given = {"max_steps": 30, "lr": 3e-3, "warmup": 0.1, "batch_size": 4, "micro_batch_size": 3}
    losses, ours = our_losses(base, **given)

    # What follows uses of this project the data only: ids, and which of them are answers.
    from gpt.splitting import split_by_prompt

    tokenizer = Tokenizer.from_folder(base / "base")
    split = split_by_prompt(load_records([base / "data.json"]))
    template = Template.from_name("alpaca")
    examples = encode_all(split.train, tokenizer, template, 256)
    steps = Order(examples.lengths, 4, seed=0, buckets=True, keep_last=True).steps()

    model = transformers.GPT2LMHeadModel.from_pretrained(base / "base").train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        betas=(0.9, 0.999),
        eps=1e-8,
    )
    for number, step in zip(range(30), steps, strict=False):
        rows = [examples[i] for i in step.examples]
        longest = max(len(ids) for ids, _ in rows) + 1
        ids = torch.full((len(rows), longest), tokenizer.end_id)
        labels = torch.full((len(rows), longest), -100)
        attention = torch.zeros(len(rows), longest, dtype=torch.long)
        for row, example in enumerate(rows):
            n, learned = len(example.ids), torch.from_numpy(example.supervised)
            ids[row, :n] = torch.from_numpy(example.ids).long()
            attention[row, : n + 1] = 1
            labels[row, :n] = torch.where(learned, ids[row, :n], -100)
            labels[row, n] = tokenizer.end_id
        optimizer.zero_grad()
        loss = model(input_ids=ids, attention_mask=attention, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if number < 3:
            lr = 3e-3 * (number + 1) / 3
        else:
            cosine = 0.5 * (1 + math.cos(math.pi * (number - 3) / 27))
            lr = 3e-3 * (0.1 + 0.9 * cosine)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        assert losses[number] == pytest.approx(loss.item(), abs=1e-4), number
    assert_same_weights(ours, model.transformer, 2e-3)
    assert losses[-1] < losses[0] - 1


def test_the_recipe_of_the_book_is_the_book_s_loop(base):
    """Chapter 7: shuffled batches of 8, the last short one dropped; prompts in the loss; AdamW at
    5e-5 with a decay of 0.1; a loss that `cross_entropy` averages over the batch; no schedule.
    """
    losses, ours = our_losses(base, recipe="book", epochs=5.0)
    assert RECIPES["book"]["lr"] == 5e-5

    tokenizer = Tokenizer.from_folder(base / "base")
    records = split_as_book(load_records([base / "data.json"])).train
    preamble = (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request."
    )
    texts = []
    for record in records:
        (_, instruction, given), (_, answer, _) = record.turns
        text = f"{preamble}\n\n### Instruction:\n{instruction}"
        text += f"\n\n### Input:\n{given}" if given else ""
        # The book encodes the whole text at once; where a record's answer begins is where a token
        # does, so nothing changes by that.
        texts.append(tokenizer.encode(f"{text}\n\n### Response:\n{answer}"))
    order = Order([len(ids) for ids in texts], 8, seed=123, buckets=False, keep_last=False).steps()

    from gpt.weights import load_model

    model = load_model(base / "base").train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif hasattr(module, "dropout"):
            module.dropout = 0.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.1)
    end = tokenizer.end_id
    for number, step in zip(range(len(losses)), order, strict=False):
        batch = [texts[i] for i in step.examples]
        longest = max(map(len, batch)) + 1
        inputs, targets = [], []
        for ids in batch:
            padded = [*ids, end] + [end] * (longest - len(ids) - 1) + [end]
            target = torch.tensor(padded[1:])
            padding = (target == end).nonzero().squeeze(1)[1:]
            target[padding] = -100
            inputs.append(torch.tensor(padded[:-1]))
            targets.append(target)
        optimizer.zero_grad()
        logits = model(torch.stack(inputs))
        loss = F.cross_entropy(logits.flatten(0, 1), torch.stack(targets).flatten())
        loss.backward()
        optimizer.step()
        assert losses[number] == pytest.approx(loss.item(), abs=1e-4), number
    assert number == len(losses) - 1 == 5 * (len(records) // 8) - 1
    assert_same_weights(ours, model, 2e-5)
