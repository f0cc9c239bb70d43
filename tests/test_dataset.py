"""What a run reads: each record on one side, every fault named, nothing learned that was not meant.

A token is a byte here, so that lengths can be counted by hand.
"""

import itertools
import json
import re
import sys

import numpy as np
import pytest

from gpt.config import GPTConfig
from gpt.dataset import InstructionSet, load_data, read_split, refuse_other_vocabulary
from gpt.encoding import OverlongError
from gpt.errors import UserError
from gpt.pretraining import Rows
from gpt.records import DataError
from gpt.settings import TrainSettings
from gpt.splitting import SIDES, split_as_book, split_by_prompt
from gpt.template import BUILT_IN, Template
from gpt.tokenizer import Tokenizer, learn_merges, tiny_vocabulary
from scripts import prepare

SHORT = Template("short", "{instruction}", "\n#\n", input=" {input}", system="{system} ")


@pytest.fixture(scope="module")
def bytewise() -> Tokenizer:
    return Tokenizer(tiny_vocabulary([]))


@pytest.fixture
def load(tmp_path, bytewise):
    """A function from rows, and settings, to Data."""
    numbers = itertools.count()

    def load(rows, tokenizer=bytewise, template=SHORT, n_ctx=128, name=None, **settings):
        path = tmp_path / (name or f"{next(numbers)}.json")
        lines = ",\n".join(map(json.dumps, rows))  # the first stands on line 2
        path.write_text(f"[\n{lines}\n]", encoding="utf-8")
        chosen = TrainSettings(data=[str(path)], **settings)
        return load_data(chosen, tokenizer, template, config(tokenizer, n_ctx))

    return load


def config(tokenizer, n_ctx=128) -> GPTConfig:
    return GPTConfig(tokenizer.n_vocab, n_ctx=n_ctx, n_layer=1, n_head=1, n_embd=8)


def rows(n=40, **more):
    return [
        {"instruction": f"Add {i} and {i}", "output": f"It is {2 * i}.", **more} for i in range(n)
    ]


def marked(*sides):
    return [row | {"split": side} for row, side in zip(rows(len(sides)), sides, strict=True)]


def texts(examples, tokenizer) -> list[str]:
    return [tokenizer.decode(ids.tolist()) for ids, _ in examples]


def asked(records) -> list[str]:
    return [record.turns[0].text for record in records]


# ---- who is on which side ------------------------------------------------------------------


def test_each_record_is_learned_checked_or_kept_for_the_test(load, bytewise):
    data = load(rows(), val_fraction=0.1, test_fraction=0.2)
    everything = [f"Add {i} and {i}" for i in range(40)]
    sides = [asked(getattr(data.records, side)) for side in SIDES]
    assert sorted(itertools.chain(*sides)) == sorted(everything)
    assert [len(side) for side in sides] == [28, 4, 8]
    for batches, of_side in ((data.train, sides[0]), (data.validation, sides[1])):
        learned = [text.partition("\n#\n")[0] for text in texts(batches.examples, bytewise)]
        assert learned == of_side
    assert asked(data.test) == sides[2]


def test_by_prompt_no_prompt_stands_on_two_sides_and_by_the_book_it_may(load):
    doubled = rows(20) + rows(20)
    by_prompt = load(doubled, val_fraction=0.2, test_fraction=0.2)
    assert not any("two sides" in line for line in by_prompt.lines)
    by_book = load(doubled, split="book")
    [told] = [line for line in by_book.lines if "two sides" in line]
    assert told.startswith("6 prompts stand on two sides") and ".json:" in told


def test_the_split_is_that_of_the_chapters_whatever_the_seed_of_the_run(load):
    for seed in (0, 7):
        data = load(rows(), val_fraction=0.1, test_fraction=0.2, seed=seed)
        everything = [r for side in data.records for r in side]
        everything.sort(key=lambda record: record.line)
        assert data.records == split_by_prompt(everything, 0.1, 0.2)
        assert load(rows(), split="book", seed=seed).records[0][0].turns == everything[0].turns
    book = load(rows(), split="book")
    assert list(map(len, book.records)) == list(map(len, split_as_book(everything))) == [34, 2, 4]


def test_records_that_say_their_side_are_taken_at_their_word(load):
    data = load(marked("test", "train", "validation", "train", "train"))
    assert [asked(side) for side in data.records] == [
        ["Add 1 and 1", "Add 3 and 3", "Add 4 and 4"],
        ["Add 2 and 2"],
        ["Add 0 and 0"],
    ]
    assert any("says in its `split`" in line for line in data.lines)


def test_if_only_some_say_it_nobody_is_guessed_to_be_on_a_side(load):
    sides = ["train", "test", "validation", "dev", "train", None]
    with pytest.raises(DataError, match=r"x\.json:5: `split` is 'dev', where others have train"):
        load(marked(*sides), name="x.json")
    unmarked = marked("train", "test", "validation")
    del unmarked[1]["split"]
    with pytest.raises(DataError, match="`split` is None, where others have"):
        load(unmarked)


def test_a_split_that_means_something_else_is_not_used_and_that_is_said(load):
    for mark in ("a", 7, None, ["train"], {"x": 1}):
        data = load(rows(split=mark), val_fraction=0.1, test_fraction=0.2)
        assert [len(side) for side in data.records] == [28, 4, 8]
        assert any("not used" in line for line in data.lines) == (mark is not None)


def test_records_that_are_all_of_one_side_say_what_is_missing(load):
    with pytest.raises(DataError, match="no record's `split` is validation"):
        load(rows(split="train"), val_fraction=0.1)  # one side of somebody's published set
    with pytest.raises(UserError, match="nothing is left to train on"):
        load(rows(split="validation"))


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """A folder of prepare.py's."""
    path, out = tmp_path / "raw.json", tmp_path / "prepared"
    path.write_text(json.dumps(rows()), encoding="utf-8")

    def make(*arguments):
        given = ("--out", out, "--no-near-duplicates", *arguments)
        monkeypatch.setattr(sys, "argv", ["prepare.py", *map(str, (path, *given))])
        prepare.main()
        return out

    return make


def load_folder(folder, tokenizer, **settings):
    chosen = TrainSettings(data=[str(folder)], **settings)
    return load_data(chosen, tokenizer, SHORT, config(tokenizer))


def test_a_prepared_folder_is_split_as_it_was_prepared(prepared, bytewise, capsys):
    folder = prepared("--val-fraction", "0.1", "--test-fraction", "0.2")
    data = load_folder(folder, bytewise)
    for side, of_side in zip(SIDES, data.records, strict=True):
        on_disk = json.loads((folder / f"{side}.json").read_text(encoding="utf-8"))
        assert asked(of_side) == [row["instruction"] for row in on_disk]
        assert {record.file for record in of_side} == {str(folder / f"{side}.json")}
    assert [len(side) for side in data.records] == [28, 4, 8]
    assert any("split by prepare.py" in line for line in data.lines)


def test_a_prepared_folder_may_have_no_test_but_needs_a_validation(prepared, bytewise, capsys):
    folder = prepared("--val-fraction", "0.1", "--test-fraction", "0")
    assert load_folder(folder, bytewise).test == []
    (folder / "validation.json").unlink()
    with pytest.raises(DataError, match="no validation.json in it"):
        load_folder(folder, bytewise)


def test_a_folder_that_nobody_prepared_is_refused_and_so_is_one_among_others(tmp_path, bytewise):
    with pytest.raises(UserError, match="no train.json in it"):
        load_folder(tmp_path, bytewise)
    (tmp_path / "train.json").write_text(json.dumps(rows()), encoding="utf-8")
    for data in ([tmp_path, tmp_path / "train.json"], [tmp_path / "train.json", tmp_path]):
        settings = TrainSettings(data=list(map(str, data)))
        with pytest.raises(UserError, match="folder"):
            read_split(settings, print)


# ---- what is refused -----------------------------------------------------------------------


def test_faulty_records_are_named_by_file_and_line_or_left_out_on_request(load, tmp_path):
    faulty = [*rows(), {"instruction": "no answer"}, {"instruction": 3, "output": "x"}]
    with pytest.raises(DataError, match="--skip-bad") as caught:
        load(faulty, name="x.json")
    told = str(caught.value)
    assert f"{tmp_path / 'x.json'}:42: " in told and f"{tmp_path / 'x.json'}:43: " in told
    assert "2 faults" in told
    data = load(faulty, skip_bad=True, val_fraction=0.1)
    assert sum(map(len, data.records)) == 40


def test_keys_of_ones_own_are_read_where_they_are_named(load):
    own = [{"talimat": row["instruction"], "cevap": row["output"]} for row in rows()]
    data = load(own, fields="instruction=talimat,output=cevap", val_fraction=0.1)
    assert sum(map(len, data.records)) == 40
    with pytest.raises(DataError):
        load(own)


def long_rows():
    some = marked(*["train"] * 4, "validation", "validation", "test")
    some[1]["output"] = "y" * 200
    some[4]["output"] = "y" * 200
    some[6]["output"] = "y" * 200  # of the test, which is not trained on
    return some


def test_records_too_long_for_the_context_are_refused_dropped_or_shortened(load, tmp_path):
    with pytest.raises(OverlongError, match="--overlong drop") as caught:
        load(long_rows(), n_ctx=64)
    assert "1 of 4 records" in str(caught.value)
    data = load(long_rows(), n_ctx=64, overlong="drop")
    assert (len(data.train.lengths), len(data.validation.lengths), len(data.test)) == (3, 1, 1)
    assert any(line.startswith("train: left out: 1 of 4") for line in data.lines)
    assert any(line.startswith("validation: left out: 1 of 2") for line in data.lines)
    with_input = [row | {"input": "z" * 50} for row in marked("train", "validation")]
    data = load(with_input, n_ctx=64, overlong="truncate-input")
    assert data.train.lengths.tolist() == data.validation.lengths.tolist() == [64]
    assert any("shortened: 1 of 1" in line for line in data.lines)


def test_the_samples_are_of_records_that_are_there(load):
    data = load(long_rows(), n_ctx=64, overlong="drop", samples=3)
    assert [sample.shown for sample in data.samples] == ["Add 5 and 5"]
    assert data.samples[0].reference == "It is 10."


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_validation_set_with_nothing_in_it_is_refused(load, n):
    with pytest.raises(UserError):
        load(rows(n))
    with pytest.raises(DataError, match="^validation has no examples: .*--val-fraction$"):
        load(rows(), val_fraction=0.0)


@pytest.mark.parametrize("side", ["train", "validation"])
def test_a_side_of_which_all_is_dropped_is_refused(load, side):
    some = marked("train", "train", "validation")
    for row in some:
        if row["split"] == side:
            row["output"] = "y" * 200
    n = sum(row["split"] == side for row in some)
    with pytest.raises(DataError, match=f"^{side}: all {n} records have more than 64 tokens"):
        load(some, n_ctx=64, overlong="drop")


def test_a_vocabulary_that_the_model_has_no_rows_for_is_refused_with_both_numbers(bytewise):
    n = bytewise.n_vocab
    for rows_of_model in (n, n + 1, 50257):
        refuse_other_vocabulary(bytewise, GPTConfig(rows_of_model, n_embd=8, n_head=1))
    with pytest.raises(DataError, match=f"{n} tokens.* {n - 1}:"):
        refuse_other_vocabulary(bytewise, GPTConfig(n - 1, n_embd=8, n_head=1))


def test_more_tokens_than_the_context_has_are_refused_with_both_numbers(load, tmp_path, bytewise):
    with pytest.raises(DataError, match="--max-length 129 .* 128 tokens"):
        load(rows(), max_length=129)
    (tmp_path / "text.txt").write_text("some text " * 100, encoding="utf-8")
    pretrain = {"objective": "pretrain", "data": [str(tmp_path / "text.txt")]}
    with pytest.raises(DataError, match="--max-length 129 .* 128 tokens"):
        load_data(TrainSettings(max_length=129, **pretrain), bytewise, SHORT, config(bytewise))
    assert load(rows(), max_length=128).train.lengths.max() <= 128


def test_a_shorter_length_than_the_context_is_kept_to(load):
    with pytest.raises(OverlongError, match="do not fit into 20 tokens"):
        load(rows(), max_length=20)
    # "Add 9 and 9\n#\nIt is 18.": numbers of two digits are too long.
    data = load(rows(), max_length=23, n_ctx=64, overlong="drop", val_fraction=0.3)
    assert data.train.lengths.max() == 23
    assert len(data.train.lengths) + len(data.validation.lengths) <= 10


# ---- the fingerprint -----------------------------------------------------------------------


def test_the_fingerprint_is_of_what_is_learned_and_not_of_names_or_seeds(load):
    one = load(rows(), name="a.json")
    for same in (
        load(rows(), name="b.json"),
        load(rows(), seed=5),
        load(rows(), batch_size=3, samples=0, lr=1.0, dropout=0.5),
        load(rows(category="sums")),
        load(rows(), n_ctx=64),  # everything fits there, too
    ):
        assert same.fingerprint == one.fingerprint
    assert re.fullmatch("[0-9a-f]{16}", one.fingerprint)


def test_the_fingerprint_changes_with_whatever_changes_what_is_learned(load):
    changed = rows()
    changed[20]["output"] = changed[20]["output"].replace(".", "!")
    merges = Tokenizer(tiny_vocabulary(learn_merges("Add It is and", 8)))
    found = {
        "as it is": load(rows()),
        "a character": load(changed),
        "fewer": load(rows(39)),
        "order": load(rows()[::-1]),
        "template": load(rows(), template=BUILT_IN["alpaca"], n_ctx=512),
        "a character of the template": load(rows(), template=Template(
            "short", "{instruction}", "\n%\n")),
        "tokenizer": load(rows(), tokenizer=merges),
        "length": load(rows(), overlong="drop", max_length=23, val_fraction=0.3),
        "fraction": load(rows(), val_fraction=0.2),
        "split": load(rows(), split="book"),
    }  # fmt: skip
    fingerprints = {what: data.fingerprint for what, data in found.items()}
    assert len(set(fingerprints.values())) == len(found), fingerprints


def test_the_fingerprint_tells_train_from_validation_and_an_answer_from_its_prompt(load):
    pair = marked("train", "validation")
    for row in pair:
        row |= {"instruction": "same", "output": "same"}
    pair[1]["output"] = "other"
    swapped = [pair[0] | {"split": "validation"}, pair[1] | {"split": "train"}]
    assert load(pair).fingerprint != load(swapped).fingerprint
    # The same ids, of which other ones are learned: the line between prompt and answer moves.
    later = Template("later", "{instruction}", "\n#\n#\n")
    moved = [row | {"output": "#\n" + row["output"]} for row in pair]
    one, other = load(moved), load(pair, template=later)
    assert one.train.examples.ids.tolist() == other.train.examples.ids.tolist()
    assert one.fingerprint != other.fingerprint


# ---- batches -------------------------------------------------------------------------------

TALKS = [
    {
        "messages": [
            {"role": role, "content": f"{role} {i}{'.' * (i * n % 7)}"}
            for n, role in enumerate(("system", *("user", "assistant") * (1 + i % 3)))
        ],
        "split": "validation" if i % 5 == 0 else "train",
    }
    for i in range(20)
]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("made_of", ["records", "conversations"])
def test_supervised_tokens_are_those_that_the_batch_weighs(load, made_of, packed):
    data = load(rows() if made_of == "records" else TALKS, packed=packed)
    for batches in (data.train, data.validation):
        n = len(batches.lengths)
        for indices in ([0], [n - 1, 0, n // 2], list(range(n))):
            batch = batches.batch(indices)
            assert batches.n_supervised(np.array(indices)) == batch.weights.sum().item()
            assert ((batch.weights == 1) == (batch.targets != -100)).all()


def test_with_a_weight_of_the_prompt_its_tokens_count_as_being_in_the_loss(load):
    data = load(rows(), prompt_loss_weight=0.25)
    batch = data.train.batch([0, 1, 2])
    assert data.train.n_supervised(np.array([0, 1, 2])) == (batch.weights > 0).sum().item()
    assert set(batch.weights.unique().tolist()) <= {0.0, 0.25, 1.0}
    assert (batch.weights == 0.25).sum() > 0


def test_what_is_learned_is_the_answers_and_their_ends(load, bytewise):
    data = load(marked("train", "train", "validation"))
    batch = data.train.batch([1, 0])
    for row, answer in zip(batch.targets, ("It is 2.", "It is 0."), strict=True):
        learned = row[row != -100].tolist()
        assert learned == [*bytewise.encode(answer), bytewise.end_id]


def test_packed_rows_have_the_tokens_of_padded_ones_in_rows_of_the_given_length(load):
    padded, packed = load(rows()), load(rows(), packed=True, max_length=96)
    assert isinstance(packed.train, InstructionSet)
    indices = range(12)
    one, other = padded.train.batch(indices), packed.train.batch(indices)
    assert other.inputs.shape[1] == 96 and other.inputs.shape[0] < one.inputs.shape[0]
    for batch in (one, other):
        assert batch.weights.sum() == padded.train.n_supervised(np.arange(12))
    assert sorted(one.targets[one.targets != -100].tolist()) == sorted(
        other.targets[other.targets != -100].tolist()
    )
    assert one.documents is None and set(other.documents.unique().tolist()) == {-1, *range(12)}
    assert packed.fingerprint == padded.fingerprint  # it is the same data


def test_what_is_said_can_be_counted(load):
    data = load(rows(), val_fraction=0.1, test_fraction=0.2)
    n_tokens = int(data.train.lengths.sum())
    n_learned = data.train.n_supervised(np.arange(28))
    assert "train 28, validation 4, test 8 records" in data.lines
    [told] = [line for line in data.lines if line.startswith("to train on: ")]
    assert f"{n_tokens:,} tokens" in told and f"{n_learned:,} in the loss" in told
    assert f"({n_learned / (n_tokens + 28):.1%} with the ends)" in told


# ---- samples -------------------------------------------------------------------------------


def test_samples_are_the_first_validation_prompts_as_generation_would_ask_them(load, bytewise):
    some = [row | {"input": f"in {i}"} for i, row in enumerate(rows())]
    data = load(some, val_fraction=0.2, samples=3)
    for sample, record in zip(data.samples, data.records.validation, strict=False):
        assert sample.ids == SHORT.prompt_ids(bytewise, record.turns[:-1])
        assert sample.shown == f"{record.turns[0].text}\n{record.turns[0].input}"
        assert sample.reference == record.turns[1].text
    for asked_for, found in ((0, 0), (3, 3), (99, 8)):
        assert len(load(some, val_fraction=0.2, samples=asked_for).samples) == found


def test_of_a_conversation_the_last_answer_is_asked_for(load, bytewise):
    data = load(TALKS)
    record = data.records.validation[1]
    sample = data.samples[1]
    assert sample.reference == record.turns[-1].text and len(record.turns) > 3
    assert sample.ids == SHORT.prompt_ids(bytewise, record.turns[:-1])
    assert sample.shown == record.turns[-2].text


# ---- plain text ----------------------------------------------------------------------------


def test_plain_text_is_read_by_the_same_call(tmp_path, bytewise):
    path = tmp_path / "text.txt"
    path.write_text("one two three four " * 60, encoding="utf-8")

    def load(**settings):
        chosen = TrainSettings(data=[str(path)], objective="pretrain", **settings)
        return load_data(chosen, bytewise, SHORT, config(bytewise))

    data = load(val_fraction=0.3, max_length=16, samples=2)
    assert isinstance(data.train, Rows) and set(data.train.lengths.tolist()) == {16}
    assert data.test == [] and data.records is None and len(data.lines) == 2
    assert len(data.samples) == 2
    for sample in data.samples:
        assert 0 < len(sample.ids) < 16 and bytewise.decode(sample.ids) == sample.shown
        assert sample.shown + sample.reference in path.read_text(encoding="utf-8")
    assert load(val_fraction=0.3, max_length=16, samples=0).samples == []
    assert load(max_length=2, samples=2).samples[0].ids  # the shortest rows that there are
    fingerprints = {load(max_length=n, val_fraction=v).fingerprint
                    for n, v in ((16, 0.3), (17, 0.3), (16, 0.4))}  # fmt: skip
    assert len(fingerprints) == 3
    assert load(max_length=16, val_fraction=0.3, seed=9).fingerprint in fingerprints
